"""Who may wake a worker, before one is woken."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

MODULE = "rapport.handlers.wake"
SECRET = "a-secret-of-the-database-and-of-this-function"

Invoke = Callable[..., dict[str, Any]]


class Starter:
    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, worker: str) -> None:
        self.started.append(worker)


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, starter: Starter) -> Invoke:
    monkeypatch.setenv("WAKE_SECRET", SECRET)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    module = importlib.import_module(MODULE)
    monkeypatch.setattr(module, "_starter", lambda: starter)

    def invoke(authorization: str, body: str, method: str = "POST") -> dict[str, Any]:
        event = {
            "headers": {"authorization": authorization},
            "body": body,
            "requestContext": {"requestId": "request-1", "http": {"method": method}},
        }
        answer: dict[str, Any] = module.handler(event, None)
        return answer

    return invoke


BODY = '{"worker": "deliver_outbound"}'


def test_the_database_wakes_a_worker(invoke: Invoke, starter: Starter) -> None:
    assert invoke(f"Bearer {SECRET}", BODY)["statusCode"] == 202
    assert starter.started == ["deliver_outbound"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer ", 401),
        (SECRET, 401),
        (f"Basic {SECRET}", 401),
        (f"Bearer {SECRET} x", 401),
        (f"Bearer {SECRET}x", 403),
        (f"Bearer {SECRET[:-1]}", 403),
    ],
)
def test_nobody_else_does(
    invoke: Invoke, starter: Starter, authorization: str, status: int
) -> None:
    assert invoke(authorization, BODY)["statusCode"] == status
    assert starter.started == []


@pytest.mark.parametrize("body", ["{}", '{"worker": "wake"}', '{"worker": "os"}'])
def test_only_workers_are_woken(invoke: Invoke, starter: Starter, body: str) -> None:
    assert invoke(f"Bearer {SECRET}", body)["statusCode"] == 422
    assert starter.started == []


def test_without_a_secret_nobody_is_woken(
    invoke: Invoke, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAKE_SECRET", "")
    assert invoke("Bearer x", BODY)["statusCode"] == 403
    assert starter.started == []


def test_another_method_is_refused(invoke: Invoke) -> None:
    assert invoke(f"Bearer {SECRET}", BODY, "GET")["statusCode"] == 405
