/*
    Redriving: what failed is put back by a person's choice, once its cause is mended. Everything is
    looked at first, and what can't be put back is counted by its reason:

        uncertain        WhatsApp may have it: it is sent again on request only
        too_early        its outcome may still come by itself
        dropped          a person has withdrawn or dropped it
        not_ours         it came from WhatsApp or from the phone app
        contact_deleted  its contact was deleted
        window_closed    it is no template, and WhatsApp's window is closed
        rests            WhatsApp would refuse it again today

    A message that is put back is queued, so a second redrive does not find it.
*/
create function private.redrive_obstacle(failed public.messages, uncertain boolean)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- an attempt before the last one may have arrived as well
    is_uncertain constant boolean := failed.status = 'unknown' or exists (
        select
        from private.outbound_attempts t
        where t.message_id = failed.id
          and coalesce(t.outcome, 'unknown') = 'unknown'
    );
begin
    return case
        when failed.sender_type = 'client'
            or failed.whatsapp_channel_id is null
            or failed.provider_id is not null and not exists (
                select
                from private.outbound_attempts t
                where t.message_id = failed.id
            )
            then 'not_ours'
        -- every other failure has a code
        when failed.status = 'failed' and failed.error_code is null then 'dropped'
        when exists (
            select
            from public.contacts c
            where c.id = failed.customer_id
              and c.deleted_at is not null
        ) then 'contact_deleted'
        when failed.type <> 'template'
            and coalesce(private.window_closes_at(failed.conversation_id), '-infinity') <= now()
            then 'window_closed'
        when failed.failed_at > now() - (
            select e.rest
            from private.send_errors e
            where e.code = failed.error_code
        ) then 'rests'
        when is_uncertain and not uncertain then 'uncertain'
        when failed.status = 'unknown' and exists (
            select
            from private.outbound_attempts t
            where t.message_id = failed.id
              and t.ended_at > now() - interval '2 minutes'
        ) then 'too_early'
    end;
end
$$;


create function backend.redrive_messages(
    account text default null,
    message_id uuid default null,
    since timestamptz default null,
    uncertain boolean default false,
    dry_run boolean default true,
    -- what the call before answered
    after uuid default null,
    batch integer default 200
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    candidates uuid[];
    failed public.messages;
    obstacle text;
    good uuid[] := '{}';
    left_out jsonb := '{}';
begin
    candidates := array(
        select f.message_id
        from private.message_failures f
        where (owner_id is null or f.account_id = owner_id)
          and (redrive_messages.message_id is null or f.message_id = redrive_messages.message_id)
          and (since is null or f.failed_at >= since)
          and (after is null or f.message_id > after)
        order by f.message_id
        limit least(greatest(batch, 1), 1000)
    );
    for failed in
        select m.*
        from public.messages m
        where m.id = any (candidates)
          and m.status in ('failed', 'unknown')
        order by m.id
        for no key update
    loop
        obstacle := private.redrive_obstacle(failed => failed, uncertain => uncertain);
        if obstacle is null then
            good := good || failed.id;
        else
            left_out := left_out || jsonb_build_object(
                obstacle, coalesce((left_out ->> obstacle)::integer, 0) + 1);
        end if;
    end loop;

    if not dry_run and good <> '{}' then
        update public.messages m
        set status = 'queued',
            -- the earlier attempts keep their ids
            provider_id = null,
            failed_at = null,
            error_code = null,
            error_message = null
        where m.id = any (good);
        perform private.enqueue_messages(good);
    end if;
    return jsonb_build_object(
        'redriven', cardinality(good),
        'left_out', left_out,
        'after', case
            when cardinality(candidates) = least(greatest(batch, 1), 1000)
                then candidates[cardinality(candidates)]
        end
    );
end
$$;

grant execute on function backend.redrive_messages(
    text, uuid, timestamptz, boolean, boolean, uuid, integer
) to service_role;


create function backend.redrive_notifications(account text default null, dry_run boolean default true)
    returns integer
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    waiting uuid[];
begin
    -- a push that a worker has is being sent; one that was refused for good is forgotten
    waiting := array(
        select q.id
        from private.push_queue q
        join public.push_subscriptions s
            on s.id = q.subscription_id
        where q.worker is null
          and greatest(q.not_before, s.not_before) > clock_timestamp()
          and (owner_id is null or q.account_id = owner_id)
        order by q.id
    );
    if not dry_run and waiting <> '{}' then
        -- the device before its pushes, as in settle_push
        with devices as (
            select s.id
            from public.push_subscriptions s
            where s.id in (
                select q.subscription_id
                from private.push_queue q
                where q.id = any (waiting)
            )
            order by s.id
            for no key update
        )
        update public.push_subscriptions s
        set not_before = clock_timestamp()
        from devices d
        where s.id = d.id
          and s.not_before > clock_timestamp();
        update private.push_queue q
        set not_before = clock_timestamp()
        where q.id = any (waiting)
          and q.worker is null;
        perform private.ring('send_notifications');
    end if;
    return cardinality(waiting);
end
$$;

grant execute on function backend.redrive_notifications(text, boolean) to service_role;


create function backend.redrive_files(
    account text default null,
    message_id uuid default null,
    since timestamptz default null,
    dry_run boolean default true
)
    returns integer
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    failed uuid[];
begin
    failed := array(
        select f.id
        from public.message_media f
        where f.state = 'failed'
          and f.provider_id is not null
          and (owner_id is null or f.account_id = owner_id)
          and (redrive_files.message_id is null or f.message_id = redrive_files.message_id)
          and (since is null or f.created_at >= since)
          -- WhatsApp keeps a file for 7 days
          and f.created_at > now() - interval '7 days'
        order by f.id
        limit 1000
        for no key update skip locked
    );
    if not dry_run and failed <> '{}' then
        insert into private.media_queue as q (media_id, expires_at)
        select f.id, private.media_expires_at(m.sent_at)
        from public.message_media f
        join public.messages m
            on m.id = f.message_id
        where f.id = any (failed)
        on conflict on constraint media_queue_pkey do nothing;
        update public.message_media f
        set state = 'pending',
            error = null
        where f.id = any (failed);
        perform private.ring('fetch_media');
    end if;
    return cardinality(failed);
end
$$;

grant execute on function backend.redrive_files(text, uuid, timestamptz, boolean) to service_role;


/*
    Stored webhooks of which some update could not be applied. The account is that of the numbers and
    the WhatsApp Business accounts which the rejections name.
*/
create function backend.rejected_webhooks(
    after_id bigint,
    page_size integer,
    account text default null,
    event_id bigint default null,
    since timestamptz default null
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
begin
    return (
        with page as (
            select e.id, e.body
            from private.webhook_events e
            where e.rejected <> '[]'
              and e.id > after_id
              and (rejected_webhooks.event_id is null or e.id = rejected_webhooks.event_id)
              and (since is null or e.received_at >= since)
              and (
                  owner_id is null
                  or exists (
                      select
                      from jsonb_array_elements(e.rejected) r
                      join public.whatsapp_channels w
                          on w.phone_number_id = r.value ->> 'phone_number_id'
                          or w.waba_id = r.value ->> 'waba_id'
                      where w.account_id = owner_id
                  )
              )
            order by e.id
            limit least(greatest(page_size, 1), 1000)
        ),
        sized as (
            select p.*, sum(octet_length(p.body)) over (order by p.id) as bytes
            from page p
        )
        select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'body', s.body) order by s.id), '[]')
        from sized s
        -- as read_webhook_events
        where s.bytes <= 4 * 1024 * 1024
           or s.bytes = octet_length(s.body)
    );
end
$$;

grant execute on function backend.rejected_webhooks(bigint, integer, text, bigint, timestamptz)
    to service_role;


create function backend.numbers_of(account text)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(account);
begin
    return (
        select jsonb_build_object(
            'phone_number_ids', coalesce(jsonb_agg(w.phone_number_id), '[]'),
            'waba_ids', coalesce(jsonb_agg(distinct w.waba_id) filter (where w.waba_id is not null), '[]')
        )
        from public.whatsapp_channels w
        where w.account_id = owner_id
    );
end
$$;

grant execute on function backend.numbers_of(text) to service_role;


comment on function private.redrive_obstacle(public.messages, boolean) is
    'Why a message that failed, or may have, can''t be sent again; null where it can.';
comment on function backend.redrive_messages(
    text, uuid, timestamptz, boolean, boolean, uuid, integer
) is
    'Queues messages of the last 30 days again that failed, and with uncertain those that WhatsApp may have: {redriven, left_out: {reason: number}, after}. With dry_run it only counts. Call it again with after until that is null.';
comment on function backend.redrive_notifications(text, boolean) is
    'Lets notifications go now that wait for another try; returns their number. With dry_run it only counts.';
comment on function backend.redrive_files(text, uuid, timestamptz, boolean) is
    'Has files of the last 7 days fetched again that failed, 1,000 at most; returns their number. With dry_run it only counts.';
comment on function backend.rejected_webhooks(bigint, integer, text, bigint, timestamptz) is
    'The raw events after an id with updates that could not be applied, in the order of id: [{id, body}]. None at the end.';
comment on function backend.numbers_of(text) is
    'The ids by which webhooks name an account: {phone_number_ids, waba_ids}.';
