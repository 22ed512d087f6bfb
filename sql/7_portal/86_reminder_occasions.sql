/*
    The occasions of a rule: computed from jobs, invoices and points whenever they are needed, so a
    job that moves takes its reminder along, and a job that is cancelled has none.

    A reminder may be sent from due_at until ends_at. A time in the quiet hours is moved to their
    end. If the occasion is over by then, the reminder is sent before they begin.
*/
create type private.reminder_occasion as (
    subject_id  uuid,
    occasion    text,
    customer_id uuid,
    job_id      uuid,
    invoice_id  uuid,
    due_at      timestamptz,
    ends_at     timestamptz
);


create index jobs_end_idx
    on public.jobs (account_id, (coalesce(ends_at, starts_at)), id)
    where status = 'completed';

create index invoices_account_due_on_idx
    on public.invoices (account_id, due_on, id)
    where sent_at is not null;


create function private.reminder_occasions(
    rule public.reminder_rules,
    due_from timestamptz,
    due_until timestamptz,
    -- the present: what applies now and is neither over nor settled; null: what applied then
    at timestamptz,
    -- null: all
    subject_ids uuid[] default null,
    most integer default null,
    -- the due_at and subject_id of the last one of the page before
    after_at timestamptz default null,
    after_id uuid default null
)
    returns setof private.reminder_occasion
    language plpgsql
    stable
    set search_path = ''
    -- a few subjects are found by their ids, and all of a time by the time
    set plan_cache_mode = force_custom_plan
    -- the plan must not be the one for an empty table
    set enable_seqscan = off
    set jit = off
as $$
declare
    zone constant text := private.time_zone_of(rule.account_id);
    span constant interval := make_interval(
        mins => case rule.kind when 'before_appointment' then -rule.minutes else rule.minutes end);
    -- days from the occasion's day to the reminder's
    days constant integer :=
        case rule.kind when 'invoice_overdue_by' then rule.days else -rule.days end;
    first_day constant date := (due_from at time zone zone)::date - days;
    last_day constant date := (due_until at time zone zone)::date - days;
    after_day constant date := (after_at at time zone zone)::date - days;
    -- how late the reminders of what is over are sent
    grace constant interval := interval '3 days';
begin
    if rule.kind = 'before_appointment' then
        return query
            select
                j.id,
                to_char(j.starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                j.customer_id,
                j.id,
                null::uuid,
                j.starts_at + span,
                j.starts_at
            from public.jobs j
            where j.account_id = rule.account_id
              and j.starts_at between due_from - span and due_until - span
              and (subject_ids is null or j.id = any (subject_ids))
              and (after_id is null or (j.starts_at, j.id) > (after_at - span, after_id))
              -- a job that is made later needs no reminder of it
              and j.created_at <= j.starts_at + span
              and case
                  when at is null then j.status <> 'cancelled'
                  else j.status in ('scheduled', 'rescheduled')
              end
              and (at is null or j.starts_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = j.id
                    and s.occasion = to_char(j.starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
              )
            order by j.starts_at, j.id
            limit most;
    elsif rule.kind = 'after_job' then
        return query
            select
                j.id,
                'completed',
                j.customer_id,
                j.id,
                null::uuid,
                coalesce(j.ends_at, j.starts_at) + span,
                coalesce(j.ends_at, j.starts_at) + span + grace
            from public.jobs j
            where j.account_id = rule.account_id
              and j.status = 'completed'
              -- a record of past work is not asked about
              and j.created_at <= coalesce(j.ends_at, j.starts_at)
              and coalesce(j.ends_at, j.starts_at) between due_from - span and due_until - span
              and (at is null or coalesce(j.ends_at, j.starts_at) > at - span - grace)
              and (subject_ids is null or j.id = any (subject_ids))
              and (
                  after_id is null
                  or (coalesce(j.ends_at, j.starts_at), j.id) > (after_at - span, after_id)
              )
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = j.id
                    and s.occasion = 'completed'
              )
            order by coalesce(j.ends_at, j.starts_at), j.id
            limit most;
    elsif rule.kind in ('invoice_due_in', 'invoice_overdue_by') then
        return query
            select
                i.id,
                i.due_on::text,
                i.customer_id,
                null::uuid,
                i.id,
                d.due_at,
                d.ends_at
            from public.invoices i
            cross join lateral (
                select
                    t.due_at,
                    case rule.kind
                        when 'invoice_due_in' then (i.due_on + 1)::timestamp at time zone zone
                        else t.due_at + grace
                    end as ends_at
                from (
                    select (i.due_on + days + rule.time_of_day) at time zone zone as due_at
                ) t
            ) d
            where i.account_id = rule.account_id
              and i.due_on between first_day and last_day
              and d.due_at between due_from and due_until
              and (subject_ids is null or i.id = any (subject_ids))
              and (after_id is null or (i.due_on, i.id) > (after_day, after_id))
              and i.sent_at <= d.due_at
              and case
                  when at is null then coalesce(i.paid_at, i.voided_at, 'infinity') > d.due_at
                  else i.status in ('sent', 'overdue')
              end
              and (at is null or d.ends_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.subject_id = i.id
                    and s.occasion = i.due_on::text
              )
            order by i.due_on, i.id
            limit most;
    else
        return query
            select
                p.customer_id,
                p.expires_on::text,
                p.customer_id,
                null::uuid,
                null::uuid,
                d.due_at,
                d.ends_at
            from (
                select distinct l.customer_id, l.expires_on
                from private.loyalty_lots l
                where l.account_id = rule.account_id
                  and l.expires_on between first_day and last_day
                  and (subject_ids is null or l.customer_id = any (subject_ids))
                  and (after_id is null or (l.expires_on, l.customer_id) > (after_day, after_id))
                  and (
                      l.points_left > 0
                      -- written off since, so they were left
                      or at is null and exists (
                          select
                          from public.loyalty_transactions x
                          where x.customer_id = l.customer_id
                            and x.account_id = l.account_id
                            and x.type = 'expired'
                            and (x.created_at at time zone zone)::date
                                between l.expires_on + 1 and l.expires_on + 3
                      )
                  )
            ) p
            cross join lateral (
                select
                    (p.expires_on + days + rule.time_of_day) at time zone zone as due_at,
                    (p.expires_on + 1)::timestamp at time zone zone as ends_at
            ) d
            where d.due_at between due_from and due_until
              and (at is null or d.ends_at > at)
              and not exists (
                  select
                  from private.sent_reminders s
                  where at is not null
                    and s.rule_id = rule.id
                    and s.occasion = p.expires_on::text
                    -- a contact that was merged into this one may have been reminded
                    and s.subject_id in (
                        select l
                        from private.contact_lineage(p.customer_id) l
                    )
              )
            order by p.expires_on, p.customer_id
            limit most;
    end if;
end
$$;


/*
    A rule may be changed to another distance or kind, so an occasion is over once no rule could
    remind of it: an appointment when it begins. The others are reminded of at most 365 days, and
    three days late, after their day; two days more are for time zones.
*/
create function private.occasion_over_at(kind text, due private.reminder_occasion)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    longest constant integer := 365 + 3 + 2;
begin
    return case occasion_over_at.kind
        when 'before_appointment' then due.ends_at
        -- the time of a completed job does not change
        when 'after_job' then due.due_at + make_interval(days => longest)
        else (due.occasion::date + longest)::timestamptz
    end;
end
$$;


create function private.reminder_time(
    quiet_from time,
    quiet_until time,
    time_zone text,
    due_at timestamptz,
    ends_at timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    span constant tstzrange := private.quiet_span(quiet_from, quiet_until, time_zone, due_at);
    later timestamptz;
    -- so that the worker has the time to send it before they begin
    earlier constant timestamptz := lower(span) - interval '30 minutes';
begin
    if span is null then
        return due_at;
    end if;
    later := private.after_quiet_hours(quiet_from, quiet_until, time_zone, due_at);
    return case
        when later < ends_at then later
        when private.quiet_span(quiet_from, quiet_until, time_zone, earlier) is null then earlier
    end;
end
$$;


create function private.due_reminders(
    rule public.reminder_rules,
    at timestamptz,
    -- null: what is to be sent at this time
    until timestamptz default null,
    subject_ids uuid[] default null,
    most integer default null,
    after_at timestamptz default null,
    after_id uuid default null
)
    returns table (due private.reminder_occasion, send_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account public.accounts;
    allowed_at timestamptz;
    coming tstzrange;
    horizon timestamptz;
begin
    select a.*
    into account
    from public.accounts a
    where a.id = rule.account_id;
    allowed_at := private.after_quiet_hours(
        account.quiet_from, account.quiet_until, account.time_zone, at);
    if until is null and allowed_at > at then
        return;
    end if;
    -- the reminders of the coming quiet hours may be sent before they begin
    coming := private.quiet_span(
        account.quiet_from, account.quiet_until, account.time_zone, at + interval '30 minutes');
    horizon := case
        when until is not null then until + interval '1 day 30 minutes'
        else coalesce(upper(coming), at)
    end;

    return query
        select o.due, t.send_at
        from (
            select
                d as due,
                case
                    when account.quiet_from is null then d.due_at
                    else private.reminder_time(
                        account.quiet_from, account.quiet_until, account.time_zone,
                        d.due_at, d.ends_at
                    )
                end as planned_at
            from private.reminder_occasions(
                rule,
                due_from => greatest(rule.active_since, at - interval '3 days', after_at),
                due_until => horizon,
                at => at,
                subject_ids => subject_ids,
                -- what is not sent yet must not stand before what is
                most => case when horizon = at then most end,
                after_at => after_at,
                after_id => after_id
            ) d
        ) o
        cross join lateral (
            select case
                when o.planned_at > at then o.planned_at
                -- late: as soon as it may be
                when o.planned_at is not null and allowed_at < (o.due).ends_at then allowed_at
            end as send_at
        ) t
        where case
            when until is null then t.send_at <= at
            else coalesce(t.send_at, (o.due).due_at) <= until
        end
        order by (o.due).due_at, (o.due).subject_id
        limit most;
end
$$;


comment on type private.reminder_occasion is
    'What a reminder is about, whom it is for, and from when until when it may be sent.';
comment on function private.reminder_occasions(
    public.reminder_rules, timestamptz, timestamptz, timestamptz, uuid[], integer, timestamptz, uuid
) is
    'The occasions of a rule whose reminders are due between two times, quiet hours aside; in the order of due_at and subject_id.';
comment on function private.occasion_over_at(text, private.reminder_occasion) is
    'From when on no rule reminds of an occasion again, however it is changed.';
comment on function private.reminder_time(time, time, text, timestamptz, timestamptz) is
    'When a reminder is sent: when it is due, or after the quiet hours, or before them if the occasion is over by then; null if neither can be.';
comment on function private.due_reminders(
    public.reminder_rules, timestamptz, timestamptz, uuid[], integer, timestamptz, uuid
) is
    'The reminders of a rule that are to be sent at a time, or until a later one, with the time of each (null: the quiet hours leave none). Those that were sent or dropped are left out.';
