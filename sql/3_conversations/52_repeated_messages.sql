/*
    A message that is sent again with its client_ref stays one message.

    A trigger can't return another row in place of the one that is inserted. So the repeated row
    is left out. If a statement of PostgREST holds only repeated messages, the answer is 303 with
    the address of the existing messages, which every HTTP client follows. If it also holds new
    messages, the answer has only these.

    Source: docs.postgrest.org, "Errors", RAISE with full control of the response.
*/
create function private.tg_messages__leave_out_repeated()
    returns trigger
    language plpgsql
    -- definer: it looks up the account of the conversation for every writer
    security definer
    set search_path = ''
as $$
declare
    me constant text := auth.uid()::text;
    account uuid;
    sent public.messages;
    is_here boolean;
begin
    account := case
        when new.conversation_id is not null
            then (select k.account_id from public.conversations k where k.id = new.conversation_id)
        when new.booking_id is not null
            then (select j.account_id from public.jobs j where j.id = new.booking_id)
        else (select c.account_id from public.contacts c where c.id = new.customer_id)
    end;
    if account is null or me is null then
        return new;
    end if;

    -- two requests may send the same message at this moment
    perform pg_advisory_xact_lock(hashtextextended(account || me || new.client_ref, 0));
    select m.*
    into sent
    from public.messages m
    where m.account_id = account
      and m.sender_type in ('client', 'operator')
      and m.sender_id = me
      and m.client_ref = new.client_ref
      -- if the sender may no longer read it, the insert is refused like any other
      and (
          m.account_id in (select private.my_account_ids())
          or m.customer_id in (select private.my_customer_ids())
      )
    limit 1;
    if not found then
        return new;
    end if;

    is_here := case
        when new.conversation_id is not null then sent.conversation_id = new.conversation_id
        when new.booking_id is not null then sent.booking_id = new.booking_id
        else exists (
            select
            from public.conversations k
            where k.id = sent.conversation_id
              and k.channel = 'portal'
        )
        and (
            sent.customer_id = new.customer_id
            -- merged since: its messages have moved to the kept contact
            or exists (
                select
                from public.contacts c
                where c.id = new.customer_id
                  and c.merged_into is not null
            )
        )
    end;
    -- an edited or deleted message no longer has the text that was sent
    if is_here is not true
        or coalesce(sent.edited_at, sent.revoked_at) is null
        and (
            sent.type <> new.type
            -- the components of a template are made from its variables
            or case when new.content ? 'variables' then sent.content - 'components' else sent.content end
                is distinct from new.content
            or sent.message <> nullif(new.message, '')
            or sent.invoice_data ->> 'invoice_id' <> new.invoice_data ->> 'invoice_id'
        ) is true
    then
        raise sqlstate 'PT409' using
            message = 'You have sent another message under this reference.',
            detail = 'field: client_ref',
            hint = 'Give each message a reference of its own.';
    end if;

    perform set_config(
        'rapport.repeated', concat_ws(',', nullif(current_setting('rapport.repeated'), ''), sent.id), true);
    return null;
end
$$;


create function private.tg_messages__answer_repeated()
    returns trigger
    language plpgsql
    set search_path = ''
as $$
declare
    repeated text;
begin
    if tg_when = 'BEFORE' then
        perform set_config('rapport.repeated', '', true);
        return null;
    end if;
    repeated := current_setting('rapport.repeated');
    if repeated <> ''
        and current_setting('request.path', true) = '/messages'
        and not exists (select from new_rows)
    then
        raise sqlstate 'PGRST' using
            message = jsonb_build_object(
                'code', 'PT303',
                'message', 'This message exists already: it was sent under the same reference.',
                'details', 'field: client_ref',
                'hint', 'Read it at the address in the header Location.'
            )::text,
            detail = jsonb_build_object(
                'status', 303,
                'headers', jsonb_build_object('Location', format('?id=in.(%s)', repeated))
            )::text;
    end if;
    return null;
end
$$;


create trigger _000_expect_repeated
    before insert on public.messages
    for each statement
    when (current_user = 'authenticated')
    execute function private.tg_messages__answer_repeated();

-- before the message is numbered
create trigger _005_leave_out_repeated
    before insert on public.messages
    for each row
    when (current_user = 'authenticated' and new.client_ref is not null)
    execute function private.tg_messages__leave_out_repeated();

create trigger _990_answer_repeated
    after insert on public.messages
    referencing new table as new_rows
    for each statement
    when (current_user = 'authenticated')
    execute function private.tg_messages__answer_repeated();


comment on function private.tg_messages__leave_out_repeated() is
    'Leaves out a message that its sender has sent before with the same client_ref. If that was another message: 409.';
comment on function private.tg_messages__answer_repeated() is
    'Redirects PostgREST''s clients to the existing messages (303), if a statement has inserted no new one.';
