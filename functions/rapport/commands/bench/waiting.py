"""Waits for a condition, up to a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rapport.local.errors import StackError

PATIENCE_S = 60.0
# seconds; the measured events note their own time
PAUSE_S = 0.002


async def until(condition: Callable[[], bool], problem: str) -> None:
    """Returns when the condition holds. Raises StackError with `problem` if it does not in time."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise StackError(problem) from None
