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


-- This policy says "in", which uses no index; other policies say "any". With "any" Postgres began
-- at the policy and sorted the whole inbox: 1787 ms for 50 of 50,000 rows, and now 1.9 ms. So
-- filter this table by account, customer or conversation.
create policy "members and the customer can read a conversation's activity"
    on public.conversation_activity
    for select
    to authenticated
    using (
        account_id in (select private.my_account_ids())
        or customer_id in (select private.my_customer_ids())
    );


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
comment on policy "members and the customer can read a conversation's activity"
    on public.conversation_activity is
    'A user who may read a conversation may read its activity.';
