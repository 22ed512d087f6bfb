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
