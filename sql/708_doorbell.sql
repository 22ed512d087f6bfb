/*
    Rows are the jobs, a doorbell wakes the worker: a request to POST /internal/wake when the
    transaction commits. It may get lost; the schedule sweeps.
*/
create table private.doorbell (
    only_row boolean primary key default true
             constraint doorbell_only_row_check check (only_row),
    -- null: nobody is to be woken, the schedule does it all
    url      text,
    secret   text
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
    bell record;
    rung constant text := coalesce(current_setting('rapport.rung', true), '');
begin
    -- once a transaction
    if rung = worker || pg_current_xact_id() then
        return;
    end if;
    select d.url, d.secret
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
    perform set_config('rapport.rung', worker || pg_current_xact_id(), true);
exception
    when others then
        -- the row is there, and the schedule finds it
        raise warning 'nobody was woken: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on table private.doorbell is
    'Where to ring, and with which secret.';
comment on policy "nobody reads the doorbell directly" on private.doorbell is
    'It holds a secret.';
comment on function private.ring(text) is
    'Wakes a worker when the transaction commits. A failure is a warning.';
