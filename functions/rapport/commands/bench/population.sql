/*
    Rows as triggers and constraints would have left them, written past both. All that looks
    random is a hash of a row's number, so that every run makes the same rows.

    Contacts are as imports leave them. What follows is written in the order of time, over all
    accounts, as it would have been: messages of one conversation lie on many pages.
*/
set local work_mem = '256MB';
set local maintenance_work_mem = '256MB';


-- from 0 to below size: each alike, or the first more often (the square of an even choice)
create function pg_temp.pick(n bigint, salt integer, size integer)
    returns integer
    language sql
    immutable
return ((hashint8extended(n, salt) & 9223372036854775807) % size)::integer;

create function pg_temp.share(n bigint, salt integer)
    returns double precision
    language sql
    immutable
return pg_temp.pick(n => n, salt => salt, size => 1000000) / 1000000.0::double precision;

create function pg_temp.pick_skewed(n bigint, salt integer, size integer)
    returns integer
    language sql
    immutable
return floor(size * power(pg_temp.share(n => n, salt => salt), 2))::integer;


insert into auth.users (id, email, aud, role)
select md5('agent ' || n)::uuid, format('agent%s@rapport.example', n), 'authenticated', 'authenticated'
from generate_series(1, current_setting('population.accounts')::integer) n;

-- accounts are few, and their triggers fill what is not named here
insert into public.accounts (id, external_id, name)
select md5('account ' || n)::uuid, 'account-' || n, 'Account ' || n
from generate_series(1, current_setting('population.accounts')::integer) n;

set local session_replication_role = replica;

-- one index over all rows at the end is built in a fraction of the time of as many changes of it
create temporary table set_aside on commit drop as
select i.indexrelid::regclass::text as index_name, pg_get_indexdef(i.indexrelid) as made
from pg_catalog.pg_index i
join pg_catalog.pg_class t
    on t.oid = i.indrelid
where t.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
  and t.relkind = 'r'
  and not t.relispartition
  -- of primary keys and foreign keys
  and not exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid);

do $$
declare
    aside record;
begin
    for aside in select s.index_name from set_aside s loop
        execute format('drop index %s', aside.index_name);
    end loop;
end
$$;

insert into public.account_members (account_id, user_id, role, display_name)
select md5('account ' || n)::uuid, md5('agent ' || n)::uuid, 'agent', 'Agent ' || n
from generate_series(1, current_setting('population.accounts')::integer) n;

insert into public.whatsapp_channels (id, account_id, phone_number_id, display_phone_number, name)
select
    md5('channel ' || n)::uuid,
    md5('account ' || n)::uuid,
    (100000000000 + n)::text,
    '+1 555 ' || n,
    'Desk'
from generate_series(1, current_setting('population.accounts')::integer) n;


create temporary table people on commit drop as
with parts as (
    select
        array[
            'Ana', 'Žiga', 'Matej', 'Nika', 'Luka', 'Eva', 'Jan', 'Maja', 'Marko', 'Tjaša',
            'Rok', 'Petra', 'Andrej', 'Špela', 'Miha', 'Katja', 'Tomaž', 'Urška', 'Gregor', 'Anže',
            'José', 'María', 'João', 'Inês', 'Søren', 'Åsa', 'Jürgen', 'Käthe', 'François', 'Zoë',
            'Łukasz', 'Małgorzata', 'Ömer', 'Ayşe', 'Ștefan', 'Oana', 'Giulia', 'Niccolò', 'Nguyễn',
            'Hana', 'Ivana', 'Dušan', 'Čedomir', 'Vesna', 'Boris', 'Irena', 'Oliver', 'Emma', 'Noah',
            'Sofia', 'Liam', 'Mia', 'Ivan', 'Olga', 'Yusuf', 'Fatima', 'Chiara', 'Björn', 'Quentin',
            'Xenia'
        ] as first_names,
        array[
            'Nov', 'Hor', 'Kov', 'Žup', 'Kraj', 'Mlak', 'Pot', 'Zor', 'Vid', 'Kos', 'Gol', 'Hri',
            'Bez', 'Kol', 'Rib', 'Čer', 'Šku', 'Tur', 'Ver', 'Dol', 'Obl', 'Jer', 'Pav', 'Mar',
            'Müll', 'Schm', 'Gonz', 'Fern', 'Lar', 'Niel', 'Øst', 'Wiś', 'Yıl', 'Popa', 'Ross',
            'Quint', 'Xer', 'Urb', 'Lesk', 'Fink'
        ] as stems,
        array[
            'ak', 'ačič', 'ič', 'ar', 'nik', 'šek', 'ec', 'an', 'in', 'ović', 'ski', 'er', 'sen',
            'ez', 'elli', 'escu'
        ] as endings
)
select
    n,
    md5('contact ' || n)::uuid as id,
    'account ' || account as account_name,
    'channel ' || account as channel_name,
    account,
    gone,
    case when not gone and pg_temp.pick(n, 11, 10) < 9
        then first_names[1 + pg_temp.pick_skewed(n, 12, 60)]
            || ' ' || stems[1 + pg_temp.pick_skewed(n, 13, 40)]
            || endings[1 + pg_temp.pick_skewed(n, 14, 16)]
    end as full_name,
    -- of one of twenty countries, no two alike
    (30 + pg_temp.pick(n, 15, 20)) || (10000000 + n * 48271 % 89999999)::text as digits,
    pg_temp.pick(n, 16, 2) = 0 as has_email,
    timestamptz '2026-11-20 00:00:00Z' - pg_temp.share(n, 17) * interval '700 days' as met_at
from (
    select
        n,
        case
            when n <= current_setting('population.largest')::integer then 1
            else 2 + pg_temp.pick_skewed(n, 10, current_setting('population.accounts')::integer - 1)
        end as account,
        pg_temp.pick(n, 18, 50) = 0 as gone
    from generate_series(1, current_setting('population.contacts')::bigint) n
) a
cross join parts;


insert into public.contacts (
    id, account_id, name, profile_name, profile_named_at, phone, email, username, tags, notes,
    status, created_at, updated_at, deleted_at
)
select
    p.id,
    md5(p.account_name)::uuid,
    case when pg_temp.pick(p.n, 20, 4) > 0 then p.full_name end,
    p.full_name,
    case when p.full_name is not null then p.met_at end,
    case when not p.gone then '+' || p.digits end,
    case when not p.gone and p.has_email
        then format(
            '%s%s@%s', translate(private.fold(coalesce(p.full_name, 'info')), ' ', '.'), p.n,
            (array['example.com', 'example.si', 'example.org'])[1 + pg_temp.pick(p.n, 21, 3)])
    end,
    case when not p.gone and pg_temp.pick(p.n, 22, 10) = 0 then 'user.' || p.n end,
    case when p.gone then '{}' else array(
        select distinct (array[
            'newsletter', 'regular', 'company', 'carpets', 'hotel', 'windows', 'invoice', 'spring',
            'discount', 'referral', 'Kranj', 'Ljubljana', 'Maribor', 'Koper', 'waiting', 'VIP',
            'complaint', 'lead', 'partner', 'obročno'
        ])[1 + pg_temp.pick_skewed(p.n, 30 + t, 20)]
        from generate_series(1, pg_temp.pick(p.n, 23, 4)) t
        order by 1
    ) end,
    case when not p.gone and pg_temp.pick(p.n, 24, 3) = 0 then 'Rings twice. ' || p.n end,
    'open',
    p.met_at,
    p.met_at,
    case when p.gone then p.met_at + interval '1 day' end
from people p;

insert into public.customers (id, account_id, name, phone, email, created_at, updated_at)
select c.id, c.account_id, coalesce(c.name, c.profile_name), c.phone, c.email, c.created_at, c.updated_at
from public.contacts c
where c.deleted_at is null;

insert into public.contact_identities (account_id, kind, value, contact_id, wa_id, created_at)
select c.account_id, 'phone', c.phone, c.id, ltrim(c.phone, '+'), c.created_at
from public.contacts c
where c.phone is not null;

insert into public.contact_identities (account_id, kind, value, contact_id, created_at)
select c.account_id, i.kind, i.value, c.id, c.created_at
from public.contacts c
cross join lateral (values ('email', c.email), ('username', c.username)) as i (kind, value)
where i.value is not null;

insert into private.contact_search (contact_id, account_id, sort_name, words)
select
    c.id,
    c.account_id,
    private.sort_name(
        name => coalesce(c.name, c.profile_name),
        username => c.username,
        email => c.email,
        phone => c.phone
    ),
    private.search_words(
        name => coalesce(c.name, c.profile_name),
        username => c.username,
        email => c.email,
        phone => c.phone,
        tags => c.tags
    )
from public.contacts c
where c.deleted_at is null;


/*
    Of seven contacts in eight one thread, of some an older one as well; most have a few
    messages, and the rest of the wanted number is one thread of the largest account.
*/
create temporary table threads on commit drop as
select
    p.n,
    t.nth,
    md5(format('conversation %s %s', p.n, t.nth))::uuid as id,
    p.id as customer_id,
    md5(p.account_name)::uuid as account_id,
    md5(p.channel_name)::uuid as whatsapp_channel_id,
    p.account,
    p.digits,
    case
        when p.gone or t.nth = 2 then 'closed'
        else (array['open', 'open', 'open', 'pending'])[1 + pg_temp.pick(p.n, 41, 20)]
    end as status,
    timestamptz '2026-11-20 00:00:00Z'
        - power(pg_temp.share(p.n, 42), 2) * interval '400 days'
        - (t.nth - 1) * interval '400 days' as last_message_at,
    -- most of the mean, in proportion to an exponential distribution
    1 + floor(
        -ln(greatest(pg_temp.share(p.n, 43 + t.nth), 0.000001))
        * 0.78 * current_setting('population.messages')::numeric
        / current_setting('population.contacts')::numeric
    )::integer as length
from people p
cross join generate_series(1, 2) as t (nth)
where case t.nth when 1 then p.n = 1 or pg_temp.pick(p.n, 40, 8) > 0 else pg_temp.pick(p.n, 40, 8) > 6 end;

update threads t
set status = coalesce(t.status, 'closed'),
    length = case
        when t.n = 1 and t.nth = 1 then
            current_setting('population.messages')::integer
            - (select sum(o.length) from threads o where (o.n, o.nth) <> (1, 1))
        else t.length
    end;

insert into public.conversations (
    id, account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id, status,
    created_at, updated_at
)
select
    t.id, t.account_id, t.customer_id, 'whatsapp', t.whatsapp_channel_id,
    'phone:' || private.match_key(kind => 'phone', value => t.digits), t.digits, t.status,
    t.last_message_at - t.length * interval '7 minutes', t.last_message_at
from threads t
order by t.last_message_at - t.length * interval '7 minutes', t.id;

insert into public.messages (
    id, account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name, message,
    whatsapp_channel_id, provider_id, status, sent_at, delivered_at, created_at, updated_at
)
select
    md5(m.name)::uuid,
    t.account_id,
    t.id,
    t.customer_id,
    m.seq,
    m.sender_type,
    case m.sender_type when 'client' then t.digits else md5('agent ' || t.account) end,
    case m.sender_type when 'operator' then 'Agent ' || t.account end,
    (array[
        'Is Tuesday free?', 'Yes, at ten.', 'How much is it for two rooms?', 'Thank you!',
        'We will be there on time.', 'Could you come a little later?', 'The invoice is in your mail.',
        'Our address has changed, please write it down.', 'Ok', 'See you.'
    ])[1 + pg_temp.pick(t.n + m.seq, 51, 10)],
    t.whatsapp_channel_id,
    'wamid.' || md5(m.name),
    'delivered',
    m.sent_at,
    m.sent_at,
    m.sent_at,
    m.sent_at
from threads t
cross join lateral (
    select
        s.seq,
        format('message %s %s %s', t.n, t.nth, s.seq) as name,
        case when s.seq = 1 or pg_temp.pick(t.n * 1000 + s.seq, 52, 5) < 3
            then 'client'
            else 'operator'
        end as sender_type,
        t.last_message_at - (t.length - s.seq) * interval '7 minutes' as sent_at
    from generate_series(1, t.length) as s (seq)
) m
order by m.sent_at, t.id, m.seq;

insert into public.conversation_activity (
    conversation_id, account_id, customer_id, last_seq, last_message_at, last_inbound_at
)
select
    m.conversation_id,
    m.account_id,
    m.customer_id,
    max(m.seq),
    max(m.sent_at),
    max(m.sent_at) filter (where m.sender_type = 'client')
from public.messages m
group by m.conversation_id, m.account_id, m.customer_id
order by min(m.sent_at), m.conversation_id;

-- agents have read most of what is closed, and some of the rest
insert into public.read_markers (
    conversation_id, user_id, account_id, customer_id, last_read_seq, read_at
)
select
    t.id,
    md5('agent ' || t.account)::uuid,
    t.account_id,
    t.customer_id,
    floor(t.length * case t.status when 'closed' then 1 else pg_temp.share(t.n, 61) end)::bigint,
    t.last_message_at
from threads t
where pg_temp.pick(t.n, 60, 10) < 8
order by t.last_message_at, t.id;

-- who has which conversations, labels and snoozes: some that many have, and some that few have
insert into auth.users (id, email, aud, role)
select
    md5('colleague ' || n)::uuid, format('colleague%s@rapport.example', n), 'authenticated', 'authenticated'
from generate_series(1, current_setting('population.accounts')::integer) n;

insert into public.account_members (account_id, user_id, role, display_name)
select md5('account ' || n)::uuid, md5('colleague ' || n)::uuid, 'agent', 'Colleague ' || n
from generate_series(1, current_setting('population.accounts')::integer) n;

insert into public.desk_states (id, account_id, assignee_id, snoozed_until)
select
    d.id,
    d.account_id,
    case when d.chosen < 303 then
        md5(format('%s %s', case when d.chosen < 300 then 'agent' else 'colleague' end, d.account))::uuid
    end,
    case when d.chosen >= 303 then now() + (d.chosen - 302) * interval '1 day' end
from (
    select t.*, pg_temp.pick(t.n, 62 + t.nth, 1000) as chosen
    from threads t
) d
where d.chosen < 310
order by d.last_message_at, d.id;

insert into private.unclosed_conversations (
    conversation_id, account_id, is_open, assignee_id, snoozed_until
)
select t.id, t.account_id, t.status = 'open', s.assignee_id, s.snoozed_until
from threads t
left join public.desk_states s on s.id = t.id
where t.status <> 'closed'
order by t.last_message_at, t.id;

insert into public.labels (id, account_id, name)
select md5(format('label %s %s', l.name, n))::uuid, md5('account ' || n)::uuid, l.name
from generate_series(1, current_setting('population.accounts')::integer) n
cross join (values ('usual'), ('rare')) as l (name);

insert into public.conversation_labels (account_id, conversation_id, label_id)
select t.account_id, t.id, md5(format('label %s %s', l.name, t.account))::uuid
from threads t
join (values ('usual', 0, 300), ('rare', 300, 302)) as l (name, first, beyond)
    on pg_temp.pick(t.n, 65 + t.nth, 1000) between l.first and l.beyond - 1
order by t.last_message_at, t.id;

insert into private.unclosed_labels (label_id, conversation_id)
select l.label_id, l.conversation_id
from public.conversation_labels l
join private.unclosed_conversations u on u.conversation_id = l.conversation_id;

-- what waits in some conversations, and what was sent from many
insert into public.scheduled_messages (
    account_id, conversation_id, customer_id, author_id, author_name, message, wanted_at, send_at,
    due_at, status
)
select
    t.account_id,
    t.id,
    t.customer_id,
    md5('agent ' || t.account)::uuid,
    'Agent ' || t.account,
    'See you tomorrow.',
    w.at,
    w.at,
    w.at,
    case when s.nth <= 2 and pg_temp.pick(t.n, 67 + t.nth, 100) < 3 then 'waiting' else 'sent' end
from threads t
cross join generate_series(1, 4) as s (nth)
cross join lateral (select now() + s.nth * interval '1 hour') as w (at)
where pg_temp.pick(t.n, 66 + t.nth, 100) < 20
order by t.last_message_at, t.id;

do $$
declare
    aside record;
begin
    for aside in select s.made from set_aside s loop
        execute aside.made;
    end loop;
end
$$;

drop function pg_temp.pick_skewed, pg_temp.share, pg_temp.pick;
