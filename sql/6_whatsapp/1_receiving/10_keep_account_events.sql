/*
    Events of webhooks about an account.
*/
create function private.read_account_events(items jsonb, came_at timestamptz)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select jsonb_populate_record(
            null::private.whatsapp_item,
            jsonb_build_object(
                'kind', 'account_event',
                'index', i.ordinal - 1,
                -- its subject: the WhatsApp Business account
                'provider_id', i.value -> 'waba_id',
                'type', i.value -> 'type',
                'at', private.likely_time((i.value ->> 'at')::timestamptz, came_at),
                'content', i.value -> 'content',
                'account_id', event.account_id
            )
        )
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        cross join lateral private.account_of_event(i.value) as event (account_id)
        where i.value ->> 'kind' = 'account_event'
          and event.account_id is not null
    );
end
$$;


create function private.keep_account_events(items private.whatsapp_item[])
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
    insert into public.account_events (account_id, type, occurred_at, content)
    select i.account_id, i.type, i.at, i.content
    from unnest(items) i
    order by i.account_id, i.type, i.at, i.content
    on conflict do nothing;

    get diagnostics kept = row_count;
    perform private.note_template_events(items);
    return kept;
end
$$;


comment on function private.read_account_events(jsonb, timestamptz) is
    'The events of a call that belong to a known account.';
comment on function private.keep_account_events(private.whatsapp_item[]) is
    'Keeps events about accounts. Returns the number of new ones.';
