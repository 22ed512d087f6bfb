/*
    A job has its chat from the start. The chat hears of each new status or time of the job, in the
    same transaction.
*/
insert into private.sentences (key, language, sentence)
values
    ('job.scheduled', 'en', '{service} is scheduled for {time}.'),
    ('job.scheduled', 'sl', '{service}: termin je {time}.'),
    ('job.rescheduled', 'en', '{service} is rescheduled to {time}.'),
    ('job.rescheduled', 'sl', '{service}: novi termin je {time}.'),
    ('job.in_progress', 'en', '{service} is in progress.'),
    ('job.in_progress', 'sl', '{service}: delo poteka.'),
    ('job.completed', 'en', '{service} is completed.'),
    ('job.completed', 'sl', '{service}: delo je končano.'),
    ('job.cancelled', 'en', '{service} is cancelled.'),
    ('job.cancelled', 'sl', '{service}: termin je odpovedan.');


create function private.job_notice(job public.jobs)
    returns private.notice
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        job.account_id,
        job.customer_id,
        job.id,
        private.words(
            job.account_id,
            'job.' || job.status,
            jsonb_build_object(
                'service', job.service_type,
                'time', private.local_time(job.account_id, job.starts_at)
            )
        ),
        jsonb_build_object(
            'event', 'job.' || job.status,
            'job_id', job.id,
            'service_type', job.service_type,
            'starts_at', job.starts_at,
            'ends_at', job.ends_at,
            'time_zone', private.time_zone_of(job.account_id)
        ),
        null
    )::private.notice;
end
$$;


create function private.tg_jobs__open_chat()
    returns trigger
    language plpgsql
    -- definer: only this function may write these conversations
    security definer
    set search_path = ''
as $$
begin
    insert into public.conversations (account_id, customer_id, channel, thread_key, booking_id)
    select n.account_id, n.customer_id, 'booking', n.id, n.id
    from new_rows n
    order by n.id;

    perform private.post_notices((
        select array_agg(private.job_notice(n) order by n.id)
        from new_rows n
    ));
    return null;
end
$$;


create function private.tg_jobs__tell_chat()
    returns trigger
    language plpgsql
    -- definer: as tg_jobs__open_chat
    security definer
    set search_path = ''
as $$
declare
    notices private.notice[];
begin
    select array_agg(private.job_notice(n) order by n.id)
    into notices
    from new_rows n
    join old_rows o
        using (id)
    where n.status <> o.status
       or (
           n.status = 'rescheduled'
           and (n.starts_at, n.ends_at) is distinct from (o.starts_at, o.ends_at)
       );
    -- most changes say nothing to the chat
    if notices is not null then
        perform private.post_notices(notices);
    end if;
    return null;
end
$$;


create trigger _500_open_chat
    after insert on public.jobs
    referencing new table as new_rows
    for each statement
    execute function private.tg_jobs__open_chat();

create trigger _500_tell_chat
    after update on public.jobs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_jobs__tell_chat();


comment on function private.job_notice(public.jobs) is
    'The sentence that tells a chat how a job stands now.';
comment on function private.tg_jobs__open_chat() is
    'Gives each job its chat.';
comment on function private.tg_jobs__tell_chat() is
    'Tells a job''s chat of its new status or time.';
