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
