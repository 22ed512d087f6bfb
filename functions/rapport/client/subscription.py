"""One subscription: its rows and its callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, TypedDict, Unpack
from uuid import UUID

from rapport.client.callbacks import Called, bound, run
from rapport.client.catch_up import CatchUp
from rapport.client.events import Change, Event, Heard, ShownT
from rapport.client.pending_changes import PendingChanges
from rapport.client.server import Server
from rapport.client.topics import Scope
from rapport.errors import RapportError, StoreError

_OTHER_VERSION = (
    "Some rows can't be read and stay as they were: the database is of another version than this"
    " client. Update the client."
)


class Source(Protocol[ShownT]):
    """The rows of a subscription, and how they are read: one table, or a face made of several."""

    @property
    def tables(self) -> frozenset[str]:
        """The tables that the rows are made of."""

    @property
    def rows(self) -> Mapping[UUID, ShownT]:
        """The rows as the user was last told."""

    @property
    def is_unreadable(self) -> bool:
        """Whether there are rows that can't be read."""

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether a transaction's events can be told now, and none before them was missed."""

    def hear(self, events: Iterable[Event]) -> Heard[ShownT]:
        """Takes events that were broadcast together."""

    def mark(self) -> int:
        """Marks the moment before a catch-up."""

    def settle(self, events: Iterable[Event], mark: int) -> Heard[ShownT]:
        """Takes all events of one catch-up."""

    async def load(self, server: Server) -> None:
        """Reads the rows at the start; the user is not told of them."""

    async def reread(self, server: Server) -> Heard[ShownT]:
        """Reads all rows again."""


class RowCallbacks(TypedDict, Generic[ShownT], total=False):
    """Callbacks: `on_insert(row)`, `on_update(row, row as last told)`, `on_delete(last row)`."""

    on_insert: Callable[[ShownT], Called] | None
    on_update: Callable[[ShownT, ShownT | None], Called] | None
    on_delete: Callable[[ShownT], Called] | None


class Subscription(Generic[ShownT]):
    """Rows that are kept live until `close`, which `async with` calls.

    Callbacks run one after another, in order; an async callback is awaited. `async for` yields
    every change from its first step on. For a slow reader the changes of one row are merged, see
    `pending_changes`. Changes from before `ready` are in `rows` and are not told.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        source: Source[ShownT],
        scope: Scope,
        **callbacks: Unpack[RowCallbacks[ShownT]],
    ) -> None:
        self.latest_update: Change[ShownT] | None = None
        self.scope = scope
        self.is_loaded = False
        self._catch_up = catch_up
        self._source = source
        self._on_insert = callbacks.get("on_insert")
        self._on_update = callbacks.get("on_update")
        self._on_delete = callbacks.get("on_delete")
        self._failure: RapportError | None = None
        self._ready = asyncio.Event()
        self._is_closed = False
        self._untold: PendingChanges[ShownT] = PendingChanges()
        self._readers: list[PendingChanges[ShownT]] = []
        self._teller = asyncio.create_task(self._tell())
        catch_up.attach(self)

    @property
    def tables(self) -> frozenset[str]:
        """The tables whose changes it follows."""
        return self._source.tables

    @property
    def rows(self) -> Mapping[UUID, ShownT]:
        """The current rows, by id."""
        return self._source.rows

    @property
    def is_connected(self) -> bool:
        """Whether changes arrive as they happen; otherwise they are polled."""
        return self.is_loaded and not self._is_closed and self._catch_up.topics.hears(self.scope)

    @property
    def error(self) -> Exception | None:
        """Why rows can't be read or broadcasts don't arrive now; None if all is well."""
        error = self._failure or self._catch_up.error or self._catch_up.topics.refusal(self.scope)
        if error is None and self.is_unreadable:
            return StoreError(_OTHER_VERSION)
        return error

    @property
    def is_unreadable(self) -> bool:
        """Whether there are rows that can't be read; they stay as they were."""
        return self._source.is_unreadable

    async def ready(self) -> None:
        """Waits until the rows are read. While the server is away it goes on waiting, and `error`
        says why.

        Raises the error with which the server refuses the rows. Every poll tries again
        nevertheless.
        """
        await self._ready.wait()
        if not self.is_loaded and self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Ends the subscription, its callbacks and its iterations."""
        if self._is_closed:
            return
        self._is_closed = True
        self._catch_up.detach(self)
        for reader in self._readers:
            reader.close()
        self._untold.close()
        if self._teller is not asyncio.current_task():
            self._teller.cancel()
            await asyncio.wait([self._teller])
        self._ready.set()

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Change[ShownT]]:
        if self._is_closed:
            return
        reader: PendingChanges[ShownT] = PendingChanges()
        self._readers.append(reader)
        try:
            while (change := await reader.next()) is not None:
                yield change
        finally:
            self._readers.remove(reader)

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether a transaction's events can be told now, and none before them was missed."""
        return self._source.is_sure(events)

    def hear(self, events: Iterable[Event]) -> bool:
        """Takes events that were broadcast together."""
        return self._take(self._source.hear(events))

    def mark(self) -> int:
        """Marks the moment before a catch-up."""
        return self._source.mark()

    def settle(self, events: Iterable[Event], mark: int) -> bool:
        """Takes all events of one catch-up."""
        doubt = self._take(self._source.settle(events, mark))
        self._ready.set()
        return doubt

    async def load(self, server: Server) -> None:
        """Reads the rows at the start."""
        await self._source.load(server)
        self.is_loaded = True

    async def reread(self, server: Server) -> None:
        """Reads all rows again and tells the differences."""
        self._take(await self._source.reread(server))

    def fail(self, error: RapportError | None) -> None:
        """Notes why the rows can't be read; None says that they can be read again."""
        self._failure = error
        if error is not None and not error.retryable:
            self._ready.set()

    def _take(self, heard: Heard[ShownT]) -> bool:
        for change in heard.changes:
            self._untold.put(change)
        self._catch_up.note(heard.changes)
        return heard.in_doubt

    async def _tell(self) -> None:
        while (change := await self._untold.next()) is not None:
            self.latest_update = change
            for reader in self._readers:
                reader.put(change)
            await run(self._calls(change))

    def _calls(self, change: Change[ShownT]) -> Iterable[Callable[[], Called]]:
        """The callbacks for a change."""
        new, old = change.new, change.old
        if new is not None and change.operation == "INSERT":
            yield from bound(self._on_insert, new)
        elif new is not None:
            if (on_update := self._on_update) is not None:
                yield lambda: on_update(new, old)
        elif old is not None:
            yield from bound(self._on_delete, old)
