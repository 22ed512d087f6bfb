/*
    A contact, as its customer may see it. Only the trigger on contacts writes it, in one
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
    preferences    jsonb not null default '{}',
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


create function private.my_customer_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    language plpgsql
    stable
    -- definer: otherwise the policy of customers would call itself
    security definer
    set search_path = ''
    -- the plan must not be the one for an empty table
    set enable_seqscan = off
as $$
begin
    return query
        select c.id
        from public.customers c
        where c.portal_user_id = (select auth.uid());
end
$$;

grant execute on function private.my_customer_ids(boolean) to authenticated;


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
    before update of account_id on public.customers
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
    -- definer: only this function writes customers
    security definer
    set search_path = ''
as $$
begin
    insert into public.customers as c (
        id, account_id, portal_user_id, name, phone, email, preferences, created_at, version
    )
    select
        n.id,
        n.account_id,
        n.portal_user_id,
        coalesce(n.name, n.profile_name),
        n.phone,
        n.email,
        n.preferences,
        n.created_at,
        -- 1, or for a customer who was deleted and comes back, higher than any earlier version
        n.version
    from new_rows n
    where n.deleted_at is null
    order by n.id
    on conflict (id) do update
        set portal_user_id = excluded.portal_user_id,
            name = excluded.name,
            phone = excluded.phone,
            email = excluded.email,
            preferences = excluded.preferences
        where (c.portal_user_id, c.name, c.phone, c.email, c.preferences)
            is distinct from (
                excluded.portal_user_id,
                excluded.name,
                excluded.phone,
                excluded.email,
                excluded.preferences
            );

    -- a delete that finds no row would still run the table's triggers
    if exists (select from new_rows n where n.deleted_at is not null) then
        delete from public.customers c
        using new_rows n
        where c.id = n.id
          and n.deleted_at is not null;
    end if;
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
    'A contact, as its customer sees it in the portal. The id is the contact''s.';
comment on column public.customers.id is
    'Identifies the customer; contacts.id is the same.';
comment on column public.customers.account_id is
    'The account whose customer it is.';
comment on column public.customers.portal_user_id is
    'The login (auth.users) with which the customer enters the portal; null without one.';
comment on column public.customers.name is
    'The name that staff gave, or else that of the WhatsApp profile.';
comment on column public.customers.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.customers.email is
    'One email address.';
comment on column public.customers.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.customers.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.customers.version is
    'Rises by 1 with each change of the row.';
comment on column public.customers.preferences is
    'The customer''s own choices, written through my_profile. {"wants_reminders": false} ends reminders.'
    ' Type: {[text]: json}';
comment on function private.my_customer_ids(boolean) is
    'The customers to whom the signed-in user''s login belongs, in all accounts. No caller gives the argument: see check_plan.';
comment on function private.tg_contacts__project_customers() is
    'Writes to customers what changes in contacts, in the same transaction.';
comment on policy "members and the customer can read a customer" on public.customers is
    'A customer never sees another customer.';


select private.follow_table(
    table_name => 'customers',
    shown => array[
        'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
        'updated_at', 'version', 'preferences'
    ],
    customer_key => 'id'
);
