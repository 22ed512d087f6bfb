/*
    What `rapport check` asks the database: how it is set up and what waits in it, as facts. What
    they mean is decided there. No fact is a secret or names a person.

    A deployment may lack a part of the platform, such as pg_net. So these parts are asked for by
    statements that are made when they are there.
*/
create function private.applied_migrations()
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    -- the Supabase CLI's own list
    if to_regclass('supabase_migrations.schema_migrations') is null then
        return null;
    end if;
    execute $query$
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'version', m.version,
                    'name', m.name,
                    -- the CLI keeps statements, without what stands between them
                    'digest', encode(
                        sha256(convert_to(
                            translate(array_to_string(m.statements, ''), E' \n\t\r;', ''), 'UTF8')),
                        'hex')
                )
                order by m.version
            ),
            '[]'
        )
        from supabase_migrations.schema_migrations m
    $query$
    into answer;
    return answer;
end
$$;


create function private.requests_made()
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    if to_regclass('net._http_response') is null then
        return null;
    end if;
    execute $query$
        select jsonb_build_object(
            'version', (select x.extversion from pg_catalog.pg_extension x where x.extname = 'pg_net'),
            'waiting', (select count(*) from net.http_request_queue),
            'answers', coalesce(
                (
                    select jsonb_agg(jsonb_build_object(
                        'result', a.result, 'count', a.count, 'latest_at', a.latest_at)
                        order by a.latest_at desc)
                    from (
                        select
                            coalesce(
                                r.status_code::text,
                                case when r.timed_out then 'no answer in time' else 'not reached' end
                            ) as result,
                            count(*) as count,
                            max(r.created) as latest_at
                        from net._http_response r
                        where r.created > now() - interval '1 hour'
                        group by 1
                    ) a
                ),
                '[]'
            )
        )
    $query$
    into answer;
    return answer;
end
$$;


create function private.replication_slots()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'name', s.slot_name,
                'plugin', s.plugin,
                'is_active', s.active,
                'wal_status', s.wal_status,
                'lag_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)
            )
            order by s.slot_name
        ),
        '[]'
    )
    from pg_catalog.pg_replication_slots s
    where s.database = current_database()
$$;


create function private.realtime_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select jsonb_build_object(
        'publication', (
            select jsonb_build_object(
                'operations', array_remove(
                    array[
                        case when p.pubinsert then 'insert' end,
                        case when p.pubupdate then 'update' end,
                        case when p.pubdelete then 'delete' end,
                        case when p.pubtruncate then 'truncate' end
                    ],
                    null)
            )
            from pg_catalog.pg_publication p
            where p.pubname = 'supabase_realtime'
        ),
        'unpublished', array(
            select f.table_name
            from private.followed_tables f
            where not exists (
                select
                from pg_catalog.pg_publication_tables t
                where t.pubname = 'supabase_realtime'
                  and t.schemaname = 'public'
                  and t.tablename = f.table_name
            )
            order by f.table_name
        ),
        -- every policy of a kind widens what the others allow
        'policies', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object('name', p.polname, 'is_permissive', p.polpermissive)
                    order by p.polname)
                from pg_catalog.pg_policy p
                where p.polrelid = 'realtime.messages'::regclass
            ),
            '[]'
        ),
        'is_guarded', (
            select c.relrowsecurity
            from pg_catalog.pg_class c
            where c.oid = 'realtime.messages'::regclass
        ),
        'has_todays_partition', to_regclass(
            'realtime.messages_' || to_char(now() at time zone 'UTC', 'YYYY_MM_DD')) is not null,
        'slots', private.replication_slots()
    )
$$;


create function private.guards_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select jsonb_build_object(
        'pre_request', (
            select substr(s.setting, length('pgrst.db_pre_request=') + 1)
            from pg_catalog.pg_roles r
            cross join lateral unnest(r.rolconfig) s (setting)
            where r.rolname = 'authenticator'
              and s.setting like 'pgrst.db\_pre\_request=%'
        ),
        'disabled_triggers', array(
            select format('%s on %s', t.tgname, c.relname)
            from pg_catalog.pg_trigger t
            join pg_catalog.pg_class c
                on c.oid = t.tgrelid
            where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
              and not t.tgisinternal
              and t.tgenabled = 'D'
            order by 1
        ),
        'unguarded', array(
            select format('%s.%s', c.relnamespace::regnamespace, c.relname)
            from pg_catalog.pg_class c
            where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
              and c.relkind in ('r', 'p')
              and not c.relrowsecurity
            order by 1
        ),
        'open_to_anon', array(
            select f.table_name
            from private.followed_tables f
            where has_table_privilege(
                'anon', format('public.%I', f.table_name), 'select, insert, update, delete')
            order by f.table_name
        )
    )
$$;


create function private.queues_state()
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    -- ages in seconds: how long the oldest has been due
    select jsonb_object_agg(
        q.name,
        jsonb_build_object(
            'count', q.count,
            'oldest_seconds',
            coalesce(greatest(extract(epoch from clock_timestamp() - q.oldest), 0), 0)::bigint
        )
    )
    from (
        select 'outbound' as name, count(*) as count, min(m.created_at) as oldest
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        join public.whatsapp_channels w
            on w.id = o.whatsapp_channel_id
        -- those of a stopped number are told with the number
        where w.stopped_at is null
        union all
        select 'media', count(*), min(f.not_before)
        from private.media_queue f
        where f.not_before < now()
        union all
        select 'metakocka', count(*), min(d.not_before)
        from private.metakocka_dirty d
        join public.metakocka_connections k
            on k.account_id = d.account_id
        where d.not_before < now()
          and coalesce(d.lease_until < now(), true)
          and k.active
          and coalesce(k.paused_until < now(), true)
        union all
        select 'notifications', count(*), min(p.not_before)
        from private.push_queue p
        where p.not_before < now()
        union all
        select 'scheduled', count(*), min(s.due_at)
        from public.scheduled_messages s
        where s.status = 'waiting'
          and s.due_at < now()
    ) q
$$;


create function backend.deployment()
    returns jsonb
    language sql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    select jsonb_build_object(
        'now', clock_timestamp(),
        'release', backend.release(),
        'postgres', current_setting('server_version'),
        'migrations', private.applied_migrations(),
        'realtime', private.realtime_state(),
        'guards', private.guards_state(),
        'net', private.requests_made(),
        'cron', (select x.extversion from pg_catalog.pg_extension x where x.extname = 'pg_cron'),
        'doorbell_url', (select d.url from private.doorbell d),
        'push_key', (select s.public_key from private.push_settings s),
        'push_subscriptions', (select count(*) from public.push_subscriptions),
        'accounts', (select count(*) from public.accounts),
        'accounts_without_owner', array(
            select a.external_id
            from public.accounts a
            where not exists (
                select
                from public.account_members m
                where m.account_id = a.id
                  and m.role = 'owner'
            )
            order by a.external_id
            limit 10
        ),
        'numbers', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object(
                        'account', a.external_id,
                        'phone_number_id', w.phone_number_id,
                        'waba_id', w.waba_id,
                        'display_phone_number', w.display_phone_number,
                        'stopped_reason', w.stopped_reason,
                        'templates', t.count,
                        'templates_read_at', t.read_at
                    )
                    order by a.external_id, w.phone_number_id
                )
                from public.whatsapp_channels w
                join public.accounts a
                    on a.id = w.account_id
                cross join lateral (
                    select count(*) as count, max(t.synced_at) as read_at
                    from public.whatsapp_templates t
                    where t.account_id = w.account_id
                      and t.waba_id = w.waba_id
                      and t.gone_at is null
                ) t
            ),
            '[]'
        ),
        'companies', coalesce(
            (
                select jsonb_agg(
                    jsonb_build_object(
                        'account_id', k.account_id,
                        'account', a.external_id,
                        'company_id', k.company_id,
                        'pause_reason', case when k.paused_until > now() then k.pause_reason end
                    )
                    order by a.external_id
                )
                from public.metakocka_connections k
                join public.accounts a
                    on a.id = k.account_id
                where k.active
            ),
            '[]'
        ),
        'queues', private.queues_state(),
        'webhooks', jsonb_build_object(
            'latest_at', (select max(e.received_at) from private.webhook_events e),
            'rejected', (
                select count(*)
                from private.webhook_events e
                where e.rejected <> '[]'
                  and e.received_at > now() - interval '1 day'
            ),
            'refused_signatures', (
                select coalesce(sum(r.count), 0)
                from private.refused_signatures r
                where r.hour > now() - interval '1 day'
            ),
            -- only a webhook with a good signature is kept
            'taken_since_refused', exists (
                select
                from private.webhook_events e
                where e.received_at >= (
                    select min(r.first_at)
                    from private.refused_signatures r
                    where r.hour > now() - interval '1 day'
                )
            )
        )
    )
$$;

grant execute on function backend.deployment() to service_role;


create function backend.try_doorbell()
    returns bigint
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
declare
    bell private.doorbell;
    request_id bigint;
begin
    select d.*
    into bell
    from private.doorbell d
    where d.url is not null;
    if not found or to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)') is null then
        return null;
    end if;
    -- as private.ring does it. A worker that is woken for nothing looks and finds nothing.
    execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => 5000)'
    into request_id
    using
        bell.url,
        jsonb_build_object('worker', 'send_later'),
        jsonb_build_object(
            'content-type', 'application/json', 'authorization', 'Bearer ' || bell.secret);
    return request_id;
end
$$;

grant execute on function backend.try_doorbell() to service_role;


create function backend.doorbell_answer(request_id bigint)
    returns jsonb
    language plpgsql
    stable
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
declare
    answer jsonb;
begin
    execute $query$
        select jsonb_build_object(
            'status', r.status_code,
            'is_late', coalesce(r.timed_out, false),
            'error', left(r.error_msg, 200)
        )
        from net._http_response r
        where r.id = $1
    $query$
    into answer
    using request_id;
    return answer;
end
$$;

grant execute on function backend.doorbell_answer(bigint) to service_role;


create function backend.try_broadcast(nonce uuid)
    returns void
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
begin
    -- a topic that may_receive lets no user join
    insert into realtime.messages (topic, extension, event, payload, private)
    values ('check:' || nonce, 'broadcast', 'check', jsonb_build_object('nonce', nonce), true);
end
$$;

grant execute on function backend.try_broadcast(uuid) to service_role;


create function backend.forget_broadcast(nonce uuid)
    returns void
    language plpgsql
    -- definer: as deployment
    security definer
    set search_path = ''
as $$
begin
    delete from realtime.messages m
    where m.topic = 'check:' || nonce
      and m.inserted_at > (now() at time zone 'UTC') - interval '1 hour';
end
$$;

grant execute on function backend.forget_broadcast(uuid) to service_role;


comment on function private.applied_migrations() is
    'The migrations that the Supabase CLI has applied, each with the SHA-256 of its text without spaces and semicolons; null where the CLI has applied none.';
comment on function private.requests_made() is
    'pg_net''s version, the number of its waiting requests, and what became of those of the last hour; null without pg_net.';
comment on function private.replication_slots() is
    'The replication slots of this database, and how many bytes each is behind.';
comment on function private.realtime_state() is
    'What Realtime needs: publication, policies, today''s partition, replication slots.';
comment on function private.guards_state() is
    'What protects the tables: the function before each request, triggers, row level security, grants.';
comment on function private.queues_state() is
    'How many rows of each queue are due, and for how many seconds the oldest has been.';
comment on function backend.deployment() is
    'How this deployment is set up and what waits in it, for rapport check.';
comment on function backend.try_doorbell() is
    'Rings the doorbell once; doorbell_answer tells what became of this request. Null where there is no doorbell, or no pg_net.';
comment on function backend.doorbell_answer(bigint) is
    'What became of a request of try_doorbell: status, is_late, error; null as long as it has no answer.';
comment on function backend.try_broadcast(uuid) is
    'Broadcasts once to the private topic check:<nonce>, which only a secret key may join.';
comment on function backend.forget_broadcast(uuid) is
    'Deletes what try_broadcast has stored.';
