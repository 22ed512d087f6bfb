/*
    What follows from a change of a followed row, in the same transaction: an entry in the
    change log, and a broadcast to those who may see it. Per statement, not per row: 50,000
    rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.

    The log is the record, the broadcast a hint: it may fail and never aborts the write.
*/
create type private.row_change as (
    old jsonb,
    new jsonb
);


/*
    Whose one side of a row change is. These functions are plpgsql, since a session keeps the
    plans of those and not of sql functions: with these triggers on every write it matters.
*/
create type private.change_scope as (
    -- the change's place in its statement
    ordinal         bigint,
    is_old          boolean,
    row_id          uuid,
    version         bigint,
    account_id      uuid,
    customer_id     uuid,
    conversation_id uuid
);


create function private.change_scopes(table_name text, changes private.row_change[])
    returns private.change_scope[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select (
            c.ordinal,
            s.is_old,
            s.row ->> 'id',
            s.row ->> 'version',
            s.row ->> 'account_id',
            case table_name
                -- followed by staff alone; the customer follows public.customers
                when 'contacts' then null
                when 'customers' then s.row ->> 'id'
                else s.row ->> 'customer_id'
            end,
            case table_name
                when 'conversations' then s.row ->> 'id'
                else s.row ->> 'conversation_id'
            end
        )::private.change_scope
        from unnest(changes) with ordinality as c (old, new, ordinal)
        cross join lateral (values (c.old, true), (c.new, false)) as s (row, is_old)
        where s.row is not null
    );
end
$$;


create function private.log_changes(
    table_name text,
    operation text,
    scopes private.change_scope[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        s.account_id,
        s.customer_id,
        s.conversation_id,
        log_changes.table_name,
        s.row_id,
        case when s.is_old then 'DELETE' else log_changes.operation end,
        s.version
    from unnest(scopes) s
    where not s.is_old
       or log_changes.operation = 'DELETE'
       -- gone to another owner: the old one is told as well
       or not exists (
           select
           from unnest(scopes) kept
           where kept.ordinal = s.ordinal
             and not kept.is_old
             and kept.account_id = s.account_id
             and kept.customer_id is not distinct from s.customer_id
       )
    order by s.ordinal, s.is_old desc;
end
$$;


create function private.change_topics(table_name text, scopes private.change_scope[])
    returns table (
        topic text,
        columns text[],
        account_id uuid,
        customer_id uuid,
        conversation_id uuid
    )
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    for_staff constant text[] := private.shown_columns(table_name, 'staff');
    for_customers constant text[] := private.shown_columns(table_name, 'customer');
begin
    -- one look-up for each topic, however many rows it is told of
    return query
        select private.account_topic(a.account_id), for_staff, a.account_id, null::uuid, null::uuid
        from (select distinct s.account_id from unnest(scopes) s) a;

    if for_customers is null then
        return;
    end if;
    return query
        select private.customer_topic(c.id), for_customers, c.account_id, c.id, null::uuid
        from public.customers c
        where c.id = any (array(select distinct s.customer_id from unnest(scopes) s))
          -- nobody listens where nobody can sign in
          and c.portal_user_id is not null
        union all
        select
            private.conversation_topic(c.conversation_id, c.account_id, c.customer_id),
            for_customers,
            c.account_id,
            c.customer_id,
            c.conversation_id
        from (
            select distinct s.conversation_id, s.account_id, s.customer_id
            from unnest(scopes) s
            where s.conversation_id is not null
        ) c;
end
$$;


create function private.change_events(
    table_name text,
    changes private.row_change[],
    scopes private.change_scope[]
)
    returns table (topic text, event text, payload jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with told as (
            -- saw, sees: whether this topic's audience could see the row before, and can now
            select
                t.topic,
                t.columns,
                s.ordinal,
                bool_or(s.is_old) as saw,
                bool_or(not s.is_old) as sees,
                count(*) over (partition by t.topic) as rows_of_topic
            from private.change_topics(change_events.table_name, scopes) t
            join unnest(scopes) s
                on s.account_id = t.account_id
               and (t.customer_id is null or s.customer_id = t.customer_id)
               and (t.conversation_id is null or s.conversation_id = t.conversation_id)
            group by t.topic, t.columns, s.ordinal
        ),
        detailed as (
            select
                t.topic,
                t.ordinal,
                coalesce(c.new, c.old) as row,
                case
                    when not t.sees then 'DELETE'
                    when t.saw then 'UPDATE'
                    else 'INSERT'
                end as operation,
                case when t.sees then c.new - hidden.columns end as record,
                -- of a row that has left, no more than its id goes to the one it has left
                case when t.saw and (t.sees or c.new is null) then c.old - hidden.columns end
                    as old_record
            from told t
            join unnest(changes) with ordinality as c (old, new, ordinal)
                on c.ordinal = t.ordinal
            -- what is not named is hidden, also a column that is newer than this function
            cross join lateral (
                select array(
                    select k
                    from jsonb_object_keys(coalesce(c.new, c.old)) k
                    where k <> all (t.columns)
                )
            ) as hidden (columns)
            where t.rows_of_topic <= 100
        ),
        described as (
            select
                d.topic,
                d.ordinal,
                d.operation,
                jsonb_build_object(
                    'table', change_events.table_name,
                    'id', d.row -> 'id',
                    'version', d.row -> 'version',
                    'operation', d.operation
                ) as hint,
                jsonb_build_object('record', d.record, 'old_record', d.old_record) as rows
            from detailed d
            -- what this audience can't see changing has not changed for it
            where d.operation <> 'UPDATE'
               or d.record - array['version', 'updated_at']
                  <> d.old_record - array['version', 'updated_at']
        ),
        events as (
            select
                d.topic,
                d.ordinal,
                change_events.table_name || case d.operation
                    when 'INSERT' then '.inserted'
                    when 'UPDATE' then '.updated'
                    else '.deleted'
                end as event,
                -- whoever wants a larger one fetches it
                case
                    when octet_length(d.rows::text) <= 65536 then d.hint || d.rows
                    else d.hint
                end as payload
            from described d
            union all
            select distinct
                t.topic,
                0,
                'resync',
                jsonb_build_object('tables', array[change_events.table_name])
            from told t
            where t.rows_of_topic > 100
        )
        select e.topic, e.event, e.payload
        from events e
        order by e.ordinal, e.topic;
end
$$;


create function private.send_events(topics text[], events text[], payloads jsonb[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(topics, events, payloads) as e (topic, event, payload);
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


create function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    chunk_size constant integer := 1000;
    source refcursor;
    change private.row_change;
    chunk private.row_change[] := '{}';
    scopes private.change_scope[];
    topics text[] := '{}';
    is_large boolean := false;
    finished boolean;
begin
    if tg_op = 'INSERT' then
        open source for
            select null::jsonb, to_jsonb(n)
            from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select to_jsonb(o), to_jsonb(n)
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version;
    else
        open source for
            select to_jsonb(o), null::jsonb
            from old_rows o;
    end if;

    loop
        fetch source into change.old, change.new;
        finished := not found;
        if not finished then
            chunk := chunk || change;
            continue when cardinality(chunk) < chunk_size;
        end if;

        exit when cardinality(chunk) = 0;
        scopes := private.change_scopes(table_name => tg_table_name, changes => chunk);
        perform private.log_changes(
            table_name => tg_table_name, operation => tg_op, scopes => scopes);
        exit when finished and not is_large;

        -- too much to tell one by one: everybody concerned reads again
        is_large := true;
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.change_topics(table_name => tg_table_name, scopes => scopes) t
        );
        chunk := '{}';
        exit when finished;
    end loop;
    close source;

    if is_large then
        perform private.send_events(
            topics => topics,
            events => array_fill('resync'::text, array[cardinality(topics)]),
            payloads => array_fill(
                jsonb_build_object('tables', array[tg_table_name]), array[cardinality(topics)])
        );
    elsif cardinality(chunk) > 0 then
        perform private.send_events(
            topics => array_agg(e.topic),
            events => array_agg(e.event),
            payloads => array_agg(e.payload)
        )
        from private.change_events(
            table_name => tg_table_name, changes => chunk, scopes => scopes) e;
    end if;
    return null;
end
$$;


comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on type private.change_scope is
    'Whose one side of a row change is.';
comment on function private.change_scopes(text, private.row_change[]) is
    'Whose each changed row was (is_old) and is.';
comment on function private.log_changes(text, text, private.change_scope[]) is
    'Appends a statement''s changes to the log.';
comment on function private.change_topics(text, private.change_scope[]) is
    'The topics on which changes are told, and the columns that are shown there.';
comment on function private.change_events(text, private.row_change[], private.change_scope[]) is
    'What is sent for a statement''s changes: a message for each row, or one resync for a topic with more than 100.';
comment on function private.send_events(text[], text[], jsonb[]) is
    'Sends to private topics in one insert; a failure is a warning.';
comment on function private.tg__publish() is
    'Logs and broadcasts what a statement changed.';
