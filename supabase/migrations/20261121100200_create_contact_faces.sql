/*
    One contact in two faces, written through both.
*/
/*
    What both faces of a contact show: the contact, and the conversation that is current, which
    is the one with the latest activity. Until there is one the contact has a status of its own.
*/
create view private.contact_states
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    -- as in contacts_list_idx
    case when c.name is null then c.profile_name else c.name end as name,
    c.profile_name,
    c.phone,
    c.username,
    c.email,
    c.tags,
    c.notes,
    c.preferences,
    coalesce(t.status, c.status) as status,
    t.conversation_id,
    t.channel,
    t.customer_wa_id,
    t.last_message_at,
    t.last_inbound_at,
    c.portal_user_id,
    c.created_at,
    c.updated_at,
    c.version
from public.contacts c
left join lateral (
    select
        a.conversation_id,
        k.status,
        k.channel,
        k.customer_wa_id,
        a.last_message_at,
        a.last_inbound_at
    from public.conversation_activity a
    join public.conversations k
        on k.id = a.conversation_id
    where a.customer_id = c.id
    -- WhatsApp's times are seconds: a thread may be closed and the next one opened in one
    order by a.last_message_at desc, k.created_at desc, a.conversation_id desc
    limit 1
) t
    on true
where c.deleted_at is null;


grant select on private.contact_states to authenticated;


comment on view private.contact_states is
    'A contact with its current conversation, the latest active; what the faces are made of.';


/*
    What staff write down of a contact makes it known by that: phone, email and username are
    claimed as identities before the contact is written, in the lock order (identities,
    contacts, conversations, messages, each by key).
*/
create function private.lock_identities(
    account_id uuid,
    contact_ids uuid[],
    kinds text[],
    -- {phone, email, username}: to be claimed for the first contact
    claims jsonb default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
    owner uuid;
begin
    -- those to claim and those that the contacts have, in one order
    for wanted in
        select w.kind, w.match_key, min(w.value) as value
        from (
            select k.key, private.match_key(kind => k.key, value => k.value), k.value
            from jsonb_each_text(claims) k
            where k.key = any (kinds)
              and k.value is not null
            union all
            select o.kind, o.match_key, null
            from public.contact_identities o
            where o.contact_id = any (contact_ids)
              and o.account_id = lock_identities.account_id
              and o.kind = any (kinds)
        ) as w (kind, match_key, value)
        group by w.kind, w.match_key
        order by w.kind, w.match_key
    loop
        -- an owner may let go of it between the two statements: then it is free to be claimed
        loop
            if wanted.value is not null then
                insert into public.contact_identities (account_id, kind, value, contact_id)
                values (
                    lock_identities.account_id, wanted.kind, wanted.value, contact_ids[1])
                on conflict do nothing;
            end if;

            select o.contact_id
            into owner
            from public.contact_identities o
            where o.account_id = lock_identities.account_id
              and o.kind = wanted.kind
              and o.match_key = wanted.match_key
            for update;
            exit when found or wanted.value is null;
        end loop;

        if wanted.value is not null and owner <> contact_ids[1] then
            raise sqlstate 'PT409' using
                message = format('This %s belongs to another contact.', wanted.kind),
                detail = format('field: %s; contact: %s', wanted.kind, owner),
                hint = 'Merge the two, or correct it.';
        end if;
    end loop;
end
$$;


create function private.release_identities(contact_id uuid, kinds text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities d
    using (
        select o.account_id, o.kind, o.match_key
        from public.contacts c
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = c.account_id
        where c.id = release_identities.contact_id
          and o.kind = any (kinds)
          -- somebody has written from it: it is theirs, whatever is written down
          and o.wa_id is null
          and o.match_key is distinct from private.match_key(
              kind => o.kind,
              value => case o.kind
                  when 'phone' then c.phone
                  when 'email' then c.email
                  else c.username
              end
          )
        -- one that has come since the others were locked is out of order: whoever brought it
        -- may have it locked
        for update of o skip locked
    ) o
    where d.account_id = o.account_id
      and d.kind = o.kind
      and d.match_key = o.match_key;
end
$$;


comment on function private.lock_identities(uuid, uuid[], text[], jsonb) is
    'Locks the identities of contacts, and claims others for the first of them; refuses what another contact owns.';
comment on function private.release_identities(uuid, text[]) is
    'Drops the identities of a contact that it no longer shows and that no message proves.';


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
    return cleaned;
end
$$;


create function private.touched_identity_kinds(fields jsonb)
    returns text[]
    language sql
    immutable
    set search_path = ''
as $$
    select array(
        select k
        from unnest(array['email', 'phone', 'username']) k
        where fields ? k
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
        id, account_id, name, phone, email, username, tags, notes, status
    )
    values (
        add_contact.contact_id,
        add_contact.account_id,
        cleaned ->> 'name',
        cleaned ->> 'phone',
        cleaned ->> 'email',
        cleaned ->> 'username',
        array(select jsonb_array_elements_text(nullif(cleaned -> 'tags', 'null'))),
        cleaned ->> 'notes',
        coalesce(cleaned ->> 'status', 'open')
    )
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
        cross join unnest(private.touched_identity_kinds(given)) k
        where c.id = change_contact.contact_id
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
            end
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
        preferences = '{}'
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


/*
    The triggers of both faces: a row written through a face becomes fields of the contact,
    the status translated from the face's own words, and what is returned is read anew.
*/
create function private.require_written_here(fields jsonb, writable text[])
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    unknown constant text := (
        select min(k)
        from jsonb_object_keys(fields) k
        where k <> all (writable)
    );
begin
    if unknown is not null then
        raise sqlstate 'PT422' using
            message = format('%s is not written here.', quote_ident(left(unknown, 64))),
            detail = 'field: ' || left(unknown, 64),
            hint = 'Written here: ' || array_to_string(writable, ', ') || '.';
    end if;
end
$$;


create function private.read_face(face text, fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => array[
            'name', 'phone', 'email', 'username', 'tags', 'notes', 'conversation_status'
        ]
    );
    if fields ? 'conversation_status' then
        return fields - 'conversation_status' || jsonb_build_object(
            'status',
            private.status_of_word(
                face => read_face.face, word => fields ->> 'conversation_status'));
    end if;
    return fields;
end
$$;


create function private.require_writable(account_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not write the contacts of this account.',
            detail = 'field: account_id',
            hint = 'Its owners, admins and agents may.';
    end if;
end
$$;


create function private.tg__expect_hits()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    perform set_config('rapport.hits', '0', true);
    perform set_config('rapport.version_named', 'false', true);
    perform set_config('rapport.lock_timeout', current_setting('lock_timeout'), true);
    return null;
end
$$;


create function private.tg__expect_version()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- of a row alone it can't be told whether its version was written or only kept
    perform set_config('rapport.version_named', 'true', true);
    return null;
end
$$;


create function private.tg__require_hits()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    perform set_config('lock_timeout', current_setting('rapport.lock_timeout'), true);
    if current_setting('rapport.hits') = '0' and tg_op <> 'INSERT' then
        raise sqlstate 'PT404' using
            message = 'No contact was hit: there is none like this, or it is not yours to see.';
    end if;
    return null;
end
$$;


create function private.tg__write_face()
    returns trigger
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    -- the face's name in status_words
    face constant text := tg_argv[0];
    hits constant integer := current_setting('rapport.hits')::integer + 1;
    old_row constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    written jsonb;
    contact uuid;
begin
    perform set_config('rapport.hits', hits::text, true);
    if hits > 1 then
        -- rows of one statement come in any order, so that from the second on its locks are
        -- out of order: it gives way long before it could be part of a deadlock
        perform set_config('lock_timeout', '400ms', true);
    end if;

    if tg_op = 'DELETE' then
        perform private.require_writable(old.account_id);
        perform private.delete_contact(account_id => old.account_id, contact_id => old.id);
        return old;
    end if;

    -- an insert names what it gives, an update what differs from what was read
    select coalesce(jsonb_object_agg(n.key, n.value), '{}')
    into written
    from jsonb_each(to_jsonb(new)) n
    where n.value is distinct from coalesce(old_row -> n.key, 'null');

    if tg_op = 'INSERT' then
        new.account_id := coalesce(new.account_id, private.only_writable_account_id());
        perform private.require_writable(new.account_id);
        contact := coalesce(new.id, gen_random_uuid());
        perform private.add_contact(
            account_id => new.account_id,
            contact_id => contact,
            fields => private.read_face(face => face, fields => written - array['id', 'account_id'])
        );
    else
        perform private.require_writable(old.account_id);
        if written ? 'version' then
            raise sqlstate 'PT409' using
                message = 'The contact has changed since it was read.',
                detail = 'field: version',
                hint = 'Read it again, and write what differs.';
        end if;
        contact := old.id;
        if written <> '{}' then
            perform private.change_contact(
                account_id => old.account_id,
                contact_id => contact,
                fields => private.read_face(face => face, fields => written),
                read_version => case
                    when current_setting('rapport.version_named')::boolean then new.version
                end
            );
        end if;
    end if;

    execute format('select * from %I.%I f where f.id = $1', tg_table_schema, tg_table_name)
    into new
    using contact;
    return new;
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Others are writing some of these contacts.',
            hint = 'Try again.';
end
$$;


create function private.only_writable_account_id()
    returns uuid
    language sql
    stable
    set search_path = ''
as $$
    -- whoever works for one account need not name it
    select case when count(*) = 1 then min(a::text)::uuid end
    from private.my_writable_account_ids() a
$$;


comment on function private.require_written_here(jsonb, text[]) is
    'Refuses fields beyond the writable ones, by name.';
comment on function private.read_face(text, jsonb) is
    'Fields in a face''s words as fields of a contact; refuses what is not written through faces.';
comment on function private.require_writable(uuid) is
    'Refuses whoever may not write an account''s contacts.';
comment on function private.tg__expect_hits() is
    'Begins to count the rows that a statement hits.';
comment on function private.tg__expect_version() is
    'Notes that a statement names the version that it has read.';
comment on function private.tg__require_hits() is
    'Refuses a statement that hit nothing: what row level security hides is no success.';
comment on function private.tg__write_face() is
    'Writes through a face; its argument is the face''s name in status_words.';
comment on function private.only_writable_account_id() is
    'The account of a caller who may write to one alone.';


/*
    The contacts page's face of a contact: status in lower case.
*/
create view public.contacts_v2
    with (security_invoker = true)
as
select
    s.id,
    s.account_id,
    s.name,
    s.profile_name,
    s.phone,
    s.username,
    s.email,
    s.tags,
    s.notes,
    s.preferences,
    w.word as conversation_status,
    s.conversation_id,
    s.portal_user_id,
    s.created_at,
    s.updated_at,
    s.version
from private.contact_states s
join public.status_words w
    on w.face = 'contacts_page'
   and w.status = s.status;


grant select, insert, update, delete on public.contacts_v2 to authenticated;


create trigger _100_expect_hits
    before insert or update or delete on public.contacts_v2
    for each statement
    execute function private.tg__expect_hits();

create trigger _110_expect_version
    before update of version on public.contacts_v2
    for each statement
    execute function private.tg__expect_version();

create trigger _500_write_face
    instead of insert or update or delete on public.contacts_v2
    for each row
    execute function private.tg__write_face('contacts_page');

create trigger _900_require_hits
    after insert or update or delete on public.contacts_v2
    for each statement
    execute function private.tg__require_hits();


comment on view public.contacts_v2 is
    'Contacts as the contacts page has them. Write name, phone, email, username, tags, notes and conversation_status; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.contacts_v2.name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.contacts_v2.conversation_status is
    'open, pending or closed: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.contacts_v2.conversation_id is
    'The current conversation, to which a written status goes.';


/*
    The live chat's face of a contact: status with a capital, and what a list of chats shows.
*/
create view public.contacts_live_chat
    with (security_invoker = true)
as
select
    s.id,
    s.account_id,
    s.name,
    s.phone,
    s.customer_wa_id as wa_id,
    s.username,
    s.email,
    s.tags,
    w.word as conversation_status,
    s.conversation_id,
    s.channel,
    s.last_message_at,
    s.last_inbound_at,
    s.created_at,
    s.updated_at,
    s.version
from private.contact_states s
join public.status_words w
    on w.face = 'live_chat'
   and w.status = s.status;


grant select, insert, update, delete on public.contacts_live_chat to authenticated;


create trigger _100_expect_hits
    before insert or update or delete on public.contacts_live_chat
    for each statement
    execute function private.tg__expect_hits();

create trigger _110_expect_version
    before update of version on public.contacts_live_chat
    for each statement
    execute function private.tg__expect_version();

create trigger _500_write_face
    instead of insert or update or delete on public.contacts_live_chat
    for each row
    execute function private.tg__write_face('live_chat');

create trigger _900_require_hits
    after insert or update or delete on public.contacts_live_chat
    for each statement
    execute function private.tg__require_hits();


comment on view public.contacts_live_chat is
    'Contacts as the live chat has them. Write name, phone, email, username, tags and conversation_status; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.contacts_live_chat.name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.contacts_live_chat.wa_id is
    'The WhatsApp id to which replies in the current conversation go.';
comment on column public.contacts_live_chat.conversation_status is
    'Open, Pending or Closed: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.contacts_live_chat.conversation_id is
    'The current conversation, to which a written status goes.';
comment on column public.contacts_live_chat.channel is
    'The channel of the current conversation: whatsapp, booking or portal.';


/*
    Views know no "on conflict": a contact that may be there already is written by this RPC,
    which knows it by its id or by what it is recognised by.
*/
create function private.find_contact(account_id uuid, fields jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    owners uuid[];
begin
    owners := array(
        select distinct o.contact_id
        from jsonb_each_text(fields) k
        join public.contact_identities o
            on o.account_id = find_contact.account_id
           and o.kind = k.key
           and o.match_key = private.match_key(kind => k.key, value => btrim(k.value))
        where k.key in ('phone', 'email', 'username')
        order by o.contact_id
    );
    if cardinality(owners) > 1 then
        raise sqlstate 'PT409' using
            message = 'These are known of different contacts.',
            detail = format('contacts: %s', array_to_string(owners, ', ')),
            hint = 'Merge them, or say which by its id.';
    end if;
    return owners[1];
end
$$;


create function private.contact_of_id(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_id uuid := contact_id;
    redirect record;
begin
    -- a merged contact is found where it went; chains are short, and a ring can't be written
    for hop in 1 .. 10 loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = found_id
          and c.account_id = contact_of_id.account_id;
        if not found or redirect.deleted_at is null then
            return found_id;
        end if;
        exit when redirect.merged_into is null;
        found_id := redirect.merged_into;
    end loop;
    raise sqlstate 'PT404' using
        message = 'There is no such contact any more.',
        detail = format('contact: %s', contact_id);
end
$$;


create function private.save_contact(account_id uuid, contact jsonb, face text)
    returns uuid
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := contact ->> 'id';
    fields jsonb;
    target uuid;
    exists_already boolean;
begin
    perform private.require_writable(save_contact.account_id);
    if face is null or face not in ('contacts_page', 'live_chat') then
        raise sqlstate 'PT422' using
            message = 'Contacts are not written by this face.',
            detail = 'field: face',
            hint = 'Known: contacts_page, live_chat.';
    elsif jsonb_typeof(contact) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'A contact is an object of fields.',
            detail = 'field: contact';
    end if;
    fields := private.read_face(face => face, fields => contact - 'id');

    -- another session may make the contact between the look and the write: look again
    for attempt in 1 .. 3 loop
        target := coalesce(
            private.contact_of_id(account_id => save_contact.account_id, contact_id => named),
            private.find_contact(account_id => save_contact.account_id, fields => fields),
            gen_random_uuid()
        );
        exists_already := exists (
            select
            from public.contacts c
            where c.id = target
              and c.account_id = save_contact.account_id
        );
        begin
            if not exists_already then
                perform private.add_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            elsif fields <> '{}' then
                perform private.change_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            end if;
            return target;
        exception
            when sqlstate 'PT409' or sqlstate 'PT404' then
                -- made meanwhile, or deleted: if it was meant by its id, that is the answer
                if attempt = 3
                    or (exists_already and (sqlstate = 'PT409' or named is not null))
                then
                    raise;
                end if;
            when lock_not_available then
                raise sqlstate 'PT503' using
                    message = 'Others are writing this contact.',
                    hint = 'Try again.';
        end;
    end loop;
end
$$;

grant execute on function private.save_contact(uuid, jsonb, text) to authenticated;


create function public.upsert_contact(
    account_id uuid,
    contact jsonb,
    face text default 'contacts_page'
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    saved constant uuid := private.save_contact(
        account_id => upsert_contact.account_id,
        contact => upsert_contact.contact,
        face => upsert_contact.face
    );
begin
    return case face
        when 'contacts_page' then
            (select to_jsonb(v) from public.contacts_v2 v where v.id = saved)
        when 'live_chat' then
            (select to_jsonb(l) from public.contacts_live_chat l where l.id = saved)
    end;
end
$$;

grant execute on function public.upsert_contact(uuid, jsonb, text) to authenticated;


comment on function private.find_contact(uuid, jsonb) is
    'The contact that phone, email and username are known of; null where they are not, refused where of several.';
comment on function private.contact_of_id(uuid, uuid) is
    'The contact of this id, or the one that it was merged into.';
comment on function private.save_contact(uuid, jsonb, text) is
    'Changes the contact that is meant, or makes it; returns its id.';
comment on function public.upsert_contact(uuid, jsonb, text) is
    'Writes a contact known by its id, phone, email or username, or makes it: fields that are named are written, others stay. face is contacts_page or live_chat; answers the row as that face shows it. Known of several contacts: 409.';
