/*
    A login becomes a contact's by claiming an invitation. Staff can unlink it.

    A caller without a valid token learns nothing: unknown, revoked and claimed tokens get the same
    answer. When a login goes, the trigger on customers renames the topics.
*/
create function private.claim_portal_invitation(token text)
    returns jsonb
    language plpgsql
    -- definer: tokens are not readable, and users may not write contacts
    security definer
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
    invitation public.portal_invitations;
    customer uuid;
    login uuid;
    usable boolean;
begin
    if caller is null then
        raise insufficient_privilege using
            message = 'You must sign in to claim an invitation.',
            hint = 'Sign up or sign in first.';
    end if;

    select p.*
    into invitation
    from private.portal_invitation_tokens t
    join public.portal_invitations p
        on p.id = t.invitation_id
    where t.token_hash = private.token_hash(token);
    if found then
        begin
            customer := private.lock_kept_contact(
                account_id => invitation.account_id, contact_id => invitation.contact_id);
        exception
            when sqlstate 'PT404' then
                -- the contact has been deleted; the caller may not learn that
                null;
        end;
    end if;
    if customer is not null then
        -- its present state, now that all others have to wait
        select p.*
        into invitation
        from public.portal_invitations p
        where p.id = invitation.id
        for no key update;

        select c.portal_user_id
        into login
        from public.contacts c
        where c.id = customer;

        usable := invitation.revoked_at is null
            and (
                invitation.claimed_at is null
                -- the answer was lost, and the same caller asks again
                or (invitation.claimed_by = caller and login = caller)
            );
    end if;

    if usable is not true then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask the business for a new one.';
    elsif invitation.claimed_at is null then
        if invitation.expires_at <= now() then
            raise sqlstate 'PT410' using
                message = 'This invitation has expired.',
                detail = 'field: token',
                hint = 'Ask the business for a new one.';
        elsif login <> caller then
            raise sqlstate 'PT409' using
                message = 'This customer already has a login.',
                detail = 'field: token',
                hint = 'Sign in with that login, or ask the business to unlink it.';
        elsif login is null then
            perform private.link_portal_login(contact_id => customer, user_id => caller);
        end if;

        update public.portal_invitations p
        set claimed_at = now(),
            claimed_by = caller
        where p.id = invitation.id;
        perform private.revoke_open_invitations(
            account_id => invitation.account_id, contact_id => customer);
    end if;

    return jsonb_build_object('account_id', invitation.account_id, 'customer_id', customer);
end
$$;

grant execute on function private.claim_portal_invitation(text) to authenticated;


create function private.link_portal_login(contact_id uuid, user_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.contacts c
    set portal_user_id = link_portal_login.user_id
    where c.id = link_portal_login.contact_id;
exception
    -- contacts_portal_user_id_key, which also sees claims at the same moment
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'You are another customer of this business already.',
            hint = 'Sign in with another login, or ask the business to merge the two customers.';
end
$$;


create function public.claim_portal_invitation(token text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.claim_portal_invitation(claim_portal_invitation.token);
end
$$;

grant execute on function public.claim_portal_invitation(text) to authenticated;


create function private.portal_invitation(token text)
    returns jsonb
    language plpgsql
    stable
    -- definer: tokens are not readable, and who has a link has no login yet
    security definer
    set search_path = ''
as $$
declare
    invitation public.portal_invitations;
    invited uuid;
begin
    select p.*
    into invitation
    from private.portal_invitation_tokens t
    join public.portal_invitations p
        on p.id = t.invitation_id
    where t.token_hash = private.token_hash(token)
      and p.claimed_at is null
      and p.revoked_at is null
      and p.expires_at > now();
    if found then
        begin
            invited := private.contact_of_id(
                account_id => invitation.account_id, contact_id => invitation.contact_id);
        exception
            when sqlstate 'PT404' then
                -- the contact has been deleted; the caller may not learn that
                null;
        end;
    end if;
    if invited is null then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask the business for a new one.';
    end if;
    return (
        select jsonb_build_object(
            'account_name', a.name,
            'email', c.email,
            'expires_at', invitation.expires_at
        )
        from public.contacts c
        join public.accounts a
            on a.id = c.account_id
        where c.id = invited
    );
end
$$;

grant execute on function private.portal_invitation(text) to anon, authenticated;


create function public.portal_invitation(token text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.portal_invitation(portal_invitation.token);
end
$$;

grant execute on function public.portal_invitation(text) to anon, authenticated;


create function private.unlink_portal_login(contact_id uuid)
    returns void
    language plpgsql
    -- definer: only this function writes these contacts; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_writable_contact(contact_id);
    customer constant uuid := private.lock_kept_contact(
        account_id => account, contact_id => unlink_portal_login.contact_id);
begin
    if exists (
        select
        from public.contacts c
        where c.id = customer
          and c.portal_user_id is not null
    ) then
        update public.contacts c
        set portal_user_id = null
        where c.id = customer;
    end if;
    -- an earlier link must not lead back in
    perform private.revoke_open_invitations(account_id => account, contact_id => customer);
end
$$;

grant execute on function private.unlink_portal_login(uuid) to authenticated;


create function public.unlink_portal_login(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.unlink_portal_login(unlink_portal_login.contact_id);
end
$$;

grant execute on function public.unlink_portal_login(uuid) to authenticated;


comment on function private.portal_invitation(text) is
    'What the holder of an invitation''s token may see before signing in.';
comment on function public.portal_invitation(text) is
    'What an open invitation is about: the business that invites, and the contact''s email address, to which a link to sign in can be sent. Nobody has to be signed in: the token, which nobody can guess, would show the same once it is claimed. One that is unknown, claimed, revoked or expired is refused (404).'
    ' Type: {account_name: text, email: text | null, expires_at: timestamptz}';
comment on function private.claim_portal_invitation(text) is
    'Makes the caller the login of the invited contact.';
comment on function private.link_portal_login(uuid, uuid) is
    'Writes the login of a contact. Refuses a login that is another customer of the account.';
comment on function private.unlink_portal_login(uuid) is
    'Removes a contact''s login.';
comment on function public.claim_portal_invitation(text) is
    'Makes you the customer who was invited. Claiming it again gives the same answer. Refused: an invitation that is unknown, revoked or claimed by another login (404); one that has expired (410); a customer who has a login, or a caller who is another customer of the business (409).'
    ' Type: {account_id: uuid, customer_id: uuid}';
comment on function public.unlink_portal_login(uuid) is
    'Ends the access of a contact''s login to the portal and its live topics, at once. Open invitations of the contact end too. A contact without a login stays as it is.';
