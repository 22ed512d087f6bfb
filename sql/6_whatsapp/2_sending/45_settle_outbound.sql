/*
    Settles the outcome of a call. The error's code decides the next step; a time-out is unknown. A
    message's row is locked before its row in the queue, here and where a status settles it.
*/
create function private.attach_provider_id(message_id uuid, provider_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    sent public.messages;
begin
    -- WhatsApp's answer or a status has told it already
    if exists (
        select
        from private.outbound_attempts t
        where t.message_id = attach_provider_id.message_id
          and t.provider_id = attach_provider_id.provider_id
    ) then
        return;
    end if;

    -- the running attempt, or else the latest one with an unknown outcome
    update private.outbound_attempts t
    set outcome = 'accepted',
        provider_id = attach_provider_id.provider_id,
        ended_at = coalesce(t.ended_at, clock_timestamp())
    where t.message_id = attach_provider_id.message_id
      and t.attempt = (
          select o.attempt
          from private.outbound_attempts o
          where o.message_id = attach_provider_id.message_id
            and coalesce(o.outcome, 'unknown') = 'unknown'
          order by (o.outcome is null) desc, o.attempt desc
          limit 1
      );
    delete from private.outbound_queue q
    where q.message_id = attach_provider_id.message_id;

    -- a message that a person had sent again, and that arrived after all, keeps its id
    update public.messages m
    set provider_id = attach_provider_id.provider_id,
        status = 'sent',
        sent_at = coalesce(m.sent_at, now()),
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = attach_provider_id.message_id
      and m.provider_id is null
    returning m.*
    into sent;

    -- statuses that arrived before the id was known
    if found then
        perform private.settle_message_statuses(
            whatsapp_channel_ids => array[sent.whatsapp_channel_id],
            provider_ids => array[attach_provider_id.provider_id]
        );
    end if;
end
$$;


create function private.refuse_send(
    message_id uuid,
    code integer,
    details text,
    retry_after interval
)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    rule private.send_errors;
    action text;
    next_at timestamptz;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = refuse_send.message_id;
    select e.*
    into rule
    from private.send_errors e
    where e.code = refuse_send.code;
    action := coalesce(rule.action, 'fail');
    if action = 'retry' and job.attempts >= 8 then
        action := 'fail';
    end if;

    update private.outbound_attempts t
    set outcome = 'refused',
        error_code = refuse_send.code,
        error_message = left(refuse_send.details, 500),
        ended_at = clock_timestamp()
    where t.message_id = refuse_send.message_id
      and t.outcome is null;

    if action = 'fail' then
        delete from private.outbound_queue q
        where q.message_id = refuse_send.message_id;
        update public.messages m
        set status = 'failed',
            failed_at = now(),
            error_code = refuse_send.code,
            error_message = coalesce(
                rule.sentence,
                nullif(left(refuse_send.details, 500), ''),
                format('WhatsApp refused the message with code %s.', refuse_send.code)
            )
        where m.id = refuse_send.message_id
          and m.status in ('queued', 'unknown');
        return action;
    end if;

    next_at := case action
        when 'retry' then clock_timestamp() + greatest(
            coalesce(retry_after, '0'),
            rule.wait * power(rule.factor, job.attempts - 1) * (0.8 + random() * 0.4)
        )
        else job.not_before
    end;
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        not_before = next_at
    where q.message_id = refuse_send.message_id;
    if rule.holds then
        perform private.hold_number(
            whatsapp_channel_id => job.whatsapp_channel_id, until => next_at);
    end if;
    if action = 'stop' then
        update public.whatsapp_channels w
        set stopped_at = now(),
            stopped_code = refuse_send.code,
            stopped_reason = rule.sentence
        where w.id = job.whatsapp_channel_id
          and w.stopped_at is null;
    end if;
    return action;
end
$$;


create function backend.settle_send(
    message_id uuid,
    worker text,
    outcome text,
    provider_id text default null,
    code integer default null,
    details text default null,
    retry_after integer default null
)
    returns text
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    -- a status, a reply or a reaction may be looking for the message at this moment
    if outcome = 'accepted' then
        perform pg_advisory_xact_lock_shared(private.whatsapp_number_lock(m.whatsapp_channel_id))
        from public.messages m
        where m.id = settle_send.message_id;
    end if;
    perform
    from public.messages m
    where m.id = settle_send.message_id
    for no key update;
    if not found then
        return 'gone';
    end if;

    if outcome not in ('accepted', 'refused', 'unknown') or outcome is null then
        raise sqlstate 'PT422' using
            message = 'There is no such outcome.',
            detail = 'field: outcome',
            hint = 'Use accepted, refused or unknown.';
    elsif outcome = 'accepted' and coalesce(settle_send.provider_id, '') = '' then
        raise sqlstate 'PT422' using
            message = 'An accepted message must have WhatsApp''s id.',
            detail = 'field: provider_id';
    elsif outcome = 'refused' and settle_send.code is null then
        raise sqlstate 'PT422' using
            message = 'A refused message must have a code.',
            detail = 'field: code';
    end if;

    -- acceptance is evidence, even if another worker has the lease by now
    if outcome = 'accepted' then
        perform private.attach_provider_id(
            message_id => settle_send.message_id, provider_id => settle_send.provider_id);
        return 'sent';
    end if;

    perform
    from private.outbound_queue q
    where q.message_id = settle_send.message_id
      and q.worker = settle_send.worker
      and q.state = 'sending'
    for update;
    if not found then
        return 'settled already';
    end if;
    if outcome = 'unknown' then
        perform private.settle_unknown(settle_send.message_id);
        return 'unknown';
    end if;
    return private.refuse_send(
        message_id => settle_send.message_id,
        code => settle_send.code,
        details => settle_send.details,
        retry_after => make_interval(secs => settle_send.retry_after)
    );
end
$$;

grant execute on function backend.settle_send(uuid, text, text, text, integer, text, integer)
    to service_role;


comment on function private.attach_provider_id(uuid, text) is
    'Notes the id under which WhatsApp took a message: the message is sent, and waiting statuses apply.';
comment on function private.refuse_send(uuid, integer, text, interval) is
    'Applies WhatsApp''s error to a message: retry, fail or stop, see private.send_errors. Returns which.';
comment on function backend.settle_send(uuid, text, text, text, integer, text, integer) is
    'Notes the outcome of a call: accepted with provider_id; refused with code, details and retry_after (seconds); or unknown. Returns the next step.';
