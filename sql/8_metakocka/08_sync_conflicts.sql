/*
    Questions that the sync could not or must not decide: a field that both sides have changed; a
    partner that may be one of several contacts; a contact that may be one of several partners, or
    whose partner is gone. Decisions by rule are recorded here too.
*/
create table public.sync_conflicts (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint sync_conflicts_account_id_fkey
                 references public.accounts on delete cascade,
    -- null where the contact is not known
    contact_id   uuid,
    -- null where the contact has no partner so far
    metakocka_id text
                 constraint sync_conflicts_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- null where the question is about a contact or a partner
    field        text
                 constraint sync_conflicts_field_check check (length(field) between 1 and 128),
    base         jsonb,
    crm          jsonb,
    -- the value of the field, or the partner
    metakocka    jsonb,
    -- where the question is which partner a contact is: the possible ones
    partners     jsonb
                 constraint sync_conflicts_partners_check
                 check (jsonb_typeof(partners) = 'array' and octet_length(partners::text) <= 262144),
    question     text generated always as (
                     case
                         when partners is not null then 'partner'
                         when field is not null then 'field'
                         else 'contact'
                     end
                 ) stored,
    candidates   uuid[] not null default '{}'
                 constraint sync_conflicts_candidates_check check (cardinality(candidates) <= 100),
    state        text not null default 'open'
                 constraint sync_conflicts_state_check check (state in ('open', 'resolved')),
    -- crm or metakocka; the id of a contact or a partner; new; unlink; or agreed, where both sides
    -- came to the same value
    choice       text
                 constraint sync_conflicts_choice_check check (length(choice) <= 64),
    -- the account's rule, a person, or both sides
    decided_by   text
                 constraint sync_conflicts_decided_by_check
                 check (decided_by in ('crm', 'metakocka', 'newest', 'person', 'both')),
    resolved_by  uuid
                 constraint sync_conflicts_resolved_by_fkey
                 references auth.users on delete set null,
    resolved_at  timestamptz,
    created_at   timestamptz not null default now(),

    constraint sync_conflicts_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- a conflict about a field has a known contact
    constraint sync_conflicts_field_contact_check check (field is null or contact_id is not null),
    constraint sync_conflicts_question_check check (
        case
            when partners is null then metakocka_id is not null
            else contact_id is not null and field is null
        end
    ),
    constraint sync_conflicts_values_check check (
        octet_length(concat(base::text, crm::text, metakocka::text)) <= 262144
    ),
    constraint sync_conflicts_resolved_check check (
        (state = 'resolved') = (resolved_at is not null)
        and (state = 'resolved') = (choice is not null)
        and (state = 'resolved') = (decided_by is not null)
    )
);
alter table public.sync_conflicts enable row level security;


-- a question is asked only once
create unique index sync_conflicts_open_key
    on public.sync_conflicts (account_id, metakocka_id, field)
    nulls not distinct
    where state = 'open' and partners is null;

create unique index sync_conflicts_open_partner_key
    on public.sync_conflicts (account_id, contact_id)
    where state = 'open' and partners is not null;

create index sync_conflicts_latest_idx
    on public.sync_conflicts (account_id, created_at desc, id);

create index sync_conflicts_contact_idx
    on public.sync_conflicts (contact_id, account_id);


create policy "members can read the sync conflicts of their accounts"
    on public.sync_conflicts
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.sync_conflicts to authenticated;


comment on table public.sync_conflicts is
    'Fields that both sides have changed, and contacts or partners that the sync can''t identify. resolve_sync_conflict decides them.';
comment on column public.sync_conflicts.id is
    'Identifies the conflict; resolve_sync_conflict takes it.';
comment on column public.sync_conflicts.account_id is
    'The account of the contacts.';
comment on column public.sync_conflicts.contact_id is
    'The contact; null while the question is which contact the partner is.';
comment on column public.sync_conflicts.metakocka_id is
    'The partner. Where the question is which partner a contact is: its present partner or the one that is gone; null if it has none.';
comment on column public.sync_conflicts.field is
    'The field that both sides have changed; within a list for example people.228000046630.email. Null for other questions.';
comment on column public.sync_conflicts.base is
    'The field''s value at the last agreement; null for other questions.';
comment on column public.sync_conflicts.crm is
    'The contact''s value when the conflict was last seen; null for other questions.';
comment on column public.sync_conflicts.metakocka is
    'The partner''s value; where the question is which contact the partner is, the partner itself.';
comment on column public.sync_conflicts.partners is
    'The partners that the contact may be: [{metakocka_id, name, email, …}]; null for other questions.';
comment on column public.sync_conflicts.question is
    'field: which value wins; contact: which contact the partner is; partner: which partner the contact is.';
comment on column public.sync_conflicts.candidates is
    'The ids of the contacts that may be the partner.';
comment on column public.sync_conflicts.state is
    'open or resolved.';
comment on column public.sync_conflicts.choice is
    'The decision: crm or metakocka; the id of a contact or a partner; new; unlink; or agreed where both sides came to the same value. Null while it is open.';
comment on column public.sync_conflicts.decided_by is
    'Who decided: a rule of the connection (crm, metakocka, newest), a person, or both sides. Null while it is open.';
comment on column public.sync_conflicts.resolved_by is
    'The person who decided; null where no person did.';
comment on column public.sync_conflicts.resolved_at is
    'When it was decided (server time, UTC); null while it is open.';
comment on column public.sync_conflicts.created_at is
    'When the question came up (server time, UTC).';
comment on policy "members can read the sync conflicts of their accounts" on public.sync_conflicts is
    'For everybody who may read the contacts.';
