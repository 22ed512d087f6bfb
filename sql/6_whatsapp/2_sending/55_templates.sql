/*
    Message templates as WhatsApp has them. Only the sync and webhooks write them, and each account
    has its own copy. A template that WhatsApp no longer lists is kept, since messages were sent
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
    -- as WhatsApp gives them
    components  jsonb not null
                constraint whatsapp_templates_components_check
                check (jsonb_typeof(components) = 'array' and octet_length(components::text) <= 65536),
    -- the variables of each part of the template
    variables   jsonb not null
                constraint whatsapp_templates_variables_check
                check (jsonb_typeof(variables) = 'object'),
    -- the times of status and category: older news changes nothing
    status_at   timestamptz,
    category_at timestamptz,
    -- since when WhatsApp no longer lists it
    gone_at     timestamptz,
    -- null where only a webhook has reported it, and no reading has yet
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
  -- the variables are known a moment later
  and t.synced_at is not null;

grant select on public.sendable_templates to authenticated;


comment on table public.whatsapp_templates is
    'The message templates of an account''s WhatsApp Business accounts, as last read from WhatsApp or reported by its webhooks.';
comment on column public.whatsapp_templates.id is
    'Identifies the template in this account.';
comment on column public.whatsapp_templates.account_id is
    'The account that can send it.';
comment on column public.whatsapp_templates.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the template.';
comment on column public.whatsapp_templates.name is
    'The template''s name at WhatsApp; messages name it in content.name.';
comment on column public.whatsapp_templates.language is
    'The language code, such as sl or en_US; messages name it in content.language.';
comment on column public.whatsapp_templates.category is
    'WhatsApp''s word: MARKETING, UTILITY or AUTHENTICATION.';
comment on column public.whatsapp_templates.status is
    'WhatsApp''s word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED or another one.';
comment on column public.whatsapp_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.whatsapp_templates.variables is
    'The names of the variables to fill. A name is for example body.1, header.image or buttons.0.1. A message with the content {name, language, variables: {name: text}} fills them. header.image, header.video, header.document and header.location take an object, as in a message of that type.'
    ' Type: {header?: text[], body?: text[], buttons?: text[]}';
comment on column public.whatsapp_templates.status_at is
    'The time of the known status, by WhatsApp''s clock (UTC).';
comment on column public.whatsapp_templates.category_at is
    'The time of the known category, by WhatsApp''s clock (UTC).';
comment on column public.whatsapp_templates.gone_at is
    'Since when WhatsApp no longer lists it (UTC); null while it does.';
comment on column public.whatsapp_templates.synced_at is
    'When WhatsApp last listed it (UTC); null where only a webhook has reported it, and no reading has yet.';
comment on policy "members can read their templates" on public.whatsapp_templates is
    'Customers see the messages, not the templates.';
comment on view public.sendable_templates is
    'Templates that can be sent now, with the number of variables in each part.';
comment on column public.sendable_templates.id is
    'Identifies the template in this account.';
comment on column public.sendable_templates.account_id is
    'The account that can send it.';
comment on column public.sendable_templates.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the template.';
comment on column public.sendable_templates.name is
    'The template''s name; a message gives it in content.name.';
comment on column public.sendable_templates.language is
    'The language code, such as sl or en_US; a message gives it in content.language.';
comment on column public.sendable_templates.category is
    'WhatsApp''s word: MARKETING, UTILITY or AUTHENTICATION.';
comment on column public.sendable_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.sendable_templates.variables is
    'The names of the variables to fill; a message gives them in content.variables.';
comment on column public.sendable_templates.header_variables is
    'The number of variables in the header.';
comment on column public.sendable_templates.body_variables is
    'The number of variables in the body.';
comment on column public.sendable_templates.button_variables is
    'The number of variables in the buttons.';
