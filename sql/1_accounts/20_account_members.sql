/*
    The people who work for an account, with their roles.
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
    -- the name that colleagues and customers see; no name comes from a payload
    display_name text not null
                 constraint account_members_display_name_check
                 check (display_name <> '' and length(display_name) <= 200),
    created_at   timestamptz not null default now(),

    primary key (account_id, user_id)
);
alter table public.account_members enable row level security;


-- Every policy of every statement reads this table. A hash index reads one page and the row; a
-- B-tree reads one page more. Half-filled pages keep each bucket on one page.
create index account_members_user_id_idx
    on public.account_members
    using hash (user_id)
    with (fillfactor = 40);


create function private.my_account_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    -- plpgsql keeps the plan, and every policy of every statement calls this
    language plpgsql
    stable
    -- definer: otherwise the policy of account_members would call itself
    security definer
    set search_path = ''
    -- the plan must not be the one for an empty table
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid());
end
$$;

grant execute on function private.my_account_ids(boolean) to authenticated;


create function private.my_writable_account_ids(is_counted boolean default private.check_plan())
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

grant execute on function private.my_writable_account_ids(boolean) to authenticated;


create function private.my_admin_account_ids(is_counted boolean default private.check_plan())
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

grant execute on function private.my_admin_account_ids(boolean) to authenticated;


create function private.my_owned_account_ids(is_counted boolean default private.check_plan())
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
      and m.role = 'owner'
$$;

grant execute on function private.my_owned_account_ids(boolean) to authenticated;


create function private.require_member(account_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;
end
$$;


create function private.require_writable(account_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not write for this account.',
            detail = 'field: account_id',
            hint = 'Its owners, admins and agents may.';
    end if;
end
$$;


-- A user who works for one account need not name it.
create function private.only_account_id(account_ids uuid[])
    returns uuid
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if cardinality(account_ids) > 1 then
        raise sqlstate 'PT422' using
            message = 'account_id is needed: you work for several accounts.',
            detail = 'field: account_id',
            hint = 'Give the id of one of your accounts.';
    end if;
    return account_ids[1];
end
$$;


create function private.only_writable_account_id()
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.only_account_id(array(select private.my_writable_account_ids()));
end
$$;


create function private.tg__default_account()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    new.account_id := private.only_writable_account_id();
    return new;
end
$$;


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

create policy "owners and admins can change their accounts"
    on public.accounts
    for update
    to authenticated
    using (id = any (array(select private.my_account_ids())))
    with check (id in (select private.my_admin_account_ids()));


comment on table public.account_members is
    'Who works for an account: owner, admin, agent or viewer.';
comment on column public.account_members.account_id is
    'The account for which the person works.';
comment on column public.account_members.user_id is
    'The person''s login (auth.users).';
comment on column public.account_members.role is
    'owner, admin, agent or viewer. Owners and admins also manage the account; viewers only read.';
comment on column public.account_members.display_name is
    'The name that colleagues and customers see.';
comment on column public.account_members.created_at is
    'When the person was added (server time, UTC).';
comment on function private.my_account_ids(boolean) is
    'The accounts for which the signed-in user works. No caller gives the argument: see check_plan.';
comment on function private.my_writable_account_ids(boolean) is
    'The accounts whose contacts and conversations the signed-in user may change, as owner, admin or agent.';
comment on function private.my_admin_account_ids(boolean) is
    'The accounts in which the signed-in user is owner or admin.';
comment on function private.require_member(uuid) is
    'Refuses a caller who does not work for an account (404).';
comment on function private.my_owned_account_ids(boolean) is
    'The accounts that the signed-in user owns.';
comment on function private.require_writable(uuid) is
    'Refuses a caller who may not write for an account: its contacts, its conversations and what follows them.';
comment on function private.only_account_id(uuid[]) is
    'The one account of these; null where there is none. Refuses (422) where there are several.';
comment on function private.only_writable_account_id() is
    'The account of a caller who may write in one account; null for none. Refuses (422) a caller who has to name one.';
comment on function private.tg__default_account() is
    'Gives a row without an account the only one in which its writer may write.';
comment on policy "members can read the members of their accounts" on public.account_members is
    'Colleagues see each other; customers and strangers see nobody.';
comment on policy "members can read their accounts" on public.accounts is
    'The people who work for an account see it.';
comment on policy "owners and admins can change their accounts" on public.accounts is
    'A member who may not change the account is refused, instead of changing no row.';
comment on constraint accounts_external_id_check on public.accounts is
    'An external_id has 1 to 64 letters, digits and hyphens.';
comment on constraint accounts_name_check on public.accounts is
    'An account''s name has 1 to 200 characters.';
comment on constraint accounts_country_check on public.accounts is
    'A country is two capital letters of ISO 3166-1.
Give a code such as SI.';
comment on constraint accounts_language_check on public.accounts is
    'There is no such language of an account.
Use en or sl.';
comment on constraint accounts_messages_kept_days_check on public.accounts is
    'Messages are kept for 30 to 36,500 days, or for ever.
Give a number of days, or null for ever.';
comment on constraint accounts_files_kept_days_check on public.accounts is
    'Files are kept for 30 to 36,500 days, or as long as their messages.
Give a number of days, or null for as long as their messages.';
comment on constraint accounts_quiet_until_check on public.accounts is
    'Quiet hours need two different times of day, or none.
Give quiet_from and quiet_until, such as 21:00 and 08:00, or null for both.';


select private.guard_table(
    'accounts',
    updated => array[
        'name', 'country', 'time_zone', 'language', 'assigns_in_turn', 'quiet_from', 'quiet_until',
        'messages_kept_days', 'files_kept_days'
    ]
);
