/*
    Rows are the jobs, and a doorbell wakes the worker: a request to POST /internal/wake when the
    transaction commits. The request may get lost; then the schedule finds the rows.
*/
do $$
begin
    -- hosted projects have pg_net; without it, ring() only warns and the schedule finds the rows
    if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
        create extension if not exists pg_net with schema extensions;
    end if;
end
$$;


create table private.doorbell (
    only_row boolean primary key default true
             constraint doorbell_only_row_check check (only_row),
    -- null: no worker is woken, and the schedule finds the rows
    url      text
             constraint doorbell_url_check check (url ~ '^https?://[^[:space:]]+$'),
    secret   text
             constraint doorbell_secret_check check (length(secret) between 32 and 256),

    constraint doorbell_url_secret_check check ((url is null) = (secret is null))
);
alter table private.doorbell enable row level security;


create policy "nobody reads the doorbell directly"
    on private.doorbell
    for all
    to authenticated
    using (false);


insert into private.doorbell default values;


create function private.ring(worker text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    bell private.doorbell;
    -- the setting ends with the transaction, or with the savepoint of the ring
    rung constant text := 'rapport.rung_' || worker;
begin
    if current_setting(rung, true) = 'on' then
        return;
    end if;
    select d.*
    into bell
    from private.doorbell d
    where d.url is not null;
    if not found then
        return;
    end if;

    perform net.http_post(
        url => bell.url,
        body => jsonb_build_object('worker', worker),
        headers => jsonb_build_object(
            'content-type', 'application/json', 'authorization', 'Bearer ' || bell.secret),
        timeout_milliseconds => 5000
    );
    perform set_config(rung, 'on', true);
exception
    when others then
        -- the row is there, and the schedule finds it
        raise warning 'no worker was woken: %', sqlerrm using errcode = sqlstate;
end
$$;


create function private.ring_each_minute(is_wanted boolean)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    job constant text := 'rapport-schedules';
begin
    -- projects may have pg_cron; a server that is always awake needs none
    if to_regprocedure('cron.schedule(text, text, text)') is null then
        return;
    end if;
    if is_wanted then
        perform cron.schedule(job, '* * * * *', 'select private.ring(''schedules'')');
    elsif exists (select from cron.job j where j.jobname = job) then
        perform cron.unschedule(job);
    end if;
exception
    when others then
        raise warning 'pg_cron does not ring: %', sqlerrm using errcode = sqlstate;
end
$$;


create function backend.set_doorbell(url text, secret text, each_minute boolean default false)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.doorbell d
    set url = set_doorbell.url,
        secret = set_doorbell.secret
    where d.url is distinct from set_doorbell.url
       or d.secret is distinct from set_doorbell.secret;

    perform private.ring_each_minute(is_wanted => each_minute and url is not null);
exception
    when check_violation then
        -- Postgres' own message would quote the row, with the secret
        raise sqlstate 'PT422' using
            message = 'The doorbell needs both a URL and a secret, or neither.',
            detail = 'field: url, secret',
            hint = 'Give the URL of POST /internal/wake and a secret of 32 to 256 characters.';
end
$$;

grant execute on function backend.set_doorbell(text, text, boolean) to service_role;


comment on table private.doorbell is
    'The address of POST /internal/wake, and its secret.';
comment on policy "nobody reads the doorbell directly" on private.doorbell is
    'It holds a secret.';
comment on function private.ring(text) is
    'Wakes a worker when the transaction commits, once in a transaction. A failure is only a warning.';
comment on function private.ring_each_minute(boolean) is
    'Has pg_cron, where it is, wake a server each minute for its schedules, or no longer. A failure is only a warning.';
comment on function backend.set_doorbell(text, text, boolean) is
    'Sets the address of POST /internal/wake and its secret (WAKE_SECRET). With two nulls no worker is woken. Call it once for a deployment; each_minute is for `rapport serve`, whose host may sleep.';
