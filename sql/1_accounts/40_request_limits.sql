/*
    The limits of one user, so that one login never slows down the others: how many requests at
    once, how many messages and other writes in a minute, how many rows in a request.

    PostgREST calls before_request at the start of every request's transaction. A read is a
    read-only transaction: it can't write a counter, but it can take advisory locks. So advisory
    locks say how many requests of a user are at work:

        8 may be there at once, and more are refused: PostgREST has ten connections or more, and
          some must stay free for others;
        one of them reads and one writes, and the others wait for these, up to two seconds. So a
          user takes no more of the processors than that, even if a request embeds very much.

    refuse_embedding has the limits of embedding. The gateway of the embedded stack also lets
    a user's requests wait before they cost anything here (functions/rapport/local/supabase/shares.py);
    a hosted project has a gateway of its own. Through it, 16 connections of one user on two busy
    cores raise the 95th percentile of another user's reads by a factor of 1.2 (100 times 1,000
    embedded messages, small reads, refused writes) to 1.5 (reads of 1,000 rows).

    Writes are counted for each user and minute. Calls of the functions (service_role) are not
    counted, nor are rows that a definer function writes for a user besides the request's own. A
    write that is refused takes its count back with it, and that is no harm: one write of a user is
    at work at a time, and where they crowd the gateway lets about 20 in a second through.
*/
create type private.request_limits as (
    messages_per_minute  integer,
    messages_per_request integer,
    writes_per_minute    integer,
    rows_per_request     integer
);


-- unlogged: the counts need not survive a crash
create unlogged table private.user_writes (
    user_id  uuid not null,
    -- one slot for each of the user's requests at the same time: they never wait for each other's
    -- row
    slot     smallint not null,
    -- minutes since 1970; counts of another minute are void
    minute   integer not null,
    writes   integer not null,
    messages integer not null default 0,

    primary key (user_id, slot)
)
    with (fillfactor = 50);
alter table private.user_writes enable row level security;


create policy "nobody reads counts of writes directly"
    on private.user_writes
    for all
    to authenticated
    using (false);


create function private.request_limits(user_id uuid)
    returns private.request_limits
    language plpgsql
    stable
    -- definer: customers may not read accounts
    security definer
    set search_path = ''
as $$
declare
    limits private.request_limits;
begin
    -- the highest limits of the accounts in which the user is staff or a customer
    select
        max(a.messages_per_minute),
        max(a.messages_per_request),
        max(a.writes_per_minute),
        max(a.rows_per_request)
    into limits
    from (
        select m.account_id
        from public.account_members m
        where m.user_id = request_limits.user_id
        union all
        select c.account_id
        from public.customers c
        where c.portal_user_id = request_limits.user_id
    ) mine
    join public.accounts a
        on a.id = mine.account_id;

    -- a user without an account only sends the token of an invitation
    return coalesce(limits, (1, 1, 60, 1)::private.request_limits);
end
$$;


create function private.refuse_for_now(message text, hint text, seconds integer)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- PostgREST makes status, headers and body from these
    raise sqlstate 'PGRST' using
        message = jsonb_build_object(
            'code', 'PT429',
            'message', message,
            'details', format('retry after: %s s', seconds),
            'hint', hint
        )::text,
        detail = jsonb_build_object(
            'status', 429,
            'headers', jsonb_build_object('Retry-After', seconds::text)
        )::text;
end
$$;


create function private.this_minute()
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return extract(epoch from now())::bigint / 60;
end
$$;


create function private.rest_of_minute()
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 60 - floor(extract(second from now()))::integer;
end
$$;


create function private.take_slot(user_id uuid, is_reading boolean)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    at_once constant integer := 8;
    -- of all users together, once more than one of them waits
    most_waiting constant integer := 4;
    key constant integer := uuid_hash(user_id);
    work constant integer := case when is_reading then -1 else -2 end;
    patience constant text := current_setting('lock_timeout');
    taken integer;
begin
    for slot in 1 .. at_once loop
        if pg_try_advisory_xact_lock(key, slot) then
            taken := slot;
            exit;
        end if;
    end loop;
    if taken is null then
        perform private.refuse_for_now(
            message => format('You have %s requests at work.', at_once),
            hint => 'Wait for their answers before you send more.',
            seconds => 1
        );
    elsif pg_try_advisory_xact_lock(key, work) then
        return taken;
    end if;

    -- A request that waits keeps a connection of PostgREST's, which others need: one user may
    -- wait with all requests, several share a few.
    if (
        select count(*) >= most_waiting and bool_or(l.classid::bigint <> key::bigint & 4294967295)
        from pg_catalog.pg_locks l
        where l.locktype = 'advisory'
          and l.objsubid = 2
          and l.objid in (4294967295, 4294967294)
          and not l.granted
    ) then
        perform private.refuse_for_now(
            message => 'Too many requests wait for others of the same user.',
            hint => 'Send one request after the other.',
            seconds => 1
        );
    end if;
    begin
        perform set_config('lock_timeout', '2s', true);
        perform pg_advisory_xact_lock(key, work);
        perform set_config('lock_timeout', patience, true);
    exception
        when lock_not_available then
            perform private.refuse_for_now(
                message => 'Another request of yours has been at work for more than 2 seconds.',
                hint => 'Wait for its answer, and ask for fewer rows at a time.',
                seconds => 2
            );
    end;
    return taken;
end
$$;


create function private.count_request(user_id uuid, slot integer)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    present constant integer := private.this_minute();
    allowed constant integer := (private.request_limits(user_id)).writes_per_minute;
    so_far bigint;
begin
    insert into private.user_writes as w (user_id, slot, minute, writes)
    values (count_request.user_id, count_request.slot, present, 1)
    on conflict on constraint user_writes_pkey do update
        set minute = present,
            writes = case when w.minute = present then w.writes + 1 else 1 end,
            messages = case when w.minute = present then w.messages else 0 end;

    select sum(w.writes)
    into so_far
    from private.user_writes w
    where w.user_id = count_request.user_id
      and w.minute = present;
    if so_far > allowed then
        perform private.refuse_for_now(
            message => format('You have written %s times in this minute.', so_far - 1),
            hint => format('A user may write %s times in a minute; go on in the next.', allowed),
            seconds => private.rest_of_minute()
        );
    end if;
end
$$;


create function private.before_request()
    returns void
    language plpgsql
    -- definer: users may not write counts
    security definer
    set search_path = ''
as $$
declare
    is_reading constant boolean := current_setting('transaction_read_only') = 'on';
    me uuid;
    slot integer;
begin
    perform private.check_request();
    if current_setting('role') = 'service_role' then
        return;
    elsif nullif(current_setting('request.headers', true), '')::json ->> 'prefer'
        ~* '\mcount=(planned|estimated)\M'
    then
        perform private.refuse_estimate();
    end if;
    me := auth.uid();
    if me is null then
        return;
    end if;
    slot := private.take_slot(user_id => me, is_reading => is_reading);
    if not is_reading then
        perform private.count_request(user_id => me, slot => slot);
        perform set_config('rapport.slot', slot::text, true);
    end if;
end
$$;

-- PostgREST calls it in the role of each request
grant usage on schema private to anon, service_role;
grant execute on function private.before_request() to anon, authenticated, service_role;


create function private.hold_to_rows(rows integer, messages integer)
    returns void
    language plpgsql
    -- definer: it reads limits that the caller may not see
    security definer
    set search_path = ''
as $$
declare
    -- of this request
    rows_so_far constant integer :=
        coalesce(private.setting('rapport.rows_written')::integer, 0) + rows;
    limits private.request_limits;
begin
    perform set_config('rapport.rows_written', rows_so_far::text, true);
    if rows_so_far = 1 then
        return;
    end if;
    limits := private.request_limits(auth.uid());
    if messages > limits.messages_per_request then
        raise sqlstate 'PT413' using
            message = format('These are %s messages in one request.', messages),
            hint = format(
                'At most %s; send the rest in further requests.', limits.messages_per_request);
    elsif rows_so_far > limits.rows_per_request then
        raise sqlstate 'PT413' using
            message = format('These are more than %s rows in one request.', limits.rows_per_request),
            hint = 'Write the rest in further requests.';
    end if;
end
$$;

grant execute on function private.hold_to_rows(integer, integer) to authenticated;


create function private.count_rows(messages integer)
    returns void
    language plpgsql
    -- definer: as before_request
    security definer
    set search_path = ''
as $$
declare
    me constant uuid := auth.uid();
    my_slot constant text := private.setting('rapport.slot');
    rows_so_far constant text := current_setting('rapport.rows_written', true);
    counted constant text := coalesce(private.setting('rapport.rows_counted'), '0');
    allowed integer;
    messages_so_far bigint;
begin
    -- not a request through PostgREST
    if my_slot is null then
        return;
    end if;
    update private.user_writes w
    set writes = w.writes + rows_so_far::integer - counted::integer,
        messages = w.messages + count_rows.messages
    where w.user_id = me
      and w.slot = my_slot::smallint;
    perform set_config('rapport.rows_counted', rows_so_far, true);
    if messages = 0 then
        return;
    end if;

    select sum(w.messages)
    into messages_so_far
    from private.user_writes w
    where w.user_id = me
      and w.minute = private.this_minute();
    allowed := (private.request_limits(me)).messages_per_minute;
    if messages_so_far > allowed then
        perform private.refuse_for_now(
            message => format(
                'You have written %s messages in this minute.', messages_so_far - messages),
            hint => format('A user may write %s in a minute; go on in the next.', allowed),
            seconds => private.rest_of_minute()
        );
    end if;
end
$$;

grant execute on function private.count_rows(integer) to authenticated;


create function private.tg__count_rows()
    returns trigger
    language plpgsql
    -- invoker: rows that definer functions write are not counted, see the triggers' condition
    set search_path = ''
as $$
declare
    written constant integer := (select count(*) from written_rows);
    messages constant integer :=
        case when tg_table_name = 'messages' and tg_op = 'INSERT' then written else 0 end;
begin
    if written > 0 then
        perform private.hold_to_rows(rows => written, messages => messages);
        perform private.count_rows(messages => messages);
    end if;
    return null;
end
$$;


create function private.tg_messages__hold_to_request()
    returns trigger
    language plpgsql
    -- definer: the caller may not read the limits of accounts
    security definer
    set search_path = ''
as $$
declare
    tried constant integer :=
        coalesce(private.setting('rapport.messages_tried'), '0')::integer + 1;
    allowed integer;
begin
    perform set_config('rapport.messages_tried', tried::text, true);
    if tried > 1 then
        allowed := (private.request_limits(auth.uid())).messages_per_request;
        -- before a message takes locks: of thousands they would fill the table of locks
        if tried > allowed then
            raise sqlstate 'PT413' using
                message = format('These are more than %s messages in one request.', allowed),
                hint = 'Send the rest in further requests.';
        end if;
    end if;
    return new;
end
$$;


create function private.tg__hold_to_rows()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- an "instead of" trigger can't have a condition
    if current_user = 'authenticated' then
        perform private.hold_to_rows(rows => 1, messages => 0);
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;


create function private.tg__count_view_rows()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if current_setting('rapport.rows_written', true) <> '' then
        perform private.count_rows(messages => 0);
    end if;
    return null;
end
$$;


create function private.limit_writes(relation_name text, operations text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    is_view constant boolean := (
        select c.relkind = 'v'
        from pg_class c
        where c.oid = format('public.%I', relation_name)::regclass
    );
    operation text;
begin
    foreach operation in array operations loop
        if is_view then
            execute format(
                'create trigger _400_hold_to_rows_%1$s'
                ' instead of %1$s on public.%2$I'
                ' for each row'
                ' execute function private.tg__hold_to_rows()',
                operation, relation_name
            );
            execute format(
                'create trigger _990_count_rows_%1$s'
                ' after %1$s on public.%2$I'
                ' for each statement'
                ' when (current_user = ''authenticated'')'
                ' execute function private.tg__count_view_rows()',
                operation, relation_name
            );
        else
            execute format(
                'create trigger _990_count_rows_%1$s'
                ' after %1$s on public.%2$I'
                ' referencing %3$s table as written_rows'
                ' for each statement'
                ' when (current_user = ''authenticated'')'
                ' execute function private.tg__count_rows()',
                operation, relation_name, case operation when 'delete' then 'old' else 'new' end
            );
        end if;
    end loop;
end
$$;


-- PostgREST reads its settings from the role with which it signs in, as on a hosted project
alter role authenticator set pgrst.db_pre_request = 'private.before_request';
notify pgrst, 'reload config';


comment on type private.request_limits is
    'The limits of one user, from public.accounts.';
comment on table private.user_writes is
    'How much each user has written in the present minute: one row for each of the user''s requests at the same time.';
comment on column private.user_writes.writes is
    'Requests that write, plus the rows that they wrote.';
comment on policy "nobody reads counts of writes directly" on private.user_writes is
    'before_request and count_rows read them.';
comment on function private.request_limits(uuid) is
    'The limits of a user: the highest that one of the user''s accounts allows.';
comment on function private.refuse_for_now(text, text, integer) is
    'Refuses a request with 429 and Retry-After.';
comment on function private.this_minute() is
    'The present minute, counted from 1970.';
comment on function private.rest_of_minute() is
    'Seconds until the next minute, 1 to 60.';
comment on function private.take_slot(uuid, boolean) is
    'Lets a request of a user start, at once or after a wait, and returns its slot (1 to 8). If all slots are taken, or the wait takes too long: 429.';
comment on function private.count_request(uuid, integer) is
    'Counts a request that writes. If the user has written too often in this minute: 429.';
comment on function private.before_request() is
    'PostgREST calls this before every request: it checks grants and holds signed-in users to their limits.';
comment on function private.hold_to_rows(integer, integer) is
    'Refuses more rows or messages than a user may write in one request: 413.';
comment on function private.count_rows(integer) is
    'Counts the rows that a request has written, and the messages among them. If there are too many messages in this minute: 429.';
comment on function private.tg__count_rows() is
    'Counts the rows that a user''s statement has written.';
comment on function private.tg_messages__hold_to_request() is
    'Refuses a request with more messages than the account allows, at the first message too many.';
comment on function private.tg__hold_to_rows() is
    'Counts a row that a user writes through a view.';
comment on function private.tg__count_view_rows() is
    'Counts the rows that a user''s statement has written through a view.';
comment on function private.limit_writes(text, text[]) is
    'From now on counts the rows that users write to a table or view by these operations.';


select private.limit_writes('accounts', '{update}');
