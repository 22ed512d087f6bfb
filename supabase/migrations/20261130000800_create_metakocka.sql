-- Made from sql/8_metakocka/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    An account's connection to its company at Metakocka. The secret key is a parameter outside the
    database, so a reader of this row can't call Metakocka with it.
*/
create table public.metakocka_connections (
    account_id           uuid primary key
                         constraint metakocka_connections_account_id_fkey
                         references public.accounts on delete cascade,
    company_id           text not null
                         constraint metakocka_connections_company_id_check
                         check (company_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    -- null: the service's own address. Only a named host with TLS, since functions call it.
    base_url             text
                         constraint metakocka_connections_base_url_check
                         check (
                             length(base_url) <= 255
                             and base_url ~ '^https://([a-z0-9-]+\.)+[a-z]{2,}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$'
                         ),
    -- the user who connected it
    user_id              uuid default auth.uid(),
    active               boolean not null default true,
    -- the side whose value wins where both sides have changed a field
    conflict_rule        text not null default 'ask'
                         constraint metakocka_connections_conflict_rule_check
                         check (conflict_rule in ('crm', 'metakocka', 'newest', 'ask')),
    -- how changed partners are found, since Metakocka can't be asked for changes
    listing              text not null default 'all'
                         constraint metakocka_connections_listing_check
                         check (listing in ('all', 'documents')),
    sync_interval        interval not null default interval '15 minutes'
                         constraint metakocka_connections_sync_interval_check
                         check (sync_interval between interval '1 minute' and interval '7 days'),
    -- how long a request waits for a running run of the account
    request_wait         interval not null default interval '8 seconds'
                         constraint metakocka_connections_request_wait_check
                         check (request_wait between interval '0' and interval '12 seconds'),
    -- by kind of operation: tries, and the waits between them
    retries              jsonb not null default '{}',
    -- the number of pauses in a row; each is longer than the one before
    pauses               integer not null default 0
                         constraint metakocka_connections_pauses_check check (pauses >= 0),
    -- while Metakocka takes no calls for this company: until when no calls are made, and why
    paused_until         timestamptz,
    pause_reason         text
                         constraint metakocka_connections_pause_reason_check
                         check (length(pause_reason) <= 500),
    -- up to when documents have been read for their partners
    documents_seen_until timestamptz,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    version              bigint not null default 1
);
alter table public.metakocka_connections enable row level security;


grant select, delete on public.metakocka_connections to authenticated;


/*
    The company whose partners are the account's contacts, even after the connection has ended: with
    another company, every partner would be a new one. A company belongs to one account. One key may
    open several companies, so an account that named another account's company would read its
    partners.
*/
create table private.metakocka_companies (
    account_id uuid primary key
               constraint metakocka_companies_account_id_fkey
               references public.accounts on delete cascade,
    company_id text not null
);
alter table private.metakocka_companies enable row level security;


create function private.company_key(company_id text)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    -- it is not known how Metakocka reads 016
    select lower(regexp_replace(company_id, '^0+(?=.)', ''))
$$;

create unique index metakocka_companies_company_key
    on private.metakocka_companies (private.company_key(company_id));


create function private.tg_metakocka_connections__keep_company()
    returns trigger
    language plpgsql
    -- definer: users may not read earlier connections
    security definer
    set search_path = ''
as $$
begin
    insert into private.metakocka_companies as k (account_id, company_id)
    values (new.account_id, new.company_id)
    on conflict on constraint metakocka_companies_pkey do update
        set company_id = excluded.company_id
        where k.company_id = excluded.company_id
           or not exists (
               select
               from public.metakocka_contact_mappings m
               where m.account_id = excluded.account_id
                 and m.metakocka_id is not null
           );
    if not found then
        raise sqlstate 'PT409' using
            message = 'Contacts of this account are partners of another company.',
            detail = 'field: company_id',
            hint = 'Connect the account to the company that it was connected to before.';
    end if;
    return null;
exception
    -- metakocka_companies_company_key, which also sees connections at the same moment
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This company is connected to another account.',
            detail = 'field: company_id',
            hint = 'Check the company''s id. If it is right, ask the operator of this service.';
end
$$;


create function private.tg_metakocka_connections__leave_company()
    returns trigger
    language plpgsql
    -- definer: users may not write companies
    security definer
    set search_path = ''
as $$
begin
    -- a company without any partner among the contacts may have been a mistake
    delete from private.metakocka_companies k
    where k.account_id = old.account_id
      and not exists (
          select
          from public.metakocka_contact_mappings m
          where m.account_id = old.account_id
            and m.metakocka_id is not null
      );
    return null;
end
$$;


create trigger _005_default_account
    before insert on public.metakocka_connections
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _050_keep_owner
    before update of account_id on public.metakocka_connections
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_connections
    for each row
    execute function private.tg__stamp_change();

-- after the row: the company's present account has been checked by then
create trigger _150_keep_company_insert
    after insert on public.metakocka_connections
    for each row
    execute function private.tg_metakocka_connections__keep_company();

create trigger _150_keep_company_update
    after update on public.metakocka_connections
    for each row
    when (new.company_id <> old.company_id)
    execute function private.tg_metakocka_connections__keep_company();

create trigger _150_leave_company
    after delete on public.metakocka_connections
    for each row
    execute function private.tg_metakocka_connections__leave_company();


comment on table public.metakocka_connections is
    'An account''s connection to its company at Metakocka. The secret key is not here. For owners and admins.';
comment on column public.metakocka_connections.account_id is
    'The connected account; filled in if you write for one account.';
comment on column public.metakocka_connections.company_id is
    'The company''s id at Metakocka. It can''t change once contacts are partners of this company (409), and it can''t be a company that another account is connected to (409).';
comment on column public.metakocka_connections.base_url is
    'The address of a company with a server of its own; null for https://main.metakocka.si/rest/eshop/v1.';
comment on column public.metakocka_connections.user_id is
    'The user who connected the account.';
comment on column public.metakocka_connections.active is
    'Whether the account is synchronized. Known contacts that change while it is false are sent once it is true again.';
comment on column public.metakocka_connections.conflict_rule is
    'The side whose value wins where both sides have changed a field: crm, metakocka or newest; ask leaves it to a person (sync_conflicts).';
comment on column public.metakocka_connections.listing is
    'How partners are found. all: list and compare every partner; documents: only the partners of changed documents.';
comment on column public.metakocka_connections.sync_interval is
    'How often partners are read. Contacts that change are sent at once.';
comment on column public.metakocka_connections.request_wait is
    'How long a request waits for a running run of the account to end: 0 to 12 seconds.';
comment on column public.metakocka_connections.retries is
    'How often a call is tried, and the waits in between, for each kind of operation. contact is for a contact that failed, and pause for an account whose company takes no calls. Waits are in seconds and double from try to try. jitter is the random part of a wait, from 0 to 1. A write may name only some settings; the others stay as they are.'
    ' Type: {read: {attempts: integer, first_wait: numeric, longest_wait: numeric, jitter: numeric}, list: {attempts: integer, first_wait: numeric, longest_wait: numeric, jitter: numeric}, write: {attempts: integer, first_wait: numeric, longest_wait: numeric, jitter: numeric}, create: {attempts: integer, first_wait: numeric, longest_wait: numeric, jitter: numeric}, contact: {first_wait: numeric, longest_wait: numeric, jitter: numeric}, pause: {first_wait: numeric, longest_wait: numeric, jitter: numeric}}';
comment on column public.metakocka_connections.pauses is
    'The number of pauses in a row. Each is longer than the one before.';
comment on column public.metakocka_connections.paused_until is
    'Until when no calls are made (UTC), because of a quota or a key that Metakocka does not accept; null if there is no pause. Set it to null to try at once.';
comment on column public.metakocka_connections.pause_reason is
    'The reason of the pause, in a sentence; null if there is no pause.';
comment on column public.metakocka_connections.documents_seen_until is
    'Up to when documents have been read for their partners (UTC).';
comment on column public.metakocka_connections.created_at is
    'When the account was connected (server time, UTC).';
comment on column public.metakocka_connections.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.metakocka_connections.version is
    'Rises by 1 with each change of the row.';
comment on table private.metakocka_companies is
    'The company whose partners are the account''s contacts. It belongs to this account only.';
comment on function private.company_key(text) is
    'One key for all spellings of a company''s id.';
comment on index private.metakocka_companies_company_key is
    'A company belongs to one account.';
comment on function private.tg_metakocka_connections__keep_company() is
    'Refuses another company once contacts are partners of the present one, and a company of another account.';
comment on function private.tg_metakocka_connections__leave_company() is
    'Gives a company free if no contact is a partner of it.';
comment on constraint metakocka_connections_pkey on public.metakocka_connections is
    'This account is connected to Metakocka already.
Change the existing connection.';
comment on constraint metakocka_connections_company_id_check on public.metakocka_connections is
    'A company_id must have 1 to 64 letters, digits, hyphens and underscores.
Metakocka shows it beside the secret key.';
comment on constraint metakocka_connections_base_url_check on public.metakocka_connections is
    'A base_url must begin with https:// and the name of a host, and have at most 255 characters.
For example https://main.metakocka.si/rest/eshop/v1. Leave it out for the service''s own address.';
comment on constraint metakocka_connections_conflict_rule_check on public.metakocka_connections is
    'There is no such conflict_rule.
Use crm, metakocka, newest or ask.';
comment on constraint metakocka_connections_listing_check on public.metakocka_connections is
    'There is no such listing.
Use all or documents.';
comment on constraint metakocka_connections_sync_interval_check on public.metakocka_connections is
    'A sync_interval must be from 1 minute to 7 days.
For example 00:15:00.';
comment on constraint metakocka_connections_request_wait_check on public.metakocka_connections is
    'A request_wait must be from 0 to 12 seconds.
For example 00:00:08.';
comment on constraint metakocka_connections_pause_reason_check on public.metakocka_connections is
    'A pause_reason can have at most 500 characters.';
comment on constraint metakocka_connections_pauses_check on public.metakocka_connections is
    'The number of pauses can''t be negative.';

select private.limit_writes('metakocka_connections', '{insert,update,delete}');


/*
    How patiently the sync calls Metakocka, for each kind of operation. A connection shows all
    settings. A write changes the settings that it names and keeps the others.
*/
create function private.retry_limits()
    returns table (
        kind text,
        setting text,
        usual numeric,
        least_value numeric,
        most_value numeric
    )
    language sql
    immutable
    set search_path = ''
as $$
    values
        -- get_partner and search; waits are in seconds
        ('read', 'attempts', 4, 1, 10),
        ('read', 'first_wait', 0.5, 0, 10),
        ('read', 'longest_wait', 8, 0, 25),
        ('read', 'jitter', 1, 0, 1),
        -- all partners in one answer
        ('list', 'attempts', 1, 1, 3),
        ('list', 'first_wait', 0.5, 0, 10),
        ('list', 'longest_wait', 8, 0, 25),
        ('list', 'jitter', 1, 0, 1),
        -- changes of existing entries
        ('write', 'attempts', 4, 1, 10),
        ('write', 'first_wait', 0.5, 0, 10),
        ('write', 'longest_wait', 8, 0, 25),
        ('write', 'jitter', 1, 0, 1),
        -- new partners and entries: repeated only if Metakocka did not receive the call
        ('create', 'attempts', 4, 1, 10),
        ('create', 'first_wait', 0.5, 0, 10),
        ('create', 'longest_wait', 8, 0, 25),
        ('create', 'jitter', 1, 0, 1),
        -- a contact that could not be sent: tried again in a later run
        ('contact', 'first_wait', 15, 1, 3600),
        ('contact', 'longest_wait', 3600, 1, 86400),
        ('contact', 'jitter', 1, 0, 1),
        -- an account whose company takes no calls
        ('pause', 'first_wait', 60, 1, 3600),
        ('pause', 'longest_wait', 3600, 1, 86400),
        ('pause', 'jitter', 0, 0, 1)
$$;


create function private.read_retries(given jsonb, present jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    wrong record;
    whole jsonb;
begin
    if jsonb_typeof(given) is distinct from 'object'
        or exists (select from jsonb_each(given) k where jsonb_typeof(k.value) <> 'object')
    then
        raise sqlstate 'PT422' using
            message = 'Retries must be an object with an object for each kind of operation.',
            detail = 'field: retries',
            hint = 'For example {"read": {"attempts": 4, "first_wait": 0.5}}.';
    end if;
    select format('retries.%s.%s', k.key, s.key) as field, l.least_value, l.most_value
    into wrong
    from jsonb_each(given) k
    cross join lateral jsonb_each(
        case when k.value = '{}' then '{"": null}' else k.value end) s
    left join private.retry_limits() l
        on l.kind = k.key
       and l.setting = s.key
    where case
        when k.value = '{}' then not exists (
            select from private.retry_limits() o where o.kind = k.key
        )
        else l.kind is null
            or jsonb_typeof(s.value) <> 'number'
            or s.value::numeric not between l.least_value and l.most_value
            or s.key = 'attempts' and s.value::numeric % 1 <> 0
    end
    order by 1
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = case
                when wrong.least_value is null then 'There is no such setting.'
                else format(
                    'This must be a number from %s to %s.', wrong.least_value, wrong.most_value)
            end,
            detail = 'field: ' || rtrim(wrong.field, '.'),
            hint = case
                when wrong.least_value is null then 'The kinds read, list, write and create have attempts, first_wait, longest_wait and jitter. The kinds contact and pause have no attempts.'
                else 'Waits are in seconds, jitter is the random part of a wait, and attempts are whole numbers.'
            end;
    end if;

    select jsonb_object_agg(k.kind, k.settings)
    into whole
    from (
        select
            l.kind,
            jsonb_object_agg(
                l.setting,
                coalesce(
                    given -> l.kind -> l.setting,
                    present -> l.kind -> l.setting,
                    to_jsonb(l.usual)
                )
            ) as settings
        from private.retry_limits() l
        group by l.kind
    ) k;
    select k.key as kind
    into wrong
    from jsonb_each(whole) k
    where (k.value ->> 'longest_wait')::numeric < (k.value ->> 'first_wait')::numeric
    order by 1
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = 'The longest wait can''t be shorter than the first one.',
            detail = format('field: retries.%s.longest_wait', wrong.kind);
    end if;
    return whole;
end
$$;


create function private.tg_metakocka_connections__read_settings()
    returns trigger
    language plpgsql
    -- definer: users have no rights on private functions
    security definer
    set search_path = ''
as $$
begin
    new.retries := private.read_retries(
        given => new.retries,
        present => case when tg_op = 'UPDATE' then old.retries else '{}' end
    );
    if tg_op = 'UPDATE' and new.paused_until is null then
        new.pause_reason := null;
        new.pauses := 0;
    end if;
    return new;
end
$$;

create trigger _120_read_settings_insert
    before insert on public.metakocka_connections
    for each row
    execute function private.tg_metakocka_connections__read_settings();

create trigger _120_read_settings_update
    before update on public.metakocka_connections
    for each row
    when (new.retries <> old.retries or new.paused_until is null and old.paused_until is not null)
    execute function private.tg_metakocka_connections__read_settings();


create function private.tg_metakocka_connections__end_pause()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = 'A pause can only be ended.',
        detail = 'field: paused_until',
        hint = 'Set paused_until to null to try at once.';
end
$$;

create trigger _110_end_pause
    before update of paused_until on public.metakocka_connections
    for each row
    when (new.paused_until is not null
          and new.paused_until is distinct from old.paused_until
          and current_user = 'authenticated')
    execute function private.tg_metakocka_connections__end_pause();


create function private.tg_metakocka_connections__ring()
    returns trigger
    language plpgsql
    -- definer: users may not ring the doorbell
    security definer
    set search_path = ''
as $$
begin
    perform private.ring('metakocka_sync');
    return null;
end
$$;

create trigger _600_ring
    after update of paused_until on public.metakocka_connections
    for each row
    when (new.paused_until is null and old.paused_until is not null)
    execute function private.tg_metakocka_connections__ring();


comment on function private.retry_limits() is
    'The settings of retries, with their defaults and limits. Waits are in seconds.';
comment on function private.read_retries(jsonb, jsonb) is
    'All settings: the given ones over the present ones over the defaults. Refuses unknown settings and values outside the limits.';
comment on function private.tg_metakocka_connections__read_settings() is
    'Fills in a connection''s settings. Clears the reason of a pause when the pause ends.';
comment on function private.tg_metakocka_connections__end_pause() is
    'Refuses to make or move a pause.';
comment on function private.tg_metakocka_connections__ring() is
    'Wakes the sync when a pause is ended.';


/*
    The partner of each contact at Metakocka, and the state on which both sides last agreed. A side
    that differs from the agreed state has changed since.
*/
create table public.metakocka_contact_mappings (
    contact_id     uuid primary key,
    account_id     uuid not null,
    -- null while Metakocka does not have the contact
    metakocka_id   text
                   constraint metakocka_contact_mappings_metakocka_id_check
                   check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- partners that, as a person has said, are not this contact
    not_partners   text[] not null default '{}'
                   constraint metakocka_contact_mappings_not_partners_check
                   check (cardinality(not_partners) <= 1000
                          and array_position(not_partners, null) is null),
    state          text not null
                   constraint metakocka_contact_mappings_state_check
                   check (state in (
                       'synced', 'waiting', 'conflict', 'blocked', 'unknown', 'unlinked'
                   )),
    -- the required fields that the contact lacks
    missing        text[] not null default '{}'
                   constraint metakocka_contact_mappings_missing_check
                   check (cardinality(missing) <= 30 and array_position(missing, null) is null),
    -- the fields as both sides last agreed on them; null before that
    base           jsonb
                   constraint metakocka_contact_mappings_base_check
                   check (jsonb_typeof(base) = 'object' and octet_length(base::text) <= 131072),
    -- the contact's version at the last agreement
    base_version   bigint,
    -- of the partner as last seen: a partner with the same hash is not compared
    partner_hash   text
                   constraint metakocka_contact_mappings_partner_hash_check
                   check (length(partner_hash) <= 128),
    -- the user who connected the account, or asked for the run
    user_id        uuid,
    -- when the partner was last seen in its agreed state
    seen_at        timestamptz,
    last_synced_at timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    version        bigint not null default 1,

    constraint metakocka_contact_mappings_metakocka_id_key unique (account_id, metakocka_id),
    constraint metakocka_contact_mappings_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- an agreed state needs a partner
    constraint metakocka_contact_mappings_synced_check
        check (metakocka_id is not null or (state <> 'synced' and base is null))
);
alter table public.metakocka_contact_mappings enable row level security;


grant select on public.metakocka_contact_mappings to authenticated;


create trigger _050_keep_owner
    before update of account_id on public.metakocka_contact_mappings
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_contact_mappings
    for each row
    execute function private.tg__stamp_change();


comment on table public.metakocka_contact_mappings is
    'The partner of each contact at Metakocka, and the state on which both sides last agreed.';
comment on column public.metakocka_contact_mappings.contact_id is
    'The contact.';
comment on column public.metakocka_contact_mappings.account_id is
    'The contact''s account.';
comment on column public.metakocka_contact_mappings.metakocka_id is
    'The partner''s mk_id; null while Metakocka does not have the contact.';
comment on column public.metakocka_contact_mappings.not_partners is
    'The mk_ids of partners that, as a person has said, are not this contact. The sync never takes one of them for it again.';
comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or checked; conflict: a person must decide (sync_conflicts); blocked: it can''t be sent because fields are missing or the contact is deleted; unknown: the partner may have been made, and the sync is checking; unlinked: a person wants no partner for it, and only a request sends it.';
comment on column public.metakocka_contact_mappings.missing is
    'The fields that Metakocka requires and the contact lacks.';
comment on column public.metakocka_contact_mappings.base is
    'The fields as both sides last agreed on them. A side that differs from them has changed since. Null before the first agreement.';
comment on column public.metakocka_contact_mappings.base_version is
    'The contact''s version at the last agreement.';
comment on column public.metakocka_contact_mappings.partner_hash is
    'A digest of the partner as it was last seen.';
comment on column public.metakocka_contact_mappings.user_id is
    'The user who connected the account, or asked for the sync that wrote this row.';
comment on column public.metakocka_contact_mappings.seen_at is
    'When the partner was last seen in its agreed state (UTC): a difference in it now was edited later. While nothing waits to be sent, the partner may have been seen later than this.';
comment on column public.metakocka_contact_mappings.last_synced_at is
    'When both sides last agreed on something new (UTC).';
comment on column public.metakocka_contact_mappings.created_at is
    'When the mapping was made (server time, UTC).';
comment on column public.metakocka_contact_mappings.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.metakocka_contact_mappings.version is
    'Rises by 1 with each change of the row.';


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
    user_id     uuid,
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
comment on table private.sync_leases is
    'The worker of each account, with its run and the end of its lease.';


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


/*
    Partners whose contacts were erased. The ERP still has them, and the sync would bring them back:
    so a salted hash of each is kept, and nothing else. The sync leaves them alone until a person
    asks for one by its id.
*/
create table private.partner_salts (
    account_id uuid primary key
               constraint partner_salts_account_id_fkey
               references public.accounts on delete cascade,
    salt       bytea not null default extensions.gen_random_bytes(32)
);
alter table private.partner_salts enable row level security;


create table private.forgotten_partners (
    account_id   uuid not null
                 constraint forgotten_partners_account_id_fkey
                 references public.accounts on delete cascade,
    partner_hash bytea not null,
    forgotten_at timestamptz not null default now(),

    primary key (account_id, partner_hash)
);
alter table private.forgotten_partners enable row level security;


create function private.partner_key(account_id uuid, metakocka_id text)
    returns bytea
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select sha256(s.salt || convert_to(metakocka_id, 'UTF8'))
        from private.partner_salts s
        where s.account_id = partner_key.account_id
    );
end
$$;


create function private.are_partners_forgotten(account_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- most accounts have erased nobody, and need no hash
    return exists (
        select
        from private.forgotten_partners f
        where f.account_id = are_partners_forgotten.account_id
    );
end
$$;


create function private.is_partner_forgotten(account_id uuid, metakocka_id text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.forgotten_partners f
        where f.account_id = is_partner_forgotten.account_id
          and f.partner_hash = private.partner_key(
              account_id => is_partner_forgotten.account_id,
              metakocka_id => is_partner_forgotten.metakocka_id
          )
    );
end
$$;


create function private.forget_partner_ids(account_id uuid, metakocka_ids text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if metakocka_ids = '{}' then
        return;
    end if;
    insert into private.partner_salts (account_id)
    values (forget_partner_ids.account_id)
    on conflict do nothing;
    insert into private.forgotten_partners (account_id, partner_hash)
    select
        forget_partner_ids.account_id,
        private.partner_key(account_id => forget_partner_ids.account_id, metakocka_id => i)
    from unnest(metakocka_ids) i
    on conflict do nothing;
end
$$;


create function private.tg_sync_runs__recall_partners()
    returns trigger
    language plpgsql
    -- definer: users may not write forgotten partners
    security definer
    set search_path = ''
as $$
begin
    delete from private.forgotten_partners f
    using jsonb_array_elements_text(case jsonb_typeof(new.request -> 'metakocka_ids')
        when 'array' then new.request -> 'metakocka_ids' else '[]' end) i
    where f.account_id = new.account_id
      and f.partner_hash = private.partner_key(account_id => new.account_id, metakocka_id => i);
    return null;
end
$$;


create trigger _500_recall_partners
    after insert on public.sync_runs
    for each row
    when (new.trigger = 'user' and new.request ? 'metakocka_ids')
    execute function private.tg_sync_runs__recall_partners();


comment on table private.partner_salts is
    'The salt of an account''s forgotten partners.';
comment on table private.forgotten_partners is
    'Partners that the sync leaves alone, since their contacts were erased: salted hashes of their ids.';
comment on function private.partner_key(uuid, text) is
    'The salted hash of a partner''s id; null where the account has forgotten none.';
comment on function private.are_partners_forgotten(uuid) is
    'Whether an account has forgotten partners.';
comment on function private.is_partner_forgotten(uuid, text) is
    'Whether the sync leaves a partner alone.';
comment on function private.forget_partner_ids(uuid, text[]) is
    'Has the sync leave these partners alone from now on.';
comment on function private.tg_sync_runs__recall_partners() is
    'A partner that a person asks for by its id is no longer forgotten.';


/*
    Questions that the sync could not or must not decide: a field that both sides have changed; a
    partner that may be one of several contacts; a contact that may be one of several partners, or
    whose partner is gone. Decisions by rule are recorded here too.
*/
create table public.sync_conflicts (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_conflicts_account_id_fkey
                 references public.accounts on delete cascade,
    -- null where the contact is not known
    contact_id   uuid,
    -- null where the contact has no partner so far
    metakocka_id text
                 constraint sync_conflicts_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- null where the question is about a contact or a partner
    field        text
                 constraint sync_conflicts_field_check check (length(field) between 1 and 128),
    base         jsonb,
    crm          jsonb,
    -- the value of the field, or the partner
    metakocka    jsonb,
    -- where the question is which partner a contact is: the possible ones
    partners     jsonb
                 constraint sync_conflicts_partners_check
                 check (jsonb_typeof(partners) = 'array' and octet_length(partners::text) <= 262144),
    question     text generated always as (
                     case
                         when partners is not null then 'partner'
                         when field is not null then 'field'
                         else 'contact'
                     end
                 ) stored,
    candidates   uuid[] not null default '{}'
                 constraint sync_conflicts_candidates_check check (cardinality(candidates) <= 100),
    state        text not null default 'open'
                 constraint sync_conflicts_state_check check (state in ('open', 'resolved')),
    -- crm or metakocka; the id of a contact or a partner; new; unlink; or agreed, where both sides
    -- came to the same value
    choice       text
                 constraint sync_conflicts_choice_check check (length(choice) <= 64),
    -- the account's rule, a person, or both sides
    decided_by   text
                 constraint sync_conflicts_decided_by_check
                 check (decided_by in ('crm', 'metakocka', 'newest', 'person', 'both')),
    resolved_by  uuid,
    resolved_at  timestamptz,
    created_at   timestamptz not null default now(),

    constraint sync_conflicts_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- a conflict about a field has a known contact
    constraint sync_conflicts_field_contact_check check (field is null or contact_id is not null),
    constraint sync_conflicts_question_check check (
        case
            when partners is null then metakocka_id is not null
            else contact_id is not null and field is null
        end
    ),
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


-- a question is asked only once
create unique index sync_conflicts_open_key
    on public.sync_conflicts (account_id, metakocka_id, field)
    nulls not distinct
    where state = 'open' and partners is null;

create unique index sync_conflicts_open_partner_key
    on public.sync_conflicts (account_id, contact_id)
    where state = 'open' and partners is not null;

create index sync_conflicts_latest_idx
    on public.sync_conflicts (account_id, created_at desc, id);

create index sync_conflicts_contact_idx
    on public.sync_conflicts (contact_id, account_id);


grant select on public.sync_conflicts to authenticated;


comment on table public.sync_conflicts is
    'Fields that both sides have changed, and contacts or partners that the sync can''t identify. resolve_sync_conflict decides them.';
comment on column public.sync_conflicts.id is
    'Identifies the conflict; resolve_sync_conflict takes it.';
comment on column public.sync_conflicts.account_id is
    'The account of the contacts.';
comment on column public.sync_conflicts.contact_id is
    'The contact; null while the question is which contact the partner is.';
comment on column public.sync_conflicts.metakocka_id is
    'The partner. Where the question is which partner a contact is: its present partner or the one that is gone; null if it has none.';
comment on column public.sync_conflicts.field is
    'The field that both sides have changed; within a list for example people.228000046630.email. Null for other questions.';
comment on column public.sync_conflicts.base is
    'The field''s value at the last agreement; null for other questions.';
comment on column public.sync_conflicts.crm is
    'The contact''s value when the conflict was last seen; null for other questions.';
comment on column public.sync_conflicts.metakocka is
    'The partner''s value; where the question is which contact the partner is, the partner itself.';
comment on column public.sync_conflicts.partners is
    'The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other questions.';
comment on column public.sync_conflicts.question is
    'field: which value wins; contact: which contact the partner is; partner: which partner the contact is.';
comment on column public.sync_conflicts.candidates is
    'The ids of the contacts that may be the partner.';
comment on column public.sync_conflicts.state is
    'open or resolved.';
comment on column public.sync_conflicts.choice is
    'The decision: crm or metakocka; the id of a contact or a partner; new; unlink; or agreed where both sides came to the same value. Null while it is open.';
comment on column public.sync_conflicts.decided_by is
    'Who decided: a rule of the connection (crm, metakocka, newest), a person, or both sides. Null while it is open.';
comment on column public.sync_conflicts.resolved_by is
    'The person who decided; null where no person did.';
comment on column public.sync_conflicts.resolved_at is
    'When it was decided (server time, UTC); null while it is open.';
comment on column public.sync_conflicts.created_at is
    'When the question came up (server time, UTC).';


/*
    Errors between a contact and its partner, with the facts that help to understand them and
    without secrets. For owners and admins.
*/
create table public.sync_errors (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_errors_account_id_fkey
                 references public.accounts on delete cascade,
    run_id       uuid,
    contact_id   uuid,
    -- or batch, for an error about several partners
    metakocka_id text
                 constraint sync_errors_metakocka_id_check check (length(metakocka_id) <= 64),
    user_id      uuid,
    category     text not null default 'SYNC'
                 constraint sync_errors_category_check check (category = 'SYNC'),
    -- the operation, such as syncContactToMetakocka
    operation    text not null
                 constraint sync_errors_operation_check check (length(operation) between 1 and 128),
    code         text not null
                 constraint sync_errors_code_check check (length(code) between 1 and 64),
    message      text not null
                 constraint sync_errors_message_check check (length(message) <= 1000),
    details      jsonb not null default '{}'
                 constraint sync_errors_details_check
                 check (jsonb_typeof(details) = 'object' and octet_length(details::text) <= 16384),
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


grant select on public.sync_errors to authenticated;


comment on table public.sync_errors is
    'Errors of the sync with their context. For owners and admins.';
comment on column public.sync_errors.id is
    'Identifies the error.';
comment on column public.sync_errors.account_id is
    'The account of the sync.';
comment on column public.sync_errors.run_id is
    'The run in which it happened; null outside of runs, and once the run is deleted.';
comment on column public.sync_errors.contact_id is
    'The contact that it is about; null where there is none.';
comment on column public.sync_errors.metakocka_id is
    'The partner''s mk_id, or batch for an error about several partners.';
comment on column public.sync_errors.user_id is
    'The user who asked for the sync, or connected the account; null where none is known.';
comment on column public.sync_errors.category is
    'Always SYNC.';
comment on column public.sync_errors.operation is
    'The operation, such as syncContactToMetakocka.';
comment on column public.sync_errors.code is
    'The kind of error, as the code names it.';
comment on column public.sync_errors.message is
    'The error, in a sentence.';
comment on column public.sync_errors.details is
    'More facts about the error. Never a request''s body, since that holds the secret key.';
comment on column public.sync_errors.attempts is
    'The number of tries.';
comment on column public.sync_errors.created_at is
    'When it happened (server time, UTC).';


/*
    Contacts that differ from their partners at Metakocka: a row is a job. Each statement on
    contacts marks its changes and rings. A mark has a number. After sending a contact a worker
    removes the mark that it saw, but not a mark that came meanwhile.
*/
create sequence private.metakocka_dirty_seq;


create table private.metakocka_dirty (
    contact_id  uuid primary key,
    account_id  uuid not null,
    changed_seq bigint not null default nextval('private.metakocka_dirty_seq'),
    -- the time of each field's last edit: the newest is decided field by field
    edits       jsonb not null default '{}'
                constraint metakocka_dirty_edits_check check (jsonb_typeof(edits) = 'object'),
    -- of each field the values that were sent and whose arrival nobody has confirmed
    sent        jsonb not null default '{}'
                constraint metakocka_dirty_sent_check
                check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 262144),
    attempts    integer not null default 0,
    worker      text,
    lease_until timestamptz,
    -- the first edit since the last claim; null where there is none
    edited_at   timestamptz default clock_timestamp(),
    -- several edits in a row are sent together
    not_before  timestamptz not null default clock_timestamp() + interval '1 second',

    constraint metakocka_dirty_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint metakocka_dirty_lease_check check ((lease_until is null) = (worker is null))
);
alter table private.metakocka_dirty enable row level security;


create index metakocka_dirty_order_idx
    on private.metakocka_dirty (account_id, changed_seq);


create function private.quiet_moment()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- after the last of several edits
    select interval '1 second'
$$;


create function private.longest_wait()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- after the first of several edits, so that endless edits are sent too
    select interval '10 seconds'
$$;


create function private.mark_dirty(
    account_id uuid,
    contact_ids uuid[],
    quiet_for interval default private.quiet_moment()
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
    where not exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = c.id
          and m.state = 'unlinked'
    )
    order by c.id
    on conflict (contact_id) do update
        set changed_seq = excluded.changed_seq,
            not_before = least(
                excluded.not_before, coalesce(d.edited_at, excluded.edited_at) + private.longest_wait()),
            attempts = 0,
            edited_at = coalesce(d.edited_at, excluded.edited_at);
    perform private.ring('metakocka_sync');
end
$$;


create function private.mark_requested(account_id uuid, contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    unlinked constant uuid[] := array(
        select m.contact_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (contact_ids)
          and m.account_id = mark_requested.account_id
          and m.state = 'unlinked'
        order by m.contact_id
        for no key update
    );
begin
    -- an update of no row would still run the table's triggers
    if unlinked <> '{}' then
        update public.metakocka_contact_mappings m
        set state = 'waiting'
        where m.contact_id = any (unlinked);
    end if;
    if contact_ids <> '{}' then
        perform private.mark_dirty(
            account_id => mark_requested.account_id,
            contact_ids => mark_requested.contact_ids,
            quiet_for => interval '0'
        );
    end if;
end
$$;


/*
    Rows are compared by the columns that partners have too: by name, since to make objects of
    thousands of rows takes twice the time of all else that an update does.
*/
create function private.make_dirty_trigger()
    returns void
    language plpgsql
    set search_path = ''
as $make$
begin
    execute format(
        $sql$
create or replace function private.tg_contacts__mark_dirty()
    returns trigger
    language plpgsql
    -- definer: users may not write marks and mappings
    security definer
    set search_path = ''
as $$
declare
    changed record;
begin
    -- changes from Metakocka need not go back
    if current_setting('rapport.from_metakocka', true) = 'on' then
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
          and n.version <> o.version
          and (o.deleted_at, o.%1$s) is distinct from (n.deleted_at, n.%2$s)
        group by k.account_id
        order by k.account_id
    loop
        perform private.mark_dirty(changed.account_id, changed.contact_ids);
    end loop;

    -- if times decide, the time of each field's edit
    if exists (
        select
        from new_rows n
        join public.metakocka_connections k
            on k.account_id = n.account_id
           and k.conflict_rule = 'newest'
    ) then
        update private.metakocka_dirty d
        set edits = d.edits || e.edits
        from (
            select n.id, jsonb_object_agg(f.name, clock_timestamp()) as edits
            from new_rows n
            join old_rows o
                on o.id = n.id
            cross join lateral (select to_jsonb(n) as after, to_jsonb(o) as before) r
            cross join unnest(private.party_fields()) as f (name)
            where r.after -> f.name is distinct from r.before -> f.name
            group by n.id
        ) e
        where d.contact_id = e.id;
    end if;

    -- even without a connection: a deleted contact is forgotten here too
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
$$
        $sql$,
        array_to_string(private.party_fields(), ', o.'),
        array_to_string(private.party_fields(), ', n.')
    );
end
$make$;

select private.make_dirty_trigger();


-- edits made while an account was not connected were not marked
create function private.tg_metakocka_connections__mark_changed()
    returns trigger
    language plpgsql
    -- definer: users may not write marks and mappings
    security definer
    set search_path = ''
as $$
declare
    changed constant uuid[] := array(
        select m.contact_id
        from public.metakocka_contact_mappings m
        join public.contacts c
            on c.id = m.contact_id
           and c.deleted_at is null
        where m.account_id = new.account_id
          and m.state <> 'unlinked'
          and c.version is distinct from m.base_version
        order by m.contact_id
    );
begin
    if changed <> '{}' then
        perform private.mark_dirty(new.account_id, changed);
    end if;
    return null;
end
$$;

create trigger _500_mark_changed_insert
    after insert on public.metakocka_connections
    for each row
    when (new.active)
    execute function private.tg_metakocka_connections__mark_changed();

create trigger _500_mark_changed_update
    after update on public.metakocka_connections
    for each row
    when (new.active and not old.active)
    execute function private.tg_metakocka_connections__mark_changed();


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


comment on sequence private.metakocka_dirty_seq is
    'The order of changes.';
comment on table private.metakocka_dirty is
    'Contacts to send to Metakocka, in the order of their changes.';
comment on column private.metakocka_dirty.changed_seq is
    'The number of the last change. A worker that has sent an earlier change leaves the mark.';
comment on column private.metakocka_dirty.edited_at is
    'The first edit since the last claim; null where there is none.';
comment on column private.metakocka_dirty.edits is
    'The time of each field''s last edit since the mark exists, {field: time}, if the account''s rule is newest.';
comment on function private.quiet_moment() is
    'The wait after an edit before a contact is sent. Another edit starts it again.';
comment on function private.longest_wait() is
    'The longest wait after an edit before a contact is sent, however often it is edited.';
comment on function private.mark_requested(uuid, uuid[]) is
    'Marks contacts that a user asks to send now, including unlinked ones.';
comment on function private.mark_dirty(uuid, uuid[], interval) is
    'Marks contacts of an account to be sent after a quiet moment, and rings. Skips contacts that a person has unlinked.';
comment on function private.tg_metakocka_connections__mark_changed() is
    'When an account is connected again, marks the contacts that differ from their agreed state.';
comment on function private.make_dirty_trigger() is
    'Makes private.tg_contacts__mark_dirty for the fields that partners have now.';
comment on function private.tg_contacts__mark_dirty() is
    'Marks the contacts of connected accounts whose synchronized fields change.';


/*
    Calls to Metakocka that must not happen twice. One call makes a partner, and if its answer is
    lost the outcome is unknown. A row is written before the call. It is settled by looking for the
    partner, never by another call.
*/
create table private.partner_intents (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    contact_id   uuid not null,
    operation    text not null
                 constraint partner_intents_operation_check
                 check (operation in ('add_partner', 'update_partner')),
    -- a digest of the fields to send
    fingerprint  text not null
                 constraint partner_intents_fingerprint_check
                 check (length(fingerprint) between 1 and 128),
    -- The fields to send. The search for the partner uses them, since the contact may change
    -- meanwhile. They are deleted when no search needs them any more.
    sent         jsonb not null default '{}'
                 constraint partner_intents_sent_check
                 check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 131072),
    state        text not null default 'intended'
                 constraint partner_intents_state_check
                 check (state in (
                     -- the call has not begun
                     'intended',
                     -- the call has begun, and may have happened
                     'sent',
                     -- the call ended without an answer
                     'unknown',
                     -- the call happened
                     'settled',
                     -- the call did not happen
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


-- One at a time: the next worker first finds out the outcome of this one.
create unique index partner_intents_open_key
    on private.partner_intents (contact_id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_open_idx
    on private.partner_intents (account_id, created_at, id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_contact_idx
    on private.partner_intents (contact_id, account_id);


comment on table private.partner_intents is
    'Calls to Metakocka that must not happen twice. Each row is written before its call.';
comment on column private.partner_intents.fingerprint is
    'A digest of the fields to send.';
comment on column private.partner_intents.sent is
    'The fields to send. A partner that may have been made is looked for by them; empty once the intent is settled.';


/*
    An intent lives from before its call begins until the call's outcome is known. A worker may be
    killed at any line: the next one finds the intent, and looks for the partner before it calls.
*/
create function backend.begin_intent(
    account_id uuid,
    contact_id uuid,
    operation text,
    fingerprint text,
    sent jsonb default '{}',
    worker text default null
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
    perform private.require_worker(
        account_id => begin_intent.account_id, worker => begin_intent.worker);
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

    -- another worker has made it since the caller looked
    if operation = 'add_partner' and exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = begin_intent.contact_id
          and m.metakocka_id is not null
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact has a partner already.',
            detail = format('contact: %s', begin_intent.contact_id),
            hint = 'Claim the contact again.';
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

grant execute on function backend.begin_intent(uuid, uuid, text, text, jsonb, text)
    to service_role;


create function private.may_make_partner(intent private.partner_intents)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return intent.operation = 'add_partner' and intent.state in ('sent', 'unknown');
end
$$;


create function private.intent_rows(wanted uuid)
    returns table (
        intent_id uuid,
        contact_id uuid,
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
        i.id, i.contact_id, i.operation, i.fingerprint, i.sent, i.state, i.metakocka_id,
        -- in seconds, since the call began
        extract(epoch from clock_timestamp() - coalesce(i.sent_at, i.created_at))::double precision
    from private.partner_intents i
    where i.id = wanted;
end
$$;


create function private.open_intents(contact_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with recursive merged (id) as (
            select open_intents.contact_id
            union
            select c.id
            from merged m
            join public.contacts c
                on c.merged_into = m.id
        )
        select coalesce(jsonb_agg(to_jsonb(e) order by i.created_at, i.id), '[]')
        from merged m
        join private.partner_intents i
            on i.contact_id = m.id
           and i.state in ('intended', 'sent', 'unknown')
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;


create function backend.settle_intent(
    account_id uuid,
    intent_id uuid,
    state text,
    metakocka_id text default null,
    worker text default null
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
    -- the worker that made a call settles it, even after it has lost its lease
    if settle_intent.state = 'sent' then
        perform private.require_worker(
            account_id => settle_intent.account_id, worker => settle_intent.worker);
    end if;
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
        -- told again, because the answer was lost; but a call begins only once
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
        end,
        -- a person's data that nobody needs any more
        sent = case
            when settle_intent.state in ('settled', 'abandoned') then '{}'
            else i.sent
        end
    where i.id = intent.id;
    return true;
end
$$;

grant execute on function backend.settle_intent(uuid, uuid, text, text, text) to service_role;


comment on function backend.begin_intent(uuid, uuid, text, text, jsonb, text) is
    'Notes that a contact''s partner is about to be made (add_partner) or changed: {intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_new}. If the contact has an open intent, returns that one with is_new false: its outcome must be found out first. age is in seconds. A contact that has a partner gets no other one (409).';
comment on function private.may_make_partner(private.partner_intents) is
    'Whether a call to make a partner has begun, and its outcome is not known.';
comment on function private.intent_rows(uuid) is
    'An intent as JSON.';
comment on function private.open_intents(uuid) is
    'The open intents of a contact, and of contacts that were merged into it.';
comment on function backend.settle_intent(uuid, uuid, text, text, text) is
    'Notes the state of a call: sent just before it begins, then unknown, settled (with the partner''s id) or abandoned. False where that state can''t follow the present one: then the caller must not go on.';


/*
    Mappings of contacts that are deleted, merged or parted again.
*/
create function private.forget_partners(contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting record;
begin
    -- The mapping stays, or the partner would come back as a new contact. A merged contact also
    -- keeps its agreed state, for the contact that gets its identity.
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

    -- the kept contact looks for a partner that may have been made for the merged one
    for waiting in
        select c.account_id, array_agg(distinct c.merged_into) as contact_ids
        from public.contacts c
        join public.metakocka_connections k
            on k.account_id = c.account_id
           and k.active
        where c.id = any (forget_partners.contact_ids)
          and c.merged_into is not null
          and exists (
              select
              from private.partner_intents i
              where i.contact_id = c.id
                and i.state in ('intended', 'sent', 'unknown')
          )
        group by c.account_id
        order by c.account_id
    loop
        perform private.mark_dirty(waiting.account_id, waiting.contact_ids);
    end loop;
end
$$;


create function private.tg_contact_identities__move_mapping()
    returns trigger
    language plpgsql
    -- definer: users may not write mappings
    security definer
    set search_path = ''
as $$
begin
    -- A mapping without a partner is deleted. If both contacts have a partner, both mappings stay.
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

-- a merge gives identities to the kept contact, and undoing it gives them back
create trigger _500_move_mapping
    after update on public.contact_identities
    for each row
    when (new.kind = 'metakocka' and new.contact_id <> old.contact_id)
    execute function private.tg_contact_identities__move_mapping();


comment on function private.forget_partners(uuid[]) is
    'Updates mappings and intents when contacts are deleted or merged.';
comment on function private.tg_contact_identities__move_mapping() is
    'Moves a partner''s mapping together with its identity.';


/*
    The fields that contacts share with partners: how they are read together, and which of them
    identify a contact.
*/
create function private.contact_party(contact public.contacts)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- the name that staff gave: not that of the WhatsApp profile, which anybody may choose
    return to_jsonb(contact) - private.unshared_columns();
end
$$;


/*
    A tax number with its country and the same number without it are one; with two different
    countries they are two. The key has no country, so it only finds candidates, and same_tax
    decides. (rapport.metakocka.agreement.compare has the same rule.)
*/
create function private.tax_country(tax_id_number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return coalesce(
        substring(
            upper(regexp_replace(tax_id_number, '[^A-Za-z0-9]', '', 'g'))
            from '^(A[LT]|B[AEG]|C[HYZ]|D[EK]|E[ELS]|F[IR]|G[BR]|H[RU]|I[ET]|L[TUV]|M[EKT]|N[LO]|P[LT]|R[OS]|S[EIK]|X[IK])[A-Z]{0,2}[0-9]'
        ),
        ''
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
    return substr(
        upper(regexp_replace(tax_id_number, '[^A-Za-z0-9]', '', 'g')),
        length(private.tax_country(tax_id_number)) + 1
    );
end
$$;


create function private.same_tax(one text, other text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return private.tax_key(one) = private.tax_key(other)
        and (
            private.tax_country(one) = private.tax_country(other)
            or '' in (private.tax_country(one), private.tax_country(other))
        );
end
$$;


create function private.number_tail(number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return right(regexp_replace(number, '[^0-9]', '', 'g'), 6);
end
$$;


-- contacts that may own a tax number; it is no identity, since branches of a company share it
create index contacts_tax_key_idx
    on public.contacts (account_id, private.tax_key(tax_id_number))
    where tax_id_number is not null;

-- contacts that may own a mobile number without a country, which is no identity
create index contacts_gsm_tail_idx
    on public.contacts (account_id, private.number_tail(gsm))
    where gsm is not null and left(gsm, 1) <> '+';


comment on function private.contact_party(public.contacts) is
    'The fields of a contact that partners have too.';
comment on function private.tax_country(text) is
    'The country of a tax number, two letters; empty where it has none.';
comment on function private.tax_key(text) is
    'One key for all spellings of a tax number, without its country.';
comment on function private.same_tax(text, text) is
    'Whether two tax numbers are the same; one of them may lack its country.';
comment on function private.number_tail(text) is
    'The last six digits of a number, which are the same in all its spellings.';
comment on index public.contacts_gsm_tail_idx is
    'Finds the contacts that may own a partner''s mobile number.';
comment on index public.contacts_tax_key_idx is
    'Finds the contacts that may own a partner''s tax number.';


/*
    The ERP's face of a contact: the fields of partners, the contact's partner, and the state of the
    sync. It is written like the other faces, and each write is sent to Metakocka.
*/
select private.make_face(
    view_name => 'metakocka_partners',
    face => 'erp',
    more => array['m.metakocka_id', 'm.state as sync_state', 'm.missing', 'm.last_synced_at'],
    joined => 'left join public.metakocka_contact_mappings m on m.contact_id = s.id',
    -- that of a WhatsApp profile is not sent
    name => 's.own_name'
);


comment on view public.metakocka_partners is
    'Contacts as Metakocka has partners, with the state of their sync. Write any field of a partner, or conversation_status. A write that hits no row is refused (404), and so is one with an old version (409).';
comment on column public.metakocka_partners.id is
    'The contact''s id.';
comment on column public.metakocka_partners.account_id is
    'The account that knows the contact.';
comment on column public.metakocka_partners.name is
    'The name that staff gave. The name of a WhatsApp profile is not sent.';
comment on column public.metakocka_partners.email is
    'One email address.';
comment on column public.metakocka_partners.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.metakocka_partners.gsm is
    'The mobile number; in E.164 where it could be read as one.';
comment on column public.metakocka_partners.fax is
    'The fax number.';
comment on column public.metakocka_partners.business_entity is
    'Whether the contact is a business and not a private person; null is unknown.';
comment on column public.metakocka_partners.taxpayer is
    'Whether the contact is liable for VAT; null is unknown.';
comment on column public.metakocka_partners.foreign_county is
    'Whether the contact''s country is a foreign one (Metakocka''s spelling); null is unknown.';
comment on column public.metakocka_partners.buyer is
    'Whether the contact buys from the account; null is unknown.';
comment on column public.metakocka_partners.supplier is
    'Whether the contact supplies the account; null is unknown.';
comment on column public.metakocka_partners.tax_id_number is
    'The tax number, with or without the country code.';
comment on column public.metakocka_partners.registration_number is
    'The number in the register of companies.';
comment on column public.metakocka_partners.street is
    'Street and house number of the main address.';
comment on column public.metakocka_partners.post_number is
    'The postal code of the main address.';
comment on column public.metakocka_partners.place is
    'The town of the main address.';
comment on column public.metakocka_partners.province is
    'The province of the main address.';
comment on column public.metakocka_partners.country is
    'The country of the main address, as Metakocka writes it.';
comment on column public.metakocka_partners.people is
    'Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}.';
comment on column public.metakocka_partners.addresses is
    'Further addresses: {mk_id, address_type, street, post_number, city, province, country}.';
comment on column public.metakocka_partners.conversation_status is
    'O (open), P (pending) or C (closed): the status of the current conversation, the latest active one; before the first conversation the contact''s own.'
    ' Type: "O" | "P" | "C"';
comment on column public.metakocka_partners.metakocka_id is
    'The partner''s mk_id; null while Metakocka does not have the contact.';
comment on column public.metakocka_partners.sync_state is
    'The state as in metakocka_contact_mappings; null where the sync has never seen the contact.';
comment on column public.metakocka_partners.missing is
    'The fields that Metakocka requires and the contact lacks.';
comment on column public.metakocka_partners.last_synced_at is
    'When both sides last agreed on something new (UTC).';
comment on column public.metakocka_partners.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.metakocka_partners.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.metakocka_partners.version is
    'Rises by 1 with each change of the contact. A write with an old version is refused (409).';


select private.limit_writes('metakocka_partners', '{insert,update,delete}');


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


/*
    The facts that the sync needs before it merges partners: each partner's contact and agreed
    state, or the contacts that a new partner may be.
*/
/*
    For all partners at once: a call for each took 0.16 ms, ten times as long, and most partners are
    no contact at all.
*/
create function private.partner_candidates(account_id uuid, refs jsonb)
    returns table (metakocka_id text, candidates jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with unknown as materialized (
            select r.*
            from jsonb_to_recordset(refs) as r (
                metakocka_id text,
                tax_id_number text,
                emails text[],
                phones text[]
            )
            where not exists (
                select
                from public.metakocka_contact_mappings m
                where m.account_id = partner_candidates.account_id
                  and m.metakocka_id = r.metakocka_id
            )
        )
        select
            g.metakocka_id,
            jsonb_agg(
                jsonb_build_object(
                    'contact_id', c.id,
                    'version', c.version,
                    'updated_at', c.updated_at,
                    'matched_by', g.kinds,
                    'needs_person', exists (
                        select
                        from public.sync_conflicts s
                        where s.account_id = partner_candidates.account_id
                          and s.contact_id = c.id
                          and s.state = 'open'
                          and s.partners is not null
                    ),
                    'party', private.contact_party(c)
                )
                order by c.id
            )
        from (
            select f.metakocka_id, f.contact_id, array_agg(distinct f.kind order by f.kind) as kinds
            from (
                select w.metakocka_id, o.contact_id, w.kind
                from (
                    select u.metakocka_id, 'metakocka' as kind, u.metakocka_id as value
                    from unknown u
                    union all
                    select u.metakocka_id, 'email', e
                    from unknown u
                    cross join lateral unnest(u.emails) e
                    union all
                    select u.metakocka_id, 'phone', p
                    from unknown u
                    cross join lateral unnest(u.phones) p
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
                select u.metakocka_id, t.id, 'tax'
                from unknown u
                cross join lateral (
                    select o.id
                    from public.contacts o
                    where o.account_id = partner_candidates.account_id
                      and o.tax_id_number is not null
                      and private.tax_key(o.tax_id_number)
                          = nullif(private.tax_key(u.tax_id_number), '')
                      and private.same_tax(o.tax_id_number, u.tax_id_number)
                    -- planned by itself: by the key
                    offset 0
                ) t
                union all
                -- the caller compares them as numbers of their countries
                select u.metakocka_id, t.id, 'gsm'
                from unknown u
                cross join lateral unnest(u.phones) p
                cross join lateral (
                    select o.id
                    from public.contacts o
                    where o.account_id = partner_candidates.account_id
                      and o.gsm is not null
                      and left(o.gsm, 1) <> '+'
                      and private.number_tail(o.gsm) = private.number_tail(p)
                    limit 100
                ) t
            ) f
            group by f.metakocka_id, f.contact_id
        ) g
        cross join lateral (
            select o.*
            from public.contacts o
            where o.id = g.contact_id
              and o.deleted_at is null
            limit 1
        ) c
        left join lateral (
            select o.metakocka_id, o.not_partners
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- a contact that has a partner already is not another one
        where m.metakocka_id is null
          and coalesce(g.metakocka_id <> all (m.not_partners), true)
        group by g.metakocka_id;
end
$$;


create function backend.read_partners(account_id uuid, refs jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Looked up by key, row by row. One plan serves all calls; a plan made while the tables were
    -- empty would not. "limit 1" keeps the planner from reading a whole account.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    -- partners that an open question is about: they stay as they are until it is answered
    asked constant text[] := array(
        select distinct p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.account_id = read_partners.account_id
          and s.state = 'open'
          and s.partners is not null
    );
    has_forgotten constant boolean := private.are_partners_forgotten(read_partners.account_id);
    candidates jsonb;
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);
    candidates := (
        select jsonb_object_agg(p.metakocka_id, p.candidates)
        from private.partner_candidates(
            account_id => read_partners.account_id, refs => refs) p
    );

    return (
        select coalesce(
            jsonb_agg(
                case
                    when has_forgotten
                        and m.contact_id is null
                        and private.is_partner_forgotten(
                            account_id => read_partners.account_id, metakocka_id => r.metakocka_id)
                    then
                        jsonb_build_object(
                            'metakocka_id', r.metakocka_id,
                            'unchanged', true,
                            'is_forgotten', true
                        )
                    when m.partner_hash = r.partner_hash then
                        jsonb_build_object(
                            'metakocka_id', r.metakocka_id,
                            'unchanged', true,
                            'is_edited', d.contact_id is not null
                        )
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
                        'state', m.state,
                        'seen_at', m.seen_at,
                        'edits', coalesce(d.edits, '{}'),
                        'sent', coalesce(d.sent, '{}')
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'needs_person', r.metakocka_id = any (asked),
                        'candidates', coalesce(candidates -> r.metakocka_id, '[]')
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
        left join lateral (
            select o.contact_id, o.edits, o.sent
            from private.metakocka_dirty o
            where o.contact_id = m.contact_id
            limit 1
        ) d
            on true
    );
end
$$;

grant execute on function backend.read_partners(uuid, jsonb) to service_role;


/*
    A run compares all partners with what is known, and most have not changed. For these no record is
    read here, and none of theirs is merged there: a run that finds 1 % changed takes 0.3 times the time.
*/
create function backend.compare_partners(account_id uuid, hashes jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- as read_partners
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    has_forgotten constant boolean := private.are_partners_forgotten(compare_partners.account_id);
    answer jsonb;
begin
    if jsonb_typeof(hashes) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'hashes must be an object of hashes by the ids of partners.',
            detail = 'field: hashes',
            hint = 'Send {} for none.';
    elsif (select count(*) > 5000 from jsonb_object_keys(hashes)) then
        raise sqlstate 'PT422' using
            message = 'These are too many hashes for one call.',
            detail = 'field: hashes',
            hint = 'Send at most 5000.';
    end if;

    select
        jsonb_build_object(
            'different', coalesce(jsonb_agg(c.metakocka_id) filter (where c.is_different), '[]'),
            'edited', coalesce(jsonb_agg(c.metakocka_id) filter (where c.is_edited), '[]')
        )
    into answer
    from (
        select
            h.metakocka_id,
            k.is_different,
            not k.is_different and exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = k.contact_id
            ) as is_edited
        from jsonb_each_text(hashes) as h (metakocka_id, partner_hash)
        left join lateral (
            select o.contact_id, o.partner_hash
            from public.metakocka_contact_mappings o
            where o.account_id = compare_partners.account_id
              and o.metakocka_id = h.metakocka_id
            limit 1
        ) m
            on true
        cross join lateral (
            select
                m.contact_id,
                m.partner_hash is distinct from h.partner_hash
                    -- an erased contact does not come back by its partner
                    and not (
                        has_forgotten
                        and m.contact_id is null
                        and private.is_partner_forgotten(
                            account_id => compare_partners.account_id,
                            metakocka_id => h.metakocka_id)
                    ) as is_different
        ) k
    ) c;
    return answer;
end
$$;

grant execute on function backend.compare_partners(uuid, jsonb) to service_role;


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
            message = format('%s must be a list of objects.', field),
            detail = 'field: ' || field,
            hint = 'Send [] for none.';
    elsif jsonb_array_length(list) > longest then
        raise sqlstate 'PT422' using
            message = format('%s %s are too many for one call.', jsonb_array_length(list), field),
            detail = 'field: ' || field,
            hint = format('Send at most %s.', longest);
    end if;
end
$$;


comment on function private.partner_candidates(uuid, jsonb) is
    'The contacts that each partner without a contact may be: by tax number, email, phone or its own id, or perhaps by a mobile number without a country (gsm). Without contacts that have a partner, and contacts that, as a person has said, are not this partner.';
comment on function backend.compare_partners(uuid, jsonb) is
    'Compares up to 5000 partners, {metakocka_id: partner_hash}, with what is known. Returns {different: [metakocka_id], edited: [metakocka_id]}: those with another hash, and those with the known hash whose contact waits to be sent.';
comment on function private.require_list(jsonb, text, integer) is
    'Refuses a value that is no list of objects, or is too long.';
comment on function backend.read_partners(uuid, jsonb) is
    'The known facts about up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order. {unchanged: true, is_edited} for a known hash; is_edited says that the contact waits to be sent. {contact_id, version, updated_at, is_deleted, party, base, base_version, state, seen_at, edits, sent} for a partner that is a contact. Otherwise {needs_person, candidates: [{contact_id, version, updated_at, matched_by, needs_person, party}]}; needs_person says that a person must tell which partner a contact is.';


/*
    The decisions of the merge about partners, as the sync passes them, and the reasons against
    them. If an item was decided from a state that has changed since, it is stale: the sync reads
    and merges it again.
*/
create type private.partner_item as (
    place        bigint,
    metakocka_id text,
    -- of a new contact: an id chosen here
    contact_id   uuid,
    is_new       boolean,
    -- the contact's version when it was read
    version      bigint,
    changes      jsonb,
    partner_hash text,
    base         jsonb,
    conflicts    jsonb,
    candidates   uuid[],
    -- the contact has values that the partner lacks
    push         boolean,
    partner      jsonb,
    -- when the partner was read
    seen_at      timestamptz,
    -- the result: created, adopted, updated; or stale, waiting, refused
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
    has_forgotten constant boolean :=
        private.are_partners_forgotten(read_partner_items.account_id);
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
            r.seen_at,
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
                partner jsonb,
                seen_at timestamptz
            )
        ) with ordinality as p (
            metakocka_id, contact_id, expected_version, changes, partner_hash, base, conflicts,
            candidates, push, partner, seen_at, place
        )
    ) r
    -- the partner's present contact
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
    -- the contact that the item names, and that contact's present partner
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
            end as reason,
            m.contact_id is not null
            and m.contact_id is distinct from r.contact_id
            -- a deleted contact gives up its partner
            and mapped.deleted_at is null
            -- it was read before its contact was erased, and would make a new one
            or has_forgotten
            and r.contact_id is null
            and m.contact_id is null
            and private.is_partner_forgotten(
                account_id => read_partner_items.account_id, metakocka_id => r.metakocka_id)
            -- the contact is another partner by now
            or coalesce(other.metakocka_id <> r.metakocka_id, false)
            -- one that a person would choose from is another partner by now, or gone
            or r.contact_id is null
            and exists (
                select
                from unnest(r.candidates) n
                join public.contacts o
                    on o.id = n
                   and o.account_id = read_partner_items.account_id
                left join public.metakocka_contact_mappings k
                    on k.contact_id = o.id
                where o.deleted_at is not null
                   or k.metakocka_id is not null
            )
            as is_taken
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
    'A partner, with the decision of the merge.';
comment on function private.read_partner_items(uuid, jsonb) is
    'The items of a call, sorted by partner, each with its result.';
comment on function private.partner_results(private.partner_item[]) is
    'The results of items, in the order of the call.';


/*
    The identities that partners bring to their contacts. An identity of another contact is not
    taken away. Instead, a suggestion says that the two may be one.
*/
create type private.wanted_identity as (
    kind         text,
    match_key    text,
    value        text,
    contact_id   uuid,
    metakocka_id text,
    is_new       boolean
);


create function private.brings_proof(account_id uuid, item private.partner_item)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- A contact made from a partner is that partner. A contact that existed before shows the
    -- partner's values, and staff must confirm them (proof), since the match may be wrong. Later
    -- edits in Metakocka, after both sides agreed, count as edits by staff.
    return item.status = 'created'
        or (
            item.status = 'updated'
            and exists (
                select
                from public.metakocka_contact_mappings m
                where m.account_id = brings_proof.account_id
                  and m.contact_id = item.contact_id
                  and m.metakocka_id = item.metakocka_id
                  and m.base ? 'name'
            )
        );
end
$$;


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
    -- as if another contact had claimed them: each with its owner in place of its own contact
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
    where k.value is not null
      and (
          k.kind = 'metakocka'
          or i.is_new
          or (
              private.brings_proof(
                  account_id => claim_partner_identities.account_id, item => i)
              -- it may come from the customer, and be on its way back
              and not private.writes_itself(contact_id => i.contact_id, kind => k.kind)
          )
      );
    if wanted is null then
        return '{}';
    end if;

    -- Made or locked in one pass, in the lock order: the update never happens, but its lock does.
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

    -- contacts that the caller would have taken for the partner, had it known of them
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
                and (m.metakocka_id is not null or w.metakocka_id = any (m.not_partners))
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
    -- a suggestion that somebody has dismissed stays dismissed
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
    -- as release_identities, for several contacts
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
          and private.brings_proof(
              account_id => release_partner_identities.account_id, item => i)
          and o.kind = any (private.touched_identity_kinds(i.changes))
          and o.wa_id is null
          and not private.shows_customer_word(contact => c, kind => o.kind)
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
comment on function private.brings_proof(uuid, private.partner_item) is
    'Whether a partner''s values become identities of its contact.';
comment on function private.claim_partner_identities(uuid, private.partner_item[]) is
    'Claims the proved identities that partners bring. Returns the ones that other contacts own, with their owners. Raises RP002 where an owner should have been a candidate.';
comment on function private.suggest_partners(uuid, private.partner_item[], private.wanted_identity[]) is
    'Suggests that contacts and the owners of their partners'' identities are one.';
comment on function private.release_partner_identities(uuid, private.partner_item[]) is
    'Drops the identities that contacts no longer show and that no message proves.';


/*
    Writes contacts and mappings from partners, one statement for all. Locks are taken in one order:
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
    blank constant public.contacts := private.new_contact(
        account_id => write_partner_contacts.account_id, contact_id => null, fields => '{}');
    unshared constant text[] := private.unshared_columns();
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
        insert into public.contacts
        select n.*
        from unnest(items) i
        cross join lateral jsonb_populate_record(
            blank,
            jsonb_strip_nulls(i.changes - unshared)
                || jsonb_build_object('id', i.contact_id)
        ) n
        where i.is_new
        order by i.contact_id;
    end if;

    if exists (select from unnest(items) i where not i.is_new and i.changes <> '{}') then
        perform private.write_contacts(array(
            select p
            from unnest(items) i
            join public.contacts o
                on o.id = i.contact_id
            cross join lateral jsonb_populate_record(o, i.changes - unshared) p
            where not i.is_new
              and i.changes <> '{}'
        ));
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
    -- of a deleted contact whose partner is another contact now
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
        account_id, contact_id, metakocka_id, base, partner_hash, base_version, seen_at, state,
        user_id, last_synced_at
    )
    select
        write_partner_mappings.account_id,
        i.contact_id,
        i.metakocka_id,
        i.base,
        i.partner_hash,
        c.version,
        i.seen_at,
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
            seen_at = greatest(m.seen_at, excluded.seen_at),
            state = excluded.state,
            missing = '{}',
            user_id = coalesce(excluded.user_id, m.user_id),
            last_synced_at = excluded.last_synced_at
        -- an unchanged mapping is not written again
        where (m.metakocka_id, m.base, m.partner_hash, m.base_version, m.state, m.missing)
            is distinct from (
                excluded.metakocka_id, excluded.base, excluded.partner_hash,
                excluded.base_version, excluded.state, '{}'::text[]
            )
            -- but a new seen_at counts while an edit waits to be sent
            or excluded.seen_at > coalesce(m.seen_at, '-infinity') and exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = m.contact_id
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
    'Makes and changes the contacts of partners. Raises RP002 where a contact has changed since it was read.';
comment on function private.write_partner_mappings(uuid, uuid, private.partner_item[]) is
    'Notes the partners of contacts and their agreed states. Marks the contacts with values that their partners lack.';


/*
    Writes a row for each question that the merge could not decide, or decided by rule. Closes
    questions that have found their answer.
*/
create function private.write_sync_conflicts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
-- a partial index can only be named by its columns
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
        on conflict (account_id, metakocka_id, field)
            where state = 'open' and partners is null
            do update
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

    -- both sides came to the same value, or the partner's contact is known by now
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select
            from public.sync_conflicts s
            where s.account_id = write_sync_conflicts.account_id
              and s.metakocka_id = i.metakocka_id
              and s.state = 'open'
              and s.partners is null
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
          and s.partners is null
          and i.status <> 'waiting'
          and not exists (
              select
              from jsonb_array_elements(i.conflicts) f
              where f.value ->> 'field' = s.field
          );
    end if;

    -- the contact's partner is known by now, or its own one is back
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select
            from public.sync_conflicts s
            where s.account_id = write_sync_conflicts.account_id
              and s.contact_id = i.contact_id
              and s.state = 'open'
              and s.partners is not null
            limit 1
        ) s
        where i.status <> 'waiting'
    ) then
        update public.sync_conflicts s
        set state = 'resolved',
            choice = i.metakocka_id,
            decided_by = 'both',
            resolved_at = clock_timestamp()
        from unnest(items) i
        where s.account_id = write_sync_conflicts.account_id
          and s.contact_id = i.contact_id
          and s.state = 'open'
          and s.partners is not null
          and i.status <> 'waiting'
          -- a mapping to one of several partners does not answer whether it is another
          and not coalesce(
              s.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', s.metakocka_id)),
              false);
    end if;
end
$$;


comment on function private.write_sync_conflicts(uuid, private.partner_item[]) is
    'Writes the conflicts of partners, and closes the conflicts that no longer exist.';


/*
    Writes partners that were read from Metakocka and merged, up to 500 in one call: all at once,
    and one by one only if that fails. So a bad one blocks no other.
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

    -- in the order of their partners, so that of two such calls one waits for the other
    for item in
        select e.value || jsonb_build_object('place', e.place)
        from jsonb_array_elements(items) with ordinality as e (value, place)
        order by e.value ->> 'metakocka_id', e.place
    loop
        if results <> '{}' then
            -- The locks of one partner are in order, those of several are not. From the second one
            -- on it gives up early, long before a deadlock.
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
    quiet boolean default false,
    worker text default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Rows are looked up by key. One plan serves all calls; a plan made while the tables were empty
    -- would not.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the planner's penalty for disabled scans must not look like work worth compiling
    set jit = off
as $$
declare
    lock_timeout constant text := current_setting('lock_timeout');
    whose uuid;
    results jsonb;
begin
    perform private.require_list(list => items, field => 'items', longest => 500);
    perform private.require_worker(
        account_id => apply_partners.account_id, worker => apply_partners.worker);
    whose := private.sync_user(account_id => apply_partners.account_id, run_id => apply_partners.run_id);

    perform set_config('rapport.from_metakocka', 'on', true);
    if quiet and run_id is not null then
        perform set_config('rapport.quiet', 'on', true);
        -- before the first write: the worker that ends the run tells clients to read again
        update public.sync_runs r
        set quiet = true
        where r.id = run_id
          and not r.quiet;
    end if;

    results := private.apply_partner_items(
        account_id => apply_partners.account_id, user_id => whose, items => items);

    perform private.analyze_new_tables();

    perform set_config('rapport.quiet', 'off', true);
    perform set_config('rapport.from_metakocka', 'off', true);
    perform set_config('lock_timeout', lock_timeout, true);
    return results;
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Others are changing some of these contacts.',
            hint = 'Try again.';
end
$$;

grant execute on function backend.apply_partners(uuid, uuid, jsonb, boolean, text)
    to service_role;


create function private.analyze_new_tables()
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- A session keeps the plans that it makes while tables are empty: foreign keys then read a
    -- whole account for each row, until the first autoanalyze a minute later.
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
            message = 'There is no such connection to Metakocka, or it has no such run.',
            detail = 'field: account_id, run_id';
    end if;
    return whose.user_id;
end
$$;


comment on function private.apply_partner_set(uuid, uuid, jsonb) is
    'Writes partners all at once, or raises.';
comment on function private.try_apply_partner(uuid, uuid, jsonb) is
    'Writes one partner. Undone where it is stale or refused.';
comment on function private.apply_partner_items(uuid, uuid, jsonb) is
    'Writes partners, one by one where they can''t be written at once.';
comment on function private.analyze_new_tables() is
    'Analyzes the tables of contacts of a new database, once.';
comment on function private.sync_user(uuid, uuid) is
    'The user of a sync: the one who asked for the run, or who connected the account.';
comment on function backend.apply_partners(uuid, uuid, jsonb, boolean, text) is
    'Writes up to 500 merged partners, [{metakocka_id, partner_hash, base, contact_id, expected_version, changes, conflicts: [{field, base, crm, erp, decided_by, winner}], candidates, push, partner, seen_at}]. Without contact_id it makes a contact; with candidates the partner waits. Returns [{metakocka_id, status, contact_id, reason}] in their order. status is created, adopted, updated, unchanged, waiting, refused or stale; a stale one must be read and merged again. quiet leaves the events to finish_sync.';


/*
    The worker's side of marks: claim some, send each, settle it. A contact that changes while it is
    sent keeps its mark.
*/
create function backend.claim_dirty_contacts(
    account_id uuid,
    worker text,
    batch integer default 10,
    contact_ids uuid[] default null,
    dry_run boolean default false,
    -- the changed_seq beyond which a dry run goes on
    after bigint default 0
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
    if not dry_run then
        -- another worker's marks are not taken
        perform
        from private.sync_leases l
        where l.account_id = claim_dirty_contacts.account_id
          and l.worker <> claim_dirty_contacts.worker
          and l.lease_until > clock_timestamp();
        if found then
            perform private.require_worker(
                account_id => claim_dirty_contacts.account_id,
                worker => claim_dirty_contacts.worker
            );
        end if;
    end if;
    claimed := array(
        select d.contact_id
        from private.metakocka_dirty d
        where d.account_id = claim_dirty_contacts.account_id
          and (claim_dirty_contacts.contact_ids is null
               or d.contact_id = any (claim_dirty_contacts.contact_ids))
          and (d.changed_seq > after or not dry_run)
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
            attempts = d.attempts + 1,
            edited_at = null
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
                        'seen_at', m.seen_at,
                        'edits', d.edits,
                        'sent', d.sent,
                        'not_partners', coalesce(m.not_partners, '{}'),
                        -- the values by which its partner is looked for, and the unproved ones
                        'emails', private.identity_values(c, 'email'),
                        'phones', private.identity_values(c, 'phone'),
                        'unproved', private.unproved_fields(c),
                        'offered_partners', private.offered_partners(c),
                        -- calls whose outcome must be found out first
                        'intents', private.open_intents(c.id)
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
        -- in seconds, the time until there is something to do again, as far as is known now
        'next_in', (
            select extract(epoch from min(greatest(d.not_before, d.lease_until)) - clock_timestamp())
            from private.metakocka_dirty d
            where d.account_id = claim_dirty_contacts.account_id
              and (claim_dirty_contacts.contact_ids is null
                   or d.contact_id = any (claim_dirty_contacts.contact_ids))
              and d.contact_id <> all (claimed)
        )
    );
end
$$;

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean, bigint)
    to service_role;


create function backend.note_partners_seen(
    account_id uuid,
    metakocka_ids text[],
    seen_at timestamptz,
    worker text default null,
    -- of one partner with different fields: the agreed state while our change is on its way
    base jsonb default null
)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    noted integer;
begin
    perform private.require_worker(
        account_id => note_partners_seen.account_id, worker => note_partners_seen.worker);
    update public.metakocka_contact_mappings m
    set seen_at = note_partners_seen.seen_at,
        base = coalesce(note_partners_seen.base, m.base),
        partner_hash = case when note_partners_seen.base is null then m.partner_hash end
    where m.contact_id = any (array(
        select o.contact_id
        from public.metakocka_contact_mappings o
        join private.metakocka_dirty d
            on d.contact_id = o.contact_id
        where o.account_id = note_partners_seen.account_id
          and o.metakocka_id = any (note_partners_seen.metakocka_ids)
          and coalesce(o.seen_at < note_partners_seen.seen_at, true)
        order by o.contact_id
        for no key update of o
    ));
    get diagnostics noted = row_count;
    return noted;
end
$$;

grant execute on function backend.note_partners_seen(uuid, text[], timestamptz, text, jsonb)
    to service_role;


create function backend.note_sent(
    account_id uuid,
    contact_id uuid,
    worker text,
    -- by field
    sent jsonb
)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    perform private.require_worker(account_id => note_sent.account_id, worker => note_sent.worker);
    update private.metakocka_dirty d
    set sent = d.sent || coalesce(
        (
            select jsonb_object_agg(
                f.key,
                (
                    -- the latest ten
                    select jsonb_agg(v.value order by v.place)
                    from (
                        select e.value, e.place
                        from jsonb_array_elements(
                            coalesce(d.sent -> f.key, '[]') || jsonb_build_array(f.value)
                        ) with ordinality as e (value, place)
                        order by e.place desc
                        limit 10
                    ) v
                )
            )
            from jsonb_each(note_sent.sent) f
        ),
        '{}')
    where d.contact_id = note_sent.contact_id
      and d.account_id = note_sent.account_id;
end
$$;

grant execute on function backend.note_sent(uuid, uuid, text, jsonb) to service_role;


create function private.identity_values(contact public.contacts, kind text)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select o.value
        from public.contact_identities o
        where o.contact_id = contact.id
          and o.account_id = contact.account_id
          and o.kind = identity_values.kind
        order by o.match_key
    );
end
$$;


create function private.offered_partners(contact public.contacts)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.contact_id = contact.id
          and s.account_id = contact.account_id
          and s.state = 'open'
          and s.partners is not null
        order by 1
    );
end
$$;


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
    -- changed meanwhile: it can be sent again
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null
    where d.contact_id = take_mark.contact_id;
    return not found;
end
$$;


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


comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean, bigint) is
    'Leases up to 100 changed contacts, all or the ones in contact_ids, in the order of their changes. dry_run shows them, beyond the changed_seq after, and leases none. {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, seen_at, edits, sent, not_partners, emails, phones, unproved, offered_partners, intents}], next_in}; next_in is the number of seconds until there are others.';
comment on function backend.note_partners_seen(uuid, text[], timestamptz, text, jsonb) is
    'Notes when the partners of waiting contacts were last seen in their agreed state: a later difference was edited later. base is the new agreed state, for a single partner. Returns the number of partners.';
comment on function backend.note_sent(uuid, uuid, text, jsonb) is
    'Notes the values by field that are about to be sent for a contact: if the answer is lost, the partner that has one of them was not edited at Metakocka.';
comment on function private.identity_values(public.contacts, text) is
    'The emails or phones that identify a contact, shown in it or not.';
comment on function private.offered_partners(public.contacts) is
    'The partners in open questions about a contact.';
comment on function private.take_mark(uuid, bigint) is
    'Removes a contact''s mark if it is not newer than changed_seq; otherwise frees its lease. Returns whether there is no mark left.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent later.';


/*
    The outcome for a claimed contact: it agrees with its partner, or it can't be sent, with the
    reason.
*/
create function backend.settle_partner(
    account_id uuid,
    run_id uuid,
    contact_id uuid,
    changed_seq bigint,
    item jsonb,
    worker text default null
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
    perform private.require_worker(
        account_id => settle_partner.account_id, worker => settle_partner.worker);
    perform set_config('rapport.from_metakocka', 'on', true);
    result := private.try_apply_partner(
        account_id => settle_partner.account_id, user_id => whose, item => given);

    if result ->> 'status' = 'stale' and coalesce(item -> 'changes', '{}') <> '{}' then
        -- It has been edited meanwhile. Its partner, and the values that were sent, are still
        -- right. The next merge decides what to write to the contact.
        select m.base
        into old_base
        from public.metakocka_contact_mappings m
        where m.contact_id = settle_partner.contact_id;
        given := given || jsonb_build_object(
            'changes', '{}'::jsonb,
            'expected_version', null,
            'partner_hash', null,
            'seen_at', null,
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
    perform set_config('rapport.from_metakocka', 'off', true);

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

grant execute on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb, text)
    to service_role;


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
    state text default 'blocked',
    worker text default null
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
    if block_contact.state not in ('blocked', 'unknown') then
        raise sqlstate 'PT422' using
            message = 'A contact that is not sent is blocked or unknown.',
            detail = 'field: state';
    end if;
    perform private.require_worker(
        account_id => block_contact.account_id, worker => block_contact.worker);
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
        -- the missing fields may be there by now
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

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text, text)
    to service_role;


comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb, text) is
    'Notes the agreed state of a sent contact, in an item as in apply_partners. Returns its result with changed_meanwhile, which is true where the contact must be sent again. Even if the item is stale, its partner is noted.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account. Refuses where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text, text) is
    'Notes why a contact is not sent: it lacks fields (blocked), or it may have been sent (unknown). False where it has changed meanwhile and must be sent again.';


/*
    The contacts that are not sent because fields are missing. They have no mark: the next edit gives
    them one. So no run counts them again, and the person who starts a run is told their number.
*/
create function backend.count_blocked_contacts(account_id uuid)
    returns integer
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from public.metakocka_contact_mappings m
        join public.contacts c
            on c.id = m.contact_id
           and c.deleted_at is null
        where m.account_id = count_blocked_contacts.account_id
          and m.state = 'blocked'
          and m.missing <> '{}'
    );
end
$$;

grant execute on function backend.count_blocked_contacts(uuid) to service_role;


comment on function backend.count_blocked_contacts(uuid) is
    'How many contacts of an account are not sent because fields are missing; metakocka_partners shows which.';


/*
    The open intents that a reading of partners must know: a partner made by a lost call must not
    become a new contact. No worker claims deleted contacts any more, but a partner that was made
    for one stays its partner.
*/
create function private.is_merged_alive(contact_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    redirect record;
    next_id uuid := contact_id;
begin
    loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = next_id;
        exit when redirect.merged_into is null;
        next_id := redirect.merged_into;
    end loop;
    return redirect.deleted_at is null;
end
$$;


create function backend.unsettled_intents(account_id uuid, batch integer default 500)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                to_jsonb(e) || jsonb_build_object('is_orphaned', i.is_orphaned)
                order by i.created_at, i.id
            ),
            '[]')
        from (
            select
                o.id,
                o.created_at,
                -- the worker of the kept contact looks for a merged contact's partner
                c.deleted_at is not null and not private.is_merged_alive(c.id) as is_orphaned
            from private.partner_intents o
            join public.contacts c
                on c.id = o.contact_id
            where o.account_id = unsettled_intents.account_id
              and o.state in ('intended', 'sent', 'unknown')
            order by o.created_at, o.id
            limit least(greatest(batch, 1), 500)
        ) i
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;

grant execute on function backend.unsettled_intents(uuid, integer) to service_role;


create function backend.forget_partner(
    account_id uuid,
    contact_id uuid,
    metakocka_id text,
    worker text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    perform private.require_worker(
        account_id => forget_partner.account_id, worker => forget_partner.worker);
    perform
    from public.contacts c
    where c.id = forget_partner.contact_id
      and c.account_id = forget_partner.account_id
      and c.deleted_at is not null
    for no key update;
    if not found then
        return false;
    end if;
    insert into public.metakocka_contact_mappings as m (account_id, contact_id, metakocka_id, state)
    values (
        forget_partner.account_id, forget_partner.contact_id, forget_partner.metakocka_id, 'blocked'
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state
        where m.metakocka_id is null;
    return found;
exception
    when unique_violation then
        -- it is another contact by now
        return false;
end
$$;

grant execute on function backend.forget_partner(uuid, uuid, text, text) to service_role;


comment on function private.is_merged_alive(uuid) is
    'Whether a deleted contact was merged into one that exists.';
comment on function backend.unsettled_intents(uuid, integer) is
    'The open intents of an account, the oldest first: [{intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_orphaned}]. age is in seconds. is_orphaned says that the contact was deleted and no worker claims it any more.';
comment on function backend.forget_partner(uuid, uuid, text, text) is
    'Notes the partner of a deleted contact, so that it does not come back as a new contact. False where the contact exists again or has another partner.';


/*
    Asks which partner a contact is: it may be one of several, or its own one is gone. The contact
    is not sent until somebody answers, or the answer becomes clear by itself.
*/
create function backend.ask_partner(
    account_id uuid,
    contact_id uuid,
    -- null where the contact keeps its present partner
    changed_seq bigint,
    metakocka_id text,
    partners jsonb,
    worker text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
-- a partial index can only be named by its columns
#variable_conflict use_column
begin
    perform private.require_list(list => partners, field => 'partners', longest => 100);
    perform private.require_worker(
        account_id => ask_partner.account_id, worker => ask_partner.worker);
    perform private.require_contact(
        account_id => ask_partner.account_id, contact_id => ask_partner.contact_id);

    if ask_partner.changed_seq is not null then
        -- mappings before marks, as everywhere
        perform
        from public.metakocka_contact_mappings m
        where m.contact_id = ask_partner.contact_id
        for no key update;
        if not private.take_mark(
            contact_id => ask_partner.contact_id, changed_seq => ask_partner.changed_seq)
        then
            -- the change may answer the question
            return false;
        end if;

        insert into public.metakocka_contact_mappings as m (account_id, contact_id, state)
        values (ask_partner.account_id, ask_partner.contact_id, 'conflict')
        on conflict on constraint metakocka_contact_mappings_pkey do update
            set state = excluded.state,
                missing = '{}'
            where m.state <> 'conflict';
    end if;

    insert into public.sync_conflicts as s (account_id, contact_id, metakocka_id, partners)
    values (
        ask_partner.account_id, ask_partner.contact_id, ask_partner.metakocka_id,
        ask_partner.partners
    )
    on conflict (account_id, contact_id) where state = 'open' and partners is not null
        do update
        set metakocka_id = excluded.metakocka_id,
            partners = excluded.partners
        where (s.metakocka_id, s.partners) is distinct from (excluded.metakocka_id, excluded.partners);
    return true;
end
$$;

grant execute on function backend.ask_partner(uuid, uuid, bigint, text, jsonb, text)
    to service_role;


comment on function backend.ask_partner(uuid, uuid, bigint, text, jsonb, text) is
    'Asks which of partners, [{metakocka_id, …}], a contact is. metakocka_id is its present partner. False where the contact has changed meanwhile and must be sent again.';


/*
    Decides which side's value wins. A decision sets the agreed state to the losing value, so that
    the next merge sees a change on the winning side only. This stays right if the losing side
    changes again before that: then both sides have changed, and the question is asked again.
*/
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
            message = 'A conflict about a field needs one of the two sides.',
            detail = 'field: choice',
            hint = 'Choose crm or metakocka.';
    end if;
    update public.metakocka_contact_mappings m
    set base = private.with_agreed(
            base => coalesce(m.base, '{}'),
            field => conflict.field,
            value => coalesce(
                case choice when 'crm' then conflict.metakocka else conflict.crm end, 'null')
        ),
        -- the partner is checked even if it has not changed
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


comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value. Null removes an entry.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Sets a field of the agreed state to the losing value.';


/*
    Decides which contact a partner is: one of several, or a new one.
*/
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
                message = 'This partner has a contact by now.',
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
        -- with its name only: the sync brings the rest
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
                message = 'This partner can''t be that contact.',
                detail = 'field: choice',
                hint = 'Choose the id of one of the candidates, or new.';
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
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, base, state, user_id
    )
    values (
        conflict.account_id, chosen, conflict.metakocka_id,
        -- Both sides agree on the name from the start, since the contact was made from the partner.
        case
            when choice = 'new'
                then jsonb_build_object('name', nullif(left(btrim(conflict.metakocka ->> 'name'), 200), ''))
        end,
        'waiting', auth.uid()
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id
        where m.metakocka_id is null;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This contact has another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner has a contact by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
end
$$;


comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact, existing or new, the partner''s contact. Returns its id.';


/*
    Decides which partner a contact is: one of several, a new one, or none. A rejected partner
    becomes a contact of its own when it is read next.
*/
create function private.claim_partner(account_id uuid, contact_id uuid, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.contact_identities (account_id, kind, value, contact_id)
    values (
        claim_partner.account_id, 'metakocka', claim_partner.metakocka_id,
        claim_partner.contact_id
    )
    on conflict on constraint contact_identities_pkey do nothing;
    -- locked first, and read then
    perform
    from public.contact_identities i
    where i.account_id = claim_partner.account_id
      and i.kind = 'metakocka'
      and i.match_key = private.match_key(kind => 'metakocka', value => claim_partner.metakocka_id)
      and i.contact_id = claim_partner.contact_id
    for update;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This partner has another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
    end if;
end
$$;


create function private.decide_partner(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    offered constant text[] := array(
        select p ->> 'metakocka_id'
        from jsonb_array_elements(conflict.partners) p
    );
    present text;
begin
    select m.metakocka_id
    into present
    from public.metakocka_contact_mappings m
    where m.contact_id = conflict.contact_id;
    if present is distinct from conflict.metakocka_id then
        raise sqlstate 'PT409' using
            message = 'This contact has another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    elsif choice = any (offered) then
        if choice is distinct from present then
            perform private.give_partner(conflict => conflict, metakocka_id => choice);
        end if;
    elsif choice not in ('new', 'unlink') or present = any (offered) then
        raise sqlstate 'PT422' using
            message = 'This contact can''t be that partner.',
            detail = 'field: choice',
            hint = case
                when present = any (offered) then 'Choose the id of one of the partners.'
                else 'Choose the id of one of the partners, new to make another one, or unlink to have none.'
            end;
    else
        perform private.give_partner(conflict => conflict, metakocka_id => null);
        update public.metakocka_contact_mappings m
        set state = case decide_partner.choice when 'new' then 'waiting' else 'unlinked' end,
            not_partners = array(
                select distinct p
                from unnest(m.not_partners || offered) p
                order by p
            )
        where m.contact_id = conflict.contact_id;
        if choice = 'unlink' then
            delete from private.metakocka_dirty d
            where d.contact_id = conflict.contact_id;
        end if;
    end if;

    -- conflicts about fields of the earlier partner
    delete from public.sync_conflicts s
    where s.contact_id = conflict.contact_id
      and s.account_id = conflict.account_id
      and s.state = 'open'
      and s.field is not null
      and s.metakocka_id is distinct from decide_partner.choice;
end
$$;


create function private.give_partner(conflict public.sync_conflicts, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities i
    where i.account_id = conflict.account_id
      and i.contact_id = conflict.contact_id
      and i.kind = 'metakocka'
      and i.value = conflict.metakocka_id;

    -- of a deleted contact
    delete from public.metakocka_contact_mappings m
    using public.contacts c
    where m.account_id = conflict.account_id
      and m.metakocka_id = give_partner.metakocka_id
      and c.id = m.contact_id
      and c.deleted_at is not null;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, state, user_id
    )
    values (
        conflict.account_id, conflict.contact_id, give_partner.metakocka_id, 'waiting', auth.uid()
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            -- nothing was ever agreed with this partner
            base = null,
            partner_hash = null,
            base_version = null,
            seen_at = null,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner has another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
end
$$;


comment on function private.claim_partner(uuid, uuid, text) is
    'Makes a partner''s id an identity of a contact. Refuses where it is another contact''s.';
comment on function private.decide_partner(public.sync_conflicts, text) is
    'Gives a contact one of its possible partners (its id), a new one (new), or none (unlink).';
comment on function private.give_partner(public.sync_conflicts, text) is
    'Removes a contact''s present partner, and gives it this one, if any.';


/*
    A person decides a question that the sync could not. The sync does the rest at once.
*/
create function private.conflict_to_resolve(conflict_id uuid, choice text)
    returns public.sync_conflicts
    language plpgsql
    set search_path = ''
as $$
declare
    conflict public.sync_conflicts;
    seen public.sync_conflicts;
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
    if choice is null then
        raise sqlstate 'PT422' using
            message = 'A choice is missing.',
            detail = 'field: choice',
            hint = 'Choose crm, metakocka, an id, new or unlink, as the conflict allows.';
    end if;

    seen := conflict;
    -- in the lock order: identities, contacts, mappings, then the conflict
    perform private.lock_identities(
        account_id => conflict.account_id,
        contact_ids => conflict.candidates || conflict.contact_id,
        kinds => array['metakocka']
    );
    if conflict.question = 'partner'
        and conflict.state = 'open'
        and conflict.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', choice))
    then
        perform private.claim_partner(
            account_id => conflict.account_id,
            contact_id => conflict.contact_id,
            metakocka_id => choice
        );
    elsif conflict.question = 'contact'
        and conflict.state = 'open'
        and choice = any (conflict.candidates::text[])
    then
        perform private.claim_partner(
            account_id => conflict.account_id,
            contact_id => choice::uuid,
            metakocka_id => conflict.metakocka_id
        );
    end if;
    perform
    from public.contacts c
    where c.id = conflict.contact_id
       or c.id = any (conflict.candidates)
    order by c.id
    for no key update;
    perform
    from public.metakocka_contact_mappings m
    where m.account_id = conflict.account_id
      and (m.metakocka_id = conflict.metakocka_id or m.contact_id = conflict.contact_id)
    order by m.contact_id
    for no key update;
    select s.*
    into conflict
    from public.sync_conflicts s
    where s.id = conflict_id
    for update;
    if not found or conflict.state <> 'open' then
        raise sqlstate 'PT409' using
            message = 'This conflict has been decided already.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read the contact: it shows the decision.';
    elsif (conflict.candidates, conflict.partners) is distinct from (seen.candidates, seen.partners) then
        raise sqlstate 'PT409' using
            message = 'The possible choices have changed meanwhile.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read the conflict again.';
    end if;
    return conflict;
end
$$;


create function private.resolve_conflict(conflict_id uuid, choice text)
    returns uuid
    language plpgsql
    -- definer: users may not write conflicts and mappings; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    conflict constant public.sync_conflicts := private.conflict_to_resolve(
        conflict_id => resolve_conflict.conflict_id, choice => resolve_conflict.choice);
    contact uuid := conflict.contact_id;
begin
    if conflict.question = 'field' then
        perform private.decide_field(conflict => conflict, choice => resolve_conflict.choice);
    elsif conflict.question = 'partner' then
        perform private.decide_partner(
            conflict => conflict, choice => resolve_conflict.choice);
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


comment on function private.conflict_to_resolve(uuid, text) is
    'An open conflict, locked together with its contacts, partners and the choice. Refuses callers who may not decide it.';
comment on function private.resolve_conflict(uuid, text) is
    'Decides a conflict, and queues its contact to be checked. Returns the contact''s id.';
comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict. For a field: crm or metakocka. For a partner: the id of one of the candidates, or new for a contact of its own. For a contact: the id of one of the partners, new for another partner, or unlink for none. Returns the row of metakocka_partners. The sync does the rest at once. A decided conflict is refused (409).'
    ' Type: metakocka_partners';


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


/*
    The requests of owners and admins to the sync. They can't see that other accounts' contacts
    exist, and a forbidden request is refused before anything is looked up.
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
    -- by its contacts, or else the caller's only account
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
            message = 'You administer several accounts, and the request names none.',
            detail = 'field: account_id',
            hint = 'Give the account_id.';
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
            hint = 'Owners and admins of the account may.';
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
            hint = 'Connect the account first (metakocka_connections).';
    end if;
    return chosen;
end
$$;


create function private.authorize(account_id uuid, contact_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: the function checks the caller first
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


comment on function private.sync_account(uuid, uuid[]) is
    'The account of a request. Refuses an account that is not connected or that the caller does not administer.';
comment on function private.authorize(uuid, uuid[]) is
    'The account, and the contacts that belong to it.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts. For owners and admins of a connected account. Without account_id the account of the contacts counts, or the only one that you administer.'
    ' Type: {account_id: uuid, user_id: uuid, contact_ids: uuid[], not_found: uuid[]}';


/*
    A sync that a user asks for: a queued run, of some contacts or partners, or of all.
*/
create function private.queue_sync(
    account_id uuid,
    direction text,
    contact_ids uuid[],
    metakocka_ids text[]
)
    returns uuid
    language plpgsql
    -- definer: users may not write runs and marks; the function checks the caller first
    security definer
    set search_path = ''
as $$
-- a partial index can only be named by its columns
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
            hint = 'Use to_metakocka, from_metakocka or both.';
    elsif cardinality(contact_ids) > 1000 or cardinality(metakocka_ids) > 1000 then
        raise sqlstate 'PT422' using
            message = format('At most 1,000 can be named in one request; %s were.', greatest(cardinality(contact_ids), cardinality(metakocka_ids))),
            detail = case
                when cardinality(contact_ids) > 1000 then 'field: contact_ids'
                else 'field: metakocka_ids'
            end,
            hint = 'Send at most 1,000 in one request, or none to mean all.';
    elsif exists (select from unnest(metakocka_ids) i where i is null or i !~ '^[^\s]{1,64}$') then
        raise sqlstate 'PT422' using
            message = 'This is not the id of a partner.',
            detail = 'field: metakocka_ids',
            hint = 'An id has 1 to 64 characters and no space.';
    elsif cardinality(metakocka_ids) > 0
        and (direction = 'to_metakocka' or cardinality(contact_ids) > 0)
    then
        raise sqlstate 'PT422' using
            message = 'One request can''t name both partners and contacts, and partners can only be read from Metakocka.',
            detail = 'field: metakocka_ids',
            hint = 'Name the contacts in a request of their own.';
    elsif cardinality(contact_ids) > 0 and direction = 'from_metakocka' then
        raise sqlstate 'PT422' using
            message = 'Only partners can be read from Metakocka.',
            detail = 'field: contact_ids',
            hint = 'Name them by metakocka_ids. metakocka_mappings has the ids of contacts'' partners.';
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

    -- the sync still sends the values that the partners lack
    if direction <> 'from_metakocka' and not asked_for ? 'metakocka_ids' then
        marked := array(
            select c.id
            from public.contacts c
            left join public.metakocka_contact_mappings m
                on m.contact_id = c.id
            where c.account_id = chosen
              and c.deleted_at is null
              and case
                  when asked_for ? 'contact_ids' then c.id = any (contact_ids)
                  -- skips unlinked contacts
                  else coalesce(m.state not in ('synced', 'unlinked'), true)
              end
            order by c.id
        );
        perform private.mark_requested(account_id => chosen, contact_ids => marked);
    end if;

    insert into public.sync_runs as r (account_id, direction, trigger, request, user_id)
    values (chosen, queue_sync.direction, 'user', asked_for, auth.uid())
    -- the same request waits already: its answer serves both
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


comment on function private.queue_sync(uuid, text, uuid[], text[]) is
    'Queues a run, marks its contacts and rings. Returns the run''s id.';
comment on function public.request_sync(text, uuid, uuid[], text[]) is
    'Asks for a sync of some contacts or partners, or of all. Returns the id of a run in sync_runs. For owners and admins. Other accounts'' contacts count as unknown.'
    ' Type: (direction: sync_runs.direction) => uuid';


/*
    The partners of contacts, for users who may read the contacts.
*/
create function public.metakocka_mappings(
    contact_id uuid default null,
    cursor text default null,
    page_size integer default 100,
    account_id uuid default null
)
    returns jsonb
    language plpgsql
    stable
    -- invoker: rows that the caller may not read do not exist for it
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    last_contact_id uuid;
    page jsonb;
begin
    -- also where there is no row that it would be compared with
    if not pg_input_is_valid(substr(cursor, 1, 36), 'uuid') then
        raise sqlstate 'PT422' using
            message = 'This is not a cursor of metakocka_mappings.',
            detail = 'field: cursor',
            hint = 'Send the cursor of the last page unchanged, or none to start anew.';
    end if;
    last_contact_id := substr(cursor, 1, 36)::uuid;
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
                  last_contact_id
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
end
$$;

grant execute on function public.metakocka_mappings(uuid, text, integer, uuid) to authenticated;


comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'The partners of contacts, by page: of one contact, or of all that you may see. The last page has no cursor.'
    ' Type: {mappings: {contact_id: uuid, account_id: uuid, metakocka_id: text, state: metakocka_contact_mappings.state, missing: text[], user_id: uuid | null, last_synced_at: timestamptz | null, created_at: timestamptz, updated_at: timestamptz}[], cursor: text | null}';


/*
    Connects an account to its company for the command `rapport connect metakocka`. Owners and
    admins do the same by a row of metakocka_connections.
*/
create function backend.connect_metakocka(account text, company_id text)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
    before public.metakocka_connections;
    rule text;
begin
    select k.*
    into before
    from public.metakocka_connections k
    where k.account_id = named
    for no key update;
    insert into public.metakocka_connections as k (account_id, company_id)
    values (named, connect_metakocka.company_id)
    on conflict on constraint metakocka_connections_pkey do update
        set company_id = excluded.company_id,
            active = true,
            -- the key may be a new one
            paused_until = null
        where k.company_id <> excluded.company_id
           or not k.active
           or k.paused_until is not null;
    return jsonb_build_object(
        'account_id', named,
        'company_id', connect_metakocka.company_id,
        'company_before', before.company_id,
        'state', case
            when before.account_id is null then 'added'
            when before.company_id = connect_metakocka.company_id
                and before.active
                and before.paused_until is null
                then 'there'
            else 'changed'
        end
    );
exception
    when check_violation then
        get stacked diagnostics rule = constraint_name;
        perform private.refuse_row(
            table_name => 'metakocka_connections', kind => 'check', rule => rule);
end
$$;

grant execute on function backend.connect_metakocka(text, text) to service_role;


create function backend.account_id(account text)
    returns uuid
    language plpgsql
    stable
    -- definer: as connect_metakocka
    security definer
    set search_path = ''
as $$
begin
    return private.account_named(account);
end
$$;

grant execute on function backend.account_id(text) to service_role;


comment on function backend.connect_metakocka(text, text) is
    'Connects an account to a company at Metakocka, and ends a pause. state: added, changed or there. A company of another account: 409.';
comment on function backend.account_id(text) is
    'The id of the account with this external_id or id.';
