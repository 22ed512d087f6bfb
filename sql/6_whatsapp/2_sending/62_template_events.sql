/*
    News from webhooks about templates between two readings: approved, paused, disabled, moved to
    another category. It counts at once, in the order of WhatsApp's own times. The next reading
    brings the rest.
    (Source: developers.facebook.com, WhatsApp Business Platform, webhooks reference,
    "message_template_status_update" and "template_category_update".)
*/
create function private.note_template_status(
    event private.whatsapp_item,
    waba_id text,
    template_name text,
    template_language text
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    -- WhatsApp's times have no fractions, so news of a second holds at its end
    said_at constant timestamptz := coalesce(event.at, now()) + interval '1 second';
    said constant text := left(upper(event.content ->> 'event'), 64);
    new_status constant text := case
        -- back to normal
        when said in ('REINSTATED', 'UNARCHIVED') then 'APPROVED'
        else said
    end;
begin
    if new_status is null then
        return;
    end if;

    update public.whatsapp_templates t
    set status = new_status,
        status_at = said_at,
        gone_at = case when new_status = 'APPROVED' then null else t.gone_at end
    where t.account_id = event.account_id
      and t.waba_id = note_template_status.waba_id
      and t.name = template_name
      -- webhooks write en-US where the API has en_US
      and replace(t.language, '-', '_') = template_language
      and coalesce(t.status_at, '-infinity') <= said_at;
    if found or new_status <> 'APPROVED' then
        return;
    end if;

    -- New since the last reading: it can be sent, and the sync reads its text now.
    insert into public.whatsapp_templates (
        account_id, waba_id, name, language, category, status, components, variables,
        synced_at, status_at
    )
    values (
        event.account_id,
        note_template_status.waba_id,
        template_name,
        template_language,
        coalesce(left(event.content ->> 'message_template_category', 64), ''),
        new_status,
        '[]',
        '{}',
        null,
        said_at
    )
    on conflict on constraint whatsapp_templates_name_key do nothing;
    if found then
        perform private.ring('sync_templates');
    end if;
end
$$;


create function private.note_template_events(items private.whatsapp_item[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    event private.whatsapp_item;
    template_name text;
    template_language text;
begin
    for event in
        select i.*
        from unnest(items) i
        where i.type in (
            'message_template_status_update',
            'message_template_components_update',
            'template_category_update'
        )
          and i.provider_id is not null
        -- one order for all transactions that lock several templates
        order by
            i.account_id,
            i.provider_id,
            i.content ->> 'message_template_name',
            i.content ->> 'message_template_language',
            i.at,
            i.index
    loop
        template_name := event.content ->> 'message_template_name';
        template_language := replace(event.content ->> 'message_template_language', '-', '_');
        -- an event is kept as it came, even with a wrong value
        continue when length(template_name) not between 1 and 512
            or length(template_language) not between 1 and 32
            or num_nulls(template_name, template_language) > 0;

        if event.type = 'message_template_status_update' then
            perform private.note_template_status(
                event => event,
                waba_id => event.provider_id,
                template_name => template_name,
                template_language => template_language
            );
        elsif event.type = 'template_category_update' then
            update public.whatsapp_templates t
            set category = left(event.content ->> 'new_category', 64),
                category_at = coalesce(event.at, now()) + interval '1 second'
            where t.account_id = event.account_id
              and t.waba_id = event.provider_id
              and t.name = template_name
              and replace(t.language, '-', '_') = template_language
              and event.content ->> 'new_category' is not null
              and coalesce(t.category_at, '-infinity')
                  <= coalesce(event.at, now()) + interval '1 second';
        else
            -- a new text may have new variables
            perform private.ring('sync_templates');
        end if;
    end loop;
end
$$;


comment on function private.note_template_status(private.whatsapp_item, text, text, text) is
    'Notes the status of a template from a webhook, unless a later one is known.';
comment on function private.note_template_events(private.whatsapp_item[]) is
    'Notes news of templates from webhooks: status and category at once. A new text is read from WhatsApp.';
