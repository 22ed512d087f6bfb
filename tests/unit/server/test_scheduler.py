"""The runs of schedules: what one server makes of those that it is given."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Iterable
from uuid import UUID, uuid4

from rapport.errors import StoreUnavailable
from rapport.server.scheduler import Schedule, Scheduler
from rapport.store.server import Claim, ClaimedRun, ScheduleKey

PATIENCE = 20  # seconds; nothing is measured


class Given:
    """In the database's place: gives a run of each schedule, as often as it is told to."""

    def __init__(self, times: int, *, failures: int = 0) -> None:
        self._left: deque[None] = deque([None] * times)
        self._failures = failures
        self._lock = threading.Lock()
        self._names: dict[UUID, str] = {}
        self.ends: list[tuple[str, bool]] = []
        self.looks = 0

    def claim_runs(self, schedules: Iterable[ScheduleKey], running: Iterable[UUID]) -> Claim:
        with self._lock:
            self.looks += 1
            if self.looks <= self._failures:
                raise StoreUnavailable
            # as the database, which gives no schedule twice at a time
            busy = {self._names[run] for run in running}
            runs = [
                ClaimedRun(function=one.function, every=one.every, run=uuid4())
                for one in schedules
                if one.function not in busy and self._left
            ]
            if runs:
                self._left.popleft()
            self._names |= {run.run: run.function for run in runs}
        return Claim(claimed=runs, next_in=0)

    def end_run(self, run: UUID, *, succeeded: bool) -> None:
        with self._lock:
            self.ends.append((self._names[run], succeeded))


async def until(scheduler: Scheduler, given: Given, ends: int) -> None:
    """Lets it run until so many runs have ended, and stops it."""
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(scheduler.run())
        while len(given.ends) < ends:  # noqa: ASYNC110 - threads write it
            await asyncio.sleep(0.01)
        scheduler.stop()
        await task


async def test_a_crash_is_not_the_last_run_and_runs_never_overlap() -> None:
    together = threading.Lock()
    count = Counter[str]()

    def invoke() -> None:
        assert together.acquire(blocking=False)
        count["runs"] += 1
        together.release()
        if count["runs"] == 1:
            raise ZeroDivisionError

    given = Given(3, failures=2)
    await until(Scheduler([Schedule("daily", 60, invoke)], given), given, 3)
    assert given.ends == [("daily", False), ("daily", True), ("daily", True)]


async def test_a_stop_waits_for_what_runs_and_gives_back_what_has_not_begun() -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        may_end.wait(PATIENCE)

    given = Given(1)
    # the second of two that are due together begins half a second later
    first, second = Schedule("a", 60, slow), Schedule("b", 60, lambda: None)
    scheduler = Scheduler([first, second], given)
    task = asyncio.create_task(scheduler.run())
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(began.wait, PATIENCE)
        scheduler.stop()
        while not given.ends:  # noqa: ASYNC110 - threads write it
            await asyncio.sleep(0.01)
        assert given.ends == [("b", False)]
        assert not task.done()
        may_end.set()
        await task
    assert given.ends[1:] == [("a", True)]
