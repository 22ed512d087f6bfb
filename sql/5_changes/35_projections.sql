/*
    The columns of a row that are sent: those in its table's entry in private.followed_tables.
*/
create function private.hidden_columns(followed private.followed_tables, sample jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- A query for other columns costs a statement.
    if sample - followed.shown - followed.hidden = '{}' then
        return followed.hidden;
    end if;
    return array(select k from jsonb_object_keys(sample) k where k <> all (followed.shown));
end
$$;


create function private.unshown_columns(table_name text)
    returns text[]
    language plpgsql
    -- With a constant name the answer becomes part of the statement's plan. Altering the table
    -- makes a new plan.
    immutable
    set search_path = ''
as $$
begin
    return array(
        select a.attname::text
        from pg_attribute a
        join private.followed_tables f
            on f.table_name = unshown_columns.table_name
        where a.attrelid = ('public.' || quote_ident(unshown_columns.table_name))::regclass
          and a.attnum > 0
          and not a.attisdropped
          and a.attname <> all (f.shown)
    );
end
$$;


comment on function private.hidden_columns(private.followed_tables, jsonb) is
    'The columns of a row that are not sent: the hidden ones, and newer ones that no list names.';
comment on function private.unshown_columns(text) is
    'The columns of a table that are not sent, including newer ones that no list names.';
