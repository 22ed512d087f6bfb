/*
    The common part of jobs, invoices and points: each row belongs to one customer. A writer may
    name a contact that has been merged since; the row then belongs to the kept contact. A row stays
    with its customer, except in a merge or the undoing of one.

    Locks: contacts, jobs, invoices, balances, conversations, messages, each by id.
*/
create function private.hold_contact(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    kept uuid;
begin
    for attempt in 1 .. 4 loop
        kept := private.contact_of_id(
            account_id => hold_contact.account_id, contact_id => hold_contact.contact_id);
        begin
            -- A shared lock: many rows may be written for one customer, but none while it is
            -- merged.
            perform
            from public.contacts c
            where c.id = kept
              and c.account_id = hold_contact.account_id
              and c.deleted_at is null
            for share;
            if found then
                return kept;
            end if;
            raise sqlstate 'RP003';
        exception
            -- Merged while this waited. The lock goes with the block, so the next contact's lock
            -- may be taken.
            when sqlstate 'RP003' then
                null;
        end;
    end loop;
    raise sqlstate 'PT503' using
        message = 'Others are changing this contact.',
        hint = 'Try again.';
end
$$;


create function private.hold_contact_at_once(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
    -- the shortest limit that Postgres takes
    set lock_timeout = '1ms'
as $$
begin
    return private.hold_contact(account_id => account_id, contact_id => contact_id);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Somebody else is changing one of these customers.',
            detail = 'field: customer_id',
            hint = 'Try again. Write rows of several customers in the order of the customers'' ids.';
end
$$;


create function private.tg__own_by_customer()
    returns trigger
    language plpgsql
    -- definer: locks contacts for every writer; the function itself checks the caller
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    -- Without a signed-in user the database itself writes.
    is_user constant boolean := auth.uid() is not null;
    furthest constant uuid := private.setting('rapport.held_customer');
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = new.customer_id;
    if not found
        or (is_user and account not in (select private.my_account_ids()))
        or new.account_id <> account
    then
        raise sqlstate 'PT404' using
            message = 'There is no such customer, or it is not yours to see.',
            detail = 'field: customer_id';
    end if;
    if is_user and account not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this customer''s records but not write them.',
            hint = 'Owners, admins and agents may.';
    end if;

    new.account_id := account;
    -- Contacts are locked in the order of their ids, but rows come in any order. A transaction that
    -- holds a later contact does not wait for an earlier one: the holder of that one may be waiting
    -- for the later contact.
    if new.customer_id < furthest then
        new.customer_id := private.hold_contact_at_once(
            account_id => account, contact_id => new.customer_id);
        return new;
    end if;
    new.customer_id := private.hold_contact(account_id => account, contact_id => new.customer_id);
    if furthest is null or new.customer_id > furthest then
        perform set_config('rapport.held_customer', new.customer_id::text, true);
    end if;
    return new;
end
$$;


create function private.tg__follow_merge()
    returns trigger
    language plpgsql
    -- definer: reads the journal and contacts for every writer
    security definer
    set search_path = ''
as $$
begin
    if not exists (
        select
        from public.contacts c
        where c.id = old.customer_id
          and c.merged_into = new.customer_id
    ) and not exists (
        select
        from public.contact_merges m
        where m.kept_contact_id = old.customer_id
          and m.dropped_contact_id = new.customer_id
          and m.undone_at is null
    ) then
        raise check_violation using
            message = format('A row of %s stays with its customer.', tg_table_name),
            detail = 'columns: customer_id';
    end if;
    return new;
end
$$;


comment on function private.hold_contact(uuid, uuid) is
    'Locks the contact, or the one that it was merged into, and returns its id. Until the transaction ends it can be neither merged nor deleted. Refuses a contact that is gone (404).';
comment on function private.hold_contact_at_once(uuid, uuid) is
    'The same without waiting. Refuses if the lock is not free at once (503).';
comment on function private.tg__own_by_customer() is
    'Gives a new row the account and the present contact of its customer. Refuses callers who may not write there.';
comment on function private.tg__follow_merge() is
    'Refuses another customer, unless the two are being merged or parted.';
