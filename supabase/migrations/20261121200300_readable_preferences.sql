/*
    A customer's preferences are read by everybody who reads contacts: what some programs can't
    read, being too deep or too large, is refused, and what there is of it is taken away.
*/
update public.contacts
set preferences = '{}'
where preferences @? 'strict $.**{17 to last}'
   or preferences @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))';

alter table public.contacts
    drop constraint contacts_preferences_check,
    add constraint contacts_preferences_check
        check (
            jsonb_typeof(preferences) = 'object'
            and octet_length(preferences::text) <= 8192
            and not preferences @? 'strict $.**{17 to last}'
            and not preferences
                @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))'
        );

create or replace function private.read_profile(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => array['name', 'phone', 'email', 'preferences']
    );
    if fields ? 'name' and btrim(coalesce(fields ->> 'name', ''), E' \t\r\n') = '' then
        raise sqlstate 'PT422' using
            message = 'A name is needed.',
            detail = 'field: name',
            hint = 'Write how you want to be called.';
    elsif fields ? 'preferences' and (
        jsonb_typeof(fields -> 'preferences') <> 'object'
        or octet_length((fields -> 'preferences')::text) > 8192
    ) then
        raise sqlstate 'PT422' using
            message = 'Preferences are an object of at most 8 KB.',
            detail = 'field: preferences',
            hint = 'Send all that shall hold, or {} for none.';
    elsif fields -> 'preferences' @? 'strict $.**{17 to last}'
        or fields -> 'preferences'
            @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))'
    then
        raise sqlstate 'PT422' using
            message = 'Preferences are nested too deeply, or have a number that is too large.',
            detail = 'field: preferences',
            hint = 'At most 16 levels, and numbers up to 1e15.';
    end if;
    return private.clean_contact_fields(fields);
end
$$;

create function private.withdraw_owners(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_suggestions s
    using (
        select o.id
        from public.contact_suggestions o
        cross join (values ('phone'), ('email')) as f (kind)
        -- whose it is has not written it: that was this customer
        join public.contact_identities i
            on i.account_id = o.account_id
           and i.kind = f.kind
           and i.match_key = private.match_key(kind => f.kind, value => o.evidence ->> f.kind)
           and i.contact_id in (o.contact_id, o.other_contact_id)
           and i.contact_id <> withdraw_owners.contact_id
        where o.account_id = withdraw_owners.account_id
          and withdraw_owners.contact_id in (o.contact_id, o.other_contact_id)
          and o.status = 'open'
          and o.reason = 'same_' || f.kind
          and o.evidence ->> 'written_in' = 'portal'
          and fields ? f.kind
          and i.match_key
              is distinct from private.match_key(kind => f.kind, value => fields ->> f.kind)
          -- the other may have written what this one is known by
          and not exists (
              select
              from public.contacts c
              join public.contact_identities mine
                  on mine.contact_id = withdraw_owners.contact_id
                 and mine.kind = f.kind
                 and mine.match_key
                     = private.match_key(kind => f.kind, value => to_jsonb(c) ->> f.kind)
              where c.id = i.contact_id
          )
        -- somebody is deciding on it at this moment
        for update of o skip locked
    ) w
    where s.id = w.id;
end
$$;

create or replace function private.tg_my_profile__write()
    returns trigger
    language plpgsql
    -- definer: contacts are nobody's to write, and a customer's own is written here alone
    security definer
    set search_path = ''
as $$
declare
    hits constant integer := current_setting('rapport.hits')::integer + 1;
    written jsonb;
begin
    perform set_config('rapport.hits', hits::text, true);
    if hits > 1 then
        -- a forgotten filter would tell one business what was meant for another
        raise sqlstate 'PT422' using
            message = 'You are a customer of several businesses.',
            detail = 'field: id',
            hint = 'Say by its id which profile you write.';
    end if;

    select coalesce(jsonb_object_agg(n.key, n.value), '{}')
    into written
    from jsonb_each(to_jsonb(new)) n
    where n.value is distinct from to_jsonb(old) -> n.key;
    if written ? 'version' then
        raise sqlstate 'PT409' using
            message = 'Your profile has changed since it was read.',
            detail = 'field: version',
            hint = 'Read it again, and write what differs.';
    end if;
    written := private.read_profile(written);

    -- before the contact is locked: contacts are locked by id, and this touches two
    perform private.suggest_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);

    -- whoever is shut out at this moment writes no more
    perform
    from public.contacts c
    where c.id = old.id
      and c.portal_user_id = (select auth.uid())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This profile is not yours any more.';
    end if;
    -- once the contact is locked, as a merge does, which decides on suggestions
    perform private.withdraw_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);
    perform private.change_contact(
        account_id => old.account_id,
        contact_id => old.id,
        fields => written,
        claim => false
    );

    select *
    into new
    from public.my_profile p
    where p.id = old.id;
    return new;
end
$$;

comment on function private.withdraw_owners(uuid, uuid, jsonb) is
    'Takes open suggestions back for which what the customer wrote before was the evidence.';
