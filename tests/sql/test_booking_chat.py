"""One chat for each booking, and one in the portal: who writes, what is shown, read and deleted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.asking import Row, ask, at_once, refusal, start_blocked
from tests.sql.outbound import conversation
from tests.sql.portal import (
    CARLOS,
    CILKA,
    MERGED,
    add_contact,
    change,
    chat,
    insert,
    make_job,
    send_invoice,
    write_invoice,
)
from tests.world import ALPINE, World, seed_uuid

INSERT = "insert into public.messages (booking_id, message) values (%s, 'hi') returning *"
TO_CUSTOMER = "insert into public.messages (customer_id, message) values (%s, 'hi') returning *"


@pytest.fixture
def booking(world: World) -> UUID:
    job: UUID = make_job(world)["id"]
    return job


def say(world: World, user: str, booking: UUID, message: str = "hi", **columns: Any) -> Row:
    return insert(world, user, "messages", booking_id=booking, message=message, **columns)


def post(world: World, user: str, **arguments: Any) -> Row:
    """What post_message answers a person."""
    given = {"message": "hi"} | arguments
    named = ", ".join(f"{name} => %s" for name in given)
    (row,) = ask(world, user, f"select public.post_message({named}) as m", *given.values())
    posted: Row = row["m"]
    return posted


# A booking's chat


def test_a_job_has_its_chat_from_the_start(world: World, booking: UUID) -> None:
    (thread,) = ask(world, "cilka", "select * from public.conversations")

    assert (thread["channel"], thread["booking_id"]) == ("booking", booking)
    assert thread["thread_key"] == str(booking)
    (told,) = ask(world, "cilka", "select * from public.messages where booking_id = %s", booking)
    assert told["message"] == "Carpet cleaning is scheduled for Tuesday, 1 December 2026 at 09:00."
    assert (told["sender_type"], told["type"], told["status"]) == ("system", "system", "sent")
    assert told["content"]["event"] == "job.scheduled"
    assert told["content"]["job_id"] == str(booking)


def test_both_sides_write_in_one_chat(world: World, booking: UUID) -> None:
    asked = say(world, "cilka", booking, "Is it on?")
    answered = post(world, "andrej", booking_id=booking, message="Yes")

    assert (asked["seq"], asked["sender_type"], asked["sender_id"]) == (
        2,
        "client",
        str(seed_uuid("cilka")),
    )
    assert (answered["seq"], answered["sender_type"]) == (3, "operator")
    assert answered["booking_id"] == str(booking)
    assert answered["conversation_id"] == str(asked["conversation_id"])
    assert (asked["has_invoice"], asked["invoice_data"]) == (False, None)


def test_bookings_do_not_mix(world: World, booking: UUID) -> None:
    other = make_job(world)["id"]
    say(world, "cilka", booking, "first")
    say(world, "cilka", other, "second")

    assert [message for _, message in chat(world, booking)][1:] == ["first"]
    assert [message for _, message in chat(world, other)][1:] == ["second"]


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("carlos", "PT404"), ("stranger", "PT404")],
)
def test_who_may_not_write_writes_nothing(
    world: World, booking: UUID, user: str, code: str
) -> None:
    refused = refusal(world, user, INSERT, booking)
    assert refused.code == code
    if code == "PT404":
        assert refused == refusal(world, user, INSERT, seed_uuid("nothing"))
    assert len(chat(world, booking)) == 1


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_others_read_nothing(world: World, booking: UUID, user: str) -> None:
    say(world, "cilka", booking)

    assert ask(world, user, "select * from public.messages where booking_id = %s", booking) == []


def test_a_message_is_not_for_two_places(world: World, booking: UUID) -> None:
    whatsapp = conversation(world)
    other = make_job(world)["id"]
    threads = [
        row["id"]
        for row in world.rows(
            "select id from public.conversations where id = %s or booking_id = %s",
            [whatsapp, other],
        )
    ]
    query = "insert into public.messages (conversation_id, booking_id, message) values (%s, %s, '')"
    for thread in threads:
        refused = refusal(world, "andrej", query, thread, booking)
        assert (refused.code, refused.detail) == ("PT422", "field: booking_id")


def test_a_message_for_nobody_is_refused(world: World) -> None:
    refused = refusal(world, "andrej", "insert into public.messages (message) values ('hi')")
    assert (refused.code, refused.detail) == ("PT422", "field: conversation_id")


def test_message_has_the_booking_of_its_conversation(world: World, booking: UUID) -> None:
    """The database's own word, for every writer."""
    with pytest.raises(Exception, match="the booking of its conversation"):
        world.owner.execute(
            "insert into public.messages (account_id, conversation_id, customer_id, seq,"
            " sender_type, message, status)"
            " select account_id, id, customer_id, 9, 'operator', 'x', 'sent'"
            " from public.conversations where booking_id = %s",
            [booking],
        )


def test_a_message_sent_again_by_the_client_is_one(world: World, booking: UUID) -> None:
    first = post(world, "cilka", booking_id=booking, client_ref="a")
    assert post(world, "cilka", booking_id=booking, client_ref="a") == first
    at_once(*[lambda: post(world, "cilka", booking_id=booking, client_ref="b")] * 6)

    assert len(chat(world, booking)) == 3


def test_numbers_have_no_gap_while_all_sides_write_at_once(world: World, booking: UUID) -> None:
    def move(day: int) -> Any:
        return lambda: change(world, "adam", "jobs", booking, starts_at=f"2027-01-0{day}")

    at_once(
        *[lambda: say(world, "cilka", booking)] * 4,
        *[lambda: say(world, "andrej", booking)] * 4,
        *[move(day) for day in (1, 2, 3)],
    )
    rows = world.rows(
        "select seq from public.messages where booking_id = %s order by seq", [booking]
    )
    assert [row["seq"] for row in rows] == list(range(1, 13))
    assert world.value("select last_seq from public.conversation_activity") == 12


def test_a_chat_that_was_closed_is_opened_by_who_writes_and_not_by_the_system(
    world: World, booking: UUID
) -> None:
    world.owner.execute("update public.conversations set status = 'closed'")
    change(world, "andrej", "jobs", booking, status="in_progress")
    assert world.value("select status from public.conversations") == "closed"
    say(world, "cilka", booking)
    assert world.value("select status from public.conversations") == "open"


# What the system tells


def test_what_becomes_of_a_job_is_told_in_its_chat(world: World, booking: UUID) -> None:
    change(world, "andrej", "jobs", booking, starts_at="2026-12-02T10:30:00Z")
    change(world, "andrej", "jobs", booking, starts_at="2026-12-03T10:30:00Z")
    change(world, "andrej", "jobs", booking, address="Main Street 1")
    change(world, "andrej", "jobs", booking, status="in_progress")
    change(world, "andrej", "jobs", booking, status="completed")

    assert chat(world, booking) == [
        ("system", "Carpet cleaning is scheduled for Tuesday, 1 December 2026 at 09:00."),
        ("system", "Carpet cleaning is rescheduled to Wednesday, 2 December 2026 at 10:30."),
        ("system", "Carpet cleaning is rescheduled to Thursday, 3 December 2026 at 10:30."),
        ("system", "Carpet cleaning is in progress."),
        ("system", "Carpet cleaning is completed."),
    ]


def test_what_was_undone_is_not_told(world: World, booking: UUID) -> None:
    """The notice is part of the same transaction."""
    with world.owner.transaction(force_rollback=True):
        world.owner.execute("update public.jobs set status = 'cancelled'")
    assert len(chat(world, booking)) == 1


def test_invoices_are_told_in_the_chat_of_their_job(world: World, booking: UUID) -> None:
    invoice = send_invoice(world, job_id=booking)
    change(world, "andrej", "invoices", invoice["id"], status="paid")

    assert chat(world, booking)[1:] == [
        ("system", "Invoice 2026-001 has been sent."),
        ("system", "Invoice 2026-001 has been paid."),
    ]
    (told,) = ask(world, "cilka", "select * from public.messages where seq = 2")
    assert told["has_invoice"]
    assert told["invoice_data"] == {
        "invoice_id": str(invoice["id"]),
        "number": "2026-001",
        "amount_minor": 12050,
        "currency": "EUR",
        "status": "sent",
        "due_on": None,
    }
    assert told["content"] == {"event": "invoice.sent", "invoice_id": str(invoice["id"])}


def test_an_invoice_without_a_job_is_told_in_the_portal(world: World, booking: UUID) -> None:
    send_invoice(world)
    send_invoice(world, number="2026-002")

    assert len(chat(world, booking)) == 1
    assert chat(world) == [
        ("system", "Invoice 2026-001 has been sent."),
        ("system", "Invoice 2026-002 has been sent."),
    ]
    assert world.value("select count(*) from public.conversations") == 2


def test_many_are_told_in_one_statement(world: World) -> None:
    jobs = [make_job(world)["id"] for _ in range(3)]
    ask(world, "andrej", "update public.jobs set status = 'cancelled'")

    for job in jobs:
        assert [message for _, message in chat(world, job)][1:] == ["Carpet cleaning is cancelled."]


# The portal's


def test_first_message_opens_the_portals_thread(world: World) -> None:
    first = insert(world, "cilka", "messages", customer_id=CILKA, message="Hello")
    answer = post(world, "andrej", customer_id=CILKA)

    (thread,) = world.rows("select * from public.conversations")
    assert (thread["channel"], thread["thread_key"]) == ("portal", str(CILKA))
    assert first["conversation_id"] == thread["id"]
    assert (answer["seq"], answer["conversation_id"]) == (2, str(thread["id"]))


def test_first_messages_at_once_open_one_thread(world: World) -> None:
    at_once(
        *[lambda: post(world, "cilka", customer_id=CILKA)] * 4,
        *[lambda: post(world, "andrej", customer_id=CILKA)] * 4,
    )
    assert world.value("select count(*) from public.conversations") == 1
    assert len(chat(world)) == 8


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("carlos", "PT404"), ("stranger", "PT404")],
)
def test_nobody_opens_anothers_thread(world: World, user: str, code: str) -> None:
    refused = refusal(world, user, TO_CUSTOMER, CILKA)
    assert refused.code == code
    if code == "PT404":
        assert refused == refusal(world, user, TO_CUSTOMER, seed_uuid("nothing"))
    assert world.value("select count(*) from public.conversations") == 0


def test_nobody_writes_to_a_deleted_contact(world: World) -> None:
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)

    assert refusal(world, "andrej", TO_CUSTOMER, CILKA).code == "PT404"
    assert refusal(world, "cilka", TO_CUSTOMER, CILKA).code == "PT404"


def test_who_writes_to_a_merged_contact_writes_to_the_kept_one(world: World) -> None:
    nina = add_contact(world, "nina")
    with world.connect() as merging:
        with merging.transaction():
            merging.execute(MERGED.encode(), [CILKA, nina])
            answer = start_blocked(world, "andrej", TO_CUSTOMER, nina)
        rows = answer.result(10)
    assert isinstance(rows, list)
    assert rows[0]["customer_id"] == CILKA


def test_a_reference_is_not_used_for_two_customers(world: World) -> None:
    nina = add_contact(world, "nina")
    first = post(world, "andrej", customer_id=CILKA, client_ref="a")
    assert post(world, "andrej", customer_id=CILKA, client_ref="a") == first

    query = "select public.post_message(customer_id => %s, message => 'hi', client_ref => 'a')"
    refused = refusal(world, "andrej", query, nina)
    assert (refused.code, refused.detail) == ("PT409", "field: client_ref")


# Invoices that staff show


def show(world: World, user: str, booking: UUID, **data: Any) -> Row:
    return say(world, user, booking, invoice_data=Jsonb(data))


def test_staff_show_an_invoice_by_its_id(world: World, booking: UUID) -> None:
    invoice = send_invoice(world, due_on="2030-01-01")
    shown = show(
        world,
        "andrej",
        booking,
        invoice_id=str(invoice["id"]),
        amount_minor=12050,
        due_on="2030-01-01",
    )

    assert shown["has_invoice"]
    assert set(shown["invoice_data"]) == {
        "invoice_id",
        "number",
        "amount_minor",
        "currency",
        "status",
        "due_on",
    }
    assert shown["invoice_data"]["number"] == "2026-001"
    # without words it has some
    bare = (
        "insert into public.messages (booking_id, invoice_data) values (%s, %s) returning message"
    )
    data = Jsonb({"invoice_id": str(invoice["id"])})
    assert ask(world, "andrej", bare, booking, data) == [{"message": "Invoice 2026-001"}]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"amount_minor": 1}, "invoice_data.amount_minor"),
    ({"amount_minor": "12050"}, "invoice_data.amount_minor"),
    ({"status": "paid"}, "invoice_data.status"),
    ({"due_on": "2030-01-02"}, "invoice_data.due_on"),
    ({"due_on": 7}, "invoice_data.due_on"),
    ({"note": "x"}, "invoice_data.note"),
    ({"invoice_id": "x"}, "invoice_data.invoice_id"),
    ({"invoice_id": None}, "invoice_data.invoice_id"),
    ({"invoice_id": str(seed_uuid("nothing"))}, "invoice_data.invoice_id"),
]


@pytest.mark.parametrize(("data", "field"), WRONG)
def test_what_the_invoice_does_not_say_is_refused(
    world: World, booking: UUID, data: dict[str, Any], field: str
) -> None:
    given = {"invoice_id": str(send_invoice(world)["id"])} | data
    query = "insert into public.messages (booking_id, message, invoice_data) values (%s, 'x', %s)"

    refused = refusal(world, "andrej", query, booking, Jsonb(given))
    assert (refused.code, refused.detail) == ("PT422", f"field: {field}")


def test_only_the_customers_own_invoices_that_were_sent_are_shown(
    world: World, booking: UUID
) -> None:
    nina = add_contact(world, "nina")
    theirs = send_invoice(world, customer=nina, number="theirs")
    draft = write_invoice(world, number="draft")
    other = write_invoice(world, "ana", CARLOS)
    query = "insert into public.messages (booking_id, message, invoice_data) values (%s, 'x', %s)"
    for invoice in (theirs, draft, other):
        data = Jsonb({"invoice_id": str(invoice["id"])})
        refused = refusal(world, "andrej", query, booking, data)
        assert (refused.code, refused.detail) == ("PT422", "field: invoice_data.invoice_id")


def test_customers_send_no_invoices(world: World, booking: UUID) -> None:
    invoice = send_invoice(world)
    query = "insert into public.messages (booking_id, message, invoice_data) values (%s, 'x', %s)"

    data = Jsonb({"invoice_id": str(invoice["id"])})
    assert refusal(world, "cilka", query, booking, data).code == "42501"
    query = "insert into public.messages (booking_id, message, has_invoice) values (%s, 'x', true)"
    assert refusal(world, "cilka", query, booking).code == "42501"
    # and staff none without one
    assert refusal(world, "andrej", query, booking).code == "PT422"


def test_on_whatsapp_no_invoice_is_shown(world: World) -> None:
    thread = conversation(world)
    invoice = send_invoice(world)
    query = (
        "insert into public.messages (conversation_id, message, invoice_data) values (%s, 'x', %s)"
    )

    refused = refusal(world, "andrej", query, thread, Jsonb({"invoice_id": str(invoice["id"])}))
    assert (refused.code, refused.detail) == ("PT422", "field: invoice_data")


# Read


def mark_read(world: World, user: str, up_to: int) -> int:
    (row,) = ask(
        world,
        user,
        "select public.mark_read(id, %s) as seq from public.conversations",
        up_to,
    )
    return int(row["seq"])


def statuses(world: World) -> list[str]:
    return [row["status"] for row in world.rows("select status from public.messages order by seq")]


def test_what_the_other_side_has_read_is_read(world: World, booking: UUID) -> None:
    for user in ("andrej", "cilka", "andrej", "cilka"):
        say(world, user, booking)
    assert statuses(world) == ["sent"] * 5

    assert mark_read(world, "cilka", 2) == 2
    assert statuses(world) == ["read", "read", "sent", "sent", "sent"]
    assert mark_read(world, "olivia", 99) == 5
    assert statuses(world) == ["read", "read", "read", "sent", "read"]
    (row,) = world.rows("select * from public.messages where seq = 3")
    assert row["read_at"] is not None
    assert row["delivered_at"] is not None


def test_reading_is_told_with_what_was_before(world: World, booking: UUID) -> None:
    say(world, "andrej", booking)
    world.forget_events()
    mark_read(world, "cilka", 2)
    mark_read(world, "cilka", 2)
    mark_read(world, "cilka", 1)

    told = [event["payload"] for event in world.events() if event["kind"] == "customer"]
    assert sorted((one["record"]["seq"], one["version"]) for one in told) == [(1, 2), (2, 2)]
    assert {(one["old_record"]["status"], one["record"]["status"]) for one in told} == {
        ("sent", "read")
    }


def test_a_viewer_reads_for_nobody_but_themselves(world: World, booking: UUID) -> None:
    say(world, "cilka", booking)

    assert mark_read(world, "vera", 2) == 2
    assert statuses(world) == ["sent", "sent"]
    assert mark_read(world, "andrej", 2) == 2
    assert statuses(world) == ["sent", "read"]


def test_on_whatsapp_the_status_is_whatsapps(world: World) -> None:
    conversation(world)
    before = world.rows("select status, version from public.messages")
    mark_read(world, "andrej", 1)

    assert world.rows("select status, version from public.messages") == before


def test_two_who_read_at_once_change_each_message_once(world: World, booking: UUID) -> None:
    for _ in range(20):
        say(world, "cilka", booking)
    at_once(
        *[lambda: mark_read(world, "andrej", 21)] * 3,
        *[lambda: mark_read(world, "olivia", 21)] * 3,
        lambda: mark_read(world, "cilka", 21),
    )
    assert statuses(world) == ["read"] * 21
    assert world.value("select max(version) from public.messages") == 2


# Deleted


DELETE = "select public.delete_message(%s) as m"


@pytest.mark.parametrize(
    ("writer", "deleter"), [("cilka", "cilka"), ("andrej", "andrej"), ("andrej", "olivia")]
)
def test_what_one_deletes_is_empty_and_stays(
    world: World, booking: UUID, writer: str, deleter: str
) -> None:
    message = say(world, writer, booking, "oops")["id"]
    world.forget_events()
    (row,) = ask(world, deleter, DELETE, message)

    assert (row["m"]["message"], row["m"]["revoked_at"] is not None) == ("", True)
    assert row["m"]["seq"] == 2
    told = [event["payload"] for event in world.events() if event["kind"] == "conversation"]
    assert [(one["old_record"]["message"], one["record"]["message"]) for one in told] == [
        ("oops", "")
    ]
    # once is enough
    assert ask(world, deleter, DELETE, message) == [row]
    assert world.value("select version from public.messages where id = %s", [message]) == 2


def test_a_deleted_invoice_message_shows_no_invoice(world: World, booking: UUID) -> None:
    shown = show(world, "andrej", booking, invoice_id=str(send_invoice(world)["id"]))
    (row,) = ask(world, "andrej", DELETE, shown["id"])

    assert (row["m"]["has_invoice"], row["m"]["invoice_data"]) == (False, None)


@pytest.mark.parametrize(
    ("writer", "user", "code"),
    [
        ("andrej", "cilka", "42501"),
        ("cilka", "andrej", "42501"),
        ("andrej", "vera", "42501"),
        ("andrej", "ana", "PT404"),
        ("cilka", "carlos", "PT404"),
        ("cilka", "stranger", "PT404"),
    ],
)
def test_nobody_deletes_what_is_not_theirs(
    world: World, booking: UUID, writer: str, user: str, code: str
) -> None:
    message = say(world, writer, booking)["id"]

    assert refusal(world, user, DELETE, message).code == code
    assert chat(world, booking)[1][1] == "hi"


@pytest.mark.parametrize("user", ["olivia", "cilka"])
def test_nobody_deletes_what_the_system_said(world: World, booking: UUID, user: str) -> None:
    message = world.value("select id from public.messages where booking_id = %s", [booking])
    assert refusal(world, user, DELETE, message).code == "42501"


def test_what_went_by_whatsapp_is_not_deleted_here(world: World) -> None:
    thread = conversation(world)
    message = post(world, "andrej", conversation_id=thread)["id"]
    assert refusal(world, "andrej", DELETE, message).code == "PT422"


# Customers that are merged


def test_two_portal_threads_stay_two_and_the_own_one_goes_on(world: World) -> None:
    nina = add_contact(world, "nina")
    for customer in (nina, CILKA):
        post(world, "andrej", customer_id=customer, message=f"to {customer}")
    with world.owner.transaction():
        world.owner.execute(MERGED.encode(), [CILKA, nina])
        world.owner.execute("update public.conversations set customer_id = %s", [CILKA])

    assert post(world, "cilka", customer_id=CILKA)["seq"] == 2
    assert world.value(
        "select thread_key from public.conversations k join public.messages m"
        " on m.conversation_id = k.id where m.seq = 2"
    ) == str(CILKA)
    assert world.value("select count(*) from public.conversations") == 2
    assert world.value("select count(distinct account_id) from public.messages") == 1
    assert world.value("select account_id from public.messages limit 1") == ALPINE
