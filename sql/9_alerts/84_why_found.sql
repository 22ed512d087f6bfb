/*
    What an id or a number stands for: an id of ours, WhatsApp's id of a message or of a number, a
    telephone number as people write it, Metakocka's id of a partner, or the older key of a
    conversation. Every look-up stays in the given accounts; null stands for all of them.
*/
create type private.why_subject as (
    -- message, conversation, contact, number or partner
    kind       text,
    -- how it was named, where one kind has several ways
    part       text,
    id         uuid,
    account_id uuid,
    -- the id of WhatsApp or Metakocka by which it was named
    outside_id text
);


create function private.written_number(reference text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    plain text := btrim(normalize(reference, nfkc));
begin
    -- marks of direction and joining, which are copied along
    plain := translate(plain, U&'\00AD\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FEFF', '');
    plain := regexp_replace(plain, '^(tel|whatsapp|callto):\s*', '', 'i');
    plain := regexp_replace(plain, '^(https?://)?(wa\.me/|api\.whatsapp\.com/send/?\?phone=)\+?', '+', 'i');
    plain := regexp_replace(plain, '^([1-9]\d{6,14})@(s\.whatsapp\.net|c\.us)$', '+\1', 'i');
    -- a zero that is not dialled from abroad
    plain := regexp_replace(plain, '(\S)\s*\(0\)', '\1');
    if plain !~ '^\(?\+?[\d\s().\-/·‐‑‒–—―−]+$'
        or length(regexp_replace(plain, '\D', '', 'g')) not between 6 and 20
    then
        return null;
    end if;
    return case when plain ~ '^\(?\+' then '+' else '' end || regexp_replace(plain, '\D', '', 'g');
end
$$;


create function private.contacts_of_number(number text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    digits constant text := ltrim(number, '+');
    -- with a plus or two zeros, or with a country code and nothing in front
    spelling constant text := private.match_key(
        kind => 'phone', value => case when digits like '00%' then substr(digits, 3) else digits end);
    national constant text := ltrim(digits, '0');
begin
    return query
        select distinct 'contact', 'phone', i.contact_id, i.account_id, i.value
        from public.contact_identities i
        where i.kind = 'phone'
          and i.match_key = spelling
          and (account_ids is null or i.account_id = any (account_ids));
    if found or number like '+%' or digits like '00%' or length(national) < 6 then
        return;
    end if;
    -- as it is dialled in its country: the end of the number
    return query
        select distinct 'contact', 'phone', i.contact_id, i.account_id, i.value
        from public.contact_identities i
        where i.kind = 'phone'
          and right(i.match_key, length(national)) = national
          and length(i.match_key) - length(national) <= 4
          and (account_ids is null or i.account_id = any (account_ids));
end
$$;


create function private.subjects_of_id(id uuid, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select s.*
        from (
            select 'message', null, m.id, m.account_id, null
            from public.messages m
            where m.id = subjects_of_id.id
            union all
            -- once it is sent, the message has the same id
            select 'message', 'later', l.id, l.account_id, null
            from public.scheduled_messages l
            where l.id = subjects_of_id.id
              and not exists (select from public.messages m where m.id = l.id)
            union all
            select 'conversation', null, k.id, k.account_id, null
            from public.conversations k
            where k.id = subjects_of_id.id
            union all
            select 'conversation', 'booking', k.id, k.account_id, null
            from public.conversations k
            where k.booking_id = subjects_of_id.id
            union all
            select 'contact', null, c.id, c.account_id, null
            from public.contacts c
            where c.id = subjects_of_id.id
            union all
            select 'number', null, w.id, w.account_id, w.phone_number_id
            from public.whatsapp_channels w
            where w.id = subjects_of_id.id
        ) s (kind, part, id, account_id, outside_id)
        where account_ids is null or s.account_id = any (account_ids);
end
$$;


create function private.subjects_of_provider_id(provider_id text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select 'message', s.part, s.id, w.account_id, subjects_of_provider_id.provider_id
        from public.whatsapp_channels w
        cross join lateral (
            (
                select null, m.id
                from public.messages m
                where m.whatsapp_channel_id = w.id
                  and m.provider_id = subjects_of_provider_id.provider_id
                union
                -- an earlier attempt
                select null, t.message_id
                from private.outbound_attempts t
                where t.whatsapp_channel_id = w.id
                  and t.provider_id = subjects_of_provider_id.provider_id
            )
            union all
            (
                select 'effect', p.id
                from private.message_effects e
                left join public.messages p
                    on p.whatsapp_channel_id = w.id
                   and p.provider_id = e.parent_provider_id
                where e.whatsapp_channel_id = w.id
                  and e.provider_id = subjects_of_provider_id.provider_id
                  and e.kind <> 'original'
                limit 1
            )
        ) s (part, id)
        where account_ids is null or w.account_id = any (account_ids);
end
$$;


create function private.why_subjects(reference text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := private.written_number(reference);
begin
    if pg_input_is_valid(reference, 'uuid') then
        return query select * from private.subjects_of_id(reference::uuid, account_ids);
        return;
    elsif reference ~ '^[A-Za-z0-9-]{1,64}_[0-9]{1,32}_[0-9]{1,32}$' then
        return query
            select 'conversation', 'key', k.id, a.id, reference
            from public.accounts a
            join public.whatsapp_channels w
                on w.account_id = a.id
               and w.phone_number_id = split_part(reference, '_', 2)
            join public.conversations k
                on k.whatsapp_channel_id = w.id
               and k.account_id = a.id
            join public.conversation_activity v
                on v.conversation_id = k.id
            where a.external_id = split_part(reference, '_', 1)
              and k.thread_key = 'phone:' || private.match_key('phone', split_part(reference, '_', 3))
              and (account_ids is null or a.id = any (account_ids))
            -- as resolve_conversation
            order by (k.status <> 'closed') desc, v.last_message_at desc, k.id
            limit 1;
        return;
    end if;

    return query select * from private.subjects_of_provider_id(reference, account_ids);
    return query
        select 'number', null, w.id, w.account_id, w.phone_number_id
        from public.whatsapp_channels w
        where (
            w.phone_number_id = reference
            or regexp_replace(w.display_phone_number, '\D', '', 'g') = ltrim(number, '+')
        )
          and (account_ids is null or w.account_id = any (account_ids));
    if number is not null then
        return query select * from private.contacts_of_number(number, account_ids);
        -- as the customer has written it, without any proof
        return query
            select 'contact', 'unproved', c.id, c.account_id, c.phone
            from public.contacts c
            where c.phone = '+' || ltrim(number, '+')
              and c.deleted_at is null
              and (account_ids is null or c.account_id = any (account_ids))
              and not exists (
                  select
                  from public.contact_identities i
                  where i.account_id = c.account_id
                    and i.kind = 'phone'
                    and i.match_key = private.match_key('phone', c.phone)
              );
    elsif reference ~ '^@?[^@\s]+$' or reference ~ '^[^@\s]+@[^@\s]+$' then
        return query
            select 'contact', i.kind, i.contact_id, i.account_id, i.value
            from public.contact_identities i
            where i.kind in ('email', 'username', 'bsuid')
              and i.match_key = private.match_key(i.kind, ltrim(reference, '@'))
              and (account_ids is null or i.account_id = any (account_ids));
    end if;
    return query
        select distinct 'partner', null, p.contact_id, p.account_id, reference
        from (
            select m.contact_id, m.account_id
            from public.metakocka_contact_mappings m
            where m.metakocka_id = reference
            union all
            select c.contact_id, c.account_id
            from public.sync_conflicts c
            where c.state = 'open'
              and (
                  c.metakocka_id = reference
                  or c.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', reference))
              )
            union all
            select e.contact_id, e.account_id
            from public.sync_errors e
            where e.metakocka_id = reference
        ) p
        where account_ids is null or p.account_id = any (account_ids);
end
$$;


comment on type private.why_subject is
    'The thing for which an id or a number stands.';
comment on function private.written_number(text) is
    'The digits of a telephone number as people write it, with its plus where it has one; null for another text.';
comment on function private.contacts_of_number(text, uuid[]) is
    'The contacts that are known by a number: by all of its digits, or, without a country code, by its end.';
comment on function private.subjects_of_id(uuid, uuid[]) is
    'The row to which one of our ids belongs.';
comment on function private.subjects_of_provider_id(text, uuid[]) is
    'The message, or the effect on a message, to which an id of WhatsApp belongs.';
comment on function private.why_subjects(text, uuid[]) is
    'The things for which an id or a number may stand, in the given accounts or in all.';
