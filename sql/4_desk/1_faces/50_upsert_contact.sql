/*
    A view takes no "on conflict". So this RPC writes a contact that may exist already: it finds
    the contact by its id or by its identities.
*/
create function private.find_contact(account_id uuid, fields jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    owners uuid[];
begin
    owners := array(
        select distinct o.contact_id
        from jsonb_each_text(fields) k
        join public.contact_identities o
            on o.account_id = find_contact.account_id
           and o.kind = k.key
           -- without the spaces around it, which are not written either
           and o.match_key = private.match_key(
               kind => k.key, value => btrim(k.value, E' \t\r\n'))
        where k.key in ('phone', 'email', 'username')
        order by o.contact_id
    );
    if cardinality(owners) > 1 then
        raise sqlstate 'PT409' using
            message = 'These values belong to different contacts.',
            detail = format('contacts: %s', array_to_string(owners, ', ')),
            hint = 'Merge the contacts, or give the id of one.';
    end if;
    return owners[1];
end
$$;


create function private.contact_of_id(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_id uuid := contact_id;
    redirect record;
begin
    -- follow all merges to the contact that is left; a circle of merges can't be written
    loop
        select c.merged_into, c.deleted_at
        into redirect
        from public.contacts c
        where c.id = found_id
          and c.account_id = contact_of_id.account_id;
        if not found or redirect.deleted_at is null then
            return found_id;
        end if;
        exit when redirect.merged_into is null;
        found_id := redirect.merged_into;
    end loop;
    raise sqlstate 'PT404' using
        message = 'There is no such contact any more.',
        detail = format('contact: %s', contact_id);
end
$$;


create function private.save_contact(account_id uuid, contact jsonb, face text)
    returns uuid
    language plpgsql
    -- definer: users may not write contacts; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := contact ->> 'id';
    fields jsonb;
    target uuid;
    exists_already boolean;
begin
    perform private.require_writable(save_contact.account_id);
    if face is null or face not in ('contacts_page', 'live_chat') then
        raise sqlstate 'PT422' using
            message = 'Contacts can''t be written through this face.',
            detail = 'field: face',
            hint = 'Known: contacts_page, live_chat.';
    elsif jsonb_typeof(contact) is distinct from 'object' then
        raise sqlstate 'PT422' using
            message = 'A contact is an object of fields.',
            detail = 'field: contact',
            hint = 'Send an object such as {"name": "Nika", "phone": "+38640111222"}.';
    end if;
    fields := private.read_face(face => face, fields => contact - 'id');

    -- another session may insert the contact between the look-up and the write: look it up again
    for attempt in 1 .. 3 loop
        target := coalesce(
            private.contact_of_id(account_id => save_contact.account_id, contact_id => named),
            private.find_contact(account_id => save_contact.account_id, fields => fields),
            gen_random_uuid()
        );
        exists_already := exists (
            select
            from public.contacts c
            where c.id = target
              and c.account_id = save_contact.account_id
        );
        begin
            if not exists_already then
                perform private.add_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            elsif fields <> '{}' then
                perform private.change_contact(
                    account_id => save_contact.account_id, contact_id => target, fields => fields);
            end if;
            return target;
        exception
            when sqlstate 'PT409' or sqlstate 'PT404' then
                -- it was inserted, merged or deleted meanwhile: the next look-up finds another
                -- contact, or none
                if attempt = 3 or (exists_already and sqlstate = 'PT409') then
                    raise;
                end if;
            when lock_not_available then
                raise sqlstate 'PT503' using
                    message = 'Others are writing this contact.',
                    hint = 'Try again.';
        end;
    end loop;
end
$$;

grant execute on function private.save_contact(uuid, jsonb, text) to authenticated;


create function public.upsert_contact(
    account_id uuid,
    contact jsonb,
    face text default 'contacts_page'
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    saved constant uuid := private.save_contact(
        account_id => upsert_contact.account_id,
        contact => upsert_contact.contact,
        face => upsert_contact.face
    );
begin
    return case face
        when 'contacts_page' then
            (select to_jsonb(v) from public.contacts_v2 v where v.id = saved)
        when 'live_chat' then
            (select to_jsonb(l) from public.contacts_live_chat l where l.id = saved)
    end;
end
$$;

grant execute on function public.upsert_contact(uuid, jsonb, text) to authenticated;


comment on function private.find_contact(uuid, jsonb) is
    'The contact that owns the phone, email and username; null if none does, refused if several do.';
comment on function private.contact_of_id(uuid, uuid) is
    'The contact with this id, or the one into which it was merged.';
comment on function private.save_contact(uuid, jsonb, text) is
    'Finds and changes a contact, or inserts it; returns its id.';
comment on function public.upsert_contact(uuid, jsonb, text) is
    'Writes a contact that is found by its id, phone, email or username, or inserts it. Given fields are written, others stay. face is contacts_page or live_chat; the answer is the row, as that face shows it. If the values belong to several contacts: 409.'
    ' Type: (face: "contacts_page" | "live_chat") => contacts_v2 | contacts_live_chat';
