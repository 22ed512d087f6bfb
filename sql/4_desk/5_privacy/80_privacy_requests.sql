/*
    What owners, and the people who run the service, ask about a person's data.
*/
create function private.erase_own_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    -- definer: users may not delete; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_owned_contact(contact_id);
begin
    return to_jsonb(private.begin_erasure(
        account_id => account, contact_id => erase_own_contact.contact_id));
end
$$;

grant execute on function private.erase_own_contact(uuid) to authenticated;


create function public.erase_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.erase_own_contact(contact_id);
end
$$;

grant execute on function public.erase_contact(uuid) to authenticated;


create function private.export_own_contact(contact_id uuid, table_name text, after jsonb)
    returns jsonb
    language plpgsql
    -- definer: users may not read all of these tables; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.require_owned_contact(contact_id);
begin
    if table_name is not null then
        return private.export_page(
            export_own_contact.contact_id,
            table_name => export_own_contact.table_name,
            after => export_own_contact.after,
            page_size => 500
        );
    end if;
    perform private.log_privacy_action(
        account_id => account,
        contact_id => private.kept_contact_of(
            account_id => account, contact_id => export_own_contact.contact_id),
        action => 'export'
    );
    return private.export_overview(export_own_contact.contact_id);
end
$$;

grant execute on function private.export_own_contact(uuid, text, jsonb) to authenticated;


create function public.export_contact(
    contact_id uuid,
    table_name text default null,
    after jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.export_own_contact(
        contact_id => export_contact.contact_id,
        table_name => export_contact.table_name,
        after => export_contact.after
    );
end
$$;

grant execute on function public.export_contact(uuid, text, jsonb) to authenticated;


create function private.place_hold(account_id uuid, contact_id uuid, reason text)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => place_hold.account_id, contact_id => place_hold.contact_id);
begin
    if length(btrim(coalesce(reason, ''))) not between 1 and 500 then
        raise sqlstate 'PT422' using
            message = 'A legal hold needs a reason of 1 to 500 characters.',
            detail = 'field: reason',
            hint = 'Say which claim or authority asks for it, such as a file number.';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    if exists (
        select
        from public.privacy_actions a
        where a.contact_id = kept
          and a.action = 'erase'
          and a.state = 'running'
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact is being erased, so it can''t be held any more.',
            detail = format('field: contact_id; contact: %s', kept),
            hint = 'privacy_actions shows how far that is. What a court may ask for has to come from a backup.';
    end if;
    insert into private.legal_holds (account_id, contact_id, reason)
    values (place_hold.account_id, kept, btrim(place_hold.reason))
    on conflict do nothing;
    if found then
        perform private.log_privacy_action(
            account_id => place_hold.account_id, contact_id => kept, action => 'hold');
    end if;
end
$$;


create function private.end_hold(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    kept constant uuid := private.kept_contact_of(
        account_id => end_hold.account_id, contact_id => end_hold.contact_id);
begin
    perform pg_advisory_xact_lock(hashtextextended('privacy ' || kept, 0));
    update private.legal_holds h
    set ended_at = clock_timestamp()
    from private.contact_lineage(kept) l
    where h.contact_id = l
      and h.account_id = end_hold.account_id
      and h.ended_at is null;
    if found then
        perform private.log_privacy_action(
            account_id => end_hold.account_id, contact_id => kept, action => 'release');
    end if;
end
$$;


create function private.hold_own_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    -- definer: users may not write holds; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.place_hold(
        account_id => private.require_owned_contact(hold_own_contact.contact_id),
        contact_id => hold_own_contact.contact_id,
        reason => hold_own_contact.reason
    );
end
$$;

grant execute on function private.hold_own_contact(uuid, text) to authenticated;


create function public.hold_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.hold_own_contact(
        contact_id => hold_contact.contact_id, reason => hold_contact.reason);
end
$$;

grant execute on function public.hold_contact(uuid, text) to authenticated;


create function private.release_own_contact(contact_id uuid)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.end_hold(
        account_id => private.require_owned_contact(release_own_contact.contact_id),
        contact_id => release_own_contact.contact_id
    );
end
$$;

grant execute on function private.release_own_contact(uuid) to authenticated;


create function public.release_contact(contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.release_own_contact(contact_id);
end
$$;

grant execute on function public.release_contact(uuid) to authenticated;


-- For the command line and the worker

create function backend.export_overview(contact_id uuid, is_logged boolean default true)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := private.account_of_contact(contact_id);
begin
    if is_logged then
        perform private.log_privacy_action(
            account_id => account,
            contact_id => private.kept_contact_of(
                account_id => account, contact_id => export_overview.contact_id),
            action => 'export'
        );
    end if;
    return private.export_overview(contact_id)
        || jsonb_build_object('is_held', private.is_held(contact_id));
end
$$;

grant execute on function backend.export_overview(uuid, boolean) to service_role;


create function backend.export_page(
    contact_id uuid,
    table_name text,
    after jsonb default null,
    page_size integer default 500
)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.export_page(
        contact_id => export_page.contact_id,
        table_name => export_page.table_name,
        after => export_page.after,
        page_size => export_page.page_size
    );
end
$$;

grant execute on function backend.export_page(uuid, text, jsonb, integer) to service_role;


create function private.erasure_told(action public.privacy_actions)
    returns jsonb
    language plpgsql
    -- volatile: it sees what the step has just done
    set search_path = ''
as $$
begin
    return to_jsonb(action) || jsonb_build_object(
        'step', (select e.step from private.erasures e where e.action_id = action.id),
        'files', (
            select coalesce(jsonb_agg(l.object_key), '[]')
            from (
                select f.object_key
                from private.erased_files f
                where f.action_id = action.id
                order by f.object_key
                limit 100
            ) l
        ),
        'elsewhere', coalesce(
            (select w.found from private.found_words w where w.action_id = action.id), '[]')
    );
end
$$;


create function backend.erase_contact(contact_id uuid)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.erasure_told(private.begin_erasure(
        account_id => private.account_of_contact(erase_contact.contact_id),
        contact_id => erase_contact.contact_id
    ));
end
$$;

grant execute on function backend.erase_contact(uuid) to service_role;


create function backend.erase_some(action_id uuid)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return private.erasure_told(private.erase_some(erase_some.action_id));
end
$$;

grant execute on function backend.erase_some(uuid) to service_role;


create function backend.note_erased_files(action_id uuid, object_keys text[])
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    removed integer;
begin
    perform
    from public.privacy_actions a
    where a.id = note_erased_files.action_id
    for no key update;
    delete from private.erased_files f
    where f.action_id = note_erased_files.action_id
      and f.object_key = any (object_keys);
    get diagnostics removed = row_count;
    update public.privacy_actions a
    set counts = a.counts
        || jsonb_build_object('files', coalesce((a.counts -> 'files')::bigint, 0) + removed)
    where a.id = note_erased_files.action_id
      and removed > 0;
end
$$;

grant execute on function backend.note_erased_files(uuid, text[]) to service_role;


create function backend.running_erasures()
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(a.id order by a.created_at, a.id), '[]')
        from public.privacy_actions a
        where a.state = 'running'
          -- one that waits for the end of a hold
          and not private.is_held(a.contact_id)
    );
end
$$;

grant execute on function backend.running_erasures() to service_role;


create function backend.privacy_actions(account text, since timestamptz default null)
    returns jsonb
    language plpgsql
    stable
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
begin
    return (
        select coalesce(jsonb_agg(private.erasure_told(l) order by l.created_at, l.id), '[]')
        from (
            select a.*
            from public.privacy_actions a
            where a.account_id = named
              and (since is null or a.created_at >= since)
            order by a.created_at desc, a.id
            limit 1000
        ) l
    );
end
$$;

grant execute on function backend.privacy_actions(text, timestamptz) to service_role;


create function backend.hold_contact(contact_id uuid, reason text)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.place_hold(
        account_id => private.account_of_contact(hold_contact.contact_id),
        contact_id => hold_contact.contact_id,
        reason => hold_contact.reason
    );
end
$$;

grant execute on function backend.hold_contact(uuid, text) to service_role;


create function backend.release_contact(contact_id uuid)
    returns void
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.end_hold(
        account_id => private.account_of_contact(release_contact.contact_id),
        contact_id => release_contact.contact_id
    );
end
$$;

grant execute on function backend.release_contact(uuid) to service_role;


comment on function private.erase_own_contact(uuid) is
    'Begins to erase a contact of an account that the caller owns.';
comment on function public.erase_contact(uuid) is
    'Erases all that is known of a contact, for its owner: at once the contact goes, its login is unlinked and nothing more is sent to it; its conversations, files and the rest follow within the hour, as privacy_actions shows. Invoices that were sent stay, with their figures alone. It can''t be taken back. Under a legal hold: 409.'
    ' Type: privacy_actions';
comment on function private.export_own_contact(uuid, text, jsonb) is
    'The overview or a page of an export, of an account that the caller owns.';
comment on function public.export_contact(uuid, text, jsonb) is
    'All that is known of a contact, for its owner. Without table_name the list of tables, and the export is recorded in privacy_actions; with one of these a page of its rows, and with the last page''s after the next page, until that is null.'
    ' Type: {account_id?: uuid, account_name?: text, contact_ids?: uuid[], tables?: {table: text, rows: bigint | null, about: text | null}[], rows?: json[], after?: json | null}';
comment on function private.place_hold(uuid, uuid, text) is
    'Places a contact under a legal hold, and records it. One that is held stays held.';
comment on function private.end_hold(uuid, uuid) is
    'Ends the legal hold of a contact, and of those that were merged into it, and records it.';
comment on function private.hold_own_contact(uuid, text) is
    'Holds a contact of an account that the caller owns.';
comment on function public.hold_contact(uuid, text) is
    'Places a contact under a legal hold, for its owner: until release_contact it is neither deleted nor erased. Another call changes nothing.';
comment on function private.release_own_contact(uuid) is
    'Ends the hold of a contact of an account that the caller owns.';
comment on function public.release_contact(uuid) is
    'Ends the legal hold of a contact, for its owner. A contact without one stays as it is.';
comment on function backend.export_overview(uuid, boolean) is
    'What is known of a contact: {account_id, account_name, contact_ids, tables: [{table, rows, about}]}. is_logged records an export.';
comment on function backend.export_page(uuid, text, jsonb, integer) is
    'A page of a contact''s rows in a table: {rows, after}.';
comment on function private.erasure_told(public.privacy_actions) is
    'An action as the command line sees it: with the step of an erasure, up to 100 files that are to be removed, and what was found outside the account''s own tables.';
comment on function backend.erase_contact(uuid) is
    'Begins to erase a contact, or finds the erasure that has begun: the row of privacy_actions with step, files and elsewhere.';
comment on function backend.erase_some(uuid) is
    'Goes on with an erasure for about a second; the same answer. In the step files the worker has to remove these, and to say so. In the step partners it waits for the sync. Call it again until its state is done.';
comment on function backend.note_erased_files(uuid, text[]) is
    'Notes files of an erasure that are no longer in the bucket.';
comment on function backend.running_erasures() is
    'The erasures that are not finished: their ids, the oldest first.';
comment on function backend.privacy_actions(text, timestamptz) is
    'The latest 1,000 actions of an account, which its external id or id names, oldest first.';
comment on function backend.hold_contact(uuid, text) is
    'Places a contact under a legal hold, with the reason.';
comment on function backend.release_contact(uuid) is
    'Ends the legal hold of a contact.';
