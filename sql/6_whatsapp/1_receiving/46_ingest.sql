/*
    A WhatsApp webhook: one event, one transaction, one call. First the raw body is kept. Then its
    updates are applied as sets, in the lock order. If a set fails, the bad updates are found, and
    the good ones are applied as a set again.
*/
create function private.apply_whatsapp_items(
    items private.whatsapp_item[],
    may_continue boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    whatsapp_channel_id uuid;
    number bigint;
    numbers bigint[] := '{}';
    parent text;
    parents text[] := '{}';
    parent_channels uuid[] := '{}';
    alone boolean := false;
    has_news boolean := false;
    has_people boolean := false;
    has_threads boolean := false;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
    is_locked boolean;
    settled integer;
begin
    -- a loop of expressions is cheaper than starting a statement
    foreach item in array items loop
        if item.whatsapp_channel_id is distinct from whatsapp_channel_id then
            whatsapp_channel_id := item.whatsapp_channel_id;
            number := private.whatsapp_number_lock(whatsapp_channel_id);
            if number <> all (numbers) then
                numbers := numbers || number;
            end if;
        end if;
        parent := case
            -- a notice that is not known yet takes the lock alone too, see whatsapp_numbers_of
            when item.kind in ('status', 'system') then item.provider_id
            else item.reply_to
        end;
        if parent is not null then
            parents := parents || parent;
            parent_channels := parent_channels || whatsapp_channel_id;
        end if;
        if item.kind not in ('message', 'echo', 'system') then
            has_news := true;
            has_people := has_people or item.kind in ('marketing_choice', 'phone_book', 'history');
            has_threads := has_threads or item.kind in ('call', 'group', 'group_event', 'history');
        end if;
    end loop;
    if parents <> '{}' then
        alone := array_position(private.known_messages(parent_channels, parents), null) is not null;
    end if;

    -- this lock comes before all others; everybody takes those under it, in one order
    if alone then
        numbers := private.whatsapp_numbers_of(items, numbers);
    elsif cardinality(numbers) > 1 then
        numbers := array(select n from unnest(numbers) n order by n);
    end if;
    foreach number in array numbers loop
        -- here and elsewhere: an assignment calls a function, perform runs a statement for it
        if alone then
            is_locked := private.take_whatsapp_number(number);
        else
            is_locked := pg_advisory_xact_lock_shared(number) is not null;
        end if;
    end loop;

    if has_news then
        applied := private.keep_whatsapp_news(items);
        if has_people then
            applied := applied + private.apply_whatsapp_people(items);
        end if;
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system', 'history')
        );
    end if;
    if cardinality(messages) > 0 then
        applied := applied
            + private.apply_whatsapp_messages(messages, may_continue, settles => not has_news);
    end if;
    if has_news then
        if has_threads then
            applied := applied + private.apply_whatsapp_threads(items);
        end if;
        -- this locks messages, so it comes once, after all locks of conversations
        settled := private.settle_whatsapp_items(items);
        if current_setting('rapport.broadcast_later', true) = 'on' then
            perform private.tell_at_once(items);
        end if;
    end if;
    return applied;
end
$$;


create function private.keep_whatsapp_news(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    statuses private.whatsapp_item[];
    effects private.whatsapp_item[];
    events private.whatsapp_item[];
begin
    if not exists (
        select
        from unnest(items) i
        where i.kind in ('status', 'effect', 'account_event')
    ) then
        return 0;
    end if;
    select
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'status'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'effect'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'account_event')
    into statuses, effects, events
    from unnest(items) i;

    return private.keep_whatsapp_statuses(statuses)
        + private.keep_whatsapp_effects(effects)
        + private.keep_account_events(events);
end
$$;


/*
    Rare updates must not slow messages down. They have functions of their own, called only where a
    batch has such updates.
*/
create function private.apply_whatsapp_people(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    choices private.whatsapp_item[];
    entries private.whatsapp_item[];
    past private.whatsapp_item[];
    applied integer := 0;
begin
    select
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'marketing_choice'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'phone_book'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'history')
    into choices, entries, past
    from unnest(items) i;

    if num_nonnulls(entries, past) > 0 then
        -- hundreds at once, and none is new to anybody: one broadcast at the end
        perform set_config('rapport.broadcast_later', 'on', true);
    end if;
    if choices is not null then
        applied := applied + private.apply_marketing_choices(choices);
    end if;
    if entries is not null then
        applied := applied + private.apply_phone_book(entries);
    end if;
    if past is not null then
        perform private.keep_history_statuses(past);
    end if;
    return applied;
end
$$;


create function private.apply_whatsapp_threads(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    calls private.whatsapp_item[];
    groups private.whatsapp_item[];
    past private.whatsapp_item[];
    applied integer := 0;
begin
    select
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'call'),
        array_agg(i::private.whatsapp_item order by i.index)
            filter (where i.kind in ('group', 'group_event')),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'history')
    into calls, groups, past
    from unnest(items) i;

    if calls is not null then
        applied := applied + private.apply_whatsapp_calls(calls);
    end if;
    if groups is not null then
        applied := applied + private.apply_whatsapp_groups(groups);
    end if;
    if past is not null then
        applied := applied + private.complete_history(past);
    end if;
    return applied;
end
$$;


create function private.try_whatsapp_items(
    items jsonb,
    came_at timestamptz,
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
    may_continue boolean := true;
begin
    rejections := '[]';
    -- one block for reading and applying, since each block is a subtransaction
    loop
        begin
            if usable is null then
                usable := private.read_whatsapp_items(items, came_at);
            end if;
            applied := private.apply_whatsapp_items(usable, may_continue);
            exit;
        exception
            -- the fast path failed; it is undone
            when sqlstate 'RP003' then
                may_continue := false;
            -- on contention the caller repeats the whole call
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                if usable is null then
                    select r.readable, r.refused
                    into usable, rejections
                    from private.readable_whatsapp_items(items, came_at) r;
                else
                    select a.applicable, a.refused
                    into usable, refused
                    from private.applicable_whatsapp_items(usable) a;
                    rejections := rejections || refused;
                    applied := private.apply_whatsapp_items(usable, false);
                    exit;
                end if;
        end;
    end loop;

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select coalesce(jsonb_agg(r.value order by r.value -> 'index'), '[]')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;


create function private.located_rejections(rejections jsonb, items jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if rejections = '[]' then
        return rejections;
    end if;
    return (
        select jsonb_agg(
            r.value || jsonb_strip_nulls(jsonb_build_object(
                'phone_number_id', items -> (r.value ->> 'index')::integer -> 'phone_number_id',
                'waba_id', items -> (r.value ->> 'index')::integer -> 'waba_id',
                'provider_id', items -> (r.value ->> 'index')::integer -> 'provider_id'
            ))
            order by r.ordinal
        )
        from jsonb_array_elements(rejections) with ordinality as r (value, ordinal)
    );
end
$$;


create function private.shown_rejections(rejections jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- The usual case. Where a query is part of an expression, it costs a statement.
    if rejections = '[]' then
        return rejections;
    end if;
    return (
        select jsonb_agg(r.value - array['detail', 'provider_id'])
        from jsonb_array_elements(rejections) r
    );
end
$$;


create function backend.ingest_whatsapp(body text, items jsonb)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Rows are looked up by key, a few at a time. One plan serves all calls; a plan made while the
    -- tables were empty would not.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the planner's penalty for disabled scans must not look like work worth compiling
    set jit = off
    -- a waiting webhook holds a connection that other tenants need: it gives up and comes again
    set lock_timeout = '250ms'
as $$
declare
    event_id bigint;
    came_at timestamptz := now();
    is_cut boolean := false;
    kept record;
    tried record;
    rejected jsonb := '[]';
begin
    kept := private.without_erased(body => body, items => items);
    -- A second delivery of the same body is rare, so it has a statement of its own.
    insert into private.webhook_events (provider, body, body_sha256, is_cut)
    values (
        'whatsapp', kept.body, sha256(convert_to(ingest_whatsapp.body, 'UTF8')), kept.erased > 0)
    on conflict (provider, body_sha256) do nothing
    returning id into event_id;
    if event_id is null then
        update private.webhook_events e
        set deliveries = e.deliveries + 1,
            last_received_at = now()
        where e.provider = 'whatsapp'
          and e.body_sha256 = sha256(convert_to(ingest_whatsapp.body, 'UTF8'))
        returning e.id, e.received_at, e.is_cut into event_id, came_at, is_cut;
    end if;
    if event_id is null then
        -- pruned in between
        raise sqlstate '40001' using
            message = 'The event was deleted while it was delivered again.',
            hint = 'Try again.';
    elsif is_cut then
        -- a person was erased since: the updates would bring that person back
        return jsonb_build_object(
            'event_id', event_id,
            'applied', 0,
            'duplicates', jsonb_array_length(items),
            'rejected', '[]'::jsonb
        );
    end if;

    tried := private.try_whatsapp_items(kept.items, came_at);

    if tried.rejections <> '[]' then
        tried.rejections := private.located_rejections(tried.rejections, kept.items);
        rejected := private.shown_rejections(tried.rejections);
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates + kept.erased,
        'rejected', rejected
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[], boolean) is
    'Applies updates as sets. Returns the number of new ones. With the fast path, for open threads only, it raises RP003 where that does not work for all.';
comment on function private.apply_whatsapp_people(private.whatsapp_item[]) is
    'Applies updates about people: marketing choices, the phone book, and the history''s statuses of our messages. Returns the number of new ones.';
comment on function private.apply_whatsapp_threads(private.whatsapp_item[]) is
    'Applies calls, groups, and files of the phone app''s history. Returns the number of new ones.';
comment on function private.keep_whatsapp_news(private.whatsapp_item[]) is
    'Keeps updates that are not messages: statuses, effects, events. Returns the number of new ones.';
comment on function private.try_whatsapp_items(jsonb, timestamptz) is
    'Applies the updates of a call as far as possible: the numbers of new and known ones, the updates left out and why, and the updates that were new.';
comment on function private.located_rejections(jsonb, jsonb) is
    'The rejections of a call''s items with their phone_number_id, waba_id and provider_id, where the items give these.';
comment on function private.shown_rejections(jsonb) is
    'Rejections as the caller is told them: without their details, which may hold a customer''s data, and without WhatsApp''s ids.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason, phone_number_id, waba_id}]}. Repeating it changes nothing.';
