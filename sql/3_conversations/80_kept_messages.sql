/*
    How long an account keeps its messages and files: accounts.messages_kept_days, files_kept_days.
    Without these nothing is deleted. Once a day a pass goes through the account's conversations, in
    calls that delete up to 100 messages each: in this way nobody waits, and clients are told of each
    message that goes.

    Nothing is deleted of a contact under a legal hold, nor what waits to be sent. Raw webhooks, which
    hold the data of all accounts, have a retention of their own (private.retention).
*/
create table private.retention_passes (
    account_id    uuid primary key
                  constraint retention_passes_account_id_fkey
                  references public.accounts on delete cascade,
    -- up to which conversation the pass has come
    after_id      uuid,
    -- when the last pass ended; null before the end of the first
    ended_at      timestamptz,
    -- of all passes together: with last_seq of the conversations it says how many are left
    messages      bigint not null default 0
);
alter table private.retention_passes enable row level security;


create policy "nobody reads passes of the retention directly"
    on private.retention_passes
    for all
    to authenticated
    using (false);


/*
    Files to delete from the bucket: their rows are gone, or say that the file is. A row goes when
    the bucket no longer has the file.
*/
create table private.file_deletions (
    object_key text primary key,
    account_id uuid not null,
    -- later than the lease of a worker that may be writing the file now
    not_before timestamptz not null default now() + interval '10 minutes'
);
alter table private.file_deletions enable row level security;


create index file_deletions_due_idx on private.file_deletions (not_before, object_key);


create policy "nobody reads file deletions directly"
    on private.file_deletions
    for all
    to authenticated
    using (false);


create function private.delete_files_of(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- whether it was fetched or not: deleting what is not there does no harm
    insert into private.file_deletions (object_key, account_id)
    select distinct f.object_key, f.account_id
    from public.message_media f
    where f.message_id = any (message_ids)
    on conflict on constraint file_deletions_pkey do update
        set not_before = excluded.not_before;
end
$$;


create function private.is_held_thread(thread public.conversations)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if thread.customer_id is not null then
        return private.is_held(thread.customer_id);
    end if;
    -- in a group a held contact may be any of the participants
    return exists (
        select
        from private.legal_holds h
        join public.contact_identities i
            on i.contact_id in (select private.contact_lineage(h.contact_id))
        join jsonb_array_elements(thread.participants) p
            on i.kind = 'phone' and p.value ->> 'wa_id' in (i.wa_id, ltrim(i.value, '+'))
            or i.kind = 'bsuid' and p.value ->> 'user_id' = i.value
        where h.account_id = thread.account_id
          and h.ended_at is null
    );
end
$$;


create function private.prune_thread(
    thread public.conversations,
    messages_before timestamptz,
    files_before timestamptz,
    batch integer,
    out messages integer,
    out files integer
)
    language plpgsql
    set search_path = ''
as $$
declare
    old uuid[] := '{}';
begin
    messages := 0;
    files := 0;
    if messages_before is not null then
        -- in the order of arrival, so that what is left has no gap
        old := array(
            select m.id
            from public.messages m
            where m.id in (
                select f.id
                from (
                    select o.id, o.created_at
                    from public.messages o
                    where o.conversation_id = thread.id
                    order by o.seq
                    limit batch
                ) f
                where f.created_at < messages_before
            )
              -- it waits to be sent
              and not exists (select from private.outbound_queue q where q.message_id = m.id)
            order by m.id
            -- a writer that has one is not waited for
            for update skip locked
        );
    end if;
    if old <> '{}' then
        perform private.delete_files_of(old);
        delete from private.message_statuses s
        using public.messages m
        where m.id = any (old)
          and s.whatsapp_channel_id = m.whatsapp_channel_id
          and s.provider_id = m.provider_id;
        delete from private.message_effects e
        using public.messages m
        where m.id = any (old)
          and e.whatsapp_channel_id = m.whatsapp_channel_id
          and e.parent_provider_id = m.provider_id;
        delete from public.messages m
        where m.id = any (old);
        messages := cardinality(old);
    end if;
    if files_before is null then
        return;
    end if;

    old := array(
        select f.id
        from public.message_media f
        where f.conversation_id = thread.id
          and f.account_id = thread.account_id
          and f.state = 'stored'
          and f.stored_at < files_before
          and not exists (select from private.outbound_queue q where q.message_id = f.message_id)
        order by f.id
        limit batch - messages
        for no key update skip locked
    );
    if old <> '{}' then
        perform private.delete_files_of(array(
            select f.message_id
            from public.message_media f
            where f.id = any (old)
        ));
        update public.message_media f
        set state = 'expired',
            error = 'The file was deleted, since the account keeps files for a time only.',
            stored_at = null
        where f.id = any (old);
        files := cardinality(old);
    end if;
end
$$;


create function private.prune_uploads(account_id uuid, files_before timestamptz, batch integer)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    pruned integer;
begin
    with old as (
        select u.id, u.object_key
        from private.media_uploads u
        where u.account_id = prune_uploads.account_id
          and u.created_at < files_before
          -- a message that is sent later will need it
          and not exists (
              select
              from public.scheduled_messages s
              where s.account_id = u.account_id
                and s.status = 'waiting'
                and s.content ->> 'upload_id' = u.id::text
          )
          -- a message that has it keeps it for as long as its own file
          and not exists (
              select
              from public.message_media f
              where f.object_key = u.object_key
                and f.state = 'stored'
          )
        order by u.id
        limit batch
        for update skip locked
    ),
    gone as (
        delete from private.media_uploads u
        using old o
        where u.id = o.id
        returning u.object_key
    )
    insert into private.file_deletions (object_key, account_id)
    select g.object_key, prune_uploads.account_id
    from gone g
    on conflict on constraint file_deletions_pkey do nothing;
    get diagnostics pruned = row_count;
    return pruned;
end
$$;


create function backend.prune_kept(batch integer default 100)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    -- more for one topic would have its clients read everything again
    most constant integer := least(greatest(batch, 1), 100);
    -- a conversation without old messages costs little; a limit keeps the call short all the same
    looks constant integer := 500;
    account record;
    pass private.retention_passes;
    thread public.conversations;
    pruned record;
    messages integer := 0;
    files integer := 0;
    looked integer := 0;
    is_done boolean := true;
begin
    for account in
        select
            a.id,
            now() - make_interval(days => a.messages_kept_days) as messages_before,
            now() - make_interval(days => a.files_kept_days) as files_before
        from public.accounts a
        where num_nonnulls(a.messages_kept_days, a.files_kept_days) > 0
        order by a.id
    loop
        insert into private.retention_passes (account_id)
        values (account.id)
        on conflict do nothing;
        -- another run is at it
        select p.*
        into pass
        from private.retention_passes p
        where p.account_id = account.id
        for update skip locked;
        -- once a day, at whichever hour the last one ended
        continue when not found or pass.ended_at > now() - interval '20 hours';

        for thread in
            select k.*
            from public.conversations k
            where k.account_id = account.id
              and (pass.after_id is null or k.id > pass.after_id)
            order by k.id
            limit looks - looked
        loop
            looked := looked + 1;
            if not private.is_held_thread(thread) then
                pruned := private.prune_thread(
                    thread,
                    messages_before => account.messages_before,
                    files_before => account.files_before,
                    batch => most - messages - files
                );
                messages := messages + pruned.messages;
                files := files + pruned.files;
                pass.messages := pass.messages + pruned.messages;
                -- the next call looks at this conversation once more
                exit when messages + files >= most;
            end if;
            pass.after_id := thread.id;
        end loop;

        if messages + files >= most or looked >= looks then
            is_done := false;
        else
            files := files + private.prune_uploads(
                account.id, files_before => account.files_before, batch => most - messages - files);
            is_done := messages + files < most;
        end if;
        update private.retention_passes p
        set after_id = case when is_done then null else pass.after_id end,
            ended_at = case when is_done then now() else pass.ended_at end,
            messages = pass.messages
        where p.account_id = account.id;
        exit when not is_done;
    end loop;
    return jsonb_build_object('messages', messages, 'files', files, 'is_done', is_done);
end
$$;

grant execute on function backend.prune_kept(integer) to service_role;


create function backend.files_to_delete(batch integer default 100)
    returns jsonb
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    -- a file that another message still shows stays; that one's deletion notes it again
    delete from private.file_deletions d
    where d.not_before <= now()
      and exists (
          select
          from public.message_media f
          where f.object_key = d.object_key
            and f.state = 'stored'
      );
    return (
        select coalesce(jsonb_agg(d.object_key), '[]')
        from (
            select o.object_key
            from private.file_deletions o
            where o.not_before <= now()
            order by o.not_before, o.object_key
            limit least(greatest(batch, 1), 1000)
        ) d
    );
end
$$;

grant execute on function backend.files_to_delete(integer) to service_role;


create function backend.settle_file_deletions(object_keys text[])
    returns void
    language sql
    -- definer: as above
    security definer
    set search_path = ''
as $$
    delete from private.file_deletions d
    where d.object_key = any (object_keys)
$$;

grant execute on function backend.settle_file_deletions(text[]) to service_role;


comment on table private.retention_passes is
    'How far the retention of each account''s messages has come.';
comment on column private.retention_passes.messages is
    'How many messages all passes have deleted.';
comment on policy "nobody reads passes of the retention directly" on private.retention_passes is
    'backend.prune_kept goes on from there.';
comment on table private.file_deletions is
    'Files to delete from the bucket. daily deletes them.';
comment on policy "nobody reads file deletions directly" on private.file_deletions is
    'They are names of files.';
comment on function private.delete_files_of(uuid[]) is
    'Has the files of messages deleted from the bucket, before or after their rows.';
comment on function private.is_held_thread(public.conversations) is
    'Whether a conversation is kept for a contact under a legal hold; of a group, any participant.';
comment on function private.prune_thread(
    public.conversations, timestamptz, timestamptz, integer
) is
    'Deletes at most batch messages and files of a conversation that are older than the given times; returns their numbers.';
comment on function private.prune_uploads(uuid, timestamptz, integer) is
    'Forgets at most batch uploads that no message has, and has them deleted; returns their number.';
comment on function backend.prune_kept(integer) is
    'Deletes messages and files that are older than their accounts keep them, at most batch (1 to 100) in a call: {messages, files, is_done}. Call it again until is_done.';
comment on function backend.files_to_delete(integer) is
    'The keys of files to delete from the bucket now.';
comment on function backend.settle_file_deletions(text[]) is
    'Notes that the bucket no longer has these files.';
