/*
    A pause: a person has nothing sent from a number, or from all numbers of an account. What is
    written meanwhile waits, and what comes in is stored and shown as always. The pause ends by a
    person's choice: what waits is then sent, or withdrawn.

    A number and its account are paused apart: a number sends when neither is. The sync with
    Metakocka has a switch of its own, metakocka_connections.active.
*/
create function private.require_pause_rights(account_id uuid, channel_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    perform private.require_member(account_id);
    if account_id not in (select private.my_admin_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not pause or resume this account.',
            detail = 'field: account_id',
            hint = 'Its owners and admins may.';
    elsif channel_id is not null and not exists (
        select
        from public.whatsapp_channels w
        where w.id = channel_id
          and w.account_id = require_pause_rights.account_id
    ) then
        raise sqlstate 'PT404' using
            message = 'There is no such number of this account.',
            detail = 'field: channel_id',
            hint = 'Give the id of one of its whatsapp_channels, or none for all of them.';
    end if;
end
$$;


create function private.waiting_to_send(account_id uuid, channel_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from private.outbound_queue q
        join public.whatsapp_channels w
            on w.id = q.whatsapp_channel_id
        where w.account_id = waiting_to_send.account_id
          and (channel_id is null or w.id = channel_id)
          and q.state <> 'sending'
    );
end
$$;


create function private.sent_now(account_id uuid, channel_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select count(*)
        from private.outbound_queue q
        join public.whatsapp_channels w
            on w.id = q.whatsapp_channel_id
        join public.accounts a
            on a.id = w.account_id
        where w.account_id = sent_now.account_id
          and (channel_id is null or w.id = channel_id)
          and q.state <> 'sending'
          and w.paused_at is null
          and w.stopped_at is null
          and a.paused_at is null
    );
end
$$;


create function private.set_pause(account_id uuid, channel_id uuid, is_paused boolean)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if channel_id is null then
        update public.accounts a
        set paused_at = case when is_paused then now() end
        where a.id = set_pause.account_id
          and (a.paused_at is null) = is_paused;
    else
        update public.whatsapp_channels w
        set paused_at = case when is_paused then now() end
        where w.id = channel_id
          and w.account_id = set_pause.account_id
          and (w.paused_at is null) = is_paused;
    end if;
    if not is_paused then
        perform private.ring('deliver_outbound');
        perform private.ring('send_later');
    end if;
end
$$;


create function private.withdraw_waiting(account_id uuid, channel_id uuid, batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    picked uuid[];
    withdrawn integer;
    cancelled integer := 0;
begin
    -- a message's row before its row in the queue, as in settle_send
    picked := array(
        select m.id
        from public.messages m
        where m.id in (
            select q.message_id
            from private.outbound_queue q
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            where w.account_id = withdraw_waiting.account_id
              and (channel_id is null or w.id = channel_id)
              and q.state <> 'sending'
            order by q.message_id
            limit batch
        )
        order by m.id
        for no key update
    );
    -- a worker that has leased one checks once more before its call
    with gone as (
        delete from private.outbound_queue q
        where q.message_id = any (picked)
          and q.state <> 'sending'
        returning q.message_id
    )
    update public.messages m
    set status = 'failed',
        failed_at = now(),
        error_message = 'The message was withdrawn before it was sent.'
    from gone g
    where m.id = g.message_id
      and m.status = 'queued';
    get diagnostics withdrawn = row_count;

    if channel_id is null then
        -- what became due meanwhile: scheduled messages, and reminders
        with due as (
            select s.id
            from public.scheduled_messages s
            where s.account_id = withdraw_waiting.account_id
              and s.status = 'waiting'
              and s.due_at <= now()
            order by s.id
            limit batch - withdrawn
            for no key update
        )
        update public.scheduled_messages s
        set status = 'cancelled'
        from due d
        where s.id = d.id;
        get diagnostics cancelled = row_count;

        update public.reminder_rules r
        set active_since = now()
        where r.account_id = withdraw_waiting.account_id
          and r.is_active
          and r.active_since < now();
    end if;
    return withdrawn + cancelled;
end
$$;


create function private.end_pause(account_id uuid, channel_id uuid, withdraw boolean)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    -- as many as one call changes in some hundred milliseconds
    batch constant integer := 500;
    is_paused boolean;
    withdrawn integer := 0;
begin
    is_paused := case
        when channel_id is null then (
            select a.paused_at is not null
            from public.accounts a
            where a.id = end_pause.account_id
        )
        else (
            select w.paused_at is not null
            from public.whatsapp_channels w
            where w.id = channel_id
        )
    end;
    -- of what is not paused nothing waits for a decision
    if is_paused and withdraw then
        withdrawn := private.withdraw_waiting(
            account_id => account_id, channel_id => channel_id, batch => batch);
    end if;
    if is_paused and withdrawn < batch then
        perform private.set_pause(
            account_id => account_id, channel_id => channel_id, is_paused => false);
        is_paused := false;
    end if;
    return jsonb_build_object(
        'is_paused', is_paused,
        'withdrawn', withdrawn,
        'waiting', case
            when is_paused
                then private.waiting_to_send(account_id => account_id, channel_id => channel_id)
            else private.sent_now(account_id => account_id, channel_id => channel_id)
        end
    );
end
$$;


create function private.pause_for_user(account_id uuid, channel_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write numbers; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.require_pause_rights(account_id => account_id, channel_id => channel_id);
    perform private.set_pause(account_id => account_id, channel_id => channel_id, is_paused => true);
end
$$;

grant execute on function private.pause_for_user(uuid, uuid) to authenticated;


create function private.resume_for_user(account_id uuid, channel_id uuid, withdraw boolean)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.require_pause_rights(account_id => account_id, channel_id => channel_id);
    return private.end_pause(
        account_id => account_id, channel_id => channel_id, withdraw => coalesce(withdraw, false));
end
$$;

grant execute on function private.resume_for_user(uuid, uuid, boolean) to authenticated;


create function public.pause_sending(account_id uuid, channel_id uuid default null)
    returns void
    language sql
    set search_path = ''
as $$
    select private.pause_for_user(pause_sending.account_id, pause_sending.channel_id)
$$;

grant execute on function public.pause_sending(uuid, uuid) to authenticated;


create function public.resume_sending(
    account_id uuid,
    channel_id uuid default null,
    withdraw boolean default false
)
    returns jsonb
    language sql
    set search_path = ''
as $$
    select private.resume_for_user(
        resume_sending.account_id, resume_sending.channel_id, resume_sending.withdraw)
$$;

grant execute on function public.resume_sending(uuid, uuid, boolean) to authenticated;


/*
    What a command names: a number, by Meta's id, by its own id or as people write it; or an account,
    by its external id or its id.
*/
create function private.named_to_pause(named text, out account_id uuid, out channel_id uuid)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    digits constant text := regexp_replace(named, '[^0-9]', '', 'g');
    found_ids uuid[];
begin
    select array_agg(w.id), (array_agg(w.account_id))[1]
    into found_ids, account_id
    from public.whatsapp_channels w
    where w.phone_number_id = named
       or w.id::text = lower(named)
       or digits <> ''
          and named ~ '^[+0-9 ()/.-]+$'
          and regexp_replace(w.display_phone_number, '[^0-9]', '', 'g') = digits;
    if cardinality(found_ids) > 1 then
        raise sqlstate 'PT409' using
            message = format('%s numbers are written like this.', cardinality(found_ids)),
            detail = 'field: named',
            hint = 'Give Meta''s phone_number_id.';
    end if;
    channel_id := found_ids[1];
    if channel_id is null then
        account_id := private.account_named(named);
    end if;
exception
    when sqlstate 'PT404' then
        raise sqlstate 'PT404' using
            message = format('There is no such number and no such account: %s.', left(named, 100)),
            detail = 'field: named',
            hint = 'Give a phone_number_id, or the external_id or the id of an account. `rapport account list` shows them.';
end
$$;


create function backend.pause_sending(named text)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    target record := private.named_to_pause(named);
begin
    perform private.set_pause(
        account_id => target.account_id, channel_id => target.channel_id, is_paused => true);
    return jsonb_build_object(
        'account_id', target.account_id,
        'channel_id', target.channel_id,
        'waiting', private.waiting_to_send(
            account_id => target.account_id, channel_id => target.channel_id)
    );
end
$$;

grant execute on function backend.pause_sending(text) to service_role;


create function backend.resume_sending(named text, withdraw boolean default false)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
declare
    target record := private.named_to_pause(named);
    resumed jsonb;
begin
    -- the people who run the deployment have solved at Meta what stopped it
    update public.whatsapp_channels w
    set stopped_at = null,
        stopped_code = null,
        stopped_reason = null
    where w.id = target.channel_id
      and w.stopped_at is not null;
    if found then
        perform private.ring('deliver_outbound');
    end if;
    -- a statement of its own: the next one sees what has changed
    resumed := private.end_pause(
        account_id => target.account_id, channel_id => target.channel_id, withdraw => withdraw);
    return resumed
        || jsonb_build_object(
            'account_id', target.account_id,
            'channel_id', target.channel_id,
            'is_account_paused', (
                select a.paused_at is not null
                from public.accounts a
                where a.id = target.account_id
            ),
            'paused_numbers', (
                select coalesce(
                    jsonb_agg(w.display_phone_number order by w.display_phone_number), '[]')
                from public.whatsapp_channels w
                where w.account_id = target.account_id
                  and (target.channel_id is null or w.id = target.channel_id)
                  and w.paused_at is not null
            )
        );
end
$$;

grant execute on function backend.resume_sending(text, boolean) to service_role;


comment on function private.require_pause_rights(uuid, uuid) is
    'Refuses a caller who is neither owner nor admin of the account, and a number of another account.';
comment on function private.sent_now(uuid, uuid) is
    'How many messages of a number, or of an account, nothing holds: neither a pause nor a stop.';
comment on function private.waiting_to_send(uuid, uuid) is
    'How many messages wait to be sent from a number, or from all numbers of an account.';
comment on function private.set_pause(uuid, uuid, boolean) is
    'Pauses or resumes a number, or without one the account itself. Repeating it changes nothing.';
comment on function private.withdraw_waiting(uuid, uuid, integer) is
    'Withdraws at most batch messages that wait, and of an account what became due during its pause; returns their number.';
comment on function private.end_pause(uuid, uuid, boolean) is
    'Ends a pause, after withdrawing what waits if that is wanted: {is_paused, withdrawn, waiting}. Where very much waits, it is called again while is_paused.';
comment on function private.pause_for_user(uuid, uuid) is
    'See public.pause_sending.';
comment on function private.resume_for_user(uuid, uuid, boolean) is
    'See public.resume_sending. A number that WhatsApp had stopped sends again as well. paused_numbers and is_account_paused: what is still paused.';
comment on function public.pause_sending(uuid, uuid) is
    'Has nothing sent from a WhatsApp number of the account any more, or without a number from the whole account: no message, no read mark, and of the account nothing that is sent later and no reminder. What comes in is stored and shown. For owners and admins.';
comment on function public.resume_sending(uuid, uuid, boolean) is
    'Ends the pause of a number, or without one that of the account. What waits is sent, or with withdraw withdrawn: messages become failed, scheduled messages that were due cancelled, and reminders that were due are left out. It withdraws 500 at a time: call it again while is_paused. waiting: the messages that are sent now; those of numbers that are still paused or stopped are not counted. For owners and admins.'
    ' Type: {is_paused: boolean, withdrawn: integer, waiting: integer}';
comment on function private.named_to_pause(text) is
    'The number or the account that a command names; channel_id is null for an account.';
comment on function backend.pause_sending(text) is
    'Pauses a number or an account, as a command names it: {account_id, channel_id, waiting}.';
comment on function backend.resume_sending(text, boolean) is
    'Resumes a number or an account, as a command names it; as public.resume_sending: {account_id, channel_id, is_paused, withdrawn, waiting}.';
