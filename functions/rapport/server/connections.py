"""HTTP connections of our servers, and how long a client may keep one without a request."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# for the head of a request to come, from the first byte or from the connection on
HEAD_SECONDS = 10.0
# for a client to read some of its answer
READING_SECONDS = 30.0

_SENTENCE = b'{"message": "The head of the request did not come in time. Send the request again."}'
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_SENTENCE), _SENTENCE)
)


class HttpConnection(H11Protocol):
    """uvicorn's protocol, which gives up on a client that sends no whole head of a request, or
    reads nothing of its answer.

    uvicorn waits for both without end. A body has its own deadline, see `bodies`.
    """

    head_seconds = HEAD_SECONDS
    reading_seconds = READING_SECONDS
    _head: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Takes what has come; the deadline holds until all of the head is there."""
        super().data_received(data)
        if self._is_served:
            self._stop_waiting()
        elif self._head is None and not self.transport.is_closing():
            # a second request, or the rest of a body whose answer is sent already
            self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request, whose client is gone."""
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Waits for the client to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Goes on, since the client has read."""
        self._stop_watching()
        super().resume_writing()

    @property
    def _is_served(self) -> bool:
        """Whether a request has no whole answer yet; one for a websocket gets its answer there."""
        return self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def _give_up(self) -> None:
        self._head = None
        begun, _ = self.conn.trailing_data
        if begun and self.conn.our_state is h11.IDLE:
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def _watch(self) -> None:
        self._stop_watching()
        self._unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self.reading_seconds, self._look)

    def _look(self) -> None:
        """Gives a slow reader more time: `resume_writing` comes only when little is left."""
        if self.transport.get_write_buffer_size() < self._unread:
            self._watch()
        else:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop_watching(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
