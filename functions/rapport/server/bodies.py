"""Reads the bodies of requests before they take a place, within bounds of time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rapport.server.overload import RETRY_AFTER

# seconds for a body to come, and bytes a second with which a large one gets more: a weak mobile
# connection has them
SECONDS = 10.0
PACE = 16 * 1024
# bodies that come at the same time
AT_ONCE = 1000


class BodyError(Exception):
    """A body that is not taken: the status, the sentence and the headers of the answer."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


@dataclass(eq=False)
class _Coming:
    deadline: asyncio.Timeout
    gives_way: bool = False


class Bodies:
    """The bodies of one application's requests; for one event loop.

    A body is held until its request is answered. Where there is no room for another, the one that
    has been coming the longest gives way, so that slow clients do not hold up quick ones.
    """

    def __init__(
        self, *, limit: int, room: int, at_once: int = AT_ONCE, seconds: float = SECONDS
    ) -> None:
        """`limit` is the bytes of one body, `room` of all that are held."""
        self._limit = limit
        self._room = room
        self._at_once = at_once
        self._seconds = seconds
        self._held = 0
        # the oldest first
        self._coming: dict[_Coming, None] = {}
        self._ends = False

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, which counts until the end of the block.

        Raises:
            BodyError: 413 it is too large, 408 it is too slow, 503 there is no room for it.
            ClientDisconnect: The client has left.
        """
        body = bytearray()
        try:
            await self._fill(body, request)
            yield bytes(body)
        finally:
            self._held -= len(body)

    def end(self) -> None:
        """Ends those that are still coming: the process stops."""
        self._ends = True
        for one in list(self._coming):
            self._give_way(one)

    async def _fill(self, body: bytearray, request: Request) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        coming = _Coming(deadline := asyncio.timeout_at(began + self._seconds))
        try:
            async with deadline:
                self._coming[coming] = None
                if self._ends:
                    self._give_way(coming)
                elif len(self._coming) > self._at_once:
                    self._give_way(next(iter(self._coming)))
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > self._limit:
                        raise BodyError(413, "Request Entity Too Large")
                    if coming.gives_way:
                        break
                    deadline.reschedule(began + self._seconds + len(body) / PACE)
                    if self._held > self._room and self._coming:
                        self._give_way(next(iter(self._coming)))
        except TimeoutError:
            pass
        else:
            if not coming.gives_way:
                return
        finally:
            self._coming.pop(coming, None)
        raise self._refusal(coming)

    def _give_way(self, one: _Coming) -> None:
        one.gives_way = True
        self._coming.pop(one, None)
        one.deadline.reschedule(asyncio.get_running_loop().time())

    def _refusal(self, coming: _Coming) -> BodyError:
        # the rest of the body is not waited for
        close = {"connection": "close"}
        if self._ends:
            return BodyError(
                503, "The server is stopping. Try again in a moment.", RETRY_AFTER | close
            )
        if coming.gives_way:
            return BodyError(
                503,
                "Too many requests are being received. Try again in a moment.",
                RETRY_AFTER | close,
            )
        return BodyError(
            408,
            f"The body did not come within {self._seconds:g} seconds, and one more for each"
            f" {PACE // 1024} KiB. Send the request again.",
            close,
        )


def _never() -> bool:
    return False


class BodyFirst:
    """An ASGI application whose requests begin once all of their bodies is there.

    So a slow client takes no place of a bounded application. If that is full, it refuses the
    request itself, whose body is not read.
    """

    def __init__(
        self, app: ASGIApp, bodies: Bodies, *, is_full: Callable[[], bool] = _never
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._is_full = is_full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope) or self._is_full():
            await self._app(scope, receive, send)
            return
        try:
            async with self._bodies.read(Request(scope, receive)) as body:
                await self._app(scope, _from_the_start(body, receive), send)
        except BodyError as error:
            refusal = JSONResponse({"message": str(error)}, error.status, error.headers)
            await refusal(scope, receive, send)
        except ClientDisconnect:
            return


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _from_the_start(body: bytes, receive: Receive) -> Receive:
    """What an application receives of a request whose body was read."""
    is_read = False

    async def again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
