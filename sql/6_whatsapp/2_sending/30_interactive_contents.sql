/*
    Messages with buttons, a list or a link, and templates. Content that WhatsApp would refuse is
    refused when it is written. Of other interactive types only the frame is checked.
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
            perform private.refuse_content(button.field || '.type', 'A button must have the type reply.');
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
            'action.sections', 'The list is too long.', 'All sections together can have at most 10 rows.');
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
        perform private.refuse_content(
            'type', 'There is no such type of interactive message.', 'For example button, list, cta_url or flow.');
    end if;
    if coalesce(jsonb_typeof(content -> 'header'), 'null') <> 'null' then
        perform private.check_object('header', content -> 'header');
        perform private.check_words('header.text', content #> '{header,text}', most => 60);
    end if;
    -- only a product needs no text
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
            'A variable of a template can''t have line breaks, tabs or more than 4 spaces in a row.',
            'Write the text in one line.'
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
        perform private.refuse_content(
            'name', 'No template can have this name.', 'A name has small letters, digits and _.');
    end if;
    perform private.check_object('language', language, array['code', 'policy']);
    perform private.check_words('language.code', language -> 'code', most => 32, needed => true);
    if language ->> 'code' !~ '^[A-Za-z]{2,3}(_[A-Za-z0-9]{2,8})*$' then
        perform private.refuse_content('language.code', 'There is no such language code.', 'For example sl or en_US.');
    elsif coalesce(language ->> 'policy', 'deterministic') <> 'deterministic' then
        perform private.refuse_content('language.policy', 'The policy must be deterministic.');
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
    'Refuses reply buttons that WhatsApp would refuse.';
comment on function private.check_list(jsonb) is
    'Refuses a list that WhatsApp would refuse.';
comment on function private.check_interactive(jsonb) is
    'Refuses an interactive message that WhatsApp would refuse.';
comment on function private.check_variable(text, jsonb) is
    'Refuses a text that can''t fill a variable of a template.';
comment on function private.check_template(jsonb) is
    'Refuses a template message that no template can match.';
