/*
    What is deleted softly is told as deleted; a restored database takes no older cursor.
*/
drop function private.log_changes(text, text, private.row_change[]);


create or replace function private.change_log_epoch()
    returns text
    language sql
    stable
    set search_path = ''
as $$
    /*
        A restore starts a new timeline, another cluster, another database, or fills the log's
        table anew. What happened since is then undone and transaction ids name other
        transactions than before, so no cursor of before may be used.
    */
    select md5(concat_ws(
        ' ',
        l.epoch,
        s.system_identifier,
        c.timeline_id,
        d.oid,
        pg_relation_filenode('private.changes')
    ))
    from private.change_log l, pg_control_system() s, pg_control_checkpoint() c, pg_database d
    where d.datname = current_database()
$$;


/*
    What each audience is shown of a row when it is broadcast: for staff and for customers,
    a subset of what that audience can select. A column that is not named here is not sent.
*/
create or replace function private.shown_columns(table_name text, audience text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case shown_columns.table_name
        when 'contacts' then
            case audience when 'staff' then array[
                'id', 'account_id', 'name', 'profile_name', 'phone', 'email', 'tags', 'notes',
                'portal_user_id', 'created_at', 'updated_at', 'version', 'username', 'status',
                'preferences'
            ] end
        when 'customers' then array[
            'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
            'updated_at', 'version', 'preferences'
        ]
        when 'conversations' then array[
            'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
            'customer_wa_id', 'status', 'created_at', 'updated_at', 'version'
        ]
        when 'messages' then array[
            'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type',
            'sender_id', 'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref',
            'provider_id', 'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at',
            'error_code', 'error_message', 'created_at', 'updated_at', 'version', 'reactions',
            'edited_at', 'revoked_at'
        ]
    end;
end
$$;


create function private.row_operation(change private.row_change)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case
        when change.new is null then 'DELETE'
        when change.old is null then 'INSERT'
        else 'UPDATE'
    end;
end
$$;

create or replace function private.log_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> customer_key)::uuid,
        (e.row ->> conversation_key)::uuid,
        log_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint
    from unnest(changes) c
    cross join lateral (
        values
            -- gone to another owner: the old one is told as well
            (c.old, 'DELETE', c.old ->> customer_key <> c.new ->> customer_key),
            (coalesce(c.new, c.old), private.row_operation(c), true)
    ) as e (row, operation, happened)
    where e.happened;
end
$$;

comment on function private.row_operation(private.row_change) is
    'What happened to a row: INSERT, UPDATE or DELETE.';

comment on function private.log_changes(text, private.row_change[]) is
    'Appends a statement''s changes to the log.';


create or replace function private.broadcast_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    -- they change with every change
    stamps constant text[] := array['version', 'updated_at'];
    staff_hidden constant text[] :=
        private.hidden_columns(table_name, 'staff', coalesce(changes[1].new, changes[1].old));
    customer_hidden constant text[] := case
        when private.shown_columns(table_name, 'customer')
             = private.shown_columns(table_name, 'staff') then staff_hidden
        else private.hidden_columns(table_name, 'customer', coalesce(changes[1].new, changes[1].old))
    end;
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    operation text;
    current_row jsonb;
    record jsonb;
    old_record jsonb;
    topic text;
begin
    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(table_name => broadcast_changes.table_name, changes => changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := private.row_operation(change);

        record := change.new - staff_hidden;
        old_record := change.old - staff_hidden;
        -- what an audience can't see changing has not changed for it
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            topic := private.account_topic((current_row ->> 'account_id')::uuid);
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;

        continue when customer_hidden is null;
        record := change.new - customer_hidden;
        old_record := change.old - customer_hidden;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> customer_key <> change.new ->> customer_key then
            -- gone to another owner: it is new to that one, and the old one learns its id alone
            topic := private.listened_topic((change.old ->> customer_key)::uuid);
            if topic is not null and topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, 'DELETE', current_row, null, null);
            end if;
            operation := 'INSERT';
            old_record := null;
        end if;

        topic := private.listened_topic((current_row ->> customer_key)::uuid);
        if topic is not null and topic <> all (crowded) then
            events := events || private.change_event(
                table_name, topic, operation, current_row, record, old_record);
        end if;
        if current_row ? conversation_key then
            topic := private.conversation_topic(
                (current_row ->> conversation_key)::uuid,
                (current_row ->> 'account_id')::uuid,
                (current_row ->> customer_key)::uuid
            );
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;
    end loop;

    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(events) e;
    if crowded <> '{}' then
        perform private.broadcast_to(
            topics => crowded,
            event => 'resync',
            payload => jsonb_build_object('tables', array[table_name])
        );
    end if;
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


/*
    What follows from a change of a followed row, in the same transaction. Per statement, not
    per row: 50,000 rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.
*/
create function private.shown_change(old_row jsonb, new_row jsonb)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- what is deleted softly is gone for everybody, and what is undeleted is new
    return (
        case
            when old_row ->> 'deleted_at' is null then
                case
                    when new_row ->> 'deleted_at' is null then old_row
                    -- a tombstone's version is that of the deletion
                    else old_row || jsonb_build_object('version', new_row -> 'version')
                end
        end,
        case when new_row ->> 'deleted_at' is null then new_row end
    )::private.row_change;
end
$$;

create or replace function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    -- a transition table is read whole while it is small
    small constant integer := 1000;
    source refcursor;
    change private.row_change;
    changes private.row_change[];
    topics text[] := '{}';
begin
    if tg_op = 'INSERT' then
        select array_agg((null, to_jsonb(n))::private.row_change)
        into changes
        from (select * from new_rows limit small + 1) n;
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
        select array_agg((to_jsonb(o), null)::private.row_change)
        into changes
        from (select * from old_rows limit small + 1) o;
    end if;

    if changes is null then
        return null;
    elsif cardinality(changes) <= small then
        perform private.log_changes(table_name => tg_table_name, changes => changes);
        perform private.broadcast_changes(table_name => tg_table_name, changes => changes);
        return null;
    end if;

    -- too much to hold at once, and to tell one by one: everybody concerned reads again
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
    loop
        changes := '{}';
        loop
            fetch source into change.old, change.new;
            exit when not found;
            changes := changes || change;
            exit when cardinality(changes) = small;
        end loop;
        exit when changes = '{}';

        perform private.log_changes(table_name => tg_table_name, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(table_name => tg_table_name, changes => changes) t
        );
    end loop;
    close source;
    perform private.broadcast_to(
        topics => topics,
        event => 'resync',
        payload => jsonb_build_object('tables', array[tg_table_name])
    );
    return null;
end
$$;

comment on function private.shown_change(jsonb, jsonb) is
    'A row before and after an update, as those see it who do not see what is deleted.';


create or replace function private.visible_row(table_name text, row_id uuid)
    returns jsonb
    language sql
    stable
    -- invoker: the caller's own row level security decides
    set search_path = ''
as $$
    select case table_name
        when 'contacts' then (
            select to_jsonb(r)
            from public.contacts r
            where r.id = row_id
              and r.deleted_at is null
        )
        when 'customers' then (select to_jsonb(r) from public.customers r where r.id = row_id)
        when 'conversations' then (select to_jsonb(r) from public.conversations r where r.id = row_id)
        when 'messages' then (select to_jsonb(r) from public.messages r where r.id = row_id)
    end
$$;

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
    from private.my_changes(
        since => since,
        until => until,
        after_xid => coalesce((given ->> 'xid')::xid8, '0'::xid8),
        after_seq => coalesce((given ->> 'seq')::bigint, 0),
        page_size => page_limit
    ) e
    cross join lateral private.visible_row(e.table_name, e.row_id) as r (record);

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
