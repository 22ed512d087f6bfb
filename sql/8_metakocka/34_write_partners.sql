/*
    Writes contacts and mappings from partners, one statement for all. Locks are taken in one order:
    identities, contacts, mappings, marks, each by key.
*/
create function private.write_partner_contacts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    known constant uuid[] := array(
        select i.contact_id
        from unnest(items) i
        where not i.is_new
    );
    blank constant public.contacts := private.new_contact(
        account_id => write_partner_contacts.account_id, contact_id => null, fields => '{}');
    unshared constant text[] := private.unshared_columns();
begin
    if known <> '{}' then
        perform
        from public.contacts c
        where c.id = any (known)
        order by c.id
        for no key update;
        if exists (
            select
            from unnest(items) i
            join public.contacts c
                on c.id = i.contact_id
            where c.deleted_at is not null
               or c.version <> i.version
        ) then
            raise sqlstate 'RP002';
        end if;
    end if;

    -- a statement of no row would still run the table's triggers
    if exists (select from unnest(items) i where i.is_new) then
        insert into public.contacts
        select n.*
        from unnest(items) i
        cross join lateral jsonb_populate_record(
            blank,
            jsonb_strip_nulls(i.changes - unshared)
                || jsonb_build_object('id', i.contact_id)
        ) n
        where i.is_new
        order by i.contact_id;
    end if;

    if exists (select from unnest(items) i where not i.is_new and i.changes <> '{}') then
        perform private.write_contacts(array(
            select p
            from unnest(items) i
            join public.contacts o
                on o.id = i.contact_id
            cross join lateral jsonb_populate_record(o, i.changes - unshared) p
            where not i.is_new
              and i.changes <> '{}'
        ));
    end if;
end
$$;


create function private.write_partner_mappings(
    account_id uuid,
    user_id uuid,
    items private.partner_item[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- of a deleted contact whose partner is another contact now
    if exists (
        select
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.metakocka_contact_mappings o
            where o.account_id = write_partner_mappings.account_id
              and o.metakocka_id = i.metakocka_id
            limit 1
        ) m
        where m.contact_id <> i.contact_id
    ) then
        delete from public.metakocka_contact_mappings m
        using unnest(items) i, public.contacts c
        where m.account_id = write_partner_mappings.account_id
          and m.metakocka_id = i.metakocka_id
          and m.contact_id <> i.contact_id
          and c.id = m.contact_id
          and c.deleted_at is not null;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, base, partner_hash, base_version, seen_at, state,
        user_id, last_synced_at
    )
    select
        write_partner_mappings.account_id,
        i.contact_id,
        i.metakocka_id,
        i.base,
        i.partner_hash,
        c.version,
        i.seen_at,
        case
            when i.conflicts <> '[]' and exists (
                select
                from jsonb_array_elements(i.conflicts) f
                where f ->> 'winner' is null
            ) then 'conflict'
            -- somebody has edited it meanwhile
            when i.push or exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = i.contact_id
            ) then 'waiting'
            else 'synced'
        end,
        write_partner_mappings.user_id,
        clock_timestamp()
    from unnest(items) i
    cross join lateral (
        select o.version
        from public.contacts o
        where o.id = i.contact_id
        limit 1
    ) c
    order by i.contact_id
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            base = excluded.base,
            partner_hash = excluded.partner_hash,
            base_version = excluded.base_version,
            seen_at = greatest(m.seen_at, excluded.seen_at),
            state = excluded.state,
            missing = '{}',
            user_id = coalesce(excluded.user_id, m.user_id),
            last_synced_at = excluded.last_synced_at
        -- an unchanged mapping is not written again
        where (m.metakocka_id, m.base, m.partner_hash, m.base_version, m.state, m.missing)
            is distinct from (
                excluded.metakocka_id, excluded.base, excluded.partner_hash,
                excluded.base_version, excluded.state, '{}'::text[]
            )
            -- but a new seen_at counts while an edit waits to be sent
            or excluded.seen_at > coalesce(m.seen_at, '-infinity') and exists (
                select
                from private.metakocka_dirty d
                where d.contact_id = m.contact_id
            );

    if exists (select from unnest(items) i where i.push) then
        perform private.mark_dirty(
            account_id => write_partner_mappings.account_id,
            contact_ids => array(select i.contact_id from unnest(items) i where i.push),
            quiet_for => interval '0'
        );
    end if;
end
$$;


comment on function private.write_partner_contacts(uuid, private.partner_item[]) is
    'Makes and changes the contacts of partners. Raises RP002 where a contact has changed since it was read.';
comment on function private.write_partner_mappings(uuid, uuid, private.partner_item[]) is
    'Notes the partners of contacts and their agreed states. Marks the contacts with values that their partners lack.';
