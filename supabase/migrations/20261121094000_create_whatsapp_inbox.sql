/*
    The raw webhook inbox: what arrived, whole, before anything is made of it. What a better
    parser understands later is made from here.
*/
create table private.webhook_events (
    id               bigint generated always as identity primary key,
    provider         text not null
                     constraint webhook_events_provider_check check (provider in ('whatsapp')),
    -- text, not jsonb: the sender's own bytes, escapes and duplicate keys included
    body             text not null,
    -- a delivery that is repeated is the same event
    body_sha256      bytea not null,
    deliveries       integer not null default 1,
    -- items of it that could not be applied: [{index, reason, detail}]
    rejected         jsonb not null default '[]',
    received_at      timestamptz not null default now(),
    last_received_at timestamptz not null default now(),

    constraint webhook_events_body_sha256_key unique (provider, body_sha256)
);
alter table private.webhook_events enable row level security;


create policy "nobody reads raw webhooks directly"
    on private.webhook_events
    for all
    to authenticated
    using (false);


/*
    Every status that WhatsApp reported of a message, also of one that is not known yet: it
    is found here when the message's id becomes known.
*/
create table private.message_statuses (
    -- no foreign key: it would have all statuses of a number queue for one row
    whatsapp_channel_id uuid not null,
    provider_id         text not null,
    status              text not null
                        constraint message_statuses_status_check
                        check (status in ('sent', 'delivered', 'read', 'failed')),
    -- the provider's earliest time of it
    at                  timestamptz not null,
    error_code          integer,
    error_message       text,

    primary key (whatsapp_channel_id, provider_id, status)
);
alter table private.message_statuses enable row level security;


create policy "nobody reads message statuses directly"
    on private.message_statuses
    for all
    to authenticated
    using (false);


comment on table private.webhook_events is
    'What providers posted, whole; each body once.';
comment on column private.webhook_events.deliveries is
    'How often this very body was delivered.';
comment on policy "nobody reads raw webhooks directly" on private.webhook_events is
    'Raw events carry every tenant''s data.';
comment on table private.message_statuses is
    'Every status reported of a message, with the provider''s time.';
comment on policy "nobody reads message statuses directly" on private.message_statuses is
    'Clients see the status of the message.';


/*
    One update out of a WhatsApp webhook, as the function hands it over, and what is found
    out about it here.
*/
create type private.whatsapp_item as (
    kind                text,
    -- its place in the call, from 0
    index               integer,
    phone_number_id     text,
    provider_id         text,

    -- a message
    wa_id               text,
    user_id             text,
    profile_name        text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- a status
    status              text,
    at                  timestamptz,
    error_code          integer,
    error_message       text,

    -- found out here
    account_id          uuid,
    whatsapp_channel_id uuid,
    identity_kind       text,
    identity_key        text,
    contact_id          uuid,
    conversation_id     uuid
);


create function private.read_whatsapp_items(items jsonb)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    /*
        Only the number decides whose an update is. Whatever the caller said in the fields
        that are found out here is not read.
    */
    return array(
        -- a row of casts: jsonb_populate_record looks up every column's type at each call
        select (
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'sent_at',
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'status',
            i.value ->> 'at',
            i.value ->> 'error_code',
            i.value ->> 'error_message',
            w.account_id,
            w.id,
            k.kind,
            private.match_key(kind => k.kind, value => k.value),
            null,
            null
        )::private.whatsapp_item
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' <> 'skipped'
    );
end
$$;


comment on type private.whatsapp_item is
    'One update out of a WhatsApp webhook.';
comment on function private.read_whatsapp_items(jsonb) is
    'The updates of a call that belong to a known number, each with its account.';


/*
    Who sends by WhatsApp: the contact of each sender, found or made, and its name.

    Locks are taken in one order by all writers: identities, contacts, conversations, messages,
    each by key. (Of 24 unsorted batches 19 deadlocked, of the sorted ones none.)
*/
create function private.known_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select jsonb_populate_record(i, jsonb_build_object('contact_id', owner.contact_id))
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
        where i.user_id is null
           or i.identity_kind = 'bsuid'
           or (
               select true
               from public.contact_identities u
               where u.account_id = i.account_id
                 and u.kind = 'bsuid'
                 and u.match_key = i.user_id
               limit 1
           )
    );
end
$$;


create function private.keep_whatsapp_ids(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- a number that staff wrote down turns out to be on WhatsApp, or is spelt differently there
    with spelt as (
        select distinct on (i.account_id, i.identity_key) i.account_id, i.identity_key, i.wa_id
        from unnest(items) i
        where i.identity_kind = 'phone'
        order by i.account_id, i.identity_key, i.sent_at desc, i.provider_id desc
    ),
    locked as materialized (
        select o.account_id, o.match_key, s.wa_id
        from spelt s
        join public.contact_identities o
            on o.account_id = s.account_id
           and o.kind = 'phone'
           and o.match_key = s.identity_key
        where o.wa_id is distinct from s.wa_id
        order by o.account_id, o.match_key
        for no key update of o
    )
    update public.contact_identities o
    set wa_id = l.wa_id
    from locked l
    where o.account_id = l.account_id
      and o.kind = 'phone'
      and o.match_key = l.match_key;
end
$$;


create function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp
    withholds the number. An identity is claimed with the id of a contact that is written
    afterwards; a claim that comes second finds the first one's contact.
*/
declare
    known_items private.whatsapp_item[] := private.known_whatsapp_senders(items);
begin
    perform private.keep_whatsapp_ids(items);
    if cardinality(known_items) = cardinality(items) then
        return known_items;
    end if;

    with senders as (
        select
            s.account_id,
            s.wa_id,
            s.user_id,
            coalesce(
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = s.identity_kind
                      and o.match_key = s.identity_key
                    limit 1
                ),
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = 'bsuid'
                      and o.match_key = s.user_id
                    limit 1
                ),
                gen_random_uuid()
            ) as contact_id
        from (
            select
                i.account_id,
                i.identity_kind,
                i.identity_key,
                (array_agg(i.wa_id order by i.sent_at desc, i.provider_id desc))[1] as wa_id,
                (array_agg(i.user_id order by i.sent_at desc, i.provider_id desc)
                    filter (where i.user_id is not null))[1] as user_id
            from unnest(items) i
            group by i.account_id, i.identity_kind, i.identity_key
        ) s
    ),
    claims as (
        select
            s.account_id,
            'phone' as kind,
            '+' || s.wa_id as value,
            private.match_key(kind => 'phone', value => s.wa_id) as match_key,
            s.wa_id,
            s.contact_id
        from senders s
        where s.wa_id is not null
        union all
        select s.account_id, 'bsuid', s.user_id, s.user_id, null, s.contact_id
        from senders s
        where s.user_id is not null
    )
    insert into public.contact_identities (account_id, kind, value, wa_id, contact_id)
    select c.account_id, c.kind, c.value, c.wa_id, c.contact_id
    from claims c
    where (
        select true
        from public.contact_identities o
        where o.account_id = c.account_id
          and o.kind = c.kind
          and o.match_key = c.match_key
        limit 1
    ) is null
    order by c.account_id, c.kind, c.match_key
    on conflict do nothing;

    known_items := private.known_whatsapp_senders(items);

    -- a user id claimed for a contact that lost its number to another session follows it
    update public.contact_identities u
    set contact_id = i.contact_id
    from unnest(known_items) i
    where u.account_id = i.account_id
      and u.kind = 'bsuid'
      and u.match_key = i.user_id
      and u.contact_id <> i.contact_id
      and (select true from public.contacts c where c.id = u.contact_id limit 1) is null;

    return known_items;
end
$$;


create function private.name_whatsapp_senders(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    renamed uuid[];
    names text[];
    named_at timestamptz[];
begin
    if exists (
        select
        from unnest(items) i
        where (select true from public.contacts c where c.id = i.contact_id limit 1) is null
    ) then
        insert into public.contacts (id, account_id, phone, profile_name, profile_named_at)
        select
            i.contact_id,
            i.account_id,
            (array_agg('+' || i.wa_id order by i.sent_at desc, i.provider_id desc)
                -- longer ones are ids of test numbers and groups
                filter (where i.wa_id ~ '^[1-9][0-9]{1,14}$'))[1],
            (array_agg(i.profile_name order by i.sent_at desc, i.provider_id desc)
                filter (where i.profile_name is not null))[1],
            max(i.sent_at) filter (where i.profile_name is not null)
        from unnest(items) i
        where (select true from public.contacts c where c.id = i.contact_id limit 1) is null
        group by i.contact_id, i.account_id
        order by i.contact_id;
    end if;

    /*
        The latest message names its sender, by the provider's time, however late it comes.
        An unchanged name is not stamped again (that would write the contact with every
        message), so an older message first looks for a later one.
    */
    with named as (
        select distinct on (i.contact_id) i.contact_id, i.profile_name, i.sent_at, i.provider_id
        from unnest(items) i
        where i.profile_name is not null
        order by i.contact_id, i.sent_at desc, i.provider_id desc
    ),
    locked as (
        select c.id, n.profile_name, n.sent_at
        from named n
        cross join lateral (
            select k.id
            from public.contacts k
            where k.id = n.contact_id
            limit 1
        ) known
        join public.contacts c
            on c.id = known.id
        where c.profile_name is distinct from n.profile_name
          and (c.profile_named_at is null or c.profile_named_at <= n.sent_at)
          and (
              select true
              from public.messages m
              where m.customer_id = n.contact_id
                and m.sender_type = 'client'
                and m.sender_name is not null
                and m.sent_at >= n.sent_at
                and (m.sent_at, m.provider_id) > (n.sent_at, n.provider_id)
              limit 1
          ) is null
        order by c.id
        for no key update of c
    )
    select array_agg(l.id), array_agg(l.profile_name), array_agg(l.sent_at)
    into renamed, names, named_at
    from locked l;

    -- an update of no row would still run the table's triggers
    if renamed is not null then
        update public.contacts c
        set profile_name = r.profile_name,
            profile_named_at = r.sent_at
        from unnest(renamed, names, named_at) as r (id, profile_name, sent_at)
        where c.id = r.id;
    end if;
end
$$;


comment on function private.known_whatsapp_senders(private.whatsapp_item[]) is
    'The messages whose senders are known by all that is said of them, with their contacts.';
comment on function private.keep_whatsapp_ids(private.whatsapp_item[]) is
    'Notes on known numbers how WhatsApp spells them.';
comment on function private.claim_whatsapp_senders(private.whatsapp_item[]) is
    'Finds or claims the contact of each sender.';
comment on function private.name_whatsapp_senders(private.whatsapp_item[]) is
    'Writes contacts that are new, and names that have changed.';


/*
    The conversation of each WhatsApp message: found or opened, and locked. The order of locks
    is that of 620_whatsapp_senders.
*/
create function private.keep_whatsapp_spelling(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    threads uuid[];
    spellings text[];
begin
    -- replies go to the number as its latest message spells it
    select array_agg(l.conversation_id), array_agg(l.wa_id)
    into threads, spellings
    from (
        select distinct on (i.conversation_id) i.conversation_id, i.wa_id, i.sent_at
        from unnest(items) i
        where i.wa_id is not null
        order by i.conversation_id, i.sent_at desc, i.provider_id desc
    ) l
    cross join lateral (
        select c.customer_wa_id, a.last_inbound_at
        from public.conversations c
        join public.conversation_activity a
            on a.conversation_id = c.id
        where c.id = l.conversation_id
        limit 1
    ) thread
    where thread.customer_wa_id is distinct from l.wa_id
      and (thread.last_inbound_at is null or thread.last_inbound_at <= l.sent_at);

    -- an update of no row would still run the table's triggers
    if threads is not null then
        update public.conversations c
        set customer_wa_id = s.wa_id
        from unnest(threads, spellings) as s (id, wa_id)
        where c.id = s.id;
    end if;
end
$$;


create function private.open_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
declare
    found_items private.whatsapp_item[];
begin
    -- a thread may be opened or closed by others between two statements: look again
    for attempt in 1 .. 4 loop
        with threads as materialized (
            select i as item, c.id, c.customer_id
            from unnest(items) i
            cross join lateral (
                select t.id
                from public.conversations t
                where t.whatsapp_channel_id = i.whatsapp_channel_id
                  and t.account_id = i.account_id
                  and t.thread_key = i.identity_kind || ':' || i.identity_key
                  and t.channel = 'whatsapp'
                  and t.status <> 'closed'
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and c.status <> 'closed'
            order by c.id
            for no key update of c
        )
        select array_agg(
            jsonb_populate_record(t.item, jsonb_build_object(
                'conversation_id', t.id,
                -- whoever owns the number now, an open thread stays with its customer
                'contact_id', t.customer_id
            ))
        )
        into found_items
        from threads t;

        if cardinality(found_items) = cardinality(items) then
            perform private.keep_whatsapp_spelling(found_items);
            return found_items;
        end if;

        insert into public.conversations (
            account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id
        )
        select distinct on (i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key)
            i.account_id,
            i.contact_id,
            'whatsapp',
            i.whatsapp_channel_id,
            i.identity_kind || ':' || i.identity_key,
            i.wa_id
        from unnest(items) i
        where (
            select true
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
            limit 1
        ) is null
        order by i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key
        on conflict (
            whatsapp_channel_id,
            account_id,
            thread_key,
            channel,
            (case when status = 'closed' then id end)
        ) do nothing;
    end loop;

    raise sqlstate '40001' using
        message = 'Conversations were closed as fast as they were opened.',
        hint = 'Try again.';
end
$$;


create function private.continue_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in two statements: everybody is known, by the name and the spelling that
    they give, and has an open conversation. Null where that is not so of all; no lock has been taken then,
    but for those of conversations that were closed a moment ago.
*/
declare
    found_items private.whatsapp_item[];
    threads uuid[];
    locked integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, whatever the
    -- planner thinks of the tables' sizes
    found_items := array(
        select jsonb_populate_record(i, jsonb_build_object(
            'conversation_id', thread.id,
            -- whoever owns the number now, an open thread stays with its customer
            'contact_id', thread.customer_id
        ))
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
        cross join lateral (
            select c.id
            from public.contacts c
            where c.id = owner.contact_id
              and (i.profile_name is null or c.profile_name = i.profile_name)
            limit 1
        ) named
        cross join lateral (
            select t.id, t.customer_id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        where i.user_id is null
           or i.identity_kind = 'bsuid'
           or (
               select true
               from public.contact_identities u
               where u.account_id = i.account_id
                 and u.kind = 'bsuid'
                 and u.match_key = i.user_id
               limit 1
           )
    );
    if cardinality(found_items) < cardinality(items) then
        return null;
    end if;

    threads := array(select distinct i.conversation_id from unnest(found_items) i);
    perform
    from public.conversations t
    where t.id = any (threads)
      and t.status <> 'closed'
    order by t.id
    for no key update;
    get diagnostics locked = row_count;

    if locked < cardinality(threads) then
        return null;
    end if;
    return found_items;
end
$$;


comment on function private.keep_whatsapp_spelling(private.whatsapp_item[]) is
    'Notes on conversations, which are locked, how their customers'' numbers are spelt now.';
comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the conversations of messages, if all of them have one.';


/*
    Messages that customers send by WhatsApp, a batch at a time, into their conversations.
*/
create function private.append_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    appended integer;
begin
    -- the conversations are locked: nobody else numbers messages in them
    with fresh as materialized (
        select
            i.*,
            row_number() over (
                partition by i.conversation_id
                order by i.sent_at, i.provider_id
            ) as place
        from unnest(items) i
        where (
            select true
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
            limit 1
        ) is null
    ),
    appended_rows as (
        insert into public.messages (
            account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name,
            type, message, content, reply_to, whatsapp_channel_id, provider_id, status, sent_at
        )
        select
            f.account_id,
            f.conversation_id,
            f.contact_id,
            thread.last_seq + f.place,
            'client',
            coalesce(f.wa_id, f.user_id),
            f.profile_name,
            f.type,
            f.text,
            f.content,
            (
                select parent.id
                from public.messages parent
                where parent.whatsapp_channel_id = f.whatsapp_channel_id
                  and parent.provider_id = f.reply_to
                  and parent.conversation_id = f.conversation_id
                limit 1
            ),
            f.whatsapp_channel_id,
            f.provider_id,
            'delivered',
            f.sent_at
        from fresh f
        cross join lateral (
            select a.last_seq
            from public.conversation_activity a
            where a.conversation_id = f.conversation_id
            limit 1
        ) thread
        order by f.conversation_id, f.place
        returning conversation_id, sent_at
    ),
    latest as (
        select r.conversation_id, count(*) as added, max(r.sent_at) as sent_at
        from appended_rows r
        group by r.conversation_id
    ),
    counted as (
        update public.conversation_activity a
        set last_seq = a.last_seq + l.added,
            -- the first message's time, however old it is, replaces the conversation's own
            last_message_at = case
                when a.last_seq = 0 then l.sent_at
                else greatest(a.last_message_at, l.sent_at)
            end,
            last_inbound_at = greatest(a.last_inbound_at, l.sent_at)
        from latest l
        where a.conversation_id = l.conversation_id
        returning l.added
    )
    select coalesce(sum(n.added), 0)
    into appended
    from counted n;

    return appended;
end
$$;


create function private.apply_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
begin
    -- a repeated delivery ends here, having locked and written nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where (
        select true
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
        limit 1
    ) is null;
    if fresh is null then
        return 0;
    end if;

    placed := private.continue_whatsapp_threads(fresh);
    if placed is null then
        fresh := private.claim_whatsapp_senders(fresh);
        perform private.name_whatsapp_senders(fresh);
        placed := private.open_whatsapp_threads(fresh);
    end if;
    return private.append_whatsapp_messages(placed);
end
$$;


comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts what is new; returns how many.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[]) is
    'Everything that follows from a batch of received messages; returns how many were new.';


/*
    Statuses of WhatsApp messages: they arrive in any order, more than once, and sometimes
    before the message's id is known. All are kept; what a message shows is derived from all
    of them, so the order of arrival makes no difference.
*/
create function private.settle_message_statuses(whatsapp_channel_ids uuid[], provider_ids text[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
    settled integer;
begin
    message_ids := array(
        select distinct message.id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        cross join lateral (
            select m.id
            from public.messages m
            where m.whatsapp_channel_id = k.whatsapp_channel_id
              and m.provider_id = k.provider_id
              -- what we received has no delivery of ours
              and m.sender_type <> 'client'
            limit 1
        ) message
    );

    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    update public.messages m
    set status = case
            when e.read_at is not null then 'read'
            -- evidence of delivery outranks a failure, which stays visible as error
            when e.delivered_at is not null then 'delivered'
            when e.failed_at is not null then 'failed'
            else 'sent'
        end,
        sent_at = coalesce(e.sent_at, m.sent_at),
        delivered_at = e.delivered_at,
        read_at = e.read_at,
        failed_at = e.failed_at,
        error_code = e.error_code,
        error_message = e.error_message
    from public.messages k
    cross join lateral (
        select
            min(s.at) filter (where s.status = 'sent') as sent_at,
            -- read implies delivered: WhatsApp may leave out the latter
            min(s.at) filter (where s.status in ('delivered', 'read')) as delivered_at,
            min(s.at) filter (where s.status = 'read') as read_at,
            min(s.at) filter (where s.status = 'failed') as failed_at,
            min(s.error_code) as error_code,
            min(s.error_message) as error_message
        from private.message_statuses s
        where s.whatsapp_channel_id = k.whatsapp_channel_id
          and s.provider_id = k.provider_id
    ) e
    where k.id = any (message_ids)
      and m.id = k.id;

    get diagnostics settled = row_count;
    return settled;
end
$$;


create function private.apply_whatsapp_statuses(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    applied integer;
begin
    if items is null then
        return 0;
    end if;

    insert into private.message_statuses as s (
        whatsapp_channel_id, provider_id, status, at, error_code, error_message
    )
    select distinct on (i.whatsapp_channel_id, i.provider_id, i.status)
        i.whatsapp_channel_id,
        i.provider_id,
        i.status,
        i.at,
        i.error_code,
        i.error_message
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.status, i.at
    on conflict (whatsapp_channel_id, provider_id, status) do update
        set at = excluded.at,
            error_code = excluded.error_code,
            error_message = excluded.error_message
        where excluded.at < s.at;

    get diagnostics applied = row_count;
    if applied > 0 then
        perform private.settle_message_statuses(
            whatsapp_channel_ids => array_agg(i.whatsapp_channel_id),
            provider_ids => array_agg(i.provider_id)
        )
        from unnest(items) i;
    end if;
    return applied;
end
$$;


comment on function private.settle_message_statuses(uuid[], text[]) is
    'Shows on messages what their statuses amount to; repeating it changes nothing.';
comment on function private.apply_whatsapp_statuses(private.whatsapp_item[]) is
    'Keeps reported statuses and settles their messages; returns how many were news.';


/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Only where a set fails is each
    update looked at alone, and what passes is applied as a set again.
*/
create function private.apply_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    messages private.whatsapp_item[];
    statuses private.whatsapp_item[];
begin
    select
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'message'),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'status')
    into messages, statuses
    from unnest(items) i;

    -- a status locks messages, so it comes after what locks conversations
    return private.apply_whatsapp_messages(messages) + private.apply_whatsapp_statuses(statuses);
end
$$;


create function private.readable_whatsapp_items(
    items jsonb,
    out readable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Reads each update alone, where reading them as a set fails.
*/
declare
    item record;
    read private.whatsapp_item[];
begin
    readable := '{}';
    refused := '[]';
    for item in
        select i.value, i.ordinal - 1 as index
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    loop
        begin
            read := private.read_whatsapp_items(jsonb_build_array(item.value));
            if cardinality(read) = 1 then
                read[1].index := item.index;
                readable := readable || read;
            end if;
        exception
            when others then
                refused := refused || private.refusal(item.index, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;


create function private.applicable_whatsapp_items(
    items private.whatsapp_item[],
    out applicable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Tries each update alone and undoes it, where applying them as a set fails. What passes is
    to be applied as a set: one by one, locks would be taken out of order.
*/
declare
    item private.whatsapp_item;
begin
    applicable := '{}';
    refused := '[]';
    foreach item in array items loop
        begin
            perform private.apply_whatsapp_items(array[item]);
            raise sqlstate 'RP001';
        exception
            when sqlstate 'RP001' then
                applicable := applicable || item;
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                refused := refused || private.refusal(item.index, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;


create function private.refusal(index bigint, code text, message text)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select jsonb_build_object(
        'index', index, 'reason', 'refused', 'detail', code || ' ' || message)
$$;


create function private.left_out_whatsapp_items(items jsonb)
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'index', i.ordinal - 1,
                'reason', coalesce(i.value ->> 'reason', 'unknown_phone_number_id'),
                'detail', i.value ->> 'detail')
            order by i.ordinal),
        '[]')
    from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    where i.value ->> 'kind' = 'skipped'
       or not exists (
           select
           from public.whatsapp_channels w
           where w.phone_number_id = i.value ->> 'phone_number_id'
       )
$$;


create function backend.ingest_whatsapp(body text, items jsonb)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    event_id bigint;
    usable private.whatsapp_item[];
    applied integer;
    refused jsonb;
    rejections jsonb := '[]';
begin
    insert into private.webhook_events as e (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do update
        set deliveries = e.deliveries + 1,
            last_received_at = now()
    returning id into event_id;

    begin
        usable := private.read_whatsapp_items(items);
    exception
        when others then
            select r.readable, r.refused
            into usable, rejections
            from private.readable_whatsapp_items(items) r;
    end;

    begin
        applied := private.apply_whatsapp_items(usable);
    exception
        -- contention is for the caller to repeat, whole
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            select a.applicable, a.refused
            into usable, refused
            from private.applicable_whatsapp_items(usable) a;
            rejections := rejections || refused;
            applied := private.apply_whatsapp_items(usable);
    end;

    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;

        update private.webhook_events e
        set rejected = rejections
        where e.id = event_id
          and e.rejected <> rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', applied,
        'duplicates', cardinality(usable) - applied,
        'rejected', (
            select coalesce(jsonb_agg(r.value - 'detail'), '[]')
            from jsonb_array_elements(rejections) r
        )
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[]) is
    'Applies updates as sets; returns how many were news.';
comment on function private.readable_whatsapp_items(jsonb) is
    'The updates that can be read, and why the others can not.';
comment on function private.applicable_whatsapp_items(private.whatsapp_item[]) is
    'The updates that can be applied, and why the others can not.';
comment on function private.refusal(bigint, text, text) is
    'Why an update was refused: {index, reason, detail}, the detail beginning with the SQLSTATE.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason}]}. Repeating it changes nothing.';
