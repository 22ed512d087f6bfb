/*
    The contacts page's face of a contact: status in lower case.
*/
select private.make_face(
    view_name => 'contacts_v2',
    face => 'contacts_page',
    more => array['s.conversation_id']
);


comment on view public.contacts_v2 is
    'Contacts, as the contacts page shows them. Write name, phone, email, username, tags, notes, preferences and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409).';
comment on column public.contacts_v2.id is
    'Identifies the contact.';
comment on column public.contacts_v2.account_id is
    'The account that knows the contact.';
comment on column public.contacts_v2.name is
    'The name that staff gave, or else that of the WhatsApp profile.';
comment on column public.contacts_v2.profile_name is
    'The name of the person''s WhatsApp profile; read-only.';
comment on column public.contacts_v2.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.contacts_v2.username is
    'The person''s latest known WhatsApp username, without @.';
comment on column public.contacts_v2.email is
    'One email address.';
comment on column public.contacts_v2.tags is
    'Labels that staff give, at most 100.';
comment on column public.contacts_v2.notes is
    'Notes of staff, at most 20,000 characters; customers do not see them.';
comment on column public.contacts_v2.preferences is
    'The customer''s choices: an object of at most 8 KB.';
comment on column public.contacts_v2.marketing_stopped_at is
    'Since when the person takes no marketing messages on WhatsApp, by WhatsApp''s clock (UTC): the person''s own choice, read-only.';
comment on column public.contacts_v2.conversation_status is
    'open, pending or closed: the status of the current conversation (latest activity), or the contact''s own before the first one.'
    ' Type: "open" | "pending" | "closed"';
comment on column public.contacts_v2.conversation_id is
    'The current conversation, which gets a written status; null before the first one.';
comment on column public.contacts_v2.portal_user_id is
    'The login (auth.users) with which the person enters the portal; null without one.';
comment on column public.contacts_v2.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.contacts_v2.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.contacts_v2.version is
    'Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since.';


select private.limit_writes('contacts_v2', '{insert,update,delete}');
