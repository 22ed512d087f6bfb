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


create policy "nobody reads the list of fields directly"
    on private.contact_fields
    for all
    to authenticated
    using (false);


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
comment on policy "nobody reads the list of fields directly" on private.contact_fields is
    'Faces and the sync read it.';
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
