/*
    How fast may be sent: to one person once in 6 seconds with bursts of 45, from one number 80
    times a second unless its row says otherwise. Kept here, so that workers share it. A pace is
    one time (the "generic cell rate algorithm"): when all that was sent would have been due.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Throughput" and "Pair rate limits".)
*/
create table private.send_paces (
    whatsapp_channel_id uuid not null
                        constraint send_paces_whatsapp_channel_id_fkey
                        references public.whatsapp_channels on delete cascade,
    -- to whom; empty for the number itself
    recipient           text not null,
    due_at              timestamptz not null,

    primary key (whatsapp_channel_id, recipient)
);
alter table private.send_paces enable row level security;


create policy "nobody reads send paces directly"
    on private.send_paces
    for all
    to authenticated
    using (false);


create function private.free_at(
    whatsapp_channel_id uuid,
    recipient text,
    every interval,
    burst integer
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce((
        select p.due_at - every * (burst - 1)
        from private.send_paces p
        where p.whatsapp_channel_id = free_at.whatsapp_channel_id
          and p.recipient = free_at.recipient
    ), '-infinity');
end
$$;


create function private.take_pace(whatsapp_channel_id uuid, recipient text, every interval)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    values (take_pace.whatsapp_channel_id, take_pace.recipient, clock_timestamp() + every)
    on conflict on constraint send_paces_pkey do update
        set due_at = greatest(p.due_at, clock_timestamp()) + every;
end
$$;


comment on table private.send_paces is
    'How far ahead of its pace a number is, altogether and with each person.';
comment on column private.send_paces.due_at is
    'When everything sent so far would have been due.';
comment on policy "nobody reads send paces directly" on private.send_paces is
    'Workers ask through claim_outbound.';
comment on function private.free_at(uuid, text, interval, integer) is
    'From when the next message may go.';
comment on function private.take_pace(uuid, text, interval) is
    'Counts a message that goes.';
