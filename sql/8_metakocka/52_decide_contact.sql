/*
    Which contact a partner is, of several or a new one.
*/
create function private.decide_contact(conflict public.sync_conflicts, choice text)
    returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    chosen uuid;
begin
    if choice = 'new' then
        chosen := gen_random_uuid();
        insert into public.contact_identities (account_id, kind, value, contact_id)
        values (conflict.account_id, 'metakocka', conflict.metakocka_id, chosen)
        on conflict on constraint contact_identities_pkey do nothing;
        if not found then
            raise sqlstate 'PT409' using
                message = 'This partner is a contact by now.',
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
        -- with its name alone: the sync brings the rest
        insert into public.contacts (id, account_id, name)
        values (
            chosen, conflict.account_id,
            nullif(left(btrim(conflict.metakocka ->> 'name'), 200), '')
        );
    else
        if not pg_input_is_valid(choice, 'uuid')
            or not choice::uuid = any (conflict.candidates)
        then
            raise sqlstate 'PT422' using
                message = 'This is none of the contacts that it may be.',
                detail = 'field: choice',
                hint = 'One of the candidates'' ids, or new.';
        end if;
        chosen := choice::uuid;
        if exists (
            select
            from public.contacts c
            where c.id = chosen
              and c.deleted_at is not null
        ) then
            raise sqlstate 'PT409' using
                message = 'This contact has been deleted or merged meanwhile.',
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
    end if;

    insert into public.metakocka_contact_mappings as m (
        account_id, contact_id, metakocka_id, base, state, user_id
    )
    values (
        conflict.account_id, chosen, conflict.metakocka_id,
        -- on the name both agree from the beginning: it was made of the partner
        case
            when choice = 'new'
                then jsonb_build_object('name', nullif(left(btrim(conflict.metakocka ->> 'name'), 200), ''))
        end,
        'waiting', auth.uid()
    )
    on conflict on constraint metakocka_contact_mappings_pkey do update
        set metakocka_id = excluded.metakocka_id,
            state = excluded.state,
            missing = '{}',
            user_id = excluded.user_id
        where m.metakocka_id is null;
    if not found then
        raise sqlstate 'PT409' using
            message = 'This contact is another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner is a contact by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
end
$$;


comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact the partner that several may be, or a new one; returns its id.';
