/*
    Writes partners that were read from Metakocka and merged, up to 500 in one call: all at once,
    and one by one only if that fails. So a bad one blocks no other.
*/
create function private.apply_partner_set(account_id uuid, user_id uuid, given jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    items constant private.partner_item[] := private.read_partner_items(
        account_id => apply_partner_set.account_id, given => given);
    written constant private.partner_item[] := array(
        select i
        from unnest(items) i
        where i.status in ('created', 'adopted', 'updated')
    );
    owned private.wanted_identity[];
begin
    if written <> '{}' then
        owned := private.claim_partner_identities(
            account_id => apply_partner_set.account_id, items => written);
        perform private.write_partner_contacts(
            account_id => apply_partner_set.account_id, items => written);
        perform private.release_partner_identities(
            account_id => apply_partner_set.account_id, items => written);
        perform private.write_partner_mappings(
            account_id => apply_partner_set.account_id,
            user_id => apply_partner_set.user_id,
            items => written
        );
        perform private.suggest_partners(
            account_id => apply_partner_set.account_id, items => written, owned => owned);
    end if;
    perform private.write_sync_conflicts(
        account_id => apply_partner_set.account_id,
        items => array(
            select i
            from unnest(items) i
            where i.status in ('created', 'adopted', 'updated', 'waiting')
        )
    );
    return private.partner_results(items);
end
$$;


create function private.try_apply_partner(account_id uuid, user_id uuid, item jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    code text;
    constraint_name text;
    is_stale boolean;
begin
    return private.apply_partner_set(
        account_id => try_apply_partner.account_id,
        user_id => try_apply_partner.user_id,
        given => jsonb_build_array(item)
    ) -> 0;
exception
    when sqlstate 'RP002' or sqlstate 'PT422'
        or data_exception or integrity_constraint_violation
    then
        get stacked diagnostics
            code = returned_sqlstate,
            constraint_name = constraint_name;
        -- somebody else has written the same meanwhile: read and merge again
        is_stale := code in ('RP002', '23505');
        return jsonb_build_object(
            'metakocka_id', item -> 'metakocka_id',
            'status', case when is_stale then 'stale' else 'refused' end,
            'contact_id', null,
            'reason', case
                when is_stale then null
                -- the constraint names the field; Postgres' own words could quote the row
                when constraint_name like 'contacts\_%\_check' then format(
                    '%s: The database does not take it.',
                    substring(constraint_name from '^contacts_(.*)_check$'))
                else format('The database does not take it (%s).', code)
            end
        );
end
$$;


create function private.apply_partner_items(account_id uuid, user_id uuid, items jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    item jsonb;
    results jsonb := '{}';
begin
    begin
        return private.apply_partner_set(
            account_id => apply_partner_items.account_id,
            user_id => apply_partner_items.user_id,
            given => items
        );
    exception
        when sqlstate 'RP002' or sqlstate 'PT422'
            or data_exception or integrity_constraint_violation
        then
            null;
    end;

    -- in the order of their partners, so that of two such calls one waits for the other
    for item in
        select e.value || jsonb_build_object('place', e.place)
        from jsonb_array_elements(items) with ordinality as e (value, place)
        order by e.value ->> 'metakocka_id', e.place
    loop
        if results <> '{}' then
            -- The locks of one partner are in order, those of several are not. From the second one
            -- on it gives up early, long before a deadlock.
            perform set_config('lock_timeout', '400ms', true);
        end if;
        results := results || jsonb_build_object(
            item ->> 'place',
            private.try_apply_partner(
                account_id => apply_partner_items.account_id,
                user_id => apply_partner_items.user_id,
                item => item
            )
        );
    end loop;
    return (
        select jsonb_agg(r.value order by r.key::integer)
        from jsonb_each(results) r
    );
end
$$;


create function backend.apply_partners(
    account_id uuid,
    run_id uuid,
    items jsonb,
    quiet boolean default false,
    worker text default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Rows are looked up by key. One plan serves all calls; a plan made while the tables were empty
    -- would not.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the planner's penalty for disabled scans must not look like work worth compiling
    set jit = off
as $$
declare
    lock_timeout constant text := current_setting('lock_timeout');
    whose uuid;
    results jsonb;
begin
    perform private.require_list(list => items, field => 'items', longest => 500);
    perform private.require_worker(
        account_id => apply_partners.account_id, worker => apply_partners.worker);
    whose := private.sync_user(account_id => apply_partners.account_id, run_id => apply_partners.run_id);

    perform set_config('rapport.from_metakocka', 'on', true);
    if quiet and run_id is not null then
        perform set_config('rapport.quiet', 'on', true);
        -- before the first write: the worker that ends the run tells clients to read again
        update public.sync_runs r
        set quiet = true
        where r.id = run_id
          and not r.quiet;
    end if;

    results := private.apply_partner_items(
        account_id => apply_partners.account_id, user_id => whose, items => items);

    perform private.analyze_new_tables();

    perform set_config('rapport.quiet', 'off', true);
    perform set_config('rapport.from_metakocka', 'off', true);
    perform set_config('lock_timeout', lock_timeout, true);
    return results;
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Others are changing some of these contacts.',
            hint = 'Try again.';
end
$$;

grant execute on function backend.apply_partners(uuid, uuid, jsonb, boolean, text)
    to service_role;


create function private.analyze_new_tables()
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- A session keeps the plans that it makes while tables are empty: foreign keys then read a
    -- whole account for each row, until the first autoanalyze a minute later.
    if (
        select c.reltuples < 0
        from pg_catalog.pg_class c
        where c.oid = 'public.contacts'::regclass
    ) then
        analyze
            public.contacts, public.contact_identities, public.customers,
            public.metakocka_contact_mappings;
    end if;
end
$$;


create function private.sync_user(account_id uuid, run_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    whose record;
begin
    select k.account_id, coalesce(r.user_id, k.user_id) as user_id
    into whose
    from public.metakocka_connections k
    left join public.sync_runs r
        on r.id = sync_user.run_id
       and r.account_id = k.account_id
    where k.account_id = sync_user.account_id
      and (sync_user.run_id is null or r.id is not null);
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such connection to Metakocka, or it has no such run.',
            detail = 'field: account_id, run_id';
    end if;
    return whose.user_id;
end
$$;


comment on function private.apply_partner_set(uuid, uuid, jsonb) is
    'Writes partners all at once, or raises.';
comment on function private.try_apply_partner(uuid, uuid, jsonb) is
    'Writes one partner. Undone where it is stale or refused.';
comment on function private.apply_partner_items(uuid, uuid, jsonb) is
    'Writes partners, one by one where they can''t be written at once.';
comment on function private.analyze_new_tables() is
    'Analyzes the tables of contacts of a new database, once.';
comment on function private.sync_user(uuid, uuid) is
    'The user of a sync: the one who asked for the run, or who connected the account.';
comment on function backend.apply_partners(uuid, uuid, jsonb, boolean, text) is
    'Writes up to 500 merged partners, [{metakocka_id, partner_hash, base, contact_id, expected_version, changes, conflicts: [{field, base, crm, erp, decided_by, winner}], candidates, push, partner, seen_at}]. Without contact_id it makes a contact; with candidates the partner waits. Returns [{metakocka_id, status, contact_id, reason}] in their order. status is created, adopted, updated, unchanged, waiting, refused or stale; a stale one must be read and merged again. quiet leaves the events to finish_sync.';
