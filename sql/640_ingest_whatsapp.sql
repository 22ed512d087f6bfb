/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Only where a set fails is each
    update looked at alone, and what passes is applied as a set again.
*/
create function private.apply_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    messages private.whatsapp_item[];
    statuses private.whatsapp_item[];
begin
    select
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind <> 'status'),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'status')
    into messages, statuses
    from unnest(items) i;

    -- a status locks messages, so it comes after what locks conversations
    return private.apply_whatsapp_messages(messages) + private.apply_whatsapp_statuses(statuses);
end
$$;


create function private.readable_whatsapp_items(
    items jsonb,
    out readable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Reads each update alone, where reading them as a set fails.
*/
declare
    item record;
    read private.whatsapp_item[];
begin
    readable := '{}';
    refused := '[]';
    for item in
        select i.value, i.ordinal - 1 as index
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    loop
        begin
            read := private.read_whatsapp_items(jsonb_build_array(item.value));
            if cardinality(read) = 1 then
                read[1].index := item.index;
                readable := readable || read;
            end if;
        exception
            when others then
                refused := refused || private.refusal(item.index, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;


create function private.applicable_whatsapp_items(
    items private.whatsapp_item[],
    out applicable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Tries each update alone and undoes it, where applying them as a set fails. What passes is
    to be applied as a set: one by one, locks would be taken out of order.
*/
declare
    item private.whatsapp_item;
begin
    applicable := '{}';
    refused := '[]';
    foreach item in array items loop
        begin
            perform private.apply_whatsapp_items(array[item]);
            raise sqlstate 'RP001';
        exception
            when sqlstate 'RP001' then
                applicable := applicable || item;
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                refused := refused || private.refusal(item.index, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;


create function private.refusal(index bigint, code text, message text)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select jsonb_build_object(
        'index', index, 'reason', 'refused', 'detail', code || ' ' || message)
$$;


create function private.left_out_whatsapp_items(items jsonb)
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'index', i.ordinal - 1,
                'reason', coalesce(i.value ->> 'reason', 'unknown_phone_number_id'),
                'detail', i.value ->> 'detail')
            order by i.ordinal),
        '[]')
    from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    where i.value ->> 'kind' = 'skipped'
       or not exists (
           select
           from public.whatsapp_channels w
           where w.phone_number_id = i.value ->> 'phone_number_id'
       )
$$;


create function private.try_whatsapp_items(
    items jsonb,
    out applied integer,
    out duplicates integer,
    out rejections jsonb,
    out usable private.whatsapp_item[]
)
    language plpgsql
    set search_path = ''
as $$
declare
    refused jsonb;
begin
    rejections := '[]';
    begin
        usable := private.read_whatsapp_items(items);
    exception
        when others then
            select r.readable, r.refused
            into usable, rejections
            from private.readable_whatsapp_items(items) r;
    end;

    begin
        applied := private.apply_whatsapp_items(usable);
    exception
        -- contention is for the caller to repeat, whole
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            select a.applicable, a.refused
            into usable, refused
            from private.applicable_whatsapp_items(usable) a;
            rejections := rejections || refused;
            applied := private.apply_whatsapp_items(usable);
    end;

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;


create function private.shown_rejections(rejections jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select coalesce(jsonb_agg(r.value - 'detail'), '[]')
    from jsonb_array_elements(rejections) r
$$;


create function backend.ingest_whatsapp(body text, items jsonb)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    event_id bigint;
    tried record;
begin
    insert into private.webhook_events as e (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do update
        set deliveries = e.deliveries + 1,
            last_received_at = now()
    returning id into event_id;

    tried := private.try_whatsapp_items(items);

    if tried.rejections <> '[]' then
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'rejected', private.shown_rejections(tried.rejections)
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[]) is
    'Applies updates as sets; returns how many were news.';
comment on function private.readable_whatsapp_items(jsonb) is
    'The updates that can be read, and why the others can not.';
comment on function private.applicable_whatsapp_items(private.whatsapp_item[]) is
    'The updates that can be applied, and why the others can not.';
comment on function private.refusal(bigint, text, text) is
    'Why an update was refused: {index, reason, detail}, the detail beginning with the SQLSTATE.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';
comment on function private.try_whatsapp_items(jsonb) is
    'Applies what can be applied of a call: how many updates were news, how many not, what was left out and why, and those that were not.';
comment on function private.shown_rejections(jsonb) is
    'Rejections without their details, which may hold a customer''s data.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason}]}. Repeating it changes nothing.';
