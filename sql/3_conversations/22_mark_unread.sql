/*
    Marks a conversation as unread: the marker goes back before the last message of the other side.
    Only the caller's own marker moves. Messages that were read stay read: the other side has been
    told so.
*/
create function private.move_marker_back(conversation_id uuid)
    returns bigint
    language plpgsql
    -- definer: only such functions write markers, and only the caller's own
    security definer
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    thread constant public.conversations := private.hold_conversation(conversation_id);
    is_staff constant boolean := thread.account_id in (select private.my_account_ids());
    last_seq bigint;
begin
    select m.seq
    into last_seq
    from public.messages m
    where m.conversation_id = move_marker_back.conversation_id
      and m.revoked_at is null
      and not m.is_history
      and m.sender_type = any (
          case when is_staff then array['client'] else array['operator', 'system'] end)
    order by m.seq desc
    limit 1;
    if not found then
        raise sqlstate 'PT409' using
            message = 'There is no message of the other side to read again.',
            detail = 'field: conversation_id',
            hint = 'Only a conversation in which the other side has written can be unread.';
    end if;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    values (
        move_marker_back.conversation_id, reader, thread.account_id, thread.customer_id, last_seq - 1
    )
    on conflict on constraint read_markers_pkey do update
        -- it only goes back: unread messages stay unread
        set last_read_seq = least(r.last_read_seq, excluded.last_read_seq),
            read_at = excluded.read_at
    returning r.last_read_seq into last_seq;
    return last_seq;
end
$$;

grant execute on function private.move_marker_back(uuid) to authenticated;


create function public.mark_unread(conversation_id uuid)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return private.move_marker_back(conversation_id);
end
$$;

grant execute on function public.mark_unread(uuid) to authenticated;


comment on function private.move_marker_back(uuid) is
    'Moves the caller''s marker before the last message of the other side; returns where it stands.';
comment on function public.mark_unread(uuid) is
    'Marks a conversation as unread by the caller: the marker goes back before the last message of the other side. Returns the seq at which it stands. The other side has not written: 409. Unknown conversation: 404.';
