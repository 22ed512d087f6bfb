"""Calls the callbacks of the client's user."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Called = Awaitable[None] | None
Argument = TypeVar("Argument")

logger = logging.getLogger(__name__)


def bound(
    callback: Callable[[Argument], Called] | None, argument: Argument
) -> Iterable[Callable[[], Called]]:
    """Yields the call of a callback with its argument; nothing if there is no callback."""
    if callback is not None:
        yield lambda: callback(argument)


def run_now(calls: Iterable[Callable[[], None]]) -> None:
    """Makes calls of plain functions, where nothing can be awaited. A call that fails is logged."""
    for call in calls:
        try:
            call()
        except Exception:
            logger.exception("a callback failed")


async def run(calls: Iterable[Callable[[], Called]]) -> None:
    """Makes calls one after another, and awaits each result that can be awaited.

    A call that fails is logged, and the next call is still made.
    """
    for call in calls:
        try:
            result = call()
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("a callback failed")
