/*
    Short words are found by an index of beginnings, whatever the statistics say. A customer
    whose login goes loses the desk's topic as well; imports tell staff once, at their end;
    conversations are marked as read in the order of locks.
*/
drop function backend.import_contacts(text, jsonb, boolean);

create function private.write_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    read_conversation record;
    former bigint;
    reached bigint;
begin
    -- it stays this contact's until the marker is written
    select k.account_id, k.customer_id, k.channel
    into read_conversation
    from public.conversations k
    where k.id = write_read_marker.conversation_id
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

    select r.last_read_seq
    into former
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

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
    where a.conversation_id = write_read_marker.conversation_id
    on conflict on constraint read_markers_pkey do update
        set last_read_seq = excluded.last_read_seq,
            read_at = excluded.read_at
        where excluded.last_read_seq > r.last_read_seq;

    select r.last_read_seq
    into reached
    from public.read_markers r
    where r.conversation_id = write_read_marker.conversation_id
      and r.user_id = reader;

    -- what WhatsApp carries WhatsApp says the status of
    if read_conversation.channel <> 'whatsapp' and reached > coalesce(former, 0) then
        perform private.receipt_messages(
            conversation_id => write_read_marker.conversation_id,
            after_seq => coalesce(former, 0),
            up_to_seq => reached,
            senders => case
                when read_conversation.account_id in (select private.my_writable_account_ids())
                    then array['client']
                -- viewers look: that one of them has seen it is no answer of the business
                when read_conversation.account_id in (select private.my_account_ids())
                    then '{}'
                else array['operator', 'system']
            end
        );
    end if;
    return reached;
end
$$;

create function private.write_read_marker_at_once(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    set search_path = ''
    -- the least that is a limit
    set lock_timeout = '1ms'
as $$
begin
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
exception
    when lock_not_available then
        raise sqlstate 'PT503' using
            message = 'Somebody else is changing this conversation.',
            detail = format('conversation: %s', conversation_id),
            hint = 'Try again; of several in one transaction, read them in the order of their ids.';
end
$$;

create or replace function private.move_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    -- definer: markers are written here alone, each reader's own
    security definer
    set search_path = ''
as $$
declare
    -- an empty text once another transaction of the session has had one
    furthest constant uuid := nullif(current_setting('rapport.read_conversation', true), '');
begin
    -- Conversations are locked in the order of their ids. A transaction that has a later one does
    -- not wait for this: whoever holds it may be waiting for that.
    if conversation_id < furthest then
        return private.write_read_marker_at_once(
            conversation_id => conversation_id, up_to_seq => up_to_seq);
    end if;
    perform set_config('rapport.read_conversation', conversation_id::text, true);
    return private.write_read_marker(conversation_id => conversation_id, up_to_seq => up_to_seq);
end
$$;

comment on function private.write_read_marker(uuid, bigint) is
    'Moves the caller''s marker forward, never beyond the latest message; returns where it stands.';

comment on function private.write_read_marker_at_once(uuid, bigint) is
    'The same without waiting for anybody; refused where it would have to.';

comment on function private.move_read_marker(uuid, bigint) is
    'Moves the caller''s marker; of several in one transaction it waits for those alone that are in the order of their ids.';

comment on function public.mark_read(uuid, bigint) is
    'Says that the caller has read a conversation up to this seq: forward only, and no further than its latest message. In the portal and about bookings the other side''s messages become read, unless by a viewer. Staff, viewers too, and the conversation''s customer; returns the seq up to which it now counts as read. Unknown: 404. Of several in one transaction, one out of the order of their ids that somebody is changing: 503.';

/*
    The topics by which people see each other. On them clients do send, each side on its own,
    and the other one listens:

        presence:desk:<account>:<epoch>             staff who are there; customers look on: an
                                                    epoch of its own, see desk_epochs
        presence:staff:<conversation>:<epochs>      staff who are in a conversation
        presence:customer:<conversation>:<epochs>   its customer
        typing:staff:<conversation>:<epochs>        staff who are writing, as broadcasts
        typing:customer:<conversation>:<epochs>     its customer

    What is sent there is a sign, not data: whoever may send may send anything. A sign is its
    topic's side's, and names come from conversation_people. A customer's topics are of one
    conversation, so that no customer sees another.
*/
create or replace function private.desk_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.desk_topic(
        account_id => desk_topic.account_id,
        epoch => private.desk_epoch(account_id)
    );
end
$$;

comment on function public.my_topics(uuid) is
    'The private topics you may join, by kind: your accounts'' (account), your own as a customer (customer), and the given conversation''s (conversation), all of them read-only; who is at the desk (presence_desk), in the conversation (presence_staff, presence_customer) and writing there (typing_staff, typing_customer), on which you send as your own side. Ask again when a join is refused, and on the event topics.changed, which those who look at a desk hear there: names change when somebody leaves.';

/*
    How often a customer has lost the desk of an account. Apart from topic_epochs: the account's
    epoch is part of the names of all its conversations, and those need no other name because
    one of many customers is gone.
*/
create table private.desk_epochs (
    account_id uuid primary key
               constraint desk_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.desk_epochs enable row level security;

create policy "nobody reads desk epochs directly"
    on private.desk_epochs
    for all
    to authenticated
    using (false);

create function private.desk_epoch(account_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- both only rise, so that a sum never comes twice
    return private.topic_epoch(account_id) + coalesce((
        select e.epoch
        from private.desk_epochs e
        where e.account_id = desk_epoch.account_id
    ), 0);
end
$$;

create function private.desk_topic(account_id uuid, epoch integer)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return 'presence:desk:' || account_id || ':' || epoch;
end
$$;

comment on table private.desk_epochs is
    'How often a customer''s login left the desk of an account; absent means never.';
comment on policy "nobody reads desk epochs directly" on private.desk_epochs is
    'Names of topics come from my_topics.';
comment on function private.desk_epoch(uuid) is
    'The epoch of an account''s desk: it rises with every member and every customer''s login that leaves.';
comment on function private.desk_topic(uuid, integer) is
    'The name that the desk of an account has, or had, in an epoch.';

/*
    What a transaction of many small statements tells at its end, from its entries in the log.
    An import gives each row a statement and a savepoint of its own: told as they are written,
    200 new contacts were 400 messages.

    With the setting rapport.broadcast_later on, broadcast_changes is silent; whoever turns it on
    for their transaction calls this, and turns it off again.
*/
create function private.tg_customers__raise_desk_epoch()
    returns trigger
    language plpgsql
    -- definer: desk epochs are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    raised integer;
begin
    -- once in a transaction, however many logins go
    if current_setting('rapport.desk_raised', true) = old.account_id::text
        -- a merge has given the login to another contact of the account
        or exists (
            select
            from public.customers c
            where c.account_id = old.account_id
              and c.portal_user_id = old.portal_user_id
        )
        -- the account itself is being deleted
        or not exists (select from public.accounts a where a.id = old.account_id)
    then
        return null;
    end if;

    insert into private.desk_epochs as e (account_id)
    values (old.account_id)
    on conflict (account_id) do update
        set epoch = e.epoch + 1
    returning e.epoch into raised;
    perform set_config('rapport.desk_raised', old.account_id::text, true);

    -- staff are told on their own topic. An account may have 50,000 customers: those who look at
    -- the desk are told there, all at once, and so is the one who goes, that it has another name
    perform private.broadcast_to(
        topics => array[private.desk_topic(
            account_id => old.account_id,
            epoch => private.topic_epoch(old.account_id) + raised - 1
        )],
        event => 'topics.changed',
        payload => '{}'
    );
    return null;
end
$$;

-- At the end of the transaction: all who unlink a customer of an account meet in one row, and
-- whoever waits there waits with no other lock still to take.
create constraint trigger _510_raise_desk_epoch_update
    after update of portal_user_id on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg_customers__raise_desk_epoch();

create constraint trigger _510_raise_desk_epoch_delete
    after delete on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null)
    execute function private.tg_customers__raise_desk_epoch();

comment on function private.tg_customers__raise_desk_epoch() is
    'Renames the topic of the desk that a customer can no longer look at, and tells those who look at it.';

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

alter table private.contact_search set (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02
);

-- One letter or two are no trigram of their own, and to trigrams every @ and every dot begins a
-- word: asked for gm, they would answer with everybody at gmail.com. Without the beginning of the
-- name by which the list is sorted: those who have that stand beside each other.
create index contact_search_beginnings_idx
    on private.contact_search
    using gin (account_id, (private.inner_beginnings(words, sort_name)))
    with (fastupdate = off);

-- plans do without them, and each analyze would call the function 30,000 times
alter index private.contact_search_beginnings_idx alter column 2 set statistics 0;

comment on function private.inner_beginnings(text, text) is
    'The beginnings of words, the first letter and the first two of each, but for those of the sorted name.';

/*
    What is looked for, as patterns of words.
*/
create or replace function private.search_patterns(query text)
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

create function private.asked_beginning(patterns text[])
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case when cardinality(patterns) = 1
        then regexp_replace(substring(patterns[1] from '^% (.*)%$'), '\\(.)', '\1', 'g')
    end;
end
$$;

comment on function private.search_patterns(text) is
    'A query''s words as patterns, the longest first; what looks like a phone number is one word of digits.';
comment on function private.asked_beginning(text[]) is
    'The one beginning of a word that is asked for; null where patterns ask for more.';

/*
    Search, in two halves. Text operators are not leakproof, so that under row level security
    no trigram index is ever used: a definer function checks the caller first and finds ids,
    and an invoker function reads those rows as the caller.
*/
create or replace function private.search_page(
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
as $$
declare
    beginning constant text := private.asked_beginning(patterns);
    -- in a list of names beginnings come in lumps: those of surnames once for each first name
    steps integer := case when patterns[1] like '\% %' then 4000 else 1000 end;
    walks integer := 1;
    met integer := 0;
    last_name text := after_name;
    last_id uuid := after_id;
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;

    -- A frequent word is met often enough on a walk along the list, while sorting all that have
    -- it would take longer. A rare one is not, and an index of words finds it sooner.
    loop
        for contact_id, sort_name in
            select w.contact_id, w.sort_name
            from private.walk_search_list(
                account_id => search_page.account_id,
                patterns => patterns,
                after_name => after_name,
                after_id => after_id,
                steps => steps,
                page_size => page_size - met
            ) w
        loop
            return next;
            met := met + 1;
            last_name := sort_name;
            last_id := contact_id;
        end loop;
        if met = page_size or patterns = '{}' then
            return;
        end if;
        -- the index of beginnings costs less than to look how far the walk came
        exit when beginning is not null;

        select p.after_name, p.after_id
        into last_name, last_id
        from private.search_list_place(
            account_id => search_page.account_id,
            after_name => after_name,
            after_id => after_id,
            steps => steps
        ) p;
        if last_id is null then
            return;
        end if;
        -- on once more, half as far again as should fill the page, unless that is too far
        exit when walks = 2 or met * 4 < page_size;
        after_name := last_name;
        after_id := last_id;
        steps := least(steps * 3 / 2 * (page_size - met) / met, 3000);
        walks := 2;
    end loop;

    return query
    select m.contact_id, m.sort_name
    from (
        select w.contact_id, w.sort_name
        from private.search_by_words(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) w
        union all
        select n.contact_id, n.sort_name
        from private.search_by_name(
            account_id => search_page.account_id,
            patterns => patterns,
            after_name => last_name,
            after_id => last_id,
            page_size => page_size - met
        ) n
    ) m
    -- what comes out of a function has lost the list's collation
    order by m.sort_name collate "C", m.contact_id
    limit page_size - met;
end
$$;

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

create or replace function backend.import_contacts(
    account text,
    contacts jsonb,
    dry_run boolean default false,
    quiet boolean default false
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    -- rows are looked up by key, one at a time: one plan does for all, and not the one that
    -- was best while the tables were empty
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    -- the price that the planner puts on what is off must not look like work worth compiling
    set jit = off
as $$
declare
    owner_id constant uuid := private.account_named(import_contacts.account);
    lock_timeout constant text := current_setting('lock_timeout');
    given record;
    result jsonb;
    results jsonb := '{}';
begin
    if jsonb_typeof(contacts) is distinct from 'array'
        or contacts @? 'strict $[*] ? (@.type() != "object")'
    then
        raise sqlstate 'PT422' using
            message = 'Contacts are a list of objects.',
            detail = 'field: contacts';
    elsif jsonb_array_length(contacts) > 200 then
        raise sqlstate 'PT422' using
            message = 'These are too many contacts for one call.',
            detail = 'field: contacts',
            hint = 'At most 200.';
    end if;

    if quiet or jsonb_array_length(contacts) > 100 then
        perform set_config('rapport.broadcast_later', 'on', true);
    end if;
    begin
        -- in the order of the identities' locks, whatever the file's: two imports queue
        for given in
            select g.contact, g.place
            from jsonb_array_elements(contacts) with ordinality as g (contact, place)
            left join lateral (
                select k.key as kind, private.match_key(kind => k.key, value => k.value) as match_key
                from jsonb_each_text(g.contact) k
                where k.key in ('id', 'email', 'phone', 'username')
                order by k.key
                limit 1
            ) first_key
                on true
            order by first_key.kind, first_key.match_key, g.place
        loop
            result := private.try_import_row(
                account_id => owner_id, contact => given.contact);
            results := results || jsonb_build_object(given.place::text, result);
            if result ->> 'outcome' not in ('unchanged', 'refused') then
                -- a row's locks are in order, those of several are not: from the second on it
                -- gives way long before it could be part of a deadlock
                perform set_config('lock_timeout', '400ms', true);
            end if;
        end loop;
        if dry_run then
            raise sqlstate 'RP001';
        end if;
        if quiet or jsonb_array_length(contacts) > 100 then
            -- customers hear of theirs at once, staff perhaps when all calls are made
            perform private.broadcast_logged(account_id => owner_id, to_staff => not quiet);
        end if;
    exception
        when sqlstate 'RP001' then
            null;
        when lock_not_available then
            raise sqlstate 'PT503' using
                message = 'Others are writing some of these contacts.',
                hint = 'Try again.';
    end;
    perform set_config('lock_timeout', lock_timeout, true);
    perform set_config('rapport.broadcast_later', 'off', true);

    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'row', r.key::integer,
                    'outcome', r.value -> 'outcome',
                    -- what was made in a trial is gone
                    'contact_id', case
                        when dry_run and r.value ->> 'outcome' = 'created' then null
                        else r.value -> 'contact_id'
                    end,
                    'field', r.value -> 'field',
                    'reason', r.value -> 'reason'
                )
                order by r.key::integer
            ),
            '[]'
        )
        from jsonb_each(results) r
    );
end
$$;

grant execute on function backend.import_contacts(text, jsonb, boolean, boolean) to service_role;

create function backend.announce_import(account text)
    returns void
    language plpgsql
    -- definer, as import_contacts
    security definer
    set search_path = ''
as $$
begin
    perform private.broadcast_to(
        topics => array[private.account_topic(private.account_named(announce_import.account))],
        event => 'resync',
        payload => jsonb_build_object('tables', array['contacts', 'conversations', 'customers'])
    );
end
$$;

grant execute on function backend.announce_import(text) to service_role;

comment on function backend.import_contacts(text, jsonb, boolean, boolean) is
    'Writes up to 200 contacts, in the contacts page''s words: [{row, outcome, contact_id, field, reason}] by their places from 1; outcome is created, updated, unchanged, refused or ambiguous. A dry run undoes it all. Repeating it changes nothing. quiet leaves it to announce_import to tell staff.';

comment on function backend.announce_import(text) is
    'Tells an account''s staff once that contacts were imported: who follows them reads again.';
