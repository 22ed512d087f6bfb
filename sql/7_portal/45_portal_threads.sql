/*
    The conversations that customers hold in the portal. Each booking has one, made with its job.
    One more is for everything else, made with its first message. Two customers that are merged keep
    theirs; the portal goes on in the kept customer's one.
*/
create function private.portal_thread(customer_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select k.id
        from public.conversations k
        where k.customer_id = portal_thread.customer_id
          and k.channel = 'portal'
        order by k.status = 'closed', k.thread_key <> k.customer_id::text, k.created_at, k.id
        limit 1
    );
end
$$;


create function private.open_portal_thread(account_id uuid, customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    thread uuid;
begin
    -- Others may open or close it between two statements, so look again.
    for attempt in 1 .. 4 loop
        thread := private.portal_thread(customer_id);
        exit when thread is not null;

        insert into public.conversations (account_id, customer_id, channel, thread_key)
        values (
            open_portal_thread.account_id,
            open_portal_thread.customer_id,
            'portal',
            open_portal_thread.customer_id
        )
        on conflict do nothing;
    end loop;
    return thread;
end
$$;


create function private.thread_of_customer(customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    kept uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = thread_of_customer.customer_id;
    if found then
        kept := private.contact_of_id(
            account_id => account, contact_id => thread_of_customer.customer_id);
        if account in (select private.my_writable_account_ids())
            or kept in (select private.my_customer_ids())
        then
            -- it stays with this contact until the message is written
            kept := private.hold_contact(account_id => account, contact_id => kept);
            return private.open_portal_thread(account_id => account, customer_id => kept);
        elsif account in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this customer''s conversations but not write in them.',
                hint = 'Owners, admins and agents may.';
        end if;
    end if;
    return null;
exception
    when sqlstate 'PT404' then
        -- Deleted: the caller may not learn whose it was.
        return null;
end
$$;


comment on function private.portal_thread(uuid) is
    'A customer''s conversation in the portal, the open one first; null where there is none.';
comment on function private.open_portal_thread(uuid, uuid) is
    'A customer''s conversation in the portal; makes it where there is none.';
comment on function private.thread_of_customer(uuid) is
    'The conversation in the portal for a caller who may write in it; null where the caller may not see it.';
