/*
    The worker's side of the queue: claim some, begin one, call, settle it. Nothing here waits
    for another worker, and several share the paces.
*/
create function private.recover_outbound()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    lost uuid[];
begin
    -- claimed and never begun: as if it had not been claimed
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null
    from (
        select o.message_id
        from private.outbound_queue o
        where o.state = 'leased'
          and o.leased_until < clock_timestamp()
        for update skip locked
    ) l
    where q.message_id = l.message_id;

    -- begun and never settled: it may have been sent
    lost := array(
        select m.id
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        where o.state = 'sending'
          and o.leased_until < clock_timestamp()
        for update of o, m skip locked
    );
    if lost <> '{}' then
        perform private.settle_unknown(l.id)
        from unnest(lost) as l (id);
    end if;
end
$$;


create function private.settle_unknown(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.outbound_attempts t
    set outcome = 'unknown',
        ended_at = clock_timestamp()
    where t.message_id = settle_unknown.message_id
      and t.outcome is null;
    delete from private.outbound_queue q
    where q.message_id = settle_unknown.message_id;
    update public.messages m
    set status = 'unknown'
    where m.id = settle_unknown.message_id
      and m.status = 'queued';
end
$$;


create function backend.claim_outbound(worker text, batch integer default 10)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
    free_at timestamptz;
    claimed jsonb := '[]';
begin
    perform private.recover_outbound();

    for job in
        select
            q.message_id,
            q.attempts,
            w.id as whatsapp_channel_id,
            w.phone_number_id,
            w.messages_per_second,
            k.thread_key,
            k.customer_wa_id,
            m.account_id,
            m.type,
            m.message,
            m.content,
            parent.provider_id as reply_to
        from private.outbound_queue q
        join public.messages m
            on m.id = q.message_id
        join public.conversations k
            on k.id = q.conversation_id
        join public.whatsapp_channels w
            on w.id = q.whatsapp_channel_id
        left join public.messages parent
            on parent.id = m.reply_to
        where q.state = 'queued'
          and q.not_before <= clock_timestamp()
          and w.stopped_at is null
          -- in order: what was written before goes before
          and not exists (
              select
              from private.outbound_queue earlier
              where earlier.conversation_id = q.conversation_id
                and earlier.seq < q.seq
          )
        order by q.not_before, q.message_id
        limit least(greatest(batch, 1), 100)
        for update of q skip locked
    loop
        free_at := greatest(
            private.free_at(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => job.thread_key,
                every => interval '6 seconds',
                burst => 45
            ),
            private.free_at(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => '',
                every => interval '1 second' / job.messages_per_second,
                burst => job.messages_per_second
            )
        );
        if free_at > clock_timestamp() then
            update private.outbound_queue q
            set not_before = free_at
            where q.message_id = job.message_id;
            continue;
        end if;

        perform private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => job.thread_key,
            every => interval '6 seconds'
        );
        perform private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => '',
            every => interval '1 second' / job.messages_per_second
        );
        update private.outbound_queue q
        set state = 'leased',
            leased_until = clock_timestamp() + interval '60 seconds',
            worker = claim_outbound.worker
        where q.message_id = job.message_id;

        claimed := claimed || jsonb_build_object(
            'message_id', job.message_id,
            'account_id', job.account_id,
            'phone_number_id', job.phone_number_id,
            'wa_id', job.customer_wa_id,
            'user_id', case
                when job.thread_key like 'bsuid:%' then split_part(job.thread_key, ':', 2)
            end,
            'type', job.type,
            'text', job.message,
            'content', job.content,
            'reply_to', job.reply_to
        );
    end loop;

    return jsonb_build_object(
        'claimed', claimed,
        -- when there is something to do again, as far as is known now
        'next_at', (
            select min(q.not_before)
            from private.outbound_queue q
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            where q.state = 'queued'
              and w.stopped_at is null
        )
    );
end
$$;

grant execute on function backend.claim_outbound(text, integer) to service_role;


create function backend.begin_send(message_id uuid, worker text)
    returns boolean
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    begun record;
begin
    update private.outbound_queue q
    set state = 'sending',
        attempts = q.attempts + 1,
        leased_until = clock_timestamp() + interval '60 seconds'
    where q.message_id = begin_send.message_id
      and q.worker = begin_send.worker
      and q.state = 'leased'
      and q.leased_until > clock_timestamp()
    returning q.whatsapp_channel_id
    into begun;
    if not found then
        return false;
    end if;

    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    select
        begin_send.message_id,
        coalesce(max(t.attempt), 0) + 1,
        begun.whatsapp_channel_id
    from private.outbound_attempts t
    where t.message_id = begin_send.message_id;
    return true;
end
$$;

grant execute on function backend.begin_send(uuid, text) to service_role;


comment on function private.recover_outbound() is
    'What workers have let lie: back into the queue, or unknown where the call may have been made.';
comment on function private.settle_unknown(uuid) is
    'Notes that nobody knows whether a message was sent; a status or a person will settle it.';
comment on function backend.claim_outbound(text, integer) is
    'Leases messages that may go now, one a conversation: {claimed: [{message_id, account_id, phone_number_id, wa_id, user_id, type, text, content, reply_to}], next_at}.';
comment on function backend.begin_send(uuid, text) is
    'Notes that the call is about to be made; false where the lease has passed to somebody else.';
