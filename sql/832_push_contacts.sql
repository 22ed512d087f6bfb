/*
    The worker's side of marks: claim some, send each, settle it. What is changed while it is
    being sent keeps its mark.
*/
create function backend.claim_dirty_contacts(
    account_id uuid,
    worker text,
    batch integer default 10,
    contact_ids uuid[] default null,
    dry_run boolean default false
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
    claimed := array(
        select d.contact_id
        from private.metakocka_dirty d
        where d.account_id = claim_dirty_contacts.account_id
          and (claim_dirty_contacts.contact_ids is null
               or d.contact_id = any (claim_dirty_contacts.contact_ids))
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
            attempts = d.attempts + 1
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
                        -- a call whose outcome is to be found out first
                        'intent', (
                            select to_jsonb(e)
                            from private.partner_intents i
                            cross join lateral private.intent_rows(i.id) e
                            where i.contact_id = c.id
                              and i.state in ('intended', 'sent', 'unknown')
                        )
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
        -- when there is something to do again, as far as is known now
        'next_at', (
            select min(greatest(d.not_before, d.lease_until))
            from private.metakocka_dirty d
            where d.account_id = claim_dirty_contacts.account_id
              and (claim_dirty_contacts.contact_ids is null
                   or d.contact_id = any (claim_dirty_contacts.contact_ids))
              and d.contact_id <> all (claimed)
        )
    );
end
$$;

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean)
    to service_role;


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
    -- changed meanwhile: it is free to be sent again
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null
    where d.contact_id = take_mark.contact_id;
    return not found;
end
$$;


create function backend.settle_partner(
    account_id uuid,
    run_id uuid,
    contact_id uuid,
    changed_seq bigint,
    item jsonb
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    whose constant uuid := private.sync_user(
        account_id => settle_partner.account_id, run_id => settle_partner.run_id);
    given jsonb := item || jsonb_build_object('contact_id', settle_partner.contact_id);
    old_base jsonb;
    result jsonb;
    is_clear boolean;
begin
    perform private.require_list(list => jsonb_build_array(item), field => 'item', longest => 1);
    perform set_config('rapport.from_metakocka', 'yes', true);
    result := private.try_apply_partner(
        account_id => settle_partner.account_id, user_id => whose, item => given);

    if result ->> 'status' = 'stale' and coalesce(item -> 'changes', '{}') <> '{}' then
        -- it has been edited meanwhile. That it is this partner, and what this one was sent,
        -- stands all the same; what was to be written to it is for the next merge
        select m.base
        into old_base
        from public.metakocka_contact_mappings m
        where m.contact_id = settle_partner.contact_id;
        given := given || jsonb_build_object(
            'changes', '{}'::jsonb,
            'expected_version', null,
            'partner_hash', null,
            'push', false,
            'base', (
                select coalesce(
                    jsonb_object_agg(
                        b.key,
                        case
                            when item -> 'changes' ? b.key then coalesce(old_base -> b.key, 'null')
                            else b.value
                        end
                    ),
                    '{}')
                from jsonb_each(item -> 'base') b
            )
        );
        if private.try_apply_partner(
            account_id => settle_partner.account_id, user_id => whose, item => given
        ) ->> 'status' in ('adopted', 'updated', 'unchanged') then
            perform private.mark_dirty(
                account_id => settle_partner.account_id,
                contact_ids => array[settle_partner.contact_id],
                quiet_for => interval '0'
            );
        end if;
    end if;
    perform set_config('rapport.from_metakocka', '', true);

    is_clear := private.take_mark(
        contact_id => settle_partner.contact_id,
        changed_seq => case
            when result ->> 'status' in ('adopted', 'updated', 'unchanged')
                then settle_partner.changed_seq
            else 0
        end
    );
    if is_clear then
        update public.metakocka_contact_mappings m
        set state = 'synced'
        where m.contact_id = settle_partner.contact_id
          and m.account_id = settle_partner.account_id
          and m.state = 'waiting'
          and m.metakocka_id is not null
          and not coalesce((item -> 'push')::boolean, false);
    end if;
    return result || jsonb_build_object('changed_meanwhile', not is_clear);
end
$$;

grant execute on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) to service_role;


create function private.require_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform
    from public.contacts c
    where c.id = require_contact.contact_id
      and c.account_id = require_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('contact: %s', require_contact.contact_id);
    end if;
end
$$;


create function backend.block_contact(
    account_id uuid,
    contact_id uuid,
    changed_seq bigint,
    missing text[],
    state text default 'blocked'
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    is_clear boolean;
begin
    if block_contact.state not in ('blocked', 'conflict', 'unknown') then
        raise sqlstate 'PT422' using
            message = 'What is not sent is blocked, in conflict or unknown.',
            detail = 'field: state';
    end if;
    perform private.require_contact(
        account_id => block_contact.account_id, contact_id => block_contact.contact_id);
    -- mappings before marks, as everywhere
    perform
    from public.metakocka_contact_mappings m
    where m.contact_id = block_contact.contact_id
    for no key update;
    is_clear := private.take_mark(
        contact_id => block_contact.contact_id, changed_seq => block_contact.changed_seq);
    if not is_clear then
        -- what was missing may be there by now
        return false;
    end if;

    insert into public.metakocka_contact_mappings as m (account_id, contact_id, state, missing)
    values (
        block_contact.account_id, block_contact.contact_id, block_contact.state,
        block_contact.missing
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set state = excluded.state,
            missing = excluded.missing
        where (m.state, m.missing) is distinct from (excluded.state, excluded.missing);
    return true;
end
$$;

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text) to service_role;


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


comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean) is
    'Leases up to 100 contacts that changed, all or those of contact_ids, in the order of their change; a dry_run shows them and leases none: {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, intent}], next_at}.';
comment on function private.take_mark(uuid, bigint) is
    'Takes a contact''s mark away if it is not newer than this; otherwise gives its lease free. Whether there is no mark left.';
comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) is
    'Notes what was agreed when a contact was sent, an item as of apply_partners: its answer with changed_meanwhile, true where the contact is to be sent again. Also if it is stale, that it is this partner stands.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account; refused where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text) is
    'Notes why a contact is not sent: it lacks fields (blocked), a person decides (conflict), or it may have been (unknown). False where it has changed meanwhile and is to be sent again.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent again later.';
