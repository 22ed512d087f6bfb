/*
    The number of each user id. A person who writes first with number and user id, and later with
    the user id alone, stays in one conversation: a thread follows the number. Rows are written
    under the lock of the user id's identity.
*/
create table private.whatsapp_user_numbers (
    account_id uuid not null
               constraint whatsapp_user_numbers_account_id_fkey
               references public.accounts on delete cascade,
    user_id    text not null,
    -- the match_key of the number
    phone_key  text not null,

    primary key (account_id, user_id)
);
alter table private.whatsapp_user_numbers enable row level security;


create policy "nobody reads the numbers of user ids directly"
    on private.whatsapp_user_numbers
    for all
    to authenticated
    using (false);


create type private.learnt_number as (
    account_id uuid,
    user_id    text,
    wa_id      text,
    phone_key  text,
    contact_id uuid
);


create function private.number_of_user(account_id uuid, user_id text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select n.phone_key
        from private.whatsapp_user_numbers n
        where n.account_id = number_of_user.account_id
          and n.user_id = number_of_user.user_id
    );
end
$$;


create function private.number_of_contact_user(account_id uuid, user_id text, contact_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    phone_key constant text := private.number_of_user(account_id => account_id, user_id => user_id);
begin
    -- a number that now belongs to somebody else does not lead to this person
    return case
        when phone_key is not null and contact_id = private.identity_owner(
            account_id => account_id, kind => 'phone', match_key => phone_key) then phone_key
    end;
end
$$;


create function private.learn_user_numbers(items private.whatsapp_item[])
    returns private.learnt_number[]
    language plpgsql
    set search_path = ''
as $$
declare
    learnt private.learnt_number[];
begin
    learnt := array(
        select (l.account_id, l.user_id, l.wa_id, l.phone_key, l.contact_id)::private.learnt_number
        from (
            select distinct on (i.account_id, i.user_id)
                i.account_id,
                i.user_id,
                i.wa_id,
                coalesce(
                    private.match_key(kind => 'phone', value => i.wa_id),
                    -- a user id that replaces another one
                    private.number_of_user(account_id => i.account_id, user_id => i.former_user_id)
                ) as phone_key,
                i.contact_id
            from unnest(items) i
            where i.user_id is not null
              and (i.wa_id is not null or i.former_user_id is not null)
              and i.other_contact_id is null
            order by i.account_id, i.user_id, i.sent_at desc, i.provider_id desc
        ) l
        where l.phone_key is not null
          and l.phone_key is distinct from
              private.number_of_user(account_id => l.account_id, user_id => l.user_id)
          -- only a person can say whether two contacts are one
          and l.contact_id = private.identity_owner(
              account_id => l.account_id, kind => 'phone', match_key => l.phone_key)
          and l.contact_id = private.identity_owner(
              account_id => l.account_id, kind => 'bsuid', match_key => l.user_id)
    );
    if learnt <> '{}' then
        insert into private.whatsapp_user_numbers as n (account_id, user_id, phone_key)
        select l.account_id, l.user_id, l.phone_key
        from unnest(learnt) l
        order by l.account_id, l.user_id
        on conflict (account_id, user_id) do update
            set phone_key = excluded.phone_key;
    end if;
    return learnt;
end
$$;


create function private.write_learnt_phones(learnt private.learnt_number[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    number private.learnt_number;
begin
    foreach number in array learnt loop
        -- longer ones are ids of test numbers and groups
        continue when number.wa_id is null or number.wa_id !~ '^[1-9][0-9]{1,14}$';
        perform
        from public.contacts c
        where c.id = number.contact_id
          and c.phone is null;
        -- an update of no row would still run the table's triggers
        if found then
            update public.contacts c
            set phone = '+' || number.wa_id
            where c.id = number.contact_id;
        end if;
    end loop;
end
$$;


create function private.follow_numbers(items private.whatsapp_item[])
    returns private.whatsapp_item[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    followed private.whatsapp_item[] := '{}';
    item private.whatsapp_item;
    phone_key text;
begin
    foreach item in array items loop
        if item.identity_kind = 'bsuid' then
            phone_key := private.number_of_contact_user(
                account_id => item.account_id,
                user_id => item.user_id,
                contact_id => item.contact_id
            );
            if phone_key is not null then
                item.identity_kind := 'phone';
                item.identity_key := phone_key;
            end if;
        end if;
        followed := followed || item;
    end loop;
    return followed;
end
$$;


create function private.move_learnt_threads(learnt private.learnt_number[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.conversations t
    set thread_key = 'phone:' || l.phone_key,
        customer_wa_id = coalesce(l.wa_id, t.customer_wa_id)
    from unnest(learnt) l
    join public.whatsapp_channels w
        on w.account_id = l.account_id
    where t.whatsapp_channel_id = w.id
      and t.account_id = w.account_id
      and t.thread_key = 'bsuid:' || l.user_id
      and t.customer_id = l.contact_id
      -- two open threads are never joined
      and (
          t.status = 'closed'
          or not exists (
              select
              from public.conversations o
              where o.whatsapp_channel_id = w.id
                and o.account_id = w.account_id
                and o.thread_key = 'phone:' || l.phone_key
                and o.status <> 'closed'
          )
      );
end
$$;


comment on table private.whatsapp_user_numbers is
    'The number of each user id, learnt from messages with both.';
comment on policy "nobody reads the numbers of user ids directly" on private.whatsapp_user_numbers is
    'They only help to find the thread of a message.';
comment on type private.learnt_number is
    'A user id whose number has become known, and the contact that has both.';
comment on function private.number_of_user(uuid, text) is
    'The match_key of a user id''s number; null where it is not known.';
comment on function private.number_of_contact_user(uuid, text, uuid) is
    'The same, if the number still belongs to that contact.';
comment on function private.learn_user_numbers(private.whatsapp_item[]) is
    'Notes the numbers of user ids. Returns the new ones, without the ambiguous ones.';
comment on function private.write_learnt_phones(private.learnt_number[]) is
    'Writes a number to a contact that shows none. The contact is locked.';
comment on function private.follow_numbers(private.whatsapp_item[]) is
    'The messages with the numbers of senders who wrote with the user id alone.';
comment on function private.move_learnt_threads(private.learnt_number[]) is
    'Moves the threads of user ids, which are locked, to their numbers.';
