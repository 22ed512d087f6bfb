"""Looks for the troubles of accounts every minute; `account_health` shows them. Figures of all
accounts together raise alarms.
"""

from __future__ import annotations

from functools import cache

from rapport.log import WorkerContext, logger, worker
from rapport.metrics import tell
from rapport.settings import StoreSettings
from rapport.store.health import HealthStore


@cache
def _store() -> HealthStore:
    return HealthStore(StoreSettings.load())


@worker
def handler(_event: dict[str, object], _context: WorkerContext) -> dict[str, int]:
    """Returns how many rows have changed."""
    changed = _store().sweep_health()
    if changed:
        logger.info("health", changed=changed)
    figures = _store().figures()
    tell(
        OldestOutboundAge=figures.oldest_outbound_seconds,
        StoppedNumbers=figures.stopped_numbers,
        FailingSyncs=figures.failing_syncs,
    )
    return {"changed": changed}
