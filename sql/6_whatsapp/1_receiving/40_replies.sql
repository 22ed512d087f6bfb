/*
    Replies that arrive before the message that they answer: kept, and linked when it arrives.
*/
create function private.park_replies(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.parked_replies (message_id, whatsapp_channel_id, parent_provider_id)
    select m.id, m.whatsapp_channel_id, min(i.reply_to)
    from unnest(items) i
    join public.messages m
        on m.whatsapp_channel_id = i.whatsapp_channel_id
       and m.provider_id = i.provider_id
    where i.kind <> 'effect'
      and i.reply_to is not null
      and m.reply_to is null
    group by m.id
    on conflict do nothing;
end
$$;


create function private.attach_replies(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    children uuid[];
    parents uuid[];
begin
    with attached as (
        delete from private.parked_replies p
        where p.message_id = any (message_ids)
          and private.message_by_provider_id(
              whatsapp_channel_id => p.whatsapp_channel_id,
              provider_id => p.parent_provider_id
          ) is not null
        returning p.*
    )
    select array_agg(m.id), array_agg(answered.id)
    into children, parents
    from attached p
    join public.messages m
        on m.id = p.message_id
    cross join lateral private.answered_message(
        conversation_id => m.conversation_id,
        whatsapp_channel_id => p.whatsapp_channel_id,
        provider_id => p.parent_provider_id
    ) as answered (id)
    where answered.id is not null;

    -- an update of no row would still run the table's triggers
    if children is not null then
        update public.messages m
        set reply_to = a.parent_id
        from unnest(children, parents) as a (id, parent_id)
        where m.id = a.id;
    end if;
end
$$;


comment on function private.park_replies(private.whatsapp_item[]) is
    'Keeps the replies of a batch whose answered message is not known yet.';
comment on function private.attach_replies(uuid[]) is
    'Links replies, which are locked, to the messages that they answer, if those have arrived.';
