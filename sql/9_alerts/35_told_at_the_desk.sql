/*
    What staff are told of their work at the desk: that a conversation is theirs now, and that a
    note mentions them. Nobody is told of what they have done themselves. A customer's message in a
    conversation that somebody has is told to that member alone.
*/
insert into private.sentences (key, language, sentence)
values
    ('notification.assigned', 'en', 'The conversation is yours now.'),
    ('notification.assigned', 'sl', 'Pogovor je zdaj vaš.');


create function private.title_of(conversation_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(c.name, c.profile_name, k.group_name, c.phone, a.name)
        from public.conversations k
        join public.accounts a
            on a.id = k.account_id
        left join public.contacts c
            on c.id = k.customer_id
        where k.id = title_of.conversation_id
    );
end
$$;


create function private.tg_desk_states__notify()
    returns trigger
    language plpgsql
    -- definer: users may not write notifications
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify(
            account_id => new.account_id,
            user_ids => array[new.assignee_id],
            kind => 'assigned',
            conversation_id => new.id,
            title => private.title_of(new.id),
            body => private.words(new.account_id, 'notification.assigned', '{}')
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.desk_states
    for each row
    when (new.assignee_id is not null and new.assignee_id is distinct from auth.uid())
    execute function private.tg_desk_states__notify();

create trigger _550_notify_update
    after update of assignee_id on public.desk_states
    for each row
    when (
        new.assignee_id is distinct from old.assignee_id
        and new.assignee_id is not null
        and new.assignee_id is distinct from auth.uid()
    )
    execute function private.tg_desk_states__notify();


create function private.tg_conversation_notes__notify()
    returns trigger
    language plpgsql
    -- definer: as for states
    security definer
    set search_path = ''
as $$
begin
    if private.has_devices() then
        perform private.notify(
            account_id => new.account_id,
            user_ids => array(
                select m
                from unnest(new.mentions) m
                where m is distinct from new.author_id
                  -- an edit tells those alone whom it adds
                  and (tg_op = 'INSERT' or m <> all (old.mentions))
            ),
            kind => 'mention',
            conversation_id => new.conversation_id,
            title => coalesce(new.author_name, private.title_of(new.conversation_id)),
            body => new.note,
            data => jsonb_build_object('source_id', new.id)
        );
    end if;
    return null;
end
$$;

create trigger _550_notify_insert
    after insert on public.conversation_notes
    for each row
    when (new.mentions <> '{}')
    execute function private.tg_conversation_notes__notify();

create trigger _550_notify_update
    after update of mentions on public.conversation_notes
    for each row
    when (new.mentions <> old.mentions and new.mentions <> '{}')
    execute function private.tg_conversation_notes__notify();


comment on function private.title_of(uuid) is
    'The name under which staff see a conversation.';
comment on function private.tg_desk_states__notify() is
    'Tells a member that a conversation is theirs now.';
comment on function private.tg_conversation_notes__notify() is
    'Tells members that a note mentions them.';
