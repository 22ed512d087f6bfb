/*
    The inbox by assignee, label, snooze and name. First the ids of a page are found, past the
    policies, for a caller whose membership is checked: beginning at the given conversations, the
    label, the state, the contacts or the latest message, where fewer rows are read. Then the view
    shows these conversations under the caller's policies. (A filter on the view itself would look
    into every conversation.)
*/
create function private.inbox_ids(
    account_id uuid,
    assignee_id uuid,
    is_free boolean,
    label_id uuid,
    is_snoozed boolean,
    status text,
    before timestamptz,
    before_id uuid,
    page_size integer,
    query text,
    ids uuid[]
)
    returns uuid[]
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    -- conversations are met in the order of an index, or found by one
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
declare
    few constant integer := 500;
    first_id constant uuid := '00000000-0000-0000-0000-000000000000';
    patterns text[];
    literal_patterns text[];
    contact_ids uuid[];
    is_untaken constant boolean := is_free and assignee_id is null and status = 'open';
    -- where the statement begins; null for the latest conversations
    begins_at text;
    found_ids uuid[];
begin
    perform private.require_member(account_id);
    if status not in ('open', 'pending', 'closed') then
        raise sqlstate 'PT422' using
            message = 'This is not a status of conversations.',
            detail = 'field: status',
            hint = 'Use open, pending or closed, or none for all.';
    elsif length(query) > 200 then
        raise sqlstate 'PT422' using
            message = format('The query has %s characters; 200 are allowed.', length(query)),
            detail = 'field: query',
            hint = 'Shorten it to 200 characters.';
    elsif cardinality(ids) > 200 then
        raise sqlstate 'PT422' using
            message = format('%s ids are given; 200 are allowed.', cardinality(ids)),
            detail = 'field: ids',
            hint = 'Ask for 200 conversations at once.';
    end if;
    if query is not null then
        patterns := private.search_patterns(query);
        literal_patterns := private.literal_patterns(query);
    end if;

    -- If few conversations have the label, the assignee, a snooze or the name, these are read and
    -- sorted. If many have, the latest conversations are looked through until the page is full.
    if ids is not null then
        begins_at := 'unnest($11) b (id)';
    elsif label_id is not null and (
        select count(*)
        from (
            select
            from public.conversation_labels l
            where l.account_id = inbox_ids.account_id
              and l.label_id = inbox_ids.label_id
            limit few + 1
        ) l
    ) <= few then
        begins_at := '(select l.conversation_id as id from public.conversation_labels l'
            ' where l.account_id = $1 and l.label_id = $3) b';
    elsif assignee_id is not null and (
        select count(*)
        from (
            select
            from public.desk_states s
            where s.account_id = inbox_ids.account_id
              and s.assignee_id = inbox_ids.assignee_id
            limit few + 1
        ) s
    ) <= few then
        begins_at := '(select s.id from public.desk_states s'
            ' where s.account_id = $1 and s.assignee_id = $2) b';
    elsif is_untaken and (
        select count(*)
        from (
            select
            from private.unclosed_conversations u
            where u.account_id = inbox_ids.account_id
              and u.assignee_id is null
              and u.is_open
            limit few + 1
        ) u
    ) <= few then
        begins_at := '(select u.conversation_id as id from private.unclosed_conversations u'
            ' where u.account_id = $1 and u.assignee_id is null and u.is_open) b';
    elsif is_snoozed and (
        select count(*)
        from (
            select
            from public.desk_states s
            where s.account_id = inbox_ids.account_id
              and s.snoozed_until > now()
            limit few + 1
        ) s
    ) <= few then
        begins_at := '(select s.id from public.desk_states s'
            ' where s.account_id = $1 and s.snoozed_until > now()) b';
    elsif patterns <> '{}' then
        contact_ids := array(
            select p.contact_id
            from private.search_page(
                account_id => inbox_ids.account_id,
                patterns => patterns,
                after_name => '',
                after_id => first_id,
                page_size => few + 1
            ) p
            union
            select p.contact_id
            from private.search_page(
                account_id => inbox_ids.account_id,
                patterns => literal_patterns,
                after_name => '',
                after_id => first_id,
                page_size => few + 1
            ) p
            where literal_patterns is not null
        );
        if cardinality(contact_ids) <= few then
            begins_at := '(select o.conversation_id as id from unnest($12) c (id)'
                ' cross join lateral (select n.conversation_id from public.conversation_activity n'
                ' where n.customer_id = c.id offset 0) o'
                ' union all select k.id from public.conversations k'
                ' where k.account_id = $1 and k.group_id is not null) b';
        end if;
    end if;

    -- Each condition is asked of one conversation, by "case": as a join Postgres might read it for
    -- all conversations first, and with "=" it would expect that hardly any meets it.
    execute concat(
        'select array(select a.conversation_id from ',
        case
            when begins_at is null then 'public.conversation_activity a where a.account_id = $1'
            else concat(
                '(select distinct b.id from ', begins_at, ' offset 0) b'
                ' cross join lateral (select * from public.conversation_activity o'
                ' where o.conversation_id = b.id and o.account_id = $1 limit 1) a where true'
            )
        end,
        case when before is not null then
            ' and a.last_message_at <= $5'
            ' and (a.last_message_at < $5 or a.conversation_id > $6)'
        end,
        case when assignee_id is not null then
            ' and case (select s.assignee_id from public.desk_states s'
            ' where s.id = a.conversation_id limit 1) when $2 then true else false end'
        end,
        case
            when is_untaken then
                ' and case when exists (select from private.unclosed_conversations u'
                ' where u.conversation_id = a.conversation_id'
                ' and u.assignee_id is null and u.is_open) then true else false end'
            when is_free then
                ' and case when exists (select from public.desk_states s'
                ' where s.id = a.conversation_id and s.assignee_id is not null)'
                ' then false else true end'
        end,
        case when label_id is not null then
            ' and case when exists (select from public.conversation_labels l'
            ' where l.conversation_id = a.conversation_id and l.label_id = $3) then true else false end'
        end,
        case when is_snoozed is not null then
            ' and case when exists (select from public.desk_states s'
            ' where s.id = a.conversation_id and s.snoozed_until > now()) then $8 else not $8 end'
        end,
        -- a group is found by its name, and another conversation by its contact
        case when patterns <> '{}' then
            ' and case when a.customer_id is null then exists (select from public.conversations k'
            ' cross join lateral (select private.search_words(k.group_name, null, null, null, null)'
            ' as words) w where k.id = a.conversation_id'
            ' and (w.words like all ($9) or w.words like all ($10)))'
            ' else exists (select from private.contact_search w where w.contact_id = a.customer_id'
            ' and (w.words like all ($9) or w.words like all ($10))) end'
        end,
        -- as in the inbox, a deleted contact has no customers row
        ' and case when exists (select from public.conversations k where k.id = a.conversation_id'
        ' and (k.customer_id is null'
        ' or exists (select from public.customers c where c.id = k.customer_id))',
        case when status is not null then ' and k.status = $4' end,
        ') then true else false end'
        ' order by a.last_message_at desc, a.conversation_id limit $7)'
    )
    into found_ids
    using
        account_id, assignee_id, label_id, status, before, before_id,
        least(greatest(page_size, 1), 200), is_snoozed, patterns, literal_patterns, ids,
        contact_ids;
    return found_ids;
end
$$;

grant execute on function private.inbox_ids(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
)
    to authenticated;


create function public.inbox_page(
    account_id uuid,
    assignee_id uuid default null,
    is_free boolean default false,
    label_id uuid default null,
    is_snoozed boolean default null,
    status text default null,
    before timestamptz default null,
    before_id uuid default null,
    page_size integer default 50,
    query text default null,
    ids uuid[] default null
)
    returns setof public.inbox
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_ids constant uuid[] := private.inbox_ids(
        account_id => inbox_page.account_id,
        assignee_id => inbox_page.assignee_id,
        is_free => inbox_page.is_free,
        label_id => inbox_page.label_id,
        is_snoozed => inbox_page.is_snoozed,
        status => inbox_page.status,
        before => inbox_page.before,
        before_id => inbox_page.before_id,
        page_size => inbox_page.page_size,
        query => inbox_page.query,
        ids => inbox_page.ids
    );
begin
    return query
        select i.*
        from public.inbox i
        where i.id = any (found_ids)
        order by i.last_message_at desc, i.id;
end
$$;

grant execute on function public.inbox_page(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
)
    to authenticated;


create function private.inbox_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
begin
    perform private.require_member(account_id);
    return jsonb_build_object(
        'assignees', (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'user_id', m.user_id, 'name', m.display_name, 'conversations', n.number)
                    order by m.display_name, m.user_id
                ),
                '[]')
            from public.account_members m
            cross join lateral (
                select count(*) as number
                from (
                    select
                    from private.unclosed_conversations u
                    where u.account_id = inbox_counts.account_id
                      and u.assignee_id = m.user_id
                    limit 100
                ) u
            ) n
            where m.account_id = inbox_counts.account_id
        ),
        'snoozed', (
            select count(*)
            from (
                select
                from public.desk_states s
                where s.account_id = inbox_counts.account_id
                  and s.snoozed_until > now()
                limit 100
            ) s
        ),
        -- as inbox_page finds them; the conversations of a deleted contact are closed
        'free', (
            select count(*)
            from (
                select
                from private.unclosed_conversations u
                where u.account_id = inbox_counts.account_id
                  and u.assignee_id is null
                  and u.is_open
                  and (u.snoozed_until is null or u.snoozed_until <= now())
                limit 100
            ) u
        )
    );
end
$$;

grant execute on function private.inbox_counts(uuid) to authenticated;


create function public.inbox_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.inbox_counts(inbox_counts.account_id);
end
$$;

grant execute on function public.inbox_counts(uuid) to authenticated;


create function private.label_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
begin
    perform private.require_member(account_id);
    return jsonb_build_object('labels', (
        select coalesce(
            jsonb_agg(
                jsonb_build_object('label_id', l.id, 'name', l.name, 'conversations', n.number)
                order by l.name, l.id
            ),
            '[]')
        from public.labels l
        cross join lateral (
            select count(*) as number
            from (
                select
                from private.unclosed_labels o
                where o.label_id = l.id
                limit 100
            ) o
        ) n
        where l.account_id = label_counts.account_id
    ));
end
$$;

grant execute on function private.label_counts(uuid) to authenticated;


create function public.label_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.label_counts(label_counts.account_id);
end
$$;

grant execute on function public.label_counts(uuid) to authenticated;


comment on function private.inbox_ids(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
) is
    'The conversations of a page of the inbox, for a member of the account.';
comment on function public.inbox_page(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
) is
    'A page of an account''s inbox, latest first: rows of inbox. Filters: assignee_id, is_free (nobody has it), label_id, is_snoozed (true, false, or null for both), status, and query, which finds contacts as search_contacts does and groups by their name; ids asks for these conversations alone, at most 200. page_size is at most 200. For the next page give the last row''s last_message_at as before and its id as before_id. Not a member of the account: 404.';
comment on function private.inbox_counts(uuid) is
    'Counts the conversations of an account by assignee, and those that wait or are free.';
comment on function public.inbox_counts(uuid) is
    'How many conversations each filter finds. Assignees count conversations that are not closed, free counts open ones that do not wait; 100 stands for 100 or more. Not a member of the account: 404.'
    ' Type: {assignees: {user_id: uuid, name: text, conversations: integer}[], snoozed: integer, free: integer}';
comment on function private.label_counts(uuid) is
    'Counts the conversations of an account by label.';
comment on function public.label_counts(uuid) is
    'How many conversations that are not closed have each label of an account; 100 stands for 100 or more. Not a member of the account: 404.'
    ' Type: {labels: {label_id: uuid, name: text, conversations: integer}[]}';
