/*
    A guarded table: users write it through PostgREST. If they may not write a value, a sentence
    with the field refuses it, in place of Postgres' own message.

    Postgres checks grants before any trigger, and policies, keys and constraints after the
    triggers before a row. So users get a grant on all columns of a guarded table, its policies
    protect its rows, and two triggers do the rest, for users' own statements only:

        _001_guard_given   takes away the values for columns that users do not write, and notes them
        …                  the table's other triggers complete the row
        _990_guard_row     refuses a noted value that differs from the completed row, and then a
                           row that a policy, a key or a constraint would refuse right after

    An update or a delete that finds no row is refused too (require_rows).

    The sentences stand at the rules: a policy is named as a sentence. The comment on a constraint
    has the rule on its first line and the remedy on its second.
*/
create function private.refuse_given(operation text, given jsonb, written jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- a version that differs means that the row has changed since it was read
    field constant text := (
        select case when bool_or(g.key = 'version') then 'version' else min(g.key) end
        from jsonb_each(given) g
        where g.value is distinct from written -> g.key
    );
begin
    if field = 'version' and operation = 'UPDATE' then
        raise sqlstate 'PT409' using
            message = 'The row has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    elsif field is not null then
        raise sqlstate 'PT422' using
            message = format('%s is not written here.', field),
            detail = 'field: ' || field,
            hint = case
                when written ->> field is null then 'Leave it out.'
                else format('Leave it out; it is %s.', left(written ->> field, 64))
            end;
    end if;
end
$$;


create function private.refuse_row(table_name text, kind text, rule text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    relation constant regclass := format('public.%I', table_name);
    columns text[];
    field text;
    words text[];
begin
    if kind = 'policy' then
        raise insufficient_privilege using
            message = format('You may not write this row of %s.', table_name),
            hint = upper(left(rule, 1)) || substr(rule, 2) || '.';
    elsif kind = 'needed' then
        raise sqlstate 'PT422' using
            message = format('%s is needed.', rule),
            detail = 'field: ' || rule,
            hint = 'Give it a value other than null.';
    end if;

    select
        array_agg(a.attname::text order by n.place),
        (array_agg(a.attname::text order by k.conname like '%\_' || a.attname || '\_%' desc, n.place desc))[1],
        string_to_array(obj_description(k.oid, 'pg_constraint'), E'\n')
    into columns, field, words
    from pg_catalog.pg_constraint k
    cross join unnest(k.conkey) with ordinality n (number, place)
    join pg_catalog.pg_attribute a
        on a.attrelid = k.conrelid
       and a.attnum = n.number
    where k.conrelid = relation
      and k.conname = rule
    group by k.oid, k.conname;

    if kind = 'key' then
        raise sqlstate 'PT409' using
            message = coalesce(
                words[1],
                format('A row of %s with this %s exists already.', table_name, array_to_string(columns, ', '))),
            detail = 'field: ' || field,
            hint = coalesce(words[2], 'Change that row, or give another value.');
    end if;
    raise sqlstate 'PT422' using
        message = coalesce(
            words[1],
            case kind
                when 'reference' then format('The row that %s names does not exist.', columns[1])
                else format('This value is not allowed for %s.', field)
            end),
        detail = 'field: ' || case kind when 'reference' then columns[1] else field end,
        hint = coalesce(words[2], 'Give another value.');
end
$$;


create function private.refuse_value(field text, message text, hint text)
    returns boolean
    language plpgsql
    -- volatile: otherwise Postgres would call it while it plans a check
    volatile
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = message,
        detail = 'field: ' || field,
        hint = hint;
end
$$;

-- Postgres evaluates a check as the user who writes
grant execute on function private.refuse_value(text, text, text) to authenticated;


create function private.upserted_by(query text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    columns text;
begin
    if query !~* '\mon conflict' then
        return null;
    end if;
    -- names and texts are passed over whole: an alias may be "on conflict (id)"
    select t[1]
    into columns
    from regexp_matches(
        query, '"[^"]*"|''[^'']*''|\mon conflict *\(([^)]*)\)', 'gi') t
    where t[1] is not null
    limit 1;
    return (
        select string_agg(btrim(c, '" '), ',' order by btrim(c, '" ') collate "C")
        from unnest(string_to_array(columns, ',')) c
    );
end
$$;


/*
    The rules of a table's rows, in the order in which a user hears of them. Each rule has the
    condition under which a row, named new_row, breaks it.
*/
create function private.rules_of_table(relation regclass)
    returns table (place integer, kind text, rule text, broken text)
    language sql
    stable
    set search_path = ''
as $$
    with keys as (
        select
            k.*,
            array_agg(a.attname::text order by n.place) as columns,
            string_agg(a.attname, ',' order by a.attname collate "C") as sorted,
            string_agg(format('o.%I = new_row.%I', coalesce(b.attname, a.attname), a.attname), ' and ' order by n.place)
                as matches,
            string_agg(format('new_row.%I is null', a.attname), ' or ' order by n.place) as is_open
        from pg_catalog.pg_constraint k
        cross join unnest(k.conkey, k.confkey) with ordinality n (ours, theirs, place)
        join pg_catalog.pg_attribute a
            on a.attrelid = k.conrelid
           and a.attnum = n.ours
        left join pg_catalog.pg_attribute b
            on b.attrelid = k.confrelid
           and b.attnum = n.theirs
        where k.conrelid = relation
          and k.contype in ('p', 'u', 'f')
        group by k.oid
    )
    select
        1,
        'policy',
        p.polname::text,
        format(
            'tg_op = %L and (%s) is not true',
            case p.polcmd when 'a' then 'INSERT' else 'UPDATE' end,
            pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_catalog.pg_policy p
    where p.polrelid = relation
      and p.polcmd in ('a', 'w')
    union all
    -- The row that an upsert finds is one that the user may read and change. That it exists can't be
    -- hidden from a user who names its id: the id is taken. But ids can't be guessed.
    select
        5,
        'policy',
        p.polname::text,
        format(
            'tg_op = ''INSERT'' and upserted_by = %L'
            ' and exists (select from %s o where %s and (%s) is not true)',
            k.sorted,
            relation,
            k.matches,
            pg_get_expr(p.polqual, p.polrelid))
    from pg_catalog.pg_policy p
    join keys k
        on k.contype in ('p', 'u')
    where p.polrelid = relation
      and p.polcmd in ('r', 'w')
    union all
    select 2, 'needed', a.attname::text, format('new_row.%I is null', a.attname)
    from pg_catalog.pg_attribute a
    where a.attrelid = relation
      and a.attnum > 0
      and a.attnotnull
    union all
    select 3, 'check', k.conname::text, format('(%s) is false', pg_get_expr(k.conbin, k.conrelid))
    from pg_catalog.pg_constraint k
    where k.conrelid = relation
      and k.contype = 'c'
    union all
    select
        4,
        'reference',
        k.conname::text,
        format(
            'not (%s or exists (select from %s o where %s))',
            k.is_open, k.confrelid::regclass, k.matches)
    from keys k
    where k.contype = 'f'
    union all
    select
        5,
        'key',
        k.conname::text,
        case k.contype
            when 'p' then format(
                'tg_op = ''INSERT'' and upserted_by is distinct from %L'
                ' and exists (select from %s o where %s)',
                k.sorted, relation, k.matches)
            else format(
                'upserted_by is distinct from %L'
                ' and exists (select from %s o where %s and (%s) <> (%s))',
                k.sorted,
                relation,
                k.matches,
                (select string_agg(format('o.%I', c), ', ') from unnest(p.columns) c),
                (select string_agg(format('new_row.%I', c), ', ') from unnest(p.columns) c)
            )
        end
    from keys k
    join keys p
        on p.contype = 'p'
    where k.contype in ('p', 'u')
      -- a key that contains the primary key needs no test of its own
      and (k.contype = 'p' or not k.columns @> p.columns)
$$;


create function private.guard_table(
    table_name text,
    inserted text[] default '{}',
    updated text[] default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
as $body$
declare
    relation constant regclass := format('public.%I', table_name);
    operations constant text[] := array_remove(
        array[
            case when inserted <> '{}' then 'insert' end,
            case when updated <> '{}' then 'update' end
        ],
        null);
    on_insert text;
    on_update text;
    rules text;
begin
    select
        string_agg(
            case
                when a.attname <> all (inserted) then format(
                    $lines$
        if new.%1$I is distinct from %2$s then
            given := given || coalesce(jsonb_strip_nulls(jsonb_build_object(%1$L, new.%1$I)), '{}');
            new.%1$I := %2$s;
        end if;$lines$,
                    a.attname, coalesce(d.value, 'null'))
                -- of several inserted rows, one may leave out a column that another row gives
                when a.attnotnull and d.value is not null then format(
                    $lines$
        new.%1$I := coalesce(new.%1$I, %2$s);$lines$,
                    a.attname, d.value)
            end,
            '' order by a.attnum),
        string_agg(
            format(
                $lines$
        if new.%1$I is distinct from old.%1$I then
            given := given || jsonb_build_object(%1$L, new.%1$I);
            new.%1$I := old.%1$I;
        end if;$lines$,
                a.attname),
            '' order by a.attnum) filter (where a.attname <> all (updated))
    into on_insert, on_update
    from pg_catalog.pg_attribute a
    left join lateral (
        select pg_get_expr(f.adbin, f.adrelid)
        from pg_catalog.pg_attrdef f
        where f.adrelid = a.attrelid
          and f.adnum = a.attnum
    ) d (value)
        on true
    where a.attrelid = relation
      and a.attnum > 0
      and not a.attisdropped;

    select string_agg(
        format(
            $lines$
        when %s
            then array[%L, %L]$lines$,
            r.broken, r.kind, r.rule),
        '' order by r.place, r.rule, r.broken)
    into rules
    from private.rules_of_table(relation) r;

    execute format(
        $definition$
create function private.tg_%1$s__guard_given()
    returns trigger
    language plpgsql
    -- definer: users may not call the functions that guards call
    security definer
    set search_path = ''
as $$
declare
    given jsonb := '{}';
begin
    if tg_op = 'INSERT' then%2$s
    else%3$s
    end if;
    perform set_config('rapport.given', given::text, true);
    return new;
end
$$;

create function private.tg_%1$s__guard_row()
    returns trigger
    language plpgsql
    -- definer: as Postgres itself, it also finds keys of rows that the user may not see
    security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    given constant jsonb := current_setting('rapport.given');
    upserted_by constant text := private.upserted_by(current_query());
    row_written constant public.%1$I := new;
    broken text[];
begin
    if given <> '{}' then
        perform private.refuse_given(operation => tg_op, given => given, written => to_jsonb(new));
    end if;
    select case%4$s
    end
    into broken
    from (select (row_written).*) new_row;
    if broken is not null then
        perform private.refuse_row(table_name => %1$L, kind => broken[1], rule => broken[2]);
    end if;
    return new;
end
$$;

comment on function private.tg_%1$s__guard_given() is
    'Made by private.guard_table: takes away the values for columns that users do not write.';
comment on function private.tg_%1$s__guard_row() is
    'Made by private.guard_table: refuses a row that users may not write, with a sentence.';

grant %6$s on public.%1$I to authenticated;

create trigger _001_guard_given
    before %5$s on public.%1$I
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_%1$s__guard_given();

create trigger _990_guard_row
    before %5$s on public.%1$I
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_%1$s__guard_row();
        $definition$,
        table_name,
        on_insert,
        on_update,
        rules,
        array_to_string(operations, ' or '),
        array_to_string(operations, ', ')
    );
    if updated <> '{}' then
        perform private.require_rows(
            table_name,
            operations || case
                when has_table_privilege('authenticated', relation, 'delete') then '{delete}'
                else '{}'
            end::text[]
        );
    end if;
end
$body$;


comment on function private.refuse_given(text, jsonb, jsonb) is
    'Refuses a value for a column that users do not write, unless the row gets this value anyway.';
comment on function private.refuse_row(text, text, text) is
    'Refuses a row with the sentence of the rule that it breaks: a policy, a needed column, a check, a reference or a key.';
comment on function private.refuse_value(text, text, text) is
    'Refuses a value from within a check, with a sentence.';
comment on function private.upserted_by(text) is
    'The columns of an upsert''s "on conflict", as PostgREST writes them, in the order of their names; null if there is none.';
comment on function private.rules_of_table(regclass) is
    'The rules of a table''s rows, in the order in which users hear of them, each with the condition that breaks it.';
comment on function private.guard_table(text, text[], text[]) is
    'Guards a table from now on: users may name every column, but a sentence refuses a value for a column that is not listed here, and a row that breaks a policy, a key or a constraint. An update or delete that finds no row is refused too. Call it after the policies, keys and constraints, and after the grant of deletes.';
