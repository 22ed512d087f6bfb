/*
    Staff vouch for what a contact shows: from then on it is known by that (proof).
*/
create function private.confirm_fields(contact_id uuid, fields text[])
    returns void
    language plpgsql
    -- definer: identities are nobody's to write; the caller is asked for first
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
            message = 'Other fields make nobody known.',
            detail = 'field: fields',
            hint = 'Known: email, gsm, name, phone, username.';
    end if;
    shown := private.shown_words(contact_id => confirm_fields.contact_id, fields => wanted);

    -- identities before contacts, as everywhere
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
            hint = 'Read it again, and confirm what it shows.';
    end if;

    -- whom the ERP has it as may be clear now
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
    -- definer: the words of customers are nobody's to read; the caller is asked for first
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
    'Makes a contact known by what it shows in these fields.';
comment on function private.shown_words(uuid, text[]) is
    'What a contact shows in these fields.';
comment on function private.unproved_fields_of(uuid) is
    'The same of a contact that the caller may read; null of others.';
comment on function public.unproved_fields(uuid) is
    'Which of a contact''s email, gsm, name, phone and username nobody has proved, since its customer wrote them or they came with a partner: nothing is looked up by them. Null of contacts that are not yours to see.';
comment on function public.confirm_contact(uuid, text[]) is
    'Says that fields of a contact (email, gsm, name, phone, username; all where none are named) are right: it is known by them from now on, for WhatsApp, imports and the ERP. Answers what is still unproved. What another contact is known by: 409.';
