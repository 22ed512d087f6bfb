/*
    All that is known of a person, table by table and page by page, for an answer to that person.
*/
create function private.exported_tables()
    returns table (table_name text, entries private.personal_tables[])
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a table with two entries is one file
    return query
        select t.table_name, array_agg(t order by t.place)
        from private.personal_tables t
        where t.is_exported
          and t.condition is not null
          and to_regclass(t.table_name) is not null
        group by t.table_name
        order by min(t.place);
end
$$;


create function private.export_overview(contact_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
    p constant private.person := private.person_of(
        account_id => account, contact_id => export_overview.contact_id);
    exported record;
    counted bigint;
    tables jsonb := '[]';
begin
    for exported in select e.* from private.exported_tables() e loop
        counted := null;
        -- to count what is read block by block would take as long as to read it
        if not (exported.entries[1]).walks then
            execute format(
                'select count(*) from %s r cross join (select $1 as self, ($1).*) p where %s',
                exported.table_name,
                (
                    select string_agg(format('(%s)', e.condition), ' or ')
                    from unnest(exported.entries) e
                )
            )
            into counted
            using p;
        end if;
        tables := tables || jsonb_build_array(jsonb_build_object(
            'table', exported.table_name,
            'rows', counted,
            'about', obj_description(to_regclass(exported.table_name), 'pg_class')
        ));
    end loop;
    return jsonb_build_object(
        'account_id', p.account_id,
        'account_name', (select a.name from public.accounts a where a.id = p.account_id),
        'contact_ids', p.contact_ids,
        'tables', tables
    );
end
$$;


create function private.export_page(
    contact_id uuid,
    table_name text,
    after jsonb,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
    p constant private.person := private.person_of(
        account_id => account, contact_id => export_page.contact_id);
    size constant integer := least(greatest(page_size, 1), 1000);
    started constant timestamptz := clock_timestamp();
    entries private.personal_tables[];
    entry private.personal_tables;
    place text;
    blocks record;
    page jsonb := '[]';
    part jsonb;
    cursor jsonb := after;
begin
    select e.entries
    into entries
    from private.exported_tables() e
    where e.table_name = export_page.table_name;
    if not found then
        raise sqlstate 'PT422' using
            message = 'There is no such table in an export.',
            detail = 'field: table_name',
            hint = 'Give one that the overview of the export lists.';
    end if;
    entry := entries[1];

    if entry.walks then
        while clock_timestamp() < started + interval '1 second'
            and jsonb_array_length(page) < size
        loop
            blocks := private.next_blocks(
                table_name => export_page.table_name, cursor => coalesce(cursor, '{}'));
            cursor := blocks.next_cursor;
            exit when blocks.leaf is null;
            execute format(
                'select coalesce(jsonb_agg(%s), ''[]'')'
                ' from %s r cross join (select $1 as self, ($1).*) p'
                ' where (%s) and r.tableoid = $2 and r.ctid >= $3 and r.ctid < $4',
                coalesce(entry.shown, 'to_jsonb(r)'), entry.table_name, entry.condition
            )
            into part
            using p, blocks.leaf, blocks.first_row, blocks.last_row;
            page := page || part;
        end loop;
        return jsonb_build_object('rows', page, 'after', cursor);
    end if;

    -- keys as JSON: numbers sort as numbers
    place := (
        select string_agg(format('r.%I', c.name), ', ' order by c.place)
        from (
            select s.name, s.place
            from unnest(entry.sorted_by) with ordinality as s (name, place)
            union all
            select a.attname, k.place
            from pg_catalog.pg_index i
            cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, place)
            join pg_catalog.pg_attribute a
                on a.attrelid = i.indrelid
               and a.attnum = k.number
            where i.indrelid = to_regclass(export_page.table_name)
              and i.indisprimary
              and entry.sorted_by is null
        ) c
    );
    execute format(
        'select coalesce(jsonb_agg(s.shown order by s.place), ''[]''),'
        ' jsonb_agg(s.place order by s.place desc) -> 0'
        ' from ('
        '     select to_jsonb(r) - $2 as shown, jsonb_build_array(%1$s) as place'
        '     from %2$s r cross join (select $1 as self, ($1).*) p'
        '     where (%3$s) and ($3 is null or jsonb_build_array(%1$s) > $3)'
        '     order by jsonb_build_array(%1$s)'
        '     limit $4'
        ' ) s',
        place,
        entry.table_name,
        (select string_agg(format('(%s)', e.condition), ' or ') from unnest(entries) e)
    )
    into page, cursor
    using p, entry.hidden, after, size;
    return jsonb_build_object(
        'rows', page,
        'after', case when jsonb_array_length(page) = size then cursor end
    );
end
$$;


comment on function private.exported_tables() is
    'The tables of an export, with their entries.';
comment on function private.export_overview(uuid) is
    'What is known of a person: {account_id, account_name, contact_ids, tables: [{table, rows, about}]}. rows is null where they are not counted.';
comment on function private.export_page(uuid, text, jsonb, integer) is
    'A page of a person''s rows in a table, and where the next one begins: {rows, after}.';
