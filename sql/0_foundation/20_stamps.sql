/*
    The common part of all followed rows: a version that rises by one with each change, the server's
    time of that change, and an owner that never changes.
*/
create function private.tg__stamp_change()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update to the same values changes nothing: no new version, no log entry, no event
    if new is distinct from old then
        new.version := old.version + 1;
        new.updated_at := now();
    end if;
    return new;
end
$$;

/*
    Triggers with a condition name its columns ("update of"). Postgres reads a condition anew from
    its text in each statement; the columns spare that to statements that set none of them: 4 % of a
    change of an appointment.
*/
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

create function private.tg__require_rows()
    returns trigger
    language plpgsql
    -- invoker: foreign keys and our own functions may update or delete no row
    set search_path = ''
as $$
begin
    -- an upsert runs the triggers of updates too, even if it only inserts
    if tg_op = 'INSERT' then
        perform set_config(
            'rapport.inserting', case tg_when when 'BEFORE' then 'on' else 'off' end, true);
    elsif current_user = 'authenticated'
        and current_setting('rapport.inserting', true) is distinct from 'on'
        and not exists (select from hit_rows)
    then
        raise sqlstate 'PT404' using
            message = 'No row was changed: there is no such row, or it is not yours to see.';
    end if;
    return null;
end
$$;


create function private.require_rows(table_name text, operations text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    operation text;
begin
    -- replaced, since a table is guarded anew when a rule is added
    if operations @> '{insert,update}' then
        execute format(
            'create or replace trigger _200_require_rows_before_insert'
            ' before insert on public.%I'
            ' for each statement'
            ' execute function private.tg__require_rows()',
            table_name
        );
        execute format(
            'create or replace trigger _200_require_rows_insert'
            ' after insert on public.%I'
            ' for each statement'
            ' execute function private.tg__require_rows()',
            table_name
        );
    end if;
    foreach operation in array array_remove(operations, 'insert') loop
        execute format(
            'create or replace trigger _200_require_rows_%1$s'
            ' after %1$s on public.%2$I'
            ' referencing %3$s table as hit_rows'
            ' for each statement'
            ' execute function private.tg__require_rows()',
            operation, table_name, case operation when 'delete' then 'old' else 'new' end
        );
    end loop;
end
$$;


comment on function private.tg__keep_owner() is
    'Refuses a change of a row''s owner columns. The trigger''s condition says which columns these are.';
comment on function private.tg__stamp_change() is
    'Raises version by 1 and sets updated_at, if the row really changes.';
comment on function private.tg__require_rows() is
    'Refuses a client''s update or delete that found no row (404): a row that row level security hides is no success. Triggers before and after inserts tell it about upserts.';
comment on function private.require_rows(text, text[]) is
    'From now on refuses a client''s update or delete of a table that found no row, among these operations.';
