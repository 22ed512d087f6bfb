/*
    What is to be sent: a row is a job. It is leased by one worker; just before the call it
    becomes "sending", since from then on it may have happened: a lease that ends in "sending"
    is an unknown outcome, which is settled by evidence and never by sending again.
*/
create table private.outbound_queue (
    message_id          uuid primary key
                        constraint outbound_queue_message_id_fkey
                        references public.messages on delete cascade,
    whatsapp_channel_id uuid not null,
    conversation_id     uuid not null,
    -- one after the other within a conversation
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
    Every call that was or may have been made, written before it is made.
*/
create table private.outbound_attempts (
    message_id          uuid not null
                        constraint outbound_attempts_message_id_fkey
                        references public.messages on delete cascade,
    attempt             integer not null,
    whatsapp_channel_id uuid not null,
    -- null while it is under way
    outcome             text
                        constraint outbound_attempts_outcome_check
                        check (outcome in ('accepted', 'refused', 'unknown')),
    -- what WhatsApp called it, if it took it
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
    'Messages that are to be sent by WhatsApp; claimed, begun and settled by the worker.';
comment on column private.outbound_queue.state is
    'sending: the call may have been made.';
comment on policy "nobody reads the outbound queue directly" on private.outbound_queue is
    'Clients see the status of the message.';
comment on table private.outbound_attempts is
    'Every call to WhatsApp for a message, with what became of it.';
comment on policy "nobody reads outbound attempts directly" on private.outbound_attempts is
    'Clients see the status of the message.';
