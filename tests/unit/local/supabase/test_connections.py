"""Clients of the gateway's websockets that read nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect

from rapport.local.supabase.connections import WebsocketConnection

SECONDS = 0.2
SMALL_BUFFER = 4096
FRAME = b"x" * 1_000_000


class Application:
    """Sends frames as long as they are taken; knows how each connection ended."""

    def __init__(self, frames: int | None) -> None:
        self.frames = frames
        self.ends: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        # the client reads nothing from now on
        await receive()
        try:
            sent = 0
            while self.frames is None or sent < self.frames:
                await send({"type": "websocket.send", "bytes": FRAME})
                sent += 1
            await send({"type": "websocket.close"})
        except OSError:
            self.ends.put_nowait("cut off")
            raise
        self.ends.put_nowait("closed")


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A server of the gateway's kind, with pings in quick succession."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_level="critical",
        ws=WebsocketConnection,
        ws_ping_interval=SECONDS,
        ws_ping_timeout=SECONDS,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def reading_nothing(port: int) -> AsyncIterator[ClientConnection]:
    """A client that stops reading after the handshake, and has little room for what is sent."""
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    tcp.connect(("127.0.0.1", port))
    connection = await connect(f"ws://127.0.0.1:{port}/", sock=tcp, ping_interval=None)
    connection.transport.pause_reading()
    await connection.send("go")
    try:
        yield connection
    finally:
        connection.transport.abort()


async def until_none_is_left(server: uvicorn.Server) -> None:
    for _ in range(1000):
        if not server.server_state.connections:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the connection is there still")


async def test_a_client_that_reads_nothing_loses_its_socket_while_frames_wait() -> None:
    application = Application(frames=None)
    async with serving(application) as (server, port), reading_nothing(port):
        assert await asyncio.wait_for(application.ends.get(), 10) == "cut off"
        await until_none_is_left(server)


async def test_a_client_that_reads_nothing_loses_its_socket_after_the_last_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = WebsocketConnection.connection_made

    def with_little_patience(self: WebsocketConnection, transport: asyncio.BaseTransport) -> None:
        started(self, transport)
        self.close_timeout = SECONDS
        # a ping is as good as one more frame: without pings it is the end alone that counts
        self.ping_interval = None

    monkeypatch.setattr(WebsocketConnection, "connection_made", with_little_patience)
    application = Application(frames=1)
    async with serving(application) as (server, port), reading_nothing(port):
        assert server.server_state.connections
        await until_none_is_left(server)
