/*
    The conversation of each WhatsApp message: found or opened, and locked. The lock order is
    that of claim_whatsapp_senders.
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
    -- replies go to the number in the spelling of its latest message
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
    -- Others may open or close a thread between two statements, so look again.
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
                  -- neither a notice from WhatsApp nor an old message of the history opens a
                  -- conversation again
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
        -- an open thread stays with its customer, even if the number has another owner now
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
            -- a sender known by number may have written with the user id alone before
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
    The common case in one statement: all senders are known under their present names and spellings,
    and have an open conversation. Returns null, and locks nothing, where that is not so for all.
    Raises RP003 where it is no longer so once they are locked. All those locks must then go, even
    of rows that are not used, since the next steps begin with identities.

    Measured in alternating rounds: without it, ingesting a message takes 19% longer (Postgres works
    25% more).

    It also finds out whether anything has waited for one of the messages, or one may have to wait.
*/
declare
    found_count integer;
    locked_count integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, even if the planner
    -- assumes wrong table sizes
    select
        -- an open thread stays with its customer, even if the number has another owner now
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
          -- otherwise nothing is locked
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
    'Notes the present spelling of customers'' numbers on conversations, which are locked.';
comment on function private.placed_whatsapp_item(private.whatsapp_item, uuid, uuid) is
    'A message with its conversation and the conversation''s contact.';
comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the open conversations of messages, if all messages have one. Says whether the messages must be settled.';
