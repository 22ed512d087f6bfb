/*
    A person's choice on WhatsApp to take marketing messages or not (stop, resume, or signing up by
    a link). The latest choice counts, by the provider's time. Only the person makes it, through
    WhatsApp: neither staff nor a profile in the portal can write it.
    (Source: developers.facebook.com, WhatsApp Business Platform, "user_preferences webhook
    reference".)
*/
create function private.apply_marketing_choices(items private.whatsapp_item[])
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    claimed constant private.whatsapp_item[] := private.claim_whatsapp_senders(items);
    changed integer;
begin
    -- a person who got messages but never wrote
    perform private.name_whatsapp_senders(claimed, '{}');
    perform
    from public.contacts c
    where c.id in (select i.contact_id from unnest(claimed) i)
    order by c.id
    for no key update;

    update public.contacts c
    set marketing_stopped_at = case l.type when 'stop' then l.sent_at end,
        marketing_chosen_at = l.sent_at
    from (
        select distinct on (i.contact_id) i.contact_id, i.type, i.sent_at
        from unnest(claimed) i
        -- of two choices in the same second the stop counts
        order by i.contact_id, i.sent_at desc, i.type = 'stop' desc
    ) l
    where c.id = l.contact_id
      and (
          c.marketing_chosen_at is null
          or c.marketing_chosen_at < l.sent_at
          or c.marketing_chosen_at = l.sent_at
             and l.type = 'stop'
             and c.marketing_stopped_at is null
      );

    get diagnostics changed = row_count;
    return changed;
end
$$;


comment on function private.apply_marketing_choices(private.whatsapp_item[]) is
    'Notes on contacts whether they take marketing messages. Returns the number of new choices.';
