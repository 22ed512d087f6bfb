/*
    Which release this schema is of. functions/rapport/release.py has the version. A later release
    replaces the function in a migration of its own.
*/
create function backend.release()
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select '0.1.0'
$$;

grant execute on function backend.release() to service_role;

comment on function backend.release() is
    'The version of this schema, as functions and clients of the same release say it: 0.1.0.';
