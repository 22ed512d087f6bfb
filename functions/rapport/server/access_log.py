"""The access log: a line for each request, with its id, route, status and time; nobody's address,
path or words.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rapport.log import correlated, logger

# a client that left before its answer, as nginx has it
LEFT = 499
# asked every few seconds
_QUIET = frozenset({"/health", "/ready"})
_KEY = "rapport.asked"


@dataclass
class Asked:
    """A request as the log names it; its id is the `correlation_id` of the function's lines."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # such as `POST /api/messages`; None where there is none
    route: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """The one of a request that came through `AccessLog`."""
        asked: Self = scope[_KEY]
        return asked


class AccessLog:
    """Writes a line when a request has ended; of /health and /ready only those that fail."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Asked()
        began = time.perf_counter()
        status, size = LEFT, 0

        async def note(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app({**scope, _KEY: asked}, receive, note)
        finally:
            if status != 200 or scope["path"] not in _QUIET:
                with correlated(asked.id):
                    logger.info(
                        "request",
                        route=asked.route,
                        status=status,
                        bytes=size,
                        milliseconds=round((time.perf_counter() - began) * 1000),
                    )
