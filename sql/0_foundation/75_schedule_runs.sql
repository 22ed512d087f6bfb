/*
    The schedules of servers that run beside the project (`rapport serve`). A server stops and starts
    again, and there may be several: so it is kept here when the last run of each schedule began, and
    a due run is claimed by one of them. A server that dies during a run leaves it to the next one.
*/
create table private.schedule_runs (
    -- its name in serverless.yml
    function     text not null
                 constraint schedule_runs_function_check check (length(function) between 1 and 100),
    every        interval not null
                 constraint schedule_runs_every_check check (every > interval '0'),
    due_at       timestamptz not null default now(),
    -- of the last run, or of the one that is under way
    began_at     timestamptz,
    -- the end of the last run that ended well
    succeeded_at timestamptz,
    -- the run that is under way, and until when its server need not say that it lives
    run          uuid,
    run_until    timestamptz,

    constraint schedule_runs_pkey primary key (function, every),
    constraint schedule_runs_run_check
        check ((run is null) = (run_until is null) and (run is null or began_at is not null))
);
alter table private.schedule_runs enable row level security;


create policy "nobody reads the runs of schedules directly"
    on private.schedule_runs
    for all
    to authenticated
    using (false);


create function backend.claim_scheduled_runs(schedules jsonb, running uuid[] default '{}')
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    lease constant interval := '30 seconds';
    claimed jsonb;
    next_in double precision;
begin
    -- in the order of their keys, as servers that start at the same time have to
    insert into private.schedule_runs (function, every)
    select w.function, make_interval(secs => w.every)
    from jsonb_to_recordset(schedules) as w (function text, every integer)
    -- or it would wait for a server that is claiming them
    where not exists (
        select
        from private.schedule_runs r
        where r.function = w.function
          and r.every = make_interval(secs => w.every)
    )
    order by 1, 2
    on conflict on constraint schedule_runs_pkey do nothing;

    update private.schedule_runs r
    set run_until = now() + lease
    where r.run = any (running);

    with due as materialized (
        select r.function, r.every
        from private.schedule_runs r
        join jsonb_to_recordset(schedules) as w (function text, every integer)
          on r.function = w.function
         and r.every = make_interval(secs => w.every)
        -- the clock was ahead, or the database is a restored one
        where (r.due_at <= now() or r.due_at > now() + r.every)
          and (r.run is null or r.run_until <= now())
        order by r.function, r.every
        -- another server is claiming it
        for update of r skip locked
    ), begun as (
        update private.schedule_runs r
        set began_at = now(),
            run = gen_random_uuid(),
            run_until = now() + lease
        from due d
        where r.function = d.function
          and r.every = d.every
        returning r.function, r.every, r.run
    )
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'function', b.function,
                'every', extract(epoch from b.every)::integer,
                'run', b.run)
            order by b.function, b.every),
        '[]')
    into claimed
    from begun b;

    select extract(epoch from min(greatest(
        now(),
        case
            when r.run is null then r.due_at
            -- it ends well, or its server has died
            when r.began_at + r.every > now() then least(r.began_at + r.every, r.run_until)
            else r.run_until
        end)) - now())
    into next_in
    from private.schedule_runs r
    join jsonb_to_recordset(schedules) as w (function text, every integer)
      on r.function = w.function
     and r.every = make_interval(secs => w.every);

    return jsonb_build_object('claimed', claimed, 'next_in', next_in);
end
$$;

grant execute on function backend.claim_scheduled_runs(jsonb, uuid[]) to service_role;


create function backend.end_scheduled_run(run uuid, succeeded boolean)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.schedule_runs r
    set run = null,
        run_until = null,
        succeeded_at = case when succeeded then now() else r.succeeded_at end,
        due_at = case
            when succeeded then r.began_at + r.every
            else now() + least(r.every, interval '1 minute')
        end
    -- otherwise another run has taken its place
    where r.run = end_scheduled_run.run;
end
$$;

grant execute on function backend.end_scheduled_run(uuid, boolean) to service_role;


comment on table private.schedule_runs is
    'When the schedules of `rapport serve` ran last, and which of them run now. On AWS, EventBridge does this.';
comment on policy "nobody reads the runs of schedules directly" on private.schedule_runs is
    'Servers claim them by backend.claim_scheduled_runs.';
comment on function backend.claim_scheduled_runs(jsonb, uuid[]) is
    'Begins the runs that are due of the given schedules, [{function, every}] in seconds, each for one caller alone: {claimed: [{function, every, run}], next_in: seconds until the next one, or null}. A schedule that has never run is due. The caller names the runs that it makes at the moment: one that was not named for 30 seconds counts as dead.';
comment on function backend.end_scheduled_run(uuid, boolean) is
    'Ends a claimed run. After one that succeeded the next is due by the schedule, after another in a minute at the latest.';
