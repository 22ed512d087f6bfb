/*
    The one way in which people write contacts, for all faces. A change is an object of the fields
    to write. All other fields stay, so two people can edit different fields at the same time.
*/
create function private.add_contact(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    cleaned constant jsonb := private.clean_contact_fields(fields);
begin
    perform private.require_room(account_id => add_contact.account_id, kind => 'contacts');
    perform private.lock_identities(
        account_id => add_contact.account_id,
        contact_ids => array[add_contact.contact_id],
        kinds => private.touched_identity_kinds(cleaned),
        claims => cleaned
    );
    insert into public.contacts
    select n.*
    from private.new_contact(
        account_id => add_contact.account_id,
        contact_id => add_contact.contact_id,
        fields => cleaned
    ) n
    on conflict (id) do nothing;
    if not found then
        raise sqlstate 'PT409' using
            message = 'A contact with this id exists already.',
            detail = 'field: id',
            hint = 'Change that contact, or leave the id out.';
    end if;
end
$$;


create function private.change_contact(
    account_id uuid,
    contact_id uuid,
    fields jsonb,
    -- the version that the caller has read; null for any version
    read_version bigint default null,
    -- whether the contact becomes known by the new values: not by those of its customer
    claim boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    given constant jsonb := private.clean_contact_fields(fields);
    -- without unchanged identities: staff who save a whole form do not confirm values that the
    -- customer has written
    cleaned constant jsonb := given - array(
        select k
        from public.contacts c
        cross join unnest(array['email', 'gsm', 'phone', 'username']) k
        where c.id = change_contact.contact_id
          and given ? k
          and to_jsonb(c) -> k = given -> k
    );
    kinds constant text[] := case
        when claim then private.touched_identity_kinds(cleaned)
        else '{}'
    end;
    before public.contacts;
    changed public.contacts;
    current_conversation uuid;
begin
    if kinds <> '{}' then
        perform private.lock_identities(
            account_id => change_contact.account_id,
            contact_ids => array[change_contact.contact_id],
            kinds => kinds,
            claims => cleaned
        );
    end if;

    select c.*
    into before
    from public.contacts c
    where c.id = change_contact.contact_id
      and c.account_id = change_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', change_contact.contact_id);
    elsif before.version <> read_version then
        raise sqlstate 'PT409' using
            message = 'The contact has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    end if;

    if cleaned ? 'status' then
        select s.conversation_id
        into current_conversation
        from private.contact_states s
        where s.id = change_contact.contact_id;
    end if;

    if cleaned <> '{}' then
        changed := jsonb_populate_record(before, cleaned - 'status');
        if current_conversation is null then
            changed.status := coalesce(cleaned ->> 'status', before.status);
        elsif exists (
            select
            from public.conversations k
            where k.id = current_conversation
              and k.status <> cleaned ->> 'status'
        ) then
            changed.status_changed_at := clock_timestamp();
        end if;
        perform private.write_contacts(array[changed]);
    end if;

    if kinds <> '{}' then
        perform private.release_identities(
            contact_id => change_contact.contact_id, kinds => kinds, before => to_jsonb(before));
    end if;
    if current_conversation is not null then
        perform private.set_conversation_status(
            conversation_id => current_conversation, status => cleaned ->> 'status');
    end if;
end
$$;


comment on function private.add_contact(uuid, uuid, jsonb) is
    'Inserts a contact with its identities.';
comment on function private.change_contact(uuid, uuid, jsonb, bigint, boolean) is
    'Writes the given fields of a contact, if it still has the version that was read. A status goes to its current conversation.';
