/*
    Merging contacts, undoing it, and suggesting it.
*/
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


-- the list to decide on, latest first
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
    -- definer: nobody else may write suggestions
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

    -- whoever says that two are not one says so whatever the reason
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
            message = 'The two have been merged meanwhile.',
            detail = format('suggestion: %s', suggestion_id),
            hint = 'Undo the merge, if they are not one.';
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
    'Two contacts that may be one person, and why; see merge_contacts.';
comment on column public.contact_suggestions.evidence is
    'What speaks for it, to be shown to whoever decides.';
comment on policy "members can read suggestions about their contacts" on public.contact_suggestions is
    'Whoever may read the contacts.';
comment on function private.suggest_merge(uuid, uuid[], text, jsonb) is
    'Notes that two contacts may be one; a pair is noted once for a reason.';
comment on view public.open_suggestions is
    'The suggestions that wait for a decision, with both names; those about a contact that is gone are left out.';
comment on column public.open_suggestions.name is
    'What the first contact is called.';
comment on column public.open_suggestions.other_name is
    'What the second contact is called.';
comment on function private.dismiss_pair(uuid) is
    'Dismisses a suggestion and the others about the same two contacts.';
comment on function public.dismiss_suggestion(uuid) is
    'Says that two contacts are not one: dismisses the suggestion and the others about the same two. Dismissed already: nothing changes; merged meanwhile: 409.';


/*
    What each merge did: both contacts as they were, the kept one as it became, and what moved.
    Nothing that either of them said is lost, and undo_merge takes back from here what nobody
    has changed since.
*/
create table public.contact_merges (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    kept_contact_id     uuid not null,
    dropped_contact_id  uuid not null,
    kept_before         jsonb not null,
    dropped_before      jsonb not null,
    kept_after          jsonb not null,
    -- whole rows: one that the kept contact gives up meanwhile can still come back
    moved_identities    jsonb not null
                        constraint contact_merges_moved_identities_check
                        check (jsonb_typeof(moved_identities) = 'array'),
    moved_conversations uuid[] not null,
    -- with those that moved, what is not among them was opened later
    kept_conversations  uuid[] not null,
    settled_suggestions uuid[] not null,
    added_suggestions   uuid[] not null,
    merged_by           uuid
                        constraint contact_merges_merged_by_fkey
                        references auth.users on delete set null,
    -- the clock's time under the contacts' locks, so that it orders the merges of a contact
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


-- what is merged is gone: it can't be merged a second time
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
    -- definer: nobody else may write the journal
    security definer
    set search_path = ''
as $$
declare
    -- the deleted one and all that were merged into it, at whatever remove
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
    'The journal of merges: who merged what when, both contacts before, the kept one after, and what moved.';
comment on column public.contact_merges.kept_before is
    'The kept contact''s row before the merge.';
comment on column public.contact_merges.dropped_before is
    'The dropped contact''s row before the merge.';
comment on column public.contact_merges.kept_after is
    'The kept contact''s row after the merge.';
comment on column public.contact_merges.moved_identities is
    'The identities that the kept contact took over, as rows.';
comment on column public.contact_merges.moved_conversations is
    'The conversations that the kept contact took over.';
comment on column public.contact_merges.kept_conversations is
    'The conversations that the kept contact had before.';
comment on column public.contact_merges.settled_suggestions is
    'The open suggestions of the two contacts, which the merge settled.';
comment on column public.contact_merges.added_suggestions is
    'The dropped contact''s suggestions with others, as noted anew for the kept one.';
comment on column public.contact_merges.undone_at is
    'When undo_merge took it back; null while it stands.';
comment on policy "members can read the merges of their contacts" on public.contact_merges is
    'Whoever may read the contacts.';
comment on function private.tg_contacts__forget_duplicates() is
    'Deleting a contact also deletes what journal and suggestions have kept of it.';


/*
    The parts that merging and undoing are made of: locking, deciding what the kept contact
    becomes, and moving conversations.
*/
create function private.lock_contacts(account_id uuid, contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.lock_identities(
        account_id => lock_contacts.account_id,
        contact_ids => lock_contacts.contact_ids,
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    perform
    from public.contacts c
    where c.id = any (contact_ids)
      and c.account_id = lock_contacts.account_id
    order by c.id
    for no key update;
end
$$;


create function private.merged_contact(kept public.contacts, dropped public.contacts)
    returns public.contacts
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    merged public.contacts := kept;
begin
    merged.name := coalesce(kept.name, dropped.name);
    -- a pair: the name and the message that brought it
    if kept.profile_name is null then
        merged.profile_name := dropped.profile_name;
        merged.profile_named_at := dropped.profile_named_at;
    end if;
    merged.phone := coalesce(kept.phone, dropped.phone);
    merged.email := coalesce(kept.email, dropped.email);
    merged.username := coalesce(kept.username, dropped.username);
    merged.portal_user_id := coalesce(kept.portal_user_id, dropped.portal_user_id);
    if kept.preferences = '{}' then
        merged.preferences := dropped.preferences;
    end if;
    merged.tags := kept.tags || array(
        select t.tag
        from unnest(dropped.tags) with ordinality as t (tag, place)
        where t.tag <> all (kept.tags)
        order by t.place
    );
    merged.notes := nullif(
        concat_ws(E'\n\n', kept.notes, nullif(dropped.notes, kept.notes)), '');
    return merged;
end
$$;


create function private.require_mergeable(kept public.contacts, dropped public.contacts)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    merged constant public.contacts := private.merged_contact(kept => kept, dropped => dropped);
begin
    if coalesce(kept.merged_into, dropped.merged_into) is not null then
        raise sqlstate 'PT409' using
            message = 'One of the two has already been merged.',
            detail = case
                when kept.merged_into is not null
                    then format('field: keep; contact: %s', kept.merged_into)
                else format('field: drop; contact: %s', dropped.merged_into)
            end,
            hint = 'Go on with the contact that it was merged into.';
    elsif coalesce(kept.deleted_at, dropped.deleted_at) is not null then
        raise sqlstate 'PT404' using
            message = 'One of the two has been deleted.',
            detail = case when kept.deleted_at is not null then 'field: keep' else 'field: drop' end;
    elsif kept.portal_user_id <> dropped.portal_user_id then
        raise sqlstate 'PT409' using
            message = 'Both enter the portal, each with a login of their own.',
            detail = 'field: portal_user_id',
            hint = 'Unlink the login of one of them first.';
    elsif cardinality(merged.tags) > 100 then
        raise sqlstate 'PT409' using
            message = 'Together they have more than 100 tags.',
            detail = 'field: tags',
            hint = 'Remove some of them first.';
    elsif length(merged.notes) > 20000 then
        raise sqlstate 'PT409' using
            message = 'Together their notes are longer than 20,000 characters.',
            detail = 'field: notes',
            hint = 'Shorten them first.';
    end if;
end
$$;


create function private.announce_login_move(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- by the name on which the login still listens: it asks for that of its new contact
    perform private.broadcast_to(
        topics => array[private.listened_topic(contact_id)],
        event => 'topics.changed',
        payload => '{}'
    );
end
$$;


create function private.move_conversations(
    account_id uuid,
    conversation_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    moved constant uuid[] := array(
        select k.id
        from public.conversations k
        where k.id = any (conversation_ids)
          and k.account_id = move_conversations.account_id
          and k.customer_id = from_contact_id
        order by k.id
        for update
    );
begin
    if moved = '{}' then
        return moved;
    end if;

    -- the foreign key moves them in any order, while statuses lock them by id
    perform
    from public.messages m
    where m.conversation_id = any (moved)
    order by m.id
    for no key update;

    update public.conversations k
    set customer_id = to_contact_id
    where k.id = any (moved);
    return moved;
end
$$;


comment on function private.lock_contacts(uuid, uuid[]) is
    'Locks contacts with their identities, in the lock order.';
comment on function private.merged_contact(public.contacts, public.contacts) is
    'The kept contact with what it takes over from the dropped one.';
comment on function private.require_mergeable(public.contacts, public.contacts) is
    'Refuses two contacts that can''t become one, with what to do about it.';
comment on function private.announce_login_move(uuid) is
    'Tells the login of a contact that its topics are about to change.';
comment on function private.move_conversations(uuid, uuid[], uuid, uuid) is
    'Gives conversations with their messages to another contact; returns those that the first one still had.';


/*
    Two contacts that are one person become one. Identities and conversations go to the kept
    contact, whose values win; what it lacks it takes over. Conversations are never joined:
    two open threads stay two. The dropped contact stays as a redirect, and the journal
    (contact_merges) keeps both as they were.
*/
create function private.merge_contact_pair(keep uuid, drop uuid)
    returns uuid
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    kept public.contacts;
    dropped public.contacts;
    merged public.contacts;
    journal public.contact_merges;
begin
    if keep = drop then
        raise sqlstate 'PT422' using
            message = 'A contact is not merged with itself.',
            detail = 'field: drop',
            hint = 'Name two contacts.';
    end if;
    select k.account_id
    into account
    from public.contacts k
    join public.contacts d
        on d.id = drop
       and d.account_id = k.account_id
    where k.id = keep
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There are no two such contacts, or they are not yours to see.',
            detail = 'field: keep, drop';
    end if;
    perform private.require_writable(account);

    perform private.lock_contacts(account_id => account, contact_ids => array[keep, drop]);
    select c.* into strict kept from public.contacts c where c.id = keep;
    select c.* into strict dropped from public.contacts c where c.id = drop;
    perform private.require_mergeable(kept => kept, dropped => dropped);
    merged := private.merged_contact(kept => kept, dropped => dropped);

    journal.id := gen_random_uuid();
    journal.kept_conversations := array(
        select k.id
        from public.conversations k
        where k.customer_id = keep
        order by k.id
    );

    -- in two steps: whoever enters the portal by this contact hears of leaving it
    if dropped.portal_user_id is not null then
        perform private.announce_login_move(drop);
        update public.contacts c
        set portal_user_id = null
        where c.id = drop;
    end if;
    update public.contacts c
    set deleted_at = now(),
        merged_into = keep,
        name = null,
        profile_name = null,
        profile_named_at = null,
        phone = null,
        email = null,
        username = null,
        tags = '{}',
        notes = null,
        preferences = '{}'
    where c.id = drop;

    -- an update of no row would still run the table's triggers
    if merged is distinct from kept then
        update public.contacts c
        set name = merged.name,
            profile_name = merged.profile_name,
            profile_named_at = merged.profile_named_at,
            phone = merged.phone,
            email = merged.email,
            username = merged.username,
            tags = merged.tags,
            notes = merged.notes,
            portal_user_id = merged.portal_user_id,
            preferences = merged.preferences
        where c.id = keep
        returning * into merged;
    end if;

    with moved as (
        update public.contact_identities o
        set contact_id = keep
        where o.contact_id = drop
          and o.account_id = account
        returning o.*
    )
    select coalesce(jsonb_agg(to_jsonb(m) order by m.kind, m.match_key), '[]')
    into journal.moved_identities
    from moved m;

    journal.moved_conversations := private.move_conversations(
        account_id => account,
        conversation_ids => array(
            select k.id from public.conversations k where k.customer_id = drop),
        from_contact_id => drop,
        to_contact_id => keep
    );

    insert into public.contact_merges (
        id, account_id, kept_contact_id, dropped_contact_id, kept_before, dropped_before,
        kept_after, moved_identities, moved_conversations, kept_conversations,
        settled_suggestions, added_suggestions, merged_by
    )
    values (
        journal.id,
        account,
        keep,
        drop,
        to_jsonb(kept),
        to_jsonb(dropped),
        to_jsonb(merged),
        journal.moved_identities,
        journal.moved_conversations,
        journal.kept_conversations,
        private.settle_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        private.pass_on_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        auth.uid()
    );
    return journal.id;
end
$$;

grant execute on function private.merge_contact_pair(uuid, uuid) to authenticated;


create function public.merge_contacts(keep uuid, drop uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    merge_id constant uuid := private.merge_contact_pair(keep => keep, drop => drop);
begin
    return jsonb_build_object(
        'merge_id', merge_id,
        'contact', (select to_jsonb(v) from public.contacts_v2 v where v.id = keep)
    );
end
$$;

grant execute on function public.merge_contacts(uuid, uuid) to authenticated;


comment on function private.merge_contact_pair(uuid, uuid) is
    'Merges and writes the journal; returns the merge''s id.';
comment on function public.merge_contacts(uuid, uuid) is
    'Merges the contact drop into the contact keep, whose values win: {merge_id, contact}, the contact as in contacts_v2. Conversations move and stay apart; undo_merge takes it back. Already merged, or both with a portal login: 409.';


/*
    Takes a merge back from its journal. What has been changed since is somebody's decision: it
    stays with the kept contact and is named in the answer. Merges of one contact are undone
    last first, since each was made from what the one before had left.
*/
create function private.reclaim_identities(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
begin
    -- those that moved and those that the two have now, in the lock order
    for wanted in
        select w.kind, w.match_key, (jsonb_agg(w.moved) filter (where w.moved is not null)) -> 0 as moved
        from (
            select i.value ->> 'kind', i.value ->> 'match_key', i.value
            from jsonb_array_elements(merge.moved_identities) i
            union all
            select o.kind, o.match_key, null
            from public.contact_identities o
            where o.contact_id in (merge.kept_contact_id, merge.dropped_contact_id)
              and o.account_id = merge.account_id
        ) as w (kind, match_key, moved)
        group by w.kind, w.match_key
        order by w.kind, w.match_key
    loop
        -- one that the kept contact has given up, and nobody has taken
        if wanted.moved is not null then
            insert into public.contact_identities (
                account_id, kind, value, wa_id, created_at, contact_id
            )
            select
                merge.account_id, r.kind, r.value, r.wa_id, r.created_at, merge.dropped_contact_id
            from jsonb_populate_record(null::public.contact_identities, wanted.moved) r
            on conflict do nothing;
        end if;

        perform
        from public.contact_identities o
        where o.account_id = merge.account_id
          and o.kind = wanted.kind
          and o.match_key = wanted.match_key
        for update;
    end loop;
end
$$;


create function private.require_undoable(merge_id uuid)
    returns public.contact_merges
    language plpgsql
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    later_merge_id uuid;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge any more.',
            detail = format('merge: %s', merge_id);
    elsif merge.undone_at is not null then
        raise sqlstate 'PT409' using
            message = 'This merge has already been undone.',
            detail = format('merge: %s', merge_id);
    end if;

    select m.id
    into later_merge_id
    from public.contact_merges m
    where m.account_id = merge.account_id
      and m.undone_at is null
      and (
          m.dropped_contact_id = merge.kept_contact_id
          or (m.kept_contact_id = merge.kept_contact_id and m.merged_at > merge.merged_at)
      )
    order by m.merged_at desc
    limit 1;
    if found then
        raise sqlstate 'PT409' using
            message = 'A later merge builds on this one.',
            detail = format('merge: %s', later_merge_id),
            hint = 'Undo that one first.';
    end if;
    return merge;
end
$$;


create function private.unmerged_fields(
    merge public.contact_merges,
    present public.contacts,
    out restored jsonb,
    out changed_since jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- read as rows and written again: times compare whatever the session's time zone
    before constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_before));
    merged constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_after));
    now_there constant jsonb := to_jsonb(present);
    field text;
begin
    restored := '{}';
    changed_since := '[]';
    foreach field in array array[
        'name', 'profile_name', 'phone', 'email', 'username', 'portal_user_id', 'preferences',
        'tags', 'notes'
    ] loop
        if merged -> field = before -> field then
            continue;
        elsif now_there -> field = merged -> field then
            restored := restored || jsonb_build_object(field, before -> field);
        else
            changed_since := changed_since || jsonb_build_object(
                'field', field, 'merged', merged -> field, 'now', now_there -> field);
        end if;
    end loop;
    if restored ? 'profile_name' then
        restored := restored || jsonb_build_object('profile_named_at', before -> 'profile_named_at');
    end if;
end
$$;


create function private.return_identities(merge public.contact_merges)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    kept_before constant public.contacts :=
        jsonb_populate_record(null::public.contacts, merge.kept_before);
    kept public.contacts;
    moved record;
    not_returned jsonb := '[]';
begin
    select c.*
    into strict kept
    from public.contacts c
    where c.id = merge.kept_contact_id;

    for moved in
        select
            o.kind,
            o.match_key,
            o.value,
            o.contact_id,
            -- staff wrote it down for the kept contact since the merge
            w.now_shown = o.match_key and w.shown_before is distinct from o.match_key as wanted
        from jsonb_array_elements(merge.moved_identities) i
        join public.contact_identities o
            on o.account_id = merge.account_id
           and o.kind = i.value ->> 'kind'
           and o.match_key = i.value ->> 'match_key'
        cross join lateral (
            select
                private.match_key(
                    kind => o.kind, value => to_jsonb(kept) ->> o.kind) as now_shown,
                private.match_key(
                    kind => o.kind, value => to_jsonb(kept_before) ->> o.kind) as shown_before
        ) w
        where o.contact_id <> merge.dropped_contact_id
        order by o.kind, o.match_key
    loop
        if moved.contact_id = merge.kept_contact_id and moved.wanted is not true then
            update public.contact_identities o
            set contact_id = merge.dropped_contact_id
            where o.account_id = merge.account_id
              and o.kind = moved.kind
              and o.match_key = moved.match_key;
        else
            not_returned := not_returned || jsonb_build_object(
                'kind', moved.kind,
                'value', moved.value,
                'reason', case
                    when moved.contact_id = merge.kept_contact_id then 'written_since'
                    else 'belongs_to_another'
                end,
                'contact_id', moved.contact_id
            );
        end if;
    end loop;
    return not_returned;
end
$$;


create function private.return_conversations(merge public.contact_merges)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    returned constant uuid[] := private.move_conversations(
        account_id => merge.account_id,
        conversation_ids => merge.moved_conversations,
        from_contact_id => merge.kept_contact_id,
        to_contact_id => merge.dropped_contact_id
    );
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'kind', 'conversation',
                    'value', k.id,
                    'reason', case
                        when k.id = any (merge.moved_conversations) then 'belongs_to_another'
                        else 'opened_since'
                    end,
                    'contact_id', k.customer_id
                )
                order by k.created_at, k.id),
            '[]')
        from public.conversations k
        where k.account_id = merge.account_id
          and k.id <> all (returned)
          and (
              k.id = any (merge.moved_conversations)
              or (
                  k.customer_id = merge.kept_contact_id
                  and k.id <> all (merge.kept_conversations)
              )
          )
    );
end
$$;


create function private.undo_contact_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    kept public.contacts;
    dropped public.contacts;
    fields record;
    login_returns boolean;
    not_returned jsonb;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
      and m.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge, or it is not yours to see.',
            detail = format('merge: %s', merge_id);
    end if;
    perform private.require_writable(merge.account_id);

    perform private.reclaim_identities(merge);
    perform
    from public.contacts c
    where c.id in (merge.kept_contact_id, merge.dropped_contact_id)
    order by c.id
    for no key update;
    merge := private.require_undoable(merge_id);

    select c.* into strict kept from public.contacts c where c.id = merge.kept_contact_id;
    dropped := jsonb_populate_record(null::public.contacts, merge.dropped_before);
    select * into fields from private.unmerged_fields(merge => merge, present => kept);

    not_returned := '[]';
    login_returns := kept.portal_user_id = dropped.portal_user_id;
    if login_returns then
        perform private.announce_login_move(kept.id);
    elsif dropped.portal_user_id is not null then
        not_returned := not_returned || jsonb_build_object(
            'kind', 'portal_user_id',
            'value', dropped.portal_user_id,
            'reason', 'unlinked_since',
            'contact_id', null
        );
    end if;

    -- an update of no row would still run the table's triggers
    if fields.restored <> '{}' then
        update public.contacts c
        set name = r.name,
            profile_name = r.profile_name,
            profile_named_at = r.profile_named_at,
            phone = r.phone,
            email = r.email,
            username = r.username,
            tags = r.tags,
            notes = r.notes,
            portal_user_id = r.portal_user_id,
            preferences = r.preferences
        from jsonb_populate_record(kept, fields.restored) r
        where c.id = kept.id;
    end if;
    update public.contacts c
    set deleted_at = null,
        merged_into = null,
        name = dropped.name,
        profile_name = dropped.profile_name,
        profile_named_at = dropped.profile_named_at,
        phone = dropped.phone,
        email = dropped.email,
        username = dropped.username,
        tags = dropped.tags,
        notes = dropped.notes,
        portal_user_id = case when login_returns then dropped.portal_user_id end,
        preferences = dropped.preferences
    where c.id = dropped.id;

    not_returned := not_returned
        || private.return_identities(merge)
        || private.return_conversations(merge);
    perform private.reopen_suggestions(merge);

    update public.contact_merges m
    set undone_at = clock_timestamp(),
        undone_by = auth.uid()
    where m.id = merge.id;
    return jsonb_build_object(
        'kept', kept.id,
        'restored', dropped.id,
        'changed_since', fields.changed_since,
        'not_returned', not_returned
    );
end
$$;

grant execute on function private.undo_contact_merge(uuid) to authenticated;


create function public.undo_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    undone constant jsonb := private.undo_contact_merge(merge_id);
begin
    return undone || (
        select jsonb_build_object(
            'kept', (select to_jsonb(k) from public.contacts_v2 k where k.id = i.kept),
            'restored', (select to_jsonb(r) from public.contacts_v2 r where r.id = i.restored)
        )
        from jsonb_to_record(undone) as i (kept uuid, restored uuid)
    );
end
$$;

grant execute on function public.undo_merge(uuid) to authenticated;


comment on function private.reclaim_identities(public.contact_merges) is
    'Locks what undoing a merge moves, and claims for the dropped contact what is free again.';
comment on function private.require_undoable(uuid) is
    'A merge, locked; refused where it has been undone or another builds on it.';
comment on function private.unmerged_fields(public.contact_merges, public.contacts) is
    'The kept contact''s fields that go back to what they were, and those that were changed since.';
comment on function private.return_identities(public.contact_merges) is
    'Gives the dropped contact its identities back; returns those that stay where they are.';
comment on function private.return_conversations(public.contact_merges) is
    'Gives the dropped contact its conversations back; returns those that stay where they are.';
comment on function private.undo_contact_merge(uuid) is
    'Undoes a merge: {kept, restored, changed_since, not_returned}, the contacts by their ids.';
comment on function public.undo_merge(uuid) is
    'Takes a merge back: {kept, restored, changed_since: [{field, merged, now}], not_returned: [{kind, value, reason, contact_id}]}, the contacts as in contacts_v2. What was changed, opened or unlinked since the merge stays with the kept contact and is named. Undone already, or a later merge builds on it: 409.';


/*
    Looks for contacts that may be one person: the same name, or a phone or email written down
    for one that another has. Anybody can write a number into the portal, so what is only
    written down never finds a contact by itself: it is evidence for whoever decides.
*/
create function private.shared_values(account_id uuid)
    returns table (reason text, match_key text, contact_ids uuid[], value text, known_of uuid)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with live as (
            select c.id, coalesce(c.name, c.profile_name) as name, c.phone, c.email
            from public.contacts c
            where c.account_id = shared_values.account_id
              and c.deleted_at is null
        ),
        known as (
            select o.contact_id, o.kind, o.match_key, o.value
            from public.contact_identities o
            join live l
                on l.id = o.contact_id
            where o.account_id = shared_values.account_id
              and o.kind in ('phone', 'email')
        ),
        written as (
            select l.id as contact_id, w.kind, w.value
            from live l
            cross join lateral (values ('phone', l.phone), ('email', l.email)) as w (kind, value)
            where w.value is not null
            -- most are known by just what is written: no need to take its key
            except
            select k.contact_id, k.kind, k.value
            from known k
        ),
        said as (
            select
                'same_name' as reason,
                lower(regexp_replace(btrim(l.name), '\s+', ' ', 'g')) as match_key,
                l.id as contact_id,
                l.name as value,
                false as is_known
            from live l
            where btrim(l.name) <> ''
            union all
            select 'same_' || k.kind, k.match_key, k.contact_id, k.value, true
            from known k
            union all
            select
                'same_' || w.kind,
                private.match_key(kind => w.kind, value => w.value),
                w.contact_id,
                w.value,
                false
            from written w
        )
        select
            s.reason,
            s.match_key,
            array_agg(distinct s.contact_id),
            min(s.value),
            -- an identity has one owner
            (array_agg(s.contact_id) filter (where s.is_known))[1]
        from said s
        group by s.reason, s.match_key
        -- what more have in common is the name of a firm, or of half a village
        having count(distinct s.contact_id) between 2 and 3;
end
$$;


create function private.add_duplicates(account_id uuid)
    returns integer
    language plpgsql
    -- definer: nobody else may write suggestions
    security definer
    set search_path = ''
as $$
declare
    added integer;
begin
    perform private.require_writable(add_duplicates.account_id);

    with pairs as (
        select
            lesser.id as contact_id,
            greater.id as other_contact_id,
            v.reason,
            case v.reason
                when 'same_name' then jsonb_build_object('name', v.value)
                when 'same_phone' then jsonb_build_object('phone', v.value, 'known_of', v.known_of)
                else jsonb_build_object('email', v.value, 'known_of', v.known_of)
            end as evidence
        from private.shared_values(add_duplicates.account_id) v
        cross join lateral unnest(v.contact_ids) as lesser (id)
        cross join lateral unnest(v.contact_ids) as greater (id)
        where lesser.id < greater.id
    ),
    fresh as (
        -- two contacts may share more than one spelling of a reason
        select distinct on (
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id
        ) p.*
        from pairs p
        where not exists (
            select
            from public.contact_suggestions s
            where s.account_id = add_duplicates.account_id
              and s.contact_id = p.contact_id
              and s.other_contact_id = p.other_contact_id
              and s.reason = p.reason
        )
        -- a name says less than a phone or an email, and comes after them
        order by
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id, p.evidence
        limit 500
    )
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select add_duplicates.account_id, f.contact_id, f.other_contact_id, f.reason, f.evidence
    from fresh f
    order by f.contact_id, f.other_contact_id, f.reason
    on conflict on constraint contact_suggestions_pair_key do nothing;

    get diagnostics added = row_count;
    return added;
end
$$;

grant execute on function private.add_duplicates(uuid) to authenticated;


create function public.suggest_duplicates(account_id uuid)
    returns integer
    language plpgsql
    set search_path = ''
as $$
begin
    return private.add_duplicates(suggest_duplicates.account_id);
end
$$;

grant execute on function public.suggest_duplicates(uuid) to authenticated;


comment on function private.shared_values(uuid) is
    'Names, phones and emails that two or three contacts of an account share; known_of is the one that is recognised by it.';
comment on function private.add_duplicates(uuid) is
    'Notes what looks like one person, at most 500 pairs; returns how many are new.';
comment on function public.suggest_duplicates(uuid) is
    'Looks for contacts of an account that may be one person and adds them to open_suggestions; returns how many are new, at most 500: call again while there are as many. What was dismissed is not suggested again.';


/*
    What a merge does to suggestions, and what undoing it gives back: those about the two
    contacts are settled, those about the dropped one and others are passed on.
*/
create function private.settle_suggestions(account_id uuid, kept_id uuid, dropped_id uuid)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    settled uuid[];
begin
    with settled_rows as (
        update public.contact_suggestions s
        set status = 'merged',
            decided_by = auth.uid(),
            decided_at = now()
        where s.account_id = settle_suggestions.account_id
          and s.contact_id = least(kept_id, dropped_id)
          and s.other_contact_id = greatest(kept_id, dropped_id)
          and s.status = 'open'
        returning s.id
    )
    select coalesce(array_agg(r.id), '{}')
    into settled
    from settled_rows r;
    return settled;
end
$$;


create function private.pass_on_suggestions(account_id uuid, kept_id uuid, dropped_id uuid)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
/*
    What was suspected of the dropped contact and a third, or ruled out, now holds of the kept
    one. The old rows stay, unseen while the contact is gone, and are there when it comes back.
*/
declare
    added uuid[];
begin
    with others as (
        select
            case when s.contact_id = dropped_id then s.other_contact_id else s.contact_id end
                as third_id,
            s.reason,
            s.evidence,
            s.status,
            s.decided_by,
            s.decided_at
        from public.contact_suggestions s
        where s.account_id = pass_on_suggestions.account_id
          and dropped_id in (s.contact_id, s.other_contact_id)
          and s.status in ('open', 'dismissed')
    ),
    added_rows as (
        insert into public.contact_suggestions (
            account_id, contact_id, other_contact_id, reason, evidence, status,
            decided_by, decided_at
        )
        select
            pass_on_suggestions.account_id,
            least(kept_id, o.third_id) as lesser_id,
            greatest(kept_id, o.third_id) as greater_id,
            o.reason,
            o.evidence,
            o.status,
            o.decided_by,
            o.decided_at
        from others o
        join public.contacts c
            on c.id = o.third_id
           and c.deleted_at is null
        where o.third_id <> kept_id
        order by lesser_id, greater_id, o.reason
        on conflict on constraint contact_suggestions_pair_key do nothing
        returning id
    )
    select coalesce(array_agg(r.id), '{}')
    into added
    from added_rows r;
    return added;
end
$$;


create function private.reopen_suggestions(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.contact_suggestions s
    set status = 'open',
        decided_by = null,
        decided_at = null
    where s.id = any (merge.settled_suggestions)
      and s.status = 'merged';

    -- those that somebody has decided on since stay decided
    delete from public.contact_suggestions s
    where s.id = any (merge.added_suggestions)
      and s.status <> 'merged'
      and (s.decided_at is null or s.decided_at <= merge.merged_at);
end
$$;


comment on function private.settle_suggestions(uuid, uuid, uuid) is
    'Marks the open suggestions of two contacts as merged; returns their ids.';
comment on function private.pass_on_suggestions(uuid, uuid, uuid) is
    'Notes the dropped contact''s suggestions for the kept one; returns the ids of those that are new.';
comment on function private.reopen_suggestions(public.contact_merges) is
    'Puts suggestions back as they were, unless somebody has decided on them since.';
