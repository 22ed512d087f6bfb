/*
    The customer's own profile, and invitations into the portal.
*/
/*
    An invitation of a contact to the portal: whoever claims it becomes the contact's login.
    What proves it is in private.portal_invitation_tokens, and there only hashed.
*/
create table public.portal_invitations (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null,
    contact_id uuid not null,
    created_by uuid
               constraint portal_invitations_created_by_fkey
               references auth.users on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    claimed_at timestamptz,
    claimed_by uuid
               constraint portal_invitations_claimed_by_fkey
               references auth.users on delete set null,
    revoked_at timestamptz,

    constraint portal_invitations_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint portal_invitations_expires_at_check check (expires_at > created_at),
    -- it ends in one way
    constraint portal_invitations_end_check check (claimed_at is null or revoked_at is null),
    -- a login that is deleted leaves the time of its claim
    constraint portal_invitations_claimed_by_check
        check (claimed_by is null or claimed_at is not null)
);
alter table public.portal_invitations enable row level security;


-- one link at a time opens a contact, whoever invites at the same moment
create unique index portal_invitations_open_key
    on public.portal_invitations (contact_id)
    where claimed_at is null and revoked_at is null;

create index portal_invitations_contact_idx
    on public.portal_invitations (contact_id, account_id);

create index portal_invitations_account_id_idx
    on public.portal_invitations (account_id, created_at desc);

create index portal_invitations_created_by_idx on public.portal_invitations (created_by);
create index portal_invitations_claimed_by_idx on public.portal_invitations (claimed_by);


create policy "members can read their contacts' portal invitations"
    on public.portal_invitations
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.portal_invitations to authenticated;


comment on table public.portal_invitations is
    'Invitations of contacts to the portal; open until claimed_at, revoked_at or expires_at. See invite_to_portal.';
comment on column public.portal_invitations.contact_id is
    'Who was invited; where it has been merged since, the kept contact gets the login.';
comment on column public.portal_invitations.created_by is
    'The member who invited.';
comment on column public.portal_invitations.claimed_by is
    'The login that claimed it; null once that is deleted.';
comment on policy "members can read their contacts' portal invitations" on public.portal_invitations is
    'Whoever may read the contacts; there is no secret here.';


/*
    What an invitation's link carries, hashed: a token has 256 random bits, so that a plain hash
    can't be guessed back, and looking one up by its hash compares no secret byte by byte.
*/
create table private.portal_invitation_tokens (
    invitation_id uuid primary key
                  constraint portal_invitation_tokens_invitation_id_fkey
                  references public.portal_invitations on delete cascade,
    token_hash    bytea not null
                  constraint portal_invitation_tokens_token_hash_key unique
                  constraint portal_invitation_tokens_token_hash_check
                  check (octet_length(token_hash) = 32)
);
alter table private.portal_invitation_tokens enable row level security;


create policy "nobody reads the tokens of invitations directly"
    on private.portal_invitation_tokens
    for all
    to authenticated
    using (false);


create function private.token_hash(token text)
    returns bytea
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return sha256(convert_to(token, 'UTF8'));
end
$$;


comment on table private.portal_invitation_tokens is
    'The SHA-256 of each invitation''s token; the token itself is kept nowhere.';
comment on policy "nobody reads the tokens of invitations directly" on private.portal_invitation_tokens is
    'claim_portal_invitation looks them up.';
comment on function private.token_hash(text) is
    'What is kept of a token.';


/*
    What a customer sees and edits of itself, the contact behind it being written as by staff.

    Nobody has proved what a customer writes: a phone number or an address written here is shown
    to staff, and makes the contact known by nothing. Else whoever wrote another's number would
    be sent that person's messages. Identities that are no longer written stay, since it is from
    them that the customer has really written.
*/
create function private.portal_account_name(account_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: a customer reads no account, and is told the name alone
    security definer
    set search_path = ''
as $$
begin
    return (
        select a.name
        from public.accounts a
        where a.id = portal_account_name.account_id
          and exists (
              select
              from public.customers c
              where c.account_id = a.id
                and c.portal_user_id = (select auth.uid())
          )
    );
end
$$;

grant execute on function private.portal_account_name(uuid) to authenticated;


create view public.my_profile
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    private.portal_account_name(c.account_id) as account_name,
    c.name,
    c.phone,
    c.email,
    c.preferences,
    c.updated_at,
    c.version
from public.customers c
where c.id = any (array(select private.my_customer_ids()));


grant select, update on public.my_profile to authenticated;


create function private.read_profile(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => array['name', 'phone', 'email', 'preferences']
    );
    if fields ? 'name' and btrim(coalesce(fields ->> 'name', ''), E' \t\r\n') = '' then
        raise sqlstate 'PT422' using
            message = 'A name is needed.',
            detail = 'field: name',
            hint = 'Write how you want to be called.';
    elsif fields ? 'preferences' and (
        jsonb_typeof(fields -> 'preferences') <> 'object'
        or octet_length((fields -> 'preferences')::text) > 8192
    ) then
        raise sqlstate 'PT422' using
            message = 'Preferences are an object of at most 8 KB.',
            detail = 'field: preferences',
            hint = 'Send all that shall hold, or {} for none.';
    end if;
    return private.clean_contact_fields(fields);
end
$$;


create function private.suggest_owners(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    owned record;
begin
    for owned in
        select o.kind, o.contact_id, f.value
        from jsonb_each_text(fields) f
        join public.contact_identities o
            on o.account_id = suggest_owners.account_id
           and o.kind = f.key
           and o.match_key = private.match_key(kind => f.key, value => f.value)
        where f.key in ('phone', 'email')
          and o.contact_id <> suggest_owners.contact_id
        order by o.contact_id, o.kind
    loop
        perform private.suggest_merge(
            account_id => suggest_owners.account_id,
            contact_ids => array[suggest_owners.contact_id, owned.contact_id],
            reason => 'same_' || owned.kind,
            evidence => jsonb_build_object(owned.kind, owned.value, 'written_in', 'portal')
        );
    end loop;
end
$$;


create function private.tg_my_profile__write()
    returns trigger
    language plpgsql
    -- definer: contacts are nobody's to write, and a customer's own is written here alone
    security definer
    set search_path = ''
as $$
declare
    hits constant integer := current_setting('rapport.hits')::integer + 1;
    written jsonb;
begin
    perform set_config('rapport.hits', hits::text, true);
    if hits > 1 then
        -- a forgotten filter would tell one business what was meant for another
        raise sqlstate 'PT422' using
            message = 'You are a customer of several businesses.',
            detail = 'field: id',
            hint = 'Say by its id which profile you write.';
    end if;

    select coalesce(jsonb_object_agg(n.key, n.value), '{}')
    into written
    from jsonb_each(to_jsonb(new)) n
    where n.value is distinct from to_jsonb(old) -> n.key;
    if written ? 'version' then
        raise sqlstate 'PT409' using
            message = 'Your profile has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    end if;
    written := private.read_profile(written);

    -- before the contact is locked: contacts are locked by id, and this touches two
    perform private.suggest_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);

    -- whoever is shut out at this moment writes no more
    perform
    from public.contacts c
    where c.id = old.id
      and c.portal_user_id = (select auth.uid())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This profile is not yours any more.';
    end if;
    perform private.change_contact(
        account_id => old.account_id,
        contact_id => old.id,
        fields => written,
        claim => false
    );

    select *
    into new
    from public.my_profile p
    where p.id = old.id;
    return new;
end
$$;


create trigger _100_expect_hits
    before update on public.my_profile
    for each statement
    execute function private.tg__expect_hits();

create trigger _500_write_profile
    instead of update on public.my_profile
    for each row
    execute function private.tg_my_profile__write();

create trigger _900_require_hits
    after update on public.my_profile
    for each statement
    execute function private.tg__require_hits();


comment on view public.my_profile is
    'Your own contact, one row for each business whose customer you are. Write name, phone, email and preferences, of one row at a time; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.my_profile.id is
    'The customer, as in public.customers.';
comment on column public.my_profile.account_name is
    'The business.';
comment on column public.my_profile.name is
    'How you are called; staff see it, and may write it too.';
comment on column public.my_profile.phone is
    'With country code and digits alone, such as +38640111222. WhatsApp messages are still known by the number that they come from.';
comment on column public.my_profile.preferences is
    'Your own choices, an object of at most 8 KB; what is written replaces all of it.';
comment on column public.my_profile.version is
    'Rises with each change of what you see of yourself.';
comment on function private.portal_account_name(uuid) is
    'The name of a business whose customer the signed-in user is; null of others.';
comment on function private.read_profile(jsonb) is
    'Fields of a profile as fields of a contact; refuses what a customer does not write.';
comment on function private.suggest_owners(uuid, uuid, jsonb) is
    'Notes for staff which other contacts are known by what a customer has written.';
comment on function private.tg_my_profile__write() is
    'Writes the contact of the signed-in customer.';


/*
    Staff invite a contact to the portal. The token goes out once, in the answer, to be sent to
    the contact in a link; here it is kept hashed.

    Locks: the contact before its invitations, so that inviting, claiming and unlinking the same
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
        -- merged while this waited; its lock is held, and the next one's might be out of order
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
        -- an invitation of a contact that was merged leads to the one that was kept
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
    -- definer: invitations are written here alone, by those who may
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
            message = 'An invitation is not valid for so long, or so short.',
            detail = 'field: valid_for',
            hint = 'Between 5 minutes and 30 days.';
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
            message = 'This contact has a login to the portal.',
            detail = format('contact: %s', invited),
            hint = 'To give it another, call unlink_portal_login first.';
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
            message = 'This invitation has been claimed.',
            detail = format('contact: %s', invitation.contact_id),
            hint = 'To shut the login out, call unlink_portal_login.';
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
    'The account of a contact that the caller may write; refuses others.';
comment on function private.lock_kept_contact(uuid, uuid) is
    'Locks a contact, or the one that it was merged into, and returns its id.';
comment on function private.revoke_open_invitations(uuid, uuid) is
    'Ends the open invitations that lead to a contact, whose lock the caller holds.';
comment on function private.invite_to_portal(uuid, interval) is
    'Makes an invitation in the place of those that are open.';
comment on function private.revoke_invitation(uuid) is
    'Ends an invitation that nobody has claimed.';
comment on function public.invite_to_portal(uuid, interval) is
    'Invites a contact to the portal, for 5 minutes to 30 days: {invitation_id, token, expires_at}. The token is told this once; whoever is signed in and gives it to claim_portal_invitation becomes the contact''s login. Earlier invitations of the contact end. One that has a login: 409.';
comment on function public.revoke_invitation(uuid) is
    'Ends an invitation before it is claimed; one that has ended stays so. Claimed: 409.';


/*
    A login becomes a contact's by claiming an invitation, and ceases to be by staff's word.

    Who holds no good token learns nothing: unknown, revoked and claimed ones are answered
    alike. Topics are renamed by the trigger on customers when a login goes.
*/
create function private.claim_portal_invitation(token text)
    returns jsonb
    language plpgsql
    -- definer: tokens are not readable, and contacts are nobody's to write
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
            message = 'An invitation is claimed by somebody who is signed in.',
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
                -- the contact has been deleted, which is not the caller's to know
                null;
        end;
    end if;
    if customer is not null then
        -- as it stands now that everybody else has to wait
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
                -- the answer was lost, and is asked for again
                or (invitation.claimed_by = caller and login = caller)
            );
    end if;

    if usable is not true then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer.',
            hint = 'Ask the business for a new one.';
    elsif invitation.claimed_at is null then
        if invitation.expires_at <= now() then
            raise sqlstate 'PT410' using
                message = 'This invitation has expired.',
                hint = 'Ask the business for a new one.';
        elsif login <> caller then
            raise sqlstate 'PT409' using
                message = 'This customer has a login already.',
                hint = 'Sign in with that one, or ask the business to unlink it.';
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
    -- contacts_portal_user_id_key, which sees claims at the same moment as well
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'You are another customer of this business.',
            hint = 'Sign in as somebody else, or ask the business to merge the two.';
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


create function private.unlink_portal_login(contact_id uuid)
    returns void
    language plpgsql
    -- definer: contacts are written here alone, by those who may
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
    -- nor does an earlier link lead back in
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


comment on function private.claim_portal_invitation(text) is
    'Makes the caller the login of whoever was invited.';
comment on function private.link_portal_login(uuid, uuid) is
    'Writes the login of a contact; refuses one who is another customer of the account.';
comment on function private.unlink_portal_login(uuid) is
    'Takes a contact''s login away.';
comment on function public.claim_portal_invitation(text) is
    'Makes you the customer who was invited: {account_id, customer_id}. Claiming again what you have claimed answers the same. Unknown, revoked or claimed by another: 404; expired: 410; where the customer has a login, or you are another customer of the business: 409.';
comment on function public.unlink_portal_login(uuid) is
    'Shuts a contact''s login out of the portal, at once and from its live topics; its open invitations end. A contact without a login stays so.';
