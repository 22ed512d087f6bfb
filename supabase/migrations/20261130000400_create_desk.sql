-- Made from sql/4_desk/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The base of all faces of a contact: the contact with its current conversation, which is the
    one with the latest activity. Before the first conversation a contact has a status of its own.
*/
create function private.make_contact_states()
    returns void
    language plpgsql
    set search_path = ''
as $make$
begin
    execute format(
        $sql$
        create or replace view private.contact_states
            with (security_invoker = true)
        as
        select
            c.id,
            c.account_id,
            -- as in contacts_list_idx
            case when c.name is null then c.profile_name else c.name end as name,
            c.name as own_name,
            coalesce(t.status, c.status) as status,
            t.conversation_id,
            t.channel,
            t.customer_wa_id,
            t.last_message_at,
            t.last_inbound_at,
            c.created_at,
            c.updated_at,
            c.version,
            c.%s
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
            -- WhatsApp's times are whole seconds: one conversation may close and the next one open
            -- in the same second
            order by a.last_message_at desc, k.created_at desc, a.conversation_id desc
            limit 1
        ) t
            on true
        where c.deleted_at is null
        $sql$,
        (
            select string_agg(quote_ident(f.field), ', c.' order by f.place)
            from private.contact_fields f
            where f.field <> 'name'
        )
    );
end
$make$;

select private.make_contact_states();


grant select on private.contact_states to authenticated;


comment on view private.contact_states is
    'A contact with its current conversation (latest activity): the base of the faces.';
comment on function private.make_contact_states() is
    'Makes private.contact_states for the fields that contacts have now.';


/*
    The triggers of the faces. A row that is written through a face becomes fields of the contact,
    with the status translated from the face's word. The returned row is read again.
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
        writable => private.fields_written_by(face) || array['conversation_status']
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


create function private.tg__expect_hits()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    perform set_config('rapport.hits', '0', true);
    perform set_config('rapport.version_named', 'off', true);
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
    -- the row alone does not show whether its version was written or only kept
    perform set_config('rapport.version_named', 'on', true);
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
            message = 'No contact was changed: there is no such contact, or it is not yours to see.';
    end if;
    return null;
end
$$;


create function private.tg__write_face()
    returns trigger
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
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
        -- Rows of one statement come in any order, so from the second row on the locks may break
        -- the lock order. A short timeout ends the wait long before a deadlock.
        perform set_config('lock_timeout', '400ms', true);
    end if;

    if tg_op = 'DELETE' then
        perform private.require_writable(old.account_id);
        perform private.delete_contact(account_id => old.account_id, contact_id => old.id);
        return old;
    end if;

    -- an insert writes the given fields, an update those that differ from the row
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
                    when current_setting('rapport.version_named') = 'on' then new.version
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


comment on function private.require_written_here(jsonb, text[]) is
    'Refuses a field that is not writable, and names it.';
comment on function private.read_face(text, jsonb) is
    'Turns the fields of a face into fields of the contact; refuses fields that the face does not write.';
comment on function private.tg__expect_hits() is
    'Begins to count the rows that a statement finds.';
comment on function private.tg__expect_version() is
    'Notes that a statement gives the version that it has read.';
comment on function private.tg__require_hits() is
    'Refuses a statement that found no row (404): a row that row level security hides is no success.';
comment on function private.tg__write_face() is
    'Writes through a face; its argument is the face''s name in status_words.';


/*
    A face of contacts is a view that shows the fields which private.contact_fields has for it,
    and takes writes by the triggers of write_faces. The columns of all faces come first, so that
    a field that is added later is its last column, and the view can be made again.
*/
create function private.make_face(
    view_name text,
    -- as in status_words
    face text,
    -- further columns that the face shows: of contact_states (s), and of the joined table
    more text[],
    joined text default '',
    name text default 's.name'
)
    returns void
    language plpgsql
    set search_path = ''
as $make$
declare
    fields constant text := (
        select string_agg(
            case f.field
                when 'name' then make_face.name || ' as name'
                else 's.' || quote_ident(f.field)
            end,
            ', ' order by f.place
        )
        from private.contact_fields f
        where make_face.face = any (f.shown_by)
    );
    documented record;
begin
    execute format(
        $sql$
        create or replace view public.%1$I
            with (security_invoker = true)
        as
        select
            s.id, s.account_id, w.word as conversation_status, %2$s, s.created_at, s.updated_at,
            s.version, %3$s
        from private.contact_states s
        join public.status_words w
            on w.face = %4$L
           and w.status = s.status
        %5$s;

        grant select, insert, update, delete on public.%1$I to authenticated;

        create or replace trigger _100_expect_hits
            before insert or update or delete on public.%1$I
            for each statement
            execute function private.tg__expect_hits();

        create or replace trigger _110_expect_version
            before update of version on public.%1$I
            for each statement
            execute function private.tg__expect_version();

        create or replace trigger _500_write_face
            instead of insert or update or delete on public.%1$I
            for each row
            execute function private.tg__write_face(%4$L);

        create or replace trigger _900_require_hits
            after insert or update or delete on public.%1$I
            for each statement
            execute function private.tg__require_hits();
        $sql$,
        view_name, array_to_string(more, ', '), fields, face, joined
    );

    -- the comment of the table's column serves for the face's column, unless the face has its own
    for documented in
        select a.attname, d.description
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_attribute c
            on c.attrelid = 'public.contacts'::regclass
           and c.attname = a.attname
        join pg_catalog.pg_description d
            on d.classoid = 'pg_catalog.pg_class'::regclass
           and d.objoid = c.attrelid
           and d.objsubid = c.attnum
        where a.attrelid = format('public.%I', view_name)::regclass
          and pg_catalog.col_description(a.attrelid, a.attnum) is null
    loop
        execute format(
            'comment on column public.%I.%I is %L',
            view_name, documented.attname, documented.description
        );
    end loop;
end
$make$;


comment on function private.make_face(text, text, text[], text, text) is
    'Makes a face''s view, or makes it again for the fields that it shows now.';


/*
    The contacts page's face of a contact: status in lower case.
*/
select private.make_face(
    view_name => 'contacts_v2',
    face => 'contacts_page',
    more => array['s.conversation_id']
);


comment on view public.contacts_v2 is
    'Contacts, as the contacts page shows them. Write name, phone, email, username, tags, notes, preferences and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409).';
comment on column public.contacts_v2.id is
    'Identifies the contact.';
comment on column public.contacts_v2.account_id is
    'The account that knows the contact.';
comment on column public.contacts_v2.name is
    'The name that staff gave, or else that of the WhatsApp profile.';
comment on column public.contacts_v2.profile_name is
    'The name of the person''s WhatsApp profile; read-only.';
comment on column public.contacts_v2.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.contacts_v2.username is
    'The person''s latest known WhatsApp username, without @.';
comment on column public.contacts_v2.email is
    'One email address.';
comment on column public.contacts_v2.tags is
    'Labels that staff give, at most 100.';
comment on column public.contacts_v2.notes is
    'Notes of staff, at most 20,000 characters; customers do not see them.';
comment on column public.contacts_v2.preferences is
    'The customer''s choices: an object of at most 8 KB.';
comment on column public.contacts_v2.marketing_stopped_at is
    'Since when the person takes no marketing messages on WhatsApp, by WhatsApp''s clock (UTC): the person''s own choice, read-only.';
comment on column public.contacts_v2.conversation_status is
    'open, pending or closed: the status of the current conversation (latest activity), or the contact''s own before the first one.'
    ' Type: "open" | "pending" | "closed"';
comment on column public.contacts_v2.conversation_id is
    'The current conversation, which gets a written status; null before the first one.';
comment on column public.contacts_v2.portal_user_id is
    'The login (auth.users) with which the person enters the portal; null without one.';
comment on column public.contacts_v2.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.contacts_v2.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.contacts_v2.version is
    'Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since.';


select private.limit_writes('contacts_v2', '{insert,update,delete}');


/*
    The live chat's face of a contact: status with a capital, and the columns of a list of chats.
*/
select private.make_face(
    view_name => 'contacts_live_chat',
    face => 'live_chat',
    more => array[
        's.customer_wa_id as wa_id', 's.conversation_id', 's.channel', 's.last_message_at',
        's.last_inbound_at'
    ]
);


comment on view public.contacts_live_chat is
    'Contacts, as the live chat shows them. Write name, phone, email, username, tags and conversation_status. A write that finds no contact is refused (404), and so is one with an old version (409).';
comment on column public.contacts_live_chat.id is
    'Identifies the contact.';
comment on column public.contacts_live_chat.account_id is
    'The account that knows the contact.';
comment on column public.contacts_live_chat.name is
    'The name that staff gave, or else that of the WhatsApp profile.';
comment on column public.contacts_live_chat.phone is
    'The phone number in E.164, such as +38640111222.';
comment on column public.contacts_live_chat.wa_id is
    'The WhatsApp id to which replies in the current conversation go.';
comment on column public.contacts_live_chat.username is
    'The person''s latest known WhatsApp username, without @.';
comment on column public.contacts_live_chat.email is
    'One email address.';
comment on column public.contacts_live_chat.tags is
    'Labels that staff give, at most 100.';
comment on column public.contacts_live_chat.conversation_status is
    'Open, Pending or Closed: the status of the current conversation (latest activity), or the contact''s own before the first one.'
    ' Type: "Open" | "Pending" | "Closed"';
comment on column public.contacts_live_chat.conversation_id is
    'The current conversation, which gets a written status; null before the first one.';
comment on column public.contacts_live_chat.channel is
    'The channel of the current conversation: whatsapp, booking or portal.';
comment on column public.contacts_live_chat.last_message_at is
    'When the latest message of the current conversation was sent (UTC).';
comment on column public.contacts_live_chat.last_inbound_at is
    'When the customer last wrote or called in the current conversation: on WhatsApp by WhatsApp''s clock (UTC).';
comment on column public.contacts_live_chat.created_at is
    'When the contact was made (server time, UTC).';
comment on column public.contacts_live_chat.updated_at is
    'When the contact last changed (server time, UTC).';
comment on column public.contacts_live_chat.version is
    'Rises by 1 with each change of the contact. An update that gives the version it has read is refused (409) if the contact has changed since.';


select private.limit_writes('contacts_live_chat', '{insert,update,delete}');


/*
    A view takes no "on conflict". So this RPC writes a contact that may exist already: it finds
    the contact by its id or by its identities.
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
           -- without the spaces around it, which are not written either
           and o.match_key = private.match_key(
               kind => k.key, value => btrim(k.value, E' \t\r\n'))
        where k.key in ('phone', 'email', 'username')
        order by o.contact_id
    );
    if cardinality(owners) > 1 then
        raise sqlstate 'PT409' using
            message = 'These values belong to different contacts.',
            detail = format('contacts: %s', array_to_string(owners, ', ')),
            hint = 'Merge the contacts, or give the id of one.';
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
    -- follow all merges to the contact that is left; a circle of merges can't be written
    loop
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
    -- definer: users may not write contacts; the caller is checked first
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
            message = 'Contacts can''t be written through this face.',
            detail = 'field: face',
            hint = 'Known: contacts_page, live_chat.';
    elsif jsonb_typeof(contact) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'A contact is an object of fields.',
            detail = 'field: contact',
            hint = 'Send an object such as {"name": "Nika", "phone": "+38640111222"}.';
    end if;
    fields := private.read_face(face => face, fields => contact - 'id');

    -- another session may insert the contact between the look-up and the write: look it up again
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
                -- it was inserted, merged or deleted meanwhile: the next look-up finds another
                -- contact, or none
                if attempt = 3 or (exists_already and sqlstate = 'PT409') then
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
    'The contact that owns the phone, email and username; null if none does, refused if several do.';
comment on function private.contact_of_id(uuid, uuid) is
    'The contact with this id, or the one into which it was merged.';
comment on function private.save_contact(uuid, jsonb, text) is
    'Finds and changes a contact, or inserts it; returns its id.';
comment on function public.upsert_contact(uuid, jsonb, text) is
    'Writes a contact that is found by its id, phone, email or username, or inserts it. Given fields are written, others stay. face is contacts_page or live_chat; the answer is the row, as that face shows it. If the values belong to several contacts: 409.'
    ' Type: (face: "contacts_page" | "live_chat") => contacts_v2 | contacts_live_chat';


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


/*
    The text by which contacts are found, folded once when it is written. It is a table of its
    own: an index on an expression would fold each candidate again during a search, and clients do
    not need the column.
*/
create function private.word_beginnings(words text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    beginnings constant text := (
        select string_agg(distinct ' ' || left(w, 2), '')
        from string_to_table(words, ' ') w
        where w <> ''
    );
begin
    -- part of an index, which has no room for long values
    return case when octet_length(beginnings) <= 400 then beginnings end;
end
$$;


create function private.inner_beginnings(words text, sort_name text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select distinct left(w, n)
        from string_to_table(words, ' ') w
        cross join generate_series(1, 2) n
        where w <> ''
          and not starts_with(sort_name, left(w, n))
    );
end
$$;


create table private.contact_search (
    contact_id uuid primary key,
    account_id uuid not null,
    -- the shown name, folded; its byte order is the alphabet's, because it has no accents
    sort_name  text collate "C" not null,
    -- every word with a space before it, so that a search can ask for its beginning
    words      text not null,
    -- for searches of one or two letters; null if it is too long, and then words is searched
    beginnings text generated always as (private.word_beginnings(words)) stored,

    constraint contact_search_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
)
-- A walk along the list reads only the index, except for pages that were written after the last
-- vacuum. By default a vacuum comes when a fifth of the table has changed.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table private.contact_search enable row level security;


-- with the beginnings of words, so that a walk along the list for a letter reads only the index
create index contact_search_list_idx
    on private.contact_search (account_id, sort_name, contact_id)
    include (beginnings);

-- With a short pending list (in kB): many contacts are written in a third of the time, and a search
-- reads some 80 contacts more, which is not measurable. Tried: none, and the usual 4 MB, which is no
-- faster and which every search would have to read.
create index contact_search_words_idx
    on private.contact_search
    using gin (account_id, words extensions.gin_trgm_ops)
    with (gin_pending_list_limit = 64);

-- One or two letters make no trigram. For trigrams a word begins after every @ and every dot: a
-- search for gm would find everybody at gmail.com. The beginning of the sorted name is left out,
-- because contacts with it stand side by side in the list.
create index contact_search_beginnings_idx
    on private.contact_search
    using gin (account_id, (private.inner_beginnings(words, sort_name)))
    with (gin_pending_list_limit = 64);

-- plans do not need these statistics, and each analyze would call the function 30,000 times
alter index private.contact_search_beginnings_idx alter column 2 set statistics 0;


create function private.sort_name(name text, username text, email text, phone text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- a contact without a name comes last: its text begins with a character that no name has
    return private.fold(
        coalesce(btrim(name), U&'\+10FFFF' || coalesce(username, email, phone, '')));
end
$$;


create function private.search_words(
    name text,
    username text,
    email text,
    phone text,
    tags text[]
)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return regexp_replace(
        private.fold(
            concat_ws(' ', '', name, username, email, ltrim(phone, '+'), array_to_string(tags, ' '))
        ),
        '\s+', ' ', 'g');
end
$$;


create function private.tg_contacts__keep_search()
    returns trigger
    language plpgsql
    -- definer: only this function writes the search table
    security definer
    set search_path = ''
as $$
begin
    insert into private.contact_search as s (contact_id, account_id, sort_name, words)
    select
        n.id,
        n.account_id,
        private.sort_name(
            name => coalesce(n.name, n.profile_name),
            username => n.username,
            email => n.email,
            phone => n.phone
        ),
        private.search_words(
            name => coalesce(n.name, n.profile_name),
            username => n.username,
            email => n.email,
            phone => n.phone,
            tags => n.tags
        )
    from new_rows n
    where n.deleted_at is null
    order by n.id
    on conflict (contact_id) do update
        set sort_name = excluded.sort_name,
            words = excluded.words
        where (s.sort_name, s.words) is distinct from (excluded.sort_name, excluded.words);

    if exists (select from new_rows n where n.deleted_at is not null) then
        delete from private.contact_search s
        using new_rows n
        where s.contact_id = n.id
          and n.deleted_at is not null;
    end if;
    return null;
end
$$;

create trigger _500_keep_search_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__keep_search();

create trigger _500_keep_search_update
    after update on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__keep_search();


comment on table private.contact_search is
    'The text by which contacts are found and sorted; search_contacts reads it.';
comment on column private.contact_search.words is
    'The shown name, the username, the email, the digits of the phone and the tags, folded.';
comment on column private.contact_search.beginnings is
    'The first two letters of every word, each with a space before it.';
comment on function private.word_beginnings(text) is
    'The different beginnings of words, two letters each; null if there are too many.';
comment on function private.inner_beginnings(text, text) is
    'The first letter and the first two letters of each word, without those of the sorted name.';
comment on function private.sort_name(text, text, text, text) is
    'The place of a contact in the list: its folded name. Contacts without a name come last, by username, email or phone.';
comment on function private.search_words(text, text, text, text, text[]) is
    'All values by which a contact is found, folded, in one text.';
comment on function private.tg_contacts__keep_search() is
    'Writes to the search table what changes in contacts, in the same transaction.';


/*
    Turns a query into patterns of words.
*/
create function private.word_patterns(words text[])
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select case
            -- too short for a trigram: search for the beginning of a word, which has one
            when length(w) < 3 then '% '
            else '%'
        end || regexp_replace(w, '([\\%_])', '\\\1', 'g') || '%'
        from unnest(words) w
        where w <> ''
        -- the index searches the longest word, which is usually the rarest
        order by length(w) desc, w
    );
end
$$;

grant execute on function private.word_patterns(text[]) to authenticated;


create function private.search_patterns(query text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    folded constant text := private.fold(query);
    -- digits, as people write a phone number; (0) is the national zero
    phone_like constant text := '^\+?[0-9 ()./-]*$';
    words text[];
begin
    words := case
        when folded ~ phone_like and folded ~ '[1-9]([^0-9]*[0-9]){2}' then array[folded]
        else string_to_array(btrim(regexp_replace(folded, '\s+', ' ', 'g')), ' ')
    end;
    return private.word_patterns(array(
        select case
            -- stored numbers have neither 00 nor the national 0
            when length(ltrim(d.digits, '0')) >= 3 then regexp_replace(d.digits, '^00?', '')
            else w
        end
        from unnest(words) w
        cross join lateral (
            select case
                when w ~ phone_like
                    then regexp_replace(replace(w, '(0)', ''), '[^0-9]', '', 'g')
            end as digits
        ) d
    ));
end
$$;

grant execute on function private.search_patterns(text) to authenticated;


create function private.literal_patterns(query text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    folded constant text := btrim(regexp_replace(private.fold(query), '\s+', ' ', 'g'));
    words constant text[] := string_to_array(folded, ' ');
begin
    -- 24/7 and 2026-11 may be part of a number or of a tag; digits with spaces are a number
    return case
        when folded !~ '^\+?[0-9()./-]* [0-9 ()./-]*$' and exists (
            select
            from unnest(words) w
            where w ~ '^[0-9()./-]*[0-9][()./-]+[0-9][0-9()./-]*$'
        )
            then private.word_patterns(words)
    end;
end
$$;

grant execute on function private.literal_patterns(text) to authenticated;


create function private.asked_beginning(patterns text[])
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case when cardinality(patterns) = 1
        then regexp_replace(substring(patterns[1] from '^% (.*)%$'), '\\(.)', '\1', 'g')
    end;
end
$$;


comment on function private.word_patterns(text[]) is
    'The patterns that find texts with these words, the longest word first.';
comment on function private.search_patterns(text) is
    'The patterns of a query''s words, the longest first. A text that looks like a phone number becomes one word of digits.';
comment on function private.literal_patterns(text) is
    'The patterns of a query''s words as they are written, if a word that looks like a phone number may be something else; null otherwise.';
comment on function private.asked_beginning(text[]) is
    'The beginning of a word, if the patterns ask only for one; null otherwise.';


/*
    Search, in two halves. Text operators are not leakproof, so under row level security Postgres
    never uses a trigram index. A definer function checks the caller and finds ids. An invoker
    function reads these rows as the caller.
*/
create function private.search_page(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    -- definer: users may not read the search table; the caller is checked first
    security definer
    rows 50
    set search_path = ''
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
    -- in a list by name the beginnings of surnames come in groups, one for each first name
    steps integer := case when patterns[1] like '\% %' then 4000 else 1000 end;
    walks integer := 1;
    met integer := 0;
    last_name text := after_name;
    last_id uuid := after_id;
begin
    perform private.require_member(account_id);

    -- A walk along the list finds enough contacts with a frequent word; sorting all of them would
    -- take longer. It does not find enough with a rare word; for that an index of words is faster.
    loop
        for contact_id, sort_name in
            select w.contact_id, w.sort_name
            from private.walk_search_list(
                account_id => search_page.account_id,
                patterns => patterns,
                after_name => after_name,
                after_id => after_id,
                steps => steps,
                page_size => page_size - met
            ) w
        loop
            return next;
            met := met + 1;
            last_name := sort_name;
            last_id := contact_id;
        end loop;
        if met = page_size or patterns = '{}' then
            return;
        end if;
        -- the index of beginnings costs less than a look at how far the walk came
        exit when beginning is not null;

        select p.after_name, p.after_id
        into last_name, last_id
        from private.search_list_place(
            account_id => search_page.account_id,
            after_name => after_name,
            after_id => after_id,
            steps => steps
        ) p;
        if last_id is null then
            return;
        end if;
        -- walk on once, 1.5 times as far as should fill the page, unless that is too far
        exit when walks = 2 or met * 4 < page_size;
        after_name := last_name;
        after_id := last_id;
        steps := least(steps * 3 / 2 * (page_size - met) / met, 3000);
        walks := 2;
    end loop;

    return query
    select m.contact_id, m.sort_name
    from (
        select w.contact_id, w.sort_name
        from private.search_by_words(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) w
        union all
        select n.contact_id, n.sort_name
        from private.search_by_name(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) n
    ) m
    -- rows of a function have lost the list's collation
    order by m.sort_name collate "C", m.contact_id
    limit page_size - met;
end
$$;

grant execute on function private.search_page(uuid, text[], text, uuid, integer) to authenticated;


create function private.read_search_cursor(cursor text)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    fields jsonb;
begin
    fields := convert_from(decode(cursor, 'base64'), 'UTF8')::jsonb;
    if jsonb_typeof(fields -> 'name') = 'string' and pg_input_is_valid(fields ->> 'id', 'uuid') then
        return fields;
    end if;
    return null;
exception
    when data_exception then
        return null;
end
$$;

grant execute on function private.read_search_cursor(text) to authenticated;


create function public.search_contacts(
    account_id uuid,
    query text default '',
    cursor text default null,
    page_size integer default 50
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- before the first contact: an empty name comes first
    given jsonb := '{"name": "", "id": "00000000-0000-0000-0000-000000000000"}';
    literal_patterns constant text[] := private.literal_patterns(search_contacts.query);
    ids uuid[];
    names text[];
    next_cursor text;
    contacts jsonb;
begin
    if length(query) > 200 then
        raise sqlstate 'PT422' using
            message = format('The query has %s characters; 200 are allowed.', length(query)),
            detail = 'field: query',
            hint = 'Shorten it to 200 characters.';
    elsif page_size is null or page_size not between 1 and 200 then
        raise sqlstate 'PT422' using
            message = 'A page has 1 to 200 contacts.',
            detail = 'field: page_size',
            hint = 'Give a page_size from 1 to 200.';
    elsif search_contacts.cursor is not null then
        given := private.read_search_cursor(search_contacts.cursor);
        if given is null then
            raise sqlstate 'PT422' using
                message = 'This is not a cursor of search_contacts.',
                detail = 'field: cursor',
                hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
        end if;
    end if;

    select
        array_agg(p.contact_id order by p.sort_name collate "C", p.contact_id),
        array_agg(p.sort_name order by p.sort_name collate "C", p.contact_id)
    into ids, names
    from (
        select u.contact_id, u.sort_name
        from (
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => private.search_patterns(coalesce(search_contacts.query, '')),
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                -- one more row shows whether there is a next page
                page_size => search_contacts.page_size + 1
            ) n
            union
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => literal_patterns,
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                page_size => search_contacts.page_size + 1
            ) n
            where literal_patterns is not null
        ) u
        order by u.sort_name collate "C", u.contact_id
        limit search_contacts.page_size + 1
    ) p;

    if cardinality(ids) > page_size then
        next_cursor := private.write_cursor(
            jsonb_build_object('name', names[page_size], 'id', ids[page_size]));
        ids := ids[:page_size];
    end if;

    select coalesce(jsonb_agg(to_jsonb(v) order by i.place), '[]')
    into contacts
    from unnest(ids) with ordinality as i (id, place)
    cross join lateral (
        select c.*
        from public.contacts_v2 c
        where c.id = i.id
        -- one by one: from the policies the planner expects a wrong number of rows
        limit 1
    ) v;

    return jsonb_build_object('contacts', contacts, 'cursor', next_cursor);
end
$$;

grant execute on function public.search_contacts(uuid, text, text, integer) to authenticated;


comment on function private.search_page(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name; refuses a caller who does not work for the account.';
comment on function private.read_search_cursor(text) is
    'The fields of a cursor of search_contacts; null if it is not one.';
comment on function public.search_contacts(uuid, text, text, integer) is
    'Finds contacts by name, username, email, phone and tags, without regard to case and accents. Every word of the query must be part of one of them; a word of one or two letters must begin a word. A phone number is found in any spelling. Returns them in the order of their names, and the cursor of the next page, null at the end. An empty query lists all. At most 200 characters and 200 rows. Not a member of the account: 404.'
    ' Type: {contacts: contacts_v2[], cursor: text | null}';


/*
    Three ways to find the matching contacts of one account: along its list, by the names in the
    list, and by the index of words. Each has one fixed plan. The planner does not choose it by
    statistics, because these differ between a big account and a small one.

    Measured in alternating rounds, searches of all kinds among 50,000 contacts: p95 is 5.1 ms of
    work; without the beginnings of words it is 7.4 ms; with one plain statement that the planner
    plans it is 8.7 ms, and 22 ms for surnames.
*/
create function private.walk_search_list(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    steps integer,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- Always along the list's index. Without these settings, after many writes since the last
    -- vacuum, the planner fetched and sorted all contacts of an account.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
begin
    if patterns = '{}' then
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = walk_search_list.account_id
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    elsif patterns[1] like '\% %' then
        -- the index has the beginnings of words: a step there costs a third of one that reads the
        -- row
        return query
        select s.contact_id, s.sort_name
        from (
            select w.contact_id, w.sort_name, w.beginnings
            from private.contact_search w
            where w.account_id = walk_search_list.account_id
              and (w.sort_name, w.contact_id) > (after_name, after_id)
            order by w.sort_name, w.contact_id
            limit steps
        ) s
        where s.beginnings like all (patterns)
           or (
               s.beginnings is null
               and exists (
                   select
                   from private.contact_search w
                   where w.contact_id = s.contact_id
                     and w.words like all (patterns)
               )
           )
        order by s.sort_name, s.contact_id
        limit page_size;
    else
        return query
        select s.contact_id, s.sort_name
        from (
            select w.contact_id, w.sort_name, w.words
            from private.contact_search w
            where w.account_id = walk_search_list.account_id
              and (w.sort_name, w.contact_id) > (after_name, after_id)
            order by w.sort_name, w.contact_id
            limit steps
        ) s
        where s.words like all (patterns)
        order by s.sort_name, s.contact_id
        limit page_size;
    end if;
end
$$;


create function private.search_list_place(
    account_id uuid,
    inout after_name text,
    inout after_id uuid,
    steps integer
)
    language plpgsql
    stable
    set search_path = ''
    -- as walk_search_list
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
begin
    select w.sort_name, w.contact_id
    into after_name, after_id
    from private.contact_search w
    where w.account_id = search_list_place.account_id
      and (w.sort_name, w.contact_id) > (after_name, after_id)
    order by w.sort_name, w.contact_id
    offset steps - 1
    limit 1;
end
$$;


create function private.search_by_name(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- as walk_search_list
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
begin
    if beginning is null then
        return;
    -- one place to begin at: with two conditions the index might use either
    elsif beginning collate "C" > after_name then
        after_name := beginning;
        after_id := '00000000-0000-0000-0000-000000000000';
    end if;
    return query
    select w.contact_id, w.sort_name
    from private.contact_search w
    where w.account_id = search_by_name.account_id
      and (w.sort_name, w.contact_id) > (after_name, after_id)
      and w.sort_name < beginning || U&'\+10FFFF'
      and w.words like all (patterns)
    order by w.sort_name, w.contact_id
    limit page_size;
end
$$;


create function private.search_by_words(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- always by the index of words, even if the statistics favour another way
    set plan_cache_mode = force_generic_plan
    set enable_bitmapscan = on
    set enable_sort = on
    set enable_seqscan = off
    set enable_indexscan = off
    set enable_indexonlyscan = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
    pattern constant text := patterns[1];
    others constant text[] := patterns[2:];
begin
    if beginning is not null then
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_by_words.account_id
          and private.inner_beginnings(w.words, w.sort_name) @> array[beginning]
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    else
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_by_words.account_id
          and w.words like pattern
          and w.words like all (others)
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    end if;
end
$$;


comment on function private.walk_search_list(uuid, text[], text, uuid, integer, integer) is
    'A page of an account''s contacts that match every pattern, by name: those that a walk of so many steps along the list finds.';
comment on function private.search_list_place(uuid, text, uuid, integer) is
    'The place in an account''s list after so many steps; null beyond its end.';
comment on function private.search_by_name(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts whose sorted name begins with the one searched beginning; no rows if the patterns ask for more.';
comment on function private.search_by_words(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name, found by the indexes of words. For one beginning, contacts whose sorted name begins with it are left out.';


/*
    Pairs of contacts that may be one person. The software never guesses: a pair waits here until
    a person decides.
*/
create table public.contact_suggestions (
    id               uuid primary key default gen_random_uuid(),
    account_id       uuid not null,
    -- the lesser id first, so that a pair is one row
    contact_id       uuid not null,
    other_contact_id uuid not null,
    reason           text not null
                     constraint contact_suggestions_reason_check
                     check (reason in (
                         -- one WhatsApp sender belongs to both, by number and by user id
                         'same_sender',
                         -- the number or user id of one became that of the other
                         'number_changed',
                         'user_id_changed',
                         'same_name',
                         'same_phone',
                         'same_email',
                         -- one imported row belongs to both
                         'same_row',
                         'same_partner'
                     )),
    -- the evidence, for clients to show: {phone, email, name …}
    evidence         jsonb not null default '{}',
    status           text not null default 'open'
                     constraint contact_suggestions_status_check
                     check (status in ('open', 'merged', 'dismissed')),
    decided_by       uuid,
    decided_at       timestamptz,
    created_at       timestamptz not null default now(),

    constraint contact_suggestions_pair_check check (contact_id < other_contact_id),
    constraint contact_suggestions_pair_key
        unique (account_id, contact_id, other_contact_id, reason),
    constraint contact_suggestions_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint contact_suggestions_other_contact_fkey
        foreign key (other_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.contact_suggestions enable row level security;


-- the open suggestions, latest first
create index contact_suggestions_open_idx
    on public.contact_suggestions (account_id, created_at desc, id)
    where status = 'open';

create index contact_suggestions_contact_idx
    on public.contact_suggestions (contact_id, account_id);

create index contact_suggestions_other_contact_idx
    on public.contact_suggestions (other_contact_id, account_id);


grant select on public.contact_suggestions to authenticated;


create function private.suggest_merge(
    account_id uuid,
    contact_ids uuid[],
    reason text,
    evidence jsonb
)
    returns void
    language sql
    set search_path = ''
as $$
    -- a dismissed pair stays dismissed
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select
        suggest_merge.account_id,
        least(contact_ids[1], contact_ids[2]),
        greatest(contact_ids[1], contact_ids[2]),
        suggest_merge.reason,
        suggest_merge.evidence
    where contact_ids[1] <> contact_ids[2]
    on conflict (account_id, contact_id, other_contact_id, reason) do nothing
$$;


create view public.open_suggestions
    with (security_invoker = true)
as
select
    s.id,
    s.account_id,
    s.contact_id,
    coalesce(c.name, c.profile_name) as name,
    s.other_contact_id,
    coalesce(o.name, o.profile_name) as other_name,
    s.reason,
    s.evidence,
    s.created_at
from public.contact_suggestions s
join public.contacts c
    on c.id = s.contact_id
   and c.deleted_at is null
join public.contacts o
    on o.id = s.other_contact_id
   and o.deleted_at is null
where s.status = 'open';


grant select on public.open_suggestions to authenticated;


create function private.dismiss_pair(suggestion_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write suggestions; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    suggestion public.contact_suggestions;
begin
    select s.*
    into suggestion
    from public.contact_suggestions s
    where s.id = suggestion_id
      and s.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such suggestion, or it is not yours to see.',
            detail = format('suggestion: %s', suggestion_id);
    end if;
    perform private.require_writable(suggestion.account_id);

    -- two contacts that are not one person are not one for any reason
    update public.contact_suggestions s
    set status = 'dismissed',
        decided_by = auth.uid(),
        decided_at = clock_timestamp()
    where s.account_id = suggestion.account_id
      and s.contact_id = suggestion.contact_id
      and s.other_contact_id = suggestion.other_contact_id
      and s.status = 'open';

    if not exists (
        select
        from public.contact_suggestions s
        where s.id = suggestion_id
          and s.status = 'dismissed'
    ) then
        raise sqlstate 'PT409' using
            message = 'The two contacts have been merged meanwhile.',
            detail = format('suggestion: %s', suggestion_id),
            hint = 'If they are not one person, undo the merge.';
    end if;
end
$$;

grant execute on function private.dismiss_pair(uuid) to authenticated;


create function public.dismiss_suggestion(suggestion_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.dismiss_pair(suggestion_id);
end
$$;

grant execute on function public.dismiss_suggestion(uuid) to authenticated;


comment on table public.contact_suggestions is
    'Pairs of contacts that may be one person, with the reason; see merge_contacts.';
comment on column public.contact_suggestions.id is
    'Identifies the suggestion; dismiss_suggestion takes it.';
comment on column public.contact_suggestions.account_id is
    'The account of both contacts.';
comment on column public.contact_suggestions.contact_id is
    'One of the two contacts: the one with the lesser id.';
comment on column public.contact_suggestions.other_contact_id is
    'The other contact.';
comment on column public.contact_suggestions.reason is
    'same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP).';
comment on column public.contact_suggestions.evidence is
    'The evidence that both are one person, for the member who decides: phone, email, name …'
    ' Type: {[text]: json}';
comment on column public.contact_suggestions.status is
    'open, merged or dismissed.';
comment on column public.contact_suggestions.decided_by is
    'The user who merged or dismissed the pair; null while it is open.';
comment on column public.contact_suggestions.decided_at is
    'When the pair was merged or dismissed (server time, UTC); null while it is open.';
comment on column public.contact_suggestions.created_at is
    'When the suggestion was made (server time, UTC).';
comment on function private.suggest_merge(uuid, uuid[], text, jsonb) is
    'Notes that two contacts may be one person; a pair is noted once for each reason.';
comment on view public.open_suggestions is
    'The suggestions that wait for a decision, with both names; suggestions about a deleted contact are left out.';
comment on column public.open_suggestions.id is
    'Identifies the suggestion; dismiss_suggestion takes it.';
comment on column public.open_suggestions.account_id is
    'The account of both contacts.';
comment on column public.open_suggestions.contact_id is
    'One of the two contacts: the one with the lesser id.';
comment on column public.open_suggestions.name is
    'The name of the first contact.';
comment on column public.open_suggestions.other_contact_id is
    'The other contact.';
comment on column public.open_suggestions.other_name is
    'The name of the other contact.';
comment on column public.open_suggestions.reason is
    'same_sender, number_changed, user_id_changed, same_name, same_phone, same_email, same_row (of an imported file) or same_partner (of the ERP).';
comment on column public.open_suggestions.evidence is
    'The evidence that both are one person, for the member who decides: phone, email, name …';
comment on column public.open_suggestions.created_at is
    'When the suggestion was made (server time, UTC).';
comment on function private.dismiss_pair(uuid) is
    'Dismisses a suggestion and all others about the same two contacts.';
comment on function public.dismiss_suggestion(uuid) is
    'Says that two contacts are not one person: dismisses the suggestion and all others about the same two contacts. A second call changes nothing. If the two have been merged meanwhile: 409.';


/*
    The journal of merges: both contacts before the merge, the kept one after it, and the rows
    that moved. No value of either contact is lost. undo_merge restores from it the values that
    nobody has changed since.
*/
create table public.contact_merges (
    id                  uuid primary key default gen_random_uuid(),
    account_id          uuid not null,
    kept_contact_id     uuid not null,
    dropped_contact_id  uuid not null,
    kept_before         jsonb not null,
    dropped_before      jsonb not null,
    kept_after          jsonb not null,
    -- whole rows: an identity that the kept contact gives up later can still come back
    moved_identities    jsonb not null
                        constraint contact_merges_moved_identities_check
                        check (jsonb_typeof(moved_identities) = 'array'),
    moved_conversations uuid[] not null,
    -- jobs, invoices and points, as move_customer_rows describes them
    moved_customer_rows jsonb not null default '{}',
    -- conversations in neither list were opened after the merge
    kept_conversations  uuid[] not null,
    settled_suggestions uuid[] not null,
    added_suggestions   uuid[] not null,
    merged_by           uuid,
    -- clock_timestamp() under the contacts' locks, so that it orders the merges of a contact
    merged_at           timestamptz not null default clock_timestamp(),
    undone_by           uuid,
    undone_at           timestamptz,

    constraint contact_merges_pair_check check (kept_contact_id <> dropped_contact_id),
    constraint contact_merges_undone_check check (undone_by is null or undone_at is not null),
    constraint contact_merges_kept_contact_fkey
        foreign key (kept_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint contact_merges_dropped_contact_fkey
        foreign key (dropped_contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.contact_merges enable row level security;


-- a merged contact is gone and can't be merged again
create unique index contact_merges_dropped_contact_key
    on public.contact_merges (dropped_contact_id)
    where undone_at is null;

create index contact_merges_dropped_contact_idx
    on public.contact_merges (dropped_contact_id, account_id);

create index contact_merges_kept_contact_idx
    on public.contact_merges (kept_contact_id, account_id);


grant select on public.contact_merges to authenticated;


create function private.tg_contacts__forget_duplicates()
    returns trigger
    language plpgsql
    -- definer: users may not write the journal
    security definer
    set search_path = ''
as $$
declare
    -- the deleted contact and all contacts that were merged into it, directly or not
    gone constant uuid[] := array(
        with recursive chain as (
            select new.id
            union
            select c.id
            from chain d
            join public.contacts c
                on c.merged_into = d.id
        )
        select d.id
        from chain d
    );
begin
    delete from public.contact_merges m
    where m.account_id = new.account_id
      and (m.kept_contact_id = any (gone) or m.dropped_contact_id = any (gone));

    delete from public.contact_suggestions s
    where s.account_id = new.account_id
      and (s.contact_id = any (gone) or s.other_contact_id = any (gone));
    return null;
end
$$;

create trigger _600_forget_duplicates
    after update of deleted_at on public.contacts
    for each row
    when (old.deleted_at is null and new.deleted_at is not null and new.merged_into is null)
    execute function private.tg_contacts__forget_duplicates();


comment on table public.contact_merges is
    'The journal of merges: who merged which contacts and when, both contacts before, the kept one after, and the rows that moved.';
comment on column public.contact_merges.id is
    'Identifies the merge; undo_merge takes it.';
comment on column public.contact_merges.account_id is
    'The account of both contacts.';
comment on column public.contact_merges.kept_contact_id is
    'The contact that stayed.';
comment on column public.contact_merges.dropped_contact_id is
    'The contact that was merged into the kept one.';
comment on column public.contact_merges.kept_before is
    'The kept contact''s row before the merge.';
comment on column public.contact_merges.dropped_before is
    'The dropped contact''s row before the merge.';
comment on column public.contact_merges.kept_after is
    'The kept contact''s row after the merge.';
comment on column public.contact_merges.moved_identities is
    'The identities that moved to the kept contact, as rows.'
    ' Type: contact_identities[]';
comment on column public.contact_merges.moved_conversations is
    'The ids of the conversations that moved to the kept contact.';
comment on column public.contact_merges.kept_conversations is
    'The ids of the conversations that the kept contact had before.';
comment on column public.contact_merges.moved_customer_rows is
    'The rows that moved to the kept contact: jobs, invoices and loyalty_transactions by their ids, and loyalty_lots with the points left of each.'
    ' Type: {jobs: uuid[], invoices: uuid[], loyalty_transactions: uuid[], loyalty_lots: {[text]: bigint}}';
comment on column public.contact_merges.settled_suggestions is
    'The ids of the suggestions about the two contacts that the merge settled.';
comment on column public.contact_merges.added_suggestions is
    'The ids of the suggestions that the kept contact took over from the dropped one.';
comment on column public.contact_merges.merged_by is
    'The user who merged the contacts.';
comment on column public.contact_merges.merged_at is
    'When the contacts were merged (server time, UTC).';
comment on column public.contact_merges.undone_by is
    'The user who undid the merge; null while it stands.';
comment on column public.contact_merges.undone_at is
    'When the merge was undone (server time, UTC); null while it stands.';
comment on function private.tg_contacts__forget_duplicates() is
    'When a contact is deleted, deletes its merges in the journal and its suggestions.';


/*
    How a merge, and its undo, move jobs, invoices and points. The caller has locked both
    contacts. It calls these functions before it moves conversations, because the conversations of
    bookings move with their jobs.
*/
create function private.move_customer_rows(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    moved_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.customer_id = from_contact_id
          and j.account_id = move_customer_rows.account_id
        order by j.id
        for update
    );
    moved_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.customer_id = from_contact_id
          and i.account_id = move_customer_rows.account_id
        order by i.id
        for update
    );
    moved_lots jsonb := '{}';
    moved_lines uuid[];
begin
    moved_lines := private.lock_lines(
        account_id => move_customer_rows.account_id,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    select coalesce(jsonb_object_agg(l.transaction_id, l.points_left), '{}')
    into moved_lots
    from private.loyalty_lots l
    where l.customer_id = from_contact_id;

    perform private.give_jobs(
        job_ids => moved_jobs,
        invoice_ids => moved_invoices,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    perform private.give_lines(line_ids => moved_lines, to_contact_id => move_customer_rows.to_contact_id);
    return jsonb_build_object(
        'jobs', to_jsonb(moved_jobs),
        'invoices', to_jsonb(moved_invoices),
        'loyalty_transactions', to_jsonb(moved_lines),
        'loyalty_lots', moved_lots
    );
end
$$;


create function private.lock_lines(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
begin
    -- most customers have no points and no balance
    if not exists (
        select
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
    ) then
        return '{}';
    end if;
    perform private.lock_balances(
        account_id => lock_lines.account_id,
        customer_ids => array[from_contact_id, to_contact_id]
    );
    return array(
        select t.id
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
          and t.account_id = lock_lines.account_id
        order by t.id
        for update
    );
end
$$;


create function private.give_jobs(
    job_ids uuid[],
    invoice_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- lock all conversations of the contact, although only those of bookings move here: the caller
    -- moves the others next, and conversations are locked in one order
    perform
    from public.conversations k
    where k.customer_id = from_contact_id
    order by k.id
    for update;
    -- the foreign keys move messages in any order
    perform
    from public.messages m
    where m.booking_id = any (job_ids)
    order by m.id
    for no key update;

    -- an update that finds no row would still run the table's triggers
    if job_ids <> '{}' then
        update public.jobs j
        set customer_id = to_contact_id
        where j.id = any (job_ids);
    end if;
    -- the invoices of jobs have moved with the jobs
    perform
    from public.invoices i
    where i.id = any (invoice_ids)
      and i.customer_id = from_contact_id;
    if found then
        update public.invoices i
        set customer_id = to_contact_id
        where i.id = any (invoice_ids)
          and i.customer_id = from_contact_id;
    end if;
end
$$;


create function private.give_lines(line_ids uuid[], to_contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    from_contact_id uuid;
    points bigint;
begin
    if line_ids = '{}' then
        return;
    end if;
    select min(t.customer_id::text)::uuid, sum(t.points)
    into from_contact_id, points
    from public.loyalty_transactions t
    where t.id = any (line_ids);

    -- the lots move with their lines
    update public.loyalty_transactions t
    set customer_id = to_contact_id
    where t.id = any (line_ids);
    perform private.add_to_balance(customer_id => from_contact_id, points => -points);
    perform private.add_to_balance(customer_id => to_contact_id, points => points);
end
$$;


create function private.return_customer_rows(
    account_id uuid,
    moved jsonb,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    returned_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.id in (select v::uuid from jsonb_array_elements_text(moved -> 'jobs') v)
          and j.customer_id = from_contact_id
        order by j.id
        for update
    );
    returned_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
          and i.customer_id = from_contact_id
          -- an invoice that is now for another job stays with that job
          and (i.job_id is null or i.job_id = any (returned_jobs))
        order by i.id
        for update
    );
    lines constant uuid[] := array(
        select v::uuid
        from jsonb_array_elements_text(moved -> 'loyalty_transactions') v
    );
    not_returned jsonb;
begin
    if lines <> '{}' then
        perform private.lock_lines(
            account_id => return_customer_rows.account_id,
            from_contact_id => return_customer_rows.from_contact_id,
            to_contact_id => return_customer_rows.to_contact_id
        );
    end if;

    perform private.give_jobs(
        job_ids => returned_jobs,
        invoice_ids => returned_invoices,
        from_contact_id => return_customer_rows.from_contact_id,
        to_contact_id => return_customer_rows.to_contact_id
    );
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'kind', 'invoice',
                'value', i.id,
                'reason', 'belongs_to_another',
                'contact_id', i.customer_id
            )
            order by i.id),
        '[]')
    into not_returned
    from public.invoices i
    where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
      and i.customer_id <> to_contact_id;

    if lines = '{}' then
        return not_returned;
    elsif not exists (
        -- spent points of these lots were spent by the kept contact
        select
        from jsonb_each_text(moved -> 'loyalty_lots') w
        left join private.loyalty_lots l
            on l.transaction_id = w.key::uuid
        where l.points_left is distinct from w.value::integer
    ) then
        perform private.give_lines(
            line_ids => lines, to_contact_id => return_customer_rows.to_contact_id);
        return not_returned;
    end if;
    return not_returned || jsonb_build_object(
        'kind', 'loyalty_transactions',
        'value', lines,
        'reason', 'spent_since',
        'contact_id', from_contact_id
    );
end
$$;


comment on function private.move_customer_rows(uuid, uuid, uuid) is
    'Gives a contact''s jobs with their conversations, invoices and points to another contact; returns what return_customer_rows needs.';
comment on function private.lock_lines(uuid, uuid, uuid) is
    'Locks a contact''s lines of points and both balances; returns the ids of the lines.';
comment on function private.give_jobs(uuid[], uuid[], uuid, uuid) is
    'Gives jobs with their conversations, and invoices, to another contact.';
comment on function private.give_lines(uuid[], uuid) is
    'Gives lines of points to another contact; the caller has locked both balances.';
comment on function private.return_customer_rows(uuid, jsonb, uuid, uuid) is
    'Gives back the rows that move_customer_rows moved; returns those that stay, as undo_merge names them. If some of the points have been spent since, all points stay.';


/*
    Parts of a merge and its undo: locks, the values of the merged contact, and conversations that
    move.
*/
create function private.lock_contacts(account_id uuid, contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.lock_identities(
        account_id => lock_contacts.account_id,
        contact_ids => lock_contacts.contact_ids,
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    perform
    from public.contacts c
    where c.id = any (contact_ids)
      and c.account_id = lock_contacts.account_id
    order by c.id
    for no key update;
end
$$;


create function private.merged_contact(kept public.contacts, dropped public.contacts)
    returns public.contacts
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- a value that the kept contact lacks comes from the dropped one
    merged public.contacts := jsonb_populate_record(
        kept,
        (
            select jsonb_object_agg(b.key, to_jsonb(dropped) -> b.key)
            from jsonb_each(private.blank_fields()) b
            where to_jsonb(kept) -> b.key = b.value
        )
    );
begin
    -- the name goes with the time of the message that brought it
    if kept.profile_name is null then
        merged.profile_named_at := dropped.profile_named_at;
    end if;
    -- it is one person: a stop on one number holds for all
    merged.marketing_stopped_at := least(kept.marketing_stopped_at, dropped.marketing_stopped_at);
    merged.marketing_chosen_at := greatest(kept.marketing_chosen_at, dropped.marketing_chosen_at);
    if not private.wants_reminders(dropped.preferences) then
        merged.preferences := merged.preferences || '{"wants_reminders": false}';
    end if;
    merged.tags := kept.tags || array(
        select t.tag
        from unnest(dropped.tags) with ordinality as t (tag, place)
        where t.tag <> all (kept.tags)
        order by t.place
    );
    merged.notes := nullif(
        concat_ws(E'\n\n', kept.notes, nullif(dropped.notes, kept.notes)), '');
    return merged;
end
$$;


create function private.require_mergeable(kept public.contacts, dropped public.contacts)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    merged constant public.contacts := private.merged_contact(kept => kept, dropped => dropped);
begin
    if coalesce(kept.merged_into, dropped.merged_into) is not null then
        raise sqlstate 'PT409' using
            message = 'One of the two contacts has already been merged.',
            detail = case
                when kept.merged_into is not null
                    then format('field: keep; contact: %s', kept.merged_into)
                else format('field: drop; contact: %s', dropped.merged_into)
            end,
            hint = 'Go on with the contact that it was merged into.';
    elsif coalesce(kept.deleted_at, dropped.deleted_at) is not null then
        raise sqlstate 'PT404' using
            message = 'One of the two contacts has been deleted.',
            detail = case when kept.deleted_at is not null then 'field: keep' else 'field: drop' end;
    elsif kept.portal_user_id <> dropped.portal_user_id then
        raise sqlstate 'PT409' using
            message = 'Both contacts have a portal login.',
            detail = 'field: portal_user_id',
            hint = 'Unlink the login of one of them first.';
    elsif cardinality(merged.tags) > 100 then
        raise sqlstate 'PT409' using
            message = format('Together they have %s tags; 100 are allowed.', cardinality(merged.tags)),
            detail = 'field: tags',
            hint = 'Remove some of the tags first.';
    elsif length(merged.notes) > 20000 then
        raise sqlstate 'PT409' using
            message = format('Together their notes have %s characters; 20,000 are allowed.', length(merged.notes)),
            detail = 'field: notes',
            hint = 'Shorten the notes first.';
    end if;
end
$$;


create function private.announce_login_move(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- on the topic to which the login still listens; it then asks for the topics of its new
    -- contact
    perform private.broadcast_to(
        topics => array[private.listened_topic(contact_id)],
        event => 'topics.changed',
        payload => '{}'
    );
end
$$;


create function private.move_conversations(
    account_id uuid,
    conversation_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    moved constant uuid[] := array(
        select k.id
        from public.conversations k
        where k.id = any (conversation_ids)
          and k.account_id = move_conversations.account_id
          and k.customer_id = from_contact_id
        order by k.id
        for update
    );
begin
    if moved = '{}' then
        return moved;
    end if;

    -- the foreign key moves messages in any order, while status updates lock them by id. It sets
    -- conversation_id, which is part of a key, so its update takes the strongest lock
    perform
    from public.messages m
    where m.conversation_id = any (moved)
    order by m.id
    for update;

    update public.conversations k
    set customer_id = to_contact_id
    where k.id = any (moved);
    return moved;
end
$$;


comment on function private.lock_contacts(uuid, uuid[]) is
    'Locks contacts with their identities, in the lock order.';
comment on function private.merged_contact(public.contacts, public.contacts) is
    'The kept contact, with the values that it takes over from the dropped one.';
comment on function private.require_mergeable(public.contacts, public.contacts) is
    'Refuses two contacts that can''t be merged, and says what to do.';
comment on function private.announce_login_move(uuid) is
    'Tells a contact''s portal login that its topics are about to change.';
comment on function private.move_conversations(uuid, uuid[], uuid, uuid) is
    'Gives conversations with their messages to another contact; returns the ids of those that the first contact still had.';


/*
    Merges two contacts that are one person. Identities and conversations move to the kept
    contact. Its values win; a value that it lacks comes from the dropped contact. Conversations
    are never joined: two open ones stay two. The dropped contact stays as a redirect, and the
    journal (contact_merges) keeps both contacts as they were.
*/
create function private.merge_contact_pair(keep uuid, drop uuid)
    returns uuid
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    kept public.contacts;
    dropped public.contacts;
    merged public.contacts;
    journal public.contact_merges;
begin
    if keep = drop then
        raise sqlstate 'PT422' using
            message = 'A contact can''t be merged with itself.',
            detail = 'field: drop',
            hint = 'Give the ids of two contacts.';
    end if;
    select k.account_id
    into account
    from public.contacts k
    join public.contacts d
        on d.id = drop
       and d.account_id = k.account_id
    where k.id = keep
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There are no two such contacts, or they are not yours to see.',
            detail = 'field: keep, drop';
    end if;
    perform private.require_writable(account);

    perform private.lock_contacts(account_id => account, contact_ids => array[keep, drop]);
    select c.* into strict kept from public.contacts c where c.id = keep;
    select c.* into strict dropped from public.contacts c where c.id = drop;
    perform private.require_mergeable(kept => kept, dropped => dropped);
    merged := private.merged_contact(kept => kept, dropped => dropped);

    journal.id := gen_random_uuid();
    journal.kept_conversations := array(
        select k.id
        from public.conversations k
        where k.customer_id = keep
        order by k.id
    );

    -- in two steps, so that the portal login of this contact is told that it has left
    if dropped.portal_user_id is not null then
        perform private.announce_login_move(drop);
        update public.contacts c
        set portal_user_id = null
        where c.id = drop;
    end if;
    perform private.write_contacts(array[
        private.blank_contact(contact => c, merged_into => keep)
    ])
    from public.contacts c
    where c.id = drop;

    -- an update that finds no row would still run the table's triggers
    if merged is distinct from kept then
        perform private.write_contacts(array[merged]);
        select c.* into strict merged from public.contacts c where c.id = keep;
    end if;

    with moved as (
        update public.contact_identities o
        set contact_id = keep
        where o.contact_id = drop
          and o.account_id = account
        returning o.*
    )
    select coalesce(jsonb_agg(to_jsonb(m) order by m.kind, m.match_key), '[]')
    into journal.moved_identities
    from moved m;

    -- before the conversations: a booking's conversation moves with its job
    journal.moved_customer_rows := private.move_customer_rows(
        account_id => account, from_contact_id => drop, to_contact_id => keep);

    journal.moved_conversations := private.move_conversations(
        account_id => account,
        conversation_ids => array(
            select k.id from public.conversations k where k.customer_id = drop),
        from_contact_id => drop,
        to_contact_id => keep
    );

    insert into public.contact_merges (
        id, account_id, kept_contact_id, dropped_contact_id, kept_before, dropped_before,
        kept_after, moved_identities, moved_conversations, kept_conversations,
        moved_customer_rows, settled_suggestions, added_suggestions, merged_by
    )
    values (
        journal.id,
        account,
        keep,
        drop,
        to_jsonb(kept),
        to_jsonb(dropped),
        to_jsonb(merged),
        journal.moved_identities,
        journal.moved_conversations,
        journal.kept_conversations,
        journal.moved_customer_rows,
        private.settle_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        private.pass_on_suggestions(account_id => account, kept_id => keep, dropped_id => drop),
        auth.uid()
    );
    return journal.id;
end
$$;

grant execute on function private.merge_contact_pair(uuid, uuid) to authenticated;


create function public.merge_contacts(keep uuid, drop uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    merge_id constant uuid := private.merge_contact_pair(keep => keep, drop => drop);
begin
    return jsonb_build_object(
        'merge_id', merge_id,
        'contact', (select to_jsonb(v) from public.contacts_v2 v where v.id = keep)
    );
end
$$;

grant execute on function public.merge_contacts(uuid, uuid) to authenticated;


comment on function private.merge_contact_pair(uuid, uuid) is
    'Merges two contacts and writes the journal; returns the id of the merge.';
comment on function public.merge_contacts(uuid, uuid) is
    'Merges the contact drop into the contact keep, whose values win. Returns the kept contact. Conversations move, but are not joined. undo_merge takes the merge back. If one is already merged, or both have a portal login: 409.'
    ' Type: {merge_id: uuid, contact: contacts_v2}';


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


/*
    Undoes a merge from its journal. A value that somebody has changed since stays with the kept
    contact, and the answer names it. Merges of one contact are undone last first, because each
    began with the result of the one before.
*/
create function private.require_undoable(merge_id uuid)
    returns public.contact_merges
    language plpgsql
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    later_merge_id uuid;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge any more.',
            detail = format('merge: %s', merge_id);
    elsif merge.undone_at is not null then
        raise sqlstate 'PT409' using
            message = 'This merge has already been undone.',
            detail = format('merge: %s', merge_id),
            hint = 'Read both contacts: they are separate again.';
    end if;

    select m.id
    into later_merge_id
    from public.contact_merges m
    where m.account_id = merge.account_id
      and m.undone_at is null
      and (
          m.dropped_contact_id = merge.kept_contact_id
          or (m.kept_contact_id = merge.kept_contact_id and m.merged_at > merge.merged_at)
      )
    order by m.merged_at desc
    limit 1;
    if found then
        raise sqlstate 'PT409' using
            message = 'A later merge builds on this one.',
            detail = format('merge: %s', later_merge_id),
            hint = 'Undo that merge first.';
    end if;
    return merge;
end
$$;


create function private.unmerged_fields(
    merge public.contact_merges,
    present public.contacts,
    out restored jsonb,
    out changed_since jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- converted through rows, so that times compare in every time zone of the session
    before constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_before));
    merged constant jsonb := to_jsonb(
        jsonb_populate_record(null::public.contacts, merge.kept_after));
    now_there constant jsonb := to_jsonb(present);
    field text;
begin
    restored := '{}';
    changed_since := '[]';
    for field in
        select f.field
        from private.contact_fields f
        order by f.place
    loop
        if merged -> field = before -> field then
            continue;
        elsif now_there -> field = merged -> field then
            restored := restored || jsonb_build_object(field, before -> field);
        else
            changed_since := changed_since || jsonb_build_object(
                'field', field, 'merged', merged -> field, 'now', now_there -> field);
        end if;
    end loop;
    if restored ? 'marketing_stopped_at' then
        restored := restored || jsonb_build_object(
            'marketing_chosen_at', before -> 'marketing_chosen_at');
    end if;
    if restored ? 'profile_name' then
        restored := restored || jsonb_build_object('profile_named_at', before -> 'profile_named_at');
    end if;
end
$$;


create function private.return_sent_reminders(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- those since the merge counted the points of both
    insert into private.sent_reminders (
        rule_id, subject_id, occasion, account_id, reason, settled_at, over_at
    )
    select
        s.rule_id, merge.dropped_contact_id, s.occasion, s.account_id, s.reason, s.settled_at,
        s.over_at
    from public.reminder_rules r
    join private.sent_reminders s
        on s.rule_id = r.id
       and s.subject_id = merge.kept_contact_id
    where r.account_id = merge.account_id
      and s.settled_at >= merge.merged_at
    on conflict do nothing;
end
$$;


create function private.undo_contact_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    kept public.contacts;
    dropped public.contacts;
    fields record;
    login uuid;
    not_returned jsonb;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
      and m.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge, or it is not yours to see.',
            detail = format('merge: %s', merge_id);
    end if;
    perform private.require_writable(merge.account_id);

    perform private.reclaim_identities(merge);
    perform
    from public.contacts c
    where c.id in (merge.kept_contact_id, merge.dropped_contact_id)
    order by c.id
    for no key update;
    merge := private.require_undoable(merge_id);

    select c.* into strict kept from public.contacts c where c.id = merge.kept_contact_id;
    -- over the blank row: the journal lacks columns that were added later
    select d.*
    into strict dropped
    from public.contacts c
    cross join lateral jsonb_populate_record(c, merge.dropped_before) d
    where c.id = merge.dropped_contact_id;
    select * into fields from private.unmerged_fields(merge => merge, present => kept);

    not_returned := '[]';
    login := private.returned_login(merge => merge, kept => kept);
    if login is not null then
        perform private.announce_login_move(kept.id);
        fields.restored := fields.restored || '{"portal_user_id": null}';
    elsif dropped.portal_user_id is not null then
        not_returned := not_returned || jsonb_build_object(
            'kind', 'portal_user_id',
            'value', dropped.portal_user_id,
            'reason', 'unlinked_since',
            'contact_id', null
        );
    end if;

    -- an update that finds no row would still run the table's triggers
    if fields.restored <> '{}' then
        perform private.write_contacts(array[jsonb_populate_record(kept, fields.restored)]);
    end if;
    dropped.portal_user_id := login;
    perform private.write_contacts(array[dropped]);

    not_returned := not_returned
        || private.return_identities(merge)
        -- before the conversations: a booking's conversation moves with its job
        || private.return_customer_rows(
            account_id => merge.account_id,
            moved => merge.moved_customer_rows,
            from_contact_id => merge.kept_contact_id,
            to_contact_id => merge.dropped_contact_id
        )
        || private.return_conversations(merge);
    perform private.return_sent_reminders(merge);
    perform private.reopen_suggestions(merge);

    update public.contact_merges m
    set undone_at = clock_timestamp(),
        undone_by = auth.uid()
    where m.id = merge.id;
    return jsonb_build_object(
        'kept', kept.id,
        'restored', dropped.id,
        'changed_since', fields.changed_since,
        'not_returned', not_returned
    );
end
$$;

grant execute on function private.undo_contact_merge(uuid) to authenticated;


create function public.undo_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    undone constant jsonb := private.undo_contact_merge(merge_id);
begin
    return undone || (
        select jsonb_build_object(
            'kept', (select to_jsonb(k) from public.contacts_v2 k where k.id = i.kept),
            'restored', (select to_jsonb(r) from public.contacts_v2 r where r.id = i.restored)
        )
        from jsonb_to_record(undone) as i (kept uuid, restored uuid)
    );
end
$$;

grant execute on function public.undo_merge(uuid) to authenticated;


comment on function private.require_undoable(uuid) is
    'A merge, locked; refused if it has been undone, or if another merge builds on it.';
comment on function private.unmerged_fields(public.contact_merges, public.contacts) is
    'The fields of the kept contact that get their earlier values back, and those that were changed since.';
comment on function private.return_sent_reminders(public.contact_merges) is
    'Notes for the restored contact the reminders that the kept one got since the merge.';
comment on function private.undo_contact_merge(uuid) is
    'Undoes a merge: {kept, restored, changed_since, not_returned}, the contacts by their ids.';
comment on function public.undo_merge(uuid) is
    'Undoes a merge and returns both contacts. What was changed, opened or unlinked since the merge stays with the kept contact, and the answer names it. A login that came in by the dropped contact''s invitation goes back with that contact. If the merge is already undone, or a later one builds on it: 409.'
    ' Type: {kept: contacts_v2, restored: contacts_v2, changed_since: {field: text, merged: json | null, now: json | null}[], not_returned: {kind: text, value: text, reason: text, contact_id: uuid | null}[]}';


/*
    Looks for contacts that may be one person: two with the same name, or a phone or email that
    one contact shows and another is known by. A customer can write any number in the portal, so a
    shown value alone never identifies a contact. It is evidence for the person who decides.
*/
create function private.shared_values(account_id uuid)
    returns table (reason text, match_key text, contact_ids uuid[], value text, known_of uuid)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with live as (
            select c.id, coalesce(c.name, c.profile_name) as name, c.phone, c.email
            from public.contacts c
            where c.account_id = shared_values.account_id
              and c.deleted_at is null
        ),
        known as (
            select o.contact_id, o.kind, o.match_key, o.value
            from public.contact_identities o
            join live l
                on l.id = o.contact_id
            where o.account_id = shared_values.account_id
              and o.kind in ('phone', 'email')
        ),
        written as (
            select l.id as contact_id, w.kind, w.value
            from live l
            cross join lateral (values ('phone', l.phone), ('email', l.email)) as w (kind, value)
            where w.value is not null
            -- most contacts are known by exactly the shown value: then its key is not needed
            except
            select k.contact_id, k.kind, k.value
            from known k
        ),
        said as (
            select
                'same_name' as reason,
                lower(regexp_replace(btrim(l.name), '\s+', ' ', 'g')) as match_key,
                l.id as contact_id,
                l.name as value,
                false as is_known
            from live l
            where btrim(l.name) <> ''
            union all
            select 'same_' || k.kind, k.match_key, k.contact_id, k.value, true
            from known k
            union all
            select
                'same_' || w.kind,
                private.match_key(kind => w.kind, value => w.value),
                w.contact_id,
                w.value,
                false
            from written w
        )
        select
            s.reason,
            s.match_key,
            array_agg(distinct s.contact_id),
            min(s.value),
            -- an identity has one owner
            (array_agg(s.contact_id) filter (where s.is_known))[1]
        from said s
        group by s.reason, s.match_key
        -- a value of more than three contacts is that of a company, or a common name
        having count(distinct s.contact_id) between 2 and 3;
end
$$;


create function private.add_duplicates(account_id uuid)
    returns integer
    language plpgsql
    -- definer: users may not write suggestions; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    added integer;
begin
    perform private.require_writable(add_duplicates.account_id);

    with pairs as (
        select
            lesser.id as contact_id,
            greater.id as other_contact_id,
            v.reason,
            case v.reason
                when 'same_name' then jsonb_build_object('name', v.value)
                when 'same_phone' then jsonb_build_object('phone', v.value, 'known_of', v.known_of)
                else jsonb_build_object('email', v.value, 'known_of', v.known_of)
            end as evidence
        from private.shared_values(add_duplicates.account_id) v
        cross join lateral unnest(v.contact_ids) as lesser (id)
        cross join lateral unnest(v.contact_ids) as greater (id)
        where lesser.id < greater.id
    ),
    fresh as (
        -- two contacts may share several spellings for one reason
        select distinct on (
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id
        ) p.*
        from pairs p
        where not exists (
            select
            from public.contact_suggestions s
            where s.account_id = add_duplicates.account_id
              and s.contact_id = p.contact_id
              and s.other_contact_id = p.other_contact_id
              and s.reason = p.reason
        )
        -- a name is weaker evidence than a phone or an email, and comes after them
        order by
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id, p.evidence
        limit 500
    )
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select add_duplicates.account_id, f.contact_id, f.other_contact_id, f.reason, f.evidence
    from fresh f
    order by f.contact_id, f.other_contact_id, f.reason
    on conflict on constraint contact_suggestions_pair_key do nothing;

    get diagnostics added = row_count;
    return added;
end
$$;

grant execute on function private.add_duplicates(uuid) to authenticated;


create function public.suggest_duplicates(account_id uuid)
    returns integer
    language plpgsql
    set search_path = ''
as $$
begin
    return private.add_duplicates(suggest_duplicates.account_id);
end
$$;

grant execute on function public.suggest_duplicates(uuid) to authenticated;


comment on function private.shared_values(uuid) is
    'Names, phones and emails that two or three contacts of an account share; known_of is the contact that owns the value as an identity.';
comment on function private.add_duplicates(uuid) is
    'Notes pairs that look like one person, at most 500; returns the number of new ones.';
comment on function public.suggest_duplicates(uuid) is
    'Looks for contacts of an account that may be one person, and adds them to open_suggestions. Returns the number of new suggestions, at most 500; if it is 500, call it again. A dismissed pair is not suggested again.';


/*
    The suggestions in a merge and in its undo. A suggestion about the two contacts is settled. A
    suggestion about the dropped contact and a third one is passed on to the kept contact.
*/
create function private.settle_suggestions(account_id uuid, kept_id uuid, dropped_id uuid)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    settled uuid[];
begin
    with settled_rows as (
        update public.contact_suggestions s
        set status = 'merged',
            decided_by = auth.uid(),
            decided_at = now()
        where s.account_id = settle_suggestions.account_id
          and s.contact_id = least(kept_id, dropped_id)
          and s.other_contact_id = greatest(kept_id, dropped_id)
          and s.status = 'open'
        returning s.id
    )
    select coalesce(array_agg(r.id), '{}')
    into settled
    from settled_rows r;
    return settled;
end
$$;


create function private.pass_on_suggestions(account_id uuid, kept_id uuid, dropped_id uuid)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
/*
    A suggestion about the dropped contact and a third one, open or dismissed, now holds for the
    kept contact. The old rows stay: nobody sees them while the contact is gone, and they are
    there when it comes back.
*/
declare
    added uuid[];
begin
    with others as (
        select
            case when s.contact_id = dropped_id then s.other_contact_id else s.contact_id end
                as third_id,
            s.reason,
            s.evidence,
            s.status,
            s.decided_by,
            s.decided_at
        from public.contact_suggestions s
        where s.account_id = pass_on_suggestions.account_id
          and dropped_id in (s.contact_id, s.other_contact_id)
          and s.status in ('open', 'dismissed')
    ),
    added_rows as (
        insert into public.contact_suggestions (
            account_id, contact_id, other_contact_id, reason, evidence, status,
            decided_by, decided_at
        )
        select
            pass_on_suggestions.account_id,
            least(kept_id, o.third_id) as lesser_id,
            greatest(kept_id, o.third_id) as greater_id,
            o.reason,
            o.evidence,
            o.status,
            o.decided_by,
            o.decided_at
        from others o
        join public.contacts c
            on c.id = o.third_id
           and c.deleted_at is null
        where o.third_id <> kept_id
        order by lesser_id, greater_id, o.reason
        on conflict on constraint contact_suggestions_pair_key do nothing
        returning id
    )
    select coalesce(array_agg(r.id), '{}')
    into added
    from added_rows r;
    return added;
end
$$;


create function private.reopen_suggestions(merge public.contact_merges)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.contact_suggestions s
    set status = 'open',
        decided_by = null,
        decided_at = null
    where s.id = any (merge.settled_suggestions)
      and s.status = 'merged';

    -- a suggestion that somebody has decided since stays decided
    delete from public.contact_suggestions s
    where s.id = any (merge.added_suggestions)
      and s.status <> 'merged'
      and (s.decided_at is null or s.decided_at <= merge.merged_at);
end
$$;


comment on function private.settle_suggestions(uuid, uuid, uuid) is
    'Marks the open suggestions of two contacts as merged; returns their ids.';
comment on function private.pass_on_suggestions(uuid, uuid, uuid) is
    'Notes the dropped contact''s suggestions for the kept one; returns the ids of the new ones.';
comment on function private.reopen_suggestions(public.contact_merges) is
    'Restores suggestions as they were, unless somebody has decided on them since.';


/*
    Imports one row of a file, in the contacts page's words. Each row stands alone, apart from all
    other rows: it is imported, or it is refused with the reason and changes nothing.

    A field that a row leaves out stays. A row that repeats what the contact shows locks and
    writes nothing, so a file can be imported again.
*/
create function private.says_the_same(field text, value text, shown text)
    returns boolean
    language sql
    immutable
    set search_path = ''
as $$
    select case
        -- another spelling of the same number is no change: replies go to WhatsApp's spelling
        when says_the_same.field = 'phone' then
            private.match_key(kind => 'phone', value => says_the_same.value)
                is not distinct from private.match_key(kind => 'phone', value => shown)
        else
            says_the_same.value is not distinct from btrim(shown, E' \t\r\n')
    end
$$;


create function private.contacts_of_row(account_id uuid, named uuid, fields jsonb)
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    present uuid;
begin
    if named is not null then
        present := private.contact_of_id(
            account_id => contacts_of_row.account_id, contact_id => named);
        if not exists (
            select
            from public.contacts c
            where c.id = present
              and c.account_id = contacts_of_row.account_id
        ) then
            raise sqlstate 'PT404' using
                message = 'There is no contact with this id.',
                hint = 'Leave the id out: then the contact is found by phone, email or username, or created.';
        end if;
    end if;

    return array(
        select present
        where present is not null
        union
        select o.contact_id
        from jsonb_each_text(fields) k
        join public.contact_identities o
            on o.account_id = contacts_of_row.account_id
           and o.kind = k.key
           and o.match_key = private.match_key(kind => k.key, value => k.value)
        where k.key in ('phone', 'email', 'username')
          -- a value that the contact shows already says nothing new, even if another contact is
          -- known by it: customers write any value in their profile
          and not exists (
              select
              from public.contacts c
              where c.id = present
                and private.says_the_same(
                    field => k.key, value => k.value, shown => to_jsonb(c) ->> k.key)
          )
        order by 1
    );
end
$$;


create function private.news_of_row(contact_id uuid, fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- as a client sees it: a name that equals the profile's need not be written
    shown constant jsonb := (
        select to_jsonb(s)
        from private.contact_states s
        where s.id = news_of_row.contact_id
    );
    news jsonb;
    more_tags jsonb;
begin
    select coalesce(jsonb_object_agg(f.key, f.value), '{}')
    into news
    from jsonb_each(fields - 'tags') f
    where not private.says_the_same(
        field => f.key, value => f.value #>> '{}', shown => shown ->> f.key);

    -- tags are only added: a file seldom has all tags that staff have given since
    select jsonb_agg(t.tag order by t.place)
    into more_tags
    from jsonb_array_elements_text(fields -> 'tags') with ordinality as t (tag, place)
    where t.tag not in (
        select btrim(e)
        from jsonb_array_elements_text(shown -> 'tags') e
    );
    if more_tags is not null then
        news := news || jsonb_build_object('tags', (shown -> 'tags') || more_tags);
    end if;
    return news;
end
$$;


create function private.changes_of_row(contact_id uuid, fields jsonb)
    returns jsonb
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(
        jsonb_object_agg(
            -- the contacts page's name for it; its words for the statuses are the same
            case f.key when 'status' then 'conversation_status' else f.key end,
            jsonb_build_object('old', to_jsonb(s) -> f.key, 'new', f.value)
        ),
        '{}'
    )
    from jsonb_each(fields) f
    left join private.contact_states s
        on s.id = changes_of_row.contact_id
$$;


create function private.import_row(
    account_id uuid,
    contact jsonb,
    -- whether to return the changed fields, with old and new values
    tell boolean,
    out outcome text,
    out contact_id uuid,
    out reason text,
    out changes jsonb
)
    language plpgsql
    set search_path = ''
as $$
declare
    said constant jsonb := jsonb_strip_nulls(contact);
    fields constant jsonb := jsonb_strip_nulls(private.clean_contact_fields(
        private.read_face(face => 'contacts_page', fields => said - 'id')));
    owners uuid[];
    expected jsonb;
    news jsonb;
begin
    if said ? 'id' and not pg_input_is_valid(said ->> 'id', 'uuid') then
        raise sqlstate 'PT422' using
            message = 'This is not an id.',
            detail = 'field: id',
            hint = 'Leave it empty for a contact that has no id yet.';
    elsif not said ? 'id' and not fields ?| array['phone', 'email', 'username'] then
        raise sqlstate 'PT422' using
            message = 'The row has no phone, email, username or id: a second import would create a second contact.',
            detail = 'field: phone',
            hint = 'Give one of them.';
    end if;

    owners := private.contacts_of_row(
        account_id => import_row.account_id, named => (said ->> 'id')::uuid, fields => fields);
    contact_id := owners[1];

    if cardinality(owners) > 1 then
        outcome := 'ambiguous';
        contact_id := null;
        reason := format('Its values belong to different contacts: %s.', array_to_string(owners, ', '));
        perform private.suggest_merge(
            account_id => import_row.account_id,
            contact_ids => array[owners[1], o.id],
            reason => 'same_row',
            evidence => fields - array['tags', 'notes', 'status']
        )
        from unnest(owners[2:]) as o (id)
        order by o.id;
        return;
    elsif contact_id is null then
        outcome := 'created';
        contact_id := gen_random_uuid();
        if tell then
            changes := private.changes_of_row(contact_id => null, fields => fields);
        end if;
        perform private.add_contact(
            account_id => import_row.account_id,
            contact_id => import_row.contact_id,
            fields => fields
        );
        return;
    end if;

    outcome := 'unchanged';
    expected := private.news_of_row(contact_id => import_row.contact_id, fields => fields);
    if expected = '{}' then
        return;
    end if;

    -- compare again under the locks: tags are read before they are written
    perform private.lock_identities(
        account_id => import_row.account_id,
        contact_ids => array[import_row.contact_id],
        kinds => private.touched_identity_kinds(expected),
        -- an exported file does not prove values that the contact already shows
        claims => expected
    );
    perform
    from public.contacts c
    where c.id = import_row.contact_id
    for no key update;

    news := private.news_of_row(contact_id => import_row.contact_id, fields => fields);
    if not private.touched_identity_kinds(expected) @> private.touched_identity_kinds(news) then
        -- identities are locked before the contact: start again
        raise sqlstate 'PT409' using
            message = 'Others are writing this contact.',
            hint = 'Import it again.';
    elsif news <> '{}' then
        if tell then
            changes := private.changes_of_row(
                contact_id => import_row.contact_id, fields => news);
        end if;
        perform private.change_contact(
            account_id => import_row.account_id,
            contact_id => import_row.contact_id,
            fields => news
        );
        outcome := 'updated';
    end if;
end
$$;


create function private.try_import_row(account_id uuid, contact jsonb, tell boolean)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    imported record;
    code text;
    message text;
    detail text;
    hint text;
begin
    -- another session may insert, merge or delete the contact between the look-up and the write:
    -- start again
    for attempt in 1 .. 3 loop
        begin
            imported := private.import_row(
                account_id => try_import_row.account_id,
                contact => try_import_row.contact,
                tell => try_import_row.tell
            );
            return to_jsonb(imported);
        exception
            when sqlstate 'PT404' or sqlstate 'PT409' or sqlstate 'PT422'
                or data_exception or integrity_constraint_violation
            then
                get stacked diagnostics
                    code = returned_sqlstate,
                    message = message_text,
                    detail = pg_exception_detail,
                    hint = pg_exception_hint;
                exit when code not in ('PT404', 'PT409', '23505');
        end;
    end loop;

    return jsonb_build_object(
        'outcome', 'refused',
        'field', case code
            when 'PT404' then 'id'
            else substring(detail from '^field: ([a-z_]+)')
        end,
        'reason', case
            when code like 'PT%' then concat_ws(' ', message, nullif(hint, ''))
            -- no check of ours has refused it, and Postgres' own message could quote the row
            else format('The database does not take it (%s).', code)
        end
    );
end
$$;


comment on function private.says_the_same(text, text, text) is
    'Whether a value of a row equals the one that the contact shows; for a phone number, in any spelling.';
comment on function private.contacts_of_row(uuid, uuid, jsonb) is
    'The contacts to which a row''s id, phone, email and username belong.';
comment on function private.news_of_row(uuid, jsonb) is
    'The fields of a row that differ from what the contact shows; tags are the old and the new ones together.';
comment on function private.changes_of_row(uuid, jsonb) is
    'The values that a contact shows now and will show: {field: {old, new}}.';
comment on function private.import_row(uuid, jsonb, boolean) is
    'Inserts or changes the contact of a row, or suggests a merge if there are several; raises the reason if it refuses the row.';
comment on function private.try_import_row(uuid, jsonb, boolean) is
    'Imports a row and returns {outcome, contact_id, field, reason, changes}; a refused row changes nothing.';


/*
    Imports contacts from a file, up to 200 rows in a call, each row in its own savepoint.
*/
create function backend.account_country(account text)
    returns text
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select a.country
        from public.accounts a
        where a.id = private.account_named(account_country.account)
    );
end
$$;

grant execute on function backend.account_country(text) to service_role;


create function backend.import_contacts(
    account text,
    contacts jsonb,
    dry_run boolean default false,
    quiet boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key, one at a time: one plan serves all calls, and it must not be the
    -- one for empty tables
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- disabled plan nodes get a huge cost, which would start the JIT compiler for nothing
    set jit = off
as $$
declare
    owner_id constant uuid := private.account_named(import_contacts.account);
    lock_timeout constant text := current_setting('lock_timeout');
    given record;
    result jsonb;
    results jsonb := '{}';
begin
    if jsonb_typeof(contacts) is distinct from 'array'
        or contacts @? 'strict $[*] ? (@.type() != "object")'
    then
        raise sqlstate 'PT422' using
            message = 'Contacts are a list of objects.',
            detail = 'field: contacts';
    elsif jsonb_array_length(contacts) > 200 then
        raise sqlstate 'PT422' using
            message = format('These are %s contacts.', jsonb_array_length(contacts)),
            detail = 'field: contacts',
            hint = 'Send at most 200 in one call.';
    end if;

    if quiet or jsonb_array_length(contacts) > 100 then
        perform set_config('rapport.broadcast_later', 'on', true);
    end if;
    begin
        -- in the order of the identities' locks, not of the file: two imports then wait, one for
        -- the other
        for given in
            select g.contact, g.place
            from jsonb_array_elements(contacts) with ordinality as g (contact, place)
            left join lateral (
                select k.key as kind, private.match_key(kind => k.key, value => k.value) as match_key
                from jsonb_each_text(g.contact) k
                where k.key in ('id', 'email', 'phone', 'username')
                order by k.key
                limit 1
            ) first_key
                on true
            order by first_key.kind, first_key.match_key, g.place
        loop
            result := private.try_import_row(
                account_id => owner_id, contact => given.contact, tell => dry_run);
            results := results || jsonb_build_object(given.place::text, result);
            if result ->> 'outcome' not in ('unchanged', 'refused') then
                -- The locks of one row are in order, those of several rows are not. From the
                -- second row on, a short timeout ends the wait long before a deadlock.
                perform set_config('lock_timeout', '400ms', true);
            end if;
        end loop;
        if dry_run then
            raise sqlstate 'RP001';
        end if;
        if quiet or jsonb_array_length(contacts) > 100 then
            -- customers are told at once; staff, with quiet, by announce_import
            perform private.broadcast_logged(account_id => owner_id, to_staff => not quiet);
        end if;
    exception
        when sqlstate 'RP001' then
            null;
        when lock_not_available then
            raise sqlstate 'PT503' using
                message = 'Others are writing some of these contacts.',
                hint = 'Try again.';
    end;
    perform set_config('lock_timeout', lock_timeout, true);
    perform set_config('rapport.broadcast_later', 'off', true);

    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'row', r.key::integer,
                    'outcome', r.value -> 'outcome',
                    -- a contact that a dry run created is gone
                    'contact_id', case
                        when dry_run and r.value ->> 'outcome' = 'created' then null
                        else r.value -> 'contact_id'
                    end,
                    'field', r.value -> 'field',
                    'reason', r.value -> 'reason',
                    'changes', coalesce(nullif(r.value -> 'changes', 'null'), '{}')
                )
                order by r.key::integer
            ),
            '[]'
        )
        from jsonb_each(results) r
    );
end
$$;

grant execute on function backend.import_contacts(text, jsonb, boolean, boolean) to service_role;


create function backend.announce_import(account text)
    returns void
    language plpgsql
    -- definer, as import_contacts
    security definer
    set search_path = ''
as $$
begin
    perform private.broadcast_to(
        topics => array[private.account_topic(private.account_named(announce_import.account))],
        event => 'resync',
        payload => jsonb_build_object('tables', array['contacts', 'conversations', 'customers'])
    );
end
$$;

grant execute on function backend.announce_import(text) to service_role;


comment on function backend.account_country(text) is
    'The country of an account, for phone numbers without a country code; null is unknown.';
comment on function backend.import_contacts(text, jsonb, boolean, boolean) is
    'Writes up to 200 contacts, in the contacts page''s words. Returns [{row, outcome, contact_id, field, reason, changes}], with rows counted from 1; outcome is created, updated, unchanged, refused or ambiguous. A dry run writes nothing and returns the changes: {field: {old, new}}. A repeated call changes nothing. With quiet, staff are told only by announce_import.';
comment on function backend.announce_import(text) is
    'Tells an account''s staff once that contacts were imported, so that clients read them again.';


/*
    Exports an account's contacts page by page, in the form that import_contacts takes: an import
    of an export changes nothing.
*/
create function private.exported_contacts(ids uuid[])
    returns table (id uuid, contact jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        s.id,
        jsonb_build_object(
            'id', s.id,
            'name', s.name,
            'phone', s.phone,
            'email', s.email,
            'username', s.username,
            'tags', s.tags,
            'notes', s.notes,
            'conversation_status', w.word
        )
    from unnest(exported_contacts.ids) i (id)
    join private.contact_states s
        on s.id = i.id
    join public.status_words w
        on w.face = 'contacts_page'
       and w.status = s.status;
end
$$;


create function backend.export_contacts(
    account text,
    after uuid default null,
    page_size integer default 500
)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(export_contacts.account);
begin
    return (
        select coalesce(jsonb_agg(e.contact order by e.id), '[]')
        from private.exported_contacts(array(
            -- customers has one row for each contact that is not deleted, and its index has this
            -- order
            select c.id
            from public.customers c
            where c.account_id = owner_id
              and c.id > coalesce(after, '00000000-0000-0000-0000-000000000000')
            order by c.id
            limit least(greatest(export_contacts.page_size, 1), 1000)
        )) e
    );
end
$$;

grant execute on function backend.export_contacts(text, uuid, integer) to service_role;


comment on function private.exported_contacts(uuid[]) is
    'Contacts as a file has them, in the words of the contacts page.';
comment on function backend.export_contacts(text, uuid, integer) is
    'A page of an account''s contacts after an id, in the order of ids. page_size is 1,000 at most; the last page is shorter.';


/*
    The contacts that rows of a file name by their ids. Only a comparison with the values that the
    contact shows can tell an edit from the damage that a spreadsheet does to an export.
*/
create function backend.contacts_of_ids(account text, ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(contacts_of_ids.account);
begin
    if cardinality(ids) > 200 then
        raise sqlstate 'PT422' using
            message = format('These are %s ids.', cardinality(ids)),
            detail = 'field: ids',
            hint = 'Send at most 200 in one call.';
    end if;
    return (
        with recursive named as (
            select i.id as asked, i.id
            from unnest(ids) i (id)
            union all
            -- follow all merges to the contact that is left; a circle of merges can't be written
            select n.asked, c.merged_into
            from named n
            join public.contacts c
                on c.id = n.id
               and c.account_id = owner_id
            where c.merged_into is not null
        )
        select coalesce(jsonb_object_agg(n.asked, e.contact), '{}')
        from named n
        join public.contacts c
            on c.id = n.id
           and c.account_id = owner_id
           and c.deleted_at is null
        cross join lateral private.exported_contacts(array[c.id]) e
    );
end
$$;

grant execute on function backend.contacts_of_ids(text, uuid[]) to service_role;


comment on function backend.contacts_of_ids(text, uuid[]) is
    'Up to 200 contacts of an account by their ids, in the form of export_contacts: {id: contact}. For a merged contact it is the one into which it was merged. Deleted contacts, and those of other accounts, are left out.';


/*
    The list of conversations, for both sides: staff see those of their account, a customer their
    own. A deleted contact has no customers row, so its conversations are left out.

    Everything is looked up for the activity of one conversation, in the order of
    conversation_activity_inbox_idx. Each "limit 1" tells the planner that there is one row: from
    the policies it expects so few rows that it would read and sort all.
*/
create view public.inbox
    with (security_invoker = true)
as
select
    a.conversation_id as id,
    a.account_id,
    a.customer_id,
    k.channel,
    k.whatsapp_channel_id,
    k.customer_wa_id,
    k.group_id,
    k.group_name,
    k.participants,
    k.status,
    c.name as customer_name,
    a.last_seq,
    a.last_message_at,
    a.last_inbound_at,
    case when m.revoked_at is null then m.message else '[deleted]' end as last_message,
    m.type as last_message_type,
    -- what clients say in words of their own; of other types the text is enough
    case
        when m.revoked_at is null and m.type in ('system', 'call', 'audio') then m.content
    end as last_message_content,
    case when m.type = 'system' then m.invoice_data end as last_invoice_data,
    m.sender_type as last_sender_type,
    m.sender_name as last_sender_name,
    m.status as last_message_status,
    r.last_read_seq,
    u.unread_count,
    desk.assignee_id,
    assignee.display_name as assignee_name,
    labels.label_ids,
    case when desk.snoozed_until > now() then desk.snoozed_until end as snoozed_until,
    later.send_later_count,
    k.created_at,
    k.version
from public.conversation_activity a
cross join lateral (
    select
        o.channel, o.whatsapp_channel_id, o.customer_wa_id, o.group_id, o.group_name,
        o.participants, o.status, o.created_at, o.version
    from public.conversations o
    where o.id = a.conversation_id
    limit 1
) k
cross join lateral (
    select o.name
    from public.customers o
    where o.id = a.customer_id
    union all
    -- the group's name; a general one until WhatsApp tells it
    select case when k.group_name is null then 'WhatsApp group' else k.group_name end
    where a.customer_id is null
    limit 1
) c
left join public.messages m
    on m.conversation_id = a.conversation_id
   and m.seq = a.last_seq
left join lateral (
    select o.last_read_seq
    from public.read_markers o
    where o.conversation_id = a.conversation_id
      and o.user_id = (select auth.uid())
    limit 1
) marker
    on true
-- for staff alone: the policies hide it from customers
left join lateral (
    select o.assignee_id, o.snoozed_until
    from public.desk_states o
    where o.id = a.conversation_id
    limit 1
) desk
    on true
left join lateral (
    select o.display_name
    from public.account_members o
    where o.account_id = a.account_id
      and o.user_id = desk.assignee_id
    limit 1
) assignee
    on true
cross join lateral (
    select array(
        select o.label_id
        from public.conversation_labels o
        where o.conversation_id = a.conversation_id
        order by o.label_id
    )
) as labels (label_ids)
cross join lateral (
    select
        -- customers are told nothing, not even that nothing waits
        case when a.account_id = any (array(select private.my_account_ids())) then (
            select count(*)::integer
            from (
                select
                from public.scheduled_messages o
                where o.conversation_id = a.conversation_id
                  and o.status = 'waiting'
                limit 100
            ) o
        ) end
) as later (send_later_count)
cross join lateral (
    -- It says case, because Postgres does not take coalesce for leakproof: under row level
    -- security it would count from the beginning of the conversation.
    select case when marker.last_read_seq is null then 0 else marker.last_read_seq end
) as r (last_read_seq)
cross join lateral (
    select count(*)::integer as unread_count
    from (
        select
        from public.messages n
        where n.conversation_id = a.conversation_id
          and n.seq > r.last_read_seq
          and n.revoked_at is null
          and not n.is_history
          -- messages of the other side
          and n.sender_type = any (
              case
                  when a.account_id = any (array(select private.my_account_ids()))
                      then array['client']
                  else array['operator', 'system']
              end
          )
        -- clients show 99+, so the count stops at 100
        limit 100
    ) n
) u;


grant select on public.inbox to authenticated;


comment on view public.inbox is
    'Conversations, with the columns of a list of them. Filter by one account_id, or as a customer by one customer_id. Sort by last_message_at (descending) and id. inbox_page finds by assignee, label, snooze and name.';
comment on column public.inbox.id is
    'The conversation.';
comment on column public.inbox.account_id is
    'The account of the conversation.';
comment on column public.inbox.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.inbox.channel is
    'whatsapp, booking or portal.';
comment on column public.inbox.whatsapp_channel_id is
    'The account''s WhatsApp number that carries the conversation; null on other channels.';
comment on column public.inbox.customer_wa_id is
    'The exact WhatsApp id to which replies go.';
comment on column public.inbox.group_id is
    'WhatsApp''s id of the group; null for a conversation with one customer.';
comment on column public.inbox.group_name is
    'The group''s subject; null if WhatsApp has not told it.';
comment on column public.inbox.participants is
    'The present and former members of the group; see conversations.';
comment on column public.inbox.status is
    'open, pending or closed; written by set_conversation_status.';
comment on column public.inbox.customer_name is
    'The customer''s name: the one that staff gave, or else that of the WhatsApp profile. For a group, the name of the group.';
comment on column public.inbox.last_seq is
    'The seq of the latest message; 0 before the first.';
comment on column public.inbox.last_message_at is
    'When the latest message was sent (UTC); before the first message, when the conversation was made.';
comment on column public.inbox.last_inbound_at is
    'When the customer last wrote or called: on WhatsApp by WhatsApp''s clock (UTC).';
comment on column public.inbox.last_message is
    'The text of the latest message, or a placeholder such as [image] or [deleted].';
comment on column public.inbox.last_message_type is
    'The type of the latest message: text, image, location …';
comment on column public.inbox.last_message_content is
    'The content of the latest message where clients have words of their own for it: a notice of the system, a call, audio (is it a voice message?). Null for others.'
    ' Type: json | null';
comment on column public.inbox.last_invoice_data is
    'The invoice of a latest message that is a notice about one; else null. See messages.invoice_data.'
    ' Type: json | null';
comment on column public.inbox.last_sender_type is
    'Who wrote the latest message: client, operator or system.';
comment on column public.inbox.last_sender_name is
    'The name of the person who wrote the latest message.';
comment on column public.inbox.last_message_status is
    'The status of the latest message: queued, sent, delivered, read, failed or unknown.';
comment on column public.inbox.last_read_seq is
    'The seq up to which the signed-in user has read; mark_read moves it.'
    ' Type: bigint';
comment on column public.inbox.unread_count is
    'How many messages of the other side the signed-in user has not read, without deleted ones; 100 stands for 100 or more.'
    ' Type: integer';
comment on column public.inbox.assignee_id is
    'The member who answers; null if the conversation is free. Customers see null.';
comment on column public.inbox.assignee_name is
    'The assignee''s name. Customers see null.';
comment on column public.inbox.label_ids is
    'The ids of the conversation''s labels; see labels. Customers see none.';
comment on column public.inbox.snoozed_until is
    'Until when the conversation waits (UTC); null if it does not. Customers see null.';
comment on column public.inbox.send_later_count is
    'How many messages of scheduled_messages wait for their time in this conversation; 100 stands for 100 or more. Customers see null.'
    ' Type: integer | null';
comment on column public.inbox.created_at is
    'When the conversation was made (server time, UTC).';
comment on column public.inbox.version is
    'The conversation''s version: rises by 1 with each change of it, but not with a message.';


/*
    The inbox by assignee, label, snooze and name. First the ids of a page are found, past the
    policies, for a caller whose membership is checked: beginning at the given conversations, the
    label, the state, the contacts or the latest message, where fewer rows are read. Then the view
    shows these conversations under the caller's policies. (A filter on the view itself would look
    into every conversation.)
*/
create function private.inbox_ids(
    account_id uuid,
    assignee_id uuid,
    is_free boolean,
    label_id uuid,
    is_snoozed boolean,
    status text,
    before timestamptz,
    before_id uuid,
    page_size integer,
    query text,
    ids uuid[]
)
    returns uuid[]
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    -- conversations are met in the order of an index, or found by one
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
declare
    few constant integer := 500;
    first_id constant uuid := '00000000-0000-0000-0000-000000000000';
    patterns text[];
    literal_patterns text[];
    contact_ids uuid[];
    is_untaken constant boolean := is_free and assignee_id is null and status = 'open';
    -- where the statement begins; null for the latest conversations
    begins_at text;
    found_ids uuid[];
begin
    perform private.require_member(account_id);
    if status not in ('open', 'pending', 'closed') then
        raise sqlstate 'PT422' using
            message = 'This is not a status of conversations.',
            detail = 'field: status',
            hint = 'Use open, pending or closed, or none for all.';
    elsif length(query) > 200 then
        raise sqlstate 'PT422' using
            message = format('The query has %s characters; 200 are allowed.', length(query)),
            detail = 'field: query',
            hint = 'Shorten it to 200 characters.';
    elsif cardinality(ids) > 200 then
        raise sqlstate 'PT422' using
            message = format('%s ids are given; 200 are allowed.', cardinality(ids)),
            detail = 'field: ids',
            hint = 'Ask for 200 conversations at once.';
    end if;
    if query is not null then
        patterns := private.search_patterns(query);
        literal_patterns := private.literal_patterns(query);
    end if;

    -- If few conversations have the label, the assignee, a snooze or the name, these are read and
    -- sorted. If many have, the latest conversations are looked through until the page is full.
    if ids is not null then
        begins_at := 'unnest($11) b (id)';
    elsif label_id is not null and (
        select count(*)
        from (
            select
            from public.conversation_labels l
            where l.account_id = inbox_ids.account_id
              and l.label_id = inbox_ids.label_id
            limit few + 1
        ) l
    ) <= few then
        begins_at := '(select l.conversation_id as id from public.conversation_labels l'
            ' where l.account_id = $1 and l.label_id = $3) b';
    elsif assignee_id is not null and (
        select count(*)
        from (
            select
            from public.desk_states s
            where s.account_id = inbox_ids.account_id
              and s.assignee_id = inbox_ids.assignee_id
            limit few + 1
        ) s
    ) <= few then
        begins_at := '(select s.id from public.desk_states s'
            ' where s.account_id = $1 and s.assignee_id = $2) b';
    elsif is_untaken and (
        select count(*)
        from (
            select
            from private.unclosed_conversations u
            where u.account_id = inbox_ids.account_id
              and u.assignee_id is null
              and u.is_open
            limit few + 1
        ) u
    ) <= few then
        begins_at := '(select u.conversation_id as id from private.unclosed_conversations u'
            ' where u.account_id = $1 and u.assignee_id is null and u.is_open) b';
    elsif is_snoozed and (
        select count(*)
        from (
            select
            from public.desk_states s
            where s.account_id = inbox_ids.account_id
              and s.snoozed_until > now()
            limit few + 1
        ) s
    ) <= few then
        begins_at := '(select s.id from public.desk_states s'
            ' where s.account_id = $1 and s.snoozed_until > now()) b';
    elsif patterns <> '{}' then
        contact_ids := array(
            select p.contact_id
            from private.search_page(
                account_id => inbox_ids.account_id,
                patterns => patterns,
                after_name => '',
                after_id => first_id,
                page_size => few + 1
            ) p
            union
            select p.contact_id
            from private.search_page(
                account_id => inbox_ids.account_id,
                patterns => literal_patterns,
                after_name => '',
                after_id => first_id,
                page_size => few + 1
            ) p
            where literal_patterns is not null
        );
        if cardinality(contact_ids) <= few then
            begins_at := '(select o.conversation_id as id from unnest($12) c (id)'
                ' cross join lateral (select n.conversation_id from public.conversation_activity n'
                ' where n.customer_id = c.id offset 0) o'
                ' union all select k.id from public.conversations k'
                ' where k.account_id = $1 and k.group_id is not null) b';
        end if;
    end if;

    -- Each condition is asked of one conversation, by "case": as a join Postgres might read it for
    -- all conversations first, and with "=" it would expect that hardly any meets it.
    execute concat(
        'select array(select a.conversation_id from ',
        case
            when begins_at is null then 'public.conversation_activity a where a.account_id = $1'
            else concat(
                '(select distinct b.id from ', begins_at, ' offset 0) b'
                ' cross join lateral (select * from public.conversation_activity o'
                ' where o.conversation_id = b.id and o.account_id = $1 limit 1) a where true'
            )
        end,
        case when before is not null then
            ' and a.last_message_at <= $5'
            ' and (a.last_message_at < $5 or a.conversation_id > $6)'
        end,
        case when assignee_id is not null then
            ' and case (select s.assignee_id from public.desk_states s'
            ' where s.id = a.conversation_id limit 1) when $2 then true else false end'
        end,
        case
            when is_untaken then
                ' and case when exists (select from private.unclosed_conversations u'
                ' where u.conversation_id = a.conversation_id'
                ' and u.assignee_id is null and u.is_open) then true else false end'
            when is_free then
                ' and case when exists (select from public.desk_states s'
                ' where s.id = a.conversation_id and s.assignee_id is not null)'
                ' then false else true end'
        end,
        case when label_id is not null then
            ' and case when exists (select from public.conversation_labels l'
            ' where l.conversation_id = a.conversation_id and l.label_id = $3) then true else false end'
        end,
        case when is_snoozed is not null then
            ' and case when exists (select from public.desk_states s'
            ' where s.id = a.conversation_id and s.snoozed_until > now()) then $8 else not $8 end'
        end,
        -- a group is found by its name, and another conversation by its contact
        case when patterns <> '{}' then
            ' and case when a.customer_id is null then exists (select from public.conversations k'
            ' cross join lateral (select private.search_words(k.group_name, null, null, null, null)'
            ' as words) w where k.id = a.conversation_id'
            ' and (w.words like all ($9) or w.words like all ($10)))'
            ' else exists (select from private.contact_search w where w.contact_id = a.customer_id'
            ' and (w.words like all ($9) or w.words like all ($10))) end'
        end,
        -- as in the inbox, a deleted contact has no customers row
        ' and case when exists (select from public.conversations k where k.id = a.conversation_id'
        ' and (k.customer_id is null'
        ' or exists (select from public.customers c where c.id = k.customer_id))',
        case when status is not null then ' and k.status = $4' end,
        ') then true else false end'
        ' order by a.last_message_at desc, a.conversation_id limit $7)'
    )
    into found_ids
    using
        account_id, assignee_id, label_id, status, before, before_id,
        least(greatest(page_size, 1), 200), is_snoozed, patterns, literal_patterns, ids,
        contact_ids;
    return found_ids;
end
$$;

grant execute on function private.inbox_ids(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
)
    to authenticated;


create function public.inbox_page(
    account_id uuid,
    assignee_id uuid default null,
    is_free boolean default false,
    label_id uuid default null,
    is_snoozed boolean default null,
    status text default null,
    before timestamptz default null,
    before_id uuid default null,
    page_size integer default 50,
    query text default null,
    ids uuid[] default null
)
    returns setof public.inbox
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_ids constant uuid[] := private.inbox_ids(
        account_id => inbox_page.account_id,
        assignee_id => inbox_page.assignee_id,
        is_free => inbox_page.is_free,
        label_id => inbox_page.label_id,
        is_snoozed => inbox_page.is_snoozed,
        status => inbox_page.status,
        before => inbox_page.before,
        before_id => inbox_page.before_id,
        page_size => inbox_page.page_size,
        query => inbox_page.query,
        ids => inbox_page.ids
    );
begin
    return query
        select i.*
        from public.inbox i
        where i.id = any (found_ids)
        order by i.last_message_at desc, i.id;
end
$$;

grant execute on function public.inbox_page(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
)
    to authenticated;


create function private.inbox_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
begin
    perform private.require_member(account_id);
    return jsonb_build_object(
        'assignees', (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'user_id', m.user_id, 'name', m.display_name, 'conversations', n.number)
                    order by m.display_name, m.user_id
                ),
                '[]')
            from public.account_members m
            cross join lateral (
                select count(*) as number
                from (
                    select
                    from private.unclosed_conversations u
                    where u.account_id = inbox_counts.account_id
                      and u.assignee_id = m.user_id
                    limit 100
                ) u
            ) n
            where m.account_id = inbox_counts.account_id
        ),
        'snoozed', (
            select count(*)
            from (
                select
                from public.desk_states s
                where s.account_id = inbox_counts.account_id
                  and s.snoozed_until > now()
                limit 100
            ) s
        ),
        -- as inbox_page finds them; the conversations of a deleted contact are closed
        'free', (
            select count(*)
            from (
                select
                from private.unclosed_conversations u
                where u.account_id = inbox_counts.account_id
                  and u.assignee_id is null
                  and u.is_open
                  and (u.snoozed_until is null or u.snoozed_until <= now())
                limit 100
            ) u
        )
    );
end
$$;

grant execute on function private.inbox_counts(uuid) to authenticated;


create function public.inbox_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.inbox_counts(inbox_counts.account_id);
end
$$;

grant execute on function public.inbox_counts(uuid) to authenticated;


create function private.label_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: the members of the account are checked first
    security definer
    set search_path = ''
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
begin
    perform private.require_member(account_id);
    return jsonb_build_object('labels', (
        select coalesce(
            jsonb_agg(
                jsonb_build_object('label_id', l.id, 'name', l.name, 'conversations', n.number)
                order by l.name, l.id
            ),
            '[]')
        from public.labels l
        cross join lateral (
            select count(*) as number
            from (
                select
                from private.unclosed_labels o
                where o.label_id = l.id
                limit 100
            ) o
        ) n
        where l.account_id = label_counts.account_id
    ));
end
$$;

grant execute on function private.label_counts(uuid) to authenticated;


create function public.label_counts(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.label_counts(label_counts.account_id);
end
$$;

grant execute on function public.label_counts(uuid) to authenticated;


comment on function private.inbox_ids(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
) is
    'The conversations of a page of the inbox, for a member of the account.';
comment on function public.inbox_page(
    uuid, uuid, boolean, uuid, boolean, text, timestamptz, uuid, integer, text, uuid[]
) is
    'A page of an account''s inbox, latest first: rows of inbox. Filters: assignee_id, is_free (nobody has it), label_id, is_snoozed (true, false, or null for both), status, and query, which finds contacts as search_contacts does and groups by their name; ids asks for these conversations alone, at most 200. page_size is at most 200. For the next page give the last row''s last_message_at as before and its id as before_id. Not a member of the account: 404.';
comment on function private.inbox_counts(uuid) is
    'Counts the conversations of an account by assignee, and those that wait or are free.';
comment on function public.inbox_counts(uuid) is
    'How many conversations each filter finds. Assignees count conversations that are not closed, free counts open ones that do not wait; 100 stands for 100 or more. Not a member of the account: 404.'
    ' Type: {assignees: {user_id: uuid, name: text, conversations: integer}[], snoozed: integer, free: integer}';
comment on function private.label_counts(uuid) is
    'Counts the conversations of an account by label.';
comment on function public.label_counts(uuid) is
    'How many conversations that are not closed have each label of an account; 100 stands for 100 or more. Not a member of the account: 404.'
    ' Type: {labels: {label_id: uuid, name: text, conversations: integer}[]}';


/*
    Everything by which the rows of one person are found: the contact with those that were merged
    into it, their conversations, logins and partners, and the ids by which WhatsApp knows the
    person.
*/
create type private.person as (
    account_id       uuid,
    contact_ids      uuid[],
    conversation_ids uuid[],
    -- of the account's numbers, which carry groups and raw webhooks too
    channel_ids      uuid[],
    phone_number_ids text[],
    waba_ids         text[],
    -- the logins that nobody else uses, here or in another account
    user_ids         uuid[],
    -- numbers and user ids as WhatsApp writes them, and the match_key of each number
    ids              text[],
    phone_keys       text[],
    partner_ids      text[],
    -- what reminders and notifications are about
    subject_ids      uuid[],
    -- files of messages that wait for their time
    upload_ids       uuid[],
    -- regular expressions: one of the ids; one of the ids, contacts or conversations
    ids_pattern      text,
    pattern          text,
    -- what comes later is a new contact's
    until            timestamptz
);


create function private.kept_contact_of(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    kept uuid;
begin
    with recursive way as (
        select c.id, c.merged_into
        from public.contacts c
        where c.id = kept_contact_of.contact_id
          and c.account_id = kept_contact_of.account_id
        union
        select c.id, c.merged_into
        from way w
        join public.contacts c
            on c.id = w.merged_into
    )
    select w.id
    into kept
    from way w
    where w.merged_into is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('field: contact_id; contact: %s', kept_contact_of.contact_id),
            hint = 'Give the id of a contact, which contacts_v2 shows.';
    end if;
    return kept;
end
$$;


create function private.any_of(words text[])
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select string_agg(regexp_replace(w, '([][\\.*+?^$(){}|])', '\\\1', 'g'), '|')
            from unnest(words) w
        ),
        -- matches nothing
        '(?!)'
    );
end
$$;


create function private.is_login_of_others(user_id uuid, contact_ids uuid[])
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from public.account_members m
        where m.user_id = is_login_of_others.user_id
    )
    or exists (
        select
        from public.contacts c
        where c.portal_user_id = is_login_of_others.user_id
          and c.id <> all (is_login_of_others.contact_ids)
    );
end
$$;


create function private.person_of(account_id uuid, contact_id uuid)
    returns private.person
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    p private.person;
    numbers text[];
    user_names text[];
    others text[];
begin
    p.account_id := person_of.account_id;
    p.until := clock_timestamp();
    p.contact_ids := array(
        select l
        from private.contact_lineage(private.kept_contact_of(
            account_id => person_of.account_id, contact_id => person_of.contact_id)) l
    );
    p.conversation_ids := array(
        select k.id
        from public.conversations k
        where k.customer_id = any (p.contact_ids)
    );
    select
        coalesce(array_agg(w.id), '{}'),
        coalesce(array_agg(w.phone_number_id), '{}'),
        coalesce(array_agg(distinct w.waba_id) filter (where w.waba_id is not null), '{}')
    into p.channel_ids, p.phone_number_ids, p.waba_ids
    from public.whatsapp_channels w
    where w.account_id = person_of.account_id;

    -- a contact that was deleted before has no identities any more: its conversations still tell
    select
        coalesce(array_agg(distinct f.value) filter (where f.value ~ '^\+?[0-9]{5,32}$'), '{}'),
        coalesce(array_agg(distinct f.value) filter (where f.value !~ '^\+?[0-9]*$'), '{}')
    into numbers, user_names
    from (
        select unnest(array[c.phone, c.gsm])
        from public.contacts c
        where c.id = any (p.contact_ids)
        union all
        select unnest(array[i.value, i.wa_id])
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = person_of.account_id
          and i.kind in ('phone', 'bsuid')
        union all
        select k.customer_wa_id
        from public.conversations k
        where k.id = any (p.conversation_ids)
        union all
        select m.sender_id
        from public.messages m
        where m.conversation_id = any (p.conversation_ids)
          and m.sender_type = 'client'
          and m.whatsapp_channel_id is not null
    ) as f (value);
    -- a mobile number as the ERP writes it is no id
    user_names := array(select u from unnest(user_names) u where u ~ '^[A-Za-z]{2}\.');

    -- a number that is somebody else's by now does not lead to the person
    select coalesce(array_agg(distinct k.key) filter (where o.contact_id is null), '{}')
    into p.phone_keys
    from (
        select private.match_key('phone', n)
        from unnest(numbers) n
        union all
        select u.phone_key
        from private.whatsapp_user_numbers u
        where u.account_id = person_of.account_id
          and u.user_id = any (user_names)
    ) as k (key)
    left join public.contact_identities o
        on o.account_id = person_of.account_id
       and o.kind = 'phone'
       and o.match_key = k.key
       and o.contact_id <> all (p.contact_ids);
    user_names := user_names || array(
        select u.user_id
        from private.whatsapp_user_numbers u
        where u.account_id = person_of.account_id
          and u.phone_key = any (p.phone_keys)
    );
    others := array(
        select o.match_key
        from public.contact_identities o
        where o.account_id = person_of.account_id
          and o.kind = 'bsuid'
          and o.match_key = any (user_names)
          and o.contact_id <> all (p.contact_ids)
    );
    p.ids := array(
        select d.id
        from unnest(numbers) n
        cross join lateral unnest(array[ltrim(n, '+'), '+' || ltrim(n, '+')]) as d (id)
        where private.match_key('phone', n) = any (p.phone_keys)
        union
        select k
        from unnest(p.phone_keys) k
        union
        select u
        from unnest(user_names) u
        where u <> all (others)
    );

    p.user_ids := array(
        select distinct f.user_id
        from (
            select c.portal_user_id
            from public.contacts c
            where c.id = any (p.contact_ids)
            union all
            select i.claimed_by
            from public.portal_invitations i
            where i.contact_id = any (p.contact_ids)
        ) as f (user_id)
        join auth.users u
            on u.id = f.user_id
        where not private.is_login_of_others(user_id => f.user_id, contact_ids => p.contact_ids)
    );
    p.partner_ids := array(
        select m.metakocka_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (p.contact_ids)
          and m.metakocka_id is not null
        union
        select i.value
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = person_of.account_id
          and i.kind = 'metakocka'
        union
        select i.metakocka_id
        from private.partner_intents i
        where i.contact_id = any (p.contact_ids)
          and i.metakocka_id is not null
    );
    p.subject_ids := p.contact_ids || p.conversation_ids || array(
        select j.id
        from public.jobs j
        where j.customer_id = any (p.contact_ids)
        union all
        select i.id
        from public.invoices i
        where i.customer_id = any (p.contact_ids)
        union all
        select t.id
        from public.loyalty_transactions t
        where t.customer_id = any (p.contact_ids)
    );
    p.upload_ids := array(
        select (s.content ->> 'upload_id')::uuid
        from public.scheduled_messages s
        where s.customer_id = any (p.contact_ids)
          and pg_input_is_valid(s.content ->> 'upload_id', 'uuid')
    );
    -- a webhook is read for numbers that are somebody else's too: the ids of its messages decide
    p.ids_pattern := private.any_of(p.ids || array(select ltrim(n, '+') from unnest(numbers) n));
    p.pattern := p.ids_pattern || '|'
        || private.any_of(array(select i::text from unnest(p.contact_ids || p.conversation_ids) i));
    return p;
end
$$;


create function private.messages_of(p private.person)
    returns setof uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select m.id
        from public.messages m
        where m.conversation_id = any (p.conversation_ids)
        union all
        -- what the person wrote in groups
        select m.id
        from public.conversations k
        join public.messages m
            on m.conversation_id = k.id
        where k.account_id = p.account_id
          and k.group_id is not null
          and m.sender_type = 'client'
          and m.sender_id = any (p.ids);
end
$$;


create function private.provider_ids_of(p private.person)
    returns table (whatsapp_channel_id uuid, provider_id text)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select m.whatsapp_channel_id, m.provider_id
        from public.messages m
        where m.id in (select private.messages_of(p))
          and m.provider_id is not null;
end
$$;


create function private.names_one(value jsonb, ids text[])
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case jsonb_typeof(value)
        when 'string' then value #>> '{}' = any (ids)
        when 'object' then exists (
            select
            from jsonb_each(value) f
            where jsonb_typeof(f.value) = 'string'
              and f.value #>> '{}' = any (ids)
        )
        else false
    end;
end
$$;


create function private.without_ids(value jsonb, ids text[])
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case jsonb_typeof(value)
        when 'array' then (
            select coalesce(jsonb_agg(private.without_ids(e.value, ids) order by e.place), '[]')
            from jsonb_array_elements(value) with ordinality as e (value, place)
            where not private.names_one(e.value, ids)
        )
        when 'object' then (
            select coalesce(jsonb_object_agg(f.key, private.without_ids(f.value, ids)), '{}')
            from jsonb_each(value) f
            where jsonb_typeof(f.value) <> 'string'
               or f.value #>> '{}' <> all (ids)
        )
        else value
    end;
end
$$;


comment on type private.person is
    'Everything by which the rows of one person are found.';
comment on function private.kept_contact_of(uuid, uuid) is
    'The contact itself, or the one into which it was merged at last.';
comment on function private.any_of(text[]) is
    'A regular expression for one of these words.';
comment on function private.is_login_of_others(uuid, uuid[]) is
    'Whether a login is a member''s of any account, or another contact''s than these.';
comment on function private.person_of(uuid, uuid) is
    'Everything by which the rows of a contact''s person are found.';
comment on function private.messages_of(private.person) is
    'The messages of a person''s conversations, and the person''s own in groups.';
comment on function private.provider_ids_of(private.person) is
    'WhatsApp''s ids of the messages of a person.';
comment on function private.names_one(jsonb, text[]) is
    'Whether a text is one of these ids, or an object has one of them as a value.';
comment on function private.without_ids(jsonb, text[]) is
    'JSON without what has one of these ids: without such elements of lists, and such values of objects.';


/*
    One person's part of a raw webhook, which may carry updates about several people, and of several
    accounts. Only the account's own updates are looked at.
*/
create function private.is_update_of(update jsonb, p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.names_one(update, p.ids)
        -- an entry of the phone book, and a message that tells of another number
        or private.names_one(update -> 'contact', p.ids)
        or private.names_one(update -> 'system', p.ids)
        or exists (
            select
            from public.messages m
            where m.whatsapp_channel_id = any (p.channel_ids)
              and m.provider_id = update ->> 'id'
              and m.conversation_id = any (p.conversation_ids)
        );
end
$$;


create function private.is_change_of_account(change jsonb, waba_id text, p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := change #>> '{value,metadata,phone_number_id}';
begin
    return coalesce(number = any (p.phone_number_ids), false)
        or coalesce(waba_id = any (p.waba_ids), false)
            and (
                number is null
                -- one that nobody has yet: the business may add it, and its webhooks are tried again
                or coalesce(
                    private.webhook_account(
                        phone_number_id => number, waba_id => is_change_of_account.waba_id)
                        = p.account_id,
                    false)
            );
end
$$;


create function private.changes_of_account(body text, p private.person)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select jsonb_agg(c.value)
        from jsonb_path_query(private.webhook_json(body), 'lax $.entry[*]') as e (value)
        cross join lateral jsonb_path_query(e.value, 'lax $.changes[*]') as c (value)
        where private.is_change_of_account(c.value, e.value ->> 'id', p)
    );
end
$$;


create function private.cut_list(
    list jsonb,
    p private.person,
    out rest jsonb,
    out cut jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    element jsonb;
    threads record;
begin
    rest := '[]';
    cut := '[]';
    for element in select e from jsonb_array_elements(list) e loop
        if jsonb_typeof(element -> 'threads') = 'array' then
            -- the history of a phone app has a list of messages for each person
            threads := private.cut_list(element -> 'threads', p);
            cut := cut || threads.cut;
            rest := rest || jsonb_build_array(jsonb_set(element, '{threads}', threads.rest));
        elsif private.is_update_of(element, p) then
            cut := cut || jsonb_build_array(element);
        elsif element ? 'group_id' and element::text ~ p.ids_pattern then
            -- the event of a group names the people that came and left; a message quotes one
            rest := rest || jsonb_build_array(case
                when element ? 'from' then case
                    when private.names_one(element -> 'context', p.ids) then element - 'context'
                    else element
                end
                else private.without_ids(element, p.ids)
            end);
        else
            rest := rest || jsonb_build_array(element);
        end if;
    end loop;
end
$$;


create function private.cut_webhook(
    body text,
    p private.person,
    out rest text,
    out cut jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    left_over jsonb := private.webhook_json(body);
    change record;
    list record;
    parts record;
begin
    if left_over is null then
        -- nobody can tell which part of it is another person's
        rest := '{}';
        cut := '[{"unreadable": true}]';
        return;
    end if;
    cut := '[]';
    rest := body;
    for change in
        select
            array['entry', (e.place - 1)::text, 'changes', (c.place - 1)::text, 'value'] as path,
            c.value -> 'value' as value
        from jsonb_array_elements(case jsonb_typeof(left_over -> 'entry')
            when 'array' then left_over -> 'entry' else '[]' end) with ordinality as e (value, place)
        cross join lateral jsonb_array_elements(case jsonb_typeof(e.value -> 'changes')
            when 'array' then e.value -> 'changes' else '[]' end) with ordinality as c (value, place)
        where private.is_change_of_account(c.value, e.value ->> 'id', p)
          and jsonb_typeof(c.value -> 'value') = 'object'
    loop
        for list in
            select f.key, f.value
            from jsonb_each(change.value) f
            where jsonb_typeof(f.value) = 'array'
        loop
            parts := private.cut_list(list.value, p);
            if parts.rest <> list.value then
                cut := cut || jsonb_build_array(jsonb_build_object(list.key, parts.cut));
                left_over := jsonb_set(left_over, change.path || list.key, parts.rest);
            end if;
        end loop;
    end loop;
    if cut <> '[]' then
        rest := left_over::text;
    end if;
end
$$;


comment on function private.is_update_of(jsonb, private.person) is
    'Whether an update of a webhook is about a person.';
comment on function private.is_change_of_account(jsonb, text, private.person) is
    'Whether a change of a webhook is about a number, or else about the WhatsApp Business account, of the person''s account.';
comment on function private.changes_of_account(text, private.person) is
    'The changes of a raw webhook that are the account''s; null for none.';
comment on function private.cut_list(jsonb, private.person) is
    'A list of updates without those about a person, and these.';
comment on function private.cut_webhook(text, private.person) is
    'A raw webhook without the updates about a person, and these, by the name of their list.';


/*
    Every table of the database, and what it holds about a person: which rows, and what an erasure
    does with them. Export, erasure and their tests read this list, in its order. So a new table
    needs its row here: a test says which one is missing.

    treatment is

        delete    the rows go
        change    the rows stay for others or by law; what they say about the person goes
        keep      the rows hold ids alone, of what is gone
        none      nothing about customers

    condition and to_do are about a row r and a person p, a row of the columns of private.person and,
    as self, of the whole. Child rows stand before the rows that they refer to.
*/
create table private.personal_tables (
    place       integer generated always as identity primary key,
    table_name  text not null
                constraint personal_tables_table_name_check check (table_name ~ '^\w+\.\w+$'),
    treatment   text not null
                constraint personal_tables_treatment_check
                check (treatment in ('delete', 'change', 'keep', 'none')),
    -- the person's rows
    condition   text,
    -- the rows that are due: all if null, for a change those that still have to be changed; and how
    to_do       text,
    assignments text,
    -- a large table without an index for the condition is read block by block, once
    walks       boolean not null default false,
    -- whether an export has the rows; the columns that it leaves out; the row as it shows it
    is_exported boolean not null default true,
    hidden      text[] not null default '{}',
    shown       text,
    -- the order in an export, by columns that no two rows share; by default the primary key
    sorted_by   text[],
    why         text,

    constraint personal_tables_condition_check
        check ((condition is not null) = (treatment in ('delete', 'change'))),
    constraint personal_tables_change_check
        check (
            (assignments is not null) = (treatment = 'change')
            and (to_do is not null or treatment <> 'change')
            and (to_do is null or treatment in ('delete', 'change'))
        ),
    constraint personal_tables_why_check
        check (treatment = 'delete' or why is not null)
);
alter table private.personal_tables enable row level security;


insert into private.personal_tables (
    table_name, treatment, condition, to_do, assignments, walks, is_exported, hidden, shown,
    sorted_by, why
)
values
-- first, while the messages are there to tell whose an update is
('private.webhook_events', 'change',
    $$r.received_at < p.until and r.body ~ p.ids_pattern
      and (private.cut_webhook(r.body, p.self)).cut <> '[]'$$,
    'true',
    $$body = (private.cut_webhook(r.body, p.self)).rest,
      is_cut = true,
      rejected = (
          -- WhatsApp's ids of messages hold numbers
          select coalesce(
              jsonb_agg(case
                  when position(e ->> 'provider_id' in (private.cut_webhook(r.body, p.self)).rest) > 0
                      then e - 'detail'
                  else e - array['detail', 'provider_id']
              end),
              '[]')
          from jsonb_array_elements(r.rejected) e
      )$$,
    true, true, '{}',
    $$jsonb_build_object('received_at', r.received_at, 'updates', (private.cut_webhook(r.body, p.self)).cut)$$,
    null, 'A webhook carries updates about others too, and is known by its hash when it comes again.'),

-- what waits to be told
('private.push_queue', 'delete',
    $$r.account_id = p.account_id and (
          r.subject_id = any (p.subject_ids)
          or r.conversation_id = any (p.conversation_ids)
          or r.source_id in (select private.messages_of(p.self))
      ) or r.subscription_id in (
          select s.id from public.push_subscriptions s where s.user_id = any (p.user_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.notifications', 'delete',
    $$r.account_id = p.account_id and (
          r.subject_id = any (p.subject_ids)
          or r.conversation_id = any (p.conversation_ids)
          or r.source_id in (select private.messages_of(p.self))
      ) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.conversation_watchers', 'delete',
    $$r.conversation_id = any (p.conversation_ids) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- files
('private.media_queue', 'delete',
    $$r.media_id in (
          select f.id
          from public.message_media f
          where f.message_id in (select private.messages_of(p.self))
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.media_uploads', 'delete',
    $$r.account_id = p.account_id
      and (
          r.id = any (p.upload_ids)
          or r.object_key in (
              select f.object_key
              from public.message_media f
              where f.message_id in (select private.messages_of(p.self))
          )
      )
      -- one file may have been sent to several people
      and not exists (
          select
          from public.message_media f
          where f.account_id = p.account_id
            and f.object_key = r.object_key
            and f.message_id not in (select private.messages_of(p.self))
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.message_media', 'delete',
    $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),

-- what is known of messages
('private.message_statuses', 'delete',
    $$(r.whatsapp_channel_id, r.provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.message_effects', 'delete',
    $$(r.whatsapp_channel_id, r.parent_provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )
      or r.whatsapp_channel_id = any (p.channel_ids) and r.sender_id = any (p.ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.call_events', 'delete',
    $$(r.whatsapp_channel_id, r.provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.parked_replies', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.outbound_queue', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.outbound_attempts', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.message_failures', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),

-- conversations
('public.scheduled_messages', 'delete',
    $$r.customer_id = any (p.contact_ids) or r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_notes', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, array['conversation_id', 'seq'], null),
('public.messages', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, array['conversation_id', 'seq'], null),
('public.messages', 'change',
    $$r.customer_id is null
      and r.sender_type = 'client'
      and r.sender_id = any (p.ids)
      and r.conversation_id in (
          select k.id
          from public.conversations k
          where k.account_id = p.account_id and k.group_id is not null
      )$$,
    'true',
    $$sender_id = null,
      sender_name = null,
      message = '',
      content = null,
      reactions = '[]',
      provider_id = null,
      revoked_at = coalesce(r.revoked_at, now())$$,
    false, true, '{}', null, array['conversation_id', 'seq'],
    'A message in a group keeps its place among those of others, without its contents.'),
('public.messages', 'change',
    $$r.customer_id is null
      and r.reactions <> '[]'
      and r.conversation_id in (
          select k.id
          from public.conversations k
          where k.account_id = p.account_id and k.group_id is not null
      )
      and r.reactions::text ~ p.ids_pattern
      and private.without_ids(r.reactions, p.ids) <> r.reactions$$,
    'true',
    $$reactions = private.without_ids(r.reactions, p.ids)$$,
    false, false, '{}', null, null, 'Others'' messages in a group lose the person''s reactions.'),
('public.read_markers', 'delete',
    $$r.conversation_id = any (p.conversation_ids) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_activity', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_labels', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.desk_states', 'delete', $$r.id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.unclosed_labels', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.unclosed_conversations', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversations', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversations', 'change',
    $$r.account_id = p.account_id
      and r.group_id is not null
      and private.without_ids(r.participants, p.ids) <> r.participants$$,
    'true',
    $$participants = private.without_ids(r.participants, p.ids)$$,
    false, false, '{}', null, null, 'A group is others'' too; the person leaves its list.'),
('private.group_events', 'change',
    $$r.whatsapp_channel_id = any (p.channel_ids)
      and private.without_ids(jsonb_build_array(r.joined, r.departed, r.named), p.ids)
          <> jsonb_build_array(r.joined, r.departed, r.named)$$,
    'true',
    $$joined = private.without_ids(r.joined, p.ids),
      departed = private.without_ids(r.departed, p.ids),
      named = private.without_ids(r.named, p.ids)$$,
    false, false, '{}', null, null, 'What happened in a group is about others too.'),

-- the portal
('private.sent_reminders', 'delete',
    $$r.account_id = p.account_id and r.subject_id = any (p.subject_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.loyalty_balances', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.loyalty_lots', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.loyalty_transactions', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.invoices', 'delete', $$r.customer_id = any (p.contact_ids) and r.sent_at is null$$,
    null, null, false, true, '{}', null, null, null),
('public.invoices', 'change',
    $$r.customer_id = any (p.contact_ids) and r.sent_at is not null$$,
    'r.description is not null',
    'description = null',
    false, true, '{}', null, null,
    'Tax law has a business keep the invoices that it sent: their numbers, amounts and dates stay.'),
('public.jobs', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.portal_invitation_tokens', 'delete',
    $$r.invitation_id in (
          select i.id from public.portal_invitations i where i.contact_id = any (p.contact_ids)
      )$$,
    null, null, false, false, '{}', null, null, null),
('public.portal_invitations', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- Metakocka
('public.sync_conflicts', 'delete',
    $$r.account_id = p.account_id and (
          r.contact_id = any (p.contact_ids) or r.metakocka_id = any (p.partner_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.sync_conflicts', 'change',
    $$r.account_id = p.account_id
      and (r.contact_id is null or r.contact_id <> all (p.contact_ids))
      and (
          r.candidates && p.contact_ids
          or private.without_ids(r.partners, p.partner_ids) <> r.partners
      )$$,
    'true',
    $$candidates = array(
          select c from unnest(r.candidates) c where c <> all (p.contact_ids)
      ),
      partners = private.without_ids(r.partners, p.partner_ids)$$,
    false, false, '{}', null, null, 'A question about somebody else no longer offers the person.'),
('public.sync_errors', 'delete',
    $$r.account_id = p.account_id and (
          r.contact_id = any (p.contact_ids) or r.metakocka_id = any (p.partner_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.sync_runs', 'change',
    $$r.account_id = p.account_id
      and private.without_ids(r.request, p.partner_ids || p.contact_ids::text[]) <> r.request$$,
    'true',
    $$request = private.without_ids(r.request, p.partner_ids || p.contact_ids::text[])$$,
    false, false, '{}', null, null, 'A run was about others too.'),
('private.partner_intents', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    'not private.may_make_partner(r)',
    null, false, true, '{}', null, null, null),
('private.metakocka_dirty', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.metakocka_contact_mappings', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- the ids of WhatsApp
('private.whatsapp_id_changes', 'delete',
    $$r.account_id = p.account_id and (
          r.old_key = any (p.ids) or r.new_value = any (p.ids)
          or r.kind = 'phone' and private.match_key('phone', r.new_value) = any (p.phone_keys)
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.whatsapp_user_numbers', 'delete',
    $$r.account_id = p.account_id and (r.user_id = any (p.ids) or r.phone_key = any (p.phone_keys))$$,
    null, null, false, true, '{}', null, null, null),
('private.phone_book', 'delete',
    $$r.whatsapp_channel_id = any (p.channel_ids) and r.phone_key = any (p.phone_keys)$$,
    null, null, false, true, '{}', null, null, null),
('private.send_paces', 'delete',
    -- a recipient is the thread_key of conversations
    $$r.whatsapp_channel_id = any (p.channel_ids)
      and r.recipient = any (array(
          select k.kind || ':' || i
          from unnest(array['phone', 'bsuid']) as k (kind)
          cross join unnest(p.ids) i
      ))$$,
    null, null, false, true, '{}', null, null, null),

-- the contact
('public.contact_suggestions', 'delete',
    $$r.contact_id = any (p.contact_ids) or r.other_contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.contact_merges', 'delete',
    $$r.kept_contact_id = any (p.contact_ids) or r.dropped_contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.customer_words', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.stated_usernames', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.contact_search', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, false, '{}', null, null, null),
('public.contact_identities', 'delete',
    $$r.account_id = p.account_id and r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.customers', 'delete', $$r.id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.legal_holds', 'delete',
    $$r.account_id = p.account_id and r.contact_id = any (p.contact_ids)$$,
    null, null, false, false, '{}', null, null, null),
('public.contacts', 'change',
    $$r.id = any (p.contact_ids)$$,
    'num_nonnulls(r.marketing_stopped_at, r.marketing_chosen_at, r.status_changed_at) > 0',
    'marketing_stopped_at = null, marketing_chosen_at = null, status_changed_at = null',
    false, true, '{}', null, null,
    'The blanked row stays for the invoices that have to be kept, and so that its id is no other''s.'),

-- The login, if it is used for nothing else. Its rows in auth go in one transaction: somebody else
-- may take a login at any time, and needs it whole.
('public.push_subscriptions', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, array['auth', 'p256dh'], null, null, null),
('public.notification_choices', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.user_writes', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.flow_state', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.one_time_tokens', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.mfa_amr_claims', 'delete',
    $$r.session_id in (select s.id from auth.sessions s where s.user_id = any (p.user_ids))$$,
    null, null, false, false, '{}', null, null, null),
('auth.refresh_tokens', 'delete', $$r.user_id = any (p.user_ids::text[])$$,
    null, null, false, false, '{}', null, null, null),
('auth.sessions', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('auth.identities', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('auth.users', 'delete', $$r.id = any (p.user_ids)$$,
    null, null, false, true,
    array[
        'encrypted_password', 'confirmation_token', 'recovery_token', 'email_change_token_new',
        'email_change_token_current', 'phone_change_token', 'reauthentication_token'
    ],
    null, null, null),
-- not in a database of this machine
('auth.audit_log_entries', 'delete',
    $$r.payload ->> 'actor_id' = any (p.user_ids::text[])
      or r.payload #>> '{traits,user_id}' = any (p.user_ids::text[])$$,
    null, null, true, false, '{}', null, null, null),

-- last, since the erasure itself broadcasts: ids alone
('realtime.messages', 'delete',
    $$split_part(r.topic, ':', 2) = any ((p.contact_ids || p.conversation_ids)::text[])
      or coalesce(r.payload #>> '{record,account_id}', r.payload #>> '{old_record,account_id}')
             = p.account_id::text
         and r.payload::text ~ p.pattern$$,
    null, null, true, false, '{}', null, null, null);


insert into private.personal_tables (table_name, treatment, is_exported, why)
select t.table_name, 'keep', false, t.why
from (
    values
    ('private.changes', 'Ids alone: clients that were away learn from it what is gone.'),
    ('private.topic_epochs', 'Ids alone.'),
    ('private.forgotten_partners', 'Salted hashes of partners, so that the sync does not bring them back.'),
    ('private.partner_salts', 'The salts.'),
    ('private.erased_messages', 'Hashes of messages'' ids, so that their updates do not bring the person back.'),
    ('public.privacy_actions', 'Who did what, when, and counts: ids alone.'),
    ('private.erasures', 'What an erasure still needs; its end deletes it.'),
    ('private.erased_files', 'Files that are still to be removed; then it is deleted.'),
    ('private.found_words', 'Where an erasure found words of the person in rows of others: ids alone.')
) as t (table_name, why);

insert into private.personal_tables (table_name, treatment, is_exported, why)
select t.table_name, 'none', false, t.why
from (
    values
    ('public.accounts', 'The business.'),
    ('public.account_members', 'Staff.'),
    ('private.member_invitations', 'Staff.'),
    ('public.whatsapp_channels', 'The numbers of the business.'),
    ('public.whatsapp_templates', 'Templates with variables in the place of words.'),
    ('public.account_events', 'What WhatsApp says of the business.'),
    ('public.account_health', 'Troubles of the business.'),
    ('public.labels', 'The words of the business.'),
    ('public.saved_replies', 'The words of the business.'),
    ('public.reminder_rules', 'The words of the business.'),
    ('public.status_words', 'Words of faces.'),
    ('public.metakocka_connections', 'Settings.'),
    ('private.metakocka_companies', 'Settings.'),
    ('private.sync_leases', 'Workers.'),
    ('private.desk_presence', 'Staff.'),
    ('private.desk_turns', 'Staff.'),
    ('private.desk_epochs', 'Numbers of topics.'),
    ('private.refused_signatures', 'Counts.'),
    ('private.change_log', 'Settings.'),
    ('private.retention', 'Settings.'),
    ('private.retention_passes', 'Counts.'),
    ('private.account_usage', 'Counts.'),
    ('private.file_deletions', 'Names of files that are deleted within the hour, made of ids.'),
    ('private.doorbell', 'Settings.'),
    ('private.schedule_runs', 'When schedules ran.'),
    ('private.push_settings', 'Settings.'),
    ('private.followed_tables', 'A list of the schema.'),
    ('private.contact_fields', 'A list of the schema.'),
    ('private.personal_tables', 'A list of the schema.'),
    ('private.media_types', 'A list of WhatsApp''s.'),
    ('private.send_errors', 'A list of WhatsApp''s.'),
    ('private.country_time_zones', 'A list of countries.'),
    ('private.sentences', 'Words of the product.'),
    ('net.http_request_queue', 'Calls of the doorbell, which name a worker.'),
    ('net._http_response', 'Answers to the doorbell.'),
    ('local_inbox.messages', 'Mails and SMS of the stand-in on one machine.')
) as t (table_name, why);


comment on table private.personal_tables is
    'Every table of the database: its rows about a person, and what an erasure does with them.';


/*
    What was done about people's data, as a record for the business: exports, erasures, legal holds.
    It has ids and counts, and no words of the people.
*/
create table public.privacy_actions (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint privacy_actions_account_id_fkey
                references public.accounts on delete cascade,
    -- no foreign key: the record outlives the contact
    contact_id  uuid not null,
    action      text not null
                constraint privacy_actions_action_check
                check (action in ('export', 'erase', 'hold', 'release')),
    -- who asked: an owner, or null for the people who run the service; no foreign key, as above
    user_id     uuid,
    state       text not null default 'done'
                constraint privacy_actions_state_check check (state in ('running', 'done')),
    -- of an erasure: the rows of each table, and the files
    counts      jsonb not null default '{}',
    -- of an erasure: where words of the person still are, in rows of others
    remaining   jsonb not null default '[]',
    created_at  timestamptz not null default now(),
    finished_at timestamptz default now(),

    constraint privacy_actions_finished_check check ((state = 'done') = (finished_at is not null))
);
alter table public.privacy_actions enable row level security;


create index privacy_actions_account_idx
    on public.privacy_actions (account_id, created_at desc, id);

-- a person is erased once at a time
create unique index privacy_actions_running_key
    on public.privacy_actions (contact_id)
    where state = 'running';


grant select on public.privacy_actions to authenticated;


/*
    An erasure at work: what it has to find, and how far it is. It holds the person's words, so it
    goes with its end.
*/
create table private.erasures (
    action_id  uuid primary key
               constraint erasures_action_id_fkey
               references public.privacy_actions on delete cascade,
    -- a private.person; as JSON, so that the type can get another column
    person     jsonb not null,
    -- what is searched for at the end, and its kind: name, number, email, username, tax number,
    -- message
    words      text[] not null,
    word_kinds text[] not null,
    step       text not null default 'rows'
               constraint erasures_step_check
               check (step in ('rows', 'partners', 'files', 'statistics', 'search')),
    -- in rows: the entry of personal_tables; in statistics and search: the table
    place      bigint not null default 0,
    -- in a table that is read block by block: the partition and the block
    cursor     jsonb,
    found      jsonb not null default '[]'
);
alter table private.erasures enable row level security;


-- files to remove from the bucket
create table private.erased_files (
    action_id  uuid not null
               constraint erased_files_action_id_fkey
               references public.privacy_actions on delete cascade,
    object_key text not null,

    primary key (action_id, object_key)
);
alter table private.erased_files enable row level security;


/*
    Where words of an erased person were found outside the account's own tables, such as in a login
    that another business knows too. That is for the people who run the service alone.
*/
create table private.found_words (
    action_id uuid primary key
              constraint found_words_action_id_fkey
              references public.privacy_actions on delete cascade,
    found     jsonb not null
);
alter table private.found_words enable row level security;


create function private.log_privacy_action(account_id uuid, contact_id uuid, action text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.privacy_actions (account_id, contact_id, action, user_id)
    values (
        log_privacy_action.account_id,
        log_privacy_action.contact_id,
        log_privacy_action.action,
        auth.uid()
    );
end
$$;


create function private.account_of_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = account_of_contact.contact_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('field: contact_id; contact: %s', contact_id),
            hint = 'Give the id of a contact, which contacts_v2 shows.';
    end if;
    return account;
end
$$;


create function private.require_owned_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = require_owned_contact.contact_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = format('field: contact_id; contact: %s', contact_id);
    elsif account not in (select private.my_owned_account_ids()) then
        raise insufficient_privilege using
            message = 'Only an owner decides about all that is known of a person.',
            hint = 'Ask an owner of the account.';
    end if;
    return account;
end
$$;


comment on table public.privacy_actions is
    'Exports and erasures of people''s data, and legal holds: who, when, which contact, counts. No words of the people. For owners.';
comment on column public.privacy_actions.id is
    'Identifies the action.';
comment on column public.privacy_actions.account_id is
    'The account whose contact it is.';
comment on column public.privacy_actions.contact_id is
    'The contact; of a merged one, the contact into which it was merged.';
comment on column public.privacy_actions.action is
    'export, erase, hold or release.';
comment on column public.privacy_actions.user_id is
    'The owner who asked (auth.users); null for the people who run the service.';
comment on column public.privacy_actions.state is
    'running: an erasure that is not finished; the schedule goes on with it. done otherwise.';
comment on column public.privacy_actions.counts is
    'Of an erasure: how many rows of each table went or changed, and how many files were removed.'
    ' Type: {[text]: bigint}';
comment on column public.privacy_actions.remaining is
    'Of an erasure: the rows of others in which words of the person were found at its end, at most 200, such as a message that quotes the name. They stay, for a person to judge.'
    ' Type: {table: text, id: text, kinds: text[]}[]';
comment on column public.privacy_actions.created_at is
    'When it was asked for (server time, UTC).';
comment on column public.privacy_actions.finished_at is
    'When it was finished (server time, UTC); null while it runs.';
comment on table private.erasures is
    'Erasures at work: what they have to find, and how far they are.';
comment on table private.erased_files is
    'Files of erased people that are still in the bucket.';
comment on table private.found_words is
    'Where words of an erased person were found outside the account''s own tables.';
comment on function private.log_privacy_action(uuid, uuid, text) is
    'Records an action of the caller.';
comment on function private.account_of_contact(uuid) is
    'The account of a contact. Refuses one that is not there (404).';
comment on function private.require_owned_contact(uuid) is
    'The account of a contact, if the caller is its owner (403), and if the caller may see it at all (404).';


/*
    Erases all that is known of a person, in steps that each take about a second. A step and its
    place are one transaction, so an erasure that was cut off goes on where it was.

        rows        the entries of personal_tables, in their order
        partners    a call that may have made a partner at Metakocka has no outcome yet: the sync
                    finds it, then rows goes on with what the sync has written meanwhile
        files       the worker removes them from the bucket, and says so
        statistics  samples of columns, which Postgres keeps for its planner
        search      the whole database, for the words of the person

    What it writes is told by ids alone: a broadcast of a deletion would hold the deleted row.
*/
create function private.refuse_held(contact_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if private.is_held(contact_id) then
        raise sqlstate 'PT409' using
            message = 'This contact is under a legal hold, and nothing of it may be deleted.',
            detail = format('field: contact_id; contact: %s', contact_id),
            hint = 'An owner ends the hold with release_contact.';
    end if;
end
$$;


create function private.words_of(p private.person, out words text[], out kinds text[])
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- shorter ones are found everywhere; of the person's messages the longest are enough, since a
    -- search for thousands would take hours
    with own as materialized (
        select c.*
        from public.contacts c
        where c.id = any (p.contact_ids)
    ),
    said as (
        select distinct m.message, m.sender_name
        from public.messages m
        where m.id in (select private.messages_of(p))
          and m.sender_type = 'client'
    ),
    found as (
        select w.word, w.kind
        from own o
        cross join lateral (
            values
                (o.name, 'name'),
                (o.profile_name, 'name'),
                (o.email, 'email'),
                (o.username, 'username'),
                (o.tax_id_number, 'tax_number')
        ) as w (word, kind)
        union
        select e.value ->> 'name', 'name'
        from public.contact_merges g
        cross join lateral (values (g.kept_before), (g.dropped_before)) as e (value)
        where g.kept_contact_id = any (p.contact_ids)
          and g.undone_at is null
        union
        select i.value, i.kind
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = p.account_id
          and i.kind in ('email', 'username')
        union
        select ltrim(i, '+'), 'number'
        from unnest(p.ids) i
        union
        select u.email, 'email'
        from auth.users u
        where u.id = any (p.user_ids)
        union
        select s.sender_name, 'name'
        from said s
        union
        select l.message, 'message'
        from (
            select s.message
            from said s
            -- the text that stands for a file
            where s.message !~ '^\[\w+\]$'
            order by length(s.message) desc
            limit 100
        ) l
    ),
    usable as (
        -- as it stands in the text of a row
        select distinct on (t.word) t.word, f.kind
        from found f
        cross join lateral (
            select substr(j.word, 2, length(j.word) - 2)
            from (select lower(to_jsonb(btrim(f.word))::text)) as j (word)
        ) as t (word)
        where length(t.word) >= case f.kind
            when 'message' then 12
            when 'number' then 7
            when 'email' then 5
            else 3
        end
        -- a first name that others have too says nothing
        and (
            f.kind <> 'name'
            or t.word ~ '\s'
            or not exists (
                select
                from private.contact_search o
                where o.account_id = p.account_id
                  and o.contact_id <> all (p.contact_ids)
                  and o.words like '% ' || private.fold(t.word) || ' %'
            )
        )
        order by t.word, f.kind
    )
    select coalesce(array_agg(u.word), '{}'), coalesce(array_agg(u.kind), '{}')
    into words, kinds
    from usable u;
end
$$;


create function private.forget_messages(p private.person)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.erased_messages (whatsapp_channel_id, message_hash)
    select m.whatsapp_channel_id, private.message_hash(m.provider_id)
    from private.provider_ids_of(p) m
    where m.whatsapp_channel_id is not null
    on conflict do nothing;
end
$$;


create function private.begin_erasure(account_id uuid, contact_id uuid)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => begin_erasure.account_id, contact_id => begin_erasure.contact_id);
    begun public.privacy_actions;
    p private.person;
    told record;
begin
    -- two that begin at once, and one that holds the contact meanwhile
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    perform private.refuse_held(kept);
    select a.*
    into begun
    from public.privacy_actions a
    where a.contact_id = kept
      and a.state = 'running';
    if found then
        return begun;
    end if;

    perform set_config('rapport.broadcast_later', 'on', true);
    -- so that nothing comes in or goes out any more, and the person's next message is a new contact's
    perform private.lock_contacts(
        account_id => begin_erasure.account_id, contact_ids => array[kept]);
    p := private.person_of(account_id => begin_erasure.account_id, contact_id => kept);
    told := private.words_of(p);
    if told.words = '{}' then
        -- erased before: without a word to search for, a second record would say that none is left
        select a.*
        into begun
        from public.privacy_actions a
        where a.contact_id = kept
          and a.action = 'erase'
        order by a.created_at desc
        limit 1;
        if found then
            return begun;
        end if;
    end if;
    if exists (select from public.contacts c where c.id = kept and c.deleted_at is null) then
        perform private.delete_contact(
            account_id => begin_erasure.account_id, contact_id => kept);
    end if;
    perform private.forget_partner_ids(
        account_id => begin_erasure.account_id, metakocka_ids => p.partner_ids);
    perform private.forget_messages(p);

    insert into public.privacy_actions (account_id, contact_id, action, user_id, state, finished_at)
    values (begin_erasure.account_id, kept, 'erase', auth.uid(), 'running', null)
    returning *
    into begun;
    insert into private.erasures (action_id, person, words, word_kinds)
    values (begun.id, to_jsonb(p), told.words, told.kinds);

    perform private.broadcast_logged(begin_erasure.account_id);
    perform set_config('rapport.broadcast_later', 'off', true);
    return begun;
end
$$;


create function private.leaves_of(table_name text)
    returns table (leaf oid, blocks bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select t.relid::oid, pg_relation_size(t.relid) / current_setting('block_size')::bigint
        from pg_partition_tree(to_regclass(table_name)) t
        where t.isleaf
        union all
        -- a table without partitions is in no tree
        select c.oid, pg_relation_size(c.oid) / current_setting('block_size')::bigint
        from pg_catalog.pg_class c
        where c.oid = to_regclass(table_name)
          and c.relkind in ('r', 'm')
          and not c.relispartition
        order by 1;
end
$$;


create function private.next_blocks(
    table_name text,
    cursor jsonb,
    out leaf oid,
    out first_row tid,
    out last_row tid,
    out next_cursor jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- half a megabyte, without what is stored apart from the rows
    step constant bigint := 64;
    from_leaf constant oid := coalesce((cursor ->> 'leaf')::oid, 0);
    from_block bigint := coalesce((cursor ->> 'block')::bigint, 0);
begin
    select l.leaf
    into next_blocks.leaf
    from private.leaves_of(table_name) l
    where l.leaf > from_leaf
       or l.leaf = from_leaf and l.blocks > from_block
    order by l.leaf
    limit 1;
    if next_blocks.leaf is distinct from from_leaf then
        from_block := 0;
    end if;
    first_row := format('(%s,0)', from_block)::tid;
    last_row := format('(%s,0)', from_block + step)::tid;
    if next_blocks.leaf is not null then
        next_cursor := jsonb_build_object('leaf', next_blocks.leaf, 'block', from_block + step);
    end if;
end
$$;


create function private.erase_rows(
    entry private.personal_tables,
    p private.person,
    action_id uuid,
    cursor jsonb,
    out affected bigint,
    out next_cursor jsonb
)
    language plpgsql
    set search_path = ''
as $$
declare
    leaf oid;
    first_row tid;
    last_row tid;
    due text;
begin
    due := format(
        'array(select r.ctid from %1$s r cross join (select $1 as self, ($1).*) p where (%2$s) and (%3$s)',
        entry.table_name, entry.condition, coalesce(entry.to_do, 'true'));
    if entry.walks then
        select b.leaf, b.first_row, b.last_row, b.next_cursor
        into leaf, first_row, last_row, next_cursor
        from private.next_blocks(table_name => entry.table_name, cursor => erase_rows.cursor) b;
        if leaf is null then
            affected := 0;
            return;
        end if;
        due := due || ' and r.tableoid = $3 and r.ctid >= $4 and r.ctid < $5 for update of r)';
    else
        due := due || ' limit 500 for update of r)';
    end if;

    if entry.treatment = 'change' then
        execute format(
            'with changed as ('
            ' update %1$s r set %2$s from (select $1 as self, ($1).*) p'
            ' where r.ctid = any (%3$s)%4$s returning 1)'
            ' select count(*) from changed',
            entry.table_name,
            entry.assignments,
            due,
            case when entry.walks then ' and r.tableoid = $3' end
        )
        into affected
        using p, action_id, leaf, first_row, last_row;
    else
        execute format(
            'with gone as ('
            ' delete from %1$s d where d.ctid = any (%2$s)%3$s returning %4$s as object_key),'
            ' files as ('
            ' insert into private.erased_files (action_id, object_key)'
            ' select distinct $2, g.object_key from gone g where g.object_key is not null'
            ' on conflict do nothing)'
            ' select count(*) from gone',
            entry.table_name,
            due,
            case when entry.walks then ' and d.tableoid = $3' end,
            case
                when entry.table_name in ('public.message_media', 'private.media_uploads')
                    then 'd.object_key'
                else 'null::text'
            end
        )
        into affected
        using p, action_id, leaf, first_row, last_row;
    end if;
    if not entry.walks and affected > 0 then
        -- there may be more
        next_cursor := '{}';
    end if;
end
$$;


create function private.is_partner_awaited(p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- without a connection no sync brings the partner back
    return exists (
        select
        from private.partner_intents i
        join public.metakocka_connections k
            on k.account_id = i.account_id
        where i.contact_id = any (p.contact_ids)
          and private.may_make_partner(i)
    );
end
$$;


/*
    What an erasure may still take. Since it began, another account may have taken a login, and the
    sync may have found a partner. What is locked here stays so to the end of the step.
*/
create function private.renewed_person(p private.person)
    returns private.person
    language plpgsql
    set search_path = ''
as $$
declare
    renewed private.person := p;
    made text[];
begin
    -- a foreign key to a login waits for this, and then finds the login, or none
    perform
    from auth.users u
    where u.id = any (p.user_ids)
    order by u.id
    for update;
    renewed.user_ids := array(
        select u
        from unnest(p.user_ids) u
        where not private.is_login_of_others(user_id => u, contact_ids => p.contact_ids)
    );

    perform
    from private.partner_intents i
    where i.contact_id = any (p.contact_ids)
    order by i.id
    for update;
    made := array(
        select i.metakocka_id
        from private.partner_intents i
        where i.contact_id = any (p.contact_ids)
          and i.metakocka_id is not null
        union
        select m.metakocka_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (p.contact_ids)
          and m.metakocka_id is not null
        -- a person may ask for one that was forgotten before
        except
        select i
        from unnest(p.partner_ids) i
    );
    perform private.forget_partner_ids(account_id => p.account_id, metakocka_ids => made);
    renewed.partner_ids := p.partner_ids || made;
    return renewed;
end
$$;


create function private.erase_some_rows(inout erasure private.erasures, out counts jsonb)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    p constant private.person := private.renewed_person(
        jsonb_populate_record(null::private.person, erasure.person));
    entry private.personal_tables;
    done record;
begin
    counts := '{}';
    erasure.person := to_jsonb(p);
    while clock_timestamp() < started + interval '1 second'
        -- a login goes as a whole
        or entry.table_name like 'auth.%' and entry.table_name <> 'auth.users' and not entry.walks
    loop
        if erasure.cursor is null then
            select t.*
            into entry
            from private.personal_tables t
            where t.place > erasure.place
              and t.treatment in ('delete', 'change')
              and to_regclass(t.table_name) is not null
            order by t.place
            limit 1;
            if not found then
                erasure.place := 0;
                if private.is_partner_awaited(p) then
                    erasure.step := 'partners';
                    return;
                end if;
                -- without a connection nobody awaits the outcome of a call any more
                delete from private.partner_intents i
                where i.contact_id = any (p.contact_ids);
                erasure.step := 'files';
                -- one file may have been sent to several people
                delete from private.erased_files e
                using public.message_media f
                where e.action_id = erasure.action_id
                  and f.object_key = e.object_key;
                return;
            end if;
            erasure.place := entry.place;
        else
            select t.*
            into entry
            from private.personal_tables t
            where t.place = erasure.place;
        end if;
        done := private.erase_rows(
            entry,
            p => p,
            action_id => erasure.action_id,
            cursor => nullif(erasure.cursor, '{}')
        );
        erasure.cursor := done.next_cursor;
        if done.affected > 0 then
            counts := counts || jsonb_build_object(
                entry.table_name,
                coalesce((counts -> entry.table_name)::bigint, 0) + done.affected
            );
        end if;
    end loop;
end
$$;


create function private.renew_some_statistics(inout erasure private.erasures)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    sampled record;
begin
    -- the most frequent values of a column, and some others, are kept for the planner
    while clock_timestamp() < started + interval '1 second' loop
        select c.oid, c.oid::regclass as name
        into sampled
        from private.personal_tables t
        join pg_catalog.pg_class c
            on c.oid = to_regclass(t.table_name)
           -- of the platform's tables autovacuum renews them
           and pg_has_role(c.relowner, 'usage')
        where t.treatment in ('delete', 'change')
          and c.oid > erasure.place
        order by c.oid
        limit 1;
        if not found then
            erasure.step := 'search';
            erasure.place := 0;
            return;
        end if;
        execute format('analyze %s', sampled.name);
        erasure.place := sampled.oid;
    end loop;
end
$$;


create function private.erase_some(action_id uuid)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    action public.privacy_actions;
    erasure private.erasures;
    erased jsonb := '{}';
    stepped record;
begin
    -- another worker may have it, and both go on in turn
    select a.*
    into action
    from public.privacy_actions a
    where a.id = erase_some.action_id
      and a.action = 'erase'
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such erasure.',
            detail = 'field: action_id';
    elsif action.state = 'done' then
        return action;
    end if;
    perform private.refuse_held(action.contact_id);
    select e.*
    into erasure
    from private.erasures e
    where e.action_id = action.id;

    if erasure.step = 'rows' then
        perform set_config('rapport.broadcast_later', 'on', true);
        perform set_config('rapport.erasing', 'on', true);
        stepped := private.erase_some_rows(erasure);
        erasure := stepped.erasure;
        erased := stepped.counts;
        perform private.broadcast_logged(action.account_id);
        perform set_config('rapport.erasing', 'off', true);
        perform set_config('rapport.broadcast_later', 'off', true);
    elsif erasure.step = 'partners' then
        if not private.is_partner_awaited(
            jsonb_populate_record(null::private.person, erasure.person))
        then
            erasure.step := 'rows';
            erasure.place := (
                select min(t.place) - 1
                from private.personal_tables t
                where t.table_name in (
                    'public.sync_conflicts', 'public.sync_errors', 'private.partner_intents'
                )
            );
        end if;
    elsif erasure.step = 'files' then
        if not exists (
            select
            from private.erased_files f
            where f.action_id = action.id
        ) then
            erasure.step := 'statistics';
        end if;
    elsif erasure.step = 'statistics' then
        erasure := private.renew_some_statistics(erasure);
    else
        erasure := private.search_some_words(erasure);
        if erasure.step is null then
            return private.finish_erasure(action, erasure);
        end if;
    end if;

    update private.erasures e
    set person = erasure.person,
        step = erasure.step,
        place = erasure.place,
        cursor = erasure.cursor,
        found = erasure.found
    where e.action_id = action.id;
    if erased <> '{}' then
        update public.privacy_actions a
        set counts = a.counts || (
            select jsonb_object_agg(
                c.key, c.value::bigint + coalesce((a.counts -> c.key)::bigint, 0))
            from jsonb_each(erased) c
        )
        where a.id = action.id
        returning * into action;
    end if;
    return action;
end
$$;


create function private.finish_erasure(action public.privacy_actions, erasure private.erasures)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    finished public.privacy_actions;
begin
    insert into private.found_words (action_id, found)
    select action.id, jsonb_agg(f)
    from jsonb_array_elements(erasure.found) f
    where f ->> 'table' !~ '^(public|private)\.'
    having count(*) > 0;
    update public.privacy_actions a
    set state = 'done',
        finished_at = clock_timestamp(),
        remaining = (
            select coalesce(jsonb_agg(f), '[]')
            from jsonb_array_elements(erasure.found) f
            where f ->> 'table' ~ '^(public|private)\.'
        )
    where a.id = action.id
    returning *
    into finished;
    -- with it go the person's words
    delete from private.erasures e
    where e.action_id = action.id;
    return finished;
end
$$;


comment on function private.refuse_held(uuid) is
    'Refuses to delete anything of a contact under a legal hold (409).';
comment on function private.words_of(private.person) is
    'The words by which a person would be found in a row: names (of one word only where no other contact has it), numbers, addresses, and the longest 100 messages, as they stand in the row''s JSON, in small letters.';
comment on function private.forget_messages(private.person) is
    'Has updates of a person''s messages be left out from now on.';
comment on function private.begin_erasure(uuid, uuid) is
    'Begins to erase a contact, with those that were merged into it: nothing comes in or goes out for it any more. Of one that has begun, the same.';
comment on function private.leaves_of(text) is
    'The partitions of a table, or the table, with their sizes in blocks.';
comment on function private.next_blocks(text, jsonb) is
    'The next part of a table that is read block by block; no leaf at the end.';
comment on function private.erase_rows(private.personal_tables, private.person, uuid, jsonb) is
    'Erases a part of an entry''s rows. Without next_cursor the entry is done.';
comment on function private.is_partner_awaited(private.person) is
    'Whether a call to Metakocka may have made a partner of a person, and the sync will still find out.';
comment on function private.renewed_person(private.person) is
    'A person that is being erased, without logins that others have taken since, and with partners that were made since, which the sync leaves alone from now on.';
comment on function private.erase_some_rows(private.erasures) is
    'Erases rows for about a second.';
comment on function private.renew_some_statistics(private.erasures) is
    'Renews the planner''s samples of the tables that hold people''s data, for about a second.';
comment on function private.erase_some(uuid) is
    'Goes on with an erasure for about a second.';
comment on function private.finish_erasure(public.privacy_actions, private.erasures) is
    'Ends an erasure, and forgets what it had to find.';


/*
    Searches the whole database for an erased person's words: every row of every table, as JSON.
    Rows of other accounts are left out, since their business knows the person by itself.
*/
create function private.searched_text(table_name text, found_row jsonb, p private.person)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return lower(case
        when found_row ->> 'account_id' <> p.account_id::text
            or table_name = 'public.accounts' and found_row ->> 'id' <> p.account_id::text
            or (found_row ->> 'whatsapp_channel_id')::uuid <> all (p.channel_ids)
            or coalesce(
                found_row #>> '{payload,record,account_id}',
                found_row #>> '{payload,old_record,account_id}'
            ) <> p.account_id::text
            then null
        when table_name = 'private.webhook_events' then concat_ws(
            ' ', private.changes_of_account(found_row ->> 'body', p), found_row -> 'rejected')
        else found_row::text
    end);
end
$$;


create function private.kinds_in(searched text, words text[], kinds text[])
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select distinct w.kind
        from unnest(words, kinds) as w (word, kind)
        where position(w.word in searched) > 0
          -- Ana is not found in banana
          and (
              w.kind not in ('name', 'username')
              or searched ~ ('\m' || private.any_of(array[w.word]) || '\M')
          )
        order by w.kind
    );
end
$$;


create function private.search_some_words(inout erasure private.erasures)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    -- of the rows that are found
    most constant integer := 200;
    p constant private.person := jsonb_populate_record(null::private.person, erasure.person);
    relation record;
    blocks record;
    hits jsonb;
begin
    while clock_timestamp() < started + interval '1 second' loop
        select
            c.oid,
            c.oid::regclass::text as name,
            -- the name of a partition tells a person nothing
            coalesce(pg_partition_root(c.oid), c.oid)::regclass::text as shown_name,
            has_table_privilege(c.oid, 'select') as is_readable,
            (
                select i.indkey::int2[]
                from pg_catalog.pg_index i
                where i.indrelid = c.oid
                  and i.indisprimary
            ) as key
        into relation
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n
            on n.oid = c.relnamespace
        where c.relkind in ('r', 'm')
          and c.relpersistence <> 't'
          and n.nspname !~ '^pg_'
          -- the text of our migrations holds no person's words
          and n.nspname not in ('information_schema', 'supabase_migrations')
          and c.oid <> 'private.erasures'::regclass
          and case when erasure.cursor is null then c.oid > erasure.place else c.oid = erasure.place end
        order by c.oid
        limit 1;
        if not found and erasure.cursor is null then
            erasure.step := null;
            return;
        elsif not found then
            -- the table has been dropped meanwhile
            erasure.cursor := null;
            continue;
        end if;
        erasure.place := relation.oid;

        if not relation.is_readable then
            erasure.found := erasure.found || jsonb_build_array(jsonb_build_object(
                'table', relation.shown_name, 'id', null, 'kinds', '["not readable"]'::jsonb));
            erasure.cursor := null;
            continue;
        end if;
        blocks := private.next_blocks(
            table_name => relation.name, cursor => coalesce(erasure.cursor, '{}'));
        erasure.cursor := blocks.next_cursor;
        continue when blocks.leaf is null;
        execute format(
            $sql$
            select coalesce(jsonb_agg(jsonb_build_object('table', $1, 'id', f.id, 'kinds', f.kinds)), '[]')
            from (
                select
                    coalesce(
                        (
                            select string_agg(s.found_row ->> a.attname, ' ' order by k.place)
                            from unnest($2) with ordinality as k (number, place)
                            join pg_catalog.pg_attribute a
                                on a.attrelid = $3
                               and a.attnum = k.number
                        ),
                        s.place
                    ) as id,
                    k.kinds
                from (
                    select to_jsonb(r) as found_row, r.ctid::text as place
                    from only %s r
                    where r.ctid >= $4
                      and r.ctid < $5
                    offset 0
                ) s
                cross join lateral (
                    select private.kinds_in(
                        private.searched_text($1, s.found_row, $6), $7, $8) as kinds
                    offset 0
                ) k
                where k.kinds <> '{}'
                limit $9
            ) f
            $sql$,
            relation.name
        )
        into hits
        using
            relation.shown_name, relation.key, relation.oid, blocks.first_row, blocks.last_row,
            p, erasure.words, erasure.word_kinds,
            greatest(most - jsonb_array_length(erasure.found), 0);
        erasure.found := erasure.found || hits;
    end loop;
end
$$;


comment on function private.searched_text(text, jsonb, private.person) is
    'The text of a row that is searched for an erased person''s words; null for a row of another account.';
comment on function private.kinds_in(text, text[], text[]) is
    'The kinds of the words that a text has.';
comment on function private.search_some_words(private.erasures) is
    'Searches the database for about a second. Its end has no step.';


/*
    All that is known of a person, table by table and page by page, for an answer to that person.
*/
create function private.exported_tables()
    returns table (table_name text, entries private.personal_tables[])
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a table with two entries is one file
    return query
        select t.table_name, array_agg(t order by t.place)
        from private.personal_tables t
        where t.is_exported
          and t.condition is not null
          and to_regclass(t.table_name) is not null
        group by t.table_name
        order by min(t.place);
end
$$;


create function private.export_overview(contact_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
    p constant private.person := private.person_of(
        account_id => account, contact_id => export_overview.contact_id);
    exported record;
    counted bigint;
    tables jsonb := '[]';
begin
    for exported in select e.* from private.exported_tables() e loop
        counted := null;
        -- to count what is read block by block would take as long as to read it
        if not (exported.entries[1]).walks then
            execute format(
                'select count(*) from %s r cross join (select $1 as self, ($1).*) p where %s',
                exported.table_name,
                (
                    select string_agg(format('(%s)', e.condition), ' or ')
                    from unnest(exported.entries) e
                )
            )
            into counted
            using p;
        end if;
        tables := tables || jsonb_build_array(jsonb_build_object(
            'table', exported.table_name,
            'rows', counted,
            'about', obj_description(to_regclass(exported.table_name), 'pg_class')
        ));
    end loop;
    return jsonb_build_object(
        'account_id', p.account_id,
        'account_name', (select a.name from public.accounts a where a.id = p.account_id),
        'contact_ids', p.contact_ids,
        'tables', tables
    );
end
$$;


create function private.export_page(
    contact_id uuid,
    table_name text,
    after jsonb,
    page_size integer
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
    p constant private.person := private.person_of(
        account_id => account, contact_id => export_page.contact_id);
    size constant integer := least(greatest(page_size, 1), 1000);
    started constant timestamptz := clock_timestamp();
    entries private.personal_tables[];
    entry private.personal_tables;
    place text;
    blocks record;
    page jsonb := '[]';
    part jsonb;
    cursor jsonb := after;
begin
    select e.entries
    into entries
    from private.exported_tables() e
    where e.table_name = export_page.table_name;
    if not found then
        raise sqlstate 'PT422' using
            message = 'There is no such table in an export.',
            detail = 'field: table_name',
            hint = 'Give one that the overview of the export lists.';
    end if;
    entry := entries[1];

    if entry.walks then
        while clock_timestamp() < started + interval '1 second'
            and jsonb_array_length(page) < size
        loop
            blocks := private.next_blocks(
                table_name => export_page.table_name, cursor => coalesce(cursor, '{}'));
            cursor := blocks.next_cursor;
            exit when blocks.leaf is null;
            execute format(
                'select coalesce(jsonb_agg(%s), ''[]'')'
                ' from %s r cross join (select $1 as self, ($1).*) p'
                ' where (%s) and r.tableoid = $2 and r.ctid >= $3 and r.ctid < $4',
                coalesce(entry.shown, 'to_jsonb(r)'), entry.table_name, entry.condition
            )
            into part
            using p, blocks.leaf, blocks.first_row, blocks.last_row;
            page := page || part;
        end loop;
        return jsonb_build_object('rows', page, 'after', cursor);
    end if;

    -- keys as JSON: numbers sort as numbers
    place := (
        select string_agg(format('r.%I', c.name), ', ' order by c.place)
        from (
            select s.name, s.place
            from unnest(entry.sorted_by) with ordinality as s (name, place)
            union all
            select a.attname, k.place
            from pg_catalog.pg_index i
            cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, place)
            join pg_catalog.pg_attribute a
                on a.attrelid = i.indrelid
               and a.attnum = k.number
            where i.indrelid = to_regclass(export_page.table_name)
              and i.indisprimary
              and entry.sorted_by is null
        ) c
    );
    execute format(
        'select coalesce(jsonb_agg(s.shown order by s.place), ''[]''),'
        ' jsonb_agg(s.place order by s.place desc) -> 0'
        ' from ('
        '     select to_jsonb(r) - $2 as shown, jsonb_build_array(%1$s) as place'
        '     from %2$s r cross join (select $1 as self, ($1).*) p'
        '     where (%3$s) and ($3 is null or jsonb_build_array(%1$s) > $3)'
        '     order by jsonb_build_array(%1$s)'
        '     limit $4'
        ' ) s',
        place,
        entry.table_name,
        (select string_agg(format('(%s)', e.condition), ' or ') from unnest(entries) e)
    )
    into page, cursor
    using p, entry.hidden, after, size;
    return jsonb_build_object(
        'rows', page,
        'after', case when jsonb_array_length(page) = size then cursor end
    );
end
$$;


comment on function private.exported_tables() is
    'The tables of an export, with their entries.';
comment on function private.export_overview(uuid) is
    'What is known of a person: {account_id, account_name, contact_ids, tables: [{table, rows, about}]}. rows is null where they are not counted.';
comment on function private.export_page(uuid, text, jsonb, integer) is
    'A page of a person''s rows in a table, and where the next one begins: {rows, after}.';


/*
    What owners, and the people who run the service, ask about a person's data.
*/
create function private.erase_own_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not delete; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_owned_contact(contact_id);
begin
    return to_jsonb(private.begin_erasure(
        account_id => account, contact_id => erase_own_contact.contact_id));
end
$$;

grant execute on function private.erase_own_contact(uuid) to authenticated;


create function public.erase_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.erase_own_contact(contact_id);
end
$$;

grant execute on function public.erase_contact(uuid) to authenticated;


create function private.export_own_contact(contact_id uuid, table_name text, after jsonb)
    returns jsonb
    language plpgsql
    -- definer: users may not read all of these tables; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_owned_contact(contact_id);
begin
    if table_name is not null then
        return private.export_page(
            export_own_contact.contact_id,
            table_name => export_own_contact.table_name,
            after => export_own_contact.after,
            page_size => 500
        );
    end if;
    perform private.log_privacy_action(
        account_id => account,
        contact_id => private.kept_contact_of(
            account_id => account, contact_id => export_own_contact.contact_id),
        action => 'export'
    );
    return private.export_overview(export_own_contact.contact_id);
end
$$;

grant execute on function private.export_own_contact(uuid, text, jsonb) to authenticated;


create function public.export_contact(
    contact_id uuid,
    table_name text default null,
    after jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.export_own_contact(
        contact_id => export_contact.contact_id,
        table_name => export_contact.table_name,
        after => export_contact.after
    );
end
$$;

grant execute on function public.export_contact(uuid, text, jsonb) to authenticated;


create function private.place_hold(account_id uuid, contact_id uuid, reason text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => place_hold.account_id, contact_id => place_hold.contact_id);
begin
    if length(btrim(coalesce(reason, ''))) not between 1 and 500 then
        raise sqlstate 'PT422' using
            message = 'A legal hold needs a reason of 1 to 500 characters.',
            detail = 'field: reason',
            hint = 'Say which claim or authority asks for it, such as a file number.';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    if exists (
        select
        from public.privacy_actions a
        where a.contact_id = kept
          and a.action = 'erase'
          and a.state = 'running'
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact is being erased, so it can''t be held any more.',
            detail = format('field: contact_id; contact: %s', kept),
            hint = 'privacy_actions shows how far that is. What a court may ask for has to come from a backup.';
    end if;
    insert into private.legal_holds (account_id, contact_id, reason)
    values (place_hold.account_id, kept, btrim(place_hold.reason))
    on conflict do nothing;
    if found then
        perform private.log_privacy_action(
            account_id => place_hold.account_id, contact_id => kept, action => 'hold');
    end if;
end
$$;


create function private.end_hold(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => end_hold.account_id, contact_id => end_hold.contact_id);
begin
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    update private.legal_holds h
    set ended_at = clock_timestamp()
    from private.contact_lineage(kept) l
    where h.contact_id = l
      and h.account_id = end_hold.account_id
      and h.ended_at is null;
    if found then
        perform private.log_privacy_action(
            account_id => end_hold.account_id, contact_id => kept, action => 'release');
    end if;
end
$$;


create function private.hold_own_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    -- definer: users may not write holds; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.place_hold(
        account_id => private.require_owned_contact(hold_own_contact.contact_id),
        contact_id => hold_own_contact.contact_id,
        reason => hold_own_contact.reason
    );
end
$$;

grant execute on function private.hold_own_contact(uuid, text) to authenticated;


create function public.hold_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.hold_own_contact(
        contact_id => hold_contact.contact_id, reason => hold_contact.reason);
end
$$;

grant execute on function public.hold_contact(uuid, text) to authenticated;


create function private.release_own_contact(contact_id uuid)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.end_hold(
        account_id => private.require_owned_contact(release_own_contact.contact_id),
        contact_id => release_own_contact.contact_id
    );
end
$$;

grant execute on function private.release_own_contact(uuid) to authenticated;


create function public.release_contact(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.release_own_contact(contact_id);
end
$$;

grant execute on function public.release_contact(uuid) to authenticated;


-- For the command line and the worker

create function backend.export_overview(contact_id uuid, is_logged boolean default true)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
begin
    if is_logged then
        perform private.log_privacy_action(
            account_id => account,
            contact_id => private.kept_contact_of(
                account_id => account, contact_id => export_overview.contact_id),
            action => 'export'
        );
    end if;
    return private.export_overview(contact_id)
        || jsonb_build_object('is_held', private.is_held(contact_id));
end
$$;

grant execute on function backend.export_overview(uuid, boolean) to service_role;


create function backend.export_page(
    contact_id uuid,
    table_name text,
    after jsonb default null,
    page_size integer default 500
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.export_page(
        contact_id => export_page.contact_id,
        table_name => export_page.table_name,
        after => export_page.after,
        page_size => export_page.page_size
    );
end
$$;

grant execute on function backend.export_page(uuid, text, jsonb, integer) to service_role;


create function private.erasure_told(action public.privacy_actions)
    returns jsonb
    language plpgsql
    -- volatile: it sees what the step has just done
    set search_path = ''
as $$
begin
    return to_jsonb(action) || jsonb_build_object(
        'step', (select e.step from private.erasures e where e.action_id = action.id),
        'files', (
            select coalesce(jsonb_agg(l.object_key), '[]')
            from (
                select f.object_key
                from private.erased_files f
                where f.action_id = action.id
                order by f.object_key
                limit 100
            ) l
        ),
        'elsewhere', coalesce(
            (select w.found from private.found_words w where w.action_id = action.id), '[]')
    );
end
$$;


create function backend.erase_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.erasure_told(private.begin_erasure(
        account_id => private.account_of_contact(erase_contact.contact_id),
        contact_id => erase_contact.contact_id
    ));
end
$$;

grant execute on function backend.erase_contact(uuid) to service_role;


create function backend.erase_some(action_id uuid)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.erasure_told(private.erase_some(erase_some.action_id));
end
$$;

grant execute on function backend.erase_some(uuid) to service_role;


create function backend.note_erased_files(action_id uuid, object_keys text[])
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    removed integer;
begin
    perform
    from public.privacy_actions a
    where a.id = note_erased_files.action_id
    for no key update;
    delete from private.erased_files f
    where f.action_id = note_erased_files.action_id
      and f.object_key = any (object_keys);
    get diagnostics removed = row_count;
    update public.privacy_actions a
    set counts = a.counts
        || jsonb_build_object('files', coalesce((a.counts -> 'files')::bigint, 0) + removed)
    where a.id = note_erased_files.action_id
      and removed > 0;
end
$$;

grant execute on function backend.note_erased_files(uuid, text[]) to service_role;


create function backend.running_erasures()
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(a.id order by a.created_at, a.id), '[]')
        from public.privacy_actions a
        where a.state = 'running'
          -- one that waits for the end of a hold
          and not private.is_held(a.contact_id)
    );
end
$$;

grant execute on function backend.running_erasures() to service_role;


create function backend.privacy_actions(account text, since timestamptz default null)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
begin
    return (
        select coalesce(jsonb_agg(private.erasure_told(l) order by l.created_at, l.id), '[]')
        from (
            select a.*
            from public.privacy_actions a
            where a.account_id = named
              and (since is null or a.created_at >= since)
            order by a.created_at desc, a.id
            limit 1000
        ) l
    );
end
$$;

grant execute on function backend.privacy_actions(text, timestamptz) to service_role;


create function backend.hold_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.place_hold(
        account_id => private.account_of_contact(hold_contact.contact_id),
        contact_id => hold_contact.contact_id,
        reason => hold_contact.reason
    );
end
$$;

grant execute on function backend.hold_contact(uuid, text) to service_role;


create function backend.release_contact(contact_id uuid)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.end_hold(
        account_id => private.account_of_contact(release_contact.contact_id),
        contact_id => release_contact.contact_id
    );
end
$$;

grant execute on function backend.release_contact(uuid) to service_role;


comment on function private.erase_own_contact(uuid) is
    'Begins to erase a contact of an account that the caller owns.';
comment on function public.erase_contact(uuid) is
    'Erases all that is known of a contact, for its owner: at once the contact goes, its login is unlinked and nothing more is sent to it; its conversations, files and the rest follow within the hour, as privacy_actions shows. Invoices that were sent stay, with their figures alone. It can''t be taken back. Under a legal hold: 409.'
    ' Type: privacy_actions';
comment on function private.export_own_contact(uuid, text, jsonb) is
    'The overview or a page of an export, of an account that the caller owns.';
comment on function public.export_contact(uuid, text, jsonb) is
    'All that is known of a contact, for its owner. Without table_name the list of tables, and the export is recorded in privacy_actions; with one of these a page of its rows, and with the last page''s after the next page, until that is null.'
    ' Type: {account_id?: uuid, account_name?: text, contact_ids?: uuid[], tables?: {table: text, rows: bigint | null, about: text | null}[], rows?: json[], after?: json | null}';
comment on function private.place_hold(uuid, uuid, text) is
    'Places a contact under a legal hold, and records it. One that is held stays held.';
comment on function private.end_hold(uuid, uuid) is
    'Ends the legal hold of a contact, and of those that were merged into it, and records it.';
comment on function private.hold_own_contact(uuid, text) is
    'Holds a contact of an account that the caller owns.';
comment on function public.hold_contact(uuid, text) is
    'Places a contact under a legal hold, for its owner: until release_contact it is neither deleted nor erased. Another call changes nothing.';
comment on function private.release_own_contact(uuid) is
    'Ends the hold of a contact of an account that the caller owns.';
comment on function public.release_contact(uuid) is
    'Ends the legal hold of a contact, for its owner. A contact without one stays as it is.';
comment on function backend.export_overview(uuid, boolean) is
    'What is known of a contact: {account_id, account_name, contact_ids, tables: [{table, rows, about}]}. is_logged records an export.';
comment on function backend.export_page(uuid, text, jsonb, integer) is
    'A page of a contact''s rows in a table: {rows, after}.';
comment on function private.erasure_told(public.privacy_actions) is
    'An action as the command line sees it: with the step of an erasure, up to 100 files that are to be removed, and what was found outside the account''s own tables.';
comment on function backend.erase_contact(uuid) is
    'Begins to erase a contact, or finds the erasure that has begun: the row of privacy_actions with step, files and elsewhere.';
comment on function backend.erase_some(uuid) is
    'Goes on with an erasure for about a second; the same answer. In the step files the worker has to remove these, and to say so. In the step partners it waits for the sync. Call it again until its state is done.';
comment on function backend.note_erased_files(uuid, text[]) is
    'Notes files of an erasure that are no longer in the bucket.';
comment on function backend.running_erasures() is
    'The erasures that are not finished: their ids, the oldest first.';
comment on function backend.privacy_actions(text, timestamptz) is
    'The latest 1,000 actions of an account, which its external id or id names, oldest first.';
comment on function backend.hold_contact(uuid, text) is
    'Places a contact under a legal hold, with the reason.';
comment on function backend.release_contact(uuid) is
    'Ends the legal hold of a contact.';


/*
    Replies that a team writes often. Their variables are filled for the customer of a conversation;
    see private.fill_text.
*/
create table public.saved_replies (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint saved_replies_account_id_fkey
               references public.accounts on delete cascade,
    short_code text not null
               constraint saved_replies_short_code_check check (short_code ~ '^[a-z0-9_-]{1,32}$'),
    title      text
               constraint saved_replies_title_check check (length(title) <= 200),
    text       text not null
               constraint saved_replies_text_check
               check (btrim(text, E' \t\r\n') <> '' and length(text) <= 4096),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint saved_replies_short_code_key unique (account_id, short_code)
);
alter table public.saved_replies enable row level security;


grant select, delete on public.saved_replies to authenticated;


create function private.tg_saved_replies__check_text()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    perform private.check_text_variables(new.text);
    return new;
end
$$;

create trigger _005_default_account
    before insert on public.saved_replies
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _050_keep_owner
    before update of account_id on public.saved_replies
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _080_check_text
    before insert or update of text on public.saved_replies
    for each row
    execute function private.tg_saved_replies__check_text();

create trigger _100_stamp_change
    before update on public.saved_replies
    for each row
    execute function private.tg__stamp_change();


create function public.saved_replies_beginning(
    account_id uuid,
    beginning text default '',
    page_size integer default 20
)
    returns setof public.saved_replies
    language plpgsql
    stable
    -- invoker: the caller finds only replies that it may read
    set search_path = ''
as $$
declare
    -- people write the code as they see it: /Hours
    wanted constant text := lower(ltrim(btrim(coalesce(beginning, '')), '/'));
begin
    return query
        select r.*
        from public.saved_replies r
        where r.account_id = saved_replies_beginning.account_id
          and (starts_with(r.short_code, wanted) or starts_with(lower(r.title), wanted))
        order by starts_with(r.short_code, wanted) desc, r.short_code
        limit least(greatest(page_size, 1), 100);
end
$$;

grant execute on function public.saved_replies_beginning(uuid, text, integer) to authenticated;


create function private.fill_saved_reply(reply_id uuid, conversation_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: users may not call its helpers; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    reply public.saved_replies;
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = fill_saved_reply.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', fill_saved_reply.conversation_id);
    end if;
    perform private.require_writable(thread.account_id);
    select r.*
    into reply
    from public.saved_replies r
    where r.id = fill_saved_reply.reply_id
      and r.account_id = thread.account_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'The account has no such saved reply.',
            detail = format('field: reply_id; reply: %s', fill_saved_reply.reply_id);
    end if;
    return private.fill_text(
        text => reply.text,
        account_id => thread.account_id,
        customer_id => thread.customer_id,
        user_id => auth.uid(),
        job_id => thread.booking_id
    );
end
$$;

grant execute on function private.fill_saved_reply(uuid, uuid) to authenticated;


create function public.fill_saved_reply(reply_id uuid, conversation_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.fill_saved_reply(reply_id => reply_id, conversation_id => conversation_id);
end
$$;

grant execute on function public.fill_saved_reply(uuid, uuid) to authenticated;


comment on table public.saved_replies is
    'Replies that a team writes often. Insert, update and delete them as in any table; fill_saved_reply fills one for a conversation.';
comment on column public.saved_replies.id is
    'Identifies the reply. A client may choose it.';
comment on column public.saved_replies.account_id is
    'The account whose reply it is; filled in if you write for one account.';
comment on column public.saved_replies.short_code is
    'The code that people type to find it: 1 to 32 small letters, digits, hyphens and underscores, unique in the account.';
comment on column public.saved_replies.title is
    'The title that people read in the list; at most 200 characters.';
comment on column public.saved_replies.text is
    'The reply, 1 to 4,096 characters, with variables: {{contact.name}}, {{appointment.time}}, {{appointment.service}}, {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}}, {{points.total}}, {{agent.name}}, {{account.name}}.';
comment on column public.saved_replies.created_at is
    'When the reply was made (server time, UTC).';
comment on column public.saved_replies.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.saved_replies.version is
    'Rises by 1 with each change of the row.';
comment on constraint saved_replies_short_code_check on public.saved_replies is
    'A short code has 1 to 32 small letters, digits, hyphens and underscores.
Give a code such as opening-hours, without a slash.';
comment on constraint saved_replies_title_check on public.saved_replies is
    'A title can have at most 200 characters.';
comment on constraint saved_replies_text_check on public.saved_replies is
    'A saved reply has 1 to 4,096 characters.';
comment on constraint saved_replies_short_code_key on public.saved_replies is
    'The account has a saved reply with this short code.
Change that reply, or give another code.';
comment on function private.tg_saved_replies__check_text() is
    'Refuses a saved reply with an unknown variable.';
comment on function public.saved_replies_beginning(uuid, text, integer) is
    'The saved replies whose short code or title begins like this, those by code first; at most 100, 20 if not said. A slash before the code is passed over.';
comment on function private.fill_saved_reply(uuid, uuid) is
    'A saved reply, filled for a conversation that the caller may write.';
comment on function public.fill_saved_reply(uuid, uuid) is
    'The text of a saved reply with its variables filled for a conversation''s customer, to be shown before it is sent. In a booking''s chat the appointment is the booking''s. A variable without a value is refused (422) with its name. Unknown reply or conversation: 404.';

select private.follow_table(
    table_name => 'saved_replies',
    shown => array[
        'id', 'account_id', 'short_code', 'title', 'text', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);
select private.limit_writes('saved_replies', '{insert,update,delete}');
