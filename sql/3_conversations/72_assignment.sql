/*
    The member who answers a conversation. The state at the desk is a row of its own, not columns of
    conversations: a customer reads its conversation, and must not learn who has it or that it
    waits. There is no row until a conversation is assigned or snoozed.
*/
create table public.desk_states (
    -- the conversation's id
    id            uuid primary key,
    account_id    uuid not null,
    assignee_id   uuid,
    snoozed_until timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    version       bigint not null default 1,

    constraint desk_states_conversation_fkey
        foreign key (id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    -- the conversations of a member who is removed become free
    constraint desk_states_assignee_fkey
        foreign key (account_id, assignee_id)
        references public.account_members (account_id, user_id)
        on delete set null (assignee_id)
);
alter table public.desk_states enable row level security;


create index desk_states_assignee_idx on public.desk_states (account_id, assignee_id);

create index desk_states_snoozed_idx
    on public.desk_states (account_id, snoozed_until)
    where snoozed_until is not null;


create policy "members can read the state of a conversation at the desk"
    on public.desk_states
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.desk_states to authenticated;


insert into private.sentences (key, language, sentence)
values
    ('desk.taken', 'en', '{actor} has taken the conversation.'),
    ('desk.taken', 'sl', 'Pogovor prevzame {actor}.'),
    ('desk.handed_over', 'en', '{actor} has handed the conversation over to {assignee_name}.'),
    ('desk.handed_over', 'sl', 'Pogovor preda {actor}, prevzame ga {assignee_name}.'),
    ('desk.assigned', 'en', 'The conversation goes to {assignee_name}, whose turn it is.'),
    ('desk.assigned', 'sl', 'Pogovor po vrsti prevzame {assignee_name}.'),
    ('desk.released', 'en', '{actor} has released the conversation.'),
    ('desk.released', 'sl', 'Pogovor sprosti {actor}.'),
    ('desk.freed', 'en', 'The conversation is free: its assignee can no longer answer it.'),
    ('desk.freed', 'sl', 'Pogovor je prost: prejšnja oseba ne more več odgovarjati.');


create function private.tg_desk_states__note_assignee()
    returns trigger
    language plpgsql
    -- definer: foreign keys run it for every user
    security definer
    set search_path = ''
as $$
declare
    former constant uuid := case when tg_op = 'UPDATE' then old.assignee_id end;
    me constant uuid := auth.uid();
    is_staff constant boolean := private.member_name(new.account_id, me) is not null;
begin
    perform private.note_event(
        conversation_id => new.id,
        key => case
            -- removing a member is nobody's work at this conversation
            when new.assignee_id is null
                and (not is_staff or private.member_name(new.account_id, former) is null)
                then 'desk.freed'
            when new.assignee_id is null then 'desk.released'
            when not is_staff then 'desk.assigned'
            when new.assignee_id = me then 'desk.taken'
            else 'desk.handed_over'
        end,
        facts => jsonb_build_object(
            'assignee_id', new.assignee_id,
            'assignee_name', private.member_name(new.account_id, new.assignee_id),
            'former_assignee_id', former
        )
    );
    return null;
end
$$;


create trigger _100_stamp_change
    before update on public.desk_states
    for each row
    execute function private.tg__stamp_change();

create trigger _500_note_assignee_insert
    after insert on public.desk_states
    for each row
    when (new.assignee_id is not null)
    execute function private.tg_desk_states__note_assignee();

create trigger _500_note_assignee_update
    after update of assignee_id on public.desk_states
    for each row
    when (new.assignee_id is distinct from old.assignee_id)
    execute function private.tg_desk_states__note_assignee();


/*
    The conversations that are not closed, with their state at the desk: what lists and counts of the
    desk look for. Most conversations are closed, and stay their assignee's and their labels'. With
    the status in one table and the assignee in another no index leaves them out: for a count of 100
    some 500 were looked up, and for a list of what nobody has 37 ms of 50,000 were read.

    (Counts kept as numbers would be rows for which all writers of an account wait.)
*/
create table private.unclosed_conversations (
    conversation_id uuid primary key
        references public.conversations (id)
        on delete cascade,
    account_id      uuid not null,
    -- open, and not pending
    is_open         boolean not null,
    assignee_id     uuid,
    snoozed_until   timestamptz
);
alter table private.unclosed_conversations enable row level security;


create index unclosed_conversations_assignee_idx
    on private.unclosed_conversations (account_id, assignee_id, is_open)
    include (snoozed_until, conversation_id);


create policy "nobody reads unclosed conversations directly"
    on private.unclosed_conversations
    for all
    to authenticated
    using (false);


create function private.tg_conversations__start_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_conversations (conversation_id, account_id, is_open)
    select n.id, n.account_id, n.status = 'open'
    from new_rows n
    where n.status <> 'closed'
    -- its state at the desk was written by the same statement
    on conflict (conversation_id) do nothing;
    return null;
end
$$;

create trigger _510_start_unclosed
    after insert on public.conversations
    referencing new table as new_rows
    for each statement
    execute function private.tg_conversations__start_unclosed();


create function private.tg__keep_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    -- A change of the status and one of the desk wait here for each other: the later one sees what
    -- the earlier one wrote. The id of a conversation is that of its state at the desk.
    perform
    from public.conversation_activity a
    where a.conversation_id = new.id
    for no key update;

    insert into private.unclosed_conversations as u (
        conversation_id, account_id, is_open, assignee_id, snoozed_until
    )
    select k.id, k.account_id, k.status = 'open', s.assignee_id, s.snoozed_until
    from public.conversations k
    left join public.desk_states s
        on s.id = k.id
    where k.id = new.id
      and k.status <> 'closed'
    on conflict (conversation_id) do update
        set is_open = excluded.is_open,
            assignee_id = excluded.assignee_id,
            snoozed_until = excluded.snoozed_until;
    if not found then
        delete from private.unclosed_conversations u
        where u.conversation_id = new.id;
    end if;
    return null;
end
$$;

create trigger _510_keep_unclosed
    after update of status on public.conversations
    for each row
    when (new.status is distinct from old.status)
    execute function private.tg__keep_unclosed();

create trigger _510_keep_unclosed_insert
    after insert on public.desk_states
    for each row
    execute function private.tg__keep_unclosed();

create trigger _510_keep_unclosed_update
    after update of assignee_id, snoozed_until on public.desk_states
    for each row
    when (
        (new.assignee_id, new.snoozed_until) is distinct from (old.assignee_id, old.snoozed_until)
    )
    execute function private.tg__keep_unclosed();


create function private.tg_account_members__free_conversations()
    returns trigger
    language plpgsql
    -- definer: users may not write the state
    security definer
    set search_path = ''
as $$
begin
    perform
    from public.conversations k
    join public.desk_states s
        on s.id = k.id
    where s.account_id = new.account_id
      and s.assignee_id = new.user_id
    order by k.id
    for no key update of k;

    update public.desk_states s
    set assignee_id = null
    where s.account_id = new.account_id
      and s.assignee_id = new.user_id;
    return null;
end
$$;

create function private.tg_account_members__lock_conversations()
    returns trigger
    language plpgsql
    -- definer: as for viewers
    security definer
    set search_path = ''
as $$
begin
    perform
    from public.conversations k
    join public.desk_states s
        on s.id = k.id
    where s.account_id = old.account_id
      and s.assignee_id = old.user_id
    order by k.id
    for no key update of k;
    return old;
end
$$;

-- The foreign key frees the conversations of a member who is removed, and notes that under their
-- locks. They are locked before their states, as by who takes or snoozes them.
create trigger _080_lock_conversations
    before delete on public.account_members
    for each row
    execute function private.tg_account_members__lock_conversations();

-- a viewer can't answer
create trigger _500_free_conversations
    after update of role on public.account_members
    for each row
    when (new.role = 'viewer' and old.role <> 'viewer')
    execute function private.tg_account_members__free_conversations();


create function private.write_assignee(conversation_id uuid, account_id uuid, assignee_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
declare
    written public.desk_states;
begin
    insert into public.desk_states as s (id, account_id, assignee_id)
    values (
        write_assignee.conversation_id, write_assignee.account_id, write_assignee.assignee_id
    )
    on conflict (id) do update
        set assignee_id = excluded.assignee_id
    returning s.* into written;
    return written;
end
$$;


create function private.assign_conversation(conversation_id uuid, way text, user_id uuid default null)
    returns public.desk_states
    language plpgsql
    -- definer: users may not write the state; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    me constant uuid := auth.uid();
    account uuid;
    assignee uuid;
begin
    -- A demotion meanwhile would leave the conversation with a viewer, and a removal with nobody.
    -- The member before the conversation, as both have them.
    if way in ('take', 'hand over') then
        perform
        from public.conversations k
        join public.account_members m
            on m.account_id = k.account_id
        where k.id = assign_conversation.conversation_id
          and k.account_id in (select private.my_writable_account_ids())
          and m.user_id = case way when 'take' then me else assign_conversation.user_id end
        for share of m;
    end if;
    account := private.lock_desk(conversation_id);
    select s.assignee_id
    into assignee
    from public.desk_states s
    where s.id = assign_conversation.conversation_id;
    if way = 'take' and assignee <> me then
        raise sqlstate 'PT409' using
            message = format('%s has this conversation.', private.member_name(account, assignee)),
            detail = format('field: conversation_id; assignee: %s', assignee),
            hint = 'Hand it over to yourself with hand_over_conversation, if that is agreed.';
    elsif way = 'hand over' and not exists (
        select
        from public.account_members m
        where m.account_id = account
          and m.user_id = assign_conversation.user_id
          and m.role in ('owner', 'admin', 'agent')
    ) then
        raise sqlstate 'PT422' using
            message = 'A conversation is handed over to an owner, admin or agent of the account.',
            detail = 'field: user_id',
            hint = 'Give the user_id of such a row of account_members.';
    end if;
    return private.write_assignee(
        conversation_id => conversation_id,
        account_id => account,
        assignee_id => case way when 'take' then me when 'hand over' then user_id end
    );
end
$$;

grant execute on function private.assign_conversation(uuid, text, uuid) to authenticated;


create function public.take_conversation(conversation_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(conversation_id => conversation_id, way => 'take');
end
$$;

grant execute on function public.take_conversation(uuid) to authenticated;


create function public.hand_over_conversation(conversation_id uuid, user_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(
        conversation_id => conversation_id, way => 'hand over', user_id => user_id);
end
$$;

grant execute on function public.hand_over_conversation(uuid, uuid) to authenticated;


create function public.release_conversation(conversation_id uuid)
    returns public.desk_states
    language plpgsql
    set search_path = ''
as $$
begin
    return private.assign_conversation(conversation_id => conversation_id, way => 'release');
end
$$;

grant execute on function public.release_conversation(uuid) to authenticated;


comment on table public.desk_states is
    'The state of conversations at the desk: who answers, and until when one waits. A conversation without a row is free. No customer reads it.';
comment on column public.desk_states.id is
    'The conversation.';
comment on column public.desk_states.account_id is
    'The account of the conversation.';
comment on column public.desk_states.assignee_id is
    'The member who answers; null if the conversation is free. Written by take_conversation, hand_over_conversation and release_conversation.';
comment on column public.desk_states.snoozed_until is
    'Until when the conversation waits (UTC); null if it does not.';
comment on column public.desk_states.created_at is
    'When the row was made (server time, UTC).';
comment on column public.desk_states.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.desk_states.version is
    'Rises by 1 with each change of the row.';
comment on policy "members can read the state of a conversation at the desk" on public.desk_states is
    'Members see it for all conversations of their account. Customers see none.';
comment on function private.tg_desk_states__note_assignee() is
    'Notes who has taken, handed over or released a conversation.';
comment on table private.unclosed_conversations is
    'The conversations that are open or pending, with their assignee and snooze.';
comment on policy "nobody reads unclosed conversations directly" on private.unclosed_conversations is
    'inbox_page and inbox_counts read them, past the policy.';
comment on function private.tg_conversations__start_unclosed() is
    'Notes new conversations that are not closed.';
comment on function private.tg__keep_unclosed() is
    'Keeps unclosed_conversations as a conversation and its state at the desk are.';
comment on function private.tg_account_members__free_conversations() is
    'Frees the conversations of a member who becomes a viewer.';
comment on function private.tg_account_members__lock_conversations() is
    'Locks the conversations of a member who is removed.';
comment on function private.write_assignee(uuid, uuid, uuid) is
    'Writes who answers a conversation, which the caller has locked.';
comment on function private.assign_conversation(uuid, text, uuid) is
    'Takes, hands over or releases a conversation for the caller.';
comment on function public.take_conversation(uuid) is
    'Takes a conversation: from now on you answer it; returns its state. If somebody else has it: 409, with the name. Unknown: 404.';
comment on function public.hand_over_conversation(uuid, uuid) is
    'Gives a conversation to an owner, admin or agent of the account, also if another member has it; returns its state. Another user: 422. Unknown: 404.';
comment on function public.release_conversation(uuid) is
    'Makes a conversation free, also if another member has it; returns its state. Unknown: 404.';


select private.follow_table(
    table_name => 'desk_states',
    shown => array[
        'id', 'account_id', 'assignee_id', 'snoozed_until', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null,
    conversation_key => 'id'
);
