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
comment on policy "members and the customer can read a conversation" on public.conversations is
    'A conversation is between an account''s staff and one customer.';


select private.follow_table(
    table_name => 'conversations',
    shown => array[
        'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
        'customer_wa_id', 'group_id', 'group_name', 'group_state', 'participants', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
    ],
    conversation_key => 'id'
);
