/*
    The fields of a contact that may be written, and their form.
*/
create function private.clean_contact_fields(fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field private.contact_fields;
    given jsonb;
begin
    for field in
        select f.*
        from private.contact_fields f
        where fields ? f.field
        order by f.place
    loop
        given := private.clean_field(field, fields -> field.field);
        cleaned := jsonb_set(cleaned, array[field.field], given);
    end loop;

    -- the same rules as the table's checks, which name no field and no remedy
    if cleaned ->> 'phone' !~ '^\+[1-9][0-9]{1,14}$' then
        raise sqlstate 'PT422' using
            message = 'This is not a phone number with a plus sign and a country code.',
            detail = 'field: phone',
            hint = 'Write the plus sign, the country code and digits only, such as +38640111222.';
    elsif cleaned ->> 'email' ~ '@.*@' then
        raise sqlstate 'PT422' using
            message = 'These are several email addresses.',
            detail = 'field: email',
            hint = 'Write one address, such as ana@example.com.';
    elsif length(cleaned ->> 'email') > 320
        or cleaned ->> 'email' !~ '^[^@\s,;:<>()"]+@[^@\s,;:<>()"]+$'
    then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Write one address, such as ana@example.com.';
    elsif length(cleaned ->> 'username') > 100 or cleaned ->> 'username' !~ '^[^\s@]+$' then
        raise sqlstate 'PT422' using
            message = 'This is not a username.',
            detail = 'field: username',
            hint = 'Write 1 to 100 characters without @ and spaces.';
    end if;

    if cleaned ? 'tags' then
        if jsonb_typeof(cleaned -> 'tags') not in ('array', 'null')
            or nullif(cleaned -> 'tags', 'null') @? '$[*] ? (@.type() != "string")'
        then
            raise sqlstate 'PT422' using
                message = 'Tags are a list of texts.',
                detail = 'field: tags',
                hint = 'Send a list such as ["VIP", "carpets"], or [] for none.';
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
                hint = 'Send at most 100 tags, of at most 100 characters each.';
        end if;
    end if;

    if fields ? 'preferences' and (
        jsonb_typeof(fields -> 'preferences') <> 'object'
        or octet_length((fields -> 'preferences')::text) > 8192
    ) then
        raise sqlstate 'PT422' using
            message = 'Preferences are an object of at most 8 KB.',
            detail = 'field: preferences',
            hint = 'Send all preferences in one object, or {} for none.';
    elsif fields -> 'preferences' @? 'strict $.**{17 to last}'
        or fields -> 'preferences'
            @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))'
    then
        raise sqlstate 'PT422' using
            message = 'Preferences are nested too deeply, or have a number that is too large.',
            detail = 'field: preferences',
            hint = 'Send at most 16 levels, and numbers from -1e15 to 1e15.';
    end if;
    return cleaned;
end
$$;


create function private.clean_field(field private.contact_fields, given jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    kind constant text := jsonb_typeof(given);
    cleaned jsonb := given;
begin
    if field.kind = 'text' then
        if kind not in ('string', 'null') then
            raise sqlstate 'PT422' using
                message = format('The %s is a text.', field.field),
                detail = 'field: ' || field.field,
                hint = 'Send a text, or null for none.';
        end if;
        cleaned := coalesce(to_jsonb(nullif(btrim(given #>> '{}', E' \t\r\n'), '')), 'null');
        if length(cleaned #>> '{}') > field.longest then
            raise sqlstate 'PT422' using
                message = format('The %s is too long.', field.field),
                detail = 'field: ' || field.field,
                hint = format('At most %s characters.', to_char(field.longest, 'FM999,999'));
        end if;
    elsif field.kind = 'flag' and kind not in ('boolean', 'null') then
        raise sqlstate 'PT422' using
            message = format('%s is true or false.', field.field),
            detail = 'field: ' || field.field,
            hint = 'Send true, false, or null for unknown.';
    elsif field.kind = 'list' then
        cleaned := coalesce(nullif(given, 'null'), '[]');
        if jsonb_typeof(cleaned) <> 'array'
            or cleaned @? 'strict $[*] ? (@.type() != "object")'
            or octet_length(cleaned::text) > field.longest
        then
            raise sqlstate 'PT422' using
                message = format('%s are a list of objects.', field.field),
                detail = 'field: ' || field.field,
                hint = format('At most %s kB.', field.longest / 1024);
        elsif cleaned @? 'strict $.** ? (@.type() == "number") ? (@ >= 1e300 || @ <= -1e300)' then
            -- jsonb keeps all their digits, and readers give up on thousands of them
            raise sqlstate 'PT422' using
                message = format('A number in %s is too large.', field.field),
                detail = 'field: ' || field.field,
                hint = 'Write it as a text.';
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
        select distinct k.kind
        from (
            values ('email', 'email'), ('phone', 'phone'), ('gsm', 'phone'), ('username', 'username')
        ) as k (field, kind)
        where fields ? k.field
        order by k.kind
    )
$$;


comment on function private.clean_contact_fields(jsonb) is
    'The fields of a contact without spaces around their values, or a refusal that names the field.';
comment on function private.clean_field(private.contact_fields, jsonb) is
    'A field''s value without stray spaces, or a refusal that names the field.';
comment on function private.touched_identity_kinds(jsonb) is
    'The kinds of identity that a change of these fields affects.';
