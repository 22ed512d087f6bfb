/*
    Who the people are that show themselves in a conversation. What they say of themselves there
    is a payload, which anybody can fill as they like: a client takes the user's id from it at
    most, and the name and the side from here.
*/
create function private.people_of(conversation_id uuid)
    returns table (user_id uuid, side text, display_name text)
    language sql
    stable
    -- definer: customers can't read who works for an account
    security definer
    set search_path = ''
as $$
    select m.user_id, 'staff', m.display_name
    from public.conversations k
    join public.account_members m
        on m.account_id = k.account_id
    where k.id = people_of.conversation_id
      and private.side_of_caller(k.id) is not null
    union all
    select c.portal_user_id, 'customer', c.name
    from public.conversations k
    join public.customers c
        on c.id = k.customer_id
    where k.id = people_of.conversation_id
      and c.portal_user_id is not null
      and private.side_of_caller(k.id) is not null
$$;

grant execute on function private.people_of(uuid) to authenticated;


create function public.conversation_people(conversation_id uuid)
    returns table (user_id uuid, side text, display_name text)
    language sql
    stable
    set search_path = ''
as $$
    select p.user_id, p.side, p.display_name
    from private.people_of(conversation_people.conversation_id) p
$$;

grant execute on function public.conversation_people(uuid) to authenticated;


comment on function private.people_of(uuid) is
    'The people of a conversation, for those who are in it.';
comment on function public.conversation_people(uuid) is
    'Who may show themselves in a conversation of yours: {user_id, side, display_name}, the account''s staff and the customer''s login. Names in payloads of presence and typing are anybody''s word; these are not.';
