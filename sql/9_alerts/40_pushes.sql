/*
    Pushes: one notification for one device each. When a notification is due, it becomes a push for
    each device of its user, unless the user has read the conversation meanwhile. While the user
    looks at the conversation it waits.

    A push that is sent twice does no harm, since a device shows one of a subject. So a lease is a
    time before which no other worker tries. After a day nobody wants to be told any more.
*/
create table private.conversation_watchers (
    user_id         uuid not null
                    constraint conversation_watchers_user_id_fkey
                    references auth.users on delete cascade,
    conversation_id uuid not null
                    constraint conversation_watchers_conversation_id_fkey
                    references public.conversations on delete cascade,
    seen_at         timestamptz not null default now(),

    primary key (user_id, conversation_id)
);
alter table private.conversation_watchers enable row level security;


create index conversation_watchers_conversation_id_idx
    on private.conversation_watchers (conversation_id);


create policy "nobody reads who looks at a conversation directly"
    on private.conversation_watchers
    for all
    to authenticated
    using (false);


create function private.keep_watching(conversation_id uuid)
    returns void
    language plpgsql
    -- definer: users write their own row only
    security definer
    set search_path = ''
as $$
begin
    if private.side_of_caller(conversation_id) is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'field: conversation_id';
    end if;
    -- what is over says nothing
    delete from private.conversation_watchers w
    where w.user_id = auth.uid()
      and w.seen_at < now() - interval '1 hour';
    insert into private.conversation_watchers as w (user_id, conversation_id)
    values (auth.uid(), conversation_id)
    on conflict on constraint conversation_watchers_pkey do update
        set seen_at = excluded.seen_at;
end
$$;

grant execute on function private.keep_watching(uuid) to authenticated;


create function public.stay_at_conversation(conversation_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.keep_watching(conversation_id)
$$;

grant execute on function public.stay_at_conversation(uuid) to authenticated;


create table private.push_queue (
    id              uuid primary key default gen_random_uuid(),
    subscription_id uuid not null
                    constraint push_queue_subscription_id_fkey
                    references public.push_subscriptions on delete cascade,
    account_id      uuid not null
                    constraint push_queue_account_id_fkey
                    references public.accounts on delete cascade,
    kind            text not null,
    conversation_id uuid,
    subject_id      uuid not null,
    source_id       uuid,
    seq             bigint,
    -- the messages of the burst
    count           integer not null,
    title           text not null,
    body            text not null,
    attempts        integer not null default 0,
    worker          text,
    -- while a worker has it: the end of its lease
    not_before      timestamptz not null default now(),
    created_at      timestamptz not null default now(),

    -- a newer one of the same subject takes the place of one that waits
    constraint push_queue_subject_key unique (subscription_id, account_id, subject_id)
);
alter table private.push_queue enable row level security;


create index push_queue_due_idx on private.push_queue (not_before, id);
create index push_queue_account_id_idx on private.push_queue (account_id);


create policy "nobody reads the queue of pushes directly"
    on private.push_queue
    for all
    to authenticated
    using (false);


create function private.is_wanted(
    account_id uuid,
    user_id uuid,
    kind text,
    conversation_id uuid,
    source_id uuid,
    seq bigint
)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return not exists (
        select
        from public.notification_choices c
        where c.user_id = is_wanted.user_id
          and c.kind = is_wanted.kind
          and not c.is_wanted
    )
    -- somebody who has left since is not told
    and (
        exists (
            select
            from public.account_members m
            where m.account_id = is_wanted.account_id
              and m.user_id = is_wanted.user_id
        )
        or exists (
            select
            from public.contacts c
            where is_wanted.kind not in ('mention', 'assigned')
              and c.account_id = is_wanted.account_id
              and c.portal_user_id = is_wanted.user_id
              and (
                  is_wanted.conversation_id is null
                  or exists (
                      select
                      from public.conversations k
                      where k.id = is_wanted.conversation_id
                        and k.customer_id = c.id
                  )
              )
        )
    )
    -- nor what its author has taken back
    and (
        is_wanted.source_id is null
        or is_wanted.kind = 'message' and exists (
            select
            from public.messages m
            where m.id = is_wanted.source_id
              and m.revoked_at is null
        )
        or is_wanted.kind = 'mention' and exists (
            select
            from public.conversation_notes n
            where n.id = is_wanted.source_id
              and n.deleted_at is null
              and is_wanted.user_id = any (n.mentions)
        )
    )
    and not (
        is_wanted.kind = 'message'
        and exists (
            select
            from public.read_markers r
            where r.conversation_id = is_wanted.conversation_id
              and r.user_id = is_wanted.user_id
              and r.last_read_seq >= is_wanted.seq
        )
    );
end
$$;


/*
    What a push says now: a text may have been edited or deleted since it was noted. A burst of
    messages is told without those that are deleted, so its latest text may be another one's.
*/
create function private.present_words(
    kind text,
    conversation_id uuid,
    inout source_id uuid,
    inout seq bigint,
    inout count integer,
    inout body text
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    sender constant text := (
        select m.sender_type
        from public.messages m
        where m.id = source_id
    );
    kept record;
begin
    if kind = 'mention' then
        body := coalesce(
            (
                select private.shortened(n.note, 120)
                from public.conversation_notes n
                where n.id = source_id
                  and n.deleted_at is null
            ),
            body
        );
    elsif kind = 'message' and sender is not null then
        select o.id, o.seq, o.message, count(*) over () as number
        into kept
        from (
            select m.id, m.seq, m.message, m.revoked_at
            from public.messages m
            where m.conversation_id = present_words.conversation_id
              and m.seq <= present_words.seq
              and m.sender_type = sender
            order by m.seq desc
            limit present_words.count
        ) o
        where o.revoked_at is null
        order by o.seq desc
        limit 1;
        -- where nothing is left, is_wanted says no
        if found then
            source_id := kept.id;
            seq := kept.seq;
            count := kept.number;
            body := private.shortened(kept.message, 120);
        end if;
    end if;
end
$$;


create function private.push_text(account_id uuid, kind text, count integer, body text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case
        when kind = 'message' and count > 1 then private.shortened(
            private.words(
                push_text.account_id,
                'notification.messages',
                jsonb_build_object('count', count, 'text', body)
            ),
            120
        )
        else body
    end;
end
$$;


create function private.push_notifications(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- as often as clients say that somebody looks, and a little more
    watch constant interval := '90 seconds';
    due private.notifications;
    seen timestamptz;
    is_wanted boolean;
    pushed integer := 0;
begin
    for due in
        select n.*
        from private.notifications n
        where n.due_at <= clock_timestamp()
        order by n.due_at, n.id
        limit batch
        for update skip locked
    loop
        select w.source_id, w.seq, w.count, w.body
        into due.source_id, due.seq, due.count, due.body
        from private.present_words(
            due.kind, due.conversation_id, due.source_id, due.seq, due.count, due.body) w;
        is_wanted := private.is_wanted(
            due.account_id, due.user_id, due.kind, due.conversation_id, due.source_id, due.seq);
        seen := (
            select w.seen_at
            from private.conversation_watchers w
            where w.user_id = due.user_id
              and w.conversation_id = due.conversation_id
              and w.seen_at > now() - watch
        );
        if seen is not null and due.kind = 'message' and is_wanted then
            update private.notifications n
            set due_at = seen + watch
            where n.id = due.id;
            continue;
        end if;
        if is_wanted then
            insert into private.push_queue as q (
                subscription_id, account_id, kind, conversation_id, subject_id, source_id, seq, count,
                title, body
            )
            select
                s.id,
                due.account_id,
                due.kind,
                due.conversation_id,
                due.subject_id,
                due.source_id,
                due.seq,
                due.count,
                due.title,
                due.body
            from public.push_subscriptions s
            where s.user_id = due.user_id
            order by s.id
            -- the device before its pushes: a deletion of the device locks in this order
            for key share of s
            on conflict on constraint push_queue_subject_key do update
                set kind = excluded.kind,
                    conversation_id = excluded.conversation_id,
                    source_id = excluded.source_id,
                    seq = excluded.seq,
                    count = excluded.count,
                    title = excluded.title,
                    body = excluded.body,
                    attempts = 0,
                    -- the worker that has the former one does not settle this one
                    worker = null,
                    not_before = excluded.not_before,
                    created_at = excluded.created_at;
            pushed := pushed + 1;
        end if;
        delete from private.notifications n
        where n.id = due.id;
    end loop;
    return pushed;
end
$$;


create function private.prune_notifications(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- nobody wants to be told after that, see claim_pushes
    kept constant interval := '1 day';
    pruned integer;
    more integer;
begin
    -- where no worker sends pushes, nothing else deletes them
    with old as (
        select n.id
        from private.notifications n
        where n.due_at < now() - kept
        order by n.due_at, n.id
        limit batch
        for update skip locked
    )
    delete from private.notifications n
    using old o
    where n.id = o.id;
    get diagnostics pruned = row_count;

    with old as (
        select q.id
        from private.push_queue q
        where q.created_at < now() - kept
        limit batch - pruned
        for update skip locked
    )
    delete from private.push_queue q
    using old o
    where q.id = o.id;
    get diagnostics more = row_count;
    pruned := pruned + more;

    -- of those who come back their own calls delete them
    with old as (
        select w.user_id, w.conversation_id
        from private.conversation_watchers w
        where w.seen_at < now() - kept
        limit batch - pruned
        for update skip locked
    )
    delete from private.conversation_watchers w
    using old o
    where w.user_id = o.user_id
      and w.conversation_id = o.conversation_id;
    get diagnostics more = row_count;
    return pruned + more;
end
$$;


create function backend.claim_pushes(worker text, batch integer default 20)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    lease constant interval := '2 minutes';
    jobs jsonb;
begin
    perform private.push_notifications(500);
    delete from private.push_queue q
    where q.created_at < now() - interval '1 day';

    with due as (
        select
            q.id, q.account_id, s.user_id, q.kind, q.conversation_id, q.source_id, q.seq, q.count, q.body
        from private.push_queue q
        join public.push_subscriptions s
            on s.id = q.subscription_id
        where q.not_before <= clock_timestamp()
          and s.not_before <= clock_timestamp()
          -- one at a time for a device: a pause that the first one is answered with holds the rest
          and not exists (
              select
              from private.push_queue o
              where o.subscription_id = q.subscription_id
                and (o.not_before, o.id) < (q.not_before, q.id)
                and o.not_before <= clock_timestamp()
          )
          and not exists (
              select
              from private.push_queue o
              where o.subscription_id = q.subscription_id
                and o.worker is not null
                and o.not_before > clock_timestamp()
          )
        order by q.not_before, q.id
        limit least(greatest(batch, 1), 100)
        for update of q skip locked
    ),
    -- asked again: a push may have waited for a day
    judged as materialized (
        select
            d.id,
            w.*,
            private.is_wanted(
                d.account_id, d.user_id, d.kind, d.conversation_id, w.source_id, w.seq) as is_wanted
        from due d
        cross join lateral private.present_words(
            d.kind, d.conversation_id, d.source_id, d.seq, d.count, d.body) w
    ),
    dropped as (
        delete from private.push_queue q
        using judged j
        where q.id = j.id
          and not j.is_wanted
    ),
    claimed as (
        update private.push_queue q
        set source_id = j.source_id,
            seq = j.seq,
            count = j.count,
            body = j.body,
            attempts = q.attempts + 1,
            not_before = clock_timestamp() + lease,
            worker = claim_pushes.worker
        from judged j
        where q.id = j.id
          and j.is_wanted
        returning q.*
    )
    select coalesce(
        jsonb_agg(jsonb_build_object(
            'push_id', c.id,
            'account_id', c.account_id,
            'endpoint', s.endpoint,
            'p256dh', s.p256dh,
            'auth', s.auth,
            'kind', c.kind,
            'subject_id', c.subject_id,
            'title', c.title,
            'body', private.push_text(c.account_id, c.kind, c.count, c.body)
        )),
        '[]')
    into jobs
    from claimed c
    join public.push_subscriptions s
        on s.id = c.subscription_id;

    return jsonb_build_object(
        'claimed', jobs,
        'next_at', (
            select min(at)
            from (
                select min(n.due_at) as at
                from private.notifications n
                union all
                select min(greatest(q.not_before, s.not_before))
                from private.push_queue q
                join public.push_subscriptions s
                    on s.id = q.subscription_id
            ) o
        )
    );
end
$$;

grant execute on function backend.claim_pushes(text, integer) to service_role;


create function backend.settle_push(
    push_id uuid,
    worker text,
    outcome text,
    retry_after integer default null
)
    returns text
    language plpgsql
    -- definer: as claim_pushes
    security definer
    set search_path = ''
as $$
declare
    -- four days of trying: the endpoint takes nothing any more
    tries constant integer := 100;
    job private.push_queue;
    failed integer;
    pause interval;
begin
    if outcome is null or outcome not in ('sent', 'gone', 'retry', 'refused') then
        raise sqlstate 'PT422' using
            message = 'There is no such outcome.',
            detail = 'field: outcome',
            hint = 'Use sent, gone, retry or refused.';
    end if;
    -- the device before its pushes: a deletion of the device locks in this order
    perform
    from public.push_subscriptions s
    where s.id = (
        select q.subscription_id
        from private.push_queue q
        where q.id = push_id
    )
    for update;
    select q.*
    into job
    from private.push_queue q
    where q.id = push_id
      and q.worker = settle_push.worker
    for update;
    if not found then
        return 'settled already';
    end if;

    if outcome = 'gone' then
        delete from public.push_subscriptions s
        where s.id = job.subscription_id;
        return 'forgotten';
    elsif outcome = 'sent' then
        update public.push_subscriptions s
        set failures = 0
        where s.id = job.subscription_id
          and s.failures > 0;
        delete from private.push_queue q
        where q.id = job.id;
        return 'sent';
    end if;

    update public.push_subscriptions s
    set failures = s.failures + 1
    where s.id = job.subscription_id
    returning s.failures
    into failed;
    if failed >= tries then
        delete from public.push_subscriptions s
        where s.id = job.subscription_id;
        return 'forgotten';
    elsif outcome = 'refused' then
        delete from private.push_queue q
        where q.id = job.id;
        return 'refused';
    end if;
    -- 10 seconds, doubled each time, up to an hour; or what the push service asks for, up to a day
    pause := greatest(
        make_interval(secs => least(greatest(retry_after, 0), 86400)),
        least(interval '10 seconds' * power(2, least(failed, 12) - 1), interval '1 hour')
    );
    update public.push_subscriptions s
    set not_before = clock_timestamp() + pause
    where s.id = job.subscription_id;
    update private.push_queue q
    set worker = null,
        not_before = clock_timestamp() + pause
    where q.id = job.id;
    return 'waits';
end
$$;

grant execute on function backend.settle_push(uuid, text, text, integer) to service_role;


comment on table private.conversation_watchers is
    'Who looks at which conversation, by stay_at_conversation.';
comment on policy "nobody reads who looks at a conversation directly"
    on private.conversation_watchers is
    'Presence topics show people to each other.';
comment on function private.keep_watching(uuid) is
    'See stay_at_conversation.';
comment on function public.stay_at_conversation(uuid) is
    'Says that the caller looks at a conversation. Clients call it each minute meanwhile; 90 seconds after the last call the caller is told of new messages again, of those that came meanwhile too unless they are read. Unknown conversation: 404.';
comment on table private.push_queue is
    'Notifications to send, one for each device. The worker claims and settles them.';
comment on column private.push_queue.not_before is
    'When the next try may begin. While a worker has the push: when its lease ends.';
comment on policy "nobody reads the queue of pushes directly" on private.push_queue is
    'Devices are told.';
comment on function private.is_wanted(uuid, uuid, text, uuid, uuid, bigint) is
    'Whether the user still wants to be told, and may be: has not left, has not refused the kind, has not read the message; and the message or the mention is not deleted.';
comment on function private.present_words(text, uuid, uuid, bigint, integer, text) is
    'The text of a message or a mention as it is now, of a burst without what is deleted: the latest message, its seq, how many, and the text.';
comment on function private.push_text(uuid, text, integer, text) is
    'What a push says: of several messages how many they are, and the latest text.';
comment on function private.push_notifications(integer) is
    'Makes pushes of notifications that are due. Returns of how many.';
comment on function private.prune_notifications(integer) is
    'Deletes at most batch notifications and pushes that nobody was told within a day, and notes of who looked at a conversation before that; returns their number.';
comment on function backend.claim_pushes(text, integer) is
    'Leases pushes to send now for 2 minutes, one for a device: {claimed: [{push_id, account_id, endpoint, p256dh, auth, kind, subject_id, title, body}], next_at}. next_at says when there may be others.';
comment on function backend.settle_push(uuid, text, text, integer) is
    'Notes the outcome of a push: sent; gone, which forgets the device; retry, with the pause in seconds that the push service asks for; refused. Returns sent, forgotten, waits, refused, or "settled already" where another worker has the lease.';
