/*
    Joins parts that arrive separately, in any order: a message and its statuses, replies and
    effects. The second part finds the first. Two parts that arrive at the same time must not miss
    each other. So a transaction with a part whose message is missing takes the number's lock alone
    and looks again; transactions with messages share that lock.
*/
create function private.whatsapp_number_lock(whatsapp_channel_id uuid)
    returns bigint
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return hashtextextended('whatsapp ' || whatsapp_channel_id, 0);
end
$$;


create function private.take_whatsapp_number(number bigint)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
/*
    A transaction that waits for a lock blocks all later ones, even those that could share the lock
    with its holders. If a holder waits for a locked conversation, the whole number would stall. So
    this function does not wait at first, and waits for a moment only at the end, so that it gets
    its turn on a busy number. While it holds the number, everybody else waits for it, so it must
    give up soon.
*/
begin
    for attempt in 1 .. 20 loop
        if pg_try_advisory_xact_lock(number) then
            perform set_config('lock_timeout', '100ms', true);
            return true;
        end if;
        perform pg_sleep(0.01);
    end loop;
    perform set_config('lock_timeout', '50ms', true);
    perform pg_advisory_xact_lock(number);
    perform set_config('lock_timeout', '100ms', true);
    return true;
end
$$;


create function private.whatsapp_numbers_of(items private.whatsapp_item[], numbers bigint[])
    returns bigint[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    /*
        A notice takes locks before the senders of the batch's messages are known, and these
        messages lock their senders. Two such batches would wait for each other. A person's
        identities are the same on all numbers of an account, so a notice locks all of them.
    */
    return array(
        select n
        from unnest(numbers) n
        union
        select private.whatsapp_number_lock(w.id)
        from public.whatsapp_channels w
        where w.account_id in (
            select i.account_id
            from unnest(items) i
            where i.kind = 'system'
        )
        order by 1
    );
end
$$;


create function private.settle_messages(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.show_message_statuses(message_ids);
    perform private.show_message_effects(message_ids);
    perform private.attach_replies(message_ids);
end
$$;


create function private.messages_to_settle(items private.whatsapp_item[])
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    channel_ids uuid[];
    provider_ids text[];
begin
    -- the messages of statuses and effects, and messages that something has waited for
    select array_agg(i.whatsapp_channel_id), array_agg(
        case when i.kind = 'effect' then i.reply_to else i.provider_id end
    )
    into channel_ids, provider_ids
    from unnest(items) i
    where i.kind in ('status', 'effect', 'echo', 'group', 'history')
       or exists (
           select
           from private.message_effects e
           where e.whatsapp_channel_id = i.whatsapp_channel_id
             and e.parent_provider_id = i.provider_id
       );
    return array(
        select k.message_id
        from unnest(private.known_messages(channel_ids, provider_ids)) as k (message_id)
        union
        select m.id
        from unnest(items) i
        join public.messages m
            on m.id = i.message_ref
           and m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.sender_type <> 'client'
        union
        select p.message_id
        from unnest(items) i
        join private.parked_replies p
            on p.whatsapp_channel_id = i.whatsapp_channel_id
           and p.parent_provider_id = i.provider_id
        union
        -- and replies whose answered message is not known yet
        select m.id
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        where i.reply_to is not null
          and i.kind <> 'effect'
          and m.reply_to is null
    );
end
$$;


create function private.settle_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
begin
    -- the common case: a message for which nothing has waited
    perform
    from unnest(items) i
    left join lateral (
        select true as is_there
        from private.message_effects e
        where e.whatsapp_channel_id = i.whatsapp_channel_id
          and e.parent_provider_id = i.provider_id
        limit 1
    ) effect on true
    left join lateral (
        select true as is_there
        from private.parked_replies p
        where p.whatsapp_channel_id = i.whatsapp_channel_id
          and p.parent_provider_id = i.provider_id
        limit 1
    ) reply on true
    where i.kind in ('status', 'effect', 'echo', 'group', 'history')
       or i.reply_to is not null
       or effect.is_there
       or reply.is_there
    limit 1;
    if not found then
        return 0;
    end if;

    message_ids := array_remove(private.messages_to_settle(items), null);
    if message_ids = '{}' then
        return 0;
    end if;
    -- All at once: a second round would lock out of order.
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    perform private.park_replies(items);
    perform private.attach_named_messages(items);
    perform private.settle_messages(message_ids);
    return cardinality(message_ids);
end
$$;


create function private.settle_message_statuses(whatsapp_channel_ids uuid[], provider_ids text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids constant uuid[] := array(
        select message.id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        cross join lateral private.message_by_provider_id(
            whatsapp_channel_id => k.whatsapp_channel_id, provider_id => k.provider_id
        ) as message (id)
        where message.id is not null
        union
        select p.message_id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        join private.parked_replies p
            on p.whatsapp_channel_id = k.whatsapp_channel_id
           and p.parent_provider_id = k.provider_id
    );
begin
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;
    perform private.settle_messages(message_ids);
end
$$;


comment on function private.whatsapp_number_lock(uuid) is
    'The advisory lock of our number. Batches that bring messages share it; batches that miss a message, or bring notices, hold it alone.';
comment on function private.take_whatsapp_number(bigint) is
    'Takes a number''s lock alone, without stalling the transactions that share it. Raises lock_not_available (55P03) after a quarter of a second.';
comment on function private.whatsapp_numbers_of(private.whatsapp_item[], bigint[]) is
    'The locks of a batch''s numbers, and of the other numbers of accounts with notices, in order.';
comment on function private.settle_messages(uuid[]) is
    'Shows on messages, which are locked, everything that is known of them.';
comment on function private.messages_to_settle(private.whatsapp_item[]) is
    'The messages that a batch has news about, or that something has waited for.';
comment on function private.settle_whatsapp_items(private.whatsapp_item[]) is
    'Joins messages with their statuses, effects and replies, once a batch is kept. Returns the number of messages.';
comment on function private.settle_message_statuses(uuid[], text[]) is
    'The same for messages whose ids at WhatsApp have become known.';
