/*
    An account as a command names it: by its external id, or by its id.
*/
create function private.account_named(account text)
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
    where a.external_id = account
       or a.id::text = lower(account)
    -- an external id may look like the id of another account
    order by a.external_id = account desc
    limit 1;
    if found_id is null then
        raise sqlstate 'PT404' using
            message = format('There is no such account: %s.', left(account, 100)),
            detail = 'field: account',
            hint = 'Give the external_id or the id of an account. `rapport account list` shows them.';
    end if;
    return found_id;
end
$$;


comment on function private.account_named(text) is
    'The account with this external_id or this id.';
