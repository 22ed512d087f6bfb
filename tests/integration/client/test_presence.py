"""Passing things between clients: who is there and who is typing, each side on its own topics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import Any, Literal
from uuid import UUID

import pytest
from tests.integration.client.portal import HEARING, QUICK, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.realtime_clients import BareSocket, bare_socket
from tests.sql.live import topics
from tests.sql.portal import CARLOS, make_job
from tests.world import ALPINE, seed_uuid

from rapport.client.live import LiveClient
from rapport.client.presence import Presence, Typing, person_id
from rapport.client.server import Server, Topic
from rapport.errors import NotAllowed, Unprocessable
from rapport.local.supabase.keys import mint_user_token

Side = Literal["staff", "customer"]


def keys(*users: str) -> frozenset[str]:
    return frozenset(str(person_id(seed_uuid(user))) for user in users)


def booking_chat(portal: Portal) -> UUID:
    make_job(portal.world)
    found: UUID = portal.world.value("select id from public.conversations")
    return found


async def joined(*rooms: Presence | Typing) -> None:
    await until(lambda: all(room.is_connected for room in rooms))


async def refused(*rooms: Presence | Typing) -> None:
    await until(lambda: all(isinstance(room.error, NotAllowed) for room in rooms))


async def test_customers_see_who_is_at_the_desk_and_do_not_stand_there(portal: Portal) -> None:
    seen: list[frozenset[str]] = []
    async with (
        portal.client("andrej") as andrej,
        portal.client("vera") as vera,
        portal.client("cilka") as cilka,
        portal.client("ana") as ana,
        portal.client("carlos") as carlos,
        await andrej.presence("desk", ALPINE) as his,
        await vera.presence("desk", ALPINE) as veras,
        await cilka.presence("desk", ALPINE, seen.append) as hers,
        await ana.presence("desk", ALPINE) as anas,
        await carlos.presence("desk", ALPINE) as carloss,
    ):
        await joined(his, veras, hers)
        await refused(anas, carloss)

        await hers.show_me(name="andrej")
        await refused(hers)
        assert hers.is_connected
        await his.show_me(status="here")
        # callbacks are told a moment after it is shown
        await until(lambda: hers.online == veras.online == keys("andrej") and len(seen) == 1)
        # who may write nothing is there all the same
        await veras.show_me()
        await until(lambda: hers.online == his.online == keys("andrej", "vera") and len(seen) == 2)
        await his.hide_me()
        await until(lambda: hers.online == veras.online == keys("vera") and len(seen) == 3)
        await vera.pause()
        await until(lambda: hers.online == his.online == keys() and len(seen) == 4)

        assert seen == [keys("andrej"), keys("andrej", "vera"), keys("vera"), keys()]
        assert anas.online == carloss.online == keys()
        assert his.error is None


async def test_each_side_of_a_conversation_sees_the_other_one_there(portal: Portal) -> None:
    conversation = booking_chat(portal)

    async def enter(live: LiveClient, side: Side) -> Presence:
        return await opened.enter_async_context(await live.presence(side, conversation))

    async with (
        portal.client("andrej") as andrej,
        portal.client("cilka") as cilka,
        portal.client("carlos") as carlos,
        AsyncExitStack() as opened,
    ):
        his, his_view = await enter(andrej, "staff"), await enter(andrej, "customer")
        hers, her_view = await enter(cilka, "customer"), await enter(cilka, "staff")
        foreign = [await enter(carlos, "staff"), await enter(carlos, "customer")]
        await joined(his, his_view, hers, her_view)
        await refused(*foreign)

        # each on the other's topic
        await her_view.show_me()
        await his_view.show_me()
        await refused(her_view, his_view)
        await his.show_me()
        await hers.show_me()

        await until(lambda: her_view.online == his.online == keys("andrej"))
        await until(lambda: his_view.online == hers.online == keys("cilka"))
        assert [room.online for room in foreign] == [keys(), keys()]

        await hers.show_me(**{str(n): n for n in range(11)})
        await until(lambda: isinstance(hers.error, Unprocessable))


async def test_who_is_there_is_seen_again_after_the_connection_was_lost(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = booking_chat(portal)
    begun: list[Presence] = []

    def enter(room: Presence, before: Callable[[Presence], None] = Presence.enter) -> None:
        begun.append(room)
        before(room)

    monkeypatch.setattr(Presence, "enter", enter)
    async with (
        Proxy(portal.stack.gateway_port, Faults(Random(1))).serve() as proxy,
        portal.client("cilka", QUICK, proxy.url) as cilka,
        portal.client("andrej") as andrej,
        await cilka.presence("customer", conversation) as hers,
        await cilka.presence("staff", conversation) as posing,
        await andrej.presence("customer", conversation) as his,
    ):
        # before there is a connection
        await hers.show_me()
        await posing.show_me()
        await until(lambda: his.online == keys("cilka"))
        await refused(posing)
        proxy.refuses_sockets = True
        proxy.cut_all()
        await until(lambda: his.online == hers.online == keys())
        begun.clear()

        proxy.refuses_sockets = False
        await until(lambda: his.online == hers.online == keys("cilka"))
        # who was there before the connection was lost is not taken to be there still
        assert hers in begun


async def test_the_other_side_sees_who_types_and_nobody_types_for_it(portal: Portal) -> None:
    conversation = booking_chat(portal)
    heard: list[tuple[str, Side]] = []
    people: dict[str, LiveClient] = {}
    rooms: dict[tuple[str, Side], Typing] = {}

    async with AsyncExitStack() as opened:
        for name in ("cilka", "andrej", "vera", "ana", "carlos"):
            live = people[name] = await opened.enter_async_context(portal.client(name))
            sides: tuple[Side, Side] = ("staff", "customer")
            for side in sides:
                # noted by who listens, and to which side
                note = partial(heard.append, (name, side))
                room = await live.typing(side, conversation, note)
                rooms[name, side] = await opened.enter_async_context(room)
        vera_there = await opened.enter_async_context(
            await people["vera"].presence("staff", conversation)
        )
        await joined(*(room for (name, _), room in rooms.items() if name not in {"ana", "carlos"}))
        await refused(*(room for (name, _), room in rooms.items() if name in {"ana", "carlos"}))

        # of one who may look and not write; her own presence comes after it
        await rooms["vera", "staff"].say()
        await rooms["vera", "customer"].say()
        await vera_there.show_me()
        await until(lambda: vera_there.online == keys("vera"))
        # as staff, and then as herself: for every key, and told once
        await rooms["cilka", "staff"].say()
        for _ in range(3):
            await rooms["cilka", "customer"].say()
        await until(lambda: len(heard) == 2)
        assert sorted(heard) == [("andrej", "customer"), ("vera", "customer")]
        assert rooms["andrej", "customer"].is_typing
        assert not rooms["cilka", "customer"].is_typing

        # and so does he
        await rooms["andrej", "customer"].say()
        await rooms["andrej", "staff"].say()
        await until(lambda: len(heard) == 4)
        assert sorted(heard[2:]) == [("cilka", "staff"), ("vera", "staff")]
        assert rooms["cilka", "staff"].is_typing


async def test_who_follows_one_chat_alone_stays_in_it_when_a_member_leaves(portal: Portal) -> None:
    conversation = booking_chat(portal)
    heard: list[str] = []
    async with (
        portal.client("cilka", HEARING) as cilka,
        portal.client("andrej", HEARING) as andrej,
        cilka.conversation(
            conversation, on_new_message=lambda row: heard.append(row.message)
        ) as messages,
        await cilka.presence("staff", conversation) as her_view,
        await cilka.presence("desk", ALPINE) as her_desk,
        await andrej.presence("staff", conversation) as his,
        await andrej.presence("desk", ALPINE) as his_desk,
    ):
        await joined(her_view, her_desk, his, his_desk)
        await his.show_me()
        await his_desk.show_me()
        await until(lambda: her_view.online == her_desk.online == keys("andrej"))
        # which gives all of these topics other names
        portal.world.owner.execute(
            "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
        )
        portal.write("andrej", conversation, "still there")
        await until(lambda: heard == ["still there"])

        await joined(her_view, her_desk, his, his_desk)
        await his.hide_me()
        await his_desk.hide_me()
        await until(lambda: her_view.online == her_desk.online == keys())
        await his.show_me()
        await his_desk.show_me()
        await until(lambda: her_view.online == her_desk.online == keys("andrej"))
        portal.write("andrej", conversation, "and still")
        await until(lambda: heard == ["still there", "and still"] and messages.is_connected)


async def heard_by(socket: BareSocket) -> list[tuple[str, Any]]:
    """What has come until now, by its event; of a broadcast the whole frame."""
    heard: list[tuple[str, Any]] = []
    await socket.send(None, "here", "phoenix", "heartbeat", {})
    while True:
        frame = await socket.receive()
        if isinstance(frame, bytes):
            heard.append(("broadcast", frame))
        elif frame[1] == "here":
            return heard
        else:
            heard.append((frame[3], frame[4]))


async def test_a_customer_whose_login_is_unlinked_sees_nobody_come_to_the_desk(
    portal: Portal,
) -> None:
    """On a socket that stays where it was; the remaining members meet elsewhere."""
    world = portal.world
    world.owner.execute("update public.contacts set portal_user_id = null where id = %s", [CARLOS])
    world.owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'carlos', %s)",
        [seed_uuid("carlos of alpine"), ALPINE, seed_uuid("carlos")],
    )
    topic = f"realtime:{topics(world, 'cilka')['presence_desk']}"
    token = mint_user_token(portal.stack.signing_key, user_id=seed_uuid("cilka"))
    looks = {"config": {"private": True, "presence": {"enabled": True}}}
    async with (
        portal.client("andrej", HEARING) as andrej,
        portal.client("carlos", HEARING) as carlos,
        await andrej.presence("desk", ALPINE) as his,
        await carlos.presence("desk", ALPINE) as carloss,
        bare_socket(portal.stack, token) as hers,
    ):
        await joined(his, carloss)
        await his.show_me()
        await until(lambda: carloss.online == keys("andrej"))
        assert (await hers.join(topic, looks))["status"] == "ok"
        ((_, state),) = await heard_by(hers)
        assert state.keys() == keys("andrej")

        with world.acting_as("andrej") as connection:
            connection.execute("select public.unlink_portal_login(%s)", [portal.customer("cilka")])
        # moved, each for himself
        await until(lambda: carloss.online == keys())
        await until(lambda: carloss.online == keys("andrej"))
        before = await heard_by(hers)
        async with portal.client("vera") as vera, await vera.presence("desk", ALPINE) as veras:
            await veras.show_me()
            await until(lambda: carloss.online == his.online == keys("andrej", "vera"))
        await until(lambda: carloss.online == his.online == keys("andrej"))
        await his.hide_me()
        await until(lambda: carloss.online == keys())

        assert await heard_by(hers) == []
        # by then nothing but that the name is another, and that the people who were there left
        (told, frame), (left, diff) = before
        assert (told, left) == ("broadcast", "presence_diff")
        assert b"topics.changed" in frame
        assert diff["joins"] == {}
        assert diff["leaves"].keys() == keys("andrej")


async def test_a_name_that_changes_before_it_is_joined_is_asked_for_again(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = Server.my_topics

    async def outdated(server: Server, conversation_id: UUID | None = None) -> list[Topic]:
        named = await ask(server, conversation_id)
        asked.append(len(named))
        if len(asked) == 1:
            # told to nobody who has not joined yet
            portal.world.owner.execute(
                "delete from public.account_members where user_id = %s", [seed_uuid("vera")]
            )
        return named

    monkeypatch.setattr(Server, "my_topics", outdated)
    async with (
        portal.client("cilka", HEARING) as cilka,
        await cilka.presence("desk", ALPINE) as hers,
    ):
        await joined(hers)

    assert len(asked) == 2
