/*
    What each audience is shown of a row when it is broadcast: for staff and for customers,
    a subset of what that audience can select. A column that is not named here is not sent.
*/
create function private.shown_columns(table_name text, audience text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case shown_columns.table_name
        when 'contacts' then
            case audience when 'staff' then array[
                'id', 'account_id', 'name', 'profile_name', 'phone', 'email', 'tags', 'notes',
                'portal_user_id', 'created_at', 'updated_at', 'version', 'username', 'status',
                'preferences', 'status_changed_at', 'gsm', 'fax', 'business_entity', 'taxpayer', 'foreign_county',
                'buyer', 'supplier', 'tax_id_number', 'registration_number', 'street',
                'post_number', 'place', 'province', 'country', 'people', 'addresses'
            ] end
        when 'customers' then array[
            'id', 'account_id', 'portal_user_id', 'name', 'phone', 'email', 'created_at',
            'updated_at', 'version', 'preferences'
        ]
        when 'conversations' then array[
            'id', 'account_id', 'customer_id', 'channel', 'whatsapp_channel_id', 'thread_key',
            'customer_wa_id', 'status', 'created_at', 'updated_at', 'version', 'booking_id'
        ]
        when 'messages' then array[
            'id', 'account_id', 'conversation_id', 'customer_id', 'seq', 'sender_type',
            'sender_id', 'sender_name', 'type', 'message', 'content', 'reply_to', 'client_ref',
            'provider_id', 'status', 'sent_at', 'delivered_at', 'read_at', 'failed_at',
            'error_code', 'error_message', 'created_at', 'updated_at', 'version', 'reactions',
            'edited_at', 'revoked_at', 'booking_id', 'has_invoice', 'invoice_data',
            'whatsapp_channel_id'
        ]
        when 'jobs' then array[
            'id', 'account_id', 'customer_id', 'service_type', 'status', 'starts_at', 'ends_at',
            'address', 'description', 'created_at', 'updated_at', 'version'
        ]
        when 'invoices' then array[
            'id', 'account_id', 'customer_id', 'job_id', 'number', 'status', 'currency',
            'amount_minor', 'tax_minor', 'description', 'issued_on', 'due_on', 'sent_at',
            'paid_at', 'voided_at', 'created_at', 'updated_at', 'version'
        ]
        when 'loyalty_transactions' then array[
            'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_on',
            'created_at', 'updated_at', 'version'
        ]
        when 'sync_runs' then
            case audience when 'staff' then array[
                'id', 'account_id', 'direction', 'trigger', 'state', 'total', 'done', 'succeeded',
                'failed', 'unchanged', 'errors', 'user_id', 'started_at', 'finished_at',
                'duration_ms', 'resumes_at', 'created_at', 'updated_at', 'version'
            ] end
    end;
end
$$;


create type private.hidden_columns as (
    staff    text[],
    customer text[]
);


create function private.hidden_columns(table_name text, sample jsonb)
    returns private.hidden_columns
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    staff constant text[] := private.shown_columns(table_name, 'staff');
    customer constant text[] := private.shown_columns(table_name, 'customer');
    -- hidden for sure; asking what else there is takes a statement
    known constant text[] := case hidden_columns.table_name
        when 'contacts' then array['profile_named_at', 'deleted_at', 'merged_into']
        else '{}'
    end;
begin
    if (customer = staff) is not false and sample - staff - known = '{}' then
        return (known, case when customer is not null then known end)::private.hidden_columns;
    end if;
    return (
        array(select k from jsonb_object_keys(sample) k where k <> all (staff)),
        case when customer is not null then
            array(select k from jsonb_object_keys(sample) k where k <> all (customer))
        end
    )::private.hidden_columns;
end
$$;


create function private.unshown_columns(table_name text)
    returns text[]
    language plpgsql
    -- with a name that stands in a statement the answer becomes part of its plan, which is made
    -- anew when the table is altered
    immutable
    set search_path = ''
as $$
begin
    return array(
        select a.attname::text
        from pg_attribute a
        where a.attrelid = ('public.' || quote_ident(unshown_columns.table_name))::regclass
          and a.attnum > 0
          and not a.attisdropped
          and a.attname <> all (
              array(
                  select unnest(private.shown_columns(unshown_columns.table_name, 'staff'))
                  intersect
                  select unnest(private.shown_columns(unshown_columns.table_name, 'customer'))
              )
          )
    );
end
$$;


comment on function private.shown_columns(text, text) is
    'The columns of a table that staff or customers are sent; null where they are sent nothing.';
comment on type private.hidden_columns is
    'The columns of a row that staff and customers are not sent; null where they are sent nothing.';
comment on function private.hidden_columns(text, jsonb) is
    'What of a row each audience is not sent: columns that are known to be hidden, and newer ones that nobody has named.';
comment on function private.unshown_columns(text) is
    'The columns of a table that are not sent to staff and customers alike, newer ones that nobody has named among them.';
