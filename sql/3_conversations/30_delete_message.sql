/*
    A message of a portal's chat is taken back: emptied for both sides, while the row stays and its
    seq with it. What WhatsApp has carried is not ours to take back.
*/
create function private.revoke_message(message_id uuid)
    returns jsonb
    language plpgsql
    -- definer: messages are changed here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    revoked public.messages;
    me constant uuid := auth.uid();
    is_staff boolean;
    is_mine boolean;
begin
    select m.*
    into revoked
    from public.messages m
    where m.id = message_id
      and (
          m.account_id in (select private.my_account_ids())
          or m.customer_id in (select private.my_customer_ids())
      )
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;

    is_staff := revoked.account_id in (select private.my_writable_account_ids());
    is_mine := case revoked.sender_type
        when 'operator' then is_staff
        when 'client' then
            revoked.sender_id = me::text
            and revoked.customer_id in (select private.my_customer_ids())
    end;
    if is_mine is not true then
        raise insufficient_privilege using
            message = 'This message is not yours to delete.',
            hint = 'Customers delete their own, and owners, admins and agents those of the business.';
    elsif revoked.whatsapp_channel_id is not null then
        raise sqlstate 'PT422' using
            message = 'What was sent by WhatsApp is not deleted here.',
            detail = 'field: message_id',
            hint = 'Delete messages of the portal; drop_message withdraws one that still waits.';
    end if;

    -- once is enough
    if revoked.revoked_at is null then
        update public.messages m
        set message = '',
            content = null,
            has_invoice = false,
            invoice_data = null,
            revoked_at = now()
        where m.id = message_id
        returning * into revoked;
    end if;
    return to_jsonb(revoked);
end
$$;

grant execute on function private.revoke_message(uuid) to authenticated;


create function public.delete_message(message_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.revoke_message(message_id);
end
$$;

grant execute on function public.delete_message(uuid) to authenticated;


comment on function private.revoke_message(uuid) is
    'Empties a message, for those who may; returns it.';
comment on function public.delete_message(uuid) is
    'Deletes a message of a booking''s or the portal''s chat for both sides: your own, or as staff one of the business. It stays as a row without contents, see revoked_at; answers the row. Not yours: 403; on WhatsApp: 422.';
