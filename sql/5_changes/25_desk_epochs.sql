/*
    How often a customer has lost access to an account's desk. This is not in topic_epochs: the
    account's epoch is part of the names of all its conversations. One customer who leaves must not
    rename the conversations of all others.
*/
create table private.desk_epochs (
    account_id uuid primary key
               constraint desk_epochs_account_id_fkey
               references public.accounts on delete cascade,
    epoch      integer not null default 1
);
alter table private.desk_epochs enable row level security;


create policy "nobody reads desk epochs directly"
    on private.desk_epochs
    for all
    to authenticated
    using (false);


create function private.desk_epoch(account_id uuid)
    returns integer
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- Both numbers only rise, so no sum comes twice.
    return private.topic_epoch(account_id) + coalesce((
        select e.epoch
        from private.desk_epochs e
        where e.account_id = desk_epoch.account_id
    ), 0);
end
$$;


create function private.desk_topic(account_id uuid, epoch integer)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return 'presence:desk:' || account_id || ':' || epoch;
end
$$;


comment on table private.desk_epochs is
    'How often a customer''s login lost the desk of an account. No row means never.';
comment on policy "nobody reads desk epochs directly" on private.desk_epochs is
    'my_topics gives the names of topics.';
comment on function private.desk_epoch(uuid) is
    'The epoch of an account''s desk. It rises with each member and each customer''s login that leaves.';
comment on function private.desk_topic(uuid, integer) is
    'The name of an account''s desk topic in an epoch.';
