/*
    A business that uses Rapport: the tenant that every other row names.
*/
create table public.accounts (
    id          uuid primary key default gen_random_uuid(),
    -- the account part of older composite conversation keys, which are split at underscores
    external_id text not null default encode(extensions.gen_random_bytes(12), 'hex')
                constraint accounts_external_id_key unique
                constraint accounts_external_id_check check (external_id ~ '^[A-Za-z0-9-]{1,64}$'),
    name        text not null
                constraint accounts_name_check check (name <> '' and length(name) <= 200),
    created_at  timestamptz not null default now()
);
alter table public.accounts enable row level security;


grant select on public.accounts to authenticated;


comment on table public.accounts is
    'A business that uses Rapport: the tenant that every other row names.';
comment on column public.accounts.external_id is
    'The account part of older composite conversation keys; see resolve_conversation.';
