/*
    Who sends by WhatsApp: the contact of each sender, found or made, and its name.

    Locks are taken in one order by all writers: identities, contacts, conversations, messages,
    each by key. (Of 24 unsorted batches 19 deadlocked, of the sorted ones none.)
*/
create function private.known_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select jsonb_populate_record(i, jsonb_build_object('contact_id', owner.contact_id))
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
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
end
$$;


create function private.keep_whatsapp_ids(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- a number that staff wrote down turns out to be on WhatsApp, or is spelt differently there
    with spelt as (
        select distinct on (i.account_id, i.identity_key) i.account_id, i.identity_key, i.wa_id
        from unnest(items) i
        where i.identity_kind = 'phone'
        order by i.account_id, i.identity_key, i.sent_at desc, i.provider_id desc
    ),
    locked as materialized (
        select o.account_id, o.match_key, s.wa_id
        from spelt s
        join public.contact_identities o
            on o.account_id = s.account_id
           and o.kind = 'phone'
           and o.match_key = s.identity_key
        where o.wa_id is distinct from s.wa_id
        order by o.account_id, o.match_key
        for no key update of o
    )
    update public.contact_identities o
    set wa_id = l.wa_id
    from locked l
    where o.account_id = l.account_id
      and o.kind = 'phone'
      and o.match_key = l.match_key;
end
$$;


create function private.lock_whatsapp_senders(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- whoever merges or deletes contacts holds these: the contacts found by them stay
    perform
    from public.contact_identities o
    where (o.account_id, o.kind, o.match_key) in (
        select i.account_id, i.identity_kind, i.identity_key
        from unnest(items) i
        union
        select i.account_id, 'bsuid', i.user_id
        from unnest(items) i
    )
    order by o.account_id, o.kind, o.match_key
    for key share;
end
$$;


create function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp
    withholds the number. An identity is claimed with the id of a contact that is written
    afterwards; a claim that comes second finds the first one's contact.
*/
declare
    known_items private.whatsapp_item[];
begin
    perform private.lock_whatsapp_senders(items);
    perform private.keep_whatsapp_ids(items);
    known_items := private.known_whatsapp_senders(items);
    if cardinality(known_items) = cardinality(items) then
        return known_items;
    end if;

    with senders as (
        select
            s.account_id,
            s.wa_id,
            s.user_id,
            coalesce(
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = s.identity_kind
                      and o.match_key = s.identity_key
                    limit 1
                ),
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = 'bsuid'
                      and o.match_key = s.user_id
                    limit 1
                ),
                gen_random_uuid()
            ) as contact_id
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
    ),
    claims as (
        select
            s.account_id,
            'phone' as kind,
            '+' || s.wa_id as value,
            private.match_key(kind => 'phone', value => s.wa_id) as match_key,
            s.wa_id,
            s.contact_id
        from senders s
        where s.wa_id is not null
        union all
        select s.account_id, 'bsuid', s.user_id, s.user_id, null, s.contact_id
        from senders s
        where s.user_id is not null
    )
    insert into public.contact_identities (account_id, kind, value, wa_id, contact_id)
    select c.account_id, c.kind, c.value, c.wa_id, c.contact_id
    from claims c
    where (
        select true
        from public.contact_identities o
        where o.account_id = c.account_id
          and o.kind = c.kind
          and o.match_key = c.match_key
        limit 1
    ) is null
    order by c.account_id, c.kind, c.match_key
    on conflict do nothing;

    known_items := private.known_whatsapp_senders(items);

    -- a user id claimed for a contact that lost its number to another session follows it
    update public.contact_identities u
    set contact_id = i.contact_id
    from unnest(known_items) i
    where u.account_id = i.account_id
      and u.kind = 'bsuid'
      and u.match_key = i.user_id
      and u.contact_id <> i.contact_id
      and (select true from public.contacts c where c.id = u.contact_id limit 1) is null;

    return known_items;
end
$$;


create function private.name_whatsapp_senders(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    renamed uuid[];
    names text[];
    named_at timestamptz[];
begin
    if exists (
        select
        from unnest(items) i
        where (select true from public.contacts c where c.id = i.contact_id limit 1) is null
    ) then
        insert into public.contacts (id, account_id, phone, profile_name, profile_named_at)
        select
            i.contact_id,
            i.account_id,
            (array_agg('+' || i.wa_id order by i.sent_at desc, i.provider_id desc)
                -- longer ones are ids of test numbers and groups
                filter (where i.wa_id ~ '^[1-9][0-9]{1,14}$'))[1],
            (array_agg(i.profile_name order by i.sent_at desc, i.provider_id desc)
                filter (where i.profile_name is not null))[1],
            max(i.sent_at) filter (where i.profile_name is not null)
        from unnest(items) i
        where (select true from public.contacts c where c.id = i.contact_id limit 1) is null
        group by i.contact_id, i.account_id
        order by i.contact_id;
    end if;

    /*
        The latest message names its sender, by the provider's time, however late it comes.
        An unchanged name is not stamped again (that would write the contact with every
        message), so an older message first looks for a later one.
    */
    with named as (
        select distinct on (i.contact_id) i.contact_id, i.profile_name, i.sent_at, i.provider_id
        from unnest(items) i
        where i.profile_name is not null
        order by i.contact_id, i.sent_at desc, i.provider_id desc
    ),
    locked as (
        select c.id, n.profile_name, n.sent_at
        from named n
        cross join lateral (
            select k.id
            from public.contacts k
            where k.id = n.contact_id
            limit 1
        ) known
        join public.contacts c
            on c.id = known.id
        where c.profile_name is distinct from n.profile_name
          and (c.profile_named_at is null or c.profile_named_at <= n.sent_at)
          and (
              select true
              from public.messages m
              where m.customer_id = n.contact_id
                and m.sender_type = 'client'
                and m.sender_name is not null
                and m.sent_at >= n.sent_at
                and (m.sent_at, m.provider_id) > (n.sent_at, n.provider_id)
              limit 1
          ) is null
        order by c.id
        for no key update of c
    )
    select array_agg(l.id), array_agg(l.profile_name), array_agg(l.sent_at)
    into renamed, names, named_at
    from locked l;

    -- an update of no row would still run the table's triggers
    if renamed is not null then
        update public.contacts c
        set profile_name = r.profile_name,
            profile_named_at = r.sent_at
        from unnest(renamed, names, named_at) as r (id, profile_name, sent_at)
        where c.id = r.id;
    end if;
end
$$;


comment on function private.known_whatsapp_senders(private.whatsapp_item[]) is
    'The messages whose senders are known by all that is said of them, with their contacts.';
comment on function private.keep_whatsapp_ids(private.whatsapp_item[]) is
    'Notes on known numbers how WhatsApp spells them.';
comment on function private.lock_whatsapp_senders(private.whatsapp_item[]) is
    'Holds the identities of known senders against merging and deleting.';
comment on function private.claim_whatsapp_senders(private.whatsapp_item[]) is
    'Finds or claims the contact of each sender.';
comment on function private.name_whatsapp_senders(private.whatsapp_item[]) is
    'Writes contacts that are new, and names that have changed.';
