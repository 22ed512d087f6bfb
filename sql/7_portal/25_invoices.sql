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
    -- as the times of jobs: what every client can read
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

-- what the daily function looks for
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
    'draft, sent, paid, overdue (by schedule, once due_on is over) or void.';
comment on column public.invoices.currency is
    'ISO 4217, such as EUR.';
comment on column public.invoices.amount_minor is
    'The total with tax, in minor units: 12050 is 120.50 EUR.';
comment on column public.invoices.tax_minor is
    'The tax in amount_minor.';
comment on column public.invoices.issued_on is
    'Its date; the day on which it is sent, if not given.';
comment on column public.invoices.due_on is
    'The last day to pay it, in the account''s time zone; without, it is never overdue.';
comment on column public.invoices.sent_at is
    'When it became the customer''s to see (UTC); null for a draft. postgres_changes tells a customer of this as an UPDATE whose old sent_at is null, broadcast as invoices.inserted.';
comment on policy "members and the customer, once it is sent, can read an invoice"
    on public.invoices is
    'A draft, also one that was made void, is not the customer''s to see.';
comment on policy "owners, admins and agents can write invoices" on public.invoices is
    'For customers of their accounts.';
comment on policy "owners, admins and agents can change invoices" on public.invoices is
    'Viewers and customers look: what they write is refused.';


comment on constraint invoices_number_check on public.invoices is
    'An invoice''s number has 1 to 64 characters.';
comment on constraint invoices_number_key on public.invoices is
    'Another invoice of this account has this number.
Give it a number of its own.';
comment on constraint invoices_status_check on public.invoices is
    'This is not a status of invoices.
Known: draft, sent, paid, overdue, void.';
comment on constraint invoices_currency_check on public.invoices is
    'A currency is three capital letters of ISO 4217.
Such as EUR.';
comment on constraint invoices_amount_minor_check on public.invoices is
    'An amount is a number of minor units from 0 to 9,007,199,254,740,991.
12050 is 120.50 EUR.';
comment on constraint invoices_tax_minor_check on public.invoices is
    'The tax is part of the amount: at least 0, and no more than amount_minor.';
comment on constraint invoices_description_check on public.invoices is
    'A description has at most 4,000 characters.';
comment on constraint invoices_issued_on_check on public.invoices is
    'An invoice is issued between the years 1 and 9999.';
comment on constraint invoices_due_on_check on public.invoices is
    'An invoice is due between the years 1 and 9999.';
comment on constraint invoices_job_fkey on public.invoices is
    'This customer has no such job.
Name one of the customer''s jobs, or none.';
comment on constraint invoices_status_time_check on public.invoices is
    'The status does not agree with the times at which it was sent, paid or made void.';


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
