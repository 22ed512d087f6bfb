"""What waits to be told, and does not grow without end where a callback is slow.

While little waits, every change is told. Beyond that a row which changes again has its changes
made into one, at the place of the first: of each row the last version is told, and of a message
the insert, in its order. So what waits is never much more than the rows there are.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Generic
from uuid import UUID

from rapport.client.changes import Change, ShownT

# beyond that many changes, those of one row are made into one
FEW = 1_000


class PendingChanges(Generic[ShownT]):
    """Changes on their way to one who takes them with `next`."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._count = 0
        self._waiting: OrderedDict[int, Change[ShownT]] = OrderedDict()
        # the last that waits of each row
        self._last: dict[UUID, int] = {}
        self._is_closed = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, change: Change[ShownT]) -> None:
        """Takes a change; after `close` nothing is taken any more."""
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
        """The first that waits, once there is one; None after `close`."""
        while not self._waiting and not self._is_closed:
            self._news.clear()
            await self._news.wait()
        if self._is_closed:
            return None
        number, change = self._waiting.popitem(last=False)
        if self._last.get(change.id) == number:
            del self._last[change.id]
        return change

    def close(self) -> None:
        """Forgets what waits."""
        self._is_closed = True
        self._waiting.clear()
        self._last.clear()
        self._news.set()


def merged(first: Change[ShownT], second: Change[ShownT]) -> Change[ShownT] | None:
    """Two changes of a row as one; None where the row is then as it was told before."""
    if second.new is None:
        if first.operation == "INSERT":
            return None
        # of a row that was not loaded the last version that was heard of
        return Change("DELETE", None, first.old or second.old)
    if first.operation == "INSERT":
        return Change("INSERT", second.new, None)
    if first.operation == "DELETE" and first.old == second.new:
        return None
    return Change("UPDATE", second.new, first.old)
