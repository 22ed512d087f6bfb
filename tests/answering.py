"""A network that answers as a test says, between the functions and other services."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from rapport.connections import Answer, Unreachable


class Answering:
    """Gives each request to `respond`; an error of httpx's that it raises is one of the network."""

    def __init__(self, respond: Callable[[httpx.Request], httpx.Response]) -> None:
        self._respond = respond

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        try:
            given = self._respond(httpx.Request(method, url, headers=dict(headers), content=body))
        except httpx.RequestError as error:
            raise Unreachable(type(error).__name__) from None
        return Answer(given.status_code, dict(given.headers), given.content)

    def close(self) -> None:
        """There is nothing to close."""
