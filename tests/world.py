"""Two businesses in one database, and a way to ask as any of their people."""

from __future__ import annotations

import json
import secrets
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, dict_row

from rapport.local.stack.postgres import Cluster, Database
from tests.rows import Rows, SchemaChangedError

# how often a webhook may give way in a test
GIVES_WAY = 40
SEED = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")

# what a session is told to be as it was at its beginning
_AS_NEW = (
    "reset session authorization; reset all; close all; unlisten *; discard temp;"
    " select pg_advisory_unlock_all()"
)

Connection = psycopg.Connection[TupleRow]
Item = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]


def seed_uuid(name: str) -> UUID:
    """The same readable thing has the same id in every test."""
    return uuid5(SEED, name)


ALPINE = seed_uuid("account alpine")
BAY = seed_uuid("account bay")
ALPINE_NUMBER = "1003427786179738"
BAY_NUMBER = "1003427786179739"
STAFF = {
    "olivia": (ALPINE, "owner"),
    "adam": (ALPINE, "admin"),
    "andrej": (ALPINE, "agent"),
    "vera": (ALPINE, "viewer"),
    "ana": (BAY, "agent"),
}
# name: account, phone
CUSTOMERS = {
    "cilka": (ALPINE, "+38640111222"),
    "carlos": (BAY, "+5511987654321"),
}


def text_message(provider_id: str, wa_id: str | None = "38640999888", **changes: Any) -> Item:
    """A text as the webhook function hands it to backend.ingest_whatsapp."""
    return {
        "kind": "message",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "wa_id": wa_id,
        "user_id": None,
        "profile_name": "Nejc",
        "sent_at": "2026-11-21T10:00:00Z",
        "type": "text",
        "text": f"text of {provider_id}",
        "content": None,
        "reply_to": None,
    } | changes


def status(provider_id: str, status: str, at: str, **changes: Any) -> Item:
    """A status as the webhook function hands it to backend.ingest_whatsapp."""
    return {
        "kind": "status",
        "phone_number_id": ALPINE_NUMBER,
        "provider_id": provider_id,
        "status": status,
        "at": at,
        "error_code": None,
        "error_message": None,
    } | changes


class Sessions:
    """Idle sessions of the API: most of a short test is what a new one has to learn."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        weakref.finalize(self, _close, self.idle)

    def reset(self) -> None:
        """Forgets what a test has set for a session."""
        for connection in self.idle:
            connection.execute("reset all")


@dataclass(frozen=True)
class World:
    """One test's database with two businesses in it."""

    database: Database
    # as postgres, in autocommit
    owner: Connection
    sessions: Sessions = field(default_factory=Sessions, repr=False)

    def connect(self, role: str = "postgres") -> Connection:
        return psycopg.connect(self.database.url(role), autocommit=True)

    @contextmanager
    def acting(self, role: str, user: str | None = None) -> Iterator[Connection]:
        """A transaction as PostgREST makes one: under a role and a user's claims."""
        claims = {"role": role} | ({"sub": str(seed_uuid(user))} if user else {})
        with self.session() as connection, connection.transaction():
            connection.execute(
                "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                [role, json.dumps(claims)],
            )
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A session of the API; unless it was left in a transaction, others have it later."""
        try:
            connection = self.sessions.idle.pop()
        except IndexError:
            connection = self.connect("authenticator")
        try:
            yield connection
        finally:
            if connection.info.transaction_status == TransactionStatus.IDLE:
                self.sessions.idle.append(connection)
            else:
                connection.close()

    @contextmanager
    def acting_as(self, user: str) -> Iterator[Connection]:
        """A transaction of a signed-in person."""
        with self.acting("authenticated", user) as connection:
            yield connection

    def ingest(self, *items: Item, body: str | None = None) -> dict[str, Any]:
        """What a webhook with these updates is answered, through the role that functions use.

        One that gives way to others comes again, as the queue has it do.
        """
        for _ in range(GIVES_WAY):
            with suppress(psycopg.errors.LockNotAvailable):
                return self.ingest_once(*items, body=body)
        return self.ingest_once(*items, body=body)

    def ingest_once(self, *items: Item, body: str | None = None) -> dict[str, Any]:
        """As `ingest`, where a webhook that gives way is an error."""
        given = json.dumps(items)
        with self.acting("service_role") as connection:
            answer = connection.execute(
                "select backend.ingest_whatsapp(%s, %s)", [body or given, given]
            ).fetchone()
        assert answer is not None
        result: dict[str, Any] = answer[0]
        return result

    def rows(self, query: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        """Rows as they stand, seen by the schema's owner."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()

    def value(self, query: str, parameters: Parameters = ()) -> Any:
        """The one value of a query, seen by the schema's owner."""
        row = self.owner.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]

    def forget_events(self) -> None:
        """Empties the log and the broadcasts, so that a test sees its own alone."""
        self.owner.execute("delete from private.changes")
        with self.connect("supabase_admin") as connection:
            connection.execute("delete from realtime.messages")

    def events(self) -> list[dict[str, Any]]:
        """What has been broadcast, by topic kind."""
        return self.rows(
            """
            select split_part(topic, ':', 1) as kind, topic, event, payload
            from realtime.messages
            order by inserted_at, topic, event
            """
        )


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()


def add_businesses(database: Database) -> None:
    """Makes the two businesses, with their people and numbers."""
    with psycopg.connect(database.url(), autocommit=True) as owner, owner.cursor() as cursor:
        cursor.executemany(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, %s, 'authenticated', 'authenticated')",
            [
                (seed_uuid(name), f"{name}@rapport.example")
                for name in (*STAFF, *CUSTOMERS, "stranger")
            ],
        )
        cursor.execute(
            "insert into public.accounts (id, external_id, name) values"
            " (%s, '695a15a5c526dbe7c085ece2', 'Alpine'), (%s, 'bay', 'Bay')",
            (ALPINE, BAY),
        )
        cursor.executemany(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " values (%s, %s, %s, %s)",
            [(account, seed_uuid(name), role, name) for name, (account, role) in STAFF.items()],
        )
        cursor.executemany(
            "insert into public.whatsapp_channels"
            " (account_id, phone_number_id, display_phone_number, name)"
            " values (%s, %s, 'any', 'any')",
            [(ALPINE, ALPINE_NUMBER), (BAY, BAY_NUMBER)],
        )
        cursor.executemany(
            "insert into public.contacts (id, account_id, name, phone, portal_user_id)"
            " values (%s, %s, %s, %s, %s)",
            [
                (seed_uuid(f"contact {name}"), account, name, phone, seed_uuid(name))
                for name, (account, phone) in CUSTOMERS.items()
            ],
        )
        cursor.executemany(
            "insert into public.contact_identities (account_id, kind, value, contact_id)"
            " values (%s, 'phone', %s, %s)",
            [
                (account, phone, seed_uuid(f"contact {name}"))
                for name, (account, phone) in CUSTOMERS.items()
            ],
        )


class Worlds:
    """The database that a file's tests have one after the other, each as if it were new."""

    def __init__(self, cluster: Cluster, template: Database) -> None:
        self._cluster = cluster
        self._template = template
        self._database: Database | None = None
        self._rows: Rows | None = None
        self._owner: Connection | None = None
        self.sessions = Sessions()

    def renewed(self) -> Database:
        """The database with its first rows; another one where the last test changed the schema."""
        if self._database is not None and self._rows is not None:
            try:
                self._rows.put_back()
            except SchemaChangedError:
                self.close()
            else:
                self.sessions.reset()
                return self._database
        self._database = self._cluster.clone_database(
            self._template, f"world_{secrets.token_hex(6)}"
        )
        self._rows = Rows(self._database)
        return self._database

    @contextmanager
    def owner(self, database: Database) -> Iterator[Connection]:
        """A session of the schema's owner; the next test has it as if it were new."""
        owner, self._owner = self._owner, None
        if owner is None:
            owner = psycopg.connect(database.url(), autocommit=True)
        try:
            yield owner
            if owner.info.transaction_status == TransactionStatus.IDLE and owner.autocommit:
                owner.execute(_AS_NEW)
                owner, self._owner = None, owner
        except psycopg.OperationalError:
            # a test may have ended it
            if not owner.closed:
                raise
        finally:
            if owner is not None:
                owner.close()

    def close(self) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        self.sessions = Sessions()
        if self._rows is not None:
            self._rows.close()
        if self._database is not None:
            self._cluster.drop_database(self._database.name)
            self._database = None
