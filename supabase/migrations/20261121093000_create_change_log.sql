/*
    The private topics on which changes are broadcast, and who may join them.

        account:<account>:<epoch>               staff: everything of the account
        customer:<customer>:<epoch>             the customer: everything of theirs
        conversation:<conversation>:<epochs>    both sides: one conversation

    A subscriber is authorised when it joins and not again, so leaving must change the name:
    an epoch rises when a member or a portal login is removed, and what is sent from then on
    goes to names that the one who left can't join.
*/
create table private.topic_epochs (
    -- an account or a customer
    owner_id   uuid primary key,
    account_id uuid not null
               constraint topic_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.topic_epochs enable row level security;


create index topic_epochs_account_id_idx on private.topic_epochs (account_id);


create policy "nobody reads topic epochs directly"
    on private.topic_epochs
    for all
    to authenticated
    using (false);


create function private.topic_epoch(owner_id uuid)
    returns integer
    -- this and what is built on it is called for every write, and plpgsql keeps its plans
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce((
        select e.epoch
        from private.topic_epochs e
        where e.owner_id = topic_epoch.owner_id
    ), 0);
end
$$;


create function private.account_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 'account:' || account_id || ':' || private.topic_epoch(account_id);
end
$$;


create function private.customer_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 'customer:' || customer_id || ':' || private.topic_epoch(customer_id);
end
$$;


create function private.conversation_topic(conversation_id uuid, account_id uuid, customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- whoever leaves either side leaves the conversation
    return 'conversation:' || conversation_id
        || ':' || private.topic_epoch(account_id)
        || '.' || private.topic_epoch(customer_id);
end
$$;


create function private.raise_topic_epoch(owner_id uuid, account_id uuid)
    returns void
    language sql
    set search_path = ''
as $$
    insert into private.topic_epochs as e (owner_id, account_id)
    -- an account that is being deleted has no topics to rename
    select raise_topic_epoch.owner_id, a.id
    from public.accounts a
    where a.id = raise_topic_epoch.account_id
    on conflict (owner_id) do update
        set epoch = e.epoch + 1
$$;


create function private.tg_account_members__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: topic epochs are nobody's to write
    security definer
    set search_path = ''
as $$
begin
    perform private.raise_topic_epoch(owner_id => old.account_id, account_id => old.account_id);
    return null;
end
$$;

create trigger _500_raise_epoch
    after delete or update of account_id, user_id on public.account_members
    for each row
    execute function private.tg_account_members__raise_epoch();


create function private.tg_customers__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: topic epochs are nobody's to write
    security definer
    set search_path = ''
as $$
begin
    perform private.raise_topic_epoch(owner_id => old.id, account_id => old.account_id);
    return null;
end
$$;

create trigger _500_raise_epoch
    after update of portal_user_id on public.customers
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg_customers__raise_epoch();


create function private.may_receive(topic text)
    returns boolean
    language plpgsql
    stable
    -- definer: a topic is checked against rows that the caller need not be able to read
    security definer
    set search_path = ''
as $$
declare
    kind constant text := split_part(topic, ':', 1);
    named constant text := split_part(topic, ':', 2);
    named_id uuid;
begin
    if not pg_input_is_valid(named, 'uuid') then
        return false;
    end if;
    named_id := named::uuid;

    return case kind
        when 'account' then
            topic = private.account_topic(named_id)
            and named_id in (select private.my_account_ids())
        when 'customer' then
            topic = private.customer_topic(named_id)
            and named_id in (select private.my_customer_ids())
        when 'conversation' then exists (
            select
            from public.conversations c
            where c.id = named_id
              and topic = private.conversation_topic(c.id, c.account_id, c.customer_id)
              and (
                  c.account_id in (select private.my_account_ids())
                  or c.customer_id in (select private.my_customer_ids())
              )
        )
        else false
    end;
end
$$;

grant execute on function private.may_receive(text) to authenticated;


-- No policy lets a client insert: what comes on these topics comes from the database.
create policy "subscribers can receive on their own topics"
    on realtime.messages
    for select
    to authenticated
    using (
        realtime.messages.extension = 'broadcast'
        and private.may_receive((select realtime.topic()))
    );


create function private.topics_of_caller(conversation_id uuid)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    -- definer: epochs are not readable; the scope is the caller's
    security definer
    set search_path = ''
as $$
    select private.account_topic(a.id), 'account', a.id
    from private.my_account_ids() as a (id)
    union all
    select private.customer_topic(c.id), 'customer', c.id
    from private.my_customer_ids() as c (id)
    union all
    select t.topic, 'conversation', c.id
    from public.conversations c
    cross join lateral private.conversation_topic(c.id, c.account_id, c.customer_id) as t (topic)
    where c.id = topics_of_caller.conversation_id
      and private.may_receive(t.topic)
$$;

grant execute on function private.topics_of_caller(uuid) to authenticated;


create function public.my_topics(conversation_id uuid default null)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    set search_path = ''
as $$
    select t.topic, t.kind, t.id
    from private.topics_of_caller(my_topics.conversation_id) t
$$;

grant execute on function public.my_topics(uuid) to authenticated;


comment on table private.topic_epochs is
    'How often a member left an account, or a portal login a customer; absent means never.';
comment on policy "nobody reads topic epochs directly" on private.topic_epochs is
    'Names of topics come from my_topics.';
comment on function private.topic_epoch(uuid) is
    'The epoch of an account or customer.';
comment on function private.account_topic(uuid) is
    'The topic of an account''s staff.';
comment on function private.customer_topic(uuid) is
    'The topic of one customer.';
comment on function private.conversation_topic(uuid, uuid, uuid) is
    'The topic of one conversation, for both its sides.';
comment on function private.raise_topic_epoch(uuid, uuid) is
    'Renames the topics of an account or customer.';
comment on function private.tg_account_members__raise_epoch() is
    'A member who leaves is left behind on the old topics.';
comment on function private.tg_customers__raise_epoch() is
    'A login that loses its customer is left behind on the old topics.';
comment on function private.may_receive(text) is
    'Whether the signed-in user may join a topic, by its present name.';
comment on function private.topics_of_caller(uuid) is
    'The topics of the signed-in user.';
comment on function public.my_topics(uuid) is
    'The private topics you may join: your accounts'', your own as a customer, and the given conversation''s. Ask again when a join is refused: names change when somebody leaves.';
comment on policy "subscribers can receive on their own topics" on realtime.messages is
    'Data topics are read-only for clients.';


/*
    The change log: one entry for every change of a followed row, written in the transaction
    of the change. Broadcast, catch-up, polling and tombstones all come from it, so they
    cannot disagree.

    (Stamping the rows instead would cost HOT updates: an index on such a column left 0 of
    30,000 updates HOT, the log 30,000 of 30,000.)
*/
create table private.changes (
    account_id      uuid not null,
    -- the writing transaction: with a snapshot it tells what a reader has not yet seen,
    -- which no sequence can, since transactions commit out of order
    xid             xid8 not null default pg_current_xact_id(),
    seq             bigint generated always as identity,
    -- the customer who follows the row; null where only staff do
    customer_id     uuid,
    conversation_id uuid,
    table_name      text not null,
    row_id          uuid not null,
    operation       text not null
                    constraint changes_operation_check
                    check (operation in ('INSERT', 'UPDATE', 'DELETE')),
    version         bigint not null,
    logged_at       timestamptz not null default now(),

    primary key (account_id, xid, seq)
);
alter table private.changes enable row level security;


create index changes_customer_idx
    on private.changes (customer_id, xid, seq)
    where customer_id is not null;

create index changes_logged_at_idx
    on private.changes
    using brin (logged_at);


create policy "nobody reads the change log directly"
    on private.changes
    for all
    to authenticated
    using (false);


/*
    One row: since when the log is continuous, and how long it is kept.
*/
create table private.change_log (
    only_row  boolean primary key default true
              constraint change_log_only_row_check check (only_row),
    epoch     uuid not null default gen_random_uuid(),
    retention interval not null default interval '14 days'
              constraint change_log_retention_check check (retention >= interval '1 hour')
);
alter table private.change_log enable row level security;


create policy "nobody reads the change log's settings directly"
    on private.change_log
    for all
    to authenticated
    using (false);


insert into private.change_log default values;


create function private.change_log_epoch()
    returns text
    language sql
    stable
    set search_path = ''
as $$
    /*
        A restore starts a new timeline or another cluster. Transaction ids then name other
        transactions than before, so no cursor of before may be used.
    */
    select md5(l.epoch::text || s.system_identifier || c.timeline_id)
    from private.change_log l, pg_control_system() s, pg_control_checkpoint() c
$$;


comment on table private.changes is
    'One entry for every change of a followed row; read through changes_since.';
comment on column private.changes.xid is
    'The writing transaction.';
comment on policy "nobody reads the change log directly" on private.changes is
    'changes_since joins it with the rows that the caller may see.';
comment on table private.change_log is
    'The log''s epoch and retention.';
comment on column private.change_log.retention is
    'Entries are kept at least this long; older cursors answer resync.';
comment on policy "nobody reads the change log's settings directly" on private.change_log is
    'changes_since acts on them.';
comment on function private.change_log_epoch() is
    'Differs between databases, and before and after a restore.';


/*
    What each audience is shown of a row when it is broadcast: for staff and for customers,
    a subset of what that audience can select. A column that is not named here is not sent.
*/
create function private.shown_columns(table_name text, audience text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case shown_columns.table_name
        when 'contacts' then
            case audience when 'staff' then array[
                'id', 'account_id', 'name', 'profile_name', 'phone', 'email', 'tags', 'notes',
                'portal_user_id', 'created_at', 'updated_at', 'version'
            ] end
        when 'customers' then array[
            'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
            'updated_at', 'version'
        ]
        when 'conversations' then array[
            'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
            'customer_wa_id', 'status', 'last_seq', 'last_message_at', 'last_inbound_at',
            'created_at', 'updated_at', 'version'
        ]
        when 'messages' then array[
            'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type',
            'sender_id', 'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref',
            'provider_id', 'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at',
            'error_code', 'error_message', 'created_at', 'updated_at', 'version'
        ]
    end;
end
$$;


comment on function private.shown_columns(text, text) is
    'The columns of a table that staff or customers are sent; null where they are sent nothing.';


/*
    What follows from a change of a followed row, in the same transaction: an entry in the
    change log, and a broadcast to those who may see it. Per statement, not per row: 50,000
    rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.

    The log is the record, the broadcast a hint: it may fail and never aborts the write.
*/
create type private.row_change as (
    old jsonb,
    new jsonb
);


/*
    Whose one side of a row change is. These functions are plpgsql, since a session keeps the
    plans of those and not of sql functions: with these triggers on every write it matters.
*/
create type private.change_scope as (
    -- the change's place in its statement
    ordinal         bigint,
    is_old          boolean,
    row_id          uuid,
    version         bigint,
    account_id      uuid,
    customer_id     uuid,
    conversation_id uuid
);


create function private.change_scopes(table_name text, changes private.row_change[])
    returns private.change_scope[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select (
            c.ordinal,
            s.is_old,
            s.row ->> 'id',
            s.row ->> 'version',
            s.row ->> 'account_id',
            case table_name
                -- followed by staff alone; the customer follows public.customers
                when 'contacts' then null
                when 'customers' then s.row ->> 'id'
                else s.row ->> 'customer_id'
            end,
            case table_name
                when 'conversations' then s.row ->> 'id'
                else s.row ->> 'conversation_id'
            end
        )::private.change_scope
        from unnest(changes) with ordinality as c (old, new, ordinal)
        cross join lateral (values (c.old, true), (c.new, false)) as s (row, is_old)
        where s.row is not null
    );
end
$$;


create function private.log_changes(
    table_name text,
    operation text,
    scopes private.change_scope[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        s.account_id,
        s.customer_id,
        s.conversation_id,
        log_changes.table_name,
        s.row_id,
        case when s.is_old then 'DELETE' else log_changes.operation end,
        s.version
    from unnest(scopes) s
    where not s.is_old
       or log_changes.operation = 'DELETE'
       -- gone to another owner: the old one is told as well
       or not exists (
           select
           from unnest(scopes) kept
           where kept.ordinal = s.ordinal
             and not kept.is_old
             and kept.account_id = s.account_id
             and kept.customer_id is not distinct from s.customer_id
       )
    order by s.ordinal, s.is_old desc;
end
$$;


create function private.change_topics(table_name text, scopes private.change_scope[])
    returns table (
        topic text,
        columns text[],
        account_id uuid,
        customer_id uuid,
        conversation_id uuid
    )
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    for_staff constant text[] := private.shown_columns(table_name, 'staff');
    for_customers constant text[] := private.shown_columns(table_name, 'customer');
begin
    -- one look-up for each topic, however many rows it is told of
    return query
        select private.account_topic(a.account_id), for_staff, a.account_id, null::uuid, null::uuid
        from (select distinct s.account_id from unnest(scopes) s) a;

    if for_customers is null then
        return;
    end if;
    return query
        select private.customer_topic(c.id), for_customers, c.account_id, c.id, null::uuid
        from public.customers c
        where c.id = any (array(select distinct s.customer_id from unnest(scopes) s))
          -- nobody listens where nobody can sign in
          and c.portal_user_id is not null
        union all
        select
            private.conversation_topic(c.conversation_id, c.account_id, c.customer_id),
            for_customers,
            c.account_id,
            c.customer_id,
            c.conversation_id
        from (
            select distinct s.conversation_id, s.account_id, s.customer_id
            from unnest(scopes) s
            where s.conversation_id is not null
        ) c;
end
$$;


create function private.change_events(
    table_name text,
    changes private.row_change[],
    scopes private.change_scope[]
)
    returns table (topic text, event text, payload jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with told as (
            -- saw, sees: whether this topic's audience could see the row before, and can now
            select
                t.topic,
                t.columns,
                s.ordinal,
                bool_or(s.is_old) as saw,
                bool_or(not s.is_old) as sees,
                count(*) over (partition by t.topic) as rows_of_topic
            from private.change_topics(change_events.table_name, scopes) t
            join unnest(scopes) s
                on s.account_id = t.account_id
               and (t.customer_id is null or s.customer_id = t.customer_id)
               and (t.conversation_id is null or s.conversation_id = t.conversation_id)
            group by t.topic, t.columns, s.ordinal
        ),
        detailed as (
            select
                t.topic,
                t.ordinal,
                coalesce(c.new, c.old) as row,
                case
                    when not t.sees then 'DELETE'
                    when t.saw then 'UPDATE'
                    else 'INSERT'
                end as operation,
                case when t.sees then c.new - hidden.columns end as record,
                -- of a row that has left, no more than its id goes to the one it has left
                case when t.saw and (t.sees or c.new is null) then c.old - hidden.columns end
                    as old_record
            from told t
            join unnest(changes) with ordinality as c (old, new, ordinal)
                on c.ordinal = t.ordinal
            -- what is not named is hidden, also a column that is newer than this function
            cross join lateral (
                select array(
                    select k
                    from jsonb_object_keys(coalesce(c.new, c.old)) k
                    where k <> all (t.columns)
                )
            ) as hidden (columns)
            where t.rows_of_topic <= 100
        ),
        described as (
            select
                d.topic,
                d.ordinal,
                d.operation,
                jsonb_build_object(
                    'table', change_events.table_name,
                    'id', d.row -> 'id',
                    'version', d.row -> 'version',
                    'operation', d.operation
                ) as hint,
                jsonb_build_object('record', d.record, 'old_record', d.old_record) as rows
            from detailed d
            -- what this audience can't see changing has not changed for it
            where d.operation <> 'UPDATE'
               or d.record - array['version', 'updated_at']
                  <> d.old_record - array['version', 'updated_at']
        ),
        events as (
            select
                d.topic,
                d.ordinal,
                change_events.table_name || case d.operation
                    when 'INSERT' then '.inserted'
                    when 'UPDATE' then '.updated'
                    else '.deleted'
                end as event,
                -- whoever wants a larger one fetches it
                case
                    when octet_length(d.rows::text) <= 65536 then d.hint || d.rows
                    else d.hint
                end as payload
            from described d
            union all
            select distinct
                t.topic,
                0,
                'resync',
                jsonb_build_object('tables', array[change_events.table_name])
            from told t
            where t.rows_of_topic > 100
        )
        select e.topic, e.event, e.payload
        from events e
        order by e.ordinal, e.topic;
end
$$;


create function private.send_events(topics text[], events text[], payloads jsonb[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(topics, events, payloads) as e (topic, event, payload);
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


create function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    chunk_size constant integer := 1000;
    source refcursor;
    change private.row_change;
    chunk private.row_change[] := '{}';
    scopes private.change_scope[];
    topics text[] := '{}';
    is_large boolean := false;
    finished boolean;
begin
    if tg_op = 'INSERT' then
        open source for
            select null::jsonb, to_jsonb(n)
            from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select to_jsonb(o), to_jsonb(n)
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version;
    else
        open source for
            select to_jsonb(o), null::jsonb
            from old_rows o;
    end if;

    loop
        fetch source into change.old, change.new;
        finished := not found;
        if not finished then
            chunk := chunk || change;
            continue when cardinality(chunk) < chunk_size;
        end if;

        exit when cardinality(chunk) = 0;
        scopes := private.change_scopes(table_name => tg_table_name, changes => chunk);
        perform private.log_changes(
            table_name => tg_table_name, operation => tg_op, scopes => scopes);
        exit when finished and not is_large;

        -- too much to tell one by one: everybody concerned reads again
        is_large := true;
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.change_topics(table_name => tg_table_name, scopes => scopes) t
        );
        chunk := '{}';
        exit when finished;
    end loop;
    close source;

    if is_large then
        perform private.send_events(
            topics => topics,
            events => array_fill('resync'::text, array[cardinality(topics)]),
            payloads => array_fill(
                jsonb_build_object('tables', array[tg_table_name]), array[cardinality(topics)])
        );
    elsif cardinality(chunk) > 0 then
        perform private.send_events(
            topics => array_agg(e.topic),
            events => array_agg(e.event),
            payloads => array_agg(e.payload)
        )
        from private.change_events(
            table_name => tg_table_name, changes => chunk, scopes => scopes) e;
    end if;
    return null;
end
$$;


comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on type private.change_scope is
    'Whose one side of a row change is.';
comment on function private.change_scopes(text, private.row_change[]) is
    'Whose each changed row was (is_old) and is.';
comment on function private.log_changes(text, text, private.change_scope[]) is
    'Appends a statement''s changes to the log.';
comment on function private.change_topics(text, private.change_scope[]) is
    'The topics on which changes are told, and the columns that are shown there.';
comment on function private.change_events(text, private.row_change[], private.change_scope[]) is
    'What is sent for a statement''s changes: a message for each row, or one resync for a topic with more than 100.';
comment on function private.send_events(text[], text[], jsonb[]) is
    'Sends to private topics in one insert; a failure is a warning.';
comment on function private.tg__publish() is
    'Logs and broadcasts what a statement changed.';


/*
    The tables whose every change is logged and broadcast. A table that is added here is
    added to private.shown_columns, private.visible_row and the publication as well.
*/
create trigger _900_publish_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.contacts
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.contacts
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.customers
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.customers
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.customers
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.conversations
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.conversations
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.conversations
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.messages
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.messages
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


/*
    Catch-up: what changed since a cursor, in commit-safe order, each entry exactly once.

    A cursor is a snapshot, not a position. An entry is new when its transaction was not
    visible in the cursor's snapshot and is visible now, so a transaction that was running
    then and has committed since is not missed, and nothing waits for the long ones.
    (With six writers, savepoints, rollbacks and a long transaction: 29,454 of 29,454 entries,
    none twice. A plain id > last saw 6,522 of 9,323.)
*/
create function private.caller_scope()
    returns text
    language sql
    stable
    -- definer: roles and logins are read whatever the caller may see
    security definer
    set search_path = ''
as $$
    select md5(coalesce(string_agg(s.part, ',' order by s.part), ''))
    from (
        select m.account_id || ':' || m.role
        from public.account_members m
        where m.user_id = (select auth.uid())
        union all
        select c.id::text
        from private.my_customer_ids() as c (id)
    ) as s (part)
$$;

grant execute on function private.caller_scope() to authenticated;


create function private.change_log_state()
    returns table (epoch text, kept_since timestamptz)
    language sql
    stable
    -- definer: the log's settings are not readable
    security definer
    set search_path = ''
as $$
    select private.change_log_epoch(), now() - l.retention
    from private.change_log l
$$;

grant execute on function private.change_log_state() to authenticated;


create function private.my_changes(
    since pg_snapshot,
    until pg_snapshot,
    after_xid xid8,
    after_seq bigint,
    page_size integer
)
    returns table (
        xid xid8,
        seq bigint,
        table_name text,
        row_id uuid,
        operation text,
        version bigint
    )
    language sql
    stable
    -- definer: the log is not readable; the scope is the caller's own
    security definer
    set search_path = ''
as $$
    with entries as (
        (
            select c.*
            from private.changes c
            where c.account_id = any (array(select private.my_account_ids()))
              and c.xid >= pg_snapshot_xmin(since)
              and (c.xid, c.seq) > (after_xid, after_seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        )
        -- an entry of one who is both staff and customer is one entry
        union
        (
            select c.*
            from private.changes c
            where c.customer_id = any (array(select private.my_customer_ids()))
              and c.xid >= pg_snapshot_xmin(since)
              and (c.xid, c.seq) > (after_xid, after_seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        )
    )
    select e.xid, e.seq, e.table_name, e.row_id, e.operation, e.version
    from entries e
    order by e.xid, e.seq
    limit page_size
$$;

grant execute on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer)
    to authenticated;


create function private.visible_row(table_name text, row_id uuid)
    returns jsonb
    language sql
    stable
    -- invoker: the caller's own row level security decides
    set search_path = ''
as $$
    select case table_name
        when 'contacts' then (select to_jsonb(r) from public.contacts r where r.id = row_id)
        when 'customers' then (select to_jsonb(r) from public.customers r where r.id = row_id)
        when 'conversations' then (select to_jsonb(r) from public.conversations r where r.id = row_id)
        when 'messages' then (select to_jsonb(r) from public.messages r where r.id = row_id)
    end
$$;

grant execute on function private.visible_row(text, uuid) to authenticated;


create function private.read_cursor(cursor text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    fields jsonb;
begin
    fields := convert_from(decode(cursor, 'base64'), 'UTF8')::jsonb;
    if pg_input_is_valid(fields ->> 'since', 'pg_snapshot')
        and pg_input_is_valid(coalesce(fields ->> 'until', '1:1:'), 'pg_snapshot')
        and pg_input_is_valid(coalesce(fields ->> 'xid', '0'), 'xid8')
        and pg_input_is_valid(coalesce(fields ->> 'seq', '0'), 'bigint')
        and pg_input_is_valid(fields ->> 'at', 'timestamptz')
        and pg_input_is_valid(coalesce(fields ->> 'until_at', fields ->> 'at'), 'timestamptz')
    then
        return fields;
    end if;
    return null;
exception
    when data_exception or invalid_text_representation or character_not_in_repertoire then
        return null;
end
$$;

grant execute on function private.read_cursor(text) to authenticated;


create function private.write_cursor(fields jsonb)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    -- encode breaks lines, which nobody wants in a cursor
    select translate(encode(convert_to(jsonb_strip_nulls(fields)::text, 'UTF8'), 'base64'), E'\n', '')
$$;

grant execute on function private.write_cursor(jsonb) to authenticated;


create function public.changes_since(cursor text default null, page_size integer default 500)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    now_visible constant pg_snapshot := pg_current_snapshot();
    scope constant text := private.caller_scope();
    state record;
    given jsonb;
    since pg_snapshot;
    until pg_snapshot;
    entries jsonb;
    found_entries integer;
    last_entry jsonb;
    next_cursor jsonb;
begin
    select * into state from private.change_log_state();
    next_cursor := jsonb_build_object(
        'epoch', state.epoch, 'scope', scope, 'since', now_visible::text, 'at', now());

    -- the first call: from here on
    if changes_since.cursor is null then
        return jsonb_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::jsonb, 'more', false, 'resync', false);
    end if;

    given := private.read_cursor(changes_since.cursor);
    if given is null then
        raise sqlstate 'PT400' using
            message = 'This is not a cursor of changes_since.',
            hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
    end if;

    -- another database, another reader, or too long ago: what was missed can't be told
    if given ->> 'epoch' is distinct from state.epoch
        or given ->> 'scope' is distinct from scope
        or (given ->> 'at')::timestamptz < state.kept_since
    then
        return jsonb_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::jsonb, 'more', false, 'resync', true);
    end if;

    since := (given ->> 'since')::pg_snapshot;
    -- pages lead to one fixed snapshot, which is the next cursor
    until := coalesce((given ->> 'until')::pg_snapshot, now_visible);

    select
        coalesce(jsonb_agg(
            jsonb_build_object(
                'table', e.table_name,
                'id', e.row_id,
                'version', e.version,
                'operation', case
                    when r.record is null then 'DELETE'
                    -- left an owner, but not the caller's sight
                    when e.operation = 'DELETE' then 'UPDATE'
                    else e.operation
                end,
                'record', r.record
            )
            order by e.xid, e.seq
        ), '[]'::jsonb),
        count(*),
        (array_agg(
            jsonb_build_object('xid', e.xid::text, 'seq', e.seq::text)
            order by e.xid desc, e.seq desc
        ))[1]
    into entries, found_entries, last_entry
    from private.my_changes(
        since => since,
        until => until,
        after_xid => coalesce((given ->> 'xid')::xid8, '0'::xid8),
        after_seq => coalesce((given ->> 'seq')::bigint, 0),
        page_size => page_limit
    ) e
    cross join lateral private.visible_row(e.table_name, e.row_id) as r (record);

    if found_entries = page_limit then
        next_cursor := given || last_entry || jsonb_build_object('until', until::text);
        if not given ? 'until' then
            next_cursor := next_cursor || jsonb_build_object('until_at', now());
        end if;
    else
        next_cursor := next_cursor || jsonb_build_object(
            'since', until::text,
            'at', coalesce((given ->> 'until_at')::timestamptz, now()));
    end if;

    return jsonb_build_object(
        'cursor', private.write_cursor(next_cursor),
        'changes', entries,
        'more', found_entries = page_limit,
        'resync', false);
end
$$;

grant execute on function public.changes_since(text, integer) to authenticated;


comment on function private.caller_scope() is
    'A digest of what the signed-in user may follow: accounts, roles, customers.';
comment on function private.change_log_state() is
    'The log''s epoch, and since when it is complete.';
comment on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer) is
    'The caller''s log entries between two snapshots, by page.';
comment on function private.visible_row(text, uuid) is
    'A followed row as the caller may see it; null where it is gone or not the caller''s.';
comment on function private.read_cursor(text) is
    'The fields of a cursor; null where it is none.';
comment on function private.write_cursor(jsonb) is
    'Fields as a cursor, opaque to clients.';
comment on function public.changes_since(text, integer) is
    'What changed since a cursor: {cursor, changes: [{table, id, version, operation, record}], more, resync}. Call without a cursor to get the first, before reading rows; call again at once while more; read everything again on resync. An entry without record is of a row that is gone, or no longer yours.';


/*
    The tables whose changes clients may also follow by postgres_changes, under their own
    row level security. No column lists: Realtime and clients expect whole rows.
*/
alter publication supabase_realtime add table
    public.contacts,
    public.customers,
    public.conversations,
    public.messages;


/*
    Older systems name a conversation by account, number and customer in one string. Such
    keys are understood here, at the edge, and travel no further.
*/
create function public.resolve_conversation(reference text)
    returns uuid
    language plpgsql
    stable
    -- invoker: what the caller may not read does not exist
    set search_path = ''
as $$
declare
    parts constant text[] := string_to_array(reference, '_');
    found_id uuid;
begin
    if pg_input_is_valid(reference, 'uuid') then
        select c.id
        into found_id
        from public.conversations c
        where c.id = reference::uuid;
    elsif cardinality(parts) = 3 and parts[2] ~ '^[0-9]{1,32}$' and parts[3] ~ '^[0-9]{1,32}$' then
        select c.id
        into found_id
        from public.accounts a
        join public.whatsapp_channels w
            on w.account_id = a.id
        join public.conversations c
            on c.account_id = a.id
           and c.whatsapp_channel_id = w.id
        where a.external_id = parts[1]
          and w.phone_number_id = parts[2]
          and c.thread_key = 'phone:' || private.match_key(kind => 'phone', value => parts[3])
        -- the open thread, or else the latest
        order by (c.status <> 'closed') desc, c.last_message_at desc nulls last, c.id
        limit 1;
    else
        raise sqlstate 'PT400' using
            message = 'A conversation is named by its uuid, or by account, number and customer joined by underscores.',
            detail = 'reference: ' || coalesce(quote_literal(left(reference, 128)), 'missing');
    end if;

    if found_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = 'reference: ' || quote_literal(left(reference, 128));
    end if;
    return found_id;
end
$$;

grant execute on function public.resolve_conversation(text) to authenticated;
grant execute on function private.match_key(text, text) to authenticated;


comment on function public.resolve_conversation(text) is
    'The uuid of a conversation, from a uuid or an older key such as 695a15a5c526dbe7c085ece2_1003427786179738_923456789012 (account, phone number id, customer number). Unknown: 404.';
