"""Synchronizes contacts with Metakocka: woken by the database, and every minute by schedule."""

from __future__ import annotations

from functools import cache
from uuid import uuid4

from rapport.log import WorkerContext, worker
from rapport.metakocka.sync.run import Sync, serve
from rapport.parameters import SecretSource, secret_source
from rapport.settings import MetakockaSettings, StoreSettings
from rapport.store.metakocka import MetakockaStore

# seconds, until the schedule's next run
WATCH = 60.0


@cache
def _store() -> MetakockaStore:
    return MetakockaStore(StoreSettings.load())


@cache
def _settings() -> MetakockaSettings:
    return MetakockaSettings.load()


@cache
def _secrets() -> SecretSource:
    return secret_source(_settings())


@worker
def handler(event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Returns the number of runs by outcome."""
    is_woken = "worker" in event
    return dict(
        serve(
            Sync(
                _store(),
                _secrets(),
                _settings(),
                worker=f"sync-{uuid4()}",
                remaining=lambda: context.get_remaining_time_in_millis() / 1000,
            ),
            watch=0 if is_woken else WATCH,
        )
    )
