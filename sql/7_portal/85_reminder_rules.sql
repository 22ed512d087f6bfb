/*
    The rules by which customers are reminded:

        before_appointment   minutes before a job starts
        after_job            minutes after the end of a job that is completed
        invoice_due_in       days before the last day for payment
        invoice_overdue_by   days after it
        points_expire_in     days before the last day of points

    A rule sends a template on WhatsApp to customers who have a conversation there or a number that
    is proved, or else a text in the portal to customers who have a login.
*/
create table public.reminder_rules (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null
                        constraint reminder_rules_account_id_fkey
                        references public.accounts on delete cascade,
    name                text not null
                        constraint reminder_rules_name_check
                        check (btrim(name) <> '' and length(name) <= 200),
    kind                text not null
                        constraint reminder_rules_kind_check
                        check (kind in (
                            'before_appointment', 'after_job', 'invoice_due_in',
                            'invoice_overdue_by', 'points_expire_in'
                        )),
    minutes             integer,
    days                integer,
    -- of the kinds that count days, in the account's time zone
    time_of_day         time not null default '09:00',
    -- {name, language, variables}
    template            jsonb,
    whatsapp_channel_id uuid,
    text                text
                        constraint reminder_rules_text_check
                        check (btrim(text, E' \t\r\n') <> '' and length(text) <= 2000),
    is_active           boolean not null default true,
    -- what was due earlier is not sent any more
    active_since        timestamptz not null default now(),
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    version             bigint not null default 1,

    constraint reminder_rules_id_account_id_key unique (id, account_id),
    constraint reminder_rules_whatsapp_channel_fkey
        foreign key (whatsapp_channel_id, account_id)
        references public.whatsapp_channels (id, account_id)
        on delete cascade,
    constraint reminder_rules_minutes_check check (
        case
            when kind = 'before_appointment' then (minutes between 5 and 525600) is true
            when kind = 'after_job' then (minutes between 0 and 525600) is true
            when kind in ('invoice_due_in', 'invoice_overdue_by', 'points_expire_in')
                then minutes is null
            else true
        end
    ),
    constraint reminder_rules_days_check check (
        case
            when kind in ('before_appointment', 'after_job') then days is null
            when kind = 'invoice_overdue_by' then (days between 1 and 365) is true
            when kind in ('invoice_due_in', 'points_expire_in')
                then (days between 0 and 365) is true
            else true
        end
    ),
    constraint reminder_rules_template_check check (num_nonnulls(template, text) > 0),
    constraint reminder_rules_whatsapp_channel_id_check
        check ((template is null) = (whatsapp_channel_id is null))
);
alter table public.reminder_rules enable row level security;


create index reminder_rules_account_id_idx on public.reminder_rules (account_id);

create index reminder_rules_whatsapp_channel_idx
    on public.reminder_rules (whatsapp_channel_id, account_id);


create policy "members can read reminder rules"
    on public.reminder_rules
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));

create policy "owners and admins can make reminder rules"
    on public.reminder_rules
    for insert
    to authenticated
    with check (account_id in (select private.my_admin_account_ids()));

-- A reader who may not change a rule is refused, instead of changing no row.
create policy "owners and admins can change reminder rules"
    on public.reminder_rules
    for update
    to authenticated
    using (account_id = any (array(select private.my_account_ids())))
    with check (account_id in (select private.my_admin_account_ids()));

create policy "owners and admins can delete reminder rules"
    on public.reminder_rules
    for delete
    to authenticated
    using (account_id in (select private.my_admin_account_ids()));


grant select, delete on public.reminder_rules to authenticated;


create function private.rule_template(rule public.reminder_rules)
    returns public.whatsapp_templates
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    template public.whatsapp_templates;
begin
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = rule.whatsapp_channel_id
      and t.name = rule.template ->> 'name'
      and t.language = coalesce(rule.template #>> '{language,code}', rule.template ->> 'language');
    return template;
end
$$;


create function private.check_reminder_text(text text, field text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.check_text_variables(text, field);
    if 'agent.name' = any (private.variables_in(text)) then
        raise sqlstate 'PT422' using
            message = 'Nobody writes a reminder, so {{agent.name}} has no value in it.',
            detail = 'field: ' || field,
            hint = 'Use {{account.name}}.';
    end if;
end
$$;


create function private.checked_reminder_rule(rule public.reminder_rules)
    returns public.reminder_rules
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    variable record;
    post public.messages;
begin
    perform private.check_reminder_text(rule.text, 'text');
    if rule.template is null then
        rule.whatsapp_channel_id := null;
        return rule;
    end if;

    if rule.whatsapp_channel_id is null then
        select (array_agg(w.id))[1]
        into rule.whatsapp_channel_id
        from public.whatsapp_channels w
        where w.account_id = rule.account_id
        having count(*) = 1;
    end if;
    if not exists (
        select
        from public.whatsapp_channels w
        where w.id = rule.whatsapp_channel_id
          and w.account_id = rule.account_id
    ) then
        raise sqlstate 'PT422' using
            message = 'The rule does not say which number of the account sends its template.',
            detail = 'field: whatsapp_channel_id',
            hint = 'Give the id of one of the account''s whatsapp_channels.';
    elsif rule.template ? 'components' then
        raise sqlstate 'PT422' using
            message = 'The template of a rule is filled by its variables, not by components.',
            detail = 'field: template.components',
            hint = 'Give {name, language, variables}, such as {"body.1": "{{contact.name}}"}.';
    end if;
    for variable in
        select v.key, v.value
        from jsonb_each_text(case jsonb_typeof(rule.template -> 'variables')
            when 'object' then rule.template -> 'variables' else '{}' end) v
    loop
        perform private.check_reminder_text(variable.value, 'template.variables.' || variable.key);
    end loop;
    post.account_id := rule.account_id;
    post.whatsapp_channel_id := rule.whatsapp_channel_id;
    perform private.check_template_for_later(post, rule.template);
    return rule;
end
$$;


create function private.tg_reminder_rules__check()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    -- the policy refuses a user who may not write it
    if new.account_id in (select private.my_admin_account_ids()) then
        new := private.checked_reminder_rule(new);
    end if;
    if tg_op = 'INSERT'
        or new.is_active and not old.is_active
        or (new.kind, new.minutes, new.days, new.time_of_day)
            is distinct from (old.kind, old.minutes, old.days, old.time_of_day)
    then
        new.active_since := now();
    end if;
    return new;
end
$$;


create trigger _005_default_account
    before insert on public.reminder_rules
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _010_check
    before insert or update on public.reminder_rules
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_reminder_rules__check();

create trigger _050_keep_owner
    before update of account_id on public.reminder_rules
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.reminder_rules
    for each row
    execute function private.tg__stamp_change();


/*
    The reminders that were sent or dropped: one row for each rule and occasion, written in the
    transaction that sends. So a reminder is sent at most once.
*/
create table private.sent_reminders (
    rule_id    uuid not null,
    -- the job, the invoice, or the customer of the points
    subject_id uuid not null,
    -- the time or day that the reminder is about: another time is another occasion
    occasion   text not null,
    account_id uuid not null,
    -- why it was dropped; null if it was sent
    reason     text,
    -- a merge is undone with what was settled since: no transaction's start may stand here
    settled_at timestamptz not null default clock_timestamp(),
    -- from when on no rule, however it is changed, reminds of this occasion again
    over_at    timestamptz not null,

    primary key (rule_id, subject_id, occasion),
    constraint sent_reminders_rule_fkey
        foreign key (rule_id, account_id)
        references public.reminder_rules (id, account_id)
        on delete cascade
);
alter table private.sent_reminders enable row level security;


create index sent_reminders_over_at_idx on private.sent_reminders (over_at);


create policy "nobody reads sent reminders directly"
    on private.sent_reminders
    for all
    to authenticated
    using (false);


comment on table public.reminder_rules is
    'The rules by which customers are reminded of appointments, invoices and points. Owners and admins write them; try_reminder_rule says what a rule would have sent, upcoming_reminders what will be sent.';
comment on column public.reminder_rules.id is
    'Identifies the rule.';
comment on column public.reminder_rules.account_id is
    'The account whose customers are reminded; filled in if you write for one account.';
comment on column public.reminder_rules.name is
    'What the rule is called; 1 to 200 characters.';
comment on column public.reminder_rules.kind is
    'before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
comment on column public.reminder_rules.minutes is
    'Minutes before a job starts (5 to 525,600), or after a completed job''s end (from 0); null for the kinds that count days.';
comment on column public.reminder_rules.days is
    'Days before the last day for payment or of the points, or after it (0, or for invoice_overdue_by 1, to 365); null for the kinds that count minutes.';
comment on column public.reminder_rules.time_of_day is
    'At which time of that day the kinds that count days remind, in the account''s time zone.';
comment on column public.reminder_rules.template is
    'The template on WhatsApp: {name, language, variables}. The variables'' texts may hold {{contact.name}}, {{appointment.time}} and the other variables of saved replies.'
    ' Type: {[text]: json} | null';
comment on column public.reminder_rules.whatsapp_channel_id is
    'The account''s WhatsApp number that sends the template; its only number if none is given.';
comment on column public.reminder_rules.text is
    'The message in the portal, for customers with a login whom the template does not reach; with the same variables.';
comment on column public.reminder_rules.is_active is
    'Whether the rule reminds at present.';
comment on column public.reminder_rules.active_since is
    'Since when the rule stands as it does (UTC): it sends nothing that was due before.';
comment on column public.reminder_rules.created_at is
    'When the rule was made (server time, UTC).';
comment on column public.reminder_rules.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.reminder_rules.version is
    'Rises by 1 with each change of the row.';
comment on constraint reminder_rules_name_check on public.reminder_rules is
    'A rule''s name has 1 to 200 characters.';
comment on constraint reminder_rules_kind_check on public.reminder_rules is
    'There is no such kind of reminder.
Use before_appointment, after_job, invoice_due_in, invoice_overdue_by or points_expire_in.';
comment on constraint reminder_rules_text_check on public.reminder_rules is
    'A reminder''s text has 1 to 2,000 characters.';
comment on constraint reminder_rules_minutes_check on public.reminder_rules is
    'before_appointment needs 5 to 525,600 minutes and after_job 0 to 525,600; the other kinds have days instead.';
comment on constraint reminder_rules_days_check on public.reminder_rules is
    'invoice_due_in and points_expire_in need 0 to 365 days and invoice_overdue_by 1 to 365; the other kinds have minutes instead.';
comment on constraint reminder_rules_template_check on public.reminder_rules is
    'A rule needs a template or a text.
Give the template for WhatsApp, the text for the portal, or both.';
comment on constraint reminder_rules_whatsapp_channel_id_check on public.reminder_rules is
    'A template needs the number that sends it, and a rule without a template has none.
Give template and whatsapp_channel_id, or neither.';
comment on policy "members can read reminder rules" on public.reminder_rules is
    'Customers see what they are sent.';
comment on policy "owners and admins can make reminder rules" on public.reminder_rules is
    'For their accounts.';
comment on policy "owners and admins can change reminder rules" on public.reminder_rules is
    'Agents and viewers only read: their writes are refused.';
comment on policy "owners and admins can delete reminder rules" on public.reminder_rules is
    'What was sent stays.';
comment on function private.rule_template(public.reminder_rules) is
    'The template of a rule, as it was last read from WhatsApp; nulls where it is not known.';
comment on function private.check_reminder_text(text, text) is
    'Refuses a text whose variables a reminder can''t fill, and names the field.';
comment on function private.checked_reminder_rule(public.reminder_rules) is
    'A rule with its number filled in. Refuses one that could send nothing, and names the field.';
comment on function private.tg_reminder_rules__check() is
    'Checks a rule, and notes since when it stands as it does.';
comment on table private.sent_reminders is
    'The occasions for which a rule has reminded a customer, or dropped the reminder.';
comment on policy "nobody reads sent reminders directly" on private.sent_reminders is
    'send_reminders writes them, and upcoming_reminders leaves them out.';


select private.guard_table(
    'reminder_rules',
    inserted => array[
        'id', 'account_id', 'name', 'kind', 'minutes', 'days', 'time_of_day', 'template',
        'whatsapp_channel_id', 'text', 'is_active'
    ],
    updated => array[
        'name', 'kind', 'minutes', 'days', 'time_of_day', 'template', 'whatsapp_channel_id',
        'text', 'is_active'
    ]
);

select private.follow_table(
    table_name => 'reminder_rules',
    shown => array[
        'id', 'account_id', 'name', 'kind', 'minutes', 'days', 'time_of_day', 'template',
        'whatsapp_channel_id', 'text', 'is_active', 'active_since', 'created_at', 'updated_at',
        'version'
    ],
    customer_key => null
);
select private.limit_writes('reminder_rules', '{insert,update,delete}');
