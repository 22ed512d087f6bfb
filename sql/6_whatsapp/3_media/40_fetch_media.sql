/*
    Files to fetch from WhatsApp: a row is a job. Fetching twice does no harm. So a lease is a time
    before which no other worker tries, and a worker that dies counts as one failed try. Tries go on
    until WhatsApp deletes the file, 7 days after the message.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media".)
*/
create table private.media_queue (
    media_id   uuid primary key
               constraint media_queue_media_id_fkey
               references public.message_media on delete cascade,
    attempts   integer not null default 0,
    worker     text,
    -- why the last try failed
    last_error text,
    -- while a worker has it: the end of its lease
    not_before timestamptz not null default now(),
    -- when WhatsApp deletes the file
    expires_at timestamptz not null
);
alter table private.media_queue enable row level security;


create index media_queue_due_idx on private.media_queue (not_before, media_id);


create policy "nobody reads the media queue directly"
    on private.media_queue
    for all
    to authenticated
    using (false);


create function private.media_expires_at(sent_at timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- a message was sent before it arrived, even if its own time is later
    return least(sent_at, now()) + interval '7 days';
end
$$;


create function private.media_wait(attempts integer)
    returns interval
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- 30 seconds, doubled each time, up to 6 hours: some 35 tries in 7 days
    return least(interval '30 seconds' * power(2, least(attempts - 1, 12)), interval '6 hours');
end
$$;


create function private.expire_media()
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    expired uuid[];
begin
    -- the file first and then its job, as where a worker settles it
    expired := array(
        select f.id
        from private.media_queue q
        join public.message_media f
            on f.id = q.media_id
        where q.expires_at <= clock_timestamp()
          and q.not_before <= clock_timestamp()
          -- a message that arrived late still gets one try
          and q.attempts > 0
        for update of f, q skip locked
    );
    if expired <> '{}' then
        delete from private.media_queue q
        where q.media_id = any (expired);
        update public.message_media f
        set state = 'expired',
            error = 'WhatsApp no longer has this file.'
        where f.id = any (expired);
    end if;
end
$$;


create function backend.claim_media(worker text, batch integer default 4)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    jobs jsonb;
begin
    perform private.expire_media();

    with due as (
        select q.media_id
        from private.media_queue q
        where q.not_before <= clock_timestamp()
        order by q.not_before, q.media_id
        limit least(greatest(batch, 1), 20)
        for update skip locked
    ),
    claimed as (
        update private.media_queue q
        set attempts = q.attempts + 1,
            not_before = clock_timestamp()
                + greatest(interval '5 minutes', private.media_wait(q.attempts + 1)),
            worker = claim_media.worker
        from due d
        where q.media_id = d.media_id
        returning q.media_id
    )
    select coalesce(
        jsonb_agg(jsonb_build_object(
            'media_id', f.id,
            'account_id', f.account_id,
            'conversation_id', f.conversation_id,
            'message_id', f.message_id,
            'phone_number_id', w.phone_number_id,
            'provider_id', f.provider_id,
            'mime_type', f.mime_type,
            'sha256', f.sha256,
            'object_key', f.object_key
        )),
        '[]')
    into jobs
    from claimed c
    join public.message_media f
        on f.id = c.media_id
    join public.messages m
        on m.id = f.message_id
    join public.whatsapp_channels w
        on w.id = m.whatsapp_channel_id;
    return jobs;
end
$$;

grant execute on function backend.claim_media(text, integer) to service_role;


create function backend.settle_media(
    media_id uuid,
    worker text,
    outcome text,
    size bigint default null,
    sha256 text default null,
    mime_type text default null,
    error text default null
)
    returns text
    language plpgsql
    -- definer: as claim_media
    security definer
    set search_path = ''
as $$
declare
    job private.media_queue;
    result text := outcome;
begin
    if outcome is null or outcome not in ('stored', 'retry', 'failed') then
        raise sqlstate 'PT422' using
            message = 'There is no such outcome.',
            detail = 'field: outcome',
            hint = 'Use stored, retry or failed.';
    end if;
    perform
    from public.message_media f
    where f.id = settle_media.media_id
    for no key update;
    if not found then
        return 'gone';
    end if;
    select q.*
    into job
    from private.media_queue q
    where q.media_id = settle_media.media_id
      and q.worker = settle_media.worker
    for update;
    if not found then
        return 'settled already';
    end if;

    if outcome <> 'stored' and job.expires_at <= clock_timestamp() then
        result := 'expired';
    end if;
    if result = 'retry' then
        update private.media_queue q
        set worker = null,
            last_error = left(settle_media.error, 500),
            not_before = clock_timestamp()
                + private.media_wait(job.attempts) * (0.8 + random() * 0.4)
        where q.media_id = job.media_id;
        return 'pending';
    end if;

    delete from private.media_queue q
    where q.media_id = job.media_id;
    update public.message_media f
    set state = result,
        size = coalesce(settle_media.size, f.size),
        sha256 = coalesce(settle_media.sha256, f.sha256),
        mime_type = coalesce(
            f.mime_type,
            left(private.mime_type_of(left(settle_media.mime_type, 255)), 255),
            left(settle_media.mime_type, 255)
        ),
        stored_at = case when result = 'stored' then clock_timestamp() end,
        error = case result
            when 'failed' then left(settle_media.error, 500)
            when 'expired' then 'WhatsApp no longer has this file.'
        end
    where f.id = job.media_id;
    return result;
end
$$;

grant execute on function backend.settle_media(uuid, text, text, bigint, text, text, text)
    to service_role;


comment on table private.media_queue is
    'Files to fetch from WhatsApp. The worker claims and settles them.';
comment on column private.media_queue.not_before is
    'When the next try may begin. While a worker has the job: when its lease ends.';
comment on policy "nobody reads the media queue directly" on private.media_queue is
    'Clients see the state of the file.';
comment on function private.media_expires_at(timestamptz) is
    'When WhatsApp deletes the file of a message that was sent at this time.';
comment on function private.media_wait(integer) is
    'The wait after this many tries.';
comment on function private.expire_media() is
    'Gives up files that WhatsApp has deleted.';
comment on function backend.claim_media(text, integer) is
    'Leases files to fetch now, for at least 5 minutes: [{media_id, account_id, conversation_id, message_id, phone_number_id, provider_id, mime_type, sha256, object_key}].';
comment on function backend.settle_media(uuid, text, text, bigint, text, text, text) is
    'Notes the outcome of a fetch: stored with size, sha256 and mime_type; retry or failed with error. Returns the next state, "settled already" where another worker has the lease, or "gone" where the message was erased meanwhile, with its file.';
