/*
    Conversations of the first business of the seed, as triggers and constraints would have left
    them, written past both: `web.conversations` with a message each, and one more whose customer has
    written `web.messages`.
*/
set local session_replication_role = replica;

create temporary table made on commit drop as
select
    n,
    md5('web contact ' || n)::uuid as contact_id,
    md5('web conversation ' || n)::uuid as id,
    'Customer ' || n as name,
    (386_30_000_000 + n)::text as digits,
    -- the long one is the latest
    now() - interval '1 hour' - n * interval '1 minute' as at,
    case n when 0 then current_setting('web.messages')::integer else 1 end as messages,
    w.account_id,
    w.id as channel_id
from generate_series(0, current_setting('web.conversations')::integer) n
cross join public.whatsapp_channels w
where w.phone_number_id = current_setting('web.number');

insert into public.contacts (id, account_id, name, phone, status, created_at, updated_at)
select m.contact_id, m.account_id, m.name, '+' || m.digits, 'open', m.at, m.at
from made m;

insert into public.customers (id, account_id, name, phone, created_at, updated_at)
select m.contact_id, m.account_id, m.name, '+' || m.digits, m.at, m.at
from made m;

insert into public.contact_identities (account_id, kind, value, contact_id, wa_id, created_at)
select m.account_id, 'phone', '+' || m.digits, m.contact_id, m.digits, m.at
from made m;

insert into public.conversations (
    id, account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id, status,
    created_at, updated_at
)
select
    m.id, m.account_id, m.contact_id, 'whatsapp', m.channel_id,
    'phone:' || private.match_key(kind => 'phone', value => m.digits), m.digits, 'open', m.at, m.at
from made m;

insert into public.messages (
    id, account_id, conversation_id, customer_id, seq, sender_type, sender_id, message,
    whatsapp_channel_id, provider_id, status, sent_at, delivered_at, created_at, updated_at
)
select
    md5(format('web message %s %s', m.n, s.seq))::uuid, m.account_id, m.id, m.contact_id, s.seq,
    'client', m.digits, format('Number %s of %s.', s.seq, m.name), m.channel_id,
    format('wamid.web%s-%s', m.n, s.seq), 'delivered', s.at, s.at, s.at, s.at
from made m
cross join lateral (
    select seq, m.at - (m.messages - seq) * interval '1 second' as at
    from generate_series(1, m.messages) as seq
) s;

insert into public.conversation_activity (
    conversation_id, account_id, customer_id, last_seq, last_message_at, last_inbound_at
)
select m.id, m.account_id, m.contact_id, m.messages, m.at, m.at
from made m;

insert into private.unclosed_conversations (conversation_id, account_id, is_open)
select m.id, m.account_id, true
from made m;
