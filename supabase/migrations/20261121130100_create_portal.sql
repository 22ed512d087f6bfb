/*
    What customers see of a business in the portal: appointments, invoices and points, and a chat
    for each booking.
*/
alter table public.conversations
    add column booking_id uuid,
    add constraint conversations_booking_id_check
        check ((channel = 'booking') = (booking_id is not null));

alter table public.messages
    add column booking_id uuid,
    add column has_invoice boolean not null default false,
    add column invoice_data jsonb,
    add constraint messages_invoice_data_check
        check (has_invoice = (invoice_data is not null));

alter table public.contact_merges
    add column moved_customer_rows jsonb not null default '{}';

drop trigger _050_keep_owner on public.conversations;
drop trigger _050_keep_owner on public.messages;
drop policy "subscribers can receive on their own topics" on realtime.messages;
drop function public.post_message(uuid, text, text, jsonb, uuid, text);
drop function public.my_topics(uuid);
drop function private.topics_of_caller(uuid);


create function private.tg__require_rows()
    returns trigger
    language plpgsql
    -- invoker: what foreign keys and functions of ours write may be nothing
    set search_path = ''
as $$
begin
    -- an upsert runs the triggers of updates as well, though it only inserts
    if tg_op = 'INSERT' then
        perform set_config(
            'rapport.inserting', case tg_when when 'BEFORE' then 'yes' else 'no' end, true);
    elsif current_user = 'authenticated'
        and coalesce(current_setting('rapport.inserting', true), '') <> 'yes'
        and not exists (select from hit_rows)
    then
        raise sqlstate 'PT404' using
            message = 'Nothing was hit: there is no such row, or it is not yours to see.';
    end if;
    return null;
end
$$;

comment on function private.tg__require_rows() is
    'Refuses a client''s update or delete that hit nothing: what row level security hides is no success. Triggers before and after inserts tell it of upserts.';


-- a booking has one chat, which is opened again rather than followed by another; account and
-- customer are the job's own, and are named for its foreign key
create unique index conversations_booking_key
    on public.conversations (booking_id, account_id, customer_id)
    where booking_id is not null;

create trigger _050_keep_owner
    before update on public.conversations
    for each row
    when (
        (new.account_id, new.booking_id) is distinct from (old.account_id, old.booking_id)
    )
    execute function private.tg__keep_owner('account_id', 'booking_id');

comment on column public.conversations.booking_id is
    'The job that a booking''s chat is about; null on other channels.';


-- a booking's chat
create index messages_booking_id_idx
    on public.messages (booking_id, seq)
    where booking_id is not null;

create trigger _050_keep_owner
    before update on public.messages
    for each row
    when (
        (new.account_id, new.conversation_id, new.whatsapp_channel_id, new.booking_id)
        is distinct from
        (old.account_id, old.conversation_id, old.whatsapp_channel_id, old.booking_id)
    )
    execute function private.tg__keep_owner(
        'account_id', 'conversation_id', 'whatsapp_channel_id', 'booking_id');

comment on column public.messages.booking_id is
    'The job that the conversation is about; null on other channels.';

comment on column public.messages.invoice_data is
    'The invoice that is shown with the message, as it stood then: {invoice_id, number, amount_minor, currency, status, due_at}.';


create function private.receipt_messages(
    conversation_id uuid,
    after_seq bigint,
    up_to_seq bigint,
    senders text[]
)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    seen constant uuid[] := array(
        select m.id
        from public.messages m
        where m.conversation_id = receipt_messages.conversation_id
          and m.seq > after_seq
          and m.seq <= up_to_seq
          and m.sender_type = any (senders)
          and m.status in ('sent', 'delivered')
        order by m.id
        for no key update
    );
begin
    -- an update of no row would still run the table's triggers
    if seen <> '{}' then
        update public.messages m
        set status = 'read',
            delivered_at = coalesce(m.delivered_at, now()),
            read_at = now()
        where m.id = any (seen);
    end if;
end
$$;

create or replace function private.move_read_marker(conversation_id uuid, up_to_seq bigint)
    returns bigint
    language plpgsql
    -- definer: markers are written here alone, each reader's own
    security definer
    set search_path = ''
as $$
declare
    reader constant uuid := auth.uid();
    read_conversation record;
    former bigint;
    reached bigint;
begin
    -- it stays this contact's until the marker is written
    select k.account_id, k.customer_id, k.channel
    into read_conversation
    from public.conversations k
    where k.id = move_read_marker.conversation_id
      and (
          k.account_id in (select private.my_account_ids())
          or k.customer_id in (select private.my_customer_ids())
      )
    for key share;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', conversation_id);
    elsif up_to_seq is null or up_to_seq < 0 then
        raise sqlstate 'PT422' using
            message = 'Nobody has read up to there.',
            detail = 'field: up_to_seq',
            hint = 'Send the seq of the latest message that was seen.';
    end if;

    select r.last_read_seq
    into former
    from public.read_markers r
    where r.conversation_id = move_read_marker.conversation_id
      and r.user_id = reader;

    insert into public.read_markers as r (
        conversation_id, user_id, account_id, customer_id, last_read_seq
    )
    select
        a.conversation_id,
        reader,
        read_conversation.account_id,
        read_conversation.customer_id,
        -- what has yet to be written is not read
        least(up_to_seq, a.last_seq)
    from public.conversation_activity a
    where a.conversation_id = move_read_marker.conversation_id
    on conflict on constraint read_markers_pkey do update
        set last_read_seq = excluded.last_read_seq,
            read_at = excluded.read_at
        where excluded.last_read_seq > r.last_read_seq;

    select r.last_read_seq
    into reached
    from public.read_markers r
    where r.conversation_id = move_read_marker.conversation_id
      and r.user_id = reader;

    -- what WhatsApp carries WhatsApp says the status of
    if read_conversation.channel <> 'whatsapp' and reached > coalesce(former, 0) then
        perform private.receipt_messages(
            conversation_id => move_read_marker.conversation_id,
            after_seq => coalesce(former, 0),
            up_to_seq => reached,
            senders => case
                when read_conversation.account_id in (select private.my_writable_account_ids())
                    then array['client']
                -- viewers look: that one of them has seen it is no answer of the business
                when read_conversation.account_id in (select private.my_account_ids())
                    then '{}'
                else array['operator', 'system']
            end
        );
    end if;
    return reached;
end
$$;

comment on function private.receipt_messages(uuid, bigint, bigint, text[]) is
    'Sets messages of the other side to read, forward only.';

comment on function public.mark_read(uuid, bigint) is
    'Says that the caller has read a conversation up to this seq: forward only, and no further than its latest message. In the portal and about bookings the other side''s messages become read, unless by a viewer. Staff, viewers too, and the conversation''s customer; returns the seq up to which it now counts as read. Unknown: 404.';


/*
    What jobs, invoices and points have in common: each is one customer's. The customer may be
    named by a contact that has been merged since; the row then is the kept contact's. And it
    stays its customer's, but for a merge or the undoing of one.

    Locks: contacts, jobs, invoices, balances, conversations, messages, each by id.
*/
create function private.hold_contact(account_id uuid, contact_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    kept uuid;
begin
    for attempt in 1 .. 4 loop
        kept := private.contact_of_id(
            account_id => hold_contact.account_id, contact_id => hold_contact.contact_id);
        begin
            -- shared: many rows may be written for one customer, none while it is merged
            perform
            from public.contacts c
            where c.id = kept
              and c.account_id = hold_contact.account_id
              and c.deleted_at is null
            for share;
            if found then
                return kept;
            end if;
            raise sqlstate 'RP003';
        exception
            -- merged while this waited: its lock goes with the block, and the next one's may
            -- be taken
            when sqlstate 'RP003' then
                null;
        end;
    end loop;
    raise sqlstate 'PT503' using
        message = 'Others are changing this contact.',
        hint = 'Try again.';
end
$$;


create function private.tg__own_by_customer()
    returns trigger
    language plpgsql
    -- definer: contacts are locked whoever writes; who it is is asked here
    security definer
    set search_path = ''
as $$
declare
    account uuid;
    -- whoever is not signed in is the database's own
    is_user constant boolean := auth.uid() is not null;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = new.customer_id;
    if not found
        or (is_user and account not in (select private.my_account_ids()))
        or new.account_id <> account
    then
        raise sqlstate 'PT404' using
            message = 'There is no such customer, or it is not yours to see.',
            detail = 'field: customer_id';
    end if;
    if is_user and account not in (select private.my_writable_account_ids()) then
        raise insufficient_privilege using
            message = 'You may read this customer''s records, not write them.',
            hint = 'Owners, admins and agents may.';
    end if;

    new.account_id := account;
    new.customer_id := private.hold_contact(account_id => account, contact_id => new.customer_id);
    return new;
end
$$;


create function private.tg__follow_merge()
    returns trigger
    language plpgsql
    -- definer: the journal and contacts are looked at whoever writes
    security definer
    set search_path = ''
as $$
begin
    if not exists (
        select
        from public.contacts c
        where c.id = old.customer_id
          and c.merged_into = new.customer_id
    ) and not exists (
        select
        from public.contact_merges m
        where m.kept_contact_id = old.customer_id
          and m.dropped_contact_id = new.customer_id
          and m.undone_at is null
    ) then
        raise check_violation using
            message = format('A row of %s stays with its customer.', tg_table_name),
            detail = 'columns: customer_id';
    end if;
    return new;
end
$$;


comment on function private.hold_contact(uuid, uuid) is
    'The contact, or the one that it was merged into, which is then neither merged nor deleted before the transaction ends. Gone: 404.';
comment on function private.tg__own_by_customer() is
    'Completes a new row with the account and the present contact of its customer; refuses who may not write there.';
comment on function private.tg__follow_merge() is
    'Refuses another customer, unless the two are being merged or parted.';


/*
    An appointment with a customer: what is done, where and when. What a customer books is a
    job, and its chat is a conversation.

        scheduled ──► rescheduled ──► in_progress ──► completed
                          (each of the first three may be cancelled)

    A job is never deleted by hand; it is cancelled, and the customer sees that it was. Notes
    for staff alone are the contact's, since all of a job is the customer's to read.
*/
create table public.jobs (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    customer_id  uuid not null,
    service_type text not null
                 constraint jobs_service_type_check
                 check (btrim(service_type) <> '' and length(service_type) <= 200),
    status       text not null default 'scheduled'
                 constraint jobs_status_check
                 check (
                     status in ('scheduled', 'rescheduled', 'in_progress', 'completed', 'cancelled')
                 ),
    starts_at    timestamptz not null
                 constraint jobs_starts_at_check check (isfinite(starts_at)),
    ends_at      timestamptz,
    address      text
                 constraint jobs_address_check check (length(address) <= 500),
    description  text
                 constraint jobs_description_check check (length(description) <= 4000),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    version      bigint not null default 1,

    -- what a foreign key of the same account and customer refers to
    constraint jobs_id_account_id_customer_id_key unique (id, account_id, customer_id),
    constraint jobs_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint jobs_ends_at_check check (ends_at > starts_at and isfinite(ends_at))
);
alter table public.jobs enable row level security;
-- clients compare the old row with the new one
alter table public.jobs replica identity full;


create index jobs_customer_idx on public.jobs (customer_id, account_id, starts_at);
create index jobs_account_idx on public.jobs (account_id, starts_at);


-- the conversation of a booking goes where the job goes
alter table public.conversations
    add constraint conversations_booking_fkey
    foreign key (booking_id, account_id, customer_id)
    references public.jobs (id, account_id, customer_id)
    on update cascade
    on delete cascade;


create policy "members and the customer can read a job"
    on public.jobs
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );

create policy "owners, admins and agents can make jobs"
    on public.jobs
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- whoever sees a job and may not change it is refused, instead of changing none
create policy "owners, admins and agents can change jobs"
    on public.jobs
    for update
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    )
    with check (account_id = any (array(select private.my_writable_account_ids())));


grant select on public.jobs to authenticated;
grant insert (id, account_id, customer_id, service_type, starts_at, ends_at, address, description)
    on public.jobs to authenticated;
grant update (service_type, status, starts_at, ends_at, address, description)
    on public.jobs to authenticated;


create function private.next_job_statuses(status text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case status
        when 'scheduled' then array['rescheduled', 'in_progress', 'completed', 'cancelled']
        when 'rescheduled' then array['in_progress', 'completed', 'cancelled']
        when 'in_progress' then array['completed', 'cancelled']
        else '{}'
    end;
end
$$;


create function private.tg_jobs__progress()
    returns trigger
    language plpgsql
    -- definer: its helpers are nobody's to call
    security definer
    set search_path = ''
as $$
declare
    allowed constant text[] := private.next_job_statuses(old.status);
    is_moved constant boolean :=
        (new.starts_at, new.ends_at) is distinct from (old.starts_at, old.ends_at);
begin
    if new.status <> old.status and new.status <> all (allowed) then
        raise sqlstate 'PT409' using
            message = format('A job that is %s does not become %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'It stays as it is; make another job.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif is_moved and old.status in ('completed', 'cancelled') then
        raise sqlstate 'PT409' using
            message = format('A job that is %s has its time.', old.status),
            detail = 'field: starts_at',
            hint = 'Make another job.';
    end if;

    -- whoever moves it need not say so twice
    if is_moved and old.status = 'scheduled' and new.status = 'scheduled' then
        new.status := 'rescheduled';
    end if;
    return new;
end
$$;


create trigger _010_own_by_customer
    before insert on public.jobs
    for each row
    execute function private.tg__own_by_customer();

create trigger _050_keep_owner
    before update on public.jobs
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update on public.jobs
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update on public.jobs
    for each row
    execute function private.tg_jobs__progress();

create trigger _100_stamp_change
    before update on public.jobs
    for each row
    execute function private.tg__stamp_change();


create trigger _200_require_rows_before_insert
    before insert on public.jobs
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_insert
    after insert on public.jobs
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_update
    after update on public.jobs
    referencing new table as hit_rows
    for each statement
    execute function private.tg__require_rows();


comment on table public.jobs is
    'Appointments, which are what customers book: insert and update them as any table; a job is cancelled, not deleted.';
comment on column public.jobs.customer_id is
    'The contact; one that was merged stands for the one it was merged into.';
comment on column public.jobs.account_id is
    'The customer''s; need not be given.';
comment on column public.jobs.service_type is
    'What is done, in the business'' own words.';
comment on column public.jobs.status is
    'scheduled, rescheduled, in_progress, completed or cancelled; forward only. Another time makes it rescheduled.';
comment on column public.jobs.description is
    'For the customer to read, as all of a job.';
comment on function private.next_job_statuses(text) is
    'What a job of this status may become.';
comment on function private.tg_jobs__progress() is
    'Refuses a status that does not follow from the one before: 409, with those that do.';
comment on policy "members and the customer can read a job" on public.jobs is
    'A customer sees its own jobs.';
comment on policy "owners, admins and agents can make jobs" on public.jobs is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change jobs" on public.jobs is
    'Viewers and customers look: what they write is refused.';


/*
    What a customer owes. Amounts are in minor units (cents) of one currency, the tax among them.

        draft ──► sent ──► paid
                   │ ▲
                   ▼ │ (due later)
                 overdue ──► paid        (draft, sent and overdue may become void)

    A draft is the business' own: for the customer an invoice begins to exist when it is sent,
    and from then on its amounts stay.
*/
create table public.invoices (
    id           uuid primary key default gen_random_uuid(),
    account_id   uuid not null,
    customer_id  uuid not null,
    job_id       uuid,
    number       text not null
                 constraint invoices_number_check
                 check (btrim(number) <> '' and length(number) <= 64),
    status       text not null default 'draft'
                 constraint invoices_status_check
                 check (status in ('draft', 'sent', 'paid', 'overdue', 'void')),
    currency     text not null
                 constraint invoices_currency_check check (currency ~ '^[A-Z]{3}$'),
    -- what every client can count with: beyond 2^53 - 1 JavaScript loses cents
    amount_minor bigint not null
                 constraint invoices_amount_minor_check
                 check (amount_minor between 0 and 9007199254740991),
    tax_minor    bigint not null default 0,
    description  text
                 constraint invoices_description_check check (length(description) <= 4000),
    issued_at    timestamptz,
    due_at       timestamptz
                 constraint invoices_due_at_check check (isfinite(due_at)),
    sent_at      timestamptz,
    paid_at      timestamptz,
    voided_at    timestamptz,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    version      bigint not null default 1,

    constraint invoices_number_key unique (account_id, number),
    constraint invoices_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    -- a job's invoices go where the job goes
    constraint invoices_job_fkey
        foreign key (job_id, account_id, customer_id)
        references public.jobs (id, account_id, customer_id)
        on update cascade
        on delete set null (job_id),
    constraint invoices_tax_minor_check check (tax_minor between 0 and amount_minor),
    constraint invoices_status_time_check check (
        case status
            when 'draft' then num_nonnulls(sent_at, paid_at, voided_at) = 0
            when 'paid' then num_nonnulls(sent_at, paid_at, voided_at) = 2 and voided_at is null
            when 'void' then voided_at is not null and paid_at is null
            else sent_at is not null and num_nonnulls(paid_at, voided_at) = 0
        end
    )
);
alter table public.invoices enable row level security;
-- clients compare the old row with the new one
alter table public.invoices replica identity full;


create index invoices_customer_idx on public.invoices (customer_id, account_id, created_at);

create index invoices_job_idx
    on public.invoices (job_id, account_id, customer_id)
    where job_id is not null;

-- what the daily function looks for
create index invoices_due_at_idx
    on public.invoices (due_at, id)
    where status = 'sent';


create policy "members and the customer, once it is sent, can read an invoice"
    on public.invoices
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or (
            sent_at is not null
            and customer_id = any (array(select private.my_customer_ids()))
        )
    );

create policy "owners, admins and agents can write invoices"
    on public.invoices
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- whoever sees an invoice and may not change it is refused, instead of changing none
create policy "owners, admins and agents can change invoices"
    on public.invoices
    for update
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or (
            sent_at is not null
            and customer_id = any (array(select private.my_customer_ids()))
        )
    )
    with check (account_id = any (array(select private.my_writable_account_ids())));


grant select on public.invoices to authenticated;
grant insert (
    id, account_id, customer_id, job_id, number, currency, amount_minor, tax_minor, description,
    issued_at, due_at
)
    on public.invoices to authenticated;
grant update (
    job_id, number, status, currency, amount_minor, tax_minor, description, issued_at, due_at
)
    on public.invoices to authenticated;


comment on table public.invoices is
    'What a customer owes: made as a draft, then sent by its status. A sent invoice is not deleted but made void.';
comment on column public.invoices.customer_id is
    'The contact; one that was merged stands for the one it was merged into.';
comment on column public.invoices.account_id is
    'The customer''s; need not be given.';
comment on column public.invoices.job_id is
    'The job that it is for, of the same customer; its chat is told of the invoice.';
comment on column public.invoices.number is
    'The business'' own; unique in an account.';
comment on column public.invoices.status is
    'draft, sent, paid, overdue (by schedule, once due_at has passed) or void.';
comment on column public.invoices.currency is
    'ISO 4217, such as EUR.';
comment on column public.invoices.amount_minor is
    'The total with tax, in minor units: 12050 is 120.50 EUR.';
comment on column public.invoices.tax_minor is
    'The tax in amount_minor.';
comment on column public.invoices.issued_at is
    'Its date; when it is sent, if not given.';
comment on column public.invoices.due_at is
    'Until when it is to be paid; without, it is never overdue.';
comment on policy "members and the customer, once it is sent, can read an invoice"
    on public.invoices is
    'A draft, also one that was made void, is not the customer''s to see.';
comment on policy "owners, admins and agents can write invoices" on public.invoices is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change invoices" on public.invoices is
    'Viewers and customers look: what they write is refused.';


/*
    What an invoice may become, and what may still be changed in it.
*/
create function private.next_invoice_statuses(status text)
    returns text[]
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return case status
        when 'draft' then array['sent', 'void']
        when 'sent' then array['paid', 'overdue', 'void']
        when 'overdue' then array['sent', 'paid', 'void']
        else '{}'
    end;
end
$$;


create function private.tg_invoices__progress()
    returns trigger
    language plpgsql
    -- definer: its helpers are nobody's to call
    security definer
    set search_path = ''
as $$
declare
    allowed constant text[] := private.next_invoice_statuses(old.status);
    -- what others have been told, or have settled, is not changed beneath them
    settled text[] := '{}';
    changed text;
begin
    if new.status <> old.status and new.status <> all (allowed) then
        raise sqlstate 'PT409' using
            message = format(
                'An invoice that is %s does not become %s.', old.status, left(new.status, 64)),
            detail = 'field: status',
            hint = case
                when allowed = '{}' then 'It stays as it is; write another invoice.'
                else format('Allowed: %s.', array_to_string(allowed, ', '))
            end;
    elsif new.status = 'overdue' and old.status = 'sent' and (new.due_at < now()) is not true then
        raise sqlstate 'PT409' using
            message = 'The invoice is not overdue yet.',
            detail = 'field: status',
            hint = 'It becomes overdue by itself, once due_at has passed.';
    elsif new.status = 'sent' and old.status = 'overdue' and new.due_at < now() then
        raise sqlstate 'PT409' using
            message = 'The invoice still is overdue.',
            detail = 'field: status',
            hint = 'Write a later due_at with it.';
    end if;

    if old.status <> 'draft' then
        settled := array['number', 'currency', 'amount_minor', 'tax_minor', 'issued_at'];
    end if;
    if old.status in ('paid', 'void') then
        settled := settled || array['due_at', 'description'];
    end if;
    if settled <> '{}' then
        select s
        into changed
        from unnest(settled) with ordinality as n (s, place)
        where to_jsonb(new) -> s is distinct from to_jsonb(old) -> s
        order by place
        limit 1;
        if changed is not null then
            raise sqlstate 'PT409' using
                message = format('An invoice that is %s keeps this.', old.status),
                detail = 'field: ' || changed,
                hint = 'Make it void, if it may be, and write another one.';
        end if;
    end if;

    if new.status <> old.status then
        case new.status
            when 'sent' then
                new.sent_at := coalesce(old.sent_at, now());
                new.issued_at := coalesce(new.issued_at, now());
            when 'paid' then
                new.paid_at := now();
            when 'void' then
                new.voided_at := now();
            else
                null;
        end case;
    end if;
    return new;
end
$$;


create trigger _010_own_by_customer
    before insert on public.invoices
    for each row
    execute function private.tg__own_by_customer();

create trigger _050_keep_owner
    before update on public.invoices
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _060_follow_merge
    before update on public.invoices
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _080_progress
    before update on public.invoices
    for each row
    execute function private.tg_invoices__progress();

create trigger _100_stamp_change
    before update on public.invoices
    for each row
    execute function private.tg__stamp_change();


create trigger _200_require_rows_before_insert
    before insert on public.invoices
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_insert
    after insert on public.invoices
    for each statement
    execute function private.tg__require_rows();

create trigger _200_require_rows_update
    after update on public.invoices
    referencing new table as hit_rows
    for each statement
    execute function private.tg__require_rows();


create function backend.mark_overdue_invoices(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    overdue constant uuid[] := array(
        with due as (
            select i.id
            from public.invoices i
            where i.status = 'sent'
              and i.due_at < now()
            order by i.due_at, i.id
            limit least(greatest(batch, 1), 1000)
        )
        select i.id
        from public.invoices i
        join due
            using (id)
        order by i.id
        -- another run may be at them, or somebody who is paying
        for update of i skip locked
    );
    marked integer := 0;
begin
    -- an update of no row would still run the table's triggers
    if overdue <> '{}' then
        update public.invoices i
        set status = 'overdue'
        where i.id = any (overdue)
          and i.status = 'sent'
          and i.due_at < now();
        get diagnostics marked = row_count;
    end if;
    return marked;
end
$$;

grant execute on function backend.mark_overdue_invoices(integer) to service_role;


comment on function private.next_invoice_statuses(text) is
    'What an invoice of this status may become.';
comment on function private.tg_invoices__progress() is
    'Stamps what becomes of an invoice; refuses what does not follow, or changes what was sent: 409.';
comment on function backend.mark_overdue_invoices(integer) is
    'Makes up to batch invoices overdue (1,000 at most) that are past their due_at; returns how many. Call again until 0.';


/*
    A customer's points: a ledger to which lines are added and never changed, and what it adds up
    to. Points are positive where they are earned or given as a bonus, negative where they are
    redeemed or expire, so that the sum of the lines is the balance.

    Each line that gives points is a lot, from which later ones take: the first to expire first.
    So what expires is exactly what nobody redeemed.
*/
create table public.loyalty_transactions (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null,
    customer_id uuid not null,
    type        text not null
                constraint loyalty_transactions_type_check
                check (type in ('earned', 'redeemed', 'bonus', 'expired')),
    points      integer not null,
    description text
                constraint loyalty_transactions_description_check
                check (length(description) <= 500),
    expires_at  timestamptz,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     bigint not null default 1,

    -- what a foreign key of the same account and customer refers to
    constraint loyalty_transactions_id_account_id_customer_id_key
        unique (id, account_id, customer_id),
    constraint loyalty_transactions_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade,
    constraint loyalty_transactions_points_check
        check (case when type in ('earned', 'bonus') then points > 0 else points < 0 end),
    constraint loyalty_transactions_expires_at_check
        check (expires_at is null or type in ('earned', 'bonus'))
);
alter table public.loyalty_transactions enable row level security;


create index loyalty_transactions_customer_idx
    on public.loyalty_transactions (customer_id, account_id, created_at);

create index loyalty_transactions_account_id_idx
    on public.loyalty_transactions (account_id);


create policy "members and the customer can read a line of points"
    on public.loyalty_transactions
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );

create policy "owners, admins and agents can add lines of points"
    on public.loyalty_transactions
    for insert
    to authenticated
    with check (
        account_id = any (array(select private.my_writable_account_ids()))
        and type <> 'expired'
    );


grant select on public.loyalty_transactions to authenticated;
grant insert (id, account_id, customer_id, type, points, description, expires_at)
    on public.loyalty_transactions to authenticated;


/*
    One row for each customer who ever had points: their sum, and what redemptions queue for.
*/
create table public.loyalty_balances (
    customer_id uuid primary key,
    account_id  uuid not null,
    points      bigint not null default 0
                constraint loyalty_balances_points_check check (points >= 0),
    updated_at  timestamptz not null default now(),

    constraint loyalty_balances_customer_fkey
        foreign key (customer_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table public.loyalty_balances enable row level security;


create index loyalty_balances_customer_idx
    on public.loyalty_balances (customer_id, account_id);

create index loyalty_balances_account_id_idx
    on public.loyalty_balances (account_id);


create policy "members and the customer can read a balance"
    on public.loyalty_balances
    for select
    to authenticated
    using (
        account_id = any (array(select private.my_account_ids()))
        or customer_id = any (array(select private.my_customer_ids()))
    );


grant select on public.loyalty_balances to authenticated;


create table private.loyalty_lots (
    transaction_id uuid primary key,
    account_id     uuid not null,
    customer_id    uuid not null,
    points_left    integer not null
                   constraint loyalty_lots_points_left_check check (points_left >= 0),
    expires_at     timestamptz,

    -- a line that goes to another customer takes its lot with it
    constraint loyalty_lots_transaction_fkey
        foreign key (transaction_id, account_id, customer_id)
        references public.loyalty_transactions (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table private.loyalty_lots enable row level security;


create index loyalty_lots_customer_idx
    on private.loyalty_lots (customer_id, expires_at, transaction_id)
    where points_left > 0;

create index loyalty_lots_expires_at_idx
    on private.loyalty_lots (expires_at, customer_id)
    where points_left > 0 and expires_at is not null;


create policy "nobody reads lots of points directly"
    on private.loyalty_lots
    for all
    to authenticated
    using (false);


comment on table public.loyalty_transactions is
    'A customer''s points, line by line; insert to give (earned, bonus) or take (redeemed). Never changed, never below zero: 409.';
comment on column public.loyalty_transactions.customer_id is
    'The contact; one that was merged stands for the one it was merged into.';
comment on column public.loyalty_transactions.account_id is
    'The customer''s; need not be given.';
comment on column public.loyalty_transactions.id is
    'Give one of your own, and a repeated insert is refused (409) instead of counted twice.';
comment on column public.loyalty_transactions.type is
    'earned, bonus, redeemed; expired is written by schedule alone.';
comment on column public.loyalty_transactions.points is
    'Positive where points are earned or a bonus, negative where they are redeemed or expire.';
comment on column public.loyalty_transactions.expires_at is
    'Until when these points may be redeemed; null for good.';
comment on table public.loyalty_balances is
    'A customer''s total of points; no row means none.';
comment on column public.loyalty_balances.points is
    'The sum of the customer''s loyalty_transactions; points whose time is over count until the schedule writes them off.';
comment on table private.loyalty_lots is
    'What is left of each line that gave points.';
comment on policy "members and the customer can read a line of points"
    on public.loyalty_transactions is
    'A customer sees its own points.';
comment on policy "owners, admins and agents can add lines of points"
    on public.loyalty_transactions is
    'For customers of their accounts; what expires the schedule says.';
comment on policy "members and the customer can read a balance" on public.loyalty_balances is
    'A customer sees its own total.';
comment on policy "nobody reads lots of points directly" on private.loyalty_lots is
    'Clients see lines and the total.';


/*
    What follows from a new line of points: the balance, and the lots that are made or used.
    Whoever adds lines holds the customer's balance, so that two who redeem at once take turns
    and the second one finds what the first has left.
*/
create function private.lock_balances(account_id uuid, customer_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.loyalty_balances (customer_id, account_id)
    select distinct c, lock_balances.account_id
    from unnest(customer_ids) c
    order by c
    on conflict do nothing;

    perform
    from public.loyalty_balances b
    where b.customer_id = any (customer_ids)
    order by b.customer_id
    for no key update;
end
$$;


create function private.add_to_balance(customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    update public.loyalty_balances b
    set points = b.points + add_to_balance.points,
        updated_at = now()
    where b.customer_id = add_to_balance.customer_id;
end
$$;


create function private.use_lots(customer_id uuid, points bigint)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    wanted bigint := points;
    lot record;
    taken bigint;
begin
    for lot in
        select l.transaction_id, l.points_left
        from private.loyalty_lots l
        where l.customer_id = use_lots.customer_id
          and l.points_left > 0
          -- those whose time is over are only waiting to be written off
          and (l.expires_at is null or l.expires_at > now())
        order by l.expires_at, l.transaction_id
    loop
        exit when wanted = 0;
        taken := least(wanted, lot.points_left);
        update private.loyalty_lots l
        set points_left = l.points_left - taken
        where l.transaction_id = lot.transaction_id;
        wanted := wanted - taken;
    end loop;

    if wanted > 0 then
        raise sqlstate 'PT409' using
            message = 'The customer has not so many points.',
            detail = 'field: points',
            hint = format('At most %s can be redeemed.', points - wanted);
    end if;
end
$$;


create function private.tg_loyalty_transactions__settle()
    returns trigger
    language plpgsql
    -- definer: balances and lots are written here alone
    security definer
    set search_path = ''
as $$
declare
    line public.loyalty_transactions;
    customers record;
begin
    for customers in
        select n.account_id, array_agg(distinct n.customer_id) as ids
        from new_rows n
        group by n.account_id
        order by n.account_id
    loop
        perform private.lock_balances(
            account_id => customers.account_id, customer_ids => customers.ids);
    end loop;

    -- what is given in a statement can be redeemed in it
    for line in
        select n.*
        from new_rows n
        order by n.points < 0, n.customer_id, n.id
    loop
        if line.points > 0 then
            insert into private.loyalty_lots (
                transaction_id, account_id, customer_id, points_left, expires_at
            )
            values (line.id, line.account_id, line.customer_id, line.points, line.expires_at);
        elsif line.type = 'redeemed' then
            perform private.use_lots(customer_id => line.customer_id, points => -line.points::bigint);
        end if;
        perform private.add_to_balance(customer_id => line.customer_id, points => line.points);
    end loop;
    return null;
end
$$;


create function private.tg_loyalty_transactions__keep()
    returns trigger
    language plpgsql
    -- definer: contacts are looked at whoever writes
    security definer
    set search_path = ''
as $$
begin
    -- with its customer a ledger may go
    if tg_op = 'DELETE' and not exists (
        select
        from public.contacts c
        where c.id = old.customer_id
    ) then
        return old;
    end if;
    raise check_violation using
        message = 'A line of points stays as it was written.',
        hint = 'Add one that makes good for it.';
end
$$;


create trigger _010_own_by_customer
    before insert on public.loyalty_transactions
    for each row
    execute function private.tg__own_by_customer();

create trigger _020_keep
    before update on public.loyalty_transactions
    for each row
    when (
        (new.id, new.account_id, new.type, new.points, new.description, new.expires_at, new.created_at)
        is distinct from
        (old.id, old.account_id, old.type, old.points, old.description, old.expires_at, old.created_at)
    )
    execute function private.tg_loyalty_transactions__keep();

create trigger _020_keep_deleted
    before delete on public.loyalty_transactions
    for each row
    execute function private.tg_loyalty_transactions__keep();

create trigger _060_follow_merge
    before update on public.loyalty_transactions
    for each row
    when (new.customer_id <> old.customer_id)
    execute function private.tg__follow_merge();

create trigger _100_stamp_change
    before update on public.loyalty_transactions
    for each row
    execute function private.tg__stamp_change();

create trigger _500_settle
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg_loyalty_transactions__settle();


create function private.expire_points_of(account_id uuid, customer_id uuid)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    expired bigint;
begin
    -- the contact before the balance, as all who add lines
    if private.hold_contact(
        account_id => expire_points_of.account_id,
        contact_id => expire_points_of.customer_id
    ) <> expire_points_of.customer_id then
        -- merged meanwhile, and its points with it
        return false;
    end if;
    perform private.lock_balances(
        account_id => expire_points_of.account_id,
        customer_ids => array[expire_points_of.customer_id]
    );

    with emptied as (
        update private.loyalty_lots l
        set points_left = 0
        from private.loyalty_lots b
        where l.transaction_id = b.transaction_id
          and b.customer_id = expire_points_of.customer_id
          and b.points_left > 0
          and b.expires_at <= now()
        returning b.points_left
    )
    select sum(e.points_left)
    into expired
    from emptied e;
    if expired is null then
        return false;
    end if;

    insert into public.loyalty_transactions (account_id, customer_id, type, points, description)
    values (
        expire_points_of.account_id,
        expire_points_of.customer_id,
        'expired',
        -expired,
        'Not redeemed in time.'
    );
    return true;
end
$$;


create function backend.expire_points(batch integer default 500)
    returns integer
    language plpgsql
    -- definer: service_role has no rights of its own on tables
    security definer
    set search_path = ''
as $$
declare
    due record;
    customers integer := 0;
begin
    for due in
        select distinct l.customer_id, l.account_id
        from private.loyalty_lots l
        join public.contacts c
            on c.id = l.customer_id
           and c.account_id = l.account_id
           and c.deleted_at is null
        where l.points_left > 0
          and l.expires_at <= now()
        order by l.customer_id
        limit least(greatest(batch, 1), 1000)
    loop
        if private.expire_points_of(account_id => due.account_id, customer_id => due.customer_id) then
            customers := customers + 1;
        end if;
    end loop;
    return customers;
end
$$;

grant execute on function backend.expire_points(integer) to service_role;


comment on function private.lock_balances(uuid, uuid[]) is
    'Locks the balances of customers of one account, which are made where there are none.';
comment on function private.add_to_balance(uuid, bigint) is
    'Changes a balance, which is locked.';
comment on function private.use_lots(uuid, bigint) is
    'Takes points from a customer''s lots, the first to expire first; refuses more than there are.';
comment on function private.tg_loyalty_transactions__settle() is
    'Brings balances and lots up to date with new lines.';
comment on function private.tg_loyalty_transactions__keep() is
    'Refuses to change a line, or to delete it before its customer.';
comment on function private.expire_points_of(uuid, uuid) is
    'Writes off a customer''s points whose time is over, in one line; false where there are none.';
comment on function backend.expire_points(integer) is
    'Writes off points whose time is over, of up to batch customers (1,000 at most); returns of how many. Call again until 0.';


/*
    The conversations that customers hold in the portal: one about each booking, made with its
    job, and one for everything else, made when somebody first writes in it. Two customers that
    are merged keep theirs; the portal goes on in the kept one's.
*/
create function private.portal_thread(customer_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select k.id
        from public.conversations k
        where k.customer_id = portal_thread.customer_id
          and k.channel = 'portal'
        order by k.status = 'closed', k.thread_key <> k.customer_id::text, k.created_at, k.id
        limit 1
    );
end
$$;


create function private.open_portal_thread(account_id uuid, customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    thread uuid;
begin
    -- others may open it, or close it, between two statements: look again
    for attempt in 1 .. 4 loop
        thread := private.portal_thread(customer_id);
        exit when thread is not null;

        insert into public.conversations (account_id, customer_id, channel, thread_key)
        values (
            open_portal_thread.account_id,
            open_portal_thread.customer_id,
            'portal',
            open_portal_thread.customer_id
        )
        on conflict do nothing;
    end loop;
    return thread;
end
$$;


create function private.thread_of_customer(customer_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    account uuid;
    kept uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = thread_of_customer.customer_id;
    if found then
        kept := private.contact_of_id(
            account_id => account, contact_id => thread_of_customer.customer_id);
        if account in (select private.my_writable_account_ids())
            or kept in (select private.my_customer_ids())
        then
            -- it stays this contact's until the message is written
            kept := private.hold_contact(account_id => account, contact_id => kept);
            return private.open_portal_thread(account_id => account, customer_id => kept);
        elsif account in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this customer''s conversations, not write in them.',
                hint = 'Owners, admins and agents may.';
        end if;
    end if;
    return null;
exception
    when sqlstate 'PT404' then
        -- deleted: whose it was is nobody's to learn
        return null;
end
$$;


comment on function private.portal_thread(uuid) is
    'A customer''s conversation in the portal, the open one first; null before there is one.';
comment on function private.open_portal_thread(uuid, uuid) is
    'A customer''s conversation in the portal, which is made where there is none.';
comment on function private.thread_of_customer(uuid) is
    'The conversation in the portal for somebody who may write in it; null where it is hidden.';


/*
    What the system tells in a chat: that a job was moved, an invoice paid. The text is for
    reading, the content ({event, …}) for clients that put it in words of their own; times are
    UTC, since an account has no time zone.

    A notice is no reason to open a closed conversation again.
*/
create type private.notice as (
    account_id   uuid,
    customer_id  uuid,
    -- of the job whose chat is told; null for the portal's
    booking_id   uuid,
    message      text,
    content      jsonb,
    invoice_data jsonb
);


create function private.threads_of_notices(notices private.notice[])
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
declare
    customer record;
    threads uuid[];
begin
    for customer in
        select distinct n.account_id, n.customer_id
        from unnest(notices) n
        join public.contacts c
            on c.id = n.customer_id
           and c.account_id = n.account_id
           -- there is nobody left to tell
           and c.deleted_at is null
        where n.booking_id is null
        order by n.customer_id
    loop
        perform private.open_portal_thread(
            account_id => customer.account_id, customer_id => customer.customer_id);
    end loop;

    threads := array(
        select case
            when n.booking_id is null then private.portal_thread(n.customer_id)
            else (
                select k.id
                from public.conversations k
                where k.booking_id = n.booking_id
            )
        end
        from unnest(notices) with ordinality as n (
            account_id, customer_id, booking_id, message, content, invoice_data, place
        )
        order by n.place
    );

    perform
    from public.conversations k
    where k.id = any (threads)
    order by k.id
    for no key update;
    return threads;
end
$$;


create function private.post_notices(notices private.notice[])
    returns void
    language plpgsql
    set search_path = ''
    -- the few that there are at a time are found by key
    set plan_cache_mode = force_generic_plan
as $$
declare
    threads uuid[];
begin
    if notices is null then
        return;
    end if;
    threads := private.threads_of_notices(notices);

    with posted as (
        insert into public.messages (
            account_id, conversation_id, customer_id, booking_id, seq, sender_type, type, message,
            content, has_invoice, invoice_data, status, sent_at
        )
        select
            k.account_id,
            k.id,
            k.customer_id,
            k.booking_id,
            a.last_seq + row_number() over (partition by k.id order by t.place),
            'system',
            'system',
            (notices[t.place]).message,
            (notices[t.place]).content,
            (notices[t.place]).invoice_data is not null,
            (notices[t.place]).invoice_data,
            'sent',
            now()
        from unnest(threads) with ordinality as t (conversation_id, place)
        join public.conversations k
            on k.id = t.conversation_id
        join public.conversation_activity a
            on a.conversation_id = k.id
        order by k.id, t.place
        returning conversation_id
    )
    update public.conversation_activity a
    set last_seq = a.last_seq + p.added,
        last_message_at = greatest(a.last_message_at, now())
    from (
        select p.conversation_id, count(*) as added
        from posted p
        group by p.conversation_id
    ) p
    where a.conversation_id = p.conversation_id;
end
$$;


create function private.in_utc(at timestamptz)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"');
end
$$;


comment on type private.notice is
    'What the system tells a customer and the staff, and where.';
comment on function private.threads_of_notices(private.notice[]) is
    'The conversation of each notice, locked; null where there is nobody to tell.';
comment on function private.post_notices(private.notice[]) is
    'Writes notices as messages of the system, in their order.';
comment on function private.in_utc(timestamptz) is
    'A time for people to read, to the minute.';


/*
    A job has its chat from the start, and what becomes of the job is told there, in the
    transaction in which it happens.
*/
create function private.job_notice(job public.jobs)
    returns private.notice
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (
        job.account_id,
        job.customer_id,
        job.id,
        job.service_type || case job.status
            when 'scheduled' then ' is scheduled for ' || private.in_utc(job.starts_at) || '.'
            when 'rescheduled' then ' is rescheduled to ' || private.in_utc(job.starts_at) || '.'
            when 'in_progress' then ' is in progress.'
            when 'completed' then ' is completed.'
            else ' is cancelled.'
        end,
        jsonb_build_object(
            'event', 'job.' || job.status,
            'job_id', job.id,
            'service_type', job.service_type,
            'starts_at', job.starts_at,
            'ends_at', job.ends_at
        ),
        null
    )::private.notice;
end
$$;


create function private.tg_jobs__open_chat()
    returns trigger
    language plpgsql
    -- definer: nobody else may write conversations
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
begin
    perform private.post_notices((
        select array_agg(private.job_notice(n) order by n.id)
        from new_rows n
        join old_rows o
            using (id)
        where n.status <> o.status
           or (
               n.status = 'rescheduled'
               and (n.starts_at, n.ends_at) is distinct from (o.starts_at, o.ends_at)
           )
    ));
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
    'What a chat is told of a job as it is now.';
comment on function private.tg_jobs__open_chat() is
    'Gives every job its chat.';
comment on function private.tg_jobs__tell_chat() is
    'Tells a job''s chat what became of it.';


/*
    Invoices in chats: those that an agent shows with a message, held to what the invoice says,
    and what becomes of them, told by the system in the chat of their job, or else in the portal's.
*/
create function private.invoice_facts(invoice public.invoices)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return jsonb_build_object(
        'invoice_id', invoice.id,
        'number', invoice.number,
        'amount_minor', invoice.amount_minor,
        'currency', invoice.currency,
        'status', invoice.status,
        'due_at', invoice.due_at
    );
end
$$;


create function private.check_invoice_data(post public.messages, channel text)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    named constant text := post.invoice_data ->> 'invoice_id';
    invoice public.invoices;
    facts jsonb;
    wrong text;
begin
    if post.invoice_data is null and not post.has_invoice then
        return null;
    elsif post.sender_type <> 'operator' then
        raise insufficient_privilege using
            message = 'Invoices are sent by the business.',
            detail = 'field: invoice_data';
    elsif channel = 'whatsapp' or post.type <> 'text' then
        raise sqlstate 'PT422' using
            message = 'An invoice is shown with a text, in a chat of the portal.',
            detail = 'field: invoice_data',
            hint = 'On WhatsApp send it as a document.';
    end if;

    if pg_input_is_valid(named, 'uuid') then
        select i.*
        into invoice
        from public.invoices i
        where i.id = named::uuid
          and i.account_id = post.account_id
          and i.customer_id = post.customer_id
          and i.sent_at is not null;
    end if;
    if invoice.id is null then
        raise sqlstate 'PT422' using
            message = 'There is no such invoice of this customer, or it has not been sent.',
            detail = 'field: invoice_data.invoice_id',
            hint = 'Name an invoice of the customer that is not a draft.';
    end if;

    facts := private.invoice_facts(invoice);
    select g.key
    into wrong
    from jsonb_each(post.invoice_data) g
    where case
        when g.key = 'due_at' and pg_input_is_valid(g.value #>> '{}', 'timestamptz')
            then (g.value #>> '{}')::timestamptz is distinct from invoice.due_at
        else g.value is distinct from facts -> g.key
    end
    order by g.key
    limit 1;
    if wrong is not null then
        raise sqlstate 'PT422' using
            message = 'This is not what the invoice says.',
            detail = 'field: invoice_data.' || left(wrong, 64),
            hint = 'Give its invoice_id alone; the rest is filled in.';
    end if;
    return facts;
end
$$;


create function private.invoice_notice(invoice public.invoices)
    returns private.notice
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        invoice.account_id,
        invoice.customer_id,
        invoice.job_id,
        'Invoice ' || invoice.number || case invoice.status
            when 'sent' then ' has been sent.'
            when 'paid' then ' has been paid.'
            when 'overdue' then ' is overdue.'
            else ' is void.'
        end,
        jsonb_build_object('event', 'invoice.' || invoice.status, 'invoice_id', invoice.id),
        private.invoice_facts(invoice)
    )::private.notice;
end
$$;


create function private.tg_invoices__tell_chat()
    returns trigger
    language plpgsql
    -- definer: nobody else may write as the system
    security definer
    set search_path = ''
as $$
begin
    perform private.post_notices((
        select array_agg(private.invoice_notice(n) order by n.id)
        from new_rows n
        join old_rows o
            using (id)
        where n.status <> o.status
          -- a draft that is given up was never the customer's
          and n.sent_at is not null
    ));
    return null;
end
$$;


create trigger _500_tell_chat
    after update on public.invoices
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg_invoices__tell_chat();


comment on function private.invoice_facts(public.invoices) is
    'What a message shows of an invoice: {invoice_id, number, amount_minor, currency, status, due_at}.';
comment on function private.check_invoice_data(public.messages, text) is
    'The facts of the invoice that somebody shows with a message; refuses what differs from them, naming the field.';
comment on function private.invoice_notice(public.invoices) is
    'What a chat is told of an invoice as it is now.';
comment on function private.tg_invoices__tell_chat() is
    'Tells a chat what became of an invoice that the customer knows of.';


/*
    What merging and undoing do with jobs, invoices and points. The caller has locked both
    contacts, and calls these before it moves conversations: the chats of bookings go with
    their jobs.
*/
create function private.move_customer_rows(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    moved_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.customer_id = from_contact_id
          and j.account_id = move_customer_rows.account_id
        order by j.id
        for update
    );
    moved_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.customer_id = from_contact_id
          and i.account_id = move_customer_rows.account_id
        order by i.id
        for update
    );
    moved_lots jsonb := '{}';
    moved_lines uuid[];
begin
    moved_lines := private.lock_lines(
        account_id => move_customer_rows.account_id,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    select coalesce(jsonb_object_agg(l.transaction_id, l.points_left), '{}')
    into moved_lots
    from private.loyalty_lots l
    where l.customer_id = from_contact_id;

    perform private.give_jobs(
        job_ids => moved_jobs,
        invoice_ids => moved_invoices,
        from_contact_id => move_customer_rows.from_contact_id,
        to_contact_id => move_customer_rows.to_contact_id
    );
    perform private.give_lines(line_ids => moved_lines, to_contact_id => move_customer_rows.to_contact_id);
    return jsonb_build_object(
        'jobs', to_jsonb(moved_jobs),
        'invoices', to_jsonb(moved_invoices),
        'loyalty_transactions', to_jsonb(moved_lines),
        'loyalty_lots', moved_lots
    );
end
$$;


create function private.lock_lines(
    account_id uuid,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns uuid[]
    language plpgsql
    set search_path = ''
as $$
begin
    -- most customers have no points, and then no balance either
    if not exists (
        select
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
    ) then
        return '{}';
    end if;
    perform private.lock_balances(
        account_id => lock_lines.account_id,
        customer_ids => array[from_contact_id, to_contact_id]
    );
    return array(
        select t.id
        from public.loyalty_transactions t
        where t.customer_id = from_contact_id
          and t.account_id = lock_lines.account_id
        order by t.id
        for update
    );
end
$$;


create function private.give_jobs(
    job_ids uuid[],
    invoice_ids uuid[],
    from_contact_id uuid,
    to_contact_id uuid
)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    -- all of the contact's, though only those of bookings move here: the others are the
    -- caller's next ones, and conversations are locked in one order
    perform
    from public.conversations k
    where k.customer_id = from_contact_id
    order by k.id
    for update;
    -- the foreign keys move them in any order
    perform
    from public.messages m
    where m.booking_id = any (job_ids)
    order by m.id
    for no key update;

    -- an update of no row would still run the table's triggers
    if job_ids <> '{}' then
        update public.jobs j
        set customer_id = to_contact_id
        where j.id = any (job_ids);
    end if;
    -- those of jobs have followed them
    perform
    from public.invoices i
    where i.id = any (invoice_ids)
      and i.customer_id = from_contact_id;
    if found then
        update public.invoices i
        set customer_id = to_contact_id
        where i.id = any (invoice_ids)
          and i.customer_id = from_contact_id;
    end if;
end
$$;


create function private.give_lines(line_ids uuid[], to_contact_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
declare
    from_contact_id uuid;
    points bigint;
begin
    if line_ids = '{}' then
        return;
    end if;
    select min(t.customer_id::text)::uuid, sum(t.points)
    into from_contact_id, points
    from public.loyalty_transactions t
    where t.id = any (line_ids);

    -- their lots follow them
    update public.loyalty_transactions t
    set customer_id = to_contact_id
    where t.id = any (line_ids);
    perform private.add_to_balance(customer_id => from_contact_id, points => -points);
    perform private.add_to_balance(customer_id => to_contact_id, points => points);
end
$$;


create function private.return_customer_rows(
    account_id uuid,
    moved jsonb,
    from_contact_id uuid,
    to_contact_id uuid
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    returned_jobs constant uuid[] := array(
        select j.id
        from public.jobs j
        where j.id in (select v::uuid from jsonb_array_elements_text(moved -> 'jobs') v)
          and j.customer_id = from_contact_id
        order by j.id
        for update
    );
    returned_invoices constant uuid[] := array(
        select i.id
        from public.invoices i
        where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
          and i.customer_id = from_contact_id
          -- one that is for another job by now is that job's
          and (i.job_id is null or i.job_id = any (returned_jobs))
        order by i.id
        for update
    );
    lines constant uuid[] := array(
        select v::uuid
        from jsonb_array_elements_text(moved -> 'loyalty_transactions') v
    );
    not_returned jsonb;
begin
    if lines <> '{}' then
        perform private.lock_lines(
            account_id => return_customer_rows.account_id,
            from_contact_id => return_customer_rows.from_contact_id,
            to_contact_id => return_customer_rows.to_contact_id
        );
    end if;

    perform private.give_jobs(
        job_ids => returned_jobs,
        invoice_ids => returned_invoices,
        from_contact_id => return_customer_rows.from_contact_id,
        to_contact_id => return_customer_rows.to_contact_id
    );
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'kind', 'invoice',
                'value', i.id,
                'reason', 'belongs_to_another',
                'contact_id', i.customer_id
            )
            order by i.id),
        '[]')
    into not_returned
    from public.invoices i
    where i.id in (select v::uuid from jsonb_array_elements_text(moved -> 'invoices') v)
      and i.customer_id <> to_contact_id;

    if lines = '{}' then
        return not_returned;
    elsif not exists (
        -- points of these lots that are spent were spent by the kept contact
        select
        from jsonb_each_text(moved -> 'loyalty_lots') w
        left join private.loyalty_lots l
            on l.transaction_id = w.key::uuid
        where l.points_left is distinct from w.value::integer
    ) then
        perform private.give_lines(
            line_ids => lines, to_contact_id => return_customer_rows.to_contact_id);
        return not_returned;
    end if;
    return not_returned || jsonb_build_object(
        'kind', 'loyalty_transactions',
        'value', lines,
        'reason', 'spent_since',
        'contact_id', from_contact_id
    );
end
$$;


comment on function private.move_customer_rows(uuid, uuid, uuid) is
    'Gives a contact''s jobs, with their chats, its invoices and its points to another one; returns what return_customer_rows needs.';
comment on function private.lock_lines(uuid, uuid, uuid) is
    'Locks the points of a contact and both balances; returns the lines.';
comment on function private.give_jobs(uuid[], uuid[], uuid, uuid) is
    'Gives jobs with their chats, and invoices, to another contact.';
comment on function private.give_lines(uuid[], uuid) is
    'Gives lines of points to another contact; both balances are locked.';
comment on function private.return_customer_rows(uuid, jsonb, uuid, uuid) is
    'Gives back what move_customer_rows moved; returns what stays, as undo_merge names it. Points of which some were spent since stay.';


/*
    A message of a portal's chat is taken back: emptied for both sides, while the row stays and its
    seq with it. What WhatsApp has carried is not ours to take back.
*/
create function private.revoke_message(message_id uuid)
    returns jsonb
    language plpgsql
    -- definer: messages are changed here alone, by those who may
    security definer
    set search_path = ''
as $$
declare
    revoked public.messages;
    me constant uuid := auth.uid();
    is_staff boolean;
    is_mine boolean;
begin
    select m.*
    into revoked
    from public.messages m
    where m.id = message_id
      and (
          m.account_id in (select private.my_account_ids())
          or m.customer_id in (select private.my_customer_ids())
      )
    for no key update;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such message, or it is not yours to see.',
            detail = format('message: %s', message_id);
    end if;

    is_staff := revoked.account_id in (select private.my_writable_account_ids());
    is_mine := case revoked.sender_type
        when 'operator' then is_staff
        when 'client' then
            revoked.sender_id = me::text
            and revoked.customer_id in (select private.my_customer_ids())
    end;
    if is_mine is not true then
        raise insufficient_privilege using
            message = 'This message is not yours to delete.',
            hint = 'Customers delete their own, and owners, admins and agents those of the business.';
    elsif revoked.whatsapp_channel_id is not null then
        raise sqlstate 'PT422' using
            message = 'What was sent by WhatsApp is not deleted here.',
            detail = 'field: message_id';
    end if;

    -- once is enough
    if revoked.revoked_at is null then
        update public.messages m
        set message = '',
            content = null,
            has_invoice = false,
            invoice_data = null,
            revoked_at = now()
        where m.id = message_id
        returning * into revoked;
    end if;
    return to_jsonb(revoked);
end
$$;

grant execute on function private.revoke_message(uuid) to authenticated;


create function public.delete_message(message_id uuid)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return private.revoke_message(message_id);
end
$$;

grant execute on function public.delete_message(uuid) to authenticated;


comment on function private.revoke_message(uuid) is
    'Empties a message, for those who may; returns it.';
comment on function public.delete_message(uuid) is
    'Deletes a message of a booking''s or the portal''s chat for both sides: your own, or as staff one of the business. It stays as a row without contents, see revoked_at; answers the row. Not yours: 403; on WhatsApp: 422.';


create or replace function private.may_receive(topic text)
    returns boolean
    language plpgsql
    stable
    -- definer: a topic is checked against rows that the caller need not be able to read
    security definer
    set search_path = ''
as $$
declare
    kind constant text := split_part(topic, ':', 1);
    has_side constant boolean := kind in ('presence', 'typing');
    side constant text := case when has_side then split_part(topic, ':', 2) end;
    named constant text := split_part(topic, ':', case when has_side then 3 else 2 end);
    named_id uuid;
begin
    if not pg_input_is_valid(named, 'uuid') then
        return false;
    end if;
    named_id := named::uuid;

    return case
        when kind = 'account' then
            topic = private.account_topic(named_id)
            and named_id in (select private.my_account_ids())
        when kind = 'customer' then
            topic = private.customer_topic(named_id)
            and named_id in (select private.my_customer_ids())
        when kind = 'presence' and side = 'desk' then
            topic = private.desk_topic(named_id)
            and (
                named_id in (select private.my_account_ids())
                or exists (
                    select
                    from public.customers c
                    where c.portal_user_id = auth.uid()
                      and c.account_id = named_id
                )
            )
        when kind = 'conversation' or side in ('staff', 'customer') then exists (
            select
            from public.conversations c
            where c.id = named_id
              and topic = case
                  when has_side
                      then private.signs_topic(kind, side, c.id, c.account_id, c.customer_id)
                  else private.conversation_topic(c.id, c.account_id, c.customer_id)
              end
              and private.side_of_caller(c.id) is not null
        )
        else false
    end;
end
$$;

-- Both extensions: Realtime asks for broadcasts when a topic is joined, whatever it is for.
create policy "subscribers can receive on their own topics"
    on realtime.messages
    for select
    to authenticated
    using (
        (
            realtime.messages.extension = 'broadcast'
            or (
                realtime.messages.extension = 'presence'
                -- nobody is present where data is told
                and (select realtime.topic()) like 'presence:%'
            )
        )
        and private.may_receive((select realtime.topic()))
    );

comment on policy "subscribers can receive on their own topics" on realtime.messages is
    'By their present names.';


/*
    The topics by which people see each other. On them clients do send, each side on its own,
    and the other one listens:

        presence:desk:<account>:<epoch>             staff who are there; customers look on
        presence:staff:<conversation>:<epochs>      staff who are in a conversation
        presence:customer:<conversation>:<epochs>   its customer
        typing:staff:<conversation>:<epochs>        staff who are writing, as broadcasts
        typing:customer:<conversation>:<epochs>     its customer

    What is sent there is a sign, not data: whoever may send may send anything. A sign is its
    topic's side's, and names come from conversation_people. A customer's topics are of one
    conversation, so that no customer sees another.
*/
create function private.desk_topic(account_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return 'presence:desk:' || account_id || ':' || private.topic_epoch(account_id);
end
$$;


create function private.signs_topic(
    kind text,
    side text,
    conversation_id uuid,
    account_id uuid,
    customer_id uuid
)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- with the conversation's epochs: whoever leaves it leaves all of its topics
    return kind || ':' || side || substr(
        private.conversation_topic(conversation_id, account_id, customer_id),
        length('conversation:')
    );
end
$$;


create function private.side_of_caller(conversation_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: who is hidden a conversation is on no side of it
    security definer
    set search_path = ''
as $$
begin
    return (
        select case
            when c.account_id in (select private.my_account_ids()) then 'staff'
            when c.customer_id in (select private.my_customer_ids()) then 'customer'
        end
        from public.conversations c
        where c.id = side_of_caller.conversation_id
    );
end
$$;


create function private.may_send(topic text, extension text)
    returns boolean
    language plpgsql
    stable
    -- definer: as may_receive
    security definer
    set search_path = ''
as $$
declare
    side constant text := split_part(topic, ':', 2);
    -- what a presence topic takes is presence, and a typing topic broadcasts
    sign constant text := case extension
        when 'presence' then 'presence'
        when 'broadcast' then 'typing'
    end;
begin
    if sign is null or split_part(topic, ':', 1) <> sign or not private.may_receive(topic) then
        return false;
    elsif side = 'desk' then
        return split_part(topic, ':', 3)::uuid in (select private.my_account_ids());
    end if;
    return side = private.side_of_caller(split_part(topic, ':', 3)::uuid)
        and (
            sign = 'presence'
            or side = 'customer'
            -- viewers write nothing
            or exists (
                select
                from public.conversations c
                where c.id = split_part(topic, ':', 3)::uuid
                  and c.account_id in (select private.my_writable_account_ids())
            )
        );
end
$$;

grant execute on function private.may_send(text, text) to authenticated;


-- No data topic is among them: what comes on those comes from the database.
create policy "people can show that they are there and writing"
    on realtime.messages
    for insert
    to authenticated
    with check (
        -- of the topic that is being written to, whatever the row says
        topic = (select realtime.topic())
        and private.may_send((select realtime.topic()), realtime.messages.extension)
    );


comment on function private.desk_topic(uuid) is
    'The topic on which an account''s staff show that they are there.';
comment on function private.signs_topic(text, text, uuid, uuid, uuid) is
    'A topic on which one side of a conversation shows that it is there (presence) or writing (typing).';
comment on function private.side_of_caller(uuid) is
    'staff or customer, as which the signed-in user is in a conversation; null where it is hidden.';
comment on function private.may_send(text, text) is
    'Whether the signed-in user may send presence or a broadcast on a topic: signs of its own side, and never data.';
comment on policy "people can show that they are there and writing" on realtime.messages is
    'Staff on the desk''s and on staff''s topics, customers on their own; data topics are read-only for clients.';


/*
    A client's topics by name. Names change when somebody leaves, so that they are asked for
    rather than made up.
*/
create function private.topics_of_caller(conversation_id uuid)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    -- definer: epochs are not readable; the scope is the caller's
    security definer
    set search_path = ''
as $$
    select private.account_topic(a.id), 'account', a.id
    from private.my_account_ids() as a (id)
    union all
    select private.customer_topic(c.id), 'customer', c.id
    from private.my_customer_ids() as c (id)
    union all
    select private.desk_topic(a.id), 'presence_desk', a.id
    from (
        select m.id
        from private.my_account_ids() as m (id)
        union
        select c.account_id
        from public.customers c
        where c.portal_user_id = (select auth.uid())
    ) as a (id)
    union all
    select t.topic, t.kind, c.id
    from public.conversations c
    cross join lateral (
        select private.conversation_topic(c.id, c.account_id, c.customer_id), 'conversation'
        union all
        select
            private.signs_topic(s.kind, s.side, c.id, c.account_id, c.customer_id),
            s.kind || '_' || s.side
        from (
            values
                ('presence', 'staff'),
                ('presence', 'customer'),
                ('typing', 'staff'),
                ('typing', 'customer')
        ) as s (kind, side)
    ) as t (topic, kind)
    where c.id = topics_of_caller.conversation_id
      and private.side_of_caller(c.id) is not null
$$;

grant execute on function private.topics_of_caller(uuid) to authenticated;


create function public.my_topics(conversation_id uuid default null)
    returns table (topic text, kind text, id uuid)
    language sql
    stable
    set search_path = ''
as $$
    select t.topic, t.kind, t.id
    from private.topics_of_caller(my_topics.conversation_id) t
$$;

grant execute on function public.my_topics(uuid) to authenticated;


comment on function private.topics_of_caller(uuid) is
    'The topics of the signed-in user.';
comment on function public.my_topics(uuid) is
    'The private topics you may join, by kind: your accounts'' (account), your own as a customer (customer), and the given conversation''s (conversation), all of them read-only; who is at the desk (presence_desk), in the conversation (presence_staff, presence_customer) and writing there (typing_staff, typing_customer), on which you send as your own side. Ask again when a join is refused, and on the event topics.changed: names change when somebody leaves.';


/*
    Who the people are that show themselves in a conversation. What they say of themselves there
    is a payload, which anybody can fill as they like: a client takes the user's id from it at
    most, and the name and the side from here.
*/
create function private.people_of(conversation_id uuid)
    returns table (user_id uuid, side text, display_name text)
    language sql
    stable
    -- definer: customers can't read who works for an account
    security definer
    set search_path = ''
as $$
    select m.user_id, 'staff', m.display_name
    from public.conversations k
    join public.account_members m
        on m.account_id = k.account_id
    where k.id = people_of.conversation_id
      and private.side_of_caller(k.id) is not null
    union all
    select c.portal_user_id, 'customer', c.name
    from public.conversations k
    join public.customers c
        on c.id = k.customer_id
    where k.id = people_of.conversation_id
      and c.portal_user_id is not null
      and private.side_of_caller(k.id) is not null
$$;

grant execute on function private.people_of(uuid) to authenticated;


create function public.conversation_people(conversation_id uuid)
    returns table (user_id uuid, side text, display_name text)
    language sql
    stable
    set search_path = ''
as $$
    select p.user_id, p.side, p.display_name
    from private.people_of(conversation_people.conversation_id) p
$$;

grant execute on function public.conversation_people(uuid) to authenticated;


comment on function private.people_of(uuid) is
    'The people of a conversation, for those who are in it.';
comment on function public.conversation_people(uuid) is
    'Who may show themselves in a conversation of yours: {user_id, side, display_name}, the account''s staff and the customer''s login. Names in payloads of presence and typing are anybody''s word; these are not.';


/*
    What an agent or a customer writes: a row, inserted through PostgREST or by post_message,
    which is the same. It goes to a conversation, to a booking's, or to the customer's in the
    portal. The database says who writes, numbers it, and queues what goes out.
*/
create or replace function private.tg_messages__post()
    returns trigger
    language plpgsql
    -- definer: a writer may not number messages; who it is is asked here
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    is_staff boolean;
    me constant uuid := auth.uid();
    -- by what the writer named the conversation
    named_by constant text := case
        when new.conversation_id is not null then 'conversation_id'
        when new.booking_id is not null then 'booking_id'
        else 'customer_id'
    end;
    named constant uuid :=
        coalesce(new.conversation_id, new.booking_id, new.customer_id);
begin
    if named is null then
        raise sqlstate 'PT422' using
            message = 'The message is for nobody.',
            detail = 'field: conversation_id',
            hint = 'Say which conversation_id, or booking_id, or customer_id for the portal''s.';
    elsif named_by = 'booking_id' then
        select k.id
        into new.conversation_id
        from public.conversations k
        where k.booking_id = new.booking_id;
    elsif named_by = 'customer_id' and me is not null then
        new.conversation_id := private.thread_of_customer(new.customer_id);
    end if;

    select k.*
    into thread
    from public.conversations k
    where k.id = new.conversation_id;
    is_staff := thread.account_id in (select private.my_writable_account_ids());
    if me is null
        or thread.id is null
        or not (is_staff or thread.customer_id in (select private.my_customer_ids()))
    then
        if thread.account_id in (select private.my_account_ids()) then
            raise insufficient_privilege using
                message = 'You may read this conversation, not write in it.',
                hint = 'Owners, admins and agents may.';
        end if;
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = case named_by
                when 'conversation_id'
                    then format('field: conversation_id; conversation: %s', named)
                else format('field: %s', named_by)
            end;
    elsif new.booking_id <> thread.booking_id
        or (new.booking_id is not null and thread.booking_id is null)
    then
        raise sqlstate 'PT422' using
            message = 'This conversation is not about that booking.',
            detail = 'field: booking_id',
            hint = 'Name the one or the other.';
    end if;

    -- whoever numbers messages holds the conversation's lock; read once more, since it may have
    -- gone to another contact while this waited
    select k.*
    into thread
    from public.conversations k
    where k.id = thread.id
    for no key update;
    new.account_id := thread.account_id;
    new.customer_id := thread.customer_id;
    new.booking_id := thread.booking_id;
    new.whatsapp_channel_id := thread.whatsapp_channel_id;
    new.sender_type := case when is_staff then 'operator' else 'client' end;
    new.sender_id := me::text;
    new.sender_name := case
        when is_staff then (
            select m.display_name
            from public.account_members m
            where m.account_id = thread.account_id
              and m.user_id = me
        )
        else (select left(c.name, 200) from public.customers c where c.id = thread.customer_id)
    end;
    new.invoice_data := private.check_invoice_data(post => new, channel => thread.channel);
    new.has_invoice := new.invoice_data is not null;
    if new.has_invoice then
        new.message := coalesce(new.message, 'Invoice ' || (new.invoice_data ->> 'number'));
    end if;
    perform private.check_post(post => new, channel => thread.channel);

    perform private.set_conversation_status(conversation_id => thread.id, status => 'open')
    where thread.status = 'closed';

    update public.conversation_activity a
    set last_seq = a.last_seq + 1,
        last_message_at = greatest(a.last_message_at, now()),
        last_inbound_at = case
            when is_staff then a.last_inbound_at
            else greatest(a.last_inbound_at, now())
        end
    where a.conversation_id = thread.id
    returning a.last_seq into new.seq;

    new.sent_at := now();
    new.status := case when thread.channel = 'whatsapp' then 'queued' else 'sent' end;
    return new;
end
$$;

create function private.enqueue_messages(message_ids uuid[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into private.outbound_queue (message_id, whatsapp_channel_id, conversation_id, seq)
    select m.id, m.whatsapp_channel_id, m.conversation_id, m.seq
    from public.messages m
    where m.id = any (message_ids);
    perform private.ring('deliver_outbound');
end
$$;

-- everything else is the database's to say
grant insert (
    id, conversation_id, type, message, content, reply_to, client_ref, booking_id, customer_id,
    has_invoice, invoice_data
)
    on public.messages to authenticated;

comment on function private.enqueue_messages(uuid[]) is
    'Puts messages that are to be sent by WhatsApp into the queue.';


/*
    The same as inserting a row, for those who would rather call: once for each client_ref, and
    answered with the row, also where it was written before.
*/
create function public.post_message(
    conversation_id uuid default null,
    message text default null,
    type text default 'text',
    content jsonb default null,
    reply_to uuid default null,
    client_ref text default null,
    booking_id uuid default null,
    customer_id uuid default null,
    invoice_data jsonb default null
)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    posted public.messages;
begin
    for attempt in 1 .. 2 loop
        -- a repeated send is the message that was sent
        select m.*
        into posted
        from public.messages m
        where m.client_ref = post_message.client_ref
          and m.sender_id = (select auth.uid())::text
          and case
                  when post_message.conversation_id is not null
                      then m.conversation_id = post_message.conversation_id
                  when post_message.booking_id is not null
                      then m.booking_id = post_message.booking_id
                  else exists (
                      select
                      from public.conversations k
                      where k.id = m.conversation_id
                        and k.channel = 'portal'
                  )
                  and (
                      m.customer_id = post_message.customer_id
                      -- merged since: its messages are the kept one's
                      or not exists (
                          select
                          from public.customers c
                          where c.id = post_message.customer_id
                      )
                  )
              end
        limit 1;
        exit when found;

        begin
            insert into public.messages (
                conversation_id, type, message, content, reply_to, client_ref, booking_id,
                customer_id, invoice_data
            )
            values (
                post_message.conversation_id,
                post_message.type,
                post_message.message,
                post_message.content,
                post_message.reply_to,
                post_message.client_ref,
                post_message.booking_id,
                post_message.customer_id,
                post_message.invoice_data
            )
            returning * into posted;
            exit;
        exception
            when unique_violation then
                if attempt = 2 then
                    raise sqlstate 'PT409' using
                        message = 'You have used this reference for another message.',
                        detail = 'field: client_ref',
                        hint = 'Give each message a reference of its own.';
                end if;
        end;
    end loop;
    return to_jsonb(posted);
end
$$;

grant execute on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
)
    to authenticated;


comment on function public.post_message(
    uuid, text, text, jsonb, uuid, text, uuid, uuid, jsonb
) is
    'Writes in a conversation and answers the message; one of the same client_ref is written once. The same as inserting into messages: say which conversation_id, or which booking_id, or the customer_id for the conversation in the portal, which is opened if need be. With invoice_data {invoice_id} staff show an invoice.';
