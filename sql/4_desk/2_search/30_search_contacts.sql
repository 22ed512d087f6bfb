/*
    Search, in two halves. Text operators are not leakproof, so under row level security Postgres
    never uses a trigram index. A definer function checks the caller and finds ids. An invoker
    function reads these rows as the caller.
*/
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
    -- definer: users may not read the search table; the caller is checked first
    security definer
    rows 50
    set search_path = ''
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
    -- in a list by name the beginnings of surnames come in groups, one for each first name
    steps integer := case when patterns[1] like '\% %' then 4000 else 1000 end;
    walks integer := 1;
    met integer := 0;
    last_name text := after_name;
    last_id uuid := after_id;
begin
    perform private.require_member(account_id);

    -- A walk along the list finds enough contacts with a frequent word; sorting all of them would
    -- take longer. It does not find enough with a rare word; for that an index of words is faster.
    loop
        for contact_id, sort_name in
            select w.contact_id, w.sort_name
            from private.walk_search_list(
                account_id => search_page.account_id,
                patterns => patterns,
                after_name => after_name,
                after_id => after_id,
                steps => steps,
                page_size => page_size - met
            ) w
        loop
            return next;
            met := met + 1;
            last_name := sort_name;
            last_id := contact_id;
        end loop;
        if met = page_size or patterns = '{}' then
            return;
        end if;
        -- the index of beginnings costs less than a look at how far the walk came
        exit when beginning is not null;

        select p.after_name, p.after_id
        into last_name, last_id
        from private.search_list_place(
            account_id => search_page.account_id,
            after_name => after_name,
            after_id => after_id,
            steps => steps
        ) p;
        if last_id is null then
            return;
        end if;
        -- walk on once, 1.5 times as far as should fill the page, unless that is too far
        exit when walks = 2 or met * 4 < page_size;
        after_name := last_name;
        after_id := last_id;
        steps := least(steps * 3 / 2 * (page_size - met) / met, 3000);
        walks := 2;
    end loop;

    return query
    select m.contact_id, m.sort_name
    from (
        select w.contact_id, w.sort_name
        from private.search_by_words(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) w
        union all
        select n.contact_id, n.sort_name
        from private.search_by_name(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) n
    ) m
    -- rows of a function have lost the list's collation
    order by m.sort_name collate "C", m.contact_id
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
    -- before the first contact: an empty name comes first
    given jsonb := '{"name": "", "id": "00000000-0000-0000-0000-000000000000"}';
    literal_patterns constant text[] := private.literal_patterns(search_contacts.query);
    ids uuid[];
    names text[];
    next_cursor text;
    contacts jsonb;
begin
    if length(query) > 200 then
        raise sqlstate 'PT422' using
            message = format('The query has %s characters; 200 are allowed.', length(query)),
            detail = 'field: query',
            hint = 'Shorten it to 200 characters.';
    elsif page_size is null or page_size not between 1 and 200 then
        raise sqlstate 'PT422' using
            message = 'A page has 1 to 200 contacts.',
            detail = 'field: page_size',
            hint = 'Give a page_size from 1 to 200.';
    elsif search_contacts.cursor is not null then
        given := private.read_search_cursor(search_contacts.cursor);
        if given is null then
            raise sqlstate 'PT422' using
                message = 'This is not a cursor of search_contacts.',
                detail = 'field: cursor',
                hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
        end if;
    end if;

    select
        array_agg(p.contact_id order by p.sort_name collate "C", p.contact_id),
        array_agg(p.sort_name order by p.sort_name collate "C", p.contact_id)
    into ids, names
    from (
        select u.contact_id, u.sort_name
        from (
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => private.search_patterns(coalesce(search_contacts.query, '')),
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                -- one more row shows whether there is a next page
                page_size => search_contacts.page_size + 1
            ) n
            union
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => literal_patterns,
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                page_size => search_contacts.page_size + 1
            ) n
            where literal_patterns is not null
        ) u
        order by u.sort_name collate "C", u.contact_id
        limit search_contacts.page_size + 1
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
        -- one by one: from the policies the planner expects a wrong number of rows
        limit 1
    ) v;

    return jsonb_build_object('contacts', contacts, 'cursor', next_cursor);
end
$$;

grant execute on function public.search_contacts(uuid, text, text, integer) to authenticated;


comment on function private.search_page(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name; refuses a caller who does not work for the account.';
comment on function private.read_search_cursor(text) is
    'The fields of a cursor of search_contacts; null if it is not one.';
comment on function public.search_contacts(uuid, text, text, integer) is
    'Finds contacts by name, username, email, phone and tags, without regard to case and accents. Every word of the query must be part of one of them; a word of one or two letters must begin a word. A phone number is found in any spelling. Returns them in the order of their names, and the cursor of the next page, null at the end. An empty query lists all. At most 200 characters and 200 rows. Not a member of the account: 404.'
    ' Type: {contacts: contacts_v2[], cursor: text | null}';
