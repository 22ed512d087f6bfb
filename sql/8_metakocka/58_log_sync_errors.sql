/*
    The sync's own error log, and how long errors and old runs are kept.
*/
create function backend.log_sync_error(
    account_id uuid,
    operation text,
    code text,
    message text,
    run_id uuid default null,
    user_id uuid default null,
    contact_id uuid default null,
    metakocka_id text default null,
    details jsonb default '{}',
    attempts integer default 1
)
    returns uuid
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    logged uuid;
begin
    -- A log takes as much as it can. It leaves out references to other accounts.
    insert into public.sync_errors (
        account_id, run_id, operation, user_id, contact_id, metakocka_id, details, code, message,
        attempts
    )
    values (
        log_sync_error.account_id,
        (
            select r.id
            from public.sync_runs r
            where r.id = log_sync_error.run_id
              and r.account_id = log_sync_error.account_id
        ),
        left(log_sync_error.operation, 128),
        (select u.id from auth.users u where u.id = log_sync_error.user_id),
        (
            select c.id
            from public.contacts c
            where c.id = log_sync_error.contact_id
              and c.account_id = log_sync_error.account_id
        ),
        left(log_sync_error.metakocka_id, 64),
        case
            when octet_length(log_sync_error.details::text) <= 16384 then log_sync_error.details
            else '{"left_out": "They were too long."}'
        end,
        left(log_sync_error.code, 64),
        left(log_sync_error.message, 1000),
        greatest(log_sync_error.attempts, 1)
    )
    returning id
    into logged;
    return logged;
end
$$;

grant execute on function backend.log_sync_error(
    uuid, text, text, text, uuid, uuid, uuid, text, jsonb, integer
) to service_role;


create function private.prune_sync(batch integer, kept interval)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    deleted integer;
    pruned integer := 0;
begin
    with oldest as (
        select e.id
        from public.sync_errors e
        where e.created_at < now() - kept
        limit batch
        -- another run may hold them
        for update skip locked
    )
    delete from public.sync_errors e
    using oldest o
    where e.id = o.id;
    get diagnostics deleted = row_count;
    pruned := pruned + deleted;

    with oldest as (
        select s.id
        from public.sync_conflicts s
        where s.state = 'resolved'
          and s.resolved_at < now() - kept
        limit batch
        for update skip locked
    )
    delete from public.sync_conflicts s
    using oldest o
    where s.id = o.id;
    get diagnostics deleted = row_count;
    pruned := pruned + deleted;

    with oldest as (
        select i.id
        from private.partner_intents i
        where i.settled_at < now() - kept
        limit batch
        for update skip locked
    )
    delete from private.partner_intents i
    using oldest o
    where i.id = o.id;
    get diagnostics deleted = row_count;
    pruned := pruned + deleted;

    -- a delete of no row would still run the table's triggers
    if exists (
        select
        from public.sync_runs r
        where r.finished_at < now() - kept
    ) then
        with oldest as (
            select r.id
            from public.sync_runs r
            where r.finished_at < now() - kept
            limit batch
            for update skip locked
        )
        delete from public.sync_runs r
        using oldest o
        where r.id = o.id;
        get diagnostics deleted = row_count;
        pruned := pruned + deleted;
    end if;
    return pruned;
end
$$;


comment on function backend.log_sync_error(
    uuid, text, text, text, uuid, uuid, uuid, text, jsonb, integer
) is
    'Writes an error of the sync with its context. Returns its id. Texts that are too long are cut, and references to other accounts are left out.';
comment on function private.prune_sync(integer, interval) is
    'Deletes errors, decided conflicts, settled intents and ended runs that are older than the kept time, up to batch of each. Returns the total number.';
