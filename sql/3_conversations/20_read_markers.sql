/*
    How far each user has read a conversation. The number of unread messages is derived from it.
    It is never counted up and down, so it can't drift.
*/
create table public.read_markers (
    conversation_id uuid not null,
    user_id         uuid not null
                    constraint read_markers_user_id_fkey
                    references auth.users on delete cascade,
    account_id      uuid not null,
    -- null in a group
    customer_id     uuid,
    last_read_seq   bigint not null
                    constraint read_markers_last_read_seq_check check (last_read_seq >= 0),
    read_at         timestamptz not null default now(),

    primary key (conversation_id, user_id),
    -- a conversation that moves to another contact takes its markers with it
    constraint read_markers_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table public.read_markers enable row level security;


-- a client asks for the latest ones, since the user may have read on another device
create index read_markers_user_id_idx on public.read_markers (user_id, read_at);


create policy "readers can read their own markers"
    on public.read_markers
    for select
    to authenticated
    using (
        user_id = (select auth.uid())
        and (
            account_id = any (array(select private.my_account_ids()))
            or customer_id = any (array(select private.my_customer_ids()))
        )
    );


grant select on public.read_markers to authenticated;


create function private.receipt_messages(
    conversation_id uuid,
    after_seq bigint,
    up_to_seq bigint,
    senders text[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    seen constant uuid[] := array(
        select m.id
        from public.messages m
        where m.conversation_id = receipt_messages.conversation_id
          and m.seq > after_seq
          and m.seq <= up_to_seq
          and m.sender_type = any (senders)
          and m.status in ('sent', 'delivered')
        order by m.id
        for no key update
    );
begin
    -- an update that finds no row would still run the table's triggers
    if seen <> '{}' then
        update public.messages m
        set status = 'read',
            delivered_at = coalesce(m.delivered_at, now()),
            read_at = now()
        where m.id = any (seen);
    end if;
end
$$;


create function private.hold_conversation(conversation_id uuid)
    returns public.conversations
    language plpgsql
    set search_path = ''
as $$
declare
    held public.conversations;
begin
    -- the lock keeps the conversation with this contact until the marker is written
    select k.*
    into held
    from public.conversations k
    where k.id = hold_conversation.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      )
    for key share;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', hold_conversation.conversation_id);
    end if;
    return held;
end
$$;


create function private.write_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    read_conversation constant public.conversations := private.hold_conversation(conversation_id);
    former bigint;
    reached bigint;
begin
    if up_to_seq is null or up_to_seq < 0 then
        raise sqlstate 'PT422' using
            message = 'up_to_seq must be 0 or more.',
            detail = 'field: up_to_seq',
            hint = 'Send the seq of the latest message that the user has seen.';
    end if;

    select r.last_read_seq
    into former
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    select
        a.conversation_id,
        reader,
        read_conversation.account_id,
        read_conversation.customer_id,
        -- a message that does not exist yet is not read
        least(up_to_seq, a.last_seq)
    from public.conversation_activity a
    where a.conversation_id = write_read_marker.conversation_id
    on conflict on constraint read_markers_pkey do update
        set last_read_seq = excluded.last_read_seq,
            read_at = excluded.read_at
        where excluded.last_read_seq > r.last_read_seq;

    select r.last_read_seq
    into reached
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

    -- on WhatsApp, WhatsApp itself reports the status
    if read_conversation.channel <> 'whatsapp' and reached > coalesce(former, 0) then
        perform private.receipt_messages(
            conversation_id => write_read_marker.conversation_id,
            after_seq => coalesce(former, 0),
            up_to_seq => reached,
            senders => case
                when read_conversation.account_id in (select private.my_writable_account_ids())
                    then array['client']
                -- a message that only a viewer has seen is not read by the business
                when read_conversation.account_id in (select private.my_account_ids())
                    then '{}'
                else array['operator', 'system']
            end
        );
    end if;
    return reached;
end
$$;


create function private.write_read_marker_at_once(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
    -- the shortest limit: 0 is none
    set lock_timeout = '1ms'
as $$
begin
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Another request is changing this conversation.',
            detail = format('conversation: %s', conversation_id),
            hint = 'Try again. In one transaction, mark conversations in the order of their ids.';
end
$$;


create function private.move_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    -- definer: only this function writes markers, and only the caller's own
    security definer
    set search_path = ''
as $$
declare
    furthest constant uuid := private.setting('rapport.read_conversation');
begin
    -- Conversations are locked in the order of their ids. A transaction that holds a later one
    -- does not wait for this one: the transaction that holds this one may be waiting for the later
    -- one.
    if conversation_id < furthest then
        return private.write_read_marker_at_once(
            conversation_id => conversation_id, up_to_seq => up_to_seq);
    end if;
    perform set_config('rapport.read_conversation', conversation_id::text, true);
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

grant execute on function private.move_read_marker(uuid, bigint) to authenticated;


create function public.mark_read(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return private.move_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

grant execute on function public.mark_read(uuid, bigint) to authenticated;


comment on table public.read_markers is
    'How far the signed-in user has read each conversation; moved by mark_read.';
comment on column public.read_markers.conversation_id is
    'The conversation.';
comment on column public.read_markers.user_id is
    'The reader: the signed-in user.';
comment on column public.read_markers.account_id is
    'The account of the conversation.';
comment on column public.read_markers.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.read_markers.last_read_seq is
    'The seq of the latest message that the user has read; 0 for none.';
comment on column public.read_markers.read_at is
    'When the marker last moved (server time, UTC).';
comment on policy "readers can read their own markers" on public.read_markers is
    'Users see only their own markers.';
comment on function private.receipt_messages(uuid, bigint, bigint, text[]) is
    'Sets sent and delivered messages of the other side to read.';
comment on function private.hold_conversation(uuid) is
    'A conversation that the caller may read, locked so that it stays with its contact. Unknown: 404.';
comment on function private.write_read_marker(uuid, bigint) is
    'Moves the caller''s marker forward, never beyond the latest message; returns where it stands.';
comment on function private.write_read_marker_at_once(uuid, bigint) is
    'The same, but refused (503) if it would have to wait for a lock.';
comment on function private.move_read_marker(uuid, bigint) is
    'Moves the caller''s marker. In one transaction, it waits only for conversations in the order of their ids.';
comment on function public.mark_read(uuid, bigint) is
    'Marks a conversation as read by the caller up to this seq; the marker moves forward only, and not beyond the latest message. Returns the seq at which it stands. Staff, viewers too, and the conversation''s customer may call it. In the portal and about bookings it also sets the other side''s messages to read, except for a viewer. Unknown conversation: 404. In one transaction, out of the order of the ids and at work elsewhere: 503.';
