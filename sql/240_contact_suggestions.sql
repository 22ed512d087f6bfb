/*
    Two contacts that may be one person. What is ambiguous is never guessed: it waits here for
    somebody who knows.
*/
create table public.contact_suggestions (
    id               uuid primary key default gen_random_uuid(),
    account_id       uuid not null,
    -- the lesser id first, so that a pair is one row
    contact_id       uuid not null,
    other_contact_id uuid not null,
    reason           text not null
                     constraint contact_suggestions_reason_check
                     check (reason in (
                         -- one WhatsApp sender is known of both, by number and by user id
                         'same_sender',
                         -- one's number or user id became the other's
                         'number_changed',
                         'user_id_changed',
                         'same_name',
                         'same_phone',
                         'same_email',
                         -- one imported row is known of both
                         'same_row',
                         'same_partner'
                     )),
    -- what speaks for it, to be shown: {phone, email, name …}
    evidence         jsonb not null default '{}',
    status           text not null default 'open'
                     constraint contact_suggestions_status_check
                     check (status in ('open', 'merged', 'dismissed')),
    decided_by       uuid
                     constraint contact_suggestions_decided_by_fkey
                     references auth.users on delete set null,
    decided_at       timestamptz,
    created_at       timestamptz not null default now(),

    constraint contact_suggestions_pair_check check (contact_id < other_contact_id),
    constraint contact_suggestions_pair_key
        unique (account_id, contact_id, other_contact_id, reason),
    constraint contact_suggestions_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint contact_suggestions_other_contact_fkey
        foreign key (other_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.contact_suggestions enable row level security;


create index contact_suggestions_contact_idx
    on public.contact_suggestions (contact_id, account_id);

create index contact_suggestions_other_contact_idx
    on public.contact_suggestions (other_contact_id, account_id);


create policy "members can read suggestions about their contacts"
    on public.contact_suggestions
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.contact_suggestions to authenticated;


create function private.suggest_merge(
    account_id uuid,
    contact_ids uuid[],
    reason text,
    evidence jsonb
)
    returns void
    language sql
    set search_path = ''
as $$
    -- what somebody has dismissed stays dismissed
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select
        suggest_merge.account_id,
        least(contact_ids[1], contact_ids[2]),
        greatest(contact_ids[1], contact_ids[2]),
        suggest_merge.reason,
        suggest_merge.evidence
    where contact_ids[1] <> contact_ids[2]
    on conflict (account_id, contact_id, other_contact_id, reason) do nothing
$$;


comment on table public.contact_suggestions is
    'Two contacts that may be one person, and why; see merge_contacts.';
comment on column public.contact_suggestions.evidence is
    'What speaks for it, to be shown to whoever decides.';
comment on policy "members can read suggestions about their contacts" on public.contact_suggestions is
    'Whoever may read the contacts.';
comment on function private.suggest_merge(uuid, uuid[], text, jsonb) is
    'Notes that two contacts may be one; a pair is noted once for a reason.';
