/*
    A thread of messages with one customer. Its id is the conversation's one identity, in rows,
    topics, URLs and events.
*/
create table public.conversations (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    customer_id         uuid not null,
    channel             text not null
                        constraint conversations_channel_check
                        check (channel in ('whatsapp', 'booking', 'portal')),
    whatsapp_channel_id uuid,
    -- who the customer is on this channel: a WhatsApp thread belongs to the number that
    -- writes, so that merging contacts never joins two threads
    thread_key          text not null,
    -- the exact spelling to which replies go
    customer_wa_id      text,
    status              text not null default 'open'
                        constraint conversations_status_check
                        check (status in ('open', 'pending', 'closed')),
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    version             bigint not null default 1,
    -- the job that a booking's chat is about
    booking_id          uuid,

    -- what a foreign key of the same account and customer refers to
    constraint conversations_id_account_id_customer_id_key unique (id, account_id, customer_id),
    constraint conversations_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint conversations_whatsapp_channel_fkey
        foreign key (whatsapp_channel_id, account_id)
        references public.whatsapp_channels (id, account_id)
        on delete cascade,
    -- a WhatsApp thread has a number of ours, and no other has
    constraint conversations_whatsapp_channel_id_check
        check ((channel = 'whatsapp') = (whatsapp_channel_id is not null)),
    constraint conversations_booking_id_check
        check ((channel = 'booking') = (booking_id is not null))
);
alter table public.conversations enable row level security;


-- one open thread: four photos sent at once land in one conversation; those that are closed
-- differ by their id, so that one index finds them all
create unique index conversations_open_thread_key
    on public.conversations (
        whatsapp_channel_id,
        account_id,
        thread_key,
        channel,
        (case when status = 'closed' then id end)
    )
    nulls not distinct;

create index conversations_customer_idx
    on public.conversations (customer_id, account_id);

create index conversations_account_id_idx
    on public.conversations (account_id);

-- a booking has one chat, which is opened again rather than followed by another; account and
-- customer are the job's own, and are named for its foreign key
create unique index conversations_booking_key
    on public.conversations (booking_id, account_id, customer_id)
    where booking_id is not null;


create policy "members and the customer can read a conversation"
    on public.conversations
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );


grant select on public.conversations to authenticated;


create trigger _050_keep_owner
    before update on public.conversations
    for each row
    when (
        (new.account_id, new.booking_id) is distinct from (old.account_id, old.booking_id)
    )
    execute function private.tg__keep_owner('account_id', 'booking_id');

create trigger _100_stamp_change
    before update on public.conversations
    for each row
    execute function private.tg__stamp_change();


comment on table public.conversations is
    'A thread of messages with one customer, on WhatsApp, about a booking or in the portal.';
comment on column public.conversations.customer_id is
    'The contact with whom the thread is held.';
comment on column public.conversations.thread_key is
    'Who the customer is on this channel; one thread with a key is open at a time.';
comment on column public.conversations.booking_id is
    'The job that a booking''s chat is about; null on other channels.';
comment on policy "members and the customer can read a conversation" on public.conversations is
    'A conversation is between an account''s staff and one customer.';


select private.follow_table(
    table_name => 'conversations',
    shown => array[
        'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
        'customer_wa_id', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
    ],
    conversation_key => 'id'
);
