/*
    What supautils does on a hosted project: postgres, who owns no table of the platform, may write
    policies on some of them and drop triggers. Run as supabase_admin, last.

    There its hook runs such a command as a superuser. Here event triggers lend postgres the
    owners' roles while the command runs, and refuse any other table of theirs. Nothing else is
    lent: COMMENT, ALTER TABLE and the rest find postgres without the roles.

    Source: supautils.policy_grants and supautils.drop_trigger_grants of supabase/postgres.
*/
create function extensions.tables_with_policies()
    returns setof regclass
    language sql
    stable
    set search_path = ''
as $$
    select to_regclass(t.name)
    from unnest(array[
        'auth.audit_log_entries', 'auth.flow_state', 'auth.identities', 'auth.instances',
        'auth.mfa_amr_claims', 'auth.mfa_challenges', 'auth.mfa_factors', 'auth.oauth_clients',
        'auth.one_time_tokens', 'auth.refresh_tokens', 'auth.saml_providers',
        'auth.saml_relay_states', 'auth.sessions', 'auth.sso_domains', 'auth.sso_providers',
        'auth.users', 'realtime.messages', 'realtime.subscription', 'storage.buckets',
        'storage.buckets_analytics', 'storage.objects', 'storage.prefixes',
        'storage.s3_multipart_uploads', 'storage.s3_multipart_uploads_parts'
    ]) as t (name)
    where to_regclass(t.name) is not null
$$;


create function extensions.lend_owners()
    returns event_trigger
    language plpgsql
    -- definer: only a superuser can lend the roles
    security definer
    set search_path = ''
as $$
begin
    if session_user <> 'postgres' then
        return;
    end if;
    -- until the transaction ends, as supautils locks them: sign-ins wait here as they wait there
    if current_setting('supautils.locked', true) is distinct from 'on' then
        execute (
            select format('lock table %s in access exclusive mode', string_agg('only ' || t, ', '))
            from extensions.tables_with_policies() as t
        );
        perform set_config('supautils.locked', 'on', true);
    end if;
    grant supabase_auth_admin, supabase_realtime_admin to postgres
        with inherit true, set false, admin false;
end
$$;


create function extensions.take_owners_back()
    returns event_trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    changed regclass;
begin
    if session_user <> 'postgres' then
        return;
    end if;
    revoke supabase_auth_admin, supabase_realtime_admin from postgres;

    for changed in
        select p.polrelid
        from pg_event_trigger_ddl_commands() c
        join pg_catalog.pg_policy p on p.oid = c.objid
    loop
        perform extensions.require_listed(changed);
    end loop;
end
$$;


create function extensions.require_listed(relation regclass)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform
    from pg_catalog.pg_class c
    where c.oid = relation
      and c.relowner in ('supabase_auth_admin'::regrole, 'supabase_realtime_admin'::regrole);
    if found and relation not in (select extensions.tables_with_policies()) then
        raise insufficient_privilege using message = format('must be owner of table %s', relation);
    end if;
end
$$;


create function extensions.keep_other_tables()
    returns event_trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    dropped record;
begin
    if session_user <> 'postgres' then
        return;
    end if;
    for dropped in
        select d.address_names as names
        from pg_event_trigger_dropped_objects() d
        where d.original
          and d.object_type in ('policy', 'trigger')
    loop
        perform extensions.require_listed(
            to_regclass(format('%I.%I', dropped.names[1], dropped.names[2])));
    end loop;
end
$$;


create event trigger lend_owners on ddl_command_start
    when tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'DROP TRIGGER')
    execute function extensions.lend_owners();

create event trigger keep_other_tables on sql_drop
    when tag in ('DROP POLICY', 'DROP TRIGGER')
    execute function extensions.keep_other_tables();

create event trigger take_owners_back on ddl_command_end
    when tag in ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'DROP TRIGGER')
    execute function extensions.take_owners_back();


comment on function extensions.tables_with_policies() is
    'The platform''s tables on which postgres may write policies and drop triggers.';
comment on function extensions.lend_owners() is
    'Lends postgres the roles of the platform''s owners, for one command.';
comment on function extensions.require_listed(regclass) is
    'Refuses a table of the platform that is not listed.';
comment on function extensions.take_owners_back() is
    'Takes the roles back, and refuses a policy on a table that is not listed.';
comment on function extensions.keep_other_tables() is
    'Refuses to drop a policy or a trigger of a table that is not listed.';
