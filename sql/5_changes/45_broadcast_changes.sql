/*
    Broadcasts changes to the people who may see them. The log is the record and the broadcast is a
    hint: it may fail, and it never aborts the write.
*/
create function private.listened_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- A customer without a login can't listen.
    return (
        select private.customer_topic(c.id)
        from public.customers c
        where c.id = listened_topic.customer_id
          and c.portal_user_id is not null
    );
end
$$;


create function private.changed_topics(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    has_customers constant boolean := followed.customer_key is not null;
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                -- null where the customer does not see the row
                case
                    when followed.seen_since is null or s.row in ((c.seen).old, (c.seen).new)
                        then (s.row ->> followed.customer_key)::uuid
                end as customer_id,
                (s.row ->> followed.conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (
                select case when followed.seen_since is not null then private.customer_change(
                    followed, change => (n.old, n.new)::private.row_change
                ) end as seen
            ) c
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- One look-up for each topic, not for each row. Without "materialized" the condition below
        -- would call the functions for each row.
        topics as materialized (
            select private.account_topic(o.account_id) as topic, count(*) as rows
            from owners o
            group by o.account_id
            union all
            select private.listened_topic(o.customer_id), count(*)
            from owners o
            where has_customers
            group by o.customer_id
            union all
            select
                private.conversation_topic(o.conversation_id, o.account_id, o.customer_id),
                count(*)
            from owners o
            where has_customers
              and o.conversation_id is not null
            group by o.conversation_id, o.account_id, o.customer_id
        )
        select t.topic, t.rows
        from topics t
        where t.topic is not null;
end
$$;


create function private.change_event(
    table_name text,
    operation text,
    current_row jsonb,
    record jsonb,
    old_record jsonb
)
    returns private.broadcast_event
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    event private.broadcast_event;
begin
    event.event := table_name || case operation
        when 'INSERT' then '.inserted'
        when 'UPDATE' then '.updated'
        else '.deleted'
    end;
    event.payload := jsonb_build_object(
        'table', table_name,
        'id', current_row -> 'id',
        'version', current_row -> 'version',
        'operation', operation,
        'record', record,
        'old_record', old_record
    );
    -- Clients fetch larger rows themselves. The first test is cheap and spares most rows the
    -- second.
    if pg_column_size(event.payload) > 16384 and octet_length(event.payload::text) > 65536 then
        event.payload := event.payload - array['record', 'old_record'];
    end if;
    return event;
end
$$;


create function private.broadcast_changes(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- These columns change with every change.
    stamps constant text[] := array['version', 'updated_at'];
    hidden constant text[] :=
        private.hidden_columns(followed, coalesce(changes[1].new, changes[1].old));
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    current_row jsonb;
    operation text;
    record jsonb;
    old_record jsonb;
    event private.broadcast_event;
    nothing constant private.broadcast_event := null;
    topics private.row_topics;
    lost_topic text;
begin
    -- A transaction of many statements broadcasts at its end, see broadcast_logged.
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return 0;
    end if;

    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(followed, changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := private.row_operation(change);
        topics := private.row_topics(
            account_id => (current_row ->> 'account_id')::uuid,
            customer_id => (current_row ->> followed.customer_key)::uuid,
            conversation_id => (current_row ->> followed.conversation_key)::uuid
        );

        record := change.new - hidden;
        old_record := change.old - hidden;
        event := nothing;
        -- An update without a visible difference is not told.
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            event := private.change_event(
                followed.table_name, operation, current_row, record, old_record);
            if topics.account <> all (crowded) then
                event.topics := array[topics.account];
                events := events || event;
            end if;
        end if;

        continue when followed.customer_key is null;
        if followed.seen_since is not null then
            change := private.customer_change(followed, change);
            continue when num_nonnulls(change.old, change.new) = 0;
            -- a row that becomes visible is new, one that becomes hidden is gone
            operation := private.row_operation(change);
            current_row := coalesce(change.new, change.old);
            record := change.new - hidden;
            old_record := change.old - hidden;
            event := nothing;
        end if;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> followed.customer_key <> change.new ->> followed.customer_key then
            -- Moved to another owner: the row is new to that one. The old owner gets its id only.
            lost_topic := private.listened_topic((change.old ->> followed.customer_key)::uuid);
            if lost_topic is not null and lost_topic <> all (crowded) then
                event := private.change_event(followed.table_name, 'DELETE', current_row, null, null);
                event.topics := array[lost_topic];
                events := events || event;
            end if;
            operation := 'INSERT';
            old_record := null;
            event := nothing;
        end if;

        if event.event is null then
            event := private.change_event(
                followed.table_name, operation, current_row, record, old_record);
        elsif event.topics is not null then
            -- one message for all topics
            events := trim_array(events, 1);
        end if;
        event.topics := array_remove(
            event.topics || array[
                case when topics.customer <> all (crowded) then topics.customer end,
                case when topics.conversation <> all (crowded) then topics.conversation end
            ],
            null
        );
        if event.topics <> '{}' then
            events := events || event;
        end if;
    end loop;

    if crowded <> '{}' then
        events := events
            || private.resync_event(topics => crowded, tables => array[followed.table_name]);
    end if;
    perform private.tell(events);
    return cardinality(events);
exception
    when others then
        -- The log has the change. A client that hears nothing finds it on its next poll.
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
        return 0;
end
$$;


create function private.broadcast_to(topics text[], event text, payload jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    select t, 'broadcast', broadcast_to.event, broadcast_to.payload, true
    from unnest(topics) t;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on function private.listened_topic(uuid) is
    'The topic of a customer who has a login; null for others.';
comment on function private.changed_topics(private.followed_tables, private.row_change[]) is
    'The topics that hear of changes, with the number of rows for each.';
comment on function private.change_event(text, text, jsonb, jsonb, jsonb) is
    'The event for one changed row, without its topic. Payload: {table, id, version, operation, record, old_record}; too large a payload leaves the two records out.';
comment on function private.broadcast_changes(private.followed_tables, private.row_change[]) is
    'Has the changes of a statement broadcast at the end of the transaction: one message for each row, or one resync for a topic with more than 100 rows. Returns the number of different messages. A failure is a warning.';
comment on function private.broadcast_to(text[], text, jsonb) is
    'Sends one message to several topics. A failure is a warning.';
