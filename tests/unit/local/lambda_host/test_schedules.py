"""When schedules run after a start, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rapport.local.lambda_host.schedules import LastRuns, name_of, run_every

DAY = timedelta(days=1)
DAILY = name_of("daily", DAY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedules.json"


async def first_run(runs: LastRuns, invoke: Callable[[], object]) -> None:
    """Lets the host run until the function has."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def invoked() -> object:
        loop.call_soon_threadsafe(done.set)
        return invoke()

    task = asyncio.create_task(run_every(DAY, "daily", invoked, runs))
    async with asyncio.timeout(20):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])


async def test_what_has_never_run_runs_at_once_and_after_a_restart_not_again(file: Path) -> None:
    began = datetime.now(UTC)
    runs = LastRuns(file)
    await first_run(runs, lambda: None)
    while runs.until_due(DAILY, DAY) == timedelta(0):  # noqa: ASYNC110 - a thread writes it
        await asyncio.sleep(0.01)
    wait = LastRuns(file).until_due(DAILY, DAY)
    assert began + DAY <= datetime.now(UTC) + wait
    assert wait <= DAY


async def test_a_run_that_crashed_is_due_after_a_restart(file: Path) -> None:
    def crash() -> object:
        raise ZeroDivisionError

    await first_run(LastRuns(file), crash)
    assert LastRuns(file).until_due(DAILY, DAY) == timedelta(0)


@pytest.mark.parametrize(
    ("since", "wait"),
    [
        (timedelta(hours=25), timedelta(0)),
        (timedelta(days=90), timedelta(0)),
        # the clock was ahead
        (timedelta(days=-30), DAY),
    ],
)
def test_a_run_is_due_when_its_time_has_passed(
    file: Path, since: timedelta, wait: timedelta
) -> None:
    LastRuns(file).note(datetime.now(UTC) - since, DAILY)
    assert LastRuns(file).until_due(DAILY, DAY) == wait


def test_one_that_ran_within_its_time_waits_for_the_rest_of_it(file: Path) -> None:
    LastRuns(file).note(datetime.now(UTC) - timedelta(hours=23), DAILY)
    wait = LastRuns(file).until_due(DAILY, DAY)
    assert timedelta(minutes=55) < wait <= timedelta(hours=1)


def test_a_file_that_can_not_be_read_is_as_none(file: Path) -> None:
    file.write_text('{"daily 86400": "yester')
    runs = LastRuns(file)
    assert runs.until_due(DAILY, DAY) == timedelta(0)
    runs.note(datetime.now(UTC), DAILY)
    assert LastRuns(file).until_due(DAILY, DAY) > timedelta(0)
