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
