/*
    The base of all faces of a contact: the contact with its current conversation, which is the
    one with the latest activity. Before the first conversation a contact has a status of its own.
*/
create function private.make_contact_states()
    returns void
    language plpgsql
    set search_path = ''
as $make$
begin
    execute format(
        $sql$
        create or replace view private.contact_states
            with (security_invoker = true)
        as
        select
            c.id,
            c.account_id,
            -- as in contacts_list_idx
            case when c.name is null then c.profile_name else c.name end as name,
            c.name as own_name,
            coalesce(t.status, c.status) as status,
            t.conversation_id,
            t.channel,
            t.customer_wa_id,
            t.last_message_at,
            t.last_inbound_at,
            c.created_at,
            c.updated_at,
            c.version,
            c.%s
        from public.contacts c
        left join lateral (
            select
                a.conversation_id,
                k.status,
                k.channel,
                k.customer_wa_id,
                a.last_message_at,
                a.last_inbound_at
            from public.conversation_activity a
            join public.conversations k
                on k.id = a.conversation_id
            where a.customer_id = c.id
            -- WhatsApp's times are whole seconds: one conversation may close and the next one open
            -- in the same second
            order by a.last_message_at desc, k.created_at desc, a.conversation_id desc
            limit 1
        ) t
            on true
        where c.deleted_at is null
        $sql$,
        (
            select string_agg(quote_ident(f.field), ', c.' order by f.place)
            from private.contact_fields f
            where f.field <> 'name'
        )
    );
end
$make$;

select private.make_contact_states();


grant select on private.contact_states to authenticated;


comment on view private.contact_states is
    'A contact with its current conversation (latest activity): the base of the faces.';
comment on function private.make_contact_states() is
    'Makes private.contact_states for the fields that contacts have now.';
