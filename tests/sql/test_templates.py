"""Templates as the sync leaves them: each account's own, what is gone kept and not offered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import ALPINE, BAY, World

ALPINE_WABA = "102290129340398"
BAY_WABA = "102290129340399"


@pytest.fixture
def business(world: World) -> World:
    """Both businesses' numbers with their WhatsApp Business accounts."""
    for account, waba in ((ALPINE, ALPINE_WABA), (BAY, BAY_WABA)):
        world.owner.execute(
            "update public.whatsapp_channels set waba_id = %s where account_id = %s",
            [waba, account],
        )
    return world


def template(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "language": "sl",
        "category": "UTILITY",
        "status": "APPROVED",
        "components": [{"type": "BODY", "text": "Hello {{1}}"}],
        "variables": {"header": [], "body": ["body.1"], "buttons": []},
    } | changes


def apply(world: World, waba: str, *templates: dict[str, Any]) -> dict[str, int]:
    with world.acting("service_role") as connection:
        row = connection.execute(
            "select backend.apply_templates(%s, %s)", [waba, json.dumps(templates)]
        ).fetchone()
    assert row is not None
    result: dict[str, int] = row[0]
    return result


def offered(world: World, actor: str) -> list[str]:
    with world.acting_as(actor) as connection:
        return [
            row[0]
            for row in connection.execute("select name from public.sendable_templates order by 1")
        ]


def test_a_composer_is_offered_what_is_approved_with_its_variables(business: World) -> None:
    apply(
        business,
        ALPINE_WABA,
        template("reminder"),
        template("paused", status="PAUSED"),
        template("a_new_word", status="IN_LIMBO"),
    )
    assert offered(business, "vera") == ["reminder"]
    with business.acting_as("andrej") as connection:
        row = connection.execute(
            "select variables, header_variables, body_variables, button_variables"
            " from public.sendable_templates"
        ).fetchone()
    assert row == ({"header": [], "body": ["body.1"], "buttons": []}, 0, 1, 0)


def test_what_is_not_listed_any_more_is_gone_and_may_come_back(business: World) -> None:
    assert apply(business, ALPINE_WABA, template("a"), template("b")) == {"listed": 2, "gone": 0}
    assert apply(business, ALPINE_WABA, template("a")) == {"listed": 1, "gone": 1}
    assert offered(business, "andrej") == ["a"]
    assert apply(business, ALPINE_WABA) == {"listed": 0, "gone": 1}
    assert apply(business, ALPINE_WABA, template("b", category="MARKETING"))["listed"] == 1
    assert offered(business, "andrej") == ["b"]
    assert len(business.rows("select from public.whatsapp_templates")) == 2


def test_a_template_is_one_in_each_language(business: World) -> None:
    apply(business, ALPINE_WABA, template("a"), template("a", language="de"), template("a"))
    assert len(business.rows("select from public.whatsapp_templates")) == 2


def test_a_sync_of_one_business_touches_no_other(business: World) -> None:
    apply(business, ALPINE_WABA, template("ours"))
    apply(business, BAY_WABA, template("theirs"))
    assert (offered(business, "andrej"), offered(business, "ana")) == (["ours"], ["theirs"])
    assert offered(business, "cilka") == offered(business, "stranger") == []
    apply(business, BAY_WABA)
    assert (offered(business, "andrej"), offered(business, "ana")) == (["ours"], [])


def test_accounts_that_share_a_business_account_have_copies_of_their_own(business: World) -> None:
    business.owner.execute("update public.whatsapp_channels set waba_id = %s", [ALPINE_WABA])
    assert apply(business, ALPINE_WABA, template("shared")) == {"listed": 2, "gone": 0}
    accounts = [
        row["account_id"]
        for row in business.rows("select account_id from public.whatsapp_templates")
    ]
    assert sorted(accounts) == sorted([ALPINE, BAY])
    with business.acting_as("ana") as connection:
        seen = connection.execute("select account_id from public.whatsapp_templates").fetchall()
    assert seen == [(BAY,)]


def test_a_business_account_of_nobodys_writes_nothing(business: World) -> None:
    assert apply(business, "999", template("a")) == {"listed": 0, "gone": 0}
    assert business.rows("select from public.whatsapp_templates") == []


def test_syncs_at_once_do_not_deadlock(business: World) -> None:
    business.owner.execute("update public.whatsapp_channels set waba_id = %s", [ALPINE_WABA])
    names = [template(f"t{number}") for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        lots = [names if n % 2 else names[::-1][:25] for n in range(12)]
        list(pool.map(lambda lot: apply(business, ALPINE_WABA, *lot), lots))
    apply(business, ALPINE_WABA, *names)
    assert len(offered(business, "ana")) == 50


def test_the_business_accounts_to_read_are_named_once(business: World) -> None:
    business.owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name, waba_id)"
        " values (%s, '7', 'any', 'second', %s), (%s, '8', 'any', 'none', null)",
        [ALPINE, ALPINE_WABA, ALPINE],
    )
    with business.acting("service_role") as connection:
        row = connection.execute("select backend.template_owners()").fetchone()
    assert row == ([ALPINE_WABA, BAY_WABA],)


@pytest.mark.parametrize("actor", ["olivia", "cilka"])
def test_nobody_syncs_by_hand(business: World, actor: str) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        business.acting_as(actor) as connection,
    ):
        connection.execute("select backend.apply_templates(%s, '[]')", [ALPINE_WABA])
