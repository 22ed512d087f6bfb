"""What is written while the server is away: shown at once, sent once and in order, or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from tests.integration.client.portal import QUICK, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.sql.portal import CILKA, chat, make_job

from rapport.client.outbox import PendingMessage


def texts(portal: Portal, conversation: UUID) -> list[str]:
    rows = portal.world.rows(
        "select message from public.messages where conversation_id = %s order by seq",
        [conversation],
    )
    return [row["message"] for row in rows]


async def test_messages_written_offline_are_sent_once_and_in_order_after_a_restart(
    portal: Portal, outbox: Path
) -> None:
    conversation = portal.conversation("cilka")
    portal.servers.stop_gateway()
    async with portal.client("cilka", outbox=outbox) as live:
        for text in ("one", "two"):
            await live.outbox.send(conversation, text)
        await until(lambda: live.outbox.error is not None)
        assert [message.message for message in live.outbox.pending] == ["one", "two"]

    portal.servers.start_gateway()
    await asyncio.to_thread(portal.servers.wait_for_gateway)
    shown: list[list[str]] = []
    heard: list[str] = []

    def show(pending: list[PendingMessage]) -> None:
        shown.append([message.message for message in pending])

    async with (
        portal.client("cilka", outbox=outbox, on_pending=show) as live,
        live.conversation(
            conversation, on_new_message=lambda row: heard.append(row.message)
        ) as messages,
    ):
        await live.outbox.send(conversation, "three")
        await until(lambda: live.outbox.pending == [])
        await until(lambda: len(messages.rows) == 3)

        assert texts(portal, conversation) == ["one", "two", "three"]
        # callbacks are told a moment after it is shown
        await until(lambda: shown[-1:] == [[]] and heard[-1:] == ["three"])


async def test_two_clients_of_one_file_send_each_message_once_over_a_bad_network(
    portal: Portal, outbox: Path
) -> None:
    conversations = [portal.conversation("cilka") for _ in range(2)]
    faults = Faults(Random(7), cut=0.1, delay=0.2)
    async with (
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        portal.client("cilka", QUICK, proxy.url, outbox=outbox) as first,
        portal.client("cilka", QUICK, proxy.url, outbox=outbox) as second,
    ):
        for n in range(20):
            live = first if n % 3 else second
            await live.outbox.send(conversations[n % 2], f"{n}")
        await until(lambda: sum(len(texts(portal, c)) for c in conversations) == 20, 60)
        await until(lambda: first.outbox.pending == second.outbox.pending == [], 60)

    assert faults.seen["cut"]
    for start, conversation in enumerate(conversations):
        assert texts(portal, conversation) == [f"{n}" for n in range(start, 20, 2)]


async def test_refusal_is_told_and_the_next_message_goes_out(portal: Portal, outbox: Path) -> None:
    conversation, foreign = portal.conversation("cilka"), portal.conversation("carlos")
    refused: list[PendingMessage] = []
    async with portal.client("cilka", outbox=outbox, on_refused=refused.append) as live:
        await live.outbox.send(conversation, "x" * 5000)
        await live.outbox.send(foreign, "to another's")
        await live.outbox.send(conversation, "fine")

        await until(lambda: len(refused) == 2 and texts(portal, conversation) == ["fine"])
        assert sorted(message.refusal or "" for message in refused) == [
            "The message has 5000 characters; 4,096 are allowed.",
            "There is no such conversation, or it is not yours to see.",
        ]
        await until(lambda: len(live.outbox.pending) == 2)
        for message in refused:
            assert message.state == "refused"
            await live.outbox.dismiss(message.client_ref)
        assert live.outbox.pending == []
        assert texts(portal, foreign) == []


async def test_text_that_no_database_takes_is_refused_and_not_sent_for_ever(
    portal: Portal, outbox: Path
) -> None:
    conversation = portal.conversation("cilka")
    async with portal.client("cilka", outbox=outbox) as live:
        await live.outbox.send(conversation, "a\x00b")
        await live.outbox.send(conversation, "fine")

        await until(lambda: texts(portal, conversation) == ["fine"])
        await until(lambda: len(live.outbox.pending) == 1)
        assert live.outbox.pending[0].state == "refused"


async def test_customer_who_has_not_written_yet_writes_offline_in_chats_by_what_they_are_of(
    portal: Portal, outbox: Path
) -> None:
    world = portal.world
    booking = make_job(world)["id"]
    portal.servers.stop_gateway()
    async with portal.client("cilka", outbox=outbox) as live:
        await live.outbox.send(None, "Is anybody there?", customer_id=CILKA)
        await live.outbox.send(None, "At nine?", booking_id=booking)
        await live.outbox.send(None, "Hello?", customer_id=CILKA)
        with pytest.raises(ValueError, match="exactly one of"):
            await live.outbox.send(None, "where?")
        with pytest.raises(ValueError, match="exactly one of"):
            await live.outbox.send(booking, "twice", booking_id=booking)

    portal.servers.start_gateway()
    await asyncio.to_thread(portal.servers.wait_for_gateway)
    async with portal.client("cilka", outbox=outbox) as live:
        assert [message.chat for message in live.outbox.pending] == [CILKA, booking, CILKA]
        await until(lambda: live.outbox.pending == [])

    system, *told = chat(world, booking)
    assert system[0] == "system"
    assert told == [("client", "At nine?")]
    assert chat(world) == [("client", "Is anybody there?"), ("client", "Hello?")]
