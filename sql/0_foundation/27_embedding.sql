/*
    The limits of embedding. PostgREST makes a request with embedded tables into one statement:

        left join lateral ( select json_agg(…) … )    many rows beneath each row
        left join lateral ( … )                       one row beneath each row

    Many rows beneath many add up to no more than the caller's own rows. But many rows beneath one
    row that others share (messages → conversations → messages) multiply: 1,000 messages make an
    answer of 1,000,000. They are refused, and so are very deep and very wide requests.

    A function that runs before the statement doesn't see it. So check_plan looks at it while
    Postgres plans it, as it looks for EXPLAIN.

    Source: PostgREST's src/PostgREST/Query/QueryBuilder.hs, versions 12 to 14.
*/
create function private.embedding_of(query text)
    returns table (embeds integer, depth integer, is_repeated boolean)
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- names and texts may contain anything
    bare constant text := regexp_replace(query, '"[^"]*"|''[^'']*''', 'x', 'g');
    token text;
    -- the brackets that are open: '(' of any kind, 'o' embeds one row, 'm' many
    opened text := '';
    embedded text;
begin
    embeds := 0;
    depth := 0;
    is_repeated := false;
    for token in
        select lower(t[1])
        from regexp_matches(bare, '(\mlateral\s*\(|\mjsonb?_agg\M|[()])', 'gi') t
    loop
        if token = ')' then
            opened := left(opened, -1);
        elsif token = '(' then
            opened := opened || '(';
        elsif token like 'lateral%' then
            opened := opened || 'o';
            embeds := embeds + 1;
            depth := greatest(depth, length(replace(opened, '(', '')));
        else
            -- this gathers the rows of the innermost embedding
            embedded := substring(opened from '^(.*)o\(*$');
            if embedded is not null then
                opened := embedded || 'm' || substr(opened, length(embedded) + 2);
                is_repeated := is_repeated or position('o' in embedded) > 0;
            end if;
        end if;
    end loop;
    return next;
end
$$;


create function private.refuse_embedding(query text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    most_embeds constant integer := 8;
    most_depth constant integer := 3;
    asked record;
begin
    -- most requests embed nothing, and one table multiplies nothing
    if query !~* '\mlateral\M.*\mlateral\M' then
        return;
    end if;
    select * into asked
    from private.embedding_of(query);
    if asked.is_repeated then
        raise sqlstate 'PT400' using
            message = 'The answer would repeat many rows: a list is embedded in a row that others share.',
            detail = 'field: select',
            hint = 'Ask for the list in a request of its own.';
    elsif asked.depth > most_depth then
        raise sqlstate 'PT400' using
            message = format(
                'Tables are embedded %s levels deep; %s are allowed.', asked.depth, most_depth),
            detail = 'field: select',
            hint = 'Ask for the inner tables in a request of their own.';
    elsif asked.embeds > most_embeds then
        raise sqlstate 'PT400' using
            message = format(
                '%s tables are embedded; %s are allowed.', asked.embeds, most_embeds),
            detail = 'field: select',
            hint = 'Divide this into several requests.';
    end if;
end
$$;


comment on function private.embedding_of(text) is
    'The embedding in a statement of PostgREST''s: how many tables, how many levels deep, and whether many rows stand beneath one row that others share.';
comment on function private.refuse_embedding(text) is
    'Refuses a statement of PostgREST''s that embeds too much.';
