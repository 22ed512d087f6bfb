"""Recorded payloads, taken apart into items."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rapport.store import Item, MessageItem, SkippedItem, StatusItem, SystemItem
from rapport.whatsapp.items import items_of
from rapport.whatsapp.webhook import parse

EVENTS = Path(__file__).parents[2] / "events"
OURS = "wamid.HBgMMzg1OTExMjM0NTY3FQIAERgSOUZE0001"


def recorded(name: str) -> list[Item]:
    return items_of(parse((EVENTS / f"{name}.json").read_text()))


def message(name: str) -> MessageItem:
    (item,) = recorded(name)
    assert isinstance(item, MessageItem)
    return item


def system(name: str) -> SystemItem:
    (item,) = recorded(name)
    assert isinstance(item, SystemItem)
    return item


def status(name: str) -> StatusItem:
    (item,) = recorded(name)
    assert isinstance(item, StatusItem)
    return item


def skipped(name: str) -> SkippedItem:
    (item,) = recorded(name)
    assert isinstance(item, SkippedItem)
    return item


def test_a_text_is_taken_as_it_is() -> None:
    assert message("text") == MessageItem(
        phone_number_id="106540352242922",
        provider_id="wamid.HBgMMzg1OTExMjM0NTY3FQIAEhgUM0E0001",
        wa_id="385911234567",
        user_id=None,
        username=None,
        profile_name="Ana Horvat",
        sent_at=datetime(2026, 11, 20, 10, 0, 1, tzinfo=UTC),
        type="text",
        text="Dober dan, can you come on Friday? 🧽",
        content=None,
        reply_to=None,
    )


def test_a_reply_names_what_it_answers() -> None:
    assert message("text_reply").reply_to == OURS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("audio", "[audio]"),
        ("button", "[button] Confirm"),
        ("contacts", "[contact] Marko Novak"),
        ("document", "[document] floor-plan.pdf"),
        ("image", "[image] The stain in the hall"),
        ("interactive_button", "[reply] Friday 9:00"),
        ("interactive_flow", "[reply] Sent"),
        ("interactive_list", "[reply] Carpet cleaning"),
        ("location", "[location] Studio Horvat"),
        ("order", "[order] Both on Friday, please"),
        ("reaction", "[reaction] 👍"),
        ("reaction_removed", "[reaction removed]"),
        ("sticker", "[sticker]"),
        ("unknown_type", "[unsupported message]"),
        ("unsupported", "[unsupported message]"),
        ("video", "[video] The whole room"),
    ],
)
def test_every_other_type_is_kept_whole_and_shown_as_a_placeholder(name: str, text: str) -> None:
    item = message(name)
    payload = json.loads((EVENTS / f"{name}.json").read_text())
    assert item.text == text
    assert item.content == payload["entry"][0]["changes"][0]["value"]["messages"][0]


def test_a_user_without_a_phone_number_is_known_by_user_id() -> None:
    item = message("bsuid_only")
    assert (item.wa_id, item.user_id) == (None, "SI.13491208655302741918")
    assert (item.profile_name, item.username) == ("Tina", "tina.k")


def test_a_user_with_both_is_known_by_both() -> None:
    item = message("bsuid_and_phone")
    assert (item.wa_id, item.user_id) == ("385911234567", "SI.13491208655302741918")


def test_a_changed_number_needs_no_contacts() -> None:
    item = system("system_number_change")
    payload = json.loads((EVENTS / "system_number_change.json").read_text())
    assert item == SystemItem(
        phone_number_id="106540352242922",
        provider_id="wamid.HBgMMzg1OTExMjM0NTY3FQIAEhgUM0E0020",
        wa_id="385911234567",
        user_id=None,
        new_wa_id="385997654321",
        new_user_id=None,
        sent_at=datetime(2026, 11, 20, 10, 0, 20, tzinfo=UTC),
        text="User Ana Horvat changed from 385911234567 to 385997654321",
        content=payload["entry"][0]["changes"][0]["value"]["messages"][0],
    )


def test_a_changed_number_comes_with_another_user_id() -> None:
    item = system("system_number_and_user_id_change")
    assert (item.wa_id, item.new_wa_id) == ("385911234567", "385997654321")
    assert (item.user_id, item.new_user_id) == (
        "HR.13491208655302741918",
        "HR.24580197744219038820",
    )


def test_a_changed_user_id_needs_no_number() -> None:
    item = system("system_user_id_change")
    assert (item.wa_id, item.new_wa_id) == (None, None)
    assert (item.user_id, item.new_user_id) == (
        "SI.13491208655302741918",
        "SI.24580197744219038820",
    )


def test_any_other_system_message_changes_nothing() -> None:
    item = system("system_identity_change")
    assert (item.wa_id, item.new_wa_id, item.new_user_id) == ("385911234567", None, None)
    assert item.text == "[system message]"


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "failed"])
def test_a_status_is_taken_as_it_is(word: str) -> None:
    item = status(f"status_{word}")
    assert (item.status, item.provider_id) == (word, OURS)


def test_a_failure_says_why() -> None:
    item = status("status_failed")
    assert (item.error_code, item.error_message) == (131026, "Message Undeliverable.")


def test_an_unknown_status_is_recorded() -> None:
    assert skipped("status_played") == SkippedItem(reason="unknown_status", detail="played")


def test_a_change_of_another_field_is_recorded() -> None:
    assert skipped("account_update") == SkippedItem(
        reason="unhandled_field", detail="account_update"
    )


def test_an_error_of_metas_is_recorded() -> None:
    assert skipped("value_errors") == SkippedItem(
        reason="provider_error", detail="130429 Too many messages in a short time."
    )


def test_bad_items_of_a_batch_block_no_other() -> None:
    def word(item: Item) -> str:
        match item:
            case MessageItem():
                return f"{item.profile_name}: {item.text}"
            case StatusItem():
                return item.status
            case SystemItem():
                return item.text
            case SkippedItem():
                return item.reason

    assert [word(item) for item in recorded("batch")] == [
        "Ana Horvat: first",
        "malformed_message",
        "Marko Novak: second",
        "message_without_sender",
        "malformed_message",
        "sent",
        "unknown_status",
        "malformed_status",
        "delivered",
        "malformed_entry",
        "malformed_change",
        "Luka: [image]",
        "unhandled_field",
    ]
