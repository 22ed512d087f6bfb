"""Recorded payloads, taken apart into items."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import JsonValue

from rapport.store.webhooks import (
    AccountEventItem,
    EffectItem,
    Item,
    MessageItem,
    SkippedItem,
    StatusItem,
    SystemItem,
)
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


def effect(name: str) -> EffectItem:
    (item,) = recorded(name)
    assert isinstance(item, EffectItem)
    return item


def event(name: str) -> AccountEventItem:
    (item,) = recorded(name)
    assert isinstance(item, AccountEventItem)
    return item


def first_message(name: str) -> JsonValue:
    value = json.loads((EVENTS / f"{name}.json").read_text())["entry"][0]["changes"][0]["value"]
    raw: JsonValue = (value.get("messages") or value.get("message_echoes"))[0]
    return raw


def test_a_text_is_taken_as_it_is() -> None:
    assert message("text") == MessageItem(
        waba_id="102290129340398",
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
        ("audio", "[voice message]"),
        ("button", "[button] Confirm"),
        ("contacts", "[contact] Marko Novak"),
        ("document", "[document] floor-plan.pdf"),
        ("image", "[image] The stain in the hall"),
        ("interactive_button", "[reply] Friday 9:00"),
        ("interactive_flow", "[reply] Sent"),
        ("interactive_list", "[reply] Carpet cleaning"),
        ("location", "[location] Studio Horvat"),
        ("order", "[order] Both on Friday, please"),
        ("request_welcome", "[conversation started]"),
        ("sticker", "[sticker]"),
        ("unknown_type", "[unsupported message]"),
        ("unsupported", "[unsupported message]"),
        ("video", "[video] The whole room"),
    ],
)
def test_every_other_type_is_kept_whole_and_shown_as_a_placeholder(name: str, text: str) -> None:
    item = message(name)
    assert item.text == text
    assert item.content == first_message(name)


@pytest.mark.parametrize("name", ["text_from_ad", "text_forwarded"])
def test_a_text_that_comes_with_more_is_kept_whole(name: str) -> None:
    item = message(name)
    assert item.content == first_message(name)
    assert not item.text.startswith("[")


@pytest.mark.parametrize(("name", "emoji"), [("reaction", "👍"), ("reaction_removed", None)])
def test_a_reaction_is_done_to_a_message(name: str, emoji: str | None) -> None:
    item = effect(name)
    assert (item.type, item.reply_to, item.text) == ("reaction", OURS, emoji)
    assert (item.sender_type, item.sender_id) == ("client", None)


def test_a_reaction_in_a_group_says_whose_it_is() -> None:
    assert effect("reaction_in_group").sender_id == "385911234567"


def test_an_edit_has_the_new_words() -> None:
    item = effect("edit")
    assert (item.type, item.text) == ("edit", "Dober dan, can you come on Saturday?")
    assert item.reply_to == "wamid.HBgMMzg1OTExMjM0NTY3FQIAEhgUM0E0001"
    assert effect("edit_caption").text == "[image] The stain in the kitchen"


def test_a_deletion_names_what_is_deleted() -> None:
    item = effect("revoke")
    assert (item.type, item.reply_to, item.text, item.content) == (
        "revoke",
        "wamid.HBgMMzg1OTExMjM0NTY3FQIAEhgUM0E0001",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("name", "text"), [("echo_text", "Sent from the phone"), ("echo_image", "[image] Done")]
)
def test_a_message_from_the_phone_app_is_known_by_whom_it_went_to(name: str, text: str) -> None:
    item = message(name)
    assert (item.kind, item.wa_id, item.user_id, item.text) == ("echo", "385911234567", None, text)
    assert item.profile_name is None


def test_a_reaction_from_the_phone_app_is_ours() -> None:
    assert effect("echo_reaction").sender_type == "operator"


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
        waba_id="102290129340398",
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


def test_a_voice_message_that_was_played_was_read() -> None:
    assert status("status_played").status == "read"


def test_a_status_says_what_we_called_the_message() -> None:
    assert status("status_with_our_id").message_ref == UUID("7a8b3f0e-4f8e-4c39-9a55-2f4f5f2b6c11")
    assert status("status_sent").message_ref is None


def test_what_whatsapp_says_of_an_account_is_an_event() -> None:
    item = event("template_status")
    assert (item.waba_id, item.phone_number_id) == ("102290129340398", None)
    assert item.type == "message_template_status_update"
    assert item.at == datetime(2026, 11, 20, 10, 1, tzinfo=UTC)
    assert item.content["event"] == "APPROVED"
    assert event("account_update").content["event"] == "VERIFIED_ACCOUNT"


def test_an_error_of_metas_is_an_event_of_the_number() -> None:
    item = event("value_errors")
    assert (item.waba_id, item.phone_number_id) == ("102290129340398", "106540352242922")
    assert (item.type, item.content["code"]) == ("errors", 130429)


def test_bad_items_of_a_batch_block_no_other() -> None:
    def word(item: Item) -> str:
        match item:
            case MessageItem():
                return f"{item.profile_name}: {item.text}"
            case StatusItem():
                return item.status
            case SystemItem():
                return item.text
            case EffectItem() | AccountEventItem():
                return item.type
            case SkippedItem():
                return item.reason

    assert [word(item) for item in recorded("batch")] == [
        "Ana Horvat: first",
        "malformed_message",
        "Marko Novak: second",
        "message_without_sender",
        "malformed_message",
        "sent",
        "read",
        "malformed_status",
        "delivered",
        "malformed_entry",
        "malformed_change",
        "Luka: [image]",
        "message_template_status_update",
    ]
