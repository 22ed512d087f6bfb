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


create policy "nobody reads the phone book directly"
    on private.phone_book
    for all
    to authenticated
    using (false);


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
comment on policy "nobody reads the phone book directly" on private.phone_book is
    'Clients see the contacts.';
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
