"""postgres_changes: sends changed rows to the subscribers who may see them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime

import psycopg
from psycopg_pool import AsyncConnectionPool
from pydantic import JsonValue

from rapport.local.supabase.realtime import bindings, subscriptions
from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.delivery import QueuedChange, deliver
from rapport.local.supabase.realtime.snapshots import settle
from rapport.local.supabase.realtime.subscriptions import (
    Binding,
    Registry,
    Subscriber,
    SubscriptionError,
    TableBinding,
)
from rapport.local.supabase.realtime.wal import Relation

# a hosted project polls every 100 ms, so clients must not expect a change before the answer to
# their own request
DELAY_SECONDS = 0.04
MAX_BATCH = 200
MAX_BINDINGS = 100
MAX_WAITING_BYTES = 64 * 1024 * 1024

logger = logging.getLogger(__name__)


class ChangeFeed:
    """The queue of changes, and the task that delivers them."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._registry = Registry()
        self._queue: deque[QueuedChange] = deque()
        self._size = 0
        self._filled = asyncio.Event()

    async def subscribe(
        self, subscriber: Subscriber, caller: TokenCaller, params: Sequence[dict[str, JsonValue]]
    ) -> None:
        """Subscribes to these bindings; they replace earlier ones.

        Raises SubscriptionError, or psycopg.Error when the database is away; the subscriber then
        has no subscription.
        """
        try:
            wanted = await self._checked(caller, params)
        except (SubscriptionError, psycopg.Error):
            self._registry.remove(subscriber)
            raise
        self._registry.add(
            subscriber, [TableBinding(subscriber, caller, binding) for binding in wanted]
        )

    async def _checked(
        self, caller: TokenCaller, params: Sequence[dict[str, JsonValue]]
    ) -> list[Binding]:
        if len(params) > MAX_BINDINGS:
            raise SubscriptionError(f"A channel has at most {MAX_BINDINGS} bindings")
        wanted = [subscriptions.parse(each) for each in params]
        async with self._pool.connection() as connection:
            for binding in wanted:
                await bindings.check(connection, caller, binding)
        return wanted

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Ends a subscription; does nothing without one."""
        self._registry.remove(subscriber)

    def put(self, relation: Relation, data: bytes, xid: int, committed_at: datetime) -> None:
        """Queues a change, still encoded, if somebody follows its table."""
        if not self._registry.has_any(relation.schema, relation.table):
            return
        received_at = asyncio.get_running_loop().time()
        self._queue.append(QueuedChange(relation, data, xid, committed_at, received_at))
        self._size += len(data)
        if self._size > MAX_WAITING_BYTES:
            self._forget_all()
        self._filled.set()

    def restart(self) -> None:
        """Tells every subscriber that changes are delivered again after an interruption."""
        for subscriber in self._registry.subscribers():
            subscriber.report("postgres_changes", "ok", "Subscribed to PostgreSQL")

    async def run(self) -> None:
        """Delivers queued changes until it is cancelled."""
        while True:
            batch = await self._next_batch()
            try:
                async with self._pool.connection() as connection:
                    await settle(connection, {change.xid for change in batch})
                    await deliver(connection, self._registry, batch)
            except psycopg.Error as error:
                logger.warning("%d changes were not delivered: %s", len(batch), error)
                self._report_loss()
            except Exception:
                logger.exception("%d changes were not delivered", len(batch))
                self._report_loss()

    async def _next_batch(self) -> list[QueuedChange]:
        loop = asyncio.get_running_loop()
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        await asyncio.sleep(self._queue[0].received_at + DELAY_SECONDS - loop.time())
        batch: list[QueuedChange] = []
        due = loop.time() - DELAY_SECONDS
        while self._queue and len(batch) < MAX_BATCH and self._queue[0].received_at <= due:
            change = self._queue.popleft()
            self._size -= len(change.data)
            batch.append(change)
        return batch

    def _forget_all(self) -> None:
        logger.warning("%d changes were dropped: too many are waiting", len(self._queue))
        self._queue.clear()
        self._size = 0
        self._report_loss()

    def _report_loss(self) -> None:
        """Makes clients join again, so that they read the missed rows."""
        for subscriber in self._registry.subscribers():
            subscriber.report("postgres_changes", "error", "Changes were lost")
