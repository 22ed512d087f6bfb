/*
    Checks whether a template can be sent, from WhatsApp's last list and from webhooks. A message
    that WhatsApp would refuse is refused here, where its writer can still correct it.
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
    is_known boolean;
    is_fresh boolean;
    fault record;
begin
    select t.*
    into template
    from public.whatsapp_channels w
    join public.whatsapp_templates t
        on t.account_id = w.account_id
       and t.waba_id = w.waba_id
    where w.id = check_known_template.whatsapp_channel_id
      and t.name = content ->> 'name'
      and t.language = used_language;
    is_known := found;
    -- without a recent reading only the webhooks' news is known
    is_fresh := exists (
        select
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = check_known_template.whatsapp_channel_id
          and t.synced_at > now() - interval '1 hour'
    );

    if not is_known then
        if not is_fresh then
            return;
        end if;
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
            'This account has no template with this name in this language.',
            coalesce(
                'It is there in: ' || languages || '.',
                'sendable_templates lists the templates that can be sent. It is updated every 15 minutes.'
            )
        );
    elsif (template.status <> 'APPROVED' or template.gone_at is not null)
        and (is_fresh or template.status_at > coalesce(template.synced_at, '-infinity'))
    then
        perform private.refuse_content(
            'name',
            format(
                'WhatsApp does not send this template now: it is %s.',
                case
                    when template.gone_at is not null then 'deleted'
                    else replace(lower(template.status), '_', ' ')
                end
            ),
            'sendable_templates lists the templates that can be sent. It is updated every 15 minutes.'
        );
    elsif template.synced_at is null or not is_fresh then
        return;
    end if;

    -- fill_template makes components of these
    if content ? 'variables' and not content ? 'components' then
        return;
    end if;
    select v.*
    into fault
    from private.template_faults(components => content -> 'components', variables => template.variables) v
    limit 1;
    if found then
        perform private.refuse_content(
            'components',
            case
                when fault.takes <> fault.received then format(
                    'This template takes %s variables in its %s; %s were given.',
                    fault.takes, fault.name, fault.received)
                else format('This template takes other variables in its %s.', fault.name)
            end,
            format('It takes: %s.', coalesce(nullif(fault.wanted, ''), 'none'))
        );
    end if;
end
$$;


create function private.template_faults(components jsonb, variables jsonb)
    returns table (name text, wanted text, takes bigint, received bigint)
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
    select
        p.part,
        coalesce((select string_agg(w.variable, ', ') from wanted w where w.part = p.part), ''),
        (select count(*) from wanted w where w.part = p.part),
        (
            select count(*)
            from given g
            where g.part = case p.part when 'buttons' then 'button' else p.part end
        )
    from unnest(array['header', 'body', 'buttons']) as p (part)
    where case p.part
        -- buttons also have parameters of other kinds
        when 'buttons' then exists (
            select
            from wanted w
            where w.part = 'buttons'
              and not exists (select from given g where g.part = 'button' and g.index = w.key)
        )
        else (select count(*) from wanted w where w.part = p.part)
                <> (select count(*) from given g where g.part = p.part)
            -- by name, if the variables have names
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
    'Refuses a template that WhatsApp would refuse, if the number''s templates have been read.';
comment on function private.template_faults(jsonb, jsonb) is
    'The parts of a template with wrong variables: the variables that they take, their number, and the number given.';
