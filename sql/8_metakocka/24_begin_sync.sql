/*
    The worker's side of runs. Only the holder of an account's lease may call Metakocka for it. If a
    lease is not extended in time, the next worker takes it and continues where the last report
    stood.
*/
create function private.sync_lease()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- a worker extends it every few seconds, even during a long call
    select interval '30 seconds'
$$;


create function private.next_sync_run(
    account_id uuid,
    direction text,
    trigger text,
    user_id uuid,
    request jsonb
)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    next_id uuid;
begin
    if request is not null then
        -- somebody waits for the answer: runs that were left or queued come later
        if exists (
            select
            from public.sync_runs r
            where r.account_id = next_sync_run.account_id
              and r.state = 'running'
        ) then
            update public.sync_runs r
            set state = 'stopped'
            where r.account_id = next_sync_run.account_id
              and r.state = 'running';
        end if;
        insert into public.sync_runs (
            account_id, direction, trigger, state, user_id, started_at, request
        )
        values (
            next_sync_run.account_id,
            next_sync_run.direction,
            next_sync_run.trigger,
            'running',
            next_sync_run.user_id,
            clock_timestamp(),
            next_sync_run.request
        )
        returning id
        into next_id;
        return next_id;
    end if;

    -- first a run that another worker left, then the queued ones
    select r.id
    into next_id
    from public.sync_runs r
    where r.account_id = next_sync_run.account_id
      and r.state in ('queued', 'running', 'stopped')
    order by r.state <> 'running', r.created_at, r.id
    limit 1
    for update;
    if found then
        update public.sync_runs r
        set state = 'running',
            started_at = coalesce(r.started_at, clock_timestamp()),
            resumes_at = null
        where r.id = next_id
          and r.state <> 'running';
        return next_id;
    end if;

    -- another worker has sent these contacts meanwhile
    if trigger = 'wake' and not exists (
        select
        from private.metakocka_dirty d
        where d.account_id = next_sync_run.account_id
    ) then
        return null;
    end if;
    insert into public.sync_runs (account_id, direction, trigger, state, user_id, started_at)
    values (
        next_sync_run.account_id,
        next_sync_run.direction,
        next_sync_run.trigger,
        'running',
        next_sync_run.user_id,
        clock_timestamp()
    )
    returning id
    into next_id;
    return next_id;
end
$$;


create function backend.begin_sync(
    account_id uuid,
    direction text,
    trigger text,
    worker text,
    user_id uuid default null,
    request jsonb default null,
    time_left double precision default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    connection public.metakocka_connections;
    lease private.sync_leases;
    begun uuid;
begin
    -- all workers that begin for one account wait here
    select k.*
    into connection
    from public.metakocka_connections k
    where k.account_id = begin_sync.account_id
      and k.active
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This account has no active connection to Metakocka.',
            detail = 'field: account_id';
    end if;

    if connection.paused_until > clock_timestamp() then
        return null;
    end if;
    select l.*
    into lease
    from private.sync_leases l
    where l.account_id = begin_sync.account_id;
    if lease.lease_until <= clock_timestamp() then
        -- its worker may be writing at this moment; after that it writes nothing more
        select l.*
        into lease
        from private.sync_leases l
        where l.account_id = begin_sync.account_id
        for update;
    end if;
    if lease.lease_until > clock_timestamp() then
        if lease.worker <> begin_sync.worker then
            return null;
        end if;
        -- asked again, because the answer was lost
        begun := lease.run_id;
    else
        begun := private.next_sync_run(
            account_id => begin_sync.account_id,
            direction => begin_sync.direction,
            trigger => begin_sync.trigger,
            user_id => begin_sync.user_id,
            request => begin_sync.request
        );
        if begun is null then
            return null;
        end if;
        if begin_sync.request ? 'contact_ids' then
            perform private.mark_requested(
                account_id => begin_sync.account_id,
                contact_ids => array(
                    select c.id
                    from jsonb_array_elements_text(begin_sync.request -> 'contact_ids') i
                    join public.contacts c
                        on c.id = i::uuid
                    where c.account_id = begin_sync.account_id
                      and c.deleted_at is null
                    order by c.id
                )
            );
        end if;
        -- Takes over the marks that the last worker held. After the mappings, and without waiting:
        -- an edit of several contacts takes their marks in another order.
        update private.metakocka_dirty d
        set lease_until = null,
            worker = null
        where d.contact_id = any (array(
            select o.contact_id
            from private.metakocka_dirty o
            where o.account_id = begin_sync.account_id
              and o.worker is not null
            for update skip locked
        ));
    end if;

    insert into private.sync_leases as l (account_id, run_id, worker, lease_until, ends_by)
    values (
        begin_sync.account_id, begun, begin_sync.worker,
        clock_timestamp() + private.sync_lease(),
        clock_timestamp() + make_interval(secs => begin_sync.time_left)
    )
    on conflict on constraint sync_leases_pkey do update
        set run_id = excluded.run_id,
            worker = excluded.worker,
            lease_until = excluded.lease_until,
            ends_by = excluded.ends_by;

    return (
        select jsonb_build_object(
            'run_id', r.id,
            'direction', r.direction,
            'trigger', r.trigger,
            'request', r.request,
            'cursor', r.cursor,
            'total', r.total,
            'done', r.done,
            'succeeded', r.succeeded,
            'failed', r.failed,
            'unchanged', r.unchanged,
            'waiting', r.waiting,
            'errors', r.errors,
            'user_id', coalesce(r.user_id, connection.user_id),
            'company_id', connection.company_id,
            'base_url', connection.base_url,
            'conflict_rule', connection.conflict_rule,
            'listing', connection.listing,
            'documents_seen_until', connection.documents_seen_until,
            'retries', connection.retries,
            'now', clock_timestamp(),
            'lease', extract(epoch from private.sync_lease())
        )
        from public.sync_runs r
        where r.id = begun
    );
end
$$;

grant execute on function backend.begin_sync(
    uuid, text, text, text, uuid, jsonb, double precision
) to service_role;


comment on function private.sync_lease() is
    'How long a run stays with a worker that does not report.';
comment on function private.next_sync_run(uuid, text, text, uuid, jsonb) is
    'The run to continue, or a new one; null where a wake finds nothing to send. A request always makes a new run.';
comment on function backend.begin_sync(
    uuid, text, text, text, uuid, jsonb, double precision
) is
    'Leases an account to a worker: the waiting or left run with its cursor and counts, or a new one. Null where another worker is running, the account is paused or a wake finds nothing to send; sync_at_work says which. time_left is the worker''s time in seconds. A request, {contact_ids} or {metakocka_ids}, gets a run of its own. Repeating it under the same name returns the same run.';
