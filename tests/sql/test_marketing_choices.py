"""Who stops marketing messages on WhatsApp is sent none: neither when written nor when sent."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.asking import Refusal, ask, refusal
from tests.sql.outbound import begin, claim, conversation, post, state
from tests.world import ALPINE, ALPINE_NUMBER, Item, World, text_message

CILKA = "38640111222"
WABA = "102290129340398"


def choice(type_: str, sent_at: str, wa_id: str | None = CILKA, **changes: Any) -> Item:
    return {
        "kind": "marketing_choice",
        "phone_number_id": ALPINE_NUMBER,
        "wa_id": wa_id,
        "user_id": None,
        "type": type_,
        "sent_at": sent_at,
    } | changes


def at(minute: int) -> str:
    return f"2026-11-21T10:{minute:02}:00Z"


def stopped(world: World, phone: str = f"+{CILKA}") -> bool:
    is_stopped: bool = world.value(
        "select marketing_stopped_at is not null from public.contacts where phone = %s", [phone]
    )
    return is_stopped


@pytest.fixture
def thread(world: World) -> UUID:
    """Cilka's conversation, on a number that has a template of each category."""
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = %s where phone_number_id = %s",
        (WABA, ALPINE_NUMBER),
    )
    for category in ("MARKETING", "UTILITY"):
        world.owner.execute(
            "insert into public.whatsapp_templates (account_id, waba_id, name, language, category,"
            " status, components, variables) values (%s, %s, %s, 'en', %s, 'APPROVED', %s, '{}')",
            (ALPINE, WABA, category.lower(), category, '[{"type": "BODY", "text": "Hello"}]'),
        )
    return conversation(world)


def template(world: World, thread: UUID, name: str) -> dict[str, Any]:
    return post(
        world,
        "andrej",
        thread,
        None,
        type="template",
        content=json.dumps({"name": name, "language": "en"}),
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_choice_counts_in_whatever_order_they_come(
    world: World, order: tuple[int, ...]
) -> None:
    items = [choice("stop", at(1)), choice("resume", at(2)), choice("stop", at(3))]
    for number in order:
        world.ingest(items[number], body=str(number))
    assert stopped(world)
    assert world.value("select marketing_stopped_at from public.contacts where name = 'cilka'") == (
        world.value("select %s::timestamptz", [at(3)])
    )
    again = world.ingest(*items, body="again")
    assert (again["applied"], again["duplicates"]) == (0, 3)


def test_somebody_who_never_wrote_is_known_from_then_on(world: World) -> None:
    world.ingest(choice("stop", at(1), "38640555666"))
    assert stopped(world, "+38640555666")
    assert world.value("select count(*) from public.conversations") == 0
    world.ingest(text_message("wamid.1", wa_id="38640555666"))
    assert world.value("select count(*) from public.contacts where phone = '+38640555666'") == 1


def test_marketing_templates_are_refused_and_others_go(world: World, thread: UUID) -> None:
    world.ingest(choice("stop", at(1)))
    content = json.dumps({"name": "marketing", "language": "en"})
    call = "select public.post_message(%s, null, 'template', %s)"
    assert refusal(world, "andrej", call, thread, content) == Refusal(
        "PT422",
        "This person stopped marketing messages on WhatsApp on 2026-11-21.",
        "field: content.name",
        "Send a utility template. Marketing templates can go again once the person resumes them.",
    )
    insert = (
        "insert into public.messages (conversation_id, type, message, content)"
        " values (%s, 'template', 'x', %s)"
    )
    assert refusal(world, "andrej", insert, thread, content).code == "PT422"
    assert template(world, thread, "utility")["status"] == "queued"
    assert post(world, "andrej", thread)["status"] == "queued"

    world.ingest(choice("resume", at(2)))
    assert template(world, thread, "marketing")["status"] == "queued"


def test_what_waits_when_they_stop_is_not_sent(world: World, thread: UUID) -> None:
    waiting = template(world, thread, "marketing")
    world.ingest(choice("stop", at(1)))
    (job,) = claim(world)
    assert not begin(world, job["message_id"])
    failed = state(world, waiting["id"])
    assert (failed["status"], failed["error_code"]) == ("failed", 131050)


def test_staff_see_it_and_nobody_writes_it(world: World) -> None:
    world.forget_events()
    world.ingest(choice("stop", at(1)))
    (event,) = [one for one in world.events() if one["event"] == "contacts.updated"]
    assert event["payload"]["record"]["marketing_stopped_at"] is not None
    assert "marketing_chosen_at" not in event["payload"]["record"]
    query = (
        "select marketing_stopped_at is not null as stopped"
        " from public.contacts where name = 'cilka'"
    )
    assert ask(world, "vera", query) == [{"stopped": True}]
    assert ask(world, "cilka", query) == []
    shown = "select marketing_stopped_at is not null as stopped from public.contacts_v2"
    assert {"stopped": True} in ask(world, "vera", shown)

    # a customer's own preferences are another thing
    preferences = '{"marketing_stopped_at": null, "marketing": "resume"}'
    ask(
        world,
        "cilka",
        "update public.my_profile set preferences = %s where id is not null",
        preferences,
    )
    assert stopped(world)
    for user, table in (("cilka", "my_profile"), ("andrej", "contacts"), ("andrej", "contacts_v2")):
        change = f"update public.{table} set marketing_stopped_at = null"
        assert refusal(world, user, change).code in ("42703", "42501", "PT422")
    assert stopped(world)


def test_a_merge_keeps_that_it_was_stopped_and_undoing_takes_it_back(world: World) -> None:
    world.ingest(text_message("wamid.1", wa_id="38640555666"))
    world.ingest(choice("stop", at(1), "38640555666"))
    kept, dropped = (
        world.value("select id from public.contacts where phone = %s", [phone])
        for phone in (f"+{CILKA}", "+38640555666")
    )
    ask(world, "andrej", "select public.merge_contacts(%s, %s)", kept, dropped)
    assert stopped(world)
    merge = world.value("select id from public.contact_merges")
    ask(world, "andrej", "select public.undo_merge(%s)", merge)
    assert not stopped(world)
    assert stopped(world, "+38640555666")
