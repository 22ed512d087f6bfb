/*
    Times that no client can read had their rows left out without a word: they are refused, and
    those that are there are brought to the edge of what can be read. Writers of several
    customers' rows wait for nobody who may be waiting for them.
*/
alter table public.jobs disable trigger user;
update public.jobs
set starts_at = least(greatest(starts_at, '0001-01-02'), '9999-12-29'),
    ends_at = least(ends_at, '9999-12-30')
where starts_at not between '0001-01-02' and '9999-12-30'
   or ends_at > '9999-12-30';
alter table public.jobs enable trigger user;

alter table public.invoices disable trigger user;
update public.invoices
set issued_at = least(greatest(issued_at, '0001-01-02'), '9999-12-30'),
    due_at = least(greatest(due_at, '0001-01-02'), '9999-12-30')
where issued_at not between '0001-01-02' and '9999-12-30'
   or due_at not between '0001-01-02' and '9999-12-30';
alter table public.invoices enable trigger user;

alter table public.loyalty_transactions disable trigger user;
update public.loyalty_transactions
set expires_at = least(greatest(expires_at, '0001-01-02'), '9999-12-30')
where expires_at not between '0001-01-02' and '9999-12-30';
alter table public.loyalty_transactions enable trigger user;

update private.loyalty_lots
set expires_at = least(greatest(expires_at, '0001-01-02'), '9999-12-30')
where expires_at not between '0001-01-02' and '9999-12-30';

alter table public.jobs
    drop constraint jobs_starts_at_check,
    drop constraint jobs_ends_at_check,
    add constraint jobs_starts_at_check
        check (starts_at between '0001-01-02' and '9999-12-30'),
    add constraint jobs_ends_at_check
        check (ends_at > starts_at and ends_at <= '9999-12-30');

alter table public.invoices
    drop constraint invoices_due_at_check,
    add constraint invoices_issued_at_check
        check (issued_at between '0001-01-02' and '9999-12-30'),
    add constraint invoices_due_at_check
        check (due_at between '0001-01-02' and '9999-12-30');

alter table public.loyalty_transactions
    drop constraint loyalty_transactions_expires_at_check,
    add constraint loyalty_transactions_expires_at_check
        check (
            expires_at is null
            or type in ('earned', 'bonus')
            and expires_at between '0001-01-02' and '9999-12-30'
        );

create function private.hold_contact_at_once(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
    -- the least that is a limit
    set lock_timeout = '1ms'
as $$
begin
    return private.hold_contact(account_id => account_id, contact_id => contact_id);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Somebody else is changing one of these customers.',
            detail = 'field: customer_id',
            hint = 'Try again; write rows of several customers in the order of their ids.';
end
$$;

create or replace function private.tg__own_by_customer()
    returns trigger
    language plpgsql
    -- definer: contacts are locked whoever writes; who it is is asked here
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    -- whoever is not signed in is the database's own
    is_user constant boolean := auth.uid() is not null;
    -- an empty text once another transaction of the session has had one
    furthest constant uuid := nullif(current_setting('rapport.held_customer', true), '');
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
            message = 'You may read this customer''s records, not write them.',
            hint = 'Owners, admins and agents may.';
    end if;

    new.account_id := account;
    -- Contacts are locked in the order of their ids, and rows come in any order. A transaction
    -- that has a later one does not wait for this: whoever holds it may be waiting for that.
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

comment on function private.hold_contact_at_once(uuid, uuid) is
    'The same without waiting for anybody; refused where it would have to.';
