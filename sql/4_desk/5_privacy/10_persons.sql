/*
    Everything by which the rows of one person are found: the contact with those that were merged
    into it, their conversations, logins and partners, and the ids by which WhatsApp knows the
    person.
*/
create type private.person as (
    account_id       uuid,
    contact_ids      uuid[],
    conversation_ids uuid[],
    -- of the account's numbers, which carry groups and raw webhooks too
    channel_ids      uuid[],
    phone_number_ids text[],
    waba_ids         text[],
    -- the logins that nobody else uses, here or in another account
    user_ids         uuid[],
    -- numbers and user ids as WhatsApp writes them, and the match_key of each number
    ids              text[],
    phone_keys       text[],
    partner_ids      text[],
    -- what reminders and notifications are about
    subject_ids      uuid[],
    -- files of messages that wait for their time
    upload_ids       uuid[],
    -- regular expressions: one of the ids; one of the ids, contacts or conversations
    ids_pattern      text,
    pattern          text,
    -- what comes later is a new contact's
    until            timestamptz
);


create function private.kept_contact_of(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    kept uuid;
begin
    with recursive way as (
        select c.id, c.merged_into
        from public.contacts c
        where c.id = kept_contact_of.contact_id
          and c.account_id = kept_contact_of.account_id
        union
        select c.id, c.merged_into
        from way w
        join public.contacts c
            on c.id = w.merged_into
    )
    select w.id
    into kept
    from way w
    where w.merged_into is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('field: contact_id; contact: %s', kept_contact_of.contact_id),
            hint = 'Give the id of a contact, which contacts_v2 shows.';
    end if;
    return kept;
end
$$;


create function private.any_of(words text[])
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select string_agg(regexp_replace(w, '([][\\.*+?^$(){}|])', '\\\1', 'g'), '|')
            from unnest(words) w
        ),
        -- matches nothing
        '(?!)'
    );
end
$$;


create function private.is_login_of_others(user_id uuid, contact_ids uuid[])
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from public.account_members m
        where m.user_id = is_login_of_others.user_id
    )
    or exists (
        select
        from public.contacts c
        where c.portal_user_id = is_login_of_others.user_id
          and c.id <> all (is_login_of_others.contact_ids)
    );
end
$$;


create function private.person_of(account_id uuid, contact_id uuid)
    returns private.person
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    p private.person;
    numbers text[];
    user_names text[];
    others text[];
begin
    p.account_id := person_of.account_id;
    p.until := clock_timestamp();
    p.contact_ids := array(
        select l
        from private.contact_lineage(private.kept_contact_of(
            account_id => person_of.account_id, contact_id => person_of.contact_id)) l
    );
    p.conversation_ids := array(
        select k.id
        from public.conversations k
        where k.customer_id = any (p.contact_ids)
    );
    select
        coalesce(array_agg(w.id), '{}'),
        coalesce(array_agg(w.phone_number_id), '{}'),
        coalesce(array_agg(distinct w.waba_id) filter (where w.waba_id is not null), '{}')
    into p.channel_ids, p.phone_number_ids, p.waba_ids
    from public.whatsapp_channels w
    where w.account_id = person_of.account_id;

    -- a contact that was deleted before has no identities any more: its conversations still tell
    select
        coalesce(array_agg(distinct f.value) filter (where f.value ~ '^\+?[0-9]{5,32}$'), '{}'),
        coalesce(array_agg(distinct f.value) filter (where f.value !~ '^\+?[0-9]*$'), '{}')
    into numbers, user_names
    from (
        select unnest(array[c.phone, c.gsm])
        from public.contacts c
        where c.id = any (p.contact_ids)
        union all
        select unnest(array[i.value, i.wa_id])
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = person_of.account_id
          and i.kind in ('phone', 'bsuid')
        union all
        select k.customer_wa_id
        from public.conversations k
        where k.id = any (p.conversation_ids)
        union all
        select m.sender_id
        from public.messages m
        where m.conversation_id = any (p.conversation_ids)
          and m.sender_type = 'client'
          and m.whatsapp_channel_id is not null
    ) as f (value);
    -- a mobile number as the ERP writes it is no id
    user_names := array(select u from unnest(user_names) u where u ~ '^[A-Za-z]{2}\.');

    -- a number that is somebody else's by now does not lead to the person
    select coalesce(array_agg(distinct k.key) filter (where o.contact_id is null), '{}')
    into p.phone_keys
    from (
        select private.match_key('phone', n)
        from unnest(numbers) n
        union all
        select u.phone_key
        from private.whatsapp_user_numbers u
        where u.account_id = person_of.account_id
          and u.user_id = any (user_names)
    ) as k (key)
    left join public.contact_identities o
        on o.account_id = person_of.account_id
       and o.kind = 'phone'
       and o.match_key = k.key
       and o.contact_id <> all (p.contact_ids);
    user_names := user_names || array(
        select u.user_id
        from private.whatsapp_user_numbers u
        where u.account_id = person_of.account_id
          and u.phone_key = any (p.phone_keys)
    );
    others := array(
        select o.match_key
        from public.contact_identities o
        where o.account_id = person_of.account_id
          and o.kind = 'bsuid'
          and o.match_key = any (user_names)
          and o.contact_id <> all (p.contact_ids)
    );
    p.ids := array(
        select d.id
        from unnest(numbers) n
        cross join lateral unnest(array[ltrim(n, '+'), '+' || ltrim(n, '+')]) as d (id)
        where private.match_key('phone', n) = any (p.phone_keys)
        union
        select k
        from unnest(p.phone_keys) k
        union
        select u
        from unnest(user_names) u
        where u <> all (others)
    );

    p.user_ids := array(
        select distinct f.user_id
        from (
            select c.portal_user_id
            from public.contacts c
            where c.id = any (p.contact_ids)
            union all
            select i.claimed_by
            from public.portal_invitations i
            where i.contact_id = any (p.contact_ids)
        ) as f (user_id)
        join auth.users u
            on u.id = f.user_id
        where not private.is_login_of_others(user_id => f.user_id, contact_ids => p.contact_ids)
    );
    p.partner_ids := array(
        select m.metakocka_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (p.contact_ids)
          and m.metakocka_id is not null
        union
        select i.value
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = person_of.account_id
          and i.kind = 'metakocka'
        union
        select i.metakocka_id
        from private.partner_intents i
        where i.contact_id = any (p.contact_ids)
          and i.metakocka_id is not null
    );
    p.subject_ids := p.contact_ids || p.conversation_ids || array(
        select j.id
        from public.jobs j
        where j.customer_id = any (p.contact_ids)
        union all
        select i.id
        from public.invoices i
        where i.customer_id = any (p.contact_ids)
        union all
        select t.id
        from public.loyalty_transactions t
        where t.customer_id = any (p.contact_ids)
    );
    p.upload_ids := array(
        select (s.content ->> 'upload_id')::uuid
        from public.scheduled_messages s
        where s.customer_id = any (p.contact_ids)
          and pg_input_is_valid(s.content ->> 'upload_id', 'uuid')
    );
    -- a webhook is read for numbers that are somebody else's too: the ids of its messages decide
    p.ids_pattern := private.any_of(p.ids || array(select ltrim(n, '+') from unnest(numbers) n));
    p.pattern := p.ids_pattern || '|'
        || private.any_of(array(select i::text from unnest(p.contact_ids || p.conversation_ids) i));
    return p;
end
$$;


create function private.messages_of(p private.person)
    returns setof uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select m.id
        from public.messages m
        where m.conversation_id = any (p.conversation_ids)
        union all
        -- what the person wrote in groups
        select m.id
        from public.conversations k
        join public.messages m
            on m.conversation_id = k.id
        where k.account_id = p.account_id
          and k.group_id is not null
          and m.sender_type = 'client'
          and m.sender_id = any (p.ids);
end
$$;


create function private.provider_ids_of(p private.person)
    returns table (whatsapp_channel_id uuid, provider_id text)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select m.whatsapp_channel_id, m.provider_id
        from public.messages m
        where m.id in (select private.messages_of(p))
          and m.provider_id is not null;
end
$$;


create function private.names_one(value jsonb, ids text[])
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case jsonb_typeof(value)
        when 'string' then value #>> '{}' = any (ids)
        when 'object' then exists (
            select
            from jsonb_each(value) f
            where jsonb_typeof(f.value) = 'string'
              and f.value #>> '{}' = any (ids)
        )
        else false
    end;
end
$$;


create function private.without_ids(value jsonb, ids text[])
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case jsonb_typeof(value)
        when 'array' then (
            select coalesce(jsonb_agg(private.without_ids(e.value, ids) order by e.place), '[]')
            from jsonb_array_elements(value) with ordinality as e (value, place)
            where not private.names_one(e.value, ids)
        )
        when 'object' then (
            select coalesce(jsonb_object_agg(f.key, private.without_ids(f.value, ids)), '{}')
            from jsonb_each(value) f
            where jsonb_typeof(f.value) <> 'string'
               or f.value #>> '{}' <> all (ids)
        )
        else value
    end;
end
$$;


comment on type private.person is
    'Everything by which the rows of one person are found.';
comment on function private.kept_contact_of(uuid, uuid) is
    'The contact itself, or the one into which it was merged at last.';
comment on function private.any_of(text[]) is
    'A regular expression for one of these words.';
comment on function private.is_login_of_others(uuid, uuid[]) is
    'Whether a login is a member''s of any account, or another contact''s than these.';
comment on function private.person_of(uuid, uuid) is
    'Everything by which the rows of a contact''s person are found.';
comment on function private.messages_of(private.person) is
    'The messages of a person''s conversations, and the person''s own in groups.';
comment on function private.provider_ids_of(private.person) is
    'WhatsApp''s ids of the messages of a person.';
comment on function private.names_one(jsonb, text[]) is
    'Whether a text is one of these ids, or an object has one of them as a value.';
comment on function private.without_ids(jsonb, text[]) is
    'JSON without what has one of these ids: without such elements of lists, and such values of objects.';
