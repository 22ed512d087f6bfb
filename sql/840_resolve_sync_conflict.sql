/*
    A person decides what the sync could not. A decision moves the agreed state: to the value
    that is not wanted, so that the next merge finds the other side alone changed. It stays
    true if a side changes once more before that: then both have, and it is asked again.
*/
create function private.conflict_to_resolve(conflict_id uuid)
    returns public.sync_conflicts
    language plpgsql
    set search_path = ''
as $$
declare
    conflict public.sync_conflicts;
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

    -- in the lock order: contacts, mappings, then this
    perform
    from public.contacts c
    where c.id = conflict.contact_id
       or c.id = any (conflict.candidates)
    order by c.id
    for no key update;
    perform
    from public.metakocka_contact_mappings m
    where m.account_id = conflict.account_id
      and m.metakocka_id = conflict.metakocka_id
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
    end if;
    return conflict;
end
$$;


create function private.with_agreed(base jsonb, field text, value jsonb)
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


create function private.decide_field(conflict public.sync_conflicts, choice text)
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


create function private.decide_contact(conflict public.sync_conflicts, choice text)
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


create function private.resolve_conflict(conflict_id uuid, choice text)
    returns uuid
    language plpgsql
    -- definer: conflicts and mappings are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    conflict constant public.sync_conflicts := private.conflict_to_resolve(conflict_id);
    contact uuid := conflict.contact_id;
begin
    if choice is null then
        raise sqlstate 'PT422' using
            message = 'Nothing was chosen.',
            detail = 'field: choice';
    elsif conflict.field is not null then
        perform private.decide_field(conflict => conflict, choice => resolve_conflict.choice);
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

grant execute on function private.resolve_conflict(uuid, text) to authenticated;


create function public.resolve_sync_conflict(conflict_id uuid, choice text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    contact constant uuid := private.resolve_conflict(
        conflict_id => resolve_sync_conflict.conflict_id, choice => resolve_sync_conflict.choice);
begin
    return (
        select to_jsonb(p)
        from public.metakocka_partners p
        where p.id = contact
    );
end
$$;

grant execute on function public.resolve_sync_conflict(uuid, text) to authenticated;


comment on function private.conflict_to_resolve(uuid) is
    'An open conflict, locked with what it is about; refused where it is not the caller''s to decide.';
comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value; null takes an entry out.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Moves what was agreed about a field to the value that is not wanted.';
comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact the partner that several may be, or a new one; returns its id.';
comment on function private.resolve_conflict(uuid, text) is
    'Decides a conflict and has its contact looked at; returns the contact''s id.';
comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict: of a field crm or metakocka, of a partner the id of one of the candidates or new. Answers the row of metakocka_partners; what follows is done by the sync at once. Decided already: 409.';
