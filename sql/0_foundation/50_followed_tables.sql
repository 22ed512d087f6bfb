/*
    A followed table: its every change is logged and broadcast, and clients may follow what is
    inserted and updated by postgres_changes, under its own row level security.

    A table is followed from the call of private.follow_table at the end of its file. It is named
    in private.shown_columns and private.visible_rows as well, and in private.customer_change if
    a customer does not see all of its own rows.
*/
-- Nobody can be asked who may see a row that is gone: Realtime tells a deletion to all who
-- subscribe, and tests their filters on the old row. Broadcasts and the log tell deletions.
alter publication supabase_realtime set (publish = 'insert, update');


create type private.row_change as (
    old jsonb,
    new jsonb
);


create type private.followed_table as (
    name             text,
    customer_key     text,
    conversation_key text,
    hides_rows       boolean
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
    followed constant private.followed_table := private.followed_table(tg_table_name);
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


create function private.follow_table(table_name text, tells_inserts boolean default true)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if tells_inserts then
        execute format(
            'create trigger _900_publish_insert'
            ' after insert on public.%I'
            ' referencing new table as new_rows'
            ' for each statement'
            ' execute function private.tg__publish()',
            table_name
        );
    end if;
    execute format(
        'create trigger _900_publish_update'
        ' after update on public.%I'
        ' referencing old table as old_rows new table as new_rows'
        ' for each statement'
        ' execute function private.tg__publish()',
        table_name
    );
    execute format(
        'create trigger _900_publish_delete'
        ' after delete on public.%I'
        ' referencing old table as old_rows'
        ' for each statement'
        ' execute function private.tg__publish()',
        table_name
    );
    -- no column list: Realtime and clients expect whole rows
    execute format('alter publication supabase_realtime add table public.%I', table_name);
end
$$;


comment on function private.tg__publish() is
    'Logs and broadcasts what a statement changed.';
comment on function private.follow_table(text, boolean) is
    'Logs and broadcasts every change of a table from now on, and publishes what is inserted and updated. Without tells_inserts a trigger of the table''s own does so for new rows.';
