"""Half an hour of work: whether memory, tables, the replication slot and connections stay flat.

Customers write at a steady rate, an agent reads lists and conversations, and live clients come and
go. One client stays: it hears every message, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import mean

import httpx
import psutil
import psycopg

from rapport.client.rows import Message
from rapport.commands.bench.business import Business, Owner
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.waiting import PATIENCE_S, until
from rapport.local.errors import StackError
from rapport.local.fakes.whatsapp.courier import RETRIES, Meta
from rapport.local.fakes.whatsapp.payloads import inbound_text
from rapport.local.stack.running import Stack

SENDERS = 200
# some tables are small, and half of their rows are dead after a single change
LARGE = 1_000


@dataclass(frozen=True)
class SoakLoad:
    """`per_second` webhooks for `seconds`; each of `clients` stays for `stay_s` on average."""

    seconds: float = 30 * 60
    per_second: float = 20
    clients: int = 5
    stay_s: float = 10
    read_every_s: float = 1
    look_every_s: float = 10


@dataclass(frozen=True)
class Look:
    """How things stood at a time, in seconds after the beginning."""

    at: float
    messages: int
    # bytes that each part of the stack shares with no other process
    memory: Mapping[str, int]
    connections: int
    # bytes of the log that Realtime has yet to confirm
    lag: int
    # bytes of the database, and the largest share of dead rows in a table
    size: int
    dead: float


@dataclass
class SoakFigures:
    """What was seen, and the time of each message until it was heard."""

    seconds: float
    looks: list[Look]
    heard: Latency
    sent: int
    reconnects: int

    def quarter(self, number: int) -> list[Look]:
        """A quarter of the looks in the order of time, from 1 to 4; at least one."""
        first = len(self.looks) * (number - 1) // 4
        return self.looks[first : max(len(self.looks) * number // 4, first + 1)]

    def memory(self, number: int) -> float:
        """Bytes of all parts in a quarter of the time."""
        return mean(sum(one.memory.values()) for one in self.quarter(number))

    def grown_most(self) -> tuple[str, float, float]:
        """The part whose memory grew most: its name, and its bytes in the last two quarters."""

        def of(name: str, number: int) -> float:
            return mean(one.memory.get(name, 0) for one in self.quarter(number))

        names = {name for one in self.quarter(4) for name in one.memory}
        name = max(names, key=lambda name: of(name, 4) / max(1.0, of(name, 3)))
        return name, of(name, 3), of(name, 4)

    def bytes_of_each(self, number: int) -> float:
        """Bytes by which the database grew for each message, in a half of the time."""
        half = [*self.quarter(number * 2 - 1), *self.quarter(number * 2)]
        return (half[-1].size - half[0].size) / max(1, half[-1].messages - half[0].messages)


@dataclass
class _Ear:
    heard: dict[str, float] = field(default_factory=dict)
    calls: int = 0

    def hear(self, message: Message) -> None:
        self.calls += 1
        self.heard[message.message] = time.perf_counter()


def measure(stack: Stack, load: SoakLoad | None = None) -> SoakFigures:
    """Works on a stack that this process has started.

    Raises StackError where a message is lost or told twice.
    """
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        number = business.add_number(owner)
        return asyncio.run(_measure(business, number, owner, load or SoakLoad()))


async def _measure(business: Business, number: str, owner: Owner, load: SoakLoad) -> SoakFigures:
    stack = business.stack
    ear, due, looks = _Ear(), dict[str, float](), list[Look]()
    reconnects = 0
    begun = time.perf_counter()
    ends = begun + load.seconds

    async def look() -> None:
        while (now := time.perf_counter()) < ends:
            looks.append(await asyncio.to_thread(_look, owner, now - begun, len(ear.heard)))
            await asyncio.sleep(load.look_every_s)

    async def read(http: httpx.AsyncClient) -> None:
        while time.perf_counter() < ends:
            for path in ("inbox?limit=50&order=last_message_at.desc", "messages?limit=100"):
                with contextlib.suppress(httpx.HTTPError):
                    await _ask(http, business, path)
            await asyncio.sleep(load.read_every_s)

    async def come_and_go() -> None:
        nonlocal reconnects
        while time.perf_counter() < ends:
            async with business.client(business.agent) as live, live.messages():
                await asyncio.sleep(random.uniform(0.5, 1.5) * load.stay_s)  # noqa: S311 - load
            reconnects += 1

    async def post(meta: Meta, name: str, sender: int) -> None:
        payload = inbound_text(
            phone_number_id=number,
            sender=str(38_680_000_000 + sender % SENDERS),
            name="Somebody",
            text=name,
        )
        # as Meta does, also where a kept connection ends in the moment in which it is used
        for wait in RETRIES:
            await asyncio.sleep(wait)
            with contextlib.suppress(httpx.TransportError):
                if (await meta.post(payload)).is_success:
                    return
        raise StackError("A webhook was not accepted.")

    async with (
        business.client(business.agent) as live,
        live.messages(on_new_message=ear.hear) as agents,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        await until(lambda: agents.is_connected, "The agent's client is not connected.")
        meta = Meta(http, stack.webhook_url, stack.whatsapp_app_secret)
        async with asyncio.TaskGroup() as group:
            group.create_task(look())
            group.create_task(read(http))
            for _ in range(load.clients):
                group.create_task(come_and_go())
            for place in range(round(load.seconds * load.per_second)):
                name = f"message {place}"
                at = due[name] = begun + place / load.per_second
                await asyncio.sleep(at - time.perf_counter())
                group.create_task(post(meta, name, place))
        await until(lambda: len(ear.heard) == len(due), "Messages were lost.")
    if ear.calls != len(due):
        raise StackError("A message was told twice.")
    taken = Latency.of(ear.heard[name] - at for name, at in due.items())
    return SoakFigures(load.seconds, looks, taken, len(due), reconnects)


async def _ask(http: httpx.AsyncClient, business: Business, path: str) -> None:
    answer = await http.get(
        f"{business.stack.url}/rest/v1/{path}",
        headers={
            "apikey": business.stack.publishable_key,
            "authorization": f"Bearer {business.token(business.agent)}",
        },
    )
    answer.raise_for_status()


def _look(owner: Owner, at: float, messages: int) -> Look:
    memory: dict[str, int] = defaultdict(int)
    for name, size in _parts():
        memory[name] += size
    found = owner.execute(
        "select (select count(*) from pg_stat_activity where backend_type = 'client backend'),"
        " (select coalesce(max(pg_current_wal_lsn() - confirmed_flush_lsn), 0)"
        "  from pg_replication_slots),"
        " pg_database_size(current_database()),"
        " (select coalesce(max(n_dead_tup::float / (n_live_tup + n_dead_tup)), 0)"
        "  from pg_stat_user_tables where n_live_tup > %s)",
        [LARGE],
    ).fetchone()
    if found is None:
        raise StackError("The database says nothing of itself.")
    connections, lag, size, dead = found
    return Look(at, messages, dict(memory), connections, int(lag), size, dead)


def _parts() -> Iterator[tuple[str, int]]:
    """The stack's processes by what they are, with the bytes that are theirs alone."""
    for process in psutil.Process().children(recursive=True):
        try:
            # Postgres' connections write theirs behind it
            yield process.name().split(":")[0], process.memory_full_info().uss
        except psutil.Error:
            # a connection that has just ended
            continue
