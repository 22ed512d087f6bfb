"""Synchronizes contacts with Metakocka: woken by the database, and every minute by schedule."""

from __future__ import annotations

from uuid import uuid4

from rapport.handlers.metakocka import secrets, settings, store
from rapport.log import WorkerContext, worker
from rapport.metakocka.sync.run import Sync, serve

# seconds, until the schedule's next run
WATCH = 60.0


@worker
def handler(event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Returns the number of runs by outcome."""
    is_woken = "worker" in event
    return dict(
        serve(
            Sync(
                store(),
                secrets(),
                settings(),
                worker=f"sync-{context.aws_request_id}-{uuid4().hex[:8]}",
                remaining=lambda: context.get_remaining_time_in_millis() / 1000,
            ),
            watch=0 if is_woken else WATCH,
        )
    )
