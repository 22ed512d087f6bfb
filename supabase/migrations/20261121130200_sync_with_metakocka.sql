/*
    Contacts and their partners at Metakocka: what both sides last agreed on, what is to be sent,
    and the runs that bring them together. And the tables that clients follow from now on.
*/
alter table public.contacts
    add column gsm text constraint contacts_gsm_check check (length(gsm) <= 255),
    add column fax text constraint contacts_fax_check check (length(fax) <= 255),
    add column business_entity boolean,
    add column taxpayer boolean,
    add column foreign_county boolean,
    add column buyer boolean,
    add column supplier boolean,
    add column tax_id_number text
        constraint contacts_tax_id_number_check
        check (length(tax_id_number) <= 50),
    add column registration_number text
        constraint contacts_registration_number_check
        check (length(registration_number) <= 50),
    add column street text constraint contacts_street_check check (length(street) <= 150),
    add column post_number text
        constraint contacts_post_number_check
        check (length(post_number) <= 20),
    add column place text constraint contacts_place_check check (length(place) <= 100),
    add column province text constraint contacts_province_check check (length(province) <= 50),
    add column country text constraint contacts_country_check check (length(country) <= 50),
    add column people jsonb not null default '[]'
        constraint contacts_people_check
        check (jsonb_typeof(people) = 'array' and octet_length(people::text) <= 32768),
    add column addresses jsonb not null default '[]'
        constraint contacts_addresses_check
        check (jsonb_typeof(addresses) = 'array' and octet_length(addresses::text) <= 32768),
    drop constraint contacts_deleted_check;

alter table public.contacts
    add constraint contacts_deleted_check
        check (
            deleted_at is null
            or (
                num_nonnulls(
                    name, profile_name, phone, email, username, notes, portal_user_id,
                    gsm, fax, business_entity, taxpayer, foreign_county, buyer, supplier,
                    tax_id_number, registration_number, street, post_number, place, province,
                    country
                ) = 0
                and tags = '{}'
                and preferences = '{}'
                and people = '[]'
                and addresses = '[]'
            )
        );

alter table private.changes
    add column customer_operation text
        constraint changes_customer_operation_check
        check (customer_operation in ('INSERT', 'UPDATE', 'DELETE'));

alter table private.retention
    add column sync interval not null default interval '90 days'
        constraint retention_sync_check check (sync >= interval '1 day');


comment on column public.contacts.gsm is
    'The mobile number; in E.164 where it could be read as one, and then they are known by it.';

comment on column public.contacts.foreign_county is
    'Whether the country is a foreign one; the ERP''s spelling.';

comment on column public.contacts.people is
    'Further persons of a company: [{mk_id, mk_address_id, name, email, phone, gsm, fax}].';

comment on column public.contacts.addresses is
    'Further addresses: [{mk_id, address_type, street, post_number, city, province, country}].';


/*
    An account's connection to its company at Metakocka. The secret key is a parameter outside
    the database: whoever reads this row can't call Metakocka with it.
*/
create table public.metakocka_connections (
    account_id           uuid primary key
                         constraint metakocka_connections_account_id_fkey
                         references public.accounts on delete cascade,
    company_id           text not null
                         constraint metakocka_connections_company_id_check
                         check (company_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    -- null: the service's own. A named host by TLS and nothing else, since functions call it
    base_url             text
                         constraint metakocka_connections_base_url_check
                         check (
                             length(base_url) <= 255
                             and base_url ~ '^https://([a-z0-9-]+\.)+[a-z]{2,}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$'
                         ),
    -- whose value stands where both sides have changed a field
    conflict_rule        text not null default 'ask'
                         constraint metakocka_connections_conflict_rule_check
                         check (conflict_rule in ('crm', 'metakocka', 'newest', 'ask')),
    -- how changed partners are found, since the service can't be asked for them
    listing              text not null default 'all'
                         constraint metakocka_connections_listing_check
                         check (listing in ('all', 'documents')),
    active               boolean not null default true,
    sync_interval        interval not null default interval '15 minutes'
                         constraint metakocka_connections_sync_interval_check
                         check (sync_interval between interval '1 minute' and interval '7 days'),
    -- who connected it
    user_id              uuid default auth.uid()
                         constraint metakocka_connections_user_id_fkey
                         references auth.users on delete set null,
    -- up to where documents have been looked through for their partners
    documents_seen_until timestamptz,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    version              bigint not null default 1
);
alter table public.metakocka_connections enable row level security;


create policy "admins can read their connection to Metakocka"
    on public.metakocka_connections
    for select
    to authenticated
    using (account_id = any (array(select private.my_admin_account_ids())));

create policy "admins can connect their accounts to Metakocka"
    on public.metakocka_connections
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_admin_account_ids())));

create policy "admins can change their connection to Metakocka"
    on public.metakocka_connections
    for update
    to authenticated
    using (account_id = any (array(select private.my_admin_account_ids())))
    with check (account_id = any (array(select private.my_admin_account_ids())));

create policy "admins can end their connection to Metakocka"
    on public.metakocka_connections
    for delete
    to authenticated
    using (account_id = any (array(select private.my_admin_account_ids())));


grant select, delete on public.metakocka_connections to authenticated;

grant insert (account_id, company_id, base_url, conflict_rule, listing, active, sync_interval)
    on public.metakocka_connections
    to authenticated;

grant update (company_id, base_url, conflict_rule, listing, active, sync_interval)
    on public.metakocka_connections
    to authenticated;


create trigger _050_keep_owner
    before update on public.metakocka_connections
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_connections
    for each row
    execute function private.tg__stamp_change();

create trigger _200_require_rows_before_insert
    before insert on public.metakocka_connections
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_insert
    after insert on public.metakocka_connections
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_update
    after update on public.metakocka_connections
    referencing new table as hit_rows
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_delete
    after delete on public.metakocka_connections
    referencing old table as hit_rows
    for each statement
    execute function private.tg__require_rows();


comment on table public.metakocka_connections is
    'An account''s connection to its company at Metakocka; the secret key is not here.';
comment on column public.metakocka_connections.base_url is
    'Of a company with a server of its own; null for https://main.metakocka.si/rest/eshop/v1.';
comment on column public.metakocka_connections.conflict_rule is
    'Whose value stands where both sides have changed a field: crm, metakocka, newest, or ask, which leaves it to a person (sync_conflicts).';
comment on column public.metakocka_connections.listing is
    'all: every partner is listed and compared; documents: the partners of documents that changed.';
comment on column public.metakocka_connections.active is
    'Without it nothing is synchronized and no change is noted.';
comment on column public.metakocka_connections.sync_interval is
    'How often partners are looked through; contacts that change are sent at once.';
comment on column public.metakocka_connections.user_id is
    'Who connected it.';
comment on column public.metakocka_connections.documents_seen_until is
    'Up to where documents have been looked through for their partners.';
comment on policy "admins can read their connection to Metakocka" on public.metakocka_connections is
    'How an account is connected is for those who administer it.';
comment on policy "admins can connect their accounts to Metakocka" on public.metakocka_connections is
    'One connection an account.';
comment on policy "admins can change their connection to Metakocka" on public.metakocka_connections is
    'Not up to where it has read, which the sync knows alone.';
comment on policy "admins can end their connection to Metakocka" on public.metakocka_connections is
    'Mappings stay, so that it can be connected again without doubles.';


/*
    Which partner at Metakocka a contact is, and on what both sides last agreed. The agreed
    state is what makes a one-sided edit one: whichever side differs from it has changed.
*/
create table public.metakocka_contact_mappings (
    contact_id     uuid primary key,
    account_id     uuid not null,
    -- null: not there yet
    metakocka_id   text
                   constraint metakocka_contact_mappings_metakocka_id_check
                   check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- the fields as last agreed; null where nothing ever was
    base           jsonb
                   constraint metakocka_contact_mappings_base_check
                   check (jsonb_typeof(base) = 'object' and octet_length(base::text) <= 131072),
    -- of the partner as last seen: one that has the same needs no look
    partner_hash   text
                   constraint metakocka_contact_mappings_partner_hash_check
                   check (length(partner_hash) <= 128),
    -- the contact's version with which the agreed state was reached
    base_version   bigint,
    state          text not null
                   constraint metakocka_contact_mappings_state_check
                   check (state in ('synced', 'waiting', 'conflict', 'blocked', 'unknown')),
    -- the fields without which it can't be sent
    missing        text[] not null default '{}'
                   constraint metakocka_contact_mappings_missing_check
                   check (cardinality(missing) <= 30 and array_position(missing, null) is null),
    -- whose doing it is: who connected the account, or asked for the run
    user_id        uuid
                   constraint metakocka_contact_mappings_user_id_fkey
                   references auth.users on delete set null,
    last_synced_at timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    version        bigint not null default 1,

    constraint metakocka_contact_mappings_metakocka_id_key unique (account_id, metakocka_id),
    constraint metakocka_contact_mappings_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- what is agreed with somebody is agreed with a partner
    constraint metakocka_contact_mappings_synced_check
        check (metakocka_id is not null or (state <> 'synced' and base is null))
);
alter table public.metakocka_contact_mappings enable row level security;

create policy "members can read which partners their contacts are"
    on public.metakocka_contact_mappings
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.metakocka_contact_mappings to authenticated;


create trigger _050_keep_owner
    before update on public.metakocka_contact_mappings
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_contact_mappings
    for each row
    execute function private.tg__stamp_change();


comment on table public.metakocka_contact_mappings is
    'Which partner at Metakocka a contact is, and on what both last agreed.';
comment on column public.metakocka_contact_mappings.metakocka_id is
    'The partner''s mk_id; null while it is not there.';
comment on column public.metakocka_contact_mappings.base is
    'The fields as last agreed; whichever side differs from it has changed since.';
comment on column public.metakocka_contact_mappings.partner_hash is
    'A digest of the partner as last seen.';
comment on column public.metakocka_contact_mappings.base_version is
    'The contact''s version with which the agreed state was reached.';
comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or looked at; conflict: a person decides (sync_conflicts); blocked: it can''t be sent, see missing, or the contact is deleted; unknown: it may have been made there, which is being found out.';
comment on column public.metakocka_contact_mappings.missing is
    'The fields that Metakocka asks for and that the contact lacks.';
comment on column public.metakocka_contact_mappings.user_id is
    'Who connected the account, or asked for the sync that wrote this.';
comment on column public.metakocka_contact_mappings.last_synced_at is
    'When both sides last agreed on something new.';
comment on policy "members can read which partners their contacts are" on public.metakocka_contact_mappings is
    'Whoever may read the contacts.';


/*
    A run of the sync: what a dashboard sees moving, and where the next one goes on if this one
    ends early. An account has one run at a time; whose it is, its lease says.
*/
create table public.sync_runs (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint sync_runs_account_id_fkey
                references public.accounts on delete cascade,
    direction   text not null
                constraint sync_runs_direction_check
                check (direction in ('to_metakocka', 'from_metakocka', 'both')),
    trigger     text not null
                constraint sync_runs_trigger_check
                check (trigger in ('schedule', 'wake', 'user', 'cli')),
    state       text not null default 'queued'
                constraint sync_runs_state_check
                check (state in ('queued', 'running', 'stopped', 'done', 'failed')),
    -- null: not known yet
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
    -- how many errors of each kind
    errors      jsonb not null default '{}'
                constraint sync_runs_errors_check
                check (jsonb_typeof(errors) = 'object' and octet_length(errors::text) <= 8192),
    -- who asked for it; null for the schedule's and the doorbell's
    user_id     uuid
                constraint sync_runs_user_id_fkey
                references auth.users on delete set null,
    started_at  timestamptz,
    finished_at timestamptz,
    duration_ms bigint
                constraint sync_runs_duration_ms_check check (duration_ms >= 0),
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     bigint not null default 1,
    -- what was asked for: {contact_ids} or {metakocka_ids}; all without
    request     jsonb not null default '{}'
                constraint sync_runs_request_check
                check (jsonb_typeof(request) = 'object' and octet_length(request::text) <= 131072),
    -- where the next one goes on
    cursor      jsonb
                constraint sync_runs_cursor_check check (octet_length(cursor::text) <= 65536),
    -- something was written without telling it: who follows reads again at the end
    quiet       boolean not null default false,

    -- what a foreign key of the same account refers to
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

-- asked for twice before it begins is asked for once
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
    before update on public.sync_runs
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.sync_runs
    for each row
    execute function private.tg__stamp_change();


/*
    Who is at work for an account. A lease that is not extended in time is another's to take.
*/
create table private.sync_leases (
    account_id  uuid primary key
                constraint sync_leases_account_id_fkey
                references public.accounts on delete cascade,
    run_id      uuid not null,
    worker      text not null
                constraint sync_leases_worker_check check (length(worker) between 1 and 128),
    lease_until timestamptz not null,

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
comment on column public.sync_runs.direction is
    'to_metakocka, from_metakocka or both.';
comment on column public.sync_runs.trigger is
    'What it was begun by: the schedule, a changed contact (wake), a user, the command line.';
comment on column public.sync_runs.state is
    'queued: it was asked for; running; stopped: its time was over, the next goes on with it; done; failed.';
comment on column public.sync_runs.total is
    'How many contacts or partners there are to look at; null while that is not known.';
comment on column public.sync_runs.done is
    'How many have been looked at: succeeded, failed and unchanged together.';
comment on column public.sync_runs.errors is
    'How many errors of each kind: {kind: count}.';
comment on column public.sync_runs.duration_ms is
    'From its beginning to its end, in milliseconds.';
comment on column public.sync_runs.user_id is
    'Who asked for it; null for those that nobody asked for.';
comment on column public.sync_runs.request is
    'What was asked for: {contact_ids} or {metakocka_ids}; everything without.';
comment on column public.sync_runs.cursor is
    'Where the next one goes on.';
comment on column public.sync_runs.quiet is
    'Whether contacts were written without an event for each: one resync tells of all at the end.';
comment on policy "members can read the sync runs of their accounts" on public.sync_runs is
    'Whoever may read the contacts.';
comment on table private.sync_leases is
    'Who is at work for an account, in which run and until when.';
comment on policy "nobody reads sync leases directly" on private.sync_leases is
    'Runs are read in sync_runs.';


/*
    What the sync can't or didn't decide alone: a field that both sides have changed, or a
    partner that several contacts may be. What a rule has decided is recorded here as well.
*/
create table public.sync_conflicts (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_conflicts_account_id_fkey
                 references public.accounts on delete cascade,
    -- null where it is not known which
    contact_id   uuid,
    metakocka_id text not null
                 constraint sync_conflicts_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- null where the question is which contact it is
    field        text
                 constraint sync_conflicts_field_check check (length(field) between 1 and 128),
    base         jsonb,
    crm          jsonb,
    -- of a field its value, otherwise the partner
    metakocka    jsonb,
    candidates   uuid[] not null default '{}'
                 constraint sync_conflicts_candidates_check check (cardinality(candidates) <= 100),
    state        text not null default 'open'
                 constraint sync_conflicts_state_check check (state in ('open', 'resolved')),
    -- crm, metakocka, a contact's id, new; or agreed, where both sides have come to the same
    choice       text
                 constraint sync_conflicts_choice_check check (length(choice) <= 64),
    -- the account's rule, or a person
    decided_by   text
                 constraint sync_conflicts_decided_by_check
                 check (decided_by in ('crm', 'metakocka', 'newest', 'person', 'both')),
    resolved_by  uuid
                 constraint sync_conflicts_resolved_by_fkey
                 references auth.users on delete set null,
    resolved_at  timestamptz,
    created_at   timestamptz not null default now(),

    constraint sync_conflicts_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- a field is a known contact's
    constraint sync_conflicts_field_contact_check check (field is null or contact_id is not null),
    constraint sync_conflicts_values_check check (
        octet_length(concat(base::text, crm::text, metakocka::text)) <= 262144
    ),
    constraint sync_conflicts_resolved_check check (
        (state = 'resolved') = (resolved_at is not null)
        and (state = 'resolved') = (choice is not null)
        and (state = 'resolved') = (decided_by is not null)
    )
);
alter table public.sync_conflicts enable row level security;


-- a question is asked once
create unique index sync_conflicts_open_key
    on public.sync_conflicts (account_id, metakocka_id, field)
    nulls not distinct
    where state = 'open';

create index sync_conflicts_latest_idx
    on public.sync_conflicts (account_id, created_at desc, id);

create index sync_conflicts_contact_idx
    on public.sync_conflicts (contact_id, account_id);


create policy "members can read the sync conflicts of their accounts"
    on public.sync_conflicts
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.sync_conflicts to authenticated;


comment on table public.sync_conflicts is
    'What both sides have changed and partners that several contacts may be; resolve_sync_conflict decides.';
comment on column public.sync_conflicts.contact_id is
    'Whose field it is; null where the question is which contact the partner is.';
comment on column public.sync_conflicts.field is
    'The field that both sides have changed, of a list such as people.228000046630.email; null where the question is which contact it is.';
comment on column public.sync_conflicts.base is
    'The value as last agreed.';
comment on column public.sync_conflicts.crm is
    'The contact''s value when the conflict was last met.';
comment on column public.sync_conflicts.metakocka is
    'The partner''s value, or the partner itself.';
comment on column public.sync_conflicts.candidates is
    'The contacts that the partner may be.';
comment on column public.sync_conflicts.choice is
    'crm or metakocka, a contact''s id or new; agreed where both sides came to the same.';
comment on column public.sync_conflicts.decided_by is
    'A rule of the connection (crm, metakocka, newest), a person, or both sides.';
comment on policy "members can read the sync conflicts of their accounts" on public.sync_conflicts is
    'Whoever may read the contacts.';


/*
    What went wrong between a contact and its partner, with all that helps to understand it and
    nothing that is secret. For those who administer the account.
*/
create table public.sync_errors (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_errors_account_id_fkey
                 references public.accounts on delete cascade,
    run_id       uuid,
    category     text not null default 'SYNC'
                 constraint sync_errors_category_check check (category = 'SYNC'),
    -- what was being done, such as syncContactToMetakocka
    operation    text not null
                 constraint sync_errors_operation_check check (length(operation) between 1 and 128),
    user_id      uuid
                 constraint sync_errors_user_id_fkey
                 references auth.users on delete set null,
    contact_id   uuid,
    -- or batch
    metakocka_id text
                 constraint sync_errors_metakocka_id_check check (length(metakocka_id) <= 64),
    details      jsonb not null default '{}'
                 constraint sync_errors_details_check
                 check (jsonb_typeof(details) = 'object' and octet_length(details::text) <= 16384),
    code         text not null
                 constraint sync_errors_code_check check (length(code) between 1 and 64),
    message      text not null
                 constraint sync_errors_message_check check (length(message) <= 1000),
    attempts     integer not null default 1
                 constraint sync_errors_attempts_check check (attempts >= 1),
    created_at   timestamptz not null default now(),

    constraint sync_errors_run_fkey
        foreign key (run_id, account_id)
        references public.sync_runs (id, account_id)
        on delete set null (run_id),
    constraint sync_errors_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete set null (contact_id)
);
alter table public.sync_errors enable row level security;


create index sync_errors_latest_idx on public.sync_errors (account_id, created_at desc, id);
create index sync_errors_run_idx on public.sync_errors (run_id, account_id);
create index sync_errors_contact_idx on public.sync_errors (contact_id, account_id);


create policy "admins can read the sync errors of their accounts"
    on public.sync_errors
    for select
    to authenticated
    using (account_id = any (array(select private.my_admin_account_ids())));


grant select on public.sync_errors to authenticated;


comment on table public.sync_errors is
    'Errors of the sync with their context; for owners and admins.';
comment on column public.sync_errors.operation is
    'What was being done.';
comment on column public.sync_errors.metakocka_id is
    'The partner''s mk_id; batch where it was about several.';
comment on column public.sync_errors.details is
    'What else helps to understand it; never a request''s body, which holds the secret key.';
comment on column public.sync_errors.code is
    'The kind of error, in the code''s words.';
comment on column public.sync_errors.attempts is
    'How often it was tried.';
comment on policy "admins can read the sync errors of their accounts" on public.sync_errors is
    'An error log is for those who can do something about it.';


/*
    Contacts that Metakocka does not have as they are: a row is a job. A statement on contacts
    marks what it changes, whoever makes it, and rings. A mark has a number: whoever has sent
    a contact takes away the mark that it saw, not one that came while it was sending.
*/
create sequence private.metakocka_dirty_seq;


create table private.metakocka_dirty (
    contact_id  uuid primary key,
    account_id  uuid not null,
    changed_seq bigint not null default nextval('private.metakocka_dirty_seq'),
    -- several edits in a row are sent as one
    not_before  timestamptz not null default clock_timestamp() + interval '1 second',
    attempts    integer not null default 0,
    lease_until timestamptz,
    worker      text,

    constraint metakocka_dirty_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint metakocka_dirty_lease_check check ((lease_until is null) = (worker is null))
);
alter table private.metakocka_dirty enable row level security;


create index metakocka_dirty_order_idx
    on private.metakocka_dirty (account_id, changed_seq);


create policy "nobody reads the marks directly"
    on private.metakocka_dirty
    for all
    to authenticated
    using (false);


create function private.mark_dirty(
    account_id uuid,
    contact_ids uuid[],
    quiet_for interval default interval '1 second'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update of no row would still run the table's triggers
    if exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = any (contact_ids)
          and m.state in ('synced', 'blocked')
    ) then
        update public.metakocka_contact_mappings m
        set state = 'waiting',
            missing = '{}'
        from (
            select o.contact_id
            from public.metakocka_contact_mappings o
            where o.contact_id = any (contact_ids)
              and o.state in ('synced', 'blocked')
            order by o.contact_id
            for no key update
        ) l
        where m.contact_id = l.contact_id;
    end if;

    insert into private.metakocka_dirty as d (account_id, contact_id, not_before)
    select mark_dirty.account_id, c.id, clock_timestamp() + quiet_for
    from unnest(contact_ids) as c (id)
    order by c.id
    on conflict (contact_id) do update
        set changed_seq = excluded.changed_seq,
            not_before = excluded.not_before,
            attempts = 0;
    perform private.ring('metakocka_sync');
end
$$;


create function private.tg_contacts__mark_dirty()
    returns trigger
    language plpgsql
    -- definer: marks and mappings are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    changed record;
begin
    -- what comes from Metakocka need not go back
    if current_setting('rapport.from_metakocka', true) = 'yes' then
        return null;
    end if;

    if tg_op = 'INSERT' then
        for changed in
            select k.account_id, array_agg(n.id) as contact_ids
            from new_rows n
            join public.metakocka_connections k
                on k.account_id = n.account_id
               and k.active
            where n.deleted_at is null
            group by k.account_id
            order by k.account_id
        loop
            perform private.mark_dirty(changed.account_id, changed.contact_ids);
        end loop;
        return null;
    end if;

    for changed in
        select k.account_id, array_agg(n.id) as contact_ids
        from new_rows n
        join old_rows o
            on o.id = n.id
        join public.metakocka_connections k
            on k.account_id = n.account_id
           and k.active
        where n.deleted_at is null
          and (
              o.deleted_at, o.name, o.email, o.phone, o.gsm, o.fax, o.business_entity, o.taxpayer,
              o.foreign_county, o.buyer, o.supplier, o.tax_id_number, o.registration_number,
              o.street, o.post_number, o.place, o.province, o.country, o.people, o.addresses
          ) is distinct from (
              n.deleted_at, n.name, n.email, n.phone, n.gsm, n.fax, n.business_entity, n.taxpayer,
              n.foreign_county, n.buyer, n.supplier, n.tax_id_number, n.registration_number,
              n.street, n.post_number, n.place, n.province, n.country, n.people, n.addresses
          )
        group by k.account_id
        order by k.account_id
    loop
        perform private.mark_dirty(changed.account_id, changed.contact_ids);
    end loop;

    -- also without a connection: what is deleted is forgotten here as well
    if exists (select from new_rows n where n.deleted_at is not null) then
        perform private.forget_partners(array(
            select n.id
            from new_rows n
            join old_rows o
                on o.id = n.id
            where n.deleted_at is not null
              and o.deleted_at is null
        ));
    end if;
    return null;
end
$$;

create trigger _510_mark_dirty_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__mark_dirty();

create trigger _510_mark_dirty_update
    after update on public.contacts
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_contacts__mark_dirty();


create function private.forget_partners(contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- the mapping stays, or the partner would come back as a new contact; of a merged contact
    -- what was agreed stays too, for the one to which its identity goes
    update public.metakocka_contact_mappings m
    set state = 'blocked',
        missing = '{}',
        base = case when c.merged_into is not null then m.base end
    from public.contacts c
    where c.id = any (contact_ids)
      and m.contact_id = c.id;

    delete from public.sync_conflicts s
    where s.contact_id = any (contact_ids);

    delete from private.metakocka_dirty d
    where d.contact_id = any (contact_ids);
end
$$;


create function private.tg_contact_identities__move_mapping()
    returns trigger
    language plpgsql
    -- definer: mappings are nobody's to write
    security definer
    set search_path = ''
as $$
begin
    -- one that holds no partner gives way; one that holds another stays, and so do both
    delete from public.metakocka_contact_mappings m
    where m.contact_id = new.contact_id
      and m.metakocka_id is null;

    update public.metakocka_contact_mappings m
    set contact_id = new.contact_id,
        state = 'waiting',
        partner_hash = null
    where m.contact_id = old.contact_id
      and m.metakocka_id = new.value
      and not exists (
          select
          from public.metakocka_contact_mappings o
          where o.contact_id = new.contact_id
      );
    if found and exists (
        select
        from public.metakocka_connections k
        where k.account_id = new.account_id
          and k.active
    ) then
        perform private.mark_dirty(new.account_id, array[new.contact_id]);
    end if;
    return null;
end
$$;

-- merged contacts give their identities to the kept one, and get them back when it is undone
create trigger _500_move_mapping
    after update on public.contact_identities
    for each row
    when (new.kind = 'metakocka' and new.contact_id <> old.contact_id)
    execute function private.tg_contact_identities__move_mapping();


comment on sequence private.metakocka_dirty_seq is
    'The order of changes.';
comment on table private.metakocka_dirty is
    'Contacts that are to be sent to Metakocka, in the order of their change.';
comment on column private.metakocka_dirty.changed_seq is
    'The number of the last change; who has sent an earlier one leaves the mark.';
comment on policy "nobody reads the marks directly" on private.metakocka_dirty is
    'Whether a contact waits is read in its mapping.';
comment on function private.mark_dirty(uuid, uuid[], interval) is
    'Notes that contacts of an account are to be sent, after a quiet moment, and rings.';
comment on function private.tg_contacts__mark_dirty() is
    'Marks the contacts of connected accounts whose synchronized fields change.';
comment on function private.forget_partners(uuid[]) is
    'What follows for the sync when contacts are deleted or merged.';
comment on function private.tg_contact_identities__move_mapping() is
    'A partner''s mapping goes where its identity goes.';


/*
    What we are about to do at Metakocka and can't do twice: a partner is made by one call, and
    if its answer is lost nobody knows. What is written here before the call is settled by
    looking for the partner, never by calling again.
*/
create table private.partner_intents (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    contact_id   uuid not null,
    operation    text not null
                 constraint partner_intents_operation_check
                 check (operation in ('add_partner', 'update_partner')),
    -- a digest of what was to be sent
    fingerprint  text not null
                 constraint partner_intents_fingerprint_check
                 check (length(fingerprint) between 1 and 128),
    -- what was to be sent, by which it is looked for: the contact may be another by then
    sent         jsonb not null default '{}'
                 constraint partner_intents_sent_check
                 check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 131072),
    state        text not null default 'intended'
                 constraint partner_intents_state_check
                 check (state in (
                     -- the call has not begun
                     'intended',
                     -- it has begun, and may have happened
                     'sent',
                     -- it ended without an answer
                     'unknown',
                     -- it happened
                     'settled',
                     -- it did not
                     'abandoned'
                 )),
    metakocka_id text
                 constraint partner_intents_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    created_at   timestamptz not null default now(),
    sent_at      timestamptz,
    settled_at   timestamptz,

    constraint partner_intents_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint partner_intents_settled_check check (
        (state in ('settled', 'abandoned')) = (settled_at is not null)
        and (state = 'settled') = (metakocka_id is not null)
        and (state not in ('sent', 'unknown') or sent_at is not null)
    )
);
alter table private.partner_intents enable row level security;


-- one at a time: who comes next finds out first what became of this one
create unique index partner_intents_open_key
    on private.partner_intents (contact_id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_contact_idx
    on private.partner_intents (contact_id, account_id);


create policy "nobody reads partner intents directly"
    on private.partner_intents
    for all
    to authenticated
    using (false);


comment on table private.partner_intents is
    'Calls to Metakocka that must not happen twice, from before they begin.';
comment on column private.partner_intents.fingerprint is
    'A digest of what was to be sent.';
comment on column private.partner_intents.sent is
    'The fields that were to be sent; a partner that may have been made is looked for by them.';
comment on policy "nobody reads partner intents directly" on private.partner_intents is
    'The sync alone settles them.';


/*
    The fields that contacts share with partners: how they are read together, what is taken of
    them, and what of them a contact is known by.
*/
create function private.contact_party(contact public.contacts)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the name that staff gave: not that of the WhatsApp profile, which anybody may choose
    return jsonb_build_object(
        'name', contact.name,
        'email', contact.email,
        'phone', contact.phone,
        'gsm', contact.gsm,
        'fax', contact.fax,
        'business_entity', contact.business_entity,
        'taxpayer', contact.taxpayer,
        'foreign_county', contact.foreign_county,
        'buyer', contact.buyer,
        'supplier', contact.supplier,
        'tax_id_number', contact.tax_id_number,
        'registration_number', contact.registration_number,
        'street', contact.street,
        'post_number', contact.post_number,
        'place', contact.place,
        'province', contact.province,
        'country', contact.country,
        'people', contact.people,
        'addresses', contact.addresses
    );
end
$$;


create function private.tax_key(tax_id_number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return upper(regexp_replace(tax_id_number, '[^A-Za-z0-9]', '', 'g'));
end
$$;

-- whom a tax number may be; no identity, since the branches of a company share one
create index contacts_tax_key_idx
    on public.contacts (account_id, private.tax_key(tax_id_number))
    where tax_id_number is not null;


create function private.claimed_identities(fields jsonb)
    returns table (kind text, value text)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return query
    select i.kind, i.value
    from (
        values
            ('email', fields ->> 'email'),
            ('phone', fields ->> 'phone'),
            ('username', fields ->> 'username'),
            -- a mobile number may be what they write from
            ('phone', substring(fields ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as i (kind, value)
    where i.value is not null;
end
$$;


create function private.clean_partner_fields(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field text;
    longest integer;
begin
    for field, longest in
        values
            ('gsm', 255), ('fax', 255), ('tax_id_number', 50), ('registration_number', 50),
            ('street', 150), ('post_number', 20), ('place', 100), ('province', 50), ('country', 50)
    loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) not in ('string', 'null') then
            raise sqlstate 'PT422' using
                message = format('The %s is a text.', field),
                detail = 'field: ' || field;
        end if;
        cleaned := jsonb_set(
            cleaned, array[field],
            coalesce(to_jsonb(nullif(btrim(cleaned ->> field, E' \t\r\n'), '')), 'null'));
        if length(cleaned ->> field) > longest then
            raise sqlstate 'PT422' using
                message = format('The %s is too long.', field),
                detail = 'field: ' || field,
                hint = format('At most %s characters.', longest);
        end if;
    end loop;

    foreach field in array array[
        'business_entity', 'taxpayer', 'foreign_county', 'buyer', 'supplier'
    ] loop
        if jsonb_typeof(cleaned -> field) not in ('boolean', 'null') then
            raise sqlstate 'PT422' using
                message = format('%s is true or false.', field),
                detail = 'field: ' || field;
        end if;
    end loop;

    foreach field in array array['people', 'addresses'] loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) = 'null' then
            cleaned := jsonb_set(cleaned, array[field], '[]');
        end if;
        if jsonb_typeof(cleaned -> field) <> 'array'
            or cleaned -> field @? 'strict $[*] ? (@.type() != "object")'
            or octet_length((cleaned -> field)::text) > 32768
        then
            raise sqlstate 'PT422' using
                message = format('%s are a list of objects.', field),
                detail = 'field: ' || field,
                hint = 'At most 32 kB.';
        end if;
    end loop;
    return cleaned;
end
$$;


comment on function private.contact_party(public.contacts) is
    'The fields of a contact that a partner has as well.';
comment on function private.tax_key(text) is
    'One key for the spellings of a tax number.';
comment on index public.contacts_tax_key_idx is
    'Whom a partner''s tax number may be.';
comment on function private.claimed_identities(jsonb) is
    'What a contact with these fields is known by.';
comment on function private.clean_partner_fields(jsonb) is
    'The fields that contacts share with partners without stray spaces, or a refusal that names the field.';


/*
    What each audience is shown of a row when it is broadcast: for staff and for customers,
    a subset of what that audience can select. A column that is not named here is not sent.
*/
create or replace function private.shown_columns(table_name text, audience text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case shown_columns.table_name
        when 'contacts' then
            case audience when 'staff' then array[
                'id', 'account_id', 'name', 'profile_name', 'phone', 'email', 'tags', 'notes',
                'portal_user_id', 'created_at', 'updated_at', 'version', 'username', 'status',
                'preferences', 'gsm', 'fax', 'business_entity', 'taxpayer', 'foreign_county',
                'buyer', 'supplier', 'tax_id_number', 'registration_number', 'street',
                'post_number', 'place', 'province', 'country', 'people', 'addresses'
            ] end
        when 'customers' then array[
            'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
            'updated_at', 'version', 'preferences'
        ]
        when 'conversations' then array[
            'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
            'customer_wa_id', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
        ]
        when 'messages' then array[
            'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type',
            'sender_id', 'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref',
            'provider_id', 'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at',
            'error_code', 'error_message', 'created_at', 'updated_at', 'version', 'reactions',
            'edited_at', 'revoked_at', 'booking_id', 'has_invoice', 'invoice_data'
        ]
        when 'jobs' then array[
            'id', 'account_id', 'customer_id', 'service_type', 'status', 'starts_at', 'ends_at',
            'address', 'description', 'created_at', 'updated_at', 'version'
        ]
        when 'invoices' then array[
            'id', 'account_id', 'customer_id', 'job_id', 'number', 'status', 'currency',
            'amount_minor', 'tax_minor', 'description', 'issued_at', 'due_at', 'sent_at',
            'paid_at', 'voided_at', 'created_at', 'updated_at', 'version'
        ]
        when 'loyalty_transactions' then array[
            'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_at',
            'created_at', 'updated_at', 'version'
        ]
        when 'sync_runs' then
            case audience when 'staff' then array[
                'id', 'account_id', 'direction', 'trigger', 'state', 'total', 'done', 'succeeded',
                'failed', 'unchanged', 'errors', 'user_id', 'started_at', 'finished_at',
                'duration_ms', 'created_at', 'updated_at', 'version'
            ] end
    end;
end
$$;

create or replace function private.hidden_columns(table_name text, audience text, sample jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    shown constant text[] := private.shown_columns(table_name, audience);
    -- hidden for sure; asking what else there is takes a statement
    known constant text[] := case hidden_columns.table_name
        when 'contacts' then array['profile_named_at', 'deleted_at', 'merged_into']
        when 'messages' then array['whatsapp_channel_id']
        else '{}'
    end;
begin
    if shown is null then
        return null;
    elsif sample - shown - known = '{}' then
        return known;
    end if;
    return array(
        select k
        from jsonb_object_keys(sample) k
        where k <> all (shown)
    );
end
$$;


create function private.hides_rows(table_name text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return table_name = 'invoices';
end
$$;

create function private.customer_change(table_name text, change private.row_change)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- as the policy of the table has it
    return case table_name
        when 'invoices' then (
            case when change.old ->> 'sent_at' is not null then change.old end,
            case when change.new ->> 'sent_at' is not null then change.new end
        )::private.row_change
        else change
    end;
end
$$;

create or replace function private.log_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
begin
    if private.hides_rows(table_name) then
        perform private.log_partly_hidden_changes(table_name, changes);
        return;
    end if;

    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version,
        customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> customer_key)::uuid,
        (e.row ->> conversation_key)::uuid,
        log_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation
    from unnest(changes) c
    cross join lateral (
        select c.old ->> customer_key <> c.new ->> customer_key as has_moved
    ) m
    cross join lateral (
        values
            -- gone to another owner: the old one is told as well, and to the new one it is new
            (c.old, 'DELETE', null, m.has_moved),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case when m.has_moved then 'INSERT' end,
                true
            )
    ) as e (row, operation, customer_operation, happened)
    where e.happened;
end
$$;

create function private.log_partly_hidden_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
begin
    insert into private.changes (
        account_id, customer_id, table_name, row_id, operation, version, customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        -- what the customer does not see does not happen to them
        case when e.is_seen then (e.row ->> customer_key)::uuid end,
        log_partly_hidden_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation
    from unnest(changes) c
    cross join lateral (
        select
            c.old ->> customer_key <> c.new ->> customer_key as has_moved,
            private.customer_change(table_name => log_partly_hidden_changes.table_name, change => c)
                as seen
    ) m
    cross join lateral (
        values
            (c.old, 'DELETE', null, (m.seen).old is not null, m.has_moved and (m.seen).old is not null),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case
                    when m.has_moved then 'INSERT'
                    else nullif(private.row_operation(m.seen), private.row_operation(c))
                end,
                num_nonnulls((m.seen).old, (m.seen).new) > 0
                    and not (m.has_moved and (m.seen).new is null),
                true
            )
    ) as e (row, operation, customer_operation, is_seen, happened)
    where e.happened;
end
$$;

comment on function private.hides_rows(text) is
    'Whether a table has rows that are of a customer and not theirs to see.';

comment on function private.customer_change(text, private.row_change) is
    'A change as the row''s customer sees it: before, after, both or neither.';

comment on function private.log_partly_hidden_changes(text, private.row_change[]) is
    'Appends changes of a table whose customers see some of its rows.';


create or replace function private.changed_topics(table_name text, changes private.row_change[])
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    has_customers constant boolean := private.shown_columns(table_name, 'customer') is not null;
    hides_rows constant boolean := private.hides_rows(table_name);
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                -- null where the customer does not see the row
                case
                    when not hides_rows or s.row in ((c.seen).old, (c.seen).new)
                        then (s.row ->> customer_key)::uuid
                end as customer_id,
                (s.row ->> conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (
                select case when hides_rows then private.customer_change(
                    table_name => changed_topics.table_name,
                    change => (n.old, n.new)::private.row_change
                ) end as seen
            ) c
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- one look-up for each topic, however many rows it is told of: not materialized, it
        -- would be asked for each row, by the condition below
        topics as materialized (
            select private.account_topic(o.account_id) as topic, count(*) as rows
            from owners o
            group by o.account_id
            union all
            select private.listened_topic(o.customer_id), count(*)
            from owners o
            where has_customers
            group by o.customer_id
            union all
            select
                private.conversation_topic(o.conversation_id, o.account_id, o.customer_id),
                count(*)
            from owners o
            where has_customers
              and o.conversation_id is not null
            group by o.conversation_id, o.account_id, o.customer_id
        )
        select t.topic, t.rows
        from topics t
        where t.topic is not null;
end
$$;

create or replace function private.broadcast_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    -- they change with every change
    stamps constant text[] := array['version', 'updated_at'];
    staff_hidden constant text[] :=
        private.hidden_columns(table_name, 'staff', coalesce(changes[1].new, changes[1].old));
    customer_hidden constant text[] := case
        when private.shown_columns(table_name, 'customer')
             = private.shown_columns(table_name, 'staff') then staff_hidden
        else private.hidden_columns(table_name, 'customer', coalesce(changes[1].new, changes[1].old))
    end;
    hides_rows constant boolean := private.hides_rows(table_name);
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    operation text;
    current_row jsonb;
    record jsonb;
    old_record jsonb;
    topic text;
begin
    -- of many statements whoever makes them tells at the end: broadcast_logged
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return;
    end if;

    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(table_name => broadcast_changes.table_name, changes => changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := private.row_operation(change);

        record := change.new - staff_hidden;
        old_record := change.old - staff_hidden;
        -- what an audience can't see changing has not changed for it
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            topic := private.account_topic((current_row ->> 'account_id')::uuid);
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;

        continue when customer_hidden is null;
        if hides_rows then
            change := private.customer_change(
                table_name => broadcast_changes.table_name, change => change);
            continue when num_nonnulls(change.old, change.new) = 0;
            -- what comes into sight is new, what goes out of it is gone
            operation := private.row_operation(change);
            current_row := coalesce(change.new, change.old);
        end if;
        record := change.new - customer_hidden;
        old_record := change.old - customer_hidden;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> customer_key <> change.new ->> customer_key then
            -- gone to another owner: it is new to that one, and the old one learns its id alone
            topic := private.listened_topic((change.old ->> customer_key)::uuid);
            if topic is not null and topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, 'DELETE', current_row, null, null);
            end if;
            operation := 'INSERT';
            old_record := null;
        end if;

        topic := private.listened_topic((current_row ->> customer_key)::uuid);
        if topic is not null and topic <> all (crowded) then
            events := events || private.change_event(
                table_name, topic, operation, current_row, record, old_record);
        end if;
        if current_row ? conversation_key then
            topic := private.conversation_topic(
                (current_row ->> conversation_key)::uuid,
                (current_row ->> 'account_id')::uuid,
                (current_row ->> customer_key)::uuid
            );
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;
    end loop;

    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(events) e;
    if crowded <> '{}' then
        perform private.broadcast_to(
            topics => crowded,
            event => 'resync',
            payload => jsonb_build_object('tables', array[table_name])
        );
    end if;
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


/*
    What a transaction of many small statements tells at its end, from its entries in the log.
    An import gives each row a statement and a savepoint of its own: told as they are written,
    200 new contacts were 400 messages.

    With the setting rapport.broadcast_later on, broadcast_changes is silent; whoever turns it on
    for their transaction calls this, and turns it off again.
*/
create function private.broadcast_logged(account_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    with told as materialized (
        select
            t.topic,
            l.table_name,
            t.operation,
            l.row_id,
            l.version,
            count(*) over (partition by t.topic, l.table_name) > 100 as crowded
        from private.changes l
        cross join lateral (
            select private.account_topic(l.account_id), l.operation
            union all
            select c.topic, coalesce(l.customer_operation, l.operation)
            from (
                values
                    (private.listened_topic(l.customer_id)),
                    (private.conversation_topic(l.conversation_id, l.account_id, l.customer_id))
            ) as c (topic)
            where private.shown_columns(l.table_name, 'customer') is not null
        ) as t (topic, operation)
        where l.account_id = broadcast_logged.account_id
          and l.xid = pg_current_xact_id()
          and t.topic is not null
    )
    select
        t.topic,
        'broadcast',
        'resync',
        jsonb_build_object('tables', jsonb_agg(distinct t.table_name)),
        true
    from told t
    where t.crowded
    group by t.topic
    union all
    -- the log has no rows: as of those that are too large, whoever wants one fetches it
    select
        e.topic, 'broadcast', e.event, e.payload - array['record', 'old_record'], true
    from told t
    cross join lateral private.change_event(
        table_name => t.table_name,
        topic => t.topic,
        operation => t.operation,
        current_row => jsonb_build_object('id', t.row_id, 'version', t.version),
        record => null,
        old_record => null
    ) e
    where not t.crowded;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on function private.broadcast_logged(uuid) is
    'Tells what this transaction has logged of an account: {table, id, version, operation} for each change, or one resync for a topic with more than 100 of a table. A failure is a warning.';


create or replace function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- old and new rows are matched by hash: the plan of one row, kept, would compare each of
    -- 10,000 with each, 8 s
    set enable_nestloop = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    -- a transition table is read whole while it is small
    small constant integer := 1000;
    source refcursor;
    change private.row_change;
    changes private.row_change[];
    topics text[] := '{}';
begin
    if tg_op = 'INSERT' then
        select array_agg((null, to_jsonb(n))::private.row_change)
        into changes
        from (select * from new_rows limit small + 1) n;
    elsif tg_op = 'UPDATE' then
        select array_agg(c)
        into changes
        from (
            select o as old, n as new
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version
            limit small + 1
        ) as u (o, n)
        cross join lateral private.shown_change(to_jsonb(u.o), to_jsonb(u.n)) c
        where num_nonnulls(c.old, c.new) > 0;
    else
        select array_agg((to_jsonb(o), null)::private.row_change)
        into changes
        from (select * from old_rows limit small + 1) o;
    end if;

    if changes is null then
        return null;
    elsif cardinality(changes) <= small then
        perform private.log_changes(table_name => tg_table_name, changes => changes);
        if current_setting('rapport.quiet', true) = 'yes' then
            -- staff are told once, when all of it is done; customers of their own at once
            changes := array(
                select c
                from unnest(changes) c
                where coalesce(c.old ->> 'portal_user_id', c.new ->> 'portal_user_id') is not null
            );
            if changes = '{}' then
                return null;
            end if;
        end if;
        perform private.broadcast_changes(table_name => tg_table_name, changes => changes);
        return null;
    end if;

    -- too much to hold at once, and to tell one by one: everybody concerned reads again
    if tg_op = 'INSERT' then
        open source for select null::jsonb, to_jsonb(n) from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select c.old, c.new
            from old_rows o
            join new_rows n using (id)
            cross join lateral private.shown_change(to_jsonb(o), to_jsonb(n)) c
            where n.version <> o.version
              and num_nonnulls(c.old, c.new) > 0;
    else
        open source for select to_jsonb(o), null::jsonb from old_rows o;
    end if;
    loop
        changes := '{}';
        loop
            fetch source into change.old, change.new;
            exit when not found;
            changes := changes || change;
            exit when cardinality(changes) = small;
        end loop;
        exit when changes = '{}';

        perform private.log_changes(table_name => tg_table_name, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(table_name => tg_table_name, changes => changes) t
        );
    end loop;
    close source;
    perform private.broadcast_to(
        topics => topics,
        event => 'resync',
        payload => jsonb_build_object('tables', array[tg_table_name])
    );
    return null;
end
$$;


create trigger _900_publish_insert
    after insert on public.jobs
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.jobs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.jobs
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_insert
    after insert on public.invoices
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.invoices
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.invoices
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_insert
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.loyalty_transactions
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.loyalty_transactions
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_insert
    after insert on public.sync_runs
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.sync_runs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.sync_runs
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create or replace function private.my_changes(
    since pg_snapshot,
    until pg_snapshot,
    after_xid xid8,
    after_seq bigint,
    page_size integer
)
    returns table (
        xid xid8,
        seq bigint,
        table_name text,
        row_id uuid,
        operation text,
        version bigint
    )
    language sql
    stable
    -- definer: the log is not readable; the scope is the caller's own
    security definer
    set search_path = ''
as $$
    with entries as (
        (
            select c.xid, c.seq, c.table_name, c.row_id, c.operation, c.version
            from private.changes c
            where c.account_id = any (array(select private.my_account_ids()))
              and c.xid >= pg_snapshot_xmin(since)
              and (c.xid, c.seq) > (after_xid, after_seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        )
        -- an entry of one who is both staff and customer is one entry
        union
        (
            select
                c.xid,
                c.seq,
                c.table_name,
                c.row_id,
                coalesce(c.customer_operation, c.operation) as operation,
                c.version
            from private.changes c
            where c.customer_id = any (array(select private.my_customer_ids()))
              and c.xid >= pg_snapshot_xmin(since)
              and (c.xid, c.seq) > (after_xid, after_seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        )
    )
    select e.xid, e.seq, e.table_name, e.row_id, e.operation, e.version
    from entries e
    order by e.xid, e.seq
    limit page_size
$$;

create or replace function private.visible_row(table_name text, row_id uuid)
    returns jsonb
    language sql
    stable
    -- invoker: the caller's own row level security decides
    set search_path = ''
as $$
    select case table_name
        when 'contacts' then (
            select to_jsonb(r)
            from public.contacts r
            where r.id = row_id
              and r.deleted_at is null
        )
        when 'customers' then (select to_jsonb(r) from public.customers r where r.id = row_id)
        when 'conversations' then (select to_jsonb(r) from public.conversations r where r.id = row_id)
        when 'messages' then (select to_jsonb(r) from public.messages r where r.id = row_id)
        when 'jobs' then (select to_jsonb(r) from public.jobs r where r.id = row_id)
        when 'invoices' then (select to_jsonb(r) from public.invoices r where r.id = row_id)
        when 'loyalty_transactions' then (
            select to_jsonb(r)
            from public.loyalty_transactions r
            where r.id = row_id
        )
        when 'sync_runs' then (select to_jsonb(r) from public.sync_runs r where r.id = row_id)
    end
$$;


/*
    What staff write down of a contact makes it known by that: phone, email and username are
    claimed as identities before the contact is written, in the lock order (identities,
    contacts, conversations, messages, each by key).
*/
create or replace function private.lock_identities(
    account_id uuid,
    contact_ids uuid[],
    kinds text[],
    -- {phone, email, username, gsm}: to be claimed for the first contact
    claims jsonb default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
    owner uuid;
begin
    -- those to claim and those that the contacts have, in one order
    for wanted in
        select w.kind, w.match_key, min(w.value) as value
        from (
            select k.kind, private.match_key(kind => k.kind, value => k.value), k.value
            from private.claimed_identities(claims) k
            where k.kind = any (kinds)
            union all
            select o.kind, o.match_key, null
            from public.contact_identities o
            where o.contact_id = any (contact_ids)
              and o.account_id = lock_identities.account_id
              and o.kind = any (kinds)
        ) as w (kind, match_key, value)
        group by w.kind, w.match_key
        order by w.kind, w.match_key
    loop
        -- an owner may let go of it between the two statements: then it is free to be claimed
        loop
            if wanted.value is not null then
                insert into public.contact_identities (account_id, kind, value, contact_id)
                values (
                    lock_identities.account_id, wanted.kind, wanted.value, contact_ids[1])
                on conflict do nothing;
            end if;

            select o.contact_id
            into owner
            from public.contact_identities o
            where o.account_id = lock_identities.account_id
              and o.kind = wanted.kind
              and o.match_key = wanted.match_key
            for update;
            exit when found or wanted.value is null;
        end loop;

        if wanted.value is not null and owner <> contact_ids[1] then
            raise sqlstate 'PT409' using
                message = format('This %s belongs to another contact.', wanted.kind),
                detail = format('field: %s; contact: %s', wanted.kind, owner),
                hint = 'Merge the two, or correct it.';
        end if;
    end loop;
end
$$;

create or replace function private.release_identities(contact_id uuid, kinds text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities d
    using (
        select o.account_id, o.kind, o.match_key
        from public.contacts c
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = c.account_id
        where c.id = release_identities.contact_id
          and o.kind = any (kinds)
          -- somebody has written from it: it is theirs, whatever is written down
          and o.wa_id is null
          and not exists (
              select
              from private.claimed_identities(to_jsonb(c)) k
              where k.kind = o.kind
                and private.match_key(kind => k.kind, value => k.value) = o.match_key
          )
        -- one that has come since the others were locked is out of order: whoever brought it
        -- may have it locked
        for update of o skip locked
    ) o
    where d.account_id = o.account_id
      and d.kind = o.kind
      and d.match_key = o.match_key;
end
$$;


/*
    The one way in which people write contacts, whatever the face. A change is an object of
    the fields to write; what it does not name stays, so that edits of different fields meet.
*/
create or replace function private.clean_contact_fields(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field text;
begin
    foreach field in array array['name', 'phone', 'email', 'username', 'notes'] loop
        if cleaned ? field then
            if jsonb_typeof(cleaned -> field) not in ('string', 'null') then
                raise sqlstate 'PT422' using
                    message = format('The %s is a text.', field),
                    detail = 'field: ' || field;
            end if;
            cleaned := jsonb_set(
                cleaned, array[field],
                coalesce(to_jsonb(nullif(btrim(cleaned ->> field, E' \t\r\n'), '')), 'null'));
        end if;
    end loop;

    -- as the table's own checks, which name no field and no remedy
    if length(cleaned ->> 'name') > 200 then
        raise sqlstate 'PT422' using
            message = 'The name is too long.',
            detail = 'field: name',
            hint = 'At most 200 characters.';
    elsif cleaned ->> 'phone' !~ '^\+[1-9][0-9]{1,14}$' then
        raise sqlstate 'PT422' using
            message = 'This is not a phone number.',
            detail = 'field: phone',
            hint = 'With country code and digits alone, such as +38640111222.';
    elsif length(cleaned ->> 'email') > 320 or cleaned ->> 'email' !~ '^[^@\s]+@[^@\s]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Such as ana@example.com.';
    elsif length(cleaned ->> 'username') > 100 or cleaned ->> 'username' !~ '^[^\s@]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not a username.',
            detail = 'field: username',
            hint = 'Without @ and spaces, at most 100 characters.';
    elsif length(cleaned ->> 'notes') > 20000 then
        raise sqlstate 'PT422' using
            message = 'The notes are too long.',
            detail = 'field: notes',
            hint = 'At most 20,000 characters.';
    end if;

    if cleaned ? 'tags' then
        if jsonb_typeof(cleaned -> 'tags') not in ('array', 'null')
            or nullif(cleaned -> 'tags', 'null') @? '$[*] ? (@.type() != "string")'
        then
            raise sqlstate 'PT422' using
                message = 'Tags are a list of texts.',
                detail = 'field: tags';
        end if;
        cleaned := jsonb_set(cleaned, '{tags}', (
            select coalesce(jsonb_agg(t.tag order by t.place), '[]')
            from (
                select btrim(e.value) as tag, min(e.ordinal) as place
                from jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))
                    with ordinality as e (value, ordinal)
                where btrim(e.value) <> ''
                group by btrim(e.value)
            ) t
        ));
        if jsonb_array_length(cleaned -> 'tags') > 100
            or exists (
                select
                from jsonb_array_elements_text(cleaned -> 'tags') e
                where length(e) > 100
            )
        then
            raise sqlstate 'PT422' using
                message = 'There are too many tags, or one is too long.',
                detail = 'field: tags',
                hint = 'At most 100 tags of 100 characters.';
        end if;
    end if;
    return private.clean_partner_fields(cleaned);
end
$$;

create or replace function private.touched_identity_kinds(fields jsonb)
    returns text[]
    language sql
    immutable
    set search_path = ''
as $$
    select array(
        select distinct k.kind
        from (
            values ('email', 'email'), ('phone', 'phone'), ('gsm', 'phone'), ('username', 'username')
        ) as k (field, kind)
        where fields ? k.field
        order by k.kind
    )
$$;

create or replace function private.add_contact(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    cleaned constant jsonb := private.clean_contact_fields(fields);
begin
    perform private.lock_identities(
        account_id => add_contact.account_id,
        contact_ids => array[add_contact.contact_id],
        kinds => private.touched_identity_kinds(cleaned),
        claims => cleaned
    );
    insert into public.contacts (
        id, account_id, name, phone, email, username, tags, notes, status,
        gsm, fax, business_entity, taxpayer, foreign_county, buyer, supplier, tax_id_number,
        registration_number, street, post_number, place, province, country, people, addresses
    )
    select
        add_contact.contact_id,
        add_contact.account_id,
        cleaned ->> 'name',
        cleaned ->> 'phone',
        cleaned ->> 'email',
        cleaned ->> 'username',
        array(select jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))),
        cleaned ->> 'notes',
        coalesce(cleaned ->> 'status', 'open'),
        p.gsm, p.fax, p.business_entity, p.taxpayer, p.foreign_county, p.buyer, p.supplier,
        p.tax_id_number, p.registration_number, p.street, p.post_number, p.place, p.province,
        p.country, coalesce(p.people, '[]'), coalesce(p.addresses, '[]')
    from jsonb_populate_record(null::public.contacts, cleaned - 'tags') p
    on conflict (id) do nothing;
    if not found then
        raise sqlstate 'PT409' using
            message = 'A contact with this id is there already.',
            detail = 'field: id',
            hint = 'Change that one, or leave the id out.';
    end if;
end
$$;

create or replace function private.change_contact(
    account_id uuid,
    contact_id uuid,
    fields jsonb,
    -- of the row as the caller read it; null where any will do
    read_version bigint default null,
    -- whether it becomes known by what is written: what customers write of themselves is unproven
    claim boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    given constant jsonb := private.clean_contact_fields(fields);
    -- without the identities that stay: staff who save a whole form don't vouch for what a
    -- customer has put there
    cleaned constant jsonb := given - array(
        select k
        from public.contacts c
        cross join unnest(array['email', 'gsm', 'phone', 'username']) k
        where c.id = change_contact.contact_id
          and given ? k
          and to_jsonb(c) -> k = given -> k
    );
    kinds constant text[] := case
        when claim then private.touched_identity_kinds(cleaned)
        else '{}'
    end;
    found_version bigint;
    current_conversation uuid;
begin
    if kinds <> '{}' then
        perform private.lock_identities(
            account_id => change_contact.account_id,
            contact_ids => array[change_contact.contact_id],
            kinds => kinds,
            claims => cleaned
        );
    end if;

    select c.version
    into found_version
    from public.contacts c
    where c.id = change_contact.contact_id
      and c.account_id = change_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', change_contact.contact_id);
    elsif found_version <> read_version then
        raise sqlstate 'PT409' using
            message = 'The contact has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    end if;

    if cleaned ? 'status' then
        select s.conversation_id
        into current_conversation
        from private.contact_states s
        where s.id = change_contact.contact_id;
    end if;

    if cleaned - 'status' <> '{}' or (cleaned ? 'status' and current_conversation is null) then
        update public.contacts c
        set name = case when cleaned ? 'name' then cleaned ->> 'name' else c.name end,
            phone = case when cleaned ? 'phone' then cleaned ->> 'phone' else c.phone end,
            email = case when cleaned ? 'email' then cleaned ->> 'email' else c.email end,
            username = case
                when cleaned ? 'username' then cleaned ->> 'username'
                else c.username
            end,
            tags = case
                when cleaned ? 'tags' then array(select jsonb_array_elements_text(cleaned -> 'tags'))
                else c.tags
            end,
            notes = case when cleaned ? 'notes' then cleaned ->> 'notes' else c.notes end,
            preferences = coalesce(nullif(cleaned -> 'preferences', 'null'), c.preferences),
            status = case
                when current_conversation is null then coalesce(cleaned ->> 'status', c.status)
                else c.status
            end,
            (
                gsm, fax, business_entity, taxpayer, foreign_county, buyer, supplier,
                tax_id_number, registration_number, street, post_number, place, province, country,
                people, addresses
            ) = (
                select
                    p.gsm, p.fax, p.business_entity, p.taxpayer, p.foreign_county, p.buyer,
                    p.supplier, p.tax_id_number, p.registration_number, p.street, p.post_number,
                    p.place, p.province, p.country, p.people, p.addresses
                from jsonb_populate_record(c, cleaned - array['tags', 'preferences']) p
            )
        where c.id = change_contact.contact_id;
    end if;

    if kinds <> '{}' then
        perform private.release_identities(
            contact_id => change_contact.contact_id, kinds => kinds);
    end if;
    if current_conversation is not null then
        perform private.set_conversation_status(
            conversation_id => current_conversation, status => cleaned ->> 'status');
    end if;
end
$$;

create or replace function private.delete_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.lock_identities(
        account_id => delete_contact.account_id,
        contact_ids => array[delete_contact.contact_id],
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    -- in two steps: whoever enters the portal by this contact hears of leaving it
    update public.contacts c
    set portal_user_id = null
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.portal_user_id is not null;

    update public.contacts c
    set deleted_at = now(),
        name = null,
        profile_name = null,
        profile_named_at = null,
        phone = null,
        email = null,
        username = null,
        tags = '{}',
        notes = null,
        preferences = '{}',
        gsm = null,
        fax = null,
        business_entity = null,
        taxpayer = null,
        foreign_county = null,
        buyer = null,
        supplier = null,
        tax_id_number = null,
        registration_number = null,
        street = null,
        post_number = null,
        place = null,
        province = null,
        country = null,
        people = '[]',
        addresses = '[]'
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.deleted_at is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', delete_contact.contact_id);
    end if;

    perform private.revoke_open_invitations(
        account_id => delete_contact.account_id, contact_id => delete_contact.contact_id);

    -- whoever writes from the number from now on is somebody new
    with released as materialized (
        select o.account_id, o.kind, o.match_key
        from public.contact_identities o
        where o.contact_id = delete_contact.contact_id
          and o.account_id = delete_contact.account_id
        -- locked already, but for one that came meanwhile: to wait for that would be out of order
        for update nowait
    )
    delete from public.contact_identities o
    using released r
    where o.account_id = r.account_id
      and o.kind = r.kind
      and o.match_key = r.match_key;

    delete from private.stated_usernames u
    where u.contact_id = delete_contact.contact_id;

    perform
    from public.conversations k
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
    order by k.id
    for no key update;

    update public.conversations k
    set status = 'closed'
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and k.status <> 'closed';
end
$$;


create or replace function private.read_face(face text, fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => case face
            when 'erp' then array[
                'name', 'phone', 'email', 'gsm', 'fax', 'business_entity', 'taxpayer',
                'foreign_county', 'buyer', 'supplier', 'tax_id_number', 'registration_number',
                'street', 'post_number', 'place', 'province', 'country', 'people', 'addresses',
                'conversation_status'
            ]
            else array[
                'name', 'phone', 'email', 'username', 'tags', 'notes', 'conversation_status'
            ]
        end
    );
    if fields ? 'conversation_status' then
        return fields - 'conversation_status' || jsonb_build_object(
            'status',
            private.status_of_word(
                face => read_face.face, word => fields ->> 'conversation_status'));
    end if;
    return fields;
end
$$;


create or replace function private.merged_contact(kept public.contacts, dropped public.contacts)
    returns public.contacts
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    merged public.contacts := kept;
begin
    merged.name := coalesce(kept.name, dropped.name);
    -- a pair: the name and the message that brought it
    if kept.profile_name is null then
        merged.profile_name := dropped.profile_name;
        merged.profile_named_at := dropped.profile_named_at;
    end if;
    merged.phone := coalesce(kept.phone, dropped.phone);
    merged.email := coalesce(kept.email, dropped.email);
    merged.username := coalesce(kept.username, dropped.username);
    merged.portal_user_id := coalesce(kept.portal_user_id, dropped.portal_user_id);
    merged.gsm := coalesce(kept.gsm, dropped.gsm);
    merged.fax := coalesce(kept.fax, dropped.fax);
    merged.business_entity := coalesce(kept.business_entity, dropped.business_entity);
    merged.taxpayer := coalesce(kept.taxpayer, dropped.taxpayer);
    merged.foreign_county := coalesce(kept.foreign_county, dropped.foreign_county);
    merged.buyer := coalesce(kept.buyer, dropped.buyer);
    merged.supplier := coalesce(kept.supplier, dropped.supplier);
    merged.tax_id_number := coalesce(kept.tax_id_number, dropped.tax_id_number);
    merged.registration_number := coalesce(kept.registration_number, dropped.registration_number);
    merged.street := coalesce(kept.street, dropped.street);
    merged.post_number := coalesce(kept.post_number, dropped.post_number);
    merged.place := coalesce(kept.place, dropped.place);
    merged.province := coalesce(kept.province, dropped.province);
    merged.country := coalesce(kept.country, dropped.country);
    if kept.people = '[]' then
        merged.people := dropped.people;
    end if;
    if kept.addresses = '[]' then
        merged.addresses := dropped.addresses;
    end if;
    if kept.preferences = '{}' then
        merged.preferences := dropped.preferences;
    end if;
    merged.tags := kept.tags || array(
        select t.tag
        from unnest(dropped.tags) with ordinality as t (tag, place)
        where t.tag <> all (kept.tags)
        order by t.place
    );
    merged.notes := nullif(
        concat_ws(E'\n\n', kept.notes, nullif(dropped.notes, kept.notes)), '');
    return merged;
end
$$;


/*
    Two contacts that are one person become one. Identities and conversations go to the kept
    contact, whose values win; what it lacks it takes over. Conversations are never joined:
    two open threads stay two. The dropped contact stays as a redirect, and the journal
    (contact_merges) keeps both as they were.
*/
create or replace function private.merge_contact_pair(keep uuid, drop uuid)
    returns uuid
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    kept public.contacts;
    dropped public.contacts;
    merged public.contacts;
    journal public.contact_merges;
begin
    if keep = drop then
        raise sqlstate 'PT422' using
            message = 'A contact is not merged with itself.',
            detail = 'field: drop',
            hint = 'Name two contacts.';
    end if;
    select k.account_id
    into account
    from public.contacts k
    join public.contacts d
        on d.id = drop
       and d.account_id = k.account_id
    where k.id = keep
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There are no two such contacts, or they are not yours to see.',
            detail = 'field: keep, drop';
    end if;
    perform private.require_writable(account);

    perform private.lock_contacts(account_id => account, contact_ids => array[keep, drop]);
    select c.* into strict kept from public.contacts c where c.id = keep;
    select c.* into strict dropped from public.contacts c where c.id = drop;
    perform private.require_mergeable(kept => kept, dropped => dropped);
    merged := private.merged_contact(kept => kept, dropped => dropped);

    journal.id := gen_random_uuid();
    journal.kept_conversations := array(
        select k.id
        from public.conversations k
        where k.customer_id = keep
        order by k.id
    );

    -- in two steps: whoever enters the portal by this contact hears of leaving it
    if dropped.portal_user_id is not null then
        perform private.announce_login_move(drop);
        update public.contacts c
        set portal_user_id = null
        where c.id = drop;
    end if;
    update public.contacts c
    set deleted_at = now(),
        merged_into = keep,
        name = null,
        profile_name = null,
        profile_named_at = null,
        phone = null,
        email = null,
        username = null,
        tags = '{}',
        notes = null,
        preferences = '{}',
        gsm = null,
        fax = null,
        business_entity = null,
        taxpayer = null,
        foreign_county = null,
        buyer = null,
        supplier = null,
        tax_id_number = null,
        registration_number = null,
        street = null,
        post_number = null,
        place = null,
        province = null,
        country = null,
        people = '[]',
        addresses = '[]'
    where c.id = drop;

    -- an update of no row would still run the table's triggers
    if merged is distinct from kept then
        update public.contacts c
        set name = merged.name,
            profile_name = merged.profile_name,
            profile_named_at = merged.profile_named_at,
            phone = merged.phone,
            email = merged.email,
            username = merged.username,
            tags = merged.tags,
            notes = merged.notes,
            portal_user_id = merged.portal_user_id,
            preferences = merged.preferences,
            gsm = merged.gsm,
            fax = merged.fax,
            business_entity = merged.business_entity,
            taxpayer = merged.taxpayer,
            foreign_county = merged.foreign_county,
            buyer = merged.buyer,
            supplier = merged.supplier,
            tax_id_number = merged.tax_id_number,
            registration_number = merged.registration_number,
            street = merged.street,
            post_number = merged.post_number,
            place = merged.place,
            province = merged.province,
            country = merged.country,
            people = merged.people,
            addresses = merged.addresses
        where c.id = keep
        returning * into merged;
    end if;

    with moved as (
        update public.contact_identities o
        set contact_id = keep
        where o.contact_id = drop
          and o.account_id = account
        returning o.*
    )
    select coalesce(jsonb_agg(to_jsonb(m) order by m.kind, m.match_key), '[]')
    into journal.moved_identities
    from moved m;

    -- before the conversations: those of bookings go with their jobs
    journal.moved_customer_rows := private.move_customer_rows(
        account_id => account, from_contact_id => drop, to_contact_id => keep);

    journal.moved_conversations := private.move_conversations(
        account_id => account,
        conversation_ids => array(
            select k.id from public.conversations k where k.customer_id = drop),
        from_contact_id => drop,
        to_contact_id => keep
    );

    insert into public.contact_merges (
        id, account_id, kept_contact_id, dropped_contact_id, kept_before, dropped_before,
        kept_after, moved_identities, moved_conversations, kept_conversations,
        moved_customer_rows, settled_suggestions, added_suggestions, merged_by
    )
    values (
        journal.id,
        account,
        keep,
        drop,
        to_jsonb(kept),
        to_jsonb(dropped),
        to_jsonb(merged),
        journal.moved_identities,
        journal.moved_conversations,
        journal.kept_conversations,
        journal.moved_customer_rows,
        private.settle_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        private.pass_on_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        auth.uid()
    );
    return journal.id;
end
$$;


create or replace function private.unmerged_fields(
    merge public.contact_merges,
    present public.contacts,
    out restored jsonb,
    out changed_since jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- read as rows and written again: times compare whatever the session's time zone
    before constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_before));
    merged constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_after));
    now_there constant jsonb := to_jsonb(present);
    field text;
begin
    restored := '{}';
    changed_since := '[]';
    foreach field in array array[
        'name', 'profile_name', 'phone', 'email', 'username', 'portal_user_id', 'preferences',
        'tags', 'notes', 'gsm', 'fax', 'business_entity', 'taxpayer', 'foreign_county', 'buyer',
        'supplier', 'tax_id_number', 'registration_number', 'street', 'post_number', 'place',
        'province', 'country', 'people', 'addresses'
    ] loop
        if merged -> field = before -> field then
            continue;
        elsif now_there -> field = merged -> field then
            restored := restored || jsonb_build_object(field, before -> field);
        else
            changed_since := changed_since || jsonb_build_object(
                'field', field, 'merged', merged -> field, 'now', now_there -> field);
        end if;
    end loop;
    if restored ? 'profile_name' then
        restored := restored || jsonb_build_object('profile_named_at', before -> 'profile_named_at');
    end if;
end
$$;

create function private.shows_identity(contact public.contacts, kind text, match_key text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.claimed_identities(to_jsonb(contact)) k
        where k.kind = shows_identity.kind
          and private.match_key(kind => k.kind, value => k.value) = shows_identity.match_key
    );
end
$$;

create or replace function private.return_identities(merge public.contact_merges)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    kept_before constant public.contacts :=
        jsonb_populate_record(null::public.contacts, merge.kept_before);
    kept public.contacts;
    moved record;
    not_returned jsonb := '[]';
begin
    select c.*
    into strict kept
    from public.contacts c
    where c.id = merge.kept_contact_id;

    for moved in
        select
            o.kind,
            o.match_key,
            o.value,
            o.contact_id,
            -- staff wrote it down for the kept contact since the merge
            w.is_shown and not w.was_shown as wanted
        from jsonb_array_elements(merge.moved_identities) i
        join public.contact_identities o
            on o.account_id = merge.account_id
           and o.kind = i.value ->> 'kind'
           and o.match_key = i.value ->> 'match_key'
        cross join lateral (
            select
                private.shows_identity(kept, o.kind, o.match_key) as is_shown,
                private.shows_identity(kept_before, o.kind, o.match_key) as was_shown
        ) w
        where o.contact_id <> merge.dropped_contact_id
        order by o.kind, o.match_key
    loop
        if moved.contact_id = merge.kept_contact_id and not moved.wanted then
            update public.contact_identities o
            set contact_id = merge.dropped_contact_id
            where o.account_id = merge.account_id
              and o.kind = moved.kind
              and o.match_key = moved.match_key;
        else
            not_returned := not_returned || jsonb_build_object(
                'kind', moved.kind,
                'value', moved.value,
                'reason', case
                    when moved.contact_id = merge.kept_contact_id then 'written_since'
                    else 'belongs_to_another'
                end,
                'contact_id', moved.contact_id
            );
        end if;
    end loop;
    return not_returned;
end
$$;

create or replace function private.undo_contact_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    kept public.contacts;
    dropped public.contacts;
    fields record;
    login_returns boolean;
    not_returned jsonb;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
      and m.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge, or it is not yours to see.',
            detail = format('merge: %s', merge_id);
    end if;
    perform private.require_writable(merge.account_id);

    perform private.reclaim_identities(merge);
    perform
    from public.contacts c
    where c.id in (merge.kept_contact_id, merge.dropped_contact_id)
    order by c.id
    for no key update;
    merge := private.require_undoable(merge_id);

    select c.* into strict kept from public.contacts c where c.id = merge.kept_contact_id;
    dropped := jsonb_populate_record(null::public.contacts, merge.dropped_before);
    select * into fields from private.unmerged_fields(merge => merge, present => kept);

    not_returned := '[]';
    login_returns := kept.portal_user_id = dropped.portal_user_id;
    if login_returns then
        perform private.announce_login_move(kept.id);
    elsif dropped.portal_user_id is not null then
        not_returned := not_returned || jsonb_build_object(
            'kind', 'portal_user_id',
            'value', dropped.portal_user_id,
            'reason', 'unlinked_since',
            'contact_id', null
        );
    end if;

    -- an update of no row would still run the table's triggers
    if fields.restored <> '{}' then
        update public.contacts c
        set name = r.name,
            profile_name = r.profile_name,
            profile_named_at = r.profile_named_at,
            phone = r.phone,
            email = r.email,
            username = r.username,
            tags = r.tags,
            notes = r.notes,
            portal_user_id = r.portal_user_id,
            preferences = r.preferences,
            gsm = r.gsm,
            fax = r.fax,
            business_entity = r.business_entity,
            taxpayer = r.taxpayer,
            foreign_county = r.foreign_county,
            buyer = r.buyer,
            supplier = r.supplier,
            tax_id_number = r.tax_id_number,
            registration_number = r.registration_number,
            street = r.street,
            post_number = r.post_number,
            place = r.place,
            province = r.province,
            country = r.country,
            people = r.people,
            addresses = r.addresses
        from jsonb_populate_record(kept, fields.restored) r
        where c.id = kept.id;
    end if;
    update public.contacts c
    set deleted_at = null,
        merged_into = null,
        name = dropped.name,
        profile_name = dropped.profile_name,
        profile_named_at = dropped.profile_named_at,
        phone = dropped.phone,
        email = dropped.email,
        username = dropped.username,
        tags = dropped.tags,
        notes = dropped.notes,
        portal_user_id = case when login_returns then dropped.portal_user_id end,
        preferences = dropped.preferences,
        gsm = dropped.gsm,
        fax = dropped.fax,
        business_entity = dropped.business_entity,
        taxpayer = dropped.taxpayer,
        foreign_county = dropped.foreign_county,
        buyer = dropped.buyer,
        supplier = dropped.supplier,
        tax_id_number = dropped.tax_id_number,
        registration_number = dropped.registration_number,
        street = dropped.street,
        post_number = dropped.post_number,
        place = dropped.place,
        province = dropped.province,
        country = dropped.country,
        people = dropped.people,
        addresses = dropped.addresses
    where c.id = dropped.id;

    not_returned := not_returned
        || private.return_identities(merge)
        -- before the conversations: those of bookings go with their jobs
        || private.return_customer_rows(
            account_id => merge.account_id,
            moved => merge.moved_customer_rows,
            from_contact_id => merge.kept_contact_id,
            to_contact_id => merge.dropped_contact_id
        )
        || private.return_conversations(merge);
    perform private.reopen_suggestions(merge);

    update public.contact_merges m
    set undone_at = clock_timestamp(),
        undone_by = auth.uid()
    where m.id = merge.id;
    return jsonb_build_object(
        'kept', kept.id,
        'restored', dropped.id,
        'changed_since', fields.changed_since,
        'not_returned', not_returned
    );
end
$$;

comment on function private.shows_identity(public.contacts, text, text) is
    'Whether a contact''s own columns state an identity.';


create or replace function backend.prune(batch integer default 1000)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    batch_size constant integer := least(greatest(batch, 1), 5000);
begin
    return jsonb_build_object(
        'changes', private.prune_changes(batch => batch_size),
        'webhook_events', private.prune_webhook_events(batch => batch_size),
        'sync', private.prune_sync(
            batch => batch_size, kept => (select r.sync from private.retention r))
    );
end
$$;

comment on column private.retention.sync is
    'Runs of the sync and its errors are kept this long.';

comment on function backend.prune(integer) is
    'Deletes up to batch rows (5,000 at most) of each kind whose time is over: {changes, webhook_events, sync}. Call again until all are 0.';


/*
    The ERP's face of a contact: the fields that partners have, which partner it is, and how the
    two stand. Written as the other faces are; what is written here is on its way to Metakocka.
*/
create view public.metakocka_partners
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    c.name,
    c.email,
    c.phone,
    c.gsm,
    c.fax,
    c.business_entity,
    c.taxpayer,
    c.foreign_county,
    c.buyer,
    c.supplier,
    c.tax_id_number,
    c.registration_number,
    c.street,
    c.post_number,
    c.place,
    c.province,
    c.country,
    c.people,
    c.addresses,
    w.word as conversation_status,
    m.metakocka_id,
    m.state as sync_state,
    m.missing,
    m.last_synced_at,
    c.created_at,
    c.updated_at,
    c.version
from private.contact_states s
join public.contacts c
    on c.id = s.id
join public.status_words w
    on w.face = 'erp'
   and w.status = s.status
left join public.metakocka_contact_mappings m
    on m.contact_id = c.id;


grant select, insert, update, delete on public.metakocka_partners to authenticated;


create trigger _100_expect_hits
    before insert or update or delete on public.metakocka_partners
    for each statement
    execute function private.tg__expect_hits();

create trigger _110_expect_version
    before update of version on public.metakocka_partners
    for each statement
    execute function private.tg__expect_version();

create trigger _500_write_face
    instead of insert or update or delete on public.metakocka_partners
    for each row
    execute function private.tg__write_face('erp');

create trigger _900_require_hits
    after insert or update or delete on public.metakocka_partners
    for each statement
    execute function private.tg__require_hits();


comment on view public.metakocka_partners is
    'Contacts as Metakocka has partners, with the state of their sync. Write any of the fields that partners have; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.metakocka_partners.name is
    'What staff call them; the name of a WhatsApp profile is not sent.';
comment on column public.metakocka_partners.conversation_status is
    'O, P or C: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.metakocka_partners.metakocka_id is
    'The partner''s mk_id; null while it is not there.';
comment on column public.metakocka_partners.sync_state is
    'As in metakocka_contact_mappings; null where it was never looked at.';
comment on column public.metakocka_partners.missing is
    'The fields that Metakocka asks for and that are missing.';
comment on column public.metakocka_partners.last_synced_at is
    'When both sides last agreed on something new.';


/*
    The worker's side of runs. Whoever holds an account's lease may call Metakocka for it, and
    nobody else; a lease that was not extended in time is the next one's, who goes on where the
    last one said it was.
*/
create function private.sync_lease()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- longer than the slowest call with its repetitions
    select interval '90 seconds'
$$;


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
                  -- nobody rings when the quiet moment is over: the worker waits for its end
                  and d.not_before <= clock_timestamp() + interval '2 seconds'
                  and coalesce(d.lease_until <= clock_timestamp(), true)
            ) w
            cross join lateral (
                select coalesce(max(r.created_at) + k.sync_interval, k.created_at) as at
                from public.sync_runs r
                where r.account_id = k.account_id
                  and r.trigger = 'schedule'
            ) n
            where k.active
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
        -- somebody waits for the answer: what was left and what is queued come after it
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

    -- one that another left, then those that wait
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
            started_at = coalesce(r.started_at, clock_timestamp())
        where r.id = next_id
          and r.state <> 'running';
        return next_id;
    end if;

    -- woken for contacts that another has sent meanwhile
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
    request jsonb default null
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
    -- whoever begins for an account waits here for the other who does
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

    select l.*
    into lease
    from private.sync_leases l
    where l.account_id = begin_sync.account_id;
    if lease.lease_until > clock_timestamp() then
        if lease.worker <> begin_sync.worker then
            return null;
        end if;
        -- asked again, since the answer was lost
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
        -- what the last worker held when it ended is this one's
        update private.metakocka_dirty d
        set lease_until = null,
            worker = null
        where d.account_id = begin_sync.account_id
          and d.worker is not null;
        if begin_sync.request ? 'contact_ids' then
            perform private.mark_requested(
                account_id => begin_sync.account_id, contact_ids => request -> 'contact_ids');
        end if;
    end if;

    insert into private.sync_leases as l (account_id, run_id, worker, lease_until)
    values (
        begin_sync.account_id, begun, begin_sync.worker,
        clock_timestamp() + private.sync_lease()
    )
    on conflict on constraint sync_leases_pkey do update
        set run_id = excluded.run_id,
            worker = excluded.worker,
            lease_until = excluded.lease_until;

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
            'errors', r.errors,
            'user_id', coalesce(r.user_id, connection.user_id),
            'company_id', connection.company_id,
            'base_url', connection.base_url,
            'conflict_rule', connection.conflict_rule,
            'listing', connection.listing,
            'documents_seen_until', connection.documents_seen_until,
            'partners_seen_at', private.partners_seen_at(begin_sync.account_id)
        )
        from public.sync_runs r
        where r.id = begun
    );
end
$$;

grant execute on function backend.begin_sync(uuid, text, text, text, uuid, jsonb) to service_role;


create function private.mark_requested(account_id uuid, contact_ids jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    marked constant uuid[] := array(
        select c.id
        from jsonb_array_elements_text(contact_ids) i
        join public.contacts c
            on c.id = i::uuid
        where c.account_id = mark_requested.account_id
          and c.deleted_at is null
        order by c.id
    );
begin
    if marked <> '{}' then
        perform private.mark_dirty(
            account_id => mark_requested.account_id,
            contact_ids => marked,
            quiet_for => interval '0'
        );
    end if;
end
$$;


create function private.partners_seen_at(account_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select max(r.started_at)
        from public.sync_runs r
        where r.account_id = partners_seen_at.account_id
          and r.state = 'done'
          and r.direction <> 'to_metakocka'
          and r.request = '{}'
    );
end
$$;


create function backend.metakocka_connection(account text)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    found_connection jsonb;
begin
    select jsonb_build_object(
        'account_id', a.id,
        'company_id', k.company_id,
        'base_url', k.base_url,
        'conflict_rule', k.conflict_rule,
        'listing', k.listing,
        'documents_seen_until', k.documents_seen_until,
        'partners_seen_at', private.partners_seen_at(a.id)
    )
    into found_connection
    from public.accounts a
    join public.metakocka_connections k
        on k.account_id = a.id
       and k.active
    where a.external_id = account
       or a.id::text = account;
    if found_connection is null then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it has no active connection to Metakocka.',
            detail = 'field: account';
    end if;
    return found_connection;
end
$$;

grant execute on function backend.metakocka_connection(text) to service_role;


comment on function private.sync_lease() is
    'How long a run is its worker''s without a word from it.';
comment on function private.next_sync_run(uuid, text, text, uuid, jsonb) is
    'The run to go on with, or a new one; null where a wake finds nothing to send. A request is always a new one.';
comment on function private.mark_requested(uuid, jsonb) is
    'Marks the contacts that somebody wants to be sent now.';
comment on function private.partners_seen_at(uuid) is
    'Since when all partners have been looked at: what differs now has changed after that.';
comment on function backend.metakocka_connection(text) is
    'The connection of an account by its id or external id: {account_id, company_id, base_url, conflict_rule, listing, documents_seen_until, partners_seen_at}.';
comment on function backend.metakocka_connections_due(integer) is
    'The accounts for which there is something to do and nobody at work, the longest waiting first: [{account_id, reasons}]; reasons are run (to be gone on with), contacts (to be sent) and schedule.';
comment on function backend.begin_sync(uuid, text, text, text, uuid, jsonb) is
    'Leases an account to a worker: the run that waits or was left, with its cursor and counts, or a new one; null where another is at work or a wake finds nothing. With a request, {contact_ids} or {metakocka_ids}, a run of its own. Repeating it under the same name answers the same.';


/*
    How a run goes on and ends. Counts are totals, not steps: a report that is repeated counts
    nothing twice.
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
        raise sqlstate 'PT409' using
            message = 'This run is not yours any more.',
            detail = format('run: %s', require_lease.run_id),
            hint = 'Stop: another worker goes on with it.';
    end if;
    return account;
end
$$;


create function backend.advance_sync(
    run_id uuid,
    worker text,
    cursor jsonb,
    total integer,
    done integer,
    succeeded integer,
    failed integer,
    unchanged integer,
    errors jsonb default '{}'
)
    returns timestamptz
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    leased_until constant timestamptz := clock_timestamp() + private.sync_lease();
begin
    perform private.require_lease(run_id => advance_sync.run_id, worker => advance_sync.worker);

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
        errors = advance_sync.errors
    where r.id = advance_sync.run_id;
    return leased_until;
end
$$;

grant execute on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb
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
            message = 'A run is stopped, done or failed.',
            detail = 'field: state';
    end if;
    select r.*
    into finished
    from public.sync_runs r
    where r.id = finish_sync.run_id;
    if finished.state in ('done', 'failed') then
        -- told again, since the answer was lost
        return finished.state;
    end if;
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

    -- documents are known up to here only if all of them have been looked at
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


comment on function private.require_lease(uuid, text) is
    'The account of a run, locked for the worker whose it is; refused where it is another''s.';
comment on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb
) is
    'Notes how far a run has come, in all and not since the last time, and extends its lease: returns until when. Taken over by another: 409.';
comment on function backend.finish_sync(uuid, text, text, timestamptz) is
    'Ends a run as done or failed, or leaves it to the next one (stopped), and gives its account free. Who follows the contacts is told to read again, if the run was quiet.';


/*
    What the sync has to know of partners before it merges them: the contact that each is, with
    what was last agreed, or the contacts that a new one may be.
*/
create function private.partner_candidates(
    account_id uuid,
    metakocka_id text,
    tax_id_number text,
    emails text[],
    phones text[]
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'contact_id', c.id,
                    'version', c.version,
                    'updated_at', c.updated_at,
                    'matched_by', g.kinds,
                    'party', private.contact_party(c)
                )
                order by c.id
            ),
            '[]')
        from (
            select f.contact_id, array_agg(distinct f.kind order by f.kind) as kinds
            from (
                select o.contact_id, w.kind
                from (
                    select 'metakocka' as kind, partner_candidates.metakocka_id as value
                    union all
                    select 'email', e
                    from unnest(emails) e
                    union all
                    select 'phone', p
                    from unnest(phones) p
                ) w
                cross join lateral (
                    select i.contact_id
                    from public.contact_identities i
                    where i.account_id = partner_candidates.account_id
                      and i.kind = w.kind
                      and i.match_key = private.match_key(kind => w.kind, value => w.value)
                    limit 1
                ) o
                union all
                select t.id, 'tax'
                from public.contacts t
                where t.account_id = partner_candidates.account_id
                  and t.tax_id_number is not null
                  and private.tax_key(t.tax_id_number)
                      = nullif(private.tax_key(partner_candidates.tax_id_number), '')
            ) f
            group by f.contact_id
        ) g
        join public.contacts c
            on c.id = g.contact_id
           and c.deleted_at is null
        left join lateral (
            select o.metakocka_id
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- one that is a partner already is not another
        where m.metakocka_id is null
    );
end
$$;


create function backend.read_partners(account_id uuid, refs jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- looked up by key, row by row: one plan does for all, and not the one that was best while
    -- the tables were empty. "limit 1" keeps it from reading all of an account instead
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);

    return (
        select coalesce(
            jsonb_agg(
                case
                    when m.partner_hash = r.partner_hash then
                        jsonb_build_object('metakocka_id', r.metakocka_id, 'unchanged', true)
                    when m.contact_id is not null then jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'contact_id', c.id,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'is_deleted', c.deleted_at is not null,
                        'party', private.contact_party(c),
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'candidates', private.partner_candidates(
                            account_id => read_partners.account_id,
                            metakocka_id => r.metakocka_id,
                            tax_id_number => r.tax_id_number,
                            emails => r.emails,
                            phones => r.phones
                        )
                    )
                end
                order by r.place
            ),
            '[]')
        from rows from (
            jsonb_to_recordset(refs) as (
                metakocka_id text,
                partner_hash text,
                tax_id_number text,
                emails text[],
                phones text[]
            )
        ) with ordinality as r (metakocka_id, partner_hash, tax_id_number, emails, phones, place)
        left join lateral (
            select o.*
            from public.metakocka_contact_mappings o
            where o.account_id = read_partners.account_id
              and o.metakocka_id = r.metakocka_id
            limit 1
        ) m
            on true
        left join public.contacts c
            on c.id = m.contact_id
    );
end
$$;

grant execute on function backend.read_partners(uuid, jsonb) to service_role;


create function private.require_list(list jsonb, field text, longest integer)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if jsonb_typeof(list) is distinct from 'array'
        or list @? 'strict $[*] ? (@.type() != "object")'
    then
        raise sqlstate 'PT422' using
            message = format('%s are a list of objects.', field),
            detail = 'field: ' || field;
    elsif jsonb_array_length(list) > longest then
        raise sqlstate 'PT422' using
            message = format('These are too many %s for one call.', field),
            detail = 'field: ' || field,
            hint = format('At most %s.', longest);
    end if;
end
$$;


comment on function private.partner_candidates(uuid, text, text, text[], text[]) is
    'The contacts that a partner may be, by tax number, email, phone or its own id; none that is a partner already.';
comment on function private.require_list(jsonb, text, integer) is
    'Refuses what is not a list of objects, or too long.';
comment on function backend.read_partners(uuid, jsonb) is
    'What is known of up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order: {unchanged: true} where the hash is known; {contact_id, version, updated_at, is_deleted, party, base, base_version, state} where it is a contact; otherwise {candidates: [{contact_id, version, updated_at, matched_by, party}]}.';


/*
    What the merge has decided of partners, as it is handed over to be written, and what speaks
    against it. An item was decided from a state that may have passed: then it is stale, and
    whoever sent it reads and merges again.
*/
create type private.partner_item as (
    place        bigint,
    metakocka_id text,
    -- of a new contact one that is chosen here
    contact_id   uuid,
    is_new       boolean,
    -- of the contact as it was read
    version      bigint,
    changes      jsonb,
    partner_hash text,
    base         jsonb,
    conflicts    jsonb,
    candidates   uuid[],
    -- the contact has what the partner lacks
    push         boolean,
    partner      jsonb,
    -- what is to become of it: created, adopted, updated; or stale, waiting, refused
    status       text,
    reason       text
);


create function private.read_partner_items(account_id uuid, given jsonb)
    returns private.partner_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    items private.partner_item[];
begin
    select array_agg(
        (
            r.place,
            r.metakocka_id,
            coalesce(r.contact_id, gen_random_uuid()),
            r.contact_id is null,
            r.expected_version,
            coalesce(r.changes, '{}'),
            r.partner_hash,
            r.base,
            coalesce(r.conflicts, '[]'),
            coalesce(r.candidates, '{}'),
            coalesce(r.push, false),
            r.partner,
            s.status,
            s.reason
        )::private.partner_item
        order by r.metakocka_id, r.place
    )
    into items
    from (
        select
            p.*,
            row_number() over (partition by p.metakocka_id order by p.place) as nth_of_partner,
            row_number() over (partition by p.contact_id order by p.metakocka_id, p.place)
                as nth_of_contact
        from rows from (
            jsonb_to_recordset(given) as (
                metakocka_id text,
                contact_id uuid,
                expected_version bigint,
                changes jsonb,
                partner_hash text,
                base jsonb,
                conflicts jsonb,
                candidates uuid[],
                push boolean,
                partner jsonb
            )
        ) with ordinality as p (
            metakocka_id, contact_id, expected_version, changes, partner_hash, base, conflicts,
            candidates, push, partner, place
        )
    ) r
    -- the contact that the partner is
    left join lateral (
        select o.contact_id
        from public.metakocka_contact_mappings o
        where o.account_id = read_partner_items.account_id
          and o.metakocka_id = r.metakocka_id
        limit 1
    ) m
        on true
    left join lateral (
        select o.deleted_at
        from public.contacts o
        where o.id = m.contact_id
        limit 1
    ) mapped
        on true
    -- the contact that it is to be, and the partner that this one is
    left join lateral (
        select o.account_id, o.version, o.deleted_at
        from public.contacts o
        where o.id = r.contact_id
        limit 1
    ) c
        on true
    left join lateral (
        select o.metakocka_id
        from public.metakocka_contact_mappings o
        where o.contact_id = r.contact_id
        limit 1
    ) other
        on true
    cross join lateral (
        select
            case
                when r.metakocka_id is null then 'metakocka_id: It is missing.'
                when r.nth_of_partner > 1 then 'metakocka_id: It is there twice.'
                when r.contact_id is not null
                    and c.account_id is distinct from read_partner_items.account_id
                    then 'contact_id: There is no such contact.'
                when other.metakocka_id <> r.metakocka_id then 'contact_id: It is another partner.'
            end as reason,
            m.contact_id is not null
            and m.contact_id is distinct from r.contact_id
            -- a contact that was deleted gives its partner away
            and mapped.deleted_at is null as is_taken
    ) j
    cross join lateral (
        select
            case
                when j.reason is not null then 'refused'
                when j.is_taken or (r.contact_id is not null and r.nth_of_contact > 1) then 'stale'
                when c.deleted_at is not null or c.version <> r.expected_version then 'stale'
                when r.contact_id is null and cardinality(r.candidates) > 0 then 'waiting'
                when r.contact_id is null then 'created'
                when m.contact_id is distinct from r.contact_id then 'adopted'
                else 'updated'
            end as status,
            j.reason
    ) s;
    return coalesce(items, '{}');
end
$$;


create function private.partner_results(items private.partner_item[])
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'metakocka_id', i.metakocka_id,
                    'status', case
                        when i.status = 'updated' and i.changes = '{}' then 'unchanged'
                        else i.status
                    end,
                    'contact_id', case
                        when i.status in ('created', 'adopted', 'updated') then i.contact_id
                    end,
                    'reason', i.reason
                )
                order by i.place
            ),
            '[]')
        from unnest(items) i
    );
end
$$;


comment on type private.partner_item is
    'A partner as the merge has decided.';
comment on function private.read_partner_items(uuid, jsonb) is
    'The items of a call by partner, each with what is to become of it.';
comment on function private.partner_results(private.partner_item[]) is
    'What became of items, in the order of the call.';


/*
    What partners make their contacts known by. An identity that another contact owns is not
    taken away: that the two may be one is suggested instead.
*/
create type private.wanted_identity as (
    kind         text,
    match_key    text,
    value        text,
    contact_id   uuid,
    metakocka_id text,
    is_new       boolean
);


create function private.claim_partner_identities(
    account_id uuid,
    items private.partner_item[]
)
    returns private.wanted_identity[]
    language plpgsql
    set search_path = ''
as $$
declare
    wanted private.wanted_identity[];
    -- as if they had been claimed by another contact, each with its owner in place of its own
    owned private.wanted_identity[];
begin
    select array_agg(
        (k.kind, q.match_key, k.value, i.contact_id, i.metakocka_id, i.is_new)::private.wanted_identity
    )
    into wanted
    from unnest(items) i
    cross join lateral (
        values
            ('metakocka', case when i.status <> 'updated' then i.metakocka_id end),
            ('email', i.changes ->> 'email'),
            ('phone', i.changes ->> 'phone'),
            ('phone', substring(i.changes ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as k (kind, value)
    cross join lateral (
        select private.match_key(kind => k.kind, value => k.value) as match_key
    ) q
    where k.value is not null;
    if wanted is null then
        return '{}';
    end if;

    -- made or locked, in one pass in the lock order: the update never happens, its lock does
    insert into public.contact_identities (account_id, kind, value, contact_id)
    select claim_partner_identities.account_id, w.kind, w.value, w.contact_id
    from (
        select distinct on (u.kind, u.match_key) u.kind, u.match_key, u.value, u.contact_id
        from unnest(wanted) u
        order by u.kind, u.match_key, u.metakocka_id
    ) w
    order by w.kind, w.match_key
    on conflict on constraint contact_identities_pkey do update
        set contact_id = excluded.contact_id
        where false;

    select array_agg(
        (w.kind, w.match_key, w.value, o.contact_id, w.metakocka_id, w.is_new)::private.wanted_identity
    )
    into owned
    from unnest(wanted) w
    cross join lateral (
        select i.contact_id
        from public.contact_identities i
        where i.account_id = claim_partner_identities.account_id
          and i.kind = w.kind
          and i.match_key = w.match_key
        limit 1
    ) o
    where o.contact_id <> w.contact_id;
    if owned is null then
        return '{}';
    end if;

    -- whom the caller would have taken for the partner, had it known of it
    if exists (
        select
        from unnest(owned) w
        join public.contacts c
            on c.id = w.contact_id
           and c.deleted_at is null
        where w.is_new
          and not exists (
              select
              from public.metakocka_contact_mappings m
              where m.contact_id = w.contact_id
                and m.metakocka_id is not null
          )
    )
        or exists (select from unnest(owned) w where w.kind = 'metakocka')
    then
        raise sqlstate 'RP002';
    end if;
    return owned;
end
$$;


create function private.suggest_partners(
    account_id uuid,
    items private.partner_item[],
    owned private.wanted_identity[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if owned = '{}' then
        return;
    end if;
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select
        suggest_partners.account_id,
        least(i.contact_id, w.contact_id) as lesser_id,
        greatest(i.contact_id, w.contact_id) as greater_id,
        'same_partner',
        jsonb_object_agg(w.kind, w.value) || jsonb_build_object('metakocka_id', min(w.metakocka_id))
    from unnest(owned) w
    join unnest(items) i
        on i.metakocka_id = w.metakocka_id
    group by 2, 3
    order by 2, 3
    -- what somebody has dismissed stays dismissed
    on conflict on constraint contact_suggestions_pair_key do nothing;
end
$$;


create function private.release_partner_identities(
    account_id uuid,
    items private.partner_item[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    released public.contact_identities[];
begin
    -- as release_identities, of several contacts
    released := array(
        select o
        from unnest(items) i
        join public.contacts c
            on c.id = i.contact_id
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = release_partner_identities.account_id
        where not i.is_new
          and i.changes ?| array['email', 'phone', 'gsm']
          and o.kind = any (private.touched_identity_kinds(i.changes))
          and o.wa_id is null
          and not exists (
              select
              from private.claimed_identities(to_jsonb(c)) k
              where k.kind = o.kind
                and private.match_key(kind => k.kind, value => k.value) = o.match_key
          )
        order by o.kind, o.match_key
        for update of o skip locked
    );
    if released <> '{}' then
        delete from public.contact_identities d
        using unnest(released) o
        where d.account_id = o.account_id
          and d.kind = o.kind
          and d.match_key = o.match_key;
    end if;
end
$$;


comment on type private.wanted_identity is
    'An identity that a partner brings to a contact.';
comment on function private.claim_partner_identities(uuid, private.partner_item[]) is
    'Claims what partners make their contacts known by; returns what others own, by its owners. RP002 where an owner should have been a candidate.';
comment on function private.suggest_partners(uuid, private.partner_item[], private.wanted_identity[]) is
    'Suggests that contacts and the owners of what they would be known by are one.';
comment on function private.release_partner_identities(uuid, private.partner_item[]) is
    'Drops the identities that contacts no longer show and that no message proves.';


/*
    Contacts and mappings from partners, a statement for all. Locks are taken in one order:
    identities, contacts, mappings, marks, each by key.
*/
create function private.write_partner_contacts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    known constant uuid[] := array(
        select i.contact_id
        from unnest(items) i
        where not i.is_new
    );
begin
    if known <> '{}' then
        perform
        from public.contacts c
        where c.id = any (known)
        order by c.id
        for no key update;
        if exists (
            select
            from unnest(items) i
            join public.contacts c
                on c.id = i.contact_id
            where c.deleted_at is not null
               or c.version <> i.version
        ) then
            raise sqlstate 'RP002';
        end if;
    end if;

    -- a statement of no row would still run the table's triggers
    if exists (select from unnest(items) i where i.is_new) then
        insert into public.contacts (
            id, account_id, name, email, phone, gsm, fax, business_entity, taxpayer,
            foreign_county, buyer, supplier, tax_id_number, registration_number, street,
            post_number, place, province, country, people, addresses
        )
        select
            i.contact_id, write_partner_contacts.account_id, p.name, p.email, p.phone, p.gsm,
            p.fax, p.business_entity, p.taxpayer, p.foreign_county, p.buyer, p.supplier,
            p.tax_id_number, p.registration_number, p.street, p.post_number, p.place, p.province,
            p.country, coalesce(p.people, '[]'), coalesce(p.addresses, '[]')
        from unnest(items) i
        cross join lateral jsonb_to_record(i.changes) as p (
            name text, email text, phone text, gsm text, fax text, business_entity boolean,
            taxpayer boolean, foreign_county boolean, buyer boolean, supplier boolean,
            tax_id_number text, registration_number text, street text, post_number text,
            place text, province text, country text, people jsonb, addresses jsonb
        )
        where i.is_new
        order by i.contact_id;
    end if;

    if exists (select from unnest(items) i where not i.is_new and i.changes <> '{}') then
        update public.contacts c
        set (
            name, email, phone, gsm, fax, business_entity, taxpayer, foreign_county, buyer,
            supplier, tax_id_number, registration_number, street, post_number, place, province,
            country, people, addresses
        ) = (
            u.name, u.email, u.phone, u.gsm, u.fax, u.business_entity, u.taxpayer,
            u.foreign_county, u.buyer, u.supplier, u.tax_id_number, u.registration_number,
            u.street, u.post_number, u.place, u.province, u.country, u.people, u.addresses
        )
        from (
            select i.contact_id, p.*
            from unnest(items) i
            join public.contacts o
                on o.id = i.contact_id
            cross join lateral jsonb_populate_record(o, i.changes) p
            where not i.is_new
              and i.changes <> '{}'
        ) u
        where c.id = u.contact_id;
    end if;
end
$$;


create function private.write_partner_mappings(
    account_id uuid,
    user_id uuid,
    items private.partner_item[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- of a contact that was deleted, and whose partner is another contact now
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.metakocka_contact_mappings o
            where o.account_id = write_partner_mappings.account_id
              and o.metakocka_id = i.metakocka_id
            limit 1
        ) m
        where m.contact_id <> i.contact_id
    ) then
        delete from public.metakocka_contact_mappings m
        using unnest(items) i, public.contacts c
        where m.account_id = write_partner_mappings.account_id
          and m.metakocka_id = i.metakocka_id
          and m.contact_id <> i.contact_id
          and c.id = m.contact_id
          and c.deleted_at is not null;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, base, partner_hash, base_version, state, user_id,
        last_synced_at
    )
    select
        write_partner_mappings.account_id,
        i.contact_id,
        i.metakocka_id,
        i.base,
        i.partner_hash,
        c.version,
        case
            when i.conflicts <> '[]' and exists (
                select
                from jsonb_array_elements(i.conflicts) f
                where f ->> 'winner' is null
            ) then 'conflict'
            -- somebody has edited it meanwhile
            when i.push or exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = i.contact_id
            ) then 'waiting'
            else 'synced'
        end,
        write_partner_mappings.user_id,
        clock_timestamp()
    from unnest(items) i
    cross join lateral (
        select o.version
        from public.contacts o
        where o.id = i.contact_id
        limit 1
    ) c
    order by i.contact_id
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            base = excluded.base,
            partner_hash = excluded.partner_hash,
            base_version = excluded.base_version,
            state = excluded.state,
            missing = '{}',
            user_id = coalesce(excluded.user_id, m.user_id),
            last_synced_at = excluded.last_synced_at
        -- what says the same as before is not written again
        where (m.metakocka_id, m.base, m.partner_hash, m.base_version, m.state, m.missing)
            is distinct from (
                excluded.metakocka_id, excluded.base, excluded.partner_hash,
                excluded.base_version, excluded.state, '{}'::text[]
            );

    if exists (select from unnest(items) i where i.push) then
        perform private.mark_dirty(
            account_id => write_partner_mappings.account_id,
            contact_ids => array(select i.contact_id from unnest(items) i where i.push),
            quiet_for => interval '0'
        );
    end if;
end
$$;


comment on function private.write_partner_contacts(uuid, private.partner_item[]) is
    'Makes and changes the contacts of partners; RP002 where one is no longer as it was read.';
comment on function private.write_partner_mappings(uuid, uuid, private.partner_item[]) is
    'Notes which partner a contact is and what was agreed; marks those that have what their partner lacks.';


/*
    What the merge could not decide, or has decided by rule, becomes a row; a question that
    answers itself is closed.
*/
create function private.write_sync_conflicts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
begin
    if exists (
        select
        from unnest(items) i
        where i.conflicts <> '[]'
           or i.status = 'waiting'
    ) then
        insert into public.sync_conflicts as s (
            account_id, contact_id, metakocka_id, field, base, crm, metakocka, candidates
        )
        select
            write_sync_conflicts.account_id,
            i.contact_id,
            i.metakocka_id,
            f.value ->> 'field',
            f.value -> 'base',
            f.value -> 'crm',
            f.value -> 'erp',
            '{}'::uuid[]
        from unnest(items) i
        cross join lateral jsonb_array_elements(i.conflicts) f
        where i.status <> 'waiting'
          and f.value ->> 'winner' is null
        union all
        select
            write_sync_conflicts.account_id, null, i.metakocka_id, null, null, null, i.partner,
            array(
                select c.id
                from public.contacts c
                where c.id = any (i.candidates)
                  and c.account_id = write_sync_conflicts.account_id
                order by c.id
            )
        from unnest(items) i
        where i.status = 'waiting'
        order by 3, 4
        on conflict (account_id, metakocka_id, field) where state = 'open' do update
            set contact_id = excluded.contact_id,
                base = excluded.base,
                crm = excluded.crm,
                metakocka = excluded.metakocka,
                candidates = excluded.candidates
            where (s.contact_id, s.base, s.crm, s.metakocka, s.candidates)
                is distinct from (
                    excluded.contact_id, excluded.base, excluded.crm, excluded.metakocka,
                    excluded.candidates
                );

        insert into public.sync_conflicts (
            account_id, contact_id, metakocka_id, field, base, crm, metakocka, state, choice,
            decided_by, resolved_at
        )
        select
            write_sync_conflicts.account_id,
            i.contact_id,
            i.metakocka_id,
            f.value ->> 'field',
            f.value -> 'base',
            f.value -> 'crm',
            f.value -> 'erp',
            'resolved',
            f.value ->> 'winner',
            f.value ->> 'decided_by',
            clock_timestamp()
        from unnest(items) i
        cross join lateral jsonb_array_elements(i.conflicts) f
        where i.status <> 'waiting'
          and f.value ->> 'winner' is not null;
    end if;

    -- both sides have come to the same, or it is known by now which contact it is
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select
            from public.sync_conflicts s
            where s.account_id = write_sync_conflicts.account_id
              and s.metakocka_id = i.metakocka_id
              and s.state = 'open'
            limit 1
        ) s
        where i.status <> 'waiting'
    ) then
        update public.sync_conflicts s
        set state = 'resolved',
            choice = case when s.field is null then i.contact_id::text else 'agreed' end,
            decided_by = 'both',
            resolved_at = clock_timestamp()
        from unnest(items) i
        where s.account_id = write_sync_conflicts.account_id
          and s.metakocka_id = i.metakocka_id
          and s.state = 'open'
          and i.status <> 'waiting'
          and not exists (
              select
              from jsonb_array_elements(i.conflicts) f
              where f.value ->> 'field' = s.field
          );
    end if;
end
$$;


comment on function private.write_sync_conflicts(uuid, private.partner_item[]) is
    'Writes the conflicts of partners and closes those that are none any more.';


/*
    What was read from Metakocka and merged, written for up to 500 partners in one call: all at
    once, and one by one only where that fails, so that a bad one blocks no other.
*/
create function private.apply_partner_set(account_id uuid, user_id uuid, given jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    items constant private.partner_item[] := private.read_partner_items(
        account_id => apply_partner_set.account_id, given => given);
    written constant private.partner_item[] := array(
        select i
        from unnest(items) i
        where i.status in ('created', 'adopted', 'updated')
    );
    owned private.wanted_identity[];
begin
    if written <> '{}' then
        owned := private.claim_partner_identities(
            account_id => apply_partner_set.account_id, items => written);
        perform private.write_partner_contacts(
            account_id => apply_partner_set.account_id, items => written);
        perform private.release_partner_identities(
            account_id => apply_partner_set.account_id, items => written);
        perform private.write_partner_mappings(
            account_id => apply_partner_set.account_id,
            user_id => apply_partner_set.user_id,
            items => written
        );
        perform private.suggest_partners(
            account_id => apply_partner_set.account_id, items => written, owned => owned);
    end if;
    perform private.write_sync_conflicts(
        account_id => apply_partner_set.account_id,
        items => array(
            select i
            from unnest(items) i
            where i.status in ('created', 'adopted', 'updated', 'waiting')
        )
    );
    return private.partner_results(items);
end
$$;


create function private.try_apply_partner(account_id uuid, user_id uuid, item jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    code text;
    constraint_name text;
    is_stale boolean;
begin
    return private.apply_partner_set(
        account_id => try_apply_partner.account_id,
        user_id => try_apply_partner.user_id,
        given => jsonb_build_array(item)
    ) -> 0;
exception
    when sqlstate 'RP002' or sqlstate 'PT422'
        or data_exception or integrity_constraint_violation
    then
        get stacked diagnostics
            code = returned_sqlstate,
            constraint_name = constraint_name;
        -- somebody else has written the same meanwhile: read and merge again
        is_stale := code in ('RP002', '23505');
        return jsonb_build_object(
            'metakocka_id', item -> 'metakocka_id',
            'status', case when is_stale then 'stale' else 'refused' end,
            'contact_id', null,
            'reason', case
                when is_stale then null
                -- the constraint names the field; Postgres' own words could quote the row
                when constraint_name like 'contacts\_%\_check' then format(
                    '%s: The database does not take it.',
                    substring(constraint_name from '^contacts_(.*)_check$'))
                else format('The database does not take it (%s).', code)
            end
        );
end
$$;


create function private.apply_partner_items(account_id uuid, user_id uuid, items jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    item jsonb;
    results jsonb := '{}';
begin
    begin
        return private.apply_partner_set(
            account_id => apply_partner_items.account_id,
            user_id => apply_partner_items.user_id,
            given => items
        );
    exception
        when sqlstate 'RP002' or sqlstate 'PT422'
            or data_exception or integrity_constraint_violation
        then
            null;
    end;

    -- in the order of their partners: of two such calls one waits for the other
    for item in
        select e.value || jsonb_build_object('place', e.place)
        from jsonb_array_elements(items) with ordinality as e (value, place)
        order by e.value ->> 'metakocka_id', e.place
    loop
        if results <> '{}' then
            -- one's locks are in order, those of several are not: from the second on it gives
            -- way long before it could be part of a deadlock
            perform set_config('lock_timeout', '400ms', true);
        end if;
        results := results || jsonb_build_object(
            item ->> 'place',
            private.try_apply_partner(
                account_id => apply_partner_items.account_id,
                user_id => apply_partner_items.user_id,
                item => item
            )
        );
    end loop;
    return (
        select jsonb_agg(r.value order by r.key::integer)
        from jsonb_each(results) r
    );
end
$$;


create function backend.apply_partners(
    account_id uuid,
    run_id uuid,
    items jsonb,
    quiet boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key: one plan does for all, and not the one that was best while
    -- the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    lock_timeout constant text := current_setting('lock_timeout');
    whose uuid;
    results jsonb;
begin
    perform private.require_list(list => items, field => 'items', longest => 500);
    whose := private.sync_user(account_id => apply_partners.account_id, run_id => apply_partners.run_id);

    perform set_config('rapport.from_metakocka', 'yes', true);
    if quiet and run_id is not null then
        perform set_config('rapport.quiet', 'yes', true);
        -- before the first write: whoever ends the run tells everybody to read again
        update public.sync_runs r
        set quiet = true
        where r.id = run_id
          and not r.quiet;
    end if;

    results := private.apply_partner_items(
        account_id => apply_partners.account_id, user_id => whose, items => items);

    perform private.analyze_new_tables();

    perform set_config('rapport.quiet', '', true);
    perform set_config('rapport.from_metakocka', '', true);
    perform set_config('lock_timeout', lock_timeout, true);
    return results;
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Others are writing some of these contacts.',
            hint = 'Try again.';
end
$$;

grant execute on function backend.apply_partners(uuid, uuid, jsonb, boolean) to service_role;


create function private.analyze_new_tables()
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- plans that this session makes of empty tables it keeps: foreign keys then look through
    -- all of an account for each row, until the first autoanalyze a minute later
    if (
        select c.reltuples < 0
        from pg_catalog.pg_class c
        where c.oid = 'public.contacts'::regclass
    ) then
        analyze
            public.contacts, public.contact_identities, public.customers,
            public.metakocka_contact_mappings;
    end if;
end
$$;


create function private.sync_user(account_id uuid, run_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    whose record;
begin
    select k.account_id, coalesce(r.user_id, k.user_id) as user_id
    into whose
    from public.metakocka_connections k
    left join public.sync_runs r
        on r.id = sync_user.run_id
       and r.account_id = k.account_id
    where k.account_id = sync_user.account_id
      and (sync_user.run_id is null or r.id is not null);
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such connection to Metakocka, or no such run of it.',
            detail = 'field: account_id, run_id';
    end if;
    return whose.user_id;
end
$$;


comment on function private.apply_partner_set(uuid, uuid, jsonb) is
    'Writes partners all at once, or raises.';
comment on function private.try_apply_partner(uuid, uuid, jsonb) is
    'Writes one partner; undone where it is stale or refused.';
comment on function private.apply_partner_items(uuid, uuid, jsonb) is
    'Writes partners, one by one where they can''t be written at once.';
comment on function private.analyze_new_tables() is
    'Analyzes the tables of contacts of a new database, once.';
comment on function private.sync_user(uuid, uuid) is
    'Whose doing a sync is: who asked for the run, or connected the account.';
comment on function backend.apply_partners(uuid, uuid, jsonb, boolean) is
    'Writes up to 500 merged partners, [{metakocka_id, partner_hash, base, contact_id, expected_version, changes, conflicts: [{field, base, crm, erp, decided_by, winner}], candidates, push, partner}]; without contact_id a contact is made, with candidates it waits. Answers [{metakocka_id, status, contact_id, reason}] in their order: created, adopted, updated, unchanged, waiting, refused, or stale, which is to be read and merged again. quiet leaves the events to finish_sync.';


/*
    The worker's side of marks: claim some, send each, settle it. What is changed while it is
    being sent keeps its mark.
*/
create function backend.claim_dirty_contacts(
    account_id uuid,
    worker text,
    batch integer default 10,
    contact_ids uuid[] default null,
    dry_run boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    claimed uuid[];
begin
    claimed := array(
        select d.contact_id
        from private.metakocka_dirty d
        where d.account_id = claim_dirty_contacts.account_id
          and (claim_dirty_contacts.contact_ids is null
               or d.contact_id = any (claim_dirty_contacts.contact_ids))
          and (d.not_before <= clock_timestamp() or dry_run)
          and (coalesce(d.lease_until <= clock_timestamp(), true) or dry_run)
        order by d.changed_seq
        limit least(greatest(batch, 1), 100)
        for update skip locked
    );
    if claimed <> '{}' and not dry_run then
        update private.metakocka_dirty d
        set lease_until = clock_timestamp() + private.sync_lease(),
            worker = claim_dirty_contacts.worker,
            attempts = d.attempts + 1
        where d.contact_id = any (claimed);
    end if;

    return jsonb_build_object(
        'claimed', (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'contact_id', c.id,
                        'changed_seq', d.changed_seq,
                        'attempts', d.attempts,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'party', private.contact_party(c),
                        'metakocka_id', m.metakocka_id,
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state,
                        -- a call whose outcome is to be found out first
                        'intent', (
                            select to_jsonb(e)
                            from private.partner_intents i
                            cross join lateral private.intent_rows(i.id) e
                            where i.contact_id = c.id
                              and i.state in ('intended', 'sent', 'unknown')
                        )
                    )
                    order by d.changed_seq
                ),
                '[]')
            from unnest(claimed) as l (contact_id)
            join private.metakocka_dirty d
                on d.contact_id = l.contact_id
            join public.contacts c
                on c.id = l.contact_id
               and c.deleted_at is null
            left join public.metakocka_contact_mappings m
                on m.contact_id = l.contact_id
        ),
        -- when there is something to do again, as far as is known now
        'next_at', (
            select min(greatest(d.not_before, d.lease_until))
            from private.metakocka_dirty d
            where d.account_id = claim_dirty_contacts.account_id
              and (claim_dirty_contacts.contact_ids is null
                   or d.contact_id = any (claim_dirty_contacts.contact_ids))
              and d.contact_id <> all (claimed)
        )
    );
end
$$;

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean)
    to service_role;


create function private.take_mark(contact_id uuid, changed_seq bigint)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    delete from private.metakocka_dirty d
    where d.contact_id = take_mark.contact_id
      and d.changed_seq <= take_mark.changed_seq;
    if found then
        return true;
    end if;
    -- changed meanwhile: it is free to be sent again
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null
    where d.contact_id = take_mark.contact_id;
    return not found;
end
$$;


create function backend.settle_partner(
    account_id uuid,
    run_id uuid,
    contact_id uuid,
    changed_seq bigint,
    item jsonb
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    whose constant uuid := private.sync_user(
        account_id => settle_partner.account_id, run_id => settle_partner.run_id);
    given jsonb := item || jsonb_build_object('contact_id', settle_partner.contact_id);
    old_base jsonb;
    result jsonb;
    is_clear boolean;
begin
    perform private.require_list(list => jsonb_build_array(item), field => 'item', longest => 1);
    perform set_config('rapport.from_metakocka', 'yes', true);
    result := private.try_apply_partner(
        account_id => settle_partner.account_id, user_id => whose, item => given);

    if result ->> 'status' = 'stale' and coalesce(item -> 'changes', '{}') <> '{}' then
        -- it has been edited meanwhile. That it is this partner, and what this one was sent,
        -- stands all the same; what was to be written to it is for the next merge
        select m.base
        into old_base
        from public.metakocka_contact_mappings m
        where m.contact_id = settle_partner.contact_id;
        given := given || jsonb_build_object(
            'changes', '{}'::jsonb,
            'expected_version', null,
            'partner_hash', null,
            'push', false,
            'base', (
                select coalesce(
                    jsonb_object_agg(
                        b.key,
                        case
                            when item -> 'changes' ? b.key then coalesce(old_base -> b.key, 'null')
                            else b.value
                        end
                    ),
                    '{}')
                from jsonb_each(item -> 'base') b
            )
        );
        if private.try_apply_partner(
            account_id => settle_partner.account_id, user_id => whose, item => given
        ) ->> 'status' in ('adopted', 'updated', 'unchanged') then
            perform private.mark_dirty(
                account_id => settle_partner.account_id,
                contact_ids => array[settle_partner.contact_id],
                quiet_for => interval '0'
            );
        end if;
    end if;
    perform set_config('rapport.from_metakocka', '', true);

    is_clear := private.take_mark(
        contact_id => settle_partner.contact_id,
        changed_seq => case
            when result ->> 'status' in ('adopted', 'updated', 'unchanged')
                then settle_partner.changed_seq
            else 0
        end
    );
    if is_clear then
        update public.metakocka_contact_mappings m
        set state = 'synced'
        where m.contact_id = settle_partner.contact_id
          and m.account_id = settle_partner.account_id
          and m.state = 'waiting'
          and m.metakocka_id is not null
          and not coalesce((item -> 'push')::boolean, false);
    end if;
    return result || jsonb_build_object('changed_meanwhile', not is_clear);
end
$$;

grant execute on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) to service_role;


create function private.require_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform
    from public.contacts c
    where c.id = require_contact.contact_id
      and c.account_id = require_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('contact: %s', require_contact.contact_id);
    end if;
end
$$;


create function backend.block_contact(
    account_id uuid,
    contact_id uuid,
    changed_seq bigint,
    missing text[],
    state text default 'blocked'
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    is_clear boolean;
begin
    if block_contact.state not in ('blocked', 'conflict', 'unknown') then
        raise sqlstate 'PT422' using
            message = 'What is not sent is blocked, in conflict or unknown.',
            detail = 'field: state';
    end if;
    perform private.require_contact(
        account_id => block_contact.account_id, contact_id => block_contact.contact_id);
    -- mappings before marks, as everywhere
    perform
    from public.metakocka_contact_mappings m
    where m.contact_id = block_contact.contact_id
    for no key update;
    is_clear := private.take_mark(
        contact_id => block_contact.contact_id, changed_seq => block_contact.changed_seq);
    if not is_clear then
        -- what was missing may be there by now
        return false;
    end if;

    insert into public.metakocka_contact_mappings as m (account_id, contact_id, state, missing)
    values (
        block_contact.account_id, block_contact.contact_id, block_contact.state,
        block_contact.missing
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set state = excluded.state,
            missing = excluded.missing
        where (m.state, m.missing) is distinct from (excluded.state, excluded.missing);
    return true;
end
$$;

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text) to service_role;


create function backend.postpone_contact(
    account_id uuid,
    contact_id uuid,
    worker text,
    retry_in interval
)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null,
        not_before = clock_timestamp()
            + least(greatest(postpone_contact.retry_in, interval '0'), interval '1 day')
    where d.contact_id = postpone_contact.contact_id
      and d.account_id = postpone_contact.account_id
      and d.worker = postpone_contact.worker;
end
$$;

grant execute on function backend.postpone_contact(uuid, uuid, text, interval) to service_role;


comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean) is
    'Leases up to 100 contacts that changed, all or those of contact_ids, in the order of their change; a dry_run shows them and leases none: {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, intent}], next_at}.';
comment on function private.take_mark(uuid, bigint) is
    'Takes a contact''s mark away if it is not newer than this; otherwise gives its lease free. Whether there is no mark left.';
comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) is
    'Notes what was agreed when a contact was sent, an item as of apply_partners: its answer with changed_meanwhile, true where the contact is to be sent again. Also if it is stale, that it is this partner stands.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account; refused where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text) is
    'Notes why a contact is not sent: it lacks fields (blocked), a person decides (conflict), or it may have been (unknown). False where it has changed meanwhile and is to be sent again.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent again later.';


/*
    A call that must not happen twice, from before it begins until it is known what became of
    it. Killed at any line, the next worker finds the intent and looks before it calls.
*/
create function backend.begin_intent(
    account_id uuid,
    contact_id uuid,
    operation text,
    fingerprint text,
    sent jsonb default '{}'
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    begun uuid;
begin
    perform private.require_contact(
        account_id => begin_intent.account_id, contact_id => begin_intent.contact_id);

    select i.id
    into begun
    from private.partner_intents i
    where i.contact_id = begin_intent.contact_id
      and i.state in ('intended', 'sent', 'unknown');
    if found then
        return (
            select to_jsonb(e) || jsonb_build_object('is_new', false)
            from private.intent_rows(begun) e
        );
    end if;

    -- made by another worker since the caller has looked
    if operation = 'add_partner' and exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = begin_intent.contact_id
          and m.metakocka_id is not null
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact is a partner already.',
            detail = format('contact: %s', begin_intent.contact_id),
            hint = 'Claim it again.';
    end if;

    insert into private.partner_intents (account_id, contact_id, operation, fingerprint, sent)
    values (
        begin_intent.account_id, begin_intent.contact_id, begin_intent.operation,
        begin_intent.fingerprint, begin_intent.sent
    )
    returning id
    into begun;
    return (
        select to_jsonb(e) || jsonb_build_object('is_new', true)
        from private.intent_rows(begun) e
    );
end
$$;

grant execute on function backend.begin_intent(uuid, uuid, text, text, jsonb) to service_role;


create function private.intent_rows(wanted uuid)
    returns table (
        intent_id uuid,
        operation text,
        fingerprint text,
        sent jsonb,
        state text,
        metakocka_id text,
        age double precision
    )
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        i.id, i.operation, i.fingerprint, i.sent, i.state, i.metakocka_id,
        -- in seconds, since the call began
        extract(epoch from clock_timestamp() - coalesce(i.sent_at, i.created_at))::double precision
    from private.partner_intents i
    where i.id = wanted;
end
$$;


create function backend.settle_intent(
    account_id uuid,
    intent_id uuid,
    state text,
    metakocka_id text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    intent private.partner_intents;
begin
    select i.*
    into intent
    from private.partner_intents i
    where i.id = settle_intent.intent_id
      and i.account_id = settle_intent.account_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such intent.',
            detail = format('intent: %s', settle_intent.intent_id);
    elsif intent.state = settle_intent.state
        and intent.metakocka_id is not distinct from settle_intent.metakocka_id
    then
        -- told again, since the answer was lost; but a call is begun once
        return settle_intent.state <> 'sent';
    end if;

    if not (settle_intent.state, intent.state) in (
        ('sent', 'intended'),
        ('unknown', 'sent'),
        ('settled', 'intended'), ('settled', 'sent'), ('settled', 'unknown'),
        ('abandoned', 'intended'), ('abandoned', 'sent'), ('abandoned', 'unknown')
    ) then
        return false;
    end if;

    update private.partner_intents i
    set state = settle_intent.state,
        metakocka_id = case
            when settle_intent.state = 'settled' then settle_intent.metakocka_id
        end,
        sent_at = case
            when settle_intent.state = 'sent' then clock_timestamp()
            else i.sent_at
        end,
        settled_at = case
            when settle_intent.state in ('settled', 'abandoned') then clock_timestamp()
        end
    where i.id = intent.id;
    return true;
end
$$;

grant execute on function backend.settle_intent(uuid, uuid, text, text) to service_role;


comment on function backend.begin_intent(uuid, uuid, text, text, jsonb) is
    'Notes that a contact''s partner is about to be made (add_partner) or changed: {intent_id, operation, fingerprint, sent, state, metakocka_id, age, is_new}. If one is open already that one, with is_new false: what became of it is to be found out first. A contact that is a partner already gets no other: 409.';
comment on function private.intent_rows(uuid) is
    'An intent as it is told.';
comment on function backend.settle_intent(uuid, uuid, text, text) is
    'Notes how a call stands: sent just before it begins, and then unknown, settled (with the partner''s id) or abandoned. False where that does not follow from where it stood: the caller must not go on.';


/*
    A person decides what the sync could not. A decision moves the agreed state: to the value
    that is not wanted, so that the next merge finds the other side alone changed. It stays
    true if a side changes once more before that: then both have, and it is asked again.
*/
create function private.conflict_to_resolve(conflict_id uuid)
    returns public.sync_conflicts
    language plpgsql
    set search_path = ''
as $$
declare
    conflict public.sync_conflicts;
begin
    select s.*
    into conflict
    from public.sync_conflicts s
    where s.id = conflict_id
      and s.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conflict, or it is not yours to see.',
            detail = format('conflict: %s', conflict_id);
    end if;
    perform private.require_writable(conflict.account_id);

    -- in the lock order: contacts, mappings, then this
    perform
    from public.contacts c
    where c.id = conflict.contact_id
       or c.id = any (conflict.candidates)
    order by c.id
    for no key update;
    perform
    from public.metakocka_contact_mappings m
    where m.account_id = conflict.account_id
      and m.metakocka_id = conflict.metakocka_id
    for no key update;
    select s.*
    into conflict
    from public.sync_conflicts s
    where s.id = conflict_id
    for update;
    if not found or conflict.state <> 'open' then
        raise sqlstate 'PT409' using
            message = 'This has been decided already.',
            detail = format('conflict: %s', conflict_id);
    end if;
    return conflict;
end
$$;


create function private.with_agreed(base jsonb, field text, value jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- place, people.228000046630 or people.228000046630.email
    path constant text[] := string_to_array(field, '.');
    entry jsonb;
    others jsonb;
begin
    if cardinality(path) = 1 then
        return base || jsonb_build_object(field, value);
    end if;

    select
        (jsonb_agg(e) filter (where e ->> 'mk_id' = path[2])) -> 0,
        coalesce(jsonb_agg(e) filter (where e ->> 'mk_id' is distinct from path[2]), '[]')
    into entry, others
    from jsonb_array_elements(coalesce(nullif(base -> path[1], 'null'), '[]')) e;

    entry := case
        when cardinality(path) = 2 then nullif(value, 'null')
        else coalesce(entry, jsonb_build_object('mk_id', path[2]))
            || jsonb_build_object(path[3], value)
    end;
    return base || jsonb_build_object(
        path[1], case when entry is null then others else others || entry end);
end
$$;


create function private.decide_field(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if choice not in ('crm', 'metakocka') then
        raise sqlstate 'PT422' using
            message = 'This is decided for one of the two sides.',
            detail = 'field: choice',
            hint = 'crm or metakocka.';
    end if;
    update public.metakocka_contact_mappings m
    set base = private.with_agreed(
            base => coalesce(m.base, '{}'),
            field => conflict.field,
            value => coalesce(
                case choice when 'crm' then conflict.metakocka else conflict.crm end, 'null')
        ),
        -- the partner is looked at even if it has not changed
        partner_hash = null,
        state = case
            when exists (
                select
                from public.sync_conflicts s
                where s.account_id = conflict.account_id
                  and s.metakocka_id = conflict.metakocka_id
                  and s.state = 'open'
                  and s.id <> conflict.id
            ) then 'conflict'
            else 'waiting'
        end
    where m.contact_id = conflict.contact_id
      and m.metakocka_id = conflict.metakocka_id;
end
$$;


create function private.decide_contact(conflict public.sync_conflicts, choice text)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    chosen uuid;
begin
    if choice = 'new' then
        chosen := gen_random_uuid();
        insert into public.contact_identities (account_id, kind, value, contact_id)
        values (conflict.account_id, 'metakocka', conflict.metakocka_id, chosen)
        on conflict on constraint contact_identities_pkey do nothing;
        if not found then
            raise sqlstate 'PT409' using
                message = 'This partner is a contact by now.',
                detail = 'field: choice';
        end if;
        -- with its name alone: the sync brings the rest
        insert into public.contacts (id, account_id, name)
        values (
            chosen, conflict.account_id,
            nullif(left(btrim(conflict.metakocka ->> 'name'), 200), '')
        );
    else
        if not pg_input_is_valid(choice, 'uuid')
            or not choice::uuid = any (conflict.candidates)
        then
            raise sqlstate 'PT422' using
                message = 'This is none of the contacts that it may be.',
                detail = 'field: choice',
                hint = 'One of the candidates'' ids, or new.';
        end if;
        chosen := choice::uuid;
        if exists (
            select
            from public.contacts c
            where c.id = chosen
              and c.deleted_at is not null
        ) then
            raise sqlstate 'PT409' using
                message = 'This contact has been deleted or merged meanwhile.',
                detail = 'field: choice';
        end if;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, state, user_id
    )
    values (conflict.account_id, chosen, conflict.metakocka_id, 'waiting', auth.uid())
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id
        where m.metakocka_id is null;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This contact is another partner by now.',
            detail = 'field: choice';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner is a contact by now.',
            detail = 'field: choice';
end
$$;


create function private.resolve_conflict(conflict_id uuid, choice text)
    returns uuid
    language plpgsql
    -- definer: conflicts and mappings are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    conflict constant public.sync_conflicts := private.conflict_to_resolve(conflict_id);
    contact uuid := conflict.contact_id;
begin
    if choice is null then
        raise sqlstate 'PT422' using
            message = 'Nothing was chosen.',
            detail = 'field: choice';
    elsif conflict.field is not null then
        perform private.decide_field(conflict => conflict, choice => resolve_conflict.choice);
    else
        contact := private.decide_contact(
            conflict => conflict, choice => resolve_conflict.choice);
    end if;

    perform private.mark_dirty(
        account_id => conflict.account_id,
        contact_ids => array[contact],
        quiet_for => interval '0'
    );
    update public.sync_conflicts s
    set state = 'resolved',
        contact_id = contact,
        choice = resolve_conflict.choice,
        decided_by = 'person',
        resolved_by = auth.uid(),
        resolved_at = clock_timestamp()
    where s.id = conflict.id;
    return contact;
end
$$;

grant execute on function private.resolve_conflict(uuid, text) to authenticated;


create function public.resolve_sync_conflict(conflict_id uuid, choice text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    contact constant uuid := private.resolve_conflict(
        conflict_id => resolve_sync_conflict.conflict_id, choice => resolve_sync_conflict.choice);
begin
    return (
        select to_jsonb(p)
        from public.metakocka_partners p
        where p.id = contact
    );
end
$$;

grant execute on function public.resolve_sync_conflict(uuid, text) to authenticated;


comment on function private.conflict_to_resolve(uuid) is
    'An open conflict, locked with what it is about; refused where it is not the caller''s to decide.';
comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value; null takes an entry out.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Moves what was agreed about a field to the value that is not wanted.';
comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact the partner that several may be, or a new one; returns its id.';
comment on function private.resolve_conflict(uuid, text) is
    'Decides a conflict and has its contact looked at; returns the contact''s id.';
comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict: of a field crm or metakocka, of a partner the id of one of the candidates or new. Answers the row of metakocka_partners; what follows is done by the sync at once. Decided already: 409.';


/*
    The sync's own error log, and how long it and old runs are kept.
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
    -- a log takes what it is given, as far as it can: what is another account's it does not name
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
        -- another run may be at them
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
    'Writes an error of the sync with its context; returns its id. Texts that are too long are cut, and what is not of the account is left out.';
comment on function private.prune_sync(integer, interval) is
    'Deletes errors, decided conflicts, settled intents and ended runs that are older than they are kept, up to batch of each; returns how many in all.';


/*
    What owners and admins ask of the sync. What is another account's does not exist for them,
    and what they may not do is refused before anything is looked up.
*/
create function private.sync_account(account_id uuid, contact_ids uuid[])
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    chosen uuid := account_id;
begin
    -- named by its contacts, or the only one there is
    if chosen is null then
        select min(c.account_id::text)::uuid
        into chosen
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id in (select private.my_account_ids())
        having count(distinct c.account_id) = 1;
    end if;
    if chosen is null then
        select case when count(*) = 1 then min(a::text)::uuid end
        into chosen
        from private.my_admin_account_ids() a;
    end if;

    if chosen is null and (select count(*) from private.my_admin_account_ids()) > 1 then
        raise sqlstate 'PT422' using
            message = 'Several accounts are yours: say which one is meant.',
            detail = 'field: account_id';
    end if;
    if chosen is null or chosen not in (select private.my_admin_account_ids()) then
        if chosen is not null and chosen not in (select private.my_account_ids()) then
            raise sqlstate 'PT404' using
                message = 'There is no such account, or it is not yours to see.',
                detail = 'field: account_id';
        end if;
        raise insufficient_privilege using
            message = 'You may not synchronize the contacts of this account.',
            detail = 'field: account_id',
            hint = 'Its owners and admins may.';
    end if;
    if not exists (
        select
        from public.metakocka_connections k
        where k.account_id = chosen
          and k.active
    ) then
        raise sqlstate 'PT409' using
            message = 'This account has no active connection to Metakocka.',
            detail = 'field: account_id',
            hint = 'Connect it first (metakocka_connections).';
    end if;
    return chosen;
end
$$;


create function private.authorize(account_id uuid, contact_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    chosen constant uuid := private.sync_account(
        account_id => authorize.account_id, contact_ids => authorize.contact_ids);
    known constant uuid[] := array(
        select c.id
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id = chosen
          and c.deleted_at is null
        order by c.id
    );
begin
    return jsonb_build_object(
        'account_id', chosen,
        'user_id', auth.uid(),
        'contact_ids', known,
        'not_found', array(
            select distinct i
            from unnest(contact_ids) i
            where i <> all (known)
            order by i
        )
    );
end
$$;

grant execute on function private.authorize(uuid, uuid[]) to authenticated;


create function public.authorize_sync(account_id uuid default null, contact_ids uuid[] default '{}')
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.authorize(
        account_id => authorize_sync.account_id, contact_ids => authorize_sync.contact_ids);
end
$$;

grant execute on function public.authorize_sync(uuid, uuid[]) to authenticated;


create function private.queue_sync(
    account_id uuid,
    direction text,
    contact_ids uuid[],
    metakocka_ids text[]
)
    returns uuid
    language plpgsql
    -- definer: runs and marks are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
declare
    chosen constant uuid := private.sync_account(
        account_id => queue_sync.account_id, contact_ids => queue_sync.contact_ids);
    asked_for jsonb;
    queued uuid;
    marked uuid[];
begin
    if direction is null or direction not in ('to_metakocka', 'from_metakocka', 'both') then
        raise sqlstate 'PT422' using
            message = 'There is no such direction.',
            detail = 'field: direction',
            hint = 'Known: to_metakocka, from_metakocka, both.';
    elsif cardinality(contact_ids) > 1000 or cardinality(metakocka_ids) > 1000 then
        raise sqlstate 'PT422' using
            message = 'These are too many for one request.',
            detail = case
                when cardinality(contact_ids) > 1000 then 'field: contact_ids'
                else 'field: metakocka_ids'
            end,
            hint = 'At most 1,000; without any all are meant.';
    elsif exists (select from unnest(metakocka_ids) i where i is null or i !~ '^[^\s]{1,64}$') then
        raise sqlstate 'PT422' using
            message = 'This is not the id of a partner.',
            detail = 'field: metakocka_ids';
    end if;

    asked_for := jsonb_strip_nulls(jsonb_build_object(
        'contact_ids', (
            select jsonb_agg(c.id order by c.id)
            from public.contacts c
            where c.id = any (contact_ids)
              and c.account_id = chosen
              and c.deleted_at is null
        ),
        'metakocka_ids', (
            select jsonb_agg(distinct i order by i)
            from unnest(metakocka_ids) i
        )
    ));
    if cardinality(contact_ids) > 0 and not asked_for ? 'contact_ids' then
        raise sqlstate 'PT404' using
            message = 'There are no such contacts, or they are not yours to see.',
            detail = 'field: contact_ids';
    end if;

    if direction <> 'from_metakocka' then
        marked := array(
            select c.id
            from public.contacts c
            left join public.metakocka_contact_mappings m
                on m.contact_id = c.id
            where c.account_id = chosen
              and c.deleted_at is null
              and case
                  when asked_for ? 'contact_ids' then c.id = any (contact_ids)
                  else m.state is distinct from 'synced'
              end
            order by c.id
        );
        if marked <> '{}' then
            perform private.mark_dirty(
                account_id => chosen, contact_ids => marked, quiet_for => interval '0');
        end if;
    end if;

    insert into public.sync_runs as r (account_id, direction, trigger, request, user_id)
    values (chosen, queue_sync.direction, 'user', asked_for, auth.uid())
    -- the same that waits already: its answer is for both
    on conflict (account_id, direction, md5(request::text)) where state = 'queued' do nothing
    returning r.id
    into queued;
    if queued is null then
        select r.id
        into queued
        from public.sync_runs r
        where r.account_id = chosen
          and r.direction = queue_sync.direction
          and r.request = asked_for
          and r.state in ('queued', 'running')
        order by r.created_at desc
        limit 1;
    end if;
    perform private.ring('metakocka_sync');
    return queued;
end
$$;

grant execute on function private.queue_sync(uuid, text, uuid[], text[]) to authenticated;


create function public.request_sync(
    direction text,
    account_id uuid default null,
    contact_ids uuid[] default '{}',
    metakocka_ids text[] default '{}'
)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
begin
    return private.queue_sync(
        account_id => request_sync.account_id,
        direction => request_sync.direction,
        contact_ids => request_sync.contact_ids,
        metakocka_ids => request_sync.metakocka_ids
    );
end
$$;

grant execute on function public.request_sync(text, uuid, uuid[], text[]) to authenticated;


create function public.metakocka_mappings(
    contact_id uuid default null,
    cursor text default null,
    page_size integer default 100,
    account_id uuid default null
)
    returns jsonb
    language plpgsql
    stable
    -- invoker: what the caller may not read does not exist
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    page jsonb;
begin
    if contact_id is not null and not exists (
        select
        from public.contacts c
        where c.id = metakocka_mappings.contact_id
          and c.deleted_at is null
    ) then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = 'field: contact_id';
    end if;

    select coalesce(jsonb_agg(to_jsonb(p) order by p.metakocka_id, p.contact_id), '[]')
    into page
    from (
        select
            m.contact_id, m.account_id, m.metakocka_id, m.state, m.missing, m.user_id,
            m.last_synced_at, m.created_at, m.updated_at
        from public.metakocka_contact_mappings m
        where (metakocka_mappings.contact_id is null or m.contact_id = metakocka_mappings.contact_id)
          and (metakocka_mappings.account_id is null or m.account_id = metakocka_mappings.account_id)
          and m.metakocka_id is not null
          and (
              metakocka_mappings.cursor is null
              or (m.metakocka_id, m.contact_id) > (
                  substr(metakocka_mappings.cursor, 38),
                  substr(metakocka_mappings.cursor, 1, 36)::uuid
              )
          )
        order by m.metakocka_id, m.contact_id
        limit page_limit
    ) p;
    return jsonb_build_object(
        'mappings', page,
        'cursor', case
            when jsonb_array_length(page) = page_limit
                then concat_ws(' ', page -> -1 ->> 'contact_id', page -> -1 ->> 'metakocka_id')
        end
    );
exception
    when invalid_text_representation then
        raise sqlstate 'PT400' using
            message = 'This is not a cursor of metakocka_mappings.',
            hint = 'Send the cursor of the last page unchanged, or none to start anew.';
end
$$;

grant execute on function public.metakocka_mappings(uuid, text, integer, uuid) to authenticated;


comment on function private.sync_account(uuid, uuid[]) is
    'The account that is meant; refused unless it is connected and the caller administers it.';
comment on function private.authorize(uuid, uuid[]) is
    'The account and those of the contacts that are its own.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts: {account_id, user_id, contact_ids, not_found}, for owners and admins of a connected account. Without account_id that of the contacts, or the only one that you administer.';
comment on function private.queue_sync(uuid, text, uuid[], text[]) is
    'Queues a run, marks its contacts and rings; returns the run''s id.';
comment on function public.request_sync(text, uuid, uuid[], text[]) is
    'Asks for a sync of some contacts or partners, or of all: returns the id of a run in sync_runs. For owners and admins; contacts of another account do not exist.';
comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'Which contacts are which partners, by page: {mappings, cursor}; of one contact, or of all that you see. The last page has no cursor.';


alter publication supabase_realtime add table
    public.jobs,
    public.invoices,
    public.loyalty_transactions,
    public.sync_runs;
