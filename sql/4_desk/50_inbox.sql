/*
    The list of conversations, for both sides: staff see those of their account, a customer their
    own. A deleted contact has no customers row, so its conversations are left out.

    Everything is looked up for the activity of one conversation, in the order of
    conversation_activity_inbox_idx. Each "limit 1" tells the planner that there is one row: from
    the policies it expects so few rows that it would read and sort all.
*/
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
    k.group_id,
    k.group_name,
    k.participants,
    k.status,
    c.name as customer_name,
    a.last_seq,
    a.last_message_at,
    a.last_inbound_at,
    case when m.revoked_at is null then m.message else '[deleted]' end as last_message,
    m.type as last_message_type,
    -- what clients say in words of their own; of other types the text is enough
    case
        when m.revoked_at is null and m.type in ('system', 'call', 'audio') then m.content
    end as last_message_content,
    case when m.type = 'system' then m.invoice_data end as last_invoice_data,
    m.sender_type as last_sender_type,
    m.sender_name as last_sender_name,
    m.status as last_message_status,
    r.last_read_seq,
    u.unread_count,
    desk.assignee_id,
    assignee.display_name as assignee_name,
    labels.label_ids,
    case when desk.snoozed_until > now() then desk.snoozed_until end as snoozed_until,
    later.send_later_count,
    k.created_at,
    k.version
from public.conversation_activity a
cross join lateral (
    select
        o.channel, o.whatsapp_channel_id, o.customer_wa_id, o.group_id, o.group_name,
        o.participants, o.status, o.created_at, o.version
    from public.conversations o
    where o.id = a.conversation_id
    limit 1
) k
cross join lateral (
    select o.name
    from public.customers o
    where o.id = a.customer_id
    union all
    -- the group's name; a general one until WhatsApp tells it
    select case when k.group_name is null then 'WhatsApp group' else k.group_name end
    where a.customer_id is null
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
-- for staff alone: the policies hide it from customers
left join lateral (
    select o.assignee_id, o.snoozed_until
    from public.desk_states o
    where o.id = a.conversation_id
    limit 1
) desk
    on true
left join lateral (
    select o.display_name
    from public.account_members o
    where o.account_id = a.account_id
      and o.user_id = desk.assignee_id
    limit 1
) assignee
    on true
cross join lateral (
    select array(
        select o.label_id
        from public.conversation_labels o
        where o.conversation_id = a.conversation_id
        order by o.label_id
    )
) as labels (label_ids)
cross join lateral (
    select
        -- customers are told nothing, not even that nothing waits
        case when a.account_id = any (array(select private.my_account_ids())) then (
            select count(*)::integer
            from (
                select
                from public.scheduled_messages o
                where o.conversation_id = a.conversation_id
                  and o.status = 'waiting'
                limit 100
            ) o
        ) end
) as later (send_later_count)
cross join lateral (
    -- It says case, because Postgres does not take coalesce for leakproof: under row level
    -- security it would count from the beginning of the conversation.
    select case when marker.last_read_seq is null then 0 else marker.last_read_seq end
) as r (last_read_seq)
cross join lateral (
    select count(*)::integer as unread_count
    from (
        select
        from public.messages n
        where n.conversation_id = a.conversation_id
          and n.seq > r.last_read_seq
          and n.revoked_at is null
          and not n.is_history
          -- messages of the other side
          and n.sender_type = any (
              case
                  when a.account_id = any (array(select private.my_account_ids()))
                      then array['client']
                  else array['operator', 'system']
              end
          )
        -- clients show 99+, so the count stops at 100
        limit 100
    ) n
) u;


grant select on public.inbox to authenticated;


comment on view public.inbox is
    'Conversations, with the columns of a list of them. Filter by one account_id, or as a customer by one customer_id. Sort by last_message_at (descending) and id. inbox_page finds by assignee, label, snooze and name.';
comment on column public.inbox.id is
    'The conversation.';
comment on column public.inbox.account_id is
    'The account of the conversation.';
comment on column public.inbox.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.inbox.channel is
    'whatsapp, booking or portal.';
comment on column public.inbox.whatsapp_channel_id is
    'The account''s WhatsApp number that carries the conversation; null on other channels.';
comment on column public.inbox.customer_wa_id is
    'The exact WhatsApp id to which replies go.';
comment on column public.inbox.group_id is
    'WhatsApp''s id of the group; null for a conversation with one customer.';
comment on column public.inbox.group_name is
    'The group''s subject; null if WhatsApp has not told it.';
comment on column public.inbox.participants is
    'The present and former members of the group; see conversations.';
comment on column public.inbox.status is
    'open, pending or closed; written by set_conversation_status.';
comment on column public.inbox.customer_name is
    'The customer''s name: the one that staff gave, or else that of the WhatsApp profile. For a group, the name of the group.';
comment on column public.inbox.last_seq is
    'The seq of the latest message; 0 before the first.';
comment on column public.inbox.last_message_at is
    'When the latest message was sent (UTC); before the first message, when the conversation was made.';
comment on column public.inbox.last_inbound_at is
    'When the customer last wrote or called: on WhatsApp by WhatsApp''s clock (UTC).';
comment on column public.inbox.last_message is
    'The text of the latest message, or a placeholder such as [image] or [deleted].';
comment on column public.inbox.last_message_type is
    'The type of the latest message: text, image, location …';
comment on column public.inbox.last_message_content is
    'The content of the latest message where clients have words of their own for it: a notice of the system, a call, audio (is it a voice message?). Null for others.'
    ' Type: json | null';
comment on column public.inbox.last_invoice_data is
    'The invoice of a latest message that is a notice about one; else null. See messages.invoice_data.'
    ' Type: json | null';
comment on column public.inbox.last_sender_type is
    'Who wrote the latest message: client, operator or system.';
comment on column public.inbox.last_sender_name is
    'The name of the person who wrote the latest message.';
comment on column public.inbox.last_message_status is
    'The status of the latest message: queued, sent, delivered, read, failed or unknown.';
comment on column public.inbox.last_read_seq is
    'The seq up to which the signed-in user has read; mark_read moves it.'
    ' Type: bigint';
comment on column public.inbox.unread_count is
    'How many messages of the other side the signed-in user has not read, without deleted ones; 100 stands for 100 or more.'
    ' Type: integer';
comment on column public.inbox.assignee_id is
    'The member who answers; null if the conversation is free. Customers see null.';
comment on column public.inbox.assignee_name is
    'The assignee''s name. Customers see null.';
comment on column public.inbox.label_ids is
    'The ids of the conversation''s labels; see labels. Customers see none.';
comment on column public.inbox.snoozed_until is
    'Until when the conversation waits (UTC); null if it does not. Customers see null.';
comment on column public.inbox.send_later_count is
    'How many messages of scheduled_messages wait for their time in this conversation; 100 stands for 100 or more. Customers see null.'
    ' Type: integer | null';
comment on column public.inbox.created_at is
    'When the conversation was made (server time, UTC).';
comment on column public.inbox.version is
    'The conversation''s version: rises by 1 with each change of it, but not with a message.';
