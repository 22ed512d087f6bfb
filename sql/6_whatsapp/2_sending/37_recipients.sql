/*
    Recipients that can't get a message even while the window is open: a group that no longer
    exists, or a person who has stopped marketing messages. Writers and the worker use the same
    rule, since the person may stop them while the message waits.
    (Source: developers.facebook.com, WhatsApp Business Platform, "Groups API" and
    "user_preferences webhook reference".)
*/
create type private.recipient_fault as (
    field   text,
    message text,
    hint    text,
    -- a code of private.send_errors
    code    integer
);


create function private.template_category(content jsonb, whatsapp_channel_id uuid)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select upper(t.category)
        from public.whatsapp_channels w
        join public.whatsapp_templates t
            on t.account_id = w.account_id
           and t.waba_id = w.waba_id
        where w.id = template_category.whatsapp_channel_id
          and t.name = content ->> 'name'
          and t.language = coalesce(content #>> '{language,code}', content ->> 'language')
    );
end
$$;


create function private.recipient_fault(post public.messages)
    returns private.recipient_fault
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    category constant text := case when post.type = 'template' then private.template_category(
        post.content, whatsapp_channel_id => post.whatsapp_channel_id) end;
    state text;
    stopped_at timestamptz;
begin
    if post.customer_id is null then
        select k.group_state
        into state
        from public.conversations k
        where k.id = post.conversation_id;
        return case
            when state <> 'active' then (
                'conversation_id',
                format('The group is %s, so it can''t get messages.', state),
                case state
                    when 'suspended' then 'WhatsApp has suspended the group. Write to its participants one by one.'
                    else 'Write to its participants one by one.'
                end,
                -2
            )::private.recipient_fault
            when post.type = 'interactive' or category = 'AUTHENTICATION' then (
                'type',
                'A group can''t get this type of message.',
                'Send a text, a file, or a template with these.',
                -2
            )::private.recipient_fault
        end;
    end if;

    if category = 'MARKETING' then
        select c.marketing_stopped_at
        into stopped_at
        from public.contacts c
        where c.id = post.customer_id;
        if stopped_at is not null then
            return (
                'content.name',
                format(
                    'This person stopped marketing messages on WhatsApp on %s.',
                    to_char(stopped_at at time zone 'UTC', 'YYYY-MM-DD')
                ),
                'Send a utility template. Marketing templates can go again once the person resumes them.',
                131050
            )::private.recipient_fault;
        end if;
    end if;
    return null;
end
$$;


create function private.check_recipient(post public.messages)
    returns void
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    fault constant private.recipient_fault := private.recipient_fault(post);
begin
    if fault.message is not null then
        raise sqlstate 'PT422' using
            message = fault.message,
            detail = 'field: ' || fault.field,
            hint = fault.hint;
    end if;
end
$$;


comment on type private.recipient_fault is
    'Why a recipient can''t get a message: the field, a sentence, the remedy, and the code of the failure.';
comment on function private.template_category(jsonb, uuid) is
    'The category of a template message, such as MARKETING; null where the template is not known.';
comment on function private.recipient_fault(public.messages) is
    'Why the recipient can''t get a message; null where the recipient can.';
comment on function private.check_recipient(public.messages) is
    'Refuses a message that its recipient can''t get, and names the field.';
