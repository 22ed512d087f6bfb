/*
    WhatsApp says that a number or user id has become another one: here the identities are relinked.
    Contacts and conversations follow later, see move_whatsapp_threads.
*/
create function private.locked_owner(
    account_id uuid,
    kind text,
    match_key text,
    locked text[]
)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case
        when private.identity_name(account_id => account_id, kind => kind, match_key => match_key)
             = any (locked)
            then private.identity_owner(
                account_id => account_id, kind => kind, match_key => match_key)
    end;
end
$$;


create function private.relink_identities(
    changes private.identity_change[],
    claimed private.identity_change[],
    -- the old keys that had an owner when they were locked
    locked text[],
    out owner uuid,
    -- another contact that has one of the new keys; then nothing is relinked
    out other uuid
)
    language plpgsql
    set search_path = ''
as $$
/*
    The changes of one notice: a number, a user id or both.
*/
declare
    change private.identity_change;
    heir uuid;
    holder uuid;
begin
    foreach change in array changes loop
        owner := coalesce(
            owner,
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            )
        );
    end loop;
    if owner is null then
        return;
    end if;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        holder := private.identity_owner(
            account_id => change.account_id, kind => change.kind, match_key => change.new_key);
        if holder <> heir and not private.is_among(change, claimed) then
            owner := heir;
            other := holder;
            return;
        end if;
    end loop;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        perform private.claim_whatsapp_identity(
            account_id => change.account_id,
            kind => change.kind,
            value => change.new_value,
            contact_id => heir
        );
        update public.contact_identities o
        set contact_id = heir
        where o.account_id = change.account_id
          and o.kind = change.kind
          and o.match_key = change.new_key
          and o.contact_id <> heir;
        perform private.drop_identity(
            account_id => change.account_id, kind => change.kind, match_key => change.old_key);
    end loop;
end
$$;


create function private.relink_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A notice continues under the new number. If another contact has the new number, it stays with
    the old number's owner, and other_contact_id names the other contact.
*/
declare
    relinked private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    changes private.identity_change[];
    claimed private.identity_change[];
    locked text[];
    change private.identity_change;
    outcome record;
begin
    items := array(
        select i
        from unnest(items) i
        order by i.sent_at, i.provider_id
    );
    -- a late notice about a number that its person has left too
    for place in 1 .. cardinality(items) loop
        item := items[place];
        if item.kind = 'system' then
            item.new_wa_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'phone', value => item.new_wa_id, at => item.sent_at);
            item.new_user_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'bsuid', value => item.new_user_id, at => item.sent_at);
            items[place] := item;
        end if;
    end loop;

    select l.claimed, l.locked
    into claimed, locked
    from private.lock_identity_changes(array(
        select c
        from unnest(items) i
        cross join lateral unnest(private.identity_changes(i)) c
        where i.kind = 'system'
    )) l;

    foreach item in array items loop
        if item.kind = 'system' then
            changes := private.identity_changes(item);
            select r.owner, r.other
            into outcome
            from private.relink_identities(
                changes => changes, claimed => claimed, locked => locked) r;

            foreach change in array changes loop
                if change.old_key is not null then
                    insert into private.whatsapp_id_changes (
                        account_id, kind, old_key, changed_at, new_value
                    )
                    values (
                        change.account_id,
                        change.kind,
                        change.old_key,
                        change.changed_at,
                        change.new_value
                    )
                    on conflict do nothing;
                end if;

                if private.is_among(change, claimed) then
                    claimed := array(
                        select c
                        from unnest(claimed) c
                        where not private.is_among(c, array[change])
                    );
                    if outcome.owner is null or outcome.other is not null then
                        perform private.drop_identity(
                            account_id => change.account_id,
                            kind => change.kind,
                            match_key => change.new_key
                        );
                    end if;
                end if;
            end loop;

            if outcome.other is null then
                -- without an owner there was nothing to move
                if outcome.owner is not null or changes = '{}' then
                    item.former_wa_id := item.wa_id;
                    item.former_user_id := item.user_id;
                end if;
                item.wa_id := coalesce(item.new_wa_id, item.wa_id);
                item.user_id := coalesce(item.new_user_id, item.user_id);
            else
                item.other_contact_id := outcome.other;
                -- a number without an owner is not claimed
                if item.user_id is not null and private.identity_owner(
                    account_id => item.account_id,
                    kind => 'phone',
                    match_key => private.match_key(kind => 'phone', value => item.wa_id)
                ) is null then
                    item.wa_id := null;
                end if;
            end if;
            item.identity_kind := case when item.wa_id is null then 'bsuid' else 'phone' end;
            item.identity_key := private.match_key(
                kind => item.identity_kind, value => coalesce(item.wa_id, item.user_id));
        end if;
        relinked := relinked || item;
    end loop;
    return relinked;
end
$$;


comment on function private.locked_owner(uuid, text, text, text[]) is
    'The owner of an identity that is locked; null for identities that are not.';
comment on function private.relink_identities(
    private.identity_change[], private.identity_change[], text[]
) is
    'Gives the owner the new identities in place of the old ones, unless another contact has one of them.';
comment on function private.relink_whatsapp_senders(private.whatsapp_item[]) is
    'Relinks the identities that the notices of a batch change, and sorts the batch by time.';
