"""The time from a webhook's POST to a client's callback, one message at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

from rapport.commands.bench.latency import Latency
from rapport.commands.demo import ALPINE_NUMBER
from rapport.commands.observer import Observer, insert_of
from rapport.local.fakes.whatsapp.courier import Meta
from rapport.local.fakes.whatsapp.payloads import inbound_text, message_id
from rapport.local.stack.logins import LOGINS
from rapport.local.stack.running import Stack

WARM_UP = 10
MESSAGES = 100


@dataclass(frozen=True)
class LiveFigures:
    """The times of the same messages until the function answered and until the callbacks ran."""

    answer: Latency
    broadcast: Latency
    postgres_changes: Latency


def measure(stack: Stack, messages: int = MESSAGES) -> LiveFigures:
    """Sends messages to an agent who listens in both ways."""
    return asyncio.run(_measure(stack, messages))


async def _measure(stack: Stack, messages: int) -> LiveFigures:
    agent = next(login for login in LOGINS if login.role == "agent")
    answers, broadcasts, changes = [], [], []
    async with (
        Observer.signed_in(stack, agent.email, agent.password) as observer,
        httpx.AsyncClient(trust_env=False, timeout=15) as http,
    ):
        meta = Meta(http, stack.webhook_url, stack.whatsapp_app_secret)
        await observer.follow_topic(await observer.topic("account"))
        await observer.follow_table("messages")
        for number in range(WARM_UP + messages):
            provider_id = message_id()
            payload = inbound_text(
                phone_number_id=ALPINE_NUMBER,
                sender=str(38_660_000_000 + number % 20),
                name="Somebody",
                text=f"Message {number}",
                provider_id=provider_id,
            )
            start = time.perf_counter()
            response = await meta.post(payload)
            answered = time.perf_counter()
            response.raise_for_status()
            broadcast = await observer.wait_for(insert_of(provider_id, by="broadcast"))
            change = await observer.wait_for(insert_of(provider_id, by="postgres_changes"))
            observer.heard.clear()
            if number >= WARM_UP:
                answers.append(answered - start)
                broadcasts.append(broadcast.at - start)
                changes.append(change.at - start)
    return LiveFigures(Latency.of(answers), Latency.of(broadcasts), Latency.of(changes))
