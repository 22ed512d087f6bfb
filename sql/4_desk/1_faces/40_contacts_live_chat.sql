/*
    The live chat's face of a contact: status with a capital, and what a list of chats shows.
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
    'Contacts as the live chat has them. Write name, phone, email, username, tags and conversation_status; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.contacts_live_chat.name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.contacts_live_chat.wa_id is
    'The WhatsApp id to which replies in the current conversation go.';
comment on column public.contacts_live_chat.conversation_status is
    'Open, Pending or Closed: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.contacts_live_chat.conversation_id is
    'The current conversation, to which a written status goes.';
comment on column public.contacts_live_chat.channel is
    'The channel of the current conversation: whatsapp, booking or portal.';


select private.limit_writes('contacts_live_chat', '{insert,update,delete}');
