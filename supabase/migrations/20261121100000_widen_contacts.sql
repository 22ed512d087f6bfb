/*
    Contacts get what their faces show; one table has the words for a status.
*/
alter table public.contacts
    add column username text
        constraint contacts_username_check
        check (username ~ '^[^\s@]+$' and length(username) <= 100),
    add column status text not null default 'open'
        constraint contacts_status_check
        check (status in ('open', 'pending', 'closed')),
    add column preferences jsonb not null default '{}'
        constraint contacts_preferences_check
        check (
            jsonb_typeof(preferences) = 'object'
            and octet_length(preferences::text) <= 8192
        ),
    add column deleted_at timestamptz,
    add column merged_into uuid,
    add constraint contacts_tags_check
        check (cardinality(tags) <= 100 and array_position(tags, null) is null),
    add constraint contacts_notes_check check (length(notes) <= 20000),
    add constraint contacts_merged_into_fkey
        foreign key (merged_into, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    add constraint contacts_merged_into_check
        check (merged_into is null or deleted_at is not null),
    add constraint contacts_deleted_check
        check (
            deleted_at is null
            or (
                num_nonnulls(
                    name, profile_name, phone, email, username, notes, portal_user_id
                ) = 0
                and tags = '{}'
                and preferences = '{}'
            )
        );

alter table public.customers
    add column preferences jsonb not null default '{}';

drop index public.contacts_account_id_idx;


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


/*
    What clients read lies in memory or on flash, where a page out of order costs little more
    than the next one. Postgres assumes a spinning disk, and row level security makes it expect
    few rows of an account (the policy and the client's own filter name it twice, and their
    odds are multiplied), so that it sorted all 50,000 contacts to show 50: 671 ms, now 1.0.
    PostgREST applies a role's settings to each request.
*/
alter role authenticated set random_page_cost = 1.1;


create function private.my_writable_account_ids()
    returns setof uuid
    language sql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
as $$
    select m.account_id
    from public.account_members m
    where m.user_id = (select auth.uid())
      and m.role in ('owner', 'admin', 'agent')
$$;

grant execute on function private.my_writable_account_ids() to authenticated;

comment on function private.my_writable_account_ids() is
    'The accounts whose contacts and conversations the signed-in user may change: viewers only look.';


/*
    One status in the words of each face. The table is total (every face has a word for every
    status) and goes both ways (no face has one word for two): what is written in one face's
    words is read in another's, and comes back as it was.
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
            message = format('%s is not a status of this face.', coalesce(quote_literal(left(word, 64)), 'Nothing')),
            detail = 'field: conversation_status',
            hint = format('Known: %s.', known);
    end if;
    return found_status;
end
$$;


comment on table public.status_words is
    'The words of each face for a conversation''s status: contacts page, live chat, WATI-style clients, portal, ERP.';
comment on column public.status_words.status is
    'The status of conversations: open, pending or closed.';
comment on column public.status_words.word is
    'What the face calls it; exact, case included.';
comment on policy "everybody signed in can read the words" on public.status_words is
    'Words belong to no tenant.';
comment on function private.status_of_word(text, text) is
    'The status that a face''s word stands for; unknown words are refused with the known ones.';


-- the list by the name that is shown; a case, since Postgres takes coalesce for a leak, and
-- under row level security would not look up in the index where a page begins
create index contacts_list_idx
    on public.contacts (
        account_id,
        (case when name is null then profile_name else name end),
        id
    );

create index contacts_merged_into_idx
    on public.contacts (merged_into)
    where merged_into is not null;

comment on column public.contacts.status is
    'Its own until there is a conversation; see contacts_v2 for what is shown.';

comment on column public.contacts.preferences is
    'The customer''s own choices, edited through my_profile.';

comment on column public.contacts.deleted_at is
    'Since when it is gone; contents are blanked, lists leave it out.';

comment on column public.contacts.merged_into is
    'The contact that it was merged into.';


create or replace function private.tg_contacts__project_customers()
    returns trigger
    language plpgsql
    -- definer: nobody else may write customers
    security definer
    set search_path = ''
as $$
begin
    insert into public.customers as c (
        id, account_id, portal_user_id, name, phone, email, preferences, created_at, version
    )
    select
        n.id,
        n.account_id,
        n.portal_user_id,
        coalesce(n.name, n.profile_name),
        n.phone,
        n.email,
        n.preferences,
        n.created_at,
        -- 1, or beyond all that a customer had who was deleted and comes back
        n.version
    from new_rows n
    where n.deleted_at is null
    order by n.id
    on conflict (id) do update
        set portal_user_id = excluded.portal_user_id,
            name = excluded.name,
            phone = excluded.phone,
            email = excluded.email,
            preferences = excluded.preferences
        where (c.portal_user_id, c.name, c.phone, c.email, c.preferences)
            is distinct from (
                excluded.portal_user_id,
                excluded.name,
                excluded.phone,
                excluded.email,
                excluded.preferences
            );

    -- a delete of no row would still run the table's triggers
    if exists (select from new_rows n where n.deleted_at is not null) then
        delete from public.customers c
        using new_rows n
        where c.id = n.id
          and n.deleted_at is not null;
    end if;
    return null;
end
$$;

comment on column public.customers.preferences is
    'The customer''s own choices, edited through my_profile.';
