/*
    The messages to send: a row is a job. One worker leases it. Just before the call the job becomes
    "sending": from then on the call may have happened. If a lease ends in "sending", the outcome is
    unknown. Evidence settles it, never a second call.
*/
create table private.outbound_queue (
    message_id          uuid primary key
                        constraint outbound_queue_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    conversation_id     uuid not null,
    -- messages of a conversation go one after the other
    seq                 bigint not null,
    state               text not null default 'queued'
                        constraint outbound_queue_state_check
                        check (state in ('queued', 'leased', 'sending')),
    attempts            integer not null default 0,
    worker              text,
    leased_until        timestamptz,
    not_before          timestamptz not null default now(),

    constraint outbound_queue_lease_check
        check ((state = 'queued') = (leased_until is null) and (state = 'queued') = (worker is null))
);
alter table private.outbound_queue enable row level security;


create unique index outbound_queue_conversation_idx
    on private.outbound_queue (conversation_id, seq);

create index outbound_queue_due_idx
    on private.outbound_queue (whatsapp_channel_id, not_before)
    where state = 'queued';

create index outbound_queue_lease_idx
    on private.outbound_queue (leased_until)
    where state <> 'queued';


create policy "nobody reads the outbound queue directly"
    on private.outbound_queue
    for all
    to authenticated
    using (false);


/*
    Every call that was made or may have been made. A row is written before its call.
*/
create table private.outbound_attempts (
    message_id          uuid not null
                        constraint outbound_attempts_message_id_fkey
                        references public.messages on delete cascade,
    attempt             integer not null,
    whatsapp_channel_id uuid not null,
    -- null while the call is running
    outcome             text
                        constraint outbound_attempts_outcome_check
                        check (outcome in ('accepted', 'refused', 'unknown')),
    -- WhatsApp's id, if WhatsApp took the message
    provider_id         text,
    error_code          integer,
    error_message       text,
    begun_at            timestamptz not null default clock_timestamp(),
    ended_at            timestamptz,

    primary key (message_id, attempt)
);
alter table private.outbound_attempts enable row level security;


create unique index outbound_attempts_provider_id_key
    on private.outbound_attempts (whatsapp_channel_id, provider_id)
    where provider_id is not null;


create policy "nobody reads outbound attempts directly"
    on private.outbound_attempts
    for all
    to authenticated
    using (false);


comment on table private.outbound_queue is
    'The messages to send by WhatsApp. The worker claims, begins and settles them.';
comment on column private.outbound_queue.state is
    'queued or claimed: the call has not begun; sending: the call may have been made.';
comment on policy "nobody reads the outbound queue directly" on private.outbound_queue is
    'Clients see the status of the message.';
comment on table private.outbound_attempts is
    'Every call to WhatsApp for a message, with its outcome.';
comment on policy "nobody reads outbound attempts directly" on private.outbound_attempts is
    'Clients see the status of the message.';
