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


create policy "nobody reads stated usernames directly"
    on private.stated_usernames
    for all
    to authenticated
    using (false);


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
comment on policy "nobody reads stated usernames directly" on private.stated_usernames is
    'The contact''s present username is in public.contacts.';
comment on function private.lock_username(uuid, text, uuid) is
    'Locks a username and returns its owner. A claimant gets a username that is free.';
comment on function private.latest_stater(private.whatsapp_item[], uuid, text) is
    'The last sender whose latest message gives this username. The given messages count too.';
comment on type private.username_change is
    'A contact''s new username on WhatsApp.';
comment on function private.has_later_message(uuid, timestamptz, text) is
    'Whether a contact has written after that message.';
