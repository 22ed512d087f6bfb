/*
    One update out of a WhatsApp webhook, as the function hands it over, and what is found
    out about it here.
*/
create type private.whatsapp_item as (
    kind                text,
    -- its place in the call, from 0
    index               integer,
    phone_number_id     text,
    -- WhatsApp's id of the message; of an account event the WhatsApp Business account's
    provider_id         text,

    -- a message, a call, a choice or an entry of the phone book; of what is ours, whom it was
    -- sent to
    wa_id               text,
    user_id             text,
    profile_name        text,
    username            text,
    sent_at             timestamptz,
    type                text,
    text                text,
    content             jsonb,
    reply_to            text,

    -- by whom: what is done to a message, which reply_to names, what is said in a group, a call,
    -- a message of the phone app's history
    sender_type         text,
    sender_id           text,
    -- the group in which it is said, or of which it is told
    group_id            text,

    -- a message of WhatsApp's own: what takes the place of wa_id and user_id
    new_wa_id           text,
    new_user_id         text,

    -- a status
    status              text,
    at                  timestamptz,
    error_code          integer,
    error_message       text,
    -- what we called the message when we sent it
    message_ref         uuid,

    -- found out here
    account_id          uuid,
    whatsapp_channel_id uuid,
    identity_kind       text,
    identity_key        text,
    contact_id          uuid,
    conversation_id     uuid,
    -- what wa_id and user_id were until this very change
    former_wa_id        text,
    former_user_id      text,
    -- who has what they should have become
    other_contact_id    uuid
);


/*
    A provider's clock is not ours: a time that can't be is taken as the time at which the webhook
    came. A message of the year 2286 would keep its window open and top the inbox until then, and
    an edit of that year would beat all later ones. What was said stays in the raw event. A replay
    reads by the time at which the event came first, so that it changes nothing.
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
        -- WhatsApp is of 2009; clocks differ by minutes
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
        Only the number decides whose an update is. Whatever the caller said in the fields
        that are found out here is not read.
    */
        -- a row of casts: jsonb_populate_record looks up every column's type at each call
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
        where i.value ->> 'kind' not in ('skipped', 'account_event');
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
    'One update out of a WhatsApp webhook.';
comment on function private.likely_time(timestamptz, timestamptz) is
    'A provider''s time; that of arrival where it is before 2009 or more than five minutes ahead.';
comment on function private.read_whatsapp_items(jsonb, timestamptz) is
    'The updates of a call that belong to a known number, each with its account; came_at is when the webhook came first.';
