/*
    What came and could not be applied, for those who can do something about it: an owner whose
    number is not registered learns it here. A webhook says which WhatsApp Business account it is
    about; one that no account of ours names, or several, is nobody's to see.
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
            'The number is not registered: insert it into whatsapp_channels. What came for it is kept for 90 days, and applied by rapport replay.'
        when 'unknown_account' then
            'Name the WhatsApp Business account at one account''s number alone (whatsapp_channels.waba_id), then run rapport replay.'
        when 'unhandled_field' then
            'This kind of webhook is not understood yet: unsubscribe from it, or run rapport replay after an update.'
        else
            'It was not understood. It is kept for 90 days: run rapport replay after an update.'
    end;
end
$$;


create view private.rejected_webhooks
    with (security_invoker = true)
as
select
    owner.account_id,
    owner.waba_id,
    r.value ->> 'phone_number_id' as phone_number_id,
    r.value ->> 'reason' as reason,
    private.rejection_remedy(r.value ->> 'reason') as remedy,
    count(distinct e.id) as webhooks,
    count(*) as updates,
    min(e.received_at) as first_received_at,
    max(e.last_received_at) as last_received_at
from private.webhook_events e
cross join lateral jsonb_array_elements(e.rejected) as r (value)
join (
    select w.waba_id, (array_agg(w.account_id))[1] as account_id
    from public.whatsapp_channels w
    where w.waba_id is not null
    group by w.waba_id
    -- one that several accounts name says not whose it is
    having count(distinct w.account_id) = 1
) owner
    on owner.waba_id = r.value ->> 'waba_id'
where e.rejected <> '[]'
group by owner.account_id, owner.waba_id, r.value ->> 'phone_number_id', r.value ->> 'reason';


create function private.my_rejected_webhooks(is_counted boolean default private.refuse_estimates())
    returns setof private.rejected_webhooks
    language plpgsql
    stable
    -- definer: raw webhooks carry every tenant's data; of them this shows ids and counts, to those
    -- whose WhatsApp Business account they are about
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
    'What to do about an update that could not be applied, in a sentence.';
comment on view private.rejected_webhooks is
    'See public.rejected_webhooks; of all accounts.';
comment on function private.my_rejected_webhooks(boolean) is
    'See rejected_webhooks. Its argument is never given: see refuse_estimates.';
comment on view public.rejected_webhooks is
    'What WhatsApp delivered for a WhatsApp Business account and could not be applied, by number and reason; for the owners and admins of the one account that names it (whatsapp_channels.waba_id). A row goes once rapport replay has applied what it counts.';
comment on column public.rejected_webhooks.phone_number_id is
    'For which number, by WhatsApp''s id; null where the webhook is about none.';
comment on column public.rejected_webhooks.reason is
    'Why: unknown_phone_number_id, unhandled_field …';
comment on column public.rejected_webhooks.remedy is
    'What to do about it, in a sentence.';
comment on column public.rejected_webhooks.webhooks is
    'How many webhooks had such updates.';
comment on column public.rejected_webhooks.updates is
    'How many updates these were: messages, statuses …';
comment on column public.rejected_webhooks.last_received_at is
    'When the last of them came, or came again.';
