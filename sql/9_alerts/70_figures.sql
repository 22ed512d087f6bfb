/*
    Figures of all accounts together, for the alarms of the people who run the deployment. They name
    nobody: each account's own troubles are in account_health.
*/
create function backend.figures()
    returns jsonb
    language sql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    select jsonb_build_object(
        -- those of a stopped number are told with the number, and of a paused one a person knows
        'oldest_outbound_seconds', (
            select coalesce(greatest(extract(epoch from now() - min(m.created_at)), 0), 0)::bigint
            from private.outbound_queue q
            join public.messages m
                on m.id = q.message_id
            join public.whatsapp_channels w
                on w.id = q.whatsapp_channel_id
            join public.accounts a
                on a.id = w.account_id
            where num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) = 0
        ),
        'stopped_numbers', (
            select count(*)
            from public.whatsapp_channels w
            where w.stopped_at is not null
        ),
        'failing_syncs', (
            select count(distinct h.account_id)
            from public.account_health h
            where h.kind = 'failing_sync'
        )
    )
$$;

grant execute on function backend.figures() to service_role;


comment on function backend.figures() is
    'Figures for alarms: the age of the oldest message to be sent (seconds), how many numbers are stopped, and of how many accounts the sync fails.';
