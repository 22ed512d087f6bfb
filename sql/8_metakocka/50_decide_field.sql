/*
    Decides which side's value wins. A decision sets the agreed state to the losing value, so that
    the next merge sees a change on the winning side only. This stays right if the losing side
    changes again before that: then both sides have changed, and the question is asked again.
*/
create function private.with_agreed(base jsonb, field text, value jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    -- place, people.228000046630 or people.228000046630.email
    path constant text[] := string_to_array(field, '.');
    entry jsonb;
    others jsonb;
begin
    if cardinality(path) = 1 then
        return base || jsonb_build_object(field, value);
    end if;

    select
        (jsonb_agg(e) filter (where e ->> 'mk_id' = path[2])) -> 0,
        coalesce(jsonb_agg(e) filter (where e ->> 'mk_id' is distinct from path[2]), '[]')
    into entry, others
    from jsonb_array_elements(coalesce(nullif(base -> path[1], 'null'), '[]')) e;

    entry := case
        when cardinality(path) = 2 then nullif(value, 'null')
        else coalesce(entry, jsonb_build_object('mk_id', path[2]))
            || jsonb_build_object(path[3], value)
    end;
    return base || jsonb_build_object(
        path[1], case when entry is null then others else others || entry end);
end
$$;


create function private.decide_field(conflict public.sync_conflicts, choice text)
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if choice not in ('crm', 'metakocka') then
        raise sqlstate 'PT422' using
            message = 'A conflict about a field needs one of the two sides.',
            detail = 'field: choice',
            hint = 'Choose crm or metakocka.';
    end if;
    update public.metakocka_contact_mappings m
    set base = private.with_agreed(
            base => coalesce(m.base, '{}'),
            field => conflict.field,
            value => coalesce(
                case choice when 'crm' then conflict.metakocka else conflict.crm end, 'null')
        ),
        -- the partner is checked even if it has not changed
        partner_hash = null,
        state = case
            when exists (
                select
                from public.sync_conflicts s
                where s.account_id = conflict.account_id
                  and s.metakocka_id = conflict.metakocka_id
                  and s.state = 'open'
                  and s.id <> conflict.id
            ) then 'conflict'
            else 'waiting'
        end
    where m.contact_id = conflict.contact_id
      and m.metakocka_id = conflict.metakocka_id;
end
$$;


comment on function private.with_agreed(jsonb, text, jsonb) is
    'An agreed state in which a field, an entry of a list or a field of an entry has this value. Null removes an entry.';
comment on function private.decide_field(public.sync_conflicts, text) is
    'Sets a field of the agreed state to the losing value.';
