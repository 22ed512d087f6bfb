-- Made from sql/5_changes/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The private topics on which changes are broadcast, and who may join them.

        account:<account>:<epoch>               staff: everything of the account
        customer:<customer>:<epoch>             the customer: everything of theirs
        conversation:<conversation>:<epochs>    both sides: one conversation

    A subscriber is authorised once, when it joins. So leaving must change the name: an epoch rises
    when a member or a portal login is removed. Later messages go to new names, and the one who left
    can't join those.
*/
create table private.topic_epochs (
    -- The id of an account, a customer or a conversation.
    owner_id   uuid primary key,
    account_id uuid not null
               constraint topic_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.topic_epochs enable row level security;


create index topic_epochs_account_id_idx on private.topic_epochs (account_id);


create function private.topic_epoch(owner_id uuid)
    returns integer
    -- Every write calls this function and those built on it. A session keeps the plans of plpgsql.
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
    -- Leaving either side renames the conversation's topic, and so does a new customer of the
    -- conversation. Each epoch stands beside its owner, so that no two sets of epochs look alike.
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
    -- definer: the check reads rows that the caller may not be able to read
    security definer
    set search_path = ''
as $$
declare
    kind constant text := split_part(topic, ':', 1);
    has_side constant boolean := kind in ('presence', 'typing');
    side constant text := case when has_side then split_part(topic, ':', 2) end;
    named constant text := split_part(topic, ':', case when has_side then 3 else 2 end);
    named_id uuid;
begin
    if not pg_input_is_valid(named, 'uuid') then
        return false;
    end if;
    named_id := named::uuid;

    return case
        when kind = 'account' then
            topic = private.account_topic(named_id)
            and named_id in (select private.my_account_ids())
        when kind = 'customer' then
            topic = private.customer_topic(named_id)
            and named_id in (select private.my_customer_ids())
        when kind = 'presence' and side = 'desk' then
            topic = private.desk_topic(named_id)
            and (
                named_id in (select private.my_account_ids())
                or exists (
                    select
                    from public.customers c
                    where c.portal_user_id = auth.uid()
                      and c.account_id = named_id
                )
            )
        when kind = 'conversation' or side in ('staff', 'customer') then exists (
            select
            from public.conversations c
            where c.id = named_id
              and topic = case
                  when has_side
                      then private.signs_topic(kind, side, c.id, c.account_id, c.customer_id)
                  else private.conversation_topic(c.id, c.account_id, c.customer_id)
              end
              and private.side_of_caller(c.id) is not null
        )
        else false
    end;
end
$$;

grant execute on function private.may_receive(text) to authenticated;

comment on table private.topic_epochs is
    'How often a member left an account, a login left a customer, or a customer left a conversation. No row means never.';
comment on function private.topic_epoch(uuid) is
    'The epoch of an account, a customer or a conversation; 0 if nobody ever left.';
comment on function private.account_topic(uuid) is
    'The topic of an account''s staff.';
comment on function private.customer_topic(uuid) is
    'The topic of one customer.';
comment on function private.conversation_topic(uuid, uuid, uuid) is
    'The topic of one conversation, for both its sides.';
comment on function private.may_receive(text) is
    'Whether the signed-in user may join this topic. The name must be the current one.';


/*
    Topics that show people to each other. Here clients send, each side on its own topic, and the
    other side listens:

        presence:desk:<account>:<epoch>             staff at the desk; customers may watch; its
                                                    epoch is its own, see desk_epochs
        presence:staff:<conversation>:<epochs>      staff who are in a conversation
        presence:customer:<conversation>:<epochs>   its customer
        typing:staff:<conversation>:<epochs>        staff who are writing, as broadcasts
        typing:customer:<conversation>:<epochs>     its customer

    Messages here are signs, not data: a sender can send anything. A topic belongs to one side, and
    names come from conversation_people. A customer's topics belong to one conversation, so no
    customer sees another one.
*/
create function private.desk_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.desk_topic(
        account_id => desk_topic.account_id,
        epoch => private.desk_epoch(account_id)
    );
end
$$;


create function private.signs_topic(
    kind text,
    side text,
    conversation_id uuid,
    account_id uuid,
    customer_id uuid
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- With the conversation's epochs: leaving a conversation renames all of its topics.
    return kind || ':' || side || substr(
        private.conversation_topic(conversation_id, account_id, customer_id),
        length('conversation:')
    );
end
$$;


create function private.side_of_caller(conversation_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: a caller who may not see the conversation is on neither side of it
    security definer
    set search_path = ''
as $$
begin
    return (
        select case
            when c.account_id in (select private.my_account_ids()) then 'staff'
            when c.customer_id in (select private.my_customer_ids()) then 'customer'
        end
        from public.conversations c
        where c.id = side_of_caller.conversation_id
    );
end
$$;


create function private.may_send(topic text, extension text)
    returns boolean
    language plpgsql
    stable
    -- definer: as may_receive
    security definer
    set search_path = ''
as $$
declare
    side constant text := split_part(topic, ':', 2);
    -- Presence topics take presence, typing topics take broadcasts.
    sign constant text := case extension
        when 'presence' then 'presence'
        when 'broadcast' then 'typing'
    end;
begin
    if sign is null or split_part(topic, ':', 1) <> sign or not private.may_receive(topic) then
        return false;
    elsif side = 'desk' then
        return split_part(topic, ':', 3)::uuid in (select private.my_account_ids());
    end if;
    return side = private.side_of_caller(split_part(topic, ':', 3)::uuid)
        and (
            sign = 'presence'
            or side = 'customer'
            -- viewers write nothing
            or exists (
                select
                from public.conversations c
                where c.id = split_part(topic, ':', 3)::uuid
                  and c.account_id in (select private.my_writable_account_ids())
            )
        );
end
$$;

grant execute on function private.may_send(text, text) to authenticated;


comment on function private.desk_topic(uuid) is
    'The topic on which an account''s staff show that they are present.';
comment on function private.signs_topic(text, text, uuid, uuid, uuid) is
    'A topic on which one side of a conversation shows that it is present (presence) or writing (typing).';
comment on function private.side_of_caller(uuid) is
    'The side of the signed-in user in a conversation: staff or customer; null where the user may not see it.';
comment on function private.may_send(text, text) is
    'Whether the signed-in user may send presence or a broadcast on a topic. Users send signs of their own side, never data.';


/*
    A client's topics by name. Names change when somebody leaves, so clients ask for them and don't
    build them.
*/
create function private.topics_of_caller(conversation_id uuid)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    -- definer: epochs are not readable; the function returns the caller's topics only
    security definer
    set search_path = ''
as $$
    select private.account_topic(a.id), 'account', a.id
    from private.my_account_ids() as a (id)
    union all
    select private.customer_topic(c.id), 'customer', c.id
    from private.my_customer_ids() as c (id)
    union all
    select private.desk_topic(a.id), 'presence_desk', a.id
    from (
        select m.id
        from private.my_account_ids() as m (id)
        union
        select c.account_id
        from public.customers c
        where c.portal_user_id = (select auth.uid())
    ) as a (id)
    union all
    select t.topic, t.kind, c.id
    from public.conversations c
    cross join lateral (
        select private.conversation_topic(c.id, c.account_id, c.customer_id), 'conversation'
        union all
        select
            private.signs_topic(s.kind, s.side, c.id, c.account_id, c.customer_id),
            s.kind || '_' || s.side
        from (
            values
                ('presence', 'staff'),
                ('presence', 'customer'),
                ('typing', 'staff'),
                ('typing', 'customer')
        ) as s (kind, side)
    ) as t (topic, kind)
    where c.id = topics_of_caller.conversation_id
      and private.side_of_caller(c.id) is not null
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


comment on function private.topics_of_caller(uuid) is
    'The topics of the signed-in user.';
comment on function public.my_topics(uuid) is
    'The private topics that you may join; id is that of the account, the customer or the conversation. Read-only kinds: account (all of an account, for staff), customer (all of yours, as a customer), conversation (the given conversation). Presence: presence_desk (staff at the desk), presence_staff and presence_customer (people in the conversation). Typing: typing_staff, typing_customer. You send presence and typing on your own side''s topics only. Names change when somebody leaves: call it again when a join is refused, and on the event topics.changed. Clients that watch a desk get that event on the desk''s topic.'
    ' Type: {topic: text, kind: "account" | "customer" | "conversation" | "presence_desk" | "presence_staff" | "presence_customer" | "typing_staff" | "typing_customer", id: uuid}[]';


/*
    The people who may show themselves in a conversation. A presence or typing payload can hold
    anything, since any client can fill it. So a client takes only the person's id from a payload,
    and the name and the side from here. The id is not the user's id: neither side needs to know the
    user id of the other.
*/
create function private.person_id(user_id uuid)
    returns uuid
    language sql
    immutable
    set search_path = ''
as $$
    -- Every client can compute it from its own user id.
    select left(encode(sha256(convert_to(user_id::text, 'UTF8')), 'hex'), 32)::uuid
$$;


create function private.people_of(conversation_id uuid)
    returns table (person_id uuid, side text, display_name text)
    language sql
    stable
    -- definer: customers can't read who works for an account
    security definer
    set search_path = ''
as $$
    select private.person_id(m.user_id), 'staff', m.display_name
    from public.conversations k
    join public.account_members m
        on m.account_id = k.account_id
    where k.id = people_of.conversation_id
      and private.side_of_caller(k.id) is not null
    union all
    select private.person_id(c.portal_user_id), 'customer', c.name
    from public.conversations k
    join public.customers c
        on c.id = k.customer_id
    where k.id = people_of.conversation_id
      and c.portal_user_id is not null
      and private.side_of_caller(k.id) is not null
$$;

grant execute on function private.people_of(uuid) to authenticated;


create function public.conversation_people(conversation_id uuid)
    returns table (person_id uuid, side text, display_name text)
    language sql
    stable
    set search_path = ''
as $$
    select p.person_id, p.side, p.display_name
    from private.people_of(conversation_people.conversation_id) p
$$;

grant execute on function public.conversation_people(uuid) to authenticated;


comment on function private.person_id(uuid) is
    'The id by which others know a user: the first 16 bytes of the SHA-256 of the user''s id, written as a UUID.';
comment on function private.people_of(uuid) is
    'The people of a conversation, if the caller is one of them.';
comment on function public.conversation_people(uuid) is
    'The people who may show themselves in a conversation of yours: the account''s staff and the customer''s login. A person_id is the first half of the SHA-256 of the user''s id, written as a UUID; use yours in presence. Trust these names: a payload of presence or typing can hold any name.'
    ' Type: {person_id: uuid, side: "staff" | "customer", display_name: text}[]';


/*
    How often a customer has lost access to an account's desk. This is not in topic_epochs: the
    account's epoch is part of the names of all its conversations. One customer who leaves must not
    rename the conversations of all others.
*/
create table private.desk_epochs (
    account_id uuid primary key
               constraint desk_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.desk_epochs enable row level security;


create function private.desk_epoch(account_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- Both numbers only rise, so no sum comes twice.
    return private.topic_epoch(account_id) + coalesce((
        select e.epoch
        from private.desk_epochs e
        where e.account_id = desk_epoch.account_id
    ), 0);
end
$$;


create function private.desk_topic(account_id uuid, epoch integer)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return 'presence:desk:' || account_id || ':' || epoch;
end
$$;


comment on table private.desk_epochs is
    'How often a customer''s login lost the desk of an account. No row means never.';
comment on function private.desk_epoch(uuid) is
    'The epoch of an account''s desk. It rises with each member and each customer''s login that leaves.';
comment on function private.desk_topic(uuid, integer) is
    'The name of an account''s desk topic in an epoch.';


/*
    The change log: one entry for every change of a followed row, written in the transaction
    of the change. Broadcast, catch-up, polling and tombstones all come from it, so they
    cannot disagree.

    (An index on a stamp column of the rows would prevent HOT updates: 0 of 30,000 updates were HOT
    with it, 30,000 of 30,000 with the log.)
*/
create type private.change_operation as enum ('INSERT', 'UPDATE', 'DELETE');

create table private.changes (
    -- The writing transaction. Compared with a snapshot it shows which entries a reader has not
    -- seen yet. A sequence can't show that, since transactions commit out of order.
    xid                xid8 not null default pg_current_xact_id(),
    seq                bigint generated always as identity,
    account_id         uuid not null,
    -- the customer who follows the row; null where only staff follow it
    customer_id        uuid,
    conversation_id    uuid,
    table_name         text not null,
    row_id             uuid not null,
    operation          private.change_operation not null,
    -- The operation as the customer sees it, where it differs. A row that becomes visible to the
    -- customer is new to the customer.
    customer_operation private.change_operation,
    version            bigint not null,
    logged_at          timestamptz not null default now(),

    primary key (account_id, xid, seq)
);
alter table private.changes enable row level security;


create index changes_customer_idx
    on private.changes (customer_id, xid, seq)
    where customer_id is not null;


/*
    One row: the epoch of the log, and how long entries are kept.
*/
create table private.change_log (
    only_row  boolean primary key default true
              constraint change_log_only_row_check check (only_row),
    epoch     uuid not null default gen_random_uuid(),
    retention interval not null default interval '14 days'
              constraint change_log_retention_check check (retention >= interval '1 hour')
);
alter table private.change_log enable row level security;


insert into private.change_log default values;


create function private.change_log_epoch()
    returns text
    language sql
    stable
    set search_path = ''
as $$
    /*
        A restore starts a new timeline, a new cluster or a new database, or fills the log's table
        anew. It undoes later changes, and transaction ids then name other transactions. So no older
        cursor may be used.
    */
    select md5(concat_ws(
        ' ',
        l.epoch,
        s.system_identifier,
        c.timeline_id,
        d.oid,
        pg_relation_filenode('private.changes')
    ))
    from private.change_log l, pg_control_system() s, pg_control_checkpoint() c, pg_database d
    where d.datname = current_database()
$$;


comment on type private.change_operation is
    'The operation on a row. (An enum, since every statement parses a check on a text anew: 1 % of ingest each.)';
comment on table private.changes is
    'One entry for each change of a followed row. Clients read it through changes_since.';
comment on column private.changes.xid is
    'The writing transaction.';
comment on table private.change_log is
    'The log''s epoch and retention.';
comment on column private.change_log.retention is
    'Entries are kept at least this long. An older cursor gets resync.';
comment on function private.change_log_epoch() is
    'A text that differs between databases, and before and after a restore.';


/*
    The columns of a row that are sent: those in its table's entry in private.followed_tables.
*/
create function private.hidden_columns(followed private.followed_tables, sample jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- A query for other columns costs a statement.
    if sample - followed.shown - followed.hidden = '{}' then
        return followed.hidden;
    end if;
    return array(select k from jsonb_object_keys(sample) k where k <> all (followed.shown));
end
$$;


comment on function private.hidden_columns(private.followed_tables, jsonb) is
    'The columns of a row that are not sent: the hidden ones, and newer ones that no list names.';


/*
    Every change of a followed row becomes an entry of the change log, statement by statement.

    Code that runs on every write is plpgsql, since a session keeps the plans of plpgsql functions
    but not of sql functions. It has few statements, since starting a statement is the main cost.
*/
create function private.row_operation(change private.row_change)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case
        when change.new is null then 'DELETE'
        when change.old is null then 'INSERT'
        else 'UPDATE'
    end;
end
$$;


create function private.customer_change(
    followed private.followed_tables,
    change private.row_change
)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the same condition as in the table's policy
    return (
        case when change.old ->> followed.seen_since is not null then change.old end,
        case when change.new ->> followed.seen_since is not null then change.new end
    )::private.row_change;
end
$$;


create function private.log_changes(
    followed private.followed_tables,
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
    if followed.seen_since is not null then
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
        followed.table_name,
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
    followed private.followed_tables,
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
        followed.table_name,
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
            -- moved to another owner: the old owner gets a DELETE, the new owner an INSERT
            (c.old, 'DELETE', null, m.has_moved),
            (
                coalesce(c.new, c.old),
                -- as row_operation, whose call for each row was 15 % of this function
                case
                    when c.new is null then 'DELETE'
                    when c.old is null then 'INSERT'
                    else 'UPDATE'
                end,
                case when m.has_moved then 'INSERT' end,
                true
            )
    ) as e (row, operation, customer_operation, happened)
    where e.happened;

    get diagnostics logged = row_count;
    return logged;
end
$$;


create function private.log_partly_hidden_changes(
    followed private.followed_tables,
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
        -- the customer hears nothing of rows that the customer does not see
        case when e.is_seen then (e.row ->> followed.customer_key)::uuid end,
        followed.table_name,
        (e.row ->> 'id')::uuid,
        e.operation::private.change_operation,
        (e.row ->> 'version')::bigint,
        e.customer_operation::private.change_operation
    from unnest(changes) c
    cross join lateral (
        select
            c.old ->> followed.customer_key <> c.new ->> followed.customer_key as has_moved,
            private.customer_change(followed, c) as seen
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


comment on function private.row_operation(private.row_change) is
    'The operation of a change: INSERT, UPDATE or DELETE.';
comment on function private.customer_change(private.followed_tables, private.row_change) is
    'A change of a table with seen_since, as the row''s customer sees it: a row before, a row after, both or neither.';
comment on function private.log_partly_hidden_changes(private.followed_tables, private.row_change[]) is
    'Logs changes of a table whose customers see only some of its rows. Returns the number of entries.';
comment on function private.log_changes(private.followed_tables, text, private.row_change[]) is
    'Logs the changes of a statement. Returns the number of entries.';
comment on function private.log_updates(private.followed_tables, private.row_change[]) is
    'Logs updates. An owner who loses a row gets a DELETE, one who gains a row an INSERT. Returns the number of entries.';


/*
    The broadcasts of a transaction leave together, at its end: only then the number of messages for
    each topic is known. Each message has it, as `transaction` and `count`. A client that gets fewer
    messages reads the log, so it never shows half of a transaction.

    Until then the messages of each statement wait behind a cursor, rapport_broadcast_<number>. It is
    read at the end, so nothing is written as text and parsed again: that was 18 % of a webhook of
    1,000 messages. If a savepoint is undone, its cursors are closed.
*/
create type private.broadcast_event as (
    topics     text[],
    -- the statement's place in the transaction, and the message's in the statement
    part       integer,
    place      bigint,
    -- messages.inserted; resync: all listeners read the table again
    event      text,
    table_name text,
    operation  text,
    row_id     uuid,
    version    bigint,
    record     jsonb,
    old_record jsonb
);


create function private.resync_event(topics text[], table_name text)
    returns private.broadcast_event
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (topics, 1, 0, 'resync', table_name, null, null, null, null, null)::private.broadcast_event;
end
$$;


create function private.waiting_broadcasts()
    returns private.broadcast_event[]
    language plpgsql
    set search_path = ''
as $$
declare
    parts constant integer := coalesce(nullif(current_setting('rapport.broadcasts', true), ''), '0');
    waiting refcursor;
    part private.broadcast_event[];
    events private.broadcast_event[];
begin
    for number in 1 .. parts loop
        waiting := 'rapport_broadcast_' || number;
        fetch waiting into part;
        close waiting;
        events := events || part;
    end loop;
    return events;
end
$$;


create function private.next_broadcast()
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    most constant integer := 250;
    before constant integer :=
        coalesce(nullif(current_setting('rapport.broadcasts', true), ''), '0');
    waiting refcursor := 'rapport_broadcast_1';
    events private.broadcast_event[];
    number integer := before + 1;
    noted text;
begin
    if before = most then
        -- a loop over many rows: all listeners read again
        select array_agg(private.resync_event(topics => e.topics, table_name => e.table_name))
        into events
        from (
            select array_agg(distinct t.topic), w.table_name
            from unnest(private.waiting_broadcasts()) w
            cross join lateral unnest(w.topics) as t (topic)
            group by w.table_name
        ) as e (topics, table_name);
        open waiting no scroll for select events;
        number := 2;
    end if;
    noted := set_config('rapport.broadcasts', number::text, true);
    return number;
end
$$;


create function private.tell(event private.broadcast_event)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting refcursor := 'rapport_broadcast_' || private.next_broadcast();
begin
    open waiting no scroll for select array[event];
end
$$;


create function private.forget_broadcasts()
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    waiting refcursor;
begin
    for waiting in
        select c.name
        from pg_catalog.pg_cursors c
        where c.name like 'rapport_broadcast_%'
    loop
        close waiting;
    end loop;
    return set_config('rapport.broadcasts', '', true);
end
$$;


create function private.change_payload(
    event private.broadcast_event,
    count bigint
)
    returns jsonb
    language plpgsql
    -- the transaction is the same in all calls
    stable
    set search_path = ''
as $$
declare
    payload jsonb := jsonb_build_object(
        'table', event.table_name,
        'id', event.row_id,
        'version', event.version,
        'operation', event.operation,
        'record', event.record,
        'old_record', event.old_record,
        'transaction', pg_current_xact_id()::text,
        'count', count
    );
begin
    -- Clients fetch larger rows themselves. The first test is cheap and spares most rows the
    -- second.
    if pg_column_size(payload) > 16384 and octet_length(payload::text) > 65536 then
        payload := payload - array['record', 'old_record'];
    end if;
    return payload;
end
$$;


create function private.send_together(events private.broadcast_event[])
    returns void
    language plpgsql
    set search_path = ''
    -- counts are joined by hash: a kept plan for few would compare each of 1,000 messages with each
    -- topic
    set enable_nestloop = off
    set jit = off
as $$
begin
    insert into realtime.messages (topic, extension, event, payload, private)
    with topics as materialized (
        select
            p.topic,
            sum(p.count)::bigint as count,
            bool_or(p.is_crowded) or sum(p.count) > 500 as is_crowded
        from (
            select
                t.topic,
                count(*) as count,
                count(*) > 100 or bool_or(e.event = 'resync') as is_crowded
            from unnest(events) e
            cross join lateral unnest(e.topics) as t (topic)
            group by t.topic, e.part
        ) p
        group by p.topic
    )
    select w.topic, 'broadcast', w.event, w.payload, true
    from (
        select
            t.topic,
            e.part,
            e.place,
            e.event,
            private.change_payload(e, t.count) as payload
        from unnest(events) e
        cross join lateral unnest(e.topics) as n (topic)
        join topics t
            on t.topic = n.topic
        where not t.is_crowded
        union all
        select
            t.topic,
            0,
            0,
            'resync',
            jsonb_build_object(
                'tables', jsonb_agg(distinct e.table_name),
                'transaction', pg_current_xact_id()::text,
                'count', 1
            )
        from unnest(events) e
        cross join lateral unnest(e.topics) as n (topic)
        join topics t
            on t.topic = n.topic
        where t.is_crowded
        group by t.topic
    ) w
    order by w.part, w.place;
end
$$;


create function private.tg_changes__tell()
    returns trigger
    language plpgsql
    -- definer: users may not send
    security definer
    set search_path = ''
as $$
declare
    events private.broadcast_event[];
    alone private.broadcast_event;
    payload jsonb;
    waiting refcursor := 'rapport_broadcast_1';
    forgotten text;
begin
    if current_setting('rapport.broadcasts', true) = '1' then
        fetch waiting into events;
        close waiting;
    else
        events := private.waiting_broadcasts();
    end if;
    -- changes by a later deferred trigger are told after this
    forgotten := set_config('rapport.logging', 'off', true);
    forgotten := set_config('rapport.broadcasts', '', true);
    if events is null then
        return null;
    end if;
    alone := events[1];
    if cardinality(events) > 1 or alone.event = 'resync' then
        perform private.send_together(events);
    else
        -- the usual case, without the work of counting
        payload := private.change_payload(alone, 1);
        insert into realtime.messages (topic, extension, event, payload, private)
        select t, 'broadcast', alone.event, payload, true
        from unnest(alone.topics) t;
    end if;
    return null;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
        -- the failure has undone these as well
        forgotten := set_config('rapport.logging', 'off', true);
        forgotten := private.forget_broadcasts();
        return null;
end
$$;


-- Once in a transaction: its first entry makes the setting, and the others find it. Postgres tests
-- the condition when a row is written, not at the end.
create constraint trigger _900_tell
    after insert on private.changes
    deferrable initially deferred
    for each row
    when (
        current_setting('rapport.logging', true) is distinct from 'on'
        and set_config('rapport.logging', 'on', true) = 'on'
    )
    execute function private.tg_changes__tell();


comment on type private.broadcast_event is
    'A message for some topics about one row.';
comment on function private.resync_event(text[], text) is
    'The event by which listeners read a table again.';
comment on function private.waiting_broadcasts() is
    'Takes the messages that the transaction will send from their cursors; null for none.';
comment on function private.next_broadcast() is
    'The number of the cursor behind which a statement''s messages are to wait. Those of more than 250 statements become one resync.';
comment on function private.tell(private.broadcast_event) is
    'Keeps a message to be sent at the end of the transaction.';
comment on function private.forget_broadcasts() is
    'Closes the cursors behind which messages wait.';
comment on function private.change_payload(private.broadcast_event, bigint) is
    'The payload for one changed row: {table, id, version, operation, record, old_record, transaction, count}; too large a payload leaves the two records out.';
comment on function private.send_together(private.broadcast_event[]) is
    'Sends several messages, each with the number of its topic''s. A topic with more than 500, with more than 100 of a statement, or with a resync, gets one resync.';
comment on function private.tg_changes__tell() is
    'Sends the messages of the transaction, each with the transaction''s id and the number of its messages on the topic: {…, transaction, count}. A failure is a warning.';


/*
    Broadcasts changes to the people who may see them. The log is the record and the broadcast is a
    hint: it may fail, and it never aborts the write.
*/
create function private.listened_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- A customer without a login can't listen.
    return (
        select private.customer_topic(c.id)
        from public.customers c
        where c.id = listened_topic.customer_id
          and c.portal_user_id is not null
    );
end
$$;


create function private.changed_topics(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns table (topic text, rows bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    has_customers constant boolean := followed.customer_key is not null;
begin
    return query
        with owners as materialized (
            select distinct
                n.ordinal,
                (s.row ->> 'account_id')::uuid as account_id,
                -- null where the customer does not see the row
                case
                    when followed.seen_since is null or s.row in ((c.seen).old, (c.seen).new)
                        then (s.row ->> followed.customer_key)::uuid
                end as customer_id,
                (s.row ->> followed.conversation_key)::uuid as conversation_id
            from unnest(changes) with ordinality as n (old, new, ordinal)
            cross join lateral (
                select case when followed.seen_since is not null then private.customer_change(
                    followed, change => (n.old, n.new)::private.row_change
                ) end as seen
            ) c
            cross join lateral (values (n.old), (n.new)) as s (row)
            where s.row is not null
        ),
        -- One look-up for each topic, not for each row. Without "materialized" the condition below
        -- would call the functions for each row.
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

create function private.broadcast_changes(
    followed private.followed_tables,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- These columns change with every change.
    stamps constant text[] := array['version', 'updated_at'];
    has_customers constant boolean := followed.customer_key is not null;
    hidden text[];
    number integer;
    waiting refcursor;
begin
    -- A transaction of many statements broadcasts at its end, see broadcast_logged.
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return 0;
    end if;
    hidden := private.hidden_columns(followed, coalesce(changes[1].new, changes[1].old));
    number := private.next_broadcast();
    waiting := 'rapport_broadcast_' || number;

    -- One statement for all rows: the functions that a loop called for each were a third. "offset
    -- 0": what stands inside is worked out once for each row. Look-ups stand in lists of columns,
    -- so that each is by key: the planner knows no sizes here.
    open waiting no scroll for
        select array_agg(
            (
                array_remove(e.topics, null),
                number,
                r.place * 4 + e.place,
                followed.table_name || case e.operation
                    when 'INSERT' then '.inserted'
                    when 'UPDATE' then '.updated'
                    else '.deleted'
                end,
                followed.table_name,
                e.operation,
                r.row_id,
                e.version,
                e.record,
                e.old_record
            )::private.broadcast_event
        )
        from (
            select
                o.*,
                case
                    when o.somebody_left then private.account_topic(o.account_id)
                    else 'account:' || o.account_id || ':0'
                end as account_topic,
                -- nobody listens to a customer without a login
                case when o.has_login then
                    case
                        when o.somebody_left then private.customer_topic(o.customer_id)
                        else 'customer:' || o.customer_id || ':0'
                    end
                end as customer_topic,
                case when has_customers and o.conversation_id is not null then
                    case
                        when o.somebody_left then private.conversation_topic(
                            o.conversation_id, o.account_id, o.customer_id)
                        else 'conversation:' || o.conversation_id || ':0'
                    end
                end as conversation_topic
            from (
                select
                    c.*,
                    exists (
                        select
                        from private.topic_epochs p
                        where p.owner_id in (c.account_id, c.customer_id, c.conversation_id)
                    ) as somebody_left,
                    (
                        select k.portal_user_id is not null
                        from public.customers k
                        where k.id = c.customer_id
                    ) as has_login
                from (
                    select
                        n.place,
                        n.seen,
                        (n.row ->> 'id')::uuid as row_id,
                        (n.row ->> 'version')::bigint as version,
                        (n.row ->> 'account_id')::uuid as account_id,
                        (n.row ->> followed.customer_key)::uuid as customer_id,
                        (n.row ->> followed.conversation_key)::uuid as conversation_id,
                        n.new - hidden as record,
                        n.old - hidden as old_record,
                        coalesce(
                            (n.seen).old ->> followed.customer_key
                                <> (n.seen).new ->> followed.customer_key,
                            false
                        ) as has_moved
                    from (
                        select
                            h.place,
                            h.old,
                            h.new,
                            coalesce(h.new, h.old) as row,
                            case
                                when followed.seen_since is null
                                    then (h.old, h.new)::private.row_change
                                else private.customer_change(
                                    followed, change => (h.old, h.new)::private.row_change)
                            end as seen
                        from unnest(changes) with ordinality as h (old, new, place)
                        offset 0
                    ) n
                    offset 0
                ) c
                offset 0
            ) o
            offset 0
        ) r
        cross join lateral (
            values
                (
                    1,
                    case
                        when r.record is null then 'DELETE'
                        when r.old_record is null then 'INSERT'
                        else 'UPDATE'
                    end,
                    r.version,
                    r.record,
                    r.old_record,
                    case
                        -- customers hear the same: one message for all topics
                        when followed.seen_since is null and not r.has_moved
                            then array[r.account_topic, r.customer_topic, r.conversation_topic]
                        else array[r.account_topic]
                    end,
                    -- An update without a visible difference is not told.
                    (r.record - stamps = r.old_record - stamps) is not true
                ),
                -- Moved to another owner: the old one gets its id only, to the other it is new.
                (
                    2,
                    'DELETE',
                    r.version,
                    null,
                    null,
                    case when r.has_moved then array[private.listened_topic(
                        ((r.seen).old ->> followed.customer_key)::uuid
                    )] end,
                    r.has_moved
                ),
                -- a row that becomes visible is new, one that becomes hidden is gone
                (
                    3,
                    case
                        when (r.seen).new is null then 'DELETE'
                        when (r.seen).old is null or r.has_moved then 'INSERT'
                        else 'UPDATE'
                    end,
                    (coalesce((r.seen).new, (r.seen).old) ->> 'version')::bigint,
                    (r.seen).new - hidden,
                    case when not r.has_moved then (r.seen).old - hidden end,
                    array[r.customer_topic, r.conversation_topic],
                    (followed.seen_since is not null or r.has_moved)
                        and num_nonnulls((r.seen).old, (r.seen).new) > 0
                        and ((r.seen).new - hidden - stamps = (r.seen).old - hidden - stamps)
                            is not true
                )
        ) as e (place, operation, version, record, old_record, topics, happens)
        where e.happens
          and array_remove(e.topics, null) <> '{}';
    return number;
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


comment on function private.listened_topic(uuid) is
    'The topic of a customer who has a login; null for others.';
comment on function private.changed_topics(private.followed_tables, private.row_change[]) is
    'The topics that hear of changes, with the number of rows for each.';
comment on function private.broadcast_changes(private.followed_tables, private.row_change[]) is
    'Has the changes of a statement broadcast at the end of the transaction: one message for each row, or one resync for a topic with more than 100 rows. Returns the number of the cursor behind which they wait; 0 for none.';
comment on function private.broadcast_to(text[], text, jsonb) is
    'Sends one message to several topics. A failure is a warning.';


/*
    Broadcasts at the end of a transaction of many small statements, from its entries in the log. An
    import gives each row a statement and a savepoint of its own. Broadcast one by one, 200 new
    contacts made 400 messages.

    While the setting rapport.broadcast_later is on, broadcast_changes is silent. Code that turns it
    on for its transaction calls this function, and then turns it off.
*/
create function private.broadcast_logged(account_id uuid, to_staff boolean default true)
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
            where (private.followed_table(l.table_name)).customer_key is not null
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
    -- The log holds no records. Clients fetch the rows that they want, as with rows that are too
    -- large.
    select
        t.topic,
        'broadcast',
        t.table_name || case t.operation
            when 'INSERT' then '.inserted'
            when 'UPDATE' then '.updated'
            else '.deleted'
        end,
        jsonb_build_object(
            'table', t.table_name,
            'id', t.row_id,
            'version', t.version,
            'operation', t.operation
        ),
        true
    from told t
    where not t.crowded;
exception
    when others then
        -- as in broadcast_changes
        raise warning 'broadcast failed: %', sqlerrm using errcode = sqlstate;
end
$$;


comment on function private.broadcast_logged(uuid, boolean) is
    'Broadcasts what this transaction has logged for an account, to staff and customers or to customers alone: {table, id, version, operation} for each change, or one resync for a topic with more than 100 changes of a table. A failure is a warning.';


/*
    Logs and broadcasts the changes of followed rows, in the same transaction. It works by
    statement, not by row: 50,000 rows took 3.83 s and 50,001 transaction ids with one send for each
    row, and 0.44 s without.
*/
create function private.shown_change(old_row jsonb, new_row jsonb)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- A row that is deleted softly is gone for everybody; a row that comes back is new.
    return (
        case
            when old_row ->> 'deleted_at' is null then
                case
                    when new_row ->> 'deleted_at' is null then old_row
                    -- the version of a tombstone is the version of its deletion
                    else old_row || jsonb_build_object('version', new_row -> 'version')
                end
        end,
        case when new_row ->> 'deleted_at' is null then new_row end
    )::private.row_change;
end
$$;


/*
    The short way of the usual statement, which changes one row. For this row it logs and tells what
    publish_changes would: a webhook takes 0.91 times the processor time, and a change of a contact
    or of an appointment 0.87 and 0.81 times. It spares calls and statements: each function,
    expression and plan is made ready again in each transaction, which takes longer than its work.
    Tried without gain: the message as text in a setting in place of the cursor (17 µs against 12),
    and snoozes, turns and devices looked for in the statement that checks new messages.
*/
create function private.publish_change(
    followed private.followed_tables,
    operation text,
    change private.row_change
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- These columns change with every change.
    stamps constant text[] := array['version', 'updated_at'];
    current_row constant jsonb := coalesce(change.new, change.old);
    happened constant text := case
        when change.new is null then 'DELETE'
        when change.old is null then 'INSERT'
        else 'UPDATE'
    end;
    changed_id constant uuid := (current_row ->> 'id')::uuid;
    changed_version constant bigint := (current_row ->> 'version')::bigint;
    account constant uuid := (current_row ->> 'account_id')::uuid;
    customer constant uuid := (current_row ->> followed.customer_key)::uuid;
    conversation constant uuid := (current_row ->> followed.conversation_key)::uuid;
    hidden text[] := followed.hidden;
    shown_record jsonb;
    shown_old_record jsonb;
    number integer := 1;
    waiting refcursor;
    noted text;
begin
    if followed.seen_since is not null
        or current_setting('rapport.quiet', true) = 'on'
        or change.old ->> followed.customer_key <> change.new ->> followed.customer_key
    then
        return private.publish_changes(followed, operation => operation, changes => array[change]);
    end if;

    insert into private.changes (
        account_id, customer_id, conversation_id, table_name, row_id, operation, version
    )
    values (
        account, customer, conversation, followed.table_name, changed_id,
        happened::private.change_operation, changed_version
    );
    if current_setting('rapport.broadcast_later', true) = 'on' then
        return 1;
    end if;

    if current_row - followed.shown - hidden <> '{}' then
        hidden := private.hidden_columns(followed, current_row);
    end if;
    shown_record := change.new - hidden;
    shown_old_record := change.old - hidden;
    -- An update without a visible difference is not told.
    if shown_record - stamps = shown_old_record - stamps then
        return 1;
    end if;

    if current_setting('rapport.broadcasts', true) <> '' then
        number := private.next_broadcast();
    else
        noted := set_config('rapport.broadcasts', '1', true);
    end if;
    waiting := 'rapport_broadcast_' || number;
    open waiting no scroll for
        select array[
            (
                array_remove(
                    array[
                        case
                            when a.somebody_left then private.account_topic(account)
                            else 'account:' || account || ':0'
                        end,
                        case when a.has_login then
                            case
                                when a.somebody_left then private.customer_topic(customer)
                                else 'customer:' || customer || ':0'
                            end
                        end,
                        case when followed.customer_key is not null and conversation is not null then
                            case
                                when a.somebody_left
                                    then private.conversation_topic(conversation, account, customer)
                                else 'conversation:' || conversation || ':0'
                            end
                        end
                    ],
                    null
                ),
                number,
                1,
                followed.table_name || case happened
                    when 'INSERT' then '.inserted'
                    when 'UPDATE' then '.updated'
                    else '.deleted'
                end,
                followed.table_name,
                happened,
                changed_id,
                changed_version,
                shown_record,
                shown_old_record
            )::private.broadcast_event
        ]
        from (
            select
                exists (
                    select
                    from private.topic_epochs p
                    where p.owner_id in (account, customer, conversation)
                ) as somebody_left,
                (
                    select k.portal_user_id is not null
                    from public.customers k
                    where k.id = customer
                ) as has_login
            -- "offset 0": both are looked up once
            offset 0
        ) a;
    return 1;
end
$$;


create function private.publish_changes(
    followed private.followed_tables,
    operation text,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged constant integer :=
        private.log_changes(followed, operation => operation, changes => changes);
    to_tell private.row_change[] := changes;
    told integer;
begin
    if current_setting('rapport.quiet', true) = 'on' then
        -- Staff hear once, when the whole job is done. Customers hear of their own rows at once.
        to_tell := array(
            select c
            from unnest(changes) c
            where coalesce(c.old ->> 'portal_user_id', c.new ->> 'portal_user_id') is not null
        );
    end if;
    if to_tell <> '{}' then
        told := private.broadcast_changes(followed, to_tell);
    end if;
    return logged;
end
$$;


create function private.publish_from(
    followed private.followed_tables,
    operation text,
    source refcursor
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    held constant integer := 1000;
    change private.row_change;
    changes private.row_change[];
    topics text[] := '{}';
    logged integer := 0;
begin
    loop
        changes := '{}';
        loop
            fetch source into change.old, change.new;
            exit when not found;
            changes := changes || change;
            exit when cardinality(changes) = held;
        end loop;
        exit when changes = '{}';
        if logged = 0 and cardinality(changes) < held then
            return private.publish_changes(followed, operation => operation, changes => changes);
        end if;

        -- Too many to hold in memory and to tell one by one: all listeners read again.
        logged := logged
            + private.log_changes(followed, operation => operation, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(followed, changes) t
        );
    end loop;
    perform private.tell(private.resync_event(topics => topics, table_name => followed.table_name));
    return logged;
end
$$;


comment on function private.shown_change(jsonb, jsonb) is
    'A row before and after an update, for readers who do not see deleted rows.';
comment on function private.publish_change(private.followed_tables, text, private.row_change) is
    'Logs and broadcasts the change of one row, as publish_changes. Returns the number of entries.';
comment on function private.publish_changes(private.followed_tables, text, private.row_change[]) is
    'Logs changes and broadcasts them. Returns the number of entries.';
comment on function private.publish_from(private.followed_tables, text, refcursor) is
    'Logs and broadcasts all changes of a cursor (old, new). More than 1000 changes make one resync. Returns the number of entries.';


/*
    Renames topics when somebody leaves: a member, a login, a conversation's customer, or a member
    who may no longer write. The people who stay are told to ask for the new names.
*/
create function private.tg__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: users may not write topic epochs
    security definer
    set search_path = ''
as $$
declare
    -- the column that names the owner of the topics
    owner constant uuid := to_jsonb(old) ->> tg_argv[0];
    account constant uuid := old.account_id;
    -- the current names, on which everybody still listens
    topics text[] := array[private.account_topic(account)];
begin
    if not exists (select from public.accounts a where a.id = account) then
        -- The account is being deleted, with all of its topics.
        return null;
    end if;

    -- the account's epoch is part of the names of all its conversations
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

-- A new viewer may no longer write, but could still send on topics joined before.
create trigger _500_raise_epoch_viewer
    after update of role on public.account_members
    for each row
    when (new.role = 'viewer' and old.role <> 'viewer')
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


create function private.tg_customers__raise_desk_epoch()
    returns trigger
    language plpgsql
    -- definer: users may not write desk epochs
    security definer
    set search_path = ''
as $$
declare
    raised integer;
begin
    -- once in a transaction, however many logins leave
    if current_setting('rapport.desk_raised', true) = old.account_id::text
        -- a merge has given the login to another contact of the account
        or exists (
            select
            from public.customers c
            where c.account_id = old.account_id
              and c.portal_user_id = old.portal_user_id
        )
        -- the account is being deleted
        or not exists (select from public.accounts a where a.id = old.account_id)
    then
        return null;
    end if;

    insert into private.desk_epochs as e (account_id)
    values (old.account_id)
    on conflict (account_id) do update
        set epoch = e.epoch + 1
    returning e.epoch into raised;
    perform set_config('rapport.desk_raised', old.account_id::text, true);

    -- Staff hear it on their own topic. An account may have 50,000 customers, so one message on the
    -- desk's topic tells all who watch the desk, and also the one who leaves.
    perform private.broadcast_to(
        topics => array[private.desk_topic(
            account_id => old.account_id,
            epoch => private.topic_epoch(old.account_id) + raised - 1
        )],
        event => 'topics.changed',
        payload => '{}'
    );
    return null;
end
$$;


-- At the end of the transaction: everybody who unlinks a customer of an account waits for the same
-- row here. A transaction that waits at its end has no other lock left to take.
create constraint trigger _510_raise_desk_epoch_update
    after update of portal_user_id on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg_customers__raise_desk_epoch();

create constraint trigger _510_raise_desk_epoch_delete
    after delete on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null)
    execute function private.tg_customers__raise_desk_epoch();


comment on function private.tg__raise_epoch() is
    'Renames the topics that a listener has lost, and tells the other listeners.';
comment on function private.tg_customers__raise_desk_epoch() is
    'Renames the desk''s topic when a customer can no longer watch it, and tells its watchers.';


/*
    Followed rows in their present state, for changes_since. They are read one table at a time: a
    look-up for each row took half of the database's time.
*/
create function private.is_followed(table_name text)
    returns boolean
    language plpgsql
    stable
    -- definer: users may not read the list
    security definer
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.followed_tables f
        where f.table_name = is_followed.table_name
    );
end
$$;

grant execute on function private.is_followed(text) to authenticated;


create function private.visible_rows(table_name text, row_ids uuid[])
    returns table (row_id uuid, record json)
    language plpgsql
    stable
    -- invoker: the caller's row level security decides, once for all rows of a table
    set search_path = ''
as $$
begin
    -- The log of a newer version may name a table that this version does not follow.
    if private.is_followed(table_name) then
        -- As json, which is written once: jsonb is copied by each function that puts it into
        -- something larger.
        return query execute format(
            'select r.id, to_json(r) from public.%I r where r.id = any ($1)', table_name
        ) || case
            when exists (
                select
                from pg_catalog.pg_attribute a
                where a.attrelid = format('public.%I', table_name)::regclass
                  and a.attname = 'deleted_at'
                  and not a.attisdropped
            ) then ' and r.deleted_at is null'
            else ''
        end
        using row_ids;
    end if;
end
$$;

grant execute on function private.visible_rows(text, uuid[]) to authenticated;


comment on function private.is_followed(text) is
    'Whether a table is followed.';
comment on function private.visible_rows(text, uuid[]) is
    'The rows of a followed table that exist and that the caller may see.';


/*
    Catch-up: the changes since a cursor, in commit-safe order, each entry exactly once.

    A cursor is a snapshot, not a position. An entry is new when its transaction was not visible in
    the cursor's snapshot and is visible now. So a transaction that was running then and has
    committed since is not missed, and nothing waits for long transactions. (With six writers,
    savepoints, rollbacks and a long transaction: 29,454 of 29,454 entries, none twice. A plain id >
    last saw 6,522 of 9,323.)
*/
create function private.caller_scope()
    returns text
    language sql
    stable
    -- definer: reads roles and logins that the caller may not read
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
    -- definer: the log is not readable; the function returns the caller's entries only
    security definer
    set search_path = ''
as $$
    with bounds as (
        select
            greatest(after_xid, pg_snapshot_xmin(since)) as xid,
            case when after_xid < pg_snapshot_xmin(since) then 0 else after_seq end as seq
    ),
    -- For each account and each customer by itself, since then the index has the order: a page reads
    -- itself, and not all that is missing.
    entries as (
        select c.*
        from bounds b
        cross join unnest(array(select private.my_account_ids())) as m (account_id)
        cross join lateral (
            select c.xid, c.seq, c.table_name, c.row_id, c.operation::text, c.version
            from private.changes c
            where c.account_id = m.account_id
              and (c.xid, c.seq) > (b.xid, b.seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        ) c
        -- an entry for a user who is both staff and customer is one entry
        union
        select c.*
        from bounds b
        cross join unnest(array(select private.my_customer_ids())) as m (customer_id)
        cross join lateral (
            select
                c.xid,
                c.seq,
                c.table_name,
                c.row_id,
                coalesce(c.customer_operation, c.operation)::text as operation,
                c.version
            from private.changes c
            where c.customer_id = m.customer_id
              and (c.xid, c.seq) > (b.xid, b.seq)
              and not pg_visible_in_snapshot(c.xid, since)
              and pg_visible_in_snapshot(c.xid, until)
            order by c.xid, c.seq
            limit page_size
        ) c
    )
    select e.xid, e.seq, e.table_name, e.row_id, e.operation, e.version
    from entries e
    order by e.xid, e.seq
    limit page_size
$$;

grant execute on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer)
    to authenticated;


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
    -- encode breaks lines; a cursor has none
    select translate(encode(convert_to(jsonb_strip_nulls(fields)::text, 'UTF8'), 'base64'), E'\n', '')
$$;

grant execute on function private.write_cursor(jsonb) to authenticated;


create function public.changes_since(cursor text default null, page_size integer default 500)
    returns json
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
    entries json;
    found_entries integer;
    last_entry jsonb;
    next_cursor jsonb;
begin
    select * into state from private.change_log_state();
    next_cursor := jsonb_build_object(
        'epoch', state.epoch, 'scope', scope, 'since', now_visible::text, 'at', now());

    -- The first call returns the cursor for now.
    if changes_since.cursor is null then
        return json_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::json, 'more', false, 'resync', false);
    end if;

    given := private.read_cursor(changes_since.cursor);
    if given is null then
        raise sqlstate 'PT422' using
            message = 'This is not a cursor of changes_since.',
            detail = 'field: cursor',
            hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
    end if;

    -- Another database, another scope of the reader, or too long ago: the missed changes are not
    -- known.
    if given ->> 'epoch' is distinct from state.epoch
        or given ->> 'scope' is distinct from scope
        or (given ->> 'at')::timestamptz < state.kept_since
        -- the cursor is newer than the database: its disk was put back to an earlier state
        or pg_snapshot_xmax((given ->> 'since')::pg_snapshot) > pg_snapshot_xmax(now_visible)
    then
        return json_build_object(
            'cursor', private.write_cursor(next_cursor),
            'changes', '[]'::json, 'more', false, 'resync', true);
    end if;

    since := (given ->> 'since')::pg_snapshot;
    -- All pages lead to one fixed snapshot, which becomes the next cursor.
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
        coalesce(json_agg(
            json_build_object(
                'table', e.table_name,
                'id', e.row_id,
                'version', e.version,
                'operation', case
                    when r.record is null then 'DELETE'
                    -- it has left an owner, but the caller still sees it
                    when e.operation = 'DELETE' then 'UPDATE'
                    else e.operation
                end,
                'record', r.record
            )
            -- In the order of writing. A transaction that waited for a lock may have an older xid
            -- than the holder of the lock, but its seq is higher.
            order by e.seq
        ), '[]'::json),
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

    return json_build_object(
        'cursor', private.write_cursor(next_cursor),
        'changes', entries,
        'more', found_entries = page_limit,
        'resync', false);
end
$$;

grant execute on function public.changes_since(text, integer) to authenticated;


comment on function private.caller_scope() is
    'A digest of everything that the signed-in user may follow: accounts, roles, customers.';
comment on function private.change_log_state() is
    'The log''s epoch, and the time since which the log is complete.';
comment on function private.my_changes(pg_snapshot, pg_snapshot, xid8, bigint, integer) is
    'The caller''s log entries between two snapshots, one page at a time.';
comment on function private.read_cursor(text) is
    'The fields of a cursor; null for a text that is no cursor.';
comment on function private.write_cursor(jsonb) is
    'Writes fields as a cursor, which is opaque to clients.';
comment on function public.changes_since(text, integer) is
    'The changes since a cursor. Call it without a cursor first, before you read rows: that gives the first cursor. Call it again at once while more is true. Where resync is true, read everything again. An entry without a record means that the row is gone or that you may no longer see it. Within a page the entries are in the order of writing, and messages of a conversation in the order of seq. Between pages compare version and seq.'
    ' Type: {cursor: text, changes: {table: text, id: uuid, version: bigint, operation: "INSERT" | "UPDATE" | "DELETE", record: json | null}[], more: boolean, resync: boolean}';
