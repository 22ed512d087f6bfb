/*
    What before_request looks at before each request of PostgREST: whether the caller may do it.
    Postgres refuses what is not granted in words of its own, before any trigger: here it is said
    which table is not written so, and what writes it.

    Source: docs.postgrest.org, "Configuration", db-pre-request.
*/
create function private.way_to_write(relation text)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select case relation
        when 'account_events' then 'They are what WhatsApp tells of an account, kept as it came.'
        when 'account_members' then 'Members are added by whoever runs the service.'
        when 'accounts' then 'Accounts are made and closed by whoever runs the service.'
        when 'contact_identities' then 'They follow what is written to contacts_v2.'
        when 'contact_merges' then 'Call merge_contacts or undo_merge.'
        when 'contact_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'contacts' then 'Write contacts_v2, or call upsert_contact.'
        when 'conversation_activity' then 'It follows the messages.'
        when 'conversations' then 'Call set_conversation_status or mark_read; a message opens a conversation.'
        when 'customers' then 'Staff write contacts_v2, customers my_profile.'
        when 'inbox' then 'Call set_conversation_status or mark_read; write messages.'
        when 'invoices' then 'Invoices are not deleted: write the status void.'
        when 'jobs' then 'Jobs are not deleted: write the status cancelled.'
        when 'loyalty_balances' then 'Insert a line into loyalty_transactions.'
        when 'loyalty_transactions' then 'Lines stay as they are: insert one that takes back what another gave.'
        when 'message_media' then 'POST /api/media announces a file; refetch_media fetches one again.'
        when 'messages' then 'Messages are inserted; delete_message blanks one.'
        when 'metakocka_contact_mappings' then 'Call resolve_sync_conflict to say which partner a contact is.'
        when 'my_profile' then 'A profile is updated; claim_portal_invitation opens one.'
        when 'open_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'portal_invitations' then 'Call invite_to_portal or revoke_invitation.'
        when 'read_markers' then 'Call mark_read.'
        when 'rejected_webhooks' then 'They are what WhatsApp delivered; rapport replay applies them once their cause is mended.'
        when 'sendable_templates' then 'Templates are written at WhatsApp and read from there.'
        when 'status_words' then 'The words of faces are fixed.'
        when 'sync_conflicts' then 'Call resolve_sync_conflict.'
        when 'sync_errors' then 'They are what went wrong, and go by themselves.'
        when 'sync_runs' then 'Call request_sync.'
        when 'whatsapp_channels' then 'Numbers are added by whoever runs the service; resume_channel starts a stopped one.'
        when 'whatsapp_templates' then 'Templates are written at WhatsApp and read from there.'
    end
$$;


create function private.check_request()
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- not current_user: a definer function may call this
    role_name constant name := current_setting('role');
    method constant text := current_setting('request.method', true);
    -- text while it need not be read
    headers constant text := current_setting('request.headers', true);
    -- /contacts, /rpc/mark_read
    names text[];
    wanted oid;
    upserts boolean;
    right_to text;
    is_allowed boolean;
    is_view boolean;
begin
    -- users may read what there is; what functions call is theirs
    if role_name = 'service_role'
        or (role_name = 'authenticated' and method in ('GET', 'HEAD') and headers not like '%-profile"%')
    then
        return;
    end if;
    names := string_to_array(current_setting('request.path', true), '/');
    if coalesce(names[2], '') = '' then
        return;
    end if;

    wanted := to_regnamespace(quote_ident(coalesce(
        headers::jsonb ->> case
            when method in ('GET', 'HEAD') then 'accept-profile'
            else 'content-profile'
        end,
        'public')));
    if names[2] = 'rpc' then
        select bool_or(has_function_privilege(role_name, p.oid, 'execute'))
        into is_allowed
        from pg_catalog.pg_proc p
        where p.pronamespace = wanted
          and p.proname = names[3];
    else
        upserts := method = 'PUT'
            or (method = 'POST' and headers::jsonb ->> 'prefer' like '%resolution=%');
        -- what a request takes, the last one as it is told
        foreach right_to in array
            case
                when method in ('GET', 'HEAD') then array['select']
                when method = 'DELETE' then array['delete']
                when method = 'PATCH' then array['update']
                when upserts and headers::jsonb ->> 'prefer' like '%resolution=ignore-duplicates%'
                    then array['insert']
                when upserts then array['insert', 'update']
                else array['insert']
            end
        loop
            select
                case right_to
                    when 'delete' then has_table_privilege(role_name, c.oid, right_to)
                    else has_any_column_privilege(role_name, c.oid, right_to)
                end,
                c.relkind = 'v'
            into is_allowed, is_view
            from pg_catalog.pg_class c
            where c.relnamespace = wanted
              and c.relname = names[2];
            exit when is_allowed is false;
        end loop;
    end if;

    if has_schema_privilege(role_name, wanted, 'usage') is false then
        is_allowed := false;
    end if;
    if is_allowed is false and role_name <> 'authenticated' then
        raise insufficient_privilege using
            message = 'Sign in first.',
            hint = 'Send a user''s access token in the header Authorization.';
    elsif is_allowed is false and (names[2] = 'rpc' or wanted <> 'public'::regnamespace) then
        raise insufficient_privilege using
            message = 'This is for the functions of Rapport alone.',
            hint = 'Users read and write what is in the schema public.';
    elsif is_allowed is false then
        raise insufficient_privilege using
            message = format(
                'Rows of %s are not %s by users.',
                names[2],
                case right_to
                    when 'insert' then 'inserted'
                    when 'update' then 'updated'
                    when 'delete' then 'deleted'
                    else 'read'
                end
            ),
            hint = coalesce(
                private.way_to_write(names[2]), 'See what the table''s description says.');
    elsif upserts and is_view then
        raise sqlstate 'PT405' using
            message = format('%s is a view and takes no upsert.', names[2]),
            hint = 'Insert, update, or call upsert_contact.';
    end if;
    -- what there is not PostgREST says itself
end
$$;


comment on function private.way_to_write(text) is
    'What writes the rows that users do not write themselves, or not so.';
comment on function private.check_request() is
    'Refuses in words what the role of a request was not granted.';
