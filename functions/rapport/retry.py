"""Which failed calls are repeated, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from rapport.errors import RapportError, StoreBusy, StoreClosed, TooManyRequests


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, RapportError) and error.retryable


def _passes_soon(error: Exception) -> bool:
    """False where the call has already waited long on a busy database, where a person has to act
    first, or where the answer says when to try again.
    """
    waits = (StoreBusy, StoreClosed, TooManyRequests)
    return _is_retryable(error) and not isinstance(error, waits)


T = TypeVar("T")
Sleep = Callable[[float], object]


class Tries:
    """Calls until it succeeds, fails for good, or time or tries are used up; then the last error is
    raised.

    `wait` is told how often was tried and the error, and says how many seconds to wait. No try
    begins later than `within` seconds after the first.
    """

    def __init__(
        self,
        attempts: int,
        within: float,
        wait: Callable[[int, Exception], float],
        is_retryable: Callable[[Exception], bool],
        sleep: Sleep = time.sleep,
    ) -> None:
        self._attempts = attempts
        self._within = within
        self._wait = wait
        self._is_retryable = is_retryable
        self._sleep = sleep
        # how often was tried
        self.made = 0

    def __call__(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        while True:
            self.made += 1
            try:
                return call()
            except Exception as error:
                if self.made == self._attempts or not self._is_retryable(error):
                    raise
                wait = self._wait(self.made, error)
                if time.monotonic() - began + wait > self._within:
                    raise
            self._sleep(wait)


def transient() -> Tries:
    """Up to three tries of a call that may be repeated; none begins after 4 seconds.

    This covers a connection that died while the function was frozen, a deadlock and a restart.
    Longer outages are left to the caller. The last error is raised.
    """

    def wait(made: int, _error: Exception) -> float:
        return random.uniform(0, min(0.05 * 2 ** (made - 1), 1))  # noqa: S311 - nothing secret

    return Tries(3, 4, wait, _passes_soon)


class Retries(NamedTuple):
    """How often a call is tried and how long the waits are; times in seconds.

    The wait before the second try is up to `first_wait`. It doubles with each further try, up to
    `longest_wait`. `jitter` is the random part of a wait, from 0 (none) to 1 (all of it). If the
    service says how long to wait, that counts. No try begins later than `within` after the first.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 8
    jitter: float = 1
    within: float = 30


def repeated(
    retries: Retries,
    is_retryable: Callable[[Exception], bool] = _is_retryable,
    sleep: Sleep = time.sleep,
) -> Tries:
    """The tries of one call. The last error is raised."""

    def wait(made: int, error: Exception) -> float:
        bound: float = min(retries.first_wait * 2 ** (made - 1), retries.longest_wait)
        fraction = retries.jitter * random.random()  # noqa: S311 - nothing secret
        return max(bound * (1 - fraction), float(getattr(error, "retry_after", None) or 0))

    return Tries(retries.attempts, retries.within, wait, is_retryable, sleep)
