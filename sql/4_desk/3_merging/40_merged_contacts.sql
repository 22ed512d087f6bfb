/*
    Parts of a merge and its undo: locks, the values of the merged contact, and conversations that
    move.
*/
create function private.lock_contacts(account_id uuid, contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.lock_identities(
        account_id => lock_contacts.account_id,
        contact_ids => lock_contacts.contact_ids,
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    perform
    from public.contacts c
    where c.id = any (contact_ids)
      and c.account_id = lock_contacts.account_id
    order by c.id
    for no key update;
end
$$;


create function private.merged_contact(kept public.contacts, dropped public.contacts)
    returns public.contacts
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- a value that the kept contact lacks comes from the dropped one
    merged public.contacts := jsonb_populate_record(
        kept,
        (
            select jsonb_object_agg(b.key, to_jsonb(dropped) -> b.key)
            from jsonb_each(private.blank_fields()) b
            where to_jsonb(kept) -> b.key = b.value
        )
    );
begin
    -- the name goes with the time of the message that brought it
    if kept.profile_name is null then
        merged.profile_named_at := dropped.profile_named_at;
    end if;
    -- it is one person: a stop on one number holds for all
    merged.marketing_stopped_at := least(kept.marketing_stopped_at, dropped.marketing_stopped_at);
    merged.marketing_chosen_at := greatest(kept.marketing_chosen_at, dropped.marketing_chosen_at);
    if not private.wants_reminders(dropped.preferences) then
        merged.preferences := merged.preferences || '{"wants_reminders": false}';
    end if;
    merged.tags := kept.tags || array(
        select t.tag
        from unnest(dropped.tags) with ordinality as t (tag, place)
        where t.tag <> all (kept.tags)
        order by t.place
    );
    merged.notes := nullif(
        concat_ws(E'\n\n', kept.notes, nullif(dropped.notes, kept.notes)), '');
    return merged;
end
$$;


create function private.require_mergeable(kept public.contacts, dropped public.contacts)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    merged constant public.contacts := private.merged_contact(kept => kept, dropped => dropped);
begin
    if coalesce(kept.merged_into, dropped.merged_into) is not null then
        raise sqlstate 'PT409' using
            message = 'One of the two contacts has already been merged.',
            detail = case
                when kept.merged_into is not null
                    then format('field: keep; contact: %s', kept.merged_into)
                else format('field: drop; contact: %s', dropped.merged_into)
            end,
            hint = 'Go on with the contact that it was merged into.';
    elsif coalesce(kept.deleted_at, dropped.deleted_at) is not null then
        raise sqlstate 'PT404' using
            message = 'One of the two contacts has been deleted.',
            detail = case when kept.deleted_at is not null then 'field: keep' else 'field: drop' end;
    elsif kept.portal_user_id <> dropped.portal_user_id then
        raise sqlstate 'PT409' using
            message = 'Both contacts have a portal login.',
            detail = 'field: portal_user_id',
            hint = 'Unlink the login of one of them first.';
    elsif cardinality(merged.tags) > 100 then
        raise sqlstate 'PT409' using
            message = format('Together they have %s tags; 100 are allowed.', cardinality(merged.tags)),
            detail = 'field: tags',
            hint = 'Remove some of the tags first.';
    elsif length(merged.notes) > 20000 then
        raise sqlstate 'PT409' using
            message = format('Together their notes have %s characters; 20,000 are allowed.', length(merged.notes)),
            detail = 'field: notes',
            hint = 'Shorten the notes first.';
    end if;
end
$$;


create function private.announce_login_move(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- on the topic to which the login still listens; it then asks for the topics of its new
    -- contact
    perform private.broadcast_to(
        topics => array[private.listened_topic(contact_id)],
        event => 'topics.changed',
        payload => '{}'
    );
end
$$;


create function private.move_conversations(
    account_id uuid,
    conversation_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    moved constant uuid[] := array(
        select k.id
        from public.conversations k
        where k.id = any (conversation_ids)
          and k.account_id = move_conversations.account_id
          and k.customer_id = from_contact_id
        order by k.id
        for update
    );
begin
    if moved = '{}' then
        return moved;
    end if;

    -- the foreign key moves messages in any order, while status updates lock them by id. It sets
    -- conversation_id, which is part of a key, so its update takes the strongest lock
    perform
    from public.messages m
    where m.conversation_id = any (moved)
    order by m.id
    for update;

    update public.conversations k
    set customer_id = to_contact_id
    where k.id = any (moved);
    return moved;
end
$$;


comment on function private.lock_contacts(uuid, uuid[]) is
    'Locks contacts with their identities, in the lock order.';
comment on function private.merged_contact(public.contacts, public.contacts) is
    'The kept contact, with the values that it takes over from the dropped one.';
comment on function private.require_mergeable(public.contacts, public.contacts) is
    'Refuses two contacts that can''t be merged, and says what to do.';
comment on function private.announce_login_move(uuid) is
    'Tells a contact''s portal login that its topics are about to change.';
comment on function private.move_conversations(uuid, uuid[], uuid, uuid) is
    'Gives conversations with their messages to another contact; returns the ids of those that the first contact still had.';
