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
    user_id      uuid
                 constraint sync_errors_user_id_fkey
                 references auth.users on delete set null,
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


create policy "admins can read the sync errors of their accounts"
    on public.sync_errors
    for select
    to authenticated
    using (account_id = any (array(select private.my_admin_account_ids())));


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
comment on policy "admins can read the sync errors of their accounts" on public.sync_errors is
    'The error log is for people who can fix the errors.';
