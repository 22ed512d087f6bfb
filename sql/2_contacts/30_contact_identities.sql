/*
    The identities by which a contact is recognised. One contact of an account owns an identity:
    the primary key ensures that, also if two transactions write at the same time.

    A WhatsApp id is a phone number in Meta's spelling. Both are one row of kind 'phone', because
    two contacts could own two rows. Replies use wa_id, which keeps the exact spelling.
*/
create function private.match_key(kind text, value text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case
        when match_key.kind = 'phone' then
            -- one number in two spellings: Brazil's ninth digit, Mexico's 1, Argentina's 9
            regexp_replace(
                regexp_replace(
                    regexp_replace(
                        regexp_replace(match_key.value, '[^0-9]', '', 'g'),
                        '^(55[1-9][0-9])9([0-9]{8})$', '\1\2'),
                    '^521([0-9]{10})$', '52\1'),
                '^549([0-9]{10})$', '54\1')
        when match_key.kind in ('email', 'username') then
            lower(match_key.value)
        else
            match_key.value
    end;
end
$$;


create table public.contact_identities (
    account_id uuid not null,
    contact_id uuid not null,
    kind       text not null
               constraint contact_identities_kind_check
               check (kind in ('phone', 'bsuid', 'username', 'email', 'metakocka')),
    value      text not null
               constraint contact_identities_value_check
               check (value <> '' and length(value) <= 320),
    match_key  text generated always as (private.match_key(kind, value)) stored,
    -- WhatsApp's spelling, to which replies go
    wa_id      text
               constraint contact_identities_wa_id_check
               check (wa_id is null or (kind = 'phone' and wa_id ~ '^[0-9]{1,32}$')),
    created_at timestamptz not null default now(),

    constraint contact_identities_pkey primary key (account_id, kind, match_key),
    -- deferred: identities are claimed before their contacts are written (the lock order)
    constraint contact_identities_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
        deferrable initially deferred
);
alter table public.contact_identities enable row level security;


create index contact_identities_contact_idx
    on public.contact_identities (contact_id, account_id);


create policy "members can read their contacts' identities"
    on public.contact_identities
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.contact_identities to authenticated;


comment on function private.match_key(text, text) is
    'The key that all spellings of one identity share.';
comment on table public.contact_identities is
    'The identities by which contacts are recognised. Each identity has one owner in an account.';
comment on column public.contact_identities.account_id is
    'The account in which the identity has one owner.';
comment on column public.contact_identities.kind is
    'phone, bsuid (WhatsApp''s user id), username, email or metakocka (the partner''s id in the ERP).';
comment on column public.contact_identities.match_key is
    'The key that all spellings of one identity share.';
comment on column public.contact_identities.contact_id is
    'The contact that owns the identity.';
comment on column public.contact_identities.value is
    'The identity as it was written, such as +38640111222.';
comment on column public.contact_identities.wa_id is
    'The exact WhatsApp id of a phone number, to which replies go; null for other kinds, and before WhatsApp tells it.';
comment on column public.contact_identities.created_at is
    'When the identity was claimed (server time, UTC).';
comment on policy "members can read their contacts' identities" on public.contact_identities is
    'Members who may read a contact may read its identities.';
