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
