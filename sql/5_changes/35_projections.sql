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


comment on function private.hidden_columns(private.followed_tables, jsonb) is
    'The columns of a row that are not sent: the hidden ones, and newer ones that no list names.';
