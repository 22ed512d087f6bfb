-- Made from sql/1_accounts/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


/*
    The time zone of each country, for accounts that give none. A country with several time zones
    has the one of most of its people. From the zone.tab of the IANA time zone database.
*/
create table private.country_time_zones (
    country   text primary key
              constraint country_time_zones_country_check check (country ~ '^[A-Z]{2}$'),
    time_zone text not null
);
alter table private.country_time_zones enable row level security;


insert into private.country_time_zones (country, time_zone)
values
    ('AD', 'Europe/Andorra'), ('AE', 'Asia/Dubai'), ('AF', 'Asia/Kabul'),
    ('AG', 'America/Antigua'), ('AI', 'America/Anguilla'), ('AL', 'Europe/Tirane'),
    ('AM', 'Asia/Yerevan'), ('AO', 'Africa/Luanda'), ('AR', 'America/Argentina/Buenos_Aires'),
    ('AS', 'Pacific/Pago_Pago'), ('AT', 'Europe/Vienna'), ('AU', 'Australia/Sydney'),
    ('AW', 'America/Aruba'), ('AX', 'Europe/Mariehamn'), ('AZ', 'Asia/Baku'),
    ('BA', 'Europe/Sarajevo'), ('BB', 'America/Barbados'), ('BD', 'Asia/Dhaka'),
    ('BE', 'Europe/Brussels'), ('BF', 'Africa/Ouagadougou'), ('BG', 'Europe/Sofia'),
    ('BH', 'Asia/Bahrain'), ('BI', 'Africa/Bujumbura'), ('BJ', 'Africa/Porto-Novo'),
    ('BL', 'America/St_Barthelemy'), ('BM', 'Atlantic/Bermuda'), ('BN', 'Asia/Brunei'),
    ('BO', 'America/La_Paz'), ('BQ', 'America/Kralendijk'), ('BR', 'America/Sao_Paulo'),
    ('BS', 'America/Nassau'), ('BT', 'Asia/Thimphu'), ('BW', 'Africa/Gaborone'),
    ('BY', 'Europe/Minsk'), ('BZ', 'America/Belize'), ('CA', 'America/Toronto'),
    ('CC', 'Indian/Cocos'), ('CD', 'Africa/Kinshasa'), ('CF', 'Africa/Bangui'),
    ('CG', 'Africa/Brazzaville'), ('CH', 'Europe/Zurich'), ('CI', 'Africa/Abidjan'),
    ('CK', 'Pacific/Rarotonga'), ('CL', 'America/Santiago'), ('CM', 'Africa/Douala'),
    ('CN', 'Asia/Shanghai'), ('CO', 'America/Bogota'), ('CR', 'America/Costa_Rica'),
    ('CU', 'America/Havana'), ('CV', 'Atlantic/Cape_Verde'), ('CW', 'America/Curacao'),
    ('CX', 'Indian/Christmas'), ('CY', 'Asia/Nicosia'), ('CZ', 'Europe/Prague'),
    ('DE', 'Europe/Berlin'), ('DJ', 'Africa/Djibouti'), ('DK', 'Europe/Copenhagen'),
    ('DM', 'America/Dominica'), ('DO', 'America/Santo_Domingo'), ('DZ', 'Africa/Algiers'),
    ('EC', 'America/Guayaquil'), ('EE', 'Europe/Tallinn'), ('EG', 'Africa/Cairo'),
    ('EH', 'Africa/El_Aaiun'), ('ER', 'Africa/Asmara'), ('ES', 'Europe/Madrid'),
    ('ET', 'Africa/Addis_Ababa'), ('FI', 'Europe/Helsinki'), ('FJ', 'Pacific/Fiji'),
    ('FK', 'Atlantic/Stanley'), ('FM', 'Pacific/Pohnpei'), ('FO', 'Atlantic/Faroe'),
    ('FR', 'Europe/Paris'), ('GA', 'Africa/Libreville'), ('GB', 'Europe/London'),
    ('GD', 'America/Grenada'), ('GE', 'Asia/Tbilisi'), ('GF', 'America/Cayenne'),
    ('GG', 'Europe/Guernsey'), ('GH', 'Africa/Accra'), ('GI', 'Europe/Gibraltar'),
    ('GL', 'America/Nuuk'), ('GM', 'Africa/Banjul'), ('GN', 'Africa/Conakry'),
    ('GP', 'America/Guadeloupe'), ('GQ', 'Africa/Malabo'), ('GR', 'Europe/Athens'),
    ('GS', 'Atlantic/South_Georgia'), ('GT', 'America/Guatemala'), ('GU', 'Pacific/Guam'),
    ('GW', 'Africa/Bissau'), ('GY', 'America/Guyana'), ('HK', 'Asia/Hong_Kong'),
    ('HN', 'America/Tegucigalpa'), ('HR', 'Europe/Zagreb'), ('HT', 'America/Port-au-Prince'),
    ('HU', 'Europe/Budapest'), ('ID', 'Asia/Jakarta'), ('IE', 'Europe/Dublin'),
    ('IL', 'Asia/Jerusalem'), ('IM', 'Europe/Isle_of_Man'), ('IN', 'Asia/Kolkata'),
    ('IO', 'Indian/Chagos'), ('IQ', 'Asia/Baghdad'), ('IR', 'Asia/Tehran'),
    ('IS', 'Atlantic/Reykjavik'), ('IT', 'Europe/Rome'), ('JE', 'Europe/Jersey'),
    ('JM', 'America/Jamaica'), ('JO', 'Asia/Amman'), ('JP', 'Asia/Tokyo'),
    ('KE', 'Africa/Nairobi'), ('KG', 'Asia/Bishkek'), ('KH', 'Asia/Phnom_Penh'),
    ('KI', 'Pacific/Tarawa'), ('KM', 'Indian/Comoro'), ('KN', 'America/St_Kitts'),
    ('KP', 'Asia/Pyongyang'), ('KR', 'Asia/Seoul'), ('KW', 'Asia/Kuwait'),
    ('KY', 'America/Cayman'), ('KZ', 'Asia/Almaty'), ('LA', 'Asia/Vientiane'),
    ('LB', 'Asia/Beirut'), ('LC', 'America/St_Lucia'), ('LI', 'Europe/Vaduz'),
    ('LK', 'Asia/Colombo'), ('LR', 'Africa/Monrovia'), ('LS', 'Africa/Maseru'),
    ('LT', 'Europe/Vilnius'), ('LU', 'Europe/Luxembourg'), ('LV', 'Europe/Riga'),
    ('LY', 'Africa/Tripoli'), ('MA', 'Africa/Casablanca'), ('MC', 'Europe/Monaco'),
    ('MD', 'Europe/Chisinau'), ('ME', 'Europe/Podgorica'), ('MF', 'America/Marigot'),
    ('MG', 'Indian/Antananarivo'), ('MH', 'Pacific/Majuro'), ('MK', 'Europe/Skopje'),
    ('ML', 'Africa/Bamako'), ('MM', 'Asia/Yangon'), ('MN', 'Asia/Ulaanbaatar'),
    ('MO', 'Asia/Macau'), ('MP', 'Pacific/Saipan'), ('MQ', 'America/Martinique'),
    ('MR', 'Africa/Nouakchott'), ('MS', 'America/Montserrat'), ('MT', 'Europe/Malta'),
    ('MU', 'Indian/Mauritius'), ('MV', 'Indian/Maldives'), ('MW', 'Africa/Blantyre'),
    ('MX', 'America/Mexico_City'), ('MY', 'Asia/Kuala_Lumpur'), ('MZ', 'Africa/Maputo'),
    ('NA', 'Africa/Windhoek'), ('NC', 'Pacific/Noumea'), ('NE', 'Africa/Niamey'),
    ('NF', 'Pacific/Norfolk'), ('NG', 'Africa/Lagos'), ('NI', 'America/Managua'),
    ('NL', 'Europe/Amsterdam'), ('NO', 'Europe/Oslo'), ('NP', 'Asia/Kathmandu'),
    ('NR', 'Pacific/Nauru'), ('NU', 'Pacific/Niue'), ('NZ', 'Pacific/Auckland'),
    ('OM', 'Asia/Muscat'), ('PA', 'America/Panama'), ('PE', 'America/Lima'),
    ('PF', 'Pacific/Tahiti'), ('PG', 'Pacific/Port_Moresby'), ('PH', 'Asia/Manila'),
    ('PK', 'Asia/Karachi'), ('PL', 'Europe/Warsaw'), ('PM', 'America/Miquelon'),
    ('PN', 'Pacific/Pitcairn'), ('PR', 'America/Puerto_Rico'), ('PS', 'Asia/Gaza'),
    ('PT', 'Europe/Lisbon'), ('PW', 'Pacific/Palau'), ('PY', 'America/Asuncion'),
    ('QA', 'Asia/Qatar'), ('RE', 'Indian/Reunion'), ('RO', 'Europe/Bucharest'),
    ('RS', 'Europe/Belgrade'), ('RU', 'Europe/Moscow'), ('RW', 'Africa/Kigali'),
    ('SA', 'Asia/Riyadh'), ('SB', 'Pacific/Guadalcanal'), ('SC', 'Indian/Mahe'),
    ('SD', 'Africa/Khartoum'), ('SE', 'Europe/Stockholm'), ('SG', 'Asia/Singapore'),
    ('SH', 'Atlantic/St_Helena'), ('SI', 'Europe/Ljubljana'), ('SJ', 'Arctic/Longyearbyen'),
    ('SK', 'Europe/Bratislava'), ('SL', 'Africa/Freetown'), ('SM', 'Europe/San_Marino'),
    ('SN', 'Africa/Dakar'), ('SO', 'Africa/Mogadishu'), ('SR', 'America/Paramaribo'),
    ('SS', 'Africa/Juba'), ('ST', 'Africa/Sao_Tome'), ('SV', 'America/El_Salvador'),
    ('SX', 'America/Lower_Princes'), ('SY', 'Asia/Damascus'), ('SZ', 'Africa/Mbabane'),
    ('TC', 'America/Grand_Turk'), ('TD', 'Africa/Ndjamena'), ('TF', 'Indian/Kerguelen'),
    ('TG', 'Africa/Lome'), ('TH', 'Asia/Bangkok'), ('TJ', 'Asia/Dushanbe'),
    ('TK', 'Pacific/Fakaofo'), ('TL', 'Asia/Dili'), ('TM', 'Asia/Ashgabat'),
    ('TN', 'Africa/Tunis'), ('TO', 'Pacific/Tongatapu'), ('TR', 'Europe/Istanbul'),
    ('TT', 'America/Port_of_Spain'), ('TV', 'Pacific/Funafuti'), ('TW', 'Asia/Taipei'),
    ('TZ', 'Africa/Dar_es_Salaam'), ('UA', 'Europe/Kyiv'), ('UG', 'Africa/Kampala'),
    ('US', 'America/New_York'), ('UY', 'America/Montevideo'), ('UZ', 'Asia/Tashkent'),
    ('VA', 'Europe/Vatican'), ('VC', 'America/St_Vincent'), ('VE', 'America/Caracas'),
    ('VG', 'America/Tortola'), ('VI', 'America/St_Thomas'), ('VN', 'Asia/Ho_Chi_Minh'),
    ('VU', 'Pacific/Efate'), ('WF', 'Pacific/Wallis'), ('WS', 'Pacific/Apia'),
    ('YE', 'Asia/Aden'), ('YT', 'Indian/Mayotte'), ('ZA', 'Africa/Johannesburg'),
    ('ZM', 'Africa/Lusaka'), ('ZW', 'Africa/Harare');


comment on table private.country_time_zones is
    'The time zone of each country (ISO 3166-1), for accounts that give only their country.';


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


/*
    An account as a command names it: by its external id, or by its id.
*/
create function private.account_named(account text)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_id uuid;
begin
    select a.id
    into found_id
    from public.accounts a
    where a.external_id = account
       or a.id::text = lower(account)
    -- an external id may look like the id of another account
    order by a.external_id = account desc
    limit 1;
    if found_id is null then
        raise sqlstate 'PT404' using
            message = format('There is no such account: %s.', left(account, 100)),
            detail = 'field: account',
            hint = 'Give the external_id or the id of an account. `rapport account list` shows them.';
    end if;
    return found_id;
end
$$;


comment on function private.account_named(text) is
    'The account with this external_id or this id.';


/*
    The sentences that the system writes for people, in each account's language. The file of a
    subject adds its own sentences to this list.
*/
create table private.sentences (
    key      text not null,
    language text not null
             constraint sentences_language_check check (language in ('en', 'sl')),
    -- with {name} for each value that is filled in
    sentence text not null,

    primary key (key, language)
);
alter table private.sentences enable row level security;


create function private.fill_names(sentence text, filled jsonb)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- one pass, so a value that contains {name} stays as it is
    return (
        select string_agg(part.texts[1] || coalesce(filled ->> part.texts[2], ''), '' order by part.place)
        from regexp_matches(sentence, '([^{]*)(?:\{(\w+)\})?', 'g')
            with ordinality as part (texts, place)
    );
end
$$;


create function private.words(account_id uuid, key text, filled jsonb)
    returns text
    language plpgsql
    stable
    -- definer: users may not read sentences, nor customers accounts
    security definer
    set search_path = ''
as $$
declare
    sentence constant text := (
        select s.sentence
        from public.accounts a
        join private.sentences s
            on s.language = a.language
        where a.id = words.account_id
          and s.key = words.key
    );
begin
    if sentence is null then
        raise exception 'No sentence % in the language of this account.', key;
    end if;
    return private.fill_names(sentence, filled);
end
$$;


comment on table private.sentences is
    'The sentences that the system writes for people, in English and Slovene.';
comment on column private.sentences.key is
    'The subject and its state, such as job.scheduled.';
comment on column private.sentences.sentence is
    'The sentence, with {name} for each value that is filled in.';
comment on function private.fill_names(text, jsonb) is
    'A sentence with its {name} places filled; an unknown name becomes empty.';
comment on function private.words(uuid, text, jsonb) is
    'A sentence in the account''s language, filled.';


/*
    The people who work for an account, with their roles.
*/
create table public.account_members (
    account_id   uuid not null
                 constraint account_members_account_id_fkey
                 references public.accounts on delete cascade,
    user_id      uuid not null,
    role         text not null
                 constraint account_members_role_check
                 check (role in ('owner', 'admin', 'agent', 'viewer')),
    -- the name that colleagues and customers see; no name comes from a payload
    display_name text not null
                 constraint account_members_display_name_check
                 check (display_name <> '' and length(display_name) <= 200),
    created_at   timestamptz not null default now(),

    primary key (account_id, user_id)
);
alter table public.account_members enable row level security;


-- Every policy of every statement reads this table. A hash index reads one page and the row; a
-- B-tree reads one page more. Half-filled pages keep each bucket on one page.
create index account_members_user_id_idx
    on public.account_members
    using hash (user_id)
    with (fillfactor = 40);


create function private.my_account_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    -- plpgsql keeps the plan, and every policy of every statement calls this
    language plpgsql
    stable
    -- definer: otherwise the policy of account_members would call itself
    security definer
    set search_path = ''
    -- the plan must not be the one for an empty table
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid());
end
$$;

grant execute on function private.my_account_ids(boolean) to authenticated;


create function private.my_writable_account_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    language plpgsql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
    set enable_seqscan = off
as $$
begin
    return query
        select m.account_id
        from public.account_members m
        where m.user_id = (select auth.uid())
          and m.role in ('owner', 'admin', 'agent');
end
$$;

grant execute on function private.my_writable_account_ids(boolean) to authenticated;


create function private.my_admin_account_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    language sql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
as $$
    select m.account_id
    from public.account_members m
    where m.user_id = (select auth.uid())
      and m.role in ('owner', 'admin')
$$;

grant execute on function private.my_admin_account_ids(boolean) to authenticated;


create function private.my_owned_account_ids(is_counted boolean default private.check_plan())
    returns setof uuid
    language sql
    stable
    -- definer, as my_account_ids
    security definer
    set search_path = ''
as $$
    select m.account_id
    from public.account_members m
    where m.user_id = (select auth.uid())
      and m.role = 'owner'
$$;

grant execute on function private.my_owned_account_ids(boolean) to authenticated;


create function private.require_member(account_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_account_ids()) then
        raise sqlstate 'PT404' using
            message = 'There is no such account, or it is not yours to see.',
            detail = 'field: account_id';
    end if;
end
$$;


create function private.require_writable(account_id uuid)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    if account_id is null or account_id not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may not write for this account.',
            detail = 'field: account_id',
            hint = 'Its owners, admins and agents may.';
    end if;
end
$$;


-- A user who works for one account need not name it.
create function private.only_account_id(account_ids uuid[])
    returns uuid
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if cardinality(account_ids) > 1 then
        raise sqlstate 'PT422' using
            message = 'account_id is needed: you work for several accounts.',
            detail = 'field: account_id',
            hint = 'Give the id of one of your accounts.';
    end if;
    return account_ids[1];
end
$$;


create function private.only_writable_account_id()
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.only_account_id(array(select private.my_writable_account_ids()));
end
$$;


create function private.tg__default_account()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    new.account_id := private.only_writable_account_id();
    return new;
end
$$;


grant select on public.account_members to authenticated;


comment on table public.account_members is
    'Who works for an account: owner, admin, agent or viewer.';
comment on column public.account_members.account_id is
    'The account for which the person works.';
comment on column public.account_members.user_id is
    'The person''s login (auth.users).';
comment on column public.account_members.role is
    'owner, admin, agent or viewer. Owners and admins also manage the account; viewers only read.';
comment on column public.account_members.display_name is
    'The name that colleagues and customers see.';
comment on column public.account_members.created_at is
    'When the person was added (server time, UTC).';
comment on function private.my_account_ids(boolean) is
    'The accounts for which the signed-in user works. No caller gives the argument: see check_plan.';
comment on function private.my_writable_account_ids(boolean) is
    'The accounts whose contacts and conversations the signed-in user may change, as owner, admin or agent.';
comment on function private.my_admin_account_ids(boolean) is
    'The accounts in which the signed-in user is owner or admin.';
comment on function private.require_member(uuid) is
    'Refuses a caller who does not work for an account (404).';
comment on function private.my_owned_account_ids(boolean) is
    'The accounts that the signed-in user owns.';
comment on function private.require_writable(uuid) is
    'Refuses a caller who may not write for an account: its contacts, its conversations and what follows them.';
comment on function private.only_account_id(uuid[]) is
    'The one account of these; null where there is none. Refuses (422) where there are several.';
comment on function private.only_writable_account_id() is
    'The account of a caller who may write in one account; null for none. Refuses (422) a caller who has to name one.';
comment on function private.tg__default_account() is
    'Gives a row without an account the only one in which its writer may write.';
comment on constraint accounts_external_id_check on public.accounts is
    'An external_id has 1 to 64 letters, digits and hyphens.';
comment on constraint accounts_name_check on public.accounts is
    'An account''s name has 1 to 200 characters.';
comment on constraint accounts_country_check on public.accounts is
    'A country is two capital letters of ISO 3166-1.
Give a code such as SI.';
comment on constraint accounts_language_check on public.accounts is
    'There is no such language of an account.
Use en or sl.';
comment on constraint accounts_messages_kept_days_check on public.accounts is
    'Messages are kept for 30 to 36,500 days, or for ever.
Give a number of days, or null for ever.';
comment on constraint accounts_files_kept_days_check on public.accounts is
    'Files are kept for 30 to 36,500 days, or as long as their messages.
Give a number of days, or null for as long as their messages.';
comment on constraint accounts_quiet_until_check on public.accounts is
    'Quiet hours need two different times of day, or none.
Give quiet_from and quiet_until, such as 21:00 and 08:00, or null for both.';


/*
    Owners invite people to work for an account. The invited person claims the invitation, signed in
    with the address that it is for. So nobody works for an account without an act of their own, and
    an owner does not learn which addresses have a login here.

    backend.add_member does it in one step, for the people who run the deployment.
*/
create table private.member_invitations (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null
                 constraint member_invitations_account_id_fkey
                 references public.accounts on delete cascade,
    -- in lower case
    email        text not null,
    role         text not null
                 constraint member_invitations_role_check
                 check (role in ('owner', 'admin', 'agent', 'viewer')),
    display_name text not null
                 constraint member_invitations_display_name_check
                 check (display_name <> '' and length(display_name) <= 200),
    -- the token has 256 random bits, so nobody can guess it from a plain hash
    token_hash   bytea not null
                 constraint member_invitations_token_hash_key unique,
    -- the owner who invites; with the member go the invitations
    invited_by   uuid not null,
    -- the login that claimed it; null until then
    claimed_by   uuid,
    expires_at   timestamptz not null,

    -- a later invitation of the same address takes the place of the earlier one
    constraint member_invitations_email_key unique (account_id, email),
    constraint member_invitations_invited_by_fkey
        foreign key (account_id, invited_by)
        references public.account_members
        on delete cascade
);
alter table private.member_invitations enable row level security;


create index member_invitations_invited_by_idx
    on private.member_invitations (account_id, invited_by);


create function private.require_member_words(email text, role text)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if (email ~ '^[^[:space:]@]+@[^[:space:]@]+\.[^[:space:]@]+$' and length(email) <= 255) is not true then
        raise sqlstate 'PT422' using
            message = 'This is not an email address.',
            detail = 'field: email',
            hint = 'Give one such as olivia@alpine.example.';
    elsif (role in ('owner', 'admin', 'agent', 'viewer')) is not true then
        raise sqlstate 'PT422' using
            message = 'There is no such role.',
            detail = 'field: role',
            hint = 'Give owner, admin, agent or viewer.';
    end if;
end
$$;


create function private.name_of_email(email text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return initcap(translate(split_part(email, '@', 1), '._-+', '    '));
end
$$;


create function private.require_owner(account_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.require_member(account_id);
    -- the lock: who loses the role at this moment has it until the invitation is there to be ended
    perform
    from public.account_members m
    where m.account_id = require_owner.account_id
      and m.user_id = auth.uid()
      and m.role = 'owner'
    for share;
    if not found then
        raise insufficient_privilege using
            message = 'You may not decide who works for this account.',
            detail = 'field: account_id',
            hint = 'Its owners may.';
    end if;
end
$$;


create function private.invite_member(
    account_id uuid,
    email text,
    role text,
    display_name text,
    valid_for interval
)
    returns jsonb
    language plpgsql
    -- definer: only this function writes invitations; it checks the caller
    security definer
    set search_path = ''
as $$
declare
    -- 32 random bytes as base64url
    token constant text :=
        translate(encode(extensions.gen_random_bytes(32), 'base64'), '+/=', '-_');
    expires_at constant timestamptz := now() + valid_for;
begin
    perform private.require_owner(account_id);
    perform private.require_member_words(email => btrim(email), role => role);
    if (valid_for between interval '5 minutes' and interval '30 days') is not true then
        raise sqlstate 'PT422' using
            message = 'An invitation must be valid for 5 minutes to 30 days.',
            detail = 'field: valid_for',
            hint = 'Give a valid_for in between, such as 7 days.';
    elsif length(display_name) > 200 then
        raise sqlstate 'PT422' using
            message = 'A name has 200 characters at most.',
            detail = 'field: display_name',
            hint = 'Give a shorter one, or none.';
    end if;

    -- addresses of people who did not come
    delete from private.member_invitations i
    where i.account_id = invite_member.account_id
      and i.expires_at < now() - interval '30 days';
    insert into private.member_invitations as i (
        account_id, email, role, display_name, token_hash, invited_by, expires_at
    )
    values (
        invite_member.account_id,
        lower(btrim(invite_member.email)),
        invite_member.role,
        coalesce(nullif(btrim(invite_member.display_name), ''), private.name_of_email(btrim(invite_member.email))),
        sha256(convert_to(token, 'UTF8')),
        auth.uid(),
        expires_at
    )
    on conflict on constraint member_invitations_email_key do update
        set role = excluded.role,
            display_name = excluded.display_name,
            token_hash = excluded.token_hash,
            invited_by = excluded.invited_by,
            expires_at = excluded.expires_at,
            claimed_by = null;
    return jsonb_build_object('token', token, 'expires_at', expires_at);
end
$$;

grant execute on function private.invite_member(uuid, text, text, text, interval) to authenticated;


create function public.invite_member(
    account_id uuid,
    email text,
    role text,
    display_name text default null,
    valid_for interval default '7 days'
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.invite_member(
        account_id => invite_member.account_id,
        email => invite_member.email,
        role => invite_member.role,
        display_name => invite_member.display_name,
        valid_for => invite_member.valid_for
    );
end
$$;

grant execute on function public.invite_member(uuid, text, text, text, interval) to authenticated;


create function private.revoke_member_invitation(account_id uuid, email text)
    returns void
    language plpgsql
    -- definer: as invite_member
    security definer
    set search_path = ''
as $$
begin
    perform private.require_owner(account_id);
    delete from private.member_invitations i
    where i.account_id = revoke_member_invitation.account_id
      and i.email = lower(btrim(revoke_member_invitation.email))
      and i.claimed_by is null;
    if not found then
        raise sqlstate 'PT404' using
            message = 'No invitation of this address is open.',
            detail = 'field: email',
            hint = 'Give the address that was invited. Who has claimed an invitation is a member.';
    end if;
end
$$;

grant execute on function private.revoke_member_invitation(uuid, text) to authenticated;


create function public.revoke_member_invitation(account_id uuid, email text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.revoke_member_invitation(
        account_id => revoke_member_invitation.account_id,
        email => revoke_member_invitation.email
    );
end
$$;

grant execute on function public.revoke_member_invitation(uuid, text) to authenticated;


-- Who is removed takes the invitations along by the foreign key; this is for who stays as less.
create function private.tg__end_member_invitations()
    returns trigger
    language plpgsql
    -- definer: users may not write invitations
    security definer
    set search_path = ''
as $$
begin
    delete from private.member_invitations i
    where i.account_id = new.account_id
      and i.invited_by = new.user_id
      and i.claimed_by is null;
    return null;
end
$$;

create trigger _300_end_member_invitations
    after update of role on public.account_members
    for each row
    when (old.role = 'owner' and new.role <> 'owner')
    execute function private.tg__end_member_invitations();


create function private.claim_member_invitation(token text)
    returns jsonb
    language plpgsql
    -- definer: tokens are not readable, and users may not write members
    security definer
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
    invitation private.member_invitations;
    present_role text;
begin
    if caller is null then
        raise insufficient_privilege using
            message = 'You must sign in to claim an invitation.',
            hint = 'Sign up or sign in first.';
    end if;
    select i.*
    into invitation
    from private.member_invitations i
    where i.token_hash = sha256(convert_to(claim_member_invitation.token, 'UTF8'))
    for no key update;
    if invitation.claimed_by = caller then
        -- the answer was lost, and the same caller asks again; a member who has left is none
        select m.role
        into present_role
        from public.account_members m
        where m.account_id = invitation.account_id
          and m.user_id = caller;
    end if;
    if invitation.id is null or (invitation.claimed_by is not null and present_role is null) then
        raise sqlstate 'PT404' using
            message = 'This invitation is not valid, or no longer valid.',
            detail = 'field: token',
            hint = 'Ask an owner of the account for a new one.';
    elsif invitation.claimed_by is null then
        if invitation.expires_at <= now() then
            raise sqlstate 'PT410' using
                message = 'This invitation has expired.',
                detail = 'field: token',
                hint = 'Ask an owner of the account for a new one.';
        elsif not exists (
            select
            from auth.users u
            where u.id = caller
              and lower(u.email) = invitation.email
              and u.email_confirmed_at is not null
        ) then
            raise sqlstate 'PT409' using
                message = 'This invitation is for another email address.',
                detail = 'field: invitation',
                hint = 'Sign in with the address that was invited.';
        end if;

        insert into public.account_members (account_id, user_id, role, display_name)
        values (invitation.account_id, caller, invitation.role, invitation.display_name)
        on conflict do nothing;
        update private.member_invitations i
        set claimed_by = caller
        where i.id = invitation.id;
        select m.role
        into present_role
        from public.account_members m
        where m.account_id = invitation.account_id
          and m.user_id = caller;
    end if;
    return jsonb_build_object('account_id', invitation.account_id, 'role', present_role);
end
$$;

grant execute on function private.claim_member_invitation(text) to authenticated;


create function public.claim_member_invitation(token text)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.claim_member_invitation(claim_member_invitation.token);
end
$$;

grant execute on function public.claim_member_invitation(text) to authenticated;


comment on table private.member_invitations is
    'Invitations to work for an account. Of each token only the SHA-256 is stored.';
comment on function private.require_member_words(text, text) is
    'Refuses what is no email address, and what is no role (422).';
comment on function private.name_of_email(text) is
    'A name for a person of whom only the address is known.';
comment on column private.member_invitations.invited_by is
    'The owner who invites. Open invitations end when this person is removed or is no longer an owner.';
comment on function private.require_owner(uuid) is
    'Refuses a caller who does not own an account, and keeps the role until the transaction ends.';
comment on function private.revoke_member_invitation(uuid, text) is
    'Ends an open invitation, of any owner.';
comment on function private.tg__end_member_invitations() is
    'Ends the open invitations of an owner who becomes less.';
comment on function public.revoke_member_invitation(uuid, text) is
    'Ends the open invitation of an email address to work for an account. For its owners. An address without an open invitation: 404.';
comment on function private.invite_member(uuid, text, text, text, interval) is
    'Makes an invitation in place of an earlier one of the same address.';
comment on function private.claim_member_invitation(text) is
    'Makes the caller a member of the account.';
comment on function public.invite_member(uuid, text, text, text, interval) is
    'Invites a person, by email address, to work for an account as owner, admin, agent or viewer. For its owners. Only this answer holds the token. The person who gives it to claim_member_invitation, signed in with that address, becomes a member. An earlier invitation of the same address ends. It ends also when the inviting owner is removed or is no longer an owner, and by revoke_member_invitation.'
    ' Type: {token: text, expires_at: timestamptz}';
comment on function public.claim_member_invitation(text) is
    'Makes you a member of the account that invited your email address. Claiming it again gives the same answer, and if you were a member before, your role stays. Refused: an invitation that is unknown or claimed (404), one that has expired (410), and one for another address, or for yours before it is confirmed (409).'
    ' Type: {account_id: uuid, role: account_members.role}';


/*
    Owners see who is invited, give members another role or name, and remove them.
*/
create function private.open_member_invitations(account_id uuid)
    returns table (
        email        text,
        role         text,
        display_name text,
        invited_by   text,
        expires_at   timestamptz
    )
    language plpgsql
    -- definer: invitations are not readable; the caller is checked first
    security definer
    set search_path = ''
as $$
begin
    perform private.require_owner(account_id);
    return query
        select i.email, i.role, i.display_name, m.display_name, i.expires_at
        from private.member_invitations i
        join public.account_members m
            on m.account_id = i.account_id
           and m.user_id = i.invited_by
        where i.account_id = open_member_invitations.account_id
          and i.claimed_by is null
        order by i.email;
end
$$;

grant execute on function private.open_member_invitations(uuid) to authenticated;


create function public.open_member_invitations(account_id uuid)
    returns table (
        email        text,
        role         text,
        display_name text,
        invited_by   text,
        expires_at   timestamptz
    )
    language plpgsql
    set search_path = ''
as $$
begin
    return query
        select * from private.open_member_invitations(open_member_invitations.account_id);
end
$$;

grant execute on function public.open_member_invitations(uuid) to authenticated;


-- The member, locked. Refuses a caller who is no owner, and the end of the last owner.
create function private.managed_member(account_id uuid, user_id uuid, is_owner_after boolean)
    returns public.account_members
    language plpgsql
    set search_path = ''
as $$
declare
    member public.account_members;
begin
    perform private.require_member(account_id);
    -- as add_member: two changes at once must not leave the account without an owner
    perform
    from public.accounts a
    where a.id = managed_member.account_id
    for no key update;
    perform private.require_owner(account_id);

    select m.*
    into member
    from public.account_members m
    where m.account_id = managed_member.account_id
      and m.user_id = managed_member.user_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'This person does not work for the account, or not any more.',
            detail = 'field: user_id',
            hint = 'Look at the members again.';
    elsif member.role = 'owner' and not is_owner_after and not exists (
        select
        from public.account_members m
        where m.account_id = managed_member.account_id
          and m.user_id <> managed_member.user_id
          and m.role = 'owner'
    ) then
        raise sqlstate 'PT409' using
            message = 'This is the only owner of the account.',
            detail = 'field: role',
            hint = 'Make somebody else an owner first.';
    end if;
    return member;
end
$$;


create function private.change_member(account_id uuid, user_id uuid, role text, display_name text)
    returns void
    language plpgsql
    -- definer: users may not write members; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    member public.account_members;
    shown constant text := nullif(btrim(display_name), '');
begin
    if role not in ('owner', 'admin', 'agent', 'viewer') then
        raise sqlstate 'PT422' using
            message = 'There is no such role.',
            detail = 'field: role',
            hint = 'Give owner, admin, agent or viewer.';
    elsif length(shown) > 200 then
        raise sqlstate 'PT422' using
            message = 'A name has 200 characters at most.',
            detail = 'field: display_name',
            hint = 'Give a shorter one.';
    end if;
    member := private.managed_member(
        account_id => change_member.account_id,
        user_id => change_member.user_id,
        is_owner_after => coalesce(change_member.role, 'owner') = 'owner'
    );
    update public.account_members m
    set role = coalesce(change_member.role, m.role),
        display_name = coalesce(shown, m.display_name)
    where m.account_id = member.account_id
      and m.user_id = member.user_id;
end
$$;

grant execute on function private.change_member(uuid, uuid, text, text) to authenticated;


create function public.change_member(
    account_id uuid,
    user_id uuid,
    role text default null,
    display_name text default null
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.change_member(
        account_id => change_member.account_id,
        user_id => change_member.user_id,
        role => change_member.role,
        display_name => change_member.display_name
    );
end
$$;

grant execute on function public.change_member(uuid, uuid, text, text) to authenticated;


create function private.remove_member(account_id uuid, user_id uuid)
    returns void
    language plpgsql
    -- definer: as change_member
    security definer
    set search_path = ''
as $$
declare
    member constant public.account_members := private.managed_member(
        account_id => remove_member.account_id,
        user_id => remove_member.user_id,
        is_owner_after => false
    );
begin
    delete from public.account_members m
    where m.account_id = member.account_id
      and m.user_id = member.user_id;
end
$$;

grant execute on function private.remove_member(uuid, uuid) to authenticated;


create function public.remove_member(account_id uuid, user_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.remove_member(
        account_id => remove_member.account_id, user_id => remove_member.user_id);
end
$$;

grant execute on function public.remove_member(uuid, uuid) to authenticated;


comment on function private.open_member_invitations(uuid) is
    'The invitations of an account that nobody has claimed.';
comment on function public.open_member_invitations(uuid) is
    'The invitations to work for an account that nobody has claimed, also those that have expired: the address, the role and the name that it gives, who invites, and until when it is valid (UTC). For the account''s owners.'
    ' Type: {email: text, role: account_members.role, display_name: text, invited_by: text, expires_at: timestamptz}[]';
comment on function private.managed_member(uuid, uuid, boolean) is
    'A member whom the caller, an owner, is about to change or remove. Refuses to end the last owner.';
comment on function private.change_member(uuid, uuid, text, text) is
    'Gives a member another role or name.';
comment on function public.change_member(uuid, uuid, text, text) is
    'Gives a member of an account another role (owner, admin, agent or viewer) or name; what is left out stays. For the account''s owners. Refused: a person who does not work for it (404), and another role for the only owner (409).';
comment on function private.remove_member(uuid, uuid) is
    'Ends a member''s work for an account.';
comment on function public.remove_member(uuid, uuid) is
    'Removes a member from an account: the person sees nothing of it from then on, and conversations that the person has are free. For the account''s owners. Refused: a person who does not work for it (404), and the only owner (409).';


/*
    Quiet hours: the part of each day, on the clocks of the account's time zone, in which nothing is
    sent that could be sent at another time. A clock that is put forward or back moves their
    beginning and end with it.
*/
create function private.quiet_span(
    quiet_from time,
    quiet_until time,
    time_zone text,
    at timestamptz
)
    returns tstzrange
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    local constant timestamp := at at time zone time_zone;
    over_midnight constant boolean := quiet_from > quiet_until;
    is_morning constant boolean := over_midnight and local::time < quiet_until;
    first_day constant date := local::date - is_morning::integer;
begin
    if is_morning
        or local::time >= quiet_from and (over_midnight or local::time < quiet_until)
    then
        return tstzrange(
            -- an hour that the clocks show twice counts as its second time
            least((first_day + quiet_from) at time zone time_zone, at),
            greatest(
                (first_day + over_midnight::integer + quiet_until) at time zone time_zone,
                at + interval '1 minute'
            )
        );
    end if;
    return null;
end
$$;


create function private.quiet_span(account_id uuid, at timestamptz)
    returns tstzrange
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select private.quiet_span(a.quiet_from, a.quiet_until, a.time_zone, at)
        from public.accounts a
        where a.id = quiet_span.account_id
    );
end
$$;


create function private.after_quiet_hours(
    quiet_from time,
    quiet_until time,
    time_zone text,
    at timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    span tstzrange;
    loud timestamptz := at;
begin
    -- a clock that is put forward may pass over the end, so look again
    for attempt in 1 .. 3 loop
        span := private.quiet_span(quiet_from, quiet_until, time_zone, loud);
        exit when span is null;
        loud := upper(span);
    end loop;
    return loud;
end
$$;


create function private.after_quiet_hours(account_id uuid, at timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select private.after_quiet_hours(a.quiet_from, a.quiet_until, a.time_zone, at)
        from public.accounts a
        where a.id = after_quiet_hours.account_id
    );
end
$$;


comment on function private.quiet_span(time, time, text, timestamptz) is
    'The quiet hours in which a time lies, from beginning to end; null if it lies in none.';
comment on function private.quiet_span(uuid, timestamptz) is
    'The quiet hours of an account in which a time lies; null if it lies in none.';
comment on function private.after_quiet_hours(time, time, text, timestamptz) is
    'A time, or the end of the quiet hours in which it lies.';
comment on function private.after_quiet_hours(uuid, timestamptz) is
    'A time, or the end of the account''s quiet hours in which it lies.';


/*
    The WhatsApp numbers of an account. Only the phone_number_id of a webhook says to which
    account it belongs.
*/
create table public.whatsapp_channels (
    id                   uuid primary key default gen_random_uuid(),
    account_id           uuid not null
                         constraint whatsapp_channels_account_id_fkey
                         references public.accounts on delete cascade,
    -- Meta's id of the number: unique, or a message could reach another account
    phone_number_id      text not null
                         constraint whatsapp_channels_phone_number_id_key unique
                         constraint whatsapp_channels_phone_number_id_check
                         check (phone_number_id ~ '^[0-9]{1,32}$'),
    -- Meta's id of the WhatsApp Business account, which owns the templates
    waba_id              text
                         constraint whatsapp_channels_waba_id_check
                         check (waba_id ~ '^[0-9]{1,32}$'),
    display_phone_number text not null,
    name                 text not null,
    messages_per_second  integer not null default 80
                         constraint whatsapp_channels_messages_per_second_check
                         check (messages_per_second between 1 and 1000),
    -- nothing is sent from a stopped number until a person has solved the problem
    stopped_at           timestamptz,
    stopped_code         integer,
    stopped_reason       text,
    -- nothing is sent from a paused number until a person resumes it; see pause_sending
    paused_at            timestamptz,
    created_at           timestamptz not null default now(),

    -- foreign keys with the account refer to this
    constraint whatsapp_channels_id_account_id_key unique (id, account_id)
);
alter table public.whatsapp_channels enable row level security;


create index whatsapp_channels_account_id_idx on public.whatsapp_channels (account_id);


grant select on public.whatsapp_channels to authenticated;


comment on table public.whatsapp_channels is
    'A WhatsApp number of an account, by Meta''s phone_number_id.';
comment on column public.whatsapp_channels.id is
    'Identifies the number; conversations and messages name it as whatsapp_channel_id.';
comment on column public.whatsapp_channels.account_id is
    'The account that owns the number.';
comment on column public.whatsapp_channels.phone_number_id is
    'Meta''s id of the number. It belongs to one account only.';
comment on column public.whatsapp_channels.display_phone_number is
    'The number as people write it.';
comment on column public.whatsapp_channels.name is
    'The name of the number, for staff.';
comment on column public.whatsapp_channels.created_at is
    'When the number was added (server time, UTC).';
comment on column public.whatsapp_channels.waba_id is
    'Meta''s id of the WhatsApp Business account that owns the number and its templates; null is unknown.';
comment on column public.whatsapp_channels.messages_per_second is
    'How many messages a second WhatsApp accepts from this number: 80, 1,000 after an upgrade, 20 if the phone app uses it too.';
comment on column public.whatsapp_channels.stopped_at is
    'Since when nothing is sent from this number (server time, UTC); null while it sends. resume_channel starts it again.';
comment on column public.whatsapp_channels.stopped_code is
    'WhatsApp''s error code that stopped the number; null while it sends.';
comment on column public.whatsapp_channels.stopped_reason is
    'A sentence that says why the number is stopped; null while it sends.';
comment on column public.whatsapp_channels.paused_at is
    'Since when a person has nothing sent from this number (server time, UTC); null while it sends. See pause_sending and resume_sending.';


/*
    The limits of one user, so that one login never slows down the others: how many requests at
    once, how many messages and other writes in a minute, how many rows in a request.

    PostgREST calls before_request at the start of every request's transaction. A read is a
    read-only transaction: it can't write a counter, but it can take advisory locks. So advisory
    locks say how many requests of a user are at work:

        8 may be there at once, and more are refused: PostgREST has ten connections or more, and
          some must stay free for others;
        one of them reads and one writes, and the others wait for these, up to two seconds. So a
          user takes no more of the processors than that, even if a request embeds very much.

    refuse_embedding has the limits of embedding. The gateway of the embedded stack also lets
    a user's requests wait before they cost anything here (functions/rapport/local/supabase/shares.py);
    a hosted project has a gateway of its own. Through it, 16 connections of one user on two busy
    cores raise the 95th percentile of another user's reads by a factor of 1.2 (100 times 1,000
    embedded messages, small reads, refused writes) to 1.5 (reads of 1,000 rows).

    Writes are counted for each user and minute. Calls of the functions (service_role) are not
    counted, nor are rows that a definer function writes for a user besides the request's own. A
    write that is refused takes its count back with it, and that is no harm: one write of a user is
    at work at a time, and where they crowd the gateway lets about 20 in a second through.
*/
create type private.request_limits as (
    messages_per_minute  integer,
    messages_per_request integer,
    writes_per_minute    integer,
    rows_per_request     integer
);


-- unlogged: the counts need not survive a crash
create unlogged table private.user_writes (
    user_id  uuid not null,
    -- one slot for each of the user's requests at the same time: they never wait for each other's
    -- row
    slot     smallint not null,
    -- minutes since 1970; counts of another minute are void
    minute   integer not null,
    writes   integer not null,
    messages integer not null default 0,

    primary key (user_id, slot)
)
    with (fillfactor = 50);
alter table private.user_writes enable row level security;


create function private.request_limits(user_id uuid)
    returns private.request_limits
    language plpgsql
    stable
    -- definer: customers may not read accounts
    security definer
    set search_path = ''
as $$
declare
    limits private.request_limits;
begin
    -- the highest limits of the accounts in which the user is staff or a customer
    select
        max(a.messages_per_minute),
        max(a.messages_per_request),
        max(a.writes_per_minute),
        max(a.rows_per_request)
    into limits
    from (
        select m.account_id
        from public.account_members m
        where m.user_id = request_limits.user_id
        union all
        select c.account_id
        from public.customers c
        where c.portal_user_id = request_limits.user_id
    ) mine
    join public.accounts a
        on a.id = mine.account_id;

    -- a user without an account only sends the token of an invitation
    return coalesce(limits, (1, 1, 60, 1)::private.request_limits);
end
$$;


create function private.refuse_for_now(message text, hint text, seconds integer)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- PostgREST makes status, headers and body from these
    raise sqlstate 'PGRST' using
        message = jsonb_build_object(
            'code', 'PT429',
            'message', message,
            'details', format('retry after: %s s', seconds),
            'hint', hint
        )::text,
        detail = jsonb_build_object(
            'status', 429,
            'headers', jsonb_build_object('Retry-After', seconds::text)
        )::text;
end
$$;


create function private.this_minute()
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return extract(epoch from now())::bigint / 60;
end
$$;


create function private.rest_of_minute()
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 60 - floor(extract(second from now()))::integer;
end
$$;


create function private.take_slot(user_id uuid, is_reading boolean)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    at_once constant integer := 8;
    -- of all users together, once more than one of them waits
    most_waiting constant integer := 4;
    key constant integer := uuid_hash(user_id);
    work constant integer := case when is_reading then -1 else -2 end;
    patience constant text := current_setting('lock_timeout');
    taken integer;
begin
    for slot in 1 .. at_once loop
        if pg_try_advisory_xact_lock(key, slot) then
            taken := slot;
            exit;
        end if;
    end loop;
    if taken is null then
        perform private.refuse_for_now(
            message => format('You have %s requests at work.', at_once),
            hint => 'Wait for their answers before you send more.',
            seconds => 1
        );
    elsif pg_try_advisory_xact_lock(key, work) then
        return taken;
    end if;

    -- A request that waits keeps a connection of PostgREST's, which others need: one user may
    -- wait with all requests, several share a few.
    if (
        select count(*) >= most_waiting and bool_or(l.classid::bigint <> key::bigint & 4294967295)
        from pg_catalog.pg_locks l
        where l.locktype = 'advisory'
          and l.objsubid = 2
          and l.objid in (4294967295, 4294967294)
          and not l.granted
    ) then
        perform private.refuse_for_now(
            message => 'Too many requests wait for others of the same user.',
            hint => 'Send one request after the other.',
            seconds => 1
        );
    end if;
    begin
        perform set_config('lock_timeout', '2s', true);
        perform pg_advisory_xact_lock(key, work);
        perform set_config('lock_timeout', patience, true);
    exception
        when lock_not_available then
            perform private.refuse_for_now(
                message => 'Another request of yours has been at work for more than 2 seconds.',
                hint => 'Wait for its answer, and ask for fewer rows at a time.',
                seconds => 2
            );
    end;
    return taken;
end
$$;


create function private.count_request(user_id uuid, slot integer)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    present constant integer := private.this_minute();
    allowed constant integer := (private.request_limits(user_id)).writes_per_minute;
    so_far bigint;
begin
    insert into private.user_writes as w (user_id, slot, minute, writes)
    values (count_request.user_id, count_request.slot, present, 1)
    on conflict on constraint user_writes_pkey do update
        set minute = present,
            writes = case when w.minute = present then w.writes + 1 else 1 end,
            messages = case when w.minute = present then w.messages else 0 end;

    select sum(w.writes)
    into so_far
    from private.user_writes w
    where w.user_id = count_request.user_id
      and w.minute = present;
    if so_far > allowed then
        perform private.refuse_for_now(
            message => format('You have written %s times in this minute.', so_far - 1),
            hint => format('A user may write %s times in a minute; go on in the next.', allowed),
            seconds => private.rest_of_minute()
        );
    end if;
end
$$;


create function private.before_request()
    returns void
    language plpgsql
    -- definer: users may not write counts
    security definer
    set search_path = ''
as $$
declare
    is_reading constant boolean := current_setting('transaction_read_only') = 'on';
    me uuid;
    slot integer;
begin
    perform private.check_request();
    if current_setting('role') = 'service_role' then
        return;
    elsif nullif(current_setting('request.headers', true), '')::json ->> 'prefer'
        ~* '\mcount=(planned|estimated)\M'
    then
        perform private.refuse_estimate();
    end if;
    me := auth.uid();
    if me is null then
        return;
    end if;
    slot := private.take_slot(user_id => me, is_reading => is_reading);
    if not is_reading then
        perform private.count_request(user_id => me, slot => slot);
        perform set_config('rapport.slot', slot::text, true);
    end if;
end
$$;

-- PostgREST calls it in the role of each request
grant usage on schema private to anon, service_role;
grant execute on function private.before_request() to anon, authenticated, service_role;


create function private.hold_to_rows(rows integer, messages integer)
    returns void
    language plpgsql
    -- definer: it reads limits that the caller may not see
    security definer
    set search_path = ''
as $$
declare
    -- of this request
    rows_so_far constant integer :=
        coalesce(private.setting('rapport.rows_written')::integer, 0) + rows;
    limits private.request_limits;
begin
    perform set_config('rapport.rows_written', rows_so_far::text, true);
    if rows_so_far = 1 then
        return;
    end if;
    limits := private.request_limits(auth.uid());
    if messages > limits.messages_per_request then
        raise sqlstate 'PT413' using
            message = format('These are %s messages in one request.', messages),
            hint = format(
                'At most %s; send the rest in further requests.', limits.messages_per_request);
    elsif rows_so_far > limits.rows_per_request then
        raise sqlstate 'PT413' using
            message = format('These are more than %s rows in one request.', limits.rows_per_request),
            hint = 'Write the rest in further requests.';
    end if;
end
$$;

grant execute on function private.hold_to_rows(integer, integer) to authenticated;


create function private.count_rows(messages integer)
    returns void
    language plpgsql
    -- definer: as before_request
    security definer
    set search_path = ''
as $$
declare
    me constant uuid := auth.uid();
    my_slot constant text := private.setting('rapport.slot');
    rows_so_far constant text := current_setting('rapport.rows_written', true);
    counted constant text := coalesce(private.setting('rapport.rows_counted'), '0');
    allowed integer;
    messages_so_far bigint;
begin
    -- not a request through PostgREST
    if my_slot is null then
        return;
    end if;
    update private.user_writes w
    set writes = w.writes + rows_so_far::integer - counted::integer,
        messages = w.messages + count_rows.messages
    where w.user_id = me
      and w.slot = my_slot::smallint;
    perform set_config('rapport.rows_counted', rows_so_far, true);
    if messages = 0 then
        return;
    end if;

    select sum(w.messages)
    into messages_so_far
    from private.user_writes w
    where w.user_id = me
      and w.minute = private.this_minute();
    allowed := (private.request_limits(me)).messages_per_minute;
    if messages_so_far > allowed then
        perform private.refuse_for_now(
            message => format(
                'You have written %s messages in this minute.', messages_so_far - messages),
            hint => format('A user may write %s in a minute; go on in the next.', allowed),
            seconds => private.rest_of_minute()
        );
    end if;
end
$$;

grant execute on function private.count_rows(integer) to authenticated;


create function private.tg__count_rows()
    returns trigger
    language plpgsql
    -- invoker: rows that definer functions write are not counted, see the triggers' condition
    set search_path = ''
as $$
declare
    written constant integer := (select count(*) from written_rows);
    messages constant integer :=
        case when tg_table_name = 'messages' and tg_op = 'INSERT' then written else 0 end;
begin
    if written > 0 then
        perform private.hold_to_rows(rows => written, messages => messages);
        perform private.count_rows(messages => messages);
    end if;
    return null;
end
$$;


create function private.tg_messages__hold_to_request()
    returns trigger
    language plpgsql
    -- definer: the caller may not read the limits of accounts
    security definer
    set search_path = ''
as $$
declare
    tried constant integer :=
        coalesce(private.setting('rapport.messages_tried'), '0')::integer + 1;
    allowed integer;
begin
    perform set_config('rapport.messages_tried', tried::text, true);
    if tried > 1 then
        allowed := (private.request_limits(auth.uid())).messages_per_request;
        -- before a message takes locks: of thousands they would fill the table of locks
        if tried > allowed then
            raise sqlstate 'PT413' using
                message = format('These are more than %s messages in one request.', allowed),
                hint = 'Send the rest in further requests.';
        end if;
    end if;
    return new;
end
$$;


create function private.tg__hold_to_rows()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    -- an "instead of" trigger can't have a condition
    if current_user = 'authenticated' then
        perform private.hold_to_rows(rows => 1, messages => 0);
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;


create function private.tg__count_view_rows()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if current_setting('rapport.rows_written', true) <> '' then
        perform private.count_rows(messages => 0);
    end if;
    return null;
end
$$;


create function private.limit_writes(relation_name text, operations text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    is_view constant boolean := (
        select c.relkind = 'v'
        from pg_class c
        where c.oid = format('public.%I', relation_name)::regclass
    );
    operation text;
begin
    foreach operation in array operations loop
        if is_view then
            execute format(
                'create trigger _400_hold_to_rows_%1$s'
                ' instead of %1$s on public.%2$I'
                ' for each row'
                ' execute function private.tg__hold_to_rows()',
                operation, relation_name
            );
            execute format(
                'create trigger _990_count_rows_%1$s'
                ' after %1$s on public.%2$I'
                ' for each statement'
                ' when (current_user = ''authenticated'')'
                ' execute function private.tg__count_view_rows()',
                operation, relation_name
            );
        else
            execute format(
                'create trigger _990_count_rows_%1$s'
                ' after %1$s on public.%2$I'
                ' referencing %3$s table as written_rows'
                ' for each statement'
                ' when (current_user = ''authenticated'')'
                ' execute function private.tg__count_rows()',
                operation, relation_name, case operation when 'delete' then 'old' else 'new' end
            );
        end if;
    end loop;
end
$$;


-- PostgREST reads its settings from the role with which it signs in, as on a hosted project
alter role authenticator set pgrst.db_pre_request = 'private.before_request';
notify pgrst, 'reload config';


comment on type private.request_limits is
    'The limits of one user, from public.accounts.';
comment on table private.user_writes is
    'How much each user has written in the present minute: one row for each of the user''s requests at the same time.';
comment on column private.user_writes.writes is
    'Requests that write, plus the rows that they wrote.';
comment on function private.request_limits(uuid) is
    'The limits of a user: the highest that one of the user''s accounts allows.';
comment on function private.refuse_for_now(text, text, integer) is
    'Refuses a request with 429 and Retry-After.';
comment on function private.this_minute() is
    'The present minute, counted from 1970.';
comment on function private.rest_of_minute() is
    'Seconds until the next minute, 1 to 60.';
comment on function private.take_slot(uuid, boolean) is
    'Lets a request of a user start, at once or after a wait, and returns its slot (1 to 8). If all slots are taken, or the wait takes too long: 429.';
comment on function private.count_request(uuid, integer) is
    'Counts a request that writes. If the user has written too often in this minute: 429.';
comment on function private.before_request() is
    'PostgREST calls this before every request: it checks grants and holds signed-in users to their limits.';
comment on function private.hold_to_rows(integer, integer) is
    'Refuses more rows or messages than a user may write in one request: 413.';
comment on function private.count_rows(integer) is
    'Counts the rows that a request has written, and the messages among them. If there are too many messages in this minute: 429.';
comment on function private.tg__count_rows() is
    'Counts the rows that a user''s statement has written.';
comment on function private.tg_messages__hold_to_request() is
    'Refuses a request with more messages than the account allows, at the first message too many.';
comment on function private.tg__hold_to_rows() is
    'Counts a row that a user writes through a view.';
comment on function private.tg__count_view_rows() is
    'Counts the rows that a user''s statement has written through a view.';
comment on function private.limit_writes(text, text[]) is
    'From now on counts the rows that users write to a table or view by these operations.';


select private.limit_writes('accounts', '{update}');


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
comment on function private.require_room(uuid, text, bigint) is
    'Refuses (403) to add messages, contacts or file_bytes to an account beyond its quota.';
comment on function backend.count_usage(integer) is
    'Counts what accounts keep that were counted more than 50 minutes ago, at most batch (1 to 500); returns their number. Call it again until it is 0.';


/*
    The first steps of a deployment: an account, its members and its WhatsApp numbers. The commands
    `rapport account create`, `member add` and `number add` call these functions. Each answers what
    there is afterwards, and its second call changes nothing.

    They are for the people who run the deployment, not for users. Nobody opens an account alone:
    every account costs. A number is proved by a token of Meta's that opens it, which no SQL can
    check; the account that named it first would get its messages. Members have a way of their own,
    invite_member.
*/
create function backend.create_account(
    name text,
    external_id text default null,
    country text default null,
    time_zone text default null,
    language text default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    account public.accounts;
    is_new boolean;
    rule text;
begin
    -- two calls at once must not make two accounts of one name
    perform pg_advisory_xact_lock(hashtextextended('create account', 0));
    select a.*
    into account
    from public.accounts a
    where case
        when create_account.external_id is null then lower(a.name) = lower(btrim(create_account.name))
        else a.external_id = create_account.external_id
    end
    order by a.created_at
    limit 1;
    is_new := not found;
    if is_new then
        insert into public.accounts (external_id, name, country, time_zone, language)
        values (
            coalesce(
                create_account.external_id, encode(extensions.gen_random_bytes(12), 'hex')),
            coalesce(btrim(create_account.name), ''),
            upper(create_account.country),
            create_account.time_zone,
            create_account.language
        )
        returning * into account;
    end if;
    return jsonb_build_object(
        'is_new', is_new,
        'account_id', account.id,
        'external_id', account.external_id,
        'name', account.name,
        'country', account.country,
        'time_zone', account.time_zone,
        'language', account.language
    );
exception
    when check_violation then
        get stacked diagnostics rule = constraint_name;
        perform private.refuse_row(table_name => 'accounts', kind => 'check', rule => rule);
end
$$;

grant execute on function backend.create_account(text, text, text, text, text) to service_role;


create function backend.list_accounts()
    returns jsonb
    language plpgsql
    stable
    -- definer: as create_account
    security definer
    set search_path = ''
as $$
begin
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'id', a.id,
                    'external_id', a.external_id,
                    'name', a.name,
                    'members', (
                        select coalesce(jsonb_object_agg(r.role, r.emails), '{}')
                        from (
                            select
                                m.role,
                                -- a login may be known by its telephone alone
                                jsonb_agg(coalesce(u.email, u.phone, m.display_name) order by u.email) as emails
                            from public.account_members m
                            join auth.users u
                                on u.id = m.user_id
                            where m.account_id = a.id
                            group by m.role
                        ) r
                    ),
                    'numbers', (
                        select coalesce(
                            jsonb_agg(
                                format('%s (%s)', w.display_phone_number, w.phone_number_id)
                                order by w.display_phone_number
                            ),
                            '[]'
                        )
                        from public.whatsapp_channels w
                        where w.account_id = a.id
                    )
                )
                order by a.name, a.id
            ),
            '[]'
        )
        from public.accounts a
    );
end
$$;

grant execute on function backend.list_accounts() to service_role;


create function backend.add_member(
    account text,
    email text,
    role text,
    display_name text default null
)
    returns jsonb
    language plpgsql
    -- definer: as create_account
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
    login record;
    before public.account_members;
    rule text;
begin
    perform private.require_member_words(email => btrim(email), role => role);
    -- two changes at once must not leave the account without an owner
    perform
    from public.accounts a
    where a.id = named
    for no key update;

    select u.id, u.created_at, u.last_sign_in_at, u.email_confirmed_at is not null as is_confirmed
    into login
    from auth.users u
    where lower(u.email) = lower(btrim(add_member.email))
      and not u.is_sso_user
      and u.deleted_at is null;
    if not found then
        return jsonb_build_object('state', 'no_login');
    end if;

    select m.*
    into before
    from public.account_members m
    where m.account_id = named
      and m.user_id = login.id;
    if before.role = 'owner' and role <> 'owner' and not exists (
        select
        from public.account_members m
        where m.account_id = named
          and m.user_id <> login.id
          and m.role = 'owner'
    ) then
        raise sqlstate 'PT409' using
            message = 'This is the only owner of the account.',
            detail = 'field: role',
            hint = 'Add another owner first.';
    end if;

    insert into public.account_members as m (account_id, user_id, role, display_name)
    values (
        named,
        login.id,
        add_member.role,
        coalesce(nullif(btrim(add_member.display_name), ''), private.name_of_email(btrim(add_member.email)))
    )
    on conflict on constraint account_members_pkey do update
        set role = excluded.role,
            display_name = case
                when nullif(btrim(add_member.display_name), '') is null then m.display_name
                else excluded.display_name
            end
        where m.role <> excluded.role
           or m.display_name <> nullif(btrim(add_member.display_name), '');
    return (
        select jsonb_build_object(
            'state', case
                when before.user_id is null then 'added'
                when (before.role, before.display_name) = (m.role, m.display_name) then 'there'
                else 'changed'
            end,
            'role', m.role,
            'role_before', before.role,
            'display_name', m.display_name,
            'login_created_at', login.created_at,
            'last_sign_in_at', login.last_sign_in_at,
            'is_confirmed', login.is_confirmed
        )
        from public.account_members m
        where m.account_id = named
          and m.user_id = login.id
    );
exception
    when check_violation then
        get stacked diagnostics rule = constraint_name;
        perform private.refuse_row(table_name => 'account_members', kind => 'check', rule => rule);
end
$$;

grant execute on function backend.add_member(text, text, text, text) to service_role;


create function backend.add_number(
    account text,
    phone_number_id text,
    display_phone_number text,
    waba_id text default null,
    name text default null
)
    returns jsonb
    language plpgsql
    -- definer: as create_account
    security definer
    set search_path = ''
as $$
declare
    named constant uuid := private.account_named(account);
    before public.whatsapp_channels;
    channel public.whatsapp_channels;
    owner text;
    rule text;
begin
    insert into public.whatsapp_channels as w (
        account_id, phone_number_id, waba_id, display_phone_number, name
    )
    values (
        named,
        add_number.phone_number_id,
        add_number.waba_id,
        add_number.display_phone_number,
        coalesce(add_number.name, add_number.display_phone_number)
    )
    on conflict on constraint whatsapp_channels_phone_number_id_key do nothing
    returning w.* into channel;
    if channel.id is null then
        select w.*
        into before
        from public.whatsapp_channels w
        where w.phone_number_id = add_number.phone_number_id
        for no key update;
        if before.account_id <> named then
            select format('%s (%s)', a.name, a.external_id)
            into owner
            from public.accounts a
            where a.id = before.account_id;
            raise sqlstate 'PT409' using
                message = format('This number is one of the account %s.', owner),
                detail = 'field: phone_number_id',
                hint = 'Check the phone_number_id. A number with conversations can''t move to another account.';
        end if;
        update public.whatsapp_channels w
        set waba_id = coalesce(add_number.waba_id, w.waba_id),
            display_phone_number = add_number.display_phone_number,
            name = coalesce(add_number.name, w.name)
        where w.id = before.id
        returning w.* into channel;
    end if;
    if channel.waba_id is distinct from before.waba_id then
        -- its templates are read now, and not first by the schedule
        perform private.ring('sync_templates');
    end if;
    return jsonb_build_object(
        'state', case
            when before.id is null then 'added'
            when (before.waba_id, before.display_phone_number, before.name)
                is not distinct from (channel.waba_id, channel.display_phone_number, channel.name)
                then 'there'
            else 'changed'
        end,
        'account_id', channel.account_id,
        'phone_number_id', channel.phone_number_id,
        'waba_id', channel.waba_id,
        'display_phone_number', channel.display_phone_number,
        'name', channel.name
    );
exception
    when check_violation then
        get stacked diagnostics rule = constraint_name;
        perform private.refuse_row(table_name => 'whatsapp_channels', kind => 'check', rule => rule);
end
$$;

grant execute on function backend.add_number(text, text, text, text, text) to service_role;


comment on function backend.create_account(text, text, text, text, text) is
    'Makes an account, unless there is one of this external_id, or without that one of this name. What is left out is that of the country.';
comment on function backend.list_accounts() is
    'All accounts by name, with their members'' email addresses by role, and their numbers.';
comment on function backend.add_member(text, text, text, text) is
    'Makes the login of an email address a member, or changes the member''s role and name. state: added, changed, there, or no_login where nobody has this address. The only owner stays one (409).';
comment on function backend.add_number(text, text, text, text, text) is
    'Makes a WhatsApp number one of an account, or changes its WhatsApp Business account, spelling and name. state: added, changed or there. A number of another account: 409.';
comment on constraint account_members_display_name_check on public.account_members is
    'A member''s name has 1 to 200 characters.';
comment on constraint whatsapp_channels_phone_number_id_check on public.whatsapp_channels is
    'A phone_number_id has 1 to 32 digits.
It is Meta''s id of the number, not the number: Meta shows it under WhatsApp, API setup.';
comment on constraint whatsapp_channels_waba_id_check on public.whatsapp_channels is
    'A waba_id has 1 to 32 digits.
It is the id of the WhatsApp Business account: Meta shows it under WhatsApp, API setup.';
