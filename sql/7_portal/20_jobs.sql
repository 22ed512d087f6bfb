/*
    An appointment with a customer: what is done, where and when. What a customer books is a
    job, and its chat is a conversation.

        scheduled ──► rescheduled ──► in_progress ──► completed
                          (each of the first three may be cancelled)

    A job is never deleted by hand; it is cancelled, and the customer sees that it was. Notes
    for staff alone are the contact's, since all of a job is the customer's to read.
*/
create table public.jobs (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    customer_id  uuid not null,
    service_type text not null
                 constraint jobs_service_type_check
                 check (btrim(service_type) <> '' and length(service_type) <= 200),
    status       text not null default 'scheduled'
                 constraint jobs_status_check
                 check (
                     status in ('scheduled', 'rescheduled', 'in_progress', 'completed', 'cancelled')
                 ),
    -- what every client can read: with a fifth digit a year is no date in Python or JavaScript
    starts_at    timestamptz not null
                 constraint jobs_starts_at_check
                 check (starts_at between '0001-01-02' and '9999-12-30'),
    ends_at      timestamptz,
    address      text
                 constraint jobs_address_check check (length(address) <= 500),
    description  text
                 constraint jobs_description_check check (length(description) <= 4000),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    version      bigint not null default 1,

    -- what a foreign key of the same account and customer refers to
    constraint jobs_id_account_id_customer_id_key unique (id, account_id, customer_id),
    constraint jobs_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint jobs_ends_at_check check (ends_at > starts_at and ends_at <= '9999-12-30')
);
alter table public.jobs enable row level security;
-- clients compare the old row with the new one
alter table public.jobs replica identity full;


create index jobs_customer_idx on public.jobs (customer_id, account_id, starts_at);
create index jobs_account_idx on public.jobs (account_id, starts_at);


-- the conversation of a booking goes where the job goes
alter table public.conversations
    add constraint conversations_booking_fkey
    foreign key (booking_id, account_id, customer_id)
    references public.jobs (id, account_id, customer_id)
    on update cascade
    on delete cascade;


create policy "members and the customer can read a job"
    on public.jobs
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );

create policy "owners, admins and agents can make jobs"
    on public.jobs
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- whoever sees a job and may not change it is refused, instead of changing none
create policy "owners, admins and agents can change jobs"
    on public.jobs
    for update
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    )
    with check (account_id = any (array(select private.my_writable_account_ids())));


grant select on public.jobs to authenticated;


create function private.next_job_statuses(status text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case status
        when 'scheduled' then array['rescheduled', 'in_progress', 'completed', 'cancelled']
        when 'rescheduled' then array['in_progress', 'completed', 'cancelled']
        when 'in_progress' then array['completed', 'cancelled']
        else '{}'
    end;
end
$$;


create function private.tg_jobs__progress()
    returns trigger
    language plpgsql
    -- definer: its helpers are nobody's to call
    security definer
    set search_path = ''
as $$
declare
    allowed constant text[] := private.next_job_statuses(old.status);
    is_moved constant boolean :=
        (new.starts_at, new.ends_at) is distinct from (old.starts_at, old.ends_at);
begin
    if new.status <> old.status and new.status <> all (allowed) then
        raise sqlstate 'PT409' using
            message = format('A job that is %s does not become %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'It stays as it is; make another job.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif is_moved and old.status in ('completed', 'cancelled') then
        raise sqlstate 'PT409' using
            message = format('A job that is %s has its time.', old.status),
            detail = 'field: starts_at',
            hint = 'Make another job.';
    end if;

    -- whoever moves it need not say so twice
    if is_moved and old.status = 'scheduled' and new.status = 'scheduled' then
        new.status := 'rescheduled';
    end if;
    return new;
end
$$;


create trigger _010_own_by_customer
    before insert on public.jobs
    for each row
    execute function private.tg__own_by_customer();

create trigger _050_keep_owner
    before update on public.jobs
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update on public.jobs
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update on public.jobs
    for each row
    execute function private.tg_jobs__progress();

create trigger _100_stamp_change
    before update on public.jobs
    for each row
    execute function private.tg__stamp_change();


create trigger _200_require_rows_before_insert
    before insert on public.jobs
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_insert
    after insert on public.jobs
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_update
    after update on public.jobs
    referencing new table as hit_rows
    for each statement
    execute function private.tg__require_rows();


comment on table public.jobs is
    'Appointments, which are what customers book: insert and update them as any table; a job is cancelled, not deleted.';
comment on column public.jobs.customer_id is
    'The contact; one that was merged stands for the one it was merged into.';
comment on column public.jobs.account_id is
    'The customer''s; need not be given.';
comment on column public.jobs.service_type is
    'What is done, in the business'' own words.';
comment on column public.jobs.status is
    'scheduled, rescheduled, in_progress, completed or cancelled; forward only. Another time makes it rescheduled.';
comment on column public.jobs.description is
    'For the customer to read, as all of a job.';
comment on constraint jobs_service_type_check on public.jobs is
    'A service type has 1 to 200 characters.';
comment on constraint jobs_status_check on public.jobs is
    'This is not a status of jobs.
Known: scheduled, rescheduled, in_progress, completed, cancelled.';
comment on constraint jobs_starts_at_check on public.jobs is
    'A job starts between the years 1 and 9999.';
comment on constraint jobs_ends_at_check on public.jobs is
    'A job ends after it starts, and before the year 9999 ends.
Give a later ends_at, or none.';
comment on constraint jobs_address_check on public.jobs is
    'An address has at most 500 characters.';
comment on constraint jobs_description_check on public.jobs is
    'A description has at most 4,000 characters.';
comment on function private.next_job_statuses(text) is
    'What a job of this status may become.';
comment on function private.tg_jobs__progress() is
    'Refuses a status that does not follow from the one before: 409, with those that do.';
comment on policy "members and the customer can read a job" on public.jobs is
    'A customer sees its own jobs.';
comment on policy "owners, admins and agents can make jobs" on public.jobs is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change jobs" on public.jobs is
    'Viewers and customers look: what they write is refused.';


select private.guard_table(
    'jobs',
    inserted => array[
        'id', 'account_id', 'customer_id', 'service_type', 'starts_at', 'ends_at', 'address',
        'description'
    ],
    updated => array['service_type', 'status', 'starts_at', 'ends_at', 'address', 'description']
);

select private.follow_table(
    table_name => 'jobs',
    shown => array[
        'id', 'account_id', 'customer_id', 'service_type', 'status', 'starts_at', 'ends_at',
        'address', 'description', 'created_at', 'updated_at', 'version'
    ]
);
select private.limit_writes('jobs', '{insert,update}');
