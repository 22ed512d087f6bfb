/*
    Messages that are sent later. Until its time such a message is a row of this table alone: no
    customer sees it, and it has no number in its conversation. At its time one transaction posts
    it in the name of its author, as post_message does, and marks the row as sent. The message gets
    the row's id, so it can't be posted twice.

        waiting ──► sent
           │  └───► failed      (the sentence in error_message says why)
           └──────► cancelled

    WhatsApp's window may be closed at that time. So a row needs a template for that case, unless
    the window will still be open: its author hears of it on writing.
*/
create table public.scheduled_messages (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- null in a group
    customer_id     uuid,
    author_id       uuid not null,
    author_name     text not null,
    type            text not null default 'text',
    message         text not null,
    content         jsonb,
    reply_to        uuid,
    -- the content of a message of type template
    template        jsonb,
    wanted_at       timestamptz not null,
    send_at         timestamptz not null,
    status          text not null default 'waiting'
                    constraint scheduled_messages_status_check
                    check (status in ('waiting', 'sent', 'cancelled', 'failed')),
    error_message   text,
    -- when the worker looks at it: send_at, or later where a try was in vain
    due_at          timestamptz not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    -- a conversation that moves to another contact takes its rows with it
    constraint scheduled_messages_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint scheduled_messages_error_message_check
        check ((status = 'failed') = (error_message is not null))
);
alter table public.scheduled_messages enable row level security;


create index scheduled_messages_due_at_idx
    on public.scheduled_messages (due_at)
    where status = 'waiting';

-- how many wait in each conversation of the inbox
create index scheduled_messages_waiting_idx
    on public.scheduled_messages (conversation_id)
    where status = 'waiting';

-- what is finished is deleted after a time
create index scheduled_messages_finished_idx
    on public.scheduled_messages (updated_at)
    where status <> 'waiting';

create index scheduled_messages_conversation_idx
    on public.scheduled_messages (conversation_id, send_at);

create index scheduled_messages_account_id_idx
    on public.scheduled_messages (account_id, send_at);


create policy "members can read what is sent later"
    on public.scheduled_messages
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));

create policy "owners, admins and agents can write what is sent later"
    on public.scheduled_messages
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- A reader who may not change a row is refused, instead of changing no row.
create policy "owners, admins and agents can change what is sent later"
    on public.scheduled_messages
    for update
    to authenticated
    using (account_id = any (array(select private.my_account_ids())))
    with check (account_id = any (array(select private.my_writable_account_ids())));


grant select on public.scheduled_messages to authenticated;


create function private.check_template_for_later(post public.messages, template jsonb)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    field text;
    remedy text;
begin
    post.type := 'template';
    post.content := template;
    if template ? 'variables' then
        post := private.fill_template(post);
    end if;
    perform private.check_content(post);
    perform private.check_recipient(post);
exception
    when sqlstate 'PT422' then
        get stacked diagnostics field = pg_exception_detail, remedy = pg_exception_hint;
        raise sqlstate 'PT422' using
            message = sqlerrm,
            detail = regexp_replace(field, '^field: (content|type)', 'field: template'),
            hint = remedy;
end
$$;


create function private.tg_scheduled_messages__check()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers; the caller is checked here
    security definer
    set search_path = ''
as $$
declare
    -- beside the conversation; a customer in place of one may be merged into another meanwhile
    named constant uuid := case
        when tg_op = 'INSERT' and new.conversation_id is not null then new.customer_id
    end;
    thread public.conversations;
    post public.messages;
    closes_at timestamptz;
begin
    if tg_op = 'UPDATE' and old.status <> 'waiting' then
        raise sqlstate 'PT409' using
            message = format(
                'This message is %s and can''t be changed.',
                case old.status when 'sent' then 'sent already' else old.status end
            ),
            detail = 'field: status',
            hint = 'Write another one.';
    elsif tg_op = 'UPDATE' and new.status not in ('waiting', 'cancelled') then
        raise sqlstate 'PT422' using
            message = 'A message that waits can only be cancelled.',
            detail = 'field: status',
            hint = 'Use cancelled. The schedule sends it at its time.';
    elsif new.status = 'cancelled' then
        return new;
    end if;

    if tg_op = 'INSERT' and new.conversation_id is null then
        if new.customer_id is null then
            raise sqlstate 'PT422' using
                message = 'The message names no conversation.',
                detail = 'field: conversation_id',
                hint = 'Give the conversation_id, or the customer_id for the customer''s conversation on WhatsApp.';
        end if;
        new.conversation_id := private.whatsapp_thread_of_customer(
            customer_id => new.customer_id,
            template => case new.type when 'template' then new.content else new.template end
        );
    end if;
    -- a merge moves it to another contact, and a deletion must find the row. A row that is there
    -- already is locked before its conversation and moves along.
    if tg_op = 'INSERT' then
        perform
        from public.conversations k
        where k.id = new.conversation_id
          and k.account_id in (select private.my_writable_account_ids())
        for share;
    end if;
    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'field: conversation_id';
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this conversation, not write in it.',
            hint = 'Owners, admins and agents may.';
    elsif exists (
        select
        from public.contacts c
        where c.id = thread.customer_id
          and c.deleted_at is not null
    ) then
        raise sqlstate 'PT422' using
            message = 'The contact of this conversation was deleted.',
            detail = 'field: conversation_id',
            hint = 'When the person writes again, a new conversation opens.';
    elsif named <> thread.customer_id or named is not null and thread.customer_id is null then
        raise sqlstate 'PT422' using
            message = 'The conversation is not this customer''s.',
            detail = 'field: customer_id',
            hint = 'Leave it out, or give it in place of the conversation_id.';
    elsif new.send_at is null then
        raise sqlstate 'PT422' using
            message = 'send_at is needed.',
            detail = 'field: send_at',
            hint = 'Give the time at which to send it.';
    end if;

    if tg_op = 'INSERT' then
        new.account_id := thread.account_id;
        new.customer_id := thread.customer_id;
    end if;
    -- nobody's words are sent in another's name
    if tg_op = 'INSERT'
        or (new.type, new.message, new.content, new.reply_to, new.template)
            is distinct from (old.type, old.message, old.content, old.reply_to, old.template)
    then
        new.author_id := auth.uid();
        new.author_name := (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = new.author_id
        );
    end if;
    if tg_op = 'INSERT' or new.send_at <> old.send_at then
        if new.send_at not between now() and now() + interval '1 year' then
            raise sqlstate 'PT422' using
                message = 'A message can be sent later within the next year.',
                detail = 'field: send_at',
                hint = 'Give a time between now and a year from now.';
        end if;
        new.wanted_at := new.send_at;
        new.send_at := private.after_quiet_hours(new.account_id, new.send_at);
        new.due_at := new.send_at;
    end if;

    post.id := new.id;
    post.account_id := thread.account_id;
    post.conversation_id := thread.id;
    post.customer_id := thread.customer_id;
    post.whatsapp_channel_id := thread.whatsapp_channel_id;
    post.sender_type := 'operator';
    post.type := new.type;
    post.content := new.content;
    post.reply_to := new.reply_to;
    post.message := new.message;
    -- the text that was made from the former content
    if tg_op = 'UPDATE' and new.content is distinct from old.content and new.message = old.message then
        post.message := null;
    end if;
    if thread.channel = 'whatsapp' and post.type = 'template' and post.content ? 'variables' then
        post := private.fill_template(post);
    end if;
    if post.type <> 'text' and post.content is not null then
        post.message := coalesce(
            nullif(post.message, ''),
            private.words_of_content(type => post.type, content => post.content)
        );
    end if;
    perform private.check_post(post => post, channel => thread.channel, at => null);
    perform private.check_upload(post);
    new.message := post.message;

    if new.template is not null then
        if thread.channel <> 'whatsapp' or new.type = 'template' then
            raise sqlstate 'PT422' using
                message = 'Only a message on WhatsApp that is no template itself takes a template for a closed window.',
                detail = 'field: template',
                hint = 'Leave it out.';
        end if;
        perform private.check_template_for_later(post => post, template => new.template);
    elsif thread.channel = 'whatsapp' and new.type <> 'template' then
        closes_at := private.window_closes_at(thread.id);
        if coalesce(closes_at, '-infinity') <= new.send_at then
            raise sqlstate 'PT422' using
                message = case
                    when closes_at > now() then format(
                        'WhatsApp takes free text until %s only, before this message is to be sent (%s).',
                        private.local_time(thread.account_id, closes_at),
                        private.local_time(thread.account_id, new.send_at)
                    )
                    else 'WhatsApp takes no free text now: more than 24 hours have passed since the person last wrote.'
                end,
                detail = 'field: template',
                hint = 'Name a template, {name, language}, which is sent if the person has not written again by then.';
        end if;
    end if;
    return new;
end
$$;


create trigger _010_check
    before insert or update on public.scheduled_messages
    for each row
    when (current_user = 'authenticated')
    execute function private.tg_scheduled_messages__check();

create trigger _050_keep_owner
    before update of account_id, conversation_id on public.scheduled_messages
    for each row
    when (
        (new.account_id, new.conversation_id)
        is distinct from
        (old.account_id, old.conversation_id)
    )
    execute function private.tg__keep_owner('account_id', 'conversation_id');

create trigger _100_stamp_change
    before update on public.scheduled_messages
    for each row
    execute function private.tg__stamp_change();


create function private.tg_scheduled_messages__ring()
    returns trigger
    language plpgsql
    -- definer: users may not wake workers
    security definer
    set search_path = ''
as $$
begin
    perform private.ring('send_later');
    return null;
end
$$;

-- what is due before the schedule's next run
create trigger _600_ring_insert
    after insert on public.scheduled_messages
    for each row
    when (new.due_at < now() + interval '1 minute')
    execute function private.tg_scheduled_messages__ring();

create trigger _600_ring_update
    after update of send_at on public.scheduled_messages
    for each row
    when (
        new.status = 'waiting'
        and new.due_at < old.due_at
        and new.due_at < now() + interval '1 minute'
    )
    execute function private.tg_scheduled_messages__ring();


create function private.send_scheduled(scheduled_id uuid, conversation_id uuid, at timestamptz)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    claims constant text := coalesce(current_setting('request.jwt.claims', true), '');
    waiting public.scheduled_messages;
    takes_template boolean;
    allowed_at timestamptz;
    posted_as text;
    broken text;
begin
    -- the conversation before its rows, as everywhere; other holders need only a moment
    perform
    from public.conversations k
    where k.id = send_scheduled.conversation_id
    for no key update skip locked;
    if not found then
        return 'busy';
    end if;
    select s.*
    into waiting
    from public.scheduled_messages s
    where s.id = scheduled_id
      and s.status = 'waiting'
      and s.due_at <= at
    for update;
    if not found then
        -- cancelled, changed, or sent by another worker
        return 'gone';
    end if;

    allowed_at := private.after_quiet_hours(waiting.account_id, at);
    if allowed_at > at then
        update public.scheduled_messages s
        set send_at = allowed_at,
            due_at = allowed_at
        where s.id = scheduled_id;
        return 'moved';
    end if;

    takes_template := waiting.template is not null
        and coalesce(private.window_closes_at(waiting.conversation_id), '-infinity') <= at;
    -- the trigger on messages asks who writes
    perform set_config(
        'request.jwt.claims',
        jsonb_build_object('sub', waiting.author_id, 'role', 'authenticated')::text,
        true
    );
    if waiting.account_id in (select private.my_writable_account_ids()) then
        insert into public.messages (id, conversation_id, type, message, content, reply_to)
        values (
            waiting.id,
            waiting.conversation_id,
            case when takes_template then 'template' else waiting.type end,
            case when not takes_template then waiting.message end,
            case when takes_template then waiting.template else waiting.content end,
            waiting.reply_to
        )
        returning sender_type into posted_as;
    end if;
    -- a former member may hold the customer's login: these are not the customer's words
    if posted_as is distinct from 'operator' then
        raise insufficient_privilege using
            message = format('%s may not write for this account any more.', waiting.author_name);
    end if;
    perform set_config('request.jwt.claims', claims, true);
    update public.scheduled_messages s
    set status = 'sent'
    where s.id = scheduled_id;
    return 'sent';
exception
    when others then
        -- the settings and locks of the try are undone
        get stacked diagnostics broken = constraint_name;
        if sqlstate like 'PT4%' or sqlstate like '23%' or sqlstate = '42501' then
            update public.scheduled_messages s
            set status = 'failed',
                error_message = case
                    when sqlstate not like '23%' or broken = '' then sqlerrm
                    when sqlstate = '23505' then 'Another message has the id of this one.'
                    else 'The message does not fit its conversation any more.'
                end
            where s.id = scheduled_id
              and s.status = 'waiting';
            return 'failed';
        end if;
        raise warning 'a message that waits was put off: %', sqlerrm using errcode = sqlstate;
        update public.scheduled_messages s
        set due_at = at + interval '1 minute'
        where s.id = scheduled_id
          and s.status = 'waiting';
        return 'put_off';
end
$$;


create function private.prune_scheduled_messages(batch integer, kept interval)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with finished as (
        select s.id
        from public.scheduled_messages s
        where s.status <> 'waiting'
          and s.updated_at < now() - kept
        order by s.updated_at
        limit batch
        -- another run may be deleting them
        for update skip locked
    )
    delete from public.scheduled_messages s
    using finished f
    where s.id = f.id;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.send_scheduled(batch integer default 100, at timestamptz default now())
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    due record;
    results text[] := '{}';
begin
    for due in
        select d.id, d.conversation_id
        from (
            select s.id, s.conversation_id, s.send_at
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at <= at
              -- those of a paused account wait until it is resumed
              and not exists (
                  select
                  from public.accounts a
                  where a.id = s.account_id
                    and a.paused_at is not null
              )
            order by s.due_at, s.id
            limit least(greatest(batch, 1), 500)
        ) d
        -- conversations are locked by id; of one conversation the earlier message comes first
        order by d.conversation_id, d.send_at, d.id
    loop
        results := results || private.send_scheduled(
            scheduled_id => due.id, conversation_id => due.conversation_id, at => at);
    end loop;
    return jsonb_build_object(
        'sent', cardinality(array_positions(results, 'sent')),
        'failed', cardinality(array_positions(results, 'failed')),
        'moved', cardinality(array_positions(results, 'moved')),
        -- what was put off, or is held by others, is for a later call
        'is_done', cardinality(results) < batch
            or results <@ array['busy', 'gone', 'put_off'],
        'next_at', (
            select min(s.due_at)
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at > at
        )
    );
end
$$;

grant execute on function backend.send_scheduled(integer, timestamptz) to service_role;


comment on table public.scheduled_messages is
    'Messages that are sent later. Insert one with its conversation_id and send_at, or with a customer_id and a template, which opens the conversation on WhatsApp if there is none; update it, or set its status to cancelled, while it waits. Customers see none of it. The message that is sent has the same id.';
comment on column public.scheduled_messages.id is
    'Identifies the row, and later the message. A client may choose it.';
comment on column public.scheduled_messages.account_id is
    'The account of the conversation.';
comment on column public.scheduled_messages.conversation_id is
    'The conversation in which it will be sent.';
comment on column public.scheduled_messages.customer_id is
    'The contact of the conversation; null for a group. If given in place of conversation_id, it means the customer''s conversation on WhatsApp.';
comment on column public.scheduled_messages.author_id is
    'The member who wrote it or last changed what it says, and in whose name it is sent. Who moves it to another time does not become its author.';
comment on column public.scheduled_messages.author_name is
    'The author''s name when it was written or last changed.';
comment on column public.scheduled_messages.type is
    'As of messages: text, image, template …';
comment on column public.scheduled_messages.message is
    'The text, as of messages.';
comment on column public.scheduled_messages.content is
    'The provider''s object for the type; null for plain text.'
    ' Type: {[text]: json} | null';
comment on column public.scheduled_messages.reply_to is
    'The message that this one answers.';
comment on column public.scheduled_messages.template is
    'What is sent instead if WhatsApp''s window is closed at that time: {name, language, variables}, as the content of a message of type template. Needed unless the window will be open.'
    ' Type: {[text]: json} | null';
comment on column public.scheduled_messages.wanted_at is
    'The send_at that was given (UTC). It differs from send_at if it lies in the account''s quiet hours.';
comment on column public.scheduled_messages.send_at is
    'When it is sent (UTC), within a year. A time in the quiet hours becomes their end.';
comment on column public.scheduled_messages.status is
    'waiting, sent, cancelled or failed. A user writes cancelled only.';
comment on column public.scheduled_messages.error_message is
    'A sentence that says why it failed; null otherwise.';
comment on column public.scheduled_messages.due_at is
    'When the worker looks at it next (UTC).';
comment on column public.scheduled_messages.created_at is
    'When it was written (server time, UTC).';
comment on column public.scheduled_messages.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.scheduled_messages.version is
    'Rises by 1 with each change of the row.';
comment on constraint scheduled_messages_status_check on public.scheduled_messages is
    'There is no such status of a message that waits.
Use cancelled.';
comment on constraint scheduled_messages_error_message_check on public.scheduled_messages is
    'A failed message says why, and no other does.';
comment on policy "members can read what is sent later" on public.scheduled_messages is
    'Customers see a message once it is sent.';
comment on policy "owners, admins and agents can write what is sent later" on public.scheduled_messages is
    'In conversations of their accounts.';
comment on policy "owners, admins and agents can change what is sent later" on public.scheduled_messages is
    'Any of them may move or cancel what a colleague wrote, and becomes its author by changing what it says.';
comment on function private.check_template_for_later(public.messages, jsonb) is
    'Refuses a template that could not be sent in place of a message, and names the field.';
comment on function private.tg_scheduled_messages__check() is
    'Completes and checks a message that is sent later, as if it were sent at that time.';
comment on function private.tg_scheduled_messages__ring() is
    'Wakes the worker that sends messages at their time.';
comment on function private.send_scheduled(uuid, uuid, timestamptz) is
    'Posts one message whose time has come: sent, failed, moved (quiet hours), put_off, busy or gone.';
comment on function private.prune_scheduled_messages(integer, interval) is
    'Deletes at most batch messages that were finished longer ago than that; returns their number.';
comment on function backend.send_scheduled(integer, timestamptz) is
    'Posts up to batch messages (at most 500) whose time has come: {sent, failed, moved, is_done, next_at}. Call it again until is_done; next_at is when the next one is due.'
    ' Type: {sent: integer, failed: integer, moved: integer, is_done: boolean, next_at: timestamptz | null}';


select private.guard_table(
    'scheduled_messages',
    inserted => array[
        'id', 'conversation_id', 'customer_id', 'type', 'message', 'content', 'reply_to', 'template',
        'send_at'
    ],
    updated => array['type', 'message', 'content', 'reply_to', 'template', 'send_at', 'status']
);

select private.follow_table(
    table_name => 'scheduled_messages',
    shown => array[
        'id', 'account_id', 'conversation_id', 'author_id', 'author_name', 'type', 'message',
        'content', 'reply_to', 'template', 'wanted_at', 'send_at', 'status', 'error_message',
        'created_at', 'updated_at', 'version'
    ],
    hidden => array['customer_id', 'due_at'],
    customer_key => null
);
select private.limit_writes('scheduled_messages', '{insert,update}');
