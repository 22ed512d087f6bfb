/*
    The worker's side of marks: claim some, send each, settle it. A contact that changes while it is
    sent keeps its mark.
*/
create function backend.claim_dirty_contacts(
    account_id uuid,
    worker text,
    batch integer default 10,
    contact_ids uuid[] default null,
    dry_run boolean default false,
    -- the changed_seq beyond which a dry run goes on
    after bigint default 0
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    claimed uuid[];
begin
    if not dry_run then
        -- another worker's marks are not taken
        perform
        from private.sync_leases l
        where l.account_id = claim_dirty_contacts.account_id
          and l.worker <> claim_dirty_contacts.worker
          and l.lease_until > clock_timestamp();
        if found then
            perform private.require_worker(
                account_id => claim_dirty_contacts.account_id,
                worker => claim_dirty_contacts.worker
            );
        end if;
    end if;
    claimed := array(
        select d.contact_id
        from private.metakocka_dirty d
        where d.account_id = claim_dirty_contacts.account_id
          and (claim_dirty_contacts.contact_ids is null
               or d.contact_id = any (claim_dirty_contacts.contact_ids))
          and (d.changed_seq > after or not dry_run)
          and (d.not_before <= clock_timestamp() or dry_run)
          and (coalesce(d.lease_until <= clock_timestamp(), true) or dry_run)
        order by d.changed_seq
        limit least(greatest(batch, 1), 100)
        for update skip locked
    );
    if claimed <> '{}' and not dry_run then
        update private.metakocka_dirty d
        set lease_until = clock_timestamp() + private.sync_lease(),
            worker = claim_dirty_contacts.worker,
            attempts = d.attempts + 1,
            edited_at = null
        where d.contact_id = any (claimed);
    end if;

    return jsonb_build_object(
        'claimed', (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'contact_id', c.id,
                        'changed_seq', d.changed_seq,
                        'attempts', d.attempts,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'party', private.contact_party(c),
                        'metakocka_id', m.metakocka_id,
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state,
                        'seen_at', m.seen_at,
                        'edits', d.edits,
                        'sent', d.sent,
                        'not_partners', coalesce(m.not_partners, '{}'),
                        -- the values by which its partner is looked for, and the unproved ones
                        'emails', private.identity_values(c, 'email'),
                        'phones', private.identity_values(c, 'phone'),
                        'unproved', private.unproved_fields(c),
                        'offered_partners', private.offered_partners(c),
                        -- calls whose outcome must be found out first
                        'intents', private.open_intents(c.id)
                    )
                    order by d.changed_seq
                ),
                '[]')
            from unnest(claimed) as l (contact_id)
            join private.metakocka_dirty d
                on d.contact_id = l.contact_id
            join public.contacts c
                on c.id = l.contact_id
               and c.deleted_at is null
            left join public.metakocka_contact_mappings m
                on m.contact_id = l.contact_id
        ),
        -- in seconds, the time until there is something to do again, as far as is known now
        'next_in', (
            select extract(epoch from min(greatest(d.not_before, d.lease_until)) - clock_timestamp())
            from private.metakocka_dirty d
            where d.account_id = claim_dirty_contacts.account_id
              and (claim_dirty_contacts.contact_ids is null
                   or d.contact_id = any (claim_dirty_contacts.contact_ids))
              and d.contact_id <> all (claimed)
        )
    );
end
$$;

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean, bigint)
    to service_role;


create function backend.note_partners_seen(
    account_id uuid,
    metakocka_ids text[],
    seen_at timestamptz,
    worker text default null,
    -- of one partner with different fields: the agreed state while our change is on its way
    base jsonb default null
)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    noted integer;
begin
    perform private.require_worker(
        account_id => note_partners_seen.account_id, worker => note_partners_seen.worker);
    update public.metakocka_contact_mappings m
    set seen_at = note_partners_seen.seen_at,
        base = coalesce(note_partners_seen.base, m.base),
        partner_hash = case when note_partners_seen.base is null then m.partner_hash end
    where m.contact_id = any (array(
        select o.contact_id
        from public.metakocka_contact_mappings o
        join private.metakocka_dirty d
            on d.contact_id = o.contact_id
        where o.account_id = note_partners_seen.account_id
          and o.metakocka_id = any (note_partners_seen.metakocka_ids)
          and coalesce(o.seen_at < note_partners_seen.seen_at, true)
        order by o.contact_id
        for no key update of o
    ));
    get diagnostics noted = row_count;
    return noted;
end
$$;

grant execute on function backend.note_partners_seen(uuid, text[], timestamptz, text, jsonb)
    to service_role;


create function backend.note_sent(
    account_id uuid,
    contact_id uuid,
    worker text,
    -- by field
    sent jsonb
)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    perform private.require_worker(account_id => note_sent.account_id, worker => note_sent.worker);
    update private.metakocka_dirty d
    set sent = d.sent || coalesce(
        (
            select jsonb_object_agg(
                f.key,
                (
                    -- the latest ten
                    select jsonb_agg(v.value order by v.place)
                    from (
                        select e.value, e.place
                        from jsonb_array_elements(
                            coalesce(d.sent -> f.key, '[]') || jsonb_build_array(f.value)
                        ) with ordinality as e (value, place)
                        order by e.place desc
                        limit 10
                    ) v
                )
            )
            from jsonb_each(note_sent.sent) f
        ),
        '{}')
    where d.contact_id = note_sent.contact_id
      and d.account_id = note_sent.account_id;
end
$$;

grant execute on function backend.note_sent(uuid, uuid, text, jsonb) to service_role;


create function private.identity_values(contact public.contacts, kind text)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select o.value
        from public.contact_identities o
        where o.contact_id = contact.id
          and o.account_id = contact.account_id
          and o.kind = identity_values.kind
        order by o.match_key
    );
end
$$;


create function private.offered_partners(contact public.contacts)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.contact_id = contact.id
          and s.account_id = contact.account_id
          and s.state = 'open'
          and s.partners is not null
        order by 1
    );
end
$$;


create function private.take_mark(contact_id uuid, changed_seq bigint)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    delete from private.metakocka_dirty d
    where d.contact_id = take_mark.contact_id
      and d.changed_seq <= take_mark.changed_seq;
    if found then
        return true;
    end if;
    -- changed meanwhile: it can be sent again
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null
    where d.contact_id = take_mark.contact_id;
    return not found;
end
$$;


create function backend.postpone_contact(
    account_id uuid,
    contact_id uuid,
    worker text,
    retry_in interval
)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null,
        not_before = clock_timestamp()
            + least(greatest(postpone_contact.retry_in, interval '0'), interval '1 day')
    where d.contact_id = postpone_contact.contact_id
      and d.account_id = postpone_contact.account_id
      and d.worker = postpone_contact.worker;
end
$$;

grant execute on function backend.postpone_contact(uuid, uuid, text, interval) to service_role;


comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean, bigint) is
    'Leases up to 100 changed contacts, all or the ones in contact_ids, in the order of their changes. dry_run shows them, beyond the changed_seq after, and leases none. {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, seen_at, edits, sent, not_partners, emails, phones, unproved, offered_partners, intents}], next_in}; next_in is the number of seconds until there are others.';
comment on function backend.note_partners_seen(uuid, text[], timestamptz, text, jsonb) is
    'Notes when the partners of waiting contacts were last seen in their agreed state: a later difference was edited later. base is the new agreed state, for a single partner. Returns the number of partners.';
comment on function backend.note_sent(uuid, uuid, text, jsonb) is
    'Notes the values by field that are about to be sent for a contact: if the answer is lost, the partner that has one of them was not edited at Metakocka.';
comment on function private.identity_values(public.contacts, text) is
    'The emails or phones that identify a contact, shown in it or not.';
comment on function private.offered_partners(public.contacts) is
    'The partners in open questions about a contact.';
comment on function private.take_mark(uuid, bigint) is
    'Removes a contact''s mark if it is not newer than changed_seq; otherwise frees its lease. Returns whether there is no mark left.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent later.';
