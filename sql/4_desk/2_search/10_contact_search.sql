/*
    The text by which contacts are found, folded once when it is written. It is a table of its
    own: an index on an expression would fold each candidate again during a search, and clients do
    not need the column.
*/
create function private.word_beginnings(words text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    beginnings constant text := (
        select string_agg(distinct ' ' || left(w, 2), '')
        from string_to_table(words, ' ') w
        where w <> ''
    );
begin
    -- part of an index, which has no room for long values
    return case when octet_length(beginnings) <= 400 then beginnings end;
end
$$;


create function private.inner_beginnings(words text, sort_name text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select distinct left(w, n)
        from string_to_table(words, ' ') w
        cross join generate_series(1, 2) n
        where w <> ''
          and not starts_with(sort_name, left(w, n))
    );
end
$$;


create table private.contact_search (
    contact_id uuid primary key,
    account_id uuid not null,
    -- the shown name, folded; its byte order is the alphabet's, because it has no accents
    sort_name  text collate "C" not null,
    -- every word with a space before it, so that a search can ask for its beginning
    words      text not null,
    -- for searches of one or two letters; null if it is too long, and then words is searched
    beginnings text generated always as (private.word_beginnings(words)) stored,

    constraint contact_search_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
)
-- A walk along the list reads only the index, except for pages that were written after the last
-- vacuum. By default a vacuum comes when a fifth of the table has changed.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
alter table private.contact_search enable row level security;


-- with the beginnings of words, so that a walk along the list for a letter reads only the index
create index contact_search_list_idx
    on private.contact_search (account_id, sort_name, contact_id)
    include (beginnings);

-- With a short pending list (in kB): many contacts are written in a third of the time, and a search
-- reads some 80 contacts more, which is not measurable. Tried: none, and the usual 4 MB, which is no
-- faster and which every search would have to read.
create index contact_search_words_idx
    on private.contact_search
    using gin (account_id, words extensions.gin_trgm_ops)
    with (gin_pending_list_limit = 64);

-- One or two letters make no trigram. For trigrams a word begins after every @ and every dot: a
-- search for gm would find everybody at gmail.com. The beginning of the sorted name is left out,
-- because contacts with it stand side by side in the list.
create index contact_search_beginnings_idx
    on private.contact_search
    using gin (account_id, (private.inner_beginnings(words, sort_name)))
    with (gin_pending_list_limit = 64);

-- plans do not need these statistics, and each analyze would call the function 30,000 times
alter index private.contact_search_beginnings_idx alter column 2 set statistics 0;


create policy "nobody reads the search directly"
    on private.contact_search
    for all
    to authenticated
    using (false);


create function private.sort_name(name text, username text, email text, phone text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- a contact without a name comes last: its text begins with a character that no name has
    return private.fold(
        coalesce(btrim(name), U&'\+10FFFF' || coalesce(username, email, phone, '')));
end
$$;


create function private.search_words(
    name text,
    username text,
    email text,
    phone text,
    tags text[]
)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return regexp_replace(
        private.fold(
            concat_ws(' ', '', name, username, email, ltrim(phone, '+'), array_to_string(tags, ' '))
        ),
        '\s+', ' ', 'g');
end
$$;


create function private.tg_contacts__keep_search()
    returns trigger
    language plpgsql
    -- definer: only this function writes the search table
    security definer
    set search_path = ''
as $$
begin
    insert into private.contact_search as s (contact_id, account_id, sort_name, words)
    select
        n.id,
        n.account_id,
        private.sort_name(
            name => coalesce(n.name, n.profile_name),
            username => n.username,
            email => n.email,
            phone => n.phone
        ),
        private.search_words(
            name => coalesce(n.name, n.profile_name),
            username => n.username,
            email => n.email,
            phone => n.phone,
            tags => n.tags
        )
    from new_rows n
    where n.deleted_at is null
    order by n.id
    on conflict (contact_id) do update
        set sort_name = excluded.sort_name,
            words = excluded.words
        where (s.sort_name, s.words) is distinct from (excluded.sort_name, excluded.words);

    if exists (select from new_rows n where n.deleted_at is not null) then
        delete from private.contact_search s
        using new_rows n
        where s.contact_id = n.id
          and n.deleted_at is not null;
    end if;
    return null;
end
$$;

create trigger _500_keep_search_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__keep_search();

create trigger _500_keep_search_update
    after update on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg_contacts__keep_search();


comment on table private.contact_search is
    'The text by which contacts are found and sorted; search_contacts reads it.';
comment on column private.contact_search.words is
    'The shown name, the username, the email, the digits of the phone and the tags, folded.';
comment on column private.contact_search.beginnings is
    'The first two letters of every word, each with a space before it.';
comment on policy "nobody reads the search directly" on private.contact_search is
    'search_contacts reads it after it has checked the caller.';
comment on function private.word_beginnings(text) is
    'The different beginnings of words, two letters each; null if there are too many.';
comment on function private.inner_beginnings(text, text) is
    'The first letter and the first two letters of each word, without those of the sorted name.';
comment on function private.sort_name(text, text, text, text) is
    'The place of a contact in the list: its folded name. Contacts without a name come last, by username, email or phone.';
comment on function private.search_words(text, text, text, text, text[]) is
    'All values by which a contact is found, folded, in one text.';
comment on function private.tg_contacts__keep_search() is
    'Writes to the search table what changes in contacts, in the same transaction.';
