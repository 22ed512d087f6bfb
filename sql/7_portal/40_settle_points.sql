/*
    The effects of a new line of points: a new balance, and lots that are made or used. A writer of
    lines holds the customer's balance. So two people who redeem at the same time take turns, and
    the second one sees the rest.
*/
create function private.lock_balances(account_id uuid, customer_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.loyalty_balances (customer_id, account_id)
    select distinct c, lock_balances.account_id
    from unnest(customer_ids) c
    order by c
    on conflict do nothing;

    perform
    from public.loyalty_balances b
    where b.customer_id = any (customer_ids)
    order by b.customer_id
    for no key update;
end
$$;


create function private.add_to_balance(customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.loyalty_balances b
    set points = b.points + add_to_balance.points,
        updated_at = now()
    where b.customer_id = add_to_balance.customer_id;
end
$$;


create function private.use_lots(account_id uuid, customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    today constant date := private.today(account_id);
    wanted bigint := points;
    lot record;
    taken bigint;
begin
    for lot in
        select l.transaction_id, l.points_left
        from private.loyalty_lots l
        where l.customer_id = use_lots.customer_id
          and l.points_left > 0
          -- points whose time has passed are not usable; the schedule will write them off
          and (l.expires_on is null or l.expires_on >= today)
        order by l.expires_on, l.transaction_id
    loop
        exit when wanted = 0;
        taken := least(wanted, lot.points_left);
        update private.loyalty_lots l
        set points_left = l.points_left - taken
        where l.transaction_id = lot.transaction_id;
        wanted := wanted - taken;
    end loop;

    if wanted > 0 then
        raise sqlstate 'PT409' using
            message = format(
                'The customer has %s points; %s can''t be redeemed.', points - wanted, points),
            detail = format('field: points; points: %s; wanted: %s', points - wanted, points),
            hint = format('Redeem at most %s points.', points - wanted);
    end if;
end
$$;


create function private.tg_loyalty_transactions__settle()
    returns trigger
    language plpgsql
    -- definer: only this function writes balances and lots
    security definer
    set search_path = ''
as $$
declare
    line public.loyalty_transactions;
    customers record;
begin
    for customers in
        select n.account_id, array_agg(distinct n.customer_id) as ids
        from new_rows n
        group by n.account_id
        order by n.account_id
    loop
        perform private.lock_balances(
            account_id => customers.account_id, customer_ids => customers.ids);
    end loop;

    -- points that a statement gives can be redeemed in the same statement
    for line in
        select n.*
        from new_rows n
        order by n.points < 0, n.customer_id, n.id
    loop
        if line.points > 0 then
            insert into private.loyalty_lots (
                transaction_id, account_id, customer_id, points_left, expires_on
            )
            values (line.id, line.account_id, line.customer_id, line.points, line.expires_on);
        elsif line.type = 'redeemed' then
            perform private.use_lots(
                account_id => line.account_id,
                customer_id => line.customer_id,
                points => -line.points::bigint
            );
        end if;
        perform private.add_to_balance(customer_id => line.customer_id, points => line.points);
    end loop;
    return null;
end
$$;


create function private.tg_loyalty_transactions__keep()
    returns trigger
    language plpgsql
    -- definer: reads contacts for every writer
    security definer
    set search_path = ''
as $$
begin
    -- a ledger may be deleted with its customer, or with all that is known of the customer
    if tg_op = 'DELETE' and (
        current_setting('rapport.erasing', true) = 'on'
        or not exists (
            select
            from public.contacts c
            where c.id = old.customer_id
        )
    ) then
        return old;
    end if;
    raise check_violation using
        message = 'A line of points can''t be changed or deleted.',
        hint = 'Add a line that corrects it.';
end
$$;


create trigger _010_own_by_customer
    before insert on public.loyalty_transactions
    for each row
    execute function private.tg__own_by_customer();

create trigger _020_keep
    before update on public.loyalty_transactions
    for each row
    when (
        (new.id, new.account_id, new.type, new.points, new.description, new.expires_on, new.created_at)
        is distinct from
        (old.id, old.account_id, old.type, old.points, old.description, old.expires_on, old.created_at)
    )
    execute function private.tg_loyalty_transactions__keep();

create trigger _020_keep_deleted
    before delete on public.loyalty_transactions
    for each row
    execute function private.tg_loyalty_transactions__keep();

create trigger _060_follow_merge
    before update of customer_id on public.loyalty_transactions
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _100_stamp_change
    before update on public.loyalty_transactions
    for each row
    execute function private.tg__stamp_change();

create trigger _500_settle
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg_loyalty_transactions__settle();


create function private.expire_points_of(account_id uuid, customer_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    today constant date := private.today(account_id);
    expired bigint;
begin
    -- the contact before the balance, as in all code that adds lines
    if private.hold_contact(
        account_id => expire_points_of.account_id,
        contact_id => expire_points_of.customer_id
    ) <> expire_points_of.customer_id then
        -- merged meanwhile, and its points too
        return false;
    end if;
    perform private.lock_balances(
        account_id => expire_points_of.account_id,
        customer_ids => array[expire_points_of.customer_id]
    );

    with emptied as (
        update private.loyalty_lots l
        set points_left = 0
        from private.loyalty_lots b
        where l.transaction_id = b.transaction_id
          and b.customer_id = expire_points_of.customer_id
          and b.points_left > 0
          and b.expires_on < today
        returning b.points_left
    )
    select sum(e.points_left)
    into expired
    from emptied e;
    if expired is null then
        return false;
    end if;

    insert into public.loyalty_transactions (account_id, customer_id, type, points, description)
    values (
        expire_points_of.account_id,
        expire_points_of.customer_id,
        'expired',
        -expired,
        'Not redeemed in time.'
    );
    return true;
end
$$;


create function backend.expire_points(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    due record;
    customers integer := 0;
begin
    for due in
        select distinct l.customer_id, l.account_id
        from private.loyalty_lots l
        join public.contacts c
            on c.id = l.customer_id
           and c.account_id = l.account_id
           and c.deleted_at is null
        join public.accounts a
            on a.id = l.account_id
        where l.points_left > 0
          and l.expires_on < private.latest_today()
          and l.expires_on < (now() at time zone a.time_zone)::date
        order by l.customer_id
        limit least(greatest(batch, 1), 1000)
    loop
        if private.expire_points_of(account_id => due.account_id, customer_id => due.customer_id) then
            customers := customers + 1;
        end if;
    end loop;
    return customers;
end
$$;

grant execute on function backend.expire_points(integer) to service_role;


comment on function private.lock_balances(uuid, uuid[]) is
    'Locks the balances of customers of one account. Makes the ones that are missing.';
comment on function private.add_to_balance(uuid, bigint) is
    'Changes a balance, which is locked.';
comment on function private.use_lots(uuid, uuid, bigint) is
    'Takes points from a customer''s lots, first from the one that expires first. Refuses more points than there are.';
comment on function private.tg_loyalty_transactions__settle() is
    'Updates balances and lots for new lines.';
comment on function private.tg_loyalty_transactions__keep() is
    'Refuses to change a line, or to delete it without its customer.';
comment on function private.expire_points_of(uuid, uuid) is
    'Writes off a customer''s points whose time has passed, in one line. False where there are none.';
comment on function backend.expire_points(integer) is
    'Writes off points whose time has passed, for up to batch customers (at most 1,000). Returns the number of customers. Call it again until it returns 0.';
