/*
    Schema realtime as a hosted project has it: the table through which the database
    broadcasts, the functions that write to it, and what clients may do with it. Run as
    supabase_admin, after schema auth.

    Source: names, types, grants and behaviour are those of Supabase Realtime 2.129. What its
    server alone uses there (subscriptions, the SQL that applies RLS) is part of ours.
*/
create schema realtime authorization supabase_admin;
grant usage on schema realtime to postgres, anon, authenticated, service_role, supabase_realtime_admin;
-- partitions too: a trigger on realtime.messages is made on each of them
alter default privileges for role supabase_admin in schema realtime grant all on tables to postgres;


create table realtime.messages (
    topic       text not null,
    extension   text not null,
    payload     jsonb,
    event       text,
    private     boolean default false,
    -- without a time zone, in UTC
    updated_at  timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id          uuid not null default gen_random_uuid(),
    binary_payload bytea,

    constraint messages_pkey primary key (id, inserted_at),
    constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);
alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;


-- what replay reads: the newest stored broadcasts of a private topic
create index messages_inserted_at_topic_index
    on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private;


grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to postgres;


comment on table realtime.messages is
    'Broadcasts sent by the database, kept three days; its policies say who may join which private topic.';


create function realtime.ensure_partitions()
    returns void
    language plpgsql
    set search_path = ''
    -- a transaction that holds the table for long must not make every broadcast wait for us
    set lock_timeout = '2s'
as $$
/*
    Makes the daily partitions of realtime.messages from yesterday to three days ahead, and
    drops those that are older than three days. Called when the gateway starts, then daily.
*/
declare
    today constant date := (now() at time zone 'UTC')::date;
    first_day date;
    partition_name text;
begin
    for first_day in select today + days from generate_series(-1, 3) as days loop
        partition_name := to_char(first_day, '"messages_"YYYY_MM_DD');
        continue when to_regclass(format('realtime.%I', partition_name)) is not null;

        -- attached rather than created as a partition: that would lock out every writer
        execute format(
            'create table realtime.%I (like realtime.messages including defaults including constraints)',
            partition_name
        );
        execute format('alter table realtime.%I owner to supabase_realtime_admin', partition_name);
        execute format('alter table realtime.%I enable row level security', partition_name);
        execute format(
            'alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)',
            partition_name, first_day::timestamp, (first_day + 1)::timestamp
        );
    end loop;

    for partition_name in
        select child.relname
          from pg_catalog.pg_inherits
          join pg_catalog.pg_class as child on child.oid = pg_inherits.inhrelid
         where pg_inherits.inhparent = 'realtime.messages'::regclass
           and child.relname < to_char(today - 3, '"messages_"YYYY_MM_DD')
    loop
        begin
            execute format('drop table realtime.%I', partition_name);
        exception
            when lock_not_available then
                raise warning 'partition % is in use and stays until tomorrow', partition_name;
        end;
    end loop;
end
$$;

revoke execute on function realtime.ensure_partitions() from public;


comment on function realtime.ensure_partitions() is
    'Makes the daily partitions of realtime.messages ahead of time and drops the old ones.';


-- No search_path of its own: with it the planner could not inline it into policies.
create function realtime.topic()
    returns text
    language sql
    stable
return nullif(pg_catalog.current_setting('realtime.topic', true), '');


comment on function realtime.topic() is 'The topic that is being joined or written to.';


create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    Broadcasts when the transaction commits. Runs with the caller's rights: a caller who is
    subject to RLS needs a policy to insert. A broadcast that fails is a warning, never an error.
*/
declare
    message_id constant uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', send.topic, true);

    insert into realtime.messages (id, topic, extension, event, private, payload)
    values (
        message_id,
        send.topic,
        'broadcast',
        send.event,
        send.private,
        case
            when jsonb_typeof(send.payload) = 'object'
                then jsonb_build_object('id', message_id) || send.payload
            else send.payload
        end
    );
exception
    when others then
        raise warning 'could not broadcast: %', sqlerrm;
end
$$;


comment on function realtime.send(jsonb, text, text, boolean) is
    'Broadcasts a payload to a topic when the transaction commits.';


create function realtime.send_binary(
    payload bytea,
    event text,
    topic text,
    private boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    As send, for bytes. Clients of protocol version 1 can't take them.
*/
begin
    perform set_config('realtime.topic', send_binary.topic, true);

    insert into realtime.messages (topic, extension, event, private, binary_payload)
    values (
        send_binary.topic,
        'broadcast',
        send_binary.event,
        send_binary.private,
        send_binary.payload
    );
exception
    when others then
        raise warning 'could not broadcast: %', sqlerrm;
end
$$;


comment on function realtime.send_binary(bytea, text, text, boolean) is
    'Broadcasts bytes to a topic when the transaction commits.';


create function realtime.broadcast_changes(
    topic_name text,
    event_name text,
    operation text,
    table_name text,
    table_schema text,
    new record,
    old record,
    level text default 'ROW'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    Broadcasts one changed row; written for triggers, which hand over their own variables.
*/
begin
    if level = 'STATEMENT' then
        raise exception 'broadcast_changes works in triggers for each row, not for each statement';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'broadcast_changes does not know the operation %', operation;
    end if;

    perform realtime.send(
        payload => jsonb_build_object(
            'schema', table_schema,
            'table', table_name,
            'operation', operation,
            'record', new,
            'old_record', old
        ),
        event => event_name,
        topic => topic_name
    );
end
$$;


comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'Broadcasts one changed row to a private topic, out of a trigger for each row.';


select realtime.ensure_partitions();


-- Under the table's own name, not its partitions', so that a new day is nothing new to a reader.
create publication supabase_realtime_messages_publication
    for table realtime.messages
    with (publish = 'insert', publish_via_partition_root = true);
