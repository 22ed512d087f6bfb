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


create policy "nobody reads group events directly"
    on private.group_events
    for all
    to authenticated
    using (false);


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
comment on policy "nobody reads group events directly" on private.group_events is
    'Clients see the conversation.';
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
