"""What the tests of the live client share: customers, their conversations, and the servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.stacks import Running
from tests.world import World, seed_uuid

from rapport.client.live import LiveClient
from rapport.client.timing import Timing
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

# patience for what should happen in a moment
SECONDS = 20.0

QUICK = Timing(
    slow_poll=1,
    fast_poll=0.3,
    heartbeat=0.5,
    heartbeat_timeout=0.5,
    join_timeout=2,
    first_backoff=0.05,
    longest_backoff=0.5,
    refresh_margin=1,
    request_timeout=2,
)
# nothing is found by polling
HEARING = Timing(slow_poll=600)


class Servers:
    """The gateway, stopped and started again."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def start_gateway(self) -> None:
        self._running.begin("gateway")

    def wait_for_gateway(self) -> None:
        self._running.wait("gateway")

    def stop_gateway(self) -> None:
        self._running.stop("gateway")


class Portal:
    """Two businesses' customers, and what is written to them."""

    def __init__(self, stack: Stack, world: World, servers: Servers) -> None:
        self.stack = stack
        self.world = world
        self.servers = servers

    def customer(self, name: str) -> UUID:
        return seed_uuid(f"contact {name}")

    def client(
        self,
        user: str,
        timing: Timing = QUICK,
        url: str | None = None,
        lifetime: Callable[[], timedelta] = lambda: timedelta(hours=1),
        **options: Any,
    ) -> LiveClient:
        async def access_token() -> str:
            return keys.mint_user_token(
                self.stack.signing_key, user_id=seed_uuid(user), lifetime=lifetime()
            )

        return LiveClient(
            url or self.stack.url,
            self.stack.publishable_key,
            access_token,
            timing=timing,
            **options,
        )

    def conversation(self, customer: str) -> UUID:
        """Opens a conversation in the portal."""
        conversation = uuid4()
        self.world.owner.execute(
            """
            insert into public.conversations (id, account_id, customer_id, channel, thread_key)
            select %s, account_id, id, 'portal', %s
            from public.contacts
            where id = %s
            """,
            (conversation, f"portal:{conversation}", self.customer(customer)),
        )
        return conversation

    def write(self, user: str, conversation: UUID, *texts: str) -> None:
        """A person writes, each text in a transaction of its own."""
        for text in texts:
            with self.world.acting_as(user) as connection:
                connection.execute(
                    "insert into public.messages (conversation_id, message) values (%s, %s)",
                    (conversation, text),
                )

    def rename(self, customer: str, name: str) -> None:
        self.world.owner.execute(
            "update public.contacts set name = %s where id = %s", (name, self.customer(customer))
        )


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Waits for what is to become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of what has no event
            await asyncio.sleep(0.01)
