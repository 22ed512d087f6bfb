/*
    Reads stored webhooks again with a better parser. Updates that it could not read before are
    applied now, and existing messages are shown as it reads them. Repeating a replay changes
    nothing.
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
        -- A page of the largest bodies would be too much for the caller. At least one event is
        -- returned.
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
    Only a webhook that existed when a message was made may change the message. A later webhook
    repeats it, perhaps in other words. Two that contradict each other would rewrite the message in
    each replay.
*/
declare
    wrong private.whatsapp_item[];
    ids uuid[];
    corrected integer;
begin
    select array_agg(d.item order by d.id), array_agg(d.id order by d.id)
    into wrong, ids
    from (
        -- the webhook's first item about the message, as in the first application
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
                  -- from the phone app: a message written here names its operator
                  or m.sender_type = 'operator' and i.kind = 'echo' and m.sender_id is null
              )
              and m.created_at >= correct_whatsapp_messages.received_at
              -- otherwise it would bring back text that was edited or deleted
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

    -- a file that the earlier parser did not see
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
    -- as in ingest_whatsapp
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
    -- another delivery of the same body waits
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
            hint = 'Raw events are deleted after a while. Read the list of events again.';
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
        -- the changes have been made, and are undone
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
    'The number of raw events in a span of time, and their ids: {events, first_id, last_id}.';
comment on function backend.read_webhook_events(bigint, timestamptz, timestamptz, integer) is
    'The raw events of a span of time after an id, in the order of id: [{id, body}]. Fewer than asked for if they are large; none at the end.';
comment on function private.correct_whatsapp_messages(private.whatsapp_item[], timestamptz) is
    'Shows messages as the updates of their webhook say, and has newly found files fetched. Returns the number of changed messages.';
comment on function backend.replay_webhook(bigint, jsonb, boolean) is
    'Applies the items of a stored webhook again: {event_id, applied, duplicates, corrected, rejected: [{index, reason, phone_number_id, waba_id}]}. Repeating it changes nothing. With dry_run it only says what would change.';
