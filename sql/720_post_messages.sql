/*
    What an agent or a customer writes: a row, inserted through PostgREST or by post_message,
    which is the same. The database says who writes, numbers it, and queues what goes out.
*/
create function private.tg_messages__post()
    returns trigger
    language plpgsql
    -- definer: a writer may not number messages; who it is is asked here
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    is_staff boolean;
    me constant uuid := auth.uid();
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id;
    is_staff := thread.account_id in (select private.my_writable_account_ids());
    if me is null
        or thread.id is null
        or not (is_staff or thread.customer_id in (select private.my_customer_ids()))
    then
        if thread.account_id in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this conversation, not write in it.',
                hint = 'Owners, admins and agents may.';
        end if;
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', new.conversation_id);
    end if;

    new.account_id := thread.account_id;
    new.customer_id := thread.customer_id;
    new.whatsapp_channel_id := thread.whatsapp_channel_id;
    new.sender_type := case when is_staff then 'operator' else 'client' end;
    new.sender_id := me::text;
    new.sender_name := case
        when is_staff then (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = me
        )
        else (select left(c.name, 200) from public.customers c where c.id = thread.customer_id)
    end;
    perform private.check_post(post => new, channel => thread.channel);

    -- whoever numbers messages holds the conversation's lock
    perform
    from public.conversations k
    where k.id = thread.id
    for no key update;
    perform private.set_conversation_status(conversation_id => thread.id, status => 'open')
    where thread.status = 'closed';

    update public.conversation_activity a
    set last_seq = a.last_seq + 1,
        last_message_at = greatest(a.last_message_at, now()),
        last_inbound_at = case
            when is_staff then a.last_inbound_at
            else greatest(a.last_inbound_at, now())
        end
    where a.conversation_id = thread.id
    returning a.last_seq into new.seq;

    new.sent_at := now();
    new.status := case when thread.channel = 'whatsapp' then 'queued' else 'sent' end;
    return new;
end
$$;


create function private.check_post(post public.messages, channel text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    types constant text[] := case
        when channel = 'whatsapp' then array[
            'text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contacts',
            'interactive', 'reaction', 'template'
        ]
        else array['text']
    end;
begin
    if channel = 'whatsapp' and post.sender_type = 'client' then
        raise sqlstate 'PT422' using
            message = 'This conversation is held on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Write on WhatsApp, or in a conversation of the portal.';
    elsif post.type <> all (types) then
        raise sqlstate 'PT422' using
            message = format('Messages of the type %s are not sent here.', quote_literal(left(post.type, 64))),
            detail = 'field: type',
            hint = format('Known: %s.', array_to_string(types, ', '));
    elsif post.message is null or (post.type = 'text' and btrim(post.message, E' \t\r\n') = '') then
        raise sqlstate 'PT422' using
            message = 'The message is empty.',
            detail = 'field: message';
    elsif length(post.message) > 4096 then
        raise sqlstate 'PT422' using
            message = 'The message is too long.',
            detail = 'field: message',
            hint = 'At most 4,096 characters.';
    elsif (post.type = 'text') <> (post.content is null) or octet_length(post.content::text) > 65536 then
        raise sqlstate 'PT422' using
            message = 'Every type but text has its content, of at most 64 KB.',
            detail = 'field: content',
            hint = 'The object that WhatsApp takes under the name of the type.';
    elsif post.reply_to is not null and not exists (
        select
        from public.messages m
        where m.id = post.reply_to
          and m.conversation_id = post.conversation_id
    ) then
        raise sqlstate 'PT422' using
            message = 'What is answered is not in this conversation.',
            detail = 'field: reply_to';
    elsif channel = 'whatsapp'
        and post.type <> 'template'
        and coalesce(private.window_closes_at(post.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    end if;
end
$$;


create trigger _010_post
    before insert on public.messages
    for each row
    -- what WhatsApp delivers comes numbered
    when (new.seq is null)
    execute function private.tg_messages__post();


create function private.enqueue_messages(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    select m.id, m.whatsapp_channel_id, m.conversation_id, m.seq
    from public.messages m
    where m.id = any (message_ids);
    perform private.ring('deliver_outbound');
end
$$;


create policy "agents and customers can write in their conversations"
    on public.messages
    for insert
    to authenticated
    with check (
        sender_id = (select auth.uid())::text
        and case sender_type
                when 'operator' then
                    account_id = any (array(select private.my_writable_account_ids()))
                when 'client' then
                    customer_id = any (array(select private.my_customer_ids()))
                else false
            end
    );


-- everything else is the database's to say
grant insert (id, conversation_id, type, message, content, reply_to, client_ref)
    on public.messages to authenticated;


create function public.post_message(
    conversation_id uuid,
    message text,
    type text default 'text',
    content jsonb default null,
    reply_to uuid default null,
    client_ref text default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    posted public.messages;
begin
    for attempt in 1 .. 2 loop
        -- a repeated send is the message that was sent
        select m.*
        into posted
        from public.messages m
        where m.client_ref = post_message.client_ref
          and m.conversation_id = post_message.conversation_id
          and m.sender_id = (select auth.uid())::text
        limit 1;
        exit when found;

        begin
            insert into public.messages (conversation_id, type, message, content, reply_to, client_ref)
            values (
                post_message.conversation_id,
                post_message.type,
                post_message.message,
                post_message.content,
                post_message.reply_to,
                post_message.client_ref
            )
            returning * into posted;
            exit;
        exception
            when unique_violation then
                if attempt = 2 then
                    raise sqlstate 'PT409' using
                        message = 'You have used this reference for another message.',
                        detail = 'field: client_ref',
                        hint = 'Give each message a reference of its own.';
                end if;
        end;
    end loop;
    return to_jsonb(posted);
end
$$;

grant execute on function public.post_message(uuid, text, text, jsonb, uuid, text)
    to authenticated;


comment on function private.tg_messages__post() is
    'Completes what somebody writes: who, whose, which number in the conversation.';
comment on function private.check_post(public.messages, text) is
    'Refuses what can not be sent on a channel, naming the field.';
comment on function private.enqueue_messages(uuid[]) is
    'Puts messages that are to be sent by WhatsApp into the queue.';
comment on policy "agents and customers can write in their conversations" on public.messages is
    'As themselves; on WhatsApp only staff write here.';
comment on function public.post_message(uuid, text, text, jsonb, uuid, text) is
    'Writes in a conversation and answers the message; one of the same client_ref is written once. The same as inserting into messages.';
