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
