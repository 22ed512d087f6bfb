/*
    Texts with variables: saved replies, and the parameters of templates and reminders. One function
    fills them all, so a variable means the same everywhere.

        {{contact.name}}                            the customer
        {{appointment.service}}, {{appointment.time}}   the job that is given, or else the next one
        {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}}
                                                    the invoice that is given, or else the unpaid one
                                                    that is due first
        {{points.total}}                            the customer's points
        {{agent.name}}, {{account.name}}            the member who writes, and the business
*/
create function private.amount_text(account_id uuid, amount_minor bigint, currency text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- decimals by ISO 4217
    decimals constant integer := case
        when currency in (
            'BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND',
            'VUV', 'XAF', 'XOF', 'XPF'
        ) then 0
        when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
        else 2
    end;
    -- commas between thousands and a point before the decimals in every locale of the database
    figure constant text := to_char(
        amount_minor / 10::numeric ^ decimals,
        'FM999,999,999,999,999,990' || case when decimals > 0 then '.' || repeat('0', decimals) else '' end
    );
begin
    return (
        select case a.language
            when 'sl' then translate(figure, ',.', '.,')
            else figure
        end || ' ' || currency
        from public.accounts a
        where a.id = amount_text.account_id
    );
end
$$;


create function private.date_text(account_id uuid, on_day date)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select to_char(on_day, case a.language when 'sl' then 'FMDD. FMMM. YYYY' else 'YYYY-MM-DD' end)
        from public.accounts a
        where a.id = date_text.account_id
    );
end
$$;


create function private.text_variables(
    account_id uuid,
    customer_id uuid,
    user_id uuid,
    job_id uuid default null,
    invoice_id uuid default null,
    -- null: all; the values of others are null in the answer
    names text[] default null
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    job public.jobs;
    invoice public.invoices;
    customer_name text;
    agent_name text;
    account_name text;
    points bigint;
begin
    -- a batch of reminders asks for a few values of each of many customers
    if names is null or names && array['appointment.service', 'appointment.time'] then
        select j.*
        into job
        from public.jobs j
        where j.account_id = text_variables.account_id
          and j.customer_id = text_variables.customer_id
          and case
              when text_variables.job_id is null
                  then j.starts_at > now() and j.status in ('scheduled', 'rescheduled')
              else j.id = text_variables.job_id
          end
        order by j.starts_at, j.id
        limit 1;
    end if;
    if names is null or names && array['invoice.number', 'invoice.amount', 'invoice.due_on'] then
        select i.*
        into invoice
        from public.invoices i
        where i.account_id = text_variables.account_id
          and i.customer_id = text_variables.customer_id
          -- the customer sees no draft
          and i.sent_at is not null
          and case
              when text_variables.invoice_id is null then i.status in ('sent', 'overdue')
              else i.id = text_variables.invoice_id
          end
        order by i.due_on nulls last, i.sent_at, i.id
        limit 1;
    end if;
    if names is null or 'contact.name' = any (names) then
        customer_name := (
            select c.name
            from public.customers c
            where c.id = text_variables.customer_id
              and c.account_id = text_variables.account_id
        );
    end if;
    if names is null or 'points.total' = any (names) then
        points := coalesce((
            select b.points
            from public.loyalty_balances b
            where b.customer_id = text_variables.customer_id
              and b.account_id = text_variables.account_id
        ), 0);
    end if;
    if names is null or 'agent.name' = any (names) then
        agent_name := (
            select m.display_name
            from public.account_members m
            where m.account_id = text_variables.account_id
              and m.user_id = text_variables.user_id
        );
    end if;
    if names is null or 'account.name' = any (names) then
        account_name := (select a.name from public.accounts a where a.id = text_variables.account_id);
    end if;

    return jsonb_build_object(
        'contact.name', customer_name,
        'appointment.service', job.service_type,
        'appointment.time', case when job.id is not null then
            private.local_time(account_id, job.starts_at)
        end,
        'invoice.number', invoice.number,
        'invoice.amount', case when invoice.id is not null then
            private.amount_text(account_id, invoice.amount_minor, invoice.currency)
        end,
        'invoice.due_on', case when invoice.id is not null then
            private.date_text(account_id, invoice.due_on)
        end,
        'points.total', points,
        'agent.name', agent_name,
        'account.name', account_name
    );
end
$$;


create function private.variables_in(text text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    names text[] := '{}';
    rest text := text;
    place text;
begin
    -- a loop of simple expressions takes a tenth of the time of a query
    loop
        place := substring(rest from '\{\{[^{}]*\}\}');
        exit when place is null;
        names := names || btrim(place, E'{} \t\r\n');
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return names;
end
$$;


create function private.unfilled_variable(text text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    name text;
begin
    foreach name in array private.variables_in(text) loop
        if coalesce(variables ->> name, '') = '' then
            return name;
        end if;
    end loop;
    return null;
end
$$;


create function private.filled_text(text text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    filled text := '';
    rest text := text;
    place text;
begin
    -- one pass: a value that contains {{name}} stays as it is
    loop
        place := substring(rest from '\{\{[^{}]*\}\}');
        exit when place is null;
        filled := filled || left(rest, strpos(rest, place) - 1)
            || coalesce(variables ->> btrim(place, E'{} \t\r\n'), '');
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return filled || rest;
end
$$;


create function private.check_text_variables(text text, field text default 'text')
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    known constant text[] := array(
        select v.name
        from jsonb_object_keys(private.text_variables(null, null, null)) as v (name)
        order by v.name
    );
    unknown text;
begin
    select v.name
    into unknown
    from unnest(private.variables_in(text)) with ordinality as v (name, place)
    where v.name <> all (known)
    order by v.place
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = format('There is no variable {{%s}}.', left(unknown, 64)),
            detail = 'field: ' || field,
            hint = format('Known: %s.', array_to_string(known, ', '));
    end if;
end
$$;


create function private.fill_text(
    text text,
    account_id uuid,
    customer_id uuid,
    user_id uuid,
    job_id uuid default null,
    invoice_id uuid default null
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    variables constant jsonb := private.text_variables(
        account_id => fill_text.account_id,
        customer_id => fill_text.customer_id,
        user_id => fill_text.user_id,
        job_id => fill_text.job_id,
        invoice_id => fill_text.invoice_id
    );
    unfilled constant text := private.unfilled_variable(text, variables);
begin
    perform private.check_text_variables(text);
    if unfilled is not null then
        raise sqlstate 'PT422' using
            message = format('{{%s}} has no value for this customer.', unfilled),
            detail = 'field: text; variable: ' || unfilled,
            hint = case split_part(unfilled, '.', 1)
                when 'appointment' then 'The customer has no coming appointment. Make one, or write the text by hand.'
                when 'invoice' then 'The customer has no unpaid invoice with this value. Send one, or write the text by hand.'
                when 'contact' then 'Give the contact a name, or write the text by hand.'
                else 'Write the text by hand.'
            end;
    end if;
    return private.filled_text(text, variables);
end
$$;


comment on function private.amount_text(uuid, bigint, text) is
    'An amount for people to read, from minor units, as the account''s language writes it: 1,234.50 EUR or 1.234,50 EUR.';
comment on function private.date_text(uuid, date) is
    'A date for people to read, as the account''s language writes it.';
comment on function private.text_variables(uuid, uuid, uuid, uuid, uuid, text[]) is
    'The values of all variables for a customer, or of those that are named: {"contact.name": …}; null where there is none. Without a job the next one counts, without an invoice the unpaid one that is due first.';
comment on function private.variables_in(text) is
    'The names of the variables in a text, in their order, without braces.';
comment on function private.unfilled_variable(text, jsonb) is
    'The first variable of a text that is unknown or has no value; null if there is none.';
comment on function private.filled_text(text, jsonb) is
    'A text with its variables filled in; a variable without a value becomes empty.';
comment on function private.check_text_variables(text, text) is
    'Refuses a text with an unknown variable, and names it.';
comment on function private.fill_text(text, uuid, uuid, uuid, uuid, uuid) is
    'A text with its variables filled in for a customer. A variable that is unknown or has no value is refused (422) with its name.';
