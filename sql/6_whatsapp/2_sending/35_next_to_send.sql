/*
    Which messages are next. Each number has its own pace and its own queue, and the number
    that has sent least of late goes first: one that has thousands waiting delays no other.
*/
create function private.number_pace(messages_per_second integer, out every interval, out burst integer)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- together no more in any second than WhatsApp lets go
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
    cross join lateral private.number_pace(w.messages_per_second) pace
    left join private.send_paces p
        on p.whatsapp_channel_id = w.id
       and p.recipient = ''
    cross join lateral (
        select greatest(p.due_at, clock_timestamp()) - pace.every * (pace.burst - 1) as free_at
    ) s
    where w.stopped_at is null
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
              -- in order: what was written before goes before
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
              -- what waits for another of its conversation has no time of its own
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
    'How a number is paced that may send so much: one message every so often, and so many at once.';
comment on function private.sending_numbers() is
    'The numbers with messages to send, the one that has sent least of late first: how many may go now, or from when one may.';
comment on function private.lock_next_to_send(integer) is
    'The messages to send next, whose rows in the queue are locked; what others have locked is passed over.';
comment on function private.next_send_at() is
    'When there is something to send again, as far as is known now.';
