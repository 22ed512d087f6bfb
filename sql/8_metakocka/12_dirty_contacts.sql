/*
    Contacts that differ from their partners at Metakocka: a row is a job. Each statement on
    contacts marks its changes and rings. A mark has a number. After sending a contact a worker
    removes the mark that it saw, but not a mark that came meanwhile.
*/
create sequence private.metakocka_dirty_seq;


create table private.metakocka_dirty (
    contact_id  uuid primary key,
    account_id  uuid not null,
    changed_seq bigint not null default nextval('private.metakocka_dirty_seq'),
    -- the time of each field's last edit: the newest is decided field by field
    edits       jsonb not null default '{}'
                constraint metakocka_dirty_edits_check check (jsonb_typeof(edits) = 'object'),
    -- of each field the values that were sent and whose arrival nobody has confirmed
    sent        jsonb not null default '{}'
                constraint metakocka_dirty_sent_check
                check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 262144),
    attempts    integer not null default 0,
    worker      text,
    lease_until timestamptz,
    -- the first edit since the last claim; null where there is none
    edited_at   timestamptz default clock_timestamp(),
    -- several edits in a row are sent together
    not_before  timestamptz not null default clock_timestamp() + interval '1 second',

    constraint metakocka_dirty_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint metakocka_dirty_lease_check check ((lease_until is null) = (worker is null))
);
alter table private.metakocka_dirty enable row level security;


create index metakocka_dirty_order_idx
    on private.metakocka_dirty (account_id, changed_seq);


create policy "nobody reads the marks directly"
    on private.metakocka_dirty
    for all
    to authenticated
    using (false);


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
    -- after the first of several edits, so that endless edits are sent too
    select interval '10 seconds'
$$;


create function private.mark_dirty(
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


/*
    Rows are compared by the columns that partners have too: by name, since to make objects of
    thousands of rows takes twice the time of all else that an update does.
*/
create function private.make_dirty_trigger()
    returns void
    language plpgsql
    set search_path = ''
as $make$
begin
    execute format(
        $sql$
create or replace function private.tg_contacts__mark_dirty()
    returns trigger
    language plpgsql
    -- definer: users may not write marks and mappings
    security definer
    set search_path = ''
as $$
declare
    changed record;
begin
    -- changes from Metakocka need not go back
    if current_setting('rapport.from_metakocka', true) = 'on' then
        return null;
    end if;

    if tg_op = 'INSERT' then
        for changed in
            select k.account_id, array_agg(n.id) as contact_ids
            from new_rows n
            join public.metakocka_connections k
                on k.account_id = n.account_id
               and k.active
            where n.deleted_at is null
            group by k.account_id
            order by k.account_id
        loop
            perform private.mark_dirty(changed.account_id, changed.contact_ids);
        end loop;
        return null;
    end if;

    for changed in
        select k.account_id, array_agg(n.id) as contact_ids
        from new_rows n
        join old_rows o
            on o.id = n.id
        join public.metakocka_connections k
            on k.account_id = n.account_id
           and k.active
        where n.deleted_at is null
          and n.version <> o.version
          and (o.deleted_at, o.%1$s) is distinct from (n.deleted_at, n.%2$s)
        group by k.account_id
        order by k.account_id
    loop
        perform private.mark_dirty(changed.account_id, changed.contact_ids);
    end loop;

    -- if times decide, the time of each field's edit
    if exists (
        select
        from new_rows n
        join public.metakocka_connections k
            on k.account_id = n.account_id
           and k.conflict_rule = 'newest'
    ) then
        update private.metakocka_dirty d
        set edits = d.edits || e.edits
        from (
            select n.id, jsonb_object_agg(f.name, clock_timestamp()) as edits
            from new_rows n
            join old_rows o
                on o.id = n.id
            cross join lateral (select to_jsonb(n) as after, to_jsonb(o) as before) r
            cross join unnest(private.party_fields()) as f (name)
            where r.after -> f.name is distinct from r.before -> f.name
            group by n.id
        ) e
        where d.contact_id = e.id;
    end if;

    -- even without a connection: a deleted contact is forgotten here too
    if exists (select from new_rows n where n.deleted_at is not null) then
        perform private.forget_partners(array(
            select n.id
            from new_rows n
            join old_rows o
                on o.id = n.id
            where n.deleted_at is not null
              and o.deleted_at is null
        ));
    end if;
    return null;
end
$$
        $sql$,
        array_to_string(private.party_fields(), ', o.'),
        array_to_string(private.party_fields(), ', n.')
    );
end
$make$;

select private.make_dirty_trigger();


-- edits made while an account was not connected were not marked
create function private.tg_metakocka_connections__mark_changed()
    returns trigger
    language plpgsql
    -- definer: users may not write marks and mappings
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


create trigger _510_mark_dirty_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__mark_dirty();

create trigger _510_mark_dirty_update
    after update on public.contacts
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_contacts__mark_dirty();


comment on sequence private.metakocka_dirty_seq is
    'The order of changes.';
comment on table private.metakocka_dirty is
    'Contacts to send to Metakocka, in the order of their changes.';
comment on column private.metakocka_dirty.changed_seq is
    'The number of the last change. A worker that has sent an earlier change leaves the mark.';
comment on column private.metakocka_dirty.edited_at is
    'The first edit since the last claim; null where there is none.';
comment on column private.metakocka_dirty.edits is
    'The time of each field''s last edit since the mark exists, {field: time}, if the account''s rule is newest.';
comment on policy "nobody reads the marks directly" on private.metakocka_dirty is
    'The state of a contact''s sync is in its mapping.';
comment on function private.quiet_moment() is
    'The wait after an edit before a contact is sent. Another edit starts it again.';
comment on function private.longest_wait() is
    'The longest wait after an edit before a contact is sent, however often it is edited.';
comment on function private.mark_requested(uuid, uuid[]) is
    'Marks contacts that a user asks to send now, including unlinked ones.';
comment on function private.mark_dirty(uuid, uuid[], interval) is
    'Marks contacts of an account to be sent after a quiet moment, and rings. Skips contacts that a person has unlinked.';
comment on function private.tg_metakocka_connections__mark_changed() is
    'When an account is connected again, marks the contacts that differ from their agreed state.';
comment on function private.make_dirty_trigger() is
    'Makes private.tg_contacts__mark_dirty for the fields that partners have now.';
comment on function private.tg_contacts__mark_dirty() is
    'Marks the contacts of connected accounts whose synchronized fields change.';
