"""Calls that a stop waits for."""

from __future__ import annotations

import time

from rapport.server.calls import Calls
from rapport.server.events import Event, InvocationContext
from rapport.server.host import Deployed
from rapport.server.serverless import Function


def test_a_worker_sees_that_the_process_ends_and_is_counted_while_it_runs() -> None:
    calls = Calls()
    remaining: list[int] = []

    def handler(_event: Event, context: InvocationContext) -> object:
        remaining.append(context.get_remaining_time_in_millis())
        assert calls.functions == ["worker"]
        calls.end_by(time.monotonic() + 5)
        remaining.append(context.get_remaining_time_in_millis())
        return None

    function = Function.model_validate({"handler": "tests.handler", "timeout": 300})
    Deployed("worker", function, handler, calls).invoke({})
    assert calls.functions == []
    before, after = remaining
    assert before > 200_000
    assert after <= 5_000
