/*
    Leaving means leaving: when a member, a login or a conversation's customer goes, the topics
    that they could hear are renamed, and those who stay are told to ask for the new names.
*/
create function private.tg__raise_epoch()
    returns trigger
    language plpgsql
    -- definer: topic epochs are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    -- the column that says whose topics are renamed
    owner constant uuid := to_jsonb(old) ->> tg_argv[0];
    account constant uuid := old.account_id;
    -- by their present names, on which everybody still listens
    topics text[] := array[private.account_topic(account)];
begin
    if not exists (select from public.accounts a where a.id = account) then
        -- the account itself is being deleted, and all of its topics with it
        return null;
    end if;

    -- an account's epoch is part of the names of all its conversations
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


comment on function private.tg__raise_epoch() is
    'Renames the topics of whoever lost a listener, and tells the others.';
