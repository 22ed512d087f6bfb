/*
    What every followed row has in common: a version that rises by one with each change,
    and the server's time of that change.
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

comment on function private.tg__stamp_change() is
    'Raises version and updated_at of a row that really changes.';
