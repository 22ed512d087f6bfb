/*
    WhatsApp's 24-hour window: free text may be sent until 24 hours after the person last wrote to
    this number, or called it. After that only a template may be sent. Clients that show the
    window and the sender follow the same rule. (Source: developers.facebook.com, WhatsApp Cloud
    API, "Send messages".)
*/
create function private.window_closes_at(conversation_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- of all conversations with this person on this number: closing one does not close the window
    return (
        select max(a.last_inbound_at) + interval '24 hours'
        from public.conversations k
        join public.conversations t
            on t.whatsapp_channel_id = k.whatsapp_channel_id
           and t.account_id = k.account_id
           and t.thread_key = k.thread_key
           and t.channel = k.channel
        join public.conversation_activity a
            on a.conversation_id = t.id
        where k.id = window_closes_at.conversation_id
    );
end
$$;

grant execute on function private.window_closes_at(uuid) to authenticated;


create function public.reply_window(conversation_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- invoker: the caller finds only conversations that it may read
    set search_path = ''
as $$
declare
    channel text;
    closes_at timestamptz;
begin
    select k.channel
    into channel
    from public.conversations k
    where k.id = reply_window.conversation_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', reply_window.conversation_id);
    end if;

    if channel <> 'whatsapp' then
        return jsonb_build_object('open', true, 'closes_at', null);
    end if;
    closes_at := private.window_closes_at(reply_window.conversation_id);
    return jsonb_build_object('open', coalesce(closes_at > now(), false), 'closes_at', closes_at);
end
$$;

grant execute on function public.reply_window(uuid) to authenticated;


comment on function private.window_closes_at(uuid) is
    'Until when free text may be sent in a WhatsApp conversation (UTC); null if the person has never written.';
comment on function public.reply_window(uuid) is
    'Whether free text may be sent now, and until when (UTC). If it is not open, send a template. Other channels are always open.'
    ' Type: {open: boolean, closes_at: timestamptz | null}';
