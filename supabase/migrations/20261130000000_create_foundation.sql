-- Made from sql/0_foundation/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    Three schemas: clients see public, the deployed functions call backend, and private holds the
    inner workings. Nothing is granted by default; each grant stands beneath its object.
*/
create schema backend;

grant usage on schema backend to service_role;

comment on schema backend is
    'RPCs for the deployed functions; exposed to PostgREST, usable by service_role alone.';


create schema private;

-- policies run as the signed-in user, and they call helpers in this schema
grant usage on schema private to authenticated;

comment on schema private is
    'Helpers, the change log, raw webhooks and ledgers; PostgREST never exposes it.';


-- A new Supabase project grants clients every new object. This takes these grants back.
alter default privileges for role postgres in schema public
    revoke all on tables from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on sequences from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on functions from anon, authenticated, service_role;

-- Postgres lets everybody execute a new function. Only a global default takes that back.
alter default privileges for role postgres
    revoke execute on functions from public;


/*
    Which release this schema is of. functions/rapport/release.py has the version. A later release
    replaces the function in a migration of its own.
*/
create function backend.release()
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select '0.1.0'
$$;

grant execute on function backend.release() to service_role;

comment on function backend.release() is
    'The version of this schema, as functions and clients of the same release say it: 0.1.0.';


/*
    The settings by which the functions of one transaction tell each other something. A setting
    lasts until the transaction ends, or until its savepoint is undone. Yes is 'on' and no is 'off'.
    Afterwards the session has an empty text in its place, which private.setting takes for none.

    setting                     value               set by                        read by
    --------------------------  ------------------  ----------------------------  ----------------------------
    rapport.broadcast_later     on, off             import_contacts,              broadcast_changes,
                                                    apply_whatsapp_people,        publish_change,
                                                    begin_erasure, erase_some     apply_whatsapp_items
    rapport.broadcasts          number of cursors   next_broadcast,               next_broadcast,
                                                    publish_change,               publish_change,
                                                    tg_changes__tell              waiting_broadcasts,
                                                                                  tg_changes__tell
    rapport.desk_raised         account's id        the trigger that raises       the same
                                                    the epoch of a desk
    rapport.erasing             on, off             erase_some                    tg_invoices__progress,
                                                                                  tg_loyalty_transactions__keep
    rapport.from_metakocka      on, off             apply_partners,               tg_contacts__mark_dirty
                                                    settle_partner
    rapport.given               object of columns   guard_given of a guarded      guard_row of the same
                                                    table                         table
    rapport.held_customer       contact's id        tg__own_by_customer           the same
    rapport.hits                number of rows      the triggers of faces and     the same
                                                    my_profile
    rapport.inserting           on, off             tg__require_rows              the same
    rapport.lock_timeout        as lock_timeout     tg__expect_hits               tg__require_hits
    rapport.logging             on, off             the change log's trigger,     the same
                                                    tg_changes__tell
    rapport.messages_tried      number of messages  tg_messages__                 the same
                                                    hold_to_request
    rapport.quiet               on, off             apply_partners                publish_change,
                                                                                  publish_changes
    rapport.read_conversation   conversation's id   mark_read                     the same
    rapport.repeated            messages' ids,      tg_messages__                 post_message,
                                by commas           leave_out_repeated            answer_repeated
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
    'The value that this transaction has set; null where it has set none.';


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


/*
    Only exact counts are given. An estimate comes from statistics of the whole table, for every
    user: it tells a stranger how many rows others have, with which values and which ids.

    before_request refuses a request for an estimate. But if a request has two Prefer headers,
    before_request sees one, and PostgREST obeys the other and runs EXPLAIN. EXPLAIN plans a
    statement, with its policies, and executes nothing. So planning must refuse it: while Postgres
    plans, it evaluates an immutable function without arguments. The functions that policies call
    have check_plan() as the default of an argument.
*/
create function private.refuse_estimate()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT400' using
        message = 'Only exact counts are given: an estimate would tell about rows that are not yours.',
        detail = 'field: Prefer',
        hint = 'Ask for count=exact, or for no count.';
end
$$;

grant execute on function private.refuse_estimate() to authenticated;


create function private.check_plan()
    returns boolean
    language plpgsql
    -- not true, but so Postgres calls it while it plans a statement
    immutable
    parallel safe
    -- definer: users need no right to what it calls
    security definer
    set search_path = ''
as $$
begin
    -- only in PostgREST's sessions: a person at a console may use EXPLAIN
    if session_user = 'authenticator' then
        if ltrim(current_query()) ilike 'explain%' then
            perform private.refuse_estimate();
        end if;
        perform private.refuse_embedding(current_query());
    end if;
    return true;
end
$$;

grant execute on function private.check_plan() to authenticated;


comment on function private.refuse_estimate() is
    'Refuses a count that is not exact.';
comment on function private.check_plan() is
    'Returns true. Refuses to plan a statement that PostgREST runs with EXPLAIN, or that embeds too much.';


/*
    The limits of embedding. PostgREST makes a request with embedded tables into one statement:

        left join lateral ( select json_agg(…) … )    many rows beneath each row
        left join lateral ( … )                       one row beneath each row

    Many rows beneath many add up to no more than the caller's own rows. But many rows beneath one
    row that others share (messages → conversations → messages) multiply: 1,000 messages make an
    answer of 1,000,000. They are refused, and so are very deep and very wide requests.

    A function that runs before the statement doesn't see it. So check_plan looks at it while
    Postgres plans it, as it looks for EXPLAIN.

    Source: PostgREST's src/PostgREST/Query/QueryBuilder.hs, versions 12 to 14.
*/
create function private.embedding_of(query text)
    returns table (embeds integer, depth integer, is_repeated boolean)
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- names and texts may contain anything
    bare constant text := regexp_replace(query, '"[^"]*"|''[^'']*''', 'x', 'g');
    token text;
    -- the brackets that are open: '(' of any kind, 'o' embeds one row, 'm' many
    opened text := '';
    embedded text;
begin
    embeds := 0;
    depth := 0;
    is_repeated := false;
    for token in
        select lower(t[1])
        from regexp_matches(bare, '(\mlateral\s*\(|\mjsonb?_agg\M|[()])', 'gi') t
    loop
        if token = ')' then
            opened := left(opened, -1);
        elsif token = '(' then
            opened := opened || '(';
        elsif token like 'lateral%' then
            opened := opened || 'o';
            embeds := embeds + 1;
            depth := greatest(depth, length(replace(opened, '(', '')));
        else
            -- this gathers the rows of the innermost embedding
            embedded := substring(opened from '^(.*)o\(*$');
            if embedded is not null then
                opened := embedded || 'm' || substr(opened, length(embedded) + 2);
                is_repeated := is_repeated or position('o' in embedded) > 0;
            end if;
        end if;
    end loop;
    return next;
end
$$;


create function private.refuse_embedding(query text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    most_embeds constant integer := 8;
    most_depth constant integer := 3;
    asked record;
begin
    -- most requests embed nothing, and one table multiplies nothing
    if query !~* '\mlateral\M.*\mlateral\M' then
        return;
    end if;
    select * into asked
    from private.embedding_of(query);
    if asked.is_repeated then
        raise sqlstate 'PT400' using
            message = 'The answer would repeat many rows: a list is embedded in a row that others share.',
            detail = 'field: select',
            hint = 'Ask for the list in a request of its own.';
    elsif asked.depth > most_depth then
        raise sqlstate 'PT400' using
            message = format(
                'Tables are embedded %s levels deep; %s are allowed.', asked.depth, most_depth),
            detail = 'field: select',
            hint = 'Ask for the inner tables in a request of their own.';
    elsif asked.embeds > most_embeds then
        raise sqlstate 'PT400' using
            message = format(
                '%s tables are embedded; %s are allowed.', asked.embeds, most_embeds),
            detail = 'field: select',
            hint = 'Divide this into several requests.';
    end if;
end
$$;


comment on function private.embedding_of(text) is
    'The embedding in a statement of PostgREST''s: how many tables, how many levels deep, and whether many rows stand beneath one row that others share.';
comment on function private.refuse_embedding(text) is
    'Refuses a statement of PostgREST''s that embeds too much.';


/*
    Text search needs three things: trigrams, an index of trigrams together with other columns,
    and one spelling of a text for every case and accent.
*/
create extension if not exists unaccent with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists btree_gin with schema extensions;


create function private.fold(value text)
    returns text
    language plpgsql
    -- unaccent is only stable, because its dictionary can be replaced. After a replacement, all
    -- folded texts must be written again
    immutable
    set search_path = ''
as $$
begin
    -- compose first: a letter and its accent may be two characters
    return lower(extensions.unaccent('extensions.unaccent', normalize(value, nfkc)));
end
$$;

grant execute on function private.fold(text) to authenticated;


comment on function private.fold(text) is
    'A text in lower case and without accents, for search and sorting: Žiga becomes ziga.';


/*
    The data is in memory or on flash, where a random page costs little more than the next page.
    Postgres assumes a spinning disk. Row level security also makes it expect too few rows of an
    account: the policy and the client's filter both name the account, and Postgres multiplies the
    two estimates. So it sorted all 50,000 contacts to show 50: 671 ms before, 1.0 ms with this
    setting. PostgREST applies a role's settings to each request.
*/
alter role authenticated set random_page_cost = 1.1;


/*
    The followed tables. Every change of their rows is logged and broadcast. Clients may also
    follow their inserts and updates by postgres_changes, under row level security. Log,
    broadcast, catch-up and publication all read this list, so they agree.

    A call of private.follow_table at the end of a table's file makes the table followed. A column
    that the call does not name is not sent.
*/
create table private.followed_tables (
    table_name       text primary key,
    -- the columns that staff and customers are sent; both may select them
    shown            text[] not null,
    -- the columns that nobody is sent; a column that is in neither list is not sent either
    hidden           text[] not null default '{}',
    -- the column with the customer's id; null if only staff follow the table
    customer_key     text,
    -- the column with the conversation's id, if the table has it
    conversation_key text not null,
    -- the column that is null until the customer may see a row; null if the customer sees all rows
    seen_since       text
);
alter table private.followed_tables enable row level security;


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
    -- definer: users may not write the log or the topics
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan serves all calls, and it must not be
    -- the one for empty tables
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- match old and new rows by hash: a kept plan for one row would compare each of 10,000 rows
    -- with each, 8 s
    set enable_nestloop = off
    -- disabled plan nodes get a huge cost, which would start the JIT compiler for nothing
    set jit = off
as $$
declare
    -- up to this number of rows, a transition table is read at once
    small constant integer := 1000;
    followed private.followed_tables;
    source refcursor;
    changes private.row_change[];
    logged integer;
begin
    -- as followed_table, whose call is spared
    select f.*
    into followed
    from private.followed_tables f
    where f.table_name = tg_table_name;

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
            -- tg__stamp_change leaves the version as it is if nothing changed
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
    elsif cardinality(changes) = 1 then
        logged := private.publish_change(followed, operation => tg_op, change => changes[1]);
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


-- Row level security can't be checked for a deleted row: Realtime tells a deletion to every
-- subscriber, and tests their filters on the old row. So broadcasts and the log tell deletions.
alter publication supabase_realtime set (publish = 'insert, update');


create function private.follow_table(
    table_name text,
    shown text[],
    hidden text[] default '{}',
    customer_key text default 'customer_id',
    conversation_key text default 'conversation_id',
    seen_since text default null
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
    'The tables whose changes are logged, broadcast and published, with the columns that are sent.';
comment on function private.followed_table(text) is
    'How a table is followed; a row of nulls if it is not.';
comment on type private.row_change is
    'A row before and after a change; one of the two may be null.';
comment on function private.tg__publish() is
    'Logs and broadcasts the rows that a statement changed.';
comment on function private.follow_table(text, text[], text[], text, text, text) is
    'Follows a table from now on: logs and broadcasts every change, and publishes inserts and updates.';


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


/*
    Data that is kept for a limited time, and its deletion: log entries, raw webhooks, runs and
    errors of the sync, what was noted so that nothing is sent twice, and what waited to be sent or
    told. Messages and their files stay for as long as their account keeps them: see prune_kept.
    Contacts stay as long as their account.
*/
create table private.retention (
    only_row       boolean primary key default true
                   constraint retention_only_row_check check (only_row),
    -- a better parser may be given raw webhooks again; WhatsApp repeats a delivery for 7 days
    webhook_events interval not null default interval '90 days'
                   constraint retention_webhook_events_check
                   check (webhook_events >= interval '7 days'),
    sync           interval not null default interval '90 days'
                   constraint retention_sync_check check (sync >= interval '1 day'),
    -- after the time from which on no rule reminds of the occasion again
    sent_reminders interval not null default interval '30 days'
                   constraint retention_sent_reminders_check
                   check (sent_reminders >= interval '1 day'),
    -- of scheduled messages that were sent, cancelled or failed; what was sent stays a message
    scheduled_messages interval not null default interval '90 days'
                   constraint retention_scheduled_messages_check
                   check (scheduled_messages >= interval '1 day')
);
alter table private.retention enable row level security;


insert into private.retention default values;


create function private.prune_changes(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- A cursor may be as old as the log's retention. An entry has the time at which its
    -- transaction began: if the transaction ran for a day, readers saw the entry a day later.
    kept_since constant timestamptz := (
        select now() - l.retention - interval '1 day'
        from private.change_log l
    );
    pruned integer := 0;
    deleted integer;
    account uuid := '00000000-0000-0000-0000-000000000000';
    oldest timestamptz;
begin
    -- The log has no index by time, because every write would pay for it. So the entries of each
    -- account are read from the oldest transaction on.
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
            -- another run may be deleting them
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
        -- another run may be deleting them
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
        'erased_messages', private.prune_erased_messages(batch => batch_size),
        'sync', private.prune_sync(
            batch => batch_size, kept => (select r.sync from private.retention r)),
        'sent_reminders', private.prune_sent_reminders(
            batch => batch_size, kept => (select r.sent_reminders from private.retention r)),
        'scheduled_messages', private.prune_scheduled_messages(
            batch => batch_size, kept => (select r.scheduled_messages from private.retention r)),
        'notifications', private.prune_notifications(batch => batch_size)
    );
end
$$;

grant execute on function backend.prune(integer) to service_role;


comment on table private.retention is
    'One row: how long temporary data is kept. The change log has its own setting, private.change_log.retention.';
comment on column private.retention.webhook_events is
    'How long raw webhooks are kept, so that they can be applied again.';
comment on column private.retention.sync is
    'How long runs and errors of the sync are kept.';
comment on column private.retention.sent_reminders is
    'How long it is kept that a reminder was sent or dropped, once no rule can remind of the occasion again.';
comment on column private.retention.scheduled_messages is
    'How long scheduled messages are kept after they were sent or cancelled, or failed.';
comment on function private.prune_changes(integer) is
    'Deletes at most batch log entries that no cursor needs any more; returns their number.';
comment on function private.prune_webhook_events(integer) is
    'Deletes at most batch raw webhooks that are older than their retention; returns their number.';
comment on function backend.prune(integer) is
    'Deletes at most batch rows (1 to 5,000) of each kind that are older than their retention, and returns their numbers: {changes, webhook_events, erased_messages, sync, sent_reminders, scheduled_messages, notifications}. Call it again until all are 0.';


/*
    Rows are the jobs, and a doorbell wakes the worker: a request to POST /internal/wake when the
    transaction commits. The request may get lost; then the schedule finds the rows.
*/
do $$
begin
    -- hosted projects have pg_net; without it, ring() only warns and the schedule finds the rows
    if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
        create extension if not exists pg_net with schema extensions;
    end if;
end
$$;


create table private.doorbell (
    only_row boolean primary key default true
             constraint doorbell_only_row_check check (only_row),
    -- null: no worker is woken, and the schedule finds the rows
    url      text
             constraint doorbell_url_check check (url ~ '^https?://[^[:space:]]+$'),
    secret   text
             constraint doorbell_secret_check check (length(secret) between 32 and 256),

    constraint doorbell_url_secret_check check ((url is null) = (secret is null))
);
alter table private.doorbell enable row level security;


insert into private.doorbell default values;


create function private.ring(worker text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    bell private.doorbell;
    -- the setting ends with the transaction, or with the savepoint of the ring
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
        raise warning 'no worker was woken: %', sqlerrm using errcode = sqlstate;
end
$$;


create function private.ring_each_minute(is_wanted boolean)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    job constant text := 'rapport-schedules';
begin
    -- projects may have pg_cron; a server that is always awake needs none
    if to_regprocedure('cron.schedule(text, text, text)') is null then
        return;
    end if;
    if is_wanted then
        perform cron.schedule(job, '* * * * *', 'select private.ring(''schedules'')');
    elsif exists (select from cron.job j where j.jobname = job) then
        perform cron.unschedule(job);
    end if;
exception
    when others then
        raise warning 'pg_cron does not ring: %', sqlerrm using errcode = sqlstate;
end
$$;


create function backend.set_doorbell(url text, secret text, each_minute boolean default false)
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

    perform private.ring_each_minute(is_wanted => each_minute and url is not null);
exception
    when check_violation then
        -- Postgres' own message would quote the row, with the secret
        raise sqlstate 'PT422' using
            message = 'The doorbell needs both a URL and a secret, or neither.',
            detail = 'field: url, secret',
            hint = 'Give the URL of POST /internal/wake and a secret of 32 to 256 characters.';
end
$$;

grant execute on function backend.set_doorbell(text, text, boolean) to service_role;


comment on table private.doorbell is
    'The address of POST /internal/wake, and its secret.';
comment on function private.ring(text) is
    'Wakes a worker when the transaction commits, once in a transaction. A failure is only a warning.';
comment on function private.ring_each_minute(boolean) is
    'Has pg_cron, where it is, wake a server each minute for its schedules, or no longer. A failure is only a warning.';
comment on function backend.set_doorbell(text, text, boolean) is
    'Sets the address of POST /internal/wake and its secret (WAKE_SECRET). With two nulls no worker is woken. Call it once for a deployment; each_minute is for `rapport serve`, whose host may sleep.';


/*
    The schedules of servers that run beside the project (`rapport serve`). A server stops and starts
    again, and there may be several: so it is kept here when the last run of each schedule began, and
    a due run is claimed by one of them. A server that dies during a run leaves it to the next one.
*/
create table private.schedule_runs (
    -- its name in serverless.yml
    function     text not null
                 constraint schedule_runs_function_check check (length(function) between 1 and 100),
    every        interval not null
                 constraint schedule_runs_every_check check (every > interval '0'),
    due_at       timestamptz not null default now(),
    -- of the last run, or of the one that is under way
    began_at     timestamptz,
    -- the end of the last run that ended well
    succeeded_at timestamptz,
    -- the run that is under way, and until when its server need not say that it lives
    run          uuid,
    run_until    timestamptz,

    constraint schedule_runs_pkey primary key (function, every),
    constraint schedule_runs_run_check
        check ((run is null) = (run_until is null) and (run is null or began_at is not null))
);
alter table private.schedule_runs enable row level security;


create function backend.claim_scheduled_runs(schedules jsonb, running uuid[] default '{}')
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    lease constant interval := '30 seconds';
    claimed jsonb;
    next_in double precision;
begin
    -- in the order of their keys, as servers that start at the same time have to
    insert into private.schedule_runs (function, every)
    select w.function, make_interval(secs => w.every)
    from jsonb_to_recordset(schedules) as w (function text, every integer)
    -- or it would wait for a server that is claiming them
    where not exists (
        select
        from private.schedule_runs r
        where r.function = w.function
          and r.every = make_interval(secs => w.every)
    )
    order by 1, 2
    on conflict on constraint schedule_runs_pkey do nothing;

    update private.schedule_runs r
    set run_until = now() + lease
    where r.run = any (running);

    with due as materialized (
        select r.function, r.every
        from private.schedule_runs r
        join jsonb_to_recordset(schedules) as w (function text, every integer)
          on r.function = w.function
         and r.every = make_interval(secs => w.every)
        -- the clock was ahead, or the database is a restored one
        where (r.due_at <= now() or r.due_at > now() + r.every)
          and (r.run is null or r.run_until <= now())
        order by r.function, r.every
        -- another server is claiming it
        for update of r skip locked
    ), begun as (
        update private.schedule_runs r
        set began_at = now(),
            run = gen_random_uuid(),
            run_until = now() + lease
        from due d
        where r.function = d.function
          and r.every = d.every
        returning r.function, r.every, r.run
    )
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'function', b.function,
                'every', extract(epoch from b.every)::integer,
                'run', b.run)
            order by b.function, b.every),
        '[]')
    into claimed
    from begun b;

    select extract(epoch from min(greatest(
        now(),
        case
            when r.run is null then r.due_at
            -- it ends well, or its server has died
            when r.began_at + r.every > now() then least(r.began_at + r.every, r.run_until)
            else r.run_until
        end)) - now())
    into next_in
    from private.schedule_runs r
    join jsonb_to_recordset(schedules) as w (function text, every integer)
      on r.function = w.function
     and r.every = make_interval(secs => w.every);

    return jsonb_build_object('claimed', claimed, 'next_in', next_in);
end
$$;

grant execute on function backend.claim_scheduled_runs(jsonb, uuid[]) to service_role;


create function backend.end_scheduled_run(run uuid, succeeded boolean)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.schedule_runs r
    set run = null,
        run_until = null,
        succeeded_at = case when succeeded then now() else r.succeeded_at end,
        due_at = case
            when succeeded then r.began_at + r.every
            else now() + least(r.every, interval '1 minute')
        end
    -- otherwise another run has taken its place
    where r.run = end_scheduled_run.run;
end
$$;

grant execute on function backend.end_scheduled_run(uuid, boolean) to service_role;


comment on table private.schedule_runs is
    'When the schedules of `rapport serve` ran last, and which of them run now. On AWS, EventBridge does this.';
comment on function backend.claim_scheduled_runs(jsonb, uuid[]) is
    'Begins the runs that are due of the given schedules, [{function, every}] in seconds, each for one caller alone: {claimed: [{function, every, run}], next_in: seconds until the next one, or null}. A schedule that has never run is due. The caller names the runs that it makes at the moment: one that was not named for 30 seconds counts as dead.';
comment on function backend.end_scheduled_run(uuid, boolean) is
    'Ends a claimed run. After one that succeeded the next is due by the schedule, after another in a minute at the latest.';


/*
    Before each request of PostgREST, before_request checks here whether the caller may make it.
    Postgres refuses a missing grant before any trigger, in its own words. Here a sentence says
    which table users do not write, and how its rows are written.

    Source: docs.postgrest.org, "Configuration", db-pre-request.
*/
create function private.way_to_write(relation text)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select case relation
        when 'account_events' then 'WhatsApp sends them; they stay as they came.'
        when 'account_health' then 'The system finds the troubles; mend their cause.'
        when 'account_members' then 'Ask the people who run this service to add a member.'
        when 'accounts' then 'Ask the people who run this service to open or close an account.'
        when 'contact_identities' then 'Write contacts_v2: identities follow its phone, email and username.'
        when 'contact_merges' then 'Call merge_contacts or undo_merge.'
        when 'contact_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'contacts' then 'Write contacts_v2, or call upsert_contact.'
        when 'conversation_activity' then 'Insert messages: the activity follows them.'
        when 'conversation_labels' then 'Call label_conversation or unlabel_conversation.'
        when 'conversation_notes' then 'Insert notes; delete_note deletes one.'
        when 'conversations' then 'Call set_conversation_status or mark_read; a new message opens a conversation.'
        when 'customers' then 'Staff write contacts_v2, customers write my_profile.'
        when 'desk_states' then 'Call take_conversation, hand_over_conversation, release_conversation or snooze_conversation.'
        when 'inbox' then 'Call set_conversation_status or mark_read, or insert messages.'
        when 'invoices' then 'Invoices are not deleted: set the status to void.'
        when 'jobs' then 'Jobs are not deleted: set the status to cancelled.'
        when 'loyalty_balances' then 'Insert a line into loyalty_transactions.'
        when 'loyalty_transactions' then 'Lines stay as they are: insert another line that takes the points back.'
        when 'message_media' then 'POST /api/media announces a file; refetch_media fetches one again.'
        when 'messages' then 'Insert messages; delete_message deletes one.'
        when 'metakocka_contact_mappings' then 'Call resolve_sync_conflict to say which partner a contact is.'
        when 'my_profile' then 'Update your profile; claim_portal_invitation opens one.'
        when 'notification_choices' then 'Call choose_notifications.'
        when 'open_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'portal_invitations' then 'Call invite_to_portal or revoke_invitation.'
        when 'privacy_actions' then 'Call erase_contact, export_contact, hold_contact or release_contact.'
        when 'push_subscriptions' then 'Call save_push_subscription or delete_push_subscription.'
        when 'read_markers' then 'Call mark_read.'
        when 'rejected_webhooks' then 'WhatsApp delivered them; rapport replay applies them once their cause is removed.'
        when 'scheduled_messages' then 'Scheduled messages are not deleted: set the status to cancelled.'
        when 'sendable_templates' then 'Write templates at WhatsApp; they are read from there.'
        when 'status_words' then 'The words of faces are fixed.'
        when 'sync_conflicts' then 'Call resolve_sync_conflict.'
        when 'sync_errors' then 'The sync writes its errors, and deletes old ones.'
        when 'sync_runs' then 'Call request_sync.'
        when 'whatsapp_channels' then 'Ask the people who run this service to add a number; resume_channel starts a stopped one, pause_sending and resume_sending pause and resume one.'
        when 'whatsapp_templates' then 'Write templates at WhatsApp; they are read from there.'
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
    -- as text: most requests need not parse it
    headers constant text := current_setting('request.headers', true);
    -- /contacts, /rpc/mark_read
    names text[];
    wanted oid;
    upserts boolean;
    right_to text;
    is_allowed boolean;
    is_view boolean;
begin
    -- no check for a user's reads in public, and for the functions
    if (role_name = 'service_role' and headers like '%-profile"%')
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
        -- the rights that a request needs; the loop ends at the first one that is missing
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
    if is_allowed is false and role_name = 'service_role' then
        raise insufficient_privilege using
            message = 'A secret key reads and writes nothing in the schema public.',
            hint = 'Send a user''s access token with the publishable key. What a secret key may'
                ' call is in the schema backend: send Content-Profile: backend.';
    elsif is_allowed is false and role_name <> 'authenticated' then
        raise insufficient_privilege using
            message = 'Sign in first.',
            hint = 'Send a user''s access token in the header Authorization.';
    elsif is_allowed is false and (names[2] = 'rpc' or wanted <> 'public'::regnamespace) then
        raise insufficient_privilege using
            message = 'Only the functions of Rapport may use this.',
            hint = 'Users read and write the schema public.';
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
                private.way_to_write(names[2]), 'Read the description of the table.');
    elsif upserts and is_view then
        raise sqlstate 'PT405' using
            message = format('%s is a view and takes no upsert.', names[2]),
            hint = 'Insert, update, or call upsert_contact.';
    end if;
    -- PostgREST itself says if the table or function does not exist
end
$$;


comment on function private.way_to_write(text) is
    'How the rows of a table are written that users do not write themselves, or not in this way.';
comment on function private.check_request() is
    'Refuses a request for which its role has no grant, with a sentence.';
