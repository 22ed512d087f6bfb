/*
    A snoozed conversation waits until a time, or until the customer writes. The schedule ends a
    snooze whose time has come, so that clients hear of its end. Until then the inbox shows it as
    ended.
*/
insert into private.sentences (key, language, sentence)
values
    ('desk.snoozed', 'en', '{actor} has snoozed the conversation until {time}.'),
    ('desk.snoozed', 'sl', 'Pogovor do {time} odloži {actor}.'),
    ('desk.woken', 'en', '{actor} has ended the snooze.'),
    ('desk.woken', 'sl', 'Odlog konča {actor}.'),
    ('desk.answered', 'en', 'The snooze is over: the customer has written.'),
    ('desk.answered', 'sl', 'Odlog je končan: stranka je pisala.'),
    ('desk.due', 'en', 'The snooze is over: it is time.'),
    ('desk.due', 'sl', 'Odlog je končan: čas je potekel.');


create function private.snooze_conversation(conversation_id uuid, until timestamptz)
    returns public.desk_states
    language plpgsql
    -- definer: users may not write the state; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.lock_desk(conversation_id);
    former constant timestamptz := (
        select s.snoozed_until
        from public.desk_states s
        where s.id = snooze_conversation.conversation_id
    );
    written public.desk_states;
begin
    if until <= now() or until > now() + interval '1 year' then
        raise sqlstate 'PT422' using
            message = 'A conversation is snoozed until a time within the next year.',
            detail = 'field: until',
            hint = 'Give a later time, or null to end the snooze.';
    end if;
    insert into public.desk_states as s (id, account_id, snoozed_until)
    values (snooze_conversation.conversation_id, account, until)
    on conflict (id) do update
        set snoozed_until = excluded.snoozed_until
    returning s.* into written;

    if until is distinct from former then
        perform private.note_event(
            conversation_id => conversation_id,
            key => case when until is null then 'desk.woken' else 'desk.snoozed' end,
            facts => jsonb_build_object(
                'snoozed_until', until, 'time', private.local_time(account, until))
        );
    end if;
    return written;
end
$$;

grant execute on function private.snooze_conversation(uuid, timestamptz) to authenticated;


create function public.snooze_conversation(conversation_id uuid, until timestamptz)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.snooze_conversation(conversation_id => conversation_id, until => until);
end
$$;

grant execute on function public.snooze_conversation(uuid, timestamptz) to authenticated;


create function private.end_snoozes(conversation_ids uuid[], key text)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    ended uuid;
    count integer := 0;
begin
    -- the conversations first, in the lock order
    perform
    from public.conversations k
    where k.id = any (conversation_ids)
    order by k.id
    for no key update;

    for ended in
        update public.desk_states s
        set snoozed_until = null
        where s.id = any (conversation_ids)
          and s.snoozed_until is not null
          -- somebody may have snoozed it again meanwhile
          and (key <> 'desk.due' or s.snoozed_until <= now())
        returning s.id
    loop
        perform private.note_event(
            conversation_id => ended, key => end_snoozes.key, facts => '{}');
        count := count + 1;
    end loop;
    return count;
end
$$;


create function backend.end_snoozes(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: backend functions run as their owner
    security definer
    set search_path = ''
as $$
begin
    return private.end_snoozes(
        conversation_ids => array(
            select s.id
            from public.desk_states s
            where s.snoozed_until <= now()
            order by s.id
            limit batch
        ),
        key => 'desk.due'
    );
end
$$;

grant execute on function backend.end_snoozes(integer) to service_role;


comment on function private.snooze_conversation(uuid, timestamptz) is
    'Snoozes a conversation for the caller, or ends the snooze, and notes it.';
comment on function public.snooze_conversation(uuid, timestamptz) is
    'Lets a conversation wait until a time within the next year (UTC), or until the customer writes; null ends that. Returns its state. Unknown: 404.';
comment on function private.end_snoozes(uuid[], text) is
    'Ends the snoozes of conversations, and notes why. Returns how many.';
comment on function backend.end_snoozes(integer) is
    'Ends snoozes whose time has come, at most this many. Returns how many; 0 means that none is left.';
