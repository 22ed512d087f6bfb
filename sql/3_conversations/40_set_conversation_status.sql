/*
    Writes the status of one conversation. The faces of a contact write only the status of its
    current conversation; this reaches every conversation.
*/
create function private.write_conversation_status(conversation_id uuid, word text, face text)
    returns void
    language plpgsql
    -- definer: users may not write conversations; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    wanted constant text := private.status_of_word(
        face => write_conversation_status.face, word => write_conversation_status.word);
    written record;
begin
    -- a group's conversation has no contact
    select k.account_id, k.status, null::uuid as contact_id
    into written
    from public.conversations k
    where k.id = write_conversation_status.conversation_id
      and k.account_id in (select private.my_account_ids())
      and k.customer_id is null;
    if not found then
        -- the lock keeps the contact until the status is written
        select k.account_id, k.status, c.id as contact_id
        into written
        from public.conversations k
        join public.contacts c
            on c.id = k.customer_id
           and c.account_id = k.account_id
        where k.id = write_conversation_status.conversation_id
          and k.account_id in (select private.my_account_ids())
          and c.deleted_at is null
        for no key update of c;
    end if;
    if written.account_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to change.',
            detail = format('conversation: %s', conversation_id);
    end if;

    perform private.require_writable(written.account_id);
    if written.status <> wanted and written.contact_id is not null then
        -- before the conversation, in the lock order
        update public.contacts c
        set status_changed_at = clock_timestamp()
        where c.id = written.contact_id;
    end if;
    perform private.set_conversation_status(
        conversation_id => write_conversation_status.conversation_id, status => wanted);
end
$$;

grant execute on function private.write_conversation_status(uuid, text, text) to authenticated;


create function public.set_conversation_status(
    conversation_id uuid,
    status text,
    face text default 'contacts_page'
)
    returns text
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.write_conversation_status(
        conversation_id => conversation_id, word => status, face => face);
    return status;
end
$$;

grant execute on function public.set_conversation_status(uuid, text, text) to authenticated;


create function private.set_conversation_status(conversation_id uuid, status text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    opened uuid;
begin
    update public.conversations k
    set status = set_conversation_status.status
    where k.id = set_conversation_status.conversation_id
      and k.status <> set_conversation_status.status;
exception
    when unique_violation then
        select o.id
        into opened
        from public.conversations k
        join public.conversations o
            on o.account_id = k.account_id
           and o.channel = k.channel
           and o.whatsapp_channel_id is not distinct from k.whatsapp_channel_id
           and o.thread_key = k.thread_key
           and o.status <> 'closed'
        where k.id = set_conversation_status.conversation_id;
        raise sqlstate 'PT409' using
            message = 'Another conversation with the same person is open.',
            detail = format('field: conversation_status; conversation: %s', opened),
            hint = 'Go on in that conversation, or close it first.';
end
$$;


comment on function private.write_conversation_status(uuid, text, text) is
    'Writes a conversation''s status in the word of a face; refuses a caller who may not.';
comment on function public.set_conversation_status(uuid, text, text) is
    'Sets a conversation to open, pending or closed, in the word of a face (contacts_page, live_chat, wati, portal, erp); returns the word. Another conversation with the same person is open: 409. Not a member of the account: 404.'
    ' Type: (face: status_words.face) => text';
comment on function private.set_conversation_status(uuid, text) is
    'Writes a conversation''s status; refused if another conversation with the same person is open.';
