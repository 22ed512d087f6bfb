/*
    What can not be sent is refused when it is written, on whichever way; templates are filled
    by the names of their variables; and no number waits for another one's backlog.
*/
alter table private.send_errors
    add column rest interval
        constraint send_errors_rest_check check (action = 'fail' or rest is null);

insert into private.send_errors (code, action, wait, factor, holds, sentence)
values
    (-4, 'retry', '5 seconds', 2, false, 'The file of this message can not be read at the moment.');

update private.send_errors
set rest = '24 hours'
where code = 131049;

drop index private.outbound_queue_due_idx;

create or replace function private.hold_number(whatsapp_channel_id uuid, until timestamptz)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- one goes then, and the others after it at the number's pace
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    select w.id, '', until + pace.every * (pace.burst - 1)
    from public.whatsapp_channels w
    cross join lateral private.number_pace(w.messages_per_second) pace
    where w.id = hold_number.whatsapp_channel_id
    on conflict on constraint send_paces_pkey do update
        set due_at = excluded.due_at
        where p.due_at < excluded.due_at;
end
$$;

create index outbound_queue_due_idx
    on private.outbound_queue (whatsapp_channel_id, not_before)
    where state = 'queued';

/*
    What the checks of a message's content are made of: each refuses, and names the field
    beneath content that is wrong.
*/
create function private.refuse_content(field text, message text, hint text default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    raise sqlstate 'PT422' using
        message = message,
        detail = concat_ws('.', 'field: content', field),
        hint = coalesce(hint, 'As WhatsApp takes it under the name of the type.');
end
$$;

create function private.is_blank(words text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- all that Unicode calls white space: a customer would see nothing
    return words !~ '[^\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]';
end
$$;

create function private.check_words(field text, value jsonb, most integer, needed boolean default false)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    words constant text := value #>> '{}';
begin
    if words is null and not needed then
        return;
    elsif words is null or jsonb_typeof(value) <> 'string' or private.is_blank(words) then
        perform private.refuse_content(field, format('%s is missing, empty or not a text.', field));
    elsif length(words) > most then
        perform private.refuse_content(
            field, format('%s is too long.', field), format('At most %s characters.', most));
    end if;
end
$$;

create function private.check_object(field text, value jsonb, known text[] default null)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    unknown text;
begin
    if coalesce(jsonb_typeof(value), 'null') <> 'object' then
        perform private.refuse_content(field, format('%s is not an object.', coalesce(field, 'content')));
    end if;
    select k.key
    into unknown
    from jsonb_object_keys(value) as k (key)
    where k.key <> all (known)
    order by k.key
    limit 1;
    if found then
        perform private.refuse_content(
            concat_ws('.', field, left(unknown, 64)),
            format('%s does not belong here.', quote_literal(left(unknown, 64))),
            format('Known: %s.', array_to_string(known, ', '))
        );
    end if;
end
$$;

create function private.check_link(field text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.check_words(field, value, most => 2048);
    -- as addresses are written: other characters are escaped in them
    if (value #>> '{}') !~ '^https?://[!-~]+$' then
        perform private.refuse_content(field, format('%s is no address.', field), 'https://…');
    end if;
end
$$;

create function private.check_elements(field text, value jsonb, most integer)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    element record;
begin
    if jsonb_typeof(value) is distinct from 'array' or jsonb_array_length(value) not between 1 and most then
        perform private.refuse_content(
            field, format('%s is missing, empty or too long.', field), format('From 1 to %s.', most));
    end if;
    for element in
        select e.value, e.ordinal - 1 as index
        from jsonb_array_elements(value) with ordinality as e (value, ordinal)
    loop
        perform private.check_object(format('%s.%s', field, element.index), element.value);
    end loop;
end
$$;

create function private.check_distinct(field text, ids text[])
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if cardinality(ids) > (select count(distinct i.id) from unnest(ids) as i (id)) then
        perform private.refuse_content(field, format('Two of %s have the same id.', field));
    end if;
end
$$;

comment on function private.refuse_content(text, text, text) is
    'Refuses what can not be sent, naming the field beneath content.';

comment on function private.is_blank(text) is
    'Whether there is nothing to see in a text.';

comment on function private.check_words(text, jsonb, integer, boolean) is
    'Refuses what is no text, or a longer one; null passes unless it is needed.';

comment on function private.check_object(text, jsonb, text[]) is
    'Refuses what is no object, or has fields beside the known ones; without these any pass.';

comment on function private.check_link(text, jsonb) is
    'Refuses what is no address.';

comment on function private.check_elements(text, jsonb, integer) is
    'Refuses what is no list of objects, is empty or is longer.';

comment on function private.check_distinct(text, text[]) is
    'Refuses ids of which two are the same.';

/*
    What may be sent by WhatsApp: each type's object, as the API takes it, with its limits. It is
    checked when it is written, on whichever way, so that a mistake is told to whoever made it,
    and not by WhatsApp to nobody a minute later. What is not told apart here goes as it is.
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
            'The message names no file, or more than one.',
            'Give one of upload_id (of POST /api/media), id (of a file at WhatsApp) and link.'
        );
    elsif content ->> 'upload_id' is not null and not pg_input_is_valid(content ->> 'upload_id', 'uuid') then
        perform private.refuse_content('upload_id', 'upload_id is no id.', 'POST /api/media answers one.');
    elsif coalesce(jsonb_typeof(content -> 'voice'), 'null') not in ('null', 'boolean') then
        perform private.refuse_content('voice', 'voice is neither true nor false.');
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
                format('%s is missing or no number of degrees.', place.field),
                format('From -%s to %s.', place.most, place.most)
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
        perform private.refuse_content(null, 'content is no list of contacts.', 'From 1 to 257 of them.');
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
    -- what is still to be sent goes before the reaction to it
    if not exists (
        select
        from public.messages m
        where m.id = target
          and m.conversation_id = check_reaction.conversation_id
          and (m.provider_id is not null or m.status = 'queued')
    ) then
        perform private.refuse_content(
            'message_id',
            'What is reacted to is not in this conversation, or was not sent itself.',
            'The id of one of its messages.'
        );
    -- the empty one takes it back
    elsif jsonb_typeof(content -> 'emoji') is distinct from 'string' or length(content ->> 'emoji') > 32 then
        perform private.refuse_content('emoji', 'emoji is missing or no emoji.');
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
    -- what is so deep, or so large, some programs that have to read it can not read
    if post.content @? 'strict $.**{17 to last}' then
        perform private.refuse_content(null, 'content is nested too deeply.', 'At most 16 levels.');
    elsif post.content @? 'strict $.** ? (@.type() == "number" && (@ > 1e15 || @ < -1e15))' then
        perform private.refuse_content(null, 'A number in content is too large.', 'At most 1e15.');
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
    'Refuses an image, a video, a sound, a document or a sticker that can not be sent.';

comment on function private.check_location(jsonb) is
    'Refuses a place that can not be sent.';

comment on function private.check_contacts(jsonb) is
    'Refuses contacts that can not be sent.';

comment on function private.check_reaction(jsonb, uuid) is
    'Refuses a reaction to what is not in the conversation.';

comment on function private.check_content(public.messages) is
    'Refuses a content that can not be sent, naming the field.';

comment on function private.words_of_content(text, jsonb) is
    'The line that people read in place of what is no text.';

/*
    Messages with buttons, a list or a link, and templates: what WhatsApp refuses is refused
    when it is written. Of other interactive types only the frame is checked.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Interactive reply buttons",
    "Interactive lists", "Interactive call-to-action URL button", "Template messages".)
*/
create function private.check_buttons(action jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    button record;
begin
    perform private.check_elements('action.buttons', action -> 'buttons', most => 3);
    for button in
        select b.value, format('action.buttons.%s', b.ordinal - 1) as field
        from jsonb_array_elements(action -> 'buttons') with ordinality as b (value, ordinal)
    loop
        if button.value ->> 'type' is distinct from 'reply' then
            perform private.refuse_content(button.field || '.type', 'A button is of the type reply.');
        end if;
        perform private.check_words(
            button.field || '.reply.id', button.value #> '{reply,id}', most => 256, needed => true);
        perform private.check_words(
            button.field || '.reply.title', button.value #> '{reply,title}', most => 20, needed => true);
    end loop;
    perform private.check_distinct(
        'action.buttons',
        array(
            select b.value #>> '{reply,id}'
            from jsonb_array_elements(action -> 'buttons') as b (value)
        )
    );
end
$$;

create function private.check_list(action jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    section record;
    line record;
    row_ids text[] := '{}';
begin
    perform private.check_words('action.button', action -> 'button', most => 20, needed => true);
    perform private.check_elements('action.sections', action -> 'sections', most => 10);
    for section in
        select s.value, format('action.sections.%s', s.ordinal - 1) as field
        from jsonb_array_elements(action -> 'sections') with ordinality as s (value, ordinal)
    loop
        perform private.check_words(
            section.field || '.title',
            section.value -> 'title',
            most => 24,
            needed => jsonb_array_length(action -> 'sections') > 1
        );
        perform private.check_elements(section.field || '.rows', section.value -> 'rows', most => 10);
        for line in
            select r.value, format('%s.rows.%s', section.field, r.ordinal - 1) as field
            from jsonb_array_elements(section.value -> 'rows') with ordinality as r (value, ordinal)
        loop
            perform private.check_words(line.field || '.id', line.value -> 'id', most => 200, needed => true);
            perform private.check_words(
                line.field || '.title', line.value -> 'title', most => 24, needed => true);
            perform private.check_words(line.field || '.description', line.value -> 'description', most => 72);
            row_ids := row_ids || (line.value ->> 'id');
        end loop;
    end loop;
    if cardinality(row_ids) > 10 then
        perform private.refuse_content(
            'action.sections', 'The list is too long.', 'At most 10 rows in all sections together.');
    end if;
    perform private.check_distinct('action.sections', row_ids);
end
$$;

create function private.check_interactive(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    kind constant text := content ->> 'type';
begin
    perform private.check_object(null, content, array['type', 'header', 'body', 'footer', 'action']);
    perform private.check_words('type', content -> 'type', most => 64, needed => true);
    if kind !~ '^[a-z_]+$' then
        perform private.refuse_content('type', 'type is no type.', 'Such as button, list, cta_url or flow.');
    end if;
    if coalesce(jsonb_typeof(content -> 'header'), 'null') <> 'null' then
        perform private.check_object('header', content -> 'header');
        perform private.check_words('header.text', content #> '{header,text}', most => 60);
    end if;
    -- a product alone needs no words
    if kind <> 'product' or coalesce(jsonb_typeof(content -> 'body'), 'null') <> 'null' then
        perform private.check_object('body', content -> 'body', array['text']);
        perform private.check_words(
            'body.text',
            content #> '{body,text}',
            most => case when kind = 'list' then 4096 else 1024 end,
            needed => true
        );
    end if;
    if coalesce(jsonb_typeof(content -> 'footer'), 'null') <> 'null' then
        perform private.check_object('footer', content -> 'footer');
        perform private.check_words('footer.text', content #> '{footer,text}', most => 60, needed => true);
    end if;

    perform private.check_object('action', content -> 'action');
    case kind
        when 'button' then
            perform private.check_buttons(content -> 'action');
        when 'list' then
            perform private.check_list(content -> 'action');
        when 'cta_url' then
            perform private.check_words(
                'action.parameters.display_text',
                content #> '{action,parameters,display_text}',
                most => 20,
                needed => true
            );
            perform private.check_words(
                'action.parameters.url', content #> '{action,parameters,url}', most => 2048, needed => true);
            perform private.check_link('action.parameters.url', content #> '{action,parameters,url}');
        else
            null;
    end case;
end
$$;

create function private.check_variable(field text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    perform private.check_words(field, value, most => 1024, needed => true);
    if value #>> '{}' ~ '[\r\n\t]| {5}' then
        perform private.refuse_content(
            field,
            'WhatsApp takes no such text in a template.',
            'Without line breaks, tabs, and more than 4 spaces in a row.'
        );
    end if;
end
$$;

create function private.check_template(content jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    language constant jsonb := case jsonb_typeof(content -> 'language')
        when 'string' then jsonb_build_object('code', content -> 'language')
        else content -> 'language'
    end;
    filled record;
begin
    perform private.check_object(null, content, array['name', 'language', 'variables', 'components']);
    perform private.check_words('name', content -> 'name', most => 512, needed => true);
    if content ->> 'name' !~ '^[a-z0-9_]+$' then
        perform private.refuse_content('name', 'name is no template''s.', 'Small letters, digits and _.');
    end if;
    perform private.check_object('language', language, array['code', 'policy']);
    perform private.check_words('language.code', language -> 'code', most => 32, needed => true);
    if language ->> 'code' !~ '^[A-Za-z]{2,3}(_[A-Za-z0-9]{2,8})*$' then
        perform private.refuse_content('language.code', 'This is no language.', 'Such as sl or en_US.');
    elsif coalesce(language ->> 'policy', 'deterministic') <> 'deterministic' then
        perform private.refuse_content('language.policy', 'The policy is deterministic.');
    elsif coalesce(jsonb_typeof(content -> 'components'), 'null') = 'null'
        or content -> 'components' = '[]'
    then
        return;
    end if;

    perform private.check_elements('components', content -> 'components', most => 32);
    for filled in
        select p.value, format('components.%s.parameters.%s', c.ordinal - 1, p.ordinal - 1) as field
        from jsonb_array_elements(content -> 'components') with ordinality as c (value, ordinal)
        cross join lateral jsonb_path_query(c.value, 'strict $.parameters[*]', silent => true)
            with ordinality as p (value, ordinal)
    loop
        perform private.check_object(filled.field, filled.value);
        if filled.value ->> 'type' = 'text' then
            perform private.check_variable(filled.field || '.text', filled.value -> 'text');
        end if;
    end loop;
end
$$;

comment on function private.check_buttons(jsonb) is
    'Refuses reply buttons that WhatsApp does not take.';

comment on function private.check_list(jsonb) is
    'Refuses a list that WhatsApp does not take.';

comment on function private.check_interactive(jsonb) is
    'Refuses an interactive message that WhatsApp does not take.';

comment on function private.check_variable(text, jsonb) is
    'Refuses a text with which no template can be filled.';

comment on function private.check_template(jsonb) is
    'Refuses a template message that no template could be.';

/*
    What an agent or a customer writes: a row, inserted through PostgREST or by post_message,
    which is the same. It goes to a conversation, to a booking's, or to the customer's in the
    portal. The database says who writes, numbers it, and queues what goes out.
*/
create or replace function private.tg_messages__post()
    returns trigger
    language plpgsql
    -- definer: a writer may not number messages; who it is is asked here
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    is_staff boolean;
    me constant uuid := auth.uid();
    -- by what the writer named the conversation
    named_by constant text := case
        when new.conversation_id is not null then 'conversation_id'
        when new.booking_id is not null then 'booking_id'
        else 'customer_id'
    end;
    named constant uuid :=
        coalesce(new.conversation_id, new.booking_id, new.customer_id);
begin
    if named is null then
        raise sqlstate 'PT422' using
            message = 'The message is for nobody.',
            detail = 'field: conversation_id',
            hint = 'Say which conversation_id, or booking_id, or customer_id for the portal''s.';
    elsif named_by = 'booking_id' then
        select k.id
        into new.conversation_id
        from public.conversations k
        where k.booking_id = new.booking_id;
    elsif named_by = 'customer_id' and me is not null then
        new.conversation_id := private.thread_of_customer(new.customer_id);
    end if;

    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id;
    is_staff := thread.account_id in (select private.my_writable_account_ids());
    if me is null
        or thread.id is null
        or not (is_staff or thread.customer_id in (select private.my_customer_ids()))
    then
        if thread.account_id in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this conversation, not write in it.',
                hint = 'Owners, admins and agents may.';
        end if;
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = case named_by
                when 'conversation_id'
                    then format('field: conversation_id; conversation: %s', named)
                else format('field: %s', named_by)
            end;
    elsif new.booking_id <> thread.booking_id
        or (new.booking_id is not null and thread.booking_id is null)
    then
        raise sqlstate 'PT422' using
            message = 'This conversation is not about that booking.',
            detail = 'field: booking_id',
            hint = 'Name the one or the other.';
    end if;

    -- whoever numbers messages holds the conversation's lock; read once more, since it may have
    -- gone to another contact while this waited
    select k.*
    into thread
    from public.conversations k
    where k.id = thread.id
    for no key update;
    if exists (select from public.contacts c where c.id = thread.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this conversation was deleted.',
            detail = 'field: conversation_id',
            hint = 'Once the person writes again there is another one.';
    end if;
    new.account_id := thread.account_id;
    new.customer_id := thread.customer_id;
    new.booking_id := thread.booking_id;
    new.whatsapp_channel_id := thread.whatsapp_channel_id;
    new.sender_type := case when is_staff then 'operator' else 'client' end;
    new.sender_id := me::text;
    new.sender_name := case
        when is_staff then (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = me
        )
        else (select left(c.name, 200) from public.customers c where c.id = thread.customer_id)
    end;
    new.invoice_data := private.check_invoice_data(post => new, channel => thread.channel);
    new.has_invoice := new.invoice_data is not null;
    if new.has_invoice then
        new.message := coalesce(new.message, 'Invoice ' || (new.invoice_data ->> 'number'));
    end if;
    if is_staff and thread.channel = 'whatsapp' and new.type = 'template' and new.content ? 'variables' then
        new := private.fill_template(new);
    end if;
    if new.type <> 'text' and new.content is not null then
        new.message := coalesce(
            nullif(new.message, ''),
            private.words_of_content(type => new.type, content => new.content)
        );
    end if;
    perform private.check_post(post => new, channel => thread.channel);

    perform private.set_conversation_status(conversation_id => thread.id, status => 'open')
    where thread.status = 'closed';

    update public.conversation_activity a
    set last_seq = a.last_seq + 1,
        last_message_at = greatest(a.last_message_at, now()),
        last_inbound_at = case
            when is_staff then a.last_inbound_at
            else greatest(a.last_inbound_at, now())
        end
    where a.conversation_id = thread.id
    returning a.last_seq into new.seq;

    new.sent_at := now();
    new.status := case when thread.channel = 'whatsapp' then 'queued' else 'sent' end;
    return new;
end
$$;

create or replace function private.check_post(post public.messages, channel text)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    types constant text[] := case
        when channel = 'whatsapp' then array[
            'text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contacts',
            'interactive', 'reaction', 'template'
        ]
        else array['text']
    end;
begin
    if channel = 'whatsapp' and post.sender_type = 'client' then
        raise sqlstate 'PT422' using
            message = 'This conversation is held on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Write on WhatsApp, or in a conversation of the portal.';
    elsif post.type <> all (types) then
        raise sqlstate 'PT422' using
            message = format('Messages of the type %s are not sent here.', quote_literal(left(post.type, 64))),
            detail = 'field: type',
            hint = format('Known: %s.', array_to_string(types, ', '));
    elsif (post.type = 'text') <> (post.content is null) or octet_length(post.content::text) > 65536 then
        raise sqlstate 'PT422' using
            message = 'Every type but text has its content, of at most 64 KB.',
            detail = 'field: content',
            hint = 'The object that WhatsApp takes under the name of the type.';
    elsif post.message is null or (post.type = 'text' and private.is_blank(post.message)) then
        raise sqlstate 'PT422' using
            message = 'The message is empty.',
            detail = 'field: message';
    elsif length(post.message) > 4096 then
        raise sqlstate 'PT422' using
            message = 'The message is too long.',
            detail = 'field: message',
            hint = 'At most 4,096 characters.';
    elsif post.reply_to is not null and not exists (
        select
        from public.messages m
        where m.id = post.reply_to
          and m.conversation_id = post.conversation_id
    ) then
        raise sqlstate 'PT422' using
            message = 'What is answered is not in this conversation.',
            detail = 'field: reply_to';
    elsif channel = 'whatsapp'
        and post.type <> 'template'
        and coalesce(private.window_closes_at(post.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    elsif post.content is not null then
        perform private.check_content(post);
    end if;
end
$$;

/*
    The same as inserting a row, for those who would rather call: once for each client_ref, and
    answered with the row, also where it was written before.
*/
create or replace function public.post_message(
    conversation_id uuid default null,
    message text default null,
    type text default 'text',
    content jsonb default null,
    reply_to uuid default null,
    client_ref text default null,
    booking_id uuid default null,
    customer_id uuid default null,
    invoice_data jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    posted public.messages;
    is_another boolean := false;
begin
    for attempt in 1 .. 2 loop
        -- a repeated send is the message that was sent
        select m.*
        into posted
        from public.messages m
        where m.client_ref = post_message.client_ref
          and m.sender_id = (select auth.uid())::text
          and case
                  when post_message.conversation_id is not null
                      then m.conversation_id = post_message.conversation_id
                  when post_message.booking_id is not null
                      then m.booking_id = post_message.booking_id
                  else exists (
                      select
                      from public.conversations k
                      where k.id = m.conversation_id
                        and k.channel = 'portal'
                  )
                  and (
                      m.customer_id = post_message.customer_id
                      -- merged since: its messages are the kept one's
                      or not exists (
                          select
                          from public.customers c
                          where c.id = post_message.customer_id
                      )
                  )
              end
        limit 1;
        if found then
            -- another message's, unless that one's words were changed since
            is_another := coalesce(posted.edited_at, posted.revoked_at) is null
                and (
                    posted.type <> post_message.type
                    -- a template's are made of its variables
                    or case when post_message.content ? 'variables' then posted.content - 'components'
                            else posted.content end is distinct from post_message.content
                    or posted.message <> nullif(post_message.message, '')
                    or posted.invoice_data ->> 'invoice_id' <> post_message.invoice_data ->> 'invoice_id'
                ) is true;
            exit;
        end if;

        begin
            insert into public.messages (
                conversation_id, type, message, content, reply_to, client_ref, booking_id,
                customer_id, invoice_data
            )
            values (
                post_message.conversation_id,
                post_message.type,
                post_message.message,
                post_message.content,
                post_message.reply_to,
                post_message.client_ref,
                post_message.booking_id,
                post_message.customer_id,
                post_message.invoice_data
            )
            returning * into posted;
            is_another := false;
            exit;
        exception
            when unique_violation then
                -- in another conversation
                is_another := true;
        end;
    end loop;
    if is_another then
        raise sqlstate 'PT409' using
            message = 'You have used this reference for another message.',
            detail = 'field: client_ref',
            hint = 'Give each message a reference of its own.';
    end if;
    return to_jsonb(posted);
end
$$;

/*
    Which messages are next. Each number has its own pace and its own queue, and the number
    that has sent least of late goes first: one that has thousands waiting delays no other.
*/
create function private.number_pace(messages_per_second integer, out every interval, out burst integer)
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- together no more in any second than WhatsApp lets go
    burst := greatest(messages_per_second / 10, 1);
    every := make_interval(secs => ceil(1000000.0 / greatest(messages_per_second - burst, 1)) / 1000000);
end
$$;

create function private.sending_numbers()
    returns table (whatsapp_channel_id uuid, places integer, free_at timestamptz)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    -- from one number to the next in the index, however many messages each has
    with recursive numbers as (
        (
            select q.whatsapp_channel_id as id
            from private.outbound_queue q
            where q.state = 'queued'
            order by q.whatsapp_channel_id
            limit 1
        )
        union all
        select (
            select q.whatsapp_channel_id
            from private.outbound_queue q
            where q.state = 'queued'
              and q.whatsapp_channel_id > n.id
            order by q.whatsapp_channel_id
            limit 1
        )
        from numbers n
        where n.id is not null
    )
    select
        w.id,
        greatest(floor(
            extract(epoch from clock_timestamp() - s.free_at) / extract(epoch from pace.every)
        ) + 1, 0)::integer,
        s.free_at
    from numbers n
    join public.whatsapp_channels w
        on w.id = n.id
    cross join lateral private.number_pace(w.messages_per_second) pace
    left join private.send_paces p
        on p.whatsapp_channel_id = w.id
       and p.recipient = ''
    cross join lateral (
        select greatest(p.due_at, clock_timestamp()) - pace.every * (pace.burst - 1) as free_at
    ) s
    where w.stopped_at is null
    order by p.due_at nulls first, w.id;
end
$$;

create function private.lock_next_to_send(batch integer)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    number record;
    picked uuid[] := '{}';
begin
    for number in
        select n.whatsapp_channel_id, n.places
        from private.sending_numbers() n
        where n.places > 0
    loop
        picked := picked || array(
            select q.message_id
            from private.outbound_queue q
            where q.whatsapp_channel_id = number.whatsapp_channel_id
              and q.state = 'queued'
              and q.not_before <= clock_timestamp()
              -- in order: what was written before goes before
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before, q.message_id
            limit least(batch - cardinality(picked), number.places)
            for update of q skip locked
        );
        exit when cardinality(picked) >= batch;
    end loop;
    return picked;
end
$$;

create function private.next_send_at()
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select min(greatest(first.not_before, n.free_at))
        from private.sending_numbers() n
        cross join lateral (
            select q.not_before
            from private.outbound_queue q
            where q.whatsapp_channel_id = n.whatsapp_channel_id
              and q.state = 'queued'
              -- what waits for another of its conversation has no time of its own
              and not exists (
                  select
                  from private.outbound_queue earlier
                  where earlier.conversation_id = q.conversation_id
                    and earlier.seq < q.seq
              )
            order by q.not_before
            limit 1
        ) first
    );
end
$$;

comment on function private.number_pace(integer) is
    'How a number is paced that may send so much: one message every so often, and so many at once.';

comment on function private.sending_numbers() is
    'The numbers with messages to send, the one that has sent least of late first: how many may go now, or from when one may.';

comment on function private.lock_next_to_send(integer) is
    'The messages to send next, whose rows in the queue are locked; what others have locked is passed over.';

comment on function private.next_send_at() is
    'When there is something to send again, as far as is known now.';

/*
    The worker's side of the queue: claim some, begin one, call, settle it. Several workers share
    the queue and the paces. A worker claims under a new name each time, by which it begins and
    settles: what is repeated late can't be taken for a later attempt.
*/
create or replace function private.recover_outbound()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    lost record;
begin
    -- claimed and never begun: it can be claimed again
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        attempts = q.attempts + 1
    from (
        select o.message_id
        from private.outbound_queue o
        where o.state = 'leased'
          and o.leased_until < clock_timestamp()
          and o.attempts < 7
        for update skip locked
    ) l
    where q.message_id = l.message_id;

    for lost in
        select o.message_id, o.state
        from private.outbound_queue o
        join public.messages m
            on m.id = o.message_id
        where o.state in ('leased', 'sending')
          and o.leased_until < clock_timestamp()
        for update of o, m skip locked
    loop
        if lost.state = 'sending' then
            -- begun and never settled: it may have been sent
            perform private.settle_unknown(lost.message_id);
        else
            -- no worker ever comes to its end, and what was written after it waits
            perform private.refuse_send(
                message_id => lost.message_id,
                code => -2,
                details => 'It could not be prepared in eight tries: its file may be too slow to read.',
                retry_after => null
            );
        end if;
    end loop;
end
$$;

create or replace function backend.claim_outbound(worker text, batch integer default 10)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    picked uuid[];
    job record;
    free_at timestamptz;
    claimed jsonb := '[]';
begin
    perform private.recover_outbound();

    -- a statement of its own: what these wait for has been settled when the next one looks
    picked := private.lock_next_to_send(least(greatest(batch, 1), 100));
    for job in
        select
            m.id as message_id,
            w.id as whatsapp_channel_id,
            w.phone_number_id,
            pace.every,
            pace.burst,
            k.thread_key,
            k.customer_wa_id,
            m.account_id,
            m.type,
            m.message,
            m.content,
            parent.provider_id as reply_to,
            target.provider_id as reaction_to
        from public.messages m
        join public.conversations k
            on k.id = m.conversation_id
        join public.whatsapp_channels w
            on w.id = m.whatsapp_channel_id
        cross join lateral private.number_pace(w.messages_per_second) pace
        left join public.messages parent
            on parent.id = m.reply_to
        left join public.messages target
            on target.conversation_id = m.conversation_id
           and target.id = case
               when m.type = 'reaction' and pg_input_is_valid(m.content ->> 'message_id', 'uuid')
                   then (m.content ->> 'message_id')::uuid
           end
        where m.id = any (picked)
        -- workers wait for each other's paces, so all take them in one order
        order by w.id, k.thread_key
    loop
        free_at := private.take_pace(
            whatsapp_channel_id => job.whatsapp_channel_id,
            recipient => '',
            every => job.every,
            burst => job.burst
        );
        if free_at is null then
            free_at := private.take_pace(
                whatsapp_channel_id => job.whatsapp_channel_id,
                recipient => job.thread_key,
                every => interval '6 seconds',
                burst => 45
            );
            if free_at is not null then
                perform private.give_back_pace(
                    whatsapp_channel_id => job.whatsapp_channel_id,
                    recipient => '',
                    every => job.every
                );
            end if;
        end if;
        if free_at is not null then
            update private.outbound_queue q
            set not_before = free_at
            where q.message_id = job.message_id;
            continue;
        end if;

        update private.outbound_queue q
        set state = 'leased',
            leased_until = clock_timestamp() + interval '60 seconds',
            worker = claim_outbound.worker
        where q.message_id = job.message_id;

        claimed := claimed || jsonb_build_object(
            'message_id', job.message_id,
            'account_id', job.account_id,
            'phone_number_id', job.phone_number_id,
            'wa_id', job.customer_wa_id,
            'user_id', case
                when job.thread_key like 'bsuid:%' then split_part(job.thread_key, ':', 2)
            end,
            'type', job.type,
            'text', job.message,
            'content', job.content,
            'reply_to', job.reply_to,
            'reaction_to', job.reaction_to
        );
    end loop;

    return jsonb_build_object(
        'claimed', claimed,
        -- when there is something to do again, as far as is known now
        'next_at', private.next_send_at()
    );
end
$$;

create or replace function backend.begin_send(message_id uuid, worker text)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    job record;
begin
    -- a message's row before its row in the queue, as in settle_send
    perform
    from public.messages m
    where m.id = begin_send.message_id
    for no key update;

    select
        q.state, q.whatsapp_channel_id, q.conversation_id, m.type, w.stopped_at,
        c.deleted_at is not null as is_deleted
    into job
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    join public.contacts c
        on c.id = m.customer_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    where q.message_id = begin_send.message_id
      and q.worker = begin_send.worker
      and q.state in ('leased', 'sending')
      and q.leased_until > clock_timestamp()
    for update of q;
    if not found then
        return false;
    elsif job.state = 'sending' then
        -- asked again, since the answer was lost: a name is given to one claim only
        return true;
    end if;

    -- what WhatsApp answered to another message has stopped the number meanwhile
    if job.stopped_at is not null then
        update private.outbound_queue q
        set state = 'queued',
            leased_until = null,
            worker = null
        where q.message_id = begin_send.message_id;
        return false;
    end if;

    if job.is_deleted then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => -2,
            details => 'The contact was deleted before it was sent.',
            retry_after => null
        );
        return false;
    end if;

    -- the window was open when it was written; the number may have been stopped for days
    if job.type <> 'template'
        and coalesce(private.window_closes_at(job.conversation_id), '-infinity') <= now()
    then
        perform private.refuse_send(
            message_id => begin_send.message_id,
            code => 131047,
            details => null,
            retry_after => null
        );
        return false;
    end if;

    update private.outbound_queue q
    set state = 'sending',
        attempts = q.attempts + 1,
        leased_until = clock_timestamp() + interval '60 seconds'
    where q.message_id = begin_send.message_id;
    insert into private.outbound_attempts (message_id, attempt, whatsapp_channel_id)
    select
        begin_send.message_id,
        coalesce(max(t.attempt), 0) + 1,
        job.whatsapp_channel_id
    from private.outbound_attempts t
    where t.message_id = begin_send.message_id;
    return true;
end
$$;

comment on function backend.begin_send(uuid, text) is
    'Notes that the call is about to be made; false where it is not to be: the lease has passed to somebody else, the number was stopped, the window has closed, the contact was deleted.';

create or replace function private.refuse_send(
    message_id uuid,
    code integer,
    details text,
    retry_after interval
)
    returns text
    language plpgsql
    set search_path = ''
as $$
declare
    job private.outbound_queue;
    rule private.send_errors;
    action text;
    next_at timestamptz;
begin
    select q.*
    into job
    from private.outbound_queue q
    where q.message_id = refuse_send.message_id;
    select e.*
    into rule
    from private.send_errors e
    where e.code = refuse_send.code;
    action := coalesce(rule.action, 'fail');
    if action = 'retry' and job.attempts >= 8 then
        action := 'fail';
    end if;

    update private.outbound_attempts t
    set outcome = 'refused',
        error_code = refuse_send.code,
        error_message = left(refuse_send.details, 500),
        ended_at = clock_timestamp()
    where t.message_id = refuse_send.message_id
      and t.outcome is null;

    if action = 'fail' then
        delete from private.outbound_queue q
        where q.message_id = refuse_send.message_id;
        update public.messages m
        set status = 'failed',
            failed_at = now(),
            error_code = refuse_send.code,
            error_message = coalesce(
                rule.sentence,
                nullif(left(refuse_send.details, 500), ''),
                format('WhatsApp refused it with the code %s.', refuse_send.code)
            )
        where m.id = refuse_send.message_id
          and m.status in ('queued', 'unknown');
        return action;
    end if;

    next_at := case action
        when 'retry' then clock_timestamp() + greatest(
            coalesce(retry_after, '0'),
            rule.wait * power(rule.factor, job.attempts - 1) * (0.8 + random() * 0.4)
        )
        else job.not_before
    end;
    update private.outbound_queue q
    set state = 'queued',
        leased_until = null,
        worker = null,
        not_before = next_at
    where q.message_id = refuse_send.message_id;
    if rule.holds then
        perform private.hold_number(
            whatsapp_channel_id => job.whatsapp_channel_id, until => next_at);
    end if;
    if action = 'stop' then
        update public.whatsapp_channels w
        set stopped_at = now(),
            stopped_code = refuse_send.code,
            stopped_reason = rule.sentence
        where w.id = job.whatsapp_channel_id
          and w.stopped_at is null;
    end if;
    return action;
end
$$;

/*
    Where no evidence comes, a person decides: send again, or let it be.
*/
create or replace function private.message_to_decide(message_id uuid)
    returns public.messages
    language plpgsql
    set search_path = ''
as $$
declare
    found_message public.messages;
begin
    select m.*
    into found_message
    from public.messages m
    where m.id = message_id
      and m.account_id in (select private.my_account_ids())
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;
    perform private.require_writable(found_message.account_id);

    if found_message.whatsapp_channel_id is null
        or found_message.sender_type = 'client'
        or found_message.status not in ('failed', 'unknown')
        -- it was sent from the phone app
        or (
            found_message.provider_id is not null
            and not exists (
                select
                from private.outbound_attempts t
                where t.message_id = found_message.id
            )
        )
    then
        raise sqlstate 'PT409' using
            message = 'There is nothing to decide about this message.',
            detail = format('field: status; status: %s', found_message.status);
    elsif found_message.status = 'unknown' and exists (
        select
        from private.outbound_attempts t
        where t.message_id = found_message.id
          and t.ended_at > now() - interval '2 minutes'
    ) then
        raise sqlstate 'PT409' using
            message = 'It may still turn out that it was sent.',
            detail = 'field: status; status: unknown',
            hint = 'Wait for two minutes.';
    end if;
    return found_message;
end
$$;

create function private.withdraw_message(message_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
begin
    select m.account_id
    into account
    from public.messages m
    where m.id = withdraw_message.message_id
      and m.account_id in (select private.my_account_ids())
      and m.status = 'queued'
    for no key update;
    if not found then
        return false;
    end if;
    perform private.require_writable(account);

    -- whoever has it leased asks once more before the call, and waits for the message meanwhile
    delete from private.outbound_queue q
    where q.message_id = withdraw_message.message_id
      and q.state <> 'sending';
    if not found then
        return false;
    end if;
    update public.messages m
    set status = 'failed',
        failed_at = now(),
        error_message = 'It was withdrawn before it was sent.'
    where m.id = withdraw_message.message_id;
    return true;
end
$$;

create or replace function private.decide_message(message_id uuid, decision text)
    returns void
    language plpgsql
    -- definer: the queue is nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    decided public.messages;
    rest interval;
begin
    if decision = 'drop' and private.withdraw_message(message_id) then
        return;
    end if;

    decided := private.message_to_decide(message_id);
    if decision = 'drop' then
        update public.messages m
        set status = 'failed',
            failed_at = coalesce(m.failed_at, now()),
            error_message = coalesce(m.error_message, 'Nobody knows whether it was sent; it was not sent again.')
        where m.id = decided.id;
        return;
    end if;

    select e.rest
    into rest
    from private.send_errors e
    where e.code = decided.error_code;
    if decided.failed_at > now() - rest then
        raise sqlstate 'PT409' using
            message = 'WhatsApp would refuse it again.',
            detail = 'field: error_code',
            hint = format('Wait until %s.', to_char(
                (decided.failed_at + rest) at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"'));
    elsif exists (select from public.contacts c where c.id = decided.customer_id and c.deleted_at is not null) then
        raise sqlstate 'PT422' using
            message = 'The contact of this message was deleted.',
            detail = 'field: message_id',
            hint = 'Drop the message.';
    elsif decided.type <> 'template'
        and coalesce(private.window_closes_at(decided.conversation_id), '-infinity') <= now()
    then
        raise sqlstate 'PT422' using
            message = 'More than 24 hours have passed since the person last wrote.',
            detail = 'field: type',
            hint = 'Send a template.';
    end if;
    update public.messages m
    set status = 'queued',
        -- the former ones stand with their attempts
        provider_id = null,
        failed_at = null,
        error_code = null,
        error_message = null
    where m.id = decided.id;
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    values (decided.id, decided.whatsapp_channel_id, decided.conversation_id, decided.seq);
    perform private.ring('deliver_outbound');
end
$$;

comment on function private.withdraw_message(uuid) is
    'Takes a message out of the queue that no worker has begun to send; false where there is none.';

comment on function public.drop_message(uuid) is
    'Lets a message be that still waits, or of which nobody knows whether it was sent.';

create or replace function private.attach_uploads(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    attached integer;
begin
    insert into public.message_media (
        account_id, conversation_id, customer_id, message_id, mime_type, file_name, size,
        object_key, state, stored_at
    )
    select
        m.account_id,
        m.conversation_id,
        m.customer_id,
        m.id,
        u.mime_type,
        u.file_name,
        u.size,
        u.object_key,
        'stored',
        now()
    from public.messages m
    join private.media_uploads u
        on u.id = case
            when pg_input_is_valid(m.content ->> 'upload_id', 'uuid')
                then (m.content ->> 'upload_id')::uuid
        end
       and u.account_id = m.account_id
       and u.type = m.type
    where m.id = any (message_ids);
    get diagnostics attached = row_count;

    if attached < cardinality(message_ids) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content.upload_id',
            hint = 'POST /api/media answers an upload_id.';
    end if;
end
$$;

comment on column public.whatsapp_templates.variables is
    'What is to be filled: {header: [names], body: [names], buttons: [names]}, each name such as body.1, header.image or buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them; header.image and its like are objects, as in a message of the type.';

/*
    Whether a template can be sent, as far as is known: what WhatsApp has of it was read lately,
    and what it would refuse is refused here, where it can still be mended.
*/
create function private.check_known_template(content jsonb, whatsapp_channel_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    used_language constant text := coalesce(content #>> '{language,code}', content ->> 'language');
    languages text;
    template public.whatsapp_templates;
    fault record;
begin
    -- where they were not read of late, or never, nothing is known
    if not exists (
        select
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = check_known_template.whatsapp_channel_id
          and t.synced_at > now() - interval '1 hour'
    ) then
        return;
    end if;

    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = check_known_template.whatsapp_channel_id
      and t.name = content ->> 'name'
      and t.language = used_language;
    if not found then
        select string_agg(t.language, ', ' order by t.language)
        into languages
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = check_known_template.whatsapp_channel_id
          and t.name = content ->> 'name'
          and t.status = 'APPROVED'
          and t.gone_at is null;
        perform private.refuse_content(
            case when languages is null then 'name' else 'language' end,
            'There is no such template in this language.',
            coalesce(
                'It is there in: ' || languages || '.',
                'sendable_templates has those that can be sent; they are read every 15 minutes.'
            )
        );
    elsif template.status <> 'APPROVED' or template.gone_at is not null then
        perform private.refuse_content(
            'name',
            format(
                'WhatsApp does not let this template be sent: it is %s.',
                case when template.gone_at is not null then 'deleted' else lower(template.status) end
            ),
            'sendable_templates has those that can be sent; they are read every 15 minutes.'
        );
    end if;

    -- these are made into components, see fill_template
    if content ? 'variables' and not content ? 'components' then
        return;
    end if;
    select v.name, v.wanted
    into fault
    from private.template_faults(components => content -> 'components', variables => template.variables) v
    limit 1;
    if found then
        perform private.refuse_content(
            'components',
            format('The variables of the template''s %s are not right.', fault.name),
            format('It wants: %s.', coalesce(nullif(fault.wanted, ''), 'none'))
        );
    end if;
end
$$;

create function private.template_faults(components jsonb, variables jsonb)
    returns table (name text, wanted text)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    with given as (
        select
            lower(c.value ->> 'type') as part,
            c.value ->> 'index' as index,
            p.value as parameter
        from jsonb_array_elements(
            case jsonb_typeof(components) when 'array' then components else '[]' end) as c (value)
        cross join lateral jsonb_path_query(c.value, 'strict $.parameters[*]', silent => true) as p (value)
    ),
    wanted as (
        select p.part, v.variable, split_part(v.variable, '.', 2) as key
        from unnest(array['header', 'body', 'buttons']) as p (part)
        cross join lateral jsonb_array_elements_text(
            coalesce(variables -> p.part, '[]')) as v (variable)
    )
    select p.part, coalesce((
        select string_agg(w.variable, ', ') from wanted w where w.part = p.part), '')
    from unnest(array['header', 'body', 'buttons']) as p (part)
    where case p.part
        -- buttons have parameters of other kinds beside
        when 'buttons' then exists (
            select
            from wanted w
            where w.part = 'buttons'
              and not exists (select from given g where g.part = 'button' and g.index = w.key)
        )
        else (select count(*) from wanted w where w.part = p.part)
                <> (select count(*) from given g where g.part = p.part)
            -- by name, where they have names
            or exists (
                select
                from wanted w
                where w.part = p.part
                  and w.key !~ '^[0-9]+$'
                  and not exists (
                      select
                      from given g
                      where g.part = p.part
                        and w.key in (g.parameter ->> 'parameter_name', g.parameter ->> 'type')
                  )
            )
        end;
end
$$;

comment on function private.check_known_template(jsonb, uuid) is
    'Refuses a template that WhatsApp would refuse, where the number''s templates have been read.';

comment on function private.template_faults(jsonb, jsonb) is
    'The parts of a template whose variables are not those that it wants, with what these are.';

/*
    A template that is filled by name: whoever writes gives the variables that
    sendable_templates lists, and what WhatsApp takes is made of them here, with the words that
    the customer will read.
*/
create function private.filled_words(words text, section text, variables jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    rest text := words;
    filled text := '';
    place text;
begin
    -- from left to right: what a variable holds is not filled in its turn
    loop
        place := substring(rest from '\{\{\s*[A-Za-z0-9_]+\s*\}\}');
        exit when place is null;
        filled := filled || left(rest, strpos(rest, place) - 1)
            || coalesce(variables ->> (section || '.' || btrim(place, E'{} \t\r\n')), place);
        rest := substr(rest, strpos(rest, place) + length(place));
    end loop;
    return filled || rest;
end
$$;

create function private.filled_parameter(variable text, value jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    key constant text := split_part(variable, '.', -1);
begin
    return case
        -- a file or a place: an object, as in a message of its type
        when variable in ('header.image', 'header.video', 'header.document', 'header.location')
            then jsonb_build_object('type', key, key, value)
        when variable like 'buttons.%.code'
            then jsonb_build_object('type', 'coupon_code', 'coupon_code', value)
        when variable like 'buttons.%' or key ~ '^[0-9]+$'
            then jsonb_build_object('type', 'text', 'text', value)
        else jsonb_build_object('type', 'text', 'parameter_name', key, 'text', value)
    end;
end
$$;

create function private.check_variables(wanted jsonb, given jsonb)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    variable text;
begin
    perform private.check_object(
        'variables', given, array(select v.value #>> '{}' from jsonb_path_query(wanted, '$.*[*]') as v (value)));
    for variable in
        select v.value #>> '{}'
        from jsonb_path_query(wanted, '$.*[*]') as v (value)
    loop
        if variable in ('header.image', 'header.video', 'header.document', 'header.location') then
            perform private.check_object('variables.' || variable, given -> variable);
        else
            perform private.check_variable('variables.' || variable, given -> variable);
        end if;
    end loop;
end
$$;

create function private.fill_template(post public.messages)
    returns public.messages
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    given constant jsonb := post.content -> 'variables';
    template public.whatsapp_templates;
    components jsonb;
begin
    perform private.check_template(post.content);
    perform private.check_known_template(post.content, whatsapp_channel_id => post.whatsapp_channel_id);
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = post.whatsapp_channel_id
      and t.name = post.content ->> 'name'
      and t.language = coalesce(post.content #>> '{language,code}', post.content ->> 'language');
    if not found then
        perform private.refuse_content(
            'variables', 'This template is not known here.', 'Give its components, as WhatsApp takes them.');
    elsif post.content ? 'components' then
        perform private.refuse_content('variables', 'A template has variables or components, not both.');
    end if;
    perform private.check_variables(wanted => template.variables, given => given);

    select jsonb_agg(
        case p.part
            when 'buttons' then jsonb_build_object(
                'type', 'button',
                'sub_type', case when p.key = 'code' then 'copy_code' else 'url' end,
                'index', p.index,
                'parameters', p.parameters
            )
            else jsonb_build_object('type', p.part, 'parameters', p.parameters)
        end
        order by p.part <> 'header', p.part <> 'body', p.index
    )
    into components
    from (
        select
            v.part,
            v.index,
            max(v.key) as key,
            jsonb_agg(
                private.filled_parameter(variable => v.variable, value => given -> v.variable)
                order by v.ordinal
            ) as parameters
        from (
            select
                s.part,
                n.variable,
                n.ordinal,
                case when s.part = 'buttons' then split_part(n.variable, '.', 2) end as index,
                split_part(n.variable, '.', -1) as key
            from unnest(array['header', 'body', 'buttons']) as s (part)
            cross join lateral jsonb_array_elements_text(coalesce(template.variables -> s.part, '[]'))
                with ordinality as n (variable, ordinal)
        ) v
        group by v.part, v.index
    ) p;

    post.content := post.content || jsonb_build_object('components', coalesce(components, '[]'));
    if coalesce(post.message, '') = '' then
        select left(
            string_agg(
                private.filled_words(
                    words => c.value ->> 'text', section => lower(c.value ->> 'type'), variables => given),
                E'\n\n'
                order by c.ordinal
            ),
            4096
        )
        into post.message
        from jsonb_array_elements(template.components) with ordinality as c (value, ordinal)
        where upper(c.value ->> 'type') in ('HEADER', 'BODY', 'FOOTER')
          and c.value ->> 'text' <> '';
    end if;
    return post;
end
$$;

comment on function private.filled_words(text, text, jsonb) is
    'The words of a template''s part with its variables.';

comment on function private.filled_parameter(text, jsonb) is
    'A variable as WhatsApp takes it.';

comment on function private.check_variables(jsonb, jsonb) is
    'Refuses variables that are not those that a template wants, naming the first.';

comment on function private.fill_template(public.messages) is
    'A template message with the components that its variables make, and with the words that the customer will read.';
