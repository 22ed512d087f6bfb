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
