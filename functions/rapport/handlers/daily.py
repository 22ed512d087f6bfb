"""Runs once a day: deletes what is kept for a time only, as long as there is time."""

from __future__ import annotations

from functools import cache

from aws_lambda_powertools.utilities.typing import LambdaContext

from rapport.log import correlated, logger
from rapport.settings import StoreSettings
from rapport.store import Store

BATCH = 5000  # rows of each kind in a call
# milliseconds; a call that is begun with less could be cut off with its retries
RESERVE = 15_000


@cache
def _store() -> Store:
    return Store(StoreSettings.load())


def handler(_event: dict[str, object], context: LambdaContext) -> None:
    """Handles one run; what is left when time is over is for the next."""
    with correlated(context.aws_request_id):
        prune(_store(), context)


def prune(store: Store, context: LambdaContext) -> None:
    """Deletes batch by batch and logs how many rows, also when a call fails."""
    changes = webhook_events = 0
    is_done = False
    try:
        while not is_done and context.get_remaining_time_in_millis() > RESERVE:
            pruned = store.prune(BATCH)
            changes += pruned.changes
            webhook_events += pruned.webhook_events
            is_done = pruned.changes == pruned.webhook_events == 0
    finally:
        logger.info("pruned", changes=changes, webhook_events=webhook_events, is_done=is_done)
