"""sql/ states the schema, supabase/migrations makes it on a project: both make the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rapport.local.stack import supabase_cli
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.state import PROJECT
from tests.migrations import baseline
from tests.migrations.catalog import CATALOG, read

MIGRATIONS = sorted(baseline.MIGRATIONS.glob("*.sql"))


@pytest.fixture(scope="module")
def migrated(cluster: Cluster, prepared: Database, binaries: Binaries) -> Iterator[Database]:
    """A database made by the official CLI from the migrations and the seed."""
    database = cluster.clone_database(prepared, "migrated")
    supabase_cli.migrate(database, binaries, PROJECT)
    yield database
    cluster.drop_database("migrated")


@pytest.mark.parametrize("part", CATALOG)
def test_schema_and_history_are_equal(template: Database, migrated: Database, part: str) -> None:
    stated = read(template, CATALOG[part])

    assert stated
    assert read(migrated, CATALOG[part]) == stated


def test_the_baseline_is_what_sql_says_now() -> None:
    """Else: uv run python -m tests.migrations.baseline. After the first release the test above
    alone holds both equal.
    """
    assert (
        baseline.is_released()
        or {file.name: file.read_text() for file in MIGRATIONS} == baseline.baselines()
    )


def test_migrating_again_changes_nothing(migrated: Database, binaries: Binaries) -> None:
    everything = {part: read(migrated, query) for part, query in CATALOG.items()}
    rows = "select (select count(*) from auth.users), (select count(*) from public.contacts)"
    before = read(migrated, rows)

    supabase_cli.migrate(migrated, binaries, PROJECT)

    assert {part: read(migrated, query) for part, query in CATALOG.items()} == everything
    assert read(migrated, rows) == before


def test_migrations_are_named_by_time_and_verb() -> None:
    names = [file.name for file in MIGRATIONS]

    assert names
    assert [
        name for name in names if not re.fullmatch(r"\d{14}_[a-z]+(_[a-z0-9]+)+\.sql", name)
    ] == []
    assert len({name[:14] for name in names}) == len(names)
