-- Made from sql/7_portal/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    An invitation of a contact to the portal. The login that claims it becomes the contact's login.
    The token that proves it is in private.portal_invitation_tokens, and only as a hash.
*/
create table public.portal_invitations (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null,
    contact_id uuid not null,
    created_by uuid,
    claimed_by uuid,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    claimed_at timestamptz,
    revoked_at timestamptz,

    constraint portal_invitations_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint portal_invitations_expires_at_check check (expires_at > created_at),
    -- An invitation ends in one way only.
    constraint portal_invitations_end_check check (claimed_at is null or revoked_at is null),
    -- Deleting a login keeps the time of its claim.
    constraint portal_invitations_claimed_by_check
        check (claimed_by is null or claimed_at is not null)
);
alter table public.portal_invitations enable row level security;


-- A contact has one open invitation, even if two people invite at the same moment.
create unique index portal_invitations_open_key
    on public.portal_invitations (contact_id)
    where claimed_at is null and revoked_at is null;

create index portal_invitations_contact_idx
    on public.portal_invitations (contact_id, account_id);

create index portal_invitations_account_id_idx
    on public.portal_invitations (account_id, created_at desc);

create index portal_invitations_created_by_idx on public.portal_invitations (created_by);
create index portal_invitations_claimed_by_idx on public.portal_invitations (claimed_by);


grant select on public.portal_invitations to authenticated;


comment on table public.portal_invitations is
    'Invitations of contacts to the portal. One is open until claimed_at, revoked_at or expires_at. invite_to_portal makes them.';
comment on column public.portal_invitations.id is
    'Identifies the invitation; revoke_invitation takes it.';
comment on column public.portal_invitations.account_id is
    'The account of the contact.';
comment on column public.portal_invitations.contact_id is
    'The invited contact. If it has been merged since, the kept contact gets the login.';
comment on column public.portal_invitations.created_by is
    'The member who invited; null once that login is deleted.';
comment on column public.portal_invitations.claimed_by is
    'The login that claimed it; null until then, and once that login is deleted.';
comment on column public.portal_invitations.created_at is
    'When it was made (server time, UTC).';
comment on column public.portal_invitations.expires_at is
    'Until when it can be claimed (UTC).';
comment on column public.portal_invitations.claimed_at is
    'When it was claimed (UTC); null until then.';
comment on column public.portal_invitations.revoked_at is
    'When it was revoked (UTC); null until then. A later invitation of the contact revokes it too.';


/*
    The hashed token of an invitation's link. A token has 256 random bits, so nobody can guess it
    from a plain hash. Looking a token up by its hash compares no secret byte by byte.
*/
create table private.portal_invitation_tokens (
    invitation_id uuid primary key
                  constraint portal_invitation_tokens_invitation_id_fkey
                  references public.portal_invitations on delete cascade,
    token_hash    bytea not null
                  constraint portal_invitation_tokens_token_hash_key unique
                  constraint portal_invitation_tokens_token_hash_check
                  check (octet_length(token_hash) = 32)
);
alter table private.portal_invitation_tokens enable row level security;


create function private.token_hash(token text)
    returns bytea
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return sha256(convert_to(token, 'UTF8'));
end
$$;


comment on table private.portal_invitation_tokens is
    'The SHA-256 of each invitation''s token. The token itself is stored nowhere.';
comment on function private.token_hash(text) is
    'The stored form of a token: its SHA-256.';


/*
    The common part of jobs, invoices and points: each row belongs to one customer. A writer may
    name a contact that has been merged since; the row then belongs to the kept contact. A row stays
    with its customer, except in a merge or the undoing of one.

    Locks: contacts, jobs, invoices, balances, conversations, messages, each by id.
*/
create function private.hold_contact(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    kept uuid;
begin
    for attempt in 1 .. 4 loop
        kept := private.contact_of_id(
            account_id => hold_contact.account_id, contact_id => hold_contact.contact_id);
        begin
            -- A shared lock: many rows may be written for one customer, but none while it is
            -- merged.
            perform
            from public.contacts c
            where c.id = kept
              and c.account_id = hold_contact.account_id
              and c.deleted_at is null
            for share;
            if found then
                return kept;
            end if;
            raise sqlstate 'RP003';
        exception
            -- Merged while this waited. The lock goes with the block, so the next contact's lock
            -- may be taken.
            when sqlstate 'RP003' then
                null;
        end;
    end loop;
    raise sqlstate 'PT503' using
        message = 'Others are changing this contact.',
        hint = 'Try again.';
end
$$;


create function private.hold_contact_at_once(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
    -- the shortest limit that Postgres takes
    set lock_timeout = '1ms'
as $$
begin
    return private.hold_contact(account_id => account_id, contact_id => contact_id);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Somebody else is changing one of these customers.',
            detail = 'field: customer_id',
            hint = 'Try again. Write rows of several customers in the order of the customers'' ids.';
end
$$;


create function private.tg__own_by_customer()
    returns trigger
    language plpgsql
    -- definer: locks contacts for every writer; the function itself checks the caller
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    -- Without a signed-in user the database itself writes.
    is_user constant boolean := auth.uid() is not null;
    furthest constant uuid := private.setting('rapport.held_customer');
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = new.customer_id;
    if not found
        or (is_user and account not in (select private.my_account_ids()))
        or new.account_id <> account
    then
        raise sqlstate 'PT404' using
            message = 'There is no such customer, or it is not yours to see.',
            detail = 'field: customer_id';
    end if;
    if is_user and account not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this customer''s records but not write them.',
            hint = 'Owners, admins and agents may.';
    end if;

    new.account_id := account;
    -- Contacts are locked in the order of their ids, but rows come in any order. A transaction that
    -- holds a later contact does not wait for an earlier one: the holder of that one may be waiting
    -- for the later contact.
    if new.customer_id < furthest then
        new.customer_id := private.hold_contact_at_once(
            account_id => account, contact_id => new.customer_id);
        return new;
    end if;
    new.customer_id := private.hold_contact(account_id => account, contact_id => new.customer_id);
    if furthest is null or new.customer_id > furthest then
        perform set_config('rapport.held_customer', new.customer_id::text, true);
    end if;
    return new;
end
$$;


create function private.tg__follow_merge()
    returns trigger
    language plpgsql
    -- definer: reads the journal and contacts for every writer
    security definer
    set search_path = ''
as $$
begin
    if not exists (
        select
        from public.contacts c
        where c.id = old.customer_id
          and c.merged_into = new.customer_id
    ) and not exists (
        select
        from public.contact_merges m
        where m.kept_contact_id = old.customer_id
          and m.dropped_contact_id = new.customer_id
          and m.undone_at is null
    ) then
        raise check_violation using
            message = format('A row of %s stays with its customer.', tg_table_name),
            detail = 'columns: customer_id';
    end if;
    return new;
end
$$;


comment on function private.hold_contact(uuid, uuid) is
    'Locks the contact, or the one that it was merged into, and returns its id. Until the transaction ends it can be neither merged nor deleted. Refuses a contact that is gone (404).';
comment on function private.hold_contact_at_once(uuid, uuid) is
    'The same without waiting. Refuses if the lock is not free at once (503).';
comment on function private.tg__own_by_customer() is
    'Gives a new row the account and the present contact of its customer. Refuses callers who may not write there.';
comment on function private.tg__follow_merge() is
    'Refuses another customer, unless the two are being merged or parted.';


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

select private.follow_table(
    table_name => 'jobs',
    shown => array[
        'id', 'account_id', 'customer_id', 'service_type', 'status', 'starts_at', 'ends_at',
        'address', 'description', 'created_at', 'updated_at', 'version'
    ]
);
select private.limit_writes('jobs', '{insert,update}');


/*
    A bill to a customer. Amounts are in minor units (cents) of one currency, with the tax included.

        draft ──► sent ──► paid
                   │ ▲
                   ▼ │ (due later)
                 overdue ──► paid        (draft, sent and overdue may become void)

    Only the business sees a draft. For the customer an invoice begins when it is sent, and from
    then on its amounts can't change.
*/
create table public.invoices (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    customer_id  uuid not null,
    job_id       uuid,
    number       text not null
                 constraint invoices_number_check
                 check (btrim(number) <> '' and length(number) <= 64),
    status       text not null default 'draft'
                 constraint invoices_status_check
                 check (status in ('draft', 'sent', 'paid', 'overdue', 'void')),
    currency     text not null
                 constraint invoices_currency_check check (currency ~ '^[A-Z]{3}$'),
    -- What every client can count with: JavaScript loses cents beyond 2^53 - 1.
    amount_minor bigint not null
                 constraint invoices_amount_minor_check
                 check (amount_minor between 0 and 9007199254740991),
    tax_minor    bigint not null default 0,
    description  text
                 constraint invoices_description_check check (length(description) <= 4000),
    -- like the times of jobs: the years that every client can read
    issued_on    date
                 constraint invoices_issued_on_check
                 check (issued_on between '0001-01-02' and '9999-12-30'),
    due_on       date
                 constraint invoices_due_on_check
                 check (due_on between '0001-01-02' and '9999-12-30'),
    sent_at      timestamptz,
    paid_at      timestamptz,
    voided_at    timestamptz,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    version      bigint not null default 1,

    constraint invoices_number_key unique (account_id, number),
    constraint invoices_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- a job's invoices go where the job goes
    constraint invoices_job_fkey
        foreign key (job_id, account_id, customer_id)
        references public.jobs (id, account_id, customer_id)
        on update cascade
        on delete set null (job_id),
    constraint invoices_tax_minor_check check (tax_minor between 0 and amount_minor),
    constraint invoices_status_time_check check (
        case status
            when 'draft' then num_nonnulls(sent_at, paid_at, voided_at) = 0
            when 'paid' then num_nonnulls(sent_at, paid_at, voided_at) = 2 and voided_at is null
            when 'void' then voided_at is not null and paid_at is null
            else sent_at is not null and num_nonnulls(paid_at, voided_at) = 0
        end
    )
);
alter table public.invoices enable row level security;
-- clients compare the old row with the new one
alter table public.invoices replica identity full;


create index invoices_customer_idx on public.invoices (customer_id, account_id, created_at);

create index invoices_job_idx
    on public.invoices (job_id, account_id, customer_id)
    where job_id is not null;

-- for mark_overdue_invoices
create index invoices_due_on_idx
    on public.invoices (due_on, id)
    where status = 'sent';


grant select on public.invoices to authenticated;


comment on table public.invoices is
    'Bills to customers. An invoice begins as a draft, and its status sends it. A sent invoice can''t be deleted: make it void.';
comment on column public.invoices.id is
    'Identifies the invoice. A client may choose it.';
comment on column public.invoices.account_id is
    'The customer''s account; filled in if not given.';
comment on column public.invoices.customer_id is
    'The customer: a contact''s id. A merged contact stands for the one it was merged into.';
comment on column public.invoices.job_id is
    'The job that it bills, of the same customer; null for none. The job''s chat hears of the invoice.';
comment on column public.invoices.number is
    'The business'' own invoice number, unique in the account; 1 to 64 characters.';
comment on column public.invoices.status is
    'draft, sent, paid, overdue or void. The daily schedule makes a sent invoice overdue once due_on has passed.';
comment on column public.invoices.currency is
    'The currency as in ISO 4217, such as EUR.';
comment on column public.invoices.amount_minor is
    'The total with tax, in minor units: 12050 is 120.50 EUR.';
comment on column public.invoices.tax_minor is
    'The tax within amount_minor, in the same minor units.';
comment on column public.invoices.description is
    'What the invoice is for, as the customer reads it; at most 4,000 characters.';
comment on column public.invoices.issued_on is
    'The date of the invoice; if not given, the day on which it is sent.';
comment on column public.invoices.due_on is
    'The last day to pay it, in the account''s time zone. Without it an invoice never becomes overdue.';
comment on column public.invoices.sent_at is
    'When it was sent and became visible to the customer (UTC); null for a draft. The customer hears it through postgres_changes as an UPDATE whose old sent_at is null, and as the broadcast invoices.inserted.';
comment on column public.invoices.paid_at is
    'When its status became paid (server time, UTC); null until then.';
comment on column public.invoices.voided_at is
    'When its status became void (server time, UTC); null until then.';
comment on column public.invoices.created_at is
    'When the draft was made (server time, UTC).';
comment on column public.invoices.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.invoices.version is
    'Rises by 1 with each change of the row.';


comment on constraint invoices_number_check on public.invoices is
    'An invoice''s number must have 1 to 64 characters.';
comment on constraint invoices_number_key on public.invoices is
    'Another invoice of this account has this number.
Give the invoice a number of its own.';
comment on constraint invoices_status_check on public.invoices is
    'There is no such status of an invoice.
Use draft, sent, paid, overdue or void.';
comment on constraint invoices_currency_check on public.invoices is
    'A currency must be three capital letters of ISO 4217.
For example EUR.';
comment on constraint invoices_amount_minor_check on public.invoices is
    'An amount must be a number of minor units from 0 to 9,007,199,254,740,991.
12050 is 120.50 EUR.';
comment on constraint invoices_tax_minor_check on public.invoices is
    'The tax must be at least 0 and at most amount_minor, since the amount includes it.';
comment on constraint invoices_description_check on public.invoices is
    'A description can have at most 4,000 characters.';
comment on constraint invoices_issued_on_check on public.invoices is
    'An invoice must be issued between the years 1 and 9999.';
comment on constraint invoices_due_on_check on public.invoices is
    'An invoice must be due between the years 1 and 9999.';
comment on constraint invoices_job_fkey on public.invoices is
    'This customer has no such job.
Name one of the customer''s jobs, or none.';
comment on constraint invoices_status_time_check on public.invoices is
    'The status does not match the times at which the invoice was sent, paid or made void.';

select private.follow_table(
    table_name => 'invoices',
    shown => array[
        'id', 'account_id', 'customer_id', 'job_id', 'number', 'status', 'currency',
        'amount_minor', 'tax_minor', 'description', 'issued_on', 'due_on', 'sent_at', 'paid_at',
        'voided_at', 'created_at', 'updated_at', 'version'
    ],
    seen_since => 'sent_at'
);
select private.limit_writes('invoices', '{insert,update}');


/*
    Which status an invoice may get, and which fields may still change.
*/
create function private.next_invoice_statuses(status text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case status
        when 'draft' then array['sent', 'void']
        when 'sent' then array['paid', 'overdue', 'void']
        when 'overdue' then array['sent', 'paid', 'void']
        else '{}'
    end;
end
$$;


create function private.tg_invoices__progress()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
declare
    allowed constant text[] := private.next_invoice_statuses(old.status);
    -- fields that others have seen, or that a payment has settled, can't change
    settled text[] := '{}';
    changed text;
begin
    if new.status <> old.status and new.status <> all (allowed) then
        raise sqlstate 'PT409' using
            message = format(
                'An invoice can''t go from %s to %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'This status is final. Write another invoice.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif new.status = 'overdue' and old.status = 'sent' and (new.due_on < private.today(new.account_id)) is not true then
        raise sqlstate 'PT409' using
            message = 'The invoice is not overdue yet.',
            detail = 'field: status',
            hint = 'The schedule makes it overdue once the day due_on has passed.';
    elsif new.status = 'sent' and old.status = 'overdue' and new.due_on < private.today(new.account_id) then
        raise sqlstate 'PT409' using
            message = 'The invoice is still overdue.',
            detail = 'field: status',
            hint = 'Write a later due_on in the same request.';
    end if;

    if old.status <> 'draft' then
        settled := array['number', 'currency', 'amount_minor', 'tax_minor', 'issued_on'];
    end if;
    if old.status in ('paid', 'void') then
        settled := settled || array['due_on'];
        -- an erasure leaves the figures
        if current_setting('rapport.erasing', true) is distinct from 'on' then
            settled := settled || array['description'];
        end if;
    end if;
    if old.status = 'draft' and new.status = 'sent' then
        -- postgres_changes shows the old row to everybody who sees the new one, and a customer may
        -- not see what a draft said before. A field that was empty tells nothing.
        select min(o.key)
        into changed
        from jsonb_each(to_jsonb(old) - 'status') o
        where o.value not in ('null', to_jsonb(new) -> o.key);
        if changed is not null then
            raise sqlstate 'PT409' using
                message = 'An invoice must be sent as its draft stands.',
                detail = 'field: ' || changed,
                hint = 'Change the draft first, then set its status to sent.';
        end if;
    end if;
    if settled <> '{}' then
        select s
        into changed
        from unnest(settled) with ordinality as n (s, place)
        where to_jsonb(new) -> s is distinct from to_jsonb(old) -> s
        order by place
        limit 1;
        if changed is not null then
            raise sqlstate 'PT409' using
                message = format('This field of an invoice that is %s can''t change.', old.status),
                detail = 'field: ' || changed,
                hint = 'Make the invoice void, if its status allows it, and write another one.';
        end if;
    end if;

    if new.status <> old.status then
        case new.status
            when 'sent' then
                new.sent_at := coalesce(old.sent_at, now());
                new.issued_on := coalesce(new.issued_on, private.today(new.account_id));
            when 'paid' then
                new.paid_at := now();
            when 'void' then
                new.voided_at := now();
            else
                null;
        end case;
    end if;
    return new;
end
$$;


create trigger _010_own_by_customer
    before insert on public.invoices
    for each row
    execute function private.tg__own_by_customer();

create trigger _050_keep_owner
    before update of account_id on public.invoices
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update of customer_id on public.invoices
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update on public.invoices
    for each row
    execute function private.tg_invoices__progress();

create trigger _100_stamp_change
    before update on public.invoices
    for each row
    execute function private.tg__stamp_change();


create function backend.mark_overdue_invoices(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    overdue constant uuid[] := array(
        with due as (
            select i.id
            from public.invoices i
            join public.accounts a
                on a.id = i.account_id
            where i.status = 'sent'
              and i.due_on < private.latest_today()
              and i.due_on < (now() at time zone a.time_zone)::date
            order by i.due_on, i.id
            limit least(greatest(batch, 1), 1000)
        )
        select i.id
        from public.invoices i
        join due
            using (id)
        order by i.id
        -- another run may hold them, or somebody who is paying
        for update of i skip locked
    );
    marked integer := 0;
begin
    -- an update of no row would still run the table's triggers
    if overdue <> '{}' then
        update public.invoices i
        set status = 'overdue'
        where i.id = any (overdue)
          and i.status = 'sent'
          and i.due_on < private.today(i.account_id);
        get diagnostics marked = row_count;
    end if;
    return marked;
end
$$;

grant execute on function backend.mark_overdue_invoices(integer) to service_role;


comment on function private.next_invoice_statuses(text) is
    'The statuses that may follow this status of an invoice.';
comment on function private.tg_invoices__progress() is
    'Stamps the times of an invoice''s statuses. Refuses a status that can''t follow, and changes of what was sent (409).';
comment on function backend.mark_overdue_invoices(integer) is
    'Makes up to batch invoices overdue (at most 1,000) whose last day to pay has passed in the account''s time zone. Returns the number. Call it again until it returns 0.';


/*
    A customer's points: a ledger of lines that are added and never changed, and their sum. Points
    are positive where they are earned or given as a bonus, and negative where they are redeemed or
    expire. So the sum of the lines is the balance.

    Each line that gives points is a lot, from which later lines take: from the lot that expires
    first. So exactly the points that nobody redeemed expire.
*/
create table public.loyalty_transactions (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null,
    customer_id uuid not null,
    type        text not null
                constraint loyalty_transactions_type_check
                check (type in ('earned', 'redeemed', 'bonus', 'expired')),
    points      integer not null,
    description text
                constraint loyalty_transactions_description_check
                check (length(description) <= 500),
    expires_on  date,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     bigint not null default 1,

    -- for foreign keys that include the account and the customer
    constraint loyalty_transactions_id_account_id_customer_id_key
        unique (id, account_id, customer_id),
    constraint loyalty_transactions_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint loyalty_transactions_points_check
        check (case when type in ('earned', 'bonus') then points > 0 else points < 0 end),
    constraint loyalty_transactions_expires_on_check
        check (
            expires_on is null
            or type in ('earned', 'bonus')
            -- like the times of jobs: the years that every client can read
            and expires_on between '0001-01-02' and '9999-12-30'
        )
);
alter table public.loyalty_transactions enable row level security;


create index loyalty_transactions_customer_idx
    on public.loyalty_transactions (customer_id, account_id, created_at);

create index loyalty_transactions_account_id_idx
    on public.loyalty_transactions (account_id);


grant select on public.loyalty_transactions to authenticated;


/*
    One row for each customer who ever had points: their sum. Redemptions queue for this row.
*/
create table public.loyalty_balances (
    customer_id uuid primary key,
    account_id  uuid not null,
    points      bigint not null default 0
                constraint loyalty_balances_points_check check (points >= 0),
    updated_at  timestamptz not null default now(),

    constraint loyalty_balances_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.loyalty_balances enable row level security;


create index loyalty_balances_customer_idx
    on public.loyalty_balances (customer_id, account_id);

create index loyalty_balances_account_id_idx
    on public.loyalty_balances (account_id);


grant select on public.loyalty_balances to authenticated;


create table private.loyalty_lots (
    transaction_id uuid primary key,
    account_id     uuid not null,
    customer_id    uuid not null,
    points_left    integer not null
                   constraint loyalty_lots_points_left_check check (points_left >= 0),
    expires_on     date,

    -- a line that moves to another customer takes its lot along
    constraint loyalty_lots_transaction_fkey
        foreign key (transaction_id, account_id, customer_id)
        references public.loyalty_transactions (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table private.loyalty_lots enable row level security;


create index loyalty_lots_customer_idx
    on private.loyalty_lots (customer_id, expires_on, transaction_id)
    where points_left > 0;

create index loyalty_lots_expires_on_idx
    on private.loyalty_lots (expires_on, customer_id)
    where points_left > 0 and expires_on is not null;


comment on table public.loyalty_transactions is
    'A customer''s points, line by line. Insert a line to give points (earned, bonus) or to take them (redeemed). A line never changes, and the balance never goes below zero (409).';
comment on column public.loyalty_transactions.id is
    'The line''s id. Choose it yourself, and a repeated insert is refused (409) instead of counted twice.';
comment on column public.loyalty_transactions.account_id is
    'The customer''s account; filled in if not given.';
comment on column public.loyalty_transactions.customer_id is
    'The customer: a contact''s id. A merged contact stands for the one it was merged into.';
comment on column public.loyalty_transactions.type is
    'earned, bonus or redeemed. Only the daily schedule writes expired.';
comment on column public.loyalty_transactions.points is
    'The number of points: positive for earned and bonus, negative for redeemed and expired.';
comment on column public.loyalty_transactions.description is
    'The reason, as the customer reads it; at most 500 characters.';
comment on column public.loyalty_transactions.expires_on is
    'The last day on which these points may be redeemed, in the account''s time zone; null if they never expire.';
comment on column public.loyalty_transactions.created_at is
    'When the line was written (server time, UTC).';
comment on column public.loyalty_transactions.updated_at is
    'When the row last changed (server time, UTC): a line only moves to another customer in a merge.';
comment on column public.loyalty_transactions.version is
    'Rises by 1 with each change of the row.';
comment on table public.loyalty_balances is
    'A customer''s balance of points. No row means none.';
comment on column public.loyalty_balances.customer_id is
    'The customer: a contact''s id.';
comment on column public.loyalty_balances.account_id is
    'The customer''s account.';
comment on column public.loyalty_balances.points is
    'The sum of the customer''s loyalty_transactions. Points past expires_on count until the daily schedule writes them off.';
comment on column public.loyalty_balances.updated_at is
    'When the balance last changed (server time, UTC).';
comment on table private.loyalty_lots is
    'The rest of each line that gave points.';


comment on constraint loyalty_transactions_pkey on public.loyalty_transactions is
    'There is a line of points with this id already.
It counts once. Give another line an id of its own.';
comment on constraint loyalty_transactions_type_check on public.loyalty_transactions is
    'There is no such type of points.
Use earned, redeemed or bonus.';
comment on constraint loyalty_transactions_points_check on public.loyalty_transactions is
    'Points must be positive for earned and bonus, and negative for redeemed.';
comment on constraint loyalty_transactions_description_check on public.loyalty_transactions is
    'A description can have at most 500 characters.';
comment on constraint loyalty_transactions_expires_on_check on public.loyalty_transactions is
    'Only earned and bonus points may expire, between the years 1 and 9999.
Leave expires_on out where points are redeemed.';

select private.follow_table(
    table_name => 'loyalty_transactions',
    shown => array[
        'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_on',
        'created_at', 'updated_at', 'version'
    ]
);
select private.limit_writes('loyalty_transactions', '{insert}');


/*
    The effects of a new line of points: a new balance, and lots that are made or used. A writer of
    lines holds the customer's balance. So two people who redeem at the same time take turns, and
    the second one sees the rest.
*/
create function private.lock_balances(account_id uuid, customer_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.loyalty_balances (customer_id, account_id)
    select distinct c, lock_balances.account_id
    from unnest(customer_ids) c
    order by c
    on conflict do nothing;

    perform
    from public.loyalty_balances b
    where b.customer_id = any (customer_ids)
    order by b.customer_id
    for no key update;
end
$$;


create function private.add_to_balance(customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.loyalty_balances b
    set points = b.points + add_to_balance.points,
        updated_at = now()
    where b.customer_id = add_to_balance.customer_id;
end
$$;


create function private.use_lots(account_id uuid, customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    today constant date := private.today(account_id);
    wanted bigint := points;
    lot record;
    taken bigint;
begin
    for lot in
        select l.transaction_id, l.points_left
        from private.loyalty_lots l
        where l.customer_id = use_lots.customer_id
          and l.points_left > 0
          -- points whose time has passed are not usable; the schedule will write them off
          and (l.expires_on is null or l.expires_on >= today)
        order by l.expires_on, l.transaction_id
    loop
        exit when wanted = 0;
        taken := least(wanted, lot.points_left);
        update private.loyalty_lots l
        set points_left = l.points_left - taken
        where l.transaction_id = lot.transaction_id;
        wanted := wanted - taken;
    end loop;

    if wanted > 0 then
        raise sqlstate 'PT409' using
            message = format(
                'The customer has %s points; %s can''t be redeemed.', points - wanted, points),
            detail = format('field: points; points: %s; wanted: %s', points - wanted, points),
            hint = format('Redeem at most %s points.', points - wanted);
    end if;
end
$$;


create function private.tg_loyalty_transactions__settle()
    returns trigger
    language plpgsql
    -- definer: only this function writes balances and lots
    security definer
    set search_path = ''
as $$
declare
    line public.loyalty_transactions;
    customers record;
begin
    for customers in
        select n.account_id, array_agg(distinct n.customer_id) as ids
        from new_rows n
        group by n.account_id
        order by n.account_id
    loop
        perform private.lock_balances(
            account_id => customers.account_id, customer_ids => customers.ids);
    end loop;

    -- points that a statement gives can be redeemed in the same statement
    for line in
        select n.*
        from new_rows n
        order by n.points < 0, n.customer_id, n.id
    loop
        if line.points > 0 then
            insert into private.loyalty_lots (
                transaction_id, account_id, customer_id, points_left, expires_on
            )
            values (line.id, line.account_id, line.customer_id, line.points, line.expires_on);
        elsif line.type = 'redeemed' then
            perform private.use_lots(
                account_id => line.account_id,
                customer_id => line.customer_id,
                points => -line.points::bigint
            );
        end if;
        perform private.add_to_balance(customer_id => line.customer_id, points => line.points);
    end loop;
    return null;
end
$$;


create function private.tg_loyalty_transactions__keep()
    returns trigger
    language plpgsql
    -- definer: reads contacts for every writer
    security definer
    set search_path = ''
as $$
begin
    -- a ledger may be deleted with its customer, or with all that is known of the customer
    if tg_op = 'DELETE' and (
        current_setting('rapport.erasing', true) = 'on'
        or not exists (
            select
            from public.contacts c
            where c.id = old.customer_id
        )
    ) then
        return old;
    end if;
    raise check_violation using
        message = 'A line of points can''t be changed or deleted.',
        hint = 'Add a line that corrects it.';
end
$$;


create trigger _010_own_by_customer
    before insert on public.loyalty_transactions
    for each row
    execute function private.tg__own_by_customer();

create trigger _020_keep
    before update on public.loyalty_transactions
    for each row
    when (
        (new.id, new.account_id, new.type, new.points, new.description, new.expires_on, new.created_at)
        is distinct from
        (old.id, old.account_id, old.type, old.points, old.description, old.expires_on, old.created_at)
    )
    execute function private.tg_loyalty_transactions__keep();

create trigger _020_keep_deleted
    before delete on public.loyalty_transactions
    for each row
    execute function private.tg_loyalty_transactions__keep();

create trigger _060_follow_merge
    before update of customer_id on public.loyalty_transactions
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _100_stamp_change
    before update on public.loyalty_transactions
    for each row
    execute function private.tg__stamp_change();

create trigger _500_settle
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg_loyalty_transactions__settle();


create function private.expire_points_of(account_id uuid, customer_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    today constant date := private.today(account_id);
    expired bigint;
begin
    -- the contact before the balance, as in all code that adds lines
    if private.hold_contact(
        account_id => expire_points_of.account_id,
        contact_id => expire_points_of.customer_id
    ) <> expire_points_of.customer_id then
        -- merged meanwhile, and its points too
        return false;
    end if;
    perform private.lock_balances(
        account_id => expire_points_of.account_id,
        customer_ids => array[expire_points_of.customer_id]
    );

    with emptied as (
        update private.loyalty_lots l
        set points_left = 0
        from private.loyalty_lots b
        where l.transaction_id = b.transaction_id
          and b.customer_id = expire_points_of.customer_id
          and b.points_left > 0
          and b.expires_on < today
        returning b.points_left
    )
    select sum(e.points_left)
    into expired
    from emptied e;
    if expired is null then
        return false;
    end if;

    insert into public.loyalty_transactions (account_id, customer_id, type, points, description)
    values (
        expire_points_of.account_id,
        expire_points_of.customer_id,
        'expired',
        -expired,
        'Not redeemed in time.'
    );
    return true;
end
$$;


create function backend.expire_points(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    due record;
    customers integer := 0;
begin
    for due in
        select distinct l.customer_id, l.account_id
        from private.loyalty_lots l
        join public.contacts c
            on c.id = l.customer_id
           and c.account_id = l.account_id
           and c.deleted_at is null
        join public.accounts a
            on a.id = l.account_id
        where l.points_left > 0
          and l.expires_on < private.latest_today()
          and l.expires_on < (now() at time zone a.time_zone)::date
        order by l.customer_id
        limit least(greatest(batch, 1), 1000)
    loop
        if private.expire_points_of(account_id => due.account_id, customer_id => due.customer_id) then
            customers := customers + 1;
        end if;
    end loop;
    return customers;
end
$$;

grant execute on function backend.expire_points(integer) to service_role;


comment on function private.lock_balances(uuid, uuid[]) is
    'Locks the balances of customers of one account. Makes the ones that are missing.';
comment on function private.add_to_balance(uuid, bigint) is
    'Changes a balance, which is locked.';
comment on function private.use_lots(uuid, uuid, bigint) is
    'Takes points from a customer''s lots, first from the one that expires first. Refuses more points than there are.';
comment on function private.tg_loyalty_transactions__settle() is
    'Updates balances and lots for new lines.';
comment on function private.tg_loyalty_transactions__keep() is
    'Refuses to change a line, or to delete it without its customer.';
comment on function private.expire_points_of(uuid, uuid) is
    'Writes off a customer''s points whose time has passed, in one line. False where there are none.';
comment on function backend.expire_points(integer) is
    'Writes off points whose time has passed, for up to batch customers (at most 1,000). Returns the number of customers. Call it again until it returns 0.';


/*
    The conversations that customers hold in the portal. Each booking has one, made with its job.
    One more is for everything else, made with its first message. Two customers that are merged keep
    theirs; the portal goes on in the kept customer's one.
*/
create function private.portal_thread(customer_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select k.id
        from public.conversations k
        where k.customer_id = portal_thread.customer_id
          and k.channel = 'portal'
        order by k.status = 'closed', k.thread_key <> k.customer_id::text, k.created_at, k.id
        limit 1
    );
end
$$;


create function private.open_portal_thread(account_id uuid, customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    thread uuid;
begin
    -- Others may open or close it between two statements, so look again.
    for attempt in 1 .. 4 loop
        thread := private.portal_thread(customer_id);
        exit when thread is not null;

        insert into public.conversations (account_id, customer_id, channel, thread_key)
        values (
            open_portal_thread.account_id,
            open_portal_thread.customer_id,
            'portal',
            open_portal_thread.customer_id
        )
        on conflict do nothing;
    end loop;
    return thread;
end
$$;


create function private.thread_of_customer(customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    kept uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = thread_of_customer.customer_id;
    if found then
        kept := private.contact_of_id(
            account_id => account, contact_id => thread_of_customer.customer_id);
        if account in (select private.my_writable_account_ids())
            or kept in (select private.my_customer_ids())
        then
            -- it stays with this contact until the message is written
            kept := private.hold_contact(account_id => account, contact_id => kept);
            return private.open_portal_thread(account_id => account, customer_id => kept);
        elsif account in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this customer''s conversations but not write in them.',
                hint = 'Owners, admins and agents may.';
        end if;
    end if;
    return null;
exception
    when sqlstate 'PT404' then
        -- Deleted: the caller may not learn whose it was.
        return null;
end
$$;


comment on function private.portal_thread(uuid) is
    'A customer''s conversation in the portal, the open one first; null where there is none.';
comment on function private.open_portal_thread(uuid, uuid) is
    'A customer''s conversation in the portal; makes it where there is none.';
comment on function private.thread_of_customer(uuid) is
    'The conversation in the portal for a caller who may write in it; null where the caller may not see it.';


/*
    A job has its chat from the start. The chat hears of each new status or time of the job, in the
    same transaction.
*/
insert into private.sentences (key, language, sentence)
values
    ('job.scheduled', 'en', '{service} is scheduled for {time}.'),
    ('job.scheduled', 'sl', '{service}: termin je {time}.'),
    ('job.rescheduled', 'en', '{service} is rescheduled to {time}.'),
    ('job.rescheduled', 'sl', '{service}: novi termin je {time}.'),
    ('job.in_progress', 'en', '{service} is in progress.'),
    ('job.in_progress', 'sl', '{service}: delo poteka.'),
    ('job.completed', 'en', '{service} is completed.'),
    ('job.completed', 'sl', '{service}: delo je končano.'),
    ('job.cancelled', 'en', '{service} is cancelled.'),
    ('job.cancelled', 'sl', '{service}: termin je odpovedan.');


create function private.job_notice(job public.jobs)
    returns private.notice
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        job.account_id,
        job.customer_id,
        job.id,
        private.words(
            job.account_id,
            'job.' || job.status,
            jsonb_build_object(
                'service', job.service_type,
                'time', private.local_time(job.account_id, job.starts_at)
            )
        ),
        jsonb_build_object(
            'event', 'job.' || job.status,
            'job_id', job.id,
            'service_type', job.service_type,
            'starts_at', job.starts_at,
            'ends_at', job.ends_at,
            'time_zone', private.time_zone_of(job.account_id)
        ),
        null
    )::private.notice;
end
$$;


create function private.tg_jobs__open_chat()
    returns trigger
    language plpgsql
    -- definer: only this function may write these conversations
    security definer
    set search_path = ''
as $$
begin
    insert into public.conversations (account_id, customer_id, channel, thread_key, booking_id)
    select n.account_id, n.customer_id, 'booking', n.id, n.id
    from new_rows n
    order by n.id;

    perform private.post_notices((
        select array_agg(private.job_notice(n) order by n.id)
        from new_rows n
    ));
    return null;
end
$$;


create function private.tg_jobs__tell_chat()
    returns trigger
    language plpgsql
    -- definer: as tg_jobs__open_chat
    security definer
    set search_path = ''
as $$
declare
    notices private.notice[];
begin
    select array_agg(private.job_notice(n) order by n.id)
    into notices
    from new_rows n
    join old_rows o
        using (id)
    where n.status <> o.status
       or (
           n.status = 'rescheduled'
           and (n.starts_at, n.ends_at) is distinct from (o.starts_at, o.ends_at)
       );
    -- most changes say nothing to the chat
    if notices is not null then
        perform private.post_notices(notices);
    end if;
    return null;
end
$$;


create trigger _500_open_chat
    after insert on public.jobs
    referencing new table as new_rows
    for each statement
    execute function private.tg_jobs__open_chat();

create trigger _500_tell_chat
    after update on public.jobs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_jobs__tell_chat();


comment on function private.job_notice(public.jobs) is
    'The sentence that tells a chat how a job stands now.';
comment on function private.tg_jobs__open_chat() is
    'Gives each job its chat.';
comment on function private.tg_jobs__tell_chat() is
    'Tells a job''s chat of its new status or time.';


/*
    Invoices in chats. An agent can show one with a message, and its data must match the invoice.
    The system tells the chat of the invoice's job, or else the portal's chat, what happens to an
    invoice.
*/
create function private.invoice_facts(invoice public.invoices)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'invoice_id', invoice.id,
        'number', invoice.number,
        'amount_minor', invoice.amount_minor,
        'currency', invoice.currency,
        'status', invoice.status,
        'due_on', invoice.due_on
    );
end
$$;


create function private.check_invoice_data(post public.messages, channel text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    named constant text := post.invoice_data ->> 'invoice_id';
    invoice public.invoices;
    facts jsonb;
    wrong text;
begin
    if post.invoice_data is null and not post.has_invoice then
        return null;
    elsif post.sender_type <> 'operator' then
        raise insufficient_privilege using
            message = 'Only the business can show invoices.',
            detail = 'field: invoice_data',
            hint = 'Leave invoice_data out.';
    elsif channel = 'whatsapp' or post.type <> 'text' then
        raise sqlstate 'PT422' using
            message = 'An invoice can only be shown with a text, in a chat of the portal.',
            detail = 'field: invoice_data',
            hint = 'On WhatsApp send it as a document.';
    end if;

    if pg_input_is_valid(named, 'uuid') then
        select i.*
        into invoice
        from public.invoices i
        where i.id = named::uuid
          and i.account_id = post.account_id
          and i.customer_id = post.customer_id
          and i.sent_at is not null;
    end if;
    if invoice.id is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no such invoice, or it has not been sent yet.',
            detail = 'field: invoice_data.invoice_id',
            hint = 'Name an invoice of the customer that is not a draft.';
    end if;

    facts := private.invoice_facts(invoice);
    select g.key
    into wrong
    from jsonb_each(post.invoice_data) g
    where g.value is distinct from facts -> g.key
    order by g.key
    limit 1;
    if wrong is not null then
        raise sqlstate 'PT422' using
            message = 'This value differs from the invoice.',
            detail = 'field: invoice_data.' || left(wrong, 64),
            hint = 'Give the invoice_id alone. The rest is filled in.';
    end if;
    return facts;
end
$$;


insert into private.sentences (key, language, sentence)
values
    ('invoice.sent', 'en', 'Invoice {number} has been sent.'),
    ('invoice.sent', 'sl', 'Račun {number} je poslan.'),
    ('invoice.paid', 'en', 'Invoice {number} has been paid.'),
    ('invoice.paid', 'sl', 'Račun {number} je plačan.'),
    ('invoice.overdue', 'en', 'Invoice {number} is overdue.'),
    ('invoice.overdue', 'sl', 'Račun {number} je zapadel.'),
    ('invoice.void', 'en', 'Invoice {number} is void.'),
    ('invoice.void', 'sl', 'Račun {number} je razveljavljen.');


create function private.invoice_notice(invoice public.invoices)
    returns private.notice
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        invoice.account_id,
        invoice.customer_id,
        invoice.job_id,
        private.words(
            invoice.account_id,
            'invoice.' || invoice.status,
            jsonb_build_object('number', invoice.number)
        ),
        jsonb_build_object('event', 'invoice.' || invoice.status, 'invoice_id', invoice.id),
        private.invoice_facts(invoice)
    )::private.notice;
end
$$;


create function private.tg_invoices__tell_chat()
    returns trigger
    language plpgsql
    -- definer: users may not write as the system
    security definer
    set search_path = ''
as $$
declare
    notices private.notice[];
begin
    select array_agg(private.invoice_notice(n) order by n.id)
    into notices
    from new_rows n
    join old_rows o
        using (id)
    where n.status <> o.status
      -- a draft that was made void was never visible to the customer
      and n.sent_at is not null;
    -- as with jobs
    if notices is not null then
        perform private.post_notices(notices);
    end if;
    return null;
end
$$;


create trigger _500_tell_chat
    after update on public.invoices
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_invoices__tell_chat();


comment on function private.invoice_facts(public.invoices) is
    'The data of an invoice that a message shows: {invoice_id, number, amount_minor, currency, status, due_on}.';
comment on function private.check_invoice_data(public.messages, text) is
    'The data of the invoice that somebody shows with a message. Refuses a field that differs from the invoice, and names it.';
comment on function private.invoice_notice(public.invoices) is
    'The sentence that tells a chat how an invoice stands now.';
comment on function private.tg_invoices__tell_chat() is
    'Tells a chat what happened to an invoice that the customer knows.';


/*
    The part of a contact that its customer sees and edits. A write here changes the contact as a
    write by staff does.

    Nobody has proved the values that a customer writes (proof). A phone number or an email address
    written here is shown to staff, but the contact can't be found by it, neither here nor at the
    ERP. Otherwise a customer who wrote another person's number would get that person's messages.
    Old identities stay, since the customer has really written from them.
*/
create function private.portal_account(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: a customer can't read accounts, and gets these facts only
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('name', a.name, 'country', a.country, 'time_zone', a.time_zone)
        from public.accounts a
        where a.id = portal_account.account_id
          and exists (
              select
              from public.customers c
              where c.account_id = a.id
                and c.portal_user_id = (select auth.uid())
          )
    );
end
$$;

grant execute on function private.portal_account(uuid) to authenticated;


create view public.my_profile
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    private.portal_account(c.account_id) ->> 'name' as account_name,
    private.portal_account(c.account_id) ->> 'country' as account_country,
    private.portal_account(c.account_id) ->> 'time_zone' as account_time_zone,
    c.name,
    c.phone,
    c.email,
    c.preferences,
    c.updated_at,
    c.version
from public.customers c
where c.id = any (array(select private.my_customer_ids()));


grant select, update on public.my_profile to authenticated;


create function private.read_profile(fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => array['name', 'phone', 'email', 'preferences']
    );
    if fields ? 'name' and btrim(coalesce(fields ->> 'name', ''), E' \t\r\n') = '' then
        raise sqlstate 'PT422' using
            message = 'A profile must have a name.',
            detail = 'field: name',
            hint = 'Write how you want to be called.';
    end if;
    return private.clean_contact_fields(fields);
end
$$;


create function private.suggest_owners(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    owned record;
begin
    for owned in
        select o.kind, o.contact_id, f.value
        from jsonb_each_text(fields) f
        join public.contact_identities o
            on o.account_id = suggest_owners.account_id
           and o.kind = f.key
           and o.match_key = private.match_key(kind => f.key, value => f.value)
        where f.key in ('phone', 'email')
          and o.contact_id <> suggest_owners.contact_id
        order by o.contact_id, o.kind
    loop
        perform private.suggest_merge(
            account_id => suggest_owners.account_id,
            contact_ids => array[suggest_owners.contact_id, owned.contact_id],
            reason => 'same_' || owned.kind,
            evidence => jsonb_build_object(owned.kind, owned.value, 'written_in', 'portal')
        );
    end loop;
end
$$;


create function private.withdraw_owners(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_suggestions s
    using (
        select o.id
        from public.contact_suggestions o
        cross join (values ('phone'), ('email')) as f (kind)
        -- the contact that owns the identity has not written it: this customer has
        join public.contact_identities i
            on i.account_id = o.account_id
           and i.kind = f.kind
           and i.match_key = private.match_key(kind => f.kind, value => o.evidence ->> f.kind)
           and i.contact_id in (o.contact_id, o.other_contact_id)
           and i.contact_id <> withdraw_owners.contact_id
        where o.account_id = withdraw_owners.account_id
          and withdraw_owners.contact_id in (o.contact_id, o.other_contact_id)
          and o.status = 'open'
          and o.reason = 'same_' || f.kind
          and o.evidence ->> 'written_in' = 'portal'
          and fields ? f.kind
          and i.match_key
              is distinct from private.match_key(kind => f.kind, value => fields ->> f.kind)
          -- the other contact may have written a value by which this one is known
          and not exists (
              select
              from public.contacts c
              join public.contact_identities mine
                  on mine.contact_id = withdraw_owners.contact_id
                 and mine.kind = f.kind
                 and mine.match_key
                     = private.match_key(kind => f.kind, value => to_jsonb(c) ->> f.kind)
              where c.id = i.contact_id
          )
        -- somebody is deciding on it at this moment
        for update of o skip locked
    ) w
    where s.id = w.id;
end
$$;


create function private.tg_my_profile__write()
    returns trigger
    language plpgsql
    -- definer: users may not write contacts; a customer's own is written only here
    security definer
    set search_path = ''
as $$
declare
    hits constant integer := current_setting('rapport.hits')::integer + 1;
    written jsonb;
begin
    perform set_config('rapport.hits', hits::text, true);
    if hits > 1 then
        -- A forgotten filter would write a change for one business to another one's profile.
        raise sqlstate 'PT422' using
            message = 'You are a customer of several businesses; this write would change all your profiles.',
            detail = 'field: id',
            hint = 'Filter by the id of the profile that you mean.';
    end if;

    select coalesce(jsonb_object_agg(n.key, n.value), '{}')
    into written
    from jsonb_each(to_jsonb(new)) n
    where n.value is distinct from to_jsonb(old) -> n.key;
    if written ? 'version' then
        raise sqlstate 'PT409' using
            message = 'Your profile has changed since you read it.',
            detail = 'field: version',
            hint = 'Read it again, then write your changes.';
    end if;
    written := private.read_profile(written);

    -- Before the contact is locked: contacts are locked by id, and this touches two.
    perform private.suggest_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);

    -- a login that loses access at this moment writes no more
    perform
    from public.contacts c
    where c.id = old.id
      and c.portal_user_id = (select auth.uid())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This profile is no longer yours.';
    end if;
    -- Once the contact is locked, as in a merge, which decides suggestions too.
    perform private.withdraw_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);
    perform private.keep_customer_words(
        account_id => old.account_id, contact_id => old.id, fields => written);
    perform private.change_contact(
        account_id => old.account_id,
        contact_id => old.id,
        fields => written,
        claim => false
    );

    select *
    into new
    from public.my_profile p
    where p.id = old.id;
    return new;
end
$$;


create trigger _100_expect_hits
    before update on public.my_profile
    for each statement
    execute function private.tg__expect_hits();

create trigger _500_write_profile
    instead of update on public.my_profile
    for each row
    execute function private.tg_my_profile__write();

create trigger _900_require_hits
    after update on public.my_profile
    for each statement
    execute function private.tg__require_hits();


comment on view public.my_profile is
    'Your own contact, with one row for each business whose customer you are. Write name, phone, email and preferences, one row at a time. A write that hits no row is refused (404), and so is one with an old version (409).';
comment on column public.my_profile.id is
    'The customer''s id, as in public.customers.';
comment on column public.my_profile.account_id is
    'The business whose customer you are.';
comment on column public.my_profile.account_name is
    'The name of the business.';
comment on column public.my_profile.account_country is
    'The country of the business by ISO 3166-1, such as SI, in which phone numbers without a country code are read; null is unknown.';
comment on column public.my_profile.account_time_zone is
    'The IANA time zone of the business, in which its appointments, due dates and notices are.';
comment on column public.my_profile.name is
    'Your name; staff see it and may change it too. At most 200 characters.';
comment on column public.my_profile.phone is
    'Your phone number in E.164, such as +38640111222. Messages from WhatsApp are still recognised by the number that they come from.';
comment on column public.my_profile.email is
    'Your email address.';
comment on column public.my_profile.preferences is
    'Your own choices, an object of at most 8 KB. A write replaces all of it. {"wants_reminders": false} ends reminders.';
comment on column public.my_profile.updated_at is
    'When your profile last changed (server time, UTC).';
comment on column public.my_profile.version is
    'Rises with each change of what you see of yourself. Send the version that you read, and a write after another change is refused (409).';
comment on function private.portal_account(uuid) is
    'The name, country and time zone of a business whose customer the signed-in user is; null for other businesses.';
comment on function private.read_profile(jsonb) is
    'Fields of a profile as fields of a contact. Refuses fields that a customer may not write.';
comment on function private.suggest_owners(uuid, uuid, jsonb) is
    'Suggests to staff the other contacts that are known by the values that a customer has written.';
comment on function private.withdraw_owners(uuid, uuid, jsonb) is
    'Withdraws open suggestions whose evidence was the customer''s former entry.';
comment on function private.tg_my_profile__write() is
    'Writes the signed-in customer''s contact.';


select private.limit_writes('my_profile', '{update}');


/*
    Staff invite a contact to the portal. The answer holds the token once, to be sent to the contact
    in a link. The database keeps only its hash.

    Locks: the contact before its invitations. So inviting, claiming and unlinking of the same
    contact take turns.
*/
create function private.require_writable_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = require_writable_contact.contact_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = format('contact: %s', contact_id);
    end if;

    perform private.require_writable(account);
    return account;
end
$$;


create function private.lock_kept_contact(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.contact_of_id(
        account_id => lock_kept_contact.account_id,
        contact_id => lock_kept_contact.contact_id
    );
begin
    perform
    from public.contacts c
    where c.id = kept
      and c.account_id = lock_kept_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        -- Merged while this waited. Its lock is held, and the next contact's lock might be out of
        -- order.
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;
    return kept;
end
$$;


create function private.revoke_open_invitations(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    with recursive lineage as (
        -- an invitation of a merged contact leads to the kept contact
        select revoke_open_invitations.contact_id as id
        union
        select c.id
        from lineage l
        join public.contacts c
            on c.merged_into = l.id
    )
    update public.portal_invitations p
    set revoked_at = now()
    from lineage l
    where p.contact_id = l.id
      and p.account_id = revoke_open_invitations.account_id
      and p.claimed_at is null
      and p.revoked_at is null;
end
$$;


create function private.invite_to_portal(contact_id uuid, valid_for interval)
    returns jsonb
    language plpgsql
    -- definer: only this function writes invitations; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_writable_contact(contact_id);
    -- 32 random bytes as base64url
    token constant text :=
        translate(encode(extensions.gen_random_bytes(32), 'base64'), '+/=', '-_');
    invited uuid;
    invitation public.portal_invitations;
begin
    if valid_for is null
        or valid_for not between interval '5 minutes' and interval '30 days'
    then
        raise sqlstate 'PT422' using
            message = 'An invitation must be valid for 5 minutes to 30 days.',
            detail = 'field: valid_for',
            hint = 'Give a valid_for in between, such as 7 days.';
    end if;

    invited := private.lock_kept_contact(
        account_id => account, contact_id => invite_to_portal.contact_id);
    if exists (
        select
        from public.contacts c
        where c.id = invited
          and c.portal_user_id is not null
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact has a login to the portal already.',
            detail = format('contact: %s', invited),
            hint = 'To give it another login, call unlink_portal_login first.';
    end if;

    perform private.revoke_open_invitations(account_id => account, contact_id => invited);
    insert into public.portal_invitations (account_id, contact_id, created_by, expires_at)
    values (account, invited, auth.uid(), now() + valid_for)
    returning * into invitation;
    insert into private.portal_invitation_tokens (invitation_id, token_hash)
    values (invitation.id, private.token_hash(token));

    return jsonb_build_object(
        'invitation_id', invitation.id,
        'token', token,
        'expires_at', invitation.expires_at
    );
end
$$;

grant execute on function private.invite_to_portal(uuid, interval) to authenticated;


create function public.invite_to_portal(contact_id uuid, valid_for interval default interval '7 days')
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.invite_to_portal(
        contact_id => invite_to_portal.contact_id,
        valid_for => invite_to_portal.valid_for
    );
end
$$;

grant execute on function public.invite_to_portal(uuid, interval) to authenticated;


create function private.revoke_invitation(invitation_id uuid)
    returns void
    language plpgsql
    -- definer: as invite_to_portal
    security definer
    set search_path = ''
as $$
declare
    invitation public.portal_invitations;
begin
    select p.*
    into invitation
    from public.portal_invitations p
    where p.id = revoke_invitation.invitation_id
      and p.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such invitation, or it is not yours to see.',
            detail = format('invitation: %s', invitation_id);
    end if;
    perform private.require_writable(invitation.account_id);

    if invitation.claimed_at is not null then
        raise sqlstate 'PT409' using
            message = 'This invitation has been claimed already.',
            detail = format('contact: %s', invitation.contact_id),
            hint = 'To end the login''s access, call unlink_portal_login.';
    elsif invitation.revoked_at is null then
        update public.portal_invitations p
        set revoked_at = now()
        where p.id = invitation.id;
    end if;
end
$$;

grant execute on function private.revoke_invitation(uuid) to authenticated;


create function public.revoke_invitation(invitation_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.revoke_invitation(revoke_invitation.invitation_id);
end
$$;

grant execute on function public.revoke_invitation(uuid) to authenticated;


comment on function private.require_writable_contact(uuid) is
    'The account of a contact that the caller may write. Refuses other contacts.';
comment on function private.lock_kept_contact(uuid, uuid) is
    'Locks a contact, or the one that it was merged into, and returns its id.';
comment on function private.revoke_open_invitations(uuid, uuid) is
    'Ends the open invitations that lead to a contact. The caller holds the contact''s lock.';
comment on function private.invite_to_portal(uuid, interval) is
    'Makes an invitation and ends the open ones.';
comment on function private.revoke_invitation(uuid) is
    'Ends an invitation that nobody has claimed.';
comment on function public.invite_to_portal(uuid, interval) is
    'Invites a contact to the portal. The invitation is valid for 5 minutes to 30 days. Only this answer holds the token. The signed-in user who gives it to claim_portal_invitation becomes the contact''s login. Earlier invitations of the contact end. A contact that has a login is refused (409).'
    ' Type: {invitation_id: uuid, token: text, expires_at: timestamptz}';
comment on function public.revoke_invitation(uuid) is
    'Ends an invitation before it is claimed. One that has ended stays so. A claimed one is refused (409).';


/*
    A login becomes a contact's by claiming an invitation. Staff can unlink it.

    A caller without a valid token learns nothing: unknown, revoked and claimed tokens get the same
    answer. When a login goes, the trigger on customers renames the topics.
*/
create function private.claim_portal_invitation(token text)
    returns jsonb
    language plpgsql
    -- definer: tokens are not readable, and users may not write contacts
    security definer
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
    invitation public.portal_invitations;
    customer uuid;
    login uuid;
    usable boolean;
begin
    if caller is null then
        raise insufficient_privilege using
            message = 'You must sign in to claim an invitation.',
            hint = 'Sign up or sign in first.';
    end if;

    select p.*
    into invitation
    from private.portal_invitation_tokens t
    join public.portal_invitations p
        on p.id = t.invitation_id
    where t.token_hash = private.token_hash(token);
    if found then
        begin
            customer := private.lock_kept_contact(
                account_id => invitation.account_id, contact_id => invitation.contact_id);
        exception
            when sqlstate 'PT404' then
                -- the contact has been deleted; the caller may not learn that
                null;
        end;
    end if;
    if customer is not null then
        -- its present state, now that all others have to wait
        select p.*
        into invitation
        from public.portal_invitations p
        where p.id = invitation.id
        for no key update;

        select c.portal_user_id
        into login
        from public.contacts c
        where c.id = customer;

        usable := invitation.revoked_at is null
            and (
                invitation.claimed_at is null
                -- the answer was lost, and the same caller asks again
                or (invitation.claimed_by = caller and login = caller)
            );
    end if;

    if usable is not true then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask the business for a new one.';
    elsif invitation.claimed_at is null then
        if invitation.expires_at <= now() then
            raise sqlstate 'PT410' using
                message = 'This invitation has expired.',
                detail = 'field: token',
                hint = 'Ask the business for a new one.';
        elsif login <> caller then
            raise sqlstate 'PT409' using
                message = 'This customer already has a login.',
                detail = 'field: token',
                hint = 'Sign in with that login, or ask the business to unlink it.';
        elsif login is null then
            perform private.link_portal_login(contact_id => customer, user_id => caller);
        end if;

        update public.portal_invitations p
        set claimed_at = now(),
            claimed_by = caller
        where p.id = invitation.id;
        perform private.revoke_open_invitations(
            account_id => invitation.account_id, contact_id => customer);
    end if;

    return jsonb_build_object('account_id', invitation.account_id, 'customer_id', customer);
end
$$;

grant execute on function private.claim_portal_invitation(text) to authenticated;


create function private.link_portal_login(contact_id uuid, user_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.contacts c
    set portal_user_id = link_portal_login.user_id
    where c.id = link_portal_login.contact_id;
exception
    -- contacts_portal_user_id_key, which also sees claims at the same moment
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'You are another customer of this business already.',
            hint = 'Sign in with another login, or ask the business to merge the two customers.';
end
$$;


create function public.claim_portal_invitation(token text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.claim_portal_invitation(claim_portal_invitation.token);
end
$$;

grant execute on function public.claim_portal_invitation(text) to authenticated;


create function private.portal_invitation(token text)
    returns jsonb
    language plpgsql
    stable
    -- definer: tokens are not readable, and who has a link has no login yet
    security definer
    set search_path = ''
as $$
declare
    invitation public.portal_invitations;
    invited uuid;
begin
    select p.*
    into invitation
    from private.portal_invitation_tokens t
    join public.portal_invitations p
        on p.id = t.invitation_id
    where t.token_hash = private.token_hash(token)
      and p.claimed_at is null
      and p.revoked_at is null
      and p.expires_at > now();
    if found then
        begin
            invited := private.contact_of_id(
                account_id => invitation.account_id, contact_id => invitation.contact_id);
        exception
            when sqlstate 'PT404' then
                -- the contact has been deleted; the caller may not learn that
                null;
        end;
    end if;
    if invited is null then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask the business for a new one.';
    end if;
    return (
        select jsonb_build_object(
            'account_name', a.name,
            'email', c.email,
            'expires_at', invitation.expires_at
        )
        from public.contacts c
        join public.accounts a
            on a.id = c.account_id
        where c.id = invited
    );
end
$$;

grant execute on function private.portal_invitation(text) to anon, authenticated;


create function public.portal_invitation(token text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.portal_invitation(portal_invitation.token);
end
$$;

grant execute on function public.portal_invitation(text) to anon, authenticated;


create function private.unlink_portal_login(contact_id uuid)
    returns void
    language plpgsql
    -- definer: only this function writes these contacts; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_writable_contact(contact_id);
    customer constant uuid := private.lock_kept_contact(
        account_id => account, contact_id => unlink_portal_login.contact_id);
begin
    if exists (
        select
        from public.contacts c
        where c.id = customer
          and c.portal_user_id is not null
    ) then
        update public.contacts c
        set portal_user_id = null
        where c.id = customer;
    end if;
    -- an earlier link must not lead back in
    perform private.revoke_open_invitations(account_id => account, contact_id => customer);
end
$$;

grant execute on function private.unlink_portal_login(uuid) to authenticated;


create function public.unlink_portal_login(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.unlink_portal_login(unlink_portal_login.contact_id);
end
$$;

grant execute on function public.unlink_portal_login(uuid) to authenticated;


comment on function private.portal_invitation(text) is
    'What the holder of an invitation''s token may see before signing in.';
comment on function public.portal_invitation(text) is
    'What an open invitation is about: the business that invites, and the contact''s email address, to which a link to sign in can be sent. Nobody has to be signed in: the token, which nobody can guess, would show the same once it is claimed. One that is unknown, claimed, revoked or expired is refused (404).'
    ' Type: {account_name: text, email: text | null, expires_at: timestamptz}';
comment on function private.claim_portal_invitation(text) is
    'Makes the caller the login of the invited contact.';
comment on function private.link_portal_login(uuid, uuid) is
    'Writes the login of a contact. Refuses a login that is another customer of the account.';
comment on function private.unlink_portal_login(uuid) is
    'Removes a contact''s login.';
comment on function public.claim_portal_invitation(text) is
    'Makes you the customer who was invited. Claiming it again gives the same answer. Refused: an invitation that is unknown, revoked or claimed by another login (404); one that has expired (410); a customer who has a login, or a caller who is another customer of the business (409).'
    ' Type: {account_id: uuid, customer_id: uuid}';
comment on function public.unlink_portal_login(uuid) is
    'Ends the access of a contact''s login to the portal and its live topics, at once. Open invitations of the contact end too. A contact without a login stays as it is.';


/*
    Texts with variables: saved replies, and the parameters of templates and reminders. One function
    fills them all, so a variable means the same everywhere.

        {{contact.name}}                            the customer
        {{appointment.service}}, {{appointment.time}}   the job that is given, or else the next one
        {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}}
                                                    the invoice that is given, or else the unpaid one
                                                    that is due first
        {{points.total}}                            the customer's points
        {{agent.name}}, {{account.name}}            the member who writes, and the business
*/
create function private.amount_text(account_id uuid, amount_minor bigint, currency text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- decimals by ISO 4217
    decimals constant integer := case
        when currency in (
            'BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND',
            'VUV', 'XAF', 'XOF', 'XPF'
        ) then 0
        when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
        else 2
    end;
    -- commas between thousands and a point before the decimals in every locale of the database
    figure constant text := to_char(
        amount_minor / 10::numeric ^ decimals,
        'FM999,999,999,999,999,990' || case when decimals > 0 then '.' || repeat('0', decimals) else '' end
    );
begin
    return (
        select case a.language
            when 'sl' then translate(figure, ',.', '.,')
            else figure
        end || ' ' || currency
        from public.accounts a
        where a.id = amount_text.account_id
    );
end
$$;


create function private.date_text(account_id uuid, on_day date)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select to_char(on_day, case a.language when 'sl' then 'FMDD. FMMM. YYYY' else 'YYYY-MM-DD' end)
        from public.accounts a
        where a.id = date_text.account_id
    );
end
$$;


create function private.text_variables(
    account_id uuid,
    customer_id uuid,
    user_id uuid,
    job_id uuid default null,
    invoice_id uuid default null,
    -- null: all; the values of others are null in the answer
    names text[] default null
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    job public.jobs;
    invoice public.invoices;
    customer_name text;
    agent_name text;
    account_name text;
    points bigint;
begin
    -- a batch of reminders asks for a few values of each of many customers
    if names is null or names && array['appointment.service', 'appointment.time'] then
        select j.*
        into job
        from public.jobs j
        where j.account_id = text_variables.account_id
          and j.customer_id = text_variables.customer_id
          and case
              when text_variables.job_id is null
                  then j.starts_at > now() and j.status in ('scheduled', 'rescheduled')
              else j.id = text_variables.job_id
          end
        order by j.starts_at, j.id
        limit 1;
    end if;
    if names is null or names && array['invoice.number', 'invoice.amount', 'invoice.due_on'] then
        select i.*
        into invoice
        from public.invoices i
        where i.account_id = text_variables.account_id
          and i.customer_id = text_variables.customer_id
          -- the customer sees no draft
          and i.sent_at is not null
          and case
              when text_variables.invoice_id is null then i.status in ('sent', 'overdue')
              else i.id = text_variables.invoice_id
          end
        order by i.due_on nulls last, i.sent_at, i.id
        limit 1;
    end if;
    if names is null or 'contact.name' = any (names) then
        customer_name := (
            select c.name
            from public.customers c
            where c.id = text_variables.customer_id
              and c.account_id = text_variables.account_id
        );
    end if;
    if names is null or 'points.total' = any (names) then
        points := coalesce((
            select b.points
            from public.loyalty_balances b
            where b.customer_id = text_variables.customer_id
              and b.account_id = text_variables.account_id
        ), 0);
    end if;
    if names is null or 'agent.name' = any (names) then
        agent_name := (
            select m.display_name
            from public.account_members m
            where m.account_id = text_variables.account_id
              and m.user_id = text_variables.user_id
        );
    end if;
    if names is null or 'account.name' = any (names) then
        account_name := (select a.name from public.accounts a where a.id = text_variables.account_id);
    end if;

    return jsonb_build_object(
        'contact.name', customer_name,
        'appointment.service', job.service_type,
        'appointment.time', case when job.id is not null then
            private.local_time(account_id, job.starts_at)
        end,
        'invoice.number', invoice.number,
        'invoice.amount', case when invoice.id is not null then
            private.amount_text(account_id, invoice.amount_minor, invoice.currency)
        end,
        'invoice.due_on', case when invoice.id is not null then
            private.date_text(account_id, invoice.due_on)
        end,
        'points.total', points,
        'agent.name', agent_name,
        'account.name', account_name
    );
end
$$;


create function private.variables_in(text text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    names text[] := '{}';
    rest text := text;
    place text;
begin
    -- a loop of simple expressions takes a tenth of the time of a query
    loop
        place := substring(rest from '\{\{[^{}]*\}\}');
        exit when place is null;
        names := names || btrim(place, E'{} \t\r\n');
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return names;
end
$$;


create function private.unfilled_variable(text text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    name text;
begin
    foreach name in array private.variables_in(text) loop
        if coalesce(variables ->> name, '') = '' then
            return name;
        end if;
    end loop;
    return null;
end
$$;


create function private.filled_text(text text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    filled text := '';
    rest text := text;
    place text;
begin
    -- one pass: a value that contains {{name}} stays as it is
    loop
        place := substring(rest from '\{\{[^{}]*\}\}');
        exit when place is null;
        filled := filled || left(rest, strpos(rest, place) - 1)
            || coalesce(variables ->> btrim(place, E'{} \t\r\n'), '');
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return filled || rest;
end
$$;


create function private.check_text_variables(text text, field text default 'text')
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    known constant text[] := array(
        select v.name
        from jsonb_object_keys(private.text_variables(null, null, null)) as v (name)
        order by v.name
    );
    unknown text;
begin
    select v.name
    into unknown
    from unnest(private.variables_in(text)) with ordinality as v (name, place)
    where v.name <> all (known)
    order by v.place
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = format('There is no variable {{%s}}.', left(unknown, 64)),
            detail = 'field: ' || field,
            hint = format('Known: %s.', array_to_string(known, ', '));
    end if;
end
$$;


create function private.fill_text(
    text text,
    account_id uuid,
    customer_id uuid,
    user_id uuid,
    job_id uuid default null,
    invoice_id uuid default null
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    variables constant jsonb := private.text_variables(
        account_id => fill_text.account_id,
        customer_id => fill_text.customer_id,
        user_id => fill_text.user_id,
        job_id => fill_text.job_id,
        invoice_id => fill_text.invoice_id
    );
    unfilled constant text := private.unfilled_variable(text, variables);
begin
    perform private.check_text_variables(text);
    if unfilled is not null then
        raise sqlstate 'PT422' using
            message = format('{{%s}} has no value for this customer.', unfilled),
            detail = 'field: text; variable: ' || unfilled,
            hint = case split_part(unfilled, '.', 1)
                when 'appointment' then 'The customer has no coming appointment. Make one, or write the text by hand.'
                when 'invoice' then 'The customer has no unpaid invoice with this value. Send one, or write the text by hand.'
                when 'contact' then 'Give the contact a name, or write the text by hand.'
                else 'Write the text by hand.'
            end;
    end if;
    return private.filled_text(text, variables);
end
$$;


comment on function private.amount_text(uuid, bigint, text) is
    'An amount for people to read, from minor units, as the account''s language writes it: 1,234.50 EUR or 1.234,50 EUR.';
comment on function private.date_text(uuid, date) is
    'A date for people to read, as the account''s language writes it.';
comment on function private.text_variables(uuid, uuid, uuid, uuid, uuid, text[]) is
    'The values of all variables for a customer, or of those that are named: {"contact.name": …}; null where there is none. Without a job the next one counts, without an invoice the unpaid one that is due first.';
comment on function private.variables_in(text) is
    'The names of the variables in a text, in their order, without braces.';
comment on function private.unfilled_variable(text, jsonb) is
    'The first variable of a text that is unknown or has no value; null if there is none.';
comment on function private.filled_text(text, jsonb) is
    'A text with its variables filled in; a variable without a value becomes empty.';
comment on function private.check_text_variables(text, text) is
    'Refuses a text with an unknown variable, and names it.';
comment on function private.fill_text(text, uuid, uuid, uuid, uuid, uuid) is
    'A text with its variables filled in for a customer. A variable that is unknown or has no value is refused (422) with its name.';


/*
    The rules by which customers are reminded:

        before_appointment   minutes before a job starts
        after_job            minutes after the end of a job that is completed
        invoice_due_in       days before the last day for payment
        invoice_overdue_by   days after it
        points_expire_in     days before the last day of points

    A rule sends a template on WhatsApp to customers who have a conversation there or a number that
    is proved, or else a text in the portal to customers who have a login.
*/
create table public.reminder_rules (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null
                        constraint reminder_rules_account_id_fkey
                        references public.accounts on delete cascade,
    name                text not null
                        constraint reminder_rules_name_check
                        check (btrim(name) <> '' and length(name) <= 200),
    kind                text not null
                        constraint reminder_rules_kind_check
                        check (kind in (
                            'before_appointment', 'after_job', 'invoice_due_in',
                            'invoice_overdue_by', 'points_expire_in'
                        )),
    minutes             integer,
    days                integer,
    -- of the kinds that count days, in the account's time zone
    time_of_day         time not null default '09:00',
    -- {name, language, variables}
    template            jsonb,
    whatsapp_channel_id uuid,
    text                text
                        constraint reminder_rules_text_check
                        check (btrim(text, E' \t\r\n') <> '' and length(text) <= 2000),
    is_active           boolean not null default true,
    -- what was due earlier is not sent any more
    active_since        timestamptz not null default now(),
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    version             bigint not null default 1,

    constraint reminder_rules_id_account_id_key unique (id, account_id),
    constraint reminder_rules_whatsapp_channel_fkey
        foreign key (whatsapp_channel_id, account_id)
        references public.whatsapp_channels (id, account_id)
        on delete cascade,
    constraint reminder_rules_minutes_check check (
        case
            when kind = 'before_appointment' then (minutes between 5 and 525600) is true
            when kind = 'after_job' then (minutes between 0 and 525600) is true
            when kind in ('invoice_due_in', 'invoice_overdue_by', 'points_expire_in')
                then minutes is null
            else true
        end
    ),
    constraint reminder_rules_days_check check (
        case
            when kind in ('before_appointment', 'after_job') then days is null
            when kind = 'invoice_overdue_by' then (days between 1 and 365) is true
            when kind in ('invoice_due_in', 'points_expire_in')
                then (days between 0 and 365) is true
            else true
        end
    ),
    constraint reminder_rules_template_check check (num_nonnulls(template, text) > 0),
    constraint reminder_rules_whatsapp_channel_id_check
        check ((template is null) = (whatsapp_channel_id is null))
);
alter table public.reminder_rules enable row level security;


create index reminder_rules_account_id_idx on public.reminder_rules (account_id);

create index reminder_rules_whatsapp_channel_idx
    on public.reminder_rules (whatsapp_channel_id, account_id);


grant select, delete on public.reminder_rules to authenticated;


create function private.rule_template(rule public.reminder_rules)
    returns public.whatsapp_templates
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    template public.whatsapp_templates;
begin
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = rule.whatsapp_channel_id
      and t.name = rule.template ->> 'name'
      and t.language = coalesce(rule.template #>> '{language,code}', rule.template ->> 'language');
    return template;
end
$$;


create function private.check_reminder_text(text text, field text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.check_text_variables(text, field);
    if 'agent.name' = any (private.variables_in(text)) then
        raise sqlstate 'PT422' using
            message = 'Nobody writes a reminder, so {{agent.name}} has no value in it.',
            detail = 'field: ' || field,
            hint = 'Use {{account.name}}.';
    end if;
end
$$;


create function private.checked_reminder_rule(rule public.reminder_rules)
    returns public.reminder_rules
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    variable record;
    post public.messages;
begin
    perform private.check_reminder_text(rule.text, 'text');
    if rule.template is null then
        rule.whatsapp_channel_id := null;
        return rule;
    end if;

    if rule.whatsapp_channel_id is null then
        select (array_agg(w.id))[1]
        into rule.whatsapp_channel_id
        from public.whatsapp_channels w
        where w.account_id = rule.account_id
        having count(*) = 1;
    end if;
    if not exists (
        select
        from public.whatsapp_channels w
        where w.id = rule.whatsapp_channel_id
          and w.account_id = rule.account_id
    ) then
        raise sqlstate 'PT422' using
            message = 'The rule does not say which number of the account sends its template.',
            detail = 'field: whatsapp_channel_id',
            hint = 'Give the id of one of the account''s whatsapp_channels.';
    elsif rule.template ? 'components' then
        raise sqlstate 'PT422' using
            message = 'The template of a rule is filled by its variables, not by components.',
            detail = 'field: template.components',
            hint = 'Give {name, language, variables}, such as {"body.1": "{{contact.name}}"}.';
    end if;
    for variable in
        select v.key, v.value
        from jsonb_each_text(case jsonb_typeof(rule.template -> 'variables')
            when 'object' then rule.template -> 'variables' else '{}' end) v
    loop
        perform private.check_reminder_text(variable.value, 'template.variables.' || variable.key);
    end loop;
    post.account_id := rule.account_id;
    post.whatsapp_channel_id := rule.whatsapp_channel_id;
    perform private.check_template_for_later(post, rule.template);
    return rule;
end
$$;


create function private.tg_reminder_rules__check()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    -- the policy refuses a user who may not write it
    if new.account_id in (select private.my_admin_account_ids()) then
        new := private.checked_reminder_rule(new);
    end if;
    if tg_op = 'INSERT'
        or new.is_active and not old.is_active
        or (new.kind, new.minutes, new.days, new.time_of_day)
            is distinct from (old.kind, old.minutes, old.days, old.time_of_day)
    then
        new.active_since := now();
    end if;
    return new;
end
$$;


create trigger _005_default_account
    before insert on public.reminder_rules
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _010_check
    before insert or update on public.reminder_rules
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_reminder_rules__check();

create trigger _050_keep_owner
    before update of account_id on public.reminder_rules
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.reminder_rules
    for each row
    execute function private.tg__stamp_change();


/*
    The reminders that were sent or dropped: one row for each rule and occasion, written in the
    transaction that sends. So a reminder is sent at most once.
*/
create table private.sent_reminders (
    rule_id    uuid not null,
    -- the job, the invoice, or the customer of the points
    subject_id uuid not null,
    -- the time or day that the reminder is about: another time is another occasion
    occasion   text not null,
    account_id uuid not null,
    -- why it was dropped; null if it was sent
    reason     text,
    -- a merge is undone with what was settled since: no transaction's start may stand here
    settled_at timestamptz not null default clock_timestamp(),
    -- from when on no rule, however it is changed, reminds of this occasion again
    over_at    timestamptz not null,

    primary key (rule_id, subject_id, occasion),
    constraint sent_reminders_rule_fkey
        foreign key (rule_id, account_id)
        references public.reminder_rules (id, account_id)
        on delete cascade
);
alter table private.sent_reminders enable row level security;


create index sent_reminders_over_at_idx on private.sent_reminders (over_at);


comment on table public.reminder_rules is
    'The rules by which customers are reminded of appointments, invoices and points. Owners and admins write them; try_reminder_rule says what a rule would have sent, upcoming_reminders what will be sent.';
comment on column public.reminder_rules.id is
    'Identifies the rule.';
comment on column public.reminder_rules.account_id is
    'The account whose customers are reminded; filled in if you write for one account.';
comment on column public.reminder_rules.name is
    'What the rule is called; 1 to 200 characters.';
comment on column public.reminder_rules.kind is
    'before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
comment on column public.reminder_rules.minutes is
    'Minutes before a job starts (5 to 525,600), or after a completed job''s end (from 0); null for the kinds that count days.';
comment on column public.reminder_rules.days is
    'Days before the last day for payment or of the points, or after it (0, or for invoice_overdue_by 1, to 365); null for the kinds that count minutes.';
comment on column public.reminder_rules.time_of_day is
    'At which time of that day the kinds that count days remind, in the account''s time zone.';
comment on column public.reminder_rules.template is
    'The template on WhatsApp: {name, language, variables}. The variables'' texts may hold {{contact.name}}, {{appointment.time}} and the other variables of saved replies.'
    ' Type: {[text]: json} | null';
comment on column public.reminder_rules.whatsapp_channel_id is
    'The account''s WhatsApp number that sends the template; its only number if none is given.';
comment on column public.reminder_rules.text is
    'The message in the portal, for customers with a login whom the template does not reach; with the same variables.';
comment on column public.reminder_rules.is_active is
    'Whether the rule reminds at present.';
comment on column public.reminder_rules.active_since is
    'Since when the rule stands as it does (UTC): it sends nothing that was due before.';
comment on column public.reminder_rules.created_at is
    'When the rule was made (server time, UTC).';
comment on column public.reminder_rules.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.reminder_rules.version is
    'Rises by 1 with each change of the row.';
comment on constraint reminder_rules_name_check on public.reminder_rules is
    'A rule''s name has 1 to 200 characters.';
comment on constraint reminder_rules_kind_check on public.reminder_rules is
    'There is no such kind of reminder.
Use before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
comment on constraint reminder_rules_text_check on public.reminder_rules is
    'A reminder''s text has 1 to 2,000 characters.';
comment on constraint reminder_rules_minutes_check on public.reminder_rules is
    'before_appointment needs 5 to 525,600 minutes and after_job 0 to 525,600; the other kinds have days instead.';
comment on constraint reminder_rules_days_check on public.reminder_rules is
    'invoice_due_in and points_expire_in need 0 to 365 days and invoice_overdue_by 1 to 365; the other kinds have minutes instead.';
comment on constraint reminder_rules_template_check on public.reminder_rules is
    'A rule needs a template or a text.
Give the template for WhatsApp, the text for the portal, or both.';
comment on constraint reminder_rules_whatsapp_channel_id_check on public.reminder_rules is
    'A template needs the number that sends it, and a rule without a template has none.
Give template and whatsapp_channel_id, or neither.';
comment on function private.rule_template(public.reminder_rules) is
    'The template of a rule, as it was last read from WhatsApp; nulls where it is not known.';
comment on function private.check_reminder_text(text, text) is
    'Refuses a text whose variables a reminder can''t fill, and names the field.';
comment on function private.checked_reminder_rule(public.reminder_rules) is
    'A rule with its number filled in. Refuses one that could send nothing, and names the field.';
comment on function private.tg_reminder_rules__check() is
    'Checks a rule, and notes since when it stands as it does.';
comment on table private.sent_reminders is
    'The occasions for which a rule has reminded a customer, or dropped the reminder.';

select private.follow_table(
    table_name => 'reminder_rules',
    shown => array[
        'id', 'account_id', 'name', 'kind', 'minutes', 'days', 'time_of_day', 'template',
        'whatsapp_channel_id', 'text', 'is_active', 'active_since', 'created_at', 'updated_at',
        'version'
    ],
    customer_key => null
);
select private.limit_writes('reminder_rules', '{insert,update,delete}');


/*
    The occasions of a rule: computed from jobs, invoices and points whenever they are needed, so a
    job that moves takes its reminder along, and a job that is cancelled has none.

    A reminder may be sent from due_at until ends_at. A time in the quiet hours is moved to their
    end. If the occasion is over by then, the reminder is sent before they begin.
*/
create type private.reminder_occasion as (
    subject_id  uuid,
    occasion    text,
    customer_id uuid,
    job_id      uuid,
    invoice_id  uuid,
    due_at      timestamptz,
    ends_at     timestamptz
);


create index jobs_end_idx
    on public.jobs (account_id, (coalesce(ends_at, starts_at)), id)
    where status = 'completed';

create index invoices_account_due_on_idx
    on public.invoices (account_id, due_on, id)
    where sent_at is not null;


create function private.reminder_occasions(
    rule public.reminder_rules,
    due_from timestamptz,
    due_until timestamptz,
    -- the present: what applies now and is neither over nor settled; null: what applied then
    at timestamptz,
    -- null: all
    subject_ids uuid[] default null,
    most integer default null,
    -- the due_at and subject_id of the last one of the page before
    after_at timestamptz default null,
    after_id uuid default null
)
    returns setof private.reminder_occasion
    language plpgsql
    stable
    set search_path = ''
    -- a few subjects are found by their ids, and all of a time by the time
    set plan_cache_mode = force_custom_plan
    -- the plan must not be the one for an empty table
    set enable_seqscan = off
    set jit = off
as $$
declare
    zone constant text := private.time_zone_of(rule.account_id);
    span constant interval := make_interval(
        mins => case rule.kind when 'before_appointment' then -rule.minutes else rule.minutes end);
    -- days from the occasion's day to the reminder's
    days constant integer :=
        case rule.kind when 'invoice_overdue_by' then rule.days else -rule.days end;
    first_day constant date := (due_from at time zone zone)::date - days;
    last_day constant date := (due_until at time zone zone)::date - days;
    after_day constant date := (after_at at time zone zone)::date - days;
    -- how late the reminders of what is over are sent
    grace constant interval := interval '3 days';
begin
    if rule.kind = 'before_appointment' then
        return query
            select
                j.id,
                to_char(j.starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                j.customer_id,
                j.id,
                null::uuid,
                j.starts_at + span,
                j.starts_at
            from public.jobs j
            where j.account_id = rule.account_id
              and j.starts_at between due_from - span and due_until - span
              and (subject_ids is null or j.id = any (subject_ids))
              and (after_id is null or (j.starts_at, j.id) > (after_at - span, after_id))
              -- a job that is made later needs no reminder of it
              and j.created_at <= j.starts_at + span
              and case
                  when at is null then j.status <> 'cancelled'
                  else j.status in ('scheduled', 'rescheduled')
              end
              and (at is null or j.starts_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = j.id
                    and s.occasion = to_char(j.starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
              )
            order by j.starts_at, j.id
            limit most;
    elsif rule.kind = 'after_job' then
        return query
            select
                j.id,
                'completed',
                j.customer_id,
                j.id,
                null::uuid,
                coalesce(j.ends_at, j.starts_at) + span,
                coalesce(j.ends_at, j.starts_at) + span + grace
            from public.jobs j
            where j.account_id = rule.account_id
              and j.status = 'completed'
              -- a record of past work is not asked about
              and j.created_at <= coalesce(j.ends_at, j.starts_at)
              and coalesce(j.ends_at, j.starts_at) between due_from - span and due_until - span
              and (at is null or coalesce(j.ends_at, j.starts_at) > at - span - grace)
              and (subject_ids is null or j.id = any (subject_ids))
              and (
                  after_id is null
                  or (coalesce(j.ends_at, j.starts_at), j.id) > (after_at - span, after_id)
              )
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = j.id
                    and s.occasion = 'completed'
              )
            order by coalesce(j.ends_at, j.starts_at), j.id
            limit most;
    elsif rule.kind in ('invoice_due_in', 'invoice_overdue_by') then
        return query
            select
                i.id,
                i.due_on::text,
                i.customer_id,
                null::uuid,
                i.id,
                d.due_at,
                d.ends_at
            from public.invoices i
            cross join lateral (
                select
                    t.due_at,
                    case rule.kind
                        when 'invoice_due_in' then (i.due_on + 1)::timestamp at time zone zone
                        else t.due_at + grace
                    end as ends_at
                from (
                    select (i.due_on + days + rule.time_of_day) at time zone zone as due_at
                ) t
            ) d
            where i.account_id = rule.account_id
              and i.due_on between first_day and last_day
              and d.due_at between due_from and due_until
              and (subject_ids is null or i.id = any (subject_ids))
              and (after_id is null or (i.due_on, i.id) > (after_day, after_id))
              and i.sent_at <= d.due_at
              and case
                  when at is null then coalesce(i.paid_at, i.voided_at, 'infinity') > d.due_at
                  else i.status in ('sent', 'overdue')
              end
              and (at is null or d.ends_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = i.id
                    and s.occasion = i.due_on::text
              )
            order by i.due_on, i.id
            limit most;
    else
        return query
            select
                p.customer_id,
                p.expires_on::text,
                p.customer_id,
                null::uuid,
                null::uuid,
                d.due_at,
                d.ends_at
            from (
                select distinct l.customer_id, l.expires_on
                from private.loyalty_lots l
                where l.account_id = rule.account_id
                  and l.expires_on between first_day and last_day
                  and (subject_ids is null or l.customer_id = any (subject_ids))
                  and (after_id is null or (l.expires_on, l.customer_id) > (after_day, after_id))
                  and (
                      l.points_left > 0
                      -- written off since, so they were left
                      or at is null and exists (
                          select
                          from public.loyalty_transactions x
                          where x.customer_id = l.customer_id
                            and x.account_id = l.account_id
                            and x.type = 'expired'
                            and (x.created_at at time zone zone)::date
                                between l.expires_on + 1 and l.expires_on + 3
                      )
                  )
            ) p
            cross join lateral (
                select
                    (p.expires_on + days + rule.time_of_day) at time zone zone as due_at,
                    (p.expires_on + 1)::timestamp at time zone zone as ends_at
            ) d
            where d.due_at between due_from and due_until
              and (at is null or d.ends_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.occasion = p.expires_on::text
                    -- a contact that was merged into this one may have been reminded
                    and s.subject_id in (
                        select l
                        from private.contact_lineage(p.customer_id) l
                    )
              )
            order by p.expires_on, p.customer_id
            limit most;
    end if;
end
$$;


/*
    A rule may be changed to another distance or kind, so an occasion is over once no rule could
    remind of it: an appointment when it begins. The others are reminded of at most 365 days, and
    three days late, after their day; two days more are for time zones.
*/
create function private.occasion_over_at(kind text, due private.reminder_occasion)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    longest constant integer := 365 + 3 + 2;
begin
    return case occasion_over_at.kind
        when 'before_appointment' then due.ends_at
        -- the time of a completed job does not change
        when 'after_job' then due.due_at + make_interval(days => longest)
        else (due.occasion::date + longest)::timestamptz
    end;
end
$$;


create function private.reminder_time(
    quiet_from time,
    quiet_until time,
    time_zone text,
    due_at timestamptz,
    ends_at timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    span constant tstzrange := private.quiet_span(quiet_from, quiet_until, time_zone, due_at);
    later timestamptz;
    -- so that the worker has the time to send it before they begin
    earlier constant timestamptz := lower(span) - interval '30 minutes';
begin
    if span is null then
        return due_at;
    end if;
    later := private.after_quiet_hours(quiet_from, quiet_until, time_zone, due_at);
    return case
        when later < ends_at then later
        when private.quiet_span(quiet_from, quiet_until, time_zone, earlier) is null then earlier
    end;
end
$$;


create function private.due_reminders(
    rule public.reminder_rules,
    at timestamptz,
    -- null: what is to be sent at this time
    until timestamptz default null,
    subject_ids uuid[] default null,
    most integer default null,
    after_at timestamptz default null,
    after_id uuid default null
)
    returns table (due private.reminder_occasion, send_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account public.accounts;
    allowed_at timestamptz;
    coming tstzrange;
    horizon timestamptz;
begin
    select a.*
    into account
    from public.accounts a
    where a.id = rule.account_id;
    allowed_at := private.after_quiet_hours(
        account.quiet_from, account.quiet_until, account.time_zone, at);
    if until is null and allowed_at > at then
        return;
    end if;
    -- the reminders of the coming quiet hours may be sent before they begin
    coming := private.quiet_span(
        account.quiet_from, account.quiet_until, account.time_zone, at + interval '30 minutes');
    horizon := case
        when until is not null then until + interval '1 day 30 minutes'
        else coalesce(upper(coming), at)
    end;

    return query
        select o.due, t.send_at
        from (
            select
                d as due,
                case
                    when account.quiet_from is null then d.due_at
                    else private.reminder_time(
                        account.quiet_from, account.quiet_until, account.time_zone,
                        d.due_at, d.ends_at
                    )
                end as planned_at
            from private.reminder_occasions(
                rule,
                due_from => greatest(rule.active_since, at - interval '3 days', after_at),
                due_until => horizon,
                at => at,
                subject_ids => subject_ids,
                -- what is not sent yet must not stand before what is
                most => case when horizon = at then most end,
                after_at => after_at,
                after_id => after_id
            ) d
        ) o
        cross join lateral (
            select case
                when o.planned_at > at then o.planned_at
                -- late: as soon as it may be
                when o.planned_at is not null and allowed_at < (o.due).ends_at then allowed_at
            end as send_at
        ) t
        where case
            when until is null then t.send_at <= at
            else coalesce(t.send_at, (o.due).due_at) <= until
        end
        order by (o.due).due_at, (o.due).subject_id
        limit most;
end
$$;


comment on type private.reminder_occasion is
    'What a reminder is about, whom it is for, and from when until when it may be sent.';
comment on function private.reminder_occasions(
    public.reminder_rules, timestamptz, timestamptz, timestamptz, uuid[], integer, timestamptz, uuid
) is
    'The occasions of a rule whose reminders are due between two times, quiet hours aside; in the order of due_at and subject_id.';
comment on function private.occasion_over_at(text, private.reminder_occasion) is
    'From when on no rule reminds of an occasion again, however it is changed.';
comment on function private.reminder_time(time, time, text, timestamptz, timestamptz) is
    'When a reminder is sent: when it is due, or after the quiet hours, or before them if the occasion is over by then; null if neither can be.';
comment on function private.due_reminders(
    public.reminder_rules, timestamptz, timestamptz, uuid[], integer, timestamptz, uuid
) is
    'The reminders of a rule that are to be sent at a time, or until a later one, with the time of each (null: the quiet hours leave none). Those that were sent or dropped are left out.';


/*
    Sends the reminders that are due. A batch of one rule at a time is one transaction: it locks the
    customers and what they are reminded of, looks again whether each reminder still applies, notes
    it in private.sent_reminders, and posts the messages. Locks: identities, contacts, jobs, invoices,
    balances, conversations, as everywhere. What somebody else holds is left for a later call.
*/
insert into private.sentences (key, language, sentence)
values
    ('reminder.opted_out', 'en', 'The customer wants no reminders.'),
    ('reminder.opted_out', 'sl', 'Stranka ne želi opomnikov.'),
    ('reminder.no_marketing', 'en', 'The customer stopped marketing messages on WhatsApp.'),
    ('reminder.no_marketing', 'sl', 'Stranka je na WhatsAppu odjavila tržna sporočila.'),
    ('reminder.unreachable', 'en', 'The customer has neither a proved number on WhatsApp nor a login to the portal that the rule could use.'),
    ('reminder.unreachable', 'sl', 'Stranka nima potrjene številke na WhatsAppu niti prijave v portal, ki bi ju pravilo lahko uporabilo.'),
    ('reminder.template', 'en', 'WhatsApp does not send the template now.'),
    ('reminder.template', 'sl', 'WhatsApp te predloge trenutno ne pošilja.'),
    ('reminder.unfilled', 'en', '{variable} has no value for this customer.'),
    ('reminder.unfilled', 'sl', '{variable} za to stranko nima vrednosti.'),
    ('reminder.quiet_hours', 'en', 'The quiet hours leave no time to send it.'),
    ('reminder.quiet_hours', 'sl', 'Zaradi ur miru ni časa za pošiljanje.');


create type private.planned_reminder as (
    due             private.reminder_occasion,
    -- whatsapp or portal; null if it can't be sent
    way             text,
    -- null on WhatsApp: it is opened at address
    conversation_id uuid,
    address         private.whatsapp_address,
    message         text,
    content         jsonb,
    -- the end of the key of a sentence
    reason          text,
    variable        text
);


create function private.can_send_template(rule public.reminder_rules)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if rule.template is null or exists (
        select
        from public.whatsapp_channels w
        where w.id = rule.whatsapp_channel_id
          and w.stopped_at is not null
    ) then
        return false;
    end if;
    perform private.check_known_template(
        rule.template, whatsapp_channel_id => rule.whatsapp_channel_id);
    return true;
exception
    when sqlstate 'PT422' then
        return false;
end
$$;


create function private.filled_variables(given jsonb, values_of jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- WhatsApp takes one line of at most 1,024 characters
    return (
        select coalesce(
            jsonb_object_agg(
                g.key,
                case jsonb_typeof(g.value)
                    when 'string' then to_jsonb(left(
                        regexp_replace(
                            private.filled_text(g.value #>> '{}', values_of), '\s+', ' ', 'g'),
                        1024
                    ))
                    else g.value
                end
            ),
            '{}'
        )
        from jsonb_each(given) g
    );
end
$$;


create function private.plan_reminders(
    rule public.reminder_rules,
    due private.reminder_occasion[]
)
    returns setof private.planned_reminder
    language plpgsql
    stable
    set search_path = ''
    -- rows are looked up by key, a few hundred at a time
    set enable_seqscan = off
    set jit = off
as $$
declare
    template constant public.whatsapp_templates := private.rule_template(rule);
    can_send constant boolean := private.can_send_template(rule);
    -- a template of an unknown category may be marketing
    is_marketing constant boolean := coalesce(upper(template.category), 'MARKETING') = 'MARKETING';
    given constant jsonb := rule.template -> 'variables';
    texts constant text := (
        select string_agg(g.value, ' ')
        from jsonb_each_text(given) g
    );
    names constant text[] := private.variables_in(concat(texts, rule.text));
begin
    return query
        -- materialized: Postgres would compute a value anew wherever it is used
        with met as materialized (
            select
                d.place,
                c.id,
                c.preferences,
                c.portal_user_id,
                t.marketing_stopped_at is not null and is_marketing as is_stopped,
                k.id as thread,
                case when rule.template is not null and c.id is not null and k.id is null then
                    private.whatsapp_address(
                        account_id => rule.account_id,
                        contact_id => c.id,
                        whatsapp_channel_id => rule.whatsapp_channel_id
                    )
                end as address
            from unnest(due) with ordinality as d (
                subject_id, occasion, customer_id, job_id, invoice_id, due_at, ends_at, place
            )
            left join public.customers c
                on c.id = d.customer_id
               and c.account_id = rule.account_id
            left join public.contacts t
                on t.id = d.customer_id
            left join lateral (
                select o.id
                from public.conversations o
                join public.conversation_activity a
                    on a.conversation_id = o.id
                where o.customer_id = d.customer_id
                  and o.account_id = rule.account_id
                  and o.channel = 'whatsapp'
                  and o.whatsapp_channel_id = rule.whatsapp_channel_id
                order by o.status = 'closed', a.last_message_at desc, o.id
                limit 1
            ) k
                on rule.template is not null
        ),
        reached as materialized (
            select
                m.*,
                case
                    when m.id is null or not private.wants_reminders(m.preferences) then null
                    when can_send
                        and (m.thread is not null or (m.address).identity_key is not null)
                        and not m.is_stopped
                        then 'whatsapp'
                    when rule.text is not null and m.portal_user_id is not null then 'portal'
                end as way
            from met m
        ),
        known as materialized (
            select
                r.*,
                case when r.way is not null then private.text_variables(
                    account_id => rule.account_id,
                    customer_id => r.id,
                    user_id => null,
                    job_id => due[r.place].job_id,
                    invoice_id => due[r.place].invoice_id,
                    names => names
                ) end as variables
            from reached r
        ),
        filled as materialized (
            select
                k.*,
                private.unfilled_variable(
                    case k.way when 'whatsapp' then texts when 'portal' then rule.text end,
                    k.variables
                ) as variable
            from known k
        ),
        worded as materialized (
            select
                f.*,
                case
                    when f.way = 'whatsapp' and f.variable is null and given is not null
                        then private.filled_variables(given, f.variables)
                end as filled_in
            from filled f
        )
        select
            due[w.place],
            case when w.variable is null then w.way end,
            case when w.way = 'whatsapp' and w.variable is null then w.thread end,
            case when w.way = 'whatsapp' and w.variable is null then w.address end,
            case
                when w.variable is not null then null
                when w.way = 'portal' then private.filled_text(rule.text, w.variables)
                when w.way = 'whatsapp' then coalesce(
                    private.filled_template_text(
                        components => template.components, given => coalesce(w.filled_in, '{}')),
                    '[template]'
                )
            end,
            case
                when w.variable is not null then null
                when w.way = 'portal' then jsonb_build_object(
                    'event', 'reminder.' || rule.kind,
                    'rule_id', rule.id,
                    'job_id', due[w.place].job_id,
                    'invoice_id', due[w.place].invoice_id
                )
                when w.way = 'whatsapp' and given is null then rule.template
                when w.way = 'whatsapp' then rule.template || jsonb_build_object(
                    'variables', w.filled_in,
                    'components', private.filled_components(
                        wanted => template.variables, given => w.filled_in)
                )
            end,
            case
                when w.variable is not null then 'unfilled'
                when w.way is not null then null
                when w.id is not null and not private.wants_reminders(w.preferences) then 'opted_out'
                when w.id is null or w.thread is null and (w.address).identity_key is null
                    then 'unreachable'
                when not can_send then 'template'
                when w.is_stopped then 'no_marketing'
                else 'unreachable'
            end,
            '{{' || w.variable || '}}'
        from worded w
        order by w.place;
end
$$;


create function private.post_templates(
    rule public.reminder_rules,
    planned private.planned_reminder[]
)
    returns void
    language plpgsql
    set search_path = ''
    -- few rows at a time, found by key
    set plan_cache_mode = force_generic_plan
as $$
declare
    opening private.whatsapp_item[];
    opened private.whatsapp_item;
begin
    perform
    from public.conversations k
    where k.id in (select p.conversation_id from unnest(planned) p)
    order by k.id
    for no key update;

    -- after those that are there, as by webhooks
    opening := array(
        select private.opening_item(
            account_id => rule.account_id,
            whatsapp_channel_id => rule.whatsapp_channel_id,
            contact_id => (p.due).customer_id,
            address => p.address,
            index => p.place::integer
        )
        from unnest(planned) with ordinality as p (
            due, way, conversation_id, address, message, content, reason, variable, place
        )
        where p.conversation_id is null
    );
    if opening <> '{}' then
        foreach opened in array private.open_whatsapp_threads(opening) loop
            if opened.contact_id <> (planned[opened.index].due).customer_id then
                raise sqlstate '40001' using
                    message = 'The number of a customer was another''s meanwhile.',
                    hint = 'Try again.';
            end if;
            planned[opened.index].conversation_id := opened.conversation_id;
        end loop;
    end if;

    -- numbered as everywhere, see conversation_activity.last_seq
    with posted as (
        insert into public.messages (
            account_id, conversation_id, customer_id, whatsapp_channel_id, seq, sender_type, type,
            message, content, status, sent_at
        )
        select
            k.account_id,
            k.id,
            k.customer_id,
            k.whatsapp_channel_id,
            a.last_seq + row_number() over (partition by k.id order by (p.due).due_at, (p.due).subject_id),
            'system',
            'template',
            p.message,
            p.content,
            'queued',
            now()
        from unnest(planned) p
        join public.conversations k
            on k.id = p.conversation_id
        join public.conversation_activity a
            on a.conversation_id = k.id
        returning conversation_id
    )
    update public.conversation_activity a
    set last_seq = a.last_seq + p.added,
        last_message_at = greatest(a.last_message_at, now())
    from (
        select p.conversation_id, count(*) as added
        from posted p
        group by p.conversation_id
    ) p
    where a.conversation_id = p.conversation_id;
end
$$;


create function private.hold_reminded(
    rule public.reminder_rules,
    due private.reminder_occasion[]
)
    returns private.reminder_occasion[]
    language plpgsql
    set search_path = ''
as $$
declare
    openers uuid[] := '{}';
    addresses text[];
    customers uuid[];
    subjects uuid[];
begin
    -- whose conversations may be opened: they stay theirs until then
    if rule.template is not null then
        openers := array(
            select d.customer_id
            from unnest(due) d
            where not exists (
                select
                from public.conversations k
                where k.customer_id = d.customer_id
                  and k.account_id = rule.account_id
                  and k.channel = 'whatsapp'
                  and k.whatsapp_channel_id = rule.whatsapp_channel_id
            )
        );
    end if;
    if openers <> '{}' then
        addresses := array(
            select i.kind || ':' || i.match_key
            from public.contact_identities i
            where i.contact_id = any (openers)
              and i.account_id = rule.account_id
              and i.kind in ('bsuid', 'phone')
            order by i.kind, i.match_key
            for share skip locked
        );
        openers := array(
            select i.contact_id
            from public.contact_identities i
            where i.contact_id = any (openers)
              and i.account_id = rule.account_id
              and i.kind in ('bsuid', 'phone')
              and i.kind || ':' || i.match_key <> all (addresses)
        );
    end if;
    customers := array(
        select c.id
        from public.contacts c
        where c.id in (select d.customer_id from unnest(due) d)
          -- somebody else holds a number of theirs
          and c.id <> all (openers)
          and c.deleted_at is null
        order by c.id
        for share skip locked
    );
    if rule.kind in ('before_appointment', 'after_job') then
        subjects := array(
            select j.id
            from public.jobs j
            where j.id in (select d.subject_id from unnest(due) d)
            order by j.id
            for share skip locked
        );
    elsif rule.kind in ('invoice_due_in', 'invoice_overdue_by') then
        subjects := array(
            select i.id
            from public.invoices i
            where i.id in (select d.subject_id from unnest(due) d)
            order by i.id
            for share skip locked
        );
    else
        subjects := array(
            select b.customer_id
            from public.loyalty_balances b
            where b.customer_id = any (customers)
            order by b.customer_id
            for share skip locked
        );
    end if;
    return array(
        select d
        from unnest(due) d
        where d.customer_id = any (customers)
          and d.subject_id = any (subjects)
    );
end
$$;


create function private.send_reminders_of(
    rule public.reminder_rules,
    batch integer,
    at timestamptz,
    after_at timestamptz default null,
    after_id uuid default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    due private.reminder_occasion[];
    held private.reminder_occasion[];
    planned private.planned_reminder[];
    sent private.planned_reminder[];
    dropped integer;
begin
    due := array(
        select d.due
        from private.due_reminders(
            rule, at => at, most => batch, after_at => after_at, after_id => after_id) d
    );
    if due = '{}' then
        return jsonb_build_object('found', 0, 'sent', 0, 'dropped', 0, 'last', null);
    end if;
    held := private.hold_reminded(rule, due);
    -- once they are locked: whether each still applies, for the same customer
    held := array(
        select d.due
        from private.due_reminders(
            rule, at => at, subject_ids => array(select h.subject_id from unnest(held) h)) d
        where d.due in (select h from unnest(held) h)
    );
    planned := array(
        select p
        from private.plan_reminders(rule, held) p
    );

    with settled as (
        insert into private.sent_reminders (
            rule_id, subject_id, occasion, account_id, reason, over_at
        )
        select
            rule.id,
            (p.due).subject_id,
            (p.due).occasion,
            rule.account_id,
            p.reason,
            private.occasion_over_at(rule.kind, p.due)
        from unnest(planned) p
        on conflict do nothing
        returning subject_id, occasion
    )
    -- what another worker has settled meanwhile is neither sent nor dropped here
    select
        array_agg(p order by (p.due).due_at, (p.due).subject_id) filter (where p.reason is null),
        count(*) filter (where p.reason is not null)
    into sent, dropped
    from unnest(planned) p
    join settled s
        on s.subject_id = (p.due).subject_id
       and s.occasion = (p.due).occasion;

    if exists (select from unnest(sent) p where p.way = 'whatsapp') then
        perform private.post_templates(
            rule, array(select p from unnest(sent) p where p.way = 'whatsapp'));
    end if;
    if exists (select from unnest(sent) p where p.way = 'portal') then
        perform private.post_notices(array(
            select (
                rule.account_id, (p.due).customer_id, (p.due).job_id, p.message, p.content, null
            )::private.notice
            from unnest(sent) p
            where p.way = 'portal'
        ));
    end if;
    return jsonb_build_object(
        'found', cardinality(due),
        'sent', coalesce(cardinality(sent), 0),
        'dropped', dropped,
        'last', jsonb_build_object(
            'due_at', due[cardinality(due)].due_at, 'subject_id', due[cardinality(due)].subject_id)
    );
end
$$;


create function private.tg_jobs__ring()
    returns trigger
    language plpgsql
    -- definer: users may not wake workers
    security definer
    set search_path = ''
as $$
begin
    -- a reminder that becomes due by the time alone is found by the schedule
    if exists (
        select
        from public.reminder_rules r
        where r.account_id = new.account_id
          and r.is_active
          and case r.kind
              when 'before_appointment' then
                  new.status in ('scheduled', 'rescheduled')
                  and now() between new.starts_at - make_interval(mins => r.minutes) and new.starts_at
              when 'after_job' then
                  new.status = 'completed'
                  and now() >= coalesce(new.ends_at, new.starts_at) + make_interval(mins => r.minutes)
          end
    ) then
        perform private.ring('send_later');
    end if;
    return null;
end
$$;

create trigger _600_ring_insert
    after insert on public.jobs
    for each row
    execute function private.tg_jobs__ring();

create trigger _600_ring_update
    after update of status, starts_at, ends_at on public.jobs
    for each row
    when (
        (new.status, new.starts_at, new.ends_at) is distinct from (old.status, old.starts_at, old.ends_at)
    )
    execute function private.tg_jobs__ring();


create function private.prune_sent_reminders(batch integer, kept interval)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with over as (
        select s.rule_id, s.subject_id, s.occasion
        from private.sent_reminders s
        where s.over_at < now() - kept
        order by s.over_at
        limit batch
        -- another run may be deleting them
        for update skip locked
    )
    delete from private.sent_reminders s
    using over o
    where s.rule_id = o.rule_id
      and s.subject_id = o.subject_id
      and s.occasion = o.occasion;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.send_reminders(
    batch integer default 500,
    at timestamptz default now(),
    -- what the call before answered, where it was not done
    after jsonb default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    most constant integer := least(greatest(batch, 1), 1000);
    -- of many rules no call looks through all
    ends_at constant timestamptz := clock_timestamp() + interval '1 second';
    rule public.reminder_rules;
    rule_id uuid;
    done jsonb;
    examined integer := 0;
    sent integer := 0;
    dropped integer := 0;
    goes_on jsonb;
begin
    for rule_id in
        select r.id
        from public.reminder_rules r
        where r.is_active
          and (after is null or r.id >= (after ->> 'rule_id')::uuid)
          -- those of a paused account wait until it is resumed, or until the occasions are over
          and not exists (
              select
              from public.accounts a
              where a.id = r.account_id
                and a.paused_at is not null
          )
        order by r.id
    loop
        if examined >= most or clock_timestamp() > ends_at then
            goes_on := jsonb_build_object('rule_id', rule_id);
            exit;
        end if;
        -- it is not changed while its reminders are sent
        select r.*
        into rule
        from public.reminder_rules r
        where r.id = rule_id
          and r.is_active
        for share skip locked;
        continue when not found;
        -- it waits until WhatsApp sends its template again, or until the occasions are over
        continue when rule.text is null and not private.can_send_template(rule);

        done := private.send_reminders_of(
            rule,
            batch => most - examined,
            at => at,
            after_at => case when rule_id::text = after ->> 'rule_id'
                then (after ->> 'due_at')::timestamptz end,
            after_id => case when rule_id::text = after ->> 'rule_id'
                then (after ->> 'subject_id')::uuid end
        );
        examined := examined + (done ->> 'found')::integer;
        sent := sent + (done ->> 'sent')::integer;
        dropped := dropped + (done ->> 'dropped')::integer;
        if examined >= most then
            goes_on := done -> 'last' || jsonb_build_object('rule_id', rule_id);
            exit;
        end if;
    end loop;
    return jsonb_build_object(
        'sent', sent,
        'dropped', dropped,
        'is_done', goes_on is null,
        'after', goes_on
    );
end
$$;

grant execute on function backend.send_reminders(integer, timestamptz, jsonb) to service_role;


comment on type private.planned_reminder is
    'A reminder as it will be sent, or the reason why it will not.';
comment on function private.can_send_template(public.reminder_rules) is
    'Whether WhatsApp sends the template of a rule now; false for a rule without one.';
comment on function private.filled_variables(jsonb, jsonb) is
    'The variables of a rule''s template with the values of a customer, each in one line.';
comment on function private.plan_reminders(
    public.reminder_rules, private.reminder_occasion[]
) is
    'How each customer will be reminded, in the order given: by WhatsApp, in the portal, or not and why.';
comment on function private.post_templates(
    public.reminder_rules, private.planned_reminder[]
) is
    'Posts reminders as template messages of the system, and queues them for WhatsApp; opens conversations where there are none.';
comment on function private.hold_reminded(
    public.reminder_rules, private.reminder_occasion[]
) is
    'Locks the customers and subjects of reminders, and the identities by which conversations may be opened; returns the reminders whose locks were free.';
comment on function private.send_reminders_of(
    public.reminder_rules, integer, timestamptz, timestamptz, uuid
) is
    'Looks at up to batch reminders of one rule that are due, and sends them: {found, sent, dropped, last: {due_at, subject_id}}.';
comment on function private.tg_jobs__ring() is
    'Wakes the worker that sends reminders, if a job''s new time or status makes one due.';
comment on function private.prune_sent_reminders(integer, interval) is
    'Deletes at most batch notes of reminders whose occasions have been over for longer than that; returns their number.';
comment on function backend.send_reminders(integer, timestamptz, jsonb) is
    'Looks at up to batch reminders (at most 1,000) that are due, sends them, or drops those that reach nobody: {sent, dropped, is_done, after}. Call it again, with after, until is_done.'
    ' Type: {sent: integer, dropped: integer, is_done: boolean, after: json | null}';


/*
    What will be sent: a page of the reminders to come, computed as the worker computes them. And a
    dry run: what a rule that is not there yet would have sent.
*/
create function private.reminder_row(
    rule public.reminder_rules,
    planned private.planned_reminder,
    send_at timestamptz
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'rule_id', rule.id,
        'rule_name', rule.name,
        'kind', rule.kind,
        'customer_id', (planned.due).customer_id,
        'customer_name', (
            select c.name
            from public.customers c
            where c.id = (planned.due).customer_id
              and c.account_id = rule.account_id
        ),
        'job_id', (planned.due).job_id,
        'invoice_id', (planned.due).invoice_id,
        'due_at', (planned.due).due_at,
        'send_at', case when planned.reason is null then send_at end,
        'way', planned.way,
        'message', planned.message,
        'reason', planned.reason,
        'why_not', case when planned.reason is not null then private.words(
            rule.account_id,
            'reminder.' || planned.reason,
            jsonb_build_object('variable', planned.variable)
        ) end
    );
end
$$;


create function private.reminder_rows(
    rule public.reminder_rules,
    occasions private.reminder_occasion[],
    times timestamptz[]
)
    returns table (place bigint, reminder jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select
            p.place,
            private.reminder_row(
                rule,
                case
                    -- nobody can be reached in time
                    when times[p.place] is null and p.reason is null then (
                        occasions[p.place], null, null, null, null, null, 'quiet_hours', null
                    )::private.planned_reminder
                    else (
                        occasions[p.place], p.way, p.conversation_id, p.address, p.message, p.content,
                        p.reason, p.variable
                    )::private.planned_reminder
                end,
                times[p.place]
            )
        from private.plan_reminders(rule, occasions) with ordinality as p (
            due, way, conversation_id, address, message, content, reason, variable, place
        );
end
$$;


create function private.upcoming_reminders(
    account_id uuid,
    until timestamptz,
    cursor jsonb,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    -- definer: users may not call its helpers; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    most constant integer := least(greatest(page_size, 1), 200);
    page jsonb;
    next_cursor jsonb;
begin
    perform private.require_member(upcoming_reminders.account_id);
    if until is null or until > now() + interval '1 year' then
        raise sqlstate 'PT422' using
            message = 'Reminders are computed for the coming year at most.',
            detail = 'field: until',
            hint = 'Give a time within the next year.';
    end if;

    with listed as materialized (
        select
            r as rule,
            d.due,
            d.send_at,
            coalesce(d.send_at, (d.due).due_at) as sorted_at
        from public.reminder_rules r
        cross join lateral private.due_reminders(r, at => now(), until => until) d
        where r.account_id = upcoming_reminders.account_id
          and r.is_active
    ),
    paged as materialized (
        select
            l.*,
            row_number() over (order by l.sorted_at, (l.rule).id, (l.due).subject_id) as place
        from listed l
        where cursor is null
           or (l.sorted_at, (l.rule).id, (l.due).subject_id)
            > ((cursor ->> 0)::timestamptz, (cursor ->> 1)::uuid, (cursor ->> 2)::uuid)
        order by l.sorted_at, (l.rule).id, (l.due).subject_id
        limit most
    ),
    -- one call for the customers of each rule
    grouped as materialized (
        select
            p.rule,
            array_agg(p.due order by p.place) as due,
            array_agg(p.send_at order by p.place) as send_at,
            array_agg(p.place order by p.place) as places
        from paged p
        group by p.rule
    )
    select
        coalesce(
            (
                select jsonb_agg(w.reminder order by g.places[w.place])
                from grouped g
                cross join lateral private.reminder_rows(g.rule, g.due, g.send_at) w
            ),
            '[]'
        ),
        (
            select jsonb_build_array(p.sorted_at, (p.rule).id, (p.due).subject_id)
            from paged p
            where p.place = most
        )
    into page, next_cursor;
    return jsonb_build_object('reminders', page, 'cursor', next_cursor);
end
$$;

grant execute on function private.upcoming_reminders(uuid, timestamptz, jsonb, integer)
    to authenticated;


create function public.upcoming_reminders(
    account_id uuid,
    until timestamptz default now() + interval '7 days',
    cursor jsonb default null,
    page_size integer default 50
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.upcoming_reminders(
        account_id => account_id, until => until, cursor => cursor, page_size => page_size);
end
$$;

grant execute on function public.upcoming_reminders(uuid, timestamptz, jsonb, integer)
    to authenticated;


create function private.try_reminder_rule(
    rule public.reminder_rules,
    since timestamptz,
    until timestamptz
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as upcoming_reminders
    security definer
    set search_path = ''
as $$
declare
    -- this many are worded, and counted by reason
    most constant integer := 1000;
    account public.accounts;
    due private.reminder_occasion[];
    send_at timestamptz[];
    found bigint;
begin
    perform private.require_member(rule.account_id);
    if since is null or until is null or since not between now() - interval '1 year' and until then
        raise sqlstate 'PT422' using
            message = 'A rule is tried over a span of the last year.',
            detail = 'field: since',
            hint = 'Give a time within the last year, and before until.';
    elsif rule.kind is null or rule.kind not in (
        'before_appointment', 'after_job', 'invoice_due_in', 'invoice_overdue_by',
        'points_expire_in'
    ) then
        raise sqlstate 'PT422' using
            message = 'There is no such kind of reminder.',
            detail = 'field: kind',
            hint = 'Use before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
    elsif (rule.minutes is null) = (rule.kind in ('before_appointment', 'after_job')) is not false
        or (rule.days is null) = (rule.kind not in ('before_appointment', 'after_job')) is not false
    then
        raise sqlstate 'PT422' using
            message = 'The kind, minutes or days of the rule do not fit together.',
            detail = format(
                'field: %s',
                case
                    when rule.kind in ('before_appointment', 'after_job') then 'minutes'
                    else 'days'
                end
            ),
            hint = 'before_appointment and after_job take minutes; invoice_due_in, invoice_overdue_by and points_expire_in take days.';
    -- the bounds of the table
    elsif rule.minutes not between
        (case rule.kind when 'before_appointment' then 5 else 0 end) and 525600
    then
        raise sqlstate 'PT422' using
            message = format('%s minutes are no time for %s.', rule.minutes, rule.kind),
            detail = 'field: minutes',
            hint = 'before_appointment needs 5 to 525,600 minutes and after_job 0 to 525,600.';
    elsif rule.days not between
        (case rule.kind when 'invoice_overdue_by' then 1 else 0 end) and 365
    then
        raise sqlstate 'PT422' using
            message = format('%s days are no time for %s.', rule.days, rule.kind),
            detail = 'field: days',
            hint = 'invoice_due_in and points_expire_in need 0 to 365 days and invoice_overdue_by 1 to 365.';
    elsif num_nonnulls(rule.template, rule.text) = 0 then
        raise sqlstate 'PT422' using
            message = 'A rule needs a template or a text.',
            detail = 'field: template',
            hint = 'Give the template for WhatsApp, the text for the portal, or both.';
    end if;
    rule := private.checked_reminder_rule(rule);
    select a.*
    into account
    from public.accounts a
    where a.id = rule.account_id;

    select count(*)
    into found
    from private.reminder_occasions(rule, since, until, at => null) o;
    select
        array_agg(o.due order by (o.due).due_at, (o.due).subject_id),
        array_agg(
            private.reminder_time(
                account.quiet_from, account.quiet_until, account.time_zone,
                (o.due).due_at, (o.due).ends_at
            )
            order by (o.due).due_at, (o.due).subject_id
        )
    into due, send_at
    from (
        select d as due
        from private.reminder_occasions(rule, since, until, at => null) d
        order by d.due_at, d.subject_id
        limit most
    ) o;
    return (
        select jsonb_build_object(
            'found', found,
            'sent', count(*) filter (where w.reminder ->> 'reason' is null),
            'dropped', (
                select coalesce(jsonb_object_agg(n.reason, n.number), '{}')
                from (
                    select d.reminder ->> 'reason' as reason, count(*) as number
                    from private.reminder_rows(rule, due, send_at) d
                    where d.reminder ->> 'reason' is not null
                    group by d.reminder ->> 'reason'
                ) n
            ),
            'reminders', coalesce(
                jsonb_agg(w.reminder - 'rule_id' order by w.place) filter (where w.place <= 50), '[]')
        )
        from private.reminder_rows(rule, coalesce(due, '{}'), coalesce(send_at, '{}')) w
    );
end
$$;

grant execute on function private.try_reminder_rule(
    public.reminder_rules, timestamptz, timestamptz
)
    to authenticated;


create function public.try_reminder_rule(
    account_id uuid,
    kind text,
    minutes integer default null,
    days integer default null,
    time_of_day time default '09:00',
    template jsonb default null,
    whatsapp_channel_id uuid default null,
    text text default null,
    since timestamptz default now() - interval '30 days',
    until timestamptz default now()
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    rule public.reminder_rules;
begin
    rule.account_id := account_id;
    rule.name := 'dry run';
    rule.kind := kind;
    rule.minutes := minutes;
    rule.days := days;
    rule.time_of_day := coalesce(time_of_day, '09:00');
    rule.template := template;
    rule.whatsapp_channel_id := whatsapp_channel_id;
    rule.text := text;
    return private.try_reminder_rule(rule, since => since, until => until);
end
$$;

grant execute on function public.try_reminder_rule(
    uuid, text, integer, integer, time, jsonb, uuid, text, timestamptz, timestamptz
)
    to authenticated;


comment on function private.reminder_row(
    public.reminder_rules, private.planned_reminder, timestamptz
) is
    'A planned reminder for people to read.';
comment on function private.reminder_rows(
    public.reminder_rules, private.reminder_occasion[], timestamptz[]
) is
    'Planned reminders for people to read, with their places.';
comment on function private.upcoming_reminders(uuid, timestamptz, jsonb, integer) is
    'A page of the reminders that an account''s rules will send.';
comment on function private.try_reminder_rule(
    public.reminder_rules, timestamptz, timestamptz
) is
    'What a rule would have sent between two times.';
comment on function public.upcoming_reminders(uuid, timestamptz, jsonb, integer) is
    'The reminders that will be sent until a time (UTC; 7 days if none is given, at most a year), earliest first. way is whatsapp or portal; a reminder that will not be sent has null and says why_not in the account''s language. Give the cursor back for the next page (page_size, at most 200); null is the end. What moves meanwhile moves here too.'
    ' Type: {reminders: {rule_id: uuid, rule_name: text, kind: reminder_rules.kind, customer_id: uuid, customer_name: text | null, job_id: uuid | null, invoice_id: uuid | null, due_at: timestamptz, send_at: timestamptz | null, way: "whatsapp" | "portal" | null, message: text | null, reason: text | null, why_not: text | null}[], cursor: json | null}';
comment on function public.try_reminder_rule(
    uuid, text, integer, integer, time, jsonb, uuid, text, timestamptz, timestamptz
) is
    'What a rule with these columns of reminder_rules would have sent in the last 30 days, or between since and until, as far as jobs, invoices and points still tell. dropped counts by reason. Of more than 1,000 the first 1,000 are counted by reason; the first 50 are shown. Nothing is written or sent.'
    ' Type: {found: bigint, sent: bigint, dropped: {[text]: bigint}, reminders: {rule_name: text, kind: reminder_rules.kind, customer_id: uuid, customer_name: text | null, job_id: uuid | null, invoice_id: uuid | null, due_at: timestamptz, send_at: timestamptz | null, way: "whatsapp" | "portal" | null, message: text | null, reason: text | null, why_not: text | null}[]}';
