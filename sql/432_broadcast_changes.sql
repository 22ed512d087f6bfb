/*
    A broadcast of changes to those who may see them. The log is the record, the broadcast a
    hint: it may fail and never aborts the write.
*/
create type private.broadcast_event as (
    topic   text,
    event   text,
    payload jsonb
);


create function private.listened_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- nobody listens where nobody can sign in
    return (
        select private.customer_topic(c.id)
        from public.customers c
        where c.id = listened_topic.customer_id
          and c.portal_user_id is not null
    );
end
$$;


create function private.changed_topics(table_name text, changes private.row_change[])
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    has_customers constant boolean := private.shown_columns(table_name, 'customer') is not null;
    hides_rows constant boolean := private.hides_rows(table_name);
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                -- null where the customer does not see the row
                case
                    when not hides_rows or s.row in ((c.seen).old, (c.seen).new)
                        then (s.row ->> customer_key)::uuid
                end as customer_id,
                (s.row ->> conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (
                select case when hides_rows then private.customer_change(
                    table_name => changed_topics.table_name,
                    change => (n.old, n.new)::private.row_change
                ) end as seen
            ) c
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- one look-up for each topic, however many rows it is told of: not materialized, it
        -- would be asked for each row, by the condition below
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
    topic text,
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
    hint constant jsonb := jsonb_build_object(
        'table', table_name,
        'id', current_row -> 'id',
        'version', current_row -> 'version',
        'operation', operation
    );
    payload constant jsonb :=
        hint || jsonb_build_object('record', record, 'old_record', old_record);
begin
    return (
        topic,
        table_name || case operation
            when 'INSERT' then '.inserted'
            when 'UPDATE' then '.updated'
            else '.deleted'
        end,
        case
            -- whoever wants a larger one fetches it; the first test spares most the second
            when pg_column_size(payload) > 16384 and octet_length(payload::text) > 65536
                then hint
            else payload
        end
    )::private.broadcast_event;
end
$$;


create function private.broadcast_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    -- they change with every change
    stamps constant text[] := array['version', 'updated_at'];
    staff_hidden constant text[] :=
        private.hidden_columns(table_name, 'staff', coalesce(changes[1].new, changes[1].old));
    customer_hidden constant text[] := case
        when private.shown_columns(table_name, 'customer')
             = private.shown_columns(table_name, 'staff') then staff_hidden
        else private.hidden_columns(table_name, 'customer', coalesce(changes[1].new, changes[1].old))
    end;
    hides_rows constant boolean := private.hides_rows(table_name);
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    operation text;
    current_row jsonb;
    record jsonb;
    old_record jsonb;
    topic text;
begin
    -- of many statements whoever makes them tells at the end: broadcast_logged
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return;
    end if;

    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(table_name => broadcast_changes.table_name, changes => changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := private.row_operation(change);

        record := change.new - staff_hidden;
        old_record := change.old - staff_hidden;
        -- what an audience can't see changing has not changed for it
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            topic := private.account_topic((current_row ->> 'account_id')::uuid);
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;

        continue when customer_hidden is null;
        if hides_rows then
            change := private.customer_change(
                table_name => broadcast_changes.table_name, change => change);
            continue when num_nonnulls(change.old, change.new) = 0;
            -- what comes into sight is new, what goes out of it is gone
            operation := private.row_operation(change);
            current_row := coalesce(change.new, change.old);
        end if;
        record := change.new - customer_hidden;
        old_record := change.old - customer_hidden;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> customer_key <> change.new ->> customer_key then
            -- gone to another owner: it is new to that one, and the old one learns its id alone
            topic := private.listened_topic((change.old ->> customer_key)::uuid);
            if topic is not null and topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, 'DELETE', current_row, null, null);
            end if;
            operation := 'INSERT';
            old_record := null;
        end if;

        topic := private.listened_topic((current_row ->> customer_key)::uuid);
        if topic is not null and topic <> all (crowded) then
            events := events || private.change_event(
                table_name, topic, operation, current_row, record, old_record);
        end if;
        if current_row ? conversation_key then
            topic := private.conversation_topic(
                (current_row ->> conversation_key)::uuid,
                (current_row ->> 'account_id')::uuid,
                (current_row ->> customer_key)::uuid
            );
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;
    end loop;

    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(events) e;
    if crowded <> '{}' then
        perform private.broadcast_to(
            topics => crowded,
            event => 'resync',
            payload => jsonb_build_object('tables', array[table_name])
        );
    end if;
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
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


comment on type private.broadcast_event is
    'A message for one topic.';
comment on function private.listened_topic(uuid) is
    'The topic of a customer who has a login; null for others.';
comment on function private.changed_topics(text, private.row_change[]) is
    'The topics that are told of changes, and of how many rows each.';
comment on function private.change_event(text, text, text, jsonb, jsonb, jsonb) is
    'What one topic is told of one changed row: {table, id, version, operation, record, old_record}; without the records where they are too large.';
comment on function private.broadcast_changes(text, private.row_change[]) is
    'Tells a statement''s changes: a message for each row, or one resync for a topic with more than 100. A failure is a warning.';
comment on function private.broadcast_to(text[], text, jsonb) is
    'Sends one message to several topics. A failure is a warning.';
