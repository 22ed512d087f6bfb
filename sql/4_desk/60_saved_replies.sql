/*
    Replies that a team writes often. Their variables are filled for the customer of a conversation;
    see private.fill_text.
*/
create table public.saved_replies (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null
               constraint saved_replies_account_id_fkey
               references public.accounts on delete cascade,
    short_code text not null
               constraint saved_replies_short_code_check check (short_code ~ '^[a-z0-9_-]{1,32}$'),
    title      text
               constraint saved_replies_title_check check (length(title) <= 200),
    text       text not null
               constraint saved_replies_text_check
               check (btrim(text, E' \t\r\n') <> '' and length(text) <= 4096),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version    bigint not null default 1,

    constraint saved_replies_short_code_key unique (account_id, short_code)
);
alter table public.saved_replies enable row level security;


create policy "members can read saved replies"
    on public.saved_replies
    for select
    to authenticated
    using (account_id = any (array(select private.my_account_ids())));

create policy "owners, admins and agents can write saved replies"
    on public.saved_replies
    for insert
    to authenticated
    with check (account_id = any (array(select private.my_writable_account_ids())));

-- A reader who may not change a reply is refused, instead of changing no row.
create policy "owners, admins and agents can change saved replies"
    on public.saved_replies
    for update
    to authenticated
    using (account_id = any (array(select private.my_account_ids())))
    with check (account_id = any (array(select private.my_writable_account_ids())));

create policy "owners, admins and agents can delete saved replies"
    on public.saved_replies
    for delete
    to authenticated
    using (account_id = any (array(select private.my_writable_account_ids())));


grant select, delete on public.saved_replies to authenticated;


create function private.tg_saved_replies__check_text()
    returns trigger
    language plpgsql
    -- definer: users may not call its helpers
    security definer
    set search_path = ''
as $$
begin
    perform private.check_text_variables(new.text);
    return new;
end
$$;

create trigger _005_default_account
    before insert on public.saved_replies
    for each row
    when (current_user = 'authenticated' and new.account_id is null)
    execute function private.tg__default_account();

create trigger _050_keep_owner
    before update of account_id on public.saved_replies
    for each row
    when (new.account_id <> old.account_id)
    execute function private.tg__keep_owner('account_id');

create trigger _080_check_text
    before insert or update of text on public.saved_replies
    for each row
    execute function private.tg_saved_replies__check_text();

create trigger _100_stamp_change
    before update on public.saved_replies
    for each row
    execute function private.tg__stamp_change();


create function public.saved_replies_beginning(
    account_id uuid,
    beginning text default '',
    page_size integer default 20
)
    returns setof public.saved_replies
    language plpgsql
    stable
    -- invoker: the caller finds only replies that it may read
    set search_path = ''
as $$
declare
    -- people write the code as they see it: /Hours
    wanted constant text := lower(ltrim(btrim(coalesce(beginning, '')), '/'));
begin
    return query
        select r.*
        from public.saved_replies r
        where r.account_id = saved_replies_beginning.account_id
          and (starts_with(r.short_code, wanted) or starts_with(lower(r.title), wanted))
        order by starts_with(r.short_code, wanted) desc, r.short_code
        limit least(greatest(page_size, 1), 100);
end
$$;

grant execute on function public.saved_replies_beginning(uuid, text, integer) to authenticated;


create function private.fill_saved_reply(reply_id uuid, conversation_id uuid)
    returns text
    language plpgsql
    stable
    -- definer: users may not call its helpers; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    thread public.conversations;
    reply public.saved_replies;
begin
    select k.*
    into thread
    from public.conversations k
    where k.id = fill_saved_reply.conversation_id
      and k.account_id in (select private.my_account_ids());
    if not found then
        raise sqlstate 'PT404' using
            message = 'There is no such conversation, or it is not yours to see.',
            detail = format('conversation: %s', fill_saved_reply.conversation_id);
    end if;
    perform private.require_writable(thread.account_id);
    select r.*
    into reply
    from public.saved_replies r
    where r.id = fill_saved_reply.reply_id
      and r.account_id = thread.account_id;
    if not found then
        raise sqlstate 'PT404' using
            message = 'The account has no such saved reply.',
            detail = format('field: reply_id; reply: %s', fill_saved_reply.reply_id);
    end if;
    return private.fill_text(
        text => reply.text,
        account_id => thread.account_id,
        customer_id => thread.customer_id,
        user_id => auth.uid(),
        job_id => thread.booking_id
    );
end
$$;

grant execute on function private.fill_saved_reply(uuid, uuid) to authenticated;


create function public.fill_saved_reply(reply_id uuid, conversation_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return private.fill_saved_reply(reply_id => reply_id, conversation_id => conversation_id);
end
$$;

grant execute on function public.fill_saved_reply(uuid, uuid) to authenticated;


comment on table public.saved_replies is
    'Replies that a team writes often. Insert, update and delete them as in any table; fill_saved_reply fills one for a conversation.';
comment on column public.saved_replies.id is
    'Identifies the reply. A client may choose it.';
comment on column public.saved_replies.account_id is
    'The account whose reply it is; filled in if you write for one account.';
comment on column public.saved_replies.short_code is
    'The code that people type to find it: 1 to 32 small letters, digits, hyphens and underscores, unique in the account.';
comment on column public.saved_replies.title is
    'The title that people read in the list; at most 200 characters.';
comment on column public.saved_replies.text is
    'The reply, 1 to 4,096 characters, with variables: {{contact.name}}, {{appointment.time}}, {{appointment.service}}, {{invoice.number}}, {{invoice.amount}}, {{invoice.due_on}}, {{points.total}}, {{agent.name}}, {{account.name}}.';
comment on column public.saved_replies.created_at is
    'When the reply was made (server time, UTC).';
comment on column public.saved_replies.updated_at is
    'When the row last changed (server time, UTC).';
comment on column public.saved_replies.version is
    'Rises by 1 with each change of the row.';
comment on constraint saved_replies_short_code_check on public.saved_replies is
    'A short code has 1 to 32 small letters, digits, hyphens and underscores.
Give a code such as opening-hours, without a slash.';
comment on constraint saved_replies_title_check on public.saved_replies is
    'A title can have at most 200 characters.';
comment on constraint saved_replies_text_check on public.saved_replies is
    'A saved reply has 1 to 4,096 characters.';
comment on constraint saved_replies_short_code_key on public.saved_replies is
    'The account has a saved reply with this short code.
Change that reply, or give another code.';
comment on policy "members can read saved replies" on public.saved_replies is
    'Members see the replies of their account. Customers see none.';
comment on policy "owners, admins and agents can write saved replies" on public.saved_replies is
    'For their own account.';
comment on policy "owners, admins and agents can change saved replies" on public.saved_replies is
    'Viewers only read: their writes are refused.';
comment on policy "owners, admins and agents can delete saved replies" on public.saved_replies is
    'Of their own account.';
comment on function private.tg_saved_replies__check_text() is
    'Refuses a saved reply with an unknown variable.';
comment on function public.saved_replies_beginning(uuid, text, integer) is
    'The saved replies whose short code or title begins like this, those by code first; at most 100, 20 if not said. A slash before the code is passed over.';
comment on function private.fill_saved_reply(uuid, uuid) is
    'A saved reply, filled for a conversation that the caller may write.';
comment on function public.fill_saved_reply(uuid, uuid) is
    'The text of a saved reply with its variables filled for a conversation''s customer, to be shown before it is sent. In a booking''s chat the appointment is the booking''s. A variable without a value is refused (422) with its name. Unknown reply or conversation: 404.';


select private.guard_table(
    'saved_replies',
    inserted => array['id', 'account_id', 'short_code', 'title', 'text'],
    updated => array['short_code', 'title', 'text']
);

select private.follow_table(
    table_name => 'saved_replies',
    shown => array[
        'id', 'account_id', 'short_code', 'title', 'text', 'created_at', 'updated_at', 'version'
    ],
    customer_key => null
);
select private.limit_writes('saved_replies', '{insert,update,delete}');
