/*
    The contacts that are not sent because fields are missing. They have no mark: the next edit gives
    them one. So no run counts them again, and the person who starts a run is told their number.
*/
create function backend.count_blocked_contacts(account_id uuid)
    returns integer
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from public.metakocka_contact_mappings m
        join public.contacts c
            on c.id = m.contact_id
           and c.deleted_at is null
        where m.account_id = count_blocked_contacts.account_id
          and m.state = 'blocked'
          and m.missing <> '{}'
    );
end
$$;

grant execute on function backend.count_blocked_contacts(uuid) to service_role;


comment on function backend.count_blocked_contacts(uuid) is
    'How many contacts of an account are not sent because fields are missing; metakocka_partners shows which.';
