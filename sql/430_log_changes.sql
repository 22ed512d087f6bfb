/*
    Every change of a followed row becomes an entry of the change log, statement by statement.

    What runs on every write is plpgsql, since a session keeps the plans of that and not of sql
    functions, and it is few statements, since starting one is what costs.
*/
create type private.row_change as (
    old jsonb,
    new jsonb
);


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


create function private.customer_key(table_name text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case table_name
        -- followed by staff alone; the customer follows public.customers
        when 'contacts' then ''
        when 'customers' then 'id'
        else 'customer_id'
    end;
end
$$;


create function private.conversation_key(table_name text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case table_name when 'conversations' then 'id' else 'conversation_id' end;
end
$$;


create function private.hides_rows(table_name text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return table_name = 'invoices';
end
$$;


create function private.customer_change(table_name text, change private.row_change)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- as the policy of the table has it
    return case table_name
        when 'invoices' then (
            case when change.old ->> 'sent_at' is not null then change.old end,
            case when change.new ->> 'sent_at' is not null then change.new end
        )::private.row_change
        else change
    end;
end
$$;


create function private.log_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
begin
    if private.hides_rows(table_name) then
        perform private.log_partly_hidden_changes(table_name, changes);
        return;
    end if;

    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version,
        customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> customer_key)::uuid,
        (e.row ->> conversation_key)::uuid,
        log_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation
    from unnest(changes) c
    cross join lateral (
        select c.old ->> customer_key <> c.new ->> customer_key as has_moved
    ) m
    cross join lateral (
        values
            -- gone to another owner: the old one is told as well, and to the new one it is new
            (c.old, 'DELETE', null, m.has_moved),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case when m.has_moved then 'INSERT' end,
                true
            )
    ) as e (row, operation, customer_operation, happened)
    where e.happened;
end
$$;


create function private.log_partly_hidden_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
begin
    insert into private.changes (
        account_id, customer_id, table_name, row_id, operation, version, customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        -- what the customer does not see does not happen to them
        case when e.is_seen then (e.row ->> customer_key)::uuid end,
        log_partly_hidden_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation
    from unnest(changes) c
    cross join lateral (
        select
            c.old ->> customer_key <> c.new ->> customer_key as has_moved,
            private.customer_change(table_name => log_partly_hidden_changes.table_name, change => c)
                as seen
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
end
$$;


comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on function private.row_operation(private.row_change) is
    'What happened to a row: INSERT, UPDATE or DELETE.';
comment on function private.customer_key(text) is
    'The column of a followed table that names the customer who follows the row.';
comment on function private.conversation_key(text) is
    'The column of a followed table that names the conversation.';
comment on function private.hides_rows(text) is
    'Whether a table has rows that are of a customer and not theirs to see.';
comment on function private.customer_change(text, private.row_change) is
    'A change as the row''s customer sees it: before, after, both or neither.';
comment on function private.log_partly_hidden_changes(text, private.row_change[]) is
    'Appends changes of a table whose customers see some of its rows.';
comment on function private.log_changes(text, private.row_change[]) is
    'Appends a statement''s changes to the log.';
