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
            detail = 'field: state; state: stored',
            hint = 'GET /api/messages/{id}/media gives its address.';
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
