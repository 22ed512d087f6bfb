/*
    The file of a message: WhatsApp's facts about it, and whether we have it. WhatsApp deletes a
    customer's file after 7 days, and then nobody has it. So fetching it is a job of its own: the
    message is kept, even if its file is lost.
*/
create table public.message_media (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    -- null in a group
    customer_id     uuid,
    -- a message from WhatsApp has one file
    message_id      uuid not null
                    constraint message_media_message_id_key unique
                    constraint message_media_message_id_fkey
                    references public.messages on delete cascade,
    -- WhatsApp's id of the file. It becomes a part of an address that we call with our token, so it
    -- has no characters with a meaning there.
    provider_id     text
                    constraint message_media_provider_id_check
                    check (provider_id ~ '^[A-Za-z0-9_-]{1,128}$'),
    -- the sender's word: kept, never trusted
    mime_type       text
                    constraint message_media_mime_type_check check (length(mime_type) <= 255),
    file_name       text
                    constraint message_media_file_name_check check (length(file_name) <= 255),
    size            bigint
                    constraint message_media_size_check check (size >= 0),
    sha256          text
                    constraint message_media_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
    -- its key in the bucket, now or later; always under the account's own prefix
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


-- a file is deleted from the bucket once no message has it any more
create index message_media_object_key_idx on public.message_media (object_key);

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
    before update of account_id, conversation_id, message_id on public.message_media
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


create function private.expect_media(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    is_waiting boolean;
begin
    -- no value from the sender may make the message fail
    with files as materialized (
        select
            gen_random_uuid() as id,
            m.id as message_id,
            m.account_id,
            m.conversation_id,
            m.customer_id,
            m.sent_at,
            m.content -> m.type as file,
            substring(m.content -> m.type ->> 'id' from '^[A-Za-z0-9_-]{1,128}$') as provider_id
        from public.messages m
        where m.id = any (message_ids)
    ),
    expected as (
        insert into public.message_media (
            id, account_id, conversation_id, customer_id, message_id, provider_id, mime_type,
            file_name, sha256, object_key, state, error
        )
        select
            f.id,
            f.account_id,
            f.conversation_id,
            f.customer_id,
            f.message_id,
            f.provider_id,
            left(
                coalesce(
                    private.mime_type_of(left(f.file ->> 'mime_type', 255)),
                    f.file ->> 'mime_type'
                ),
                255
            ),
            left(f.file ->> 'filename', 255),
            private.sha256_hex(f.file ->> 'sha256'),
            concat_ws('/', f.account_id, f.message_id, f.id),
            case when f.provider_id is null then 'failed' else 'pending' end,
            case when f.provider_id is null then 'WhatsApp gave no file with this message.' end
        from files f
    ),
    queued as (
        insert into private.media_queue (media_id, expires_at)
        select f.id, private.media_expires_at(f.sent_at)
        from files f
        where f.provider_id is not null
        returning media_id
    )
    select exists (select from queued)
    into is_waiting;

    if is_waiting then
        perform private.ring('fetch_media');
    end if;
end
$$;


create function private.take_back_media(message_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- the file first and then its job, as where a worker settles it
    update public.message_media f
    set state = 'expired',
        error = 'The sender deleted this file.',
        stored_at = null,
        -- The facts about the file go too. Its key stays, so that the file can be removed from the
        -- bucket.
        provider_id = null,
        mime_type = null,
        file_name = null,
        size = null,
        sha256 = null
    where f.message_id = take_back_media.message_id
      and (
          f.state <> 'expired'
          or num_nonnulls(f.provider_id, f.mime_type, f.file_name, f.size, f.sha256) > 0
      );

    delete from private.media_queue q
    using public.message_media f
    where f.message_id = take_back_media.message_id
      and q.media_id = f.id;
end
$$;


comment on table public.message_media is
    'The files of messages, at most one for each message. GET /api/messages/{message_id}/media returns the address of the file.';
comment on column public.message_media.id is
    'Identifies the file.';
comment on column public.message_media.account_id is
    'The account of the conversation.';
comment on column public.message_media.conversation_id is
    'The conversation.';
comment on column public.message_media.customer_id is
    'The contact of the conversation; null for a group.';
comment on column public.message_media.message_id is
    'The message to which the file belongs.';
comment on column public.message_media.provider_id is
    'WhatsApp''s id of the file. WhatsApp keeps the file for 7 days after the message.';
comment on column public.message_media.mime_type is
    'The media type, such as image/jpeg, as the sender says. Check the file before you show it by this type.';
comment on column public.message_media.file_name is
    'The file''s name, as the sender says; null where there is none.';
comment on column public.message_media.size is
    'The size in bytes; null until the file is stored.';
comment on column public.message_media.sha256 is
    'The SHA-256 of the file in hex. A stored file has been checked against it.';
comment on column public.message_media.object_key is
    'The file''s key in the bucket, under the account''s own prefix. GET /api/messages/{message_id}/media gives an address.';
comment on column public.message_media.state is
    'pending: it is being fetched; stored: it can be read; failed: refetch_media tries again; expired: WhatsApp no longer has it, the sender deleted it, or the account keeps files for a time only.';
comment on column public.message_media.error is
    'Why it failed or expired, in a sentence; null otherwise.';
comment on column public.message_media.stored_at is
    'When the file was stored (server time, UTC); null until then.';
comment on column public.message_media.created_at is
    'When the message brought the file (server time, UTC).';
comment on column public.message_media.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.message_media.version is
    'Rises by 1 with each change of the row.';
comment on policy "members and the customer can read a message's media" on public.message_media is
    'For everybody who may read the message.';
comment on function private.sha256_hex(text) is
    'A SHA-256 in hex, from base64 or hex. Null for a text that is none.';
comment on function private.expect_media(uuid[]) is
    'Notes the files of messages from WhatsApp, and queues them to be fetched.';
comment on function private.take_back_media(uuid) is
    'Takes back the file of a message that its sender has deleted: it is neither fetched nor handed out.';
