/*
    Writes the templates that the sync has read from WhatsApp, for each account with a number in the
    WhatsApp Business account.
*/
create function backend.template_owners()
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object('waba_id', o.waba_id, 'phone_number_ids', o.numbers)
                order by o.waba_id
            ),
            '[]'
        )
        from (
            select w.waba_id, jsonb_agg(w.phone_number_id order by w.phone_number_id) as numbers
            from public.whatsapp_channels w
            where w.waba_id is not null
            group by w.waba_id
        ) o
    );
end
$$;

grant execute on function backend.template_owners() to service_role;


create function backend.apply_templates(
    waba_id text,
    templates jsonb,
    read_at timestamptz default clock_timestamp()
)
    returns jsonb
    language plpgsql
    -- definer: as template_owners
    security definer
    set search_path = ''
as $$
declare
    listed integer;
    gone integer;
begin
    -- syncs of one business account take turns: the last list counts
    perform pg_advisory_xact_lock(hashtextextended('templates ' || waba_id, 0));

    with owners as (
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = apply_templates.waba_id
    ),
    given as (
        select distinct on (t.value ->> 'name', t.value ->> 'language')
            t.value ->> 'name' as name,
            t.value ->> 'language' as language,
            t.value ->> 'category' as category,
            t.value ->> 'status' as status,
            t.value -> 'components' as components,
            t.value -> 'variables' as variables
        from jsonb_array_elements(templates) with ordinality as t (value, ordinal)
        order by t.value ->> 'name', t.value ->> 'language', t.ordinal desc
    ),
    written as (
        insert into public.whatsapp_templates as t (
            account_id, waba_id, name, language, category, status, components, variables,
            synced_at, status_at, category_at
        )
        select
            o.account_id, apply_templates.waba_id, g.name, g.language, g.category, g.status,
            g.components, g.variables, clock_timestamp(), read_at, read_at
        from owners o
        cross join given g
        on conflict on constraint whatsapp_templates_name_key do update
            -- a webhook's news from during the reading is newer
            set category = case
                    when t.category_at > read_at then t.category
                    else excluded.category
                end,
                category_at = greatest(t.category_at, read_at),
                status = case when t.status_at > read_at then t.status else excluded.status end,
                status_at = greatest(t.status_at, read_at),
                components = excluded.components,
                variables = excluded.variables,
                synced_at = excluded.synced_at,
                gone_at = null
        returning t.id
    )
    select count(*)
    into listed
    from written;

    update public.whatsapp_templates t
    set gone_at = now()
    where t.waba_id = apply_templates.waba_id
      and t.gone_at is null
      and coalesce(t.status_at, '-infinity') <= read_at
      and not exists (
          select
          from jsonb_array_elements(templates) g
          where g.value ->> 'name' = t.name
            and g.value ->> 'language' = t.language
      );
    get diagnostics gone = row_count;

    return jsonb_build_object('listed', listed, 'gone', gone);
end
$$;

grant execute on function backend.apply_templates(text, jsonb, timestamptz) to service_role;


comment on function backend.template_owners() is
    'The WhatsApp Business accounts whose templates must be read, each with our numbers in it, whose tokens give access: [{waba_id, phone_number_ids}].';
comment on function backend.apply_templates(text, jsonb, timestamptz) is
    'Writes all templates of a WhatsApp Business account, [{name, language, category, status, components, variables}], and notes the ones that are gone: {listed, gone}, counted for each account. News from webhooks since read_at stays.';
