"""Clients of Realtime for tests: the official one, its callbacks as queues, and a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimeChannelOptions,
    RealtimeSubscribeStates,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

SECONDS = 10

ALICE = UUID(int=0xA)
BOB = UUID(int=0xB)

Payload = dict[str, Any]


def write(database: Database) -> psycopg.Connection:
    """Opens a connection that commits each statement."""
    return psycopg.connect(database.url("postgres"), autocommit=True)


def websocket_url(stack: Stack, **query: str) -> str:
    base = stack.url.replace("http", "ws", 1)
    return f"{base}/realtime/v1/websocket?{urlencode(query)}"


@dataclass
class Ear:
    """What one channel of the official client hears."""

    channel: AsyncRealtimeChannel
    broadcasts: asyncio.Queue[Payload] = field(default_factory=asyncio.Queue)
    changes: asyncio.Queue[Payload] = field(default_factory=asyncio.Queue)
    systems: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    states: asyncio.Queue[tuple[RealtimeSubscribeStates, str]] = field(
        default_factory=asyncio.Queue
    )

    async def broadcast(self) -> Payload:
        return await asyncio.wait_for(self.broadcasts.get(), SECONDS)

    async def change(self) -> Payload:
        return await asyncio.wait_for(self.changes.get(), SECONDS)

    async def system(self) -> str:
        return await asyncio.wait_for(self.systems.get(), SECONDS)

    async def state(self) -> tuple[RealtimeSubscribeStates, str]:
        return await asyncio.wait_for(self.states.get(), SECONDS)


@asynccontextmanager
async def official_client(stack: Stack, user: UUID) -> AsyncIterator[AsyncRealtimeClient]:
    """The client of PyPI's `realtime`, signed in."""
    client = AsyncRealtimeClient(f"{stack.url}/realtime/v1", token=stack.publishable_key)
    await client.connect()
    try:
        await client.set_auth(mint_user_token(stack.signing_key, user_id=user))
        yield client
    finally:
        await client.close()


async def listen(
    client: AsyncRealtimeClient,
    topic: str,
    *,
    event: str = "note",
    private: bool = False,
    changes: tuple[Payload, ...] = (),
) -> Ear:
    """Subscribes; what comes of it is in the ear's queues."""
    options: RealtimeChannelOptions = {
        "config": {"broadcast": None, "presence": None, "private": private}
    }
    ear = Ear(client.channel(topic, options))
    ear.channel.on_broadcast(event, lambda payload: ear.broadcasts.put_nowait(dict(payload)))
    ear.channel.on_system(lambda payload: ear.systems.put_nowait(payload.message))
    for binding in changes:
        ear.channel.on_postgres_changes(
            callback=lambda payload: ear.changes.put_nowait(dict(payload)), **binding
        )
    await ear.channel.subscribe(
        lambda state, error: ear.states.put_nowait((state, str(error or "")))
    )
    return ear


async def follow(client: AsyncRealtimeClient, topic: str, **binding: str) -> Ear:
    """Subscribes to changes and returns once they flow."""
    ear = await listen(client, topic, changes=({"event": "*", "schema": "public"} | binding,))
    assert await ear.system() == "Subscribed to PostgreSQL"
    return ear


class BareSocket:
    """A websocket that speaks version 2, frame by frame."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, *message: object) -> None:
        await self._connection.send(json.dumps(message))

    async def send_bytes(self, frame: bytes) -> None:
        await self._connection.send(frame)

    async def receive(self) -> Any:
        frame = await asyncio.wait_for(self._connection.recv(), SECONDS)
        return json.loads(frame) if isinstance(frame, str) else frame

    async def drain(self) -> int | None:
        """Reads until the server closes, and returns its code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.wait_for(self._connection.recv(), SECONDS)
        return self._connection.close_code

    async def join(self, topic: str, payload: Payload, join_ref: str = "1") -> Payload:
        """Joins and returns the payload of the reply."""
        await self.send(join_ref, join_ref, topic, "phx_join", payload)
        reply = await self.receive()
        assert reply[:4] == [join_ref, join_ref, topic, "phx_reply"]
        response: Payload = reply[4]
        return response


@asynccontextmanager
async def bare_socket(
    stack: Stack, token: str | None = None, *, receive_buffer: int | None = None
) -> AsyncIterator[BareSocket]:
    """Connects; of what is not read the system keeps `receive_buffer` bytes, or what it likes."""
    url = websocket_url(stack, apikey=token or stack.publishable_key, vsn="2.0.0")
    tcp = None
    if receive_buffer is not None:
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        tcp.connect((stack.host, stack.gateway_port))
    async with connect(url, sock=tcp) as connection:
        yield BareSocket(connection)
