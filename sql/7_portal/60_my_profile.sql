/*
    The part of a contact that its customer sees and edits. A write here changes the contact as a
    write by staff does.

    Nobody has proved the values that a customer writes (proof). A phone number or an email address
    written here is shown to staff, but the contact can't be found by it, neither here nor at the
    ERP. Otherwise a customer who wrote another person's number would get that person's messages.
    Old identities stay, since the customer has really written from them.
*/
create function private.portal_account(account_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: a customer can't read accounts, and gets these facts only
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('name', a.name, 'country', a.country, 'time_zone', a.time_zone)
        from public.accounts a
        where a.id = portal_account.account_id
          and exists (
              select
              from public.customers c
              where c.account_id = a.id
                and c.portal_user_id = (select auth.uid())
          )
    );
end
$$;

grant execute on function private.portal_account(uuid) to authenticated;


create view public.my_profile
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    private.portal_account(c.account_id) ->> 'name' as account_name,
    private.portal_account(c.account_id) ->> 'country' as account_country,
    private.portal_account(c.account_id) ->> 'time_zone' as account_time_zone,
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
    stable
    set search_path = ''
as $$
begin
    perform private.require_written_here(
        fields => fields,
        writable => array['name', 'phone', 'email', 'preferences']
    );
    if fields ? 'name' and btrim(coalesce(fields ->> 'name', ''), E' \t\r\n') = '' then
        raise sqlstate 'PT422' using
            message = 'A profile must have a name.',
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
        -- the contact that owns the identity has not written it: this customer has
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
          -- the other contact may have written a value by which this one is known
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
    -- definer: users may not write contacts; a customer's own is written only here
    security definer
    set search_path = ''
as $$
declare
    hits constant integer := current_setting('rapport.hits')::integer + 1;
    written jsonb;
begin
    perform set_config('rapport.hits', hits::text, true);
    if hits > 1 then
        -- A forgotten filter would write a change for one business to another one's profile.
        raise sqlstate 'PT422' using
            message = 'You are a customer of several businesses; this write would change all your profiles.',
            detail = 'field: id',
            hint = 'Filter by the id of the profile that you mean.';
    end if;

    select coalesce(jsonb_object_agg(n.key, n.value), '{}')
    into written
    from jsonb_each(to_jsonb(new)) n
    where n.value is distinct from to_jsonb(old) -> n.key;
    if written ? 'version' then
        raise sqlstate 'PT409' using
            message = 'Your profile has changed since you read it.',
            detail = 'field: version',
            hint = 'Read it again, then write your changes.';
    end if;
    written := private.read_profile(written);

    -- Before the contact is locked: contacts are locked by id, and this touches two.
    perform private.suggest_owners(
        account_id => old.account_id, contact_id => old.id, fields => written);

    -- a login that loses access at this moment writes no more
    perform
    from public.contacts c
    where c.id = old.id
      and c.portal_user_id = (select auth.uid())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This profile is no longer yours.';
    end if;
    -- Once the contact is locked, as in a merge, which decides suggestions too.
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
    'Your own contact, with one row for each business whose customer you are. Write name, phone, email and preferences, one row at a time. A write that hits no row is refused (404), and so is one with an old version (409).';
comment on column public.my_profile.id is
    'The customer''s id, as in public.customers.';
comment on column public.my_profile.account_id is
    'The business whose customer you are.';
comment on column public.my_profile.account_name is
    'The name of the business.';
comment on column public.my_profile.account_country is
    'The country of the business by ISO 3166-1, such as SI, in which phone numbers without a country code are read; null is unknown.';
comment on column public.my_profile.account_time_zone is
    'The IANA time zone of the business, in which its appointments, due dates and notices are.';
comment on column public.my_profile.name is
    'Your name; staff see it and may change it too. At most 200 characters.';
comment on column public.my_profile.phone is
    'Your phone number in E.164, such as +38640111222. Messages from WhatsApp are still recognised by the number that they come from.';
comment on column public.my_profile.email is
    'Your email address.';
comment on column public.my_profile.preferences is
    'Your own choices, an object of at most 8 KB. A write replaces all of it. {"wants_reminders": false} ends reminders.';
comment on column public.my_profile.updated_at is
    'When your profile last changed (server time, UTC).';
comment on column public.my_profile.version is
    'Rises with each change of what you see of yourself. Send the version that you read, and a write after another change is refused (409).';
comment on function private.portal_account(uuid) is
    'The name, country and time zone of a business whose customer the signed-in user is; null for other businesses.';
comment on function private.read_profile(jsonb) is
    'Fields of a profile as fields of a contact. Refuses fields that a customer may not write.';
comment on function private.suggest_owners(uuid, uuid, jsonb) is
    'Suggests to staff the other contacts that are known by the values that a customer has written.';
comment on function private.withdraw_owners(uuid, uuid, jsonb) is
    'Withdraws open suggestions whose evidence was the customer''s former entry.';
comment on function private.tg_my_profile__write() is
    'Writes the signed-in customer''s contact.';


select private.limit_writes('my_profile', '{update}');
