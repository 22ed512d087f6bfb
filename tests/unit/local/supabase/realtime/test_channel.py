"""A channel between its join and its first frames, with a database that answers when it is told."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool
from pydantic import JsonValue

from rapport.local.supabase.keys import KeySet, mint_key
from rapport.local.supabase.realtime.authorization import Authorizer
from rapport.local.supabase.realtime.bus import Bus
from rapport.local.supabase.realtime.changes import ChangeFeed
from rapport.local.supabase.realtime.channel import Channel, JoinRefusedError
from rapport.local.supabase.realtime.frames import SERIALIZERS, Broadcast, Frame, encode
from rapport.local.supabase.realtime.messages import StoredMessages
from rapport.local.supabase.realtime.tracker import Tracker
from rapport.local.supabase.signing_key import new_signing_key

SECRET = "x" * 40
TOPIC = "realtime:room"


def stored(text: str, message_id: str, *, replayed: bool = False) -> Broadcast:
    about: dict[str, JsonValue] = {"id": message_id}
    meta = encode({"replayed": True} | about if replayed else about).encode()
    return Broadcast(event="note", payload=encode(text).encode(), meta=meta, id=message_id)


class Stored(StoredMessages):
    """Stored messages that are read once `may_answer` is set."""

    def __init__(self, pool: AsyncConnectionPool, *messages: Broadcast) -> None:
        super().__init__(pool, lambda: None)
        self.messages = messages
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def since(self, topic: str, since: int, limit: int) -> list[Broadcast]:
        assert (topic, since, limit) == ("room", 1, 25)
        self.asked.set()
        await self.may_answer.wait()
        return list(self.messages)


class Everybody(Authorizer):
    """Lets everybody read and write."""

    async def readable(self, *_: object) -> frozenset[object]:  # type: ignore[override]  # asked for broadcasts alone
        return frozenset({"broadcast"})


class Services:
    """What channels share, without a database."""

    def __init__(self, *messages: Broadcast) -> None:
        pool = AsyncConnectionPool("", open=False)
        self.bus = Bus()
        self.tracker = Tracker()
        self.authorizer = Everybody(pool)
        self.changes = ChangeFeed(pool)
        self.stored = Stored(pool, *messages)
        self.streaming = asyncio.Event()


class Socket:
    """Keeps the frames that its channel sends."""

    keys = KeySet(new_signing_key(), SECRET)
    headers = "{}"

    def __init__(self, version: str = "1.0.0") -> None:
        self.token = mint_key(SECRET, "anon")
        self.serializer = SERIALIZERS[version]
        self.frames: list[Frame] = []
        self.forgotten: list[Channel] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)

    def forget(self, channel: Channel) -> None:
        self.forgotten.append(channel)

    def payloads(self) -> list[JsonValue]:
        return [json.loads(frame)["payload"] for frame in self.frames]


def joining(services: Services, socket: Socket, config: JsonValue) -> Channel:
    return Channel(socket, services, TOPIC, "1", {"config": config})


REPLAY: JsonValue = {"private": True, "broadcast": {"replay": {"since": 1}}}


async def test_what_comes_during_a_replay_follows_it_and_nothing_comes_twice() -> None:
    ids = [str(uuid4()) for _ in range(4)]
    services = Services(*(stored(text, ids[n], replayed=True) for n, text in enumerate("ab")))
    socket = Socket()
    channel = joining(services, socket, REPLAY)
    join = asyncio.create_task(channel.join())
    await services.stored.asked.wait()
    # the second of the replayed comes live as well, before the database has answered
    for text, message_id in (("b", ids[1]), ("c", ids[2])):
        services.bus.publish("room", True, stored(text, message_id))
    assert socket.frames == []
    services.stored.may_answer.set()
    assert await join == {"postgres_changes": []}
    assert socket.frames == []

    await channel.start()
    # the first only now
    for text, message_id in (("a", ids[0]), ("d", ids[3])):
        services.bus.publish("room", True, stored(text, message_id))

    def told(text: str, meta: dict[str, JsonValue]) -> JsonValue:
        return {"type": "broadcast", "event": "note", "payload": text, "meta": meta}

    assert socket.payloads() == [
        told("a", {"replayed": True, "id": ids[0]}),
        told("b", {"replayed": True, "id": ids[1]}),
        told("c", {"id": ids[2]}),
        told("d", {"id": ids[3]}),
    ]


async def test_a_socket_that_ends_during_a_join_leaves_nobody_behind() -> None:
    services = Services()
    socket = Socket()
    join = asyncio.create_task(joining(services, socket, REPLAY).join())
    await services.stored.asked.wait()
    join.cancel()
    with pytest.raises(asyncio.CancelledError):
        await join

    services.bus.publish("room", True, stored("a", str(uuid4())))
    assert socket.frames == []


async def test_a_client_that_asks_is_told_once_the_database_is_heard() -> None:
    services, socket = Services(), Socket()
    channel = joining(services, socket, {"broadcast": {"replication_ready": True}})
    await channel.join()
    await channel.start()
    await asyncio.sleep(0)
    assert socket.frames == []

    services.streaming.set()
    await asyncio.sleep(0.05)

    assert socket.payloads() == [
        {
            "extension": "system",
            "status": "ok",
            "message": "Replication connection established",
            "channel": "room",
        }
    ]


async def test_a_channel_that_closes_meanwhile_is_told_nothing_more() -> None:
    services, socket = Services(), Socket()
    channel = joining(services, socket, {"broadcast": {"replication_ready": True}})
    await channel.join()
    await channel.start()
    channel.close()
    services.streaming.set()
    await asyncio.sleep(0.05)

    assert socket.payloads() == [{}]
    assert socket.forgotten == [channel]


async def test_a_join_that_waits_for_changes_is_refused_when_they_are_not_heard_in_time() -> None:
    config: JsonValue = {
        "postgres_changes": [{"schema": "public", "table": "notes"}],
        "postgres_changes_options": {"wait": True, "timeout": 10},
    }
    with pytest.raises(JoinRefusedError) as refused:
        await joining(Services(), Socket(), config).join()

    assert str(refused.value) == (
        "PostgresChangesSubscribeTimeout: Timed out after 10ms waiting for the "
        "postgres_changes subscription"
    )
