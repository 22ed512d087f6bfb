/*
    The notes of staff about a conversation, and its events at the desk. A note is not a message: it
    is never sent, and it has a number of its own, so the customer's numbering has no gap. Only
    members read notes, and only the account's topic tells them.

    An event (taken, handed over, labelled, snoozed) is a line in the account's language. Its facts
    stand beside it, for clients that write a text of their own.
*/
create table public.conversation_notes (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- 1, 2, 3 … in a conversation, without a gap
    seq             bigint not null,
    kind            text not null default 'note'
                    constraint conversation_notes_kind_check check (kind in ('note', 'event')),
    author_id       uuid
                    constraint conversation_notes_author_id_fkey
                    references auth.users on delete set null,
    -- the name at the time of writing: authors may leave
    author_name     text,
    note            text not null,
    mentions        uuid[] not null default '{}',
    event           jsonb,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    deleted_at      timestamptz,
    version         bigint not null default 1,

    constraint conversation_notes_seq_key unique (conversation_id, seq),
    constraint conversation_notes_conversation_fkey
        foreign key (conversation_id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    constraint conversation_notes_note_check
        check (
            deleted_at is not null and note = ''
            or deleted_at is null and btrim(note, E' \t\r\n') <> '' and length(note) <= 4096
        ),
    constraint conversation_notes_mentions_check
        check (case
            -- array_position takes plain lists alone
            when array_ndims(mentions) > 1 then false
            else cardinality(mentions) <= 50 and array_position(mentions, null) is null
        end),
    constraint conversation_notes_event_check check ((kind = 'event') = (event is not null))
);
alter table public.conversation_notes enable row level security;


create index conversation_notes_account_id_idx
    on public.conversation_notes (account_id);

create index conversation_notes_author_id_idx
    on public.conversation_notes (author_id);


-- a deleted row is gone for everybody, as broadcasts and the log tell it
create policy "members can read notes"
    on public.conversation_notes
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        and deleted_at is null
    );

create policy "owners, admins and agents can write notes"
    on public.conversation_notes
    for insert
    to authenticated
    with check (
        account_id = any (array(select private.my_writable_account_ids()))
        and author_id = (select auth.uid())
        and kind = 'note'
    );

-- A reader who may not change a note is refused, instead of changing no row.
create policy "authors can change their notes"
    on public.conversation_notes
    for update
    to authenticated
    using (account_id = any (array(select private.my_account_ids())))
    with check (
        account_id = any (array(select private.my_writable_account_ids()))
        and author_id = (select auth.uid())
        and kind = 'note'
    );


grant select on public.conversation_notes to authenticated;


-- Locks a conversation for its desk: notes are numbered, and its state is written, under this lock.
create function private.lock_desk(conversation_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select k.account_id
    into account
    from public.conversations k
    where k.id = lock_desk.conversation_id
      and k.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', lock_desk.conversation_id);
    end if;
    perform private.require_writable(account);
    return account;
end
$$;


create function private.next_note_seq(conversation_id uuid)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return coalesce((
        select max(n.seq)
        from public.conversation_notes n
        where n.conversation_id = next_note_seq.conversation_id
    ), 0) + 1;
end
$$;


create function private.member_name(account_id uuid, user_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select m.display_name
        from public.account_members m
        where m.account_id = member_name.account_id
          and m.user_id = member_name.user_id
    );
end
$$;


create function private.tg_conversation_notes__complete()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
declare
    stranger uuid;
begin
    if tg_op = 'INSERT' then
        new.account_id := private.lock_desk(new.conversation_id);
        new.seq := private.next_note_seq(new.conversation_id);
        new.kind := 'note';
        new.author_id := auth.uid();
        new.author_name := private.member_name(new.account_id, new.author_id);
    end if;

    select u
    into stranger
    from unnest(new.mentions) u
    where u is not null
      and private.member_name(new.account_id, u) is null
    limit 1;
    if found then
        raise sqlstate 'PT422' using
            message = 'A note can mention members of the account only.',
            detail = format('field: mentions; user: %s', stranger),
            hint = 'Give the user_id of rows of account_members.';
    end if;
    return new;
end
$$;

-- events have a number already
create trigger _010_complete
    before insert on public.conversation_notes
    for each row
    when (new.seq is null)
    execute function private.tg_conversation_notes__complete();

create trigger _010_check_mentions
    before update of mentions on public.conversation_notes
    for each row
    when (new.mentions <> old.mentions)
    execute function private.tg_conversation_notes__complete();

create trigger _100_stamp_change
    before update on public.conversation_notes
    for each row
    execute function private.tg__stamp_change();


-- The caller holds the conversation's lock, or takes it here.
create function private.note_event(conversation_id uuid, key text, facts jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    actor text;
begin
    select k.account_id
    into account
    from public.conversations k
    -- an account that is being deleted takes its conversations with it
    join public.accounts a
        on a.id = k.account_id
    where k.id = note_event.conversation_id
    for no key update of k;
    if not found then
        return;
    end if;
    actor := private.member_name(account, auth.uid());

    insert into public.conversation_notes (
        account_id, conversation_id, seq, kind, author_id, author_name, note, event
    )
    values (
        account,
        note_event.conversation_id,
        private.next_note_seq(note_event.conversation_id),
        'event',
        case when actor is not null then auth.uid() end,
        actor,
        left(private.words(account, key, facts || jsonb_build_object('actor', actor)), 4096),
        jsonb_strip_nulls(facts) || jsonb_build_object('event', key)
    );
end
$$;


create function private.delete_note(note_id uuid)
    returns void
    language plpgsql
    -- definer: owners and admins delete notes that they may not change
    security definer
    set search_path = ''
as $$
declare
    found_note public.conversation_notes;
begin
    select n.*
    into found_note
    from public.conversation_notes n
    where n.id = delete_note.note_id
      and n.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such note, or it is not yours to see.',
            detail = format('note: %s', delete_note.note_id);
    end if;
    perform private.require_writable(found_note.account_id);
    if found_note.kind = 'event' then
        raise sqlstate 'PT422' using
            message = 'The events of a conversation can''t be deleted.',
            detail = 'field: note_id',
            hint = 'Delete only notes that a person wrote.';
    elsif found_note.author_id is distinct from auth.uid()
        and found_note.account_id not in (select private.my_admin_account_ids())
    then
        raise insufficient_privilege using
            message = 'You may not delete this note.',
            detail = 'field: note_id',
            hint = 'Its author may, and owners and admins.';
    end if;

    update public.conversation_notes n
    set note = '',
        mentions = '{}',
        deleted_at = now()
    where n.id = delete_note.note_id
      and n.deleted_at is null;
end
$$;

grant execute on function private.delete_note(uuid) to authenticated;


create function public.delete_note(note_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.delete_note(note_id);
end
$$;

grant execute on function public.delete_note(uuid) to authenticated;


comment on table public.conversation_notes is
    'Notes of staff about a conversation, and its events at the desk; no customer reads them. Insert conversation_id, note and mentions; the author may change note and mentions, and delete_note deletes.';
comment on column public.conversation_notes.id is
    'Identifies the note. A client may choose it, so that a repeated insert is refused (409).';
comment on column public.conversation_notes.account_id is
    'The account of the conversation; filled in.';
comment on column public.conversation_notes.conversation_id is
    'The conversation that the note is about.';
comment on column public.conversation_notes.seq is
    'Counts 1, 2, 3 … in its conversation, apart from the messages.';
comment on column public.conversation_notes.kind is
    'note (a person wrote it) or event (taken, handed over, released, labelled, snoozed).';
comment on column public.conversation_notes.author_id is
    'The user who wrote it or did it; null if the system did.';
comment on column public.conversation_notes.author_name is
    'The author''s name when it was written.';
comment on column public.conversation_notes.note is
    'The text, 1 to 4,096 characters; an event''s is in the account''s language. Empty once deleted.';
comment on column public.conversation_notes.mentions is
    'The user ids of the members whom the note mentions, at most 50.';
comment on column public.conversation_notes.event is
    'The facts of the event (the assignee, the label, the end of the snooze), for clients that write a text of their own; null for a note.'
    ' Type: {event: text, assignee_id?: uuid, assignee_name?: text, former_assignee_id?: uuid, label_id?: uuid, label?: text, snoozed_until?: timestamptz, time?: text} | null';
comment on column public.conversation_notes.created_at is
    'When it was written (server time, UTC).';
comment on column public.conversation_notes.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.conversation_notes.deleted_at is
    'When it was deleted (UTC); its text is gone, its number stays, and nobody reads it any more.';
comment on column public.conversation_notes.version is
    'Rises by 1 with each change of the row.';
comment on constraint conversation_notes_note_check on public.conversation_notes is
    'A note has 1 to 4,096 characters.
Write it shorter, or in parts; delete_note deletes it.';
comment on constraint conversation_notes_mentions_check on public.conversation_notes is
    'A note can mention 50 members.
Give a list of their user ids.';
comment on constraint conversation_notes_conversation_fkey on public.conversation_notes is
    'There is no such conversation.
Give the id of a conversation of the account.';
comment on policy "members can read notes" on public.conversation_notes is
    'Members see the notes of their account. Customers see none.';
comment on policy "owners, admins and agents can write notes" on public.conversation_notes is
    'Under their own name.';
comment on policy "authors can change their notes" on public.conversation_notes is
    'Notes of others, and events, stay as they are.';
comment on function private.lock_desk(uuid) is
    'Locks a conversation that the caller may write, and returns its account. Unknown: 404. A viewer is refused.';
comment on function private.next_note_seq(uuid) is
    'The number of a conversation''s next note. The caller holds the conversation''s lock.';
comment on function private.member_name(uuid, uuid) is
    'The name of a member of an account; null for others.';
comment on function private.tg_conversation_notes__complete() is
    'Completes a note that a user writes: account, number and author. Refuses a mention of a stranger.';
comment on function private.note_event(uuid, text, jsonb) is
    'Notes an event of a conversation, in the account''s language.';
comment on function private.delete_note(uuid) is
    'Blanks a note of the caller''s, or for an owner or admin, anybody''s.';
comment on function public.delete_note(uuid) is
    'Deletes a note: its text goes, its number stays. The author may, and owners and admins. An event is refused (422). Unknown: 404.';


select private.guard_table(
    'conversation_notes',
    inserted => array['id', 'conversation_id', 'note', 'mentions'],
    updated => array['note', 'mentions']
);

select private.follow_table(
    table_name => 'conversation_notes',
    shown => array[
        'id', 'account_id', 'conversation_id', 'seq', 'kind', 'author_id', 'author_name', 'note',
        'mentions', 'event', 'created_at', 'updated_at', 'deleted_at', 'version'
    ],
    -- staff alone
    customer_key => null
);
select private.limit_writes('conversation_notes', '{insert,update}');
