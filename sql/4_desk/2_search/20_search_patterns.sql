/*
    What is looked for, as patterns of words.
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
            -- too short for a trigram of its own: the beginning of a word, which has one
            when length(w) < 3 then '% '
            else '%'
        end || regexp_replace(w, '([\\%_])', '\\\1', 'g') || '%'
        from unnest(words) w
        where w <> ''
        -- the index is asked for the longest, which is the rarest as a rule
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
    -- digits as people write them in a phone number, (0) being the national zero
    phone_like constant text := '^\+?[0-9 ()./-]*$';
    words text[];
begin
    words := case
        when folded ~ phone_like and folded ~ '[1-9]([^0-9]*[0-9]){2}' then array[folded]
        else string_to_array(btrim(regexp_replace(folded, '\s+', ' ', 'g')), ' ')
    end;
    return private.word_patterns(array(
        select case
            -- neither 00 nor the national 0 is part of what is stored
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
    -- 24/7 and 2026-11 may be part of a number, and a tag as well; digits with spaces are a number
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
    'Words as patterns of what has them, the longest first.';
comment on function private.search_patterns(text) is
    'A query''s words as patterns, the longest first; what looks like a phone number is one word of digits.';
comment on function private.literal_patterns(text) is
    'A query''s words as they are written, where one that looks like a phone number may be something else; null where none does.';
comment on function private.asked_beginning(text[]) is
    'The one beginning of a word that is asked for; null where patterns ask for more.';
