/*
    What comes in two parts, in whatever order: a message and its statuses, its replies, what is
    done to it. Whichever comes second finds the first. So that neither of two that come at the
    same time misses the other, whoever brings a part without its message has the number for
    himself, and looks again; whoever brings messages shares it.
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
    Whoever waits for a lock has all behind him that come later, also those that could share it
    with its holders: a holder that waits for a locked conversation would stall the number. So
    this stands aside, and queues for a moment in the end, lest it never had its turn on a
    busy number. What it waits for while it has the number, all others of it wait for: it gives
    way soon.
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
        A notice locks what it changes before it is known who is meant by the batch's messages,
        and these lock their senders: two such batches would wait for each other. Who somebody is
        is the same on all numbers of an account, so it has all of them.
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
begin
    return array(
        -- what a status or an effect is about, and what something has waited for
        select private.message_by_provider_id(
            whatsapp_channel_id => i.whatsapp_channel_id,
            provider_id => case when i.kind = 'effect' then i.reply_to else i.provider_id end
        )
        from unnest(items) i
        where i.kind in ('status', 'effect', 'echo', 'group', 'history')
           or exists (
               select
               from private.message_effects e
               where e.whatsapp_channel_id = i.whatsapp_channel_id
                 and e.parent_provider_id = i.provider_id
           )
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
        -- and replies that do not say yet what they answer
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
    -- all of them at once: a second round would lock out of order
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
    'The advisory lock of a number of ours: shared by what brings messages, exclusive for what misses one and for notices.';
comment on function private.take_whatsapp_number(bigint) is
    'Takes a number''s lock for oneself, without stalling those who share it; lock_not_available (55P03) after a quarter of a second.';
comment on function private.whatsapp_numbers_of(private.whatsapp_item[], bigint[]) is
    'The locks of a batch''s numbers, and of the other numbers of accounts that notices are for, in order.';
comment on function private.settle_messages(uuid[]) is
    'Shows on messages, which are locked, all that is known of them.';
comment on function private.messages_to_settle(private.whatsapp_item[]) is
    'The messages of which a batch brings news, or which have been waited for.';
comment on function private.settle_whatsapp_items(private.whatsapp_item[]) is
    'Brings together what belongs together, after a batch''s messages, statuses and effects are kept; returns of how many messages.';
comment on function private.settle_message_statuses(uuid[], text[]) is
    'The same for messages whose ids at WhatsApp have become known.';
