/*
    The conversations that customers hold in the portal: one about each booking, made with its
    job, and one for everything else, made when somebody first writes in it. Two customers that
    are merged keep theirs; the portal goes on in the kept one's.
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
    -- others may open it, or close it, between two statements: look again
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
            -- it stays this contact's until the message is written
            kept := private.hold_contact(account_id => account, contact_id => kept);
            return private.open_portal_thread(account_id => account, customer_id => kept);
        elsif account in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this customer''s conversations, not write in them.',
                hint = 'Owners, admins and agents may.';
        end if;
    end if;
    return null;
exception
    when sqlstate 'PT404' then
        -- deleted: whose it was is nobody's to learn
        return null;
end
$$;


comment on function private.portal_thread(uuid) is
    'A customer''s conversation in the portal, the open one first; null before there is one.';
comment on function private.open_portal_thread(uuid, uuid) is
    'A customer''s conversation in the portal, which is made where there is none.';
comment on function private.thread_of_customer(uuid) is
    'The conversation in the portal for somebody who may write in it; null where it is hidden.';
