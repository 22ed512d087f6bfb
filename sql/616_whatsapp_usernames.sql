/*
    Usernames on WhatsApp belong to one person at a time and change hands. What somebody is
    called is what their latest message says, by the provider's time, unless somebody whose
    latest message says the same has written later.

    So what each has said last is kept, though another may have it: whoever comes last to give
    it up, in whatever order messages arrive, it goes to the right one.
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


create policy "nobody reads stated usernames directly"
    on private.stated_usernames
    for all
    to authenticated
    using (false);


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


create function private.lock_username(account_id uuid, username text, claimant uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
/*
    The owner of a username, which is locked; a claimant gets one that is free.
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

    -- those to claim, and those that may be given back, in one order
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
            -- whoever it is of was not heard: staff may have noted it
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


comment on table private.stated_usernames is
    'What the latest message of a sender who has a username says that it is.';
comment on policy "nobody reads stated usernames directly" on private.stated_usernames is
    'What contacts are called is in public.contacts.';
comment on function private.lock_username(uuid, text, uuid) is
    'Locks a username, which a claimant gets if it is free; returns whose it is.';
comment on function private.latest_stater(private.whatsapp_item[], uuid, text) is
    'Of those whose latest message states a username, the one who wrote last; the given messages count as well.';
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
