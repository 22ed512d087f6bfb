/*
    The ERP's face of a contact: the fields of partners, the contact's partner, and the state of the
    sync. It is written like the other faces, and each write is sent to Metakocka.
*/
select private.make_face(
    view_name => 'metakocka_partners',
    face => 'erp',
    more => array['m.metakocka_id', 'm.state as sync_state', 'm.missing', 'm.last_synced_at'],
    joined => 'left join public.metakocka_contact_mappings m on m.contact_id = s.id',
    -- that of a WhatsApp profile is not sent
    name => 's.own_name'
);


comment on view public.metakocka_partners is
    'Contacts as Metakocka has partners, with the state of their sync. Write any field of a partner, or conversation_status. A write that hits no row is refused (404), and so is one with an old version (409).';
comment on column public.metakocka_partners.id is
    'The contact''s id.';
comment on column public.metakocka_partners.account_id is
    'The account that knows the contact.';
comment on column public.metakocka_partners.name is
    'The name that staff gave. The name of a WhatsApp profile is not sent.';
comment on column public.metakocka_partners.email is
    'One email address.';
comment on column public.metakocka_partners.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.metakocka_partners.gsm is
    'The mobile number; in E.164 where it could be read as one.';
comment on column public.metakocka_partners.fax is
    'The fax number.';
comment on column public.metakocka_partners.business_entity is
    'Whether the contact is a business and not a private person; null is unknown.';
comment on column public.metakocka_partners.taxpayer is
    'Whether the contact is liable for VAT; null is unknown.';
comment on column public.metakocka_partners.foreign_county is
    'Whether the contact''s country is a foreign one (Metakocka''s spelling); null is unknown.';
comment on column public.metakocka_partners.buyer is
    'Whether the contact buys from the account; null is unknown.';
comment on column public.metakocka_partners.supplier is
    'Whether the contact supplies the account; null is unknown.';
comment on column public.metakocka_partners.tax_id_number is
    'The tax number, with or without the country code.';
comment on column public.metakocka_partners.registration_number is
    'The number in the register of companies.';
comment on column public.metakocka_partners.street is
    'Street and house number of the main address.';
comment on column public.metakocka_partners.post_number is
    'The postal code of the main address.';
comment on column public.metakocka_partners.place is
    'The town of the main address.';
comment on column public.metakocka_partners.province is
    'The province of the main address.';
comment on column public.metakocka_partners.country is
    'The country of the main address, as Metakocka writes it.';
comment on column public.metakocka_partners.people is
    'Further persons of a company: {mk_id, mk_address_id, name, email, phone, gsm, fax}.';
comment on column public.metakocka_partners.addresses is
    'Further addresses: {mk_id, address_type, street, post_number, city, province, country}.';
comment on column public.metakocka_partners.conversation_status is
    'O (open), P (pending) or C (closed): the status of the current conversation, the latest active one; before the first conversation the contact''s own.'
    ' Type: "O" | "P" | "C"';
comment on column public.metakocka_partners.metakocka_id is
    'The partner''s mk_id; null while Metakocka does not have the contact.';
comment on column public.metakocka_partners.sync_state is
    'The state as in metakocka_contact_mappings; null where the sync has never seen the contact.';
comment on column public.metakocka_partners.missing is
    'The fields that Metakocka requires and the contact lacks.';
comment on column public.metakocka_partners.last_synced_at is
    'When both sides last agreed on something new (UTC).';
comment on column public.metakocka_partners.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.metakocka_partners.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.metakocka_partners.version is
    'Rises by 1 with each change of the contact. A write with an old version is refused (409).';


select private.limit_writes('metakocka_partners', '{insert,update,delete}');
