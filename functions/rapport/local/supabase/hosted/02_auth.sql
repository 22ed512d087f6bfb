/*
    Schema auth as a hosted project has it: logins, their sessions, and the functions by
    which policies learn who is asking. Run as supabase_admin, after the roles.

    Source: column names, types and defaults are those of Supabase Auth (GoTrue 2.189), so
    that a seed written for a hosted project loads. Tables and enum types for what is not
    served here (factors, SSO, OAuth server) are left out.
*/
create schema auth authorization supabase_auth_admin;
grant usage on schema auth to anon, authenticated, service_role, postgres;

set role supabase_auth_admin;


create table auth.users (
    instance_id                 uuid,
    id                          uuid
                                constraint users_pkey primary key,
    aud                         varchar(255),
    role                        varchar(255),
    email                       varchar(255),
    encrypted_password          varchar(255),
    email_confirmed_at          timestamptz,
    invited_at                  timestamptz,
    confirmation_token          varchar(255),
    confirmation_sent_at        timestamptz,
    recovery_token              varchar(255),
    recovery_sent_at            timestamptz,
    email_change_token_new      varchar(255),
    email_change                varchar(255),
    email_change_sent_at        timestamptz,
    last_sign_in_at             timestamptz,
    raw_app_meta_data           jsonb,
    raw_user_meta_data          jsonb,
    is_super_admin              boolean,
    created_at                  timestamptz,
    updated_at                  timestamptz,
    phone                       text
                                constraint users_phone_key unique,
    phone_confirmed_at          timestamptz,
    phone_change                text default '',
    phone_change_token          varchar(255) default '',
    phone_change_sent_at        timestamptz,
    confirmed_at                timestamptz
                                generated always as (
                                    least(email_confirmed_at, phone_confirmed_at)
                                ) stored,
    email_change_token_current  varchar(255) default '',
    email_change_confirm_status smallint default 0
                                constraint users_email_change_confirm_status_check
                                check (email_change_confirm_status between 0 and 2),
    banned_until                timestamptz,
    reauthentication_token      varchar(255) default '',
    reauthentication_sent_at    timestamptz,
    is_sso_user                 boolean not null default false,
    deleted_at                  timestamptz,
    is_anonymous                boolean not null default false
);
alter table auth.users enable row level security;


-- one login for an address; single sign-on may bring the same address again
create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
create index users_instance_id_email_idx on auth.users (instance_id, lower(email));


comment on table auth.users is 'Everyone who can sign in, with the hash of the password.';


create table auth.identities (
    provider_id     text not null,
    user_id         uuid not null
                    constraint identities_user_id_fkey references auth.users on delete cascade,
    identity_data   jsonb not null,
    provider        text not null,
    last_sign_in_at timestamptz,
    created_at      timestamptz,
    updated_at      timestamptz,
    email           text generated always as (lower(identity_data ->> 'email')) stored,
    id              uuid default gen_random_uuid()
                    constraint identities_pkey primary key,

    constraint identities_provider_id_provider_unique unique (provider_id, provider)
);
alter table auth.identities enable row level security;


create index identities_user_id_idx on auth.identities (user_id);


comment on table auth.identities is 'The ways in which a user can sign in, one row each.';


create type auth.aal_level as enum ('aal1', 'aal2', 'aal3');


create table auth.sessions (
    id           uuid
                 constraint sessions_pkey primary key,
    user_id      uuid not null
                 constraint sessions_user_id_fkey references auth.users on delete cascade,
    created_at   timestamptz,
    updated_at   timestamptz,
    factor_id    uuid,
    aal          auth.aal_level,
    not_after    timestamptz,
    -- GoTrue keeps this one without a time zone, in UTC
    refreshed_at timestamp,
    user_agent   text,
    ip           inet,
    tag          text
);
alter table auth.sessions enable row level security;


create index sessions_user_id_idx on auth.sessions (user_id);


comment on table auth.sessions is 'One sign-in on one device: a family of refresh tokens.';


create table auth.refresh_tokens (
    instance_id uuid,
    id          bigserial
                constraint refresh_tokens_pkey primary key,
    token       varchar(255)
                constraint refresh_tokens_token_unique unique,
    user_id     varchar(255),
    revoked     boolean,
    created_at  timestamptz,
    updated_at  timestamptz,
    -- the token that was exchanged for this one
    parent      varchar(255),
    session_id  uuid
                constraint refresh_tokens_session_id_fkey references auth.sessions on delete cascade
);
alter table auth.refresh_tokens enable row level security;


create index refresh_tokens_session_id_revoked_idx on auth.refresh_tokens (session_id, revoked);


comment on table auth.refresh_tokens is 'Every refresh token of a session; the last is not revoked.';


create table auth.mfa_amr_claims (
    session_id            uuid not null
                          constraint mfa_amr_claims_session_id_fkey
                          references auth.sessions on delete cascade,
    created_at            timestamptz not null,
    updated_at            timestamptz not null,
    authentication_method text not null,
    id                    uuid
                          constraint amr_id_pk primary key,

    constraint mfa_amr_claims_session_id_authentication_method_pkey
        unique (session_id, authentication_method)
);
alter table auth.mfa_amr_claims enable row level security;


comment on table auth.mfa_amr_claims is 'How the user of a session has signed in.';


create type auth.one_time_token_type as enum (
    'confirmation_token',
    'reauthentication_token',
    'recovery_token',
    'email_change_token_new',
    'email_change_token_current',
    'phone_change_token'
);


create table auth.one_time_tokens (
    id         uuid
               constraint one_time_tokens_pkey primary key,
    user_id    uuid not null
               constraint one_time_tokens_user_id_fkey references auth.users on delete cascade,
    token_type auth.one_time_token_type not null,
    token_hash text not null
               constraint one_time_tokens_token_hash_check check (char_length(token_hash) > 0),
    -- the address or number that the code was sent to
    relates_to text not null,
    -- GoTrue keeps these two without a time zone, in UTC
    created_at timestamp not null default (now() at time zone 'UTC'),
    updated_at timestamp not null default (now() at time zone 'UTC')
);
alter table auth.one_time_tokens enable row level security;


create index one_time_tokens_token_hash_hash_idx on auth.one_time_tokens using hash (token_hash);
create unique index one_time_tokens_user_id_token_type_key
    on auth.one_time_tokens (user_id, token_type);


comment on table auth.one_time_tokens is
    'The codes that were sent and not used: the last of each kind, as a hash.';


create type auth.code_challenge_method as enum ('s256', 'plain');


create table auth.flow_state (
    id                     uuid
                           constraint flow_state_pkey primary key,
    user_id                uuid,
    auth_code              text,
    code_challenge_method  auth.code_challenge_method,
    code_challenge         text,
    provider_type          text not null,
    provider_access_token  text,
    provider_refresh_token text,
    created_at             timestamptz,
    updated_at             timestamptz,
    authentication_method  text not null,
    auth_code_issued_at    timestamptz
);
alter table auth.flow_state enable row level security;


create index idx_auth_code on auth.flow_state (auth_code);
create index idx_user_id_auth_method on auth.flow_state (user_id, authentication_method);


comment on table auth.flow_state is
    'The clients that wait for a link to be followed, with what they will prove themselves by.';


/*
    Who is asking. PostgREST 9 and later set the claims as one JSON setting; the setting for
    each claim is older and still comes first.

    No search_path of their own: with it the planner could not inline them into policies.
    Every name is qualified instead.
*/
create function auth.uid()
    returns uuid
    language sql
    stable
return coalesce(
    nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), ''),
    nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb ->> 'sub'
)::pg_catalog.uuid;


create function auth.role()
    returns text
    language sql
    stable
return coalesce(
    nullif(pg_catalog.current_setting('request.jwt.claim.role', true), ''),
    nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb ->> 'role'
);


create function auth.email()
    returns text
    language sql
    stable
return coalesce(
    nullif(pg_catalog.current_setting('request.jwt.claim.email', true), ''),
    nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb ->> 'email'
);


create function auth.jwt()
    returns jsonb
    language sql
    stable
return coalesce(
    nullif(pg_catalog.current_setting('request.jwt.claim', true), ''),
    nullif(pg_catalog.current_setting('request.jwt.claims', true), '')
)::pg_catalog.jsonb;


comment on function auth.uid() is 'The user of the request''s token, null without one.';
comment on function auth.role() is 'The role of the request''s token, null without one.';
comment on function auth.email() is 'The address in the request''s token, null without one.';
comment on function auth.jwt() is 'All claims of the request''s token, null without one.';


/*
    The rights of a hosted postgres here: read and write rows, refer to users, set triggers on
    them, and let other roles read. It owns nothing and creates nothing in this schema.
*/
grant all on all tables in schema auth to postgres;
grant select on all tables in schema auth to postgres with grant option;
grant all on all sequences in schema auth to postgres;
grant all on all functions in schema auth to postgres;

reset role;
