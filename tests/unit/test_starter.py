"""Workers in this process: one of each at a time, and none that is asked for is missed."""

from __future__ import annotations

import json
import threading
from queue import SimpleQueue

import pytest
from tests.aws import recording

from rapport.errors import UpstreamUnavailable
from rapport.log import logger
from rapport.starter import LambdaStarter, ThreadStarter


def test_whoever_asks_while_one_runs_is_served_by_one_more_run() -> None:
    began: SimpleQueue[str] = SimpleQueue()
    may_end = threading.Semaphore(0)
    together = threading.Lock()

    def run(worker: str) -> None:
        assert together.acquire(blocking=False)
        began.put(worker)
        assert may_end.acquire(timeout=20)
        together.release()

    starter = ThreadStarter(run)
    starter.start("a")
    assert began.get(timeout=20) == "a"
    for _ in range(5):
        starter.start("a")
    may_end.release()
    assert began.get(timeout=20) == "a"
    may_end.release()
    starter.start("a")
    # the third is for the one who came after the second began
    assert began.get(timeout=20) == "a"
    may_end.release()
    assert began.empty()


def test_different_workers_run_beside_each_other() -> None:
    both = threading.Barrier(3)
    starter = ThreadStarter(lambda _worker: both.wait(20))
    starter.start("a")
    starter.start("b")
    both.wait(20)


def test_a_crash_is_not_the_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: SimpleQueue[int] = SimpleQueue()
    logged: SimpleQueue[str] = SimpleQueue()
    monkeypatch.setattr(logger, "error", lambda message, **_keys: logged.put(message))

    def run(_worker: str) -> None:
        runs.put(1)
        raise ZeroDivisionError

    starter = ThreadStarter(run)
    for _ in range(2):
        starter.start("a")
        assert runs.get(timeout=20) == 1
        assert logged.get(timeout=20) == "crashed"


def test_on_lambda_the_workers_function_is_invoked_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with recording() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        LambdaStarter("rapport-dev-").start("deliver_outbound")
        assert aws.calls == [("lambda:InvokeFunction", "rapport-dev-deliver_outbound")]
        [(_, headers, body)] = aws.requests
        assert headers["x-amz-invocation-type"] == "Event"
        assert json.loads(body) == {"worker": "deliver_outbound"}
        aws.faults = {"lambda:InvokeFunction": (403, "AccessDeniedException")}
        with pytest.raises(UpstreamUnavailable, match="AccessDeniedException"):
            LambdaStarter("rapport-dev-").start("deliver_outbound")
