/*
    Webhooks that could not be applied, for the people who can act: an owner learns here that a
    number is not registered. A webhook belongs to the account of its number, if that is registered.
    Otherwise it belongs to the account that names its WhatsApp Business account; if none or several
    of ours name that one, nobody sees the webhook.
*/
create index webhook_events_rejected_idx
    on private.webhook_events (id)
    where rejected <> '[]';


create function private.rejection_remedy(reason text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case reason
        when 'unknown_phone_number_id' then
            'The number is not registered: insert it into whatsapp_channels. Its webhooks are kept for 90 days, and rapport replay applies them.'
        when 'unknown_account' then
            'Name the WhatsApp Business account (whatsapp_channels.waba_id) in one account only, then run rapport replay.'
        when 'unhandled_field' then
            'This kind of webhook is not understood yet. Unsubscribe from it, or run rapport replay after an update.'
        else
            'This webhook was not understood. It is kept for 90 days: run rapport replay after an update.'
    end;
end
$$;


create view private.rejected_webhooks
    with (security_invoker = true)
as
select
    owner.account_id,
    i.waba_id,
    i.phone_number_id,
    i.reason,
    private.rejection_remedy(i.reason) as remedy,
    count(distinct e.id) as webhooks,
    count(*) as updates,
    min(e.received_at) as first_received_at,
    max(e.last_received_at) as last_received_at
from private.webhook_events e
cross join lateral jsonb_array_elements(e.rejected) as r (value)
-- what comes from outside may have any length
cross join lateral (
    select
        left(r.value ->> 'waba_id', 64) as waba_id,
        left(r.value ->> 'phone_number_id', 64) as phone_number_id,
        left(r.value ->> 'reason', 64) as reason
) i
left join public.whatsapp_channels number
    on number.phone_number_id = i.phone_number_id
left join (
    select w.waba_id, (array_agg(w.account_id))[1] as account_id
    from public.whatsapp_channels w
    where w.waba_id is not null
    group by w.waba_id
    -- if several accounts name it, its owner is not known
    having count(distinct w.account_id) = 1
) named
    on named.waba_id = i.waba_id
-- a registered number has one account, so it comes first
cross join lateral (select coalesce(number.account_id, named.account_id) as account_id) owner
where e.rejected <> '[]'
  and owner.account_id is not null
group by owner.account_id, i.waba_id, i.phone_number_id, i.reason;


create function private.my_rejected_webhooks(is_counted boolean default private.check_plan())
    returns setof private.rejected_webhooks
    language plpgsql
    stable
    -- definer: raw webhooks hold the data of all tenants. This shows ids and counts only, and only
    -- for the caller's own WhatsApp Business account.
    security definer
    set search_path = ''
as $$
begin
    return query
    select w.*
    from private.rejected_webhooks w
    where w.account_id = any (array(select private.my_admin_account_ids()));
end
$$;

grant execute on function private.my_rejected_webhooks(boolean) to authenticated;


create view public.rejected_webhooks
    with (security_invoker = true)
as
select
    w.account_id,
    w.waba_id,
    w.phone_number_id,
    w.reason,
    w.remedy,
    w.webhooks,
    w.updates,
    w.first_received_at,
    w.last_received_at
from private.my_rejected_webhooks() w;

grant select on public.rejected_webhooks to authenticated;


comment on function private.rejection_remedy(text) is
    'The remedy for an update that could not be applied, in a sentence.';
comment on view private.rejected_webhooks is
    'See public.rejected_webhooks; for all accounts.';
comment on function private.my_rejected_webhooks(boolean) is
    'See public.rejected_webhooks. Callers leave its argument out, see check_plan.';
comment on view public.rejected_webhooks is
    'Webhooks of a WhatsApp Business account that could not be applied, by number and reason. For the owners and admins of the account of its number, or else of the only account that names it (whatsapp_channels.waba_id). A row disappears when rapport replay has applied its webhooks.';
comment on column public.rejected_webhooks.account_id is
    'The account of the number, or the one that names the WhatsApp Business account.';
comment on column public.rejected_webhooks.waba_id is
    'Meta''s id of the WhatsApp Business account that the webhooks are about; null where they name none.';
comment on column public.rejected_webhooks.phone_number_id is
    'The number, by WhatsApp''s id; null where the webhook names none.';
comment on column public.rejected_webhooks.reason is
    'Why they could not be applied: unknown_phone_number_id, unknown_account, unhandled_field or another reason.';
comment on column public.rejected_webhooks.remedy is
    'The remedy, in a sentence.';
comment on column public.rejected_webhooks.webhooks is
    'The number of webhooks with such updates.';
comment on column public.rejected_webhooks.updates is
    'The number of such updates: messages, statuses and so on.';
comment on column public.rejected_webhooks.first_received_at is
    'When the first of them arrived (UTC).';
comment on column public.rejected_webhooks.last_received_at is
    'When the last of them arrived, or arrived again (UTC).';
