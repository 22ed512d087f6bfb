/*
    The suggestions in a merge and in its undo. A suggestion about the two contacts is settled. A
    suggestion about the dropped contact and a third one is passed on to the kept contact.
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
    A suggestion about the dropped contact and a third one, open or dismissed, now holds for the
    kept contact. The old rows stay: nobody sees them while the contact is gone, and they are
    there when it comes back.
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

    -- a suggestion that somebody has decided since stays decided
    delete from public.contact_suggestions s
    where s.id = any (merge.added_suggestions)
      and s.status <> 'merged'
      and (s.decided_at is null or s.decided_at <= merge.merged_at);
end
$$;


comment on function private.settle_suggestions(uuid, uuid, uuid) is
    'Marks the open suggestions of two contacts as merged; returns their ids.';
comment on function private.pass_on_suggestions(uuid, uuid, uuid) is
    'Notes the dropped contact''s suggestions for the kept one; returns the ids of the new ones.';
comment on function private.reopen_suggestions(public.contact_merges) is
    'Restores suggestions as they were, unless somebody has decided on them since.';
