"""Waiting for what happens elsewhere, with an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rapport.local.errors import StackError

PATIENCE_S = 60.0
# what is waited for notes its own time
PAUSE_S = 0.002


async def until(condition: Callable[[], bool], problem: str) -> None:
    """Returns when the condition holds. Raises StackError with the problem when it never does."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - of what has no event
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise StackError(problem) from None
