/*
    What a customer sees and edits of itself, the contact behind it being written as by staff.

    Nobody has proved what a customer writes (proof): a phone number or an address written here
    is shown to staff, and makes the contact known by nothing, here and at the ERP. Else whoever
    wrote another's number would be sent that person's messages. Identities that are no longer written stay, since it is from
    them that the customer has really written.
*/
create function private.portal_account_name(account_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: a customer reads no account, and is told the name alone
    security definer
    set search_path = ''
as $$
begin
    return (
        select a.name
        from public.accounts a
        where a.id = portal_account_name.account_id
          and exists (
              select
              from public.customers c
              where c.account_id = a.id
                and c.portal_user_id = (select auth.uid())
          )
    );
end
$$;

grant execute on function private.portal_account_name(uuid) to authenticated;


create view public.my_profile
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    private.portal_account_name(c.account_id) as account_name,
    c.name,
    c.phone,
    c.email,
    c.preferences,
    c.updated_at,
    c.version
from public.customers c
where c.id = any (array(select private.my_customer_ids()));


grant select, update on public.my_profile to authenticated;


create function private.read_profile(fields jsonb)
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
    end if;
    return private.clean_contact_fields(fields);
end
$$;


create function private.suggest_owners(account_id uuid, contact_id uuid, fields jsonb)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    owned record;
begin
    for owned in
        select o.kind, o.contact_id, f.value
        from jsonb_each_text(fields) f
        join public.contact_identities o
            on o.account_id = suggest_owners.account_id
           and o.kind = f.key
           and o.match_key = private.match_key(kind => f.key, value => f.value)
        where f.key in ('phone', 'email')
          and o.contact_id <> suggest_owners.contact_id
        order by o.contact_id, o.kind
    loop
        perform private.suggest_merge(
            account_id => suggest_owners.account_id,
            contact_ids => array[suggest_owners.contact_id, owned.contact_id],
            reason => 'same_' || owned.kind,
            evidence => jsonb_build_object(owned.kind, owned.value, 'written_in', 'portal')
        );
    end loop;
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


create function private.tg_my_profile__write()
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
    perform private.keep_customer_words(
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


create trigger _100_expect_hits
    before update on public.my_profile
    for each statement
    execute function private.tg__expect_hits();

create trigger _500_write_profile
    instead of update on public.my_profile
    for each row
    execute function private.tg_my_profile__write();

create trigger _900_require_hits
    after update on public.my_profile
    for each statement
    execute function private.tg__require_hits();


comment on view public.my_profile is
    'Your own contact, one row for each business whose customer you are. Write name, phone, email and preferences, of one row at a time; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.my_profile.id is
    'The customer, as in public.customers.';
comment on column public.my_profile.account_name is
    'The business.';
comment on column public.my_profile.name is
    'How you are called; staff see it, and may write it too.';
comment on column public.my_profile.phone is
    'With country code and digits alone, such as +38640111222. WhatsApp messages are still known by the number that they come from.';
comment on column public.my_profile.preferences is
    'Your own choices, an object of at most 8 KB; what is written replaces all of it.';
comment on column public.my_profile.version is
    'Rises with each change of what you see of yourself.';
comment on function private.portal_account_name(uuid) is
    'The name of a business whose customer the signed-in user is; null of others.';
comment on function private.read_profile(jsonb) is
    'Fields of a profile as fields of a contact; refuses what a customer does not write.';
comment on function private.suggest_owners(uuid, uuid, jsonb) is
    'Notes for staff which other contacts are known by what a customer has written.';
comment on function private.withdraw_owners(uuid, uuid, jsonb) is
    'Takes open suggestions back for which what the customer wrote before was the evidence.';
comment on function private.tg_my_profile__write() is
    'Writes the contact of the signed-in customer.';


select private.limit_writes('my_profile', '{update}');
