"""The calls of functions that run in this process, which a stop waits for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Calls:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}
        self._ends_at = math.inf

    @contextmanager
    def running(self, request_id: str, function: str) -> Iterator[None]:
        """Counts a call while it runs."""
        with self._lock:
            self._running[request_id] = function
        try:
            yield
        finally:
            with self._lock:
                del self._running[request_id]

    @property
    def functions(self) -> list[str]:
        """The functions whose calls run now, each as often as it does."""
        with self._lock:
            return sorted(self._running.values())

    @property
    def ends_at(self) -> float:
        """When the process ends, by the monotonic clock: workers begin nothing that is longer."""
        return self._ends_at

    def end_by(self, moment: float) -> None:
        """Lets workers know that the process is to end."""
        self._ends_at = moment
