"""Broadcasts over /realtime/v1, from the database and from clients, under RLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb
from realtime import RealtimeSubscribeStates
from tests.integration.realtime_clients import (
    ALICE,
    BOB,
    bare_socket,
    listen,
    official_client,
    write,
)
from tests.stacks import Start, changed_copy_of

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

POLICIES = """
    create policy "users read their own topic"
        on realtime.messages
        for select
        to authenticated
        using (realtime.topic() = 'user:' || auth.uid());
    create policy "users write to topics of rooms"
        on realtime.messages
        for insert
        to authenticated
        with check (realtime.topic() like 'room:%');
    create policy "users read topics of rooms"
        on realtime.messages
        for select
        to authenticated
        using (topic like 'room:%' or topic like 'board:%');
    create policy "a broken policy"
        on realtime.messages
        for select
        to authenticated
        using (topic = 'broken' and 1 / (length(extension) - length('broadcast')) > 0);
"""


@pytest.fixture(scope="module")
def template(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """What a hosted project has, with policies of these tests' own."""
    with changed_copy_of(cluster, prepared, POLICIES) as database:
        yield database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("gateway")


def send(database: Database, topic: str, payload: object, *, private: bool = True) -> None:
    with write(database) as connection:
        connection.execute(
            "select realtime.send(%s, 'note', %s, %s)", [Jsonb(payload), topic, private]
        )


async def test_a_private_broadcast_reaches_those_who_may_read_the_topic(
    stack: Stack, database: Database
) -> None:
    async with (
        official_client(stack, ALICE) as alice,
        official_client(stack, BOB) as bob,
        official_client(stack, BOB) as public,
    ):
        topic = f"user:{ALICE}"
        hers = await listen(alice, topic, private=True)
        assert await hers.state() == (RealtimeSubscribeStates.SUBSCRIBED, "")
        refused = await listen(bob, topic, private=True)
        state, reason = await refused.state()
        assert state == RealtimeSubscribeStates.CHANNEL_ERROR
        assert (
            "Unauthorized: You do not have permissions to read from this Channel topic: " + topic
        ) in reason
        namesake = await listen(public, topic)
        assert await namesake.state() == (RealtimeSubscribeStates.SUBSCRIBED, "")

        send(database, topic, {"n": 1})
        send(database, topic, {"n": 2}, private=False)

        heard = await hers.broadcast()
        assert heard["payload"]["n"] == 1
        assert heard["meta"]["id"] == heard["payload"]["id"]
        assert (await namesake.broadcast())["payload"]["n"] == 2
        assert hers.broadcasts.empty()
        assert refused.broadcasts.empty()


async def test_a_transaction_is_heard_whole_in_commit_order_or_not_at_all(
    stack: Stack, database: Database
) -> None:
    async with official_client(stack, ALICE) as alice:
        topic = f"user:{ALICE}"
        ear = await listen(alice, topic, private=True)
        await ear.state()
        with (
            write(database) as first,
            write(database) as second,
        ):
            statement = "select realtime.send(%s, 'note', %s)"
            with first.transaction():
                first.execute(statement, [Jsonb({"n": 2}), topic])
                with second.transaction(force_rollback=True):
                    second.execute(statement, [Jsonb({"n": 0}), topic])
                second.execute(statement, [Jsonb({"n": 1}), topic])
                first.execute(statement, [Jsonb({"n": 3}), topic])

        assert [(await ear.broadcast())["payload"]["n"] for _ in range(3)] == [1, 2, 3]


async def test_a_policy_that_raises_refuses_the_join(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    async with bare_socket(stack, token) as socket:
        reply = await socket.join("realtime:broken", {"config": {"private": True}})

        assert reply == {
            "status": "error",
            "response": {"reason": "Realtime was unable to connect to the project database"},
        }


async def test_clients_hear_each_other_in_either_version_of_the_protocol(stack: Stack) -> None:
    async with official_client(stack, ALICE) as alice, bare_socket(stack) as socket:
        ear = await listen(alice, "chat")
        await ear.state()
        config = {"broadcast": {"ack": True, "self": True}}
        await socket.join("realtime:chat", {"config": config})

        head = bytes([3, 1, 1, 13, 4, 0, 1]) + b"1" + b"2" + b"realtime:chat" + b"note"
        await socket.send_bytes(head + b'{"n":1}')

        assert (await ear.broadcast())["payload"] == {"n": 1}
        own = bytes([4, 13, 4, 0, 1]) + b"realtime:chat" + b"note" + b'{"n":1}'
        assert await socket.receive() == own
        reply = {"status": "ok", "response": {}}
        assert await socket.receive() == ["1", "2", "realtime:chat", "phx_reply", reply]

        await ear.channel.send_broadcast("note", {"n": 2})

        heard = bytes([4, 13, 4, 0, 1]) + b"realtime:chat" + b"note" + b'{"n":2}'
        assert await socket.receive() == heard


async def test_bytes_reach_those_who_can_take_them(stack: Stack) -> None:
    async with (
        official_client(stack, ALICE) as alice,
        bare_socket(stack) as sender,
        bare_socket(stack) as receiver,
    ):
        ear = await listen(alice, "chat")
        await ear.state()
        await sender.join("realtime:chat", {})
        await receiver.join("realtime:chat", {})

        head = bytes([3, 1, 1, 13, 4, 0]) + b"%c" + b"1" + b"2" + b"realtime:chat" + b"note"
        await sender.send_bytes(head % 0 + b"\x00\xff")
        await sender.send_bytes(head % 1 + b"{}")

        body = bytes([4, 13, 4, 0]) + b"%c" + b"realtime:chat" + b"note"
        assert await receiver.receive() == body % 0 + b"\x00\xff"
        assert await receiver.receive() == body % 1 + b"{}"
        assert (await ear.broadcast())["payload"] == {}


def body_of(frame: bytes, *, encoding: int, topic: str, event: str = "note") -> bytes:
    """What a frame without meta broadcasts on the topic."""
    name = f"realtime:{topic}".encode()
    head = bytes([4, len(name), len(event), 0, encoding]) + name + event.encode()
    assert frame.startswith(head)
    return frame.removeprefix(head)


async def test_what_is_posted_is_heard(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    keys = {"apikey": stack.publishable_key}
    user = keys | {"Authorization": f"Bearer {token}"}
    octets = {"Content-Type": "application/octet-stream"}
    base = f"{stack.url}/realtime/v1/api/broadcast"
    single = f"{base}/room%3Aa%2Fb/events/note"

    def message(number: int, topic: str, **more: object) -> dict[str, object]:
        return {"topic": topic, "event": "note", "payload": {"n": number}, **more}

    batch = [
        message(1, "room:a/b"),
        # to which alice may not write
        message(2, "board:1", private=True),
        message(3, "room:a/b", private=True),
    ]
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        bare_socket(stack, token) as public,
        bare_socket(stack, token) as private,
    ):
        await public.join("realtime:room:a/b", {})
        for topic in ("room:a/b", "board:1"):
            joined = await private.join(f"realtime:{topic}", {"config": {"private": True}})
            assert joined["status"] == "ok"

        async def post(url: str, status: int, **request: Any) -> httpx.Response:
            request = {"headers": user} | request
            answer = await http.post(url, **request)
            assert answer.status_code == status, answer.text
            return answer

        assert (await post(base, 202, json={"messages": batch})).content == b""
        await post(single, 202, json={"n": 4}, headers=keys)
        await post(single, 202, content=b"\x00\xff", headers=keys | octets)
        await post(f"{single}?private=true", 202, json={"n": 5})

        here = {"topic": "room:a/b", "encoding": 1}
        assert body_of(await public.receive(), **here) == b'{"n":1}'
        assert body_of(await public.receive(), **here) == b'{"n":4}'
        octets_here = body_of(await public.receive(), topic="room:a/b", encoding=0)
        assert octets_here == b"\x00\xff"
        assert body_of(await private.receive(), **here) == b'{"n":3}'
        assert body_of(await private.receive(), **here) == b'{"n":5}'

        # refusals
        await post(base, 401, json={"messages": batch}, headers={})
        await post(
            base, 401, json={"messages": batch}, headers=keys | {"Authorization": "Bearer x"}
        )
        await post(f"{base}/board:1/events/note?private=true", 403, json={})
        await post(f"{base}/room:1/events", 404, json={})
        text = {"Content-Type": "text/plain"}
        await post(single, 415, content=b"{}", headers=keys | text)
        await post(single, 400, content=b"{", headers=keys)
        await post(single, 422, content=b"x" * 3_100_000, headers=keys | octets)
        await post(single, 413, content=b"x" * 8_100_000, headers=keys | octets)
        broken = [message(1, ""), message(2, "a"), {"topic": "a", "event": "b"}]
        answer = await post(base, 422, json={"messages": broken})
        blank = ["can't be blank"]
        assert answer.json() == {"errors": {"messages": [{"topic": blank}, {}, {"payload": blank}]}}
        assert (await post(base, 422, json={})).json() == {"errors": {"messages": blank}}


async def test_the_official_client_posts(stack: Stack) -> None:
    async with official_client(stack, ALICE) as alice, bare_socket(stack) as socket:
        await socket.join("realtime:room:1", {})
        channel = alice.channel("room:1")
        await channel.http_send("note", {"n": 1})
        await channel.http_send("note", b"\x00")

        assert body_of(await socket.receive(), topic="room:1", encoding=1) == b'{"n":1}'
        assert body_of(await socket.receive(), topic="room:1", encoding=0) == b"\x00"


async def test_who_joins_later_hears_what_was_stored(stack: Stack, database: Database) -> None:
    topic = f"user:{ALICE}"
    name = f"realtime:{topic}".encode()
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    # A message that a join did not replay still comes live when the log is read after
    # the join. So the joins below wait until another socket has heard all.
    async with bare_socket(stack, token) as early:
        joined = await early.join(f"realtime:{topic}", {"config": {"private": True}})
        assert joined["status"] == "ok"
        with write(database) as connection:
            send(database, topic, "before")
            now = "select extract(epoch from clock_timestamp()) * 1000"
            row = connection.execute(now).fetchone()
            assert row
            since = int(row[0]) + 1
            await asyncio.sleep(0.01)
            # in the order of the transaction, which has one time
            with connection.transaction():
                for number in range(3):
                    statement = "select realtime.send(%s, 'note', %s)"
                    connection.execute(statement, [Jsonb({"n": number}), topic])
            connection.execute("select realtime.send('{}', 'note', %s, false)", [topic])
            connection.execute("select realtime.send_binary('\\x00ff', 'note', %s)", [topic])
        for _ in range(4):
            await early.receive()
        assert (await early.receive()).endswith(b"}\x00\xff")

    def config(limit: int, key: str = "since") -> dict[str, object]:
        replay = {key: since, "limit": limit}
        return {"config": {"private": True, "broadcast": {"replay": replay}}}

    async with bare_socket(stack, token) as socket, bare_socket(stack, token) as few:
        assert (await socket.join(f"realtime:{topic}", config(25)))["status"] == "ok"
        for number in range(3):
            join_ref, ref, _, event, payload = await socket.receive()
            assert (join_ref, ref, event, payload["event"]) == ("1", None, "broadcast", "note")
            assert payload["payload"]["n"] == number
            assert payload["meta"] == {"replayed": True, "id": payload["payload"]["id"]}
        frame = await socket.receive()
        size = frame[3]
        assert frame[:5] == bytes([4, len(name), 4, size, 0])
        assert frame.endswith(b"}\x00\xff")
        meta = json.loads(frame[5 + len(name) + 4 :][:size])
        assert meta["replayed"] is True

        # the newest
        assert (await few.join(f"realtime:{topic}", config(2)))["status"] == "ok"
        assert (await few.receive())[4]["payload"]["n"] == 2
        assert (await few.receive()).endswith(b"\x00\xff")

        # what comes live has its id alone
        with write(database) as connection:
            connection.execute("select realtime.send_binary('\\x01', 'note', %s)", [topic])
        for each in (socket, few):
            frame = await each.receive()
            assert frame.endswith(b"}\x01")
            assert b"replayed" not in frame

    async with bare_socket(stack, mint_user_token(stack.signing_key, user_id=BOB)) as socket:
        refused = await socket.join(f"realtime:{topic}", config(25))
        assert "You do not have permissions to read" in refused["response"]["reason"]


async def test_who_may_not_write_to_a_private_topic_is_not_heard(stack: Stack) -> None:
    async with official_client(stack, ALICE) as alice, official_client(stack, BOB) as bob:
        board = await listen(alice, "board:1", private=True)
        room = await listen(alice, "room:1", private=True)
        his_board = await listen(bob, "board:1", private=True)
        his_room = await listen(bob, "room:1", private=True)
        for ear in (board, room, his_board, his_room):
            assert await ear.state() == (RealtimeSubscribeStates.SUBSCRIBED, "")

        await his_board.channel.send_broadcast("note", {"n": 1})
        await his_room.channel.send_broadcast("note", {"n": 2})

        assert (await room.broadcast())["payload"] == {"n": 2}
        assert board.broadcasts.empty()


async def test_a_client_that_does_not_read_is_cut_off_and_keeps_nobody_waiting(
    stack: Stack, database: Database
) -> None:
    # the system may take tens of megabytes for a client that does not read: then it is not slow
    async with (
        bare_socket(stack, receive_buffer=65_536) as slow,
        bare_socket(stack) as quick,
    ):
        await slow.join("realtime:flood", {})
        await quick.join("realtime:flood", {})

        for _ in range(60):
            send(database, "flood", {"text": "x" * 1_000_000}, private=False)
            await quick.receive()

        assert await slow.drain() == 1013
