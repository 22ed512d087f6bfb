-- Made from sql/3_conversations/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    A conversation: messages with one customer, or with a group on WhatsApp. Rows, topics, URLs
    and events all name it by its id.

    A group's conversation has no customer: no customer's login may read it, no contact owns it,
    and no merge moves it. Its rows refer to it without a foreign key, because that key needs the
    customer.
*/
create table public.conversations (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    -- null for a group
    customer_id         uuid,
    channel             text not null
                        constraint conversations_channel_check
                        check (channel in ('whatsapp', 'booking', 'portal')),
    whatsapp_channel_id uuid,
    -- the job that a booking's conversation is about
    booking_id          uuid,
    -- who the customer is on this channel: a WhatsApp conversation belongs to the number that
    -- writes, so a merge of contacts never joins two conversations
    thread_key          text not null,
    -- the exact spelling to which replies go
    customer_wa_id      text,
    -- WhatsApp's id of a group
    group_id            text
                        constraint conversations_group_id_check
                        check (length(group_id) between 1 and 512),
    -- name, state and participants of a group are derived from private.group_events
    group_name          text
                        constraint conversations_group_name_check check (length(group_name) <= 200),
    group_state         text
                        constraint conversations_group_state_check
                        check (group_state in ('active', 'suspended', 'deleted')),
    participants        jsonb not null default '[]',
    status              text not null default 'open'
                        constraint conversations_status_check
                        check (status in ('open', 'pending', 'closed')),
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    version             bigint not null default 1,

    -- foreign keys with the account and the customer refer to this
    constraint conversations_id_account_id_customer_id_key unique (id, account_id, customer_id),
    -- and those of rows that only staff have, also of a group
    constraint conversations_id_account_id_key unique (id, account_id),
    constraint conversations_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint conversations_whatsapp_channel_fkey
        foreign key (whatsapp_channel_id, account_id)
        references public.whatsapp_channels (id, account_id)
        on delete cascade,
    -- only a WhatsApp conversation has a number of the account
    constraint conversations_whatsapp_channel_id_check
        check ((channel = 'whatsapp') = (whatsapp_channel_id is not null)),
    constraint conversations_booking_id_check
        check ((channel = 'booking') = (booking_id is not null)),
    constraint conversations_group_check
        check (
            (customer_id is null) = (group_id is not null)
            and (group_id is null) = (group_state is null)
            and (
                group_id is not null and channel = 'whatsapp'
                or group_name is null and participants = '[]'
            )
        )
);
alter table public.conversations enable row level security;


-- One open conversation with a thread_key: four photos that are sent at once come into one
-- conversation. Closed ones differ by their id, so one index finds them all.
create unique index conversations_open_thread_key
    on public.conversations (
        whatsapp_channel_id,
        account_id,
        thread_key,
        channel,
        (case when status = 'closed' then id end)
    )
    nulls not distinct;

-- a group has one conversation, which is opened again; a second one is never made
create unique index conversations_group_key
    on public.conversations (whatsapp_channel_id, group_id)
    where group_id is not null;

create index conversations_customer_idx
    on public.conversations (customer_id, account_id);

create index conversations_account_id_idx
    on public.conversations (account_id, id);

-- the inbox finds groups by their name, and an account has few
create index conversations_account_groups_idx
    on public.conversations (account_id, id)
    where group_id is not null;

-- a booking has one conversation, which is opened again; a second one is never made. Account and
-- customer are the job's, and the foreign key needs them
create unique index conversations_booking_key
    on public.conversations (booking_id, account_id, customer_id)
    where booking_id is not null;


grant select on public.conversations to authenticated;


create trigger _050_keep_owner
    before update of account_id, booking_id, group_id on public.conversations
    for each row
    when (
        (new.account_id, new.booking_id, new.group_id)
        is distinct from
        (old.account_id, old.booking_id, old.group_id)
    )
    execute function private.tg__keep_owner('account_id', 'booking_id', 'group_id');

create trigger _100_stamp_change
    before update on public.conversations
    for each row
    execute function private.tg__stamp_change();


create function private.tg_conversations__delete_group()
    returns trigger
    language plpgsql
    -- definer: like a foreign key, it deletes for every caller
    security definer
    set search_path = ''
as $$
begin
    delete from public.messages m where m.conversation_id = old.id;
    delete from public.conversation_activity a where a.conversation_id = old.id;
    delete from public.read_markers r where r.conversation_id = old.id;
    delete from public.scheduled_messages s where s.conversation_id = old.id;
    return null;
end
$$;

create trigger _500_delete_group
    after delete on public.conversations
    for each row
    when (old.group_id is not null)
    execute function private.tg_conversations__delete_group();


comment on table public.conversations is
    'A conversation with one customer, on WhatsApp, about a booking or in the portal, or with a group on WhatsApp.';
comment on column public.conversations.id is
    'Identifies the conversation in rows, topics, URLs and events.';
comment on column public.conversations.account_id is
    'The account whose staff take part.';
comment on column public.conversations.customer_id is
    'The contact that takes part; null for a group.';
comment on column public.conversations.channel is
    'whatsapp, booking or portal.';
comment on column public.conversations.whatsapp_channel_id is
    'The account''s WhatsApp number that carries the conversation; null on other channels.';
comment on column public.conversations.thread_key is
    'Who the customer is on this channel. Of the conversations with one key, one is open at a time.';
comment on column public.conversations.customer_wa_id is
    'The exact WhatsApp id to which replies go; null where WhatsApp has not told one.';
comment on column public.conversations.group_id is
    'WhatsApp''s id of the group; null for a conversation with one customer.';
comment on column public.conversations.group_name is
    'The group''s subject; null if WhatsApp has not told it.';
comment on column public.conversations.group_state is
    'active, suspended or deleted; messages go to an active group only. Null for a conversation with one customer.';
comment on column public.conversations.participants is
    'The present and former members of the group, as far as WhatsApp has told. A message''s sender_id is one of the two ids.'
    ' Type: {wa_id: text | null, user_id: text | null, name: text | null, is_member: boolean, joined_at: timestamptz | null, left_at: timestamptz | null}[]';
comment on column public.conversations.status is
    'open, pending or closed; written by set_conversation_status and through the contact''s faces.';
comment on column public.conversations.created_at is
    'When the conversation was made (server time, UTC).';
comment on column public.conversations.updated_at is
    'When the row last changed (server time, UTC); messages do not change it.';
comment on column public.conversations.version is
    'Rises by 1 with each change of the row.';
comment on column public.conversations.booking_id is
    'The job that a booking''s conversation is about; null on other channels.';
comment on function private.tg_conversations__delete_group() is
    'Deletes the messages, the activity, the read markers and what is to be sent later of a group''s conversation with it.';


select private.follow_table(
    table_name => 'conversations',
    shown => array[
        'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
        'customer_wa_id', 'group_id', 'group_name', 'group_state', 'participants', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
    ],
    conversation_key => 'id'
);


/*
    The part of a conversation that every message changes. It is a table of its own, so a message
    writes no new version of the conversation, no log entry and no event. Clients learn all of it
    from the message.
*/
create table public.conversation_activity (
    conversation_id uuid primary key,
    account_id      uuid not null,
    -- null in a group
    customer_id     uuid,
    -- The seq of the latest message. Messages are numbered under the conversation's lock, by
    -- post_messages, post_notices and append_whatsapp_messages. Each numbers in the statement that
    -- it has to run anyway: a function would be one statement more for each message.
    last_seq        bigint not null default 0,
    last_message_at timestamptz not null default now(),
    -- opens WhatsApp's 24-hour window
    last_inbound_at timestamptz,

    constraint conversation_activity_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table public.conversation_activity enable row level security;


-- the inbox, latest first
create index conversation_activity_inbox_idx
    on public.conversation_activity (account_id, last_message_at desc, conversation_id);

create index conversation_activity_customer_id_idx
    on public.conversation_activity (customer_id);


grant select on public.conversation_activity to authenticated;


create function private.tg_conversations__start_activity()
    returns trigger
    language plpgsql
    -- definer: users may not write activity
    security definer
    set search_path = ''
as $$
begin
    insert into public.conversation_activity (
        conversation_id, account_id, customer_id, last_message_at
    )
    select n.id, n.account_id, n.customer_id, n.created_at
    from new_rows n;
    return null;
end
$$;

create trigger _500_start_activity
    after insert on public.conversations
    referencing new table as new_rows
    for each statement
    execute function private.tg_conversations__start_activity();


comment on table public.conversation_activity is
    'The latest seq and times of each conversation, one row for each. Sort the inbox by last_message_at.';
comment on column public.conversation_activity.conversation_id is
    'The conversation.';
comment on column public.conversation_activity.account_id is
    'The account of the conversation.';
comment on column public.conversation_activity.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.conversation_activity.last_seq is
    'The seq of the latest message, 0 before the first. All seqs from 1 to it have existed; the first ones may be gone, see accounts.messages_kept_days.';
comment on column public.conversation_activity.last_message_at is
    'When the latest message was sent (messages.sent_at, UTC); before the first message, when the conversation was made.';
comment on column public.conversation_activity.last_inbound_at is
    'When the customer last wrote or called: on WhatsApp by WhatsApp''s clock (UTC). It opens the 24-hour window.';
comment on function private.tg_conversations__start_activity() is
    'Inserts the activity of a new conversation.';


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


/*
    The effects of new messages, from every writer: they are checked against their conversation, and
    queued. Like all followed tables, messages are logged and broadcast by private.tg__publish. (A
    way of their own, without JSON, was measured: 4% less work for a webhook.)

    Three foreign keys are missing on purpose, so this function checks instead. To the number: all
    messages of a number would queue for one row. To the booking: it would be locked after its
    conversation, and a merge locks it before. A second one to the conversation: a client that
    embeds messages in conversations would have to name the key.
*/
create function private.tg_messages__take_new()
    returns trigger
    language plpgsql
    -- definer: reads the conversation, and writes the queues, for every writer
    security definer
    set search_path = ''
    -- as in the followed tables' own triggers
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    media_types constant text[] := array['image', 'video', 'audio', 'document', 'sticker'];
    is_of_its_thread boolean;
    queued uuid[];
    with_media uuid[];
    with_upload uuid[];
begin
    select
        bool_and(
            thread.is_there is not null
            -- the foreign key checks none of this for a group
            and thread.account_id = n.account_id
            and thread.customer_id is not distinct from n.customer_id
            and thread.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
            and thread.booking_id is not distinct from n.booking_id
        ),
        array_agg(n.id) filter (where n.status = 'queued'),
        -- It came by WhatsApp: from the customer, or as an echo from our phone app.
        array_agg(n.id) filter (where n.type = any (media_types) and n.provider_id is not null),
        -- other files are at WhatsApp, by id, or at a link
        array_agg(n.id) filter (
            where n.type = any (media_types)
              and n.status = 'queued'
              and n.content ? 'upload_id'
        )
    into is_of_its_thread, queued, with_media, with_upload
    from new_rows n
    left join lateral (
        select
            true as is_there, c.account_id, c.customer_id, c.whatsapp_channel_id, c.booking_id
        from public.conversations c
        where c.id = n.conversation_id
        limit 1
    ) thread on true;
    if not is_of_its_thread then
        raise foreign_key_violation using
            message = 'A message must have the account, the customer, the WhatsApp number and the booking of its conversation.';
    end if;
    if with_media is not null then
        perform private.expect_media(with_media);
    end if;
    if with_upload is not null then
        perform private.attach_uploads(with_upload);
    end if;
    if queued is not null then
        perform private.enqueue_messages(queued);
    end if;
    return null;
end
$$;

create trigger _950_take_new
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__take_new();


comment on function private.tg_messages__take_new() is
    'Checks the WhatsApp number and the booking of new messages against their conversation and so the tenant, notes their files, and queues the messages to send.';


/*
    How far each user has read a conversation. The number of unread messages is derived from it.
    It is never counted up and down, so it can't drift.
*/
create table public.read_markers (
    conversation_id uuid not null,
    user_id         uuid not null,
    account_id      uuid not null,
    -- null in a group
    customer_id     uuid,
    last_read_seq   bigint not null
                    constraint read_markers_last_read_seq_check check (last_read_seq >= 0),
    read_at         timestamptz not null default now(),

    primary key (conversation_id, user_id),
    -- a conversation that moves to another contact takes its markers with it
    constraint read_markers_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table public.read_markers enable row level security;


-- a client asks for the latest ones, since the user may have read on another device
create index read_markers_user_id_idx on public.read_markers (user_id, read_at);


grant select on public.read_markers to authenticated;


create function private.receipt_messages(
    conversation_id uuid,
    after_seq bigint,
    up_to_seq bigint,
    senders text[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    seen constant uuid[] := array(
        select m.id
        from public.messages m
        where m.conversation_id = receipt_messages.conversation_id
          and m.seq > after_seq
          and m.seq <= up_to_seq
          and m.sender_type = any (senders)
          and m.status in ('sent', 'delivered')
        order by m.id
        for no key update
    );
begin
    -- an update that finds no row would still run the table's triggers
    if seen <> '{}' then
        update public.messages m
        set status = 'read',
            delivered_at = coalesce(m.delivered_at, now()),
            read_at = now()
        where m.id = any (seen);
    end if;
end
$$;


create function private.hold_conversation(conversation_id uuid)
    returns public.conversations
    language plpgsql
    set search_path = ''
as $$
declare
    held public.conversations;
begin
    -- the lock keeps the conversation with this contact until the marker is written
    select k.*
    into held
    from public.conversations k
    where k.id = hold_conversation.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      )
    for key share;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', hold_conversation.conversation_id);
    end if;
    return held;
end
$$;


create function private.write_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    read_conversation constant public.conversations := private.hold_conversation(conversation_id);
    former bigint;
    reached bigint;
begin
    if up_to_seq is null or up_to_seq < 0 then
        raise sqlstate 'PT422' using
            message = 'up_to_seq must be 0 or more.',
            detail = 'field: up_to_seq',
            hint = 'Send the seq of the latest message that the user has seen.';
    end if;

    select r.last_read_seq
    into former
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    select
        a.conversation_id,
        reader,
        read_conversation.account_id,
        read_conversation.customer_id,
        -- a message that does not exist yet is not read
        least(up_to_seq, a.last_seq)
    from public.conversation_activity a
    where a.conversation_id = write_read_marker.conversation_id
    on conflict on constraint read_markers_pkey do update
        set last_read_seq = excluded.last_read_seq,
            read_at = excluded.read_at
        where excluded.last_read_seq > r.last_read_seq;

    select r.last_read_seq
    into reached
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

    -- on WhatsApp, WhatsApp itself reports the status
    if read_conversation.channel <> 'whatsapp' and reached > coalesce(former, 0) then
        perform private.receipt_messages(
            conversation_id => write_read_marker.conversation_id,
            after_seq => coalesce(former, 0),
            up_to_seq => reached,
            senders => case
                when read_conversation.account_id in (select private.my_writable_account_ids())
                    then array['client']
                -- a message that only a viewer has seen is not read by the business
                when read_conversation.account_id in (select private.my_account_ids())
                    then '{}'
                else array['operator', 'system']
            end
        );
    end if;
    return reached;
end
$$;


create function private.write_read_marker_at_once(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
    -- the shortest limit: 0 is none
    set lock_timeout = '1ms'
as $$
begin
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Another request is changing this conversation.',
            detail = format('conversation: %s', conversation_id),
            hint = 'Try again. In one transaction, mark conversations in the order of their ids.';
end
$$;


create function private.move_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    -- definer: only this function writes markers, and only the caller's own
    security definer
    set search_path = ''
as $$
declare
    furthest constant uuid := private.setting('rapport.read_conversation');
begin
    -- Conversations are locked in the order of their ids. A transaction that holds a later one
    -- does not wait for this one: the transaction that holds this one may be waiting for the later
    -- one.
    if conversation_id < furthest then
        return private.write_read_marker_at_once(
            conversation_id => conversation_id, up_to_seq => up_to_seq);
    end if;
    perform set_config('rapport.read_conversation', conversation_id::text, true);
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

grant execute on function private.move_read_marker(uuid, bigint) to authenticated;


create function public.mark_read(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return private.move_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

grant execute on function public.mark_read(uuid, bigint) to authenticated;


comment on table public.read_markers is
    'How far the signed-in user has read each conversation; moved by mark_read.';
comment on column public.read_markers.conversation_id is
    'The conversation.';
comment on column public.read_markers.user_id is
    'The reader: the signed-in user.';
comment on column public.read_markers.account_id is
    'The account of the conversation.';
comment on column public.read_markers.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.read_markers.last_read_seq is
    'The seq of the latest message that the user has read; 0 for none.';
comment on column public.read_markers.read_at is
    'When the marker last moved (server time, UTC).';
comment on function private.receipt_messages(uuid, bigint, bigint, text[]) is
    'Sets sent and delivered messages of the other side to read.';
comment on function private.hold_conversation(uuid) is
    'A conversation that the caller may read, locked so that it stays with its contact. Unknown: 404.';
comment on function private.write_read_marker(uuid, bigint) is
    'Moves the caller''s marker forward, never beyond the latest message; returns where it stands.';
comment on function private.write_read_marker_at_once(uuid, bigint) is
    'The same, but refused (503) if it would have to wait for a lock.';
comment on function private.move_read_marker(uuid, bigint) is
    'Moves the caller''s marker. In one transaction, it waits only for conversations in the order of their ids.';
comment on function public.mark_read(uuid, bigint) is
    'Marks a conversation as read by the caller up to this seq; the marker moves forward only, and not beyond the latest message. Returns the seq at which it stands. Staff, viewers too, and the conversation''s customer may call it. In the portal and about bookings it also sets the other side''s messages to read, except for a viewer. Unknown conversation: 404. In one transaction, out of the order of the ids and at work elsewhere: 503.';


/*
    Marks a conversation as unread: the marker goes back before the last message of the other side.
    Only the caller's own marker moves. Messages that were read stay read: the other side has been
    told so.
*/
create function private.move_marker_back(conversation_id uuid)
    returns bigint
    language plpgsql
    -- definer: only such functions write markers, and only the caller's own
    security definer
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    thread constant public.conversations := private.hold_conversation(conversation_id);
    is_staff constant boolean := thread.account_id in (select private.my_account_ids());
    last_seq bigint;
begin
    select m.seq
    into last_seq
    from public.messages m
    where m.conversation_id = move_marker_back.conversation_id
      and m.revoked_at is null
      and not m.is_history
      and m.sender_type = any (
          case when is_staff then array['client'] else array['operator', 'system'] end)
    order by m.seq desc
    limit 1;
    if not found then
        raise sqlstate 'PT409' using
            message = 'There is no message of the other side to read again.',
            detail = 'field: conversation_id',
            hint = 'Only a conversation in which the other side has written can be unread.';
    end if;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    values (
        move_marker_back.conversation_id, reader, thread.account_id, thread.customer_id, last_seq - 1
    )
    on conflict on constraint read_markers_pkey do update
        -- it only goes back: unread messages stay unread
        set last_read_seq = least(r.last_read_seq, excluded.last_read_seq),
            read_at = excluded.read_at
    returning r.last_read_seq into last_seq;
    return last_seq;
end
$$;

grant execute on function private.move_marker_back(uuid) to authenticated;


create function public.mark_unread(conversation_id uuid)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return private.move_marker_back(conversation_id);
end
$$;

grant execute on function public.mark_unread(uuid) to authenticated;


comment on function private.move_marker_back(uuid) is
    'Moves the caller''s marker before the last message of the other side; returns where it stands.';
comment on function public.mark_unread(uuid) is
    'Marks a conversation as unread by the caller: the marker goes back before the last message of the other side. Returns the seq at which it stands. The other side has not written: 409. Unknown conversation: 404.';


/*
    Notices: messages of the system in a conversation, such as that a job was moved or an invoice
    paid. The text is for people, with times in the account's time zone. The content ({event, …})
    is for clients that write a text of their own.

    A notice does not open a closed conversation again.
*/
create type private.notice as (
    account_id   uuid,
    customer_id  uuid,
    -- the job whose conversation gets the notice; null for the portal conversation
    booking_id   uuid,
    message      text,
    content      jsonb,
    invoice_data jsonb
);


create function private.threads_of_notices(notices private.notice[])
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    customer record;
    threads uuid[];
begin
    for customer in
        select distinct n.account_id, n.customer_id
        from unnest(notices) n
        join public.contacts c
            on c.id = n.customer_id
           and c.account_id = n.account_id
           -- a deleted contact gets no notice
           and c.deleted_at is null
        where n.booking_id is null
        order by n.customer_id
    loop
        perform private.open_portal_thread(
            account_id => customer.account_id, customer_id => customer.customer_id);
    end loop;

    threads := array(
        select case
            when n.booking_id is null then private.portal_thread(n.customer_id)
            else (
                select k.id
                from public.conversations k
                where k.booking_id = n.booking_id
            )
        end
        from unnest(notices) with ordinality as n (
            account_id, customer_id, booking_id, message, content, invoice_data, place
        )
        order by n.place
    );

    perform
    from public.conversations k
    where k.id = any (threads)
    order by k.id
    for no key update;
    return threads;
end
$$;


create function private.post_notices(notices private.notice[])
    returns void
    language plpgsql
    set search_path = ''
    -- few rows at a time, found by key
    set plan_cache_mode = force_generic_plan
as $$
declare
    threads uuid[];
begin
    if notices is null then
        return;
    end if;
    threads := private.threads_of_notices(notices);

    -- numbered as everywhere, see conversation_activity.last_seq
    with posted as (
        insert into public.messages (
            account_id, conversation_id, customer_id, booking_id, seq, sender_type, type, message,
            content, has_invoice, invoice_data, status, sent_at
        )
        select
            k.account_id,
            k.id,
            k.customer_id,
            k.booking_id,
            a.last_seq + row_number() over (partition by k.id order by t.place),
            'system',
            'system',
            (notices[t.place]).message,
            (notices[t.place]).content,
            (notices[t.place]).invoice_data is not null,
            (notices[t.place]).invoice_data,
            'sent',
            now()
        from unnest(threads) with ordinality as t (conversation_id, place)
        join public.conversations k
            on k.id = t.conversation_id
        join public.conversation_activity a
            on a.conversation_id = k.id
        order by k.id, t.place
        returning conversation_id
    )
    update public.conversation_activity a
    set last_seq = a.last_seq + p.added,
        last_message_at = greatest(a.last_message_at, now())
    from (
        select p.conversation_id, count(*) as added
        from posted p
        group by p.conversation_id
    ) p
    where a.conversation_id = p.conversation_id;
end
$$;


comment on type private.notice is
    'A message of the system for a customer and the staff, and its conversation.';
comment on function private.threads_of_notices(private.notice[]) is
    'The conversation of each notice, locked; null if nobody is left to read it.';
comment on function private.post_notices(private.notice[]) is
    'Writes notices as messages of the system, in their order.';


/*
    Deletes a message of a booking's or the portal's conversation: its contents are removed for
    both sides, and the row stays with its seq. A message that WhatsApp has carried can't be
    deleted here.
*/
create function private.revoke_message(message_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not change messages; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    revoked public.messages;
    me constant uuid := auth.uid();
    is_staff boolean;
    is_mine boolean;
begin
    select m.*
    into revoked
    from public.messages m
    where m.id = message_id
      and (
          m.account_id in (select private.my_account_ids())
          or m.customer_id in (select private.my_customer_ids())
      )
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;

    is_staff := revoked.account_id in (select private.my_writable_account_ids());
    is_mine := case revoked.sender_type
        when 'operator' then is_staff
        when 'client' then
            revoked.sender_id = me::text
            and revoked.customer_id in (select private.my_customer_ids())
    end;
    if is_mine is not true then
        raise insufficient_privilege using
            message = 'This message is not yours to delete.',
            hint = 'Customers delete their own messages; owners, admins and agents delete those of the business.';
    elsif revoked.whatsapp_channel_id is not null then
        raise sqlstate 'PT422' using
            message = 'A WhatsApp message can''t be deleted here.',
            detail = 'field: message_id',
            hint = 'Delete only messages of the portal and of bookings; drop_message withdraws a WhatsApp message that is still queued.';
    end if;

    -- a second call changes nothing
    if revoked.revoked_at is null then
        update public.messages m
        set message = '',
            content = null,
            has_invoice = false,
            invoice_data = null,
            revoked_at = now()
        where m.id = message_id
        returning * into revoked;
    end if;
    return to_jsonb(revoked);
end
$$;

grant execute on function private.revoke_message(uuid) to authenticated;


create function public.delete_message(message_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.revoke_message(message_id);
end
$$;

grant execute on function public.delete_message(uuid) to authenticated;


comment on function private.revoke_message(uuid) is
    'Removes the contents of a message, if the caller may; returns the message.';
comment on function public.delete_message(uuid) is
    'Deletes a message of a booking''s or the portal''s conversation for both sides: a customer''s own, or for staff one of the business. The row stays without contents, with revoked_at. Returns the row. Not the caller''s: 403. On WhatsApp: 422.'
    ' Type: messages';


/*
    Older systems name a conversation by account, number and customer in one string. This function
    finds the conversation for such a key. No other place knows these keys.
*/
create function public.resolve_conversation(reference text)
    returns uuid
    language plpgsql
    stable
    -- invoker: the caller finds only conversations that it may read
    set search_path = ''
as $$
declare
    parts constant text[] := string_to_array(reference, '_');
    found_id uuid;
begin
    if pg_input_is_valid(reference, 'uuid') then
        select c.id
        into found_id
        from public.conversations c
        where c.id = reference::uuid;
    elsif cardinality(parts) = 3 and parts[2] ~ '^[0-9]{1,32}$' and parts[3] ~ '^[0-9]{1,32}$' then
        select c.id
        into found_id
        from public.accounts a
        join public.whatsapp_channels w
            on w.account_id = a.id
        join public.conversations c
            on c.account_id = a.id
           and c.whatsapp_channel_id = w.id
        join public.conversation_activity v
            on v.conversation_id = c.id
        where a.external_id = parts[1]
          and w.phone_number_id = parts[2]
          and c.thread_key = 'phone:' || private.match_key(kind => 'phone', value => parts[3])
        -- the open conversation, or else the latest
        order by (c.status <> 'closed') desc, v.last_message_at desc, c.id
        limit 1;
    else
        raise sqlstate 'PT422' using
            message = 'A conversation is named by its uuid, or by account, number and customer joined by underscores.',
            detail = 'field: reference; reference: ' || coalesce(quote_literal(left(reference, 128)), 'missing'),
            hint = 'Give its uuid, or a key such as 695a15a5c526dbe7c085ece2_1003427786179738_38640111222.';
    end if;

    if found_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'reference: ' || quote_literal(left(reference, 128));
    end if;
    return found_id;
end
$$;

grant execute on function public.resolve_conversation(text) to authenticated;
grant execute on function private.match_key(text, text) to authenticated;


comment on function public.resolve_conversation(text) is
    'The uuid of a conversation, from a uuid or an older key such as 695a15a5c526dbe7c085ece2_1003427786179738_923456789012 (account, phone number id, customer number). Unknown: 404.';


/*
    Writes the status of one conversation. The faces of a contact write only the status of its
    current conversation; this reaches every conversation.
*/
create function private.write_conversation_status(conversation_id uuid, word text, face text)
    returns void
    language plpgsql
    -- definer: users may not write conversations; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    wanted constant text := private.status_of_word(
        face => write_conversation_status.face, word => write_conversation_status.word);
    written record;
begin
    -- a group's conversation has no contact
    select k.account_id, k.status, null::uuid as contact_id
    into written
    from public.conversations k
    where k.id = write_conversation_status.conversation_id
      and k.account_id in (select private.my_account_ids())
      and k.customer_id is null;
    if not found then
        -- the lock keeps the contact until the status is written
        select k.account_id, k.status, c.id as contact_id
        into written
        from public.conversations k
        join public.contacts c
            on c.id = k.customer_id
           and c.account_id = k.account_id
        where k.id = write_conversation_status.conversation_id
          and k.account_id in (select private.my_account_ids())
          and c.deleted_at is null
        for no key update of c;
    end if;
    if written.account_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to change.',
            detail = format('conversation: %s', conversation_id);
    end if;

    perform private.require_writable(written.account_id);
    if written.status <> wanted and written.contact_id is not null then
        -- before the conversation, in the lock order
        update public.contacts c
        set status_changed_at = clock_timestamp()
        where c.id = written.contact_id;
    end if;
    perform private.set_conversation_status(
        conversation_id => write_conversation_status.conversation_id, status => wanted);
end
$$;

grant execute on function private.write_conversation_status(uuid, text, text) to authenticated;


create function public.set_conversation_status(
    conversation_id uuid,
    status text,
    face text default 'contacts_page'
)
    returns text
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.write_conversation_status(
        conversation_id => conversation_id, word => status, face => face);
    return status;
end
$$;

grant execute on function public.set_conversation_status(uuid, text, text) to authenticated;


create function private.set_conversation_status(conversation_id uuid, status text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    opened uuid;
begin
    update public.conversations k
    set status = set_conversation_status.status
    where k.id = set_conversation_status.conversation_id
      and k.status <> set_conversation_status.status;
exception
    when unique_violation then
        select o.id
        into opened
        from public.conversations k
        join public.conversations o
            on o.account_id = k.account_id
           and o.channel = k.channel
           and o.whatsapp_channel_id is not distinct from k.whatsapp_channel_id
           and o.thread_key = k.thread_key
           and o.status <> 'closed'
        where k.id = set_conversation_status.conversation_id;
        raise sqlstate 'PT409' using
            message = 'Another conversation with the same person is open.',
            detail = format('field: conversation_status; conversation: %s', opened),
            hint = 'Go on in that conversation, or close it first.';
end
$$;


comment on function private.write_conversation_status(uuid, text, text) is
    'Writes a conversation''s status in the word of a face; refuses a caller who may not.';
comment on function public.set_conversation_status(uuid, text, text) is
    'Sets a conversation to open, pending or closed, in the word of a face (contacts_page, live_chat, wati, portal, erp); returns the word. Another conversation with the same person is open: 409. Not a member of the account: 404.'
    ' Type: (face: status_words.face) => text';
comment on function private.set_conversation_status(uuid, text) is
    'Writes a conversation''s status; refused if another conversation with the same person is open.';


/*
    WhatsApp's 24-hour window: free text may be sent until 24 hours after the person last wrote to
    this number, or called it. After that only a template may be sent. Clients that show the
    window and the sender follow the same rule. (Source: developers.facebook.com, WhatsApp Cloud
    API, "Send messages".)
*/
create function private.window_closes_at(conversation_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- of all conversations with this person on this number: closing one does not close the window
    return (
        select max(a.last_inbound_at) + interval '24 hours'
        from public.conversations k
        join public.conversations t
            on t.whatsapp_channel_id = k.whatsapp_channel_id
           and t.account_id = k.account_id
           and t.thread_key = k.thread_key
           and t.channel = k.channel
        join public.conversation_activity a
            on a.conversation_id = t.id
        where k.id = window_closes_at.conversation_id
    );
end
$$;

grant execute on function private.window_closes_at(uuid) to authenticated;


create function public.reply_window(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- invoker: the caller finds only conversations that it may read
    set search_path = ''
as $$
declare
    channel text;
    closes_at timestamptz;
begin
    select k.channel
    into channel
    from public.conversations k
    where k.id = reply_window.conversation_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', reply_window.conversation_id);
    end if;

    if channel <> 'whatsapp' then
        return jsonb_build_object('open', true, 'closes_at', null);
    end if;
    closes_at := private.window_closes_at(reply_window.conversation_id);
    return jsonb_build_object('open', coalesce(closes_at > now(), false), 'closes_at', closes_at);
end
$$;

grant execute on function public.reply_window(uuid) to authenticated;


comment on function private.window_closes_at(uuid) is
    'Until when free text may be sent in a WhatsApp conversation (UTC); null if the person has never written.';
comment on function public.reply_window(uuid) is
    'Whether free text may be sent now, and until when (UTC). If it is not open, send a template. Other channels are always open.'
    ' Type: {open: boolean, closes_at: timestamptz | null}';


/*
    A message that staff or a customer writes: a row, inserted through PostgREST or by
    post_message, which does the same. It goes to a conversation, to a booking's, or to the
    customer's in the portal. The database fills in the sender, numbers the message, and queues it
    for WhatsApp.
*/
create function private.tg_messages__post()
    returns trigger
    language plpgsql
    -- definer: users may not number messages; the caller is checked here
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    is_staff boolean;
    me constant uuid := auth.uid();
    -- the column by which the writer names the conversation
    named_by constant text := case
        when new.conversation_id is not null then 'conversation_id'
        when new.booking_id is not null then 'booking_id'
        else 'customer_id'
    end;
    named constant uuid :=
        coalesce(new.conversation_id, new.booking_id, new.customer_id);
begin
    if named is null then
        raise sqlstate 'PT422' using
            message = 'The message names no conversation.',
            detail = 'field: conversation_id',
            hint = 'Give the conversation_id, the booking_id, or the customer_id for the conversation in the portal.';
    elsif named_by = 'booking_id' then
        select k.id
        into new.conversation_id
        from public.conversations k
        where k.booking_id = new.booking_id;
    elsif named_by = 'customer_id' and me is not null then
        new.conversation_id := private.thread_of_customer(new.customer_id);
    end if;

    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id;
    is_staff := thread.account_id in (select private.my_writable_account_ids());
    if me is null
        or thread.id is null
        -- a group has no customer: then the condition is null, which is not true
        or (is_staff or thread.customer_id in (select private.my_customer_ids())) is not true
    then
        if thread.account_id in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this conversation, not write in it.',
                hint = 'Owners, admins and agents may.';
        end if;
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = case named_by
                when 'conversation_id'
                    then format('field: conversation_id; conversation: %s', named)
                else format('field: %s', named_by)
            end;
    elsif new.booking_id <> thread.booking_id
        or (new.booking_id is not null and thread.booking_id is null)
    then
        raise sqlstate 'PT422' using
            message = 'This conversation is not about that booking.',
            detail = 'field: booking_id',
            hint = 'Give only one of the two.';
    end if;

    -- a message is numbered under the conversation's lock; read the conversation again, because it
    -- may have moved to another contact during the wait
    select k.*
    into thread
    from public.conversations k
    where k.id = thread.id
    for no key update;
    if exists (select from public.contacts c where c.id = thread.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this conversation was deleted.',
            detail = 'field: conversation_id',
            hint = 'When the person writes again, a new conversation opens.';
    end if;
    perform private.require_room(account_id => thread.account_id, kind => 'messages');
    new.account_id := thread.account_id;
    new.customer_id := thread.customer_id;
    new.booking_id := thread.booking_id;
    new.whatsapp_channel_id := thread.whatsapp_channel_id;
    new.sender_type := case when is_staff then 'operator' else 'client' end;
    new.sender_id := me::text;
    new.sender_name := case
        when is_staff then (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = me
        )
        else (select left(c.name, 200) from public.customers c where c.id = thread.customer_id)
    end;
    new.invoice_data := private.check_invoice_data(post => new, channel => thread.channel);
    new.has_invoice := new.invoice_data is not null;
    if new.has_invoice then
        new.message := coalesce(new.message, 'Invoice ' || (new.invoice_data ->> 'number'));
    end if;
    if is_staff and thread.channel = 'whatsapp' and new.type = 'template' and new.content ? 'variables' then
        new := private.fill_template(new);
    end if;
    if new.type <> 'text' and new.content is not null then
        new.message := coalesce(
            nullif(new.message, ''),
            private.words_of_content(type => new.type, content => new.content)
        );
    end if;
    perform private.check_post(post => new, channel => thread.channel);

    -- A message that exists already takes no number: this row will conflict, and an upsert may
    -- skip it. Transactions that write the same id take turns, in all conversations. The lock
    -- keeps the existing message until this row is refused.
    perform pg_advisory_xact_lock(hashtextextended('message ' || new.id, 0));
    perform
    from public.messages m
    where m.id = new.id
    for key share;
    if found then
        new.seq := 0;
        new.status := 'sent';
        return new;
    end if;

    perform private.set_conversation_status(conversation_id => thread.id, status => 'open')
    where thread.status = 'closed';

    -- numbered as everywhere, see conversation_activity.last_seq
    update public.conversation_activity a
    set last_seq = a.last_seq + 1,
        last_message_at = greatest(a.last_message_at, now()),
        last_inbound_at = case
            when is_staff then a.last_inbound_at
            else greatest(a.last_inbound_at, now())
        end
    where a.conversation_id = thread.id
    returning a.last_seq into new.seq;

    new.sent_at := now();
    new.status := case when thread.channel = 'whatsapp' then 'queued' else 'sent' end;
    return new;
end
$$;


create function private.check_post(
    post public.messages,
    channel text,
    -- null: the writer of the message checks WhatsApp's window
    at timestamptz default now()
)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    types constant text[] := case
        when channel = 'whatsapp' then array[
            'text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contacts',
            'interactive', 'reaction', 'template'
        ]
        else array['text']
    end;
begin
    if channel = 'whatsapp' and post.sender_type = 'client' then
        raise sqlstate 'PT422' using
            message = 'This conversation is held on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Write on WhatsApp, or in a conversation of the portal.';
    elsif post.type <> all (types) then
        raise sqlstate 'PT422' using
            message = case
                when btrim(post.type, E' \t\r\n') = '' then 'A message needs a type.'
                else format('Messages of the type %s can''t be sent here.', quote_literal(left(post.type, 64)))
            end,
            detail = 'field: type',
            hint = format('Known: %s.', array_to_string(types, ', '));
    elsif (post.type = 'text') <> (post.content is null) or octet_length(post.content::text) > 65536 then
        raise sqlstate 'PT422' using
            message = 'Every type except text needs a content, of at most 64 KB; a text has none.',
            detail = 'field: content',
            hint = 'Send the object that WhatsApp takes under the name of the type.';
    elsif post.message is null or (post.type = 'text' and private.is_blank(post.message)) then
        raise sqlstate 'PT422' using
            message = 'The message is empty.',
            detail = 'field: message',
            hint = 'Write 1 to 4,096 characters.';
    elsif length(post.message) > 4096 then
        raise sqlstate 'PT422' using
            message = format('The message has %s characters; 4,096 are allowed.', length(post.message)),
            detail = 'field: message',
            hint = 'Shorten it, or send it in parts.';
    elsif post.reply_to is not null and not exists (
        select
        from public.messages m
        where m.id = post.reply_to
          and m.conversation_id = post.conversation_id
    ) then
        raise sqlstate 'PT422' using
            message = 'The message that is answered is not in this conversation.',
            detail = 'field: reply_to',
            hint = 'Give the id of a message of this conversation.';
    elsif channel = 'whatsapp'
        and post.type <> 'template'
        and coalesce(private.window_closes_at(post.conversation_id), '-infinity') <= at
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    elsif post.content is not null then
        perform private.check_content(post);
    end if;
    if channel = 'whatsapp' then
        perform private.check_recipient(post);
    end if;
end
$$;


create trigger _010_post
    before insert on public.messages
    for each row
    -- messages from WhatsApp have a number already
    when (new.seq is null)
    execute function private.tg_messages__post();


create function private.enqueue_messages(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    select m.id, m.whatsapp_channel_id, m.conversation_id, m.seq
    from public.messages m
    where m.id = any (message_ids);
    perform private.ring('deliver_outbound');
end
$$;


comment on function private.tg_messages__post() is
    'Completes a message that a user writes: sender, account, customer, and number in the conversation.';
comment on function private.check_post(public.messages, text, timestamptz) is
    'Refuses a message that can''t be sent on a channel, and names the field.';
comment on function private.enqueue_messages(uuid[]) is
    'Puts messages into the queue for WhatsApp, and wakes the worker that sends them.';


create trigger _002_hold_to_request
    before insert on public.messages
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_messages__hold_to_request();

select private.limit_writes('messages', '{insert}');


/*
    A message that is sent again with its client_ref stays one message.

    A trigger can't return another row in place of the one that is inserted. So the repeated row
    is left out. If a statement of PostgREST holds only repeated messages, the answer is 303 with
    the address of the existing messages, which every HTTP client follows. If it also holds new
    messages, the answer has only these.

    Source: docs.postgrest.org, "Errors", RAISE with full control of the response.
*/
create function private.tg_messages__leave_out_repeated()
    returns trigger
    language plpgsql
    -- definer: it looks up the account of the conversation for every writer
    security definer
    set search_path = ''
as $$
declare
    me constant text := auth.uid()::text;
    account uuid;
    sent public.messages;
    is_here boolean;
begin
    account := case
        when new.conversation_id is not null
            then (select k.account_id from public.conversations k where k.id = new.conversation_id)
        when new.booking_id is not null
            then (select j.account_id from public.jobs j where j.id = new.booking_id)
        else (select c.account_id from public.contacts c where c.id = new.customer_id)
    end;
    if account is null or me is null then
        return new;
    end if;

    -- two requests may send the same message at this moment
    perform pg_advisory_xact_lock(hashtextextended(account || me || new.client_ref, 0));
    select m.*
    into sent
    from public.messages m
    where m.account_id = account
      and m.sender_type in ('client', 'operator')
      and m.sender_id = me
      and m.client_ref = new.client_ref
      -- if the sender may no longer read it, the insert is refused like any other
      and (
          m.account_id in (select private.my_account_ids())
          or m.customer_id in (select private.my_customer_ids())
      )
    limit 1;
    if not found then
        return new;
    end if;

    is_here := case
        when new.conversation_id is not null then sent.conversation_id = new.conversation_id
        when new.booking_id is not null then sent.booking_id = new.booking_id
        else exists (
            select
            from public.conversations k
            where k.id = sent.conversation_id
              and k.channel = 'portal'
        )
        and (
            sent.customer_id = new.customer_id
            -- merged since: its messages have moved to the kept contact
            or exists (
                select
                from public.contacts c
                where c.id = new.customer_id
                  and c.merged_into is not null
            )
        )
    end;
    -- an edited or deleted message no longer has the text that was sent
    if is_here is not true
        or coalesce(sent.edited_at, sent.revoked_at) is null
        and (
            sent.type <> new.type
            -- the components of a template are made from its variables
            or case when new.content ? 'variables' then sent.content - 'components' else sent.content end
                is distinct from new.content
            or sent.message <> nullif(new.message, '')
            or sent.invoice_data ->> 'invoice_id' <> new.invoice_data ->> 'invoice_id'
        ) is true
    then
        raise sqlstate 'PT409' using
            message = 'You have sent another message under this reference.',
            detail = 'field: client_ref',
            hint = 'Give each message a reference of its own.';
    end if;

    perform set_config(
        'rapport.repeated', concat_ws(',', nullif(current_setting('rapport.repeated'), ''), sent.id), true);
    return null;
end
$$;


create function private.tg_messages__answer_repeated()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
declare
    repeated text;
begin
    if tg_when = 'BEFORE' then
        perform set_config('rapport.repeated', '', true);
        return null;
    end if;
    repeated := current_setting('rapport.repeated');
    if repeated <> ''
        and current_setting('request.path', true) = '/messages'
        and not exists (select from new_rows)
    then
        raise sqlstate 'PGRST' using
            message = jsonb_build_object(
                'code', 'PT303',
                'message', 'This message exists already: it was sent under the same reference.',
                'details', 'field: client_ref',
                'hint', 'Read it at the address in the header Location.'
            )::text,
            detail = jsonb_build_object(
                'status', 303,
                'headers', jsonb_build_object('Location', format('?id=in.(%s)', repeated))
            )::text;
    end if;
    return null;
end
$$;


create trigger _000_expect_repeated
    before insert on public.messages
    for each statement
    when (current_user = 'authenticated')
    execute function private.tg_messages__answer_repeated();

-- before the message is numbered
create trigger _005_leave_out_repeated
    before insert on public.messages
    for each row
    when (current_user = 'authenticated' and new.client_ref is not null)
    execute function private.tg_messages__leave_out_repeated();

create trigger _990_answer_repeated
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    when (current_user = 'authenticated')
    execute function private.tg_messages__answer_repeated();


comment on function private.tg_messages__leave_out_repeated() is
    'Leaves out a message that its sender has sent before with the same client_ref. If that was another message: 409.';
comment on function private.tg_messages__answer_repeated() is
    'Redirects PostgREST''s clients to the existing messages (303), if a statement has inserted no new one.';


/*
    Inserts a message by a call. A message with the same client_ref is inserted once; the answer
    is its row, also if it existed before.
*/
create function public.post_message(
    conversation_id uuid default null,
    message text default null,
    type text default 'text',
    content jsonb default null,
    reply_to uuid default null,
    client_ref text default null,
    booking_id uuid default null,
    customer_id uuid default null,
    invoice_data jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    posted public.messages;
begin
    insert into public.messages (
        conversation_id, type, message, content, reply_to, client_ref, booking_id, customer_id,
        invoice_data
    )
    values (
        post_message.conversation_id,
        post_message.type,
        post_message.message,
        post_message.content,
        post_message.reply_to,
        post_message.client_ref,
        post_message.booking_id,
        post_message.customer_id,
        post_message.invoice_data
    )
    returning * into posted;
    if not found then
        -- a repeated send returns the message that was sent first
        select m.*
        into posted
        from public.messages m
        where m.id = current_setting('rapport.repeated')::uuid;
    end if;
    return to_jsonb(posted);
end
$$;

grant execute on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
)
    to authenticated;


comment on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
) is
    'Writes a message and returns its row; a message with the same client_ref is written once. The same as an insert into messages. Give the conversation_id, the booking_id, or the customer_id for the conversation in the portal, which is opened if needed. With invoice_data {invoice_id} staff show an invoice.'
    ' Type: messages';


/*
    Messages that are sent later. Until its time such a message is a row of this table alone: no
    customer sees it, and it has no number in its conversation. At its time one transaction posts
    it in the name of its author, as post_message does, and marks the row as sent. The message gets
    the row's id, so it can't be posted twice.

        waiting ──► sent
           │  └───► failed      (the sentence in error_message says why)
           └──────► cancelled

    WhatsApp's window may be closed at that time. So a row needs a template for that case, unless
    the window will still be open: its author hears of it on writing.
*/
create table public.scheduled_messages (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- null in a group
    customer_id     uuid,
    author_id       uuid not null,
    author_name     text not null,
    type            text not null default 'text',
    message         text not null,
    content         jsonb,
    reply_to        uuid,
    -- the content of a message of type template
    template        jsonb,
    wanted_at       timestamptz not null,
    send_at         timestamptz not null,
    status          text not null default 'waiting'
                    constraint scheduled_messages_status_check
                    check (status in ('waiting', 'sent', 'cancelled', 'failed')),
    error_message   text,
    -- when the worker looks at it: send_at, or later where a try was in vain
    due_at          timestamptz not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    -- a conversation that moves to another contact takes its rows with it
    constraint scheduled_messages_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint scheduled_messages_error_message_check
        check ((status = 'failed') = (error_message is not null))
);
alter table public.scheduled_messages enable row level security;


create index scheduled_messages_due_at_idx
    on public.scheduled_messages (due_at)
    where status = 'waiting';

-- how many wait in each conversation of the inbox
create index scheduled_messages_waiting_idx
    on public.scheduled_messages (conversation_id)
    where status = 'waiting';

-- what is finished is deleted after a time
create index scheduled_messages_finished_idx
    on public.scheduled_messages (updated_at)
    where status <> 'waiting';

create index scheduled_messages_conversation_idx
    on public.scheduled_messages (conversation_id, send_at);

create index scheduled_messages_account_id_idx
    on public.scheduled_messages (account_id, send_at);


grant select on public.scheduled_messages to authenticated;


create function private.check_template_for_later(post public.messages, template jsonb)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    field text;
    remedy text;
begin
    post.type := 'template';
    post.content := template;
    if template ? 'variables' then
        post := private.fill_template(post);
    end if;
    perform private.check_content(post);
    perform private.check_recipient(post);
exception
    when sqlstate 'PT422' then
        get stacked diagnostics field = pg_exception_detail, remedy = pg_exception_hint;
        raise sqlstate 'PT422' using
            message = sqlerrm,
            detail = regexp_replace(field, '^field: (content|type)', 'field: template'),
            hint = remedy;
end
$$;


create function private.tg_scheduled_messages__check()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers; the caller is checked here
    security definer
    set search_path = ''
as $$
declare
    -- beside the conversation; a customer in place of one may be merged into another meanwhile
    named constant uuid := case
        when tg_op = 'INSERT' and new.conversation_id is not null then new.customer_id
    end;
    thread public.conversations;
    post public.messages;
    closes_at timestamptz;
begin
    if tg_op = 'UPDATE' and old.status <> 'waiting' then
        raise sqlstate 'PT409' using
            message = format(
                'This message is %s and can''t be changed.',
                case old.status when 'sent' then 'sent already' else old.status end
            ),
            detail = 'field: status',
            hint = 'Write another one.';
    elsif tg_op = 'UPDATE' and new.status not in ('waiting', 'cancelled') then
        raise sqlstate 'PT422' using
            message = 'A message that waits can only be cancelled.',
            detail = 'field: status',
            hint = 'Use cancelled. The schedule sends it at its time.';
    elsif new.status = 'cancelled' then
        return new;
    end if;

    if tg_op = 'INSERT' and new.conversation_id is null then
        if new.customer_id is null then
            raise sqlstate 'PT422' using
                message = 'The message names no conversation.',
                detail = 'field: conversation_id',
                hint = 'Give the conversation_id, or the customer_id for the customer''s conversation on WhatsApp.';
        end if;
        new.conversation_id := private.whatsapp_thread_of_customer(
            customer_id => new.customer_id,
            template => case new.type when 'template' then new.content else new.template end
        );
    end if;
    -- a merge moves it to another contact, and a deletion must find the row. A row that is there
    -- already is locked before its conversation and moves along.
    if tg_op = 'INSERT' then
        perform
        from public.conversations k
        where k.id = new.conversation_id
          and k.account_id in (select private.my_writable_account_ids())
        for share;
    end if;
    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'field: conversation_id';
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this conversation, not write in it.',
            hint = 'Owners, admins and agents may.';
    elsif exists (
        select
        from public.contacts c
        where c.id = thread.customer_id
          and c.deleted_at is not null
    ) then
        raise sqlstate 'PT422' using
            message = 'The contact of this conversation was deleted.',
            detail = 'field: conversation_id',
            hint = 'When the person writes again, a new conversation opens.';
    elsif named <> thread.customer_id or named is not null and thread.customer_id is null then
        raise sqlstate 'PT422' using
            message = 'The conversation is not this customer''s.',
            detail = 'field: customer_id',
            hint = 'Leave it out, or give it in place of the conversation_id.';
    elsif new.send_at is null then
        raise sqlstate 'PT422' using
            message = 'send_at is needed.',
            detail = 'field: send_at',
            hint = 'Give the time at which to send it.';
    end if;

    if tg_op = 'INSERT' then
        new.account_id := thread.account_id;
        new.customer_id := thread.customer_id;
    end if;
    -- nobody's words are sent in another's name
    if tg_op = 'INSERT'
        or (new.type, new.message, new.content, new.reply_to, new.template)
            is distinct from (old.type, old.message, old.content, old.reply_to, old.template)
    then
        new.author_id := auth.uid();
        new.author_name := (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = new.author_id
        );
    end if;
    if tg_op = 'INSERT' or new.send_at <> old.send_at then
        if new.send_at not between now() and now() + interval '1 year' then
            raise sqlstate 'PT422' using
                message = 'A message can be sent later within the next year.',
                detail = 'field: send_at',
                hint = 'Give a time between now and a year from now.';
        end if;
        new.wanted_at := new.send_at;
        new.send_at := private.after_quiet_hours(new.account_id, new.send_at);
        new.due_at := new.send_at;
    end if;

    post.id := new.id;
    post.account_id := thread.account_id;
    post.conversation_id := thread.id;
    post.customer_id := thread.customer_id;
    post.whatsapp_channel_id := thread.whatsapp_channel_id;
    post.sender_type := 'operator';
    post.type := new.type;
    post.content := new.content;
    post.reply_to := new.reply_to;
    post.message := new.message;
    -- the text that was made from the former content
    if tg_op = 'UPDATE' and new.content is distinct from old.content and new.message = old.message then
        post.message := null;
    end if;
    if thread.channel = 'whatsapp' and post.type = 'template' and post.content ? 'variables' then
        post := private.fill_template(post);
    end if;
    if post.type <> 'text' and post.content is not null then
        post.message := coalesce(
            nullif(post.message, ''),
            private.words_of_content(type => post.type, content => post.content)
        );
    end if;
    perform private.check_post(post => post, channel => thread.channel, at => null);
    perform private.check_upload(post);
    new.message := post.message;

    if new.template is not null then
        if thread.channel <> 'whatsapp' or new.type = 'template' then
            raise sqlstate 'PT422' using
                message = 'Only a message on WhatsApp that is no template itself takes a template for a closed window.',
                detail = 'field: template',
                hint = 'Leave it out.';
        end if;
        perform private.check_template_for_later(post => post, template => new.template);
    elsif thread.channel = 'whatsapp' and new.type <> 'template' then
        closes_at := private.window_closes_at(thread.id);
        if coalesce(closes_at, '-infinity') <= new.send_at then
            raise sqlstate 'PT422' using
                message = case
                    when closes_at > now() then format(
                        'WhatsApp takes free text until %s only, before this message is to be sent (%s).',
                        private.local_time(thread.account_id, closes_at),
                        private.local_time(thread.account_id, new.send_at)
                    )
                    else 'WhatsApp takes no free text now: more than 24 hours have passed since the person last wrote.'
                end,
                detail = 'field: template',
                hint = 'Name a template, {name, language}, which is sent if the person has not written again by then.';
        end if;
    end if;
    return new;
end
$$;


create trigger _010_check
    before insert or update on public.scheduled_messages
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_scheduled_messages__check();

create trigger _050_keep_owner
    before update of account_id, conversation_id on public.scheduled_messages
    for each row
    when (
        (new.account_id, new.conversation_id)
        is distinct from
        (old.account_id, old.conversation_id)
    )
    execute function private.tg__keep_owner('account_id', 'conversation_id');

create trigger _100_stamp_change
    before update on public.scheduled_messages
    for each row
    execute function private.tg__stamp_change();


create function private.tg_scheduled_messages__ring()
    returns trigger
    language plpgsql
    -- definer: users may not wake workers
    security definer
    set search_path = ''
as $$
begin
    perform private.ring('send_later');
    return null;
end
$$;

-- what is due before the schedule's next run
create trigger _600_ring_insert
    after insert on public.scheduled_messages
    for each row
    when (new.due_at < now() + interval '1 minute')
    execute function private.tg_scheduled_messages__ring();

create trigger _600_ring_update
    after update of send_at on public.scheduled_messages
    for each row
    when (
        new.status = 'waiting'
        and new.due_at < old.due_at
        and new.due_at < now() + interval '1 minute'
    )
    execute function private.tg_scheduled_messages__ring();


create function private.send_scheduled(scheduled_id uuid, conversation_id uuid, at timestamptz)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    claims constant text := coalesce(current_setting('request.jwt.claims', true), '');
    waiting public.scheduled_messages;
    takes_template boolean;
    allowed_at timestamptz;
    posted_as text;
    broken text;
begin
    -- the conversation before its rows, as everywhere; other holders need only a moment
    perform
    from public.conversations k
    where k.id = send_scheduled.conversation_id
    for no key update skip locked;
    if not found then
        return 'busy';
    end if;
    select s.*
    into waiting
    from public.scheduled_messages s
    where s.id = scheduled_id
      and s.status = 'waiting'
      and s.due_at <= at
    for update;
    if not found then
        -- cancelled, changed, or sent by another worker
        return 'gone';
    end if;

    allowed_at := private.after_quiet_hours(waiting.account_id, at);
    if allowed_at > at then
        update public.scheduled_messages s
        set send_at = allowed_at,
            due_at = allowed_at
        where s.id = scheduled_id;
        return 'moved';
    end if;

    takes_template := waiting.template is not null
        and coalesce(private.window_closes_at(waiting.conversation_id), '-infinity') <= at;
    -- the trigger on messages asks who writes
    perform set_config(
        'request.jwt.claims',
        jsonb_build_object('sub', waiting.author_id, 'role', 'authenticated')::text,
        true
    );
    if waiting.account_id in (select private.my_writable_account_ids()) then
        insert into public.messages (id, conversation_id, type, message, content, reply_to)
        values (
            waiting.id,
            waiting.conversation_id,
            case when takes_template then 'template' else waiting.type end,
            case when not takes_template then waiting.message end,
            case when takes_template then waiting.template else waiting.content end,
            waiting.reply_to
        )
        returning sender_type into posted_as;
    end if;
    -- a former member may hold the customer's login: these are not the customer's words
    if posted_as is distinct from 'operator' then
        raise insufficient_privilege using
            message = format('%s may not write for this account any more.', waiting.author_name);
    end if;
    perform set_config('request.jwt.claims', claims, true);
    update public.scheduled_messages s
    set status = 'sent'
    where s.id = scheduled_id;
    return 'sent';
exception
    when others then
        -- the settings and locks of the try are undone
        get stacked diagnostics broken = constraint_name;
        if sqlstate like 'PT4%' or sqlstate like '23%' or sqlstate = '42501' then
            update public.scheduled_messages s
            set status = 'failed',
                error_message = case
                    when sqlstate not like '23%' or broken = '' then sqlerrm
                    when sqlstate = '23505' then 'Another message has the id of this one.'
                    else 'The message does not fit its conversation any more.'
                end
            where s.id = scheduled_id
              and s.status = 'waiting';
            return 'failed';
        end if;
        raise warning 'a message that waits was put off: %', sqlerrm using errcode = sqlstate;
        update public.scheduled_messages s
        set due_at = at + interval '1 minute'
        where s.id = scheduled_id
          and s.status = 'waiting';
        return 'put_off';
end
$$;


create function private.prune_scheduled_messages(batch integer, kept interval)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with finished as (
        select s.id
        from public.scheduled_messages s
        where s.status <> 'waiting'
          and s.updated_at < now() - kept
        order by s.updated_at
        limit batch
        -- another run may be deleting them
        for update skip locked
    )
    delete from public.scheduled_messages s
    using finished f
    where s.id = f.id;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.send_scheduled(batch integer default 100, at timestamptz default now())
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    due record;
    results text[] := '{}';
begin
    for due in
        select d.id, d.conversation_id
        from (
            select s.id, s.conversation_id, s.send_at
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at <= at
              -- those of a paused account wait until it is resumed
              and not exists (
                  select
                  from public.accounts a
                  where a.id = s.account_id
                    and a.paused_at is not null
              )
            order by s.due_at, s.id
            limit least(greatest(batch, 1), 500)
        ) d
        -- conversations are locked by id; of one conversation the earlier message comes first
        order by d.conversation_id, d.send_at, d.id
    loop
        results := results || private.send_scheduled(
            scheduled_id => due.id, conversation_id => due.conversation_id, at => at);
    end loop;
    return jsonb_build_object(
        'sent', cardinality(array_positions(results, 'sent')),
        'failed', cardinality(array_positions(results, 'failed')),
        'moved', cardinality(array_positions(results, 'moved')),
        -- what was put off, or is held by others, is for a later call
        'is_done', cardinality(results) < batch
            or results <@ array['busy', 'gone', 'put_off'],
        'next_at', (
            select min(s.due_at)
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at > at
        )
    );
end
$$;

grant execute on function backend.send_scheduled(integer, timestamptz) to service_role;


comment on table public.scheduled_messages is
    'Messages that are sent later. Insert one with its conversation_id and send_at, or with a customer_id and a template, which opens the conversation on WhatsApp if there is none; update it, or set its status to cancelled, while it waits. Customers see none of it. The message that is sent has the same id.';
comment on column public.scheduled_messages.id is
    'Identifies the row, and later the message. A client may choose it.';
comment on column public.scheduled_messages.account_id is
    'The account of the conversation.';
comment on column public.scheduled_messages.conversation_id is
    'The conversation in which it will be sent.';
comment on column public.scheduled_messages.customer_id is
    'The contact of the conversation; null for a group. If given in place of conversation_id, it means the customer''s conversation on WhatsApp.';
comment on column public.scheduled_messages.author_id is
    'The member who wrote it or last changed what it says, and in whose name it is sent. Who moves it to another time does not become its author.';
comment on column public.scheduled_messages.author_name is
    'The author''s name when it was written or last changed.';
comment on column public.scheduled_messages.type is
    'As of messages: text, image, template …';
comment on column public.scheduled_messages.message is
    'The text, as of messages.';
comment on column public.scheduled_messages.content is
    'The provider''s object for the type; null for plain text.'
    ' Type: {[text]: json} | null';
comment on column public.scheduled_messages.reply_to is
    'The message that this one answers.';
comment on column public.scheduled_messages.template is
    'What is sent instead if WhatsApp''s window is closed at that time: {name, language, variables}, as the content of a message of type template. Needed unless the window will be open.'
    ' Type: {[text]: json} | null';
comment on column public.scheduled_messages.wanted_at is
    'The send_at that was given (UTC). It differs from send_at if it lies in the account''s quiet hours.';
comment on column public.scheduled_messages.send_at is
    'When it is sent (UTC), within a year. A time in the quiet hours becomes their end.';
comment on column public.scheduled_messages.status is
    'waiting, sent, cancelled or failed. A user writes cancelled only.';
comment on column public.scheduled_messages.error_message is
    'A sentence that says why it failed; null otherwise.';
comment on column public.scheduled_messages.due_at is
    'When the worker looks at it next (UTC).';
comment on column public.scheduled_messages.created_at is
    'When it was written (server time, UTC).';
comment on column public.scheduled_messages.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.scheduled_messages.version is
    'Rises by 1 with each change of the row.';
comment on constraint scheduled_messages_status_check on public.scheduled_messages is
    'There is no such status of a message that waits.
Use cancelled.';
comment on constraint scheduled_messages_error_message_check on public.scheduled_messages is
    'A failed message says why, and no other does.';
comment on function private.check_template_for_later(public.messages, jsonb) is
    'Refuses a template that could not be sent in place of a message, and names the field.';
comment on function private.tg_scheduled_messages__check() is
    'Completes and checks a message that is sent later, as if it were sent at that time.';
comment on function private.tg_scheduled_messages__ring() is
    'Wakes the worker that sends messages at their time.';
comment on function private.send_scheduled(uuid, uuid, timestamptz) is
    'Posts one message whose time has come: sent, failed, moved (quiet hours), put_off, busy or gone.';
comment on function private.prune_scheduled_messages(integer, interval) is
    'Deletes at most batch messages that were finished longer ago than that; returns their number.';
comment on function backend.send_scheduled(integer, timestamptz) is
    'Posts up to batch messages (at most 500) whose time has come: {sent, failed, moved, is_done, next_at}. Call it again until is_done; next_at is when the next one is due.'
    ' Type: {sent: integer, failed: integer, moved: integer, is_done: boolean, next_at: timestamptz | null}';

select private.follow_table(
    table_name => 'scheduled_messages',
    shown => array[
        'id', 'account_id', 'conversation_id', 'author_id', 'author_name', 'type', 'message',
        'content', 'reply_to', 'template', 'wanted_at', 'send_at', 'status', 'error_message',
        'created_at', 'updated_at', 'version'
    ],
    hidden => array['customer_id', 'due_at'],
    customer_key => null
);
select private.limit_writes('scheduled_messages', '{insert,update}');


/*
    The notes of staff about a conversation, and its events at the desk. A note is not a message: it
    is never sent, and it has a number of its own, so the customer's numbering has no gap. Only
    members read notes, and only the account's topic tells them.

    An event (taken, handed over, labelled, snoozed) is a line in the account's language. Its facts
    stand beside it, for clients that write a text of their own.
*/
create table public.conversation_notes (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- 1, 2, 3 … in a conversation, without a gap
    seq             bigint not null,
    kind            text not null default 'note'
                    constraint conversation_notes_kind_check check (kind in ('note', 'event')),
    author_id       uuid,
    -- the name at the time of writing: authors may leave
    author_name     text,
    note            text not null,
    mentions        uuid[] not null default '{}',
    event           jsonb,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    deleted_at      timestamptz,
    version         bigint not null default 1,

    constraint conversation_notes_seq_key unique (conversation_id, seq),
    constraint conversation_notes_conversation_fkey
        foreign key (conversation_id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    constraint conversation_notes_note_check
        check (
            deleted_at is not null and note = ''
            or deleted_at is null and btrim(note, E' \t\r\n') <> '' and length(note) <= 4096
        ),
    constraint conversation_notes_mentions_check
        check (case
            -- array_position takes plain lists alone
            when array_ndims(mentions) > 1 then false
            else cardinality(mentions) <= 50 and array_position(mentions, null) is null
        end),
    constraint conversation_notes_event_check check ((kind = 'event') = (event is not null))
);
alter table public.conversation_notes enable row level security;


create index conversation_notes_account_id_idx
    on public.conversation_notes (account_id);

create index conversation_notes_author_id_idx
    on public.conversation_notes (author_id);


grant select on public.conversation_notes to authenticated;


-- Locks a conversation for its desk: notes are numbered, and its state is written, under this lock.
create function private.lock_desk(conversation_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select k.account_id
    into account
    from public.conversations k
    where k.id = lock_desk.conversation_id
      and k.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', lock_desk.conversation_id);
    end if;
    perform private.require_writable(account);
    return account;
end
$$;


create function private.next_note_seq(conversation_id uuid)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return coalesce((
        select max(n.seq)
        from public.conversation_notes n
        where n.conversation_id = next_note_seq.conversation_id
    ), 0) + 1;
end
$$;


create function private.member_name(account_id uuid, user_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select m.display_name
        from public.account_members m
        where m.account_id = member_name.account_id
          and m.user_id = member_name.user_id
    );
end
$$;


create function private.tg_conversation_notes__complete()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
declare
    stranger uuid;
begin
    if tg_op = 'INSERT' then
        new.account_id := private.lock_desk(new.conversation_id);
        new.seq := private.next_note_seq(new.conversation_id);
        new.kind := 'note';
        new.author_id := auth.uid();
        new.author_name := private.member_name(new.account_id, new.author_id);
    end if;

    select u
    into stranger
    from unnest(new.mentions) u
    where u is not null
      and private.member_name(new.account_id, u) is null
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = 'A note can mention members of the account only.',
            detail = format('field: mentions; user: %s', stranger),
            hint = 'Give the user_id of rows of account_members.';
    end if;
    return new;
end
$$;

-- events have a number already
create trigger _010_complete
    before insert on public.conversation_notes
    for each row
    when (new.seq is null)
    execute function private.tg_conversation_notes__complete();

create trigger _010_check_mentions
    before update of mentions on public.conversation_notes
    for each row
    when (new.mentions <> old.mentions)
    execute function private.tg_conversation_notes__complete();

create trigger _100_stamp_change
    before update on public.conversation_notes
    for each row
    execute function private.tg__stamp_change();


-- The caller holds the conversation's lock, or takes it here.
create function private.note_event(conversation_id uuid, key text, facts jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    actor text;
begin
    select k.account_id
    into account
    from public.conversations k
    -- an account that is being deleted takes its conversations with it
    join public.accounts a
        on a.id = k.account_id
    where k.id = note_event.conversation_id
    for no key update of k;
    if not found then
        return;
    end if;
    actor := private.member_name(account, auth.uid());

    insert into public.conversation_notes (
        account_id, conversation_id, seq, kind, author_id, author_name, note, event
    )
    values (
        account,
        note_event.conversation_id,
        private.next_note_seq(note_event.conversation_id),
        'event',
        case when actor is not null then auth.uid() end,
        actor,
        left(private.words(account, key, facts || jsonb_build_object('actor', actor)), 4096),
        jsonb_strip_nulls(facts) || jsonb_build_object('event', key)
    );
end
$$;


create function private.delete_note(note_id uuid)
    returns void
    language plpgsql
    -- definer: owners and admins delete notes that they may not change
    security definer
    set search_path = ''
as $$
declare
    found_note public.conversation_notes;
begin
    select n.*
    into found_note
    from public.conversation_notes n
    where n.id = delete_note.note_id
      and n.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such note, or it is not yours to see.',
            detail = format('note: %s', delete_note.note_id);
    end if;
    perform private.require_writable(found_note.account_id);
    if found_note.kind = 'event' then
        raise sqlstate 'PT422' using
            message = 'The events of a conversation can''t be deleted.',
            detail = 'field: note_id',
            hint = 'Delete only notes that a person wrote.';
    elsif found_note.author_id is distinct from auth.uid()
        and found_note.account_id not in (select private.my_admin_account_ids())
    then
        raise insufficient_privilege using
            message = 'You may not delete this note.',
            detail = 'field: note_id',
            hint = 'Its author may, and owners and admins.';
    end if;

    update public.conversation_notes n
    set note = '',
        mentions = '{}',
        deleted_at = now()
    where n.id = delete_note.note_id
      and n.deleted_at is null;
end
$$;

grant execute on function private.delete_note(uuid) to authenticated;


create function public.delete_note(note_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.delete_note(note_id);
end
$$;

grant execute on function public.delete_note(uuid) to authenticated;


comment on table public.conversation_notes is
    'Notes of staff about a conversation, and its events at the desk; no customer reads them. Insert conversation_id, note and mentions; the author may change note and mentions, and delete_note deletes.';
comment on column public.conversation_notes.id is
    'Identifies the note. A client may choose it, so that a repeated insert is refused (409).';
comment on column public.conversation_notes.account_id is
    'The account of the conversation; filled in.';
comment on column public.conversation_notes.conversation_id is
    'The conversation that the note is about.';
comment on column public.conversation_notes.seq is
    'Counts 1, 2, 3 … in its conversation, apart from the messages.';
comment on column public.conversation_notes.kind is
    'note (a person wrote it) or event (taken, handed over, released, labelled, snoozed).';
comment on column public.conversation_notes.author_id is
    'The user who wrote it or did it; null if the system did.';
comment on column public.conversation_notes.author_name is
    'The author''s name when it was written.';
comment on column public.conversation_notes.note is
    'The text, 1 to 4,096 characters; an event''s is in the account''s language. Empty once deleted.';
comment on column public.conversation_notes.mentions is
    'The user ids of the members whom the note mentions, at most 50.';
comment on column public.conversation_notes.event is
    'The facts of the event (the assignee, the label, the end of the snooze), for clients that write a text of their own; null for a note.'
    ' Type: {event: text, assignee_id?: uuid, assignee_name?: text, former_assignee_id?: uuid, label_id?: uuid, label?: text, snoozed_until?: timestamptz, time?: text} | null';
comment on column public.conversation_notes.created_at is
    'When it was written (server time, UTC).';
comment on column public.conversation_notes.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.conversation_notes.deleted_at is
    'When it was deleted (UTC); its text is gone, its number stays, and nobody reads it any more.';
comment on column public.conversation_notes.version is
    'Rises by 1 with each change of the row.';
comment on constraint conversation_notes_note_check on public.conversation_notes is
    'A note has 1 to 4,096 characters.
Write it shorter, or in parts; delete_note deletes it.';
comment on constraint conversation_notes_mentions_check on public.conversation_notes is
    'A note can mention 50 members.
Give a list of their user ids.';
comment on constraint conversation_notes_conversation_fkey on public.conversation_notes is
    'There is no such conversation.
Give the id of a conversation of the account.';
comment on function private.lock_desk(uuid) is
    'Locks a conversation that the caller may write, and returns its account. Unknown: 404. A viewer is refused.';
comment on function private.next_note_seq(uuid) is
    'The number of a conversation''s next note. The caller holds the conversation''s lock.';
comment on function private.member_name(uuid, uuid) is
    'The name of a member of an account; null for others.';
comment on function private.tg_conversation_notes__complete() is
    'Completes a note that a user writes: account, number and author. Refuses a mention of a stranger.';
comment on function private.note_event(uuid, text, jsonb) is
    'Notes an event of a conversation, in the account''s language.';
comment on function private.delete_note(uuid) is
    'Blanks a note of the caller''s, or for an owner or admin, anybody''s.';
comment on function public.delete_note(uuid) is
    'Deletes a note: its text goes, its number stays. The author may, and owners and admins. An event is refused (422). Unknown: 404.';

select private.follow_table(
    table_name => 'conversation_notes',
    shown => array[
        'id', 'account_id', 'conversation_id', 'seq', 'kind', 'author_id', 'author_name', 'note',
        'mentions', 'event', 'created_at', 'updated_at', 'deleted_at', 'version'
    ],
    -- staff alone
    customer_key => null
);
select private.limit_writes('conversation_notes', '{insert,update}');


/*
    The member who answers a conversation. The state at the desk is a row of its own, not columns of
    conversations: a customer reads its conversation, and must not learn who has it or that it
    waits. There is no row until a conversation is assigned or snoozed.
*/
create table public.desk_states (
    -- the conversation's id
    id            uuid primary key,
    account_id    uuid not null,
    assignee_id   uuid,
    snoozed_until timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    version       bigint not null default 1,

    constraint desk_states_conversation_fkey
        foreign key (id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    -- the conversations of a member who is removed become free
    constraint desk_states_assignee_fkey
        foreign key (account_id, assignee_id)
        references public.account_members (account_id, user_id)
        on delete set null (assignee_id)
);
alter table public.desk_states enable row level security;


create index desk_states_assignee_idx on public.desk_states (account_id, assignee_id);

create index desk_states_snoozed_idx
    on public.desk_states (account_id, snoozed_until)
    where snoozed_until is not null;


grant select on public.desk_states to authenticated;


insert into private.sentences (key, language, sentence)
values
    ('desk.taken', 'en', '{actor} has taken the conversation.'),
    ('desk.taken', 'sl', 'Pogovor prevzame {actor}.'),
    ('desk.handed_over', 'en', '{actor} has handed the conversation over to {assignee_name}.'),
    ('desk.handed_over', 'sl', 'Pogovor preda {actor}, prevzame ga {assignee_name}.'),
    ('desk.assigned', 'en', 'The conversation goes to {assignee_name}, whose turn it is.'),
    ('desk.assigned', 'sl', 'Pogovor po vrsti prevzame {assignee_name}.'),
    ('desk.released', 'en', '{actor} has released the conversation.'),
    ('desk.released', 'sl', 'Pogovor sprosti {actor}.'),
    ('desk.freed', 'en', 'The conversation is free: its assignee can no longer answer it.'),
    ('desk.freed', 'sl', 'Pogovor je prost: prejšnja oseba ne more več odgovarjati.');


create function private.tg_desk_states__note_assignee()
    returns trigger
    language plpgsql
    -- definer: foreign keys run it for every user
    security definer
    set search_path = ''
as $$
declare
    former constant uuid := case when tg_op = 'UPDATE' then old.assignee_id end;
    me constant uuid := auth.uid();
    is_staff constant boolean := private.member_name(new.account_id, me) is not null;
begin
    perform private.note_event(
        conversation_id => new.id,
        key => case
            -- removing a member is nobody's work at this conversation
            when new.assignee_id is null
                and (not is_staff or private.member_name(new.account_id, former) is null)
                then 'desk.freed'
            when new.assignee_id is null then 'desk.released'
            when not is_staff then 'desk.assigned'
            when new.assignee_id = me then 'desk.taken'
            else 'desk.handed_over'
        end,
        facts => jsonb_build_object(
            'assignee_id', new.assignee_id,
            'assignee_name', private.member_name(new.account_id, new.assignee_id),
            'former_assignee_id', former
        )
    );
    return null;
end
$$;


create trigger _100_stamp_change
    before update on public.desk_states
    for each row
    execute function private.tg__stamp_change();

create trigger _500_note_assignee_insert
    after insert on public.desk_states
    for each row
    when (new.assignee_id is not null)
    execute function private.tg_desk_states__note_assignee();

create trigger _500_note_assignee_update
    after update of assignee_id on public.desk_states
    for each row
    when (new.assignee_id is distinct from old.assignee_id)
    execute function private.tg_desk_states__note_assignee();


/*
    The conversations that are not closed, with their state at the desk: what lists and counts of the
    desk look for. Most conversations are closed, and stay their assignee's and their labels'. With
    the status in one table and the assignee in another no index leaves them out: for a count of 100
    some 500 were looked up, and for a list of what nobody has 37 ms of 50,000 were read.

    (Counts kept as numbers would be rows for which all writers of an account wait.)
*/
create table private.unclosed_conversations (
    conversation_id uuid primary key
        references public.conversations (id)
        on delete cascade,
    account_id      uuid not null,
    -- open, and not pending
    is_open         boolean not null,
    assignee_id     uuid,
    snoozed_until   timestamptz
);
alter table private.unclosed_conversations enable row level security;


create index unclosed_conversations_assignee_idx
    on private.unclosed_conversations (account_id, assignee_id, is_open)
    include (snoozed_until, conversation_id);


create function private.tg_conversations__start_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_conversations (conversation_id, account_id, is_open)
    select n.id, n.account_id, n.status = 'open'
    from new_rows n
    where n.status <> 'closed'
    -- its state at the desk was written by the same statement
    on conflict (conversation_id) do nothing;
    return null;
end
$$;

create trigger _510_start_unclosed
    after insert on public.conversations
    referencing new table as new_rows
    for each statement
    execute function private.tg_conversations__start_unclosed();


create function private.tg__keep_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    -- A change of the status and one of the desk wait here for each other: the later one sees what
    -- the earlier one wrote. The id of a conversation is that of its state at the desk.
    perform
    from public.conversation_activity a
    where a.conversation_id = new.id
    for no key update;

    insert into private.unclosed_conversations as u (
        conversation_id, account_id, is_open, assignee_id, snoozed_until
    )
    select k.id, k.account_id, k.status = 'open', s.assignee_id, s.snoozed_until
    from public.conversations k
    left join public.desk_states s
        on s.id = k.id
    where k.id = new.id
      and k.status <> 'closed'
    on conflict (conversation_id) do update
        set is_open = excluded.is_open,
            assignee_id = excluded.assignee_id,
            snoozed_until = excluded.snoozed_until;
    if not found then
        delete from private.unclosed_conversations u
        where u.conversation_id = new.id;
    end if;
    return null;
end
$$;

create trigger _510_keep_unclosed
    after update of status on public.conversations
    for each row
    when (new.status is distinct from old.status)
    execute function private.tg__keep_unclosed();

create trigger _510_keep_unclosed_insert
    after insert on public.desk_states
    for each row
    execute function private.tg__keep_unclosed();

create trigger _510_keep_unclosed_update
    after update of assignee_id, snoozed_until on public.desk_states
    for each row
    when (
        (new.assignee_id, new.snoozed_until) is distinct from (old.assignee_id, old.snoozed_until)
    )
    execute function private.tg__keep_unclosed();


create function private.tg_account_members__free_conversations()
    returns trigger
    language plpgsql
    -- definer: users may not write the state
    security definer
    set search_path = ''
as $$
begin
    perform
    from public.conversations k
    join public.desk_states s
        on s.id = k.id
    where s.account_id = new.account_id
      and s.assignee_id = new.user_id
    order by k.id
    for no key update of k;

    update public.desk_states s
    set assignee_id = null
    where s.account_id = new.account_id
      and s.assignee_id = new.user_id;
    return null;
end
$$;

create function private.tg_account_members__lock_conversations()
    returns trigger
    language plpgsql
    -- definer: as for viewers
    security definer
    set search_path = ''
as $$
begin
    perform
    from public.conversations k
    join public.desk_states s
        on s.id = k.id
    where s.account_id = old.account_id
      and s.assignee_id = old.user_id
    order by k.id
    for no key update of k;
    return old;
end
$$;

-- The foreign key frees the conversations of a member who is removed, and notes that under their
-- locks. They are locked before their states, as by who takes or snoozes them.
create trigger _080_lock_conversations
    before delete on public.account_members
    for each row
    execute function private.tg_account_members__lock_conversations();

-- a viewer can't answer
create trigger _500_free_conversations
    after update of role on public.account_members
    for each row
    when (new.role = 'viewer' and old.role <> 'viewer')
    execute function private.tg_account_members__free_conversations();


create function private.write_assignee(conversation_id uuid, account_id uuid, assignee_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
declare
    written public.desk_states;
begin
    insert into public.desk_states as s (id, account_id, assignee_id)
    values (
        write_assignee.conversation_id, write_assignee.account_id, write_assignee.assignee_id
    )
    on conflict (id) do update
        set assignee_id = excluded.assignee_id
    returning s.* into written;
    return written;
end
$$;


create function private.assign_conversation(conversation_id uuid, way text, user_id uuid default null)
    returns public.desk_states
    language plpgsql
    -- definer: users may not write the state; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    me constant uuid := auth.uid();
    account uuid;
    assignee uuid;
begin
    -- A demotion meanwhile would leave the conversation with a viewer, and a removal with nobody.
    -- The member before the conversation, as both have them.
    if way in ('take', 'hand over') then
        perform
        from public.conversations k
        join public.account_members m
            on m.account_id = k.account_id
        where k.id = assign_conversation.conversation_id
          and k.account_id in (select private.my_writable_account_ids())
          and m.user_id = case way when 'take' then me else assign_conversation.user_id end
        for share of m;
    end if;
    account := private.lock_desk(conversation_id);
    select s.assignee_id
    into assignee
    from public.desk_states s
    where s.id = assign_conversation.conversation_id;
    if way = 'take' and assignee <> me then
        raise sqlstate 'PT409' using
            message = format('%s has this conversation.', private.member_name(account, assignee)),
            detail = format('field: conversation_id; assignee: %s', assignee),
            hint = 'Hand it over to yourself with hand_over_conversation, if that is agreed.';
    elsif way = 'hand over' and not exists (
        select
        from public.account_members m
        where m.account_id = account
          and m.user_id = assign_conversation.user_id
          and m.role in ('owner', 'admin', 'agent')
    ) then
        raise sqlstate 'PT422' using
            message = 'A conversation is handed over to an owner, admin or agent of the account.',
            detail = 'field: user_id',
            hint = 'Give the user_id of such a row of account_members.';
    end if;
    return private.write_assignee(
        conversation_id => conversation_id,
        account_id => account,
        assignee_id => case way when 'take' then me when 'hand over' then user_id end
    );
end
$$;

grant execute on function private.assign_conversation(uuid, text, uuid) to authenticated;


create function public.take_conversation(conversation_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(conversation_id => conversation_id, way => 'take');
end
$$;

grant execute on function public.take_conversation(uuid) to authenticated;


create function public.hand_over_conversation(conversation_id uuid, user_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(
        conversation_id => conversation_id, way => 'hand over', user_id => user_id);
end
$$;

grant execute on function public.hand_over_conversation(uuid, uuid) to authenticated;


create function public.release_conversation(conversation_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(conversation_id => conversation_id, way => 'release');
end
$$;

grant execute on function public.release_conversation(uuid) to authenticated;


comment on table public.desk_states is
    'The state of conversations at the desk: who answers, and until when one waits. A conversation without a row is free. No customer reads it.';
comment on column public.desk_states.id is
    'The conversation.';
comment on column public.desk_states.account_id is
    'The account of the conversation.';
comment on column public.desk_states.assignee_id is
    'The member who answers; null if the conversation is free. Written by take_conversation, hand_over_conversation and release_conversation.';
comment on column public.desk_states.snoozed_until is
    'Until when the conversation waits (UTC); null if it does not.';
comment on column public.desk_states.created_at is
    'When the row was made (server time, UTC).';
comment on column public.desk_states.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.desk_states.version is
    'Rises by 1 with each change of the row.';
comment on function private.tg_desk_states__note_assignee() is
    'Notes who has taken, handed over or released a conversation.';
comment on table private.unclosed_conversations is
    'The conversations that are open or pending, with their assignee and snooze.';
comment on function private.tg_conversations__start_unclosed() is
    'Notes new conversations that are not closed.';
comment on function private.tg__keep_unclosed() is
    'Keeps unclosed_conversations as a conversation and its state at the desk are.';
comment on function private.tg_account_members__free_conversations() is
    'Frees the conversations of a member who becomes a viewer.';
comment on function private.tg_account_members__lock_conversations() is
    'Locks the conversations of a member who is removed.';
comment on function private.write_assignee(uuid, uuid, uuid) is
    'Writes who answers a conversation, which the caller has locked.';
comment on function private.assign_conversation(uuid, text, uuid) is
    'Takes, hands over or releases a conversation for the caller.';
comment on function public.take_conversation(uuid) is
    'Takes a conversation: from now on you answer it; returns its state. If somebody else has it: 409, with the name. Unknown: 404.';
comment on function public.hand_over_conversation(uuid, uuid) is
    'Gives a conversation to an owner, admin or agent of the account, also if another member has it; returns its state. Another user: 422. Unknown: 404.';
comment on function public.release_conversation(uuid) is
    'Makes a conversation free, also if another member has it; returns its state. Unknown: 404.';


select private.follow_table(
    table_name => 'desk_states',
    shown => array[
        'id', 'account_id', 'assignee_id', 'snoozed_until', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null,
    conversation_key => 'id'
);


/*
    Labels of an account's team on its conversations, such as "complaint". No customer sees them.
*/
create table public.labels (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint labels_account_id_fkey
               references public.accounts on delete cascade,
    name       text not null
               constraint labels_name_check check (btrim(name) <> '' and length(name) <= 64),
    colour     text not null default '#808080'
               constraint labels_colour_check check (colour ~ '^#[0-9a-f]{6}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint labels_name_key unique (account_id, name),
    -- for foreign keys that include the account
    constraint labels_id_account_id_key unique (id, account_id)
);
alter table public.labels enable row level security;


grant select, delete on public.labels to authenticated;


create trigger _005_default_account
    before insert on public.labels
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _050_keep_owner
    before update of account_id on public.labels
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.labels
    for each row
    execute function private.tg__stamp_change();


create table public.conversation_labels (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    label_id        uuid not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    constraint conversation_labels_key unique (conversation_id, label_id),
    constraint conversation_labels_conversation_fkey
        foreign key (conversation_id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    constraint conversation_labels_label_fkey
        foreign key (label_id, account_id)
        references public.labels (id, account_id)
        on delete cascade
);
alter table public.conversation_labels enable row level security;


create index conversation_labels_label_idx on public.conversation_labels (label_id, account_id);
create index conversation_labels_account_id_idx on public.conversation_labels (account_id);


grant select on public.conversation_labels to authenticated;


/*
    The labels of the conversations that are not closed, for counts by label: see
    unclosed_conversations. A row goes with the label, or when its conversation is closed.
*/
create table private.unclosed_labels (
    label_id        uuid not null,
    conversation_id uuid not null
        references private.unclosed_conversations
        on delete cascade,

    primary key (label_id, conversation_id),
    constraint unclosed_labels_label_fkey
        foreign key (conversation_id, label_id)
        references public.conversation_labels (conversation_id, label_id)
        on delete cascade
);
alter table private.unclosed_labels enable row level security;


create index unclosed_labels_conversation_idx
    on private.unclosed_labels (conversation_id, label_id);


create function private.tg_conversation_labels__keep_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_labels (label_id, conversation_id)
    select new.label_id, u.conversation_id
    from private.unclosed_conversations u
    where u.conversation_id = new.conversation_id;
    return null;
end
$$;

create trigger _510_keep_unclosed
    after insert on public.conversation_labels
    for each row
    execute function private.tg_conversation_labels__keep_unclosed();


create function private.tg_conversations__return_labels()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_labels (label_id, conversation_id)
    select l.label_id, l.conversation_id
    from public.conversation_labels l
    where l.conversation_id = new.id
    -- a label that is being deleted is waited for, and left out
    for key share;
    return null;
end
$$;

-- after _510_keep_unclosed, whose row it refers to
create trigger _520_return_labels
    after update of status on public.conversations
    for each row
    when (old.status = 'closed' and new.status <> 'closed')
    execute function private.tg_conversations__return_labels();


insert into private.sentences (key, language, sentence)
values
    ('desk.labelled', 'en', '{actor} has added the label {label}.'),
    ('desk.labelled', 'sl', 'Oznako {label} doda {actor}.'),
    ('desk.unlabelled', 'en', '{actor} has removed the label {label}.'),
    ('desk.unlabelled', 'sl', 'Oznako {label} odstrani {actor}.');


create function private.label_conversation(conversation_id uuid, label_id uuid, is_labelled boolean)
    returns void
    language plpgsql
    -- definer: users may not write the labels of conversations; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    most constant integer := 50;
    account constant uuid := private.lock_desk(conversation_id);
    named text;
begin
    select l.name
    into named
    from public.labels l
    where l.id = label_conversation.label_id
      and l.account_id = account
    for key share;
    if not found then
        raise sqlstate 'PT422' using
            message = 'The account has no such label.',
            detail = 'field: label_id',
            hint = 'Give the id of a row of labels.';
    end if;

    if is_labelled then
        if (
            select count(*)
            from public.conversation_labels o
            where o.conversation_id = label_conversation.conversation_id
              and o.label_id <> label_conversation.label_id
        ) >= most then
            raise sqlstate 'PT422' using
                message = format('A conversation has at most %s labels.', most),
                detail = 'field: label_id',
                hint = 'Remove one first.';
        end if;
        insert into public.conversation_labels as o (account_id, conversation_id, label_id)
        values (account, label_conversation.conversation_id, label_conversation.label_id)
        on conflict on constraint conversation_labels_key do nothing;
    else
        delete from public.conversation_labels o
        where o.conversation_id = label_conversation.conversation_id
          and o.label_id = label_conversation.label_id;
    end if;

    if found then
        perform private.note_event(
            conversation_id => conversation_id,
            key => case when is_labelled then 'desk.labelled' else 'desk.unlabelled' end,
            facts => jsonb_build_object('label_id', label_id, 'label', named)
        );
    end if;
end
$$;

grant execute on function private.label_conversation(uuid, uuid, boolean) to authenticated;


create function public.label_conversation(conversation_id uuid, label_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.label_conversation(
        conversation_id => conversation_id, label_id => label_id, is_labelled => true);
end
$$;

grant execute on function public.label_conversation(uuid, uuid) to authenticated;


create function public.unlabel_conversation(conversation_id uuid, label_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.label_conversation(
        conversation_id => conversation_id, label_id => label_id, is_labelled => false);
end
$$;

grant execute on function public.unlabel_conversation(uuid, uuid) to authenticated;


comment on table public.labels is
    'The labels that an account''s team puts on conversations. Insert, update and delete them as in any table.';
comment on column public.labels.id is
    'Identifies the label. A client may choose it.';
comment on column public.labels.account_id is
    'The account whose label it is; filled in if you write for one account.';
comment on column public.labels.name is
    'The text that people read, 1 to 64 characters, unique in the account.';
comment on column public.labels.colour is
    'The colour in which it is shown: # and six hexadecimal digits in lower case.';
comment on column public.labels.created_at is
    'When the label was made (server time, UTC).';
comment on column public.labels.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.labels.version is
    'Rises by 1 with each change of the row.';
comment on constraint labels_name_check on public.labels is
    'A label''s name has 1 to 64 characters.';
comment on constraint labels_colour_check on public.labels is
    'A colour is # and six hexadecimal digits in lower case.
Give a colour such as #1f77b4.';
comment on constraint labels_name_key on public.labels is
    'The account has a label with this name.
Use that label, or give another name.';
comment on table public.conversation_labels is
    'Which conversations have which labels. Written by label_conversation and unlabel_conversation.';
comment on column public.conversation_labels.id is
    'Identifies the row.';
comment on column public.conversation_labels.account_id is
    'The account of the conversation and the label.';
comment on column public.conversation_labels.conversation_id is
    'The conversation.';
comment on column public.conversation_labels.label_id is
    'The label that it has.';
comment on column public.conversation_labels.created_at is
    'When it was labelled (server time, UTC).';
comment on column public.conversation_labels.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.conversation_labels.version is
    'Rises by 1 with each change of the row.';
comment on table private.unclosed_labels is
    'The labels of the conversations that are open or pending.';
comment on function private.tg_conversation_labels__keep_unclosed() is
    'Notes a new label of a conversation that is not closed.';
comment on function private.tg_conversations__return_labels() is
    'Notes the labels of a conversation that is opened again.';
comment on function private.label_conversation(uuid, uuid, boolean) is
    'Puts a label on a conversation, or takes it away, and notes it if that changes something.';
comment on function public.label_conversation(uuid, uuid) is
    'Puts a label of the account on a conversation, which has at most 50. No such label: 422. Unknown conversation: 404.';
comment on function public.unlabel_conversation(uuid, uuid) is
    'Takes a label from a conversation. No such label: 422. Unknown conversation: 404.';

select private.follow_table(
    table_name => 'labels',
    shown => array['id', 'account_id', 'name', 'colour', 'created_at', 'updated_at', 'version'],
    customer_key => null
);
select private.limit_writes('labels', '{insert,update,delete}');

select private.follow_table(
    table_name => 'conversation_labels',
    shown => array[
        'id', 'account_id', 'conversation_id', 'label_id', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);


/*
    A snoozed conversation waits until a time, or until the customer writes. The schedule ends a
    snooze whose time has come, so that clients hear of its end. Until then the inbox shows it as
    ended.
*/
insert into private.sentences (key, language, sentence)
values
    ('desk.snoozed', 'en', '{actor} has snoozed the conversation until {time}.'),
    ('desk.snoozed', 'sl', 'Pogovor do {time} odloži {actor}.'),
    ('desk.woken', 'en', '{actor} has ended the snooze.'),
    ('desk.woken', 'sl', 'Odlog konča {actor}.'),
    ('desk.answered', 'en', 'The snooze is over: the customer has written.'),
    ('desk.answered', 'sl', 'Odlog je končan: stranka je pisala.'),
    ('desk.due', 'en', 'The snooze is over: it is time.'),
    ('desk.due', 'sl', 'Odlog je končan: čas je potekel.');


create function private.snooze_conversation(conversation_id uuid, until timestamptz)
    returns public.desk_states
    language plpgsql
    -- definer: users may not write the state; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.lock_desk(conversation_id);
    former constant timestamptz := (
        select s.snoozed_until
        from public.desk_states s
        where s.id = snooze_conversation.conversation_id
    );
    written public.desk_states;
begin
    if until <= now() or until > now() + interval '1 year' then
        raise sqlstate 'PT422' using
            message = 'A conversation is snoozed until a time within the next year.',
            detail = 'field: until',
            hint = 'Give a later time, or null to end the snooze.';
    end if;
    insert into public.desk_states as s (id, account_id, snoozed_until)
    values (snooze_conversation.conversation_id, account, until)
    on conflict (id) do update
        set snoozed_until = excluded.snoozed_until
    returning s.* into written;

    if until is distinct from former then
        perform private.note_event(
            conversation_id => conversation_id,
            key => case when until is null then 'desk.woken' else 'desk.snoozed' end,
            facts => jsonb_build_object(
                'snoozed_until', until, 'time', private.local_time(account, until))
        );
    end if;
    return written;
end
$$;

grant execute on function private.snooze_conversation(uuid, timestamptz) to authenticated;


create function public.snooze_conversation(conversation_id uuid, until timestamptz)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.snooze_conversation(conversation_id => conversation_id, until => until);
end
$$;

grant execute on function public.snooze_conversation(uuid, timestamptz) to authenticated;


create function private.end_snoozes(conversation_ids uuid[], key text)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    ended uuid;
    count integer := 0;
begin
    -- the conversations first, in the lock order
    perform
    from public.conversations k
    where k.id = any (conversation_ids)
    order by k.id
    for no key update;

    for ended in
        update public.desk_states s
        set snoozed_until = null
        where s.id = any (conversation_ids)
          and s.snoozed_until is not null
          -- somebody may have snoozed it again meanwhile
          and (key <> 'desk.due' or s.snoozed_until <= now())
        returning s.id
    loop
        perform private.note_event(
            conversation_id => ended, key => end_snoozes.key, facts => '{}');
        count := count + 1;
    end loop;
    return count;
end
$$;


create function backend.end_snoozes(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: backend functions run as their owner
    security definer
    set search_path = ''
as $$
begin
    return private.end_snoozes(
        conversation_ids => array(
            select s.id
            from public.desk_states s
            where s.snoozed_until <= now()
            order by s.id
            limit batch
        ),
        key => 'desk.due'
    );
end
$$;

grant execute on function backend.end_snoozes(integer) to service_role;


comment on function private.snooze_conversation(uuid, timestamptz) is
    'Snoozes a conversation for the caller, or ends the snooze, and notes it.';
comment on function public.snooze_conversation(uuid, timestamptz) is
    'Lets a conversation wait until a time within the next year (UTC), or until the customer writes; null ends that. Returns its state. Unknown: 404.';
comment on function private.end_snoozes(uuid[], text) is
    'Ends the snoozes of conversations, and notes why. Returns how many.';
comment on function backend.end_snoozes(integer) is
    'Ends snoozes whose time has come, at most this many. Returns how many; 0 means that none is left.';


/*
    The effect of a customer's message at the desk. It ends a snooze. If the account assigns in
    turn, a free conversation goes to the member at the desk whose turn it is.

    The client of a member says once a minute that the member is at the desk. The time is no column
    of account_members, because every policy of every statement reads that table.
*/
create table private.desk_presence (
    account_id uuid not null,
    user_id    uuid not null,
    seen_at    timestamptz not null default now(),

    primary key (account_id, user_id),
    constraint desk_presence_member_fkey
        foreign key (account_id, user_id)
        references public.account_members (account_id, user_id)
        on delete cascade
);
alter table private.desk_presence enable row level security;


-- A table of its own: a turn is decided while its row is locked, and a client that says that it is
-- there must not wait for that lock.
create table private.desk_turns (
    account_id  uuid not null,
    user_id     uuid not null,
    assigned_at timestamptz not null default '-infinity',

    primary key (account_id, user_id),
    constraint desk_turns_member_fkey
        foreign key (account_id, user_id)
        references public.account_members (account_id, user_id)
        on delete cascade
);
alter table private.desk_turns enable row level security;


create function private.stay_at_desk(account_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write who is there; the caller writes itself alone
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := coalesce(
        account_id, private.only_account_id(array(select private.my_account_ids())));
begin
    perform private.require_member(account);
    insert into private.desk_presence as p (account_id, user_id)
    values (account, auth.uid())
    on conflict on constraint desk_presence_pkey do update
        set seen_at = now();
    insert into private.desk_turns (account_id, user_id)
    values (account, auth.uid())
    on conflict on constraint desk_turns_pkey do nothing;
end
$$;

grant execute on function private.stay_at_desk(uuid) to authenticated;


create function public.stay_at_desk(account_id uuid default null)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.stay_at_desk(account_id);
end
$$;

grant execute on function public.stay_at_desk(uuid) to authenticated;


create function private.next_at_desk(account_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    chosen uuid;
begin
    -- two conversations that come at once go to two members
    select t.user_id
    into chosen
    from private.desk_turns t
    join private.desk_presence p
        on p.account_id = t.account_id
       and p.user_id = t.user_id
    join public.account_members m
        on m.account_id = t.account_id
       and m.user_id = t.user_id
    where t.account_id = next_at_desk.account_id
      and p.seen_at > now() - interval '2 minutes'
      and m.role in ('owner', 'admin', 'agent')
    order by t.assigned_at, t.user_id
    limit 1
    for no key update of t skip locked
    -- a member whose role is being changed is passed over
    for share of m skip locked;
    if found then
        update private.desk_turns t
        set assigned_at = clock_timestamp()
        where t.account_id = next_at_desk.account_id
          and t.user_id = chosen;
        return chosen;
    end if;

    -- all turns are locked by others: do not wait for them
    return (
        select p.user_id
        from private.desk_presence p
        join private.desk_turns t
            on t.account_id = p.account_id
           and t.user_id = p.user_id
        join public.account_members m
            on m.account_id = p.account_id
           and m.user_id = p.user_id
        where p.account_id = next_at_desk.account_id
          and p.seen_at > now() - interval '2 minutes'
          and m.role in ('owner', 'admin', 'agent')
        order by t.assigned_at, p.user_id
        limit 1
        for share of m skip locked
    );
end
$$;


create function private.tg_messages__reach_desk()
    returns trigger
    language plpgsql
    -- definer: it writes the state for every writer
    security definer
    set search_path = ''
    -- few rows at a time, found by key, as in the followed tables' own triggers
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    reached record;
    next_member uuid;
begin
    for reached in
        select
            n.conversation_id,
            n.account_id,
            bool_or(s.snoozed_until is not null) as is_snoozed,
            bool_or(s.assignee_id is null and a.assigns_in_turn) as is_assigned
        from new_rows n
        join public.accounts a
            on a.id = n.account_id
        left join public.desk_states s
            on s.id = n.conversation_id
        where n.sender_type = 'client'
          and not n.is_history
          and (s.snoozed_until is not null or s.assignee_id is null and a.assigns_in_turn)
        group by n.conversation_id, n.account_id
        order by n.conversation_id
    loop
        if reached.is_snoozed then
            perform private.end_snoozes(
                conversation_ids => array[reached.conversation_id], key => 'desk.answered');
        end if;
        continue when not reached.is_assigned;
        next_member := private.next_at_desk(reached.account_id);
        -- nobody is there: it stays free
        if next_member is not null then
            perform private.write_assignee(
                conversation_id => reached.conversation_id,
                account_id => reached.account_id,
                assignee_id => next_member
            );
        end if;
    end loop;
    return null;
end
$$;

create trigger _500_reach_desk
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__reach_desk();


comment on table private.desk_presence is
    'When each member was last at the desk. Within 2 minutes it counts as present.';
comment on table private.desk_turns is
    'When each member was last given a conversation in turn.';
comment on function private.stay_at_desk(uuid) is
    'Notes that the caller is at the desk of an account.';
comment on function public.stay_at_desk(uuid) is
    'Says that you are at the desk of an account; say it once a minute while you are. It counts for 2 minutes: see accounts.assigns_in_turn. If you work for one account, it need not be named; for several: 422. Not a member of the account: 404.';
comment on function private.next_at_desk(uuid) is
    'The member present at the desk who was given a conversation least recently, and who has now had the turn; null if nobody who may answer is there.';
comment on function private.tg_messages__reach_desk() is
    'Ends the snooze of a conversation in which the customer writes, and gives a free one to the member whose turn it is.';


/*
    How long an account keeps its messages and files: accounts.messages_kept_days, files_kept_days.
    Without these nothing is deleted. Once a day a pass goes through the account's conversations, in
    calls that delete up to 100 messages each: in this way nobody waits, and clients are told of each
    message that goes.

    Nothing is deleted of a contact under a legal hold, nor what waits to be sent. Raw webhooks, which
    hold the data of all accounts, have a retention of their own (private.retention).
*/
create table private.retention_passes (
    account_id    uuid primary key
                  constraint retention_passes_account_id_fkey
                  references public.accounts on delete cascade,
    -- up to which conversation the pass has come
    after_id      uuid,
    -- when the last pass ended; null before the end of the first
    ended_at      timestamptz,
    -- of all passes together: with last_seq of the conversations it says how many are left
    messages      bigint not null default 0
);
alter table private.retention_passes enable row level security;


/*
    Files to delete from the bucket: their rows are gone, or say that the file is. A row goes when
    the bucket no longer has the file.
*/
create table private.file_deletions (
    object_key text primary key,
    account_id uuid not null,
    -- later than the lease of a worker that may be writing the file now
    not_before timestamptz not null default now() + interval '10 minutes'
);
alter table private.file_deletions enable row level security;


create index file_deletions_due_idx on private.file_deletions (not_before, object_key);


create function private.delete_files_of(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- whether it was fetched or not: deleting what is not there does no harm
    insert into private.file_deletions (object_key, account_id)
    select distinct f.object_key, f.account_id
    from public.message_media f
    where f.message_id = any (message_ids)
    on conflict on constraint file_deletions_pkey do update
        set not_before = excluded.not_before;
end
$$;


create function private.is_held_thread(thread public.conversations)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if thread.customer_id is not null then
        return private.is_held(thread.customer_id);
    end if;
    -- in a group a held contact may be any of the participants
    return exists (
        select
        from private.legal_holds h
        join public.contact_identities i
            on i.contact_id in (select private.contact_lineage(h.contact_id))
        join jsonb_array_elements(thread.participants) p
            on i.kind = 'phone' and p.value ->> 'wa_id' in (i.wa_id, ltrim(i.value, '+'))
            or i.kind = 'bsuid' and p.value ->> 'user_id' = i.value
        where h.account_id = thread.account_id
          and h.ended_at is null
    );
end
$$;


create function private.prune_thread(
    thread public.conversations,
    messages_before timestamptz,
    files_before timestamptz,
    batch integer,
    out messages integer,
    out files integer
)
    language plpgsql
    set search_path = ''
as $$
declare
    old uuid[] := '{}';
begin
    messages := 0;
    files := 0;
    if messages_before is not null then
        -- in the order of arrival, so that what is left has no gap
        old := array(
            select m.id
            from public.messages m
            where m.id in (
                select f.id
                from (
                    select o.id, o.created_at
                    from public.messages o
                    where o.conversation_id = thread.id
                    order by o.seq
                    limit batch
                ) f
                where f.created_at < messages_before
            )
              -- it waits to be sent
              and not exists (select from private.outbound_queue q where q.message_id = m.id)
            order by m.id
            -- a writer that has one is not waited for
            for update skip locked
        );
    end if;
    if old <> '{}' then
        perform private.delete_files_of(old);
        delete from private.message_statuses s
        using public.messages m
        where m.id = any (old)
          and s.whatsapp_channel_id = m.whatsapp_channel_id
          and s.provider_id = m.provider_id;
        delete from private.message_effects e
        using public.messages m
        where m.id = any (old)
          and e.whatsapp_channel_id = m.whatsapp_channel_id
          and e.parent_provider_id = m.provider_id;
        delete from public.messages m
        where m.id = any (old);
        messages := cardinality(old);
    end if;
    if files_before is null then
        return;
    end if;

    old := array(
        select f.id
        from public.message_media f
        where f.conversation_id = thread.id
          and f.account_id = thread.account_id
          and f.state = 'stored'
          and f.stored_at < files_before
          and not exists (select from private.outbound_queue q where q.message_id = f.message_id)
        order by f.id
        limit batch - messages
        for no key update skip locked
    );
    if old <> '{}' then
        perform private.delete_files_of(array(
            select f.message_id
            from public.message_media f
            where f.id = any (old)
        ));
        update public.message_media f
        set state = 'expired',
            error = 'The file was deleted, since the account keeps files for a time only.',
            stored_at = null
        where f.id = any (old);
        files := cardinality(old);
    end if;
end
$$;


create function private.prune_uploads(account_id uuid, files_before timestamptz, batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with old as (
        select u.id, u.object_key
        from private.media_uploads u
        where u.account_id = prune_uploads.account_id
          and u.created_at < files_before
          -- a message that is sent later will need it
          and not exists (
              select
              from public.scheduled_messages s
              where s.account_id = u.account_id
                and s.status = 'waiting'
                and s.content ->> 'upload_id' = u.id::text
          )
          -- a message that has it keeps it for as long as its own file
          and not exists (
              select
              from public.message_media f
              where f.object_key = u.object_key
                and f.state = 'stored'
          )
        order by u.id
        limit batch
        for update skip locked
    ),
    gone as (
        delete from private.media_uploads u
        using old o
        where u.id = o.id
        returning u.object_key
    )
    insert into private.file_deletions (object_key, account_id)
    select g.object_key, prune_uploads.account_id
    from gone g
    on conflict on constraint file_deletions_pkey do nothing;
    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.prune_kept(batch integer default 100)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    -- more for one topic would have its clients read everything again
    most constant integer := least(greatest(batch, 1), 100);
    -- a conversation without old messages costs little; a limit keeps the call short all the same
    looks constant integer := 500;
    account record;
    pass private.retention_passes;
    thread public.conversations;
    pruned record;
    messages integer := 0;
    files integer := 0;
    looked integer := 0;
    is_done boolean := true;
begin
    for account in
        select
            a.id,
            now() - make_interval(days => a.messages_kept_days) as messages_before,
            now() - make_interval(days => a.files_kept_days) as files_before
        from public.accounts a
        where num_nonnulls(a.messages_kept_days, a.files_kept_days) > 0
        order by a.id
    loop
        insert into private.retention_passes (account_id)
        values (account.id)
        on conflict do nothing;
        -- another run is at it
        select p.*
        into pass
        from private.retention_passes p
        where p.account_id = account.id
        for update skip locked;
        -- once a day, at whichever hour the last one ended
        continue when not found or pass.ended_at > now() - interval '20 hours';

        for thread in
            select k.*
            from public.conversations k
            where k.account_id = account.id
              and (pass.after_id is null or k.id > pass.after_id)
            order by k.id
            limit looks - looked
        loop
            looked := looked + 1;
            if not private.is_held_thread(thread) then
                pruned := private.prune_thread(
                    thread,
                    messages_before => account.messages_before,
                    files_before => account.files_before,
                    batch => most - messages - files
                );
                messages := messages + pruned.messages;
                files := files + pruned.files;
                pass.messages := pass.messages + pruned.messages;
                -- the next call looks at this conversation once more
                exit when messages + files >= most;
            end if;
            pass.after_id := thread.id;
        end loop;

        if messages + files >= most or looked >= looks then
            is_done := false;
        else
            files := files + private.prune_uploads(
                account.id, files_before => account.files_before, batch => most - messages - files);
            is_done := messages + files < most;
        end if;
        update private.retention_passes p
        set after_id = case when is_done then null else pass.after_id end,
            ended_at = case when is_done then now() else pass.ended_at end,
            messages = pass.messages
        where p.account_id = account.id;
        exit when not is_done;
    end loop;
    return jsonb_build_object('messages', messages, 'files', files, 'is_done', is_done);
end
$$;

grant execute on function backend.prune_kept(integer) to service_role;


create function backend.files_to_delete(batch integer default 100)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    -- a file that another message still shows stays; that one's deletion notes it again
    delete from private.file_deletions d
    where d.not_before <= now()
      and exists (
          select
          from public.message_media f
          where f.object_key = d.object_key
            and f.state = 'stored'
      );
    return (
        select coalesce(jsonb_agg(d.object_key), '[]')
        from (
            select o.object_key
            from private.file_deletions o
            where o.not_before <= now()
            order by o.not_before, o.object_key
            limit least(greatest(batch, 1), 1000)
        ) d
    );
end
$$;

grant execute on function backend.files_to_delete(integer) to service_role;


create function backend.settle_file_deletions(object_keys text[])
    returns void
    language sql
    -- definer: as above
    security definer
    set search_path = ''
as $$
    delete from private.file_deletions d
    where d.object_key = any (object_keys)
$$;

grant execute on function backend.settle_file_deletions(text[]) to service_role;


comment on table private.retention_passes is
    'How far the retention of each account''s messages has come.';
comment on column private.retention_passes.messages is
    'How many messages all passes have deleted.';
comment on table private.file_deletions is
    'Files to delete from the bucket. daily deletes them.';
comment on function private.delete_files_of(uuid[]) is
    'Has the files of messages deleted from the bucket, before or after their rows.';
comment on function private.is_held_thread(public.conversations) is
    'Whether a conversation is kept for a contact under a legal hold; of a group, any participant.';
comment on function private.prune_thread(
    public.conversations, timestamptz, timestamptz, integer
) is
    'Deletes at most batch messages and files of a conversation that are older than the given times; returns their numbers.';
comment on function private.prune_uploads(uuid, timestamptz, integer) is
    'Forgets at most batch uploads that no message has, and has them deleted; returns their number.';
comment on function backend.prune_kept(integer) is
    'Deletes messages and files that are older than their accounts keep them, at most batch (1 to 100) in a call: {messages, files, is_done}. Call it again until is_done.';
comment on function backend.files_to_delete(integer) is
    'The keys of files to delete from the bucket now.';
comment on function backend.settle_file_deletions(text[]) is
    'Notes that the bucket no longer has these files.';
