/*
    Which partner a contact is, where several may be it or it is gone, becomes a question that a
    person answers. What was sent and never answered is settled for merged and deleted contacts,
    too; who waits is counted apart from who failed.
*/
drop trigger _500_move_mapping on public.contact_identities;
drop function private.mark_requested(uuid, jsonb);
drop function private.intent_rows(uuid);
drop function private.conflict_to_resolve(uuid);
drop function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb
);

alter table public.metakocka_contact_mappings
    drop constraint metakocka_contact_mappings_state_check,
    add constraint metakocka_contact_mappings_state_check check (state in (
        'synced', 'waiting', 'conflict', 'blocked', 'unknown', 'unlinked'
    )),
    add column not_partners text[] not null default '{}'
        constraint metakocka_contact_mappings_not_partners_check
        check (cardinality(not_partners) <= 1000
               and array_position(not_partners, null) is null);

comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or looked at; conflict: a person decides (sync_conflicts); blocked: it can''t be sent, see missing, or the contact is deleted; unknown: it may have been made there, which is being found out; unlinked: a person wants it to be no partner, and it is sent only when somebody asks for it.';

comment on column public.metakocka_contact_mappings.not_partners is
    'Partners that a person has said it is not: none of them is taken for it again.';

alter table public.sync_runs
    add column waiting integer not null default 0
        constraint sync_runs_waiting_check check (waiting >= 0);

comment on column public.sync_runs.done is
    'How many have been looked at: succeeded, failed, unchanged and waiting together.';

comment on column public.sync_runs.waiting is
    'How many wait: for a person (sync_conflicts), or to be tried again.';

alter table public.sync_conflicts
    alter column metakocka_id drop not null,
    add column partners jsonb
        constraint sync_conflicts_partners_check
        check (jsonb_typeof(partners) = 'array' and octet_length(partners::text) <= 262144),
    add column question text generated always as (
        case
            when partners is not null then 'partner'
            when field is not null then 'field'
            else 'contact'
        end
    ) stored,
    add constraint sync_conflicts_question_check check (
        case
            when partners is null then metakocka_id is not null
            else contact_id is not null and field is null
        end
    );

drop index public.sync_conflicts_open_key;

-- a question is asked once
create unique index sync_conflicts_open_key
    on public.sync_conflicts (account_id, metakocka_id, field)
    nulls not distinct
    where state = 'open' and partners is null;

create unique index sync_conflicts_open_partner_key
    on public.sync_conflicts (account_id, contact_id)
    where state = 'open' and partners is not null;

comment on table public.sync_conflicts is
    'What both sides have changed, and who is who where the sync can''t tell; resolve_sync_conflict decides.';

comment on column public.sync_conflicts.question is
    'field: whose value stands; contact: which contact the partner is; partner: which partner the contact is.';

comment on column public.sync_conflicts.contact_id is
    'Whose field or partner it is; null while the question is which contact the partner is.';

comment on column public.sync_conflicts.metakocka_id is
    'The partner; of the question which partner a contact is the one that it is so far, or that is gone, if any.';

comment on column public.sync_conflicts.field is
    'The field that both sides have changed, of a list such as people.228000046630.email; null where the question is which contact or partner it is.';

comment on column public.sync_conflicts.choice is
    'crm or metakocka; the id of a contact or a partner, new or unlink; agreed where both sides came to the same.';

comment on column public.sync_conflicts.partners is
    'The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other questions.';

alter table private.metakocka_dirty
    add column edited_at timestamptz default clock_timestamp();

create function private.quiet_moment()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- after the last of several edits
    select interval '1 second'
$$;

create function private.longest_wait()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- after the first of them: edits that never end are sent all the same
    select interval '10 seconds'
$$;

create or replace function private.mark_dirty(
    account_id uuid,
    contact_ids uuid[],
    quiet_for interval default private.quiet_moment()
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- an update of no row would still run the table's triggers
    if exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = any (contact_ids)
          and m.state in ('synced', 'blocked')
    ) then
        update public.metakocka_contact_mappings m
        set state = 'waiting',
            missing = '{}'
        from (
            select o.contact_id
            from public.metakocka_contact_mappings o
            where o.contact_id = any (contact_ids)
              and o.state in ('synced', 'blocked')
            order by o.contact_id
            for no key update
        ) l
        where m.contact_id = l.contact_id;
    end if;

    insert into private.metakocka_dirty as d (account_id, contact_id, not_before)
    select mark_dirty.account_id, c.id, clock_timestamp() + quiet_for
    from unnest(contact_ids) as c (id)
    where not exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = c.id
          and m.state = 'unlinked'
    )
    order by c.id
    on conflict (contact_id) do update
        set changed_seq = excluded.changed_seq,
            not_before = least(
                excluded.not_before, coalesce(d.edited_at, excluded.edited_at) + private.longest_wait()),
            attempts = 0,
            edited_at = coalesce(d.edited_at, excluded.edited_at);
    perform private.ring('metakocka_sync');
end
$$;

create function private.mark_requested(account_id uuid, contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    unlinked constant uuid[] := array(
        select m.contact_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (contact_ids)
          and m.account_id = mark_requested.account_id
          and m.state = 'unlinked'
        order by m.contact_id
        for no key update
    );
begin
    -- an update of no row would still run the table's triggers
    if unlinked <> '{}' then
        update public.metakocka_contact_mappings m
        set state = 'waiting'
        where m.contact_id = any (unlinked);
    end if;
    if contact_ids <> '{}' then
        perform private.mark_dirty(
            account_id => mark_requested.account_id,
            contact_ids => mark_requested.contact_ids,
            quiet_for => interval '0'
        );
    end if;
end
$$;

comment on column private.metakocka_dirty.edited_at is
    'When it was first edited since it was last claimed; null where it was not.';

comment on function private.quiet_moment() is
    'How long after an edit a contact is sent, unless it is edited once more.';

comment on function private.longest_wait() is
    'How long after an edit a contact is sent at the latest, however often it is edited.';

comment on function private.mark_requested(uuid, uuid[]) is
    'Marks contacts that somebody wants to be sent now, also those that were to be no partners.';

comment on function private.mark_dirty(uuid, uuid[], interval) is
    'Notes that contacts of an account are to be sent, after a quiet moment, and rings. Those that are to be no partners are passed over.';

create index partner_intents_open_idx
    on private.partner_intents (account_id, created_at, id)
    where state in ('intended', 'sent', 'unknown');

comment on column private.partner_intents.sent is
    'The fields that were to be sent, by which a partner that may have been made is looked for; empty once that is settled.';

/*
    What becomes of partners when contacts are deleted, merged and parted again.
*/
create or replace function private.forget_partners(contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting record;
begin
    -- the mapping stays, or the partner would come back as a new contact; of a merged contact
    -- what was agreed stays too, for the one to which its identity goes
    update public.metakocka_contact_mappings m
    set state = 'blocked',
        missing = '{}',
        base = case when c.merged_into is not null then m.base end
    from public.contacts c
    where c.id = any (contact_ids)
      and m.contact_id = c.id;

    delete from public.sync_conflicts s
    where s.contact_id = any (contact_ids);

    delete from private.metakocka_dirty d
    where d.contact_id = any (contact_ids);

    -- a partner that may have been made of a merged contact is the kept one's to look for
    for waiting in
        select c.account_id, array_agg(distinct c.merged_into) as contact_ids
        from public.contacts c
        join public.metakocka_connections k
            on k.account_id = c.account_id
           and k.active
        where c.id = any (forget_partners.contact_ids)
          and c.merged_into is not null
          and exists (
              select
              from private.partner_intents i
              where i.contact_id = c.id
                and i.state in ('intended', 'sent', 'unknown')
          )
        group by c.account_id
        order by c.account_id
    loop
        perform private.mark_dirty(waiting.account_id, waiting.contact_ids);
    end loop;
end
$$;

create or replace function private.tg_contact_identities__move_mapping()
    returns trigger
    language plpgsql
    -- definer: mappings are nobody's to write
    security definer
    set search_path = ''
as $$
begin
    -- one that holds no partner gives way; one that holds another stays, and so do both
    delete from public.metakocka_contact_mappings m
    where m.contact_id = new.contact_id
      and m.metakocka_id is null;

    update public.metakocka_contact_mappings m
    set contact_id = new.contact_id,
        state = 'waiting',
        partner_hash = null
    where m.contact_id = old.contact_id
      and m.metakocka_id = new.value
      and not exists (
          select
          from public.metakocka_contact_mappings o
          where o.contact_id = new.contact_id
      );
    if found and exists (
        select
        from public.metakocka_connections k
        where k.account_id = new.account_id
          and k.active
    ) then
        perform private.mark_dirty(new.account_id, array[new.contact_id]);
    end if;
    return null;
end
$$;

-- merged contacts give their identities to the kept one, and get them back when it is undone
create trigger _500_move_mapping
    after update on public.contact_identities
    for each row
    when (new.kind = 'metakocka' and new.contact_id <> old.contact_id)
    execute function private.tg_contact_identities__move_mapping();

comment on function private.forget_partners(uuid[]) is
    'What follows for the sync when contacts are deleted or merged.';
comment on function private.tg_contact_identities__move_mapping() is
    'A partner''s mapping goes where its identity goes.';

/*
    What there is to do, and for whom: accounts with contacts to send, with a run that waits or
    was left, or whose time has come.
*/
create or replace function private.partners_seen_at(account_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select max(r.started_at)
        from public.sync_runs r
        where r.account_id = partners_seen_at.account_id
          and r.state = 'done'
          and r.direction <> 'to_metakocka'
          and r.request = '{}'
    );
end
$$;

create or replace function backend.metakocka_connection(account text)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    found_connection jsonb;
begin
    select jsonb_build_object(
        'account_id', a.id,
        'company_id', k.company_id,
        'base_url', k.base_url,
        'conflict_rule', k.conflict_rule,
        'listing', k.listing,
        'documents_seen_until', k.documents_seen_until,
        'partners_seen_at', private.partners_seen_at(a.id)
    )
    into found_connection
    from public.accounts a
    join public.metakocka_connections k
        on k.account_id = a.id
       and k.active
    where a.external_id = account
       or a.id::text = account;
    if found_connection is null then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it has no active connection to Metakocka.',
            detail = 'field: account';
    end if;
    return found_connection;
end
$$;

grant execute on function backend.metakocka_connection(text) to service_role;

create or replace function backend.metakocka_connections_due(batch integer default 50)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        with reasons as (
            select
                k.account_id,
                array_remove(array[
                    case when o.since is not null then 'run' end,
                    case when w.since is not null then 'contacts' end,
                    case when n.at <= now() then 'schedule' end
                ], null) as reasons,
                least(o.since, w.since, case when n.at <= now() then n.at end) as waiting_since
            from public.metakocka_connections k
            cross join lateral (
                select min(r.created_at) as since
                from public.sync_runs r
                where r.account_id = k.account_id
                  and r.state in ('queued', 'running', 'stopped')
            ) o
            cross join lateral (
                select min(d.not_before) as since
                from private.metakocka_dirty d
                where d.account_id = k.account_id
                  -- nobody rings when the quiet moment is over: the worker waits for its end
                  and d.not_before <= clock_timestamp() + 2 * private.quiet_moment()
                  and coalesce(d.lease_until <= clock_timestamp(), true)
            ) w
            cross join lateral (
                select coalesce(max(r.created_at) + k.sync_interval, k.created_at) as at
                from public.sync_runs r
                where r.account_id = k.account_id
                  and r.trigger = 'schedule'
            ) n
            where k.active
              and not exists (
                  select
                  from private.sync_leases l
                  where l.account_id = k.account_id
                    and l.lease_until > clock_timestamp()
              )
        ),
        due as (
            select r.*
            from reasons r
            where r.reasons <> '{}'
            order by r.waiting_since, r.account_id
            limit least(greatest(batch, 1), 500)
        )
        select coalesce(
            jsonb_agg(
                jsonb_build_object('account_id', d.account_id, 'reasons', d.reasons)
                order by d.waiting_since, d.account_id),
            '[]')
        from due d
    );
end
$$;

grant execute on function backend.metakocka_connections_due(integer) to service_role;

comment on function private.partners_seen_at(uuid) is
    'Since when all partners have been looked at: what differs now has changed after that.';
comment on function backend.metakocka_connection(text) is
    'The connection of an account by its id or external id: {account_id, company_id, base_url, conflict_rule, listing, documents_seen_until, partners_seen_at}.';
comment on function backend.metakocka_connections_due(integer) is
    'The accounts for which there is something to do and nobody at work, the longest waiting first: [{account_id, reasons}]; reasons are run (to be gone on with), contacts (to be sent) and schedule.';

/*
    The worker's side of runs. Whoever holds an account's lease may call Metakocka for it, and
    nobody else; a lease that was not extended in time is the next one's, who goes on where the
    last one said it was.
*/
create or replace function private.sync_lease()
    returns interval
    language sql
    immutable
    set search_path = ''
as $$
    -- longer than the slowest call with its repetitions
    select interval '90 seconds'
$$;

create or replace function private.next_sync_run(
    account_id uuid,
    direction text,
    trigger text,
    user_id uuid,
    request jsonb
)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    next_id uuid;
begin
    if request is not null then
        -- somebody waits for the answer: what was left and what is queued come after it
        if exists (
            select
            from public.sync_runs r
            where r.account_id = next_sync_run.account_id
              and r.state = 'running'
        ) then
            update public.sync_runs r
            set state = 'stopped'
            where r.account_id = next_sync_run.account_id
              and r.state = 'running';
        end if;
        insert into public.sync_runs (
            account_id, direction, trigger, state, user_id, started_at, request
        )
        values (
            next_sync_run.account_id,
            next_sync_run.direction,
            next_sync_run.trigger,
            'running',
            next_sync_run.user_id,
            clock_timestamp(),
            next_sync_run.request
        )
        returning id
        into next_id;
        return next_id;
    end if;

    -- one that another left, then those that wait
    select r.id
    into next_id
    from public.sync_runs r
    where r.account_id = next_sync_run.account_id
      and r.state in ('queued', 'running', 'stopped')
    order by r.state <> 'running', r.created_at, r.id
    limit 1
    for update;
    if found then
        update public.sync_runs r
        set state = 'running',
            started_at = coalesce(r.started_at, clock_timestamp())
        where r.id = next_id
          and r.state <> 'running';
        return next_id;
    end if;

    -- woken for contacts that another has sent meanwhile
    if trigger = 'wake' and not exists (
        select
        from private.metakocka_dirty d
        where d.account_id = next_sync_run.account_id
    ) then
        return null;
    end if;
    insert into public.sync_runs (account_id, direction, trigger, state, user_id, started_at)
    values (
        next_sync_run.account_id,
        next_sync_run.direction,
        next_sync_run.trigger,
        'running',
        next_sync_run.user_id,
        clock_timestamp()
    )
    returning id
    into next_id;
    return next_id;
end
$$;

create or replace function backend.begin_sync(
    account_id uuid,
    direction text,
    trigger text,
    worker text,
    user_id uuid default null,
    request jsonb default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    connection public.metakocka_connections;
    lease private.sync_leases;
    begun uuid;
begin
    -- whoever begins for an account waits here for the other who does
    select k.*
    into connection
    from public.metakocka_connections k
    where k.account_id = begin_sync.account_id
      and k.active
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This account has no active connection to Metakocka.',
            detail = 'field: account_id';
    end if;

    select l.*
    into lease
    from private.sync_leases l
    where l.account_id = begin_sync.account_id;
    if lease.lease_until > clock_timestamp() then
        if lease.worker <> begin_sync.worker then
            return null;
        end if;
        -- asked again, since the answer was lost
        begun := lease.run_id;
    else
        begun := private.next_sync_run(
            account_id => begin_sync.account_id,
            direction => begin_sync.direction,
            trigger => begin_sync.trigger,
            user_id => begin_sync.user_id,
            request => begin_sync.request
        );
        if begun is null then
            return null;
        end if;
        -- what the last worker held when it ended is this one's
        update private.metakocka_dirty d
        set lease_until = null,
            worker = null
        where d.account_id = begin_sync.account_id
          and d.worker is not null;
        if begin_sync.request ? 'contact_ids' then
            perform private.mark_requested(
                account_id => begin_sync.account_id,
                contact_ids => array(
                    select c.id
                    from jsonb_array_elements_text(begin_sync.request -> 'contact_ids') i
                    join public.contacts c
                        on c.id = i::uuid
                    where c.account_id = begin_sync.account_id
                      and c.deleted_at is null
                    order by c.id
                )
            );
        end if;
    end if;

    insert into private.sync_leases as l (account_id, run_id, worker, lease_until)
    values (
        begin_sync.account_id, begun, begin_sync.worker,
        clock_timestamp() + private.sync_lease()
    )
    on conflict on constraint sync_leases_pkey do update
        set run_id = excluded.run_id,
            worker = excluded.worker,
            lease_until = excluded.lease_until;

    return (
        select jsonb_build_object(
            'run_id', r.id,
            'direction', r.direction,
            'trigger', r.trigger,
            'request', r.request,
            'cursor', r.cursor,
            'total', r.total,
            'done', r.done,
            'succeeded', r.succeeded,
            'failed', r.failed,
            'unchanged', r.unchanged,
            'waiting', r.waiting,
            'errors', r.errors,
            'user_id', coalesce(r.user_id, connection.user_id),
            'company_id', connection.company_id,
            'base_url', connection.base_url,
            'conflict_rule', connection.conflict_rule,
            'listing', connection.listing,
            'documents_seen_until', connection.documents_seen_until,
            'partners_seen_at', private.partners_seen_at(begin_sync.account_id)
        )
        from public.sync_runs r
        where r.id = begun
    );
end
$$;

grant execute on function backend.begin_sync(uuid, text, text, text, uuid, jsonb) to service_role;

comment on function private.sync_lease() is
    'How long a run is its worker''s without a word from it.';
comment on function private.next_sync_run(uuid, text, text, uuid, jsonb) is
    'The run to go on with, or a new one; null where a wake finds nothing to send. A request is always a new one.';
comment on function backend.begin_sync(uuid, text, text, text, uuid, jsonb) is
    'Leases an account to a worker: the run that waits or was left, with its cursor and counts, or a new one; null where another is at work or a wake finds nothing. With a request, {contact_ids} or {metakocka_ids}, a run of its own. Repeating it under the same name answers the same.';

create function backend.advance_sync(
    run_id uuid,
    worker text,
    cursor jsonb,
    total integer,
    done integer,
    succeeded integer,
    failed integer,
    unchanged integer,
    errors jsonb default '{}',
    waiting integer default 0
)
    returns timestamptz
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    leased_until constant timestamptz := clock_timestamp() + private.sync_lease();
begin
    perform private.require_lease(run_id => advance_sync.run_id, worker => advance_sync.worker);

    update private.sync_leases l
    set lease_until = leased_until
    where l.run_id = advance_sync.run_id;
    update public.sync_runs r
    set cursor = advance_sync.cursor,
        total = advance_sync.total,
        done = advance_sync.done,
        succeeded = advance_sync.succeeded,
        failed = advance_sync.failed,
        unchanged = advance_sync.unchanged,
        waiting = advance_sync.waiting,
        errors = advance_sync.errors
    where r.id = advance_sync.run_id;
    return leased_until;
end
$$;

grant execute on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) to service_role;

comment on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) is
    'Notes how far a run has come, in all and not since the last time, and extends its lease: returns until when. Taken over by another: 409.';

/*
    What the sync has to know of partners before it merges them: the contact that each is, with
    what was last agreed, or the contacts that a new one may be.
*/
create or replace function private.partner_candidates(
    account_id uuid,
    metakocka_id text,
    tax_id_number text,
    emails text[],
    phones text[]
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'contact_id', c.id,
                    'version', c.version,
                    'updated_at', c.updated_at,
                    'matched_by', g.kinds,
                    'is_asked', exists (
                        select
                        from public.sync_conflicts s
                        where s.account_id = partner_candidates.account_id
                          and s.contact_id = c.id
                          and s.state = 'open'
                          and s.partners is not null
                    ),
                    'party', private.contact_party(c)
                )
                order by c.id
            ),
            '[]')
        from (
            select f.contact_id, array_agg(distinct f.kind order by f.kind) as kinds
            from (
                select o.contact_id, w.kind
                from (
                    select 'metakocka' as kind, partner_candidates.metakocka_id as value
                    union all
                    select 'email', e
                    from unnest(emails) e
                    union all
                    select 'phone', p
                    from unnest(phones) p
                ) w
                cross join lateral (
                    select i.contact_id
                    from public.contact_identities i
                    where i.account_id = partner_candidates.account_id
                      and i.kind = w.kind
                      and i.match_key = private.match_key(kind => w.kind, value => w.value)
                    limit 1
                ) o
                union all
                select t.id, 'tax'
                from public.contacts t
                where t.account_id = partner_candidates.account_id
                  and t.tax_id_number is not null
                  and private.tax_key(t.tax_id_number)
                      = nullif(private.tax_key(partner_candidates.tax_id_number), '')
            ) f
            group by f.contact_id
        ) g
        join public.contacts c
            on c.id = g.contact_id
           and c.deleted_at is null
        left join lateral (
            select o.metakocka_id, o.not_partners
            from public.metakocka_contact_mappings o
            where o.contact_id = g.contact_id
            limit 1
        ) m
            on true
        -- one that is a partner already is not another
        where m.metakocka_id is null
          and coalesce(partner_candidates.metakocka_id <> all (m.not_partners), true)
    );
end
$$;

create or replace function backend.read_partners(account_id uuid, refs jsonb)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- looked up by key, row by row: one plan does for all, and not the one that was best while
    -- the tables were empty. "limit 1" keeps it from reading all of an account instead
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    -- that somebody is asked about: they stay as they are until there is an answer
    asked constant text[] := array(
        select distinct p ->> 'metakocka_id'
        from public.sync_conflicts s
        cross join lateral jsonb_array_elements(s.partners) p
        where s.account_id = read_partners.account_id
          and s.state = 'open'
          and s.partners is not null
    );
begin
    perform private.require_list(list => refs, field => 'refs', longest => 500);

    return (
        select coalesce(
            jsonb_agg(
                case
                    when m.partner_hash = r.partner_hash then
                        jsonb_build_object('metakocka_id', r.metakocka_id, 'unchanged', true)
                    when m.contact_id is not null then jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'contact_id', c.id,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'is_deleted', c.deleted_at is not null,
                        'party', private.contact_party(c),
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state
                    )
                    else jsonb_build_object(
                        'metakocka_id', r.metakocka_id,
                        'unchanged', false,
                        'is_asked', r.metakocka_id = any (asked),
                        'candidates', private.partner_candidates(
                            account_id => read_partners.account_id,
                            metakocka_id => r.metakocka_id,
                            tax_id_number => r.tax_id_number,
                            emails => r.emails,
                            phones => r.phones
                        )
                    )
                end
                order by r.place
            ),
            '[]')
        from rows from (
            jsonb_to_recordset(refs) as (
                metakocka_id text,
                partner_hash text,
                tax_id_number text,
                emails text[],
                phones text[]
            )
        ) with ordinality as r (metakocka_id, partner_hash, tax_id_number, emails, phones, place)
        left join lateral (
            select o.*
            from public.metakocka_contact_mappings o
            where o.account_id = read_partners.account_id
              and o.metakocka_id = r.metakocka_id
            limit 1
        ) m
            on true
        left join public.contacts c
            on c.id = m.contact_id
    );
end
$$;

comment on function private.partner_candidates(uuid, text, text, text[], text[]) is
    'The contacts that a partner may be, by tax number, email, phone or its own id; none that is a partner already, or of which a person has said that it is not this one.';

comment on function backend.read_partners(uuid, jsonb) is
    'What is known of up to 500 partners, [{metakocka_id, partner_hash, tax_id_number, emails, phones}], in their order: {unchanged: true} where the hash is known; {contact_id, version, updated_at, is_deleted, party, base, base_version, state} where it is a contact; otherwise {is_asked, candidates: [{contact_id, version, updated_at, matched_by, is_asked, party}]}, where is_asked says that somebody is to tell which partner a contact is.';

create or replace function private.claim_partner_identities(
    account_id uuid,
    items private.partner_item[]
)
    returns private.wanted_identity[]
    language plpgsql
    set search_path = ''
as $$
declare
    wanted private.wanted_identity[];
    -- as if they had been claimed by another contact, each with its owner in place of its own
    owned private.wanted_identity[];
begin
    select array_agg(
        (k.kind, q.match_key, k.value, i.contact_id, i.metakocka_id, i.is_new)::private.wanted_identity
    )
    into wanted
    from unnest(items) i
    cross join lateral (
        values
            ('metakocka', case when i.status <> 'updated' then i.metakocka_id end),
            ('email', i.changes ->> 'email'),
            ('phone', i.changes ->> 'phone'),
            ('phone', substring(i.changes ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as k (kind, value)
    cross join lateral (
        select private.match_key(kind => k.kind, value => k.value) as match_key
    ) q
    where k.value is not null;
    if wanted is null then
        return '{}';
    end if;

    -- made or locked, in one pass in the lock order: the update never happens, its lock does
    insert into public.contact_identities (account_id, kind, value, contact_id)
    select claim_partner_identities.account_id, w.kind, w.value, w.contact_id
    from (
        select distinct on (u.kind, u.match_key) u.kind, u.match_key, u.value, u.contact_id
        from unnest(wanted) u
        order by u.kind, u.match_key, u.metakocka_id
    ) w
    order by w.kind, w.match_key
    on conflict on constraint contact_identities_pkey do update
        set contact_id = excluded.contact_id
        where false;

    select array_agg(
        (w.kind, w.match_key, w.value, o.contact_id, w.metakocka_id, w.is_new)::private.wanted_identity
    )
    into owned
    from unnest(wanted) w
    cross join lateral (
        select i.contact_id
        from public.contact_identities i
        where i.account_id = claim_partner_identities.account_id
          and i.kind = w.kind
          and i.match_key = w.match_key
        limit 1
    ) o
    where o.contact_id <> w.contact_id;
    if owned is null then
        return '{}';
    end if;

    -- whom the caller would have taken for the partner, had it known of it
    if exists (
        select
        from unnest(owned) w
        join public.contacts c
            on c.id = w.contact_id
           and c.deleted_at is null
        where w.is_new
          and not exists (
              select
              from public.metakocka_contact_mappings m
              where m.contact_id = w.contact_id
                and (m.metakocka_id is not null or w.metakocka_id = any (m.not_partners))
          )
    )
        or exists (select from unnest(owned) w where w.kind = 'metakocka')
    then
        raise sqlstate 'RP002';
    end if;
    return owned;
end
$$;

/*
    What the merge could not decide, or has decided by rule, becomes a row; a question that
    answers itself is closed.
*/
create or replace function private.write_sync_conflicts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
begin
    if exists (
        select
        from unnest(items) i
        where i.conflicts <> '[]'
           or i.status = 'waiting'
    ) then
        insert into public.sync_conflicts as s (
            account_id, contact_id, metakocka_id, field, base, crm, metakocka, candidates
        )
        select
            write_sync_conflicts.account_id,
            i.contact_id,
            i.metakocka_id,
            f.value ->> 'field',
            f.value -> 'base',
            f.value -> 'crm',
            f.value -> 'erp',
            '{}'::uuid[]
        from unnest(items) i
        cross join lateral jsonb_array_elements(i.conflicts) f
        where i.status <> 'waiting'
          and f.value ->> 'winner' is null
        union all
        select
            write_sync_conflicts.account_id, null, i.metakocka_id, null, null, null, i.partner,
            array(
                select c.id
                from public.contacts c
                where c.id = any (i.candidates)
                  and c.account_id = write_sync_conflicts.account_id
                order by c.id
            )
        from unnest(items) i
        where i.status = 'waiting'
        order by 3, 4
        on conflict (account_id, metakocka_id, field)
            where state = 'open' and partners is null
            do update
            set contact_id = excluded.contact_id,
                base = excluded.base,
                crm = excluded.crm,
                metakocka = excluded.metakocka,
                candidates = excluded.candidates
            where (s.contact_id, s.base, s.crm, s.metakocka, s.candidates)
                is distinct from (
                    excluded.contact_id, excluded.base, excluded.crm, excluded.metakocka,
                    excluded.candidates
                );

        insert into public.sync_conflicts (
            account_id, contact_id, metakocka_id, field, base, crm, metakocka, state, choice,
            decided_by, resolved_at
        )
        select
            write_sync_conflicts.account_id,
            i.contact_id,
            i.metakocka_id,
            f.value ->> 'field',
            f.value -> 'base',
            f.value -> 'crm',
            f.value -> 'erp',
            'resolved',
            f.value ->> 'winner',
            f.value ->> 'decided_by',
            clock_timestamp()
        from unnest(items) i
        cross join lateral jsonb_array_elements(i.conflicts) f
        where i.status <> 'waiting'
          and f.value ->> 'winner' is not null;
    end if;

    -- both sides have come to the same, or it is known by now which contact it is
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select
            from public.sync_conflicts s
            where s.account_id = write_sync_conflicts.account_id
              and s.metakocka_id = i.metakocka_id
              and s.state = 'open'
              and s.partners is null
            limit 1
        ) s
        where i.status <> 'waiting'
    ) then
        update public.sync_conflicts s
        set state = 'resolved',
            choice = case when s.field is null then i.contact_id::text else 'agreed' end,
            decided_by = 'both',
            resolved_at = clock_timestamp()
        from unnest(items) i
        where s.account_id = write_sync_conflicts.account_id
          and s.metakocka_id = i.metakocka_id
          and s.state = 'open'
          and s.partners is null
          and i.status <> 'waiting'
          and not exists (
              select
              from jsonb_array_elements(i.conflicts) f
              where f.value ->> 'field' = s.field
          );
    end if;

    -- it is known by now which partner a contact is, or its own is there again
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select
            from public.sync_conflicts s
            where s.account_id = write_sync_conflicts.account_id
              and s.contact_id = i.contact_id
              and s.state = 'open'
              and s.partners is not null
            limit 1
        ) s
        where i.status <> 'waiting'
    ) then
        update public.sync_conflicts s
        set state = 'resolved',
            choice = i.metakocka_id,
            decided_by = 'both',
            resolved_at = clock_timestamp()
        from unnest(items) i
        where s.account_id = write_sync_conflicts.account_id
          and s.contact_id = i.contact_id
          and s.state = 'open'
          and s.partners is not null
          and i.status <> 'waiting'
          -- that it is one of several is no answer to whether it is another
          and not coalesce(
              s.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', s.metakocka_id)),
              false);
    end if;
end
$$;

/*
    The worker's side of marks: claim some, send each, settle it. What is changed while it is
    being sent keeps its mark.
*/
create or replace function backend.claim_dirty_contacts(
    account_id uuid,
    worker text,
    batch integer default 10,
    contact_ids uuid[] default null,
    dry_run boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    claimed uuid[];
begin
    claimed := array(
        select d.contact_id
        from private.metakocka_dirty d
        where d.account_id = claim_dirty_contacts.account_id
          and (claim_dirty_contacts.contact_ids is null
               or d.contact_id = any (claim_dirty_contacts.contact_ids))
          and (d.not_before <= clock_timestamp() or dry_run)
          and (coalesce(d.lease_until <= clock_timestamp(), true) or dry_run)
        order by d.changed_seq
        limit least(greatest(batch, 1), 100)
        for update skip locked
    );
    if claimed <> '{}' and not dry_run then
        update private.metakocka_dirty d
        set lease_until = clock_timestamp() + private.sync_lease(),
            worker = claim_dirty_contacts.worker,
            attempts = d.attempts + 1,
            edited_at = null
        where d.contact_id = any (claimed);
    end if;

    return jsonb_build_object(
        'claimed', (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'contact_id', c.id,
                        'changed_seq', d.changed_seq,
                        'attempts', d.attempts,
                        'version', c.version,
                        'updated_at', c.updated_at,
                        'party', private.contact_party(c),
                        'metakocka_id', m.metakocka_id,
                        'base', m.base,
                        'base_version', m.base_version,
                        'state', m.state,
                        'not_partners', coalesce(m.not_partners, '{}'),
                        -- calls whose outcome is to be found out first
                        'intents', private.open_intents(c.id)
                    )
                    order by d.changed_seq
                ),
                '[]')
            from unnest(claimed) as l (contact_id)
            join private.metakocka_dirty d
                on d.contact_id = l.contact_id
            join public.contacts c
                on c.id = l.contact_id
               and c.deleted_at is null
            left join public.metakocka_contact_mappings m
                on m.contact_id = l.contact_id
        ),
        -- in seconds, until there is something to do again as far as is known now
        'next_in', (
            select extract(epoch from min(greatest(d.not_before, d.lease_until)) - clock_timestamp())
            from private.metakocka_dirty d
            where d.account_id = claim_dirty_contacts.account_id
              and (claim_dirty_contacts.contact_ids is null
                   or d.contact_id = any (claim_dirty_contacts.contact_ids))
              and d.contact_id <> all (claimed)
        )
    );
end
$$;

grant execute on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean)
    to service_role;

create or replace function private.take_mark(contact_id uuid, changed_seq bigint)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    delete from private.metakocka_dirty d
    where d.contact_id = take_mark.contact_id
      and d.changed_seq <= take_mark.changed_seq;
    if found then
        return true;
    end if;
    -- changed meanwhile: it is free to be sent again
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null
    where d.contact_id = take_mark.contact_id;
    return not found;
end
$$;

create or replace function backend.postpone_contact(
    account_id uuid,
    contact_id uuid,
    worker text,
    retry_in interval
)
    returns void
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    update private.metakocka_dirty d
    set lease_until = null,
        worker = null,
        not_before = clock_timestamp()
            + least(greatest(postpone_contact.retry_in, interval '0'), interval '1 day')
    where d.contact_id = postpone_contact.contact_id
      and d.account_id = postpone_contact.account_id
      and d.worker = postpone_contact.worker;
end
$$;

grant execute on function backend.postpone_contact(uuid, uuid, text, interval) to service_role;

comment on function backend.claim_dirty_contacts(uuid, text, integer, uuid[], boolean) is
    'Leases up to 100 contacts that changed, all or those of contact_ids, in the order of their change; a dry_run shows them and leases none: {claimed: [{contact_id, changed_seq, attempts, version, updated_at, party, metakocka_id, base, base_version, state, not_partners, intents}], next_in}, the seconds until there are others.';
comment on function private.take_mark(uuid, bigint) is
    'Takes a contact''s mark away if it is not newer than this; otherwise gives its lease free. Whether there is no mark left.';
comment on function backend.postpone_contact(uuid, uuid, text, interval) is
    'Gives a contact back, to be sent again later.';

/*
    What became of a contact that was claimed: it is agreed with its partner, or it can't be
    sent and says why.
*/
create or replace function backend.settle_partner(
    account_id uuid,
    run_id uuid,
    contact_id uuid,
    changed_seq bigint,
    item jsonb
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    whose constant uuid := private.sync_user(
        account_id => settle_partner.account_id, run_id => settle_partner.run_id);
    given jsonb := item || jsonb_build_object('contact_id', settle_partner.contact_id);
    old_base jsonb;
    result jsonb;
    is_clear boolean;
begin
    perform private.require_list(list => jsonb_build_array(item), field => 'item', longest => 1);
    perform set_config('rapport.from_metakocka', 'yes', true);
    result := private.try_apply_partner(
        account_id => settle_partner.account_id, user_id => whose, item => given);

    if result ->> 'status' = 'stale' and coalesce(item -> 'changes', '{}') <> '{}' then
        -- it has been edited meanwhile. That it is this partner, and what this one was sent,
        -- stands all the same; what was to be written to it is for the next merge
        select m.base
        into old_base
        from public.metakocka_contact_mappings m
        where m.contact_id = settle_partner.contact_id;
        given := given || jsonb_build_object(
            'changes', '{}'::jsonb,
            'expected_version', null,
            'partner_hash', null,
            'push', false,
            'base', (
                select coalesce(
                    jsonb_object_agg(
                        b.key,
                        case
                            when item -> 'changes' ? b.key then coalesce(old_base -> b.key, 'null')
                            else b.value
                        end
                    ),
                    '{}')
                from jsonb_each(item -> 'base') b
            )
        );
        if private.try_apply_partner(
            account_id => settle_partner.account_id, user_id => whose, item => given
        ) ->> 'status' in ('adopted', 'updated', 'unchanged') then
            perform private.mark_dirty(
                account_id => settle_partner.account_id,
                contact_ids => array[settle_partner.contact_id],
                quiet_for => interval '0'
            );
        end if;
    end if;
    perform set_config('rapport.from_metakocka', '', true);

    is_clear := private.take_mark(
        contact_id => settle_partner.contact_id,
        changed_seq => case
            when result ->> 'status' in ('adopted', 'updated', 'unchanged')
                then settle_partner.changed_seq
            else 0
        end
    );
    if is_clear then
        update public.metakocka_contact_mappings m
        set state = 'synced'
        where m.contact_id = settle_partner.contact_id
          and m.account_id = settle_partner.account_id
          and m.state = 'waiting'
          and m.metakocka_id is not null
          and not coalesce((item -> 'push')::boolean, false);
    end if;
    return result || jsonb_build_object('changed_meanwhile', not is_clear);
end
$$;

grant execute on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) to service_role;

create or replace function private.require_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform
    from public.contacts c
    where c.id = require_contact.contact_id
      and c.account_id = require_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('contact: %s', require_contact.contact_id);
    end if;
end
$$;

create or replace function backend.block_contact(
    account_id uuid,
    contact_id uuid,
    changed_seq bigint,
    missing text[],
    state text default 'blocked'
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    is_clear boolean;
begin
    if block_contact.state not in ('blocked', 'unknown') then
        raise sqlstate 'PT422' using
            message = 'What is not sent is blocked or unknown.',
            detail = 'field: state';
    end if;
    perform private.require_contact(
        account_id => block_contact.account_id, contact_id => block_contact.contact_id);
    -- mappings before marks, as everywhere
    perform
    from public.metakocka_contact_mappings m
    where m.contact_id = block_contact.contact_id
    for no key update;
    is_clear := private.take_mark(
        contact_id => block_contact.contact_id, changed_seq => block_contact.changed_seq);
    if not is_clear then
        -- what was missing may be there by now
        return false;
    end if;

    insert into public.metakocka_contact_mappings as m (account_id, contact_id, state, missing)
    values (
        block_contact.account_id, block_contact.contact_id, block_contact.state,
        block_contact.missing
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set state = excluded.state,
            missing = excluded.missing
        where (m.state, m.missing) is distinct from (excluded.state, excluded.missing);
    return true;
end
$$;

grant execute on function backend.block_contact(uuid, uuid, bigint, text[], text) to service_role;

comment on function backend.settle_partner(uuid, uuid, uuid, bigint, jsonb) is
    'Notes what was agreed when a contact was sent, an item as of apply_partners: its answer with changed_meanwhile, true where the contact is to be sent again. Also if it is stale, that it is this partner stands.';
comment on function private.require_contact(uuid, uuid) is
    'Locks a contact of an account; refused where there is none.';
comment on function backend.block_contact(uuid, uuid, bigint, text[], text) is
    'Notes why a contact is not sent: it lacks fields (blocked), or it may have been (unknown). False where it has changed meanwhile and is to be sent again.';

create function private.intent_rows(wanted uuid)
    returns table (
        intent_id uuid,
        contact_id uuid,
        operation text,
        fingerprint text,
        sent jsonb,
        state text,
        metakocka_id text,
        age double precision
    )
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        i.id, i.contact_id, i.operation, i.fingerprint, i.sent, i.state, i.metakocka_id,
        -- in seconds, since the call began
        extract(epoch from clock_timestamp() - coalesce(i.sent_at, i.created_at))::double precision
    from private.partner_intents i
    where i.id = wanted;
end
$$;

create function private.open_intents(contact_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with recursive merged (id) as (
            select open_intents.contact_id
            union
            select c.id
            from merged m
            join public.contacts c
                on c.merged_into = m.id
        )
        select coalesce(jsonb_agg(to_jsonb(e) order by i.created_at, i.id), '[]')
        from merged m
        join private.partner_intents i
            on i.contact_id = m.id
           and i.state in ('intended', 'sent', 'unknown')
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;

create or replace function backend.settle_intent(
    account_id uuid,
    intent_id uuid,
    state text,
    metakocka_id text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    intent private.partner_intents;
begin
    select i.*
    into intent
    from private.partner_intents i
    where i.id = settle_intent.intent_id
      and i.account_id = settle_intent.account_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such intent.',
            detail = format('intent: %s', settle_intent.intent_id);
    elsif intent.state = settle_intent.state
        and intent.metakocka_id is not distinct from settle_intent.metakocka_id
    then
        -- told again, since the answer was lost; but a call is begun once
        return settle_intent.state <> 'sent';
    end if;

    if not (settle_intent.state, intent.state) in (
        ('sent', 'intended'),
        ('unknown', 'sent'),
        ('settled', 'intended'), ('settled', 'sent'), ('settled', 'unknown'),
        ('abandoned', 'intended'), ('abandoned', 'sent'), ('abandoned', 'unknown')
    ) then
        return false;
    end if;

    update private.partner_intents i
    set state = settle_intent.state,
        metakocka_id = case
            when settle_intent.state = 'settled' then settle_intent.metakocka_id
        end,
        sent_at = case
            when settle_intent.state = 'sent' then clock_timestamp()
            else i.sent_at
        end,
        settled_at = case
            when settle_intent.state in ('settled', 'abandoned') then clock_timestamp()
        end,
        -- a person's data, for which there is no use any more
        sent = case
            when settle_intent.state in ('settled', 'abandoned') then '{}'
            else i.sent
        end
    where i.id = intent.id;
    return true;
end
$$;

comment on function backend.begin_intent(uuid, uuid, text, text, jsonb) is
    'Notes that a contact''s partner is about to be made (add_partner) or changed: {intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_new}. If one is open already that one, with is_new false: what became of it is to be found out first. A contact that is a partner already gets no other: 409.';

comment on function private.open_intents(uuid) is
    'The intents of a contact, and of those that were merged into it, of which nobody knows what became.';

/*
    What has to be known of open intents when partners are read: one that was made by a lost
    call must not be taken for somebody new. Those of deleted contacts nobody claims any more;
    a partner that was made all the same stays theirs.
*/
create function private.is_merged_alive(contact_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    redirect record;
    next_id uuid := contact_id;
begin
    loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = next_id;
        exit when redirect.merged_into is null;
        next_id := redirect.merged_into;
    end loop;
    return redirect.deleted_at is null;
end
$$;

create function backend.unsettled_intents(account_id uuid, batch integer default 500)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                to_jsonb(e) || jsonb_build_object('is_orphaned', i.is_orphaned)
                order by i.created_at, i.id
            ),
            '[]')
        from (
            select
                o.id,
                o.created_at,
                -- of one that was merged the kept one's worker looks for the partner
                c.deleted_at is not null and not private.is_merged_alive(c.id) as is_orphaned
            from private.partner_intents o
            join public.contacts c
                on c.id = o.contact_id
            where o.account_id = unsettled_intents.account_id
              and o.state in ('intended', 'sent', 'unknown')
            order by o.created_at, o.id
            limit least(greatest(batch, 1), 500)
        ) i
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;

grant execute on function backend.unsettled_intents(uuid, integer) to service_role;

create function backend.forget_partner(account_id uuid, contact_id uuid, metakocka_id text)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    perform
    from public.contacts c
    where c.id = forget_partner.contact_id
      and c.account_id = forget_partner.account_id
      and c.deleted_at is not null
    for no key update;
    if not found then
        return false;
    end if;
    insert into public.metakocka_contact_mappings as m (account_id, contact_id, metakocka_id, state)
    values (
        forget_partner.account_id, forget_partner.contact_id, forget_partner.metakocka_id, 'blocked'
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state
        where m.metakocka_id is null;
    return found;
exception
    when unique_violation then
        -- it is another contact by now
        return false;
end
$$;

grant execute on function backend.forget_partner(uuid, uuid, text) to service_role;

comment on function private.is_merged_alive(uuid) is
    'Whether a contact that is gone was merged into one that is there.';
comment on function backend.unsettled_intents(uuid, integer) is
    'The open intents of an account, the oldest first: [{intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_orphaned}], is_orphaned where the contact was deleted and nobody claims it any more.';
comment on function backend.forget_partner(uuid, uuid, text) is
    'Notes which partner a deleted contact is, so that it does not come back as a new one. False where the contact is there again or the partner is another.';

/*
    A question which partner a contact is: several may be it, or its own is gone. The contact
    is not sent until there is an answer, or one becomes clear by itself.
*/
create function backend.ask_partner(
    account_id uuid,
    contact_id uuid,
    -- null where the contact goes on with the partner that it has
    changed_seq bigint,
    metakocka_id text,
    partners jsonb
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
begin
    perform private.require_list(list => partners, field => 'partners', longest => 100);
    perform private.require_contact(
        account_id => ask_partner.account_id, contact_id => ask_partner.contact_id);

    if ask_partner.changed_seq is not null then
        -- mappings before marks, as everywhere
        perform
        from public.metakocka_contact_mappings m
        where m.contact_id = ask_partner.contact_id
        for no key update;
        if not private.take_mark(
            contact_id => ask_partner.contact_id, changed_seq => ask_partner.changed_seq)
        then
            -- what has changed may tell
            return false;
        end if;

        insert into public.metakocka_contact_mappings as m (account_id, contact_id, state)
        values (ask_partner.account_id, ask_partner.contact_id, 'conflict')
        on conflict on constraint metakocka_contact_mappings_pkey do update
            set state = excluded.state,
                missing = '{}'
            where m.state <> 'conflict';
    end if;

    insert into public.sync_conflicts as s (account_id, contact_id, metakocka_id, partners)
    values (
        ask_partner.account_id, ask_partner.contact_id, ask_partner.metakocka_id,
        ask_partner.partners
    )
    on conflict (account_id, contact_id) where state = 'open' and partners is not null
        do update
        set metakocka_id = excluded.metakocka_id,
            partners = excluded.partners
        where (s.metakocka_id, s.partners) is distinct from (excluded.metakocka_id, excluded.partners);
    return true;
end
$$;

grant execute on function backend.ask_partner(uuid, uuid, bigint, text, jsonb) to service_role;

comment on function backend.ask_partner(uuid, uuid, bigint, text, jsonb) is
    'Asks which of partners, [{metakocka_id, …}], a contact is, metakocka_id being the one that it is so far. False where it has changed meanwhile and is to be sent again.';

/*
    Which side's value stands. A decision moves the agreed state: to the value that is not
    wanted, so that the next merge finds the other side alone changed. It stays true if a side
    changes once more before that: then both have, and it is asked again.
*/
create or replace function private.with_agreed(base jsonb, field text, value jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- place, people.228000046630 or people.228000046630.email
    path constant text[] := string_to_array(field, '.');
    entry jsonb;
    others jsonb;
begin
    if cardinality(path) = 1 then
        return base || jsonb_build_object(field, value);
    end if;

    select
        (jsonb_agg(e) filter (where e ->> 'mk_id' = path[2])) -> 0,
        coalesce(jsonb_agg(e) filter (where e ->> 'mk_id' is distinct from path[2]), '[]')
    into entry, others
    from jsonb_array_elements(coalesce(nullif(base -> path[1], 'null'), '[]')) e;

    entry := case
        when cardinality(path) = 2 then nullif(value, 'null')
        else coalesce(entry, jsonb_build_object('mk_id', path[2]))
            || jsonb_build_object(path[3], value)
    end;
    return base || jsonb_build_object(
        path[1], case when entry is null then others else others || entry end);
end
$$;

create or replace function private.decide_field(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if choice not in ('crm', 'metakocka') then
        raise sqlstate 'PT422' using
            message = 'This is decided for one of the two sides.',
            detail = 'field: choice',
            hint = 'crm or metakocka.';
    end if;
    update public.metakocka_contact_mappings m
    set base = private.with_agreed(
            base => coalesce(m.base, '{}'),
            field => conflict.field,
            value => coalesce(
                case choice when 'crm' then conflict.metakocka else conflict.crm end, 'null')
        ),
        -- the partner is looked at even if it has not changed
        partner_hash = null,
        state = case
            when exists (
                select
                from public.sync_conflicts s
                where s.account_id = conflict.account_id
                  and s.metakocka_id = conflict.metakocka_id
                  and s.state = 'open'
                  and s.id <> conflict.id
            ) then 'conflict'
            else 'waiting'
        end
    where m.contact_id = conflict.contact_id
      and m.metakocka_id = conflict.metakocka_id;
end
$$;

comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value; null takes an entry out.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Moves what was agreed about a field to the value that is not wanted.';

/*
    Which contact a partner is, of several or a new one.
*/
create or replace function private.decide_contact(conflict public.sync_conflicts, choice text)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    chosen uuid;
begin
    if choice = 'new' then
        chosen := gen_random_uuid();
        insert into public.contact_identities (account_id, kind, value, contact_id)
        values (conflict.account_id, 'metakocka', conflict.metakocka_id, chosen)
        on conflict on constraint contact_identities_pkey do nothing;
        if not found then
            raise sqlstate 'PT409' using
                message = 'This partner is a contact by now.',
                detail = 'field: choice';
        end if;
        -- with its name alone: the sync brings the rest
        insert into public.contacts (id, account_id, name)
        values (
            chosen, conflict.account_id,
            nullif(left(btrim(conflict.metakocka ->> 'name'), 200), '')
        );
    else
        if not pg_input_is_valid(choice, 'uuid')
            or not choice::uuid = any (conflict.candidates)
        then
            raise sqlstate 'PT422' using
                message = 'This is none of the contacts that it may be.',
                detail = 'field: choice',
                hint = 'One of the candidates'' ids, or new.';
        end if;
        chosen := choice::uuid;
        if exists (
            select
            from public.contacts c
            where c.id = chosen
              and c.deleted_at is not null
        ) then
            raise sqlstate 'PT409' using
                message = 'This contact has been deleted or merged meanwhile.',
                detail = 'field: choice';
        end if;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, state, user_id
    )
    values (conflict.account_id, chosen, conflict.metakocka_id, 'waiting', auth.uid())
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id
        where m.metakocka_id is null;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This contact is another partner by now.',
            detail = 'field: choice';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner is a contact by now.',
            detail = 'field: choice';
end
$$;

comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact the partner that several may be, or a new one; returns its id.';

/*
    Which partner a contact is: one of several, a new one, or none. A partner that it is not
    becomes a contact of its own when it is looked at next.
*/
create function private.claim_partner(account_id uuid, contact_id uuid, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.contact_identities (account_id, kind, value, contact_id)
    values (
        claim_partner.account_id, 'metakocka', claim_partner.metakocka_id,
        claim_partner.contact_id
    )
    on conflict on constraint contact_identities_pkey do nothing;
    -- locked, and asked once it is
    perform
    from public.contact_identities i
    where i.account_id = claim_partner.account_id
      and i.kind = 'metakocka'
      and i.match_key = private.match_key(kind => 'metakocka', value => claim_partner.metakocka_id)
      and i.contact_id = claim_partner.contact_id
    for update;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This partner is another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
    end if;
end
$$;

create function private.decide_partner(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    offered constant text[] := array(
        select p ->> 'metakocka_id'
        from jsonb_array_elements(conflict.partners) p
    );
    present text;
begin
    select m.metakocka_id
    into present
    from public.metakocka_contact_mappings m
    where m.contact_id = conflict.contact_id;
    if present is distinct from conflict.metakocka_id then
        raise sqlstate 'PT409' using
            message = 'This contact is another partner by now.',
            detail = 'field: choice';
    elsif choice = any (offered) then
        if choice is distinct from present then
            perform private.give_partner(conflict => conflict, metakocka_id => choice);
        end if;
    elsif choice not in ('new', 'unlink') or present = any (offered) then
        raise sqlstate 'PT422' using
            message = 'This is none of the partners that it may be.',
            detail = 'field: choice',
            hint = case
                when present = any (offered) then 'One of the partners'' ids.'
                else 'One of the partners'' ids, new to make another, or unlink to have none.'
            end;
    else
        perform private.give_partner(conflict => conflict, metakocka_id => null);
        update public.metakocka_contact_mappings m
        set state = case decide_partner.choice when 'new' then 'waiting' else 'unlinked' end,
            not_partners = array(
                select distinct p
                from unnest(m.not_partners || offered) p
                order by p
            )
        where m.contact_id = conflict.contact_id;
        if choice = 'unlink' then
            delete from private.metakocka_dirty d
            where d.contact_id = conflict.contact_id;
        end if;
    end if;

    -- what was asked about the fields of the one before
    delete from public.sync_conflicts s
    where s.contact_id = conflict.contact_id
      and s.account_id = conflict.account_id
      and s.state = 'open'
      and s.field is not null
      and s.metakocka_id is distinct from decide_partner.choice;
end
$$;

create function private.give_partner(conflict public.sync_conflicts, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities i
    where i.account_id = conflict.account_id
      and i.contact_id = conflict.contact_id
      and i.kind = 'metakocka'
      and i.value = conflict.metakocka_id;

    -- of a contact that was deleted
    delete from public.metakocka_contact_mappings m
    using public.contacts c
    where m.account_id = conflict.account_id
      and m.metakocka_id = give_partner.metakocka_id
      and c.id = m.contact_id
      and c.deleted_at is not null;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, state, user_id
    )
    values (
        conflict.account_id, conflict.contact_id, give_partner.metakocka_id, 'waiting', auth.uid()
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            -- with this one nothing was ever agreed
            base = null,
            partner_hash = null,
            base_version = null,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner is another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
end
$$;

comment on function private.claim_partner(uuid, uuid, text) is
    'Makes a contact known by a partner; refused where another is.';
comment on function private.decide_partner(public.sync_conflicts, text) is
    'Makes a contact one of the partners that it may be (its id), a new one (new), or none (unlink).';
comment on function private.give_partner(public.sync_conflicts, text) is
    'Takes a contact from the partner that it was, and gives it this one, if any.';

/*
    A person decides what the sync could not; the sync does the rest at once.
*/
create function private.conflict_to_resolve(conflict_id uuid, choice text)
    returns public.sync_conflicts
    language plpgsql
    set search_path = ''
as $$
declare
    conflict public.sync_conflicts;
    seen public.sync_conflicts;
begin
    select s.*
    into conflict
    from public.sync_conflicts s
    where s.id = conflict_id
      and s.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conflict, or it is not yours to see.',
            detail = format('conflict: %s', conflict_id);
    end if;
    perform private.require_writable(conflict.account_id);
    if choice is null then
        raise sqlstate 'PT422' using
            message = 'Nothing was chosen.',
            detail = 'field: choice';
    end if;

    seen := conflict;
    -- in the lock order: identities, contacts, mappings, then this
    perform private.lock_identities(
        account_id => conflict.account_id,
        contact_ids => conflict.candidates || conflict.contact_id,
        kinds => array['metakocka']
    );
    if conflict.question = 'partner'
        and conflict.state = 'open'
        and conflict.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', choice))
    then
        perform private.claim_partner(
            account_id => conflict.account_id,
            contact_id => conflict.contact_id,
            metakocka_id => choice
        );
    elsif conflict.question = 'contact'
        and conflict.state = 'open'
        and choice = any (conflict.candidates::text[])
    then
        perform private.claim_partner(
            account_id => conflict.account_id,
            contact_id => choice::uuid,
            metakocka_id => conflict.metakocka_id
        );
    end if;
    perform
    from public.contacts c
    where c.id = conflict.contact_id
       or c.id = any (conflict.candidates)
    order by c.id
    for no key update;
    perform
    from public.metakocka_contact_mappings m
    where m.account_id = conflict.account_id
      and (m.metakocka_id = conflict.metakocka_id or m.contact_id = conflict.contact_id)
    order by m.contact_id
    for no key update;
    select s.*
    into conflict
    from public.sync_conflicts s
    where s.id = conflict_id
    for update;
    if not found or conflict.state <> 'open' then
        raise sqlstate 'PT409' using
            message = 'This has been decided already.',
            detail = format('conflict: %s', conflict_id);
    elsif (conflict.candidates, conflict.partners) is distinct from (seen.candidates, seen.partners) then
        raise sqlstate 'PT409' using
            message = 'What may be chosen has changed meanwhile.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read it again.';
    end if;
    return conflict;
end
$$;

create or replace function private.resolve_conflict(conflict_id uuid, choice text)
    returns uuid
    language plpgsql
    -- definer: conflicts and mappings are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    conflict constant public.sync_conflicts := private.conflict_to_resolve(
        conflict_id => resolve_conflict.conflict_id, choice => resolve_conflict.choice);
    contact uuid := conflict.contact_id;
begin
    if conflict.question = 'field' then
        perform private.decide_field(conflict => conflict, choice => resolve_conflict.choice);
    elsif conflict.question = 'partner' then
        perform private.decide_partner(
            conflict => conflict, choice => resolve_conflict.choice);
    else
        contact := private.decide_contact(
            conflict => conflict, choice => resolve_conflict.choice);
    end if;

    perform private.mark_dirty(
        account_id => conflict.account_id,
        contact_ids => array[contact],
        quiet_for => interval '0'
    );
    update public.sync_conflicts s
    set state = 'resolved',
        contact_id = contact,
        choice = resolve_conflict.choice,
        decided_by = 'person',
        resolved_by = auth.uid(),
        resolved_at = clock_timestamp()
    where s.id = conflict.id;
    return contact;
end
$$;

comment on function private.conflict_to_resolve(uuid, text) is
    'An open conflict, locked with what it is about and what is chosen; refused where it is not the caller''s to decide.';

comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict: of a field crm or metakocka; of a partner the id of one of the candidates, or new for a contact of its own; of a contact the id of one of the partners, new for another partner, or unlink for none. Answers the row of metakocka_partners; what follows is done by the sync at once. Decided already: 409.';

/*
    What owners and admins ask of the sync. What is another account's does not exist for them,
    and what they may not do is refused before anything is looked up.
*/
create or replace function private.sync_account(account_id uuid, contact_ids uuid[])
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    chosen uuid := account_id;
begin
    -- named by its contacts, or the only one there is
    if chosen is null then
        select min(c.account_id::text)::uuid
        into chosen
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id in (select private.my_account_ids())
        having count(distinct c.account_id) = 1;
    end if;
    if chosen is null then
        select case when count(*) = 1 then min(a::text)::uuid end
        into chosen
        from private.my_admin_account_ids() a;
    end if;

    if chosen is null and (select count(*) from private.my_admin_account_ids()) > 1 then
        raise sqlstate 'PT422' using
            message = 'Several accounts are yours: say which one is meant.',
            detail = 'field: account_id';
    end if;
    if chosen is null or chosen not in (select private.my_admin_account_ids()) then
        if chosen is not null and chosen not in (select private.my_account_ids()) then
            raise sqlstate 'PT404' using
                message = 'There is no such account, or it is not yours to see.',
                detail = 'field: account_id';
        end if;
        raise insufficient_privilege using
            message = 'You may not synchronize the contacts of this account.',
            detail = 'field: account_id',
            hint = 'Its owners and admins may.';
    end if;
    if not exists (
        select
        from public.metakocka_connections k
        where k.account_id = chosen
          and k.active
    ) then
        raise sqlstate 'PT409' using
            message = 'This account has no active connection to Metakocka.',
            detail = 'field: account_id',
            hint = 'Connect it first (metakocka_connections).';
    end if;
    return chosen;
end
$$;

create or replace function private.authorize(account_id uuid, contact_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    chosen constant uuid := private.sync_account(
        account_id => authorize.account_id, contact_ids => authorize.contact_ids);
    known constant uuid[] := array(
        select c.id
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id = chosen
          and c.deleted_at is null
        order by c.id
    );
begin
    return jsonb_build_object(
        'account_id', chosen,
        'user_id', auth.uid(),
        'contact_ids', known,
        'not_found', array(
            select distinct i
            from unnest(contact_ids) i
            where i <> all (known)
            order by i
        )
    );
end
$$;

grant execute on function private.authorize(uuid, uuid[]) to authenticated;

create or replace function public.authorize_sync(account_id uuid default null, contact_ids uuid[] default '{}')
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.authorize(
        account_id => authorize_sync.account_id, contact_ids => authorize_sync.contact_ids);
end
$$;

grant execute on function public.authorize_sync(uuid, uuid[]) to authenticated;

comment on function private.sync_account(uuid, uuid[]) is
    'The account that is meant; refused unless it is connected and the caller administers it.';
comment on function private.authorize(uuid, uuid[]) is
    'The account and those of the contacts that are its own.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts: {account_id, user_id, contact_ids, not_found}, for owners and admins of a connected account. Without account_id that of the contacts, or the only one that you administer.';

/*
    A sync that somebody asks for: a run that waits for its turn, of some contacts or partners
    or of all.
*/
create or replace function private.queue_sync(
    account_id uuid,
    direction text,
    contact_ids uuid[],
    metakocka_ids text[]
)
    returns uuid
    language plpgsql
    -- definer: runs and marks are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
declare
    chosen constant uuid := private.sync_account(
        account_id => queue_sync.account_id, contact_ids => queue_sync.contact_ids);
    asked_for jsonb;
    queued uuid;
    marked uuid[];
begin
    if direction is null or direction not in ('to_metakocka', 'from_metakocka', 'both') then
        raise sqlstate 'PT422' using
            message = 'There is no such direction.',
            detail = 'field: direction',
            hint = 'Known: to_metakocka, from_metakocka, both.';
    elsif cardinality(contact_ids) > 1000 or cardinality(metakocka_ids) > 1000 then
        raise sqlstate 'PT422' using
            message = 'These are too many for one request.',
            detail = case
                when cardinality(contact_ids) > 1000 then 'field: contact_ids'
                else 'field: metakocka_ids'
            end,
            hint = 'At most 1,000; without any all are meant.';
    elsif exists (select from unnest(metakocka_ids) i where i is null or i !~ '^[^\s]{1,64}$') then
        raise sqlstate 'PT422' using
            message = 'This is not the id of a partner.',
            detail = 'field: metakocka_ids';
    end if;

    asked_for := jsonb_strip_nulls(jsonb_build_object(
        'contact_ids', (
            select jsonb_agg(c.id order by c.id)
            from public.contacts c
            where c.id = any (contact_ids)
              and c.account_id = chosen
              and c.deleted_at is null
        ),
        'metakocka_ids', (
            select jsonb_agg(distinct i order by i)
            from unnest(metakocka_ids) i
        )
    ));
    if cardinality(contact_ids) > 0 and not asked_for ? 'contact_ids' then
        raise sqlstate 'PT404' using
            message = 'There are no such contacts, or they are not yours to see.',
            detail = 'field: contact_ids';
    end if;

    if direction <> 'from_metakocka' then
        marked := array(
            select c.id
            from public.contacts c
            left join public.metakocka_contact_mappings m
                on m.contact_id = c.id
            where c.account_id = chosen
              and c.deleted_at is null
              and case
                  when asked_for ? 'contact_ids' then c.id = any (contact_ids)
                  -- some are to be no partners
                  else coalesce(m.state not in ('synced', 'unlinked'), true)
              end
            order by c.id
        );
        perform private.mark_requested(account_id => chosen, contact_ids => marked);
    end if;

    insert into public.sync_runs as r (account_id, direction, trigger, request, user_id)
    values (chosen, queue_sync.direction, 'user', asked_for, auth.uid())
    -- the same that waits already: its answer is for both
    on conflict (account_id, direction, md5(request::text)) where state = 'queued' do nothing
    returning r.id
    into queued;
    if queued is null then
        select r.id
        into queued
        from public.sync_runs r
        where r.account_id = chosen
          and r.direction = queue_sync.direction
          and r.request = asked_for
          and r.state in ('queued', 'running')
        order by r.created_at desc
        limit 1;
    end if;
    perform private.ring('metakocka_sync');
    return queued;
end
$$;

/*
    Which contacts are which partners, for those who may read them.
*/
create or replace function public.metakocka_mappings(
    contact_id uuid default null,
    cursor text default null,
    page_size integer default 100,
    account_id uuid default null
)
    returns jsonb
    language plpgsql
    stable
    -- invoker: what the caller may not read does not exist
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    page jsonb;
begin
    if contact_id is not null and not exists (
        select
        from public.contacts c
        where c.id = metakocka_mappings.contact_id
          and c.deleted_at is null
    ) then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = 'field: contact_id';
    end if;

    select coalesce(jsonb_agg(to_jsonb(p) order by p.metakocka_id, p.contact_id), '[]')
    into page
    from (
        select
            m.contact_id, m.account_id, m.metakocka_id, m.state, m.missing, m.user_id,
            m.last_synced_at, m.created_at, m.updated_at
        from public.metakocka_contact_mappings m
        where (metakocka_mappings.contact_id is null or m.contact_id = metakocka_mappings.contact_id)
          and (metakocka_mappings.account_id is null or m.account_id = metakocka_mappings.account_id)
          and m.metakocka_id is not null
          and (
              metakocka_mappings.cursor is null
              or (m.metakocka_id, m.contact_id) > (
                  substr(metakocka_mappings.cursor, 38),
                  substr(metakocka_mappings.cursor, 1, 36)::uuid
              )
          )
        order by m.metakocka_id, m.contact_id
        limit page_limit
    ) p;
    return jsonb_build_object(
        'mappings', page,
        'cursor', case
            when jsonb_array_length(page) = page_limit
                then concat_ws(' ', page -> -1 ->> 'contact_id', page -> -1 ->> 'metakocka_id')
        end
    );
exception
    when invalid_text_representation then
        raise sqlstate 'PT400' using
            message = 'This is not a cursor of metakocka_mappings.',
            hint = 'Send the cursor of the last page unchanged, or none to start anew.';
end
$$;

grant execute on function public.metakocka_mappings(uuid, text, integer, uuid) to authenticated;

comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'Which contacts are which partners, by page: {mappings, cursor}; of one contact, or of all that you see. The last page has no cursor.';

comment on function private.intent_rows(uuid) is
    'An intent as it is told.';
