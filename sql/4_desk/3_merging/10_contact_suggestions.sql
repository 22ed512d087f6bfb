/*
    Pairs of contacts that may be one person. The software never guesses: a pair waits here until
    a person decides.
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
                         -- one WhatsApp sender belongs to both, by number and by user id
                         'same_sender',
                         -- the number or user id of one became that of the other
                         'number_changed',
                         'user_id_changed',
                         'same_name',
                         'same_phone',
                         'same_email',
                         -- one imported row belongs to both
                         'same_row',
                         'same_partner'
                     )),
    -- the evidence, for clients to show: {phone, email, name …}
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


-- the open suggestions, latest first
create index contact_suggestions_open_idx
    on public.contact_suggestions (account_id, created_at desc, id)
    where status = 'open';

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
    -- a dismissed pair stays dismissed
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


create view public.open_suggestions
    with (security_invoker = true)
as
select
    s.id,
    s.account_id,
    s.contact_id,
    coalesce(c.name, c.profile_name) as name,
    s.other_contact_id,
    coalesce(o.name, o.profile_name) as other_name,
    s.reason,
    s.evidence,
    s.created_at
from public.contact_suggestions s
join public.contacts c
    on c.id = s.contact_id
   and c.deleted_at is null
join public.contacts o
    on o.id = s.other_contact_id
   and o.deleted_at is null
where s.status = 'open';


grant select on public.open_suggestions to authenticated;


create function private.dismiss_pair(suggestion_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write suggestions; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    suggestion public.contact_suggestions;
begin
    select s.*
    into suggestion
    from public.contact_suggestions s
    where s.id = suggestion_id
      and s.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such suggestion, or it is not yours to see.',
            detail = format('suggestion: %s', suggestion_id);
    end if;
    perform private.require_writable(suggestion.account_id);

    -- two contacts that are not one person are not one for any reason
    update public.contact_suggestions s
    set status = 'dismissed',
        decided_by = auth.uid(),
        decided_at = clock_timestamp()
    where s.account_id = suggestion.account_id
      and s.contact_id = suggestion.contact_id
      and s.other_contact_id = suggestion.other_contact_id
      and s.status = 'open';

    if not exists (
        select
        from public.contact_suggestions s
        where s.id = suggestion_id
          and s.status = 'dismissed'
    ) then
        raise sqlstate 'PT409' using
            message = 'The two contacts have been merged meanwhile.',
            detail = format('suggestion: %s', suggestion_id),
            hint = 'If they are not one person, undo the merge.';
    end if;
end
$$;

grant execute on function private.dismiss_pair(uuid) to authenticated;


create function public.dismiss_suggestion(suggestion_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.dismiss_pair(suggestion_id);
end
$$;

grant execute on function public.dismiss_suggestion(uuid) to authenticated;


comment on table public.contact_suggestions is
    'Pairs of contacts that may be one person, with the reason; see merge_contacts.';
comment on column public.contact_suggestions.id is
    'Identifies the suggestion; dismiss_suggestion takes it.';
comment on column public.contact_suggestions.account_id is
    'The account of both contacts.';
comment on column public.contact_suggestions.contact_id is
    'One of the two contacts: the one with the lesser id.';
comment on column public.contact_suggestions.other_contact_id is
    'The other contact.';
comment on column public.contact_suggestions.reason is
    'same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP).';
comment on column public.contact_suggestions.evidence is
    'The evidence that both are one person, for the member who decides: phone, email, name …'
    ' Type: {[text]: json}';
comment on column public.contact_suggestions.status is
    'open, merged or dismissed.';
comment on column public.contact_suggestions.decided_by is
    'The user who merged or dismissed the pair; null while it is open.';
comment on column public.contact_suggestions.decided_at is
    'When the pair was merged or dismissed (server time, UTC); null while it is open.';
comment on column public.contact_suggestions.created_at is
    'When the suggestion was made (server time, UTC).';
comment on policy "members can read suggestions about their contacts" on public.contact_suggestions is
    'Members who may read the contacts may read these rows.';
comment on function private.suggest_merge(uuid, uuid[], text, jsonb) is
    'Notes that two contacts may be one person; a pair is noted once for each reason.';
comment on view public.open_suggestions is
    'The suggestions that wait for a decision, with both names; suggestions about a deleted contact are left out.';
comment on column public.open_suggestions.id is
    'Identifies the suggestion; dismiss_suggestion takes it.';
comment on column public.open_suggestions.account_id is
    'The account of both contacts.';
comment on column public.open_suggestions.contact_id is
    'One of the two contacts: the one with the lesser id.';
comment on column public.open_suggestions.name is
    'The name of the first contact.';
comment on column public.open_suggestions.other_contact_id is
    'The other contact.';
comment on column public.open_suggestions.other_name is
    'The name of the other contact.';
comment on column public.open_suggestions.reason is
    'same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP).';
comment on column public.open_suggestions.evidence is
    'The evidence that both are one person, for the member who decides: phone, email, name …';
comment on column public.open_suggestions.created_at is
    'When the suggestion was made (server time, UTC).';
comment on function private.dismiss_pair(uuid) is
    'Dismisses a suggestion and all others about the same two contacts.';
comment on function public.dismiss_suggestion(uuid) is
    'Says that two contacts are not one person: dismisses the suggestion and all others about the same two contacts. A second call changes nothing. If the two have been merged meanwhile: 409.';
