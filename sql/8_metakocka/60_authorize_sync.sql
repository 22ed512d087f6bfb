/*
    The requests of owners and admins to the sync. They can't see that other accounts' contacts
    exist, and a forbidden request is refused before anything is looked up.
*/
create function private.sync_account(account_id uuid, contact_ids uuid[])
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    chosen uuid := account_id;
begin
    -- by its contacts, or else the caller's only account
    if chosen is null then
        select min(c.account_id::text)::uuid
        into chosen
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id in (select private.my_account_ids())
        having count(distinct c.account_id) = 1;
    end if;
    if chosen is null then
        select case when count(*) = 1 then min(a::text)::uuid end
        into chosen
        from private.my_admin_account_ids() a;
    end if;

    if chosen is null and (select count(*) from private.my_admin_account_ids()) > 1 then
        raise sqlstate 'PT422' using
            message = 'You administer several accounts, and the request names none.',
            detail = 'field: account_id',
            hint = 'Give the account_id.';
    end if;
    if chosen is null or chosen not in (select private.my_admin_account_ids()) then
        if chosen is not null and chosen not in (select private.my_account_ids()) then
            raise sqlstate 'PT404' using
                message = 'There is no such account, or it is not yours to see.',
                detail = 'field: account_id';
        end if;
        raise insufficient_privilege using
            message = 'You may not synchronize the contacts of this account.',
            detail = 'field: account_id',
            hint = 'Owners and admins of the account may.';
    end if;
    if not exists (
        select
        from public.metakocka_connections k
        where k.account_id = chosen
          and k.active
    ) then
        raise sqlstate 'PT409' using
            message = 'This account has no active connection to Metakocka.',
            detail = 'field: account_id',
            hint = 'Connect the account first (metakocka_connections).';
    end if;
    return chosen;
end
$$;


create function private.authorize(account_id uuid, contact_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    chosen constant uuid := private.sync_account(
        account_id => authorize.account_id, contact_ids => authorize.contact_ids);
    known constant uuid[] := array(
        select c.id
        from public.contacts c
        where c.id = any (contact_ids)
          and c.account_id = chosen
          and c.deleted_at is null
        order by c.id
    );
begin
    return jsonb_build_object(
        'account_id', chosen,
        'user_id', auth.uid(),
        'contact_ids', known,
        'not_found', array(
            select distinct i
            from unnest(contact_ids) i
            where i <> all (known)
            order by i
        )
    );
end
$$;

grant execute on function private.authorize(uuid, uuid[]) to authenticated;


create function public.authorize_sync(account_id uuid default null, contact_ids uuid[] default '{}')
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.authorize(
        account_id => authorize_sync.account_id, contact_ids => authorize_sync.contact_ids);
end
$$;

grant execute on function public.authorize_sync(uuid, uuid[]) to authenticated;


comment on function private.sync_account(uuid, uuid[]) is
    'The account of a request. Refuses an account that is not connected or that the caller does not administer.';
comment on function private.authorize(uuid, uuid[]) is
    'The account, and the contacts that belong to it.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts. For owners and admins of a connected account. Without account_id the account of the contacts counts, or the only one that you administer.'
    ' Type: {account_id: uuid, user_id: uuid, contact_ids: uuid[], not_found: uuid[]}';
