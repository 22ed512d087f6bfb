/*
    A sync that a user asks for: a queued run, of some contacts or partners, or of all.
*/
create function private.queue_sync(
    account_id uuid,
    direction text,
    contact_ids uuid[],
    metakocka_ids text[]
)
    returns uuid
    language plpgsql
    -- definer: users may not write runs and marks; the function checks the caller first
    security definer
    set search_path = ''
as $$
-- a partial index can only be named by its columns
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
            hint = 'Use to_metakocka, from_metakocka or both.';
    elsif cardinality(contact_ids) > 1000 or cardinality(metakocka_ids) > 1000 then
        raise sqlstate 'PT422' using
            message = format('At most 1,000 can be named in one request; %s were.', greatest(cardinality(contact_ids), cardinality(metakocka_ids))),
            detail = case
                when cardinality(contact_ids) > 1000 then 'field: contact_ids'
                else 'field: metakocka_ids'
            end,
            hint = 'Send at most 1,000 in one request, or none to mean all.';
    elsif exists (select from unnest(metakocka_ids) i where i is null or i !~ '^[^\s]{1,64}$') then
        raise sqlstate 'PT422' using
            message = 'This is not the id of a partner.',
            detail = 'field: metakocka_ids',
            hint = 'An id has 1 to 64 characters and no space.';
    elsif cardinality(metakocka_ids) > 0
        and (direction = 'to_metakocka' or cardinality(contact_ids) > 0)
    then
        raise sqlstate 'PT422' using
            message = 'One request can''t name both partners and contacts, and partners can only be read from Metakocka.',
            detail = 'field: metakocka_ids',
            hint = 'Name the contacts in a request of their own.';
    elsif cardinality(contact_ids) > 0 and direction = 'from_metakocka' then
        raise sqlstate 'PT422' using
            message = 'Only partners can be read from Metakocka.',
            detail = 'field: contact_ids',
            hint = 'Name them by metakocka_ids. metakocka_mappings has the ids of contacts'' partners.';
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

    -- the sync still sends the values that the partners lack
    if direction <> 'from_metakocka' and not asked_for ? 'metakocka_ids' then
        marked := array(
            select c.id
            from public.contacts c
            left join public.metakocka_contact_mappings m
                on m.contact_id = c.id
            where c.account_id = chosen
              and c.deleted_at is null
              and case
                  when asked_for ? 'contact_ids' then c.id = any (contact_ids)
                  -- skips unlinked contacts
                  else coalesce(m.state not in ('synced', 'unlinked'), true)
              end
            order by c.id
        );
        perform private.mark_requested(account_id => chosen, contact_ids => marked);
    end if;

    insert into public.sync_runs as r (account_id, direction, trigger, request, user_id)
    values (chosen, queue_sync.direction, 'user', asked_for, auth.uid())
    -- the same request waits already: its answer serves both
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


comment on function private.queue_sync(uuid, text, uuid[], text[]) is
    'Queues a run, marks its contacts and rings. Returns the run''s id.';
comment on function public.request_sync(text, uuid, uuid[], text[]) is
    'Asks for a sync of some contacts or partners, or of all. Returns the id of a run in sync_runs. For owners and admins. Other accounts'' contacts count as unknown.'
    ' Type: (direction: sync_runs.direction) => uuid';
