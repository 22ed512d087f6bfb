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
