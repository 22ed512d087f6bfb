"""The time from webhooks at a steady rate to the callback of an agent's live client.

The time of each message counts from when it was due, so waiting counts too.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx
import psycopg

from rapport.client.rows import Message
from rapport.commands.bench.business import Business
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.waiting import PATIENCE_S, until
from rapport.local.errors import StackError
from rapport.local.fakes.whatsapp.courier import Meta
from rapport.local.fakes.whatsapp.payloads import inbound_text
from rapport.local.stack.running import Stack

MESSAGES = 750
PER_SECOND = 50.0
SENDERS = 100
# connections and plans exist, and the senders are known, after these
WARM_UP = SENDERS


@dataclass
class _MessageEar:
    """When each message was heard, by its text."""

    heard: dict[str, float]
    calls: int = 0

    def hear(self, message: Message) -> None:
        self.calls += 1
        self.heard[message.message] = time.perf_counter()


def measure(stack: Stack, messages: int = MESSAGES, per_second: float = PER_SECOND) -> Latency:
    """Sends signed webhooks of one message each to the function.

    Raises StackError when a message is lost or told twice.
    """
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        number = business.add_number(owner)
    return asyncio.run(_measure(business, number, messages, per_second))


async def _measure(business: Business, number: str, messages: int, per_second: float) -> Latency:
    stack = business.stack
    ear = _MessageEar({})
    async with (
        business.client(business.agent) as live,
        live.messages(on_new_message=ear.hear) as agents,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        meta = Meta(http, stack.webhook_url, stack.whatsapp_app_secret)

        async def post(place: int, name: str) -> None:
            answer = await meta.post(
                inbound_text(
                    phone_number_id=number,
                    sender=str(38_680_000_000 + place % SENDERS),
                    name="Somebody",
                    text=f"{name} {place}",
                )
            )
            answer.raise_for_status()

        await until(lambda: agents.is_connected, "The agent's client is not connected.")
        for place in range(WARM_UP):
            await post(place, "warm up")
        due: dict[str, float] = {}
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as posts:
            for place in range(messages):
                at = due[f"message {place}"] = begun + place / per_second
                await asyncio.sleep(at - time.perf_counter())
                posts.create_task(post(place, "message"))
        sent = WARM_UP + messages
        await until(lambda: len(ear.heard) == sent, "Messages were lost.")
    if ear.calls != sent:
        raise StackError("A message was told twice.")
    return Latency.of(ear.heard[text] - at for text, at in due.items())
