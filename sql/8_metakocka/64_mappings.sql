/*
    The partners of contacts, for users who may read the contacts.
*/
create function public.metakocka_mappings(
    contact_id uuid default null,
    cursor text default null,
    page_size integer default 100,
    account_id uuid default null
)
    returns jsonb
    language plpgsql
    stable
    -- invoker: rows that the caller may not read do not exist for it
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    last_contact_id uuid;
    page jsonb;
begin
    -- also where there is no row that it would be compared with
    if not pg_input_is_valid(substr(cursor, 1, 36), 'uuid') then
        raise sqlstate 'PT422' using
            message = 'This is not a cursor of metakocka_mappings.',
            detail = 'field: cursor',
            hint = 'Send the cursor of the last page unchanged, or none to start anew.';
    end if;
    last_contact_id := substr(cursor, 1, 36)::uuid;
    if contact_id is not null and not exists (
        select
        from public.contacts c
        where c.id = metakocka_mappings.contact_id
          and c.deleted_at is null
    ) then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = 'field: contact_id';
    end if;

    select coalesce(jsonb_agg(to_jsonb(p) order by p.metakocka_id, p.contact_id), '[]')
    into page
    from (
        select
            m.contact_id, m.account_id, m.metakocka_id, m.state, m.missing, m.user_id,
            m.last_synced_at, m.created_at, m.updated_at
        from public.metakocka_contact_mappings m
        where (metakocka_mappings.contact_id is null or m.contact_id = metakocka_mappings.contact_id)
          and (metakocka_mappings.account_id is null or m.account_id = metakocka_mappings.account_id)
          and m.metakocka_id is not null
          and (
              metakocka_mappings.cursor is null
              or (m.metakocka_id, m.contact_id) > (
                  substr(metakocka_mappings.cursor, 38),
                  last_contact_id
              )
          )
        order by m.metakocka_id, m.contact_id
        limit page_limit
    ) p;
    return jsonb_build_object(
        'mappings', page,
        'cursor', case
            when jsonb_array_length(page) = page_limit
                then concat_ws(' ', page -> -1 ->> 'contact_id', page -> -1 ->> 'metakocka_id')
        end
    );
end
$$;

grant execute on function public.metakocka_mappings(uuid, text, integer, uuid) to authenticated;


comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'The partners of contacts, by page: of one contact, or of all that you may see. The last page has no cursor.'
    ' Type: {mappings: {contact_id: uuid, account_id: uuid, metakocka_id: text, state: metakocka_contact_mappings.state, missing: text[], user_id: uuid | null, last_synced_at: timestamptz | null, created_at: timestamptz, updated_at: timestamptz}[], cursor: text | null}';
