/*
    Undoes a merge from its journal. A value that somebody has changed since stays with the kept
    contact, and the answer names it. Merges of one contact are undone last first, because each
    began with the result of the one before.
*/
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
            detail = format('merge: %s', merge_id),
            hint = 'Read both contacts: they are separate again.';
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
            hint = 'Undo that merge first.';
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
    -- converted through rows, so that times compare in every time zone of the session
    before constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_before));
    merged constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_after));
    now_there constant jsonb := to_jsonb(present);
    field text;
begin
    restored := '{}';
    changed_since := '[]';
    for field in
        select f.field
        from private.contact_fields f
        order by f.place
    loop
        if merged -> field = before -> field then
            continue;
        elsif now_there -> field = merged -> field then
            restored := restored || jsonb_build_object(field, before -> field);
        else
            changed_since := changed_since || jsonb_build_object(
                'field', field, 'merged', merged -> field, 'now', now_there -> field);
        end if;
    end loop;
    if restored ? 'marketing_stopped_at' then
        restored := restored || jsonb_build_object(
            'marketing_chosen_at', before -> 'marketing_chosen_at');
    end if;
    if restored ? 'profile_name' then
        restored := restored || jsonb_build_object('profile_named_at', before -> 'profile_named_at');
    end if;
end
$$;


create function private.return_sent_reminders(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- those since the merge counted the points of both
    insert into private.sent_reminders (
        rule_id, subject_id, occasion, account_id, reason, settled_at, over_at
    )
    select
        s.rule_id, merge.dropped_contact_id, s.occasion, s.account_id, s.reason, s.settled_at,
        s.over_at
    from public.reminder_rules r
    join private.sent_reminders s
        on s.rule_id = r.id
       and s.subject_id = merge.kept_contact_id
    where r.account_id = merge.account_id
      and s.settled_at >= merge.merged_at
    on conflict do nothing;
end
$$;


create function private.undo_contact_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    kept public.contacts;
    dropped public.contacts;
    fields record;
    login uuid;
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
    -- over the blank row: the journal lacks columns that were added later
    select d.*
    into strict dropped
    from public.contacts c
    cross join lateral jsonb_populate_record(c, merge.dropped_before) d
    where c.id = merge.dropped_contact_id;
    select * into fields from private.unmerged_fields(merge => merge, present => kept);

    not_returned := '[]';
    login := private.returned_login(merge => merge, kept => kept);
    if login is not null then
        perform private.announce_login_move(kept.id);
        fields.restored := fields.restored || '{"portal_user_id": null}';
    elsif dropped.portal_user_id is not null then
        not_returned := not_returned || jsonb_build_object(
            'kind', 'portal_user_id',
            'value', dropped.portal_user_id,
            'reason', 'unlinked_since',
            'contact_id', null
        );
    end if;

    -- an update that finds no row would still run the table's triggers
    if fields.restored <> '{}' then
        perform private.write_contacts(array[jsonb_populate_record(kept, fields.restored)]);
    end if;
    dropped.portal_user_id := login;
    perform private.write_contacts(array[dropped]);

    not_returned := not_returned
        || private.return_identities(merge)
        -- before the conversations: a booking's conversation moves with its job
        || private.return_customer_rows(
            account_id => merge.account_id,
            moved => merge.moved_customer_rows,
            from_contact_id => merge.kept_contact_id,
            to_contact_id => merge.dropped_contact_id
        )
        || private.return_conversations(merge);
    perform private.return_sent_reminders(merge);
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


comment on function private.require_undoable(uuid) is
    'A merge, locked; refused if it has been undone, or if another merge builds on it.';
comment on function private.unmerged_fields(public.contact_merges, public.contacts) is
    'The fields of the kept contact that get their earlier values back, and those that were changed since.';
comment on function private.return_sent_reminders(public.contact_merges) is
    'Notes for the restored contact the reminders that the kept one got since the merge.';
comment on function private.undo_contact_merge(uuid) is
    'Undoes a merge: {kept, restored, changed_since, not_returned}, the contacts by their ids.';
comment on function public.undo_merge(uuid) is
    'Undoes a merge and returns both contacts. What was changed, opened or unlinked since the merge stays with the kept contact, and the answer names it. A login that came in by the dropped contact''s invitation goes back with that contact. If the merge is already undone, or a later one builds on it: 409.'
    ' Type: {kept: contacts_v2, restored: contacts_v2, changed_since: {field: text, merged: json | null, now: json | null}[], not_returned: {kind: text, value: text, reason: text, contact_id: uuid | null}[]}';
