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
    user_id              uuid default auth.uid()
                         constraint metakocka_connections_user_id_fkey
                         references auth.users on delete set null,
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


create policy "nobody reads the companies directly"
    on private.metakocka_companies
    for all
    to authenticated
    using (false);


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
comment on policy "admins can read their connection to Metakocka" on public.metakocka_connections is
    'The connection is for owners and admins.';
comment on policy "admins can connect their accounts to Metakocka" on public.metakocka_connections is
    'An account has one connection.';
comment on policy "admins can change their connection to Metakocka" on public.metakocka_connections is
    'But not documents_seen_until, which only the sync knows.';
comment on policy "admins can end their connection to Metakocka" on public.metakocka_connections is
    'Mappings stay, so that a new connection makes no duplicates.';
comment on table private.metakocka_companies is
    'The company whose partners are the account''s contacts. It belongs to this account only.';
comment on policy "nobody reads the companies directly" on private.metakocka_companies is
    'metakocka_connections shows the present connection.';
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
