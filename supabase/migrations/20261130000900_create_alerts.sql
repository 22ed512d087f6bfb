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
    after update on public.jobs
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
                   'stopped_number', 'failing_sync', 'refused_signatures', 'unknown_number',
                   'waiting_messages', 'failed_messages'
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
    before update on public.account_health
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
    ('health.unknown_number.remedy', 'en', 'Have the number registered (whatsapp_channels), then have the webhooks applied by rapport replay. They are kept for 90 days.'),
    ('health.unknown_number.remedy', 'sl', 'Naj se številka vpiše (whatsapp_channels), nato naj se webhooki obdelajo z ukazom rapport replay. Hranijo se 90 dni.'),
    ('health.waiting_messages', 'en', 'Messages that have waited for more than 5 minutes to be sent by WhatsApp: {count}. The oldest waits since {since}.'),
    ('health.waiting_messages', 'sl', 'Sporočila, ki že več kot 5 minut čakajo na pošiljanje prek WhatsAppa: {count}. Najstarejše čaka od {since}.'),
    ('health.waiting_messages.remedy', 'en', 'Usually they are sent by themselves once WhatsApp takes more. If their number grows, ask the people who run this service.'),
    ('health.waiting_messages.remedy', 'sl', 'Običajno se pošljejo sama, ko jih WhatsApp spet sprejema. Če jih je vedno več, se obrnite na upravljavce te storitve.'),
    ('health.failed_messages', 'en', 'Messages of the last 24 hours that were not sent, or may not have been: {count}. The first since {since}.'),
    ('health.failed_messages', 'sl', 'Sporočila zadnjih 24 ur, ki niso bila poslana ali za katera to ni znano: {count}. Prvo od {since}.'),
    ('health.failed_messages.remedy', 'en', 'Each message says why. Send it again or drop it.'),
    ('health.failed_messages.remedy', 'sl', 'Pri vsakem sporočilu je zapisano, zakaj. Pošljite ga znova ali ga opustite.');


/*
    Messages of the last day that failed or may have failed. An index by status would
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
    -- those of a stopped number are told with the number
    where w.stopped_at is null
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


-- after the row itself is logged, so that a client hears of the cause first
create trigger _980_refresh_health
    after update on public.whatsapp_channels
    for each row
    when (new.stopped_at is distinct from old.stopped_at)
    execute function private.tg__refresh_health();

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
    delete from private.message_failures f
    where f.failed_at < now() - interval '1 day';
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
            array['stopped_number', 'failing_sync', 'refused_signatures', 'unknown_number'], h.kind),
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
    'stopped_number: nothing is sent from a WhatsApp number; failing_sync: Metakocka; refused_signatures and unknown_number: webhooks that were not taken; waiting_messages: to be sent for more than 5 minutes; failed_messages: of the last 24 hours.';
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
    'The messages of the last day that failed or may have failed.';
comment on function private.tg_messages__note_failure() is
    'Notes that a message failed, and forgets it when it was sent after all.';
comment on table private.refused_signatures is
    'How many webhooks with a wrong signature came, by the hour.';
comment on function backend.note_refused_signatures(integer) is
    'Counts webhooks that were refused since their signature is wrong.';
comment on type private.trouble is
    'What is wrong with an account; waiting is of a stopped number alone.';
comment on function private.troubles(uuid[]) is
    'What is wrong now with these accounts, or with all.';
comment on function private.refresh_health(uuid[]) is
    'Writes what is wrong now with these accounts, or with all, and deletes what is no longer wrong. Returns how many rows have changed.';
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
        -- those of a stopped number are told with the number
        'oldest_outbound_seconds', (
            select coalesce(greatest(extract(epoch from now() - min(m.created_at)), 0), 0)::bigint
            from private.outbound_queue q
            join public.messages m
                on m.id = q.message_id
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            where w.stopped_at is null
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
