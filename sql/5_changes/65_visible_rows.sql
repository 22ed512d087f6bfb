/*
    Followed rows in their present state, for changes_since. They are read one table at a time: a
    look-up for each row took half of the database's time.
*/
create function private.is_followed(table_name text)
    returns boolean
    language plpgsql
    stable
    -- definer: users may not read the list
    security definer
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.followed_tables f
        where f.table_name = is_followed.table_name
    );
end
$$;

grant execute on function private.is_followed(text) to authenticated;


create function private.visible_rows(table_name text, row_ids uuid[])
    returns table (row_id uuid, record json)
    language plpgsql
    stable
    -- invoker: the caller's row level security decides, once for all rows of a table
    set search_path = ''
as $$
begin
    -- The log of a newer version may name a table that this version does not follow.
    if private.is_followed(table_name) then
        -- As json, which is written once: jsonb is copied by each function that puts it into
        -- something larger.
        return query execute format(
            'select r.id, to_json(r) from public.%I r where r.id = any ($1)', table_name
        ) || case
            when exists (
                select
                from pg_catalog.pg_attribute a
                where a.attrelid = format('public.%I', table_name)::regclass
                  and a.attname = 'deleted_at'
                  and not a.attisdropped
            ) then ' and r.deleted_at is null'
            else ''
        end
        using row_ids;
    end if;
end
$$;

grant execute on function private.visible_rows(text, uuid[]) to authenticated;


comment on function private.is_followed(text) is
    'Whether a table is followed.';
comment on function private.visible_rows(text, uuid[]) is
    'The rows of a followed table that exist and that the caller may see.';
