/*
    The messages that WhatsApp takes: the object of each type, as the API takes it, with its limits.
    The check runs when a message is written, in every way. So the writer hears of a mistake at
    once, instead of WhatsApp refusing it a minute later when nobody looks. Content without a check
    here goes out as it is.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Messages" and the page of each type.)
*/
create function private.check_file(type text, content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    named constant integer := num_nonnulls(
        content ->> 'upload_id', content ->> 'id', content ->> 'link');
begin
    perform private.check_object(null, content, array['upload_id', 'id', 'link'] || case
        when type in ('image', 'video') then array['caption']
        when type = 'document' then array['caption', 'filename']
        when type = 'audio' then array['voice']
        else '{}'
    end);
    if named <> 1 then
        perform private.refuse_content(
            null,
            'The message must name one file; it names none, or more than one.',
            'Give one of upload_id (from POST /api/media), id (of a file at WhatsApp) and link.'
        );
    elsif content ->> 'upload_id' is not null and not pg_input_is_valid(content ->> 'upload_id', 'uuid') then
        perform private.refuse_content('upload_id', 'upload_id is not an id.', 'POST /api/media returns one.');
    elsif coalesce(jsonb_typeof(content -> 'voice'), 'null') not in ('null', 'boolean') then
        perform private.refuse_content('voice', 'voice must be true or false.');
    end if;
    perform private.check_words('id', content -> 'id', most => 512);
    perform private.check_link('link', content -> 'link');
    perform private.check_words('caption', content -> 'caption', most => 1024);
    perform private.check_words('filename', content -> 'filename', most => 512);
end
$$;


create function private.check_location(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    place record;
begin
    perform private.check_object(null, content, array['latitude', 'longitude', 'name', 'address']);
    for place in
        select *
        from (values ('latitude', 90), ('longitude', 180)) as p (field, most)
    loop
        if jsonb_typeof(content -> place.field) is distinct from 'number'
            or abs((content -> place.field)::numeric) > place.most
        then
            perform private.refuse_content(
                place.field,
                format('%s must be a number of degrees.', place.field),
                format('Give a number from -%s to %s.', place.most, place.most)
            );
        end if;
    end loop;
    perform private.check_words('name', content -> 'name', most => 512);
    perform private.check_words('address', content -> 'address', most => 512);
end
$$;


create function private.check_contacts(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    card record;
begin
    if jsonb_typeof(content) <> 'array' or jsonb_array_length(content) not between 1 and 257 then
        perform private.refuse_content(null, 'content must be a list of contacts.', 'Give 1 to 257 contacts.');
    end if;
    for card in
        select c.value, c.ordinal - 1 as index
        from jsonb_array_elements(content) with ordinality as c (value, ordinal)
    loop
        perform private.check_object(card.index::text, card.value);
        perform private.check_object(format('%s.name', card.index), card.value -> 'name');
        perform private.check_words(
            format('%s.name.formatted_name', card.index),
            card.value -> 'name' -> 'formatted_name',
            most => 512,
            needed => true
        );
    end loop;
end
$$;


create function private.check_reaction(content jsonb, conversation_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    target constant uuid := case
        when pg_input_is_valid(content ->> 'message_id', 'uuid')
            then (content ->> 'message_id')::uuid
    end;
begin
    perform private.check_object(null, content, array['message_id', 'emoji']);
    -- a queued message goes before the reaction to it
    if not exists (
        select
        from public.messages m
        where m.id = target
          and m.conversation_id = check_reaction.conversation_id
          and (m.provider_id is not null or m.status = 'queued')
    ) then
        perform private.refuse_content(
            'message_id',
            'There is no message with this id in this conversation, or it has not been sent.',
            'Give the id of one of its messages.'
        );
    -- an empty emoji removes the reaction
    elsif jsonb_typeof(content -> 'emoji') is distinct from 'string' or length(content ->> 'emoji') > 32 then
        perform private.refuse_content('emoji', 'emoji is missing or not an emoji.');
    end if;
end
$$;


create function private.check_content(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- some readers can't parse JSON this deep, or numbers this large
    if post.content @? 'strict $.**{17 to last}' then
        perform private.refuse_content(null, 'content is nested too deeply.', 'At most 16 levels are allowed.');
    elsif post.content @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))' then
        perform private.refuse_content(null, 'A number in content is too large.', 'Numbers can be at most 1e15.');
    end if;

    case post.type
        when 'location' then
            perform private.check_location(post.content);
        when 'contacts' then
            perform private.check_contacts(post.content);
        when 'reaction' then
            perform private.check_reaction(post.content, conversation_id => post.conversation_id);
        when 'interactive' then
            perform private.check_interactive(post.content);
        when 'template' then
            perform private.check_template(post.content);
            perform private.check_known_template(
                post.content, whatsapp_channel_id => post.whatsapp_channel_id);
        else
            perform private.check_file(type => post.type, content => post.content);
    end case;
end
$$;


create function private.words_of_content(type text, content jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    label constant text := case
        when type = 'contacts' then 'contact'
        when type = 'audio' and content -> 'voice' = 'true' then 'voice message'
        when type = 'reaction' and content ->> 'emoji' = '' then 'reaction removed'
        else type
    end;
    words constant text := nullif(
        case type
            when 'template' then content ->> 'name'
            when 'contacts' then content #>> '{0,name,formatted_name}'
            when 'location' then coalesce(content ->> 'name', content ->> 'address')
            when 'reaction' then content ->> 'emoji'
            else coalesce(content ->> 'caption', content ->> 'filename')
        end,
        ''
    );
begin
    return left(
        coalesce(
            case when type = 'interactive' then content #>> '{body,text}' end,
            concat_ws(' ', format('[%s]', label), words)
        ),
        4096
    );
end
$$;


comment on function private.check_file(text, jsonb) is
    'Refuses an image, a video, a sound, a document or a sticker that can''t be sent.';
comment on function private.check_location(jsonb) is
    'Refuses a location that can''t be sent.';
comment on function private.check_contacts(jsonb) is
    'Refuses contacts that can''t be sent.';
comment on function private.check_reaction(jsonb, uuid) is
    'Refuses a reaction to a message that is not in the conversation.';
comment on function private.check_content(public.messages) is
    'Refuses a content that can''t be sent, and names the field.';
comment on function private.words_of_content(text, jsonb) is
    'The line that people read in place of a content without text.';
