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
comment on policy "nobody reads the list of followed tables directly"
    on private.followed_tables is
    'Triggers and catch-up read it.';
comment on function private.followed_table(text) is
    'How a table is followed; a row of nulls if it is not.';
comment on type private.row_change is
    'A row before and after a change; one of the two may be null.';
comment on function private.tg__publish() is
    'Logs and broadcasts the rows that a statement changed.';
comment on function private.follow_table(text, text[], text[], text, text, text) is
    'Follows a table from now on: logs and broadcasts every change, and publishes inserts and updates.';
