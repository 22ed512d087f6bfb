/*
    What follows from new messages, whoever writes them: nearly always one statement. A trigger's
    condition for each row is read anew in every statement: four of them took 6 % of ingest.

    There is no foreign key to the number: all messages of a number would queue for its one row.
    None to the booking: it would be locked after its conversation, and whoever moves both locks
    it before. And none to the conversation beside the one that is there: clients that read
    conversations with their messages would have to say by which. So both are checked here.
*/
create function private.tg_messages__follow_up()
    returns trigger
    language plpgsql
    -- definer: the conversation is looked at, and the queues are written, whoever writes
    security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
as $$
declare
    media_types constant text[] := array['image', 'video', 'audio', 'document', 'sticker'];
    is_of_its_thread boolean;
    has_more boolean;
    queued uuid[];
    with_media uuid[];
    with_upload uuid[];
begin
    select
        bool_and(
            thread.is_there is not null
            and thread.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
            and thread.booking_id is not distinct from n.booking_id
        ),
        bool_or(n.status = 'queued' or n.type = any (media_types))
    into is_of_its_thread, has_more
    from new_rows n
    left join lateral (
        select true as is_there, c.whatsapp_channel_id, c.booking_id
        from public.conversations c
        where c.id = n.conversation_id
        limit 1
    ) thread on true;

    if not is_of_its_thread then
        raise foreign_key_violation using
            message = 'A message has the WhatsApp number and the booking of its conversation.';
    end if;
    if not has_more then
        return null;
    end if;

    select
        array_agg(n.id) filter (where n.status = 'queued'),
        -- it came by WhatsApp: from the customer, or as an echo of what our phone app sent
        array_agg(n.id) filter (where n.type = any (media_types) and n.provider_id is not null),
        -- other files are WhatsApp's own, by id, or lie at a link
        array_agg(n.id) filter (
            where n.type = any (media_types)
              and n.status = 'queued'
              and n.content ? 'upload_id'
        )
    into queued, with_media, with_upload
    from new_rows n;
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

create trigger _500_follow_up
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__follow_up();


comment on function private.tg_messages__follow_up() is
    'Holds messages to the WhatsApp number and the booking of their conversation, and with that to its tenant; notes their files and queues what is to be sent.';
