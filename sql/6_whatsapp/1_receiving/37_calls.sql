/*
    Calls. A call is one line in the conversation with its person: a message of the type call, whose
    content says how the call stands:

        {direction: inbound | outbound, status, started_at, ended_at, duration_s}

        ringing → ongoing → answered: how long it took
                → missed, rejected, failed

    WhatsApp reports a call in several events, in any order. All are kept, and the message shows
    their sum, so the order of arrival does not matter. A call from the person opens the 24-hour
    window, as a message does.
    (Source: developers.facebook.com, WhatsApp Business Platform, "Calling API", "calls webhook
    reference".)
*/
create table private.call_events (
    -- no foreign key: all calls of a number would queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the call, and of its message
    provider_id         text not null,
    event               text not null
                        constraint call_events_event_check
                        check (event in ('connect', 'ringing', 'accepted', 'rejected', 'terminate')),
    direction           text not null
                        constraint call_events_direction_check
                        check (direction in ('inbound', 'outbound')),
    -- the provider's times; the last event gives the start and end of the talk
    at                  timestamptz not null,
    started_at          timestamptz,
    ended_at            timestamptz,
    duration_s          integer
                        constraint call_events_duration_s_check check (duration_s >= 0),
    has_failed          boolean not null default false,

    primary key (whatsapp_channel_id, provider_id, event)
);
alter table private.call_events enable row level security;


create policy "nobody reads call events directly"
    on private.call_events
    for all
    to authenticated
    using (false);


create type private.known_call as (
    sent_at timestamptz,
    -- the last known moment of the call: nothing moves the window back
    last_at timestamptz,
    message text,
    content jsonb
);


create function private.keep_call_events(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    insert into private.call_events (
        whatsapp_channel_id, provider_id, event, direction, at, started_at, ended_at, duration_s,
        has_failed
    )
    select
        i.whatsapp_channel_id,
        i.provider_id,
        i.content ->> 'event',
        case i.sender_type when 'client' then 'inbound' else 'outbound' end,
        i.sent_at,
        -- an implausible time is replaced, as the time of the event is
        private.likely_time((i.content ->> 'started_at')::timestamptz, i.sent_at),
        private.likely_time((i.content ->> 'ended_at')::timestamptz, i.sent_at),
        (i.content ->> 'duration_s')::integer,
        (i.content -> 'has_failed')::boolean
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.content ->> 'event', i.sent_at, i.index
    on conflict do nothing;

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.spoken_time(seconds integer)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return concat_ws(
        ' ',
        nullif(seconds / 3600, 0) || ' h',
        nullif(seconds % 3600 / 60, 0) || ' min',
        case when seconds % 60 > 0 or seconds = 0 then seconds % 60 || ' s' end
    );
end
$$;


create function private.iso_time(at timestamptz)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the same in every time zone of the session
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
end
$$;


create function private.known_call(whatsapp_channel_id uuid, provider_id text)
    returns private.known_call
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    call record;
    status text;
    seconds integer;
begin
    select
        min(least(e.at, e.started_at)) as sent_at,
        max(least(e.at, coalesce(e.started_at, e.at))) as last_at,
        -- where events contradict each other, the person's call counts
        min(e.direction) as direction,
        bool_or(e.event = 'terminate') as is_over,
        bool_or(e.event = 'accepted') as is_accepted,
        bool_or(e.event = 'rejected') as is_rejected,
        bool_or(e.has_failed) as has_failed,
        min(e.started_at) as started_at,
        max(e.ended_at) as ended_at,
        max(e.at) filter (where e.event = 'terminate') as over_at,
        max(e.duration_s) as duration_s
    into call
    from private.call_events e
    where e.whatsapp_channel_id = known_call.whatsapp_channel_id
      and e.provider_id = known_call.provider_id;

    status := case
        when call.is_over and (call.started_at is not null or call.duration_s > 0) then 'answered'
        when call.is_rejected then 'rejected'
        when call.is_over and call.direction = 'outbound' and call.has_failed then 'failed'
        when call.is_over then 'missed'
        when call.is_accepted then 'ongoing'
        else 'ringing'
    end;
    seconds := case when status = 'answered' then coalesce(
        call.duration_s,
        greatest(extract(epoch from call.ended_at - call.started_at)::integer, 0)
    ) end;
    return (
        call.sent_at,
        call.last_at,
        case call.direction
            when 'inbound' then case status
                when 'ringing' then '[incoming call]'
                when 'ongoing' then '[call] in progress'
                when 'answered' then concat_ws(' ', '[call]', private.spoken_time(seconds))
                else format('[%s call]', status)
            end
            else case status
                when 'ringing' then '[outgoing call]'
                when 'ongoing' then '[outgoing call] in progress'
                when 'answered' then concat_ws(' ', '[outgoing call]', private.spoken_time(seconds))
                when 'missed' then '[outgoing call] not answered'
                else format('[outgoing call] %s', status)
            end
        end,
        jsonb_build_object(
            'direction', call.direction,
            'status', status,
            'started_at', private.iso_time(call.started_at),
            'ended_at', case when call.is_over then
                private.iso_time(coalesce(call.ended_at, call.over_at))
            end,
            'duration_s', seconds
        )
    )::private.known_call;
end
$$;


create function private.as_calls(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    call private.known_call;
    calls private.whatsapp_item[] := '{}';
begin
    foreach item in array items loop
        call := private.known_call(
            whatsapp_channel_id => item.whatsapp_channel_id, provider_id => item.provider_id);
        item.type := 'call';
        item.text := call.message;
        item.content := call.content;
        item.sent_at := call.sent_at;
        calls := calls || item;
    end loop;
    return calls;
end
$$;


create function private.open_call_windows(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- under the conversations' locks, which come before the locks of messages
    perform
    from public.conversations k
    where k.id in (
        select m.conversation_id
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
    )
    order by k.id
    for no key update;

    update public.conversation_activity a
    set last_inbound_at = greatest(a.last_inbound_at, c.last_at),
        last_message_at = greatest(a.last_message_at, c.last_at)
    from (
        select m.conversation_id, max(call.last_at) as last_at
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        cross join lateral private.known_call(
            whatsapp_channel_id => i.whatsapp_channel_id, provider_id => i.provider_id) call
        where m.type = 'call'
          and m.sender_type = 'client'
        group by m.conversation_id
    ) c
    where a.conversation_id = c.conversation_id
      and (a.last_inbound_at is null or a.last_inbound_at < c.last_at);
end
$$;


create function private.apply_whatsapp_calls(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant integer := private.keep_call_events(items);
    changed uuid[];
begin
    -- makes the line, if no earlier event has made it
    perform private.apply_whatsapp_messages(
        private.as_calls(items), may_continue => false, settles => false);
    perform private.open_call_windows(items);

    -- this batch's events, and events that others added while this waited for the conversation
    changed := array(
        select m.id
        from public.messages m
        join unnest(items) i
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        where m.type = 'call'
        order by m.id
        for no key update of m
    );
    if changed <> '{}' then
        update public.messages m
        set message = call.message,
            content = call.content,
            sent_at = call.sent_at
        from public.messages k
        cross join lateral private.known_call(
            whatsapp_channel_id => k.whatsapp_channel_id, provider_id => k.provider_id) call
        where m.id = k.id
          and k.id = any (changed)
          and (k.message, k.content, k.sent_at)
              is distinct from (call.message, call.content, call.sent_at);
    end if;
    return kept;
end
$$;


comment on table private.call_events is
    'WhatsApp''s events about calls. The message of each call shows their sum.';
comment on policy "nobody reads call events directly" on private.call_events is
    'Clients see the message.';
comment on type private.known_call is
    'The content of a call''s message, and the last known moment of the call.';
comment on function private.keep_call_events(private.whatsapp_item[]) is
    'Keeps events about calls. Returns the number of new ones.';
comment on function private.spoken_time(integer) is
    'The length of a talk, for people to read.';
comment on function private.iso_time(timestamptz) is
    'A time in JSON, in UTC, to the second.';
comment on function private.known_call(uuid, text) is
    'The state of a call, from all of its events.';
comment on function private.as_calls(private.whatsapp_item[]) is
    'Events of calls as the messages that show these calls.';
comment on function private.open_call_windows(private.whatsapp_item[]) is
    'Opens the 24-hour windows of people who have called.';
comment on function private.apply_whatsapp_calls(private.whatsapp_item[]) is
    'Applies events of calls with all that follows. Returns the number of new ones.';
