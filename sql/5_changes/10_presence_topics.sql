/*
    The topics by which people see each other. On them clients do send, each side on its own,
    and the other one listens:

        presence:desk:<account>:<epoch>             staff who are there; customers look on: an
                                                    epoch of its own, see desk_epochs
        presence:staff:<conversation>:<epochs>      staff who are in a conversation
        presence:customer:<conversation>:<epochs>   its customer
        typing:staff:<conversation>:<epochs>        staff who are writing, as broadcasts
        typing:customer:<conversation>:<epochs>     its customer

    What is sent there is a sign, not data: whoever may send may send anything. A sign is its
    topic's side's, and names come from conversation_people. A customer's topics are of one
    conversation, so that no customer sees another.
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
    -- with the conversation's epochs: whoever leaves it leaves all of its topics
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
    -- definer: who is hidden a conversation is on no side of it
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
    -- what a presence topic takes is presence, and a typing topic broadcasts
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


-- No data topic is among them: what comes on those comes from the database.
create policy "people can show that they are there and writing"
    on realtime.messages
    for insert
    to authenticated
    with check (
        -- of the topic that is being written to, whatever the row says
        topic = (select realtime.topic())
        and private.may_send((select realtime.topic()), realtime.messages.extension)
    );


comment on function private.desk_topic(uuid) is
    'The topic on which an account''s staff show that they are there.';
comment on function private.signs_topic(text, text, uuid, uuid, uuid) is
    'A topic on which one side of a conversation shows that it is there (presence) or writing (typing).';
comment on function private.side_of_caller(uuid) is
    'staff or customer, as which the signed-in user is in a conversation; null where it is hidden.';
comment on function private.may_send(text, text) is
    'Whether the signed-in user may send presence or a broadcast on a topic: signs of its own side, and never data.';
comment on policy "people can show that they are there and writing" on realtime.messages is
    'Staff on the desk''s and on staff''s topics, customers on their own; data topics are read-only for clients.';
