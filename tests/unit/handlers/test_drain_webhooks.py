"""Which messages of a batch stay on the queue, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from rapport.errors import (
    ConfigError,
    NotAllowed,
    QueueUnavailable,
    RapportError,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from rapport.handlers import drain_webhooks
from rapport.server.events import InvocationContext
from rapport.settings import BacklogSettings
from rapport.store.webhooks import IngestResult
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
        self.back: list[tuple[str, datetime, int]] = []
        self.is_away = False

    def put_back(self, message: str, kept_since: datetime, delay: int) -> None:
        if self.is_away:
            raise QueueUnavailable
        self.back.append((message, kept_since, delay))

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
    def drain(
        store: FakeStore,
        *messages: str,
        tries: int = 1,
        age: timedelta = timedelta(),
        said: bool = True,
    ) -> list[str]:
        kept_since = int((datetime.now(UTC) - age).timestamp())
        monkeypatch.setattr(drain_webhooks, "_store", lambda: store)
        event: dict[str, Any] = {
            "Records": [
                {
                    "messageId": str(place),
                    "receiptHandle": f"receipt {place}",
                    "body": message,
                    "attributes": {
                        "ApproximateReceiveCount": str(tries),
                        "SentTimestamp": str(kept_since * 1000),
                    },
                    "messageAttributes": {"kept_since": {"stringValue": str(kept_since)}}
                    if said
                    else {},
                }
                for place, message in enumerate(messages)
            ]
        }
        answer = drain_webhooks.handler(event, InvocationContext("drain_webhooks", 512, 60))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return drain


def test_what_is_stored_leaves_the_queue(drain: Drain) -> None:
    store = FakeStore({})
    assert drain(store, pack("[1]"), pack("[2]")) == []
    assert store.asked == ["[1]", "[2]"]


@pytest.mark.parametrize("fault", [StoreError(), NotAllowed(), ZeroDivisionError()])
def test_a_webhook_that_fails_stays_alone_and_is_tried_again_soon(
    drain: Drain, backlog: FakeBacklog, fault: Exception
) -> None:
    store = FakeStore({"[2]": fault})
    assert drain(store, pack("[1]"), pack("[2]"), pack("[3]"), "garbage") == ["1", "3"]
    assert store.asked == ["[1]", "[2]", "[3]"]
    assert backlog.put == [("receipt 1", 30), ("receipt 3", 30)]
    assert backlog.back == []


def test_a_crash_is_logged_by_its_place_and_without_its_words(
    drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    drain(FakeStore({"[]": ZeroDivisionError("+385911234567")}), pack("[]"))
    logged = str(vars(caplog.records[-1]))
    assert "ZeroDivisionError" in logged
    assert "ingest_whatsapp" in logged
    assert "385911234567" not in logged


@pytest.mark.parametrize("fault", [StoreUnavailable(), StoreClosed(), ConfigError()])
def test_a_database_that_is_away_is_asked_twice_a_batch(
    drain: Drain, backlog: FakeBacklog, fault: RapportError
) -> None:
    store = FakeStore({"[2]": fault, "[3]": fault})
    messages = [pack(f"[{number}]") for number in range(1, 6)]
    assert drain(store, *messages) == []
    assert store.asked == ["[1]", "[2]", "[3]"]
    assert [message for message, _, _ in backlog.back] == messages[1:]
    assert backlog.put == []


@pytest.mark.parametrize("fault", [StoreUnavailable(), StoreBusy()])
def test_a_webhook_that_takes_the_database_too_long_keeps_no_other(
    drain: Drain, backlog: FakeBacklog, fault: RapportError
) -> None:
    store = FakeStore({"[1]": fault, "[3]": fault})
    messages = [pack(f"[{number}]") for number in range(1, 6)]
    assert drain(store, *messages) == []
    assert store.asked == ["[1]", "[2]", "[3]", "[4]", "[5]"]
    assert [message for message, _, _ in backlog.back] == [messages[0], messages[2]]


def test_a_locked_conversation_is_no_sign_that_the_database_is_away(
    drain: Drain, backlog: FakeBacklog
) -> None:
    store = FakeStore({f"[{number}]": StoreBusy() for number in range(1, 4)})
    drain(store, *(pack(f"[{number}]") for number in range(1, 6)))
    assert store.asked == ["[1]", "[2]", "[3]", "[4]", "[5]"]
    # and it is tried again within seconds
    assert [2 <= delay <= 5 for _, _, delay in backlog.back] == [True] * 3


@pytest.mark.parametrize(
    ("age", "shortest", "longest"),
    [
        (timedelta(seconds=20), 15, 30),
        (timedelta(minutes=10), 15, 30),
        (timedelta(minutes=30), 45, 90),
        (timedelta(days=6), 60, 120),
    ],
)
def test_a_webhook_is_tried_within_two_minutes_of_the_databases_return(
    drain: Drain, backlog: FakeBacklog, age: timedelta, shortest: int, longest: int
) -> None:
    # the fifth receipt of one message says nothing: it is no fault of the webhook's
    assert drain(FakeStore({"[]": StoreUnavailable()}), pack("[]"), tries=5, age=age) == []
    ((_, kept_since, delay),) = backlog.back
    assert shortest <= delay <= longest
    # its age goes along
    assert abs(datetime.now(UTC) - age - kept_since) < timedelta(seconds=10)


def test_what_meta_would_repeat_no_more_has_five_tries_left(
    drain: Drain, backlog: FakeBacklog
) -> None:
    store = FakeStore({"[]": StoreUnavailable()})
    assert drain(store, pack("[]"), age=timedelta(days=7, minutes=1)) == ["0"]
    assert (backlog.back, backlog.put) == ([], [("receipt 0", 30)])


def test_what_was_queued_by_hand_is_as_old_as_its_message(
    drain: Drain, backlog: FakeBacklog
) -> None:
    store = FakeStore({"[]": StoreUnavailable()})
    assert drain(store, pack("[]"), age=timedelta(hours=2), said=False) == []
    assert datetime.now(UTC) - backlog.back[0][1] > timedelta(hours=1)


@pytest.mark.parametrize(("tries", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240)])
def test_each_further_try_waits_twice_as_long(
    drain: Drain, backlog: FakeBacklog, tries: int, seconds: int
) -> None:
    assert drain(FakeStore({"[]": StoreError()}), pack("[]"), tries=tries) == ["0"]
    assert backlog.put == [("receipt 0", seconds)]


def test_after_the_last_try_it_is_a_dead_letter_at_once(drain: Drain, backlog: FakeBacklog) -> None:
    assert drain(FakeStore({"[]": StoreError()}), pack("[]"), tries=drain_webhooks.TRIES) == ["0"]
    assert backlog.put == [("receipt 0", 0)]


def test_the_queue_has_as_many_tries_as_we_count() -> None:
    deployed = yaml.load(Path("serverless.yml").read_text(), Loader=yaml.BaseLoader)
    queue = deployed["resources"][0]["Resources"]["WebhookQueue"]["Properties"]
    assert int(queue["RedrivePolicy"]["maxReceiveCount"]) == drain_webhooks.TRIES
    assert timedelta(seconds=int(queue["MessageRetentionPeriod"])) > drain_webhooks.KEPT


@pytest.mark.parametrize("fault", [StoreError(), StoreUnavailable()])
def test_a_message_that_can_not_be_moved_stays_all_the_same(
    drain: Drain, backlog: FakeBacklog, fault: Exception
) -> None:
    backlog.is_away = True
    assert drain(FakeStore({"[]": fault}), pack("[]")) == ["0"]
