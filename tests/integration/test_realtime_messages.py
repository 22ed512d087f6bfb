"""realtime.messages as the database sees it: partitions, and what sending never does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from rapport.local.stack.postgres import Database


@pytest.fixture(scope="session")
def template(prepared: Database) -> Database:
    """What a hosted project has, without the schema of sql/."""
    return prepared


@pytest.fixture
def connection(own_database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(own_database.url("supabase_admin"), autocommit=True) as connection:
        yield connection


def partition(days: int) -> str:
    return f"messages_{datetime.now(UTC) + timedelta(days=days):%Y_%m_%d}"


def partitions(connection: psycopg.Connection) -> list[str]:
    cursor = connection.execute(
        """
        select relname::text
        from pg_inherits
        join pg_class on oid = inhrelid
        where inhparent = 'realtime.messages'::regclass and relkind = 'r'
        order by relname
        """
    )
    return [row[0] for row in cursor]


def test_partitions_are_made_ahead_and_dropped_after_three_days(
    connection: psycopg.Connection,
) -> None:
    old, kept = partition(-4), partition(-3)
    for name, days in ((old, -4), (kept, -3)):
        day = datetime.now(UTC).date() + timedelta(days=days)
        connection.execute(
            sql.SQL(
                "create table realtime.{} partition of realtime.messages"
                " for values from ({}) to ({})"
            ).format(sql.Identifier(name), day.isoformat(), (day + timedelta(days=1)).isoformat())
        )
    connection.execute(sql.SQL("drop table realtime.{}").format(sql.Identifier(partition(3))))

    for _ in range(2):
        connection.execute("select realtime.ensure_partitions()")

        assert partitions(connection) == [kept, *(partition(days) for days in range(-1, 4))]


def test_a_broadcast_that_can_not_be_stored_is_a_warning(connection: psycopg.Connection) -> None:
    notices: list[str] = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    for name in partitions(connection):
        connection.execute(sql.SQL("drop table realtime.{}").format(sql.Identifier(name)))

    connection.execute("select realtime.send('{}', 'note', 'topic')")

    assert notices == ['could not broadcast: no partition of relation "messages" found for row']


def test_a_client_sends_only_where_a_policy_lets_it(connection: psycopg.Connection) -> None:
    connection.execute(
        """create policy "users write to topics of rooms"
            on realtime.messages
            for insert
            to authenticated
            with check (realtime.topic() like 'room:%')"""
    )
    with connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute("select realtime.send('{}', 'note', 'room:1')")
        connection.execute("select realtime.send('{}', 'note', 'board:1')")

    cursor = connection.execute("select topic, payload ? 'id', private from realtime.messages")
    assert cursor.fetchall() == [("room:1", True, True)]


def test_bytes_are_stored_as_they_are(connection: psycopg.Connection) -> None:
    connection.execute("select realtime.send_binary('\\x00ff', 'note', 'room:1')")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "insert into realtime.messages (topic, extension, payload, binary_payload)"
            " values ('room:1', 'broadcast', '{}', '\\x00')"
        )

    cursor = connection.execute(
        "select payload, binary_payload, event, topic, private from realtime.messages"
    )
    assert cursor.fetchall() == [(None, b"\x00\xff", "note", "room:1", True)]


def test_a_trigger_broadcasts_its_row(connection: psycopg.Connection) -> None:
    connection.execute("create table public.notes (id int primary key)")
    connection.execute(
        """
        create function public.tell() returns trigger language plpgsql as $$
        begin
            perform realtime.broadcast_changes(
                'room:1', tg_op, tg_op, tg_table_name, tg_table_schema, new, old, tg_level
            );
            return null;
        end
        $$
        """
    )
    connection.execute(
        "create trigger tell after insert or delete on public.notes"
        " for each row execute function public.tell()"
    )

    connection.execute("insert into public.notes values (1)")
    connection.execute("delete from public.notes")

    cursor = connection.execute(
        "select event, payload - 'id' from realtime.messages order by inserted_at"
    )
    about = {"schema": "public", "table": "notes"}
    assert cursor.fetchall() == [
        ("INSERT", about | {"operation": "INSERT", "record": {"id": 1}, "old_record": None}),
        ("DELETE", about | {"operation": "DELETE", "record": None, "old_record": {"id": 1}}),
    ]


def test_postgres_writes_policies_and_creates_nothing_else(own_database: Database) -> None:
    with psycopg.connect(own_database.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "create policy p on realtime.messages for select to authenticated using (true)"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table realtime.mine ()")
