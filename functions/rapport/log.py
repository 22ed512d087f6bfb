"""The functions' log: one JSON line an event, each with the request's correlation id.

What is logged are ids, counts, codes and durations. Bodies, tokens, names and phone numbers
are not, not even in errors.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from aws_lambda_powertools import Logger

logger = Logger(service="rapport", utc=True)


def log_crash(error: BaseException, **ids: object) -> None:
    """Logs what an exception is and where it was raised.

    Not its message, which may quote what must not be logged.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
    logger.error("crashed", extra={"error": type(error).__name__, "at": at, **ids})


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Marks every line logged in this thread, until the end, with the request's id."""
    logger.thread_safe_append_keys(correlation_id=correlation_id)
    try:
        yield
    finally:
        logger.thread_safe_remove_keys(["correlation_id"])
