/*
    Every change of a followed row becomes an entry of the change log, statement by statement.

    Code that runs on every write is plpgsql, since a session keeps the plans of plpgsql functions
    but not of sql functions. It has few statements, since starting a statement is the main cost.
*/
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


create function private.customer_change(
    followed private.followed_tables,
    change private.row_change
)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the same condition as in the table's policy
    return (
        case when change.old ->> followed.seen_since is not null then change.old end,
        case when change.new ->> followed.seen_since is not null then change.new end
    )::private.row_change;
end
$$;


create function private.log_changes(
    followed private.followed_tables,
    operation text,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    if followed.seen_since is not null then
        return private.log_partly_hidden_changes(followed, changes);
    elsif operation = 'UPDATE' then
        return private.log_updates(followed, changes);
    end if;

    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        (c.row ->> 'account_id')::uuid,
        (c.row ->> followed.customer_key)::uuid,
        (c.row ->> followed.conversation_key)::uuid,
        followed.table_name,
        (c.row ->> 'id')::uuid,
        log_changes.operation::private.change_operation,
        (c.row ->> 'version')::bigint
    from (
        select coalesce(n.new, n.old)
        from unnest(changes) n
    ) c (row);

    get diagnostics logged = row_count;
    return logged;
end
$$;


create function private.log_updates(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version,
        customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> followed.customer_key)::uuid,
        (e.row ->> followed.conversation_key)::uuid,
        followed.table_name,
        (e.row ->> 'id')::uuid,
        e.operation::private.change_operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation::private.change_operation
    from unnest(changes) c
    cross join lateral (
        select c.old ->> followed.customer_key <> c.new ->> followed.customer_key as has_moved
    ) m
    cross join lateral (
        values
            -- moved to another owner: the old owner gets a DELETE, the new owner an INSERT
            (c.old, 'DELETE', null, m.has_moved),
            (
                coalesce(c.new, c.old),
                -- as row_operation, whose call for each row was 15 % of this function
                case
                    when c.new is null then 'DELETE'
                    when c.old is null then 'INSERT'
                    else 'UPDATE'
                end,
                case when m.has_moved then 'INSERT' end,
                true
            )
    ) as e (row, operation, customer_operation, happened)
    where e.happened;

    get diagnostics logged = row_count;
    return logged;
end
$$;


create function private.log_partly_hidden_changes(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    insert into private.changes (
        account_id, customer_id, table_name, row_id, operation, version, customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        -- the customer hears nothing of rows that the customer does not see
        case when e.is_seen then (e.row ->> followed.customer_key)::uuid end,
        followed.table_name,
        (e.row ->> 'id')::uuid,
        e.operation::private.change_operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation::private.change_operation
    from unnest(changes) c
    cross join lateral (
        select
            c.old ->> followed.customer_key <> c.new ->> followed.customer_key as has_moved,
            private.customer_change(followed, c) as seen
    ) m
    cross join lateral (
        values
            (c.old, 'DELETE', null, (m.seen).old is not null, m.has_moved and (m.seen).old is not null),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case
                    when m.has_moved then 'INSERT'
                    else nullif(private.row_operation(m.seen), private.row_operation(c))
                end,
                num_nonnulls((m.seen).old, (m.seen).new) > 0
                    and not (m.has_moved and (m.seen).new is null),
                true
            )
    ) as e (row, operation, customer_operation, is_seen, happened)
    where e.happened;

    get diagnostics logged = row_count;
    return logged;
end
$$;


comment on function private.row_operation(private.row_change) is
    'The operation of a change: INSERT, UPDATE or DELETE.';
comment on function private.customer_change(private.followed_tables, private.row_change) is
    'A change of a table with seen_since, as the row''s customer sees it: a row before, a row after, both or neither.';
comment on function private.log_partly_hidden_changes(private.followed_tables, private.row_change[]) is
    'Logs changes of a table whose customers see only some of its rows. Returns the number of entries.';
comment on function private.log_changes(private.followed_tables, text, private.row_change[]) is
    'Logs the changes of a statement. Returns the number of entries.';
comment on function private.log_updates(private.followed_tables, private.row_change[]) is
    'Logs updates. An owner who loses a row gets a DELETE, one who gains a row an INSERT. Returns the number of entries.';
