/*
    The broadcasts of a transaction leave together, at its end: only then the number of messages for
    each topic is known. Each message has it, as `transaction` and `count`. A client that gets fewer
    messages reads the log, so it never shows half of a transaction.

    Until then the messages of each statement wait behind a cursor, rapport_broadcast_<number>. It is
    read at the end, so nothing is written as text and parsed again: that was 18 % of a webhook of
    1,000 messages. If a savepoint is undone, its cursors are closed.
*/
create type private.broadcast_event as (
    topics     text[],
    -- the statement's place in the transaction, and the message's in the statement
    part       integer,
    place      bigint,
    -- messages.inserted; resync: all listeners read the table again
    event      text,
    table_name text,
    operation  text,
    row_id     uuid,
    version    bigint,
    record     jsonb,
    old_record jsonb
);


create function private.resync_event(topics text[], table_name text)
    returns private.broadcast_event
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (topics, 1, 0, 'resync', table_name, null, null, null, null, null)::private.broadcast_event;
end
$$;


create function private.waiting_broadcasts()
    returns private.broadcast_event[]
    language plpgsql
    set search_path = ''
as $$
declare
    parts constant integer := coalesce(nullif(current_setting('rapport.broadcasts', true), ''), '0');
    waiting refcursor;
    part private.broadcast_event[];
    events private.broadcast_event[];
begin
    for number in 1 .. parts loop
        waiting := 'rapport_broadcast_' || number;
        fetch waiting into part;
        close waiting;
        events := events || part;
    end loop;
    return events;
end
$$;


create function private.next_broadcast()
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    most constant integer := 250;
    before constant integer :=
        coalesce(nullif(current_setting('rapport.broadcasts', true), ''), '0');
    waiting refcursor := 'rapport_broadcast_1';
    events private.broadcast_event[];
    number integer := before + 1;
    noted text;
begin
    if before = most then
        -- a loop over many rows: all listeners read again
        select array_agg(private.resync_event(topics => e.topics, table_name => e.table_name))
        into events
        from (
            select array_agg(distinct t.topic), w.table_name
            from unnest(private.waiting_broadcasts()) w
            cross join lateral unnest(w.topics) as t (topic)
            group by w.table_name
        ) as e (topics, table_name);
        open waiting no scroll for select events;
        number := 2;
    end if;
    noted := set_config('rapport.broadcasts', number::text, true);
    return number;
end
$$;


create function private.tell(event private.broadcast_event)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting refcursor := 'rapport_broadcast_' || private.next_broadcast();
begin
    open waiting no scroll for select array[event];
end
$$;


create function private.forget_broadcasts()
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    waiting refcursor;
begin
    for waiting in
        select c.name
        from pg_catalog.pg_cursors c
        where c.name like 'rapport_broadcast_%'
    loop
        close waiting;
    end loop;
    return set_config('rapport.broadcasts', '', true);
end
$$;


create function private.change_payload(
    event private.broadcast_event,
    count bigint
)
    returns jsonb
    language plpgsql
    -- the transaction is the same in all calls
    stable
    set search_path = ''
as $$
declare
    payload jsonb := jsonb_build_object(
        'table', event.table_name,
        'id', event.row_id,
        'version', event.version,
        'operation', event.operation,
        'record', event.record,
        'old_record', event.old_record,
        'transaction', pg_current_xact_id()::text,
        'count', count
    );
begin
    -- Clients fetch larger rows themselves. The first test is cheap and spares most rows the
    -- second.
    if pg_column_size(payload) > 16384 and octet_length(payload::text) > 65536 then
        payload := payload - array['record', 'old_record'];
    end if;
    return payload;
end
$$;


create function private.send_together(events private.broadcast_event[])
    returns void
    language plpgsql
    set search_path = ''
    -- counts are joined by hash: a kept plan for few would compare each of 1,000 messages with each
    -- topic
    set enable_nestloop = off
    set jit = off
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    with topics as materialized (
        select
            p.topic,
            sum(p.count)::bigint as count,
            bool_or(p.is_crowded) or sum(p.count) > 500 as is_crowded
        from (
            select
                t.topic,
                count(*) as count,
                count(*) > 100 or bool_or(e.event = 'resync') as is_crowded
            from unnest(events) e
            cross join lateral unnest(e.topics) as t (topic)
            group by t.topic, e.part
        ) p
        group by p.topic
    )
    select w.topic, 'broadcast', w.event, w.payload, true
    from (
        select
            t.topic,
            e.part,
            e.place,
            e.event,
            private.change_payload(e, t.count) as payload
        from unnest(events) e
        cross join lateral unnest(e.topics) as n (topic)
        join topics t
            on t.topic = n.topic
        where not t.is_crowded
        union all
        select
            t.topic,
            0,
            0,
            'resync',
            jsonb_build_object(
                'tables', jsonb_agg(distinct e.table_name),
                'transaction', pg_current_xact_id()::text,
                'count', 1
            )
        from unnest(events) e
        cross join lateral unnest(e.topics) as n (topic)
        join topics t
            on t.topic = n.topic
        where t.is_crowded
        group by t.topic
    ) w
    order by w.part, w.place;
end
$$;


create function private.tg_changes__tell()
    returns trigger
    language plpgsql
    -- definer: users may not send
    security definer
    set search_path = ''
as $$
declare
    events private.broadcast_event[];
    alone private.broadcast_event;
    payload jsonb;
    waiting refcursor := 'rapport_broadcast_1';
    forgotten text;
begin
    if current_setting('rapport.broadcasts', true) = '1' then
        fetch waiting into events;
        close waiting;
    else
        events := private.waiting_broadcasts();
    end if;
    -- changes by a later deferred trigger are told after this
    forgotten := set_config('rapport.logging', 'off', true);
    forgotten := set_config('rapport.broadcasts', '', true);
    if events is null then
        return null;
    end if;
    alone := events[1];
    if cardinality(events) > 1 or alone.event = 'resync' then
        perform private.send_together(events);
    else
        -- the usual case, without the work of counting
        payload := private.change_payload(alone, 1);
        insert into realtime.messages (topic, extension, event, payload, private)
        select t, 'broadcast', alone.event, payload, true
        from unnest(alone.topics) t;
    end if;
    return null;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
        -- the failure has undone these as well
        forgotten := set_config('rapport.logging', 'off', true);
        forgotten := private.forget_broadcasts();
        return null;
end
$$;


-- Once in a transaction: its first entry makes the setting, and the others find it. Postgres tests
-- the condition when a row is written, not at the end.
create constraint trigger _900_tell
    after insert on private.changes
    deferrable initially deferred
    for each row
    when (
        current_setting('rapport.logging', true) is distinct from 'on'
        and set_config('rapport.logging', 'on', true) = 'on'
    )
    execute function private.tg_changes__tell();


comment on type private.broadcast_event is
    'A message for some topics about one row.';
comment on function private.resync_event(text[], text) is
    'The event by which listeners read a table again.';
comment on function private.waiting_broadcasts() is
    'Takes the messages that the transaction will send from their cursors; null for none.';
comment on function private.next_broadcast() is
    'The number of the cursor behind which a statement''s messages are to wait. Those of more than 250 statements become one resync.';
comment on function private.tell(private.broadcast_event) is
    'Keeps a message to be sent at the end of the transaction.';
comment on function private.forget_broadcasts() is
    'Closes the cursors behind which messages wait.';
comment on function private.change_payload(private.broadcast_event, bigint) is
    'The payload for one changed row: {table, id, version, operation, record, old_record, transaction, count}; too large a payload leaves the two records out.';
comment on function private.send_together(private.broadcast_event[]) is
    'Sends several messages, each with the number of its topic''s. A topic with more than 500, with more than 100 of a statement, or with a resync, gets one resync.';
comment on function private.tg_changes__tell() is
    'Sends the messages of the transaction, each with the transaction''s id and the number of its messages on the topic: {…, transaction, count}. A failure is a warning.';
