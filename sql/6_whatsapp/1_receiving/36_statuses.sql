/*
    Statuses of WhatsApp messages. They arrive in any order, more than once, and sometimes before
    the message's id is known. All are kept. A message shows the sum of its statuses, so the order
    of arrival does not matter.
*/
create function private.provider_ids_of(message public.messages)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array_remove(
        message.provider_id || array(
            select t.provider_id
            from private.outbound_attempts t
            where t.message_id = message.id
              and t.provider_id is distinct from message.provider_id
        ),
        null
    );
end
$$;


create function private.show_message_statuses(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.messages m
    set status = e.status,
        sent_at = coalesce(m.sent_at, e.sent_at),
        delivered_at = e.delivered_at,
        read_at = e.read_at,
        failed_at = e.failed_at,
        error_code = e.error_code,
        error_message = e.error_message
    from public.messages k
    cross join lateral (
        select
            case
                when s.read_at is not null then 'read'
                -- evidence of delivery outranks a failure, which stays visible as an error
                when s.delivered_at is not null then 'delivered'
                when s.failed_at is not null then 'failed'
                else 'sent'
            end as status,
            s.*
        from (
            select
                min(s.at) filter (where s.status = 'sent') as sent_at,
                -- read implies delivered: WhatsApp may leave out delivered
                min(s.at) filter (where s.status in ('delivered', 'read')) as delivered_at,
                min(s.at) filter (where s.status = 'read') as read_at,
                -- an earlier attempt's failure is outdated by the next attempt
                min(s.at) filter (where s.status = 'failed' and s.provider_id = k.provider_id)
                    as failed_at,
                min(s.error_code) filter (where s.provider_id = k.provider_id) as error_code,
                min(s.error_message) filter (where s.provider_id = k.provider_id) as error_message
            from private.message_statuses s
            where s.whatsapp_channel_id = k.whatsapp_channel_id
              -- as in provider_ids_of, whose call for each message was 4 % of echoes and statuses
              and s.provider_id = any (array_append(
                  array(
                      select t.provider_id
                      from private.outbound_attempts t
                      where t.message_id = k.id
                        and t.provider_id is distinct from k.provider_id
                  ),
                  k.provider_id
              ))
        ) s
    ) e
    where k.id = any (message_ids)
      -- received messages have no delivery of ours
      and k.sender_type <> 'client'
      -- a message that waits for another attempt is settled by proof that it was delivered
      and (k.provider_id is not null or e.delivered_at is not null)
      -- an update to the same values would still write a row
      and (
          k.status, k.sent_at, k.delivered_at, k.read_at, k.failed_at, k.error_code, k.error_message
      ) is distinct from (
          e.status, coalesce(k.sent_at, e.sent_at), e.delivered_at, e.read_at, e.failed_at,
          e.error_code, e.error_message
      )
      and m.id = k.id;

    -- a settled message is not sent again
    delete from private.outbound_queue q
    using public.messages m
    where q.message_id = any (message_ids)
      and m.id = q.message_id
      and m.status in ('delivered', 'read');
end
$$;


create function private.keep_whatsapp_statuses(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
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
    order by
        i.whatsapp_channel_id,
        i.provider_id,
        i.status,
        i.at,
        coalesce(i.error_code, 0),
        coalesce(i.error_message, '')
    on conflict (whatsapp_channel_id, provider_id, status) do update
        set at = excluded.at,
            error_code = excluded.error_code,
            error_message = excluded.error_message
        where (excluded.at, coalesce(excluded.error_code, 0), coalesce(excluded.error_message, ''))
            < (s.at, coalesce(s.error_code, 0), coalesce(s.error_message, ''));

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.attach_named_messages(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
/*
    A status with our own id proves that WhatsApp took the message, even if our call failed or had
    no answer. The messages are locked.
*/
declare
    named record;
begin
    for named in
        select m.id, m.provider_id as known_provider_id, i.provider_id, min(i.at) as at
        from unnest(items) i
        join public.messages m
            on m.id = i.message_ref
           and m.whatsapp_channel_id = i.whatsapp_channel_id
           and m.sender_type <> 'client'
        where i.kind = 'status'
          -- most are known by it: the look-up is the second test
          and case when m.provider_id is distinct from i.provider_id then
              private.message_by_provider_id(
                  whatsapp_channel_id => i.whatsapp_channel_id, provider_id => i.provider_id) is null
          end
        group by m.id, m.provider_id, i.provider_id
        order by m.id, min(i.at), i.provider_id
    loop
        if named.known_provider_id is null then
            perform private.attach_provider_id(
                message_id => named.id, provider_id => named.provider_id);
        end if;
        -- one of several attempts
        update private.outbound_attempts t
        set outcome = 'accepted',
            provider_id = named.provider_id,
            ended_at = coalesce(t.ended_at, clock_timestamp())
        where t.message_id = named.id
          and t.attempt = (
              select max(l.attempt)
              from private.outbound_attempts l
              where l.message_id = named.id
                and l.provider_id is null
          )
          and private.message_by_provider_id(
              whatsapp_channel_id => t.whatsapp_channel_id,
              provider_id => named.provider_id
          ) is null;
    end loop;
end
$$;


comment on function private.provider_ids_of(public.messages) is
    'The ids of a message at WhatsApp, one for each attempt to send it.';
comment on function private.show_message_statuses(uuid[]) is
    'Shows on messages, which are locked, the sum of their statuses. Repeating it changes nothing.';
comment on function private.keep_whatsapp_statuses(private.whatsapp_item[]) is
    'Keeps reported statuses. Returns the number of new ones.';
comment on function private.attach_named_messages(private.whatsapp_item[]) is
    'Notes the id under which WhatsApp took each message. The messages are locked.';
