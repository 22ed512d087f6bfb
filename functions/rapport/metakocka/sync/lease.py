"""The lease of a run, kept while its worker is at work.

A thread extends it, so that it can be short: a worker that was killed is followed by another
within it, and one that waits long for an answer keeps it. A worker that hangs loses it.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self
from uuid import UUID

from rapport.errors import LeaseLost, RapportError
from rapport.log import logger
from rapport.store.metakocka import MetakockaStore

# seconds that one step takes at most: the longest call is given 70
LONGEST_STEP = 90.0


class Lease:
    """A run's lease for `seconds` after each extension; `worker` has just got it."""

    def __init__(self, store: MetakockaStore, run_id: UUID, worker: str, seconds: float) -> None:
        self._store = store
        self._run_id = run_id
        self._worker = worker
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._is_lost = False
        self._stepped_at = self._extended_at = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        # one that waits for the database is not waited for: what it extends is given up next
        self._thread.join(1)

    def extended(self, asked_at: float) -> None:
        """Notes an extension that was asked for at this time of the monotonic clock."""
        self._extended_at = max(self._extended_at, asked_at)

    def step(self) -> None:
        """Begins a step: what is done next needs the lease.

        Raises:
            LeaseLost: Another worker may be at work by now.
            StoreUnavailable: The lease is over, and can't be extended.
        """
        self._stepped_at = time.monotonic()
        if self._is_lost:
            raise LeaseLost
        if self._stepped_at - self._extended_at > self._seconds * 0.6:
            self._extend()

    def _extend(self) -> None:
        asked_at = time.monotonic()
        self._store.keep_sync(self._run_id, self._worker)
        self.extended(asked_at)

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            if time.monotonic() - self._stepped_at > LONGEST_STEP:
                continue
            try:
                self._extend()
            except LeaseLost:
                self._is_lost = True
                return
            except RapportError as error:
                # the next extension, or the next step, finds out
                logger.warning("lease not extended", run_id=str(self._run_id), reason=str(error))
