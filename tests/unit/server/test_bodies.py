"""Applications whose requests begin once their bodies are there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from rapport.server.bodies import Bodies, BodyFirst
from rapport.server.overload import Bounded

PATIENCE = 30  # seconds; nothing is measured


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await Response(body)(scope, receive, send)


@dataclass
class Client:
    """A request whose body comes in these pieces, and then no more if it is not whole."""

    pieces: list[bytes]
    is_whole: bool = True
    told: list[Message] = field(default_factory=list)

    async def ask(self, app: BodyFirst) -> tuple[int, bytes]:
        headers = [(b"content-length", b"9")] if self.pieces else []
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        async with asyncio.timeout(PATIENCE):
            await app(scope, self._receive, self._send)
        return self.told[0]["status"], self.told[1]["body"]

    async def _receive(self) -> Message:
        if self.pieces or self.is_whole:
            body = self.pieces.pop(0) if self.pieces else b""
            more = bool(self.pieces) or not self.is_whole
            return {"type": "http.request", "body": body, "more_body": more}
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        self.told.append(message)


def application(*, limit: int = 100, seconds: float = PATIENCE) -> BodyFirst:
    """One request at a time, and none that waits."""
    bounded = Bounded(echo, at_once=1, waiting=0)
    bodies = Bodies(limit=limit, room=10 * limit, seconds=seconds)
    return BodyFirst(bounded, bodies, is_full=lambda: bounded.is_full)


async def test_a_body_that_does_not_come_takes_no_place() -> None:
    app = application()
    slow = [asyncio.create_task(Client([b"{"], is_whole=False).ask(app)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await Client([b"a", b"b", b"c"]).ask(app) == (200, b"abc")
    assert await Client([]).ask(app) == (200, b"")
    for one in slow:
        one.cancel()


async def test_a_body_that_is_too_slow_or_too_large_is_refused_in_a_sentence() -> None:
    status, told = await Client([b"{"], is_whole=False).ask(application(seconds=0))
    assert (status, b"did not come within 0 seconds" in told) == (408, True)
    assert (await Client([b"x" * 11]).ask(application(limit=10)))[0] == 413
