"""Daily jobs: retention, overdue invoices, expired points, erasures, and how much accounts keep.

They run hourly, since accounts are in different time zones.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from rapport.graph_version import ending
from rapport.log import WorkerContext, logger, worker
from rapport.metrics import tell
from rapport.privacy.erasing import carry_out
from rapport.settings import MediaSettings, StoreSettings
from rapport.storage import Storage
from rapport.store.daily import DailyStore, Kept, Pruned
from rapport.store.privacy import PrivacyStore

BATCH = 5000  # rows of each kind that one call deletes
CUSTOMERS = 500  # invoices, or customers with points, in one call; each is announced
ACCOUNTS = 50  # whose messages, contacts and files one call counts
KEPT = 100  # messages and files that one call deletes; each is announced
FILES = 100  # files of the bucket in one call
# milliseconds: a call that starts with less time left could be cut off during its retries
RESERVE = 15_000


@cache
def _store() -> DailyStore:
    return DailyStore(StoreSettings.load())


@cache
def _privacy_store() -> PrivacyStore:
    return PrivacyStore(StoreSettings.load())


@cache
def _storage() -> Storage:
    # made where a file is to be deleted: others need no bucket
    return Storage(MediaSettings.load())


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> None:
    """Runs the jobs; the next run continues where the time ended."""
    warning = ending(datetime.now(UTC).date())
    if warning is not None:
        logger.warning("Graph API ends", reason=warning)
    run(_store(), _privacy_store(), _storage, context)
    tell(DailyRuns=1)


def run(
    store: DailyStore,
    privacy: PrivacyStore,
    storage: Callable[[], Storage],
    context: WorkerContext,
) -> None:
    """Runs all jobs, first those that customers see. A job that fails does not stop the others.

    Raises:
        StoreError: The first failure, once everything has been tried.
    """
    parts: tuple[Callable[[], None], ...] = (
        lambda: mark_overdue(store, context),
        lambda: expire(store, context),
        lambda: erase(privacy, storage, context),
        lambda: prune(store, context),
        lambda: count_usage(store, context),
        lambda: prune_kept(store, context),
        lambda: delete_files(store, storage, context),
    )
    failures: list[Exception] = []
    for part in parts:
        try:
            part()
        except Exception as error:  # noqa: BLE001 - it is raised once the rest is done
            failures.append(error)
    if failures:
        raise failures[0]


def mark_overdue(store: DailyStore, context: WorkerContext) -> None:
    """Marks invoices as overdue, and logs how many."""
    _repeat("overdue", lambda: store.mark_overdue_invoices(CUSTOMERS), context)


def expire(store: DailyStore, context: WorkerContext) -> None:
    """Writes off expired points, and logs of how many customers."""
    _repeat("expired", lambda: store.expire_points(CUSTOMERS), context)


def erase(store: PrivacyStore, storage: Callable[[], Storage], context: WorkerContext) -> None:
    """Goes on with the erasures that owners have asked for, or that were cut off.

    `storage` is asked for where there are any.

    Raises:
        StoreError: The first failure, once all erasures have been tried.
        StorageError: As StoreError.
    """
    if context.get_remaining_time_in_millis() <= RESERVE:
        return
    failures: list[Exception] = []
    for action_id in store.running_erasures():
        if context.get_remaining_time_in_millis() <= RESERVE:
            break
        try:
            action = carry_out(
                store,
                storage(),
                action_id,
                lambda _: context.get_remaining_time_in_millis() > RESERVE,
            )
        except Exception as error:  # noqa: BLE001 - it is raised once the rest is done
            failures.append(error)
            continue
        logger.info(
            "erased",
            erasure_id=str(action.id),
            account_id=str(action.account_id),
            state=action.state,
            step=action.step,
            rows=sum(action.counts.values()),
            remaining=len(action.remaining) + len(action.elsewhere),
        )
    if failures:
        raise failures[0]


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


def count_usage(store: DailyStore, context: WorkerContext) -> None:
    """Counts what accounts keep, for their quotas, and logs of how many."""
    _repeat("counted", lambda: store.count_usage(ACCOUNTS), context)


def prune_kept(store: DailyStore, context: WorkerContext) -> None:
    """Deletes messages and files that accounts do not keep any longer, and logs how many."""
    total = Kept(messages=0, files=0, is_done=False)
    try:
        while not total.is_done and context.get_remaining_time_in_millis() > RESERVE:
            kept = store.prune_kept(KEPT)
            total = Kept(
                messages=total.messages + kept.messages,
                files=total.files + kept.files,
                is_done=kept.is_done,
            )
    finally:
        logger.info("not kept", **total.model_dump())


def delete_files(store: DailyStore, storage: Callable[[], Storage], context: WorkerContext) -> None:
    """Deletes files from the bucket whose rows are gone, and logs how many."""

    def delete() -> int:
        gone: list[str] = []
        try:
            for key in store.files_to_delete(FILES):
                storage().delete(key)
                gone.append(key)
        finally:
            if gone:
                store.settle_file_deletions(gone)
        return len(gone)

    _repeat("files deleted", delete, context)


def _repeat(done: str, call: Callable[[], int], context: WorkerContext) -> None:
    count, is_done = 0, False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            found = call()
            count += found
            is_done = found == 0
    finally:
        logger.info(done, count=count, is_done=is_done)
