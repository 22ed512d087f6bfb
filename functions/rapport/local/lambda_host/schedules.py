"""Schedules: each function runs soon after the start, unless it ran recently, and then regularly.

EventBridge never stops; a host on a developer's machine is started and stopped. So the time of each
function's last run is kept beside the stack.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from rapport.local.stack.files import write_whole

# after a run that crashed
RETRY = timedelta(minutes=1)
# before the first run, while other parts of the stack start …
LEAD = timedelta(seconds=1)
# … and between the first runs of two functions
STAGGER = timedelta(seconds=0.5)

log = logging.getLogger("rapport.local.lambda_host.schedules")

_TIMES = TypeAdapter(dict[str, AwareDatetime])


class LastRuns:
    """When each schedule's last run began and ended; safe to share between threads.

    Without a file it is kept in memory only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._times: dict[str, datetime] = {}
        if file and file.exists():
            try:
                self._times = _TIMES.validate_json(file.read_bytes())
            except ValidationError:
                log.warning("%s can't be read: everything is due.", file)

    def note(self, began: datetime, *schedules: str) -> None:
        """Records runs that began at this time."""
        with self._lock:
            times = self._times | dict.fromkeys(schedules, began)
            if self._file:
                write_whole(self._file, _TIMES.dump_json(times))
            self._times = times

    def until_due(self, schedule: str, every: timedelta) -> timedelta:
        """The time until the next run: zero if it is late or never ran."""
        last = self._times.get(schedule)
        if last is None:
            return timedelta(0)
        # limited, in case the clock was wrong at the last run
        return max(timedelta(0), min(every, last + every - datetime.now(UTC)))


def name_of(function: str, every: timedelta) -> str:
    """The name under which a schedule's runs are kept."""
    return f"{function} {every.total_seconds():.0f}"


async def run_every(
    every: timedelta,
    function: str,
    invoke: Callable[[], object],
    runs: LastRuns,
    lead: timedelta = timedelta(0),
) -> None:
    """Runs a function on its schedule, without end; a late run delays the next.

    The first run comes after `lead` at the earliest.
    """
    schedule = name_of(function, every)

    def run() -> None:
        began = datetime.now(UTC)
        invoke()
        runs.note(began, schedule)

    wait = max(runs.until_due(schedule, every), lead)
    while True:
        await asyncio.sleep(wait.total_seconds())
        wait = every
        try:
            await run_in_threadpool(run)
        except Exception:  # one crash must not end the schedule
            log.exception("%s crashed", function)
            wait = min(every, RETRY)
