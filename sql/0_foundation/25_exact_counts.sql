/*
    Counts are exact here. An estimate is made of statistics of the whole table, whoever asks: it
    tells a stranger how many rows others have, which values, and which ids.

    PostgREST gets planned and estimated counts by EXPLAIN. That plans a statement, policies
    included, and executes nothing, so the refusal must come from planning: an immutable function
    without arguments is evaluated there. It stands behind the functions of which policies are
    made, and is told of EXPLAIN however the request asked for it. (Of two Prefer headers a
    pre-request function is shown one, and PostgREST obeys the other.)
*/
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
        raise sqlstate 'PT400' using
            message = 'Rows are counted exactly here: an estimate would tell of rows that are not yours.',
            detail = 'field: Prefer',
            hint = 'Ask for count=exact, or for no count.';
    end if;
    return true;
end
$$;

grant execute on function private.refuse_estimates() to authenticated;


comment on function private.refuse_estimates() is
    'True; refuses the planning of a statement that PostgREST wants to have explained.';
