"""Calls, groups, choices and what the phone app brings: items out of recorded webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rapport.store.webhooks import (
    AccountEventItem,
    CallItem,
    EffectItem,
    GroupEventItem,
    GroupMessageItem,
    HistoryItem,
    Item,
    MarketingChoiceItem,
    PhoneBookItem,
    SkippedItem,
    StatusItem,
)
from rapport.whatsapp.items import items_of

EVENTS = Path(__file__).parents[2] / "events"
NUMBER = "106540352242922"
ANA = "385911234567"
TINE = "38640333444"
GROUP = "HBgLMTY1MDM4Nzk0MzkVAgA"


def items(name: str) -> list[Item]:
    return items_of(json.loads((EVENTS / f"{name}.json").read_text()))


def changed(name: str, **news: Any) -> list[Item]:
    """The items of a recorded webhook with another value."""
    payload = json.loads((EVENTS / f"{name}.json").read_text())
    payload["entry"][0]["changes"][0]["value"] |= news
    return items_of(payload)


def second(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- groups


def test_a_text_in_a_group_is_the_group_s() -> None:
    (item,) = items("text_in_group")
    assert isinstance(item, GroupMessageItem)
    assert (item.group_id, item.sender_type, item.sender_id) == (GROUP, "client", ANA)
    assert (item.profile_name, item.text) == ("Ana Horvat", "Hello all")
    assert item.content is not None
    assert item.content["group_id"] == GROUP


def test_a_reaction_in_a_group_names_its_sender_as_messages_do() -> None:
    (item,) = items("reaction_in_group")
    assert isinstance(item, EffectItem)
    assert item.sender_id == ANA


@pytest.mark.parametrize(
    ("name", "news"),
    [
        ("group_create", {"name": "Studio Horvat, floors", "state": "active"}),
        ("group_settings", {"name": "Studio Horvat"}),
        ("group_suspend", {"state": "suspended"}),
        ("group_delete", {"state": "deleted"}),
        (
            "group_participants_add",
            {
                "joined": [
                    {"wa_id": ANA, "user_id": None},
                    {"wa_id": TINE, "user_id": "SI.13491208655302741919"},
                ]
            },
        ),
        ("group_participants_remove", {"departed": [{"wa_id": TINE, "user_id": None}]}),
    ],
)
def test_what_happens_to_a_group_is_told(name: str, news: dict[str, Any]) -> None:
    (item,) = items(name)
    assert isinstance(item, GroupEventItem)
    assert item.group_id == GROUP
    nothing = {"name": None, "state": None, "joined": [], "departed": []}
    assert item.content.model_dump(mode="json") == nothing | news


def test_a_group_that_was_not_made_is_told_to_those_who_administer() -> None:
    (item,) = items("group_create_failed")
    assert isinstance(item, AccountEventItem)
    assert (item.type, item.phone_number_id) == ("group_lifecycle_update", NUMBER)


def test_who_asks_to_join_is_kept_raw() -> None:
    (item,) = items("group_join_request")
    assert isinstance(item, SkippedItem)
    assert (item.reason, item.detail) == ("unhandled_group_event", "group_join_request_created")


def test_a_setting_that_was_not_changed_renames_nothing() -> None:
    failed = {"text": "Other", "update_successful": False}
    group = {"group_id": GROUP, "type": "group_settings_update", "timestamp": "1795168200"}
    (item,) = changed("group_settings", groups=[group | {"group_subject": failed}])
    assert isinstance(item, SkippedItem)


def test_statuses_of_a_group_message_are_of_that_message() -> None:
    statuses = items("group_status_delivered")
    assert [type(item) for item in statuses] == [StatusItem, StatusItem]
    assert len({item.provider_id for item in statuses if isinstance(item, StatusItem)}) == 1


# --- calls


@pytest.mark.parametrize(
    ("name", "event", "sender_type"),
    [
        ("call_connect", "connect", "client"),
        ("call_terminate", "terminate", "client"),
        ("call_missed", "terminate", "client"),
        ("call_ours_connect", "connect", "operator"),
        ("call_ours_rejected", "rejected", "operator"),
        ("call_ours_terminate", "terminate", "operator"),
    ],
)
def test_an_event_of_a_call_is_with_its_person(name: str, event: str, sender_type: str) -> None:
    (item,) = items(name)
    assert isinstance(item, CallItem)
    assert (item.wa_id, item.content.event, item.sender_type) == (ANA, event, sender_type)
    assert item.sender_id == (ANA if sender_type == "client" else None)
    assert item.profile_name == ("Ana Horvat" if sender_type == "client" else None)


def test_the_end_of_a_call_says_how_long_it_was() -> None:
    (item,) = items("call_terminate")
    assert isinstance(item, CallItem)
    assert item.content.model_dump() == {
        "event": "terminate",
        "started_at": second(1795168906),
        "ended_at": second(1795169031),
        "duration_s": 125,
        "has_failed": False,
    }


@pytest.mark.parametrize("contacts", [[], None, [{"wa_id": "1"}, {"wa_id": "2"}]])
def test_without_its_contact_a_call_is_with_the_other_number(contacts: Any) -> None:
    for name in ("call_connect", "call_ours_connect", "call_ours_rejected"):
        (item,) = changed(name, contacts=contacts)
        assert isinstance(item, CallItem), name
        assert item.wa_id == ANA, name


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"id": "wacid.1", "event": "hold", "timestamp": "1", "from": ANA}, "unknown_call_event"),
        ({"id": "wacid.1", "event": "connect", "timestamp": "1"}, "call_without_person"),
        ({"event": "connect", "timestamp": "1", "from": ANA}, "malformed_call"),
        (7, "malformed_call"),
    ],
)
def test_a_call_that_is_not_understood_is_left_out(call: Any, reason: str) -> None:
    (item,) = changed("call_connect", contacts=[], calls=[call])
    assert isinstance(item, SkippedItem)
    assert item.reason == reason


# --- choices


@pytest.mark.parametrize(
    ("value", "choice"), [("stop", "stop"), ("resume", "resume"), ("signup", "resume")]
)
def test_a_choice_is_the_person_s(value: str, choice: str) -> None:
    preference = {
        "wa_id": ANA,
        "category": "marketing_messages",
        "value": value,
        "timestamp": 1795169200,
    }
    (item,) = changed("preferences_stop", user_preferences=[preference])
    assert isinstance(item, MarketingChoiceItem)
    assert (item.wa_id, item.type, item.sent_at) == (ANA, choice, second(1795169200))


@pytest.mark.parametrize(
    ("category", "value"), [("utility_messages", "stop"), ("marketing_messages", "less")]
)
def test_another_choice_is_kept_raw(category: str, value: str) -> None:
    preference = {"wa_id": ANA, "category": category, "value": value, "timestamp": 1}
    (item,) = changed("preferences_stop", user_preferences=[preference])
    assert isinstance(item, SkippedItem)
    assert item.detail == f"{category}: {value}"


# --- the phone app


def test_the_history_s_messages_are_of_their_threads() -> None:
    progress, *messages = items("history")
    assert isinstance(progress, AccountEventItem)
    assert progress.content == {"phase": 0, "chunk_order": 1, "progress": 55}
    assert [
        (item.wa_id, item.sender_type, item.type, item.status)
        for item in messages
        if isinstance(item, HistoryItem)
    ] == [
        (ANA, "client", "text", None),
        (ANA, "operator", "text", "read"),
        (ANA, "client", "media_placeholder", None),
        (TINE, "operator", "text", "delivered"),
        (TINE, "client", "text", None),
    ]


def test_a_file_of_the_history_comes_alone() -> None:
    (item,) = items("history_media")
    assert isinstance(item, HistoryItem)
    assert (item.wa_id, item.sender_type, item.text) == (ANA, "client", "[image] The sofa")


def test_a_history_that_is_not_shared_is_told_to_those_who_administer() -> None:
    (item,) = items("history_declined")
    assert isinstance(item, AccountEventItem)
    assert (item.type, item.content["code"]) == ("history", 2593109)


def test_the_phone_book_s_entries_are_added_and_removed() -> None:
    entries = [*items("phone_book"), *items("phone_book_removed")]
    assert [
        (item.wa_id, item.type, item.text) for item in entries if isinstance(item, PhoneBookItem)
    ] == [
        (ANA, "add", "Ana Horvat (sofa)"),
        (TINE, "add", "Tine Zupan"),
        (TINE, "remove", None),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "label", "action": "add", "contact": {}, "metadata": {"timestamp": "1"}},
        {
            "type": "contact",
            "action": "add",
            "contact": {"phone_number": "a"},
            "metadata": {"timestamp": "1"},
        },
        *(
            {
                "type": "contact",
                "action": "add",
                "contact": {"phone_number": number},
                "metadata": {"timestamp": "1"},
            }
            for number in ("040111333", "112", "1", "99999999999999999999", "0038640111333")
        ),
        {
            "type": "contact",
            "action": "hide",
            "contact": {"phone_number": ANA},
            "metadata": {"timestamp": "1"},
        },
        {"type": "contact", "action": "add"},
        None,
    ],
)
def test_an_odd_entry_costs_no_other(odd: Any) -> None:
    good = {
        "type": "contact",
        "action": "add",
        "contact": {"full_name": "Ana", "phone_number": f"+{ANA}"},
        "metadata": {"timestamp": "1795168000"},
    }
    skipped, item = changed("phone_book", state_sync=[odd, good])
    assert isinstance(skipped, SkippedItem)
    assert isinstance(item, PhoneBookItem)
    assert item.wa_id == ANA


@pytest.mark.parametrize(
    "field", ["calls", "history", "user_preferences", "group_status_update", "smb_app_state_sync"]
)
@pytest.mark.parametrize("value", [None, 7, [], {"metadata": {}}])
def test_an_odd_value_is_left_out(field: str, value: Any) -> None:
    payload = {"entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}
    (item,) = items_of(payload)
    assert isinstance(item, SkippedItem)
    assert item.reason == "malformed_change"
