/*
    Which status an invoice may get, and which fields may still change.
*/
create function private.next_invoice_statuses(status text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case status
        when 'draft' then array['sent', 'void']
        when 'sent' then array['paid', 'overdue', 'void']
        when 'overdue' then array['sent', 'paid', 'void']
        else '{}'
    end;
end
$$;


create function private.tg_invoices__progress()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
declare
    allowed constant text[] := private.next_invoice_statuses(old.status);
    -- fields that others have seen, or that a payment has settled, can't change
    settled text[] := '{}';
    changed text;
begin
    if new.status <> old.status and new.status <> all (allowed) then
        raise sqlstate 'PT409' using
            message = format(
                'An invoice can''t go from %s to %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'This status is final. Write another invoice.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif new.status = 'overdue' and old.status = 'sent' and (new.due_on < private.today(new.account_id)) is not true then
        raise sqlstate 'PT409' using
            message = 'The invoice is not overdue yet.',
            detail = 'field: status',
            hint = 'The schedule makes it overdue once the day due_on has passed.';
    elsif new.status = 'sent' and old.status = 'overdue' and new.due_on < private.today(new.account_id) then
        raise sqlstate 'PT409' using
            message = 'The invoice is still overdue.',
            detail = 'field: status',
            hint = 'Write a later due_on in the same request.';
    end if;

    if old.status <> 'draft' then
        settled := array['number', 'currency', 'amount_minor', 'tax_minor', 'issued_on'];
    end if;
    if old.status in ('paid', 'void') then
        settled := settled || array['due_on'];
        -- an erasure leaves the figures
        if current_setting('rapport.erasing', true) is distinct from 'on' then
            settled := settled || array['description'];
        end if;
    end if;
    if old.status = 'draft' and new.status = 'sent' then
        -- postgres_changes shows the old row to everybody who sees the new one, and a customer may
        -- not see what a draft said before. A field that was empty tells nothing.
        select min(o.key)
        into changed
        from jsonb_each(to_jsonb(old) - 'status') o
        where o.value not in ('null', to_jsonb(new) -> o.key);
        if changed is not null then
            raise sqlstate 'PT409' using
                message = 'An invoice must be sent as its draft stands.',
                detail = 'field: ' || changed,
                hint = 'Change the draft first, then set its status to sent.';
        end if;
    end if;
    if settled <> '{}' then
        select s
        into changed
        from unnest(settled) with ordinality as n (s, place)
        where to_jsonb(new) -> s is distinct from to_jsonb(old) -> s
        order by place
        limit 1;
        if changed is not null then
            raise sqlstate 'PT409' using
                message = format('This field of an invoice that is %s can''t change.', old.status),
                detail = 'field: ' || changed,
                hint = 'Make the invoice void, if its status allows it, and write another one.';
        end if;
    end if;

    if new.status <> old.status then
        case new.status
            when 'sent' then
                new.sent_at := coalesce(old.sent_at, now());
                new.issued_on := coalesce(new.issued_on, private.today(new.account_id));
            when 'paid' then
                new.paid_at := now();
            when 'void' then
                new.voided_at := now();
            else
                null;
        end case;
    end if;
    return new;
end
$$;


create trigger _010_own_by_customer
    before insert on public.invoices
    for each row
    execute function private.tg__own_by_customer();

create trigger _050_keep_owner
    before update of account_id on public.invoices
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update of customer_id on public.invoices
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update on public.invoices
    for each row
    execute function private.tg_invoices__progress();

create trigger _100_stamp_change
    before update on public.invoices
    for each row
    execute function private.tg__stamp_change();


create function backend.mark_overdue_invoices(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    overdue constant uuid[] := array(
        with due as (
            select i.id
            from public.invoices i
            join public.accounts a
                on a.id = i.account_id
            where i.status = 'sent'
              and i.due_on < private.latest_today()
              and i.due_on < (now() at time zone a.time_zone)::date
            order by i.due_on, i.id
            limit least(greatest(batch, 1), 1000)
        )
        select i.id
        from public.invoices i
        join due
            using (id)
        order by i.id
        -- another run may hold them, or somebody who is paying
        for update of i skip locked
    );
    marked integer := 0;
begin
    -- an update of no row would still run the table's triggers
    if overdue <> '{}' then
        update public.invoices i
        set status = 'overdue'
        where i.id = any (overdue)
          and i.status = 'sent'
          and i.due_on < private.today(i.account_id);
        get diagnostics marked = row_count;
    end if;
    return marked;
end
$$;

grant execute on function backend.mark_overdue_invoices(integer) to service_role;


comment on function private.next_invoice_statuses(text) is
    'The statuses that may follow this status of an invoice.';
comment on function private.tg_invoices__progress() is
    'Stamps the times of an invoice''s statuses. Refuses a status that can''t follow, and changes of what was sent (409).';
comment on function backend.mark_overdue_invoices(integer) is
    'Makes up to batch invoices overdue (at most 1,000) whose last day to pay has passed in the account''s time zone. Returns the number. Call it again until it returns 0.';
