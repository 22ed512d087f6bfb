/*
    Finds the updates of a webhook that can't be read or applied, and why. They block no others.
*/
create function private.readable_whatsapp_items(
    items jsonb,
    came_at timestamptz,
    out readable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    Reads each update alone, if reading them as a set fails.
*/
declare
    item record;
    read private.whatsapp_item[];
begin
    readable := '{}';
    refused := '[]';
    for item in
        select i.value, i.ordinal - 1 as index
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    loop
        begin
            read := private.read_whatsapp_items(
                jsonb_build_array(item.value), came_at);
            if cardinality(read) = 1 then
                read[1].index := item.index;
                readable := readable || read;
            end if;
        exception
            when others then
                refused := refused || private.refusal(item.index, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;


create function private.refusal_of(items private.whatsapp_item[])
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.apply_whatsapp_items(items, false);
    raise sqlstate 'RP001';
exception
    when sqlstate 'RP001' then
        return null;
    when serialization_failure or deadlock_detected or lock_not_available then
        raise;
    when others then
        return private.refusal(items[1].index, sqlstate, sqlerrm);
end
$$;


create function private.applicable_whatsapp_items(
    items private.whatsapp_item[],
    out applicable private.whatsapp_item[],
    out refused jsonb
)
    language plpgsql
    set search_path = ''
as $$
/*
    If applying the set fails, tries parts and undoes them. Of a part that fails too, it tries each
    update alone. The good updates must then be applied as one set: in parts, locks would be taken
    out of order.
*/
declare
    size constant integer := 32;
    part private.whatsapp_item[];
    item private.whatsapp_item;
    reason jsonb;
begin
    applicable := '{}';
    refused := '[]';
    for place in 1 .. cardinality(items) by size loop
        part := items[place : place + size - 1];
        if private.refusal_of(part) is null then
            applicable := applicable || part;
            continue;
        end if;

        foreach item in array part loop
            reason := private.refusal_of(array[item]);
            if reason is null then
                applicable := applicable || item;
            else
                refused := refused || reason;
            end if;
        end loop;
    end loop;
end
$$;


create function private.refusal(index bigint, code text, message text)
    returns jsonb
    language sql
    immutable
    set search_path = ''
as $$
    select jsonb_build_object(
        'index', index, 'reason', 'refused', 'detail', code || ' ' || message)
$$;


create function private.left_out_whatsapp_items(items jsonb)
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'index', i.ordinal - 1,
                'reason', coalesce(
                    i.value ->> 'reason',
                    case i.value ->> 'kind' when 'account_event' then 'unknown_account' end,
                    'unknown_phone_number_id'
                ),
                'detail', i.value ->> 'detail')
            order by i.ordinal),
        '[]')
    from jsonb_array_elements(items) with ordinality as i (value, ordinal)
    where case i.value ->> 'kind'
            when 'skipped' then true
            when 'erased' then false
            when 'account_event' then private.account_of_event(i.value) is null
            else not exists (
                select
                from public.whatsapp_channels w
                where w.phone_number_id = i.value ->> 'phone_number_id'
            )
        end
$$;


comment on function private.readable_whatsapp_items(jsonb, timestamptz) is
    'The updates that can be read, and why the others can''t.';
comment on function private.refusal_of(private.whatsapp_item[]) is
    'Why a set can''t be applied; null where it can. The trial is undone.';
comment on function private.applicable_whatsapp_items(private.whatsapp_item[]) is
    'The updates that can be applied, and why the others can''t.';
comment on function private.refusal(bigint, text, text) is
    'The reason of a refusal: {index, reason, detail}. The detail begins with the SQLSTATE.';
comment on function private.left_out_whatsapp_items(jsonb) is
    'The updates that are not tried, and why.';
