"""Sends messages and reminders at their time: every minute by schedule, and woken by the database
for a message that is due before the next run.
"""

from __future__ import annotations

from functools import cache

from rapport.chat.send_later import SendLater
from rapport.log import WorkerContext, logger, worker
from rapport.settings import StoreSettings
from rapport.store.later import LaterStore


@cache
def _store() -> LaterStore:
    return LaterStore(StoreSettings.load())


@worker
def handler(_event: dict[str, object], context: WorkerContext) -> dict[str, int]:
    """Returns the number of messages by outcome."""
    ends = SendLater(
        _store(), remaining=lambda: context.get_remaining_time_in_millis() / 1000
    ).run()
    if ends:
        logger.info("sent later", ends=dict(ends))
    return dict(ends)
