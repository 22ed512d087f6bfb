/*
    The effects of new messages, from every writer. They are logged and broadcast, as
    publish_changes does for all other tables; checked against their conversation; and queued.
    Usually this is one statement, since starting a statement is the main cost. Each column is read
    as it is: publishing by way of JSON took a third of the time of an inbound message.

    Three foreign keys are missing on purpose, so this function checks instead. To the number: all
    messages of a number would queue for one row. To the booking: it would be locked after its
    conversation, and a merge locks it before. A second one to the conversation: a client that
    embeds messages in conversations would have to name the key.
*/
create function private.tg_messages__publish_new()
    returns trigger
    language plpgsql
    -- definer: reads the conversation, and writes the log, the topics and the queues, for every
    -- writer
    security definer
    set search_path = ''
    -- as in the followed tables' own triggers
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    media_types constant text[] := array['image', 'video', 'audio', 'document', 'sticker'];
    published integer;
    source refcursor;
    is_of_its_thread boolean;
    has_more boolean;
    queued uuid[];
    with_media uuid[];
    with_upload uuid[];
begin
    begin
        with news as materialized (
            select
                n.id,
                n.account_id,
                n.customer_id,
                n.conversation_id,
                n.version,
                n.status = 'queued' or n.type = any (media_types) as has_more,
                thread.is_there is not null
                    -- the foreign key checks none of this for a group
                    and thread.account_id = n.account_id
                    and thread.customer_id is not distinct from n.customer_id
                    and thread.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
                    and thread.booking_id is not distinct from n.booking_id as is_of_its_thread,
                -- a customer without a login can't listen
                (
                    select c.portal_user_id
                    from public.customers c
                    where c.id = n.customer_id
                ) is not null as has_login,
                (
                    select true
                    from private.topic_epochs e
                    where e.owner_id in (n.account_id, n.customer_id, n.conversation_id)
                    limit 1
                ) as somebody_left,
                jsonb_build_object(
                    'table', 'messages',
                    'id', n.id,
                    'version', n.version,
                    'operation', 'INSERT',
                    'record', to_jsonb(n) - private.unshown_columns('messages'),
                    'old_record', null
                ) as payload
            from new_rows n
            left join lateral (
                select
                    true as is_there, c.account_id, c.customer_id, c.whatsapp_channel_id,
                    c.booking_id
                from public.conversations c
                where c.id = n.conversation_id
                limit 1
            ) thread on true
            -- larger statements may make one resync; quiet transactions broadcast at their end
            where (select count(*) from new_rows) <= 100
              and current_setting('rapport.broadcast_later', true) is distinct from 'on'
        ),
        logged as (
            insert into private.changes (
                account_id, customer_id, conversation_id, table_name, row_id, operation, version
            )
            select
                n.account_id, n.customer_id, n.conversation_id, 'messages', n.id, 'INSERT',
                n.version
            from news n
        ),
        told as (
            insert into realtime.messages (topic, extension, event, payload, private)
            select
                t.topic,
                'broadcast',
                'messages.inserted',
                -- as in private.change_event
                case
                    when pg_column_size(n.payload) > 16384
                        and octet_length(n.payload::text) > 65536
                        then n.payload - array['record', 'old_record']
                    else n.payload
                end,
                true
            from news n
            -- as in private.row_topics
            cross join lateral (
                values
                    (
                        case
                            when n.somebody_left then private.account_topic(n.account_id)
                            else 'account:' || n.account_id || ':0'
                        end
                    ),
                    (
                        case
                            when not n.has_login then null
                            when n.somebody_left then private.customer_topic(n.customer_id)
                            else 'customer:' || n.customer_id || ':0'
                        end
                    ),
                    (
                        case
                            when n.somebody_left then private.conversation_topic(
                                n.conversation_id, n.account_id, n.customer_id)
                            else 'conversation:' || n.conversation_id || ':0'
                        end
                    )
            ) as t (topic)
            where t.topic is not null
        )
        select count(*), bool_and(n.is_of_its_thread), bool_or(n.has_more)
        into published, is_of_its_thread, has_more
        from news n;
    exception
        when others then
            -- As in broadcast_changes: a failed broadcast does not stop the write.
            raise warning 'publishing in haste failed: %', sqlerrm using errcode = sqlstate;
            published := 0;
    end;

    if published = 0 then
        open source for select null::jsonb, to_jsonb(n) from new_rows n;
        published := private.publish_from(
            private.followed_table('messages'), operation => 'INSERT', source => source);
        close source;

        has_more := true;
        select bool_and(
            thread.is_there is not null
            and thread.account_id = n.account_id
            and thread.customer_id is not distinct from n.customer_id
            and thread.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
            and thread.booking_id is not distinct from n.booking_id
        )
        into is_of_its_thread
        from new_rows n
        left join lateral (
            select
                true as is_there, c.account_id, c.customer_id, c.whatsapp_channel_id,
                c.booking_id
            from public.conversations c
            where c.id = n.conversation_id
            limit 1
        ) thread on true;
    end if;

    if not is_of_its_thread then
        raise foreign_key_violation using
            message = 'A message must have the account, the customer, the WhatsApp number and the booking of its conversation.';
    end if;
    if not has_more then
        return null;
    end if;

    select
        array_agg(n.id) filter (where n.status = 'queued'),
        -- It came by WhatsApp: from the customer, or as an echo from our phone app.
        array_agg(n.id) filter (where n.type = any (media_types) and n.provider_id is not null),
        -- other files are at WhatsApp, by id, or at a link
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

create trigger _500_publish_new
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__publish_new();


comment on function private.tg_messages__publish_new() is
    'Logs and broadcasts new messages, checks the WhatsApp number and the booking against their conversation and so the tenant, notes their files, and queues the messages to send.';
