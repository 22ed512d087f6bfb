"""What came for a number that nobody has registered, and who learns of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sql.asking import ask
from tests.world import ALPINE, BAY, Item, World, status, text_message

WABA = "102290129340398"
NEW_NUMBER = "1003427786179799"


@pytest.fixture
def business(world: World) -> World:
    """Alpine has told its WhatsApp Business account; Bay another one."""
    for account, waba in ((ALPINE, WABA), (BAY, "102290129340399")):
        world.owner.execute(
            "update public.whatsapp_channels set waba_id = %s where account_id = %s",
            [waba, account],
        )
    return world


def unregistered(provider_id: str, **changes: Any) -> Item:
    return text_message(provider_id, phone_number_id=NEW_NUMBER, waba_id=WABA) | changes


def rejected(world: World, user: str) -> list[dict[str, Any]]:
    return ask(
        world,
        user,
        "select waba_id, phone_number_id, reason, webhooks, updates"
        " from public.rejected_webhooks order by reason, phone_number_id",
    )


def register(world: World) -> None:
    world.owner.execute(
        "insert into public.whatsapp_channels"
        " (account_id, phone_number_id, display_phone_number, name, waba_id)"
        " values (%s, %s, 'any', 'new', %s)",
        [ALPINE, NEW_NUMBER, WABA],
    )


def replay(world: World, *items: Item) -> dict[str, Any]:
    event = world.value("select id from private.webhook_events")
    with world.acting("service_role") as connection:
        row = connection.execute(
            "select backend.replay_webhook(%s, %s)", [event, json.dumps(items)]
        ).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def test_owners_see_what_came_for_a_number_that_is_not_registered(business: World) -> None:
    answer = business.ingest(
        unregistered("wamid.1"),
        unregistered("wamid.2"),
        status("wamid.3", "sent", "2026-11-21T10:00:00Z", phone_number_id="8", waba_id=WABA),
    )
    business.ingest(unregistered("wamid.4"))
    assert answer["rejected"][0] == {
        "index": 0,
        "reason": "unknown_phone_number_id",
        "phone_number_id": NEW_NUMBER,
        "waba_id": WABA,
    }
    for user in ("olivia", "adam"):
        assert rejected(business, user) == [
            {
                "waba_id": WABA,
                "phone_number_id": NEW_NUMBER,
                "reason": "unknown_phone_number_id",
                "webhooks": 2,
                "updates": 3,
            },
            {
                "waba_id": WABA,
                "phone_number_id": "8",
                "reason": "unknown_phone_number_id",
                "webhooks": 1,
                "updates": 1,
            },
        ]
    (remedy, *_) = ask(business, "olivia", "select remedy from public.rejected_webhooks")
    assert "rapport replay" in remedy["remedy"]


@pytest.mark.parametrize("user", ["andrej", "vera", "ana", "cilka", "carlos", "stranger"])
def test_nobody_else_does(business: World, user: str) -> None:
    business.ingest(unregistered("wamid.1"))
    assert rejected(business, user) == []


def test_what_no_account_names_or_several_do_is_nobodys(business: World) -> None:
    business.ingest(unregistered("wamid.1", waba_id="777"), unregistered("wamid.2", waba_id=None))
    assert rejected(business, "olivia") == []
    business.ingest(unregistered("wamid.3"))
    business.owner.execute("update public.whatsapp_channels set waba_id = %s", [WABA])
    assert rejected(business, "olivia") == []


def test_other_updates_that_could_not_be_applied_are_shown_as_well(business: World) -> None:
    business.ingest(
        {"kind": "skipped", "reason": "unhandled_field", "detail": "flows", "waba_id": WABA},
        text_message("wamid.1", sent_at="soon", waba_id=WABA),
    )
    assert [(row["reason"], row["updates"]) for row in rejected(business, "olivia")] == [
        ("refused", 1),
        ("unhandled_field", 1),
    ]


def test_once_the_number_is_registered_what_was_kept_is_replayed(business: World) -> None:
    items = [unregistered("wamid.1"), unregistered("wamid.2")]
    business.ingest(*items)
    register(business)
    assert replay(business, *items)["applied"] == 2
    assert rejected(business, "olivia") == []
    assert business.value("select count(*) from public.messages") == 2
