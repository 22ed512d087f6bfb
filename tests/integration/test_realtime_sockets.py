"""The websocket of /realtime/v1: handshake, joins, tokens, and a database that goes away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta

import jwt
import pytest
from tests.integration.realtime_clients import (
    ALICE,
    BOB,
    bare_socket,
    listen,
    official_client,
    websocket_url,
    write,
)
from tests.stacks import Start, changed_copy_of
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

SCHEMA = """
    create policy "users read their own topic"
        on realtime.messages
        for select
        to authenticated
        using (realtime.topic() = 'user:' || auth.uid());

    create table public.notes (id int primary key, owner_id uuid);
    alter table public.notes enable row level security;
    grant select on public.notes to authenticated;
    create policy "users read their own notes"
        on public.notes
        for select
        to authenticated
        using (owner_id = auth.uid());
    alter publication supabase_realtime add table public.notes;
"""
NOTES = {"config": {"postgres_changes": [{"event": "*", "schema": "public", "table": "notes"}]}}


@pytest.fixture(scope="module")
def template(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """What a hosted project has, with a schema of these tests' own."""
    with changed_copy_of(cluster, prepared, SCHEMA) as database:
        yield database


@pytest.fixture
def stack(start: Start) -> Stack:
    return start("gateway")


@pytest.fixture
def own_stack(own_start: Start) -> Stack:
    return own_start("gateway")


async def test_a_connection_without_a_valid_token_is_refused(stack: Stack) -> None:
    def signed(claims: dict[str, object], secret: str = stack.jwt_secret) -> dict[str, str]:
        return {"apikey": jwt.encode(claims, secret, "HS256")}

    later = time.time() + 1000
    refusals = [
        ({}, "API key is missing"),
        ({"apikey": "x"}, "The token provided is not a valid JWT"),
        (signed({"role": "anon", "exp": 1}), "Token has expired"),
        (signed({"role": "anon"}), "Fields `role` and `exp` are required in JWT"),
        (
            signed({"role": "anon", "exp": later}, "another secret of thirty-two bytes"),
            "Failed to validate JWT signature",
        ),
    ]
    for query, reason in refusals:
        with pytest.raises(InvalidStatus) as refused:
            await connect(websocket_url(stack, **query))

        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"") == {"error": reason}


async def test_a_header_may_carry_the_key(stack: Stack) -> None:
    headers = {"x-api-key": stack.publishable_key}
    async with connect(websocket_url(stack, apikey="x"), additional_headers=headers) as connection:
        message: dict[str, object] = {
            "topic": "phoenix",
            "event": "heartbeat",
            "payload": {},
            "ref": None,
        }
        await connection.send(json.dumps(message))

        assert json.loads(await connection.recv()) == {
            "topic": "phoenix",
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {}},
            "ref": None,
        }


async def test_a_channel_lives_from_join_to_leave(stack: Stack) -> None:
    topic = "realtime:chat"
    closed = "phx_close"
    async with bare_socket(stack) as socket:
        assert await socket.join(topic, {}, join_ref="1") == {
            "status": "ok",
            "response": {"postgres_changes": []},
        }

        await socket.send("2", "2", topic, "phx_join", {})
        assert await socket.receive() == ["1", "1", topic, closed, {}]
        assert (await socket.receive())[:2] == ["2", "2"]

        await socket.send("2", "3", topic, "phx_leave", {})
        reply = {"status": "ok", "response": {}}
        assert await socket.receive() == ["2", "3", topic, "phx_reply", reply]
        assert await socket.receive() == ["2", "2", topic, closed, {}]

        await socket.send("2", "4", topic, "broadcast", {"event": "a", "payload": {}})
        assert (await socket.receive())[4] == {
            "status": "error",
            "response": {"reason": "unmatched topic"},
        }


async def test_a_join_that_can_not_be_is_refused(stack: Stack) -> None:
    database_away = "Realtime was unable to connect to the project database"
    refusals: list[tuple[str, dict[str, object], str]] = [
        ("elsewhere:chat", {}, "unmatched topic"),
        ("realtime:", {}, "TopicNameRequired: You must provide a topic name"),
        (
            "realtime:chat",
            {"access_token": "x"},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        ("realtime:nul\0", {"config": {"private": True}}, database_away),
        (
            "realtime:chat",
            {"config": {"broadcast": {"persist": True}}},
            "InvalidJoinPayload: config.broadcast.persist: unknown option",
        ),
        (
            "realtime:chat",
            {"config": {"broadcast": {"replay": {"since": 1}}}},
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
    ]
    async with bare_socket(stack) as socket:
        for topic, payload, reason in refusals:
            reply = await socket.join(topic, payload)

            assert reply == {"status": "error", "response": {"reason": reason}}


async def test_an_event_that_is_not_known_is_answered(stack: Stack) -> None:
    async with bare_socket(stack) as socket:
        await socket.join("realtime:chat", {})

        await socket.send("1", "2", "realtime:chat", "dance", {})

        assert (await socket.receive())[4] == {
            "status": "error",
            "response": {"reason": "unsupported event: dance"},
        }


async def test_a_frame_that_is_no_message_ends_the_connection(stack: Stack) -> None:
    async with bare_socket(stack) as socket:
        await socket.send("not five")

        assert await socket.drain() == 1007


async def test_one_connection_has_at_most_a_hundred_channels(stack: Stack) -> None:
    async with bare_socket(stack) as socket:
        for number in range(100):
            assert (await socket.join(f"realtime:{number}", {}))["status"] == "ok"

        assert (await socket.join("realtime:more", {}))["response"] == {
            "reason": "ChannelRateLimitReached: Too many channels"
        }


async def test_a_channel_ends_with_its_token(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE, lifetime=timedelta(seconds=2))
    topic = f"realtime:user:{ALICE}"
    async with bare_socket(stack) as socket:
        join = {"config": {"private": True}, "access_token": token}
        assert (await socket.join(topic, join))["status"] == "ok"

        assert (await socket.receive())[2:] == [
            topic,
            "system",
            {
                "extension": "system",
                "status": "error",
                "message": "Token has expired 0 seconds ago",
                "channel": f"user:{ALICE}",
            },
        ]
        assert await socket.receive() == ["1", "1", topic, "phx_close", {}]


async def test_a_new_token_takes_the_place_of_one_that_ends(stack: Stack) -> None:
    short = mint_user_token(stack.signing_key, user_id=ALICE, lifetime=timedelta(seconds=2))
    topic = f"realtime:user:{ALICE}"
    async with bare_socket(stack) as socket:
        join = {"config": {"private": True}, "access_token": short}
        assert (await socket.join(topic, join))["status"] == "ok"
        assert (await socket.join("realtime:clock", {"access_token": short}))["status"] == "ok"

        token = mint_user_token(stack.signing_key, user_id=ALICE)
        await socket.send("1", "2", topic, "access_token", {"access_token": token})

        # the channel that kept the short one tells when its time is over
        assert (await socket.receive())[2] == "realtime:clock"
        assert (await socket.receive())[2:4] == ["realtime:clock", "phx_close"]
        await socket.send("1", "3", topic, "phx_leave", {})
        assert (await socket.receive())[4]["status"] == "ok"


async def test_a_token_that_may_not_read_the_topic_ends_the_channel(stack: Stack) -> None:
    topic = f"realtime:user:{ALICE}"
    async with bare_socket(stack, mint_user_token(stack.signing_key, user_id=ALICE)) as socket:
        assert (await socket.join(topic, {"config": {"private": True}}))["status"] == "ok"

        token = mint_user_token(stack.signing_key, user_id=BOB)
        await socket.send("1", "2", topic, "access_token", {"access_token": token})

        assert (await socket.receive())[4]["message"] == (
            f"You no longer have permission to read from this Channel topic: user:{ALICE}"
        )
        assert (await socket.receive())[3] == "phx_close"


async def test_changes_follow_the_user_of_a_new_token(stack: Stack, database: Database) -> None:
    async with bare_socket(stack, mint_user_token(stack.signing_key, user_id=ALICE)) as socket:
        await socket.join("realtime:notes", NOTES)
        assert (await socket.receive())[4]["message"] == "Subscribed to PostgreSQL"

        token = mint_user_token(stack.signing_key, user_id=BOB)
        await socket.send("1", "2", "realtime:notes", "access_token", {"access_token": token})
        assert (await socket.receive())[4]["message"] == "Subscribed to PostgreSQL"
        with write(database) as connection:
            connection.execute(
                "insert into notes values (1, %(alice)s), (2, %(bob)s)",
                {"alice": ALICE, "bob": BOB},
            )

        assert (await socket.receive())[4]["data"]["record"]["id"] == 2


async def test_everything_flows_again_after_the_database_went_away(
    own_stack: Stack, own_database: Database
) -> None:
    async with official_client(own_stack, ALICE) as alice:
        binding = {"event": "*", "schema": "public", "table": "notes"}
        ear = await listen(alice, f"user:{ALICE}", private=True, changes=(binding,))
        assert await ear.system() == "Subscribed to PostgreSQL"

        with own_database.cluster.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
                [own_database.name],
            )

        assert await ear.system() == "Subscribed to PostgreSQL"
        with write(own_database) as connection:
            connection.execute("insert into notes values (1, %s)", [ALICE])
            connection.execute("select realtime.send('{}', 'note', %s)", [f"user:{ALICE}"])
        assert (await ear.change())["data"]["record"]["id"] == 1
        await ear.broadcast()
