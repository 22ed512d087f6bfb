/*
    The facts that the sync needs before it merges partners: each partner's contact and agreed
    state, or the contacts that a new partner may be.
*/
/*
    For all partners at once: a call for each took 0.16 ms, ten times as long, and most partners are
    no contact at all.
*/
create function private.partner_candidates(account_id uuid, refs jsonb)
    returns table (metakocka_id text, candidates jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with unknown as materialized (
            select r.*
            from jsonb_to_recordset(refs) as r (
                metakocka_id text,
                tax_id_number text,
                emails text[],
                phones text[]
            )
            where not exists (
                select
                from public.metakocka_contact_mappings m
                where m.account_id = partner_candidates.account_id
                  and m.metakocka_id = r.metakocka_id
            )
        )
        select
            g.metakocka_id,
            jsonb_agg(
                jsonb_build_object(
                    'contact_id', c.id,
                    'version', c.version,
                    'updated_at', c.updated_at,
                    'matched_by', g.kinds,
                    'needs_person', exists (
                        select
                        from public.sync_conflicts s
                        where s.account_id = partner_candidates.account_id
                          and s.contact_id = c.id
                          and s.state = 'open'
                          and s.partners is not null
                    ),
                    'party', private.contact_party(c)
                )
                order by c.id
            )
        from (
            select f.metakocka_id, f.contact_id, array_agg(distinct f.kind order by f.kind) as kinds
            from (
                select w.metakocka_id, o.contact_id, w.kind
                from (
                    select u.metakocka_id, 'metakocka' as kind, u.metakocka_id as value
                    from unknown u
                    union all
                    select u.metakocka_id, 'email', e
                    from unknown u
                    cross join lateral unnest(u.emails) e
                    union all
                    select u.metakocka_id, 'phone', p
                    from unknown u
                    cross join lateral unnest(u.phones) p
                ) w
                cross join lateral (
                    select i.contact_id
                    from public.contact_identities i
                    where i.account_id = partner_candidates.account_id
                      and i.kind = w.kind
                      and i.match_key = private.match_key(kind => w.kind, value => w.value)
                    limit 1
                ) o
                union all
                select u.metakocka_id, t.id, 'tax'
                from unknown u
                cross join lateral (
                    select o.id
                    from public.contacts o
                    where o.account_id = partner_candidates.account_id
                      and o.tax_id_number is not null
                      and private.tax_key(o.tax_id_number)
                          = nullif(private.tax_key(u.tax_id_number), '')
                      and private.same_tax(o.tax_id_number, u.tax_id_number)
                    -- planned by itself: by the key
                    offset 0
                ) t
                union all
                -- the caller compares them as numbers of their countries
                select u.metakocka_id, t.id, 'gsm'
                from unknown u
                cross join lateral unnest(u.phones) p
                cross join lateral (
                    select o.id
                    from public.contacts o
                    where o.account_id = partner_candidates.account_id
                      and o.gsm is not null
                      and left(o.gsm, 1) <> '+'
                      and private.number_tail(o.gsm) = private.number_tail(p)
                    limit 100
                ) t
            ) f
            group by f.metakocka_id, f.contact_id
        ) g
        cross join lateral (
            select o.*
            from public.contacts o
            where o.id = g.contact_id
              and o.deleted_at is null
            limit 1
        ) c
        left join lateral (
            select o.metakocka_id, o.not_partners
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- a contact that has a partner already is not another one
        where m.metakocka_id is null
          and coalesce(g.metakocka_id <> all (m.not_partners), true)
        group by g.metakocka_id;
end
$$;


create function backend.read_partners(account_id uuid, refs jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Looked up by key, row by row. One plan serves all calls; a plan made while the tables were
    -- empty would not. "limit 1" keeps the planner from reading a whole account.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    -- partners that an open question is about: they stay as they are until it is answered
    asked constant text[] := array(
        select distinct p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.account_id = read_partners.account_id
          and s.state = 'open'
          and s.partners is not null
    );
    has_forgotten constant boolean := private.are_partners_forgotten(read_partners.account_id);
    candidates jsonb;
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);
    candidates := (
        select jsonb_object_agg(p.metakocka_id, p.candidates)
        from private.partner_candidates(
            account_id => read_partners.account_id, refs => refs) p
    );

    return (
        select coalesce(
            jsonb_agg(
                case
                    when has_forgotten
                        and m.contact_id is null
                        and private.is_partner_forgotten(
                            account_id => read_partners.account_id, metakocka_id => r.metakocka_id)
                    then
                        jsonb_build_object(
                            'metakocka_id', r.metakocka_id,
                            'unchanged', true,
                            'is_forgotten', true
                        )
                    when m.partner_hash = r.partner_hash then
                        jsonb_build_object(
                            'metakocka_id', r.metakocka_id,
                            'unchanged', true,
                            'is_edited', d.contact_id is not null
                        )
                    when m.contact_id is not null then jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'contact_id', c.id,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'is_deleted', c.deleted_at is not null,
                        'party', private.contact_party(c),
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state,
                        'seen_at', m.seen_at,
                        'edits', coalesce(d.edits, '{}'),
                        'sent', coalesce(d.sent, '{}')
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'needs_person', r.metakocka_id = any (asked),
                        'candidates', coalesce(candidates -> r.metakocka_id, '[]')
                    )
                end
                order by r.place
            ),
            '[]')
        from rows from (
            jsonb_to_recordset(refs) as (
                metakocka_id text,
                partner_hash text,
                tax_id_number text,
                emails text[],
                phones text[]
            )
        ) with ordinality as r (metakocka_id, partner_hash, tax_id_number, emails, phones, place)
        left join lateral (
            select o.*
            from public.metakocka_contact_mappings o
            where o.account_id = read_partners.account_id
              and o.metakocka_id = r.metakocka_id
            limit 1
        ) m
            on true
        left join public.contacts c
            on c.id = m.contact_id
        left join lateral (
            select o.contact_id, o.edits, o.sent
            from private.metakocka_dirty o
            where o.contact_id = m.contact_id
            limit 1
        ) d
            on true
    );
end
$$;

grant execute on function backend.read_partners(uuid, jsonb) to service_role;


/*
    A run compares all partners with what is known, and most have not changed. For these no record is
    read here, and none of theirs is merged there: a run that finds 1 % changed takes 0.3 times the time.
*/
create function backend.compare_partners(account_id uuid, hashes jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- as read_partners
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    has_forgotten constant boolean := private.are_partners_forgotten(compare_partners.account_id);
    answer jsonb;
begin
    if jsonb_typeof(hashes) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'hashes must be an object of hashes by the ids of partners.',
            detail = 'field: hashes',
            hint = 'Send {} for none.';
    elsif (select count(*) > 5000 from jsonb_object_keys(hashes)) then
        raise sqlstate 'PT422' using
            message = 'These are too many hashes for one call.',
            detail = 'field: hashes',
            hint = 'Send at most 5000.';
    end if;

    select
        jsonb_build_object(
            'different', coalesce(jsonb_agg(c.metakocka_id) filter (where c.is_different), '[]'),
            'edited', coalesce(jsonb_agg(c.metakocka_id) filter (where c.is_edited), '[]')
        )
    into answer
    from (
        select
            h.metakocka_id,
            k.is_different,
            not k.is_different and exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = k.contact_id
            ) as is_edited
        from jsonb_each_text(hashes) as h (metakocka_id, partner_hash)
        left join lateral (
            select o.contact_id, o.partner_hash
            from public.metakocka_contact_mappings o
            where o.account_id = compare_partners.account_id
              and o.metakocka_id = h.metakocka_id
            limit 1
        ) m
            on true
        cross join lateral (
            select
                m.contact_id,
                m.partner_hash is distinct from h.partner_hash
                    -- an erased contact does not come back by its partner
                    and not (
                        has_forgotten
                        and m.contact_id is null
                        and private.is_partner_forgotten(
                            account_id => compare_partners.account_id,
                            metakocka_id => h.metakocka_id)
                    ) as is_different
        ) k
    ) c;
    return answer;
end
$$;

grant execute on function backend.compare_partners(uuid, jsonb) to service_role;


create function private.require_list(list jsonb, field text, longest integer)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if jsonb_typeof(list) is distinct from 'array'
        or list @? 'strict $[*] ? (@.type() != "object")'
    then
        raise sqlstate 'PT422' using
            message = format('%s must be a list of objects.', field),
            detail = 'field: ' || field,
            hint = 'Send [] for none.';
    elsif jsonb_array_length(list) > longest then
        raise sqlstate 'PT422' using
            message = format('%s %s are too many for one call.', jsonb_array_length(list), field),
            detail = 'field: ' || field,
            hint = format('Send at most %s.', longest);
    end if;
end
$$;


comment on function private.partner_candidates(uuid, jsonb) is
    'The contacts that each partner without a contact may be: by tax number, email, phone or its own id, or perhaps by a mobile number without a country (gsm). Without contacts that have a partner, and contacts that, as a person has said, are not this partner.';
comment on function backend.compare_partners(uuid, jsonb) is
    'Compares up to 5000 partners, {metakocka_id: partner_hash}, with what is known. Returns {different: [metakocka_id], edited: [metakocka_id]}: those with another hash, and those with the known hash whose contact waits to be sent.';
comment on function private.require_list(jsonb, text, integer) is
    'Refuses a value that is no list of objects, or is too long.';
comment on function backend.read_partners(uuid, jsonb) is
    'The known facts about up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order. {unchanged: true, is_edited} for a known hash; is_edited says that the contact waits to be sent. {contact_id, version, updated_at, is_deleted, party, base, base_version, state, seen_at, edits, sent} for a partner that is a contact. Otherwise {needs_person, candidates: [{contact_id, version, updated_at, matched_by, needs_person, party}]}; needs_person says that a person must tell which partner a contact is.';
