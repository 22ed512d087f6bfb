/*
    The undo of a merge gives identities and conversations back to the contact that had them,
    unless somebody has given them to another contact since.
*/
create function private.reclaim_identities(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
begin
    -- the identities that moved and those that the two contacts have now, in the lock order
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
        -- an identity that the kept contact has given up and nobody has taken
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


create function private.shows_identity(contact public.contacts, kind text, match_key text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.claimed_identities(to_jsonb(contact)) k
        where k.kind = shows_identity.kind
          and private.match_key(kind => k.kind, value => k.value) = shows_identity.match_key
    );
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
            -- staff have written it for the kept contact since the merge
            w.is_shown and not w.was_shown as wanted
        from jsonb_array_elements(merge.moved_identities) i
        join public.contact_identities o
            on o.account_id = merge.account_id
           and o.kind = i.value ->> 'kind'
           and o.match_key = i.value ->> 'match_key'
        cross join lateral (
            select
                private.shows_identity(kept, o.kind, o.match_key)
                    -- its customer may have seen it in the portal and written it
                    and not private.is_customer_word(
                        contact_id => kept.id, kind => o.kind, value => o.value) as is_shown,
                private.shows_identity(kept_before, o.kind, o.match_key) as was_shown
        ) w
        where o.contact_id <> merge.dropped_contact_id
        order by o.kind, o.match_key
    loop
        if moved.contact_id = merge.kept_contact_id and not moved.wanted then
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


create function private.returned_login(merge public.contact_merges, kept public.contacts)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    brought constant uuid := merge.dropped_before ->> 'portal_user_id';
    invited uuid;
begin
    if brought is not null then
        return case when kept.portal_user_id = brought then brought end;
    elsif kept.portal_user_id::text = merge.kept_before ->> 'portal_user_id' then
        return null;
    end if;

    -- a login that has come in since by the dropped contact's invitation belongs to that person
    select p.contact_id
    into invited
    from public.portal_invitations p
    where p.account_id = merge.account_id
      and p.claimed_by = kept.portal_user_id
    order by p.claimed_at desc
    limit 1;
    return case
        when invited in (
            with recursive lineage as (
                select merge.dropped_contact_id as id
                union
                select c.id
                from lineage l
                join public.contacts c
                    on c.merged_into = l.id
            )
            select l.id
            from lineage l
        )
            then kept.portal_user_id
    end;
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


comment on function private.reclaim_identities(public.contact_merges) is
    'Locks the identities that the undo of a merge moves, and claims those that are free again for the dropped contact.';
comment on function private.shows_identity(public.contacts, text, text) is
    'Whether a contact shows an identity in its own columns.';
comment on function private.return_identities(public.contact_merges) is
    'Gives the dropped contact its identities back; returns those that stay, with the reason.';
comment on function private.returned_login(public.contact_merges, public.contacts) is
    'The login that goes to the dropped contact: the one that it had, or one that has come in by its invitation since.';
comment on function private.return_conversations(public.contact_merges) is
    'Gives the dropped contact its conversations back; returns those that stay, with the reason.';
