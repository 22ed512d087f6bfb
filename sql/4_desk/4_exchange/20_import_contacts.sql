/*
    Imports contacts from a file, up to 200 rows in a call, each row in its own savepoint.
*/
create function backend.account_country(account text)
    returns text
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select a.country
        from public.accounts a
        where a.id = private.account_named(account_country.account)
    );
end
$$;

grant execute on function backend.account_country(text) to service_role;


create function backend.import_contacts(
    account text,
    contacts jsonb,
    dry_run boolean default false,
    quiet boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key, one at a time: one plan serves all calls, and it must not be the
    -- one for empty tables
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- disabled plan nodes get a huge cost, which would start the JIT compiler for nothing
    set jit = off
as $$
declare
    owner_id constant uuid := private.account_named(import_contacts.account);
    lock_timeout constant text := current_setting('lock_timeout');
    given record;
    result jsonb;
    results jsonb := '{}';
begin
    if jsonb_typeof(contacts) is distinct from 'array'
        or contacts @? 'strict $[*] ? (@.type() != "object")'
    then
        raise sqlstate 'PT422' using
            message = 'Contacts are a list of objects.',
            detail = 'field: contacts';
    elsif jsonb_array_length(contacts) > 200 then
        raise sqlstate 'PT422' using
            message = format('These are %s contacts.', jsonb_array_length(contacts)),
            detail = 'field: contacts',
            hint = 'Send at most 200 in one call.';
    end if;

    if quiet or jsonb_array_length(contacts) > 100 then
        perform set_config('rapport.broadcast_later', 'on', true);
    end if;
    begin
        -- in the order of the identities' locks, not of the file: two imports then wait, one for
        -- the other
        for given in
            select g.contact, g.place
            from jsonb_array_elements(contacts) with ordinality as g (contact, place)
            left join lateral (
                select k.key as kind, private.match_key(kind => k.key, value => k.value) as match_key
                from jsonb_each_text(g.contact) k
                where k.key in ('id', 'email', 'phone', 'username')
                order by k.key
                limit 1
            ) first_key
                on true
            order by first_key.kind, first_key.match_key, g.place
        loop
            result := private.try_import_row(
                account_id => owner_id, contact => given.contact, tell => dry_run);
            results := results || jsonb_build_object(given.place::text, result);
            if result ->> 'outcome' not in ('unchanged', 'refused') then
                -- The locks of one row are in order, those of several rows are not. From the
                -- second row on, a short timeout ends the wait long before a deadlock.
                perform set_config('lock_timeout', '400ms', true);
            end if;
        end loop;
        if dry_run then
            raise sqlstate 'RP001';
        end if;
        if quiet or jsonb_array_length(contacts) > 100 then
            -- customers are told at once; staff, with quiet, by announce_import
            perform private.broadcast_logged(account_id => owner_id, to_staff => not quiet);
        end if;
    exception
        when sqlstate 'RP001' then
            null;
        when lock_not_available then
            raise sqlstate 'PT503' using
                message = 'Others are writing some of these contacts.',
                hint = 'Try again.';
    end;
    perform set_config('lock_timeout', lock_timeout, true);
    perform set_config('rapport.broadcast_later', 'off', true);

    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'row', r.key::integer,
                    'outcome', r.value -> 'outcome',
                    -- a contact that a dry run created is gone
                    'contact_id', case
                        when dry_run and r.value ->> 'outcome' = 'created' then null
                        else r.value -> 'contact_id'
                    end,
                    'field', r.value -> 'field',
                    'reason', r.value -> 'reason',
                    'changes', coalesce(nullif(r.value -> 'changes', 'null'), '{}')
                )
                order by r.key::integer
            ),
            '[]'
        )
        from jsonb_each(results) r
    );
end
$$;

grant execute on function backend.import_contacts(text, jsonb, boolean, boolean) to service_role;


create function backend.announce_import(account text)
    returns void
    language plpgsql
    -- definer, as import_contacts
    security definer
    set search_path = ''
as $$
begin
    perform private.broadcast_to(
        topics => array[private.account_topic(private.account_named(announce_import.account))],
        event => 'resync',
        payload => jsonb_build_object('tables', array['contacts', 'conversations', 'customers'])
    );
end
$$;

grant execute on function backend.announce_import(text) to service_role;


comment on function backend.account_country(text) is
    'The country of an account, for phone numbers without a country code; null is unknown.';
comment on function backend.import_contacts(text, jsonb, boolean, boolean) is
    'Writes up to 200 contacts, in the contacts page''s words. Returns [{row, outcome, contact_id, field, reason, changes}], with rows counted from 1; outcome is created, updated, unchanged, refused or ambiguous. A dry run writes nothing and returns the changes: {field: {old, new}}. A repeated call changes nothing. With quiet, staff are told only by announce_import.';
comment on function backend.announce_import(text) is
    'Tells an account''s staff once that contacts were imported, so that clients read them again.';
