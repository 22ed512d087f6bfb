"""Functions of the release before work on this schema, and these on one without its `post` part.

So an upgrade may stop after each step. The functions are compared by what they call; samples show
that a change that breaks them is found.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rapport.local.stack.postgres import Cluster, Database
from rapport.release import VERSION, fit
from tests.migrations.baseline import MIGRATIONS, written_by_hand
from tests.migrations.rules import NAME, objections
from tests.releases.contract import broken, contract, edited, released
from tests.stacks import copy_of

TODAY = contract()
HEAD = "set lock_timeout = '5s';"
# a release adds these, and functions of the release before do not notice
ADDED = {
    "a column": "alter table public.conversations add column colour text;",
    "an argument": (
        "drop function backend.prune(integer);"
        "create function backend.prune(batch integer, colour text default null) returns jsonb"
        " language sql as 'select null::jsonb';"
        "grant execute on function backend.prune(integer, text) to service_role;"
    ),
    "a function": "create function public.colours() returns text language sql as 'select null';",
}
# these break them: what is said of it
BREAKING = {
    "alter table public.conversations drop column thread_key cascade": (
        "read public.conversations.thread_key, which the schema does not let them."
    ),
    "revoke select on public.message_media from authenticated": "read public.message_media.size",
    "drop function backend.prune(integer)": (
        "call backend.prune(batch), and the schema has no such function for them."
    ),
    "alter function backend.prune(integer) rename to prune_all": "call backend.prune(batch)",
    "revoke execute on function backend.prune(integer) from service_role": (
        "call backend.prune(batch)"
    ),
    # by another name
    "drop function backend.prune(integer);"
    "create function backend.prune(size integer) returns jsonb language sql"
    " as 'select null::jsonb';"
    "grant execute on function backend.prune(integer) to service_role": (
        "call backend.prune(batch), and the schema has backend.prune(size)."
    ),
    # without a default
    "drop function backend.prune(integer);"
    "create function backend.prune(batch integer, colour text) returns jsonb language sql"
    " as 'select null::jsonb';"
    "grant execute on function backend.prune(integer, text) to service_role": (
        "call backend.prune(batch), and the schema has backend.prune(batch, colour)."
    ),
    # PostgREST can't choose between two
    "create function backend.prune(batch integer, colour text default null) returns jsonb"
    " language sql as 'select null::jsonb';"
    "grant execute on function backend.prune(integer, text) to service_role": (
        "backend.prune(batch?) and backend.prune(batch, colour?)"
    ),
}


@pytest.fixture(scope="module")
def schema(cluster: Cluster, template: Database) -> Iterator[psycopg.Connection]:
    with (
        copy_of(cluster, template) as database,
        psycopg.connect(database.url("postgres"), autocommit=True) as connection,
    ):
        yield connection


def test_the_contract_has_every_call() -> None:
    assert len(TODAY.calls) > 100
    assert len(TODAY.rows) > 5
    # their other arguments are fields of what is handed on
    assert {one.function for one in TODAY.calls if one.is_open} == {
        "backend.advance_sync",
        "backend.log_sync_error",
        "backend.settle_send",
        "public.begin_upload",
    }


def test_functions_of_this_release_and_the_one_before_work_on_this_schema(
    schema: psycopg.Connection,
) -> None:
    """The newest contract of another release is that of the release before."""
    before = [one for one in released() if one.release != VERSION][-1:]
    with schema.transaction(force_rollback=True):
        for one in (TODAY, *before):
            assert not fit(VERSION, one.release).is_far
            assert broken(one, schema) == []


def test_functions_of_this_release_work_before_anything_is_dropped(
    cluster: Cluster, prepared: Database
) -> None:
    later = {
        file
        for file in written_by_hand()
        if (named := NAME.fullmatch(file.name)) and named["part"] == "post"
    }
    # without any it is the schema of the test above
    if not later:
        return
    with (
        copy_of(cluster, prepared) as database,
        psycopg.connect(database.url("postgres"), autocommit=True) as connection,
    ):
        for file in sorted(set(MIGRATIONS.glob("*.sql")) - later):
            connection.execute(file.read_bytes())
        with connection.transaction():
            assert broken(TODAY, connection) == []


def test_no_migration_of_a_release_is_edited() -> None:
    """A change is a migration of its own."""
    assert [name for one in released() for name in edited(one)] == []


def test_an_edited_migration_is_found(tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    assert edited(TODAY, tmp_path) == []
    (tmp_path / "20270101000000_pre_add_a_colour.sql").write_text(HEAD)
    assert edited(TODAY, tmp_path) == []
    first, second, *_ = sorted(tmp_path.glob("*.sql"))
    first.write_text(first.read_text() + "-- more\n")
    second.unlink()
    assert edited(TODAY, tmp_path) == [first.name, second.name]


@pytest.mark.parametrize("what", ADDED)
def test_what_a_release_adds_breaks_no_functions_of_the_one_before(
    schema: psycopg.Connection, what: str
) -> None:
    assert objections("20270101000000_pre_add_a_colour.sql", HEAD + ADDED[what]) == []
    with schema.transaction(force_rollback=True):
        schema.execute(ADDED[what].encode())
        assert broken(TODAY, schema) == []


@pytest.mark.parametrize("change", BREAKING)
def test_what_breaks_functions_of_the_release_before_is_named(
    schema: psycopg.Connection, change: str
) -> None:
    with schema.transaction(force_rollback=True):
        schema.execute(change.encode())
        found = broken(TODAY, schema)
    assert [one for one in found if BREAKING[change] in one], found
    assert all(one.startswith(f"Functions of {VERSION} ") for one in found)
