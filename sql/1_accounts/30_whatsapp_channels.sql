/*
    The WhatsApp numbers of an account. Only the phone_number_id of a webhook says to which
    account it belongs.
*/
create table public.whatsapp_channels (
    id                   uuid primary key default gen_random_uuid(),
    account_id           uuid not null
                         constraint whatsapp_channels_account_id_fkey
                         references public.accounts on delete cascade,
    -- Meta's id of the number: unique, or a message could reach another account
    phone_number_id      text not null
                         constraint whatsapp_channels_phone_number_id_key unique
                         constraint whatsapp_channels_phone_number_id_check
                         check (phone_number_id ~ '^[0-9]{1,32}$'),
    -- Meta's id of the WhatsApp Business account, which owns the templates
    waba_id              text
                         constraint whatsapp_channels_waba_id_check
                         check (waba_id ~ '^[0-9]{1,32}$'),
    display_phone_number text not null,
    name                 text not null,
    messages_per_second  integer not null default 80
                         constraint whatsapp_channels_messages_per_second_check
                         check (messages_per_second between 1 and 1000),
    -- nothing is sent from a stopped number until a person has solved the problem
    stopped_at           timestamptz,
    stopped_code         integer,
    stopped_reason       text,
    -- nothing is sent from a paused number until a person resumes it; see pause_sending
    paused_at            timestamptz,
    created_at           timestamptz not null default now(),

    -- foreign keys with the account refer to this
    constraint whatsapp_channels_id_account_id_key unique (id, account_id)
);
alter table public.whatsapp_channels enable row level security;


create index whatsapp_channels_account_id_idx on public.whatsapp_channels (account_id);


create policy "members can read their WhatsApp numbers"
    on public.whatsapp_channels
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.whatsapp_channels to authenticated;


comment on table public.whatsapp_channels is
    'A WhatsApp number of an account, by Meta''s phone_number_id.';
comment on column public.whatsapp_channels.id is
    'Identifies the number; conversations and messages name it as whatsapp_channel_id.';
comment on column public.whatsapp_channels.account_id is
    'The account that owns the number.';
comment on column public.whatsapp_channels.phone_number_id is
    'Meta''s id of the number. It belongs to one account only.';
comment on column public.whatsapp_channels.display_phone_number is
    'The number as people write it.';
comment on column public.whatsapp_channels.name is
    'The name of the number, for staff.';
comment on column public.whatsapp_channels.created_at is
    'When the number was added (server time, UTC).';
comment on column public.whatsapp_channels.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the number and its templates; null is unknown.';
comment on column public.whatsapp_channels.messages_per_second is
    'How many messages a second WhatsApp accepts from this number: 80, 1,000 after an upgrade, 20 if the phone app uses it too.';
comment on column public.whatsapp_channels.stopped_at is
    'Since when nothing is sent from this number (server time, UTC); null while it sends. resume_channel starts it again.';
comment on column public.whatsapp_channels.stopped_code is
    'WhatsApp''s error code that stopped the number; null while it sends.';
comment on column public.whatsapp_channels.stopped_reason is
    'A sentence that says why the number is stopped; null while it sends.';
comment on column public.whatsapp_channels.paused_at is
    'Since when a person has nothing sent from this number (server time, UTC); null while it sends. See pause_sending and resume_sending.';
comment on policy "members can read their WhatsApp numbers" on public.whatsapp_channels is
    'Customers do not need the provider''s ids.';
