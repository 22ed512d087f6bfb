/*
    After a restore the database knows less than the world: what waited at the time of the backup may
    have been sent, told or called since. So nothing of it happens again by itself.

        messages            are unknown: their status settles them, or a person sends or drops them
        scheduled messages  whose time is over have failed, with a sentence
        reminders           that were due are left out
        notifications       are forgotten
        calls to Metakocka  that had not begun may have: the partner is looked for first
        leases              end, and open runs of the sync read all partners anew
        cursors             of clients are of no use: each reads everything again
        the doorbell        is taken off: it may be that of the database that was copied
*/
create function backend.after_restore(dry_run boolean default true)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    told constant jsonb := jsonb_build_object(
        'latest_webhook_at', (
            select e.last_received_at
            from private.webhook_events e
            order by e.id desc
            limit 1
        ),
        'messages', (select count(*) from private.outbound_queue),
        'scheduled_messages', (
            select count(*)
            from public.scheduled_messages s
            where s.status = 'waiting'
              and s.due_at <= now()
        ),
        'reminder_rules', (select count(*) from public.reminder_rules r where r.is_active),
        'notifications',
            (select count(*) from private.notifications) + (select count(*) from private.push_queue),
        'files', (select count(*) from private.media_queue q where q.worker is not null),
        'partner_calls', (
            select count(*)
            from private.partner_intents i
            where i.state in ('intended', 'sent')
        ),
        'sync_runs', (
            select count(*)
            from public.sync_runs r
            where r.state in ('queued', 'running', 'stopped')
        ),
        -- without its path and secret
        'doorbell', (select substring(d.url from '^https?://[^/]+') from private.doorbell d)
    );
    held uuid[];
begin
    if dry_run then
        return told;
    end if;

    held := array(
        select m.id
        from public.messages m
        where m.id in (select q.message_id from private.outbound_queue q)
        order by m.id
        for no key update
    );
    update private.outbound_attempts t
    set outcome = 'unknown',
        ended_at = clock_timestamp()
    where t.message_id = any (held)
      and t.outcome is null;
    delete from private.outbound_queue q
    where q.message_id = any (held);
    update public.messages m
    set status = 'unknown',
        error_message = 'The database was restored from a backup while this message waited: it may have been sent.'
    where m.id = any (held)
      and m.status = 'queued';

    update public.scheduled_messages s
    set status = 'failed',
        error_message = 'The database was restored from a backup after the time of this message: it may have been sent.'
    where s.status = 'waiting'
      and s.due_at <= now();
    update public.reminder_rules r
    set active_since = now()
    where r.is_active;

    -- a hosted project refuses a deletion without a condition
    delete from private.notifications n where true;
    delete from private.push_queue q where true;
    delete from private.conversation_watchers w where true;
    update private.media_queue q
    set worker = null,
        not_before = now()
    where q.worker is not null;

    delete from private.sync_leases l where true;
    update private.metakocka_dirty d
    set worker = null,
        lease_until = null
    where d.worker is not null;
    update private.partner_intents i
    set state = 'unknown',
        sent_at = coalesce(i.sent_at, now())
    where i.state in ('intended', 'sent');
    update public.sync_runs r
    set cursor = null
    where r.state in ('queued', 'running', 'stopped')
      and r.cursor is not null;

    update private.change_log l
    set epoch = gen_random_uuid()
    where l.only_row;
    update private.doorbell d
    set url = null,
        secret = null
    where d.only_row;
    perform private.refresh_health();
    return told;
end
$$;

grant execute on function backend.after_restore(boolean) to service_role;


comment on function backend.after_restore(boolean) is
    'Holds everything that would otherwise be sent a second time after a restore, ends leases, renews the log''s epoch and takes the doorbell off: {latest_webhook_at, messages, scheduled_messages, reminder_rules, notifications, files, partner_calls, sync_runs, doorbell}, numbers of before. With dry_run it only tells them.';
