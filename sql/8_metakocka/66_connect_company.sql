/*
    Connects an account to its company for the command `rapport connect metakocka`. Owners and
    admins do the same by a row of metakocka_connections.
*/
create function backend.connect_metakocka(account text, company_id text)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
    before public.metakocka_connections;
    rule text;
begin
    select k.*
    into before
    from public.metakocka_connections k
    where k.account_id = named
    for no key update;
    insert into public.metakocka_connections as k (account_id, company_id)
    values (named, connect_metakocka.company_id)
    on conflict on constraint metakocka_connections_pkey do update
        set company_id = excluded.company_id,
            active = true,
            -- the key may be a new one
            paused_until = null
        where k.company_id <> excluded.company_id
           or not k.active
           or k.paused_until is not null;
    return jsonb_build_object(
        'account_id', named,
        'company_id', connect_metakocka.company_id,
        'company_before', before.company_id,
        'state', case
            when before.account_id is null then 'added'
            when before.company_id = connect_metakocka.company_id
                and before.active
                and before.paused_until is null
                then 'there'
            else 'changed'
        end
    );
exception
    when check_violation then
        get stacked diagnostics rule = constraint_name;
        perform private.refuse_row(
            table_name => 'metakocka_connections', kind => 'check', rule => rule);
end
$$;

grant execute on function backend.connect_metakocka(text, text) to service_role;


create function backend.account_id(account text)
    returns uuid
    language plpgsql
    stable
    -- definer: as connect_metakocka
    security definer
    set search_path = ''
as $$
begin
    return private.account_named(account);
end
$$;

grant execute on function backend.account_id(text) to service_role;


comment on function backend.connect_metakocka(text, text) is
    'Connects an account to a company at Metakocka, and ends a pause. state: added, changed or there. A company of another account: 409.';
comment on function backend.account_id(text) is
    'The id of the account with this external_id or id.';
