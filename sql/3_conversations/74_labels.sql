/*
    Labels of an account's team on its conversations, such as "complaint". No customer sees them.
*/
create table public.labels (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint labels_account_id_fkey
               references public.accounts on delete cascade,
    name       text not null
               constraint labels_name_check check (btrim(name) <> '' and length(name) <= 64),
    colour     text not null default '#808080'
               constraint labels_colour_check check (colour ~ '^#[0-9a-f]{6}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint labels_name_key unique (account_id, name),
    -- for foreign keys that include the account
    constraint labels_id_account_id_key unique (id, account_id)
);
alter table public.labels enable row level security;


create policy "members can read labels"
    on public.labels
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));

create policy "owners, admins and agents can make labels"
    on public.labels
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- A reader who may not change a label is refused, instead of changing no row.
create policy "owners, admins and agents can change labels"
    on public.labels
    for update
    to authenticated
    using (account_id = any (array(select private.my_account_ids())))
    with check (account_id = any (array(select private.my_writable_account_ids())));

create policy "owners, admins and agents can delete labels"
    on public.labels
    for delete
    to authenticated
    using (account_id = any (array(select private.my_writable_account_ids())));


grant select, delete on public.labels to authenticated;


create trigger _005_default_account
    before insert on public.labels
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _050_keep_owner
    before update of account_id on public.labels
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _100_stamp_change
    before update on public.labels
    for each row
    execute function private.tg__stamp_change();


create table public.conversation_labels (
    id              uuid primary key default gen_random_uuid(),
    account_id      uuid not null,
    conversation_id uuid not null,
    label_id        uuid not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    version         bigint not null default 1,

    constraint conversation_labels_key unique (conversation_id, label_id),
    constraint conversation_labels_conversation_fkey
        foreign key (conversation_id, account_id)
        references public.conversations (id, account_id)
        on delete cascade,
    constraint conversation_labels_label_fkey
        foreign key (label_id, account_id)
        references public.labels (id, account_id)
        on delete cascade
);
alter table public.conversation_labels enable row level security;


create index conversation_labels_label_idx on public.conversation_labels (label_id, account_id);
create index conversation_labels_account_id_idx on public.conversation_labels (account_id);


create policy "members can read the labels of conversations"
    on public.conversation_labels
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));


grant select on public.conversation_labels to authenticated;


/*
    The labels of the conversations that are not closed, for counts by label: see
    unclosed_conversations. A row goes with the label, or when its conversation is closed.
*/
create table private.unclosed_labels (
    label_id        uuid not null,
    conversation_id uuid not null
        references private.unclosed_conversations
        on delete cascade,

    primary key (label_id, conversation_id),
    constraint unclosed_labels_label_fkey
        foreign key (conversation_id, label_id)
        references public.conversation_labels (conversation_id, label_id)
        on delete cascade
);
alter table private.unclosed_labels enable row level security;


create index unclosed_labels_conversation_idx
    on private.unclosed_labels (conversation_id, label_id);


create policy "nobody reads unclosed labels directly"
    on private.unclosed_labels
    for all
    to authenticated
    using (false);


create function private.tg_conversation_labels__keep_unclosed()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_labels (label_id, conversation_id)
    select new.label_id, u.conversation_id
    from private.unclosed_conversations u
    where u.conversation_id = new.conversation_id;
    return null;
end
$$;

create trigger _510_keep_unclosed
    after insert on public.conversation_labels
    for each row
    execute function private.tg_conversation_labels__keep_unclosed();


create function private.tg_conversations__return_labels()
    returns trigger
    language plpgsql
    -- definer: users may not read the table
    security definer
    set search_path = ''
as $$
begin
    insert into private.unclosed_labels (label_id, conversation_id)
    select l.label_id, l.conversation_id
    from public.conversation_labels l
    where l.conversation_id = new.id
    -- a label that is being deleted is waited for, and left out
    for key share;
    return null;
end
$$;

-- after _510_keep_unclosed, whose row it refers to
create trigger _520_return_labels
    after update of status on public.conversations
    for each row
    when (old.status = 'closed' and new.status <> 'closed')
    execute function private.tg_conversations__return_labels();


insert into private.sentences (key, language, sentence)
values
    ('desk.labelled', 'en', '{actor} has added the label {label}.'),
    ('desk.labelled', 'sl', 'Oznako {label} doda {actor}.'),
    ('desk.unlabelled', 'en', '{actor} has removed the label {label}.'),
    ('desk.unlabelled', 'sl', 'Oznako {label} odstrani {actor}.');


create function private.label_conversation(conversation_id uuid, label_id uuid, is_labelled boolean)
    returns void
    language plpgsql
    -- definer: users may not write the labels of conversations; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    most constant integer := 50;
    account constant uuid := private.lock_desk(conversation_id);
    named text;
begin
    select l.name
    into named
    from public.labels l
    where l.id = label_conversation.label_id
      and l.account_id = account
    for key share;
    if not found then
        raise sqlstate 'PT422' using
            message = 'The account has no such label.',
            detail = 'field: label_id',
            hint = 'Give the id of a row of labels.';
    end if;

    if is_labelled then
        if (
            select count(*)
            from public.conversation_labels o
            where o.conversation_id = label_conversation.conversation_id
              and o.label_id <> label_conversation.label_id
        ) >= most then
            raise sqlstate 'PT422' using
                message = format('A conversation has at most %s labels.', most),
                detail = 'field: label_id',
                hint = 'Remove one first.';
        end if;
        insert into public.conversation_labels as o (account_id, conversation_id, label_id)
        values (account, label_conversation.conversation_id, label_conversation.label_id)
        on conflict on constraint conversation_labels_key do nothing;
    else
        delete from public.conversation_labels o
        where o.conversation_id = label_conversation.conversation_id
          and o.label_id = label_conversation.label_id;
    end if;

    if found then
        perform private.note_event(
            conversation_id => conversation_id,
            key => case when is_labelled then 'desk.labelled' else 'desk.unlabelled' end,
            facts => jsonb_build_object('label_id', label_id, 'label', named)
        );
    end if;
end
$$;

grant execute on function private.label_conversation(uuid, uuid, boolean) to authenticated;


create function public.label_conversation(conversation_id uuid, label_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.label_conversation(
        conversation_id => conversation_id, label_id => label_id, is_labelled => true);
end
$$;

grant execute on function public.label_conversation(uuid, uuid) to authenticated;


create function public.unlabel_conversation(conversation_id uuid, label_id uuid)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    perform private.label_conversation(
        conversation_id => conversation_id, label_id => label_id, is_labelled => false);
end
$$;

grant execute on function public.unlabel_conversation(uuid, uuid) to authenticated;


comment on table public.labels is
    'The labels that an account''s team puts on conversations. Insert, update and delete them as in any table.';
comment on column public.labels.id is
    'Identifies the label. A client may choose it.';
comment on column public.labels.account_id is
    'The account whose label it is; filled in if you write for one account.';
comment on column public.labels.name is
    'The text that people read, 1 to 64 characters, unique in the account.';
comment on column public.labels.colour is
    'The colour in which it is shown: # and six hexadecimal digits in lower case.';
comment on column public.labels.created_at is
    'When the label was made (server time, UTC).';
comment on column public.labels.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.labels.version is
    'Rises by 1 with each change of the row.';
comment on constraint labels_name_check on public.labels is
    'A label''s name has 1 to 64 characters.';
comment on constraint labels_colour_check on public.labels is
    'A colour is # and six hexadecimal digits in lower case.
Give a colour such as #1f77b4.';
comment on constraint labels_name_key on public.labels is
    'The account has a label with this name.
Use that label, or give another name.';
comment on policy "members can read labels" on public.labels is
    'Members see the labels of their account. Customers see none.';
comment on policy "owners, admins and agents can make labels" on public.labels is
    'For their own account.';
comment on policy "owners, admins and agents can change labels" on public.labels is
    'Viewers only read: their writes are refused.';
comment on policy "owners, admins and agents can delete labels" on public.labels is
    'A deleted label leaves every conversation.';
comment on table public.conversation_labels is
    'Which conversations have which labels. Written by label_conversation and unlabel_conversation.';
comment on column public.conversation_labels.id is
    'Identifies the row.';
comment on column public.conversation_labels.account_id is
    'The account of the conversation and the label.';
comment on column public.conversation_labels.conversation_id is
    'The conversation.';
comment on column public.conversation_labels.label_id is
    'The label that it has.';
comment on column public.conversation_labels.created_at is
    'When it was labelled (server time, UTC).';
comment on column public.conversation_labels.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.conversation_labels.version is
    'Rises by 1 with each change of the row.';
comment on policy "members can read the labels of conversations" on public.conversation_labels is
    'Members see them for all conversations of their account. Customers see none.';
comment on table private.unclosed_labels is
    'The labels of the conversations that are open or pending.';
comment on policy "nobody reads unclosed labels directly" on private.unclosed_labels is
    'label_counts reads them, past the policy.';
comment on function private.tg_conversation_labels__keep_unclosed() is
    'Notes a new label of a conversation that is not closed.';
comment on function private.tg_conversations__return_labels() is
    'Notes the labels of a conversation that is opened again.';
comment on function private.label_conversation(uuid, uuid, boolean) is
    'Puts a label on a conversation, or takes it away, and notes it if that changes something.';
comment on function public.label_conversation(uuid, uuid) is
    'Puts a label of the account on a conversation, which has at most 50. No such label: 422. Unknown conversation: 404.';
comment on function public.unlabel_conversation(uuid, uuid) is
    'Takes a label from a conversation. No such label: 422. Unknown conversation: 404.';


select private.guard_table(
    'labels',
    inserted => array['id', 'account_id', 'name', 'colour'],
    updated => array['name', 'colour']
);

select private.follow_table(
    table_name => 'labels',
    shown => array['id', 'account_id', 'name', 'colour', 'created_at', 'updated_at', 'version'],
    customer_key => null
);
select private.limit_writes('labels', '{insert,update,delete}');

select private.follow_table(
    table_name => 'conversation_labels',
    shown => array[
        'id', 'account_id', 'conversation_id', 'label_id', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);
