/*
    Reactions, edits and deletions: keeps them, and shows them on their messages.
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


create function private.effects_about(message public.messages)
    returns setof private.message_effects
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    known_ids constant text[] := private.provider_ids_of(message);
begin
    return query
    select e.*
    from unnest(known_ids) as known (provider_id)
    cross join lateral (
        select k.*
        from private.message_effects k
        where k.whatsapp_channel_id = message.whatsapp_channel_id
          and k.parent_provider_id = known.provider_id
        -- Looked up id by id: a plan made while the table was new read all effects of the number.
        offset 0
    ) e;
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
    from private.effects_about(message) e
    where e.kind = 'reaction'
       -- each side edits and deletes its own messages, and in a group each participant
       or (e.sender_type = 'client') = (message.sender_type = 'client')
          and (
              message.customer_id is not null
              or e.kind = 'original'
              or e.sender_type <> 'client'
              or private.is_same_participant(
                  conversation_id => message.conversation_id,
                  one => e.sender_id,
                  other => message.sender_id
              )
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
    -- an edit of a caption need not repeat the file
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
    effects constant private.message_effects[] := array(
        select e
        from private.effects_of(message) e
    );
    edit private.message_effects;
    original private.message_effects;
begin
    select e.*
    into edit
    from unnest(effects) e
    where e.kind = 'edit'
    order by e.at desc, e.provider_id desc
    limit 1;
    message.edited_at := edit.at;

    select min(e.at)
    into message.revoked_at
    from unnest(effects) e
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
        from unnest(effects) e
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
            from unnest(effects) e
            where e.kind = 'reaction'
            order by e.sender_type, e.sender_id, e.at desc, e.provider_id desc
        ) r
    );
    return message;
end
$$;


create function private.forget_effects(message public.messages)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    effect private.message_effects;
begin
    -- text that its sender has deleted is not kept as history either
    for effect in
        select e.*
        from private.effects_about(message) e
        where num_nonnulls(e.text, e.content) > 0
    loop
        if effect.kind = 'original' then
            delete from private.message_effects e
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        else
            update private.message_effects e
            set text = null,
                content = null
            where e.whatsapp_channel_id = effect.whatsapp_channel_id
              and e.parent_provider_id = effect.parent_provider_id
              and e.provider_id = effect.provider_id;
        end if;
    end loop;
end
$$;


create function private.show_message_effects(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- none of the messages that only have statuses
    touched constant uuid[] := array(
        select m.id
        from public.messages m
        where m.id = any (message_ids)
          -- Most have none: the first test needs no function, the calls were 7 % of echoes and
          -- statuses.
          and case when exists (
              select
              from unnest(array_append(
                  array(
                      select t.provider_id
                      from private.outbound_attempts t
                      where t.message_id = m.id
                        and t.provider_id is distinct from m.provider_id
                  ),
                  m.provider_id
              )) as known (provider_id)
              cross join lateral (
                  select
                  from private.message_effects k
                  where k.whatsapp_channel_id = m.whatsapp_channel_id
                    and k.parent_provider_id = known.provider_id
                  -- as in effects_about
                  offset 0
              ) e
          ) then
              exists (select from private.effects_of(m))
          end
    );
    changed public.messages[];
    revoked public.messages;
begin
    if touched = '{}' then
        return;
    end if;

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
    where m.id = any (touched)
      and m.provider_id is not null
      and m.revoked_at is null
      and exists (select from private.effects_of(m) e where e.kind = 'edit')
      and not exists (select from private.effects_of(m) e where e.kind = 'original')
    on conflict do nothing;

    changed := array(
        select w
        from public.messages m
        cross join lateral private.with_effects(m) w
        where m.id = any (touched)
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

    for revoked in
        select m.*
        from public.messages m
        where m.id = any (touched)
          and m.revoked_at is not null
        order by m.id
    loop
        perform private.forget_effects(revoked);
        perform private.take_back_media(revoked.id);
    end loop;
end
$$;


comment on function private.keep_whatsapp_effects(private.whatsapp_item[]) is
    'Keeps effects on messages, known or not. Returns the number of new ones.';
comment on function private.effects_about(public.messages) is
    'All effects on a message, from anybody, and its original text.';
comment on function private.effects_of(public.messages) is
    'The effects on a message that are allowed: a side edits and deletes only its own messages.';
comment on function private.edited_content(jsonb, jsonb) is
    'The content of a message after an edit.';
comment on function private.with_effects(public.messages) is
    'A message with all of its effects applied.';
comment on function private.forget_effects(public.messages) is
    'Deletes the original text of a message that its sender has deleted.';
comment on function private.show_message_effects(uuid[]) is
    'Shows on messages, which are locked, the sum of their effects. Repeating it changes nothing.';
