/*
    The pace of sending: to one person one message in 6 seconds, with bursts of 45; from one number
    80 messages a second, unless its row says otherwise. It is kept in the database, so that workers
    share it. A pace is one time: when all messages sent so far would have been due (the "generic
    cell rate algorithm"). (Source: developers.facebook.com, WhatsApp Cloud API, "Throughput" and
    "Pair rate limits".)
*/
create table private.send_paces (
    whatsapp_channel_id uuid not null
                        constraint send_paces_whatsapp_channel_id_fkey
                        references public.whatsapp_channels on delete cascade,
    -- the recipient; empty for the number itself
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


create function private.take_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval,
    burst integer
)
    returns timestamptz
    language plpgsql
    set search_path = ''
as $$
begin
    -- checked and taken in one statement: two workers can't both take the last place
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    values (take_pace.whatsapp_channel_id, take_pace.recipient, clock_timestamp() + every)
    on conflict on constraint send_paces_pkey do update
        set due_at = greatest(p.due_at, clock_timestamp()) + every
        where p.due_at - every * (burst - 1) <= clock_timestamp();
    if found then
        return null;
    end if;
    return (
        select p.due_at - every * (burst - 1)
        from private.send_paces p
        where p.whatsapp_channel_id = take_pace.whatsapp_channel_id
          and p.recipient = take_pace.recipient
    );
end
$$;


create function private.give_back_pace(
    whatsapp_channel_id uuid,
    recipient text,
    every interval
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update private.send_paces p
    set due_at = p.due_at - every
    where p.whatsapp_channel_id = give_back_pace.whatsapp_channel_id
      and p.recipient = give_back_pace.recipient;
end
$$;


create function private.hold_number(whatsapp_channel_id uuid, until timestamptz)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- one message may go at that time, the others after it at the number's pace
    insert into private.send_paces as p (whatsapp_channel_id, recipient, due_at)
    select w.id, '', until + pace.every * (pace.burst - 1)
    from public.whatsapp_channels w
    cross join lateral private.number_pace(w.messages_per_second) pace
    where w.id = hold_number.whatsapp_channel_id
    on conflict on constraint send_paces_pkey do update
        set due_at = excluded.due_at
        where p.due_at < excluded.due_at;
end
$$;


comment on table private.send_paces is
    'How far ahead of its pace a number is, in total and for each person.';
comment on column private.send_paces.due_at is
    'When all messages sent so far would have been due.';
comment on policy "nobody reads send paces directly" on private.send_paces is
    'Workers use claim_outbound.';
comment on function private.take_pace(uuid, text, interval, integer) is
    'Counts a message that may go now. If it may not go yet, counts nothing and returns the time from which it may.';
comment on function private.give_back_pace(uuid, text, interval) is
    'Takes back the count of a message that does not go after all.';
comment on function private.hold_number(uuid, timestamptz) is
    'Stops all messages of a number until that time.';
