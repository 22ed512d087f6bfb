/*
    What is looked for, as patterns of words.
*/
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
    return array(
        select case
            -- too short for a trigram of its own: the beginning of a word, which has one
            when length(p.word) < 3 then '% '
            else '%'
        end || regexp_replace(p.word, '([\\%_])', '\\\1', 'g') || '%'
        from unnest(words) w
        cross join lateral (
            select case
                when w ~ phone_like
                    then regexp_replace(replace(w, '(0)', ''), '[^0-9]', '', 'g')
            end as digits
        ) d
        cross join lateral (
            -- neither 00 nor the national 0 is part of what is stored
            select case
                when length(ltrim(d.digits, '0')) >= 3 then regexp_replace(d.digits, '^00?', '')
                else w
            end as word
        ) p
        where w <> ''
        -- the index is asked for the longest, which is the rarest as a rule
        order by length(p.word) desc, p.word
    );
end
$$;

grant execute on function private.search_patterns(text) to authenticated;


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


comment on function private.search_patterns(text) is
    'A query''s words as patterns, the longest first; what looks like a phone number is one word of digits.';
comment on function private.asked_beginning(text[]) is
    'The one beginning of a word that is asked for; null where patterns ask for more.';
