"""Turns an empty database into a hosted project's database before its first migration."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from rapport.local.errors import StackError
from rapport.local.stack.postgres import SUPERUSER, Database
from rapport.local.stack.running import Stack


def set_doorbell(stack: Stack) -> None:
    """Sets the doorbell to the stack's own functions, whose port may have changed."""
    with psycopg.connect(stack.db_url(), autocommit=True) as connection:
        connection.execute(
            "select backend.set_doorbell(%s, %s)", [stack.wake_url, stack.wake_secret]
        )


HOSTED = Path(__file__).parent / "hosted"
LOGIN_ROLES = ("postgres", "authenticator", "supabase_auth_admin")
# its comment holds the digest of the files that prepared the database; the first of them creates it
MARKED_SCHEMA = "extensions"


def prepare(database: Database) -> None:
    """Runs hosted/*.sql as the superuser in one transaction, unless that was done before.

    Roles belong to the cluster, so its databases share them. Raises StackError when the database
    was prepared from other files, or can't be opened.
    """
    files = sorted(HOSTED.glob("*.sql"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    with _connect(database) as connection:
        before = _mark(connection)
        if before == digest:
            return
        if before is not None:
            raise StackError(
                "The database was made by another version of Rapport. "
                "`rapport up --fresh` starts anew and deletes its data."
            )
        for file in files:
            connection.execute(file.read_bytes())
            connection.execute("reset role")
        for role in LOGIN_ROLES:
            _set_password(connection, role, database.cluster.password)
        connection.execute(
            sql.SQL("comment on schema {} is {}").format(
                sql.Identifier(MARKED_SCHEMA), sql.Literal(digest)
            )
        )


def _connect(database: Database) -> psycopg.Connection:
    try:
        return psycopg.connect(database.url(SUPERUSER))
    except psycopg.OperationalError as error:
        raise StackError(
            f"The database in {database.cluster.data} does not accept the password in stack.json, "
            "or cannot be reached. If you don't need the data, `rapport up --fresh` starts again "
            f"and deletes it. Postgres says: {error}"
        ) from error


def _mark(connection: psycopg.Connection) -> str | None:
    row = connection.execute(
        "select coalesce(obj_description(oid, 'pg_namespace'), '')"
        " from pg_catalog.pg_namespace where nspname = %s",
        [MARKED_SCHEMA],
    ).fetchone()
    return None if row is None else str(row[0])


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    # hashed here, so that no log of statements shows the password
    hashed = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("alter role {} password {}").format(
            sql.Identifier(role), sql.Literal(hashed.decode())
        )
    )
