/*
    What users are told: staff of customers' messages, customers of the business's messages, of
    their appointments, invoices and points. On WhatsApp the customer's own phone tells.
*/
insert into private.sentences (key, language, sentence)
values
    ('points.earned', 'en', 'Points: +{points}. Total: {total}.'),
    ('points.earned', 'sl', 'Točke: +{points}. Skupaj: {total}.'),
    ('points.bonus', 'en', 'Bonus points: +{points}. Total: {total}.'),
    ('points.bonus', 'sl', 'Dodatne točke: +{points}. Skupaj: {total}.'),
    ('points.redeemed', 'en', 'Points redeemed: {points}. Total: {total}.'),
    ('points.redeemed', 'sl', 'Porabljene točke: {points}. Skupaj: {total}.'),
    ('points.expired', 'en', 'Points expired: {points}. Total: {total}.'),
    ('points.expired', 'sl', 'Potekle točke: {points}. Skupaj: {total}.'),
    ('notification.messages', 'en', 'New messages: {count}. {text}'),
    ('notification.messages', 'sl', 'Nova sporočila: {count}. {text}');


create function private.has_devices()
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- where nobody has a device, writes cost no more than this
    return exists (select from public.push_subscriptions);
end
$$;


create function private.staff_to_tell(conversation_id uuid, account_id uuid)
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    assignee constant uuid := (
        select s.assignee_id
        from public.desk_states s
        where s.id = staff_to_tell.conversation_id
    );
begin
    if assignee is not null then
        return array[assignee];
    end if;
    return array(
        select m.user_id
        from public.account_members m
        where m.account_id = staff_to_tell.account_id
    );
end
$$;


create function private.tg_messages__notify()
    returns trigger
    language plpgsql
    -- definer: users may not write notifications
    security definer
    set search_path = ''
as $$
declare
    told record;
begin
    if not private.has_devices() then
        return null;
    end if;
    for told in
        select
            n.id,
            n.account_id,
            n.conversation_id,
            n.sender_type,
            n.seq,
            n.message,
            case
                when n.sender_type = 'operator' then a.name
                else coalesce(c.name, c.profile_name, k.group_name, n.sender_name, c.phone, a.name)
            end as title,
            case
                when n.sender_type = 'client'
                    then private.staff_to_tell(n.conversation_id, n.account_id)
                when k.channel <> 'whatsapp' and c.portal_user_id is not null
                    then array[c.portal_user_id]
                else '{}'
            end as user_ids
        from new_rows n
        join public.conversations k
            on k.id = n.conversation_id
        join public.accounts a
            on a.id = n.account_id
        left join public.contacts c
            on c.id = n.customer_id
        -- jobs and invoices tell of themselves
        where n.sender_type in ('client', 'operator')
          and not n.is_history
        order by n.conversation_id, n.seq
    loop
        perform private.notify(
            account_id => told.account_id,
            user_ids => told.user_ids,
            kind => 'message',
            conversation_id => told.conversation_id,
            title => told.title,
            body => told.message,
            data => jsonb_build_object('seq', told.seq, 'source_id', told.id)
        );
    end loop;
    return null;
end
$$;

create trigger _955_notify
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__notify();


create function private.notify_customer(
    account_id uuid,
    customer_id uuid,
    kind text,
    subject_id uuid,
    body text
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    told record;
begin
    select c.portal_user_id, a.name
    into told
    from public.contacts c
    join public.accounts a
        on a.id = c.account_id
    where c.id = notify_customer.customer_id
      and c.account_id = notify_customer.account_id
      and c.portal_user_id is not null;
    if found then
        perform private.notify(
            account_id => notify_customer.account_id,
            user_ids => array[told.portal_user_id],
            kind => notify_customer.kind,
            conversation_id => null,
            title => told.name,
            body => notify_customer.body,
            data => jsonb_build_object('id', notify_customer.subject_id)
        );
    end if;
end
$$;


create function private.tg_jobs__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify_customer(
            account_id => new.account_id,
            customer_id => new.customer_id,
            kind => 'appointment',
            subject_id => new.id,
            body => (private.job_notice(new)).message
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.jobs
    for each row
    -- a record of past work is no news
    when (coalesce(new.ends_at, new.starts_at) > now())
    execute function private.tg_jobs__notify();

create trigger _550_notify_update
    after update of status, starts_at, ends_at on public.jobs
    for each row
    -- as the chat is told; within the function the test cost 3 % of every other change
    when (
        new.status <> old.status
        or new.status = 'rescheduled'
            and (new.starts_at, new.ends_at) is distinct from (old.starts_at, old.ends_at)
    )
    execute function private.tg_jobs__notify();


create function private.tg_invoices__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify_customer(
            account_id => new.account_id,
            customer_id => new.customer_id,
            kind => 'invoice',
            subject_id => new.id,
            body => (private.invoice_notice(new)).message
        );
    end if;
    return null;
end
$$;

create trigger _550_notify
    after update on public.invoices
    for each row
    -- a draft is nothing that the customer knows of
    when (new.status <> old.status and new.sent_at is not null)
    execute function private.tg_invoices__notify();


create function private.tg_loyalty_transactions__notify()
    returns trigger
    language plpgsql
    -- definer: as for messages
    security definer
    set search_path = ''
as $$
declare
    line record;
begin
    if not private.has_devices() then
        return null;
    end if;
    for line in
        select n.account_id, n.customer_id, n.type, n.points, b.points as total
        from new_rows n
        -- only who can be told
        join public.contacts c
            on c.id = n.customer_id
           and c.portal_user_id is not null
        join public.loyalty_balances b
            on b.customer_id = n.customer_id
        order by n.customer_id, n.id
    loop
        perform private.notify_customer(
            account_id => line.account_id,
            customer_id => line.customer_id,
            kind => 'points',
            -- one for several lines of a customer
            subject_id => line.customer_id,
            body => private.words(
                line.account_id,
                'points.' || line.type,
                jsonb_build_object('points', abs(line.points), 'total', line.total)
            )
        );
    end loop;
    return null;
end
$$;

-- for each statement: the balance follows the lines only then
create trigger _550_notify
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg_loyalty_transactions__notify();


comment on function private.has_devices() is
    'Whether anybody is told on a device.';
comment on function private.staff_to_tell(uuid, uuid) is
    'The staff who are told of a customer''s message: the assignee, or everybody where there is none.';
comment on function private.tg_messages__notify() is
    'Tells staff of customers'' messages, and customers of the business''s messages in the portal.';
comment on function private.notify_customer(uuid, uuid, text, uuid, text) is
    'Tells a customer who has a login.';
comment on function private.tg_jobs__notify() is
    'Tells the customer of an appointment''s new status or time.';
comment on function private.tg_invoices__notify() is
    'Tells the customer of an invoice''s new status.';
comment on function private.tg_loyalty_transactions__notify() is
    'Tells the customer of points.';
