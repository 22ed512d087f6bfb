/*
    One person's part of a raw webhook, which may carry updates about several people, and of several
    accounts. Only the account's own updates are looked at.
*/
create function private.is_update_of(update jsonb, p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.names_one(update, p.ids)
        -- an entry of the phone book, and a message that tells of another number
        or private.names_one(update -> 'contact', p.ids)
        or private.names_one(update -> 'system', p.ids)
        or exists (
            select
            from public.messages m
            where m.whatsapp_channel_id = any (p.channel_ids)
              and m.provider_id = update ->> 'id'
              and m.conversation_id = any (p.conversation_ids)
        );
end
$$;


create function private.is_change_of_account(change jsonb, waba_id text, p private.person)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := change #>> '{value,metadata,phone_number_id}';
begin
    return coalesce(number = any (p.phone_number_ids), false)
        or coalesce(waba_id = any (p.waba_ids), false)
            and (
                number is null
                -- one that nobody has yet: the business may add it, and its webhooks are tried again
                or coalesce(
                    private.webhook_account(
                        phone_number_id => number, waba_id => is_change_of_account.waba_id)
                        = p.account_id,
                    false)
            );
end
$$;


create function private.changes_of_account(body text, p private.person)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select jsonb_agg(c.value)
        from jsonb_path_query(private.webhook_json(body), 'lax $.entry[*]') as e (value)
        cross join lateral jsonb_path_query(e.value, 'lax $.changes[*]') as c (value)
        where private.is_change_of_account(c.value, e.value ->> 'id', p)
    );
end
$$;


create function private.cut_list(
    list jsonb,
    p private.person,
    out rest jsonb,
    out cut jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    element jsonb;
    threads record;
begin
    rest := '[]';
    cut := '[]';
    for element in select e from jsonb_array_elements(list) e loop
        if jsonb_typeof(element -> 'threads') = 'array' then
            -- the history of a phone app has a list of messages for each person
            threads := private.cut_list(element -> 'threads', p);
            cut := cut || threads.cut;
            rest := rest || jsonb_build_array(jsonb_set(element, '{threads}', threads.rest));
        elsif private.is_update_of(element, p) then
            cut := cut || jsonb_build_array(element);
        elsif element ? 'group_id' and element::text ~ p.ids_pattern then
            -- the event of a group names the people that came and left; a message quotes one
            rest := rest || jsonb_build_array(case
                when element ? 'from' then case
                    when private.names_one(element -> 'context', p.ids) then element - 'context'
                    else element
                end
                else private.without_ids(element, p.ids)
            end);
        else
            rest := rest || jsonb_build_array(element);
        end if;
    end loop;
end
$$;


create function private.cut_webhook(
    body text,
    p private.person,
    out rest text,
    out cut jsonb
)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    left_over jsonb := private.webhook_json(body);
    change record;
    list record;
    parts record;
begin
    if left_over is null then
        -- nobody can tell which part of it is another person's
        rest := '{}';
        cut := '[{"unreadable": true}]';
        return;
    end if;
    cut := '[]';
    rest := body;
    for change in
        select
            array['entry', (e.place - 1)::text, 'changes', (c.place - 1)::text, 'value'] as path,
            c.value -> 'value' as value
        from jsonb_array_elements(case jsonb_typeof(left_over -> 'entry')
            when 'array' then left_over -> 'entry' else '[]' end) with ordinality as e (value, place)
        cross join lateral jsonb_array_elements(case jsonb_typeof(e.value -> 'changes')
            when 'array' then e.value -> 'changes' else '[]' end) with ordinality as c (value, place)
        where private.is_change_of_account(c.value, e.value ->> 'id', p)
          and jsonb_typeof(c.value -> 'value') = 'object'
    loop
        for list in
            select f.key, f.value
            from jsonb_each(change.value) f
            where jsonb_typeof(f.value) = 'array'
        loop
            parts := private.cut_list(list.value, p);
            if parts.rest <> list.value then
                cut := cut || jsonb_build_array(jsonb_build_object(list.key, parts.cut));
                left_over := jsonb_set(left_over, change.path || list.key, parts.rest);
            end if;
        end loop;
    end loop;
    if cut <> '[]' then
        rest := left_over::text;
    end if;
end
$$;


comment on function private.is_update_of(jsonb, private.person) is
    'Whether an update of a webhook is about a person.';
comment on function private.is_change_of_account(jsonb, text, private.person) is
    'Whether a change of a webhook is about a number, or else about the WhatsApp Business account, of the person''s account.';
comment on function private.changes_of_account(text, private.person) is
    'The changes of a raw webhook that are the account''s; null for none.';
comment on function private.cut_list(jsonb, private.person) is
    'A list of updates without those about a person, and these.';
comment on function private.cut_webhook(text, private.person) is
    'A raw webhook without the updates about a person, and these, by the name of their list.';
