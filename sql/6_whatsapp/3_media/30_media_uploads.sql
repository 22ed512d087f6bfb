/*
    Files that agents send. The agent's client puts the file into the bucket, under a key that is
    chosen here. A message then names the upload, never a key. So no message can name a file of
    another account.
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
    -- the announced size and type; the bucket takes no other
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
    -- definer: users may not write uploads; the function checks the caller first
    security definer
    set search_path = ''
as $$
declare
    -- with its parameters, such as the codec
    whole constant text := private.mime_type_of(open_upload.mime_type);
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
            message = 'Files can only be sent on WhatsApp.',
            detail = 'field: conversation_id',
            hint = 'Name a conversation whose channel is whatsapp.';
    end if;

    select t.*
    into allowed
    from private.media_types t
    where t.type = open_upload.type
      and t.mime_type = private.bare_mime_type(whole);
    if whole is null then
        raise sqlstate 'PT422' using
            message = 'This is not a media type.',
            detail = 'field: mime_type',
            hint = 'Write it as type/subtype, such as image/jpeg or audio/ogg; codecs=opus.';
    elsif whole ~* '^audio/ogg;.* codecs=' and whole !~* ' codecs=opus(;|$)' then
        raise sqlstate 'PT422' using
            message = 'WhatsApp takes Ogg only with the codec Opus.',
            detail = 'field: mime_type',
            hint = 'Record audio/ogg; codecs=opus.';
    elsif allowed.mime_type is null then
        raise sqlstate 'PT422' using
            message = 'WhatsApp does not take files of this type.',
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
            message = format('The file has %s bytes.', coalesce(size, 0)),
            detail = 'field: size',
            hint = format('Send a file of 1 to %s bytes.', allowed.max_size);
    elsif length(file_name) > 255 then
        raise sqlstate 'PT422' using
            message = format('The file''s name has %s characters.', length(file_name)),
            detail = 'field: file_name',
            hint = 'Give a name of at most 255 characters.';
    end if;
    perform private.require_room(
        account_id => thread.account_id, kind => 'file_bytes', added => size);

    upload.id := gen_random_uuid();
    insert into private.media_uploads (
        id, account_id, user_id, type, mime_type, file_name, size, object_key
    )
    values (
        upload.id,
        thread.account_id,
        auth.uid(),
        allowed.type,
        whole,
        nullif(open_upload.file_name, ''),
        open_upload.size,
        concat_ws('/', thread.account_id, 'uploads', upload.id)
    )
    returning * into upload;
    return jsonb_build_object(
        'upload_id', upload.id,
        'object_key', upload.object_key,
        -- the media type with which the client puts the bytes into the bucket
        'mime_type', allowed.mime_type,
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


create function private.check_upload(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if post.content ? 'upload_id' and not exists (
        select
        from private.media_uploads u
        where u.id = case
            when pg_input_is_valid(post.content ->> 'upload_id', 'uuid')
                then (post.content ->> 'upload_id')::uuid
        end
          and u.account_id = post.account_id
          and u.type = post.type
    ) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content.upload_id',
            hint = 'Give the upload_id that POST /api/media returned.';
    end if;
end
$$;


create function private.attach_uploads(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    attached integer;
begin
    insert into public.message_media (
        account_id, conversation_id, customer_id, message_id, mime_type, file_name, size,
        object_key, state, stored_at
    )
    select
        m.account_id,
        m.conversation_id,
        m.customer_id,
        m.id,
        u.mime_type,
        u.file_name,
        u.size,
        u.object_key,
        'stored',
        now()
    from public.messages m
    join private.media_uploads u
        on u.id = case
            when pg_input_is_valid(m.content ->> 'upload_id', 'uuid')
                then (m.content ->> 'upload_id')::uuid
        end
       and u.account_id = m.account_id
       and u.type = m.type
    where m.id = any (message_ids);
    get diagnostics attached = row_count;

    if attached < cardinality(message_ids) then
        raise sqlstate 'PT422' using
            message = 'There is no such upload for a message of this type.',
            detail = 'field: content.upload_id',
            hint = 'Give the upload_id that POST /api/media returned.';
    end if;
end
$$;


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
    'Files that agents have put, or will put, into the bucket.';
comment on policy "nobody reads media uploads directly" on private.media_uploads is
    'The answer of begin_upload has told its caller everything.';
comment on function private.open_upload(uuid, text, text, bigint, text) is
    'Chooses the place of an agent''s file, after checking the caller and the file.';
comment on function public.begin_upload(uuid, text, text, bigint, text) is
    'Announces a file to send in a conversation. size is in bytes. POST /api/media calls it and adds the address for the bytes.'
    ' Type: {upload_id: uuid, object_key: text, mime_type: text, size: bigint}';
comment on function private.check_upload(public.messages) is
    'Refuses a message that is sent later and names an upload that is not there.';
comment on function private.attach_uploads(uuid[]) is
    'Gives messages the files that were uploaded for them.';
comment on function backend.media_to_send(uuid) is
    'The file of a message: {object_key, mime_type, file_name, size}; null where the message has no file of ours.';
