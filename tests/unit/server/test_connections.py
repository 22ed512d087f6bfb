"""Clients that keep a connection and send no request, or read no answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from rapport.server.connections import HttpConnection

PATIENCE = 30  # seconds; nothing is measured
PIECE = b"x" * 1_000_000
PIECES = 40
END = b"0\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Impatient(HttpConnection):
    head_seconds = 0.2
    reading_seconds = 0.2


class LessImpatient(HttpConnection):
    reading_seconds = 1.0


async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers at once, without a look at the body; below /large more than a socket holds, and
    below /whole this in one piece."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/whole":
        await send({"type": "http.response.body", "body": PIECE * PIECES, "more_body": True})
    for _ in range(PIECES if scope["path"] == "/large" else 0):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(
    protocol: type[HttpConnection] = Impatient,
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            answer,
            lifespan="off",
            log_level="critical",
            http=protocol,
            # seconds; longer than the test's
            timeout_keep_alive=PATIENCE,
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def told(port: int, *sent: bytes) -> bytes:
    """What the server says until it ends the connection, after an answer to all but the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            for piece in sent[:-1]:
                writer.write(piece)
                await reader.readuntil(END)
            writer.write(sent[-1])
            return await reader.read()
    finally:
        writer.close()


async def test_a_connection_without_a_whole_head_ends() -> None:
    async with serving() as (_, port):
        silent, begun, second, rest = await asyncio.gather(
            told(port, b""),
            told(port, REQUEST[:10]),
            told(port, REQUEST, REQUEST[:10]),
            # of a body whose request is answered
            told(port, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n", b"a"),
        )
    assert silent == rest == b""
    for one in (begun, second):
        assert one.startswith(b"HTTP/1.1 408 ")
        assert b'"message": "The head of the request did not come in time.' in one


async def test_a_client_that_reads_nothing_loses_its_connection() -> None:
    async with serving() as (server, port):
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with tcp:
            tcp.connect(("127.0.0.1", port))
            tcp.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                # the library tells nobody
                while not server.server_state.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                while server.server_state.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_gets_all() -> None:
    async with serving(LessImpatient) as (_, port), asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**14)
        writer.write(b"GET /whole HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        count = 0
        while piece := await reader.read(2**19):
            count += len(piece)
            await asyncio.sleep(0.03 if count < 0.9 * PIECES * len(PIECE) else 0)
        writer.close()
    assert count > PIECES * len(PIECE)
