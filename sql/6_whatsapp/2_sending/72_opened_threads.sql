/*
    Conversations that the business begins. WhatsApp lets a template be the first message, so a
    reminder, or a template that is sent later, opens the conversation of a customer who has never
    written, as a message from the customer would.

    It goes to a proved identity of the customer: the number that WhatsApp knows, or else the number
    on the contact, or another one, or the user id. A number whose conversation is still another
    contact's is left out: that contact would read what this one is told.

    It comes from a number of the account that is not stopped. A reminder's rule names the number. A
    message that is sent later takes the account's only one; of several those that have the template
    come first, then the one that was used last.

    Locks: identities, contacts, conversations, as everywhere.
*/
create type private.whatsapp_address as (
    identity_kind text,
    identity_key  text,
    wa_id         text
);


create function private.whatsapp_address(
    account_id uuid,
    contact_id uuid,
    whatsapp_channel_id uuid
)
    returns private.whatsapp_address
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    address private.whatsapp_address;
begin
    select
        i.kind,
        i.match_key,
        case i.kind when 'phone' then coalesce(i.wa_id, regexp_replace(i.value, '[^0-9]', '', 'g')) end
    into address
    from public.contact_identities i
    left join public.contacts c
        on c.id = i.contact_id
    where i.contact_id = whatsapp_address.contact_id
      and i.account_id = whatsapp_address.account_id
      and (
          i.kind = 'bsuid'
          -- longer ones are ids of test numbers and groups
          or i.kind = 'phone' and i.match_key ~ '^[1-9][0-9]{6,14}$'
      )
      and not exists (
          select
          from public.conversations t
          where t.whatsapp_channel_id = whatsapp_address.whatsapp_channel_id
            and t.account_id = i.account_id
            and t.thread_key = i.kind || ':' || i.match_key
            and t.channel = 'whatsapp'
            and t.status <> 'closed'
            and t.customer_id <> i.contact_id
      )
    order by
        i.kind = 'bsuid',
        i.wa_id is null,
        i.value is distinct from c.phone,
        i.created_at,
        i.match_key
    limit 1;
    return address;
end
$$;


create function private.opening_item(
    account_id uuid,
    whatsapp_channel_id uuid,
    contact_id uuid,
    address private.whatsapp_address,
    index integer
)
    returns private.whatsapp_item
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
begin
    item.kind := 'message';
    item.index := opening_item.index;
    item.sender_type := 'operator';
    item.account_id := opening_item.account_id;
    item.whatsapp_channel_id := opening_item.whatsapp_channel_id;
    item.contact_id := opening_item.contact_id;
    item.identity_kind := address.identity_kind;
    item.identity_key := address.identity_key;
    item.wa_id := address.wa_id;
    return item;
end
$$;


create function private.number_for_template(account_id uuid, template jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with recent as materialized (
            select
                k.whatsapp_channel_id,
                row_number() over (order by a.last_message_at desc) as place
            from (
                select a.conversation_id, a.last_message_at
                from public.conversation_activity a
                where a.account_id = number_for_template.account_id
                order by a.last_message_at desc, a.conversation_id
                limit 1000
            ) a
            join public.conversations k
                on k.id = a.conversation_id
        )
        select w.id
        from public.whatsapp_channels w
        where w.account_id = number_for_template.account_id
          and w.stopped_at is null
        order by
            exists (
                select
                from public.whatsapp_templates t
                where t.account_id = w.account_id
                  and t.waba_id = w.waba_id
                  and t.name = template ->> 'name'
                  and t.language = coalesce(template #>> '{language,code}', template ->> 'language')
                  and t.status = 'APPROVED'
                  and t.gone_at is null
            ) desc,
            (select min(r.place) from recent r where r.whatsapp_channel_id = w.id),
            w.created_at,
            w.id
        limit 1
    );
end
$$;


create function private.whatsapp_thread_of_customer(customer_id uuid, template jsonb)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    kept uuid;
    thread uuid;
    number uuid;
    address private.whatsapp_address;
    opened private.whatsapp_item[];
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = whatsapp_thread_of_customer.customer_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such customer, or it is not yours to see.',
            detail = 'field: customer_id';
    elsif account not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this customer''s conversations but not write in them.',
            hint = 'Owners, admins and agents may.';
    end if;

    kept := private.contact_of_id(
        account_id => account, contact_id => whatsapp_thread_of_customer.customer_id);
    perform
    from public.contact_identities i
    where i.contact_id = kept
      and i.account_id = account
      and i.kind in ('bsuid', 'phone')
    order by i.kind, i.match_key
    for share;
    -- merged while this waited: the other contact's identities are not locked
    if kept <> private.hold_contact(account_id => account, contact_id => kept) then
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;

    select k.id
    into thread
    from public.conversations k
    join public.conversation_activity a
        on a.conversation_id = k.id
    where k.customer_id = kept
      and k.account_id = account
      and k.channel = 'whatsapp'
    order by k.status = 'closed', a.last_message_at desc, k.id
    limit 1;
    if found then
        return thread;
    elsif template is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no conversation on WhatsApp, and only a template opens one.',
            detail = 'field: template',
            hint = 'Name a template, {name, language}.';
    end if;

    number := private.number_for_template(account_id => account, template => template);
    if number is null then
        raise sqlstate 'PT409' using
            message = 'The account has no WhatsApp number that sends at present.',
            detail = 'field: customer_id',
            hint = 'whatsapp_channels.stopped_reason says why a number is stopped; resume_channel starts it again.';
    end if;
    address := private.whatsapp_address(
        account_id => account, contact_id => kept, whatsapp_channel_id => number);
    if address.identity_key is null then
        raise sqlstate 'PT422' using
            message = 'This customer has no number that is proved, so nothing can be sent on WhatsApp.',
            detail = 'field: customer_id',
            hint = 'Write the number on the contact, or confirm the one that the customer has written (confirm_contact).';
    end if;
    opened := private.open_whatsapp_threads(array[private.opening_item(
        account_id => account,
        whatsapp_channel_id => number,
        contact_id => kept,
        address => address,
        index => 1
    )]);
    -- opened for another contact meanwhile, which the number belonged to
    if opened[1].contact_id <> kept then
        raise sqlstate 'PT503' using
            message = 'Others are changing this contact.',
            hint = 'Try again.';
    end if;
    return opened[1].conversation_id;
end
$$;


comment on type private.whatsapp_address is
    'To whom a conversation on WhatsApp is opened: the identity, and the exact id to write to (null of a user id).';
comment on function private.whatsapp_address(uuid, uuid, uuid) is
    'The proved identity by which a contact is written to from a number of the account; nulls where there is none.';
comment on function private.opening_item(uuid, uuid, uuid, private.whatsapp_address, integer) is
    'What open_whatsapp_threads opens a conversation for, in place of a message.';
comment on function private.number_for_template(uuid, jsonb) is
    'The account''s number from which a template opens a conversation; null where none sends.';
comment on function private.whatsapp_thread_of_customer(uuid, jsonb) is
    'The customer''s conversation on WhatsApp, the open one first; opens it for a template if there is none. Refuses callers who may not write there, and customers who can''t be written to.';
