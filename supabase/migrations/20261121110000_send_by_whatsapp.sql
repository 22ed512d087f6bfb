/*
    What is written for WhatsApp is queued, sent at its pace, and settled.
*/
alter table public.whatsapp_channels
    add column waba_id text
        constraint whatsapp_channels_waba_id_check
        check (waba_id ~ '^[0-9]{1,32}$'),
    add column messages_per_second integer not null default 80
        constraint whatsapp_channels_messages_per_second_check
        check (messages_per_second between 1 and 1000),
    add column stopped_at timestamptz,
    add column stopped_code integer,
    add column stopped_reason text;


comment on column public.whatsapp_channels.messages_per_second is
    'What WhatsApp lets this number send: 80, 1,000 after an upgrade, 20 beside the phone app.';

comment on column public.whatsapp_channels.stopped_at is
    'Since when nothing is sent, for stopped_reason; resume_channel goes on.';


/*
    What WhatsApp's error codes mean for a message and for its number. The code decides, never
    the text. Codes below zero are our own: -1 where nothing reached WhatsApp, -2 where what
    was written can't be sent (a failure, with a sentence of its own), -3 without an access token. (Source: developers.facebook.com, WhatsApp Cloud API, "Error codes".)
*/
create table private.send_errors (
    code     integer primary key,
    -- retry: later, by itself; fail: this message never will; stop: nothing from this number
    -- goes until somebody has seen to it
    action   text not null
             constraint send_errors_action_check check (action in ('retry', 'fail', 'stop')),
    -- the first wait, and by what each next one is longer
    wait     interval
             constraint send_errors_wait_check check ((action = 'retry') = (wait is not null)),
    factor   integer not null default 2,
    -- whether everything from the number waits, not this message alone
    holds    boolean not null default false
             constraint send_errors_holds_check check (action = 'retry' or not holds),
    -- what the operator reads
    sentence text not null
);
alter table private.send_errors enable row level security;


create policy "nobody reads send errors directly"
    on private.send_errors
    for all
    to authenticated
    using (false);


insert into private.send_errors (code, action, wait, factor, holds, sentence)
values
    (-1, 'retry', '5 seconds', 2, false, 'WhatsApp can not be reached at the moment.'),
    (1, 'retry', '5 seconds', 2, false, 'WhatsApp has a problem of its own at the moment.'),
    (2, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (4, 'retry', '30 seconds', 2, true, 'WhatsApp receives too many requests from this app.'),
    (80007, 'retry', '30 seconds', 2, true, 'WhatsApp receives too many requests from this business.'),
    (130429, 'retry', '2 seconds', 2, true, 'Too many messages at once from this number.'),
    -- 4 to the power of the attempt, in seconds
    (131056, 'retry', '4 seconds', 4, false, 'Too many messages to this person in a short time.'),
    (131000, 'retry', '5 seconds', 2, false, 'WhatsApp could not send it at the moment.'),
    (131016, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (131057, 'retry', '60 seconds', 2, true, 'The WhatsApp account is in maintenance.'),
    (133004, 'retry', '5 seconds', 2, true, 'WhatsApp is not available at the moment.'),
    (100, 'fail', null, 1, false, 'WhatsApp does not accept the content of this message.'),
    (130472, 'fail', null, 1, false, 'WhatsApp withholds marketing messages from this person.'),
    (131008, 'fail', null, 1, false, 'Something that WhatsApp requires is missing in this message.'),
    (131009, 'fail', null, 1, false, 'WhatsApp does not accept a value in this message.'),
    (131021, 'fail', null, 1, false, 'A number can not write to itself.'),
    (131026, 'fail', null, 1, false, 'It can not be delivered: the person may not be on WhatsApp.'),
    (131047, 'fail', null, 1, false, 'More than 24 hours have passed since the person last wrote: send a template.'),
    (131048, 'fail', null, 1, false, 'WhatsApp restricts this number, since too many people reported it.'),
    (131049, 'fail', null, 1, false, 'WhatsApp limits marketing messages to this person: try again tomorrow.'),
    (131050, 'fail', null, 1, false, 'The person does not want marketing messages from you.'),
    (131051, 'fail', null, 1, false, 'WhatsApp does not know this type of message.'),
    (131052, 'fail', null, 1, false, 'The file could not be downloaded.'),
    (131053, 'fail', null, 1, false, 'The file could not be uploaded: its type or size is not accepted.'),
    (131062, 'fail', null, 1, false, 'This person can not be reached without a phone number.'),
    (132000, 'fail', null, 1, false, 'The template wants another number of variables.'),
    (132001, 'fail', null, 1, false, 'There is no such template in this language, or it is not approved.'),
    (132005, 'fail', null, 1, false, 'The template with its variables is too long.'),
    (132007, 'fail', null, 1, false, 'The template breaks a rule of WhatsApp.'),
    (132012, 'fail', null, 1, false, 'A variable of the template has the wrong form.'),
    (132015, 'fail', null, 1, false, 'The template is paused for its low quality.'),
    (132016, 'fail', null, 1, false, 'The template is disabled for its low quality.'),
    (-3, 'stop', null, 1, false, 'No access token is set for this number.'),
    (0, 'stop', null, 1, false, 'WhatsApp does not accept the access token: renew it.'),
    (3, 'stop', null, 1, false, 'The access token may not send messages.'),
    (10, 'stop', null, 1, false, 'The access token may not send messages.'),
    (190, 'stop', null, 1, false, 'The access token has expired: renew it.'),
    (200, 'stop', null, 1, false, 'The access token may not send from this number.'),
    (368, 'stop', null, 1, false, 'WhatsApp has blocked the account for breaking a rule.'),
    (131005, 'stop', null, 1, false, 'The access token may not send messages.'),
    (131031, 'stop', null, 1, false, 'WhatsApp has locked the account.'),
    (131042, 'stop', null, 1, false, 'WhatsApp lacks a way to be paid: see to the payment settings.'),
    (131045, 'stop', null, 1, false, 'The number has to be registered anew.'),
    (133010, 'stop', null, 1, false, 'The number is not registered with WhatsApp.');


comment on table private.send_errors is
    'What follows from each error code of WhatsApp''s; a code that is not here fails the message.';
comment on policy "nobody reads send errors directly" on private.send_errors is
    'Clients see the sentence on the message.';


/*
    How fast may be sent: to one person once in 6 seconds with bursts of 45, from one number 80
    times a second unless its row says otherwise. Kept here, so that workers share it. A pace is
    one time (the "generic cell rate algorithm"): when all that was sent would have been due.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Throughput" and "Pair rate limits".)
*/
create table private.send_paces (
    whatsapp_channel_id uuid not null
                        constraint send_paces_whatsapp_channel_id_fkey
                        references public.whatsapp_channels on delete cascade,
    -- to whom; empty for the number itself
    recipient           text not null,
    due_at              timestamptz not null,

    primary key (whatsapp_channel_id, recipient)
);
alter table private.send_paces enable row level security;


create policy "nobody reads send paces directly"
    on private.send_paces
    for all
    to authenticated
    using (false);


create function private.take_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval,
    burst integer
)
    returns timestamptz
    language plpgsql
    set search_path = ''
as $$
begin
    -- asked and taken in one statement: two workers can't both have the last place
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    values (take_pace.whatsapp_channel_id, take_pace.recipient, clock_timestamp() + every)
    on conflict on constraint send_paces_pkey do update
        set due_at = greatest(p.due_at, clock_timestamp()) + every
        where p.due_at - every * (burst - 1) <= clock_timestamp();
    if found then
        return null;
    end if;
    return (
        select p.due_at - every * (burst - 1)
        from private.send_paces p
        where p.whatsapp_channel_id = take_pace.whatsapp_channel_id
          and p.recipient = take_pace.recipient
    );
end
$$;


create function private.give_back_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.send_paces p
    set due_at = p.due_at - every
    where p.whatsapp_channel_id = give_back_pace.whatsapp_channel_id
      and p.recipient = give_back_pace.recipient;
end
$$;


create function private.hold_number(whatsapp_channel_id uuid, until timestamptz)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- a number's burst is a second's, whatever its rate: see claim_outbound
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    values (hold_number.whatsapp_channel_id, '', until + interval '1 second')
    on conflict on constraint send_paces_pkey do update
        set due_at = excluded.due_at
        where p.due_at < excluded.due_at;
end
$$;


comment on table private.send_paces is
    'How far ahead of its pace a number is, altogether and with each person.';
comment on column private.send_paces.due_at is
    'When everything sent so far would have been due.';
comment on policy "nobody reads send paces directly" on private.send_paces is
    'Workers ask through claim_outbound.';
comment on function private.take_pace(uuid, text, interval, integer) is
    'Counts a message that goes; where it may not go yet answers from when it may, and counts nothing.';
comment on function private.give_back_pace(uuid, text, interval) is
    'Uncounts a message that does not go after all.';
comment on function private.hold_number(uuid, timestamptz) is
    'Lets nothing go from a number until then.';


/*
    Rows are the jobs, a doorbell wakes the worker: a request to POST /internal/wake when the
    transaction commits. It may get lost; the schedule sweeps.
*/
do $$
begin
    -- as a rule there; where it is not, ringing is a warning and the schedule does it all
    if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
        create extension if not exists pg_net with schema extensions;
    end if;
end
$$;


create table private.doorbell (
    only_row boolean primary key default true
             constraint doorbell_only_row_check check (only_row),
    -- null: nobody is to be woken, the schedule does it all
    url      text
             constraint doorbell_url_check check (url ~ '^https?://[^[:space:]]+$'),
    secret   text
             constraint doorbell_secret_check check (length(secret) between 32 and 256),

    constraint doorbell_url_secret_check check ((url is null) = (secret is null))
);
alter table private.doorbell enable row level security;


create policy "nobody reads the doorbell directly"
    on private.doorbell
    for all
    to authenticated
    using (false);


insert into private.doorbell default values;


create function private.ring(worker text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    bell private.doorbell;
    -- ends with the transaction, or with the savepoint that the ring was in
    rung constant text := 'rapport.rung_' || worker;
begin
    if current_setting(rung, true) = 'yes' then
        return;
    end if;
    select d.*
    into bell
    from private.doorbell d
    where d.url is not null;
    if not found then
        return;
    end if;

    perform net.http_post(
        url => bell.url,
        body => jsonb_build_object('worker', worker),
        headers => jsonb_build_object(
            'content-type', 'application/json', 'authorization', 'Bearer ' || bell.secret),
        timeout_milliseconds => 5000
    );
    perform set_config(rung, 'yes', true);
exception
    when others then
        -- the row is there, and the schedule finds it
        raise warning 'nobody was woken: %', sqlerrm using errcode = sqlstate;
end
$$;


create function backend.set_doorbell(url text, secret text)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.doorbell d
    set url = set_doorbell.url,
        secret = set_doorbell.secret
    where d.url is distinct from set_doorbell.url
       or d.secret is distinct from set_doorbell.secret;
exception
    when check_violation then
        -- without the row itself, which holds the secret
        raise sqlstate 'PT422' using
            message = 'The doorbell needs a URL and a secret, or neither.',
            detail = 'field: url, secret',
            hint = 'The URL of POST /internal/wake, and 32 to 256 characters.';
end
$$;

grant execute on function backend.set_doorbell(text, text) to service_role;


comment on table private.doorbell is
    'Where to ring, and with which secret.';
comment on policy "nobody reads the doorbell directly" on private.doorbell is
    'It holds a secret.';
comment on function private.ring(text) is
    'Wakes a worker when the transaction commits, once. A failure is a warning.';
comment on function backend.set_doorbell(text, text) is
    'Says where POST /internal/wake is and the secret that it asks for (WAKE_SECRET); with two nulls nobody is woken. Once for a deployment.';


/*
    What is to be sent: a row is a job. It is leased by one worker; just before the call it
    becomes "sending", since from then on it may have happened: a lease that ends in "sending"
    is an unknown outcome, which is settled by evidence and never by sending again.
*/
create table private.outbound_queue (
    message_id          uuid primary key
                        constraint outbound_queue_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    conversation_id     uuid not null,
    -- one after the other within a conversation
    seq                 bigint not null,
    state               text not null default 'queued'
                        constraint outbound_queue_state_check
                        check (state in ('queued', 'leased', 'sending')),
    attempts            integer not null default 0,
    not_before          timestamptz not null default now(),
    leased_until        timestamptz,
    worker              text,

    constraint outbound_queue_lease_check
        check ((state = 'queued') = (leased_until is null) and (state = 'queued') = (worker is null))
);
alter table private.outbound_queue enable row level security;


create unique index outbound_queue_conversation_idx
    on private.outbound_queue (conversation_id, seq);

create index outbound_queue_due_idx
    on private.outbound_queue (not_before)
    where state = 'queued';

create index outbound_queue_lease_idx
    on private.outbound_queue (leased_until)
    where state <> 'queued';


create policy "nobody reads the outbound queue directly"
    on private.outbound_queue
    for all
    to authenticated
    using (false);


/*
    Every call that was or may have been made, written before it is made.
*/
create table private.outbound_attempts (
    message_id          uuid not null
                        constraint outbound_attempts_message_id_fkey
                        references public.messages on delete cascade,
    attempt             integer not null,
    whatsapp_channel_id uuid not null,
    -- null while it is under way
    outcome             text
                        constraint outbound_attempts_outcome_check
                        check (outcome in ('accepted', 'refused', 'unknown')),
    -- what WhatsApp called it, if it took it
    provider_id         text,
    error_code          integer,
    error_message       text,
    begun_at            timestamptz not null default clock_timestamp(),
    ended_at            timestamptz,

    primary key (message_id, attempt)
);
alter table private.outbound_attempts enable row level security;


create unique index outbound_attempts_provider_id_key
    on private.outbound_attempts (whatsapp_channel_id, provider_id)
    where provider_id is not null;


create policy "nobody reads outbound attempts directly"
    on private.outbound_attempts
    for all
    to authenticated
    using (false);


comment on table private.outbound_queue is
    'Messages that are to be sent by WhatsApp; claimed, begun and settled by the worker.';
comment on column private.outbound_queue.state is
    'sending: the call may have been made.';
comment on policy "nobody reads the outbound queue directly" on private.outbound_queue is
    'Clients see the status of the message.';
comment on table private.outbound_attempts is
    'Every call to WhatsApp for a message, with what became of it.';
comment on policy "nobody reads outbound attempts directly" on private.outbound_attempts is
    'Clients see the status of the message.';


/*
    WhatsApp's 24 hours: free words may be sent until a day after the person's last message to
    this number; after that a template is needed. One rule for the composer and the sender.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Send messages".)
*/
create function private.window_closes_at(conversation_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- of all threads with this person on this number, since closing one closes no window
    return (
        select max(a.last_inbound_at) + interval '24 hours'
        from public.conversations k
        join public.conversations t
            on t.whatsapp_channel_id = k.whatsapp_channel_id
           and t.account_id = k.account_id
           and t.thread_key = k.thread_key
           and t.channel = k.channel
        join public.conversation_activity a
            on a.conversation_id = t.id
        where k.id = window_closes_at.conversation_id
    );
end
$$;

grant execute on function private.window_closes_at(uuid) to authenticated;


create function public.reply_window(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- invoker: what the caller may not read does not exist
    set search_path = ''
as $$
declare
    channel text;
    closes_at timestamptz;
begin
    select k.channel
    into channel
    from public.conversations k
    where k.id = reply_window.conversation_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', reply_window.conversation_id);
    end if;

    if channel <> 'whatsapp' then
        return jsonb_build_object('open', true, 'closes_at', null);
    end if;
    closes_at := private.window_closes_at(reply_window.conversation_id);
    return jsonb_build_object('open', coalesce(closes_at > now(), false), 'closes_at', closes_at);
end
$$;

grant execute on function public.reply_window(uuid) to authenticated;


comment on function private.window_closes_at(uuid) is
    'Until when free words may be sent in a WhatsApp conversation; null where the person never wrote.';
comment on function public.reply_window(uuid) is
    'Whether free words may be sent now, and until when: {open, closes_at}. Where it is not open send a template.';


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


create function private.tg_messages__enqueue()
    returns trigger
    language plpgsql
    -- definer: the queue is nobody's to write
    security definer
    set search_path = ''
as $$
begin
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (new.id, new.whatsapp_channel_id, new.conversation_id, new.seq);
    perform private.ring('deliver_outbound');
    return null;
end
$$;

create trigger _600_enqueue
    after insert on public.messages
    for each row
    when (new.status = 'queued')
    execute function private.tg_messages__enqueue();


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
comment on function private.tg_messages__enqueue() is
    'Puts a message that is to be sent by WhatsApp into the queue.';
comment on policy "agents and customers can write in their conversations" on public.messages is
    'As themselves; on WhatsApp only staff write here.';
comment on function public.post_message(uuid, text, text, jsonb, uuid, text) is
    'Writes in a conversation and answers the message; one of the same client_ref is written once. The same as inserting into messages.';


/*
    The worker's side of the queue: claim some, begin one, call, settle it. Several workers share
    the queue and the paces. A worker claims under a new name each time, by which it begins and
    settles: what is repeated late can't be taken for a later attempt.
*/
create function private.recover_outbound()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    lost uuid[];
begin
    -- claimed and never begun: as if it had not been claimed
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null
    from (
        select o.message_id
        from private.outbound_queue o
        where o.state = 'leased'
          and o.leased_until < clock_timestamp()
        for update skip locked
    ) l
    where q.message_id = l.message_id;

    -- begun and never settled: it may have been sent
    lost := array(
        select m.id
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        where o.state = 'sending'
          and o.leased_until < clock_timestamp()
        for update of o, m skip locked
    );
    if lost <> '{}' then
        perform private.settle_unknown(l.id)
        from unnest(lost) as l (id);
    end if;
end
$$;


create function private.settle_unknown(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.outbound_attempts t
    set outcome = 'unknown',
        ended_at = clock_timestamp()
    where t.message_id = settle_unknown.message_id
      and t.outcome is null;
    delete from private.outbound_queue q
    where q.message_id = settle_unknown.message_id;
    update public.messages m
    set status = 'unknown'
    where m.id = settle_unknown.message_id
      and m.status = 'queued';
end
$$;


create function backend.claim_outbound(worker text, batch integer default 10)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
    free_at timestamptz;
    claimed jsonb := '[]';
begin
    perform private.recover_outbound();

    for job in
        select c.*
        from (
            select
                q.message_id,
                w.id as whatsapp_channel_id,
                w.phone_number_id,
                w.messages_per_second,
                k.thread_key,
                k.customer_wa_id,
                m.account_id,
                m.type,
                m.message,
                m.content,
                parent.provider_id as reply_to,
                target.provider_id as reaction_to
            from private.outbound_queue q
            join public.messages m
                on m.id = q.message_id
            join public.conversations k
                on k.id = q.conversation_id
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            left join public.messages parent
                on parent.id = m.reply_to
            left join public.messages target
                on target.conversation_id = m.conversation_id
               and target.id = case
                   when m.type = 'reaction' and pg_input_is_valid(m.content ->> 'message_id', 'uuid')
                       then (m.content ->> 'message_id')::uuid
               end
            where q.state = 'queued'
              and q.not_before <= clock_timestamp()
              and w.stopped_at is null
              -- in order: what was written before goes before
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before, q.message_id
            limit least(greatest(batch, 1), 100)
            for update of q skip locked
        ) c
        -- workers wait for each other's paces, so all take them in one order
        order by c.whatsapp_channel_id, c.thread_key
    loop
        free_at := private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => '',
            every => interval '1 second' / job.messages_per_second,
            burst => job.messages_per_second
        );
        if free_at is null then
            free_at := private.take_pace(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => job.thread_key,
                every => interval '6 seconds',
                burst => 45
            );
            if free_at is not null then
                perform private.give_back_pace(
                    whatsapp_channel_id => job.whatsapp_channel_id,
                    recipient => '',
                    every => interval '1 second' / job.messages_per_second
                );
            end if;
        end if;
        if free_at is not null then
            update private.outbound_queue q
            set not_before = free_at
            where q.message_id = job.message_id;
            continue;
        end if;

        update private.outbound_queue q
        set state = 'leased',
            leased_until = clock_timestamp() + interval '60 seconds',
            worker = claim_outbound.worker
        where q.message_id = job.message_id;

        claimed := claimed || jsonb_build_object(
            'message_id', job.message_id,
            'account_id', job.account_id,
            'phone_number_id', job.phone_number_id,
            'wa_id', job.customer_wa_id,
            'user_id', case
                when job.thread_key like 'bsuid:%' then split_part(job.thread_key, ':', 2)
            end,
            'type', job.type,
            'text', job.message,
            'content', job.content,
            'reply_to', job.reply_to,
            'reaction_to', job.reaction_to
        );
    end loop;

    return jsonb_build_object(
        'claimed', claimed,
        -- when there is something to do again, as far as is known now
        'next_at', (
            select min(q.not_before)
            from private.outbound_queue q
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            where q.state = 'queued'
              and w.stopped_at is null
              -- what waits for another of its conversation has no time of its own
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
        )
    );
end
$$;

grant execute on function backend.claim_outbound(text, integer) to service_role;


create function backend.begin_send(message_id uuid, worker text)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
begin
    -- a message's row before its row in the queue, as in settle_send
    perform
    from public.messages m
    where m.id = begin_send.message_id
    for no key update;

    select q.state, q.whatsapp_channel_id, q.conversation_id, m.type, w.stopped_at
    into job
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    where q.message_id = begin_send.message_id
      and q.worker = begin_send.worker
      and q.state in ('leased', 'sending')
      and q.leased_until > clock_timestamp()
    for update of q;
    if not found then
        return false;
    elsif job.state = 'sending' then
        -- asked again, since the answer was lost: a name is given to one claim only
        return true;
    end if;

    -- what WhatsApp answered to another message has stopped the number meanwhile
    if job.stopped_at is not null then
        update private.outbound_queue q
        set state = 'queued',
            leased_until = null,
            worker = null
        where q.message_id = begin_send.message_id;
        return false;
    end if;

    -- the window was open when it was written; the number may have been stopped for days
    if job.type <> 'template'
        and coalesce(private.window_closes_at(job.conversation_id), '-infinity') <= now()
    then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => 131047,
            details => null,
            retry_after => null
        );
        return false;
    end if;

    update private.outbound_queue q
    set state = 'sending',
        attempts = q.attempts + 1,
        leased_until = clock_timestamp() + interval '60 seconds'
    where q.message_id = begin_send.message_id;
    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    select
        begin_send.message_id,
        coalesce(max(t.attempt), 0) + 1,
        job.whatsapp_channel_id
    from private.outbound_attempts t
    where t.message_id = begin_send.message_id;
    return true;
end
$$;

grant execute on function backend.begin_send(uuid, text) to service_role;


comment on function private.recover_outbound() is
    'What workers have let lie: back into the queue, or unknown where the call may have been made.';
comment on function private.settle_unknown(uuid) is
    'Notes that nobody knows whether a message was sent; a status or a person will settle it.';
comment on function backend.claim_outbound(text, integer) is
    'Leases messages that may go now, one a conversation: {claimed: [{message_id, account_id, phone_number_id, wa_id, user_id, type, text, content, reply_to, reaction_to}], next_at}; reply_to and reaction_to are WhatsApp''s ids.';
comment on function backend.begin_send(uuid, text) is
    'Notes that the call is about to be made; false where it is not to be: the lease has passed to somebody else, the number was stopped, the window has closed.';


/*
    What became of a call. The error's code decides what follows; a time-out is unknown. A
    message's row is locked before its row in the queue, here and where a status settles it.
*/
create function private.attach_provider_id(message_id uuid, provider_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    sent public.messages;
begin
    -- told already, by WhatsApp's answer or by a status
    if exists (
        select
        from private.outbound_attempts t
        where t.message_id = attach_provider_id.message_id
          and t.provider_id = attach_provider_id.provider_id
    ) then
        return;
    end if;

    -- the one that is under way, or else the latest of which nobody knew
    update private.outbound_attempts t
    set outcome = 'accepted',
        provider_id = attach_provider_id.provider_id,
        ended_at = coalesce(t.ended_at, clock_timestamp())
    where t.message_id = attach_provider_id.message_id
      and t.attempt = (
          select o.attempt
          from private.outbound_attempts o
          where o.message_id = attach_provider_id.message_id
            and coalesce(o.outcome, 'unknown') = 'unknown'
          order by (o.outcome is null) desc, o.attempt desc
          limit 1
      );
    delete from private.outbound_queue q
    where q.message_id = attach_provider_id.message_id;

    -- one that a person had sent again, and that came after all, keeps the id it has
    update public.messages m
    set provider_id = attach_provider_id.provider_id,
        status = 'sent',
        sent_at = coalesce(m.sent_at, now()),
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = attach_provider_id.message_id
      and m.provider_id is null
    returning m.*
    into sent;

    -- statuses that came before the id was known
    if found then
        perform private.settle_message_statuses(
            whatsapp_channel_ids => array[sent.whatsapp_channel_id],
            provider_ids => array[attach_provider_id.provider_id]
        );
    end if;
end
$$;


create function private.refuse_send(
    message_id uuid,
    code integer,
    details text,
    retry_after interval
)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    rule private.send_errors;
    action text;
    next_at timestamptz;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = refuse_send.message_id;
    select e.*
    into rule
    from private.send_errors e
    where e.code = refuse_send.code;
    action := coalesce(rule.action, 'fail');
    if action = 'retry' and job.attempts >= 8 then
        action := 'fail';
    end if;

    update private.outbound_attempts t
    set outcome = 'refused',
        error_code = refuse_send.code,
        error_message = left(refuse_send.details, 500),
        ended_at = clock_timestamp()
    where t.message_id = refuse_send.message_id
      and t.outcome is null;

    if action = 'fail' then
        delete from private.outbound_queue q
        where q.message_id = refuse_send.message_id;
        update public.messages m
        set status = 'failed',
            failed_at = now(),
            error_code = refuse_send.code,
            error_message = coalesce(rule.sentence, left(refuse_send.details, 500))
        where m.id = refuse_send.message_id
          and m.status in ('queued', 'unknown');
        return action;
    end if;

    next_at := case action
        when 'retry' then clock_timestamp() + greatest(
            coalesce(retry_after, '0'),
            rule.wait * power(rule.factor, job.attempts - 1) * (0.8 + random() * 0.4)
        )
        else job.not_before
    end;
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        not_before = next_at
    where q.message_id = refuse_send.message_id;
    if rule.holds then
        perform private.hold_number(
            whatsapp_channel_id => job.whatsapp_channel_id, until => next_at);
    end if;
    if action = 'stop' then
        update public.whatsapp_channels w
        set stopped_at = now(),
            stopped_code = refuse_send.code,
            stopped_reason = rule.sentence
        where w.id = job.whatsapp_channel_id
          and w.stopped_at is null;
    end if;
    return action;
end
$$;


create function backend.settle_send(
    message_id uuid,
    worker text,
    outcome text,
    provider_id text default null,
    code integer default null,
    details text default null,
    retry_after integer default null
)
    returns text
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    -- a status, a reply or a reaction may be looking for it at this moment
    if outcome = 'accepted' then
        perform pg_advisory_xact_lock_shared(private.whatsapp_number_lock(m.whatsapp_channel_id))
        from public.messages m
        where m.id = settle_send.message_id;
    end if;
    perform
    from public.messages m
    where m.id = settle_send.message_id
    for no key update;
    if not found then
        return 'gone';
    end if;

    if outcome not in ('accepted', 'refused', 'unknown') or outcome is null then
        raise sqlstate 'PT422' using
            message = 'This is no outcome.',
            detail = 'field: outcome',
            hint = 'Known: accepted, refused, unknown.';
    elsif outcome = 'accepted' and coalesce(settle_send.provider_id, '') = '' then
        raise sqlstate 'PT422' using
            message = 'What was accepted has an id of WhatsApp''s.',
            detail = 'field: provider_id';
    elsif outcome = 'refused' and settle_send.code is null then
        raise sqlstate 'PT422' using
            message = 'What was refused has a code.',
            detail = 'field: code';
    end if;

    -- that it was accepted is evidence, whoever has the lease by now
    if outcome = 'accepted' then
        perform private.attach_provider_id(
            message_id => settle_send.message_id, provider_id => settle_send.provider_id);
        return 'sent';
    end if;

    perform
    from private.outbound_queue q
    where q.message_id = settle_send.message_id
      and q.worker = settle_send.worker
      and q.state = 'sending'
    for update;
    if not found then
        return 'settled already';
    end if;
    if outcome = 'unknown' then
        perform private.settle_unknown(settle_send.message_id);
        return 'unknown';
    end if;
    return private.refuse_send(
        message_id => settle_send.message_id,
        code => settle_send.code,
        details => settle_send.details,
        retry_after => make_interval(secs => settle_send.retry_after)
    );
end
$$;

grant execute on function backend.settle_send(uuid, text, text, text, integer, text, integer)
    to service_role;


comment on function private.attach_provider_id(uuid, text) is
    'A message was taken by WhatsApp under this id: it is sent, and statuses that wait for it apply.';
comment on function private.refuse_send(uuid, integer, text, interval) is
    'What follows from an error of WhatsApp''s: retry, fail or stop; see send_errors.';
comment on function backend.settle_send(uuid, text, text, text, integer, text, integer) is
    'Notes what became of a call: accepted with provider_id, refused with code, details and retry_after (seconds), or unknown. Answers what follows.';


/*
    Where no evidence comes, a person decides: send again, or let it be.
*/
create function private.message_to_decide(message_id uuid)
    returns public.messages
    language plpgsql
    set search_path = ''
as $$
declare
    found_message public.messages;
begin
    select m.*
    into found_message
    from public.messages m
    where m.id = message_id
      and m.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;
    perform private.require_writable(found_message.account_id);

    if found_message.whatsapp_channel_id is null
        or found_message.sender_type = 'client'
        or found_message.status not in ('failed', 'unknown')
    then
        raise sqlstate 'PT409' using
            message = 'There is nothing to decide about this message.',
            detail = format('field: status; status: %s', found_message.status);
    elsif found_message.status = 'unknown' and exists (
        select
        from private.outbound_attempts t
        where t.message_id = found_message.id
          and t.ended_at > now() - interval '2 minutes'
    ) then
        raise sqlstate 'PT409' using
            message = 'It may still turn out that it was sent.',
            detail = 'field: status; status: unknown',
            hint = 'Wait for two minutes.';
    end if;
    return found_message;
end
$$;


create function private.decide_message(message_id uuid, decision text)
    returns void
    language plpgsql
    -- definer: the queue is nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    decided constant public.messages := private.message_to_decide(message_id);
begin
    if decision = 'drop' then
        update public.messages m
        set status = 'failed',
            failed_at = coalesce(m.failed_at, now()),
            error_message = coalesce(m.error_message, 'Nobody knows whether it was sent; it was not sent again.')
        where m.id = decided.id;
        return;
    end if;

    if decided.type <> 'template'
        and coalesce(private.window_closes_at(decided.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    end if;
    update public.messages m
    set status = 'queued',
        -- the former ones stand with their attempts
        provider_id = null,
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = decided.id;
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (decided.id, decided.whatsapp_channel_id, decided.conversation_id, decided.seq);
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.decide_message(uuid, text) to authenticated;


create function public.resend_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => resend_message.message_id, decision => 'resend')
$$;

grant execute on function public.resend_message(uuid) to authenticated;


create function public.drop_message(message_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.decide_message(message_id => drop_message.message_id, decision => 'drop')
$$;

grant execute on function public.drop_message(uuid) to authenticated;


create function private.resume_number(channel_id uuid)
    returns void
    language plpgsql
    -- definer: numbers are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    account uuid;
begin
    select w.account_id
    into account
    from public.whatsapp_channels w
    where w.id = channel_id
      and w.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such number, or it is not yours to see.',
            detail = format('channel: %s', channel_id);
    end if;
    perform private.require_writable(account);

    update public.whatsapp_channels w
    set stopped_at = null,
        stopped_code = null,
        stopped_reason = null
    where w.id = channel_id
      and w.stopped_at is not null;
    perform private.ring('deliver_outbound');
end
$$;

grant execute on function private.resume_number(uuid) to authenticated;


create function public.resume_channel(channel_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    select private.resume_number(resume_channel.channel_id)
$$;

grant execute on function public.resume_channel(uuid) to authenticated;


comment on function private.message_to_decide(uuid) is
    'A message whose fate is a person''s to decide, locked; refused where it is not.';
comment on function private.decide_message(uuid, text) is
    'Queues a failed or unknown message again, or lets it be.';
comment on function public.resend_message(uuid) is
    'Sends a message again that failed, or of which nobody knows (two minutes after); a new attempt of the same message.';
comment on function public.drop_message(uuid) is
    'Lets a message be of which nobody knows whether it was sent.';
comment on function private.resume_number(uuid) is
    'Lets a stopped number send again.';
comment on function public.resume_channel(uuid) is
    'Lets a WhatsApp number send again that was stopped, once its stopped_reason is seen to.';


/*
    What a read mark or a typing sign at WhatsApp is about: the customer's latest message. (Source:
    developers.facebook.com, WhatsApp Cloud API, "Mark messages as read", "Typing indicators".)
*/
create function private.find_latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: whoever may only look is told apart from whom it is hidden
    security definer
    set search_path = ''
as $$
declare
    thread record;
begin
    select k.account_id, k.whatsapp_channel_id, w.phone_number_id
    into thread
    from public.conversations k
    left join public.whatsapp_channels w
        on w.id = k.whatsapp_channel_id
    where k.id = find_latest_inbound.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', find_latest_inbound.conversation_id);
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this conversation, not answer in it.',
            hint = 'Owners, admins and agents may.';
    elsif thread.whatsapp_channel_id is null then
        raise sqlstate 'PT422' using
            message = 'This conversation is not held on WhatsApp.',
            detail = 'field: conversation_id';
    end if;

    return (
        select jsonb_build_object(
            'phone_number_id', thread.phone_number_id, 'provider_id', m.provider_id)
        from public.messages m
        where m.conversation_id = find_latest_inbound.conversation_id
          and m.sender_type = 'client'
          and m.provider_id is not null
        order by m.seq desc
        limit 1
    );
end
$$;

grant execute on function private.find_latest_inbound(uuid) to authenticated;


create function public.latest_inbound(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.find_latest_inbound(latest_inbound.conversation_id);
end
$$;

grant execute on function public.latest_inbound(uuid) to authenticated;


comment on function private.find_latest_inbound(uuid) is
    'See latest_inbound.';
comment on function public.latest_inbound(uuid) is
    'The customer''s latest message in a WhatsApp conversation, by WhatsApp''s ids: {phone_number_id, provider_id}; null before there is one. For those who may answer.';
