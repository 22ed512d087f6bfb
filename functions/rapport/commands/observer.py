"""A person with a real client: signed in by password, listening to Realtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter
from realtime import AsyncRealtimeChannel, RealtimeSubscribeStates
from realtime.types import RealtimeChannelOptions
from supabase import AsyncClient, acreate_client

from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

PATIENCE_S = 15.0

Row = dict[str, Any]
Source = Literal["broadcast", "postgres_changes"]
_ROWS = TypeAdapter(list[Row])


class TopicRefusedError(StackError):
    """Realtime did not let the client join a topic."""


@dataclass(frozen=True)
class HeardEvent:
    """One event, with the moment (`time.perf_counter`) at which the client's callback ran."""

    by: Source
    at: float
    event: str
    table: str
    record: Mapping[str, Any]


def insert_of(provider_id: str, by: Source) -> Callable[[HeardEvent], bool]:
    """Recognizes the event that first tells of a message by WhatsApp's id."""

    def matches(event: HeardEvent) -> bool:
        return (
            event.by == by
            and event.table == "messages"
            and event.event in ("messages.inserted", "INSERT")
            and event.record.get("provider_id") == provider_id
        )

    return matches


@dataclass
class Observer:
    """A signed-in client of the official `supabase` package, and all events that it has heard."""

    email: str
    client: AsyncClient
    heard: list[HeardEvent] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def signed_in(cls, stack: Stack, email: str, password: str) -> AsyncIterator[Observer]:
        """Signs in; at the end it closes every socket."""
        client = await acreate_client(stack.url, stack.publishable_key)
        observer = cls(email, client)
        try:
            await client.auth.sign_in_with_password({"email": email, "password": password})
            yield observer
        finally:
            await client.realtime.close()
            await client.auth.close()
            for task in observer._tasks:
                task.cancel()

    async def call(self, function: str, **arguments: Any) -> Any:
        """The result of an RPC, called as this person."""
        return (await self.client.rpc(function, arguments).execute()).data

    async def rows(self, table: str, **equal: str) -> list[Row]:
        """The rows that this person sees, where columns equal the given values."""
        query = self.client.table(table).select("*")
        for column, value in equal.items():
            query = query.eq(column, value)
        return _ROWS.validate_python((await query.execute()).data)

    async def topic(self, kind: str) -> str:
        """The name of one of this person's topics: account or customer."""
        topics = _ROWS.validate_python(await self.call("my_topics"))
        return next(str(topic["topic"]) for topic in topics if topic["kind"] == kind)

    async def follow_topic(self, topic: str) -> None:
        """Joins a private topic and hears all its broadcasts.

        Raises TopicRefusedError with Realtime's answer.
        """
        options: RealtimeChannelOptions = {
            "config": {"private": True, "broadcast": None, "presence": None}
        }
        channel = self.client.channel(topic, options)
        channel.on_broadcast("*", lambda message: self._hear_broadcast(dict(message)))
        await _join(channel)

    async def follow_table(self, table: str, filter: str | None = None) -> None:  # noqa: A002 - the API's word
        """Subscribes to a table's postgres_changes, and waits until changes arrive."""
        flowing = asyncio.Event()
        channel = self.client.channel(f"changes of {table}")
        channel.on_postgres_changes(
            "*",  # type: ignore[arg-type]  # the enum's own value, which Realtime compares as text
            schema="public",
            table=table,
            filter=filter,
            callback=lambda message: self._hear_change(dict(message)),
        )
        channel.on_system(lambda _message: flowing.set())
        await _join(channel)
        async with asyncio.timeout(PATIENCE_S):
            await flowing.wait()

    async def wait_for(self, wanted: Callable[[HeardEvent], bool]) -> HeardEvent:
        """The first event that matches, heard already or within 15 s (TimeoutError)."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                for event in self.heard:
                    if wanted(event):
                        return event
                await self._news.wait()

    def _hear_broadcast(self, message: dict[str, Any]) -> None:
        payload = message["payload"]
        self._hear(
            HeardEvent(
                by="broadcast",
                at=time.perf_counter(),
                event=message["event"],
                table=payload.get("table", ""),
                record=payload.get("record") or {},
            )
        )

    def _hear_change(self, message: dict[str, Any]) -> None:
        data = message["data"]
        self._hear(
            HeardEvent(
                by="postgres_changes",
                at=time.perf_counter(),
                event=data["type"].value,
                table=data["table"],
                record=data.get("record") or {},
            )
        )

    def _hear(self, event: HeardEvent) -> None:
        self.heard.append(event)
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


async def _join(channel: AsyncRealtimeChannel) -> None:
    answers: list[tuple[RealtimeSubscribeStates, Exception | None]] = []
    await channel.subscribe(lambda state, error: answers.append((state, error)))
    state, error = answers[-1]
    if state is not RealtimeSubscribeStates.SUBSCRIBED:
        raise TopicRefusedError(f"{channel.topic}: {state.value} {error or ''}".strip())
