/*
    The broadcasts of a transaction leave together, at its end: only then the number of messages for
    each topic is known. Each message has it, as `transaction` and `count`. A client that gets fewer
    messages reads the log, so it never shows half of a transaction.

    Until then the messages wait as JSON in settings, one setting for each statement: every
    statement would copy a single setting. If a savepoint is undone, its settings are undone too.
*/
create type private.broadcast_event as (
    topics  text[],
    event   text,
    payload jsonb
);


create function private.resync_event(topics text[], tables text[])
    returns private.broadcast_event
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (topics, 'resync', jsonb_build_object('tables', tables))::private.broadcast_event;
end
$$;


create function private.waiting_broadcasts()
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    parts constant integer := nullif(current_setting('rapport.broadcasts', true), '');
begin
    if parts = 1 then
        return ('[' || current_setting('rapport.broadcast_1') || ']')::jsonb;
    end if;
    return (
        select ('[' || string_agg(w.news, ',' order by n) || ']')::jsonb
        from generate_series(1, parts) n
        cross join lateral current_setting('rapport.broadcast_' || n) as w (news)
    );
end
$$;


create function private.keep_to_tell(news text)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    most constant integer := 250;
    before constant text := nullif(current_setting('rapport.broadcasts', true), '');
    number integer := coalesce(before::integer, 0) + 1;
    part text := news;
begin
    if number > most then
        -- a loop over many rows: all listeners read again
        select to_jsonb(private.resync_event(
            topics => array_agg(distinct t.topic),
            tables => array_agg(distinct a.name)
        ))::text
        into part
        from jsonb_to_recordset(
            private.waiting_broadcasts() || ('[' || news || ']')::jsonb
        ) as n (topics text[], payload jsonb)
        cross join lateral unnest(n.topics) as t (topic)
        cross join lateral jsonb_array_elements_text(
            coalesce(n.payload -> 'tables', jsonb_build_array(n.payload -> 'table'))
        ) as a (name);
        number := 1;
    end if;
    -- assignments start no statement
    part := set_config('rapport.broadcast_' || number, part, true);
    return set_config('rapport.broadcasts', number::text, true);
end
$$;


create function private.tell(events private.broadcast_event[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    parts text[] := '{}';
    event private.broadcast_event;
    kept text;
begin
    foreach event in array events loop
        parts := parts || to_jsonb(event)::text;
    end loop;
    if parts <> '{}' then
        kept := private.keep_to_tell(array_to_string(parts, ','));
    end if;
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
    events jsonb;
    alone jsonb;
    signed jsonb;
    forgotten text;
begin
    events := private.waiting_broadcasts();
    alone := events -> 0;
    signed := alone -> 'payload' || jsonb_build_object(
        'transaction', pg_current_xact_id()::text, 'count', 1);
    -- changes by a later deferred trigger are told after this
    forgotten := set_config('rapport.logging', 'off', true);
    forgotten := set_config('rapport.broadcasts', '', true);
    if alone is null then
        return null;
    elsif events -> 1 is null then
        -- the usual case, without the work below: 0.1 ms
        insert into realtime.messages (topic, extension, event, payload, private)
        select t, 'broadcast', alone ->> 'event', signed, true
        from jsonb_array_elements_text(alone -> 'topics') t;
        return null;
    end if;

    insert into realtime.messages (topic, extension, event, payload, private)
    with told as materialized (
        select
            t.topic,
            n.event,
            n.payload,
            n.place,
            count(*) over topic as count,
            count(*) over topic > 500 or bool_or(n.event = 'resync') over topic as is_crowded
        from rows from (
            jsonb_to_recordset(events) as (topics text[], event text, payload jsonb)
        ) with ordinality as n (topics, event, payload, place)
        cross join lateral unnest(n.topics) as t (topic)
        window topic as (partition by t.topic)
    )
    select
        w.topic,
        'broadcast',
        w.event,
        w.payload || jsonb_build_object(
            'transaction', pg_current_xact_id()::text, 'count', w.count),
        true
    from (
        select t.topic, t.event, t.payload, t.count, t.place
        from told t
        where not t.is_crowded
        union all
        select t.topic, 'resync', jsonb_build_object('tables', jsonb_agg(distinct a.name)), 1, 0
        from told t
        cross join lateral jsonb_array_elements_text(
            coalesce(t.payload -> 'tables', jsonb_build_array(t.payload -> 'table'))
        ) as a (name)
        where t.is_crowded
        group by t.topic
    ) w
    order by w.place;
    return null;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
        -- the failure has undone these as well
        forgotten := set_config('rapport.logging', 'off', true);
        forgotten := set_config('rapport.broadcasts', '', true);
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
    'A message for some topics.';
comment on function private.resync_event(text[], text[]) is
    'The event by which listeners read these tables again.';
comment on function private.waiting_broadcasts() is
    'The messages that the transaction will send, as a list; null for none.';
comment on function private.keep_to_tell(text) is
    'Keeps the messages of a statement, as JSON objects with commas between them, to be sent at the end of the transaction. Those of more than 250 statements become one resync. Returns how many parts are kept.';
comment on function private.tell(private.broadcast_event[]) is
    'Keeps messages to be sent at the end of the transaction.';
comment on function private.tg_changes__tell() is
    'Sends the messages of the transaction, each with the transaction''s id and the number of its messages on the topic: {…, transaction, count}. A topic with more than 500, or with a resync, gets one resync. A failure is a warning.';
