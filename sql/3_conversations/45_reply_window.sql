/*
    WhatsApp's 24 hours: free words may be sent until a day after the person's last message to
    this number; after that a template is needed. One rule for the composer and the sender.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Send messages".)
*/
create function private.window_closes_at(conversation_id uuid)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- of all threads with this person on this number, since closing one closes no window
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
    -- invoker: what the caller may not read does not exist
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
    'Until when free words may be sent in a WhatsApp conversation; null where the person never wrote.';
comment on function public.reply_window(uuid) is
    'Whether free words may be sent now, and until when: {open, closes_at}. Where it is not open send a template.';
