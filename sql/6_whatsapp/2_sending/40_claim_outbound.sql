/*
    The worker's side of the queue: claim messages, begin one, call WhatsApp, settle it. Several
    workers share the queue and the paces. A worker claims under a new name each time, and begins
    and settles under that name. So a late repetition can't count for a later attempt.
*/
create function private.recover_outbound()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    lost record;
begin
    -- claimed but never begun: it can be claimed again
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        attempts = q.attempts + 1
    from (
        select o.message_id
        from private.outbound_queue o
        where o.state = 'leased'
          and o.leased_until < clock_timestamp()
          and o.attempts < 7
        for update skip locked
    ) l
    where q.message_id = l.message_id;

    for lost in
        select o.message_id, o.state
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        where o.state in ('leased', 'sending')
          and o.leased_until < clock_timestamp()
        for update of o, m skip locked
    loop
        if lost.state = 'sending' then
            -- begun but never settled: it may have been sent
            perform private.settle_unknown(lost.message_id);
        else
            -- no worker ever finishes it, and later messages wait
            perform private.refuse_send(
                message_id => lost.message_id,
                code => -2,
                details => 'The message could not be prepared in eight tries: its file may be too slow to read.',
                retry_after => null
            );
        end if;
    end loop;
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
    picked uuid[];
    job record;
    free_at timestamptz;
    claimed jsonb := '[]';
begin
    perform private.recover_outbound();

    -- A statement of its own: when the next one reads, everything that these rows waited for is
    -- settled.
    picked := private.lock_next_to_send(least(greatest(batch, 1), 100));
    for job in
        select
            m.id as message_id,
            w.id as whatsapp_channel_id,
            w.phone_number_id,
            pace.every,
            pace.burst,
            k.thread_key,
            k.customer_wa_id,
            k.group_id,
            m.account_id,
            m.conversation_id,
            m.type,
            m.message,
            m.content,
            parent.provider_id as reply_to,
            target.provider_id as reaction_to
        from public.messages m
        join public.conversations k
            on k.id = m.conversation_id
        join public.whatsapp_channels w
            on w.id = m.whatsapp_channel_id
        cross join lateral private.number_pace(w.messages_per_second) pace
        left join public.messages parent
            on parent.id = m.reply_to
           -- WhatsApp knows no answer to a call
           and parent.type <> 'call'
        left join public.messages target
            on target.conversation_id = m.conversation_id
           and target.type <> 'call'
           and target.id = case
               when m.type = 'reaction' and pg_input_is_valid(m.content ->> 'message_id', 'uuid')
                   then (m.content ->> 'message_id')::uuid
           end
        where m.id = any (picked)
        -- workers wait for each other's paces, so all take them in one order
        order by w.id, k.thread_key
    loop
        free_at := private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => '',
            every => job.every,
            burst => job.burst
        );
        if free_at is null then
            free_at := private.take_pace(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => job.thread_key,
                every => interval '6 seconds',
                burst => 45
            );
            if free_at is not null then
                perform private.give_back_pace(
                    whatsapp_channel_id => job.whatsapp_channel_id,
                    recipient => '',
                    every => job.every
                );
            end if;
        end if;
        if free_at is not null then
            update private.outbound_queue q
            set not_before = free_at
            where q.message_id = job.message_id;
            continue;
        end if;

        update private.outbound_queue q
        set state = 'leased',
            leased_until = clock_timestamp() + interval '60 seconds',
            worker = claim_outbound.worker
        where q.message_id = job.message_id;

        claimed := claimed || jsonb_build_object(
            'message_id', job.message_id,
            'account_id', job.account_id,
            'conversation_id', job.conversation_id,
            'phone_number_id', job.phone_number_id,
            'group_id', job.group_id,
            'wa_id', job.customer_wa_id,
            'user_id', case
                when job.thread_key like 'bsuid:%' then split_part(job.thread_key, ':', 2)
            end,
            'type', job.type,
            'text', job.message,
            'content', job.content,
            'reply_to', job.reply_to,
            'reaction_to', job.reaction_to
        );
    end loop;

    return jsonb_build_object(
        'claimed', claimed,
        -- the next time when there will be something to do, as far as is known now
        'next_at', private.next_send_at()
    );
end
$$;

grant execute on function backend.claim_outbound(text, integer) to service_role;


create function backend.begin_send(message_id uuid, worker text)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
    fault private.recipient_fault;
begin
    -- a message's row before its row in the queue, as in settle_send
    perform
    from public.messages m
    where m.id = begin_send.message_id
    for no key update;

    select
        q.state, q.whatsapp_channel_id, q.conversation_id, m.type,
        num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) > 0 as is_halted,
        c.deleted_at is not null as is_deleted
    into job
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    left join public.contacts c
        on c.id = m.customer_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    join public.accounts a
        on a.id = w.account_id
    where q.message_id = begin_send.message_id
      and q.worker = begin_send.worker
      and q.state in ('leased', 'sending')
      and q.leased_until > clock_timestamp()
    for update of q;
    if not found then
        return false;
    elsif job.state = 'sending' then
        -- The answer was lost, and the worker asks again: each name belongs to one claim.
        return true;
    end if;

    -- another message's answer has stopped the number meanwhile, or a person has paused it
    if job.is_halted then
        update private.outbound_queue q
        set state = 'queued',
            leased_until = null,
            worker = null
        where q.message_id = begin_send.message_id;
        return false;
    end if;

    if job.is_deleted then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => -2,
            details => 'The contact was deleted before the message was sent.',
            retry_after => null
        );
        return false;
    end if;

    -- the person may have stopped marketing messages since, or the group may be gone
    fault := (
        select private.recipient_fault(m)
        from public.messages m
        where m.id = begin_send.message_id
    );
    if fault.message is not null then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => fault.code,
            details => fault.message,
            retry_after => null
        );
        return false;
    end if;

    -- the window was open when it was written, but the number may have been stopped for days
    if job.type <> 'template'
        and coalesce(private.window_closes_at(job.conversation_id), '-infinity') <= now()
    then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => 131047,
            details => null,
            retry_after => null
        );
        return false;
    end if;

    update private.outbound_queue q
    set state = 'sending',
        attempts = q.attempts + 1,
        leased_until = clock_timestamp() + interval '60 seconds'
    where q.message_id = begin_send.message_id;
    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    select
        begin_send.message_id,
        coalesce(max(t.attempt), 0) + 1,
        job.whatsapp_channel_id
    from private.outbound_attempts t
    where t.message_id = begin_send.message_id;
    return true;
end
$$;

grant execute on function backend.begin_send(uuid, text) to service_role;


comment on function private.recover_outbound() is
    'Recovers the jobs of lost workers: back into the queue, or unknown where the call may have been made.';
comment on function private.settle_unknown(uuid) is
    'Notes that nobody knows whether a message was sent. A status or a person will settle it.';
comment on function backend.claim_outbound(text, integer) is
    'Leases messages that may go now, one for each conversation: {claimed: [{message_id, account_id, conversation_id, phone_number_id, group_id, wa_id, user_id, type, text, content, reply_to, reaction_to}], next_at}. reply_to and reaction_to are WhatsApp''s ids.';
comment on function backend.begin_send(uuid, text) is
    'Notes that the call is about to be made. False where it must not be made: another worker has the lease, the number was stopped or paused, the window has closed, the contact was deleted, the person stopped marketing messages, or the group no longer exists.';
