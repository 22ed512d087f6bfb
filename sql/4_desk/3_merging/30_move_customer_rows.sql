/*
    How a merge, and its undo, move jobs, invoices and points. The caller has locked both
    contacts. It calls these functions before it moves conversations, because the conversations of
    bookings move with their jobs.
*/
create function private.move_customer_rows(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    moved_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.customer_id = from_contact_id
          and j.account_id = move_customer_rows.account_id
        order by j.id
        for update
    );
    moved_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.customer_id = from_contact_id
          and i.account_id = move_customer_rows.account_id
        order by i.id
        for update
    );
    moved_lots jsonb := '{}';
    moved_lines uuid[];
begin
    moved_lines := private.lock_lines(
        account_id => move_customer_rows.account_id,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    select coalesce(jsonb_object_agg(l.transaction_id, l.points_left), '{}')
    into moved_lots
    from private.loyalty_lots l
    where l.customer_id = from_contact_id;

    perform private.give_jobs(
        job_ids => moved_jobs,
        invoice_ids => moved_invoices,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    perform private.give_lines(line_ids => moved_lines, to_contact_id => move_customer_rows.to_contact_id);
    return jsonb_build_object(
        'jobs', to_jsonb(moved_jobs),
        'invoices', to_jsonb(moved_invoices),
        'loyalty_transactions', to_jsonb(moved_lines),
        'loyalty_lots', moved_lots
    );
end
$$;


create function private.lock_lines(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
begin
    -- most customers have no points and no balance
    if not exists (
        select
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
    ) then
        return '{}';
    end if;
    perform private.lock_balances(
        account_id => lock_lines.account_id,
        customer_ids => array[from_contact_id, to_contact_id]
    );
    return array(
        select t.id
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
          and t.account_id = lock_lines.account_id
        order by t.id
        for update
    );
end
$$;


create function private.give_jobs(
    job_ids uuid[],
    invoice_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- lock all conversations of the contact, although only those of bookings move here: the caller
    -- moves the others next, and conversations are locked in one order
    perform
    from public.conversations k
    where k.customer_id = from_contact_id
    order by k.id
    for update;
    -- the foreign keys move messages in any order
    perform
    from public.messages m
    where m.booking_id = any (job_ids)
    order by m.id
    for no key update;

    -- an update that finds no row would still run the table's triggers
    if job_ids <> '{}' then
        update public.jobs j
        set customer_id = to_contact_id
        where j.id = any (job_ids);
    end if;
    -- the invoices of jobs have moved with the jobs
    perform
    from public.invoices i
    where i.id = any (invoice_ids)
      and i.customer_id = from_contact_id;
    if found then
        update public.invoices i
        set customer_id = to_contact_id
        where i.id = any (invoice_ids)
          and i.customer_id = from_contact_id;
    end if;
end
$$;


create function private.give_lines(line_ids uuid[], to_contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    from_contact_id uuid;
    points bigint;
begin
    if line_ids = '{}' then
        return;
    end if;
    select min(t.customer_id::text)::uuid, sum(t.points)
    into from_contact_id, points
    from public.loyalty_transactions t
    where t.id = any (line_ids);

    -- the lots move with their lines
    update public.loyalty_transactions t
    set customer_id = to_contact_id
    where t.id = any (line_ids);
    perform private.add_to_balance(customer_id => from_contact_id, points => -points);
    perform private.add_to_balance(customer_id => to_contact_id, points => points);
end
$$;


create function private.return_customer_rows(
    account_id uuid,
    moved jsonb,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    returned_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.id in (select v::uuid from jsonb_array_elements_text(moved -> 'jobs') v)
          and j.customer_id = from_contact_id
        order by j.id
        for update
    );
    returned_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
          and i.customer_id = from_contact_id
          -- an invoice that is now for another job stays with that job
          and (i.job_id is null or i.job_id = any (returned_jobs))
        order by i.id
        for update
    );
    lines constant uuid[] := array(
        select v::uuid
        from jsonb_array_elements_text(moved -> 'loyalty_transactions') v
    );
    not_returned jsonb;
begin
    if lines <> '{}' then
        perform private.lock_lines(
            account_id => return_customer_rows.account_id,
            from_contact_id => return_customer_rows.from_contact_id,
            to_contact_id => return_customer_rows.to_contact_id
        );
    end if;

    perform private.give_jobs(
        job_ids => returned_jobs,
        invoice_ids => returned_invoices,
        from_contact_id => return_customer_rows.from_contact_id,
        to_contact_id => return_customer_rows.to_contact_id
    );
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'kind', 'invoice',
                'value', i.id,
                'reason', 'belongs_to_another',
                'contact_id', i.customer_id
            )
            order by i.id),
        '[]')
    into not_returned
    from public.invoices i
    where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
      and i.customer_id <> to_contact_id;

    if lines = '{}' then
        return not_returned;
    elsif not exists (
        -- spent points of these lots were spent by the kept contact
        select
        from jsonb_each_text(moved -> 'loyalty_lots') w
        left join private.loyalty_lots l
            on l.transaction_id = w.key::uuid
        where l.points_left is distinct from w.value::integer
    ) then
        perform private.give_lines(
            line_ids => lines, to_contact_id => return_customer_rows.to_contact_id);
        return not_returned;
    end if;
    return not_returned || jsonb_build_object(
        'kind', 'loyalty_transactions',
        'value', lines,
        'reason', 'spent_since',
        'contact_id', from_contact_id
    );
end
$$;


comment on function private.move_customer_rows(uuid, uuid, uuid) is
    'Gives a contact''s jobs with their conversations, invoices and points to another contact; returns what return_customer_rows needs.';
comment on function private.lock_lines(uuid, uuid, uuid) is
    'Locks a contact''s lines of points and both balances; returns the ids of the lines.';
comment on function private.give_jobs(uuid[], uuid[], uuid, uuid) is
    'Gives jobs with their conversations, and invoices, to another contact.';
comment on function private.give_lines(uuid[], uuid) is
    'Gives lines of points to another contact; the caller has locked both balances.';
comment on function private.return_customer_rows(uuid, jsonb, uuid, uuid) is
    'Gives back the rows that move_customer_rows moved; returns those that stay, as undo_merge names them. If some of the points have been spent since, all points stay.';
