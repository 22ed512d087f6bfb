/*
    Search, in two halves. Text operators are not leakproof, so that under row level security
    no trigram index is ever used: a definer function checks the caller first and finds ids,
    and an invoker function reads those rows as the caller.
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
    -- definer: what is searched is not readable; the caller is checked first
    security definer
    rows 50
    set search_path = ''
    -- a plan for this account and this word: both differ a hundredfold
    set plan_cache_mode = force_custom_plan
as $$
declare
    pattern constant text := patterns[1];
    others constant text[] := patterns[2:];
    -- beginnings of words are in the list's own index, where a step is a sixth of one that
    -- reads the row
    of_beginnings constant boolean := pattern like '\% %';
    -- a frequent word is met often enough on a walk along the list, while sorting all that
    -- have it would take longer; a rare one is not, and its index finds it sooner
    walk integer := case when of_beginnings then 12000 else 1000 end;
    met integer := 0;
    met_here integer;
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;

    loop
        if of_beginnings then
            return query
            select s.contact_id, s.sort_name
            from (
                select w.contact_id, w.sort_name, w.beginnings
                from private.contact_search w
                where w.account_id = search_page.account_id
                  and (w.sort_name, w.contact_id) > (after_name, after_id)
                order by w.sort_name, w.contact_id
                limit walk
            ) s
            where (s.beginnings like pattern and s.beginnings like all (others))
               or (
                   s.beginnings is null
                   and exists (
                       select
                       from private.contact_search w
                       where w.contact_id = s.contact_id
                         and w.words like pattern
                         and w.words like all (others)
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
                where w.account_id = search_page.account_id
                  and (w.sort_name, w.contact_id) > (after_name, after_id)
                order by w.sort_name, w.contact_id
                limit case when pattern is null then page_size else walk end
            ) s
            where pattern is null
               or (s.words like pattern and s.words like all (others))
            order by s.sort_name, s.contact_id
            limit page_size - met;
        end if;
        get diagnostics met_here = row_count;
        met := met + met_here;
        if met = page_size or pattern is null then
            return;
        end if;

        select w.sort_name, w.contact_id
        into after_name, after_id
        from private.contact_search w
        where w.account_id = search_page.account_id
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        offset walk - 1
        limit 1;
        if not found then
            return;
        end if;

        -- on once more, and further, where that promises to fill the page
        exit when walk > 1000 or met * 4 < page_size;
        walk := 3000;
    end loop;

    return query
    select m.contact_id, m.sort_name
    from (
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_page.account_id
          and w.words like pattern
          and w.words like all (others)
        -- found by the word alone, or the planner might walk again
        offset 0
    ) m
    where (m.sort_name, m.contact_id) > (after_name, after_id)
    order by m.sort_name, m.contact_id
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
    -- before the first: no name is less than none
    given jsonb := '{"name": "", "id": "00000000-0000-0000-0000-000000000000"}';
    ids uuid[];
    names text[];
    next_cursor text;
    contacts jsonb;
begin
    if length(query) > 200 then
        raise sqlstate 'PT422' using
            message = 'The query is too long.',
            detail = 'field: query',
            hint = 'At most 200 characters.';
    elsif page_size is null or page_size not between 1 and 200 then
        raise sqlstate 'PT422' using
            message = 'This is no size of a page.',
            detail = 'field: page_size',
            hint = 'From 1 to 200.';
    elsif search_contacts.cursor is not null then
        given := private.read_search_cursor(search_contacts.cursor);
        if given is null then
            raise sqlstate 'PT400' using
                message = 'This is not a cursor of search_contacts.',
                detail = 'field: cursor',
                hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
        end if;
    end if;

    select
        array_agg(p.contact_id order by p.sort_name collate "C", p.contact_id),
        array_agg(p.sort_name order by p.sort_name collate "C", p.contact_id)
    into ids, names
    from private.search_page(
        account_id => search_contacts.account_id,
        patterns => private.search_patterns(coalesce(search_contacts.query, '')),
        after_name => given ->> 'name',
        after_id => (given ->> 'id')::uuid,
        -- one more tells whether there is a next page
        page_size => search_contacts.page_size + 1
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
        -- one by one, whatever the planner expects of the policies
        limit 1
    ) v;

    return jsonb_build_object('contacts', contacts, 'cursor', next_cursor);
end
$$;

grant execute on function public.search_contacts(uuid, text, text, integer) to authenticated;


comment on function private.search_patterns(text) is
    'A query''s words as patterns, the longest first; what looks like a phone number is one word of digits.';
comment on function private.search_page(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name; refuses those who do not work for it.';
comment on function private.read_search_cursor(text) is
    'The fields of a cursor of search_contacts; null where it is none.';
comment on function public.search_contacts(uuid, text, text, integer) is
    'Contacts by name, username, email, phone and tags, whatever case and accents: every word of the query is part of one of them (with one or two letters, its beginning), and a phone number is found in any spelling. Answers {contacts, cursor}: rows of contacts_v2 in the order of their names, and the cursor of the next page, null at the end. An empty query lists all. At most 200 characters and 200 rows; not a member: 404.';
