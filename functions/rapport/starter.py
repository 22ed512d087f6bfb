"""Starts workers without waiting for them: in functions of their own, or in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable
from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.log import log_crash


class Starter(Protocol):
    """Starts a worker, by its function's name in serverless.yml."""

    def start(self, worker: str) -> None:
        """Returns at once. After this call the worker looks for work at least once."""
        ...


class LambdaStarter:
    """Invokes the worker's Lambda function asynchronously."""

    def __init__(self, function_prefix: str) -> None:
        self._prefix = function_prefix
        self._lambda = AwsService("lambda", timeout=5, connect=2, attempts=2)

    def start(self, worker: str) -> None:
        """Returns once Lambda has taken the call.

        Raises:
            UpstreamUnavailable: It has not. The worker's schedule finds the work.
        """
        function = quote(f"{self._prefix}{worker}", safe="")
        try:
            self._lambda.send(
                "POST",
                f"{self._lambda.endpoint}/2015-03-31/functions/{function}/invocations",
                {"content-type": "application/json", "x-amz-invocation-type": "Event"},
                json.dumps({"worker": worker}).encode(),
            )
        except AwsRefused as error:
            raise UpstreamUnavailable(f"{worker} can't be started (code {error.code}).") from None
        except AwsUnreachable as error:
            raise UpstreamUnavailable(f"{worker} can't be started ({error}).") from None


class ThreadStarter:
    """Runs workers in this process, at most one of each at a time.

    Calls during a run are served together by one more run after it.
    """

    def __init__(self, run: Callable[[str], object]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._asked: set[str] = set()

    def start(self, worker: str) -> None:
        with self._lock:
            self._asked.add(worker)
            if worker in self._running:
                return
            self._running.add(worker)
        threading.Thread(target=self._serve, args=(worker,), name=worker, daemon=True).start()

    def _serve(self, worker: str) -> None:
        while self._is_asked(worker):
            try:
                self._run(worker)
            except Exception as error:  # noqa: BLE001 - one run's end is not the worker's
                log_crash(error, worker=worker)

    def _is_asked(self, worker: str) -> bool:
        """Whether another run was asked for; if not, the worker counts as ended."""
        with self._lock:
            if worker in self._asked:
                self._asked.discard(worker)
                return True
            self._running.discard(worker)
            return False


_here: list[Starter] = []


def start_here(starter: Starter) -> None:
    """Called by a process that runs workers itself."""
    _here[:] = [starter]


def starter_of(function_prefix: str | None) -> Starter:
    """What starts workers: their Lambda functions, by the prefix of the names, or this process.

    Raises:
        ConfigError: There is neither.
    """
    if function_prefix:
        return LambdaStarter(function_prefix)
    if not _here:
        raise ConfigError(
            "WORKER_FUNCTION_PREFIX is not set: it is what the names of the workers' functions"
            " begin with."
        )
    return _here[0]
