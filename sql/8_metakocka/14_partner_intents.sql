/*
    Calls to Metakocka that must not happen twice. One call makes a partner, and if its answer is
    lost the outcome is unknown. A row is written before the call. It is settled by looking for the
    partner, never by another call.
*/
create table private.partner_intents (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    contact_id   uuid not null,
    operation    text not null
                 constraint partner_intents_operation_check
                 check (operation in ('add_partner', 'update_partner')),
    -- a digest of the fields to send
    fingerprint  text not null
                 constraint partner_intents_fingerprint_check
                 check (length(fingerprint) between 1 and 128),
    -- The fields to send. The search for the partner uses them, since the contact may change
    -- meanwhile. They are deleted when no search needs them any more.
    sent         jsonb not null default '{}'
                 constraint partner_intents_sent_check
                 check (jsonb_typeof(sent) = 'object' and octet_length(sent::text) <= 131072),
    state        text not null default 'intended'
                 constraint partner_intents_state_check
                 check (state in (
                     -- the call has not begun
                     'intended',
                     -- the call has begun, and may have happened
                     'sent',
                     -- the call ended without an answer
                     'unknown',
                     -- the call happened
                     'settled',
                     -- the call did not happen
                     'abandoned'
                 )),
    metakocka_id text
                 constraint partner_intents_metakocka_id_check
                 check (metakocka_id ~ '^[^\s]{1,64}$'),
    created_at   timestamptz not null default now(),
    sent_at      timestamptz,
    settled_at   timestamptz,

    constraint partner_intents_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint partner_intents_settled_check check (
        (state in ('settled', 'abandoned')) = (settled_at is not null)
        and (state = 'settled') = (metakocka_id is not null)
        and (state not in ('sent', 'unknown') or sent_at is not null)
    )
);
alter table private.partner_intents enable row level security;


-- One at a time: the next worker first finds out the outcome of this one.
create unique index partner_intents_open_key
    on private.partner_intents (contact_id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_open_idx
    on private.partner_intents (account_id, created_at, id)
    where state in ('intended', 'sent', 'unknown');

create index partner_intents_contact_idx
    on private.partner_intents (contact_id, account_id);


create policy "nobody reads partner intents directly"
    on private.partner_intents
    for all
    to authenticated
    using (false);


comment on table private.partner_intents is
    'Calls to Metakocka that must not happen twice. Each row is written before its call.';
comment on column private.partner_intents.fingerprint is
    'A digest of the fields to send.';
comment on column private.partner_intents.sent is
    'The fields to send. A partner that may have been made is looked for by them; empty once the intent is settled.';
comment on policy "nobody reads partner intents directly" on private.partner_intents is
    'Only the sync settles them.';


/*
    An intent lives from before its call begins until the call's outcome is known. A worker may be
    killed at any line: the next one finds the intent, and looks for the partner before it calls.
*/
create function backend.begin_intent(
    account_id uuid,
    contact_id uuid,
    operation text,
    fingerprint text,
    sent jsonb default '{}',
    worker text default null
)
    returns jsonb
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    begun uuid;
begin
    perform private.require_worker(
        account_id => begin_intent.account_id, worker => begin_intent.worker);
    perform private.require_contact(
        account_id => begin_intent.account_id, contact_id => begin_intent.contact_id);

    select i.id
    into begun
    from private.partner_intents i
    where i.contact_id = begin_intent.contact_id
      and i.state in ('intended', 'sent', 'unknown');
    if found then
        return (
            select to_jsonb(e) || jsonb_build_object('is_new', false)
            from private.intent_rows(begun) e
        );
    end if;

    -- another worker has made it since the caller looked
    if operation = 'add_partner' and exists (
        select
        from public.metakocka_contact_mappings m
        where m.contact_id = begin_intent.contact_id
          and m.metakocka_id is not null
    ) then
        raise sqlstate 'PT409' using
            message = 'This contact has a partner already.',
            detail = format('contact: %s', begin_intent.contact_id),
            hint = 'Claim the contact again.';
    end if;

    insert into private.partner_intents (account_id, contact_id, operation, fingerprint, sent)
    values (
        begin_intent.account_id, begin_intent.contact_id, begin_intent.operation,
        begin_intent.fingerprint, begin_intent.sent
    )
    returning id
    into begun;
    return (
        select to_jsonb(e) || jsonb_build_object('is_new', true)
        from private.intent_rows(begun) e
    );
end
$$;

grant execute on function backend.begin_intent(uuid, uuid, text, text, jsonb, text)
    to service_role;


create function private.may_make_partner(intent private.partner_intents)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return intent.operation = 'add_partner' and intent.state in ('sent', 'unknown');
end
$$;


create function private.intent_rows(wanted uuid)
    returns table (
        intent_id uuid,
        contact_id uuid,
        operation text,
        fingerprint text,
        sent jsonb,
        state text,
        metakocka_id text,
        age double precision
    )
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
    select
        i.id, i.contact_id, i.operation, i.fingerprint, i.sent, i.state, i.metakocka_id,
        -- in seconds, since the call began
        extract(epoch from clock_timestamp() - coalesce(i.sent_at, i.created_at))::double precision
    from private.partner_intents i
    where i.id = wanted;
end
$$;


create function private.open_intents(contact_id uuid)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        with recursive merged (id) as (
            select open_intents.contact_id
            union
            select c.id
            from merged m
            join public.contacts c
                on c.merged_into = m.id
        )
        select coalesce(jsonb_agg(to_jsonb(e) order by i.created_at, i.id), '[]')
        from merged m
        join private.partner_intents i
            on i.contact_id = m.id
           and i.state in ('intended', 'sent', 'unknown')
        cross join lateral private.intent_rows(i.id) e
    );
end
$$;


create function backend.settle_intent(
    account_id uuid,
    intent_id uuid,
    state text,
    metakocka_id text default null,
    worker text default null
)
    returns boolean
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    intent private.partner_intents;
begin
    -- the worker that made a call settles it, even after it has lost its lease
    if settle_intent.state = 'sent' then
        perform private.require_worker(
            account_id => settle_intent.account_id, worker => settle_intent.worker);
    end if;
    select i.*
    into intent
    from private.partner_intents i
    where i.id = settle_intent.intent_id
      and i.account_id = settle_intent.account_id
    for update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such intent.',
            detail = format('intent: %s', settle_intent.intent_id);
    elsif intent.state = settle_intent.state
        and intent.metakocka_id is not distinct from settle_intent.metakocka_id
    then
        -- told again, because the answer was lost; but a call begins only once
        return settle_intent.state <> 'sent';
    end if;

    if not (settle_intent.state, intent.state) in (
        ('sent', 'intended'),
        ('unknown', 'sent'),
        ('settled', 'intended'), ('settled', 'sent'), ('settled', 'unknown'),
        ('abandoned', 'intended'), ('abandoned', 'sent'), ('abandoned', 'unknown')
    ) then
        return false;
    end if;

    update private.partner_intents i
    set state = settle_intent.state,
        metakocka_id = case
            when settle_intent.state = 'settled' then settle_intent.metakocka_id
        end,
        sent_at = case
            when settle_intent.state = 'sent' then clock_timestamp()
            else i.sent_at
        end,
        settled_at = case
            when settle_intent.state in ('settled', 'abandoned') then clock_timestamp()
        end,
        -- a person's data that nobody needs any more
        sent = case
            when settle_intent.state in ('settled', 'abandoned') then '{}'
            else i.sent
        end
    where i.id = intent.id;
    return true;
end
$$;

grant execute on function backend.settle_intent(uuid, uuid, text, text, text) to service_role;


comment on function backend.begin_intent(uuid, uuid, text, text, jsonb, text) is
    'Notes that a contact''s partner is about to be made (add_partner) or changed: {intent_id, contact_id, operation, fingerprint, sent, state, metakocka_id, age, is_new}. If the contact has an open intent, returns that one with is_new false: its outcome must be found out first. age is in seconds. A contact that has a partner gets no other one (409).';
comment on function private.may_make_partner(private.partner_intents) is
    'Whether a call to make a partner has begun, and its outcome is not known.';
comment on function private.intent_rows(uuid) is
    'An intent as JSON.';
comment on function private.open_intents(uuid) is
    'The open intents of a contact, and of contacts that were merged into it.';
comment on function backend.settle_intent(uuid, uuid, text, text, text) is
    'Notes the state of a call: sent just before it begins, then unknown, settled (with the partner''s id) or abandoned. False where that state can''t follow the present one: then the caller must not go on.';
