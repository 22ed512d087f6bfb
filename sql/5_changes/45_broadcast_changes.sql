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
    has_customers constant boolean := followed.customer_key is not null;
    hidden text[];
    number integer;
    waiting refcursor;
begin
    -- A transaction of many statements broadcasts at its end, see broadcast_logged.
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return 0;
    end if;
    hidden := private.hidden_columns(followed, coalesce(changes[1].new, changes[1].old));
    number := private.next_broadcast();
    waiting := 'rapport_broadcast_' || number;

    -- One statement for all rows: the functions that a loop called for each were a third. "offset
    -- 0": what stands inside is worked out once for each row. Look-ups stand in lists of columns,
    -- so that each is by key: the planner knows no sizes here.
    open waiting no scroll for
        select array_agg(
            (
                array_remove(e.topics, null),
                number,
                r.place * 4 + e.place,
                followed.table_name || case e.operation
                    when 'INSERT' then '.inserted'
                    when 'UPDATE' then '.updated'
                    else '.deleted'
                end,
                followed.table_name,
                e.operation,
                r.row_id,
                e.version,
                e.record,
                e.old_record
            )::private.broadcast_event
        )
        from (
            select
                o.*,
                case
                    when o.somebody_left then private.account_topic(o.account_id)
                    else 'account:' || o.account_id || ':0'
                end as account_topic,
                -- nobody listens to a customer without a login
                case when o.has_login then
                    case
                        when o.somebody_left then private.customer_topic(o.customer_id)
                        else 'customer:' || o.customer_id || ':0'
                    end
                end as customer_topic,
                case when has_customers and o.conversation_id is not null then
                    case
                        when o.somebody_left then private.conversation_topic(
                            o.conversation_id, o.account_id, o.customer_id)
                        else 'conversation:' || o.conversation_id || ':0'
                    end
                end as conversation_topic
            from (
                select
                    c.*,
                    exists (
                        select
                        from private.topic_epochs p
                        where p.owner_id in (c.account_id, c.customer_id, c.conversation_id)
                    ) as somebody_left,
                    (
                        select k.portal_user_id is not null
                        from public.customers k
                        where k.id = c.customer_id
                    ) as has_login
                from (
                    select
                        n.place,
                        n.seen,
                        (n.row ->> 'id')::uuid as row_id,
                        (n.row ->> 'version')::bigint as version,
                        (n.row ->> 'account_id')::uuid as account_id,
                        (n.row ->> followed.customer_key)::uuid as customer_id,
                        (n.row ->> followed.conversation_key)::uuid as conversation_id,
                        n.new - hidden as record,
                        n.old - hidden as old_record,
                        coalesce(
                            (n.seen).old ->> followed.customer_key
                                <> (n.seen).new ->> followed.customer_key,
                            false
                        ) as has_moved
                    from (
                        select
                            h.place,
                            h.old,
                            h.new,
                            coalesce(h.new, h.old) as row,
                            case
                                when followed.seen_since is null
                                    then (h.old, h.new)::private.row_change
                                else private.customer_change(
                                    followed, change => (h.old, h.new)::private.row_change)
                            end as seen
                        from unnest(changes) with ordinality as h (old, new, place)
                        offset 0
                    ) n
                    offset 0
                ) c
                offset 0
            ) o
            offset 0
        ) r
        cross join lateral (
            values
                (
                    1,
                    case
                        when r.record is null then 'DELETE'
                        when r.old_record is null then 'INSERT'
                        else 'UPDATE'
                    end,
                    r.version,
                    r.record,
                    r.old_record,
                    case
                        -- customers hear the same: one message for all topics
                        when followed.seen_since is null and not r.has_moved
                            then array[r.account_topic, r.customer_topic, r.conversation_topic]
                        else array[r.account_topic]
                    end,
                    -- An update without a visible difference is not told.
                    (r.record - stamps = r.old_record - stamps) is not true
                ),
                -- Moved to another owner: the old one gets its id only, to the other it is new.
                (
                    2,
                    'DELETE',
                    r.version,
                    null,
                    null,
                    case when r.has_moved then array[private.listened_topic(
                        ((r.seen).old ->> followed.customer_key)::uuid
                    )] end,
                    r.has_moved
                ),
                -- a row that becomes visible is new, one that becomes hidden is gone
                (
                    3,
                    case
                        when (r.seen).new is null then 'DELETE'
                        when (r.seen).old is null or r.has_moved then 'INSERT'
                        else 'UPDATE'
                    end,
                    (coalesce((r.seen).new, (r.seen).old) ->> 'version')::bigint,
                    (r.seen).new - hidden,
                    case when not r.has_moved then (r.seen).old - hidden end,
                    array[r.customer_topic, r.conversation_topic],
                    (followed.seen_since is not null or r.has_moved)
                        and num_nonnulls((r.seen).old, (r.seen).new) > 0
                        and ((r.seen).new - hidden - stamps = (r.seen).old - hidden - stamps)
                            is not true
                )
        ) as e (place, operation, version, record, old_record, topics, happens)
        where e.happens
          and array_remove(e.topics, null) <> '{}';
    return number;
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
comment on function private.broadcast_changes(private.followed_tables, private.row_change[]) is
    'Has the changes of a statement broadcast at the end of the transaction: one message for each row, or one resync for a topic with more than 100 rows. Returns the number of the cursor behind which they wait; 0 for none.';
comment on function private.broadcast_to(text[], text, jsonb) is
    'Sends one message to several topics. A failure is a warning.';
