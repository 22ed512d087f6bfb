/*
    Broadcasts at the end of a transaction of many small statements, from its entries in the log. An
    import gives each row a statement and a savepoint of its own. Broadcast one by one, 200 new
    contacts made 400 messages.

    While the setting rapport.broadcast_later is on, broadcast_changes is silent. Code that turns it
    on for its transaction calls this function, and then turns it off.
*/
create function private.broadcast_logged(account_id uuid, to_staff boolean default true)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    with told as materialized (
        select
            t.topic,
            l.table_name,
            t.operation,
            l.row_id,
            l.version,
            count(*) over (partition by t.topic, l.table_name) > 100 as crowded
        from private.changes l
        cross join lateral (
            select private.account_topic(l.account_id), l.operation::text
            where to_staff
            union all
            select c.topic, coalesce(l.customer_operation, l.operation)::text
            from (
                values
                    (private.listened_topic(l.customer_id)),
                    (private.conversation_topic(l.conversation_id, l.account_id, l.customer_id))
            ) as c (topic)
            where (private.followed_table(l.table_name)).customer_key is not null
        ) as t (topic, operation)
        where l.account_id = broadcast_logged.account_id
          and l.xid = pg_current_xact_id()
          and t.topic is not null
    )
    select
        t.topic,
        'broadcast',
        'resync',
        jsonb_build_object('tables', jsonb_agg(distinct t.table_name)),
        true
    from told t
    where t.crowded
    group by t.topic
    union all
    -- The log holds no records. Clients fetch the rows that they want, as with rows that are too
    -- large.
    select
        t.topic,
        'broadcast',
        t.table_name || case t.operation
            when 'INSERT' then '.inserted'
            when 'UPDATE' then '.updated'
            else '.deleted'
        end,
        jsonb_build_object(
            'table', t.table_name,
            'id', t.row_id,
            'version', t.version,
            'operation', t.operation
        ),
        true
    from told t
    where not t.crowded;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on function private.broadcast_logged(uuid, boolean) is
    'Broadcasts what this transaction has logged for an account, to staff and customers or to customers alone: {table, id, version, operation} for each change, or one resync for a topic with more than 100 changes of a table. A failure is a warning.';
