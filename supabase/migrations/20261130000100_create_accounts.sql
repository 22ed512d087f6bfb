-- Made from sql/1_accounts/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


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


-- every policy of every statement looks here: by hash that is a page of the index and the row,
-- by tree one page more; half full, so that no bucket goes on on a second page
create index account_members_user_id_idx
    on public.account_members
    using hash (user_id)
    with (fillfactor = 40);


create function private.my_account_ids()
    returns setof uuid
    -- plpgsql keeps the plan, and every policy of every statement asks
    language plpgsql
    stable
    -- definer, or the policy of account_members would ask itself
    security definer
    set search_path = ''
    -- not by the plan that was best while the table was empty
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid());
end
$$;

grant execute on function private.my_account_ids() to authenticated;


create function private.my_writable_account_ids()
    returns setof uuid
    language plpgsql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid())
          and m.role in ('owner', 'admin', 'agent');
end
$$;

grant execute on function private.my_writable_account_ids() to authenticated;


create function private.my_admin_account_ids()
    returns setof uuid
    language sql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
as $$
    select m.account_id
    from public.account_members m
    where m.user_id = (select auth.uid())
      and m.role in ('owner', 'admin')
$$;

grant execute on function private.my_admin_account_ids() to authenticated;


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
comment on function private.my_writable_account_ids() is
    'The accounts whose contacts and conversations the signed-in user may change: viewers only look.';
comment on function private.my_admin_account_ids() is
    'The accounts that the signed-in user owns or administers: whose connections they may change.';
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
    -- Meta's id of the WhatsApp Business account, which owns the templates
    waba_id              text
                         constraint whatsapp_channels_waba_id_check
                         check (waba_id ~ '^[0-9]{1,32}$'),
    messages_per_second  integer not null default 80
                         constraint whatsapp_channels_messages_per_second_check
                         check (messages_per_second between 1 and 1000),
    -- nothing is sent from it until somebody has seen to this
    stopped_at           timestamptz,
    stopped_code         integer,
    stopped_reason       text,

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
comment on column public.whatsapp_channels.messages_per_second is
    'What WhatsApp lets this number send: 80, 1,000 after an upgrade, 20 beside the phone app.';
comment on column public.whatsapp_channels.stopped_at is
    'Since when nothing is sent, for stopped_reason; resume_channel goes on.';
comment on policy "members can read their WhatsApp numbers" on public.whatsapp_channels is
    'Customers have no need of the provider''s ids.';
