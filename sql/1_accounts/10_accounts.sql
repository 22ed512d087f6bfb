/*
    A business that uses Rapport: the tenant. Every other row names its account.
*/
create table public.accounts (
    id          uuid primary key default gen_random_uuid(),
    -- the account's part of older conversation keys; underscores separate the parts
    external_id text not null default encode(extensions.gen_random_bytes(12), 'hex')
                constraint accounts_external_id_key unique
                constraint accounts_external_id_check check (external_id ~ '^[A-Za-z0-9-]{1,64}$'),
    name        text not null
                constraint accounts_name_check check (name <> '' and length(name) <= 200),
    country     text
                constraint accounts_country_check check (country ~ '^[A-Z]{2}$'),
    time_zone   text not null,
    language    text not null
                constraint accounts_language_check check (language in ('en', 'sl')),
    -- whether a free conversation goes to a member when the customer writes
    assigns_in_turn boolean not null default false,
    -- the limits of one user; see private.request_limits
    messages_per_minute  integer not null default 300
                         constraint accounts_messages_per_minute_check
                         check (messages_per_minute between 1 and 100000),
    messages_per_request integer not null default 100
                         constraint accounts_messages_per_request_check
                         check (messages_per_request between 1 and 10000),
    writes_per_minute    integer not null default 5000
                         constraint accounts_writes_per_minute_check
                         check (writes_per_minute between 1 and 1000000),
    rows_per_request     integer not null default 1000
                         constraint accounts_rows_per_request_check
                         check (rows_per_request between 1 and 100000),
    -- times of day in the account's time zone; see private.quiet_span
    quiet_from  time,
    quiet_until time,
    -- nothing is sent for the account until a person resumes it; see pause_sending
    paused_at   timestamptz,
    -- for how long messages and files are kept; see private.prune_kept
    messages_kept_days integer
                       constraint accounts_messages_kept_days_check
                       check (messages_kept_days between 30 and 36500),
    files_kept_days    integer
                       constraint accounts_files_kept_days_check
                       check (files_kept_days between 30 and 36500),
    -- how much the account may keep; see private.require_room
    messages_quota     bigint not null default 100000000
                       constraint accounts_messages_quota_check check (messages_quota >= 0),
    contacts_quota     bigint not null default 10000000
                       constraint accounts_contacts_quota_check check (contacts_quota >= 0),
    file_bytes_quota   bigint not null default 10000000000000
                       constraint accounts_file_bytes_quota_check check (file_bytes_quota >= 0),
    created_at  timestamptz not null default now(),

    constraint accounts_quiet_until_check
        check (num_nonnulls(quiet_from, quiet_until) = 0 or (quiet_from <> quiet_until) is true)
);
alter table public.accounts enable row level security;


create function private.tg_accounts__set_locale()
    returns trigger
    language plpgsql
    -- definer: users may not read the list of countries
    security definer
    set search_path = ''
as $$
declare
    of_country constant text := (
        select z.time_zone
        from private.country_time_zones z
        where z.country = new.country
    );
    usual constant text := coalesce(of_country, 'UTC');
begin
    if new.country is not null and of_country is null then
        raise sqlstate 'PT422' using
            message = format('%s is not a country.', quote_ident(left(new.country, 64))),
            detail = 'field: country',
            hint = 'Give the two capital letters of ISO 3166-1, such as SI.';
    end if;
    new.time_zone := coalesce(new.time_zone, usual);
    new.language := coalesce(new.language, case new.country when 'SI' then 'sl' else 'en' end);
    -- Postgres reads all files of time zones to list their names, which takes 12 ms
    if new.time_zone <> usual
        and not exists (select from pg_timezone_names z where z.name = new.time_zone)
    then
        raise sqlstate 'PT422' using
            message = format('%s is not a time zone.', quote_ident(left(new.time_zone, 64))),
            detail = 'field: time_zone',
            hint = 'Give a name of the IANA database, such as Europe/Ljubljana, or null for the country''s time zone.';
    end if;
    return new;
end
$$;

create trigger _100_set_locale
    before insert or update of country, time_zone, language on public.accounts
    for each row
    execute function private.tg_accounts__set_locale();


create function private.time_zone_of(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (select a.time_zone from public.accounts a where a.id = time_zone_of.account_id);
end
$$;


create function private.today(account_id uuid)
    returns date
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (now() at time zone private.time_zone_of(account_id))::date;
end
$$;


create function private.latest_today()
    returns date
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (now() at time zone 'UTC' + interval '14 hours')::date;
end
$$;


create function private.local_time(account_id uuid, at timestamptz)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select case a.language
            when 'sl' then concat(
                to_char(local.at, 'FMDD. '),
                -- of July, which fits after "do" and "od", and as a date of its own
                (array[
                    'januarja', 'februarja', 'marca', 'aprila', 'maja', 'junija',
                    'julija', 'avgusta', 'septembra', 'oktobra', 'novembra', 'decembra'
                ])[extract(month from local.at)::int],
                to_char(local.at, ' YYYY "ob" HH24:MI')
            )
            else to_char(local.at, 'FMDay, FMDD FMMonth YYYY "at" HH24:MI')
        end
        from public.accounts a
        cross join lateral (select local_time.at at time zone a.time_zone as at) local
        where a.id = local_time.account_id
    );
end
$$;


grant select on public.accounts to authenticated;


comment on table public.accounts is
    'A business that uses Rapport: the tenant. Every other row names its account. Owners and admins change name, country, time_zone, language, assigns_in_turn, the quiet hours, messages_kept_days and files_kept_days.';
comment on column public.accounts.id is
    'Identifies the account; every other row of the business names it as account_id.';
comment on column public.accounts.external_id is
    'The account''s part of older conversation keys; see resolve_conversation.';
comment on column public.accounts.name is
    'The name of the business, which customers see.';
comment on column public.accounts.country is
    'The country of the business by ISO 3166-1, such as SI; null is unknown.';
comment on column public.accounts.time_zone is
    'The IANA time zone in which the account''s days begin and end. If none is given: that of its country, or UTC. Due dates, expiring points and notices follow it.';
comment on column public.accounts.language is
    'The language in which the system writes to people: en or sl. If none is given: sl for an account in Slovenia, and en for others.';
comment on column public.accounts.assigns_in_turn is
    'Whether a free conversation, when the customer writes, goes to the member at the desk who was given one least recently; see stay_at_desk.';
comment on column public.accounts.quiet_from is
    'The time of day, in the account''s time zone, at which the quiet hours begin. During them no reminder and no scheduled message is sent. Null: there are no quiet hours.';
comment on column public.accounts.quiet_until is
    'The time of day at which the quiet hours end; earlier than quiet_from means on the next day.';
comment on column public.accounts.paused_at is
    'Since when a person has nothing sent for the account (server time, UTC); null while it sends. See pause_sending and resume_sending.';
comment on column public.accounts.messages_kept_days is
    'For how many days messages are kept after they came or were written here, 30 at least. Older ones are deleted for good, with their files, except under a legal hold. Null: for ever.';
comment on column public.accounts.files_kept_days is
    'For how many days the files of messages are kept, 30 at least; the messages stay. Null: as long as their messages.';
comment on column public.accounts.messages_quota is
    'How many messages the account may keep. Beyond it users can''t write any more; what comes by WhatsApp is stored all the same.';
comment on column public.accounts.contacts_quota is
    'How many contacts the account may keep. Beyond it users can''t add any; who writes by WhatsApp becomes a contact all the same.';
comment on column public.accounts.file_bytes_quota is
    'How many bytes of files the account may keep. Beyond it users can''t upload any; files that come by WhatsApp are stored all the same.';
comment on column public.accounts.created_at is
    'When the account was made (server time, UTC).';
comment on column public.accounts.messages_per_minute is
    'How many messages one user, staff or customer, may write in a minute.';
comment on column public.accounts.messages_per_request is
    'How many messages one user may write in one request.';
comment on column public.accounts.writes_per_minute is
    'How many writes one user may make in a minute. A request that writes counts as one, and so does each row that it writes.';
comment on column public.accounts.rows_per_request is
    'How many rows one user may write in one request.';
comment on function private.tg_accounts__set_locale() is
    'Gives an account without a time zone or language those of its country; refuses unknown countries and time zones.';
comment on function private.time_zone_of(uuid) is
    'The time zone of an account.';
comment on function private.today(uuid) is
    'The present date in the account''s time zone.';
comment on function private.latest_today() is
    'The latest present date of all time zones: by it an index finds every row whose day may be over in some time zone.';
comment on function private.local_time(uuid, timestamptz) is
    'A time in words, to the minute, in the account''s language and by the clocks of its time zone.';
