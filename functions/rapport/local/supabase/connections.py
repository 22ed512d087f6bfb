"""Websocket connections of the gateway, and how many there may be."""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# A client that reads nothing is cut off after both at the latest, which are under a minute. An
# answer may come late: a join waits for the database up to 20 s.
PING_SECONDS = 20.0
PONG_SECONDS = 30.0
MAX_FILES = 65_536


class WebsocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which gives up on a client that reads nothing.

    uvicorn closes a connection once all was sent, which such a client would put off for ever.
    """

    _end: asyncio.TimerHandle | None = None

    def keepalive_timeout(self) -> None:
        """Ends a connection whose client did not answer a ping."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Runs the application; the client must read its last messages soon."""
        await super().run_asgi()
        if not self.disconnected:
            self._end = self.loop.call_later(self.close_timeout, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the application, whose client is gone."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


def allow_sockets() -> None:
    """Lets this process have as many sockets as the system allows it, up to MAX_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
