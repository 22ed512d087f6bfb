"""Broadcasts over /realtime/v1, from the database and from clients, under RLS."""

from __future__ import annotations

from collections.abc import Iterator

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
