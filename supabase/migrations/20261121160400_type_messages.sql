/*
    The words of a message are types of their own: a check on a column is parsed anew by every
    statement that writes the table, that of a domain once in a session. What is built on these
    columns is made again.
*/
create type private.webhook_provider as enum ('whatsapp');

comment on type private.webhook_provider is
    'Whose webhooks are taken in.';

alter table private.webhook_events
    drop constraint webhook_events_provider_check,
    alter column provider type private.webhook_provider
        using provider::private.webhook_provider;

drop policy "agents and customers can write in their conversations" on public.messages;
drop view public.inbox;

create domain public.message_sender as text
    constraint message_sender_check check (value in ('client', 'operator', 'system'));

create domain public.message_status as text
    constraint message_status_check
    check (value in ('queued', 'sent', 'delivered', 'read', 'failed', 'unknown'));

create domain public.message_sender_name as text
    constraint message_sender_name_check check (length(value) <= 200);

create domain public.message_client_ref as text
    constraint message_client_ref_check check (length(value) <= 128);

comment on domain public.message_sender is
    'Who wrote a message: the customer (client), staff (operator) or the software (system).';
comment on domain public.message_status is
    'How far a message has come.';

comment on domain public.message_sender_name is
    'At most 200 characters.';
comment on domain public.message_client_ref is
    'At most 128 characters.';

alter table public.messages
    drop constraint messages_client_ref_check,
    drop constraint messages_sender_name_check,
    drop constraint messages_sender_type_check,
    drop constraint messages_status_check,
    drop constraint messages_status_time_check,
    alter column sender_type type public.message_sender,
    alter column sender_name type public.message_sender_name,
    alter column client_ref type public.message_client_ref,
    alter column status type public.message_status;

alter table public.messages
    add constraint messages_status_time_check check (
        (status <> 'read' or read_at is not null)
        and (status <> 'failed' or failed_at is not null and delivered_at is null)
        and (read_at is null or delivered_at is not null)
    );

create policy "agents and customers can write in their conversations"
    on public.messages
    for insert
    to authenticated
    with check (
        sender_id = (select auth.uid())::text
        and case sender_type
                when 'operator' then
                    account_id = any (array(select private.my_writable_account_ids()))
                when 'client' then
                    customer_id = any (array(select private.my_customer_ids()))
                else false
            end
    );

comment on policy "agents and customers can write in their conversations" on public.messages is
    'As themselves; on WhatsApp only staff write here.';

create view public.inbox
    with (security_invoker = true)
as
select
    a.conversation_id as id,
    a.account_id,
    a.customer_id,
    k.channel,
    k.whatsapp_channel_id,
    k.customer_wa_id,
    k.status,
    c.name as customer_name,
    a.last_seq,
    a.last_message_at,
    a.last_inbound_at,
    m.message as last_message,
    m.type as last_message_type,
    m.sender_type as last_sender_type,
    m.sender_name as last_sender_name,
    m.status as last_message_status,
    r.last_read_seq,
    u.unread_count,
    k.created_at,
    k.version
from public.conversation_activity a
cross join lateral (
    select o.channel, o.whatsapp_channel_id, o.customer_wa_id, o.status, o.created_at, o.version
    from public.conversations o
    where o.id = a.conversation_id
    limit 1
) k
cross join lateral (
    select o.name
    from public.customers o
    where o.id = a.customer_id
    limit 1
) c
left join public.messages m
    on m.conversation_id = a.conversation_id
   and m.seq = a.last_seq
left join lateral (
    select o.last_read_seq
    from public.read_markers o
    where o.conversation_id = a.conversation_id
      and o.user_id = (select auth.uid())
    limit 1
) marker
    on true
cross join lateral (
    -- a case, since Postgres takes coalesce for a leak, and under row level security would
    -- count through the conversation from its beginning
    select case when marker.last_read_seq is null then 0 else marker.last_read_seq end
) as r (last_read_seq)
cross join lateral (
    select count(*)::integer as unread_count
    from (
        select
        from public.messages n
        where n.conversation_id = a.conversation_id
          and n.seq > r.last_read_seq
          -- what the other side has written
          and n.sender_type = any (
              case
                  when a.account_id = any (array(select private.my_account_ids()))
                      then array['client']
                  else array['operator', 'system']
              end
          )
        -- shown as 99+, and no more work than that
        limit 100
    ) n
) u;


grant select on public.inbox to authenticated;


comment on view public.inbox is
    'Conversations with what a list of them shows. Ask for one account_id, or as a customer for one customer_id; sort by last_message_at (descending) and id.';
comment on column public.inbox.id is
    'The conversation.';
comment on column public.inbox.customer_id is
    'The contact with whom it is held.';
comment on column public.inbox.customer_name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.inbox.status is
    'open, pending or closed; written by set_conversation_status.';
comment on column public.inbox.last_seq is
    'The seq of the latest message; 0 before the first.';
comment on column public.inbox.last_message is
    'The text of the latest message, or a placeholder such as [image].';
comment on column public.inbox.last_read_seq is
    'How far the signed-in user has read, see mark_read.';
comment on column public.inbox.unread_count is
    'Messages of the other side that the signed-in user has not read; 100 stands for all above 99.';
