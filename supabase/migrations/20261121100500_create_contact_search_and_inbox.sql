/*
    Searching contacts, the list of conversations, and what is unread in them.
*/
alter policy "members and the customer can read a conversation's activity"
    on public.conversation_activity
    using (
        account_id in (select private.my_account_ids())
        or customer_id in (select private.my_customer_ids())
    );


create or replace function private.tg_conversations__start_activity()
    returns trigger
    language plpgsql
    -- definer: nobody else may write activity
    security definer
    set search_path = ''
as $$
begin
    insert into public.conversation_activity (
        conversation_id, account_id, customer_id, last_message_at
    )
    select n.id, n.account_id, n.customer_id, n.created_at
    from new_rows n;
    return null;
end
$$;


/*
    How far somebody has read a conversation. What is unread is derived from it, never counted
    up and down, so that it cannot drift.
*/
create table public.read_markers (
    conversation_id uuid not null,
    user_id         uuid not null
                    constraint read_markers_user_id_fkey
                    references auth.users on delete cascade,
    account_id      uuid not null,
    customer_id     uuid not null,
    last_read_seq   bigint not null
                    constraint read_markers_last_read_seq_check check (last_read_seq >= 0),
    read_at         timestamptz not null default now(),

    primary key (conversation_id, user_id),
    -- a conversation given to another contact takes its markers with it
    constraint read_markers_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table public.read_markers enable row level security;


create index read_markers_user_id_idx on public.read_markers (user_id);


create policy "readers can read their own markers"
    on public.read_markers
    for select
    to authenticated
    using (
        user_id = (select auth.uid())
        and (
            account_id = any (array(select private.my_account_ids()))
            or customer_id = any (array(select private.my_customer_ids()))
        )
    );


grant select on public.read_markers to authenticated;


create function private.move_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    -- definer: markers are written here alone, each reader's own
    security definer
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    read_conversation record;
    reached bigint;
begin
    -- it stays this contact's until the marker is written
    select k.account_id, k.customer_id
    into read_conversation
    from public.conversations k
    where k.id = move_read_marker.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      )
    for key share;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', conversation_id);
    elsif up_to_seq is null or up_to_seq < 0 then
        raise sqlstate 'PT422' using
            message = 'Nobody has read up to there.',
            detail = 'field: up_to_seq',
            hint = 'Send the seq of the latest message that was seen.';
    end if;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    select
        a.conversation_id,
        reader,
        read_conversation.account_id,
        read_conversation.customer_id,
        -- what has yet to be written is not read
        least(up_to_seq, a.last_seq)
    from public.conversation_activity a
    where a.conversation_id = move_read_marker.conversation_id
    on conflict on constraint read_markers_pkey do update
        set last_read_seq = excluded.last_read_seq,
            read_at = excluded.read_at
        where excluded.last_read_seq > r.last_read_seq;

    select r.last_read_seq
    into reached
    from public.read_markers r
    where r.conversation_id = move_read_marker.conversation_id
      and r.user_id = reader;
    return reached;
end
$$;

grant execute on function private.move_read_marker(uuid, bigint) to authenticated;


create function public.mark_read(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
begin
    return private.move_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

grant execute on function public.mark_read(uuid, bigint) to authenticated;


comment on table public.read_markers is
    'How far the signed-in user has read each conversation; moved by mark_read.';
comment on column public.read_markers.last_read_seq is
    'The seq up to which they have read.';
comment on column public.read_markers.read_at is
    'When the marker last moved.';
comment on policy "readers can read their own markers" on public.read_markers is
    'Nobody sees how far others have read.';
comment on function private.move_read_marker(uuid, bigint) is
    'Moves the caller''s marker forward, never beyond the latest message; returns where it stands.';
comment on function public.mark_read(uuid, bigint) is
    'Says that the caller has read a conversation up to this seq: forward only, and no further than its latest message. Staff, viewers too, and the conversation''s customer; returns the seq up to which it now counts as read. Unknown: 404.';


/*
    What contacts are found by, folded once when it is written. Apart from contacts: an index on
    an expression would fold each candidate again when it is searched, and clients have no use
    for a column of it.
*/
create table private.contact_search (
    contact_id uuid primary key,
    account_id uuid not null,
    -- what is shown, folded: in byte order, which is the alphabet's once there are no accents
    sort_name  text collate "C" not null,
    -- every word with a space before it, so that its beginning can be asked for
    words      text not null,

    constraint contact_search_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table private.contact_search enable row level security;


create index contact_search_list_idx
    on private.contact_search (account_id, sort_name, contact_id);

-- without a pending list, through which every search would have to read
create index contact_search_words_idx
    on private.contact_search
    using gin (account_id, words extensions.gin_trgm_ops)
    with (fastupdate = off);


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
    -- who has no name comes after all that have, behind a character that is in no name
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
    -- definer: nobody else may write what is searched
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
    'What contacts are found by and sorted by; read through search_contacts.';
comment on column private.contact_search.words is
    'Visible name, username, email, the phone''s digits and tags, folded.';
comment on policy "nobody reads the search directly" on private.contact_search is
    'search_contacts looks here once it knows who asks.';
comment on function private.sort_name(text, text, text, text) is
    'Where a contact stands in the list: by its name without case and accents; those without one come last, by what is shown instead.';
comment on function private.search_words(text, text, text, text, text[]) is
    'All that a contact is found by, in one text.';
comment on function private.tg_contacts__keep_search() is
    'Keeps what is searched in step with contacts, in the same transaction.';


/*
    Search, in two halves. Text operators are not leakproof, so that under row level security
    no trigram index is ever used: a definer function checks the caller first and finds ids,
    and an invoker function reads those rows as the caller.
*/
create function private.search_patterns(query text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    folded constant text := private.fold(query);
    -- digits as people write them in a phone number, (0) being the national zero
    phone_like constant text := '^\+?[0-9 ()./-]*$';
    words text[];
begin
    words := case
        when folded ~ phone_like and folded ~ '[1-9]([^0-9]*[0-9]){2}' then array[folded]
        else string_to_array(btrim(regexp_replace(folded, '\s+', ' ', 'g')), ' ')
    end;
    return array(
        select case
            -- too short for a trigram of its own: the beginning of a word, which has one
            when length(p.word) < 3 then '% '
            else '%'
        end || regexp_replace(p.word, '([\\%_])', '\\\1', 'g') || '%'
        from unnest(words) w
        cross join lateral (
            select case
                when w ~ phone_like
                    then regexp_replace(replace(w, '(0)', ''), '[^0-9]', '', 'g')
            end as digits
        ) d
        cross join lateral (
            -- neither 00 nor the national 0 is part of what is stored
            select case
                when length(ltrim(d.digits, '0')) >= 3 then regexp_replace(d.digits, '^00?', '')
                else w
            end as word
        ) p
        where w <> ''
        -- the index is asked for the longest, which is the rarest as a rule
        order by length(p.word) desc, p.word
    );
end
$$;

grant execute on function private.search_patterns(text) to authenticated;


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
    -- definer: what is searched is not readable; the caller is checked first
    security definer
    rows 50
    set search_path = ''
    -- a plan for this account and this word: both differ a hundredfold
    set plan_cache_mode = force_custom_plan
as $$
declare
    -- a frequent word is met often enough on a walk this far along the list; sorting all that
    -- have it would take longer, and so would a walk to the end for one that is rare
    walk constant integer := 3000;
    pattern constant text := patterns[1];
    others constant text[] := patterns[2:];
    met integer;
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;

    return query
    select s.contact_id, s.sort_name
    from (
        select w.contact_id, w.sort_name, w.words
        from private.contact_search w
        where w.account_id = search_page.account_id
          and (w.sort_name, w.contact_id) > (after_name, after_id)
        order by w.sort_name, w.contact_id
        limit case when pattern is null then page_size else walk end
    ) s
    where pattern is null
       or (s.words like pattern and s.words like all (others))
    order by s.sort_name, s.contact_id
    limit page_size;
    get diagnostics met = row_count;
    if met = page_size or pattern is null then
        return;
    end if;

    select w.sort_name, w.contact_id
    into after_name, after_id
    from private.contact_search w
    where w.account_id = search_page.account_id
      and (w.sort_name, w.contact_id) > (after_name, after_id)
    order by w.sort_name, w.contact_id
    offset walk - 1
    limit 1;
    if not found then
        return;
    end if;

    return query
    select m.contact_id, m.sort_name
    from (
        select w.contact_id, w.sort_name
        from private.contact_search w
        where w.account_id = search_page.account_id
          and w.words like pattern
          and w.words like all (others)
        -- found by the word alone, or the planner might walk again
        offset 0
    ) m
    where (m.sort_name, m.contact_id) > (after_name, after_id)
    order by m.sort_name, m.contact_id
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
    -- before the first: no name is less than none
    given jsonb := '{"name": "", "id": "00000000-0000-0000-0000-000000000000"}';
    ids uuid[];
    names text[];
    next_cursor text;
    contacts jsonb;
begin
    if length(query) > 200 then
        raise sqlstate 'PT422' using
            message = 'The query is too long.',
            detail = 'field: query',
            hint = 'At most 200 characters.';
    elsif page_size is null or page_size not between 1 and 200 then
        raise sqlstate 'PT422' using
            message = 'This is no size of a page.',
            detail = 'field: page_size',
            hint = 'From 1 to 200.';
    elsif search_contacts.cursor is not null then
        given := private.read_search_cursor(search_contacts.cursor);
        if given is null then
            raise sqlstate 'PT400' using
                message = 'This is not a cursor of search_contacts.',
                detail = 'field: cursor',
                hint = 'Send the cursor of the last answer unchanged, or none to start anew.';
        end if;
    end if;

    select
        array_agg(p.contact_id order by p.sort_name collate "C", p.contact_id),
        array_agg(p.sort_name order by p.sort_name collate "C", p.contact_id)
    into ids, names
    from private.search_page(
        account_id => search_contacts.account_id,
        patterns => private.search_patterns(coalesce(search_contacts.query, '')),
        after_name => given ->> 'name',
        after_id => (given ->> 'id')::uuid,
        -- one more tells whether there is a next page
        page_size => search_contacts.page_size + 1
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
        -- one by one, whatever the planner expects of the policies
        limit 1
    ) v;

    return jsonb_build_object('contacts', contacts, 'cursor', next_cursor);
end
$$;

grant execute on function public.search_contacts(uuid, text, text, integer) to authenticated;


comment on function private.search_patterns(text) is
    'A query''s words as patterns, the longest first; what looks like a phone number is one word of digits.';
comment on function private.search_page(uuid, text[], text, uuid, integer) is
    'A page of an account''s contacts that match every pattern, by name; refuses those who do not work for it.';
comment on function private.read_search_cursor(text) is
    'The fields of a cursor of search_contacts; null where it is none.';
comment on function public.search_contacts(uuid, text, text, integer) is
    'Contacts by name, username, email, phone and tags, whatever case and accents: every word of the query is part of one of them (with one or two letters, its beginning), and a phone number is found in any spelling. Answers {contacts, cursor}: rows of contacts_v2 in the order of their names, and the cursor of the next page, null at the end. An empty query lists all. At most 200 characters and 200 rows; not a member: 404.';


/*
    The list of conversations, for either side: staff see their account's, a customer their own.
    A contact that is deleted is no customer any more, which leaves its conversations out.

    Everything is looked up for the activity of one conversation, in the order of
    conversation_activity_inbox_idx. The limits of one tell the planner that there is one row:
    from the policies it expects so few that it would read all, to sort them.
*/
create view public.inbox
    with (security_invoker = true)
as
select
    a.conversation_id as id,
    a.account_id,
    a.customer_id,
    k.channel,
    k.whatsapp_channel_id,
    k.customer_wa_id,
    k.status,
    c.name as customer_name,
    a.last_seq,
    a.last_message_at,
    a.last_inbound_at,
    m.message as last_message,
    m.type as last_message_type,
    m.sender_type as last_sender_type,
    m.sender_name as last_sender_name,
    m.status as last_message_status,
    r.last_read_seq,
    u.unread_count,
    k.created_at,
    k.version
from public.conversation_activity a
cross join lateral (
    select o.channel, o.whatsapp_channel_id, o.customer_wa_id, o.status, o.created_at, o.version
    from public.conversations o
    where o.id = a.conversation_id
    limit 1
) k
cross join lateral (
    select o.name
    from public.customers o
    where o.id = a.customer_id
    limit 1
) c
left join public.messages m
    on m.conversation_id = a.conversation_id
   and m.seq = a.last_seq
left join lateral (
    select o.last_read_seq
    from public.read_markers o
    where o.conversation_id = a.conversation_id
      and o.user_id = (select auth.uid())
    limit 1
) marker
    on true
cross join lateral (
    -- a case, since Postgres takes coalesce for a leak, and under row level security would
    -- count through the conversation from its beginning
    select case when marker.last_read_seq is null then 0 else marker.last_read_seq end
) as r (last_read_seq)
cross join lateral (
    select count(*)::integer as unread_count
    from (
        select
        from public.messages n
        where n.conversation_id = a.conversation_id
          and n.seq > r.last_read_seq
          -- what the other side has written
          and n.sender_type = any (
              case
                  when a.account_id = any (array(select private.my_account_ids()))
                      then array['client']
                  else array['operator', 'system']
              end
          )
        -- shown as 99+, and no more work than that
        limit 100
    ) n
) u;


grant select on public.inbox to authenticated;


comment on view public.inbox is
    'Conversations with what a list of them shows. Ask for one account_id, or as a customer for one customer_id; sort by last_message_at (descending) and id.';
comment on column public.inbox.id is
    'The conversation.';
comment on column public.inbox.customer_id is
    'The contact with whom it is held.';
comment on column public.inbox.customer_name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.inbox.status is
    'open, pending or closed; written by set_conversation_status.';
comment on column public.inbox.last_seq is
    'The seq of the latest message; 0 before the first.';
comment on column public.inbox.last_message is
    'The text of the latest message, or a placeholder such as [image].';
comment on column public.inbox.last_read_seq is
    'How far the signed-in user has read, see mark_read.';
comment on column public.inbox.unread_count is
    'Messages of the other side that the signed-in user has not read; 100 stands for all above 99.';


/*
    A conversation's status, written directly: not every conversation is its contact's current
    one, to which the faces of contacts write.
*/
create function private.write_conversation_status(conversation_id uuid, word text, face text)
    returns void
    language plpgsql
    -- definer: conversations are written by those who may
    security definer
    set search_path = ''
as $$
declare
    account uuid;
begin
    -- the contact stays until the status is written
    select k.account_id
    into account
    from public.conversations k
    join public.contacts c
        on c.id = k.customer_id
       and c.account_id = k.account_id
    where k.id = write_conversation_status.conversation_id
      and k.account_id in (select private.my_account_ids())
      and c.deleted_at is null
    for share of c;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to change.',
            detail = format('conversation: %s', conversation_id);
    end if;

    perform private.require_writable(account);
    perform private.set_conversation_status(
        conversation_id => write_conversation_status.conversation_id,
        status => private.status_of_word(face => write_conversation_status.face, word => word)
    );
end
$$;

grant execute on function private.write_conversation_status(uuid, text, text) to authenticated;


create function public.set_conversation_status(
    conversation_id uuid,
    status text,
    face text default 'contacts_page'
)
    returns text
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.write_conversation_status(
        conversation_id => conversation_id, word => status, face => face);
    return status;
end
$$;

grant execute on function public.set_conversation_status(uuid, text, text) to authenticated;


comment on function private.write_conversation_status(uuid, text, text) is
    'Writes a conversation''s status in the words of a face; refuses whoever may not.';
comment on function public.set_conversation_status(uuid, text, text) is
    'Opens, suspends or closes a conversation, in the words of a face (contacts_page, live_chat, wati, portal, erp); answers the word. Another open conversation with the same person: 409; not a member: 404.';


insert into private.contact_search (contact_id, account_id, sort_name, words)
select
    c.id,
    c.account_id,
    private.sort_name(
        name => coalesce(c.name, c.profile_name),
        username => c.username,
        email => c.email,
        phone => c.phone
    ),
    private.search_words(
        name => coalesce(c.name, c.profile_name),
        username => c.username,
        email => c.email,
        phone => c.phone,
        tags => c.tags
    )
from public.contacts c
where c.deleted_at is null;
