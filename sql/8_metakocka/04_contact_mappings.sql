/*
    The partner of each contact at Metakocka, and the state on which both sides last agreed. A side
    that differs from the agreed state has changed since.
*/
create table public.metakocka_contact_mappings (
    contact_id     uuid primary key,
    account_id     uuid not null,
    -- null while Metakocka does not have the contact
    metakocka_id   text
                   constraint metakocka_contact_mappings_metakocka_id_check
                   check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- partners that, as a person has said, are not this contact
    not_partners   text[] not null default '{}'
                   constraint metakocka_contact_mappings_not_partners_check
                   check (cardinality(not_partners) <= 1000
                          and array_position(not_partners, null) is null),
    state          text not null
                   constraint metakocka_contact_mappings_state_check
                   check (state in (
                       'synced', 'waiting', 'conflict', 'blocked', 'unknown', 'unlinked'
                   )),
    -- the required fields that the contact lacks
    missing        text[] not null default '{}'
                   constraint metakocka_contact_mappings_missing_check
                   check (cardinality(missing) <= 30 and array_position(missing, null) is null),
    -- the fields as both sides last agreed on them; null before that
    base           jsonb
                   constraint metakocka_contact_mappings_base_check
                   check (jsonb_typeof(base) = 'object' and octet_length(base::text) <= 131072),
    -- the contact's version at the last agreement
    base_version   bigint,
    -- of the partner as last seen: a partner with the same hash is not compared
    partner_hash   text
                   constraint metakocka_contact_mappings_partner_hash_check
                   check (length(partner_hash) <= 128),
    -- the user who connected the account, or asked for the run
    user_id        uuid
                   constraint metakocka_contact_mappings_user_id_fkey
                   references auth.users on delete set null,
    -- when the partner was last seen in its agreed state
    seen_at        timestamptz,
    last_synced_at timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    version        bigint not null default 1,

    constraint metakocka_contact_mappings_metakocka_id_key unique (account_id, metakocka_id),
    constraint metakocka_contact_mappings_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- an agreed state needs a partner
    constraint metakocka_contact_mappings_synced_check
        check (metakocka_id is not null or (state <> 'synced' and base is null))
);
alter table public.metakocka_contact_mappings enable row level security;

create policy "members can read which partners their contacts are"
    on public.metakocka_contact_mappings
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.metakocka_contact_mappings to authenticated;


create trigger _050_keep_owner
    before update of account_id on public.metakocka_contact_mappings
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_contact_mappings
    for each row
    execute function private.tg__stamp_change();


comment on table public.metakocka_contact_mappings is
    'The partner of each contact at Metakocka, and the state on which both sides last agreed.';
comment on column public.metakocka_contact_mappings.contact_id is
    'The contact.';
comment on column public.metakocka_contact_mappings.account_id is
    'The contact''s account.';
comment on column public.metakocka_contact_mappings.metakocka_id is
    'The partner''s mk_id; null while Metakocka does not have the contact.';
comment on column public.metakocka_contact_mappings.not_partners is
    'The mk_ids of partners that, as a person has said, are not this contact. The sync never takes one of them for it again.';
comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or checked; conflict: a person must decide (sync_conflicts); blocked: it can''t be sent because fields are missing or the contact is deleted; unknown: the partner may have been made, and the sync is checking; unlinked: a person wants no partner for it, and only a request sends it.';
comment on column public.metakocka_contact_mappings.missing is
    'The fields that Metakocka requires and the contact lacks.';
comment on column public.metakocka_contact_mappings.base is
    'The fields as both sides last agreed on them. A side that differs from them has changed since. Null before the first agreement.';
comment on column public.metakocka_contact_mappings.base_version is
    'The contact''s version at the last agreement.';
comment on column public.metakocka_contact_mappings.partner_hash is
    'A digest of the partner as it was last seen.';
comment on column public.metakocka_contact_mappings.user_id is
    'The user who connected the account, or asked for the sync that wrote this row.';
comment on column public.metakocka_contact_mappings.seen_at is
    'When the partner was last seen in its agreed state (UTC): a difference in it now was edited later. While nothing waits to be sent, the partner may have been seen later than this.';
comment on column public.metakocka_contact_mappings.last_synced_at is
    'When both sides last agreed on something new (UTC).';
comment on column public.metakocka_contact_mappings.created_at is
    'When the mapping was made (server time, UTC).';
comment on column public.metakocka_contact_mappings.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.metakocka_contact_mappings.version is
    'Rises by 1 with each change of the row.';
comment on policy "members can read which partners their contacts are" on public.metakocka_contact_mappings is
    'For everybody who may read the contacts.';
