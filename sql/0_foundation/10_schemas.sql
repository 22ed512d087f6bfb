/*
    Three schemas: clients see public, the deployed functions call backend, and private holds the
    inner workings. Nothing is granted by default; each grant stands beneath its object.
*/
create schema backend;

grant usage on schema backend to service_role;

comment on schema backend is
    'RPCs for the deployed functions; exposed to PostgREST, usable by service_role alone.';


create schema private;

-- policies run as the signed-in user, and they call helpers in this schema
grant usage on schema private to authenticated;

comment on schema private is
    'Helpers, the change log, raw webhooks and ledgers; PostgREST never exposes it.';


-- A new Supabase project grants clients every new object. This takes these grants back.
alter default privileges for role postgres in schema public
    revoke all on tables from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on sequences from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on functions from anon, authenticated, service_role;

-- Postgres lets everybody execute a new function. Only a global default takes that back.
alter default privileges for role postgres
    revoke execute on functions from public;
