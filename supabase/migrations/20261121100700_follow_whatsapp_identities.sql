/*
    WhatsApp senders by username, and numbers that change. The type of an update grows, so that
    all functions that read one are made anew.
*/
drop type private.whatsapp_item cascade;


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
    username            text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- a message of WhatsApp's own: what takes the place of wa_id and user_id
    new_wa_id           text,
    new_user_id         text,

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
            i.value ->> 'username',
            i.value ->> 'sent_at',
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            i.value ->> 'at',
            i.value ->> 'error_code',
            i.value ->> 'error_message',
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
        where i.value ->> 'kind' <> 'skipped'
    );
end
$$;


comment on type private.whatsapp_item is
    'One update out of a WhatsApp webhook.';
comment on function private.read_whatsapp_items(jsonb) is
    'The updates of a call that belong to a known number, each with its account.';


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
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        where i.kind = 'message'
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


create function private.move_whatsapp_threads(items private.whatsapp_item[])
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
        select 'bsuid:' || i.former_user_id
        from unnest(items) i
    );
    item private.whatsapp_item;
    move record;
begin
    perform
    from public.conversations t
    where t.whatsapp_channel_id = any (
        array(select w.id from public.whatsapp_channels w where w.account_id = any (accounts)))
      and t.account_id = any (accounts)
      and t.thread_key = any (keys)
    order by t.id
    for no key update;

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
comment on function private.move_whatsapp_threads(private.whatsapp_item[]) is
    'Locks a batch''s threads, and gives those of relinked contacts their new keys.';


/*
    Messages that customers send by WhatsApp, and WhatsApp's own about them, a batch at a time,
    into their conversations.
*/
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
            case f.kind when 'system' then 'system' else 'client' end,
            case f.kind when 'system' then null else coalesce(f.wa_id, f.user_id) end,
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

        -- contacts
        if has_notices or cardinality(usernames) > 0 then
            perform private.lock_whatsapp_contacts(fresh, usernames);
        end if;
        perform private.name_whatsapp_senders(fresh, usernames);
        if cardinality(usernames) > 0 then
            perform private.write_whatsapp_usernames(usernames);
        end if;

        -- conversations
        if has_notices then
            perform private.move_whatsapp_phones(fresh);
            perform private.move_whatsapp_threads(fresh);
        end if;
        placed := private.open_whatsapp_threads(fresh);

        if may_be_two then
            perform private.suggest_same_senders(fresh);
        end if;
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
create or replace function private.settle_message_statuses(whatsapp_channel_ids uuid[], provider_ids text[])
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


create or replace function private.apply_whatsapp_statuses(items private.whatsapp_item[])
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
create or replace function private.apply_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    messages private.whatsapp_item[];
    statuses private.whatsapp_item[];
begin
    select
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind <> 'status'),
        array_agg(i::private.whatsapp_item order by i.index) filter (where i.kind = 'status')
    into messages, statuses
    from unnest(items) i;

    -- a status locks messages, so it comes after what locks conversations
    return private.apply_whatsapp_messages(messages) + private.apply_whatsapp_statuses(statuses);
end
$$;


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


create or replace function private.applicable_whatsapp_items(
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
