/*
    The effects of new messages, from every writer: they are checked against their conversation, and
    queued. Like all followed tables, messages are logged and broadcast by private.tg__publish. (A
    way of their own, without JSON, was measured: 4% less work for a webhook.)

    Three foreign keys are missing on purpose, so this function checks instead. To the number: all
    messages of a number would queue for one row. To the booking: it would be locked after its
    conversation, and a merge locks it before. A second one to the conversation: a client that
    embeds messages in conversations would have to name the key.
*/
create function private.tg_messages__take_new()
    returns trigger
    language plpgsql
    -- definer: reads the conversation, and writes the queues, for every writer
    security definer
    set search_path = ''
    -- as in the followed tables' own triggers
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    media_types constant text[] := array['image', 'video', 'audio', 'document', 'sticker'];
    is_of_its_thread boolean;
    queued uuid[];
    with_media uuid[];
    with_upload uuid[];
begin
    select
        bool_and(
            thread.is_there is not null
            -- the foreign key checks none of this for a group
            and thread.account_id = n.account_id
            and thread.customer_id is not distinct from n.customer_id
            and thread.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
            and thread.booking_id is not distinct from n.booking_id
        ),
        array_agg(n.id) filter (where n.status = 'queued'),
        -- It came by WhatsApp: from the customer, or as an echo from our phone app.
        array_agg(n.id) filter (where n.type = any (media_types) and n.provider_id is not null),
        -- other files are at WhatsApp, by id, or at a link
        array_agg(n.id) filter (
            where n.type = any (media_types)
              and n.status = 'queued'
              and n.content ? 'upload_id'
        )
    into is_of_its_thread, queued, with_media, with_upload
    from new_rows n
    left join lateral (
        select
            true as is_there, c.account_id, c.customer_id, c.whatsapp_channel_id, c.booking_id
        from public.conversations c
        where c.id = n.conversation_id
        limit 1
    ) thread on true;
    if not is_of_its_thread then
        raise foreign_key_violation using
            message = 'A message must have the account, the customer, the WhatsApp number and the booking of its conversation.';
    end if;
    if with_media is not null then
        perform private.expect_media(with_media);
    end if;
    if with_upload is not null then
        perform private.attach_uploads(with_upload);
    end if;
    if queued is not null then
        perform private.enqueue_messages(queued);
    end if;
    return null;
end
$$;

create trigger _950_take_new
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__take_new();


comment on function private.tg_messages__take_new() is
    'Checks the WhatsApp number and the booking of new messages against their conversation and so the tenant, notes their files, and queues the messages to send.';
