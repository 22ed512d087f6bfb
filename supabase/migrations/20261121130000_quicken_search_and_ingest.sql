/*
    Searching, importing, merging and taking webhooks in without detours. What follows from new
    messages is asked once a statement; a username is theirs whose latest message says so, in
    whatever order messages arrive.
*/
drop function private.apply_whatsapp_items(private.whatsapp_item[]);
drop function private.apply_whatsapp_messages(private.whatsapp_item[]);
drop function private.lock_whatsapp_numbers(uuid[], boolean);
drop function private.lock_identity_changes(private.identity_change[]);
drop function private.relink_identities(private.identity_change[], private.identity_change[]);

drop trigger _200_check_number on public.messages;
drop trigger _500_expect_media on public.messages;
drop trigger _500_attach_upload on public.messages;
drop trigger _600_enqueue on public.messages;
drop function private.tg_messages__check_number();
drop function private.tg_messages__expect_media();
drop function private.tg_messages__attach_upload();
drop function private.tg_messages__enqueue();

drop index public.account_members_user_id_idx;
drop index private.contact_search_list_idx;


-- every policy of every statement looks here: by hash that is a page of the index and the row,
-- by tree one page more; half full, so that no bucket goes on on a second page
create index account_members_user_id_idx
    on public.account_members
    using hash (user_id)
    with (fillfactor = 40);

create or replace function private.my_account_ids()
    returns setof uuid
    -- plpgsql keeps the plan, and every policy of every statement asks
    language plpgsql
    stable
    -- definer, or the policy of account_members would ask itself
    security definer
    set search_path = ''
    -- not by the plan that was best while the table was empty
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid());
end
$$;

create or replace function private.my_writable_account_ids()
    returns setof uuid
    language plpgsql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid())
          and m.role in ('owner', 'admin', 'agent');
end
$$;

create function private.my_admin_account_ids()
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
      and m.role in ('owner', 'admin')
$$;

grant execute on function private.my_admin_account_ids() to authenticated;

comment on function private.my_admin_account_ids() is
    'The accounts that the signed-in user owns or administers: whose connections they may change.';


create or replace function private.my_customer_ids()
    returns setof uuid
    language plpgsql
    stable
    -- definer, or the policy of customers would ask itself
    security definer
    set search_path = ''
    -- not by the plan that was best while the table was empty
    set enable_seqscan = off
as $$
begin
    return query
        select c.id
        from public.customers c
        where c.portal_user_id = (select auth.uid());
end
$$;


/*
    What contacts are found by, folded once when it is written. Apart from contacts: an index on
    an expression would fold each candidate again when it is searched, and clients have no use
    for a column of it.
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
    -- part of an index, which has no room for all that could be
    return case when octet_length(beginnings) <= 400 then beginnings end;
end
$$;

-- with the beginnings of words, so that a walk along the list for a letter reads no rows
alter table private.contact_search
    add column beginnings text
        generated always as (private.word_beginnings(words)) stored;

create index contact_search_list_idx
    on private.contact_search (account_id, sort_name, contact_id)
    include (beginnings);

comment on column private.contact_search.beginnings is
    'The first two letters of every word, each with a space before it.';

comment on function private.word_beginnings(text) is
    'The different beginnings of words, two letters each; null where there are too many.';


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
    -- a plan for this account and this word: both differ a hundredfold
    set plan_cache_mode = force_custom_plan
as $$
declare
    pattern constant text := patterns[1];
    others constant text[] := patterns[2:];
    -- beginnings of words are in the list's own index, where a step is a sixth of one that
    -- reads the row
    of_beginnings constant boolean := pattern like '\% %';
    -- a frequent word is met often enough on a walk along the list, while sorting all that
    -- have it would take longer; a rare one is not, and its index finds it sooner
    walk integer := case when of_beginnings then 12000 else 1000 end;
    met integer := 0;
    met_here integer;
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;

    loop
        if of_beginnings then
            return query
            select s.contact_id, s.sort_name
            from (
                select w.contact_id, w.sort_name, w.beginnings
                from private.contact_search w
                where w.account_id = search_page.account_id
                  and (w.sort_name, w.contact_id) > (after_name, after_id)
                order by w.sort_name, w.contact_id
                limit walk
            ) s
            where (s.beginnings like pattern and s.beginnings like all (others))
               or (
                   s.beginnings is null
                   and exists (
                       select
                       from private.contact_search w
                       where w.contact_id = s.contact_id
                         and w.words like pattern
                         and w.words like all (others)
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
                where w.account_id = search_page.account_id
                  and (w.sort_name, w.contact_id) > (after_name, after_id)
                order by w.sort_name, w.contact_id
                limit case when pattern is null then page_size else walk end
            ) s
            where pattern is null
               or (s.words like pattern and s.words like all (others))
            order by s.sort_name, s.contact_id
            limit page_size - met;
        end if;
        get diagnostics met_here = row_count;
        met := met + met_here;
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

        -- on once more, and further, where that promises to fill the page
        exit when walk > 1000 or met * 4 < page_size;
        walk := 3000;
    end loop;

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


create or replace function backend.import_contacts(
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

    if jsonb_array_length(contacts) > 100 then
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
        if jsonb_array_length(contacts) > 100 then
            perform private.broadcast_logged(owner_id);
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


create or replace function private.read_whatsapp_items(items jsonb)
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    read private.whatsapp_item[];
begin
    /*
        Only the number decides whose an update is. Whatever the caller said in the fields
        that are found out here is not read.
    */
    read := array(
        -- a row of casts: jsonb_populate_record looks up every column's type at each call
        select (
            i.value ->> 'kind',
            i.ordinal - 1,
            i.value ->> 'phone_number_id',
            i.value ->> 'provider_id',
            i.value ->> 'wa_id',
            i.value ->> 'user_id',
            i.value ->> 'profile_name',
            i.value ->> 'username',
            i.value ->> 'sent_at',
            i.value ->> 'type',
            i.value ->> 'text',
            nullif(i.value -> 'content', 'null'),
            i.value ->> 'reply_to',
            i.value ->> 'sender_type',
            i.value ->> 'sender_id',
            i.value ->> 'new_wa_id',
            i.value ->> 'new_user_id',
            i.value ->> 'status',
            i.value ->> 'at',
            i.value ->> 'error_code',
            i.value ->> 'error_message',
            i.value ->> 'message_ref',
            w.account_id,
            w.id,
            k.kind,
            private.match_key(kind => k.kind, value => k.value),
            null,
            null,
            null,
            null,
            null
        )::private.whatsapp_item
        from jsonb_array_elements(items) with ordinality as i (value, ordinal)
        join public.whatsapp_channels w
            on w.phone_number_id = i.value ->> 'phone_number_id'
        cross join lateral (
            select
                case when i.value ->> 'wa_id' is not null then 'phone' else 'bsuid' end,
                coalesce(i.value ->> 'wa_id', i.value ->> 'user_id')
        ) as k (kind, value)
        where i.value ->> 'kind' not in ('skipped', 'account_event')
    );
    if cardinality(read) < jsonb_array_length(items)
        and items @? '$[*].kind ? (@ == "account_event")'
    then
        read := read || private.read_account_events(items);
    end if;
    return read;
end
$$;


create function private.identity_name(account_id uuid, kind text, match_key text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return concat_ws(' ', account_id, kind, match_key);
end
$$;

create or replace function private.lock_identity_changes(
    changes private.identity_change[],
    out claimed private.identity_change[],
    out locked text[]
)
    language plpgsql
    set search_path = ''
as $$
/*
    Who has a new key yet is only sure when it is there and locked, so it is claimed for the
    old one's owner. What was claimed is as good as free, and to be given back if nothing comes
    of it. What was not there to be locked is not looked at again: somebody who has written it
    since may wait for what is locked here.
*/
declare
    wanted record;
begin
    claimed := '{}';
    locked := '{}';
    for wanted in
        select
            k.account_id,
            k.kind,
            k.match_key,
            (array_agg(k.new_value) filter (where k.new_value is not null))[1] as new_value,
            (array_agg(k.heir) filter (where k.heir is not null))[1] as heir,
            bool_or(k.was_there) as was_there
        from unnest(changes) c
        cross join lateral (
            select private.identity_owner(
                account_id => c.account_id, kind => c.kind, match_key => c.old_key) as id
        ) owner
        cross join lateral (
            values
                (c.account_id, c.kind, c.old_key, null, null, owner.id is not null),
                (c.account_id, c.kind, c.new_key, c.new_value, owner.id, false)
        ) as k (account_id, kind, match_key, new_value, heir, was_there)
        where k.match_key is not null
        group by k.account_id, k.kind, k.match_key
        order by k.account_id, k.kind, k.match_key
    loop
        if wanted.heir is not null then
            if private.claim_whatsapp_identity(
                account_id => wanted.account_id,
                kind => wanted.kind,
                value => wanted.new_value,
                contact_id => wanted.heir
            ) then
                claimed := claimed || (
                    wanted.account_id, wanted.kind, null, wanted.match_key, wanted.new_value, null
                )::private.identity_change;
                wanted.was_there := true;
            end if;
        end if;

        perform
        from public.contact_identities o
        where o.account_id = wanted.account_id
          and o.kind = wanted.kind
          and o.match_key = wanted.match_key
        for update;
        if found and wanted.was_there then
            locked := locked || private.identity_name(
                account_id => wanted.account_id,
                kind => wanted.kind,
                match_key => wanted.match_key
            );
        end if;
    end loop;
end
$$;

comment on function private.identity_name(uuid, text, text) is
    'One text for an identity''s key.';

comment on function private.lock_identity_changes(private.identity_change[]) is
    'Locks old and new identities of a batch: the new ones that nobody had are claimed, and those that had an owner are named as locked.';


/*
    A number or user id that WhatsApp says has become another: here the identities are
    relinked. Contacts and conversations follow in their turn (624_whatsapp_moves).
*/
create function private.locked_owner(
    account_id uuid,
    kind text,
    match_key text,
    locked text[]
)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case
        when private.identity_name(account_id => account_id, kind => kind, match_key => match_key)
             = any (locked)
            then private.identity_owner(
                account_id => account_id, kind => kind, match_key => match_key)
    end;
end
$$;

create or replace function private.relink_identities(
    changes private.identity_change[],
    claimed private.identity_change[],
    -- the old keys that had an owner when they were locked
    locked text[],
    out owner uuid,
    -- who has one of the new keys: then nothing is relinked
    out other uuid
)
    language plpgsql
    set search_path = ''
as $$
/*
    The changes of one notice: a number and a user id, or one of them.
*/
declare
    change private.identity_change;
    heir uuid;
    holder uuid;
begin
    foreach change in array changes loop
        owner := coalesce(
            owner,
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            )
        );
    end loop;
    if owner is null then
        return;
    end if;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        holder := private.identity_owner(
            account_id => change.account_id, kind => change.kind, match_key => change.new_key);
        if holder <> heir and not private.is_among(change, claimed) then
            owner := heir;
            other := holder;
            return;
        end if;
    end loop;

    foreach change in array changes loop
        heir := coalesce(
            private.locked_owner(
                account_id => change.account_id,
                kind => change.kind,
                match_key => change.old_key,
                locked => locked
            ),
            owner
        );
        perform private.claim_whatsapp_identity(
            account_id => change.account_id,
            kind => change.kind,
            value => change.new_value,
            contact_id => heir
        );
        update public.contact_identities o
        set contact_id = heir
        where o.account_id = change.account_id
          and o.kind = change.kind
          and o.match_key = change.new_key
          and o.contact_id <> heir;
        perform private.drop_identity(
            account_id => change.account_id, kind => change.kind, match_key => change.old_key);
    end loop;
end
$$;

create or replace function private.relink_whatsapp_senders(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    A notice goes on as one of who has the new number. Where somebody else has that one, it
    stays with the old one's owner, and other_contact_id says whose it is.
*/
declare
    relinked private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    changes private.identity_change[];
    claimed private.identity_change[];
    locked text[];
    change private.identity_change;
    outcome record;
begin
    items := array(
        select i
        from unnest(items) i
        order by i.sent_at, i.provider_id
    );
    -- late news of a number that has been left as well
    for place in 1 .. cardinality(items) loop
        item := items[place];
        if item.kind = 'system' then
            item.new_wa_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'phone', value => item.new_wa_id, at => item.sent_at);
            item.new_user_id := private.current_whatsapp_id(
                account_id => item.account_id,
                kind => 'bsuid', value => item.new_user_id, at => item.sent_at);
            items[place] := item;
        end if;
    end loop;

    select l.claimed, l.locked
    into claimed, locked
    from private.lock_identity_changes(array(
        select c
        from unnest(items) i
        cross join lateral unnest(private.identity_changes(i)) c
        where i.kind = 'system'
    )) l;

    foreach item in array items loop
        if item.kind = 'system' then
            changes := private.identity_changes(item);
            select r.owner, r.other
            into outcome
            from private.relink_identities(
                changes => changes, claimed => claimed, locked => locked) r;

            foreach change in array changes loop
                if change.old_key is not null then
                    insert into private.whatsapp_id_changes (
                        account_id, kind, old_key, changed_at, new_value
                    )
                    values (
                        change.account_id,
                        change.kind,
                        change.old_key,
                        change.changed_at,
                        change.new_value
                    )
                    on conflict do nothing;
                end if;

                if private.is_among(change, claimed) then
                    claimed := array(
                        select c
                        from unnest(claimed) c
                        where not private.is_among(c, array[change])
                    );
                    if outcome.owner is null or outcome.other is not null then
                        perform private.drop_identity(
                            account_id => change.account_id,
                            kind => change.kind,
                            match_key => change.new_key
                        );
                    end if;
                end if;
            end loop;

            if outcome.other is null then
                -- without an owner there was nothing to move
                if outcome.owner is not null or changes = '{}' then
                    item.former_wa_id := item.wa_id;
                    item.former_user_id := item.user_id;
                end if;
                item.wa_id := coalesce(item.new_wa_id, item.wa_id);
                item.user_id := coalesce(item.new_user_id, item.user_id);
            else
                item.other_contact_id := outcome.other;
                -- a number that nobody has any more is claimed for nobody
                if item.user_id is not null and private.identity_owner(
                    account_id => item.account_id,
                    kind => 'phone',
                    match_key => private.match_key(kind => 'phone', value => item.wa_id)
                ) is null then
                    item.wa_id := null;
                end if;
            end if;
            item.identity_kind := case when item.wa_id is null then 'bsuid' else 'phone' end;
            item.identity_key := private.match_key(
                kind => item.identity_kind, value => coalesce(item.wa_id, item.user_id));
        end if;
        relinked := relinked || item;
    end loop;
    return relinked;
end
$$;

comment on function private.locked_owner(uuid, text, text, text[]) is
    'Who owns an identity that is locked; null for others.';

comment on function private.relink_identities(
    private.identity_change[], private.identity_change[], text[]
) is
    'Gives the owner the new identities for the old ones, unless another contact has one of them.';


/*
    Usernames on WhatsApp belong to one person at a time and change hands. What somebody is
    called is what their latest message says, by the provider's time, unless somebody whose
    latest message says the same has written later.

    So what each has said last is kept, though another may have it: whoever comes last to give
    it up, in whatever order messages arrive, it goes to the right one.
*/
create table private.stated_usernames (
    contact_id uuid primary key,
    account_id uuid not null,
    match_key  text not null,
    username   text not null,

    -- deferred: usernames are claimed before contacts are written (the lock order)
    constraint stated_usernames_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
        deferrable initially deferred
);

alter table private.stated_usernames enable row level security;

create index stated_usernames_key_idx on private.stated_usernames (account_id, match_key);

-- for the foreign key
create index stated_usernames_contact_idx on private.stated_usernames (contact_id, account_id);

create policy "nobody reads stated usernames directly"
    on private.stated_usernames
    for all
    to authenticated
    using (false);

create function private.lock_username(account_id uuid, username text, claimant uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
/*
    The owner of a username, which is locked; a claimant gets one that is free.
*/
declare
    owner uuid;
begin
    loop
        select o.contact_id
        into owner
        from public.contact_identities o
        where o.account_id = lock_username.account_id
          and o.kind = 'username'
          and o.match_key = private.match_key(kind => 'username', value => lock_username.username)
        for update;
        if found or claimant is null then
            return owner;
        end if;

        insert into public.contact_identities (account_id, kind, value, contact_id)
        values (lock_username.account_id, 'username', lock_username.username, claimant)
        on conflict do nothing;
    end loop;
end
$$;

create function private.latest_stater(
    items private.whatsapp_item[],
    account_id uuid,
    match_key text,
    out contact_id uuid,
    out username text
)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    select u.contact_id, u.username
    into latest_stater.contact_id, latest_stater.username
    from private.stated_usernames u
    cross join lateral (
        select l.sent_at, l.provider_id
        from (
            select i.sent_at, i.provider_id
            from unnest(items) i
            where i.contact_id = u.contact_id
            union all
            (
                select m.sent_at, m.provider_id
                from public.messages m
                where m.customer_id = u.contact_id
                  and m.sender_type = 'client'
                order by m.sent_at desc, m.provider_id desc
                limit 1
            )
        ) l
        order by l.sent_at desc, l.provider_id desc
        limit 1
    ) latest
    where u.account_id = latest_stater.account_id
      and u.match_key = latest_stater.match_key
      and (
          select true
          from public.contacts c
          where c.id = u.contact_id
            and c.deleted_at is not null
      ) is null
    order by latest.sent_at desc, latest.provider_id desc, u.contact_id
    limit 1;
end
$$;

create or replace function private.claim_whatsapp_usernames(items private.whatsapp_item[])
    returns private.username_change[]
    language plpgsql
    set search_path = ''
as $$
declare
    changes private.username_change[] := '{}';
    latest private.whatsapp_item[];
    owners uuid[] := '{}';
    keys record;
    winner record;
begin
    latest := array(
        select s
        from (
            select distinct on (i.contact_id) i.*
            from unnest(items) i
            where i.username is not null
            order by i.contact_id, i.sent_at desc, i.provider_id desc
        ) s
        where not private.has_later_message(
            contact_id => s.contact_id, than => s.sent_at, than_provider_id => s.provider_id)
    );
    if not exists (
        select
        from unnest(latest) s
        where (
            select c.username
            from public.contacts c
            where c.id = s.contact_id
            limit 1
        ) is distinct from s.username
    ) then
        return changes;
    end if;

    -- those to claim, and those that may be given back, in one order
    select
        array_agg(w.account_id order by w.account_id, w.match_key) as account_ids,
        array_agg(w.match_key order by w.account_id, w.match_key) as match_keys,
        array_agg(w.username order by w.account_id, w.match_key) as usernames,
        array_agg(w.claimant order by w.account_id, w.match_key) as claimants
    into keys
    from (
        select
            k.account_id,
            k.match_key,
            min(k.username) as username,
            (array_agg(k.claimant) filter (where k.claimant is not null))[1] as claimant
        from (
            select
                s.account_id,
                private.match_key(kind => 'username', value => n.username),
                n.username,
                n.claimant
            from unnest(latest) s
            cross join lateral (
                select s.username, s.contact_id
                union all
                select c.username, null
                from public.contacts c
                where c.id = s.contact_id
                union all
                select u.username, null
                from private.stated_usernames u
                where u.contact_id = s.contact_id
            ) as n (username, claimant)
            where n.username is not null
        ) as k (account_id, match_key, username, claimant)
        group by k.account_id, k.match_key
    ) w;

    for place in 1 .. cardinality(keys.match_keys) loop
        owners[place] := private.lock_username(
            account_id => keys.account_ids[place],
            username => keys.usernames[place],
            claimant => keys.claimants[place]
        );
    end loop;

    insert into private.stated_usernames as u (contact_id, account_id, match_key, username)
    select
        s.contact_id,
        s.account_id,
        private.match_key(kind => 'username', value => s.username),
        s.username
    from unnest(latest) s
    order by s.contact_id
    on conflict (contact_id) do update
        set match_key = excluded.match_key,
            username = excluded.username
        where u.username <> excluded.username;

    for place in 1 .. cardinality(keys.match_keys) loop
        continue when owners[place] is null;
        winner := private.latest_stater(
            items => latest,
            account_id => keys.account_ids[place],
            match_key => keys.match_keys[place]
        );
        if winner.contact_id is null then
            -- whoever it is of was not heard: staff may have noted it
            continue when not exists (
                select
                from unnest(latest) s
                where s.contact_id = owners[place]
            );
            delete from public.contact_identities o
            where o.account_id = keys.account_ids[place]
              and o.kind = 'username'
              and o.match_key = keys.match_keys[place];
        else
            update public.contact_identities o
            set contact_id = winner.contact_id,
                value = winner.username
            where o.account_id = keys.account_ids[place]
              and o.kind = 'username'
              and o.match_key = keys.match_keys[place]
              and (o.contact_id, o.value) <> (winner.contact_id, winner.username);
            changes := changes || (
                winner.contact_id, keys.match_keys[place], winner.username
            )::private.username_change;
        end if;
        if owners[place] is distinct from winner.contact_id then
            changes := changes
                || (owners[place], keys.match_keys[place], null)::private.username_change;
        end if;
    end loop;

    -- who lost one and has another has just that
    return array(
        select u
        from unnest(changes) u
        where u.username is not null
           or not exists (
               select
               from unnest(changes) w
               where w.contact_id = u.contact_id
                 and w.username is not null
           )
    );
end
$$;

comment on table private.stated_usernames is
    'What the latest message of a sender who has a username says that it is.';

comment on policy "nobody reads stated usernames directly" on private.stated_usernames is
    'What contacts are called is in public.contacts.';

comment on function private.lock_username(uuid, text, uuid) is
    'Locks a username, which a claimant gets if it is free; returns whose it is.';

comment on function private.latest_stater(private.whatsapp_item[], uuid, text) is
    'Of those whose latest message states a username, the one who wrote last; the given messages count as well.';


create function private.placed_whatsapp_item(
    item private.whatsapp_item,
    conversation_id uuid,
    contact_id uuid
)
    returns private.whatsapp_item
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    item.conversation_id := placed_whatsapp_item.conversation_id;
    item.contact_id := placed_whatsapp_item.contact_id;
    return item;
end
$$;

create or replace function private.open_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
declare
    found_items private.whatsapp_item[];
begin
    -- a thread may be opened or closed by others between two statements: look again
    for attempt in 1 .. 4 loop
        with threads as materialized (
            select i as item, c.id, c.customer_id
            from unnest(items) i
            cross join lateral (
                select t.id
                from public.conversations t
                where t.whatsapp_channel_id = i.whatsapp_channel_id
                  and t.account_id = i.account_id
                  and t.thread_key = i.identity_kind || ':' || i.identity_key
                  and t.channel = 'whatsapp'
                  -- a notice of WhatsApp's is no reason to open a conversation again
                  and (t.status <> 'closed' or i.kind = 'system')
                order by t.status = 'closed', t.created_at desc, t.id
                limit 1
            ) thread
            join public.conversations c
                on c.id = thread.id
               and (c.status <> 'closed' or (i).kind = 'system')
            order by c.id
            for no key update of c
        )
        -- whoever owns the number now, an open thread stays with its customer
        select array_agg(private.placed_whatsapp_item(t.item, t.id, t.customer_id))
        into found_items
        from threads t;

        if cardinality(found_items) = cardinality(items) then
            perform private.keep_whatsapp_spelling(found_items);
            return found_items;
        end if;

        insert into public.conversations (
            account_id, customer_id, channel, whatsapp_channel_id, thread_key, customer_wa_id
        )
        select distinct on (i.account_id, i.whatsapp_channel_id, i.identity_kind, i.identity_key)
            i.account_id,
            i.contact_id,
            'whatsapp',
            i.whatsapp_channel_id,
            i.identity_kind || ':' || i.identity_key,
            i.wa_id
        from unnest(items) i
        where (
            select true
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = i.identity_kind || ':' || i.identity_key
              and t.channel = 'whatsapp'
              and (t.status <> 'closed' or i.kind = 'system')
            limit 1
        ) is null
        order by
            i.account_id,
            i.whatsapp_channel_id,
            i.identity_kind,
            i.identity_key,
            -- who is known by number may have written with the user id alone as well
            i.wa_id is null,
            i.sent_at desc,
            i.provider_id desc
        on conflict (
            whatsapp_channel_id,
            account_id,
            thread_key,
            channel,
            (case when status = 'closed' then id end)
        ) do nothing;
    end loop;

    raise sqlstate '40001' using
        message = 'Conversations were closed as fast as they were opened.',
        hint = 'Try again.';
end
$$;

create or replace function private.continue_whatsapp_threads(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    set search_path = ''
as $$
/*
    The common case in one statement: all messages are new, and everybody is known, by the names
    and the spelling that they give, and has an open conversation. Null, and nothing locked,
    where that is not so of all; RP003 where it no longer is when they are locked. Those locks
    must then go, also of rows that are passed over: what follows begins with identities.
*/
declare
    found_items private.whatsapp_item[];
    found_count integer;
begin
    -- lateral with a limit, here and elsewhere: each item is looked up by key, whatever the
    -- planner thinks of the tables' sizes
    with found as materialized (
        select i as item, thread.id
        from unnest(items) i
        cross join lateral (
            select o.contact_id
            from public.contact_identities o
            where o.account_id = i.account_id
              and o.kind = i.identity_kind
              and o.match_key = i.identity_key
            limit 1
        ) owner
        cross join lateral (
            select k.id
            from public.contacts k
            where k.id = owner.contact_id
              and (i.profile_name is null or k.profile_name = i.profile_name)
              and (i.username is null or k.username = i.username)
            limit 1
        ) named
        cross join lateral (
            select t.id
            from public.conversations t
            where t.whatsapp_channel_id = i.whatsapp_channel_id
              and t.account_id = i.account_id
              and t.thread_key = coalesce(
                  'phone:' || case when i.identity_kind = 'bsuid' then
                      private.number_of_contact_user(
                          account_id => i.account_id,
                          user_id => i.user_id,
                          contact_id => owner.contact_id
                      )
                  end,
                  i.identity_kind || ':' || i.identity_key
              )
              and t.channel = 'whatsapp'
              and t.status <> 'closed'
              and (i.wa_id is null or t.customer_wa_id = i.wa_id)
            limit 1
        ) thread
        where i.kind in ('message', 'echo')
          and (
              i.user_id is null
              or i.identity_kind = 'bsuid'
              or (
                  select u.contact_id
                  from public.contact_identities u
                  where u.account_id = i.account_id
                    and u.kind = 'bsuid'
                    and u.match_key = i.user_id
                  limit 1
              ) = owner.contact_id
              and i.identity_key = private.number_of_user(
                  account_id => i.account_id, user_id => i.user_id)
          )
          and (
              select true
              from public.messages m
              where m.whatsapp_channel_id = i.whatsapp_channel_id
                and m.provider_id = i.provider_id
              limit 1
          ) is null
    )
    -- whoever owns the number now, an open thread stays with its customer
    select
        array_agg(private.placed_whatsapp_item(t.item, t.id, t.customer_id)),
        (select count(*) from found)
    into found_items, found_count
    from (
        select f.item, c.id, c.customer_id
        from found f
        join public.conversations c
            on c.id = f.id
           and c.status <> 'closed'
        -- or nothing is locked
        where (select count(*) from found) = cardinality(items)
        order by c.id
        for no key update of c
    ) t;

    if found_count < cardinality(items) then
        return null;
    elsif coalesce(cardinality(found_items), 0) < cardinality(items) then
        raise sqlstate 'RP003';
    end if;
    return found_items;
end
$$;

comment on function private.placed_whatsapp_item(private.whatsapp_item, uuid, uuid) is
    'A message with its conversation and the contact with whom that is held.';

comment on function private.continue_whatsapp_threads(private.whatsapp_item[]) is
    'Finds and locks the conversations of new messages, if all of them have one.';


create or replace function private.apply_whatsapp_messages(
    items private.whatsapp_item[],
    may_continue boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    fresh private.whatsapp_item[];
    placed private.whatsapp_item[];
    usernames private.username_change[] := '{}';
    has_notices boolean;
    may_be_two boolean;
    has_usernames boolean;
    learnt private.learnt_number[] := '{}';
begin
    if may_continue then
        placed := private.continue_whatsapp_threads(items);
        if placed is not null then
            return private.append_whatsapp_messages(placed);
        end if;
    end if;

    -- a repeated delivery ends here, having locked and written nothing
    select array_agg(i::private.whatsapp_item order by i.index)
    into fresh
    from (
        select distinct on (i.whatsapp_channel_id, i.provider_id) i.*
        from unnest(items) i
        order by i.whatsapp_channel_id, i.provider_id, i.index
    ) i
    where (
        select true
        from public.messages m
        where m.whatsapp_channel_id = i.whatsapp_channel_id
          and m.provider_id = i.provider_id
        limit 1
    ) is null;
    if fresh is null then
        return 0;
    end if;

    select
        bool_or(i.kind = 'system'),
        bool_or(i.user_id is not null or i.kind = 'system'),
        bool_or(i.username is not null)
    into has_notices, may_be_two, has_usernames
    from unnest(fresh) i;

    -- identities
    if has_notices then
        fresh := private.relink_whatsapp_senders(fresh);
    end if;
    fresh := private.claim_whatsapp_senders(fresh);
    if has_usernames then
        usernames := private.claim_whatsapp_usernames(fresh);
    end if;
    if may_be_two then
        learnt := private.learn_user_numbers(fresh);
    end if;

    -- contacts
    if has_notices or cardinality(usernames) > 0 or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_contacts(fresh, usernames);
    end if;
    perform private.name_whatsapp_senders(fresh, usernames);
    if cardinality(usernames) > 0 then
        perform private.write_whatsapp_usernames(usernames);
    end if;
    perform private.write_learnt_phones(learnt);

    -- conversations
    if has_notices then
        perform private.move_whatsapp_phones(fresh);
    end if;
    placed := private.follow_numbers(fresh);
    if has_notices or cardinality(learnt) > 0 then
        perform private.lock_whatsapp_threads(placed);
    end if;
    if has_notices then
        perform private.move_whatsapp_threads(fresh);
    end if;
    if cardinality(learnt) > 0 then
        perform private.move_learnt_threads(learnt);
    end if;
    placed := private.open_whatsapp_threads(placed);

    if may_be_two then
        perform private.suggest_same_senders(fresh);
    end if;
    return private.append_whatsapp_messages(placed);
end
$$;

comment on function private.apply_whatsapp_messages(private.whatsapp_item[], boolean) is
    'Everything that follows from a batch of received messages; returns how many were new.';


create or replace function private.refusal_of(items private.whatsapp_item[])
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.apply_whatsapp_items(items, false);
    raise sqlstate 'RP001';
exception
    when sqlstate 'RP001' then
        return null;
    when serialization_failure or deadlock_detected or lock_not_available then
        raise;
    when others then
        return private.refusal(items[1].index, sqlstate, sqlerrm);
end
$$;


/*
    A WhatsApp webhook: one event, one transaction, one call. The raw body is kept first; its
    updates are then applied as sets, in the lock order. Where a set fails, the updates that are
    at fault are looked for, and what passes is applied as a set again.
*/
create function private.lock_whatsapp_numbers(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    parent text;
    whatsapp_channel_id uuid;
    number bigint;
    numbers bigint[] := '{}';
    alone boolean := false;
begin
    foreach item in array items loop
        if item.whatsapp_channel_id <> whatsapp_channel_id or whatsapp_channel_id is null then
            whatsapp_channel_id := item.whatsapp_channel_id;
            number := private.whatsapp_number_lock(whatsapp_channel_id);
            if number <> all (numbers) then
                numbers := numbers || number;
            end if;
        end if;
        parent := case when item.kind = 'status' then item.provider_id else item.reply_to end;
        if parent is not null and not alone then
            alone := private.message_by_provider_id(
                whatsapp_channel_id => item.whatsapp_channel_id, provider_id => parent
            ) is null;
        end if;
    end loop;

    if cardinality(numbers) > 1 then
        numbers := array(select n from unnest(numbers) n order by n);
    end if;
    -- before all other locks, which are taken under it
    foreach number in array numbers loop
        if alone then
            perform pg_advisory_xact_lock(number);
        else
            perform pg_advisory_xact_lock_shared(number);
        end if;
    end loop;
end
$$;

create or replace function private.apply_whatsapp_items(
    items private.whatsapp_item[],
    may_continue boolean
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    item private.whatsapp_item;
    has_news boolean := false;
    messages private.whatsapp_item[] := items;
    applied integer := 0;
begin
    perform private.lock_whatsapp_numbers(items);
    -- a loop of expressions takes less than starting a statement
    foreach item in array items loop
        has_news := item.kind not in ('message', 'echo', 'system');
        exit when has_news;
    end loop;
    if has_news then
        applied := private.keep_whatsapp_news(items);
        messages := array(
            select i
            from unnest(items) i
            where i.kind in ('message', 'echo', 'system')
        );
    end if;
    if cardinality(messages) > 0 then
        applied := applied + private.apply_whatsapp_messages(messages, may_continue);
    end if;
    -- this locks messages, so it comes after what locks conversations
    perform private.settle_whatsapp_items(items);
    return applied;
end
$$;

create or replace function private.try_whatsapp_items(
    items jsonb,
    out applied integer,
    out duplicates integer,
    out rejections jsonb,
    out usable private.whatsapp_item[]
)
    language plpgsql
    set search_path = ''
as $$
declare
    refused jsonb;
    may_continue boolean := true;
begin
    rejections := '[]';
    begin
        usable := private.read_whatsapp_items(items);
    exception
        when others then
            select r.readable, r.refused
            into usable, rejections
            from private.readable_whatsapp_items(items) r;
    end;

    loop
        begin
            applied := private.apply_whatsapp_items(usable, may_continue);
            exit;
        exception
            -- in haste it did not go; that is undone
            when sqlstate 'RP003' then
                may_continue := false;
            -- contention is for the caller to repeat, whole
            when serialization_failure or deadlock_detected or lock_not_available then
                raise;
            when others then
                select a.applicable, a.refused
                into usable, refused
                from private.applicable_whatsapp_items(usable) a;
                rejections := rejections || refused;
                applied := private.apply_whatsapp_items(usable, false);
                exit;
        end;
    end loop;

    duplicates := cardinality(usable) - applied;
    if cardinality(usable) < jsonb_array_length(items) then
        rejections := rejections || private.left_out_whatsapp_items(items);
        select jsonb_agg(r.value order by r.value -> 'index')
        into rejections
        from jsonb_array_elements(rejections) r;
    end if;
end
$$;

create or replace function private.shown_rejections(rejections jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case
        when rejections = '[]' then rejections
        else (
            select jsonb_agg(r.value - 'detail')
            from jsonb_array_elements(rejections) r
        )
    end;
end
$$;

comment on function private.lock_whatsapp_numbers(private.whatsapp_item[]) is
    'Takes the locks of a batch''s numbers, in their order; alone where an update''s message is missing.';

comment on function private.apply_whatsapp_items(private.whatsapp_item[], boolean) is
    'Applies updates as sets; returns how many were news. Where it may continue open threads it is quick, and raises RP003 if that can''t be done for all.';


create function private.expect_media(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    is_waiting boolean;
begin
    -- whatever the sender wrote, nothing of it may cost the message
    with files as materialized (
        select
            gen_random_uuid() as id,
            m.id as message_id,
            m.account_id,
            m.conversation_id,
            m.customer_id,
            m.sent_at,
            m.content -> m.type as file,
            substring(m.content -> m.type ->> 'id' from '^[A-Za-z0-9_-]{1,128}$') as provider_id
        from public.messages m
        where m.id = any (message_ids)
    ),
    expected as (
        insert into public.message_media (
            id, account_id, conversation_id, customer_id, message_id, provider_id, mime_type,
            file_name, sha256, object_key, state, error
        )
        select
            f.id,
            f.account_id,
            f.conversation_id,
            f.customer_id,
            f.message_id,
            f.provider_id,
            left(f.file ->> 'mime_type', 255),
            left(f.file ->> 'filename', 255),
            private.sha256_hex(f.file ->> 'sha256'),
            concat_ws('/', f.account_id, f.message_id, f.id),
            case when f.provider_id is null then 'failed' else 'pending' end,
            case when f.provider_id is null then 'WhatsApp gave no file with this message.' end
        from files f
    ),
    queued as (
        insert into private.media_queue (media_id, expires_at)
        select f.id, private.media_expires_at(f.sent_at)
        from files f
        where f.provider_id is not null
        returning media_id
    )
    select exists (select from queued)
    into is_waiting;

    if is_waiting then
        perform private.ring('fetch_media');
    end if;
end
$$;

comment on function private.expect_media(uuid[]) is
    'Notes the files of messages that WhatsApp delivers, and that they are to be fetched.';


create function private.attach_uploads(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    attached integer;
begin
    insert into public.message_media (
        account_id, conversation_id, customer_id, message_id, mime_type, file_name, size,
        object_key, state, stored_at
    )
    select
        m.account_id,
        m.conversation_id,
        m.customer_id,
        m.id,
        u.mime_type,
        u.file_name,
        u.size,
        u.object_key,
        'stored',
        now()
    from public.messages m
    join private.media_uploads u
        on u.id = case
            when pg_input_is_valid(m.content ->> 'upload_id', 'uuid')
                then (m.content ->> 'upload_id')::uuid
        end
       and u.account_id = m.account_id
       and u.type = m.type
    where m.id = any (message_ids);
    get diagnostics attached = row_count;

    if attached < cardinality(message_ids) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content',
            hint = 'POST /api/media answers an upload_id.';
    end if;
end
$$;

comment on function private.attach_uploads(uuid[]) is
    'Gives messages the files that were uploaded for them.';


/*
    What follows from new messages, whoever writes them: asked in one statement. A trigger's
    condition for each row is read anew in every statement: four of them took 6 % of ingest.

    There is no foreign key to the number: all messages of a number would queue for its one row.
    None to the booking: it would be locked after its conversation, and whoever moves both locks
    it before. And none to the conversation beside the one that is there: clients that read
    conversations with their messages would have to say by which. So both are checked here.
*/
create function private.tg_messages__follow_up()
    returns trigger
    language plpgsql
    -- definer: the conversation is looked at, and the queues are written, whoever writes
    security definer
    set search_path = ''
    set plan_cache_mode = force_generic_plan
as $$
declare
    media_types constant text[] := array['image', 'video', 'audio', 'document', 'sticker'];
    is_of_its_thread boolean;
    queued uuid[];
    with_media uuid[];
    with_upload uuid[];
begin
    select
        bool_and(coalesce((
            select c.whatsapp_channel_id is not distinct from n.whatsapp_channel_id
                and c.booking_id is not distinct from n.booking_id
            from public.conversations c
            where c.id = n.conversation_id
            limit 1
        ), false)),
        array_agg(n.id) filter (where n.status = 'queued'),
        -- it came by WhatsApp: from the customer, or as an echo of what our phone app sent
        array_agg(n.id) filter (where n.type = any (media_types) and n.provider_id is not null),
        -- other files are WhatsApp's own, by id, or lie at a link
        array_agg(n.id) filter (
            where n.type = any (media_types)
              and n.status = 'queued'
              and n.content ? 'upload_id'
        )
    into is_of_its_thread, queued, with_media, with_upload
    from new_rows n;

    if not is_of_its_thread then
        raise foreign_key_violation using
            message = 'A message has the WhatsApp number and the booking of its conversation.';
    end if;
    if with_media is not null then
        perform private.expect_media(with_media);
    end if;
    if with_upload is not null then
        perform private.attach_uploads(with_upload);
    end if;
    if queued is not null then
        perform private.enqueue_messages(queued);
    end if;
    return null;
end
$$;

create trigger _500_follow_up
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__follow_up();


comment on function private.tg_messages__follow_up() is
    'Holds messages to the WhatsApp number and the booking of their conversation, and with that to its tenant; notes their files and queues what is to be sent.';


insert into private.stated_usernames (contact_id, account_id, match_key, username)
select c.id, c.account_id, private.match_key(kind => 'username', value => c.username), c.username
from public.contacts c
where c.username is not null;
