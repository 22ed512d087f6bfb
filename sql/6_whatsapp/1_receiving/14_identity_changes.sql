/*
    The identities that a notice from WhatsApp changes, and the locks that the change takes: first
    all locks of the batch, in their order.
*/
create type private.identity_change as (
    account_id uuid,
    kind       text,
    old_key    text,
    new_key    text,
    new_value  text,
    changed_at timestamptz
);


create function private.identity_changes(item private.whatsapp_item)
    returns private.identity_change[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- another spelling of a number has the same key, so nothing changes
    return array(
        select (item.account_id, k.kind, k.old_key, k.new_key, k.new_value, item.sent_at)
            ::private.identity_change
        from (
            values
                (
                    'phone',
                    private.match_key(kind => 'phone', value => item.wa_id),
                    private.match_key(kind => 'phone', value => item.new_wa_id),
                    item.new_wa_id
                ),
                ('bsuid', item.user_id, item.new_user_id, item.new_user_id)
        ) as k (kind, old_key, new_key, new_value)
        where k.new_key is not null
          and k.new_key is distinct from k.old_key
    );
end
$$;


create function private.identity_name(account_id uuid, kind text, match_key text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return concat_ws(' ', account_id, kind, match_key);
end
$$;


create function private.lock_identity_changes(
    changes private.identity_change[],
    out claimed private.identity_change[],
    out locked text[]
)
    language plpgsql
    set search_path = ''
as $$
/*
    The owner of a new key is only certain once the key exists and is locked. So a free key is
    claimed for the owner of the old one. A claimed key counts as free, and is given back if it is
    not needed. A key that could not be locked, because it did not exist, is not read again:
    somebody who has written it since may be waiting for locks that this transaction holds.
*/
declare
    wanted record;
begin
    claimed := '{}';
    locked := '{}';
    for wanted in
        select
            k.account_id,
            k.kind,
            k.match_key,
            (array_agg(k.new_value) filter (where k.new_value is not null))[1] as new_value,
            (array_agg(k.heir) filter (where k.heir is not null))[1] as heir,
            bool_or(k.was_there) as was_there
        from unnest(changes) c
        cross join lateral (
            select private.identity_owner(
                account_id => c.account_id, kind => c.kind, match_key => c.old_key) as id
        ) owner
        cross join lateral (
            values
                (c.account_id, c.kind, c.old_key, null, null, owner.id is not null),
                (c.account_id, c.kind, c.new_key, c.new_value, owner.id, false)
        ) as k (account_id, kind, match_key, new_value, heir, was_there)
        where k.match_key is not null
        group by k.account_id, k.kind, k.match_key
        order by k.account_id, k.kind, k.match_key
    loop
        if wanted.heir is not null then
            if private.claim_whatsapp_identity(
                account_id => wanted.account_id,
                kind => wanted.kind,
                value => wanted.new_value,
                contact_id => wanted.heir
            ) then
                claimed := claimed || (
                    wanted.account_id, wanted.kind, null, wanted.match_key, wanted.new_value, null
                )::private.identity_change;
                wanted.was_there := true;
            end if;
        end if;

        perform
        from public.contact_identities o
        where o.account_id = wanted.account_id
          and o.kind = wanted.kind
          and o.match_key = wanted.match_key
        for update;
        if found and wanted.was_there then
            locked := locked || private.identity_name(
                account_id => wanted.account_id,
                kind => wanted.kind,
                match_key => wanted.match_key
            );
        end if;
    end loop;
end
$$;


create function private.claim_whatsapp_identity(
    account_id uuid,
    kind text,
    value text,
    contact_id uuid
)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.contact_identities (account_id, kind, value, wa_id, contact_id)
    values (
        claim_whatsapp_identity.account_id,
        claim_whatsapp_identity.kind,
        case claim_whatsapp_identity.kind when 'phone' then '+' || value else value end,
        case claim_whatsapp_identity.kind when 'phone' then value end,
        claim_whatsapp_identity.contact_id
    )
    on conflict do nothing;
    return found;
end
$$;


create function private.drop_identity(account_id uuid, kind text, match_key text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    delete from public.contact_identities o
    where o.account_id = drop_identity.account_id
      and o.kind = drop_identity.kind
      and o.match_key = drop_identity.match_key;
end
$$;


create function private.is_among(
    change private.identity_change,
    changes private.identity_change[]
)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return exists (
        select
        from unnest(changes) c
        where (c.account_id, c.kind, c.new_key)
            = (change.account_id, change.kind, change.new_key)
    );
end
$$;


comment on type private.identity_change is
    'An identity that replaces another one.';
comment on function private.identity_changes(private.whatsapp_item) is
    'The changes in a notice from WhatsApp: of the number, the user id, both or none.';
comment on function private.identity_name(uuid, text, text) is
    'One text for the key of an identity.';
comment on function private.lock_identity_changes(private.identity_change[]) is
    'Locks the old and new identities of a batch. New ones that nobody had are claimed; the keys that had an owner are returned as locked.';
comment on function private.claim_whatsapp_identity(uuid, text, text, uuid) is
    'Claims a number or a user id for a contact. False where somebody has it.';
comment on function private.drop_identity(uuid, text, text) is
    'Gives an identity back.';
comment on function private.is_among(private.identity_change, private.identity_change[]) is
    'Whether one of the changes leads to the same identity.';
