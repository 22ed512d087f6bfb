/*
    Decides which contact a partner is: one of several, or a new one.
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
                message = 'This partner has a contact by now.',
                detail = 'field: choice',
                hint = 'Read the conflict again.';
        end if;
        -- with its name only: the sync brings the rest
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
                message = 'This partner can''t be that contact.',
                detail = 'field: choice',
                hint = 'Choose the id of one of the candidates, or new.';
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
        -- Both sides agree on the name from the start, since the contact was made from the partner.
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
            message = 'This contact has another partner by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
    end if;
    return chosen;
exception
    when unique_violation then
        raise sqlstate 'PT409' using
            message = 'This partner has a contact by now.',
            detail = 'field: choice',
            hint = 'Read the conflict again.';
end
$$;


comment on function private.decide_contact(public.sync_conflicts, text) is
    'Makes a contact, existing or new, the partner''s contact. Returns its id.';
