/*
    Invoices in chats. An agent can show one with a message, and its data must match the invoice.
    The system tells the chat of the invoice's job, or else the portal's chat, what happens to an
    invoice.
*/
create function private.invoice_facts(invoice public.invoices)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'invoice_id', invoice.id,
        'number', invoice.number,
        'amount_minor', invoice.amount_minor,
        'currency', invoice.currency,
        'status', invoice.status,
        'due_on', invoice.due_on
    );
end
$$;


create function private.check_invoice_data(post public.messages, channel text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    named constant text := post.invoice_data ->> 'invoice_id';
    invoice public.invoices;
    facts jsonb;
    wrong text;
begin
    if post.invoice_data is null and not post.has_invoice then
        return null;
    elsif post.sender_type <> 'operator' then
        raise insufficient_privilege using
            message = 'Only the business can show invoices.',
            detail = 'field: invoice_data',
            hint = 'Leave invoice_data out.';
    elsif channel = 'whatsapp' or post.type <> 'text' then
        raise sqlstate 'PT422' using
            message = 'An invoice can only be shown with a text, in a chat of the portal.',
            detail = 'field: invoice_data',
            hint = 'On WhatsApp send it as a document.';
    end if;

    if pg_input_is_valid(named, 'uuid') then
        select i.*
        into invoice
        from public.invoices i
        where i.id = named::uuid
          and i.account_id = post.account_id
          and i.customer_id = post.customer_id
          and i.sent_at is not null;
    end if;
    if invoice.id is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no such invoice, or it has not been sent yet.',
            detail = 'field: invoice_data.invoice_id',
            hint = 'Name an invoice of the customer that is not a draft.';
    end if;

    facts := private.invoice_facts(invoice);
    select g.key
    into wrong
    from jsonb_each(post.invoice_data) g
    where g.value is distinct from facts -> g.key
    order by g.key
    limit 1;
    if wrong is not null then
        raise sqlstate 'PT422' using
            message = 'This value differs from the invoice.',
            detail = 'field: invoice_data.' || left(wrong, 64),
            hint = 'Give the invoice_id alone. The rest is filled in.';
    end if;
    return facts;
end
$$;


insert into private.sentences (key, language, sentence)
values
    ('invoice.sent', 'en', 'Invoice {number} has been sent.'),
    ('invoice.sent', 'sl', 'Račun {number} je poslan.'),
    ('invoice.paid', 'en', 'Invoice {number} has been paid.'),
    ('invoice.paid', 'sl', 'Račun {number} je plačan.'),
    ('invoice.overdue', 'en', 'Invoice {number} is overdue.'),
    ('invoice.overdue', 'sl', 'Račun {number} je zapadel.'),
    ('invoice.void', 'en', 'Invoice {number} is void.'),
    ('invoice.void', 'sl', 'Račun {number} je razveljavljen.');


create function private.invoice_notice(invoice public.invoices)
    returns private.notice
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        invoice.account_id,
        invoice.customer_id,
        invoice.job_id,
        private.words(
            invoice.account_id,
            'invoice.' || invoice.status,
            jsonb_build_object('number', invoice.number)
        ),
        jsonb_build_object('event', 'invoice.' || invoice.status, 'invoice_id', invoice.id),
        private.invoice_facts(invoice)
    )::private.notice;
end
$$;


create function private.tg_invoices__tell_chat()
    returns trigger
    language plpgsql
    -- definer: users may not write as the system
    security definer
    set search_path = ''
as $$
declare
    notices private.notice[];
begin
    select array_agg(private.invoice_notice(n) order by n.id)
    into notices
    from new_rows n
    join old_rows o
        using (id)
    where n.status <> o.status
      -- a draft that was made void was never visible to the customer
      and n.sent_at is not null;
    -- as with jobs
    if notices is not null then
        perform private.post_notices(notices);
    end if;
    return null;
end
$$;


create trigger _500_tell_chat
    after update on public.invoices
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_invoices__tell_chat();


comment on function private.invoice_facts(public.invoices) is
    'The data of an invoice that a message shows: {invoice_id, number, amount_minor, currency, status, due_on}.';
comment on function private.check_invoice_data(public.messages, text) is
    'The data of the invoice that somebody shows with a message. Refuses a field that differs from the invoice, and names it.';
comment on function private.invoice_notice(public.invoices) is
    'The sentence that tells a chat how an invoice stands now.';
comment on function private.tg_invoices__tell_chat() is
    'Tells a chat what happened to an invoice that the customer knows.';
