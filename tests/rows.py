"""The rows of a database as they once were, put back between tests that share it."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from rapport.local.stack.postgres import Database

PATIENCE_S = 15.0
INTERVAL_S = 0.005

_TABLES = """
    select n.nspname, c.relname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = %s and c.relpersistence <> 't'
        and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by 1, 2
"""

# what statements of schema definition write to, counted with the transactions that wrote it
_SCHEMA = " union all ".join(
    f"select '{catalog}', count(*), sum(xmin::text::bigint) from pg_catalog.{catalog}"
    for catalog in (
        "pg_namespace",
        "pg_class",
        "pg_attribute",
        "pg_type",
        "pg_proc",
        "pg_policy",
        "pg_trigger",
        "pg_constraint",
        "pg_publication_rel",
    )
)

_IS_QUIET = """
    select count(*) = 0
    from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend'
        and pid <> pg_backend_pid() and state <> 'idle'
"""
_END_THE_BUSY = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend'
        and pid <> pg_backend_pid() and state <> 'idle'
"""
_IS_STREAMED = """
    select coalesce(min(r.sent_lsn) >= %s::pg_lsn, true)
    from pg_stat_replication r
    join pg_replication_slots s on s.active_pid = r.pid
    where s.database = current_database()
"""


class SchemaChangedError(RuntimeError):
    """A test has left another schema than it found."""


class Rows:
    """All rows and sequences of a database, as they are when this is made.

    The schema has to stay as it is, which is checked.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = connection = self._connect()
        self._schema = connection.execute(_SCHEMA.encode()).fetchall()
        self._tables = [
            sql.Identifier(*row) for row in connection.execute(_TABLES, ["r"]).fetchall()
        ]
        self._contents = [
            (table, content) for table in self._tables if (content := _read(connection, table))
        ]
        self._sequences = sql.SQL("; ").join(
            _set(connection, sql.Identifier(*row))
            for row in connection.execute(_TABLES, ["S"]).fetchall()
        )

    def put_back(self) -> None:
        """Makes the rows what they were, once nobody writes any more.

        When it returns, Realtime has read all of it. Raises SchemaChangedError where the schema
        is another than it was.
        """
        connection = self._session()
        if not _comes(lambda: _value(connection, _IS_QUIET)):
            # sessions that a failed test has left
            connection.execute(_END_THE_BUSY)
        if connection.execute(_SCHEMA.encode()).fetchall() != self._schema:
            raise SchemaChangedError(
                "The former test has changed the schema: it needs a database of its own."
            )
        with connection.transaction():
            # no trigger and no foreign key has a say
            connection.execute("set local session_replication_role = replica")
            connection.execute(
                sql.SQL("; ").join(map(sql.SQL("delete from {}").format, self._tables))
            )
            for table, content in self._contents:
                _write(connection, table, content)
            connection.execute(self._sequences)
        end = _value(connection, "select pg_current_wal_flush_lsn()")
        if not _comes(lambda: _value(connection, _IS_STREAMED, end)):
            raise RuntimeError("Realtime does not read the write-ahead log.")

    def close(self) -> None:
        """Closes the session, with which nobody can copy the database."""
        self._connection.close()

    def _session(self) -> psycopg.Connection:
        try:
            self._connection.execute("select")
        except psycopg.OperationalError:
            # a test may end every session that there is
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> psycopg.Connection:
        return self._database.cluster.connect(self._database.name)


def _read(connection: psycopg.Connection, table: sql.Identifier) -> bytes | None:
    """A table's rows as COPY tells them; None where there are none."""
    if not _value(connection, sql.SQL("select exists (select from {})").format(table)):
        return None
    with connection.cursor().copy(sql.SQL("copy {} to stdout").format(table)) as copy:
        return b"".join(copy)


def _write(connection: psycopg.Connection, table: sql.Identifier, content: bytes) -> None:
    with connection.cursor().copy(sql.SQL("copy {} from stdin").format(table)) as copy:
        copy.write(content)


def _set(connection: psycopg.Connection, sequence: sql.Identifier) -> sql.Composed:
    """The statement that makes a sequence what it is now."""
    row = connection.execute(
        sql.SQL("select last_value, is_called from {}").format(sequence)
    ).fetchone()
    assert row is not None
    return sql.SQL("select setval({}, {}, {})").format(
        sql.Literal(sequence.as_string(connection)), *row
    )


def _value(
    connection: psycopg.Connection, query: str | sql.Composed, *parameters: object
) -> object:
    text = query.encode() if isinstance(query, str) else query
    row = connection.execute(text, parameters or None).fetchone()
    assert row is not None
    return row[0]


def _comes(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(INTERVAL_S)
    return True
