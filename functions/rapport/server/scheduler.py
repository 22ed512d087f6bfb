"""Schedules: each function runs soon after the start, unless it ran recently, and then regularly.

EventBridge never stops; a server is started and stopped, and there may be two. So the database
keeps when each schedule ran, and gives a run that is due to one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from rapport.errors import RapportError
from rapport.log import Crash, described, log_crash, logger
from rapport.store.server import Claim, ClaimedRun, ScheduleKey

# seconds: between the beginnings of runs that are due together
STAGGER = 0.5
# until the database is asked again; the longer one is half of what may pass before a run counts as
# dead whose server says nothing
SHORTEST, LONGEST = 0.2, 15.0
# after it could not be asked; a server starts together with its database
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


class Runs(Protocol):
    """Who gives the runs out; each call raises a RapportError where that fails."""

    def claim_runs(self, schedules: Iterable[ScheduleKey], running: Iterable[UUID]) -> Claim:
        """Begins the runs that are due, and says which others are made here."""
        ...

    def end_run(self, run: UUID, *, succeeded: bool) -> None:
        """Ends a claimed run."""
        ...


@dataclass(frozen=True)
class Schedule:
    """A function that is invoked every so many seconds."""

    function: str
    every: int
    invoke: Callable[[], object]

    @property
    def key(self) -> ScheduleKey:
        return ScheduleKey(self.function, self.every)


class Scheduler:
    """Makes the runs of schedules until it is stopped; a late run delays the next one."""

    def __init__(self, schedules: Collection[Schedule], runs: Runs) -> None:
        self._by_key = {one.key: one for one in schedules}
        self._runs = runs
        self._running: set[UUID] = set()
        self._stopping = asyncio.Event()
        # a run has ended, or somebody says so: another one may be due
        self._ended = asyncio.Event()
        self._pause = FIRST_PAUSE
        self._loop: asyncio.AbstractEventLoop | None = None

    def look(self) -> None:
        """Looks for due runs now; any thread may call it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    def stop(self) -> None:
        """Begins nothing more; `run` returns when what runs has ended."""
        self._stopping.set()
        self._ended.set()

    async def run(self) -> None:
        """Makes runs until `stop`."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while self._by_key and not self._stopping.is_set():
                self._ended.clear()
                claim = await self._claim()
                for place, claimed in enumerate(claim.claimed):
                    self._running.add(claimed.run)
                    group.create_task(self._make(claimed, place * STAGGER))
                await self._wait(claim.next_in or 0)

    async def _claim(self) -> Claim:
        try:
            claim = await run_in_threadpool(
                self._runs.claim_runs, tuple(self._by_key), tuple(self._running)
            )
        except RapportError as error:
            pause = min(2 * self._pause, LONGEST_PAUSE)
            if self._pause < pause == LONGEST_PAUSE:
                # once, and not while the database is only starting
                logger.warning("schedules wait", extra=described(error))
            self._pause = pause
            return Claim(claimed=[], next_in=pause)
        self._pause = FIRST_PAUSE
        return claim

    async def _wait(self, seconds: float) -> None:
        """Waits so long, or until a run ends."""
        if self._stopping.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(seconds, SHORTEST), LONGEST)):
                await self._ended.wait()

    async def _make(self, claimed: ClaimedRun, delay: float) -> None:
        succeeded = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                key = ScheduleKey(claimed.function, claimed.every)
                await run_in_threadpool(self._by_key[key].invoke)
                succeeded = True
        except Crash:
            pass
        except Exception as error:  # noqa: BLE001 - one crash must not end the schedule
            log_crash(error, function=claimed.function)
        try:
            await run_in_threadpool(self._runs.end_run, claimed.run, succeeded=succeeded)
        except RapportError as error:
            # it counts as dead in half a minute
            logger.warning("run not noted", function=claimed.function, extra=described(error))
        self._running.discard(claimed.run)
        self._ended.set()
