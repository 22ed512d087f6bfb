"""The live client over a network that can't be trusted: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from random import Random

from tests.integration.client.portal import QUICK, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.client.trouble import Trouble, Writers
from tests.integration.client.witness import Witness, check_order, versions
from tests.world import seed_uuid

from rapport.client.rows import Message, Profile
from rapport.errors import NotAllowed

# set FAULT_CHANGES for more
CHANGES = int(os.environ.get("FAULT_CHANGES", "1500"))
SEED = int(os.environ.get("FAULT_SEED", "20261121"))
PATIENCE = 60.0


async def endure(portal: Portal, changes: int, seed: int) -> Faults:
    """Three people follow while everything fails every now and then."""
    cilka, carlos = portal.customer("cilka"), portal.customer("carlos")
    conversations = [portal.conversation("cilka") for _ in range(3)]
    conversations.append(portal.conversation("carlos"))
    portal.write("andrej", conversations[0], "before", "the subscription")
    hers, profile = Witness[Message](), Witness[Profile]()
    desk, his = Witness[Message](), Witness[Message]()
    faults = Faults(Random(seed))
    random = Random(seed)

    def lifetime() -> timedelta:
        # some expire before they can be renewed
        return timedelta(seconds=random.uniform(1.5, 6))

    async with (
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        portal.client("cilka", QUICK, proxy.url, lifetime) as cilkas,
        portal.client("andrej", QUICK, proxy.url, lifetime) as andrejs,
        portal.client("carlos", QUICK, proxy.url, lifetime) as carloses,
        cilkas.messages(cilka, **hers.of_messages) as own,
        cilkas.profile(cilka, on_update=profile.on_update) as own_profile,
        andrejs.messages(**desk.of_messages) as all_messages,
        carloses.messages(carlos, **his.of_messages) as shut_out,
    ):
        before = versions(portal.world, "messages", cilka)
        profile_before = versions(portal.world, "customers", cilka, "id")
        writers = Writers(portal, conversations, changes, seed)
        trouble = Trouble(portal, proxy)
        faults.drop, faults.delay, faults.cut, faults.stall = 0.1, 0.02, 0.01, 0.003
        writers.start()
        while not writers.are_done:
            await asyncio.sleep(1.5)
            await trouble.strike()
        assert not writers.errors
        assert trouble.count >= 4

        faults.calm()
        expected = versions(portal.world, "messages", cilka)
        expected_profile = versions(portal.world, "customers", cilka, "id")
        news = {row: version for row, version in expected.items() if before.get(row) != version}
        # what is missing then is named below
        with contextlib.suppress(TimeoutError):
            await until(
                lambda: (
                    hers.knows(news)
                    and profile.knows(expected_profile)
                    and desk.knows(news)
                    and own.is_connected
                    and all_messages.is_connected
                    and isinstance(shut_out.error, NotAllowed)
                ),
                PATIENCE,
            )
        # what is still on its way would now be told twice
        await asyncio.sleep(2 * QUICK.slow_poll)

        hers.check_rows(expected, before)
        profile.check_rows(expected_profile, profile_before)
        desk.check_rows(expected, before, knows_before=False)
        for witness in (hers, desk):
            check_order(witness.inserts)
        assert {row.customer_id for row in own.rows.values()} == {cilka}
        assert {row: own.rows[row].version for row in own.rows} == expected
        assert own.is_connected
        assert all_messages.is_connected
        assert isinstance(shut_out.error, NotAllowed)
        assert (own.error, own_profile.error, all_messages.error) == (None, None, None)
        assert not shut_out.rows
        assert {row.customer_id for row in his.inserts} <= {carlos}
    return faults


async def test_nothing_is_missed_and_nothing_told_twice_whatever_fails(portal: Portal) -> None:
    faults = await endure(portal, changes=CHANGES, seed=SEED)

    assert faults.seen.keys() == {"drop", "delay", "cut", "stall"}


async def test_who_is_shut_out_is_told_so_once_and_hears_no_more(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    portal.write("andrej", conversation, "hello")
    gone: list[str] = []
    async with (
        portal.client("cilka") as live,
        live.messages(
            portal.customer("cilka"), on_message_deleted=lambda row: gone.append(row.message)
        ) as messages,
    ):
        await until(lambda: messages.is_connected)

        portal.world.owner.execute(
            "update public.contacts set portal_user_id = null where id = %s",
            (portal.customer("cilka"),),
        )

        await until(lambda: isinstance(messages.error, NotAllowed))
        await until(lambda: not messages.rows)
        assert gone == ["hello"]
        assert not messages.is_connected
        portal.write("andrej", conversation, "not for her")
        await asyncio.sleep(2 * QUICK.slow_poll)
        assert not messages.rows

        # and is let in again
        portal.world.owner.execute(
            "update public.contacts set portal_user_id = %s where id = %s",
            (seed_uuid("cilka"), portal.customer("cilka")),
        )
        await until(lambda: messages.is_connected and messages.error is None)
        await until(lambda: len(messages.rows) == 2)
