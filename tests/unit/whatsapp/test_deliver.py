"""The worker against a queue in memory; against the real one it is in tests/integration."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import JsonValue

from rapport.errors import (
    ConfigError,
    StorageUnavailable,
    StoreError,
    StoreUnavailable,
    Unprocessable,
    UpstreamUnavailable,
    WhatsAppRefused,
    WhatsAppUnavailable,
)
from rapport.store.outbound import Claim, OutboundMessage
from rapport.whatsapp import deliver
from rapport.whatsapp.deliver import RESERVE, Delivery
from rapport.whatsapp.graph import Accepted, Outcome, Refused, Unknown


def message(**changes: Any) -> OutboundMessage:
    fields: dict[str, Any] = {
        "message_id": uuid4(),
        "account_id": uuid4(),
        "conversation_id": uuid4(),
        "phone_number_id": "1",
        "wa_id": "38640111222",
        "user_id": None,
        "type": "text",
        "text": "hi",
        "content": None,
        "reply_to": None,
        "reaction_to": None,
    }
    return OutboundMessage.model_validate(fields | changes)


class NoFiles:
    """Messages that carry none."""

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        return message


class Queue:
    """Hands out what it is given, and remembers what became of it."""

    def __init__(self, *messages: OutboundMessage) -> None:
        self.waiting = list(messages)
        self.next_at: Iterator[datetime | None] = iter(())
        self.begins = True
        self.failures: list[Exception] = []
        self.settled: list[dict[str, JsonValue]] = []
        self.claims: list[tuple[str, int]] = []
        self.leases: set[tuple[UUID, str]] = set()

    def claim_outbound(self, worker: str, batch: int) -> Claim:
        self.claims.append((worker, batch))
        claimed, self.waiting = self.waiting[:batch], self.waiting[batch:]
        self.leases |= {(one.message_id, worker) for one in claimed}
        return Claim(claimed=claimed, next_at=next(self.next_at, None))

    def begin_send(self, message_id: UUID, worker: str) -> bool:
        assert (message_id, worker) in self.leases
        return self.begins

    def settle_send(self, message_id: UUID, worker: str, outcome: dict[str, JsonValue]) -> str:
        assert (message_id, worker) in self.leases
        if self.failures:
            raise self.failures.pop()
        self.settled.append(outcome)
        return str(outcome["outcome"])


class Sender:
    """Answers every message alike, or as a function says."""

    def __init__(self, answer: Outcome | Callable[[], Outcome]) -> None:
        self.answer = answer
        self.sent: list[dict[str, JsonValue]] = []

    def send(self, phone_number_id: str, body: dict[str, JsonValue]) -> Outcome:
        assert phone_number_id == "1"
        self.sent.append(body)
        return self.answer() if callable(self.answer) else self.answer


class Clock:
    """Time left, a second less each time it is asked."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def __call__(self) -> float:
        self.left -= 1
        return self.left


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(deliver.time, "sleep", slept.append)
    return slept


def run(queue: Queue, sender: Sender, seconds: float = 1000, parallel: int = 10) -> Counter[str]:
    return Delivery(queue, sender, NoFiles(), "w", Clock(seconds), parallel=parallel).run()


@pytest.mark.parametrize(
    ("answer", "settled"),
    [
        (Accepted("wamid.1"), {"outcome": "accepted", "provider_id": "wamid.1"}),
        (
            Refused(131056, "too many", 4),
            {"outcome": "refused", "code": 131056, "details": "too many", "retry_after": 4},
        ),
        (Unknown("ReadTimeout"), {"outcome": "unknown", "details": "ReadTimeout"}),
    ],
)
def test_what_became_of_a_call_is_settled(answer: Outcome, settled: dict[str, object]) -> None:
    queue, sender = Queue(message()), Sender(answer)
    assert run(queue, sender) == Counter({str(settled["outcome"]): 1})
    assert len(sender.sent) == 1
    assert queue.settled == [settled]


def test_what_may_not_begin_is_not_sent() -> None:
    queue, sender = Queue(message()), Sender(Accepted("wamid.1"))
    queue.begins = False
    assert run(queue, sender) == Counter({"passed over": 1})
    assert sender.sent == []
    assert queue.settled == []


def test_what_can_not_be_composed_is_refused_without_a_call() -> None:
    queue, sender = Queue(message(type="image", content={})), Sender(Accepted("wamid.1"))
    run(queue, sender)
    assert sender.sent == []
    (settled,) = queue.settled
    assert (settled["outcome"], settled["code"]) == ("refused", -2)
    assert "content" in str(settled["details"])


class BrokenFiles:
    """Files that can't be given to WhatsApp."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        if message.type == "text":
            return message
        raise self._error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WhatsAppRefused("no", 190), 190),
        (WhatsAppRefused("no", 131042), 131042),
        (WhatsAppRefused("no"), 131053),
        (WhatsAppUnavailable("busy", 130429), 130429),
        (WhatsAppUnavailable("away"), -1),
        (WhatsAppRefused("no token", -3), -3),
        (ConfigError("no bucket"), -4),
        (UpstreamUnavailable("no token at the moment"), -1),
        (StorageUnavailable("away"), -4),
        (Unprocessable("never uploaded"), -2),
    ],
)
def test_a_file_that_is_not_taken_has_a_code_as_a_message_has(error: Exception, code: int) -> None:
    queue, sender = Queue(message(type="image", content={"upload_id": "u"})), Sender(Unknown(""))
    Delivery(queue, sender, BrokenFiles(error), "w", Clock(1000)).run()
    assert sender.sent == []
    (settled,) = queue.settled
    assert (settled["outcome"], settled["code"]) == ("refused", code)


def test_a_message_that_nobody_thought_of_stops_no_other() -> None:
    odd = message(type="image", content={"upload_id": "u"})
    queue, sender = Queue(odd, message()), Sender(Accepted("wamid.1"))
    ends = Delivery(queue, sender, BrokenFiles(RecursionError()), "w", Clock(1000)).run()
    assert ends == Counter({"accepted": 1, "not settled": 1})


def test_an_answer_is_settled_when_the_database_is_back_and_never_sent_twice() -> None:
    queue, sender = Queue(message()), Sender(Accepted("wamid.1"))
    queue.failures = [StoreUnavailable() for _ in range(20)]
    assert run(queue, sender) == Counter({"accepted": 1})
    assert len(sender.sent) == 1
    assert len(queue.settled) == 1


def test_an_answer_that_the_database_never_takes_ends_with_the_time() -> None:
    queue, sender = Queue(message()), Sender(Accepted("wamid.1"))
    queue.failures = [StoreUnavailable() for _ in range(1000)]
    assert run(queue, sender, seconds=50) == Counter({"not settled": 1})
    assert len(sender.sent) == 1


def test_one_that_the_database_refuses_does_not_stop_the_others() -> None:
    queue, sender = Queue(message(), message()), Sender(Accepted("wamid.1"))
    queue.failures = [StoreError()]
    assert run(queue, sender) == Counter({"accepted": 1, "not settled": 1})


def test_more_than_fit_at_once_are_all_sent() -> None:
    queue, sender = Queue(*(message() for _ in range(25))), Sender(Accepted("wamid.1"))
    assert run(queue, sender, parallel=4) == Counter({"accepted": 25})
    assert all(batch <= 4 for _, batch in queue.claims)


def test_no_two_claims_have_one_name() -> None:
    queue = Queue(*(message() for _ in range(9)))
    run(queue, Sender(Accepted("wamid.1")), parallel=2)
    names = [name for name, _ in queue.claims]
    assert len(names) > 2
    assert len(set(names)) == len(names)


def test_a_slow_call_holds_up_no_other() -> None:
    second = threading.Event()
    answers = iter([True, False])
    lock = threading.Lock()

    def answer() -> Outcome:
        with lock:
            slow = next(answers)
        if slow:
            # it ends only when the other was sent
            assert second.wait(20)
        else:
            second.set()
        return Accepted("wamid.1")

    assert run(Queue(message(), message()), Sender(answer)) == Counter({"accepted": 2})


def test_it_waits_for_what_is_due_soon(pauses: list[float]) -> None:
    queue = Queue()
    queue.next_at = iter([datetime.now(UTC) + timedelta(seconds=3), datetime.now(UTC)])
    run(queue, Sender(Accepted("wamid.1")))
    # and looks every second for what was queued meanwhile
    assert pauses == [1.0, pytest.approx(0.05)]
    assert len(queue.claims) == 3


def test_it_does_not_wait_for_what_is_due_late(pauses: list[float]) -> None:
    queue = Queue()
    queue.next_at = iter([datetime.now(UTC) + timedelta(minutes=1)])
    assert run(queue, Sender(Accepted("wamid.1"))) == Counter()
    assert pauses == []
    assert len(queue.claims) == 1


def test_nothing_is_begun_when_the_time_is_nearly_over() -> None:
    queue, sender = Queue(message()), Sender(Accepted("wamid.1"))
    assert run(queue, sender, seconds=RESERVE) == Counter()
    assert queue.claims == []
