/*
    The way in: signature, raw webhook, and what was made of it.
*/
create function private.webhook_account(phone_number_id text, waba_id text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select w.account_id
            from public.whatsapp_channels w
            where w.phone_number_id = webhook_account.phone_number_id
        ),
        -- if several accounts name it, its owner is not known
        (
            select (array_agg(w.account_id))[1]
            from public.whatsapp_channels w
            where w.waba_id = webhook_account.waba_id
            having count(distinct w.account_id) = 1
        )
    );
end
$$;


create type private.kept_webhook as (
    id              bigint,
    received_at     timestamptz,
    deliveries      integer,
    phone_number_id text,
    waba_id         text,
    -- why the part that is meant could not be applied; null where it could
    reason          text
);


create function private.find_webhook(
    needle text,
    account_ids uuid[],
    since timestamptz,
    until timestamptz
)
    returns private.kept_webhook
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- a sender may escape a slash, so the bodies are searched for what stands before it
    piece constant text := '"' || split_part(needle, '/', 1);
    quoted constant text := to_jsonb(needle)::text;
    found_webhook private.kept_webhook;
begin
    with latest as materialized (
        select e.id, e.body, e.received_at, e.deliveries, e.rejected
        from private.webhook_events e
        where e.received_at between find_webhook.since and find_webhook.until
        order by e.received_at desc, e.id desc
        limit 20000
    ),
    near as materialized (
        select l.*
        from latest l
        where position(piece in l.body) > 0
        limit 1000
    )
    select n.id, n.received_at, n.deliveries, v.phone_number_id, v.waba_id, r.reason
    into found_webhook
    from near n
    -- the change that names it, as a whole value: not a text in which somebody wrote it
    cross join lateral (
        select i.waba_id, i.phone_number_id
        from jsonb_path_query(private.webhook_json(n.body), 'lax $.entry[*]') as e (entry)
        cross join lateral jsonb_path_query(e.entry, 'lax $.changes[*].value') as c (value)
        cross join lateral (
            select
                left(e.entry ->> 'id', 64) as waba_id,
                left(c.value #>> '{metadata,phone_number_id}', 64) as phone_number_id
        ) i
        where position(quoted in c.value::text) > 0
          and (
              account_ids is null
              or private.webhook_account(phone_number_id => i.phone_number_id, waba_id => i.waba_id)
                  = any (account_ids)
          )
        limit 1
    ) v
    left join lateral (
        select j.value ->> 'reason' as reason
        from jsonb_array_elements(n.rejected) as j (value)
        where j.value ->> 'provider_id' = needle
           or j.value ->> 'provider_id' is null
           -- a number names all of its messages
           or needle ~ '^[0-9]+$'
        order by j.value ->> 'provider_id' is null
        limit 1
    ) r
        on true
    order by n.received_at, n.id
    limit 1;
    return found_webhook;
end
$$;


create function private.signature_step(account_ids uuid[])
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    refused record;
begin
    select sum(r.count) as count, min(r.first_at) as since
    into refused
    from private.refused_signatures r
    where r.hour > now() - interval '1 day';
    if refused.count is null then
        return private.as_step('signature.none_refused', null);
    end if;
    -- of the accounts in question alone: the traffic of others is nobody's to know
    return case
        when exists (
            select
            from public.conversation_activity a
            join public.conversations k
                on k.id = a.conversation_id
            where k.channel = 'whatsapp'
              and a.last_inbound_at >= refused.since
              and (account_ids is null or a.account_id = any (account_ids))
        ) then private.as_step('signature.some_refused', null, to_jsonb(refused))
        else private.as_step('signature.refused', false, to_jsonb(refused))
    end;
end
$$;


create function private.number_step(whatsapp_channel_id uuid, is_for_sending boolean)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number public.whatsapp_channels;
    paused_at timestamptz;
    facts jsonb;
begin
    select w.*
    into number
    from public.whatsapp_channels w
    where w.id = number_step.whatsapp_channel_id;
    select least(a.paused_at, number.paused_at)
    into paused_at
    from public.accounts a
    where a.id = number.account_id;
    facts := jsonb_build_object(
        'whatsapp_channel_id', number.id,
        'phone_number_id', number.phone_number_id,
        'display_phone_number', number.display_phone_number,
        'stopped_at', number.stopped_at,
        'error_code', number.stopped_code,
        'reason', number.stopped_reason,
        'paused_at', paused_at
    );
    if is_for_sending and number.stopped_at is not null then
        return private.as_step('number.stopped', false, facts);
    elsif is_for_sending and paused_at is not null then
        return private.as_step('number.paused', false, facts);
    end if;
    return private.as_step('number.registered', true, facts);
end
$$;


create function private.rejection_step(reason text, facts jsonb)
    returns private.why_step
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return private.as_step(
        case
            when reason in ('unknown_phone_number_id', 'unknown_account')
                then 'read.unknown_phone_number_id'
            when reason = 'refused' then 'read.refused'
            else 'read.unhandled'
        end,
        false,
        facts || jsonb_build_object('reason', reason)
    );
end
$$;


create function private.webhook_facts(webhook private.kept_webhook, account_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        -- it counts the webhooks of all accounts
        'event_id', case when account_ids is null then webhook.id end,
        'received_at', webhook.received_at,
        'deliveries', webhook.deliveries,
        'phone_number_id', webhook.phone_number_id,
        'waba_id', webhook.waba_id
    );
end
$$;


-- The way of a message that is there.
create function private.received_steps(post public.messages, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- the same transaction has stored both
    webhook constant private.kept_webhook := private.find_webhook(
        needle => post.provider_id,
        account_ids => array[post.account_id],
        since => post.created_at,
        until => post.created_at
    );
begin
    return array[
        private.as_step('signature.good', true),
        case
            when webhook.id is not null then private.as_step(
                'stored.kept', true, private.webhook_facts(webhook, account_ids))
            else private.as_step(
                'stored.gone', true, jsonb_build_object('received_at', post.created_at))
        end,
        private.as_step('read.applied', true, jsonb_build_object('provider_id', post.provider_id)),
        private.number_step(post.whatsapp_channel_id, is_for_sending => false)
    ];
end
$$;


-- The way of what has not become a message or a contact.
create function private.missing_steps(needle text, is_number boolean, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    webhook constant private.kept_webhook := private.find_webhook(
        needle => needle,
        account_ids => account_ids,
        since => now() - interval '7 days',
        until => now()
    );
    facts constant jsonb := private.webhook_facts(webhook, account_ids);
    statuses text[];
    stored private.why_step[];
    number uuid;
begin
    if webhook.id is not null then
        stored := array[
            private.as_step('signature.good', true),
            private.as_step('stored.kept', true, facts)
        ];
    end if;
    if webhook.reason is not null then
        number := (
            select w.id
            from public.whatsapp_channels w
            where w.phone_number_id = webhook.phone_number_id
        );
        return stored
            || private.rejection_step(webhook.reason, facts)
            || case
                -- since then
                when number is not null then private.number_step(number, is_for_sending => false)
                else private.as_step('number.unknown', false, facts)
            end;
    end if;

    if not is_number then
        select array_agg(s.status order by s.at)
        into statuses
        from public.whatsapp_channels w
        join private.message_statuses s
            on s.whatsapp_channel_id = w.id
           and s.provider_id = needle
        where account_ids is null or w.account_id = any (account_ids);
        if statuses is not null then
            return coalesce(stored, array[private.as_step('signature.good', true)])
                || private.as_step(
                    'read.only_status', false, jsonb_build_object('status', statuses));
        end if;
    end if;
    if webhook.id is null then
        return array[
            private.signature_step(account_ids),
            private.as_step(case when is_number then 'stored.no_number' else 'stored.none' end, false)
        ];
    end if;
    return stored || case
        when is_number then private.as_step('read.no_contact', false, facts)
        else private.as_step('read.nothing', false, facts)
    end;
end
$$;


create function private.number_steps(whatsapp_channel_id uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number public.whatsapp_channels;
    rejected record;
    queued record;
    latest timestamptz;
begin
    select w.*
    into number
    from public.whatsapp_channels w
    where w.id = number_steps.whatsapp_channel_id;

    select sum(r.webhooks) as count, max(r.last_received_at) as last_at,
           array_agg(distinct r.reason) as reasons
    into rejected
    from private.rejected_webhooks r
    where r.account_id = number.account_id
      and r.phone_number_id = number.phone_number_id;

    select count(*) as count, min(m.created_at) as since
    into queued
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    where q.whatsapp_channel_id = number.id;

    latest := (
        select max(a.last_inbound_at)
        from public.conversations k
        join public.conversation_activity a
            on a.conversation_id = k.id
        where k.whatsapp_channel_id = number.id
    );

    return array[
        case when latest is null then private.signature_step(array[number.account_id])
            else private.as_step('signature.good', true) end,
        private.number_step(number.id, is_for_sending => true),
        case
            when rejected.count is null then private.as_step('rejected.none', true)
            else private.as_step('rejected.some', false, to_jsonb(rejected))
        end,
        case
            when latest is null then private.as_step(
                'received.none', null, jsonb_build_object('since', number.created_at))
            else private.as_step('received.latest', true, jsonb_build_object('at', latest))
        end,
        case
            when queued.count = 0 then private.as_step('queue.empty', true)
            when queued.since < now() - interval '5 minutes'
                then private.as_step('queue.late', false, to_jsonb(queued))
            else private.as_step('queue.moving', true, to_jsonb(queued))
        end
    ];
end
$$;


comment on function private.webhook_account(text, text) is
    'The account that a webhook is about: that of the registered number, or else the only one that names the WhatsApp Business account.';
comment on type private.kept_webhook is
    'A raw webhook that names something, and why that part of it could not be applied.';
comment on function private.find_webhook(text, uuid[], timestamptz, timestamptz) is
    'The first webhook among the latest 20,000 of a span of time that names a value, about the given accounts or any.';
comment on function private.signature_step(uuid[]) is
    'Whether webhooks were refused in the last day, and whether any has come since.';
comment on function private.number_step(uuid, boolean) is
    'Whether a number is registered and, for sending, not stopped.';
comment on function private.rejection_step(text, jsonb) is
    'Why a part of a webhook was not applied.';
comment on function private.webhook_facts(private.kept_webhook, uuid[]) is
    'What may be told of a webhook. Its id only where all accounts are asked about.';
comment on function private.received_steps(public.messages, uuid[]) is
    'The way in of a message that is there.';
comment on function private.missing_steps(text, boolean, uuid[]) is
    'The way in of a message or a number that is not there.';
comment on function private.number_steps(uuid) is
    'The state of a number of the account.';
