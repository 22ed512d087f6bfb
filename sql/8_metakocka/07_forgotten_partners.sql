/*
    Partners whose contacts were erased. The ERP still has them, and the sync would bring them back:
    so a salted hash of each is kept, and nothing else. The sync leaves them alone until a person
    asks for one by its id.
*/
create table private.partner_salts (
    account_id uuid primary key
               constraint partner_salts_account_id_fkey
               references public.accounts on delete cascade,
    salt       bytea not null default extensions.gen_random_bytes(32)
);
alter table private.partner_salts enable row level security;


create policy "nobody reads the salts directly"
    on private.partner_salts
    for all
    to authenticated
    using (false);


create table private.forgotten_partners (
    account_id   uuid not null
                 constraint forgotten_partners_account_id_fkey
                 references public.accounts on delete cascade,
    partner_hash bytea not null,
    forgotten_at timestamptz not null default now(),

    primary key (account_id, partner_hash)
);
alter table private.forgotten_partners enable row level security;


create policy "nobody reads forgotten partners directly"
    on private.forgotten_partners
    for all
    to authenticated
    using (false);


create function private.partner_key(account_id uuid, metakocka_id text)
    returns bytea
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select sha256(s.salt || convert_to(metakocka_id, 'UTF8'))
        from private.partner_salts s
        where s.account_id = partner_key.account_id
    );
end
$$;


create function private.are_partners_forgotten(account_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- most accounts have erased nobody, and need no hash
    return exists (
        select
        from private.forgotten_partners f
        where f.account_id = are_partners_forgotten.account_id
    );
end
$$;


create function private.is_partner_forgotten(account_id uuid, metakocka_id text)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return exists (
        select
        from private.forgotten_partners f
        where f.account_id = is_partner_forgotten.account_id
          and f.partner_hash = private.partner_key(
              account_id => is_partner_forgotten.account_id,
              metakocka_id => is_partner_forgotten.metakocka_id
          )
    );
end
$$;


create function private.forget_partner_ids(account_id uuid, metakocka_ids text[])
    returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if metakocka_ids = '{}' then
        return;
    end if;
    insert into private.partner_salts (account_id)
    values (forget_partner_ids.account_id)
    on conflict do nothing;
    insert into private.forgotten_partners (account_id, partner_hash)
    select
        forget_partner_ids.account_id,
        private.partner_key(account_id => forget_partner_ids.account_id, metakocka_id => i)
    from unnest(metakocka_ids) i
    on conflict do nothing;
end
$$;


create function private.tg_sync_runs__recall_partners()
    returns trigger
    language plpgsql
    -- definer: users may not write forgotten partners
    security definer
    set search_path = ''
as $$
begin
    delete from private.forgotten_partners f
    using jsonb_array_elements_text(case jsonb_typeof(new.request -> 'metakocka_ids')
        when 'array' then new.request -> 'metakocka_ids' else '[]' end) i
    where f.account_id = new.account_id
      and f.partner_hash = private.partner_key(account_id => new.account_id, metakocka_id => i);
    return null;
end
$$;


create trigger _500_recall_partners
    after insert on public.sync_runs
    for each row
    when (new.trigger = 'user' and new.request ? 'metakocka_ids')
    execute function private.tg_sync_runs__recall_partners();


comment on table private.partner_salts is
    'The salt of an account''s forgotten partners.';
comment on policy "nobody reads the salts directly" on private.partner_salts is
    'partner_key reads them.';
comment on table private.forgotten_partners is
    'Partners that the sync leaves alone, since their contacts were erased: salted hashes of their ids.';
comment on policy "nobody reads forgotten partners directly" on private.forgotten_partners is
    'The sync asks is_partner_forgotten.';
comment on function private.partner_key(uuid, text) is
    'The salted hash of a partner''s id; null where the account has forgotten none.';
comment on function private.are_partners_forgotten(uuid) is
    'Whether an account has forgotten partners.';
comment on function private.is_partner_forgotten(uuid, text) is
    'Whether the sync leaves a partner alone.';
comment on function private.forget_partner_ids(uuid, text[]) is
    'Has the sync leave these partners alone from now on.';
comment on function private.tg_sync_runs__recall_partners() is
    'A partner that a person asks for by its id is no longer forgotten.';
