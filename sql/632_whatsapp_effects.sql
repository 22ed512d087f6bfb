/*
    Reactions, edits and deletions: kept, and shown on the message that they are done to.
*/
create function private.keep_whatsapp_effects(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    kept integer;
begin
    if items is null then
        return 0;
    end if;
    insert into private.message_effects (
        whatsapp_channel_id, provider_id, parent_provider_id, kind, sender_type, sender_id, at,
        text, content
    )
    select
        i.whatsapp_channel_id, i.provider_id, i.reply_to, i.type, i.sender_type, i.sender_id,
        i.sent_at, i.text, i.content
    from unnest(items) i
    order by i.whatsapp_channel_id, i.provider_id, i.index
    on conflict do nothing;

    get diagnostics kept = row_count;
    return kept;
end
$$;


create function private.effects_of(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select e.*
    from private.message_effects e
    where e.whatsapp_channel_id = message.whatsapp_channel_id
      and e.parent_provider_id = any (private.provider_ids_of(message))
      and (
          e.kind = 'reaction'
          -- each side edits and deletes its own
          or (e.sender_type = 'client') = (message.sender_type = 'client')
      );
end
$$;


create function private.edited_content(original jsonb, edit jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    type constant text := edit ->> 'type';
begin
    -- an edit of a caption need not repeat what the file is
    return case
        when jsonb_typeof(original -> type) = 'object' and jsonb_typeof(edit -> type) = 'object'
            then original || jsonb_build_object(type, (original -> type) || (edit -> type))
        else original
    end;
end
$$;


create function private.with_effects(message public.messages)
    returns public.messages
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    edit private.message_effects;
    original private.message_effects;
begin
    select e.*
    into edit
    from private.effects_of(message) e
    where e.kind = 'edit'
    order by e.at desc, e.provider_id desc
    limit 1;
    message.edited_at := edit.at;

    select min(e.at)
    into message.revoked_at
    from private.effects_of(message) e
    where e.kind = 'revoke';
    if message.revoked_at is not null then
        message.message := '';
        message.content := null;
        message.reactions := '[]';
        return message;
    end if;

    if edit.provider_id is not null then
        select e.*
        into original
        from private.effects_of(message) e
        where e.kind = 'original'
        limit 1;
        message.message := coalesce(edit.text, original.text);
        message.content := private.edited_content(original => original.content, edit => edit.content);
    end if;

    message.reactions := (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'sender_type', r.sender_type,
                    'sender_id', r.sender_id,
                    'emoji', r.text,
                    'at', r.at
                )
                order by r.at, r.provider_id
            ) filter (where r.text is not null),
            '[]'
        )
        from (
            select distinct on (e.sender_type, e.sender_id) e.*
            from private.effects_of(message) e
            where e.kind = 'reaction'
            order by e.sender_type, e.sender_id, e.at desc, e.provider_id desc
        ) r
    );
    return message;
end
$$;


create function private.show_message_effects(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    changed public.messages[];
begin
    insert into private.message_effects (
        whatsapp_channel_id, provider_id, parent_provider_id, kind, sender_type, text, content
    )
    select
        m.whatsapp_channel_id,
        m.provider_id,
        m.provider_id,
        'original',
        m.sender_type,
        m.message,
        m.content
    from public.messages m
    where m.id = any (message_ids)
      and m.provider_id is not null
      and m.revoked_at is null
      and exists (select from private.effects_of(m) e where e.kind = 'edit')
      and not exists (select from private.effects_of(m) e where e.kind = 'original')
    on conflict do nothing;

    changed := array(
        select w
        from public.messages m
        cross join lateral private.with_effects(m) w
        where m.id = any (message_ids)
          and (w.message, w.content, w.reactions, w.edited_at, w.revoked_at)
              is distinct from (m.message, m.content, m.reactions, m.edited_at, m.revoked_at)
    );
    -- an update of no row would still run the table's triggers
    if changed <> '{}' then
        update public.messages m
        set message = c.message,
            content = c.content,
            reactions = c.reactions,
            edited_at = c.edited_at,
            revoked_at = c.revoked_at
        from unnest(changed) c
        where m.id = c.id;
    end if;

    -- what its sender took back is not kept as history either
    delete from private.message_effects e
    using public.messages m
    where m.id = any (message_ids)
      and m.revoked_at is not null
      and e.whatsapp_channel_id = m.whatsapp_channel_id
      and e.provider_id = m.provider_id
      and e.kind = 'original';
    update private.message_effects e
    set text = null,
        content = null
    from public.messages m
    where m.id = any (message_ids)
      and m.revoked_at is not null
      and e.whatsapp_channel_id = m.whatsapp_channel_id
      and e.parent_provider_id = any (private.provider_ids_of(m))
      and num_nonnulls(e.text, e.content) > 0;
end
$$;


create function private.park_replies(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.parked_replies (message_id, whatsapp_channel_id, parent_provider_id)
    select m.id, m.whatsapp_channel_id, min(i.reply_to)
    from unnest(items) i
    join public.messages m
        on m.whatsapp_channel_id = i.whatsapp_channel_id
       and m.provider_id = i.provider_id
    where i.kind <> 'effect'
      and i.reply_to is not null
      and m.reply_to is null
    group by m.id
    on conflict do nothing;
end
$$;


create function private.attach_replies(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    children uuid[];
    parents uuid[];
begin
    with attached as (
        delete from private.parked_replies p
        where p.message_id = any (message_ids)
          and private.message_by_provider_id(
              whatsapp_channel_id => p.whatsapp_channel_id,
              provider_id => p.parent_provider_id
          ) is not null
        returning p.*
    )
    select array_agg(m.id), array_agg(answered.id)
    into children, parents
    from attached p
    join public.messages m
        on m.id = p.message_id
    cross join lateral private.answered_message(
        conversation_id => m.conversation_id,
        whatsapp_channel_id => p.whatsapp_channel_id,
        provider_id => p.parent_provider_id
    ) as answered (id)
    where answered.id is not null;

    -- an update of no row would still run the table's triggers
    if children is not null then
        update public.messages m
        set reply_to = a.parent_id
        from unnest(children, parents) as a (id, parent_id)
        where m.id = a.id;
    end if;
end
$$;


comment on function private.keep_whatsapp_effects(private.whatsapp_item[]) is
    'Keeps what was done to messages, known or not; returns how many were news.';
comment on function private.effects_of(public.messages) is
    'What was done to a message by whoever may; a side edits and deletes its own.';
comment on function private.edited_content(jsonb, jsonb) is
    'A message''s content after an edit.';
comment on function private.with_effects(public.messages) is
    'A message as it is to be shown after all that was done to it.';
comment on function private.show_message_effects(uuid[]) is
    'Shows on messages, which are locked, what was done to them; repeating it changes nothing.';
comment on function private.park_replies(private.whatsapp_item[]) is
    'Notes what a batch''s replies answer, where they do not say so yet.';
comment on function private.attach_replies(uuid[]) is
    'Tells replies, which are locked, what they answer, where that has come.';
