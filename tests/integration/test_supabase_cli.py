from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rapport.local.errors import StackError
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.state import PROJECT
from rapport.local.stack.supabase_cli import is_migrated, migrate


@pytest.fixture
def bare(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """A database as a hosted project is before its first migration."""
    name = f"bare_{secrets.token_hex(6)}"
    yield cluster.clone_database(prepared, name)
    cluster.drop_database(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one migration and one row of seed."""
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    shutil.copy(PROJECT / "supabase" / "config.toml", tmp_path / "supabase")
    write(
        tmp_path, "migrations/20260101000000_create_places.sql", "create table places (name text)"
    )
    write(tmp_path, "seed.sql", "insert into places values ('Bled')")
    return tmp_path


def write(project: Path, name: str, statement: str) -> None:
    (project / "supabase" / name).write_text(f"{statement};\n")


def places(database: Database) -> list[str]:
    with psycopg.connect(database.url()) as connection:
        return [name for (name,) in connection.execute("select name from places order by name")]


def test_migrations_are_applied_as_postgres_and_the_seed_is_loaded(
    bare: Database, project: Path, binaries: Binaries
) -> None:
    migrate(bare, binaries, project)
    assert places(bare) == ["Bled"]
    with psycopg.connect(bare.url()) as connection:
        row = connection.execute(
            "select tableowner from pg_tables where tablename = 'places'"
        ).fetchone()
    assert row == ("postgres",)


def test_what_was_applied_is_not_applied_again(
    bare: Database, project: Path, binaries: Binaries
) -> None:
    migrate(bare, binaries, project)
    write(project, "seed.sql", "insert into places values ('Piran')")
    write(project, "migrations/20260102000000_add_kind.sql", "alter table places add kind text")
    assert not is_migrated(bare, project)
    migrate(bare, binaries, project)
    assert places(bare) == ["Bled"]
    assert is_migrated(bare, project)


def test_a_migration_that_fails_is_told_and_leaves_nothing(
    bare: Database, project: Path, binaries: Binaries
) -> None:
    failing = "insert into places values ('Ptuj'); select 1 / 0"
    write(project, "migrations/20260102000000_divide.sql", failing)
    with pytest.raises(StackError, match="division by zero") as caught:
        migrate(bare, binaries, project)
    assert bare.cluster.password not in str(caught.value)
    assert places(bare) == []


def test_a_folder_without_a_project_is_refused(
    bare: Database, tmp_path: Path, binaries: Binaries
) -> None:
    with pytest.raises(StackError, match=r"supabase/config\.toml"):
        migrate(bare, binaries, tmp_path)
