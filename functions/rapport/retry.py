"""Which failed calls are repeated, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    wait_exponential,
    wait_random_exponential,
)

from rapport.errors import RapportError, StoreBusy, StoreClosed, TooManyRequests


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, RapportError) and error.retryable


def _passes_soon(error: BaseException) -> bool:
    """False where the call has already waited long on a busy database, where a person has to act
    first, or where the answer says when to try again.
    """
    waits = (StoreBusy, StoreClosed, TooManyRequests)
    return _is_retryable(error) and not isinstance(error, waits)


def transient() -> Retrying:
    """Up to three tries of a call that may be repeated; none begins after 4 seconds.

    This covers a connection that died while the function was frozen, a deadlock and a restart.
    Longer outages are left to the caller. The last error is raised.
    """
    return Retrying(
        retry=retry_if_exception(_passes_soon),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        stop=stop_after_attempt(3) | stop_after_delay(4),
        reraise=True,
    )


@dataclass(frozen=True)
class Retries:
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
    retries: Retries, is_retryable: Callable[[BaseException], bool] = _is_retryable
) -> Retrying:
    """The tries of one call. The last error is raised."""
    bound = wait_exponential(multiplier=retries.first_wait, max=retries.longest_wait)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        fraction = retries.jitter * random.random()  # noqa: S311 - nothing secret
        return max(bound(state) * (1 - fraction), float(getattr(error, "retry_after", None) or 0))

    return Retrying(
        retry=retry_if_exception(is_retryable),
        wait=wait,
        stop=stop_after_attempt(retries.attempts) | stop_before_delay(retries.within),
        reraise=True,
    )
