/*
    Staff confirm values that a contact shows. From then on the contact is known by them
    (private.customer_words).
*/
create function private.confirm_fields(contact_id uuid, fields text[])
    returns void
    language plpgsql
    -- definer: users may not write identities; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    known constant text[] := array['email', 'gsm', 'name', 'phone', 'username'];
    account constant uuid := private.require_writable_contact(contact_id);
    wanted constant text[] := coalesce(fields, known);
    shown jsonb;
begin
    if not wanted <@ known then
        raise sqlstate 'PT422' using
            message = 'Only fields by which a contact is known can be confirmed.',
            detail = 'field: fields',
            hint = 'Give some of email, gsm, name, phone and username.';
    end if;
    shown := private.shown_words(contact_id => confirm_fields.contact_id, fields => wanted);

    -- identities before contacts, in the lock order
    perform private.forget_customer_words(
        contact_id => confirm_fields.contact_id, fields => shown);
    perform private.lock_identities(
        account_id => account,
        contact_ids => array[confirm_fields.contact_id],
        kinds => private.touched_identity_kinds(shown),
        claims => shown
    );
    perform
    from public.contacts c
    where c.id = confirm_fields.contact_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact any more.',
            detail = format('contact: %s', confirm_fields.contact_id);
    elsif shown <> private.shown_words(contact_id => confirm_fields.contact_id, fields => wanted) then
        raise sqlstate 'PT409' using
            message = 'The contact has changed since it was read.',
            hint = 'Read it again, and confirm the values that it shows now.';
    end if;

    -- the sync may now find its partner
    if exists (
        select
        from public.metakocka_connections k
        where k.account_id = account
          and k.active
    ) then
        perform private.mark_dirty(account, array[confirm_fields.contact_id]);
    end if;
end
$$;

grant execute on function private.confirm_fields(uuid, text[]) to authenticated;


create function private.shown_words(contact_id uuid, fields text[])
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(f.key, f.value), '{}')
        from public.contacts c
        cross join lateral jsonb_each(to_jsonb(c)) f
        where c.id = shown_words.contact_id
          and f.key = any (shown_words.fields)
          and f.value <> 'null'
    );
end
$$;


create function private.unproved_fields_of(contact_id uuid)
    returns text[]
    language plpgsql
    stable
    -- definer: users may not read customer_words; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    return (
        select private.unproved_fields(c)
        from public.contacts c
        where c.id = unproved_fields_of.contact_id
          and c.account_id in (select private.my_account_ids())
    );
end
$$;

grant execute on function private.unproved_fields_of(uuid) to authenticated;


create function public.unproved_fields(contact_id uuid)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.unproved_fields_of(unproved_fields.contact_id);
end
$$;

grant execute on function public.unproved_fields(uuid) to authenticated;


create function public.confirm_contact(contact_id uuid, fields text[] default null)
    returns text[]
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.confirm_fields(
        contact_id => confirm_contact.contact_id, fields => confirm_contact.fields);
    return private.unproved_fields_of(confirm_contact.contact_id);
end
$$;

grant execute on function public.confirm_contact(uuid, text[]) to authenticated;


comment on function private.confirm_fields(uuid, text[]) is
    'Makes a contact known by the values that it shows in these fields.';
comment on function private.shown_words(uuid, text[]) is
    'The values that a contact shows in these fields.';
comment on function private.unproved_fields_of(uuid) is
    'The same for a contact that the caller may read; null for others.';
comment on function public.unproved_fields(uuid) is
    'The fields of a contact (of email, gsm, name, phone and username) that nobody has proved, because its customer wrote them or they came with a partner. No look-up finds the contact by them. Null for a contact that the caller may not read.'
    ' Type: text[] | null';
comment on function public.confirm_contact(uuid, text[]) is
    'Confirms fields of a contact (email, gsm, name, phone, username; all if none are given). From now on WhatsApp, imports and the ERP find the contact by them. Returns the fields that are still unproved. If another contact is known by a value: 409.';
