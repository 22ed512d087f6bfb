-- Made from sql/2_contacts/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The words of each face for the status of a conversation. Every face has a word for every
    status, and no face has the same word for two. So a status that is written in one face's word
    is read correctly in every other face.
*/
create table public.status_words (
    face   text not null
           constraint status_words_face_check
           check (face in ('contacts_page', 'live_chat', 'wati', 'portal', 'erp')),
    status text not null
           constraint status_words_status_check
           check (status in ('open', 'pending', 'closed')),
    word   text not null
           constraint status_words_word_check check (word <> ''),

    primary key (face, status),
    constraint status_words_face_word_key unique (face, word)
);
alter table public.status_words enable row level security;


grant select on public.status_words to authenticated;


insert into public.status_words (face, status, word)
values
    ('contacts_page', 'open', 'open'),
    ('contacts_page', 'pending', 'pending'),
    ('contacts_page', 'closed', 'closed'),
    ('live_chat', 'open', 'Open'),
    ('live_chat', 'pending', 'Pending'),
    ('live_chat', 'closed', 'Closed'),
    ('wati', 'open', 'OPEN'),
    ('wati', 'pending', 'PENDING'),
    ('wati', 'closed', 'SOLVED'),
    ('portal', 'open', 'active'),
    ('portal', 'pending', 'waiting'),
    ('portal', 'closed', 'resolved'),
    ('erp', 'open', 'O'),
    ('erp', 'pending', 'P'),
    ('erp', 'closed', 'C');


create function private.status_of_word(face text, word text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_status text;
    known text;
begin
    select w.status
    into found_status
    from public.status_words w
    where w.face = status_of_word.face
      and w.word = status_of_word.word;

    if found_status is null then
        select string_agg(w.word, ', ' order by w.status <> 'open', w.status <> 'pending')
        into known
        from public.status_words w
        where w.face = status_of_word.face;

        if known is null then
            raise sqlstate 'PT422' using
                message = 'There is no such face.',
                detail = 'field: face',
                hint = 'Known: contacts_page, live_chat, wati, portal, erp.';
        end if;
        raise sqlstate 'PT422' using
            message = case
                when btrim(coalesce(word, ''), E' \t\r\n') = '' then 'A conversation needs a status.'
                else format('%s is not a status of this face.', quote_literal(left(word, 64)))
            end,
            detail = 'field: conversation_status',
            hint = format('Known: %s.', known);
    end if;
    return found_status;
end
$$;


comment on table public.status_words is
    'The words of each face for a conversation''s status: contacts page, live chat, WATI-style clients, portal, ERP.';
comment on column public.status_words.face is
    'contacts_page, live_chat, wati, portal or erp.';
comment on column public.status_words.status is
    'The status of a conversation: open, pending or closed.';
comment on column public.status_words.word is
    'The word of the face for this status, with exact case.';
comment on function private.status_of_word(text, text) is
    'The status for a word of a face. An unknown word is refused, and the hint lists the known ones.';


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
    portal_user_id   uuid,
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


/*
    The fields of a contact: the kind and the length of each, the faces that show and write it,
    and its name at the ERP. Faces, checks, merging and the sync read this list.

    A row is written whole: a function that changes a contact locks it, changes some fields of the
    row and passes the row to private.write_contacts.
*/
create table private.contact_fields (
    place           integer generated always as identity primary key,
    -- the column of public.contacts
    field           text not null
                    constraint contact_fields_field_key unique,
    kind            text not null
                    constraint contact_fields_kind_check
                    check (kind in ('text', 'flag', 'tags', 'object', 'list', 'time', 'id')),
    -- characters of a text, bytes of a list; null where something else limits it
    longest         integer,
    -- as in status_words: contacts_page, live_chat, erp
    shown_by        text[] not null,
    written_by      text[] not null,
    -- its name in a partner's record, and the most characters that it takes there; null where
    -- partners have no such field
    partner_field   text,
    partner_longest integer,
    -- the value of an unknown or empty field
    blank           jsonb not null generated always as (
                        case kind
                            when 'tags' then '[]'::jsonb
                            when 'list' then '[]'
                            when 'object' then '{}'
                            else 'null'
                        end
                    ) stored,

    constraint contact_fields_partner_check
        check (partner_longest is null or partner_field is not null)
);
alter table private.contact_fields enable row level security;


insert into private.contact_fields (
    field, kind, longest, shown_by, written_by, partner_field, partner_longest
)
values
    ('name', 'text', 200, '{contacts_page,live_chat,erp}', '{contacts_page,live_chat,erp}', 'customer', 100),
    ('phone', 'text', null, '{contacts_page,live_chat,erp}', '{contacts_page,live_chat,erp}', 'phone', 255),
    ('email', 'text', null, '{contacts_page,live_chat,erp}', '{contacts_page,live_chat,erp}', 'email', 255),
    ('username', 'text', null, '{contacts_page,live_chat}', '{contacts_page,live_chat}', null, null),
    ('tags', 'tags', null, '{contacts_page,live_chat}', '{contacts_page,live_chat}', null, null),
    ('notes', 'text', 20000, '{contacts_page}', '{contacts_page,live_chat}', null, null),
    ('preferences', 'object', null, '{contacts_page}', '{contacts_page}', null, null),
    ('profile_name', 'text', null, '{contacts_page}', '{}', null, null),
    ('marketing_stopped_at', 'time', null, '{contacts_page}', '{}', null, null),
    ('portal_user_id', 'id', null, '{contacts_page}', '{}', null, null),
    ('gsm', 'text', 255, '{erp}', '{erp}', 'gsm', 255),
    ('fax', 'text', 255, '{erp}', '{erp}', 'fax', 255),
    ('business_entity', 'flag', null, '{erp}', '{erp}', 'business_entity', null),
    ('taxpayer', 'flag', null, '{erp}', '{erp}', 'taxpayer', null),
    ('foreign_county', 'flag', null, '{erp}', '{erp}', 'foreign_county', null),
    ('buyer', 'flag', null, '{erp}', '{erp}', 'buyer', null),
    ('supplier', 'flag', null, '{erp}', '{erp}', 'supplier', null),
    ('tax_id_number', 'text', 50, '{erp}', '{erp}', 'tax_id_number', 50),
    ('registration_number', 'text', 50, '{erp}', '{erp}', 'registration_number', 50),
    ('street', 'text', 150, '{erp}', '{erp}', 'street', 150),
    ('post_number', 'text', 20, '{erp}', '{erp}', 'post_number', 20),
    ('place', 'text', 100, '{erp}', '{erp}', 'place', 100),
    ('province', 'text', 50, '{erp}', '{erp}', 'province', 50),
    ('country', 'text', 50, '{erp}', '{erp}', 'country', 50),
    ('people', 'list', 32768, '{erp}', '{erp}', 'partner_contact_list', null),
    ('addresses', 'list', 32768, '{erp}', '{erp}', 'partner_delivery_address_list', null);


create function private.fields_written_by(face text)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select f.field
        from private.contact_fields f
        where fields_written_by.face = any (f.written_by)
        order by f.place
    );
end
$$;


create function private.blank_fields()
    returns jsonb
    language plpgsql
    -- not immutable: an open session would keep the list that it had before a migration
    stable
    set search_path = ''
as $$
begin
    return (select jsonb_object_agg(f.field, f.blank) from private.contact_fields f);
end
$$;


create function private.party_fields()
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select f.field
        from private.contact_fields f
        where f.partner_field is not null
        order by f.place
    );
end
$$;


create function private.unshared_columns()
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    shared constant text[] := private.party_fields();
begin
    return array(
        select a.attname::text
        from pg_catalog.pg_attribute a
        where a.attrelid = 'public.contacts'::regclass
          and a.attnum > 0
          and not a.attisdropped
          and a.attname <> all (shared)
    );
end
$$;


create function private.new_contact(account_id uuid, contact_id uuid, fields jsonb)
    returns public.contacts
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_populate_record(
        null::public.contacts,
        private.blank_fields()
            || fields
            || jsonb_build_object(
                'id', new_contact.contact_id,
                'account_id', new_contact.account_id,
                'status', coalesce(fields ->> 'status', 'open'),
                'created_at', now(),
                'updated_at', now(),
                'version', 1
            )
    );
end
$$;


create function private.blank_contact(contact public.contacts, merged_into uuid default null)
    returns public.contacts
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_populate_record(
        contact,
        private.blank_fields() || jsonb_build_object(
            'profile_named_at', null,
            'marketing_chosen_at', null,
            'deleted_at', now(),
            'merged_into', blank_contact.merged_into
        )
    );
end
$$;


/*
    An update names its columns, so it must name a new column as well. The function that updates is
    made from the table's columns. Make it again after altering the table.
*/
create function private.make_contact_writer()
    returns void
    language plpgsql
    set search_path = ''
as $make$
declare
    written constant text[] := array(
        select quote_ident(a.attname)
        from pg_catalog.pg_attribute a
        where a.attrelid = 'public.contacts'::regclass
          and a.attnum > 0
          and not a.attisdropped
          -- the owner never changes, and a trigger writes the stamps
          and a.attname <> all ('{id,account_id,created_at,updated_at,version}')
        order by a.attnum
    );
begin
    execute format(
        $sql$
        create or replace function private.write_contacts(contacts public.contacts[])
            returns void
            language plpgsql
            set search_path = ''
        as $$
        begin
            update public.contacts c
            set (%s) = row (n.%s)
            from unnest(contacts) n
            where c.id = n.id;
        end
        $$
        $sql$,
        array_to_string(written, ', '),
        array_to_string(written, ', n.')
    );
end
$make$;

select private.make_contact_writer();


comment on table private.contact_fields is
    'The fields of a contact: kind, length, the faces that show and write them, and their names at the ERP.';
comment on function private.fields_written_by(text) is
    'The fields of a contact that a face writes.';
comment on function private.blank_fields() is
    'All fields of a contact, each with its value where it is unknown or empty.';
comment on function private.party_fields() is
    'The fields that contacts share with partners.';
comment on function private.unshared_columns() is
    'The columns of contacts that partners do not have.';
comment on function private.new_contact(uuid, uuid, jsonb) is
    'The row of a new contact that has these fields.';
comment on function private.blank_contact(public.contacts, uuid) is
    'A contact''s row as it is once it is deleted, or merged into another.';
comment on function private.make_contact_writer() is
    'Makes private.write_contacts for the columns that contacts have now.';
comment on function private.write_contacts(public.contacts[]) is
    'Writes whole rows of contacts, which the caller has locked and read.';


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


/*
    A customer's choice to get no reminders: {"wants_reminders": false} among the contact's
    preferences. The customer writes it in my_profile, and staff on the contacts page.
*/
create function private.wants_reminders(preferences jsonb)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- any other value counts as no
    return coalesce(preferences -> 'wants_reminders', 'true') in ('true', 'null');
end
$$;


comment on function private.wants_reminders(jsonb) is
    'Whether a customer with these preferences wants reminders. The answer is no only if wants_reminders is there and is neither true nor null.';


/*
    A contact, as its customer may see it. Only the trigger on contacts writes it, in one
    direction: two-way triggers deadlocked (6 of 600 concurrent edits).
*/
create table public.customers (
    id             uuid primary key,
    account_id     uuid not null,
    portal_user_id uuid,
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


select private.follow_table(
    table_name => 'customers',
    shown => array[
        'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
        'updated_at', 'version', 'preferences'
    ],
    customer_key => 'id'
);


/*
    The proof of who a person is: one rule for every look-up, of what is received and of what is
    sent.

    A contact is known by its identities (contact_identities) and by nothing else. An identity is
    proved by a message through WhatsApp, by staff, by a file that staff import, or by the partner
    from which the contact was made. A value that a customer writes (my_profile) proves nothing.
    It stays unproved when another source repeats it: a form that staff had open, a file that was
    exported before, or the ERP to which it was sent. confirm_contact proves it, and so does a
    message.
*/
create table private.customer_words (
    contact_id uuid not null,
    account_id uuid not null,
    kind       text not null
               constraint customer_words_kind_check check (kind in ('email', 'name', 'phone')),
    -- as the match_key of an identity; for a name see word_key
    match_key  text not null,

    primary key (contact_id, kind, match_key),
    constraint customer_words_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table private.customer_words enable row level security;


-- for the foreign key
create index customer_words_contact_idx
    on private.customer_words (contact_id, account_id);


create function private.word_key(kind text, value text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case word_key.kind
        when 'name' then lower(regexp_replace(btrim(word_key.value), '\s+', ' ', 'g'))
        else private.match_key(kind => word_key.kind, value => word_key.value)
    end;
end
$$;


create function private.contact_lineage(contact_id uuid)
    returns setof uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with recursive lineage as (
            select contact_lineage.contact_id as id
            union
            select c.id
            from lineage l
            join public.contacts c
                on c.merged_into = l.id
        )
        select l.id
        from lineage l;
end
$$;


create function private.is_customer_word(contact_id uuid, kind text, value text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.contact_lineage(is_customer_word.contact_id) l
        join private.customer_words w
            on w.contact_id = l
        where w.kind = is_customer_word.kind
          and w.match_key = private.word_key(
              kind => is_customer_word.kind, value => is_customer_word.value)
    );
end
$$;


create function private.writes_itself(contact_id uuid, kind text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.contact_lineage(writes_itself.contact_id) l
        join private.customer_words w
            on w.contact_id = l
        where w.kind = writes_itself.kind
    );
end
$$;


create function private.owns_identity(contact_id uuid, kind text, value text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from public.contacts c
        join public.contact_identities o
            on o.account_id = c.account_id
           and o.kind = owns_identity.kind
           and o.match_key = private.match_key(
               kind => owns_identity.kind, value => owns_identity.value)
           and o.contact_id = c.id
        where c.id = owns_identity.contact_id
    );
end
$$;


create function private.shows_customer_word(contact public.contacts, kind text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.claimed_identities(to_jsonb(contact)) k
        where k.kind = shows_customer_word.kind
          and private.is_customer_word(
              contact_id => contact.id, kind => k.kind, value => k.value)
    );
end
$$;


create function private.keep_customer_words(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- nobody has more spellings of one field
    most constant integer := 100;
    written record;
begin
    for written in
        select f.key as kind, f.value
        from jsonb_each_text(fields) f
        where f.key in ('email', 'name', 'phone')
          and f.value is not null
          -- a proved identity needs no note, unless it came by a merge, which may be undone
          and (
              not private.owns_identity(
                  contact_id => keep_customer_words.contact_id, kind => f.key, value => f.value)
              or exists (
                  select
                  from public.contact_merges m
                  cross join lateral jsonb_array_elements(m.moved_identities) i
                  where m.kept_contact_id = keep_customer_words.contact_id
                    and m.account_id = keep_customer_words.account_id
                    and m.undone_at is null
                    and i ->> 'kind' = f.key
                    and i ->> 'match_key' = private.match_key(kind => f.key, value => f.value)
              )
          )
        order by f.key
    loop
        insert into private.customer_words (account_id, contact_id, kind, match_key)
        values (
            keep_customer_words.account_id,
            keep_customer_words.contact_id,
            written.kind,
            private.word_key(kind => written.kind, value => written.value)
        )
        on conflict do nothing;
        if found and (
            select count(*) > most
            from private.customer_words w
            where w.contact_id = keep_customer_words.contact_id
              and w.kind = written.kind
        ) then
            raise sqlstate 'PT409' using
                message = format('You have already written %s different values in this field.', most),
                detail = 'field: ' || written.kind,
                hint = 'Ask the business to write the new value.';
        end if;
    end loop;
end
$$;


create function private.forget_customer_words(contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from private.customer_words w
    using private.contact_lineage(forget_customer_words.contact_id) l, jsonb_each_text(fields) f
    where w.contact_id = l
      and w.kind = f.key
      and w.match_key = private.word_key(kind => f.key, value => f.value);
end
$$;


create function private.unproved_fields(contact public.contacts)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select f.field
        from (
            select 'email', 'email', contact.email
            union all
            -- a number in another form comes from staff or from the ERP
            select 'gsm', 'phone', substring(contact.gsm from '^\+[1-9][0-9]{1,14}$')
            union all
            select 'phone', 'phone', contact.phone
            union all
            select 'username', 'username', contact.username
        ) as f (field, kind, value)
        where f.value is not null
          and not private.owns_identity(contact_id => contact.id, kind => f.kind, value => f.value)
        union all
        select 'name'
        where contact.name is not null
          and private.is_customer_word(
              contact_id => contact.id, kind => 'name', value => contact.name)
        order by 1
    );
end
$$;


comment on table private.customer_words is
    'The values that customers have written about themselves and that nobody has proved.';
comment on column private.customer_words.match_key is
    'The key that all spellings of one value share.';
comment on function private.word_key(text, text) is
    'The key that all spellings of a customer''s value share.';
comment on function private.contact_lineage(uuid) is
    'A contact, and all contacts that were merged into it.';
comment on function private.is_customer_word(uuid, text, text) is
    'Whether a contact''s customer has written this value and nobody has proved it.';
comment on function private.writes_itself(uuid, text) is
    'Whether a contact''s customer has written an email, name or phone that nobody has proved.';
comment on function private.owns_identity(uuid, text, text) is
    'Whether a contact owns this identity.';
comment on function private.shows_customer_word(public.contacts, text) is
    'Whether a contact shows a value of this kind of identity that its customer has written.';
comment on function private.keep_customer_words(uuid, uuid, jsonb) is
    'Notes the values that a customer writes and that nobody has proved.';
comment on function private.forget_customer_words(uuid, jsonb) is
    'Forgets that the customer has written these values.';
comment on function private.unproved_fields(public.contacts) is
    'The fields of a contact that nobody has proved. No look-up finds the contact by them.';


/*
    A contact becomes known by the values that staff write: its phone, email and username are
    claimed as identities before it is written, in the lock order (identities, contacts,
    conversations, messages, each by key). Values that its customer has written are not claimed
    (private.customer_words).
*/
create function private.claimed_identities(fields jsonb)
    returns table (kind text, value text)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return query
    select i.kind, i.value
    from (
        values
            ('email', fields ->> 'email'),
            ('phone', fields ->> 'phone'),
            ('username', fields ->> 'username'),
            -- the person may write from the mobile number
            ('phone', substring(fields ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as i (kind, value)
    where i.value is not null;
end
$$;


create function private.lock_identities(
    account_id uuid,
    contact_ids uuid[],
    kinds text[],
    -- {phone, email, username, gsm}: claimed for the first contact
    claims jsonb default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
    owner uuid;
begin
    -- the identities to claim and those of the contacts, in one order
    for wanted in
        select w.kind, w.match_key, min(w.value) as value, bool_and(w.is_proved) as is_proved
        from (
            select
                k.kind,
                private.match_key(kind => k.kind, value => k.value),
                k.value,
                not private.is_customer_word(
                    contact_id => contact_ids[1], kind => k.kind, value => k.value)
            from private.claimed_identities(claims) k
            where k.kind = any (kinds)
            union all
            select o.kind, o.match_key, null, null
            from public.contact_identities o
            where o.contact_id = any (contact_ids)
              and o.account_id = lock_identities.account_id
              and o.kind = any (kinds)
        ) as w (kind, match_key, value, is_proved)
        group by w.kind, w.match_key
        order by w.kind, w.match_key
    loop
        -- its owner may release it between the two statements: then it can be claimed
        loop
            if wanted.value is not null and wanted.is_proved then
                insert into public.contact_identities (account_id, kind, value, contact_id)
                values (
                    lock_identities.account_id, wanted.kind, wanted.value, contact_ids[1])
                on conflict do nothing;
            end if;

            select o.contact_id
            into owner
            from public.contact_identities o
            where o.account_id = lock_identities.account_id
              and o.kind = wanted.kind
              and o.match_key = wanted.match_key
            for update;
            exit when found or wanted.value is null or not wanted.is_proved;
        end loop;

        if wanted.value is not null and owner <> contact_ids[1] then
            raise sqlstate 'PT409' using
                message = format('This %s belongs to another contact.', wanted.kind),
                detail = format('field: %s; contact: %s', wanted.kind, owner),
                hint = 'Merge the two contacts, or correct the value.';
        end if;
    end loop;
end
$$;


create function private.release_identities(contact_id uuid, kinds text[], before jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities d
    using (
        select o.account_id, o.kind, o.match_key
        from public.contacts c
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = c.account_id
        where c.id = release_identities.contact_id
          and o.kind = any (kinds)
          -- a message has come from it: it stays, even if staff write another value
          and o.wa_id is null
          -- a value of the customer in its place does not end it: only staff do
          and (
              not private.shows_customer_word(contact => c, kind => o.kind)
              or exists (
                  select
                  from private.claimed_identities(before) b
                  where b.kind = o.kind
                    and private.match_key(kind => b.kind, value => b.value) = o.match_key
              )
          )
          and not exists (
              select
              from private.claimed_identities(to_jsonb(c)) k
              where k.kind = o.kind
                and private.match_key(kind => k.kind, value => k.value) = o.match_key
          )
        -- an identity that has come since the others were locked is out of the lock order, and the
        -- transaction that brought it may hold its lock
        for update of o skip locked
    ) o
    where d.account_id = o.account_id
      and d.kind = o.kind
      and d.match_key = o.match_key;
end
$$;


comment on function private.claimed_identities(jsonb) is
    'The identities of a contact with these fields.';
comment on function private.lock_identities(uuid, uuid[], text[], jsonb) is
    'Locks the identities of contacts and claims more for the first contact, except values that its customer has written. Refuses an identity that another contact owns.';
comment on function private.release_identities(uuid, text[], jsonb) is
    'Deletes the identities that a contact no longer shows and that no message proves. before is the contact''s row before it was written.';


/*
    The fields of a contact that may be written, and their form.
*/
create function private.clean_contact_fields(fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field private.contact_fields;
    given jsonb;
begin
    for field in
        select f.*
        from private.contact_fields f
        where fields ? f.field
        order by f.place
    loop
        given := private.clean_field(field, fields -> field.field);
        cleaned := jsonb_set(cleaned, array[field.field], given);
    end loop;

    -- the same rules as the table's checks, which name no field and no remedy
    if cleaned ->> 'phone' !~ '^\+[1-9][0-9]{1,14}$' then
        raise sqlstate 'PT422' using
            message = 'This is not a phone number with a plus sign and a country code.',
            detail = 'field: phone',
            hint = 'Write the plus sign, the country code and digits only, such as +38640111222.';
    elsif cleaned ->> 'email' ~ '@.*@' then
        raise sqlstate 'PT422' using
            message = 'These are several email addresses.',
            detail = 'field: email',
            hint = 'Write one address, such as ana@example.com.';
    elsif length(cleaned ->> 'email') > 320
        or cleaned ->> 'email' !~ '^[^@\s,;:<>()"]+@[^@\s,;:<>()"]+$'
    then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Write one address, such as ana@example.com.';
    elsif length(cleaned ->> 'username') > 100 or cleaned ->> 'username' !~ '^[^\s@]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not a username.',
            detail = 'field: username',
            hint = 'Write 1 to 100 characters without @ and spaces.';
    end if;

    if cleaned ? 'tags' then
        if jsonb_typeof(cleaned -> 'tags') not in ('array', 'null')
            or nullif(cleaned -> 'tags', 'null') @? '$[*] ? (@.type() != "string")'
        then
            raise sqlstate 'PT422' using
                message = 'Tags are a list of texts.',
                detail = 'field: tags',
                hint = 'Send a list such as ["VIP", "carpets"], or [] for none.';
        end if;
        cleaned := jsonb_set(cleaned, '{tags}', (
            select coalesce(jsonb_agg(t.tag order by t.place), '[]')
            from (
                select btrim(e.value) as tag, min(e.ordinal) as place
                from jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))
                    with ordinality as e (value, ordinal)
                where btrim(e.value) <> ''
                group by btrim(e.value)
            ) t
        ));
        if jsonb_array_length(cleaned -> 'tags') > 100
            or exists (
                select
                from jsonb_array_elements_text(cleaned -> 'tags') e
                where length(e) > 100
            )
        then
            raise sqlstate 'PT422' using
                message = 'There are too many tags, or one is too long.',
                detail = 'field: tags',
                hint = 'Send at most 100 tags, of at most 100 characters each.';
        end if;
    end if;

    if fields ? 'preferences' and (
        jsonb_typeof(fields -> 'preferences') <> 'object'
        or octet_length((fields -> 'preferences')::text) > 8192
    ) then
        raise sqlstate 'PT422' using
            message = 'Preferences are an object of at most 8 KB.',
            detail = 'field: preferences',
            hint = 'Send all preferences in one object, or {} for none.';
    elsif fields -> 'preferences' @? 'strict $.**{17 to last}'
        or fields -> 'preferences'
            @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))'
    then
        raise sqlstate 'PT422' using
            message = 'Preferences are nested too deeply, or have a number that is too large.',
            detail = 'field: preferences',
            hint = 'Send at most 16 levels, and numbers from -1e15 to 1e15.';
    end if;
    return cleaned;
end
$$;


create function private.clean_field(field private.contact_fields, given jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    kind constant text := jsonb_typeof(given);
    cleaned jsonb := given;
begin
    if field.kind = 'text' then
        if kind not in ('string', 'null') then
            raise sqlstate 'PT422' using
                message = format('The %s is a text.', field.field),
                detail = 'field: ' || field.field,
                hint = 'Send a text, or null for none.';
        end if;
        cleaned := coalesce(to_jsonb(nullif(btrim(given #>> '{}', E' \t\r\n'), '')), 'null');
        if length(cleaned #>> '{}') > field.longest then
            raise sqlstate 'PT422' using
                message = format('The %s is too long.', field.field),
                detail = 'field: ' || field.field,
                hint = format('At most %s characters.', to_char(field.longest, 'FM999,999'));
        end if;
    elsif field.kind = 'flag' and kind not in ('boolean', 'null') then
        raise sqlstate 'PT422' using
            message = format('%s is true or false.', field.field),
            detail = 'field: ' || field.field,
            hint = 'Send true, false, or null for unknown.';
    elsif field.kind = 'list' then
        cleaned := coalesce(nullif(given, 'null'), '[]');
        if jsonb_typeof(cleaned) <> 'array'
            or cleaned @? 'strict $[*] ? (@.type() != "object")'
            or octet_length(cleaned::text) > field.longest
        then
            raise sqlstate 'PT422' using
                message = format('%s are a list of objects.', field.field),
                detail = 'field: ' || field.field,
                hint = format('At most %s kB.', field.longest / 1024);
        elsif cleaned @? 'strict $.** ? (@.type() == "number") ? (@ >= 1e300 || @ <= -1e300)' then
            -- jsonb keeps all their digits, and readers give up on thousands of them
            raise sqlstate 'PT422' using
                message = format('A number in %s is too large.', field.field),
                detail = 'field: ' || field.field,
                hint = 'Write it as a text.';
        end if;
    end if;
    return cleaned;
end
$$;


create function private.touched_identity_kinds(fields jsonb)
    returns text[]
    language sql
    immutable
    set search_path = ''
as $$
    select array(
        select distinct k.kind
        from (
            values ('email', 'email'), ('phone', 'phone'), ('gsm', 'phone'), ('username', 'username')
        ) as k (field, kind)
        where fields ? k.field
        order by k.kind
    )
$$;


comment on function private.clean_contact_fields(jsonb) is
    'The fields of a contact without spaces around their values, or a refusal that names the field.';
comment on function private.clean_field(private.contact_fields, jsonb) is
    'A field''s value without stray spaces, or a refusal that names the field.';
comment on function private.touched_identity_kinds(jsonb) is
    'The kinds of identity that a change of these fields affects.';


/*
    The one way in which people write contacts, for all faces. A change is an object of the fields
    to write. All other fields stay, so two people can edit different fields at the same time.
*/
create function private.add_contact(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    cleaned constant jsonb := private.clean_contact_fields(fields);
begin
    perform private.require_room(account_id => add_contact.account_id, kind => 'contacts');
    perform private.lock_identities(
        account_id => add_contact.account_id,
        contact_ids => array[add_contact.contact_id],
        kinds => private.touched_identity_kinds(cleaned),
        claims => cleaned
    );
    insert into public.contacts
    select n.*
    from private.new_contact(
        account_id => add_contact.account_id,
        contact_id => add_contact.contact_id,
        fields => cleaned
    ) n
    on conflict (id) do nothing;
    if not found then
        raise sqlstate 'PT409' using
            message = 'A contact with this id exists already.',
            detail = 'field: id',
            hint = 'Change that contact, or leave the id out.';
    end if;
end
$$;


create function private.change_contact(
    account_id uuid,
    contact_id uuid,
    fields jsonb,
    -- the version that the caller has read; null for any version
    read_version bigint default null,
    -- whether the contact becomes known by the new values: not by those of its customer
    claim boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    given constant jsonb := private.clean_contact_fields(fields);
    -- without unchanged identities: staff who save a whole form do not confirm values that the
    -- customer has written
    cleaned constant jsonb := given - array(
        select k
        from public.contacts c
        cross join unnest(array['email', 'gsm', 'phone', 'username']) k
        where c.id = change_contact.contact_id
          and given ? k
          and to_jsonb(c) -> k = given -> k
    );
    kinds constant text[] := case
        when claim then private.touched_identity_kinds(cleaned)
        else '{}'
    end;
    before public.contacts;
    changed public.contacts;
    current_conversation uuid;
begin
    if kinds <> '{}' then
        perform private.lock_identities(
            account_id => change_contact.account_id,
            contact_ids => array[change_contact.contact_id],
            kinds => kinds,
            claims => cleaned
        );
    end if;

    select c.*
    into before
    from public.contacts c
    where c.id = change_contact.contact_id
      and c.account_id = change_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', change_contact.contact_id);
    elsif before.version <> read_version then
        raise sqlstate 'PT409' using
            message = 'The contact has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    end if;

    if cleaned ? 'status' then
        select s.conversation_id
        into current_conversation
        from private.contact_states s
        where s.id = change_contact.contact_id;
    end if;

    if cleaned <> '{}' then
        changed := jsonb_populate_record(before, cleaned - 'status');
        if current_conversation is null then
            changed.status := coalesce(cleaned ->> 'status', before.status);
        elsif exists (
            select
            from public.conversations k
            where k.id = current_conversation
              and k.status <> cleaned ->> 'status'
        ) then
            changed.status_changed_at := clock_timestamp();
        end if;
        perform private.write_contacts(array[changed]);
    end if;

    if kinds <> '{}' then
        perform private.release_identities(
            contact_id => change_contact.contact_id, kinds => kinds, before => to_jsonb(before));
    end if;
    if current_conversation is not null then
        perform private.set_conversation_status(
            conversation_id => current_conversation, status => cleaned ->> 'status');
    end if;
end
$$;


comment on function private.add_contact(uuid, uuid, jsonb) is
    'Inserts a contact with its identities.';
comment on function private.change_contact(uuid, uuid, jsonb, bigint, boolean) is
    'Writes the given fields of a contact, if it still has the version that was read. A status goes to its current conversation.';


/*
    Deletes a contact: its contents are blanked, and its row stays for the rows that refer to it.
*/
create function private.delete_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    contact public.contacts;
begin
    perform private.refuse_held(delete_contact.contact_id);
    perform private.lock_identities(
        account_id => delete_contact.account_id,
        contact_ids => array[delete_contact.contact_id],
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    -- in two steps, so that the portal login of this contact is told that it has left
    update public.contacts c
    set portal_user_id = null
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.portal_user_id is not null;

    select c.*
    into contact
    from public.contacts c
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', delete_contact.contact_id);
    end if;
    perform private.write_contacts(array[private.blank_contact(contact)]);

    perform private.revoke_open_invitations(
        account_id => delete_contact.account_id, contact_id => delete_contact.contact_id);

    -- a person who writes from the number from now on is a new contact
    with released as materialized (
        select o.account_id, o.kind, o.match_key
        from public.contact_identities o
        where o.contact_id = delete_contact.contact_id
          and o.account_id = delete_contact.account_id
        -- locked already, except one that came meanwhile: waiting for that would break the lock
        -- order
        for update nowait
    )
    delete from public.contact_identities o
    using released r
    where o.account_id = r.account_id
      and o.kind = r.kind
      and o.match_key = r.match_key;

    delete from private.stated_usernames u
    where u.contact_id = delete_contact.contact_id;

    delete from private.customer_words w
    using private.contact_lineage(delete_contact.contact_id) l
    where w.contact_id = l;

    perform
    from public.conversations k
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
    order by k.id
    for no key update;

    update public.conversations k
    set status = 'closed'
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and k.status <> 'closed';

    -- messages that were never sent; the conversations are locked, so none comes meanwhile
    perform
    from public.scheduled_messages s
    join public.conversations k
        on k.id = s.conversation_id
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and s.status <> 'sent'
    order by s.id
    for no key update of s;

    update public.scheduled_messages s
    set status = case s.status when 'waiting' then 'cancelled' else s.status end,
        message = '',
        content = null,
        template = null
    from public.conversations k
    where k.id = s.conversation_id
      and k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and s.status <> 'sent';
end
$$;


comment on function private.delete_contact(uuid, uuid) is
    'Blanks a contact, deletes its identities, closes its conversations, and cancels and blanks what waits to be sent to it.';


/*
    A legal hold: as long as it lasts, nothing of a contact is deleted by itself or on request.
*/
create table private.legal_holds (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null,
    contact_id uuid not null,
    reason     text not null
               constraint legal_holds_reason_check check (length(reason) between 1 and 500),
    created_at timestamptz not null default now(),
    -- when it ended; null while it holds
    ended_at   timestamptz,

    constraint legal_holds_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table private.legal_holds enable row level security;


-- of one contact one holds at a time
create unique index legal_holds_contact_key
    on private.legal_holds (contact_id, account_id)
    where ended_at is null;

create index legal_holds_contact_idx on private.legal_holds (contact_id, account_id);


create function private.is_held(contact_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- most deployments have none
    if not exists (select from private.legal_holds h where h.ended_at is null) then
        return false;
    end if;
    -- a contact that was merged into this one is held here
    return exists (
        select
        from private.contact_lineage(is_held.contact_id) l
        join private.legal_holds h
            on h.contact_id = l
        where h.ended_at is null
    );
end
$$;


comment on table private.legal_holds is
    'Contacts of which nothing is deleted, with the reason.';
comment on column private.legal_holds.ended_at is
    'When the hold ended; null while it holds.';
comment on function private.is_held(uuid) is
    'Whether a contact, or one that was merged into it, is under a legal hold.';
