"""Jobs, invoices, points and their chats when two contacts are merged, and parted again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import Row, ask, at_once
from tests.sql.live import all_since, start
from tests.sql.portal import (
    CILKA,
    add_contact,
    add_points,
    change,
    make_job,
    send_invoice,
    total,
    write_invoice,
)
from tests.world import World, text_message

TABLES = ("jobs", "invoices", "loyalty_transactions", "conversations", "messages")


@pytest.fixture
def nina(world: World) -> UUID:
    """Another contact, with everything that a customer has."""
    nina = add_contact(world, "nina")
    job = make_job(world, customer=nina)["id"]
    send_invoice(world, customer=nina, job_id=job)
    send_invoice(world, customer=nina, number="2026-002")
    write_invoice(world, customer=nina, number="a draft")
    add_points(world, 100, customer_id=nina)
    add_points(world, -20, customer_id=nina)
    make_job(world)
    add_points(world, 5)
    return nina


def merge(world: World, keep: UUID, drop: UUID) -> str:
    (row,) = ask(world, "andrej", "select public.merge_contacts(%s, %s) as m", keep, drop)
    merge_id: str = row["m"]["merge_id"]
    return merge_id


def undo(world: World, merge_id: str) -> Row:
    (row,) = ask(world, "andrej", "select public.undo_merge(%s) as m", merge_id)
    undone: Row = row["m"]
    return undone


def owners(world: World) -> dict[str, list[tuple[UUID, UUID]]]:
    return {
        table: [
            (row["id"], row["customer_id"])
            for row in world.rows(f"select id, customer_id from public.{table} order by id")
        ]
        for table in TABLES
    }


def test_all_goes_to_the_kept_contact_and_comes_back(world: World, nina: UUID) -> None:
    before = owners(world)
    merge_id = merge(world, CILKA, nina)

    assert {owner for rows in owners(world).values() for _, owner in rows} == {CILKA}
    assert (total(world), total(world, nina)) == (85, 0)
    assert len(ask(world, "cilka", "select * from public.jobs")) == 2
    assert len(ask(world, "cilka", "select * from public.invoices")) == 2

    undone = undo(world, merge_id)
    assert undone["not_returned"] == []
    assert owners(world) == before
    assert (total(world), total(world, nina)) == (5, 80)


def test_what_came_since_stays_and_is_named(world: World, nina: UUID) -> None:
    merge_id = merge(world, CILKA, nina)
    later = make_job(world)["id"]
    add_points(world, -50)

    undone = undo(world, merge_id)
    assert [entry["reason"] for entry in undone["not_returned"]] == ["spent_since", "opened_since"]
    job = world.rows("select customer_id from public.jobs where id = %s", [later])
    assert job == [{"customer_id": CILKA}]
    assert (total(world), total(world, nina)) == (35, 0)


def test_customer_hears_of_what_became_theirs(world: World, nina: UUID) -> None:
    """As new, and of the draft nothing."""
    cursor = start(world, "cilka")
    world.forget_events()
    merge_id = merge(world, CILKA, nina)

    told = [event["event"] for event in world.events() if event["kind"] == "customer"]
    assert {event for event in told if event != "topics.changed"} == {
        f"{table}.inserted" for table in TABLES
    }
    assert told.count("invoices.inserted") == 2
    changes, cursor = all_since(world, "cilka", cursor)
    assert {change["operation"] for change in changes} == {"INSERT"}
    assert len([change for change in changes if change["table"] == "invoices"]) == 2

    undo(world, merge_id)
    changes, _ = all_since(world, "cilka", cursor)
    assert {(change["operation"], change["record"]) for change in changes} == {("DELETE", None)}
    assert len([change for change in changes if change["table"] == "invoices"]) == 2


def test_merging_does_not_deadlock_with_who_writes(world: World, nina: UUID) -> None:
    """All that touches a contact's jobs, chats and points, while it is merged and parted."""
    job = world.value("select id from public.jobs where customer_id = %s", [nina])
    invoice = world.value("select id from public.invoices where job_id = %s", [job])
    stop: list[bool] = []

    def repeat(call: Any) -> list[str | None]:
        codes = []
        while not stop:
            try:
                call()
            except psycopg.Error as error:
                codes.append(error.sqlstate)
        return codes

    def move() -> None:
        change(world, "adam", "jobs", job, starts_at="2027-01-01")
        change(world, "adam", "jobs", job, starts_at="2027-01-02")

    def talk() -> None:
        ask(
            world,
            "andrej",
            "insert into public.messages (booking_id, message) values (%s, 'hi')",
            job,
        )

    def earn() -> None:
        add_points(world, 1, customer_id=nina)

    def put_off() -> None:
        change(world, "olivia", "invoices", invoice, due_on="2030-01-01")
        change(world, "olivia", "invoices", invoice, due_on="2030-01-02")

    def receive() -> None:
        world.ingest(text_message("wamid.1", wa_id="38640111222"))

    def read() -> None:
        ask(
            world,
            "andrej",
            "select public.mark_read(k.id, 9999)"
            " from (select id from public.conversations order by id) k",
        )

    writers = [move, talk, earn, put_off, receive, read]
    with ThreadPoolExecutor(len(writers)) as pool:
        running = [pool.submit(repeat, writer) for writer in writers]
        for _ in range(6):
            undo(world, merge(world, CILKA, nina))
        stop.append(True)
        codes = {code for future in running for code in future.result()}

    # others are changing this contact: try again
    assert codes <= {"PT503"}
    assert (
        world.value(
            "select count(*) from (select from public.messages group by conversation_id"
            " having max(seq) <> count(*)) gaps"
        )
        == 0
    )
    total(world)
    total(world, nina)


def test_of_two_merges_at_once_one_moves_the_rows(world: World, nina: UUID) -> None:
    at_once(lambda: merge(world, CILKA, nina), lambda: merge(world, nina, CILKA))

    assert len({owner for rows in owners(world).values() for _, owner in rows}) == 1
    assert total(world) + total(world, nina) == 85
