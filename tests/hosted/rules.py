"""What a hosted project lets the role `postgres` do, found out on real ones."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from rapport.local.stack.postgres import Database

OK = "ok"
REFUSED = psycopg.errors.InsufficientPrivilege.sqlstate

_TRIGGER = (
    "create function public.t() returns trigger language plpgsql as 'begin return new; end';"
    "create trigger t after insert on {0} for each row execute function public.t();"
)
_POLICY = "create policy p on {0} using (true);"


@dataclass(frozen=True)
class Rule:
    """Statements that a migration might have, and how they end: `ok` or a SQLSTATE.

    `here` is the embedded database's answer where it can't be the same: event triggers see no
    commands on roles, and lend no rights of a superuser. `schema` is one that only a hosted project
    has.
    """

    statements: str
    hosted: str
    here: str | None = None
    schema: str | None = None

    @property
    def embedded(self) -> str:
        return self.here or self.hosted

    def __str__(self) -> str:
        return " ".join(self.statements.split())


def _rules(hosted: str, *statements: str, here: str | None = None) -> list[Rule]:
    return [Rule(text, hosted, here) for text in statements]


RULES = [
    # policies and triggers on the platform's tables
    *_rules(
        OK,
        _POLICY.format("realtime.messages"),
        _POLICY.format("realtime.messages")
        + "alter policy p on realtime.messages using (false); drop policy p on realtime.messages",
        "drop policy if exists p on realtime.messages",
        _POLICY.format("auth.users"),
        "create table public.r (a int);" + _POLICY.format("public.r") + "drop policy p on public.r",
        _TRIGGER.format("realtime.messages"),
        _TRIGGER.format("realtime.messages") + "drop trigger t on realtime.messages",
        _TRIGGER.format("auth.users"),
        _TRIGGER.format("auth.users") + "drop trigger t on auth.users",
        "create table public.r (u uuid references auth.users on delete cascade)",
        "select from auth.users; select from realtime.messages",
        "delete from auth.users where false; update realtime.messages set topic = '' where false",
        "truncate realtime.messages",
        "lock table auth.users in access exclusive mode",
    ),
    # the rest of these tables
    *_rules(
        REFUSED,
        _TRIGGER.format("realtime.messages") + "comment on trigger t on realtime.messages is ''",
        _TRIGGER.format("realtime.messages") + "alter trigger t on realtime.messages rename to u",
        "alter table realtime.messages add column x int",
        "alter table realtime.messages disable row level security",
        "alter table realtime.messages owner to postgres",
        "comment on table realtime.messages is ''",
        "comment on column realtime.messages.topic is ''",
        "create index on realtime.messages (topic)",
        "create rule r as on insert to realtime.messages do nothing",
        "create statistics public.s on topic, event from realtime.messages",
        "drop table realtime.messages",
        "create table realtime.t (a int)",
        "create view realtime.v as select 1",
        "create type realtime.t as enum ('a')",
        "create function realtime.f() returns int language sql as 'select 1'",
        "create or replace function realtime.topic() returns text language sql as 'select null'",
        "alter function realtime.topic() set search_path = ''",
        "comment on schema realtime is ''",
        "alter table auth.users add column x int",
        "alter table auth.users disable row level security",
        "comment on table auth.users is ''",
        "create index on auth.users (phone)",
        "drop table auth.sessions",
        "create table auth.t (a int)",
        "create function auth.f() returns int language sql as 'select 1'",
        "create or replace function auth.uid() returns uuid language sql as 'select null::uuid'",
        "comment on schema auth is ''",
    ),
    # roles and their settings
    *_rules(
        OK,
        "alter role authenticator set pgrst.db_pre_request = 'public.f'",
        "alter role authenticator set pgrst.db_aggregates_enabled = true",
        "alter role authenticator set pgrst.db_max_rows = 5;"
        "alter role authenticator reset pgrst.db_max_rows",
        "alter role authenticated set statement_timeout = '5s'",
        "alter role authenticated set random_page_cost = 1.1",
        "alter role anon set statement_timeout = '5s'",
        "alter role service_role set statement_timeout = '5s'",
        "alter role postgres set statement_timeout = '5s'",
        "set session_replication_role = 'replica'",
        "set role anon; reset role; set role authenticated; reset role; set role service_role",
        "create role r login password 'x'; grant anon to r",
        "create role r bypassrls replication",
        "select pg_reload_conf()",
    ),
    *_rules(
        REFUSED,
        "grant supabase_realtime_admin to postgres",
        "grant supabase_auth_admin to postgres",
        "grant pg_read_server_files to postgres",
        "set role authenticator",
        "set role supabase_realtime_admin",
        "set role supabase_auth_admin",
        "set role supabase_admin",
        "alter role supabase_auth_admin set search_path = public",
        "alter role supabase_admin set search_path = public",
        "alter role postgres superuser",
        "create role r superuser",
        "drop event trigger pgrst_ddl_watch",
        "select pg_read_file('/etc/hostname')",
        "copy (select 1) to program 'true'",
        "copy (select 1) to '/tmp/x'",
        "alter default privileges for role supabase_admin in schema public"
        " grant select on tables to anon",
    ),
    # schemas, extensions, publications
    *_rules(
        OK,
        "create schema s; create table s.t (a int)",
        "create table extensions.t (a int); comment on schema extensions is ''",
        "create extension hstore with schema extensions",
        "create table public.r (a int primary key);"
        "alter publication supabase_realtime add table public.r",
        "alter publication supabase_realtime set (publish = 'insert')",
        "alter default privileges for role postgres in schema public"
        " grant select on tables to anon",
    ),
    *_rules(REFUSED, "create extension pageinspect"),
    # the embedded database allows what hosted refuses: tests hold sql/ to hosted's answer
    *_rules(
        REFUSED,
        _POLICY.format("realtime.messages") + "alter policy p on realtime.messages rename to q",
        "alter role authenticator set statement_timeout = '5s'",
        "alter role authenticator inherit",
        "alter role anon inherit",
        here=OK,
    ),
    # and it refuses what hosted allows
    *_rules(
        OK,
        "create function public.e() returns event_trigger language plpgsql as 'begin end';"
        "create event trigger e on ddl_command_end execute function public.e()",
        "create publication p for table auth.users",
        "create publication p for all tables",
        "create foreign data wrapper w",
        here=REFUSED,
    ),
    Rule(_POLICY.format("storage.objects"), OK, schema="storage"),
    Rule("create table storage.t (a int)", REFUSED, schema="storage"),
    Rule("comment on table storage.objects is ''", REFUSED, schema="storage"),
]

# allowed since supautils 3.4, of late July 2026; older projects refuse it
COMMENT_ON_POLICY = (
    _POLICY.format("realtime.messages") + "comment on policy p on realtime.messages is ''"
)


def answer(database: Database, statements: str) -> str:
    """How the statements end for `postgres`; nothing of them stays."""
    with psycopg.connect(database.url()) as connection:
        try:
            connection.execute(statements.encode())
        except psycopg.Error as error:
            return str(error.sqlstate)
        finally:
            connection.rollback()
    return OK
