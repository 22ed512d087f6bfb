/*
    What owners and admins ask of the sync. What is another account's does not exist for them,
    and what they may not do is refused before anything is looked up.
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
    -- named by its contacts, or the only one there is
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
            message = 'Several accounts are yours: say which one is meant.',
            detail = 'field: account_id';
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
            hint = 'Its owners and admins may.';
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
            hint = 'Connect it first (metakocka_connections).';
    end if;
    return chosen;
end
$$;


create function private.authorize(account_id uuid, contact_ids uuid[])
    returns jsonb
    language plpgsql
    stable
    -- definer: the caller is asked for first
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


create function private.queue_sync(
    account_id uuid,
    direction text,
    contact_ids uuid[],
    metakocka_ids text[]
)
    returns uuid
    language plpgsql
    -- definer: runs and marks are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
-- a partial index is named by its columns alone
#variable_conflict use_column
declare
    chosen constant uuid := private.sync_account(
        account_id => queue_sync.account_id, contact_ids => queue_sync.contact_ids);
    asked_for jsonb;
    queued uuid;
    marked uuid[];
begin
    if direction is null or direction not in ('to_metakocka', 'from_metakocka', 'both') then
        raise sqlstate 'PT422' using
            message = 'There is no such direction.',
            detail = 'field: direction',
            hint = 'Known: to_metakocka, from_metakocka, both.';
    elsif cardinality(contact_ids) > 1000 or cardinality(metakocka_ids) > 1000 then
        raise sqlstate 'PT422' using
            message = 'These are too many for one request.',
            detail = case
                when cardinality(contact_ids) > 1000 then 'field: contact_ids'
                else 'field: metakocka_ids'
            end,
            hint = 'At most 1,000; without any all are meant.';
    elsif exists (select from unnest(metakocka_ids) i where i is null or i !~ '^[^\s]{1,64}$') then
        raise sqlstate 'PT422' using
            message = 'This is not the id of a partner.',
            detail = 'field: metakocka_ids';
    end if;

    asked_for := jsonb_strip_nulls(jsonb_build_object(
        'contact_ids', (
            select jsonb_agg(c.id order by c.id)
            from public.contacts c
            where c.id = any (contact_ids)
              and c.account_id = chosen
              and c.deleted_at is null
        ),
        'metakocka_ids', (
            select jsonb_agg(distinct i order by i)
            from unnest(metakocka_ids) i
        )
    ));
    if cardinality(contact_ids) > 0 and not asked_for ? 'contact_ids' then
        raise sqlstate 'PT404' using
            message = 'There are no such contacts, or they are not yours to see.',
            detail = 'field: contact_ids';
    end if;

    if direction <> 'from_metakocka' then
        marked := array(
            select c.id
            from public.contacts c
            left join public.metakocka_contact_mappings m
                on m.contact_id = c.id
            where c.account_id = chosen
              and c.deleted_at is null
              and case
                  when asked_for ? 'contact_ids' then c.id = any (contact_ids)
                  else m.state is distinct from 'synced'
              end
            order by c.id
        );
        if marked <> '{}' then
            perform private.mark_dirty(
                account_id => chosen, contact_ids => marked, quiet_for => interval '0');
        end if;
    end if;

    insert into public.sync_runs as r (account_id, direction, trigger, request, user_id)
    values (chosen, queue_sync.direction, 'user', asked_for, auth.uid())
    -- the same that waits already: its answer is for both
    on conflict (account_id, direction, md5(request::text)) where state = 'queued' do nothing
    returning r.id
    into queued;
    if queued is null then
        select r.id
        into queued
        from public.sync_runs r
        where r.account_id = chosen
          and r.direction = queue_sync.direction
          and r.request = asked_for
          and r.state in ('queued', 'running')
        order by r.created_at desc
        limit 1;
    end if;
    perform private.ring('metakocka_sync');
    return queued;
end
$$;

grant execute on function private.queue_sync(uuid, text, uuid[], text[]) to authenticated;


create function public.request_sync(
    direction text,
    account_id uuid default null,
    contact_ids uuid[] default '{}',
    metakocka_ids text[] default '{}'
)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
begin
    return private.queue_sync(
        account_id => request_sync.account_id,
        direction => request_sync.direction,
        contact_ids => request_sync.contact_ids,
        metakocka_ids => request_sync.metakocka_ids
    );
end
$$;

grant execute on function public.request_sync(text, uuid, uuid[], text[]) to authenticated;


create function public.metakocka_mappings(
    contact_id uuid default null,
    cursor text default null,
    page_size integer default 100,
    account_id uuid default null
)
    returns jsonb
    language plpgsql
    stable
    -- invoker: what the caller may not read does not exist
    set search_path = ''
as $$
declare
    page_limit constant integer := least(greatest(page_size, 1), 1000);
    page jsonb;
begin
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
                  substr(metakocka_mappings.cursor, 1, 36)::uuid
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
exception
    when invalid_text_representation then
        raise sqlstate 'PT400' using
            message = 'This is not a cursor of metakocka_mappings.',
            hint = 'Send the cursor of the last page unchanged, or none to start anew.';
end
$$;

grant execute on function public.metakocka_mappings(uuid, text, integer, uuid) to authenticated;


comment on function private.sync_account(uuid, uuid[]) is
    'The account that is meant; refused unless it is connected and the caller administers it.';
comment on function private.authorize(uuid, uuid[]) is
    'The account and those of the contacts that are its own.';
comment on function public.authorize_sync(uuid, uuid[]) is
    'Whether you may synchronize these contacts: {account_id, user_id, contact_ids, not_found}, for owners and admins of a connected account. Without account_id that of the contacts, or the only one that you administer.';
comment on function private.queue_sync(uuid, text, uuid[], text[]) is
    'Queues a run, marks its contacts and rings; returns the run''s id.';
comment on function public.request_sync(text, uuid, uuid[], text[]) is
    'Asks for a sync of some contacts or partners, or of all: returns the id of a run in sync_runs. For owners and admins; contacts of another account do not exist.';
comment on function public.metakocka_mappings(uuid, text, integer, uuid) is
    'Which contacts are which partners, by page: {mappings, cursor}; of one contact, or of all that you see. The last page has no cursor.';
