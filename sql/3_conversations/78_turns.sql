/*
    The effect of a customer's message at the desk. It ends a snooze. If the account assigns in
    turn, a free conversation goes to the member at the desk whose turn it is.

    The client of a member says once a minute that the member is at the desk. The time is no column
    of account_members, because every policy of every statement reads that table.
*/
create table private.desk_presence (
    account_id uuid not null,
    user_id    uuid not null,
    seen_at    timestamptz not null default now(),

    primary key (account_id, user_id),
    constraint desk_presence_member_fkey
        foreign key (account_id, user_id)
        references public.account_members (account_id, user_id)
        on delete cascade
);
alter table private.desk_presence enable row level security;


create policy "nobody reads who is at the desk directly"
    on private.desk_presence
    for all
    to authenticated
    using (false);


-- A table of its own: a turn is decided while its row is locked, and a client that says that it is
-- there must not wait for that lock.
create table private.desk_turns (
    account_id  uuid not null,
    user_id     uuid not null,
    assigned_at timestamptz not null default '-infinity',

    primary key (account_id, user_id),
    constraint desk_turns_member_fkey
        foreign key (account_id, user_id)
        references public.account_members (account_id, user_id)
        on delete cascade
);
alter table private.desk_turns enable row level security;


create policy "nobody reads turns directly"
    on private.desk_turns
    for all
    to authenticated
    using (false);


create function private.stay_at_desk(account_id uuid)
    returns void
    language plpgsql
    -- definer: users may not write who is there; the caller writes itself alone
    security definer
    set search_path = ''
as $$
declare
    account constant uuid := coalesce(
        account_id, private.only_account_id(array(select private.my_account_ids())));
begin
    perform private.require_member(account);
    insert into private.desk_presence as p (account_id, user_id)
    values (account, auth.uid())
    on conflict on constraint desk_presence_pkey do update
        set seen_at = now();
    insert into private.desk_turns (account_id, user_id)
    values (account, auth.uid())
    on conflict on constraint desk_turns_pkey do nothing;
end
$$;

grant execute on function private.stay_at_desk(uuid) to authenticated;


create function public.stay_at_desk(account_id uuid default null)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.stay_at_desk(account_id);
end
$$;

grant execute on function public.stay_at_desk(uuid) to authenticated;


create function private.next_at_desk(account_id uuid)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    chosen uuid;
begin
    -- two conversations that come at once go to two members
    select t.user_id
    into chosen
    from private.desk_turns t
    join private.desk_presence p
        on p.account_id = t.account_id
       and p.user_id = t.user_id
    join public.account_members m
        on m.account_id = t.account_id
       and m.user_id = t.user_id
    where t.account_id = next_at_desk.account_id
      and p.seen_at > now() - interval '2 minutes'
      and m.role in ('owner', 'admin', 'agent')
    order by t.assigned_at, t.user_id
    limit 1
    for no key update of t skip locked
    -- a member whose role is being changed is passed over
    for share of m skip locked;
    if found then
        update private.desk_turns t
        set assigned_at = clock_timestamp()
        where t.account_id = next_at_desk.account_id
          and t.user_id = chosen;
        return chosen;
    end if;

    -- all turns are locked by others: do not wait for them
    return (
        select p.user_id
        from private.desk_presence p
        join private.desk_turns t
            on t.account_id = p.account_id
           and t.user_id = p.user_id
        join public.account_members m
            on m.account_id = p.account_id
           and m.user_id = p.user_id
        where p.account_id = next_at_desk.account_id
          and p.seen_at > now() - interval '2 minutes'
          and m.role in ('owner', 'admin', 'agent')
        order by t.assigned_at, p.user_id
        limit 1
        for share of m skip locked
    );
end
$$;


create function private.tg_messages__reach_desk()
    returns trigger
    language plpgsql
    -- definer: it writes the state for every writer
    security definer
    set search_path = ''
    -- few rows at a time, found by key, as in the followed tables' own triggers
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set jit = off
as $$
declare
    reached record;
    next_member uuid;
begin
    for reached in
        select
            n.conversation_id,
            n.account_id,
            bool_or(s.snoozed_until is not null) as is_snoozed,
            bool_or(s.assignee_id is null and a.assigns_in_turn) as is_assigned
        from new_rows n
        join public.accounts a
            on a.id = n.account_id
        left join public.desk_states s
            on s.id = n.conversation_id
        where n.sender_type = 'client'
          and not n.is_history
          and (s.snoozed_until is not null or s.assignee_id is null and a.assigns_in_turn)
        group by n.conversation_id, n.account_id
        order by n.conversation_id
    loop
        if reached.is_snoozed then
            perform private.end_snoozes(
                conversation_ids => array[reached.conversation_id], key => 'desk.answered');
        end if;
        continue when not reached.is_assigned;
        next_member := private.next_at_desk(reached.account_id);
        -- nobody is there: it stays free
        if next_member is not null then
            perform private.write_assignee(
                conversation_id => reached.conversation_id,
                account_id => reached.account_id,
                assignee_id => next_member
            );
        end if;
    end loop;
    return null;
end
$$;

create trigger _500_reach_desk
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    execute function private.tg_messages__reach_desk();


comment on table private.desk_presence is
    'When each member was last at the desk. Within 2 minutes it counts as present.';
comment on policy "nobody reads who is at the desk directly" on private.desk_presence is
    'next_at_desk reads it.';
comment on table private.desk_turns is
    'When each member was last given a conversation in turn.';
comment on policy "nobody reads turns directly" on private.desk_turns is
    'next_at_desk reads it.';
comment on function private.stay_at_desk(uuid) is
    'Notes that the caller is at the desk of an account.';
comment on function public.stay_at_desk(uuid) is
    'Says that you are at the desk of an account; say it once a minute while you are. It counts for 2 minutes: see accounts.assigns_in_turn. If you work for one account, it need not be named; for several: 422. Not a member of the account: 404.';
comment on function private.next_at_desk(uuid) is
    'The member present at the desk who was given a conversation least recently, and who has now had the turn; null if nobody who may answer is there.';
comment on function private.tg_messages__reach_desk() is
    'Ends the snooze of a conversation in which the customer writes, and gives a free one to the member whose turn it is.';
