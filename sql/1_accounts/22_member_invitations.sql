/*
    Owners invite people to work for an account. The invited person claims the invitation, signed in
    with the address that it is for. So nobody works for an account without an act of their own, and
    an owner does not learn which addresses have a login here.

    backend.add_member does it in one step, for the people who run the deployment.
*/
create table private.member_invitations (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint member_invitations_account_id_fkey
                 references public.accounts on delete cascade,
    -- in lower case
    email        text not null,
    role         text not null
                 constraint member_invitations_role_check
                 check (role in ('owner', 'admin', 'agent', 'viewer')),
    display_name text not null
                 constraint member_invitations_display_name_check
                 check (display_name <> '' and length(display_name) <= 200),
    -- the token has 256 random bits, so nobody can guess it from a plain hash
    token_hash   bytea not null
                 constraint member_invitations_token_hash_key unique,
    -- the owner who invites; with the member go the invitations
    invited_by   uuid not null,
    -- the login that claimed it; null until then
    claimed_by   uuid,
    expires_at   timestamptz not null,

    -- a later invitation of the same address takes the place of the earlier one
    constraint member_invitations_email_key unique (account_id, email),
    constraint member_invitations_invited_by_fkey
        foreign key (account_id, invited_by)
        references public.account_members
        on delete cascade
);
alter table private.member_invitations enable row level security;


create index member_invitations_invited_by_idx
    on private.member_invitations (account_id, invited_by);


create policy "nobody reads invitations of members directly"
    on private.member_invitations
    for all
    to authenticated
    using (false);


create function private.require_member_words(email text, role text)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if (email ~ '^[^[:space:]@]+@[^[:space:]@]+\.[^[:space:]@]+$' and length(email) <= 255) is not true then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Give one such as olivia@alpine.example.';
    elsif (role in ('owner', 'admin', 'agent', 'viewer')) is not true then
        raise sqlstate 'PT422' using
            message = 'There is no such role.',
            detail = 'field: role',
            hint = 'Give owner, admin, agent or viewer.';
    end if;
end
$$;


create function private.name_of_email(email text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return initcap(translate(split_part(email, '@', 1), '._-+', '    '));
end
$$;


create function private.require_owner(account_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.require_member(account_id);
    -- the lock: who loses the role at this moment has it until the invitation is there to be ended
    perform
    from public.account_members m
    where m.account_id = require_owner.account_id
      and m.user_id = auth.uid()
      and m.role = 'owner'
    for share;
    if not found then
        raise insufficient_privilege using
            message = 'You may not decide who works for this account.',
            detail = 'field: account_id',
            hint = 'Its owners may.';
    end if;
end
$$;


create function private.invite_member(
    account_id uuid,
    email text,
    role text,
    display_name text,
    valid_for interval
)
    returns jsonb
    language plpgsql
    -- definer: only this function writes invitations; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    -- 32 random bytes as base64url
    token constant text :=
        translate(encode(extensions.gen_random_bytes(32), 'base64'), '+/=', '-_');
    expires_at constant timestamptz := now() + valid_for;
begin
    perform private.require_owner(account_id);
    perform private.require_member_words(email => btrim(email), role => role);
    if (valid_for between interval '5 minutes' and interval '30 days') is not true then
        raise sqlstate 'PT422' using
            message = 'An invitation must be valid for 5 minutes to 30 days.',
            detail = 'field: valid_for',
            hint = 'Give a valid_for in between, such as 7 days.';
    elsif length(display_name) > 200 then
        raise sqlstate 'PT422' using
            message = 'A name has 200 characters at most.',
            detail = 'field: display_name',
            hint = 'Give a shorter one, or none.';
    end if;

    -- addresses of people who did not come
    delete from private.member_invitations i
    where i.account_id = invite_member.account_id
      and i.expires_at < now() - interval '30 days';
    insert into private.member_invitations as i (
        account_id, email, role, display_name, token_hash, invited_by, expires_at
    )
    values (
        invite_member.account_id,
        lower(btrim(invite_member.email)),
        invite_member.role,
        coalesce(nullif(btrim(invite_member.display_name), ''), private.name_of_email(btrim(invite_member.email))),
        sha256(convert_to(token, 'UTF8')),
        auth.uid(),
        expires_at
    )
    on conflict on constraint member_invitations_email_key do update
        set role = excluded.role,
            display_name = excluded.display_name,
            token_hash = excluded.token_hash,
            invited_by = excluded.invited_by,
            expires_at = excluded.expires_at,
            claimed_by = null;
    return jsonb_build_object('token', token, 'expires_at', expires_at);
end
$$;

grant execute on function private.invite_member(uuid, text, text, text, interval) to authenticated;


create function public.invite_member(
    account_id uuid,
    email text,
    role text,
    display_name text default null,
    valid_for interval default '7 days'
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.invite_member(
        account_id => invite_member.account_id,
        email => invite_member.email,
        role => invite_member.role,
        display_name => invite_member.display_name,
        valid_for => invite_member.valid_for
    );
end
$$;

grant execute on function public.invite_member(uuid, text, text, text, interval) to authenticated;


create function private.revoke_member_invitation(account_id uuid, email text)
    returns void
    language plpgsql
    -- definer: as invite_member
    security definer
    set search_path = ''
as $$
begin
    perform private.require_owner(account_id);
    delete from private.member_invitations i
    where i.account_id = revoke_member_invitation.account_id
      and i.email = lower(btrim(revoke_member_invitation.email))
      and i.claimed_by is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'No invitation of this address is open.',
            detail = 'field: email',
            hint = 'Give the address that was invited. Who has claimed an invitation is a member.';
    end if;
end
$$;

grant execute on function private.revoke_member_invitation(uuid, text) to authenticated;


create function public.revoke_member_invitation(account_id uuid, email text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.revoke_member_invitation(
        account_id => revoke_member_invitation.account_id,
        email => revoke_member_invitation.email
    );
end
$$;

grant execute on function public.revoke_member_invitation(uuid, text) to authenticated;


-- Who is removed takes the invitations along by the foreign key; this is for who stays as less.
create function private.tg__end_member_invitations()
    returns trigger
    language plpgsql
    -- definer: users may not write invitations
    security definer
    set search_path = ''
as $$
begin
    delete from private.member_invitations i
    where i.account_id = new.account_id
      and i.invited_by = new.user_id
      and i.claimed_by is null;
    return null;
end
$$;

create trigger _300_end_member_invitations
    after update of role on public.account_members
    for each row
    when (old.role = 'owner' and new.role <> 'owner')
    execute function private.tg__end_member_invitations();


create function private.claim_member_invitation(token text)
    returns jsonb
    language plpgsql
    -- definer: tokens are not readable, and users may not write members
    security definer
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
    invitation private.member_invitations;
    present_role text;
begin
    if caller is null then
        raise insufficient_privilege using
            message = 'You must sign in to claim an invitation.',
            hint = 'Sign up or sign in first.';
    end if;
    select i.*
    into invitation
    from private.member_invitations i
    where i.token_hash = sha256(convert_to(claim_member_invitation.token, 'UTF8'))
    for no key update;
    if invitation.claimed_by = caller then
        -- the answer was lost, and the same caller asks again; a member who has left is none
        select m.role
        into present_role
        from public.account_members m
        where m.account_id = invitation.account_id
          and m.user_id = caller;
    end if;
    if invitation.id is null or (invitation.claimed_by is not null and present_role is null) then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask an owner of the account for a new one.';
    elsif invitation.claimed_by is null then
        if invitation.expires_at <= now() then
            raise sqlstate 'PT410' using
                message = 'This invitation has expired.',
                detail = 'field: token',
                hint = 'Ask an owner of the account for a new one.';
        elsif not exists (
            select
            from auth.users u
            where u.id = caller
              and lower(u.email) = invitation.email
              and u.email_confirmed_at is not null
        ) then
            raise sqlstate 'PT409' using
                message = 'This invitation is for another email address.',
                detail = 'field: invitation',
                hint = 'Sign in with the address that was invited.';
        end if;

        insert into public.account_members (account_id, user_id, role, display_name)
        values (invitation.account_id, caller, invitation.role, invitation.display_name)
        on conflict do nothing;
        update private.member_invitations i
        set claimed_by = caller
        where i.id = invitation.id;
        select m.role
        into present_role
        from public.account_members m
        where m.account_id = invitation.account_id
          and m.user_id = caller;
    end if;
    return jsonb_build_object('account_id', invitation.account_id, 'role', present_role);
end
$$;

grant execute on function private.claim_member_invitation(text) to authenticated;


create function public.claim_member_invitation(token text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.claim_member_invitation(claim_member_invitation.token);
end
$$;

grant execute on function public.claim_member_invitation(text) to authenticated;


comment on table private.member_invitations is
    'Invitations to work for an account. Of each token only the SHA-256 is stored.';
comment on policy "nobody reads invitations of members directly" on private.member_invitations is
    'claim_member_invitation looks tokens up.';
comment on function private.require_member_words(text, text) is
    'Refuses what is no email address, and what is no role (422).';
comment on function private.name_of_email(text) is
    'A name for a person of whom only the address is known.';
comment on column private.member_invitations.invited_by is
    'The owner who invites. Open invitations end when this person is removed or is no longer an owner.';
comment on function private.require_owner(uuid) is
    'Refuses a caller who does not own an account, and keeps the role until the transaction ends.';
comment on function private.revoke_member_invitation(uuid, text) is
    'Ends an open invitation, of any owner.';
comment on function private.tg__end_member_invitations() is
    'Ends the open invitations of an owner who becomes less.';
comment on function public.revoke_member_invitation(uuid, text) is
    'Ends the open invitation of an email address to work for an account. For its owners. An address without an open invitation: 404.';
comment on function private.invite_member(uuid, text, text, text, interval) is
    'Makes an invitation in place of an earlier one of the same address.';
comment on function private.claim_member_invitation(text) is
    'Makes the caller a member of the account.';
comment on function public.invite_member(uuid, text, text, text, interval) is
    'Invites a person, by email address, to work for an account as owner, admin, agent or viewer. For its owners. Only this answer holds the token. The person who gives it to claim_member_invitation, signed in with that address, becomes a member. An earlier invitation of the same address ends. It ends also when the inviting owner is removed or is no longer an owner, and by revoke_member_invitation.'
    ' Type: {token: text, expires_at: timestamptz}';
comment on function public.claim_member_invitation(text) is
    'Makes you a member of the account that invited your email address. Claiming it again gives the same answer, and if you were a member before, your role stays. Refused: an invitation that is unknown or claimed (404), one that has expired (410), and one for another address, or for yours before it is confirmed (409).'
    ' Type: {account_id: uuid, role: account_members.role}';
