/*
    The one way in which people write contacts, whatever the face. A change is an object of
    the fields to write; what it does not name stays, so that edits of different fields meet.
*/
create function private.clean_contact_fields(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field text;
begin
    foreach field in array array['name', 'phone', 'email', 'username', 'notes'] loop
        if cleaned ? field then
            if jsonb_typeof(cleaned -> field) not in ('string', 'null') then
                raise sqlstate 'PT422' using
                    message = format('The %s is a text.', field),
                    detail = 'field: ' || field;
            end if;
            cleaned := jsonb_set(
                cleaned, array[field],
                coalesce(to_jsonb(nullif(btrim(cleaned ->> field, E' \t\r\n'), '')), 'null'));
        end if;
    end loop;

    -- as the table's own checks, which name no field and no remedy
    if length(cleaned ->> 'name') > 200 then
        raise sqlstate 'PT422' using
            message = 'The name is too long.',
            detail = 'field: name',
            hint = 'At most 200 characters.';
    elsif cleaned ->> 'phone' !~ '^\+[1-9][0-9]{1,14}$' then
        raise sqlstate 'PT422' using
            message = 'This is not a phone number.',
            detail = 'field: phone',
            hint = 'With country code and digits alone, such as +38640111222.';
    elsif length(cleaned ->> 'email') > 320 or cleaned ->> 'email' !~ '^[^@\s]+@[^@\s]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Such as ana@example.com.';
    elsif length(cleaned ->> 'username') > 100 or cleaned ->> 'username' !~ '^[^\s@]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not a username.',
            detail = 'field: username',
            hint = 'Without @ and spaces, at most 100 characters.';
    elsif length(cleaned ->> 'notes') > 20000 then
        raise sqlstate 'PT422' using
            message = 'The notes are too long.',
            detail = 'field: notes',
            hint = 'At most 20,000 characters.';
    end if;

    if cleaned ? 'tags' then
        if jsonb_typeof(cleaned -> 'tags') not in ('array', 'null')
            or nullif(cleaned -> 'tags', 'null') @? '$[*] ? (@.type() != "string")'
        then
            raise sqlstate 'PT422' using
                message = 'Tags are a list of texts.',
                detail = 'field: tags';
        end if;
        cleaned := jsonb_set(cleaned, '{tags}', (
            select coalesce(jsonb_agg(t.tag order by t.place), '[]')
            from (
                select btrim(e.value) as tag, min(e.ordinal) as place
                from jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))
                    with ordinality as e (value, ordinal)
                where btrim(e.value) <> ''
                group by btrim(e.value)
            ) t
        ));
        if jsonb_array_length(cleaned -> 'tags') > 100
            or exists (
                select
                from jsonb_array_elements_text(cleaned -> 'tags') e
                where length(e) > 100
            )
        then
            raise sqlstate 'PT422' using
                message = 'There are too many tags, or one is too long.',
                detail = 'field: tags',
                hint = 'At most 100 tags of 100 characters.';
        end if;
    end if;
    return private.clean_partner_fields(cleaned);
end
$$;


create function private.touched_identity_kinds(fields jsonb)
    returns text[]
    language sql
    immutable
    set search_path = ''
as $$
    select array(
        select distinct k.kind
        from (
            values ('email', 'email'), ('phone', 'phone'), ('gsm', 'phone'), ('username', 'username')
        ) as k (field, kind)
        where fields ? k.field
        order by k.kind
    )
$$;


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
        registration_number, street, post_number, place, province, country, people, addresses
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
        p.country, coalesce(p.people, '[]'), coalesce(p.addresses, '[]')
    from jsonb_populate_record(null::public.contacts, cleaned - 'tags') p
    on conflict (id) do nothing;
    if not found then
        raise sqlstate 'PT409' using
            message = 'A contact with this id is there already.',
            detail = 'field: id',
            hint = 'Change that one, or leave the id out.';
    end if;
end
$$;


create function private.set_conversation_status(conversation_id uuid, status text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    opened uuid;
begin
    update public.conversations k
    set status = set_conversation_status.status
    where k.id = set_conversation_status.conversation_id
      and k.status <> set_conversation_status.status;
exception
    when unique_violation then
        select o.id
        into opened
        from public.conversations k
        join public.conversations o
            on o.account_id = k.account_id
           and o.channel = k.channel
           and o.whatsapp_channel_id is not distinct from k.whatsapp_channel_id
           and o.thread_key = k.thread_key
           and o.status <> 'closed'
        where k.id = set_conversation_status.conversation_id;
        raise sqlstate 'PT409' using
            message = 'Another conversation with the same person is open.',
            detail = format('field: conversation_status; conversation: %s', opened),
            hint = 'Go on in that one, or close it first.';
end
$$;


create function private.change_contact(
    account_id uuid,
    contact_id uuid,
    fields jsonb,
    -- of the row as the caller read it; null where any will do
    read_version bigint default null,
    -- whether it becomes known by what is written: what customers write of themselves is unproven
    claim boolean default true
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    given constant jsonb := private.clean_contact_fields(fields);
    -- without the identities that stay: staff who save a whole form don't vouch for what a
    -- customer has put there
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

    select c.version
    into found_version
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

    if cleaned - 'status' <> '{}' or (cleaned ? 'status' and current_conversation is null) then
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
            contact_id => change_contact.contact_id, kinds => kinds);
    end if;
    if current_conversation is not null then
        perform private.set_conversation_status(
            conversation_id => current_conversation, status => cleaned ->> 'status');
    end if;
end
$$;


create function private.delete_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.lock_identities(
        account_id => delete_contact.account_id,
        contact_ids => array[delete_contact.contact_id],
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    -- in two steps: whoever enters the portal by this contact hears of leaving it
    update public.contacts c
    set portal_user_id = null
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.portal_user_id is not null;

    update public.contacts c
    set deleted_at = now(),
        name = null,
        profile_name = null,
        profile_named_at = null,
        phone = null,
        email = null,
        username = null,
        tags = '{}',
        notes = null,
        preferences = '{}',
        gsm = null,
        fax = null,
        business_entity = null,
        taxpayer = null,
        foreign_county = null,
        buyer = null,
        supplier = null,
        tax_id_number = null,
        registration_number = null,
        street = null,
        post_number = null,
        place = null,
        province = null,
        country = null,
        people = '[]',
        addresses = '[]'
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.deleted_at is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', delete_contact.contact_id);
    end if;

    perform private.revoke_open_invitations(
        account_id => delete_contact.account_id, contact_id => delete_contact.contact_id);

    -- whoever writes from the number from now on is somebody new
    with released as materialized (
        select o.account_id, o.kind, o.match_key
        from public.contact_identities o
        where o.contact_id = delete_contact.contact_id
          and o.account_id = delete_contact.account_id
        -- locked already, but for one that came meanwhile: to wait for that would be out of order
        for update nowait
    )
    delete from public.contact_identities o
    using released r
    where o.account_id = r.account_id
      and o.kind = r.kind
      and o.match_key = r.match_key;

    delete from private.stated_usernames u
    where u.contact_id = delete_contact.contact_id;

    perform
    from public.conversations k
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
    order by k.id
    for no key update;

    update public.conversations k
    set status = 'closed'
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and k.status <> 'closed';
end
$$;


comment on function private.clean_contact_fields(jsonb) is
    'Fields of a contact without stray spaces, or a refusal that names the field.';
comment on function private.touched_identity_kinds(jsonb) is
    'The kinds of identity that a change of these fields concerns.';
comment on function private.add_contact(uuid, uuid, jsonb) is
    'Makes a contact with its identities.';
comment on function private.set_conversation_status(uuid, text) is
    'Opens or closes a conversation; refused where another of the same person is open.';
comment on function private.change_contact(uuid, uuid, jsonb, bigint, boolean) is
    'Writes the named fields of a contact, if it still has the version that was read; its status goes to its current conversation.';
comment on function private.delete_contact(uuid, uuid) is
    'Blanks a contact, gives its identities back and closes its conversations.';
