/*
    Text search needs three things: trigrams, an index of trigrams together with other columns,
    and one spelling of a text for every case and accent.
*/
create extension if not exists unaccent with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists btree_gin with schema extensions;


create function private.fold(value text)
    returns text
    language plpgsql
    -- unaccent is only stable, because its dictionary can be replaced. After a replacement, all
    -- folded texts must be written again
    immutable
    set search_path = ''
as $$
begin
    -- compose first: a letter and its accent may be two characters
    return lower(extensions.unaccent('extensions.unaccent', normalize(value, nfkc)));
end
$$;

grant execute on function private.fold(text) to authenticated;


comment on function private.fold(text) is
    'A text in lower case and without accents, for search and sorting: Žiga becomes ziga.';
