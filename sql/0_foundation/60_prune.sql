/*
    Data that is kept for a limited time, and its deletion: log entries, raw webhooks, runs and
    errors of the sync, what was noted so that nothing is sent twice, and what waited to be sent or
    told. Messages and their files stay for as long as their account keeps them: see prune_kept.
    Contacts stay as long as their account.
*/
create table private.retention (
    only_row       boolean primary key default true
                   constraint retention_only_row_check check (only_row),
    -- a better parser may be given raw webhooks again; WhatsApp repeats a delivery for 7 days
    webhook_events interval not null default interval '90 days'
                   constraint retention_webhook_events_check
                   check (webhook_events >= interval '7 days'),
    sync           interval not null default interval '90 days'
                   constraint retention_sync_check check (sync >= interval '1 day'),
    -- after the time from which on no rule reminds of the occasion again
    sent_reminders interval not null default interval '30 days'
                   constraint retention_sent_reminders_check
                   check (sent_reminders >= interval '1 day'),
    -- of scheduled messages that were sent, cancelled or failed; what was sent stays a message
    scheduled_messages interval not null default interval '90 days'
                   constraint retention_scheduled_messages_check
                   check (scheduled_messages >= interval '1 day')
);
alter table private.retention enable row level security;


create policy "nobody reads the retention settings directly"
    on private.retention
    for all
    to authenticated
    using (false);


insert into private.retention default values;


create function private.prune_changes(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    -- A cursor may be as old as the log's retention. An entry has the time at which its
    -- transaction began: if the transaction ran for a day, readers saw the entry a day later.
    kept_since constant timestamptz := (
        select now() - l.retention - interval '1 day'
        from private.change_log l
    );
    pruned integer := 0;
    deleted integer;
    account uuid := '00000000-0000-0000-0000-000000000000';
    oldest timestamptz;
begin
    -- The log has no index by time, because every write would pay for it. So the entries of each
    -- account are read from the oldest transaction on.
    loop
        select c.account_id, c.logged_at
        into account, oldest
        from private.changes c
        where c.account_id > account
        order by c.account_id, c.xid, c.seq
        limit 1;
        exit when not found or pruned >= batch;
        continue when oldest >= kept_since;

        with first_entries as (
            select c.xid, c.seq, c.logged_at
            from private.changes c
            where c.account_id = account
            order by c.xid, c.seq
            limit batch - pruned
            -- another run may be deleting them
            for update skip locked
        )
        delete from private.changes c
        using first_entries f
        where c.account_id = account
          and c.xid = f.xid
          and c.seq = f.seq
          and f.logged_at < kept_since;

        get diagnostics deleted = row_count;
        pruned := pruned + deleted;
    end loop;
    return pruned;
end
$$;


create function private.prune_webhook_events(batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with first_events as (
        select e.id, e.received_at
        from private.webhook_events e
        order by e.id
        limit batch
        -- another run may be deleting them
        for update skip locked
    )
    delete from private.webhook_events e
    using first_events f, private.retention r
    where e.id = f.id
      and f.received_at < now() - r.webhook_events;

    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.prune(batch integer default 1000)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    batch_size constant integer := least(greatest(batch, 1), 5000);
begin
    return jsonb_build_object(
        'changes', private.prune_changes(batch => batch_size),
        'webhook_events', private.prune_webhook_events(batch => batch_size),
        'erased_messages', private.prune_erased_messages(batch => batch_size),
        'sync', private.prune_sync(
            batch => batch_size, kept => (select r.sync from private.retention r)),
        'sent_reminders', private.prune_sent_reminders(
            batch => batch_size, kept => (select r.sent_reminders from private.retention r)),
        'scheduled_messages', private.prune_scheduled_messages(
            batch => batch_size, kept => (select r.scheduled_messages from private.retention r)),
        'notifications', private.prune_notifications(batch => batch_size)
    );
end
$$;

grant execute on function backend.prune(integer) to service_role;


comment on table private.retention is
    'One row: how long temporary data is kept. The change log has its own setting, private.change_log.retention.';
comment on column private.retention.webhook_events is
    'How long raw webhooks are kept, so that they can be applied again.';
comment on column private.retention.sync is
    'How long runs and errors of the sync are kept.';
comment on column private.retention.sent_reminders is
    'How long it is kept that a reminder was sent or dropped, once no rule can remind of the occasion again.';
comment on column private.retention.scheduled_messages is
    'How long scheduled messages are kept after they were sent or cancelled, or failed.';
comment on policy "nobody reads the retention settings directly" on private.retention is
    'backend.prune reads them.';
comment on function private.prune_changes(integer) is
    'Deletes at most batch log entries that no cursor needs any more; returns their number.';
comment on function private.prune_webhook_events(integer) is
    'Deletes at most batch raw webhooks that are older than their retention; returns their number.';
comment on function backend.prune(integer) is
    'Deletes at most batch rows (1 to 5,000) of each kind that are older than their retention, and returns their numbers: {changes, webhook_events, erased_messages, sync, sent_reminders, scheduled_messages, notifications}. Call it again until all are 0.';
