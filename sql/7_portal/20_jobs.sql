/*
    An appointment with a customer: the service, the place and the time. A customer's booking is a
    job, and its chat is a conversation.

        scheduled ──► rescheduled ──► in_progress ──► completed
                          (each of the first three may be cancelled)

    A job is never deleted by hand. It is cancelled, and the customer sees that. The customer may
    read all of a job, so notes for staff belong to the contact.
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
    -- The years that every client can read: a date with a five-digit year is none in Python or
    -- JavaScript.
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

    -- for foreign keys that include the account and the customer
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
create index jobs_account_idx on public.jobs (account_id, starts_at, id);


-- a booking's conversation goes where the job goes
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

-- A reader who may not change a job is refused, instead of changing no row.
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
    -- definer: users may not call its helpers
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
            message = format('A job can''t go from %s to %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'This status is final. Make another job.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif is_moved and old.status in ('completed', 'cancelled') then
        raise sqlstate 'PT409' using
            message = format('A job that is %s can''t get another time.', old.status),
            detail = 'field: starts_at',
            hint = 'Make another job.';
    end if;

    -- a new time makes the job rescheduled, without a second word from the writer
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
    before update of account_id on public.jobs
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update of customer_id on public.jobs
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update of status, starts_at, ends_at on public.jobs
    for each row
    execute function private.tg_jobs__progress();

create trigger _100_stamp_change
    before update on public.jobs
    for each row
    execute function private.tg__stamp_change();


comment on table public.jobs is
    'Appointments, which customers book. Insert and update them as in any table. A job is cancelled, never deleted.';
comment on column public.jobs.id is
    'Identifies the job; conversations and messages name it as booking_id. A client may choose it.';
comment on column public.jobs.account_id is
    'The customer''s account; filled in if not given.';
comment on column public.jobs.customer_id is
    'The customer: a contact''s id. A merged contact stands for the one it was merged into.';
comment on column public.jobs.service_type is
    'The service, in the business'' own words; 1 to 200 characters.';
comment on column public.jobs.status is
    'scheduled, rescheduled, in_progress, completed or cancelled; it only moves forward. Another time makes it rescheduled.';
comment on column public.jobs.starts_at is
    'When it starts (UTC).';
comment on column public.jobs.ends_at is
    'When it ends (UTC); null where that is open.';
comment on column public.jobs.address is
    'Where it takes place; at most 500 characters.';
comment on column public.jobs.description is
    'What the customer should know; at most 4,000 characters. The customer reads all of a job.';
comment on column public.jobs.created_at is
    'When the job was made (server time, UTC).';
comment on column public.jobs.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.jobs.version is
    'Rises by 1 with each change of the row.';
comment on constraint jobs_service_type_check on public.jobs is
    'A service_type must have 1 to 200 characters.';
comment on constraint jobs_status_check on public.jobs is
    'There is no such status of a job.
Use scheduled, rescheduled, in_progress, completed or cancelled.';
comment on constraint jobs_starts_at_check on public.jobs is
    'A job must start between the years 1 and 9999.';
comment on constraint jobs_ends_at_check on public.jobs is
    'A job must end after it starts, and before the year 9999 ends.
Give a later ends_at, or none.';
comment on constraint jobs_address_check on public.jobs is
    'An address can have at most 500 characters.';
comment on constraint jobs_description_check on public.jobs is
    'A description can have at most 4,000 characters.';
comment on function private.next_job_statuses(text) is
    'The statuses that may follow this status of a job.';
comment on function private.tg_jobs__progress() is
    'Refuses a status that can''t follow the present one (409), and names the ones that can.';
comment on policy "members and the customer can read a job" on public.jobs is
    'A customer sees its own jobs.';
comment on policy "owners, admins and agents can make jobs" on public.jobs is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change jobs" on public.jobs is
    'Viewers and customers only read: their writes are refused.';


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
