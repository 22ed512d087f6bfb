/*
    Older systems name a conversation by account, number and customer in one string. This function
    finds the conversation for such a key. No other place knows these keys.
*/
create function public.resolve_conversation(reference text)
    returns uuid
    language plpgsql
    stable
    -- invoker: the caller finds only conversations that it may read
    set search_path = ''
as $$
declare
    parts constant text[] := string_to_array(reference, '_');
    found_id uuid;
begin
    if pg_input_is_valid(reference, 'uuid') then
        select c.id
        into found_id
        from public.conversations c
        where c.id = reference::uuid;
    elsif cardinality(parts) = 3 and parts[2] ~ '^[0-9]{1,32}$' and parts[3] ~ '^[0-9]{1,32}$' then
        select c.id
        into found_id
        from public.accounts a
        join public.whatsapp_channels w
            on w.account_id = a.id
        join public.conversations c
            on c.account_id = a.id
           and c.whatsapp_channel_id = w.id
        join public.conversation_activity v
            on v.conversation_id = c.id
        where a.external_id = parts[1]
          and w.phone_number_id = parts[2]
          and c.thread_key = 'phone:' || private.match_key(kind => 'phone', value => parts[3])
        -- the open conversation, or else the latest
        order by (c.status <> 'closed') desc, v.last_message_at desc, c.id
        limit 1;
    else
        raise sqlstate 'PT422' using
            message = 'A conversation is named by its uuid, or by account, number and customer joined by underscores.',
            detail = 'field: reference; reference: ' || coalesce(quote_literal(left(reference, 128)), 'missing'),
            hint = 'Give its uuid, or a key such as 695a15a5c526dbe7c085ece2_1003427786179738_38640111222.';
    end if;

    if found_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'reference: ' || quote_literal(left(reference, 128));
    end if;
    return found_id;
end
$$;

grant execute on function public.resolve_conversation(text) to authenticated;
grant execute on function private.match_key(text, text) to authenticated;


comment on function public.resolve_conversation(text) is
    'The uuid of a conversation, from a uuid or an older key such as 695a15a5c526dbe7c085ece2_1003427786179738_923456789012 (account, phone number id, customer number). Unknown: 404.';
