/*
    How much an account keeps, and how much it may: messages, contacts, and bytes of files. The
    figures are counted every hour, so a quota costs no writer more than a look at one row. Between
    two counts the limits of each user (private.request_limits) bound what can come on top.

    A quota refuses what users add. What comes by WhatsApp is never refused: it would be lost.
*/
create table private.account_usage (
    account_id uuid primary key
               constraint account_usage_account_id_fkey
               references public.accounts on delete cascade,
    messages   bigint not null default 0,
    contacts   bigint not null default 0,
    file_bytes bigint not null default 0,
    counted_at timestamptz not null default now()
);
alter table private.account_usage enable row level security;


create policy "nobody reads the figures of accounts directly"
    on private.account_usage
    for all
    to authenticated
    using (false);


create function private.require_room(account_id uuid, kind text, added bigint default 1)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- with the figures of the last count; a new account has none yet
    kept bigint;
    quota bigint;
begin
    select
        case kind
            when 'messages' then u.messages
            when 'contacts' then u.contacts
            else u.file_bytes
        end,
        case kind
            when 'messages' then a.messages_quota
            when 'contacts' then a.contacts_quota
            else a.file_bytes_quota
        end
    into kept, quota
    from public.accounts a
    left join private.account_usage u
        on u.account_id = a.id
    where a.id = require_room.account_id;
    kept := coalesce(kept, 0);
    if kept + added > quota then
        raise sqlstate 'PT403' using
            message = case kind
                when 'messages' then format('The account has %s messages; its quota is %s.', kept, quota)
                when 'contacts' then format('The account has %s contacts; its quota is %s.', kept, quota)
                else format('The account has %s bytes of files; with this one they would be %s, and its quota is %s.', kept, kept + added, quota)
            end,
            detail = 'field: account_id; quota: ' || kind || '_quota',
            hint = 'Ask the people who run this service for a larger quota, or delete what you do not need. What was deleted counts within an hour.';
    end if;
end
$$;


create function backend.count_usage(batch integer default 50)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    ids constant uuid[] := array(
        select a.id
        from public.accounts a
        left join private.account_usage u
            on u.account_id = a.id
        where coalesce(u.counted_at < now() - interval '50 minutes', true)
        order by u.counted_at nulls first, a.id
        limit least(greatest(batch, 1), 500)
    );
    counted integer;
begin
    insert into private.account_usage as u (account_id, messages, contacts, file_bytes, counted_at)
    select
        d.id,
        -- messages are numbered without a gap, so nobody has to count them
        greatest(coalesce(m.written, 0) - coalesce(p.messages, 0), 0),
        coalesce(c.number, 0),
        coalesce(f.bytes, 0),
        clock_timestamp()
    from unnest(ids) as d (id)
    left join (
        select a.account_id, sum(a.last_seq) as written
        from public.conversation_activity a
        where a.account_id = any (ids)
        group by a.account_id
    ) m
        on m.account_id = d.id
    left join private.retention_passes p
        on p.account_id = d.id
    left join (
        select o.account_id, count(*) as number
        from public.contacts o
        where o.account_id = any (ids)
          and o.deleted_at is null
        group by o.account_id
    ) c
        on c.account_id = d.id
    left join (
        select o.account_id, sum(o.size) as bytes
        from public.message_media o
        where o.account_id = any (ids)
          and o.state = 'stored'
        group by o.account_id
    ) f
        on f.account_id = d.id
    order by d.id
    on conflict on constraint account_usage_pkey do update
        set messages = excluded.messages,
            contacts = excluded.contacts,
            file_bytes = excluded.file_bytes,
            counted_at = excluded.counted_at;
    get diagnostics counted = row_count;
    return counted;
end
$$;

grant execute on function backend.count_usage(integer) to service_role;


comment on table private.account_usage is
    'How much each account keeps, as counted last.';
comment on column private.account_usage.file_bytes is
    'The bytes of the files in the bucket.';
comment on policy "nobody reads the figures of accounts directly" on private.account_usage is
    'require_room compares them with the quotas.';
comment on function private.require_room(uuid, text, bigint) is
    'Refuses (403) to add messages, contacts or file_bytes to an account beyond its quota.';
comment on function backend.count_usage(integer) is
    'Counts what accounts keep that were counted more than 50 minutes ago, at most batch (1 to 500); returns their number. Call it again until it is 0.';
