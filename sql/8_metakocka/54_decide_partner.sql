/*
    Decides which partner a contact is: one of several, a new one, or none. A rejected partner
    becomes a contact of its own when it is read next.
*/
create function private.claim_partner(account_id uuid, contact_id uuid, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.contact_identities (account_id, kind, value, contact_id)
    values (
        claim_partner.account_id, 'metakocka', claim_partner.metakocka_id,
        claim_partner.contact_id
    )
    on conflict on constraint contact_identities_pkey do nothing;
    -- locked first, and read then
    perform
    from public.contact_identities i
    where i.account_id = claim_partner.account_id
      and i.kind = 'metakocka'
      and i.match_key = private.match_key(kind => 'metakocka', value => claim_partner.metakocka_id)
      and i.contact_id = claim_partner.contact_id
    for update;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This partner has another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
    end if;
end
$$;


create function private.decide_partner(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    offered constant text[] := array(
        select p ->> 'metakocka_id'
        from jsonb_array_elements(conflict.partners) p
    );
    present text;
begin
    select m.metakocka_id
    into present
    from public.metakocka_contact_mappings m
    where m.contact_id = conflict.contact_id;
    if present is distinct from conflict.metakocka_id then
        raise sqlstate 'PT409' using
            message = 'This contact has another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    elsif choice = any (offered) then
        if choice is distinct from present then
            perform private.give_partner(conflict => conflict, metakocka_id => choice);
        end if;
    elsif choice not in ('new', 'unlink') or present = any (offered) then
        raise sqlstate 'PT422' using
            message = 'This contact can''t be that partner.',
            detail = 'field: choice',
            hint = case
                when present = any (offered) then 'Choose the id of one of the partners.'
                else 'Choose the id of one of the partners, new to make another one, or unlink to have none.'
            end;
    else
        perform private.give_partner(conflict => conflict, metakocka_id => null);
        update public.metakocka_contact_mappings m
        set state = case decide_partner.choice when 'new' then 'waiting' else 'unlinked' end,
            not_partners = array(
                select distinct p
                from unnest(m.not_partners || offered) p
                order by p
            )
        where m.contact_id = conflict.contact_id;
        if choice = 'unlink' then
            delete from private.metakocka_dirty d
            where d.contact_id = conflict.contact_id;
        end if;
    end if;

    -- conflicts about fields of the earlier partner
    delete from public.sync_conflicts s
    where s.contact_id = conflict.contact_id
      and s.account_id = conflict.account_id
      and s.state = 'open'
      and s.field is not null
      and s.metakocka_id is distinct from decide_partner.choice;
end
$$;


create function private.give_partner(conflict public.sync_conflicts, metakocka_id text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities i
    where i.account_id = conflict.account_id
      and i.contact_id = conflict.contact_id
      and i.kind = 'metakocka'
      and i.value = conflict.metakocka_id;

    -- of a deleted contact
    delete from public.metakocka_contact_mappings m
    using public.contacts c
    where m.account_id = conflict.account_id
      and m.metakocka_id = give_partner.metakocka_id
      and c.id = m.contact_id
      and c.deleted_at is not null;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, state, user_id
    )
    values (
        conflict.account_id, conflict.contact_id, give_partner.metakocka_id, 'waiting', auth.uid()
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            -- nothing was ever agreed with this partner
            base = null,
            partner_hash = null,
            base_version = null,
            seen_at = null,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner has another contact by now.',
            detail = 'field: choice',
            hint = 'Merge the two contacts, or choose another partner.';
end
$$;


comment on function private.claim_partner(uuid, uuid, text) is
    'Makes a partner''s id an identity of a contact. Refuses where it is another contact''s.';
comment on function private.decide_partner(public.sync_conflicts, text) is
    'Gives a contact one of its possible partners (its id), a new one (new), or none (unlink).';
comment on function private.give_partner(public.sync_conflicts, text) is
    'Removes a contact''s present partner, and gives it this one, if any.';
