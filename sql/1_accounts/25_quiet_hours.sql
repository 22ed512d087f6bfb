/*
    Quiet hours: the part of each day, on the clocks of the account's time zone, in which nothing is
    sent that could be sent at another time. A clock that is put forward or back moves their
    beginning and end with it.
*/
create function private.quiet_span(
    quiet_from time,
    quiet_until time,
    time_zone text,
    at timestamptz
)
    returns tstzrange
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    local constant timestamp := at at time zone time_zone;
    over_midnight constant boolean := quiet_from > quiet_until;
    is_morning constant boolean := over_midnight and local::time < quiet_until;
    first_day constant date := local::date - is_morning::integer;
begin
    if is_morning
        or local::time >= quiet_from and (over_midnight or local::time < quiet_until)
    then
        return tstzrange(
            -- an hour that the clocks show twice counts as its second time
            least((first_day + quiet_from) at time zone time_zone, at),
            greatest(
                (first_day + over_midnight::integer + quiet_until) at time zone time_zone,
                at + interval '1 minute'
            )
        );
    end if;
    return null;
end
$$;


create function private.quiet_span(account_id uuid, at timestamptz)
    returns tstzrange
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select private.quiet_span(a.quiet_from, a.quiet_until, a.time_zone, at)
        from public.accounts a
        where a.id = quiet_span.account_id
    );
end
$$;


create function private.after_quiet_hours(
    quiet_from time,
    quiet_until time,
    time_zone text,
    at timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    span tstzrange;
    loud timestamptz := at;
begin
    -- a clock that is put forward may pass over the end, so look again
    for attempt in 1 .. 3 loop
        span := private.quiet_span(quiet_from, quiet_until, time_zone, loud);
        exit when span is null;
        loud := upper(span);
    end loop;
    return loud;
end
$$;


create function private.after_quiet_hours(account_id uuid, at timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select private.after_quiet_hours(a.quiet_from, a.quiet_until, a.time_zone, at)
        from public.accounts a
        where a.id = after_quiet_hours.account_id
    );
end
$$;


comment on function private.quiet_span(time, time, text, timestamptz) is
    'The quiet hours in which a time lies, from beginning to end; null if it lies in none.';
comment on function private.quiet_span(uuid, timestamptz) is
    'The quiet hours of an account in which a time lies; null if it lies in none.';
comment on function private.after_quiet_hours(time, time, text, timestamptz) is
    'A time, or the end of the quiet hours in which it lies.';
comment on function private.after_quiet_hours(uuid, timestamptz) is
    'A time, or the end of the account''s quiet hours in which it lies.';
