/*
    What we are about to do at Metakocka and can't do twice: a partner is made by one call, and
    if its answer is lost nobody knows. What is written here before the call is settled by
    looking for the partner, never by calling again.
*/
create table private.partner_intents (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    contact_id   uuid not null,
    operation    text not null
                 constraint partner_intents_operation_check
                 check (operation in ('add_partner', 'update_partner')),
    -- a digest of what was to be sent
    fingerprint  text not null
                 constraint partner_intents_fingerprint_check
                 check (length(fingerprint) between 1 and 128),
    -- what was to be sent, by which it is looked for: the contact may be another by then.
    -- Once nobody has to look any more it is forgotten
    sent         jsonb not null default '{}'
                 constraint partner_intents_sent_check
                 check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 131072),
    state        text not null default 'intended'
                 constraint partner_intents_state_check
                 check (state in (
                     -- the call has not begun
                     'intended',
                     -- it has begun, and may have happened
                     'sent',
                     -- it ended without an answer
                     'unknown',
                     -- it happened
                     'settled',
                     -- it did not
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


-- one at a time: who comes next finds out first what became of this one
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
    'Calls to Metakocka that must not happen twice, from before they begin.';
comment on column private.partner_intents.fingerprint is
    'A digest of what was to be sent.';
comment on column private.partner_intents.sent is
    'The fields that were to be sent, by which a partner that may have been made is looked for; empty once that is settled.';
comment on policy "nobody reads partner intents directly" on private.partner_intents is
    'The sync alone settles them.';
