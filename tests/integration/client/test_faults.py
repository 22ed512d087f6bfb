"""The live client over a network that can't be trusted: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from datetime import timedelta
from random import Random
from uuid import UUID

import psycopg
from tests.integration.client.portal import QUICK, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.client.witness import Witness, check_order, versions
from tests.world import ALPINE, seed_uuid

from rapport.client.rows import Message, Profile
from rapport.errors import NotAllowed

# more are for whoever has the time
CHANGES = int(os.environ.get("FAULT_CHANGES", "1500"))
SEED = int(os.environ.get("FAULT_SEED", "20261121"))
WRITERS = 4
# seconds, on average
PAUSE = 0.025
PATIENCE = 60.0

CUSTOMERS = ("cilka", "carlos")
# how often, and what
UPDATES = {
    "message = left(message, 20) || '!', edited_at = now()": 40,
    "status = 'read', delivered_at = coalesce(delivered_at, now()), read_at = now()": 40,
    "message = '', revoked_at = now()": 18,
    # too large to be broadcast with the row
    "message = repeat('x', 70000)": 2,
}


class Writers:
    """Threads that write to both customers as fast as they may, in several ways."""

    def __init__(self, portal: Portal, conversations: list[UUID], changes: int, seed: int) -> None:
        self._portal = portal
        self._conversations = conversations
        self._left = changes
        self._lock = threading.Lock()
        self.errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(Random(seed + n),)) for n in range(WRITERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def are_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, random: Random) -> None:
        try:
            with self._portal.world.connect() as connection:
                while self._take():
                    self._write(random, connection)
                    # so that faults fall between changes, too
                    time.sleep(random.expovariate(1 / PAUSE))
        except psycopg.Error as error:
            self.errors.append(error)

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _write(self, random: Random, connection: psycopg.Connection) -> None:
        choice = random.random()
        if choice < 0.55:
            self._insert(connection, random, 1)
        elif choice < 0.6:
            with connection.transaction():
                self._insert(connection, random, random.randint(2, 5))
        elif choice < 0.9:
            # a message that is there already: edited, read, deleted
            connection.execute(
                b"update public.messages set "
                + random.choices([*UPDATES], [*UPDATES.values()])[0].encode()
                + b" where id = (select id from public.messages where conversation_id = %s"
                b" order by seq desc offset %s limit 1)",
                (random.choice(self._conversations), random.randint(0, 5)),
            )
        else:
            connection.execute(
                "update public.contacts set notes = notes, name = %s where id = %s",
                (f"name {random.random()}", seed_uuid(f"contact {random.choice(CUSTOMERS)}")),
            )

    def _insert(self, connection: psycopg.Connection, random: Random, count: int) -> None:
        conversation = random.choice(self._conversations)
        connection.execute(
            "select set_config('request.jwt.claims', %s, false)",
            (json.dumps({"role": "authenticated", "sub": str(self._author(conversation))}),),
        )
        for _ in range(count):
            connection.execute(
                "insert into public.messages (conversation_id, message) values (%s, 'hello')",
                (conversation,),
            )

    def _author(self, conversation: UUID) -> UUID:
        of_alpine = self._conversations.index(conversation) < len(self._conversations) - 1
        return seed_uuid("andrej" if of_alpine else "ana")


class Trouble:
    """What happens to the servers and to who may see what, one thing after another."""

    def __init__(self, portal: Portal, proxy: Proxy) -> None:
        self._portal = portal
        self._proxy = proxy
        self.count = 0

    async def strike(self) -> None:
        self.count += 1
        owner = self._portal.world.owner
        match self.count % 4:
            case 0:
                self._proxy.cut_all()
            case 1:
                # in threads: a server takes its time to end and to begin
                await asyncio.to_thread(self._portal.servers.stop_gateway)
                self._portal.servers.start_gateway()
                await asyncio.to_thread(self._portal.servers.wait_for_gateway)
            case 2:
                # more than are broadcast one by one
                owner.execute("update public.messages set error_message = 'n' where seq <= 60")
                # the topics of the account get other names
                owner.execute(
                    "delete from public.account_members where user_id = %s", (seed_uuid("vera"),)
                )
                owner.execute(
                    "insert into public.account_members values (%s, %s, 'viewer', 'vera')",
                    (ALPINE, seed_uuid("vera")),
                )
            case _:
                owner.execute(
                    "update public.contacts set portal_user_id = null where id = %s",
                    (self._portal.customer("carlos"),),
                )


async def endure(portal: Portal, changes: int, seed: int) -> Faults:
    """Three people follow while everything fails every now and then."""
    cilka, carlos = portal.customer("cilka"), portal.customer("carlos")
    conversations = [portal.conversation("cilka") for _ in range(3)]
    conversations.append(portal.conversation("carlos"))
    portal.write("andrej", conversations[0], "before", "the subscription")
    hers, profile = Witness[Message](), Witness[Profile]()
    desk, his = Witness[Message](), Witness[Message]()
    faults = Faults(Random(seed))
    random = Random(seed)

    def lifetime() -> timedelta:
        # some expire before they can be renewed
        return timedelta(seconds=random.uniform(1.5, 6))

    async with (
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        portal.client("cilka", QUICK, proxy.url, lifetime) as cilkas,
        portal.client("andrej", QUICK, proxy.url, lifetime) as andrejs,
        portal.client("carlos", QUICK, proxy.url, lifetime) as carloses,
        cilkas.messages(cilka, **hers.of_messages) as own,
        cilkas.profile(cilka, on_update=profile.on_update) as own_profile,
        andrejs.messages(**desk.of_messages) as all_messages,
        carloses.messages(carlos, **his.of_messages) as shut_out,
    ):
        before = versions(portal.world, "messages", cilka)
        profile_before = versions(portal.world, "customers", cilka, "id")
        writers = Writers(portal, conversations, changes, seed)
        trouble = Trouble(portal, proxy)
        faults.drop, faults.delay, faults.cut, faults.stall = 0.1, 0.02, 0.01, 0.003
        writers.start()
        while not writers.are_done:
            await asyncio.sleep(1.5)
            await trouble.strike()
        assert not writers.errors
        assert trouble.count >= 4

        faults.calm()
        expected = versions(portal.world, "messages", cilka)
        expected_profile = versions(portal.world, "customers", cilka, "id")
        news = {row: version for row, version in expected.items() if before.get(row) != version}
        # what is missing then is named below
        with contextlib.suppress(TimeoutError):
            await until(
                lambda: (
                    hers.knows(news)
                    and profile.knows(expected_profile)
                    and desk.knows(news)
                    and own.is_connected
                    and all_messages.is_connected
                    and isinstance(shut_out.error, NotAllowed)
                ),
                PATIENCE,
            )
        # what is still on its way would now be told twice
        await asyncio.sleep(2 * QUICK.slow_poll)

        hers.check_rows(expected, before)
        profile.check_rows(expected_profile, profile_before)
        desk.check_rows(expected, before, knows_before=False)
        for witness in (hers, desk):
            check_order(witness.inserts)
        assert {row.customer_id for row in own.rows.values()} == {cilka}
        assert {row: own.rows[row].version for row in own.rows} == expected
        assert own.is_connected
        assert all_messages.is_connected
        assert isinstance(shut_out.error, NotAllowed)
        assert (own.error, own_profile.error, all_messages.error) == (None, None, None)
        assert not shut_out.rows
        assert {row.customer_id for row in his.inserts} <= {carlos}
    return faults


async def test_nothing_is_missed_and_nothing_told_twice_whatever_fails(portal: Portal) -> None:
    faults = await endure(portal, changes=CHANGES, seed=SEED)

    assert faults.seen.keys() == {"drop", "delay", "cut", "stall"}


async def test_who_is_shut_out_is_told_so_once_and_hears_no_more(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    portal.write("andrej", conversation, "hello")
    gone: list[str] = []
    async with (
        portal.client("cilka") as live,
        live.messages(
            portal.customer("cilka"), on_message_deleted=lambda row: gone.append(row.message)
        ) as messages,
    ):
        await until(lambda: messages.is_connected)

        portal.world.owner.execute(
            "update public.contacts set portal_user_id = null where id = %s",
            (portal.customer("cilka"),),
        )

        await until(lambda: isinstance(messages.error, NotAllowed))
        await until(lambda: not messages.rows)
        assert gone == ["hello"]
        assert not messages.is_connected
        portal.write("andrej", conversation, "not for her")
        await asyncio.sleep(2 * QUICK.slow_poll)
        assert not messages.rows

        # and is let in again
        portal.world.owner.execute(
            "update public.contacts set portal_user_id = %s where id = %s",
            (seed_uuid("cilka"), portal.customer("cilka")),
        )
        await until(lambda: messages.is_connected and messages.error is None)
        await until(lambda: len(messages.rows) == 2)
