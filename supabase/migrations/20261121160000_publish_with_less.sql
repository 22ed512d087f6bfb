/*
    A change is logged and told with fewer statements and fewer expressions, and a message taken
    in with half of the planner's work: each of them is set up anew by every call. Rows that
    changed are read a table at a time, not one by one.
*/
drop function private.hidden_columns(text, text, jsonb);
drop function private.log_changes(text, private.row_change[]);
drop function private.log_partly_hidden_changes(text, private.row_change[]);
drop function private.changed_topics(text, private.row_change[]);
drop function private.change_event(text, text, text, jsonb, jsonb, jsonb);
drop function private.broadcast_changes(text, private.row_change[]);
drop function private.broadcast_logged(uuid);
drop function private.continue_whatsapp_threads(private.whatsapp_item[]);
drop function private.apply_whatsapp_messages(private.whatsapp_item[], boolean);
drop function private.lock_whatsapp_numbers(private.whatsapp_item[]);
drop function private.customer_key(text);
drop function private.conversation_key(text);
drop function private.hides_rows(text);
drop function private.visible_row(text, uuid);
drop function private.settle_whatsapp_items(private.whatsapp_item[]);

create type private.row_topics as (
    account      text,
    customer     text,
    conversation text
);

create function private.row_topics(account_id uuid, customer_id uuid, conversation_id uuid)
    returns private.row_topics
    language plpgsql
    stable
    set search_path = ''
as $$
/*
    The three names above, as every write needs them: with one look-up where nobody ever left.
    Null for a customer who has no login: nobody listens there.
*/
declare
    somebody_left boolean;
    has_login boolean;
begin
    select
        exists (
            select
            from private.topic_epochs e
            where e.owner_id in (
                row_topics.account_id, row_topics.customer_id, row_topics.conversation_id
            )
        ),
        (
            select c.portal_user_id is not null
            from public.customers c
            where c.id = row_topics.customer_id
        )
    into somebody_left, has_login;

    if somebody_left then
        return (
            private.account_topic(account_id),
            case when has_login then private.customer_topic(customer_id) end,
            case when conversation_id is not null then
                private.conversation_topic(conversation_id, account_id, customer_id)
            end
        )::private.row_topics;
    end if;
    return (
        'account:' || account_id || ':0',
        case when has_login then 'customer:' || customer_id || ':0' end,
        'conversation:' || conversation_id || ':0'
    )::private.row_topics;
end
$$;

comment on type private.row_topics is
    'The topics that are told of a row; null where there is nobody to tell.';

comment on function private.row_topics(uuid, uuid, uuid) is
    'The topics of an account, of a customer who has a login, and of a conversation.';

create type private.change_operation as enum ('INSERT', 'UPDATE', 'DELETE');

alter table private.changes
    drop constraint changes_operation_check,
    drop constraint changes_customer_operation_check,
    alter column operation type private.change_operation
        using operation::private.change_operation,
    alter column customer_operation type private.change_operation
        using customer_operation::private.change_operation;

comment on type private.change_operation is
    'What happened to a row. (A check on a text is parsed anew by every statement: 1 % of ingest each.)';

/*
    What each audience is shown of a row when it is broadcast: for staff and for customers,
    a subset of what that audience can select. A column that is not named here is not sent.
*/
create or replace function private.shown_columns(table_name text, audience text)
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
                'portal_user_id', 'created_at', 'updated_at', 'version', 'username', 'status',
                'preferences', 'gsm', 'fax', 'business_entity', 'taxpayer', 'foreign_county',
                'buyer', 'supplier', 'tax_id_number', 'registration_number', 'street',
                'post_number', 'place', 'province', 'country', 'people', 'addresses'
            ] end
        when 'customers' then array[
            'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
            'updated_at', 'version', 'preferences'
        ]
        when 'conversations' then array[
            'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
            'customer_wa_id', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
        ]
        when 'messages' then array[
            'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type',
            'sender_id', 'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref',
            'provider_id', 'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at',
            'error_code', 'error_message', 'created_at', 'updated_at', 'version', 'reactions',
            'edited_at', 'revoked_at', 'booking_id', 'has_invoice', 'invoice_data',
            'whatsapp_channel_id'
        ]
        when 'jobs' then array[
            'id', 'account_id', 'customer_id', 'service_type', 'status', 'starts_at', 'ends_at',
            'address', 'description', 'created_at', 'updated_at', 'version'
        ]
        when 'invoices' then array[
            'id', 'account_id', 'customer_id', 'job_id', 'number', 'status', 'currency',
            'amount_minor', 'tax_minor', 'description', 'issued_at', 'due_at', 'sent_at',
            'paid_at', 'voided_at', 'created_at', 'updated_at', 'version'
        ]
        when 'loyalty_transactions' then array[
            'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_at',
            'created_at', 'updated_at', 'version'
        ]
        when 'sync_runs' then
            case audience when 'staff' then array[
                'id', 'account_id', 'direction', 'trigger', 'state', 'total', 'done', 'succeeded',
                'failed', 'unchanged', 'errors', 'user_id', 'started_at', 'finished_at',
                'duration_ms', 'created_at', 'updated_at', 'version'
            ] end
    end;
end
$$;

create type private.hidden_columns as (
    staff    text[],
    customer text[]
);

create or replace function private.hidden_columns(table_name text, sample jsonb)
    returns private.hidden_columns
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    staff constant text[] := private.shown_columns(table_name, 'staff');
    customer constant text[] := private.shown_columns(table_name, 'customer');
    -- hidden for sure; asking what else there is takes a statement
    known constant text[] := case hidden_columns.table_name
        when 'contacts' then array['profile_named_at', 'deleted_at', 'merged_into']
        else '{}'
    end;
begin
    if (customer = staff) is not false and sample - staff - known = '{}' then
        return (known, case when customer is not null then known end)::private.hidden_columns;
    end if;
    return (
        array(select k from jsonb_object_keys(sample) k where k <> all (staff)),
        case when customer is not null then
            array(select k from jsonb_object_keys(sample) k where k <> all (customer))
        end
    )::private.hidden_columns;
end
$$;

comment on type private.hidden_columns is
    'The columns of a row that staff and customers are not sent; null where they are sent nothing.';

comment on function private.hidden_columns(text, jsonb) is
    'What of a row each audience is not sent: columns that are known to be hidden, and newer ones that nobody has named.';

create type private.followed_table as (
    name             text,
    customer_key     text,
    conversation_key text,
    hides_rows       boolean
);

create function private.followed_table(name text)
    returns private.followed_table
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (
        name,
        case name
            -- followed by staff alone; the customer follows public.customers
            when 'contacts' then ''
            when 'customers' then 'id'
            else 'customer_id'
        end,
        case name when 'conversations' then 'id' else 'conversation_id' end,
        name = 'invoices'
    )::private.followed_table;
end
$$;

create or replace function private.log_changes(
    followed private.followed_table,
    operation text,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    if followed.hides_rows then
        return private.log_partly_hidden_changes(followed, changes);
    elsif operation = 'UPDATE' then
        return private.log_updates(followed, changes);
    end if;

    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    select
        (c.row ->> 'account_id')::uuid,
        (c.row ->> followed.customer_key)::uuid,
        (c.row ->> followed.conversation_key)::uuid,
        followed.name,
        (c.row ->> 'id')::uuid,
        log_changes.operation::private.change_operation,
        (c.row ->> 'version')::bigint
    from (
        select coalesce(n.new, n.old)
        from unnest(changes) n
    ) c (row);

    get diagnostics logged = row_count;
    return logged;
end
$$;

create function private.log_updates(
    followed private.followed_table,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version,
        customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        (e.row ->> followed.customer_key)::uuid,
        (e.row ->> followed.conversation_key)::uuid,
        followed.name,
        (e.row ->> 'id')::uuid,
        e.operation::private.change_operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation::private.change_operation
    from unnest(changes) c
    cross join lateral (
        select c.old ->> followed.customer_key <> c.new ->> followed.customer_key as has_moved
    ) m
    cross join lateral (
        values
            -- gone to another owner: the old one is told as well, and to the new one it is new
            (c.old, 'DELETE', null, m.has_moved),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case when m.has_moved then 'INSERT' end,
                true
            )
    ) as e (row, operation, customer_operation, happened)
    where e.happened;

    get diagnostics logged = row_count;
    return logged;
end
$$;

create or replace function private.log_partly_hidden_changes(
    followed private.followed_table,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged integer;
begin
    insert into private.changes (
        account_id, customer_id, table_name, row_id, operation, version, customer_operation
    )
    select
        (e.row ->> 'account_id')::uuid,
        -- what the customer does not see does not happen to them
        case when e.is_seen then (e.row ->> followed.customer_key)::uuid end,
        followed.name,
        (e.row ->> 'id')::uuid,
        e.operation::private.change_operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation::private.change_operation
    from unnest(changes) c
    cross join lateral (
        select
            c.old ->> followed.customer_key <> c.new ->> followed.customer_key as has_moved,
            private.customer_change(table_name => followed.name, change => c) as seen
    ) m
    cross join lateral (
        values
            (c.old, 'DELETE', null, (m.seen).old is not null, m.has_moved and (m.seen).old is not null),
            (
                coalesce(c.new, c.old),
                private.row_operation(c),
                case
                    when m.has_moved then 'INSERT'
                    else nullif(private.row_operation(m.seen), private.row_operation(c))
                end,
                num_nonnulls((m.seen).old, (m.seen).new) > 0
                    and not (m.has_moved and (m.seen).new is null),
                true
            )
    ) as e (row, operation, customer_operation, is_seen, happened)
    where e.happened;

    get diagnostics logged = row_count;
    return logged;
end
$$;

comment on type private.followed_table is
    'What the rows of a table are followed by: the columns that name the customer and the conversation, and whether there are rows of a customer that are not theirs to see.';

comment on function private.followed_table(text) is
    'How a table is followed.';

comment on function private.log_partly_hidden_changes(private.followed_table, private.row_change[]) is
    'Appends changes of a table whose customers see some of its rows; returns how many entries.';

comment on function private.log_changes(private.followed_table, text, private.row_change[]) is
    'Appends a statement''s changes to the log; returns how many entries.';

comment on function private.log_updates(private.followed_table, private.row_change[]) is
    'Appends updates to the log, and what they are to those who lose or gain a row; returns how many entries.';

create or replace function private.changed_topics(
    followed private.followed_table,
    changes private.row_change[]
)
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    has_customers constant boolean :=
        private.shown_columns(followed.name, 'customer') is not null;
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                -- null where the customer does not see the row
                case
                    when not followed.hides_rows or s.row in ((c.seen).old, (c.seen).new)
                        then (s.row ->> followed.customer_key)::uuid
                end as customer_id,
                (s.row ->> followed.conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (
                select case when followed.hides_rows then private.customer_change(
                    table_name => followed.name,
                    change => (n.old, n.new)::private.row_change
                ) end as seen
            ) c
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- one look-up for each topic, however many rows it is told of: not materialized, it
        -- would be asked for each row, by the condition below
        topics as materialized (
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

create or replace function private.change_event(
    table_name text,
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
    event private.broadcast_event;
begin
    event.event := table_name || case operation
        when 'INSERT' then '.inserted'
        when 'UPDATE' then '.updated'
        else '.deleted'
    end;
    event.payload := jsonb_build_object(
        'table', table_name,
        'id', current_row -> 'id',
        'version', current_row -> 'version',
        'operation', operation,
        'record', record,
        'old_record', old_record
    );
    -- whoever wants a larger one fetches it; the first test spares most the second
    if pg_column_size(event.payload) > 16384 and octet_length(event.payload::text) > 65536 then
        event.payload := event.payload - array['record', 'old_record'];
    end if;
    return event;
end
$$;

create or replace function private.broadcast_changes(
    followed private.followed_table,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- they change with every change
    stamps constant text[] := array['version', 'updated_at'];
    hidden constant private.hidden_columns :=
        private.hidden_columns(followed.name, coalesce(changes[1].new, changes[1].old));
    crowded text[] := '{}';
    events private.broadcast_event[] := '{}';
    change private.row_change;
    current_row jsonb;
    operation text;
    record jsonb;
    old_record jsonb;
    event private.broadcast_event;
    nothing constant private.broadcast_event := null;
    topics private.row_topics;
    lost_topic text;
begin
    -- of many statements whoever makes them tells at the end: broadcast_logged
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return 0;
    end if;

    if cardinality(changes) > 100 then
        crowded := array(
            select t.topic
            from private.changed_topics(followed, changes) t
            where t.rows > 100
        );
    end if;

    foreach change in array changes loop
        current_row := coalesce(change.new, change.old);
        operation := private.row_operation(change);
        topics := private.row_topics(
            account_id => (current_row ->> 'account_id')::uuid,
            customer_id => (current_row ->> followed.customer_key)::uuid,
            conversation_id => (current_row ->> followed.conversation_key)::uuid
        );

        record := change.new - hidden.staff;
        old_record := change.old - hidden.staff;
        event := nothing;
        -- what an audience can't see changing has not changed for it
        if operation <> 'UPDATE' or record - stamps <> old_record - stamps then
            event := private.change_event(
                followed.name, operation, current_row, record, old_record);
            if topics.account <> all (crowded) then
                event.topic := topics.account;
                events := events || event;
            end if;
        end if;

        continue when hidden.customer is null;
        if followed.hides_rows then
            change := private.customer_change(table_name => followed.name, change => change);
            continue when num_nonnulls(change.old, change.new) = 0;
            -- what comes into sight is new, what goes out of it is gone
            operation := private.row_operation(change);
            current_row := coalesce(change.new, change.old);
        end if;
        if followed.hides_rows or hidden.customer <> hidden.staff then
            record := change.new - hidden.customer;
            old_record := change.old - hidden.customer;
            event := nothing;
        end if;
        continue when operation = 'UPDATE' and record - stamps = old_record - stamps;

        if change.old ->> followed.customer_key <> change.new ->> followed.customer_key then
            -- gone to another owner: it is new to that one, and the old one learns its id alone
            lost_topic := private.listened_topic((change.old ->> followed.customer_key)::uuid);
            if lost_topic is not null and lost_topic <> all (crowded) then
                event := private.change_event(followed.name, 'DELETE', current_row, null, null);
                event.topic := lost_topic;
                events := events || event;
            end if;
            operation := 'INSERT';
            old_record := null;
            event := nothing;
        end if;

        if event.event is null then
            event := private.change_event(
                followed.name, operation, current_row, record, old_record);
        end if;
        if topics.customer is not null and topics.customer <> all (crowded) then
            event.topic := topics.customer;
            events := events || event;
        end if;
        if topics.conversation is not null and topics.conversation <> all (crowded) then
            event.topic := topics.conversation;
            events := events || event;
        end if;
    end loop;

    insert into realtime.messages (topic, extension, event, payload, private)
    select e.topic, 'broadcast', e.event, e.payload, true
    from unnest(events) e;
    if crowded <> '{}' then
        perform private.broadcast_to(
            topics => crowded,
            event => 'resync',
            payload => jsonb_build_object('tables', array[followed.name])
        );
    end if;
    return cardinality(events);
exception
    when others then
        -- the log has it; a client that hears nothing finds it on its next poll
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
        return 0;
end
$$;

comment on function private.changed_topics(private.followed_table, private.row_change[]) is
    'The topics that are told of changes, and of how many rows each.';

comment on function private.change_event(text, text, jsonb, jsonb, jsonb) is
    'What an audience is told of one changed row, without its topic: {table, id, version, operation, record, old_record}; without the records where they are too large.';

comment on function private.broadcast_changes(private.followed_table, private.row_change[]) is
    'Tells a statement''s changes: a message for each row, or one resync for a topic with more than 100; returns how many messages that were of a row. A failure is a warning.';

/*
    What a transaction of many small statements tells at its end, from its entries in the log.
    An import gives each row a statement and a savepoint of its own: told as they are written,
    200 new contacts were 400 messages.

    With the setting rapport.broadcast_later on, broadcast_changes is silent; whoever turns it on
    for their transaction calls this, and turns it off again.
*/
create or replace function private.broadcast_logged(account_id uuid, to_staff boolean default true)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    with told as materialized (
        select
            t.topic,
            l.table_name,
            t.operation,
            l.row_id,
            l.version,
            count(*) over (partition by t.topic, l.table_name) > 100 as crowded
        from private.changes l
        cross join lateral (
            select private.account_topic(l.account_id), l.operation::text
            where to_staff
            union all
            select c.topic, coalesce(l.customer_operation, l.operation)::text
            from (
                values
                    (private.listened_topic(l.customer_id)),
                    (private.conversation_topic(l.conversation_id, l.account_id, l.customer_id))
            ) as c (topic)
            where private.shown_columns(l.table_name, 'customer') is not null
        ) as t (topic, operation)
        where l.account_id = broadcast_logged.account_id
          and l.xid = pg_current_xact_id()
          and t.topic is not null
    )
    select
        t.topic,
        'broadcast',
        'resync',
        jsonb_build_object('tables', jsonb_agg(distinct t.table_name)),
        true
    from told t
    where t.crowded
    group by t.topic
    union all
    -- the log has no rows: as of those that are too large, whoever wants one fetches it
    select t.topic, 'broadcast', e.event, e.payload - array['record', 'old_record'], true
    from told t
    cross join lateral private.change_event(
        table_name => t.table_name,
        operation => t.operation,
        current_row => jsonb_build_object('id', t.row_id, 'version', t.version),
        record => null,
        old_record => null
    ) e
    where not t.crowded;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;

comment on function private.broadcast_logged(uuid, boolean) is
    'Tells staff and customers, or customers alone, what this transaction has logged of an account: {table, id, version, operation} for each change, or one resync for a topic with more than 100 of a table. A failure is a warning.';

create or replace function private.tg__publish()
    returns trigger
    language plpgsql
    -- definer: the log and the topics are nobody's to write
    security definer
    set search_path = ''
    -- rows are looked up by key, a few at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- old and new rows are matched by hash: the plan of one row, kept, would compare each of
    -- 10,000 with each, 8 s
    set enable_nestloop = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    -- a transition table is read whole while it is small
    small constant integer := 1000;
    followed constant private.followed_table := private.followed_table(tg_table_name);
    source refcursor;
    change private.row_change;
    changes private.row_change[];
    logged integer;
    told integer;
    topics text[] := '{}';
begin
    if tg_op = 'INSERT' then
        select array_agg(i.change)
        into changes
        from (
            select (null, to_jsonb(n))::private.row_change
            from new_rows n
            limit small + 1
        ) i (change);
    elsif tg_op = 'UPDATE' then
        select array_agg(c)
        into changes
        from (
            select o as old, n as new
            from old_rows o
            join new_rows n using (id)
            -- the stamp left the version alone where nothing changed
            where n.version <> o.version
            limit small + 1
        ) as u (o, n)
        cross join lateral private.shown_change(to_jsonb(u.o), to_jsonb(u.n)) c
        where num_nonnulls(c.old, c.new) > 0;
    else
        select array_agg(d.change)
        into changes
        from (
            select (to_jsonb(o), null)::private.row_change
            from old_rows o
            limit small + 1
        ) d (change);
    end if;

    if changes is null then
        return null;
    elsif cardinality(changes) <= small then
        logged := private.log_changes(followed, operation => tg_op, changes => changes);
        if current_setting('rapport.quiet', true) = 'yes' then
            -- staff are told once, when all of it is done; customers of their own at once
            changes := array(
                select c
                from unnest(changes) c
                where coalesce(c.old ->> 'portal_user_id', c.new ->> 'portal_user_id') is not null
            );
            if changes = '{}' then
                return null;
            end if;
        end if;
        told := private.broadcast_changes(followed, changes);
        return null;
    end if;

    -- too much to hold at once, and to tell one by one: everybody concerned reads again
    if tg_op = 'INSERT' then
        open source for select null::jsonb, to_jsonb(n) from new_rows n;
    elsif tg_op = 'UPDATE' then
        open source for
            select c.old, c.new
            from old_rows o
            join new_rows n using (id)
            cross join lateral private.shown_change(to_jsonb(o), to_jsonb(n)) c
            where n.version <> o.version
              and num_nonnulls(c.old, c.new) > 0;
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

        logged := private.log_changes(followed, operation => tg_op, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(followed, changes) t
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

create or replace function private.my_changes(
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
            select c.xid, c.seq, c.table_name, c.row_id, c.operation::text, c.version
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
            select
                c.xid,
                c.seq,
                c.table_name,
                c.row_id,
                coalesce(c.customer_operation, c.operation)::text as operation,
                c.version
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

create function private.visible_rows(table_name text, row_ids uuid[])
    returns table (row_id uuid, record jsonb)
    language plpgsql
    stable
    -- invoker: the caller's own row level security decides, once for all rows of a table
    set search_path = ''
as $$
begin
    case table_name
        when 'contacts' then
            return query
            select r.id, to_jsonb(r)
            from public.contacts r
            where r.id = any (row_ids)
              and r.deleted_at is null;
        when 'customers' then
            return query
            select r.id, to_jsonb(r)
            from public.customers r
            where r.id = any (row_ids);
        when 'conversations' then
            return query
            select r.id, to_jsonb(r)
            from public.conversations r
            where r.id = any (row_ids);
        when 'messages' then
            return query
            select r.id, to_jsonb(r)
            from public.messages r
            where r.id = any (row_ids);
        when 'jobs' then
            return query
            select r.id, to_jsonb(r)
            from public.jobs r
            where r.id = any (row_ids);
        when 'invoices' then
            return query
            select r.id, to_jsonb(r)
            from public.invoices r
            where r.id = any (row_ids);
        when 'loyalty_transactions' then
            return query
            select r.id, to_jsonb(r)
            from public.loyalty_transactions r
            where r.id = any (row_ids);
        when 'sync_runs' then
            return query
            select r.id, to_jsonb(r)
            from public.sync_runs r
            where r.id = any (row_ids);
        else
            -- one that a later version follows
            return;
    end case;
end
$$;

grant execute on function private.visible_rows(text, uuid[]) to authenticated;

create or replace function public.changes_since(cursor text default null, page_size integer default 500)
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
        -- taken before the disk was put back to an earlier time
        or pg_snapshot_xmax((given ->> 'since')::pg_snapshot) > pg_snapshot_xmax(now_visible)
    then
        return jsonb_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::jsonb, 'more', false, 'resync', true);
    end if;

    since := (given ->> 'since')::pg_snapshot;
    -- pages lead to one fixed snapshot, which is the next cursor
    until := coalesce((given ->> 'until')::pg_snapshot, now_visible);

    with page as materialized (
        select c.xid, c.seq, c.table_name, c.row_id, c.operation, c.version
        from private.my_changes(
            since => since,
            until => until,
            after_xid => coalesce((given ->> 'xid')::xid8, '0'::xid8),
            after_seq => coalesce((given ->> 'seq')::bigint, 0),
            page_size => page_limit
        ) c
    ),
    seen as (
        select t.table_name, r.row_id, r.record
        from (
            select p.table_name, array_agg(distinct p.row_id) as row_ids
            from page p
            group by p.table_name
        ) t
        cross join lateral private.visible_rows(t.table_name, t.row_ids) r
    )
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
    from page e
    left join seen r on r.table_name = e.table_name and r.row_id = e.row_id;

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

comment on function private.visible_rows(text, uuid[]) is
    'Those of a followed table''s rows that are there and that the caller may see.';

create or replace function private.read_whatsapp_items(items jsonb)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    read private.whatsapp_item[];
begin
    /*
        Only the number decides whose an update is. Whatever the caller said in the fields
        that are found out here is not read.
    */
        -- a row of casts: jsonb_populate_record looks up every column's type at each call
    select array_agg((
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'username',
            i.value ->> 'sent_at',
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'sender_type',
            i.value ->> 'sender_id',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            i.value ->> 'at',
            i.value ->> 'error_code',
            i.value ->> 'error_message',
            i.value ->> 'message_ref',
            w.account_id,
            w.id,
            k.kind,
            private.match_key(kind => k.kind, value => k.value),
            null,
            null,
            null,
            null,
            null
        )::private.whatsapp_item)
    into read
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' not in ('skipped', 'account_event');
    read := coalesce(read, '{}');
    if cardinality(read) < jsonb_array_length(items)
        and items @? '$[*].kind ? (@ == "account_event")'
    then
        read := read || private.read_account_events(items);
    end if;
    return read;
end
$$;

create or replace function private.continue_whatsapp_threads(
    items private.whatsapp_item[],
    out placed private.whatsapp_item[],
    out to_settle boolean
)
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in one statement: everybody is known, by the names and the spelling that
    they give, and has an open conversation. Null, and nothing locked, where that is not so of
    all; RP003 where it no longer is when they are locked. Those locks must then go, also of rows
    that are passed over: what follows begins with identities.

    In passing: whether anything has waited for one of them, or one may have to wait.
*/
declare
    found_count integer;
    locked_count integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, whatever the
    -- planner thinks of the tables' sizes
    select
        -- whoever owns the number now, an open thread stays with its customer
        array_agg(private.placed_whatsapp_item(f.item, c.id, c.customer_id)),
        coalesce(bool_or(f.to_settle), false),
        count(f.id),
        count(c.id)
    into placed, to_settle, found_count, locked_count
    from (
        select
            i as item,
            thread.id,
            i.reply_to is not null
                or i.kind = 'echo'
                or effect.is_there
                or reply.is_there as to_settle,
            count(*) over () as found_count
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
        cross join lateral (
            select k.id
            from public.contacts k
            where k.id = owner.contact_id
              and (i.profile_name is null or k.profile_name = i.profile_name)
              and (i.username is null or k.username = i.username)
            limit 1
        ) named
        cross join lateral (
            select t.id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = coalesce(
                  'phone:' || case when i.identity_kind = 'bsuid' then
                      private.number_of_contact_user(
                          account_id => i.account_id,
                          user_id => i.user_id,
                          contact_id => owner.contact_id
                      )
                  end,
                  i.identity_kind || ':' || i.identity_key
              )
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        left join lateral (
            select u.contact_id
            from public.contact_identities u
            where u.account_id = i.account_id
              and u.kind = 'bsuid'
              and u.match_key = i.user_id
            limit 1
        ) by_user on true
        left join lateral (
            select true as is_there
            from private.message_effects e
            where e.whatsapp_channel_id = i.whatsapp_channel_id
              and e.parent_provider_id = i.provider_id
            limit 1
        ) effect on true
        left join lateral (
            select true as is_there
            from private.parked_replies p
            where p.whatsapp_channel_id = i.whatsapp_channel_id
              and p.parent_provider_id = i.provider_id
            limit 1
        ) reply on true
        where i.kind in ('message', 'echo')
          and (
              i.user_id is null
              or i.identity_kind = 'bsuid'
              or by_user.contact_id = owner.contact_id
              and i.identity_key = private.number_of_user(
                  account_id => i.account_id, user_id => i.user_id)
          )
        order by thread.id
    ) f
    left join lateral (
        select k.id, k.customer_id
        from public.conversations k
        where k.id = f.id
          and k.status <> 'closed'
          -- or nothing is locked
          and f.found_count = cardinality(items)
        for no key update
    ) c on true;

    if found_count < cardinality(items) then
        placed := null;
    elsif locked_count < found_count then
        raise sqlstate 'RP003';
    end if;
end
$$;

comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the open conversations of messages, if all of them have one; says whether they are to be settled.';

create or replace function private.append_whatsapp_messages(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    appended integer;
begin
    -- the conversations are locked: nobody else numbers messages in them
    with fresh as materialized (
        select
            i.account_id,
            i.conversation_id,
            i.contact_id,
            i.kind,
            i.wa_id,
            i.user_id,
            i.profile_name,
            i.type,
            i.text,
            i.content,
            i.reply_to,
            i.whatsapp_channel_id,
            i.provider_id,
            i.sent_at,
            row_number() over (
                partition by i.conversation_id
                order by i.sent_at, i.provider_id
            ) as place
        from unnest(items) i
        left join lateral (
            select true as is_there
            from public.messages m
            where m.whatsapp_channel_id = i.whatsapp_channel_id
              and m.provider_id = i.provider_id
            limit 1
        ) known on true
        where known.is_there is null
    ),
    latest as (
        select
            f.conversation_id,
            count(*) as added,
            max(f.sent_at) as sent_at,
            max(f.sent_at) filter (where f.kind = 'message') as inbound_at
        from fresh f
        group by f.conversation_id
    ),
    counted as (
        update public.conversation_activity a
        set last_seq = a.last_seq + l.added,
            -- the first message's time, however old it is, replaces the conversation's own
            last_message_at = case
                when a.last_seq = 0 then l.sent_at
                else greatest(a.last_message_at, l.sent_at)
            end,
            last_inbound_at = greatest(a.last_inbound_at, l.inbound_at)
        from latest l
        where a.conversation_id = l.conversation_id
        returning a.conversation_id, a.last_seq - l.added as last_seq
    )
    insert into public.messages (
        account_id, conversation_id, customer_id, seq, sender_type, sender_id, sender_name,
        type, message, content, reply_to, whatsapp_channel_id, provider_id, status, sent_at
    )
    select
        f.account_id,
        f.conversation_id,
        f.contact_id,
        c.last_seq + f.place,
        case f.kind when 'system' then 'system' when 'echo' then 'operator' else 'client' end,
        case f.kind when 'message' then coalesce(f.wa_id, f.user_id) end,
        f.profile_name,
        f.type,
        f.text,
        f.content,
        case when f.reply_to is not null then private.answered_message(
            conversation_id => f.conversation_id,
            whatsapp_channel_id => f.whatsapp_channel_id,
            provider_id => f.reply_to
        ) end,
        f.whatsapp_channel_id,
        f.provider_id,
        -- what becomes of an echo its statuses say
        case f.kind when 'echo' then 'sent' else 'delivered' end,
        f.sent_at
    from fresh f
    join counted c
        on c.conversation_id = f.conversation_id
    -- as they are numbered, so the log has them
    order by f.conversation_id, f.sent_at, f.provider_id;

    get diagnostics appended = row_count;
    return appended;
end
$$;

create or replace function private.apply_whatsapp_messages(
    items private.whatsapp_item[],
    may_continue boolean,
    settles boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    continued record;
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    usernames private.username_change[] := '{}';
    has_notices boolean;
    may_be_two boolean;
    has_usernames boolean;
    learnt private.learnt_number[] := '{}';
    applied integer;
    settled integer;
begin
    if may_continue then
        continued := private.continue_whatsapp_threads(items);
        if continued.placed is not null then
            applied := private.append_whatsapp_messages(continued.placed);
            if settles and continued.to_settle then
                settled := private.settle_whatsapp_items(items);
            end if;
            return applied;
        end if;
    end if;

    -- a repeated delivery ends here, having locked and written nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where (
        select true
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
        limit 1
    ) is null;
    if fresh is null then
        return 0;
    end if;

    select
        bool_or(i.kind = 'system'),
        bool_or(i.user_id is not null or i.kind = 'system'),
        bool_or(i.username is not null)
    into has_notices, may_be_two, has_usernames
    from unnest(fresh) i;

    -- identities
    if has_notices then
        fresh := private.relink_whatsapp_senders(fresh);
    end if;
    fresh := private.claim_whatsapp_senders(fresh);
    if has_usernames then
        usernames := private.claim_whatsapp_usernames(fresh);
    end if;
    if may_be_two then
        learnt := private.learn_user_numbers(fresh);
    end if;

    -- contacts
    if has_notices or cardinality(usernames) > 0 or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_contacts(fresh, usernames);
    end if;
    perform private.name_whatsapp_senders(fresh, usernames);
    if cardinality(usernames) > 0 then
        perform private.write_whatsapp_usernames(usernames);
    end if;
    perform private.write_learnt_phones(learnt);

    -- conversations
    if has_notices then
        perform private.move_whatsapp_phones(fresh);
    end if;
    placed := private.follow_numbers(fresh);
    if has_notices or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_threads(placed);
    end if;
    if has_notices then
        perform private.move_whatsapp_threads(fresh);
    end if;
    if cardinality(learnt) > 0 then
        perform private.move_learnt_threads(learnt);
    end if;
    placed := private.open_whatsapp_threads(placed);

    if may_be_two then
        perform private.suggest_same_senders(fresh);
    end if;
    applied := private.append_whatsapp_messages(placed);
    if settles then
        settled := private.settle_whatsapp_items(items);
    end if;
    return applied;
end
$$;

comment on function private.apply_whatsapp_messages(private.whatsapp_item[], boolean, boolean) is
    'Everything that follows from a batch of received messages; returns how many were new. Settles what has waited for them, unless somebody else does.';

create function private.settle_whatsapp_items(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
begin
    -- the common case: a message for which nothing has waited
    perform
    from unnest(items) i
    left join lateral (
        select true as is_there
        from private.message_effects e
        where e.whatsapp_channel_id = i.whatsapp_channel_id
          and e.parent_provider_id = i.provider_id
        limit 1
    ) effect on true
    left join lateral (
        select true as is_there
        from private.parked_replies p
        where p.whatsapp_channel_id = i.whatsapp_channel_id
          and p.parent_provider_id = i.provider_id
        limit 1
    ) reply on true
    where i.kind in ('status', 'effect', 'echo')
       or i.reply_to is not null
       or effect.is_there
       or reply.is_there
    limit 1;
    if not found then
        return 0;
    end if;

    perform private.park_replies(items);
    message_ids := array_remove(private.messages_to_settle(items), null);
    if message_ids = '{}' then
        return 0;
    end if;
    -- all of them at once: a second round would lock out of order
    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    perform private.attach_named_messages(items);
    perform private.settle_messages(message_ids);
    return cardinality(message_ids);
end
$$;

comment on function private.settle_whatsapp_items(private.whatsapp_item[]) is
    'Brings together what belongs together, after a batch''s messages, statuses and effects are kept; returns of how many messages.';

/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Where a set fails, the updates that are
    at fault are looked for, and what passes is applied as a set again.
*/
create or replace function private.apply_whatsapp_items(
    items private.whatsapp_item[],
    may_continue boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    whatsapp_channel_id uuid;
    number bigint;
    numbers bigint[] := '{}';
    parent text;
    alone boolean := false;
    has_news boolean := false;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
    is_locked boolean;
    settled integer;
begin
    -- a loop of expressions takes less than starting a statement
    foreach item in array items loop
        if item.whatsapp_channel_id is distinct from whatsapp_channel_id then
            whatsapp_channel_id := item.whatsapp_channel_id;
            number := private.whatsapp_number_lock(whatsapp_channel_id);
            if number <> all (numbers) then
                numbers := numbers || number;
            end if;
        end if;
        parent := case when item.kind = 'status' then item.provider_id else item.reply_to end;
        if parent is not null and not alone then
            alone := private.message_by_provider_id(
                whatsapp_channel_id => item.whatsapp_channel_id, provider_id => parent
            ) is null;
        end if;
        has_news := has_news or item.kind not in ('message', 'echo', 'system');
    end loop;

    -- before all other locks, which are taken under it, in one order by all
    if cardinality(numbers) > 1 then
        numbers := array(select n from unnest(numbers) n order by n);
    end if;
    foreach number in array numbers loop
        -- here and elsewhere: an assignment calls a function, perform runs a statement for it
        if alone then
            is_locked := pg_advisory_xact_lock(number) is not null;
        else
            is_locked := pg_advisory_xact_lock_shared(number) is not null;
        end if;
    end loop;

    if has_news then
        applied := private.keep_whatsapp_news(items);
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system')
        );
    end if;
    if cardinality(messages) > 0 then
        applied := applied
            + private.apply_whatsapp_messages(messages, may_continue, settles => not has_news);
    end if;
    if has_news then
        -- this locks messages, so it comes once, after what locks conversations
        settled := private.settle_whatsapp_items(items);
    end if;
    return applied;
end
$$;

create or replace function private.try_whatsapp_items(
    items jsonb,
    out applied integer,
    out duplicates integer,
    out rejections jsonb,
    out usable private.whatsapp_item[]
)
    language plpgsql
    set search_path = ''
as $$
declare
    refused jsonb;
    may_continue boolean := true;
begin
    rejections := '[]';
    -- one block for reading and applying: each is a subtransaction
    loop
        begin
            if usable is null then
                usable := private.read_whatsapp_items(items);
            end if;
            applied := private.apply_whatsapp_items(usable, may_continue);
            exit;
        exception
            -- in haste it did not go; that is undone
            when sqlstate 'RP003' then
                may_continue := false;
            -- contention is for the caller to repeat, whole
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                if usable is null then
                    select r.readable, r.refused
                    into usable, rejections
                    from private.readable_whatsapp_items(items) r;
                else
                    select a.applicable, a.refused
                    into usable, refused
                    from private.applicable_whatsapp_items(usable) a;
                    rejections := rejections || refused;
                    applied := private.apply_whatsapp_items(usable, false);
                    exit;
                end if;
        end;
    end loop;

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;

create or replace function private.shown_rejections(rejections jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- nearly always; where a query is part of an expression, that takes a statement
    if rejections = '[]' then
        return rejections;
    end if;
    return (
        select jsonb_agg(r.value - 'detail')
        from jsonb_array_elements(rejections) r
    );
end
$$;

create or replace function backend.ingest_whatsapp(body text, items jsonb)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
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
    event_id bigint;
    tried record;
begin
    -- another delivery of the same body is rare: what to do about it is a statement of its own
    insert into private.webhook_events (provider, body, body_sha256)
    values ('whatsapp', body, sha256(convert_to(body, 'UTF8')))
    on conflict (provider, body_sha256) do nothing
    returning id into event_id;
    if event_id is null then
        update private.webhook_events e
        set deliveries = e.deliveries + 1,
            last_received_at = now()
        where e.provider = 'whatsapp'
          and e.body_sha256 = sha256(convert_to(ingest_whatsapp.body, 'UTF8'))
        returning e.id into event_id;
    end if;
    if event_id is null then
        -- pruned in between
        raise sqlstate '40001' using
            message = 'The event was deleted while it was delivered again.',
            hint = 'Try again.';
    end if;

    tried := private.try_whatsapp_items(items);

    if tried.rejections <> '[]' then
        update private.webhook_events e
        set rejected = tried.rejections
        where e.id = event_id
          and e.rejected <> tried.rejections;
    end if;

    return jsonb_build_object(
        'event_id', event_id,
        'applied', tried.applied,
        'duplicates', tried.duplicates,
        'rejected', private.shown_rejections(tried.rejections)
    );
end
$$;

/*
    What follows from new messages, whoever writes them: nearly always one statement. A trigger's
    condition for each row is read anew in every statement: four of them took 6 % of ingest.

    There is no foreign key to the number: all messages of a number would queue for its one row.
    None to the booking: it would be locked after its conversation, and whoever moves both locks
    it before. And none to the conversation beside the one that is there: clients that read
    conversations with their messages would have to say by which. So both are checked here.
*/
create or replace function private.tg_messages__follow_up()
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
