/*
    Counts are exact here. An estimate is made of statistics of the whole table, whoever asks: it
    tells a stranger how many rows others have, which values, and which ids.

    before_request refuses those who ask for one. Of two Prefer headers, though, it is shown the one
    and PostgREST obeys the other, by EXPLAIN. That plans a statement, policies included, and
    executes nothing, so that refusal must come from planning, where an immutable function without
    arguments is evaluated: it stands behind the functions of which policies are made.
*/
create function private.refuse_estimate()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT400' using
        message = 'Rows are counted exactly here: an estimate would tell of rows that are not yours.',
        detail = 'field: Prefer',
        hint = 'Ask for count=exact, or for no count.';
end
$$;

grant execute on function private.refuse_estimate() to authenticated;


create function private.refuse_estimates()
    returns boolean
    language plpgsql
    -- which it is not: so it is asked each time that a statement is planned, and not again
    immutable
    parallel safe
    set search_path = ''
as $$
begin
    -- PostgREST's sessions alone: a person at a console may ask for plans
    if session_user = 'authenticator' and ltrim(current_query()) ilike 'explain%' then
        perform private.refuse_estimate();
    end if;
    return true;
end
$$;

grant execute on function private.refuse_estimates() to authenticated;


comment on function private.refuse_estimate() is
    'Refuses a count that is not exact.';
comment on function private.refuse_estimates() is
    'True; refuses the planning of a statement that PostgREST wants to have explained.';
