/*
    A legal hold: as long as it lasts, nothing of a contact is deleted by itself or on request.
*/
create table private.legal_holds (
    id         uuid primary key default gen_random_uuid(),
    account_id uuid not null,
    contact_id uuid not null,
    reason     text not null
               constraint legal_holds_reason_check check (length(reason) between 1 and 500),
    created_at timestamptz not null default now(),
    -- when it ended; null while it holds
    ended_at   timestamptz,

    constraint legal_holds_contact_fkey
        foreign key (contact_id, account_id)
        references public.contacts (id, account_id)
        on delete cascade
);
alter table private.legal_holds enable row level security;


-- of one contact one holds at a time
create unique index legal_holds_contact_key
    on private.legal_holds (contact_id, account_id)
    where ended_at is null;

create index legal_holds_contact_idx on private.legal_holds (contact_id, account_id);


create policy "nobody reads legal holds directly"
    on private.legal_holds
    for all
    to authenticated
    using (false);


create function private.is_held(contact_id uuid)
    returns boolean
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- most deployments have none
    if not exists (select from private.legal_holds h where h.ended_at is null) then
        return false;
    end if;
    -- a contact that was merged into this one is held here
    return exists (
        select
        from private.contact_lineage(is_held.contact_id) l
        join private.legal_holds h
            on h.contact_id = l
        where h.ended_at is null
    );
end
$$;


comment on table private.legal_holds is
    'Contacts of which nothing is deleted, with the reason.';
comment on column private.legal_holds.ended_at is
    'When the hold ended; null while it holds.';
comment on policy "nobody reads legal holds directly" on private.legal_holds is
    'Functions that delete ask is_held.';
comment on function private.is_held(uuid) is
    'Whether a contact, or one that was merged into it, is under a legal hold.';
