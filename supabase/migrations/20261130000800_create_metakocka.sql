-- Made from sql/8_metakocka/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


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
    -- who connected it
    user_id              uuid default auth.uid()
                         constraint metakocka_connections_user_id_fkey
                         references auth.users on delete set null,
    active               boolean not null default true,
    -- whose value stands where both sides have changed a field
    conflict_rule        text not null default 'ask'
                         constraint metakocka_connections_conflict_rule_check
                         check (conflict_rule in ('crm', 'metakocka', 'newest', 'ask')),
    -- how changed partners are found, since the service can't be asked for them
    listing              text not null default 'all'
                         constraint metakocka_connections_listing_check
                         check (listing in ('all', 'documents')),
    sync_interval        interval not null default interval '15 minutes'
                         constraint metakocka_connections_sync_interval_check
                         check (sync_interval between interval '1 minute' and interval '7 days'),
    -- how long a request waits for the end of a run that is at work
    request_wait         interval not null default interval '8 seconds'
                         constraint metakocka_connections_request_wait_check
                         check (request_wait between interval '0' and interval '12 seconds'),
    -- by kind of operation: attempts, and the waits between them
    retries              jsonb not null default '{}',
    -- how many pauses have followed each other: each is longer than the one before
    pauses               integer not null default 0
                         constraint metakocka_connections_pauses_check check (pauses >= 0),
    -- Metakocka takes no calls of this company: until when nothing is asked of it, and why
    paused_until         timestamptz,
    pause_reason         text
                         constraint metakocka_connections_pause_reason_check
                         check (length(pause_reason) <= 500),
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


/*
    The company whose partners an account's contacts are, also after the connection has ended:
    with another one's every partner would be somebody new. A company is one account's: one key
    may open several, and whoever named another's would read its partners.
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
    -- nobody knows how Metakocka reads 016
    select lower(regexp_replace(company_id, '^0+(?=.)', ''))
$$;

create unique index metakocka_companies_company_key
    on private.metakocka_companies (private.company_key(company_id));


create policy "nobody reads the companies directly"
    on private.metakocka_companies
    for all
    to authenticated
    using (false);


create function private.tg_metakocka_connections__keep_company()
    returns trigger
    language plpgsql
    -- definer: what was connected before is nobody's to read
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
            hint = 'Connect it to the company that it was connected to.';
    end if;
    return null;
exception
    -- metakocka_companies_company_key, which sees others' at the same moment as well
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This company is connected to another account.',
            detail = 'field: company_id',
            hint = 'Correct the company''s id. If it is right, ask who runs this service.';
end
$$;


create function private.tg_metakocka_connections__leave_company()
    returns trigger
    language plpgsql
    -- definer: companies are nobody's to write
    security definer
    set search_path = ''
as $$
begin
    -- one of whom no contact is a partner was named in error, perhaps
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


create trigger _050_keep_owner
    before update on public.metakocka_connections
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_connections
    for each row
    execute function private.tg__stamp_change();

-- after: whose account it is has been looked at by then
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
comment on column public.metakocka_connections.company_id is
    'Another one is refused (409) once contacts are partners of this, and so is one that is connected to another account.';
comment on column public.metakocka_connections.base_url is
    'Of a company with a server of its own; null for https://main.metakocka.si/rest/eshop/v1.';
comment on column public.metakocka_connections.conflict_rule is
    'Whose value stands where both sides have changed a field: crm, metakocka, newest, or ask, which leaves it to a person (sync_conflicts).';
comment on column public.metakocka_connections.listing is
    'all: every partner is listed and compared; documents: the partners of documents that changed.';
comment on column public.metakocka_connections.active is
    'Without it nothing is synchronized; what changes in known contacts meanwhile is sent once it is active again.';
comment on column public.metakocka_connections.sync_interval is
    'How often partners are looked through; contacts that change are sent at once.';
comment on column public.metakocka_connections.request_wait is
    'How long a request waits for the end of a run that is at work for the account; 12 seconds at most.';
comment on column public.metakocka_connections.retries is
    'How often a call is tried, and how long is waited in between, by kind of operation: {read, list, write, create: {attempts, first_wait, longest_wait, jitter}}; contact and pause have no attempts: they are about a contact that failed, and an account whose company takes no calls. Waits are in seconds and double from try to try; jitter is the part of a wait that is random, 0 to 1. What is left out stays as it is.';
comment on column public.metakocka_connections.paused_until is
    'Metakocka takes no calls of this company, because of a quota or a key that it does not accept: until then nothing is asked of it. Set it to null to try at once.';
comment on column public.metakocka_connections.pause_reason is
    'Why it is paused.';
comment on column public.metakocka_connections.pauses is
    'How many pauses have followed each other.';
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
comment on table private.metakocka_companies is
    'The company whose partners an account''s contacts are; it is no other account''s.';
comment on policy "nobody reads the companies directly" on private.metakocka_companies is
    'What is connected at present is in metakocka_connections.';
comment on function private.company_key(text) is
    'One key for the spellings of a company''s id.';
comment on index private.metakocka_companies_company_key is
    'A company is one account''s.';
comment on function private.tg_metakocka_connections__keep_company() is
    'Refuses another company once contacts are partners of one, and another account''s.';
comment on function private.tg_metakocka_connections__leave_company() is
    'Gives a company back of whom no contact is a partner.';
comment on constraint metakocka_connections_pkey on public.metakocka_connections is
    'This account is connected to Metakocka already.
Change the connection that is there.';
comment on constraint metakocka_connections_company_id_check on public.metakocka_connections is
    'A company_id has 1 to 64 letters, digits, hyphens and underscores.
Metakocka shows it beside the secret key.';
comment on constraint metakocka_connections_base_url_check on public.metakocka_connections is
    'A base_url begins with https:// and a host''s name, and has at most 255 characters.
Such as https://main.metakocka.si/rest/eshop/v1; leave it out for the service''s own.';
comment on constraint metakocka_connections_conflict_rule_check on public.metakocka_connections is
    'This is not a conflict_rule.
Known: crm, metakocka, newest, ask.';
comment on constraint metakocka_connections_listing_check on public.metakocka_connections is
    'This is not a listing.
Known: all, documents.';
comment on constraint metakocka_connections_sync_interval_check on public.metakocka_connections is
    'A sync_interval is from 1 minute to 7 days.
Such as 00:15:00.';
comment on constraint metakocka_connections_request_wait_check on public.metakocka_connections is
    'A request_wait is from 0 to 12 seconds.
Such as 00:00:08.';
comment on constraint metakocka_connections_pause_reason_check on public.metakocka_connections is
    'A pause_reason has at most 500 characters.';
comment on constraint metakocka_connections_pauses_check on public.metakocka_connections is
    'Pauses are counted from 0.';


select private.guard_table(
    'metakocka_connections',
    inserted => array[
        'account_id', 'company_id', 'base_url', 'conflict_rule', 'listing', 'active',
        'sync_interval', 'request_wait', 'retries'
    ],
    updated => array[
        'company_id', 'base_url', 'conflict_rule', 'listing', 'active', 'sync_interval',
        'request_wait', 'retries', 'paused_until'
    ]
);

select private.limit_writes('metakocka_connections', '{insert,update,delete}');


/*
    How patient the sync is with Metakocka, by kind of operation. A connection shows all of it;
    what is written is laid over what is there.
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
        -- get_partner and search; a wait is in seconds
        ('read', 'attempts', 4, 1, 10),
        ('read', 'first_wait', 0.5, 0, 10),
        ('read', 'longest_wait', 8, 0, 25),
        ('read', 'jitter', 1, 0, 1),
        -- all partners in one answer
        ('list', 'attempts', 1, 1, 3),
        ('list', 'first_wait', 0.5, 0, 10),
        ('list', 'longest_wait', 8, 0, 25),
        ('list', 'jitter', 1, 0, 1),
        -- changes of entries that are there
        ('write', 'attempts', 4, 1, 10),
        ('write', 'first_wait', 0.5, 0, 10),
        ('write', 'longest_wait', 8, 0, 25),
        ('write', 'jitter', 1, 0, 1),
        -- new partners and entries: only what was not heard is said again
        ('create', 'attempts', 4, 1, 10),
        ('create', 'first_wait', 0.5, 0, 10),
        ('create', 'longest_wait', 8, 0, 25),
        ('create', 'jitter', 1, 0, 1),
        -- a contact that could not be sent, by a later run
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
            message = 'Retries are an object for each kind of operation.',
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
                    'This is a number from %s to %s.', wrong.least_value, wrong.most_value)
            end,
            detail = 'field: ' || rtrim(wrong.field, '.'),
            hint = case
                when wrong.least_value is null then 'Kinds: read, list, write, create, with attempts, first_wait, longest_wait and jitter; contact and pause, without attempts.'
                else 'Waits are in seconds; jitter is the part of a wait that is random; attempts are whole.'
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
            message = 'The longest wait is no shorter than the first.',
            detail = format('field: retries.%s.longest_wait', wrong.kind);
    end if;
    return whole;
end
$$;


create function private.tg_metakocka_connections__read_settings()
    returns trigger
    language plpgsql
    -- definer: who connects an account has no rights on what is private
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
        message = 'A pause can be ended, and nothing else.',
        detail = 'field: paused_until',
        hint = 'Set it to null to try at once.';
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
    -- definer: the doorbell is nobody's to press
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
    'The settings of retries, with their usual values and their bounds; waits are in seconds.';
comment on function private.read_retries(jsonb, jsonb) is
    'All settings: those that are given, those that are there, the usual ones. Refused where one is unknown or out of its bounds.';
comment on function private.tg_metakocka_connections__read_settings() is
    'Completes a connection''s settings, and forgets why it was paused once it is not.';
comment on function private.tg_metakocka_connections__end_pause() is
    'Refuses a pause that somebody makes or moves.';
comment on function private.tg_metakocka_connections__ring() is
    'Wakes the sync when a pause is ended.';


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
    -- partners that a person has said it is not
    not_partners   text[] not null default '{}'
                   constraint metakocka_contact_mappings_not_partners_check
                   check (cardinality(not_partners) <= 1000
                          and array_position(not_partners, null) is null),
    state          text not null
                   constraint metakocka_contact_mappings_state_check
                   check (state in (
                       'synced', 'waiting', 'conflict', 'blocked', 'unknown', 'unlinked'
                   )),
    -- the fields without which it can't be sent
    missing        text[] not null default '{}'
                   constraint metakocka_contact_mappings_missing_check
                   check (cardinality(missing) <= 30 and array_position(missing, null) is null),
    -- the fields as last agreed; null where nothing ever was
    base           jsonb
                   constraint metakocka_contact_mappings_base_check
                   check (jsonb_typeof(base) = 'object' and octet_length(base::text) <= 131072),
    -- the contact's version with which the agreed state was reached
    base_version   bigint,
    -- of the partner as last seen: one that has the same needs no look
    partner_hash   text
                   constraint metakocka_contact_mappings_partner_hash_check
                   check (length(partner_hash) <= 128),
    -- whose doing it is: who connected the account, or asked for the run
    user_id        uuid
                   constraint metakocka_contact_mappings_user_id_fkey
                   references auth.users on delete set null,
    -- when the partner was last seen, and nothing in it differed from what was agreed then
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
comment on column public.metakocka_contact_mappings.seen_at is
    'When the partner was last seen with what was agreed: what differs in it now was edited later. While there is nothing to be sent it may have been seen later than this.';
comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or looked at; conflict: a person decides (sync_conflicts); blocked: it can''t be sent, see missing, or the contact is deleted; unknown: it may have been made there, which is being found out; unlinked: a person wants it to be no partner, and it is sent only when somebody asks for it.';
comment on column public.metakocka_contact_mappings.missing is
    'The fields that Metakocka asks for and that the contact lacks.';
comment on column public.metakocka_contact_mappings.user_id is
    'Who connected the account, or asked for the sync that wrote this.';
comment on column public.metakocka_contact_mappings.last_synced_at is
    'When both sides last agreed on something new.';
comment on column public.metakocka_contact_mappings.not_partners is
    'Partners that a person has said it is not: none of them is taken for it again.';
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
    -- who asked for it; null for the schedule's and the doorbell's
    user_id     uuid
                constraint sync_runs_user_id_fkey
                references auth.users on delete set null,
    direction   text not null
                constraint sync_runs_direction_check
                check (direction in ('to_metakocka', 'from_metakocka', 'both')),
    trigger     text not null
                constraint sync_runs_trigger_check
                check (trigger in ('schedule', 'wake', 'user', 'cli')),
    -- what was asked for: {contact_ids} or {metakocka_ids}; all without
    request     jsonb not null default '{}'
                constraint sync_runs_request_check
                check (jsonb_typeof(request) = 'object' and octet_length(request::text) <= 131072),
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
    -- where the next one goes on
    cursor      jsonb
                constraint sync_runs_cursor_check check (octet_length(cursor::text) <= 65536),
    -- something was written without telling it: who follows reads again at the end
    quiet       boolean not null default false,
    waiting     integer not null default 0
                constraint sync_runs_waiting_check check (waiting >= 0),
    started_at  timestamptz,
    finished_at timestamptz,
    duration_ms bigint
                constraint sync_runs_duration_ms_check check (duration_ms >= 0),
    -- Metakocka takes no calls: when it is gone on with
    resumes_at  timestamptz,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     bigint not null default 1,

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
    -- when the worker's own time is over; null where nobody ends it
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
comment on column public.sync_runs.direction is
    'to_metakocka, from_metakocka or both.';
comment on column public.sync_runs.trigger is
    'What it was begun by: the schedule, a changed contact (wake), a user, the command line.';
comment on column public.sync_runs.state is
    'queued: it was asked for; running; stopped: its time was over, or Metakocka takes no calls until resumes_at, and the next goes on with it; done; failed.';
comment on column public.sync_runs.total is
    'How many contacts or partners there are to look at; null while that is not known.';
comment on column public.sync_runs.done is
    'How many have been looked at: succeeded, failed, unchanged and waiting together.';
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
comment on column public.sync_runs.waiting is
    'How many wait: for a person (sync_conflicts), or to be tried again.';
comment on column public.sync_runs.resumes_at is
    'When it is gone on with, because Metakocka takes no calls before; null otherwise.';
comment on policy "members can read the sync runs of their accounts" on public.sync_runs is
    'Whoever may read the contacts.';
comment on table private.sync_leases is
    'Who is at work for an account, in which run and until when.';
comment on policy "nobody reads sync leases directly" on private.sync_leases is
    'Runs are read in sync_runs.';


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
    What the sync can't or didn't decide alone: a field that both sides have changed, a partner
    that several contacts may be, or a contact that several partners may be or whose partner is
    gone. What a rule has decided is recorded here as well.
*/
create table public.sync_conflicts (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_conflicts_account_id_fkey
                 references public.accounts on delete cascade,
    -- null where it is not known which
    contact_id   uuid,
    -- null where the contact is no partner so far
    metakocka_id text
                 constraint sync_conflicts_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- null where the question is which contact or partner it is
    field        text
                 constraint sync_conflicts_field_check check (length(field) between 1 and 128),
    base         jsonb,
    crm          jsonb,
    -- of a field its value, otherwise the partner
    metakocka    jsonb,
    -- where the question is which partner a contact is: those that it may be
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
    -- crm or metakocka; the id of a contact or a partner, new, unlink; or agreed, where both
    -- sides have come to the same
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


-- a question is asked once
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


create policy "members can read the sync conflicts of their accounts"
    on public.sync_conflicts
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.sync_conflicts to authenticated;


comment on table public.sync_conflicts is
    'What both sides have changed, and who is who where the sync can''t tell; resolve_sync_conflict decides.';
comment on column public.sync_conflicts.question is
    'field: whose value stands; contact: which contact the partner is; partner: which partner the contact is.';
comment on column public.sync_conflicts.contact_id is
    'Whose field or partner it is; null while the question is which contact the partner is.';
comment on column public.sync_conflicts.metakocka_id is
    'The partner; of the question which partner a contact is the one that it is so far, or that is gone, if any.';
comment on column public.sync_conflicts.field is
    'The field that both sides have changed, of a list such as people.228000046630.email; null where the question is which contact or partner it is.';
comment on column public.sync_conflicts.base is
    'The value as last agreed.';
comment on column public.sync_conflicts.crm is
    'The contact''s value when the conflict was last met.';
comment on column public.sync_conflicts.metakocka is
    'The partner''s value, or the partner itself.';
comment on column public.sync_conflicts.candidates is
    'The contacts that the partner may be.';
comment on column public.sync_conflicts.choice is
    'crm or metakocka; the id of a contact or a partner, new or unlink; agreed where both sides came to the same.';
comment on column public.sync_conflicts.partners is
    'The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other questions.';
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
    contact_id   uuid,
    -- or batch
    metakocka_id text
                 constraint sync_errors_metakocka_id_check check (length(metakocka_id) <= 64),
    user_id      uuid
                 constraint sync_errors_user_id_fkey
                 references auth.users on delete set null,
    category     text not null default 'SYNC'
                 constraint sync_errors_category_check check (category = 'SYNC'),
    -- what was being done, such as syncContactToMetakocka
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
    -- by field, when it was last edited: who is newest is decided field by field
    edits       jsonb not null default '{}'
                constraint metakocka_dirty_edits_check check (jsonb_typeof(edits) = 'object'),
    attempts    integer not null default 0,
    worker      text,
    lease_until timestamptz,
    -- of the first edit since it was last claimed; null while there is none
    edited_at   timestamptz default clock_timestamp(),
    -- several edits in a row are sent as one
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


create policy "nobody reads the marks directly"
    on private.metakocka_dirty
    for all
    to authenticated
    using (false);


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
    -- after the first of them: edits that never end are sent all the same
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
    -- definer: marks and mappings are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    changed record;
begin
    -- what comes from Metakocka need not go back
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

    -- where times decide, those of each field
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
$$
        $sql$,
        array_to_string(private.party_fields(), ', o.'),
        array_to_string(private.party_fields(), ', n.')
    );
end
$make$;

select private.make_dirty_trigger();


-- what was edited while an account was not connected was not marked
create function private.tg_metakocka_connections__mark_changed()
    returns trigger
    language plpgsql
    -- definer: marks and mappings are nobody's to write
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
    'Contacts that are to be sent to Metakocka, in the order of their change.';
comment on column private.metakocka_dirty.changed_seq is
    'The number of the last change; who has sent an earlier one leaves the mark.';
comment on column private.metakocka_dirty.edited_at is
    'When it was first edited since it was last claimed; null where it was not.';
comment on column private.metakocka_dirty.edits is
    'When each field was last edited since the mark is there, {field: time}, where the account''s rule is newest.';
comment on policy "nobody reads the marks directly" on private.metakocka_dirty is
    'Whether a contact waits is read in its mapping.';
comment on function private.quiet_moment() is
    'How long after an edit a contact is sent, unless it is edited once more.';
comment on function private.longest_wait() is
    'How long after an edit a contact is sent at the latest, however often it is edited.';
comment on function private.mark_requested(uuid, uuid[]) is
    'Marks contacts that somebody wants to be sent now, also those that were to be no partners.';
comment on function private.mark_dirty(uuid, uuid[], interval) is
    'Notes that contacts of an account are to be sent, after a quiet moment, and rings. Those that are to be no partners are passed over.';
comment on function private.tg_metakocka_connections__mark_changed() is
    'Marks the contacts that are not as they were last agreed, when their account is connected again.';
comment on function private.make_dirty_trigger() is
    'Makes private.tg_contacts__mark_dirty for the fields that partners have now.';
comment on function private.tg_contacts__mark_dirty() is
    'Marks the contacts of connected accounts whose synchronized fields change.';


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
    -- what was to be sent, by which it is looked for: the contact may be another by then.
    -- Once nobody has to look any more it is forgotten
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

create index partner_intents_open_idx
    on private.partner_intents (account_id, created_at, id)
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
    'The fields that were to be sent, by which a partner that may have been made is looked for; empty once that is settled.';
comment on policy "nobody reads partner intents directly" on private.partner_intents is
    'The sync alone settles them.';


/*
    What becomes of partners when contacts are deleted, merged and parted again.
*/
create function private.forget_partners(contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting record;
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

    -- a partner that may have been made of a merged contact is the kept one's to look for
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


comment on function private.forget_partners(uuid[]) is
    'What follows for the sync when contacts are deleted or merged.';
comment on function private.tg_contact_identities__move_mapping() is
    'A partner''s mapping goes where its identity goes.';


/*
    The fields that contacts share with partners: how they are read together, what is taken of
    them, and what of them a contact is known by.
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
    Tax numbers are one with and without the country before them; of two countries they are two.
    So the key, which leaves the country out, only finds those of whom same_tax tells.
    (rapport.metakocka.agreement.compare has the same rule.)
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


-- whom a tax number may be; no identity, since the branches of a company share one
create index contacts_tax_key_idx
    on public.contacts (account_id, private.tax_key(tax_id_number))
    where tax_id_number is not null;

-- whom a mobile number may be that is written without its country, and so is no identity
create index contacts_gsm_tail_idx
    on public.contacts (account_id, private.number_tail(gsm))
    where gsm is not null and left(gsm, 1) <> '+';


comment on function private.contact_party(public.contacts) is
    'The fields of a contact that a partner has as well.';
comment on function private.tax_country(text) is
    'The country before a tax number, two letters; empty where there is none.';
comment on function private.tax_key(text) is
    'One key for the spellings of a tax number, without its country.';
comment on function private.same_tax(text, text) is
    'Whether two tax numbers are one: one may lack its country.';
comment on function private.number_tail(text) is
    'The last six digits of a number, which all its spellings have.';
comment on index public.contacts_gsm_tail_idx is
    'Whom a partner''s mobile number may be.';
comment on index public.contacts_tax_key_idx is
    'Whom a partner''s tax number may be.';


/*
    The ERP's face of a contact: the fields that partners have, which partner it is, and how the
    two stand. Written as the other faces are; what is written here is on its way to Metakocka.
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


select private.limit_writes('metakocka_partners', '{insert,update,delete}');


/*
    What there is to do, and for whom: accounts with contacts to send, with a run that waits or
    was left, or whose time has come.
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
    found_connection jsonb;
begin
    select jsonb_build_object(
        'account_id', a.id,
        'company_id', k.company_id,
        'base_url', k.base_url,
        'conflict_rule', k.conflict_rule,
        'listing', k.listing,
        'documents_seen_until', k.documents_seen_until,
        'retries', k.retries
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
            -- it is extended until then
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
    'What keeps a connected account''s next run waiting: {run_id, lease_until, ends_by, paused_until, pause_reason, now, request_wait}. Without a run at work the first three are null, and without a pause the next two; request_wait is in seconds.';
comment on function backend.next_lease_end() is
    'In how many seconds the first lease of a run ends unless it is extended; null where nobody is at work.';
comment on function backend.metakocka_connection(text) is
    'The connection of an account by its id or external id: {account_id, company_id, base_url, conflict_rule, listing, documents_seen_until, retries}.';
comment on function backend.metakocka_connections_due(integer) is
    'The accounts for which there is something to do and nobody at work, the longest waiting first: [{account_id, reasons}]; reasons are run (to be gone on with), contacts (to be sent) and schedule.';


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
    -- a worker extends it every few seconds, also during a long call
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
            started_at = coalesce(r.started_at, clock_timestamp()),
            resumes_at = null
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

    if connection.paused_until > clock_timestamp() then
        return null;
    end if;
    select l.*
    into lease
    from private.sync_leases l
    where l.account_id = begin_sync.account_id;
    if lease.lease_until <= clock_timestamp() then
        -- its worker may be writing at this moment: once that is over, nothing more comes
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
        -- what the last worker held when it ended is this one's. After the mappings, and
        -- without waiting: who edits several contacts takes their marks in an order of its own
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
    'How long a run is its worker''s without a word from it.';
comment on function private.next_sync_run(uuid, text, text, uuid, jsonb) is
    'The run to go on with, or a new one; null where a wake finds nothing to send. A request is always a new one.';
comment on function backend.begin_sync(
    uuid, text, text, text, uuid, jsonb, double precision
) is
    'Leases an account to a worker: the run that waits or was left, with its cursor and counts, or a new one; null where another is at work, the account is paused or a wake finds nothing (sync_at_work says which). time_left are the seconds that the worker has. With a request, {contact_ids} or {metakocka_ids}, a run of its own. Repeating it under the same name answers the same.';


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
        raise sqlstate 'RP003' using
            message = 'This run is not yours any more.',
            detail = format('run: %s', require_lease.run_id),
            hint = 'Stop: another worker goes on with it.';
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
        -- nobody's worker writes only while nobody is at work
        perform
        from private.sync_leases l
        where l.account_id = require_worker.account_id
          and l.lease_until > clock_timestamp();
        if not found then
            return;
        end if;
    else
        -- held to the end of the transaction: whoever takes the lease over waits for it
        perform
        from private.sync_leases l
        where l.account_id = require_worker.account_id
          and l.worker = require_worker.worker
        for share;
        if found then
            return;
        end if;
    end if;
    raise sqlstate 'RP003' using
        message = 'Another worker is at work for this account.',
        detail = format('account: %s', require_worker.account_id),
        hint = 'Stop: it goes on with what there is to do.';
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
        -- its worker is refused from now on, and whoever connects it again has it gone on with
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
    -- before the lease, as whoever begins a run
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

    -- Metakocka takes calls: the next pause is a first one
    if finish_sync.state = 'done' then
        update public.metakocka_connections k
        set paused_until = null,
            pause_reason = null,
            pauses = 0
        where k.account_id = account
          and k.pauses > 0;
    end if;

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
    -- Metakocka's own word counts, a day at most
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
    'Lets pass whoever holds the account''s lease, and keeps it from being taken over until the transaction ends; RP003 for a worker that has lost it.';
comment on function backend.keep_sync(uuid, text) is
    'Extends a run''s lease and nothing more: returns until when. RP003 once another has taken it over.';
comment on function backend.pause_sync(uuid, text, text, text, double precision) is
    'Ends a run (stopped or failed) because Metakocka takes no calls of its company, and lets the account rest: returns until when. retry_after is Metakocka''s own word, in seconds; otherwise each pause after another is twice as long, as the connection''s retries say.';
comment on function private.require_lease(uuid, text) is
    'The account of a run, locked for the worker whose it is; refused where it is another''s.';
comment on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) is
    'Notes how far a run has come, in all and not since the last time, and extends its lease: returns until when. Taken over by another: RP003, and so once the account is connected no more.';
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
                    'is_asked', exists (
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
                  and private.same_tax(t.tax_id_number, partner_candidates.tax_id_number)
                union all
                -- to be compared as numbers of their countries, which the caller can
                select t.id, 'gsm'
                from unnest(phones) p
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
            group by f.contact_id
        ) g
        join public.contacts c
            on c.id = g.contact_id
           and c.deleted_at is null
        left join lateral (
            select o.metakocka_id, o.not_partners
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- one that is a partner already is not another
        where m.metakocka_id is null
          and coalesce(partner_candidates.metakocka_id <> all (m.not_partners), true)
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
declare
    -- that somebody is asked about: they stay as they are until there is an answer
    asked constant text[] := array(
        select distinct p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.account_id = read_partners.account_id
          and s.state = 'open'
          and s.partners is not null
    );
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);

    return (
        select coalesce(
            jsonb_agg(
                case
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
                        'edits', coalesce(d.edits, '{}')
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'is_asked', r.metakocka_id = any (asked),
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
        left join lateral (
            select o.contact_id, o.edits
            from private.metakocka_dirty o
            where o.contact_id = m.contact_id
            limit 1
        ) d
            on true
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
            detail = 'field: ' || field,
            hint = 'Send [] for none.';
    elsif jsonb_array_length(list) > longest then
        raise sqlstate 'PT422' using
            message = format('These are too many %s for one call.', field),
            detail = 'field: ' || field,
            hint = format('At most %s.', longest);
    end if;
end
$$;


comment on function private.partner_candidates(uuid, text, text, text[], text[]) is
    'The contacts that a partner may be, by tax number, email, phone or its own id, or perhaps by a mobile number that lacks its country (gsm); none that is a partner already, or of which a person has said that it is not this one.';
comment on function private.require_list(jsonb, text, integer) is
    'Refuses what is not a list of objects, or too long.';
comment on function backend.read_partners(uuid, jsonb) is
    'What is known of up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order: {unchanged: true, is_edited} where the hash is known, is_edited if the contact is to be sent; {contact_id, version, updated_at, is_deleted, party, base, base_version, state, seen_at, edits} where it is a contact; otherwise {is_asked, candidates: [{contact_id, version, updated_at, matched_by, is_asked, party}]}, where is_asked says that somebody is to tell which partner a contact is.';


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
    -- when the partner was read
    seen_at      timestamptz,
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


create function private.brings_proof(account_id uuid, item private.partner_item)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- A contact that was made of a partner is that partner. One that was there before is shown
    -- what the partner brings along, for staff to confirm (proof): the two may have been taken
    -- for one in error. What is edited there once both have agreed is a word of staff.
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
    where k.value is not null
      and (
          k.kind = 'metakocka'
          or i.is_new
          or (
              private.brings_proof(
                  account_id => claim_partner_identities.account_id, item => i)
              -- it may be what the customer has written, on its way back
              and not private.writes_itself(contact_id => i.contact_id, kind => k.kind)
          )
      );
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
    'Whether a contact becomes known by what its partner brings.';
comment on function private.claim_partner_identities(uuid, private.partner_item[]) is
    'Claims what partners make their contacts known by, as far as it is proved; returns what others own, by its owners. RP002 where an owner should have been a candidate.';
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
    blank constant public.contacts := private.new_contact(
        account_id => write_partner_contacts.account_id, contact_id => null, fields => '{}');
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
            jsonb_strip_nulls(i.changes - private.unshared_columns())
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
            cross join lateral jsonb_populate_record(o, i.changes - private.unshared_columns()) p
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
        -- what says the same as before is not written again
        where (m.metakocka_id, m.base, m.partner_hash, m.base_version, m.state, m.missing)
            is distinct from (
                excluded.metakocka_id, excluded.base, excluded.partner_hash,
                excluded.base_version, excluded.state, '{}'::text[]
            )
            -- but when it was seen counts while there is an edit to be sent
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

    -- it is known by now which partner a contact is, or its own is there again
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
          -- that it is one of several is no answer to whether it is another
          and not coalesce(
              s.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', s.metakocka_id)),
              false);
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
    quiet boolean default false,
    worker text default null
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
    perform private.require_worker(
        account_id => apply_partners.account_id, worker => apply_partners.worker);
    whose := private.sync_user(account_id => apply_partners.account_id, run_id => apply_partners.run_id);

    perform set_config('rapport.from_metakocka', 'on', true);
    if quiet and run_id is not null then
        perform set_config('rapport.quiet', 'on', true);
        -- before the first write: whoever ends the run tells everybody to read again
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
            message = 'Others are writing some of these contacts.',
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
comment on function backend.apply_partners(uuid, uuid, jsonb, boolean, text) is
    'Writes up to 500 merged partners, [{metakocka_id, partner_hash, base, contact_id, expected_version, changes, conflicts: [{field, base, crm, erp, decided_by, winner}], candidates, push, partner, seen_at}]; without contact_id a contact is made, with candidates it waits. Answers [{metakocka_id, status, contact_id, reason}] in their order: created, adopted, updated, unchanged, waiting, refused, or stale, which is to be read and merged again. quiet leaves the events to finish_sync.';


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
    if not dry_run then
        -- another's marks are not taken
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
                        'not_partners', coalesce(m.not_partners, '{}'),
                        -- what it is looked up by, and what is no proof of who it is
                        'emails', private.identity_values(c, 'email'),
                        'phones', private.identity_values(c, 'phone'),
                        'unproved', private.unproved_fields(c),
                        'asked_about', private.asked_about(c),
                        -- calls whose outcome is to be found out first
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
        -- in seconds, until there is something to do again as far as is known now
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

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean)
    to service_role;


create function backend.note_partners_seen(
    account_id uuid,
    metakocka_ids text[],
    seen_at timestamptz,
    worker text default null,
    -- of one partner, whose fields differ: what is agreed of it while ours is on its way
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


create function private.asked_about(contact public.contacts)
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
    -- changed meanwhile: it is free to be sent again
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


comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean) is
    'Leases up to 100 contacts that changed, all or those of contact_ids, in the order of their change; a dry_run shows them and leases none: {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, seen_at, edits, not_partners, emails, phones, unproved, asked_about, intents}], next_in}, the seconds until there are others.';
comment on function backend.note_partners_seen(uuid, text[], timestamptz, text, jsonb) is
    'Notes when partners were seen with what was agreed, of contacts that are to be sent: what differs in one later was edited later. base is what is agreed from now on, of a single one. Returns of how many.';
comment on function private.identity_values(public.contacts, text) is
    'The emails or phones that a contact is known by, written there or not.';
comment on function private.asked_about(public.contacts) is
    'The partners of which somebody is to tell whether a contact is one of them.';
comment on function private.take_mark(uuid, bigint) is
    'Takes a contact''s mark away if it is not newer than this; otherwise gives its lease free. Whether there is no mark left.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent again later.';


/*
    What became of a contact that was claimed: it is agreed with its partner, or it can't be
    sent and says why.
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
            message = 'What is not sent is blocked or unknown.',
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

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text, text)
    to service_role;


comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb, text) is
    'Notes what was agreed when a contact was sent, an item as of apply_partners: its answer with changed_meanwhile, true where the contact is to be sent again. Also if it is stale, that it is this partner stands.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account; refused where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text, text) is
    'Notes why a contact is not sent: it lacks fields (blocked), or it may have been (unknown). False where it has changed meanwhile and is to be sent again.';


/*
    A call that must not happen twice, from before it begins until it is known what became of
    it. Killed at any line, the next worker finds the intent and looks before it calls.
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

grant execute on function backend.begin_intent(uuid, uuid, text, text, jsonb, text)
    to service_role;


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
    -- a call that was made is settled by whoever made it, also once it has lost its lease
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
        end,
        -- a person's data, for which there is no use any more
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
    'Notes that a contact''s partner is about to be made (add_partner) or changed: {intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_new}. If one is open already that one, with is_new false: what became of it is to be found out first. A contact that is a partner already gets no other: 409.';
comment on function private.intent_rows(uuid) is
    'An intent as it is told.';
comment on function private.open_intents(uuid) is
    'The intents of a contact, and of those that were merged into it, of which nobody knows what became.';
comment on function backend.settle_intent(uuid, uuid, text, text, text) is
    'Notes how a call stands: sent just before it begins, and then unknown, settled (with the partner''s id) or abandoned. False where that does not follow from where it stood: the caller must not go on.';


/*
    What has to be known of open intents when partners are read: one that was made by a lost
    call must not be taken for somebody new. Those of deleted contacts nobody claims any more;
    a partner that was made all the same stays theirs.
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
                -- of one that was merged the kept one's worker looks for the partner
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
    'Whether a contact that is gone was merged into one that is there.';
comment on function backend.unsettled_intents(uuid, integer) is
    'The open intents of an account, the oldest first: [{intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_orphaned}], is_orphaned where the contact was deleted and nobody claims it any more.';
comment on function backend.forget_partner(uuid, uuid, text, text) is
    'Notes which partner a deleted contact is, so that it does not come back as a new one. False where the contact is there again or the partner is another.';


/*
    A question which partner a contact is: several may be it, or its own is gone. The contact
    is not sent until there is an answer, or one becomes clear by itself.
*/
create function backend.ask_partner(
    account_id uuid,
    contact_id uuid,
    -- null where the contact goes on with the partner that it has
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
-- a partial index is named by its columns alone
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
            -- what has changed may tell
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
    'Asks which of partners, [{metakocka_id, …}], a contact is, metakocka_id being the one that it is so far. False where it has changed meanwhile and is to be sent again.';


/*
    Which side's value stands. A decision moves the agreed state: to the value that is not
    wanted, so that the next merge finds the other side alone changed. It stays true if a side
    changes once more before that: then both have, and it is asked again.
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


comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value; null takes an entry out.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Moves what was agreed about a field to the value that is not wanted.';


/*
    Which contact a partner is, of several or a new one.
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
                message = 'This partner is a contact by now.',
                detail = 'field: choice',
                hint = 'Read the conflict again.';
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
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, base, state, user_id
    )
    values (
        conflict.account_id, chosen, conflict.metakocka_id,
        -- on the name both agree from the beginning: it was made of the partner
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
            message = 'This contact is another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner is a contact by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
end
$$;


comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact the partner that several may be, or a new one; returns its id.';


/*
    Which partner a contact is: one of several, a new one, or none. A partner that it is not
    becomes a contact of its own when it is looked at next.
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
    -- locked, and asked once it is
    perform
    from public.contact_identities i
    where i.account_id = claim_partner.account_id
      and i.kind = 'metakocka'
      and i.match_key = private.match_key(kind => 'metakocka', value => claim_partner.metakocka_id)
      and i.contact_id = claim_partner.contact_id
    for update;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This partner is another contact by now.',
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
            message = 'This contact is another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    elsif choice = any (offered) then
        if choice is distinct from present then
            perform private.give_partner(conflict => conflict, metakocka_id => choice);
        end if;
    elsif choice not in ('new', 'unlink') or present = any (offered) then
        raise sqlstate 'PT422' using
            message = 'This is none of the partners that it may be.',
            detail = 'field: choice',
            hint = case
                when present = any (offered) then 'One of the partners'' ids.'
                else 'One of the partners'' ids, new to make another, or unlink to have none.'
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

    -- what was asked about the fields of the one before
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

    -- of a contact that was deleted
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
            -- with this one nothing was ever agreed
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
            message = 'This partner is another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
end
$$;


comment on function private.claim_partner(uuid, uuid, text) is
    'Makes a contact known by a partner; refused where another is.';
comment on function private.decide_partner(public.sync_conflicts, text) is
    'Makes a contact one of the partners that it may be (its id), a new one (new), or none (unlink).';
comment on function private.give_partner(public.sync_conflicts, text) is
    'Takes a contact from the partner that it was, and gives it this one, if any.';


/*
    A person decides what the sync could not; the sync does the rest at once.
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
            message = 'Nothing was chosen.',
            detail = 'field: choice',
            hint = 'Choose crm, metakocka, an id, new or unlink, as the conflict allows.';
    end if;

    seen := conflict;
    -- in the lock order: identities, contacts, mappings, then this
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
            message = 'This has been decided already.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read the contact: it has what was chosen.';
    elsif (conflict.candidates, conflict.partners) is distinct from (seen.candidates, seen.partners) then
        raise sqlstate 'PT409' using
            message = 'What may be chosen has changed meanwhile.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read it again.';
    end if;
    return conflict;
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
    'An open conflict, locked with what it is about and what is chosen; refused where it is not the caller''s to decide.';
comment on function private.resolve_conflict(uuid, text) is
    'Decides a conflict and has its contact looked at; returns the contact''s id.';
comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict: of a field crm or metakocka; of a partner the id of one of the candidates, or new for a contact of its own; of a contact the id of one of the partners, new for another partner, or unlink for none. Answers the row of metakocka_partners; what follows is done by the sync at once. Decided already: 409.';


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


comment on function private.sync_account(uuid, uuid[]) is
    'The account that is meant; refused unless it is connected and the caller administers it.';
comment on function private.authorize(uuid, uuid[]) is
    'The account and those of the contacts that are its own.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts: {account_id, user_id, contact_ids, not_found}, for owners and admins of a connected account. Without account_id that of the contacts, or the only one that you administer.';


/*
    A sync that somebody asks for: a run that waits for its turn, of some contacts or partners
    or of all.
*/
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
            detail = 'field: metakocka_ids',
            hint = 'An id has 1 to 64 characters, and no space.';
    elsif cardinality(metakocka_ids) > 0
        and (direction = 'to_metakocka' or cardinality(contact_ids) > 0)
    then
        raise sqlstate 'PT422' using
            message = 'Partners are read from Metakocka, and contacts are not asked for with them.',
            detail = 'field: metakocka_ids',
            hint = 'Ask for the contacts by a call of their own.';
    elsif cardinality(contact_ids) > 0 and direction = 'from_metakocka' then
        raise sqlstate 'PT422' using
            message = 'What is read from Metakocka are partners.',
            detail = 'field: contact_ids',
            hint = 'Name them by metakocka_ids; metakocka_mappings has those of contacts.';
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

    -- what partners that are read lack is sent all the same
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
                  -- some are to be no partners
                  else coalesce(m.state not in ('synced', 'unlinked'), true)
              end
            order by c.id
        );
        perform private.mark_requested(account_id => chosen, contact_ids => marked);
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
    'Queues a run, marks its contacts and rings; returns the run''s id.';
comment on function public.request_sync(text, uuid, uuid[], text[]) is
    'Asks for a sync of some contacts or partners, or of all: returns the id of a run in sync_runs. For owners and admins; contacts of another account do not exist.';


/*
    Which contacts are which partners, for those who may read them.
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


comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'Which contacts are which partners, by page: {mappings, cursor}; of one contact, or of all that you see. The last page has no cursor.';
