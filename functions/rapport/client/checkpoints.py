"""Tells the changes of one moment together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from rapport.client.callbacks import Called, bound, run
from rapport.client.events import Change
from rapport.client.pending_changes import PendingChanges

OnCheckpoint = Callable[[tuple[Change[Any], ...]], Called]


class Checkpoints:
    """Calls a function with all changes that the subscriptions have taken together, until `close`.

    The changes of one transaction are in the same call. A slow function gets several transactions
    in one call, each whole.
    """

    def __init__(self, callback: OnCheckpoint) -> None:
        self._callback = callback
        self._changes: PendingChanges[Any] = PendingChanges()
        self._task = asyncio.create_task(self._tell())

    def take(self, changes: Iterable[Change[Any]]) -> None:
        """Takes changes of one moment."""
        for change in changes:
            self._changes.put(change)

    def close(self) -> None:
        """Ends it; a call that runs ends by itself."""
        self._changes.close()

    async def _tell(self) -> None:
        while changes := await self._changes.all():
            await run(bound(self._callback, changes))
