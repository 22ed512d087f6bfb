/*
    Owners see who is invited, give members another role or name, and remove them.
*/
create function private.open_member_invitations(account_id uuid)
    returns table (
        email        text,
        role         text,
        display_name text,
        invited_by   text,
        expires_at   timestamptz
    )
    language plpgsql
    -- definer: invitations are not readable; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.require_owner(account_id);
    return query
        select i.email, i.role, i.display_name, m.display_name, i.expires_at
        from private.member_invitations i
        join public.account_members m
            on m.account_id = i.account_id
           and m.user_id = i.invited_by
        where i.account_id = open_member_invitations.account_id
          and i.claimed_by is null
        order by i.email;
end
$$;

grant execute on function private.open_member_invitations(uuid) to authenticated;


create function public.open_member_invitations(account_id uuid)
    returns table (
        email        text,
        role         text,
        display_name text,
        invited_by   text,
        expires_at   timestamptz
    )
    language plpgsql
    set search_path = ''
as $$
begin
    return query
        select * from private.open_member_invitations(open_member_invitations.account_id);
end
$$;

grant execute on function public.open_member_invitations(uuid) to authenticated;


-- The member, locked. Refuses a caller who is no owner, and the end of the last owner.
create function private.managed_member(account_id uuid, user_id uuid, is_owner_after boolean)
    returns public.account_members
    language plpgsql
    set search_path = ''
as $$
declare
    member public.account_members;
begin
    perform private.require_member(account_id);
    -- as add_member: two changes at once must not leave the account without an owner
    perform
    from public.accounts a
    where a.id = managed_member.account_id
    for no key update;
    perform private.require_owner(account_id);

    select m.*
    into member
    from public.account_members m
    where m.account_id = managed_member.account_id
      and m.user_id = managed_member.user_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This person does not work for the account, or not any more.',
            detail = 'field: user_id',
            hint = 'Look at the members again.';
    elsif member.role = 'owner' and not is_owner_after and not exists (
        select
        from public.account_members m
        where m.account_id = managed_member.account_id
          and m.user_id <> managed_member.user_id
          and m.role = 'owner'
    ) then
        raise sqlstate 'PT409' using
            message = 'This is the only owner of the account.',
            detail = 'field: role',
            hint = 'Make somebody else an owner first.';
    end if;
    return member;
end
$$;


create function private.change_member(account_id uuid, user_id uuid, role text, display_name text)
    returns void
    language plpgsql
    -- definer: users may not write members; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    member public.account_members;
    shown constant text := nullif(btrim(display_name), '');
begin
    if role not in ('owner', 'admin', 'agent', 'viewer') then
        raise sqlstate 'PT422' using
            message = 'There is no such role.',
            detail = 'field: role',
            hint = 'Give owner, admin, agent or viewer.';
    elsif length(shown) > 200 then
        raise sqlstate 'PT422' using
            message = 'A name has 200 characters at most.',
            detail = 'field: display_name',
            hint = 'Give a shorter one.';
    end if;
    member := private.managed_member(
        account_id => change_member.account_id,
        user_id => change_member.user_id,
        is_owner_after => coalesce(change_member.role, 'owner') = 'owner'
    );
    update public.account_members m
    set role = coalesce(change_member.role, m.role),
        display_name = coalesce(shown, m.display_name)
    where m.account_id = member.account_id
      and m.user_id = member.user_id;
end
$$;

grant execute on function private.change_member(uuid, uuid, text, text) to authenticated;


create function public.change_member(
    account_id uuid,
    user_id uuid,
    role text default null,
    display_name text default null
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.change_member(
        account_id => change_member.account_id,
        user_id => change_member.user_id,
        role => change_member.role,
        display_name => change_member.display_name
    );
end
$$;

grant execute on function public.change_member(uuid, uuid, text, text) to authenticated;


create function private.remove_member(account_id uuid, user_id uuid)
    returns void
    language plpgsql
    -- definer: as change_member
    security definer
    set search_path = ''
as $$
declare
    member constant public.account_members := private.managed_member(
        account_id => remove_member.account_id,
        user_id => remove_member.user_id,
        is_owner_after => false
    );
begin
    delete from public.account_members m
    where m.account_id = member.account_id
      and m.user_id = member.user_id;
end
$$;

grant execute on function private.remove_member(uuid, uuid) to authenticated;


create function public.remove_member(account_id uuid, user_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.remove_member(
        account_id => remove_member.account_id, user_id => remove_member.user_id);
end
$$;

grant execute on function public.remove_member(uuid, uuid) to authenticated;


comment on function private.open_member_invitations(uuid) is
    'The invitations of an account that nobody has claimed.';
comment on function public.open_member_invitations(uuid) is
    'The invitations to work for an account that nobody has claimed, also those that have expired: the address, the role and the name that it gives, who invites, and until when it is valid (UTC). For the account''s owners.'
    ' Type: {email: text, role: account_members.role, display_name: text, invited_by: text, expires_at: timestamptz}[]';
comment on function private.managed_member(uuid, uuid, boolean) is
    'A member whom the caller, an owner, is about to change or remove. Refuses to end the last owner.';
comment on function private.change_member(uuid, uuid, text, text) is
    'Gives a member another role or name.';
comment on function public.change_member(uuid, uuid, text, text) is
    'Gives a member of an account another role (owner, admin, agent or viewer) or name; what is left out stays. For the account''s owners. Refused: a person who does not work for it (404), and another role for the only owner (409).';
comment on function private.remove_member(uuid, uuid) is
    'Ends a member''s work for an account.';
comment on function public.remove_member(uuid, uuid) is
    'Removes a member from an account: the person sees nothing of it from then on, and conversations that the person has are free. For the account''s owners. Refused: a person who does not work for it (404), and the only owner (409).';
