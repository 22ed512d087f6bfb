/*
    Writes a row for each question that the merge could not decide, or decided by rule. Closes
    questions that have found their answer.
*/
create function private.write_sync_conflicts(account_id uuid, items private.partner_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
-- a partial index can only be named by its columns
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

    -- both sides came to the same value, or the partner's contact is known by now
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

    -- the contact's partner is known by now, or its own one is back
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
          -- a mapping to one of several partners does not answer whether it is another
          and not coalesce(
              s.partners @> jsonb_build_array(jsonb_build_object('metakocka_id', s.metakocka_id)),
              false);
    end if;
end
$$;


comment on function private.write_sync_conflicts(uuid, private.partner_item[]) is
    'Writes the conflicts of partners, and closes the conflicts that no longer exist.';
