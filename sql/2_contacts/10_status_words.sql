/*
    The words of each face for the status of a conversation. Every face has a word for every
    status, and no face has the same word for two. So a status that is written in one face's word
    is read correctly in every other face.
*/
create table public.status_words (
    face   text not null
           constraint status_words_face_check
           check (face in ('contacts_page', 'live_chat', 'wati', 'portal', 'erp')),
    status text not null
           constraint status_words_status_check
           check (status in ('open', 'pending', 'closed')),
    word   text not null
           constraint status_words_word_check check (word <> ''),

    primary key (face, status),
    constraint status_words_face_word_key unique (face, word)
);
alter table public.status_words enable row level security;


create policy "everybody signed in can read the words"
    on public.status_words
    for select
    to authenticated
    using (true);


grant select on public.status_words to authenticated;


insert into public.status_words (face, status, word)
values
    ('contacts_page', 'open', 'open'),
    ('contacts_page', 'pending', 'pending'),
    ('contacts_page', 'closed', 'closed'),
    ('live_chat', 'open', 'Open'),
    ('live_chat', 'pending', 'Pending'),
    ('live_chat', 'closed', 'Closed'),
    ('wati', 'open', 'OPEN'),
    ('wati', 'pending', 'PENDING'),
    ('wati', 'closed', 'SOLVED'),
    ('portal', 'open', 'active'),
    ('portal', 'pending', 'waiting'),
    ('portal', 'closed', 'resolved'),
    ('erp', 'open', 'O'),
    ('erp', 'pending', 'P'),
    ('erp', 'closed', 'C');


create function private.status_of_word(face text, word text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_status text;
    known text;
begin
    select w.status
    into found_status
    from public.status_words w
    where w.face = status_of_word.face
      and w.word = status_of_word.word;

    if found_status is null then
        select string_agg(w.word, ', ' order by w.status <> 'open', w.status <> 'pending')
        into known
        from public.status_words w
        where w.face = status_of_word.face;

        if known is null then
            raise sqlstate 'PT422' using
                message = 'There is no such face.',
                detail = 'field: face',
                hint = 'Known: contacts_page, live_chat, wati, portal, erp.';
        end if;
        raise sqlstate 'PT422' using
            message = case
                when btrim(coalesce(word, ''), E' \t\r\n') = '' then 'A conversation needs a status.'
                else format('%s is not a status of this face.', quote_literal(left(word, 64)))
            end,
            detail = 'field: conversation_status',
            hint = format('Known: %s.', known);
    end if;
    return found_status;
end
$$;


comment on table public.status_words is
    'The words of each face for a conversation''s status: contacts page, live chat, WATI-style clients, portal, ERP.';
comment on column public.status_words.face is
    'contacts_page, live_chat, wati, portal or erp.';
comment on column public.status_words.status is
    'The status of a conversation: open, pending or closed.';
comment on column public.status_words.word is
    'The word of the face for this status, with exact case.';
comment on policy "everybody signed in can read the words" on public.status_words is
    'The words are the same for all accounts.';
comment on function private.status_of_word(text, text) is
    'The status for a word of a face. An unknown word is refused, and the hint lists the known ones.';
