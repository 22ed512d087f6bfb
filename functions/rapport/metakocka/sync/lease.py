"""The lease of a run, kept while its worker is at work.

A thread extends the lease, so it can be short. A worker that waits long for an answer keeps it.
After a worker is killed, another takes over when the lease ends. A worker that hangs loses it.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rapport.errors import LeaseLost, RapportError
from rapport.log import described, logger
from rapport.store.metakocka import RunStore

# seconds: no step takes longer, since the longest call ends after 70
LONGEST_STEP = 90.0


class Lease:
    """A run's lease, which lasts `seconds` after each extension; the worker has just got it."""

    def __init__(self, store: RunStore, seconds: float) -> None:
        self._store = store
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
        # a thread that waits for the database is left alone: the run ends its lease next
        self._thread.join(1)

    def extended(self, requested_at: float) -> None:
        """Notes an extension that was requested at this time of the monotonic clock."""
        self._extended_at = max(self._extended_at, requested_at)

    def step(self) -> None:
        """Begins a step that needs the lease.

        Raises:
            LeaseLost: Another worker may have the run by now.
            StoreUnavailable: The lease is over and can't be extended.
        """
        self._stepped_at = time.monotonic()
        if self._is_lost:
            raise LeaseLost
        if self._stepped_at - self._extended_at > self._seconds * 0.6:
            self._extend()

    def _extend(self) -> None:
        requested_at = time.monotonic()
        self._store.keep()
        self.extended(requested_at)

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
                # the next extension or the next step tries again
                logger.warning(
                    "lease not extended",
                    extra={
                        "account_id": str(self._store.account_id),
                        "run_id": str(self._store.run_id),
                        **described(error),
                    },
                )
