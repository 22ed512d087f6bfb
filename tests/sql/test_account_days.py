"""An account's days: they begin and end where it is, not by the server's clock.

It is never the same day in Pacific/Kiritimati (UTC+14) and in Etc/GMT+12 (UTC-12), so that a test
knows what is over in one of them and not in the other, at any hour.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from tests.sql.asking import ask, refusal
from tests.sql.portal import CARLOS, CILKA, add_points, change, chat, make_job, send_invoice, total
from tests.world import ALPINE, BAY, World

EAST, WEST = "Pacific/Kiritimati", "Etc/GMT+12"
SET_ZONE = "update public.accounts set time_zone = %s where id = %s returning time_zone"


def backend(world: World, call: str) -> Any:
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{call}".encode()).fetchone()
    assert row is not None
    return row[0]


def today(world: World, zone: str) -> date:
    day: date = world.value("select (now() at time zone %s)::date", [zone])
    return day


@pytest.fixture
def apart(world: World) -> World:
    """Alpine in the east, where a day begins first, and Bay in the west, where it ends last."""
    for zone, account in ((EAST, ALPINE), (WEST, BAY)):
        world.owner.execute(SET_ZONE.encode(), [zone, account])
    return world


# An account's time zone


@pytest.mark.parametrize(
    ("country", "zone", "expected"),
    [
        ("SI", None, "Europe/Ljubljana"),
        ("US", None, "America/New_York"),
        ("BR", None, "America/Sao_Paulo"),
        ("BR", "America/Manaus", "America/Manaus"),
        (None, None, "UTC"),
    ],
)
def test_account_has_the_time_zone_of_its_country_unless_it_names_one(
    world: World, country: str | None, zone: str | None, expected: str
) -> None:
    assert (
        world.value(
            "insert into public.accounts (name, country, time_zone) values ('New', %s, %s)"
            " returning time_zone",
            [country, zone],
        )
        == expected
    )


def test_every_country_has_a_time_zone_that_postgres_knows(world: World) -> None:
    assert world.value("select count(*) from private.country_time_zones") > 240
    assert (
        world.rows(
            "select * from private.country_time_zones"
            " where time_zone not in (select name from pg_timezone_names)"
        )
        == []
    )


@pytest.mark.parametrize("user", ["olivia", "adam"])
def test_owners_and_admins_set_the_time_zone(world: World, user: str) -> None:
    assert ask(world, user, SET_ZONE, "Europe/Vienna", ALPINE) == [{"time_zone": "Europe/Vienna"}]
    # without one of its own it follows the country
    statement = "update public.accounts set country = 'HR', time_zone = null returning time_zone"
    assert ask(world, user, statement) == [{"time_zone": "Europe/Zagreb"}]


@pytest.mark.parametrize(
    ("column", "value"),
    [("time_zone", "Europe/Atlantis"), ("time_zone", ""), ("time_zone", "+02"), ("country", "XX")],
)
def test_unknown_places_are_refused(world: World, column: str, value: str) -> None:
    refused = refusal(world, "olivia", f"update public.accounts set {column} = %s", value)

    assert (refused.code, refused.detail) == ("PT422", f"field: {column}")


@pytest.mark.parametrize("user", ["andrej", "vera"])
def test_others_of_the_account_are_refused(world: World, user: str) -> None:
    assert refusal(world, user, SET_ZONE, "Europe/Vienna", ALPINE).code == "42501"


@pytest.mark.parametrize("user", ["ana", "cilka", "stranger"])
def test_nobody_else_changes_an_account(world: World, user: str) -> None:
    assert refusal(world, user, SET_ZONE, "Europe/Vienna", ALPINE).code == "PT404"
    assert world.value("select time_zone from public.accounts where id = %s", [ALPINE]) == "UTC"


# Invoices


def test_invoice_may_be_paid_on_the_whole_day_on_which_it_is_due(apart: World) -> None:
    due = today(apart, EAST) - timedelta(days=1)
    over = send_invoice(apart, due_on=due)["id"]
    # where this business is, that day has not even ended
    open_still = send_invoice(apart, "ana", customer=CARLOS, due_on=due)["id"]

    refused = refusal(
        apart, "ana", "update public.invoices set status = 'overdue' where id = %s", open_still
    )
    assert (refused.code, refused.detail) == ("PT409", "field: status")
    assert backend(apart, "mark_overdue_invoices()") == 1

    rows = apart.rows("select id, status from public.invoices")
    assert {row["id"]: row["status"] for row in rows} == {over: "overdue", open_still: "sent"}


def test_invoice_due_today_is_not_overdue(apart: World) -> None:
    send_invoice(apart, due_on=today(apart, EAST))
    send_invoice(apart, "ana", customer=CARLOS, due_on=today(apart, WEST))

    assert backend(apart, "mark_overdue_invoices()") == 0


def test_invoice_is_dated_by_the_day_where_it_is_sent(apart: World) -> None:
    assert send_invoice(apart)["issued_on"] == today(apart, EAST)
    assert send_invoice(apart, "ana", customer=CARLOS)["issued_on"] == today(apart, WEST)


def test_overdue_invoice_is_sent_again_with_a_day_that_has_not_passed(apart: World) -> None:
    invoice = send_invoice(apart, due_on="2020-01-01")["id"]
    backend(apart, "mark_overdue_invoices()")
    resend = "update public.invoices set status = 'sent', due_on = %s where id = %s"

    refused = refusal(apart, "andrej", resend, today(apart, EAST) - timedelta(days=1), invoice)
    assert (refused.code, refused.detail) == ("PT409", "field: status")
    ask(apart, "andrej", resend, today(apart, EAST), invoice)


# Points


def test_points_are_redeemed_until_the_end_of_their_last_day(apart: World) -> None:
    last = today(apart, EAST) - timedelta(days=1)
    add_points(apart, 50, expires_on=last)
    add_points(apart, 50, "ana", customer_id=CARLOS, expires_on=last)

    insert = (
        "insert into public.loyalty_transactions (customer_id, type, points) values (%s, %s, -9)"
    )
    refused = refusal(apart, "andrej", insert, CILKA, "redeemed")
    assert (refused.code, refused.message) == (
        "PT409",
        "The customer has 0 points; 9 can't be redeemed.",
    )
    ask(apart, "ana", insert, CARLOS, "redeemed")
    assert backend(apart, "expire_points()") == 1
    assert (total(apart), total(apart, CARLOS)) == (0, 41)


# Notices


def test_notices_tell_times_as_the_account_s_clocks_show_them(world: World) -> None:
    world.owner.execute(SET_ZONE.encode(), ["Europe/Ljubljana", ALPINE])
    job = make_job(world, starts_at="2026-07-01T09:00:00Z")["id"]
    change(world, "andrej", "jobs", job, status="rescheduled", starts_at="2026-12-01T09:00:00Z")

    assert chat(world, job) == [
        ("system", "Carpet cleaning is scheduled for Wednesday, 1 July 2026 at 11:00."),
        ("system", "Carpet cleaning is rescheduled to Tuesday, 1 December 2026 at 10:00."),
    ]
    (content,) = world.rows("select content from public.messages where seq = 2")
    assert content["content"]["time_zone"] == "Europe/Ljubljana"


# Words


def test_notices_speak_the_account_s_language(world: World) -> None:
    world.owner.execute(SET_ZONE.encode(), ["Europe/Ljubljana", ALPINE])
    world.owner.execute("update public.accounts set language = 'sl' where id = %s", [ALPINE])
    job = make_job(world, service_type="{time} in okna", starts_at="2026-07-01T09:00:00Z")["id"]
    change(world, "andrej", "jobs", job, status="cancelled")

    assert chat(world, job) == [
        ("system", "{time} in okna: termin je 1. julija 2026 ob 11:00."),
        ("system", "{time} in okna: termin je odpovedan."),
    ]


def test_every_sentence_is_there_in_each_language_with_the_same_values(world: World) -> None:
    sentences = world.owner.execute(
        "select key, language, array(select distinct m[1] from"
        " regexp_matches(sentence, '\\{(\\w+)\\}', 'g') m order by 1) as names"
        " from private.sentences"
    ).fetchall()
    named: dict[str, dict[str, list[str]]] = {}
    for sentence in sentences:
        key, language, names = sentence
        named.setdefault(key, {})[language] = names

    assert named
    for key, each in named.items():
        assert set(each) == {"en", "sl"}, key
        assert each["en"] == each["sl"], key


def test_the_language_is_that_of_the_country_unless_it_is_given(world: World) -> None:
    made = world.owner.execute(
        "insert into public.accounts (name, country, language)"
        " values ('a', 'SI', null), ('b', 'SI', 'en'), ('c', 'DE', null) returning language"
    ).fetchall()
    assert [language for (language,) in made] == ["sl", "en", "en"]
