"""The time from a change to the callback of its customer's live client.

Staff change appointments through the project's REST interface, as a dashboard does. The time counts
from when a change was due, so waiting for other changes counts too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import psycopg

from rapport.client.rows import Job
from rapport.commands.bench.business import Business, Customer
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.waiting import until
from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

WARM_UP = 10
# clients that sign in at the same time
AT_A_TIME = 10


@dataclass(frozen=True)
class PortalLoad:
    """The changes to make: `alone` changes, one after another, while only one customer is there;
    then `changes` at `per_second`, to all customers in turn.
    """

    alone: int = 100
    customers: int = 100
    changes: int = 1_000
    per_second: float = 100


@dataclass(frozen=True)
class PortalFigures:
    """The durations of the changes; each was heard once, by its customer."""

    alone: Latency
    together: Latency


@dataclass
class _ChangeEar:
    """When each change was heard, by its text."""

    heard: dict[str, float] = field(default_factory=dict)
    calls: int = 0

    def hear(self, job: Job, _: Job | None) -> None:
        self.calls += 1
        self.heard[job.description or ""] = time.perf_counter()


def measure(stack: Stack, load: PortalLoad | None = None) -> PortalFigures:
    """Measures with customers of its own.

    Raises StackError when a change is not heard exactly once, by its customer alone.
    """
    load = load or PortalLoad()
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        customers = business.add_customers(owner, load.customers)
    return asyncio.run(_measure(business, customers, load))


async def _measure(
    business: Business, customers: list[Customer], load: PortalLoad
) -> PortalFigures:
    async with _desk(business) as desk:
        async with _portals(business, customers[:1]) as ears:
            alone = await _one_by_one(desk, customers[0], ears[0], load.alone)
        async with _portals(business, customers) as ears:
            together = await _in_turn(desk, customers, ears, load)
    return PortalFigures(alone, together)


async def _one_by_one(
    desk: httpx.AsyncClient, customer: Customer, ear: _ChangeEar, changes: int
) -> Latency:
    taken = []
    for number in range(WARM_UP + changes):
        text = f"alone {number}"
        begun = time.perf_counter()
        await _change(desk, customer, text)
        await until(lambda: text in ear.heard, "A change was not heard.")  # noqa: B023 - now
        if number >= WARM_UP:
            taken.append(ear.heard[text] - begun)
    return Latency.of(taken)


async def _in_turn(
    desk: httpx.AsyncClient, customers: list[Customer], ears: list[_ChangeEar], load: PortalLoad
) -> Latency:
    due: list[dict[str, float]] = [{} for _ in customers]
    begun = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as changes:
        for number in range(load.changes):
            who = number % len(customers)
            text = f"together {number}"
            due[who][text] = begun + number / load.per_second
            await asyncio.sleep(due[who][text] - time.perf_counter())
            changes.create_task(_change(desk, customers[who], text))
    wanted = list(zip(ears, due, strict=True))
    await until(
        lambda: all(own.keys() <= ear.heard.keys() for ear, own in wanted),
        "Changes were not heard.",
    )
    taken = []
    for ear, own in wanted:
        if ear.heard.keys() != own.keys() or ear.calls != len(own):
            raise StackError("A customer heard more than the own changes, or one of them twice.")
        taken += [ear.heard[text] - begun for text, begun in own.items()]
    return Latency.of(taken)


async def _change(desk: httpx.AsyncClient, customer: Customer, text: str) -> None:
    answer = await desk.patch(f"/jobs?id=eq.{customer.job}", json={"description": text})
    answer.raise_for_status()


@asynccontextmanager
async def _desk(business: Business) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the agent."""
    headers = {
        "apikey": business.stack.publishable_key,
        "Authorization": f"Bearer {business.token(business.agent)}",
        "Prefer": "return=minimal",
    }
    async with httpx.AsyncClient(
        base_url=f"{business.stack.url}/rest/v1", headers=headers, trust_env=False, timeout=30
    ) as desk:
        yield desk


@asynccontextmanager
async def _portals(
    business: Business, customers: list[Customer]
) -> AsyncIterator[list[_ChangeEar]]:
    """Opens the whole portal for each customer, and notes the changes of appointments."""
    ears = [_ChangeEar() for _ in customers]
    async with AsyncExitStack() as open_portals:
        doors = asyncio.Semaphore(AT_A_TIME)

        async def enter(customer: Customer, ear: _ChangeEar) -> None:
            async with doors:
                live = await open_portals.enter_async_context(business.client(customer.user))
                portal = await open_portals.enter_async_context(
                    live.everything(customer.id, on_job_update=ear.hear)
                )
                await until(lambda: portal.is_connected, "A customer's client does not connect.")

        async with asyncio.TaskGroup() as entering:
            for customer, ear in zip(customers, ears, strict=True):
                entering.create_task(enter(customer, ear))
        yield ears
