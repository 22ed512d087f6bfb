/*
    A person or company that an account knows: the one record behind every face.
    Staff alone read it; a customer sees public.customers.
*/
create table public.contacts (
    id               uuid primary key default gen_random_uuid(),
    account_id       uuid not null
                     constraint contacts_account_id_fkey
                     references public.accounts on delete cascade,
    -- what staff call them; until then the name they gave themselves is shown
    name             text
                     constraint contacts_name_check check (length(name) <= 200),
    -- the WhatsApp profile's name and the provider's time of the message that brought it
    profile_name     text
                     constraint contacts_profile_name_check check (length(profile_name) <= 200),
    profile_named_at timestamptz,
    phone            text
                     constraint contacts_phone_check check (phone ~ '^\+[1-9][0-9]{1,14}$'),
    email            text
                     constraint contacts_email_check
                     check (email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 320),
    tags             text[] not null default '{}',
    notes            text,
    -- the login with which they enter the portal
    portal_user_id   uuid
                     constraint contacts_portal_user_id_fkey
                     references auth.users on delete set null,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    version          bigint not null default 1,

    -- what a foreign key of the same account refers to
    constraint contacts_id_account_id_key unique (id, account_id),
    constraint contacts_profile_name_time_check
        check ((profile_name is null) = (profile_named_at is null))
);
alter table public.contacts enable row level security;


create index contacts_account_id_idx on public.contacts (account_id);

-- one login is one customer of an account
create unique index contacts_portal_user_id_key
    on public.contacts (portal_user_id, account_id)
    where portal_user_id is not null;


create policy "members can read their contacts"
    on public.contacts
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.contacts to authenticated;


create trigger _050_keep_owner
    before update on public.contacts
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.contacts
    for each row
    execute function private.tg__stamp_change();


comment on table public.contacts is
    'A person or company that an account knows; read by staff. Customers see public.customers.';
comment on column public.contacts.name is
    'What staff call them; profile_name is shown where this is null.';
comment on column public.contacts.phone is
    'E.164, with the plus sign.';
comment on policy "members can read their contacts" on public.contacts is
    'Tags and notes are for staff.';


/*
    By what a contact is recognised. An identity is owned by one contact of an account:
    the primary key sees to it, whoever writes at the same time.

    A WhatsApp id is a phone number in Meta's spelling. Both are one row of kind 'phone', since
    two rows could be owned by two contacts; replies use wa_id, which keeps the exact spelling.
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
    kind       text not null
               constraint contact_identities_kind_check
               check (kind in ('phone', 'bsuid', 'username', 'email', 'metakocka')),
    match_key  text generated always as (private.match_key(kind, value)) stored,
    contact_id uuid not null,
    value      text not null
               constraint contact_identities_value_check
               check (value <> '' and length(value) <= 320),
    -- the spelling that WhatsApp uses, and to which replies go
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
    'One key for the spellings of one identity.';
comment on table public.contact_identities is
    'By what a contact is recognised: each identity has one owner in an account.';
comment on column public.contact_identities.match_key is
    'The same for all spellings of one identity.';
comment on column public.contact_identities.wa_id is
    'The exact WhatsApp id of a phone number, to which replies go.';
comment on policy "members can read their contacts' identities" on public.contact_identities is
    'Whoever may read a contact may read how it is recognised.';


/*
    A contact as the contact may see itself. Written by the trigger on contacts alone, in one
    direction: two-way triggers deadlocked (6 of 600 concurrent edits).
*/
create table public.customers (
    id             uuid primary key,
    account_id     uuid not null,
    portal_user_id uuid
                   constraint customers_portal_user_id_fkey
                   references auth.users on delete set null,
    name           text,
    phone          text,
    email          text,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    version        bigint not null default 1,

    constraint customers_contact_fkey
        foreign key (account_id, id)
        references public.contacts (account_id, id)
        on delete cascade
);
alter table public.customers enable row level security;
-- clients compare the old row with the new one
alter table public.customers replica identity full;


create index customers_contact_idx on public.customers (account_id, id);
create index customers_portal_user_id_idx on public.customers (portal_user_id);


create function private.my_customer_ids()
    returns setof uuid
    language sql
    stable
    -- definer, or the policy of customers would ask itself
    security definer
    set search_path = ''
as $$
    select c.id
    from public.customers c
    where c.portal_user_id = (select auth.uid())
$$;

grant execute on function private.my_customer_ids() to authenticated;


create policy "members and the customer can read a customer"
    on public.customers
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or id = any (array(select private.my_customer_ids()))
    );


grant select on public.customers to authenticated;


create trigger _050_keep_owner
    before update on public.customers
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.customers
    for each row
    execute function private.tg__stamp_change();


create function private.tg_contacts__project_customers()
    returns trigger
    language plpgsql
    -- definer: nobody else may write customers
    security definer
    set search_path = ''
as $$
begin
    insert into public.customers as c (id, account_id, portal_user_id, name, phone, email)
    select
        n.id,
        n.account_id,
        n.portal_user_id,
        coalesce(n.name, n.profile_name),
        n.phone,
        n.email
    from new_rows n
    order by n.id
    on conflict (id) do update
        set portal_user_id = excluded.portal_user_id,
            name = excluded.name,
            phone = excluded.phone,
            email = excluded.email
        where (c.portal_user_id, c.name, c.phone, c.email)
            is distinct from
            (excluded.portal_user_id, excluded.name, excluded.phone, excluded.email);
    return null;
end
$$;

create trigger _500_project_customers_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__project_customers();

create trigger _500_project_customers_update
    after update on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__project_customers();


comment on table public.customers is
    'A contact as the contact may see itself in the portal; id is the contact''s.';
comment on column public.customers.portal_user_id is
    'The login with which the customer enters the portal.';
comment on function private.my_customer_ids() is
    'The customers as whom the signed-in user enters portals.';
comment on function private.tg_contacts__project_customers() is
    'Keeps customers in step with contacts, in the same transaction.';
comment on policy "members and the customer can read a customer" on public.customers is
    'A customer never sees another customer.';
