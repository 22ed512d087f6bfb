/*
    A person asks again for a file that could not be fetched.
*/
create function private.request_media(message_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write the queue; the function checks the caller first
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
            message = 'You may not have files fetched again.',
            hint = 'Owners, admins and agents may.';
    elsif media.state = 'stored' then
        raise sqlstate 'PT409' using
            message = 'This file has been fetched already.',
            detail = 'field: state; state: stored',
            hint = 'GET /api/messages/{id}/media returns its address.';
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
        -- a waiting job goes now; a job that a worker has is running already
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
    'Puts a file into the queue again, after checking the caller.';
comment on function public.refetch_media(uuid) is
    'Fetches the file of a message again if it has failed. If another try is planned, it goes now.';
