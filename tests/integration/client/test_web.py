"""The live client in JavaScript, in Node, over real servers."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.integration.client.portal import HEARING as SLOWLY
from tests.integration.client.portal import SECONDS, Portal, until
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.client.told import Told
from tests.integration.client.trouble import Trouble, Writers
from tests.integration.client.witness import check_order, versions
from tests.sql.asking import ask
from tests.sql.outbound import ago
from tests.sql.portal import change, insert
from tests.web import node
from tests.world import ALPINE, seed_uuid, text_message

from rapport.client.database import Inbox
from rapport.client.inbox import InboxCounts, InboxFilter
from rapport.client.presence import person_id
from rapport.client.rows import Message, Profile
from rapport.client.subscription import Subscription

CHANGES = int(os.environ.get("FAULT_CHANGES", "800"))
SEED = int(os.environ.get("FAULT_SEED", "20261130"))

QUICK = {
    "slowPoll": 1000,
    "fastPoll": 300,
    "joinTimeout": 2000,
    "firstBackoff": 50,
    "longestBackoff": 500,
    "refreshMargin": 1000,
    "requestTimeout": 2000,
}
# nothing is found by polling
HEARING = {"slowPoll": 600_000}


@asynccontextmanager
async def following(
    portal: Portal,
    user: str,
    told: Told,
    follow: dict[str, list[Any]],
    url: str | None = None,
    **settings: object,
) -> AsyncIterator[node.Client]:
    async with node.client(
        told.take,
        url=url or portal.stack.url,
        key=portal.stack.publishable_key,
        signing_key=portal.stack.signing_key.model_dump(),
        user=str(seed_uuid(user)),
        follow=follow,
        **{"timing": QUICK, **settings},
    ) as client:
        await client.ask("ready")
        yield client


async def shows(client: node.Client, name: str, seconds: float = SECONDS, **wanted: object) -> Any:
    """Waits until a subscription's snapshot has these values."""
    return await answers(client, "snapshot", seconds, {"of": name}, **wanted)


async def answers(
    client: node.Client,
    question: str,
    seconds: float = SECONDS,
    more: dict[str, str] | None = None,
    **wanted: object,
) -> Any:
    """Waits until the client's answer has these values."""
    answer: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await client.ask(question, **more or {})
                answer["ids"] = [row["id"] for row in answer.get("rows", [])]
                answer["isOnline"] = [*answer.get("onlineUsers", [])]
                if all(answer[key] == value for key, value in wanted.items()):
                    return answer
                await asyncio.sleep(0.02)
    except TimeoutError:
        answer.pop("rows", None)
        pytest.fail(f"{more or question}: {answer} and not {wanted}")


async def snapshot(
    client: node.Client, name: str, is_right: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Waits until what a subscription shows is right."""
    async with asyncio.timeout(SECONDS):
        while True:
            shown: dict[str, Any] = await client.ask("snapshot", of=name)
            if is_right(shown):
                return shown
            await asyncio.sleep(0.02)


def add_job(portal: Portal, customer: str) -> UUID:
    job = uuid4()
    portal.world.owner.execute(
        "insert into public.jobs (id, account_id, customer_id, service_type, starts_at)"
        " select %s, account_id, id, 'carpet', now() from public.contacts where id = %s",
        (job, portal.customer(customer)),
    )
    return job


async def test_customer_hears_of_its_own_as_it_happens(portal: Portal) -> None:
    told = Told()
    cilka = portal.customer("cilka")
    before = add_job(portal, "cilka")
    conversation = portal.conversation("cilka")
    portal.write("andrej", conversation, "before")
    follow = {"jobs": ["jobs", str(cilka)], "messages": ["messages", str(cilka)]}
    async with following(portal, "cilka", told, follow, timing=HEARING) as client:
        jobs = await shows(client, "jobs", isConnected=True, state="connected", error=None)
        assert [row["id"] for row in jobs["rows"]] == [str(before)]
        assert jobs["isSame"]
        # a job comes with a notice to its customer
        unread = (await shows(client, "messages", isConnected=True))["unreadCount"]

        portal.world.owner.execute("update public.jobs set address = 'Here 1'")
        portal.write("andrej", conversation, "one", "two")
        portal.write("carlos", portal.conversation("carlos"), "another's")
        new = add_job(portal, "cilka")
        add_job(portal, "carlos")

        await shows(client, "messages", unreadCount=unread + 3)
        jobs = await shows(client, "jobs", isConnected=True)
        assert {row["id"] for row in jobs["rows"]} == {str(before), str(new)}
        assert (await client.ask("state"))["state"] == "connected"
    assert [
        (change["eventType"], change["row"]["address"], (change["old"] or {}).get("id"))
        for change in told.changes["jobs"]
    ] == [("UPDATE", "Here 1", str(before)), ("INSERT", None, None)]
    chat = [
        change["row"]
        for change in told.changes["messages"]
        if change["row"]["conversation_id"] == str(conversation)
    ]
    assert [(row["seq"], row["message"]) for row in chat] == [(2, "one"), (3, "two")]


async def test_what_one_transaction_changes_is_shown_and_told_together(portal: Portal) -> None:
    told = Told()
    cilka = portal.customer("cilka")
    follow = {"all": ["everything", str(cilka)]}
    async with following(portal, "cilka", told, follow, timing=HEARING) as client:
        await shows(client, "all", isConnected=True, activeSubscriptions=5)
        told.shown.clear()
        told.checkpoints.clear()

        def change() -> None:
            with portal.world.owner.transaction():
                add_job(portal, "cilka")
                portal.world.owner.execute(
                    "insert into public.invoices (account_id, customer_id, number, currency,"
                    " amount_minor, status, sent_at)"
                    " select account_id, id, %s, 'EUR', 1, 'sent', now()"
                    " from public.contacts where id = %s",
                    (uuid4().hex[:8], cilka),
                )

        change()
        await until(lambda: bool(told.checkpoints))
        # and as a catch-up
        await client.ask("pause")
        change()
        await client.ask("resume")
        await until(lambda: len(told.checkpoints) > 1)

    for n, checkpoint in enumerate(told.checkpoints, start=1):
        assert {"jobs", "invoices", "messages"} == {table for table, _ in checkpoint}
        # never a job without its invoice
        assert [n, n] in [shown[:2] for shown in told.shown]
    assert all(jobs == invoices for jobs, invoices, _ in told.shown)
    assert len(told.checkpoints) == 2


async def test_changes_are_asked_for_while_realtime_is_away(portal: Portal) -> None:
    told = Told()
    async with (
        Proxy(portal.stack.gateway_port, Faults(Random())).serve() as proxy,
        following(portal, "cilka", told, {"jobs": ["jobs", None]}, proxy.url) as client,
    ):
        await shows(client, "jobs", state="connected")
        proxy.refuses_sockets = True
        proxy.cut_all()
        polling = await shows(client, "jobs", state="polling", isConnected=False)
        assert polling["error"]["name"] == "Unavailable"
        assert (await client.ask("state"))["state"] == "polling"

        job = add_job(portal, "cilka")
        await until(lambda: bool(told.changes["jobs"]))
        proxy.refuses_sockets = False
        jobs = await shows(client, "jobs", state="connected", error=None)
        assert [row["id"] for row in jobs["rows"]] == [str(job)]

        # and without any server
        portal.servers.stop_gateway()
        away = await shows(client, "jobs", state="offline")
        assert len(away["rows"]) == 1
        assert "can't be reached" in away["error"]["message"]
        portal.servers.start_gateway()
        await shows(client, "jobs", state="connected", error=None)
    assert len(told.changes["jobs"]) == 1


async def test_each_trouble_has_a_state_and_a_sentence(portal: Portal) -> None:
    told = Told()
    carlos = portal.customer("carlos")
    mine = add_job(portal, "cilka")
    follow = {"jobs": ["jobs", None], "another's": ["messages", str(carlos)]}
    async with following(portal, "cilka", told, follow) as client:
        await shows(client, "jobs", state="connected")
        refused = await shows(client, "another's", state="error", rows=[])
        assert refused["error"] == {
            "name": "NotAllowed",
            "message": "You may not follow this, or not any more.",
        }
        await answers(client, "state", state="connected")

        # nobody is signed in: what was shown was another's
        await client.ask("be", user=None)
        signed_out = await shows(client, "jobs", state="needs-auth", rows=[])
        assert "Sign in" in signed_out["error"]["message"]
        await client.ask("be", user=str(seed_uuid("carlos")))
        his = add_job(portal, "carlos")
        jobs = await shows(client, "jobs", state="connected", error=None)
        assert [row["id"] for row in jobs["rows"]] == [str(his)]
        await client.ask("be", user=str(seed_uuid("cilka")))
        await shows(client, "jobs", SECONDS, state="connected", error=None, isConnected=True)
        await shows(client, "jobs", ids=[str(mine)])

        await client.ask("churn", times=200)
        await shows(client, "jobs", state="connected", error=None)
        await client.ask("close")
        closed = await client.ask("snapshot", of="jobs")
        assert (closed["state"], len(closed["rows"])) == ("closed", 1)
        assert (await client.ask("left"))["channels"] == 0
    assert told.changes["jobs"] == []


async def test_it_asks_nothing_for_as_long_as_it_is_told_to_wait(portal: Portal) -> None:
    told = Told()
    async with (
        Proxy(portal.stack.gateway_port, Faults(Random())).serve() as proxy,
        following(portal, "cilka", told, {"jobs": ["jobs", None]}, proxy.url) as client,
    ):
        await shows(client, "jobs", state="connected")
        proxy.busy_for = 3
        # connections that are kept would go on to be served
        proxy.cut_all()
        await client.ask("pause")
        await client.ask("resume")
        busy = await shows(client, "jobs", state="offline")
        while busy["error"] is None:
            busy = await client.ask("snapshot", of="jobs")
        assert busy["error"]["message"] == "Too many requests."
        # it would have asked ten times meanwhile
        before = proxy.told_to_wait
        await asyncio.sleep(2)
        assert proxy.told_to_wait <= before + 1
        proxy.busy_for = None
        add_job(portal, "cilka")
        await shows(client, "jobs", state="connected", error=None)
        await until(lambda: bool(told.changes["jobs"]))


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_wrong_by_an_hour_keeps_nobody_from_hearing(
    portal: Portal, hours: int
) -> None:
    told = Told()
    wrong = {"clock": hours * 3_600_000, "lifetime": [4, 4]}
    async with following(
        portal, "cilka", told, {"jobs": ["jobs", None]}, timing=HEARING, **wrong
    ) as client:
        await shows(client, "jobs", state="connected")
        # longer than its token is good
        await asyncio.sleep(5)
        add_job(portal, "cilka")
        await until(lambda: bool(told.changes["jobs"]))
        await shows(client, "jobs", state="connected", error=None)


async def test_who_is_there_and_who_types_is_seen_by_the_other_side(portal: Portal) -> None:
    chat = str(portal.conversation("cilka"))
    andrej = str(person_id(seed_uuid("andrej")))
    theirs = {
        "desk": ["presence", "desk", str(ALPINE)],
        "typing": ["typing", "staff", chat],
        "hers": ["typing", "customer", chat],
    }
    async with (
        following(portal, "andrej", Told(), theirs, timing=HEARING) as staff,
        following(portal, "cilka", Told(), theirs, timing=HEARING) as customer,
    ):
        for client in (staff, customer):
            for name in theirs:
                await shows(client, name, isConnected=True, error=None)
        await staff.ask("show", of="desk", shown={"as": "Andrej"})
        online = (await shows(customer, "desk", isOnline=[andrej]))["onlineUsers"]
        assert online[andrej]["as"] == "Andrej"
        await customer.ask("say", of="hers")
        await shows(staff, "hers", isTyping=True)
        assert not (await staff.ask("snapshot", of="typing"))["isTyping"]

        # a customer is not seen at a desk
        await customer.ask("show", of="desk", shown={"as": "staff"})
        refused = await shows(customer, "desk", isOnline=[andrej], isConnected=True)
        while refused["error"] is None:
            refused = await customer.ask("snapshot", of="desk")
        assert refused["error"]["name"] == "NotAllowed"
        await staff.ask("close")
        await shows(customer, "desk", isOnline=[])


async def test_edits_show_at_once_and_are_taken_back_when_refused(portal: Portal) -> None:
    job = str(add_job(portal, "cilka"))
    cilka = str(portal.customer("cilka"))
    staff_told, told = Told(), Told()
    async with (
        following(portal, "andrej", staff_told, {"jobs": ["jobs", None]}) as staff,
        following(portal, "cilka", told, {"me": ["profile", cilka]}) as customer,
    ):
        done = await staff.ask(
            "write", of="jobs", how="update", given=[job, {"status": "in_progress"}]
        )
        assert done["thrown"] is None
        assert [row["status"] for row in done["shown"] + done["after"]] == ["in_progress"] * 2
        wrong = await staff.ask("write", of="jobs", how="update", given=[job, {"status": "odd"}])
        assert [row["status"] for row in wrong["shown"] + wrong["after"]] == ["odd", "in_progress"]
        assert wrong["thrown"]["name"] == "Conflict"

        # that is nobody's number
        given = [{"name": "Cilka C.", "phone": "1"}]
        wrong = await customer.ask("write", of="me", how="edit", given=given)
        assert [row["name"] for row in wrong["shown"]] == ["Cilka C."]
        assert wrong["thrown"]["message"]
        before = wrong["after"][0]
        done = await customer.ask("write", of="me", how="edit", given=[{"name": "Cilka D."}])
        assert done["thrown"] is None
        assert [row["name"] for row in done["shown"] + done["after"]] == ["Cilka D."] * 2
        await until(lambda: bool(told.changes["me"]))
    assert [change["row"]["status"] for change in staff_told.changes["jobs"]] == ["in_progress"]
    assert [(change["row"]["name"], change["old"]) for change in told.changes["me"]] == [
        ("Cilka D.", before)
    ]


async def test_a_team_follows_its_desk_in_both_clients_and_a_customer_does_not(
    portal: Portal,
) -> None:
    told, hers = Told(), Told()
    conversation, other = portal.conversation("cilka"), portal.conversation("cilka")
    portal.write("cilka", conversation, "one", "two")
    tables = ("desk_states", "labels", "conversation_labels", "saved_replies", "account_health")
    follow: dict[str, list[Any]] = {table: ["desk", table] for table in tables}
    follow["notes"] = ["desk", "conversation_notes", {"conversation": str(conversation)}]
    follow["messages"] = ["conversation", str(conversation)]
    ask(portal.world, "andrej", "select public.take_conversation(%s)", other)
    async with (
        following(portal, "andrej", told, follow, timing=HEARING) as client,
        following(portal, "cilka", hers, follow, timing=HEARING) as customer,
        portal.client("vera", SLOWLY) as live,
        live.desk.notes(conversation) as notes,
        live.desk.states() as states,
        live.desk.labels() as labels,
        live.desk.conversation_labels() as labelled,
        live.desk.saved_replies() as replies,
        live.desk.health() as health,
        live.conversation(conversation) as messages,
        await live.presence("desk", ALPINE) as desk,
        await live.presence("staff", conversation) as room,
    ):
        for name in follow:
            await shows(client, name, isConnected=True)
            await shows(customer, name, isConnected=True)
        followed = (notes, states, labels, labelled, replies, health, messages)
        await until(lambda: all(part.is_connected for part in followed) and desk.is_connected)
        assert [row.id for row in states.rows.values()] == [other]

        note = insert(
            portal.world,
            "andrej",
            "conversation_notes",
            conversation_id=conversation,
            note="She has a dog.",
        )
        ask(portal.world, "andrej", "select public.take_conversation(%s)", conversation)
        label = insert(portal.world, "andrej", "labels", account_id=ALPINE, name="VIP")
        ask(
            portal.world,
            "andrej",
            "select public.label_conversation(%s, %s)",
            conversation,
            label["id"],
        )
        insert(
            portal.world,
            "andrej",
            "saved_replies",
            account_id=ALPINE,
            short_code="hi",
            text="Hello {{contact.name}}",
        )

        await until(lambda: len(notes.rows) == 3 and len(replies.rows) == len(labelled.rows) == 1)
        assert {row.seq: row.kind for row in notes.rows.values()} == {
            1: "note",
            2: "event",
            3: "event",
        }
        assert states.rows[conversation].assignee_id == seed_uuid("andrej")
        assert [row.name for row in labels.rows.values()] == ["VIP"]
        shown = await shows(client, "saved_replies", isConnected=True)
        assert [row["short_code"] for row in shown["rows"]] == ["hi"]
        shown = await shows(client, "notes", isConnected=True)
        assert [row["note"] for row in shown["rows"]] == [
            "She has a dog.",
            "andrej has taken the conversation.",
            "andrej has added the label VIP.",
        ]
        assert shown["rows"][0]["id"] == str(note["id"])

        # unread again, in either client
        for of in (messages, None):
            if of is None:
                await client.ask(
                    "write", of="messages", how="markRead", given=[str(conversation), 2]
                )
                await shows(client, "messages", unreadCount=0)
                await client.ask("unread", of="messages", conversation=str(conversation))
                await shows(client, "messages", unreadCount=1)
            else:
                await of.mark_read(conversation, 2)
                assert of.unread_count == 0
                await of.mark_unread(conversation)
                assert of.unread_count == 1

        # who is at the desk has a turn
        present = "select user_id from private.desk_presence"
        await desk.show_me()
        await client.ask("stay", account=str(ALPINE))
        await until(
            lambda: (
                {row["user_id"] for row in portal.world.rows(present)}
                == {seed_uuid("andrej"), seed_uuid("vera")}
            )
        )

        watching = "select user_id from private.conversation_watchers"
        await room.show_me()
        await client.ask("stay", conversation=str(conversation))
        await until(
            lambda: (
                {row["user_id"] for row in portal.world.rows(watching)}
                == {seed_uuid("andrej"), seed_uuid("vera")}
            )
        )

        # a number that is stopped
        stop = "update public.whatsapp_channels set stopped_at = %s where account_id = %s"
        portal.world.owner.execute(stop, [datetime.now(UTC), ALPINE])
        await until(lambda: len(health.rows) == 1)
        shown = await shows(client, "account_health", isConnected=True)
        assert [row["kind"] for row in shown["rows"]] == ["stopped_number"]
        portal.world.owner.execute(stop, [None, ALPINE])
        await until(lambda: not health.rows)

        # a customer is told of its messages, and of nothing else
        portal.write("andrej", conversation, "hello")
        await until(
            lambda: any(change["eventType"] == "INSERT" for change in hers.changes["messages"])
        )
        for name in (*tables, "notes"):
            assert (await shows(customer, name, isConnected=True))["rows"] == []
    assert list(hers.changes) == ["messages"]
    assert [change["eventType"] for change in told.changes["notes"]] == ["INSERT"] * 3


def add_conversations(portal: Portal, *names: str) -> list[UUID]:
    """Conversations of new contacts, the first one the oldest."""
    for place, name in enumerate(names):
        portal.world.ingest(
            text_message(
                f"wamid.{name}",
                f"38640777{place:03}",
                profile_name=name,
                sent_at=ago(minutes=len(names) - place),
            )
        )
    rows = portal.world.rows(
        "select a.conversation_id from public.conversation_activity a"
        " join public.customers c on c.id = a.customer_id"
        " where c.name = any (%s) order by a.last_message_at",
        [list(names)],
    )
    return [row["conversation_id"] for row in rows]


async def test_a_team_follows_its_inbox_in_both_clients(portal: Portal) -> None:
    world = portal.world
    told: list[tuple[str, UUID]] = []
    nika, jan, nejc, ana, rok = add_conversations(portal, "Nika", "Jan", "Nejc", "Ana", "Rok")
    follow = {"inbox": ["inbox", None, {"pageSize": 2}], "chat": ["conversation", str(nika)]}

    def desk(statement: str, *given: object) -> None:
        ask(world, "andrej", f"select public.{statement}", *given)

    async with (
        following(portal, "andrej", Told(), follow, timing=HEARING) as client,
        following(portal, "cilka", Told(), {"inbox": ["inbox", None]}) as customer,
        portal.client("andrej", SLOWLY) as live,
        live.desk.inbox(
            page_size=2,
            on_insert=lambda row: told.append(("INSERT", row.id)),
            on_update=lambda row, _: told.append(("UPDATE", row.id)),
            on_delete=lambda row: told.append(("DELETE", row.id)),
        ) as inbox,
        live.conversation(nika) as chat,
    ):

        async def both(*ids: UUID, **wanted: object) -> list[Inbox]:
            """Waits until both show these conversations, as their user selects them."""
            select = "select to_jsonb(i) as row from public.inbox i where id = any (%s)"
            async with asyncio.timeout(SECONDS):
                while True:
                    selected = {
                        UUID(row["row"]["id"]): row["row"]
                        for row in ask(world, "andrej", select, list(ids))
                    }
                    shown = await client.ask("snapshot", of="inbox")
                    expected = [Inbox.model_validate(selected[one]) for one in ids]
                    if (
                        [Inbox.model_validate(row) for row in shown["rows"]] == expected
                        and list(inbox.rows.values()) == expected
                        and all(
                            shown[_camel(name)] == getattr(inbox, name) == value
                            for name, value in wanted.items()
                        )
                    ):
                        return expected
                    await asyncio.sleep(0.02)

        async def choose(wanted: InboxFilter, **given: object) -> None:
            await inbox.set_filter(wanted)
            await client.ask("do", of="inbox", how="setFilter", given=[given])

        await shows(client, "inbox", isConnected=True, isLoading=False)
        await until(lambda: inbox.is_connected)
        await both(rok, ana, has_more=True, unread_count=2)
        assert (await customer.ask("snapshot", of="inbox"))["rows"] == []

        # further pages
        await inbox.load_more()
        await client.ask("do", of="inbox", how="loadMore", given=[])
        await both(rok, ana, nejc, jan, has_more=True)
        assert told == []

        # a message from beyond the pages, and what is read
        world.ingest(
            text_message("wamid.again", "38640777000", profile_name="Nika", sent_at=ago(seconds=1))
        )
        await both(nika, rok, ana, nejc, jan, has_more=True)
        assert told == [("INSERT", nika)]
        await chat.mark_read(nika, 2)
        await client.ask("write", of="chat", how="markRead", given=[str(nika), 2])
        await both(nika, rok, ana, nejc, jan, unread_count=4)

        # what a team does
        label = insert(world, "andrej", "labels", account_id=ALPINE, name="VIP")
        desk("take_conversation(%s)", rok)
        desk("label_conversation(%s, %s)", ana, label["id"])
        desk("snooze_conversation(%s, now() + interval '1 day')", nejc)
        desk("set_conversation_status(%s, 'closed')", jan)
        world.owner.execute(
            "update public.contacts set name = 'Nika N.' where profile_name = 'Nika'"
        )
        rows = await both(nika, rok, ana, nejc, jan)
        assert [row.customer_name for row in rows] == ["Nika N.", "Rok", "Ana", "Nejc", "Jan"]
        assert (rows[1].assignee_name, rows[2].label_ids) == ("andrej", (label["id"],))
        counted = {
            "assignees": {"andrej": 1},
            "snoozed": 1,
            "free": 2,
            "labels": {"VIP": 1},
        }
        await until(lambda: inbox.counts is not None and as_counted(inbox.counts) == counted)
        await snapshot(
            client,
            "inbox",
            lambda shown: as_counted(InboxCounts.model_validate(shown["counts"])) == counted,
        )

        # what the filter brings and takes away
        await choose(
            InboxFilter(status="open", is_free=True, is_snoozed=False),
            status="open",
            isFree=True,
            isSnoozed=False,
        )
        await both(nika, ana, has_more=False)
        desk("take_conversation(%s)", ana)
        await both(nika)
        desk("release_conversation(%s)", rok)
        desk("snooze_conversation(%s, null)", nejc)
        await both(nika, rok, nejc)
        await choose(InboxFilter(query="jAN"), query="jAN")
        await both(jan)
        await inbox.pin(ana)
        await client.ask("do", of="inbox", how="pin", given=[str(ana)])
        world.ingest(
            text_message("wamid.ana", "38640777003", profile_name="Ana", text="here", sent_at=ago())
        )
        await until(lambda: inbox.pinned is not None and inbox.pinned.last_message == "here")
        await snapshot(
            client, "inbox", lambda shown: (shown["pinned"] or {}).get("last_message") == "here"
        )
        await both(jan)
        world.owner.execute(
            "delete from public.account_members where user_id = %s", [seed_uuid("andrej")]
        )
        await both()


def as_counted(counts: InboxCounts) -> dict[str, object]:
    return {
        "assignees": {one.name: one.conversations for one in counts.assignees if one.conversations},
        "snoozed": counts.snoozed,
        "free": counts.free,
        "labels": {one.name: one.conversations for one in counts.labels},
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


async def test_a_team_follows_what_is_sent_later_and_its_sync_in_both_clients(
    portal: Portal,
) -> None:
    world = portal.world
    conversation, other = portal.conversation("cilka"), portal.conversation("cilka")
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    hello = {"conversation_id": other, "message": "hello", "send_at": later}
    insert(world, "andrej", "scheduled_messages", **hello)
    follow: dict[str, list[Any]] = {
        "scheduled": ["desk", "scheduled_messages"],
        "here": ["desk", "scheduled_messages", {"conversation": str(conversation)}],
        "rules": ["desk", "reminder_rules"],
        "runs": ["desk", "sync_runs"],
        "reminders": ["reminders", str(ALPINE), {"pageSize": 1}],
        "questions": ["questions"],
    }
    async with (
        following(portal, "andrej", Told(), follow, timing=HEARING) as client,
        portal.client("andrej", SLOWLY) as live,
        live.desk.scheduled_messages() as scheduled,
        live.desk.scheduled_messages(conversation) as here,
        live.desk.reminder_rules() as rules,
        live.desk.sync_runs() as runs,
        live.desk.reminders(ALPINE, page_size=1) as reminders,
        live.desk.sync_questions() as questions,
    ):
        followed: dict[str, Subscription[Any]] = {
            "scheduled": scheduled,
            "here": here,
            "rules": rules,
            "runs": runs,
            "reminders": reminders,
            "questions": questions,
        }

        async def both(name: str, column: str, *values: object) -> None:
            wanted = [str(value) for value in values]
            async with asyncio.timeout(SECONDS):
                while True:
                    shown = (await client.ask("snapshot", of=name))["rows"]
                    rows = followed[name].rows.values()
                    if [str(row[column]) for row in shown] == wanted and sorted(
                        str(getattr(row, column)) for row in rows
                    ) == sorted(wanted):
                        return
                    await asyncio.sleep(0.02)

        for name, one in followed.items():
            await shows(client, name, isConnected=True)
            await until(lambda one=one: one.is_connected)
        await both("scheduled", "status", "waiting")
        await both("here", "status")

        # sent later, moved, cancelled
        sent = insert(
            world,
            "andrej",
            "scheduled_messages",
            conversation_id=conversation,
            message="tomorrow",
            send_at=soon,
        )
        await both("scheduled", "message", "tomorrow", "hello")
        await both("here", "message", "tomorrow")
        change(world, "andrej", "scheduled_messages", sent["id"], status="cancelled")
        await both("here", "status", "cancelled")

        # reminders follow their rules and their jobs
        insert(
            world,
            "olivia",
            "reminder_rules",
            account_id=ALPINE,
            name="soon",
            kind="before_appointment",
            minutes=60,
            text="{{contact.name}}, see you soon",
        )
        await both("rules", "name", "soon")
        add_job(portal, "cilka")
        world.owner.execute("update public.jobs set starts_at = now() + interval '2 days'")
        await both("reminders", "way", "portal")
        add_job(portal, "cilka")
        world.owner.execute("update public.jobs set starts_at = now() + interval '3 days'")
        await until(lambda: reminders.has_more)
        await reminders.load_more()
        await shows(client, "reminders", hasMore=True)
        await client.ask("do", of="reminders", how="loadMore", given=[])
        await both("reminders", "way", "portal", "portal")
        world.owner.execute("update public.jobs set status = 'cancelled'")
        await both("reminders", "way")

        # a run, its progress, and what it asks
        run = uuid4()
        world.owner.execute(
            "insert into public.sync_runs (id, account_id, direction, trigger, total)"
            " values (%s, %s, 'both', 'user', 2)",
            [run, ALPINE],
        )
        await both("runs", "done", 0)
        with world.owner.transaction():
            world.owner.execute(
                "insert into public.sync_conflicts (account_id, contact_id, metakocka_id, field)"
                " values (%s, %s, '5', 'email')",
                [ALPINE, portal.customer("cilka")],
            )
            world.owner.execute("update public.sync_runs set done = 1 where id = %s", [run])
        await both("runs", "done", 1)
        await both("questions", "field", "email")
        world.owner.execute(
            "update public.sync_conflicts set state = 'resolved', choice = 'crm',"
            " decided_by = 'person', resolved_at = now()"
        )
        await questions.refresh()
        await client.ask("do", of="questions", how="refresh", given=[])
        await both("questions", "field")


async def test_agent_sees_contacts_as_the_views_have_them(portal: Portal) -> None:
    told = Told()
    chat = portal.conversation("cilka")
    follow = {"contacts_v2": ["contacts", "v2"], "contacts_live_chat": ["contacts", "live_chat"]}

    def as_the_view_has(view: str) -> list[Any]:
        with portal.world.acting_as("andrej") as connection:
            rows = connection.execute(f"select to_jsonb(v) from public.{view} v").fetchall()
        return sorted((row[0] for row in rows), key=itemgetter("id"))

    async def agrees(client: node.Client, view: str) -> None:
        async with asyncio.timeout(SECONDS):
            rows: list[Any] = []
            while rows != as_the_view_has(view):
                snapshot = await client.ask("snapshot", of=view)
                rows = sorted(snapshot["rows"], key=itemgetter("id"))

    async with following(portal, "andrej", told, follow, timing=HEARING) as client:
        for view in follow:
            await shows(client, view, isConnected=True)
            await agrees(client, view)
        portal.rename("cilka", "Cilka C.")
        portal.write("cilka", chat, "hello")
        portal.world.owner.execute(
            "update public.conversations set status = 'pending' where id = %s", (chat,)
        )
        for view in follow:
            await agrees(client, view)
        await client.ask("pause")
        portal.write("andrej", portal.conversation("cilka"), "another chat")
        portal.rename("cilka", "Cilka D.")
        await client.ask("resume")
        for view in follow:
            await agrees(client, view)
    cilka = str(portal.customer("cilka"))
    changes = told.changes["contacts_live_chat"]
    assert {change["row"]["id"] for change in changes} == {cilka}
    assert all(change["eventType"] == "UPDATE" for change in changes)
    assert "Pending" in [change["row"]["conversation_status"] for change in changes]


async def test_nothing_is_missed_and_nothing_told_twice_whatever_fails(portal: Portal) -> None:
    cilka, carlos = portal.customer("cilka"), portal.customer("carlos")
    conversations = [portal.conversation("cilka") for _ in range(3)]
    conversations.append(portal.conversation("carlos"))
    portal.write("andrej", conversations[0], "before", "the subscription")
    hers, desk, his = Told(), Told(), Told()
    faults = Faults(Random(SEED))
    flaky = {"lifetime": [1.5, 6], "realtime": {"heartbeatIntervalMs": 500}}
    async with (
        Proxy(portal.stack.gateway_port, faults).serve() as proxy,
        following(portal, "cilka", hers, both(cilka), proxy.url, **flaky) as cilkas,
        following(
            portal, "andrej", desk, {"messages": ["messages", None]}, proxy.url, **flaky
        ) as andrejs,
        following(portal, "carlos", his, both(carlos), proxy.url, **flaky) as carloses,
    ):
        before = versions(portal.world, "messages", cilka)
        profile_before = versions(portal.world, "customers", cilka, "id")
        writers = Writers(portal, conversations, CHANGES, SEED)
        trouble = Trouble(portal, proxy)
        faults.drop, faults.delay, faults.cut, faults.stall = 0.1, 0.02, 0.01, 0.003
        writers.start()
        while not writers.are_done:
            await asyncio.sleep(1.5)
            await trouble.strike()
        while trouble.count < 4:
            await trouble.strike()
        assert not writers.errors

        faults.calm()
        expected = versions(portal.world, "messages", cilka)
        expected_profile = versions(portal.world, "customers", cilka, "id")
        patience = 60.0
        await shows(cilkas, "messages", patience, isConnected=True, error=None)
        await shows(andrejs, "messages", patience, isConnected=True, error=None)
        shut_out = await shows(carloses, "messages", patience, state="error", rows=[])
        assert shut_out["error"]["name"] == "NotAllowed"
        # what is still on its way would now be told twice
        await asyncio.sleep(3)

        own = await cilkas.ask("snapshot", of="messages")
        assert {UUID(row["id"]): row["version"] for row in own["rows"]} == expected
        assert {row["customer_id"] for row in own["rows"]} == {str(cilka)}
    witness = hers.witness("messages", Message)
    witness.check_rows(expected, before)
    check_order(witness.inserts)
    hers.witness("profile", Profile).check_rows(expected_profile, profile_before)
    everyones = desk.witness("messages", Message)
    # what was carlos' is the desk's as well
    everyones.told = defaultdict(
        list, {row: told for row, told in everyones.told.items() if row in expected}
    )
    everyones.check_rows(expected, before, knows_before=False)
    check_order(everyones.inserts)
    assert {change["row"]["customer_id"] for change in his.changes["messages"]} <= {str(carlos)}
    assert faults.seen.keys() == {"drop", "delay", "cut", "stall"}


def both(customer: UUID) -> dict[str, list[Any]]:
    return {"messages": ["messages", str(customer)], "profile": ["profile", str(customer)]}
