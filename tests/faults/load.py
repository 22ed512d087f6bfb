"""What goes on while something fails: Meta delivers webhooks as it does, and staff answer.

Meta posts a webhook again until it is answered with 2xx. Some come twice, some have a wrong clock.
Staff's pages post a reply again with the same client_ref until the database has it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import httpx
import psycopg

from rapport.commands.demo import ALPINE_NUMBER
from rapport.errors import from_postgrest
from rapport.local.fakes.whatsapp.courier import Meta
from rapport.local.fakes.whatsapp.payloads import Payload, inbound_text
from rapport.local.stack.running import Stack
from rapport.local.stack.state import settings_file
from rapport.local.stack.summary import StackSummary
from rapport.local.supabase.keys import mint_user_token

# seconds between two tries, and until a try is given up for good
PAUSES = (0.2, 0.4, 0.8, 1.6, 3.0)
PATIENCE_S = 300.0
# requests of Meta's at a time
AT_ONCE = 40
AGENTS = 10
SKEWS = (timedelta(hours=2), timedelta(hours=-2), timedelta(days=20_000))


@dataclass
class Load:
    """`webhooks` from `customers` at a rate, and `replies` to them; what was sent is noted."""

    summary: StackSummary
    webhooks: int
    replies: int
    customers: int = 40
    per_second: float = 100.0
    # how much of the webhooks is acknowledged
    acknowledged: int = 0
    repeated: int = 0
    replied: int = 0
    # seconds that the slowest webhook and the slowest reply waited until they were taken
    slowest: dict[str, float] = field(default_factory=dict)
    threads: list[UUID] = field(default_factory=list)
    # of agents: one alone would be refused, who writes as much in a minute
    tokens: list[str] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return Stack.load(settings_file(self.summary.folder))

    def number(self, place: int) -> str:
        return str(38_651_000_000 + place % self.customers)

    async def run(self, fail: Callable[[], Awaitable[None]]) -> None:
        """Runs the load; `fail` is awaited when a third of the webhooks is on its way."""
        limits = httpx.Limits(max_connections=AT_ONCE * 2)
        async with httpx.AsyncClient(trust_env=False, timeout=15, limits=limits) as http:
            meta = Meta(http, self.summary.webhook_url, self.stack.whatsapp_app_secret)
            await self._meet(meta)
            places = asyncio.Semaphore(AT_ONCE)
            is_failing = False
            async with asyncio.TaskGroup() as group:
                for thread, _ in enumerate(self.threads):
                    group.create_task(self._answer(http, thread))
                begun = time.perf_counter()
                for place in range(self.webhooks):
                    await places.acquire()
                    await asyncio.sleep(begun + place / self.per_second - time.perf_counter())
                    group.create_task(self._deliver(meta, place, places))
                    if place >= self.webhooks // 3 and not is_failing:
                        is_failing = True
                        group.create_task(_awaited(fail))

    async def _meet(self, meta: Meta) -> None:
        """Every customer has written once, so that there are conversations to answer in, and there
        are agents.
        """
        for place in range(self.customers):
            first = partial(meta.post, self._message(place, f"first {place}"))
            await self._insist(first, "first")
        with psycopg.connect(self.summary.db_url) as connection:
            for place in range(self.customers):
                found = connection.execute(
                    "select k.id from public.conversations k"
                    " join public.contact_identities i on i.contact_id = k.customer_id"
                    " where k.channel = 'whatsapp' and i.value = %s",
                    [f"+{self.number(place)}"],
                ).fetchone()
                assert found is not None, place
                self.threads.append(found[0])
            agents = [uuid4() for _ in range(AGENTS)]
            for agent in agents:
                connection.execute(
                    "insert into auth.users (id, email, aud, role)"
                    " values (%s, %s, 'authenticated', 'authenticated')",
                    [agent, f"{agent}@faults.example"],
                )
                connection.execute(
                    "insert into public.account_members (account_id, user_id, role, display_name)"
                    " select account_id, %s, 'agent', 'Agent' from public.conversations"
                    " where id = %s",
                    [agent, self.threads[0]],
                )
            key = self.stack.signing_key
            self.tokens = [mint_user_token(key, user_id=agent) for agent in agents]

    def _message(self, place: int, text: str, skew: timedelta = timedelta()) -> Payload:
        return inbound_text(
            phone_number_id=ALPINE_NUMBER,
            sender=self.number(place),
            name=f"Customer {place % self.customers}",
            text=text,
            sent_at=datetime.now(UTC) + skew,
        )

    async def _deliver(self, meta: Meta, place: int, places: asyncio.Semaphore) -> None:
        skew = SKEWS[place % len(SKEWS)] if place % 25 == 0 else timedelta()
        payload = self._message(place, f"webhook {place}", skew)
        try:
            await self._insist(partial(meta.post, payload), "webhook")
            self.acknowledged += 1
            if place % 20 == 0:
                # once more, though it was acknowledged
                await self._insist(partial(meta.post, payload), "webhook")
        finally:
            places.release()

    async def _answer(self, http: httpx.AsyncClient, thread: int) -> None:
        """Staff answer a customer, one message after the other."""
        count = self.replies // self.customers
        pause = self.webhooks / self.per_second / count
        for number in range(count):
            reply = {
                "conversation_id": str(self.threads[thread]),
                "message": f"reply {thread} {number}",
                "client_ref": f"reply {thread} {number}",
            }
            token = self.tokens[thread % AGENTS]
            await self._insist(partial(self._post, http, token, reply), "reply")
            self.replied += 1
            await asyncio.sleep(random.uniform(0, pause))

    async def _post(
        self, http: httpx.AsyncClient, token: str, reply: dict[str, str]
    ) -> httpx.Response:
        return await http.post(
            f"{self.summary.url}/rest/v1/rpc/post_message",
            json=reply,
            headers={
                "apikey": self.summary.publishable_key,
                "authorization": f"Bearer {token}",
            },
        )

    async def _insist(self, call: Callable[[], Awaitable[httpx.Response]], kind: str) -> None:
        """Repeats a request until it is answered with 2xx, as Meta and our pages do."""
        begun = time.monotonic()
        ends = begun + PATIENCE_S
        last = "no answer"
        tries = 0
        while time.monotonic() < ends:
            try:
                answer = await call()
            except httpx.TransportError as error:
                last = type(error).__name__
            else:
                if answer.is_success:
                    taken = time.monotonic() - begun
                    self.slowest[kind] = max(self.slowest.get(kind, 0), taken)
                    return
                # What is refused for good is a fault of ours. A process of Postgres that dies may
                # leave an answer of 400 without a code, which our clients repeat as well.
                assert may_pass(answer), answer.text
                last = f"{answer.status_code} {answer.text[:200]}"
            self.repeated += 1
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        raise AssertionError(last)


def may_pass(answer: httpx.Response) -> bool:
    """Whether the same request may succeed later, as our clients see it."""
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        return True
    told = answer.json()
    return "code" in told and from_postgrest(told["code"]).retryable


async def _awaited(fail: Callable[[], Awaitable[None]]) -> None:
    await fail()
