/*
    The sentences that the system writes for people, in each account's language. The file of a
    subject adds its own sentences to this list.
*/
create table private.sentences (
    key      text not null,
    language text not null
             constraint sentences_language_check check (language in ('en', 'sl')),
    -- with {name} for each value that is filled in
    sentence text not null,

    primary key (key, language)
);
alter table private.sentences enable row level security;


create policy "nobody reads sentences directly"
    on private.sentences
    for all
    to authenticated
    using (false);


create function private.fill_names(sentence text, filled jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- one pass, so a value that contains {name} stays as it is
    return (
        select string_agg(part.texts[1] || coalesce(filled ->> part.texts[2], ''), '' order by part.place)
        from regexp_matches(sentence, '([^{]*)(?:\{(\w+)\})?', 'g')
            with ordinality as part (texts, place)
    );
end
$$;


create function private.words(account_id uuid, key text, filled jsonb)
    returns text
    language plpgsql
    stable
    -- definer: users may not read sentences, nor customers accounts
    security definer
    set search_path = ''
as $$
declare
    sentence constant text := (
        select s.sentence
        from public.accounts a
        join private.sentences s
            on s.language = a.language
        where a.id = words.account_id
          and s.key = words.key
    );
begin
    if sentence is null then
        raise exception 'No sentence % in the language of this account.', key;
    end if;
    return private.fill_names(sentence, filled);
end
$$;


comment on table private.sentences is
    'The sentences that the system writes for people, in English and Slovene.';
comment on column private.sentences.key is
    'The subject and its state, such as job.scheduled.';
comment on column private.sentences.sentence is
    'The sentence, with {name} for each value that is filled in.';
comment on policy "nobody reads sentences directly" on private.sentences is
    'private.words reads them.';
comment on function private.fill_names(text, jsonb) is
    'A sentence with its {name} places filled; an unknown name becomes empty.';
comment on function private.words(uuid, text, jsonb) is
    'A sentence in the account''s language, filled.';
