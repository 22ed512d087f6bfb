/*
    Deletes a contact: its contents are blanked, and its row stays for the rows that refer to it.
*/
create function private.delete_contact(account_id uuid, contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    contact public.contacts;
begin
    perform private.refuse_held(delete_contact.contact_id);
    perform private.lock_identities(
        account_id => delete_contact.account_id,
        contact_ids => array[delete_contact.contact_id],
        kinds => array['bsuid', 'email', 'metakocka', 'phone', 'username']
    );
    -- in two steps, so that the portal login of this contact is told that it has left
    update public.contacts c
    set portal_user_id = null
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.portal_user_id is not null;

    select c.*
    into contact
    from public.contacts c
    where c.id = delete_contact.contact_id
      and c.account_id = delete_contact.account_id
      and c.deleted_at is null
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to change.',
            detail = format('contact: %s', delete_contact.contact_id);
    end if;
    perform private.write_contacts(array[private.blank_contact(contact)]);

    perform private.revoke_open_invitations(
        account_id => delete_contact.account_id, contact_id => delete_contact.contact_id);

    -- a person who writes from the number from now on is a new contact
    with released as materialized (
        select o.account_id, o.kind, o.match_key
        from public.contact_identities o
        where o.contact_id = delete_contact.contact_id
          and o.account_id = delete_contact.account_id
        -- locked already, except one that came meanwhile: waiting for that would break the lock
        -- order
        for update nowait
    )
    delete from public.contact_identities o
    using released r
    where o.account_id = r.account_id
      and o.kind = r.kind
      and o.match_key = r.match_key;

    delete from private.stated_usernames u
    where u.contact_id = delete_contact.contact_id;

    delete from private.customer_words w
    using private.contact_lineage(delete_contact.contact_id) l
    where w.contact_id = l;

    perform
    from public.conversations k
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
    order by k.id
    for no key update;

    update public.conversations k
    set status = 'closed'
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and k.status <> 'closed';

    -- messages that were never sent; the conversations are locked, so none comes meanwhile
    perform
    from public.scheduled_messages s
    join public.conversations k
        on k.id = s.conversation_id
    where k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and s.status <> 'sent'
    order by s.id
    for no key update of s;

    update public.scheduled_messages s
    set status = case s.status when 'waiting' then 'cancelled' else s.status end,
        message = '',
        content = null,
        template = null
    from public.conversations k
    where k.id = s.conversation_id
      and k.customer_id = delete_contact.contact_id
      and k.account_id = delete_contact.account_id
      and s.status <> 'sent';
end
$$;


comment on function private.delete_contact(uuid, uuid) is
    'Blanks a contact, deletes its identities, closes its conversations, and cancels and blanks what waits to be sent to it.';
