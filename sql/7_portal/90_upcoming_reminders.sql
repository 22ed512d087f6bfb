/*
    What will be sent: a page of the reminders to come, computed as the worker computes them. And a
    dry run: what a rule that is not there yet would have sent.
*/
create function private.reminder_row(
    rule public.reminder_rules,
    planned private.planned_reminder,
    send_at timestamptz
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'rule_id', rule.id,
        'rule_name', rule.name,
        'kind', rule.kind,
        'customer_id', (planned.due).customer_id,
        'customer_name', (
            select c.name
            from public.customers c
            where c.id = (planned.due).customer_id
              and c.account_id = rule.account_id
        ),
        'job_id', (planned.due).job_id,
        'invoice_id', (planned.due).invoice_id,
        'due_at', (planned.due).due_at,
        'send_at', case when planned.reason is null then send_at end,
        'way', planned.way,
        'message', planned.message,
        'reason', planned.reason,
        'why_not', case when planned.reason is not null then private.words(
            rule.account_id,
            'reminder.' || planned.reason,
            jsonb_build_object('variable', planned.variable)
        ) end
    );
end
$$;


create function private.reminder_rows(
    rule public.reminder_rules,
    occasions private.reminder_occasion[],
    times timestamptz[]
)
    returns table (place bigint, reminder jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select
            p.place,
            private.reminder_row(
                rule,
                case
                    -- nobody can be reached in time
                    when times[p.place] is null and p.reason is null then (
                        occasions[p.place], null, null, null, null, null, 'quiet_hours', null
                    )::private.planned_reminder
                    else (
                        occasions[p.place], p.way, p.conversation_id, p.address, p.message, p.content,
                        p.reason, p.variable
                    )::private.planned_reminder
                end,
                times[p.place]
            )
        from private.plan_reminders(rule, occasions) with ordinality as p (
            due, way, conversation_id, address, message, content, reason, variable, place
        );
end
$$;


create function private.upcoming_reminders(
    account_id uuid,
    until timestamptz,
    cursor jsonb,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    -- definer: users may not call its helpers; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    most constant integer := least(greatest(page_size, 1), 200);
    page jsonb;
    next_cursor jsonb;
begin
    perform private.require_member(upcoming_reminders.account_id);
    if until is null or until > now() + interval '1 year' then
        raise sqlstate 'PT422' using
            message = 'Reminders are computed for the coming year at most.',
            detail = 'field: until',
            hint = 'Give a time within the next year.';
    end if;

    with listed as materialized (
        select
            r as rule,
            d.due,
            d.send_at,
            coalesce(d.send_at, (d.due).due_at) as sorted_at
        from public.reminder_rules r
        cross join lateral private.due_reminders(r, at => now(), until => until) d
        where r.account_id = upcoming_reminders.account_id
          and r.is_active
    ),
    paged as materialized (
        select
            l.*,
            row_number() over (order by l.sorted_at, (l.rule).id, (l.due).subject_id) as place
        from listed l
        where cursor is null
           or (l.sorted_at, (l.rule).id, (l.due).subject_id)
            > ((cursor ->> 0)::timestamptz, (cursor ->> 1)::uuid, (cursor ->> 2)::uuid)
        order by l.sorted_at, (l.rule).id, (l.due).subject_id
        limit most
    ),
    -- one call for the customers of each rule
    grouped as materialized (
        select
            p.rule,
            array_agg(p.due order by p.place) as due,
            array_agg(p.send_at order by p.place) as send_at,
            array_agg(p.place order by p.place) as places
        from paged p
        group by p.rule
    )
    select
        coalesce(
            (
                select jsonb_agg(w.reminder order by g.places[w.place])
                from grouped g
                cross join lateral private.reminder_rows(g.rule, g.due, g.send_at) w
            ),
            '[]'
        ),
        (
            select jsonb_build_array(p.sorted_at, (p.rule).id, (p.due).subject_id)
            from paged p
            where p.place = most
        )
    into page, next_cursor;
    return jsonb_build_object('reminders', page, 'cursor', next_cursor);
end
$$;

grant execute on function private.upcoming_reminders(uuid, timestamptz, jsonb, integer)
    to authenticated;


create function public.upcoming_reminders(
    account_id uuid,
    until timestamptz default now() + interval '7 days',
    cursor jsonb default null,
    page_size integer default 50
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.upcoming_reminders(
        account_id => account_id, until => until, cursor => cursor, page_size => page_size);
end
$$;

grant execute on function public.upcoming_reminders(uuid, timestamptz, jsonb, integer)
    to authenticated;


create function private.try_reminder_rule(
    rule public.reminder_rules,
    since timestamptz,
    until timestamptz
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as upcoming_reminders
    security definer
    set search_path = ''
as $$
declare
    -- this many are worded, and counted by reason
    most constant integer := 1000;
    account public.accounts;
    due private.reminder_occasion[];
    send_at timestamptz[];
    found bigint;
begin
    perform private.require_member(rule.account_id);
    if since is null or until is null or since not between now() - interval '1 year' and until then
        raise sqlstate 'PT422' using
            message = 'A rule is tried over a span of the last year.',
            detail = 'field: since',
            hint = 'Give a time within the last year, and before until.';
    elsif rule.kind is null or rule.kind not in (
        'before_appointment', 'after_job', 'invoice_due_in', 'invoice_overdue_by',
        'points_expire_in'
    ) then
        raise sqlstate 'PT422' using
            message = 'There is no such kind of reminder.',
            detail = 'field: kind',
            hint = 'Use before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
    elsif (rule.minutes is null) = (rule.kind in ('before_appointment', 'after_job')) is not false
        or (rule.days is null) = (rule.kind not in ('before_appointment', 'after_job')) is not false
    then
        raise sqlstate 'PT422' using
            message = 'The kind, minutes or days of the rule do not fit together.',
            detail = format(
                'field: %s',
                case
                    when rule.kind in ('before_appointment', 'after_job') then 'minutes'
                    else 'days'
                end
            ),
            hint = 'before_appointment and after_job take minutes; invoice_due_in, invoice_overdue_by and points_expire_in take days.';
    -- the bounds of the table
    elsif rule.minutes not between
        (case rule.kind when 'before_appointment' then 5 else 0 end) and 525600
    then
        raise sqlstate 'PT422' using
            message = format('%s minutes are no time for %s.', rule.minutes, rule.kind),
            detail = 'field: minutes',
            hint = 'before_appointment needs 5 to 525,600 minutes and after_job 0 to 525,600.';
    elsif rule.days not between
        (case rule.kind when 'invoice_overdue_by' then 1 else 0 end) and 365
    then
        raise sqlstate 'PT422' using
            message = format('%s days are no time for %s.', rule.days, rule.kind),
            detail = 'field: days',
            hint = 'invoice_due_in and points_expire_in need 0 to 365 days and invoice_overdue_by 1 to 365.';
    elsif num_nonnulls(rule.template, rule.text) = 0 then
        raise sqlstate 'PT422' using
            message = 'A rule needs a template or a text.',
            detail = 'field: template',
            hint = 'Give the template for WhatsApp, the text for the portal, or both.';
    end if;
    rule := private.checked_reminder_rule(rule);
    select a.*
    into account
    from public.accounts a
    where a.id = rule.account_id;

    select count(*)
    into found
    from private.reminder_occasions(rule, since, until, at => null) o;
    select
        array_agg(o.due order by (o.due).due_at, (o.due).subject_id),
        array_agg(
            private.reminder_time(
                account.quiet_from, account.quiet_until, account.time_zone,
                (o.due).due_at, (o.due).ends_at
            )
            order by (o.due).due_at, (o.due).subject_id
        )
    into due, send_at
    from (
        select d as due
        from private.reminder_occasions(rule, since, until, at => null) d
        order by d.due_at, d.subject_id
        limit most
    ) o;
    return (
        select jsonb_build_object(
            'found', found,
            'sent', count(*) filter (where w.reminder ->> 'reason' is null),
            'dropped', (
                select coalesce(jsonb_object_agg(n.reason, n.number), '{}')
                from (
                    select d.reminder ->> 'reason' as reason, count(*) as number
                    from private.reminder_rows(rule, due, send_at) d
                    where d.reminder ->> 'reason' is not null
                    group by d.reminder ->> 'reason'
                ) n
            ),
            'reminders', coalesce(
                jsonb_agg(w.reminder - 'rule_id' order by w.place) filter (where w.place <= 50), '[]')
        )
        from private.reminder_rows(rule, coalesce(due, '{}'), coalesce(send_at, '{}')) w
    );
end
$$;

grant execute on function private.try_reminder_rule(
    public.reminder_rules, timestamptz, timestamptz
)
    to authenticated;


create function public.try_reminder_rule(
    account_id uuid,
    kind text,
    minutes integer default null,
    days integer default null,
    time_of_day time default '09:00',
    template jsonb default null,
    whatsapp_channel_id uuid default null,
    text text default null,
    since timestamptz default now() - interval '30 days',
    until timestamptz default now()
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    rule public.reminder_rules;
begin
    rule.account_id := account_id;
    rule.name := 'dry run';
    rule.kind := kind;
    rule.minutes := minutes;
    rule.days := days;
    rule.time_of_day := coalesce(time_of_day, '09:00');
    rule.template := template;
    rule.whatsapp_channel_id := whatsapp_channel_id;
    rule.text := text;
    return private.try_reminder_rule(rule, since => since, until => until);
end
$$;

grant execute on function public.try_reminder_rule(
    uuid, text, integer, integer, time, jsonb, uuid, text, timestamptz, timestamptz
)
    to authenticated;


comment on function private.reminder_row(
    public.reminder_rules, private.planned_reminder, timestamptz
) is
    'A planned reminder for people to read.';
comment on function private.reminder_rows(
    public.reminder_rules, private.reminder_occasion[], timestamptz[]
) is
    'Planned reminders for people to read, with their places.';
comment on function private.upcoming_reminders(uuid, timestamptz, jsonb, integer) is
    'A page of the reminders that an account''s rules will send.';
comment on function private.try_reminder_rule(
    public.reminder_rules, timestamptz, timestamptz
) is
    'What a rule would have sent between two times.';
comment on function public.upcoming_reminders(uuid, timestamptz, jsonb, integer) is
    'The reminders that will be sent until a time (UTC; 7 days if none is given, at most a year), earliest first. way is whatsapp or portal; a reminder that will not be sent has null and says why_not in the account''s language. Give the cursor back for the next page (page_size, at most 200); null is the end. What moves meanwhile moves here too.'
    ' Type: {reminders: {rule_id: uuid, rule_name: text, kind: reminder_rules.kind, customer_id: uuid, customer_name: text | null, job_id: uuid | null, invoice_id: uuid | null, due_at: timestamptz, send_at: timestamptz | null, way: "whatsapp" | "portal" | null, message: text | null, reason: text | null, why_not: text | null}[], cursor: json | null}';
comment on function public.try_reminder_rule(
    uuid, text, integer, integer, time, jsonb, uuid, text, timestamptz, timestamptz
) is
    'What a rule with these columns of reminder_rules would have sent in the last 30 days, or between since and until, as far as jobs, invoices and points still tell. dropped counts by reason. Of more than 1,000 the first 1,000 are counted by reason; the first 50 are shown. Nothing is written or sent.'
    ' Type: {found: bigint, sent: bigint, dropped: {[text]: bigint}, reminders: {rule_name: text, kind: reminder_rules.kind, customer_id: uuid, customer_name: text | null, job_id: uuid | null, invoice_id: uuid | null, due_at: timestamptz, send_at: timestamptz | null, way: "whatsapp" | "portal" | null, message: text | null, reason: text | null, why_not: text | null}[]}';
