/*
    The live chat's face of a contact: status with a capital, and the columns of a list of chats.
*/
select private.make_face(
    view_name => 'contacts_live_chat',
    face => 'live_chat',
    more => array[
        's.customer_wa_id as wa_id', 's.conversation_id', 's.channel', 's.last_message_at',
        's.last_inbound_at'
    ]
);


comment on view public.contacts_live_chat is
    'Contacts, as the live chat shows them. Write name, phone, email, username, tags and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409).';
comment on column public.contacts_live_chat.id is
    'Identifies the contact.';
comment on column public.contacts_live_chat.account_id is
    'The account that knows the contact.';
comment on column public.contacts_live_chat.name is
    'The name that staff gave, or else that of the WhatsApp profile.';
comment on column public.contacts_live_chat.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.contacts_live_chat.wa_id is
    'The WhatsApp id to which replies in the current conversation go.';
comment on column public.contacts_live_chat.username is
    'The person''s latest known WhatsApp username, without @.';
comment on column public.contacts_live_chat.email is
    'One email address.';
comment on column public.contacts_live_chat.tags is
    'Labels that staff give, at most 100.';
comment on column public.contacts_live_chat.conversation_status is
    'Open, Pending or Closed: the status of the current conversation (latest activity), or the contact''s own before the first one.'
    ' Type: "Open" | "Pending" | "Closed"';
comment on column public.contacts_live_chat.conversation_id is
    'The current conversation, which gets a written status; null before the first one.';
comment on column public.contacts_live_chat.channel is
    'The channel of the current conversation: whatsapp, booking or portal.';
comment on column public.contacts_live_chat.last_message_at is
    'When the latest message of the current conversation was sent (UTC).';
comment on column public.contacts_live_chat.last_inbound_at is
    'When the customer last wrote or called in the current conversation: on WhatsApp by WhatsApp''s clock (UTC).';
comment on column public.contacts_live_chat.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.contacts_live_chat.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.contacts_live_chat.version is
    'Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since.';


select private.limit_writes('contacts_live_chat', '{insert,update,delete}');
