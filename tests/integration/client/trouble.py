"""Writers and network troubles that live clients have to endure."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from random import Random
from uuid import UUID

import psycopg
from tests.integration.client.portal import Portal
from tests.integration.client.proxy import Proxy
from tests.world import ALPINE, seed_uuid

WRITERS = 4
# seconds, on average
PAUSE = 0.025

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
