/*
    A contact becomes known by the values that staff write: its phone, email and username are
    claimed as identities before it is written, in the lock order (identities, contacts,
    conversations, messages, each by key). Values that its customer has written are not claimed
    (private.customer_words).
*/
create function private.claimed_identities(fields jsonb)
    returns table (kind text, value text)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return query
    select i.kind, i.value
    from (
        values
            ('email', fields ->> 'email'),
            ('phone', fields ->> 'phone'),
            ('username', fields ->> 'username'),
            -- the person may write from the mobile number
            ('phone', substring(fields ->> 'gsm' from '^\+[1-9][0-9]{1,14}$'))
    ) as i (kind, value)
    where i.value is not null;
end
$$;


create function private.lock_identities(
    account_id uuid,
    contact_ids uuid[],
    kinds text[],
    -- {phone, email, username, gsm}: claimed for the first contact
    claims jsonb default '{}'
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted record;
    owner uuid;
begin
    -- the identities to claim and those of the contacts, in one order
    for wanted in
        select w.kind, w.match_key, min(w.value) as value, bool_and(w.is_proved) as is_proved
        from (
            select
                k.kind,
                private.match_key(kind => k.kind, value => k.value),
                k.value,
                not private.is_customer_word(
                    contact_id => contact_ids[1], kind => k.kind, value => k.value)
            from private.claimed_identities(claims) k
            where k.kind = any (kinds)
            union all
            select o.kind, o.match_key, null, null
            from public.contact_identities o
            where o.contact_id = any (contact_ids)
              and o.account_id = lock_identities.account_id
              and o.kind = any (kinds)
        ) as w (kind, match_key, value, is_proved)
        group by w.kind, w.match_key
        order by w.kind, w.match_key
    loop
        -- its owner may release it between the two statements: then it can be claimed
        loop
            if wanted.value is not null and wanted.is_proved then
                insert into public.contact_identities (account_id, kind, value, contact_id)
                values (
                    lock_identities.account_id, wanted.kind, wanted.value, contact_ids[1])
                on conflict do nothing;
            end if;

            select o.contact_id
            into owner
            from public.contact_identities o
            where o.account_id = lock_identities.account_id
              and o.kind = wanted.kind
              and o.match_key = wanted.match_key
            for update;
            exit when found or wanted.value is null or not wanted.is_proved;
        end loop;

        if wanted.value is not null and owner <> contact_ids[1] then
            raise sqlstate 'PT409' using
                message = format('This %s belongs to another contact.', wanted.kind),
                detail = format('field: %s; contact: %s', wanted.kind, owner),
                hint = 'Merge the two contacts, or correct the value.';
        end if;
    end loop;
end
$$;


create function private.release_identities(contact_id uuid, kinds text[], before jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities d
    using (
        select o.account_id, o.kind, o.match_key
        from public.contacts c
        join public.contact_identities o
            on o.contact_id = c.id
           and o.account_id = c.account_id
        where c.id = release_identities.contact_id
          and o.kind = any (kinds)
          -- a message has come from it: it stays, even if staff write another value
          and o.wa_id is null
          -- a value of the customer in its place does not end it: only staff do
          and (
              not private.shows_customer_word(contact => c, kind => o.kind)
              or exists (
                  select
                  from private.claimed_identities(before) b
                  where b.kind = o.kind
                    and private.match_key(kind => b.kind, value => b.value) = o.match_key
              )
          )
          and not exists (
              select
              from private.claimed_identities(to_jsonb(c)) k
              where k.kind = o.kind
                and private.match_key(kind => k.kind, value => k.value) = o.match_key
          )
        -- an identity that has come since the others were locked is out of the lock order, and the
        -- transaction that brought it may hold its lock
        for update of o skip locked
    ) o
    where d.account_id = o.account_id
      and d.kind = o.kind
      and d.match_key = o.match_key;
end
$$;


comment on function private.claimed_identities(jsonb) is
    'The identities of a contact with these fields.';
comment on function private.lock_identities(uuid, uuid[], text[], jsonb) is
    'Locks the identities of contacts and claims more for the first contact, except values that its customer has written. Refuses an identity that another contact owns.';
comment on function private.release_identities(uuid, text[], jsonb) is
    'Deletes the identities that a contact no longer shows and that no message proves. before is the contact''s row before it was written.';
