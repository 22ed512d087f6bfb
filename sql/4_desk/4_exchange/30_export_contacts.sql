/*
    Exports an account's contacts page by page, in the form that import_contacts takes: an import
    of an export changes nothing.
*/
create function private.exported_contacts(ids uuid[])
    returns table (id uuid, contact jsonb)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        s.id,
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
    from unnest(exported_contacts.ids) i (id)
    join private.contact_states s
        on s.id = i.id
    join public.status_words w
        on w.face = 'contacts_page'
       and w.status = s.status;
end
$$;


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
        select coalesce(jsonb_agg(e.contact order by e.id), '[]')
        from private.exported_contacts(array(
            -- customers has one row for each contact that is not deleted, and its index has this
            -- order
            select c.id
            from public.customers c
            where c.account_id = owner_id
              and c.id > coalesce(after, '00000000-0000-0000-0000-000000000000')
            order by c.id
            limit least(greatest(export_contacts.page_size, 1), 1000)
        )) e
    );
end
$$;

grant execute on function backend.export_contacts(text, uuid, integer) to service_role;


comment on function private.exported_contacts(uuid[]) is
    'Contacts as a file has them, in the words of the contacts page.';
comment on function backend.export_contacts(text, uuid, integer) is
    'A page of an account''s contacts after an id, in the order of ids. page_size is 1,000 at most; the last page is shorter.';


/*
    The contacts that rows of a file name by their ids. Only a comparison with the values that the
    contact shows can tell an edit from the damage that a spreadsheet does to an export.
*/
create function backend.contacts_of_ids(account text, ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    owner_id constant uuid := private.account_named(contacts_of_ids.account);
begin
    if cardinality(ids) > 200 then
        raise sqlstate 'PT422' using
            message = format('These are %s ids.', cardinality(ids)),
            detail = 'field: ids',
            hint = 'Send at most 200 in one call.';
    end if;
    return (
        with recursive named as (
            select i.id as asked, i.id
            from unnest(ids) i (id)
            union all
            -- follow all merges to the contact that is left; a circle of merges can't be written
            select n.asked, c.merged_into
            from named n
            join public.contacts c
                on c.id = n.id
               and c.account_id = owner_id
            where c.merged_into is not null
        )
        select coalesce(jsonb_object_agg(n.asked, e.contact), '{}')
        from named n
        join public.contacts c
            on c.id = n.id
           and c.account_id = owner_id
           and c.deleted_at is null
        cross join lateral private.exported_contacts(array[c.id]) e
    );
end
$$;

grant execute on function backend.contacts_of_ids(text, uuid[]) to service_role;


comment on function backend.contacts_of_ids(text, uuid[]) is
    'Up to 200 contacts of an account by their ids, in the form of export_contacts: {id: contact}. For a merged contact it is the one into which it was merged. Deleted contacts, and those of other accounts, are left out.';
