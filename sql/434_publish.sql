/*
    What follows from a change of a followed row, in the same transaction. Per statement, not
    per row: 50,000 rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.
*/
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
as $$
declare
    chunk_size constant integer := 1000;
    source refcursor;
    change private.row_change;
    chunk private.row_change[] := '{}';
    topics text[] := '{}';
    is_large boolean := false;
    finished boolean;
begin
    if tg_op = 'INSERT' then
        open source for
            select null::jsonb, to_jsonb(n)
            from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select to_jsonb(o), to_jsonb(n)
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version;
    else
        open source for
            select to_jsonb(o), null::jsonb
            from old_rows o;
    end if;

    loop
        fetch source into change.old, change.new;
        finished := not found;
        if not finished then
            chunk := chunk || change;
            continue when cardinality(chunk) < chunk_size;
        end if;

        exit when cardinality(chunk) = 0;
        perform private.log_changes(
            table_name => tg_table_name, operation => tg_op, changes => chunk);
        exit when finished and not is_large;

        -- too much to tell one by one: everybody concerned reads again
        is_large := true;
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(table_name => tg_table_name, changes => chunk) t
        );
        chunk := '{}';
        exit when finished;
    end loop;
    close source;

    if is_large then
        perform private.broadcast_resync(table_name => tg_table_name, topics => topics);
    elsif cardinality(chunk) > 0 then
        perform private.broadcast_changes(table_name => tg_table_name, changes => chunk);
    end if;
    return null;
end
$$;


comment on function private.tg__publish() is
    'Logs and broadcasts what a statement changed.';
