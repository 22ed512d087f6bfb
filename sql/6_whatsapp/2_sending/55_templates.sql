/*
    Message templates as WhatsApp has them: written by the sync and by webhooks alone, each
    account's own copy. A template that WhatsApp no longer lists is kept, since messages were sent
    with it.
*/
create table public.whatsapp_templates (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint whatsapp_templates_account_id_fkey
                references public.accounts on delete cascade,
    -- Meta's id of the WhatsApp Business account that owns it
    waba_id     text not null,
    name        text not null
                constraint whatsapp_templates_name_check check (length(name) between 1 and 512),
    language    text not null
                constraint whatsapp_templates_language_check
                check (length(language) between 1 and 32),
    category    text not null
                constraint whatsapp_templates_category_check check (length(category) <= 64),
    -- WhatsApp's word; new ones may come
    status      text not null
                constraint whatsapp_templates_status_check check (length(status) <= 64),
    -- as WhatsApp has them
    components  jsonb not null
                constraint whatsapp_templates_components_check
                check (jsonb_typeof(components) = 'array' and octet_length(components::text) <= 65536),
    -- the names to fill, per part of the template
    variables   jsonb not null
                constraint whatsapp_templates_variables_check
                check (jsonb_typeof(variables) = 'object'),
    -- as of when status and category are what they are: whatever is older changes nothing
    status_at   timestamptz,
    category_at timestamptz,
    -- since when WhatsApp does not list it
    gone_at     timestamptz,
    -- null where a webhook told of it and it was not read yet
    synced_at   timestamptz default now(),

    constraint whatsapp_templates_name_key unique (account_id, waba_id, name, language)
);
alter table public.whatsapp_templates enable row level security;


create policy "members can read their templates"
    on public.whatsapp_templates
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.whatsapp_templates to authenticated;


create view public.sendable_templates
    with (security_invoker = true)
as
select
    t.id,
    t.account_id,
    t.waba_id,
    t.name,
    t.language,
    t.category,
    t.components,
    t.variables,
    coalesce(jsonb_array_length(t.variables -> 'header'), 0) as header_variables,
    coalesce(jsonb_array_length(t.variables -> 'body'), 0) as body_variables,
    coalesce(jsonb_array_length(t.variables -> 'buttons'), 0) as button_variables
from public.whatsapp_templates t
where t.status = 'APPROVED'
  and t.gone_at is null
  -- what is to be filled is known a moment later
  and t.synced_at is not null;

grant select on public.sendable_templates to authenticated;


comment on table public.whatsapp_templates is
    'Message templates of an account''s WhatsApp Business accounts, as last read from WhatsApp or told by its webhooks.';
comment on column public.whatsapp_templates.status is
    'WhatsApp''s word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED …';
comment on column public.whatsapp_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.whatsapp_templates.variables is
    'What is to be filled: {header: [names], body: [names], buttons: [names]}, each name such as body.1, header.image or buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them; header.image and its like are objects, as in a message of the type.';
comment on column public.whatsapp_templates.synced_at is
    'When WhatsApp last listed it; null where a webhook told of it and it was not read yet.';
comment on column public.whatsapp_templates.status_at is
    'As of when the status is known, by WhatsApp''s time.';
comment on column public.whatsapp_templates.category_at is
    'As of when the category is known, by WhatsApp''s time.';
comment on column public.whatsapp_templates.gone_at is
    'Since when WhatsApp does not list it.';
comment on policy "members can read their templates" on public.whatsapp_templates is
    'Customers see the messages, not what they are made from.';
comment on view public.sendable_templates is
    'Templates that can be sent now, with the number of variables of each part.';
