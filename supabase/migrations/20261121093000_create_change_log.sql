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
    -- an account, a customer or a conversation
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
    -- whoever leaves either side leaves the conversation, and so does a customer who loses it;
    -- the epochs are named with their owners, so that no two sets of them are alike
    return 'conversation:' || conversation_id || ':' || coalesce((
        select string_agg(left(e.owner_id::text, 8) || '-' || e.epoch, '.' order by e.owner_id)
        from private.topic_epochs e
        where e.owner_id in (
            conversation_topic.account_id,
            conversation_topic.customer_id,
            conversation_topic.conversation_id
        )
    ), '0');
end
$$;


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
    'How often a member left an account, a login a customer, or a conversation its customer; absent means never.';
comment on policy "nobody reads topic epochs directly" on private.topic_epochs is
    'Names of topics come from my_topics.';
comment on function private.topic_epoch(uuid) is
    'The epoch of an account, customer or conversation.';
comment on function private.account_topic(uuid) is
    'The topic of an account''s staff.';
comment on function private.customer_topic(uuid) is
    'The topic of one customer.';
comment on function private.conversation_topic(uuid, uuid, uuid) is
    'The topic of one conversation, for both its sides.';
comment on function private.may_receive(text) is
    'Whether the signed-in user may join a topic, by its present name.';
comment on function private.topics_of_caller(uuid) is
    'The topics of the signed-in user.';
comment on function public.my_topics(uuid) is
    'The private topics you may join: your accounts'', your own as a customer, and the given conversation''s. Ask again when a join is refused, and on the event topics.changed: names change when somebody leaves.';
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
            'customer_wa_id', 'status', 'created_at', 'updated_at', 'version'
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


create function private.hidden_columns(table_name text, audience text, sample jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    shown constant text[] := private.shown_columns(table_name, audience);
begin
    if shown is null then
        return null;
    end if;
    return array(
        select k
        from jsonb_object_keys(sample) k
        where k <> all (shown)
    );
end
$$;


comment on function private.shown_columns(text, text) is
    'The columns of a table that staff or customers are sent; null where they are sent nothing.';
comment on function private.hidden_columns(text, text, jsonb) is
    'The columns of a row that an audience is not sent, newer ones than shown_columns knows among them; null where it is sent nothing.';


/*
    Every change of a followed row becomes an entry of the change log, statement by statement.

    What runs on every write is plpgsql, since a session keeps the plans of that and not of sql
    functions, and it is few statements, since starting one is what costs.
*/
create type private.row_change as (
    old jsonb,
    new jsonb
);


create function private.customer_key(table_name text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case table_name
        -- followed by staff alone; the customer follows public.customers
        when 'contacts' then ''
        when 'customers' then 'id'
        else 'customer_id'
    end;
end
$$;


create function private.conversation_key(table_name text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case table_name when 'conversations' then 'id' else 'conversation_id' end;
end
$$;


create function private.log_changes(
    table_name text,
    operation text,
    changes private.row_change[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> customer_key)::uuid,
        (e.row ->> conversation_key)::uuid,
        log_changes.table_name,
        (e.row ->> 'id')::uuid,
        e.operation,
        (e.row ->> 'version')::bigint
    from unnest(changes) c
    cross join lateral (
        values
            -- gone to another owner: the old one is told as well
            (c.old, 'DELETE', c.old ->> customer_key <> c.new ->> customer_key),
            (coalesce(c.new, c.old), log_changes.operation, true)
    ) as e (row, operation, happened)
    where e.happened;
end
$$;


comment on type private.row_change is
    'A row before and after a change, either of which may be missing.';
comment on function private.customer_key(text) is
    'The column of a followed table that names the customer who follows the row.';
comment on function private.conversation_key(text) is
    'The column of a followed table that names the conversation.';
comment on function private.log_changes(text, text, private.row_change[]) is
    'Appends a statement''s changes to the log.';


/*
    A broadcast of changes to those who may see them. The log is the record, the broadcast a
    hint: it may fail and never aborts the write.
*/
create type private.broadcast_event as (
    topic   text,
    event   text,
    payload jsonb
);


create function private.listened_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- nobody listens where nobody can sign in
    return (
        select private.customer_topic(c.id)
        from public.customers c
        where c.id = listened_topic.customer_id
          and c.portal_user_id is not null
    );
end
$$;


create function private.changed_topics(table_name text, changes private.row_change[])
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    has_customers constant boolean := private.shown_columns(table_name, 'customer') is not null;
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                (s.row ->> customer_key)::uuid as customer_id,
                (s.row ->> conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- one look-up for each topic, however many rows it is told of
        topics as (
            select private.account_topic(o.account_id) as topic, count(*) as rows
            from owners o
            group by o.account_id
            union all
            select private.listened_topic(o.customer_id), count(*)
            from owners o
            where has_customers
            group by o.customer_id
            union all
            select
                private.conversation_topic(o.conversation_id, o.account_id, o.customer_id),
                count(*)
            from owners o
            where has_customers
              and o.conversation_id is not null
            group by o.conversation_id, o.account_id, o.customer_id
        )
        select t.topic, t.rows
        from topics t
        where t.topic is not null;
end
$$;


create function private.change_event(
    table_name text,
    topic text,
    operation text,
    current_row jsonb,
    record jsonb,
    old_record jsonb
)
    returns private.broadcast_event
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    hint constant jsonb := jsonb_build_object(
        'table', table_name,
        'id', current_row -> 'id',
        'version', current_row -> 'version',
        'operation', operation
    );
    payload constant jsonb :=
        hint || jsonb_build_object('record', record, 'old_record', old_record);
begin
    return (
        topic,
        table_name || case operation
            when 'INSERT' then '.inserted'
            when 'UPDATE' then '.updated'
            else '.deleted'
        end,
        case
            -- whoever wants a larger one fetches it; the first test spares most the second
            when pg_column_size(payload) > 16384 and octet_length(payload::text) > 65536
                then hint
            else payload
        end
    )::private.broadcast_event;
end
$$;


create function private.broadcast_changes(table_name text, changes private.row_change[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    customer_key constant text := private.customer_key(table_name);
    conversation_key constant text := private.conversation_key(table_name);
    -- they change with every change
    stamps constant text[] := array['version', 'updated_at'];
    staff_hidden constant text[] :=
        private.hidden_columns(table_name, 'staff', coalesce(changes[1].new, changes[1].old));
    customer_hidden constant text[] := case
        when private.shown_columns(table_name, 'customer')
             = private.shown_columns(table_name, 'staff') then staff_hidden
        else private.hidden_columns(table_name, 'customer', coalesce(changes[1].new, changes[1].old))
    end;
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    operation text;
    current_row jsonb;
    record jsonb;
    old_record jsonb;
    topic text;
begin
    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(table_name => broadcast_changes.table_name, changes => changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := case
            when change.new is null then 'DELETE'
            when change.old is null then 'INSERT'
            else 'UPDATE'
        end;

        record := change.new - staff_hidden;
        old_record := change.old - staff_hidden;
        -- what an audience can't see changing has not changed for it
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            topic := private.account_topic((current_row ->> 'account_id')::uuid);
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;

        continue when customer_hidden is null;
        record := change.new - customer_hidden;
        old_record := change.old - customer_hidden;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> customer_key <> change.new ->> customer_key then
            -- gone to another owner: it is new to that one, and the old one learns its id alone
            topic := private.listened_topic((change.old ->> customer_key)::uuid);
            if topic is not null and topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, 'DELETE', current_row, null, null);
            end if;
            operation := 'INSERT';
            old_record := null;
        end if;

        topic := private.listened_topic((current_row ->> customer_key)::uuid);
        if topic is not null and topic <> all (crowded) then
            events := events || private.change_event(
                table_name, topic, operation, current_row, record, old_record);
        end if;
        if current_row ? conversation_key then
            topic := private.conversation_topic(
                (current_row ->> conversation_key)::uuid,
                (current_row ->> 'account_id')::uuid,
                (current_row ->> customer_key)::uuid
            );
            if topic <> all (crowded) then
                events := events || private.change_event(
                    table_name, topic, operation, current_row, record, old_record);
            end if;
        end if;
    end loop;

    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(events) e;
    if crowded <> '{}' then
        perform private.broadcast_to(
            topics => crowded,
            event => 'resync',
            payload => jsonb_build_object('tables', array[table_name])
        );
    end if;
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


create function private.broadcast_to(topics text[], event text, payload jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    select t, 'broadcast', broadcast_to.event, broadcast_to.payload, true
    from unnest(topics) t;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on type private.broadcast_event is
    'A message for one topic.';
comment on function private.listened_topic(uuid) is
    'The topic of a customer who has a login; null for others.';
comment on function private.changed_topics(text, private.row_change[]) is
    'The topics that are told of changes, and of how many rows each.';
comment on function private.change_event(text, text, text, jsonb, jsonb, jsonb) is
    'What one topic is told of one changed row: {table, id, version, operation, record, old_record}; without the records where they are too large.';
comment on function private.broadcast_changes(text, private.row_change[]) is
    'Tells a statement''s changes: a message for each row, or one resync for a topic with more than 100. A failure is a warning.';
comment on function private.broadcast_to(text[], text, jsonb) is
    'Sends one message to several topics. A failure is a warning.';


/*
    What follows from a change of a followed row, in the same transaction. Per statement, not
    per row: 50,000 rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.
*/
create function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    -- a transition table is read whole while it is small
    small constant integer := 1000;
    source refcursor;
    change private.row_change;
    changes private.row_change[];
    topics text[] := '{}';
begin
    if tg_op = 'INSERT' then
        select array_agg((null, to_jsonb(n))::private.row_change)
        into changes
        from (select * from new_rows limit small + 1) n;
    elsif tg_op = 'UPDATE' then
        select array_agg((to_jsonb(o), to_jsonb(n))::private.row_change)
        into changes
        from (
            select o as old, n as new
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version
            limit small + 1
        ) as c (o, n);
    else
        select array_agg((to_jsonb(o), null)::private.row_change)
        into changes
        from (select * from old_rows limit small + 1) o;
    end if;

    if changes is null then
        return null;
    elsif cardinality(changes) <= small then
        perform private.log_changes(
            table_name => tg_table_name, operation => tg_op, changes => changes);
        perform private.broadcast_changes(table_name => tg_table_name, changes => changes);
        return null;
    end if;

    -- too much to hold at once, and to tell one by one: everybody concerned reads again
    if tg_op = 'INSERT' then
        open source for select null::jsonb, to_jsonb(n) from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select to_jsonb(o), to_jsonb(n)
            from old_rows o
            join new_rows n using (id)
            where n.version <> o.version;
    else
        open source for select to_jsonb(o), null::jsonb from old_rows o;
    end if;
    loop
        changes := '{}';
        loop
            fetch source into change.old, change.new;
            exit when not found;
            changes := changes || change;
            exit when cardinality(changes) = small;
        end loop;
        exit when changes = '{}';

        perform private.log_changes(
            table_name => tg_table_name, operation => tg_op, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(table_name => tg_table_name, changes => changes) t
        );
    end loop;
    close source;
    perform private.broadcast_to(
        topics => topics,
        event => 'resync',
        payload => jsonb_build_object('tables', array[tg_table_name])
    );
    return null;
end
$$;


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
    Leaving means leaving: when a member, a login or a conversation's customer goes, the topics
    that they could hear are renamed, and those who stay are told to ask for the new names.
*/
create function private.tg__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: topic epochs are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    -- the column that says whose topics are renamed
    owner constant uuid := to_jsonb(old) ->> tg_argv[0];
    account constant uuid := old.account_id;
    -- by their present names, on which everybody still listens
    topics text[] := array[private.account_topic(account)];
begin
    if not exists (select from public.accounts a where a.id = account) then
        -- the account itself is being deleted, and all of its topics with it
        return null;
    end if;

    -- an account's epoch is part of the names of all its conversations
    topics := topics || array(
        select private.customer_topic(c.id)
        from public.customers c
        where c.account_id = account
          and c.portal_user_id is not null
          and case tg_table_name
                  when 'account_members' then true
                  when 'conversations' then c.id::text = to_jsonb(new) ->> 'customer_id'
                  else false
              end
    );

    insert into private.topic_epochs as e (owner_id, account_id)
    values (owner, account)
    on conflict (owner_id) do update
        set epoch = e.epoch + 1;

    perform private.broadcast_to(topics => topics, event => 'topics.changed', payload => '{}');
    return null;
end
$$;


create trigger _500_raise_epoch
    after delete or update of account_id, user_id on public.account_members
    for each row
    execute function private.tg__raise_epoch('account_id');

create trigger _500_raise_epoch
    after update of portal_user_id on public.customers
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg__raise_epoch('id');

create trigger _500_raise_epoch
    after update of customer_id on public.conversations
    for each row
    when (old.customer_id <> new.customer_id)
    execute function private.tg__raise_epoch('id');


comment on function private.tg__raise_epoch() is
    'Renames the topics of whoever lost a listener, and tells the others.';


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
        join public.conversation_activity v
            on v.conversation_id = c.id
        where a.external_id = parts[1]
          and w.phone_number_id = parts[2]
          and c.thread_key = 'phone:' || private.match_key(kind => 'phone', value => parts[3])
        -- the open thread, or else the latest
        order by (c.status <> 'closed') desc, v.last_message_at desc, c.id
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
