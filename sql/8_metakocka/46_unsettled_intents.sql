/*
    The open intents that a reading of partners must know: a partner made by a lost call must not
    become a new contact. No worker claims deleted contacts any more, but a partner that was made
    for one stays its partner.
*/
create function private.is_merged_alive(contact_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    redirect record;
    next_id uuid := contact_id;
begin
    loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = next_id;
        exit when redirect.merged_into is null;
        next_id := redirect.merged_into;
    end loop;
    return redirect.deleted_at is null;
end
$$;


create function backend.unsettled_intents(account_id uuid, batch integer default 500)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                to_jsonb(e) || jsonb_build_object('is_orphaned', i.is_orphaned)
                order by i.created_at, i.id
            ),
            '[]')
        from (
            select
                o.id,
                o.created_at,
                -- the worker of the kept contact looks for a merged contact's partner
                c.deleted_at is not null and not private.is_merged_alive(c.id) as is_orphaned
            from private.partner_intents o
            join public.contacts c
                on c.id = o.contact_id
            where o.account_id = unsettled_intents.account_id
              and o.state in ('intended', 'sent', 'unknown')
            order by o.created_at, o.id
            limit least(greatest(batch, 1), 500)
        ) i
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;

grant execute on function backend.unsettled_intents(uuid, integer) to service_role;


create function backend.forget_partner(
    account_id uuid,
    contact_id uuid,
    metakocka_id text,
    worker text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    perform private.require_worker(
        account_id => forget_partner.account_id, worker => forget_partner.worker);
    perform
    from public.contacts c
    where c.id = forget_partner.contact_id
      and c.account_id = forget_partner.account_id
      and c.deleted_at is not null
    for no key update;
    if not found then
        return false;
    end if;
    insert into public.metakocka_contact_mappings as m (account_id, contact_id, metakocka_id, state)
    values (
        forget_partner.account_id, forget_partner.contact_id, forget_partner.metakocka_id, 'blocked'
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state
        where m.metakocka_id is null;
    return found;
exception
    when unique_violation then
        -- it is another contact by now
        return false;
end
$$;

grant execute on function backend.forget_partner(uuid, uuid, text, text) to service_role;


comment on function private.is_merged_alive(uuid) is
    'Whether a deleted contact was merged into one that exists.';
comment on function backend.unsettled_intents(uuid, integer) is
    'The open intents of an account, the oldest first: [{intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_orphaned}]. age is in seconds. is_orphaned says that the contact was deleted and no worker claims it any more.';
comment on function backend.forget_partner(uuid, uuid, text, text) is
    'Notes the partner of a deleted contact, so that it does not come back as a new contact. False where the contact exists again or has another partner.';
