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


create function private.log_changes(table_name text, changes private.row_change[])
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


comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on function private.row_operation(private.row_change) is
    'What happened to a row: INSERT, UPDATE or DELETE.';
comment on function private.customer_key(text) is
    'The column of a followed table that names the customer who follows the row.';
comment on function private.conversation_key(text) is
    'The column of a followed table that names the conversation.';
comment on function private.log_changes(text, private.row_change[]) is
    'Appends a statement''s changes to the log.';
