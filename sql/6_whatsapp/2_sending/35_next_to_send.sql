/*
    Chooses the next messages. Each number has its own pace and its own queue, and the number that
    has sent least lately goes first. So a number with thousands of waiting messages delays no
    other.
*/
create function private.number_pace(messages_per_second integer, out every interval, out burst integer)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- in any second no more than WhatsApp allows
    burst := greatest(messages_per_second / 10, 1);
    every := make_interval(secs => ceil(1000000.0 / greatest(messages_per_second - burst, 1)) / 1000000);
end
$$;


create function private.sending_numbers()
    returns table (whatsapp_channel_id uuid, places integer, free_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    -- from one number to the next in the index, however many messages each has
    with recursive numbers as (
        (
            select q.whatsapp_channel_id as id
            from private.outbound_queue q
            where q.state = 'queued'
            order by q.whatsapp_channel_id
            limit 1
        )
        union all
        select (
            select q.whatsapp_channel_id
            from private.outbound_queue q
            where q.state = 'queued'
              and q.whatsapp_channel_id > n.id
            order by q.whatsapp_channel_id
            limit 1
        )
        from numbers n
        where n.id is not null
    )
    select
        w.id,
        greatest(floor(
            extract(epoch from clock_timestamp() - s.free_at) / extract(epoch from pace.every)
        ) + 1, 0)::integer,
        s.free_at
    from numbers n
    join public.whatsapp_channels w
        on w.id = n.id
    join public.accounts a
        on a.id = w.account_id
    cross join lateral private.number_pace(w.messages_per_second) pace
    left join private.send_paces p
        on p.whatsapp_channel_id = w.id
       and p.recipient = ''
    cross join lateral (
        select greatest(p.due_at, clock_timestamp()) - pace.every * (pace.burst - 1) as free_at
    ) s
    where w.stopped_at is null
      and w.paused_at is null
      and a.paused_at is null
    order by p.due_at nulls first, w.id;
end
$$;


create function private.lock_next_to_send(batch integer)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    number record;
    picked uuid[] := '{}';
begin
    for number in
        select n.whatsapp_channel_id, n.places
        from private.sending_numbers() n
        where n.places > 0
    loop
        picked := picked || array(
            select q.message_id
            from private.outbound_queue q
            where q.whatsapp_channel_id = number.whatsapp_channel_id
              and q.state = 'queued'
              and q.not_before <= clock_timestamp()
              -- in order: a message waits for the earlier ones of its conversation
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before, q.message_id
            limit least(batch - cardinality(picked), number.places)
            for update of q skip locked
        );
        exit when cardinality(picked) >= batch;
    end loop;
    return picked;
end
$$;


create function private.next_send_at()
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select min(greatest(first.not_before, n.free_at))
        from private.sending_numbers() n
        cross join lateral (
            select q.not_before
            from private.outbound_queue q
            where q.whatsapp_channel_id = n.whatsapp_channel_id
              and q.state = 'queued'
              -- a message that waits for another of its conversation has no time of its own
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before
            limit 1
        ) first
    );
end
$$;


comment on function private.number_pace(integer) is
    'The pace of a number with this many messages per second: one message in each interval "every", and "burst" at once.';
comment on function private.sending_numbers() is
    'The numbers with messages to send, the one that has sent least lately first: how many may go now, or the time from which one may.';
comment on function private.lock_next_to_send(integer) is
    'The next messages to send. Locks their rows in the queue, and skips rows that others have locked.';
comment on function private.next_send_at() is
    'The next time when there will be something to send, as far as is known now.';
