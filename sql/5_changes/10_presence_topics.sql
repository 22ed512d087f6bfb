/*
    Topics that show people to each other. Here clients send, each side on its own topic, and the
    other side listens:

        presence:desk:<account>:<epoch>             staff at the desk; customers may watch; its
                                                    epoch is its own, see desk_epochs
        presence:staff:<conversation>:<epochs>      staff who are in a conversation
        presence:customer:<conversation>:<epochs>   its customer
        typing:staff:<conversation>:<epochs>        staff who are writing, as broadcasts
        typing:customer:<conversation>:<epochs>     its customer

    Messages here are signs, not data: a sender can send anything. A topic belongs to one side, and
    names come from conversation_people. A customer's topics belong to one conversation, so no
    customer sees another one.
*/
create function private.desk_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.desk_topic(
        account_id => desk_topic.account_id,
        epoch => private.desk_epoch(account_id)
    );
end
$$;


create function private.signs_topic(
    kind text,
    side text,
    conversation_id uuid,
    account_id uuid,
    customer_id uuid
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- With the conversation's epochs: leaving a conversation renames all of its topics.
    return kind || ':' || side || substr(
        private.conversation_topic(conversation_id, account_id, customer_id),
        length('conversation:')
    );
end
$$;


create function private.side_of_caller(conversation_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: a caller who may not see the conversation is on neither side of it
    security definer
    set search_path = ''
as $$
begin
    return (
        select case
            when c.account_id in (select private.my_account_ids()) then 'staff'
            when c.customer_id in (select private.my_customer_ids()) then 'customer'
        end
        from public.conversations c
        where c.id = side_of_caller.conversation_id
    );
end
$$;


create function private.may_send(topic text, extension text)
    returns boolean
    language plpgsql
    stable
    -- definer: as may_receive
    security definer
    set search_path = ''
as $$
declare
    side constant text := split_part(topic, ':', 2);
    -- Presence topics take presence, typing topics take broadcasts.
    sign constant text := case extension
        when 'presence' then 'presence'
        when 'broadcast' then 'typing'
    end;
begin
    if sign is null or split_part(topic, ':', 1) <> sign or not private.may_receive(topic) then
        return false;
    elsif side = 'desk' then
        return split_part(topic, ':', 3)::uuid in (select private.my_account_ids());
    end if;
    return side = private.side_of_caller(split_part(topic, ':', 3)::uuid)
        and (
            sign = 'presence'
            or side = 'customer'
            -- viewers write nothing
            or exists (
                select
                from public.conversations c
                where c.id = split_part(topic, ':', 3)::uuid
                  and c.account_id in (select private.my_writable_account_ids())
            )
        );
end
$$;

grant execute on function private.may_send(text, text) to authenticated;


-- Staff send on the topics of the desk and of staff, customers on their own. No data topic is among
-- them: only the database sends on those.
create policy "people can show that they are there and writing"
    on realtime.messages
    for insert
    to authenticated
    with check (
        -- the topic that the client writes to; the row could name another one
        topic = (select realtime.topic())
        and private.may_send((select realtime.topic()), realtime.messages.extension)
    );


comment on function private.desk_topic(uuid) is
    'The topic on which an account''s staff show that they are present.';
comment on function private.signs_topic(text, text, uuid, uuid, uuid) is
    'A topic on which one side of a conversation shows that it is present (presence) or writing (typing).';
comment on function private.side_of_caller(uuid) is
    'The side of the signed-in user in a conversation: staff or customer; null where the user may not see it.';
comment on function private.may_send(text, text) is
    'Whether the signed-in user may send presence or a broadcast on a topic. Users send signs of their own side, never data.';
