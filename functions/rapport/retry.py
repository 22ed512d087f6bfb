"""When a failed call is worth another try."""

from __future__ import annotations

from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from rapport.errors import RapportError


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, RapportError) and error.retryable


def transient() -> Retrying:
    """Up to three tries of a call that is harmless to repeat, none begun after 4 seconds.

    It covers a connection that died while the function was frozen, a deadlock's victim and
    a restart. Longer outages belong to the caller's caller. The last error is raised.
    """
    return Retrying(
        retry=retry_if_exception(_is_retryable),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        stop=stop_after_attempt(3) | stop_after_delay(4),
        reraise=True,
    )
