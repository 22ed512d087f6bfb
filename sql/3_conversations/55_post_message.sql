/*
    The same as inserting a row, for those who would rather call: once for each client_ref, and
    answered with the row, also where it was written before.
*/
create function public.post_message(
    conversation_id uuid default null,
    message text default null,
    type text default 'text',
    content jsonb default null,
    reply_to uuid default null,
    client_ref text default null,
    booking_id uuid default null,
    customer_id uuid default null,
    invoice_data jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    posted public.messages;
    is_another boolean := false;
begin
    for attempt in 1 .. 2 loop
        -- a repeated send is the message that was sent
        select m.*
        into posted
        from public.messages m
        where m.client_ref = post_message.client_ref
          and m.sender_id = (select auth.uid())::text
          and case
                  when post_message.conversation_id is not null
                      then m.conversation_id = post_message.conversation_id
                  when post_message.booking_id is not null
                      then m.booking_id = post_message.booking_id
                  else exists (
                      select
                      from public.conversations k
                      where k.id = m.conversation_id
                        and k.channel = 'portal'
                  )
                  and (
                      m.customer_id = post_message.customer_id
                      -- merged since: its messages are the kept one's
                      or not exists (
                          select
                          from public.customers c
                          where c.id = post_message.customer_id
                      )
                  )
              end
        limit 1;
        if found then
            -- another message's, unless that one's words were changed since
            is_another := coalesce(posted.edited_at, posted.revoked_at) is null
                and (
                    posted.type <> post_message.type
                    -- a template's are made of its variables
                    or case when post_message.content ? 'variables' then posted.content - 'components'
                            else posted.content end is distinct from post_message.content
                    or posted.message <> nullif(post_message.message, '')
                    or posted.invoice_data ->> 'invoice_id' <> post_message.invoice_data ->> 'invoice_id'
                ) is true;
            exit;
        end if;

        begin
            insert into public.messages (
                conversation_id, type, message, content, reply_to, client_ref, booking_id,
                customer_id, invoice_data
            )
            values (
                post_message.conversation_id,
                post_message.type,
                post_message.message,
                post_message.content,
                post_message.reply_to,
                post_message.client_ref,
                post_message.booking_id,
                post_message.customer_id,
                post_message.invoice_data
            )
            returning * into posted;
            is_another := false;
            exit;
        exception
            when unique_violation then
                -- in another conversation
                is_another := true;
        end;
    end loop;
    if is_another then
        raise sqlstate 'PT409' using
            message = 'You have used this reference for another message.',
            detail = 'field: client_ref',
            hint = 'Give each message a reference of its own.';
    end if;
    return to_jsonb(posted);
end
$$;

grant execute on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
)
    to authenticated;


comment on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
) is
    'Writes in a conversation and answers the message; one of the same client_ref is written once. The same as inserting into messages: say which conversation_id, or which booking_id, or the customer_id for the conversation in the portal, which is opened if need be. With invoice_data {invoice_id} staff show an invoice.';
