/*
    Notifications: what a user is to be told on a device. A row is a job. A burst of messages in a
    conversation is one row, told once, some seconds after the first. Only users who have a device
    and want the kind get rows, so for the others nothing is written at all.
*/
create table public.notification_choices (
    user_id    uuid not null
               constraint notification_choices_user_id_fkey
               references auth.users on delete cascade,
    kind       text not null
               constraint notification_choices_kind_check
               check (kind in ('message', 'mention', 'assigned', 'appointment', 'invoice', 'points')),
    is_wanted  boolean not null,
    updated_at timestamptz not null default now(),

    primary key (user_id, kind)
);
alter table public.notification_choices enable row level security;


create policy "users can read their own choices"
    on public.notification_choices
    for select
    to authenticated
    -- the plan is checked here, since no function that checks it is called
    using (user_id = (select auth.uid()) and private.check_plan());


grant select on public.notification_choices to authenticated;


create function private.keep_notification_choice(kind text, is_wanted boolean)
    returns void
    language plpgsql
    -- definer: users write their own choices only
    security definer
    set search_path = ''
as $$
begin
    if kind is null
        or kind not in ('message', 'mention', 'assigned', 'appointment', 'invoice', 'points')
    then
        raise sqlstate 'PT422' using
            message = 'There is no such kind of notification.',
            detail = 'field: kind',
            hint = 'Use message, mention, assigned, appointment, invoice or points.';
    elsif is_wanted is null then
        raise sqlstate 'PT422' using
            message = 'is_wanted is needed.',
            detail = 'field: is_wanted',
            hint = 'Give true or false.';
    end if;
    insert into public.notification_choices as c (user_id, kind, is_wanted)
    values (auth.uid(), kind, is_wanted)
    on conflict on constraint notification_choices_pkey do update
        set is_wanted = excluded.is_wanted,
            updated_at = excluded.updated_at
        where c.is_wanted <> excluded.is_wanted;
end
$$;

grant execute on function private.keep_notification_choice(text, boolean) to authenticated;


create function public.choose_notifications(kind text, is_wanted boolean)
    returns void
    language sql
    set search_path = ''
as $$
    select private.keep_notification_choice(kind => kind, is_wanted => is_wanted)
$$;

grant execute on function public.choose_notifications(text, boolean) to authenticated;


create table private.notifications (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null
                    constraint notifications_account_id_fkey
                    references public.accounts on delete cascade,
    user_id         uuid not null
                    constraint notifications_user_id_fkey
                    references auth.users on delete cascade,
    kind            text not null
                    constraint notifications_kind_check
                    check (kind in ('message', 'mention', 'assigned', 'appointment', 'invoice', 'points')),
    conversation_id uuid,
    -- the conversation, or else the row that the link opens: one burst is about one subject
    subject_id      uuid not null,
    -- the message or the note whose text it is: once that is deleted, the text is not told
    source_id       uuid,
    title           text not null
                    constraint notifications_title_check check (length(title) <= 120),
    body            text not null
                    constraint notifications_body_check check (length(body) <= 120),
    -- the events of the burst
    count           integer not null default 1
                    constraint notifications_count_check check (count >= 1),
    -- of the latest message; null for what is no message
    seq             bigint,
    -- never later than it was for the first event, so that a long burst is told too
    due_at          timestamptz not null,
    created_at      timestamptz not null default now(),

    -- one for a burst
    constraint notifications_burst_key unique (user_id, account_id, subject_id)
);
alter table private.notifications enable row level security;


create index notifications_due_idx on private.notifications (due_at, id);
create index notifications_account_id_idx on private.notifications (account_id);


create policy "nobody reads notifications directly"
    on private.notifications
    for all
    to authenticated
    using (false);


create function private.shortened(text text, longest integer)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    -- control characters and line breaks are spaces
    select case when length(t) > longest then left(t, longest - 1) || '…' else t end
    from (select btrim(regexp_replace(coalesce(text, ''), '[[:space:][:cntrl:]]+', ' ', 'g')) as t) o
$$;


create function private.notify(
    account_id uuid,
    user_ids uuid[],
    kind text,
    conversation_id uuid,
    title text,
    body text,
    data jsonb default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
    set plan_cache_mode = force_generic_plan
as $$
declare
    -- long enough to see that a person reads along, and for the rest of a burst
    wait constant interval := '5 seconds';
begin
    insert into private.notifications as n (
        account_id, user_id, kind, conversation_id, subject_id, source_id, title, body, seq, due_at
    )
    select
        notify.account_id,
        u.user_id,
        notify.kind,
        notify.conversation_id,
        coalesce(notify.conversation_id, (notify.data ->> 'id')::uuid, notify.account_id),
        (notify.data ->> 'source_id')::uuid,
        private.shortened(notify.title, 120),
        private.shortened(notify.body, 120),
        (notify.data ->> 'seq')::bigint,
        clock_timestamp() + wait
    from (select distinct i as user_id from unnest(user_ids) i) u
    where exists (
        select
        from public.push_subscriptions s
        where s.user_id = u.user_id
    )
      and not exists (
        select
        from public.notification_choices c
        where c.user_id = u.user_id
          and c.kind = notify.kind
          and not c.is_wanted
    )
    -- two transactions that tell the same users wait for each other in one order
    order by u.user_id
    on conflict on constraint notifications_burst_key do update
        -- what names the person is told before what is told to everybody
        set kind = case when n.kind in ('mention', 'assigned') and excluded.kind = 'message'
                then n.kind else excluded.kind end,
            source_id = case when n.kind in ('mention', 'assigned') and excluded.kind = 'message'
                then n.source_id else excluded.source_id end,
            title = case when n.kind in ('mention', 'assigned') and excluded.kind = 'message'
                then n.title else excluded.title end,
            body = case when n.kind in ('mention', 'assigned') and excluded.kind = 'message'
                then n.body else excluded.body end,
            seq = coalesce(excluded.seq, n.seq),
            count = n.count + 1;
    if found then
        perform private.ring('send_notifications');
    end if;
end
$$;


comment on table public.notification_choices is
    'Which kinds of notifications the signed-in user has chosen or refused, by choose_notifications. A kind without a row is wanted.';
comment on column public.notification_choices.user_id is
    'The user: the signed-in one.';
comment on column public.notification_choices.kind is
    'message, mention, assigned, appointment, invoice or points.';
comment on column public.notification_choices.is_wanted is
    'Whether the user wants to be told of this kind.';
comment on column public.notification_choices.updated_at is
    'When the user chose (server time, UTC).';
comment on policy "users can read their own choices" on public.notification_choices is
    'Choices are a person''s own.';
comment on function private.keep_notification_choice(text, boolean) is
    'See choose_notifications.';
comment on function public.choose_notifications(text, boolean) is
    'Says whether the caller wants notifications of a kind: message, mention, assigned, appointment, invoice or points. Another kind: 422.';
comment on table private.notifications is
    'What users are to be told; send_notifications tells it and deletes the row.';
comment on column private.notifications.subject_id is
    'The conversation, or else the row that the link opens.';
comment on policy "nobody reads notifications directly" on private.notifications is
    'Devices are told.';
comment on function private.shortened(text, integer) is
    'A text in one line of at most so many characters.';
comment on function private.notify(uuid, uuid[], text, uuid, text, text, jsonb) is
    'Tells users on their devices some seconds later, once for a burst about the same conversation, or else about the same row. kind: message, mention, assigned, appointment, invoice or points. data: id (the row that the link opens where there is no conversation), seq (of a message: a user who has read up to it is not told) and source_id (the message or the note whose text it is: once that is deleted, nobody is told). Users without a device and users who do not want the kind are left out.';
