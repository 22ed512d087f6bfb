/*
    Before each request of PostgREST, before_request checks here whether the caller may make it.
    Postgres refuses a missing grant before any trigger, in its own words. Here a sentence says
    which table users do not write, and how its rows are written.

    Source: docs.postgrest.org, "Configuration", db-pre-request.
*/
create function private.way_to_write(relation text)
    returns text
    language sql
    immutable
    set search_path = ''
as $$
    select case relation
        when 'account_events' then 'WhatsApp sends them; they stay as they came.'
        when 'account_health' then 'The system finds the troubles; mend their cause.'
        when 'account_members' then 'Ask the people who run this service to add a member.'
        when 'accounts' then 'Ask the people who run this service to open or close an account.'
        when 'contact_identities' then 'Write contacts_v2: identities follow its phone, email and username.'
        when 'contact_merges' then 'Call merge_contacts or undo_merge.'
        when 'contact_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'contacts' then 'Write contacts_v2, or call upsert_contact.'
        when 'conversation_activity' then 'Insert messages: the activity follows them.'
        when 'conversation_labels' then 'Call label_conversation or unlabel_conversation.'
        when 'conversation_notes' then 'Insert notes; delete_note deletes one.'
        when 'conversations' then 'Call set_conversation_status or mark_read; a new message opens a conversation.'
        when 'customers' then 'Staff write contacts_v2, customers write my_profile.'
        when 'desk_states' then 'Call take_conversation, hand_over_conversation, release_conversation or snooze_conversation.'
        when 'inbox' then 'Call set_conversation_status or mark_read, or insert messages.'
        when 'invoices' then 'Invoices are not deleted: set the status to void.'
        when 'jobs' then 'Jobs are not deleted: set the status to cancelled.'
        when 'loyalty_balances' then 'Insert a line into loyalty_transactions.'
        when 'loyalty_transactions' then 'Lines stay as they are: insert another line that takes the points back.'
        when 'message_media' then 'POST /api/media announces a file; refetch_media fetches one again.'
        when 'messages' then 'Insert messages; delete_message deletes one.'
        when 'metakocka_contact_mappings' then 'Call resolve_sync_conflict to say which partner a contact is.'
        when 'my_profile' then 'Update your profile; claim_portal_invitation opens one.'
        when 'notification_choices' then 'Call choose_notifications.'
        when 'open_suggestions' then 'Call suggest_duplicates, merge_contacts or dismiss_suggestion.'
        when 'portal_invitations' then 'Call invite_to_portal or revoke_invitation.'
        when 'privacy_actions' then 'Call erase_contact, export_contact, hold_contact or release_contact.'
        when 'push_subscriptions' then 'Call save_push_subscription or delete_push_subscription.'
        when 'read_markers' then 'Call mark_read.'
        when 'rejected_webhooks' then 'WhatsApp delivered them; rapport replay applies them once their cause is removed.'
        when 'scheduled_messages' then 'Scheduled messages are not deleted: set the status to cancelled.'
        when 'sendable_templates' then 'Write templates at WhatsApp; they are read from there.'
        when 'status_words' then 'The words of faces are fixed.'
        when 'sync_conflicts' then 'Call resolve_sync_conflict.'
        when 'sync_errors' then 'The sync writes its errors, and deletes old ones.'
        when 'sync_runs' then 'Call request_sync.'
        when 'whatsapp_channels' then 'Ask the people who run this service to add a number; resume_channel starts a stopped one, pause_sending and resume_sending pause and resume one.'
        when 'whatsapp_templates' then 'Write templates at WhatsApp; they are read from there.'
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
    -- as text: most requests need not parse it
    headers constant text := current_setting('request.headers', true);
    -- /contacts, /rpc/mark_read
    names text[];
    wanted oid;
    upserts boolean;
    right_to text;
    is_allowed boolean;
    is_view boolean;
begin
    -- no check for a user's reads in public, and for the functions
    if (role_name = 'service_role' and headers like '%-profile"%')
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
        -- the rights that a request needs; the loop ends at the first one that is missing
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
    if is_allowed is false and role_name = 'service_role' then
        raise insufficient_privilege using
            message = 'A secret key reads and writes nothing in the schema public.',
            hint = 'Send a user''s access token with the publishable key. What a secret key may'
                ' call is in the schema backend: send Content-Profile: backend.';
    elsif is_allowed is false and role_name <> 'authenticated' then
        raise insufficient_privilege using
            message = 'Sign in first.',
            hint = 'Send a user''s access token in the header Authorization.';
    elsif is_allowed is false and (names[2] = 'rpc' or wanted <> 'public'::regnamespace) then
        raise insufficient_privilege using
            message = 'Only the functions of Rapport may use this.',
            hint = 'Users read and write the schema public.';
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
                private.way_to_write(names[2]), 'Read the description of the table.');
    elsif upserts and is_view then
        raise sqlstate 'PT405' using
            message = format('%s is a view and takes no upsert.', names[2]),
            hint = 'Insert, update, or call upsert_contact.';
    end if;
    -- PostgREST itself says if the table or function does not exist
end
$$;


comment on function private.way_to_write(text) is
    'How the rows of a table are written that users do not write themselves, or not in this way.';
comment on function private.check_request() is
    'Refuses a request for which its role has no grant, with a sentence.';
