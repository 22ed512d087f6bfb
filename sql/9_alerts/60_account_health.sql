/*
    What is wrong with an account at the moment, for the people who can mend it: since when, how
    often, what it means and what to do. A row exists as long as its trouble. The sweep of every
    minute finds all of it; what stops a number or the sync is told at once.
*/
create table public.account_health (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint account_health_account_id_fkey
               references public.accounts on delete cascade,
    kind       text not null
               constraint account_health_kind_check
               check (kind in (
                   'stopped_number', 'paused_account', 'paused_number', 'failing_sync',
                   'refused_signatures', 'unknown_number', 'waiting_messages', 'failed_messages'
               )),
    -- the WhatsApp number; empty where it is about none
    subject    text not null default '',
    since      timestamptz not null,
    count      integer not null
               constraint account_health_count_check check (count >= 1),
    meaning    text not null,
    remedy     text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint account_health_kind_key unique (account_id, kind, subject)
);
alter table public.account_health enable row level security;


create policy "members can read the health of their accounts"
    on public.account_health
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.account_health to authenticated;


create trigger _050_keep_owner
    before update of account_id on public.account_health
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.account_health
    for each row
    execute function private.tg__stamp_change();


insert into private.sentences (key, language, sentence)
values
    ('health.stopped_number', 'en', 'Since {since} nothing is sent from the WhatsApp number {subject}. Messages that wait: {waiting}.'),
    ('health.stopped_number', 'sl', 'Od {since} se s številke WhatsApp {subject} nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.stopped_number.remedy', 'en', 'The reason stands beside the number. Solve it at Meta, then let the number send again: what waits is sent.'),
    ('health.stopped_number.remedy', 'sl', 'Razlog je zapisan pri številki. Odpravite ga pri podjetju Meta, nato spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('health.paused_account', 'en', 'Since {since} the account is paused and sends nothing. Messages that wait: {waiting}.'),
    ('health.paused_account', 'sl', 'Račun je od {since} začasno ustavljen in nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.paused_account.remedy', 'en', 'When the reason is gone, resume it: what waits is then sent, or withdrawn if you prefer. What customers write is shown meanwhile.'),
    ('health.paused_account.remedy', 'sl', 'Ko razloga ni več, ga spet vključite: kar čaka, bo poslano ali po vaši izbiri umaknjeno. Kar pišejo stranke, je medtem prikazano.'),
    ('health.paused_number', 'en', 'Since {since} the WhatsApp number {subject} is paused and sends nothing. Messages that wait: {waiting}.'),
    ('health.paused_number', 'sl', 'Številka WhatsApp {subject} je od {since} začasno ustavljena in nič ne pošilja. Čakajoča sporočila: {waiting}.'),
    ('health.paused_number.remedy', 'en', 'When the reason is gone, resume it: what waits is then sent, or withdrawn if you prefer. What customers write is shown meanwhile.'),
    ('health.paused_number.remedy', 'sl', 'Ko razloga ni več, jo spet vključite: kar čaka, bo poslano ali po vaši izbiri umaknjeno. Kar pišejo stranke, je medtem prikazano.'),
    ('health.failing_sync', 'en', 'Contacts and partners at Metakocka have not been brought together since {since}. Failed tries: {count}.'),
    ('health.failing_sync', 'sl', 'Stiki in partnerji v Metakocki niso usklajeni od {since}. Neuspeli poskusi: {count}.'),
    ('health.failing_sync.remedy', 'en', 'Read the reason in the settings of the connection. Check the secret key and the quota at Metakocka; the sync goes on by itself.'),
    ('health.failing_sync.remedy', 'sl', 'Preberite razlog v nastavitvah povezave. Preverite skrivni ključ in kvoto v Metakocki; usklajevanje se nadaljuje samo.'),
    ('health.refused_signatures', 'en', 'Webhooks with a wrong signature were refused since {since}: {count}. If messages of customers are missing, the secret of the WhatsApp app is wrong; otherwise a stranger sent them.'),
    ('health.refused_signatures', 'sl', 'Zavrnjeni webhooki z napačnim podpisom od {since}: {count}. Če manjkajo sporočila strank, je skrivnost aplikacije WhatsApp napačna; sicer jih je poslal neznanec.'),
    ('health.refused_signatures.remedy', 'en', 'Compare the app''s secret (Meta, App settings, Basic) with WHATSAPP_APP_SECRET. Meta repeats refused webhooks for 7 days.'),
    ('health.refused_signatures.remedy', 'sl', 'Primerjajte skrivnost aplikacije (Meta, App settings, Basic) z WHATSAPP_APP_SECRET. Meta zavrnjene webhooke ponavlja 7 dni.'),
    ('health.unknown_number', 'en', 'WhatsApp has sent webhooks for the number {subject}, which is not registered here, since {since}: {count}. Their messages are not shown.'),
    ('health.unknown_number', 'sl', 'WhatsApp od {since} pošilja webhooke za številko {subject}, ki tu ni vpisana: {count}. Njihova sporočila niso prikazana.'),
    ('health.unknown_number.remedy', 'en', 'Have the number registered (rapport number add), then have the webhooks applied by rapport replay. They are kept for 90 days.'),
    ('health.unknown_number.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se webhooki obdelajo z ukazom rapport replay. Hranijo se 90 dni.'),
    ('health.waiting_messages', 'en', 'Messages that have waited for more than 5 minutes to be sent by WhatsApp: {count}. The oldest waits since {since}.'),
    ('health.waiting_messages', 'sl', 'Sporočila, ki že več kot 5 minut čakajo na pošiljanje prek WhatsAppa: {count}. Najstarejše čaka od {since}.'),
    ('health.waiting_messages.remedy', 'en', 'Usually they are sent by themselves once WhatsApp takes more. If their number grows, ask the people who run this service.'),
    ('health.waiting_messages.remedy', 'sl', 'Običajno se pošljejo sama, ko jih WhatsApp spet sprejema. Če jih je vedno več, se obrnite na upravljavce te storitve.'),
    ('health.failed_messages', 'en', 'Messages of the last 24 hours that were not sent, or may not have been: {count}. The first since {since}.'),
    ('health.failed_messages', 'sl', 'Sporočila zadnjih 24 ur, ki niso bila poslana ali za katera to ni znano: {count}. Prvo od {since}.'),
    ('health.failed_messages.remedy', 'en', 'Each message says why. Send it again or drop it.'),
    ('health.failed_messages.remedy', 'sl', 'Pri vsakem sporočilu je zapisano, zakaj. Pošljite ga znova ali ga opustite.');


/*
    Messages of the last 30 days that failed or may have failed. An index by status would
    make every status of every message more expensive.
*/
create table private.message_failures (
    message_id uuid primary key
               constraint message_failures_message_id_fkey
               references public.messages on delete cascade,
    account_id uuid not null,
    failed_at  timestamptz not null default now()
);
alter table private.message_failures enable row level security;


create index message_failures_latest_idx on private.message_failures (account_id, failed_at);


create policy "nobody reads failures of messages directly"
    on private.message_failures
    for all
    to authenticated
    using (false);


create function private.tg_messages__note_failure()
    returns trigger
    language plpgsql
    -- definer: users who send again may not write this list
    security definer
    set search_path = ''
as $$
begin
    if new.status in ('failed', 'unknown') then
        insert into private.message_failures as f (message_id, account_id)
        values (new.id, new.account_id)
        on conflict on constraint message_failures_pkey do update
            set failed_at = excluded.failed_at;
    else
        delete from private.message_failures f
        where f.message_id = new.id;
    end if;
    return null;
end
$$;

create trigger _500_note_failure
    after update of status on public.messages
    for each row
    when (
        new.status is distinct from old.status
        and (new.status in ('failed', 'unknown') or old.status in ('failed', 'unknown'))
    )
    execute function private.tg_messages__note_failure();


/*
    Requests to the webhook's address with a wrong signature, by the hour. They belong to no account:
    nothing that they say is believed.
*/
create table private.refused_signatures (
    hour     timestamptz primary key,
    count    integer not null
             constraint refused_signatures_count_check check (count >= 1),
    first_at timestamptz not null default now()
);
alter table private.refused_signatures enable row level security;


create policy "nobody reads refused signatures directly"
    on private.refused_signatures
    for all
    to authenticated
    using (false);


create function backend.note_refused_signatures(count integer)
    returns void
    language sql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
    insert into private.refused_signatures as r (hour, count)
    values (date_trunc('hour', now()), least(greatest(note_refused_signatures.count, 1), 100000))
    on conflict (hour) do update
        set count = least(r.count + excluded.count, 1000000000)
$$;

grant execute on function backend.note_refused_signatures(integer) to service_role;


create type private.trouble as (
    account_id uuid,
    kind       text,
    subject    text,
    since      timestamptz,
    count      integer,
    waiting    integer
);


create function private.troubles(account_ids uuid[] default null)
    returns setof private.trouble
    language sql
    stable
    set search_path = ''
as $$
    select
        w.account_id,
        'stopped_number',
        w.display_phone_number,
        min(w.stopped_at),
        count(*)::integer,
        sum((
            select count(*)
            from private.outbound_queue q
            where q.whatsapp_channel_id = w.id
        ))::integer
    from public.whatsapp_channels w
    where w.stopped_at is not null
      and (account_ids is null or w.account_id = any (account_ids))
    -- two numbers may be written alike
    group by w.account_id, w.display_phone_number

    union all
    select
        a.id,
        'paused_account',
        '',
        a.paused_at,
        1,
        private.waiting_to_send(account_id => a.id, channel_id => null)
    from public.accounts a
    where a.paused_at is not null
      and (account_ids is null or a.id = any (account_ids))

    union all
    select
        w.account_id,
        'paused_number',
        w.display_phone_number,
        min(w.paused_at),
        count(*)::integer,
        sum(private.waiting_to_send(account_id => w.account_id, channel_id => w.id))::integer
    from public.whatsapp_channels w
    where w.paused_at is not null
      and (account_ids is null or w.account_id = any (account_ids))
    group by w.account_id, w.display_phone_number

    union all
    select
        k.account_id,
        'failing_sync',
        '',
        coalesce(f.since, k.updated_at),
        greatest(f.count, k.pauses, 1),
        null
    from public.metakocka_connections k
    cross join lateral (
        select count(*)::integer, min(r.finished_at) as since
        from public.sync_runs r
        where r.account_id = k.account_id
          and r.state = 'failed'
          and r.finished_at > coalesce((
              select max(d.finished_at)
              from public.sync_runs d
              where d.account_id = k.account_id
                and d.state = 'done'
          ), '-infinity')
    ) f
    where k.active
      and (k.paused_until > now() or f.count > 0)
      and (account_ids is null or k.account_id = any (account_ids))

    union all
    select a.account_id, 'refused_signatures', '', r.since, r.count, null
    from (
        select min(s.first_at) as since, least(coalesce(sum(s.count), 0), 1000000000)::integer as count
        from private.refused_signatures s
        where s.hour > now() - interval '1 day'
    ) r
    cross join (
        select distinct w.account_id
        from public.whatsapp_channels w
        where account_ids is null or w.account_id = any (account_ids)
    ) a
    where r.count > 0

    union all
    select
        r.account_id,
        'unknown_number',
        left(coalesce(r.phone_number_id, ''), 64),
        min(r.first_received_at),
        sum(r.webhooks)::integer,
        null
    from private.rejected_webhooks r
    where r.reason in ('unknown_phone_number_id', 'unknown_account')
      and (account_ids is null or r.account_id = any (account_ids))
    group by r.account_id, left(coalesce(r.phone_number_id, ''), 64)

    union all
    select m.account_id, 'waiting_messages', '', min(m.created_at), count(*)::integer, null
    from private.outbound_queue q
    join public.messages m
        on m.id = q.message_id
    join public.whatsapp_channels w
        on w.id = q.whatsapp_channel_id
    join public.accounts a
        on a.id = w.account_id
    -- those of a stopped or paused number are told with the number
    where num_nonnulls(w.stopped_at, w.paused_at, a.paused_at) = 0
      and m.created_at < now() - interval '5 minutes'
      -- it is being sent
      and q.state <> 'sending'
      and (account_ids is null or m.account_id = any (account_ids))
    group by m.account_id

    union all
    select f.account_id, 'failed_messages', '', min(f.failed_at), count(*)::integer, null
    from private.message_failures f
    where f.failed_at > now() - interval '1 day'
      and (account_ids is null or f.account_id = any (account_ids))
    group by f.account_id
$$;


create function private.refresh_health(account_ids uuid[] default null)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    found_troubles private.trouble[];
    changed integer;
    gone integer;
begin
    -- two of one account wait for each other before either looks: what the second finds is then what
    -- the first has left
    if account_ids is null then
        perform pg_advisory_xact_lock(hashtextextended('health', 0));
    else
        perform pg_advisory_xact_lock_shared(hashtextextended('health', 0));
        perform pg_advisory_xact_lock(hashtextextended('health ' || a.id, 0))
        from (
            select u.id
            from unnest(account_ids) u (id)
            order by u.id
        ) a;
    end if;
    found_troubles := array(select t from private.troubles(account_ids) t);

    delete from public.account_health h
    where (account_ids is null or h.account_id = any (account_ids))
      and not exists (
          select
          from unnest(found_troubles) t
          where (t.account_id, t.kind, t.subject) = (h.account_id, h.kind, h.subject)
      );
    get diagnostics gone = row_count;

    insert into public.account_health as h (
        account_id, kind, subject, since, count, meaning, remedy
    )
    select
        t.account_id,
        t.kind,
        t.subject,
        t.since,
        t.count,
        private.words(
            t.account_id,
            'health.' || t.kind,
            jsonb_build_object(
                'subject', t.subject,
                'count', t.count,
                'waiting', t.waiting,
                'since', private.local_time(t.account_id, t.since)
            )
        ),
        private.words(t.account_id, 'health.' || t.kind || '.remedy', '{}')
    from unnest(found_troubles) t
    -- two at the same time wait for each other in one order
    order by t.account_id, t.kind, t.subject
    on conflict on constraint account_health_kind_key do update
        set since = excluded.since,
            count = excluded.count,
            meaning = excluded.meaning,
            remedy = excluded.remedy
        where (h.since, h.count, h.meaning, h.remedy)
            is distinct from (excluded.since, excluded.count, excluded.meaning, excluded.remedy);
    get diagnostics changed = row_count;
    return changed + gone;
end
$$;


create function private.tg__refresh_health()
    returns trigger
    language plpgsql
    -- definer: the writer may not write health
    security definer
    set search_path = ''
as $$
begin
    perform private.refresh_health(array[new.account_id]);
    return null;
end
$$;


create function private.tg_accounts__refresh_health()
    returns trigger
    language plpgsql
    -- definer: as above
    security definer
    set search_path = ''
as $$
begin
    perform private.refresh_health(array[new.id]);
    return null;
end
$$;


-- after the row itself is logged, so that a client hears of the cause first
create trigger _980_refresh_health
    after update on public.whatsapp_channels
    for each row
    when ((new.stopped_at, new.paused_at) is distinct from (old.stopped_at, old.paused_at))
    execute function private.tg__refresh_health();

create trigger _980_refresh_health
    after update on public.accounts
    for each row
    when (new.paused_at is distinct from old.paused_at)
    execute function private.tg_accounts__refresh_health();

create trigger _980_refresh_health
    after update on public.metakocka_connections
    for each row
    when ((new.paused_until, new.active) is distinct from (old.paused_until, old.active))
    execute function private.tg__refresh_health();

create trigger _980_refresh_health
    after update on public.sync_runs
    for each row
    when (new.state is distinct from old.state and new.state in ('failed', 'done'))
    execute function private.tg__refresh_health();


create function backend.sweep_health()
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
begin
    -- another sweep does the same
    if not pg_try_advisory_xact_lock(hashtextextended('sweep of health', 0)) then
        return 0;
    end if;
    -- so long a failed message can be redriven
    delete from private.message_failures f
    where f.failed_at < now() - interval '30 days';
    delete from private.refused_signatures r
    where r.hour < now() - interval '1 day';
    return private.refresh_health();
end
$$;

grant execute on function backend.sweep_health() to service_role;


create function public.account_health(account_id uuid)
    returns setof public.account_health
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    elsif account_id not in (select private.my_admin_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not see the health of this account.',
            detail = 'field: account_id',
            hint = 'Owners and admins of the account may.';
    end if;
    return query
    select h.*
    from public.account_health h
    where h.account_id = account_health.account_id
    order by
        array_position(
            array[
                'stopped_number', 'paused_account', 'paused_number', 'failing_sync',
                'refused_signatures', 'unknown_number'
            ],
            h.kind),
        h.since,
        h.kind;
end
$$;

grant execute on function public.account_health(uuid) to authenticated;


comment on table public.account_health is
    'What is wrong with an account at the moment. A row exists as long as its trouble; looked for every minute.';
comment on column public.account_health.id is
    'Identifies the row.';
comment on column public.account_health.account_id is
    'The account.';
comment on column public.account_health.kind is
    'stopped_number: WhatsApp lets a number send nothing; paused_account and paused_number: a person has paused it; failing_sync: Metakocka; refused_signatures and unknown_number: webhooks that were not taken; waiting_messages: to be sent for more than 5 minutes; failed_messages: of the last 24 hours.';
comment on column public.account_health.subject is
    'The WhatsApp number: as people write it, and of unknown_number Meta''s id; empty where it is about none.';
comment on column public.account_health.since is
    'Since when (UTC).';
comment on column public.account_health.count is
    'How many: numbers, failed runs, webhooks or messages.';
comment on column public.account_health.meaning is
    'What has happened, in a sentence, in the account''s language.';
comment on column public.account_health.remedy is
    'What to do, in the account''s language.';
comment on column public.account_health.created_at is
    'When it was found (server time, UTC).';
comment on column public.account_health.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.account_health.version is
    'Rises with every change of the row.';
comment on policy "members can read the health of their accounts" on public.account_health is
    'Staff see why messages do not arrive.';
comment on table private.message_failures is
    'The messages of the last 30 days that failed or may have failed.';
comment on policy "nobody reads failures of messages directly" on private.message_failures is
    'account_health counts those of the last day, and rapport redrive sends them again.';
comment on function private.tg_messages__note_failure() is
    'Notes that a message failed, and forgets it when it was sent after all.';
comment on table private.refused_signatures is
    'How many webhooks with a wrong signature came, by the hour.';
comment on policy "nobody reads refused signatures directly" on private.refused_signatures is
    'account_health counts them.';
comment on function backend.note_refused_signatures(integer) is
    'Counts webhooks that were refused since their signature is wrong.';
comment on type private.trouble is
    'What is wrong with an account; waiting is of what is stopped or paused alone.';
comment on function private.troubles(uuid[]) is
    'What is wrong now with these accounts, or with all.';
comment on function private.refresh_health(uuid[]) is
    'Writes what is wrong now with these accounts, or with all, and deletes what is no longer wrong. Returns how many rows have changed.';
comment on function private.tg_accounts__refresh_health() is
    'Writes the health of an account that was paused or resumed.';
comment on function private.tg__refresh_health() is
    'Writes the health of the account whose number or sync has changed.';
comment on function backend.sweep_health() is
    'Writes the health of all accounts; returns how many rows have changed.';
comment on function public.account_health(uuid) is
    'What is wrong with an account, the gravest first: since when, how often, what it means and what to do, in its language. For owners and admins. Live: follow the table account_health.';


select private.follow_table(
    table_name => 'account_health',
    shown => array[
        'id', 'account_id', 'kind', 'subject', 'since', 'count', 'meaning', 'remedy',
        'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);
