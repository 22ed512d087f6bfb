/*
    What is done to a message after it was sent: a reaction, an edit, a deletion. None of these
    is a message of its own: it has no seq, and nothing to show in the list. It is kept here, and
    what a message shows is derived from all that is known to have been done to it, so that the
    order of arrival makes no difference. What comes before its message waits here for it.

    So clients follow one kind of row: a message, which changes. Opening the 24-hour window,
    naming the sender and moving a conversation up the inbox are left to real messages.
*/
create table private.message_effects (
    -- no foreign key: it would have all effects of a number queue for one row
    whatsapp_channel_id uuid not null,
    -- WhatsApp's id of the effect itself; of an original, that of the message
    provider_id         text not null,
    parent_provider_id  text not null,
    kind                text not null
                        constraint message_effects_kind_check
                        -- original: the message before its first edit
                        check (kind in ('reaction', 'edit', 'revoke', 'original')),
    sender_type         text not null
                        constraint message_effects_sender_type_check
                        check (sender_type in ('client', 'operator', 'system')),
    -- who of a group; elsewhere there are but two sides
    sender_id           text,
    -- the provider's time; an original's is that of the message
    at                  timestamptz
                        constraint message_effects_at_check
                        check ((at is null) = (kind = 'original')),
    -- an emoji, null where it is taken back, or a text, null once the message is revoked
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
    Replies that came before what they answer. A row is gone once that has come.
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
    'Reactions, edits and deletions of messages, and what was edited; messages show what they amount to.';
comment on policy "nobody reads message effects directly" on private.message_effects is
    'Clients see the message.';
comment on table private.parked_replies is
    'Replies whose reply_to is not known yet.';
comment on policy "nobody reads parked replies directly" on private.parked_replies is
    'Clients see the message.';
