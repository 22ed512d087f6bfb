/*
    Fills a template by names. The writer gives the variables that sendable_templates lists. This
    makes the components that WhatsApp takes, and the text that the customer will read.
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
    -- from left to right: the text of a variable is not filled again
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
        -- a file or a location: an object, as in a message of its type
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


create function private.filled_components(wanted jsonb, given jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    components jsonb;
begin
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
            cross join lateral jsonb_array_elements_text(coalesce(wanted -> s.part, '[]'))
                with ordinality as n (variable, ordinal)
        ) v
        group by v.part, v.index
    ) p;

    return coalesce(components, '[]');
end
$$;


create function private.filled_template_text(components jsonb, given jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (
        select left(
            string_agg(
                private.filled_words(
                    words => c.value ->> 'text', section => lower(c.value ->> 'type'), variables => given),
                E'\n\n'
                order by c.ordinal
            ),
            4096
        )
        from jsonb_array_elements(components) with ordinality as c (value, ordinal)
        where upper(c.value ->> 'type') in ('HEADER', 'BODY', 'FOOTER')
          and c.value ->> 'text' <> ''
    );
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
            'variables', 'This template is not known here, so it can''t be filled by names.', 'Give its components, as WhatsApp takes them.');
    elsif template.synced_at is null then
        perform private.refuse_content(
            'variables',
            'WhatsApp approved this template a moment ago, and its variables are not known here yet.',
            'Try again in some seconds, or give its components, as WhatsApp takes them.'
        );
    elsif post.content ? 'components' then
        perform private.refuse_content('variables', 'A template message can have variables or components, not both.');
    end if;
    perform private.check_variables(wanted => template.variables, given => given);

    post.content := post.content || jsonb_build_object(
        'components', private.filled_components(wanted => template.variables, given => given));
    if coalesce(post.message, '') = '' then
        post.message := private.filled_template_text(components => template.components, given => given);
    end if;
    return post;
end
$$;


comment on function private.filled_words(text, text, jsonb) is
    'The text of a template''s part with its variables filled in.';
comment on function private.filled_parameter(text, jsonb) is
    'A variable in the form that WhatsApp takes.';
comment on function private.check_variables(jsonb, jsonb) is
    'Refuses variables that a template does not take, and names the first.';
comment on function private.filled_components(jsonb, jsonb) is
    'A template''s components in the form that WhatsApp takes, made from its variables.';
comment on function private.filled_template_text(jsonb, jsonb) is
    'The text of a template that the customer will read; null if it has none.';
comment on function private.fill_template(public.messages) is
    'A template message with the components made from its variables, and with the text that the customer will read.';
