/*
    Rows that changed are read a table at a time, not one by one: 10,000 changes took half of
    the database's time.
*/
drop function private.visible_row(text, uuid);

create function private.visible_rows(table_name text, row_ids uuid[])
    returns table (row_id uuid, record jsonb)
    language plpgsql
    stable
    -- invoker: the caller's own row level security decides, once for all rows of a table
    set search_path = ''
as $$
begin
    case table_name
        when 'contacts' then
            return query
            select r.id, to_jsonb(r)
            from public.contacts r
            where r.id = any (row_ids)
              and r.deleted_at is null;
        when 'customers' then
            return query
            select r.id, to_jsonb(r)
            from public.customers r
            where r.id = any (row_ids);
        when 'conversations' then
            return query
            select r.id, to_jsonb(r)
            from public.conversations r
            where r.id = any (row_ids);
        when 'messages' then
            return query
            select r.id, to_jsonb(r)
            from public.messages r
            where r.id = any (row_ids);
        when 'jobs' then
            return query
            select r.id, to_jsonb(r)
            from public.jobs r
            where r.id = any (row_ids);
        when 'invoices' then
            return query
            select r.id, to_jsonb(r)
            from public.invoices r
            where r.id = any (row_ids);
        when 'loyalty_transactions' then
            return query
            select r.id, to_jsonb(r)
            from public.loyalty_transactions r
            where r.id = any (row_ids);
        when 'sync_runs' then
            return query
            select r.id, to_jsonb(r)
            from public.sync_runs r
            where r.id = any (row_ids);
        else
            -- one that a later version follows
            return;
    end case;
end
$$;

grant execute on function private.visible_rows(text, uuid[]) to authenticated;

create or replace function public.changes_since(cursor text default null, page_size integer default 500)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    now_visible constant pg_snapshot := pg_current_snapshot();
    scope constant text := private.caller_scope();
    state record;
    given jsonb;
    since pg_snapshot;
    until pg_snapshot;
    entries jsonb;
    found_entries integer;
    last_entry jsonb;
    next_cursor jsonb;
begin
    select * into state from private.change_log_state();
    next_cursor := jsonb_build_object(
        'epoch', state.epoch, 'scope', scope, 'since', now_visible::text, 'at', now());

    -- the first call: from here on
    if changes_since.cursor is null then
        return jsonb_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::jsonb, 'more', false, 'resync', false);
    end if;

    given := private.read_cursor(changes_since.cursor);
    if given is null then
        raise sqlstate 'PT400' using
            message = 'This is not a cursor of changes_since.',
            hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
    end if;

    -- another database, another reader, or too long ago: what was missed can't be told
    if given ->> 'epoch' is distinct from state.epoch
        or given ->> 'scope' is distinct from scope
        or (given ->> 'at')::timestamptz < state.kept_since
        -- taken before the disk was put back to an earlier time
        or pg_snapshot_xmax((given ->> 'since')::pg_snapshot) > pg_snapshot_xmax(now_visible)
    then
        return jsonb_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::jsonb, 'more', false, 'resync', true);
    end if;

    since := (given ->> 'since')::pg_snapshot;
    -- pages lead to one fixed snapshot, which is the next cursor
    until := coalesce((given ->> 'until')::pg_snapshot, now_visible);

    with page as materialized (
        select c.xid, c.seq, c.table_name, c.row_id, c.operation, c.version
        from private.my_changes(
            since => since,
            until => until,
            after_xid => coalesce((given ->> 'xid')::xid8, '0'::xid8),
            after_seq => coalesce((given ->> 'seq')::bigint, 0),
            page_size => page_limit
        ) c
    ),
    seen as (
        select t.table_name, r.row_id, r.record
        from (
            select p.table_name, array_agg(distinct p.row_id) as row_ids
            from page p
            group by p.table_name
        ) t
        cross join lateral private.visible_rows(t.table_name, t.row_ids) r
    )
    select
        coalesce(jsonb_agg(
            jsonb_build_object(
                'table', e.table_name,
                'id', e.row_id,
                'version', e.version,
                'operation', case
                    when r.record is null then 'DELETE'
                    -- left an owner, but not the caller's sight
                    when e.operation = 'DELETE' then 'UPDATE'
                    else e.operation
                end,
                'record', r.record
            )
            order by e.xid, e.seq
        ), '[]'::jsonb),
        count(*),
        (array_agg(
            jsonb_build_object('xid', e.xid::text, 'seq', e.seq::text)
            order by e.xid desc, e.seq desc
        ))[1]
    into entries, found_entries, last_entry
    from page e
    left join seen r on r.table_name = e.table_name and r.row_id = e.row_id;

    if found_entries = page_limit then
        next_cursor := given || last_entry || jsonb_build_object('until', until::text);
        if not given ? 'until' then
            next_cursor := next_cursor || jsonb_build_object('until_at', now());
        end if;
    else
        next_cursor := next_cursor || jsonb_build_object(
            'since', until::text,
            'at', coalesce((given ->> 'until_at')::timestamptz, now()));
    end if;

    return jsonb_build_object(
        'cursor', private.write_cursor(next_cursor),
        'changes', entries,
        'more', found_entries = page_limit,
        'resync', false);
end
$$;

comment on function private.visible_rows(text, uuid[]) is
    'Those of a followed table''s rows that are there and that the caller may see.';
