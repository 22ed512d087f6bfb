/*
    The conversation of each WhatsApp message: found or opened, and locked. The order of locks
    is that of whatsapp_senders.
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
          and i.kind <> 'echo'
          and i.sender_type is distinct from 'operator'
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


create function private.placed_whatsapp_item(
    item private.whatsapp_item,
    conversation_id uuid,
    contact_id uuid
)
    returns private.whatsapp_item
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    item.conversation_id := placed_whatsapp_item.conversation_id;
    item.contact_id := placed_whatsapp_item.contact_id;
    return item;
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
                  -- a notice of WhatsApp's is no reason to open a conversation again, and neither
                  -- is what was said long ago
                  and (t.status <> 'closed' or i.kind in ('system', 'history'))
                order by t.status = 'closed', t.created_at desc, t.id
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and (c.status <> 'closed' or (i).kind in ('system', 'history'))
            order by c.id
            for no key update of c
        )
        -- whoever owns the number now, an open thread stays with its customer
        select array_agg(private.placed_whatsapp_item(t.item, t.id, t.customer_id))
        into found_items
        from threads t;

        if cardinality(found_items) = cardinality(items) then
            perform private.keep_whatsapp_spelling(found_items);
            return found_items;
        end if;

        insert into public.conversations (
            account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id,
            status
        )
        select distinct on (i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key)
            i.account_id,
            i.contact_id,
            'whatsapp',
            i.whatsapp_channel_id,
            i.identity_kind || ':' || i.identity_key,
            i.wa_id,
            case i.kind when 'history' then 'closed' else 'open' end
        from unnest(items) i
        where (
            select true
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and (t.status <> 'closed' or i.kind in ('system', 'history'))
            limit 1
        ) is null
        order by
            i.account_id,
            i.whatsapp_channel_id,
            i.identity_kind,
            i.identity_key,
            -- who is known by number may have written with the user id alone as well
            i.wa_id is null,
            i.sent_at desc,
            i.provider_id desc
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


create function private.continue_whatsapp_threads(
    items private.whatsapp_item[],
    out placed private.whatsapp_item[],
    out to_settle boolean
)
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in one statement: everybody is known, by the names and the spelling that
    they give, and has an open conversation. Null, and nothing locked, where that is not so of
    all; RP003 where it no longer is when they are locked. Those locks must then go, also of rows
    that are passed over: what follows begins with identities.

    In passing: whether anything has waited for one of them, or one may have to wait.
*/
declare
    found_count integer;
    locked_count integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, whatever the
    -- planner thinks of the tables' sizes
    select
        -- whoever owns the number now, an open thread stays with its customer
        array_agg(private.placed_whatsapp_item(f.item, c.id, c.customer_id)),
        coalesce(bool_or(f.to_settle), false),
        count(f.id),
        count(c.id)
    into placed, to_settle, found_count, locked_count
    from (
        select
            i as item,
            thread.id,
            i.reply_to is not null
                or i.kind = 'echo'
                or effect.is_there
                or reply.is_there as to_settle,
            count(*) over () as found_count
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
            select k.id
            from public.contacts k
            where k.id = owner.contact_id
              and (i.profile_name is null or k.profile_name = i.profile_name)
              and (i.username is null or k.username = i.username)
            limit 1
        ) named
        cross join lateral (
            select t.id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = coalesce(
                  'phone:' || case when i.identity_kind = 'bsuid' then
                      private.number_of_contact_user(
                          account_id => i.account_id,
                          user_id => i.user_id,
                          contact_id => owner.contact_id
                      )
                  end,
                  i.identity_kind || ':' || i.identity_key
              )
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        left join lateral (
            select u.contact_id
            from public.contact_identities u
            where u.account_id = i.account_id
              and u.kind = 'bsuid'
              and u.match_key = i.user_id
            limit 1
        ) by_user on true
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
        where i.kind in ('message', 'echo')
          and (
              i.user_id is null
              or i.identity_kind = 'bsuid'
              or by_user.contact_id = owner.contact_id
              and i.identity_key = private.number_of_user(
                  account_id => i.account_id, user_id => i.user_id)
          )
        order by thread.id
    ) f
    left join lateral (
        select k.id, k.customer_id
        from public.conversations k
        where k.id = f.id
          and k.status <> 'closed'
          -- or nothing is locked
          and f.found_count = cardinality(items)
        for no key update
    ) c on true;

    if found_count < cardinality(items) then
        placed := null;
    elsif locked_count < found_count then
        raise sqlstate 'RP003';
    end if;
end
$$;


comment on function private.keep_whatsapp_spelling(private.whatsapp_item[]) is
    'Notes on conversations, which are locked, how their customers'' numbers are spelt now.';
comment on function private.placed_whatsapp_item(private.whatsapp_item, uuid, uuid) is
    'A message with its conversation and the contact with whom that is held.';
comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the open conversations of messages, if all of them have one; says whether they are to be settled.';
