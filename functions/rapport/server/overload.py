"""Limits for an application: how many requests run and wait at once, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER = {"retry-after": "1"}  # seconds

_REFUSAL = JSONResponse(
    {"message": "Too many requests are being served. Try again in a moment."},
    status_code=503,
    # otherwise the connections of refused clients would be kept open
    headers={**RETRY_AFTER, "connection": "close"},
)


class OverloadedError(Exception):
    """This request waited too long."""


class Bounded:
    """An ASGI application with limits; a request beyond them gets 503 with Retry-After.

    `at_once` requests run at the same time, and `waiting` more wait, up to `seconds`. Only the
    first piece of a waiting request's body is read. If its client leaves while it waits, the
    request is dropped; with `ends_with_client` also while it runs.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        at_once: int,
        waiting: int,
        seconds: float = 5,
        ends_with_client: bool = True,
    ) -> None:
        self._app = app
        self._free = asyncio.Semaphore(at_once)
        self._places = waiting
        self._seconds = seconds
        self._ends_with_client = ends_with_client

    @property
    def is_full(self) -> bool:
        """Whether the next request is refused at once."""
        return self._free.locked() and self._places == 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.is_full:
            # as cheaply as possible: refusals cost time that running requests need
            await _REFUSAL(scope, receive, send)
            return
        client = _AttentiveClient(receive, send)
        serving = asyncio.ensure_future(self._serve(scope, client))
        leaving = asyncio.ensure_future(client.watch())
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if client.is_dropped:
                serving.cancel()
            await asyncio.wait({serving})
        finally:
            for task in (serving, leaving):
                task.cancel()
        if not serving.cancelled():
            serving.result()

    async def _serve(self, scope: Scope, client: _AttentiveClient) -> None:
        try:
            async with self._admitted():
                client.may_leave = self._ends_with_client
                await self._app(scope, client.receive, client.send)
        except OverloadedError:
            await _REFUSAL(scope, client.receive, client.send)

    @contextlib.asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        self._places -= 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError from None
        finally:
            self._places += 1


class _AttentiveClient:
    """Reads a request one piece ahead, and so notices that its client has left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._pieces: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
        self._has_left = False
        self._has_answer = False
        self.may_leave = True

    @property
    def is_dropped(self) -> bool:
        """Whether the client left before it had its answer."""
        return self._has_left and self.may_leave and not self._has_answer

    async def watch(self) -> None:
        """Returns when the client has left, or has its answer."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_left = True
                # the application may be waiting for more
                if self._pieces.empty():
                    self._pieces.put_nowait(message)
                return
            await self._pieces.put(message)

    async def receive(self) -> Message:
        """The next piece of the request, as the application asks for it."""
        if self._has_left and self._pieces.empty():
            return {"type": "http.disconnect"}
        return await self._pieces.get()

    async def send(self, message: Message) -> None:
        """Sends a piece of the answer."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._has_answer = True
        await self._send(message)
