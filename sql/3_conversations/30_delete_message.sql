/*
    Deletes a message of a booking's or the portal's conversation: its contents are removed for
    both sides, and the row stays with its seq. A message that WhatsApp has carried can't be
    deleted here.
*/
create function private.revoke_message(message_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not change messages; the caller is checked first
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
            hint = 'Customers delete their own messages; owners, admins and agents delete those of the business.';
    elsif revoked.whatsapp_channel_id is not null then
        raise sqlstate 'PT422' using
            message = 'A WhatsApp message can''t be deleted here.',
            detail = 'field: message_id',
            hint = 'Delete only messages of the portal and of bookings; drop_message withdraws a WhatsApp message that is still queued.';
    end if;

    -- a second call changes nothing
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
    'Removes the contents of a message, if the caller may; returns the message.';
comment on function public.delete_message(uuid) is
    'Deletes a message of a booking''s or the portal''s conversation for both sides: a customer''s own, or for staff one of the business. The row stays without contents, with revoked_at. Returns the row. Not the caller''s: 403. On WhatsApp: 422.'
    ' Type: messages';
