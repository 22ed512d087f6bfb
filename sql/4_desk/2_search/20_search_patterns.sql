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
