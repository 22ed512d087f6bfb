/*
    The contacts page's face of a contact: status in lower case.
*/
select private.make_face(
    view_name => 'contacts_v2',
    face => 'contacts_page',
    more => array['s.conversation_id']
);


comment on view public.contacts_v2 is
    'Contacts as the contacts page has them. Write name, phone, email, username, tags, notes, preferences and conversation_status; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.contacts_v2.name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.contacts_v2.marketing_stopped_at is
    'Since when the person takes no marketing messages on WhatsApp, by their own choice there; read-only.';
comment on column public.contacts_v2.conversation_status is
    'open, pending or closed: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.contacts_v2.conversation_id is
    'The current conversation, to which a written status goes.';


select private.limit_writes('contacts_v2', '{insert,update,delete}');
