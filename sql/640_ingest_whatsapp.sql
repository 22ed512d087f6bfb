/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Only where a set fails is each
    update tried alone, and undone: what passes is applied as a set again.
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
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'message'),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'status')
    into messages, statuses
    from unnest(items) i;

    -- a status locks messages, so it comes after what locks conversations
    return private.apply_whatsapp_messages(messages) + private.apply_whatsapp_statuses(statuses);
end
$$;


create function private.separate_whatsapp_items(
    items jsonb,
    out good private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
declare
    item record;
    tried private.whatsapp_item[];
begin
    good := '{}';
    refused := '[]';
    for item in
        select i.value, i.ordinal - 1 as index
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    loop
        begin
            tried := private.read_whatsapp_items(jsonb_build_array(item.value));
            perform private.apply_whatsapp_items(tried);
            -- undoes it, and with it gives back the locks that it took out of order
            raise sqlstate 'RP001';
        exception
            when sqlstate 'RP001' then
                if cardinality(tried) = 1 then
                    tried[1].index := item.index;
                    good := good || tried;
                end if;
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                refused := refused || jsonb_build_object(
                    'index', item.index, 'reason', 'refused', 'detail', sqlstate || ' ' || sqlerrm);
        end;
    end loop;
end
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
    usable private.whatsapp_item[];
    applied integer;
    rejections jsonb := '[]';
begin
    insert into private.webhook_events as e (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do update
        set deliveries = e.deliveries + 1,
            last_received_at = now()
    returning id into event_id;

    begin
        usable := private.read_whatsapp_items(items);
        applied := private.apply_whatsapp_items(usable);
    exception
        -- contention is for the caller to repeat, whole
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            select s.good, s.refused
            into usable, rejections
            from private.separate_whatsapp_items(items) s;
            applied := private.apply_whatsapp_items(usable);
    end;

    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;

        update private.webhook_events e
        set rejected = rejections
        where e.id = event_id
          and e.rejected <> rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', applied,
        'duplicates', cardinality(usable) - applied,
        'rejected', (
            select coalesce(jsonb_agg(r.value - 'detail'), '[]')
            from jsonb_array_elements(rejections) r
        )
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[]) is
    'Applies updates as sets; returns how many were news.';
comment on function private.separate_whatsapp_items(jsonb) is
    'Tries each update alone and undoes it: those that pass, and why the others do not.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason}]}. Repeating it changes nothing.';
