/*
    The decisions of the merge about partners, as the sync passes them, and the reasons against
    them. If an item was decided from a state that has changed since, it is stale: the sync reads
    and merges it again.
*/
create type private.partner_item as (
    place        bigint,
    metakocka_id text,
    -- of a new contact: an id chosen here
    contact_id   uuid,
    is_new       boolean,
    -- the contact's version when it was read
    version      bigint,
    changes      jsonb,
    partner_hash text,
    base         jsonb,
    conflicts    jsonb,
    candidates   uuid[],
    -- the contact has values that the partner lacks
    push         boolean,
    partner      jsonb,
    -- when the partner was read
    seen_at      timestamptz,
    -- the result: created, adopted, updated; or stale, waiting, refused
    status       text,
    reason       text
);


create function private.read_partner_items(account_id uuid, given jsonb)
    returns private.partner_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    items private.partner_item[];
    has_forgotten constant boolean :=
        private.are_partners_forgotten(read_partner_items.account_id);
begin
    select array_agg(
        (
            r.place,
            r.metakocka_id,
            coalesce(r.contact_id, gen_random_uuid()),
            r.contact_id is null,
            r.expected_version,
            coalesce(r.changes, '{}'),
            r.partner_hash,
            r.base,
            coalesce(r.conflicts, '[]'),
            coalesce(r.candidates, '{}'),
            coalesce(r.push, false),
            r.partner,
            r.seen_at,
            s.status,
            s.reason
        )::private.partner_item
        order by r.metakocka_id, r.place
    )
    into items
    from (
        select
            p.*,
            row_number() over (partition by p.metakocka_id order by p.place) as nth_of_partner,
            row_number() over (partition by p.contact_id order by p.metakocka_id, p.place)
                as nth_of_contact
        from rows from (
            jsonb_to_recordset(given) as (
                metakocka_id text,
                contact_id uuid,
                expected_version bigint,
                changes jsonb,
                partner_hash text,
                base jsonb,
                conflicts jsonb,
                candidates uuid[],
                push boolean,
                partner jsonb,
                seen_at timestamptz
            )
        ) with ordinality as p (
            metakocka_id, contact_id, expected_version, changes, partner_hash, base, conflicts,
            candidates, push, partner, seen_at, place
        )
    ) r
    -- the partner's present contact
    left join lateral (
        select o.contact_id
        from public.metakocka_contact_mappings o
        where o.account_id = read_partner_items.account_id
          and o.metakocka_id = r.metakocka_id
        limit 1
    ) m
        on true
    left join lateral (
        select o.deleted_at
        from public.contacts o
        where o.id = m.contact_id
        limit 1
    ) mapped
        on true
    -- the contact that the item names, and that contact's present partner
    left join lateral (
        select o.account_id, o.version, o.deleted_at
        from public.contacts o
        where o.id = r.contact_id
        limit 1
    ) c
        on true
    left join lateral (
        select o.metakocka_id
        from public.metakocka_contact_mappings o
        where o.contact_id = r.contact_id
        limit 1
    ) other
        on true
    cross join lateral (
        select
            case
                when r.metakocka_id is null then 'metakocka_id: It is missing.'
                when r.nth_of_partner > 1 then 'metakocka_id: It is there twice.'
                when r.contact_id is not null
                    and c.account_id is distinct from read_partner_items.account_id
                    then 'contact_id: There is no such contact.'
            end as reason,
            m.contact_id is not null
            and m.contact_id is distinct from r.contact_id
            -- a deleted contact gives up its partner
            and mapped.deleted_at is null
            -- it was read before its contact was erased, and would make a new one
            or has_forgotten
            and r.contact_id is null
            and m.contact_id is null
            and private.is_partner_forgotten(
                account_id => read_partner_items.account_id, metakocka_id => r.metakocka_id)
            -- the contact is another partner by now
            or coalesce(other.metakocka_id <> r.metakocka_id, false)
            -- one that a person would choose from is another partner by now, or gone
            or r.contact_id is null
            and exists (
                select
                from unnest(r.candidates) n
                join public.contacts o
                    on o.id = n
                   and o.account_id = read_partner_items.account_id
                left join public.metakocka_contact_mappings k
                    on k.contact_id = o.id
                where o.deleted_at is not null
                   or k.metakocka_id is not null
            )
            as is_taken
    ) j
    cross join lateral (
        select
            case
                when j.reason is not null then 'refused'
                when j.is_taken or (r.contact_id is not null and r.nth_of_contact > 1) then 'stale'
                when c.deleted_at is not null or c.version <> r.expected_version then 'stale'
                when r.contact_id is null and cardinality(r.candidates) > 0 then 'waiting'
                when r.contact_id is null then 'created'
                when m.contact_id is distinct from r.contact_id then 'adopted'
                else 'updated'
            end as status,
            j.reason
    ) s;
    return coalesce(items, '{}');
end
$$;


create function private.partner_results(items private.partner_item[])
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
                    'metakocka_id', i.metakocka_id,
                    'status', case
                        when i.status = 'updated' and i.changes = '{}' then 'unchanged'
                        else i.status
                    end,
                    'contact_id', case
                        when i.status in ('created', 'adopted', 'updated') then i.contact_id
                    end,
                    'reason', i.reason
                )
                order by i.place
            ),
            '[]')
        from unnest(items) i
    );
end
$$;


comment on type private.partner_item is
    'A partner, with the decision of the merge.';
comment on function private.read_partner_items(uuid, jsonb) is
    'The items of a call, sorted by partner, each with its result.';
comment on function private.partner_results(private.partner_item[]) is
    'The results of items, in the order of the call.';
