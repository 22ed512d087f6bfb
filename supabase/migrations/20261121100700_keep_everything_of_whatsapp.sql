/*
    Everything that arrives by WhatsApp: usernames, changed numbers, effects, echoes, account
    events. The type of an update grows, so that all functions that read one are made anew.
*/
drop type private.whatsapp_item cascade;
drop function private.settle_message_statuses(uuid[], text[]);

alter table public.messages
    add column reactions jsonb not null default '[]',
    add column edited_at timestamptz,
    add column revoked_at timestamptz;


comment on column public.messages.sent_at is
    'When it was sent: by the provider''s clock, or for what is written here, when it was written.';

comment on column public.messages.reactions is
    'Who reacts with what: [{sender_type, sender_id, emoji, at}], the latest of each; sender_id is null outside groups.';

comment on column public.messages.edited_at is
    'When its sender edited it last; message and content are the edited ones.';

comment on column public.messages.revoked_at is
    'When its sender deleted it for everybody: message is empty and content null. The row stays, its seq with it.';


/*
    What is done to a message after it was sent: a reaction, an edit, a deletion. None of these
    is a message of its own: it has no seq, and nothing to show in the list. It is kept here, and
    what a message shows is derived from all that is known to have been done to it, so that the
    order of arrival makes no difference. What comes before its message waits here for it.

    So clients follow one kind of row: a message, which changes. Opening the 24-hour window,
    naming the sender and moving a conversation up the inbox are left to real messages.
*/
create table private.message_effects (
    -- no foreign key: it would have all effects of a number queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the effect itself; of an original, that of the message
    provider_id         text not null,
    parent_provider_id  text not null,
    kind                text not null
                        constraint message_effects_kind_check
                        -- original: the message before its first edit
                        check (kind in ('reaction', 'edit', 'revoke', 'original')),
    sender_type         text not null
                        constraint message_effects_sender_type_check
                        check (sender_type in ('client', 'operator', 'system')),
    -- who of a group; elsewhere there are but two sides
    sender_id           text,
    -- the provider's time; an original's is that of the message
    at                  timestamptz
                        constraint message_effects_at_check
                        check ((at is null) = (kind = 'original')),
    -- an emoji, null where it is taken back, or a text, null once the message is revoked
    text                text,
    content             jsonb,

    primary key (whatsapp_channel_id, provider_id)
);
alter table private.message_effects enable row level security;


create index message_effects_parent_idx
    on private.message_effects (whatsapp_channel_id, parent_provider_id);


create policy "nobody reads message effects directly"
    on private.message_effects
    for all
    to authenticated
    using (false);


/*
    Replies that came before what they answer. A row is gone once that has come.
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


create policy "nobody reads parked replies directly"
    on private.parked_replies
    for all
    to authenticated
    using (false);


comment on table private.message_effects is
    'Reactions, edits and deletions of messages, and what was edited; messages show what they amount to.';
comment on policy "nobody reads message effects directly" on private.message_effects is
    'Clients see the message.';
comment on table private.parked_replies is
    'Replies whose reply_to is not known yet.';
comment on policy "nobody reads parked replies directly" on private.parked_replies is
    'Clients see the message.';


/*
    What WhatsApp tells a business about itself: templates approved or paused, the quality of a
    number, restrictions, errors. Kept as it came, for those who administer the account.
*/
create table public.account_events (
    id             uuid primary key default gen_random_uuid(),
    account_id     uuid not null
                   constraint account_events_account_id_fkey
                   references public.accounts on delete cascade,
    -- the webhook's field, such as message_template_status_update
    type           text not null,
    -- the provider's time; null where none is said
    occurred_at    timestamptz,
    content        jsonb not null,
    -- such an event has no id: the same at the same time is the same
    content_md5    text not null generated always as (md5(content::text)) stored,
    created_at     timestamptz not null default now()
);
alter table public.account_events enable row level security;


create unique index account_events_key
    on public.account_events (account_id, type, occurred_at, content_md5)
    nulls not distinct;

create index account_events_latest_idx
    on public.account_events (account_id, created_at desc, id);


create policy "owners and admins can read what WhatsApp says of their account"
    on public.account_events
    for select
    to authenticated
    using (
        account_id = any (array(
            -- members can read who is what in their accounts
            select m.account_id
            from public.account_members m
            where m.user_id = (select auth.uid())
              and m.role in ('owner', 'admin')
        ))
    );


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
    -- a WhatsApp Business account that two accounts name says not whose it is
    accounts := array(
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = event ->> 'waba_id'
    );
    return case when cardinality(accounts) = 1 then accounts[1] end;
end
$$;


comment on table public.account_events is
    'What WhatsApp said of an account, its numbers and templates, as it came.';
comment on column public.account_events.type is
    'The field of the webhook, such as account_update; errors for those that belong to no message.';
comment on policy "owners and admins can read what WhatsApp says of their account"
    on public.account_events is
    'Limits, payment and bans concern those who administer.';
comment on function private.account_of_event(jsonb) is
    'Whose an event is, by phone_number_id or else by waba_id; null where it is not sure.';


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

    -- a message; of an echo, which is ours, whom it was sent to
    wa_id               text,
    user_id             text,
    profile_name        text,
    username            text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- what is done to a message, which reply_to names: by whom
    sender_type         text,
    sender_id           text,

    -- a message of WhatsApp's own: what takes the place of wa_id and user_id
    new_wa_id           text,
    new_user_id         text,

    -- a status
    status              text,
    at                  timestamptz,
    error_code          integer,
    error_message       text,
    -- what we called the message when we sent it
    message_ref         uuid,

    -- found out here
    account_id          uuid,
    whatsapp_channel_id uuid,
    identity_kind       text,
    identity_key        text,
    contact_id          uuid,
    conversation_id     uuid,
    -- what wa_id and user_id were until this very change
    former_wa_id        text,
    former_user_id      text,
    -- who has what they should have become
    other_contact_id    uuid
);


create or replace function private.read_whatsapp_items(items jsonb)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    read private.whatsapp_item[];
begin
    /*
        Only the number decides whose an update is. Whatever the caller said in the fields
        that are found out here is not read.
    */
    read := array(
        -- a row of casts: jsonb_populate_record looks up every column's type at each call
        select (
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'username',
            i.value ->> 'sent_at',
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'sender_type',
            i.value ->> 'sender_id',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            i.value ->> 'at',
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
        )::private.whatsapp_item
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' not in ('skipped', 'account_event')
    );
    if items @? '$[*].kind ? (@ == "account_event")' then
        read := read || private.read_account_events(items);
    end if;
    return read;
end
$$;


comment on type private.whatsapp_item is
    'One update out of a WhatsApp webhook.';
comment on function private.read_whatsapp_items(jsonb) is
    'The updates of a call that belong to a known number, each with its account.';


/*
    Events about an account, out of webhooks.
*/
create function private.read_account_events(items jsonb)
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
                'type', i.value -> 'type',
                'at', i.value -> 'at',
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
    return kept;
end
$$;


comment on function private.read_account_events(jsonb) is
    'The events of a call that belong to a known account.';
comment on function private.keep_account_events(private.whatsapp_item[]) is
    'Keeps events about accounts; returns how many were new.';


/*
    What WhatsApp said of people who changed their number or got another user id. A message
    that was sent before and comes after is found by it to be theirs; whoever has the old
    number later is somebody else.
*/
create table private.whatsapp_id_changes (
    account_id uuid not null
               constraint whatsapp_id_changes_account_id_fkey
               references public.accounts on delete cascade,
    kind       text not null
               constraint whatsapp_id_changes_kind_check check (kind in ('phone', 'bsuid')),
    -- as the match_key of an identity
    old_key    text not null,
    -- the provider's time of it
    changed_at timestamptz not null,
    -- in WhatsApp's spelling
    new_value  text not null,

    primary key (account_id, kind, old_key, changed_at)
);
alter table private.whatsapp_id_changes enable row level security;


create policy "nobody reads changes of WhatsApp ids directly"
    on private.whatsapp_id_changes
    for all
    to authenticated
    using (false);


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
    -- changes may lead back to where they began
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
    'Numbers and user ids that WhatsApp reported to be replaced by others.';
comment on policy "nobody reads changes of WhatsApp ids directly" on private.whatsapp_id_changes is
    'They are for finding the sender of a late message.';
comment on function private.identity_owner(uuid, text, text) is
    'The contact that an identity belongs to; null where nobody has it.';
comment on function private.current_whatsapp_id(uuid, text, text, timestamptz) is
    'The number or user id of today of who had this one then; the same where it is owned or no change is known.';
comment on function private.follow_id_changes(private.whatsapp_item[]) is
    'Messages by the ids that their senders have now, where they had others when they wrote.';


/*
    What a notice of WhatsApp's changes about who somebody is, and the locks that it takes to
    change it: those of a whole batch first, in their order.
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
    -- a number that is only spelt anew has one key, and changes hands with nobody
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


create function private.lock_identity_changes(changes private.identity_change[])
    returns private.identity_change[]
    language plpgsql
    set search_path = ''
as $$
/*
    Who has a new key yet is only sure when it is there and locked, so it is claimed for the
    old one's owner. Returned is what was claimed: as good as free, and to be given back if
    nothing comes of it.
*/
declare
    claimed private.identity_change[] := '{}';
    wanted record;
begin
    for wanted in
        select
            k.account_id,
            k.kind,
            k.match_key,
            (array_agg(k.new_value) filter (where k.new_value is not null))[1] as new_value,
            (array_agg(k.heir) filter (where k.heir is not null))[1] as heir
        from unnest(changes) c
        cross join lateral (
            values
                (c.account_id, c.kind, c.old_key, null, null),
                (
                    c.account_id,
                    c.kind,
                    c.new_key,
                    c.new_value,
                    private.identity_owner(
                        account_id => c.account_id, kind => c.kind, match_key => c.old_key)
                )
        ) as k (account_id, kind, match_key, new_value, heir)
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
            end if;
        end if;

        perform
        from public.contact_identities o
        where o.account_id = wanted.account_id
          and o.kind = wanted.kind
          and o.match_key = wanted.match_key
        for update;
    end loop;
    return claimed;
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
    'An identity that takes the place of another.';
comment on function private.identity_changes(private.whatsapp_item) is
    'What a notice of WhatsApp''s changes: number, user id, both or nothing.';
comment on function private.lock_identity_changes(private.identity_change[]) is
    'Locks old and new identities of a batch; returns the new ones that nobody had.';
comment on function private.claim_whatsapp_identity(uuid, text, text, uuid) is
    'Claims a number or user id for a contact; false where somebody has it.';
comment on function private.drop_identity(uuid, text, text) is
    'Gives an identity back.';
comment on function private.is_among(private.identity_change, private.identity_change[]) is
    'Whether one of the changes leads to the same identity.';


/*
    A number or user id that WhatsApp says has become another: here the identities are
    relinked. Contacts and conversations follow in their turn (624_whatsapp_moves).
*/
create function private.relink_identities(
    changes private.identity_change[],
    claimed private.identity_change[],
    out owner uuid,
    -- who has one of the new keys: then nothing is relinked
    out other uuid
)
    language plpgsql
    set search_path = ''
as $$
/*
    The changes of one notice: a number and a user id, or one of them.
*/
declare
    change private.identity_change;
    heir uuid;
    holder uuid;
begin
    foreach change in array changes loop
        owner := coalesce(
            owner,
            private.identity_owner(
                account_id => change.account_id, kind => change.kind, match_key => change.old_key)
        );
    end loop;
    if owner is null then
        return;
    end if;

    foreach change in array changes loop
        heir := coalesce(
            private.identity_owner(
                account_id => change.account_id, kind => change.kind, match_key => change.old_key),
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
            private.identity_owner(
                account_id => change.account_id, kind => change.kind, match_key => change.old_key),
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
    A notice goes on as one of who has the new number. Where somebody else has that one, it
    stays with the old one's owner, and other_contact_id says whose it is.
*/
declare
    relinked private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    changes private.identity_change[];
    claimed private.identity_change[];
    change private.identity_change;
    outcome record;
begin
    items := array(
        select i
        from unnest(items) i
        order by i.sent_at, i.provider_id
    );
    -- late news of a number that has been left as well
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

    claimed := private.lock_identity_changes(array(
        select c
        from unnest(items) i
        cross join lateral unnest(private.identity_changes(i)) c
        where i.kind = 'system'
    ));

    foreach item in array items loop
        if item.kind = 'system' then
            changes := private.identity_changes(item);
            select r.owner, r.other
            into outcome
            from private.relink_identities(changes => changes, claimed => claimed) r;

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
                -- a number that nobody has any more is claimed for nobody
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


comment on function private.relink_identities(
    private.identity_change[], private.identity_change[]
) is
    'Gives the owner the new identities for the old ones, unless another contact has one of them.';
comment on function private.relink_whatsapp_senders(private.whatsapp_item[]) is
    'Relinks what the notices of a batch change, and puts the batch in order of time.';


/*
    Usernames on WhatsApp belong to one person at a time and change hands. The latest message,
    by the provider's time, says whose one is.
*/
create type private.username_change as (
    contact_id uuid,
    match_key  text,
    -- null where somebody else has it now
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


create function private.claim_whatsapp_usernames(items private.whatsapp_item[])
    returns private.username_change[]
    language plpgsql
    set search_path = ''
as $$
declare
    changes private.username_change[] := '{}';
    stated private.whatsapp_item[];
    wanted record;
    owner uuid;
    locked_keys text[] := '{}';
begin
    stated := array(
        select distinct on (i.contact_id) i
        from unnest(items) i
        where i.username is not null
        order by i.contact_id, i.sent_at desc, i.provider_id desc
    );
    if not exists (
        select
        from unnest(stated) s
        where (
            select c.username
            from public.contacts c
            where c.id = s.contact_id
            limit 1
        ) is distinct from s.username
    ) then
        return changes;
    end if;

    -- those to claim and those to give back, in one order
    for wanted in
        select
            w.account_id,
            w.match_key,
            (array_agg(w.item order by (w.item).sent_at desc, (w.item).provider_id desc)
                filter (where (w.item).username is not null))[1] as item
        from (
            select s.account_id, private.match_key(kind => 'username', value => s.username), s
            from unnest(stated) s
            where not private.has_later_message(
                contact_id => s.contact_id, than => s.sent_at, than_provider_id => s.provider_id)
            union all
            select s.account_id, private.match_key(kind => 'username', value => c.username), null
            from unnest(stated) s
            join public.contacts c
                on c.id = s.contact_id
            where c.username is not null
        ) as w (account_id, match_key, item)
        group by w.account_id, w.match_key
        order by w.account_id, w.match_key
    loop
        loop
            if (wanted.item).username is not null then
                insert into public.contact_identities (account_id, kind, value, contact_id)
                values (
                    wanted.account_id,
                    'username',
                    (wanted.item).username,
                    (wanted.item).contact_id
                )
                on conflict do nothing;
            end if;

            select o.contact_id
            into owner
            from public.contact_identities o
            where o.account_id = wanted.account_id
              and o.kind = 'username'
              and o.match_key = wanted.match_key
            for update;
            -- given back between the two: it is free to be claimed
            exit when found or (wanted.item).username is null;
        end loop;

        locked_keys := locked_keys || wanted.match_key;
        continue when (wanted.item).username is null;
        if owner <> (wanted.item).contact_id then
            continue when private.has_later_message(
                contact_id => owner,
                than => (wanted.item).sent_at,
                than_provider_id => (wanted.item).provider_id
            );
            update public.contact_identities o
            set contact_id = (wanted.item).contact_id
            where o.account_id = wanted.account_id
              and o.kind = 'username'
              and o.match_key = wanted.match_key;
            changes := changes || (owner, wanted.match_key, null)::private.username_change;
        end if;
        changes := changes || (
            (wanted.item).contact_id, wanted.match_key, (wanted.item).username
        )::private.username_change;
    end loop;

    -- what they were called before
    delete from public.contact_identities o
    using unnest(changes) u, public.contacts c
    where c.id = u.contact_id
      and u.username is not null
      and o.account_id = c.account_id
      and o.kind = 'username'
      and o.match_key = private.match_key(kind => 'username', value => c.username)
      and o.match_key <> u.match_key
      and o.match_key = any (locked_keys)
      and o.contact_id = c.id;

    -- who lost one and has another has just that
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
    -- who has lost one may be called something else by now
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


comment on type private.username_change is
    'What a contact is called on WhatsApp from now on.';
comment on function private.has_later_message(uuid, timestamptz, text) is
    'Whether a contact has written later than that message.';
comment on function private.claim_whatsapp_usernames(private.whatsapp_item[]) is
    'Gives the usernames of senders to them, whoever had them; returns whose are others now.';
comment on function private.is_news(private.username_change, text) is
    'Whether a change changes what a contact is called.';
comment on function private.write_whatsapp_usernames(private.username_change[]) is
    'Writes usernames of contacts, which are locked.';


/*
    What a message makes look like one person, and does not prove: it is suggested.
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
    -- a number that a customer wrote down proves nothing, it may be anybody's
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
    -- known of one by number and of another by user id, or become what another is known by
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
    'Suggests that new senders are the contacts at which their number is written.';
comment on function private.suggest_same_senders(private.whatsapp_item[]) is
    'Suggests that two contacts whom one sender is known as are one.';


/*
    Somebody who writes with number and user id, and later with the user id alone, goes on in
    the same conversation: a thread follows the number, and this is which number a user id
    belongs to. Rows are written under the lock of the user id's identity.
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


create policy "nobody reads the numbers of user ids directly"
    on private.whatsapp_user_numbers
    for all
    to authenticated
    using (false);


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
    -- a number that has passed to somebody else since is no way to this person
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
                    -- a user id that takes the place of another
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
          -- whether two contacts are one is for a person to say
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
      -- two open threads are never made one
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
    'The number that belongs to a user id, as messages with both have shown.';
comment on policy "nobody reads the numbers of user ids directly" on private.whatsapp_user_numbers is
    'They are for finding the thread of a message.';
comment on type private.learnt_number is
    'A user id whose number has become known, and the contact who has both.';
comment on function private.number_of_user(uuid, text) is
    'The match_key of a user id''s number; null where it is not known.';
comment on function private.number_of_contact_user(uuid, text, uuid) is
    'The same, where the number still belongs to that contact.';
comment on function private.learn_user_numbers(private.whatsapp_item[]) is
    'Notes which numbers user ids belong to; returns what is news. Ambiguous ones are left out.';
comment on function private.write_learnt_phones(private.learnt_number[]) is
    'Writes a number at a contact, which is locked, that shows none.';
comment on function private.follow_numbers(private.whatsapp_item[]) is
    'Messages by the numbers of senders who wrote with the user id alone.';
comment on function private.move_learnt_threads(private.learnt_number[]) is
    'Threads of user ids, which are locked, go on under their numbers.';


/*
    Who sends by WhatsApp: by what each sender is known, and as which contact.

    Locks are taken in one order by all writers: identities, contacts, conversations, messages,
    each by key. (Of 24 unsorted batches 19 deadlocked, of the sorted ones none.)
*/
create or replace function private.known_whatsapp_senders(items private.whatsapp_item[])
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


create or replace function private.claim_whatsapp_ids(items private.whatsapp_item[], are_current boolean)
    returns integer
    language plpgsql
    set search_path = ''
as $$
/*
    Claimed or locked, key by key: until these messages are stored, nobody gives away what
    their senders are known by. Null where somebody just did, or what is unknown may be an id
    that was changed later; then nothing is claimed.
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
        -- one user id with a number in one message and without in another is one claim
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
        -- known ones are locked, and written only where staff noted the number and it turns
        -- out to be on WhatsApp, or is spelt differently there
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
    elsif vanished or (
        not are_current
        and exists (
            select
            from unnest(accounts, kinds, match_keys) as n (account_id, kind, match_key)
            cross join lateral (
                select h.changed_at
                from private.whatsapp_id_changes h
                where h.account_id = n.account_id
                  and h.kind = n.kind
                  and h.old_key = n.match_key
                limit 1
            ) change
        )
    ) then
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


create or replace function private.claim_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A sender is known by phone number, or by the business-scoped user id where WhatsApp
    withholds the number. An identity is claimed with the id of a contact that is written
    afterwards; a claim that comes second finds the first one's contact, and locks it, so that
    whoever deletes the contact waits for the conversation that is opened.
*/
declare
    current_items private.whatsapp_item[] := items;
    claimed integer;
begin
    for attempt in 1 .. 4 loop
        claimed := private.claim_whatsapp_ids(items => current_items, are_current => attempt > 1);
        if claimed is null then
            current_items := private.follow_id_changes(items);
            continue;
        end if;

        current_items := private.known_whatsapp_senders(current_items);
        if claimed > 0 then
            -- a user id claimed for a contact that lost its number to another session, or was
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
        message = 'Numbers were given away as fast as they were claimed.',
        hint = 'Try again.';
end
$$;


comment on function private.known_whatsapp_senders(private.whatsapp_item[]) is
    'The messages whose senders are known by all that is said of them, with their contacts.';
comment on function private.claim_whatsapp_ids(private.whatsapp_item[], boolean) is
    'Claims what senders are known by, or locks it; notes how WhatsApp spells known numbers. Returns how many are new.';
comment on function private.claim_whatsapp_senders(private.whatsapp_item[]) is
    'Finds or claims the contact of each sender.';


/*
    The contacts of WhatsApp's senders: made where they are new, and called what their latest
    message calls them.
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


comment on function private.name_whatsapp_senders(
    private.whatsapp_item[], private.username_change[]
) is
    'Writes contacts that are new, and names that have changed.';


/*
    The conversation of each WhatsApp message: found or opened, and locked. The order of locks
    is that of 620_whatsapp_senders.
*/
create or replace function private.keep_whatsapp_spelling(items private.whatsapp_item[])
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
          and i.kind <> 'echo'
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


create or replace function private.open_whatsapp_threads(items private.whatsapp_item[])
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
                  -- a notice of WhatsApp's is no reason to open a conversation again
                  and (t.status <> 'closed' or i.kind = 'system')
                order by t.status = 'closed', t.created_at desc, t.id
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and (c.status <> 'closed' or (i).kind = 'system')
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
              and (t.status <> 'closed' or i.kind = 'system')
            limit 1
        ) is null
        order by
            i.account_id,
            i.whatsapp_channel_id,
            i.identity_kind,
            i.identity_key,
            -- who is known by number may have written with the user id alone as well
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


create or replace function private.continue_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in two statements: everybody is known, by the names and the spelling that
    they give, and has an open conversation. Null, and nothing locked, where that is not so of
    all.
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
              and (i.username is null or c.username = i.username)
            limit 1
        ) named
        cross join lateral (
            select t.id, t.customer_id
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
        where i.kind in ('message', 'echo')
          and (
              i.user_id is null
              or i.identity_kind = 'bsuid'
              or (
                  select u.contact_id
                  from public.contact_identities u
                  where u.account_id = i.account_id
                    and u.kind = 'bsuid'
                    and u.match_key = i.user_id
                  limit 1
              ) = owner.contact_id
              and i.identity_key = private.number_of_user(
                  account_id => i.account_id, user_id => i.user_id)
          )
    );
    if cardinality(found_items) < cardinality(items) then
        return null;
    end if;

    threads := array(select distinct i.conversation_id from unnest(found_items) i);
    begin
        perform
        from public.conversations t
        where t.id = any (threads)
          and t.status <> 'closed'
        order by t.id
        for no key update;
        get diagnostics locked = row_count;

        if locked < cardinality(threads) then
            raise sqlstate 'RP002';
        end if;
    exception
        -- the locks go with the block: what follows begins with identities
        when sqlstate 'RP002' then
            return null;
    end;
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
    What follows a relinked number or user id: the contact's phone, and its threads, which go
    on under the new key. Of a batch's notices each moves what the one before it left.
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
                Two open threads are never made one. The old one keeps everything but its key,
                by which the next owner of the number would be let into it.
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
      -- an open thread goes on whosesoever it is, closed ones follow their customer
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
    'Gives the threads of relinked contacts, which are locked, their new keys.';


/*
    Messages that customers send by WhatsApp, those that we send from the phone app (echoes) and
    WhatsApp's own, a batch at a time, into their conversations.
*/
create or replace function private.message_by_provider_id(whatsapp_channel_id uuid, provider_id text)
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
        -- what an earlier attempt to send it was called
        (
            select t.message_id
            from private.outbound_attempts t
            where t.whatsapp_channel_id = message_by_provider_id.whatsapp_channel_id
              and t.provider_id = message_by_provider_id.provider_id
        )
    );
end
$$;


create or replace function private.answered_message(
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
    -- a customer reads nothing of another conversation, not even that something is there
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


create or replace function private.append_whatsapp_messages(items private.whatsapp_item[])
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
            case f.kind when 'system' then 'system' when 'echo' then 'operator' else 'client' end,
            case f.kind when 'message' then coalesce(f.wa_id, f.user_id) end,
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
            -- what becomes of an echo its statuses say
            case f.kind when 'echo' then 'sent' else 'delivered' end,
            f.sent_at
        from fresh f
        cross join lateral (
            select a.last_seq
            from public.conversation_activity a
            where a.conversation_id = f.conversation_id
            limit 1
        ) thread
        order by f.conversation_id, f.place
        returning conversation_id, sender_type, sent_at
    ),
    latest as (
        select
            r.conversation_id,
            count(*) as added,
            max(r.sent_at) as sent_at,
            max(r.sent_at) filter (where r.sender_type = 'client') as inbound_at
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
            last_inbound_at = greatest(a.last_inbound_at, l.inbound_at)
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


create or replace function private.apply_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    usernames private.username_change[] := '{}';
    has_notices boolean;
    may_be_two boolean;
    has_usernames boolean;
    learnt private.learnt_number[] := '{}';
begin
    if items is null then
        return 0;
    end if;

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
    end if;
    return private.append_whatsapp_messages(placed);
end
$$;


comment on function private.message_by_provider_id(uuid, text) is
    'The message that WhatsApp has called so, now or at an earlier attempt.';
comment on function private.answered_message(uuid, uuid, text) is
    'The message that a reply in a conversation refers to; null where it has not come yet.';
comment on function private.append_whatsapp_messages(private.whatsapp_item[]) is
    'Numbers and inserts what is new; returns how many.';
comment on function private.apply_whatsapp_messages(private.whatsapp_item[]) is
    'Everything that follows from a batch of received messages; returns how many were new.';


/*
    Statuses of WhatsApp messages: they arrive in any order, more than once, and sometimes
    before the message's id is known. All are kept; what a message shows is derived from all
    of them, so the order of arrival makes no difference.
*/
create or replace function private.provider_ids_of(message public.messages)
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


create or replace function private.show_message_statuses(message_ids uuid[])
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
                -- evidence of delivery outranks a failure, which stays visible as error
                when s.delivered_at is not null then 'delivered'
                when s.failed_at is not null then 'failed'
                else 'sent'
            end as status,
            s.*
        from (
            select
                min(s.at) filter (where s.status = 'sent') as sent_at,
                -- read implies delivered: WhatsApp may leave out the latter
                min(s.at) filter (where s.status in ('delivered', 'read')) as delivered_at,
                min(s.at) filter (where s.status = 'read') as read_at,
                -- an earlier attempt's failure was answered by the next attempt
                min(s.at) filter (where s.status = 'failed' and s.provider_id = k.provider_id)
                    as failed_at,
                min(s.error_code) filter (where s.provider_id = k.provider_id) as error_code,
                min(s.error_message) filter (where s.provider_id = k.provider_id) as error_message
            from private.message_statuses s
            where s.whatsapp_channel_id = k.whatsapp_channel_id
              and s.provider_id = any (private.provider_ids_of(k))
        ) s
    ) e
    where k.id = any (message_ids)
      -- what we received has no delivery of ours
      and k.sender_type <> 'client'
      -- one that is to be sent again is settled by having been delivered after all
      and (k.provider_id is not null or e.delivered_at is not null)
      and m.id = k.id;

    -- then it is not sent again
    delete from private.outbound_queue q
    using public.messages m
    where q.message_id = any (message_ids)
      and m.id = q.message_id
      and m.status in ('delivered', 'read');
end
$$;


create or replace function private.keep_whatsapp_statuses(items private.whatsapp_item[])
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


create or replace function private.attach_named_messages(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    A status that carries our own id says that WhatsApp took the message, whatever became of
    our call. The messages are locked.
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
          and private.message_by_provider_id(
              whatsapp_channel_id => i.whatsapp_channel_id, provider_id => i.provider_id) is null
        group by m.id, m.provider_id, i.provider_id
        order by m.id, min(i.at), i.provider_id
    loop
        if named.known_provider_id is null then
            perform private.attach_provider_id(
                message_id => named.id, provider_id => named.provider_id);
        end if;
        -- one attempt of several
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
    'What WhatsApp has called a message, at each attempt to send it.';
comment on function private.show_message_statuses(uuid[]) is
    'Shows on messages, which are locked, what their statuses amount to; repeating it changes nothing.';
comment on function private.keep_whatsapp_statuses(private.whatsapp_item[]) is
    'Keeps reported statuses; returns how many were news.';
comment on function private.attach_named_messages(private.whatsapp_item[]) is
    'Tells messages, which are locked, by what id WhatsApp took them.';


/*
    Reactions, edits and deletions: kept, and shown on the message that they are done to.
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


create function private.effects_of(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select e.*
    from private.message_effects e
    where e.whatsapp_channel_id = message.whatsapp_channel_id
      and e.parent_provider_id = any (private.provider_ids_of(message))
      and (
          e.kind = 'reaction'
          -- each side edits and deletes its own
          or (e.sender_type = 'client') = (message.sender_type = 'client')
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
    -- an edit of a caption need not repeat what the file is
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
    edit private.message_effects;
    original private.message_effects;
begin
    select e.*
    into edit
    from private.effects_of(message) e
    where e.kind = 'edit'
    order by e.at desc, e.provider_id desc
    limit 1;
    message.edited_at := edit.at;

    select min(e.at)
    into message.revoked_at
    from private.effects_of(message) e
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
        from private.effects_of(message) e
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
            from private.effects_of(message) e
            where e.kind = 'reaction'
            order by e.sender_type, e.sender_id, e.at desc, e.provider_id desc
        ) r
    );
    return message;
end
$$;


create function private.show_message_effects(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    changed public.messages[];
begin
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
    where m.id = any (message_ids)
      and m.provider_id is not null
      and m.revoked_at is null
      and exists (select from private.effects_of(m) e where e.kind = 'edit')
      and not exists (select from private.effects_of(m) e where e.kind = 'original')
    on conflict do nothing;

    changed := array(
        select w
        from public.messages m
        cross join lateral private.with_effects(m) w
        where m.id = any (message_ids)
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

    -- what its sender took back is not kept as history either
    delete from private.message_effects e
    using public.messages m
    where m.id = any (message_ids)
      and m.revoked_at is not null
      and e.whatsapp_channel_id = m.whatsapp_channel_id
      and e.provider_id = m.provider_id
      and e.kind = 'original';
    update private.message_effects e
    set text = null,
        content = null
    from public.messages m
    where m.id = any (message_ids)
      and m.revoked_at is not null
      and e.whatsapp_channel_id = m.whatsapp_channel_id
      and e.parent_provider_id = any (private.provider_ids_of(m))
      and num_nonnulls(e.text, e.content) > 0;
end
$$;


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


comment on function private.keep_whatsapp_effects(private.whatsapp_item[]) is
    'Keeps what was done to messages, known or not; returns how many were news.';
comment on function private.effects_of(public.messages) is
    'What was done to a message by whoever may; a side edits and deletes its own.';
comment on function private.edited_content(jsonb, jsonb) is
    'A message''s content after an edit.';
comment on function private.with_effects(public.messages) is
    'A message as it is to be shown after all that was done to it.';
comment on function private.show_message_effects(uuid[]) is
    'Shows on messages, which are locked, what was done to them; repeating it changes nothing.';
comment on function private.park_replies(private.whatsapp_item[]) is
    'Notes what a batch''s replies answer, where they do not say so yet.';
comment on function private.attach_replies(uuid[]) is
    'Tells replies, which are locked, what they answer, where that has come.';


/*
    What comes in two parts, in whatever order: a message and its statuses, its replies, what is
    done to it. Whichever comes second finds the first. So that neither of two that come at the
    same time misses the other, whoever brings a part without its message has the number for
    himself, and looks again; whoever brings messages shares it.
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


create function private.lock_whatsapp_numbers(whatsapp_channel_ids uuid[], alone boolean)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    number bigint;
begin
    -- before all other locks, which are taken under it
    for number in
        select private.whatsapp_number_lock(c)
        from unnest(whatsapp_channel_ids) c
        order by 1
    loop
        if alone then
            perform pg_advisory_xact_lock(number);
        else
            perform pg_advisory_xact_lock_shared(number);
        end if;
    end loop;
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
begin
    return array(
        -- what a status or an effect is about, and what something has waited for
        select private.message_by_provider_id(
            whatsapp_channel_id => i.whatsapp_channel_id,
            provider_id => case when i.kind = 'effect' then i.reply_to else i.provider_id end
        )
        from unnest(items) i
        where i.kind in ('status', 'effect', 'echo')
           or exists (
               select
               from private.message_effects e
               where e.whatsapp_channel_id = i.whatsapp_channel_id
                 and e.parent_provider_id = i.provider_id
           )
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
        select p.message_id
        from unnest(items) i
        join public.messages m
            on m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.provider_id = i.provider_id
        join private.parked_replies p
            on p.message_id = m.id
        where i.reply_to is not null
    );
end
$$;


create function private.settle_whatsapp_items(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
begin
    -- the common case: a message for which nothing has waited
    if (
        select true
        from unnest(items) i
        where i.kind in ('status', 'effect', 'echo')
           or i.reply_to is not null
           or (
               select true
               from private.message_effects e
               where e.whatsapp_channel_id = i.whatsapp_channel_id
                 and e.parent_provider_id = i.provider_id
               limit 1
           )
           or (
               select true
               from private.parked_replies p
               where p.whatsapp_channel_id = i.whatsapp_channel_id
                 and p.parent_provider_id = i.provider_id
               limit 1
           )
        limit 1
    ) is null then
        return;
    end if;

    perform private.park_replies(items);
    message_ids := array_remove(private.messages_to_settle(items), null);
    if message_ids = '{}' then
        return;
    end if;
    -- all of them at once: a second round would lock out of order
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    perform private.attach_named_messages(items);
    perform private.settle_messages(message_ids);
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
    'The advisory lock of a number of ours: shared by what brings messages, exclusive for what misses one.';
comment on function private.lock_whatsapp_numbers(uuid[], boolean) is
    'Takes the locks of a batch''s numbers, in their order; alone or shared.';
comment on function private.settle_messages(uuid[]) is
    'Shows on messages, which are locked, all that is known of them.';
comment on function private.messages_to_settle(private.whatsapp_item[]) is
    'The messages of which a batch brings news, or which have been waited for.';
comment on function private.settle_whatsapp_items(private.whatsapp_item[]) is
    'Brings together what belongs together, after a batch''s messages, statuses and effects are kept.';
comment on function private.settle_message_statuses(uuid[], text[]) is
    'The same for messages whose ids at WhatsApp have become known.';


/*
    Which updates of a webhook can not be read or applied, and why: they block no others.
*/
create or replace function private.readable_whatsapp_items(
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


create or replace function private.refusal_of(items private.whatsapp_item[])
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.apply_whatsapp_items(items);
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


create or replace function private.applicable_whatsapp_items(
    items private.whatsapp_item[],
    out applicable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Tries parts and undoes them, where applying the set fails; of a part that fails as well each
    update alone. What passes is to be applied as a set: in parts, locks would be taken out of
    order.
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


create or replace function private.refusal(index bigint, code text, message text)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select jsonb_build_object(
        'index', index, 'reason', 'refused', 'detail', code || ' ' || message)
$$;


create or replace function private.left_out_whatsapp_items(items jsonb)
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
            when 'account_event' then private.account_of_event(i.value) is null
            else not exists (
                select
                from public.whatsapp_channels w
                where w.phone_number_id = i.value ->> 'phone_number_id'
            )
        end
$$;


comment on function private.readable_whatsapp_items(jsonb) is
    'The updates that can be read, and why the others can not.';
comment on function private.refusal_of(private.whatsapp_item[]) is
    'Why a set can not be applied, which is undone; null where it can.';
comment on function private.applicable_whatsapp_items(private.whatsapp_item[]) is
    'The updates that can be applied, and why the others can not.';
comment on function private.refusal(bigint, text, text) is
    'Why an update was refused: {index, reason, detail}, the detail beginning with the SQLSTATE.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';


/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Where a set fails, the updates that are
    at fault are looked for, and what passes is applied as a set again.
*/
create or replace function private.apply_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    numbers uuid[];
    kinds text[];
    has_orphans boolean;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
begin
    select
        array_agg(distinct i.whatsapp_channel_id),
        array_agg(distinct i.kind),
        bool_or(
            case when parent.provider_id is not null then
                private.message_by_provider_id(
                    whatsapp_channel_id => i.whatsapp_channel_id,
                    provider_id => parent.provider_id
                ) is null
            end
        )
    into numbers, kinds, has_orphans
    from unnest(items) i
    cross join lateral (
        select case when i.kind = 'status' then i.provider_id else i.reply_to end as provider_id
    ) parent;

    perform private.lock_whatsapp_numbers(
        whatsapp_channel_ids => array_remove(numbers, null),
        alone => coalesce(has_orphans, false)
    );
    if not kinds <@ array['message', 'echo', 'system'] then
        applied := private.keep_whatsapp_news(items);
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system')
        );
    end if;
    applied := applied + private.apply_whatsapp_messages(messages);
    -- this locks messages, so it comes after what locks conversations
    perform private.settle_whatsapp_items(items);
    return applied;
end
$$;


create or replace function private.keep_whatsapp_news(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    statuses private.whatsapp_item[];
    effects private.whatsapp_item[];
    events private.whatsapp_item[];
begin
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


create or replace function private.try_whatsapp_items(
    items jsonb,
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
begin
    rejections := '[]';
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

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;


create or replace function private.shown_rejections(rejections jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select coalesce(jsonb_agg(r.value - 'detail'), '[]')
    from jsonb_array_elements(rejections) r
$$;


create or replace function backend.ingest_whatsapp(body text, items jsonb)
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
    tried record;
begin
    insert into private.webhook_events as e (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do update
        set deliveries = e.deliveries + 1,
            last_received_at = now()
    returning id into event_id;

    tried := private.try_whatsapp_items(items);

    if tried.rejections <> '[]' then
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'rejected', private.shown_rejections(tried.rejections)
    );
end
$$;

grant execute on function backend.ingest_whatsapp(text, jsonb) to service_role;


comment on function private.apply_whatsapp_items(private.whatsapp_item[]) is
    'Applies updates as sets; returns how many were news.';
comment on function private.keep_whatsapp_news(private.whatsapp_item[]) is
    'Keeps what is no message: statuses, effects, events; returns how many were news.';
comment on function private.try_whatsapp_items(jsonb) is
    'Applies what can be applied of a call: how many updates were news, how many not, what was left out and why, and those that were not.';
comment on function private.shown_rejections(jsonb) is
    'Rejections without their details, which may hold a customer''s data.';
comment on function backend.ingest_whatsapp(text, jsonb) is
    'Keeps a webhook''s body and applies its updates: {event_id, applied, duplicates, rejected: [{index, reason}]}. Repeating it changes nothing.';
