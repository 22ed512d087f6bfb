/*
    A run of the sync. Dashboards show its progress, and the next run continues it if it ends early.
    An account has one run at a time; the lease names its worker.
*/
create table public.sync_runs (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint sync_runs_account_id_fkey
                references public.accounts on delete cascade,
    -- the user who asked for it; null for runs of the schedule and of changed contacts
    user_id     uuid
                constraint sync_runs_user_id_fkey
                references auth.users on delete set null,
    direction   text not null
                constraint sync_runs_direction_check
                check (direction in ('to_metakocka', 'from_metakocka', 'both')),
    trigger     text not null
                constraint sync_runs_trigger_check
                check (trigger in ('schedule', 'wake', 'user', 'cli')),
    -- the request: {contact_ids} or {metakocka_ids}; {} for everything
    request     jsonb not null default '{}'
                constraint sync_runs_request_check
                check (jsonb_typeof(request) = 'object' and octet_length(request::text) <= 131072),
    state       text not null default 'queued'
                constraint sync_runs_state_check
                check (state in ('queued', 'running', 'stopped', 'done', 'failed')),
    -- null while it is not known
    total       integer
                constraint sync_runs_total_check check (total >= 0),
    done        integer not null default 0
                constraint sync_runs_done_check check (done >= 0),
    succeeded   integer not null default 0
                constraint sync_runs_succeeded_check check (succeeded >= 0),
    failed      integer not null default 0
                constraint sync_runs_failed_check check (failed >= 0),
    unchanged   integer not null default 0
                constraint sync_runs_unchanged_check check (unchanged >= 0),
    -- the number of errors of each kind
    errors      jsonb not null default '{}'
                constraint sync_runs_errors_check
                check (jsonb_typeof(errors) = 'object' and octet_length(errors::text) <= 8192),
    -- where the next run continues
    cursor      jsonb
                constraint sync_runs_cursor_check check (octet_length(cursor::text) <= 65536),
    -- rows were written without an event for each: clients read again at the end
    quiet       boolean not null default false,
    waiting     integer not null default 0
                constraint sync_runs_waiting_check check (waiting >= 0),
    started_at  timestamptz,
    finished_at timestamptz,
    duration_ms bigint
                constraint sync_runs_duration_ms_check check (duration_ms >= 0),
    -- when the run continues, because Metakocka takes no calls before
    resumes_at  timestamptz,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     bigint not null default 1,

    -- for foreign keys that include the account
    constraint sync_runs_id_account_id_key unique (id, account_id),
    constraint sync_runs_state_times_check check (
        (state = 'queued' or started_at is not null)
        and (state in ('done', 'failed')) = (finished_at is not null)
    )
);
alter table public.sync_runs enable row level security;


create unique index sync_runs_running_key
    on public.sync_runs (account_id)
    where state = 'running';

-- the same request twice before it begins is one request
create unique index sync_runs_queued_key
    on public.sync_runs (account_id, direction, md5(request::text))
    where state = 'queued';

create index sync_runs_open_idx
    on public.sync_runs (account_id, created_at)
    where state in ('queued', 'running', 'stopped');

create index sync_runs_latest_idx on public.sync_runs (account_id, created_at desc, id);


create policy "members can read the sync runs of their accounts"
    on public.sync_runs
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.sync_runs to authenticated;


create trigger _050_keep_owner
    before update of account_id on public.sync_runs
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.sync_runs
    for each row
    execute function private.tg__stamp_change();


/*
    The worker of each account. Another worker can take a lease that was not extended in time.
*/
create table private.sync_leases (
    account_id  uuid primary key
                constraint sync_leases_account_id_fkey
                references public.accounts on delete cascade,
    run_id      uuid not null,
    worker      text not null
                constraint sync_leases_worker_check check (length(worker) between 1 and 128),
    lease_until timestamptz not null,
    -- when the worker's own time ends; null for a worker without a limit
    ends_by     timestamptz,

    constraint sync_leases_run_fkey
        foreign key (run_id, account_id)
        references public.sync_runs (id, account_id)
        on delete cascade
);
alter table private.sync_leases enable row level security;


create index sync_leases_run_idx on private.sync_leases (run_id, account_id);


create policy "nobody reads sync leases directly"
    on private.sync_leases
    for all
    to authenticated
    using (false);


comment on table public.sync_runs is
    'Runs of the sync with Metakocka, with their progress.';
comment on column public.sync_runs.id is
    'Identifies the run.';
comment on column public.sync_runs.account_id is
    'The account that is synchronized.';
comment on column public.sync_runs.user_id is
    'The user who asked for it; null for runs of the schedule and of changed contacts.';
comment on column public.sync_runs.direction is
    'to_metakocka, from_metakocka or both.';
comment on column public.sync_runs.trigger is
    'The cause of the run: the schedule, a changed contact (wake), a user, or the command line.';
comment on column public.sync_runs.request is
    'The request of the user: some contacts, some partners, or everything if it names neither.'
    ' Type: {contact_ids?: uuid[], metakocka_ids?: text[]}';
comment on column public.sync_runs.state is
    'queued: waits to begin; running; stopped: its time was over, or Metakocka takes no calls until resumes_at, and the next run continues it; done; failed.';
comment on column public.sync_runs.total is
    'The number of contacts or partners to check; null while it is not known.';
comment on column public.sync_runs.done is
    'The number that has been checked: succeeded, failed, unchanged and waiting together.';
comment on column public.sync_runs.succeeded is
    'The number that were made or changed on either side.';
comment on column public.sync_runs.failed is
    'The number that failed; sync_errors says why.';
comment on column public.sync_runs.unchanged is
    'The number without a difference.';
comment on column public.sync_runs.errors is
    'The number of errors of each kind.'
    ' Type: {[text]: bigint}';
comment on column public.sync_runs.cursor is
    'Where the next run continues; for the sync only.';
comment on column public.sync_runs.quiet is
    'Whether contacts are written without an event for each. One resync at the end tells clients to read again.';
comment on column public.sync_runs.waiting is
    'The number that wait: for a person (sync_conflicts), or for another try.';
comment on column public.sync_runs.started_at is
    'When the run first began (server time, UTC); null while it is queued.';
comment on column public.sync_runs.finished_at is
    'When the run ended (server time, UTC); null until then.';
comment on column public.sync_runs.duration_ms is
    'The time from begin to end, in milliseconds; null until it ends.';
comment on column public.sync_runs.resumes_at is
    'When the run continues (UTC), because Metakocka takes no calls before; null otherwise.';
comment on column public.sync_runs.created_at is
    'When the run was queued or began (server time, UTC).';
comment on column public.sync_runs.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.sync_runs.version is
    'Rises by 1 with each change of the row.';
comment on policy "members can read the sync runs of their accounts" on public.sync_runs is
    'For everybody who may read the contacts.';
comment on table private.sync_leases is
    'The worker of each account, with its run and the end of its lease.';
comment on policy "nobody reads sync leases directly" on private.sync_leases is
    'sync_runs shows the runs.';


select private.follow_table(
    table_name => 'sync_runs',
    shown => array[
        'id', 'account_id', 'direction', 'trigger', 'state', 'total', 'done', 'succeeded',
        'failed', 'unchanged', 'errors', 'user_id', 'started_at', 'finished_at', 'duration_ms',
        'resumes_at', 'created_at', 'updated_at', 'version'
    ],
    hidden => array['request', 'cursor', 'quiet', 'waiting'],
    customer_key => null
);
