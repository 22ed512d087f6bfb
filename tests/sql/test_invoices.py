"""Invoices: drafts are the business' own, and what was sent stays as it was sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.asking import ask, refusal
from tests.sql.live import all_since, start
from tests.sql.outbound import backend
from tests.sql.portal import (
    CARLOS,
    CILKA,
    MERGED,
    add_contact,
    change,
    chat,
    make_job,
    send_invoice,
    write_invoice,
)
from tests.world import ALPINE, BAY, World

INSERT = (
    "insert into public.invoices (customer_id, number, currency, amount_minor)"
    " values (%s, '1', 'EUR', 1)"
)


def events(world: World, kind: str, table: str = "invoices") -> list[tuple[str, Any]]:
    """What one kind of topic is told of invoices: the event and the status before."""
    return [
        (event["event"], (event["payload"].get("old_record") or {}).get("status"))
        for event in world.events()
        if event["kind"] == kind and event["payload"].get("table") == table
    ]


@pytest.mark.parametrize("user", ["olivia", "adam", "andrej"])
def test_staff_write_a_draft_that_the_customer_does_not_see(world: World, user: str) -> None:
    draft = write_invoice(world, user, tax_minor=2173)

    assert (draft["account_id"], draft["status"], draft["sent_at"]) == (ALPINE, "draft", None)
    assert ask(world, "vera", "select * from public.invoices") == [draft]
    assert ask(world, "cilka", "select * from public.invoices") == []


def test_a_draft_is_nothing_that_its_customer_may_touch(world: World) -> None:
    draft = write_invoice(world)["id"]

    query = "update public.invoices set status = 'paid' where id = %s"
    assert refusal(world, "cilka", query, draft).code == "PT404"


def test_sent_invoice_is_the_customers_to_see(world: World) -> None:
    sent = send_invoice(world)

    assert sent["issued_on"] == sent["sent_at"].date()
    assert ask(world, "cilka", "select * from public.invoices") == [sent]
    for other in ("carlos", "ana", "stranger"):
        assert ask(world, other, "select * from public.invoices") == []
        query = "update public.invoices set status = 'paid' where id = %s"
        assert refusal(world, other, query, sent["id"]).code == "PT404"


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_who_may_not_write_invoices_writes_none(world: World, user: str, code: str) -> None:
    assert refusal(world, user, INSERT, CILKA).code == code
    assert world.value("select count(*) from public.invoices") == 0


@pytest.mark.parametrize("user", ["vera", "cilka"])
def test_who_only_sees_an_invoice_is_refused_to_change_it(world: World, user: str) -> None:
    send_invoice(world)

    assert refusal(world, user, "update public.invoices set status = 'paid'").code == "42501"
    assert refusal(world, user, "delete from public.invoices").code == "42501"
    assert world.value("select status from public.invoices") == "sent"


@pytest.mark.parametrize("column", ["sent_at", "paid_at", "voided_at", "customer_id", "account_id"])
def test_what_the_database_says_nobody_else_says(world: World, column: str) -> None:
    write_invoice(world)

    value = "gen_random_uuid()" if column.endswith("_id") else "'2026-01-01'"
    refused = refusal(world, "olivia", f"update public.invoices set {column} = {value}")
    assert (refused.code, refused.detail) == ("PT422", f"field: {column}")


# What is told


def test_a_draft_is_nothing_that_a_customer_hears_of(world: World) -> None:
    cursor = start(world, "cilka")
    world.forget_events()
    draft = write_invoice(world)["id"]
    change(world, "andrej", "invoices", draft, amount_minor=13000)
    change(world, "andrej", "invoices", draft, status="void")

    assert [event for event, _ in events(world, "account")] == [
        "invoices.inserted",
        "invoices.updated",
        "invoices.updated",
    ]
    assert {event["kind"] for event in world.events()} == {"account"}
    assert all_since(world, "cilka", cursor)[0] == []
    assert chat(world) == []


def test_sending_is_an_insert_to_the_customer_and_an_update_to_staff(world: World) -> None:
    draft = write_invoice(world)["id"]
    cursors = {user: start(world, user) for user in ("cilka", "andrej", "carlos", "ana")}
    world.forget_events()
    change(world, "andrej", "invoices", draft, status="sent")
    change(world, "andrej", "invoices", draft, status="paid")

    assert events(world, "customer") == [("invoices.inserted", None), ("invoices.updated", "sent")]
    assert events(world, "account") == [
        ("invoices.updated", "draft"),
        ("invoices.updated", "sent"),
    ]

    def operations(user: str) -> list[tuple[str, int]]:
        return [
            (change["operation"], change["version"])
            for change in all_since(world, user, cursors[user])[0]
            if change["table"] == "invoices"
        ]

    assert operations("cilka") == [("INSERT", 2), ("UPDATE", 3)]
    assert operations("andrej") == [("UPDATE", 2), ("UPDATE", 3)]
    for other in ("carlos", "ana"):
        assert all_since(world, other, cursors[other])[0] == []


def test_many_drafts_are_no_reason_to_read_again(world: World) -> None:
    world.forget_events()
    world.owner.execute(
        "insert into public.invoices (customer_id, number, currency, amount_minor)"
        " select %s, n, 'EUR', 1 from generate_series(1, 101) n",
        [CILKA],
    )
    assert [(event["kind"], event["event"]) for event in world.events()] == [("account", "resync")]

    world.forget_events()
    world.owner.execute(
        "update public.invoices set status = 'sent', sent_at = now() where number <> '1'"
    )
    told = [event["topic"].split(":")[0] for event in world.events() if event["event"] == "resync"]
    # customers are told 100 of them one by one, and of no more
    assert told.count("customer") == 0
    assert events(world, "customer").count(("invoices.inserted", None)) == 100


# What may become of it

STATUSES = ("draft", "sent", "paid", "overdue", "void")
ALLOWED = {
    "draft": {"sent", "void"},
    "sent": {"paid", "overdue", "void"},
    "overdue": {"sent", "paid", "void"},
    "paid": set(),
    "void": set(),
}
WAYS: dict[str, tuple[str, ...]] = {
    "draft": (),
    "sent": ("sent",),
    "paid": ("sent", "paid"),
    "overdue": ("sent", "overdue"),
    "void": ("void",),
}


@pytest.mark.parametrize("before", STATUSES)
def test_only_these_statuses_follow(world: World, before: str) -> None:
    for number, after in enumerate(STATUSES):
        invoice = write_invoice(world, number=str(number), due_on="2020-01-01")["id"]
        for step in WAYS[before]:
            change(world, "andrej", "invoices", invoice, status=step)
        query = "update public.invoices set status = %s, due_on = %s where id = %s returning status"
        due = "2100-01-01" if (before, after) == ("overdue", "sent") else "2020-01-01"
        if after == before or after in ALLOWED[before]:
            assert ask(world, "andrej", query, after, due, invoice) == [{"status": after}]
            continue
        refused = refusal(world, "andrej", query, after, due, invoice)
        assert (refused.code, refused.detail) == ("PT409", "field: status")
        assert refused.hint is not None
        assert all(status in refused.hint for status in ALLOWED[before])


def test_each_step_has_its_time(world: World) -> None:
    invoice = send_invoice(world)["id"]
    paid = change(world, "andrej", "invoices", invoice, status="paid")
    assert (paid["paid_at"] is not None, paid["voided_at"]) == (True, None)


@pytest.mark.parametrize("column", ["number", "currency", "amount_minor", "tax_minor", "issued_on"])
def test_what_was_sent_stays_as_it_was_sent(world: World, column: str) -> None:
    invoice = send_invoice(world, amount_minor=100)["id"]
    value = {"number": "x", "currency": "USD", "issued_on": "2020-01-01"}.get(column, 7)

    query = f"update public.invoices set {column} = %s where id = %s"
    refused = refusal(world, "olivia", query, value, invoice)
    assert (refused.code, refused.detail) == ("PT409", f"field: {column}")
    # when it is to be paid may still be put off, until it is
    later = change(world, "andrej", "invoices", invoice, due_on="2030-01-01")
    assert later["version"] == 3
    change(world, "andrej", "invoices", invoice, status="paid")
    refused = refusal(world, "olivia", "update public.invoices set due_on = now()")
    assert (refused.code, refused.detail) == ("PT409", "field: due_on")


def test_numbers_are_unique_in_an_account(world: World) -> None:
    write_invoice(world)

    assert write_invoice(world, "ana", CARLOS)["account_id"] == BAY
    assert refusal(world, "andrej", INSERT.replace("'1'", "'2026-001'"), CILKA).code == "PT409"


def test_an_invoice_is_for_a_job_of_its_customer(world: World) -> None:
    nina = add_contact(world, "nina")
    theirs = make_job(world, customer=nina)["id"]

    query = INSERT.replace("amount_minor)", "amount_minor, job_id)").replace("1)", "1, %s)")
    assert refusal(world, "andrej", query, CILKA, theirs).code == "PT422"
    assert write_invoice(world, job_id=make_job(world)["id"])["status"] == "draft"


MISTAKES: list[dict[str, Any]] = [
    {"amount_minor": -1},
    {"amount_minor": 2**53},
    {"tax_minor": 12051},
    {"tax_minor": -1},
    {"currency": "eur"},
    {"number": " "},
    {"due_on": "infinity"},
    {"due_on": "20260-11-21"},
    {"issued_on": "infinity"},
    {"issued_on": "20260-11-21"},
    {"issued_on": "0044-03-15 BC"},
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_makes_no_sense_is_refused(world: World, mistake: dict[str, Any]) -> None:
    with pytest.raises(psycopg.Error) as refused:
        write_invoice(world, **mistake)
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == f"field: {next(iter(mistake))}"


# Overdue


def test_the_schedule_finds_what_is_overdue(world: World) -> None:
    for number, due in enumerate(("2020-01-01", "2020-01-02", "2100-01-01", None)):
        send_invoice(world, number=str(number), due_on=due)
    draft = write_invoice(world, number="draft", due_on="2020-01-01")["id"]

    assert backend(world, "mark_overdue_invoices(%s)", 1) == 1
    assert backend(world, "mark_overdue_invoices()") == 1
    assert backend(world, "mark_overdue_invoices()") == 0
    found = world.rows("select number from public.invoices where status = 'overdue' order by 1")
    assert [row["number"] for row in found] == ["0", "1"]
    assert world.value("select status from public.invoices where id = %s", [draft]) == "draft"
    assert [message for _, message in chat(world)][-2:] == [
        "Invoice 0 is overdue.",
        "Invoice 1 is overdue.",
    ]


def test_nobody_calls_overdue_what_is_not(world: World) -> None:
    for due in (None, "2100-01-01"):
        send_invoice(world, number=str(due), due_on=due)

    refused = refusal(world, "andrej", "update public.invoices set status = 'overdue'")
    assert (refused.code, refused.detail) == ("PT409", "field: status")


def test_what_is_put_off_is_sent_again(world: World) -> None:
    invoice = send_invoice(world, due_on="2020-01-01")
    backend(world, "mark_overdue_invoices()")

    refused = refusal(world, "andrej", "update public.invoices set status = 'sent'")
    assert (refused.code, refused.detail) == ("PT409", "field: status")
    again = change(world, "andrej", "invoices", invoice["id"], status="sent", due_on="2100-01-01")
    assert (again["status"], again["sent_at"]) == ("sent", invoice["sent_at"])


def test_two_schedules_at_once_mark_each_invoice_once(world: World) -> None:
    world.owner.execute(
        "insert into public.invoices"
        " (customer_id, number, currency, amount_minor, status, sent_at, due_on)"
        " select %s, n, 'EUR', 1, 'sent', '2020-01-01', '2020-01-02' from generate_series(1, 60) n",
        [CILKA],
    )

    def run(_: int) -> int:
        marked = 0
        while found := backend(world, "mark_overdue_invoices(%s)", 7):
            marked += found
        return marked

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(run, range(3))) <= 60
    while backend(world, "mark_overdue_invoices()"):
        pass
    assert world.value("select count(*) from public.invoices where status = 'overdue'") == 60
    assert len(chat(world)) == 60
    assert world.value("select last_seq from public.conversation_activity") == 60


# Customers that go


def test_invoices_of_a_deleted_contact_stay(world: World) -> None:
    """A business keeps its books; the login and the name are gone."""
    sent = send_invoice(world)
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)

    assert [row["id"] for row in ask(world, "andrej", "select * from public.invoices")] == [
        sent["id"]
    ]
    assert ask(world, "cilka", "select * from public.invoices") == []
    paid = change(world, "andrej", "invoices", sent["id"], status="paid")
    assert paid["status"] == "paid"
    assert refusal(world, "andrej", INSERT, CILKA).code == "PT404"


def test_overdue_invoice_of_a_deleted_contact_opens_no_thread(world: World) -> None:
    nina = add_contact(world, "nina")
    world.owner.execute(
        "insert into public.invoices"
        " (customer_id, number, currency, amount_minor, status, sent_at, due_on)"
        " values (%s, '1', 'EUR', 1, 'sent', '2020-01-01', '2020-01-02')",
        [nina],
    )
    ask(world, "andrej", "delete from public.contacts_v2 where id = %s", nina)

    assert backend(world, "mark_overdue_invoices()") == 1
    assert world.value("select count(*) from public.conversations") == 0


def test_invoices_go_where_their_customer_goes_and_come_back(world: World) -> None:
    nina = add_contact(world, "nina")
    job = make_job(world, customer=nina)["id"]
    write_invoice(world, customer=nina, number="of the job", job_id=job)
    write_invoice(world, customer=nina, number="of none")
    kept = write_invoice(world, number="of cilka")["id"]

    with world.owner.transaction():
        world.owner.execute(MERGED.encode(), [CILKA, nina])
        moved = world.value("select private.move_customer_rows(%s, %s, %s)", [ALPINE, nina, CILKA])
    assert world.value("select distinct customer_id from public.invoices") == CILKA
    assert len(moved["invoices"]) == 2
    write_invoice(world, number="later")

    with world.owner.transaction():
        world.owner.execute(
            "insert into public.contact_merges (account_id, kept_contact_id, dropped_contact_id,"
            " kept_before, dropped_before, kept_after, moved_identities, moved_conversations,"
            " kept_conversations, settled_suggestions, added_suggestions)"
            " values (%s, %s, %s, '{}', '{}', '{}', '[]', '{}', '{}', '{}', '{}')",
            [ALPINE, CILKA, nina],
        )
        stayed = world.value(
            "select private.return_customer_rows(%s, %s, %s, %s)",
            [ALPINE, Jsonb(moved), CILKA, nina],
        )
    assert stayed == []
    theirs = world.rows("select number from public.invoices where customer_id = %s", [nina])
    assert {row["number"] for row in theirs} == {"of the job", "of none"}
    assert world.value("select customer_id from public.invoices where id = %s", [kept]) == CILKA


@pytest.mark.parametrize(
    ("field", "value"), [("amount_minor", 100), ("number", "2"), ("description", "cheaper")]
)
def test_an_invoice_is_sent_as_its_draft_stands(world: World, field: str, value: object) -> None:
    """Or the customer would be told what it said before."""
    draft = write_invoice(world, description="dear")
    query = f"update public.invoices set status = 'sent', {field} = %s where id = %s"

    refused = refusal(world, "andrej", query, value, draft["id"])

    assert (refused.code, refused.detail) == ("PT409", f"field: {field}")
    assert refused.hint == "Change the draft first, then set its status to sent."


def test_what_a_draft_left_empty_may_be_written_when_it_is_sent(world: World) -> None:
    draft = write_invoice(world)

    sent = change(
        world,
        "andrej",
        "invoices",
        draft["id"],
        status="sent",
        due_on="2030-01-01",
        description="x",
    )

    assert (sent["status"], sent["description"]) == ("sent", "x")
