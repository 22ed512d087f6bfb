"""Templates as the sync leaves them: each account's own, what is gone kept and not offered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.outbound import conversation, post
from tests.world import ALPINE, ALPINE_NUMBER, BAY, BAY_NUMBER, Item, World

ALPINE_WABA = "102290129340398"
BAY_WABA = "102290129340399"
# when WhatsApp is read, unless a test says
NOW = "2026-11-30T09:00:00Z"


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


def apply(
    world: World, waba: str, *templates: dict[str, Any], read_at: str = NOW
) -> dict[str, int]:
    with world.acting("service_role") as connection:
        row = connection.execute(
            "select backend.apply_templates(%s, %s, %s)", [waba, json.dumps(templates), read_at]
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
    # with the numbers whose tokens open them
    assert row == (
        [
            {"waba_id": ALPINE_WABA, "phone_number_ids": [ALPINE_NUMBER, "7"]},
            {"waba_id": BAY_WABA, "phone_number_ids": [BAY_NUMBER]},
        ],
    )


@pytest.mark.parametrize("actor", ["olivia", "cilka"])
def test_nobody_syncs_by_hand(business: World, actor: str) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        business.acting_as(actor) as connection,
    ):
        connection.execute("select backend.apply_templates(%s, '[]')", [ALPINE_WABA])


# --- what webhooks say of templates


def told(event: str, at: str | None, name: str = "reminder", **changes: Any) -> Item:
    """A webhook of Meta's about a template, as the function hands it over."""
    return {
        "kind": "account_event",
        "phone_number_id": None,
        "waba_id": ALPINE_WABA,
        "type": "message_template_status_update",
        "at": at,
        "content": {
            "event": event,
            "message_template_id": 1689556908129832,
            "message_template_name": name,
            "message_template_language": "sl",
            "reason": "NONE",
        }
        | changes.pop("content", {}),
    } | changes


def send(world: World, thread: UUID, content: dict[str, Any]) -> dict[str, Any]:
    """What an agent who sends a template is answered."""
    return post(world, "andrej", thread, "x", type="template", content=Jsonb(content))


def minute(number: int) -> str:
    return f"2026-11-30T09:{number:02}:00Z"


@pytest.fixture
def synced(business: World) -> World:
    apply(business, ALPINE_WABA, template("reminder"), template("other"))
    apply(business, BAY_WABA, template("reminder"))
    return business


@pytest.mark.parametrize(
    "event", ["PAUSED", "DISABLED", "FLAGGED", "REJECTED", "PENDING_DELETION", "a_new_word"]
)
def test_a_template_that_a_webhook_takes_back_can_not_be_sent_from_then_on(
    synced: World, event: str
) -> None:
    thread = conversation(synced)
    synced.ingest(told(event, minute(1)))
    assert offered(synced, "andrej") == ["other"]
    assert offered(synced, "ana") == ["reminder"]
    with pytest.raises(psycopg.errors.DatabaseError) as refused:
        send(synced, thread, {"name": "reminder", "language": "sl"})
    assert refused.value.sqlstate == "PT422"
    assert refused.value.diag.message_detail == "field: content.name"
    assert event.lower().replace("_", " ") in str(refused.value.diag.message_primary)


@pytest.mark.parametrize("event", ["APPROVED", "REINSTATED"])
def test_a_template_that_a_webhook_gives_back_can_be_sent_at_once(
    synced: World, event: str
) -> None:
    synced.ingest(told("PAUSED", minute(1)))
    synced.ingest(told(event, minute(2)))
    assert offered(synced, "andrej") == ["other", "reminder"]


def test_webhooks_count_in_the_order_of_their_times(synced: World) -> None:
    synced.ingest(told("PAUSED", minute(3)))
    synced.ingest(told("APPROVED", minute(2)))
    assert offered(synced, "andrej") == ["other"]
    # in one webhook as well, and the later of one second is the later one
    synced.ingest(told("APPROVED", minute(5)), told("PAUSED", minute(4)))
    assert offered(synced, "andrej") == ["other", "reminder"]
    synced.ingest(told("APPROVED", minute(6)))
    synced.ingest(told("DISABLED", minute(6)))
    assert offered(synced, "andrej") == ["other"]
    # and one that is repeated or replayed changes nothing
    synced.ingest(told("APPROVED", minute(5)), body="again")
    assert offered(synced, "andrej") == ["other"]


def test_what_was_read_before_a_webhook_spoke_is_older(synced: World) -> None:
    synced.ingest(told("PAUSED", minute(5)))
    apply(synced, ALPINE_WABA, template("reminder"), read_at=minute(4))
    assert offered(synced, "andrej") == []
    apply(synced, ALPINE_WABA, template("reminder"), read_at=minute(6))
    assert offered(synced, "andrej") == ["reminder"]


def test_a_webhook_without_a_time_speaks_of_now(synced: World) -> None:
    synced.ingest(told("PAUSED", None))
    assert offered(synced, "andrej") == ["other"]


def test_webhooks_and_the_api_write_languages_in_two_ways(business: World) -> None:
    apply(business, ALPINE_WABA, template("reminder", language="en_US"))
    business.ingest(
        told("PAUSED", minute(1), content={"message_template_language": "en-US"}),
    )
    assert offered(business, "andrej") == []
    assert len(business.rows("select from public.whatsapp_templates")) == 1


def test_a_template_that_is_approved_between_two_readings_can_be_sent_at_once(
    synced: World,
) -> None:
    thread = conversation(synced)
    components = [{"type": "body", "parameters": [{"type": "text", "text": "Nejc"}]}]
    new = {"name": "new", "language": "sl"}
    with pytest.raises(psycopg.errors.DatabaseError):
        send(synced, thread, new | {"components": components})
    synced.ingest(told("APPROVED", minute(1), "new"))
    assert send(synced, thread, new | {"components": components})
    # by the names of its variables once it is read, which the worker is woken for
    with pytest.raises(psycopg.errors.DatabaseError) as refused:
        send(synced, thread, new | {"variables": {"body.1": "Nejc"}})
    assert refused.value.diag.message_detail == "field: content.variables"
    assert "some seconds" in str(refused.value.diag.message_hint)
    # a reading that began before it knows nothing of it
    apply(synced, ALPINE_WABA, template("reminder"), read_at=minute(0))
    apply(synced, ALPINE_WABA, template("reminder"), template("new"), read_at=minute(2))
    assert offered(synced, "andrej") == ["new", "reminder"]
    assert send(synced, thread, new | {"variables": {"body.1": "Nejc"}})


def test_the_worker_is_woken_for_what_is_new_and_once(synced: World) -> None:
    with synced.acting("service_role") as connection:
        connection.execute(
            "select backend.set_doorbell('http://127.0.0.1:9/wake', %s)", ["secret" * 6]
        )
    rung = (
        "select count(*) from net.http_request_queue"
        " where convert_from(body, 'UTF8') like '%%sync_templates%%'"
    )
    synced.ingest(told("PAUSED", minute(1)), told("APPROVED", minute(2)))
    assert synced.value(rung) == 0
    synced.ingest(told("APPROVED", minute(3), "new"), told("APPROVED", minute(3), "newer"))
    assert synced.value(rung) == 1
    synced.ingest(told("APPROVED", minute(3), "new"), body="again")
    assert synced.value(rung) == 1
    synced.ingest(told("x", minute(4), type="message_template_components_update"))
    assert synced.value(rung) == 2


def test_another_category_counts_at_once(synced: World) -> None:
    moved = {"previous_category": "UTILITY", "new_category": "MARKETING"}
    synced.ingest(told("", minute(2), type="template_category_update", content=moved))
    synced.ingest(
        told("", minute(1), type="template_category_update", content={"new_category": "UTILITY"})
    )
    category = (
        "select category from public.whatsapp_templates where name = 'reminder' and waba_id = %s"
    )
    assert synced.value(category, [ALPINE_WABA]) == "MARKETING"
    assert synced.value(category, [BAY_WABA]) == "UTILITY"
    # it can be sent as before
    assert offered(synced, "andrej") == ["other", "reminder"]


@pytest.mark.parametrize(
    "content",
    [
        {"message_template_name": None},
        {"message_template_language": "x" * 33},
        {"message_template_name": "x" * 513},
        {"message_template_name": 7},
        {"event": None},
    ],
)
def test_an_odd_event_is_kept_and_blocks_nothing(synced: World, content: Item) -> None:
    answer = synced.ingest(told("PAUSED", minute(1), content=content))
    assert (answer["applied"], answer["rejected"]) == (1, [])
    assert offered(synced, "andrej") == ["other", "reminder"]
