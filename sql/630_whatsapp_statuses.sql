/*
    Statuses of WhatsApp messages: they arrive in any order, more than once, and sometimes
    before the message's id is known. All are kept; what a message shows is derived from all
    of them, so the order of arrival makes no difference.
*/
create function private.settle_message_statuses(whatsapp_channel_ids uuid[], provider_ids text[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    message_ids uuid[];
    settled integer;
begin
    message_ids := array(
        select distinct message.id
        from unnest(whatsapp_channel_ids, provider_ids) as k (whatsapp_channel_id, provider_id)
        cross join lateral (
            select m.id
            from public.messages m
            where m.whatsapp_channel_id = k.whatsapp_channel_id
              and m.provider_id = k.provider_id
              -- what we received has no delivery of ours
              and m.sender_type <> 'client'
            limit 1
        ) message
    );

    perform
    from public.messages m
    where m.id = any (message_ids)
    order by m.id
    for no key update;

    update public.messages m
    set status = case
            when e.read_at is not null then 'read'
            -- evidence of delivery outranks a failure, which stays visible as error
            when e.delivered_at is not null then 'delivered'
            when e.failed_at is not null then 'failed'
            else 'sent'
        end,
        sent_at = coalesce(e.sent_at, m.sent_at),
        delivered_at = e.delivered_at,
        read_at = e.read_at,
        failed_at = e.failed_at,
        error_code = e.error_code,
        error_message = e.error_message
    from public.messages k
    cross join lateral (
        select
            min(s.at) filter (where s.status = 'sent') as sent_at,
            -- read implies delivered: WhatsApp may leave out the latter
            min(s.at) filter (where s.status in ('delivered', 'read')) as delivered_at,
            min(s.at) filter (where s.status = 'read') as read_at,
            min(s.at) filter (where s.status = 'failed') as failed_at,
            min(s.error_code) as error_code,
            min(s.error_message) as error_message
        from private.message_statuses s
        where s.whatsapp_channel_id = k.whatsapp_channel_id
          and s.provider_id = k.provider_id
    ) e
    where k.id = any (message_ids)
      and m.id = k.id;

    get diagnostics settled = row_count;
    return settled;
end
$$;


create function private.apply_whatsapp_statuses(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    applied integer;
begin
    if items is null then
        return 0;
    end if;

    insert into private.message_statuses as s (
        whatsapp_channel_id, provider_id, status, at, error_code, error_message
    )
    select distinct on (i.whatsapp_channel_id, i.provider_id, i.status)
        i.whatsapp_channel_id,
        i.provider_id,
        i.status,
        i.at,
        i.error_code,
        i.error_message
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.status, i.at
    on conflict (whatsapp_channel_id, provider_id, status) do update
        set at = excluded.at,
            error_code = excluded.error_code,
            error_message = excluded.error_message
        where excluded.at < s.at;

    get diagnostics applied = row_count;
    if applied > 0 then
        perform private.settle_message_statuses(
            whatsapp_channel_ids => array_agg(i.whatsapp_channel_id),
            provider_ids => array_agg(i.provider_id)
        )
        from unnest(items) i;
    end if;
    return applied;
end
$$;


comment on function private.settle_message_statuses(uuid[], text[]) is
    'Shows on messages what their statuses amount to; repeating it changes nothing.';
comment on function private.apply_whatsapp_statuses(private.whatsapp_item[]) is
    'Keeps reported statuses and settles their messages; returns how many were news.';
