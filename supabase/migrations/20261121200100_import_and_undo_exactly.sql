/*
    An import claims only what is new in it; undoing a merge gives back the login that the
    dropped contact's invitation let in; a search finds what looks like a number as it is
    written, too; what a customer no longer writes is no evidence.
*/
/*
    Views know no "on conflict": a contact that may be there already is written by this RPC,
    which knows it by its id or by what it is recognised by.
*/
create or replace function private.find_contact(account_id uuid, fields jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    owners uuid[];
begin
    owners := array(
        select distinct o.contact_id
        from jsonb_each_text(fields) k
        join public.contact_identities o
            on o.account_id = find_contact.account_id
           and o.kind = k.key
           -- without the spaces that are not written either
           and o.match_key = private.match_key(
               kind => k.key, value => btrim(k.value, E' \t\r\n'))
        where k.key in ('phone', 'email', 'username')
        order by o.contact_id
    );
    if cardinality(owners) > 1 then
        raise sqlstate 'PT409' using
            message = 'These are known of different contacts.',
            detail = format('contacts: %s', array_to_string(owners, ', ')),
            hint = 'Merge them, or say which by its id.';
    end if;
    return owners[1];
end
$$;

create or replace function private.contact_of_id(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_id uuid := contact_id;
    redirect record;
begin
    -- a merged contact is found where it went, however often; a ring can't be written
    loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = found_id
          and c.account_id = contact_of_id.account_id;
        if not found or redirect.deleted_at is null then
            return found_id;
        end if;
        exit when redirect.merged_into is null;
        found_id := redirect.merged_into;
    end loop;
    raise sqlstate 'PT404' using
        message = 'There is no such contact any more.',
        detail = format('contact: %s', contact_id);
end
$$;

create or replace function private.save_contact(account_id uuid, contact jsonb, face text)
    returns uuid
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := contact ->> 'id';
    fields jsonb;
    target uuid;
    exists_already boolean;
begin
    perform private.require_writable(save_contact.account_id);
    if face is null or face not in ('contacts_page', 'live_chat') then
        raise sqlstate 'PT422' using
            message = 'Contacts are not written by this face.',
            detail = 'field: face',
            hint = 'Known: contacts_page, live_chat.';
    elsif jsonb_typeof(contact) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'A contact is an object of fields.',
            detail = 'field: contact';
    end if;
    fields := private.read_face(face => face, fields => contact - 'id');

    -- another session may make the contact between the look and the write: look again
    for attempt in 1 .. 3 loop
        target := coalesce(
            private.contact_of_id(account_id => save_contact.account_id, contact_id => named),
            private.find_contact(account_id => save_contact.account_id, fields => fields),
            gen_random_uuid()
        );
        exists_already := exists (
            select
            from public.contacts c
            where c.id = target
              and c.account_id = save_contact.account_id
        );
        begin
            if not exists_already then
                perform private.add_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            elsif fields <> '{}' then
                perform private.change_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            end if;
            return target;
        exception
            when sqlstate 'PT409' or sqlstate 'PT404' then
                -- made meanwhile, or merged or deleted: then its id leads to another, or nowhere
                if attempt = 3 or (exists_already and sqlstate = 'PT409') then
                    raise;
                end if;
            when lock_not_available then
                raise sqlstate 'PT503' using
                    message = 'Others are writing this contact.',
                    hint = 'Try again.';
        end;
    end loop;
end
$$;

/*
    What is looked for, as patterns of words.
*/
create function private.word_patterns(words text[])
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return array(
        select case
            -- too short for a trigram of its own: the beginning of a word, which has one
            when length(w) < 3 then '% '
            else '%'
        end || regexp_replace(w, '([\\%_])', '\\\1', 'g') || '%'
        from unnest(words) w
        where w <> ''
        -- the index is asked for the longest, which is the rarest as a rule
        order by length(w) desc, w
    );
end
$$;

grant execute on function private.word_patterns(text[]) to authenticated;

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
    return private.word_patterns(array(
        select case
            -- neither 00 nor the national 0 is part of what is stored
            when length(ltrim(d.digits, '0')) >= 3 then regexp_replace(d.digits, '^00?', '')
            else w
        end
        from unnest(words) w
        cross join lateral (
            select case
                when w ~ phone_like
                    then regexp_replace(replace(w, '(0)', ''), '[^0-9]', '', 'g')
            end as digits
        ) d
    ));
end
$$;

create function private.literal_patterns(query text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    folded constant text := btrim(regexp_replace(private.fold(query), '\s+', ' ', 'g'));
    words constant text[] := string_to_array(folded, ' ');
begin
    -- 24/7 and 2026-11 may be part of a number, and a tag as well; digits with spaces are a number
    return case
        when folded !~ '^\+?[0-9()./-]* [0-9 ()./-]*$' and exists (
            select
            from unnest(words) w
            where w ~ '^[0-9()./-]*[0-9][()./-]+[0-9][0-9()./-]*$'
        )
            then private.word_patterns(words)
    end;
end
$$;

grant execute on function private.literal_patterns(text) to authenticated;

comment on function private.word_patterns(text[]) is
    'Words as patterns of what has them, the longest first.';

comment on function private.literal_patterns(text) is
    'A query''s words as they are written, where one that looks like a phone number may be something else; null where none does.';

create or replace function public.search_contacts(
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
    literal_patterns constant text[] := private.literal_patterns(search_contacts.query);
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
    from (
        select u.contact_id, u.sort_name
        from (
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => private.search_patterns(coalesce(search_contacts.query, '')),
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                -- one more tells whether there is a next page
                page_size => search_contacts.page_size + 1
            ) n
            union
            select n.contact_id, n.sort_name
            from private.search_page(
                account_id => search_contacts.account_id,
                patterns => literal_patterns,
                after_name => given ->> 'name',
                after_id => (given ->> 'id')::uuid,
                page_size => search_contacts.page_size + 1
            ) n
            where literal_patterns is not null
        ) u
        order by u.sort_name collate "C", u.contact_id
        limit search_contacts.page_size + 1
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

create function private.returned_login(merge public.contact_merges, kept public.contacts)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    brought constant uuid := merge.dropped_before ->> 'portal_user_id';
    invited uuid;
begin
    if brought is not null then
        return case when kept.portal_user_id = brought then brought end;
    elsif kept.portal_user_id::text = merge.kept_before ->> 'portal_user_id' then
        return null;
    end if;

    -- whoever came in since by the dropped contact's invitation is that person
    select p.contact_id
    into invited
    from public.portal_invitations p
    where p.account_id = merge.account_id
      and p.claimed_by = kept.portal_user_id
    order by p.claimed_at desc
    limit 1;
    return case
        when invited in (
            with recursive lineage as (
                select merge.dropped_contact_id as id
                union
                select c.id
                from lineage l
                join public.contacts c
                    on c.merged_into = l.id
            )
            select l.id
            from lineage l
        )
            then kept.portal_user_id
    end;
end
$$;

comment on function private.returned_login(public.contact_merges, public.contacts) is
    'The login that goes to the dropped contact: the one that it had, or that its invitation let in since.';

create or replace function private.undo_contact_merge(merge_id uuid)
    returns jsonb
    language plpgsql
    -- definer: contacts are written here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    merge public.contact_merges;
    kept public.contacts;
    dropped public.contacts;
    fields record;
    login uuid;
    not_returned jsonb;
begin
    select m.*
    into merge
    from public.contact_merges m
    where m.id = merge_id
      and m.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such merge, or it is not yours to see.',
            detail = format('merge: %s', merge_id);
    end if;
    perform private.require_writable(merge.account_id);

    perform private.reclaim_identities(merge);
    perform
    from public.contacts c
    where c.id in (merge.kept_contact_id, merge.dropped_contact_id)
    order by c.id
    for no key update;
    merge := private.require_undoable(merge_id);

    select c.* into strict kept from public.contacts c where c.id = merge.kept_contact_id;
    -- over the blank row: the journal does not know columns that came after it
    select d.*
    into strict dropped
    from public.contacts c
    cross join lateral jsonb_populate_record(c, merge.dropped_before) d
    where c.id = merge.dropped_contact_id;
    select * into fields from private.unmerged_fields(merge => merge, present => kept);

    not_returned := '[]';
    login := private.returned_login(merge => merge, kept => kept);
    if login is not null then
        perform private.announce_login_move(kept.id);
        fields.restored := fields.restored || '{"portal_user_id": null}';
    elsif dropped.portal_user_id is not null then
        not_returned := not_returned || jsonb_build_object(
            'kind', 'portal_user_id',
            'value', dropped.portal_user_id,
            'reason', 'unlinked_since',
            'contact_id', null
        );
    end if;

    -- an update of no row would still run the table's triggers
    if fields.restored <> '{}' then
        update public.contacts c
        set name = r.name,
            profile_name = r.profile_name,
            profile_named_at = r.profile_named_at,
            phone = r.phone,
            email = r.email,
            username = r.username,
            tags = r.tags,
            notes = r.notes,
            portal_user_id = r.portal_user_id,
            preferences = r.preferences,
            gsm = r.gsm,
            fax = r.fax,
            business_entity = r.business_entity,
            taxpayer = r.taxpayer,
            foreign_county = r.foreign_county,
            buyer = r.buyer,
            supplier = r.supplier,
            tax_id_number = r.tax_id_number,
            registration_number = r.registration_number,
            street = r.street,
            post_number = r.post_number,
            place = r.place,
            province = r.province,
            country = r.country,
            people = r.people,
            addresses = r.addresses
        from jsonb_populate_record(kept, fields.restored) r
        where c.id = kept.id;
    end if;
    update public.contacts c
    set deleted_at = null,
        merged_into = null,
        name = dropped.name,
        profile_name = dropped.profile_name,
        profile_named_at = dropped.profile_named_at,
        phone = dropped.phone,
        email = dropped.email,
        username = dropped.username,
        tags = dropped.tags,
        notes = dropped.notes,
        portal_user_id = login,
        preferences = dropped.preferences,
        gsm = dropped.gsm,
        fax = dropped.fax,
        business_entity = dropped.business_entity,
        taxpayer = dropped.taxpayer,
        foreign_county = dropped.foreign_county,
        buyer = dropped.buyer,
        supplier = dropped.supplier,
        tax_id_number = dropped.tax_id_number,
        registration_number = dropped.registration_number,
        street = dropped.street,
        post_number = dropped.post_number,
        place = dropped.place,
        province = dropped.province,
        country = dropped.country,
        people = dropped.people,
        addresses = dropped.addresses
    where c.id = dropped.id;

    not_returned := not_returned
        || private.return_identities(merge)
        -- before the conversations: those of bookings go with their jobs
        || private.return_customer_rows(
            account_id => merge.account_id,
            moved => merge.moved_customer_rows,
            from_contact_id => merge.kept_contact_id,
            to_contact_id => merge.dropped_contact_id
        )
        || private.return_conversations(merge);
    perform private.reopen_suggestions(merge);

    update public.contact_merges m
    set undone_at = clock_timestamp(),
        undone_by = auth.uid()
    where m.id = merge.id;
    return jsonb_build_object(
        'kept', kept.id,
        'restored', dropped.id,
        'changed_since', fields.changed_since,
        'not_returned', not_returned
    );
end
$$;

comment on function public.undo_merge(uuid) is
    'Takes a merge back: {kept, restored, changed_since: [{field, merged, now}], not_returned: [{kind, value, reason, contact_id}]}, the contacts as in contacts_v2. What was changed, opened or unlinked since the merge stays with the kept contact and is named; a login that the dropped one''s invitation let in goes back with it. Undone already, or a later merge builds on it: 409.';

/*
    A row of a file, in the contacts page's words. It stands for itself: it goes in, or it is
    refused with the reason and leaves nothing behind, whatever becomes of the others.

    What a row does not say stays. A row that says what is there already locks and writes
    nothing, so that a file that was imported can be imported again.
*/
create or replace function private.contacts_of_row(account_id uuid, named uuid, fields jsonb)
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
          -- what it shows already says nothing new of it, though another be known by that:
          -- customers write what they like into their profile
          and not exists (
              select
              from public.contacts c
              where c.id = present
                and to_jsonb(c) ->> k.key = k.value
          )
        order by 1
    );
end
$$;

create or replace function private.import_row(
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
    expected jsonb;
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
    expected := private.news_of_row(contact_id => import_row.contact_id, fields => fields);
    if expected = '{}' then
        return;
    end if;

    -- what differs is looked at again under the locks: tags are read to be written
    perform private.lock_identities(
        account_id => import_row.account_id,
        contact_ids => array[import_row.contact_id],
        kinds => private.touched_identity_kinds(expected),
        -- of what is there already a file that was exported is no proof
        claims => expected
    );
    perform
    from public.contacts c
    where c.id = import_row.contact_id
    for no key update;

    news := private.news_of_row(contact_id => import_row.contact_id, fields => fields);
    if not private.touched_identity_kinds(expected) @> private.touched_identity_kinds(news) then
        -- those are locked before the contact is: look again
        raise sqlstate 'PT409' using
            message = 'Others are writing this contact.',
            hint = 'Import it again.';
    elsif news <> '{}' then
        perform private.change_contact(
            account_id => import_row.account_id,
            contact_id => import_row.contact_id,
            fields => news
        );
        outcome := 'updated';
    end if;
end
$$;

create or replace function private.try_import_row(account_id uuid, contact jsonb)
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
    -- another session may make the contact between the look and the write, or merge or delete
    -- it: look again
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
                exit when code not in ('PT404', 'PT409', '23505');
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
