"""Texts with variables, filled for a customer: what each means, and what is refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.asking import Refusal
from tests.sql.portal import CILKA, add_points, change, make_job, send_invoice, write_invoice
from tests.world import ALPINE, BAY, World, seed_uuid

ALL = (
    "{{contact.name}}|{{appointment.service}}|{{appointment.time}}|{{ invoice.number }}|"
    "{{invoice.amount}}|{{invoice.due_on}}|{{points.total}}|{{agent.name}}|{{account.name}}"
)
FILL = "select private.fill_text(%s, %s, %s, %s, %s, %s)"


def fill(world: World, text: str, account: Any = ALPINE, **one: Any) -> str:
    filled: str = world.value(
        FILL, [text, account, CILKA, seed_uuid("andrej"), one.get("job"), one.get("invoice")]
    )
    return filled


def refused(world: World, text: str) -> Refusal:
    with pytest.raises(psycopg.Error) as error:
        fill(world, text)
    return Refusal.of(error.value)


def test_text_is_filled_with_what_holds_for_the_customer(world: World) -> None:
    world.owner.execute(
        "update public.contacts set name = '{{account.name}}' where id = %s", [CILKA]
    )
    names = world.rows("select name from public.customers where id = %s", [CILKA])
    assert fill(world, "plain {text} }}{{") == "plain {text} }}{{"
    assert fill(world, "") == ""

    job = make_job(world, starts_at="2999-12-01T09:00:00Z")
    make_job(world, starts_at="2999-12-02T09:00:00Z", service_type="Later")
    past = make_job(world, starts_at="2001-01-01T09:00:00Z", service_type="Long ago")
    change(world, "andrej", "jobs", past["id"], status="completed")
    write_invoice(world, number="DRAFT", due_on="2026-01-01")
    later = send_invoice(
        world, number="2026-003", due_on="2999-12-31", currency="JPY", amount_minor=1234567
    )
    send_invoice(world, number="2026-002", due_on="2999-11-09", amount_minor=123456789)
    add_points(world, 12)
    account = world.value("select name from public.accounts where id = %s", [ALPINE])
    agent = world.value(
        "select display_name from public.account_members where user_id = %s",
        [seed_uuid("andrej")],
    )

    # a value is not filled again
    assert fill(world, ALL).split("|") == [
        names[0]["name"],
        "Carpet cleaning",
        "Sunday, 1 December 2999 at 09:00",
        "2026-002",
        "1,234,567.89 EUR",
        "2999-11-09",
        "12",
        agent,
        account,
    ]
    world.owner.execute("update public.accounts set language = 'sl' where id = %s", [ALPINE])
    assert fill(world, ALL).split("|")[2:6] == [
        "1. decembra 2999 ob 09:00",
        "2026-002",
        "1.234.567,89 EUR",
        "9. 11. 2999",
    ]
    # a job and an invoice that are named
    assert (
        fill(
            world,
            "{{appointment.service}} {{invoice.amount}}",
            job=past["id"],
            invoice=later["id"],
        )
        == "Long ago 1.234.567 JPY"
    )

    # another business' customer has no values here
    with pytest.raises(psycopg.Error) as error:
        fill(world, "{{contact.name}}", BAY, job=job["id"])
    assert error.value.sqlstate == "PT422"


def test_unknown_or_empty_variable_is_refused_by_its_name(world: World) -> None:
    unknown = refused(world, "{{agent.name}} {{contact.iban}} {{x}}")
    empty = refused(world, "{{agent.name}} {{invoice.number}}")

    assert (unknown.code, unknown.message) == ("PT422", "There is no variable {{contact.iban}}.")
    assert unknown.hint is not None
    assert "appointment.service, appointment.time, contact.name" in unknown.hint
    assert (empty.code, empty.message, empty.detail) == (
        "PT422",
        "{{invoice.number}} has no value for this customer.",
        "field: text; variable: invoice.number",
    )
    assert empty.hint == (
        "The customer has no unpaid invoice with this value. Send one, or write the text by hand."
    )
