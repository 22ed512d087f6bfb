/*
    How patiently the sync calls Metakocka, for each kind of operation. A connection shows all
    settings. A write changes the settings that it names and keeps the others.
*/
create function private.retry_limits()
    returns table (
        kind text,
        setting text,
        usual numeric,
        least_value numeric,
        most_value numeric
    )
    language sql
    immutable
    set search_path = ''
as $$
    values
        -- get_partner and search; waits are in seconds
        ('read', 'attempts', 4, 1, 10),
        ('read', 'first_wait', 0.5, 0, 10),
        ('read', 'longest_wait', 8, 0, 25),
        ('read', 'jitter', 1, 0, 1),
        -- all partners in one answer
        ('list', 'attempts', 1, 1, 3),
        ('list', 'first_wait', 0.5, 0, 10),
        ('list', 'longest_wait', 8, 0, 25),
        ('list', 'jitter', 1, 0, 1),
        -- changes of existing entries
        ('write', 'attempts', 4, 1, 10),
        ('write', 'first_wait', 0.5, 0, 10),
        ('write', 'longest_wait', 8, 0, 25),
        ('write', 'jitter', 1, 0, 1),
        -- new partners and entries: repeated only if Metakocka did not receive the call
        ('create', 'attempts', 4, 1, 10),
        ('create', 'first_wait', 0.5, 0, 10),
        ('create', 'longest_wait', 8, 0, 25),
        ('create', 'jitter', 1, 0, 1),
        -- a contact that could not be sent: tried again in a later run
        ('contact', 'first_wait', 15, 1, 3600),
        ('contact', 'longest_wait', 3600, 1, 86400),
        ('contact', 'jitter', 1, 0, 1),
        -- an account whose company takes no calls
        ('pause', 'first_wait', 60, 1, 3600),
        ('pause', 'longest_wait', 3600, 1, 86400),
        ('pause', 'jitter', 0, 0, 1)
$$;


create function private.read_retries(given jsonb, present jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    wrong record;
    whole jsonb;
begin
    if jsonb_typeof(given) is distinct from 'object'
        or exists (select from jsonb_each(given) k where jsonb_typeof(k.value) <> 'object')
    then
        raise sqlstate 'PT422' using
            message = 'Retries must be an object with an object for each kind of operation.',
            detail = 'field: retries',
            hint = 'For example {"read": {"attempts": 4, "first_wait": 0.5}}.';
    end if;
    select format('retries.%s.%s', k.key, s.key) as field, l.least_value, l.most_value
    into wrong
    from jsonb_each(given) k
    cross join lateral jsonb_each(
        case when k.value = '{}' then '{"": null}' else k.value end) s
    left join private.retry_limits() l
        on l.kind = k.key
       and l.setting = s.key
    where case
        when k.value = '{}' then not exists (
            select from private.retry_limits() o where o.kind = k.key
        )
        else l.kind is null
            or jsonb_typeof(s.value) <> 'number'
            or s.value::numeric not between l.least_value and l.most_value
            or s.key = 'attempts' and s.value::numeric % 1 <> 0
    end
    order by 1
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = case
                when wrong.least_value is null then 'There is no such setting.'
                else format(
                    'This must be a number from %s to %s.', wrong.least_value, wrong.most_value)
            end,
            detail = 'field: ' || rtrim(wrong.field, '.'),
            hint = case
                when wrong.least_value is null then 'The kinds read, list, write and create have attempts, first_wait, longest_wait and jitter. The kinds contact and pause have no attempts.'
                else 'Waits are in seconds, jitter is the random part of a wait, and attempts are whole numbers.'
            end;
    end if;

    select jsonb_object_agg(k.kind, k.settings)
    into whole
    from (
        select
            l.kind,
            jsonb_object_agg(
                l.setting,
                coalesce(
                    given -> l.kind -> l.setting,
                    present -> l.kind -> l.setting,
                    to_jsonb(l.usual)
                )
            ) as settings
        from private.retry_limits() l
        group by l.kind
    ) k;
    select k.key as kind
    into wrong
    from jsonb_each(whole) k
    where (k.value ->> 'longest_wait')::numeric < (k.value ->> 'first_wait')::numeric
    order by 1
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = 'The longest wait can''t be shorter than the first one.',
            detail = format('field: retries.%s.longest_wait', wrong.kind);
    end if;
    return whole;
end
$$;


create function private.tg_metakocka_connections__read_settings()
    returns trigger
    language plpgsql
    -- definer: users have no rights on private functions
    security definer
    set search_path = ''
as $$
begin
    new.retries := private.read_retries(
        given => new.retries,
        present => case when tg_op = 'UPDATE' then old.retries else '{}' end
    );
    if tg_op = 'UPDATE' and new.paused_until is null then
        new.pause_reason := null;
        new.pauses := 0;
    end if;
    return new;
end
$$;

create trigger _120_read_settings_insert
    before insert on public.metakocka_connections
    for each row
    execute function private.tg_metakocka_connections__read_settings();

create trigger _120_read_settings_update
    before update on public.metakocka_connections
    for each row
    when (new.retries <> old.retries or new.paused_until is null and old.paused_until is not null)
    execute function private.tg_metakocka_connections__read_settings();


create function private.tg_metakocka_connections__end_pause()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = 'A pause can only be ended.',
        detail = 'field: paused_until',
        hint = 'Set paused_until to null to try at once.';
end
$$;

create trigger _110_end_pause
    before update of paused_until on public.metakocka_connections
    for each row
    when (new.paused_until is not null
          and new.paused_until is distinct from old.paused_until
          and current_user = 'authenticated')
    execute function private.tg_metakocka_connections__end_pause();


create function private.tg_metakocka_connections__ring()
    returns trigger
    language plpgsql
    -- definer: users may not ring the doorbell
    security definer
    set search_path = ''
as $$
begin
    perform private.ring('metakocka_sync');
    return null;
end
$$;

create trigger _600_ring
    after update of paused_until on public.metakocka_connections
    for each row
    when (new.paused_until is null and old.paused_until is not null)
    execute function private.tg_metakocka_connections__ring();


comment on function private.retry_limits() is
    'The settings of retries, with their defaults and limits. Waits are in seconds.';
comment on function private.read_retries(jsonb, jsonb) is
    'All settings: the given ones over the present ones over the defaults. Refuses unknown settings and values outside the limits.';
comment on function private.tg_metakocka_connections__read_settings() is
    'Fills in a connection''s settings. Clears the reason of a pause when the pause ends.';
comment on function private.tg_metakocka_connections__end_pause() is
    'Refuses to make or move a pause.';
comment on function private.tg_metakocka_connections__ring() is
    'Wakes the sync when a pause is ended.';
