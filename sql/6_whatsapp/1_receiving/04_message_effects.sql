/*
    Effects on a message after it was sent: a reaction, an edit, a deletion. An effect is not a
    message: it has no seq, and no line in the conversation. The effects are kept here, and a
    message shows the sum of its known effects, so the order of arrival does not matter. An effect
    that comes before its message waits here.

    So clients follow one kind of row: a message that changes. Effects do not open the 24-hour
    window, do not name the sender and do not move a conversation up the inbox. Only real messages
    do.
*/
create table private.message_effects (
    -- no foreign key: all effects of a number would queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the effect; of an original, the id of the message
    provider_id         text not null,
    parent_provider_id  text not null,
    kind                text not null
                        constraint message_effects_kind_check
                        -- original: the text before the first edit
                        check (kind in ('reaction', 'edit', 'revoke', 'original')),
    sender_type         text not null
                        constraint message_effects_sender_type_check
                        check (sender_type in ('client', 'operator', 'system')),
    -- the participant, in a group; elsewhere there are only two sides
    sender_id           text,
    -- the provider's time; of an original, the time of the message
    at                  timestamptz
                        constraint message_effects_at_check
                        check ((at is null) = (kind = 'original')),
    -- an emoji, null where it is taken back; or a text, null once the message is revoked
    text                text,
    content             jsonb,

    primary key (whatsapp_channel_id, provider_id)
);
alter table private.message_effects enable row level security;


create index message_effects_parent_idx
    on private.message_effects (whatsapp_channel_id, parent_provider_id);


create policy "nobody reads message effects directly"
    on private.message_effects
    for all
    to authenticated
    using (false);


/*
    Replies that arrived before the message that they answer. The row goes when that message
    arrives.
*/
create table private.parked_replies (
    message_id          uuid primary key
                        constraint parked_replies_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    parent_provider_id  text not null
);
alter table private.parked_replies enable row level security;


create index parked_replies_parent_idx
    on private.parked_replies (whatsapp_channel_id, parent_provider_id);


create policy "nobody reads parked replies directly"
    on private.parked_replies
    for all
    to authenticated
    using (false);


comment on table private.message_effects is
    'Reactions, edits and deletions of messages, and the texts before the first edit. Messages show the sum of these effects.';
comment on policy "nobody reads message effects directly" on private.message_effects is
    'Clients see the message.';
comment on table private.parked_replies is
    'Replies whose reply_to is not known yet.';
comment on policy "nobody reads parked replies directly" on private.parked_replies is
    'Clients see the message.';
