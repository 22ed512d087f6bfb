/*
    Only exact counts are given. An estimate comes from statistics of the whole table, for every
    user: it tells a stranger how many rows others have, with which values and which ids.

    before_request refuses a request for an estimate. But if a request has two Prefer headers,
    before_request sees one, and PostgREST obeys the other and runs EXPLAIN. EXPLAIN plans a
    statement, with its policies, and executes nothing. So planning must refuse it: while Postgres
    plans, it evaluates an immutable function without arguments. The functions that policies call
    have check_plan() as the default of an argument.
*/
create function private.refuse_estimate()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT400' using
        message = 'Only exact counts are given: an estimate would tell about rows that are not yours.',
        detail = 'field: Prefer',
        hint = 'Ask for count=exact, or for no count.';
end
$$;

grant execute on function private.refuse_estimate() to authenticated;


create function private.check_plan()
    returns boolean
    language plpgsql
    -- not true, but so Postgres calls it while it plans a statement
    immutable
    parallel safe
    -- definer: users need no right to what it calls
    security definer
    set search_path = ''
as $$
begin
    -- only in PostgREST's sessions: a person at a console may use EXPLAIN
    if session_user = 'authenticator' then
        if ltrim(current_query()) ilike 'explain%' then
            perform private.refuse_estimate();
        end if;
        perform private.refuse_embedding(current_query());
    end if;
    return true;
end
$$;

grant execute on function private.check_plan() to authenticated;


comment on function private.refuse_estimate() is
    'Refuses a count that is not exact.';
comment on function private.check_plan() is
    'Returns true. Refuses to plan a statement that PostgREST runs with EXPLAIN, or that embeds too much.';
