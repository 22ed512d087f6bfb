/*
    Schema net as pg_net makes it on a hosted project: requests that leave when the transaction
    commits. Its background worker is rapport.local.supabase.net here. Run as supabase_admin.

    Source: names, types, grants and behaviour are those of pg_net 0.20. Since 0.14 everybody
    may use all of it: what keeps clients out is that the API does not expose the schema.
*/
create schema net authorization supabase_admin;
grant usage on schema net to public;


create unlogged table net.http_request_queue (
    id                   bigserial,
    method               text not null check (upper(method) in ('GET', 'POST', 'DELETE')),
    url                  text not null,
    headers              jsonb,
    body                 bytea,
    timeout_milliseconds integer not null
);

grant all on net.http_request_queue to public;
grant all on sequence net.http_request_queue_id_seq to public;


-- Neither has a key, and no row outlives the worker's six hours.
create unlogged table net._http_response (
    id           bigint,
    status_code  integer,
    content_type text,
    headers      jsonb,
    content      text,
    timed_out    boolean,
    error_msg    text,
    created      timestamptz not null default now()
);

create index _http_response_created_idx on net._http_response (created);

grant all on net._http_response to public;


create function net.check_worker_is_up()
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if not exists (
        select
        from pg_catalog.pg_stat_activity
        where application_name like 'pg_net%'
          and datname = current_database()
    ) then
        raise exception 'the worker of schema net is not up';
    end if;
end
$$;


-- Postgres itself keeps notifications until the commit, and makes one of several.
create function net.wake()
    returns void
    language sql
    set search_path = ''
return pg_catalog.pg_notify('pg_net', '');


create function net._urlencode_string(string varchar)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select coalesce(string_agg(
        case
            when chr(byte) ~ '[A-Za-z0-9._~-]' then chr(byte)
            else '%' || upper(lpad(to_hex(byte), 2, '0'))
        end,
        '' order by place), '')
    from (
        select place, get_byte(bytes, place) as byte
        from (select convert_to(string, 'UTF8') as bytes) as encoded,
             generate_series(0, length(bytes) - 1) as place
    ) as each
$$;


create function net._encode_url_with_params_array(url text, params_array text[])
    returns text
    language sql
    immutable
    set search_path = ''
return url || case
    when cardinality(params_array) = 0 then ''
    else case when strpos(url, '?') > 0 then '&' else '?' end || array_to_string(params_array, '&')
end;


create function net._enqueue(
    method text,
    url text,
    params jsonb,
    headers jsonb,
    body bytea,
    timeout_milliseconds integer
)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    request_id bigint;
begin
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    select
        _enqueue.method,
        net._encode_url_with_params_array(_enqueue.url, array(
            select net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value)
            from jsonb_each_text(_enqueue.params) as p
        )),
        _enqueue.headers,
        _enqueue.body,
        _enqueue.timeout_milliseconds
    returning id into request_id;

    perform net.wake();
    return request_id;
end
$$;


create function net.http_get(
    url text,
    params jsonb default '{}',
    headers jsonb default '{}',
    timeout_milliseconds integer default 5000
)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return net._enqueue('GET', url, params, headers, null, timeout_milliseconds);
end
$$;


create function net.http_post(
    url text,
    body jsonb default '{}',
    params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}',
    timeout_milliseconds integer default 5000
)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    content_type constant text := (
        select h.value
        from jsonb_each_text(http_post.headers) as h
        where lower(h.key) = 'content-type'
        limit 1
    );
begin
    if content_type <> 'application/json' then
        raise exception 'Content-Type header must be "application/json"';
    end if;
    if content_type is null then
        headers := headers || '{"Content-Type": "application/json"}';
    end if;
    return net._enqueue(
        'POST', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds);
end
$$;


create function net.http_delete(
    url text,
    params jsonb default '{}',
    headers jsonb default '{}',
    timeout_milliseconds integer default 5000,
    body jsonb default null
)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return net._enqueue(
        'DELETE', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds);
end
$$;


comment on table net.http_request_queue is
    'Requests to be made; a row is deleted in the transaction that writes its response.';
comment on table net._http_response is
    'What became of requests, for six hours.';
comment on function net.check_worker_is_up() is
    'Raises an error where nothing would make the requests.';
comment on function net.wake() is
    'Tells the worker, when the transaction commits, to look at the queue.';
comment on function net.http_get(text, jsonb, jsonb, integer) is
    'Makes a GET request after the commit, and answers its id in _http_response.';
comment on function net.http_post(text, jsonb, jsonb, jsonb, integer) is
    'Makes a POST request with a JSON body after the commit, and answers its id in _http_response.';
comment on function net.http_delete(text, jsonb, jsonb, integer, jsonb) is
    'Makes a DELETE request after the commit, and answers its id in _http_response.';
