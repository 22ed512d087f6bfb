/*
    Calls to Metakocka that must not happen twice. One call makes a partner, and if its answer is
    lost the outcome is unknown. A row is written before the call. It is settled by looking for the
    partner, never by another call.
*/
create table private.partner_intents (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    contact_id   uuid not null,
    operation    text not null
                 constraint partner_intents_operation_check
                 check (operation in ('add_partner', 'update_partner')),
    -- a digest of the fields to send
    fingerprint  text not null
                 constraint partner_intents_fingerprint_check
                 check (length(fingerprint) between 1 and 128),
    -- The fields to send. The search for the partner uses them, since the contact may change
    -- meanwhile. They are deleted when no search needs them any more.
    sent         jsonb not null default '{}'
                 constraint partner_intents_sent_check
                 check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 131072),
    state        text not null default 'intended'
                 constraint partner_intents_state_check
                 check (state in (
                     -- the call has not begun
                     'intended',
                     -- the call has begun, and may have happened
                     'sent',
                     -- the call ended without an answer
                     'unknown',
                     -- the call happened
                     'settled',
                     -- the call did not happen
                     'abandoned'
                 )),
    metakocka_id text
                 constraint partner_intents_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    created_at   timestamptz not null default now(),
    sent_at      timestamptz,
    settled_at   timestamptz,

    constraint partner_intents_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint partner_intents_settled_check check (
        (state in ('settled', 'abandoned')) = (settled_at is not null)
        and (state = 'settled') = (metakocka_id is not null)
        and (state not in ('sent', 'unknown') or sent_at is not null)
    )
);
alter table private.partner_intents enable row level security;


-- One at a time: the next worker first finds out the outcome of this one.
create unique index partner_intents_open_key
    on private.partner_intents (contact_id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_open_idx
    on private.partner_intents (account_id, created_at, id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_contact_idx
    on private.partner_intents (contact_id, account_id);


create policy "nobody reads partner intents directly"
    on private.partner_intents
    for all
    to authenticated
    using (false);


comment on table private.partner_intents is
    'Calls to Metakocka that must not happen twice. Each row is written before its call.';
comment on column private.partner_intents.fingerprint is
    'A digest of the fields to send.';
comment on column private.partner_intents.sent is
    'The fields to send. A partner that may have been made is looked for by them; empty once the intent is settled.';
comment on policy "nobody reads partner intents directly" on private.partner_intents is
    'Only the sync settles them.';
