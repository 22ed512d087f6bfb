"""Subscriptions of the live client: who is told what, and what is left afterwards."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import httpx
import psutil
import pytest
from supabase import AsyncClientOptions, acreate_client
from tests.integration.client.portal import HEARING, QUICK, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.sql.portal import make_job
from tests.world import text_message

from rapport.client.faces import ContactRow, LiveChatContact, Thread, contact_live_chat
from rapport.client.live import LiveClient
from rapport.client.pending_changes import FEW
from rapport.client.rows import Message, Profile
from rapport.client.tokens import of_session
from rapport.errors import NotAllowed, NotSignedIn, Unprocessable, UpstreamUnavailable

# subscriptions that are opened and closed side by side
TOGETHER = 40


async def test_it_asks_nothing_for_as_long_as_it_is_told_to_wait(portal: Portal) -> None:
    async with (
        Proxy(portal.stack.gateway_port, Faults(Random())).serve() as proxy,
        portal.client("cilka", QUICK, proxy.url) as live,
        live.messages(portal.customer("cilka")) as messages,
    ):
        await until(lambda: messages.is_connected)
        proxy.busy_for = 3
        # connections that are kept would go on to be served
        proxy.cut_all()
        await live.pause()
        await live.resume()
        await until(lambda: "Too many requests." in str(messages.error))
        # it would have asked ten times meanwhile
        before = proxy.told_to_wait
        await asyncio.sleep(2)
        assert proxy.told_to_wait <= before + 1
        proxy.busy_for = None
        await until(lambda: messages.is_connected and messages.error is None)


async def test_what_one_transaction_changes_is_told_together(portal: Portal) -> None:
    cilka = portal.customer("cilka")
    told: list[list[str]] = []
    shown: list[tuple[int, int]] = []

    def change(number: str) -> None:
        with portal.world.owner.transaction():
            portal.world.owner.execute(
                "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
                " select account_id, id, 'carpet', now() from public.contacts where id = %s",
                (cilka,),
            )
            portal.world.owner.execute(
                "insert into public.invoices (account_id, customer_id, number, currency,"
                " amount_minor, status, sent_at)"
                " select account_id, id, %s, 'EUR', 1, 'sent', now()"
                " from public.contacts where id = %s",
                (number, cilka),
            )

    def look(_: object) -> None:
        shown.append((len(everything.jobs.rows), len(everything.invoices.rows)))

    async with (
        portal.client("cilka", HEARING) as live,
        live.everything(cilka, on_job_insert=look, on_invoice_insert=look) as everything,
    ):
        checkpoints = live.on_checkpoint(
            lambda changes: told.append(sorted({type(c.new or c.old).__name__ for c in changes}))
        )
        await until(lambda: everything.is_connected)
        change("1")
        await until(lambda: len(told) == 1)
        # and as a catch-up
        await live.pause()
        change("2")
        await live.resume()
        await until(lambda: len(told) == 2)
        checkpoints.close()
    assert told == [["Invoice", "Job", "Message"]] * 2
    assert shown == [(1, 1), (1, 1), (2, 2), (2, 2)]


async def test_customer_hears_messages_as_they_are_written(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    portal.write("andrej", conversation, "before")
    heard: list[str] = []

    def tell(message: Message) -> None:
        heard.append(message.message)

    async with (
        portal.client("cilka", HEARING) as live,
        live.messages(portal.customer("cilka"), on_new_message=tell) as messages,
    ):
        await until(lambda: messages.is_connected)
        assert [row.message for row in messages.rows.values()] == ["before"]

        portal.write("andrej", conversation, "one", "two")
        portal.write("cilka", conversation, "three")

        await until(lambda: len(heard) == 3)
        assert heard == ["one", "two", "three"]
        assert messages.unread_count == 3
        await messages.mark_read(conversation, 3)
        assert messages.unread_count == 0
        assert messages.error is None


async def test_a_slow_callback_is_told_of_less_and_of_the_last(portal: Portal) -> None:
    """What waits for it is bounded, however often a row changes."""
    changes = FEW + 200
    go_on = asyncio.Event()
    heard: list[tuple[int | None, int, str | None]] = []

    async def tell(new: Profile, old: Profile | None) -> None:
        heard.append((old.version if old else None, new.version, new.name))
        await go_on.wait()

    customer = portal.customer("cilka")
    async with (
        portal.client("cilka", HEARING) as live,
        live.profile(customer, on_update=tell) as profile,
    ):
        await until(lambda: profile.is_connected)
        for number in range(changes):
            await asyncio.to_thread(portal.rename, "cilka", f"name {number}")
        last = f"name {changes - 1}"
        await until(lambda: profile.rows[customer].name == last)
        go_on.set()
        await until(lambda: bool(heard) and heard[-1][2] == last)

    # the one that is being told, and those that wait
    assert len(heard) == 1 + FEW
    assert all(later[0] == earlier[1] for earlier, later in pairwise(heard))


async def test_profile_update_comes_with_what_it_was(portal: Portal) -> None:
    heard: list[tuple[str | None, str | None]] = []

    def tell(new: Profile, old: Profile | None) -> None:
        heard.append((old.name if old else None, new.name))

    async with (
        portal.client("cilka", HEARING) as live,
        live.profile(portal.customer("cilka"), on_update=tell) as profile,
    ):
        await until(lambda: profile.is_connected)
        portal.rename("cilka", "Cilka Novak")

        await until(lambda: len(heard) == 1)
        assert heard == [("cilka", "Cilka Novak")]


async def test_reading_and_deleting_have_callbacks_of_their_own(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    portal.write("cilka", conversation, "one", "two")
    heard: list[tuple[str, int]] = []

    def note(what: str) -> Callable[[Message], None]:
        return lambda message: heard.append((what, message.seq))

    async with (
        portal.client("andrej", HEARING) as live,
        live.conversation(
            conversation, on_message_read=note("read"), on_message_deleted=note("deleted")
        ) as messages,
    ):
        await until(lambda: messages.is_connected)
        assert messages.unread_count == 2
        portal.world.owner.execute(
            "update public.messages set status = 'read', delivered_at = now(), read_at = now()"
        )
        portal.world.owner.execute(
            "update public.messages set revoked_at = now(), message = '' where seq = 2"
        )

        await until(lambda: len(heard) == 3)
        assert sorted(heard[:2]) == [("read", 1), ("read", 2)]
        assert heard[2] == ("deleted", 2)
        assert messages.unread_count == 1


async def test_agent_follows_all_conversations_from_now_on(portal: Portal) -> None:
    first, second = portal.conversation("cilka"), portal.conversation("cilka")
    foreign = portal.conversation("carlos")
    portal.write("cilka", first, "before")
    heard: list[str] = []
    async with (
        portal.client("andrej", HEARING) as live,
        live.messages(on_new_message=lambda message: heard.append(message.message)) as messages,
    ):
        await until(lambda: messages.is_connected)
        portal.write("ana", foreign, "not his")
        portal.write("cilka", first, "one")
        portal.write("cilka", second, "two")

        await until(lambda: len(heard) == 2)
        assert heard == ["one", "two"]


async def test_what_was_said_long_ago_rings_nobody(portal: Portal) -> None:
    heard: list[str] = []
    past = {"kind": "history", "sender_type": "client", "sender_id": "38640999888"}
    news = text_message("wamid.2", sent_at=datetime.now(UTC).isoformat())

    async with (
        portal.client("andrej", HEARING) as live,
        live.messages(on_new_message=lambda message: heard.append(message.message)) as messages,
    ):
        await until(lambda: messages.is_connected)
        portal.world.ingest(text_message("wamid.1", profile_name=None, **past))
        await until(lambda: len(messages.rows) == 1)
        assert messages.unread_count == 0
        # somebody in a group is told of as anybody
        group = past | {"kind": "group", "group_id": "G"}
        portal.world.ingest(news, text_message("wamid.3", **group))

        await until(lambda: len(heard) == 2)
        assert sorted(heard) == ["text of wamid.2", "text of wamid.3"]
        assert messages.unread_count == 2


async def test_agent_sees_contacts_as_the_live_chat_shows_them(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    heard: list[tuple[str | None, str]] = []

    def tell(new: LiveChatContact, old: LiveChatContact | None) -> None:
        assert old is not None
        heard.append((new.name, new.conversation_status))

    async with (
        portal.client("andrej", HEARING) as live,
        live.contacts(contact_live_chat, on_update=tell) as contacts,
    ):
        await until(lambda: contacts.is_connected)
        assert [row.name for row in contacts.rows.values()] == ["cilka"]
        portal.rename("cilka", "Cilka Novak")
        portal.world.owner.execute(
            "update public.conversations set status = 'closed' where id = %s", (conversation,)
        )

        await until(lambda: len(heard) == 2)
        assert heard == [("Cilka Novak", "Open"), ("Cilka Novak", "Closed")]


async def test_another_businesss_agent_sees_and_hears_nothing(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    portal.write("andrej", conversation, "before")
    heard: list[object] = []
    async with (
        portal.client("ana") as live,
        live.messages(portal.customer("cilka"), on_new_message=heard.append) as messages,
        live.conversation(conversation, on_new_message=heard.append) as thread,
        live.profile(portal.customer("cilka"), on_update=lambda new, _: heard.append(new)) as own,
    ):
        await until(lambda: isinstance(thread.error, NotAllowed))
        portal.write("andrej", conversation, "one")
        portal.rename("cilka", "Cilka Novak")
        await asyncio.sleep(2 * QUICK.slow_poll)

        assert not heard
        assert [messages.rows, thread.rows, own.rows] == [{}, {}, {}]


async def test_changes_while_paused_are_told_afterwards(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    heard: list[str] = []
    async with (
        portal.client("cilka", HEARING) as live,
        live.messages(
            portal.customer("cilka"), on_new_message=lambda row: heard.append(row.message)
        ) as messages,
    ):
        await until(lambda: messages.is_connected)
        await live.pause()
        assert not live.is_connected
        assert not messages.is_connected
        portal.write("andrej", conversation, "one", "two")
        await asyncio.sleep(0.2)
        assert not heard

        await live.resume()
        await until(lambda: heard == ["one", "two"] and messages.is_connected)


async def test_changes_are_polled_while_realtime_is_away(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    timing = replace(QUICK, slow_poll=600)
    async with (
        Proxy(portal.stack.gateway_port, Faults(Random(1))).serve() as proxy,
        portal.client("cilka", timing, proxy.url) as live,
        live.messages(portal.customer("cilka")) as messages,
    ):
        await until(lambda: messages.is_connected)
        proxy.refuses_sockets = True
        proxy.cut_all()
        await until(lambda: not messages.is_connected)
        portal.write("andrej", conversation, "meanwhile")

        async for change in messages:
            assert change.new is not None
            assert change.new.message == "meanwhile"
            assert messages.latest_update == change
            break
        assert not messages.is_connected
        assert isinstance(messages.error, UpstreamUnavailable)
        proxy.refuses_sockets = False
        await until(lambda: messages.is_connected and messages.error is None)


async def test_server_that_falls_silent_is_noticed(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    faults = Faults(Random(1))
    async with (
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        portal.client("cilka", replace(QUICK, slow_poll=600), proxy.url) as live,
        live.messages(portal.customer("cilka")) as messages,
    ):
        await until(lambda: messages.is_connected)
        # every frame is lost from now on, and nothing else happens
        faults.drop = 1
        await until(lambda: not messages.is_connected)
        faults.calm()
        await until(lambda: messages.is_connected)
        portal.write("andrej", conversation, "one")
        await until(lambda: len(messages.rows) == 1)


async def test_profile_edit_shows_at_once_and_is_taken_back_when_refused(portal: Portal) -> None:
    shown: list[str | None] = []
    async with (
        portal.client("cilka", HEARING) as live,
        live.profile(
            portal.customer("cilka"), on_shown=lambda row: shown.append(row.name)
        ) as profile,
    ):
        await profile.edit(name="Cilka Novak")
        assert profile.profile is not None
        assert profile.profile.name == "Cilka Novak"
        with pytest.raises(Unprocessable):
            await profile.edit(name=" ")

        assert profile.profile.name == "Cilka Novak"
        await until(lambda: len(shown) == 4)
        assert shown == ["Cilka Novak", "Cilka Novak", " ", "Cilka Novak"]
        assert (
            portal.world.value(
                "select name from public.contacts where id = %s", [portal.customer("cilka")]
            )
            == "Cilka Novak"
        )


async def test_profile_edit_that_nobody_could_show_is_refused_and_leaves_nothing_behind(
    portal: Portal,
) -> None:
    async with (
        portal.client("cilka", HEARING) as live,
        live.profile(portal.customer("cilka")) as profile,
    ):
        before = profile.profile
        for mistake in ({"name": 5}, {"preferences": "none"}):
            with pytest.raises(Unprocessable) as refused:
                await profile.edit(**mistake)
            assert [refused.value.field] == list(mistake)

        assert profile.profile == before
        await profile.edit(name="Cilka Novak")
        assert profile.profile is not None
        assert profile.profile.name == "Cilka Novak"


@pytest.mark.parametrize(
    "people",
    ['[{"a": 1e5000}]', '[{"a": ' + "[" * 2000 + '"]"' + "]" * 2000 + "}]"],
    ids=["a long number", "a deep list"],
)
async def test_what_python_can_not_read_in_a_row_keeps_nobody_from_reading(
    portal: Portal, people: str
) -> None:
    """Such as was written before it was refused."""
    async with (
        portal.client("andrej") as live,
        live.contacts(contact_live_chat) as contacts,
        live.jobs() as jobs,
    ):
        portal.world.owner.execute(
            "update public.contacts set name = 'Cilka Novak', people = %s where id = %s",
            [people, portal.customer("cilka")],
        )
        make_job(portal.world)
        await until(lambda: len(jobs.rows) == 1)
        await until(lambda: [row.name for row in contacts.rows.values()] == ["Cilka Novak"])
        await until(lambda: live.error is None)
        make_job(portal.world)
        await until(lambda: len(jobs.rows) == 2)

    async with (
        portal.client("andrej") as live,
        live.contacts(contact_live_chat) as contacts,
    ):
        assert [row.name for row in contacts.rows.values()] == ["Cilka Novak"]


async def test_row_that_one_subscription_can_not_take_keeps_no_other_waiting(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a status that a later version of the database has."""

    def face(contact: ContactRow, thread: Thread | None) -> LiveChatContact:
        if contact.name == "nobody":
            raise ValueError(contact.name)
        return contact_live_chat(contact, thread)

    async with (
        portal.client("andrej") as live,
        live.contacts(face) as contacts,
        live.jobs() as jobs,
    ):
        monkeypatch.setattr(logging.getLogger("rapport.client"), "disabled", True)
        portal.rename("cilka", "nobody")
        make_job(portal.world)
        await until(lambda: contacts.error is not None)
        await until(lambda: len(jobs.rows) == 1)

        late = live.invoices()
        await late.ready()
        assert late.error is None
        portal.rename("cilka", "somebody")
        await until(lambda: contacts.error is None)
        assert [row.name for row in contacts.rows.values()] == ["somebody"]


async def test_who_signs_in_with_the_official_client_follows_with_its_session(
    portal: Portal,
) -> None:
    stack = portal.stack
    login = {"email": "cilka@login.example", "password": "a long password"}
    keys = {"apikey": stack.secret_key}
    async with httpx.AsyncClient(base_url=f"{stack.url}/auth/v1", headers=keys) as http:
        made = await http.post("/admin/users", json={**login, "email_confirm": True})
        portal.world.owner.execute(
            "update public.contacts set portal_user_id = %s where id = %s",
            (made.json()["id"], portal.customer("cilka")),
        )
        official = await acreate_client(
            stack.url,
            stack.publishable_key,
            AsyncClientOptions(httpx_client=http, auto_refresh_token=False),
        )
        with pytest.raises(NotSignedIn):
            await of_session(official)()
        await official.auth.sign_in_with_password(
            {"email": login["email"], "password": login["password"]}
        )
        async with (
            LiveClient(stack.url, stack.publishable_key, of_session(official)) as live,
            live.profile(portal.customer("cilka")) as profile,
        ):
            await until(lambda: profile.is_connected)
            assert profile.profile is not None
            assert profile.profile.name == "cilka"


async def test_callback_that_fails_keeps_no_other_from_being_told(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    heard: list[str] = []

    async def tell(message: Message) -> None:
        await asyncio.sleep(0)
        heard.append(message.message)
        if message.message == "one":
            raise ValueError("not this one")

    async with (
        portal.client("cilka", HEARING) as live,
        live.messages(portal.customer("cilka"), on_new_message=tell) as messages,
    ):
        await until(lambda: messages.is_connected)
        portal.write("andrej", conversation, "one", "two")

        await until(lambda: len(heard) == 2)
        assert heard == ["one", "two"]


async def test_hundreds_of_subscriptions_leave_nothing_behind(portal: Portal) -> None:
    cilka, conversation = portal.customer("cilka"), portal.conversation("cilka")
    portal.write("andrej", conversation, "one")
    me = psutil.Process()

    async def open_and_close(live: LiveClient) -> None:
        async with AsyncExitStack() as opened:
            subscriptions = [
                opened.push_async_exit(live.profile(cilka)) for _ in range(TOGETHER - 1)
            ]
            messages = await opened.enter_async_context(live.conversation(conversation))
            await until(lambda: messages.is_connected)
            assert len(messages.rows) == 1
            assert len(subscriptions) == TOGETHER - 1

    tasks, sockets = asyncio.all_tasks(), {socket.laddr for socket in me.net_connections()}
    async with portal.client("cilka", HEARING) as live:
        async with live.messages(cilka) as messages:
            await until(lambda: messages.is_connected)
            await open_and_close(live)
            working = len(asyncio.all_tasks())
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.take_snapshot()
            for _ in range(400 // TOGETHER):
                await open_and_close(live)
            # a catch-up on its way still holds those for whom it was begun
            await live.pause()
            gc.collect()
            after = tracemalloc.take_snapshot()
            tracemalloc.stop()
            await live.resume()
            await until(lambda: messages.is_connected)
            assert len(asyncio.all_tasks()) <= working
        grown = sum(
            statistic.size_diff
            for statistic in after.compare_to(before, "filename")
            if "/tests/" not in statistic.traceback[0].filename
        )
        # bytes: some of the interpreter's own; each that stayed would be a thousand
        assert grown < 100_000
    assert asyncio.all_tasks() == tasks
    # those of before may end meanwhile
    assert {socket.laddr for socket in me.net_connections()} <= sockets


# the last one, since it leaves another schema
async def test_what_can_not_be_read_keeps_no_other_subscription_waiting(portal: Portal) -> None:
    portal.world.owner.execute("revoke select on public.customers from authenticated")
    async with portal.client("cilka", HEARING) as live:
        everything = live.everything(portal.customer("cilka"))
        await everything.messages.ready()
        await until(lambda: everything.messages.is_connected)

        with pytest.raises(NotAllowed):
            await everything.profile.ready()
        assert 0 < everything.active_subscriptions < 5
        assert not everything.is_connected
        assert everything.error is not None
