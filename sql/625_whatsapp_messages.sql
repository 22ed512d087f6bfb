/*
    Messages that customers send by WhatsApp, a batch at a time, into their conversations.
    The order of locks is that of 620_whatsapp_senders.
*/
create function private.keep_whatsapp_spelling(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    threads uuid[];
    spellings text[];
begin
    -- replies go to the number as its latest message spells it
    select array_agg(l.conversation_id), array_agg(l.wa_id)
    into threads, spellings
    from (
        select distinct on (i.conversation_id) i.conversation_id, i.wa_id, i.sent_at
        from unnest(items) i
        where i.wa_id is not null
        order by i.conversation_id, i.sent_at desc, i.provider_id desc
    ) l
    cross join lateral (
        select c.customer_wa_id, a.last_inbound_at
        from public.conversations c
        join public.conversation_activity a
            on a.conversation_id = c.id
        where c.id = l.conversation_id
        limit 1
    ) thread
    where thread.customer_wa_id is distinct from l.wa_id
      and (thread.last_inbound_at is null or thread.last_inbound_at <= l.sent_at);

    -- an update of no row would still run the table's triggers
    if threads is not null then
        update public.conversations c
        set customer_wa_id = s.wa_id
        from unnest(threads, spellings) as s (id, wa_id)
        where c.id = s.id;
    end if;
end
$$;


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
            select i as item, c.id, c.customer_id
            from unnest(items) i
            cross join lateral (
                select t.id
                from public.conversations t
                where t.whatsapp_channel_id = i.whatsapp_channel_id
                  and t.account_id = i.account_id
                  and t.thread_key = i.identity_kind || ':' || i.identity_key
                  and t.channel = 'whatsapp'
                  and t.status <> 'closed'
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and c.status <> 'closed'
            order by c.id
            for no key update of c
        )
        select array_agg(
            jsonb_populate_record(t.item, jsonb_build_object(
                'conversation_id', t.id,
                -- whoever owns the number now, an open thread stays with its customer
                'contact_id', t.customer_id
            ))
        )
        into found_items
        from threads t;

        if cardinality(found_items) = cardinality(items) then
            perform private.keep_whatsapp_spelling(found_items);
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
        where (
            select true
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
            limit 1
        ) is null
        order by i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key
        on conflict (
            whatsapp_channel_id,
            account_id,
            thread_key,
            channel,
            (case when status = 'closed' then id end)
        ) do nothing;
    end loop;

    raise sqlstate '40001' using
        message = 'Conversations were closed as fast as they were opened.',
        hint = 'Try again.';
end
$$;


create function private.continue_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in two statements: everybody is known, by the name and the spelling that
    they give, and has an open conversation. Null where that is not so of all; no lock has been taken then,
    but for those of conversations that were closed a moment ago.
*/
declare
    found_items private.whatsapp_item[];
    threads uuid[];
    locked integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, whatever the
    -- planner thinks of the tables' sizes
    found_items := array(
        select jsonb_populate_record(i, jsonb_build_object(
            'conversation_id', thread.id,
            -- whoever owns the number now, an open thread stays with its customer
            'contact_id', thread.customer_id
        ))
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
        cross join lateral (
            select c.id
            from public.contacts c
            where c.id = owner.contact_id
              and (i.profile_name is null or c.profile_name = i.profile_name)
            limit 1
        ) named
        cross join lateral (
            select t.id, t.customer_id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        where i.user_id is null
           or i.identity_kind = 'bsuid'
           or (
               select true
               from public.contact_identities u
               where u.account_id = i.account_id
                 and u.kind = 'bsuid'
                 and u.match_key = i.user_id
               limit 1
           )
    );
    if cardinality(found_items) < cardinality(items) then
        return null;
    end if;

    threads := array(select distinct i.conversation_id from unnest(found_items) i);
    perform
    from public.conversations t
    where t.id = any (threads)
      and t.status <> 'closed'
    order by t.id
    for no key update;
    get diagnostics locked = row_count;

    if locked < cardinality(threads) then
        return null;
    end if;
    return found_items;
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
        where (
            select true
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
            limit 1
        ) is null
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
            thread.last_seq + f.place,
            'client',
            coalesce(f.wa_id, f.user_id),
            f.profile_name,
            f.type,
            f.text,
            f.content,
            (
                select parent.id
                from public.messages parent
                where parent.whatsapp_channel_id = f.whatsapp_channel_id
                  and parent.provider_id = f.reply_to
                  and parent.conversation_id = f.conversation_id
                limit 1
            ),
            f.whatsapp_channel_id,
            f.provider_id,
            'delivered',
            f.sent_at
        from fresh f
        cross join lateral (
            select a.last_seq
            from public.conversation_activity a
            where a.conversation_id = f.conversation_id
            limit 1
        ) thread
        order by f.conversation_id, f.place
        returning conversation_id, sent_at
    ),
    latest as (
        select r.conversation_id, count(*) as added, max(r.sent_at) as sent_at
        from appended_rows r
        group by r.conversation_id
    ),
    counted as (
        update public.conversation_activity a
        set last_seq = a.last_seq + l.added,
            -- the first message's time, however old it is, replaces the conversation's own
            last_message_at = case
                when a.last_seq = 0 then l.sent_at
                else greatest(a.last_message_at, l.sent_at)
            end,
            last_inbound_at = greatest(a.last_inbound_at, l.sent_at)
        from latest l
        where a.conversation_id = l.conversation_id
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
    placed private.whatsapp_item[];
begin
    -- a repeated delivery ends here, having locked and written nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where (
        select true
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
        limit 1
    ) is null;
    if fresh is null then
        return 0;
    end if;

    placed := private.continue_whatsapp_threads(fresh);
    if placed is null then
        fresh := private.claim_whatsapp_senders(fresh);
        perform private.name_whatsapp_senders(fresh);
        placed := private.open_whatsapp_threads(fresh);
    end if;
    return private.append_whatsapp_messages(placed);
end
$$;


comment on function private.keep_whatsapp_spelling(private.whatsapp_item[]) is
    'Notes on conversations, which are locked, how their customers'' numbers are spelt now.';
comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the conversations of messages, if all of them have one.';
comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts what is new; returns how many.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[]) is
    'Everything that follows from a batch of received messages; returns how many were new.';
