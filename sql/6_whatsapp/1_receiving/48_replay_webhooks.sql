/*
    What a better parser makes of webhooks that were stored before. Every raw event is given
    to it again; what was not understood then is applied now, and messages that are there are
    shown as it would show them. Repeating a replay changes nothing.
*/
create function backend.span_of_webhook_events(since timestamptz, until timestamptz)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('events', count(*), 'first_id', min(e.id), 'last_id', max(e.id))
        from private.webhook_events e
        where e.received_at >= since
          and (until is null or e.received_at < until)
    );
end
$$;

grant execute on function backend.span_of_webhook_events(timestamptz, timestamptz) to service_role;


create function backend.read_webhook_events(
    after_id bigint,
    since timestamptz,
    until timestamptz,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    if page_size not between 1 and 1000 then
        raise sqlstate 'PT422' using
            message = 'A page has 1 to 1,000 events.',
            detail = 'field: page_size';
    end if;

    return (
        with page as (
            select e.id, e.body
            from private.webhook_events e
            where e.id > after_id
              and e.received_at >= since
              and (until is null or e.received_at < until)
            order by e.id
            limit page_size
        ),
        sized as (
            select p.*, sum(octet_length(p.body)) over (order by p.id) as bytes
            from page p
        )
        select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'body', s.body) order by s.id), '[]')
        from sized s
        -- a page of the largest bodies would be too much for the caller; one event is always given
        where s.bytes <= 4 * 1024 * 1024
           or s.bytes = octet_length(s.body)
    );
end
$$;

grant execute on function backend.read_webhook_events(bigint, timestamptz, timestamptz, integer)
    to service_role;


create function private.correct_whatsapp_messages(
    items private.whatsapp_item[],
    received_at timestamptz
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Only a webhook that was there when a message was made speaks of it: one that came later
    repeats it, perhaps in other words, and two that contradict each other would rewrite the
    message with every replay.
*/
declare
    wrong private.whatsapp_item[];
    ids uuid[];
    corrected integer;
begin
    select array_agg(d.item order by d.id), array_agg(d.id order by d.id)
    into wrong, ids
    from (
        -- the first of a webhook's own, as when it was applied
        select distinct on (k.id) k.id, i::private.whatsapp_item as item
        from unnest(items) i
        cross join lateral (
            select m.id, m.type, m.message, m.content
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
              and (
                  m.sender_type = 'client' and i.kind in ('message', 'system', 'group')
                  or m.sender_type = 'system' and i.kind = 'system'
                  -- from the phone app: what was written here names its operator
                  or m.sender_type = 'operator' and i.kind = 'echo' and m.sender_id is null
              )
              and m.created_at >= correct_whatsapp_messages.received_at
              -- else it would say again what was taken back
              and m.edited_at is null
              and m.revoked_at is null
            limit 1
        ) k
        order by k.id, i.index
    ) d
    join public.messages m
        on m.id = d.id
    where (m.type, m.message, m.content)
        is distinct from ((d.item).type, (d.item).text, (d.item).content);

    -- an update of no row would still run the table's triggers
    if ids is null then
        return 0;
    end if;

    perform
    from public.messages m
    where m.id = any (ids)
    order by m.id
    for no key update;

    update public.messages m
    set type = w.type,
        message = w.text,
        content = w.content
    from unnest(ids) with ordinality as n (id, place)
    cross join lateral (select (wrong[n.place]).*) w
    where m.id = n.id;

    get diagnostics corrected = row_count;

    -- a file that was not seen to be one
    perform private.expect_media(array(
        select m.id
        from public.messages m
        where m.id = any (ids)
          and exists (select from private.media_types t where t.type = m.type)
          and not exists (select from public.message_media f where f.message_id = m.id)
    ));
    return corrected;
end
$$;


create function backend.replay_webhook(event_id bigint, items jsonb, dry_run boolean default false)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
    -- as ingest_whatsapp has it
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
    set lock_timeout = '250ms'
as $$
declare
    received_at timestamptz;
    tried record;
    corrected integer;
begin
    -- a delivery of the same body waits
    select e.received_at
    into received_at
    from private.webhook_events e
    where e.id = event_id
      and e.provider = 'whatsapp'
    for no key update;

    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such webhook.',
            detail = 'field: event_id',
            hint = 'Raw events are deleted after a while; read them again.';
    end if;

    begin
        tried := private.try_whatsapp_items(items, received_at);
        tried.rejections := private.located_rejections(tried.rejections, items);
        corrected := private.correct_whatsapp_messages(tried.usable, received_at);

        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;

        if dry_run then
            raise sqlstate 'RP002';
        end if;
    exception
        -- what would happen has happened, and is undone
        when sqlstate 'RP002' then
            null;
    end;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'corrected', corrected,
        'rejected', private.shown_rejections(tried.rejections)
    );
end
$$;

grant execute on function backend.replay_webhook(bigint, jsonb, boolean) to service_role;


comment on function backend.span_of_webhook_events(timestamptz, timestamptz) is
    'How many raw events came in a span of time, and their ids: {events, first_id, last_id}.';
comment on function backend.read_webhook_events(bigint, timestamptz, timestamptz, integer) is
    'Raw events of a span of time after an id, in order of id: [{id, body}]; fewer than asked for where they are large, none at the end.';
comment on function private.correct_whatsapp_messages(private.whatsapp_item[], timestamptz) is
    'Shows messages as the updates of their webhook say, and has files fetched that they turn out to have; returns how many were changed.';
comment on function backend.replay_webhook(bigint, jsonb, boolean) is
    'Applies the items of a stored webhook anew: {event_id, applied, duplicates, corrected, rejected: [{index, reason, phone_number_id, waba_id}]}. Repeating it changes nothing; dry_run says what would change.';
