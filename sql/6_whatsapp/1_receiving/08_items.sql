/*
    One update of a WhatsApp webhook, as the function passes it, with the facts that the database
    adds.
*/
create type private.whatsapp_item as (
    kind                text,
    -- its place in the call, from 0
    index               integer,
    phone_number_id     text,
    -- WhatsApp's id of the message; of an account event, the id of the WhatsApp Business account
    provider_id         text,

    -- the sender of a message, a call or a choice, or the entry of a phone book; of our own
    -- messages the recipient
    wa_id               text,
    user_id             text,
    profile_name        text,
    username            text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- the side that acts: in an effect on the message in reply_to, in a group, in a call, in the
    -- history of the phone app
    sender_type         text,
    sender_id           text,
    -- the group of the message, or the group that the event is about
    group_id            text,

    -- in a message from WhatsApp itself: the new values of wa_id and user_id
    new_wa_id           text,
    new_user_id         text,

    -- of a status
    status              text,
    at                  timestamptz,
    error_code          integer,
    error_message       text,
    -- our id of the message, which we gave when we sent it
    message_ref         uuid,

    -- added by the database
    account_id          uuid,
    whatsapp_channel_id uuid,
    identity_kind       text,
    identity_key        text,
    contact_id          uuid,
    conversation_id     uuid,
    -- the values of wa_id and user_id before this change
    former_wa_id        text,
    former_user_id      text,
    -- another contact that already has the new identity
    other_contact_id    uuid
);


/*
    A provider's clock is not ours. A time that is not plausible is replaced by the time at which
    the webhook came. Otherwise a message of the year 2286 would keep its window open and stay on
    top of the inbox until then, and an edit of that year would beat all later ones. The raw event
    keeps the original time. A replay uses the time of the event's first arrival, so it changes
    nothing.
*/
create function private.likely_time(at timestamptz, came_at timestamptz)
    returns timestamptz
    language plpgsql
    immutable
    strict
    set search_path = ''
as $$
begin
    return case
        -- WhatsApp started in 2009; clocks differ by minutes
        when at < timestamptz '2009-01-01 00:00:00+00' or at > came_at + interval '5 minutes'
            then came_at
        else at
    end;
end
$$;


create function private.read_whatsapp_items(items jsonb, came_at timestamptz)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    read private.whatsapp_item[];
begin
    /*
        Only our number decides which account an update belongs to. The caller's values in fields
        that the database adds are ignored.
    */
        -- A row of casts: jsonb_populate_record looks up the type of each column on each call.
    select array_agg((
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'username',
            private.likely_time((i.value ->> 'sent_at')::timestamptz, came_at),
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'sender_type',
            i.value ->> 'sender_id',
            i.value ->> 'group_id',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            private.likely_time((i.value ->> 'at')::timestamptz, came_at),
            i.value ->> 'error_code',
            i.value ->> 'error_message',
            i.value ->> 'message_ref',
            w.account_id,
            w.id,
            k.kind,
            private.match_key(kind => k.kind, value => k.value),
            null,
            null,
            null,
            null,
            null
        )::private.whatsapp_item)
    into read
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' not in ('skipped', 'account_event', 'erased');
    read := coalesce(read, '{}');
    if cardinality(read) < jsonb_array_length(items)
        and items @? '$[*].kind ? (@ == "account_event")'
    then
        read := read || private.read_account_events(items, came_at);
    end if;
    return read;
end
$$;


comment on type private.whatsapp_item is
    'One update of a WhatsApp webhook.';
comment on function private.likely_time(timestamptz, timestamptz) is
    'A provider''s time, or the time of arrival if that is before 2009 or more than five minutes ahead.';
comment on function private.read_whatsapp_items(jsonb, timestamptz) is
    'The updates of a call that belong to a known number, each with its account. came_at is the first arrival of the webhook.';
