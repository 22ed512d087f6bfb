/*
    Staff invite a contact to the portal. The answer holds the token once, to be sent to the contact
    in a link. The database keeps only its hash.

    Locks: the contact before its invitations. So inviting, claiming and unlinking of the same
    contact take turns.
*/
create function private.require_writable_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = require_writable_contact.contact_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = format('contact: %s', contact_id);
    end if;

    perform private.require_writable(account);
    return account;
end
$$;


create function private.lock_kept_contact(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.contact_of_id(
        account_id => lock_kept_contact.account_id,
        contact_id => lock_kept_contact.contact_id
    );
begin
    perform
    from public.contacts c
    where c.id = kept
      and c.account_id = lock_kept_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        -- Merged while this waited. Its lock is held, and the next contact's lock might be out of
        -- order.
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;
    return kept;
end
$$;


create function private.revoke_open_invitations(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    with recursive lineage as (
        -- an invitation of a merged contact leads to the kept contact
        select revoke_open_invitations.contact_id as id
        union
        select c.id
        from lineage l
        join public.contacts c
            on c.merged_into = l.id
    )
    update public.portal_invitations p
    set revoked_at = now()
    from lineage l
    where p.contact_id = l.id
      and p.account_id = revoke_open_invitations.account_id
      and p.claimed_at is null
      and p.revoked_at is null;
end
$$;


create function private.invite_to_portal(contact_id uuid, valid_for interval)
    returns jsonb
    language plpgsql
    -- definer: only this function writes invitations; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_writable_contact(contact_id);
    -- 32 random bytes as base64url
    token constant text :=
        translate(encode(extensions.gen_random_bytes(32), 'base64'), '+/=', '-_');
    invited uuid;
    invitation public.portal_invitations;
begin
    if valid_for is null
        or valid_for not between interval '5 minutes' and interval '30 days'
    then
        raise sqlstate 'PT422' using
            message = 'An invitation must be valid for 5 minutes to 30 days.',
            detail = 'field: valid_for',
            hint = 'Give a valid_for in between, such as 7 days.';
    end if;

    invited := private.lock_kept_contact(
        account_id => account, contact_id => invite_to_portal.contact_id);
    if exists (
        select
        from public.contacts c
        where c.id = invited
          and c.portal_user_id is not null
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact has a login to the portal already.',
            detail = format('contact: %s', invited),
            hint = 'To give it another login, call unlink_portal_login first.';
    end if;

    perform private.revoke_open_invitations(account_id => account, contact_id => invited);
    insert into public.portal_invitations (account_id, contact_id, created_by, expires_at)
    values (account, invited, auth.uid(), now() + valid_for)
    returning * into invitation;
    insert into private.portal_invitation_tokens (invitation_id, token_hash)
    values (invitation.id, private.token_hash(token));

    return jsonb_build_object(
        'invitation_id', invitation.id,
        'token', token,
        'expires_at', invitation.expires_at
    );
end
$$;

grant execute on function private.invite_to_portal(uuid, interval) to authenticated;


create function public.invite_to_portal(contact_id uuid, valid_for interval default interval '7 days')
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.invite_to_portal(
        contact_id => invite_to_portal.contact_id,
        valid_for => invite_to_portal.valid_for
    );
end
$$;

grant execute on function public.invite_to_portal(uuid, interval) to authenticated;


create function private.revoke_invitation(invitation_id uuid)
    returns void
    language plpgsql
    -- definer: as invite_to_portal
    security definer
    set search_path = ''
as $$
declare
    invitation public.portal_invitations;
begin
    select p.*
    into invitation
    from public.portal_invitations p
    where p.id = revoke_invitation.invitation_id
      and p.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such invitation, or it is not yours to see.',
            detail = format('invitation: %s', invitation_id);
    end if;
    perform private.require_writable(invitation.account_id);

    if invitation.claimed_at is not null then
        raise sqlstate 'PT409' using
            message = 'This invitation has been claimed already.',
            detail = format('contact: %s', invitation.contact_id),
            hint = 'To end the login''s access, call unlink_portal_login.';
    elsif invitation.revoked_at is null then
        update public.portal_invitations p
        set revoked_at = now()
        where p.id = invitation.id;
    end if;
end
$$;

grant execute on function private.revoke_invitation(uuid) to authenticated;


create function public.revoke_invitation(invitation_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.revoke_invitation(revoke_invitation.invitation_id);
end
$$;

grant execute on function public.revoke_invitation(uuid) to authenticated;


comment on function private.require_writable_contact(uuid) is
    'The account of a contact that the caller may write. Refuses other contacts.';
comment on function private.lock_kept_contact(uuid, uuid) is
    'Locks a contact, or the one that it was merged into, and returns its id.';
comment on function private.revoke_open_invitations(uuid, uuid) is
    'Ends the open invitations that lead to a contact. The caller holds the contact''s lock.';
comment on function private.invite_to_portal(uuid, interval) is
    'Makes an invitation and ends the open ones.';
comment on function private.revoke_invitation(uuid) is
    'Ends an invitation that nobody has claimed.';
comment on function public.invite_to_portal(uuid, interval) is
    'Invites a contact to the portal. The invitation is valid for 5 minutes to 30 days. Only this answer holds the token. The signed-in user who gives it to claim_portal_invitation becomes the contact''s login. Earlier invitations of the contact end. A contact that has a login is refused (409).'
    ' Type: {invitation_id: uuid, token: text, expires_at: timestamptz}';
comment on function public.revoke_invitation(uuid) is
    'Ends an invitation before it is claimed. One that has ended stays so. A claimed one is refused (409).';
