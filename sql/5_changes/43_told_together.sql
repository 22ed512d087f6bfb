/*
    What a transaction broadcasts leaves together, at its end: only then it is known how many
    messages a topic gets. Each says so, by `transaction` and `count`; a client that has fewer reads
    the log, and never shows half of a transaction.

    Until then the messages wait in a setting, as JSON. A savepoint that is undone undoes them too.
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


create function private.keep_to_tell(news text)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    -- characters; more than 500 messages for a topic are not told one by one anyway
    most constant integer := 1000000;
    waiting text := coalesce(current_setting('rapport.broadcasts', true), '') || ',' || news;
begin
    if length(waiting) > most then
        select ',' || to_jsonb(private.resync_event(
            topics => array_agg(distinct t.topic),
            tables => array_agg(distinct a.name)
        ))::text
        into waiting
        from jsonb_to_recordset(('[' || substr(waiting, 2) || ']')::jsonb) as n (
            topics text[], payload jsonb
        )
        cross join lateral unnest(n.topics) as t (topic)
        cross join lateral jsonb_array_elements_text(
            coalesce(n.payload -> 'tables', jsonb_build_array(n.payload -> 'table'))
        ) as a (name);
    end if;
    return set_config('rapport.broadcasts', waiting, true);
end
$$;


create function private.tell(events private.broadcast_event[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting text;
    event private.broadcast_event;
begin
    foreach event in array events loop
        -- assignments start no statement
        waiting := private.keep_to_tell(to_jsonb(event)::text);
    end loop;
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
    events constant jsonb := (
        '[' || substr(current_setting('rapport.broadcasts', true), 2) || ']'
    )::jsonb;
    alone constant jsonb := events -> 0;
    signed constant jsonb := alone -> 'payload' || jsonb_build_object(
        'transaction', pg_current_xact_id()::text, 'count', 1);
    forgotten text;
begin
    -- what a later deferred trigger changes is told after this
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
        return null;
end
$$;


-- Once in a transaction: its first entry sets what the others find. A condition is looked at when a
-- row is written, not at the end.
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
comment on function private.keep_to_tell(text) is
    'Keeps messages, as JSON objects with commas between them, to be sent at the end of the transaction.';
comment on function private.tell(private.broadcast_event[]) is
    'Keeps messages to be sent at the end of the transaction.';
comment on function private.tg_changes__tell() is
    'Sends what the transaction has to tell, with its id and the number of its messages on the topic: {…, transaction, count}. A topic with more than 500, or with a resync, gets one resync. A failure is a warning.';
