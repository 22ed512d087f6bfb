"""What clients broadcast over /realtime/v1, and that they can't on topics that carry data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import psycopg
import pytest
from realtime import RealtimeSubscribeStates
from tests.integration.realtime_clients import bare_socket, listen, official_client, write
from tests.stacks import copy_of
from tests.world import ALPINE, STAFF, seed_uuid

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

POLICIES = """
    create table public.typists (user_id uuid);
    grant select on public.typists to authenticated;

    create policy "all users hear who types in tests"
        on realtime.messages
        for select
        to authenticated
        using (extension = 'broadcast' and realtime.topic() like 'typing:test:%');
    create policy "typists type in tests"
        on realtime.messages
        for insert
        to authenticated
        with check (
            extension = 'broadcast'
            and realtime.topic() like 'typing:test:%'
            and exists (select from public.typists t where t.user_id = auth.uid())
        );
"""
TYPING = "typing:test:room"
ACKNOWLEDGED = {"private": True, "broadcast": {"ack": True, "self": True}}
OK = {"status": "ok", "response": {}}


@pytest.fixture(scope="module")
def world_template(cluster: Cluster, world_template: Database) -> Iterator[Database]:
    """Two businesses, and policies of these tests' own."""
    with copy_of(cluster, world_template) as database:
        with psycopg.connect(database.url("postgres")) as connection:
            connection.execute(POLICIES)
        yield database


@pytest.fixture
def database(world_database: Database) -> Database:
    """Of this module, two businesses."""
    return world_database


@pytest.fixture
def stack(database: Database, start: Callable[..., Stack]) -> Stack:
    """Olivia and Andrej may type; everybody hears."""
    with psycopg.connect(database.url("postgres")) as connection:
        connection.execute(
            "insert into typists select unnest(%s::uuid[])",
            [[seed_uuid("olivia"), seed_uuid("andrej")]],
        )
    return start("gateway")


def token_of(stack: Stack, name: str, number: int = 0) -> str:
    return mint_user_token(stack.signing_key, user_id=seed_uuid(name), user_metadata={"n": number})


def account_topic(database: Database) -> str:
    """Alpine's topic, as the database names it today."""
    with write(database) as connection:
        row = connection.execute("select private.account_topic(%s)", [ALPINE]).fetchone()
    assert row is not None
    return str(row[0])


def heard(frame: bytes) -> object:
    """The payload of a broadcast of `note` on the typing topic."""
    topic = f"realtime:{TYPING}".encode()
    head = bytes([4, len(topic), 4, 0, 1]) + topic + b"note"
    assert frame.startswith(head)
    return json.loads(frame.removeprefix(head))


async def test_nobody_hears_what_a_client_sends_on_a_topic_that_carries_data(
    stack: Stack, database: Database
) -> None:
    topic = account_topic(database)
    note = {"event": "messages.inserted", "payload": {"record": {"text": "forged"}}}
    async with official_client(stack, seed_uuid("olivia")) as olivia:
        ear = await listen(olivia, topic, event="messages.inserted", private=True)
        assert await ear.state() == (RealtimeSubscribeStates.SUBSCRIBED, "")
        for name in ("olivia", "adam", "andrej", "vera"):
            async with bare_socket(stack, token_of(stack, name)) as socket:
                joined = await socket.join(f"realtime:{topic}", {"config": ACKNOWLEDGED})
                assert joined["status"] == "ok", name
                await socket.send("1", "2", f"realtime:{topic}", "broadcast", note)
                await socket.send("1", "3", f"realtime:{topic}", "phx_leave", {})
                # dropped in silence: the first answer is to what came after
                assert (await socket.receive())[1] == "3"
        with write(database) as connection:
            connection.execute(
                "select realtime.send('{\"n\": 1}', 'messages.inserted', %s)", [topic]
            )

        assert (await ear.broadcast())["payload"]["n"] == 1
        assert ear.broadcasts.empty()


async def test_nobody_is_present_on_a_topic_that_carries_data(
    stack: Stack, database: Database
) -> None:
    topic = f"realtime:{account_topic(database)}"
    presence = {"enabled": True, "key": "olivia"}
    async with (
        bare_socket(stack, token_of(stack, "andrej")) as andrej,
        bare_socket(stack, token_of(stack, "olivia")) as olivia,
    ):
        for socket in (andrej, olivia):
            joined = await socket.join(topic, {"config": {"private": True, "presence": presence}})
            assert joined["status"] == "ok"
        await andrej.send("1", "2", topic, "presence", {"event": "track", "payload": {}})
        answer = await andrej.receive()
        assert (answer[1], answer[4]["status"]) == ("2", "error")
        await olivia.send("1", "3", topic, "phx_leave", {})

        # neither a state before this nor a diff
        assert (await olivia.receive())[1] == "3"


async def test_another_business_neither_hears_nor_sends(stack: Stack, database: Database) -> None:
    topic = account_topic(database)
    assert STAFF["ana"][0] != ALPINE
    note = {"event": "messages.inserted", "payload": {}}
    async with (
        official_client(stack, seed_uuid("olivia")) as olivia,
        bare_socket(stack, token_of(stack, "ana")) as ana,
    ):
        ear = await listen(olivia, topic, event="messages.inserted", private=True)
        refused = await ana.join(f"realtime:{topic}", {"config": ACKNOWLEDGED})
        assert "You do not have permissions to read" in refused["response"]["reason"]
        await ana.send("1", "2", f"realtime:{topic}", "broadcast", note)
        assert (await ana.receive())[4]["response"] == {"reason": "unmatched topic"}

        # a public channel of the same name is another
        await ana.join(f"realtime:{topic}", {"config": {"broadcast": {"ack": True}}})
        await ana.send("1", "3", f"realtime:{topic}", "broadcast", note)
        assert (await ana.receive())[4] == OK
        with write(database) as connection:
            connection.execute(
                "select realtime.send('{\"n\": 1}', 'messages.inserted', %s)", [topic]
            )

        assert (await ear.broadcast())["payload"]["n"] == 1
        assert ear.broadcasts.empty()


async def test_those_who_may_send_are_heard_by_the_others(stack: Stack) -> None:
    topic = f"realtime:{TYPING}"
    async with (
        official_client(stack, seed_uuid("olivia")) as olivia,
        official_client(stack, seed_uuid("adam")) as adam,
        bare_socket(stack, token_of(stack, "andrej")) as andrej,
        bare_socket(stack, token_of(stack, "vera")) as vera,
    ):
        hers = await listen(olivia, TYPING, private=True)
        adams = await listen(adam, TYPING, private=True)
        await andrej.join(topic, {"config": ACKNOWLEDGED})
        await vera.join(topic, {"config": ACKNOWLEDGED})

        await hers.channel.send_broadcast("note", {"n": 1})
        for socket in (andrej, vera):
            assert heard(await socket.receive()) == {"n": 1}
        assert (await adams.broadcast())["payload"] == {"n": 1}

        # vera may only hear
        await vera.send("1", "2", topic, "broadcast", {"event": "note", "payload": {"n": 2}})
        await vera.send(None, "h", "phoenix", "heartbeat", {})
        assert (await vera.receive())[1] == "h"

        await andrej.send("1", "3", topic, "broadcast", {"event": "note", "payload": {"n": 3}})
        for socket in (andrej, vera):
            assert heard(await socket.receive()) == {"n": 3}
        assert await andrej.receive() == ["1", "3", topic, "phx_reply", OK]
        assert (await adams.broadcast())["payload"] == {"n": 3}
        # not her own, which she did not ask for
        assert (await hers.broadcast())["payload"] == {"n": 3}


async def test_the_right_to_send_is_asked_for_once_with_each_token(
    stack: Stack, database: Database
) -> None:
    topic = f"realtime:{TYPING}"
    async with bare_socket(stack, token_of(stack, "andrej")) as andrej:
        await andrej.join(topic, {"config": ACKNOWLEDGED})

        async def send(number: int) -> None:
            note = {"event": "note", "payload": {"n": number}}
            await andrej.send("1", str(number), topic, "broadcast", note)

        async def use_new_token(number: int) -> None:
            token = token_of(stack, "andrej", number)
            await andrej.send("1", "t", topic, "access_token", {"access_token": token})

        await send(10)
        assert heard(await andrej.receive()) == {"n": 10}
        assert (await andrej.receive())[1] == "10"
        with write(database) as connection:
            connection.execute("delete from typists where user_id = %s", [seed_uuid("andrej")])
            await send(11)
            assert heard(await andrej.receive()) == {"n": 11}
            assert (await andrej.receive())[1] == "11"

            await use_new_token(1)
            await send(12)
            await andrej.send(None, "h", "phoenix", "heartbeat", {})
            assert (await andrej.receive())[1] == "h"

            connection.execute("insert into typists values (%s)", [seed_uuid("andrej")])
        await use_new_token(2)
        await send(13)
        assert heard(await andrej.receive()) == {"n": 13}


async def test_a_broadcast_has_a_size(stack: Stack) -> None:
    topic = f"realtime:{TYPING}"
    async with (
        bare_socket(stack, token_of(stack, "andrej")) as andrej,
        bare_socket(stack, token_of(stack, "vera")) as vera,
    ):
        await andrej.join(topic, {"config": ACKNOWLEDGED})
        await vera.join(topic, {"config": {"private": True}})
        for text in ("x" * 3_100_000, "y"):
            note = {"event": "note", "payload": {"text": text}}
            await andrej.send("1", "2", topic, "broadcast", note)

        assert (await andrej.receive())[4] == {
            "status": "error",
            "response": {"reason": "payload_size_exceeded"},
        }
        assert heard(await vera.receive()) == {"text": "y"}
