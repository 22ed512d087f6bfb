/*
    Erases all that is known of a person, in steps that each take about a second. A step and its
    place are one transaction, so an erasure that was cut off goes on where it was.

        rows        the entries of personal_tables, in their order
        partners    a call that may have made a partner at Metakocka has no outcome yet: the sync
                    finds it, then rows goes on with what the sync has written meanwhile
        files       the worker removes them from the bucket, and says so
        statistics  samples of columns, which Postgres keeps for its planner
        search      the whole database, for the words of the person

    What it writes is told by ids alone: a broadcast of a deletion would hold the deleted row.
*/
create function private.refuse_held(contact_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if private.is_held(contact_id) then
        raise sqlstate 'PT409' using
            message = 'This contact is under a legal hold, and nothing of it may be deleted.',
            detail = format('field: contact_id; contact: %s', contact_id),
            hint = 'An owner ends the hold with release_contact.';
    end if;
end
$$;


create function private.words_of(p private.person, out words text[], out kinds text[])
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- shorter ones are found everywhere; of the person's messages the longest are enough, since a
    -- search for thousands would take hours
    with own as materialized (
        select c.*
        from public.contacts c
        where c.id = any (p.contact_ids)
    ),
    said as (
        select distinct m.message, m.sender_name
        from public.messages m
        where m.id in (select private.messages_of(p))
          and m.sender_type = 'client'
    ),
    found as (
        select w.word, w.kind
        from own o
        cross join lateral (
            values
                (o.name, 'name'),
                (o.profile_name, 'name'),
                (o.email, 'email'),
                (o.username, 'username'),
                (o.tax_id_number, 'tax_number')
        ) as w (word, kind)
        union
        select e.value ->> 'name', 'name'
        from public.contact_merges g
        cross join lateral (values (g.kept_before), (g.dropped_before)) as e (value)
        where g.kept_contact_id = any (p.contact_ids)
          and g.undone_at is null
        union
        select i.value, i.kind
        from public.contact_identities i
        where i.contact_id = any (p.contact_ids)
          and i.account_id = p.account_id
          and i.kind in ('email', 'username')
        union
        select ltrim(i, '+'), 'number'
        from unnest(p.ids) i
        union
        select u.email, 'email'
        from auth.users u
        where u.id = any (p.user_ids)
        union
        select s.sender_name, 'name'
        from said s
        union
        select l.message, 'message'
        from (
            select s.message
            from said s
            -- the text that stands for a file
            where s.message !~ '^\[\w+\]$'
            order by length(s.message) desc
            limit 100
        ) l
    ),
    usable as (
        -- as it stands in the text of a row
        select distinct on (t.word) t.word, f.kind
        from found f
        cross join lateral (
            select substr(j.word, 2, length(j.word) - 2)
            from (select lower(to_jsonb(btrim(f.word))::text)) as j (word)
        ) as t (word)
        where length(t.word) >= case f.kind
            when 'message' then 12
            when 'number' then 7
            when 'email' then 5
            else 3
        end
        -- a first name that others have too says nothing
        and (
            f.kind <> 'name'
            or t.word ~ '\s'
            or not exists (
                select
                from private.contact_search o
                where o.account_id = p.account_id
                  and o.contact_id <> all (p.contact_ids)
                  and o.words like '% ' || private.fold(t.word) || ' %'
            )
        )
        order by t.word, f.kind
    )
    select coalesce(array_agg(u.word), '{}'), coalesce(array_agg(u.kind), '{}')
    into words, kinds
    from usable u;
end
$$;


create function private.forget_messages(p private.person)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.erased_messages (whatsapp_channel_id, message_hash)
    select m.whatsapp_channel_id, private.message_hash(m.provider_id)
    from private.provider_ids_of(p) m
    where m.whatsapp_channel_id is not null
    on conflict do nothing;
end
$$;


create function private.begin_erasure(account_id uuid, contact_id uuid)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => begin_erasure.account_id, contact_id => begin_erasure.contact_id);
    begun public.privacy_actions;
    p private.person;
    told record;
begin
    -- two that begin at once, and one that holds the contact meanwhile
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    perform private.refuse_held(kept);
    select a.*
    into begun
    from public.privacy_actions a
    where a.contact_id = kept
      and a.state = 'running';
    if found then
        return begun;
    end if;

    perform set_config('rapport.broadcast_later', 'on', true);
    -- so that nothing comes in or goes out any more, and the person's next message is a new contact's
    perform private.lock_contacts(
        account_id => begin_erasure.account_id, contact_ids => array[kept]);
    p := private.person_of(account_id => begin_erasure.account_id, contact_id => kept);
    told := private.words_of(p);
    if told.words = '{}' then
        -- erased before: without a word to search for, a second record would say that none is left
        select a.*
        into begun
        from public.privacy_actions a
        where a.contact_id = kept
          and a.action = 'erase'
        order by a.created_at desc
        limit 1;
        if found then
            return begun;
        end if;
    end if;
    if exists (select from public.contacts c where c.id = kept and c.deleted_at is null) then
        perform private.delete_contact(
            account_id => begin_erasure.account_id, contact_id => kept);
    end if;
    perform private.forget_partner_ids(
        account_id => begin_erasure.account_id, metakocka_ids => p.partner_ids);
    perform private.forget_messages(p);

    insert into public.privacy_actions (account_id, contact_id, action, user_id, state, finished_at)
    values (begin_erasure.account_id, kept, 'erase', auth.uid(), 'running', null)
    returning *
    into begun;
    insert into private.erasures (action_id, person, words, word_kinds)
    values (begun.id, to_jsonb(p), told.words, told.kinds);

    perform private.broadcast_logged(begin_erasure.account_id);
    perform set_config('rapport.broadcast_later', 'off', true);
    return begun;
end
$$;


create function private.leaves_of(table_name text)
    returns table (leaf oid, blocks bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        select t.relid::oid, pg_relation_size(t.relid) / current_setting('block_size')::bigint
        from pg_partition_tree(to_regclass(table_name)) t
        where t.isleaf
        union all
        -- a table without partitions is in no tree
        select c.oid, pg_relation_size(c.oid) / current_setting('block_size')::bigint
        from pg_catalog.pg_class c
        where c.oid = to_regclass(table_name)
          and c.relkind in ('r', 'm')
          and not c.relispartition
        order by 1;
end
$$;


create function private.next_blocks(
    table_name text,
    cursor jsonb,
    out leaf oid,
    out first_row tid,
    out last_row tid,
    out next_cursor jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- half a megabyte, without what is stored apart from the rows
    step constant bigint := 64;
    from_leaf constant oid := coalesce((cursor ->> 'leaf')::oid, 0);
    from_block bigint := coalesce((cursor ->> 'block')::bigint, 0);
begin
    select l.leaf
    into next_blocks.leaf
    from private.leaves_of(table_name) l
    where l.leaf > from_leaf
       or l.leaf = from_leaf and l.blocks > from_block
    order by l.leaf
    limit 1;
    if next_blocks.leaf is distinct from from_leaf then
        from_block := 0;
    end if;
    first_row := format('(%s,0)', from_block)::tid;
    last_row := format('(%s,0)', from_block + step)::tid;
    if next_blocks.leaf is not null then
        next_cursor := jsonb_build_object('leaf', next_blocks.leaf, 'block', from_block + step);
    end if;
end
$$;


create function private.erase_rows(
    entry private.personal_tables,
    p private.person,
    action_id uuid,
    cursor jsonb,
    out affected bigint,
    out next_cursor jsonb
)
    language plpgsql
    set search_path = ''
as $$
declare
    leaf oid;
    first_row tid;
    last_row tid;
    due text;
begin
    due := format(
        'array(select r.ctid from %1$s r cross join (select $1 as self, ($1).*) p where (%2$s) and (%3$s)',
        entry.table_name, entry.condition, coalesce(entry.to_do, 'true'));
    if entry.walks then
        select b.leaf, b.first_row, b.last_row, b.next_cursor
        into leaf, first_row, last_row, next_cursor
        from private.next_blocks(table_name => entry.table_name, cursor => erase_rows.cursor) b;
        if leaf is null then
            affected := 0;
            return;
        end if;
        due := due || ' and r.tableoid = $3 and r.ctid >= $4 and r.ctid < $5 for update of r)';
    else
        due := due || ' limit 500 for update of r)';
    end if;

    if entry.treatment = 'change' then
        execute format(
            'with changed as ('
            ' update %1$s r set %2$s from (select $1 as self, ($1).*) p'
            ' where r.ctid = any (%3$s)%4$s returning 1)'
            ' select count(*) from changed',
            entry.table_name,
            entry.assignments,
            due,
            case when entry.walks then ' and r.tableoid = $3' end
        )
        into affected
        using p, action_id, leaf, first_row, last_row;
    else
        execute format(
            'with gone as ('
            ' delete from %1$s d where d.ctid = any (%2$s)%3$s returning %4$s as object_key),'
            ' files as ('
            ' insert into private.erased_files (action_id, object_key)'
            ' select distinct $2, g.object_key from gone g where g.object_key is not null'
            ' on conflict do nothing)'
            ' select count(*) from gone',
            entry.table_name,
            due,
            case when entry.walks then ' and d.tableoid = $3' end,
            case
                when entry.table_name in ('public.message_media', 'private.media_uploads')
                    then 'd.object_key'
                else 'null::text'
            end
        )
        into affected
        using p, action_id, leaf, first_row, last_row;
    end if;
    if not entry.walks and affected > 0 then
        -- there may be more
        next_cursor := '{}';
    end if;
end
$$;


create function private.is_partner_awaited(p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- without a connection no sync brings the partner back
    return exists (
        select
        from private.partner_intents i
        join public.metakocka_connections k
            on k.account_id = i.account_id
        where i.contact_id = any (p.contact_ids)
          and private.may_make_partner(i)
    );
end
$$;


/*
    What an erasure may still take. Since it began, another account may have taken a login, and the
    sync may have found a partner. What is locked here stays so to the end of the step.
*/
create function private.renewed_person(p private.person)
    returns private.person
    language plpgsql
    set search_path = ''
as $$
declare
    renewed private.person := p;
    made text[];
begin
    -- a foreign key to a login waits for this, and then finds the login, or none
    perform
    from auth.users u
    where u.id = any (p.user_ids)
    order by u.id
    for update;
    renewed.user_ids := array(
        select u
        from unnest(p.user_ids) u
        where not private.is_login_of_others(user_id => u, contact_ids => p.contact_ids)
    );

    perform
    from private.partner_intents i
    where i.contact_id = any (p.contact_ids)
    order by i.id
    for update;
    made := array(
        select i.metakocka_id
        from private.partner_intents i
        where i.contact_id = any (p.contact_ids)
          and i.metakocka_id is not null
        union
        select m.metakocka_id
        from public.metakocka_contact_mappings m
        where m.contact_id = any (p.contact_ids)
          and m.metakocka_id is not null
        -- a person may ask for one that was forgotten before
        except
        select i
        from unnest(p.partner_ids) i
    );
    perform private.forget_partner_ids(account_id => p.account_id, metakocka_ids => made);
    renewed.partner_ids := p.partner_ids || made;
    return renewed;
end
$$;


create function private.erase_some_rows(inout erasure private.erasures, out counts jsonb)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    p constant private.person := private.renewed_person(
        jsonb_populate_record(null::private.person, erasure.person));
    entry private.personal_tables;
    done record;
begin
    counts := '{}';
    erasure.person := to_jsonb(p);
    while clock_timestamp() < started + interval '1 second'
        -- a login goes as a whole
        or entry.table_name like 'auth.%' and entry.table_name <> 'auth.users' and not entry.walks
    loop
        if erasure.cursor is null then
            select t.*
            into entry
            from private.personal_tables t
            where t.place > erasure.place
              and t.treatment in ('delete', 'change')
              and to_regclass(t.table_name) is not null
            order by t.place
            limit 1;
            if not found then
                erasure.place := 0;
                if private.is_partner_awaited(p) then
                    erasure.step := 'partners';
                    return;
                end if;
                -- without a connection nobody awaits the outcome of a call any more
                delete from private.partner_intents i
                where i.contact_id = any (p.contact_ids);
                erasure.step := 'files';
                -- one file may have been sent to several people
                delete from private.erased_files e
                using public.message_media f
                where e.action_id = erasure.action_id
                  and f.object_key = e.object_key;
                return;
            end if;
            erasure.place := entry.place;
        else
            select t.*
            into entry
            from private.personal_tables t
            where t.place = erasure.place;
        end if;
        done := private.erase_rows(
            entry,
            p => p,
            action_id => erasure.action_id,
            cursor => nullif(erasure.cursor, '{}')
        );
        erasure.cursor := done.next_cursor;
        if done.affected > 0 then
            counts := counts || jsonb_build_object(
                entry.table_name,
                coalesce((counts -> entry.table_name)::bigint, 0) + done.affected
            );
        end if;
    end loop;
end
$$;


create function private.renew_some_statistics(inout erasure private.erasures)
    language plpgsql
    set search_path = ''
as $$
declare
    started constant timestamptz := clock_timestamp();
    sampled record;
begin
    -- the most frequent values of a column, and some others, are kept for the planner
    while clock_timestamp() < started + interval '1 second' loop
        select c.oid, c.oid::regclass as name
        into sampled
        from private.personal_tables t
        join pg_catalog.pg_class c
            on c.oid = to_regclass(t.table_name)
           -- of the platform's tables autovacuum renews them
           and pg_has_role(c.relowner, 'usage')
        where t.treatment in ('delete', 'change')
          and c.oid > erasure.place
        order by c.oid
        limit 1;
        if not found then
            erasure.step := 'search';
            erasure.place := 0;
            return;
        end if;
        execute format('analyze %s', sampled.name);
        erasure.place := sampled.oid;
    end loop;
end
$$;


create function private.erase_some(action_id uuid)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    action public.privacy_actions;
    erasure private.erasures;
    erased jsonb := '{}';
    stepped record;
begin
    -- another worker may have it, and both go on in turn
    select a.*
    into action
    from public.privacy_actions a
    where a.id = erase_some.action_id
      and a.action = 'erase'
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such erasure.',
            detail = 'field: action_id';
    elsif action.state = 'done' then
        return action;
    end if;
    perform private.refuse_held(action.contact_id);
    select e.*
    into erasure
    from private.erasures e
    where e.action_id = action.id;

    if erasure.step = 'rows' then
        perform set_config('rapport.broadcast_later', 'on', true);
        perform set_config('rapport.erasing', 'on', true);
        stepped := private.erase_some_rows(erasure);
        erasure := stepped.erasure;
        erased := stepped.counts;
        perform private.broadcast_logged(action.account_id);
        perform set_config('rapport.erasing', 'off', true);
        perform set_config('rapport.broadcast_later', 'off', true);
    elsif erasure.step = 'partners' then
        if not private.is_partner_awaited(
            jsonb_populate_record(null::private.person, erasure.person))
        then
            erasure.step := 'rows';
            erasure.place := (
                select min(t.place) - 1
                from private.personal_tables t
                where t.table_name in (
                    'public.sync_conflicts', 'public.sync_errors', 'private.partner_intents'
                )
            );
        end if;
    elsif erasure.step = 'files' then
        if not exists (
            select
            from private.erased_files f
            where f.action_id = action.id
        ) then
            erasure.step := 'statistics';
        end if;
    elsif erasure.step = 'statistics' then
        erasure := private.renew_some_statistics(erasure);
    else
        erasure := private.search_some_words(erasure);
        if erasure.step is null then
            return private.finish_erasure(action, erasure);
        end if;
    end if;

    update private.erasures e
    set person = erasure.person,
        step = erasure.step,
        place = erasure.place,
        cursor = erasure.cursor,
        found = erasure.found
    where e.action_id = action.id;
    if erased <> '{}' then
        update public.privacy_actions a
        set counts = a.counts || (
            select jsonb_object_agg(
                c.key, c.value::bigint + coalesce((a.counts -> c.key)::bigint, 0))
            from jsonb_each(erased) c
        )
        where a.id = action.id
        returning * into action;
    end if;
    return action;
end
$$;


create function private.finish_erasure(action public.privacy_actions, erasure private.erasures)
    returns public.privacy_actions
    language plpgsql
    set search_path = ''
as $$
declare
    finished public.privacy_actions;
begin
    insert into private.found_words (action_id, found)
    select action.id, jsonb_agg(f)
    from jsonb_array_elements(erasure.found) f
    where f ->> 'table' !~ '^(public|private)\.'
    having count(*) > 0;
    update public.privacy_actions a
    set state = 'done',
        finished_at = clock_timestamp(),
        remaining = (
            select coalesce(jsonb_agg(f), '[]')
            from jsonb_array_elements(erasure.found) f
            where f ->> 'table' ~ '^(public|private)\.'
        )
    where a.id = action.id
    returning *
    into finished;
    -- with it go the person's words
    delete from private.erasures e
    where e.action_id = action.id;
    return finished;
end
$$;


comment on function private.refuse_held(uuid) is
    'Refuses to delete anything of a contact under a legal hold (409).';
comment on function private.words_of(private.person) is
    'The words by which a person would be found in a row: names (of one word only where no other contact has it), numbers, addresses, and the longest 100 messages, as they stand in the row''s JSON, in small letters.';
comment on function private.forget_messages(private.person) is
    'Has updates of a person''s messages be left out from now on.';
comment on function private.begin_erasure(uuid, uuid) is
    'Begins to erase a contact, with those that were merged into it: nothing comes in or goes out for it any more. Of one that has begun, the same.';
comment on function private.leaves_of(text) is
    'The partitions of a table, or the table, with their sizes in blocks.';
comment on function private.next_blocks(text, jsonb) is
    'The next part of a table that is read block by block; no leaf at the end.';
comment on function private.erase_rows(private.personal_tables, private.person, uuid, jsonb) is
    'Erases a part of an entry''s rows. Without next_cursor the entry is done.';
comment on function private.is_partner_awaited(private.person) is
    'Whether a call to Metakocka may have made a partner of a person, and the sync will still find out.';
comment on function private.renewed_person(private.person) is
    'A person that is being erased, without logins that others have taken since, and with partners that were made since, which the sync leaves alone from now on.';
comment on function private.erase_some_rows(private.erasures) is
    'Erases rows for about a second.';
comment on function private.renew_some_statistics(private.erasures) is
    'Renews the planner''s samples of the tables that hold people''s data, for about a second.';
comment on function private.erase_some(uuid) is
    'Goes on with an erasure for about a second.';
comment on function private.finish_erasure(public.privacy_actions, private.erasures) is
    'Ends an erasure, and forgets what it had to find.';
