/*
    What WhatsApp tells a business about itself: templates approved or paused, the quality of a
    number, restrictions, errors. Kept as it came, for those who administer the account.
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
    -- the provider's time; null where none is said
    occurred_at    timestamptz,
    -- such an event has no id: the same at the same time is the same
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
            -- members can read who is what in their accounts
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
    -- a WhatsApp Business account that two accounts name says not whose it is
    accounts := array(
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = event ->> 'waba_id'
    );
    return case when cardinality(accounts) = 1 then accounts[1] end;
end
$$;


comment on table public.account_events is
    'What WhatsApp said of an account, its numbers and templates, as it came.';
comment on column public.account_events.type is
    'The field of the webhook, such as account_update; errors for those that belong to no message.';
comment on policy "owners and admins can read what WhatsApp says of their account"
    on public.account_events is
    'Limits, payment and bans concern those who administer.';
comment on function private.account_of_event(jsonb) is
    'Whose an event is, by phone_number_id or else by waba_id; null where it is not sure.';
