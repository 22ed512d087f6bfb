"""Changes that wait to be told; their number stays limited where a callback is slow.

While few changes wait, each is told. Beyond `FEW`, a further change of a row is merged into the one
that waits, in its place. So each row's last version is told, and each message's insert, in order.
There are hardly more waiting changes than rows.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Generic
from uuid import UUID

from rapport.client.events import Change, ShownT

# from this number on, changes of one row are merged
FEW = 1_000


class PendingChanges(Generic[ShownT]):
    """Changes for one reader, which takes them with `next`."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._count = 0
        self._waiting: OrderedDict[int, Change[ShownT]] = OrderedDict()
        # the number of each row's last waiting change
        self._last: dict[UUID, int] = {}
        self._is_closed = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, change: Change[ShownT]) -> None:
        """Adds a change; ignored after `close`."""
        if self._is_closed:
            return
        before = self._last.get(change.id)
        if before is None or len(self._waiting) < self._few:
            self._count += 1
            self._waiting[self._count] = change
            self._last[change.id] = self._count
            self._news.set()
            return
        both = merged(self._waiting[before], change)
        if both is None:
            del self._waiting[before], self._last[change.id]
        else:
            self._waiting[before] = both

    async def next(self) -> Change[ShownT] | None:
        """Waits for the first change and returns it; None after `close`."""
        while not self._waiting and not self._is_closed:
            self._news.clear()
            await self._news.wait()
        if self._is_closed:
            return None
        number, change = self._waiting.popitem(last=False)
        if self._last.get(change.id) == number:
            del self._last[change.id]
        return change

    async def all(self) -> tuple[Change[ShownT], ...]:
        """Waits for a change and returns all that wait; nothing after `close`."""
        first = await self.next()
        if first is None:
            return ()
        changes = (first, *self._waiting.values())
        self._waiting.clear()
        self._last.clear()
        return changes

    def close(self) -> None:
        """Drops all waiting changes."""
        self._is_closed = True
        self._waiting.clear()
        self._last.clear()
        self._news.set()


def merged(first: Change[ShownT], second: Change[ShownT]) -> Change[ShownT] | None:
    """Merges two changes of a row; None where the row is again as it was told before."""
    if second.new is None:
        if first.operation == "INSERT":
            return None
        # the row was not loaded: this is the last version that we know
        return Change("DELETE", None, first.old or second.old)
    if first.operation == "INSERT":
        return Change("INSERT", second.new, None)
    if first.operation == "DELETE" and first.old == second.new:
        return None
    return Change("UPDATE", second.new, first.old)
