"""Presence over /realtime/v1: who is there, told to the users who may see it, under RLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimeChannelOptions,
    RealtimeSubscribeStates,
)
from tests.integration.realtime_clients import (
    ALICE,
    BOB,
    SECONDS,
    BareSocket,
    Payload,
    bare_socket,
    official_client,
    websocket_url,
    write,
)
from tests.stacks import changed_copy_of
from websockets.asyncio.client import connect

from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import mint_user_token

# each row is a right to one topic: to see, to be seen, or to hear broadcasts
SCHEMA = """
    create table public.rights (user_id uuid, topic text, extension text, may text);
    grant select on public.rights to authenticated;

    create policy "users see what they have a right to"
        on realtime.messages
        for select
        to authenticated
        using (exists (
            select from public.rights r
            where r.user_id = auth.uid()
              and r.topic = realtime.topic()
              and r.extension = realtime.messages.extension
              and r.may = 'read'
        ));
    create policy "users write where they have a right to"
        on realtime.messages
        for insert
        to authenticated
        with check (exists (
            select from public.rights r
            where r.user_id = auth.uid()
              and r.topic = realtime.topic()
              and r.extension = realtime.messages.extension
              and r.may = 'write'
        ));
"""
ROOM = "presence:test:room"
TOPIC = f"realtime:{ROOM}"
OK = {"status": "ok", "response": {}}


@pytest.fixture(scope="module")
def template(cluster: Cluster, prepared: Database) -> Iterator[Database]:
    """What a hosted project has, without the schema of sql/, and a table of rights."""
    with changed_copy_of(cluster, prepared, SCHEMA) as database:
        yield database


@pytest.fixture
def stack(database: Database, start: Callable[..., Stack]) -> Stack:
    """Both users may see who is in the room and be there; tests take from that what they need."""
    with psycopg.connect(database.url("postgres")) as connection:
        connection.execute(
            """
            insert into rights
            select user_id, %(room)s, 'presence', may
            from unnest(%(users)s::uuid[]) as user_id, unnest('{read,write}'::text[]) as may
            """,
            {"room": ROOM, "users": [ALICE, BOB]},
        )
    return start("gateway")


def revoke(database: Database, user: object, may: str) -> None:
    with write(database) as connection:
        connection.execute(
            "delete from rights where user_id = %s and may = %s and topic = %s", [user, may, ROOM]
        )


def grant(database: Database, user: object, may: str, extension: str = "presence") -> None:
    with write(database) as connection:
        connection.execute(
            "insert into rights values (%s, %s, %s, %s)", [user, ROOM, extension, may]
        )


@dataclass
class Door:
    """A channel of the official client, and who it saw come and go."""

    channel: AsyncRealtimeChannel
    joins: asyncio.Queue[tuple[str, list[Payload]]] = field(default_factory=asyncio.Queue)
    leaves: asyncio.Queue[tuple[str, list[Payload]]] = field(default_factory=asyncio.Queue)
    states: asyncio.Queue[RealtimeSubscribeStates] = field(default_factory=asyncio.Queue)

    async def join(self) -> tuple[str, list[Payload]]:
        return await asyncio.wait_for(self.joins.get(), SECONDS)

    async def leave(self) -> tuple[str, list[Payload]]:
        return await asyncio.wait_for(self.leaves.get(), SECONDS)

    @property
    def present(self) -> dict[str, list[Payload]]:
        state = self.channel.presence_state()
        return {key: [_plain(each) for each in state[key]] for key in state}


def _plain(presence: Any) -> Payload:
    return {name: presence[name] for name in presence if name != "presence_ref"}


async def enter(
    client: AsyncRealtimeClient, key: str, topic: str = ROOM, *, private: bool = True
) -> Door:
    options: RealtimeChannelOptions = {
        "config": {
            "broadcast": None,
            "presence": {"key": key, "enabled": False},
            "private": private,
        }
    }
    door = Door(client.channel(topic, options))

    def joined(key: str, _: list[Any], new: list[Any]) -> None:
        door.joins.put_nowait((key, [_plain(each) for each in new]))

    def left(key: str, _: list[Any], gone: list[Any]) -> None:
        door.leaves.put_nowait((key, [_plain(each) for each in gone]))

    door.channel.on_presence_join(joined)
    door.channel.on_presence_leave(left)
    await door.channel.subscribe(lambda state, _: door.states.put_nowait(state))
    return door


def watching(key: str = "") -> Payload:
    return {"config": {"private": True, "presence": {"enabled": True, "key": key}}}


async def track(socket: BareSocket, payload: object, topic: str = TOPIC) -> None:
    await socket.send("1", "t", topic, "presence", {"event": "track", "payload": payload})


async def answer(socket: BareSocket, topic: str = TOPIC) -> Payload:
    """The answer to the last presence call, which comes before anything else."""
    join_ref, ref, heard_on, event, payload = await socket.receive()
    assert (join_ref, ref, heard_on, event) == ("1", "t", topic, "phx_reply")
    response: Payload = payload
    return response


async def refusal(socket: BareSocket) -> str:
    payload = await answer(socket)
    assert payload["status"] == "error"
    reason: str = payload["response"]["reason"]
    return reason


async def test_those_in_a_room_see_each_other_come_and_go(stack: Stack) -> None:
    async with official_client(stack, ALICE) as alice, official_client(stack, BOB) as bob:
        hers = await enter(alice, "alice")
        await hers.channel.track({"status": "here"})
        assert await hers.join() == ("alice", [{"status": "here"}])

        his = await enter(bob, "bob")
        assert await his.join() == ("alice", [{"status": "here"}])
        await his.channel.track({"status": "away"})
        assert await hers.join() == ("bob", [{"status": "away"}])
        assert await his.join() == ("bob", [{"status": "away"}])
        assert (
            hers.present
            == his.present
            == {
                "alice": [{"status": "here"}],
                "bob": [{"status": "away"}],
            }
        )

        await his.channel.track({"status": "back"})
        assert await hers.join() == ("bob", [{"status": "back"}])
        assert await hers.leave() == ("bob", [{"status": "away"}])
        assert hers.present["bob"] == [{"status": "back"}]

        await his.channel.untrack()
        assert await hers.leave() == ("bob", [{"status": "back"}])
        assert hers.present == {"alice": [{"status": "here"}]}

        await hers.channel.unsubscribe()
        # before that he saw himself go
        assert [await his.leave() for _ in range(2)] == [
            ("bob", [{"status": "away"}]),
            ("bob", [{"status": "back"}]),
        ]
        assert await his.leave() == ("alice", [{"status": "here"}])
        assert his.present == {}


async def test_one_person_is_there_as_often_as_they_have_tabs(stack: Stack) -> None:
    async with official_client(stack, BOB) as bob:
        async with official_client(stack, ALICE) as first:
            async with official_client(stack, ALICE) as second:
                for tab, number in ((first, 1), (second, 2)):
                    door = await enter(tab, "alice")
                    await door.channel.track({"tab": number})
                    while door.present.get("alice", [])[-1:] != [{"tab": number}]:
                        await door.join()
                his = await enter(bob, "bob")
                await his.join()
                assert his.present == {"alice": [{"tab": 1}, {"tab": 2}]}

            assert await his.leave() == ("alice", [{"tab": 2}])
            assert his.present == {"alice": [{"tab": 1}]}

        assert await his.leave() == ("alice", [{"tab": 1}])
        assert his.present == {}


async def test_a_connection_that_breaks_off_is_a_leave(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    url = websocket_url(stack, apikey=token, vsn="2.0.0")
    async with official_client(stack, BOB) as bob, connect(url) as connection:
        his = await enter(bob, "bob")
        socket = BareSocket(connection)
        await socket.join(TOPIC, watching("alice"))
        await track(socket, {"status": "here"})
        assert await his.join() == ("alice", [{"status": "here"}])

        connection.transport.abort()

        assert await his.leave() == ("alice", [{"status": "here"}])


async def test_what_goes_over_the_wire_is_as_hosted(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=ALICE)
    async with bare_socket(stack, token) as socket, bare_socket(stack, token) as other:
        await socket.join(TOPIC, watching("alice"))
        assert await socket.receive() == ["1", None, TOPIC, "presence_state", {}]

        await track(socket, {"n": 1})
        assert await answer(socket) == OK
        diff = await socket.receive()
        ref = diff[4]["joins"]["alice"]["metas"][0]["phx_ref"]
        here = {"alice": {"metas": [{"phx_ref": ref, "n": 1}]}}
        assert diff == [None, None, TOPIC, "presence_diff", {"joins": here, "leaves": {}}]

        await other.join(TOPIC, watching())
        assert await other.receive() == ["1", None, TOPIC, "presence_state", here]

        # without a key of its own a client gets one
        await track(other, {})
        assert await answer(other) == OK
        (key,) = (await socket.receive())[4]["joins"]
        assert len(key) == 36


async def test_tracking_lets_one_see_who_else_is_there(stack: Stack, database: Database) -> None:
    grant(database, BOB, "read", "broadcast")
    async with (
        official_client(stack, ALICE) as alice,
        bare_socket(stack, mint_user_token(stack.signing_key, user_id=BOB)) as socket,
    ):
        hers = await enter(alice, "alice")
        await hers.channel.track({})
        await hers.join()

        await socket.join(TOPIC, {"config": {"private": True, "presence": {"key": "bob"}}})
        await track(socket, {})

        assert await answer(socket) == OK
        event, state = (await socket.receive())[3:]
        assert event == "presence_state"
        assert state.keys() == {"alice", "bob"}


async def test_who_may_not_be_there_is_not_seen(stack: Stack, database: Database) -> None:
    revoke(database, BOB, "write")
    async with (
        official_client(stack, ALICE) as alice,
        official_client(stack, BOB) as bob,
        bare_socket(stack, mint_user_token(stack.signing_key, user_id=BOB)) as socket,
    ):
        hers = await enter(alice, "alice")
        his = await enter(bob, "olivia")
        await his.channel.track({"status": "posing"})
        await socket.join(TOPIC, watching("olivia"))
        await socket.receive()

        await track(socket, {"status": "posing"})

        assert await refusal(socket) == (
            f"You do not have permissions to track presence on this Channel topic: {ROOM}"
        )
        await hers.channel.track({"status": "here"})
        assert await hers.join() == ("alice", [{"status": "here"}])
        # who may only look sees
        assert await his.join() == ("alice", [{"status": "here"}])
        assert hers.present == his.present == {"alice": [{"status": "here"}]}


async def test_who_may_not_see_is_told_of_nobody(stack: Stack, database: Database) -> None:
    revoke(database, BOB, "read")
    token = mint_user_token(stack.signing_key, user_id=BOB)
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token) as socket:
        refused = await socket.join(TOPIC, watching("bob"))
        assert refused["response"]["reason"] == (
            f"Unauthorized: You do not have permissions to read from this Channel topic: {ROOM}"
        )

        # the right to hear broadcasts is not the right to see who is there
        grant(database, BOB, "read", "broadcast")
        assert (await socket.join(TOPIC, watching("bob")))["status"] == "ok"
        hers = await enter(alice, "alice")
        await hers.channel.track({})
        await hers.join()
        await track(socket, {"seen": True})
        assert await answer(socket) == OK
        assert await hers.join() == ("bob", [{"seen": True}])
        with write(database) as connection:
            connection.execute("select realtime.send('{}', 'note', %s)", [ROOM])

        heard = await socket.receive()
        assert isinstance(heard, bytes)


async def test_who_may_only_see_who_is_there_hears_no_broadcast(
    stack: Stack, database: Database
) -> None:
    grant(database, BOB, "read", "broadcast")
    grant(database, BOB, "write", "broadcast")
    async with (
        bare_socket(stack, mint_user_token(stack.signing_key, user_id=ALICE)) as hers,
        bare_socket(stack, mint_user_token(stack.signing_key, user_id=BOB)) as his,
    ):
        await hers.join(TOPIC, watching("alice"))
        await hers.receive()
        config = watching("bob")["config"] | {"broadcast": {"ack": True, "self": True}}
        await his.join(TOPIC, {"config": config})
        await his.receive()

        await his.send("1", "b", TOPIC, "broadcast", {"event": "note", "payload": {}})
        assert isinstance(await his.receive(), bytes)
        assert await his.receive() == ["1", "b", TOPIC, "phx_reply", OK]
        await track(his, {})

        assert (await hers.receive())[3] == "presence_diff"


async def test_rooms_know_nothing_of_each_other(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=BOB)
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token) as socket:
        other = "realtime:presence:test:other"
        refused = await socket.join(other, watching("bob"))
        assert refused["status"] == "error"
        hers = await enter(alice, "alice")
        public = await enter(alice, "alice", "presence:test:public", private=False)

        # the public channel of the room's name is another, and anybody's
        config = {"config": {"presence": {"enabled": True, "key": "x"}}}
        await socket.join(TOPIC, config)
        assert (await socket.receive())[3:] == ["presence_state", {}]
        await track(socket, {"status": "posing"})
        assert await answer(socket) == OK
        assert (await socket.receive())[4]["joins"].keys() == {"x"}

        await public.channel.track({})
        assert (await public.join())[0] == "alice"
        await hers.channel.track({})
        assert (await hers.join())[0] == "alice"
        assert hers.present.keys() == {"alice"}


async def test_a_new_token_has_its_own_rights(stack: Stack, database: Database) -> None:
    def token() -> str:
        # each has an identity of its own, so that none counts as the one before
        numbers.append(len(numbers))
        metadata = {"n": numbers[-1]}
        return mint_user_token(stack.signing_key, user_id=BOB, user_metadata=metadata)

    async def refresh() -> None:
        await socket.send("1", "2", TOPIC, "access_token", {"access_token": token()})

    numbers: list[int] = []
    revoke(database, BOB, "write")
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token()) as socket:
        hers = await enter(alice, "alice")
        await socket.join(TOPIC, watching("bob"))
        await socket.receive()
        await track(socket, {"n": 1})
        assert "permissions" in await refusal(socket)

        # what was asked once holds until the next token
        grant(database, BOB, "write")
        await track(socket, {"n": 2})
        assert "permissions" in await refusal(socket)
        await refresh()
        await track(socket, {"n": 3})
        assert await answer(socket) == OK
        assert await hers.join() == ("bob", [{"n": 3}])
        await socket.receive()

        revoke(database, BOB, "write")
        await refresh()
        await track(socket, {"n": 4})
        assert "permissions" in await refusal(socket)
        assert hers.present == {"bob": [{"n": 3}]}

        revoke(database, BOB, "read")
        await refresh()
        assert (await socket.receive())[4]["message"] == (
            f"You no longer have permission to read from this Channel topic: {ROOM}"
        )
        assert (await socket.receive())[3] == "phx_close"
        assert await hers.leave() == ("bob", [{"n": 3}])


async def test_presence_ends_with_its_token(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=BOB, lifetime=timedelta(seconds=2))
    async with official_client(stack, ALICE) as alice, bare_socket(stack) as socket:
        hers = await enter(alice, "alice")
        await socket.join(TOPIC, watching("bob") | {"access_token": token})
        await track(socket, {})
        assert (await hers.join())[0] == "bob"

        assert (await hers.leave())[0] == "bob"


async def test_joining_anew_ends_what_was_tracked_before(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=BOB)
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token) as socket:
        hers = await enter(alice, "alice")
        await socket.join(TOPIC, watching("bob"))
        await track(socket, {})
        assert (await hers.join())[0] == "bob"

        await socket.send("2", "2", TOPIC, "phx_join", watching("bob"))

        assert (await hers.leave())[0] == "bob"
        assert hers.present == {}


async def test_what_presence_can_not_carry_is_refused(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=BOB)
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token) as socket:
        hers = await enter(alice, "alice")
        await socket.join(TOPIC, watching("bob"))
        await socket.receive()

        await track(socket, [1])
        assert await refusal(socket) == "Presence track payload must be a map"
        await track(socket, {str(number): number for number in range(11)})
        assert await refusal(socket) == "Presence track payload has over 10 keys"
        await socket.send("1", "t", TOPIC, "presence", {"event": "dance"})
        assert await refusal(socket) == "a presence event is track or untrack"
        await socket.send("1", "t", TOPIC, "presence", 5)
        assert await refusal(socket) == "a presence event is track or untrack"
        await track(socket, {"text": "x" * 70_000})
        assert (await socket.receive())[4]["message"] == "Track message size exceeded"
        assert (await socket.receive())[3] == "phx_close"

        await hers.channel.track({})
        assert (await hers.join())[0] == "alice"
        assert hers.present.keys() == {"alice"}


async def test_a_client_that_calls_too_often_is_put_out(stack: Stack) -> None:
    token = mint_user_token(stack.signing_key, user_id=BOB)
    async with official_client(stack, ALICE) as alice, bare_socket(stack, token) as socket:
        hers = await enter(alice, "alice")
        await socket.join(TOPIC, watching("bob"))
        await socket.receive()
        await track(socket, {})
        assert await answer(socket) == OK
        assert (await socket.receive())[3] == "presence_diff"

        for _ in range(5):
            await track(socket, {})
        for _ in range(4):
            assert await answer(socket) == OK

        assert (await socket.receive())[4]["message"] == "Client presence rate limit exceeded"
        assert (await socket.receive())[3] == "phx_close"
        assert (await hers.leave())[0] == "bob"


# the last one, since it leaves another schema
async def test_a_policy_that_raises_lets_nobody_in(stack: Stack, database: Database) -> None:
    revoke(database, BOB, "read")
    grant(database, BOB, "read", "broadcast")
    with write(database) as connection:
        connection.execute(
            """
            create policy "a broken policy"
                on realtime.messages
                for select
                to authenticated
                using (1 / (length(extension) - length('presence')) > 0)
            """
        )
    async with bare_socket(stack, mint_user_token(stack.signing_key, user_id=BOB)) as socket:
        refused = await socket.join(TOPIC, watching("bob"))
        assert refused["response"]["reason"] == (
            "Realtime was unable to connect to the project database"
        )

        assert (await socket.join(TOPIC, {"config": {"private": True}}))["status"] == "ok"
        await track(socket, {})

        assert await refusal(socket) == "the database could not be asked"
