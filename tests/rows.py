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
        and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'schema_watch')
    order by 1, 2
"""

# To count the catalog's rows takes longer than most tests: it is done where a statement of schema
# definition has been tried, as told by a sequence, which no rollback puts back.
_WATCH = """
    create schema schema_watch;
    create sequence schema_watch.statements;
    create function schema_watch.note() returns event_trigger
    language plpgsql security definer set search_path = '' as $$
    begin
        perform nextval('schema_watch.statements');
    end $$;
    create event trigger watch_schema on ddl_command_end execute function schema_watch.note();
    alter event trigger watch_schema enable always;
    create event trigger watch_schema_drops on sql_drop execute function schema_watch.note();
    alter event trigger watch_schema_drops enable always;
"""
_STATEMENTS = "select last_value from schema_watch.statements"

# what statements of schema definition write to, counted with the transactions that wrote it;
# without Postgres' own, and without the functions that are ours
_SCHEMA = " union all ".join(
    f"select '{catalog}', count(*), sum(xmin::text::bigint) from pg_catalog.{catalog} {where}"
    for catalog, where in {
        "pg_namespace": "where nspname !~ '^pg_(toast_)?temp_'",
        "pg_class": "where oid >= 16384",
        "pg_attribute": "where attrelid >= 16384",
        "pg_type": "where oid >= 16384",
        "pg_proc": (
            "where oid >= 16384 and pronamespace <> all"
            " (array (select oid from pg_namespace where nspname ~ '^pg_temp_'))"
        ),
        "pg_policy": "",
        "pg_trigger": "",
        "pg_constraint": "where oid >= 16384",
        "pg_publication_rel": "",
    }.items()
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
        self._functions: sql.Composable | None = None
        self._connection = connection = self._connect()
        if _value(connection, "select to_regnamespace('schema_watch') is null"):
            connection.execute(_WATCH)
        self._schema = connection.execute(_SCHEMA.encode()).fetchall()
        tables = [sql.Identifier(*row) for row in connection.execute(_TABLES, ["r"]).fetchall()]
        contents = [(table, _read(connection, table)) for table in tables]
        self._contents = [(table, content) for table, content in contents if content]
        sequences = [
            _set(connection, sql.Identifier(*row))
            for row in connection.execute(_TABLES, ["S"]).fetchall()
        ]
        self._functions = _functions(
            connection,
            [table for table, _ in self._contents],
            [table for table, content in contents if not content],
            sequences,
        )
        connection.execute(self._functions)
        self._marks = _value(connection, "select pg_temp.marks()")
        self._statements = _value(connection, _STATEMENTS)

    def have_their_schema(self) -> bool:
        """Whether the schema is what it was."""
        connection = self._session()
        statements = _value(connection, _STATEMENTS)
        if statements == self._statements:
            return True
        self._statements = statements
        return connection.execute(_SCHEMA.encode()).fetchall() == self._schema

    def put_back(self) -> None:
        """Makes the rows what they were, once nobody writes any more.

        When it returns, Realtime has read all of it. Raises SchemaChangedError where the schema
        is another than it was.
        """
        connection = self._session()
        if not _comes(lambda: _value(connection, _IS_QUIET)):
            # sessions that a failed test has left
            connection.execute(_END_THE_BUSY)
        if not self.have_their_schema():
            raise SchemaChangedError(
                "The former test has changed the schema: it needs a database of its own."
            )
        with connection.transaction():
            emptied = _value(connection, "select pg_temp.forget(%s)", self._marks)
            assert isinstance(emptied, list)
            for place in emptied:
                _write(connection, *self._contents[place - 1])
            if emptied:
                self._marks = _value(connection, "select pg_temp.marks()")
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
        connection = self._database.cluster.connect(self._database.name)
        # no trigger and no foreign key has a say; set for each time, all plans would be made anew
        connection.execute("set session_replication_role = replica")
        if self._functions:
            connection.execute(self._functions)
        return connection


def _functions(
    connection: psycopg.Connection,
    filled: list[sql.Identifier],
    empty: list[sql.Identifier],
    sequences: list[sql.Composed],
) -> sql.Composed:
    """Functions of the session, which keep their plans: those take longer than to empty tables
    that are nearly empty.

    `marks` tells of each table that had rows which rows it has, by the transactions that wrote
    them. `forget` empties all tables but those of the same marks; it returns which of those that
    had rows it has emptied, from 1.
    """
    mark = sql.SQL("(select count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) from {})")
    marks = sql.SQL(", ").join(mark.format(table) for table in filled)
    is_there = sql.SQL(", ").join(sql.SQL("exists (select from {})").format(one) for one in empty)
    statements = [
        # one plan for all: a statement for each costs more than what most of them find
        sql.SQL("now := array[{}]::text[]; there := array[{}]::boolean[];").format(marks, is_there),
        *(
            sql.SQL(
                "if now[{0}] is distinct from marks[{0}] then"
                " delete from {1}; emptied := emptied || {0}; end if;"
            ).format(place, table)
            for place, table in enumerate(filled, start=1)
        ),
        *(
            sql.SQL("if there[{}] then delete from {}; end if;").format(place, table)
            for place, table in enumerate(empty, start=1)
        ),
        *sequences,
        sql.SQL("return emptied;"),
    ]
    bodies = [
        sql.SQL("begin return array[{}]::text[]; end").format(marks),
        sql.SQL(
            "declare emptied integer[] = '{{}}'; now text[]; there boolean[]; begin {} end"
        ).format(sql.SQL(" ").join(statements)),
    ]
    return sql.SQL(
        "create function pg_temp.marks() returns text[] language plpgsql as {};"
        "create function pg_temp.forget(marks text[]) returns integer[] language plpgsql as {}"
    ).format(*(body.as_string(connection) for body in bodies))


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
    return sql.SQL("perform setval({}, {}, {});").format(
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
