/*
    Asks which partner a contact is: it may be one of several, or its own one is gone. The contact
    is not sent until somebody answers, or the answer becomes clear by itself.
*/
create function backend.ask_partner(
    account_id uuid,
    contact_id uuid,
    -- null where the contact keeps its present partner
    changed_seq bigint,
    metakocka_id text,
    partners jsonb,
    worker text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
-- a partial index can only be named by its columns
#variable_conflict use_column
begin
    perform private.require_list(list => partners, field => 'partners', longest => 100);
    perform private.require_worker(
        account_id => ask_partner.account_id, worker => ask_partner.worker);
    perform private.require_contact(
        account_id => ask_partner.account_id, contact_id => ask_partner.contact_id);

    if ask_partner.changed_seq is not null then
        -- mappings before marks, as everywhere
        perform
        from public.metakocka_contact_mappings m
        where m.contact_id = ask_partner.contact_id
        for no key update;
        if not private.take_mark(
            contact_id => ask_partner.contact_id, changed_seq => ask_partner.changed_seq)
        then
            -- the change may answer the question
            return false;
        end if;

        insert into public.metakocka_contact_mappings as m (account_id, contact_id, state)
        values (ask_partner.account_id, ask_partner.contact_id, 'conflict')
        on conflict on constraint metakocka_contact_mappings_pkey do update
            set state = excluded.state,
                missing = '{}'
            where m.state <> 'conflict';
    end if;

    insert into public.sync_conflicts as s (account_id, contact_id, metakocka_id, partners)
    values (
        ask_partner.account_id, ask_partner.contact_id, ask_partner.metakocka_id,
        ask_partner.partners
    )
    on conflict (account_id, contact_id) where state = 'open' and partners is not null
        do update
        set metakocka_id = excluded.metakocka_id,
            partners = excluded.partners
        where (s.metakocka_id, s.partners) is distinct from (excluded.metakocka_id, excluded.partners);
    return true;
end
$$;

grant execute on function backend.ask_partner(uuid, uuid, bigint, text, jsonb, text)
    to service_role;


comment on function backend.ask_partner(uuid, uuid, bigint, text, jsonb, text) is
    'Asks which of partners, [{metakocka_id, …}], a contact is. metakocka_id is its present partner. False where the contact has changed meanwhile and must be sent again.';
