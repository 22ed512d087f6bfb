-- Made from sql/6_whatsapp/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The inbox of raw webhooks: each body is kept whole before anything is made of it. A better
    parser can read it again later.
*/
create type private.webhook_provider as enum ('whatsapp');

create table private.webhook_events (
    id               bigint generated always as identity primary key,
    provider         private.webhook_provider not null,
    -- text, not jsonb: the sender's own bytes, with escapes and duplicate keys
    body             text not null,
    -- a repeated delivery is the same event
    body_sha256      bytea not null,
    deliveries       integer not null default 1,
    -- the items that could not be applied: [{index, reason, detail, phone_number_id, waba_id, provider_id}]
    rejected         jsonb not null default '[]',
    received_at      timestamptz not null default now(),
    last_received_at timestamptz not null default now(),
    -- a person was erased: the body is not whole any more
    is_cut           boolean not null default false,

    constraint webhook_events_body_sha256_key unique (provider, body_sha256)
);
alter table private.webhook_events enable row level security;


-- a replay reads the events of a span of time
create index webhook_events_received_at_idx
    on private.webhook_events (received_at, id);


/*
    Every status that WhatsApp reported of a message, even before the message is known. It is found
    here when the message's id becomes known.
*/
create table private.message_statuses (
    -- no foreign key: all statuses of a number would queue for one row
    whatsapp_channel_id uuid not null,
    provider_id         text not null,
    status              text not null
                        constraint message_statuses_status_check
                        check (status in ('sent', 'delivered', 'read', 'failed')),
    -- the provider's earliest time of the status
    at                  timestamptz not null,
    error_code          integer,
    error_message       text,

    primary key (whatsapp_channel_id, provider_id, status)
);
alter table private.message_statuses enable row level security;


/*
    A body is text, and jsonb refuses characters that JSON text allows: U+0000 and lone surrogates.
    The webhook's parser puts U+FFFD in their place, and so does this.
*/
create function private.webhook_json(body text)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- an escaped backslash begins no escaped character: it is set apart while these are sought
    apart constant text := chr(1);
    storable text := body;
begin
    if not pg_input_is_valid(storable, 'jsonb') then
        storable := replace(storable, '\\', apart);
        storable := regexp_replace(storable, '\\u0000', '\\ufffd', 'g');
        storable := regexp_replace(
            storable, '\\u[dD][89abAB][[:xdigit:]]{2}(?!\\u[dD][c-fC-F])', '\\ufffd', 'g');
        storable := regexp_replace(
            storable,
            '(?<!\\u[dD][89abAB][[:xdigit:]]{2})\\u[dD][c-fC-F][[:xdigit:]]{2}',
            '\\ufffd',
            'g');
        storable := replace(storable, apart, '\\');
    end if;
    return case when pg_input_is_valid(storable, 'jsonb') then storable::jsonb end;
end
$$;


comment on type private.webhook_provider is
    'The providers that send webhooks.';
comment on table private.webhook_events is
    'The bodies that providers posted, whole. Each body is kept once.';
comment on column private.webhook_events.is_cut is
    'Whether the updates about an erased person were cut out. Such a webhook is not applied when it comes again: these would come back.';
comment on column private.webhook_events.deliveries is
    'How often this body was delivered.';
comment on function private.webhook_json(text) is
    'The body of a webhook as jsonb, with U+FFFD for characters that jsonb refuses; null if it can''t be read.';
comment on table private.message_statuses is
    'Every reported status of a message, with the provider''s time.';


/*
    Effects on a message after it was sent: a reaction, an edit, a deletion. An effect is not a
    message: it has no seq, and no line in the conversation. The effects are kept here, and a
    message shows the sum of its known effects, so the order of arrival does not matter. An effect
    that comes before its message waits here.

    So clients follow one kind of row: a message that changes. Effects do not open the 24-hour
    window, do not name the sender and do not move a conversation up the inbox. Only real messages
    do.
*/
create table private.message_effects (
    -- no foreign key: all effects of a number would queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the effect; of an original, the id of the message
    provider_id         text not null,
    parent_provider_id  text not null,
    kind                text not null
                        constraint message_effects_kind_check
                        -- original: the text before the first edit
                        check (kind in ('reaction', 'edit', 'revoke', 'original')),
    sender_type         text not null
                        constraint message_effects_sender_type_check
                        check (sender_type in ('client', 'operator', 'system')),
    -- the participant, in a group; elsewhere there are only two sides
    sender_id           text,
    -- the provider's time; of an original, the time of the message
    at                  timestamptz
                        constraint message_effects_at_check
                        check ((at is null) = (kind = 'original')),
    -- an emoji, null where it is taken back; or a text, null once the message is revoked
    text                text,
    content             jsonb,

    primary key (whatsapp_channel_id, provider_id)
);
alter table private.message_effects enable row level security;


create index message_effects_parent_idx
    on private.message_effects (whatsapp_channel_id, parent_provider_id);


/*
    Replies that arrived before the message that they answer. The row goes when that message
    arrives.
*/
create table private.parked_replies (
    message_id          uuid primary key
                        constraint parked_replies_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    parent_provider_id  text not null
);
alter table private.parked_replies enable row level security;


create index parked_replies_parent_idx
    on private.parked_replies (whatsapp_channel_id, parent_provider_id);


comment on table private.message_effects is
    'Reactions, edits and deletions of messages, and the texts before the first edit. Messages show the sum of these effects.';
comment on table private.parked_replies is
    'Replies whose reply_to is not known yet.';


/*
    WhatsApp's messages to a business about its account: approved or paused templates, the quality
    of a number, restrictions, errors. They are kept as they came, for the owners and admins of the
    account.
*/
create table public.account_events (
    id             uuid primary key default gen_random_uuid(),
    account_id     uuid not null
                   constraint account_events_account_id_fkey
                   references public.accounts on delete cascade,
    -- the webhook's field, such as message_template_status_update
    type           text not null,
    content        jsonb not null,
    content_md5    text not null generated always as (md5(content::text)) stored,
    -- the provider's time; null where the webhook gives none
    occurred_at    timestamptz,
    -- such an event has no id: equal content at the same time is the same event
    created_at     timestamptz not null default now()
);
alter table public.account_events enable row level security;


create unique index account_events_key
    on public.account_events (account_id, type, occurred_at, content_md5)
    nulls not distinct;

create index account_events_latest_idx
    on public.account_events (account_id, created_at desc, id);


grant select on public.account_events to authenticated;


create function private.account_of_event(event jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    accounts uuid[];
begin
    if event ->> 'phone_number_id' is not null then
        return (
            select w.account_id
            from public.whatsapp_channels w
            where w.phone_number_id = event ->> 'phone_number_id'
        );
    end if;
    -- if two accounts name a WhatsApp Business account, the owner of the event is not known
    accounts := array(
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = event ->> 'waba_id'
    );
    return case when cardinality(accounts) = 1 then accounts[1] end;
end
$$;


comment on table public.account_events is
    'WhatsApp''s messages about an account, its numbers and its templates, as they came. For owners and admins.';
comment on column public.account_events.id is
    'Identifies the event.';
comment on column public.account_events.account_id is
    'The account that the event is about.';
comment on column public.account_events.type is
    'The field of the webhook, such as account_update; errors for errors that belong to no message.';
comment on column public.account_events.content is
    'The event as WhatsApp sent it: the value of the webhook''s field.';
comment on column public.account_events.content_md5 is
    'The MD5 of content in hex: the same event is kept once.';
comment on column public.account_events.occurred_at is
    'When it happened, by WhatsApp''s clock (UTC); null where WhatsApp gives no time.';
comment on column public.account_events.created_at is
    'When the event was kept (server time, UTC).';
comment on function private.account_of_event(jsonb) is
    'The account of an event, by phone_number_id or else by waba_id; null where it is not certain.';


/*
    One update of a WhatsApp webhook, as the function passes it, with the facts that the database
    adds.
*/
create type private.whatsapp_item as (
    kind                text,
    -- its place in the call, from 0
    index               integer,
    phone_number_id     text,
    -- WhatsApp's id of the message; of an account event, the id of the WhatsApp Business account
    provider_id         text,

    -- the sender of a message, a call or a choice, or the entry of a phone book; of our own
    -- messages the recipient
    wa_id               text,
    user_id             text,
    profile_name        text,
    username            text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- the side that acts: in an effect on the message in reply_to, in a group, in a call, in the
    -- history of the phone app
    sender_type         text,
    sender_id           text,
    -- the group of the message, or the group that the event is about
    group_id            text,

    -- in a message from WhatsApp itself: the new values of wa_id and user_id
    new_wa_id           text,
    new_user_id         text,

    -- of a status
    status              text,
    at                  timestamptz,
    error_code          integer,
    error_message       text,
    -- our id of the message, which we gave when we sent it
    message_ref         uuid,

    -- added by the database
    account_id          uuid,
    whatsapp_channel_id uuid,
    identity_kind       text,
    identity_key        text,
    contact_id          uuid,
    conversation_id     uuid,
    -- the values of wa_id and user_id before this change
    former_wa_id        text,
    former_user_id      text,
    -- another contact that already has the new identity
    other_contact_id    uuid
);


/*
    A provider's clock is not ours. A time that is not plausible is replaced by the time at which
    the webhook came. Otherwise a message of the year 2286 would keep its window open and stay on
    top of the inbox until then, and an edit of that year would beat all later ones. The raw event
    keeps the original time. A replay uses the time of the event's first arrival, so it changes
    nothing.
*/
create function private.likely_time(at timestamptz, came_at timestamptz)
    returns timestamptz
    language plpgsql
    immutable
    strict
    set search_path = ''
as $$
begin
    return case
        -- WhatsApp started in 2009; clocks differ by minutes
        when at < timestamptz '2009-01-01 00:00:00+00' or at > came_at + interval '5 minutes'
            then came_at
        else at
    end;
end
$$;


create function private.read_whatsapp_items(items jsonb, came_at timestamptz)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    read private.whatsapp_item[];
begin
    /*
        Only our number decides which account an update belongs to. The caller's values in fields
        that the database adds are ignored.
    */
        -- A row of casts: jsonb_populate_record looks up the type of each column on each call.
    select array_agg((
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'username',
            private.likely_time((i.value ->> 'sent_at')::timestamptz, came_at),
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'sender_type',
            i.value ->> 'sender_id',
            i.value ->> 'group_id',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            private.likely_time((i.value ->> 'at')::timestamptz, came_at),
            i.value ->> 'error_code',
            i.value ->> 'error_message',
            i.value ->> 'message_ref',
            w.account_id,
            w.id,
            k.kind,
            private.match_key(kind => k.kind, value => k.value),
            null,
            null,
            null,
            null,
            null
        )::private.whatsapp_item)
    into read
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' not in ('skipped', 'account_event', 'erased');
    read := coalesce(read, '{}');
    if cardinality(read) < jsonb_array_length(items)
        and items @? '$[*].kind ? (@ == "account_event")'
    then
        read := read || private.read_account_events(items, came_at);
    end if;
    return read;
end
$$;


comment on type private.whatsapp_item is
    'One update of a WhatsApp webhook.';
comment on function private.likely_time(timestamptz, timestamptz) is
    'A provider''s time, or the time of arrival if that is before 2009 or more than five minutes ahead.';
comment on function private.read_whatsapp_items(jsonb, timestamptz) is
    'The updates of a call that belong to a known number, each with its account. came_at is the first arrival of the webhook.';


/*
    Events of webhooks about an account.
*/
create function private.read_account_events(items jsonb, came_at timestamptz)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select jsonb_populate_record(
            null::private.whatsapp_item,
            jsonb_build_object(
                'kind', 'account_event',
                'index', i.ordinal - 1,
                -- its subject: the WhatsApp Business account
                'provider_id', i.value -> 'waba_id',
                'type', i.value -> 'type',
                'at', private.likely_time((i.value ->> 'at')::timestamptz, came_at),
                'content', i.value -> 'content',
                'account_id', event.account_id
            )
        )
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        cross join lateral private.account_of_event(i.value) as event (account_id)
        where i.value ->> 'kind' = 'account_event'
          and event.account_id is not null
    );
end
$$;


create function private.keep_account_events(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    if items is null then
        return 0;
    end if;
    insert into public.account_events (account_id, type, occurred_at, content)
    select i.account_id, i.type, i.at, i.content
    from unnest(items) i
    order by i.account_id, i.type, i.at, i.content
    on conflict do nothing;

    get diagnostics kept = row_count;
    perform private.note_template_events(items);
    return kept;
end
$$;


comment on function private.read_account_events(jsonb, timestamptz) is
    'The events of a call that belong to a known account.';
comment on function private.keep_account_events(private.whatsapp_item[]) is
    'Keeps events about accounts. Returns the number of new ones.';


/*
    Changes of people's numbers and user ids, as WhatsApp reported them. A message from before a
    change may arrive after it, and this table finds its sender. A later owner of the old number is
    another person.
*/
create table private.whatsapp_id_changes (
    account_id uuid not null
               constraint whatsapp_id_changes_account_id_fkey
               references public.accounts on delete cascade,
    kind       text not null
               constraint whatsapp_id_changes_kind_check check (kind in ('phone', 'bsuid')),
    -- in the form of an identity's match_key
    old_key    text not null,
    -- in WhatsApp's spelling
    new_value  text not null,
    -- the provider's time of the change
    changed_at timestamptz not null,

    primary key (account_id, kind, old_key, changed_at)
);
alter table private.whatsapp_id_changes enable row level security;


create function private.identity_owner(account_id uuid, kind text, match_key text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select o.contact_id
        from public.contact_identities o
        where o.account_id = identity_owner.account_id
          and o.kind = identity_owner.kind
          and o.match_key = identity_owner.match_key
    );
end
$$;


create function private.current_whatsapp_id(
    account_id uuid,
    kind text,
    value text,
    at timestamptz
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    current_value text := value;
    current_key text;
    next_value text;
begin
    -- changes may lead back to the first id
    for hop in 1 .. 10 loop
        current_key := private.match_key(kind => kind, value => current_value);
        exit when current_key is null
            or private.identity_owner(
                account_id => account_id, kind => kind, match_key => current_key) is not null;

        select h.new_value
        into next_value
        from private.whatsapp_id_changes h
        where h.account_id = current_whatsapp_id.account_id
          and h.kind = current_whatsapp_id.kind
          and h.old_key = current_key
          and h.changed_at >= at
        order by h.changed_at
        limit 1;
        exit when not found;
        current_value := next_value;
    end loop;
    return current_value;
end
$$;


create function private.follow_id_changes(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    followed private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
begin
    if not exists (
        select
        from unnest(items) i
        join private.whatsapp_id_changes h
            on h.account_id = i.account_id
           and (
               (h.kind = 'phone' and h.old_key = private.match_key(kind => 'phone', value => i.wa_id))
               or (h.kind = 'bsuid' and h.old_key = i.user_id)
           )
           and h.changed_at >= i.sent_at
    ) then
        return items;
    end if;

    foreach item in array items loop
        item.wa_id := private.current_whatsapp_id(
            account_id => item.account_id, kind => 'phone', value => item.wa_id, at => item.sent_at);
        item.user_id := private.current_whatsapp_id(
            account_id => item.account_id, kind => 'bsuid', value => item.user_id, at => item.sent_at);
        item.identity_key := case item.identity_kind
            when 'phone' then private.match_key(kind => 'phone', value => item.wa_id)
            else item.user_id
        end;
        followed := followed || item;
    end loop;
    return followed;
end
$$;


comment on table private.whatsapp_id_changes is
    'Numbers and user ids that WhatsApp reported as replaced by others.';
comment on function private.identity_owner(uuid, text, text) is
    'The contact that owns an identity; null where nobody has it.';
comment on function private.current_whatsapp_id(uuid, text, text, timestamptz) is
    'The present number or user id of the person who had this one at that time. Unchanged where somebody owns it or no change is known.';
comment on function private.follow_id_changes(private.whatsapp_item[]) is
    'The messages with the present ids of their senders, where the senders had other ids when they wrote.';


/*
    The identities that a notice from WhatsApp changes, and the locks that the change takes: first
    all locks of the batch, in their order.
*/
create type private.identity_change as (
    account_id uuid,
    kind       text,
    old_key    text,
    new_key    text,
    new_value  text,
    changed_at timestamptz
);


create function private.identity_changes(item private.whatsapp_item)
    returns private.identity_change[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- another spelling of a number has the same key, so nothing changes
    return array(
        select (item.account_id, k.kind, k.old_key, k.new_key, k.new_value, item.sent_at)
            ::private.identity_change
        from (
            values
                (
                    'phone',
                    private.match_key(kind => 'phone', value => item.wa_id),
                    private.match_key(kind => 'phone', value => item.new_wa_id),
                    item.new_wa_id
                ),
                ('bsuid', item.user_id, item.new_user_id, item.new_user_id)
        ) as k (kind, old_key, new_key, new_value)
        where k.new_key is not null
          and k.new_key is distinct from k.old_key
    );
end
$$;


create function private.identity_name(account_id uuid, kind text, match_key text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return concat_ws(' ', account_id, kind, match_key);
end
$$;


create function private.lock_identity_changes(
    changes private.identity_change[],
    out claimed private.identity_change[],
    out locked text[]
)
    language plpgsql
    set search_path = ''
as $$
/*
    The owner of a new key is only certain once the key exists and is locked. So a free key is
    claimed for the owner of the old one. A claimed key counts as free, and is given back if it is
    not needed. A key that could not be locked, because it did not exist, is not read again:
    somebody who has written it since may be waiting for locks that this transaction holds.
*/
declare
    wanted record;
begin
    claimed := '{}';
    locked := '{}';
    for wanted in
        select
            k.account_id,
            k.kind,
            k.match_key,
            (array_agg(k.new_value) filter (where k.new_value is not null))[1] as new_value,
            (array_agg(k.heir) filter (where k.heir is not null))[1] as heir,
            bool_or(k.was_there) as was_there
        from unnest(changes) c
        cross join lateral (
            select private.identity_owner(
                account_id => c.account_id, kind => c.kind, match_key => c.old_key) as id
        ) owner
        cross join lateral (
            values
                (c.account_id, c.kind, c.old_key, null, null, owner.id is not null),
                (c.account_id, c.kind, c.new_key, c.new_value, owner.id, false)
        ) as k (account_id, kind, match_key, new_value, heir, was_there)
        where k.match_key is not null
        group by k.account_id, k.kind, k.match_key
        order by k.account_id, k.kind, k.match_key
    loop
        if wanted.heir is not null then
            if private.claim_whatsapp_identity(
                account_id => wanted.account_id,
                kind => wanted.kind,
                value => wanted.new_value,
                contact_id => wanted.heir
            ) then
                claimed := claimed || (
                    wanted.account_id, wanted.kind, null, wanted.match_key, wanted.new_value, null
                )::private.identity_change;
                wanted.was_there := true;
            end if;
        end if;

        perform
        from public.contact_identities o
        where o.account_id = wanted.account_id
          and o.kind = wanted.kind
          and o.match_key = wanted.match_key
        for update;
        if found and wanted.was_there then
            locked := locked || private.identity_name(
                account_id => wanted.account_id,
                kind => wanted.kind,
                match_key => wanted.match_key
            );
        end if;
    end loop;
end
$$;


create function private.claim_whatsapp_identity(
    account_id uuid,
    kind text,
    value text,
    contact_id uuid
)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.contact_identities (account_id, kind, value, wa_id, contact_id)
    values (
        claim_whatsapp_identity.account_id,
        claim_whatsapp_identity.kind,
        case claim_whatsapp_identity.kind when 'phone' then '+' || value else value end,
        case claim_whatsapp_identity.kind when 'phone' then value end,
        claim_whatsapp_identity.contact_id
    )
    on conflict do nothing;
    return found;
end
$$;


create function private.drop_identity(account_id uuid, kind text, match_key text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities o
    where o.account_id = drop_identity.account_id
      and o.kind = drop_identity.kind
      and o.match_key = drop_identity.match_key;
end
$$;


create function private.is_among(
    change private.identity_change,
    changes private.identity_change[]
)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return exists (
        select
        from unnest(changes) c
        where (c.account_id, c.kind, c.new_key)
            = (change.account_id, change.kind, change.new_key)
    );
end
$$;


comment on type private.identity_change is
    'An identity that replaces another one.';
comment on function private.identity_changes(private.whatsapp_item) is
    'The changes in a notice from WhatsApp: of the number, the user id, both or none.';
comment on function private.identity_name(uuid, text, text) is
    'One text for the key of an identity.';
comment on function private.lock_identity_changes(private.identity_change[]) is
    'Locks the old and new identities of a batch. New ones that nobody had are claimed; the keys that had an owner are returned as locked.';
comment on function private.claim_whatsapp_identity(uuid, text, text, uuid) is
    'Claims a number or a user id for a contact. False where somebody has it.';
comment on function private.drop_identity(uuid, text, text) is
    'Gives an identity back.';
comment on function private.is_among(private.identity_change, private.identity_change[]) is
    'Whether one of the changes leads to the same identity.';


/*
    WhatsApp says that a number or user id has become another one: here the identities are relinked.
    Contacts and conversations follow later, see move_whatsapp_threads.
*/
create function private.locked_owner(
    account_id uuid,
    kind text,
    match_key text,
    locked text[]
)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case
        when private.identity_name(account_id => account_id, kind => kind, match_key => match_key)
             = any (locked)
            then private.identity_owner(
                account_id => account_id, kind => kind, match_key => match_key)
    end;
end
$$;


create function private.relink_identities(
    changes private.identity_change[],
    claimed private.identity_change[],
    -- the old keys that had an owner when they were locked
    locked text[],
    out owner uuid,
    -- another contact that has one of the new keys; then nothing is relinked
    out other uuid
)
    language plpgsql
    set search_path = ''
as $$
/*
    The changes of one notice: a number, a user id or both.
*/
declare
    change private.identity_change;
    heir uuid;
    holder uuid;
begin
    foreach change in array changes loop
        owner := coalesce(
            owner,
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            )
        );
    end loop;
    if owner is null then
        return;
    end if;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        holder := private.identity_owner(
            account_id => change.account_id, kind => change.kind, match_key => change.new_key);
        if holder <> heir and not private.is_among(change, claimed) then
            owner := heir;
            other := holder;
            return;
        end if;
    end loop;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        perform private.claim_whatsapp_identity(
            account_id => change.account_id,
            kind => change.kind,
            value => change.new_value,
            contact_id => heir
        );
        update public.contact_identities o
        set contact_id = heir
        where o.account_id = change.account_id
          and o.kind = change.kind
          and o.match_key = change.new_key
          and o.contact_id <> heir;
        perform private.drop_identity(
            account_id => change.account_id, kind => change.kind, match_key => change.old_key);
    end loop;
end
$$;


create function private.relink_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A notice continues under the new number. If another contact has the new number, it stays with
    the old number's owner, and other_contact_id names the other contact.
*/
declare
    relinked private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    changes private.identity_change[];
    claimed private.identity_change[];
    locked text[];
    change private.identity_change;
    outcome record;
begin
    items := array(
        select i
        from unnest(items) i
        order by i.sent_at, i.provider_id
    );
    -- a late notice about a number that its person has left too
    for place in 1 .. cardinality(items) loop
        item := items[place];
        if item.kind = 'system' then
            item.new_wa_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'phone', value => item.new_wa_id, at => item.sent_at);
            item.new_user_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'bsuid', value => item.new_user_id, at => item.sent_at);
            items[place] := item;
        end if;
    end loop;

    select l.claimed, l.locked
    into claimed, locked
    from private.lock_identity_changes(array(
        select c
        from unnest(items) i
        cross join lateral unnest(private.identity_changes(i)) c
        where i.kind = 'system'
    )) l;

    foreach item in array items loop
        if item.kind = 'system' then
            changes := private.identity_changes(item);
            select r.owner, r.other
            into outcome
            from private.relink_identities(
                changes => changes, claimed => claimed, locked => locked) r;

            foreach change in array changes loop
                if change.old_key is not null then
                    insert into private.whatsapp_id_changes (
                        account_id, kind, old_key, changed_at, new_value
                    )
                    values (
                        change.account_id,
                        change.kind,
                        change.old_key,
                        change.changed_at,
                        change.new_value
                    )
                    on conflict do nothing;
                end if;

                if private.is_among(change, claimed) then
                    claimed := array(
                        select c
                        from unnest(claimed) c
                        where not private.is_among(c, array[change])
                    );
                    if outcome.owner is null or outcome.other is not null then
                        perform private.drop_identity(
                            account_id => change.account_id,
                            kind => change.kind,
                            match_key => change.new_key
                        );
                    end if;
                end if;
            end loop;

            if outcome.other is null then
                -- without an owner there was nothing to move
                if outcome.owner is not null or changes = '{}' then
                    item.former_wa_id := item.wa_id;
                    item.former_user_id := item.user_id;
                end if;
                item.wa_id := coalesce(item.new_wa_id, item.wa_id);
                item.user_id := coalesce(item.new_user_id, item.user_id);
            else
                item.other_contact_id := outcome.other;
                -- a number without an owner is not claimed
                if item.user_id is not null and private.identity_owner(
                    account_id => item.account_id,
                    kind => 'phone',
                    match_key => private.match_key(kind => 'phone', value => item.wa_id)
                ) is null then
                    item.wa_id := null;
                end if;
            end if;
            item.identity_kind := case when item.wa_id is null then 'bsuid' else 'phone' end;
            item.identity_key := private.match_key(
                kind => item.identity_kind, value => coalesce(item.wa_id, item.user_id));
        end if;
        relinked := relinked || item;
    end loop;
    return relinked;
end
$$;


comment on function private.locked_owner(uuid, text, text, text[]) is
    'The owner of an identity that is locked; null for identities that are not.';
comment on function private.relink_identities(
    private.identity_change[], private.identity_change[], text[]
) is
    'Gives the owner the new identities in place of the old ones, unless another contact has one of them.';
comment on function private.relink_whatsapp_senders(private.whatsapp_item[]) is
    'Relinks the identities that the notices of a batch change, and sorts the batch by time.';


/*
    Usernames on WhatsApp belong to one person at a time and move between people. A person has the
    username of their latest message, by the provider's time. If two people's latest messages give
    the same username, the later message wins.

    So each person's last username is kept, even if another person has it now. When that person
    gives it up, the right one gets it, in any order of arrival.
*/
create table private.stated_usernames (
    contact_id uuid primary key,
    account_id uuid not null,
    match_key  text not null,
    username   text not null,

    -- deferred: usernames are claimed before contacts are written (the lock order)
    constraint stated_usernames_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
        deferrable initially deferred
);
alter table private.stated_usernames enable row level security;


create index stated_usernames_key_idx on private.stated_usernames (account_id, match_key);

-- for the foreign key
create index stated_usernames_contact_idx on private.stated_usernames (contact_id, account_id);


create type private.username_change as (
    contact_id uuid,
    match_key  text,
    -- null where another contact has it now
    username   text
);


create function private.has_later_message(
    contact_id uuid,
    than timestamptz,
    than_provider_id text
)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from public.messages m
        where m.customer_id = contact_id
          and m.sender_type = 'client'
          and m.sent_at >= than
          and (m.sent_at, m.provider_id) > (than, than_provider_id)
    );
end
$$;


create function private.lock_username(account_id uuid, username text, claimant uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
/*
    The owner of a username, which is locked. A claimant gets a username that is free.
*/
declare
    owner uuid;
begin
    loop
        select o.contact_id
        into owner
        from public.contact_identities o
        where o.account_id = lock_username.account_id
          and o.kind = 'username'
          and o.match_key = private.match_key(kind => 'username', value => lock_username.username)
        for update;
        if found or claimant is null then
            return owner;
        end if;

        insert into public.contact_identities (account_id, kind, value, contact_id)
        values (lock_username.account_id, 'username', lock_username.username, claimant)
        on conflict do nothing;
    end loop;
end
$$;


create function private.latest_stater(
    items private.whatsapp_item[],
    account_id uuid,
    match_key text,
    out contact_id uuid,
    out username text
)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    select u.contact_id, u.username
    into latest_stater.contact_id, latest_stater.username
    from private.stated_usernames u
    cross join lateral (
        select l.sent_at, l.provider_id
        from (
            select i.sent_at, i.provider_id
            from unnest(items) i
            where i.contact_id = u.contact_id
            union all
            (
                select m.sent_at, m.provider_id
                from public.messages m
                where m.customer_id = u.contact_id
                  and m.sender_type = 'client'
                order by m.sent_at desc, m.provider_id desc
                limit 1
            )
        ) l
        order by l.sent_at desc, l.provider_id desc
        limit 1
    ) latest
    where u.account_id = latest_stater.account_id
      and u.match_key = latest_stater.match_key
      and (
          select true
          from public.contacts c
          where c.id = u.contact_id
            and c.deleted_at is not null
      ) is null
    order by latest.sent_at desc, latest.provider_id desc, u.contact_id
    limit 1;
end
$$;


comment on table private.stated_usernames is
    'The username in the latest message of each sender who has one.';
comment on function private.lock_username(uuid, text, uuid) is
    'Locks a username and returns its owner. A claimant gets a username that is free.';
comment on function private.latest_stater(private.whatsapp_item[], uuid, text) is
    'The last sender whose latest message gives this username. The given messages count too.';
comment on type private.username_change is
    'A contact''s new username on WhatsApp.';
comment on function private.has_later_message(uuid, timestamptz, text) is
    'Whether a contact has written after that message.';


/*
    Moves usernames from earlier owners to the senders who have them now, and writes them to their
    contacts.
*/
create function private.claim_whatsapp_usernames(items private.whatsapp_item[])
    returns private.username_change[]
    language plpgsql
    set search_path = ''
as $$
declare
    changes private.username_change[] := '{}';
    latest private.whatsapp_item[];
    owners uuid[] := '{}';
    keys record;
    winner record;
begin
    latest := array(
        select s
        from (
            select distinct on (i.contact_id) i.*
            from unnest(items) i
            where i.username is not null
            order by i.contact_id, i.sent_at desc, i.provider_id desc
        ) s
        where not private.has_later_message(
            contact_id => s.contact_id, than => s.sent_at, than_provider_id => s.provider_id)
    );
    if not exists (
        select
        from unnest(latest) s
        where (
            select c.username
            from public.contacts c
            where c.id = s.contact_id
            limit 1
        ) is distinct from s.username
    ) then
        return changes;
    end if;

    -- usernames to claim and usernames that may be given back, in one order
    select
        array_agg(w.account_id order by w.account_id, w.match_key) as account_ids,
        array_agg(w.match_key order by w.account_id, w.match_key) as match_keys,
        array_agg(w.username order by w.account_id, w.match_key) as usernames,
        array_agg(w.claimant order by w.account_id, w.match_key) as claimants
    into keys
    from (
        select
            k.account_id,
            k.match_key,
            min(k.username) as username,
            (array_agg(k.claimant) filter (where k.claimant is not null))[1] as claimant
        from (
            select
                s.account_id,
                private.match_key(kind => 'username', value => n.username),
                n.username,
                n.claimant
            from unnest(latest) s
            cross join lateral (
                select s.username, s.contact_id
                union all
                select c.username, null
                from public.contacts c
                where c.id = s.contact_id
                union all
                select u.username, null
                from private.stated_usernames u
                where u.contact_id = s.contact_id
            ) as n (username, claimant)
            where n.username is not null
        ) as k (account_id, match_key, username, claimant)
        group by k.account_id, k.match_key
    ) w;

    for place in 1 .. cardinality(keys.match_keys) loop
        owners[place] := private.lock_username(
            account_id => keys.account_ids[place],
            username => keys.usernames[place],
            claimant => keys.claimants[place]
        );
    end loop;

    insert into private.stated_usernames as u (contact_id, account_id, match_key, username)
    select
        s.contact_id,
        s.account_id,
        private.match_key(kind => 'username', value => s.username),
        s.username
    from unnest(latest) s
    order by s.contact_id
    on conflict (contact_id) do update
        set match_key = excluded.match_key,
            username = excluded.username
        where u.username <> excluded.username;

    for place in 1 .. cardinality(keys.match_keys) loop
        continue when owners[place] is null;
        winner := private.latest_stater(
            items => latest,
            account_id => keys.account_ids[place],
            match_key => keys.match_keys[place]
        );
        if winner.contact_id is null then
            -- a username whose owner never wrote: staff may have noted it
            continue when not exists (
                select
                from unnest(latest) s
                where s.contact_id = owners[place]
            );
            delete from public.contact_identities o
            where o.account_id = keys.account_ids[place]
              and o.kind = 'username'
              and o.match_key = keys.match_keys[place];
        else
            update public.contact_identities o
            set contact_id = winner.contact_id,
                value = winner.username
            where o.account_id = keys.account_ids[place]
              and o.kind = 'username'
              and o.match_key = keys.match_keys[place]
              and (o.contact_id, o.value) <> (winner.contact_id, winner.username);
            changes := changes || (
                winner.contact_id, keys.match_keys[place], winner.username
            )::private.username_change;
        end if;
        if owners[place] is distinct from winner.contact_id then
            changes := changes
                || (owners[place], keys.match_keys[place], null)::private.username_change;
        end if;
    end loop;

    -- a contact that lost one username and has another keeps the other
    return array(
        select u
        from unnest(changes) u
        where u.username is not null
           or not exists (
               select
               from unnest(changes) w
               where w.contact_id = u.contact_id
                 and w.username is not null
           )
    );
end
$$;


create function private.is_news(change private.username_change, username text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- a contact that lost a username may have another one by now
    return case
        when change.username is not null then change.username is distinct from is_news.username
        else change.match_key = private.match_key(kind => 'username', value => is_news.username)
    end;
end
$$;


create function private.write_whatsapp_usernames(usernames private.username_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update of no row would still run the table's triggers
    if exists (
        select
        from unnest(usernames) u
        cross join lateral (
            select k.username
            from public.contacts k
            where k.id = u.contact_id
            limit 1
        ) c
        where private.is_news(u, c.username)
    ) then
        update public.contacts c
        set username = u.username
        from unnest(usernames) u
        where c.id = u.contact_id
          and private.is_news(u, c.username);
    end if;
end
$$;


comment on function private.claim_whatsapp_usernames(private.whatsapp_item[]) is
    'Moves the senders'' usernames to them from earlier owners. Returns the contacts whose username changes.';
comment on function private.is_news(private.username_change, text) is
    'Whether a change gives a contact another username.';
comment on function private.write_whatsapp_usernames(private.username_change[]) is
    'Writes the usernames of contacts, which are locked.';


/*
    Suggestions from messages: two contacts may be one person, but nothing proves it.
*/
create index contacts_phone_idx
    on public.contacts (account_id, private.match_key(kind => 'phone', value => phone))
    where phone is not null;


create function private.suggest_same_phones(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- A number that a customer wrote in the portal proves nothing: it may be anybody's.
    perform private.suggest_merge(
        account_id => i.account_id,
        contact_ids => array[i.contact_id, other.id],
        reason => 'same_phone',
        evidence => jsonb_build_object('phone', other.phone)
    )
    from (
        select distinct on (i.contact_id) i.account_id, i.contact_id, i.identity_key
        from unnest(items) i
        where i.identity_kind = 'phone'
        order by i.contact_id
    ) i
    cross join lateral (
        select c.id, c.phone
        from public.contacts c
        where c.account_id = i.account_id
          and private.match_key(kind => 'phone', value => c.phone) = i.identity_key
          and c.phone is not null
          and c.id <> i.contact_id
          and c.deleted_at is null
        order by c.id
        limit 10
    ) other;
end
$$;


create function private.suggest_same_senders(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- The number is one contact's and the user id another's, or a changed identity belongs to
    -- another contact.
    perform private.suggest_merge(
        account_id => s.account_id,
        contact_ids => array[s.contact_id, s.other_contact_id],
        reason => s.reason,
        evidence => jsonb_strip_nulls(s.evidence)
    )
    from (
        select
            i.account_id,
            i.contact_id,
            owner.contact_id as other_contact_id,
            'same_sender' as reason,
            jsonb_build_object('phone', '+' || i.wa_id, 'user_id', i.user_id) as evidence
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = 'bsuid'
              and o.match_key = i.user_id
            limit 1
        ) owner
        where i.identity_kind = 'phone'
          and owner.contact_id <> i.contact_id
        union all
        select
            i.account_id,
            i.contact_id,
            i.other_contact_id,
            case when i.new_wa_id is null then 'user_id_changed' else 'number_changed' end,
            jsonb_build_object(
                'previous_phone', '+' || i.wa_id,
                'phone', '+' || i.new_wa_id,
                'previous_user_id', i.user_id,
                'user_id', i.new_user_id
            )
        from unnest(items) i
        where i.other_contact_id is not null
    ) s;
end
$$;


comment on function private.suggest_same_phones(private.whatsapp_item[]) is
    'Suggests that new senders are the contacts that show their number.';
comment on function private.suggest_same_senders(private.whatsapp_item[]) is
    'Suggests that two contacts are one, where one sender has the identities of both.';


/*
    The number of each user id. A person who writes first with number and user id, and later with
    the user id alone, stays in one conversation: a thread follows the number. Rows are written
    under the lock of the user id's identity.
*/
create table private.whatsapp_user_numbers (
    account_id uuid not null
               constraint whatsapp_user_numbers_account_id_fkey
               references public.accounts on delete cascade,
    user_id    text not null,
    -- the match_key of the number
    phone_key  text not null,

    primary key (account_id, user_id)
);
alter table private.whatsapp_user_numbers enable row level security;


create type private.learnt_number as (
    account_id uuid,
    user_id    text,
    wa_id      text,
    phone_key  text,
    contact_id uuid
);


create function private.number_of_user(account_id uuid, user_id text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select n.phone_key
        from private.whatsapp_user_numbers n
        where n.account_id = number_of_user.account_id
          and n.user_id = number_of_user.user_id
    );
end
$$;


create function private.number_of_contact_user(account_id uuid, user_id text, contact_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    phone_key constant text := private.number_of_user(account_id => account_id, user_id => user_id);
begin
    -- a number that now belongs to somebody else does not lead to this person
    return case
        when phone_key is not null and contact_id = private.identity_owner(
            account_id => account_id, kind => 'phone', match_key => phone_key) then phone_key
    end;
end
$$;


create function private.learn_user_numbers(items private.whatsapp_item[])
    returns private.learnt_number[]
    language plpgsql
    set search_path = ''
as $$
declare
    learnt private.learnt_number[];
begin
    learnt := array(
        select (l.account_id, l.user_id, l.wa_id, l.phone_key, l.contact_id)::private.learnt_number
        from (
            select distinct on (i.account_id, i.user_id)
                i.account_id,
                i.user_id,
                i.wa_id,
                coalesce(
                    private.match_key(kind => 'phone', value => i.wa_id),
                    -- a user id that replaces another one
                    private.number_of_user(account_id => i.account_id, user_id => i.former_user_id)
                ) as phone_key,
                i.contact_id
            from unnest(items) i
            where i.user_id is not null
              and (i.wa_id is not null or i.former_user_id is not null)
              and i.other_contact_id is null
            order by i.account_id, i.user_id, i.sent_at desc, i.provider_id desc
        ) l
        where l.phone_key is not null
          and l.phone_key is distinct from
              private.number_of_user(account_id => l.account_id, user_id => l.user_id)
          -- only a person can say whether two contacts are one
          and l.contact_id = private.identity_owner(
              account_id => l.account_id, kind => 'phone', match_key => l.phone_key)
          and l.contact_id = private.identity_owner(
              account_id => l.account_id, kind => 'bsuid', match_key => l.user_id)
    );
    if learnt <> '{}' then
        insert into private.whatsapp_user_numbers as n (account_id, user_id, phone_key)
        select l.account_id, l.user_id, l.phone_key
        from unnest(learnt) l
        order by l.account_id, l.user_id
        on conflict (account_id, user_id) do update
            set phone_key = excluded.phone_key;
    end if;
    return learnt;
end
$$;


create function private.write_learnt_phones(learnt private.learnt_number[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    number private.learnt_number;
begin
    foreach number in array learnt loop
        -- longer ones are ids of test numbers and groups
        continue when number.wa_id is null or number.wa_id !~ '^[1-9][0-9]{1,14}$';
        perform
        from public.contacts c
        where c.id = number.contact_id
          and c.phone is null;
        -- an update of no row would still run the table's triggers
        if found then
            update public.contacts c
            set phone = '+' || number.wa_id
            where c.id = number.contact_id;
        end if;
    end loop;
end
$$;


create function private.follow_numbers(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    followed private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    phone_key text;
begin
    foreach item in array items loop
        if item.identity_kind = 'bsuid' then
            phone_key := private.number_of_contact_user(
                account_id => item.account_id,
                user_id => item.user_id,
                contact_id => item.contact_id
            );
            if phone_key is not null then
                item.identity_kind := 'phone';
                item.identity_key := phone_key;
            end if;
        end if;
        followed := followed || item;
    end loop;
    return followed;
end
$$;


create function private.move_learnt_threads(learnt private.learnt_number[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.conversations t
    set thread_key = 'phone:' || l.phone_key,
        customer_wa_id = coalesce(l.wa_id, t.customer_wa_id)
    from unnest(learnt) l
    join public.whatsapp_channels w
        on w.account_id = l.account_id
    where t.whatsapp_channel_id = w.id
      and t.account_id = w.account_id
      and t.thread_key = 'bsuid:' || l.user_id
      and t.customer_id = l.contact_id
      -- two open threads are never joined
      and (
          t.status = 'closed'
          or not exists (
              select
              from public.conversations o
              where o.whatsapp_channel_id = w.id
                and o.account_id = w.account_id
                and o.thread_key = 'phone:' || l.phone_key
                and o.status <> 'closed'
          )
      );
end
$$;


comment on table private.whatsapp_user_numbers is
    'The number of each user id, learnt from messages with both.';
comment on type private.learnt_number is
    'A user id whose number has become known, and the contact that has both.';
comment on function private.number_of_user(uuid, text) is
    'The match_key of a user id''s number; null where it is not known.';
comment on function private.number_of_contact_user(uuid, text, uuid) is
    'The same, if the number still belongs to that contact.';
comment on function private.learn_user_numbers(private.whatsapp_item[]) is
    'Notes the numbers of user ids. Returns the new ones, without the ambiguous ones.';
comment on function private.write_learnt_phones(private.learnt_number[]) is
    'Writes a number to a contact that shows none. The contact is locked.';
comment on function private.follow_numbers(private.whatsapp_item[]) is
    'The messages with the numbers of senders who wrote with the user id alone.';
comment on function private.move_learnt_threads(private.learnt_number[]) is
    'Moves the threads of user ids, which are locked, to their numbers.';


/*
    Finds the senders of WhatsApp messages: their identities and their contacts.

    All writers take locks in one order: identities, contacts, conversations, messages, each by key.
    (Of 24 unsorted batches 19 deadlocked; of the sorted ones, none.)
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


create function private.claim_whatsapp_ids(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Claims or locks identities, key by key. Until these messages are stored, nobody can take a
    sender's identity away. Null where somebody has just done so; then nothing is claimed.
*/
declare
    accounts uuid[];
    kinds text[];
    match_keys text[];
    vanished boolean;
begin
    with senders as (
        select
            s.account_id,
            s.wa_id,
            s.user_id,
            owner.by_identity,
            owner.by_user_id,
            coalesce(owner.by_identity, owner.by_user_id, gen_random_uuid()) as contact_id
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
        cross join lateral (
            select
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = s.identity_kind
                      and o.match_key = s.identity_key
                    limit 1
                ) as by_identity,
                (
                    select o.contact_id
                    from public.contact_identities o
                    where o.account_id = s.account_id
                      and o.kind = 'bsuid'
                      and o.match_key = s.user_id
                    limit 1
                ) as by_user_id
        ) owner
    ),
    claims as materialized (
        select
            s.account_id,
            'phone' as kind,
            '+' || s.wa_id as value,
            private.match_key(kind => 'phone', value => s.wa_id) as match_key,
            s.wa_id,
            s.contact_id,
            s.by_identity is not null as is_known
        from senders s
        where s.wa_id is not null
        union all
        -- the same user id with a number in one message and without in another is one claim
        (
            select distinct on (s.account_id, s.user_id)
                s.account_id,
                'bsuid',
                s.user_id,
                s.user_id,
                null,
                s.contact_id,
                s.by_user_id is not null
            from senders s
            where s.user_id is not null
            order by s.account_id, s.user_id, s.wa_id is null
        )
    ),
    claimed as (
        insert into public.contact_identities as o (account_id, kind, value, wa_id, contact_id)
        select c.account_id, c.kind, c.value, c.wa_id, c.contact_id
        from claims c
        order by c.account_id, c.kind, c.match_key
        -- Known identities are locked. They are written only where staff noted the number and it is
        -- now known to be on WhatsApp, or where WhatsApp spells it differently.
        on conflict (account_id, kind, match_key) do update
            set wa_id = excluded.wa_id
            where o.wa_id is distinct from excluded.wa_id
        returning o.account_id, o.kind, o.match_key, o.xmax = 0 as is_new
    )
    select array_agg(n.account_id), array_agg(n.kind), array_agg(n.match_key), bool_or(c.is_known)
    into accounts, kinds, match_keys, vanished
    from claimed n
    join claims c
        on c.account_id = n.account_id
       and c.kind = n.kind
       and c.match_key = n.match_key
    where n.is_new;

    if accounts is null then
        return 0;
    elsif vanished then
        delete from public.contact_identities o
        using unnest(accounts, kinds, match_keys) as n (account_id, kind, match_key)
        where o.account_id = n.account_id
          and o.kind = n.kind
          and o.match_key = n.match_key;
        return null;
    end if;
    return cardinality(accounts);
end
$$;


create function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp withholds
    the number. An identity is claimed with the id of a contact that is written afterwards. A second
    claim finds the first one's contact and locks it. So a deletion of the contact waits until the
    conversation is open.
*/
declare
    current_items private.whatsapp_item[];
    claimed integer;
begin
    for attempt in 1 .. 4 loop
        -- no change of the number follows: the sender is its only owner
        current_items := private.follow_id_changes(items);
        claimed := private.claim_whatsapp_ids(current_items);
        continue when claimed is null;

        current_items := private.known_whatsapp_senders(current_items);
        if claimed > 0 then
            -- A user id whose contact lost its number to another session, or was merged meanwhile,
            -- follows the number.
            -- merged meanwhile, follows it
            update public.contact_identities u
            set contact_id = i.contact_id
            from unnest(current_items) i
            where u.account_id = i.account_id
              and u.kind = 'bsuid'
              and u.match_key = i.user_id
              and u.contact_id <> i.contact_id
              and (
                  select true
                  from public.contacts c
                  where c.id = u.contact_id
                    and c.deleted_at is null
                  limit 1
              ) is null;
        end if;
        return current_items;
    end loop;

    raise sqlstate '40001' using
        message = 'Numbers moved to other contacts as fast as they were claimed.',
        hint = 'Try again.';
end
$$;


comment on function private.known_whatsapp_senders(private.whatsapp_item[]) is
    'The messages whose senders are known by all their identities, with their contacts.';
comment on function private.claim_whatsapp_ids(private.whatsapp_item[]) is
    'Claims or locks the identities of senders, and notes WhatsApp''s spelling of known numbers. Returns the number of new identities.';
comment on function private.claim_whatsapp_senders(private.whatsapp_item[]) is
    'Finds or claims the contact of each sender.';


/*
    The contacts of senders on WhatsApp: new ones are made, and each gets the profile name of its
    latest message.
*/
create function private.name_whatsapp_senders(
    items private.whatsapp_item[],
    usernames private.username_change[]
)
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
        insert into public.contacts (
            id, account_id, phone, profile_name, profile_named_at, username
        )
        select
            i.contact_id,
            i.account_id,
            (array_agg('+' || i.wa_id order by i.sent_at desc, i.provider_id desc)
                -- longer ones are ids of test numbers and groups
                filter (where i.wa_id ~ '^[1-9][0-9]{1,14}$'))[1],
            (array_agg(i.profile_name order by i.sent_at desc, i.provider_id desc)
                filter (where i.profile_name is not null))[1],
            max(i.sent_at) filter (where i.profile_name is not null),
            (select u.username from unnest(usernames) u where u.contact_id = i.contact_id)
        from unnest(items) i
        where (select true from public.contacts c where c.id = i.contact_id limit 1) is null
        group by i.contact_id, i.account_id
        order by i.contact_id;
        perform private.suggest_same_phones(items);
    end if;

    /*
        The latest message names its sender, by the provider's time, however late it arrives. An
        unchanged name is not stamped again, since that would write the contact with each message.
        So an older message first looks for a later one.
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


comment on function private.name_whatsapp_senders(
    private.whatsapp_item[], private.username_change[]
) is
    'Writes new contacts and changed names.';


/*
    The conversation of each WhatsApp message: found or opened, and locked. The lock order is
    that of claim_whatsapp_senders.
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
    -- replies go to the number in the spelling of its latest message
    select array_agg(l.conversation_id), array_agg(l.wa_id)
    into threads, spellings
    from (
        select distinct on (i.conversation_id) i.conversation_id, i.wa_id, i.sent_at
        from unnest(items) i
        where i.wa_id is not null
          and i.kind <> 'echo'
          and i.sender_type is distinct from 'operator'
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


create function private.placed_whatsapp_item(
    item private.whatsapp_item,
    conversation_id uuid,
    contact_id uuid
)
    returns private.whatsapp_item
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    item.conversation_id := placed_whatsapp_item.conversation_id;
    item.contact_id := placed_whatsapp_item.contact_id;
    return item;
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
    -- Others may open or close a thread between two statements, so look again.
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
                  -- neither a notice from WhatsApp nor an old message of the history opens a
                  -- conversation again
                  and (t.status <> 'closed' or i.kind in ('system', 'history'))
                order by t.status = 'closed', t.created_at desc, t.id
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and (c.status <> 'closed' or (i).kind in ('system', 'history'))
            order by c.id
            for no key update of c
        )
        -- an open thread stays with its customer, even if the number has another owner now
        select array_agg(private.placed_whatsapp_item(t.item, t.id, t.customer_id))
        into found_items
        from threads t;

        if cardinality(found_items) = cardinality(items) then
            perform private.keep_whatsapp_spelling(found_items);
            return found_items;
        end if;

        insert into public.conversations (
            account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id,
            status
        )
        select distinct on (i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key)
            i.account_id,
            i.contact_id,
            'whatsapp',
            i.whatsapp_channel_id,
            i.identity_kind || ':' || i.identity_key,
            i.wa_id,
            case i.kind when 'history' then 'closed' else 'open' end
        from unnest(items) i
        where (
            select true
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and (t.status <> 'closed' or i.kind in ('system', 'history'))
            limit 1
        ) is null
        order by
            i.account_id,
            i.whatsapp_channel_id,
            i.identity_kind,
            i.identity_key,
            -- a sender known by number may have written with the user id alone before
            i.wa_id is null,
            i.sent_at desc,
            i.provider_id desc
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


create function private.continue_whatsapp_threads(
    items private.whatsapp_item[],
    out placed private.whatsapp_item[],
    out to_settle boolean
)
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in one statement: all senders are known under their present names and spellings,
    and have an open conversation. Returns null, and locks nothing, where that is not so for all.
    Raises RP003 where it is no longer so once they are locked. All those locks must then go, even
    of rows that are not used, since the next steps begin with identities.

    Measured in alternating rounds: without it, ingesting a message takes 19% longer (Postgres works
    25% more).

    It also finds out whether anything has waited for one of the messages, or one may have to wait.
*/
declare
    found_count integer;
    locked_count integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, even if the planner
    -- assumes wrong table sizes
    select
        -- an open thread stays with its customer, even if the number has another owner now
        array_agg(private.placed_whatsapp_item(f.item, c.id, c.customer_id)),
        coalesce(bool_or(f.to_settle), false),
        count(f.id),
        count(c.id)
    into placed, to_settle, found_count, locked_count
    from (
        select
            i as item,
            thread.id,
            i.reply_to is not null
                or i.kind = 'echo'
                or effect.is_there
                or reply.is_there as to_settle,
            count(*) over () as found_count
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
            select k.id
            from public.contacts k
            where k.id = owner.contact_id
              and (i.profile_name is null or k.profile_name = i.profile_name)
              and (i.username is null or k.username = i.username)
            limit 1
        ) named
        cross join lateral (
            select t.id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = coalesce(
                  'phone:' || case when i.identity_kind = 'bsuid' then
                      private.number_of_contact_user(
                          account_id => i.account_id,
                          user_id => i.user_id,
                          contact_id => owner.contact_id
                      )
                  end,
                  i.identity_kind || ':' || i.identity_key
              )
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        left join lateral (
            select u.contact_id
            from public.contact_identities u
            where u.account_id = i.account_id
              and u.kind = 'bsuid'
              and u.match_key = i.user_id
            limit 1
        ) by_user on true
        left join lateral (
            select true as is_there
            from private.message_effects e
            where e.whatsapp_channel_id = i.whatsapp_channel_id
              and e.parent_provider_id = i.provider_id
            limit 1
        ) effect on true
        left join lateral (
            select true as is_there
            from private.parked_replies p
            where p.whatsapp_channel_id = i.whatsapp_channel_id
              and p.parent_provider_id = i.provider_id
            limit 1
        ) reply on true
        where i.kind in ('message', 'echo')
          and (
              i.user_id is null
              or i.identity_kind = 'bsuid'
              or by_user.contact_id = owner.contact_id
              and i.identity_key = private.number_of_user(
                  account_id => i.account_id, user_id => i.user_id)
          )
        order by thread.id
    ) f
    left join lateral (
        select k.id, k.customer_id
        from public.conversations k
        where k.id = f.id
          and k.status <> 'closed'
          -- otherwise nothing is locked
          and f.found_count = cardinality(items)
        for no key update
    ) c on true;

    if found_count < cardinality(items) then
        placed := null;
    elsif locked_count < found_count then
        raise sqlstate 'RP003';
    end if;
end
$$;


comment on function private.keep_whatsapp_spelling(private.whatsapp_item[]) is
    'Notes the present spelling of customers'' numbers on conversations, which are locked.';
comment on function private.placed_whatsapp_item(private.whatsapp_item, uuid, uuid) is
    'A message with its conversation and the conversation''s contact.';
comment on function private.open_whatsapp_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each message, and locks it.';
comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the open conversations of messages, if all messages have one. Says whether the messages must be settled.';


/*
    After a number or user id is relinked: moves the contact's phone, and its threads, which go on
    under the new key. Each notice of a batch moves the threads as the notice before has left them.
*/
create function private.lock_whatsapp_contacts(
    items private.whatsapp_item[],
    usernames private.username_change[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform
    from public.contacts c
    where c.id = any (
        array(
            select i.contact_id
            from unnest(items) i
            union
            select u.contact_id
            from unnest(usernames) u
        )
    )
    order by c.id
    for no key update;
end
$$;


create function private.move_whatsapp_phones(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
begin
    foreach item in array items loop
        -- longer ones are ids of test numbers and groups
        if item.former_wa_id <> item.wa_id and item.wa_id ~ '^[1-9][0-9]{1,14}$' then
            perform
            from public.contacts c
            where c.id = item.contact_id
              and private.match_key(kind => 'phone', value => c.phone)
                  = private.match_key(kind => 'phone', value => item.former_wa_id);
            -- an update of no row would still run the table's triggers
            if found then
                update public.contacts c
                set phone = '+' || item.wa_id
                where c.id = item.contact_id;
            end if;
        end if;
    end loop;
end
$$;


create function private.moved_whatsapp_threads(item private.whatsapp_item)
    returns table (id uuid, thread_key text, wa_id text)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        t.id,
        case
            when t.status = 'closed' or thread.is_free then k.new_key
            /*
                Two open threads are never joined. The old thread keeps all but its key. With that
                key the number's next owner would get into it.
            */
            else k.new_key || '#' || t.id
        end,
        coalesce(k.wa_id, t.customer_wa_id)
    from (
        values
            (
                'phone:' || private.match_key(kind => 'phone', value => item.former_wa_id),
                'phone:' || private.match_key(kind => 'phone', value => item.wa_id),
                item.wa_id
            ),
            ('bsuid:' || item.former_user_id, 'bsuid:' || item.user_id, null)
    ) as k (old_key, new_key, wa_id)
    join public.whatsapp_channels w
        on w.account_id = item.account_id
    join public.conversations t
        on t.whatsapp_channel_id = w.id
       and t.account_id = w.account_id
       and t.thread_key = k.old_key
    cross join lateral (
        select not exists (
            select
            from public.conversations o
            where o.whatsapp_channel_id = w.id
              and o.account_id = w.account_id
              and o.thread_key = k.new_key
              and o.status <> 'closed'
        ) as is_free
    ) thread
    where k.old_key <> k.new_key
      -- an open thread moves for any owner, closed ones only with their customer
      and (t.status <> 'closed' or t.customer_id = item.contact_id);
end
$$;


create function private.lock_whatsapp_threads(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    accounts constant uuid[] := array(select distinct i.account_id from unnest(items) i);
    keys constant text[] := array(
        select i.identity_kind || ':' || i.identity_key
        from unnest(items) i
        union
        select 'phone:' || private.match_key(kind => 'phone', value => i.former_wa_id)
        from unnest(items) i
        union
        select 'bsuid:' || k.user_id
        from unnest(items) i
        cross join lateral (values (i.former_user_id), (i.user_id)) as k (user_id)
    );
begin
    perform
    from public.conversations t
    where t.whatsapp_channel_id = any (
        array(select w.id from public.whatsapp_channels w where w.account_id = any (accounts)))
      and t.account_id = any (accounts)
      and t.thread_key = any (keys)
    order by t.id
    for no key update;
end
$$;


create function private.move_whatsapp_threads(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    move record;
begin
    foreach item in array items loop
        for move in
            select m.id, m.thread_key, m.wa_id
            from private.moved_whatsapp_threads(item) m
            order by m.id
        loop
            update public.conversations t
            set thread_key = move.thread_key,
                customer_wa_id = move.wa_id
            where t.id = move.id;
        end loop;
    end loop;
end
$$;


comment on function private.lock_whatsapp_contacts(
    private.whatsapp_item[], private.username_change[]
) is
    'Locks all contacts that a batch may write, in their order.';
comment on function private.move_whatsapp_phones(private.whatsapp_item[]) is
    'Writes the new number where the contact shows the old one.';
comment on function private.moved_whatsapp_threads(private.whatsapp_item) is
    'The threads that a notice moves, each with its new key and number.';
comment on function private.lock_whatsapp_threads(private.whatsapp_item[]) is
    'Locks all threads that a batch may move, in their order.';
comment on function private.move_whatsapp_threads(private.whatsapp_item[]) is
    'Gives the threads of relinked contacts their new keys. The threads are locked.';


/*
    Puts messages into their conversations, a batch at a time: from customers, from our phone app
    (echoes) and from WhatsApp itself.
*/
create function private.message_by_provider_id(whatsapp_channel_id uuid, provider_id text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select m.id
            from public.messages m
            where m.whatsapp_channel_id = message_by_provider_id.whatsapp_channel_id
              and m.provider_id = message_by_provider_id.provider_id
        ),
        -- the id of an earlier attempt to send it
        (
            select t.message_id
            from private.outbound_attempts t
            where t.whatsapp_channel_id = message_by_provider_id.whatsapp_channel_id
              and t.provider_id = message_by_provider_id.provider_id
        )
    );
end
$$;


create function private.known_messages(whatsapp_channel_ids uuid[], provider_ids text[])
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- The same for many in one statement: called for each of 1,000 statuses, and of the echoes
    -- before them, the function above was 8 % of the work.
    return array(
        select coalesce(
            (
                select m.id
                from public.messages m
                where m.whatsapp_channel_id = k.whatsapp_channel_id
                  and m.provider_id = k.provider_id
            ),
            (
                select t.message_id
                from private.outbound_attempts t
                where t.whatsapp_channel_id = k.whatsapp_channel_id
                  and t.provider_id = k.provider_id
            )
        )
        from unnest(whatsapp_channel_ids, provider_ids)
            with ordinality as k (whatsapp_channel_id, provider_id, place)
        order by k.place
    );
end
$$;


create function private.answered_message(
    conversation_id uuid,
    whatsapp_channel_id uuid,
    provider_id text
)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a customer reads nothing of another conversation, not even that a message exists
    return (
        select m.id
        from public.messages m
        where m.id = private.message_by_provider_id(
                whatsapp_channel_id => answered_message.whatsapp_channel_id,
                provider_id => answered_message.provider_id
            )
          and m.conversation_id = answered_message.conversation_id
    );
end
$$;


create function private.append_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    appended integer;
begin
    -- The conversations are locked: nobody else numbers messages in them. post_messages and
    -- post_notices number theirs in the same way, see conversation_activity.last_seq.
    with fresh as materialized (
        select
            i.account_id,
            i.conversation_id,
            i.contact_id,
            i.kind,
            i.sender_type,
            i.sender_id,
            i.wa_id,
            i.user_id,
            i.profile_name,
            i.type,
            i.text,
            i.content,
            i.reply_to,
            i.whatsapp_channel_id,
            i.provider_id,
            i.sent_at,
            row_number() over (
                partition by i.conversation_id
                order by i.sent_at, i.provider_id
            ) as place
        from unnest(items) i
        left join lateral (
            select true as is_there
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
            limit 1
        ) known on true
        where known.is_there is null
    ),
    latest as (
        select
            f.conversation_id,
            count(*) as added,
            max(f.sent_at) as sent_at,
            max(f.sent_at) filter (
                where f.kind = 'message'
                   or f.kind = 'group' and f.sender_type = 'client'
            ) as inbound_at
        from fresh f
        group by f.conversation_id
    ),
    counted as (
        update public.conversation_activity a
        set last_seq = a.last_seq + l.added,
            -- the first message's time replaces the conversation's own, even if it is older
            last_message_at = case
                when a.last_seq = 0 then l.sent_at
                else greatest(a.last_message_at, l.sent_at)
            end,
            last_inbound_at = greatest(a.last_inbound_at, l.inbound_at)
        from latest l
        where a.conversation_id = l.conversation_id
        returning a.conversation_id, a.last_seq - l.added as last_seq
    )
    insert into public.messages (
        account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name,
        type, message, content, reply_to, whatsapp_channel_id, provider_id, status, sent_at,
        is_history
    )
    select
        f.account_id,
        f.conversation_id,
        f.contact_id,
        c.last_seq + f.place,
        case f.kind
            when 'message' then 'client'
            when 'system' then 'system'
            when 'echo' then 'operator'
            else f.sender_type
        end,
        case f.kind when 'message' then coalesce(f.wa_id, f.user_id) else f.sender_id end,
        f.profile_name,
        f.type,
        f.text,
        f.content,
        case when f.reply_to is not null then private.answered_message(
            conversation_id => f.conversation_id,
            whatsapp_channel_id => f.whatsapp_channel_id,
            provider_id => f.reply_to
        ) end,
        f.whatsapp_channel_id,
        f.provider_id,
        -- later statuses update an echo
        case when f.kind = 'echo' or f.sender_type = 'operator' then 'sent' else 'delivered' end,
        f.sent_at,
        f.kind = 'history'
    from fresh f
    join counted c
        on c.conversation_id = f.conversation_id
    -- in the order of seq, so that the log has the same order
    order by f.conversation_id, f.sent_at, f.provider_id;

    get diagnostics appended = row_count;
    return appended;
end
$$;


create function private.apply_whatsapp_messages(
    items private.whatsapp_item[],
    may_continue boolean,
    settles boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    continued record;
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    usernames private.username_change[] := '{}';
    has_notices boolean;
    may_be_two boolean;
    has_usernames boolean;
    learnt private.learnt_number[] := '{}';
    applied integer;
    settled integer;
begin
    if may_continue then
        continued := private.continue_whatsapp_threads(items);
        if continued.placed is not null then
            applied := private.append_whatsapp_messages(continued.placed);
            if settles and continued.to_settle then
                settled := private.settle_whatsapp_items(items);
            end if;
            return applied;
        end if;
    end if;

    -- a repeated delivery ends here, and has locked and written nothing
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

    select
        bool_or(i.kind = 'system'),
        bool_or(i.user_id is not null or i.kind = 'system'),
        bool_or(i.username is not null)
    into has_notices, may_be_two, has_usernames
    from unnest(fresh) i;

    -- identities
    if has_notices then
        fresh := private.relink_whatsapp_senders(fresh);
    end if;
    fresh := private.claim_whatsapp_senders(fresh);
    if has_usernames then
        usernames := private.claim_whatsapp_usernames(fresh);
    end if;
    if may_be_two then
        learnt := private.learn_user_numbers(fresh);
    end if;

    -- contacts
    if has_notices or cardinality(usernames) > 0 or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_contacts(fresh, usernames);
    end if;
    perform private.name_whatsapp_senders(fresh, usernames);
    if cardinality(usernames) > 0 then
        perform private.write_whatsapp_usernames(usernames);
    end if;
    perform private.write_learnt_phones(learnt);

    -- conversations
    if has_notices then
        perform private.move_whatsapp_phones(fresh);
    end if;
    placed := private.follow_numbers(fresh);
    if has_notices or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_threads(placed);
    end if;
    if has_notices then
        perform private.move_whatsapp_threads(fresh);
    end if;
    if cardinality(learnt) > 0 then
        perform private.move_learnt_threads(learnt);
    end if;
    placed := private.open_whatsapp_threads(placed);

    if may_be_two then
        perform private.suggest_same_senders(fresh);
    end if;
    applied := private.append_whatsapp_messages(placed);
    if settles then
        settled := private.settle_whatsapp_items(items);
    end if;
    return applied;
end
$$;


comment on function private.message_by_provider_id(uuid, text) is
    'The message with this id at WhatsApp, of its latest attempt or an earlier one.';
comment on function private.known_messages(uuid[], text[]) is
    'The messages with these ids at WhatsApp, of their latest attempts or earlier ones, in the same order; null for an unknown one.';
comment on function private.answered_message(uuid, uuid, text) is
    'The message that a reply in a conversation answers; null where it has not arrived yet.';
comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts the new messages. Returns their number.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[], boolean, boolean) is
    'Applies a batch of received messages with all that follows. Returns the number of new ones. Settles what has waited for them, unless the caller does.';


/*
    Statuses of WhatsApp messages. They arrive in any order, more than once, and sometimes before
    the message's id is known. All are kept. A message shows the sum of its statuses, so the order
    of arrival does not matter.
*/
create function private.provider_ids_of(message public.messages)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array_remove(
        message.provider_id || array(
            select t.provider_id
            from private.outbound_attempts t
            where t.message_id = message.id
              and t.provider_id is distinct from message.provider_id
        ),
        null
    );
end
$$;


create function private.show_message_statuses(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.messages m
    set status = e.status,
        sent_at = coalesce(m.sent_at, e.sent_at),
        delivered_at = e.delivered_at,
        read_at = e.read_at,
        failed_at = e.failed_at,
        error_code = e.error_code,
        error_message = e.error_message
    from public.messages k
    cross join lateral (
        select
            case
                when s.read_at is not null then 'read'
                -- evidence of delivery outranks a failure, which stays visible as an error
                when s.delivered_at is not null then 'delivered'
                when s.failed_at is not null then 'failed'
                else 'sent'
            end as status,
            s.*
        from (
            select
                min(s.at) filter (where s.status = 'sent') as sent_at,
                -- read implies delivered: WhatsApp may leave out delivered
                min(s.at) filter (where s.status in ('delivered', 'read')) as delivered_at,
                min(s.at) filter (where s.status = 'read') as read_at,
                -- an earlier attempt's failure is outdated by the next attempt
                min(s.at) filter (where s.status = 'failed' and s.provider_id = k.provider_id)
                    as failed_at,
                min(s.error_code) filter (where s.provider_id = k.provider_id) as error_code,
                min(s.error_message) filter (where s.provider_id = k.provider_id) as error_message
            from private.message_statuses s
            where s.whatsapp_channel_id = k.whatsapp_channel_id
              -- as in provider_ids_of, whose call for each message was 4 % of echoes and statuses
              and s.provider_id = any (array_append(
                  array(
                      select t.provider_id
                      from private.outbound_attempts t
                      where t.message_id = k.id
                        and t.provider_id is distinct from k.provider_id
                  ),
                  k.provider_id
              ))
        ) s
    ) e
    where k.id = any (message_ids)
      -- received messages have no delivery of ours
      and k.sender_type <> 'client'
      -- a message that waits for another attempt is settled by proof that it was delivered
      and (k.provider_id is not null or e.delivered_at is not null)
      -- an update to the same values would still write a row
      and (
          k.status, k.sent_at, k.delivered_at, k.read_at, k.failed_at, k.error_code, k.error_message
      ) is distinct from (
          e.status, coalesce(k.sent_at, e.sent_at), e.delivered_at, e.read_at, e.failed_at,
          e.error_code, e.error_message
      )
      and m.id = k.id;

    -- a settled message is not sent again
    delete from private.outbound_queue q
    using public.messages m
    where q.message_id = any (message_ids)
      and m.id = q.message_id
      and m.status in ('delivered', 'read');
end
$$;


create function private.keep_whatsapp_statuses(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
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
    order by
        i.whatsapp_channel_id,
        i.provider_id,
        i.status,
        i.at,
        coalesce(i.error_code, 0),
        coalesce(i.error_message, '')
    on conflict (whatsapp_channel_id, provider_id, status) do update
        set at = excluded.at,
            error_code = excluded.error_code,
            error_message = excluded.error_message
        where (excluded.at, coalesce(excluded.error_code, 0), coalesce(excluded.error_message, ''))
            < (s.at, coalesce(s.error_code, 0), coalesce(s.error_message, ''));

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.attach_named_messages(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    A status with our own id proves that WhatsApp took the message, even if our call failed or had
    no answer. The messages are locked.
*/
declare
    named record;
begin
    for named in
        select m.id, m.provider_id as known_provider_id, i.provider_id, min(i.at) as at
        from unnest(items) i
        join public.messages m
            on m.id = i.message_ref
           and m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.sender_type <> 'client'
        where i.kind = 'status'
          -- most are known by it: the look-up is the second test
          and case when m.provider_id is distinct from i.provider_id then
              private.message_by_provider_id(
                  whatsapp_channel_id => i.whatsapp_channel_id, provider_id => i.provider_id) is null
          end
        group by m.id, m.provider_id, i.provider_id
        order by m.id, min(i.at), i.provider_id
    loop
        if named.known_provider_id is null then
            perform private.attach_provider_id(
                message_id => named.id, provider_id => named.provider_id);
        end if;
        -- one of several attempts
        update private.outbound_attempts t
        set outcome = 'accepted',
            provider_id = named.provider_id,
            ended_at = coalesce(t.ended_at, clock_timestamp())
        where t.message_id = named.id
          and t.attempt = (
              select max(l.attempt)
              from private.outbound_attempts l
              where l.message_id = named.id
                and l.provider_id is null
          )
          and private.message_by_provider_id(
              whatsapp_channel_id => t.whatsapp_channel_id,
              provider_id => named.provider_id
          ) is null;
    end loop;
end
$$;


comment on function private.provider_ids_of(public.messages) is
    'The ids of a message at WhatsApp, one for each attempt to send it.';
comment on function private.show_message_statuses(uuid[]) is
    'Shows on messages, which are locked, the sum of their statuses. Repeating it changes nothing.';
comment on function private.keep_whatsapp_statuses(private.whatsapp_item[]) is
    'Keeps reported statuses. Returns the number of new ones.';
comment on function private.attach_named_messages(private.whatsapp_item[]) is
    'Notes the id under which WhatsApp took each message. The messages are locked.';


/*
    Calls. A call is one line in the conversation with its person: a message of the type call, whose
    content says how the call stands:

        {direction: inbound | outbound, status, started_at, ended_at, duration_s}

        ringing → ongoing → answered: how long it took
                → missed, rejected, failed

    WhatsApp reports a call in several events, in any order. All are kept, and the message shows
    their sum, so the order of arrival does not matter. A call from the person opens the 24-hour
    window, as a message does.
    (Source: developers.facebook.com, WhatsApp Business Platform, "Calling API", "calls webhook
    reference".)
*/
create table private.call_events (
    -- no foreign key: all calls of a number would queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the call, and of its message
    provider_id         text not null,
    event               text not null
                        constraint call_events_event_check
                        check (event in ('connect', 'ringing', 'accepted', 'rejected', 'terminate')),
    direction           text not null
                        constraint call_events_direction_check
                        check (direction in ('inbound', 'outbound')),
    -- the provider's times; the last event gives the start and end of the talk
    at                  timestamptz not null,
    started_at          timestamptz,
    ended_at            timestamptz,
    duration_s          integer
                        constraint call_events_duration_s_check check (duration_s >= 0),
    has_failed          boolean not null default false,

    primary key (whatsapp_channel_id, provider_id, event)
);
alter table private.call_events enable row level security;


create type private.known_call as (
    sent_at timestamptz,
    -- the last known moment of the call: nothing moves the window back
    last_at timestamptz,
    message text,
    content jsonb
);


create function private.keep_call_events(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    insert into private.call_events (
        whatsapp_channel_id, provider_id, event, direction, at, started_at, ended_at, duration_s,
        has_failed
    )
    select
        i.whatsapp_channel_id,
        i.provider_id,
        i.content ->> 'event',
        case i.sender_type when 'client' then 'inbound' else 'outbound' end,
        i.sent_at,
        -- an implausible time is replaced, as the time of the event is
        private.likely_time((i.content ->> 'started_at')::timestamptz, i.sent_at),
        private.likely_time((i.content ->> 'ended_at')::timestamptz, i.sent_at),
        (i.content ->> 'duration_s')::integer,
        (i.content -> 'has_failed')::boolean
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.content ->> 'event', i.sent_at, i.index
    on conflict do nothing;

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.spoken_time(seconds integer)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return concat_ws(
        ' ',
        nullif(seconds / 3600, 0) || ' h',
        nullif(seconds % 3600 / 60, 0) || ' min',
        case when seconds % 60 > 0 or seconds = 0 then seconds % 60 || ' s' end
    );
end
$$;


create function private.iso_time(at timestamptz)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the same in every time zone of the session
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
end
$$;


create function private.known_call(whatsapp_channel_id uuid, provider_id text)
    returns private.known_call
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    call record;
    status text;
    seconds integer;
begin
    select
        min(least(e.at, e.started_at)) as sent_at,
        max(least(e.at, coalesce(e.started_at, e.at))) as last_at,
        -- where events contradict each other, the person's call counts
        min(e.direction) as direction,
        bool_or(e.event = 'terminate') as is_over,
        bool_or(e.event = 'accepted') as is_accepted,
        bool_or(e.event = 'rejected') as is_rejected,
        bool_or(e.has_failed) as has_failed,
        min(e.started_at) as started_at,
        max(e.ended_at) as ended_at,
        max(e.at) filter (where e.event = 'terminate') as over_at,
        max(e.duration_s) as duration_s
    into call
    from private.call_events e
    where e.whatsapp_channel_id = known_call.whatsapp_channel_id
      and e.provider_id = known_call.provider_id;

    status := case
        when call.is_over and (call.started_at is not null or call.duration_s > 0) then 'answered'
        when call.is_rejected then 'rejected'
        when call.is_over and call.direction = 'outbound' and call.has_failed then 'failed'
        when call.is_over then 'missed'
        when call.is_accepted then 'ongoing'
        else 'ringing'
    end;
    seconds := case when status = 'answered' then coalesce(
        call.duration_s,
        greatest(extract(epoch from call.ended_at - call.started_at)::integer, 0)
    ) end;
    return (
        call.sent_at,
        call.last_at,
        case call.direction
            when 'inbound' then case status
                when 'ringing' then '[incoming call]'
                when 'ongoing' then '[call] in progress'
                when 'answered' then concat_ws(' ', '[call]', private.spoken_time(seconds))
                else format('[%s call]', status)
            end
            else case status
                when 'ringing' then '[outgoing call]'
                when 'ongoing' then '[outgoing call] in progress'
                when 'answered' then concat_ws(' ', '[outgoing call]', private.spoken_time(seconds))
                when 'missed' then '[outgoing call] not answered'
                else format('[outgoing call] %s', status)
            end
        end,
        jsonb_build_object(
            'direction', call.direction,
            'status', status,
            'started_at', private.iso_time(call.started_at),
            'ended_at', case when call.is_over then
                private.iso_time(coalesce(call.ended_at, call.over_at))
            end,
            'duration_s', seconds
        )
    )::private.known_call;
end
$$;


create function private.as_calls(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    call private.known_call;
    calls private.whatsapp_item[] := '{}';
begin
    foreach item in array items loop
        call := private.known_call(
            whatsapp_channel_id => item.whatsapp_channel_id, provider_id => item.provider_id);
        item.type := 'call';
        item.text := call.message;
        item.content := call.content;
        item.sent_at := call.sent_at;
        calls := calls || item;
    end loop;
    return calls;
end
$$;


create function private.open_call_windows(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- under the conversations' locks, which come before the locks of messages
    perform
    from public.conversations k
    where k.id in (
        select m.conversation_id
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
    )
    order by k.id
    for no key update;

    update public.conversation_activity a
    set last_inbound_at = greatest(a.last_inbound_at, c.last_at),
        last_message_at = greatest(a.last_message_at, c.last_at)
    from (
        select m.conversation_id, max(call.last_at) as last_at
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        cross join lateral private.known_call(
            whatsapp_channel_id => i.whatsapp_channel_id, provider_id => i.provider_id) call
        where m.type = 'call'
          and m.sender_type = 'client'
        group by m.conversation_id
    ) c
    where a.conversation_id = c.conversation_id
      and (a.last_inbound_at is null or a.last_inbound_at < c.last_at);
end
$$;


create function private.apply_whatsapp_calls(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant integer := private.keep_call_events(items);
    changed uuid[];
begin
    -- makes the line, if no earlier event has made it
    perform private.apply_whatsapp_messages(
        private.as_calls(items), may_continue => false, settles => false);
    perform private.open_call_windows(items);

    -- this batch's events, and events that others added while this waited for the conversation
    changed := array(
        select m.id
        from public.messages m
        join unnest(items) i
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        where m.type = 'call'
        order by m.id
        for no key update of m
    );
    if changed <> '{}' then
        update public.messages m
        set message = call.message,
            content = call.content,
            sent_at = call.sent_at
        from public.messages k
        cross join lateral private.known_call(
            whatsapp_channel_id => k.whatsapp_channel_id, provider_id => k.provider_id) call
        where m.id = k.id
          and k.id = any (changed)
          and (k.message, k.content, k.sent_at)
              is distinct from (call.message, call.content, call.sent_at);
    end if;
    return kept;
end
$$;


comment on table private.call_events is
    'WhatsApp''s events about calls. The message of each call shows their sum.';
comment on type private.known_call is
    'The content of a call''s message, and the last known moment of the call.';
comment on function private.keep_call_events(private.whatsapp_item[]) is
    'Keeps events about calls. Returns the number of new ones.';
comment on function private.spoken_time(integer) is
    'The length of a talk, for people to read.';
comment on function private.iso_time(timestamptz) is
    'A time in JSON, in UTC, to the second.';
comment on function private.known_call(uuid, text) is
    'The state of a call, from all of its events.';
comment on function private.as_calls(private.whatsapp_item[]) is
    'Events of calls as the messages that show these calls.';
comment on function private.open_call_windows(private.whatsapp_item[]) is
    'Opens the 24-hour windows of people who have called.';
comment on function private.apply_whatsapp_calls(private.whatsapp_item[]) is
    'Applies events of calls with all that follows. Returns the number of new ones.';


/*
    Reactions, edits and deletions: keeps them, and shows them on their messages.
*/
create function private.keep_whatsapp_effects(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    if items is null then
        return 0;
    end if;
    insert into private.message_effects (
        whatsapp_channel_id, provider_id, parent_provider_id, kind, sender_type, sender_id, at,
        text, content
    )
    select
        i.whatsapp_channel_id, i.provider_id, i.reply_to, i.type, i.sender_type, i.sender_id,
        i.sent_at, i.text, i.content
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.index
    on conflict do nothing;

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.effects_about(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    known_ids constant text[] := private.provider_ids_of(message);
begin
    return query
    select e.*
    from unnest(known_ids) as known (provider_id)
    cross join lateral (
        select k.*
        from private.message_effects k
        where k.whatsapp_channel_id = message.whatsapp_channel_id
          and k.parent_provider_id = known.provider_id
        -- Looked up id by id: a plan made while the table was new read all effects of the number.
        offset 0
    ) e;
end
$$;


create function private.effects_of(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select e.*
    from private.effects_about(message) e
    where e.kind = 'reaction'
       -- each side edits and deletes its own messages, and in a group each participant
       or (e.sender_type = 'client') = (message.sender_type = 'client')
          and (
              message.customer_id is not null
              or e.kind = 'original'
              or e.sender_type <> 'client'
              or private.is_same_participant(
                  conversation_id => message.conversation_id,
                  one => e.sender_id,
                  other => message.sender_id
              )
          );
end
$$;


create function private.edited_content(original jsonb, edit jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    type constant text := edit ->> 'type';
begin
    -- an edit of a caption need not repeat the file
    return case
        when jsonb_typeof(original -> type) = 'object' and jsonb_typeof(edit -> type) = 'object'
            then original || jsonb_build_object(type, (original -> type) || (edit -> type))
        else original
    end;
end
$$;


create function private.with_effects(message public.messages)
    returns public.messages
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    effects constant private.message_effects[] := array(
        select e
        from private.effects_of(message) e
    );
    edit private.message_effects;
    original private.message_effects;
begin
    select e.*
    into edit
    from unnest(effects) e
    where e.kind = 'edit'
    order by e.at desc, e.provider_id desc
    limit 1;
    message.edited_at := edit.at;

    select min(e.at)
    into message.revoked_at
    from unnest(effects) e
    where e.kind = 'revoke';
    if message.revoked_at is not null then
        message.message := '';
        message.content := null;
        message.reactions := '[]';
        return message;
    end if;

    if edit.provider_id is not null then
        select e.*
        into original
        from unnest(effects) e
        where e.kind = 'original'
        limit 1;
        message.message := coalesce(edit.text, original.text);
        message.content := private.edited_content(original => original.content, edit => edit.content);
    end if;

    message.reactions := (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'sender_type', r.sender_type,
                    'sender_id', r.sender_id,
                    'emoji', r.text,
                    'at', r.at
                )
                order by r.at, r.provider_id
            ) filter (where r.text is not null),
            '[]'
        )
        from (
            select distinct on (e.sender_type, e.sender_id) e.*
            from unnest(effects) e
            where e.kind = 'reaction'
            order by e.sender_type, e.sender_id, e.at desc, e.provider_id desc
        ) r
    );
    return message;
end
$$;


create function private.forget_effects(message public.messages)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    effect private.message_effects;
begin
    -- text that its sender has deleted is not kept as history either
    for effect in
        select e.*
        from private.effects_about(message) e
        where num_nonnulls(e.text, e.content) > 0
    loop
        if effect.kind = 'original' then
            delete from private.message_effects e
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        else
            update private.message_effects e
            set text = null,
                content = null
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        end if;
    end loop;
end
$$;


create function private.show_message_effects(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- none of the messages that only have statuses
    touched constant uuid[] := array(
        select m.id
        from public.messages m
        where m.id = any (message_ids)
          -- Most have none: the first test needs no function, the calls were 7 % of echoes and
          -- statuses.
          and case when exists (
              select
              from unnest(array_append(
                  array(
                      select t.provider_id
                      from private.outbound_attempts t
                      where t.message_id = m.id
                        and t.provider_id is distinct from m.provider_id
                  ),
                  m.provider_id
              )) as known (provider_id)
              cross join lateral (
                  select
                  from private.message_effects k
                  where k.whatsapp_channel_id = m.whatsapp_channel_id
                    and k.parent_provider_id = known.provider_id
                  -- as in effects_about
                  offset 0
              ) e
          ) then
              exists (select from private.effects_of(m))
          end
    );
    changed public.messages[];
    revoked public.messages;
begin
    if touched = '{}' then
        return;
    end if;

    insert into private.message_effects (
        whatsapp_channel_id, provider_id, parent_provider_id, kind, sender_type, text, content
    )
    select
        m.whatsapp_channel_id,
        m.provider_id,
        m.provider_id,
        'original',
        m.sender_type,
        m.message,
        m.content
    from public.messages m
    where m.id = any (touched)
      and m.provider_id is not null
      and m.revoked_at is null
      and exists (select from private.effects_of(m) e where e.kind = 'edit')
      and not exists (select from private.effects_of(m) e where e.kind = 'original')
    on conflict do nothing;

    changed := array(
        select w
        from public.messages m
        cross join lateral private.with_effects(m) w
        where m.id = any (touched)
          and (w.message, w.content, w.reactions, w.edited_at, w.revoked_at)
              is distinct from (m.message, m.content, m.reactions, m.edited_at, m.revoked_at)
    );
    -- an update of no row would still run the table's triggers
    if changed <> '{}' then
        update public.messages m
        set message = c.message,
            content = c.content,
            reactions = c.reactions,
            edited_at = c.edited_at,
            revoked_at = c.revoked_at
        from unnest(changed) c
        where m.id = c.id;
    end if;

    for revoked in
        select m.*
        from public.messages m
        where m.id = any (touched)
          and m.revoked_at is not null
        order by m.id
    loop
        perform private.forget_effects(revoked);
        perform private.take_back_media(revoked.id);
    end loop;
end
$$;


comment on function private.keep_whatsapp_effects(private.whatsapp_item[]) is
    'Keeps effects on messages, known or not. Returns the number of new ones.';
comment on function private.effects_about(public.messages) is
    'All effects on a message, from anybody, and its original text.';
comment on function private.effects_of(public.messages) is
    'The effects on a message that are allowed: a side edits and deletes only its own messages.';
comment on function private.edited_content(jsonb, jsonb) is
    'The content of a message after an edit.';
comment on function private.with_effects(public.messages) is
    'A message with all of its effects applied.';
comment on function private.forget_effects(public.messages) is
    'Deletes the original text of a message that its sender has deleted.';
comment on function private.show_message_effects(uuid[]) is
    'Shows on messages, which are locked, the sum of their effects. Repeating it changes nothing.';


/*
    Groups. A group has one thread, known by our number and WhatsApp's id of the group. Answers go
    to the group. Its participants do not become contacts, and no private thread or window opens.
    The group's participants, name and state come from WhatsApp's events and from the senders of
    messages, so the order of arrival does not matter.
    (Source: developers.facebook.com, WhatsApp Business Platform, "Groups API": "Group messaging",
    "Webhooks for Groups API", "Groups API pricing".)
*/
create table private.group_events (
    -- no foreign key: all groups of a number would queue for one row
    whatsapp_channel_id uuid not null,
    group_id            text not null,
    at                  timestamptz not null,
    -- the facts of the event, each null where the event does not give it
    name                text,
    state               text
                        constraint group_events_state_check
                        check (state in ('active', 'suspended', 'deleted')),
    -- [{wa_id, user_id}]
    joined              jsonb not null default '[]',
    departed            jsonb not null default '[]',
    -- senders who wrote with both ids; the message keeps only one of them
    named               jsonb not null default '[]',
    -- such an event has no id: equal content at the same time is the same event
    content_md5         text not null,

    primary key (whatsapp_channel_id, group_id, at, content_md5)
);
alter table private.group_events enable row level security;


create function private.keep_group_events(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    insert into private.group_events (
        whatsapp_channel_id, group_id, at, name, state, joined, departed, content_md5
    )
    select
        i.whatsapp_channel_id,
        i.group_id,
        i.sent_at,
        i.content ->> 'name',
        i.content ->> 'state',
        i.content -> 'joined',
        i.content -> 'departed',
        md5(i.content::text)
    from unnest(items) i
    where i.kind = 'group_event'
    order by i.whatsapp_channel_id, i.group_id, i.sent_at, md5(i.content::text)
    on conflict do nothing;

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.note_both_ids(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.group_events (whatsapp_channel_id, group_id, at, named, content_md5)
    select i.whatsapp_channel_id, i.group_id, i.sent_at, n.named, md5('named' || n.named::text)
    from unnest(items) i
    cross join lateral (
        select jsonb_build_array(
            jsonb_build_object('wa_id', i.wa_id, 'user_id', i.user_id)) as named
    ) n
    where i.wa_id is not null
      and i.user_id is not null
    order by i.whatsapp_channel_id, i.group_id, i.sent_at, md5('named' || n.named::text)
    on conflict do nothing;
end
$$;


create function private.known_participants(thread public.conversations)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with seen as (
            select
                p.wa_id,
                p.user_id,
                null::text as name,
                case p.what when 'joined' then e.at end as joined_at,
                case p.what when 'departed' then e.at end as left_at,
                null::timestamptz as written_at,
                e.at
            from private.group_events e
            cross join lateral (
                select j.wa_id, j.user_id, 'joined' as what
                from jsonb_to_recordset(e.joined) as j (wa_id text, user_id text)
                union all
                select d.wa_id, d.user_id, 'departed'
                from jsonb_to_recordset(e.departed) as d (wa_id text, user_id text)
                union all
                select n.wa_id, n.user_id, 'named'
                from jsonb_to_recordset(e.named) as n (wa_id text, user_id text)
            ) p
            where e.whatsapp_channel_id = thread.whatsapp_channel_id
              and e.group_id = thread.group_id
            union all
            select
                case when m.sender_id ~ '^[0-9]+$' then m.sender_id end,
                case when m.sender_id !~ '^[0-9]+$' then m.sender_id end,
                m.sender_name,
                null,
                null,
                m.sent_at,
                m.sent_at
            from public.messages m
            where m.conversation_id = thread.id
              and m.sender_type = 'client'
        ),
        -- a person may be known by number in one event and by user id in another
        both_ids as (
            select private.match_key('phone', s.wa_id) as phone_key, max(s.user_id) as user_id
            from seen s
            where s.wa_id is not null
              and s.user_id is not null
            group by private.match_key('phone', s.wa_id)
        ),
        people as (
            select
                (array_agg(s.wa_id order by s.at desc, s.wa_id) filter (where s.wa_id is not null))[1]
                    as wa_id,
                max(coalesce(s.user_id, b.user_id)) as user_id,
                (array_agg(s.name order by s.at desc, s.name) filter (where s.name is not null))[1]
                    as name,
                max(s.joined_at) as joined_at,
                max(s.left_at) as left_at,
                max(s.written_at) as written_at
            from seen s
            left join both_ids b
                on b.phone_key = private.match_key('phone', s.wa_id)
            group by coalesce(s.user_id, b.user_id, private.match_key('phone', s.wa_id))
        )
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'wa_id', p.wa_id,
                    'user_id', p.user_id,
                    'name', p.name,
                    'is_member', p.left_at is null
                        or coalesce(greatest(p.joined_at, p.written_at) > p.left_at, false),
                    'joined_at', private.iso_time(p.joined_at),
                    'left_at', private.iso_time(p.left_at)
                )
                order by lower(p.name), p.wa_id, p.user_id
            ),
            '[]'
        )
        from people p
    );
end
$$;


create function private.show_groups(conversation_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.conversations k
    set group_name = f.name,
        group_state = f.state,
        participants = f.participants
    from public.conversations o
    cross join lateral (
        select
            (
                select e.name
                from private.group_events e
                where e.whatsapp_channel_id = o.whatsapp_channel_id
                  and e.group_id = o.group_id
                  and e.name is not null
                order by e.at desc, e.name
                limit 1
            ) as name,
            coalesce(
                (
                    select e.state
                    from private.group_events e
                    where e.whatsapp_channel_id = o.whatsapp_channel_id
                      and e.group_id = o.group_id
                      and e.state is not null
                    order by e.at desc, e.state desc
                    limit 1
                ),
                'active'
            ) as state,
            private.known_participants(o) as participants
    ) f
    where o.id = any (conversation_ids)
      and k.id = o.id
      and (o.group_name, o.group_state, o.participants)
          is distinct from (f.name, f.state, f.participants);
end
$$;


create function private.is_same_participant(conversation_id uuid, one text, other text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return one = other or exists (
        select
        from public.conversations k
        cross join lateral jsonb_to_recordset(k.participants) as p (wa_id text, user_id text)
        where k.id = is_same_participant.conversation_id
          and one in (p.wa_id, p.user_id)
          and other in (p.wa_id, p.user_id)
    );
end
$$;


create function private.open_group_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
declare
    found_items private.whatsapp_item[];
begin
    -- the second round finds threads that others have opened meanwhile
    for attempt in 1 .. 4 loop
        with threads as materialized (
            select i as item, k.id
            from unnest(items) i
            join public.conversations k
                on k.whatsapp_channel_id = i.whatsapp_channel_id
               and k.group_id = i.group_id
            order by k.id
            for no key update of k
        )
        select array_agg(private.placed_whatsapp_item(t.item, t.id, null))
        into found_items
        from threads t;
        if cardinality(found_items) = cardinality(items) then
            return found_items;
        end if;

        insert into public.conversations (
            account_id, channel, whatsapp_channel_id, thread_key, group_id, group_state
        )
        select distinct on (i.whatsapp_channel_id, i.group_id)
            i.account_id,
            'whatsapp',
            i.whatsapp_channel_id,
            'group:' || i.group_id,
            i.group_id,
            'active'
        from unnest(items) i
        order by i.whatsapp_channel_id, i.group_id
        on conflict (whatsapp_channel_id, group_id) where group_id is not null do nothing;
    end loop;

    raise sqlstate '40001' using
        message = 'The conversation of a group was deleted as fast as it was opened.',
        hint = 'Try again.';
end
$$;


create function private.is_shown_as(participants jsonb, item private.whatsapp_item)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- The usual case: then the conversation is not written.
    return exists (
        select
        from jsonb_to_recordset(participants) as p (
            wa_id text, user_id text, name text, is_member boolean
        )
        where p.is_member
          and item.sender_id in (p.wa_id, p.user_id)
          and (item.wa_id is null or item.wa_id = p.wa_id)
          and (item.user_id is null or item.user_id = p.user_id)
          and (item.profile_name is null or item.profile_name = p.name)
    );
end
$$;


create function private.apply_whatsapp_groups(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    applied integer := private.keep_group_events(items);
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    unshown private.whatsapp_item[];
begin
    -- a repeated delivery locks and writes nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        where i.kind = 'group'
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where (
        select true
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
        limit 1
    ) is null;
    if applied > 0 then
        fresh := coalesce(fresh, '{}') || array(
            select i
            from unnest(items) i
            where i.kind = 'group_event'
        );
    end if;
    if fresh is null then
        return 0;
    end if;

    placed := private.open_group_threads(fresh);
    applied := applied + private.append_whatsapp_messages(array(
        select p
        from unnest(placed) p
        where p.kind = 'group'
    ));
    update public.conversations k
    set status = 'open'
    where k.id in (select p.conversation_id from unnest(placed) p where p.kind = 'group')
      and k.status = 'closed';

    unshown := array(
        select p
        from unnest(placed) p
        join public.conversations k
            on k.id = p.conversation_id
        where p.kind = 'group_event'
           or p.sender_type = 'client' and not private.is_shown_as(k.participants, item => p)
    );
    if unshown <> '{}' then
        perform private.note_both_ids(unshown);
        perform private.show_groups(array(select distinct u.conversation_id from unnest(unshown) u));
    end if;
    return applied;
end
$$;


comment on table private.group_events is
    'WhatsApp''s events about groups: names, states, joining and leaving.';
comment on function private.keep_group_events(private.whatsapp_item[]) is
    'Keeps events about groups. Returns the number of new ones.';
comment on function private.note_both_ids(private.whatsapp_item[]) is
    'Notes that a number and a user id belong to one participant.';
comment on function private.known_participants(public.conversations) is
    'The present and former participants of a group, from all events.';
comment on function private.show_groups(uuid[]) is
    'Shows the state of groups on their conversations, which are locked. Repeating it changes nothing.';
comment on function private.is_same_participant(uuid, text, text) is
    'Whether two ids, of a number or a user, belong to one participant of a group.';
comment on function private.open_group_threads(private.whatsapp_item[]) is
    'Finds or opens the conversation of each group, and locks it.';
comment on function private.is_shown_as(jsonb, private.whatsapp_item) is
    'Whether participants show a message''s sender as a member with the same ids and name.';
comment on function private.apply_whatsapp_groups(private.whatsapp_item[]) is
    'Applies messages in groups and events about groups, with all that follows. Returns the number of new ones.';


/*
    Replies that arrive before the message that they answer: kept, and linked when it arrives.
*/
create function private.park_replies(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.parked_replies (message_id, whatsapp_channel_id, parent_provider_id)
    select m.id, m.whatsapp_channel_id, min(i.reply_to)
    from unnest(items) i
    join public.messages m
        on m.whatsapp_channel_id = i.whatsapp_channel_id
       and m.provider_id = i.provider_id
    where i.kind <> 'effect'
      and i.reply_to is not null
      and m.reply_to is null
    group by m.id
    on conflict do nothing;
end
$$;


create function private.attach_replies(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    children uuid[];
    parents uuid[];
begin
    with attached as (
        delete from private.parked_replies p
        where p.message_id = any (message_ids)
          and private.message_by_provider_id(
              whatsapp_channel_id => p.whatsapp_channel_id,
              provider_id => p.parent_provider_id
          ) is not null
        returning p.*
    )
    select array_agg(m.id), array_agg(answered.id)
    into children, parents
    from attached p
    join public.messages m
        on m.id = p.message_id
    cross join lateral private.answered_message(
        conversation_id => m.conversation_id,
        whatsapp_channel_id => p.whatsapp_channel_id,
        provider_id => p.parent_provider_id
    ) as answered (id)
    where answered.id is not null;

    -- an update of no row would still run the table's triggers
    if children is not null then
        update public.messages m
        set reply_to = a.parent_id
        from unnest(children, parents) as a (id, parent_id)
        where m.id = a.id;
    end if;
end
$$;


comment on function private.park_replies(private.whatsapp_item[]) is
    'Keeps the replies of a batch whose answered message is not known yet.';
comment on function private.attach_replies(uuid[]) is
    'Links replies, which are locked, to the messages that they answer, if those have arrived.';


/*
    A person's choice on WhatsApp to take marketing messages or not (stop, resume, or signing up by
    a link). The latest choice counts, by the provider's time. Only the person makes it, through
    WhatsApp: neither staff nor a profile in the portal can write it.
    (Source: developers.facebook.com, WhatsApp Business Platform, "user_preferences webhook
    reference".)
*/
create function private.apply_marketing_choices(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    claimed constant private.whatsapp_item[] := private.claim_whatsapp_senders(items);
    changed integer;
begin
    -- a person who got messages but never wrote
    perform private.name_whatsapp_senders(claimed, '{}');
    perform
    from public.contacts c
    where c.id in (select i.contact_id from unnest(claimed) i)
    order by c.id
    for no key update;

    update public.contacts c
    set marketing_stopped_at = case l.type when 'stop' then l.sent_at end,
        marketing_chosen_at = l.sent_at
    from (
        select distinct on (i.contact_id) i.contact_id, i.type, i.sent_at
        from unnest(claimed) i
        -- of two choices in the same second the stop counts
        order by i.contact_id, i.sent_at desc, i.type = 'stop' desc
    ) l
    where c.id = l.contact_id
      and (
          c.marketing_chosen_at is null
          or c.marketing_chosen_at < l.sent_at
          or c.marketing_chosen_at = l.sent_at
             and l.type = 'stop'
             and c.marketing_stopped_at is null
      );

    get diagnostics changed = row_count;
    return changed;
end
$$;


comment on function private.apply_marketing_choices(private.whatsapp_item[]) is
    'Notes on contacts whether they take marketing messages. Returns the number of new choices.';


/*
    Joins parts that arrive separately, in any order: a message and its statuses, replies and
    effects. The second part finds the first. Two parts that arrive at the same time must not miss
    each other. So a transaction with a part whose message is missing takes the number's lock alone
    and looks again; transactions with messages share that lock.
*/
create function private.whatsapp_number_lock(whatsapp_channel_id uuid)
    returns bigint
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return hashtextextended('whatsapp ' || whatsapp_channel_id, 0);
end
$$;


create function private.take_whatsapp_number(number bigint)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
/*
    A transaction that waits for a lock blocks all later ones, even those that could share the lock
    with its holders. If a holder waits for a locked conversation, the whole number would stall. So
    this function does not wait at first, and waits for a moment only at the end, so that it gets
    its turn on a busy number. While it holds the number, everybody else waits for it, so it must
    give up soon.
*/
begin
    for attempt in 1 .. 20 loop
        if pg_try_advisory_xact_lock(number) then
            perform set_config('lock_timeout', '100ms', true);
            return true;
        end if;
        perform pg_sleep(0.01);
    end loop;
    perform set_config('lock_timeout', '50ms', true);
    perform pg_advisory_xact_lock(number);
    perform set_config('lock_timeout', '100ms', true);
    return true;
end
$$;


create function private.whatsapp_numbers_of(items private.whatsapp_item[], numbers bigint[])
    returns bigint[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    /*
        A notice takes locks before the senders of the batch's messages are known, and these
        messages lock their senders. Two such batches would wait for each other. A person's
        identities are the same on all numbers of an account, so a notice locks all of them.
    */
    return array(
        select n
        from unnest(numbers) n
        union
        select private.whatsapp_number_lock(w.id)
        from public.whatsapp_channels w
        where w.account_id in (
            select i.account_id
            from unnest(items) i
            where i.kind = 'system'
        )
        order by 1
    );
end
$$;


create function private.settle_messages(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.show_message_statuses(message_ids);
    perform private.show_message_effects(message_ids);
    perform private.attach_replies(message_ids);
end
$$;


create function private.messages_to_settle(items private.whatsapp_item[])
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    channel_ids uuid[];
    provider_ids text[];
begin
    -- the messages of statuses and effects, and messages that something has waited for
    select array_agg(i.whatsapp_channel_id), array_agg(
        case when i.kind = 'effect' then i.reply_to else i.provider_id end
    )
    into channel_ids, provider_ids
    from unnest(items) i
    where i.kind in ('status', 'effect', 'echo', 'group', 'history')
       or exists (
           select
           from private.message_effects e
           where e.whatsapp_channel_id = i.whatsapp_channel_id
             and e.parent_provider_id = i.provider_id
       );
    return array(
        select k.message_id
        from unnest(private.known_messages(channel_ids, provider_ids)) as k (message_id)
        union
        select m.id
        from unnest(items) i
        join public.messages m
            on m.id = i.message_ref
           and m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.sender_type <> 'client'
        union
        select p.message_id
        from unnest(items) i
        join private.parked_replies p
            on p.whatsapp_channel_id = i.whatsapp_channel_id
           and p.parent_provider_id = i.provider_id
        union
        -- and replies whose answered message is not known yet
        select m.id
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        where i.reply_to is not null
          and i.kind <> 'effect'
          and m.reply_to is null
    );
end
$$;


create function private.settle_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
begin
    -- the common case: a message for which nothing has waited
    perform
    from unnest(items) i
    left join lateral (
        select true as is_there
        from private.message_effects e
        where e.whatsapp_channel_id = i.whatsapp_channel_id
          and e.parent_provider_id = i.provider_id
        limit 1
    ) effect on true
    left join lateral (
        select true as is_there
        from private.parked_replies p
        where p.whatsapp_channel_id = i.whatsapp_channel_id
          and p.parent_provider_id = i.provider_id
        limit 1
    ) reply on true
    where i.kind in ('status', 'effect', 'echo', 'group', 'history')
       or i.reply_to is not null
       or effect.is_there
       or reply.is_there
    limit 1;
    if not found then
        return 0;
    end if;

    message_ids := array_remove(private.messages_to_settle(items), null);
    if message_ids = '{}' then
        return 0;
    end if;
    -- All at once: a second round would lock out of order.
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    perform private.park_replies(items);
    perform private.attach_named_messages(items);
    perform private.settle_messages(message_ids);
    return cardinality(message_ids);
end
$$;


create function private.settle_message_statuses(whatsapp_channel_ids uuid[], provider_ids text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids constant uuid[] := array(
        select message.id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        cross join lateral private.message_by_provider_id(
            whatsapp_channel_id => k.whatsapp_channel_id, provider_id => k.provider_id
        ) as message (id)
        where message.id is not null
        union
        select p.message_id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        join private.parked_replies p
            on p.whatsapp_channel_id = k.whatsapp_channel_id
           and p.parent_provider_id = k.provider_id
    );
begin
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;
    perform private.settle_messages(message_ids);
end
$$;


comment on function private.whatsapp_number_lock(uuid) is
    'The advisory lock of our number. Batches that bring messages share it; batches that miss a message, or bring notices, hold it alone.';
comment on function private.take_whatsapp_number(bigint) is
    'Takes a number''s lock alone, without stalling the transactions that share it. Raises lock_not_available (55P03) after a quarter of a second.';
comment on function private.whatsapp_numbers_of(private.whatsapp_item[], bigint[]) is
    'The locks of a batch''s numbers, and of the other numbers of accounts with notices, in order.';
comment on function private.settle_messages(uuid[]) is
    'Shows on messages, which are locked, everything that is known of them.';
comment on function private.messages_to_settle(private.whatsapp_item[]) is
    'The messages that a batch has news about, or that something has waited for.';
comment on function private.settle_whatsapp_items(private.whatsapp_item[]) is
    'Joins messages with their statuses, effects and replies, once a batch is kept. Returns the number of messages.';
comment on function private.settle_message_statuses(uuid[], text[]) is
    'The same for messages whose ids at WhatsApp have become known.';


/*
    A number that is also used in the phone app (coexistence) brings old data: the history of its
    chats, and its phone book. Nothing of it is new to anybody. Nothing becomes unread, no window
    opens, and clients get one resync for each webhook.

    - A message of the history goes into the person's conversation, or into a closed one. It is
      stored once, however often it is delivered, and not if it also came as a message. Files come
      twice: first as media_placeholder, and later, for the last days, with their ids.
    - An entry of the phone book is the business's own word: it proves the number, as staff do, and
      it names the contact if nobody else has.
    (Source: developers.facebook.com, WhatsApp Business Platform, "history webhook reference",
    "smb_app_state_sync webhook reference".)
*/
create table private.phone_book (
    -- no foreign key: all entries of a number would queue for one row
    whatsapp_channel_id uuid not null,
    -- the match_key of the entry's number
    phone_key           text not null,
    -- null once the entry was removed
    name                text,
    is_removed          boolean not null,
    -- the provider's time of the entry's latest change
    at                  timestamptz not null,

    primary key (whatsapp_channel_id, phone_key)
);
alter table private.phone_book enable row level security;


create function private.claim_book_numbers(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
declare
    claimed private.whatsapp_item[];
begin
    -- A phone book has people's spelling of a number; messages bring WhatsApp's.
    insert into public.contact_identities (account_id, kind, value, contact_id)
    select distinct on (i.account_id, i.identity_key)
        i.account_id, 'phone', '+' || i.wa_id, gen_random_uuid()
    from unnest(items) i
    where i.type = 'add'
    order by i.account_id, i.identity_key, i.sent_at desc, i.index
    on conflict (account_id, kind, match_key) do nothing;

    perform
    from public.contact_identities o
    join unnest(items) i
        on o.account_id = i.account_id
       and o.kind = 'phone'
       and o.match_key = i.identity_key
    order by o.account_id, o.kind, o.match_key
    for no key update of o;

    claimed := array(
        select jsonb_populate_record(i, jsonb_build_object('contact_id', o.contact_id))
        from unnest(items) i
        left join public.contact_identities o
            on o.account_id = i.account_id
           and o.kind = 'phone'
           and o.match_key = i.identity_key
        order by i.index
    );
    return claimed;
end
$$;


create function private.apply_phone_book(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    claimed constant private.whatsapp_item[] := private.claim_book_numbers(items);
    entry record;
    changed integer := 0;
begin
    -- contacts are made with the number, and named below
    perform private.name_whatsapp_senders(array(
        select i
        from unnest(claimed) i
        where i.contact_id is not null
    ), '{}');
    perform
    from public.contacts c
    where c.id in (select i.contact_id from unnest(claimed) i)
    order by c.id
    for no key update;

    for entry in
        select distinct on (i.whatsapp_channel_id, i.identity_key)
            i.whatsapp_channel_id,
            i.identity_key,
            i.contact_id,
            case i.type when 'add' then i.text end as name,
            i.type <> 'add' as is_removed,
            i.sent_at,
            b.name as former_name
        from unnest(claimed) i
        left join private.phone_book b
            on b.whatsapp_channel_id = i.whatsapp_channel_id
           and b.phone_key = i.identity_key
        where b.at is null
           or (b.at, b.is_removed, coalesce(b.name, ''))
              < (i.sent_at, i.type <> 'add', case i.type when 'add' then coalesce(i.text, '') else '' end)
        order by
            i.whatsapp_channel_id, i.identity_key, i.sent_at desc, i.type <> 'add' desc, i.text desc
    loop
        insert into private.phone_book as b (
            whatsapp_channel_id, phone_key, name, is_removed, at
        )
        values (
            entry.whatsapp_channel_id,
            entry.identity_key,
            coalesce(entry.name, entry.former_name),
            entry.is_removed,
            entry.sent_at
        )
        on conflict (whatsapp_channel_id, phone_key) do update
            set name = excluded.name,
                is_removed = excluded.is_removed,
                at = excluded.at;
        -- Removing an entry removes no name: staff still know the contact.
        if entry.name is not null then
            update public.contacts c
            set name = entry.name
            where c.id = entry.contact_id
              and c.deleted_at is null
              -- no name, or still the name from the phone book
              and (c.name is null or c.name = entry.former_name)
              and c.name is distinct from entry.name;
        end if;
        changed := changed + 1;
    end loop;
    return changed;
end
$$;


create function private.keep_history_statuses(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- The history gives no time for a status, so statuses from other webhooks come first: they are
    -- exact.
    insert into private.message_statuses (whatsapp_channel_id, provider_id, status, at)
    select distinct on (i.whatsapp_channel_id, i.provider_id, i.status)
        i.whatsapp_channel_id, i.provider_id, i.status, i.sent_at
    from unnest(items) i
    where i.status is not null
      and i.sender_type = 'operator'
    order by i.whatsapp_channel_id, i.provider_id, i.status, i.sent_at
    on conflict do nothing;
end
$$;


create function private.complete_history(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    completed uuid[];
begin
    with known as materialized (
        select m.id, i.type, i.text, i.content
        from public.messages m
        join unnest(items) i
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        where m.is_history
          and m.type = 'media_placeholder'
          and m.revoked_at is null
          and i.type <> 'media_placeholder'
        order by m.id
        for no key update of m
    ),
    written as (
        update public.messages m
        set type = k.type,
            message = k.text,
            content = k.content
        from known k
        where m.id = k.id
        returning m.id
    )
    select array_agg(w.id)
    into completed
    from written w;

    if completed is null then
        return 0;
    end if;
    perform private.expect_media(array(
        select m.id
        from public.messages m
        where m.id = any (completed)
          and exists (select from private.media_types t where t.type = m.type)
          and not exists (select from public.message_media f where f.message_id = m.id)
    ));
    return cardinality(completed);
end
$$;


create function private.tell_at_once(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    told record;
begin
    -- all listeners read again, however much has changed
    for told in
        select t.topic, jsonb_agg(distinct l.table_name) as tables
        from private.changes l
        cross join lateral (
            values
                (private.account_topic(l.account_id)),
                (private.listened_topic(l.customer_id)),
                (private.conversation_topic(l.conversation_id, l.account_id, l.customer_id))
        ) as t (topic)
        where l.account_id in (select i.account_id from unnest(items) i)
          and l.xid = pg_current_xact_id()
          and t.topic is not null
        group by t.topic
    loop
        perform private.broadcast_to(
            topics => array[told.topic],
            event => 'resync',
            payload => jsonb_build_object('tables', told.tables)
        );
    end loop;
    perform set_config('rapport.broadcast_later', 'off', true);
end
$$;


comment on table private.phone_book is
    'The phone app''s phone book, as WhatsApp reported it.';
comment on function private.claim_book_numbers(private.whatsapp_item[]) is
    'Finds or claims the contacts of added entries, and locks their identities.';
comment on function private.apply_phone_book(private.whatsapp_item[]) is
    'Makes and names contacts from phone book entries. Returns the number of new entries.';
comment on function private.keep_history_statuses(private.whatsapp_item[]) is
    'Keeps the history''s statuses of our messages, where no better ones are known.';
comment on function private.complete_history(private.whatsapp_item[]) is
    'Replaces placeholders with their files and has the files fetched. Returns the number of files.';
comment on function private.tell_at_once(private.whatsapp_item[]) is
    'Broadcasts all that this transaction has changed in the items'' accounts, as one resync for each topic, if broadcasts were deferred.';


/*
    Finds the updates of a webhook that can't be read or applied, and why. They block no others.
*/
create function private.readable_whatsapp_items(
    items jsonb,
    came_at timestamptz,
    out readable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Reads each update alone, if reading them as a set fails.
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
            read := private.read_whatsapp_items(
                jsonb_build_array(item.value), came_at);
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


create function private.refusal_of(items private.whatsapp_item[])
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.apply_whatsapp_items(items, false);
    raise sqlstate 'RP001';
exception
    when sqlstate 'RP001' then
        return null;
    when serialization_failure or deadlock_detected or lock_not_available then
        raise;
    when others then
        return private.refusal(items[1].index, sqlstate, sqlerrm);
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
    If applying the set fails, tries parts and undoes them. Of a part that fails too, it tries each
    update alone. The good updates must then be applied as one set: in parts, locks would be taken
    out of order.
*/
declare
    size constant integer := 32;
    part private.whatsapp_item[];
    item private.whatsapp_item;
    reason jsonb;
begin
    applicable := '{}';
    refused := '[]';
    for place in 1 .. cardinality(items) by size loop
        part := items[place : place + size - 1];
        if private.refusal_of(part) is null then
            applicable := applicable || part;
            continue;
        end if;

        foreach item in array part loop
            reason := private.refusal_of(array[item]);
            if reason is null then
                applicable := applicable || item;
            else
                refused := refused || reason;
            end if;
        end loop;
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
                'reason', coalesce(
                    i.value ->> 'reason',
                    case i.value ->> 'kind' when 'account_event' then 'unknown_account' end,
                    'unknown_phone_number_id'
                ),
                'detail', i.value ->> 'detail')
            order by i.ordinal),
        '[]')
    from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    where case i.value ->> 'kind'
            when 'skipped' then true
            when 'erased' then false
            when 'account_event' then private.account_of_event(i.value) is null
            else not exists (
                select
                from public.whatsapp_channels w
                where w.phone_number_id = i.value ->> 'phone_number_id'
            )
        end
$$;


comment on function private.readable_whatsapp_items(jsonb, timestamptz) is
    'The updates that can be read, and why the others can''t.';
comment on function private.refusal_of(private.whatsapp_item[]) is
    'Why a set can''t be applied; null where it can. The trial is undone.';
comment on function private.applicable_whatsapp_items(private.whatsapp_item[]) is
    'The updates that can be applied, and why the others can''t.';
comment on function private.refusal(bigint, text, text) is
    'The reason of a refusal: {index, reason, detail}. The detail begins with the SQLSTATE.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';


/*
    Messages of erased persons. WhatsApp may bring one again in other bytes than before, or tell its
    status late: that would bring the person back. So a hash of each message's id is kept, for as
    long as raw webhooks are, and nothing else.
*/
create table private.erased_messages (
    -- no foreign key: a number that is taken away has no updates
    whatsapp_channel_id uuid not null,
    message_hash        bytea not null,
    erased_at           timestamptz not null default now(),

    primary key (whatsapp_channel_id, message_hash)
);
alter table private.erased_messages enable row level security;


-- deleted in this order
create index erased_messages_erased_at_idx
    on private.erased_messages (erased_at);


create function private.message_hash(provider_id text)
    returns bytea
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- no salt: the ids are random
    return sha256(convert_to(provider_id, 'UTF8'));
end
$$;


/*
    A part of a webhook without a number's updates, and without the people that only they were about.
    A history has its updates in lists of lists.
*/
create function private.without_updates(value jsonb, phone_number_id text, provider_ids text[])
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    rest jsonb;
begin
    if jsonb_typeof(value) = 'array' then
        return (
            select coalesce(
                jsonb_agg(
                    private.without_updates(
                        value => e.value,
                        phone_number_id => phone_number_id,
                        provider_ids => provider_ids)
                    order by e.place
                ),
                '[]'
            )
            from jsonb_array_elements(value) with ordinality as e (value, place)
            where not coalesce(e.value ->> 'id' = any (provider_ids), false)
        );
    elsif jsonb_typeof(value) <> 'object'
        -- another number's
        or value #>> '{metadata,phone_number_id}' <> phone_number_id then
        return value;
    end if;
    rest := (
        select coalesce(
            jsonb_object_agg(
                f.key,
                private.without_updates(
                    value => f.value,
                    phone_number_id => phone_number_id,
                    provider_ids => provider_ids)),
            '{}'
        )
        from jsonb_each(value) f
    );
    if rest <> value and jsonb_typeof(rest -> 'contacts') = 'array' then
        rest := jsonb_set(rest, '{contacts}', (
            select coalesce(jsonb_agg(c), '[]')
            from jsonb_array_elements(rest -> 'contacts') c
            where exists (
                select
                from jsonb_path_query(rest, 'lax $.*[*]') u
                where u <> c
                  and private.names_one(
                      u, array_remove(array[c ->> 'wa_id', c ->> 'user_id'], null))
            )
        ));
    end if;
    return rest;
end
$$;


create function private.without_erased(
    inout body text,
    inout items jsonb,
    out erased integer
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    places bigint[];
    whole constant jsonb := items;
    number record;
    rest jsonb;
begin
    erased := 0;
    -- most systems have erased nobody
    if not exists (select from private.erased_messages) then
        return;
    end if;

    select array_agg(e.place)
    into places
    from jsonb_array_elements(items) with ordinality as e (value, place)
    join public.whatsapp_channels w
        on w.phone_number_id = e.value ->> 'phone_number_id'
    where exists (
        select
        from private.erased_messages d
        where d.whatsapp_channel_id = w.id
          and d.message_hash in (
              private.message_hash(e.value ->> 'provider_id'),
              -- a reaction, or a change of the message
              case e.value ->> 'kind' when 'effect'
                  then private.message_hash(e.value ->> 'reply_to')
              end
          )
    );
    if places is null then
        return;
    end if;

    erased := cardinality(places);
    select jsonb_agg(
        case when e.place = any (places)
            then jsonb_build_object('kind', 'erased')
            else e.value
        end
        order by e.place
    )
    into items
    from jsonb_array_elements(items) with ordinality as e (value, place);

    rest := private.webhook_json(body);
    for number in
        select
            e.value ->> 'phone_number_id' as phone_number_id,
            array_agg(e.value ->> 'provider_id') as provider_ids
        from jsonb_array_elements(whole) with ordinality as e (value, place)
        where e.place = any (places)
        group by 1
    loop
        rest := private.without_updates(
            value => rest,
            phone_number_id => number.phone_number_id,
            provider_ids => number.provider_ids);
    end loop;
    -- a body that can't be read can't be cut either
    body := coalesce(rest, '{}')::text;
end
$$;


create function private.prune_erased_messages(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    deleted integer;
begin
    with old as (
        select d.whatsapp_channel_id, d.message_hash
        from private.erased_messages d
        cross join private.retention r
        where d.erased_at < now() - r.webhook_events
        order by d.erased_at
        limit batch
        -- another run may be deleting them
        for update of d skip locked
    )
    delete from private.erased_messages d
    using old o
    where d.whatsapp_channel_id = o.whatsapp_channel_id
      and d.message_hash = o.message_hash;
    get diagnostics deleted = row_count;
    return deleted;
end
$$;


comment on table private.erased_messages is
    'Hashes of the ids of erased persons'' messages, so that their updates are not applied when they come again.';
comment on function private.message_hash(text) is
    'The hash of WhatsApp''s id of a message.';
comment on function private.without_updates(jsonb, text, text[]) is
    'A raw webhook without these updates of a number, and without the people that only they were about.';
comment on function private.without_erased(text, jsonb) is
    'A webhook without the updates of erased persons'' messages, whose items become {kind: erased}, and their number.';
comment on function private.prune_erased_messages(integer) is
    'Deletes at most batch hashes that are older than the retention of raw webhooks; returns their number.';


/*
    A WhatsApp webhook: one event, one transaction, one call. First the raw body is kept. Then its
    updates are applied as sets, in the lock order. If a set fails, the bad updates are found, and
    the good ones are applied as a set again.
*/
create function private.apply_whatsapp_items(
    items private.whatsapp_item[],
    may_continue boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    whatsapp_channel_id uuid;
    number bigint;
    numbers bigint[] := '{}';
    parent text;
    parents text[] := '{}';
    parent_channels uuid[] := '{}';
    alone boolean := false;
    has_news boolean := false;
    has_people boolean := false;
    has_threads boolean := false;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
    is_locked boolean;
    settled integer;
begin
    -- a loop of expressions is cheaper than starting a statement
    foreach item in array items loop
        if item.whatsapp_channel_id is distinct from whatsapp_channel_id then
            whatsapp_channel_id := item.whatsapp_channel_id;
            number := private.whatsapp_number_lock(whatsapp_channel_id);
            if number <> all (numbers) then
                numbers := numbers || number;
            end if;
        end if;
        parent := case
            -- a notice that is not known yet takes the lock alone too, see whatsapp_numbers_of
            when item.kind in ('status', 'system') then item.provider_id
            else item.reply_to
        end;
        if parent is not null then
            parents := parents || parent;
            parent_channels := parent_channels || whatsapp_channel_id;
        end if;
        if item.kind not in ('message', 'echo', 'system') then
            has_news := true;
            has_people := has_people or item.kind in ('marketing_choice', 'phone_book', 'history');
            has_threads := has_threads or item.kind in ('call', 'group', 'group_event', 'history');
        end if;
    end loop;
    if parents <> '{}' then
        alone := array_position(private.known_messages(parent_channels, parents), null) is not null;
    end if;

    -- this lock comes before all others; everybody takes those under it, in one order
    if alone then
        numbers := private.whatsapp_numbers_of(items, numbers);
    elsif cardinality(numbers) > 1 then
        numbers := array(select n from unnest(numbers) n order by n);
    end if;
    foreach number in array numbers loop
        -- here and elsewhere: an assignment calls a function, perform runs a statement for it
        if alone then
            is_locked := private.take_whatsapp_number(number);
        else
            is_locked := pg_advisory_xact_lock_shared(number) is not null;
        end if;
    end loop;

    if has_news then
        applied := private.keep_whatsapp_news(items);
        if has_people then
            applied := applied + private.apply_whatsapp_people(items);
        end if;
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system', 'history')
        );
    end if;
    if cardinality(messages) > 0 then
        applied := applied
            + private.apply_whatsapp_messages(messages, may_continue, settles => not has_news);
    end if;
    if has_news then
        if has_threads then
            applied := applied + private.apply_whatsapp_threads(items);
        end if;
        -- this locks messages, so it comes once, after all locks of conversations
        settled := private.settle_whatsapp_items(items);
        if current_setting('rapport.broadcast_later', true) = 'on' then
            perform private.tell_at_once(items);
        end if;
    end if;
    return applied;
end
$$;


create function private.keep_whatsapp_news(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    statuses private.whatsapp_item[];
    effects private.whatsapp_item[];
    events private.whatsapp_item[];
begin
    if not exists (
        select
        from unnest(items) i
        where i.kind in ('status', 'effect', 'account_event')
    ) then
        return 0;
    end if;
    select
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'status'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'effect'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'account_event')
    into statuses, effects, events
    from unnest(items) i;

    return private.keep_whatsapp_statuses(statuses)
        + private.keep_whatsapp_effects(effects)
        + private.keep_account_events(events);
end
$$;


/*
    Rare updates must not slow messages down. They have functions of their own, called only where a
    batch has such updates.
*/
create function private.apply_whatsapp_people(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    choices private.whatsapp_item[];
    entries private.whatsapp_item[];
    past private.whatsapp_item[];
    applied integer := 0;
begin
    select
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'marketing_choice'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'phone_book'),
        array_agg(i::private.whatsapp_item) filter (where i.kind = 'history')
    into choices, entries, past
    from unnest(items) i;

    if num_nonnulls(entries, past) > 0 then
        -- hundreds at once, and none is new to anybody: one broadcast at the end
        perform set_config('rapport.broadcast_later', 'on', true);
    end if;
    if choices is not null then
        applied := applied + private.apply_marketing_choices(choices);
    end if;
    if entries is not null then
        applied := applied + private.apply_phone_book(entries);
    end if;
    if past is not null then
        perform private.keep_history_statuses(past);
    end if;
    return applied;
end
$$;


create function private.apply_whatsapp_threads(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    calls private.whatsapp_item[];
    groups private.whatsapp_item[];
    past private.whatsapp_item[];
    applied integer := 0;
begin
    select
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'call'),
        array_agg(i::private.whatsapp_item order by i.index)
            filter (where i.kind in ('group', 'group_event')),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'history')
    into calls, groups, past
    from unnest(items) i;

    if calls is not null then
        applied := applied + private.apply_whatsapp_calls(calls);
    end if;
    if groups is not null then
        applied := applied + private.apply_whatsapp_groups(groups);
    end if;
    if past is not null then
        applied := applied + private.complete_history(past);
    end if;
    return applied;
end
$$;


create function private.try_whatsapp_items(
    items jsonb,
    came_at timestamptz,
    out applied integer,
    out duplicates integer,
    out rejections jsonb,
    out usable private.whatsapp_item[]
)
    language plpgsql
    set search_path = ''
as $$
declare
    refused jsonb;
    may_continue boolean := true;
begin
    rejections := '[]';
    -- one block for reading and applying, since each block is a subtransaction
    loop
        begin
            if usable is null then
                usable := private.read_whatsapp_items(items, came_at);
            end if;
            applied := private.apply_whatsapp_items(usable, may_continue);
            exit;
        exception
            -- the fast path failed; it is undone
            when sqlstate 'RP003' then
                may_continue := false;
            -- on contention the caller repeats the whole call
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                if usable is null then
                    select r.readable, r.refused
                    into usable, rejections
                    from private.readable_whatsapp_items(items, came_at) r;
                else
                    select a.applicable, a.refused
                    into usable, refused
                    from private.applicable_whatsapp_items(usable) a;
                    rejections := rejections || refused;
                    applied := private.apply_whatsapp_items(usable, false);
                    exit;
                end if;
        end;
    end loop;

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select coalesce(jsonb_agg(r.value order by r.value -> 'index'), '[]')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;


create function private.located_rejections(rejections jsonb, items jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if rejections = '[]' then
        return rejections;
    end if;
    return (
        select jsonb_agg(
            r.value || jsonb_strip_nulls(jsonb_build_object(
                'phone_number_id', items -> (r.value ->> 'index')::integer -> 'phone_number_id',
                'waba_id', items -> (r.value ->> 'index')::integer -> 'waba_id',
                'provider_id', items -> (r.value ->> 'index')::integer -> 'provider_id'
            ))
            order by r.ordinal
        )
        from jsonb_array_elements(rejections) with ordinality as r (value, ordinal)
    );
end
$$;


create function private.shown_rejections(rejections jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- The usual case. Where a query is part of an expression, it costs a statement.
    if rejections = '[]' then
        return rejections;
    end if;
    return (
        select jsonb_agg(r.value - array['detail', 'provider_id'])
        from jsonb_array_elements(rejections) r
    );
end
$$;


create function backend.ingest_whatsapp(body text, items jsonb)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- Rows are looked up by key, a few at a time. One plan serves all calls; a plan made while the
    -- tables were empty would not.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the planner's penalty for disabled scans must not look like work worth compiling
    set jit = off
    -- a waiting webhook holds a connection that other tenants need: it gives up and comes again
    set lock_timeout = '250ms'
as $$
declare
    event_id bigint;
    came_at timestamptz := now();
    is_cut boolean := false;
    kept record;
    tried record;
    rejected jsonb := '[]';
begin
    kept := private.without_erased(body => body, items => items);
    -- A second delivery of the same body is rare, so it has a statement of its own.
    insert into private.webhook_events (provider, body, body_sha256, is_cut)
    values (
        'whatsapp', kept.body, sha256(convert_to(ingest_whatsapp.body, 'UTF8')), kept.erased > 0)
    on conflict (provider, body_sha256) do nothing
    returning id into event_id;
    if event_id is null then
        update private.webhook_events e
        set deliveries = e.deliveries + 1,
            last_received_at = now()
        where e.provider = 'whatsapp'
          and e.body_sha256 = sha256(convert_to(ingest_whatsapp.body, 'UTF8'))
        returning e.id, e.received_at, e.is_cut into event_id, came_at, is_cut;
    end if;
    if event_id is null then
        -- pruned in between
        raise sqlstate '40001' using
            message = 'The event was deleted while it was delivered again.',
            hint = 'Try again.';
    elsif is_cut then
        -- a person was erased since: the updates would bring that person back
        return jsonb_build_object(
            'event_id', event_id,
            'applied', 0,
            'duplicates', jsonb_array_length(items),
            'rejected', '[]'::jsonb
        );
    end if;

    tried := private.try_whatsapp_items(kept.items, came_at);

    if tried.rejections <> '[]' then
        tried.rejections := private.located_rejections(tried.rejections, kept.items);
        rejected := private.shown_rejections(tried.rejections);
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates + kept.erased,
        'rejected', rejected
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[], boolean) is
    'Applies updates as sets. Returns the number of new ones. With the fast path, for open threads only, it raises RP003 where that does not work for all.';
comment on function private.apply_whatsapp_people(private.whatsapp_item[]) is
    'Applies updates about people: marketing choices, the phone book, and the history''s statuses of our messages. Returns the number of new ones.';
comment on function private.apply_whatsapp_threads(private.whatsapp_item[]) is
    'Applies calls, groups, and files of the phone app''s history. Returns the number of new ones.';
comment on function private.keep_whatsapp_news(private.whatsapp_item[]) is
    'Keeps updates that are not messages: statuses, effects, events. Returns the number of new ones.';
comment on function private.try_whatsapp_items(jsonb, timestamptz) is
    'Applies the updates of a call as far as possible: the numbers of new and known ones, the updates left out and why, and the updates that were new.';
comment on function private.located_rejections(jsonb, jsonb) is
    'The rejections of a call''s items with their phone_number_id, waba_id and provider_id, where the items give these.';
comment on function private.shown_rejections(jsonb) is
    'Rejections as the caller is told them: without their details, which may hold a customer''s data, and without WhatsApp''s ids.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason, phone_number_id, waba_id}]}. Repeating it changes nothing.';


/*
    Reads stored webhooks again with a better parser. Updates that it could not read before are
    applied now, and existing messages are shown as it reads them. Repeating a replay changes
    nothing.
*/
create function backend.span_of_webhook_events(since timestamptz, until timestamptz)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('events', count(*), 'first_id', min(e.id), 'last_id', max(e.id))
        from private.webhook_events e
        where e.received_at >= since
          and (until is null or e.received_at < until)
    );
end
$$;

grant execute on function backend.span_of_webhook_events(timestamptz, timestamptz) to service_role;


create function backend.read_webhook_events(
    after_id bigint,
    since timestamptz,
    until timestamptz,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    if page_size not between 1 and 1000 then
        raise sqlstate 'PT422' using
            message = 'A page has 1 to 1,000 events.',
            detail = 'field: page_size';
    end if;

    return (
        with page as (
            select e.id, e.body
            from private.webhook_events e
            where e.id > after_id
              and e.received_at >= since
              and (until is null or e.received_at < until)
            order by e.id
            limit page_size
        ),
        sized as (
            select p.*, sum(octet_length(p.body)) over (order by p.id) as bytes
            from page p
        )
        select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'body', s.body) order by s.id), '[]')
        from sized s
        -- A page of the largest bodies would be too much for the caller. At least one event is
        -- returned.
        where s.bytes <= 4 * 1024 * 1024
           or s.bytes = octet_length(s.body)
    );
end
$$;

grant execute on function backend.read_webhook_events(bigint, timestamptz, timestamptz, integer)
    to service_role;


create function private.correct_whatsapp_messages(
    items private.whatsapp_item[],
    received_at timestamptz
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Only a webhook that existed when a message was made may change the message. A later webhook
    repeats it, perhaps in other words. Two that contradict each other would rewrite the message in
    each replay.
*/
declare
    wrong private.whatsapp_item[];
    ids uuid[];
    corrected integer;
begin
    select array_agg(d.item order by d.id), array_agg(d.id order by d.id)
    into wrong, ids
    from (
        -- the webhook's first item about the message, as in the first application
        select distinct on (k.id) k.id, i::private.whatsapp_item as item
        from unnest(items) i
        cross join lateral (
            select m.id, m.type, m.message, m.content
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
              and (
                  m.sender_type = 'client' and i.kind in ('message', 'system', 'group')
                  or m.sender_type = 'system' and i.kind = 'system'
                  -- from the phone app: a message written here names its operator
                  or m.sender_type = 'operator' and i.kind = 'echo' and m.sender_id is null
              )
              and m.created_at >= correct_whatsapp_messages.received_at
              -- otherwise it would bring back text that was edited or deleted
              and m.edited_at is null
              and m.revoked_at is null
            limit 1
        ) k
        order by k.id, i.index
    ) d
    join public.messages m
        on m.id = d.id
    where (m.type, m.message, m.content)
        is distinct from ((d.item).type, (d.item).text, (d.item).content);

    -- an update of no row would still run the table's triggers
    if ids is null then
        return 0;
    end if;

    perform
    from public.messages m
    where m.id = any (ids)
    order by m.id
    for no key update;

    update public.messages m
    set type = w.type,
        message = w.text,
        content = w.content
    from unnest(ids) with ordinality as n (id, place)
    cross join lateral (select (wrong[n.place]).*) w
    where m.id = n.id;

    get diagnostics corrected = row_count;

    -- a file that the earlier parser did not see
    perform private.expect_media(array(
        select m.id
        from public.messages m
        where m.id = any (ids)
          and exists (select from private.media_types t where t.type = m.type)
          and not exists (select from public.message_media f where f.message_id = m.id)
    ));
    return corrected;
end
$$;


create function backend.replay_webhook(event_id bigint, items jsonb, dry_run boolean default false)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
    -- as in ingest_whatsapp
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
    set lock_timeout = '250ms'
as $$
declare
    received_at timestamptz;
    tried record;
    corrected integer;
begin
    -- another delivery of the same body waits
    select e.received_at
    into received_at
    from private.webhook_events e
    where e.id = event_id
      and e.provider = 'whatsapp'
    for no key update;

    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such webhook.',
            detail = 'field: event_id',
            hint = 'Raw events are deleted after a while. Read the list of events again.';
    end if;

    begin
        tried := private.try_whatsapp_items(items, received_at);
        tried.rejections := private.located_rejections(tried.rejections, items);
        corrected := private.correct_whatsapp_messages(tried.usable, received_at);

        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;

        if dry_run then
            raise sqlstate 'RP002';
        end if;
    exception
        -- the changes have been made, and are undone
        when sqlstate 'RP002' then
            null;
    end;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'corrected', corrected,
        'rejected', private.shown_rejections(tried.rejections)
    );
end
$$;

grant execute on function backend.replay_webhook(bigint, jsonb, boolean) to service_role;


comment on function backend.span_of_webhook_events(timestamptz, timestamptz) is
    'The number of raw events in a span of time, and their ids: {events, first_id, last_id}.';
comment on function backend.read_webhook_events(bigint, timestamptz, timestamptz, integer) is
    'The raw events of a span of time after an id, in the order of id: [{id, body}]. Fewer than asked for if they are large; none at the end.';
comment on function private.correct_whatsapp_messages(private.whatsapp_item[], timestamptz) is
    'Shows messages as the updates of their webhook say, and has newly found files fetched. Returns the number of changed messages.';
comment on function backend.replay_webhook(bigint, jsonb, boolean) is
    'Applies the items of a stored webhook again: {event_id, applied, duplicates, corrected, rejected: [{index, reason, phone_number_id, waba_id}]}. Repeating it changes nothing. With dry_run it only says what would change.';


/*
    Webhooks that could not be applied, for the people who can act: an owner learns here that a
    number is not registered. A webhook belongs to the account of its number, if that is registered.
    Otherwise it belongs to the account that names its WhatsApp Business account; if none or several
    of ours name that one, nobody sees the webhook.
*/
create index webhook_events_rejected_idx
    on private.webhook_events (id)
    where rejected <> '[]';


create function private.rejection_remedy(reason text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case reason
        when 'unknown_phone_number_id' then
            'The number is not registered: insert it into whatsapp_channels. Its webhooks are kept for 90 days, and rapport replay applies them.'
        when 'unknown_account' then
            'Name the WhatsApp Business account (whatsapp_channels.waba_id) in one account only, then run rapport replay.'
        when 'unhandled_field' then
            'This kind of webhook is not understood yet. Unsubscribe from it, or run rapport replay after an update.'
        else
            'This webhook was not understood. It is kept for 90 days: run rapport replay after an update.'
    end;
end
$$;


create view private.rejected_webhooks
    with (security_invoker = true)
as
select
    owner.account_id,
    i.waba_id,
    i.phone_number_id,
    i.reason,
    private.rejection_remedy(i.reason) as remedy,
    count(distinct e.id) as webhooks,
    count(*) as updates,
    min(e.received_at) as first_received_at,
    max(e.last_received_at) as last_received_at
from private.webhook_events e
cross join lateral jsonb_array_elements(e.rejected) as r (value)
-- what comes from outside may have any length
cross join lateral (
    select
        left(r.value ->> 'waba_id', 64) as waba_id,
        left(r.value ->> 'phone_number_id', 64) as phone_number_id,
        left(r.value ->> 'reason', 64) as reason
) i
left join public.whatsapp_channels number
    on number.phone_number_id = i.phone_number_id
left join (
    select w.waba_id, (array_agg(w.account_id))[1] as account_id
    from public.whatsapp_channels w
    where w.waba_id is not null
    group by w.waba_id
    -- if several accounts name it, its owner is not known
    having count(distinct w.account_id) = 1
) named
    on named.waba_id = i.waba_id
-- a registered number has one account, so it comes first
cross join lateral (select coalesce(number.account_id, named.account_id) as account_id) owner
where e.rejected <> '[]'
  and owner.account_id is not null
group by owner.account_id, i.waba_id, i.phone_number_id, i.reason;


create function private.my_rejected_webhooks(is_counted boolean default private.check_plan())
    returns setof private.rejected_webhooks
    language plpgsql
    stable
    -- definer: raw webhooks hold the data of all tenants. This shows ids and counts only, and only
    -- for the caller's own WhatsApp Business account.
    security definer
    set search_path = ''
as $$
begin
    return query
    select w.*
    from private.rejected_webhooks w
    where w.account_id = any (array(select private.my_admin_account_ids()));
end
$$;

grant execute on function private.my_rejected_webhooks(boolean) to authenticated;


create view public.rejected_webhooks
    with (security_invoker = true)
as
select
    w.account_id,
    w.waba_id,
    w.phone_number_id,
    w.reason,
    w.remedy,
    w.webhooks,
    w.updates,
    w.first_received_at,
    w.last_received_at
from private.my_rejected_webhooks() w;

grant select on public.rejected_webhooks to authenticated;


comment on function private.rejection_remedy(text) is
    'The remedy for an update that could not be applied, in a sentence.';
comment on view private.rejected_webhooks is
    'See public.rejected_webhooks; for all accounts.';
comment on function private.my_rejected_webhooks(boolean) is
    'See public.rejected_webhooks. Callers leave its argument out, see check_plan.';
comment on view public.rejected_webhooks is
    'Webhooks of a WhatsApp Business account that could not be applied, by number and reason. For the owners and admins of the account of its number, or else of the only account that names it (whatsapp_channels.waba_id). A row disappears when rapport replay has applied its webhooks.';
comment on column public.rejected_webhooks.account_id is
    'The account of the number, or the one that names the WhatsApp Business account.';
comment on column public.rejected_webhooks.waba_id is
    'Meta''s id of the WhatsApp Business account that the webhooks are about; null where they name none.';
comment on column public.rejected_webhooks.phone_number_id is
    'The number, by WhatsApp''s id; null where the webhook names none.';
comment on column public.rejected_webhooks.reason is
    'Why they could not be applied: unknown_phone_number_id, unknown_account, unhandled_field or another reason.';
comment on column public.rejected_webhooks.remedy is
    'The remedy, in a sentence.';
comment on column public.rejected_webhooks.webhooks is
    'The number of webhooks with such updates.';
comment on column public.rejected_webhooks.updates is
    'The number of such updates: messages, statuses and so on.';
comment on column public.rejected_webhooks.first_received_at is
    'When the first of them arrived (UTC).';
comment on column public.rejected_webhooks.last_received_at is
    'When the last of them arrived, or arrived again (UTC).';


/*
    The customer's latest message, for read marks and typing signs at WhatsApp. (Source:
    developers.facebook.com, WhatsApp Cloud API, "Mark messages as read", "Typing indicators".)
*/
create function private.find_latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: tells a caller who may only read from one who may not see the conversation
    security definer
    set search_path = ''
as $$
declare
    thread record;
begin
    select
        k.account_id, k.whatsapp_channel_id, w.phone_number_id,
        num_nonnulls(w.paused_at, a.paused_at) > 0 as is_paused
    into thread
    from public.conversations k
    join public.accounts a
        on a.id = k.account_id
    left join public.whatsapp_channels w
        on w.id = k.whatsapp_channel_id
    where k.id = find_latest_inbound.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', find_latest_inbound.conversation_id);
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this conversation but not answer in it.',
            hint = 'Owners, admins and agents may.';
    elsif thread.whatsapp_channel_id is null then
        raise sqlstate 'PT422' using
            message = 'This conversation is not on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Name a conversation whose channel is whatsapp.';
    end if;

    return (
        select jsonb_build_object(
            'phone_number_id', thread.phone_number_id, 'provider_id', m.provider_id)
        from public.messages m
        where m.conversation_id = find_latest_inbound.conversation_id
          and m.sender_type = 'client'
          and m.provider_id is not null
          -- WhatsApp has no read marks for calls and groups
          and m.type <> 'call'
          and m.customer_id is not null
          -- read marks and typing signs go out, too
          and not thread.is_paused
        order by m.seq desc
        limit 1
    );
end
$$;

grant execute on function private.find_latest_inbound(uuid) to authenticated;


create function public.latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.find_latest_inbound(latest_inbound.conversation_id);
end
$$;

grant execute on function public.latest_inbound(uuid) to authenticated;


comment on function private.find_latest_inbound(uuid) is
    'See latest_inbound.';
comment on function public.latest_inbound(uuid) is
    'The customer''s latest message in a WhatsApp conversation, by WhatsApp''s ids. Null before the first message, for a group, and while the number or the account is paused. For members who may answer.'
    ' Type: {phone_number_id: text, provider_id: text} | null';


/*
    The meaning of WhatsApp's error codes for a message and for its number. The code decides, never
    the text. Codes below zero are our own: -1 nothing reached WhatsApp; -2 the message can't be
    sent (a failure with a sentence of its own); -3 no access token; -4 the file can't be read.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Error codes".)
*/
create table private.send_errors (
    code     integer primary key,
    -- retry: later, by itself; fail: never; stop: the number sends nothing until a person resumes
    -- it
    action   text not null
             constraint send_errors_action_check check (action in ('retry', 'fail', 'stop')),
    -- the first wait, and the factor by which each next one is longer
    wait     interval
             constraint send_errors_wait_check check ((action = 'retry') = (wait is not null)),
    factor   integer not null default 2,
    -- whether all messages from the number wait, not only this one
    holds    boolean not null default false
             constraint send_errors_holds_check check (action = 'retry' or not holds),
    -- the sentence that the operator reads
    sentence text not null,
    -- how long people can't send it again either: an earlier attempt would make it worse
    rest     interval
             constraint send_errors_rest_check check (action = 'fail' or rest is null)
);
alter table private.send_errors enable row level security;


insert into private.send_errors (code, action, wait, factor, holds, sentence)
values
    (-1, 'retry', '5 seconds', 2, false, 'WhatsApp can''t be reached at the moment.'),
    (-4, 'retry', '5 seconds', 2, false, 'The file of this message can''t be read at the moment.'),
    (1, 'retry', '5 seconds', 2, false, 'WhatsApp has an internal error at the moment.'),
    (2, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (4, 'retry', '30 seconds', 2, true, 'This app sends too many requests to WhatsApp.'),
    (80007, 'retry', '30 seconds', 2, true, 'This business sends too many requests to WhatsApp.'),
    (130429, 'retry', '2 seconds', 2, true, 'This number sends too many messages at once.'),
    -- 4 to the power of the attempt, in seconds
    (131056, 'retry', '4 seconds', 4, false, 'This number sends too many messages to this person in a short time.'),
    (131000, 'retry', '5 seconds', 2, false, 'WhatsApp could not send the message at the moment.'),
    (131016, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (131057, 'retry', '60 seconds', 2, true, 'The WhatsApp account is under maintenance.'),
    (133004, 'retry', '5 seconds', 2, true, 'WhatsApp is not available at the moment.'),
    (100, 'fail', null, 1, false, 'WhatsApp does not accept the content of this message.'),
    (130472, 'fail', null, 1, false, 'WhatsApp withholds marketing messages from this person.'),
    (131008, 'fail', null, 1, false, 'The message lacks a field that WhatsApp requires.'),
    (131009, 'fail', null, 1, false, 'WhatsApp does not accept a value in this message.'),
    (131021, 'fail', null, 1, false, 'A number can''t send a message to itself.'),
    (131026, 'fail', null, 1, false, 'The message can''t be delivered: the person may not be on WhatsApp.'),
    (131047, 'fail', null, 1, false, 'More than 24 hours have passed since the person last wrote: send a template.'),
    (131048, 'fail', null, 1, false, 'WhatsApp restricts this number, because too many people have reported it.'),
    (131050, 'fail', null, 1, false, 'This person has stopped marketing messages from you: send a utility template.'),
    (131051, 'fail', null, 1, false, 'WhatsApp does not know this type of message.'),
    (131052, 'fail', null, 1, false, 'WhatsApp could not download the file.'),
    (131053, 'fail', null, 1, false, 'WhatsApp does not accept the type or the size of the file.'),
    (131062, 'fail', null, 1, false, 'This person can''t be reached without a phone number.'),
    (132000, 'fail', null, 1, false, 'The message gives another number of variables than the template takes: see sendable_templates.'),
    (132001, 'fail', null, 1, false, 'There is no approved template with this name in this language.'),
    (132005, 'fail', null, 1, false, 'The template with its variables is too long.'),
    (132007, 'fail', null, 1, false, 'The template breaks a rule of WhatsApp.'),
    (132012, 'fail', null, 1, false, 'A variable of the template has the wrong format.'),
    (132015, 'fail', null, 1, false, 'WhatsApp has paused the template because of its low quality.'),
    (132016, 'fail', null, 1, false, 'WhatsApp has disabled the template because of its low quality.'),
    (-3, 'stop', null, 1, false, 'This number has no access token: set one.'),
    (0, 'stop', null, 1, false, 'WhatsApp does not accept the access token: renew it.'),
    (3, 'stop', null, 1, false, 'The access token may not send messages.'),
    (10, 'stop', null, 1, false, 'The access token may not send messages.'),
    (190, 'stop', null, 1, false, 'The access token has expired: renew it.'),
    (200, 'stop', null, 1, false, 'The access token may not send from this number.'),
    (368, 'stop', null, 1, false, 'WhatsApp has blocked the account because it broke a rule.'),
    (131005, 'stop', null, 1, false, 'The access token may not send messages.'),
    (131031, 'stop', null, 1, false, 'WhatsApp has locked the account.'),
    (131042, 'stop', null, 1, false, 'WhatsApp can''t charge the account: check its payment settings.'),
    (131045, 'stop', null, 1, false, 'The number must be registered with WhatsApp again.'),
    (133010, 'stop', null, 1, false, 'The number is not registered with WhatsApp.');

insert into private.send_errors (code, action, factor, sentence, rest)
values
    (131049, 'fail', 1, 'WhatsApp limits marketing messages to this person: try again tomorrow.', '24 hours');


comment on table private.send_errors is
    'The action that follows each error code of WhatsApp. A code that is not here fails the message.';


/*
    The pace of sending: to one person one message in 6 seconds, with bursts of 45; from one number
    80 messages a second, unless its row says otherwise. It is kept in the database, so that workers
    share it. A pace is one time: when all messages sent so far would have been due (the "generic
    cell rate algorithm"). (Source: developers.facebook.com, WhatsApp Cloud API, "Throughput" and
    "Pair rate limits".)
*/
create table private.send_paces (
    whatsapp_channel_id uuid not null
                        constraint send_paces_whatsapp_channel_id_fkey
                        references public.whatsapp_channels on delete cascade,
    -- the recipient; empty for the number itself
    recipient           text not null,
    due_at              timestamptz not null,

    primary key (whatsapp_channel_id, recipient)
);
alter table private.send_paces enable row level security;


create function private.take_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval,
    burst integer
)
    returns timestamptz
    language plpgsql
    set search_path = ''
as $$
begin
    -- checked and taken in one statement: two workers can't both take the last place
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    values (take_pace.whatsapp_channel_id, take_pace.recipient, clock_timestamp() + every)
    on conflict on constraint send_paces_pkey do update
        set due_at = greatest(p.due_at, clock_timestamp()) + every
        where p.due_at - every * (burst - 1) <= clock_timestamp();
    if found then
        return null;
    end if;
    return (
        select p.due_at - every * (burst - 1)
        from private.send_paces p
        where p.whatsapp_channel_id = take_pace.whatsapp_channel_id
          and p.recipient = take_pace.recipient
    );
end
$$;


create function private.give_back_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.send_paces p
    set due_at = p.due_at - every
    where p.whatsapp_channel_id = give_back_pace.whatsapp_channel_id
      and p.recipient = give_back_pace.recipient;
end
$$;


create function private.hold_number(whatsapp_channel_id uuid, until timestamptz)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- one message may go at that time, the others after it at the number's pace
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    select w.id, '', until + pace.every * (pace.burst - 1)
    from public.whatsapp_channels w
    cross join lateral private.number_pace(w.messages_per_second) pace
    where w.id = hold_number.whatsapp_channel_id
    on conflict on constraint send_paces_pkey do update
        set due_at = excluded.due_at
        where p.due_at < excluded.due_at;
end
$$;


comment on table private.send_paces is
    'How far ahead of its pace a number is, in total and for each person.';
comment on column private.send_paces.due_at is
    'When all messages sent so far would have been due.';
comment on function private.take_pace(uuid, text, interval, integer) is
    'Counts a message that may go now. If it may not go yet, counts nothing and returns the time from which it may.';
comment on function private.give_back_pace(uuid, text, interval) is
    'Takes back the count of a message that does not go after all.';
comment on function private.hold_number(uuid, timestamptz) is
    'Stops all messages of a number until that time.';


/*
    The messages to send: a row is a job. One worker leases it. Just before the call the job becomes
    "sending": from then on the call may have happened. If a lease ends in "sending", the outcome is
    unknown. Evidence settles it, never a second call.
*/
create table private.outbound_queue (
    message_id          uuid primary key
                        constraint outbound_queue_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    conversation_id     uuid not null,
    -- messages of a conversation go one after the other
    seq                 bigint not null,
    state               text not null default 'queued'
                        constraint outbound_queue_state_check
                        check (state in ('queued', 'leased', 'sending')),
    attempts            integer not null default 0,
    worker              text,
    leased_until        timestamptz,
    not_before          timestamptz not null default now(),

    constraint outbound_queue_lease_check
        check ((state = 'queued') = (leased_until is null) and (state = 'queued') = (worker is null))
);
alter table private.outbound_queue enable row level security;


create unique index outbound_queue_conversation_idx
    on private.outbound_queue (conversation_id, seq);

create index outbound_queue_due_idx
    on private.outbound_queue (whatsapp_channel_id, not_before)
    where state = 'queued';

create index outbound_queue_lease_idx
    on private.outbound_queue (leased_until)
    where state <> 'queued';


/*
    Every call that was made or may have been made. A row is written before its call.
*/
create table private.outbound_attempts (
    message_id          uuid not null
                        constraint outbound_attempts_message_id_fkey
                        references public.messages on delete cascade,
    attempt             integer not null,
    whatsapp_channel_id uuid not null,
    -- null while the call is running
    outcome             text
                        constraint outbound_attempts_outcome_check
                        check (outcome in ('accepted', 'refused', 'unknown')),
    -- WhatsApp's id, if WhatsApp took the message
    provider_id         text,
    error_code          integer,
    error_message       text,
    begun_at            timestamptz not null default clock_timestamp(),
    ended_at            timestamptz,

    primary key (message_id, attempt)
);
alter table private.outbound_attempts enable row level security;


create unique index outbound_attempts_provider_id_key
    on private.outbound_attempts (whatsapp_channel_id, provider_id)
    where provider_id is not null;


comment on table private.outbound_queue is
    'The messages to send by WhatsApp. The worker claims, begins and settles them.';
comment on column private.outbound_queue.state is
    'queued or claimed: the call has not begun; sending: the call may have been made.';
comment on table private.outbound_attempts is
    'Every call to WhatsApp for a message, with its outcome.';


/*
    The parts of the checks of a message's content. Each refuses a wrong field, and names its path
    below content.
*/
create function private.refuse_content(field text, message text, hint text default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = message,
        detail = concat_ws('.', 'field: content', field),
        hint = coalesce(hint, 'Write it as WhatsApp takes it under the name of the type.');
end
$$;


create function private.is_blank(words text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- everything that Unicode calls white space: a customer would see nothing
    return words !~ '[^\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]';
end
$$;


create function private.check_words(field text, value jsonb, most integer, needed boolean default false)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    words constant text := value #>> '{}';
begin
    if words is null and not needed then
        return;
    elsif words is null or jsonb_typeof(value) <> 'string' or private.is_blank(words) then
        perform private.refuse_content(field, format('%s is missing, empty or not a text.', field));
    elsif length(words) > most then
        perform private.refuse_content(
            field,
            format('%s has %s characters.', field, length(words)),
            format('At most %s characters are allowed.', most));
    end if;
end
$$;


create function private.check_object(field text, value jsonb, known text[] default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    unknown text;
begin
    if coalesce(jsonb_typeof(value), 'null') <> 'object' then
        perform private.refuse_content(field, format('%s is not an object.', coalesce(field, 'content')));
    end if;
    select k.key
    into unknown
    from jsonb_object_keys(value) as k (key)
    where k.key <> all (known)
    order by k.key
    limit 1;
    if found then
        perform private.refuse_content(
            concat_ws('.', field, left(unknown, 64)),
            format('%s does not belong here.', quote_literal(left(unknown, 64))),
            format('Known: %s.', array_to_string(known, ', '))
        );
    end if;
end
$$;


create function private.check_link(field text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.check_words(field, value, most => 2048);
    -- as in written addresses: other characters are escaped
    if (value #>> '{}') !~ '^https?://[!-~]+$' then
        perform private.refuse_content(field, format('%s is no address.', field), 'https://…');
    end if;
end
$$;


create function private.check_elements(field text, value jsonb, most integer)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    element record;
begin
    if jsonb_typeof(value) is distinct from 'array' or jsonb_array_length(value) not between 1 and most then
        perform private.refuse_content(
            field, format('%s is missing, empty or too long.', field), format('Give 1 to %s entries.', most));
    end if;
    for element in
        select e.value, e.ordinal - 1 as index
        from jsonb_array_elements(value) with ordinality as e (value, ordinal)
    loop
        perform private.check_object(format('%s.%s', field, element.index), element.value);
    end loop;
end
$$;


create function private.check_distinct(field text, ids text[])
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if cardinality(ids) > (select count(distinct i.id) from unnest(ids) as i (id)) then
        perform private.refuse_content(field, format('Two of %s have the same id.', field));
    end if;
end
$$;


comment on function private.refuse_content(text, text, text) is
    'Refuses a content that can''t be sent, and names the field below content.';
comment on function private.is_blank(text) is
    'Whether a text shows nothing.';
comment on function private.check_words(text, jsonb, integer, boolean) is
    'Refuses a value that is no text, or is too long. Null passes unless the value is needed.';
comment on function private.check_object(text, jsonb, text[]) is
    'Refuses a value that is no object, or has other fields than the known ones. Without known ones any field passes.';
comment on function private.check_link(text, jsonb) is
    'Refuses a value that is no web address.';
comment on function private.check_elements(text, jsonb, integer) is
    'Refuses a value that is no list of objects, is empty or is too long.';
comment on function private.check_distinct(text, text[]) is
    'Refuses a list with two equal ids.';


/*
    The messages that WhatsApp takes: the object of each type, as the API takes it, with its limits.
    The check runs when a message is written, in every way. So the writer hears of a mistake at
    once, instead of WhatsApp refusing it a minute later when nobody looks. Content without a check
    here goes out as it is.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Messages" and the page of each type.)
*/
create function private.check_file(type text, content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    named constant integer := num_nonnulls(
        content ->> 'upload_id', content ->> 'id', content ->> 'link');
begin
    perform private.check_object(null, content, array['upload_id', 'id', 'link'] || case
        when type in ('image', 'video') then array['caption']
        when type = 'document' then array['caption', 'filename']
        when type = 'audio' then array['voice']
        else '{}'
    end);
    if named <> 1 then
        perform private.refuse_content(
            null,
            'The message must name one file; it names none, or more than one.',
            'Give one of upload_id (from POST /api/media), id (of a file at WhatsApp) and link.'
        );
    elsif content ->> 'upload_id' is not null and not pg_input_is_valid(content ->> 'upload_id', 'uuid') then
        perform private.refuse_content('upload_id', 'upload_id is not an id.', 'POST /api/media returns one.');
    elsif coalesce(jsonb_typeof(content -> 'voice'), 'null') not in ('null', 'boolean') then
        perform private.refuse_content('voice', 'voice must be true or false.');
    end if;
    perform private.check_words('id', content -> 'id', most => 512);
    perform private.check_link('link', content -> 'link');
    perform private.check_words('caption', content -> 'caption', most => 1024);
    perform private.check_words('filename', content -> 'filename', most => 512);
end
$$;


create function private.check_location(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    place record;
begin
    perform private.check_object(null, content, array['latitude', 'longitude', 'name', 'address']);
    for place in
        select *
        from (values ('latitude', 90), ('longitude', 180)) as p (field, most)
    loop
        if jsonb_typeof(content -> place.field) is distinct from 'number'
            or abs((content -> place.field)::numeric) > place.most
        then
            perform private.refuse_content(
                place.field,
                format('%s must be a number of degrees.', place.field),
                format('Give a number from -%s to %s.', place.most, place.most)
            );
        end if;
    end loop;
    perform private.check_words('name', content -> 'name', most => 512);
    perform private.check_words('address', content -> 'address', most => 512);
end
$$;


create function private.check_contacts(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    card record;
begin
    if jsonb_typeof(content) <> 'array' or jsonb_array_length(content) not between 1 and 257 then
        perform private.refuse_content(null, 'content must be a list of contacts.', 'Give 1 to 257 contacts.');
    end if;
    for card in
        select c.value, c.ordinal - 1 as index
        from jsonb_array_elements(content) with ordinality as c (value, ordinal)
    loop
        perform private.check_object(card.index::text, card.value);
        perform private.check_object(format('%s.name', card.index), card.value -> 'name');
        perform private.check_words(
            format('%s.name.formatted_name', card.index),
            card.value -> 'name' -> 'formatted_name',
            most => 512,
            needed => true
        );
    end loop;
end
$$;


create function private.check_reaction(content jsonb, conversation_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    target constant uuid := case
        when pg_input_is_valid(content ->> 'message_id', 'uuid')
            then (content ->> 'message_id')::uuid
    end;
begin
    perform private.check_object(null, content, array['message_id', 'emoji']);
    -- a queued message goes before the reaction to it
    if not exists (
        select
        from public.messages m
        where m.id = target
          and m.conversation_id = check_reaction.conversation_id
          and (m.provider_id is not null or m.status = 'queued')
    ) then
        perform private.refuse_content(
            'message_id',
            'There is no message with this id in this conversation, or it has not been sent.',
            'Give the id of one of its messages.'
        );
    -- an empty emoji removes the reaction
    elsif jsonb_typeof(content -> 'emoji') is distinct from 'string' or length(content ->> 'emoji') > 32 then
        perform private.refuse_content('emoji', 'emoji is missing or not an emoji.');
    end if;
end
$$;


create function private.check_content(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- some readers can't parse JSON this deep, or numbers this large
    if post.content @? 'strict $.**{17 to last}' then
        perform private.refuse_content(null, 'content is nested too deeply.', 'At most 16 levels are allowed.');
    elsif post.content @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))' then
        perform private.refuse_content(null, 'A number in content is too large.', 'Numbers can be at most 1e15.');
    end if;

    case post.type
        when 'location' then
            perform private.check_location(post.content);
        when 'contacts' then
            perform private.check_contacts(post.content);
        when 'reaction' then
            perform private.check_reaction(post.content, conversation_id => post.conversation_id);
        when 'interactive' then
            perform private.check_interactive(post.content);
        when 'template' then
            perform private.check_template(post.content);
            perform private.check_known_template(
                post.content, whatsapp_channel_id => post.whatsapp_channel_id);
        else
            perform private.check_file(type => post.type, content => post.content);
    end case;
end
$$;


create function private.words_of_content(type text, content jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    label constant text := case
        when type = 'contacts' then 'contact'
        when type = 'audio' and content -> 'voice' = 'true' then 'voice message'
        when type = 'reaction' and content ->> 'emoji' = '' then 'reaction removed'
        else type
    end;
    words constant text := nullif(
        case type
            when 'template' then content ->> 'name'
            when 'contacts' then content #>> '{0,name,formatted_name}'
            when 'location' then coalesce(content ->> 'name', content ->> 'address')
            when 'reaction' then content ->> 'emoji'
            else coalesce(content ->> 'caption', content ->> 'filename')
        end,
        ''
    );
begin
    return left(
        coalesce(
            case when type = 'interactive' then content #>> '{body,text}' end,
            concat_ws(' ', format('[%s]', label), words)
        ),
        4096
    );
end
$$;


comment on function private.check_file(text, jsonb) is
    'Refuses an image, a video, a sound, a document or a sticker that can''t be sent.';
comment on function private.check_location(jsonb) is
    'Refuses a location that can''t be sent.';
comment on function private.check_contacts(jsonb) is
    'Refuses contacts that can''t be sent.';
comment on function private.check_reaction(jsonb, uuid) is
    'Refuses a reaction to a message that is not in the conversation.';
comment on function private.check_content(public.messages) is
    'Refuses a content that can''t be sent, and names the field.';
comment on function private.words_of_content(text, jsonb) is
    'The line that people read in place of a content without text.';


/*
    Messages with buttons, a list or a link, and templates. Content that WhatsApp would refuse is
    refused when it is written. Of other interactive types only the frame is checked.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Interactive reply buttons",
    "Interactive lists", "Interactive call-to-action URL button", "Template messages".)
*/
create function private.check_buttons(action jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    button record;
begin
    perform private.check_elements('action.buttons', action -> 'buttons', most => 3);
    for button in
        select b.value, format('action.buttons.%s', b.ordinal - 1) as field
        from jsonb_array_elements(action -> 'buttons') with ordinality as b (value, ordinal)
    loop
        if button.value ->> 'type' is distinct from 'reply' then
            perform private.refuse_content(button.field || '.type', 'A button must have the type reply.');
        end if;
        perform private.check_words(
            button.field || '.reply.id', button.value #> '{reply,id}', most => 256, needed => true);
        perform private.check_words(
            button.field || '.reply.title', button.value #> '{reply,title}', most => 20, needed => true);
    end loop;
    perform private.check_distinct(
        'action.buttons',
        array(
            select b.value #>> '{reply,id}'
            from jsonb_array_elements(action -> 'buttons') as b (value)
        )
    );
end
$$;


create function private.check_list(action jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    section record;
    line record;
    row_ids text[] := '{}';
begin
    perform private.check_words('action.button', action -> 'button', most => 20, needed => true);
    perform private.check_elements('action.sections', action -> 'sections', most => 10);
    for section in
        select s.value, format('action.sections.%s', s.ordinal - 1) as field
        from jsonb_array_elements(action -> 'sections') with ordinality as s (value, ordinal)
    loop
        perform private.check_words(
            section.field || '.title',
            section.value -> 'title',
            most => 24,
            needed => jsonb_array_length(action -> 'sections') > 1
        );
        perform private.check_elements(section.field || '.rows', section.value -> 'rows', most => 10);
        for line in
            select r.value, format('%s.rows.%s', section.field, r.ordinal - 1) as field
            from jsonb_array_elements(section.value -> 'rows') with ordinality as r (value, ordinal)
        loop
            perform private.check_words(line.field || '.id', line.value -> 'id', most => 200, needed => true);
            perform private.check_words(
                line.field || '.title', line.value -> 'title', most => 24, needed => true);
            perform private.check_words(line.field || '.description', line.value -> 'description', most => 72);
            row_ids := row_ids || (line.value ->> 'id');
        end loop;
    end loop;
    if cardinality(row_ids) > 10 then
        perform private.refuse_content(
            'action.sections', 'The list is too long.', 'All sections together can have at most 10 rows.');
    end if;
    perform private.check_distinct('action.sections', row_ids);
end
$$;


create function private.check_interactive(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    kind constant text := content ->> 'type';
begin
    perform private.check_object(null, content, array['type', 'header', 'body', 'footer', 'action']);
    perform private.check_words('type', content -> 'type', most => 64, needed => true);
    if kind !~ '^[a-z_]+$' then
        perform private.refuse_content(
            'type', 'There is no such type of interactive message.', 'For example button, list, cta_url or flow.');
    end if;
    if coalesce(jsonb_typeof(content -> 'header'), 'null') <> 'null' then
        perform private.check_object('header', content -> 'header');
        perform private.check_words('header.text', content #> '{header,text}', most => 60);
    end if;
    -- only a product needs no text
    if kind <> 'product' or coalesce(jsonb_typeof(content -> 'body'), 'null') <> 'null' then
        perform private.check_object('body', content -> 'body', array['text']);
        perform private.check_words(
            'body.text',
            content #> '{body,text}',
            most => case when kind = 'list' then 4096 else 1024 end,
            needed => true
        );
    end if;
    if coalesce(jsonb_typeof(content -> 'footer'), 'null') <> 'null' then
        perform private.check_object('footer', content -> 'footer');
        perform private.check_words('footer.text', content #> '{footer,text}', most => 60, needed => true);
    end if;

    perform private.check_object('action', content -> 'action');
    case kind
        when 'button' then
            perform private.check_buttons(content -> 'action');
        when 'list' then
            perform private.check_list(content -> 'action');
        when 'cta_url' then
            perform private.check_words(
                'action.parameters.display_text',
                content #> '{action,parameters,display_text}',
                most => 20,
                needed => true
            );
            perform private.check_words(
                'action.parameters.url', content #> '{action,parameters,url}', most => 2048, needed => true);
            perform private.check_link('action.parameters.url', content #> '{action,parameters,url}');
        else
            null;
    end case;
end
$$;


create function private.check_variable(field text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.check_words(field, value, most => 1024, needed => true);
    if value #>> '{}' ~ '[\r\n\t]| {5}' then
        perform private.refuse_content(
            field,
            'A variable of a template can''t have line breaks, tabs or more than 4 spaces in a row.',
            'Write the text in one line.'
        );
    end if;
end
$$;


create function private.check_template(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    language constant jsonb := case jsonb_typeof(content -> 'language')
        when 'string' then jsonb_build_object('code', content -> 'language')
        else content -> 'language'
    end;
    filled record;
begin
    perform private.check_object(null, content, array['name', 'language', 'variables', 'components']);
    perform private.check_words('name', content -> 'name', most => 512, needed => true);
    if content ->> 'name' !~ '^[a-z0-9_]+$' then
        perform private.refuse_content(
            'name', 'No template can have this name.', 'A name has small letters, digits and _.');
    end if;
    perform private.check_object('language', language, array['code', 'policy']);
    perform private.check_words('language.code', language -> 'code', most => 32, needed => true);
    if language ->> 'code' !~ '^[A-Za-z]{2,3}(_[A-Za-z0-9]{2,8})*$' then
        perform private.refuse_content('language.code', 'There is no such language code.', 'For example sl or en_US.');
    elsif coalesce(language ->> 'policy', 'deterministic') <> 'deterministic' then
        perform private.refuse_content('language.policy', 'The policy must be deterministic.');
    elsif coalesce(jsonb_typeof(content -> 'components'), 'null') = 'null'
        or content -> 'components' = '[]'
    then
        return;
    end if;

    perform private.check_elements('components', content -> 'components', most => 32);
    for filled in
        select p.value, format('components.%s.parameters.%s', c.ordinal - 1, p.ordinal - 1) as field
        from jsonb_array_elements(content -> 'components') with ordinality as c (value, ordinal)
        cross join lateral jsonb_path_query(c.value, 'strict $.parameters[*]', silent => true)
            with ordinality as p (value, ordinal)
    loop
        perform private.check_object(filled.field, filled.value);
        if filled.value ->> 'type' = 'text' then
            perform private.check_variable(filled.field || '.text', filled.value -> 'text');
        end if;
    end loop;
end
$$;


comment on function private.check_buttons(jsonb) is
    'Refuses reply buttons that WhatsApp would refuse.';
comment on function private.check_list(jsonb) is
    'Refuses a list that WhatsApp would refuse.';
comment on function private.check_interactive(jsonb) is
    'Refuses an interactive message that WhatsApp would refuse.';
comment on function private.check_variable(text, jsonb) is
    'Refuses a text that can''t fill a variable of a template.';
comment on function private.check_template(jsonb) is
    'Refuses a template message that no template can match.';


/*
    Chooses the next messages. Each number has its own pace and its own queue, and the number that
    has sent least lately goes first. So a number with thousands of waiting messages delays no
    other.
*/
create function private.number_pace(messages_per_second integer, out every interval, out burst integer)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- in any second no more than WhatsApp allows
    burst := greatest(messages_per_second / 10, 1);
    every := make_interval(secs => ceil(1000000.0 / greatest(messages_per_second - burst, 1)) / 1000000);
end
$$;


create function private.sending_numbers()
    returns table (whatsapp_channel_id uuid, places integer, free_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    -- from one number to the next in the index, however many messages each has
    with recursive numbers as (
        (
            select q.whatsapp_channel_id as id
            from private.outbound_queue q
            where q.state = 'queued'
            order by q.whatsapp_channel_id
            limit 1
        )
        union all
        select (
            select q.whatsapp_channel_id
            from private.outbound_queue q
            where q.state = 'queued'
              and q.whatsapp_channel_id > n.id
            order by q.whatsapp_channel_id
            limit 1
        )
        from numbers n
        where n.id is not null
    )
    select
        w.id,
        greatest(floor(
            extract(epoch from clock_timestamp() - s.free_at) / extract(epoch from pace.every)
        ) + 1, 0)::integer,
        s.free_at
    from numbers n
    join public.whatsapp_channels w
        on w.id = n.id
    join public.accounts a
        on a.id = w.account_id
    cross join lateral private.number_pace(w.messages_per_second) pace
    left join private.send_paces p
        on p.whatsapp_channel_id = w.id
       and p.recipient = ''
    cross join lateral (
        select greatest(p.due_at, clock_timestamp()) - pace.every * (pace.burst - 1) as free_at
    ) s
    where w.stopped_at is null
      and w.paused_at is null
      and a.paused_at is null
    order by p.due_at nulls first, w.id;
end
$$;


create function private.lock_next_to_send(batch integer)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    number record;
    picked uuid[] := '{}';
begin
    for number in
        select n.whatsapp_channel_id, n.places
        from private.sending_numbers() n
        where n.places > 0
    loop
        picked := picked || array(
            select q.message_id
            from private.outbound_queue q
            where q.whatsapp_channel_id = number.whatsapp_channel_id
              and q.state = 'queued'
              and q.not_before <= clock_timestamp()
              -- in order: a message waits for the earlier ones of its conversation
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before, q.message_id
            limit least(batch - cardinality(picked), number.places)
            for update of q skip locked
        );
        exit when cardinality(picked) >= batch;
    end loop;
    return picked;
end
$$;


create function private.next_send_at()
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select min(greatest(first.not_before, n.free_at))
        from private.sending_numbers() n
        cross join lateral (
            select q.not_before
            from private.outbound_queue q
            where q.whatsapp_channel_id = n.whatsapp_channel_id
              and q.state = 'queued'
              -- a message that waits for another of its conversation has no time of its own
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before
            limit 1
        ) first
    );
end
$$;


comment on function private.number_pace(integer) is
    'The pace of a number with this many messages per second: one message in each interval "every", and "burst" at once.';
comment on function private.sending_numbers() is
    'The numbers with messages to send, the one that has sent least lately first: how many may go now, or the time from which one may.';
comment on function private.lock_next_to_send(integer) is
    'The next messages to send. Locks their rows in the queue, and skips rows that others have locked.';
comment on function private.next_send_at() is
    'The next time when there will be something to send, as far as is known now.';


/*
    Recipients that can't get a message even while the window is open: a group that no longer
    exists, or a person who has stopped marketing messages. Writers and the worker use the same
    rule, since the person may stop them while the message waits.
    (Source: developers.facebook.com, WhatsApp Business Platform, "Groups API" and
    "user_preferences webhook reference".)
*/
create type private.recipient_fault as (
    field   text,
    message text,
    hint    text,
    -- a code of private.send_errors
    code    integer
);


create function private.template_category(content jsonb, whatsapp_channel_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select upper(t.category)
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = template_category.whatsapp_channel_id
          and t.name = content ->> 'name'
          and t.language = coalesce(content #>> '{language,code}', content ->> 'language')
    );
end
$$;


create function private.recipient_fault(post public.messages)
    returns private.recipient_fault
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    category constant text := case when post.type = 'template' then private.template_category(
        post.content, whatsapp_channel_id => post.whatsapp_channel_id) end;
    state text;
    stopped_at timestamptz;
begin
    if post.customer_id is null then
        select k.group_state
        into state
        from public.conversations k
        where k.id = post.conversation_id;
        return case
            when state <> 'active' then (
                'conversation_id',
                format('The group is %s, so it can''t get messages.', state),
                case state
                    when 'suspended' then 'WhatsApp has suspended the group. Write to its participants one by one.'
                    else 'Write to its participants one by one.'
                end,
                -2
            )::private.recipient_fault
            when post.type = 'interactive' or category = 'AUTHENTICATION' then (
                'type',
                'A group can''t get this type of message.',
                'Send a text, a file, or a template with these.',
                -2
            )::private.recipient_fault
        end;
    end if;

    if category = 'MARKETING' then
        select c.marketing_stopped_at
        into stopped_at
        from public.contacts c
        where c.id = post.customer_id;
        if stopped_at is not null then
            return (
                'content.name',
                format(
                    'This person stopped marketing messages on WhatsApp on %s.',
                    to_char(stopped_at at time zone 'UTC', 'YYYY-MM-DD')
                ),
                'Send a utility template. Marketing templates can go again once the person resumes them.',
                131050
            )::private.recipient_fault;
        end if;
    end if;
    return null;
end
$$;


create function private.check_recipient(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    fault constant private.recipient_fault := private.recipient_fault(post);
begin
    if fault.message is not null then
        raise sqlstate 'PT422' using
            message = fault.message,
            detail = 'field: ' || fault.field,
            hint = fault.hint;
    end if;
end
$$;


comment on type private.recipient_fault is
    'Why a recipient can''t get a message: the field, a sentence, the remedy, and the code of the failure.';
comment on function private.template_category(jsonb, uuid) is
    'The category of a template message, such as MARKETING; null where the template is not known.';
comment on function private.recipient_fault(public.messages) is
    'Why the recipient can''t get a message; null where the recipient can.';
comment on function private.check_recipient(public.messages) is
    'Refuses a message that its recipient can''t get, and names the field.';


/*
    The worker's side of the queue: claim messages, begin one, call WhatsApp, settle it. Several
    workers share the queue and the paces. A worker claims under a new name each time, and begins
    and settles under that name. So a late repetition can't count for a later attempt.
*/
create function private.recover_outbound()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    lost record;
begin
    -- claimed but never begun: it can be claimed again
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        attempts = q.attempts + 1
    from (
        select o.message_id
        from private.outbound_queue o
        where o.state = 'leased'
          and o.leased_until < clock_timestamp()
          and o.attempts < 7
        for update skip locked
    ) l
    where q.message_id = l.message_id;

    for lost in
        select o.message_id, o.state
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        where o.state in ('leased', 'sending')
          and o.leased_until < clock_timestamp()
        for update of o, m skip locked
    loop
        if lost.state = 'sending' then
            -- begun but never settled: it may have been sent
            perform private.settle_unknown(lost.message_id);
        else
            -- no worker ever finishes it, and later messages wait
            perform private.refuse_send(
                message_id => lost.message_id,
                code => -2,
                details => 'The message could not be prepared in eight tries: its file may be too slow to read.',
                retry_after => null
            );
        end if;
    end loop;
end
$$;


create function private.settle_unknown(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.outbound_attempts t
    set outcome = 'unknown',
        ended_at = clock_timestamp()
    where t.message_id = settle_unknown.message_id
      and t.outcome is null;
    delete from private.outbound_queue q
    where q.message_id = settle_unknown.message_id;
    update public.messages m
    set status = 'unknown'
    where m.id = settle_unknown.message_id
      and m.status = 'queued';
end
$$;


create function backend.claim_outbound(worker text, batch integer default 10)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    picked uuid[];
    job record;
    free_at timestamptz;
    claimed jsonb := '[]';
begin
    perform private.recover_outbound();

    -- A statement of its own: when the next one reads, everything that these rows waited for is
    -- settled.
    picked := private.lock_next_to_send(least(greatest(batch, 1), 100));
    for job in
        select
            m.id as message_id,
            w.id as whatsapp_channel_id,
            w.phone_number_id,
            pace.every,
            pace.burst,
            k.thread_key,
            k.customer_wa_id,
            k.group_id,
            m.account_id,
            m.conversation_id,
            m.type,
            m.message,
            m.content,
            parent.provider_id as reply_to,
            target.provider_id as reaction_to
        from public.messages m
        join public.conversations k
            on k.id = m.conversation_id
        join public.whatsapp_channels w
            on w.id = m.whatsapp_channel_id
        cross join lateral private.number_pace(w.messages_per_second) pace
        left join public.messages parent
            on parent.id = m.reply_to
           -- WhatsApp knows no answer to a call
           and parent.type <> 'call'
        left join public.messages target
            on target.conversation_id = m.conversation_id
           and target.type <> 'call'
           and target.id = case
               when m.type = 'reaction' and pg_input_is_valid(m.content ->> 'message_id', 'uuid')
                   then (m.content ->> 'message_id')::uuid
           end
        where m.id = any (picked)
        -- workers wait for each other's paces, so all take them in one order
        order by w.id, k.thread_key
    loop
        free_at := private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => '',
            every => job.every,
            burst => job.burst
        );
        if free_at is null then
            free_at := private.take_pace(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => job.thread_key,
                every => interval '6 seconds',
                burst => 45
            );
            if free_at is not null then
                perform private.give_back_pace(
                    whatsapp_channel_id => job.whatsapp_channel_id,
                    recipient => '',
                    every => job.every
                );
            end if;
        end if;
        if free_at is not null then
            update private.outbound_queue q
            set not_before = free_at
            where q.message_id = job.message_id;
            continue;
        end if;

        update private.outbound_queue q
        set state = 'leased',
            leased_until = clock_timestamp() + interval '60 seconds',
            worker = claim_outbound.worker
        where q.message_id = job.message_id;

        claimed := claimed || jsonb_build_object(
            'message_id', job.message_id,
            'account_id', job.account_id,
            'conversation_id', job.conversation_id,
            'phone_number_id', job.phone_number_id,
            'group_id', job.group_id,
            'wa_id', job.customer_wa_id,
            'user_id', case
                when job.thread_key like 'bsuid:%' then split_part(job.thread_key, ':', 2)
            end,
            'type', job.type,
            'text', job.message,
            'content', job.content,
            'reply_to', job.reply_to,
            'reaction_to', job.reaction_to
        );
    end loop;

    return jsonb_build_object(
        'claimed', claimed,
        -- the next time when there will be something to do, as far as is known now
        'next_at', private.next_send_at()
    );
end
$$;

grant execute on function backend.claim_outbound(text, integer) to service_role;


create function backend.begin_send(message_id uuid, worker text)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
    fault private.recipient_fault;
begin
    -- a message's row before its row in the queue, as in settle_send
    perform
    from public.messages m
    where m.id = begin_send.message_id
    for no key update;

    select
        q.state, q.whatsapp_channel_id, q.conversation_id, m.type,
        num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) > 0 as is_halted,
        c.deleted_at is not null as is_deleted
    into job
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    left join public.contacts c
        on c.id = m.customer_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    join public.accounts a
        on a.id = w.account_id
    where q.message_id = begin_send.message_id
      and q.worker = begin_send.worker
      and q.state in ('leased', 'sending')
      and q.leased_until > clock_timestamp()
    for update of q;
    if not found then
        return false;
    elsif job.state = 'sending' then
        -- The answer was lost, and the worker asks again: each name belongs to one claim.
        return true;
    end if;

    -- another message's answer has stopped the number meanwhile, or a person has paused it
    if job.is_halted then
        update private.outbound_queue q
        set state = 'queued',
            leased_until = null,
            worker = null
        where q.message_id = begin_send.message_id;
        return false;
    end if;

    if job.is_deleted then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => -2,
            details => 'The contact was deleted before the message was sent.',
            retry_after => null
        );
        return false;
    end if;

    -- the person may have stopped marketing messages since, or the group may be gone
    fault := (
        select private.recipient_fault(m)
        from public.messages m
        where m.id = begin_send.message_id
    );
    if fault.message is not null then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => fault.code,
            details => fault.message,
            retry_after => null
        );
        return false;
    end if;

    -- the window was open when it was written, but the number may have been stopped for days
    if job.type <> 'template'
        and coalesce(private.window_closes_at(job.conversation_id), '-infinity') <= now()
    then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => 131047,
            details => null,
            retry_after => null
        );
        return false;
    end if;

    update private.outbound_queue q
    set state = 'sending',
        attempts = q.attempts + 1,
        leased_until = clock_timestamp() + interval '60 seconds'
    where q.message_id = begin_send.message_id;
    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    select
        begin_send.message_id,
        coalesce(max(t.attempt), 0) + 1,
        job.whatsapp_channel_id
    from private.outbound_attempts t
    where t.message_id = begin_send.message_id;
    return true;
end
$$;

grant execute on function backend.begin_send(uuid, text) to service_role;


comment on function private.recover_outbound() is
    'Recovers the jobs of lost workers: back into the queue, or unknown where the call may have been made.';
comment on function private.settle_unknown(uuid) is
    'Notes that nobody knows whether a message was sent. A status or a person will settle it.';
comment on function backend.claim_outbound(text, integer) is
    'Leases messages that may go now, one for each conversation: {claimed: [{message_id, account_id, conversation_id, phone_number_id, group_id, wa_id, user_id, type, text, content, reply_to, reaction_to}], next_at}. reply_to and reaction_to are WhatsApp''s ids.';
comment on function backend.begin_send(uuid, text) is
    'Notes that the call is about to be made. False where it must not be made: another worker has the lease, the number was stopped or paused, the window has closed, the contact was deleted, the person stopped marketing messages, or the group no longer exists.';


/*
    Settles the outcome of a call. The error's code decides the next step; a time-out is unknown. A
    message's row is locked before its row in the queue, here and where a status settles it.
*/
create function private.attach_provider_id(message_id uuid, provider_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    sent public.messages;
begin
    -- WhatsApp's answer or a status has told it already
    if exists (
        select
        from private.outbound_attempts t
        where t.message_id = attach_provider_id.message_id
          and t.provider_id = attach_provider_id.provider_id
    ) then
        return;
    end if;

    -- the running attempt, or else the latest one with an unknown outcome
    update private.outbound_attempts t
    set outcome = 'accepted',
        provider_id = attach_provider_id.provider_id,
        ended_at = coalesce(t.ended_at, clock_timestamp())
    where t.message_id = attach_provider_id.message_id
      and t.attempt = (
          select o.attempt
          from private.outbound_attempts o
          where o.message_id = attach_provider_id.message_id
            and coalesce(o.outcome, 'unknown') = 'unknown'
          order by (o.outcome is null) desc, o.attempt desc
          limit 1
      );
    delete from private.outbound_queue q
    where q.message_id = attach_provider_id.message_id;

    -- a message that a person had sent again, and that arrived after all, keeps its id
    update public.messages m
    set provider_id = attach_provider_id.provider_id,
        status = 'sent',
        sent_at = coalesce(m.sent_at, now()),
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = attach_provider_id.message_id
      and m.provider_id is null
    returning m.*
    into sent;

    -- statuses that arrived before the id was known
    if found then
        perform private.settle_message_statuses(
            whatsapp_channel_ids => array[sent.whatsapp_channel_id],
            provider_ids => array[attach_provider_id.provider_id]
        );
    end if;
end
$$;


create function private.refuse_send(
    message_id uuid,
    code integer,
    details text,
    retry_after interval
)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    rule private.send_errors;
    action text;
    next_at timestamptz;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = refuse_send.message_id;
    select e.*
    into rule
    from private.send_errors e
    where e.code = refuse_send.code;
    action := coalesce(rule.action, 'fail');
    if action = 'retry' and job.attempts >= 8 then
        action := 'fail';
    end if;

    update private.outbound_attempts t
    set outcome = 'refused',
        error_code = refuse_send.code,
        error_message = left(refuse_send.details, 500),
        ended_at = clock_timestamp()
    where t.message_id = refuse_send.message_id
      and t.outcome is null;

    if action = 'fail' then
        delete from private.outbound_queue q
        where q.message_id = refuse_send.message_id;
        update public.messages m
        set status = 'failed',
            failed_at = now(),
            error_code = refuse_send.code,
            error_message = coalesce(
                rule.sentence,
                nullif(left(refuse_send.details, 500), ''),
                format('WhatsApp refused the message with code %s.', refuse_send.code)
            )
        where m.id = refuse_send.message_id
          and m.status in ('queued', 'unknown');
        return action;
    end if;

    next_at := case action
        when 'retry' then clock_timestamp() + greatest(
            coalesce(retry_after, '0'),
            rule.wait * power(rule.factor, job.attempts - 1) * (0.8 + random() * 0.4)
        )
        else job.not_before
    end;
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        not_before = next_at
    where q.message_id = refuse_send.message_id;
    if rule.holds then
        perform private.hold_number(
            whatsapp_channel_id => job.whatsapp_channel_id, until => next_at);
    end if;
    if action = 'stop' then
        update public.whatsapp_channels w
        set stopped_at = now(),
            stopped_code = refuse_send.code,
            stopped_reason = rule.sentence
        where w.id = job.whatsapp_channel_id
          and w.stopped_at is null;
    end if;
    return action;
end
$$;


create function backend.settle_send(
    message_id uuid,
    worker text,
    outcome text,
    provider_id text default null,
    code integer default null,
    details text default null,
    retry_after integer default null
)
    returns text
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    -- a status, a reply or a reaction may be looking for the message at this moment
    if outcome = 'accepted' then
        perform pg_advisory_xact_lock_shared(private.whatsapp_number_lock(m.whatsapp_channel_id))
        from public.messages m
        where m.id = settle_send.message_id;
    end if;
    perform
    from public.messages m
    where m.id = settle_send.message_id
    for no key update;
    if not found then
        return 'gone';
    end if;

    if outcome not in ('accepted', 'refused', 'unknown') or outcome is null then
        raise sqlstate 'PT422' using
            message = 'There is no such outcome.',
            detail = 'field: outcome',
            hint = 'Use accepted, refused or unknown.';
    elsif outcome = 'accepted' and coalesce(settle_send.provider_id, '') = '' then
        raise sqlstate 'PT422' using
            message = 'An accepted message must have WhatsApp''s id.',
            detail = 'field: provider_id';
    elsif outcome = 'refused' and settle_send.code is null then
        raise sqlstate 'PT422' using
            message = 'A refused message must have a code.',
            detail = 'field: code';
    end if;

    -- acceptance is evidence, even if another worker has the lease by now
    if outcome = 'accepted' then
        perform private.attach_provider_id(
            message_id => settle_send.message_id, provider_id => settle_send.provider_id);
        return 'sent';
    end if;

    perform
    from private.outbound_queue q
    where q.message_id = settle_send.message_id
      and q.worker = settle_send.worker
      and q.state = 'sending'
    for update;
    if not found then
        return 'settled already';
    end if;
    if outcome = 'unknown' then
        perform private.settle_unknown(settle_send.message_id);
        return 'unknown';
    end if;
    return private.refuse_send(
        message_id => settle_send.message_id,
        code => settle_send.code,
        details => settle_send.details,
        retry_after => make_interval(secs => settle_send.retry_after)
    );
end
$$;

grant execute on function backend.settle_send(uuid, text, text, text, integer, text, integer)
    to service_role;


comment on function private.attach_provider_id(uuid, text) is
    'Notes the id under which WhatsApp took a message: the message is sent, and waiting statuses apply.';
comment on function private.refuse_send(uuid, integer, text, interval) is
    'Applies WhatsApp''s error to a message: retry, fail or stop, see private.send_errors. Returns which.';
comment on function backend.settle_send(uuid, text, text, text, integer, text, integer) is
    'Notes the outcome of a call: accepted with provider_id; refused with code, details and retry_after (seconds); or unknown. Returns the next step.';


/*
    Where there is no evidence, a person decides: send the message again, or drop it.
*/
create function private.message_to_decide(message_id uuid)
    returns public.messages
    language plpgsql
    set search_path = ''
as $$
declare
    found_message public.messages;
begin
    select m.*
    into found_message
    from public.messages m
    where m.id = message_id
      and m.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;
    perform private.require_writable(found_message.account_id);

    if found_message.whatsapp_channel_id is null
        or found_message.sender_type = 'client'
        or found_message.status not in ('failed', 'unknown')
        -- it was sent from the phone app
        or (
            found_message.provider_id is not null
            and not exists (
                select
                from private.outbound_attempts t
                where t.message_id = found_message.id
            )
        )
    then
        raise sqlstate 'PT409' using
            message = 'This message can''t be sent again or dropped.',
            detail = format('field: status; status: %s', found_message.status),
            hint = 'Only a message that is queued, failed or unknown can.';
    elsif found_message.status = 'unknown' and exists (
        select
        from private.outbound_attempts t
        where t.message_id = found_message.id
          and t.ended_at > now() - interval '2 minutes'
    ) then
        raise sqlstate 'PT409' using
            message = 'It is not certain yet whether this message was sent.',
            detail = 'field: status; status: unknown',
            hint = 'Try again two minutes after the attempt.';
    end if;
    return found_message;
end
$$;


create function private.withdraw_message(message_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select m.account_id
    into account
    from public.messages m
    where m.id = withdraw_message.message_id
      and m.account_id in (select private.my_account_ids())
      and m.status = 'queued'
    for no key update;
    if not found then
        return false;
    end if;
    perform private.require_writable(account);

    -- a worker that has leased it checks once more before the call, and waits for the message
    delete from private.outbound_queue q
    where q.message_id = withdraw_message.message_id
      and q.state <> 'sending';
    if not found then
        return false;
    end if;
    update public.messages m
    set status = 'failed',
        failed_at = now(),
        error_message = 'The message was withdrawn before it was sent.'
    where m.id = withdraw_message.message_id;
    return true;
end
$$;


create function private.decide_message(message_id uuid, decision text)
    returns void
    language plpgsql
    -- definer: users may not write the queue; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    decided public.messages;
    rest interval;
begin
    if decision = 'drop' and private.withdraw_message(message_id) then
        return;
    end if;

    decided := private.message_to_decide(message_id);
    if decision = 'drop' then
        update public.messages m
        set status = 'failed',
            failed_at = coalesce(m.failed_at, now()),
            error_message = coalesce(m.error_message, 'It is not known whether the message was sent. It was not sent again.')
        where m.id = decided.id;
        return;
    end if;

    select e.rest
    into rest
    from private.send_errors e
    where e.code = decided.error_code;
    if decided.failed_at > now() - rest then
        raise sqlstate 'PT409' using
            message = 'WhatsApp would refuse this message again.',
            detail = 'field: error_code',
            hint = format(
                'Wait until %s.',
                private.local_time(decided.account_id, decided.failed_at + rest)
            );
    elsif exists (select from public.contacts c where c.id = decided.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this message was deleted.',
            detail = 'field: message_id',
            hint = 'Drop the message.';
    elsif decided.type <> 'template'
        and coalesce(private.window_closes_at(decided.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    end if;
    update public.messages m
    set status = 'queued',
        -- the earlier attempts keep their ids
        provider_id = null,
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = decided.id;
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (decided.id, decided.whatsapp_channel_id, decided.conversation_id, decided.seq);
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.decide_message(uuid, text) to authenticated;


create function public.resend_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => resend_message.message_id, decision => 'resend')
$$;

grant execute on function public.resend_message(uuid) to authenticated;


create function public.drop_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => drop_message.message_id, decision => 'drop')
$$;

grant execute on function public.drop_message(uuid) to authenticated;


create function private.resume_number(channel_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write numbers; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    account uuid;
begin
    select w.account_id
    into account
    from public.whatsapp_channels w
    where w.id = channel_id
      and w.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such number, or it is not yours to see.',
            detail = format('channel: %s', channel_id);
    end if;
    perform private.require_writable(account);

    update public.whatsapp_channels w
    set stopped_at = null,
        stopped_code = null,
        stopped_reason = null
    where w.id = channel_id
      and w.stopped_at is not null;
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.resume_number(uuid) to authenticated;


create function public.resume_channel(channel_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.resume_number(resume_channel.channel_id)
$$;

grant execute on function public.resume_channel(uuid) to authenticated;


comment on function private.message_to_decide(uuid) is
    'Locks a message that a person may send again or drop. Refuses other messages.';
comment on function private.withdraw_message(uuid) is
    'Takes a message out of the queue that no worker has begun to send. False where there is none.';
comment on function private.decide_message(uuid, text) is
    'Queues a failed or unknown message again, or drops it.';
comment on function public.resend_message(uuid) is
    'Sends a message again that has failed, or whose outcome is unknown for two minutes. It is a new attempt of the same message.';
comment on function public.drop_message(uuid) is
    'Drops a message that waits, or whose outcome is unknown: it is not sent again.';
comment on function private.resume_number(uuid) is
    'Lets a stopped number send again.';
comment on function public.resume_channel(uuid) is
    'Lets a stopped WhatsApp number send again. First fix the problem in stopped_reason.';


/*
    Message templates as WhatsApp has them. Only the sync and webhooks write them, and each account
    has its own copy. A template that WhatsApp no longer lists is kept, since messages were sent
    with it.
*/
create table public.whatsapp_templates (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint whatsapp_templates_account_id_fkey
                references public.accounts on delete cascade,
    -- Meta's id of the WhatsApp Business account that owns it
    waba_id     text not null,
    name        text not null
                constraint whatsapp_templates_name_check check (length(name) between 1 and 512),
    language    text not null
                constraint whatsapp_templates_language_check
                check (length(language) between 1 and 32),
    category    text not null
                constraint whatsapp_templates_category_check check (length(category) <= 64),
    -- WhatsApp's word; new ones may come
    status      text not null
                constraint whatsapp_templates_status_check check (length(status) <= 64),
    -- as WhatsApp gives them
    components  jsonb not null
                constraint whatsapp_templates_components_check
                check (jsonb_typeof(components) = 'array' and octet_length(components::text) <= 65536),
    -- the variables of each part of the template
    variables   jsonb not null
                constraint whatsapp_templates_variables_check
                check (jsonb_typeof(variables) = 'object'),
    -- the times of status and category: older news changes nothing
    status_at   timestamptz,
    category_at timestamptz,
    -- since when WhatsApp no longer lists it
    gone_at     timestamptz,
    -- null where only a webhook has reported it, and no reading has yet
    synced_at   timestamptz default now(),

    constraint whatsapp_templates_name_key unique (account_id, waba_id, name, language)
);
alter table public.whatsapp_templates enable row level security;


grant select on public.whatsapp_templates to authenticated;


create view public.sendable_templates
    with (security_invoker = true)
as
select
    t.id,
    t.account_id,
    t.waba_id,
    t.name,
    t.language,
    t.category,
    t.components,
    t.variables,
    coalesce(jsonb_array_length(t.variables -> 'header'), 0) as header_variables,
    coalesce(jsonb_array_length(t.variables -> 'body'), 0) as body_variables,
    coalesce(jsonb_array_length(t.variables -> 'buttons'), 0) as button_variables
from public.whatsapp_templates t
where t.status = 'APPROVED'
  and t.gone_at is null
  -- the variables are known a moment later
  and t.synced_at is not null;

grant select on public.sendable_templates to authenticated;


comment on table public.whatsapp_templates is
    'The message templates of an account''s WhatsApp Business accounts, as last read from WhatsApp or reported by its webhooks.';
comment on column public.whatsapp_templates.id is
    'Identifies the template in this account.';
comment on column public.whatsapp_templates.account_id is
    'The account that can send it.';
comment on column public.whatsapp_templates.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the template.';
comment on column public.whatsapp_templates.name is
    'The template''s name at WhatsApp; messages name it in content.name.';
comment on column public.whatsapp_templates.language is
    'The language code, such as sl or en_US; messages name it in content.language.';
comment on column public.whatsapp_templates.category is
    'WhatsApp''s word: MARKETING, UTILITY or AUTHENTICATION.';
comment on column public.whatsapp_templates.status is
    'WhatsApp''s word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED or another one.';
comment on column public.whatsapp_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.whatsapp_templates.variables is
    'The names of the variables to fill. A name is for example body.1, header.image or buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them. header.image, header.video, header.document and header.location take an object, as in a message of that type.'
    ' Type: {header?: text[], body?: text[], buttons?: text[]}';
comment on column public.whatsapp_templates.status_at is
    'The time of the known status, by WhatsApp''s clock (UTC).';
comment on column public.whatsapp_templates.category_at is
    'The time of the known category, by WhatsApp''s clock (UTC).';
comment on column public.whatsapp_templates.gone_at is
    'Since when WhatsApp no longer lists it (UTC); null while it does.';
comment on column public.whatsapp_templates.synced_at is
    'When WhatsApp last listed it (UTC); null where only a webhook has reported it, and no reading has yet.';
comment on view public.sendable_templates is
    'Templates that can be sent now, with the number of variables in each part.';
comment on column public.sendable_templates.id is
    'Identifies the template in this account.';
comment on column public.sendable_templates.account_id is
    'The account that can send it.';
comment on column public.sendable_templates.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the template.';
comment on column public.sendable_templates.name is
    'The template''s name; a message gives it in content.name.';
comment on column public.sendable_templates.language is
    'The language code, such as sl or en_US; a message gives it in content.language.';
comment on column public.sendable_templates.category is
    'WhatsApp''s word: MARKETING, UTILITY or AUTHENTICATION.';
comment on column public.sendable_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.sendable_templates.variables is
    'The names of the variables to fill; a message gives them in content.variables.';
comment on column public.sendable_templates.header_variables is
    'The number of variables in the header.';
comment on column public.sendable_templates.body_variables is
    'The number of variables in the body.';
comment on column public.sendable_templates.button_variables is
    'The number of variables in the buttons.';


/*
    Writes the templates that the sync has read from WhatsApp, for each account with a number in the
    WhatsApp Business account.
*/
create function backend.template_owners()
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object('waba_id', o.waba_id, 'phone_number_ids', o.numbers)
                order by o.waba_id
            ),
            '[]'
        )
        from (
            select w.waba_id, jsonb_agg(w.phone_number_id order by w.phone_number_id) as numbers
            from public.whatsapp_channels w
            where w.waba_id is not null
            group by w.waba_id
        ) o
    );
end
$$;

grant execute on function backend.template_owners() to service_role;


create function backend.apply_templates(
    waba_id text,
    templates jsonb,
    read_at timestamptz default clock_timestamp()
)
    returns jsonb
    language plpgsql
    -- definer: as template_owners
    security definer
    set search_path = ''
as $$
declare
    listed integer;
    gone integer;
begin
    -- syncs of one business account take turns: the last list counts
    perform pg_advisory_xact_lock(hashtextextended('templates ' || waba_id, 0));

    with owners as (
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = apply_templates.waba_id
    ),
    given as (
        select distinct on (t.value ->> 'name', t.value ->> 'language')
            t.value ->> 'name' as name,
            t.value ->> 'language' as language,
            t.value ->> 'category' as category,
            t.value ->> 'status' as status,
            t.value -> 'components' as components,
            t.value -> 'variables' as variables
        from jsonb_array_elements(templates) with ordinality as t (value, ordinal)
        order by t.value ->> 'name', t.value ->> 'language', t.ordinal desc
    ),
    written as (
        insert into public.whatsapp_templates as t (
            account_id, waba_id, name, language, category, status, components, variables,
            synced_at, status_at, category_at
        )
        select
            o.account_id, apply_templates.waba_id, g.name, g.language, g.category, g.status,
            g.components, g.variables, clock_timestamp(), read_at, read_at
        from owners o
        cross join given g
        on conflict on constraint whatsapp_templates_name_key do update
            -- a webhook's news from during the reading is newer
            set category = case
                    when t.category_at > read_at then t.category
                    else excluded.category
                end,
                category_at = greatest(t.category_at, read_at),
                status = case when t.status_at > read_at then t.status else excluded.status end,
                status_at = greatest(t.status_at, read_at),
                components = excluded.components,
                variables = excluded.variables,
                synced_at = excluded.synced_at,
                gone_at = null
        returning t.id
    )
    select count(*)
    into listed
    from written;

    update public.whatsapp_templates t
    set gone_at = now()
    where t.waba_id = apply_templates.waba_id
      and t.gone_at is null
      and coalesce(t.status_at, '-infinity') <= read_at
      and not exists (
          select
          from jsonb_array_elements(templates) g
          where g.value ->> 'name' = t.name
            and g.value ->> 'language' = t.language
      );
    get diagnostics gone = row_count;

    return jsonb_build_object('listed', listed, 'gone', gone);
end
$$;

grant execute on function backend.apply_templates(text, jsonb, timestamptz) to service_role;


comment on function backend.template_owners() is
    'The WhatsApp Business accounts whose templates must be read, each with our numbers in it, whose tokens give access: [{waba_id, phone_number_ids}].';
comment on function backend.apply_templates(text, jsonb, timestamptz) is
    'Writes all templates of a WhatsApp Business account, [{name, language, category, status, components, variables}], and notes the ones that are gone: {listed, gone}, counted for each account. News from webhooks since read_at stays.';


/*
    News from webhooks about templates between two readings: approved, paused, disabled, moved to
    another category. It counts at once, in the order of WhatsApp's own times. The next reading
    brings the rest.
    (Source: developers.facebook.com, WhatsApp Business Platform, webhooks reference,
    "message_template_status_update" and "template_category_update".)
*/
create function private.note_template_status(
    event private.whatsapp_item,
    waba_id text,
    template_name text,
    template_language text
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- WhatsApp's times have no fractions, so news of a second holds at its end
    said_at constant timestamptz := coalesce(event.at, now()) + interval '1 second';
    said constant text := left(upper(event.content ->> 'event'), 64);
    new_status constant text := case
        -- back to normal
        when said in ('REINSTATED', 'UNARCHIVED') then 'APPROVED'
        else said
    end;
begin
    if new_status is null then
        return;
    end if;

    update public.whatsapp_templates t
    set status = new_status,
        status_at = said_at,
        gone_at = case when new_status = 'APPROVED' then null else t.gone_at end
    where t.account_id = event.account_id
      and t.waba_id = note_template_status.waba_id
      and t.name = template_name
      -- webhooks write en-US where the API has en_US
      and replace(t.language, '-', '_') = template_language
      and coalesce(t.status_at, '-infinity') <= said_at;
    if found or new_status <> 'APPROVED' then
        return;
    end if;

    -- New since the last reading: it can be sent, and the sync reads its text now.
    insert into public.whatsapp_templates (
        account_id, waba_id, name, language, category, status, components, variables,
        synced_at, status_at
    )
    values (
        event.account_id,
        note_template_status.waba_id,
        template_name,
        template_language,
        coalesce(left(event.content ->> 'message_template_category', 64), ''),
        new_status,
        '[]',
        '{}',
        null,
        said_at
    )
    on conflict on constraint whatsapp_templates_name_key do nothing;
    if found then
        perform private.ring('sync_templates');
    end if;
end
$$;


create function private.note_template_events(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    event private.whatsapp_item;
    template_name text;
    template_language text;
begin
    for event in
        select i.*
        from unnest(items) i
        where i.type in (
            'message_template_status_update',
            'message_template_components_update',
            'template_category_update'
        )
          and i.provider_id is not null
        -- one order for all transactions that lock several templates
        order by
            i.account_id,
            i.provider_id,
            i.content ->> 'message_template_name',
            i.content ->> 'message_template_language',
            i.at,
            i.index
    loop
        template_name := event.content ->> 'message_template_name';
        template_language := replace(event.content ->> 'message_template_language', '-', '_');
        -- an event is kept as it came, even with a wrong value
        continue when length(template_name) not between 1 and 512
            or length(template_language) not between 1 and 32
            or num_nulls(template_name, template_language) > 0;

        if event.type = 'message_template_status_update' then
            perform private.note_template_status(
                event => event,
                waba_id => event.provider_id,
                template_name => template_name,
                template_language => template_language
            );
        elsif event.type = 'template_category_update' then
            update public.whatsapp_templates t
            set category = left(event.content ->> 'new_category', 64),
                category_at = coalesce(event.at, now()) + interval '1 second'
            where t.account_id = event.account_id
              and t.waba_id = event.provider_id
              and t.name = template_name
              and replace(t.language, '-', '_') = template_language
              and event.content ->> 'new_category' is not null
              and coalesce(t.category_at, '-infinity')
                  <= coalesce(event.at, now()) + interval '1 second';
        else
            -- a new text may have new variables
            perform private.ring('sync_templates');
        end if;
    end loop;
end
$$;


comment on function private.note_template_status(private.whatsapp_item, text, text, text) is
    'Notes the status of a template from a webhook, unless a later one is known.';
comment on function private.note_template_events(private.whatsapp_item[]) is
    'Notes news of templates from webhooks: status and category at once. A new text is read from WhatsApp.';


/*
    Checks whether a template can be sent, from WhatsApp's last list and from webhooks. A message
    that WhatsApp would refuse is refused here, where its writer can still correct it.
*/
create function private.check_known_template(content jsonb, whatsapp_channel_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    used_language constant text := coalesce(content #>> '{language,code}', content ->> 'language');
    languages text;
    template public.whatsapp_templates;
    is_known boolean;
    is_fresh boolean;
    fault record;
begin
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = check_known_template.whatsapp_channel_id
      and t.name = content ->> 'name'
      and t.language = used_language;
    is_known := found;
    -- without a recent reading only the webhooks' news is known
    is_fresh := exists (
        select
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = check_known_template.whatsapp_channel_id
          and t.synced_at > now() - interval '1 hour'
    );

    if not is_known then
        if not is_fresh then
            return;
        end if;
        select string_agg(t.language, ', ' order by t.language)
        into languages
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = check_known_template.whatsapp_channel_id
          and t.name = content ->> 'name'
          and t.status = 'APPROVED'
          and t.gone_at is null;
        perform private.refuse_content(
            case when languages is null then 'name' else 'language' end,
            'This account has no template with this name in this language.',
            coalesce(
                'It is there in: ' || languages || '.',
                'sendable_templates lists the templates that can be sent. It is updated every 15 minutes.'
            )
        );
    elsif (template.status <> 'APPROVED' or template.gone_at is not null)
        and (is_fresh or template.status_at > coalesce(template.synced_at, '-infinity'))
    then
        perform private.refuse_content(
            'name',
            format(
                'WhatsApp does not send this template now: it is %s.',
                case
                    when template.gone_at is not null then 'deleted'
                    else replace(lower(template.status), '_', ' ')
                end
            ),
            'sendable_templates lists the templates that can be sent. It is updated every 15 minutes.'
        );
    elsif template.synced_at is null or not is_fresh then
        return;
    end if;

    -- fill_template makes components of these
    if content ? 'variables' and not content ? 'components' then
        return;
    end if;
    select v.*
    into fault
    from private.template_faults(components => content -> 'components', variables => template.variables) v
    limit 1;
    if found then
        perform private.refuse_content(
            'components',
            case
                when fault.takes <> fault.received then format(
                    'This template takes %s variables in its %s; %s were given.',
                    fault.takes, fault.name, fault.received)
                else format('This template takes other variables in its %s.', fault.name)
            end,
            format('It takes: %s.', coalesce(nullif(fault.wanted, ''), 'none'))
        );
    end if;
end
$$;


create function private.template_faults(components jsonb, variables jsonb)
    returns table (name text, wanted text, takes bigint, received bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    with given as (
        select
            lower(c.value ->> 'type') as part,
            c.value ->> 'index' as index,
            p.value as parameter
        from jsonb_array_elements(
            case jsonb_typeof(components) when 'array' then components else '[]' end) as c (value)
        cross join lateral jsonb_path_query(c.value, 'strict $.parameters[*]', silent => true) as p (value)
    ),
    wanted as (
        select p.part, v.variable, split_part(v.variable, '.', 2) as key
        from unnest(array['header', 'body', 'buttons']) as p (part)
        cross join lateral jsonb_array_elements_text(
            coalesce(variables -> p.part, '[]')) as v (variable)
    )
    select
        p.part,
        coalesce((select string_agg(w.variable, ', ') from wanted w where w.part = p.part), ''),
        (select count(*) from wanted w where w.part = p.part),
        (
            select count(*)
            from given g
            where g.part = case p.part when 'buttons' then 'button' else p.part end
        )
    from unnest(array['header', 'body', 'buttons']) as p (part)
    where case p.part
        -- buttons also have parameters of other kinds
        when 'buttons' then exists (
            select
            from wanted w
            where w.part = 'buttons'
              and not exists (select from given g where g.part = 'button' and g.index = w.key)
        )
        else (select count(*) from wanted w where w.part = p.part)
                <> (select count(*) from given g where g.part = p.part)
            -- by name, if the variables have names
            or exists (
                select
                from wanted w
                where w.part = p.part
                  and w.key !~ '^[0-9]+$'
                  and not exists (
                      select
                      from given g
                      where g.part = p.part
                        and w.key in (g.parameter ->> 'parameter_name', g.parameter ->> 'type')
                  )
            )
        end;
end
$$;


comment on function private.check_known_template(jsonb, uuid) is
    'Refuses a template that WhatsApp would refuse, if the number''s templates have been read.';
comment on function private.template_faults(jsonb, jsonb) is
    'The parts of a template with wrong variables: the variables that they take, their number, and the number given.';


/*
    Fills a template by names. The writer gives the variables that sendable_templates lists. This
    makes the components that WhatsApp takes, and the text that the customer will read.
*/
create function private.filled_words(words text, section text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    rest text := words;
    filled text := '';
    place text;
begin
    -- from left to right: the text of a variable is not filled again
    loop
        place := substring(rest from '\{\{\s*[A-Za-z0-9_]+\s*\}\}');
        exit when place is null;
        filled := filled || left(rest, strpos(rest, place) - 1)
            || coalesce(variables ->> (section || '.' || btrim(place, E'{} \t\r\n')), place);
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return filled || rest;
end
$$;


create function private.filled_parameter(variable text, value jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    key constant text := split_part(variable, '.', -1);
begin
    return case
        -- a file or a location: an object, as in a message of its type
        when variable in ('header.image', 'header.video', 'header.document', 'header.location')
            then jsonb_build_object('type', key, key, value)
        when variable like 'buttons.%.code'
            then jsonb_build_object('type', 'coupon_code', 'coupon_code', value)
        when variable like 'buttons.%' or key ~ '^[0-9]+$'
            then jsonb_build_object('type', 'text', 'text', value)
        else jsonb_build_object('type', 'text', 'parameter_name', key, 'text', value)
    end;
end
$$;


create function private.check_variables(wanted jsonb, given jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    variable text;
begin
    perform private.check_object(
        'variables', given, array(select v.value #>> '{}' from jsonb_path_query(wanted, '$.*[*]') as v (value)));
    for variable in
        select v.value #>> '{}'
        from jsonb_path_query(wanted, '$.*[*]') as v (value)
    loop
        if variable in ('header.image', 'header.video', 'header.document', 'header.location') then
            perform private.check_object('variables.' || variable, given -> variable);
        else
            perform private.check_variable('variables.' || variable, given -> variable);
        end if;
    end loop;
end
$$;


create function private.filled_components(wanted jsonb, given jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    components jsonb;
begin
    select jsonb_agg(
        case p.part
            when 'buttons' then jsonb_build_object(
                'type', 'button',
                'sub_type', case when p.key = 'code' then 'copy_code' else 'url' end,
                'index', p.index,
                'parameters', p.parameters
            )
            else jsonb_build_object('type', p.part, 'parameters', p.parameters)
        end
        order by p.part <> 'header', p.part <> 'body', p.index
    )
    into components
    from (
        select
            v.part,
            v.index,
            max(v.key) as key,
            jsonb_agg(
                private.filled_parameter(variable => v.variable, value => given -> v.variable)
                order by v.ordinal
            ) as parameters
        from (
            select
                s.part,
                n.variable,
                n.ordinal,
                case when s.part = 'buttons' then split_part(n.variable, '.', 2) end as index,
                split_part(n.variable, '.', -1) as key
            from unnest(array['header', 'body', 'buttons']) as s (part)
            cross join lateral jsonb_array_elements_text(coalesce(wanted -> s.part, '[]'))
                with ordinality as n (variable, ordinal)
        ) v
        group by v.part, v.index
    ) p;

    return coalesce(components, '[]');
end
$$;


create function private.filled_template_text(components jsonb, given jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (
        select left(
            string_agg(
                private.filled_words(
                    words => c.value ->> 'text', section => lower(c.value ->> 'type'), variables => given),
                E'\n\n'
                order by c.ordinal
            ),
            4096
        )
        from jsonb_array_elements(components) with ordinality as c (value, ordinal)
        where upper(c.value ->> 'type') in ('HEADER', 'BODY', 'FOOTER')
          and c.value ->> 'text' <> ''
    );
end
$$;


create function private.fill_template(post public.messages)
    returns public.messages
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    given constant jsonb := post.content -> 'variables';
    template public.whatsapp_templates;
begin
    perform private.check_template(post.content);
    perform private.check_known_template(post.content, whatsapp_channel_id => post.whatsapp_channel_id);
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = post.whatsapp_channel_id
      and t.name = post.content ->> 'name'
      and t.language = coalesce(post.content #>> '{language,code}', post.content ->> 'language');
    if not found then
        perform private.refuse_content(
            'variables', 'This template is not known here, so it can''t be filled by names.', 'Give its components, as WhatsApp takes them.');
    elsif template.synced_at is null then
        perform private.refuse_content(
            'variables',
            'WhatsApp approved this template a moment ago, and its variables are not known here yet.',
            'Try again in some seconds, or give its components, as WhatsApp takes them.'
        );
    elsif post.content ? 'components' then
        perform private.refuse_content('variables', 'A template message can have variables or components, not both.');
    end if;
    perform private.check_variables(wanted => template.variables, given => given);

    post.content := post.content || jsonb_build_object(
        'components', private.filled_components(wanted => template.variables, given => given));
    if coalesce(post.message, '') = '' then
        post.message := private.filled_template_text(components => template.components, given => given);
    end if;
    return post;
end
$$;


comment on function private.filled_words(text, text, jsonb) is
    'The text of a template''s part with its variables filled in.';
comment on function private.filled_parameter(text, jsonb) is
    'A variable in the form that WhatsApp takes.';
comment on function private.check_variables(jsonb, jsonb) is
    'Refuses variables that a template does not take, and names the first.';
comment on function private.filled_components(jsonb, jsonb) is
    'A template''s components in the form that WhatsApp takes, made from its variables.';
comment on function private.filled_template_text(jsonb, jsonb) is
    'The text of a template that the customer will read; null if it has none.';
comment on function private.fill_template(public.messages) is
    'A template message with the components made from its variables, and with the text that the customer will read.';


/*
    Conversations that the business begins. WhatsApp lets a template be the first message, so a
    reminder, or a template that is sent later, opens the conversation of a customer who has never
    written, as a message from the customer would.

    It goes to a proved identity of the customer: the number that WhatsApp knows, or else the number
    on the contact, or another one, or the user id. A number whose conversation is still another
    contact's is left out: that contact would read what this one is told.

    It comes from a number of the account that is not stopped. A reminder's rule names the number. A
    message that is sent later takes the account's only one; of several those that have the template
    come first, then the one that was used last.

    Locks: identities, contacts, conversations, as everywhere.
*/
create type private.whatsapp_address as (
    identity_kind text,
    identity_key  text,
    wa_id         text
);


create function private.whatsapp_address(
    account_id uuid,
    contact_id uuid,
    whatsapp_channel_id uuid
)
    returns private.whatsapp_address
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    address private.whatsapp_address;
begin
    select
        i.kind,
        i.match_key,
        case i.kind when 'phone' then coalesce(i.wa_id, regexp_replace(i.value, '[^0-9]', '', 'g')) end
    into address
    from public.contact_identities i
    left join public.contacts c
        on c.id = i.contact_id
    where i.contact_id = whatsapp_address.contact_id
      and i.account_id = whatsapp_address.account_id
      and (
          i.kind = 'bsuid'
          -- longer ones are ids of test numbers and groups
          or i.kind = 'phone' and i.match_key ~ '^[1-9][0-9]{6,14}$'
      )
      and not exists (
          select
          from public.conversations t
          where t.whatsapp_channel_id = whatsapp_address.whatsapp_channel_id
            and t.account_id = i.account_id
            and t.thread_key = i.kind || ':' || i.match_key
            and t.channel = 'whatsapp'
            and t.status <> 'closed'
            and t.customer_id <> i.contact_id
      )
    order by
        i.kind = 'bsuid',
        i.wa_id is null,
        i.value is distinct from c.phone,
        i.created_at,
        i.match_key
    limit 1;
    return address;
end
$$;


create function private.opening_item(
    account_id uuid,
    whatsapp_channel_id uuid,
    contact_id uuid,
    address private.whatsapp_address,
    index integer
)
    returns private.whatsapp_item
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
begin
    item.kind := 'message';
    item.index := opening_item.index;
    item.sender_type := 'operator';
    item.account_id := opening_item.account_id;
    item.whatsapp_channel_id := opening_item.whatsapp_channel_id;
    item.contact_id := opening_item.contact_id;
    item.identity_kind := address.identity_kind;
    item.identity_key := address.identity_key;
    item.wa_id := address.wa_id;
    return item;
end
$$;


create function private.number_for_template(account_id uuid, template jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with recent as materialized (
            select
                k.whatsapp_channel_id,
                row_number() over (order by a.last_message_at desc) as place
            from (
                select a.conversation_id, a.last_message_at
                from public.conversation_activity a
                where a.account_id = number_for_template.account_id
                order by a.last_message_at desc, a.conversation_id
                limit 1000
            ) a
            join public.conversations k
                on k.id = a.conversation_id
        )
        select w.id
        from public.whatsapp_channels w
        where w.account_id = number_for_template.account_id
          and w.stopped_at is null
        order by
            exists (
                select
                from public.whatsapp_templates t
                where t.account_id = w.account_id
                  and t.waba_id = w.waba_id
                  and t.name = template ->> 'name'
                  and t.language = coalesce(template #>> '{language,code}', template ->> 'language')
                  and t.status = 'APPROVED'
                  and t.gone_at is null
            ) desc,
            (select min(r.place) from recent r where r.whatsapp_channel_id = w.id),
            w.created_at,
            w.id
        limit 1
    );
end
$$;


create function private.whatsapp_thread_of_customer(customer_id uuid, template jsonb)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    kept uuid;
    thread uuid;
    number uuid;
    address private.whatsapp_address;
    opened private.whatsapp_item[];
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = whatsapp_thread_of_customer.customer_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such customer, or it is not yours to see.',
            detail = 'field: customer_id';
    elsif account not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this customer''s conversations but not write in them.',
            hint = 'Owners, admins and agents may.';
    end if;

    kept := private.contact_of_id(
        account_id => account, contact_id => whatsapp_thread_of_customer.customer_id);
    perform
    from public.contact_identities i
    where i.contact_id = kept
      and i.account_id = account
      and i.kind in ('bsuid', 'phone')
    order by i.kind, i.match_key
    for share;
    -- merged while this waited: the other contact's identities are not locked
    if kept <> private.hold_contact(account_id => account, contact_id => kept) then
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;

    select k.id
    into thread
    from public.conversations k
    join public.conversation_activity a
        on a.conversation_id = k.id
    where k.customer_id = kept
      and k.account_id = account
      and k.channel = 'whatsapp'
    order by k.status = 'closed', a.last_message_at desc, k.id
    limit 1;
    if found then
        return thread;
    elsif template is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no conversation on WhatsApp, and only a template opens one.',
            detail = 'field: template',
            hint = 'Name a template, {name, language}.';
    end if;

    number := private.number_for_template(account_id => account, template => template);
    if number is null then
        raise sqlstate 'PT409' using
            message = 'The account has no WhatsApp number that sends at present.',
            detail = 'field: customer_id',
            hint = 'whatsapp_channels.stopped_reason says why a number is stopped; resume_channel starts it again.';
    end if;
    address := private.whatsapp_address(
        account_id => account, contact_id => kept, whatsapp_channel_id => number);
    if address.identity_key is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no number that is proved, so nothing can be sent on WhatsApp.',
            detail = 'field: customer_id',
            hint = 'Write the number on the contact, or confirm the one that the customer has written (confirm_contact).';
    end if;
    opened := private.open_whatsapp_threads(array[private.opening_item(
        account_id => account,
        whatsapp_channel_id => number,
        contact_id => kept,
        address => address,
        index => 1
    )]);
    -- opened for another contact meanwhile, which the number belonged to
    if opened[1].contact_id <> kept then
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;
    return opened[1].conversation_id;
end
$$;


comment on type private.whatsapp_address is
    'To whom a conversation on WhatsApp is opened: the identity, and the exact id to write to (null of a user id).';
comment on function private.whatsapp_address(uuid, uuid, uuid) is
    'The proved identity by which a contact is written to from a number of the account; nulls where there is none.';
comment on function private.opening_item(uuid, uuid, uuid, private.whatsapp_address, integer) is
    'What open_whatsapp_threads opens a conversation for, in place of a message.';
comment on function private.number_for_template(uuid, jsonb) is
    'The account''s number from which a template opens a conversation; null where none sends.';
comment on function private.whatsapp_thread_of_customer(uuid, jsonb) is
    'The customer''s conversation on WhatsApp, the open one first; opens it for a template if there is none. Refuses callers who may not write there, and customers who can''t be written to.';


/*
    A template that is sent now to a customer, who may never have written: the conversation is opened
    and the message queued in one transaction.
*/
create function private.thread_for_template(customer_id uuid, template jsonb)
    returns uuid
    language plpgsql
    -- definer: users may not open conversations; it checks the caller
    security definer
    set search_path = ''
as $$
begin
    return private.whatsapp_thread_of_customer(
        customer_id => thread_for_template.customer_id,
        template => thread_for_template.template
    );
end
$$;

grant execute on function private.thread_for_template(uuid, jsonb) to authenticated;


create function public.send_template(customer_id uuid, template jsonb, client_ref text default null)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return public.post_message(
        conversation_id => private.thread_for_template(
            customer_id => send_template.customer_id,
            template => coalesce(send_template.template, '{}')
        ),
        type => 'template',
        content => send_template.template,
        client_ref => send_template.client_ref
    );
end
$$;

grant execute on function public.send_template(uuid, jsonb, text) to authenticated;


comment on function private.thread_for_template(uuid, jsonb) is
    'The customer''s conversation on WhatsApp for a template of the caller''s, which opens it if there is none.';
comment on function public.send_template(uuid, jsonb, text) is
    'Sends a template on WhatsApp to a customer, and opens the conversation if the customer has never written; template is {name, language, variables}. Returns the message; one with the same client_ref is sent once. A customer without a proved number is refused (422), and so is an account whose numbers are all stopped (409).'
    ' Type: messages';


/*
    A pause: a person has nothing sent from a number, or from all numbers of an account. What is
    written meanwhile waits, and what comes in is stored and shown as always. The pause ends by a
    person's choice: what waits is then sent, or withdrawn.

    A number and its account are paused apart: a number sends when neither is. The sync with
    Metakocka has a switch of its own, metakocka_connections.active.
*/
create function private.require_pause_rights(account_id uuid, channel_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.require_member(account_id);
    if account_id not in (select private.my_admin_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not pause or resume this account.',
            detail = 'field: account_id',
            hint = 'Its owners and admins may.';
    elsif channel_id is not null and not exists (
        select
        from public.whatsapp_channels w
        where w.id = channel_id
          and w.account_id = require_pause_rights.account_id
    ) then
        raise sqlstate 'PT404' using
            message = 'There is no such number of this account.',
            detail = 'field: channel_id',
            hint = 'Give the id of one of its whatsapp_channels, or none for all of them.';
    end if;
end
$$;


create function private.waiting_to_send(account_id uuid, channel_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from private.outbound_queue q
        join public.whatsapp_channels w
            on w.id = q.whatsapp_channel_id
        where w.account_id = waiting_to_send.account_id
          and (channel_id is null or w.id = channel_id)
          and q.state <> 'sending'
    );
end
$$;


create function private.sent_now(account_id uuid, channel_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from private.outbound_queue q
        join public.whatsapp_channels w
            on w.id = q.whatsapp_channel_id
        join public.accounts a
            on a.id = w.account_id
        where w.account_id = sent_now.account_id
          and (channel_id is null or w.id = channel_id)
          and q.state <> 'sending'
          and w.paused_at is null
          and w.stopped_at is null
          and a.paused_at is null
    );
end
$$;


create function private.set_pause(account_id uuid, channel_id uuid, is_paused boolean)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if channel_id is null then
        update public.accounts a
        set paused_at = case when is_paused then now() end
        where a.id = set_pause.account_id
          and (a.paused_at is null) = is_paused;
    else
        update public.whatsapp_channels w
        set paused_at = case when is_paused then now() end
        where w.id = channel_id
          and w.account_id = set_pause.account_id
          and (w.paused_at is null) = is_paused;
    end if;
    if not is_paused then
        perform private.ring('deliver_outbound');
        perform private.ring('send_later');
    end if;
end
$$;


create function private.withdraw_waiting(account_id uuid, channel_id uuid, batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    picked uuid[];
    withdrawn integer;
    cancelled integer := 0;
begin
    -- a message's row before its row in the queue, as in settle_send
    picked := array(
        select m.id
        from public.messages m
        where m.id in (
            select q.message_id
            from private.outbound_queue q
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            where w.account_id = withdraw_waiting.account_id
              and (channel_id is null or w.id = channel_id)
              and q.state <> 'sending'
            order by q.message_id
            limit batch
        )
        order by m.id
        for no key update
    );
    -- a worker that has leased one checks once more before its call
    with gone as (
        delete from private.outbound_queue q
        where q.message_id = any (picked)
          and q.state <> 'sending'
        returning q.message_id
    )
    update public.messages m
    set status = 'failed',
        failed_at = now(),
        error_message = 'The message was withdrawn before it was sent.'
    from gone g
    where m.id = g.message_id
      and m.status = 'queued';
    get diagnostics withdrawn = row_count;

    if channel_id is null then
        -- what became due meanwhile: scheduled messages, and reminders
        with due as (
            select s.id
            from public.scheduled_messages s
            where s.account_id = withdraw_waiting.account_id
              and s.status = 'waiting'
              and s.due_at <= now()
            order by s.id
            limit batch - withdrawn
            for no key update
        )
        update public.scheduled_messages s
        set status = 'cancelled'
        from due d
        where s.id = d.id;
        get diagnostics cancelled = row_count;

        update public.reminder_rules r
        set active_since = now()
        where r.account_id = withdraw_waiting.account_id
          and r.is_active
          and r.active_since < now();
    end if;
    return withdrawn + cancelled;
end
$$;


create function private.end_pause(account_id uuid, channel_id uuid, withdraw boolean)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    -- as many as one call changes in some hundred milliseconds
    batch constant integer := 500;
    is_paused boolean;
    withdrawn integer := 0;
begin
    is_paused := case
        when channel_id is null then (
            select a.paused_at is not null
            from public.accounts a
            where a.id = end_pause.account_id
        )
        else (
            select w.paused_at is not null
            from public.whatsapp_channels w
            where w.id = channel_id
        )
    end;
    -- of what is not paused nothing waits for a decision
    if is_paused and withdraw then
        withdrawn := private.withdraw_waiting(
            account_id => account_id, channel_id => channel_id, batch => batch);
    end if;
    if is_paused and withdrawn < batch then
        perform private.set_pause(
            account_id => account_id, channel_id => channel_id, is_paused => false);
        is_paused := false;
    end if;
    return jsonb_build_object(
        'is_paused', is_paused,
        'withdrawn', withdrawn,
        'waiting', case
            when is_paused
                then private.waiting_to_send(account_id => account_id, channel_id => channel_id)
            else private.sent_now(account_id => account_id, channel_id => channel_id)
        end
    );
end
$$;


create function private.pause_for_user(account_id uuid, channel_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write numbers; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.require_pause_rights(account_id => account_id, channel_id => channel_id);
    perform private.set_pause(account_id => account_id, channel_id => channel_id, is_paused => true);
end
$$;

grant execute on function private.pause_for_user(uuid, uuid) to authenticated;


create function private.resume_for_user(account_id uuid, channel_id uuid, withdraw boolean)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.require_pause_rights(account_id => account_id, channel_id => channel_id);
    return private.end_pause(
        account_id => account_id, channel_id => channel_id, withdraw => coalesce(withdraw, false));
end
$$;

grant execute on function private.resume_for_user(uuid, uuid, boolean) to authenticated;


create function public.pause_sending(account_id uuid, channel_id uuid default null)
    returns void
    language sql
    set search_path = ''
as $$
    select private.pause_for_user(pause_sending.account_id, pause_sending.channel_id)
$$;

grant execute on function public.pause_sending(uuid, uuid) to authenticated;


create function public.resume_sending(
    account_id uuid,
    channel_id uuid default null,
    withdraw boolean default false
)
    returns jsonb
    language sql
    set search_path = ''
as $$
    select private.resume_for_user(
        resume_sending.account_id, resume_sending.channel_id, resume_sending.withdraw)
$$;

grant execute on function public.resume_sending(uuid, uuid, boolean) to authenticated;


/*
    What a command names: a number, by Meta's id, by its own id or as people write it; or an account,
    by its external id or its id.
*/
create function private.named_to_pause(named text, out account_id uuid, out channel_id uuid)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    digits constant text := regexp_replace(named, '[^0-9]', '', 'g');
    found_ids uuid[];
begin
    select array_agg(w.id), (array_agg(w.account_id))[1]
    into found_ids, account_id
    from public.whatsapp_channels w
    where w.phone_number_id = named
       or w.id::text = lower(named)
       or digits <> ''
          and named ~ '^[+0-9 ()/.-]+$'
          and regexp_replace(w.display_phone_number, '[^0-9]', '', 'g') = digits;
    if cardinality(found_ids) > 1 then
        raise sqlstate 'PT409' using
            message = format('%s numbers are written like this.', cardinality(found_ids)),
            detail = 'field: named',
            hint = 'Give Meta''s phone_number_id.';
    end if;
    channel_id := found_ids[1];
    if channel_id is null then
        account_id := private.account_named(named);
    end if;
exception
    when sqlstate 'PT404' then
        raise sqlstate 'PT404' using
            message = format('There is no such number and no such account: %s.', left(named, 100)),
            detail = 'field: named',
            hint = 'Give a phone_number_id, or the external_id or the id of an account. `rapport account list` shows them.';
end
$$;


create function backend.pause_sending(named text)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    target record := private.named_to_pause(named);
begin
    perform private.set_pause(
        account_id => target.account_id, channel_id => target.channel_id, is_paused => true);
    return jsonb_build_object(
        'account_id', target.account_id,
        'channel_id', target.channel_id,
        'waiting', private.waiting_to_send(
            account_id => target.account_id, channel_id => target.channel_id)
    );
end
$$;

grant execute on function backend.pause_sending(text) to service_role;


create function backend.resume_sending(named text, withdraw boolean default false)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    target record := private.named_to_pause(named);
    resumed jsonb;
begin
    -- the people who run the deployment have solved at Meta what stopped it
    update public.whatsapp_channels w
    set stopped_at = null,
        stopped_code = null,
        stopped_reason = null
    where w.id = target.channel_id
      and w.stopped_at is not null;
    if found then
        perform private.ring('deliver_outbound');
    end if;
    -- a statement of its own: the next one sees what has changed
    resumed := private.end_pause(
        account_id => target.account_id, channel_id => target.channel_id, withdraw => withdraw);
    return resumed
        || jsonb_build_object(
            'account_id', target.account_id,
            'channel_id', target.channel_id,
            'is_account_paused', (
                select a.paused_at is not null
                from public.accounts a
                where a.id = target.account_id
            ),
            'paused_numbers', (
                select coalesce(
                    jsonb_agg(w.display_phone_number order by w.display_phone_number), '[]')
                from public.whatsapp_channels w
                where w.account_id = target.account_id
                  and (target.channel_id is null or w.id = target.channel_id)
                  and w.paused_at is not null
            )
        );
end
$$;

grant execute on function backend.resume_sending(text, boolean) to service_role;


comment on function private.require_pause_rights(uuid, uuid) is
    'Refuses a caller who is neither owner nor admin of the account, and a number of another account.';
comment on function private.sent_now(uuid, uuid) is
    'How many messages of a number, or of an account, nothing holds: neither a pause nor a stop.';
comment on function private.waiting_to_send(uuid, uuid) is
    'How many messages wait to be sent from a number, or from all numbers of an account.';
comment on function private.set_pause(uuid, uuid, boolean) is
    'Pauses or resumes a number, or without one the account itself. Repeating it changes nothing.';
comment on function private.withdraw_waiting(uuid, uuid, integer) is
    'Withdraws at most batch messages that wait, and of an account what became due during its pause; returns their number.';
comment on function private.end_pause(uuid, uuid, boolean) is
    'Ends a pause, after withdrawing what waits if that is wanted: {is_paused, withdrawn, waiting}. Where very much waits, it is called again while is_paused.';
comment on function private.pause_for_user(uuid, uuid) is
    'See public.pause_sending.';
comment on function private.resume_for_user(uuid, uuid, boolean) is
    'See public.resume_sending. A number that WhatsApp had stopped sends again as well. paused_numbers and is_account_paused: what is still paused.';
comment on function public.pause_sending(uuid, uuid) is
    'Has nothing sent from a WhatsApp number of the account any more, or without a number from the whole account: no message, no read mark, and of the account nothing that is sent later and no reminder. What comes in is stored and shown. For owners and admins.';
comment on function public.resume_sending(uuid, uuid, boolean) is
    'Ends the pause of a number, or without one that of the account. What waits is sent, or with withdraw withdrawn: messages become failed, scheduled messages that were due cancelled, and reminders that were due are left out. It withdraws 500 at a time: call it again while is_paused. waiting: the messages that are sent now; those of numbers that are still paused or stopped are not counted. For owners and admins.'
    ' Type: {is_paused: boolean, withdrawn: integer, waiting: integer}';
comment on function private.named_to_pause(text) is
    'The number or the account that a command names; channel_id is null for an account.';
comment on function backend.pause_sending(text) is
    'Pauses a number or an account, as a command names it: {account_id, channel_id, waiting}.';
comment on function backend.resume_sending(text, boolean) is
    'Resumes a number or an account, as a command names it; as public.resume_sending: {account_id, channel_id, is_paused, withdrawn, waiting}.';


/*
    Redriving: what failed is put back by a person's choice, once its cause is mended. Everything is
    looked at first, and what can't be put back is counted by its reason:

        uncertain        WhatsApp may have it: it is sent again on request only
        too_early        its outcome may still come by itself
        dropped          a person has withdrawn or dropped it
        not_ours         it came from WhatsApp or from the phone app
        contact_deleted  its contact was deleted
        window_closed    it is no template, and WhatsApp's window is closed
        rests            WhatsApp would refuse it again today

    A message that is put back is queued, so a second redrive does not find it.
*/
create function private.redrive_obstacle(failed public.messages, uncertain boolean)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- an attempt before the last one may have arrived as well
    is_uncertain constant boolean := failed.status = 'unknown' or exists (
        select
        from private.outbound_attempts t
        where t.message_id = failed.id
          and coalesce(t.outcome, 'unknown') = 'unknown'
    );
begin
    return case
        when failed.sender_type = 'client'
            or failed.whatsapp_channel_id is null
            or failed.provider_id is not null and not exists (
                select
                from private.outbound_attempts t
                where t.message_id = failed.id
            )
            then 'not_ours'
        -- every other failure has a code
        when failed.status = 'failed' and failed.error_code is null then 'dropped'
        when exists (
            select
            from public.contacts c
            where c.id = failed.customer_id
              and c.deleted_at is not null
        ) then 'contact_deleted'
        when failed.type <> 'template'
            and coalesce(private.window_closes_at(failed.conversation_id), '-infinity') <= now()
            then 'window_closed'
        when failed.failed_at > now() - (
            select e.rest
            from private.send_errors e
            where e.code = failed.error_code
        ) then 'rests'
        when is_uncertain and not uncertain then 'uncertain'
        when failed.status = 'unknown' and exists (
            select
            from private.outbound_attempts t
            where t.message_id = failed.id
              and t.ended_at > now() - interval '2 minutes'
        ) then 'too_early'
    end;
end
$$;


create function backend.redrive_messages(
    account text default null,
    message_id uuid default null,
    since timestamptz default null,
    uncertain boolean default false,
    dry_run boolean default true,
    -- what the call before answered
    after uuid default null,
    batch integer default 200
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    candidates uuid[];
    failed public.messages;
    obstacle text;
    good uuid[] := '{}';
    left_out jsonb := '{}';
begin
    candidates := array(
        select f.message_id
        from private.message_failures f
        where (owner_id is null or f.account_id = owner_id)
          and (redrive_messages.message_id is null or f.message_id = redrive_messages.message_id)
          and (since is null or f.failed_at >= since)
          and (after is null or f.message_id > after)
        order by f.message_id
        limit least(greatest(batch, 1), 1000)
    );
    for failed in
        select m.*
        from public.messages m
        where m.id = any (candidates)
          and m.status in ('failed', 'unknown')
        order by m.id
        for no key update
    loop
        obstacle := private.redrive_obstacle(failed => failed, uncertain => uncertain);
        if obstacle is null then
            good := good || failed.id;
        else
            left_out := left_out || jsonb_build_object(
                obstacle, coalesce((left_out ->> obstacle)::integer, 0) + 1);
        end if;
    end loop;

    if not dry_run and good <> '{}' then
        update public.messages m
        set status = 'queued',
            -- the earlier attempts keep their ids
            provider_id = null,
            failed_at = null,
            error_code = null,
            error_message = null
        where m.id = any (good);
        perform private.enqueue_messages(good);
    end if;
    return jsonb_build_object(
        'redriven', cardinality(good),
        'left_out', left_out,
        'after', case
            when cardinality(candidates) = least(greatest(batch, 1), 1000)
                then candidates[cardinality(candidates)]
        end
    );
end
$$;

grant execute on function backend.redrive_messages(
    text, uuid, timestamptz, boolean, boolean, uuid, integer
) to service_role;


create function backend.redrive_notifications(account text default null, dry_run boolean default true)
    returns integer
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    waiting uuid[];
begin
    -- a push that a worker has is being sent; one that was refused for good is forgotten
    waiting := array(
        select q.id
        from private.push_queue q
        join public.push_subscriptions s
            on s.id = q.subscription_id
        where q.worker is null
          and greatest(q.not_before, s.not_before) > clock_timestamp()
          and (owner_id is null or q.account_id = owner_id)
        order by q.id
    );
    if not dry_run and waiting <> '{}' then
        -- the device before its pushes, as in settle_push
        with devices as (
            select s.id
            from public.push_subscriptions s
            where s.id in (
                select q.subscription_id
                from private.push_queue q
                where q.id = any (waiting)
            )
            order by s.id
            for no key update
        )
        update public.push_subscriptions s
        set not_before = clock_timestamp()
        from devices d
        where s.id = d.id
          and s.not_before > clock_timestamp();
        update private.push_queue q
        set not_before = clock_timestamp()
        where q.id = any (waiting)
          and q.worker is null;
        perform private.ring('send_notifications');
    end if;
    return cardinality(waiting);
end
$$;

grant execute on function backend.redrive_notifications(text, boolean) to service_role;


create function backend.redrive_files(
    account text default null,
    message_id uuid default null,
    since timestamptz default null,
    dry_run boolean default true
)
    returns integer
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
    failed uuid[];
begin
    failed := array(
        select f.id
        from public.message_media f
        where f.state = 'failed'
          and f.provider_id is not null
          and (owner_id is null or f.account_id = owner_id)
          and (redrive_files.message_id is null or f.message_id = redrive_files.message_id)
          and (since is null or f.created_at >= since)
          -- WhatsApp keeps a file for 7 days
          and f.created_at > now() - interval '7 days'
        order by f.id
        limit 1000
        for no key update skip locked
    );
    if not dry_run and failed <> '{}' then
        insert into private.media_queue as q (media_id, expires_at)
        select f.id, private.media_expires_at(m.sent_at)
        from public.message_media f
        join public.messages m
            on m.id = f.message_id
        where f.id = any (failed)
        on conflict on constraint media_queue_pkey do nothing;
        update public.message_media f
        set state = 'pending',
            error = null
        where f.id = any (failed);
        perform private.ring('fetch_media');
    end if;
    return cardinality(failed);
end
$$;

grant execute on function backend.redrive_files(text, uuid, timestamptz, boolean) to service_role;


/*
    Stored webhooks of which some update could not be applied. The account is that of the numbers and
    the WhatsApp Business accounts which the rejections name.
*/
create function backend.rejected_webhooks(
    after_id bigint,
    page_size integer,
    account text default null,
    event_id bigint default null,
    since timestamptz default null
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := case
        when account is not null then private.account_named(account)
    end;
begin
    return (
        with page as (
            select e.id, e.body
            from private.webhook_events e
            where e.rejected <> '[]'
              and e.id > after_id
              and (rejected_webhooks.event_id is null or e.id = rejected_webhooks.event_id)
              and (since is null or e.received_at >= since)
              and (
                  owner_id is null
                  or exists (
                      select
                      from jsonb_array_elements(e.rejected) r
                      join public.whatsapp_channels w
                          on w.phone_number_id = r.value ->> 'phone_number_id'
                          or w.waba_id = r.value ->> 'waba_id'
                      where w.account_id = owner_id
                  )
              )
            order by e.id
            limit least(greatest(page_size, 1), 1000)
        ),
        sized as (
            select p.*, sum(octet_length(p.body)) over (order by p.id) as bytes
            from page p
        )
        select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'body', s.body) order by s.id), '[]')
        from sized s
        -- as read_webhook_events
        where s.bytes <= 4 * 1024 * 1024
           or s.bytes = octet_length(s.body)
    );
end
$$;

grant execute on function backend.rejected_webhooks(bigint, integer, text, bigint, timestamptz)
    to service_role;


create function backend.numbers_of(account text)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(account);
begin
    return (
        select jsonb_build_object(
            'phone_number_ids', coalesce(jsonb_agg(w.phone_number_id), '[]'),
            'waba_ids', coalesce(jsonb_agg(distinct w.waba_id) filter (where w.waba_id is not null), '[]')
        )
        from public.whatsapp_channels w
        where w.account_id = owner_id
    );
end
$$;

grant execute on function backend.numbers_of(text) to service_role;


comment on function private.redrive_obstacle(public.messages, boolean) is
    'Why a message that failed, or may have, can''t be sent again; null where it can.';
comment on function backend.redrive_messages(
    text, uuid, timestamptz, boolean, boolean, uuid, integer
) is
    'Queues messages of the last 30 days again that failed, and with uncertain those that WhatsApp may have: {redriven, left_out: {reason: number}, after}. With dry_run it only counts. Call it again with after until that is null.';
comment on function backend.redrive_notifications(text, boolean) is
    'Lets notifications go now that wait for another try; returns their number. With dry_run it only counts.';
comment on function backend.redrive_files(text, uuid, timestamptz, boolean) is
    'Has files of the last 7 days fetched again that failed, 1,000 at most; returns their number. With dry_run it only counts.';
comment on function backend.rejected_webhooks(bigint, integer, text, bigint, timestamptz) is
    'The raw events after an id with updates that could not be applied, in the order of id: [{id, body}]. None at the end.';
comment on function backend.numbers_of(text) is
    'The ids by which webhooks name an account: {phone_number_ids, waba_ids}.';


/*
    Media types in the spellings of others: large or small letters, blanks around semicolons, values
    with or without quotation marks. One spelling is kept, so all comparisons give the same result.
    (Source: RFC 9110, section 8.3.1.)
*/
create function private.mime_type_of(words text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    token constant text := '[!#$%&''*+.^_`|~0-9A-Za-z-]+';
    quoted constant text := '"(?:[^"\\\u0001-\u0008\u000a-\u001f\u007f]|\\[^\u0001-\u0008\u000a-\u001f\u007f])*"';
    parameter constant text := format(';[ \t]*(?:(%s)=(%s|%s))?[ \t]*', token, token, quoted);
    parts constant text[] := regexp_match(
        words, format('^[ \t]*(%s/%s)[ \t]*((?:%s)*)$', token, token, parameter));
    written text := lower(parts[1]);
    found text[];
    value text;
begin
    if parts is null then
        return null;
    end if;
    for found in
        select p.part
        from regexp_matches(parts[2], parameter, 'g') as p (part)
        where p.part[1] is not null
    loop
        value := found[2];
        -- quotation marks mean nothing around a value that does not need them
        if value ~ format('^"%s"$', token) then
            value := btrim(value, '"');
        end if;
        written := format('%s; %s=%s', written, lower(found[1]), value);
    end loop;
    return written;
end
$$;


create function private.bare_mime_type(mime_type text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return split_part(mime_type, ';', 1);
end
$$;


comment on function private.mime_type_of(text) is
    'A media type in its one spelling, such as audio/ogg; codecs=opus. Null for a text that is none.';
comment on function private.bare_mime_type(text) is
    'A media type from mime_type_of without its parameters.';


/*
    The file of a message: WhatsApp's facts about it, and whether we have it. WhatsApp deletes a
    customer's file after 7 days, and then nobody has it. So fetching it is a job of its own: the
    message is kept, even if its file is lost.
*/
create table public.message_media (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- null in a group
    customer_id     uuid,
    -- a message from WhatsApp has one file
    message_id      uuid not null
                    constraint message_media_message_id_key unique
                    constraint message_media_message_id_fkey
                    references public.messages on delete cascade,
    -- WhatsApp's id of the file. It becomes a part of an address that we call with our token, so it
    -- has no characters with a meaning there.
    provider_id     text
                    constraint message_media_provider_id_check
                    check (provider_id ~ '^[A-Za-z0-9_-]{1,128}$'),
    -- the sender's word: kept, never trusted
    mime_type       text
                    constraint message_media_mime_type_check check (length(mime_type) <= 255),
    file_name       text
                    constraint message_media_file_name_check check (length(file_name) <= 255),
    size            bigint
                    constraint message_media_size_check check (size >= 0),
    sha256          text
                    constraint message_media_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
    -- its key in the bucket, now or later; always under the account's own prefix
    object_key      text not null
                    constraint message_media_object_key_check
                    check (object_key like account_id::text || '/%'),
    state           text not null default 'pending'
                    constraint message_media_state_check
                    check (state in ('pending', 'stored', 'failed', 'expired')),
    error           text,
    stored_at       timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    -- a conversation given to another contact takes its files with it
    constraint message_media_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint message_media_outcome_check check (
        (state = 'stored') = (stored_at is not null)
        and (state in ('failed', 'expired')) = (error is not null)
    )
);
alter table public.message_media enable row level security;


-- a file is deleted from the bucket once no message has it any more
create index message_media_object_key_idx on public.message_media (object_key);

create index message_media_conversation_idx
    on public.message_media (conversation_id, account_id, customer_id);


grant select on public.message_media to authenticated;


create trigger _050_keep_owner
    before update of account_id, conversation_id, message_id on public.message_media
    for each row
    when (
        (new.account_id, new.conversation_id, new.message_id)
        is distinct from
        (old.account_id, old.conversation_id, old.message_id)
    )
    execute function private.tg__keep_owner('account_id', 'conversation_id', 'message_id');

create trigger _100_stamp_change
    before update on public.message_media
    for each row
    execute function private.tg__stamp_change();


create function private.sha256_hex(digest text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- WhatsApp writes it in base64 in webhooks and in hex elsewhere
    return case
        when digest ~ '^[A-Za-z0-9+/]{43}=$' then encode(decode(digest, 'base64'), 'hex')
        when digest ~* '^[0-9a-f]{64}$' then lower(digest)
    end;
end
$$;


create function private.expect_media(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    is_waiting boolean;
begin
    -- no value from the sender may make the message fail
    with files as materialized (
        select
            gen_random_uuid() as id,
            m.id as message_id,
            m.account_id,
            m.conversation_id,
            m.customer_id,
            m.sent_at,
            m.content -> m.type as file,
            substring(m.content -> m.type ->> 'id' from '^[A-Za-z0-9_-]{1,128}$') as provider_id
        from public.messages m
        where m.id = any (message_ids)
    ),
    expected as (
        insert into public.message_media (
            id, account_id, conversation_id, customer_id, message_id, provider_id, mime_type,
            file_name, sha256, object_key, state, error
        )
        select
            f.id,
            f.account_id,
            f.conversation_id,
            f.customer_id,
            f.message_id,
            f.provider_id,
            left(
                coalesce(
                    private.mime_type_of(left(f.file ->> 'mime_type', 255)),
                    f.file ->> 'mime_type'
                ),
                255
            ),
            left(f.file ->> 'filename', 255),
            private.sha256_hex(f.file ->> 'sha256'),
            concat_ws('/', f.account_id, f.message_id, f.id),
            case when f.provider_id is null then 'failed' else 'pending' end,
            case when f.provider_id is null then 'WhatsApp gave no file with this message.' end
        from files f
    ),
    queued as (
        insert into private.media_queue (media_id, expires_at)
        select f.id, private.media_expires_at(f.sent_at)
        from files f
        where f.provider_id is not null
        returning media_id
    )
    select exists (select from queued)
    into is_waiting;

    if is_waiting then
        perform private.ring('fetch_media');
    end if;
end
$$;


create function private.take_back_media(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- the file first and then its job, as where a worker settles it
    update public.message_media f
    set state = 'expired',
        error = 'The sender deleted this file.',
        stored_at = null,
        -- The facts about the file go too. Its key stays, so that the file can be removed from the
        -- bucket.
        provider_id = null,
        mime_type = null,
        file_name = null,
        size = null,
        sha256 = null
    where f.message_id = take_back_media.message_id
      and (
          f.state <> 'expired'
          or num_nonnulls(f.provider_id, f.mime_type, f.file_name, f.size, f.sha256) > 0
      );

    delete from private.media_queue q
    using public.message_media f
    where f.message_id = take_back_media.message_id
      and q.media_id = f.id;
end
$$;


comment on table public.message_media is
    'The files of messages, at most one for each message. GET /api/messages/{message_id}/media returns the address of the file.';
comment on column public.message_media.id is
    'Identifies the file.';
comment on column public.message_media.account_id is
    'The account of the conversation.';
comment on column public.message_media.conversation_id is
    'The conversation.';
comment on column public.message_media.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.message_media.message_id is
    'The message to which the file belongs.';
comment on column public.message_media.provider_id is
    'WhatsApp''s id of the file. WhatsApp keeps the file for 7 days after the message.';
comment on column public.message_media.mime_type is
    'The media type, such as image/jpeg, as the sender says. Check the file before you show it by this type.';
comment on column public.message_media.file_name is
    'The file''s name, as the sender says; null where there is none.';
comment on column public.message_media.size is
    'The size in bytes; null until the file is stored.';
comment on column public.message_media.sha256 is
    'The SHA-256 of the file in hex. A stored file has been checked against it.';
comment on column public.message_media.object_key is
    'The file''s key in the bucket, under the account''s own prefix. GET /api/messages/{message_id}/media gives an address.';
comment on column public.message_media.state is
    'pending: it is being fetched; stored: it can be read; failed: refetch_media tries again; expired: WhatsApp no longer has it, the sender deleted it, or the account keeps files for a time only.';
comment on column public.message_media.error is
    'Why it failed or expired, in a sentence; null otherwise.';
comment on column public.message_media.stored_at is
    'When the file was stored (server time, UTC); null until then.';
comment on column public.message_media.created_at is
    'When the message brought the file (server time, UTC).';
comment on column public.message_media.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.message_media.version is
    'Rises by 1 with each change of the row.';
comment on function private.sha256_hex(text) is
    'A SHA-256 in hex, from base64 or hex. Null for a text that is none.';
comment on function private.expect_media(uuid[]) is
    'Notes the files of messages from WhatsApp, and queues them to be fetched.';
comment on function private.take_back_media(uuid) is
    'Takes back the file of a message that its sender has deleted: it is neither fetched nor handed out.';


/*
    The types of files that WhatsApp takes, with their largest sizes.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media", "Supported media types".)
*/
create table private.media_types (
    -- the type of the message
    type      text not null,
    -- in lower case, without parameters
    mime_type text not null,
    -- in bytes
    max_size  bigint not null,

    primary key (type, mime_type)
);
alter table private.media_types enable row level security;


insert into private.media_types (type, mime_type, max_size)
values
    ('audio', 'audio/aac', 16777216),
    ('audio', 'audio/amr', 16777216),
    ('audio', 'audio/mpeg', 16777216),
    ('audio', 'audio/mp4', 16777216),
    -- with Opus, see open_upload
    ('audio', 'audio/ogg', 16777216),
    ('audio', 'audio/opus', 16777216),
    ('document', 'text/plain', 104857600),
    ('document', 'application/pdf', 104857600),
    ('document', 'application/msword', 104857600),
    ('document', 'application/vnd.ms-excel', 104857600),
    ('document', 'application/vnd.ms-powerpoint', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.presentationml.presentation', 104857600),
    ('image', 'image/jpeg', 5242880),
    ('image', 'image/png', 5242880),
    -- this is the limit for an animated sticker; others may have 100 KB, which WhatsApp itself
    -- checks
    ('sticker', 'image/webp', 512000),
    ('video', 'video/3gpp', 16777216),
    ('video', 'video/mp4', 16777216);


comment on table private.media_types is
    'The media types that WhatsApp takes in each type of message, with their largest sizes in bytes.';


/*
    Files that agents send. The agent's client puts the file into the bucket, under a key that is
    chosen here. A message then names the upload, never a key. So no message can name a file of
    another account.
*/
create table private.media_uploads (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint media_uploads_account_id_fkey
               references public.accounts on delete cascade,
    user_id    uuid not null,
    type       text not null,
    mime_type  text not null,
    file_name  text,
    -- the announced size and type; the bucket takes no other
    size       bigint not null,
    object_key text not null
               constraint media_uploads_object_key_check
               check (object_key like account_id::text || '/%'),
    created_at timestamptz not null default now()
);
alter table private.media_uploads enable row level security;


create index media_uploads_account_id_idx on private.media_uploads (account_id);


create function private.open_upload(
    conversation_id uuid,
    type text,
    mime_type text,
    size bigint,
    file_name text
)
    returns jsonb
    language plpgsql
    -- definer: users may not write uploads; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    -- with its parameters, such as the codec
    whole constant text := private.mime_type_of(open_upload.mime_type);
    thread public.conversations;
    allowed private.media_types;
    upload private.media_uploads;
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = open_upload.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      );
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', open_upload.conversation_id);
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not send files in this conversation.',
            hint = 'Owners, admins and agents may.';
    elsif thread.channel <> 'whatsapp' then
        raise sqlstate 'PT422' using
            message = 'Files can only be sent on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Name a conversation whose channel is whatsapp.';
    end if;

    select t.*
    into allowed
    from private.media_types t
    where t.type = open_upload.type
      and t.mime_type = private.bare_mime_type(whole);
    if whole is null then
        raise sqlstate 'PT422' using
            message = 'This is not a media type.',
            detail = 'field: mime_type',
            hint = 'Write it as type/subtype, such as image/jpeg or audio/ogg; codecs=opus.';
    elsif whole ~* '^audio/ogg;.* codecs=' and whole !~* ' codecs=opus(;|$)' then
        raise sqlstate 'PT422' using
            message = 'WhatsApp takes Ogg only with the codec Opus.',
            detail = 'field: mime_type',
            hint = 'Record audio/ogg; codecs=opus.';
    elsif allowed.mime_type is null then
        raise sqlstate 'PT422' using
            message = 'WhatsApp does not take files of this type.',
            detail = 'field: mime_type',
            hint = coalesce(
                (
                    select format('As %s it takes: %s.', open_upload.type,
                        string_agg(t.mime_type, ', ' order by t.mime_type))
                    from private.media_types t
                    where t.type = open_upload.type
                    having count(*) > 0
                ),
                'Types: audio, document, image, sticker, video.'
            );
    elsif size is null or size not between 1 and allowed.max_size then
        raise sqlstate 'PT422' using
            message = format('The file has %s bytes.', coalesce(size, 0)),
            detail = 'field: size',
            hint = format('Send a file of 1 to %s bytes.', allowed.max_size);
    elsif length(file_name) > 255 then
        raise sqlstate 'PT422' using
            message = format('The file''s name has %s characters.', length(file_name)),
            detail = 'field: file_name',
            hint = 'Give a name of at most 255 characters.';
    end if;
    perform private.require_room(
        account_id => thread.account_id, kind => 'file_bytes', added => size);

    upload.id := gen_random_uuid();
    insert into private.media_uploads (
        id, account_id, user_id, type, mime_type, file_name, size, object_key
    )
    values (
        upload.id,
        thread.account_id,
        auth.uid(),
        allowed.type,
        whole,
        nullif(open_upload.file_name, ''),
        open_upload.size,
        concat_ws('/', thread.account_id, 'uploads', upload.id)
    )
    returning * into upload;
    return jsonb_build_object(
        'upload_id', upload.id,
        'object_key', upload.object_key,
        -- the media type with which the client puts the bytes into the bucket
        'mime_type', allowed.mime_type,
        'size', upload.size
    );
end
$$;

grant execute on function private.open_upload(uuid, text, text, bigint, text) to authenticated;


create function public.begin_upload(
    conversation_id uuid,
    type text,
    mime_type text,
    size bigint,
    file_name text default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.open_upload(
        conversation_id => begin_upload.conversation_id,
        type => begin_upload.type,
        mime_type => begin_upload.mime_type,
        size => begin_upload.size,
        file_name => begin_upload.file_name
    );
end
$$;

grant execute on function public.begin_upload(uuid, text, text, bigint, text) to authenticated;


create function private.check_upload(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if post.content ? 'upload_id' and not exists (
        select
        from private.media_uploads u
        where u.id = case
            when pg_input_is_valid(post.content ->> 'upload_id', 'uuid')
                then (post.content ->> 'upload_id')::uuid
        end
          and u.account_id = post.account_id
          and u.type = post.type
    ) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content.upload_id',
            hint = 'Give the upload_id that POST /api/media returned.';
    end if;
end
$$;


create function private.attach_uploads(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    attached integer;
begin
    insert into public.message_media (
        account_id, conversation_id, customer_id, message_id, mime_type, file_name, size,
        object_key, state, stored_at
    )
    select
        m.account_id,
        m.conversation_id,
        m.customer_id,
        m.id,
        u.mime_type,
        u.file_name,
        u.size,
        u.object_key,
        'stored',
        now()
    from public.messages m
    join private.media_uploads u
        on u.id = case
            when pg_input_is_valid(m.content ->> 'upload_id', 'uuid')
                then (m.content ->> 'upload_id')::uuid
        end
       and u.account_id = m.account_id
       and u.type = m.type
    where m.id = any (message_ids);
    get diagnostics attached = row_count;

    if attached < cardinality(message_ids) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content.upload_id',
            hint = 'Give the upload_id that POST /api/media returned.';
    end if;
end
$$;


create function backend.media_to_send(message_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            'object_key', f.object_key,
            'mime_type', f.mime_type,
            'file_name', f.file_name,
            'size', f.size
        )
        from public.message_media f
        where f.message_id = media_to_send.message_id
          and f.state = 'stored'
    );
end
$$;

grant execute on function backend.media_to_send(uuid) to service_role;


comment on table private.media_uploads is
    'Files that agents have put, or will put, into the bucket.';
comment on function private.open_upload(uuid, text, text, bigint, text) is
    'Chooses the place of an agent''s file, after checking the caller and the file.';
comment on function public.begin_upload(uuid, text, text, bigint, text) is
    'Announces a file to send in a conversation. size is in bytes. POST /api/media calls it and adds the address for the bytes.'
    ' Type: {upload_id: uuid, object_key: text, mime_type: text, size: bigint}';
comment on function private.check_upload(public.messages) is
    'Refuses a message that is sent later and names an upload that is not there.';
comment on function private.attach_uploads(uuid[]) is
    'Gives messages the files that were uploaded for them.';
comment on function backend.media_to_send(uuid) is
    'The file of a message: {object_key, mime_type, file_name, size}; null where the message has no file of ours.';


/*
    Files to fetch from WhatsApp: a row is a job. Fetching twice does no harm. So a lease is a time
    before which no other worker tries, and a worker that dies counts as one failed try. Tries go on
    until WhatsApp deletes the file, 7 days after the message.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media".)
*/
create table private.media_queue (
    media_id   uuid primary key
               constraint media_queue_media_id_fkey
               references public.message_media on delete cascade,
    attempts   integer not null default 0,
    worker     text,
    -- why the last try failed
    last_error text,
    -- while a worker has it: the end of its lease
    not_before timestamptz not null default now(),
    -- when WhatsApp deletes the file
    expires_at timestamptz not null
);
alter table private.media_queue enable row level security;


create index media_queue_due_idx on private.media_queue (not_before, media_id);


create function private.media_expires_at(sent_at timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a message was sent before it arrived, even if its own time is later
    return least(sent_at, now()) + interval '7 days';
end
$$;


create function private.media_wait(attempts integer)
    returns interval
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- 30 seconds, doubled each time, up to 6 hours: some 35 tries in 7 days
    return least(interval '30 seconds' * power(2, least(attempts - 1, 12)), interval '6 hours');
end
$$;


create function private.expire_media()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    expired uuid[];
begin
    -- the file first and then its job, as where a worker settles it
    expired := array(
        select f.id
        from private.media_queue q
        join public.message_media f
            on f.id = q.media_id
        where q.expires_at <= clock_timestamp()
          and q.not_before <= clock_timestamp()
          -- a message that arrived late still gets one try
          and q.attempts > 0
        for update of f, q skip locked
    );
    if expired <> '{}' then
        delete from private.media_queue q
        where q.media_id = any (expired);
        update public.message_media f
        set state = 'expired',
            error = 'WhatsApp no longer has this file.'
        where f.id = any (expired);
    end if;
end
$$;


create function backend.claim_media(worker text, batch integer default 4)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    jobs jsonb;
begin
    perform private.expire_media();

    with due as (
        select q.media_id
        from private.media_queue q
        where q.not_before <= clock_timestamp()
        order by q.not_before, q.media_id
        limit least(greatest(batch, 1), 20)
        for update skip locked
    ),
    claimed as (
        update private.media_queue q
        set attempts = q.attempts + 1,
            not_before = clock_timestamp()
                + greatest(interval '5 minutes', private.media_wait(q.attempts + 1)),
            worker = claim_media.worker
        from due d
        where q.media_id = d.media_id
        returning q.media_id
    )
    select coalesce(
        jsonb_agg(jsonb_build_object(
            'media_id', f.id,
            'account_id', f.account_id,
            'conversation_id', f.conversation_id,
            'message_id', f.message_id,
            'phone_number_id', w.phone_number_id,
            'provider_id', f.provider_id,
            'mime_type', f.mime_type,
            'sha256', f.sha256,
            'object_key', f.object_key
        )),
        '[]')
    into jobs
    from claimed c
    join public.message_media f
        on f.id = c.media_id
    join public.messages m
        on m.id = f.message_id
    join public.whatsapp_channels w
        on w.id = m.whatsapp_channel_id;
    return jobs;
end
$$;

grant execute on function backend.claim_media(text, integer) to service_role;


create function backend.settle_media(
    media_id uuid,
    worker text,
    outcome text,
    size bigint default null,
    sha256 text default null,
    mime_type text default null,
    error text default null
)
    returns text
    language plpgsql
    -- definer: as claim_media
    security definer
    set search_path = ''
as $$
declare
    job private.media_queue;
    result text := outcome;
begin
    if outcome is null or outcome not in ('stored', 'retry', 'failed') then
        raise sqlstate 'PT422' using
            message = 'There is no such outcome.',
            detail = 'field: outcome',
            hint = 'Use stored, retry or failed.';
    end if;
    perform
    from public.message_media f
    where f.id = settle_media.media_id
    for no key update;
    if not found then
        return 'gone';
    end if;
    select q.*
    into job
    from private.media_queue q
    where q.media_id = settle_media.media_id
      and q.worker = settle_media.worker
    for update;
    if not found then
        return 'settled already';
    end if;

    if outcome <> 'stored' and job.expires_at <= clock_timestamp() then
        result := 'expired';
    end if;
    if result = 'retry' then
        update private.media_queue q
        set worker = null,
            last_error = left(settle_media.error, 500),
            not_before = clock_timestamp()
                + private.media_wait(job.attempts) * (0.8 + random() * 0.4)
        where q.media_id = job.media_id;
        return 'pending';
    end if;

    delete from private.media_queue q
    where q.media_id = job.media_id;
    update public.message_media f
    set state = result,
        size = coalesce(settle_media.size, f.size),
        sha256 = coalesce(settle_media.sha256, f.sha256),
        mime_type = coalesce(
            f.mime_type,
            left(private.mime_type_of(left(settle_media.mime_type, 255)), 255),
            left(settle_media.mime_type, 255)
        ),
        stored_at = case when result = 'stored' then clock_timestamp() end,
        error = case result
            when 'failed' then left(settle_media.error, 500)
            when 'expired' then 'WhatsApp no longer has this file.'
        end
    where f.id = job.media_id;
    return result;
end
$$;

grant execute on function backend.settle_media(uuid, text, text, bigint, text, text, text)
    to service_role;


comment on table private.media_queue is
    'Files to fetch from WhatsApp. The worker claims and settles them.';
comment on column private.media_queue.not_before is
    'When the next try may begin. While a worker has the job: when its lease ends.';
comment on function private.media_expires_at(timestamptz) is
    'When WhatsApp deletes the file of a message that was sent at this time.';
comment on function private.media_wait(integer) is
    'The wait after this many tries.';
comment on function private.expire_media() is
    'Gives up files that WhatsApp has deleted.';
comment on function backend.claim_media(text, integer) is
    'Leases files to fetch now, for at least 5 minutes: [{media_id, account_id, conversation_id, message_id, phone_number_id, provider_id, mime_type, sha256, object_key}].';
comment on function backend.settle_media(uuid, text, text, bigint, text, text, text) is
    'Notes the outcome of a fetch: stored with size, sha256 and mime_type; retry or failed with error. Returns the next state, "settled already" where another worker has the lease, or "gone" where the message was erased meanwhile, with its file.';


/*
    A person asks again for a file that could not be fetched.
*/
create function private.request_media(message_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write the queue; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    media public.message_media;
begin
    select f.*
    into media
    from public.message_media f
    where f.message_id = request_media.message_id
      and (
          f.account_id in (select private.my_account_ids())
          or f.customer_id in (select private.my_customer_ids())
      )
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such file, or it is not yours to see.',
            detail = format('message: %s', request_media.message_id);
    elsif media.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not have files fetched again.',
            hint = 'Owners, admins and agents may.';
    elsif media.state = 'stored' then
        raise sqlstate 'PT409' using
            message = 'This file has been fetched already.',
            detail = 'field: state; state: stored',
            hint = 'GET /api/messages/{id}/media returns its address.';
    elsif media.state = 'expired' or media.provider_id is null then
        raise sqlstate 'PT409' using
            message = media.error,
            detail = format('field: state; state: %s', media.state),
            hint = 'Ask the person to send it again.';
    end if;

    insert into private.media_queue as q (media_id, expires_at)
    select media.id, private.media_expires_at(m.sent_at)
    from public.messages m
    where m.id = media.message_id
    on conflict on constraint media_queue_pkey do update
        -- a waiting job goes now; a job that a worker has is running already
        set not_before = clock_timestamp()
        where q.worker is null;
    update public.message_media f
    set state = 'pending',
        error = null
    where f.id = media.id
      and f.state = 'failed';
    perform private.ring('fetch_media');
end
$$;

grant execute on function private.request_media(uuid) to authenticated;


create function public.refetch_media(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.request_media(refetch_media.message_id);
end
$$;

grant execute on function public.refetch_media(uuid) to authenticated;


comment on function private.request_media(uuid) is
    'Puts a file into the queue again, after checking the caller.';
comment on function public.refetch_media(uuid) is
    'Fetches the file of a message again if it has failed. If another try is planned, it goes now.';
