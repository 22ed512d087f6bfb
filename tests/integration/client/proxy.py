"""A network that can't be trusted: between clients and the gateway, it cuts, stalls and drops."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

# what carries a message; the others are the websocket's own
TEXT, BINARY = 1, 2
LARGEST_HEAD = 65536


@dataclass
class Faults:
    """How likely each thing is, for each frame of a websocket or piece of an HTTP answer."""

    random: Random
    drop: float = 0
    cut: float = 0
    stall: float = 0
    delay: float = 0
    # seconds; longer than clients are ready to wait
    stall_seconds: float = 3.0
    longest_delay: float = 0.2
    seen: Counter[str] = field(default_factory=Counter)

    def calm(self) -> None:
        """From now on everything goes through."""
        self.drop = self.cut = self.stall = self.delay = 0

    async def strike(self) -> None:
        """Lets something happen to what is on its way."""
        if self._happens("cut", self.cut):
            raise ConnectionAbortedError
        if self._happens("stall", self.stall):
            await asyncio.sleep(self.stall_seconds)
        if self._happens("delay", self.delay):
            await asyncio.sleep(self.random.uniform(0, self.longest_delay))

    def drops(self) -> bool:
        """Whether a frame is lost."""
        return self._happens("drop", self.drop)

    def _happens(self, what: str, likelihood: float) -> bool:
        happens = self.random.random() < likelihood
        if happens:
            self.seen[what] += 1
        return happens


class Proxy:
    """Passes connections on to a port of this machine."""

    def __init__(self, port: int, faults: Faults) -> None:
        self.url = ""
        self.refuses_sockets = False
        # seconds for which requests are told to wait, as long as it is set; and how many were
        self.busy_for: int | None = None
        self.told_to_wait = 0
        self._port = port
        self._faults = faults
        self._connections: set[asyncio.Task[None]] = set()

    def cut_all(self) -> None:
        """Hangs up on everybody."""
        for connection in self._connections:
            connection.cancel()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Proxy]:
        """Listens for as long as the block lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.cut_all()
            if self._connections:
                await asyncio.wait(self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        onward: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            is_socket = b"upgrade: websocket" in head.lower()
            if is_socket and self.refuses_sockets:
                raise ConnectionAbortedError
            if not is_socket and self.busy_for is not None:
                self.told_to_wait += 1
                writer.write(_wait(self.busy_for))
                await writer.drain()
                writer.close()
                return
            back, onward = await asyncio.open_connection("127.0.0.1", self._port)
            onward.write(head)
            answers = self._frames if is_socket else self._pieces
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._upload(reader, onward))
                ways.create_task(answers(back, writer))
        except* (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for end in (writer, onward):
                if end is not None:
                    # no goodbye: what is still in a buffer is lost
                    end.transport.abort()

    async def _upload(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(LARGEST_HEAD):
            await self._faults.strike()
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError

    async def _pieces(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(LARGEST_HEAD):
            await self._faults.strike()
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError

    async def _frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Frames of a websocket, whole: those with messages may be lost."""
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        while True:
            frame = await reader.readexactly(2)
            size = frame[1] & 0x7F
            if size >= 126:
                extended = await reader.readexactly(2 if size == 126 else 8)
                frame += extended
                size = int.from_bytes(extended, "big")
            opcode = frame[0] & 0x0F
            frame += await reader.readexactly(size)
            await self._faults.strike()
            if opcode in (TEXT, BINARY) and self._faults.drops():
                continue
            writer.write(frame)
            with contextlib.suppress(ConnectionResetError):
                await writer.drain()


def _wait(seconds: int) -> bytes:
    """As PostgREST answers who asks too much."""
    body = json.dumps(
        {
            "code": "PT429",
            "message": "Too many requests.",
            "details": f"retry after: {seconds} s",
            "hint": "Wait.",
        }
    )
    head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\n"
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return f"{head}Content-Type: application/json\r\n{length}{body}".encode()
