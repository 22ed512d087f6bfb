/*
    Batches that wait for each other no more: one with a notice of WhatsApp's has the numbers of
    its account to itself, effects are looked up message by message. What its sender deleted is
    neither fetched nor handed out; a replay corrects echoes and notices, too.
*/
drop function private.claim_whatsapp_ids(private.whatsapp_item[], boolean);

create or replace function private.move_conversations(
    account_id uuid,
    conversation_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    moved constant uuid[] := array(
        select k.id
        from public.conversations k
        where k.id = any (conversation_ids)
          and k.account_id = move_conversations.account_id
          and k.customer_id = from_contact_id
        order by k.id
        for update
    );
begin
    if moved = '{}' then
        return moved;
    end if;

    -- the foreign key moves them in any order, while statuses lock them by id; it names the
    -- conversation, a part of a key, and so its update takes the strongest lock
    perform
    from public.messages m
    where m.conversation_id = any (moved)
    order by m.id
    for update;

    update public.conversations k
    set customer_id = to_contact_id
    where k.id = any (moved);
    return moved;
end
$$;

-- MANUAL drop function private.claim_whatsapp_ids(items private.whatsapp_item[], are_current boolean);

create or replace function private.claim_whatsapp_ids(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Claimed or locked, key by key: until these messages are stored, nobody gives away what
    their senders are known by. Null where somebody just did; then nothing is claimed.
*/
declare
    accounts uuid[];
    kinds text[];
    match_keys text[];
    vanished boolean;
begin
    with senders as (
        select
            s.account_id,
            s.wa_id,
            s.user_id,
            owner.by_identity,
            owner.by_user_id,
            coalesce(owner.by_identity, owner.by_user_id, gen_random_uuid()) as contact_id
        from (
            select
                i.account_id,
                i.identity_kind,
                i.identity_key,
                (array_agg(i.wa_id order by i.sent_at desc, i.provider_id desc))[1] as wa_id,
                (array_agg(i.user_id order by i.sent_at desc, i.provider_id desc)
                    filter (where i.user_id is not null))[1] as user_id
            from unnest(items) i
            group by i.account_id, i.identity_kind, i.identity_key
        ) s
        cross join lateral (
            select
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = s.identity_kind
                      and o.match_key = s.identity_key
                    limit 1
                ) as by_identity,
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = 'bsuid'
                      and o.match_key = s.user_id
                    limit 1
                ) as by_user_id
        ) owner
    ),
    claims as materialized (
        select
            s.account_id,
            'phone' as kind,
            '+' || s.wa_id as value,
            private.match_key(kind => 'phone', value => s.wa_id) as match_key,
            s.wa_id,
            s.contact_id,
            s.by_identity is not null as is_known
        from senders s
        where s.wa_id is not null
        union all
        -- one user id with a number in one message and without in another is one claim
        (
            select distinct on (s.account_id, s.user_id)
                s.account_id,
                'bsuid',
                s.user_id,
                s.user_id,
                null,
                s.contact_id,
                s.by_user_id is not null
            from senders s
            where s.user_id is not null
            order by s.account_id, s.user_id, s.wa_id is null
        )
    ),
    claimed as (
        insert into public.contact_identities as o (account_id, kind, value, wa_id, contact_id)
        select c.account_id, c.kind, c.value, c.wa_id, c.contact_id
        from claims c
        order by c.account_id, c.kind, c.match_key
        -- known ones are locked, and written only where staff noted the number and it turns
        -- out to be on WhatsApp, or is spelt differently there
        on conflict (account_id, kind, match_key) do update
            set wa_id = excluded.wa_id
            where o.wa_id is distinct from excluded.wa_id
        returning o.account_id, o.kind, o.match_key, o.xmax = 0 as is_new
    )
    select array_agg(n.account_id), array_agg(n.kind), array_agg(n.match_key), bool_or(c.is_known)
    into accounts, kinds, match_keys, vanished
    from claimed n
    join claims c
        on c.account_id = n.account_id
       and c.kind = n.kind
       and c.match_key = n.match_key
    where n.is_new;

    if accounts is null then
        return 0;
    elsif vanished then
        delete from public.contact_identities o
        using unnest(accounts, kinds, match_keys) as n (account_id, kind, match_key)
        where o.account_id = n.account_id
          and o.kind = n.kind
          and o.match_key = n.match_key;
        return null;
    end if;
    return cardinality(accounts);
end
$$;

create or replace function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp
    withholds the number. An identity is claimed with the id of a contact that is written
    afterwards; a claim that comes second finds the first one's contact, and locks it, so that
    whoever deletes the contact waits for the conversation that is opened.
*/
declare
    current_items private.whatsapp_item[];
    claimed integer;
begin
    for attempt in 1 .. 4 loop
        -- no notice comes in between: it has the number for itself
        current_items := private.follow_id_changes(items);
        claimed := private.claim_whatsapp_ids(current_items);
        continue when claimed is null;

        current_items := private.known_whatsapp_senders(current_items);
        if claimed > 0 then
            -- a user id claimed for a contact that lost its number to another session, or was
            -- merged meanwhile, follows it
            update public.contact_identities u
            set contact_id = i.contact_id
            from unnest(current_items) i
            where u.account_id = i.account_id
              and u.kind = 'bsuid'
              and u.match_key = i.user_id
              and u.contact_id <> i.contact_id
              and (
                  select true
                  from public.contacts c
                  where c.id = u.contact_id
                    and c.deleted_at is null
                  limit 1
              ) is null;
        end if;
        return current_items;
    end loop;

    raise sqlstate '40001' using
        message = 'Numbers were given away as fast as they were claimed.',
        hint = 'Try again.';
end
$$;

comment on function private.claim_whatsapp_ids(private.whatsapp_item[]) is
    'Claims what senders are known by, or locks it; notes how WhatsApp spells known numbers. Returns how many are new.';

create function private.effects_about(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    known_ids constant text[] := private.provider_ids_of(message);
begin
    return query
    select e.*
    from unnest(known_ids) as known (provider_id)
    cross join lateral (
        select k.*
        from private.message_effects k
        where k.whatsapp_channel_id = message.whatsapp_channel_id
          and k.parent_provider_id = known.provider_id
        -- looked up id by id: a plan that was made while the table was new went through all
        -- effects of the number
        offset 0
    ) e;
end
$$;

create or replace function private.effects_of(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select e.*
    from private.effects_about(message) e
    where e.kind = 'reaction'
       -- each side edits and deletes its own
       or (e.sender_type = 'client') = (message.sender_type = 'client');
end
$$;

create or replace function private.with_effects(message public.messages)
    returns public.messages
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    effects constant private.message_effects[] := array(
        select e
        from private.effects_of(message) e
    );
    edit private.message_effects;
    original private.message_effects;
begin
    select e.*
    into edit
    from unnest(effects) e
    where e.kind = 'edit'
    order by e.at desc, e.provider_id desc
    limit 1;
    message.edited_at := edit.at;

    select min(e.at)
    into message.revoked_at
    from unnest(effects) e
    where e.kind = 'revoke';
    if message.revoked_at is not null then
        message.message := '';
        message.content := null;
        message.reactions := '[]';
        return message;
    end if;

    if edit.provider_id is not null then
        select e.*
        into original
        from unnest(effects) e
        where e.kind = 'original'
        limit 1;
        message.message := coalesce(edit.text, original.text);
        message.content := private.edited_content(original => original.content, edit => edit.content);
    end if;

    message.reactions := (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'sender_type', r.sender_type,
                    'sender_id', r.sender_id,
                    'emoji', r.text,
                    'at', r.at
                )
                order by r.at, r.provider_id
            ) filter (where r.text is not null),
            '[]'
        )
        from (
            select distinct on (e.sender_type, e.sender_id) e.*
            from unnest(effects) e
            where e.kind = 'reaction'
            order by e.sender_type, e.sender_id, e.at desc, e.provider_id desc
        ) r
    );
    return message;
end
$$;

create function private.forget_effects(message public.messages)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    effect private.message_effects;
begin
    -- what its sender took back is not kept as history either
    for effect in
        select e.*
        from private.effects_about(message) e
        where num_nonnulls(e.text, e.content) > 0
    loop
        if effect.kind = 'original' then
            delete from private.message_effects e
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        else
            update private.message_effects e
            set text = null,
                content = null
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        end if;
    end loop;
end
$$;

create or replace function private.show_message_effects(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- none of those that have but statuses
    touched constant uuid[] := array(
        select m.id
        from public.messages m
        where m.id = any (message_ids)
          and exists (select from private.effects_of(m))
    );
    changed public.messages[];
    revoked public.messages;
begin
    if touched = '{}' then
        return;
    end if;

    insert into private.message_effects (
        whatsapp_channel_id, provider_id, parent_provider_id, kind, sender_type, text, content
    )
    select
        m.whatsapp_channel_id,
        m.provider_id,
        m.provider_id,
        'original',
        m.sender_type,
        m.message,
        m.content
    from public.messages m
    where m.id = any (touched)
      and m.provider_id is not null
      and m.revoked_at is null
      and exists (select from private.effects_of(m) e where e.kind = 'edit')
      and not exists (select from private.effects_of(m) e where e.kind = 'original')
    on conflict do nothing;

    changed := array(
        select w
        from public.messages m
        cross join lateral private.with_effects(m) w
        where m.id = any (touched)
          and (w.message, w.content, w.reactions, w.edited_at, w.revoked_at)
              is distinct from (m.message, m.content, m.reactions, m.edited_at, m.revoked_at)
    );
    -- an update of no row would still run the table's triggers
    if changed <> '{}' then
        update public.messages m
        set message = c.message,
            content = c.content,
            reactions = c.reactions,
            edited_at = c.edited_at,
            revoked_at = c.revoked_at
        from unnest(changed) c
        where m.id = c.id;
    end if;

    for revoked in
        select m.*
        from public.messages m
        where m.id = any (touched)
          and m.revoked_at is not null
        order by m.id
    loop
        perform private.forget_effects(revoked);
        perform private.take_back_media(revoked.id);
    end loop;
end
$$;

comment on function private.effects_about(public.messages) is
    'What was done to a message by whomever, and what it said before.';

comment on function private.forget_effects(public.messages) is
    'Forgets what a message said before it was deleted.';

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

create or replace function private.messages_to_settle(items private.whatsapp_item[])
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
        where i.kind in ('status', 'effect', 'echo')
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

create or replace function private.settle_whatsapp_items(items private.whatsapp_item[])
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
    where i.kind in ('status', 'effect', 'echo')
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

comment on function private.whatsapp_number_lock(uuid) is
    'The advisory lock of a number of ours: shared by what brings messages, exclusive for what misses one and for notices.';

comment on function private.whatsapp_numbers_of(private.whatsapp_item[], bigint[]) is
    'The locks of a batch''s numbers, and of the other numbers of accounts that notices are for, in order.';

/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Where a set fails, the updates that are
    at fault are looked for, and what passes is applied as a set again.
*/
create or replace function private.apply_whatsapp_items(
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
    alone boolean := false;
    has_news boolean := false;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
    is_locked boolean;
    settled integer;
begin
    -- a loop of expressions takes less than starting a statement
    foreach item in array items loop
        if item.whatsapp_channel_id is distinct from whatsapp_channel_id then
            whatsapp_channel_id := item.whatsapp_channel_id;
            number := private.whatsapp_number_lock(whatsapp_channel_id);
            if number <> all (numbers) then
                numbers := numbers || number;
            end if;
        end if;
        parent := case
            -- a notice that is not known yet is alone as well, see whatsapp_numbers_of
            when item.kind in ('status', 'system') then item.provider_id
            else item.reply_to
        end;
        if parent is not null and not alone then
            alone := private.message_by_provider_id(
                whatsapp_channel_id => item.whatsapp_channel_id, provider_id => parent
            ) is null;
        end if;
        has_news := has_news or item.kind not in ('message', 'echo', 'system');
    end loop;

    -- before all other locks, which are taken under it, in one order by all
    if alone then
        numbers := private.whatsapp_numbers_of(items, numbers);
    elsif cardinality(numbers) > 1 then
        numbers := array(select n from unnest(numbers) n order by n);
    end if;
    foreach number in array numbers loop
        -- here and elsewhere: an assignment calls a function, perform runs a statement for it
        if alone then
            is_locked := pg_advisory_xact_lock(number) is not null;
        else
            is_locked := pg_advisory_xact_lock_shared(number) is not null;
        end if;
    end loop;

    if has_news then
        applied := private.keep_whatsapp_news(items);
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system')
        );
    end if;
    if cardinality(messages) > 0 then
        applied := applied
            + private.apply_whatsapp_messages(messages, may_continue, settles => not has_news);
    end if;
    if has_news then
        -- this locks messages, so it comes once, after what locks conversations
        settled := private.settle_whatsapp_items(items);
    end if;
    return applied;
end
$$;

create or replace function backend.ingest_whatsapp(body text, items jsonb)
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
    rejected jsonb := '[]';
begin
    -- another delivery of the same body is rare: what to do about it is a statement of its own
    insert into private.webhook_events (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do nothing
    returning id into event_id;
    if event_id is null then
        update private.webhook_events e
        set deliveries = e.deliveries + 1,
            last_received_at = now()
        where e.provider = 'whatsapp'
          and e.body_sha256 = sha256(convert_to(ingest_whatsapp.body, 'UTF8'))
        returning e.id into event_id;
    end if;
    if event_id is null then
        -- pruned in between
        raise sqlstate '40001' using
            message = 'The event was deleted while it was delivered again.',
            hint = 'Try again.';
    end if;

    tried := private.try_whatsapp_items(items);

    if tried.rejections <> '[]' then
        rejected := private.shown_rejections(tried.rejections);
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'rejected', rejected
    );
end
$$;

create or replace function private.correct_whatsapp_messages(
    items private.whatsapp_item[],
    received_at timestamptz
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Only a webhook that was there when a message was made speaks of it: one that came later
    repeats it, perhaps in other words, and two that contradict each other would rewrite the
    message with every replay.
*/
declare
    wrong private.whatsapp_item[];
    ids uuid[];
    corrected integer;
begin
    select array_agg(d.item order by d.id), array_agg(d.id order by d.id)
    into wrong, ids
    from (
        -- the first of a webhook's own, as when it was applied
        select distinct on (k.id) k.id, i::private.whatsapp_item as item
        from unnest(items) i
        cross join lateral (
            select m.id, m.type, m.message, m.content
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
              and (
                  m.sender_type = 'client' and i.kind in ('message', 'system')
                  or m.sender_type = 'system' and i.kind = 'system'
                  -- from the phone app: what was written here names its operator
                  or m.sender_type = 'operator' and i.kind = 'echo' and m.sender_id is null
              )
              and m.created_at >= correct_whatsapp_messages.received_at
              -- else it would say again what was taken back
              and m.edited_at is null
              and m.revoked_at is null
            limit 1
        ) k
        order by k.id, i.index
    ) d
    join public.messages m
        on m.id = d.id
    where (m.type, m.message, m.content)
        is distinct from ((d.item).type, (d.item).text, (d.item).content);

    -- an update of no row would still run the table's triggers
    if ids is null then
        return 0;
    end if;

    perform
    from public.messages m
    where m.id = any (ids)
    order by m.id
    for no key update;

    update public.messages m
    set type = w.type,
        message = w.text,
        content = w.content
    from unnest(ids) with ordinality as n (id, place)
    cross join lateral (select (wrong[n.place]).*) w
    where m.id = n.id;

    get diagnostics corrected = row_count;

    -- a file that was not seen to be one
    perform private.expect_media(array(
        select m.id
        from public.messages m
        where m.id = any (ids)
          and exists (select from private.media_types t where t.type = m.type)
          and not exists (select from public.message_media f where f.message_id = m.id)
    ));
    return corrected;
end
$$;

comment on function private.correct_whatsapp_messages(private.whatsapp_item[], timestamptz) is
    'Shows messages as the updates of their webhook say, and has files fetched that they turn out to have; returns how many were changed.';

create function private.take_back_media(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- the file first and then its job, as where a worker settles it
    update public.message_media f
    set state = 'expired',
        error = 'Its sender deleted it.',
        stored_at = null,
        -- what is known of the file as well; where it lies stays, so that it can be removed there
        provider_id = null,
        mime_type = null,
        file_name = null,
        size = null,
        sha256 = null
    where f.message_id = take_back_media.message_id
      and (
          f.state <> 'expired'
          or num_nonnulls(f.provider_id, f.mime_type, f.file_name, f.size, f.sha256) > 0
      );

    delete from private.media_queue q
    using public.message_media f
    where f.message_id = take_back_media.message_id
      and q.media_id = f.id;
end
$$;

comment on column public.message_media.state is
    'pending: it is being fetched; stored: it can be had; failed: refetch_media tries again; expired: WhatsApp no longer has it, or its sender deleted it.';

comment on function private.take_back_media(uuid) is
    'Has the file of a message that its sender has deleted neither fetched nor handed out.';

create or replace function private.media_expires_at(sent_at timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- whatever the message says of its time, it was sent before it came
    return least(sent_at, now()) + interval '7 days';
end
$$;
