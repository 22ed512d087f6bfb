/*
    A person decides a question that the sync could not. The sync does the rest at once.
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
            message = 'A choice is missing.',
            detail = 'field: choice',
            hint = 'Choose crm, metakocka, an id, new or unlink, as the conflict allows.';
    end if;

    seen := conflict;
    -- in the lock order: identities, contacts, mappings, then the conflict
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
            message = 'This conflict has been decided already.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read the contact: it shows the decision.';
    elsif (conflict.candidates, conflict.partners) is distinct from (seen.candidates, seen.partners) then
        raise sqlstate 'PT409' using
            message = 'The possible choices have changed meanwhile.',
            detail = format('conflict: %s', conflict_id),
            hint = 'Read the conflict again.';
    end if;
    return conflict;
end
$$;


create function private.resolve_conflict(conflict_id uuid, choice text)
    returns uuid
    language plpgsql
    -- definer: users may not write conflicts and mappings; the function checks the caller first
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


comment on function private.conflict_to_resolve(uuid, text) is
    'An open conflict, locked together with its contacts, partners and the choice. Refuses callers who may not decide it.';
comment on function private.resolve_conflict(uuid, text) is
    'Decides a conflict, and queues its contact to be checked. Returns the contact''s id.';
comment on function public.resolve_sync_conflict(uuid, text) is
    'Decides a conflict. For a field: crm or metakocka. For a partner: the id of one of the candidates, or new for a contact of its own. For a contact: the id of one of the partners, new for another partner, or unlink for none. Returns the row of metakocka_partners. The sync does the rest at once. A decided conflict is refused (409).'
    ' Type: metakocka_partners';
