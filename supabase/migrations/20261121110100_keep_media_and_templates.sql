/*
    The files of messages, and the templates of numbers.
*/
/*
    The file of a message: what WhatsApp said of it, and whether we have it. WhatsApp forgets a
    customer's file after 7 days and then it is nobody's, so fetching it is a job of its own:
    the message is kept whatever becomes of the file.
*/
create table public.message_media (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    customer_id     uuid not null,
    -- a message of WhatsApp's has one file
    message_id      uuid not null
                    constraint message_media_message_id_key unique
                    constraint message_media_message_id_fkey
                    references public.messages on delete cascade,
    -- WhatsApp's id of the file. It becomes a part of an address that is asked with our token,
    -- so it holds nothing that has a meaning there
    provider_id     text
                    constraint message_media_provider_id_check
                    check (provider_id ~ '^[A-Za-z0-9_-]{1,128}$'),
    -- as the sender says: kept, never trusted
    mime_type       text
                    constraint message_media_mime_type_check check (length(mime_type) <= 255),
    file_name       text
                    constraint message_media_file_name_check check (length(file_name) <= 255),
    size            bigint
                    constraint message_media_size_check check (size >= 0),
    sha256          text
                    constraint message_media_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
    -- where it is, or will be, in the bucket: always beneath the account's own prefix
    object_key      text not null
                    constraint message_media_object_key_check
                    check (object_key like account_id::text || '/%'),
    state           text not null default 'pending'
                    constraint message_media_state_check
                    check (state in ('pending', 'stored', 'failed', 'expired')),
    error           text,
    stored_at       timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    -- a conversation given to another contact takes its files with it
    constraint message_media_conversation_fkey
        foreign key (conversation_id, account_id, customer_id)
        references public.conversations (id, account_id, customer_id)
        on update cascade
        on delete cascade,
    constraint message_media_outcome_check check (
        (state = 'stored') = (stored_at is not null)
        and (state in ('failed', 'expired')) = (error is not null)
    )
);
alter table public.message_media enable row level security;


create index message_media_conversation_idx
    on public.message_media (conversation_id, account_id, customer_id);


create policy "members and the customer can read a message's media"
    on public.message_media
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );


grant select on public.message_media to authenticated;


create trigger _050_keep_owner
    before update on public.message_media
    for each row
    when (
        (new.account_id, new.conversation_id, new.message_id)
        is distinct from
        (old.account_id, old.conversation_id, old.message_id)
    )
    execute function private.tg__keep_owner('account_id', 'conversation_id', 'message_id');

create trigger _100_stamp_change
    before update on public.message_media
    for each row
    execute function private.tg__stamp_change();


create function private.sha256_hex(digest text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- WhatsApp writes it in base64 in webhooks and in hex elsewhere
    return case
        when digest ~ '^[A-Za-z0-9+/]{43}=$' then encode(decode(digest, 'base64'), 'hex')
        when digest ~* '^[0-9a-f]{64}$' then lower(digest)
    end;
end
$$;


create function private.tg_messages__expect_media()
    returns trigger
    language plpgsql
    -- definer: media and its queue are nobody's to write
    security definer
    set search_path = ''
as $$
declare
    media constant uuid := gen_random_uuid();
    file constant jsonb := new.content -> new.type;
    provider_id constant text := substring(file ->> 'id' from '^[A-Za-z0-9_-]{1,128}$');
begin
    -- whatever the sender wrote, nothing of it may cost the message
    insert into public.message_media (
        id, account_id, conversation_id, customer_id, message_id, provider_id, mime_type,
        file_name, sha256, object_key, state, error
    )
    values (
        media,
        new.account_id,
        new.conversation_id,
        new.customer_id,
        new.id,
        provider_id,
        left(file ->> 'mime_type', 255),
        left(file ->> 'filename', 255),
        private.sha256_hex(file ->> 'sha256'),
        concat_ws('/', new.account_id, new.id, media),
        case when provider_id is null then 'failed' else 'pending' end,
        case when provider_id is null then 'WhatsApp gave no file with this message.' end
    );
    if provider_id is not null then
        insert into private.media_queue (media_id, expires_at)
        values (media, private.media_expires_at(new.sent_at));
        perform private.ring('fetch_media');
    end if;
    return null;
end
$$;

create trigger _500_expect_media
    after insert on public.messages
    for each row
    when (
        new.type in ('image', 'video', 'audio', 'document', 'sticker')
        -- it came by WhatsApp: from the customer, or as an echo of what our phone app sent
        and new.provider_id is not null
    )
    execute function private.tg_messages__expect_media();


comment on table public.message_media is
    'The file of a message, one row each. GET /api/messages/{message_id}/media gives it.';
comment on column public.message_media.provider_id is
    'WhatsApp''s id of the file, for 7 days after the message.';
comment on column public.message_media.mime_type is
    'As its sender says; show nothing by it without looking.';
comment on column public.message_media.size is
    'In bytes; known once it is stored.';
comment on column public.message_media.sha256 is
    'In hex; what is stored has been held against it.';
comment on column public.message_media.state is
    'pending: it is being fetched; stored: it can be had; failed: refetch_media tries again; expired: WhatsApp no longer has it.';
comment on column public.message_media.error is
    'Why it failed or expired, in a sentence.';
comment on policy "members and the customer can read a message's media" on public.message_media is
    'Whoever may read the message.';
comment on function private.sha256_hex(text) is
    'A SHA-256 in hex, whichever way it is written; null for what is none.';
comment on function private.tg_messages__expect_media() is
    'Notes the file of a message that WhatsApp delivers, and that it is to be fetched.';


/*
    What files WhatsApp takes, and how large.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media", "Supported media types".)
*/
create table private.media_types (
    -- the type of the message
    type      text not null,
    mime_type text not null,
    -- in bytes
    max_size  bigint not null,

    primary key (type, mime_type)
);
alter table private.media_types enable row level security;


create policy "nobody reads media types directly"
    on private.media_types
    for all
    to authenticated
    using (false);


insert into private.media_types (type, mime_type, max_size)
values
    ('audio', 'audio/aac', 16777216),
    ('audio', 'audio/amr', 16777216),
    ('audio', 'audio/mpeg', 16777216),
    ('audio', 'audio/mp4', 16777216),
    ('audio', 'audio/ogg', 16777216),
    ('document', 'text/plain', 104857600),
    ('document', 'application/pdf', 104857600),
    ('document', 'application/msword', 104857600),
    ('document', 'application/vnd.ms-excel', 104857600),
    ('document', 'application/vnd.ms-powerpoint', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.presentationml.presentation', 104857600),
    ('image', 'image/jpeg', 5242880),
    ('image', 'image/png', 5242880),
    -- an animated one; others may have 100 KB, which WhatsApp itself checks
    ('sticker', 'image/webp', 512000),
    ('video', 'video/3gpp', 16777216),
    ('video', 'video/mp4', 16777216);


comment on table private.media_types is
    'What files WhatsApp takes in messages of each type, and how large.';
comment on policy "nobody reads media types directly" on private.media_types is
    'A refusal names what is allowed.';


/*
    Files that agents send. The agent's client puts the file into the bucket itself, under a key
    that is chosen here, and a message then names the upload, never a key: so no message can
    name a file of another account.
*/
create table private.media_uploads (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint media_uploads_account_id_fkey
               references public.accounts on delete cascade,
    user_id    uuid not null,
    type       text not null,
    mime_type  text not null,
    file_name  text,
    -- what was announced; the bucket takes no other
    size       bigint not null,
    object_key text not null
               constraint media_uploads_object_key_check
               check (object_key like account_id::text || '/%'),
    created_at timestamptz not null default now()
);
alter table private.media_uploads enable row level security;


create index media_uploads_account_id_idx on private.media_uploads (account_id);


create policy "nobody reads media uploads directly"
    on private.media_uploads
    for all
    to authenticated
    using (false);


create function private.open_upload(
    conversation_id uuid,
    type text,
    mime_type text,
    size bigint,
    file_name text
)
    returns jsonb
    language plpgsql
    -- definer: uploads are nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    allowed private.media_types;
    upload private.media_uploads;
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = open_upload.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      );
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('field: conversation_id; conversation: %s', open_upload.conversation_id);
    elsif thread.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not send files in this conversation.',
            hint = 'Owners, admins and agents may.';
    elsif thread.channel <> 'whatsapp' then
        raise sqlstate 'PT422' using
            message = 'Files are sent on WhatsApp alone.',
            detail = 'field: conversation_id';
    end if;

    select t.*
    into allowed
    from private.media_types t
    where t.type = open_upload.type
      and t.mime_type = open_upload.mime_type;
    if not found then
        raise sqlstate 'PT422' using
            message = 'WhatsApp takes no such files.',
            detail = 'field: mime_type',
            hint = coalesce(
                (
                    select format('As %s it takes: %s.', open_upload.type,
                        string_agg(t.mime_type, ', ' order by t.mime_type))
                    from private.media_types t
                    where t.type = open_upload.type
                    having count(*) > 0
                ),
                'Types: audio, document, image, sticker, video.'
            );
    elsif size is null or size not between 1 and allowed.max_size then
        raise sqlstate 'PT422' using
            message = 'The file is empty or too large.',
            detail = 'field: size',
            hint = format('At most %s bytes.', allowed.max_size);
    elsif length(file_name) > 255 then
        raise sqlstate 'PT422' using
            message = 'The file''s name is too long.',
            detail = 'field: file_name',
            hint = 'At most 255 characters.';
    end if;

    upload.id := gen_random_uuid();
    insert into private.media_uploads (
        id, account_id, user_id, type, mime_type, file_name, size, object_key
    )
    values (
        upload.id,
        thread.account_id,
        auth.uid(),
        allowed.type,
        allowed.mime_type,
        nullif(open_upload.file_name, ''),
        open_upload.size,
        concat_ws('/', thread.account_id, 'uploads', upload.id)
    )
    returning * into upload;
    return jsonb_build_object(
        'upload_id', upload.id,
        'object_key', upload.object_key,
        'mime_type', upload.mime_type,
        'size', upload.size
    );
end
$$;

grant execute on function private.open_upload(uuid, text, text, bigint, text) to authenticated;


create function public.begin_upload(
    conversation_id uuid,
    type text,
    mime_type text,
    size bigint,
    file_name text default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.open_upload(
        conversation_id => begin_upload.conversation_id,
        type => begin_upload.type,
        mime_type => begin_upload.mime_type,
        size => begin_upload.size,
        file_name => begin_upload.file_name
    );
end
$$;

grant execute on function public.begin_upload(uuid, text, text, bigint, text) to authenticated;


create function private.tg_messages__attach_upload()
    returns trigger
    language plpgsql
    -- definer: uploads and media are nobody's to touch
    security definer
    set search_path = ''
as $$
declare
    given constant text := new.content ->> 'upload_id';
    upload private.media_uploads;
begin
    if pg_input_is_valid(given, 'uuid') then
        select u.*
        into upload
        from private.media_uploads u
        where u.id = given::uuid
          and u.account_id = new.account_id
          and u.type = new.type;
    end if;
    if upload.id is null then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content',
            hint = 'POST /api/media answers an upload_id.';
    end if;

    insert into public.message_media (
        account_id, conversation_id, customer_id, message_id, mime_type, file_name, size,
        object_key, state, stored_at
    )
    values (
        new.account_id,
        new.conversation_id,
        new.customer_id,
        new.id,
        upload.mime_type,
        upload.file_name,
        upload.size,
        upload.object_key,
        'stored',
        now()
    );
    return null;
end
$$;

create trigger _500_attach_upload
    after insert on public.messages
    for each row
    when (
        new.status = 'queued'
        and new.type in ('image', 'video', 'audio', 'document', 'sticker')
        -- other files are WhatsApp's own, by id, or lie at a link
        and new.content ? 'upload_id'
    )
    execute function private.tg_messages__attach_upload();


create function backend.media_to_send(message_id uuid)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select jsonb_build_object(
            'object_key', f.object_key,
            'mime_type', f.mime_type,
            'file_name', f.file_name,
            'size', f.size
        )
        from public.message_media f
        where f.message_id = media_to_send.message_id
          and f.state = 'stored'
    );
end
$$;

grant execute on function backend.media_to_send(uuid) to service_role;


comment on table private.media_uploads is
    'Files that agents have put, or are about to put, into the bucket.';
comment on policy "nobody reads media uploads directly" on private.media_uploads is
    'Whoever began an upload was told all of it.';
comment on function private.open_upload(uuid, text, text, bigint, text) is
    'Chooses where an agent''s file goes, after asking who that is and what it is.';
comment on function public.begin_upload(uuid, text, text, bigint, text) is
    'Announces a file to be sent in a conversation: {upload_id, object_key, mime_type, size}. POST /api/media does it and gives the address for the bytes.';
comment on function private.tg_messages__attach_upload() is
    'Gives a message that names an upload its file; the upload must be of the same account and type.';
comment on function backend.media_to_send(uuid) is
    'The file of a message: {object_key, mime_type, file_name, size}, or null where it has none of ours.';


/*
    Files that are to be fetched from WhatsApp: a row is a job. Fetching twice does no harm, so a
    lease is a time before which nobody else tries, and a worker that dies is one failed try. Tries
    go on until WhatsApp forgets the file, 7 days after the message.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media".)
*/
create table private.media_queue (
    media_id   uuid primary key
               constraint media_queue_media_id_fkey
               references public.message_media on delete cascade,
    attempts   integer not null default 0,
    -- while a worker has it: when its lease ends
    not_before timestamptz not null default now(),
    -- when WhatsApp forgets the file
    expires_at timestamptz not null,
    worker     text,
    -- why the last try failed
    last_error text
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
    return coalesce(sent_at, now()) + interval '7 days';
end
$$;


create function private.media_wait(attempts integer)
    returns interval
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- 30 seconds, twice as long each time, up to 6 hours: some 35 tries in 7 days
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
          -- a message that came late has its one try
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
            'provider_id', f.provider_id,
            'mime_type', f.mime_type,
            'sha256', f.sha256,
            'object_key', f.object_key
        )),
        '[]')
    into jobs
    from claimed c
    join public.message_media f
        on f.id = c.media_id;
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
            message = 'This is no outcome.',
            detail = 'field: outcome',
            hint = 'Known: stored, retry, failed.';
    end if;
    perform
    from public.message_media f
    where f.id = settle_media.media_id
    for no key update;
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
        mime_type = coalesce(f.mime_type, left(settle_media.mime_type, 255)),
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
    'Files that are to be fetched from WhatsApp; claimed and settled by the worker.';
comment on column private.media_queue.not_before is
    'When the next try may begin; while a worker has the job, when its lease ends.';
comment on policy "nobody reads the media queue directly" on private.media_queue is
    'Clients see the state of the file.';
comment on function private.media_expires_at(timestamptz) is
    'When WhatsApp forgets the file of a message that was sent then.';
comment on function private.media_wait(integer) is
    'How long to wait after so many tries.';
comment on function private.expire_media() is
    'Gives up files that WhatsApp has forgotten.';
comment on function backend.claim_media(text, integer) is
    'Leases files to be fetched now, for 5 minutes or more: [{media_id, provider_id, mime_type, sha256, object_key}].';
comment on function backend.settle_media(uuid, text, text, bigint, text, text, text) is
    'Notes what became of a fetch: stored with size, sha256 and mime_type; retry or failed with error. Answers the state that follows, or "settled already" where the lease has passed to somebody else.';


/*
    Where a file could not be had, a person asks for it again.
*/
create function private.request_media(message_id uuid)
    returns void
    language plpgsql
    -- definer: the queue is nobody's to write; the caller is asked for first
    security definer
    set search_path = ''
as $$
declare
    media public.message_media;
begin
    select f.*
    into media
    from public.message_media f
    where f.message_id = request_media.message_id
      and (
          f.account_id in (select private.my_account_ids())
          or f.customer_id in (select private.my_customer_ids())
      )
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such file, or it is not yours to see.',
            detail = format('message: %s', request_media.message_id);
    elsif media.account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not have files fetched.',
            hint = 'Owners, admins and agents may.';
    elsif media.state = 'stored' then
        raise sqlstate 'PT409' using
            message = 'The file is here already.',
            detail = 'field: state; state: stored';
    elsif media.state = 'expired' or media.provider_id is null then
        raise sqlstate 'PT409' using
            message = media.error,
            detail = format('field: state; state: %s', media.state),
            hint = 'Ask the person to send it again.';
    end if;

    insert into private.media_queue as q (media_id, expires_at)
    select media.id, private.media_expires_at(m.sent_at)
    from public.messages m
    where m.id = media.message_id
    on conflict on constraint media_queue_pkey do update
        -- one that waits need not; one that a worker has is under way
        set not_before = clock_timestamp()
        where q.worker is null;
    update public.message_media f
    set state = 'pending',
        error = null
    where f.id = media.id
      and f.state = 'failed';
    perform private.ring('fetch_media');
end
$$;

grant execute on function private.request_media(uuid) to authenticated;


create function public.refetch_media(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.request_media(refetch_media.message_id);
end
$$;

grant execute on function public.refetch_media(uuid) to authenticated;


comment on function private.request_media(uuid) is
    'Puts a file into the queue again, after asking who wants it.';
comment on function public.refetch_media(uuid) is
    'Fetches the file of a message again that could not be had, or now what would be tried later.';


/*
    Message templates as WhatsApp has them: written by the sync alone, each account's own copy. A
    template that WhatsApp no longer lists is kept, since messages were sent with it.
*/
create table public.whatsapp_templates (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint whatsapp_templates_account_id_fkey
                references public.accounts on delete cascade,
    -- Meta's id of the WhatsApp Business account that owns it
    waba_id     text not null,
    name        text not null
                constraint whatsapp_templates_name_check check (length(name) between 1 and 512),
    language    text not null
                constraint whatsapp_templates_language_check
                check (length(language) between 1 and 32),
    category    text not null
                constraint whatsapp_templates_category_check check (length(category) <= 64),
    -- WhatsApp's word; new ones may come
    status      text not null
                constraint whatsapp_templates_status_check check (length(status) <= 64),
    -- as WhatsApp has them
    components  jsonb not null
                constraint whatsapp_templates_components_check
                check (jsonb_typeof(components) = 'array' and octet_length(components::text) <= 65536),
    -- the names to fill, per part of the template
    variables   jsonb not null
                constraint whatsapp_templates_variables_check
                check (jsonb_typeof(variables) = 'object'),
    synced_at   timestamptz not null default now(),
    -- since when WhatsApp does not list it
    gone_at     timestamptz,

    constraint whatsapp_templates_name_key unique (account_id, waba_id, name, language)
);
alter table public.whatsapp_templates enable row level security;


create policy "members can read their templates"
    on public.whatsapp_templates
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.whatsapp_templates to authenticated;


create view public.sendable_templates
    with (security_invoker = true)
as
select
    t.id,
    t.account_id,
    t.waba_id,
    t.name,
    t.language,
    t.category,
    t.components,
    t.variables,
    coalesce(jsonb_array_length(t.variables -> 'header'), 0) as header_variables,
    coalesce(jsonb_array_length(t.variables -> 'body'), 0) as body_variables,
    coalesce(jsonb_array_length(t.variables -> 'buttons'), 0) as button_variables
from public.whatsapp_templates t
where t.status = 'APPROVED'
  and t.gone_at is null;

grant select on public.sendable_templates to authenticated;


comment on table public.whatsapp_templates is
    'Message templates of an account''s WhatsApp Business accounts, as last read from WhatsApp.';
comment on column public.whatsapp_templates.status is
    'WhatsApp''s word: APPROVED, PENDING, REJECTED, PAUSED, DISABLED …';
comment on column public.whatsapp_templates.components is
    'Header, body, footer and buttons, as WhatsApp describes them.';
comment on column public.whatsapp_templates.variables is
    'What is to be filled: {header: [names], body: [names], buttons: [names]}, each name such as body.1, header.image or buttons.0.1.';
comment on column public.whatsapp_templates.synced_at is
    'When WhatsApp last listed it.';
comment on column public.whatsapp_templates.gone_at is
    'Since when WhatsApp does not list it.';
comment on policy "members can read their templates" on public.whatsapp_templates is
    'Customers see the messages, not what they are made from.';
comment on view public.sendable_templates is
    'Templates that can be sent now, with the number of variables of each part.';


/*
    What the sync reads from WhatsApp, written for every account that has a number in the
    WhatsApp Business account.
*/
create function backend.template_owners()
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(distinct w.waba_id order by w.waba_id), '[]')
        from public.whatsapp_channels w
        where w.waba_id is not null
    );
end
$$;

grant execute on function backend.template_owners() to service_role;


create function backend.apply_templates(waba_id text, templates jsonb)
    returns jsonb
    language plpgsql
    -- definer: as template_owners
    security definer
    set search_path = ''
as $$
declare
    listed integer;
    gone integer;
begin
    -- one sync of a business account after the other: the last one's list is what stands
    perform pg_advisory_xact_lock(hashtextextended('templates ' || waba_id, 0));

    with owners as (
        select distinct w.account_id
        from public.whatsapp_channels w
        where w.waba_id = apply_templates.waba_id
    ),
    given as (
        select distinct on (t.value ->> 'name', t.value ->> 'language')
            t.value ->> 'name' as name,
            t.value ->> 'language' as language,
            t.value ->> 'category' as category,
            t.value ->> 'status' as status,
            t.value -> 'components' as components,
            t.value -> 'variables' as variables
        from jsonb_array_elements(templates) with ordinality as t (value, ordinal)
        order by t.value ->> 'name', t.value ->> 'language', t.ordinal desc
    ),
    written as (
        insert into public.whatsapp_templates as t (
            account_id, waba_id, name, language, category, status, components, variables,
            synced_at
        )
        select
            o.account_id, apply_templates.waba_id, g.name, g.language, g.category, g.status,
            g.components, g.variables, clock_timestamp()
        from owners o
        cross join given g
        on conflict on constraint whatsapp_templates_name_key do update
            set category = excluded.category,
                status = excluded.status,
                components = excluded.components,
                variables = excluded.variables,
                synced_at = excluded.synced_at,
                gone_at = null
        returning t.id
    )
    select count(*)
    into listed
    from written;

    update public.whatsapp_templates t
    set gone_at = now()
    where t.waba_id = apply_templates.waba_id
      and t.gone_at is null
      and not exists (
          select
          from jsonb_array_elements(templates) g
          where g.value ->> 'name' = t.name
            and g.value ->> 'language' = t.language
      );
    get diagnostics gone = row_count;

    return jsonb_build_object('listed', listed, 'gone', gone);
end
$$;

grant execute on function backend.apply_templates(text, jsonb) to service_role;


comment on function backend.template_owners() is
    'The WhatsApp Business accounts whose templates are to be read: [waba_id].';
comment on function backend.apply_templates(text, jsonb) is
    'Writes all templates of a WhatsApp Business account, [{name, language, category, status, components, variables}], and notes which are gone: {listed, gone}, counted per account.';
