/*
    Changes of people's numbers and user ids, as WhatsApp reported them. A message from before a
    change may arrive after it, and this table finds its sender. A later owner of the old number is
    another person.
*/
create table private.whatsapp_id_changes (
    account_id uuid not null
               constraint whatsapp_id_changes_account_id_fkey
               references public.accounts on delete cascade,
    kind       text not null
               constraint whatsapp_id_changes_kind_check check (kind in ('phone', 'bsuid')),
    -- in the form of an identity's match_key
    old_key    text not null,
    -- in WhatsApp's spelling
    new_value  text not null,
    -- the provider's time of the change
    changed_at timestamptz not null,

    primary key (account_id, kind, old_key, changed_at)
);
alter table private.whatsapp_id_changes enable row level security;


create policy "nobody reads changes of WhatsApp ids directly"
    on private.whatsapp_id_changes
    for all
    to authenticated
    using (false);


create function private.identity_owner(account_id uuid, kind text, match_key text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select o.contact_id
        from public.contact_identities o
        where o.account_id = identity_owner.account_id
          and o.kind = identity_owner.kind
          and o.match_key = identity_owner.match_key
    );
end
$$;


create function private.current_whatsapp_id(
    account_id uuid,
    kind text,
    value text,
    at timestamptz
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    current_value text := value;
    current_key text;
    next_value text;
begin
    -- changes may lead back to the first id
    for hop in 1 .. 10 loop
        current_key := private.match_key(kind => kind, value => current_value);
        exit when current_key is null
            or private.identity_owner(
                account_id => account_id, kind => kind, match_key => current_key) is not null;

        select h.new_value
        into next_value
        from private.whatsapp_id_changes h
        where h.account_id = current_whatsapp_id.account_id
          and h.kind = current_whatsapp_id.kind
          and h.old_key = current_key
          and h.changed_at >= at
        order by h.changed_at
        limit 1;
        exit when not found;
        current_value := next_value;
    end loop;
    return current_value;
end
$$;


create function private.follow_id_changes(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    followed private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
begin
    if not exists (
        select
        from unnest(items) i
        join private.whatsapp_id_changes h
            on h.account_id = i.account_id
           and (
               (h.kind = 'phone' and h.old_key = private.match_key(kind => 'phone', value => i.wa_id))
               or (h.kind = 'bsuid' and h.old_key = i.user_id)
           )
           and h.changed_at >= i.sent_at
    ) then
        return items;
    end if;

    foreach item in array items loop
        item.wa_id := private.current_whatsapp_id(
            account_id => item.account_id, kind => 'phone', value => item.wa_id, at => item.sent_at);
        item.user_id := private.current_whatsapp_id(
            account_id => item.account_id, kind => 'bsuid', value => item.user_id, at => item.sent_at);
        item.identity_key := case item.identity_kind
            when 'phone' then private.match_key(kind => 'phone', value => item.wa_id)
            else item.user_id
        end;
        followed := followed || item;
    end loop;
    return followed;
end
$$;


comment on table private.whatsapp_id_changes is
    'Numbers and user ids that WhatsApp reported as replaced by others.';
comment on policy "nobody reads changes of WhatsApp ids directly" on private.whatsapp_id_changes is
    'They only help to find the sender of a late message.';
comment on function private.identity_owner(uuid, text, text) is
    'The contact that owns an identity; null where nobody has it.';
comment on function private.current_whatsapp_id(uuid, text, text, timestamptz) is
    'The present number or user id of the person who had this one at that time. Unchanged where somebody owns it or no change is known.';
comment on function private.follow_id_changes(private.whatsapp_item[]) is
    'The messages with the present ids of their senders, where the senders had other ids when they wrote.';
