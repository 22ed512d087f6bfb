/*
    A person or company that an account knows: the one record behind every face. Only staff read
    it; a customer sees public.customers.
*/
create table public.contacts (
    id               uuid primary key default gen_random_uuid(),
    account_id       uuid not null
                     constraint contacts_account_id_fkey
                     references public.accounts on delete cascade,
    -- the name that staff give; without it, profile_name is shown
    name             text
                     constraint contacts_name_check check (length(name) <= 200),
    -- the name of the WhatsApp profile, and the provider's time of the message that brought it
    profile_name     text
                     constraint contacts_profile_name_check check (length(profile_name) <= 200),
    profile_named_at timestamptz,
    phone            text
                     constraint contacts_phone_check check (phone ~ '^\+[1-9][0-9]{1,14}$'),
    email            text
                     -- one address, without any character that separates two
                     constraint contacts_email_check
                     check (email ~ '^[^@\s,;:<>()"]+@[^@\s,;:<>()"]+$' and length(email) <= 320),
    -- WhatsApp's username, the latest known
    username         text
                     constraint contacts_username_check
                     check (username ~ '^[^\s@]+$' and length(username) <= 100),
    -- the login with which the person enters the portal
    portal_user_id   uuid
                     constraint contacts_portal_user_id_fkey
                     references auth.users on delete set null,
    tags             text[] not null default '{}'
                     constraint contacts_tags_check
                     check (cardinality(tags) <= 100 and array_position(tags, null) is null),
    notes            text
                     constraint contacts_notes_check check (length(notes) <= 20000),
    -- shown until the contact has a conversation, which has a status of its own
    status           text not null default 'open'
                     constraint contacts_status_check
                     check (status in ('open', 'pending', 'closed')),
    -- written with a conversation's status, so that followers of contacts learn of the change too
    status_changed_at timestamptz,
    -- the customer's own choices: language, channels, consent
    preferences      jsonb not null default '{}'
                     constraint contacts_preferences_check
                     check (
                         jsonb_typeof(preferences) = 'object'
                         and octet_length(preferences::text) <= 8192
                         -- some clients can't read deeper objects or larger numbers
                         and not preferences @? 'strict $.**{17 to last}'
                         and not preferences
                             @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))'
                     ),
    -- since when the person takes no marketing messages on WhatsApp, and the time of the latest
    -- choice, because webhooks come in any order
    marketing_stopped_at timestamptz,
    marketing_chosen_at  timestamptz,
    -- from here to the addresses as the ERP has them and in its limits; null is not known
    gsm              text
                     constraint contacts_gsm_check check (length(gsm) <= 255),
    fax              text
                     constraint contacts_fax_check check (length(fax) <= 255),
    business_entity  boolean,
    taxpayer         boolean,
    -- the ERP's spelling; it says that the country is a foreign one
    foreign_county   boolean,
    buyer            boolean,
    supplier         boolean,
    tax_id_number    text
                     constraint contacts_tax_id_number_check check (length(tax_id_number) <= 50),
    registration_number text
                     constraint contacts_registration_number_check
                     check (length(registration_number) <= 50),
    street           text
                     constraint contacts_street_check check (length(street) <= 150),
    post_number      text
                     constraint contacts_post_number_check check (length(post_number) <= 20),
    place            text
                     constraint contacts_place_check check (length(place) <= 100),
    province         text
                     constraint contacts_province_check check (length(province) <= 50),
    country          text
                     constraint contacts_country_check check (length(country) <= 50),
    people           jsonb not null default '[]'
                     constraint contacts_people_check
                     check (
                         jsonb_typeof(people) = 'array'
                         and octet_length(people::text) <= 32768
                     ),
    addresses        jsonb not null default '[]'
                     constraint contacts_addresses_check
                     check (
                         jsonb_typeof(addresses) = 'array'
                         and octet_length(addresses::text) <= 32768
                     ),
    -- the contact that took its place
    merged_into      uuid,
    deleted_at       timestamptz,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    version          bigint not null default 1,

    -- foreign keys with the account refer to this
    constraint contacts_id_account_id_key unique (id, account_id),
    constraint contacts_profile_name_time_check
        check ((profile_name is null) = (profile_named_at is null)),
    constraint contacts_merged_into_fkey
        foreign key (merged_into, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint contacts_merged_into_check
        check (merged_into is null or deleted_at is not null),
    -- a deletion blanks the contents in the same update: nothing is left but these columns
    constraint contacts_deleted_check
        check (
            deleted_at is null
            or not to_jsonb(contacts) - '{
                id,account_id,status,status_changed_at,merged_into,deleted_at,created_at,updated_at,
                version,marketing_stopped_at,marketing_chosen_at
            }'::text[] @? 'strict $.* ? (
                @.type() == "string" || @.type() == "number" || @ == true
                || @.type() == "array" && @.size() > 0
                || @.type() == "object" && exists (@.*)
            )'
        )
);
alter table public.contacts enable row level security;


-- The list by the shown name. It says case, because Postgres does not take coalesce for leakproof:
-- under row level security it would not find the beginning of a page in the index.
create index contacts_list_idx
    on public.contacts (
        account_id,
        (case when name is null then profile_name else name end),
        id
    );

create index contacts_merged_into_idx
    on public.contacts (merged_into)
    where merged_into is not null;

-- a login belongs to one contact of an account
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
    before update of account_id on public.contacts
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.contacts
    for each row
    execute function private.tg__stamp_change();


comment on table public.contacts is
    'A person or company that an account knows. Staff read it; customers see public.customers.';
comment on column public.contacts.id is
    'Identifies the contact; customers.id is the same.';
comment on column public.contacts.account_id is
    'The account that knows the contact.';
comment on column public.contacts.name is
    'The name that staff gave; if it is null, clients show profile_name.';
comment on column public.contacts.profile_name is
    'The name of the person''s WhatsApp profile; null is unknown.';
comment on column public.contacts.profile_named_at is
    'When the person sent the message that brought profile_name, by WhatsApp''s clock (UTC).';
comment on column public.contacts.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.contacts.email is
    'One email address.';
comment on column public.contacts.username is
    'The person''s latest known WhatsApp username, without @.';
comment on column public.contacts.tags is
    'Labels that staff give, at most 100.';
comment on column public.contacts.notes is
    'Notes of staff, at most 20,000 characters; customers do not see them.';
comment on column public.contacts.portal_user_id is
    'The login (auth.users) with which the person enters the portal; null without one.';
comment on column public.contacts.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.contacts.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.contacts.version is
    'Rises by 1 with each change of the row.';
comment on column public.contacts.status is
    'open, pending or closed: the contact''s own status, shown until it has a conversation. contacts_v2 has the status that clients show. The changes of conversations tell when one begins or is opened again.';
comment on column public.contacts.status_changed_at is
    'When staff last changed the status of a conversation of the contact (server time, UTC).';
comment on column public.contacts.preferences is
    'The customer''s choices, such as language, channels and consent: an object of at most 8 KB. Written through my_profile and contacts_v2.'
    ' Type: {[text]: json}';
comment on column public.contacts.marketing_stopped_at is
    'Since when the person takes no marketing messages on WhatsApp, by WhatsApp''s clock (UTC). The person chooses that in WhatsApp, and nobody writes it here. Null: marketing messages may be sent.';
comment on column public.contacts.marketing_chosen_at is
    'When the person last stopped or allowed marketing messages, by WhatsApp''s clock (UTC).';
comment on column public.contacts.deleted_at is
    'Since when the contact is deleted (server time, UTC). Its contents are blanked, and lists leave it out.';
comment on column public.contacts.merged_into is
    'The contact into which this one was merged.';
comment on column public.contacts.gsm is
    'The mobile number, as the ERP has it; in E.164 if it could be read as a number, and then the contact is known by it.';
comment on column public.contacts.fax is
    'The fax number, as the ERP has it.';
comment on column public.contacts.business_entity is
    'Whether the contact is a business and not a private person; null is unknown.';
comment on column public.contacts.taxpayer is
    'Whether the contact is liable for VAT; null is unknown.';
comment on column public.contacts.foreign_county is
    'Whether the country is a foreign one (the ERP''s spelling); null is unknown.';
comment on column public.contacts.buyer is
    'Whether the contact buys from the account, as the ERP has it; null is unknown.';
comment on column public.contacts.supplier is
    'Whether the contact supplies the account, as the ERP has it; null is unknown.';
comment on column public.contacts.tax_id_number is
    'The tax number, with or without the country code.';
comment on column public.contacts.registration_number is
    'The number in the register of companies.';
comment on column public.contacts.street is
    'Street and house number of the main address.';
comment on column public.contacts.post_number is
    'The postal code of the main address.';
comment on column public.contacts.place is
    'The town of the main address.';
comment on column public.contacts.province is
    'The province of the main address.';
comment on column public.contacts.country is
    'The country of the main address, as the ERP writes it.';
comment on column public.contacts.people is
    'Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}.'
    ' Type: {[text]: json}[]';
comment on column public.contacts.addresses is
    'Further addresses: {mk_id, address_type, street, post_number, city, province, country}.'
    ' Type: {[text]: json}[]';
comment on policy "members can read their contacts" on public.contacts is
    'Customers must not see tags and notes.';


-- for staff only; customers follow public.customers
select private.follow_table(
    table_name => 'contacts',
    shown => array[
        'id', 'account_id', 'name', 'profile_name', 'phone', 'email', 'username',
        'portal_user_id', 'tags', 'notes', 'status', 'status_changed_at', 'preferences',
        'marketing_stopped_at', 'gsm', 'fax', 'business_entity', 'taxpayer', 'foreign_county',
        'buyer', 'supplier', 'tax_id_number', 'registration_number', 'street', 'post_number',
        'place', 'province', 'country', 'people', 'addresses', 'created_at', 'updated_at', 'version'
    ],
    hidden => array['profile_named_at', 'marketing_chosen_at', 'merged_into', 'deleted_at'],
    customer_key => null
);
