/*
    Three schemas: public is what clients see, backend is what functions call, private is
    how it works. Nothing is granted by default; each grant stands beneath its object.
*/
create schema backend;

grant usage on schema backend to service_role;

comment on schema backend is
    'RPCs for the deployed functions; exposed to PostgREST, usable by service_role alone.';


create schema private;

-- policies run as the user who asks, and they call helpers that live here
grant usage on schema private to authenticated;

comment on schema private is
    'Helpers, change log, raw webhook inbox and ledgers; never exposed.';


-- What a new project still hands to clients on every new object, taken back.
alter default privileges for role postgres in schema public
    revoke all on tables from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on sequences from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on functions from anon, authenticated, service_role;

-- Functions are born executable by everybody, in every schema, unless this is said globally.
alter default privileges for role postgres
    revoke execute on functions from public;
