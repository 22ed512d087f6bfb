from __future__ import annotations

import psycopg

from rapport.local.npm import Binaries
from rapport.local.postgres import Database
from rapport.local.state import PROJECT
from rapport.local.supabase_cli import advisors


def test_the_advisors_find_nothing_in_our_schema(database: Database, binaries: Binaries) -> None:
    assert advisors(database, binaries, PROJECT) == []


def test_the_advisors_find_a_table_without_row_level_security(
    database: Database, binaries: Binaries
) -> None:
    with psycopg.connect(database.url()) as connection:
        connection.execute("create table public.bare (id int primary key)")
        connection.execute("grant select on public.bare to anon")
    lints = advisors(database, binaries, PROJECT)
    assert [lint.name for lint in lints] == ["rls_disabled_in_public"]
