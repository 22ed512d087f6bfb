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
    perform private.lock_identities(
        account_id => add_contact.account_id,
        contact_ids => array[add_contact.contact_id],
        kinds => private.touched_identity_kinds(cleaned),
        claims => cleaned
    );
    insert into public.contacts (
        id, account_id, name, phone, email, username, tags, notes, status,
        gsm, fax, business_entity, taxpayer, foreign_county, buyer, supplier, tax_id_number,
        registration_number, street, post_number, place, province, country, people, addresses,
        preferences
    )
    select
        add_contact.contact_id,
        add_contact.account_id,
        cleaned ->> 'name',
        cleaned ->> 'phone',
        cleaned ->> 'email',
        cleaned ->> 'username',
        array(select jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))),
        cleaned ->> 'notes',
        coalesce(cleaned ->> 'status', 'open'),
        p.gsm, p.fax, p.business_entity, p.taxpayer, p.foreign_county, p.buyer, p.supplier,
        p.tax_id_number, p.registration_number, p.street, p.post_number, p.place, p.province,
        p.country, coalesce(p.people, '[]'), coalesce(p.addresses, '[]'),
        coalesce(nullif(cleaned -> 'preferences', 'null'), '{}')
    from jsonb_populate_record(null::public.contacts, cleaned - array['tags', 'preferences']) p
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
    found_version bigint;
    before jsonb;
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

    select c.version, to_jsonb(c)
    into found_version, before
    from public.contacts c
    where c.id = change_contact.contact_id
      and c.account_id = change_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', change_contact.contact_id);
    elsif found_version <> read_version then
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
        update public.contacts c
        set name = case when cleaned ? 'name' then cleaned ->> 'name' else c.name end,
            phone = case when cleaned ? 'phone' then cleaned ->> 'phone' else c.phone end,
            email = case when cleaned ? 'email' then cleaned ->> 'email' else c.email end,
            username = case
                when cleaned ? 'username' then cleaned ->> 'username'
                else c.username
            end,
            tags = case
                when cleaned ? 'tags' then array(select jsonb_array_elements_text(cleaned -> 'tags'))
                else c.tags
            end,
            notes = case when cleaned ? 'notes' then cleaned ->> 'notes' else c.notes end,
            preferences = coalesce(nullif(cleaned -> 'preferences', 'null'), c.preferences),
            status = case
                when current_conversation is null then coalesce(cleaned ->> 'status', c.status)
                else c.status
            end,
            status_changed_at = case
                when exists (
                    select
                    from public.conversations k
                    where k.id = current_conversation
                      and k.status <> cleaned ->> 'status'
                ) then clock_timestamp()
                else c.status_changed_at
            end,
            (
                gsm, fax, business_entity, taxpayer, foreign_county, buyer, supplier,
                tax_id_number, registration_number, street, post_number, place, province, country,
                people, addresses
            ) = (
                select
                    p.gsm, p.fax, p.business_entity, p.taxpayer, p.foreign_county, p.buyer,
                    p.supplier, p.tax_id_number, p.registration_number, p.street, p.post_number,
                    p.place, p.province, p.country, p.people, p.addresses
                from jsonb_populate_record(c, cleaned - array['tags', 'preferences']) p
            )
        where c.id = change_contact.contact_id;
    end if;

    if kinds <> '{}' then
        perform private.release_identities(
            contact_id => change_contact.contact_id, kinds => kinds, before => before);
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
