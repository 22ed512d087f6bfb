/*
    What happens to one contact or partner stops no sync: an account keeps the company whose
    partners its contacts are, sends what changed while it was not connected, and ends a run
    when it is connected no more.
*/
/*
    The company whose partners an account's contacts are, also after the connection has ended:
    with another one's every partner would be somebody new.
*/
create table private.metakocka_companies (
    account_id uuid primary key
               constraint metakocka_companies_account_id_fkey
               references public.accounts on delete cascade,
    company_id text not null
);

alter table private.metakocka_companies enable row level security;

create policy "nobody reads the companies directly"
    on private.metakocka_companies
    for all
    to authenticated
    using (false);

create function private.tg_metakocka_connections__keep_company()
    returns trigger
    language plpgsql
    -- definer: what was connected before is nobody's to read
    security definer
    set search_path = ''
as $$
begin
    insert into private.metakocka_companies as k (account_id, company_id)
    values (new.account_id, new.company_id)
    on conflict on constraint metakocka_companies_pkey do update
        set company_id = excluded.company_id
        where k.company_id = excluded.company_id
           or not exists (
               select
               from public.metakocka_contact_mappings m
               where m.account_id = excluded.account_id
                 and m.metakocka_id is not null
           );
    if not found then
        raise sqlstate 'PT409' using
            message = 'Contacts of this account are partners of another company.',
            detail = 'field: company_id',
            hint = 'Connect it to the company that it was connected to.';
    end if;
    return null;
end
$$;

-- after: whose account it is has been looked at by then
create trigger _150_keep_company_insert
    after insert on public.metakocka_connections
    for each row
    execute function private.tg_metakocka_connections__keep_company();

create trigger _150_keep_company_update
    after update on public.metakocka_connections
    for each row
    when (new.company_id <> old.company_id)
    execute function private.tg_metakocka_connections__keep_company();

comment on column public.metakocka_connections.company_id is
    'Another one is refused (409) once contacts are partners of this.';

comment on column public.metakocka_connections.active is
    'Without it nothing is synchronized; what changes in known contacts meanwhile is sent once it is active again.';

comment on table private.metakocka_companies is
    'The company whose partners an account''s contacts are.';

comment on policy "nobody reads the companies directly" on private.metakocka_companies is
    'What is connected at present is in metakocka_connections.';

comment on function private.tg_metakocka_connections__keep_company() is
    'Refuses another company once contacts are partners of one.';


insert into private.metakocka_companies (account_id, company_id)
select k.account_id, k.company_id
from public.metakocka_connections k;

-- what was edited while an account was not connected was not marked
create function private.tg_metakocka_connections__mark_changed()
    returns trigger
    language plpgsql
    -- definer: marks and mappings are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    changed constant uuid[] := array(
        select m.contact_id
        from public.metakocka_contact_mappings m
        join public.contacts c
            on c.id = m.contact_id
           and c.deleted_at is null
        where m.account_id = new.account_id
          and m.state <> 'unlinked'
          and c.version is distinct from m.base_version
        order by m.contact_id
    );
begin
    if changed <> '{}' then
        perform private.mark_dirty(new.account_id, changed);
    end if;
    return null;
end
$$;

create trigger _500_mark_changed_insert
    after insert on public.metakocka_connections
    for each row
    when (new.active)
    execute function private.tg_metakocka_connections__mark_changed();

create trigger _500_mark_changed_update
    after update on public.metakocka_connections
    for each row
    when (new.active and not old.active)
    execute function private.tg_metakocka_connections__mark_changed();

comment on function private.tg_metakocka_connections__mark_changed() is
    'Marks the contacts that are not as they were last agreed, when their account is connected again.';

create or replace function private.clean_partner_fields(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field text;
    longest integer;
begin
    for field, longest in
        values
            ('gsm', 255), ('fax', 255), ('tax_id_number', 50), ('registration_number', 50),
            ('street', 150), ('post_number', 20), ('place', 100), ('province', 50), ('country', 50)
    loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) not in ('string', 'null') then
            raise sqlstate 'PT422' using
                message = format('The %s is a text.', field),
                detail = 'field: ' || field;
        end if;
        cleaned := jsonb_set(
            cleaned, array[field],
            coalesce(to_jsonb(nullif(btrim(cleaned ->> field, E' \t\r\n'), '')), 'null'));
        if length(cleaned ->> field) > longest then
            raise sqlstate 'PT422' using
                message = format('The %s is too long.', field),
                detail = 'field: ' || field,
                hint = format('At most %s characters.', longest);
        end if;
    end loop;

    foreach field in array array[
        'business_entity', 'taxpayer', 'foreign_county', 'buyer', 'supplier'
    ] loop
        if jsonb_typeof(cleaned -> field) not in ('boolean', 'null') then
            raise sqlstate 'PT422' using
                message = format('%s is true or false.', field),
                detail = 'field: ' || field;
        end if;
    end loop;

    foreach field in array array['people', 'addresses'] loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) = 'null' then
            cleaned := jsonb_set(cleaned, array[field], '[]');
        end if;
        if jsonb_typeof(cleaned -> field) <> 'array'
            or cleaned -> field @? 'strict $[*] ? (@.type() != "object")'
            or octet_length((cleaned -> field)::text) > 32768
        then
            raise sqlstate 'PT422' using
                message = format('%s are a list of objects.', field),
                detail = 'field: ' || field,
                hint = 'At most 32 kB.';
        elsif cleaned -> field @? 'strict $.** ? (@.type() == "number") ? (@ >= 1e300 || @ <= -1e300)' then
            -- jsonb keeps all their digits, and readers give up on thousands of them
            raise sqlstate 'PT422' using
                message = format('A number in %s is too large.', field),
                detail = 'field: ' || field,
                hint = 'Write it as a text.';
        end if;
    end loop;
    return cleaned;
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
        -- what the last worker held when it ended is this one's. After the mappings, and
        -- without waiting: who edits several contacts takes their marks in an order of its own
        update private.metakocka_dirty d
        set lease_until = null,
            worker = null
        where d.contact_id = any (array(
            select o.contact_id
            from private.metakocka_dirty o
            where o.account_id = begin_sync.account_id
              and o.worker is not null
            for update skip locked
        ));
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

create or replace function backend.advance_sync(
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
    account constant uuid := private.require_lease(
        run_id => advance_sync.run_id, worker => advance_sync.worker);
begin
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

    if not exists (
        select
        from public.metakocka_connections k
        where k.account_id = account
          and k.active
    ) then
        -- its worker is refused from now on, and whoever connects it again has it gone on with
        perform backend.finish_sync(
            run_id => advance_sync.run_id, worker => advance_sync.worker, state => 'stopped');
    end if;
    return leased_until;
end
$$;

comment on function backend.advance_sync(
    uuid, text, jsonb, integer, integer, integer, integer, integer, jsonb, integer
) is
    'Notes how far a run has come, in all and not since the last time, and extends its lease: returns until when. Taken over by another: 409, and so once the account is connected no more.';

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
    elsif cardinality(metakocka_ids) > 0
        and (direction = 'to_metakocka' or cardinality(contact_ids) > 0)
    then
        raise sqlstate 'PT422' using
            message = 'Partners are read from Metakocka, and contacts are not asked for with them.',
            detail = 'field: metakocka_ids';
    elsif cardinality(contact_ids) > 0 and direction = 'from_metakocka' then
        raise sqlstate 'PT422' using
            message = 'What is read from Metakocka are partners.',
            detail = 'field: contact_ids',
            hint = 'Name them by metakocka_ids; metakocka_mappings has those of contacts.';
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

    -- what partners that are read lack is sent all the same
    if direction <> 'from_metakocka' and not asked_for ? 'metakocka_ids' then
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
