/*
    Renames topics when somebody leaves: a member, a login, a conversation's customer, or a member
    who may no longer write. The people who stay are told to ask for the new names.
*/
create function private.tg__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: users may not write topic epochs
    security definer
    set search_path = ''
as $$
declare
    -- the column that names the owner of the topics
    owner constant uuid := to_jsonb(old) ->> tg_argv[0];
    account constant uuid := old.account_id;
    -- the current names, on which everybody still listens
    topics text[] := array[private.account_topic(account)];
begin
    if not exists (select from public.accounts a where a.id = account) then
        -- The account is being deleted, with all of its topics.
        return null;
    end if;

    -- the account's epoch is part of the names of all its conversations
    topics := topics || array(
        select private.customer_topic(c.id)
        from public.customers c
        where c.account_id = account
          and c.portal_user_id is not null
          and case tg_table_name
                  when 'account_members' then true
                  when 'conversations' then c.id::text = to_jsonb(new) ->> 'customer_id'
                  else false
              end
    );

    insert into private.topic_epochs as e (owner_id, account_id)
    values (owner, account)
    on conflict (owner_id) do update
        set epoch = e.epoch + 1;

    perform private.broadcast_to(topics => topics, event => 'topics.changed', payload => '{}');
    return null;
end
$$;


create trigger _500_raise_epoch
    after delete or update of account_id, user_id on public.account_members
    for each row
    execute function private.tg__raise_epoch('account_id');

-- A new viewer may no longer write, but could still send on topics joined before.
create trigger _500_raise_epoch_viewer
    after update of role on public.account_members
    for each row
    when (new.role = 'viewer' and old.role <> 'viewer')
    execute function private.tg__raise_epoch('account_id');

create trigger _500_raise_epoch
    after update of portal_user_id on public.customers
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg__raise_epoch('id');

create trigger _500_raise_epoch
    after update of customer_id on public.conversations
    for each row
    when (old.customer_id <> new.customer_id)
    execute function private.tg__raise_epoch('id');


create function private.tg_customers__raise_desk_epoch()
    returns trigger
    language plpgsql
    -- definer: users may not write desk epochs
    security definer
    set search_path = ''
as $$
declare
    raised integer;
begin
    -- once in a transaction, however many logins leave
    if current_setting('rapport.desk_raised', true) = old.account_id::text
        -- a merge has given the login to another contact of the account
        or exists (
            select
            from public.customers c
            where c.account_id = old.account_id
              and c.portal_user_id = old.portal_user_id
        )
        -- the account is being deleted
        or not exists (select from public.accounts a where a.id = old.account_id)
    then
        return null;
    end if;

    insert into private.desk_epochs as e (account_id)
    values (old.account_id)
    on conflict (account_id) do update
        set epoch = e.epoch + 1
    returning e.epoch into raised;
    perform set_config('rapport.desk_raised', old.account_id::text, true);

    -- Staff hear it on their own topic. An account may have 50,000 customers, so one message on the
    -- desk's topic tells all who watch the desk, and also the one who leaves.
    perform private.broadcast_to(
        topics => array[private.desk_topic(
            account_id => old.account_id,
            epoch => private.topic_epoch(old.account_id) + raised - 1
        )],
        event => 'topics.changed',
        payload => '{}'
    );
    return null;
end
$$;


-- At the end of the transaction: everybody who unlinks a customer of an account waits for the same
-- row here. A transaction that waits at its end has no other lock left to take.
create constraint trigger _510_raise_desk_epoch_update
    after update of portal_user_id on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null and old.portal_user_id is distinct from new.portal_user_id)
    execute function private.tg_customers__raise_desk_epoch();

create constraint trigger _510_raise_desk_epoch_delete
    after delete on public.customers
    deferrable initially deferred
    for each row
    when (old.portal_user_id is not null)
    execute function private.tg_customers__raise_desk_epoch();


comment on function private.tg__raise_epoch() is
    'Renames the topics that a listener has lost, and tells the other listeners.';
comment on function private.tg_customers__raise_desk_epoch() is
    'Renames the desk''s topic when a customer can no longer watch it, and tells its watchers.';
