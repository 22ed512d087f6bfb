/*
    The journal of merges: both contacts before the merge, the kept one after it, and the rows
    that moved. No value of either contact is lost. undo_merge restores from it the values that
    nobody has changed since.
*/
create table public.contact_merges (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    kept_contact_id     uuid not null,
    dropped_contact_id  uuid not null,
    kept_before         jsonb not null,
    dropped_before      jsonb not null,
    kept_after          jsonb not null,
    -- whole rows: an identity that the kept contact gives up later can still come back
    moved_identities    jsonb not null
                        constraint contact_merges_moved_identities_check
                        check (jsonb_typeof(moved_identities) = 'array'),
    moved_conversations uuid[] not null,
    -- jobs, invoices and points, as move_customer_rows describes them
    moved_customer_rows jsonb not null default '{}',
    -- conversations in neither list were opened after the merge
    kept_conversations  uuid[] not null,
    settled_suggestions uuid[] not null,
    added_suggestions   uuid[] not null,
    merged_by           uuid
                        constraint contact_merges_merged_by_fkey
                        references auth.users on delete set null,
    -- clock_timestamp() under the contacts' locks, so that it orders the merges of a contact
    merged_at           timestamptz not null default clock_timestamp(),
    undone_by           uuid
                        constraint contact_merges_undone_by_fkey
                        references auth.users on delete set null,
    undone_at           timestamptz,

    constraint contact_merges_pair_check check (kept_contact_id <> dropped_contact_id),
    constraint contact_merges_undone_check check (undone_by is null or undone_at is not null),
    constraint contact_merges_kept_contact_fkey
        foreign key (kept_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint contact_merges_dropped_contact_fkey
        foreign key (dropped_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.contact_merges enable row level security;


-- a merged contact is gone and can't be merged again
create unique index contact_merges_dropped_contact_key
    on public.contact_merges (dropped_contact_id)
    where undone_at is null;

create index contact_merges_dropped_contact_idx
    on public.contact_merges (dropped_contact_id, account_id);

create index contact_merges_kept_contact_idx
    on public.contact_merges (kept_contact_id, account_id);


create policy "members can read the merges of their contacts"
    on public.contact_merges
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.contact_merges to authenticated;


create function private.tg_contacts__forget_duplicates()
    returns trigger
    language plpgsql
    -- definer: users may not write the journal
    security definer
    set search_path = ''
as $$
declare
    -- the deleted contact and all contacts that were merged into it, directly or not
    gone constant uuid[] := array(
        with recursive chain as (
            select new.id
            union
            select c.id
            from chain d
            join public.contacts c
                on c.merged_into = d.id
        )
        select d.id
        from chain d
    );
begin
    delete from public.contact_merges m
    where m.account_id = new.account_id
      and (m.kept_contact_id = any (gone) or m.dropped_contact_id = any (gone));

    delete from public.contact_suggestions s
    where s.account_id = new.account_id
      and (s.contact_id = any (gone) or s.other_contact_id = any (gone));
    return null;
end
$$;

create trigger _600_forget_duplicates
    after update of deleted_at on public.contacts
    for each row
    when (old.deleted_at is null and new.deleted_at is not null and new.merged_into is null)
    execute function private.tg_contacts__forget_duplicates();


comment on table public.contact_merges is
    'The journal of merges: who merged which contacts and when, both contacts before, the kept one after, and the rows that moved.';
comment on column public.contact_merges.id is
    'Identifies the merge; undo_merge takes it.';
comment on column public.contact_merges.account_id is
    'The account of both contacts.';
comment on column public.contact_merges.kept_contact_id is
    'The contact that stayed.';
comment on column public.contact_merges.dropped_contact_id is
    'The contact that was merged into the kept one.';
comment on column public.contact_merges.kept_before is
    'The kept contact''s row before the merge.';
comment on column public.contact_merges.dropped_before is
    'The dropped contact''s row before the merge.';
comment on column public.contact_merges.kept_after is
    'The kept contact''s row after the merge.';
comment on column public.contact_merges.moved_identities is
    'The identities that moved to the kept contact, as rows.'
    ' Type: contact_identities[]';
comment on column public.contact_merges.moved_conversations is
    'The ids of the conversations that moved to the kept contact.';
comment on column public.contact_merges.kept_conversations is
    'The ids of the conversations that the kept contact had before.';
comment on column public.contact_merges.moved_customer_rows is
    'The rows that moved to the kept contact: jobs, invoices and loyalty_transactions by their ids, and loyalty_lots with the points left of each.'
    ' Type: {jobs: uuid[], invoices: uuid[], loyalty_transactions: uuid[], loyalty_lots: {[text]: bigint}}';
comment on column public.contact_merges.settled_suggestions is
    'The ids of the suggestions about the two contacts that the merge settled.';
comment on column public.contact_merges.added_suggestions is
    'The ids of the suggestions that the kept contact took over from the dropped one.';
comment on column public.contact_merges.merged_by is
    'The user who merged the contacts.';
comment on column public.contact_merges.merged_at is
    'When the contacts were merged (server time, UTC).';
comment on column public.contact_merges.undone_by is
    'The user who undid the merge; null while it stands.';
comment on column public.contact_merges.undone_at is
    'When the merge was undone (server time, UTC); null while it stands.';
comment on policy "members can read the merges of their contacts" on public.contact_merges is
    'Members who may read the contacts may read the journal.';
comment on function private.tg_contacts__forget_duplicates() is
    'When a contact is deleted, deletes its merges in the journal and its suggestions.';
