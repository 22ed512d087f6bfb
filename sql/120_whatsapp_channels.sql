/*
    A WhatsApp number of an account. Its phone_number_id alone decides whose a webhook is.
*/
create table public.whatsapp_channels (
    id                   uuid primary key default gen_random_uuid(),
    account_id           uuid not null
                         constraint whatsapp_channels_account_id_fkey
                         references public.accounts on delete cascade,
    -- Meta's id of the number: of one account only, or a message could go to another's
    phone_number_id      text not null
                         constraint whatsapp_channels_phone_number_id_key unique
                         constraint whatsapp_channels_phone_number_id_check
                         check (phone_number_id ~ '^[0-9]{1,32}$'),
    display_phone_number text not null,
    name                 text not null,
    created_at           timestamptz not null default now(),

    -- what a foreign key of the same account refers to
    constraint whatsapp_channels_id_account_id_key unique (id, account_id)
);
alter table public.whatsapp_channels enable row level security;


create index whatsapp_channels_account_id_idx on public.whatsapp_channels (account_id);


create policy "members can read their WhatsApp numbers"
    on public.whatsapp_channels
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.whatsapp_channels to authenticated;


comment on table public.whatsapp_channels is
    'A WhatsApp number of an account, by Meta''s phone_number_id.';
comment on column public.whatsapp_channels.display_phone_number is
    'The number as people write it.';
comment on policy "members can read their WhatsApp numbers" on public.whatsapp_channels is
    'Customers have no need of the provider''s ids.';
