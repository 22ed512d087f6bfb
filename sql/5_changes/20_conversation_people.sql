/*
    The people who may show themselves in a conversation. A presence or typing payload can hold
    anything, since any client can fill it. So a client takes only the person's id from a payload,
    and the name and the side from here. The id is not the user's id: neither side needs to know the
    user id of the other.
*/
create function private.person_id(user_id uuid)
    returns uuid
    language sql
    immutable
    set search_path = ''
as $$
    -- Every client can compute it from its own user id.
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
    'The id by which others know a user: the first 16 bytes of the SHA-256 of the user''s id, written as a UUID.';
comment on function private.people_of(uuid) is
    'The people of a conversation, if the caller is one of them.';
comment on function public.conversation_people(uuid) is
    'The people who may show themselves in a conversation of yours: the account''s staff and the customer''s login. A person_id is the first half of the SHA-256 of the user''s id, written as a UUID; use yours in presence. Trust these names: a payload of presence or typing can hold any name.'
    ' Type: {person_id: uuid, side: "staff" | "customer", display_name: text}[]';
