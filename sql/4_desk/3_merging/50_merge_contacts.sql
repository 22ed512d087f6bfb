/*
    Merges two contacts that are one person. Identities and conversations move to the kept
    contact. Its values win; a value that it lacks comes from the dropped contact. Conversations
    are never joined: two open ones stay two. The dropped contact stays as a redirect, and the
    journal (contact_merges) keeps both contacts as they were.
*/
create function private.merge_contact_pair(keep uuid, drop uuid)
    returns uuid
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    kept public.contacts;
    dropped public.contacts;
    merged public.contacts;
    journal public.contact_merges;
begin
    if keep = drop then
        raise sqlstate 'PT422' using
            message = 'A contact can''t be merged with itself.',
            detail = 'field: drop',
            hint = 'Give the ids of two contacts.';
    end if;
    select k.account_id
    into account
    from public.contacts k
    join public.contacts d
        on d.id = drop
       and d.account_id = k.account_id
    where k.id = keep
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There are no two such contacts, or they are not yours to see.',
            detail = 'field: keep, drop';
    end if;
    perform private.require_writable(account);

    perform private.lock_contacts(account_id => account, contact_ids => array[keep, drop]);
    select c.* into strict kept from public.contacts c where c.id = keep;
    select c.* into strict dropped from public.contacts c where c.id = drop;
    perform private.require_mergeable(kept => kept, dropped => dropped);
    merged := private.merged_contact(kept => kept, dropped => dropped);

    journal.id := gen_random_uuid();
    journal.kept_conversations := array(
        select k.id
        from public.conversations k
        where k.customer_id = keep
        order by k.id
    );

    -- in two steps, so that the portal login of this contact is told that it has left
    if dropped.portal_user_id is not null then
        perform private.announce_login_move(drop);
        update public.contacts c
        set portal_user_id = null
        where c.id = drop;
    end if;
    perform private.write_contacts(array[
        private.blank_contact(contact => c, merged_into => keep)
    ])
    from public.contacts c
    where c.id = drop;

    -- an update that finds no row would still run the table's triggers
    if merged is distinct from kept then
        perform private.write_contacts(array[merged]);
        select c.* into strict merged from public.contacts c where c.id = keep;
    end if;

    with moved as (
        update public.contact_identities o
        set contact_id = keep
        where o.contact_id = drop
          and o.account_id = account
        returning o.*
    )
    select coalesce(jsonb_agg(to_jsonb(m) order by m.kind, m.match_key), '[]')
    into journal.moved_identities
    from moved m;

    -- before the conversations: a booking's conversation moves with its job
    journal.moved_customer_rows := private.move_customer_rows(
        account_id => account, from_contact_id => drop, to_contact_id => keep);

    journal.moved_conversations := private.move_conversations(
        account_id => account,
        conversation_ids => array(
            select k.id from public.conversations k where k.customer_id = drop),
        from_contact_id => drop,
        to_contact_id => keep
    );

    insert into public.contact_merges (
        id, account_id, kept_contact_id, dropped_contact_id, kept_before, dropped_before,
        kept_after, moved_identities, moved_conversations, kept_conversations,
        moved_customer_rows, settled_suggestions, added_suggestions, merged_by
    )
    values (
        journal.id,
        account,
        keep,
        drop,
        to_jsonb(kept),
        to_jsonb(dropped),
        to_jsonb(merged),
        journal.moved_identities,
        journal.moved_conversations,
        journal.kept_conversations,
        journal.moved_customer_rows,
        private.settle_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        private.pass_on_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        auth.uid()
    );
    return journal.id;
end
$$;

grant execute on function private.merge_contact_pair(uuid, uuid) to authenticated;


create function public.merge_contacts(keep uuid, drop uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    merge_id constant uuid := private.merge_contact_pair(keep => keep, drop => drop);
begin
    return jsonb_build_object(
        'merge_id', merge_id,
        'contact', (select to_jsonb(v) from public.contacts_v2 v where v.id = keep)
    );
end
$$;

grant execute on function public.merge_contacts(uuid, uuid) to authenticated;


comment on function private.merge_contact_pair(uuid, uuid) is
    'Merges two contacts and writes the journal; returns the id of the merge.';
comment on function public.merge_contacts(uuid, uuid) is
    'Merges the contact drop into the contact keep, whose values win. Returns the kept contact. Conversations move, but are not joined. undo_merge takes the merge back. If one is already merged, or both have a portal login: 409.'
    ' Type: {merge_id: uuid, contact: contacts_v2}';
