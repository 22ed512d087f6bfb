/*
    Importing and exporting contacts, and pruning what is kept for a time only.
*/
/*
    A row of a file, in the contacts page's words. It stands for itself: it goes in, or it is
    refused with the reason and leaves nothing behind, whatever becomes of the others.

    What a row does not say stays. A row that says what is there already locks and writes
    nothing, so that a file that was imported can be imported again.
*/
create function private.contacts_of_row(account_id uuid, named uuid, fields jsonb)
    returns uuid[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    present uuid;
begin
    if named is not null then
        present := private.contact_of_id(
            account_id => contacts_of_row.account_id, contact_id => named);
        if not exists (
            select
            from public.contacts c
            where c.id = present
              and c.account_id = contacts_of_row.account_id
        ) then
            raise sqlstate 'PT404' using
                message = 'There is no contact with this id.',
                hint = 'Without an id it is found by phone, email or username, or made.';
        end if;
    end if;

    return array(
        select present
        where present is not null
        union
        select o.contact_id
        from jsonb_each_text(fields) k
        join public.contact_identities o
            on o.account_id = contacts_of_row.account_id
           and o.kind = k.key
           and o.match_key = private.match_key(kind => k.key, value => k.value)
        where k.key in ('phone', 'email', 'username')
        order by 1
    );
end
$$;


create function private.news_of_row(contact_id uuid, fields jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- as a client sees it: a name that is that of the profile already need not be written down
    shown constant jsonb := (
        select to_jsonb(s)
        from private.contact_states s
        where s.id = news_of_row.contact_id
    );
    news jsonb;
    more_tags jsonb;
begin
    select coalesce(jsonb_object_agg(f.key, f.value), '{}')
    into news
    from jsonb_each(fields - 'tags') f
    where f.value #>> '{}' is distinct from btrim(shown ->> f.key, E' \t\r\n');

    -- tags are added to: a file seldom knows all that colleagues have given since
    select jsonb_agg(t.tag order by t.place)
    into more_tags
    from jsonb_array_elements_text(fields -> 'tags') with ordinality as t (tag, place)
    where t.tag not in (
        select btrim(e)
        from jsonb_array_elements_text(shown -> 'tags') e
    );
    if more_tags is not null then
        news := news || jsonb_build_object('tags', (shown -> 'tags') || more_tags);
    end if;
    return news;
end
$$;


create function private.import_row(
    account_id uuid,
    contact jsonb,
    out outcome text,
    out contact_id uuid,
    out reason text
)
    language plpgsql
    set search_path = ''
as $$
declare
    said constant jsonb := jsonb_strip_nulls(contact);
    fields constant jsonb := jsonb_strip_nulls(private.clean_contact_fields(
        private.read_face(face => 'contacts_page', fields => said - 'id')));
    owners uuid[];
    news jsonb;
begin
    if said ? 'id' and not pg_input_is_valid(said ->> 'id', 'uuid') then
        raise sqlstate 'PT422' using
            message = 'This is not an id.',
            detail = 'field: id',
            hint = 'Leave it empty for a contact that has none yet.';
    elsif not said ? 'id' and not fields ?| array['phone', 'email', 'username'] then
        raise sqlstate 'PT422' using
            message = 'Nothing tells whose row this is: imported again, it would be a second contact.',
            detail = 'field: phone',
            hint = 'Give a phone, email, username or id.';
    end if;

    owners := private.contacts_of_row(
        account_id => import_row.account_id, named => (said ->> 'id')::uuid, fields => fields);
    contact_id := owners[1];

    if cardinality(owners) > 1 then
        outcome := 'ambiguous';
        contact_id := null;
        reason := format('It is known of different contacts: %s.', array_to_string(owners, ', '));
        perform private.suggest_merge(
            account_id => import_row.account_id,
            contact_ids => array[owners[1], o.id],
            reason => 'same_row',
            evidence => fields - array['tags', 'notes', 'status']
        )
        from unnest(owners[2:]) as o (id)
        order by o.id;
        return;
    elsif contact_id is null then
        outcome := 'created';
        contact_id := gen_random_uuid();
        perform private.add_contact(
            account_id => import_row.account_id,
            contact_id => import_row.contact_id,
            fields => fields
        );
        return;
    end if;

    outcome := 'unchanged';
    if private.news_of_row(contact_id => import_row.contact_id, fields => fields) = '{}' then
        return;
    end if;

    -- what differs is looked at again under the locks: tags are read to be written
    perform private.lock_identities(
        account_id => import_row.account_id,
        contact_ids => array[import_row.contact_id],
        kinds => private.touched_identity_kinds(fields),
        claims => fields
    );
    perform
    from public.contacts c
    where c.id = import_row.contact_id
    for no key update;

    news := private.news_of_row(contact_id => import_row.contact_id, fields => fields);
    if news <> '{}' then
        perform private.change_contact(
            account_id => import_row.account_id,
            contact_id => import_row.contact_id,
            fields => news
        );
        outcome := 'updated';
    end if;
end
$$;


create function private.try_import_row(account_id uuid, contact jsonb)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    imported record;
    code text;
    message text;
    detail text;
    hint text;
begin
    -- another session may make the contact between the look and the write: look again
    for attempt in 1 .. 3 loop
        begin
            imported := private.import_row(
                account_id => try_import_row.account_id, contact => try_import_row.contact);
            return to_jsonb(imported);
        exception
            when sqlstate 'PT404' or sqlstate 'PT409' or sqlstate 'PT422'
                or data_exception or integrity_constraint_violation
            then
                get stacked diagnostics
                    code = returned_sqlstate,
                    message = message_text,
                    detail = pg_exception_detail,
                    hint = pg_exception_hint;
                exit when code not in ('PT409', '23505');
        end;
    end loop;

    return jsonb_build_object(
        'outcome', 'refused',
        'field', case code
            when 'PT404' then 'id'
            else substring(detail from '^field: ([a-z_]+)')
        end,
        'reason', case
            when code like 'PT%' then concat_ws(' ', message, nullif(hint, ''))
            -- no check of ours has foreseen it, and Postgres' own words could quote the row
            else format('The database does not take it (%s).', code)
        end
    );
end
$$;


comment on function private.contacts_of_row(uuid, uuid, jsonb) is
    'The contacts that a row''s id, phone, email and username are known of.';
comment on function private.news_of_row(uuid, jsonb) is
    'The fields of a row that say something else than the contact shows; tags are all that it is to have.';
comment on function private.import_row(uuid, jsonb) is
    'Makes or changes the contact that a row is about, or notes that there are several; raises what speaks against the row.';
comment on function private.try_import_row(uuid, jsonb) is
    'What became of a row, undone where it is refused: {outcome, contact_id, field, reason}.';


/*
    Contacts from a file, up to 200 rows a call, and each row in a savepoint of its own.
*/
create function private.account_named(external_id text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_id uuid;
begin
    select a.id
    into found_id
    from public.accounts a
    where a.external_id = account_named.external_id;
    if found_id is null then
        raise sqlstate 'PT404' using
            message = 'There is no such account.',
            detail = 'field: account',
            hint = 'An account is named by its external_id.';
    end if;
    return found_id;
end
$$;


create function backend.import_contacts(
    account text,
    contacts jsonb,
    dry_run boolean default false
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
    exception
        when sqlstate 'RP001' then
            null;
        when lock_not_available then
            raise sqlstate 'PT503' using
                message = 'Others are writing some of these contacts.',
                hint = 'Try again.';
    end;
    perform set_config('lock_timeout', lock_timeout, true);

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

grant execute on function backend.import_contacts(text, jsonb, boolean) to service_role;


comment on function private.account_named(text) is
    'The account with this external_id.';
comment on function backend.import_contacts(text, jsonb, boolean) is
    'Writes up to 200 contacts, in the contacts page''s words: [{row, outcome, contact_id, field, reason}] by their places from 1; outcome is created, updated, unchanged, refused or ambiguous. A dry run undoes it all. Repeating it changes nothing.';


/*
    An account's contacts by page, as import_contacts takes them: importing what was exported
    changes nothing.
*/
create function backend.export_contacts(
    account text,
    after uuid default null,
    page_size integer default 500
)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(export_contacts.account);
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'id', s.id,
                    'name', s.name,
                    'phone', s.phone,
                    'email', s.email,
                    'username', s.username,
                    'tags', s.tags,
                    'notes', s.notes,
                    'conversation_status', w.word
                )
                order by s.id
            ),
            '[]'
        )
        from (
            -- there is one of each contact that is not deleted, and its index is in this order
            select c.id
            from public.customers c
            where c.account_id = owner_id
              and c.id > coalesce(after, '00000000-0000-0000-0000-000000000000')
            order by c.id
            limit least(greatest(export_contacts.page_size, 1), 1000)
        ) page
        join private.contact_states s
            on s.id = page.id
        join public.status_words w
            on w.face = 'contacts_page'
           and w.status = s.status
    );
end
$$;

grant execute on function backend.export_contacts(text, uuid, integer) to service_role;


comment on function backend.export_contacts(text, uuid, integer) is
    'A page of an account''s contacts after an id, by id; the last page is shorter than page_size, which is 1,000 at most.';


/*
    What is kept for a time only, and its removal. Messages, contacts and the statuses of
    messages are not: they stay as long as their account.
*/
create table private.retention (
    only_row       boolean primary key default true
                   constraint retention_only_row_check check (only_row),
    -- what a better parser could still be given; WhatsApp repeats a delivery for 7 days
    webhook_events interval not null default interval '90 days'
                   constraint retention_webhook_events_check
                   check (webhook_events >= interval '7 days')
);
alter table private.retention enable row level security;


create policy "nobody reads the retention settings directly"
    on private.retention
    for all
    to authenticated
    using (false);


insert into private.retention default values;


create function private.prune_changes(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- a cursor may be as old as the log's retention, and an entry bears the time at which its
    -- transaction began: it may have been seen a day later, if one transaction ran so long
    kept_since constant timestamptz := (
        select now() - l.retention - interval '1 day'
        from private.change_log l
    );
    pruned integer := 0;
    deleted integer;
    account uuid := '00000000-0000-0000-0000-000000000000';
    oldest timestamptz;
begin
    -- the log has no index by time, which every write would pay for: each account's entries
    -- are looked at from the oldest transaction on
    loop
        select c.account_id, c.logged_at
        into account, oldest
        from private.changes c
        where c.account_id > account
        order by c.account_id, c.xid, c.seq
        limit 1;
        exit when not found or pruned >= batch;
        continue when oldest >= kept_since;

        with first_entries as (
            select c.xid, c.seq, c.logged_at
            from private.changes c
            where c.account_id = account
            order by c.xid, c.seq
            limit batch - pruned
            -- another run may be at them
            for update skip locked
        )
        delete from private.changes c
        using first_entries f
        where c.account_id = account
          and c.xid = f.xid
          and c.seq = f.seq
          and f.logged_at < kept_since;

        get diagnostics deleted = row_count;
        pruned := pruned + deleted;
    end loop;
    return pruned;
end
$$;


create function private.prune_webhook_events(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with first_events as (
        select e.id, e.received_at
        from private.webhook_events e
        order by e.id
        limit batch
        -- another run may be at them
        for update skip locked
    )
    delete from private.webhook_events e
    using first_events f, private.retention r
    where e.id = f.id
      and f.received_at < now() - r.webhook_events;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.prune(batch integer default 1000)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    batch_size constant integer := least(greatest(batch, 1), 5000);
begin
    return jsonb_build_object(
        'changes', private.prune_changes(batch => batch_size),
        'webhook_events', private.prune_webhook_events(batch => batch_size)
    );
end
$$;

grant execute on function backend.prune(integer) to service_role;


comment on table private.retention is
    'One row: how long is kept what is not kept for good. The change log has its own, private.change_log.retention.';
comment on column private.retention.webhook_events is
    'Raw webhooks are kept this long, to be applied anew.';
comment on policy "nobody reads the retention settings directly" on private.retention is
    'prune acts on them.';
comment on function private.prune_changes(integer) is
    'Deletes up to so many log entries that no cursor needs; returns how many.';
comment on function private.prune_webhook_events(integer) is
    'Deletes up to so many raw webhooks that are past their time; returns how many.';
comment on function backend.prune(integer) is
    'Deletes up to batch rows (5,000 at most) of each kind whose time is over: {changes, webhook_events}. Call again until both are 0.';
