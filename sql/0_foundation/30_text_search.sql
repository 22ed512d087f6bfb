/*
    What searching text takes: trigrams, an index of them beside other columns, and one
    spelling of a text whatever its case and accents.
*/
create extension if not exists unaccent with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists btree_gin with schema extensions;


create function private.fold(value text)
    returns text
    language plpgsql
    -- unaccent is only stable, since its dictionary could be exchanged: whoever does that
    -- writes anew what was folded before
    immutable
    set search_path = ''
as $$
begin
    -- composed first: a letter and its accent may come as two characters
    return lower(extensions.unaccent('extensions.unaccent', normalize(value, nfkc)));
end
$$;

grant execute on function private.fold(text) to authenticated;


comment on function private.fold(text) is
    'A text without case and accents, as it is searched and sorted: Žiga becomes ziga.';
