/*
    How a run continues and ends. Counts are totals, not steps, so a repeated report counts nothing
    twice.
*/
create function private.require_lease(run_id uuid, worker text)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select l.account_id
    into account
    from private.sync_leases l
    where l.run_id = require_lease.run_id
      and l.worker = require_lease.worker
    for update;
    if not found then
        raise sqlstate 'RP004' using
            message = 'Another worker has taken over this run.',
            detail = format('run: %s', require_lease.run_id),
            hint = 'Stop. The other worker continues the run.';
    end if;
    return account;
end
$$;


create function private.require_worker(account_id uuid, worker text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if require_worker.worker is null then
        -- a caller without a worker's name may write only while no worker is running
        perform
        from private.sync_leases l
        where l.account_id = require_worker.account_id
          and l.lease_until > clock_timestamp();
        if not found then
            return;
        end if;
    else
        -- held to the end of the transaction: a worker that takes the lease over waits for it
        perform
        from private.sync_leases l
        where l.account_id = require_worker.account_id
          and l.worker = require_worker.worker
        for share;
        if found then
            return;
        end if;
    end if;
    raise sqlstate 'RP004' using
        message = 'Another worker is running for this account.',
        detail = format('account: %s', require_worker.account_id),
        hint = 'Stop. The other worker does the rest.';
end
$$;


create function backend.keep_sync(run_id uuid, worker text)
    returns timestamptz
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    leased_until constant timestamptz := clock_timestamp() + private.sync_lease();
begin
    update private.sync_leases l
    set lease_until = leased_until
    where l.run_id = keep_sync.run_id
      and l.worker = keep_sync.worker;
    if not found then
        perform private.require_lease(run_id => keep_sync.run_id, worker => keep_sync.worker);
    end if;
    return leased_until;
end
$$;

grant execute on function backend.keep_sync(uuid, text) to service_role;


create function backend.advance_sync(
    run_id uuid,
    worker text,
    cursor jsonb,
    total integer,
    done integer,
    succeeded integer,
    failed integer,
    unchanged integer,
    errors jsonb default '{}',
    waiting integer default 0
)
    returns timestamptz
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    leased_until constant timestamptz := clock_timestamp() + private.sync_lease();
    account constant uuid := private.require_lease(
        run_id => advance_sync.run_id, worker => advance_sync.worker);
begin
    update private.sync_leases l
    set lease_until = leased_until
    where l.run_id = advance_sync.run_id;
    update public.sync_runs r
    set cursor = advance_sync.cursor,
        total = advance_sync.total,
        done = advance_sync.done,
        succeeded = advance_sync.succeeded,
        failed = advance_sync.failed,
        unchanged = advance_sync.unchanged,
        waiting = advance_sync.waiting,
        errors = advance_sync.errors
    where r.id = advance_sync.run_id;

    if not exists (
        select
        from public.metakocka_connections k
        where k.account_id = account
          and k.active
    ) then
        -- its worker is refused from now on, and a new connection continues the run
        perform backend.finish_sync(
            run_id => advance_sync.run_id, worker => advance_sync.worker, state => 'stopped');
    end if;
    return leased_until;
end
$$;

grant execute on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) to service_role;


create function backend.finish_sync(
    run_id uuid,
    worker text,
    state text,
    documents_seen_until timestamptz default null
)
    returns text
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    finished public.sync_runs;
begin
    if state is null or state not in ('stopped', 'done', 'failed') then
        raise sqlstate 'PT422' using
            message = 'A run can only end as stopped, done or failed.',
            detail = 'field: state';
    end if;
    select r.*
    into finished
    from public.sync_runs r
    where r.id = finish_sync.run_id;
    if finished.state in ('done', 'failed') then
        -- told again, because the answer was lost
        return finished.state;
    end if;
    -- before the lease, in the order of begin_sync
    perform
    from public.metakocka_connections k
    where k.account_id = finished.account_id
    for no key update;
    account := private.require_lease(
        run_id => finish_sync.run_id, worker => finish_sync.worker);

    update public.sync_runs r
    set state = finish_sync.state,
        finished_at = case when finish_sync.state <> 'stopped' then clock_timestamp() end,
        duration_ms = case
            when finish_sync.state <> 'stopped'
                then extract(epoch from clock_timestamp() - r.started_at) * 1000
        end,
        quiet = false
    where r.id = finish_sync.run_id;
    delete from private.sync_leases l
    where l.account_id = account;

    -- Metakocka takes calls, so the next pause is a first one
    if finish_sync.state = 'done' then
        update public.metakocka_connections k
        set paused_until = null,
            pause_reason = null,
            pauses = 0
        where k.account_id = account
          and k.pauses > 0;
    end if;

    -- documents count as read up to here only if all of them have been checked
    if finish_sync.state = 'done' and finish_sync.documents_seen_until is not null then
        update public.metakocka_connections k
        set documents_seen_until = finish_sync.documents_seen_until
        where k.account_id = account
          and k.documents_seen_until is distinct from finish_sync.documents_seen_until;
    end if;

    if finished.quiet then
        perform private.broadcast_to(
            topics => array[private.account_topic(account)],
            event => 'resync',
            payload => jsonb_build_object('tables', array['contacts', 'customers'])
        );
    end if;
    return finish_sync.state;
end
$$;

grant execute on function backend.finish_sync(uuid, text, text, timestamptz) to service_role;


create function backend.pause_sync(
    run_id uuid,
    worker text,
    state text,
    reason text,
    retry_after double precision default null
)
    returns timestamptz
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    connection public.metakocka_connections;
    policy jsonb;
    longest double precision;
    wait double precision;
    until timestamptz;
begin
    select k.*
    into connection
    from public.metakocka_connections k
    join public.sync_runs r
        on r.account_id = k.account_id
    where r.id = pause_sync.run_id
    for no key update of k;
    perform backend.finish_sync(
        run_id => pause_sync.run_id, worker => pause_sync.worker, state => pause_sync.state);
    if connection.account_id is null then
        return clock_timestamp();
    end if;

    policy := connection.retries -> 'pause';
    longest := (policy ->> 'longest_wait')::double precision;
    wait := least(
        (policy ->> 'first_wait')::double precision * 2 ^ least(connection.pauses, 30), longest);
    wait := wait * (1 - (policy ->> 'jitter')::double precision * random());
    -- Metakocka's own figure counts, up to one day
    wait := greatest(wait, least(coalesce(pause_sync.retry_after, 0), 86400), 1);
    until := clock_timestamp() + make_interval(secs => wait);
    update public.metakocka_connections k
    set paused_until = until,
        pause_reason = left(pause_sync.reason, 500),
        pauses = k.pauses + 1
    where k.account_id = connection.account_id;
    update public.sync_runs r
    set resumes_at = until
    where r.id = pause_sync.run_id
      and r.state = 'stopped';
    return until;
end
$$;

grant execute on function backend.pause_sync(uuid, text, text, text, double precision)
    to service_role;


comment on function private.require_worker(uuid, text) is
    'Requires the account''s lease and keeps it until the transaction ends. Raises RP004 for a worker that has lost it.';
comment on function backend.keep_sync(uuid, text) is
    'Extends a run''s lease, and returns its new end. Raises RP003 once another worker has taken it over.';
comment on function backend.pause_sync(uuid, text, text, text, double precision) is
    'Ends a run (stopped or failed) because Metakocka takes no calls for its company, and pauses the account. Returns the end of the pause. retry_after is Metakocka''s own figure in seconds. Without it each pause in a row is twice as long, within the connection''s retries.';
comment on function private.require_lease(uuid, text) is
    'The account of a run, locked for the run''s worker. Refuses other workers.';
comment on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) is
    'Notes the progress of a run, in totals, and extends its lease. Returns the lease''s new end. Raises RP003 once another worker has taken it over, or once the account is not connected any more.';
comment on function backend.finish_sync(uuid, text, text, timestamptz) is
    'Ends a run as done or failed, or leaves it to the next run (stopped), and frees its account. If the run was quiet, clients are told to read contacts again.';
