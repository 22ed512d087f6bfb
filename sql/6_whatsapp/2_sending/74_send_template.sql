/*
    A template that is sent now to a customer, who may never have written: the conversation is opened
    and the message queued in one transaction.
*/
create function private.thread_for_template(customer_id uuid, template jsonb)
    returns uuid
    language plpgsql
    -- definer: users may not open conversations; it checks the caller
    security definer
    set search_path = ''
as $$
begin
    return private.whatsapp_thread_of_customer(
        customer_id => thread_for_template.customer_id,
        template => thread_for_template.template
    );
end
$$;

grant execute on function private.thread_for_template(uuid, jsonb) to authenticated;


create function public.send_template(customer_id uuid, template jsonb, client_ref text default null)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return public.post_message(
        conversation_id => private.thread_for_template(
            customer_id => send_template.customer_id,
            template => coalesce(send_template.template, '{}')
        ),
        type => 'template',
        content => send_template.template,
        client_ref => send_template.client_ref
    );
end
$$;

grant execute on function public.send_template(uuid, jsonb, text) to authenticated;


comment on function private.thread_for_template(uuid, jsonb) is
    'The customer''s conversation on WhatsApp for a template of the caller''s, which opens it if there is none.';
comment on function public.send_template(uuid, jsonb, text) is
    'Sends a template on WhatsApp to a customer, and opens the conversation if the customer has never written; template is {name, language, variables}. Returns the message; one with the same client_ref is sent once. A customer without a proved number is refused (422), and so is an account whose numbers are all stopped (409).'
    ' Type: messages';
