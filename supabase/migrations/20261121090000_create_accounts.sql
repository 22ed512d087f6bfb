/*
    Three schemas: public is what clients see, backend is what functions call, private is
    how it works. Nothing is granted by default; each grant stands beneath its object.
*/
create schema backend;

grant usage on schema backend to service_role;

comment on schema backend is
    'RPCs for the deployed functions; exposed to PostgREST, usable by service_role alone.';


create schema private;

-- policies run as the user who asks, and they call helpers that live here
grant usage on schema private to authenticated;

comment on schema private is
    'Helpers, change log, raw webhook inbox and ledgers; never exposed.';


-- What a new project still hands to clients on every new object, taken back.
alter default privileges for role postgres in schema public
    revoke all on tables from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on sequences from anon, authenticated, service_role;

alter default privileges for role postgres in schema public
    revoke all on functions from anon, authenticated, service_role;

-- Functions are born executable by everybody, in every schema, unless this is said globally.
alter default privileges for role postgres
    revoke execute on functions from public;


/*
    What every followed row has in common: a version that rises by one with each change, the
    server's time of that change, and an owner that it keeps.
*/
create function private.tg__stamp_change()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update that changes nothing is no change: no version, no log entry, no event
    if new is distinct from old then
        new.version := old.version + 1;
        new.updated_at := now();
    end if;
    return new;
end
$$;

create function private.tg__keep_owner()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise check_violation using
        message = format('A row of %s stays with its owner.', tg_table_name),
        detail = format('columns: %s', array_to_string(tg_argv, ', '));
end
$$;


comment on function private.tg__keep_owner() is
    'Refuses an update of the columns that say whose a row is; the trigger''s condition tells when.';
comment on function private.tg__stamp_change() is
    'Raises version and updated_at of a row that really changes.';


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


/*
    Who works for an account, and as what.
*/
create table public.account_members (
    account_id   uuid not null
                 constraint account_members_account_id_fkey
                 references public.accounts on delete cascade,
    user_id      uuid not null
                 constraint account_members_user_id_fkey
                 references auth.users on delete cascade,
    role         text not null
                 constraint account_members_role_check
                 check (role in ('owner', 'admin', 'agent', 'viewer')),
    -- what colleagues and customers are shown, so that no name is taken from a payload
    display_name text not null
                 constraint account_members_display_name_check
                 check (display_name <> '' and length(display_name) <= 200),
    created_at   timestamptz not null default now(),

    primary key (account_id, user_id)
);
alter table public.account_members enable row level security;


create index account_members_user_id_idx on public.account_members (user_id);


create function private.my_account_ids()
    returns setof uuid
    language sql
    stable
    -- definer, or the policy of account_members would ask itself
    security definer
    set search_path = ''
as $$
    select m.account_id
    from public.account_members m
    where m.user_id = (select auth.uid())
$$;

grant execute on function private.my_account_ids() to authenticated;


create policy "members can read the members of their accounts"
    on public.account_members
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.account_members to authenticated;


create policy "members can read their accounts"
    on public.accounts
    for select
    to authenticated
    using (id = any (array(select private.my_account_ids())));


comment on table public.account_members is
    'Who works for an account: owner, admin, agent or viewer.';
comment on function private.my_account_ids() is
    'The accounts that the signed-in user works for.';
comment on policy "members can read the members of their accounts" on public.account_members is
    'Colleagues see each other; customers and strangers see nobody.';
comment on policy "members can read their accounts" on public.accounts is
    'An account is visible to those who work for it.';


/*
    A WhatsApp number of an account. Its phone_number_id alone decides whose a webhook is.
*/
create table public.whatsapp_channels (
    id                   uuid primary key default gen_random_uuid(),
    account_id           uuid not null
                         constraint whatsapp_channels_account_id_fkey
                         references public.accounts on delete cascade,
    -- Meta's id of the number: of one account only, or a message could go to another's
    phone_number_id      text not null
                         constraint whatsapp_channels_phone_number_id_key unique
                         constraint whatsapp_channels_phone_number_id_check
                         check (phone_number_id ~ '^[0-9]{1,32}$'),
    display_phone_number text not null,
    name                 text not null,
    created_at           timestamptz not null default now(),

    -- what a foreign key of the same account refers to
    constraint whatsapp_channels_id_account_id_key unique (id, account_id)
);
alter table public.whatsapp_channels enable row level security;


create index whatsapp_channels_account_id_idx on public.whatsapp_channels (account_id);


create policy "members can read their WhatsApp numbers"
    on public.whatsapp_channels
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.whatsapp_channels to authenticated;


comment on table public.whatsapp_channels is
    'A WhatsApp number of an account, by Meta''s phone_number_id.';
comment on column public.whatsapp_channels.display_phone_number is
    'The number as people write it.';
comment on policy "members can read their WhatsApp numbers" on public.whatsapp_channels is
    'Customers have no need of the provider''s ids.';
