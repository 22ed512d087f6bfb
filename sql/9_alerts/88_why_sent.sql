/*
    The way out: a message of ours from its writing to WhatsApp's reports, and one that is to be
    sent later.
*/
create function private.error_facts(code integer, reason text, at timestamptz)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'error_code', code,
        'reason', left(coalesce(
            (select e.sentence from private.send_errors e where e.code = error_facts.code),
            reason
        ), 500),
        'at', at
    );
end
$$;


create function private.queued_steps(post public.messages)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    earlier uuid;
    last_try private.outbound_attempts;
    since jsonb;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = post.id;
    if not found then
        return array[private.as_step('queued.lost', false)];
    elsif job.state <> 'queued' then
        return array[
            private.as_step('queued.done', true),
            private.as_step('claimed.now', true, jsonb_build_object('until', job.leased_until)),
            private.as_step('sent.running', null)
        ];
    end if;

    earlier := (
        select q.message_id
        from private.outbound_queue q
        where q.conversation_id = job.conversation_id
          and q.seq < job.seq
        order by q.seq
        limit 1
    );
    if earlier is not null then
        return array[private.as_step(
            'queued.behind', false, jsonb_build_object('message_id', earlier))];
    end if;

    select t.*
    into last_try
    from private.outbound_attempts t
    where t.message_id = post.id
      and t.outcome = 'refused'
    order by t.attempt desc
    limit 1;
    if found and job.attempts > 0 and job.not_before > now() then
        return array[private.as_step(
            'queued.again',
            false,
            private.error_facts(last_try.error_code, last_try.error_message, last_try.ended_at)
                || jsonb_build_object('next_at', job.not_before, 'attempt', job.attempts + 1)
        )];
    end if;
    -- tried again: it waits since that time
    since := jsonb_build_object('since', greatest(post.created_at, least(job.not_before, now())));
    return array[
        private.as_step('queued.waiting', true, since),
        case
            when post.created_at < now() - interval '5 minutes'
                and job.not_before < now() - interval '5 minutes'
                then private.as_step('claimed.nobody', false, since)
            else private.as_step('claimed.soon', null)
        end
    ];
end
$$;


create function private.sent_steps(post public.messages)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    steps private.why_step[];
    last_try timestamptz;
begin
    if post.status = 'queued' then
        return private.queued_steps(post);
    end if;

    last_try := (
        select max(t.begun_at)
        from private.outbound_attempts t
        where t.message_id = post.id
    );
    if last_try is null and post.provider_id is null and post.status = 'failed' then
        return array[private.as_step(
            'sent.failed',
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        )];
    end if;
    steps := array[private.as_step('queued.done', true), private.as_step('claimed.done', true)];
    if post.status = 'unknown' then
        return steps || private.as_step(
            'sent.unknown', false, jsonb_build_object('at', last_try));
    elsif post.status = 'failed' and post.provider_id is null then
        return steps || private.as_step(
            case when post.error_code is null then 'sent.failed' else 'sent.refused' end,
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        );
    end if;

    steps := steps || private.as_step('sent.accepted', true, jsonb_build_object(
        -- sent_at is the clock of WhatsApp's report, which may come without a call of ours
        'at', coalesce(
            (
                select max(t.ended_at)
                from private.outbound_attempts t
                where t.message_id = post.id
                  and t.outcome = 'accepted'
            ),
            last_try,
            post.sent_at,
            post.created_at
        ),
        'provider_id', post.provider_id
    ));
    return steps || case
        when post.status = 'failed' then private.as_step(
            'receipts.failed',
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        )
        when post.read_at is not null
            then private.as_step('receipts.read', true, jsonb_build_object('at', post.read_at))
        when post.delivered_at is not null then private.as_step(
            'receipts.delivered', true, jsonb_build_object('at', post.delivered_at))
        else private.as_step('receipts.none', null)
    end;
end
$$;


create function private.written_step(at timestamptz, name text)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.as_step('written.by', true, jsonb_build_object('at', at, 'name', name));
end
$$;


create function private.later_steps(later_id uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    later public.scheduled_messages;
begin
    select l.*
    into later
    from public.scheduled_messages l
    where l.id = later_id;
    return array[
        private.written_step(later.created_at, later.author_name),
        case later.status
            when 'cancelled' then private.as_step('later.cancelled', false)
            when 'failed' then private.as_step(
                'later.failed', false, jsonb_build_object('reason', later.error_message))
            else private.as_step(
                case
                    when later.send_at < now() - interval '5 minutes' then 'later.overdue'
                    else 'later.waiting'
                end,
                false,
                jsonb_build_object('send_at', later.send_at)
            )
        end
    ];
end
$$;


comment on function private.error_facts(integer, text, timestamptz) is
    'An error of WhatsApp: its code, and the sentence of the code or the given one.';
comment on function private.queued_steps(public.messages) is
    'Where a message that is to be sent stands: in the queue, behind another one, with a worker.';
comment on function private.sent_steps(public.messages) is
    'The way out of a message of ours on WhatsApp, from the queue on.';
comment on function private.written_step(timestamptz, text) is
    'Who wrote a message, and when.';
comment on function private.later_steps(uuid) is
    'Where a message stands that is to be sent later.';
