/*
    What the checks of a message's content are made of: each refuses, and names the field
    beneath content that is wrong.
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
        hint = coalesce(hint, 'As WhatsApp takes it under the name of the type.');
end
$$;


create function private.is_blank(words text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- all that Unicode calls white space: a customer would see nothing
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
            field, format('%s is too long.', field), format('At most %s characters.', most));
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
    -- as addresses are written: other characters are escaped in them
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
            field, format('%s is missing, empty or too long.', field), format('From 1 to %s.', most));
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
    'Refuses what can not be sent, naming the field beneath content.';
comment on function private.is_blank(text) is
    'Whether there is nothing to see in a text.';
comment on function private.check_words(text, jsonb, integer, boolean) is
    'Refuses what is no text, or a longer one; null passes unless it is needed.';
comment on function private.check_object(text, jsonb, text[]) is
    'Refuses what is no object, or has fields beside the known ones; without these any pass.';
comment on function private.check_link(text, jsonb) is
    'Refuses what is no address.';
comment on function private.check_elements(text, jsonb, integer) is
    'Refuses what is no list of objects, is empty or is longer.';
comment on function private.check_distinct(text, text[]) is
    'Refuses ids of which two are the same.';
