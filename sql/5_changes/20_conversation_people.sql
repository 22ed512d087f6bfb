/*
    Who the people are that show themselves in a conversation. What they say of themselves there
    is a payload, which anybody can fill as they like: a client takes the person's id from it at
    most, and the name and the side from here. It is not the user's id, which neither side needs
    to know of the other.
*/
create function private.person_id(user_id uuid)
    returns uuid
    language sql
    immutable
    set search_path = ''
as $$
    -- which every client can make of its own user's id
    select left(encode(sha256(convert_to(user_id::text, 'UTF8')), 'hex'), 32)::uuid
$$;


create function private.people_of(conversation_id uuid)
    returns table (person_id uuid, side text, display_name text)
    language sql
    stable
    -- definer: customers can't read who works for an account
    security definer
    set search_path = ''
as $$
    select private.person_id(m.user_id), 'staff', m.display_name
    from public.conversations k
    join public.account_members m
        on m.account_id = k.account_id
    where k.id = people_of.conversation_id
      and private.side_of_caller(k.id) is not null
    union all
    select private.person_id(c.portal_user_id), 'customer', c.name
    from public.conversations k
    join public.customers c
        on c.id = k.customer_id
    where k.id = people_of.conversation_id
      and c.portal_user_id is not null
      and private.side_of_caller(k.id) is not null
$$;

grant execute on function private.people_of(uuid) to authenticated;


create function public.conversation_people(conversation_id uuid)
    returns table (person_id uuid, side text, display_name text)
    language sql
    stable
    set search_path = ''
as $$
    select p.person_id, p.side, p.display_name
    from private.people_of(conversation_people.conversation_id) p
$$;

grant execute on function public.conversation_people(uuid) to authenticated;


comment on function private.person_id(uuid) is
    'How a user is known to others: the first 16 bytes of the SHA-256 of the user''s id, written as a UUID is.';
comment on function private.people_of(uuid) is
    'The people of a conversation, for those who are in it.';
comment on function public.conversation_people(uuid) is
    'Who may show themselves in a conversation of yours: {person_id, side, display_name}, the account''s staff and the customer''s login. A person_id is the first half of the SHA-256 of the user''s id, as a UUID: show yourself in presence under yours. Names in payloads of presence and typing are anybody''s word; these are not.';
