-- Made from sql/0_foundation/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    Three schemas: public is what clients see, backend is what functions call, private is
    how it works. Nothing is granted by default; each grant stands beneath its object.
*/
create schema backend;

grant usage on schema backend to service_role;

comment on schema backend is
    'RPCs for the deployed functions; exposed to PostgREST, usable by service_role alone.';


create schema private;

-- policies run as the user who asks, and they call helpers that live here
grant usage on schema private to authenticated;

comment on schema private is
    'Helpers, change log, raw webhook inbox and ledgers; never exposed.';


-- What a new project still hands to clients on every new object, taken back.
alter default privileges for role postgres in schema public
    revoke all on tables from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on sequences from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on functions from anon, authenticated, service_role;

-- Functions are born executable by everybody, in every schema, unless this is said globally.
alter default privileges for role postgres
    revoke execute on functions from public;


/*
    What functions of one transaction tell each other. Each of these settings lasts until the
    transaction ends, or the savepoint in which it was made; what is yes or no is 'on' or 'off'.
    Afterwards the session has an empty text instead, which private.setting takes for none.

    setting                     value               set by                        read by
    --------------------------  ------------------  ----------------------------  ----------------------------
    rapport.broadcast_later     on, off             import_contacts,              new_messages,
                                                    apply_whatsapp_people         broadcast_changes
    rapport.desk_raised         account's id        the trigger that raises       the same
                                                    the epoch of a desk
    rapport.from_metakocka      on, off             apply_partners,               what marks contacts to be
                                                    settle_partner                sent
    rapport.given               object of columns   guard_given of a guarded      guard_row of the same
                                                    table                         table
    rapport.held_customer       contact's id        what checks the customer of   the same
                                                    a row
    rapport.hits                number of rows      the triggers of faces and     the same
                                                    my_profile
    rapport.inserting           on, off             tg__require_rows              the same
    rapport.lock_timeout        as lock_timeout     tg__expect_hits               tg__require_hits
    rapport.quiet               on, off             apply_partners                publish_changes
    rapport.read_conversation   conversation's id   mark_read                     the same
    rapport.repeated            messages' ids,      what finds a message that     post_message,
                                by commas           was sent already              answer_repeated
    rapport.rows_counted        number of rows      count_rows                    the same
    rapport.rows_written        number of rows      hold_to_rows                  count_rows,
                                                                                  tg__count_view_rows
    rapport.rung_<worker>       on                  ring                          the same
    rapport.slot                1 to 8              before_request                count_rows
    rapport.version_named       on, off             tg__expect_hits,              tg__write_face
                                                    tg__expect_version
*/
create function private.setting(name text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return nullif(current_setting(name, true), '');
end
$$;


comment on function private.setting(text) is
    'What this transaction has set; null where it has set nothing.';


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

create function private.tg__require_rows()
    returns trigger
    language plpgsql
    -- invoker: what foreign keys and functions of ours write may be nothing
    set search_path = ''
as $$
begin
    -- an upsert runs the triggers of updates as well, though it only inserts
    if tg_op = 'INSERT' then
        perform set_config(
            'rapport.inserting', case tg_when when 'BEFORE' then 'on' else 'off' end, true);
    elsif current_user = 'authenticated'
        and current_setting('rapport.inserting', true) is distinct from 'on'
        and not exists (select from hit_rows)
    then
        raise sqlstate 'PT404' using
            message = 'Nothing was hit: there is no such row, or it is not yours to see.';
    end if;
    return null;
end
$$;


comment on function private.tg__keep_owner() is
    'Refuses an update of the columns that say whose a row is; the trigger''s condition tells when.';
comment on function private.tg__stamp_change() is
    'Raises version and updated_at of a row that really changes.';
comment on function private.tg__require_rows() is
    'Refuses a client''s update or delete that hit nothing: what row level security hides is no success. Triggers before and after inserts tell it of upserts.';


/*
    Counts are exact here. An estimate is made of statistics of the whole table, whoever asks: it
    tells a stranger how many rows others have, which values, and which ids.

    before_request refuses those who ask for one. Of two Prefer headers, though, it is shown the one
    and PostgREST obeys the other, by EXPLAIN. That plans a statement, policies included, and
    executes nothing, so that refusal must come from planning, where an immutable function without
    arguments is evaluated: it stands behind the functions of which policies are made.
*/
create function private.refuse_estimate()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT400' using
        message = 'Rows are counted exactly here: an estimate would tell of rows that are not yours.',
        detail = 'field: Prefer',
        hint = 'Ask for count=exact, or for no count.';
end
$$;

grant execute on function private.refuse_estimate() to authenticated;


create function private.refuse_estimates()
    returns boolean
    language plpgsql
    -- which it is not: so it is asked each time that a statement is planned, and not again
    immutable
    parallel safe
    set search_path = ''
as $$
begin
    -- PostgREST's sessions alone: a person at a console may ask for plans
    if session_user = 'authenticator' and ltrim(current_query()) ilike 'explain%' then
        perform private.refuse_estimate();
    end if;
    return true;
end
$$;

grant execute on function private.refuse_estimates() to authenticated;


comment on function private.refuse_estimate() is
    'Refuses a count that is not exact.';
comment on function private.refuse_estimates() is
    'True; refuses the planning of a statement that PostgREST wants to have explained.';


/*
    What searching text takes: trigrams, an index of them beside other columns, and one
    spelling of a text whatever its case and accents.
*/
create extension if not exists unaccent with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists btree_gin with schema extensions;


create function private.fold(value text)
    returns text
    language plpgsql
    -- unaccent is only stable, since its dictionary could be exchanged: whoever does that
    -- writes anew what was folded before
    immutable
    set search_path = ''
as $$
begin
    -- composed first: a letter and its accent may come as two characters
    return lower(extensions.unaccent('extensions.unaccent', normalize(value, nfkc)));
end
$$;

grant execute on function private.fold(text) to authenticated;


comment on function private.fold(text) is
    'A text without case and accents, as it is searched and sorted: Žiga becomes ziga.';


/*
    What clients read lies in memory or on flash, where a page out of order costs little more
    than the next one. Postgres assumes a spinning disk, and row level security makes it expect
    few rows of an account (the policy and the client's own filter name it twice, and their
    odds are multiplied), so that it sorted all 50,000 contacts to show 50: 671 ms, now 1.0.
    PostgREST applies a role's settings to each request.
*/
alter role authenticated set random_page_cost = 1.1;


/*
    The tables whose every change is logged and broadcast, and whose inserts and updates clients
    may follow by postgres_changes, under their own row level security. Log, broadcast, catch-up
    and publication read them here, so that they agree.

    A table is followed from the call of private.follow_table at the end of its file. A column
    that the call does not name is not sent.
*/
create table private.followed_tables (
    table_name       text primary key,
    -- what staff and customers are sent: a subset of the columns that both can select
    shown            text[] not null,
    -- what nobody is sent; a newer column that nobody has named is not sent either
    hidden           text[] not null default '{}',
    -- the column with the customer's id; null where staff alone follow the table
    customer_key     text,
    -- the column with the conversation's id, if the table has it
    conversation_key text not null,
    -- the column that is null as long as a row is not the customer's to see; null where all are
    seen_since       text
);
alter table private.followed_tables enable row level security;


create policy "nobody reads the list of followed tables directly"
    on private.followed_tables
    for all
    to authenticated
    using (false);


create function private.followed_table(table_name text)
    returns private.followed_tables
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    followed private.followed_tables;
begin
    select f.*
    into followed
    from private.followed_tables f
    where f.table_name = followed_table.table_name;
    return followed;
end
$$;


create type private.row_change as (
    old jsonb,
    new jsonb
);


create function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- old and new rows are matched by hash: the plan of one row, kept, would compare each of
    -- 10,000 with each, 8 s
    set enable_nestloop = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    -- a transition table is read whole while it is small
    small constant integer := 1000;
    followed constant private.followed_tables := private.followed_table(tg_table_name);
    source refcursor;
    changes private.row_change[];
    logged integer;
begin
    if tg_op = 'INSERT' then
        select array_agg(i.change)
        into changes
        from (
            select (null, to_jsonb(n))::private.row_change
            from new_rows n
            limit small + 1
        ) i (change);
    elsif tg_op = 'UPDATE' then
        select array_agg(c)
        into changes
        from (
            select o as old, n as new
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version
            limit small + 1
        ) as u (o, n)
        cross join lateral private.shown_change(to_jsonb(u.o), to_jsonb(u.n)) c
        where num_nonnulls(c.old, c.new) > 0;
    else
        select array_agg(d.change)
        into changes
        from (
            select (to_jsonb(o), null)::private.row_change
            from old_rows o
            limit small + 1
        ) d (change);
    end if;

    if changes is null then
        return null;
    elsif cardinality(changes) <= small then
        logged := private.publish_changes(followed, operation => tg_op, changes => changes);
        return null;
    end if;

    if tg_op = 'INSERT' then
        open source for select null::jsonb, to_jsonb(n) from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select c.old, c.new
            from old_rows o
            join new_rows n using (id)
            cross join lateral private.shown_change(to_jsonb(o), to_jsonb(n)) c
            where n.version <> o.version
              and num_nonnulls(c.old, c.new) > 0;
    else
        open source for select to_jsonb(o), null::jsonb from old_rows o;
    end if;
    logged := private.publish_from(followed, operation => tg_op, source => source);
    close source;
    return null;
end
$$;


-- Nobody can be asked who may see a row that is gone: Realtime tells a deletion to all who
-- subscribe, and tests their filters on the old row. Broadcasts and the log tell deletions.
alter publication supabase_realtime set (publish = 'insert, update');


create function private.follow_table(
    table_name text,
    shown text[],
    hidden text[] default '{}',
    customer_key text default 'customer_id',
    conversation_key text default 'conversation_id',
    seen_since text default null,
    -- without, a trigger of the table's own tells new rows
    tells_inserts boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    event text;
begin
    insert into private.followed_tables (
        table_name, shown, hidden, customer_key, conversation_key, seen_since
    )
    values (table_name, shown, hidden, customer_key, conversation_key, seen_since);

    foreach event in array array['insert', 'update', 'delete'] loop
        continue when event = 'insert' and not tells_inserts;
        execute format(
            'create trigger _900_publish_%1$s'
            ' after %1$s on public.%2$I'
            ' referencing %3$s'
            ' for each statement'
            ' execute function private.tg__publish()',
            event,
            table_name,
            case event
                when 'insert' then 'new table as new_rows'
                when 'update' then 'old table as old_rows new table as new_rows'
                else 'old table as old_rows'
            end
        );
    end loop;
    -- no column list: Realtime and clients expect whole rows
    execute format('alter publication supabase_realtime add table public.%I', table_name);
end
$$;


comment on table private.followed_tables is
    'The tables whose changes are logged, broadcast and published, and what of their rows is sent.';
comment on policy "nobody reads the list of followed tables directly"
    on private.followed_tables is
    'Triggers and catch-up read it.';
comment on function private.followed_table(text) is
    'How a table is followed; a row of nulls where it is not.';
comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on function private.tg__publish() is
    'Logs and broadcasts what a statement changed.';
comment on function private.follow_table(text, text[], text[], text, text, text, boolean) is
    'Logs and broadcasts every change of a table from now on, and publishes what is inserted and updated.';


/*
    A guarded table: users write it through PostgREST, and what they may not write is refused in
    words, with the field that is meant, instead of in Postgres' own.

    Postgres looks at grants before any trigger, and at policies, keys and constraints after those
    before a row. So all columns of a guarded table are granted, its rows stay protected by its
    policies, and two triggers say the rest, to users' own statements alone:

        _001_guard_given   puts aside what users do not write, as if it had not been given
        …                  the table's other triggers complete the row
        _990_guard_row     refuses what was given and is not what the row has in the end, and
                           then what a policy, a key or a constraint would refuse right after

    The words stand with what they are about: a policy is named as a sentence; the comment on a
    constraint says what holds and, on a second line, what to do.
*/
create function private.refuse_given(operation text, given jsonb, written jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- of a row that was read before its last change the version tells
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
                format('There is a row of %s with this %s already.', table_name, array_to_string(columns, ', '))),
            detail = 'field: ' || field,
            hint = coalesce(words[2], 'Change that one, or give another value.');
    end if;
    raise sqlstate 'PT422' using
        message = coalesce(
            words[1],
            case kind
                when 'reference' then format('There is nothing that %s could name.', columns[1])
                else format('This is no value of %s.', field)
            end),
        detail = 'field: ' || case kind when 'reference' then columns[1] else field end,
        hint = coalesce(words[2], 'Give another value.');
end
$$;


create function private.refuse_value(field text, message text, hint text)
    returns boolean
    language plpgsql
    -- volatile, or it would be called while a check is planned
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

-- a check is evaluated as the user whose value it is
grant execute on function private.refuse_value(text, text, text) to authenticated;


/*
    What the rows of a table keep, in the order in which a user hears of it: each rule with the
    condition of a row, named new_row, that breaks it.
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
            string_agg(format('o.%I = new_row.%I', coalesce(b.attname, a.attname), a.attname), ' and ') as matches,
            string_agg(format('new_row.%I is null', a.attname), ' or ') as is_open
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
      -- what the primary key holds in itself
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
                -- of several rows one may leave out what another one gives
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
        '' order by r.place, r.rule)
    into rules
    from private.rules_of_table(relation) r;

    execute format(
        $definition$
create function private.tg_%1$s__guard_given()
    returns trigger
    language plpgsql
    -- definer: what guards call is nobody's to call
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
    -- definer: keys are looked up beyond what the user sees, as Postgres does
    security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    given constant jsonb := current_setting('rapport.given');
    -- the key by which an upsert means a row that may be there, as PostgREST names it
    upserted_by constant text := (
        select string_agg(btrim(c, '" '), ',' order by btrim(c, '" ') collate "C")
        from unnest(string_to_array(
            substring(current_query() from '(?i)\mon conflict *\(([^)]*)\)'), ',')) c
    );
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
    'Made by private.guard_table: puts aside what users do not write.';
comment on function private.tg_%1$s__guard_row() is
    'Made by private.guard_table: refuses in words what users may not write.';

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
end
$body$;


comment on function private.refuse_given(text, jsonb, jsonb) is
    'Refuses a value that was given for a column that users do not write, unless the row has just that.';
comment on function private.refuse_row(text, text, text) is
    'Refuses a row in the words of the rule that it breaks: a policy, a column that is needed, a check, a reference or a key.';
comment on function private.refuse_value(text, text, text) is
    'Refuses a value from within a check, in words.';
comment on function private.rules_of_table(regclass) is
    'The rules of a table''s rows in the order in which users hear of them, each with the condition that breaks it.';
comment on function private.guard_table(text, text[], text[]) is
    'Lets users name every column of a table from now on, and refuses in words what they may not write: all but these columns where rows are inserted and updated, and what its policies, keys and constraints refuse. Called once they are all there.';


/*
    What is kept for a time only, and its removal. Messages, contacts and the statuses of
    messages are not: they stay as long as their account.
*/
create table private.retention (
    only_row       boolean primary key default true
                   constraint retention_only_row_check check (only_row),
    -- what a better parser could still be given; WhatsApp repeats a delivery for 7 days
    webhook_events interval not null default interval '90 days'
                   constraint retention_webhook_events_check
                   check (webhook_events >= interval '7 days'),
    sync           interval not null default interval '90 days'
                   constraint retention_sync_check check (sync >= interval '1 day')
);
alter table private.retention enable row level security;


create policy "nobody reads the retention settings directly"
    on private.retention
    for all
    to authenticated
    using (false);


insert into private.retention default values;


create function private.prune_changes(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- a cursor may be as old as the log's retention, and an entry bears the time at which its
    -- transaction began: it may have been seen a day later, if one transaction ran so long
    kept_since constant timestamptz := (
        select now() - l.retention - interval '1 day'
        from private.change_log l
    );
    pruned integer := 0;
    deleted integer;
    account uuid := '00000000-0000-0000-0000-000000000000';
    oldest timestamptz;
begin
    -- the log has no index by time, which every write would pay for: each account's entries
    -- are looked at from the oldest transaction on
    loop
        select c.account_id, c.logged_at
        into account, oldest
        from private.changes c
        where c.account_id > account
        order by c.account_id, c.xid, c.seq
        limit 1;
        exit when not found or pruned >= batch;
        continue when oldest >= kept_since;

        with first_entries as (
            select c.xid, c.seq, c.logged_at
            from private.changes c
            where c.account_id = account
            order by c.xid, c.seq
            limit batch - pruned
            -- another run may be at them
            for update skip locked
        )
        delete from private.changes c
        using first_entries f
        where c.account_id = account
          and c.xid = f.xid
          and c.seq = f.seq
          and f.logged_at < kept_since;

        get diagnostics deleted = row_count;
        pruned := pruned + deleted;
    end loop;
    return pruned;
end
$$;


create function private.prune_webhook_events(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with first_events as (
        select e.id, e.received_at
        from private.webhook_events e
        order by e.id
        limit batch
        -- another run may be at them
        for update skip locked
    )
    delete from private.webhook_events e
    using first_events f, private.retention r
    where e.id = f.id
      and f.received_at < now() - r.webhook_events;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.prune(batch integer default 1000)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    batch_size constant integer := least(greatest(batch, 1), 5000);
begin
    return jsonb_build_object(
        'changes', private.prune_changes(batch => batch_size),
        'webhook_events', private.prune_webhook_events(batch => batch_size),
        'sync', private.prune_sync(
            batch => batch_size, kept => (select r.sync from private.retention r))
    );
end
$$;

grant execute on function backend.prune(integer) to service_role;


comment on table private.retention is
    'One row: how long is kept what is not kept for good. The change log has its own, private.change_log.retention.';
comment on column private.retention.webhook_events is
    'Raw webhooks are kept this long, to be applied anew.';
comment on column private.retention.sync is
    'Runs of the sync and its errors are kept this long.';
comment on policy "nobody reads the retention settings directly" on private.retention is
    'prune acts on them.';
comment on function private.prune_changes(integer) is
    'Deletes up to so many log entries that no cursor needs; returns how many.';
comment on function private.prune_webhook_events(integer) is
    'Deletes up to so many raw webhooks that are past their time; returns how many.';
comment on function backend.prune(integer) is
    'Deletes up to batch rows (5,000 at most) of each kind whose time is over: {changes, webhook_events, sync}. Call again until all are 0.';


/*
    Rows are the jobs, a doorbell wakes the worker: a request to POST /internal/wake when the
    transaction commits. It may get lost; the schedule sweeps.
*/
do $$
begin
    -- as a rule there; where it is not, ringing is a warning and the schedule does it all
    if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
        create extension if not exists pg_net with schema extensions;
    end if;
end
$$;


create table private.doorbell (
    only_row boolean primary key default true
             constraint doorbell_only_row_check check (only_row),
    -- null: nobody is to be woken, the schedule does it all
    url      text
             constraint doorbell_url_check check (url ~ '^https?://[^[:space:]]+$'),
    secret   text
             constraint doorbell_secret_check check (length(secret) between 32 and 256),

    constraint doorbell_url_secret_check check ((url is null) = (secret is null))
);
alter table private.doorbell enable row level security;


create policy "nobody reads the doorbell directly"
    on private.doorbell
    for all
    to authenticated
    using (false);


insert into private.doorbell default values;


create function private.ring(worker text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    bell private.doorbell;
    -- ends with the transaction, or with the savepoint that the ring was in
    rung constant text := 'rapport.rung_' || worker;
begin
    if current_setting(rung, true) = 'on' then
        return;
    end if;
    select d.*
    into bell
    from private.doorbell d
    where d.url is not null;
    if not found then
        return;
    end if;

    perform net.http_post(
        url => bell.url,
        body => jsonb_build_object('worker', worker),
        headers => jsonb_build_object(
            'content-type', 'application/json', 'authorization', 'Bearer ' || bell.secret),
        timeout_milliseconds => 5000
    );
    perform set_config(rung, 'on', true);
exception
    when others then
        -- the row is there, and the schedule finds it
        raise warning 'nobody was woken: %', sqlerrm using errcode = sqlstate;
end
$$;


create function backend.set_doorbell(url text, secret text)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.doorbell d
    set url = set_doorbell.url,
        secret = set_doorbell.secret
    where d.url is distinct from set_doorbell.url
       or d.secret is distinct from set_doorbell.secret;
exception
    when check_violation then
        -- without the row itself, which holds the secret
        raise sqlstate 'PT422' using
            message = 'The doorbell needs a URL and a secret, or neither.',
            detail = 'field: url, secret',
            hint = 'The URL of POST /internal/wake, and 32 to 256 characters.';
end
$$;

grant execute on function backend.set_doorbell(text, text) to service_role;


comment on table private.doorbell is
    'Where to ring, and with which secret.';
comment on policy "nobody reads the doorbell directly" on private.doorbell is
    'It holds a secret.';
comment on function private.ring(text) is
    'Wakes a worker when the transaction commits, once. A failure is a warning.';
comment on function backend.set_doorbell(text, text) is
    'Says where POST /internal/wake is and the secret that it asks for (WAKE_SECRET); with two nulls nobody is woken. Once for a deployment.';


/*
    What before_request looks at before each request of PostgREST: whether the caller may do it.
    Postgres refuses what is not granted in words of its own, before any trigger: here it is said
    which table is not written so, and what writes it.

    Source: docs.postgrest.org, "Configuration", db-pre-request.
*/
create function private.way_to_write(relation text)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select case relation
        when 'account_events' then 'They are what WhatsApp tells of an account, kept as it came.'
        when 'account_members' then 'Members are added by whoever runs the service.'
        when 'accounts' then 'Accounts are made and closed by whoever runs the service.'
        when 'contact_identities' then 'They follow what is written to contacts_v2.'
        when 'contact_merges' then 'Call merge_contacts or undo_merge.'
        when 'contact_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'contacts' then 'Write contacts_v2, or call upsert_contact.'
        when 'conversation_activity' then 'It follows the messages.'
        when 'conversations' then 'Call set_conversation_status or mark_read; a message opens a conversation.'
        when 'customers' then 'Staff write contacts_v2, customers my_profile.'
        when 'inbox' then 'Call set_conversation_status or mark_read; write messages.'
        when 'invoices' then 'Invoices are not deleted: write the status void.'
        when 'jobs' then 'Jobs are not deleted: write the status cancelled.'
        when 'loyalty_balances' then 'Insert a line into loyalty_transactions.'
        when 'loyalty_transactions' then 'Lines stay as they are: insert one that takes back what another gave.'
        when 'message_media' then 'POST /api/media announces a file; refetch_media fetches one again.'
        when 'messages' then 'Messages are inserted; delete_message blanks one.'
        when 'metakocka_contact_mappings' then 'Call resolve_sync_conflict to say which partner a contact is.'
        when 'my_profile' then 'A profile is updated; claim_portal_invitation opens one.'
        when 'open_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'portal_invitations' then 'Call invite_to_portal or revoke_invitation.'
        when 'read_markers' then 'Call mark_read.'
        when 'rejected_webhooks' then 'They are what WhatsApp delivered; rapport replay applies them once their cause is mended.'
        when 'sendable_templates' then 'Templates are written at WhatsApp and read from there.'
        when 'status_words' then 'The words of faces are fixed.'
        when 'sync_conflicts' then 'Call resolve_sync_conflict.'
        when 'sync_errors' then 'They are what went wrong, and go by themselves.'
        when 'sync_runs' then 'Call request_sync.'
        when 'whatsapp_channels' then 'Numbers are added by whoever runs the service; resume_channel starts a stopped one.'
        when 'whatsapp_templates' then 'Templates are written at WhatsApp and read from there.'
    end
$$;


create function private.check_request()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- not current_user: a definer function may call this
    role_name constant name := current_setting('role');
    method constant text := current_setting('request.method', true);
    -- text while it need not be read
    headers constant text := current_setting('request.headers', true);
    -- /contacts, /rpc/mark_read
    names text[];
    wanted oid;
    upserts boolean;
    right_to text;
    is_allowed boolean;
    is_view boolean;
begin
    -- users may read what there is; what functions call is theirs
    if role_name = 'service_role'
        or (role_name = 'authenticated' and method in ('GET', 'HEAD') and headers not like '%-profile"%')
    then
        return;
    end if;
    names := string_to_array(current_setting('request.path', true), '/');
    if coalesce(names[2], '') = '' then
        return;
    end if;

    wanted := to_regnamespace(quote_ident(coalesce(
        headers::jsonb ->> case
            when method in ('GET', 'HEAD') then 'accept-profile'
            else 'content-profile'
        end,
        'public')));
    if names[2] = 'rpc' then
        select bool_or(has_function_privilege(role_name, p.oid, 'execute'))
        into is_allowed
        from pg_catalog.pg_proc p
        where p.pronamespace = wanted
          and p.proname = names[3];
    else
        upserts := method = 'PUT'
            or (method = 'POST' and headers::jsonb ->> 'prefer' like '%resolution=%');
        -- what a request takes, the last one as it is told
        foreach right_to in array
            case
                when method in ('GET', 'HEAD') then array['select']
                when method = 'DELETE' then array['delete']
                when method = 'PATCH' then array['update']
                when upserts and headers::jsonb ->> 'prefer' like '%resolution=ignore-duplicates%'
                    then array['insert']
                when upserts then array['insert', 'update']
                else array['insert']
            end
        loop
            select
                case right_to
                    when 'delete' then has_table_privilege(role_name, c.oid, right_to)
                    else has_any_column_privilege(role_name, c.oid, right_to)
                end,
                c.relkind = 'v'
            into is_allowed, is_view
            from pg_catalog.pg_class c
            where c.relnamespace = wanted
              and c.relname = names[2];
            exit when is_allowed is false;
        end loop;
    end if;

    if has_schema_privilege(role_name, wanted, 'usage') is false then
        is_allowed := false;
    end if;
    if is_allowed is false and role_name <> 'authenticated' then
        raise insufficient_privilege using
            message = 'Sign in first.',
            hint = 'Send a user''s access token in the header Authorization.';
    elsif is_allowed is false and (names[2] = 'rpc' or wanted <> 'public'::regnamespace) then
        raise insufficient_privilege using
            message = 'This is for the functions of Rapport alone.',
            hint = 'Users read and write what is in the schema public.';
    elsif is_allowed is false then
        raise insufficient_privilege using
            message = format(
                'Rows of %s are not %s by users.',
                names[2],
                case right_to
                    when 'insert' then 'inserted'
                    when 'update' then 'updated'
                    when 'delete' then 'deleted'
                    else 'read'
                end
            ),
            hint = coalesce(
                private.way_to_write(names[2]), 'See what the table''s description says.');
    elsif upserts and is_view then
        raise sqlstate 'PT405' using
            message = format('%s is a view and takes no upsert.', names[2]),
            hint = 'Insert, update, or call upsert_contact.';
    end if;
    -- what there is not PostgREST says itself
end
$$;


comment on function private.way_to_write(text) is
    'What writes the rows that users do not write themselves, or not so.';
comment on function private.check_request() is
    'Refuses in words what the role of a request was not granted.';
