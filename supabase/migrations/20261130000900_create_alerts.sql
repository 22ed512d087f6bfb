-- Made from sql/9_alerts/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The devices on which a user wants to be told: subscriptions of Web Push. An endpoint is an
    address that a browser gives. Functions call it, so it is an address from outside: only a named
    host with TLS, and the sender refuses private networks.

    Source: RFC 8030 and RFC 8291; w3.org, "Push API".
*/
create table private.push_settings (
    only_row         boolean primary key default true
                     constraint push_settings_only_row_check check (only_row),
    -- of VAPID, which browsers need for a subscription; null: nothing is pushed
    public_key       text
                     constraint push_settings_public_key_check
                     check (public_key ~ '^[A-Za-z0-9_-]{87}$'),
    -- for a push service on this machine
    allows_loopback  boolean not null default false
);
alter table private.push_settings enable row level security;


insert into private.push_settings default values;


create table public.push_subscriptions (
    id         uuid primary key default gen_random_uuid(),
    user_id    uuid not null,
    endpoint   text not null
               constraint push_subscriptions_endpoint_key unique
               constraint push_subscriptions_endpoint_check check (length(endpoint) <= 1000),
    p256dh     text not null
               constraint push_subscriptions_p256dh_check check (p256dh ~ '^[A-Za-z0-9_-]{87}$'),
    auth       text not null
               constraint push_subscriptions_auth_check check (auth ~ '^[A-Za-z0-9_-]{22}$'),
    -- until then the push service takes nothing for this device
    not_before timestamptz not null default now(),
    -- tries in a row that failed
    failures   integer not null default 0
               constraint push_subscriptions_failures_check check (failures >= 0),
    created_at timestamptz not null default now()
);
alter table public.push_subscriptions enable row level security;


create index push_subscriptions_user_id_idx on public.push_subscriptions (user_id, created_at);


grant select on public.push_subscriptions to authenticated;


create function private.keep_push_subscription(endpoint text, p256dh text, auth text)
    returns uuid
    language plpgsql
    -- definer: an endpoint moves to the user who is signed in on the device now
    security definer
    set search_path = ''
as $$
declare
    devices constant integer := 20;
    settings private.push_settings;
    kept uuid;
begin
    select s.*
    into settings
    from private.push_settings s;
    if settings.public_key is null then
        raise sqlstate 'PT409' using
            message = 'Notifications are not set up here.',
            detail = 'field: endpoint',
            hint = 'Ask the people who run this service to set the VAPID keys.';
    elsif endpoint is null
        or length(endpoint) > 1000
        or not (
            -- a name of DNS: labels of at most 63 characters, 253 in all
            endpoint ~ '^https://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}(:443)?/[!-~]*$'
            and length(split_part(split_part(endpoint, '/', 3), ':', 1)) <= 253
            or settings.allows_loopback and endpoint ~ '^http://127\.0\.0\.1:[0-9]{1,5}/[!-~]*$'
        )
    then
        raise sqlstate 'PT422' using
            message = 'This is not the address of a push service.',
            detail = 'field: endpoint',
            hint = 'Give the endpoint that the browser gave: https, a named host, at most 1000 characters.';
    elsif p256dh is null or p256dh !~ '^[A-Za-z0-9_-]{87}$' then
        raise sqlstate 'PT422' using
            message = 'This is not the public key of a subscription.',
            detail = 'field: p256dh',
            hint = 'Give keys.p256dh of the browser''s subscription, as base64url without "=".';
    elsif auth is null or auth !~ '^[A-Za-z0-9_-]{22}$' then
        raise sqlstate 'PT422' using
            message = 'This is not the secret of a subscription.',
            detail = 'field: auth',
            hint = 'Give keys.auth of the browser''s subscription, as base64url without "=".';
    end if;

    -- An endpoint is an address, which others may know; the keys are the device's own. So a device
    -- changes hands with its keys alone. What waits for it is its former user's.
    delete from public.push_subscriptions s
    where s.endpoint = keep_push_subscription.endpoint
      and s.user_id <> auth.uid()
      and s.p256dh = keep_push_subscription.p256dh
      and s.auth = keep_push_subscription.auth;

    insert into public.push_subscriptions as s (user_id, endpoint, p256dh, auth)
    values (auth.uid(), endpoint, p256dh, auth)
    on conflict on constraint push_subscriptions_endpoint_key do update
        set p256dh = excluded.p256dh,
            auth = excluded.auth,
            not_before = excluded.not_before,
            failures = 0
        where s.user_id = excluded.user_id
    returning s.id
    into kept;
    if kept is null then
        raise sqlstate 'PT409' using
            message = 'Another user is told on this device, and its keys are not these.',
            detail = 'field: p256dh, auth',
            hint = 'Give the keys of the browser''s subscription; or let the browser unsubscribe and subscribe again.';
    end if;

    -- a browser that was given up leaves its subscription behind
    delete from public.push_subscriptions s
    where s.id in (
        select o.id
        from public.push_subscriptions o
        where o.user_id = auth.uid()
          and o.id <> kept
        order by o.created_at desc, o.id
        offset devices - 1
    );
    return kept;
end
$$;

grant execute on function private.keep_push_subscription(text, text, text) to authenticated;


create function private.forget_push_subscription(endpoint text)
    returns void
    language sql
    -- definer: users delete their own subscriptions only
    security definer
    set search_path = ''
as $$
    delete from public.push_subscriptions s
    where s.endpoint = forget_push_subscription.endpoint
      and s.user_id = auth.uid()
$$;

grant execute on function private.forget_push_subscription(text) to authenticated;


create function private.vapid_key()
    returns text
    language sql
    stable
    -- definer: users may not read settings
    security definer
    set search_path = ''
as $$
    select s.public_key
    from private.push_settings s
$$;

grant execute on function private.vapid_key() to authenticated;


create function public.push_key()
    returns text
    language sql
    stable
    set search_path = ''
as $$
    select private.vapid_key()
$$;

grant execute on function public.push_key() to authenticated;


create function public.save_push_subscription(endpoint text, p256dh text, auth text)
    returns uuid
    language sql
    set search_path = ''
as $$
    select private.keep_push_subscription(endpoint => endpoint, p256dh => p256dh, auth => auth)
$$;

grant execute on function public.save_push_subscription(text, text, text) to authenticated;


create function public.delete_push_subscription(endpoint text)
    returns void
    language sql
    set search_path = ''
as $$
    select private.forget_push_subscription(endpoint)
$$;

grant execute on function public.delete_push_subscription(text) to authenticated;


create function backend.set_push_key(public_key text, allows_loopback boolean default false)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.push_settings s
    set public_key = set_push_key.public_key,
        allows_loopback = set_push_key.allows_loopback
    where (s.public_key, s.allows_loopback)
        is distinct from (set_push_key.public_key, set_push_key.allows_loopback);
exception
    when check_violation then
        raise sqlstate 'PT422' using
            message = 'This is not the public key of VAPID.',
            detail = 'field: public_key',
            hint = 'Give the uncompressed point on P-256 as base64url: 87 characters.';
end
$$;

grant execute on function backend.set_push_key(text, boolean) to service_role;


comment on table private.push_settings is
    'One row: the public key of VAPID, and whether a push service on this machine is allowed.';
comment on table public.push_subscriptions is
    'The devices on which the signed-in user is told; written by save_push_subscription and delete_push_subscription. At most 20 of a user, the latest.';
comment on column public.push_subscriptions.id is
    'Identifies the subscription.';
comment on column public.push_subscriptions.user_id is
    'The user who is signed in on the device.';
comment on column public.push_subscriptions.endpoint is
    'The address at the push service, as the browser gave it.';
comment on column public.push_subscriptions.p256dh is
    'The device''s public key (P-256), in base64url.';
comment on column public.push_subscriptions.auth is
    'The device''s secret for encryption, in base64url.';
comment on column public.push_subscriptions.not_before is
    'Until then nothing is sent to this device, since its push service asked for a pause (server time, UTC).';
comment on column public.push_subscriptions.failures is
    'How many tries in a row have failed. After 100, which take four days, the subscription is forgotten.';
comment on column public.push_subscriptions.created_at is
    'When the device was added (server time, UTC).';
comment on function private.keep_push_subscription(text, text, text) is
    'See save_push_subscription.';
comment on function private.forget_push_subscription(text) is
    'See delete_push_subscription.';
comment on function private.vapid_key() is
    'See push_key.';
comment on function public.push_key() is
    'The public key of VAPID with which a browser subscribes (applicationServerKey), in base64url; null where notifications are not set up.'
    ' Type: text | null';
comment on function public.save_push_subscription(text, text, text) is
    'Tells the caller on this device from now on: endpoint, keys.p256dh and keys.auth of the browser''s subscription. A device that another user has used is the caller''s now, if the keys are the same; otherwise: 409. Returns the subscription''s id. Another address than that of a push service: 422. Notifications are not set up: 409.';
comment on function public.delete_push_subscription(text) is
    'Ends the notifications on a device of the caller. Call it when the user signs out.';
comment on function backend.set_push_key(text, boolean) is
    'Sets the public key of VAPID, whose private key is a setting of send_notifications; null ends notifications. allows_loopback is for a push service on this machine. Call it once for a deployment.';


/*
    Notifications: what a user is to be told on a device. A row is a job. A burst of messages in a
    conversation is one row, told once, some seconds after the first. Only users who have a device
    and want the kind get rows, so for the others nothing is written at all.
*/
create table public.notification_choices (
    user_id    uuid not null,
    kind       text not null
               constraint notification_choices_kind_check
               check (kind in ('message', 'mention', 'assigned', 'appointment', 'invoice', 'points')),
    is_wanted  boolean not null,
    updated_at timestamptz not null default now(),

    primary key (user_id, kind)
);
alter table public.notification_choices enable row level security;


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
    user_id         uuid not null,
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
comment on function private.keep_notification_choice(text, boolean) is
    'See choose_notifications.';
comment on function public.choose_notifications(text, boolean) is
    'Says whether the caller wants notifications of a kind: message, mention, assigned, appointment, invoice or points. Another kind: 422.';
comment on table private.notifications is
    'What users are to be told; send_notifications tells it and deletes the row.';
comment on column private.notifications.subject_id is
    'The conversation, or else the row that the link opens.';
comment on function private.shortened(text, integer) is
    'A text in one line of at most so many characters.';
comment on function private.notify(uuid, uuid[], text, uuid, text, text, jsonb) is
    'Tells users on their devices some seconds later, once for a burst about the same conversation, or else about the same row. kind: message, mention, assigned, appointment, invoice or points. data: id (the row that the link opens where there is no conversation), seq (of a message: a user who has read up to it is not told) and source_id (the message or the note whose text it is: once that is deleted, nobody is told). Users without a device and users who do not want the kind are left out.';


/*
    What users are told: staff of customers' messages, customers of the business's messages, of
    their appointments, invoices and points. On WhatsApp the customer's own phone tells.
*/
insert into private.sentences (key, language, sentence)
values
    ('points.earned', 'en', 'Points: +{points}. Total: {total}.'),
    ('points.earned', 'sl', 'Točke: +{points}. Skupaj: {total}.'),
    ('points.bonus', 'en', 'Bonus points: +{points}. Total: {total}.'),
    ('points.bonus', 'sl', 'Dodatne točke: +{points}. Skupaj: {total}.'),
    ('points.redeemed', 'en', 'Points redeemed: {points}. Total: {total}.'),
    ('points.redeemed', 'sl', 'Porabljene točke: {points}. Skupaj: {total}.'),
    ('points.expired', 'en', 'Points expired: {points}. Total: {total}.'),
    ('points.expired', 'sl', 'Potekle točke: {points}. Skupaj: {total}.'),
    ('notification.messages', 'en', 'New messages: {count}. {text}'),
    ('notification.messages', 'sl', 'Nova sporočila: {count}. {text}');


create function private.has_devices()
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- where nobody has a device, writes cost no more than this
    return exists (select from public.push_subscriptions);
end
$$;


create function private.staff_to_tell(conversation_id uuid, account_id uuid)
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    assignee constant uuid := (
        select s.assignee_id
        from public.desk_states s
        where s.id = staff_to_tell.conversation_id
    );
begin
    if assignee is not null then
        return array[assignee];
    end if;
    return array(
        select m.user_id
        from public.account_members m
        where m.account_id = staff_to_tell.account_id
    );
end
$$;


create function private.tg_messages__notify()
    returns trigger
    language plpgsql
    -- definer: users may not write notifications
    security definer
    set search_path = ''
as $$
declare
    told record;
begin
    if not private.has_devices() then
        return null;
    end if;
    for told in
        select
            n.id,
            n.account_id,
            n.conversation_id,
            n.sender_type,
            n.seq,
            n.message,
            case
                when n.sender_type = 'operator' then a.name
                else coalesce(c.name, c.profile_name, k.group_name, n.sender_name, c.phone, a.name)
            end as title,
            case
                when n.sender_type = 'client'
                    then private.staff_to_tell(n.conversation_id, n.account_id)
                when k.channel <> 'whatsapp' and c.portal_user_id is not null
                    then array[c.portal_user_id]
                else '{}'
            end as user_ids
        from new_rows n
        join public.conversations k
            on k.id = n.conversation_id
        join public.accounts a
            on a.id = n.account_id
        left join public.contacts c
            on c.id = n.customer_id
        -- jobs and invoices tell of themselves
        where n.sender_type in ('client', 'operator')
          and not n.is_history
        order by n.conversation_id, n.seq
    loop
        perform private.notify(
            account_id => told.account_id,
            user_ids => told.user_ids,
            kind => 'message',
            conversation_id => told.conversation_id,
            title => told.title,
            body => told.message,
            data => jsonb_build_object('seq', told.seq, 'source_id', told.id)
        );
    end loop;
    return null;
end
$$;

create trigger _955_notify
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__notify();


create function private.notify_customer(
    account_id uuid,
    customer_id uuid,
    kind text,
    subject_id uuid,
    body text
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    told record;
begin
    select c.portal_user_id, a.name
    into told
    from public.contacts c
    join public.accounts a
        on a.id = c.account_id
    where c.id = notify_customer.customer_id
      and c.account_id = notify_customer.account_id
      and c.portal_user_id is not null;
    if found then
        perform private.notify(
            account_id => notify_customer.account_id,
            user_ids => array[told.portal_user_id],
            kind => notify_customer.kind,
            conversation_id => null,
            title => told.name,
            body => notify_customer.body,
            data => jsonb_build_object('id', notify_customer.subject_id)
        );
    end if;
end
$$;


create function private.tg_jobs__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify_customer(
            account_id => new.account_id,
            customer_id => new.customer_id,
            kind => 'appointment',
            subject_id => new.id,
            body => (private.job_notice(new)).message
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.jobs
    for each row
    -- a record of past work is no news
    when (coalesce(new.ends_at, new.starts_at) > now())
    execute function private.tg_jobs__notify();

create trigger _550_notify_update
    after update of status, starts_at, ends_at on public.jobs
    for each row
    -- as the chat is told; within the function the test cost 3 % of every other change
    when (
        new.status <> old.status
        or new.status = 'rescheduled'
            and (new.starts_at, new.ends_at) is distinct from (old.starts_at, old.ends_at)
    )
    execute function private.tg_jobs__notify();


create function private.tg_invoices__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify_customer(
            account_id => new.account_id,
            customer_id => new.customer_id,
            kind => 'invoice',
            subject_id => new.id,
            body => (private.invoice_notice(new)).message
        );
    end if;
    return null;
end
$$;

create trigger _550_notify
    after update on public.invoices
    for each row
    -- a draft is nothing that the customer knows of
    when (new.status <> old.status and new.sent_at is not null)
    execute function private.tg_invoices__notify();


create function private.tg_loyalty_transactions__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
declare
    line record;
begin
    if not private.has_devices() then
        return null;
    end if;
    for line in
        select n.account_id, n.customer_id, n.type, n.points, b.points as total
        from new_rows n
        -- only who can be told
        join public.contacts c
            on c.id = n.customer_id
           and c.portal_user_id is not null
        join public.loyalty_balances b
            on b.customer_id = n.customer_id
        order by n.customer_id, n.id
    loop
        perform private.notify_customer(
            account_id => line.account_id,
            customer_id => line.customer_id,
            kind => 'points',
            -- one for several lines of a customer
            subject_id => line.customer_id,
            body => private.words(
                line.account_id,
                'points.' || line.type,
                jsonb_build_object('points', abs(line.points), 'total', line.total)
            )
        );
    end loop;
    return null;
end
$$;

-- for each statement: the balance follows the lines only then
create trigger _550_notify
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg_loyalty_transactions__notify();


comment on function private.has_devices() is
    'Whether anybody is told on a device.';
comment on function private.staff_to_tell(uuid, uuid) is
    'The staff who are told of a customer''s message: the assignee, or everybody where there is none.';
comment on function private.tg_messages__notify() is
    'Tells staff of customers'' messages, and customers of the business''s messages in the portal.';
comment on function private.notify_customer(uuid, uuid, text, uuid, text) is
    'Tells a customer who has a login.';
comment on function private.tg_jobs__notify() is
    'Tells the customer of an appointment''s new status or time.';
comment on function private.tg_invoices__notify() is
    'Tells the customer of an invoice''s new status.';
comment on function private.tg_loyalty_transactions__notify() is
    'Tells the customer of points.';


/*
    What staff are told of their work at the desk: that a conversation is theirs now, and that a
    note mentions them. Nobody is told of what they have done themselves. A customer's message in a
    conversation that somebody has is told to that member alone.
*/
insert into private.sentences (key, language, sentence)
values
    ('notification.assigned', 'en', 'The conversation is yours now.'),
    ('notification.assigned', 'sl', 'Pogovor je zdaj vaš.');


create function private.title_of(conversation_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(c.name, c.profile_name, k.group_name, c.phone, a.name)
        from public.conversations k
        join public.accounts a
            on a.id = k.account_id
        left join public.contacts c
            on c.id = k.customer_id
        where k.id = title_of.conversation_id
    );
end
$$;


create function private.tg_desk_states__notify()
    returns trigger
    language plpgsql
    -- definer: users may not write notifications
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify(
            account_id => new.account_id,
            user_ids => array[new.assignee_id],
            kind => 'assigned',
            conversation_id => new.id,
            title => private.title_of(new.id),
            body => private.words(new.account_id, 'notification.assigned', '{}')
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.desk_states
    for each row
    when (new.assignee_id is not null and new.assignee_id is distinct from auth.uid())
    execute function private.tg_desk_states__notify();

create trigger _550_notify_update
    after update of assignee_id on public.desk_states
    for each row
    when (
        new.assignee_id is distinct from old.assignee_id
        and new.assignee_id is not null
        and new.assignee_id is distinct from auth.uid()
    )
    execute function private.tg_desk_states__notify();


create function private.tg_conversation_notes__notify()
    returns trigger
    language plpgsql
    -- definer: as for states
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify(
            account_id => new.account_id,
            user_ids => array(
                select m
                from unnest(new.mentions) m
                where m is distinct from new.author_id
                  -- an edit tells those alone whom it adds
                  and (tg_op = 'INSERT' or m <> all (old.mentions))
            ),
            kind => 'mention',
            conversation_id => new.conversation_id,
            title => coalesce(new.author_name, private.title_of(new.conversation_id)),
            body => new.note,
            data => jsonb_build_object('source_id', new.id)
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.conversation_notes
    for each row
    when (new.mentions <> '{}')
    execute function private.tg_conversation_notes__notify();

create trigger _550_notify_update
    after update of mentions on public.conversation_notes
    for each row
    when (new.mentions <> old.mentions and new.mentions <> '{}')
    execute function private.tg_conversation_notes__notify();


comment on function private.title_of(uuid) is
    'The name under which staff see a conversation.';
comment on function private.tg_desk_states__notify() is
    'Tells a member that a conversation is theirs now.';
comment on function private.tg_conversation_notes__notify() is
    'Tells members that a note mentions them.';


/*
    Pushes: one notification for one device each. When a notification is due, it becomes a push for
    each device of its user, unless the user has read the conversation meanwhile. While the user
    looks at the conversation it waits.

    A push that is sent twice does no harm, since a device shows one of a subject. So a lease is a
    time before which no other worker tries. After a day nobody wants to be told any more.
*/
create table private.conversation_watchers (
    user_id         uuid not null,
    conversation_id uuid not null
                    constraint conversation_watchers_conversation_id_fkey
                    references public.conversations on delete cascade,
    seen_at         timestamptz not null default now(),

    primary key (user_id, conversation_id)
);
alter table private.conversation_watchers enable row level security;


create index conversation_watchers_conversation_id_idx
    on private.conversation_watchers (conversation_id);


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
comment on function private.keep_watching(uuid) is
    'See stay_at_conversation.';
comment on function public.stay_at_conversation(uuid) is
    'Says that the caller looks at a conversation. Clients call it each minute meanwhile; 90 seconds after the last call the caller is told of new messages again, of those that came meanwhile too unless they are read. Unknown conversation: 404.';
comment on table private.push_queue is
    'Notifications to send, one for each device. The worker claims and settles them.';
comment on column private.push_queue.not_before is
    'When the next try may begin. While a worker has the push: when its lease ends.';
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


/*
    What is wrong with an account at the moment, for the people who can mend it: since when, how
    often, what it means and what to do. A row exists as long as its trouble. The sweep of every
    minute finds all of it; what stops a number or the sync is told at once.
*/
create table public.account_health (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint account_health_account_id_fkey
               references public.accounts on delete cascade,
    kind       text not null
               constraint account_health_kind_check
               check (kind in (
                   'stopped_number', 'paused_account', 'paused_number', 'failing_sync',
                   'refused_signatures', 'unknown_number', 'waiting_messages', 'failed_messages'
               )),
    -- the WhatsApp number; empty where it is about none
    subject    text not null default '',
    since      timestamptz not null,
    count      integer not null
               constraint account_health_count_check check (count >= 1),
    meaning    text not null,
    remedy     text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint account_health_kind_key unique (account_id, kind, subject)
);
alter table public.account_health enable row level security;


grant select on public.account_health to authenticated;


create trigger _050_keep_owner
    before update of account_id on public.account_health
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.account_health
    for each row
    execute function private.tg__stamp_change();


insert into private.sentences (key, language, sentence)
values
    ('health.stopped_number', 'en', 'Since {since} nothing is sent from the WhatsApp number {subject}. Messages that wait: {waiting}.'),
    ('health.stopped_number', 'sl', 'Od {since} se s številke WhatsApp {subject} nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.stopped_number.remedy', 'en', 'The reason stands beside the number. Solve it at Meta, then let the number send again: what waits is sent.'),
    ('health.stopped_number.remedy', 'sl', 'Razlog je zapisan pri številki. Odpravite ga pri podjetju Meta, nato spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('health.paused_account', 'en', 'Since {since} the account is paused and sends nothing. Messages that wait: {waiting}.'),
    ('health.paused_account', 'sl', 'Račun je od {since} začasno ustavljen in nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.paused_account.remedy', 'en', 'When the reason is gone, resume it: what waits is then sent, or withdrawn if you prefer. What customers write is shown meanwhile.'),
    ('health.paused_account.remedy', 'sl', 'Ko razloga ni več, ga spet vključite: kar čaka, bo poslano ali po vaši izbiri umaknjeno. Kar pišejo stranke, je medtem prikazano.'),
    ('health.paused_number', 'en', 'Since {since} the WhatsApp number {subject} is paused and sends nothing. Messages that wait: {waiting}.'),
    ('health.paused_number', 'sl', 'Številka WhatsApp {subject} je od {since} začasno ustavljena in nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.paused_number.remedy', 'en', 'When the reason is gone, resume it: what waits is then sent, or withdrawn if you prefer. What customers write is shown meanwhile.'),
    ('health.paused_number.remedy', 'sl', 'Ko razloga ni več, jo spet vključite: kar čaka, bo poslano ali po vaši izbiri umaknjeno. Kar pišejo stranke, je medtem prikazano.'),
    ('health.failing_sync', 'en', 'Contacts and partners at Metakocka have not been brought together since {since}. Failed tries: {count}.'),
    ('health.failing_sync', 'sl', 'Stiki in partnerji v Metakocki niso usklajeni od {since}. Neuspeli poskusi: {count}.'),
    ('health.failing_sync.remedy', 'en', 'Read the reason in the settings of the connection. Check the secret key and the quota at Metakocka; the sync goes on by itself.'),
    ('health.failing_sync.remedy', 'sl', 'Preberite razlog v nastavitvah povezave. Preverite skrivni ključ in kvoto v Metakocki; usklajevanje se nadaljuje samo.'),
    ('health.refused_signatures', 'en', 'Webhooks with a wrong signature were refused since {since}: {count}. If messages of customers are missing, the secret of the WhatsApp app is wrong; otherwise a stranger sent them.'),
    ('health.refused_signatures', 'sl', 'Zavrnjeni webhooki z napačnim podpisom od {since}: {count}. Če manjkajo sporočila strank, je skrivnost aplikacije WhatsApp napačna; sicer jih je poslal neznanec.'),
    ('health.refused_signatures.remedy', 'en', 'Compare the app''s secret (Meta, App settings, Basic) with WHATSAPP_APP_SECRET. Meta repeats refused webhooks for 7 days.'),
    ('health.refused_signatures.remedy', 'sl', 'Primerjajte skrivnost aplikacije (Meta, App settings, Basic) z WHATSAPP_APP_SECRET. Meta zavrnjene webhooke ponavlja 7 dni.'),
    ('health.unknown_number', 'en', 'WhatsApp has sent webhooks for the number {subject}, which is not registered here, since {since}: {count}. Their messages are not shown.'),
    ('health.unknown_number', 'sl', 'WhatsApp od {since} pošilja webhooke za številko {subject}, ki tu ni vpisana: {count}. Njihova sporočila niso prikazana.'),
    ('health.unknown_number.remedy', 'en', 'Have the number registered (rapport number add), then have the webhooks applied by rapport replay. They are kept for 90 days.'),
    ('health.unknown_number.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se webhooki obdelajo z ukazom rapport replay. Hranijo se 90 dni.'),
    ('health.waiting_messages', 'en', 'Messages that have waited for more than 5 minutes to be sent by WhatsApp: {count}. The oldest waits since {since}.'),
    ('health.waiting_messages', 'sl', 'Sporočila, ki že več kot 5 minut čakajo na pošiljanje prek WhatsAppa: {count}. Najstarejše čaka od {since}.'),
    ('health.waiting_messages.remedy', 'en', 'Usually they are sent by themselves once WhatsApp takes more. If their number grows, ask the people who run this service.'),
    ('health.waiting_messages.remedy', 'sl', 'Običajno se pošljejo sama, ko jih WhatsApp spet sprejema. Če jih je vedno več, se obrnite na upravljavce te storitve.'),
    ('health.failed_messages', 'en', 'Messages of the last 24 hours that were not sent, or may not have been: {count}. The first since {since}.'),
    ('health.failed_messages', 'sl', 'Sporočila zadnjih 24 ur, ki niso bila poslana ali za katera to ni znano: {count}. Prvo od {since}.'),
    ('health.failed_messages.remedy', 'en', 'Each message says why. Send it again or drop it.'),
    ('health.failed_messages.remedy', 'sl', 'Pri vsakem sporočilu je zapisano, zakaj. Pošljite ga znova ali ga opustite.');


/*
    Messages of the last 30 days that failed or may have failed. An index by status would
    make every status of every message more expensive.
*/
create table private.message_failures (
    message_id uuid primary key
               constraint message_failures_message_id_fkey
               references public.messages on delete cascade,
    account_id uuid not null,
    failed_at  timestamptz not null default now()
);
alter table private.message_failures enable row level security;


create index message_failures_latest_idx on private.message_failures (account_id, failed_at);


create function private.tg_messages__note_failure()
    returns trigger
    language plpgsql
    -- definer: users who send again may not write this list
    security definer
    set search_path = ''
as $$
begin
    if new.status in ('failed', 'unknown') then
        insert into private.message_failures as f (message_id, account_id)
        values (new.id, new.account_id)
        on conflict on constraint message_failures_pkey do update
            set failed_at = excluded.failed_at;
    else
        delete from private.message_failures f
        where f.message_id = new.id;
    end if;
    return null;
end
$$;

create trigger _500_note_failure
    after update of status on public.messages
    for each row
    when (
        new.status is distinct from old.status
        and (new.status in ('failed', 'unknown') or old.status in ('failed', 'unknown'))
    )
    execute function private.tg_messages__note_failure();


/*
    Requests to the webhook's address with a wrong signature, by the hour. They belong to no account:
    nothing that they say is believed.
*/
create table private.refused_signatures (
    hour     timestamptz primary key,
    count    integer not null
             constraint refused_signatures_count_check check (count >= 1),
    first_at timestamptz not null default now()
);
alter table private.refused_signatures enable row level security;


create function backend.note_refused_signatures(count integer)
    returns void
    language sql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    insert into private.refused_signatures as r (hour, count)
    values (date_trunc('hour', now()), least(greatest(note_refused_signatures.count, 1), 100000))
    on conflict (hour) do update
        set count = least(r.count + excluded.count, 1000000000)
$$;

grant execute on function backend.note_refused_signatures(integer) to service_role;


create type private.trouble as (
    account_id uuid,
    kind       text,
    subject    text,
    since      timestamptz,
    count      integer,
    waiting    integer
);


create function private.troubles(account_ids uuid[] default null)
    returns setof private.trouble
    language sql
    stable
    set search_path = ''
as $$
    select
        w.account_id,
        'stopped_number',
        w.display_phone_number,
        min(w.stopped_at),
        count(*)::integer,
        sum((
            select count(*)
            from private.outbound_queue q
            where q.whatsapp_channel_id = w.id
        ))::integer
    from public.whatsapp_channels w
    where w.stopped_at is not null
      and (account_ids is null or w.account_id = any (account_ids))
    -- two numbers may be written alike
    group by w.account_id, w.display_phone_number

    union all
    select
        a.id,
        'paused_account',
        '',
        a.paused_at,
        1,
        private.waiting_to_send(account_id => a.id, channel_id => null)
    from public.accounts a
    where a.paused_at is not null
      and (account_ids is null or a.id = any (account_ids))

    union all
    select
        w.account_id,
        'paused_number',
        w.display_phone_number,
        min(w.paused_at),
        count(*)::integer,
        sum(private.waiting_to_send(account_id => w.account_id, channel_id => w.id))::integer
    from public.whatsapp_channels w
    where w.paused_at is not null
      and (account_ids is null or w.account_id = any (account_ids))
    group by w.account_id, w.display_phone_number

    union all
    select
        k.account_id,
        'failing_sync',
        '',
        coalesce(f.since, k.updated_at),
        greatest(f.count, k.pauses, 1),
        null
    from public.metakocka_connections k
    cross join lateral (
        select count(*)::integer, min(r.finished_at) as since
        from public.sync_runs r
        where r.account_id = k.account_id
          and r.state = 'failed'
          and r.finished_at > coalesce((
              select max(d.finished_at)
              from public.sync_runs d
              where d.account_id = k.account_id
                and d.state = 'done'
          ), '-infinity')
    ) f
    where k.active
      and (k.paused_until > now() or f.count > 0)
      and (account_ids is null or k.account_id = any (account_ids))

    union all
    select a.account_id, 'refused_signatures', '', r.since, r.count, null
    from (
        select min(s.first_at) as since, least(coalesce(sum(s.count), 0), 1000000000)::integer as count
        from private.refused_signatures s
        where s.hour > now() - interval '1 day'
    ) r
    cross join (
        select distinct w.account_id
        from public.whatsapp_channels w
        where account_ids is null or w.account_id = any (account_ids)
    ) a
    where r.count > 0

    union all
    select
        r.account_id,
        'unknown_number',
        left(coalesce(r.phone_number_id, ''), 64),
        min(r.first_received_at),
        sum(r.webhooks)::integer,
        null
    from private.rejected_webhooks r
    where r.reason in ('unknown_phone_number_id', 'unknown_account')
      and (account_ids is null or r.account_id = any (account_ids))
    group by r.account_id, left(coalesce(r.phone_number_id, ''), 64)

    union all
    select m.account_id, 'waiting_messages', '', min(m.created_at), count(*)::integer, null
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    join public.accounts a
        on a.id = w.account_id
    -- those of a stopped or paused number are told with the number
    where num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) = 0
      and m.created_at < now() - interval '5 minutes'
      -- it is being sent
      and q.state <> 'sending'
      and (account_ids is null or m.account_id = any (account_ids))
    group by m.account_id

    union all
    select f.account_id, 'failed_messages', '', min(f.failed_at), count(*)::integer, null
    from private.message_failures f
    where f.failed_at > now() - interval '1 day'
      and (account_ids is null or f.account_id = any (account_ids))
    group by f.account_id
$$;


create function private.refresh_health(account_ids uuid[] default null)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    found_troubles private.trouble[];
    changed integer;
    gone integer;
begin
    -- two of one account wait for each other before either looks: what the second finds is then what
    -- the first has left
    if account_ids is null then
        perform pg_advisory_xact_lock(hashtextextended('health', 0));
    else
        perform pg_advisory_xact_lock_shared(hashtextextended('health', 0));
        perform pg_advisory_xact_lock(hashtextextended('health ' || a.id, 0))
        from (
            select u.id
            from unnest(account_ids) u (id)
            order by u.id
        ) a;
    end if;
    found_troubles := array(select t from private.troubles(account_ids) t);

    delete from public.account_health h
    where (account_ids is null or h.account_id = any (account_ids))
      and not exists (
          select
          from unnest(found_troubles) t
          where (t.account_id, t.kind, t.subject) = (h.account_id, h.kind, h.subject)
      );
    get diagnostics gone = row_count;

    insert into public.account_health as h (
        account_id, kind, subject, since, count, meaning, remedy
    )
    select
        t.account_id,
        t.kind,
        t.subject,
        t.since,
        t.count,
        private.words(
            t.account_id,
            'health.' || t.kind,
            jsonb_build_object(
                'subject', t.subject,
                'count', t.count,
                'waiting', t.waiting,
                'since', private.local_time(t.account_id, t.since)
            )
        ),
        private.words(t.account_id, 'health.' || t.kind || '.remedy', '{}')
    from unnest(found_troubles) t
    -- two at the same time wait for each other in one order
    order by t.account_id, t.kind, t.subject
    on conflict on constraint account_health_kind_key do update
        set since = excluded.since,
            count = excluded.count,
            meaning = excluded.meaning,
            remedy = excluded.remedy
        where (h.since, h.count, h.meaning, h.remedy)
            is distinct from (excluded.since, excluded.count, excluded.meaning, excluded.remedy);
    get diagnostics changed = row_count;
    return changed + gone;
end
$$;


create function private.tg__refresh_health()
    returns trigger
    language plpgsql
    -- definer: the writer may not write health
    security definer
    set search_path = ''
as $$
begin
    perform private.refresh_health(array[new.account_id]);
    return null;
end
$$;


create function private.tg_accounts__refresh_health()
    returns trigger
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.refresh_health(array[new.id]);
    return null;
end
$$;


-- after the row itself is logged, so that a client hears of the cause first
create trigger _980_refresh_health
    after update on public.whatsapp_channels
    for each row
    when ((new.stopped_at, new.paused_at) is distinct from (old.stopped_at, old.paused_at))
    execute function private.tg__refresh_health();

create trigger _980_refresh_health
    after update on public.accounts
    for each row
    when (new.paused_at is distinct from old.paused_at)
    execute function private.tg_accounts__refresh_health();

create trigger _980_refresh_health
    after update on public.metakocka_connections
    for each row
    when ((new.paused_until, new.active) is distinct from (old.paused_until, old.active))
    execute function private.tg__refresh_health();

create trigger _980_refresh_health
    after update on public.sync_runs
    for each row
    when (new.state is distinct from old.state and new.state in ('failed', 'done'))
    execute function private.tg__refresh_health();


create function backend.sweep_health()
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    -- another sweep does the same
    if not pg_try_advisory_xact_lock(hashtextextended('sweep of health', 0)) then
        return 0;
    end if;
    -- so long a failed message can be redriven
    delete from private.message_failures f
    where f.failed_at < now() - interval '30 days';
    delete from private.refused_signatures r
    where r.hour < now() - interval '1 day';
    return private.refresh_health();
end
$$;

grant execute on function backend.sweep_health() to service_role;


create function public.account_health(account_id uuid)
    returns setof public.account_health
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    elsif account_id not in (select private.my_admin_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not see the health of this account.',
            detail = 'field: account_id',
            hint = 'Owners and admins of the account may.';
    end if;
    return query
    select h.*
    from public.account_health h
    where h.account_id = account_health.account_id
    order by
        array_position(
            array[
                'stopped_number', 'paused_account', 'paused_number', 'failing_sync',
                'refused_signatures', 'unknown_number'
            ],
            h.kind),
        h.since,
        h.kind;
end
$$;

grant execute on function public.account_health(uuid) to authenticated;


comment on table public.account_health is
    'What is wrong with an account at the moment. A row exists as long as its trouble; looked for every minute.';
comment on column public.account_health.id is
    'Identifies the row.';
comment on column public.account_health.account_id is
    'The account.';
comment on column public.account_health.kind is
    'stopped_number: WhatsApp lets a number send nothing; paused_account and paused_number: a person has paused it; failing_sync: Metakocka; refused_signatures and unknown_number: webhooks that were not taken; waiting_messages: to be sent for more than 5 minutes; failed_messages: of the last 24 hours.';
comment on column public.account_health.subject is
    'The WhatsApp number: as people write it, and of unknown_number Meta''s id; empty where it is about none.';
comment on column public.account_health.since is
    'Since when (UTC).';
comment on column public.account_health.count is
    'How many: numbers, failed runs, webhooks or messages.';
comment on column public.account_health.meaning is
    'What has happened, in a sentence, in the account''s language.';
comment on column public.account_health.remedy is
    'What to do, in the account''s language.';
comment on column public.account_health.created_at is
    'When it was found (server time, UTC).';
comment on column public.account_health.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.account_health.version is
    'Rises with every change of the row.';
comment on table private.message_failures is
    'The messages of the last 30 days that failed or may have failed.';
comment on function private.tg_messages__note_failure() is
    'Notes that a message failed, and forgets it when it was sent after all.';
comment on table private.refused_signatures is
    'How many webhooks with a wrong signature came, by the hour.';
comment on function backend.note_refused_signatures(integer) is
    'Counts webhooks that were refused since their signature is wrong.';
comment on type private.trouble is
    'What is wrong with an account; waiting is of what is stopped or paused alone.';
comment on function private.troubles(uuid[]) is
    'What is wrong now with these accounts, or with all.';
comment on function private.refresh_health(uuid[]) is
    'Writes what is wrong now with these accounts, or with all, and deletes what is no longer wrong. Returns how many rows have changed.';
comment on function private.tg_accounts__refresh_health() is
    'Writes the health of an account that was paused or resumed.';
comment on function private.tg__refresh_health() is
    'Writes the health of the account whose number or sync has changed.';
comment on function backend.sweep_health() is
    'Writes the health of all accounts; returns how many rows have changed.';
comment on function public.account_health(uuid) is
    'What is wrong with an account, the gravest first: since when, how often, what it means and what to do, in its language. For owners and admins. Live: follow the table account_health.';


select private.follow_table(
    table_name => 'account_health',
    shown => array[
        'id', 'account_id', 'kind', 'subject', 'since', 'count', 'meaning', 'remedy',
        'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);


/*
    Figures of all accounts together, for the alarms of the people who run the deployment. They name
    nobody: each account's own troubles are in account_health.
*/
create function backend.figures()
    returns jsonb
    language sql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    select jsonb_build_object(
        -- those of a stopped number are told with the number, and of a paused one a person knows
        'oldest_outbound_seconds', (
            select coalesce(greatest(extract(epoch from now() - min(m.created_at)), 0), 0)::bigint
            from private.outbound_queue q
            join public.messages m
                on m.id = q.message_id
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            join public.accounts a
                on a.id = w.account_id
            where num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) = 0
        ),
        'stopped_numbers', (
            select count(*)
            from public.whatsapp_channels w
            where w.stopped_at is not null
        ),
        'failing_syncs', (
            select count(distinct h.account_id)
            from public.account_health h
            where h.kind = 'failing_sync'
        )
    )
$$;

grant execute on function backend.figures() to service_role;


comment on function backend.figures() is
    'Figures for alarms: the age of the oldest message to be sent (seconds), how many numbers are stopped, and of how many accounts the sync fails.';


/*
    After a restore the database knows less than the world: what waited at the time of the backup may
    have been sent, told or called since. So nothing of it happens again by itself.

        messages            are unknown: their status settles them, or a person sends or drops them
        scheduled messages  whose time is over have failed, with a sentence
        reminders           that were due are left out
        notifications       are forgotten
        calls to Metakocka  that had not begun may have: the partner is looked for first
        leases              end, and open runs of the sync read all partners anew
        cursors             of clients are of no use: each reads everything again
        the doorbell        is taken off: it may be that of the database that was copied
*/
create function backend.after_restore(dry_run boolean default true)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    told constant jsonb := jsonb_build_object(
        'latest_webhook_at', (
            select e.last_received_at
            from private.webhook_events e
            order by e.id desc
            limit 1
        ),
        'messages', (select count(*) from private.outbound_queue),
        'scheduled_messages', (
            select count(*)
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at <= now()
        ),
        'reminder_rules', (select count(*) from public.reminder_rules r where r.is_active),
        'notifications',
            (select count(*) from private.notifications) + (select count(*) from private.push_queue),
        'files', (select count(*) from private.media_queue q where q.worker is not null),
        'partner_calls', (
            select count(*)
            from private.partner_intents i
            where i.state in ('intended', 'sent')
        ),
        'sync_runs', (
            select count(*)
            from public.sync_runs r
            where r.state in ('queued', 'running', 'stopped')
        ),
        -- without its path and secret
        'doorbell', (select substring(d.url from '^https?://[^/]+') from private.doorbell d)
    );
    held uuid[];
begin
    if dry_run then
        return told;
    end if;

    held := array(
        select m.id
        from public.messages m
        where m.id in (select q.message_id from private.outbound_queue q)
        order by m.id
        for no key update
    );
    update private.outbound_attempts t
    set outcome = 'unknown',
        ended_at = clock_timestamp()
    where t.message_id = any (held)
      and t.outcome is null;
    delete from private.outbound_queue q
    where q.message_id = any (held);
    update public.messages m
    set status = 'unknown',
        error_message = 'The database was restored from a backup while this message waited: it may have been sent.'
    where m.id = any (held)
      and m.status = 'queued';

    update public.scheduled_messages s
    set status = 'failed',
        error_message = 'The database was restored from a backup after the time of this message: it may have been sent.'
    where s.status = 'waiting'
      and s.due_at <= now();
    update public.reminder_rules r
    set active_since = now()
    where r.is_active;

    -- a hosted project refuses a deletion without a condition
    delete from private.notifications n where true;
    delete from private.push_queue q where true;
    delete from private.conversation_watchers w where true;
    update private.media_queue q
    set worker = null,
        not_before = now()
    where q.worker is not null;

    delete from private.sync_leases l where true;
    update private.metakocka_dirty d
    set worker = null,
        lease_until = null
    where d.worker is not null;
    update private.partner_intents i
    set state = 'unknown',
        sent_at = coalesce(i.sent_at, now())
    where i.state in ('intended', 'sent');
    update public.sync_runs r
    set cursor = null
    where r.state in ('queued', 'running', 'stopped')
      and r.cursor is not null;

    update private.change_log l
    set epoch = gen_random_uuid()
    where l.only_row;
    update private.doorbell d
    set url = null,
        secret = null
    where d.only_row;
    perform private.refresh_health();
    return told;
end
$$;

grant execute on function backend.after_restore(boolean) to service_role;


comment on function backend.after_restore(boolean) is
    'Holds everything that would otherwise be sent a second time after a restore, ends leases, renews the log''s epoch and takes the doorbell off: {latest_webhook_at, messages, scheduled_messages, reminder_rules, notifications, files, partner_calls, sync_runs, doorbell}, numbers of before. With dry_run it only tells them.';


/*
    What `rapport check` asks the database: how it is set up and what waits in it, as facts. What
    they mean is decided there. No fact is a secret or names a person.

    A deployment may lack a part of the platform, such as pg_net. So these parts are asked for by
    statements that are made when they are there.
*/
create function private.applied_migrations()
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    -- the Supabase CLI's own list
    if to_regclass('supabase_migrations.schema_migrations') is null then
        return null;
    end if;
    execute $query$
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'version', m.version,
                    'name', m.name,
                    -- the CLI keeps statements, without what stands between them
                    'digest', encode(
                        sha256(convert_to(
                            translate(array_to_string(m.statements, ''), E' \n\t\r;', ''), 'UTF8')),
                        'hex')
                )
                order by m.version
            ),
            '[]'
        )
        from supabase_migrations.schema_migrations m
    $query$
    into answer;
    return answer;
end
$$;


create function private.requests_made()
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    if to_regclass('net._http_response') is null then
        return null;
    end if;
    execute $query$
        select jsonb_build_object(
            'version', (select x.extversion from pg_catalog.pg_extension x where x.extname = 'pg_net'),
            'waiting', (select count(*) from net.http_request_queue),
            'answers', coalesce(
                (
                    select jsonb_agg(jsonb_build_object(
                        'result', a.result, 'count', a.count, 'latest_at', a.latest_at)
                        order by a.latest_at desc)
                    from (
                        select
                            coalesce(
                                r.status_code::text,
                                case when r.timed_out then 'no answer in time' else 'not reached' end
                            ) as result,
                            count(*) as count,
                            max(r.created) as latest_at
                        from net._http_response r
                        where r.created > now() - interval '1 hour'
                        group by 1
                    ) a
                ),
                '[]'
            )
        )
    $query$
    into answer;
    return answer;
end
$$;


create function private.replication_slots()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'name', s.slot_name,
                'plugin', s.plugin,
                'is_active', s.active,
                'wal_status', s.wal_status,
                'lag_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)
            )
            order by s.slot_name
        ),
        '[]'
    )
    from pg_catalog.pg_replication_slots s
    where s.database = current_database()
$$;


create function private.realtime_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select jsonb_build_object(
        'publication', (
            select jsonb_build_object(
                'operations', array_remove(
                    array[
                        case when p.pubinsert then 'insert' end,
                        case when p.pubupdate then 'update' end,
                        case when p.pubdelete then 'delete' end,
                        case when p.pubtruncate then 'truncate' end
                    ],
                    null)
            )
            from pg_catalog.pg_publication p
            where p.pubname = 'supabase_realtime'
        ),
        'unpublished', array(
            select f.table_name
            from private.followed_tables f
            where not exists (
                select
                from pg_catalog.pg_publication_tables t
                where t.pubname = 'supabase_realtime'
                  and t.schemaname = 'public'
                  and t.tablename = f.table_name
            )
            order by f.table_name
        ),
        -- every policy of a kind widens what the others allow
        'policies', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object('name', p.polname, 'is_permissive', p.polpermissive)
                    order by p.polname)
                from pg_catalog.pg_policy p
                where p.polrelid = 'realtime.messages'::regclass
            ),
            '[]'
        ),
        'is_guarded', (
            select c.relrowsecurity
            from pg_catalog.pg_class c
            where c.oid = 'realtime.messages'::regclass
        ),
        'has_todays_partition', to_regclass(
            'realtime.messages_' || to_char(now() at time zone 'UTC', 'YYYY_MM_DD')) is not null,
        'slots', private.replication_slots()
    )
$$;


create function private.guards_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select jsonb_build_object(
        'pre_request', (
            select substr(s.setting, length('pgrst.db_pre_request=') + 1)
            from pg_catalog.pg_roles r
            cross join lateral unnest(r.rolconfig) s (setting)
            where r.rolname = 'authenticator'
              and s.setting like 'pgrst.db\_pre\_request=%'
        ),
        'disabled_triggers', array(
            select format('%s on %s', t.tgname, c.relname)
            from pg_catalog.pg_trigger t
            join pg_catalog.pg_class c
                on c.oid = t.tgrelid
            where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
              and not t.tgisinternal
              and t.tgenabled = 'D'
            order by 1
        ),
        'unguarded', array(
            select format('%s.%s', c.relnamespace::regnamespace, c.relname)
            from pg_catalog.pg_class c
            where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
              and c.relkind in ('r', 'p')
              and not c.relrowsecurity
            order by 1
        ),
        'open_to_anon', array(
            select f.table_name
            from private.followed_tables f
            where has_table_privilege(
                'anon', format('public.%I', f.table_name), 'select, insert, update, delete')
            order by f.table_name
        )
    )
$$;


create function private.queues_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    -- ages in seconds: how long the oldest has been due
    select jsonb_object_agg(
        q.name,
        jsonb_build_object(
            'count', q.count,
            'oldest_seconds',
            coalesce(greatest(extract(epoch from clock_timestamp() - q.oldest), 0), 0)::bigint
        )
    )
    from (
        select 'outbound' as name, count(*) as count, min(m.created_at) as oldest
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        join public.whatsapp_channels w
            on w.id = o.whatsapp_channel_id
        -- those of a stopped number are told with the number
        where w.stopped_at is null
        union all
        select 'media', count(*), min(f.not_before)
        from private.media_queue f
        where f.not_before < now()
        union all
        select 'metakocka', count(*), min(d.not_before)
        from private.metakocka_dirty d
        join public.metakocka_connections k
            on k.account_id = d.account_id
        where d.not_before < now()
          and coalesce(d.lease_until < now(), true)
          and k.active
          and coalesce(k.paused_until < now(), true)
        union all
        select 'notifications', count(*), min(p.not_before)
        from private.push_queue p
        where p.not_before < now()
        union all
        select 'scheduled', count(*), min(s.due_at)
        from public.scheduled_messages s
        where s.status = 'waiting'
          and s.due_at < now()
    ) q
$$;


create function backend.deployment()
    returns jsonb
    language sql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    select jsonb_build_object(
        'now', clock_timestamp(),
        'release', backend.release(),
        'postgres', current_setting('server_version'),
        'migrations', private.applied_migrations(),
        'realtime', private.realtime_state(),
        'guards', private.guards_state(),
        'net', private.requests_made(),
        'cron', (select x.extversion from pg_catalog.pg_extension x where x.extname = 'pg_cron'),
        'doorbell_url', (select d.url from private.doorbell d),
        'push_key', (select s.public_key from private.push_settings s),
        'push_subscriptions', (select count(*) from public.push_subscriptions),
        'accounts', (select count(*) from public.accounts),
        'accounts_without_owner', array(
            select a.external_id
            from public.accounts a
            where not exists (
                select
                from public.account_members m
                where m.account_id = a.id
                  and m.role = 'owner'
            )
            order by a.external_id
            limit 10
        ),
        'numbers', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object(
                        'account', a.external_id,
                        'phone_number_id', w.phone_number_id,
                        'waba_id', w.waba_id,
                        'display_phone_number', w.display_phone_number,
                        'stopped_reason', w.stopped_reason,
                        'templates', t.count,
                        'templates_read_at', t.read_at
                    )
                    order by a.external_id, w.phone_number_id
                )
                from public.whatsapp_channels w
                join public.accounts a
                    on a.id = w.account_id
                cross join lateral (
                    select count(*) as count, max(t.synced_at) as read_at
                    from public.whatsapp_templates t
                    where t.account_id = w.account_id
                      and t.waba_id = w.waba_id
                      and t.gone_at is null
                ) t
            ),
            '[]'
        ),
        'companies', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object(
                        'account_id', k.account_id,
                        'account', a.external_id,
                        'company_id', k.company_id,
                        'pause_reason', case when k.paused_until > now() then k.pause_reason end
                    )
                    order by a.external_id
                )
                from public.metakocka_connections k
                join public.accounts a
                    on a.id = k.account_id
                where k.active
            ),
            '[]'
        ),
        'queues', private.queues_state(),
        'webhooks', jsonb_build_object(
            'latest_at', (select max(e.received_at) from private.webhook_events e),
            'rejected', (
                select count(*)
                from private.webhook_events e
                where e.rejected <> '[]'
                  and e.received_at > now() - interval '1 day'
            ),
            'refused_signatures', (
                select coalesce(sum(r.count), 0)
                from private.refused_signatures r
                where r.hour > now() - interval '1 day'
            ),
            -- only a webhook with a good signature is kept
            'taken_since_refused', exists (
                select
                from private.webhook_events e
                where e.received_at >= (
                    select min(r.first_at)
                    from private.refused_signatures r
                    where r.hour > now() - interval '1 day'
                )
            )
        )
    )
$$;

grant execute on function backend.deployment() to service_role;


create function backend.try_doorbell()
    returns bigint
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
declare
    bell private.doorbell;
    request_id bigint;
begin
    select d.*
    into bell
    from private.doorbell d
    where d.url is not null;
    if not found or to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)') is null then
        return null;
    end if;
    -- as private.ring does it. A worker that is woken for nothing looks and finds nothing.
    execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => 5000)'
    into request_id
    using
        bell.url,
        jsonb_build_object('worker', 'send_later'),
        jsonb_build_object(
            'content-type', 'application/json', 'authorization', 'Bearer ' || bell.secret);
    return request_id;
end
$$;

grant execute on function backend.try_doorbell() to service_role;


create function backend.doorbell_answer(request_id bigint)
    returns jsonb
    language plpgsql
    stable
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    execute $query$
        select jsonb_build_object(
            'status', r.status_code,
            'is_late', coalesce(r.timed_out, false),
            'error', left(r.error_msg, 200)
        )
        from net._http_response r
        where r.id = $1
    $query$
    into answer
    using request_id;
    return answer;
end
$$;

grant execute on function backend.doorbell_answer(bigint) to service_role;


create function backend.try_broadcast(nonce uuid)
    returns void
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
begin
    -- a topic that may_receive lets no user join
    insert into realtime.messages (topic, extension, event, payload, private)
    values ('check:' || nonce, 'broadcast', 'check', jsonb_build_object('nonce', nonce), true);
end
$$;

grant execute on function backend.try_broadcast(uuid) to service_role;


create function backend.forget_broadcast(nonce uuid)
    returns void
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
begin
    delete from realtime.messages m
    where m.topic = 'check:' || nonce
      and m.inserted_at > (now() at time zone 'UTC') - interval '1 hour';
end
$$;

grant execute on function backend.forget_broadcast(uuid) to service_role;


comment on function private.applied_migrations() is
    'The migrations that the Supabase CLI has applied, each with the SHA-256 of its text without spaces and semicolons; null where the CLI has applied none.';
comment on function private.requests_made() is
    'pg_net''s version, the number of its waiting requests, and what became of those of the last hour; null without pg_net.';
comment on function private.replication_slots() is
    'The replication slots of this database, and how many bytes each is behind.';
comment on function private.realtime_state() is
    'What Realtime needs: publication, policies, today''s partition, replication slots.';
comment on function private.guards_state() is
    'What protects the tables: the function before each request, triggers, row level security, grants.';
comment on function private.queues_state() is
    'How many rows of each queue are due, and for how many seconds the oldest has been.';
comment on function backend.deployment() is
    'How this deployment is set up and what waits in it, for rapport check.';
comment on function backend.try_doorbell() is
    'Rings the doorbell once; doorbell_answer tells what became of this request. Null where there is no doorbell, or no pg_net.';
comment on function backend.doorbell_answer(bigint) is
    'What became of a request of try_doorbell: status, is_late, error; null as long as it has no answer.';
comment on function backend.try_broadcast(uuid) is
    'Broadcasts once to the private topic check:<nonce>, which only a secret key may join.';
comment on function backend.forget_broadcast(uuid) is
    'Deletes what try_broadcast has stored.';


/*
    Why something does not show: its way from the webhook to the people who see it, as steps in
    their order. Each step says whether it is fine, in words and with the remedy. The files that
    follow take the steps; why_not_shown asks for them.

    A step has a code and facts, and its words are the sentence of that code, filled with the facts.
*/
create type private.why_step as (
    step  text,
    -- null where it can't be known
    ok    boolean,
    -- <step>.<what was found>
    code  text,
    facts jsonb
);


create function private.as_step(code text, ok boolean, facts jsonb default '{}')
    returns private.why_step
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (split_part(code, '.', 1), ok, code, coalesce(jsonb_strip_nulls(facts), '{}'))::private.why_step;
end
$$;


-- What an id stands for, as people call it; null where it stands for nothing any more.
create function private.named_row(kind text, id uuid, language text, time_zone text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case kind
        when 'contact' then (
            select coalesce(c.name, c.profile_name, c.phone, c.email, c.username)
            from public.contacts c
            where c.id = named_row.id
        )
        -- two of one name are told apart
        when 'contact_ids' then (
            select concat_ws(' ', coalesce(c.name, c.profile_name), format('(%s)', coalesce(c.phone, i.value)))
            from public.contacts c
            left join lateral (
                select o.value
                from public.contact_identities o
                where o.contact_id = c.id
                order by o.kind = 'phone' desc, o.kind, o.match_key
                limit 1
            ) i
                on true
            where c.id = named_row.id
        )
        when 'conversation' then (
            select format(
                '%s (%s)',
                coalesce(
                    private.named_row('contact', k.customer_id, language => named_row.language, time_zone => named_row.time_zone),
                    k.group_name,
                    private.why_word('group', 'unnamed', named_row.language)
                ),
                private.why_word('channel', k.channel, named_row.language)
            )
            from public.conversations k
            where k.id = named_row.id
        )
        when 'message' then (
            select format(
                '%s, %s',
                case m.sender_type
                    when 'system' then private.why_word('sender', 'system', named_row.language)
                    else coalesce(
                        m.sender_name,
                        case m.sender_type when 'client' then
                            private.named_row('contact', m.customer_id, language => named_row.language, time_zone => named_row.time_zone)
                        end,
                        private.why_word('sender', m.sender_type, named_row.language)
                    )
                end,
                private.fact_words('at', to_jsonb(m.created_at), language => named_row.language, time_zone => named_row.time_zone)
            )
            from public.messages m
            where m.id = named_row.id
        )
    end;
end
$$;


create function private.why_word(kind text, word text, language text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select s.sentence
            from private.sentences s
            where s.key = format('why_word.%s.%s', why_word.kind, why_word.word)
              and s.language = why_word.language
        ),
        word
    );
end
$$;


create function private.fact_words(name text, fact jsonb, language text, time_zone text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    plain constant text := fact #>> '{}';
    -- the rows that are named, by the fact that holds their id
    kind constant text := case name
        when 'contact_id' then 'contact'
        when 'merged_into' then 'contact'
        when 'contact_ids' then 'contact_ids'
        when 'conversation_id' then 'conversation'
        when 'message_id' then 'message'
    end;
begin
    if jsonb_typeof(fact) = 'array' then
        return (
            select string_agg(w.words, ', ' order by w.place)
            from (
                -- several topics are of one kind
                select o.words, min(o.place) as place
                from (
                    select
                        private.fact_words(name, e.value, language => fact_words.language, time_zone => fact_words.time_zone),
                        e.place
                    from jsonb_array_elements(fact) with ordinality as e (value, place)
                ) o (words, place)
                group by o.words
            ) w
        );
    elsif kind is not null and pg_input_is_valid(plain, 'uuid') then
        return coalesce(
            private.named_row(kind, plain::uuid, language => fact_words.language, time_zone => fact_words.time_zone),
            private.why_word('row', 'unnamed', language)
        );
    elsif name = 'topics' then
        return private.why_word('topic', split_part(plain, ':', 1), language);
    elsif name in ('missing', 'fields') then
        return private.why_word('field', plain, language);
    elsif name in ('status', 'role', 'operation', 'table') then
        return private.why_word(name, plain, language);
    elsif jsonb_typeof(fact) = 'string'
        and plain ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d'
        and pg_input_is_valid(plain, 'timestamptz')
    then
        -- to the second: a diagnosis compares times
        return to_char(
            plain::timestamptz at time zone time_zone,
            case language when 'sl' then 'FMDD. FMMM. YYYY "ob" HH24:MI:SS' else 'FMDD FMMonth YYYY, HH24:MI:SS' end
        ) || case time_zone when 'UTC' then ' UTC' else '' end;
    end if;
    return plain;
end
$$;


create function private.why_words(key text, language text, time_zone text, facts jsonb)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    written constant text := (
        select s.sentence
        from private.sentences s
        where s.key = 'why.' || why_words.key
          and s.language = why_words.language
    );
begin
    return private.fill_names(written, (
        select jsonb_object_agg(f.key, private.fact_words(
            f.key, f.value, language => why_words.language, time_zone => why_words.time_zone))
        from jsonb_each(facts) f
        -- an id that the sentence does not name is not looked up
        where position('{' || f.key || '}' in written) > 0
    ));
end
$$;


comment on type private.why_step is
    'A step of the way on which something comes to be shown.';
comment on function private.as_step(text, boolean, jsonb) is
    'A step by its code, without the facts that are null.';
comment on function private.named_row(text, uuid, text, text) is
    'A contact by its name, a conversation by its person and channel, a message by its author and time.';
comment on function private.why_word(text, text, text) is
    'A word of the database for people, such as that of a status; the word itself where there is none.';
comment on function private.fact_words(text, jsonb, text, text) is
    'A fact as a sentence has it: the name of what an id stands for, a list with commas, a time by the clocks of a time zone.';
comment on function private.why_words(text, text, text, jsonb) is
    'The sentence of a code, filled with facts; null where there is none.';


insert into private.sentences (key, language, sentence)
values
    ('why.summary.fine', 'en', 'Nothing is wrong, as far as it can be looked at.'),
    ('why.summary.fine', 'sl', 'Nič ni narobe, kolikor je mogoče preveriti.'),

    ('why.found.message', 'en', 'It is the message {message_id}.'),
    ('why.found.message', 'sl', 'To je sporočilo: {message_id}.'),
    ('why.found.effect', 'en', 'It is a reaction, an edit or a deletion. It is shown at the message that it changes: {message_id}.'),
    ('why.found.effect', 'sl', 'To je odziv, popravek ali izbris. Prikazan je pri sporočilu, ki ga spreminja: {message_id}.'),
    ('why.found.effect_alone', 'en', 'It is a reaction, an edit or a deletion.'),
    ('why.found.effect_alone', 'sl', 'To je odziv, popravek ali izbris.'),
    ('why.found.later', 'en', 'It is a message that is to be sent later.'),
    ('why.found.later', 'sl', 'To je sporočilo, ki bo poslano pozneje.'),
    ('why.found.conversation', 'en', 'It is the conversation with {conversation_id}.'),
    ('why.found.conversation', 'sl', 'To je pogovor: {conversation_id}.'),
    ('why.found.booking', 'en', 'It is an appointment; its chat is the conversation with {conversation_id}.'),
    ('why.found.booking', 'sl', 'To je termin; njegov klepet je pogovor: {conversation_id}.'),
    ('why.found.key', 'en', 'The key stands for the conversation with {conversation_id}. Rows, topics and events name it by its id, never by the key.'),
    ('why.found.key', 'sl', 'Ključ pomeni pogovor: {conversation_id}. Vrstice, teme in dogodki ga imenujejo z id-jem, nikoli s ključem.'),
    ('why.found.key.remedy', 'en', 'Compare with the conversation''s id in your client; resolve_conversation gives it for a key.'),
    ('why.found.key.remedy', 'sl', 'V svojem odjemalcu primerjajte z id-jem pogovora; za ključ ga pove resolve_conversation.'),
    ('why.found.key_account', 'en', 'The first part of the key, {account}, is not the external id of this account.'),
    ('why.found.key_account', 'sl', 'Prvi del ključa, {account}, ni zunanji id tega podjetja.'),
    ('why.found.key_account.remedy', 'en', 'A key is account, phone number id and customer number, joined by underscores: check its first part.'),
    ('why.found.key_account.remedy', 'sl', 'Ključ so podjetje, id številke in številka stranke, povezani s podčrtaji: preverite prvi del.'),
    ('why.found.key_number', 'en', 'The second part of the key, {phone_number_id}, is not a WhatsApp number of this account.'),
    ('why.found.key_number', 'sl', 'Drugi del ključa, {phone_number_id}, ni številka WhatsApp tega podjetja.'),
    ('why.found.key_number.remedy', 'en', 'Compare it with the number''s id at Meta. If it is right, have the number registered.'),
    ('why.found.key_number.remedy', 'sl', 'Primerjajte ga z id-jem številke pri podjetju Meta. Če je pravi, naj se številka vpiše.'),
    ('why.found.key_customer', 'en', 'Nobody with the number {customer} has a conversation with your number that the key names.'),
    ('why.found.key_customer', 'sl', 'Nihče s številko {customer} nima pogovora z vašo številko, ki jo navaja ključ.'),
    ('why.found.key_customer.remedy', 'en', 'Ask with the customer''s number alone: the person may write from another number, or to another one of yours.'),
    ('why.found.key_customer.remedy', 'sl', 'Vprašajte samo s številko stranke: morda piše z druge številke ali na drugo vašo številko.'),
    ('why.found.contact', 'en', 'It is the contact {contact_id}.'),
    ('why.found.contact', 'sl', 'To je stik {contact_id}.'),
    ('why.found.several', 'en', 'Several contacts could be meant: {contact_ids}.'),
    ('why.found.several', 'sl', 'Mišljenih je lahko več stikov: {contact_ids}.'),
    ('why.found.several.remedy', 'en', 'Write the number with its plus and country code, or give the id of one of them.'),
    ('why.found.several.remedy', 'sl', 'Napišite številko s plusom in kodo države ali navedite id enega od njih.'),
    ('why.found.number', 'en', 'It is the WhatsApp number {display_phone_number}.'),
    ('why.found.number', 'sl', 'To je številka WhatsApp {display_phone_number}.'),
    ('why.found.partner', 'en', 'It is a partner at Metakocka.'),
    ('why.found.partner', 'sl', 'To je partner v Metakocki.'),
    ('why.found.nothing', 'en', 'There is nothing here with this id: no message, conversation, contact, number or partner.'),
    ('why.found.nothing', 'sl', 'S tem id-jem tu ni ničesar: ne sporočila, pogovora, stika, številke ne partnerja.'),
    ('why.found.nothing.remedy', 'en', 'Copy the id anew, from its beginning to its end. If it is right, it belongs to another account, or it was deleted.'),
    ('why.found.nothing.remedy', 'sl', 'Znova kopirajte id, od začetka do konca. Če je pravi, pripada drugemu podjetju ali pa je bil izbrisan.'),

    ('why.signature.good', 'en', 'The signature of the webhook was good.'),
    ('why.signature.good', 'sl', 'Podpis webhooka je bil pravi.'),
    ('why.signature.refused', 'en', 'Since {since}, {count} webhooks were refused because of their signature, and no message has come since. What they held is not known.'),
    ('why.signature.refused', 'sl', 'Od {since} je bilo zaradi podpisa zavrnjenih toliko webhookov: {count}; od takrat ni prišlo nobeno sporočilo. Kaj je bilo v njih, ni znano.'),
    ('why.signature.refused.remedy', 'en', 'Compare the app''s secret (Meta, App settings, Basic) with WHATSAPP_APP_SECRET. Meta repeats refused webhooks for 7 days.'),
    ('why.signature.refused.remedy', 'sl', 'Primerjajte skrivnost aplikacije (Meta, App settings, Basic) z WHATSAPP_APP_SECRET. Meta zavrnjene webhooke ponavlja 7 dni.'),
    ('why.signature.some_refused', 'en', 'Since {since}, {count} webhooks were refused because of their signature, and others were taken. Whether this one was among the refused ones can''t be known: nothing of them is kept.'),
    ('why.signature.some_refused', 'sl', 'Od {since} je bilo zaradi podpisa zavrnjenih toliko webhookov: {count}; drugi so bili sprejeti. Ali je bil ta med zavrnjenimi, ni mogoče vedeti: od njih se nič ne hrani.'),
    ('why.signature.some_refused.remedy', 'en', 'Look whether two apps at Meta send to this address, and whether both secrets are set.'),
    ('why.signature.some_refused.remedy', 'sl', 'Preverite, ali na ta naslov pošiljata dve aplikaciji podjetja Meta in ali sta nastavljeni obe skrivnosti.'),
    ('why.signature.none_refused', 'en', 'No webhook was refused because of its signature in the last 24 hours; of earlier ones nothing is kept.'),
    ('why.signature.none_refused', 'sl', 'V zadnjih 24 urah zaradi podpisa ni bil zavrnjen noben webhook; od prejšnjih se nič ne hrani.'),

    ('why.stored.kept', 'en', 'Its webhook came at {received_at} and is kept as it was. Deliveries: {deliveries}.'),
    ('why.stored.kept', 'sl', 'Njegov webhook je prišel {received_at} in se hrani, kot je bil. Dostav: {deliveries}.'),
    ('why.stored.gone', 'en', 'It came at {received_at}. Its webhook itself is not kept any more, or came otherwise.'),
    ('why.stored.gone', 'sl', 'Prišlo je {received_at}. Sam webhook se ne hrani več ali pa je prišel drugače.'),
    ('why.stored.none', 'en', 'No webhook with this id is among the latest that are kept.'),
    ('why.stored.none', 'sl', 'Med zadnjimi webhooki, ki se hranijo, ni nobenega s tem id-jem.'),
    ('why.stored.none.remedy', 'en', 'See at Meta whether the app is subscribed to the WhatsApp Business account and to "messages", and which address it calls. Meta repeats a webhook that was not taken for 7 days.'),
    ('why.stored.none.remedy', 'sl', 'Pri podjetju Meta preverite, ali je aplikacija naročena na račun WhatsApp Business in na "messages" ter kateri naslov kliče. Nesprejet webhook Meta ponavlja 7 dni.'),
    ('why.stored.no_number', 'en', 'No contact has this number, and no webhook among the latest names it.'),
    ('why.stored.no_number', 'sl', 'Te številke nima noben stik in noben od zadnjih webhookov je ne omenja.'),
    ('why.stored.no_number.remedy', 'en', 'Check the number. If the person has written, see at Meta whether the app is subscribed to the WhatsApp Business account and to "messages", and which address it calls.'),
    ('why.stored.no_number.remedy', 'sl', 'Preverite številko. Če je oseba pisala, pri podjetju Meta preverite, ali je aplikacija naročena na račun WhatsApp Business in na "messages" ter kateri naslov kliče.'),

    ('why.read.applied', 'en', 'It was read and applied.'),
    ('why.read.applied', 'sl', 'Prebrano je bilo in uporabljeno.'),
    ('why.read.unknown_phone_number_id', 'en', 'The webhook was kept, but not applied: it is for a number that was not registered (Meta''s id {phone_number_id}).'),
    ('why.read.unknown_phone_number_id', 'sl', 'Webhook se hrani, a ni bil uporabljen: je za številko, ki ni bila vpisana (id pri podjetju Meta: {phone_number_id}).'),
    ('why.read.unknown_phone_number_id.remedy', 'en', 'Have the number registered (rapport number add), then have the webhook applied by rapport replay.'),
    ('why.read.unknown_phone_number_id.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se webhook obdela z ukazom rapport replay.'),
    ('why.read.unhandled', 'en', 'The webhook was kept, but this part of it was not applied ({reason}): this kind is not understood.'),
    ('why.read.unhandled', 'sl', 'Webhook se hrani, a ta njegov del ni bil uporabljen ({reason}): te vrste program ne razume.'),
    ('why.read.unhandled.remedy', 'en', 'Run rapport replay after an update of this service; the webhook is kept until then, for 90 days.'),
    ('why.read.unhandled.remedy', 'sl', 'Po posodobitvi te storitve zaženite rapport replay; webhook se do takrat hrani, 90 dni.'),
    ('why.read.refused', 'en', 'The webhook was kept, but the database refused this part of it.'),
    ('why.read.refused', 'sl', 'Webhook se hrani, a je baza ta njegov del zavrnila.'),
    ('why.read.refused.remedy', 'en', 'Tell the people who run this service the time of the webhook: its reason stands beside the webhook as it was kept. Then have it applied by rapport replay.'),
    ('why.read.refused.remedy', 'sl', 'Upravljavcem te storitve povejte čas webhooka: razlog je zapisan ob njem. Nato naj se obdela z ukazom rapport replay.'),
    ('why.read.nothing', 'en', 'The webhook was kept and nothing of it was rejected, but there is no such message.'),
    ('why.read.nothing', 'sl', 'Webhook se hrani in nič v njem ni bilo zavrnjeno, a takega sporočila ni.'),
    ('why.read.nothing.remedy', 'en', 'Have the webhook applied again by rapport replay; it changes nothing that is right.'),
    ('why.read.nothing.remedy', 'sl', 'Naj se webhook znova obdela z ukazom rapport replay; kar je prav, se ne spremeni.'),
    ('why.read.only_status', 'en', 'Only reports of this message have come ({status}), not the message: it was sent from another program, or before the number was registered.'),
    ('why.read.only_status', 'sl', 'Prišla so le poročila o tem sporočilu ({status}), ne pa sporočilo: poslal ga je drug program ali pa je starejše od vpisa številke.'),
    ('why.read.only_status.remedy', 'en', 'Send from here, or subscribe the app to smb_message_echoes at Meta, which tells what the phone app sends.'),
    ('why.read.only_status.remedy', 'sl', 'Pošiljajte od tu ali pa pri podjetju Meta aplikacijo naročite na smb_message_echoes, ki pove, kaj pošilja telefon.'),
    ('why.read.no_parent', 'en', 'The message that it changes has not come. It waits for that message.'),
    ('why.read.no_parent', 'sl', 'Sporočilo, ki ga spreminja, ni prišlo. Čaka na to sporočilo.'),
    ('why.read.no_parent.remedy', 'en', 'Ask why that message does not show.'),
    ('why.read.no_parent.remedy', 'sl', 'Vprašajte, zakaj se tisto sporočilo ne prikaže.'),
    ('why.read.no_contact', 'en', 'A webhook of {received_at} names this number, but no contact has it: the contact was deleted, or now has another number.'),
    ('why.read.no_contact', 'sl', 'Webhook, ki je prišel {received_at}, omenja to številko, a je nima noben stik: bil je izbrisan ali pa ima zdaj drugo številko.'),
    ('why.read.no_contact.remedy', 'en', 'If the person writes again, there is a new contact.'),
    ('why.read.no_contact.remedy', 'sl', 'Če oseba znova piše, nastane nov stik.'),

    ('why.number.registered', 'en', 'The number {display_phone_number} is registered.'),
    ('why.number.registered', 'sl', 'Številka {display_phone_number} je vpisana.'),
    ('why.number.stopped', 'en', 'Since {stopped_at} nothing is sent from the number {display_phone_number}: {reason}'),
    ('why.number.stopped', 'sl', 'Od {stopped_at} se s številke {display_phone_number} nič ne pošilja: {reason}'),
    ('why.number.stopped.remedy', 'en', 'Solve it at Meta, then let the number send again, under Health: what waits is sent.'),
    ('why.number.stopped.remedy', 'sl', 'Odpravite razlog pri podjetju Meta, nato v razdelku Delovanje spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('why.number.paused', 'en', 'Since {paused_at} nothing is sent from the number {display_phone_number}: a person has paused it, or the whole account.'),
    ('why.number.paused', 'sl', 'Od {paused_at} se s številke {display_phone_number} nič ne pošilja: nekdo je ustavil številko ali vse podjetje.'),
    ('why.number.paused.remedy', 'en', 'Let it send again, under Health: what waits is sent.'),
    ('why.number.paused.remedy', 'sl', 'V razdelku Delovanje spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('why.number.unknown', 'en', 'The number is not registered here (Meta''s id {phone_number_id}).'),
    ('why.number.unknown', 'sl', 'Številka tu ni vpisana (id pri podjetju Meta: {phone_number_id}).'),
    ('why.number.unknown.remedy', 'en', 'Have the number registered (rapport number add), then have its webhooks applied by rapport replay.'),
    ('why.number.unknown.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se njeni webhooki obdelajo z ukazom rapport replay.'),
    ('why.rejected.none', 'en', 'No webhook of this number was rejected.'),
    ('why.rejected.none', 'sl', 'Noben webhook te številke ni bil zavrnjen.'),
    ('why.rejected.some', 'en', 'Webhooks of this number that could not be applied: {count} ({reasons}), the latest at {last_at}.'),
    ('why.rejected.some', 'sl', 'Webhooki te številke, ki jih ni bilo mogoče uporabiti: {count} ({reasons}), zadnji {last_at}.'),
    ('why.rejected.some.remedy', 'en', 'The list of rejected webhooks (rejected_webhooks) says what to do about each; then rapport replay applies them.'),
    ('why.rejected.some.remedy', 'sl', 'Seznam zavrnjenih webhookov (rejected_webhooks) pri vsakem pove, kaj storiti; nato jih obdela rapport replay.'),
    ('why.received.latest', 'en', 'Somebody last wrote to this number at {at}.'),
    ('why.received.latest', 'sl', 'Na to številko je nekdo nazadnje pisal {at}.'),
    ('why.received.none', 'en', 'Nobody has written to this number since it was registered at {since}. Whether anybody tried can''t be known.'),
    ('why.received.none', 'sl', 'Na to številko ni pisal nihče, odkar je bila vpisana {since}. Ali je kdo poskusil, ni mogoče vedeti.'),
    ('why.received.none.remedy', 'en', 'Write to it from a telephone. If nothing comes, see at Meta whether the app is subscribed to the account and to "messages".'),
    ('why.received.none.remedy', 'sl', 'Pišite nanjo s telefona. Če nič ne pride, pri podjetju Meta preverite, ali je aplikacija naročena na račun in na "messages".');


-- Words of the database, as sentences have them.
insert into private.sentences (key, language, sentence)
values
    ('why_word.group.unnamed', 'en', 'a WhatsApp group'),
    ('why_word.group.unnamed', 'sl', 'skupina WhatsApp'),
    ('why_word.row.unnamed', 'en', '(no name)'),
    ('why_word.row.unnamed', 'sl', '(brez imena)'),
    ('why_word.channel.whatsapp', 'en', 'WhatsApp'),
    ('why_word.channel.whatsapp', 'sl', 'WhatsApp'),
    ('why_word.channel.booking', 'en', 'chat of an appointment'),
    ('why_word.channel.booking', 'sl', 'klepet o terminu'),
    ('why_word.channel.portal', 'en', 'portal'),
    ('why_word.channel.portal', 'sl', 'portal'),
    ('why_word.sender.system', 'en', 'this service'),
    ('why_word.sender.system', 'sl', 'ta storitev'),
    ('why_word.sender.client', 'en', 'the customer'),
    ('why_word.sender.client', 'sl', 'stranka'),
    ('why_word.sender.operator', 'en', 'a colleague'),
    ('why_word.sender.operator', 'sl', 'sodelavec'),
    ('why_word.topic.account', 'en', 'the staff of the business'),
    ('why_word.topic.account', 'sl', 'zaposleni v podjetju'),
    ('why_word.topic.customer', 'en', 'the customer in the portal'),
    ('why_word.topic.customer', 'sl', 'stranka na portalu'),
    ('why_word.topic.conversation', 'en', 'the people who have the conversation open'),
    ('why_word.topic.conversation', 'sl', 'kdor ima pogovor odprt'),
    ('why_word.status.open', 'en', 'open'),
    ('why_word.status.open', 'sl', 'odprto'),
    ('why_word.status.pending', 'en', 'pending'),
    ('why_word.status.pending', 'sl', 'na čakanju'),
    ('why_word.status.closed', 'en', 'closed'),
    ('why_word.status.closed', 'sl', 'zaprto'),
    ('why_word.status.sent', 'en', 'sent'),
    ('why_word.status.sent', 'sl', 'poslano'),
    ('why_word.status.delivered', 'en', 'delivered'),
    ('why_word.status.delivered', 'sl', 'dostavljeno'),
    ('why_word.status.read', 'en', 'read'),
    ('why_word.status.read', 'sl', 'prebrano'),
    ('why_word.status.failed', 'en', 'failed'),
    ('why_word.status.failed', 'sl', 'ni uspelo'),
    ('why_word.role.owner', 'en', 'owner'),
    ('why_word.role.owner', 'sl', 'lastnik'),
    ('why_word.role.admin', 'en', 'admin'),
    ('why_word.role.admin', 'sl', 'skrbnik'),
    ('why_word.role.agent', 'en', 'agent'),
    ('why_word.role.agent', 'sl', 'agent'),
    ('why_word.role.viewer', 'en', 'viewer, who only reads'),
    ('why_word.role.viewer', 'sl', 'bralec'),
    ('why_word.operation.INSERT', 'en', 'added'),
    ('why_word.operation.INSERT', 'sl', 'dodano'),
    ('why_word.operation.UPDATE', 'en', 'changed'),
    ('why_word.operation.UPDATE', 'sl', 'spremenjeno'),
    ('why_word.operation.DELETE', 'en', 'deleted'),
    ('why_word.operation.DELETE', 'sl', 'izbrisano'),
    ('why_word.table.messages', 'en', 'message'),
    ('why_word.table.messages', 'sl', 'sporočilo'),
    ('why_word.table.contacts', 'en', 'contact'),
    ('why_word.table.contacts', 'sl', 'stik'),
    ('why_word.table.customers', 'en', 'contact'),
    ('why_word.table.customers', 'sl', 'stik'),
    ('why_word.field.name', 'en', 'name'),
    ('why_word.field.name', 'sl', 'ime'),
    ('why_word.field.email', 'en', 'email'),
    ('why_word.field.email', 'sl', 'e-naslov'),
    ('why_word.field.phone', 'en', 'phone'),
    ('why_word.field.phone', 'sl', 'telefon'),
    ('why_word.field.gsm', 'en', 'mobile'),
    ('why_word.field.gsm', 'sl', 'mobilni telefon'),
    ('why_word.field.street', 'en', 'street'),
    ('why_word.field.street', 'sl', 'ulica'),
    ('why_word.field.post_number', 'en', 'postcode'),
    ('why_word.field.post_number', 'sl', 'poštna številka'),
    ('why_word.field.place', 'en', 'town'),
    ('why_word.field.place', 'sl', 'kraj'),
    ('why_word.field.province', 'en', 'province'),
    ('why_word.field.province', 'sl', 'pokrajina'),
    ('why_word.field.country', 'en', 'country'),
    ('why_word.field.country', 'sl', 'država'),
    ('why_word.field.tax_id_number', 'en', 'tax number'),
    ('why_word.field.tax_id_number', 'sl', 'davčna številka');


/*
    The sentences of the further steps: sending, showing, telling, and the ERP.
*/
insert into private.sentences (key, language, sentence)
values
    ('why.later.waiting', 'en', 'It is to be sent at {send_at}.'),
    ('why.later.waiting', 'sl', 'Poslano bo {send_at}.'),
    ('why.later.waiting.remedy', 'en', 'Change its time, or wait.'),
    ('why.later.waiting.remedy', 'sl', 'Spremenite čas ali počakajte.'),
    ('why.later.overdue', 'en', 'It was to be sent at {send_at}, and still waits.'),
    ('why.later.overdue', 'sl', 'Moralo bi biti poslano {send_at}, a še čaka.'),
    ('why.later.overdue.remedy', 'en', 'Ask the people who run this service whether its schedule send_later runs.'),
    ('why.later.overdue.remedy', 'sl', 'Upravljavce te storitve vprašajte, ali teče urnik send_later.'),
    ('why.later.cancelled', 'en', 'It was cancelled before its time.'),
    ('why.later.cancelled', 'sl', 'Preklicano je bilo, preden je prišel njegov čas.'),
    ('why.later.cancelled.remedy', 'en', 'Write it again.'),
    ('why.later.cancelled.remedy', 'sl', 'Napišite ga znova.'),
    ('why.later.failed', 'en', 'It could not be sent at its time: {reason}'),
    ('why.later.failed', 'sl', 'Ob njegovem času ga ni bilo mogoče poslati: {reason}'),
    ('why.later.failed.remedy', 'en', 'Correct that and write it again.'),
    ('why.later.failed.remedy', 'sl', 'Popravite to in ga napišite znova.'),

    ('why.written.by', 'en', 'It was written at {at} by {name}.'),
    ('why.written.by', 'sl', 'Napisano je bilo {at}; napisal/-a: {name}.'),
    ('why.queued.done', 'en', 'It was put in the queue and left it.'),
    ('why.queued.done', 'sl', 'Dano je bilo v čakalno vrsto in jo je zapustilo.'),
    ('why.queued.waiting', 'en', 'It has been in the queue since {since}.'),
    ('why.queued.waiting', 'sl', 'V čakalni vrsti je od {since}.'),
    ('why.queued.lost', 'en', 'It is said to be in the queue, but it is not there.'),
    ('why.queued.lost', 'sl', 'Biti bi moralo v čakalni vrsti, a ga tam ni.'),
    ('why.queued.lost.remedy', 'en', 'Write it again, and tell the people who run this service its id.'),
    ('why.queued.lost.remedy', 'sl', 'Napišite ga znova in njegov id povejte upravljavcem te storitve.'),
    ('why.queued.behind', 'en', 'It waits for an earlier message of the conversation: {message_id}.'),
    ('why.queued.behind', 'sl', 'Čaka na prejšnje sporočilo v pogovoru: {message_id}.'),
    ('why.queued.behind.remedy', 'en', 'Ask why that message does not show; once it is sent or dropped, this one goes.'),
    ('why.queued.behind.remedy', 'sl', 'Vprašajte, zakaj se tisto sporočilo ne prikaže; ko bo poslano ali opuščeno, gre tudi to.'),
    ('why.queued.again', 'en', 'WhatsApp did not take it (error {error_code}: {reason}). The next try, number {attempt}, is at {next_at}.'),
    ('why.queued.again', 'sl', 'WhatsApp ga ni sprejel (napaka {error_code}: {reason}). Naslednji poskus, številka {attempt}, bo {next_at}.'),
    ('why.queued.again.remedy', 'en', 'It is tried again by itself.'),
    ('why.queued.again.remedy', 'sl', 'Poskus se ponovi sam.'),
    ('why.claimed.done', 'en', 'A worker took it.'),
    ('why.claimed.done', 'sl', 'Delavec ga je prevzel.'),
    ('why.claimed.now', 'en', 'A worker has it, until {until} at the latest.'),
    ('why.claimed.now', 'sl', 'Delavec ga ima, najpozneje do {until}.'),
    ('why.claimed.soon', 'en', 'No worker has taken it yet; that may take a minute.'),
    ('why.claimed.soon', 'sl', 'Delavec ga še ni prevzel; to lahko traja minuto.'),
    ('why.claimed.nobody', 'en', 'It has waited since {since}, and no worker has taken it.'),
    ('why.claimed.nobody', 'sl', 'Čaka od {since} in noben delavec ga ni prevzel.'),
    ('why.claimed.nobody.remedy', 'en', 'Ask the people who run this service whether deliver_outbound runs, and whether the doorbell (set_doorbell) has its address.'),
    ('why.claimed.nobody.remedy', 'sl', 'Upravljavce te storitve vprašajte, ali teče deliver_outbound in ali ima zvonec (set_doorbell) pravi naslov.'),
    ('why.sent.accepted', 'en', 'WhatsApp took it at {at}.'),
    ('why.sent.accepted', 'sl', 'WhatsApp ga je sprejel {at}.'),
    ('why.sent.running', 'en', 'The call to WhatsApp is being made.'),
    ('why.sent.running', 'sl', 'Klic na WhatsApp poteka.'),
    ('why.sent.refused', 'en', 'WhatsApp refused it at {at}, error {error_code}: {reason}'),
    ('why.sent.refused', 'sl', 'WhatsApp ga je zavrnil {at}, napaka {error_code}: {reason}'),
    ('why.sent.refused.remedy', 'en', 'Solve that, then send it again, or drop it.'),
    ('why.sent.refused.remedy', 'sl', 'Odpravite to, nato ga pošljite znova ali opustite.'),
    ('why.sent.failed', 'en', 'It was not sent: {reason}'),
    ('why.sent.failed', 'sl', 'Ni bilo poslano: {reason}'),
    ('why.sent.failed.remedy', 'en', 'Write it again if it is still needed.'),
    ('why.sent.failed.remedy', 'sl', 'Če je še potrebno, ga napišite znova.'),
    ('why.sent.unknown', 'en', 'WhatsApp may have it: nobody answered the call of {at}.'),
    ('why.sent.unknown', 'sl', 'Morda ga WhatsApp ima: na klic, ki je bil {at}, ni bilo odgovora.'),
    ('why.sent.unknown.remedy', 'en', 'A report of WhatsApp settles it. After two minutes send it again, or drop it.'),
    ('why.sent.unknown.remedy', 'sl', 'Razreši ga poročilo WhatsAppa. Po dveh minutah ga pošljite znova ali opustite.'),
    ('why.receipts.read', 'en', 'The person read it at {at}.'),
    ('why.receipts.read', 'sl', 'Oseba ga je prebrala {at}.'),
    ('why.receipts.delivered', 'en', 'It was delivered at {at}.'),
    ('why.receipts.delivered', 'sl', 'Dostavljeno je bilo {at}.'),
    ('why.receipts.none', 'en', 'WhatsApp has not reported yet that it was delivered: the telephone may be off.'),
    ('why.receipts.none', 'sl', 'WhatsApp še ni sporočil, da je dostavljeno: telefon je morda izklopljen.'),
    ('why.receipts.failed', 'en', 'WhatsApp took it, and reported at {at} that it was not delivered, error {error_code}: {reason}'),
    ('why.receipts.failed', 'sl', 'WhatsApp ga je sprejel in {at} sporočil, da ni dostavljeno, napaka {error_code}: {reason}'),
    ('why.receipts.failed.remedy', 'en', 'Solve that, then send it again, or drop it.'),
    ('why.receipts.failed.remedy', 'sl', 'Odpravite to, nato ga pošljite znova ali opustite.'),
    ('why.queue.empty', 'en', 'Nothing waits to be sent from it.'),
    ('why.queue.empty', 'sl', 'Nič ne čaka, da bi bilo poslano z nje.'),
    ('why.queue.moving', 'en', 'Messages that wait to be sent from it: {count}, the oldest since {since}.'),
    ('why.queue.moving', 'sl', 'Sporočila, ki čakajo na pošiljanje z nje: {count}, najstarejše od {since}.'),
    ('why.queue.late', 'en', 'Messages that wait to be sent from it: {count}, the oldest since {since}. That is too long.'),
    ('why.queue.late', 'sl', 'Sporočila, ki čakajo na pošiljanje z nje: {count}, najstarejše od {since}. To je predolgo.'),
    ('why.queue.late.remedy', 'en', 'Ask the people who run this service whether deliver_outbound runs.'),
    ('why.queue.late.remedy', 'sl', 'Upravljavce te storitve vprašajte, ali teče deliver_outbound.'),

    ('why.contact.known', 'en', 'Its contact is {contact_id}.'),
    ('why.contact.known', 'sl', 'Njegov stik je {contact_id}.'),
    ('why.contact.group', 'en', 'It belongs to a group, which has no contact.'),
    ('why.contact.group', 'sl', 'Pripada skupini, ki nima stika.'),
    ('why.contact.merged', 'en', 'The contact was merged into another one at {at}: {merged_into}. Its conversations are shown there.'),
    ('why.contact.merged', 'sl', 'Stik je bil {at} združen z drugim: {merged_into}. Njegovi pogovori so prikazani tam.'),
    ('why.contact.merged.remedy', 'en', 'Open that contact, or take the merge back there.'),
    ('why.contact.merged.remedy', 'sl', 'Odprite tisti stik ali tam razveljavite združitev.'),
    ('why.contact.deleted', 'en', 'The contact was deleted at {at}. Lists leave it and its conversations out.'),
    ('why.contact.deleted', 'sl', 'Stik je bil izbrisan {at}. V seznamih ni ne njega ne njegovih pogovorov.'),
    ('why.contact.deleted.remedy', 'en', 'If the person writes again, there is a new contact.'),
    ('why.contact.deleted.remedy', 'sl', 'Če oseba znova piše, nastane nov stik.'),
    ('why.known.by', 'en', 'It is known by {identities}.'),
    ('why.known.by', 'sl', 'Prepozna se po: {identities}.'),
    ('why.known.by_nothing', 'en', 'It has no proved number, email or username: a message of this person makes another contact.'),
    ('why.known.by_nothing', 'sl', 'Nima potrjene številke, e-naslova ne uporabniškega imena: iz sporočila te osebe nastane drug stik.'),
    ('why.known.by_nothing.remedy', 'en', 'Write the number into the contact, or confirm there what the customer has written.'),
    ('why.known.by_nothing.remedy', 'sl', 'Vpišite številko v stik ali tam potrdite, kar je napisala stranka.'),
    ('why.known.unproved', 'en', 'The customer has written this number, and nobody has confirmed it: messages from it make another contact.'),
    ('why.known.unproved', 'sl', 'To številko je napisala stranka in nihče je ni potrdil: iz sporočil s te številke nastane drug stik.'),
    ('why.known.unproved.remedy', 'en', 'If the number is right, confirm it on the contact''s page.'),
    ('why.known.unproved.remedy', 'sl', 'Če je številka prava, jo potrdite na strani stika.'),
    ('why.status.shown', 'en', 'Its status is {status}: the contacts page and the live chat show it, also under that filter.'),
    ('why.status.shown', 'sl', 'Njegovo stanje je {status}: stran s stiki in klepet ga pokažeta, tudi pod tem filtrom.'),

    ('why.message.kept', 'en', 'The message has the number {seq} in its conversation.'),
    ('why.message.kept', 'sl', 'Sporočilo ima v pogovoru številko {seq}.'),
    ('why.message.latest', 'en', 'Its latest message is {message_id}, number {seq}.'),
    ('why.message.latest', 'sl', 'Njegovo zadnje sporočilo je: {message_id}, številka {seq}.'),
    ('why.message.none', 'en', 'It has no message yet.'),
    ('why.message.none', 'sl', 'Nima še nobenega sporočila.'),
    ('why.message.deleted', 'en', 'The message was deleted for everybody at {at}; its line stays, without its text.'),
    ('why.message.deleted', 'sl', 'Sporočilo je bilo {at} izbrisano za vse; vrstica ostane, brez besedila.'),
    ('why.message.deleted.remedy', 'en', 'Nothing can bring its text back. Ask the person to write it again.'),
    ('why.message.deleted.remedy', 'sl', 'Besedila ni mogoče vrniti. Prosite osebo, naj ga napiše znova.'),
    ('why.conversation.found', 'en', 'It stands in the conversation with {conversation_id}.'),
    ('why.conversation.found', 'sl', 'Je v pogovoru: {conversation_id}.'),
    ('why.conversation.plain', 'en', 'It stands in the conversation with {conversation_id}.'),
    ('why.conversation.plain', 'sl', 'Je v pogovoru: {conversation_id}.'),
    ('why.conversation.none', 'en', 'It has no conversation: it is on the contacts page, and the inbox lists conversations.'),
    ('why.conversation.none', 'sl', 'Nima pogovora: je na strani s stiki, ne pa na seznamu pogovorov.'),
    ('why.list.shown', 'en', 'The inbox lists the conversation: its status is {status}, and it is not snoozed.'),
    ('why.list.shown', 'sl', 'Seznam pogovorov ga kaže: njegovo stanje je {status} in ni odložen.'),
    ('why.list.assigned', 'en', 'The inbox lists the conversation: its status is {status}, and {assignee} has it. "Free" leaves it out, and so does "Mine" for others.'),
    ('why.list.assigned', 'sl', 'Seznam pogovorov ga kaže: njegovo stanje je {status}, odgovarja {assignee}. Pod "Prosti" ga ni, pod "Moji" pa ga drugi ne vidijo.'),
    ('why.list.closed', 'en', 'The conversation is closed: the inbox lists it under any status and under "closed", not under "open".'),
    ('why.list.closed', 'sl', 'Pogovor je zaprt: seznam ga kaže med vsemi in med zaprtimi, ne med odprtimi.'),
    ('why.list.snoozed', 'en', 'The conversation is snoozed until {until}: the inbox leaves it out until then, or until the customer writes.'),
    ('why.list.snoozed', 'sl', 'Pogovor je odložen do {until}: do takrat, ali dokler stranka ne piše, ga na seznamu ni.'),
    ('why.list.snoozed.remedy', 'en', 'End the snooze, or press the button for snoozed conversations above the list.'),
    ('why.list.snoozed.remedy', 'sl', 'Končajte odlog ali nad seznamom pritisnite gumb za odložene pogovore.'),

    ('why.access.people', 'en', 'These people may see it: {names}.'),
    ('why.access.people', 'sl', 'Videti ga smejo: {names}.'),
    ('why.access.nobody', 'en', 'Nobody works for the account, so nobody may see it.'),
    ('why.access.nobody', 'sl', 'Za to podjetje nihče ne dela, zato ga nihče ne sme videti.'),
    ('why.access.nobody.remedy', 'en', 'Have a member added to the account (rapport member add).'),
    ('why.access.nobody.remedy', 'sl', 'Naj se podjetju doda član (rapport member add).'),
    ('why.access.staff', 'en', '{name} works for the account ({role}) and may see it.'),
    ('why.access.staff', 'sl', '{name} dela za to podjetje ({role}) in ga sme videti.'),
    ('why.access.customer', 'en', '{name} is its customer and may see it in the portal.'),
    ('why.access.customer', 'sl', '{name} je njegova stranka in ga sme videti v portalu.'),
    ('why.access.refused', 'en', 'This login neither works for the account nor is the customer: it may not see it.'),
    ('why.access.refused', 'sl', 'Ta prijava ne dela za to podjetje in ni njegova stranka: videti ga ne sme.'),
    ('why.access.refused.remedy', 'en', 'Check with which login the person is signed in. A customer is let in by an invitation to the portal, a colleague by one from an owner, under Settings.'),
    ('why.access.refused.remedy', 'sl', 'Preverite, s katero prijavo je oseba prijavljena. Stranka vstopi z vabilom v portal, sodelavec z vabilom lastnika v nastavitvah.'),

    ('why.log.entry', 'en', 'The change log has it: the {table} was {operation} at {at}, version {version}.'),
    ('why.log.entry', 'sl', 'Dnevnik sprememb ga ima: {table}, {operation}, {at}, različica {version}.'),
    ('why.log.none', 'en', 'The change log has no entry of it: clients that were away do not learn of it.'),
    ('why.log.none', 'sl', 'V dnevniku sprememb ga ni: odjemalci, ki jih ni bilo, zanj ne izvedo.'),
    ('why.log.none.remedy', 'en', 'Load the page again, which reads the rows anew, and tell the people who run this service.'),
    ('why.log.none.remedy', 'sl', 'Znova naložite stran, ki vrstice prebere na novo, in povejte upravljavcem te storitve.'),
    ('why.log.old', 'en', 'It is older than the change log reaches.'),
    ('why.log.old', 'sl', 'Starejše je, kot sega dnevnik sprememb.'),
    ('why.topics.named', 'en', 'Changes of it are told to {topics}.'),
    ('why.topics.named', 'sl', 'Njegove spremembe izvedo: {topics}.'),
    ('why.broadcast.sent', 'en', 'It was broadcast at {at} to {topics}.'),
    ('why.broadcast.sent', 'sl', 'Oddano je bilo {at}; prejmejo: {topics}.'),
    ('why.broadcast.renamed', 'en', 'It was broadcast at {at} to {topics}; since then somebody has left, and the topics have new names.'),
    ('why.broadcast.renamed', 'sl', 'Oddano je bilo {at}; prejmejo: {topics}. Od takrat je nekdo odšel in teme imajo nova imena.'),
    ('why.broadcast.renamed.remedy', 'en', 'A client that still listens to the old names has to ask my_topics again; the page does, once it is loaded.'),
    ('why.broadcast.renamed.remedy', 'sl', 'Odjemalec, ki še posluša stara imena, mora znova vprašati my_topics; stran to stori, ko se naloži.'),
    ('why.broadcast.none', 'en', 'No broadcast of it is kept, though it is younger than three days. Clients find it in the change log at their next catch-up.'),
    ('why.broadcast.none', 'sl', 'Nobena oddaja o njem se ne hrani, čeprav je mlajše od treh dni. Odjemalci ga najdejo v dnevniku sprememb, ko naslednjič dohitijo zamujeno.'),
    ('why.broadcast.none.remedy', 'en', 'Load the page again. If it happens again, have the database''s log searched for "broadcast failed".'),
    ('why.broadcast.none.remedy', 'sl', 'Znova naložite stran. Če se ponovi, naj se v dnevniku baze poišče "broadcast failed".'),
    ('why.broadcast.unseen', 'en', 'The latest change was not broadcast: none is, where nothing has changed that clients see.'),
    ('why.broadcast.unseen', 'sl', 'Zadnja sprememba ni bila oddana: če se ni spremenilo nič, kar odjemalci vidijo, se ne odda.'),
    ('why.broadcast.old', 'en', 'Broadcasts are kept for three days; this one would be older.'),
    ('why.broadcast.old', 'sl', 'Oddaje se hranijo tri dni; ta bi bila starejša.'),
    ('why.heard.read', 'en', 'Read it: {names}.'),
    ('why.heard.read', 'sl', 'Prebrali: {names}.'),
    ('why.heard.looking', 'en', 'Looking at the conversation in the last two minutes: {names}. Whether their pages heard it can''t be known: Realtime keeps no list.'),
    ('why.heard.looking', 'sl', 'V zadnjih dveh minutah gledajo pogovor: {names}. Ali so ga njihove strani slišale, ni mogoče vedeti: Realtime ne hrani seznama.'),
    ('why.heard.at_desk', 'en', 'At the desk in the last two minutes: {names}; nobody has read it. Whether their pages heard it can''t be known: Realtime keeps no list.'),
    ('why.heard.at_desk', 'sl', 'V zadnjih dveh minutah za pultom: {names}; prebral ga ni nihče. Ali so ga njihove strani slišale, ni mogoče vedeti: Realtime ne hrani seznama.'),
    ('why.heard.nobody', 'en', 'Nobody has read it, and nobody was at the desk in the last two minutes. Who heard it can''t be known: Realtime keeps no list.'),
    ('why.heard.nobody', 'sl', 'Prebral ga ni nihče in v zadnjih dveh minutah za pultom ni bilo nikogar. Kdo ga je slišal, ni mogoče vedeti: Realtime ne hrani seznama.'),

    ('why.connection.active', 'en', 'The account is connected to Metakocka.'),
    ('why.connection.active', 'sl', 'Podjetje je povezano z Metakocko.'),
    ('why.connection.none', 'en', 'The account is not connected to Metakocka.'),
    ('why.connection.none', 'sl', 'Podjetje ni povezano z Metakocko.'),
    ('why.connection.none.remedy', 'en', 'Connect it in the section Metakocka, or by rapport connect metakocka.'),
    ('why.connection.none.remedy', 'sl', 'Povežite ga v razdelku Metakocka ali z ukazom rapport connect metakocka.'),
    ('why.connection.off', 'en', 'The connection to Metakocka is turned off.'),
    ('why.connection.off', 'sl', 'Povezava z Metakocko je izključena.'),
    ('why.connection.off.remedy', 'en', 'Turn it on in the section Metakocka; what has changed meanwhile is sent then.'),
    ('why.connection.off.remedy', 'sl', 'Vključite jo v razdelku Metakocka; kar se je medtem spremenilo, bo takrat poslano.'),
    ('why.connection.paused', 'en', 'Metakocka takes no calls until {until}: {reason}'),
    ('why.connection.paused', 'sl', 'Metakocka do {until} ne sprejema klicev: {reason}'),
    ('why.connection.paused.remedy', 'en', 'Solve that at Metakocka. The sync goes on by itself, or at once by the button in the section Metakocka.'),
    ('why.connection.paused.remedy', 'sl', 'Odpravite to v Metakocki. Usklajevanje se nadaljuje samo ali takoj z gumbom v razdelku Metakocka.'),
    ('why.partner.mapped', 'en', 'The contact {contact_id} and the partner at Metakocka are known to be the same.'),
    ('why.partner.mapped', 'sl', 'Stik {contact_id} in partner v Metakocki sta povezana.'),
    ('why.partner.unmapped', 'en', 'The contact {contact_id} is no partner yet.'),
    ('why.partner.unmapped', 'sl', 'Stik {contact_id} še ni partner.'),
    ('why.partner.unmapped.remedy', 'en', 'Send it: press "Sync now" in the section Metakocka, or change the contact.'),
    ('why.partner.unmapped.remedy', 'sl', 'Pošljite ga: v razdelku Metakocka pritisnite »Uskladi zdaj« ali spremenite stik.'),
    ('why.partner.unlinked', 'en', 'A person has said that the contact {contact_id} is not to be synchronized.'),
    ('why.partner.unlinked', 'sl', 'Oseba je določila, da se stik {contact_id} ne usklajuje.'),
    ('why.partner.unlinked.remedy', 'en', 'Send the contact by sync-to-metakocka, which links it again.'),
    ('why.partner.unlinked.remedy', 'sl', 'Pošljite stik s sync-to-metakocka, ki ga spet poveže.'),
    ('why.partner.unread', 'en', 'No contact is this partner, and no question or error names it. All partners were last read at {last_run}.'),
    ('why.partner.unread', 'sl', 'Noben stik ni ta partner in ne omenja ga nobeno vprašanje ne napaka. Vsi partnerji so bili nazadnje prebrani {last_run}.'),
    ('why.partner.unread.remedy', 'en', 'Read it: press "Sync now" in the section Metakocka. If Metakocka does not know it, check the id (mk_id) and the company.'),
    ('why.partner.unread.remedy', 'sl', 'Preberite ga: v razdelku Metakocka pritisnite »Uskladi zdaj«. Če ga Metakocka ne pozna, preverite id (mk_id) in podjetje.'),
    ('why.partner.open', 'en', 'No contact is this partner yet.'),
    ('why.partner.open', 'sl', 'Noben stik še ni ta partner.'),
    ('why.question.none', 'en', 'Nobody has to decide anything.'),
    ('why.question.none', 'sl', 'O ničemer ni treba odločiti.'),
    ('why.question.field', 'en', 'Both sides have changed {fields}, and a person has to decide since {since}.'),
    ('why.question.field', 'sl', 'Obe strani sta spremenili {fields}; od {since} mora odločiti oseba.'),
    ('why.question.field.remedy', 'en', 'Answer it in the section Metakocka.'),
    ('why.question.field.remedy', 'sl', 'Odgovorite v razdelku Metakocka.'),
    ('why.question.identity', 'en', 'A person has to decide since {since} which contact and which partner belong together.'),
    ('why.question.identity', 'sl', 'Od {since} mora oseba odločiti, kateri stik in kateri partner spadata skupaj.'),
    ('why.question.identity.remedy', 'en', 'Answer it in the section Metakocka.'),
    ('why.question.identity.remedy', 'sl', 'Odgovorite v razdelku Metakocka.'),
    ('why.fields.complete', 'en', 'No required field is missing.'),
    ('why.fields.complete', 'sl', 'Ne manjka nobeno obvezno polje.'),
    ('why.fields.missing', 'en', 'Metakocka requires fields that the contact lacks: {missing}.'),
    ('why.fields.missing', 'sl', 'Metakocka zahteva polja, ki jih stik nima: {missing}.'),
    ('why.fields.missing.remedy', 'en', 'Fill them in; the contact is sent then by itself.'),
    ('why.fields.missing.remedy', 'sl', 'Izpolnite jih; stik se nato pošlje sam.'),
    ('why.call.none', 'en', 'No call to Metakocka has an open outcome.'),
    ('why.call.none', 'sl', 'Noben klic v Metakocko nima odprtega izida.'),
    ('why.call.unknown', 'en', 'A call of {since} ended without an answer: the partner may have been made. The sync looks for it before it calls again.'),
    ('why.call.unknown', 'sl', 'Klic, ki je bil {since}, se je končal brez odgovora: partner je morda nastal. Usklajevanje ga poišče, preden kliče znova.'),
    ('why.call.unknown.remedy', 'en', 'The next run settles it by itself.'),
    ('why.call.unknown.remedy', 'sl', 'Naslednje usklajevanje to uredi samo.'),
    ('why.error.none', 'en', 'No error since both sides last agreed.'),
    ('why.error.none', 'sl', 'Odkar se strani nazadnje ujemata, ni napake.'),
    ('why.error.latest', 'en', 'The latest error, of {at} ({error_code}): {reason}'),
    ('why.error.latest', 'sl', 'Zadnja napaka, čas {at} ({error_code}): {reason}'),
    ('why.error.latest.remedy', 'en', 'The section Metakocka has the run with its errors. Correct the contact or the partner; it is tried again.'),
    ('why.error.latest.remedy', 'sl', 'V razdelku Metakocka je usklajevanje z napakami. Popravite stik ali partnerja; poskus se ponovi.'),
    ('why.mark.none', 'en', 'Nothing of it waits to be sent.'),
    ('why.mark.none', 'sl', 'Nič od tega ne čaka na pošiljanje.'),
    ('why.mark.waiting', 'en', 'It waits to be sent since {since}.'),
    ('why.mark.waiting', 'sl', 'Na pošiljanje čaka od {since}.'),
    ('why.mark.late', 'en', 'It has waited to be sent since {since}; tries: {attempts}.'),
    ('why.mark.late', 'sl', 'Na pošiljanje čaka od {since}; poskusov: {attempts}.'),
    ('why.mark.late.remedy', 'en', 'Ask the people who run this service whether metakocka_sync runs; rapport sync does the same at once.'),
    ('why.mark.late.remedy', 'sl', 'Upravljavce te storitve vprašajte, ali teče metakocka_sync; rapport sync stori isto takoj.'),
    ('why.agreed.since', 'en', 'Both sides last agreed at {at}.'),
    ('why.agreed.since', 'sl', 'Strani sta se nazadnje uskladili {at}.'),
    ('why.agreed.never', 'en', 'Both sides have not agreed yet.'),
    ('why.agreed.never', 'sl', 'Strani se še nista uskladili.');


/*
    What an id or a number stands for: an id of ours, WhatsApp's id of a message or of a number, a
    telephone number as people write it, Metakocka's id of a partner, or the older key of a
    conversation. Every look-up stays in the given accounts; null stands for all of them.
*/
create type private.why_subject as (
    -- message, conversation, contact, number or partner
    kind       text,
    -- how it was named, where one kind has several ways
    part       text,
    id         uuid,
    account_id uuid,
    -- the id of WhatsApp or Metakocka by which it was named
    outside_id text
);


create function private.written_number(reference text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    plain text := btrim(normalize(reference, nfkc));
begin
    -- marks of direction and joining, which are copied along
    plain := translate(plain, U&'\00AD\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FEFF', '');
    plain := regexp_replace(plain, '^(tel|whatsapp|callto):\s*', '', 'i');
    plain := regexp_replace(plain, '^(https?://)?(wa\.me/|api\.whatsapp\.com/send/?\?phone=)\+?', '+', 'i');
    plain := regexp_replace(plain, '^([1-9]\d{6,14})@(s\.whatsapp\.net|c\.us)$', '+\1', 'i');
    -- a zero that is not dialled from abroad
    plain := regexp_replace(plain, '(\S)\s*\(0\)', '\1');
    if plain !~ '^\(?\+?[\d\s().\-/·‐‑‒–—―−]+$'
        or length(regexp_replace(plain, '\D', '', 'g')) not between 6 and 20
    then
        return null;
    end if;
    return case when plain ~ '^\(?\+' then '+' else '' end || regexp_replace(plain, '\D', '', 'g');
end
$$;


create function private.contacts_of_number(number text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    digits constant text := ltrim(number, '+');
    -- with a plus or two zeros, or with a country code and nothing in front
    spelling constant text := private.match_key(
        kind => 'phone', value => case when digits like '00%' then substr(digits, 3) else digits end);
    national constant text := ltrim(digits, '0');
begin
    return query
        select distinct 'contact', 'phone', i.contact_id, i.account_id, i.value
        from public.contact_identities i
        where i.kind = 'phone'
          and i.match_key = spelling
          and (account_ids is null or i.account_id = any (account_ids));
    if found or number like '+%' or digits like '00%' or length(national) < 6 then
        return;
    end if;
    -- as it is dialled in its country: the end of the number
    return query
        select distinct 'contact', 'phone', i.contact_id, i.account_id, i.value
        from public.contact_identities i
        where i.kind = 'phone'
          and right(i.match_key, length(national)) = national
          and length(i.match_key) - length(national) <= 4
          and (account_ids is null or i.account_id = any (account_ids));
end
$$;


create function private.subjects_of_id(id uuid, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select s.*
        from (
            select 'message', null, m.id, m.account_id, null
            from public.messages m
            where m.id = subjects_of_id.id
            union all
            -- once it is sent, the message has the same id
            select 'message', 'later', l.id, l.account_id, null
            from public.scheduled_messages l
            where l.id = subjects_of_id.id
              and not exists (select from public.messages m where m.id = l.id)
            union all
            select 'conversation', null, k.id, k.account_id, null
            from public.conversations k
            where k.id = subjects_of_id.id
            union all
            select 'conversation', 'booking', k.id, k.account_id, null
            from public.conversations k
            where k.booking_id = subjects_of_id.id
            union all
            select 'contact', null, c.id, c.account_id, null
            from public.contacts c
            where c.id = subjects_of_id.id
            union all
            select 'number', null, w.id, w.account_id, w.phone_number_id
            from public.whatsapp_channels w
            where w.id = subjects_of_id.id
        ) s (kind, part, id, account_id, outside_id)
        where account_ids is null or s.account_id = any (account_ids);
end
$$;


create function private.subjects_of_provider_id(provider_id text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select 'message', s.part, s.id, w.account_id, subjects_of_provider_id.provider_id
        from public.whatsapp_channels w
        cross join lateral (
            (
                select null, m.id
                from public.messages m
                where m.whatsapp_channel_id = w.id
                  and m.provider_id = subjects_of_provider_id.provider_id
                union
                -- an earlier attempt
                select null, t.message_id
                from private.outbound_attempts t
                where t.whatsapp_channel_id = w.id
                  and t.provider_id = subjects_of_provider_id.provider_id
            )
            union all
            (
                select 'effect', p.id
                from private.message_effects e
                left join public.messages p
                    on p.whatsapp_channel_id = w.id
                   and p.provider_id = e.parent_provider_id
                where e.whatsapp_channel_id = w.id
                  and e.provider_id = subjects_of_provider_id.provider_id
                  and e.kind <> 'original'
                limit 1
            )
        ) s (part, id)
        where account_ids is null or w.account_id = any (account_ids);
end
$$;


create function private.why_subjects(reference text, account_ids uuid[])
    returns setof private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := private.written_number(reference);
begin
    if pg_input_is_valid(reference, 'uuid') then
        return query select * from private.subjects_of_id(reference::uuid, account_ids);
        return;
    elsif reference ~ '^[A-Za-z0-9-]{1,64}_[0-9]{1,32}_[0-9]{1,32}$' then
        return query
            select 'conversation', 'key', k.id, a.id, reference
            from public.accounts a
            join public.whatsapp_channels w
                on w.account_id = a.id
               and w.phone_number_id = split_part(reference, '_', 2)
            join public.conversations k
                on k.whatsapp_channel_id = w.id
               and k.account_id = a.id
            join public.conversation_activity v
                on v.conversation_id = k.id
            where a.external_id = split_part(reference, '_', 1)
              and k.thread_key = 'phone:' || private.match_key('phone', split_part(reference, '_', 3))
              and (account_ids is null or a.id = any (account_ids))
            -- as resolve_conversation
            order by (k.status <> 'closed') desc, v.last_message_at desc, k.id
            limit 1;
        return;
    end if;

    return query select * from private.subjects_of_provider_id(reference, account_ids);
    return query
        select 'number', null, w.id, w.account_id, w.phone_number_id
        from public.whatsapp_channels w
        where (
            w.phone_number_id = reference
            or regexp_replace(w.display_phone_number, '\D', '', 'g') = ltrim(number, '+')
        )
          and (account_ids is null or w.account_id = any (account_ids));
    if number is not null then
        return query select * from private.contacts_of_number(number, account_ids);
        -- as the customer has written it, without any proof
        return query
            select 'contact', 'unproved', c.id, c.account_id, c.phone
            from public.contacts c
            where c.phone = '+' || ltrim(number, '+')
              and c.deleted_at is null
              and (account_ids is null or c.account_id = any (account_ids))
              and not exists (
                  select
                  from public.contact_identities i
                  where i.account_id = c.account_id
                    and i.kind = 'phone'
                    and i.match_key = private.match_key('phone', c.phone)
              );
    elsif reference ~ '^@?[^@\s]+$' or reference ~ '^[^@\s]+@[^@\s]+$' then
        return query
            select 'contact', i.kind, i.contact_id, i.account_id, i.value
            from public.contact_identities i
            where i.kind in ('email', 'username', 'bsuid')
              and i.match_key = private.match_key(i.kind, ltrim(reference, '@'))
              and (account_ids is null or i.account_id = any (account_ids));
    end if;
    return query
        select distinct 'partner', null, p.contact_id, p.account_id, reference
        from (
            select m.contact_id, m.account_id
            from public.metakocka_contact_mappings m
            where m.metakocka_id = reference
            union all
            select c.contact_id, c.account_id
            from public.sync_conflicts c
            where c.state = 'open'
              and (
                  c.metakocka_id = reference
                  or c.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', reference))
              )
            union all
            select e.contact_id, e.account_id
            from public.sync_errors e
            where e.metakocka_id = reference
        ) p
        where account_ids is null or p.account_id = any (account_ids);
end
$$;


comment on type private.why_subject is
    'The thing for which an id or a number stands.';
comment on function private.written_number(text) is
    'The digits of a telephone number as people write it, with its plus where it has one; null for another text.';
comment on function private.contacts_of_number(text, uuid[]) is
    'The contacts that are known by a number: by all of its digits, or, without a country code, by its end.';
comment on function private.subjects_of_id(uuid, uuid[]) is
    'The row to which one of our ids belongs.';
comment on function private.subjects_of_provider_id(text, uuid[]) is
    'The message, or the effect on a message, to which an id of WhatsApp belongs.';
comment on function private.why_subjects(text, uuid[]) is
    'The things for which an id or a number may stand, in the given accounts or in all.';


/*
    The way in: signature, raw webhook, and what was made of it.
*/
create function private.webhook_account(phone_number_id text, waba_id text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select w.account_id
            from public.whatsapp_channels w
            where w.phone_number_id = webhook_account.phone_number_id
        ),
        -- if several accounts name it, its owner is not known
        (
            select (array_agg(w.account_id))[1]
            from public.whatsapp_channels w
            where w.waba_id = webhook_account.waba_id
            having count(distinct w.account_id) = 1
        )
    );
end
$$;


create type private.kept_webhook as (
    id              bigint,
    received_at     timestamptz,
    deliveries      integer,
    phone_number_id text,
    waba_id         text,
    -- why the part that is meant could not be applied; null where it could
    reason          text
);


create function private.find_webhook(
    needle text,
    account_ids uuid[],
    since timestamptz,
    until timestamptz
)
    returns private.kept_webhook
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- a sender may escape a slash, so the bodies are searched for what stands before it
    piece constant text := '"' || split_part(needle, '/', 1);
    quoted constant text := to_jsonb(needle)::text;
    found_webhook private.kept_webhook;
begin
    with latest as materialized (
        select e.id, e.body, e.received_at, e.deliveries, e.rejected
        from private.webhook_events e
        where e.received_at between find_webhook.since and find_webhook.until
        order by e.received_at desc, e.id desc
        limit 20000
    ),
    near as materialized (
        select l.*
        from latest l
        where position(piece in l.body) > 0
        limit 1000
    )
    select n.id, n.received_at, n.deliveries, v.phone_number_id, v.waba_id, r.reason
    into found_webhook
    from near n
    -- the change that names it, as a whole value: not a text in which somebody wrote it
    cross join lateral (
        select i.waba_id, i.phone_number_id
        from jsonb_path_query(private.webhook_json(n.body), 'lax $.entry[*]') as e (entry)
        cross join lateral jsonb_path_query(e.entry, 'lax $.changes[*].value') as c (value)
        cross join lateral (
            select
                left(e.entry ->> 'id', 64) as waba_id,
                left(c.value #>> '{metadata,phone_number_id}', 64) as phone_number_id
        ) i
        where position(quoted in c.value::text) > 0
          and (
              account_ids is null
              or private.webhook_account(phone_number_id => i.phone_number_id, waba_id => i.waba_id)
                  = any (account_ids)
          )
        limit 1
    ) v
    left join lateral (
        select j.value ->> 'reason' as reason
        from jsonb_array_elements(n.rejected) as j (value)
        where j.value ->> 'provider_id' = needle
           or j.value ->> 'provider_id' is null
           -- a number names all of its messages
           or needle ~ '^[0-9]+$'
        order by j.value ->> 'provider_id' is null
        limit 1
    ) r
        on true
    order by n.received_at, n.id
    limit 1;
    return found_webhook;
end
$$;


create function private.signature_step(account_ids uuid[])
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    refused record;
begin
    select sum(r.count) as count, min(r.first_at) as since
    into refused
    from private.refused_signatures r
    where r.hour > now() - interval '1 day';
    if refused.count is null then
        return private.as_step('signature.none_refused', null);
    end if;
    -- of the accounts in question alone: the traffic of others is nobody's to know
    return case
        when exists (
            select
            from public.conversation_activity a
            join public.conversations k
                on k.id = a.conversation_id
            where k.channel = 'whatsapp'
              and a.last_inbound_at >= refused.since
              and (account_ids is null or a.account_id = any (account_ids))
        ) then private.as_step('signature.some_refused', null, to_jsonb(refused))
        else private.as_step('signature.refused', false, to_jsonb(refused))
    end;
end
$$;


create function private.number_step(whatsapp_channel_id uuid, is_for_sending boolean)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number public.whatsapp_channels;
    paused_at timestamptz;
    facts jsonb;
begin
    select w.*
    into number
    from public.whatsapp_channels w
    where w.id = number_step.whatsapp_channel_id;
    select least(a.paused_at, number.paused_at)
    into paused_at
    from public.accounts a
    where a.id = number.account_id;
    facts := jsonb_build_object(
        'whatsapp_channel_id', number.id,
        'phone_number_id', number.phone_number_id,
        'display_phone_number', number.display_phone_number,
        'stopped_at', number.stopped_at,
        'error_code', number.stopped_code,
        'reason', number.stopped_reason,
        'paused_at', paused_at
    );
    if is_for_sending and number.stopped_at is not null then
        return private.as_step('number.stopped', false, facts);
    elsif is_for_sending and paused_at is not null then
        return private.as_step('number.paused', false, facts);
    end if;
    return private.as_step('number.registered', true, facts);
end
$$;


create function private.rejection_step(reason text, facts jsonb)
    returns private.why_step
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return private.as_step(
        case
            when reason in ('unknown_phone_number_id', 'unknown_account')
                then 'read.unknown_phone_number_id'
            when reason = 'refused' then 'read.refused'
            else 'read.unhandled'
        end,
        false,
        facts || jsonb_build_object('reason', reason)
    );
end
$$;


create function private.webhook_facts(webhook private.kept_webhook, account_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        -- it counts the webhooks of all accounts
        'event_id', case when account_ids is null then webhook.id end,
        'received_at', webhook.received_at,
        'deliveries', webhook.deliveries,
        'phone_number_id', webhook.phone_number_id,
        'waba_id', webhook.waba_id
    );
end
$$;


-- The way of a message that is there.
create function private.received_steps(post public.messages, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- the same transaction has stored both
    webhook constant private.kept_webhook := private.find_webhook(
        needle => post.provider_id,
        account_ids => array[post.account_id],
        since => post.created_at,
        until => post.created_at
    );
begin
    return array[
        private.as_step('signature.good', true),
        case
            when webhook.id is not null then private.as_step(
                'stored.kept', true, private.webhook_facts(webhook, account_ids))
            else private.as_step(
                'stored.gone', true, jsonb_build_object('received_at', post.created_at))
        end,
        private.as_step('read.applied', true, jsonb_build_object('provider_id', post.provider_id)),
        private.number_step(post.whatsapp_channel_id, is_for_sending => false)
    ];
end
$$;


-- The way of what has not become a message or a contact.
create function private.missing_steps(needle text, is_number boolean, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    webhook constant private.kept_webhook := private.find_webhook(
        needle => needle,
        account_ids => account_ids,
        since => now() - interval '7 days',
        until => now()
    );
    facts constant jsonb := private.webhook_facts(webhook, account_ids);
    statuses text[];
    stored private.why_step[];
    number uuid;
begin
    if webhook.id is not null then
        stored := array[
            private.as_step('signature.good', true),
            private.as_step('stored.kept', true, facts)
        ];
    end if;
    if webhook.reason is not null then
        number := (
            select w.id
            from public.whatsapp_channels w
            where w.phone_number_id = webhook.phone_number_id
        );
        return stored
            || private.rejection_step(webhook.reason, facts)
            || case
                -- since then
                when number is not null then private.number_step(number, is_for_sending => false)
                else private.as_step('number.unknown', false, facts)
            end;
    end if;

    if not is_number then
        select array_agg(s.status order by s.at)
        into statuses
        from public.whatsapp_channels w
        join private.message_statuses s
            on s.whatsapp_channel_id = w.id
           and s.provider_id = needle
        where account_ids is null or w.account_id = any (account_ids);
        if statuses is not null then
            return coalesce(stored, array[private.as_step('signature.good', true)])
                || private.as_step(
                    'read.only_status', false, jsonb_build_object('status', statuses));
        end if;
    end if;
    if webhook.id is null then
        return array[
            private.signature_step(account_ids),
            private.as_step(case when is_number then 'stored.no_number' else 'stored.none' end, false)
        ];
    end if;
    return stored || case
        when is_number then private.as_step('read.no_contact', false, facts)
        else private.as_step('read.nothing', false, facts)
    end;
end
$$;


create function private.number_steps(whatsapp_channel_id uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number public.whatsapp_channels;
    rejected record;
    queued record;
    latest timestamptz;
begin
    select w.*
    into number
    from public.whatsapp_channels w
    where w.id = number_steps.whatsapp_channel_id;

    select sum(r.webhooks) as count, max(r.last_received_at) as last_at,
           array_agg(distinct r.reason) as reasons
    into rejected
    from private.rejected_webhooks r
    where r.account_id = number.account_id
      and r.phone_number_id = number.phone_number_id;

    select count(*) as count, min(m.created_at) as since
    into queued
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    where q.whatsapp_channel_id = number.id;

    latest := (
        select max(a.last_inbound_at)
        from public.conversations k
        join public.conversation_activity a
            on a.conversation_id = k.id
        where k.whatsapp_channel_id = number.id
    );

    return array[
        case when latest is null then private.signature_step(array[number.account_id])
            else private.as_step('signature.good', true) end,
        private.number_step(number.id, is_for_sending => true),
        case
            when rejected.count is null then private.as_step('rejected.none', true)
            else private.as_step('rejected.some', false, to_jsonb(rejected))
        end,
        case
            when latest is null then private.as_step(
                'received.none', null, jsonb_build_object('since', number.created_at))
            else private.as_step('received.latest', true, jsonb_build_object('at', latest))
        end,
        case
            when queued.count = 0 then private.as_step('queue.empty', true)
            when queued.since < now() - interval '5 minutes'
                then private.as_step('queue.late', false, to_jsonb(queued))
            else private.as_step('queue.moving', true, to_jsonb(queued))
        end
    ];
end
$$;


comment on function private.webhook_account(text, text) is
    'The account that a webhook is about: that of the registered number, or else the only one that names the WhatsApp Business account.';
comment on type private.kept_webhook is
    'A raw webhook that names something, and why that part of it could not be applied.';
comment on function private.find_webhook(text, uuid[], timestamptz, timestamptz) is
    'The first webhook among the latest 20,000 of a span of time that names a value, about the given accounts or any.';
comment on function private.signature_step(uuid[]) is
    'Whether webhooks were refused in the last day, and whether any has come since.';
comment on function private.number_step(uuid, boolean) is
    'Whether a number is registered and, for sending, not stopped.';
comment on function private.rejection_step(text, jsonb) is
    'Why a part of a webhook was not applied.';
comment on function private.webhook_facts(private.kept_webhook, uuid[]) is
    'What may be told of a webhook. Its id only where all accounts are asked about.';
comment on function private.received_steps(public.messages, uuid[]) is
    'The way in of a message that is there.';
comment on function private.missing_steps(text, boolean, uuid[]) is
    'The way in of a message or a number that is not there.';
comment on function private.number_steps(uuid) is
    'The state of a number of the account.';


/*
    The way out: a message of ours from its writing to WhatsApp's reports, and one that is to be
    sent later.
*/
create function private.error_facts(code integer, reason text, at timestamptz)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'error_code', code,
        'reason', left(coalesce(
            (select e.sentence from private.send_errors e where e.code = error_facts.code),
            reason
        ), 500),
        'at', at
    );
end
$$;


create function private.queued_steps(post public.messages)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    earlier uuid;
    last_try private.outbound_attempts;
    since jsonb;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = post.id;
    if not found then
        return array[private.as_step('queued.lost', false)];
    elsif job.state <> 'queued' then
        return array[
            private.as_step('queued.done', true),
            private.as_step('claimed.now', true, jsonb_build_object('until', job.leased_until)),
            private.as_step('sent.running', null)
        ];
    end if;

    earlier := (
        select q.message_id
        from private.outbound_queue q
        where q.conversation_id = job.conversation_id
          and q.seq < job.seq
        order by q.seq
        limit 1
    );
    if earlier is not null then
        return array[private.as_step(
            'queued.behind', false, jsonb_build_object('message_id', earlier))];
    end if;

    select t.*
    into last_try
    from private.outbound_attempts t
    where t.message_id = post.id
      and t.outcome = 'refused'
    order by t.attempt desc
    limit 1;
    if found and job.attempts > 0 and job.not_before > now() then
        return array[private.as_step(
            'queued.again',
            false,
            private.error_facts(last_try.error_code, last_try.error_message, last_try.ended_at)
                || jsonb_build_object('next_at', job.not_before, 'attempt', job.attempts + 1)
        )];
    end if;
    -- tried again: it waits since that time
    since := jsonb_build_object('since', greatest(post.created_at, least(job.not_before, now())));
    return array[
        private.as_step('queued.waiting', true, since),
        case
            when post.created_at < now() - interval '5 minutes'
                and job.not_before < now() - interval '5 minutes'
                then private.as_step('claimed.nobody', false, since)
            else private.as_step('claimed.soon', null)
        end
    ];
end
$$;


create function private.sent_steps(post public.messages)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    steps private.why_step[];
    last_try timestamptz;
begin
    if post.status = 'queued' then
        return private.queued_steps(post);
    end if;

    last_try := (
        select max(t.begun_at)
        from private.outbound_attempts t
        where t.message_id = post.id
    );
    if last_try is null and post.provider_id is null and post.status = 'failed' then
        return array[private.as_step(
            'sent.failed',
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        )];
    end if;
    steps := array[private.as_step('queued.done', true), private.as_step('claimed.done', true)];
    if post.status = 'unknown' then
        return steps || private.as_step(
            'sent.unknown', false, jsonb_build_object('at', last_try));
    elsif post.status = 'failed' and post.provider_id is null then
        return steps || private.as_step(
            case when post.error_code is null then 'sent.failed' else 'sent.refused' end,
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        );
    end if;

    steps := steps || private.as_step('sent.accepted', true, jsonb_build_object(
        -- sent_at is the clock of WhatsApp's report, which may come without a call of ours
        'at', coalesce(
            (
                select max(t.ended_at)
                from private.outbound_attempts t
                where t.message_id = post.id
                  and t.outcome = 'accepted'
            ),
            last_try,
            post.sent_at,
            post.created_at
        ),
        'provider_id', post.provider_id
    ));
    return steps || case
        when post.status = 'failed' then private.as_step(
            'receipts.failed',
            false,
            private.error_facts(post.error_code, post.error_message, post.failed_at)
        )
        when post.read_at is not null
            then private.as_step('receipts.read', true, jsonb_build_object('at', post.read_at))
        when post.delivered_at is not null then private.as_step(
            'receipts.delivered', true, jsonb_build_object('at', post.delivered_at))
        else private.as_step('receipts.none', null)
    end;
end
$$;


create function private.written_step(at timestamptz, name text)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.as_step('written.by', true, jsonb_build_object('at', at, 'name', name));
end
$$;


create function private.later_steps(later_id uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    later public.scheduled_messages;
begin
    select l.*
    into later
    from public.scheduled_messages l
    where l.id = later_id;
    return array[
        private.written_step(later.created_at, later.author_name),
        case later.status
            when 'cancelled' then private.as_step('later.cancelled', false)
            when 'failed' then private.as_step(
                'later.failed', false, jsonb_build_object('reason', later.error_message))
            else private.as_step(
                case
                    when later.send_at < now() - interval '5 minutes' then 'later.overdue'
                    else 'later.waiting'
                end,
                false,
                jsonb_build_object('send_at', later.send_at)
            )
        end
    ];
end
$$;


comment on function private.error_facts(integer, text, timestamptz) is
    'An error of WhatsApp: its code, and the sentence of the code or the given one.';
comment on function private.queued_steps(public.messages) is
    'Where a message that is to be sent stands: in the queue, behind another one, with a worker.';
comment on function private.sent_steps(public.messages) is
    'The way out of a message of ours on WhatsApp, from the queue on.';
comment on function private.written_step(timestamptz, text) is
    'Who wrote a message, and when.';
comment on function private.later_steps(uuid) is
    'Where a message stands that is to be sent later.';


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


/*
    A contact and its partner at Metakocka: the connection, which contact is which partner, and what
    the sync waits for.
*/
create function private.connection_step(account_id uuid)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    connection public.metakocka_connections;
begin
    select k.*
    into connection
    from public.metakocka_connections k
    where k.account_id = connection_step.account_id;
    return case
        when connection.account_id is null then private.as_step('connection.none', false)
        when not connection.active then private.as_step('connection.off', false)
        when connection.paused_until > now() then private.as_step(
            'connection.paused',
            false,
            jsonb_build_object(
                'until', connection.paused_until,
                'reason', connection.pause_reason,
                'pauses', connection.pauses
            )
        )
        else private.as_step('connection.active', true)
    end;
end
$$;


create function private.question_step(account_id uuid, contact_id uuid, metakocka_id text)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    asked record;
begin
    select
        min(c.created_at) as since,
        array_agg(c.id order by c.created_at, c.id) as conflict_ids,
        array_agg(c.field order by c.field) filter (where c.field is not null) as fields,
        bool_or(c.field is null) as is_about_identity
    into asked
    from public.sync_conflicts c
    where c.account_id = question_step.account_id
      and c.state = 'open'
      and (
          c.contact_id = question_step.contact_id
          or c.metakocka_id = question_step.metakocka_id
          -- a partner that may be this contact
          or question_step.contact_id = any (c.candidates)
          or c.partners @> jsonb_build_array(
              jsonb_build_object('metakocka_id', question_step.metakocka_id))
      );
    return case
        when asked.since is null then private.as_step('question.none', true)
        when asked.is_about_identity then private.as_step('question.identity', false, to_jsonb(asked))
        else private.as_step('question.field', false, to_jsonb(asked))
    end;
end
$$;


create function private.error_step(
    account_id uuid,
    contact_id uuid,
    metakocka_id text,
    since timestamptz
)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    latest public.sync_errors;
begin
    select e.*
    into latest
    from public.sync_errors e
    where e.account_id = error_step.account_id
      and (e.contact_id = error_step.contact_id or e.metakocka_id = error_step.metakocka_id)
      and e.created_at > coalesce(since, '-infinity')
    order by e.created_at desc, e.id
    limit 1;
    if not found then
        return private.as_step('error.none', true);
    end if;
    return private.as_step('error.latest', false, jsonb_build_object(
        'sync_error_id', latest.id,
        'run_id', latest.run_id,
        'operation', latest.operation,
        'error_code', latest.code,
        'reason', left(latest.message, 500),
        'at', latest.created_at
    ));
end
$$;


-- Of a contact, or of a partner that is no contact: then contact_id is null.
create function private.partner_steps(account_id uuid, contact_id uuid, metakocka_id text)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    mapping public.metakocka_contact_mappings;
    mark private.metakocka_dirty;
    call private.partner_intents;
    partner private.why_step;
    question private.why_step;
    error private.why_step;
    facts jsonb;
begin
    select m.*
    into mapping
    from public.metakocka_contact_mappings m
    where m.account_id = partner_steps.account_id
      and (
          m.contact_id = partner_steps.contact_id
          or m.metakocka_id = partner_steps.metakocka_id
      );
    question := private.question_step(
        account_id => partner_steps.account_id,
        contact_id => coalesce(mapping.contact_id, partner_steps.contact_id),
        metakocka_id => coalesce(mapping.metakocka_id, partner_steps.metakocka_id)
    );
    error := private.error_step(
        account_id => partner_steps.account_id,
        contact_id => coalesce(mapping.contact_id, partner_steps.contact_id),
        metakocka_id => coalesce(mapping.metakocka_id, partner_steps.metakocka_id),
        since => mapping.last_synced_at
    );
    facts := jsonb_build_object(
        'contact_id', coalesce(mapping.contact_id, partner_steps.contact_id),
        'metakocka_id', coalesce(mapping.metakocka_id, partner_steps.metakocka_id),
        'state', mapping.state,
        'last_run', (
            select max(r.finished_at)
            from public.sync_runs r
            where r.account_id = partner_steps.account_id
              and r.state = 'done'
              and r.direction <> 'to_metakocka'
        )
    );

    partner := case
        when mapping.state = 'unlinked' then private.as_step('partner.unlinked', false, facts)
        when mapping.contact_id is not null and mapping.metakocka_id is not null
            then private.as_step('partner.mapped', true, facts)
        -- the steps that follow say why
        when partner_steps.contact_id is not null
            then private.as_step('partner.unmapped', null, facts)
        when question.ok and error.ok then private.as_step('partner.unread', false, facts)
        else private.as_step('partner.open', null, facts)
    end;
    if mapping.contact_id is null and partner_steps.contact_id is null then
        return array[
            private.connection_step(partner_steps.account_id), partner, question, error];
    end if;

    select d.*
    into mark
    from private.metakocka_dirty d
    where d.contact_id = coalesce(mapping.contact_id, partner_steps.contact_id);
    select i.*
    into call
    from private.partner_intents i
    where i.contact_id = coalesce(mapping.contact_id, partner_steps.contact_id)
      and i.state in ('sent', 'unknown');

    return array[
        private.connection_step(partner_steps.account_id),
        partner,
        question,
        case
            when mapping.missing <> '{}' then private.as_step(
                'fields.missing', false, jsonb_build_object('missing', mapping.missing))
            else private.as_step('fields.complete', true)
        end,
        case
            when call.id is null then private.as_step('call.none', true)
            when call.state = 'sent' and call.sent_at > now() - interval '1 minute'
                then private.as_step('call.unknown', null, jsonb_build_object('since', call.sent_at))
            else private.as_step('call.unknown', false, jsonb_build_object('since', call.sent_at))
        end,
        error,
        case
            when mark.contact_id is null then private.as_step('mark.none', true)
            when coalesce(mark.edited_at, mark.not_before) < now() - interval '5 minutes'
                then private.as_step('mark.late', false, jsonb_build_object(
                    'since', coalesce(mark.edited_at, mark.not_before), 'attempts', mark.attempts))
            else private.as_step('mark.waiting', null, jsonb_build_object(
                'since', coalesce(mark.edited_at, mark.not_before)))
        end,
        case
            when mapping.last_synced_at is null then private.as_step('agreed.never', null)
            else private.as_step(
                'agreed.since', true, jsonb_build_object('at', mapping.last_synced_at))
        end
    ];
end
$$;


comment on function private.connection_step(uuid) is
    'Whether an account is connected to Metakocka, and whether Metakocka takes calls.';
comment on function private.question_step(uuid, uuid, text) is
    'Whether a person has to decide something about a contact or a partner.';
comment on function private.error_step(uuid, uuid, text, timestamptz) is
    'The latest error of the sync about a contact or a partner since a time.';
comment on function private.partner_steps(uuid, uuid, text) is
    'The way between a contact and its partner.';


/*
    Why something does not show: the steps of its kind, the first broken one on top. Owners and
    admins ask about their own accounts, in which everything else is as if it were not there. The
    command rapport why asks about all accounts.
*/
create function private.message_steps(post public.messages, part text, login uuid, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    was_tried constant boolean := exists (
        select
        from private.outbound_attempts t
        where t.message_id = post.id
    );
    -- WhatsApp told us of it: from the customer, or from our phone app
    came constant boolean := post.provider_id is not null
        and not was_tried
        and (post.sender_type <> 'operator' or post.sender_id is null);
    goes constant boolean := post.whatsapp_channel_id is not null
        and post.sender_type <> 'client'
        and (was_tried or post.status in ('queued', 'failed', 'unknown'));
begin
    return private.as_step(
            case when part = 'effect' then 'found.effect' else 'found.message' end,
            true,
            jsonb_build_object(
                'message_id', post.id,
                'conversation_id', post.conversation_id,
                'provider_id', post.provider_id
            )
        )
        || case
            when came then private.received_steps(post, account_ids)
            else array[private.written_step(
                post.created_at, coalesce(post.sender_name, post.sender_type))]
        end
        || case
            when goes then private.number_step(
                    post.whatsapp_channel_id, is_for_sending => post.status = 'queued')
                || private.sent_steps(post)
            else '{}'
        end
        || private.contact_step(post.customer_id)
        || case
            when post.revoked_at is not null then private.as_step(
                'message.deleted', false, jsonb_build_object('at', post.revoked_at, 'seq', post.seq))
            else private.as_step('message.kept', true, jsonb_build_object('seq', post.seq))
        end
        || private.conversation_steps(post.conversation_id)
        || private.message_told_steps(post, login);
end
$$;


create function private.message_told_steps(post public.messages, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    access constant private.why_step := private.access_step(
        account_id => post.account_id, customer_id => post.customer_id, login => login);
begin
    return access
        || private.told_steps(
            table_name => 'messages',
            row_id => post.id,
            account_id => post.account_id,
            customer_id => post.customer_id,
            conversation_id => post.conversation_id,
            made_at => post.created_at,
            side => access.facts ->> 'side'
        )
        || private.heard_step(
            account_id => post.account_id,
            customer_id => post.customer_id,
            conversation_id => post.conversation_id,
            seq => post.seq,
            author => post.sender_id
        );
end
$$;


-- From a conversation on: its lists, its latest message, and who is told of it.
create function private.thread_steps(conversation_id uuid, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    thread public.conversations;
    latest public.messages;
    steps private.why_step[] := '{}';
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = thread_steps.conversation_id;
    if thread.whatsapp_channel_id is not null then
        steps := array[private.number_step(thread.whatsapp_channel_id, is_for_sending => true)];
    end if;
    steps := steps || private.conversation_steps(thread.id);

    select m.*
    into latest
    from public.messages m
    where m.conversation_id = thread.id
    order by m.seq desc
    limit 1;
    if not found then
        return steps
            || private.as_step('message.none', null)
            || private.access_step(
                account_id => thread.account_id, customer_id => thread.customer_id, login => login);
    end if;
    return steps
        || private.as_step('message.latest', true, jsonb_build_object(
            'message_id', latest.id, 'seq', latest.seq, 'at', latest.created_at))
        || case
            when latest.whatsapp_channel_id is not null
                and latest.sender_type <> 'client'
                and latest.status in ('queued', 'failed', 'unknown')
                then private.sent_steps(latest)
            else '{}'
        end
        || private.message_told_steps(latest, login);
end
$$;


create function private.contact_steps(contact public.contacts, part text, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    contact_step constant private.why_step := private.contact_step(contact.id);
    steps private.why_step[] := array[
        private.as_step('found.contact', true, jsonb_build_object('contact_id', contact.id)),
        contact_step
    ];
    access private.why_step;
    thread uuid;
begin
    -- nothing of it is left
    if not contact_step.ok then
        return steps;
    end if;
    thread := (
        select s.conversation_id
        from private.contact_states s
        where s.id = contact.id
    );
    steps := steps
        || case
            when part = 'unproved' then private.as_step('known.unproved', false)
            else private.known_step(contact.id)
        end
        || private.as_step('status.shown', true, jsonb_build_object('status', (
            select s.status
            from private.contact_states s
            where s.id = contact.id
        )));
    if exists (
        select
        from public.metakocka_connections k
        where k.account_id = contact.account_id
          and k.active
    ) then
        steps := steps || private.partner_steps(
            account_id => contact.account_id, contact_id => contact.id, metakocka_id => null);
    end if;
    -- who asks by a number asks about its messages
    if thread is not null and part in ('phone', 'unproved') then
        return steps || private.thread_steps(thread, login);
    end if;

    access := private.access_step(
        account_id => contact.account_id, customer_id => contact.id, login => login);
    return steps
        || case
            when thread is null then array[private.as_step('conversation.none', true)]
            else private.conversation_steps(thread)
        end
        || access
        || private.told_steps(
            table_name => case access.facts ->> 'side' when 'customer' then 'customers' else 'contacts' end,
            row_id => contact.id,
            account_id => contact.account_id,
            customer_id => contact.id,
            conversation_id => null,
            made_at => contact.updated_at,
            side => access.facts ->> 'side'
        );
end
$$;


create function private.key_steps(reference text, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    parts constant text[] := string_to_array(reference, '_');
    facts constant jsonb := jsonb_build_object(
        'account', parts[1], 'phone_number_id', parts[2], 'customer', parts[3]);
    account uuid;
begin
    select a.id
    into account
    from public.accounts a
    where a.external_id = parts[1]
      and (account_ids is null or a.id = any (account_ids));
    if not found then
        return array[private.as_step('found.key_account', false, facts)];
    elsif not exists (
        select
        from public.whatsapp_channels w
        where w.account_id = account
          and w.phone_number_id = parts[2]
    ) then
        return array[private.as_step('found.key_number', false, facts)];
    end if;
    return array[private.as_step('found.key_customer', false, facts)]
        || private.missing_steps(parts[3], is_number => true, account_ids => array[account]);
end
$$;


-- The steps of what an id stands for; of nothing, where it stands for nothing.
create function private.steps_of(
    subject private.why_subject,
    reference text,
    login uuid,
    account_ids uuid[]
)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := private.written_number(reference);
    post public.messages;
    thread public.conversations;
    contact public.contacts;
begin
    if subject.kind = 'message' and subject.part = 'later' then
        return private.as_step('found.later', true, jsonb_build_object('message_id', subject.id))
            || private.later_steps(subject.id)
            || private.access_step(
                account_id => subject.account_id, customer_id => null, login => login);
    elsif subject.kind = 'message' and subject.id is null then
        return array[
            private.as_step('found.effect_alone', true),
            private.as_step('read.no_parent', false, jsonb_build_object('parent_id', (
                select left(e.parent_provider_id, 200)
                from public.whatsapp_channels w
                join private.message_effects e
                    on e.whatsapp_channel_id = w.id
                where w.account_id = subject.account_id
                  and e.provider_id = reference
                limit 1
            )))
        ];
    elsif subject.kind = 'message' then
        select m.* into post from public.messages m where m.id = subject.id;
        return private.message_steps(
            post, part => subject.part, login => login, account_ids => account_ids);
    elsif subject.kind = 'conversation' then
        select k.* into thread from public.conversations k where k.id = subject.id;
        return array[
                private.as_step(
                    case subject.part
                        when 'key' then 'found.key'
                        when 'booking' then 'found.booking'
                        else 'found.conversation'
                    end,
                    true,
                    jsonb_build_object('conversation_id', thread.id)
                ),
                private.contact_step(thread.customer_id)
            ]
            || private.thread_steps(thread.id, login);
    elsif subject.kind = 'contact' then
        select c.* into contact from public.contacts c where c.id = subject.id;
        return private.contact_steps(contact, part => subject.part, login => login);
    elsif subject.kind = 'number' then
        return private.as_step('found.number', true, (
                select jsonb_build_object(
                    'display_phone_number', w.display_phone_number,
                    'phone_number_id', w.phone_number_id
                )
                from public.whatsapp_channels w
                where w.id = subject.id
            ))
            || private.number_steps(subject.id)
            || private.access_step(
                account_id => subject.account_id, customer_id => null, login => login);
    elsif subject.kind = 'partner' then
        return case
                when subject.id is null then '{}'
                else array[private.as_step(
                    'found.partner', true, jsonb_build_object('metakocka_id', subject.outside_id))]
            end
            || private.partner_steps(
                account_id => subject.account_id,
                contact_id => subject.id,
                metakocka_id => subject.outside_id
            )
            || case
                when subject.id is null then '{}'
                else array[private.contact_step(subject.id)]
            end;
    elsif reference ~ '^[A-Za-z0-9-]{1,64}_[0-9]{1,32}_[0-9]{1,32}$' then
        return private.key_steps(reference, account_ids);
    elsif number is not null then
        return private.missing_steps(
            regexp_replace(number, '^(\+|00)', ''), is_number => true, account_ids => account_ids);
    elsif reference ~ '^wamid\.' or reference ~ '^wacid\.' then
        return private.missing_steps(reference, is_number => false, account_ids => account_ids);
    end if;
    return array[private.as_step('found.nothing', false)];
end
$$;


create function private.check_reference(reference text, kind text, login text, language text)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if coalesce(btrim(reference), '') = '' then
        raise sqlstate 'PT422' using
            message = 'A reference is needed.',
            detail = 'field: reference',
            hint = 'Give the id of a message, a conversation or a contact, a telephone number, or a partner''s id.';
    elsif length(reference) > 512 then
        raise sqlstate 'PT422' using
            message = format('The reference has %s characters; 512 are allowed.', length(reference)),
            detail = 'field: reference',
            hint = 'Give one id or one number.';
    elsif kind not in ('message', 'number', 'conversation', 'contact', 'partner') then
        raise sqlstate 'PT422' using
            message = 'There is no such kind.',
            detail = 'field: kind',
            hint = 'Use message, number, conversation, contact or partner, or none.';
    elsif length(login) > 320 then
        raise sqlstate 'PT422' using
            message = format('The login has %s characters; 320 are allowed.', length(login)),
            detail = 'field: login',
            hint = 'Give the email or the user id of one login.';
    elsif language is null or language not in ('en', 'sl') then
        raise sqlstate 'PT422' using
            message = 'There is no such language of this answer.',
            detail = 'field: language',
            hint = 'Use en or sl.';
    end if;
end
$$;


create function private.login_named(login text, account_ids uuid[])
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
begin
    if login is null then
        return null;
    elsif pg_input_is_valid(btrim(login), 'uuid') then
        return btrim(login)::uuid;
    end if;
    -- a login of these accounts: of any other one nothing is told, not even that it exists
    return coalesce(
        (
            select u.id
            from auth.users u
            where u.email = lower(btrim(login))
              and (
                  account_ids is null
                  or exists (
                      select
                      from public.account_members m
                      where m.user_id = u.id
                        and m.account_id = any (account_ids)
                  )
                  or exists (
                      select
                      from public.customers c
                      where c.portal_user_id = u.id
                        and c.account_id = any (account_ids)
                  )
              )
            limit 1
        ),
        nobody
    );
end
$$;


create function private.find_subject(reference text, kind text, account_ids uuid[])
    returns private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    kinds constant text[] := array['message', 'conversation', 'number', 'contact', 'partner'];
    subjects constant private.why_subject[] := array(
        select s
        from private.why_subjects(reference, account_ids) s
        where find_subject.kind is null
           or s.kind = find_subject.kind
           -- a customer's number is a number as well
           or find_subject.kind = 'number' and s.part in ('phone', 'unproved')
        order by array_position(kinds, s.kind), s.part nulls first, s.id
        limit 100
    );
    accounts constant text[] := array(
        select coalesce(a.external_id, a.id::text)
        from (select distinct s.account_id from unnest(subjects) s) s
        join public.accounts a
            on a.id = s.account_id
        order by 1
    );
    chosen private.why_subject := subjects[1];
begin
    if cardinality(accounts) > 1 then
        raise sqlstate 'PT422' using
            message = 'Several accounts have something with this id or number.',
            detail = 'field: account_id',
            hint = format('Name one of them: %s.', array_to_string(accounts, ', '));
    end if;
    -- two contacts whose numbers end alike
    if chosen.kind = 'contact' and exists (
        select
        from unnest(subjects) s
        where s.kind = 'contact'
          and s.part is not distinct from chosen.part
          and s.id <> chosen.id
    ) then
        chosen.part := 'several';
        chosen.outside_id := (
            select string_agg(s.id::text, ', ' order by s.id)
            from unnest(subjects) s
            where s.kind = 'contact'
        );
    end if;
    return chosen;
end
$$;


create function private.why_answer(
    reference text,
    kind text,
    login text,
    account_ids uuid[],
    language text
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    named constant text := btrim(reference);
    user_id constant uuid := private.login_named(login, account_ids);
    subject private.why_subject := private.find_subject(named, kind, account_ids);
    account constant uuid := coalesce(
        subject.account_id, case when cardinality(account_ids) = 1 then account_ids[1] end);
    steps private.why_step[];
    shown jsonb;
    broken jsonb;
    access private.why_step;
    broadcast private.why_step;
begin
    if subject.kind is null and kind = 'partner' and account is not null then
        -- a partner that nobody here has heard of
        subject := ('partner', null, null, account, named)::private.why_subject;
    end if;
    steps := case
        when subject.part = 'several' then array[private.as_step(
            'found.several',
            false,
            jsonb_build_object('contact_ids', string_to_array(subject.outside_id, ', '))
        )]
        else private.steps_of(subject, named, login => user_id, account_ids => account_ids)
    end;

    select jsonb_agg(
        jsonb_build_object(
            'step', s.step,
            'ok', s.ok,
            'code', s.code,
            'words', coalesce(private.why_words(s.code, why_answer.language, z.name, s.facts), s.code),
            'facts', s.facts,
            'remedy', case when s.ok is not true or r.is_advice
                then private.why_words(s.code || '.remedy', why_answer.language, z.name, s.facts) end
        )
        order by s.place
    )
    into shown
    from unnest(steps) with ordinality as s (step, ok, code, facts, place)
    cross join lateral (
        select coalesce((select a.time_zone from public.accounts a where a.id = account), 'UTC') as name
    ) z
    -- worth doing though nothing is broken
    cross join lateral (
        select s.code in ('found.key', 'broadcast.renamed') as is_advice
    ) r;
    broken := jsonb_path_query_first(shown, '$[*] ? (@.ok == false)');
    select s.* into access from unnest(steps) s where s.step = 'access';
    select s.* into broadcast from unnest(steps) s where s.step = 'broadcast';

    return jsonb_build_object(
        'reference', named,
        'kind', case
            when subject.part in ('phone', 'unproved', 'several') then 'number'
            else subject.kind
        end,
        'id', subject.id,
        'account_id', account,
        -- of the times in the words; facts are in UTC
        'time_zone', coalesce((select a.time_zone from public.accounts a where a.id = account), 'UTC'),
        -- told to somebody who may see it, under the id for which the reference stands
        'match', case
            when subject.kind is null or access.ok is false or broadcast.ok is false then false
            when access.ok and broadcast.ok then true
        end,
        'broken', broken ->> 'step',
        'words', coalesce(
            broken ->> 'words', private.why_words('summary.fine', why_answer.language, 'UTC', '{}')),
        'remedy', broken ->> 'remedy',
        'steps', shown
    );
end
$$;


create function private.why_for_admin(
    reference text,
    account_id uuid,
    kind text,
    login text,
    language text
)
    returns jsonb
    language plpgsql
    stable
    -- definer: webhooks, queues and broadcasts are not readable; the caller is checked first, and
    -- every look-up stays in the caller's accounts
    security definer
    set search_path = ''
    -- each look-up is by a key of its own, and no plan is for many rows
    set jit = off
as $$
declare
    account_ids constant uuid[] := array(
        select a
        from private.my_admin_account_ids() a
        where why_for_admin.account_id is null
           or a = why_for_admin.account_id
        order by a
    );
begin
    if account_id is not null then
        perform private.require_member(account_id);
    end if;
    if account_ids = '{}' then
        raise insufficient_privilege using
            message = 'You may not ask why something of this account does not show.',
            detail = 'field: account_id',
            hint = 'Owners and admins of the account may.';
    end if;
    perform private.check_reference(reference, kind => kind, login => login, language => language);
    return private.why_answer(
        reference, kind => kind, login => login, account_ids => account_ids, language => language);
end
$$;

grant execute on function private.why_for_admin(text, uuid, text, text, text) to authenticated;


create function public.why_not_shown(
    reference text,
    account_id uuid default null,
    kind text default null,
    login text default null,
    language text default 'en'
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.why_for_admin(
        reference, account_id => account_id, kind => kind, login => login, language => language);
end
$$;

grant execute on function public.why_not_shown(text, uuid, text, text, text) to authenticated;


create function backend.why_not_shown(
    reference text,
    account text default null,
    kind text default null,
    login text default null,
    language text default 'en'
)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    set jit = off
as $$
begin
    perform private.check_reference(reference, kind => kind, login => login, language => language);
    -- owners are not told whether a login exists that is not of their accounts
    if login is not null and not exists (
        select
        from auth.users u
        where u.id = private.login_named(login, null)
    ) then
        raise sqlstate 'PT404' using
            message = format('There is no login %s.', btrim(login)),
            detail = 'field: login',
            hint = 'Check the address. `rapport member add` makes a login for staff, an invitation to the portal one for a customer.';
    end if;
    return private.why_answer(
        reference,
        kind => kind,
        login => login,
        account_ids => case when account is not null then array[private.account_named(account)] end,
        language => language
    );
end
$$;

grant execute on function backend.why_not_shown(text, text, text, text, text) to service_role;


comment on function private.message_steps(public.messages, text, uuid, uuid[]) is
    'The steps of a message.';
comment on function private.message_told_steps(public.messages, uuid) is
    'Who may see a message, and who was told of it.';
comment on function private.thread_steps(uuid, uuid) is
    'The steps of a conversation and of its latest message.';
comment on function private.contact_steps(public.contacts, text, uuid) is
    'The steps of a contact; of one that was named by its number, with its conversation''s.';
comment on function private.key_steps(text, uuid[]) is
    'Which part of a conversation''s older key leads nowhere.';
comment on function private.steps_of(private.why_subject, text, uuid, uuid[]) is
    'The steps of the thing for which a reference stands, or of nothing.';
comment on function private.check_reference(text, text, text, text) is
    'Refuses arguments of why_not_shown that nobody can answer.';
comment on function private.login_named(text, uuid[]) is
    'The login with this email or user id. Of an email that no login of the accounts has, the id of nobody.';
comment on function private.find_subject(text, text, uuid[]) is
    'The thing for which a reference stands. Refuses where several accounts have one.';
comment on function private.why_answer(text, text, text, uuid[], text) is
    'See why_not_shown; in the given accounts, or in all.';
comment on function private.why_for_admin(text, uuid, text, text, text) is
    'See why_not_shown; for the accounts that the caller administers.';
comment on function public.why_not_shown(text, uuid, text, text, text) is
    'Why something does not show: the steps from the webhook to the people who see it, in their order, and the first broken one in words with its remedy. The reference is an id of ours, WhatsApp''s id of a message (wamid) or of a number, a telephone number as people write it, an email, a username, a partner''s id at Metakocka, or the older key of a conversation. kind tells apart what several things have; login (an email or a user id) asks whether that login may see it. language is en or sl. A step''s ok is null where it can''t be known; code and facts say the same for programs, with ids, figures and times (UTC). The words have times by the clocks of time_zone. match: whether it was told to somebody, or to this login, under the id for which the reference stands. For owners and admins, about their own accounts.'
    ' Type: (kind: "message" | "number" | "conversation" | "contact" | "partner" | null, language: "en" | "sl") => {reference: text, kind: "message" | "number" | "conversation" | "contact" | "partner" | null, id: uuid | null, account_id: uuid | null, time_zone: text, match: boolean | null, broken: text | null, words: text, remedy: text | null, steps: {step: text, ok: boolean | null, code: text, words: text, facts: {[text]: json}, remedy: text | null}[]}';
comment on function backend.why_not_shown(text, text, text, text, text) is
    'As public.why_not_shown, about all accounts, or about the one with this external id or id.';
