"""Daily jobs: retention, overdue invoices, expired points. They run hourly, since accounts are in
different time zones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from rapport.log import WorkerContext, logger, worker
from rapport.metrics import tell
from rapport.settings import StoreSettings
from rapport.store.daily import DailyStore, Pruned

BATCH = 5000  # rows of each kind that one call deletes
CUSTOMERS = 500  # invoices, or customers with points, in one call; each is announced
# milliseconds: a call that starts with less time left could be cut off during its retries
RESERVE = 15_000


@cache
def _store() -> DailyStore:
    return DailyStore(StoreSettings.load())


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> None:
    """Runs the jobs; the next run continues where the time ended."""
    run(_store(), context)
    tell(DailyRuns=1)


def run(store: DailyStore, context: WorkerContext) -> None:
    """Runs all jobs, first those that customers see. A job that fails does not stop the others.

    Raises:
        StoreError: The first failure, once everything has been tried.
    """
    parts: tuple[Callable[[DailyStore, WorkerContext], None], ...] = (mark_overdue, expire, prune)
    failures: list[Exception] = []
    for part in parts:
        try:
            part(store, context)
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
    if failures:
        raise failures[0]


def mark_overdue(store: DailyStore, context: WorkerContext) -> None:
    """Marks invoices as overdue, and logs how many."""
    _repeat("overdue", lambda: store.mark_overdue_invoices(CUSTOMERS), context)


def expire(store: DailyStore, context: WorkerContext) -> None:
    """Writes off expired points, and logs of how many customers."""
    _repeat("expired", lambda: store.expire_points(CUSTOMERS), context)


def prune(store: DailyStore, context: WorkerContext) -> None:
    """Deletes old rows batch by batch; logs how many, also when a call fails."""
    total = Pruned.nothing()
    is_done = False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            pruned = store.prune(BATCH)
            total += pruned
            is_done = not pruned
    finally:
        logger.info("pruned", **total.model_dump(), is_done=is_done)


def _repeat(done: str, call: Callable[[], int], context: WorkerContext) -> None:
    count, is_done = 0, False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            found = call()
            count += found
            is_done = found == 0
    finally:
        logger.info(done, count=count, is_done=is_done)
