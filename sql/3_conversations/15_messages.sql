/*
    The messages of a conversation, in both directions, with their status.
*/
-- Domains in place of checks on columns: every statement that writes the table parses a column's
-- check again (1 % of ingest each), but a domain's check is parsed once in a session. Postgres
-- checks a domain when it reads the values, before any trigger. So the domain itself refuses with
-- a sentence.
create domain public.message_sender as text
    constraint message_sender_check check (
        value is null
        or value in ('client', 'operator', 'system')
        or private.refuse_value(
            'sender_type',
            'This is not a sender_type of messages.',
            'Leave it out; the database fills it in.')
    );

create domain public.message_status as text
    constraint message_status_check check (
        value is null
        or value in ('queued', 'sent', 'delivered', 'read', 'failed', 'unknown')
        or private.refuse_value(
            'status',
            'This is not a status of messages.',
            'Leave it out; a new message is queued or sent.')
    );

create domain public.message_sender_name as text
    constraint message_sender_name_check check (
        value is null
        or length(value) <= 200
        or private.refuse_value(
            'sender_name',
            'A sender''s name has at most 200 characters.',
            'Leave it out; the database fills it in.')
    );

create domain public.message_client_ref as text
    constraint message_client_ref_check check (
        value is null
        or length(value) <= 128
        or private.refuse_value(
            'client_ref', 'A client_ref has at most 128 characters.', 'Use a uuid.')
    );

create table public.messages (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    conversation_id     uuid not null,
    -- null in a group
    customer_id         uuid,
    -- that of the conversation
    booking_id          uuid,
    -- 1, 2, 3 … in a conversation, in the order of arrival and without a gap, so that a
    -- client knows the missed ones; in this order they are shown
    seq                 bigint not null,
    sender_type         public.message_sender not null,
    -- the WhatsApp id or user id of a client, the user id of an operator
    sender_id           text,
    sender_name         public.message_sender_name,
    -- the provider's name for it: text, image, location …
    type                text not null default 'text',
    message             text not null,
    -- the provider's object for the type; null for plain text
    content             jsonb,
    reply_to            uuid,
    -- with it, an offline client's repeated send stays one message
    client_ref          public.message_client_ref,
    -- that of the conversation
    whatsapp_channel_id uuid,
    -- the provider's id: a webhook that comes twice finds it taken
    provider_id         text,
    -- from the phone app's history: nobody waits for an answer
    is_history          boolean not null default false,
    status              public.message_status not null,
    error_code          integer,
    error_message       text,
    -- later reactions, edits and deletions, see private.message_effects
    reactions           jsonb not null default '[]',
    has_invoice         boolean not null default false,
    invoice_data        jsonb,
    -- the provider's times; created_at and updated_at are the server's
    sent_at             timestamptz,
    delivered_at        timestamptz,
    read_at             timestamptz,
    failed_at           timestamptz,
    edited_at           timestamptz,
    revoked_at          timestamptz,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    version             bigint not null default 1,

    constraint messages_conversation_id_seq_key unique (conversation_id, seq),
    constraint messages_provider_id_key unique (whatsapp_channel_id, provider_id),
    -- a conversation that moves to another contact takes its messages with it
    constraint messages_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint messages_reply_to_fkey
        foreign key (reply_to)
        references public.messages
        on delete set null,
    -- only messages on WhatsApp have an id of WhatsApp
    constraint messages_provider_id_check
        check (provider_id is null or whatsapp_channel_id is not null),
    constraint messages_invoice_data_check
        check (has_invoice = (invoice_data is not null)),
    -- proof of delivery outranks a failure, and a read message has been delivered
    constraint messages_status_time_check check (
        (status <> 'read' or read_at is not null)
        and (status <> 'failed' or failed_at is not null and delivered_at is null)
        and (read_at is null or delivered_at is not null)
    )
);
alter table public.messages enable row level security;
-- clients compare the old row with the new one
alter table public.messages replica identity full;


-- an offline client's repeated send is one message
create unique index messages_client_ref_key
    on public.messages (account_id, sender_type, sender_id, client_ref)
    where client_ref is not null;

create index messages_customer_id_idx
    on public.messages (customer_id, sent_at);

-- the conversation of a booking
create index messages_booking_id_idx
    on public.messages (booking_id, seq)
    where booking_id is not null;

create index messages_reply_to_idx
    on public.messages (reply_to)
    where reply_to is not null;


create policy "members and the customer can read a message"
    on public.messages
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );


grant select on public.messages to authenticated;


create trigger _050_keep_owner
    before update of account_id, conversation_id, whatsapp_channel_id, booking_id on public.messages
    for each row
    when (
        (new.account_id, new.conversation_id, new.whatsapp_channel_id, new.booking_id)
        is distinct from
        (old.account_id, old.conversation_id, old.whatsapp_channel_id, old.booking_id)
    )
    execute function private.tg__keep_owner(
        'account_id', 'conversation_id', 'whatsapp_channel_id', 'booking_id');

create trigger _100_stamp_change
    before update on public.messages
    for each row
    execute function private.tg__stamp_change();


comment on domain public.message_sender is
    'Who wrote a message: the customer (client), staff (operator) or the software (system).';
comment on domain public.message_status is
    'The status of a message: queued, sent, delivered, read, failed or unknown.';
comment on domain public.message_sender_name is
    'The name of a sender, at most 200 characters.';
comment on domain public.message_client_ref is
    'A sender''s own id of a message, at most 128 characters.';
comment on table public.messages is
    'The messages of conversations, in both directions, with their status.';
comment on column public.messages.id is
    'Identifies the message. A client may choose it.';
comment on column public.messages.account_id is
    'The account of the conversation.';
comment on column public.messages.conversation_id is
    'The conversation.';
comment on column public.messages.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.messages.seq is
    'The message''s number in its conversation: 1, 2, 3 … without a gap, in the order of arrival, in which they are shown; the first ones may have been deleted (accounts.messages_kept_days). The time and day to show is sent_at.';
comment on column public.messages.sender_type is
    'Who wrote: client (the customer), operator (staff) or system.';
comment on column public.messages.sender_id is
    'The writer: a user''s id, or the WhatsApp id or user id of a person on WhatsApp; null for the system.';
comment on column public.messages.sender_name is
    'The writer''s name when the message was written.';
comment on column public.messages.type is
    'text, image, location … as WhatsApp names it; system for notices.';
comment on column public.messages.message is
    'The text; for a type without text a placeholder, such as [image].';
comment on column public.messages.content is
    'The provider''s object for the type; null for plain text. For a notice: {event, …}.';
comment on column public.messages.reply_to is
    'The message that this one answers.';
comment on column public.messages.client_ref is
    'The sender''s own id of the message, at most 128 characters, unique for each sender. A repeated send stays one message.';
comment on column public.messages.whatsapp_channel_id is
    'The account''s WhatsApp number of the conversation; null on other channels.';
comment on column public.messages.provider_id is
    'WhatsApp''s id of the message; null before WhatsApp has accepted it, and on other channels.';
comment on column public.messages.status is
    'queued, sent, delivered, read, failed or unknown (WhatsApp has not answered).';
comment on column public.messages.sent_at is
    'When the message was sent (UTC): by WhatsApp''s clock, or when it was written here.';
comment on column public.messages.is_history is
    'Whether the message comes from the phone app''s history, from before the number came here. It is never unread and opens no window.';
comment on column public.messages.delivered_at is
    'When the message was delivered (UTC): on WhatsApp by WhatsApp''s clock.';
comment on column public.messages.read_at is
    'When the receiver read the message (UTC): on WhatsApp by WhatsApp''s clock.';
comment on column public.messages.failed_at is
    'When the message failed (UTC).';
comment on column public.messages.error_code is
    'The error code of a failed message.';
comment on column public.messages.error_message is
    'A sentence that says why the message failed.';
comment on column public.messages.created_at is
    'When the row was inserted (server time, UTC).';
comment on column public.messages.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.messages.version is
    'Rises by 1 with each change of the row.';
comment on column public.messages.reactions is
    'The latest reaction of each person; sender_id is null outside groups.'
    ' Type: {sender_type: messages.sender_type, sender_id: text | null, emoji: text, at: timestamptz}[]';
comment on column public.messages.edited_at is
    'When the sender last edited the message (UTC); message and content are the edited ones.';
comment on column public.messages.revoked_at is
    'When the sender deleted the message for everybody (UTC). message is empty and content null; the row and its seq stay.';
comment on column public.messages.booking_id is
    'The job that the conversation is about; null on other channels.';
comment on column public.messages.has_invoice is
    'Whether the message shows an invoice.';
comment on column public.messages.invoice_data is
    'The invoice that the message shows, as it was then. amount_minor is in minor units, such as cents.'
    ' Type: {invoice_id: uuid, number: text, amount_minor: bigint, currency: text, status: invoices.status, due_on: date | null} | null';
comment on constraint messages_invoice_data_check on public.messages is
    'A message with an invoice needs invoice_data.
Give invoice_data {invoice_id}, or leave has_invoice out.';
comment on policy "members and the customer can read a message" on public.messages is
    'Both sides of a conversation read all its messages.';


select private.follow_table(
    table_name => 'messages',
    shown => array[
        'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type', 'sender_id',
        'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref', 'provider_id',
        'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at', 'error_code',
        'error_message', 'created_at', 'updated_at', 'version', 'reactions', 'edited_at',
        'revoked_at', 'booking_id', 'has_invoice', 'invoice_data', 'whatsapp_channel_id', 'is_history'
    ]
);
