/*
    Searches the whole database for an erased person's words: every row of every table, as JSON.
    Rows of other accounts are left out, since their business knows the person by itself.
*/
create function private.searched_text(table_name text, found_row jsonb, p private.person)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return lower(case
        when found_row ->> 'account_id' <> p.account_id::text
            or table_name = 'public.accounts' and found_row ->> 'id' <> p.account_id::text
            or (found_row ->> 'whatsapp_channel_id')::uuid <> all (p.channel_ids)
            or coalesce(
                found_row #>> '{payload,record,account_id}',
                found_row #>> '{payload,old_record,account_id}'
            ) <> p.account_id::text
            then null
        when table_name = 'private.webhook_events' then concat_ws(
            ' ', private.changes_of_account(found_row ->> 'body', p), found_row -> 'rejected')
        else found_row::text
    end);
end
$$;


create function private.kinds_in(searched text, words text[], kinds text[])
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select distinct w.kind
        from unnest(words, kinds) as w (word, kind)
        where position(w.word in searched) > 0
          -- Ana is not found in banana
          and (
              w.kind not in ('name', 'username')
              or searched ~ ('\m' || private.any_of(array[w.word]) || '\M')
          )
        order by w.kind
    );
end
$$;


create function private.search_some_words(inout erasure private.erasures)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    -- of the rows that are found
    most constant integer := 200;
    p constant private.person := jsonb_populate_record(null::private.person, erasure.person);
    relation record;
    blocks record;
    hits jsonb;
begin
    while clock_timestamp() < started + interval '1 second' loop
        select
            c.oid,
            c.oid::regclass::text as name,
            -- the name of a partition tells a person nothing
            coalesce(pg_partition_root(c.oid), c.oid)::regclass::text as shown_name,
            has_table_privilege(c.oid, 'select') as is_readable,
            (
                select i.indkey::int2[]
                from pg_catalog.pg_index i
                where i.indrelid = c.oid
                  and i.indisprimary
            ) as key
        into relation
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n
            on n.oid = c.relnamespace
        where c.relkind in ('r', 'm')
          and c.relpersistence <> 't'
          and n.nspname !~ '^pg_'
          -- the text of our migrations holds no person's words
          and n.nspname not in ('information_schema', 'supabase_migrations')
          and c.oid <> 'private.erasures'::regclass
          and case when erasure.cursor is null then c.oid > erasure.place else c.oid = erasure.place end
        order by c.oid
        limit 1;
        if not found and erasure.cursor is null then
            erasure.step := null;
            return;
        elsif not found then
            -- the table has been dropped meanwhile
            erasure.cursor := null;
            continue;
        end if;
        erasure.place := relation.oid;

        if not relation.is_readable then
            erasure.found := erasure.found || jsonb_build_array(jsonb_build_object(
                'table', relation.shown_name, 'id', null, 'kinds', '["not readable"]'::jsonb));
            erasure.cursor := null;
            continue;
        end if;
        blocks := private.next_blocks(
            table_name => relation.name, cursor => coalesce(erasure.cursor, '{}'));
        erasure.cursor := blocks.next_cursor;
        continue when blocks.leaf is null;
        execute format(
            $sql$
            select coalesce(jsonb_agg(jsonb_build_object('table', $1, 'id', f.id, 'kinds', f.kinds)), '[]')
            from (
                select
                    coalesce(
                        (
                            select string_agg(s.found_row ->> a.attname, ' ' order by k.place)
                            from unnest($2) with ordinality as k (number, place)
                            join pg_catalog.pg_attribute a
                                on a.attrelid = $3
                               and a.attnum = k.number
                        ),
                        s.place
                    ) as id,
                    k.kinds
                from (
                    select to_jsonb(r) as found_row, r.ctid::text as place
                    from only %s r
                    where r.ctid >= $4
                      and r.ctid < $5
                    offset 0
                ) s
                cross join lateral (
                    select private.kinds_in(
                        private.searched_text($1, s.found_row, $6), $7, $8) as kinds
                    offset 0
                ) k
                where k.kinds <> '{}'
                limit $9
            ) f
            $sql$,
            relation.name
        )
        into hits
        using
            relation.shown_name, relation.key, relation.oid, blocks.first_row, blocks.last_row,
            p, erasure.words, erasure.word_kinds,
            greatest(most - jsonb_array_length(erasure.found), 0);
        erasure.found := erasure.found || hits;
    end loop;
end
$$;


comment on function private.searched_text(text, jsonb, private.person) is
    'The text of a row that is searched for an erased person''s words; null for a row of another account.';
comment on function private.kinds_in(text, text[], text[]) is
    'The kinds of the words that a text has.';
comment on function private.search_some_words(private.erasures) is
    'Searches the database for about a second. Its end has no step.';
