/*
    From the row to the people: contact, conversation, lists, rights, change log, topics, broadcast,
    and who heard it.
*/
create function private.contact_step(contact_id uuid)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    contact public.contacts;
begin
    if contact_id is null then
        return private.as_step('contact.group', true);
    end if;
    select c.*
    into contact
    from public.contacts c
    where c.id = contact_step.contact_id;
    if contact.merged_into is not null then
        return private.as_step('contact.merged', false, jsonb_build_object(
            'contact_id', contact.id,
            'merged_into', contact.merged_into,
            'merge_id', (
                select g.id
                from public.contact_merges g
                where g.dropped_contact_id = contact.id
                  and g.undone_at is null
            ),
            'at', contact.deleted_at
        ));
    elsif contact.deleted_at is not null then
        return private.as_step('contact.deleted', false, jsonb_build_object(
            'contact_id', contact.id, 'at', contact.deleted_at));
    end if;
    return private.as_step('contact.known', true, jsonb_build_object('contact_id', contact.id));
end
$$;


create function private.known_step(contact_id uuid)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    identities constant text[] := array(
        select i.value
        from public.contact_identities i
        where i.contact_id = known_step.contact_id
        order by i.kind, i.match_key
        limit 20
    );
begin
    if identities = '{}' then
        return private.as_step('known.by_nothing', null);
    end if;
    return private.as_step('known.by', true, jsonb_build_object('identities', identities));
end
$$;


create function private.conversation_steps(conversation_id uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    thread public.conversations;
    key text;
    desk record;
    facts jsonb;
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = conversation_steps.conversation_id;
    select concat_ws('_', a.external_id, w.phone_number_id, substr(thread.thread_key, 7))
    into key
    from public.accounts a
    join public.whatsapp_channels w
        on w.id = thread.whatsapp_channel_id
    where a.id = thread.account_id
      and a.external_id is not null
      and thread.thread_key like 'phone:%';
    select s.snoozed_until, m.display_name as assignee
    into desk
    from public.desk_states s
    left join public.account_members m
        on m.account_id = s.account_id
       and m.user_id = s.assignee_id
    where s.id = thread.id;

    facts := jsonb_build_object(
        'conversation_id', thread.id,
        'channel', thread.channel,
        'key', key,
        'status', thread.status,
        'assignee', desk.assignee,
        'until', desk.snoozed_until
    );
    return array[
        private.as_step(
            case when key is null then 'conversation.plain' else 'conversation.found' end, true, facts),
        case
            when desk.snoozed_until > now() then private.as_step('list.snoozed', false, facts)
            when thread.status = 'closed' then private.as_step('list.closed', true, facts)
            when desk.assignee is not null then private.as_step('list.assigned', true, facts)
            else private.as_step('list.shown', true, facts)
        end
    ];
end
$$;


-- Everybody who may see rows of an account and a customer.
create function private.readers(account_id uuid, customer_id uuid)
    returns table (user_id uuid, side text, name text, role text)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select m.user_id, 'staff', m.display_name, m.role
        from public.account_members m
        where m.account_id = readers.account_id
        union all
        select c.portal_user_id, 'customer', coalesce(c.name, 'customer'), 'customer'
        from public.customers c
        where c.id = readers.customer_id
          and c.portal_user_id is not null
        order by 2 desc, 3, 1
        limit 200;
end
$$;


create function private.access_step(account_id uuid, customer_id uuid, login uuid)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    reader record;
    names text[];
    people jsonb;
begin
    if login is not null then
        select r.*
        into reader
        from private.readers(access_step.account_id, access_step.customer_id) r
        where r.user_id = login
        order by r.side desc
        limit 1;
        if not found then
            return private.as_step('access.refused', false);
        end if;
        return private.as_step('access.' || reader.side, true, to_jsonb(reader));
    end if;

    select array_agg(r.name), jsonb_agg(to_jsonb(r))
    into names, people
    from private.readers(access_step.account_id, access_step.customer_id) r;
    if people is null then
        return private.as_step('access.nobody', false);
    end if;
    return private.as_step(
        'access.people', true, jsonb_build_object('names', names, 'people', people));
end
$$;


create function private.current_topics(
    account_id uuid,
    customer_id uuid,
    conversation_id uuid,
    -- null for all
    side text
)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array_remove(
        array[
            case when side is distinct from 'customer' then private.account_topic(account_id) end,
            case when side is distinct from 'staff' then private.listened_topic(customer_id) end,
            case
                when conversation_id is not null
                    then private.conversation_topic(conversation_id, account_id, customer_id)
            end
        ],
        null
    );
end
$$;


create function private.logged_change(
    table_name text,
    row_id uuid,
    account_id uuid,
    customer_id uuid
)
    returns private.changes
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    latest private.changes;
begin
    if customer_id is not null then
        select c.*
        into latest
        from private.changes c
        where c.customer_id = logged_change.customer_id
          and c.table_name = logged_change.table_name
          and c.row_id = logged_change.row_id
        order by c.xid desc, c.seq desc
        limit 1;
    else
        -- the log has no index by row: its latest entries are looked through
        select c.*
        into latest
        from (
            select e.*
            from private.changes e
            where e.account_id = logged_change.account_id
            order by e.xid desc, e.seq desc
            limit 100000
        ) c
        where c.table_name = logged_change.table_name
          and c.row_id = logged_change.row_id
        order by c.xid desc, c.seq desc
        limit 1;
    end if;
    return latest;
end
$$;


create function private.broadcast_step(
    table_name text,
    row_id uuid,
    topics text[],
    at timestamptz,
    operation text
)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- a broadcast is of the transaction of its change
    first_at constant timestamp := (at - interval '1 second') at time zone 'UTC';
    last_at constant timestamp := (at + interval '5 seconds') at time zone 'UTC';
    sent record;
begin
    select array_agg(distinct m.topic) as topics, min(m.inserted_at) as at
    into sent
    from realtime.messages m
    where m.inserted_at between first_at and last_at
      and m.extension = 'broadcast'
      and m.private
      and (
          m.payload ->> 'id' = broadcast_step.row_id::text
          and m.payload ->> 'table' = broadcast_step.table_name
          -- all listeners read again
          or m.event = 'resync'
          and m.payload -> 'tables' ? broadcast_step.table_name
          and m.topic = any (broadcast_step.topics)
      );
    if sent.topics is not null then
        return private.as_step(
            case when sent.topics && broadcast_step.topics then 'broadcast.sent' else 'broadcast.renamed' end,
            true,
            jsonb_build_object('at', sent.at at time zone 'UTC', 'topics', sent.topics)
        );
    elsif at < now() - interval '3 days' then
        return private.as_step('broadcast.old', null);
    elsif operation = 'UPDATE' then
        return private.as_step('broadcast.unseen', null);
    end if;
    return private.as_step('broadcast.none', false);
end
$$;


create function private.told_steps(
    table_name text,
    row_id uuid,
    account_id uuid,
    customer_id uuid,
    conversation_id uuid,
    -- when the row was made
    made_at timestamptz,
    side text
)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    entry constant private.changes := private.logged_change(
        table_name => table_name,
        row_id => row_id,
        account_id => account_id,
        -- contacts are told to staff alone
        customer_id => case when table_name <> 'contacts' then customer_id end
    );
    topics constant text[] := private.current_topics(
        account_id => account_id,
        customer_id => case when table_name <> 'contacts' then customer_id end,
        conversation_id => conversation_id,
        side => side
    );
    is_made_at constant boolean := table_name = 'messages' or entry.logged_at is null;
begin
    return array[
        case
            when entry.seq is not null then private.as_step('log.entry', true, jsonb_build_object(
                'table', table_name,
                'operation', entry.operation,
                'version', entry.version,
                'at', entry.logged_at
            ))
            when made_at < now() - (select l.retention from private.change_log l)
                then private.as_step('log.old', null)
            else private.as_step('log.none', false)
        end,
        private.as_step('topics.named', true, jsonb_build_object('topics', topics)),
        private.broadcast_step(
            table_name => table_name,
            row_id => row_id,
            topics => topics,
            at => case when is_made_at then made_at else entry.logged_at end,
            operation => case when is_made_at then 'INSERT' else entry.operation::text end
        )
    ];
end
$$;


create function private.heard_step(
    account_id uuid,
    customer_id uuid,
    conversation_id uuid,
    seq bigint,
    -- the author has not to hear it
    author text
)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    facts jsonb;
    readers text[];
    watchers text[];
    at_desk text[];
begin
    select
        jsonb_build_object('people', jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'user_id', r.user_id,
            'name', r.name,
            'side', r.side,
            'read_at', case when m.last_read_seq >= heard_step.seq then m.read_at end,
            'looking_at', w.seen_at,
            'at_desk_at', d.seen_at
        )))),
        array_agg(r.name) filter (where m.last_read_seq >= heard_step.seq),
        array_agg(r.name) filter (where w.seen_at is not null),
        array_agg(r.name) filter (where d.seen_at is not null)
    into facts, readers, watchers, at_desk
    from private.readers(heard_step.account_id, heard_step.customer_id) r
    left join public.read_markers m
        on m.conversation_id = heard_step.conversation_id
       and m.user_id = r.user_id
    left join private.conversation_watchers w
        on w.conversation_id = heard_step.conversation_id
       and w.user_id = r.user_id
       and w.seen_at > now() - interval '2 minutes'
    left join private.desk_presence d
        on d.account_id = heard_step.account_id
       and d.user_id = r.user_id
       and d.seen_at > now() - interval '2 minutes'
    where r.user_id::text is distinct from author;
    return case
        when readers is not null then private.as_step(
            'heard.read', true, facts || jsonb_build_object('names', readers))
        when watchers is not null then private.as_step(
            'heard.looking', null, facts || jsonb_build_object('names', watchers))
        when at_desk is not null then private.as_step(
            'heard.at_desk', null, facts || jsonb_build_object('names', at_desk))
        else private.as_step('heard.nobody', null, facts)
    end;
end
$$;


comment on function private.contact_step(uuid) is
    'Whether a contact is there, was merged into another one, or was deleted.';
comment on function private.known_step(uuid) is
    'The identities by which a contact is known.';
comment on function private.conversation_steps(uuid) is
    'A conversation with its older key, and whether the inbox lists it.';
comment on function private.readers(uuid, uuid) is
    'The staff of an account and the login of a customer: at most 200 people.';
comment on function private.access_step(uuid, uuid, uuid) is
    'Who may see rows of an account and a customer; of one login, whether it may.';
comment on function private.current_topics(uuid, uuid, uuid, text) is
    'The topics on which changes are told now, to both sides or to one.';
comment on function private.logged_change(text, uuid, uuid, uuid) is
    'The latest entry of a row in the change log, as far as it is found by its customer or among the account''s latest 100,000.';
comment on function private.broadcast_step(text, uuid, text[], timestamptz, text) is
    'Whether a change was broadcast. Realtime keeps broadcasts for three days.';
comment on function private.told_steps(text, uuid, uuid, uuid, uuid, timestamptz, text) is
    'Change log, topics and broadcast of a row.';
comment on function private.heard_step(uuid, uuid, uuid, bigint, text) is
    'Who has read a message, and who is there to hear it.';
