"""The database's work for a change, with one subscriber of its topics and with many.

One business has a single subscriber and the other a thousand. Changes of the two alternate on one
connection. The next change is made when every subscriber has heard of the last.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import UUID

import psycopg

from rapport.client.connection import RealtimeConnection
from rapport.client.server import Server
from rapport.client.timing import Timing
from rapport.client.tokens import Tokens
from rapport.commands.bench.business import Business, Customer, Owner
from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

SUBSCRIBERS = 1_000
CHANGES = 100
WARM_UP = 10
PATIENCE_S = 60.0
# sockets that open at the same time
AT_A_TIME = 20
# files that this process opens beside the sockets
SPARE_FILES = 1_000
# a server that opens a thousand sockets answers slowly
_PATIENT = Timing(heartbeat=20, heartbeat_timeout=60, join_timeout=60)


# without processes that tidy up, whose work grows with the waiting time
_SERVING = """
    select pid
    from pg_stat_activity
    where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Work:
    """The median processor time for a change, in milliseconds."""

    # of the process that writes
    writing: float
    # of all processes that serve a connection, Realtime's among them
    all: float


@dataclass(frozen=True)
class SubscriberFigures:
    """The same changes with one subscriber and with many; every subscriber heard each."""

    subscribers: int
    with_one: Work
    with_many: Work

    @property
    def times(self) -> float:
        """The writer's work with many subscribers, as a multiple of its work with one."""
        return self.with_many.writing / self.with_one.writing

    @property
    def times_all(self) -> float:
        """The same for all processes that serve a connection."""
        return self.with_many.all / self.with_one.all


def allow_sockets(subscribers: int = SUBSCRIBERS) -> None:
    """Allows this process, and all that it starts from now on, so many open sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = subscribers + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise StackError(f"{wanted} open files are needed, and {hard} allowed (ulimit -Hn).")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Audience:
    """Sockets that hear of one customer's appointment, alternately as staff and as the customer."""

    def __init__(self, business: Business, customer: Customer, size: int) -> None:
        self.customer = customer
        # the number of changes that each socket has heard of
        self.heard = [0] * size
        self._business = business
        self._connections: list[RealtimeConnection] = []
        self._left = 0
        self._changes = 0
        self._all_heard = asyncio.Event()

    @asynccontextmanager
    async def seated(self) -> AsyncIterator[None]:
        """Opens the sockets; each joins a topic of the change."""
        staff = await self._address(self._business.agent, "account")
        customer = await self._address(self.customer.user, "customer")
        doors = asyncio.Semaphore(AT_A_TIME)
        async with AsyncExitStack() as seats:

            async def seat(number: int) -> None:
                url, token, topic = (staff, customer)[number % 2]
                connection = RealtimeConnection(
                    url,
                    self._business.stack.publishable_key,
                    token,
                    _PATIENT,
                    lambda _topic, event, _payload: self._hear(number, event),
                    lambda: None,
                )
                self._connections.append(connection)
                seats.push_async_callback(connection.close)
                async with doors:
                    await connection.open()
                    await connection.join(topic)

            async with asyncio.TaskGroup() as seating:
                for number in range(len(self.heard)):
                    seating.create_task(seat(number))
            yield

    def expect_change(self) -> None:
        """Counts one more change as made."""
        self._changes += 1
        self._left = len(self.heard)
        self._all_heard.clear()

    async def have_heard(self) -> None:
        """Returns when each socket has heard every change. Raises StackError for others."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._all_heard.wait()
        except TimeoutError:
            reasons = {str(each.broken) for each in self._connections if each.broken}
            raise StackError(
                f"{self._left} of {len(self.heard)} sockets heard nothing. {' '.join(reasons)}"
            ) from None

    async def _address(self, user: UUID, kind: str) -> tuple[str, str, str]:
        """The address, the token and the topic for a socket of this kind."""
        token = self._business.token(user)

        async def access_token() -> str:
            return token

        stack = self._business.stack
        server = Server(stack.url, stack.publishable_key, Tokens(access_token, 0), PATIENCE_S)
        try:
            topics = await server.my_topics()
        finally:
            await server.close()
        return server.realtime_url, token, next(t.topic for t in topics if t.kind == kind)

    def _hear(self, number: int, event: str) -> None:
        if event == "jobs.updated":
            self.heard[number] += 1
            if self.heard[number] == self._changes:
                self._left -= 1
                if not self._left:
                    self._all_heard.set()


def measure(
    stack: Stack, subscribers: int = SUBSCRIBERS, changes: int = CHANGES
) -> SubscriberFigures:
    """Measures on a stack that was started after `allow_sockets`.

    Raises StackError where a subscriber does not hear of a change, or hears of it twice.
    """
    with (
        psycopg.connect(stack.db_url(), autocommit=True) as owner,
        psycopg.connect(stack.db_url(), autocommit=True) as watcher,
    ):
        audiences = []
        for size in (1, subscribers):
            business = Business.found(stack, owner)
            (customer,) = business.add_customers(owner, 1)
            audiences.append(_Audience(business, customer, size))
        one, many = asyncio.run(_measure(owner, watcher, audiences, changes))
    return SubscriberFigures(subscribers, one, many)


async def _measure(
    owner: Owner, watcher: Owner, audiences: list[_Audience], changes: int
) -> list[Work]:
    works: list[list[tuple[int, int]]] = [[] for _ in audiences]
    async with AsyncExitStack() as seats:
        for audience in audiences:
            await seats.enter_async_context(audience.seated())
        turns = list(zip(audiences, works, strict=True))
        for number in range(WARM_UP + changes):
            # alternated, since the deliveries before it fill the caches
            turns.reverse()
            for audience, taken in turns:
                work = await _change(owner, watcher, audience, f"change {number}")
                if number >= WARM_UP:
                    taken.append(work)
    for audience in audiences:
        if set(audience.heard) != {WARM_UP + changes}:
            raise StackError("A subscriber heard of a change twice.")
    return [
        Work(median(w for w, _ in taken) / 1e6, median(w for _, w in taken) / 1e6)
        for taken in works
    ]


async def _change(owner: Owner, watcher: Owner, audience: _Audience, text: str) -> tuple[int, int]:
    """Nanoseconds of the writing process, and of all serving ones, until every socket has heard."""
    writer = owner.info.backend_pid
    before = _serving_ns(watcher)
    audience.expect_change()
    owner.execute(
        "update public.jobs set description = %s where id = %s", [text, audience.customer.job]
    )
    written = worked_ns(writer)
    await audience.have_heard()
    after = _serving_ns(watcher)
    return written - before[writer], sum(after[pid] - before.get(pid, 0) for pid in after)


def _serving_ns(watcher: Owner) -> dict[int, int]:
    """The processor time of each process that serves a connection, by id, except the asking one."""
    rows = watcher.execute(_SERVING).fetchall()
    return {pid: worked_ns(pid) for (pid,) in rows}


def worked_ns(pid: int) -> int:
    """Nanoseconds of processor time since the process began; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0
