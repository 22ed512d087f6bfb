"""Requests per second over HTTP, with as little work in the client as possible."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from rapport.local.errors import StackError


class ConflictError(StackError):
    """The server answered 409."""


@dataclass(frozen=True)
class LoadRequest:
    """One HTTP request."""

    method: str
    path: str
    body: bytes = b""


Exchange = Callable[[LoadRequest], bytes]
# the work of one worker; each of its requests must succeed
Work = Callable[[Exchange, int], None]


@dataclass(frozen=True)
class HttpLoad:
    """Several connections to one server; each sends the next request after its answer."""

    host: str
    port: int
    headers: Mapping[str, str]
    connections: int

    def rate(self, work: Work, seconds: float) -> float:
        """How often per second `work` was done, over all connections.

        Raises StackError for an answer that is no success.
        """
        numbers = count(time.time_ns())
        done: list[int] = []
        failures: list[StackError] = []
        end = time.perf_counter() + seconds

        def send() -> None:
            times = 0
            try:
                for exchange in self._exchanges():
                    while time.perf_counter() < end:
                        work(exchange, next(numbers))
                        times += 1
            except StackError as failure:
                failures.append(failure)
            done.append(times)

        start = time.perf_counter()
        threads = [threading.Thread(target=send) for _ in range(self.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return sum(done) / (time.perf_counter() - start)

    def _exchanges(self) -> Iterator[Exchange]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)

        def exchange(request: LoadRequest) -> bytes:
            connection.request(
                request.method, request.path, request.body or None, dict(self.headers)
            )
            answer = connection.getresponse()
            content = answer.read()
            if not 200 <= answer.status < 300:
                kind = ConflictError if answer.status == 409 else StackError
                raise kind(f"{request.method} {request.path}: {answer.status} {content!r}")
            return content

        try:
            yield exchange
        finally:
            connection.close()
