/*
    The proof of who a person is: one rule for every look-up, of what is received and of what is
    sent.

    A contact is known by its identities (contact_identities) and by nothing else. An identity is
    proved by a message through WhatsApp, by staff, by a file that staff import, or by the partner
    from which the contact was made. A value that a customer writes (my_profile) proves nothing.
    It stays unproved when another source repeats it: a form that staff had open, a file that was
    exported before, or the ERP to which it was sent. confirm_contact proves it, and so does a
    message.
*/
create table private.customer_words (
    contact_id uuid not null,
    account_id uuid not null,
    kind       text not null
               constraint customer_words_kind_check check (kind in ('email', 'name', 'phone')),
    -- as the match_key of an identity; for a name see word_key
    match_key  text not null,

    primary key (contact_id, kind, match_key),
    constraint customer_words_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table private.customer_words enable row level security;


-- for the foreign key
create index customer_words_contact_idx
    on private.customer_words (contact_id, account_id);


create policy "nobody reads the words of customers directly"
    on private.customer_words
    for all
    to authenticated
    using (false);


create function private.word_key(kind text, value text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case word_key.kind
        when 'name' then lower(regexp_replace(btrim(word_key.value), '\s+', ' ', 'g'))
        else private.match_key(kind => word_key.kind, value => word_key.value)
    end;
end
$$;


create function private.contact_lineage(contact_id uuid)
    returns setof uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with recursive lineage as (
            select contact_lineage.contact_id as id
            union
            select c.id
            from lineage l
            join public.contacts c
                on c.merged_into = l.id
        )
        select l.id
        from lineage l;
end
$$;


create function private.is_customer_word(contact_id uuid, kind text, value text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.contact_lineage(is_customer_word.contact_id) l
        join private.customer_words w
            on w.contact_id = l
        where w.kind = is_customer_word.kind
          and w.match_key = private.word_key(
              kind => is_customer_word.kind, value => is_customer_word.value)
    );
end
$$;


create function private.writes_itself(contact_id uuid, kind text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.contact_lineage(writes_itself.contact_id) l
        join private.customer_words w
            on w.contact_id = l
        where w.kind = writes_itself.kind
    );
end
$$;


create function private.owns_identity(contact_id uuid, kind text, value text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from public.contacts c
        join public.contact_identities o
            on o.account_id = c.account_id
           and o.kind = owns_identity.kind
           and o.match_key = private.match_key(
               kind => owns_identity.kind, value => owns_identity.value)
           and o.contact_id = c.id
        where c.id = owns_identity.contact_id
    );
end
$$;


create function private.shows_customer_word(contact public.contacts, kind text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.claimed_identities(to_jsonb(contact)) k
        where k.kind = shows_customer_word.kind
          and private.is_customer_word(
              contact_id => contact.id, kind => k.kind, value => k.value)
    );
end
$$;


create function private.keep_customer_words(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- nobody has more spellings of one field
    most constant integer := 100;
    written record;
begin
    for written in
        select f.key as kind, f.value
        from jsonb_each_text(fields) f
        where f.key in ('email', 'name', 'phone')
          and f.value is not null
          -- a proved identity needs no note, unless it came by a merge, which may be undone
          and (
              not private.owns_identity(
                  contact_id => keep_customer_words.contact_id, kind => f.key, value => f.value)
              or exists (
                  select
                  from public.contact_merges m
                  cross join lateral jsonb_array_elements(m.moved_identities) i
                  where m.kept_contact_id = keep_customer_words.contact_id
                    and m.account_id = keep_customer_words.account_id
                    and m.undone_at is null
                    and i ->> 'kind' = f.key
                    and i ->> 'match_key' = private.match_key(kind => f.key, value => f.value)
              )
          )
        order by f.key
    loop
        insert into private.customer_words (account_id, contact_id, kind, match_key)
        values (
            keep_customer_words.account_id,
            keep_customer_words.contact_id,
            written.kind,
            private.word_key(kind => written.kind, value => written.value)
        )
        on conflict do nothing;
        if found and (
            select count(*) > most
            from private.customer_words w
            where w.contact_id = keep_customer_words.contact_id
              and w.kind = written.kind
        ) then
            raise sqlstate 'PT409' using
                message = format('You have already written %s different values in this field.', most),
                detail = 'field: ' || written.kind,
                hint = 'Ask the business to write the new value.';
        end if;
    end loop;
end
$$;


create function private.forget_customer_words(contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from private.customer_words w
    using private.contact_lineage(forget_customer_words.contact_id) l, jsonb_each_text(fields) f
    where w.contact_id = l
      and w.kind = f.key
      and w.match_key = private.word_key(kind => f.key, value => f.value);
end
$$;


create function private.unproved_fields(contact public.contacts)
    returns text[]
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return array(
        select f.field
        from (
            select 'email', 'email', contact.email
            union all
            -- a number in another form comes from staff or from the ERP
            select 'gsm', 'phone', substring(contact.gsm from '^\+[1-9][0-9]{1,14}$')
            union all
            select 'phone', 'phone', contact.phone
            union all
            select 'username', 'username', contact.username
        ) as f (field, kind, value)
        where f.value is not null
          and not private.owns_identity(contact_id => contact.id, kind => f.kind, value => f.value)
        union all
        select 'name'
        where contact.name is not null
          and private.is_customer_word(
              contact_id => contact.id, kind => 'name', value => contact.name)
        order by 1
    );
end
$$;


comment on table private.customer_words is
    'The values that customers have written about themselves and that nobody has proved.';
comment on column private.customer_words.match_key is
    'The key that all spellings of one value share.';
comment on policy "nobody reads the words of customers directly" on private.customer_words is
    'Staff read them through unproved_fields.';
comment on function private.word_key(text, text) is
    'The key that all spellings of a customer''s value share.';
comment on function private.contact_lineage(uuid) is
    'A contact, and all contacts that were merged into it.';
comment on function private.is_customer_word(uuid, text, text) is
    'Whether a contact''s customer has written this value and nobody has proved it.';
comment on function private.writes_itself(uuid, text) is
    'Whether a contact''s customer has written an email, name or phone that nobody has proved.';
comment on function private.owns_identity(uuid, text, text) is
    'Whether a contact owns this identity.';
comment on function private.shows_customer_word(public.contacts, text) is
    'Whether a contact shows a value of this kind of identity that its customer has written.';
comment on function private.keep_customer_words(uuid, uuid, jsonb) is
    'Notes the values that a customer writes and that nobody has proved.';
comment on function private.forget_customer_words(uuid, jsonb) is
    'Forgets that the customer has written these values.';
comment on function private.unproved_fields(public.contacts) is
    'The fields of a contact that nobody has proved. No look-up finds the contact by them.';
