/*
    The identities that partners bring to their contacts. An identity of another contact is not
    taken away. Instead, a suggestion says that the two may be one.
*/
create type private.wanted_identity as (
    kind         text,
    match_key    text,
    value        text,
    contact_id   uuid,
    metakocka_id text,
    is_new       boolean
);


create function private.brings_proof(account_id uuid, item private.partner_item)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- A contact made from a partner is that partner. A contact that existed before shows the
    -- partner's values, and staff must confirm them (proof), since the match may be wrong. Later
    -- edits in Metakocka, after both sides agreed, count as edits by staff.
    return item.status = 'created'
        or (
            item.status = 'updated'
            and exists (
                select
                from public.metakocka_contact_mappings m
                where m.account_id = brings_proof.account_id
                  and m.contact_id = item.contact_id
                  and m.metakocka_id = item.metakocka_id
                  and m.base ? 'name'
            )
        );
end
$$;


create function private.claim_partner_identities(
    account_id uuid,
    items private.partner_item[]
)
    returns private.wanted_identity[]
    language plpgsql
    set search_path = ''
as $$
declare
    wanted private.wanted_identity[];
    -- as if another contact had claimed them: each with its owner in place of its own contact
    owned private.wanted_identity[];
begin
    select array_agg(
        (k.kind, q.match_key, k.value, i.contact_id, i.metakocka_id, i.is_new)::private.wanted_identity
    )
    into wanted
    from unnest(items) i
    cross join lateral (
        values
            ('metakocka', case when i.status <> 'updated' then i.metakocka_id end),
            ('email', i.changes ->> 'email'),
            ('phone', i.changes ->> 'phone'),
            ('phone', substring(i.changes ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as k (kind, value)
    cross join lateral (
        select private.match_key(kind => k.kind, value => k.value) as match_key
    ) q
    where k.value is not null
      and (
          k.kind = 'metakocka'
          or i.is_new
          or (
              private.brings_proof(
                  account_id => claim_partner_identities.account_id, item => i)
              -- it may come from the customer, and be on its way back
              and not private.writes_itself(contact_id => i.contact_id, kind => k.kind)
          )
      );
    if wanted is null then
        return '{}';
    end if;

    -- Made or locked in one pass, in the lock order: the update never happens, but its lock does.
    insert into public.contact_identities (account_id, kind, value, contact_id)
    select claim_partner_identities.account_id, w.kind, w.value, w.contact_id
    from (
        select distinct on (u.kind, u.match_key) u.kind, u.match_key, u.value, u.contact_id
        from unnest(wanted) u
        order by u.kind, u.match_key, u.metakocka_id
    ) w
    order by w.kind, w.match_key
    on conflict on constraint contact_identities_pkey do update
        set contact_id = excluded.contact_id
        where false;

    select array_agg(
        (w.kind, w.match_key, w.value, o.contact_id, w.metakocka_id, w.is_new)::private.wanted_identity
    )
    into owned
    from unnest(wanted) w
    cross join lateral (
        select i.contact_id
        from public.contact_identities i
        where i.account_id = claim_partner_identities.account_id
          and i.kind = w.kind
          and i.match_key = w.match_key
        limit 1
    ) o
    where o.contact_id <> w.contact_id;
    if owned is null then
        return '{}';
    end if;

    -- contacts that the caller would have taken for the partner, had it known of them
    if exists (
        select
        from unnest(owned) w
        join public.contacts c
            on c.id = w.contact_id
           and c.deleted_at is null
        where w.is_new
          and not exists (
              select
              from public.metakocka_contact_mappings m
              where m.contact_id = w.contact_id
                and (m.metakocka_id is not null or w.metakocka_id = any (m.not_partners))
          )
    )
        or exists (select from unnest(owned) w where w.kind = 'metakocka')
    then
        raise sqlstate 'RP002';
    end if;
    return owned;
end
$$;


create function private.suggest_partners(
    account_id uuid,
    items private.partner_item[],
    owned private.wanted_identity[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if owned = '{}' then
        return;
    end if;
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select
        suggest_partners.account_id,
        least(i.contact_id, w.contact_id) as lesser_id,
        greatest(i.contact_id, w.contact_id) as greater_id,
        'same_partner',
        jsonb_object_agg(w.kind, w.value) || jsonb_build_object('metakocka_id', min(w.metakocka_id))
    from unnest(owned) w
    join unnest(items) i
        on i.metakocka_id = w.metakocka_id
    group by 2, 3
    order by 2, 3
    -- a suggestion that somebody has dismissed stays dismissed
    on conflict on constraint contact_suggestions_pair_key do nothing;
end
$$;


create function private.release_partner_identities(
    account_id uuid,
    items private.partner_item[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    released public.contact_identities[];
begin
    -- as release_identities, for several contacts
    released := array(
        select o
        from unnest(items) i
        join public.contacts c
            on c.id = i.contact_id
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = release_partner_identities.account_id
        where not i.is_new
          and i.changes ?| array['email', 'phone', 'gsm']
          and private.brings_proof(
              account_id => release_partner_identities.account_id, item => i)
          and o.kind = any (private.touched_identity_kinds(i.changes))
          and o.wa_id is null
          and not private.shows_customer_word(contact => c, kind => o.kind)
          and not exists (
              select
              from private.claimed_identities(to_jsonb(c)) k
              where k.kind = o.kind
                and private.match_key(kind => k.kind, value => k.value) = o.match_key
          )
        order by o.kind, o.match_key
        for update of o skip locked
    );
    if released <> '{}' then
        delete from public.contact_identities d
        using unnest(released) o
        where d.account_id = o.account_id
          and d.kind = o.kind
          and d.match_key = o.match_key;
    end if;
end
$$;


comment on type private.wanted_identity is
    'An identity that a partner brings to a contact.';
comment on function private.brings_proof(uuid, private.partner_item) is
    'Whether a partner''s values become identities of its contact.';
comment on function private.claim_partner_identities(uuid, private.partner_item[]) is
    'Claims the proved identities that partners bring. Returns the ones that other contacts own, with their owners. Raises RP002 where an owner should have been a candidate.';
comment on function private.suggest_partners(uuid, private.partner_item[], private.wanted_identity[]) is
    'Suggests that contacts and the owners of their partners'' identities are one.';
comment on function private.release_partner_identities(uuid, private.partner_item[]) is
    'Drops the identities that contacts no longer show and that no message proves.';
