/*
    The outcome for a claimed contact: it agrees with its partner, or it can't be sent, with the
    reason.
*/
create function backend.settle_partner(
    account_id uuid,
    run_id uuid,
    contact_id uuid,
    changed_seq bigint,
    item jsonb,
    worker text default null
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
    perform private.require_worker(
        account_id => settle_partner.account_id, worker => settle_partner.worker);
    perform set_config('rapport.from_metakocka', 'on', true);
    result := private.try_apply_partner(
        account_id => settle_partner.account_id, user_id => whose, item => given);

    if result ->> 'status' = 'stale' and coalesce(item -> 'changes', '{}') <> '{}' then
        -- It has been edited meanwhile. Its partner, and the values that were sent, are still
        -- right. The next merge decides what to write to the contact.
        select m.base
        into old_base
        from public.metakocka_contact_mappings m
        where m.contact_id = settle_partner.contact_id;
        given := given || jsonb_build_object(
            'changes', '{}'::jsonb,
            'expected_version', null,
            'partner_hash', null,
            'seen_at', null,
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
    perform set_config('rapport.from_metakocka', 'off', true);

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

grant execute on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb, text)
    to service_role;


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
    state text default 'blocked',
    worker text default null
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
    if block_contact.state not in ('blocked', 'unknown') then
        raise sqlstate 'PT422' using
            message = 'A contact that is not sent is blocked or unknown.',
            detail = 'field: state';
    end if;
    perform private.require_worker(
        account_id => block_contact.account_id, worker => block_contact.worker);
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
        -- the missing fields may be there by now
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

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text, text)
    to service_role;


comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb, text) is
    'Notes the agreed state of a sent contact, in an item as in apply_partners. Returns its result with changed_meanwhile, which is true where the contact must be sent again. Even if the item is stale, its partner is noted.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account. Refuses where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text, text) is
    'Notes why a contact is not sent: it lacks fields (blocked), or it may have been sent (unknown). False where it has changed meanwhile and must be sent again.';
