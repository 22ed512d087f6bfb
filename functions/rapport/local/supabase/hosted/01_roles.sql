/*
    A hosted project before its first migration: roles, schemas, extensions and
    default privileges. Run as supabase_admin, the bootstrap superuser, in every database;
    roles belong to the whole cluster, so their part is written to be repeated.

    Source: supabase/postgres (roles and their settings) and the CLI's treatment of new
    projects since 2026-05-30, which grants clients nothing on new tables.
*/
do $$
declare
    wanted constant jsonb := '{
        "anon":                    "nologin",
        "authenticated":           "nologin",
        "service_role":            "nologin bypassrls",
        "authenticator":           "login noinherit",
        "supabase_auth_admin":     "login noinherit",
        "supabase_realtime_admin": "nologin noinherit",
        "postgres":                "login createdb createrole replication bypassrls"
    }';
    role_name text;
    options text;
begin
    for role_name, options in select * from jsonb_each_text(wanted) loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I with %s', role_name, options);
        end if;
    end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
grant anon, authenticated, service_role to supabase_auth_admin;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant execute on function pg_catalog.pg_reload_conf() to postgres;

/*
    Stands in for supautils.privileged_role_allowed_configs: settings of superusers that a hosted
    postgres may set, and those that PostgREST reads from its role. Looser than hosted, where
    postgres sets nothing else of authenticator: a test holds the migrations to it.
*/
grant authenticator to postgres with admin true, inherit false, set false;
grant set on parameter
    log_lock_waits, log_min_duration_statement, log_min_messages, log_parameter_max_length,
    log_replication_commands, log_statement, log_temp_files, session_replication_role,
    track_io_timing, wal_compression
    to postgres;
grant set on parameter
    pgrst.admin_server_port, pgrst.app_settings, pgrst.client_error_verbosity,
    pgrst.db_aggregates_enabled, pgrst.db_anon_role, pgrst.db_channel, pgrst.db_extra_search_path,
    pgrst.db_hoisted_tx_settings, pgrst.db_max_rows, pgrst.db_plan_enabled, pgrst.db_pre_config,
    pgrst.db_pre_request, pgrst.db_prepared_statements, pgrst.db_root_spec, pgrst.db_schemas,
    pgrst.db_timezone_enabled, pgrst.db_tx_end, pgrst.jwt_aud, pgrst.jwt_cache_max_entries,
    pgrst.jwt_role_claim_key, pgrst.jwt_secret, pgrst.jwt_secret_is_base64, pgrst.log_level,
    pgrst.openapi_mode, pgrst.openapi_security_active, pgrst.openapi_server_proxy_uri,
    pgrst.server_cors_allowed_origins, pgrst.server_timing_enabled, pgrst.server_trace_header
    to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_admin set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;


do $$
begin
    execute format('alter database %I owner to postgres', current_database());
    execute format('alter database %I set timezone to ''UTC''', current_database());
end
$$;

create schema extensions;
alter schema extensions owner to postgres;
grant usage on schema extensions to anon, authenticated, service_role;
create extension "uuid-ossp" schema extensions;
create extension pgcrypto schema extensions;

grant usage on schema public to postgres, anon, authenticated, service_role;


/*
    The defaults of a new project, in the order in which they came to be: everything was
    granted once, and what reads and writes was taken back in 2026. What is left (truncate,
    references, trigger, maintain; execute through public) is why grants here are explicit.
*/
alter default privileges for role postgres in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant all on functions to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    revoke execute on functions from anon, authenticated, service_role;


create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;


-- PostgREST learns of a changed schema at once, as on a hosted project.
create function extensions.pgrst_ddl_watch()
    returns event_trigger
    language plpgsql
    set search_path = ''
as $$
begin
    notify pgrst, 'reload schema';
end
$$;

create event trigger pgrst_ddl_watch on ddl_command_end
    execute function extensions.pgrst_ddl_watch();

create event trigger pgrst_drop_watch on sql_drop
    execute function extensions.pgrst_ddl_watch();
