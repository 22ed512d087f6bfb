/*
    Mappings of contacts that are deleted, merged or parted again.
*/
create function private.forget_partners(contact_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    waiting record;
begin
    -- The mapping stays, or the partner would come back as a new contact. A merged contact also
    -- keeps its agreed state, for the contact that gets its identity.
    update public.metakocka_contact_mappings m
    set state = 'blocked',
        missing = '{}',
        base = case when c.merged_into is not null then m.base end
    from public.contacts c
    where c.id = any (contact_ids)
      and m.contact_id = c.id;

    delete from public.sync_conflicts s
    where s.contact_id = any (contact_ids);

    delete from private.metakocka_dirty d
    where d.contact_id = any (contact_ids);

    -- the kept contact looks for a partner that may have been made for the merged one
    for waiting in
        select c.account_id, array_agg(distinct c.merged_into) as contact_ids
        from public.contacts c
        join public.metakocka_connections k
            on k.account_id = c.account_id
           and k.active
        where c.id = any (forget_partners.contact_ids)
          and c.merged_into is not null
          and exists (
              select
              from private.partner_intents i
              where i.contact_id = c.id
                and i.state in ('intended', 'sent', 'unknown')
          )
        group by c.account_id
        order by c.account_id
    loop
        perform private.mark_dirty(waiting.account_id, waiting.contact_ids);
    end loop;
end
$$;


create function private.tg_contact_identities__move_mapping()
    returns trigger
    language plpgsql
    -- definer: users may not write mappings
    security definer
    set search_path = ''
as $$
begin
    -- A mapping without a partner is deleted. If both contacts have a partner, both mappings stay.
    delete from public.metakocka_contact_mappings m
    where m.contact_id = new.contact_id
      and m.metakocka_id is null;

    update public.metakocka_contact_mappings m
    set contact_id = new.contact_id,
        state = 'waiting',
        partner_hash = null
    where m.contact_id = old.contact_id
      and m.metakocka_id = new.value
      and not exists (
          select
          from public.metakocka_contact_mappings o
          where o.contact_id = new.contact_id
      );
    if found and exists (
        select
        from public.metakocka_connections k
        where k.account_id = new.account_id
          and k.active
    ) then
        perform private.mark_dirty(new.account_id, array[new.contact_id]);
    end if;
    return null;
end
$$;

-- a merge gives identities to the kept contact, and undoing it gives them back
create trigger _500_move_mapping
    after update on public.contact_identities
    for each row
    when (new.kind = 'metakocka' and new.contact_id <> old.contact_id)
    execute function private.tg_contact_identities__move_mapping();


comment on function private.forget_partners(uuid[]) is
    'Updates mappings and intents when contacts are deleted or merged.';
comment on function private.tg_contact_identities__move_mapping() is
    'Moves a partner''s mapping together with its identity.';
