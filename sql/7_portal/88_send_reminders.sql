/*
    Sends the reminders that are due. A batch of one rule at a time is one transaction: it locks the
    customers and what they are reminded of, looks again whether each reminder still applies, notes
    it in private.sent_reminders, and posts the messages. Locks: identities, contacts, jobs, invoices,
    balances, conversations, as everywhere. What somebody else holds is left for a later call.
*/
insert into private.sentences (key, language, sentence)
values
    ('reminder.opted_out', 'en', 'The customer wants no reminders.'),
    ('reminder.opted_out', 'sl', 'Stranka ne želi opomnikov.'),
    ('reminder.no_marketing', 'en', 'The customer stopped marketing messages on WhatsApp.'),
    ('reminder.no_marketing', 'sl', 'Stranka je na WhatsAppu odjavila tržna sporočila.'),
    ('reminder.unreachable', 'en', 'The customer has neither a proved number on WhatsApp nor a login to the portal that the rule could use.'),
    ('reminder.unreachable', 'sl', 'Stranka nima potrjene številke na WhatsAppu niti prijave v portal, ki bi ju pravilo lahko uporabilo.'),
    ('reminder.template', 'en', 'WhatsApp does not send the template now.'),
    ('reminder.template', 'sl', 'WhatsApp te predloge trenutno ne pošilja.'),
    ('reminder.unfilled', 'en', '{variable} has no value for this customer.'),
    ('reminder.unfilled', 'sl', '{variable} za to stranko nima vrednosti.'),
    ('reminder.quiet_hours', 'en', 'The quiet hours leave no time to send it.'),
    ('reminder.quiet_hours', 'sl', 'Zaradi ur miru ni časa za pošiljanje.');


create type private.planned_reminder as (
    due             private.reminder_occasion,
    -- whatsapp or portal; null if it can't be sent
    way             text,
    -- null on WhatsApp: it is opened at address
    conversation_id uuid,
    address         private.whatsapp_address,
    message         text,
    content         jsonb,
    -- the end of the key of a sentence
    reason          text,
    variable        text
);


create function private.can_send_template(rule public.reminder_rules)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if rule.template is null or exists (
        select
        from public.whatsapp_channels w
        where w.id = rule.whatsapp_channel_id
          and w.stopped_at is not null
    ) then
        return false;
    end if;
    perform private.check_known_template(
        rule.template, whatsapp_channel_id => rule.whatsapp_channel_id);
    return true;
exception
    when sqlstate 'PT422' then
        return false;
end
$$;


create function private.filled_variables(given jsonb, values_of jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- WhatsApp takes one line of at most 1,024 characters
    return (
        select coalesce(
            jsonb_object_agg(
                g.key,
                case jsonb_typeof(g.value)
                    when 'string' then to_jsonb(left(
                        regexp_replace(
                            private.filled_text(g.value #>> '{}', values_of), '\s+', ' ', 'g'),
                        1024
                    ))
                    else g.value
                end
            ),
            '{}'
        )
        from jsonb_each(given) g
    );
end
$$;


create function private.plan_reminders(
    rule public.reminder_rules,
    due private.reminder_occasion[]
)
    returns setof private.planned_reminder
    language plpgsql
    stable
    set search_path = ''
    -- rows are looked up by key, a few hundred at a time
    set enable_seqscan = off
    set jit = off
as $$
declare
    template constant public.whatsapp_templates := private.rule_template(rule);
    can_send constant boolean := private.can_send_template(rule);
    -- a template of an unknown category may be marketing
    is_marketing constant boolean := coalesce(upper(template.category), 'MARKETING') = 'MARKETING';
    given constant jsonb := rule.template -> 'variables';
    texts constant text := (
        select string_agg(g.value, ' ')
        from jsonb_each_text(given) g
    );
    names constant text[] := private.variables_in(concat(texts, rule.text));
begin
    return query
        -- materialized: Postgres would compute a value anew wherever it is used
        with met as materialized (
            select
                d.place,
                c.id,
                c.preferences,
                c.portal_user_id,
                t.marketing_stopped_at is not null and is_marketing as is_stopped,
                k.id as thread,
                case when rule.template is not null and c.id is not null and k.id is null then
                    private.whatsapp_address(
                        account_id => rule.account_id,
                        contact_id => c.id,
                        whatsapp_channel_id => rule.whatsapp_channel_id
                    )
                end as address
            from unnest(due) with ordinality as d (
                subject_id, occasion, customer_id, job_id, invoice_id, due_at, ends_at, place
            )
            left join public.customers c
                on c.id = d.customer_id
               and c.account_id = rule.account_id
            left join public.contacts t
                on t.id = d.customer_id
            left join lateral (
                select o.id
                from public.conversations o
                join public.conversation_activity a
                    on a.conversation_id = o.id
                where o.customer_id = d.customer_id
                  and o.account_id = rule.account_id
                  and o.channel = 'whatsapp'
                  and o.whatsapp_channel_id = rule.whatsapp_channel_id
                order by o.status = 'closed', a.last_message_at desc, o.id
                limit 1
            ) k
                on rule.template is not null
        ),
        reached as materialized (
            select
                m.*,
                case
                    when m.id is null or not private.wants_reminders(m.preferences) then null
                    when can_send
                        and (m.thread is not null or (m.address).identity_key is not null)
                        and not m.is_stopped
                        then 'whatsapp'
                    when rule.text is not null and m.portal_user_id is not null then 'portal'
                end as way
            from met m
        ),
        known as materialized (
            select
                r.*,
                case when r.way is not null then private.text_variables(
                    account_id => rule.account_id,
                    customer_id => r.id,
                    user_id => null,
                    job_id => due[r.place].job_id,
                    invoice_id => due[r.place].invoice_id,
                    names => names
                ) end as variables
            from reached r
        ),
        filled as materialized (
            select
                k.*,
                private.unfilled_variable(
                    case k.way when 'whatsapp' then texts when 'portal' then rule.text end,
                    k.variables
                ) as variable
            from known k
        ),
        worded as materialized (
            select
                f.*,
                case
                    when f.way = 'whatsapp' and f.variable is null and given is not null
                        then private.filled_variables(given, f.variables)
                end as filled_in
            from filled f
        )
        select
            due[w.place],
            case when w.variable is null then w.way end,
            case when w.way = 'whatsapp' and w.variable is null then w.thread end,
            case when w.way = 'whatsapp' and w.variable is null then w.address end,
            case
                when w.variable is not null then null
                when w.way = 'portal' then private.filled_text(rule.text, w.variables)
                when w.way = 'whatsapp' then coalesce(
                    private.filled_template_text(
                        components => template.components, given => coalesce(w.filled_in, '{}')),
                    '[template]'
                )
            end,
            case
                when w.variable is not null then null
                when w.way = 'portal' then jsonb_build_object(
                    'event', 'reminder.' || rule.kind,
                    'rule_id', rule.id,
                    'job_id', due[w.place].job_id,
                    'invoice_id', due[w.place].invoice_id
                )
                when w.way = 'whatsapp' and given is null then rule.template
                when w.way = 'whatsapp' then rule.template || jsonb_build_object(
                    'variables', w.filled_in,
                    'components', private.filled_components(
                        wanted => template.variables, given => w.filled_in)
                )
            end,
            case
                when w.variable is not null then 'unfilled'
                when w.way is not null then null
                when w.id is not null and not private.wants_reminders(w.preferences) then 'opted_out'
                when w.id is null or w.thread is null and (w.address).identity_key is null
                    then 'unreachable'
                when not can_send then 'template'
                when w.is_stopped then 'no_marketing'
                else 'unreachable'
            end,
            '{{' || w.variable || '}}'
        from worded w
        order by w.place;
end
$$;


create function private.post_templates(
    rule public.reminder_rules,
    planned private.planned_reminder[]
)
    returns void
    language plpgsql
    set search_path = ''
    -- few rows at a time, found by key
    set plan_cache_mode = force_generic_plan
as $$
declare
    opening private.whatsapp_item[];
    opened private.whatsapp_item;
begin
    perform
    from public.conversations k
    where k.id in (select p.conversation_id from unnest(planned) p)
    order by k.id
    for no key update;

    -- after those that are there, as by webhooks
    opening := array(
        select private.opening_item(
            account_id => rule.account_id,
            whatsapp_channel_id => rule.whatsapp_channel_id,
            contact_id => (p.due).customer_id,
            address => p.address,
            index => p.place::integer
        )
        from unnest(planned) with ordinality as p (
            due, way, conversation_id, address, message, content, reason, variable, place
        )
        where p.conversation_id is null
    );
    if opening <> '{}' then
        foreach opened in array private.open_whatsapp_threads(opening) loop
            if opened.contact_id <> (planned[opened.index].due).customer_id then
                raise sqlstate '40001' using
                    message = 'The number of a customer was another''s meanwhile.',
                    hint = 'Try again.';
            end if;
            planned[opened.index].conversation_id := opened.conversation_id;
        end loop;
    end if;

    -- numbered as everywhere, see conversation_activity.last_seq
    with posted as (
        insert into public.messages (
            account_id, conversation_id, customer_id, whatsapp_channel_id, seq, sender_type, type,
            message, content, status, sent_at
        )
        select
            k.account_id,
            k.id,
            k.customer_id,
            k.whatsapp_channel_id,
            a.last_seq + row_number() over (partition by k.id order by (p.due).due_at, (p.due).subject_id),
            'system',
            'template',
            p.message,
            p.content,
            'queued',
            now()
        from unnest(planned) p
        join public.conversations k
            on k.id = p.conversation_id
        join public.conversation_activity a
            on a.conversation_id = k.id
        returning conversation_id
    )
    update public.conversation_activity a
    set last_seq = a.last_seq + p.added,
        last_message_at = greatest(a.last_message_at, now())
    from (
        select p.conversation_id, count(*) as added
        from posted p
        group by p.conversation_id
    ) p
    where a.conversation_id = p.conversation_id;
end
$$;


create function private.hold_reminded(
    rule public.reminder_rules,
    due private.reminder_occasion[]
)
    returns private.reminder_occasion[]
    language plpgsql
    set search_path = ''
as $$
declare
    openers uuid[] := '{}';
    addresses text[];
    customers uuid[];
    subjects uuid[];
begin
    -- whose conversations may be opened: they stay theirs until then
    if rule.template is not null then
        openers := array(
            select d.customer_id
            from unnest(due) d
            where not exists (
                select
                from public.conversations k
                where k.customer_id = d.customer_id
                  and k.account_id = rule.account_id
                  and k.channel = 'whatsapp'
                  and k.whatsapp_channel_id = rule.whatsapp_channel_id
            )
        );
    end if;
    if openers <> '{}' then
        addresses := array(
            select i.kind || ':' || i.match_key
            from public.contact_identities i
            where i.contact_id = any (openers)
              and i.account_id = rule.account_id
              and i.kind in ('bsuid', 'phone')
            order by i.kind, i.match_key
            for share skip locked
        );
        openers := array(
            select i.contact_id
            from public.contact_identities i
            where i.contact_id = any (openers)
              and i.account_id = rule.account_id
              and i.kind in ('bsuid', 'phone')
              and i.kind || ':' || i.match_key <> all (addresses)
        );
    end if;
    customers := array(
        select c.id
        from public.contacts c
        where c.id in (select d.customer_id from unnest(due) d)
          -- somebody else holds a number of theirs
          and c.id <> all (openers)
          and c.deleted_at is null
        order by c.id
        for share skip locked
    );
    if rule.kind in ('before_appointment', 'after_job') then
        subjects := array(
            select j.id
            from public.jobs j
            where j.id in (select d.subject_id from unnest(due) d)
            order by j.id
            for share skip locked
        );
    elsif rule.kind in ('invoice_due_in', 'invoice_overdue_by') then
        subjects := array(
            select i.id
            from public.invoices i
            where i.id in (select d.subject_id from unnest(due) d)
            order by i.id
            for share skip locked
        );
    else
        subjects := array(
            select b.customer_id
            from public.loyalty_balances b
            where b.customer_id = any (customers)
            order by b.customer_id
            for share skip locked
        );
    end if;
    return array(
        select d
        from unnest(due) d
        where d.customer_id = any (customers)
          and d.subject_id = any (subjects)
    );
end
$$;


create function private.send_reminders_of(
    rule public.reminder_rules,
    batch integer,
    at timestamptz,
    after_at timestamptz default null,
    after_id uuid default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    due private.reminder_occasion[];
    held private.reminder_occasion[];
    planned private.planned_reminder[];
    sent private.planned_reminder[];
    dropped integer;
begin
    due := array(
        select d.due
        from private.due_reminders(
            rule, at => at, most => batch, after_at => after_at, after_id => after_id) d
    );
    if due = '{}' then
        return jsonb_build_object('found', 0, 'sent', 0, 'dropped', 0, 'last', null);
    end if;
    held := private.hold_reminded(rule, due);
    -- once they are locked: whether each still applies, for the same customer
    held := array(
        select d.due
        from private.due_reminders(
            rule, at => at, subject_ids => array(select h.subject_id from unnest(held) h)) d
        where d.due in (select h from unnest(held) h)
    );
    planned := array(
        select p
        from private.plan_reminders(rule, held) p
    );

    with settled as (
        insert into private.sent_reminders (
            rule_id, subject_id, occasion, account_id, reason, over_at
        )
        select
            rule.id,
            (p.due).subject_id,
            (p.due).occasion,
            rule.account_id,
            p.reason,
            private.occasion_over_at(rule.kind, p.due)
        from unnest(planned) p
        on conflict do nothing
        returning subject_id, occasion
    )
    -- what another worker has settled meanwhile is neither sent nor dropped here
    select
        array_agg(p order by (p.due).due_at, (p.due).subject_id) filter (where p.reason is null),
        count(*) filter (where p.reason is not null)
    into sent, dropped
    from unnest(planned) p
    join settled s
        on s.subject_id = (p.due).subject_id
       and s.occasion = (p.due).occasion;

    if exists (select from unnest(sent) p where p.way = 'whatsapp') then
        perform private.post_templates(
            rule, array(select p from unnest(sent) p where p.way = 'whatsapp'));
    end if;
    if exists (select from unnest(sent) p where p.way = 'portal') then
        perform private.post_notices(array(
            select (
                rule.account_id, (p.due).customer_id, (p.due).job_id, p.message, p.content, null
            )::private.notice
            from unnest(sent) p
            where p.way = 'portal'
        ));
    end if;
    return jsonb_build_object(
        'found', cardinality(due),
        'sent', coalesce(cardinality(sent), 0),
        'dropped', dropped,
        'last', jsonb_build_object(
            'due_at', due[cardinality(due)].due_at, 'subject_id', due[cardinality(due)].subject_id)
    );
end
$$;


create function private.tg_jobs__ring()
    returns trigger
    language plpgsql
    -- definer: users may not wake workers
    security definer
    set search_path = ''
as $$
begin
    -- a reminder that becomes due by the time alone is found by the schedule
    if exists (
        select
        from public.reminder_rules r
        where r.account_id = new.account_id
          and r.is_active
          and case r.kind
              when 'before_appointment' then
                  new.status in ('scheduled', 'rescheduled')
                  and now() between new.starts_at - make_interval(mins => r.minutes) and new.starts_at
              when 'after_job' then
                  new.status = 'completed'
                  and now() >= coalesce(new.ends_at, new.starts_at) + make_interval(mins => r.minutes)
          end
    ) then
        perform private.ring('send_later');
    end if;
    return null;
end
$$;

create trigger _600_ring_insert
    after insert on public.jobs
    for each row
    execute function private.tg_jobs__ring();

create trigger _600_ring_update
    after update of status, starts_at, ends_at on public.jobs
    for each row
    when (
        (new.status, new.starts_at, new.ends_at) is distinct from (old.status, old.starts_at, old.ends_at)
    )
    execute function private.tg_jobs__ring();


create function private.prune_sent_reminders(batch integer, kept interval)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with over as (
        select s.rule_id, s.subject_id, s.occasion
        from private.sent_reminders s
        where s.over_at < now() - kept
        order by s.over_at
        limit batch
        -- another run may be deleting them
        for update skip locked
    )
    delete from private.sent_reminders s
    using over o
    where s.rule_id = o.rule_id
      and s.subject_id = o.subject_id
      and s.occasion = o.occasion;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.send_reminders(
    batch integer default 500,
    at timestamptz default now(),
    -- what the call before answered, where it was not done
    after jsonb default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    most constant integer := least(greatest(batch, 1), 1000);
    -- of many rules no call looks through all
    ends_at constant timestamptz := clock_timestamp() + interval '1 second';
    rule public.reminder_rules;
    rule_id uuid;
    done jsonb;
    examined integer := 0;
    sent integer := 0;
    dropped integer := 0;
    goes_on jsonb;
begin
    for rule_id in
        select r.id
        from public.reminder_rules r
        where r.is_active
          and (after is null or r.id >= (after ->> 'rule_id')::uuid)
          -- those of a paused account wait until it is resumed, or until the occasions are over
          and not exists (
              select
              from public.accounts a
              where a.id = r.account_id
                and a.paused_at is not null
          )
        order by r.id
    loop
        if examined >= most or clock_timestamp() > ends_at then
            goes_on := jsonb_build_object('rule_id', rule_id);
            exit;
        end if;
        -- it is not changed while its reminders are sent
        select r.*
        into rule
        from public.reminder_rules r
        where r.id = rule_id
          and r.is_active
        for share skip locked;
        continue when not found;
        -- it waits until WhatsApp sends its template again, or until the occasions are over
        continue when rule.text is null and not private.can_send_template(rule);

        done := private.send_reminders_of(
            rule,
            batch => most - examined,
            at => at,
            after_at => case when rule_id::text = after ->> 'rule_id'
                then (after ->> 'due_at')::timestamptz end,
            after_id => case when rule_id::text = after ->> 'rule_id'
                then (after ->> 'subject_id')::uuid end
        );
        examined := examined + (done ->> 'found')::integer;
        sent := sent + (done ->> 'sent')::integer;
        dropped := dropped + (done ->> 'dropped')::integer;
        if examined >= most then
            goes_on := done -> 'last' || jsonb_build_object('rule_id', rule_id);
            exit;
        end if;
    end loop;
    return jsonb_build_object(
        'sent', sent,
        'dropped', dropped,
        'is_done', goes_on is null,
        'after', goes_on
    );
end
$$;

grant execute on function backend.send_reminders(integer, timestamptz, jsonb) to service_role;


comment on type private.planned_reminder is
    'A reminder as it will be sent, or the reason why it will not.';
comment on function private.can_send_template(public.reminder_rules) is
    'Whether WhatsApp sends the template of a rule now; false for a rule without one.';
comment on function private.filled_variables(jsonb, jsonb) is
    'The variables of a rule''s template with the values of a customer, each in one line.';
comment on function private.plan_reminders(
    public.reminder_rules, private.reminder_occasion[]
) is
    'How each customer will be reminded, in the order given: by WhatsApp, in the portal, or not and why.';
comment on function private.post_templates(
    public.reminder_rules, private.planned_reminder[]
) is
    'Posts reminders as template messages of the system, and queues them for WhatsApp; opens conversations where there are none.';
comment on function private.hold_reminded(
    public.reminder_rules, private.reminder_occasion[]
) is
    'Locks the customers and subjects of reminders, and the identities by which conversations may be opened; returns the reminders whose locks were free.';
comment on function private.send_reminders_of(
    public.reminder_rules, integer, timestamptz, timestamptz, uuid
) is
    'Looks at up to batch reminders of one rule that are due, and sends them: {found, sent, dropped, last: {due_at, subject_id}}.';
comment on function private.tg_jobs__ring() is
    'Wakes the worker that sends reminders, if a job''s new time or status makes one due.';
comment on function private.prune_sent_reminders(integer, interval) is
    'Deletes at most batch notes of reminders whose occasions have been over for longer than that; returns their number.';
comment on function backend.send_reminders(integer, timestamptz, jsonb) is
    'Looks at up to batch reminders (at most 1,000) that are due, sends them, or drops those that reach nobody: {sent, dropped, is_done, after}. Call it again, with after, until is_done.'
    ' Type: {sent: integer, dropped: integer, is_done: boolean, after: json | null}';
