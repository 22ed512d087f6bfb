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
    expires_on  date,
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
    constraint loyalty_transactions_expires_on_check
        check (
            expires_on is null
            or type in ('earned', 'bonus')
            -- as the times of jobs: what every client can read
            and expires_on between '0001-01-02' and '9999-12-30'
        )
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
    with check (account_id = any (array(select private.my_writable_account_ids())));

create policy "the schedule alone says what expires"
    on public.loyalty_transactions
    as restrictive
    for insert
    to authenticated
    with check (type <> 'expired');


grant select on public.loyalty_transactions to authenticated;


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
    expires_on     date,

    -- a line that goes to another customer takes its lot with it
    constraint loyalty_lots_transaction_fkey
        foreign key (transaction_id, account_id, customer_id)
        references public.loyalty_transactions (id, account_id, customer_id)
        on update cascade
        on delete cascade
);
alter table private.loyalty_lots enable row level security;


create index loyalty_lots_customer_idx
    on private.loyalty_lots (customer_id, expires_on, transaction_id)
    where points_left > 0;

create index loyalty_lots_expires_on_idx
    on private.loyalty_lots (expires_on, customer_id)
    where points_left > 0 and expires_on is not null;


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
comment on column public.loyalty_transactions.expires_on is
    'The last day on which these points may be redeemed, in the account''s time zone; null for good.';
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
    'For customers of their accounts.';
comment on policy "the schedule alone says what expires" on public.loyalty_transactions is
    'Points are written off once their time is over.';
comment on policy "members and the customer can read a balance" on public.loyalty_balances is
    'A customer sees its own total.';
comment on policy "nobody reads lots of points directly" on private.loyalty_lots is
    'Clients see lines and the total.';


comment on constraint loyalty_transactions_pkey on public.loyalty_transactions is
    'A line of points with this id has been written already.
It counts once; give another line an id of its own.';
comment on constraint loyalty_transactions_type_check on public.loyalty_transactions is
    'This is not a type of points.
Known: earned, redeemed, bonus.';
comment on constraint loyalty_transactions_points_check on public.loyalty_transactions is
    'Points are positive where they are earned or a bonus, negative where they are redeemed.';
comment on constraint loyalty_transactions_description_check on public.loyalty_transactions is
    'A description has at most 500 characters.';
comment on constraint loyalty_transactions_expires_on_check on public.loyalty_transactions is
    'Points that are earned or a bonus may expire, between the years 1 and 9999.
Leave expires_on out where points are redeemed.';


select private.guard_table(
    'loyalty_transactions',
    inserted => array[
        'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_on'
    ]
);

select private.follow_table(
    table_name => 'loyalty_transactions',
    shown => array[
        'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_on',
        'created_at', 'updated_at', 'version'
    ]
);
select private.limit_writes('loyalty_transactions', '{insert}');
