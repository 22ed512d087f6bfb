/*
    The accounts that need the sync: with contacts to send, with a run that waits or was left, or at
    their scheduled time.
*/
create function backend.metakocka_connection(account text)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(metakocka_connection.account);
    found_connection jsonb;
begin
    select jsonb_build_object(
        'account_id', k.account_id,
        'company_id', k.company_id,
        'base_url', k.base_url,
        'conflict_rule', k.conflict_rule,
        'listing', k.listing,
        'documents_seen_until', k.documents_seen_until,
        'retries', k.retries
    )
    into found_connection
    from public.metakocka_connections k
    where k.account_id = owner_id
      and k.active;
    if found_connection is null then
        raise sqlstate 'PT404' using
            message = 'The account has no active connection to Metakocka.',
            detail = 'field: account',
            hint = 'An admin connects it by a row in metakocka_connections.';
    end if;
    return found_connection;
end
$$;

grant execute on function backend.metakocka_connection(text) to service_role;


create function backend.metakocka_connections_due(batch integer default 50)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        with reasons as (
            select
                k.account_id,
                array_remove(array[
                    case when o.since is not null then 'run' end,
                    case when w.since is not null then 'contacts' end,
                    case when n.at <= now() then 'schedule' end
                ], null) as reasons,
                least(o.since, w.since, case when n.at <= now() then n.at end) as waiting_since
            from public.metakocka_connections k
            cross join lateral (
                select min(r.created_at) as since
                from public.sync_runs r
                where r.account_id = k.account_id
                  and r.state in ('queued', 'running', 'stopped')
            ) o
            cross join lateral (
                select min(d.not_before) as since
                from private.metakocka_dirty d
                where d.account_id = k.account_id
                  -- nobody rings when the quiet moment ends, so the worker waits for its end
                  and d.not_before <= clock_timestamp() + 2 * private.quiet_moment()
                  and coalesce(d.lease_until <= clock_timestamp(), true)
            ) w
            cross join lateral (
                select coalesce(max(r.created_at) + k.sync_interval, k.created_at) as at
                from public.sync_runs r
                where r.account_id = k.account_id
                  and r.trigger = 'schedule'
            ) n
            where k.active
              and coalesce(k.paused_until <= clock_timestamp(), true)
              and not exists (
                  select
                  from private.sync_leases l
                  where l.account_id = k.account_id
                    and l.lease_until > clock_timestamp()
              )
        ),
        due as (
            select r.*
            from reasons r
            where r.reasons <> '{}'
            order by r.waiting_since, r.account_id
            limit least(greatest(batch, 1), 500)
        )
        select coalesce(
            jsonb_agg(
                jsonb_build_object('account_id', d.account_id, 'reasons', d.reasons)
                order by d.waiting_since, d.account_id),
            '[]')
        from due d
    );
end
$$;

grant execute on function backend.metakocka_connections_due(integer) to service_role;


create function backend.sync_at_work(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            'run_id', l.run_id,
            'lease_until', l.lease_until,
            -- the worker extends it until then
            'ends_by', greatest(l.ends_by, l.lease_until),
            'paused_until', case when k.paused_until > clock_timestamp() then k.paused_until end,
            'pause_reason', case when k.paused_until > clock_timestamp() then k.pause_reason end,
            'now', clock_timestamp(),
            'request_wait', extract(epoch from k.request_wait)
        )
        from public.metakocka_connections k
        left join private.sync_leases l
            on l.account_id = k.account_id
           and l.lease_until > clock_timestamp()
        where k.account_id = sync_at_work.account_id
          and k.active
    );
end
$$;

grant execute on function backend.sync_at_work(uuid) to service_role;


create function backend.next_lease_end()
    returns double precision
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select extract(epoch from min(l.lease_until) - clock_timestamp())::double precision
        from private.sync_leases l
        where l.lease_until > clock_timestamp()
    );
end
$$;

grant execute on function backend.next_lease_end() to service_role;


comment on function backend.sync_at_work(uuid) is
    'Why a connected account''s next run waits: {run_id, lease_until, ends_by, paused_until, pause_reason, now, request_wait}. The first three are null without a running run, the next two without a pause. request_wait is in seconds.';
comment on function backend.next_lease_end() is
    'The seconds until the first lease of a run ends, unless it is extended; null where no worker is running.';
comment on function backend.metakocka_connection(text) is
    'The connection of an account, by its id or external id: {account_id, company_id, base_url, conflict_rule, listing, documents_seen_until, retries}.';
comment on function backend.metakocka_connections_due(integer) is
    'The accounts that need the sync and have no worker, the longest waiting first: [{account_id, reasons}]. The reasons are run (to continue), contacts (to send) and schedule.';
