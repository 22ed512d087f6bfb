/*
    The parts of the checks of a message's content. Each refuses a wrong field, and names its path
    below content.
*/
create function private.refuse_content(field text, message text, hint text default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = message,
        detail = concat_ws('.', 'field: content', field),
        hint = coalesce(hint, 'Write it as WhatsApp takes it under the name of the type.');
end
$$;


create function private.is_blank(words text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- everything that Unicode calls white space: a customer would see nothing
    return words !~ '[^\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]';
end
$$;


create function private.check_words(field text, value jsonb, most integer, needed boolean default false)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    words constant text := value #>> '{}';
begin
    if words is null and not needed then
        return;
    elsif words is null or jsonb_typeof(value) <> 'string' or private.is_blank(words) then
        perform private.refuse_content(field, format('%s is missing, empty or not a text.', field));
    elsif length(words) > most then
        perform private.refuse_content(
            field,
            format('%s has %s characters.', field, length(words)),
            format('At most %s characters are allowed.', most));
    end if;
end
$$;


create function private.check_object(field text, value jsonb, known text[] default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    unknown text;
begin
    if coalesce(jsonb_typeof(value), 'null') <> 'object' then
        perform private.refuse_content(field, format('%s is not an object.', coalesce(field, 'content')));
    end if;
    select k.key
    into unknown
    from jsonb_object_keys(value) as k (key)
    where k.key <> all (known)
    order by k.key
    limit 1;
    if found then
        perform private.refuse_content(
            concat_ws('.', field, left(unknown, 64)),
            format('%s does not belong here.', quote_literal(left(unknown, 64))),
            format('Known: %s.', array_to_string(known, ', '))
        );
    end if;
end
$$;


create function private.check_link(field text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.check_words(field, value, most => 2048);
    -- as in written addresses: other characters are escaped
    if (value #>> '{}') !~ '^https?://[!-~]+$' then
        perform private.refuse_content(field, format('%s is no address.', field), 'https://…');
    end if;
end
$$;


create function private.check_elements(field text, value jsonb, most integer)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    element record;
begin
    if jsonb_typeof(value) is distinct from 'array' or jsonb_array_length(value) not between 1 and most then
        perform private.refuse_content(
            field, format('%s is missing, empty or too long.', field), format('Give 1 to %s entries.', most));
    end if;
    for element in
        select e.value, e.ordinal - 1 as index
        from jsonb_array_elements(value) with ordinality as e (value, ordinal)
    loop
        perform private.check_object(format('%s.%s', field, element.index), element.value);
    end loop;
end
$$;


create function private.check_distinct(field text, ids text[])
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if cardinality(ids) > (select count(distinct i.id) from unnest(ids) as i (id)) then
        perform private.refuse_content(field, format('Two of %s have the same id.', field));
    end if;
end
$$;


comment on function private.refuse_content(text, text, text) is
    'Refuses a content that can''t be sent, and names the field below content.';
comment on function private.is_blank(text) is
    'Whether a text shows nothing.';
comment on function private.check_words(text, jsonb, integer, boolean) is
    'Refuses a value that is no text, or is too long. Null passes unless the value is needed.';
comment on function private.check_object(text, jsonb, text[]) is
    'Refuses a value that is no object, or has other fields than the known ones. Without known ones any field passes.';
comment on function private.check_link(text, jsonb) is
    'Refuses a value that is no web address.';
comment on function private.check_elements(text, jsonb, integer) is
    'Refuses a value that is no list of objects, is empty or is too long.';
comment on function private.check_distinct(text, text[]) is
    'Refuses a list with two equal ids.';
