/*
    The ERP's face of a contact: the fields that partners have, which partner it is, and how the
    two stand. Written as the other faces are; what is written here is on its way to Metakocka.
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
    'Contacts as Metakocka has partners, with the state of their sync. Write any of the fields that partners have; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.metakocka_partners.name is
    'What staff call them; the name of a WhatsApp profile is not sent.';
comment on column public.metakocka_partners.conversation_status is
    'O, P or C: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.metakocka_partners.metakocka_id is
    'The partner''s mk_id; null while it is not there.';
comment on column public.metakocka_partners.sync_state is
    'As in metakocka_contact_mappings; null where it was never looked at.';
comment on column public.metakocka_partners.missing is
    'The fields that Metakocka asks for and that are missing.';
comment on column public.metakocka_partners.last_synced_at is
    'When both sides last agreed on something new.';


select private.limit_writes('metakocka_partners', '{insert,update,delete}');
