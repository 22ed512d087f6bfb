/*
    Which partner at Metakocka a contact is, and on what both sides last agreed. The agreed
    state is what makes a one-sided edit one: whichever side differs from it has changed.
*/
create table public.metakocka_contact_mappings (
    contact_id     uuid primary key,
    account_id     uuid not null,
    -- null: not there yet
    metakocka_id   text
                   constraint metakocka_contact_mappings_metakocka_id_check
                   check (metakocka_id ~ '^[^\s]{1,64}$'),
    -- partners that a person has said it is not
    not_partners   text[] not null default '{}'
                   constraint metakocka_contact_mappings_not_partners_check
                   check (cardinality(not_partners) <= 1000
                          and array_position(not_partners, null) is null),
    state          text not null
                   constraint metakocka_contact_mappings_state_check
                   check (state in (
                       'synced', 'waiting', 'conflict', 'blocked', 'unknown', 'unlinked'
                   )),
    -- the fields without which it can't be sent
    missing        text[] not null default '{}'
                   constraint metakocka_contact_mappings_missing_check
                   check (cardinality(missing) <= 30 and array_position(missing, null) is null),
    -- the fields as last agreed; null where nothing ever was
    base           jsonb
                   constraint metakocka_contact_mappings_base_check
                   check (jsonb_typeof(base) = 'object' and octet_length(base::text) <= 131072),
    -- the contact's version with which the agreed state was reached
    base_version   bigint,
    -- of the partner as last seen: one that has the same needs no look
    partner_hash   text
                   constraint metakocka_contact_mappings_partner_hash_check
                   check (length(partner_hash) <= 128),
    -- whose doing it is: who connected the account, or asked for the run
    user_id        uuid
                   constraint metakocka_contact_mappings_user_id_fkey
                   references auth.users on delete set null,
    -- when the partner was last seen, and nothing in it differed from what was agreed then
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
    -- what is agreed with somebody is agreed with a partner
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
    before update on public.metakocka_contact_mappings
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.metakocka_contact_mappings
    for each row
    execute function private.tg__stamp_change();


comment on table public.metakocka_contact_mappings is
    'Which partner at Metakocka a contact is, and on what both last agreed.';
comment on column public.metakocka_contact_mappings.metakocka_id is
    'The partner''s mk_id; null while it is not there.';
comment on column public.metakocka_contact_mappings.base is
    'The fields as last agreed; whichever side differs from it has changed since.';
comment on column public.metakocka_contact_mappings.partner_hash is
    'A digest of the partner as last seen.';
comment on column public.metakocka_contact_mappings.base_version is
    'The contact''s version with which the agreed state was reached.';
comment on column public.metakocka_contact_mappings.seen_at is
    'When the partner was last seen with what was agreed: what differs in it now was edited later. While there is nothing to be sent it may have been seen later than this.';
comment on column public.metakocka_contact_mappings.state is
    'synced; waiting: to be sent or looked at; conflict: a person decides (sync_conflicts); blocked: it can''t be sent, see missing, or the contact is deleted; unknown: it may have been made there, which is being found out; unlinked: a person wants it to be no partner, and it is sent only when somebody asks for it.';
comment on column public.metakocka_contact_mappings.missing is
    'The fields that Metakocka asks for and that the contact lacks.';
comment on column public.metakocka_contact_mappings.user_id is
    'Who connected the account, or asked for the sync that wrote this.';
comment on column public.metakocka_contact_mappings.last_synced_at is
    'When both sides last agreed on something new.';
comment on column public.metakocka_contact_mappings.not_partners is
    'Partners that a person has said it is not: none of them is taken for it again.';
comment on policy "members can read which partners their contacts are" on public.metakocka_contact_mappings is
    'Whoever may read the contacts.';
