/*
    How often a customer has lost the desk of an account. Apart from topic_epochs: the account's
    epoch is part of the names of all its conversations, and those need no other name because
    one of many customers is gone.
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
    -- both only rise, so that a sum never comes twice
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
    'How often a customer''s login left the desk of an account; absent means never.';
comment on policy "nobody reads desk epochs directly" on private.desk_epochs is
    'Names of topics come from my_topics.';
comment on function private.desk_epoch(uuid) is
    'The epoch of an account''s desk: it rises with every member and every customer''s login that leaves.';
comment on function private.desk_topic(uuid, integer) is
    'The name that the desk of an account has, or had, in an epoch.';
