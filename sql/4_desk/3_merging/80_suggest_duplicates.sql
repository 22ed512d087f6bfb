/*
    Looks for contacts that may be one person: two with the same name, or a phone or email that
    one contact shows and another is known by. A customer can write any number in the portal, so a
    shown value alone never identifies a contact. It is evidence for the person who decides.
*/
create function private.shared_values(account_id uuid)
    returns table (reason text, match_key text, contact_ids uuid[], value text, known_of uuid)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return query
        with live as (
            select c.id, coalesce(c.name, c.profile_name) as name, c.phone, c.email
            from public.contacts c
            where c.account_id = shared_values.account_id
              and c.deleted_at is null
        ),
        known as (
            select o.contact_id, o.kind, o.match_key, o.value
            from public.contact_identities o
            join live l
                on l.id = o.contact_id
            where o.account_id = shared_values.account_id
              and o.kind in ('phone', 'email')
        ),
        written as (
            select l.id as contact_id, w.kind, w.value
            from live l
            cross join lateral (values ('phone', l.phone), ('email', l.email)) as w (kind, value)
            where w.value is not null
            -- most contacts are known by exactly the shown value: then its key is not needed
            except
            select k.contact_id, k.kind, k.value
            from known k
        ),
        said as (
            select
                'same_name' as reason,
                lower(regexp_replace(btrim(l.name), '\s+', ' ', 'g')) as match_key,
                l.id as contact_id,
                l.name as value,
                false as is_known
            from live l
            where btrim(l.name) <> ''
            union all
            select 'same_' || k.kind, k.match_key, k.contact_id, k.value, true
            from known k
            union all
            select
                'same_' || w.kind,
                private.match_key(kind => w.kind, value => w.value),
                w.contact_id,
                w.value,
                false
            from written w
        )
        select
            s.reason,
            s.match_key,
            array_agg(distinct s.contact_id),
            min(s.value),
            -- an identity has one owner
            (array_agg(s.contact_id) filter (where s.is_known))[1]
        from said s
        group by s.reason, s.match_key
        -- a value of more than three contacts is that of a company, or a common name
        having count(distinct s.contact_id) between 2 and 3;
end
$$;


create function private.add_duplicates(account_id uuid)
    returns integer
    language plpgsql
    -- definer: users may not write suggestions; the caller is checked first
    security definer
    set search_path = ''
as $$
declare
    added integer;
begin
    perform private.require_writable(add_duplicates.account_id);

    with pairs as (
        select
            lesser.id as contact_id,
            greater.id as other_contact_id,
            v.reason,
            case v.reason
                when 'same_name' then jsonb_build_object('name', v.value)
                when 'same_phone' then jsonb_build_object('phone', v.value, 'known_of', v.known_of)
                else jsonb_build_object('email', v.value, 'known_of', v.known_of)
            end as evidence
        from private.shared_values(add_duplicates.account_id) v
        cross join lateral unnest(v.contact_ids) as lesser (id)
        cross join lateral unnest(v.contact_ids) as greater (id)
        where lesser.id < greater.id
    ),
    fresh as (
        -- two contacts may share several spellings for one reason
        select distinct on (
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id
        ) p.*
        from pairs p
        where not exists (
            select
            from public.contact_suggestions s
            where s.account_id = add_duplicates.account_id
              and s.contact_id = p.contact_id
              and s.other_contact_id = p.other_contact_id
              and s.reason = p.reason
        )
        -- a name is weaker evidence than a phone or an email, and comes after them
        order by
            (p.reason = 'same_name'), p.reason, p.contact_id, p.other_contact_id, p.evidence
        limit 500
    )
    insert into public.contact_suggestions (
        account_id, contact_id, other_contact_id, reason, evidence
    )
    select add_duplicates.account_id, f.contact_id, f.other_contact_id, f.reason, f.evidence
    from fresh f
    order by f.contact_id, f.other_contact_id, f.reason
    on conflict on constraint contact_suggestions_pair_key do nothing;

    get diagnostics added = row_count;
    return added;
end
$$;

grant execute on function private.add_duplicates(uuid) to authenticated;


create function public.suggest_duplicates(account_id uuid)
    returns integer
    language plpgsql
    set search_path = ''
as $$
begin
    return private.add_duplicates(suggest_duplicates.account_id);
end
$$;

grant execute on function public.suggest_duplicates(uuid) to authenticated;


comment on function private.shared_values(uuid) is
    'Names, phones and emails that two or three contacts of an account share; known_of is the contact that owns the value as an identity.';
comment on function private.add_duplicates(uuid) is
    'Notes pairs that look like one person, at most 500; returns the number of new ones.';
comment on function public.suggest_duplicates(uuid) is
    'Looks for contacts of an account that may be one person, and adds them to open_suggestions. Returns the number of new suggestions, at most 500; if it is 500, call it again. A dismissed pair is not suggested again.';
