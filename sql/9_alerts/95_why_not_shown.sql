/*
    Why something does not show: the steps of its kind, the first broken one on top. Owners and
    admins ask about their own accounts, in which everything else is as if it were not there. The
    command rapport why asks about all accounts.
*/
create function private.message_steps(post public.messages, part text, login uuid, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    was_tried constant boolean := exists (
        select
        from private.outbound_attempts t
        where t.message_id = post.id
    );
    -- WhatsApp told us of it: from the customer, or from our phone app
    came constant boolean := post.provider_id is not null
        and not was_tried
        and (post.sender_type <> 'operator' or post.sender_id is null);
    goes constant boolean := post.whatsapp_channel_id is not null
        and post.sender_type <> 'client'
        and (was_tried or post.status in ('queued', 'failed', 'unknown'));
begin
    return private.as_step(
            case when part = 'effect' then 'found.effect' else 'found.message' end,
            true,
            jsonb_build_object(
                'message_id', post.id,
                'conversation_id', post.conversation_id,
                'provider_id', post.provider_id
            )
        )
        || case
            when came then private.received_steps(post, account_ids)
            else array[private.written_step(
                post.created_at, coalesce(post.sender_name, post.sender_type))]
        end
        || case
            when goes then private.number_step(
                    post.whatsapp_channel_id, is_for_sending => post.status = 'queued')
                || private.sent_steps(post)
            else '{}'
        end
        || private.contact_step(post.customer_id)
        || case
            when post.revoked_at is not null then private.as_step(
                'message.deleted', false, jsonb_build_object('at', post.revoked_at, 'seq', post.seq))
            else private.as_step('message.kept', true, jsonb_build_object('seq', post.seq))
        end
        || private.conversation_steps(post.conversation_id)
        || private.message_told_steps(post, login);
end
$$;


create function private.message_told_steps(post public.messages, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    access constant private.why_step := private.access_step(
        account_id => post.account_id, customer_id => post.customer_id, login => login);
begin
    return access
        || private.told_steps(
            table_name => 'messages',
            row_id => post.id,
            account_id => post.account_id,
            customer_id => post.customer_id,
            conversation_id => post.conversation_id,
            made_at => post.created_at,
            side => access.facts ->> 'side'
        )
        || private.heard_step(
            account_id => post.account_id,
            customer_id => post.customer_id,
            conversation_id => post.conversation_id,
            seq => post.seq,
            author => post.sender_id
        );
end
$$;


-- From a conversation on: its lists, its latest message, and who is told of it.
create function private.thread_steps(conversation_id uuid, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    thread public.conversations;
    latest public.messages;
    steps private.why_step[] := '{}';
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = thread_steps.conversation_id;
    if thread.whatsapp_channel_id is not null then
        steps := array[private.number_step(thread.whatsapp_channel_id, is_for_sending => true)];
    end if;
    steps := steps || private.conversation_steps(thread.id);

    select m.*
    into latest
    from public.messages m
    where m.conversation_id = thread.id
    order by m.seq desc
    limit 1;
    if not found then
        return steps
            || private.as_step('message.none', null)
            || private.access_step(
                account_id => thread.account_id, customer_id => thread.customer_id, login => login);
    end if;
    return steps
        || private.as_step('message.latest', true, jsonb_build_object(
            'message_id', latest.id, 'seq', latest.seq, 'at', latest.created_at))
        || case
            when latest.whatsapp_channel_id is not null
                and latest.sender_type <> 'client'
                and latest.status in ('queued', 'failed', 'unknown')
                then private.sent_steps(latest)
            else '{}'
        end
        || private.message_told_steps(latest, login);
end
$$;


create function private.contact_steps(contact public.contacts, part text, login uuid)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    contact_step constant private.why_step := private.contact_step(contact.id);
    steps private.why_step[] := array[
        private.as_step('found.contact', true, jsonb_build_object('contact_id', contact.id)),
        contact_step
    ];
    access private.why_step;
    thread uuid;
begin
    -- nothing of it is left
    if not contact_step.ok then
        return steps;
    end if;
    thread := (
        select s.conversation_id
        from private.contact_states s
        where s.id = contact.id
    );
    steps := steps
        || case
            when part = 'unproved' then private.as_step('known.unproved', false)
            else private.known_step(contact.id)
        end
        || private.as_step('status.shown', true, jsonb_build_object('status', (
            select s.status
            from private.contact_states s
            where s.id = contact.id
        )));
    if exists (
        select
        from public.metakocka_connections k
        where k.account_id = contact.account_id
          and k.active
    ) then
        steps := steps || private.partner_steps(
            account_id => contact.account_id, contact_id => contact.id, metakocka_id => null);
    end if;
    -- who asks by a number asks about its messages
    if thread is not null and part in ('phone', 'unproved') then
        return steps || private.thread_steps(thread, login);
    end if;

    access := private.access_step(
        account_id => contact.account_id, customer_id => contact.id, login => login);
    return steps
        || case
            when thread is null then array[private.as_step('conversation.none', true)]
            else private.conversation_steps(thread)
        end
        || access
        || private.told_steps(
            table_name => case access.facts ->> 'side' when 'customer' then 'customers' else 'contacts' end,
            row_id => contact.id,
            account_id => contact.account_id,
            customer_id => contact.id,
            conversation_id => null,
            made_at => contact.updated_at,
            side => access.facts ->> 'side'
        );
end
$$;


create function private.key_steps(reference text, account_ids uuid[])
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    parts constant text[] := string_to_array(reference, '_');
    facts constant jsonb := jsonb_build_object(
        'account', parts[1], 'phone_number_id', parts[2], 'customer', parts[3]);
    account uuid;
begin
    select a.id
    into account
    from public.accounts a
    where a.external_id = parts[1]
      and (account_ids is null or a.id = any (account_ids));
    if not found then
        return array[private.as_step('found.key_account', false, facts)];
    elsif not exists (
        select
        from public.whatsapp_channels w
        where w.account_id = account
          and w.phone_number_id = parts[2]
    ) then
        return array[private.as_step('found.key_number', false, facts)];
    end if;
    return array[private.as_step('found.key_customer', false, facts)]
        || private.missing_steps(parts[3], is_number => true, account_ids => array[account]);
end
$$;


-- The steps of what an id stands for; of nothing, where it stands for nothing.
create function private.steps_of(
    subject private.why_subject,
    reference text,
    login uuid,
    account_ids uuid[]
)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    number constant text := private.written_number(reference);
    post public.messages;
    thread public.conversations;
    contact public.contacts;
begin
    if subject.kind = 'message' and subject.part = 'later' then
        return private.as_step('found.later', true, jsonb_build_object('message_id', subject.id))
            || private.later_steps(subject.id)
            || private.access_step(
                account_id => subject.account_id, customer_id => null, login => login);
    elsif subject.kind = 'message' and subject.id is null then
        return array[
            private.as_step('found.effect_alone', true),
            private.as_step('read.no_parent', false, jsonb_build_object('parent_id', (
                select left(e.parent_provider_id, 200)
                from public.whatsapp_channels w
                join private.message_effects e
                    on e.whatsapp_channel_id = w.id
                where w.account_id = subject.account_id
                  and e.provider_id = reference
                limit 1
            )))
        ];
    elsif subject.kind = 'message' then
        select m.* into post from public.messages m where m.id = subject.id;
        return private.message_steps(
            post, part => subject.part, login => login, account_ids => account_ids);
    elsif subject.kind = 'conversation' then
        select k.* into thread from public.conversations k where k.id = subject.id;
        return array[
                private.as_step(
                    case subject.part
                        when 'key' then 'found.key'
                        when 'booking' then 'found.booking'
                        else 'found.conversation'
                    end,
                    true,
                    jsonb_build_object('conversation_id', thread.id)
                ),
                private.contact_step(thread.customer_id)
            ]
            || private.thread_steps(thread.id, login);
    elsif subject.kind = 'contact' then
        select c.* into contact from public.contacts c where c.id = subject.id;
        return private.contact_steps(contact, part => subject.part, login => login);
    elsif subject.kind = 'number' then
        return private.as_step('found.number', true, (
                select jsonb_build_object(
                    'display_phone_number', w.display_phone_number,
                    'phone_number_id', w.phone_number_id
                )
                from public.whatsapp_channels w
                where w.id = subject.id
            ))
            || private.number_steps(subject.id)
            || private.access_step(
                account_id => subject.account_id, customer_id => null, login => login);
    elsif subject.kind = 'partner' then
        return case
                when subject.id is null then '{}'
                else array[private.as_step(
                    'found.partner', true, jsonb_build_object('metakocka_id', subject.outside_id))]
            end
            || private.partner_steps(
                account_id => subject.account_id,
                contact_id => subject.id,
                metakocka_id => subject.outside_id
            )
            || case
                when subject.id is null then '{}'
                else array[private.contact_step(subject.id)]
            end;
    elsif reference ~ '^[A-Za-z0-9-]{1,64}_[0-9]{1,32}_[0-9]{1,32}$' then
        return private.key_steps(reference, account_ids);
    elsif number is not null then
        return private.missing_steps(
            regexp_replace(number, '^(\+|00)', ''), is_number => true, account_ids => account_ids);
    elsif reference ~ '^wamid\.' or reference ~ '^wacid\.' then
        return private.missing_steps(reference, is_number => false, account_ids => account_ids);
    end if;
    return array[private.as_step('found.nothing', false)];
end
$$;


create function private.check_reference(reference text, kind text, login text, language text)
    returns void
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    if coalesce(btrim(reference), '') = '' then
        raise sqlstate 'PT422' using
            message = 'A reference is needed.',
            detail = 'field: reference',
            hint = 'Give the id of a message, a conversation or a contact, a telephone number, or a partner''s id.';
    elsif length(reference) > 512 then
        raise sqlstate 'PT422' using
            message = format('The reference has %s characters; 512 are allowed.', length(reference)),
            detail = 'field: reference',
            hint = 'Give one id or one number.';
    elsif kind not in ('message', 'number', 'conversation', 'contact', 'partner') then
        raise sqlstate 'PT422' using
            message = 'There is no such kind.',
            detail = 'field: kind',
            hint = 'Use message, number, conversation, contact or partner, or none.';
    elsif length(login) > 320 then
        raise sqlstate 'PT422' using
            message = format('The login has %s characters; 320 are allowed.', length(login)),
            detail = 'field: login',
            hint = 'Give the email or the user id of one login.';
    elsif language is null or language not in ('en', 'sl') then
        raise sqlstate 'PT422' using
            message = 'There is no such language of this answer.',
            detail = 'field: language',
            hint = 'Use en or sl.';
    end if;
end
$$;


create function private.login_named(login text, account_ids uuid[])
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
begin
    if login is null then
        return null;
    elsif pg_input_is_valid(btrim(login), 'uuid') then
        return btrim(login)::uuid;
    end if;
    -- a login of these accounts: of any other one nothing is told, not even that it exists
    return coalesce(
        (
            select u.id
            from auth.users u
            where u.email = lower(btrim(login))
              and (
                  account_ids is null
                  or exists (
                      select
                      from public.account_members m
                      where m.user_id = u.id
                        and m.account_id = any (account_ids)
                  )
                  or exists (
                      select
                      from public.customers c
                      where c.portal_user_id = u.id
                        and c.account_id = any (account_ids)
                  )
              )
            limit 1
        ),
        nobody
    );
end
$$;


create function private.find_subject(reference text, kind text, account_ids uuid[])
    returns private.why_subject
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    kinds constant text[] := array['message', 'conversation', 'number', 'contact', 'partner'];
    subjects constant private.why_subject[] := array(
        select s
        from private.why_subjects(reference, account_ids) s
        where find_subject.kind is null
           or s.kind = find_subject.kind
           -- a customer's number is a number as well
           or find_subject.kind = 'number' and s.part in ('phone', 'unproved')
        order by array_position(kinds, s.kind), s.part nulls first, s.id
        limit 100
    );
    accounts constant text[] := array(
        select coalesce(a.external_id, a.id::text)
        from (select distinct s.account_id from unnest(subjects) s) s
        join public.accounts a
            on a.id = s.account_id
        order by 1
    );
    chosen private.why_subject := subjects[1];
begin
    if cardinality(accounts) > 1 then
        raise sqlstate 'PT422' using
            message = 'Several accounts have something with this id or number.',
            detail = 'field: account_id',
            hint = format('Name one of them: %s.', array_to_string(accounts, ', '));
    end if;
    -- two contacts whose numbers end alike
    if chosen.kind = 'contact' and exists (
        select
        from unnest(subjects) s
        where s.kind = 'contact'
          and s.part is not distinct from chosen.part
          and s.id <> chosen.id
    ) then
        chosen.part := 'several';
        chosen.outside_id := (
            select string_agg(s.id::text, ', ' order by s.id)
            from unnest(subjects) s
            where s.kind = 'contact'
        );
    end if;
    return chosen;
end
$$;


create function private.why_answer(
    reference text,
    kind text,
    login text,
    account_ids uuid[],
    language text
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    named constant text := btrim(reference);
    user_id constant uuid := private.login_named(login, account_ids);
    subject private.why_subject := private.find_subject(named, kind, account_ids);
    account constant uuid := coalesce(
        subject.account_id, case when cardinality(account_ids) = 1 then account_ids[1] end);
    steps private.why_step[];
    shown jsonb;
    broken jsonb;
    access private.why_step;
    broadcast private.why_step;
begin
    if subject.kind is null and kind = 'partner' and account is not null then
        -- a partner that nobody here has heard of
        subject := ('partner', null, null, account, named)::private.why_subject;
    end if;
    steps := case
        when subject.part = 'several' then array[private.as_step(
            'found.several',
            false,
            jsonb_build_object('contact_ids', string_to_array(subject.outside_id, ', '))
        )]
        else private.steps_of(subject, named, login => user_id, account_ids => account_ids)
    end;

    select jsonb_agg(
        jsonb_build_object(
            'step', s.step,
            'ok', s.ok,
            'code', s.code,
            'words', coalesce(private.why_words(s.code, why_answer.language, z.name, s.facts), s.code),
            'facts', s.facts,
            'remedy', case when s.ok is not true or r.is_advice
                then private.why_words(s.code || '.remedy', why_answer.language, z.name, s.facts) end
        )
        order by s.place
    )
    into shown
    from unnest(steps) with ordinality as s (step, ok, code, facts, place)
    cross join lateral (
        select coalesce((select a.time_zone from public.accounts a where a.id = account), 'UTC') as name
    ) z
    -- worth doing though nothing is broken
    cross join lateral (
        select s.code in ('found.key', 'broadcast.renamed') as is_advice
    ) r;
    broken := jsonb_path_query_first(shown, '$[*] ? (@.ok == false)');
    select s.* into access from unnest(steps) s where s.step = 'access';
    select s.* into broadcast from unnest(steps) s where s.step = 'broadcast';

    return jsonb_build_object(
        'reference', named,
        'kind', case
            when subject.part in ('phone', 'unproved', 'several') then 'number'
            else subject.kind
        end,
        'id', subject.id,
        'account_id', account,
        -- of the times in the words; facts are in UTC
        'time_zone', coalesce((select a.time_zone from public.accounts a where a.id = account), 'UTC'),
        -- told to somebody who may see it, under the id for which the reference stands
        'match', case
            when subject.kind is null or access.ok is false or broadcast.ok is false then false
            when access.ok and broadcast.ok then true
        end,
        'broken', broken ->> 'step',
        'words', coalesce(
            broken ->> 'words', private.why_words('summary.fine', why_answer.language, 'UTC', '{}')),
        'remedy', broken ->> 'remedy',
        'steps', shown
    );
end
$$;


create function private.why_for_admin(
    reference text,
    account_id uuid,
    kind text,
    login text,
    language text
)
    returns jsonb
    language plpgsql
    stable
    -- definer: webhooks, queues and broadcasts are not readable; the caller is checked first, and
    -- every look-up stays in the caller's accounts
    security definer
    set search_path = ''
    -- each look-up is by a key of its own, and no plan is for many rows
    set jit = off
as $$
declare
    account_ids constant uuid[] := array(
        select a
        from private.my_admin_account_ids() a
        where why_for_admin.account_id is null
           or a = why_for_admin.account_id
        order by a
    );
begin
    if account_id is not null then
        perform private.require_member(account_id);
    end if;
    if account_ids = '{}' then
        raise insufficient_privilege using
            message = 'You may not ask why something of this account does not show.',
            detail = 'field: account_id',
            hint = 'Owners and admins of the account may.';
    end if;
    perform private.check_reference(reference, kind => kind, login => login, language => language);
    return private.why_answer(
        reference, kind => kind, login => login, account_ids => account_ids, language => language);
end
$$;

grant execute on function private.why_for_admin(text, uuid, text, text, text) to authenticated;


create function public.why_not_shown(
    reference text,
    account_id uuid default null,
    kind text default null,
    login text default null,
    language text default 'en'
)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.why_for_admin(
        reference, account_id => account_id, kind => kind, login => login, language => language);
end
$$;

grant execute on function public.why_not_shown(text, uuid, text, text, text) to authenticated;


create function backend.why_not_shown(
    reference text,
    account text default null,
    kind text default null,
    login text default null,
    language text default 'en'
)
    returns jsonb
    language plpgsql
    stable
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
    set jit = off
as $$
begin
    perform private.check_reference(reference, kind => kind, login => login, language => language);
    -- owners are not told whether a login exists that is not of their accounts
    if login is not null and not exists (
        select
        from auth.users u
        where u.id = private.login_named(login, null)
    ) then
        raise sqlstate 'PT404' using
            message = format('There is no login %s.', btrim(login)),
            detail = 'field: login',
            hint = 'Check the address. `rapport member add` makes a login for staff, an invitation to the portal one for a customer.';
    end if;
    return private.why_answer(
        reference,
        kind => kind,
        login => login,
        account_ids => case when account is not null then array[private.account_named(account)] end,
        language => language
    );
end
$$;

grant execute on function backend.why_not_shown(text, text, text, text, text) to service_role;


comment on function private.message_steps(public.messages, text, uuid, uuid[]) is
    'The steps of a message.';
comment on function private.message_told_steps(public.messages, uuid) is
    'Who may see a message, and who was told of it.';
comment on function private.thread_steps(uuid, uuid) is
    'The steps of a conversation and of its latest message.';
comment on function private.contact_steps(public.contacts, text, uuid) is
    'The steps of a contact; of one that was named by its number, with its conversation''s.';
comment on function private.key_steps(text, uuid[]) is
    'Which part of a conversation''s older key leads nowhere.';
comment on function private.steps_of(private.why_subject, text, uuid, uuid[]) is
    'The steps of the thing for which a reference stands, or of nothing.';
comment on function private.check_reference(text, text, text, text) is
    'Refuses arguments of why_not_shown that nobody can answer.';
comment on function private.login_named(text, uuid[]) is
    'The login with this email or user id. Of an email that no login of the accounts has, the id of nobody.';
comment on function private.find_subject(text, text, uuid[]) is
    'The thing for which a reference stands. Refuses where several accounts have one.';
comment on function private.why_answer(text, text, text, uuid[], text) is
    'See why_not_shown; in the given accounts, or in all.';
comment on function private.why_for_admin(text, uuid, text, text, text) is
    'See why_not_shown; for the accounts that the caller administers.';
comment on function public.why_not_shown(text, uuid, text, text, text) is
    'Why something does not show: the steps from the webhook to the people who see it, in their order, and the first broken one in words with its remedy. The reference is an id of ours, WhatsApp''s id of a message (wamid) or of a number, a telephone number as people write it, an email, a username, a partner''s id at Metakocka, or the older key of a conversation. kind tells apart what several things have; login (an email or a user id) asks whether that login may see it. language is en or sl. A step''s ok is null where it can''t be known; code and facts say the same for programs, with ids, figures and times (UTC). The words have times by the clocks of time_zone. match: whether it was told to somebody, or to this login, under the id for which the reference stands. For owners and admins, about their own accounts.'
    ' Type: (kind: "message" | "number" | "conversation" | "contact" | "partner" | null, language: "en" | "sl") => {reference: text, kind: "message" | "number" | "conversation" | "contact" | "partner" | null, id: uuid | null, account_id: uuid | null, time_zone: text, match: boolean | null, broken: text | null, words: text, remedy: text | null, steps: {step: text, ok: boolean | null, code: text, words: text, facts: {[text]: json}, remedy: text | null}[]}';
comment on function backend.why_not_shown(text, text, text, text, text) is
    'As public.why_not_shown, about all accounts, or about the one with this external id or id.';
