/*
    Notices: messages of the system in a conversation, such as that a job was moved or an invoice
    paid. The text is for people, with times in the account's time zone. The content ({event, …})
    is for clients that write a text of their own.

    A notice does not open a closed conversation again.
*/
create type private.notice as (
    account_id   uuid,
    customer_id  uuid,
    -- the job whose conversation gets the notice; null for the portal conversation
    booking_id   uuid,
    message      text,
    content      jsonb,
    invoice_data jsonb
);


create function private.threads_of_notices(notices private.notice[])
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    customer record;
    threads uuid[];
begin
    for customer in
        select distinct n.account_id, n.customer_id
        from unnest(notices) n
        join public.contacts c
            on c.id = n.customer_id
           and c.account_id = n.account_id
           -- a deleted contact gets no notice
           and c.deleted_at is null
        where n.booking_id is null
        order by n.customer_id
    loop
        perform private.open_portal_thread(
            account_id => customer.account_id, customer_id => customer.customer_id);
    end loop;

    threads := array(
        select case
            when n.booking_id is null then private.portal_thread(n.customer_id)
            else (
                select k.id
                from public.conversations k
                where k.booking_id = n.booking_id
            )
        end
        from unnest(notices) with ordinality as n (
            account_id, customer_id, booking_id, message, content, invoice_data, place
        )
        order by n.place
    );

    perform
    from public.conversations k
    where k.id = any (threads)
    order by k.id
    for no key update;
    return threads;
end
$$;


create function private.post_notices(notices private.notice[])
    returns void
    language plpgsql
    set search_path = ''
    -- few rows at a time, found by key
    set plan_cache_mode = force_generic_plan
as $$
declare
    threads uuid[];
begin
    if notices is null then
        return;
    end if;
    threads := private.threads_of_notices(notices);

    -- numbered as everywhere, see conversation_activity.last_seq
    with posted as (
        insert into public.messages (
            account_id, conversation_id, customer_id, booking_id, seq, sender_type, type, message,
            content, has_invoice, invoice_data, status, sent_at
        )
        select
            k.account_id,
            k.id,
            k.customer_id,
            k.booking_id,
            a.last_seq + row_number() over (partition by k.id order by t.place),
            'system',
            'system',
            (notices[t.place]).message,
            (notices[t.place]).content,
            (notices[t.place]).invoice_data is not null,
            (notices[t.place]).invoice_data,
            'sent',
            now()
        from unnest(threads) with ordinality as t (conversation_id, place)
        join public.conversations k
            on k.id = t.conversation_id
        join public.conversation_activity a
            on a.conversation_id = k.id
        order by k.id, t.place
        returning conversation_id
    )
    update public.conversation_activity a
    set last_seq = a.last_seq + p.added,
        last_message_at = greatest(a.last_message_at, now())
    from (
        select p.conversation_id, count(*) as added
        from posted p
        group by p.conversation_id
    ) p
    where a.conversation_id = p.conversation_id;
end
$$;


comment on type private.notice is
    'A message of the system for a customer and the staff, and its conversation.';
comment on function private.threads_of_notices(private.notice[]) is
    'The conversation of each notice, locked; null if nobody is left to read it.';
comment on function private.post_notices(private.notice[]) is
    'Writes notices as messages of the system, in their order.';
