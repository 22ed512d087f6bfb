"""Which messages of a batch stay on the queue, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rapport.errors import ConfigError, QueueUnavailable, StoreError, StoreUnavailable
from rapport.handlers import drain_webhooks
from rapport.settings import BacklogSettings
from rapport.webhook_rows import IngestResult
from rapport.whatsapp.backlog import pack


class FakeStore:
    """Answers each body with its own fault, and remembers what it was asked."""

    def __init__(self, faults: dict[str, Exception]) -> None:
        self._faults = faults
        self.asked: list[str] = []

    def ingest_whatsapp(self, body: str, _items: object) -> IngestResult:
        self.asked.append(body)
        if body in self._faults:
            raise self._faults[body]
        return IngestResult(event_id=1, applied=0, duplicates=0, rejected=[])


class FakeBacklog:
    def __init__(self) -> None:
        self.put: list[tuple[str, int]] = []
        self.is_away = False

    def put_off(self, receipt_handle: str, seconds: int) -> None:
        if self.is_away:
            raise QueueUnavailable
        self.put.append((receipt_handle, seconds))


@pytest.fixture
def backlog(monkeypatch: pytest.MonkeyPatch) -> FakeBacklog:
    backlog = FakeBacklog()
    monkeypatch.setattr(drain_webhooks, "_backlog", lambda: backlog)
    monkeypatch.setattr(drain_webhooks, "_settings", BacklogSettings)
    return backlog


Drain = Callable[..., list[str]]


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch, backlog: FakeBacklog) -> Drain:  # noqa: ARG001
    def drain(store: FakeStore, *messages: str, tries: int = 1) -> list[str]:
        monkeypatch.setattr(drain_webhooks, "_store", lambda: store)
        event: dict[str, Any] = {
            "Records": [
                {
                    "messageId": str(place),
                    "receiptHandle": f"receipt {place}",
                    "body": message,
                    "attributes": {"ApproximateReceiveCount": str(tries)},
                }
                for place, message in enumerate(messages)
            ]
        }
        answer = drain_webhooks.handler(event, None)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return drain


def test_what_is_stored_leaves_the_queue(drain: Drain) -> None:
    store = FakeStore({})
    assert drain(store, pack("[1]"), pack("[2]")) == []
    assert store.asked == ["[1]", "[2]"]


@pytest.mark.parametrize("fault", [StoreError(), ConfigError(), ZeroDivisionError()])
def test_a_webhook_that_fails_stays_alone(
    drain: Drain, backlog: FakeBacklog, fault: Exception
) -> None:
    store = FakeStore({"[2]": fault})
    assert drain(store, pack("[1]"), pack("[2]"), pack("[3]"), "garbage") == ["1", "3"]
    assert store.asked == ["[1]", "[2]", "[3]"]
    assert backlog.put == []


def test_a_crash_is_logged_by_its_place_and_without_its_words(
    drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    drain(FakeStore({"[]": ZeroDivisionError("+385911234567")}), pack("[]"))
    logged = str(vars(caplog.records[-1]))
    assert "ZeroDivisionError" in logged
    assert "ingest_whatsapp" in logged
    assert "385911234567" not in logged


def test_a_database_that_is_away_is_asked_twice_a_batch(drain: Drain, backlog: FakeBacklog) -> None:
    store = FakeStore({"[2]": StoreUnavailable(), "[3]": StoreUnavailable()})
    messages = [pack(f"[{number}]") for number in range(1, 6)]
    assert drain(store, *messages) == ["1", "2", "3", "4"]
    assert store.asked == ["[1]", "[2]", "[3]"]
    assert backlog.put == [(f"receipt {place}", 30) for place in range(1, 5)]


def test_a_webhook_that_takes_the_database_too_long_keeps_no_other(
    drain: Drain, backlog: FakeBacklog
) -> None:
    store = FakeStore({"[1]": StoreUnavailable(), "[3]": StoreUnavailable()})
    assert drain(store, *(pack(f"[{number}]") for number in range(1, 6))) == ["0", "2"]
    assert backlog.put == [("receipt 0", 30), ("receipt 2", 30)]


@pytest.mark.parametrize(("tries", "seconds"), [(1, 30), (2, 120), (3, 480), (4, 1920)])
def test_each_further_try_waits_four_times_as_long(
    drain: Drain, backlog: FakeBacklog, tries: int, seconds: int
) -> None:
    assert drain(FakeStore({"[]": StoreUnavailable()}), pack("[]"), tries=tries) == ["0"]
    assert backlog.put == [("receipt 0", seconds)]


def test_a_message_that_can_not_be_put_off_stays_all_the_same(
    drain: Drain, backlog: FakeBacklog
) -> None:
    backlog.is_away = True
    assert drain(FakeStore({"[]": StoreUnavailable()}), pack("[]")) == ["0"]
