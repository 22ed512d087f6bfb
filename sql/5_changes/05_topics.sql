/*
    The private topics on which changes are broadcast, and who may join them.

        account:<account>:<epoch>               staff: everything of the account
        customer:<customer>:<epoch>             the customer: everything of theirs
        conversation:<conversation>:<epochs>    both sides: one conversation

    A subscriber is authorised once, when it joins. So leaving must change the name: an epoch rises
    when a member or a portal login is removed. Later messages go to new names, and the one who left
    can't join those.
*/
create table private.topic_epochs (
    -- The id of an account, a customer or a conversation.
    owner_id   uuid primary key,
    account_id uuid not null
               constraint topic_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.topic_epochs enable row level security;


create index topic_epochs_account_id_idx on private.topic_epochs (account_id);


create policy "nobody reads topic epochs directly"
    on private.topic_epochs
    for all
    to authenticated
    using (false);


create function private.topic_epoch(owner_id uuid)
    returns integer
    -- Every write calls this function and those built on it. A session keeps the plans of plpgsql.
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce((
        select e.epoch
        from private.topic_epochs e
        where e.owner_id = topic_epoch.owner_id
    ), 0);
end
$$;


create function private.account_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 'account:' || account_id || ':' || private.topic_epoch(account_id);
end
$$;


create function private.customer_topic(customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 'customer:' || customer_id || ':' || private.topic_epoch(customer_id);
end
$$;


create function private.conversation_topic(conversation_id uuid, account_id uuid, customer_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- Leaving either side renames the conversation's topic, and so does a new customer of the
    -- conversation. Each epoch stands beside its owner, so that no two sets of epochs look alike.
    return 'conversation:' || conversation_id || ':' || coalesce((
        select string_agg(left(e.owner_id::text, 8) || '-' || e.epoch, '.' order by e.owner_id)
        from private.topic_epochs e
        where e.owner_id in (
            conversation_topic.account_id,
            conversation_topic.customer_id,
            conversation_topic.conversation_id
        )
    ), '0');
end
$$;


create function private.may_receive(topic text)
    returns boolean
    language plpgsql
    stable
    -- definer: the check reads rows that the caller may not be able to read
    security definer
    set search_path = ''
as $$
declare
    kind constant text := split_part(topic, ':', 1);
    has_side constant boolean := kind in ('presence', 'typing');
    side constant text := case when has_side then split_part(topic, ':', 2) end;
    named constant text := split_part(topic, ':', case when has_side then 3 else 2 end);
    named_id uuid;
begin
    if not pg_input_is_valid(named, 'uuid') then
        return false;
    end if;
    named_id := named::uuid;

    return case
        when kind = 'account' then
            topic = private.account_topic(named_id)
            and named_id in (select private.my_account_ids())
        when kind = 'customer' then
            topic = private.customer_topic(named_id)
            and named_id in (select private.my_customer_ids())
        when kind = 'presence' and side = 'desk' then
            topic = private.desk_topic(named_id)
            and (
                named_id in (select private.my_account_ids())
                or exists (
                    select
                    from public.customers c
                    where c.portal_user_id = auth.uid()
                      and c.account_id = named_id
                )
            )
        when kind = 'conversation' or side in ('staff', 'customer') then exists (
            select
            from public.conversations c
            where c.id = named_id
              and topic = case
                  when has_side
                      then private.signs_topic(kind, side, c.id, c.account_id, c.customer_id)
                  else private.conversation_topic(c.id, c.account_id, c.customer_id)
              end
              and private.side_of_caller(c.id) is not null
        )
        else false
    end;
end
$$;

grant execute on function private.may_receive(text) to authenticated;


-- Under a topic's current name. Both extensions: Realtime asks for broadcasts when a client joins,
-- even for presence. The policy belongs to the platform's table, which takes no comment of ours.
create policy "subscribers can receive on their own topics"
    on realtime.messages
    for select
    to authenticated
    using (
        (
            realtime.messages.extension = 'broadcast'
            or (
                realtime.messages.extension = 'presence'
                -- presence works on presence topics only, never on data topics
                and (select realtime.topic()) like 'presence:%'
            )
        )
        and private.may_receive((select realtime.topic()))
    );

comment on table private.topic_epochs is
    'How often a member left an account, a login left a customer, or a customer left a conversation. No row means never.';
comment on policy "nobody reads topic epochs directly" on private.topic_epochs is
    'my_topics gives the names of topics.';
comment on function private.topic_epoch(uuid) is
    'The epoch of an account, a customer or a conversation; 0 if nobody ever left.';
comment on function private.account_topic(uuid) is
    'The topic of an account''s staff.';
comment on function private.customer_topic(uuid) is
    'The topic of one customer.';
comment on function private.conversation_topic(uuid, uuid, uuid) is
    'The topic of one conversation, for both its sides.';
comment on function private.may_receive(text) is
    'Whether the signed-in user may join this topic. The name must be the current one.';
