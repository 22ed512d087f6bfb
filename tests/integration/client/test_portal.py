"""A customer's portal, live: bookings, invoices, points, chats and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from tests.integration.client.portal import HEARING, Portal, until
from tests.sql.asking import ask
from tests.sql.portal import (
    CARLOS,
    CILKA,
    add_points,
    change,
    make_job,
    send_invoice,
    total,
    write_invoice,
)

from rapport.client.everything import EverythingCallbacks
from rapport.client.rows import Invoice, Job, Message
from rapport.errors import NotAllowed

Steps = list[tuple[str | None, str | None]]


def inserted(steps: Steps) -> Callable[[Job | Invoice], None]:
    return lambda new: steps.append((None, new.status))


def updated(steps: Steps) -> Callable[[Any, Any], None]:
    """Notes from which status to which; `old` must be there."""
    return lambda new, old: steps.append((old.status, new.status))


def chat_of(portal: Portal, booking: UUID) -> UUID:
    found: UUID = portal.world.value(
        "select id from public.conversations where booking_id = %s", [booking]
    )
    return found


def post(portal: Portal, user: str, booking: UUID, text: str) -> UUID:
    query = "select public.post_message(booking_id => %s, message => %s) ->> 'id' as id"
    return UUID(ask(portal.world, user, query, booking, text)[0]["id"])


async def test_customer_sees_bookings_and_invoices_as_they_change(portal: Portal) -> None:
    world = portal.world
    former = make_job(world)["id"]
    write_invoice(world, number="a draft of before")
    jobs: Steps = []
    invoices: Steps = []
    async with (
        portal.client("cilka", HEARING) as live,
        live.jobs(CILKA, on_insert=inserted(jobs), on_update=updated(jobs)) as her_jobs,
        live.invoices(
            CILKA, on_insert=inserted(invoices), on_update=updated(invoices)
        ) as her_invoices,
    ):
        await until(lambda: her_jobs.is_connected and her_invoices.is_connected)
        assert her_jobs.rows.keys() == {former}
        assert her_invoices.rows == {}

        make_job(world, "ana", CARLOS)
        send_invoice(world, "ana", customer=CARLOS)
        change(world, "andrej", "jobs", former, starts_at="2026-12-02T09:00:00Z")
        job = make_job(world)["id"]
        change(world, "andrej", "jobs", job, status="cancelled")
        invoice = write_invoice(world, job_id=job)["id"]
        # nothing of a draft is the customer's
        change(world, "andrej", "invoices", invoice, amount_minor=9900)
        change(world, "andrej", "invoices", invoice, status="sent")
        change(world, "andrej", "invoices", invoice, status="paid")

        await until(lambda: len(jobs) == 3 and len(invoices) == 2)
        assert jobs == [
            ("scheduled", "rescheduled"),
            (None, "scheduled"),
            ("scheduled", "cancelled"),
        ]
        assert invoices == [(None, "sent"), ("sent", "paid")]
        assert her_jobs.rows.keys() == {former, job}
        assert her_invoices.rows.keys() == {invoice}
        assert her_invoices.rows[invoice].amount_minor == 9900
        assert her_jobs.error is None


async def test_points_count_once_also_those_of_a_gap(portal: Portal) -> None:
    world = portal.world
    add_points(world, 100)
    earned: list[int] = []
    redeemed: list[int] = []
    lines: list[str] = []
    async with (
        portal.client("cilka", HEARING) as live,
        live.loyalty(
            CILKA,
            on_points_earned=lambda line: earned.append(line.points),
            on_points_redeemed=lambda line: redeemed.append(line.points),
            on_insert=lambda line: lines.append(line.type),
        ) as loyalty,
    ):
        await until(lambda: loyalty.is_connected)
        assert loyalty.total_points == 100
        add_points(world, 1000, "ana", customer_id=CARLOS)
        add_points(world, 50)
        add_points(world, 20, type="bonus", expires_on="2026-01-01")
        add_points(world, -30, type="redeemed")
        await until(lambda: len(lines) == len(earned) + len(redeemed) == 3)
        assert (earned, redeemed, loyalty.total_points) == ([50, 20], [-30], total(world))

        await live.pause()
        add_points(world, 7)
        add_points(world, -60)
        add_points(world, 5, expires_on="2026-01-01")
        assert world.value("select backend.expire_points()") == 1
        await live.resume()
        await until(lambda: len(lines) == 7 and len(earned) + len(redeemed) == 6)

        assert earned == [50, 20, 7, 5]
        assert redeemed == [-30, -60]
        assert sorted(lines[3:]) == ["earned", "earned", "expired", "redeemed"]
        assert loyalty.total_points == total(world)


async def test_customer_and_staff_share_the_chat_of_a_booking(portal: Portal) -> None:
    world = portal.world
    booking = make_job(world)["id"]
    chat = chat_of(portal, booking)
    heard: dict[str, list[tuple[str, int]]] = {"cilka": [], "andrej": []}

    def noting(user: str, what: str) -> Callable[[Message], None]:
        return lambda message: heard[user].append((what, message.seq))

    async with (
        portal.client("cilka", HEARING) as cilka,
        portal.client("andrej", HEARING) as andrej,
        portal.client("carlos", HEARING) as carlos,
        cilka.messages(
            CILKA,
            booking,
            on_new_message=noting("cilka", "new"),
            on_message_read=noting("cilka", "read"),
            on_message_deleted=noting("cilka", "deleted"),
        ) as hers,
        andrej.conversation(
            chat,
            on_new_message=noting("andrej", "new"),
            on_message_read=noting("andrej", "read"),
            on_message_deleted=noting("andrej", "deleted"),
        ) as his,
        andrej.messages(booking_id=booking) as all_his,
        cilka.conversation(chat) as also_hers,
        carlos.conversation(chat) as foreign,
        carlos.messages(CILKA, booking) as also_foreign,
    ):
        await until(lambda: hers.is_connected and his.is_connected)
        await until(lambda: isinstance(foreign.error, NotAllowed))
        assert [row.sender_type for row in hers.rows.values()] == ["system"]

        portal.write("andrej", portal.conversation("cilka"), "of something else")
        post(portal, "andrej", booking, "Is Tuesday fine?")
        answer = post(portal, "cilka", booking, "Yes")
        await until(lambda: len(heard["andrej"]) == len(heard["cilka"]) == 2)
        assert heard["andrej"] == heard["cilka"] == [("new", 2), ("new", 3)]
        assert (hers.unread_count, his.unread_count) == (2, 1)

        await his.mark_read(chat, 3)
        await until(lambda: ("read", 3) in heard["cilka"])
        await hers.mark_read(chat, 3)
        await until(lambda: len(heard["andrej"]) == len(heard["cilka"]) == 5)
        assert (hers.unread_count, his.unread_count) == (0, 0)
        # each is told of both sides' reading
        for told in heard.values():
            assert told[2] == ("read", 3)
            assert sorted(told[3:]) == [("read", 1), ("read", 2)]

        ask(world, "cilka", "select public.delete_message(%s)", answer)
        await until(lambda: len(heard["andrej"]) == len(heard["cilka"]) == 6)
        assert heard["andrej"][5] == heard["cilka"][5] == ("deleted", 3)
        assert his.rows[answer].message == ""
        await until(lambda: all_his.rows == also_hers.rows == his.rows == hers.rows)
        assert foreign.rows == also_foreign.rows == {}


async def test_everything_of_a_portal_is_told_by_one_topic_also_after_a_gap(
    portal: Portal,
) -> None:
    world = portal.world
    booking = make_job(world)["id"]
    heard: list[str] = []

    def noting(what: str) -> Callable[..., None]:
        return lambda *_: heard.append(what)

    callbacks: EverythingCallbacks = {
        "on_job_insert": noting("job"),
        "on_job_update": noting("job updated"),
        "on_invoice_insert": noting("invoice"),
        "on_invoice_update": noting("invoice updated"),
        "on_new_message": noting("message"),
        "on_message_read": noting("read"),
        "on_message_deleted": noting("deleted"),
        "on_points_earned": noting("earned"),
        "on_points_redeemed": noting("redeemed"),
        "on_profile_update": noting("profile"),
    }
    others: list[str] = []

    def other(*_: object) -> None:
        others.append("something")

    def live_a_little(name: str) -> list[str]:
        """A day in the business; what Cilka is told of it."""
        make_job(world)
        change(world, "andrej", "jobs", booking, description=name)
        invoice = send_invoice(world, number=name)["id"]
        change(world, "andrej", "invoices", invoice, due_on="2026-12-31")
        add_points(world, 10)
        add_points(world, -4)
        portal.rename("cilka", name)
        message = post(portal, "andrej", booking, name)
        ask(world, "andrej", "select public.delete_message(%s)", message)
        # the chats are told of the job and of the invoice
        messages = ["message"] * 3
        rows = ["job", "job updated", "invoice", "earned", "redeemed", "profile"]
        return rows + messages

    async with (
        portal.client("cilka", HEARING) as cilka,
        portal.client("carlos", HEARING) as carlos,
        cilka.everything(CILKA, **callbacks) as all_hers,
        carlos.everything(
            CARLOS,
            on_job_insert=other,
            on_invoice_insert=other,
            on_new_message=other,
            on_points_earned=other,
            on_profile_update=other,
        ) as all_his,
        carlos.everything(CILKA, on_job_insert=other, on_new_message=other) as foreign,
    ):
        await until(lambda: all_hers.is_connected and all_his.is_connected)
        assert all_hers.active_subscriptions == 5
        assert foreign.active_subscriptions == 0
        assert isinstance(foreign.error, NotAllowed)

        told = [*live_a_little("one"), "invoice updated", "deleted"]
        await until(lambda: len(heard) == len(told))
        assert sorted(heard) == sorted(told)

        heard.clear()
        await cilka.pause()
        assert all_hers.active_subscriptions == 0
        # of each row its last state: what was new, and has changed since, is new
        told = live_a_little("two")
        await cilka.resume()
        await until(lambda: len(heard) >= len(told) and all_hers.is_connected)

        # what was told twice would be told by now
        portal.rename("cilka", "three")
        await until(lambda: heard[-1] == "profile" and len(heard) > len(told))
        assert sorted(heard) == sorted([*told, "profile"])

        assert all_hers.loyalty.total_points == total(world) == 12
        assert all_hers.profile.profile is not None
        assert all_hers.profile.profile.name == "three"
        assert len(all_hers.jobs.rows) == 3
        assert len(all_hers.invoices.rows) == 2
        assert all_hers.error is None
        await until(lambda: all_his.is_connected)
        assert others == []
        for part in (foreign.jobs, foreign.invoices, foreign.messages, foreign.loyalty):
            assert part.rows == {}
        assert foreign.profile.rows == {}
