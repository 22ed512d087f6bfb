/*
    The hashed token of an invitation's link. A token has 256 random bits, so nobody can guess it
    from a plain hash. Looking a token up by its hash compares no secret byte by byte.
*/
create table private.portal_invitation_tokens (
    invitation_id uuid primary key
                  constraint portal_invitation_tokens_invitation_id_fkey
                  references public.portal_invitations on delete cascade,
    token_hash    bytea not null
                  constraint portal_invitation_tokens_token_hash_key unique
                  constraint portal_invitation_tokens_token_hash_check
                  check (octet_length(token_hash) = 32)
);
alter table private.portal_invitation_tokens enable row level security;


create policy "nobody reads the tokens of invitations directly"
    on private.portal_invitation_tokens
    for all
    to authenticated
    using (false);


create function private.token_hash(token text)
    returns bytea
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return sha256(convert_to(token, 'UTF8'));
end
$$;


comment on table private.portal_invitation_tokens is
    'The SHA-256 of each invitation''s token. The token itself is stored nowhere.';
comment on policy "nobody reads the tokens of invitations directly" on private.portal_invitation_tokens is
    'claim_portal_invitation looks tokens up.';
comment on function private.token_hash(text) is
    'The stored form of a token: its SHA-256.';
