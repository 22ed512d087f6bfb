/*
    A client's topics by name. Names change when somebody leaves, so clients ask for them and don't
    build them.
*/
create function private.topics_of_caller(conversation_id uuid)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    -- definer: epochs are not readable; the function returns the caller's topics only
    security definer
    set search_path = ''
as $$
    select private.account_topic(a.id), 'account', a.id
    from private.my_account_ids() as a (id)
    union all
    select private.customer_topic(c.id), 'customer', c.id
    from private.my_customer_ids() as c (id)
    union all
    select private.desk_topic(a.id), 'presence_desk', a.id
    from (
        select m.id
        from private.my_account_ids() as m (id)
        union
        select c.account_id
        from public.customers c
        where c.portal_user_id = (select auth.uid())
    ) as a (id)
    union all
    select t.topic, t.kind, c.id
    from public.conversations c
    cross join lateral (
        select private.conversation_topic(c.id, c.account_id, c.customer_id), 'conversation'
        union all
        select
            private.signs_topic(s.kind, s.side, c.id, c.account_id, c.customer_id),
            s.kind || '_' || s.side
        from (
            values
                ('presence', 'staff'),
                ('presence', 'customer'),
                ('typing', 'staff'),
                ('typing', 'customer')
        ) as s (kind, side)
    ) as t (topic, kind)
    where c.id = topics_of_caller.conversation_id
      and private.side_of_caller(c.id) is not null
$$;

grant execute on function private.topics_of_caller(uuid) to authenticated;


create function public.my_topics(conversation_id uuid default null)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    set search_path = ''
as $$
    select t.topic, t.kind, t.id
    from private.topics_of_caller(my_topics.conversation_id) t
$$;

grant execute on function public.my_topics(uuid) to authenticated;


comment on function private.topics_of_caller(uuid) is
    'The topics of the signed-in user.';
comment on function public.my_topics(uuid) is
    'The private topics that you may join; id is that of the account, the customer or the conversation. Read-only kinds: account (all of an account, for staff), customer (all of yours, as a customer), conversation (the given conversation). Presence: presence_desk (staff at the desk), presence_staff and presence_customer (people in the conversation). Typing: typing_staff, typing_customer. You send presence and typing on your own side''s topics only. Names change when somebody leaves: call it again when a join is refused, and on the event topics.changed. Clients that watch a desk get that event on the desk''s topic.'
    ' Type: {topic: text, kind: "account" | "customer" | "conversation" | "presence_desk" | "presence_staff" | "presence_customer" | "typing_staff" | "typing_customer", id: uuid}[]';
