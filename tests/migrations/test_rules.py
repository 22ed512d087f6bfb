"""Migrations after the baseline keep to rules.py; and rules.py sees what it is for."""

from __future__ import annotations

import pytest

from tests.migrations import baseline
from tests.migrations.rules import objections

HEAD = "set lock_timeout = '5s';\n"
PRE, POST = "20270101000000_pre_add_a_colour.sql", "20270201000000_post_drop_the_shade.sql"

GOOD = [
    (PRE, HEAD + "alter table public.contacts add column colour text;"),
    (PRE, HEAD + "alter table public.contacts add column size int not null default 0;"),
    (PRE, HEAD + "alter table public.contacts add column seen_at timestamptz default now();"),
    (PRE, HEAD + "alter table public.jobs add constraint c check (a > 0) not valid;"),
    (PRE, HEAD + "alter table public.jobs validate constraint c;"),
    (PRE, HEAD + "alter table public.jobs add constraint u unique using index i;"),
    (
        PRE,
        HEAD + "-- before: create index concurrently i on public.jobs (a);\n"
        "create index if not exists i on public.jobs (a);",
    ),
    (PRE, HEAD + "create table public.t (a int); update public.t set a = 1 where true;"),
    (PRE, HEAD + "alter domain public.d add constraint c check (value > 0) not valid;"),
    (PRE, HEAD + "create table public.t (a int unique); create index i on public.t (a);"),
    (PRE, HEAD + "update private.followed_tables set shown = '{a}' where true;"),
    (PRE, HEAD + "drop trigger t on public.jobs;"),
    (
        PRE,
        HEAD + "drop function public.f(int);"
        "create function public.f(a int, b int default 0) returns int language sql as 'select 1';",
    ),
    (POST, "set lock_timeout = '500ms'; alter table public.contacts drop column shade;"),
    (POST, HEAD + "drop function public.f();"),
]

BAD = [
    ("20270101000000_add_a_colour.sql", HEAD, "name it"),
    (PRE, "select 1;", "begin it with set lock_timeout"),
    (PRE, "set lock_timeout = '60s';", "5s at most"),
    (PRE, "set lock_timeout = '0s';", "5s at most"),
    (PRE, HEAD + "alter table public.contacts drop column shade;", "drop column belongs"),
    (PRE, HEAD + "drop function public.f();", "drop belongs in a `post`"),
    (PRE, HEAD + "alter table public.jobs rename column a to b;", "a new name breaks"),
    (PRE, HEAD + "create index i on public.jobs (a);", "create index if not exists"),
    (PRE, HEAD + "create unique index i on public.jobs (a);", "create index if not exists"),
    (PRE, HEAD + "update public.jobs set a = 1 where true;", "in batches"),
    (POST, HEAD + "delete from public.jobs where true;", "in batches"),
    (PRE, HEAD + "alter table public.jobs alter column a type bigint;", "rewrites the table"),
    (PRE, HEAD + "alter table public.jobs alter column a set not null;", "reads the table"),
    (PRE, HEAD + "alter table public.jobs add column a int not null;", "without a default"),
    (PRE, HEAD + "alter table public.jobs add column a serial;", "serial rewrites"),
    (
        PRE,
        HEAD + "alter table public.jobs add column a uuid default pg_catalog.gen_random_uuid();",
        "gen_random_uuid() as default may rewrite",
    ),
    (
        PRE,
        HEAD + "alter table public.jobs add column a text default private.new_code();",
        "new_code() as default may rewrite",
    ),
    (PRE, HEAD + "set local lock_timeout = 0;", "is set once"),
    (PRE, HEAD + "reset lock_timeout;", "is set once"),
    (PRE, HEAD + "reset all;", "is set once"),
    (PRE, HEAD + "select set_config('lock_timeout', '0', false);", "is set once"),
    (PRE, HEAD + "do $$ begin delete from public.jobs; end $$;", "write statements"),
    (
        PRE,
        HEAD + "with w as (update public.jobs set a = 1 returning a) select count(*) from w;",
        "in batches",
    ),
    (
        PRE,
        HEAD + "merge into public.jobs j using public.t on true when matched then delete;",
        "in batches",
    ),
    (PRE, HEAD + "create index if not exists i on public.jobs (a);", "create index concurrently"),
    (
        PRE,
        HEAD + "alter table public.jobs add constraint e exclude using gist (a with =);",
        "no index can be built before",
    ),
    (PRE, HEAD + "alter domain public.d add constraint c check (value > 0);", "reads every table"),
    (PRE, HEAD + "alter domain public.d set not null;", "reads every table"),
    (
        PRE,
        HEAD + "alter table public.jobs add column a int generated always as (b) stored;",
        "a generated column rewrites",
    ),
    (PRE, HEAD + "alter table public.jobs add column a int check (a > 0);", "its check reads"),
    (PRE, HEAD + "alter table public.jobs add column a int unique;", "unique builds an index"),
    (PRE, HEAD + "alter table public.jobs add constraint c check (a > 0);", "add it not valid"),
    (
        PRE,
        HEAD + "alter table public.jobs add constraint f foreign key (a) references public.t;",
        "add it not valid",
    ),
    (PRE, HEAD + "alter table public.jobs add constraint u unique (a);", "using index"),
    (
        PRE,
        HEAD + "alter table public.jobs add constraint c check (a > 0) not valid;"
        "alter table public.jobs validate constraint c;",
        "in a file of its own",
    ),
    (PRE, HEAD + "lock table public.jobs;", "lock locks the table"),
    (PRE, HEAD + "vacuum full public.jobs;", "vacuum locks the table"),
]


def test_migrations_after_the_baseline_keep_to_the_rules() -> None:
    assert [
        one
        for file in baseline.written_by_hand()
        for one in objections(file.name, file.read_text())
    ] == []


@pytest.mark.parametrize(("name", "text"), GOOD)
def test_what_locks_for_a_moment_is_allowed(name: str, text: str) -> None:
    assert objections(name, text) == []


@pytest.mark.parametrize(("name", "text", "words"), BAD)
def test_what_locks_for_long_or_breaks_running_functions_is_found(
    name: str, text: str, words: str
) -> None:
    [found] = objections(name, text)
    assert words in found
