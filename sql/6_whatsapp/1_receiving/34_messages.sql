/*
    Puts messages into their conversations, a batch at a time: from customers, from our phone app
    (echoes) and from WhatsApp itself.
*/
create function private.message_by_provider_id(whatsapp_channel_id uuid, provider_id text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select m.id
            from public.messages m
            where m.whatsapp_channel_id = message_by_provider_id.whatsapp_channel_id
              and m.provider_id = message_by_provider_id.provider_id
        ),
        -- the id of an earlier attempt to send it
        (
            select t.message_id
            from private.outbound_attempts t
            where t.whatsapp_channel_id = message_by_provider_id.whatsapp_channel_id
              and t.provider_id = message_by_provider_id.provider_id
        )
    );
end
$$;


create function private.known_messages(whatsapp_channel_ids uuid[], provider_ids text[])
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- The same for many in one statement: called for each of 1,000 statuses, and of the echoes
    -- before them, the function above was 8 % of the work.
    return array(
        select coalesce(
            (
                select m.id
                from public.messages m
                where m.whatsapp_channel_id = k.whatsapp_channel_id
                  and m.provider_id = k.provider_id
            ),
            (
                select t.message_id
                from private.outbound_attempts t
                where t.whatsapp_channel_id = k.whatsapp_channel_id
                  and t.provider_id = k.provider_id
            )
        )
        from unnest(whatsapp_channel_ids, provider_ids)
            with ordinality as k (whatsapp_channel_id, provider_id, place)
        order by k.place
    );
end
$$;


create function private.answered_message(
    conversation_id uuid,
    whatsapp_channel_id uuid,
    provider_id text
)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a customer reads nothing of another conversation, not even that a message exists
    return (
        select m.id
        from public.messages m
        where m.id = private.message_by_provider_id(
                whatsapp_channel_id => answered_message.whatsapp_channel_id,
                provider_id => answered_message.provider_id
            )
          and m.conversation_id = answered_message.conversation_id
    );
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
    -- The conversations are locked: nobody else numbers messages in them. post_messages and
    -- post_notices number theirs in the same way, see conversation_activity.last_seq.
    with fresh as materialized (
        select
            i.account_id,
            i.conversation_id,
            i.contact_id,
            i.kind,
            i.sender_type,
            i.sender_id,
            i.wa_id,
            i.user_id,
            i.profile_name,
            i.type,
            i.text,
            i.content,
            i.reply_to,
            i.whatsapp_channel_id,
            i.provider_id,
            i.sent_at,
            row_number() over (
                partition by i.conversation_id
                order by i.sent_at, i.provider_id
            ) as place
        from unnest(items) i
        left join lateral (
            select true as is_there
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
            limit 1
        ) known on true
        where known.is_there is null
    ),
    latest as (
        select
            f.conversation_id,
            count(*) as added,
            max(f.sent_at) as sent_at,
            max(f.sent_at) filter (
                where f.kind = 'message'
                   or f.kind = 'group' and f.sender_type = 'client'
            ) as inbound_at
        from fresh f
        group by f.conversation_id
    ),
    counted as (
        update public.conversation_activity a
        set last_seq = a.last_seq + l.added,
            -- the first message's time replaces the conversation's own, even if it is older
            last_message_at = case
                when a.last_seq = 0 then l.sent_at
                else greatest(a.last_message_at, l.sent_at)
            end,
            last_inbound_at = greatest(a.last_inbound_at, l.inbound_at)
        from latest l
        where a.conversation_id = l.conversation_id
        returning a.conversation_id, a.last_seq - l.added as last_seq
    )
    insert into public.messages (
        account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name,
        type, message, content, reply_to, whatsapp_channel_id, provider_id, status, sent_at,
        is_history
    )
    select
        f.account_id,
        f.conversation_id,
        f.contact_id,
        c.last_seq + f.place,
        case f.kind
            when 'message' then 'client'
            when 'system' then 'system'
            when 'echo' then 'operator'
            else f.sender_type
        end,
        case f.kind when 'message' then coalesce(f.wa_id, f.user_id) else f.sender_id end,
        f.profile_name,
        f.type,
        f.text,
        f.content,
        case when f.reply_to is not null then private.answered_message(
            conversation_id => f.conversation_id,
            whatsapp_channel_id => f.whatsapp_channel_id,
            provider_id => f.reply_to
        ) end,
        f.whatsapp_channel_id,
        f.provider_id,
        -- later statuses update an echo
        case when f.kind = 'echo' or f.sender_type = 'operator' then 'sent' else 'delivered' end,
        f.sent_at,
        f.kind = 'history'
    from fresh f
    join counted c
        on c.conversation_id = f.conversation_id
    -- in the order of seq, so that the log has the same order
    order by f.conversation_id, f.sent_at, f.provider_id;

    get diagnostics appended = row_count;
    return appended;
end
$$;


create function private.apply_whatsapp_messages(
    items private.whatsapp_item[],
    may_continue boolean,
    settles boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    continued record;
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    usernames private.username_change[] := '{}';
    has_notices boolean;
    may_be_two boolean;
    has_usernames boolean;
    learnt private.learnt_number[] := '{}';
    applied integer;
    settled integer;
begin
    if may_continue then
        continued := private.continue_whatsapp_threads(items);
        if continued.placed is not null then
            applied := private.append_whatsapp_messages(continued.placed);
            if settles and continued.to_settle then
                settled := private.settle_whatsapp_items(items);
            end if;
            return applied;
        end if;
    end if;

    -- a repeated delivery ends here, and has locked and written nothing
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

    select
        bool_or(i.kind = 'system'),
        bool_or(i.user_id is not null or i.kind = 'system'),
        bool_or(i.username is not null)
    into has_notices, may_be_two, has_usernames
    from unnest(fresh) i;

    -- identities
    if has_notices then
        fresh := private.relink_whatsapp_senders(fresh);
    end if;
    fresh := private.claim_whatsapp_senders(fresh);
    if has_usernames then
        usernames := private.claim_whatsapp_usernames(fresh);
    end if;
    if may_be_two then
        learnt := private.learn_user_numbers(fresh);
    end if;

    -- contacts
    if has_notices or cardinality(usernames) > 0 or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_contacts(fresh, usernames);
    end if;
    perform private.name_whatsapp_senders(fresh, usernames);
    if cardinality(usernames) > 0 then
        perform private.write_whatsapp_usernames(usernames);
    end if;
    perform private.write_learnt_phones(learnt);

    -- conversations
    if has_notices then
        perform private.move_whatsapp_phones(fresh);
    end if;
    placed := private.follow_numbers(fresh);
    if has_notices or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_threads(placed);
    end if;
    if has_notices then
        perform private.move_whatsapp_threads(fresh);
    end if;
    if cardinality(learnt) > 0 then
        perform private.move_learnt_threads(learnt);
    end if;
    placed := private.open_whatsapp_threads(placed);

    if may_be_two then
        perform private.suggest_same_senders(fresh);
    end if;
    applied := private.append_whatsapp_messages(placed);
    if settles then
        settled := private.settle_whatsapp_items(items);
    end if;
    return applied;
end
$$;


comment on function private.message_by_provider_id(uuid, text) is
    'The message with this id at WhatsApp, of its latest attempt or an earlier one.';
comment on function private.known_messages(uuid[], text[]) is
    'The messages with these ids at WhatsApp, of their latest attempts or earlier ones, in the same order; null for an unknown one.';
comment on function private.answered_message(uuid, uuid, text) is
    'The message that a reply in a conversation answers; null where it has not arrived yet.';
comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts the new messages. Returns their number.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[], boolean, boolean) is
    'Applies a batch of received messages with all that follows. Returns the number of new ones. Settles what has waited for them, unless the caller does.';
