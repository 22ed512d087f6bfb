/*
    Media types in the spellings of others: large or small letters, blanks around semicolons, values
    with or without quotation marks. One spelling is kept, so all comparisons give the same result.
    (Source: RFC 9110, section 8.3.1.)
*/
create function private.mime_type_of(words text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    token constant text := '[!#$%&''*+.^_`|~0-9A-Za-z-]+';
    quoted constant text := '"(?:[^"\\\u0001-\u0008\u000a-\u001f\u007f]|\\[^\u0001-\u0008\u000a-\u001f\u007f])*"';
    parameter constant text := format(';[ \t]*(?:(%s)=(%s|%s))?[ \t]*', token, token, quoted);
    parts constant text[] := regexp_match(
        words, format('^[ \t]*(%s/%s)[ \t]*((?:%s)*)$', token, token, parameter));
    written text := lower(parts[1]);
    found text[];
    value text;
begin
    if parts is null then
        return null;
    end if;
    for found in
        select p.part
        from regexp_matches(parts[2], parameter, 'g') as p (part)
        where p.part[1] is not null
    loop
        value := found[2];
        -- quotation marks mean nothing around a value that does not need them
        if value ~ format('^"%s"$', token) then
            value := btrim(value, '"');
        end if;
        written := format('%s; %s=%s', written, lower(found[1]), value);
    end loop;
    return written;
end
$$;


create function private.bare_mime_type(mime_type text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return split_part(mime_type, ';', 1);
end
$$;


comment on function private.mime_type_of(text) is
    'A media type in its one spelling, such as audio/ogg; codecs=opus. Null for a text that is none.';
comment on function private.bare_mime_type(text) is
    'A media type from mime_type_of without its parameters.';
