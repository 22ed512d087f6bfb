/*
    What was said in a conversation, in either direction, and what became of it.
*/
-- Types, not checks of the columns: a check on a column is parsed anew by every statement that
-- writes the table, 1 % of ingest each, and that of a domain once in a session. A domain is
-- looked at while the values are read, before any trigger, so that it refuses in words itself.
create domain public.message_sender as text
    constraint message_sender_check check (
        value is null
        or value in ('client', 'operator', 'system')
        or private.refuse_value(
            'sender_type',
            'This is not a sender of messages.',
            'Leave it out; the database says who writes.')
    );

create domain public.message_status as text
    constraint message_status_check check (
        value is null
        or value in ('queued', 'sent', 'delivered', 'read', 'failed', 'unknown')
        or private.refuse_value(
            'status',
            'This is not a status of messages.',
            'Leave it out; a message is queued or sent.')
    );

create domain public.message_sender_name as text
    constraint message_sender_name_check check (
        value is null
        or length(value) <= 200
        or private.refuse_value(
            'sender_name',
            'A sender''s name has at most 200 characters.',
            'Leave it out; the database says who writes.')
    );

create domain public.message_client_ref as text
    constraint message_client_ref_check check (
        value is null
        or length(value) <= 128
        or private.refuse_value(
            'client_ref', 'A client_ref has at most 128 characters.', 'A uuid is short enough.')
    );

create table public.messages (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    conversation_id     uuid not null,
    -- null in a group
    customer_id         uuid,
    -- the conversation's, see new_messages
    booking_id          uuid,
    -- 1, 2, 3 … in a conversation, in the order of arrival and without a gap, so that a
    -- client knows what it has missed; the order to show is that of sent_at
    seq                 bigint not null,
    sender_type         public.message_sender not null,
    -- a client's WhatsApp id or user, an operator's user
    sender_id           text,
    sender_name         public.message_sender_name,
    -- the provider's word: text, image, location …
    type                text not null default 'text',
    message             text not null,
    -- what a text can't say, as the provider sent it; null for plain text
    content             jsonb,
    reply_to            uuid,
    -- makes an offline client's repeated send one message
    client_ref          public.message_client_ref,
    -- the conversation's, see new_messages
    whatsapp_channel_id uuid,
    -- the provider's id: a webhook delivered twice finds it taken
    provider_id         text,
    -- told after the fact by the phone app's history: nobody is waiting for an answer
    is_history          boolean not null default false,
    status              public.message_status not null,
    error_code          integer,
    error_message       text,
    -- what others have made of it since, see message_effects
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
    -- a conversation given to another contact takes its messages with it
    constraint messages_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint messages_reply_to_fkey
        foreign key (reply_to)
        references public.messages
        on delete set null,
    -- only what WhatsApp carries has an id of WhatsApp's
    constraint messages_provider_id_check
        check (provider_id is null or whatsapp_channel_id is not null),
    constraint messages_invoice_data_check
        check (has_invoice = (invoice_data is not null)),
    -- evidence of delivery outranks a failure, and nothing is read undelivered
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

-- a booking's chat
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
    before update on public.messages
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
    'How far a message has come.';
comment on domain public.message_sender_name is
    'At most 200 characters.';
comment on domain public.message_client_ref is
    'At most 128 characters.';
comment on table public.messages is
    'What was said in a conversation, in either direction, and what became of it.';
comment on column public.messages.seq is
    'Gapless in a conversation, by arrival; show messages by sent_at.';
comment on column public.messages.message is
    'The text, or a placeholder such as [image] for what has none.';
comment on column public.messages.content is
    'The provider''s message object, for every type but text.';
comment on column public.messages.client_ref is
    'The sender''s own id of a message, unique per sender: a repeated send is one message.';
comment on column public.messages.sent_at is
    'When it was sent: by the provider''s clock, or for what is written here, when it was written.';
comment on column public.messages.is_history is
    'Whether it was said before the number came here, and was read from the phone app''s history: it is never unread and opens no window.';
comment on column public.messages.reactions is
    'Who reacts with what: [{sender_type, sender_id, emoji, at}], the latest of each; sender_id is null outside groups.';
comment on column public.messages.edited_at is
    'When its sender edited it last; message and content are the edited ones.';
comment on column public.messages.revoked_at is
    'When its sender deleted it for everybody: message is empty and content null. The row stays, its seq with it.';
comment on column public.messages.booking_id is
    'The job that the conversation is about; null on other channels.';
comment on column public.messages.invoice_data is
    'The invoice that is shown with the message, as it stood then: {invoice_id, number, amount_minor, currency, status, due_on}.';
comment on constraint messages_invoice_data_check on public.messages is
    'An invoice is shown by its invoice_data.
Give invoice_data {invoice_id}, or leave has_invoice out.';
comment on policy "members and the customer can read a message" on public.messages is
    'Both sides of a conversation read all of it.';


-- new messages are told by private.tg_messages__publish_new
select private.follow_table(
    table_name => 'messages',
    shown => array[
        'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type', 'sender_id',
        'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref', 'provider_id',
        'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at', 'error_code',
        'error_message', 'created_at', 'updated_at', 'version', 'reactions', 'edited_at',
        'revoked_at', 'booking_id', 'has_invoice', 'invoice_data', 'whatsapp_channel_id', 'is_history'
    ],
    tells_inserts => false
);
