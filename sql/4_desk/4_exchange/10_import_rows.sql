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
