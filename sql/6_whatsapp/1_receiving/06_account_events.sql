/*
    WhatsApp's messages to a business about its account: approved or paused templates, the quality
    of a number, restrictions, errors. They are kept as they came, for the owners and admins of the
    account.
*/
create table public.account_events (
    id             uuid primary key default gen_random_uuid(),
    account_id     uuid not null
                   constraint account_events_account_id_fkey
                   references public.accounts on delete cascade,
    -- the webhook's field, such as message_template_status_update
    type           text not null,
    content        jsonb not null,
    content_md5    text not null generated always as (md5(content::text)) stored,
    -- the provider's time; null where the webhook gives none
    occurred_at    timestamptz,
    -- such an event has no id: equal content at the same time is the same event
    created_at     timestamptz not null default now()
);
alter table public.account_events enable row level security;


create unique index account_events_key
    on public.account_events (account_id, type, occurred_at, content_md5)
    nulls not distinct;

create index account_events_latest_idx
    on public.account_events (account_id, created_at desc, id);


create policy "owners and admins can read what WhatsApp says of their account"
    on public.account_events
    for select
    to authenticated
    using (
        account_id = any (array(
            -- members can read the roles in their accounts
            select m.account_id
            from public.account_members m
            where m.user_id = (select auth.uid())
              and m.role in ('owner', 'admin')
        ))
    );


grant select on public.account_events to authenticated;


create function private.account_of_event(event jsonb)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    accounts uuid[];
begin
    if event ->> 'phone_number_id' is not null then
        return (
            select w.account_id
            from public.whatsapp_channels w
            where w.phone_number_id = event ->> 'phone_number_id'
        );
    end if;
    -- if two accounts name a WhatsApp Business account, the owner of the event is not known
    accounts := array(
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = event ->> 'waba_id'
    );
    return case when cardinality(accounts) = 1 then accounts[1] end;
end
$$;


comment on table public.account_events is
    'WhatsApp''s messages about an account, its numbers and its templates, as they came. For owners and admins.';
comment on column public.account_events.id is
    'Identifies the event.';
comment on column public.account_events.account_id is
    'The account that the event is about.';
comment on column public.account_events.type is
    'The field of the webhook, such as account_update; errors for errors that belong to no message.';
comment on column public.account_events.content is
    'The event as WhatsApp sent it: the value of the webhook''s field.';
comment on column public.account_events.content_md5 is
    'The MD5 of content in hex: the same event is kept once.';
comment on column public.account_events.occurred_at is
    'When it happened, by WhatsApp''s clock (UTC); null where WhatsApp gives no time.';
comment on column public.account_events.created_at is
    'When the event was kept (server time, UTC).';
comment on policy "owners and admins can read what WhatsApp says of their account"
    on public.account_events is
    'Limits, payments and bans are for owners and admins.';
comment on function private.account_of_event(jsonb) is
    'The account of an event, by phone_number_id or else by waba_id; null where it is not certain.';
