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
