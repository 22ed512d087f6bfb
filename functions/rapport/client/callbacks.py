"""Calling what the user of the client has handed in."""

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
    """The call of a callback with its argument, if there is a callback."""
    if callback is not None:
        yield lambda: callback(argument)


def run_now(calls: Iterable[Callable[[], None]]) -> None:
    """Makes calls of plain functions, from where nothing can wait; one that fails is logged."""
    for call in calls:
        try:
            call()
        except Exception:
            logger.exception("a callback failed")


async def run(calls: Iterable[Callable[[], Called]]) -> None:
    """Makes calls one after another, and awaits what they return to be awaited.

    One that fails is logged: what comes after it is to be told all the same.
    """
    for call in calls:
        try:
            result = call()
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("a callback failed")
