"""Reads the bodies of requests before they take a place, within bounds of time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from rapport.server.overload import RETRY_AFTER

# seconds for a body to come, and bytes a second with which a large one gets more
SECONDS = 10.0
PACE = 64 * 1024
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
    """The bodies of one function's requests; for one event loop.

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
            f"The body did not come within {self._seconds:g} seconds. Send the request again.",
            close,
        )
