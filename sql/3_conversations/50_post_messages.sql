/*
    A message that staff or a customer writes: a row, inserted through PostgREST or by
    post_message, which does the same. It goes to a conversation, to a booking's, or to the
    customer's in the portal. The database fills in the sender, numbers the message, and queues it
    for WhatsApp.
*/
create function private.tg_messages__post()
    returns trigger
    language plpgsql
    -- definer: users may not number messages; the caller is checked here
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    is_staff boolean;
    me constant uuid := auth.uid();
    -- the column by which the writer names the conversation
    named_by constant text := case
        when new.conversation_id is not null then 'conversation_id'
        when new.booking_id is not null then 'booking_id'
        else 'customer_id'
    end;
    named constant uuid :=
        coalesce(new.conversation_id, new.booking_id, new.customer_id);
begin
    if named is null then
        raise sqlstate 'PT422' using
            message = 'The message names no conversation.',
            detail = 'field: conversation_id',
            hint = 'Give the conversation_id, the booking_id, or the customer_id for the conversation in the portal.';
    elsif named_by = 'booking_id' then
        select k.id
        into new.conversation_id
        from public.conversations k
        where k.booking_id = new.booking_id;
    elsif named_by = 'customer_id' and me is not null then
        new.conversation_id := private.thread_of_customer(new.customer_id);
    end if;

    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id;
    is_staff := thread.account_id in (select private.my_writable_account_ids());
    if me is null
        or thread.id is null
        -- a group has no customer: then the condition is null, which is not true
        or (is_staff or thread.customer_id in (select private.my_customer_ids())) is not true
    then
        if thread.account_id in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this conversation, not write in it.',
                hint = 'Owners, admins and agents may.';
        end if;
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = case named_by
                when 'conversation_id'
                    then format('field: conversation_id; conversation: %s', named)
                else format('field: %s', named_by)
            end;
    elsif new.booking_id <> thread.booking_id
        or (new.booking_id is not null and thread.booking_id is null)
    then
        raise sqlstate 'PT422' using
            message = 'This conversation is not about that booking.',
            detail = 'field: booking_id',
            hint = 'Give only one of the two.';
    end if;

    -- a message is numbered under the conversation's lock; read the conversation again, because it
    -- may have moved to another contact during the wait
    select k.*
    into thread
    from public.conversations k
    where k.id = thread.id
    for no key update;
    if exists (select from public.contacts c where c.id = thread.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this conversation was deleted.',
            detail = 'field: conversation_id',
            hint = 'When the person writes again, a new conversation opens.';
    end if;
    perform private.require_room(account_id => thread.account_id, kind => 'messages');
    new.account_id := thread.account_id;
    new.customer_id := thread.customer_id;
    new.booking_id := thread.booking_id;
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
    new.invoice_data := private.check_invoice_data(post => new, channel => thread.channel);
    new.has_invoice := new.invoice_data is not null;
    if new.has_invoice then
        new.message := coalesce(new.message, 'Invoice ' || (new.invoice_data ->> 'number'));
    end if;
    if is_staff and thread.channel = 'whatsapp' and new.type = 'template' and new.content ? 'variables' then
        new := private.fill_template(new);
    end if;
    if new.type <> 'text' and new.content is not null then
        new.message := coalesce(
            nullif(new.message, ''),
            private.words_of_content(type => new.type, content => new.content)
        );
    end if;
    perform private.check_post(post => new, channel => thread.channel);

    -- A message that exists already takes no number: this row will conflict, and an upsert may
    -- skip it. Transactions that write the same id take turns, in all conversations. The lock
    -- keeps the existing message until this row is refused.
    perform pg_advisory_xact_lock(hashtextextended('message ' || new.id, 0));
    perform
    from public.messages m
    where m.id = new.id
    for key share;
    if found then
        new.seq := 0;
        new.status := 'sent';
        return new;
    end if;

    perform private.set_conversation_status(conversation_id => thread.id, status => 'open')
    where thread.status = 'closed';

    -- numbered as everywhere, see conversation_activity.last_seq
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


create function private.check_post(
    post public.messages,
    channel text,
    -- null: the writer of the message checks WhatsApp's window
    at timestamptz default now()
)
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
            message = case
                when btrim(post.type, E' \t\r\n') = '' then 'A message needs a type.'
                else format('Messages of the type %s can''t be sent here.', quote_literal(left(post.type, 64)))
            end,
            detail = 'field: type',
            hint = format('Known: %s.', array_to_string(types, ', '));
    elsif (post.type = 'text') <> (post.content is null) or octet_length(post.content::text) > 65536 then
        raise sqlstate 'PT422' using
            message = 'Every type except text needs a content, of at most 64 KB; a text has none.',
            detail = 'field: content',
            hint = 'Send the object that WhatsApp takes under the name of the type.';
    elsif post.message is null or (post.type = 'text' and private.is_blank(post.message)) then
        raise sqlstate 'PT422' using
            message = 'The message is empty.',
            detail = 'field: message',
            hint = 'Write 1 to 4,096 characters.';
    elsif length(post.message) > 4096 then
        raise sqlstate 'PT422' using
            message = format('The message has %s characters; 4,096 are allowed.', length(post.message)),
            detail = 'field: message',
            hint = 'Shorten it, or send it in parts.';
    elsif post.reply_to is not null and not exists (
        select
        from public.messages m
        where m.id = post.reply_to
          and m.conversation_id = post.conversation_id
    ) then
        raise sqlstate 'PT422' using
            message = 'The message that is answered is not in this conversation.',
            detail = 'field: reply_to',
            hint = 'Give the id of a message of this conversation.';
    elsif channel = 'whatsapp'
        and post.type <> 'template'
        and coalesce(private.window_closes_at(post.conversation_id), '-infinity') <= at
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    elsif post.content is not null then
        perform private.check_content(post);
    end if;
    if channel = 'whatsapp' then
        perform private.check_recipient(post);
    end if;
end
$$;


create trigger _010_post
    before insert on public.messages
    for each row
    -- messages from WhatsApp have a number already
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


-- the database fills in all other columns
select private.guard_table(
    'messages',
    inserted => array[
        'id', 'conversation_id', 'type', 'message', 'content', 'reply_to', 'client_ref',
        'booking_id', 'customer_id', 'has_invoice', 'invoice_data'
    ]
);


comment on function private.tg_messages__post() is
    'Completes a message that a user writes: sender, account, customer, and number in the conversation.';
comment on function private.check_post(public.messages, text, timestamptz) is
    'Refuses a message that can''t be sent on a channel, and names the field.';
comment on function private.enqueue_messages(uuid[]) is
    'Puts messages into the queue for WhatsApp, and wakes the worker that sends them.';
comment on policy "agents and customers can write in their conversations" on public.messages is
    'Users write as themselves. On WhatsApp only staff write here.';


create trigger _002_hold_to_request
    before insert on public.messages
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_messages__hold_to_request();

select private.limit_writes('messages', '{insert}');
