/*
    Inserts a message by a call. A message with the same client_ref is inserted once; the answer
    is its row, also if it existed before.
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
begin
    insert into public.messages (
        conversation_id, type, message, content, reply_to, client_ref, booking_id, customer_id,
        invoice_data
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
    if not found then
        -- a repeated send returns the message that was sent first
        select m.*
        into posted
        from public.messages m
        where m.id = current_setting('rapport.repeated')::uuid;
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
    'Writes a message and returns its row; a message with the same client_ref is written once. The same as an insert into messages. Give the conversation_id, the booking_id, or the customer_id for the conversation in the portal, which is opened if needed. With invoice_data {invoice_id} staff show an invoice.'
    ' Type: messages';
