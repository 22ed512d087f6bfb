"""The daily function goes on until it is done, or its time is nearly over."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.errors import StoreError
from rapport.handlers import daily
from rapport.handlers.daily import ACCOUNTS, BATCH, CUSTOMERS, RESERVE, prune
from rapport.log import logger
from rapport.settings import StoreSettings
from rapport.storage import Storage
from rapport.store.daily import DailyStore, Pruned
from rapport.store.privacy import PrivacyStore

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_secret_key=SecretStr("service-key"),
)


# each of them once
LAST = ["running_erasures", "prune", "count_usage", "prune_kept", "files_to_delete"]

Output = Callable[[], dict[str, object]]


class Clock:
    """What is left of the time, by call."""

    def __init__(self, *milliseconds: int) -> None:
        self._left = iter(milliseconds)
        self.aws_request_id = "run-1"

    def get_remaining_time_in_millis(self) -> int:
        return next(self._left)


class Database:
    """Answers prune after prune, and then that nothing is left."""

    def __init__(self, *pruned: tuple[int, int, int]) -> None:
        self._pruned = iter(pruned)
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/rest/v1/rpc/prune"
        assert json.loads(request.content) == {"batch": BATCH}
        self.calls += 1
        changes, webhook_events, sync = next(self._pruned, (0, 0, 0))
        if changes < 0:
            return httpx.Response(500, json={"code": "XX000", "message": "crash"})
        answer = Pruned.nothing().model_dump() | {
            "changes": changes,
            "webhook_events": webhook_events,
            "sync": sync,
        }
        return httpx.Response(200, json=answer)


def run(database: Database, *milliseconds: int) -> None:
    store = DailyStore(SETTINGS, Answering(database))
    try:
        prune(store, Clock(*milliseconds))
    finally:
        store.close()


@pytest.fixture
def output() -> Iterator[Output]:
    """The fields of the one line that a run logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)

    def fields() -> dict[str, object]:
        line = json.loads(stream.getvalue())
        names = ("message", "changes", "webhook_events", "sync", "is_done")
        return {name: line[name] for name in names}

    yield fields
    logger._logger.removeHandler(handler)


def test_it_goes_on_until_nothing_is_left(output: Output) -> None:
    database = Database((BATCH, 7, 0), (12, 0, 4))

    run(database, *[300_000] * 3)

    assert database.calls == 3
    assert output() == {
        "message": "pruned",
        "changes": BATCH + 12,
        "webhook_events": 7,
        "sync": 4,
        "is_done": True,
    }


def test_it_begins_no_call_that_could_be_cut_off(output: Output) -> None:
    database = Database((BATCH, BATCH, 0), (BATCH, BATCH, 0))

    run(database, RESERVE + 1, RESERVE)

    assert database.calls == 1
    assert output()["is_done"] is False


def test_what_was_deleted_is_logged_when_a_call_fails(output: Output) -> None:
    database = Database((3, 2, 1), (-1, 0, 0))

    with pytest.raises(StoreError):
        run(database, *[300_000] * 2)

    assert output() == {
        "message": "pruned",
        "changes": 3,
        "webhook_events": 2,
        "sync": 1,
        "is_done": False,
    }


class Calls:
    """Remembers which functions were called, and answers with what each has left to do."""

    def __init__(self, **left: list[int]) -> None:
        self._left = left
        self.called: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.called.append(name)
        if name == "running_erasures":
            return httpx.Response(200, json=[])
        if name == "prune":
            return httpx.Response(200, json=Pruned.nothing().model_dump())
        if name == "prune_kept":
            return httpx.Response(200, json={"messages": 0, "files": 0, "is_done": True})
        if name == "files_to_delete":
            return httpx.Response(200, json=[])
        assert json.loads(request.content) == {
            "batch": ACCOUNTS if name == "count_usage" else CUSTOMERS
        }
        left = self._left.get(name, [])
        count = left.pop(0) if left else 0
        if count < 0:
            return httpx.Response(500, json={"code": "XX000", "message": "crash"})
        return httpx.Response(200, json=count)


def run_all(calls: Calls, *milliseconds: int) -> None:
    store = DailyStore(SETTINGS, Answering(calls))
    privacy = PrivacyStore(SETTINGS, Answering(calls))
    try:
        daily.run(store, privacy, no_storage, Clock(*milliseconds))
    finally:
        store.close()
        privacy.close()


def no_storage() -> Storage:
    """Nobody is erased here."""
    raise AssertionError


def test_each_part_goes_on_until_nothing_is_left() -> None:
    calls = Calls(mark_overdue_invoices=[500, 3], expire_points=[7])

    run_all(calls, *[300_000] * 10)

    assert calls.called == ["mark_overdue_invoices"] * 3 + ["expire_points"] * 2 + LAST


def test_a_part_that_fails_holds_up_no_other() -> None:
    calls = Calls(mark_overdue_invoices=[-1], expire_points=[7])

    with pytest.raises(StoreError):
        run_all(calls, *[300_000] * 10)

    assert calls.called == ["mark_overdue_invoices"] + ["expire_points"] * 2 + LAST


def test_no_part_begins_what_could_be_cut_off() -> None:
    calls = Calls()

    run_all(calls, *[RESERVE] * 7)

    assert calls.called == []
