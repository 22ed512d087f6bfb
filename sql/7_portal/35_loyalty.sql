/*
    A customer's points: a ledger of lines that are added and never changed, and their sum. Points
    are positive where they are earned or given as a bonus, and negative where they are redeemed or
    expire. So the sum of the lines is the balance.

    Each line that gives points is a lot, from which later lines take: from the lot that expires
    first. So exactly the points that nobody redeemed expire.
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

    -- for foreign keys that include the account and the customer
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
            -- like the times of jobs: the years that every client can read
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
    One row for each customer who ever had points: their sum. Redemptions queue for this row.
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

    -- a line that moves to another customer takes its lot along
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
    'A customer''s points, line by line. Insert a line to give points (earned, bonus) or to take them (redeemed). A line never changes, and the balance never goes below zero (409).';
comment on column public.loyalty_transactions.id is
    'The line''s id. Choose it yourself, and a repeated insert is refused (409) instead of counted twice.';
comment on column public.loyalty_transactions.account_id is
    'The customer''s account; filled in if not given.';
comment on column public.loyalty_transactions.customer_id is
    'The customer: a contact''s id. A merged contact stands for the one it was merged into.';
comment on column public.loyalty_transactions.type is
    'earned, bonus or redeemed. Only the daily schedule writes expired.';
comment on column public.loyalty_transactions.points is
    'The number of points: positive for earned and bonus, negative for redeemed and expired.';
comment on column public.loyalty_transactions.description is
    'The reason, as the customer reads it; at most 500 characters.';
comment on column public.loyalty_transactions.expires_on is
    'The last day on which these points may be redeemed, in the account''s time zone; null if they never expire.';
comment on column public.loyalty_transactions.created_at is
    'When the line was written (server time, UTC).';
comment on column public.loyalty_transactions.updated_at is
    'When the row last changed (server time, UTC): a line only moves to another customer in a merge.';
comment on column public.loyalty_transactions.version is
    'Rises by 1 with each change of the row.';
comment on table public.loyalty_balances is
    'A customer''s balance of points. No row means none.';
comment on column public.loyalty_balances.customer_id is
    'The customer: a contact''s id.';
comment on column public.loyalty_balances.account_id is
    'The customer''s account.';
comment on column public.loyalty_balances.points is
    'The sum of the customer''s loyalty_transactions. Points past expires_on count until the daily schedule writes them off.';
comment on column public.loyalty_balances.updated_at is
    'When the balance last changed (server time, UTC).';
comment on table private.loyalty_lots is
    'The rest of each line that gave points.';
comment on policy "members and the customer can read a line of points"
    on public.loyalty_transactions is
    'A customer sees its own points.';
comment on policy "owners, admins and agents can add lines of points"
    on public.loyalty_transactions is
    'For customers of their accounts.';
comment on policy "the schedule alone says what expires" on public.loyalty_transactions is
    'Points expire when their time has passed.';
comment on policy "members and the customer can read a balance" on public.loyalty_balances is
    'A customer sees its own balance.';
comment on policy "nobody reads lots of points directly" on private.loyalty_lots is
    'Clients see the lines and the balance.';


comment on constraint loyalty_transactions_pkey on public.loyalty_transactions is
    'There is a line of points with this id already.
It counts once. Give another line an id of its own.';
comment on constraint loyalty_transactions_type_check on public.loyalty_transactions is
    'There is no such type of points.
Use earned, redeemed or bonus.';
comment on constraint loyalty_transactions_points_check on public.loyalty_transactions is
    'Points must be positive for earned and bonus, and negative for redeemed.';
comment on constraint loyalty_transactions_description_check on public.loyalty_transactions is
    'A description can have at most 500 characters.';
comment on constraint loyalty_transactions_expires_on_check on public.loyalty_transactions is
    'Only earned and bonus points may expire, between the years 1 and 9999.
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
