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
