/*
    What was done about people's data, as a record for the business: exports, erasures, legal holds.
    It has ids and counts, and no words of the people.
*/
create table public.privacy_actions (
    id          uuid primary key default gen_random_uuid(),
    account_id  uuid not null
                constraint privacy_actions_account_id_fkey
                references public.accounts on delete cascade,
    -- no foreign key: the record outlives the contact
    contact_id  uuid not null,
    action      text not null
                constraint privacy_actions_action_check
                check (action in ('export', 'erase', 'hold', 'release')),
    -- who asked: an owner, or null for the people who run the service; no foreign key, as above
    user_id     uuid,
    state       text not null default 'done'
                constraint privacy_actions_state_check check (state in ('running', 'done')),
    -- of an erasure: the rows of each table, and the files
    counts      jsonb not null default '{}',
    -- of an erasure: where words of the person still are, in rows of others
    remaining   jsonb not null default '[]',
    created_at  timestamptz not null default now(),
    finished_at timestamptz default now(),

    constraint privacy_actions_finished_check check ((state = 'done') = (finished_at is not null))
);
alter table public.privacy_actions enable row level security;


create index privacy_actions_account_idx
    on public.privacy_actions (account_id, created_at desc, id);

-- a person is erased once at a time
create unique index privacy_actions_running_key
    on public.privacy_actions (contact_id)
    where state = 'running';


create policy "owners can read what was done about people's data"
    on public.privacy_actions
    for select
    to authenticated
    using (account_id = any (array(select private.my_owned_account_ids())));


grant select on public.privacy_actions to authenticated;


/*
    An erasure at work: what it has to find, and how far it is. It holds the person's words, so it
    goes with its end.
*/
create table private.erasures (
    action_id  uuid primary key
               constraint erasures_action_id_fkey
               references public.privacy_actions on delete cascade,
    -- a private.person; as JSON, so that the type can get another column
    person     jsonb not null,
    -- what is searched for at the end, and its kind: name, number, email, username, tax number,
    -- message
    words      text[] not null,
    word_kinds text[] not null,
    step       text not null default 'rows'
               constraint erasures_step_check
               check (step in ('rows', 'partners', 'files', 'statistics', 'search')),
    -- in rows: the entry of personal_tables; in statistics and search: the table
    place      bigint not null default 0,
    -- in a table that is read block by block: the partition and the block
    cursor     jsonb,
    found      jsonb not null default '[]'
);
alter table private.erasures enable row level security;


create policy "nobody reads erasures directly"
    on private.erasures
    for all
    to authenticated
    using (false);


-- files to remove from the bucket
create table private.erased_files (
    action_id  uuid not null
               constraint erased_files_action_id_fkey
               references public.privacy_actions on delete cascade,
    object_key text not null,

    primary key (action_id, object_key)
);
alter table private.erased_files enable row level security;


create policy "nobody reads the files of erasures directly"
    on private.erased_files
    for all
    to authenticated
    using (false);


/*
    Where words of an erased person were found outside the account's own tables, such as in a login
    that another business knows too. That is for the people who run the service alone.
*/
create table private.found_words (
    action_id uuid primary key
              constraint found_words_action_id_fkey
              references public.privacy_actions on delete cascade,
    found     jsonb not null
);
alter table private.found_words enable row level security;


create policy "nobody reads found words directly"
    on private.found_words
    for all
    to authenticated
    using (false);


create function private.log_privacy_action(account_id uuid, contact_id uuid, action text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    insert into public.privacy_actions (account_id, contact_id, action, user_id)
    values (
        log_privacy_action.account_id,
        log_privacy_action.contact_id,
        log_privacy_action.action,
        auth.uid()
    );
end
$$;


create function private.account_of_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = account_of_contact.contact_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact.',
            detail = format('field: contact_id; contact: %s', contact_id),
            hint = 'Give the id of a contact, which contacts_v2 shows.';
    end if;
    return account;
end
$$;


create function private.require_owned_contact(contact_id uuid)
    returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    account uuid;
begin
    select c.account_id
    into account
    from public.contacts c
    where c.id = require_owned_contact.contact_id
      and c.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such contact, or it is not yours to see.',
            detail = format('field: contact_id; contact: %s', contact_id);
    elsif account not in (select private.my_owned_account_ids()) then
        raise insufficient_privilege using
            message = 'Only an owner decides about all that is known of a person.',
            hint = 'Ask an owner of the account.';
    end if;
    return account;
end
$$;


comment on table public.privacy_actions is
    'Exports and erasures of people''s data, and legal holds: who, when, which contact, counts. No words of the people. For owners.';
comment on column public.privacy_actions.id is
    'Identifies the action.';
comment on column public.privacy_actions.account_id is
    'The account whose contact it is.';
comment on column public.privacy_actions.contact_id is
    'The contact; of a merged one, the contact into which it was merged.';
comment on column public.privacy_actions.action is
    'export, erase, hold or release.';
comment on column public.privacy_actions.user_id is
    'The owner who asked (auth.users); null for the people who run the service.';
comment on column public.privacy_actions.state is
    'running: an erasure that is not finished; the schedule goes on with it. done otherwise.';
comment on column public.privacy_actions.counts is
    'Of an erasure: how many rows of each table went or changed, and how many files were removed.'
    ' Type: {[text]: bigint}';
comment on column public.privacy_actions.remaining is
    'Of an erasure: the rows of others in which words of the person were found at its end, at most 200, such as a message that quotes the name. They stay, for a person to judge.'
    ' Type: {table: text, id: text, kinds: text[]}[]';
comment on column public.privacy_actions.created_at is
    'When it was asked for (server time, UTC).';
comment on column public.privacy_actions.finished_at is
    'When it was finished (server time, UTC); null while it runs.';
comment on policy "owners can read what was done about people's data" on public.privacy_actions is
    'It is the business'' record of what it did for people who asked.';
comment on table private.erasures is
    'Erasures at work: what they have to find, and how far they are.';
comment on policy "nobody reads erasures directly" on private.erasures is
    'They hold the words of a person until all others are gone.';
comment on table private.erased_files is
    'Files of erased people that are still in the bucket.';
comment on policy "nobody reads the files of erasures directly" on private.erased_files is
    'The worker asks for them.';
comment on table private.found_words is
    'Where words of an erased person were found outside the account''s own tables.';
comment on policy "nobody reads found words directly" on private.found_words is
    'It is for the people who run the service.';
comment on function private.log_privacy_action(uuid, uuid, text) is
    'Records an action of the caller.';
comment on function private.account_of_contact(uuid) is
    'The account of a contact. Refuses one that is not there (404).';
comment on function private.require_owned_contact(uuid) is
    'The account of a contact, if the caller is its owner (403), and if the caller may see it at all (404).';
