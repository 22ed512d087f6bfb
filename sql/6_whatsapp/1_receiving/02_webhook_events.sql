/*
    The inbox of raw webhooks: each body is kept whole before anything is made of it. A better
    parser can read it again later.
*/
create type private.webhook_provider as enum ('whatsapp');

create table private.webhook_events (
    id               bigint generated always as identity primary key,
    provider         private.webhook_provider not null,
    -- text, not jsonb: the sender's own bytes, with escapes and duplicate keys
    body             text not null,
    -- a repeated delivery is the same event
    body_sha256      bytea not null,
    deliveries       integer not null default 1,
    -- the items that could not be applied: [{index, reason, detail, phone_number_id, waba_id, provider_id}]
    rejected         jsonb not null default '[]',
    received_at      timestamptz not null default now(),
    last_received_at timestamptz not null default now(),
    -- a person was erased: the body is not whole any more
    is_cut           boolean not null default false,

    constraint webhook_events_body_sha256_key unique (provider, body_sha256)
);
alter table private.webhook_events enable row level security;


-- a replay reads the events of a span of time
create index webhook_events_received_at_idx
    on private.webhook_events (received_at, id);


create policy "nobody reads raw webhooks directly"
    on private.webhook_events
    for all
    to authenticated
    using (false);


/*
    Every status that WhatsApp reported of a message, even before the message is known. It is found
    here when the message's id becomes known.
*/
create table private.message_statuses (
    -- no foreign key: all statuses of a number would queue for one row
    whatsapp_channel_id uuid not null,
    provider_id         text not null,
    status              text not null
                        constraint message_statuses_status_check
                        check (status in ('sent', 'delivered', 'read', 'failed')),
    -- the provider's earliest time of the status
    at                  timestamptz not null,
    error_code          integer,
    error_message       text,

    primary key (whatsapp_channel_id, provider_id, status)
);
alter table private.message_statuses enable row level security;


create policy "nobody reads message statuses directly"
    on private.message_statuses
    for all
    to authenticated
    using (false);


/*
    A body is text, and jsonb refuses characters that JSON text allows: U+0000 and lone surrogates.
    The webhook's parser puts U+FFFD in their place, and so does this.
*/
create function private.webhook_json(body text)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- an escaped backslash begins no escaped character: it is set apart while these are sought
    apart constant text := chr(1);
    storable text := body;
begin
    if not pg_input_is_valid(storable, 'jsonb') then
        storable := replace(storable, '\\', apart);
        storable := regexp_replace(storable, '\\u0000', '\\ufffd', 'g');
        storable := regexp_replace(
            storable, '\\u[dD][89abAB][[:xdigit:]]{2}(?!\\u[dD][c-fC-F])', '\\ufffd', 'g');
        storable := regexp_replace(
            storable,
            '(?<!\\u[dD][89abAB][[:xdigit:]]{2})\\u[dD][c-fC-F][[:xdigit:]]{2}',
            '\\ufffd',
            'g');
        storable := replace(storable, apart, '\\');
    end if;
    return case when pg_input_is_valid(storable, 'jsonb') then storable::jsonb end;
end
$$;


comment on type private.webhook_provider is
    'The providers that send webhooks.';
comment on table private.webhook_events is
    'The bodies that providers posted, whole. Each body is kept once.';
comment on column private.webhook_events.is_cut is
    'Whether the updates about an erased person were cut out. Such a webhook is not applied when it comes again: these would come back.';
comment on column private.webhook_events.deliveries is
    'How often this body was delivered.';
comment on policy "nobody reads raw webhooks directly" on private.webhook_events is
    'Raw events hold the data of all tenants.';
comment on function private.webhook_json(text) is
    'The body of a webhook as jsonb, with U+FFFD for characters that jsonb refuses; null if it can''t be read.';
comment on table private.message_statuses is
    'Every reported status of a message, with the provider''s time.';
comment on policy "nobody reads message statuses directly" on private.message_statuses is
    'Clients see the status of the message.';
