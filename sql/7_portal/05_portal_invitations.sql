/*
    An invitation of a contact to the portal. The login that claims it becomes the contact's login.
    The token that proves it is in private.portal_invitation_tokens, and only as a hash.
*/
create table public.portal_invitations (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null,
    contact_id uuid not null,
    created_by uuid
               constraint portal_invitations_created_by_fkey
               references auth.users on delete set null,
    claimed_by uuid
               constraint portal_invitations_claimed_by_fkey
               references auth.users on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    claimed_at timestamptz,
    revoked_at timestamptz,

    constraint portal_invitations_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint portal_invitations_expires_at_check check (expires_at > created_at),
    -- An invitation ends in one way only.
    constraint portal_invitations_end_check check (claimed_at is null or revoked_at is null),
    -- Deleting a login keeps the time of its claim.
    constraint portal_invitations_claimed_by_check
        check (claimed_by is null or claimed_at is not null)
);
alter table public.portal_invitations enable row level security;


-- A contact has one open invitation, even if two people invite at the same moment.
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
    'Invitations of contacts to the portal. One is open until claimed_at, revoked_at or expires_at. invite_to_portal makes them.';
comment on column public.portal_invitations.id is
    'Identifies the invitation; revoke_invitation takes it.';
comment on column public.portal_invitations.account_id is
    'The account of the contact.';
comment on column public.portal_invitations.contact_id is
    'The invited contact. If it has been merged since, the kept contact gets the login.';
comment on column public.portal_invitations.created_by is
    'The member who invited; null once that login is deleted.';
comment on column public.portal_invitations.claimed_by is
    'The login that claimed it; null until then, and once that login is deleted.';
comment on column public.portal_invitations.created_at is
    'When it was made (server time, UTC).';
comment on column public.portal_invitations.expires_at is
    'Until when it can be claimed (UTC).';
comment on column public.portal_invitations.claimed_at is
    'When it was claimed (UTC); null until then.';
comment on column public.portal_invitations.revoked_at is
    'When it was revoked (UTC); null until then. A later invitation of the contact revokes it too.';
comment on policy "members can read their contacts' portal invitations" on public.portal_invitations is
    'For everybody who may read the contacts; there is no secret here.';


/*
    The hashed token of an invitation's link. A token has 256 random bits, so nobody can guess it
    from a plain hash. Looking a token up by its hash compares no secret byte by byte.
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
    'The SHA-256 of each invitation''s token. The token itself is stored nowhere.';
comment on policy "nobody reads the tokens of invitations directly" on private.portal_invitation_tokens is
    'claim_portal_invitation looks tokens up.';
comment on function private.token_hash(text) is
    'The stored form of a token: its SHA-256.';
