/*
    The customer's latest message, for read marks and typing signs at WhatsApp. (Source:
    developers.facebook.com, WhatsApp Cloud API, "Mark messages as read", "Typing indicators".)
*/
create function private.find_latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: tells a caller who may only read from one who may not see the conversation
    security definer
    set search_path = ''
as $$
declare
    thread record;
begin
    select
        k.account_id, k.whatsapp_channel_id, w.phone_number_id,
        num_nonnulls(w.paused_at, a.paused_at) > 0 as is_paused
    into thread
    from public.conversations k
    join public.accounts a
        on a.id = k.account_id
    left join public.whatsapp_channels w
        on w.id = k.whatsapp_channel_id
    where k.id = find_latest_inbound.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', find_latest_inbound.conversation_id);
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this conversation but not answer in it.',
            hint = 'Owners, admins and agents may.';
    elsif thread.whatsapp_channel_id is null then
        raise sqlstate 'PT422' using
            message = 'This conversation is not on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Name a conversation whose channel is whatsapp.';
    end if;

    return (
        select jsonb_build_object(
            'phone_number_id', thread.phone_number_id, 'provider_id', m.provider_id)
        from public.messages m
        where m.conversation_id = find_latest_inbound.conversation_id
          and m.sender_type = 'client'
          and m.provider_id is not null
          -- WhatsApp has no read marks for calls and groups
          and m.type <> 'call'
          and m.customer_id is not null
          -- read marks and typing signs go out, too
          and not thread.is_paused
        order by m.seq desc
        limit 1
    );
end
$$;

grant execute on function private.find_latest_inbound(uuid) to authenticated;


create function public.latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.find_latest_inbound(latest_inbound.conversation_id);
end
$$;

grant execute on function public.latest_inbound(uuid) to authenticated;


comment on function private.find_latest_inbound(uuid) is
    'See latest_inbound.';
comment on function public.latest_inbound(uuid) is
    'The customer''s latest message in a WhatsApp conversation, by WhatsApp''s ids. Null before the first message, for a group, and while the number or the account is paused. For members who may answer.'
    ' Type: {phone_number_id: text, provider_id: text} | null';
