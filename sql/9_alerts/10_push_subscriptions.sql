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


create policy "nobody reads the settings of pushes directly"
    on private.push_settings
    for all
    to authenticated
    using (false);


insert into private.push_settings default values;


create table public.push_subscriptions (
    id         uuid primary key default gen_random_uuid(),
    user_id    uuid not null
               constraint push_subscriptions_user_id_fkey
               references auth.users on delete cascade,
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


create policy "users can read the subscriptions of their own devices"
    on public.push_subscriptions
    for select
    to authenticated
    -- the plan is checked here, since no function that checks it is called
    using (user_id = (select auth.uid()) and private.check_plan());


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
comment on policy "nobody reads the settings of pushes directly" on private.push_settings is
    'push_key gives the key.';
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
comment on policy "users can read the subscriptions of their own devices"
    on public.push_subscriptions is
    'An endpoint and its keys are nobody else''s.';
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
