/*
    What every followed row has in common: a version that rises by one with each change, the
    server's time of that change, and an owner that it keeps.
*/
create function private.tg__stamp_change()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update that changes nothing is no change: no version, no log entry, no event
    if new is distinct from old then
        new.version := old.version + 1;
        new.updated_at := now();
    end if;
    return new;
end
$$;

create function private.tg__keep_owner()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise check_violation using
        message = format('A row of %s stays with its owner.', tg_table_name),
        detail = format('columns: %s', array_to_string(tg_argv, ', '));
end
$$;


comment on function private.tg__keep_owner() is
    'Refuses an update of the columns that say whose a row is; the trigger''s condition tells when.';
comment on function private.tg__stamp_change() is
    'Raises version and updated_at of a row that really changes.';
