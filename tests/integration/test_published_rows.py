"""postgres_changes, asked by strangers: every published table, operation and column.

Realtime tests the filters of a subscription on rows; which of them match must tell nobody more
than a select would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from tests.integration.realtime_clients import BareSocket, Payload, bare_socket
from tests.sql.actors import populate
from tests.sql.portal import write_invoice
from tests.stacks import Start
from tests.world import ALPINE, World, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

OPERATIONS = ("INSERT", "UPDATE", "DELETE")
CURIOUS = ("stranger", "cilka", "ana")
WITNESS = "olivia"
# the most bindings that a channel may have
MOST = 100
# what may differ between a row that comes into sight and the row that it was: when and how often
# it was written, and what brings it into sight
TOLD_BY_COMING = {"status", "sent_at", "issued_on", "updated_at", "version", "customer_id"}


@dataclass(frozen=True)
class Told:
    """A change as a subscriber is told of it, and the bindings that it is said to match."""

    table: str
    operation: str
    record: Payload
    old_record: Payload
    bindings: list[Payload]


@dataclass
class Listener:
    """Somebody who subscribes to changes, and what they are told."""

    socket: BareSocket
    bindings: dict[int, Payload] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    _channels: int = 0
    _beats: int = 0

    async def subscribe(self, bindings: list[Payload]) -> None:
        for start in range(0, len(bindings), MOST):
            few = bindings[start : start + MOST]
            self._channels += 1
            reference = str(self._channels)
            topic = f"realtime:changes-{reference}"
            config = {"config": {"postgres_changes": few}}
            await self.socket.send(reference, reference, topic, "phx_join", config)
            reply = await self._until(topic, "phx_reply")
            assert reply["status"] == "ok", reply
            self.bindings |= {each["id"]: each for each in reply["response"]["postgres_changes"]}
            system = await self._until(topic, "system")
            assert system["status"] == "ok", system

    async def catch_up(self) -> list[Told]:
        """What was told since the last time; everything that was sent before has come."""
        self._beats += 1
        await self.socket.send(None, f"beat {self._beats}", "phoenix", "heartbeat", {})
        await self._until("phoenix", "phx_reply")
        return self._taken()

    async def hear(self, table: str, **expected: object) -> list[Told]:
        """What is told until a row with these values comes, which is left out."""
        while not self.told or not _has(self.told[-1], table, expected):
            await self._next()
        self.told.pop()
        return self._taken()

    def _taken(self) -> list[Told]:
        """What each channel was told, put together: they tell the same changes."""
        together: dict[str, Told] = {}
        for told in self.told:
            key = json.dumps([told.table, told.operation, told.record, told.old_record])
            together.setdefault(key, replace(told, bindings=[])).bindings.extend(told.bindings)
        self.told = []
        return list(together.values())

    async def _until(self, topic: str, event: str) -> Payload:
        while True:
            frame = await self._next()
            if frame[2:4] == [topic, event]:
                payload: Payload = frame[4]
                return payload

    async def _next(self) -> Any:
        frame = await self.socket.receive()
        if frame[3] == "postgres_changes":
            data = frame[4]["data"]
            self.told.append(
                Told(
                    table=data["table"],
                    operation=data["type"],
                    record=data.get("record", {}),
                    old_record=data.get("old_record", {}),
                    bindings=[self.bindings[each] for each in frame[4]["ids"]],
                )
            )
        return frame


@dataclass(frozen=True)
class Scene:
    """Two businesses without rows of their customers, behind a gateway."""

    world: World
    stack: Stack

    @asynccontextmanager
    async def listeners(self, *names: str) -> AsyncIterator[dict[str, Listener]]:
        async with AsyncExitStack() as opened:
            yield {
                name: Listener(
                    await opened.enter_async_context(
                        bare_socket(
                            self.stack,
                            mint_user_token(self.stack.signing_key, user_id=seed_uuid(name)),
                        )
                    )
                )
                for name in names
            }

    def columns(self) -> list[tuple[str, str]]:
        """Every column of every published table."""
        return [
            (row["tablename"], column)
            for row in self.world.rows(
                "select tablename::text, attnames::text[] from pg_publication_tables"
                " where pubname = 'supabase_realtime' order by 1"
            )
            for column in row["attnames"]
        ]

    def visible(self, name: str) -> set[tuple[str, str]]:
        """The table and id of every row that somebody can select."""
        with self.world.acting_as(name) as connection:
            return {
                (table, str(row[0]))
                for table in {table for table, _ in self.columns()}
                for row in connection.execute(
                    sql.SQL("select id from {}").format(sql.Identifier("public", table))
                )
            }

    def logged(self, name: str) -> set[tuple[str, str]]:
        """The rows that somebody could select at some time, whether they still can or not."""
        query = """
            select table_name, row_id::text
            from private.changes
            where account_id in (
                select account_id from public.account_members where user_id = %(user)s
            )
            or customer_id in (
                select id from public.customers where portal_user_id = %(user)s
            )
        """
        rows = self.world.rows(query, {"user": seed_uuid(name)})
        return {(row["table_name"], row["row_id"]) for row in rows}

    def values(self) -> list[tuple[str, str, str]]:
        """For every published column that has one, a value of a row of the first business."""
        found = []
        for table, column in self.columns():
            row = self.world.owner.execute(
                sql.SQL(
                    "select {column}::text from {table}"
                    " where account_id = %s and {column}::text <> '' order by id limit 1"
                ).format(column=sql.Identifier(column), table=sql.Identifier("public", table)),
                [ALPINE],
            ).fetchone()
            if row is not None:
                found.append((table, column, row[0]))
        return found

    async def settle(self, listener: Listener) -> list[Told]:
        """Waits until the witness has heard of all that was written, and returns it."""
        mark = str(self.world.value("select gen_random_uuid()"))
        self.world.owner.execute(
            "update public.contacts set notes = %s where id = %s", [mark, _mark_id()]
        )
        return await listener.hear("contacts", notes=mark)

    def delete_everything(self) -> None:
        """Deletes every published row but the mark, even if others refer to it."""
        with self.world.connect("supabase_admin") as admin:
            admin.execute("set session_replication_role = replica")
            for table in sorted({table for table, _ in self.columns()}):
                admin.execute(
                    sql.SQL("delete from {} where id <> %s").format(
                        sql.Identifier("public", table)
                    ),
                    [_mark_id()],
                )


def _mark_id() -> UUID:
    return seed_uuid("mark")


def _has(told: Told, table: str, expected: dict[str, object]) -> bool:
    return told.table == table and expected.items() <= told.record.items()


def binding(table: str, operation: str, condition: str | None = None) -> Payload:
    given = {"event": operation, "schema": "public", "table": table}
    return given | ({"filter": condition} if condition else {})


def quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def holds(condition: str, record: Payload) -> bool:
    """Whether a filter on null or not null holds for a row."""
    column, _, operator = condition.partition("=")
    return (record[column] is None) == (operator == "is.null")


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def scene(start: Start, database: Database) -> Iterator[Scene]:
    stack = start("gateway")
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into public.contacts (id, account_id, name) values (%s, %s, 'mark')",
            [_mark_id(), ALPINE],
        )
        yield Scene(World(database, owner), stack)


async def test_who_subscribes_learns_no_more_than_who_selects(scene: Scene) -> None:
    world = scene.world
    tables = sorted({table for table, _ in scene.columns()})
    everything = [binding(table, "*") for table in tables]
    wanted = {
        # for each column: who sees nothing asks for each operation by itself, who sees some rows
        # asks for those that have a value and those that have none
        "stranger": [(operation, "not.is.null") for operation in OPERATIONS],
        "cilka": [("*", "not.is.null"), ("*", "is.null")],
        "ana": [("*", "not.is.null")],
    }
    async with scene.listeners(WITNESS, *CURIOUS) as listeners:
        witness = listeners[WITNESS]
        await witness.subscribe(everything)
        for name in CURIOUS:
            every_column = [
                binding(table, operation, f"{column}={operator}")
                for table, column in scene.columns()
                for operation, operator in wanted[name]
            ]
            await listeners[name].subscribe(everything + every_column)
        known = {name: scene.visible(name) for name in CURIOUS}

        populate(world)
        written = {(told.table, told.operation) for told in await scene.settle(witness)}
        assert {table for table, operation in written if operation == "INSERT"} == set(tables)
        await check(scene, listeners, known)

        # each column of a row that others see is another one's secret
        probes = [
            binding(table, "*", f"{column}=eq.{quoted(value)}")
            for table, column, value in scene.values()
        ]
        for name in CURIOUS:
            await listeners[name].subscribe(probes)
        for table in tables:
            world.owner.execute(
                sql.SQL("update {} set updated_at = now()").format(sql.Identifier("public", table))
                if table != "loyalty_transactions"
                else "select"
            )
        draft = write_invoice(
            world, "andrej", seed_uuid("contact cilka"), number="secret", amount_minor=99900
        )["id"]
        edit(world, "amount_minor = 100", draft)
        await scene.settle(witness)
        await check(scene, listeners, known)

        edit(world, "status = 'sent'", draft)
        sent = await scene.settle(witness)
        assert [told.old_record["status"] for told in sent if told.table == "invoices"] == ["draft"]
        hers = await check(scene, listeners, known)
        # to its customer a sent invoice is an update, and its old `sent_at` tells that it is new
        assert [
            (told.operation, told.old_record["sent_at"], told.record["number"])
            for told in hers["cilka"]
            if told.table == "invoices"
        ] == [("UPDATE", None, "secret")]

        scene.delete_everything()
        assert [told for told in await scene.settle(witness) if told.operation == "DELETE"] == []
        await check(scene, listeners, known)


def edit(world: World, assignment: str, invoice: object) -> None:
    with world.acting_as("andrej") as connection:
        connection.execute(
            f"update public.invoices set {assignment} where id = %s".encode(), [invoice]
        )


async def check(
    scene: Scene, listeners: dict[str, Listener], known: dict[str, set[tuple[str, str]]]
) -> dict[str, list[Told]]:
    """Asserts that each was told of rows in their sight, and nothing by the way it was told.

    Returns what each heard; `known` are the rows that they have seen, and grows.
    """
    heard = {}
    for name in CURIOUS:
        # a row may be gone again by now
        sight = scene.visible(name) | scene.logged(name)
        heard[name] = await listeners[name].catch_up()
        for told in heard[name]:
            assert told.operation != "DELETE", (name, told)
            row = (told.table, told.record["id"])
            assert row in sight | known[name], (name, told)
            differing = {
                column
                for column, value in told.old_record.items()
                if value is not None and value != told.record[column]
            }
            assert row in known[name] or differing <= TOLD_BY_COMING, (name, told)
            matched = {each["id"] for each in told.bindings}
            asked = [
                each
                for each in listeners[name].bindings.values()
                if each["table"] == told.table
                and each["event"] in ("*", told.operation)
                and each.get("filter", "").endswith(".null")
            ]
            for each in asked:
                assert (each["id"] in matched) == holds(each["filter"], told.record), (name, told)
            known[name].add(row)
        known[name] |= sight
    return heard


async def test_a_publication_of_deletions_would_tell_strangers_whose_they_were(
    scene: Scene,
) -> None:
    """What the test before would find: Realtime tests filters on rows that nobody may see."""
    populate(scene.world)
    phone = scene.world.value(
        "select phone from public.customers where id = %s", [seed_uuid("contact cilka")]
    )
    scene.world.owner.execute(
        "alter publication supabase_realtime set (publish = 'insert, update, delete')"
    )
    try:
        async with scene.listeners(WITNESS, "stranger") as listeners:
            stranger = listeners["stranger"]
            await listeners[WITNESS].subscribe([binding("contacts", "UPDATE")])
            await stranger.subscribe(
                [
                    binding("customers", "DELETE", f"phone=like.{phone[:-1]}{digit}")
                    for digit in range(10)
                ]
            )

            scene.delete_everything()
            await scene.settle(listeners[WITNESS])

            [told] = await stranger.catch_up()
    finally:
        scene.world.owner.execute(
            "alter publication supabase_realtime set (publish = 'insert, update')"
        )
    assert [each["filter"] for each in told.bindings] == [f"phone=like.{phone}"]
