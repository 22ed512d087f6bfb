/*
    Suggestions from messages: two contacts may be one person, but nothing proves it.
*/
create index contacts_phone_idx
    on public.contacts (account_id, private.match_key(kind => 'phone', value => phone))
    where phone is not null;


create function private.suggest_same_phones(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- A number that a customer wrote in the portal proves nothing: it may be anybody's.
    perform private.suggest_merge(
        account_id => i.account_id,
        contact_ids => array[i.contact_id, other.id],
        reason => 'same_phone',
        evidence => jsonb_build_object('phone', other.phone)
    )
    from (
        select distinct on (i.contact_id) i.account_id, i.contact_id, i.identity_key
        from unnest(items) i
        where i.identity_kind = 'phone'
        order by i.contact_id
    ) i
    cross join lateral (
        select c.id, c.phone
        from public.contacts c
        where c.account_id = i.account_id
          and private.match_key(kind => 'phone', value => c.phone) = i.identity_key
          and c.phone is not null
          and c.id <> i.contact_id
          and c.deleted_at is null
        order by c.id
        limit 10
    ) other;
end
$$;


create function private.suggest_same_senders(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- The number is one contact's and the user id another's, or a changed identity belongs to
    -- another contact.
    perform private.suggest_merge(
        account_id => s.account_id,
        contact_ids => array[s.contact_id, s.other_contact_id],
        reason => s.reason,
        evidence => jsonb_strip_nulls(s.evidence)
    )
    from (
        select
            i.account_id,
            i.contact_id,
            owner.contact_id as other_contact_id,
            'same_sender' as reason,
            jsonb_build_object('phone', '+' || i.wa_id, 'user_id', i.user_id) as evidence
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = 'bsuid'
              and o.match_key = i.user_id
            limit 1
        ) owner
        where i.identity_kind = 'phone'
          and owner.contact_id <> i.contact_id
        union all
        select
            i.account_id,
            i.contact_id,
            i.other_contact_id,
            case when i.new_wa_id is null then 'user_id_changed' else 'number_changed' end,
            jsonb_build_object(
                'previous_phone', '+' || i.wa_id,
                'phone', '+' || i.new_wa_id,
                'previous_user_id', i.user_id,
                'user_id', i.new_user_id
            )
        from unnest(items) i
        where i.other_contact_id is not null
    ) s;
end
$$;


comment on function private.suggest_same_phones(private.whatsapp_item[]) is
    'Suggests that new senders are the contacts that show their number.';
comment on function private.suggest_same_senders(private.whatsapp_item[]) is
    'Suggests that two contacts are one, where one sender has the identities of both.';
