"""Overdue invoices, expired points, retention. Hourly, since a day ends where its account is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from aws_lambda_powertools.utilities.typing import LambdaContext

from rapport.log import logger, worker
from rapport.settings import StoreSettings
from rapport.store.daily import DailyStore, Pruned

BATCH = 5000  # rows of each kind that are deleted in a call
CUSTOMERS = 500  # invoices, or customers with points, in a call: each of them is told
# milliseconds; a call that is begun with less could be cut off with its retries
RESERVE = 15_000


@cache
def _store() -> DailyStore:
    return DailyStore(StoreSettings.load())


@worker
def handler(_event: dict[str, object], context: LambdaContext) -> None:
    """Handles one run; what is left when time is over is for the next."""
    run(_store(), context)


def run(store: DailyStore, context: LambdaContext) -> None:
    """Does all of it, what customers see first; one part that fails holds up no other.

    Raises:
        StoreError: The first failure, once everything has been tried.
    """
    parts: tuple[Callable[[DailyStore, LambdaContext], None], ...] = (mark_overdue, expire, prune)
    failures: list[Exception] = []
    for part in parts:
        try:
            part(store, context)
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
    if failures:
        raise failures[0]


def mark_overdue(store: DailyStore, context: LambdaContext) -> None:
    """Makes invoices overdue whose time has passed, and logs how many."""
    _repeat("overdue", lambda: store.mark_overdue_invoices(CUSTOMERS), context)


def expire(store: DailyStore, context: LambdaContext) -> None:
    """Writes off points whose time has passed, and logs of how many customers."""
    _repeat("expired", lambda: store.expire_points(CUSTOMERS), context)


def prune(store: DailyStore, context: LambdaContext) -> None:
    """Deletes batch by batch and logs how many rows, also when a call fails."""
    total = Pruned(changes=0, webhook_events=0, sync=0)
    is_done = False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            pruned = store.prune(BATCH)
            total += pruned
            is_done = not pruned
    finally:
        logger.info("pruned", **total.model_dump(), is_done=is_done)


def _repeat(done: str, call: Callable[[], int], context: LambdaContext) -> None:
    count, is_done = 0, False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            found = call()
            count += found
            is_done = found == 0
    finally:
        logger.info(done, count=count, is_done=is_done)
