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
    on public.jobs (account_id, (coalesce(ends_at, starts_at)))
    where status = 'completed';

create index invoices_account_due_on_idx
    on public.invoices (account_id, due_on)
    where sent_at is not null;


create function private.reminder_occasions(
    rule public.reminder_rules,
    due_from timestamptz,
    due_until timestamptz,
    -- null: all
    subject_ids uuid[] default null,
    -- whether to say what would have been sent at the time, rather than what applies now
    is_past boolean default false
)
    returns setof private.reminder_occasion
    language plpgsql
    stable
    set search_path = ''
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
              -- a job that is made later needs no reminder of it
              and j.created_at <= j.starts_at + span
              and case
                  when is_past then j.status <> 'cancelled'
                  else j.status in ('scheduled', 'rescheduled')
              end;
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
              and coalesce(j.ends_at, j.starts_at) between due_from - span and due_until - span
              and (subject_ids is null or j.id = any (subject_ids));
    elsif rule.kind in ('invoice_due_in', 'invoice_overdue_by') then
        return query
            select
                i.id,
                i.due_on::text,
                i.customer_id,
                null::uuid,
                i.id,
                d.due_at,
                case rule.kind
                    when 'invoice_due_in' then (i.due_on + 1)::timestamp at time zone zone
                    else d.due_at + grace
                end
            from public.invoices i
            cross join lateral (
                select (i.due_on + days + rule.time_of_day) at time zone zone as due_at
            ) d
            where i.account_id = rule.account_id
              and i.due_on between first_day and last_day
              and d.due_at between due_from and due_until
              and (subject_ids is null or i.id = any (subject_ids))
              and i.sent_at <= d.due_at
              and case
                  when is_past then coalesce(i.paid_at, i.voided_at, 'infinity') > d.due_at
                  else i.status in ('sent', 'overdue')
              end;
    else
        return query
            select
                p.customer_id,
                p.expires_on::text,
                p.customer_id,
                null::uuid,
                null::uuid,
                d.due_at,
                (p.expires_on + 1)::timestamp at time zone zone
            from (
                select distinct l.customer_id, l.expires_on
                from private.loyalty_lots l
                where l.account_id = rule.account_id
                  and l.expires_on between first_day and last_day
                  and (subject_ids is null or l.customer_id = any (subject_ids))
                  and (
                      l.points_left > 0
                      -- written off since, so they were left
                      or is_past and exists (
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
                select (p.expires_on + days + rule.time_of_day) at time zone zone as due_at
            ) d
            where d.due_at between due_from and due_until;
    end if;
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
    most integer default null
)
    returns table (due private.reminder_occasion, send_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account public.accounts;
begin
    select a.*
    into account
    from public.accounts a
    where a.id = rule.account_id;

    return query
        select o.due, t.send_at
        from (
            select o::private.reminder_occasion as due
            from private.reminder_occasions(
                rule,
                due_from => greatest(rule.active_since, at - interval '3 days'),
                -- the reminders of the coming quiet hours may be sent before they begin
                due_until => coalesce(until, at) + interval '1 day 30 minutes',
                subject_ids => subject_ids
            ) o
            where o.ends_at > at
              and (
                  until is not null
                  or o.due_at <= at
                  or private.quiet_span(
                      account.quiet_from, account.quiet_until, account.time_zone, o.due_at) is not null
              )
              and not exists (
                  select
                  from private.sent_reminders s
                  where s.rule_id = rule.id
                    and s.subject_id = o.subject_id
                    and s.occasion = o.occasion
              )
              -- of points: a contact that was merged into this one may have been reminded
              and (
                  rule.kind <> 'points_expire_in'
                  or not exists (
                      select
                      from public.contacts c
                      join private.sent_reminders s
                          on s.rule_id = rule.id
                         and s.subject_id = c.id
                         and s.occasion = o.occasion
                      where c.merged_into = o.customer_id
                  )
              )
        ) o
        cross join lateral (
            select private.reminder_time(
                account.quiet_from, account.quiet_until, account.time_zone,
                (o.due).due_at, (o.due).ends_at
            ) as planned_at
        ) p
        cross join (
            select private.after_quiet_hours(
                account.quiet_from, account.quiet_until, account.time_zone, at) as allowed_at
        ) l
        cross join lateral (
            select case
                when p.planned_at > at then p.planned_at
                -- late: as soon as it may be
                when p.planned_at is not null and l.allowed_at < (o.due).ends_at then l.allowed_at
            end as send_at
        ) t
        where case
            when until is null then t.send_at <= at
            else coalesce(t.send_at, (o.due).due_at) <= until
        end
        -- unsorted, so the rest is not computed
        limit most;
end
$$;


comment on type private.reminder_occasion is
    'What a reminder is about, whom it is for, and from when until when it may be sent.';
comment on function private.reminder_occasions(
    public.reminder_rules, timestamptz, timestamptz, uuid[], boolean
) is
    'The occasions of a rule whose reminders are due between two times, quiet hours aside.';
comment on function private.reminder_time(time, time, text, timestamptz, timestamptz) is
    'When a reminder is sent: when it is due, or after the quiet hours, or before them if the occasion is over by then; null if neither can be.';
comment on function private.due_reminders(
    public.reminder_rules, timestamptz, timestamptz, uuid[], integer
) is
    'The reminders of a rule that are to be sent at a time, or until a later one, with the time of each (null: the quiet hours leave none). Those that were sent or dropped are left out.';
