/*
    The facts that the sync needs before it merges partners: each partner's contact and agreed
    state, or the contacts that a new partner may be.
*/
create function private.partner_candidates(
    account_id uuid,
    metakocka_id text,
    tax_id_number text,
    emails text[],
    phones text[]
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(
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
            ),
            '[]')
        from (
            select f.contact_id, array_agg(distinct f.kind order by f.kind) as kinds
            from (
                select o.contact_id, w.kind
                from (
                    select 'metakocka' as kind, partner_candidates.metakocka_id as value
                    union all
                    select 'email', e
                    from unnest(emails) e
                    union all
                    select 'phone', p
                    from unnest(phones) p
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
                select t.id, 'tax'
                from public.contacts t
                where t.account_id = partner_candidates.account_id
                  and t.tax_id_number is not null
                  and private.tax_key(t.tax_id_number)
                      = nullif(private.tax_key(partner_candidates.tax_id_number), '')
                  and private.same_tax(t.tax_id_number, partner_candidates.tax_id_number)
                union all
                -- the caller compares them as numbers of their countries
                select t.id, 'gsm'
                from unnest(phones) p
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
            group by f.contact_id
        ) g
        join public.contacts c
            on c.id = g.contact_id
           and c.deleted_at is null
        left join lateral (
            select o.metakocka_id, o.not_partners
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- a contact that has a partner already is not another one
        where m.metakocka_id is null
          and coalesce(partner_candidates.metakocka_id <> all (m.not_partners), true)
    );
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
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);

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
                        'edits', coalesce(d.edits, '{}')
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'needs_person', r.metakocka_id = any (asked),
                        'candidates', private.partner_candidates(
                            account_id => read_partners.account_id,
                            metakocka_id => r.metakocka_id,
                            tax_id_number => r.tax_id_number,
                            emails => r.emails,
                            phones => r.phones
                        )
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
            select o.contact_id, o.edits
            from private.metakocka_dirty o
            where o.contact_id = m.contact_id
            limit 1
        ) d
            on true
    );
end
$$;

grant execute on function backend.read_partners(uuid, jsonb) to service_role;


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


comment on function private.partner_candidates(uuid, text, text, text[], text[]) is
    'The contacts that a partner may be: by tax number, email, phone or its own id, or perhaps by a mobile number without a country (gsm). Without contacts that have a partner, and contacts that, as a person has said, are not this partner.';
comment on function private.require_list(jsonb, text, integer) is
    'Refuses a value that is no list of objects, or is too long.';
comment on function backend.read_partners(uuid, jsonb) is
    'The known facts about up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order. {unchanged: true, is_edited} for a known hash; is_edited says that the contact waits to be sent. {contact_id, version, updated_at, is_deleted, party, base, base_version, state, seen_at, edits} for a partner that is a contact. Otherwise {needs_person, candidates: [{contact_id, version, updated_at, matched_by, needs_person, party}]}; needs_person says that a person must tell which partner a contact is.';
