"""The worker goes on until nothing is due, and stays for what becomes due within a minute."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.chat.send_later import BATCH, PAUSE, REMINDERS, RESERVE, SNOOZES, SendLater
from rapport.errors import StoreError
from rapport.settings import StoreSettings
from rapport.store.later import LaterStore

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_secret_key=SecretStr("service-key"),
)
START = datetime(2026, 12, 1, 9, tzinfo=UTC)
Answer = tuple[int, bool, datetime | None] | None


class Machine:
    """Answers each function's calls in turn, at a clock that only sleeping moves."""

    def __init__(self, seconds: float = 90, **answers: Iterable[Answer]) -> None:
        self._answers = {name: iter(given) for name, given in answers.items()}
        self._end = START + timedelta(seconds=seconds)
        self.now = START
        self.called: list[str] = []
        self.slept: list[float] = []
        # where each call for reminders began
        self.went_on: list[object] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.called.append(name)
        batch = {"send_scheduled": BATCH, "send_reminders": REMINDERS, "end_snoozes": SNOOZES}[name]
        body = json.loads(request.content)
        assert body["batch"] == batch
        if name == "send_reminders":
            self.went_on.append(body["after"])
        answer = next(self._answers.get(name, iter(())), (0, True, None))
        if name == "end_snoozes" and answer is not None:
            return httpx.Response(200, json=answer[0])
        if answer is None:
            return httpx.Response(500, json={"code": "XX000", "message": "crash"})
        sent, is_done, next_at = answer
        told = {"sent": sent, "is_done": is_done, "next_at": next_at and next_at.isoformat()}
        if name == "send_reminders" and not is_done:
            told["after"] = {"rule_id": str(sent)}
        return httpx.Response(200, json=told)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def run(self) -> dict[str, int]:
        store = LaterStore(SETTINGS, Answering(self))
        try:
            return dict(
                SendLater(
                    store,
                    remaining=lambda: (self._end - self.now).total_seconds(),
                    sleep=self.sleep,
                    clock=lambda: self.now,
                ).run()
            )
        finally:
            store.close()


def test_it_goes_on_until_nothing_is_due() -> None:
    machine = Machine(send_scheduled=[(BATCH, False, None), (7, True, None)])

    assert machine.run() == {"sent": BATCH + 7}
    assert machine.called.count("send_scheduled") == 2
    assert machine.slept == []


def test_it_stays_for_what_is_due_within_a_minute() -> None:
    soon, later = START + timedelta(seconds=20), START + timedelta(seconds=61)
    machine = Machine(send_scheduled=[(1, True, soon), (1, True, later)])

    assert machine.run() == {"sent": 2}
    assert machine.slept == [20]


def test_two_clocks_that_differ_make_no_rush() -> None:
    past = START - timedelta(seconds=5)
    machine = Machine(send_scheduled=[(0, True, past), (1, True, None)])

    assert machine.run() == {"sent": 1}
    assert machine.slept == [PAUSE]


def test_it_begins_nothing_that_could_be_cut_off() -> None:
    soon = START + timedelta(seconds=20)
    assert Machine(RESERVE, send_scheduled=[(1, True, None)]).run() == {}
    machine = Machine(RESERVE + 10, send_scheduled=[(1, True, soon)])
    assert (machine.run(), machine.slept) == ({"sent": 1}, [])


def test_a_kind_that_fails_holds_up_no_other() -> None:
    machine = Machine(send_scheduled=[None], send_reminders=[(7, False, None)])

    with pytest.raises(StoreError):
        machine.run()
    # the second call goes on after the first
    assert machine.went_on == [None, {"rule_id": "7"}]


def test_snoozes_end_until_none_is_left_and_their_failure_stops_nothing() -> None:
    machine = Machine(end_snoozes=[(SNOOZES, False, None), (3, True, None)])
    assert machine.run() == {"unsnoozed": SNOOZES + 3}

    broken = Machine(end_snoozes=[None] * 10, send_reminders=[(2, True, None)])
    with pytest.raises(StoreError):
        broken.run()
    assert "send_reminders" in broken.called
