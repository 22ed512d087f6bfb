/*
    Finds the senders of WhatsApp messages: their identities and their contacts.

    All writers take locks in one order: identities, contacts, conversations, messages, each by key.
    (Of 24 unsorted batches 19 deadlocked; of the sorted ones, none.)
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


create function private.claim_whatsapp_ids(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Claims or locks identities, key by key. Until these messages are stored, nobody can take a
    sender's identity away. Null where somebody has just done so; then nothing is claimed.
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
        -- the same user id with a number in one message and without in another is one claim
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
        -- Known identities are locked. They are written only where staff noted the number and it is
        -- now known to be on WhatsApp, or where WhatsApp spells it differently.
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


create function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp withholds
    the number. An identity is claimed with the id of a contact that is written afterwards. A second
    claim finds the first one's contact and locks it. So a deletion of the contact waits until the
    conversation is open.
*/
declare
    current_items private.whatsapp_item[];
    claimed integer;
begin
    for attempt in 1 .. 4 loop
        -- no change of the number follows: the sender is its only owner
        current_items := private.follow_id_changes(items);
        claimed := private.claim_whatsapp_ids(current_items);
        continue when claimed is null;

        current_items := private.known_whatsapp_senders(current_items);
        if claimed > 0 then
            -- A user id whose contact lost its number to another session, or was merged meanwhile,
            -- follows the number.
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
        message = 'Numbers moved to other contacts as fast as they were claimed.',
        hint = 'Try again.';
end
$$;


comment on function private.known_whatsapp_senders(private.whatsapp_item[]) is
    'The messages whose senders are known by all their identities, with their contacts.';
comment on function private.claim_whatsapp_ids(private.whatsapp_item[]) is
    'Claims or locks the identities of senders, and notes WhatsApp''s spelling of known numbers. Returns the number of new identities.';
comment on function private.claim_whatsapp_senders(private.whatsapp_item[]) is
    'Finds or claims the contact of each sender.';
