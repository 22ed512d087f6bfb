"""Tests that share a database leave each other nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from tests.rows import Rows

from rapport.local.stack.postgres import Database

ACCOUNT = "00000000-0000-4000-8000-00000000000a"
EVERYTHING = """
    select
        (select jsonb_agg(to_jsonb(a) order by a.id) from public.accounts a),
        (select jsonb_agg(to_jsonb(c) order by c.id) from public.contacts c),
        (select jsonb_agg(to_jsonb(c) order by c.seq) from private.changes c),
        (select jsonb_agg(to_jsonb(s) order by s) from public.status_words s),
        (select array[s.last_value, s.is_called::int] from private.changes_seq_seq s)
"""


@pytest.fixture
def owner(own_database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own_database.url(), autocommit=True) as connection:
        connection.execute(
            "insert into public.accounts (id, name) values (%s, 'Alpine')", [ACCOUNT]
        )
        connection.execute(
            "insert into public.contacts (account_id, name) values (%s, 'Cilka')", [ACCOUNT]
        )
        yield connection


@pytest.fixture
def rows(
    own_database: Database,
    owner: psycopg.Connection,  # noqa: ARG001 - has written
) -> Iterator[Rows]:
    """As the owner has left them."""
    with closing(Rows(own_database)) as rows:
        yield rows


def test_rows_and_sequences_are_again_what_they_were(owner: psycopg.Connection, rows: Rows) -> None:
    before = owner.execute(EVERYTHING).fetchall()
    for _ in range(2):
        owner.execute("update public.contacts set name = 'Nika', tags = '{vip}'")
        owner.execute("insert into public.contacts (account_id) values (%s)", [ACCOUNT])
        owner.execute("delete from public.status_words")
        owner.execute("delete from private.changes")
        owner.execute("insert into public.accounts (name) values ('Bay')")
        assert owner.execute(EVERYTHING).fetchall() != before

        rows.put_back()

        assert owner.execute(EVERYTHING).fetchall() == before


def test_what_is_still_being_written_is_waited_for(owner: psycopg.Connection, rows: Rows) -> None:
    with owner.transaction():
        owner.execute("update public.contacts set name = 'Nika'")
        putting_back = threading.Thread(target=rows.put_back)
        putting_back.start()
        putting_back.join(0.2)
        assert putting_back.is_alive()
    putting_back.join()

    assert owner.execute("select name from public.contacts").fetchall() == [("Cilka",)]


@pytest.mark.parametrize(
    "statement",
    [
        "create table public.notes ()",
        "alter table public.contacts replica identity full",
        "grant select on public.contacts to anon",
        "revoke execute on function backend.prune from service_role",
        'drop policy "members can read their contacts" on public.contacts',
    ],
)
def test_a_schema_that_was_changed_is_refused(
    owner: psycopg.Connection, rows: Rows, statement: str
) -> None:
    owner.execute(statement.encode())

    with pytest.raises(RuntimeError, match="changed the schema"):
        rows.put_back()
