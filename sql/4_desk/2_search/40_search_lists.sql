/*
    The ways to the contacts of one account that match what is looked for: along its list, by the
    names in it, and by the index of words. Each has the one plan that is meant, which is not
    left to statistics: those of a big account are not a small one's.
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
    -- Along the list's index, whatever the statistics say and however long ago a vacuum was: once
    -- enough rows had been written since, the planner fetched and sorted all of an account.
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
        -- beginnings of words are in the index, where a step is a third of one that reads the row
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
    -- one place to begin at: of two conditions the index would take either
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
    -- by the words alone, whatever the statistics say of them
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
    'A page of an account''s contacts that match every pattern, by name, as far as a walk along the list finds them.';
comment on function private.search_list_place(uuid, text, uuid, integer) is
    'The place in an account''s list that is so many contacts further on; null beyond its end.';
comment on function private.search_by_name(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts whose sorted name has the one beginning that is asked for; none where more is.';
comment on function private.search_by_words(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name, found by the indexes of words; of a beginning without those whose sorted name has it.';
