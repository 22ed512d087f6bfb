/*
    A bill to a customer. Amounts are in minor units (cents) of one currency, with the tax included.

        draft ──► sent ──► paid
                   │ ▲
                   ▼ │ (due later)
                 overdue ──► paid        (draft, sent and overdue may become void)

    Only the business sees a draft. For the customer an invoice begins when it is sent, and from
    then on its amounts can't change.
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
    -- What every client can count with: JavaScript loses cents beyond 2^53 - 1.
    amount_minor bigint not null
                 constraint invoices_amount_minor_check
                 check (amount_minor between 0 and 9007199254740991),
    tax_minor    bigint not null default 0,
    description  text
                 constraint invoices_description_check check (length(description) <= 4000),
    -- like the times of jobs: the years that every client can read
    issued_on    date
                 constraint invoices_issued_on_check
                 check (issued_on between '0001-01-02' and '9999-12-30'),
    due_on       date
                 constraint invoices_due_on_check
                 check (due_on between '0001-01-02' and '9999-12-30'),
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

-- for mark_overdue_invoices
create index invoices_due_on_idx
    on public.invoices (due_on, id)
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

-- A reader who may not change an invoice is refused, instead of changing no row.
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


comment on table public.invoices is
    'Bills to customers. An invoice begins as a draft, and its status sends it. A sent invoice can''t be deleted: make it void.';
comment on column public.invoices.id is
    'Identifies the invoice. A client may choose it.';
comment on column public.invoices.account_id is
    'The customer''s account; filled in if not given.';
comment on column public.invoices.customer_id is
    'The customer: a contact''s id. A merged contact stands for the one it was merged into.';
comment on column public.invoices.job_id is
    'The job that it bills, of the same customer; null for none. The job''s chat hears of the invoice.';
comment on column public.invoices.number is
    'The business'' own invoice number, unique in the account; 1 to 64 characters.';
comment on column public.invoices.status is
    'draft, sent, paid, overdue or void. The daily schedule makes a sent invoice overdue once due_on has passed.';
comment on column public.invoices.currency is
    'The currency as in ISO 4217, such as EUR.';
comment on column public.invoices.amount_minor is
    'The total with tax, in minor units: 12050 is 120.50 EUR.';
comment on column public.invoices.tax_minor is
    'The tax within amount_minor, in the same minor units.';
comment on column public.invoices.description is
    'What the invoice is for, as the customer reads it; at most 4,000 characters.';
comment on column public.invoices.issued_on is
    'The date of the invoice; if not given, the day on which it is sent.';
comment on column public.invoices.due_on is
    'The last day to pay it, in the account''s time zone. Without it an invoice never becomes overdue.';
comment on column public.invoices.sent_at is
    'When it was sent and became visible to the customer (UTC); null for a draft. The customer hears it through postgres_changes as an UPDATE whose old sent_at is null, and as the broadcast invoices.inserted.';
comment on column public.invoices.paid_at is
    'When its status became paid (server time, UTC); null until then.';
comment on column public.invoices.voided_at is
    'When its status became void (server time, UTC); null until then.';
comment on column public.invoices.created_at is
    'When the draft was made (server time, UTC).';
comment on column public.invoices.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.invoices.version is
    'Rises by 1 with each change of the row.';
comment on policy "members and the customer, once it is sent, can read an invoice"
    on public.invoices is
    'Customers do not see drafts, not even drafts that were made void.';
comment on policy "owners, admins and agents can write invoices" on public.invoices is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change invoices" on public.invoices is
    'Viewers and customers only read: their writes are refused.';


comment on constraint invoices_number_check on public.invoices is
    'An invoice''s number must have 1 to 64 characters.';
comment on constraint invoices_number_key on public.invoices is
    'Another invoice of this account has this number.
Give the invoice a number of its own.';
comment on constraint invoices_status_check on public.invoices is
    'There is no such status of an invoice.
Use draft, sent, paid, overdue or void.';
comment on constraint invoices_currency_check on public.invoices is
    'A currency must be three capital letters of ISO 4217.
For example EUR.';
comment on constraint invoices_amount_minor_check on public.invoices is
    'An amount must be a number of minor units from 0 to 9,007,199,254,740,991.
12050 is 120.50 EUR.';
comment on constraint invoices_tax_minor_check on public.invoices is
    'The tax must be at least 0 and at most amount_minor, since the amount includes it.';
comment on constraint invoices_description_check on public.invoices is
    'A description can have at most 4,000 characters.';
comment on constraint invoices_issued_on_check on public.invoices is
    'An invoice must be issued between the years 1 and 9999.';
comment on constraint invoices_due_on_check on public.invoices is
    'An invoice must be due between the years 1 and 9999.';
comment on constraint invoices_job_fkey on public.invoices is
    'This customer has no such job.
Name one of the customer''s jobs, or none.';
comment on constraint invoices_status_time_check on public.invoices is
    'The status does not match the times at which the invoice was sent, paid or made void.';


select private.guard_table(
    'invoices',
    inserted => array[
        'id', 'account_id', 'customer_id', 'job_id', 'number', 'currency', 'amount_minor',
        'tax_minor', 'description', 'issued_on', 'due_on'
    ],
    updated => array[
        'job_id', 'number', 'status', 'currency', 'amount_minor', 'tax_minor', 'description',
        'issued_on', 'due_on'
    ]
);

select private.follow_table(
    table_name => 'invoices',
    shown => array[
        'id', 'account_id', 'customer_id', 'job_id', 'number', 'status', 'currency',
        'amount_minor', 'tax_minor', 'description', 'issued_on', 'due_on', 'sent_at', 'paid_at',
        'voided_at', 'created_at', 'updated_at', 'version'
    ],
    seen_since => 'sent_at'
);
select private.limit_writes('invoices', '{insert,update}');
