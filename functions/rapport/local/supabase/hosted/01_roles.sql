/*
    What a hosted project has before the first migration: roles, schemas, extensions and
    default privileges. Run as supabase_admin, the bootstrap superuser, in every database;
    roles belong to the whole cluster, so their part is written to be repeated.

    Source: supabase/postgres (roles and their settings) and the CLI's treatment of new
    projects since 2026-05-30, which grants clients nothing on new tables.
*/
do $$
declare
    wanted constant jsonb := '{
        "anon":                    "nologin noinherit",
        "authenticated":           "nologin noinherit",
        "service_role":            "nologin noinherit bypassrls",
        "authenticator":           "login noinherit",
        "supabase_auth_admin":     "login noinherit createrole",
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
-- Stand in for supautils.privileged_role_allowed_configs: what PostgREST reads from its own role a
-- migration may set.
grant authenticator to postgres with admin true, inherit false, set false;
grant set on parameter pgrst.db_pre_request to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
-- Stands in for supautils.policy_grants, which lets a hosted postgres write policies on
-- realtime.messages. Looser than hosted: a test lints the migrations for the difference.
grant supabase_realtime_admin to postgres;

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

grant usage on schema public to anon, authenticated, service_role;
grant all on schema public to postgres;


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
