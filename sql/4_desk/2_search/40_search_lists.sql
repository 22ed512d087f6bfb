/*
    Three ways to find the matching contacts of one account: along its list, by the names in the
    list, and by the index of words. Each has one fixed plan. The planner does not choose it by
    statistics, because these differ between a big account and a small one.

    Measured in alternating rounds, searches of all kinds among 50,000 contacts: p95 is 5.1 ms of
    work; without the beginnings of words it is 7.4 ms; with one plain statement that the planner
    plans it is 8.7 ms, and 22 ms for surnames.
*/
create function private.walk_search_list(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    steps integer,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- Always along the list's index. Without these settings, after many writes since the last
    -- vacuum, the planner fetched and sorted all contacts of an account.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
begin
    if patterns = '{}' then
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = walk_search_list.account_id
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    elsif patterns[1] like '\% %' then
        -- the index has the beginnings of words: a step there costs a third of one that reads the
        -- row
        return query
        select s.contact_id, s.sort_name
        from (
            select w.contact_id, w.sort_name, w.beginnings
            from private.contact_search w
            where w.account_id = walk_search_list.account_id
              and (w.sort_name, w.contact_id) > (after_name, after_id)
            order by w.sort_name, w.contact_id
            limit steps
        ) s
        where s.beginnings like all (patterns)
           or (
               s.beginnings is null
               and exists (
                   select
                   from private.contact_search w
                   where w.contact_id = s.contact_id
                     and w.words like all (patterns)
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
            where w.account_id = walk_search_list.account_id
              and (w.sort_name, w.contact_id) > (after_name, after_id)
            order by w.sort_name, w.contact_id
            limit steps
        ) s
        where s.words like all (patterns)
        order by s.sort_name, s.contact_id
        limit page_size;
    end if;
end
$$;


create function private.search_list_place(
    account_id uuid,
    inout after_name text,
    inout after_id uuid,
    steps integer
)
    language plpgsql
    stable
    set search_path = ''
    -- as walk_search_list
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
begin
    select w.sort_name, w.contact_id
    into after_name, after_id
    from private.contact_search w
    where w.account_id = search_list_place.account_id
      and (w.sort_name, w.contact_id) > (after_name, after_id)
    order by w.sort_name, w.contact_id
    offset steps - 1
    limit 1;
end
$$;


create function private.search_by_name(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- as walk_search_list
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
begin
    if beginning is null then
        return;
    -- one place to begin at: with two conditions the index might use either
    elsif beginning collate "C" > after_name then
        after_name := beginning;
        after_id := '00000000-0000-0000-0000-000000000000';
    end if;
    return query
    select w.contact_id, w.sort_name
    from private.contact_search w
    where w.account_id = search_by_name.account_id
      and (w.sort_name, w.contact_id) > (after_name, after_id)
      and w.sort_name < beginning || U&'\+10FFFF'
      and w.words like all (patterns)
    order by w.sort_name, w.contact_id
    limit page_size;
end
$$;


create function private.search_by_words(
    account_id uuid,
    patterns text[],
    after_name text,
    after_id uuid,
    page_size integer
)
    returns table (contact_id uuid, sort_name text)
    language plpgsql
    stable
    rows 50
    set search_path = ''
    -- always by the index of words, even if the statistics favour another way
    set plan_cache_mode = force_generic_plan
    set enable_bitmapscan = on
    set enable_sort = on
    set enable_seqscan = off
    set enable_indexscan = off
    set enable_indexonlyscan = off
    set max_parallel_workers_per_gather = 0
    set jit = off
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
    pattern constant text := patterns[1];
    others constant text[] := patterns[2:];
begin
    if beginning is not null then
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_by_words.account_id
          and private.inner_beginnings(w.words, w.sort_name) @> array[beginning]
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    else
        return query
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_by_words.account_id
          and w.words like pattern
          and w.words like all (others)
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit page_size;
    end if;
end
$$;


comment on function private.walk_search_list(uuid, text[], text, uuid, integer, integer) is
    'A page of an account''s contacts that match every pattern, by name: those that a walk of so many steps along the list finds.';
comment on function private.search_list_place(uuid, text, uuid, integer) is
    'The place in an account''s list after so many steps; null beyond its end.';
comment on function private.search_by_name(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts whose sorted name begins with the one searched beginning; no rows if the patterns ask for more.';
comment on function private.search_by_words(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name, found by the indexes of words. For one beginning, contacts whose sorted name begins with it are left out.';
