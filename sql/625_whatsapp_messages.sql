/*
    Messages that customers send by WhatsApp, a batch at a time, into their conversations.
    The order of locks is that of 620_whatsapp_senders.
*/
create function private.open_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
declare
    found_items private.whatsapp_item[];
begin
    -- a thread may be opened or closed by others between two statements: look again
    for attempt in 1 .. 4 loop
        with threads as materialized (
            select c.*
            from public.conversations c
            where c.channel = 'whatsapp'
              and c.status <> 'closed'
              and (c.whatsapp_channel_id, c.account_id, c.thread_key) in (
                  select i.whatsapp_channel_id, i.account_id, i.identity_kind || ':' || i.identity_key
                  from unnest(items) i
              )
            order by c.id
            for no key update
        )
        select array_agg(
            jsonb_populate_record(i, jsonb_build_object(
                'conversation_id', t.id,
                -- whoever owns the number now, an open thread stays with its customer
                'contact_id', t.customer_id
            ))
            order by i.index
        )
        into found_items
        from unnest(items) i
        join threads t
            on t.account_id = i.account_id
           and t.whatsapp_channel_id = i.whatsapp_channel_id
           and t.thread_key = i.identity_kind || ':' || i.identity_key;

        if cardinality(found_items) = cardinality(items) then
            return found_items;
        end if;

        insert into public.conversations (
            account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id
        )
        select distinct on (i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key)
            i.account_id,
            i.contact_id,
            'whatsapp',
            i.whatsapp_channel_id,
            i.identity_kind || ':' || i.identity_key,
            i.wa_id
        from unnest(items) i
        where not exists (
            select
            from public.conversations c
            where c.account_id = i.account_id
              and c.channel = 'whatsapp'
              and c.whatsapp_channel_id = i.whatsapp_channel_id
              and c.thread_key = i.identity_kind || ':' || i.identity_key
              and c.status <> 'closed'
        )
        order by i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key
        on conflict (account_id, channel, whatsapp_channel_id, thread_key)
            where status <> 'closed'
            do nothing;
    end loop;

    raise sqlstate '40001' using
        message = 'Conversations were closed as fast as they were opened.',
        hint = 'Try again.';
end
$$;


create function private.append_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    appended integer;
begin
    -- the conversations are locked: nobody else numbers messages in them
    with fresh as materialized (
        select
            i.*,
            row_number() over (
                partition by i.conversation_id
                order by i.sent_at, i.provider_id
            ) as place
        from unnest(items) i
        where not exists (
            select
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
        )
    ),
    appended_rows as (
        insert into public.messages (
            account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name,
            type, message, content, reply_to, whatsapp_channel_id, provider_id, status, sent_at
        )
        select
            f.account_id,
            f.conversation_id,
            f.contact_id,
            c.last_seq + f.place,
            'client',
            coalesce(f.wa_id, f.user_id),
            f.profile_name,
            f.type,
            f.text,
            f.content,
            parent.id,
            f.whatsapp_channel_id,
            f.provider_id,
            'delivered',
            f.sent_at
        from fresh f
        join public.conversations c
            on c.id = f.conversation_id
        left join public.messages parent
            on parent.whatsapp_channel_id = f.whatsapp_channel_id
           and parent.provider_id = f.reply_to
           and parent.conversation_id = f.conversation_id
        order by f.conversation_id, f.place
        returning conversation_id, sent_at
    ),
    latest as (
        select r.conversation_id, count(*) as added, max(r.sent_at) as sent_at
        from appended_rows r
        group by r.conversation_id
    ),
    counted as (
        update public.conversations c
        set last_seq = c.last_seq + l.added,
            last_message_at = greatest(c.last_message_at, l.sent_at),
            last_inbound_at = greatest(c.last_inbound_at, l.sent_at)
        from latest l
        where c.id = l.conversation_id
        returning l.added
    )
    select coalesce(sum(n.added), 0)
    into appended
    from counted n;

    return appended;
end
$$;


create function private.apply_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    fresh private.whatsapp_item[];
begin
    -- a repeated delivery ends here, having locked and written nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where not exists (
        select
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
    );
    if fresh is null then
        return 0;
    end if;

    fresh := private.claim_whatsapp_senders(fresh);
    perform private.name_whatsapp_senders(fresh);
    return private.append_whatsapp_messages(private.open_whatsapp_threads(fresh));
end
$$;


comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts what is new; returns how many.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[]) is
    'Everything that follows from a batch of received messages; returns how many were new.';
