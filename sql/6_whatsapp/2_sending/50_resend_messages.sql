/*
    Where there is no evidence, a person decides: send the message again, or drop it.
*/
create function private.message_to_decide(message_id uuid)
    returns public.messages
    language plpgsql
    set search_path = ''
as $$
declare
    found_message public.messages;
begin
    select m.*
    into found_message
    from public.messages m
    where m.id = message_id
      and m.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;
    perform private.require_writable(found_message.account_id);

    if found_message.whatsapp_channel_id is null
        or found_message.sender_type = 'client'
        or found_message.status not in ('failed', 'unknown')
        -- it was sent from the phone app
        or (
            found_message.provider_id is not null
            and not exists (
                select
                from private.outbound_attempts t
                where t.message_id = found_message.id
            )
        )
    then
        raise sqlstate 'PT409' using
            message = 'This message can''t be sent again or dropped.',
            detail = format('field: status; status: %s', found_message.status),
            hint = 'Only a message that is queued, failed or unknown can.';
    elsif found_message.status = 'unknown' and exists (
        select
        from private.outbound_attempts t
        where t.message_id = found_message.id
          and t.ended_at > now() - interval '2 minutes'
    ) then
        raise sqlstate 'PT409' using
            message = 'It is not certain yet whether this message was sent.',
            detail = 'field: status; status: unknown',
            hint = 'Try again two minutes after the attempt.';
    end if;
    return found_message;
end
$$;


create function private.withdraw_message(message_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select m.account_id
    into account
    from public.messages m
    where m.id = withdraw_message.message_id
      and m.account_id in (select private.my_account_ids())
      and m.status = 'queued'
    for no key update;
    if not found then
        return false;
    end if;
    perform private.require_writable(account);

    -- a worker that has leased it checks once more before the call, and waits for the message
    delete from private.outbound_queue q
    where q.message_id = withdraw_message.message_id
      and q.state <> 'sending';
    if not found then
        return false;
    end if;
    update public.messages m
    set status = 'failed',
        failed_at = now(),
        error_message = 'The message was withdrawn before it was sent.'
    where m.id = withdraw_message.message_id;
    return true;
end
$$;


create function private.decide_message(message_id uuid, decision text)
    returns void
    language plpgsql
    -- definer: users may not write the queue; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    decided public.messages;
    rest interval;
begin
    if decision = 'drop' and private.withdraw_message(message_id) then
        return;
    end if;

    decided := private.message_to_decide(message_id);
    if decision = 'drop' then
        update public.messages m
        set status = 'failed',
            failed_at = coalesce(m.failed_at, now()),
            error_message = coalesce(m.error_message, 'It is not known whether the message was sent. It was not sent again.')
        where m.id = decided.id;
        return;
    end if;

    select e.rest
    into rest
    from private.send_errors e
    where e.code = decided.error_code;
    if decided.failed_at > now() - rest then
        raise sqlstate 'PT409' using
            message = 'WhatsApp would refuse this message again.',
            detail = 'field: error_code',
            hint = format(
                'Wait until %s.',
                private.local_time(decided.account_id, decided.failed_at + rest)
            );
    elsif exists (select from public.contacts c where c.id = decided.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this message was deleted.',
            detail = 'field: message_id',
            hint = 'Drop the message.';
    elsif decided.type <> 'template'
        and coalesce(private.window_closes_at(decided.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    end if;
    update public.messages m
    set status = 'queued',
        -- the earlier attempts keep their ids
        provider_id = null,
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = decided.id;
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (decided.id, decided.whatsapp_channel_id, decided.conversation_id, decided.seq);
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.decide_message(uuid, text) to authenticated;


create function public.resend_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => resend_message.message_id, decision => 'resend')
$$;

grant execute on function public.resend_message(uuid) to authenticated;


create function public.drop_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => drop_message.message_id, decision => 'drop')
$$;

grant execute on function public.drop_message(uuid) to authenticated;


create function private.resume_number(channel_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write numbers; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    account uuid;
begin
    select w.account_id
    into account
    from public.whatsapp_channels w
    where w.id = channel_id
      and w.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such number, or it is not yours to see.',
            detail = format('channel: %s', channel_id);
    end if;
    perform private.require_writable(account);

    update public.whatsapp_channels w
    set stopped_at = null,
        stopped_code = null,
        stopped_reason = null
    where w.id = channel_id
      and w.stopped_at is not null;
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.resume_number(uuid) to authenticated;


create function public.resume_channel(channel_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.resume_number(resume_channel.channel_id)
$$;

grant execute on function public.resume_channel(uuid) to authenticated;


comment on function private.message_to_decide(uuid) is
    'Locks a message that a person may send again or drop. Refuses other messages.';
comment on function private.withdraw_message(uuid) is
    'Takes a message out of the queue that no worker has begun to send. False where there is none.';
comment on function private.decide_message(uuid, text) is
    'Queues a failed or unknown message again, or drops it.';
comment on function public.resend_message(uuid) is
    'Sends a message again that has failed, or whose outcome is unknown for two minutes. It is a new attempt of the same message.';
comment on function public.drop_message(uuid) is
    'Drops a message that waits, or whose outcome is unknown: it is not sent again.';
comment on function private.resume_number(uuid) is
    'Lets a stopped number send again.';
comment on function public.resume_channel(uuid) is
    'Lets a stopped WhatsApp number send again. First fix the problem in stopped_reason.';
