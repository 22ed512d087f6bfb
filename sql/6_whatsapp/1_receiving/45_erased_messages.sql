/*
    Messages of erased persons. WhatsApp may bring one again in other bytes than before, or tell its
    status late: that would bring the person back. So a hash of each message's id is kept, for as
    long as raw webhooks are, and nothing else.
*/
create table private.erased_messages (
    -- no foreign key: a number that is taken away has no updates
    whatsapp_channel_id uuid not null,
    message_hash        bytea not null,
    erased_at           timestamptz not null default now(),

    primary key (whatsapp_channel_id, message_hash)
);
alter table private.erased_messages enable row level security;


-- deleted in this order
create index erased_messages_erased_at_idx
    on private.erased_messages (erased_at);


create policy "nobody reads erased messages directly"
    on private.erased_messages
    for all
    to authenticated
    using (false);


create function private.message_hash(provider_id text)
    returns bytea
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- no salt: the ids are random
    return sha256(convert_to(provider_id, 'UTF8'));
end
$$;


/*
    A part of a webhook without a number's updates, and without the people that only they were about.
    A history has its updates in lists of lists.
*/
create function private.without_updates(value jsonb, phone_number_id text, provider_ids text[])
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    rest jsonb;
begin
    if jsonb_typeof(value) = 'array' then
        return (
            select coalesce(
                jsonb_agg(
                    private.without_updates(
                        value => e.value,
                        phone_number_id => phone_number_id,
                        provider_ids => provider_ids)
                    order by e.place
                ),
                '[]'
            )
            from jsonb_array_elements(value) with ordinality as e (value, place)
            where not coalesce(e.value ->> 'id' = any (provider_ids), false)
        );
    elsif jsonb_typeof(value) <> 'object'
        -- another number's
        or value #>> '{metadata,phone_number_id}' <> phone_number_id then
        return value;
    end if;
    rest := (
        select coalesce(
            jsonb_object_agg(
                f.key,
                private.without_updates(
                    value => f.value,
                    phone_number_id => phone_number_id,
                    provider_ids => provider_ids)),
            '{}'
        )
        from jsonb_each(value) f
    );
    if rest <> value and jsonb_typeof(rest -> 'contacts') = 'array' then
        rest := jsonb_set(rest, '{contacts}', (
            select coalesce(jsonb_agg(c), '[]')
            from jsonb_array_elements(rest -> 'contacts') c
            where exists (
                select
                from jsonb_path_query(rest, 'lax $.*[*]') u
                where u <> c
                  and private.names_one(
                      u, array_remove(array[c ->> 'wa_id', c ->> 'user_id'], null))
            )
        ));
    end if;
    return rest;
end
$$;


create function private.without_erased(
    inout body text,
    inout items jsonb,
    out erased integer
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    places bigint[];
    whole constant jsonb := items;
    number record;
    rest jsonb;
begin
    erased := 0;
    -- most systems have erased nobody
    if not exists (select from private.erased_messages) then
        return;
    end if;

    select array_agg(e.place)
    into places
    from jsonb_array_elements(items) with ordinality as e (value, place)
    join public.whatsapp_channels w
        on w.phone_number_id = e.value ->> 'phone_number_id'
    where exists (
        select
        from private.erased_messages d
        where d.whatsapp_channel_id = w.id
          and d.message_hash in (
              private.message_hash(e.value ->> 'provider_id'),
              -- a reaction, or a change of the message
              case e.value ->> 'kind' when 'effect'
                  then private.message_hash(e.value ->> 'reply_to')
              end
          )
    );
    if places is null then
        return;
    end if;

    erased := cardinality(places);
    select jsonb_agg(
        case when e.place = any (places)
            then jsonb_build_object('kind', 'erased')
            else e.value
        end
        order by e.place
    )
    into items
    from jsonb_array_elements(items) with ordinality as e (value, place);

    rest := private.webhook_json(body);
    for number in
        select
            e.value ->> 'phone_number_id' as phone_number_id,
            array_agg(e.value ->> 'provider_id') as provider_ids
        from jsonb_array_elements(whole) with ordinality as e (value, place)
        where e.place = any (places)
        group by 1
    loop
        rest := private.without_updates(
            value => rest,
            phone_number_id => number.phone_number_id,
            provider_ids => number.provider_ids);
    end loop;
    -- a body that can't be read can't be cut either
    body := coalesce(rest, '{}')::text;
end
$$;


create function private.prune_erased_messages(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    deleted integer;
begin
    with old as (
        select d.whatsapp_channel_id, d.message_hash
        from private.erased_messages d
        cross join private.retention r
        where d.erased_at < now() - r.webhook_events
        order by d.erased_at
        limit batch
        -- another run may be deleting them
        for update of d skip locked
    )
    delete from private.erased_messages d
    using old o
    where d.whatsapp_channel_id = o.whatsapp_channel_id
      and d.message_hash = o.message_hash;
    get diagnostics deleted = row_count;
    return deleted;
end
$$;


comment on table private.erased_messages is
    'Hashes of the ids of erased persons'' messages, so that their updates are not applied when they come again.';
comment on policy "nobody reads erased messages directly" on private.erased_messages is
    'ingest_whatsapp asks without_erased.';
comment on function private.message_hash(text) is
    'The hash of WhatsApp''s id of a message.';
comment on function private.without_updates(jsonb, text, text[]) is
    'A raw webhook without these updates of a number, and without the people that only they were about.';
comment on function private.without_erased(text, jsonb) is
    'A webhook without the updates of erased persons'' messages, whose items become {kind: erased}, and their number.';
comment on function private.prune_erased_messages(integer) is
    'Deletes at most batch hashes that are older than the retention of raw webhooks; returns their number.';
