"""Payloads of shapes that Meta has not sent yet, taken apart into items."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from rapport.local.fakes.whatsapp.payloads import Payload, inbound_text, status_update, webhook
from rapport.store.webhooks import (
    AccountEventItem,
    MessageItem,
    SkippedItem,
    StatusItem,
    SystemItem,
    json_of,
)
from rapport.whatsapp.items import items_of
from rapport.whatsapp.parts import NAME_LIMIT, TEXT_LIMIT
from rapport.whatsapp.webhook import parse


def text_payload(**message: JsonValue) -> Payload:
    """A text, with these fields of the message replaced."""
    payload: Payload = {
        "entry": [
            {
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "metadata": {"phone_number_id": "106540352242922"},
                            "contacts": [{"wa_id": "385911234567", "profile": {"name": "Ana"}}],
                            "messages": [
                                {
                                    "id": "wamid.1",
                                    "from": "385911234567",
                                    "timestamp": "1795168800",
                                    "type": "text",
                                    "text": {"body": "hello"},
                                    **message,
                                }
                            ],
                        },
                    }
                ]
            }
        ]
    }
    return payload


def _with_account(payload: Payload, id_: JsonValue) -> JsonValue:
    entries = payload["entry"]
    assert isinstance(entries, list)
    (entry,) = entries
    assert isinstance(entry, dict)
    return {"entry": [{**entry, "id": id_}]}


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "yesterday"},
        {"timestamp": "१७९५१६८८००"},
        {"timestamp": None},
        {"id": ""},
        {"id": "w" * 513},
        {"id": 7},
        {"text": {"body": None}},
        {"text": None},
    ],
)
def test_a_message_that_can_not_be_stored_is_skipped(change: dict[str, JsonValue]) -> None:
    (item,) = items_of(text_payload(**change))
    assert isinstance(item, SkippedItem)
    assert item.reason == "malformed_message"


@pytest.mark.parametrize(
    "time", ["-1", "0", "9999999999", "99999999999", "1795168800000", -(10**19)]
)
def test_a_time_that_no_clock_shows_does_not_cost_the_message(time: JsonValue) -> None:
    (item,) = items_of(text_payload(timestamp=time))
    assert isinstance(item, MessageItem)
    # the database takes the time of arrival for it
    assert not 2009 <= item.sent_at.year <= 2200


@pytest.mark.parametrize("sender", [["385911234567"], {}, "Ana", "3" * 33, "", None])
def test_a_message_of_nobody_that_is_known_is_recorded(sender: JsonValue) -> None:
    (item,) = items_of(text_payload(**{"from": sender}))
    assert isinstance(item, SkippedItem)
    assert item.reason == "message_without_sender"


@pytest.mark.parametrize("sender", [385911234567, "+385 91 1234567"])
def test_a_number_is_understood_in_other_spellings(sender: JsonValue) -> None:
    (item,) = items_of(text_payload(**{"from": sender}))
    assert isinstance(item, MessageItem)
    assert (item.wa_id, item.profile_name) == ("385911234567", "Ana")


@pytest.mark.parametrize("odd", [7, {}, [], True, "x" * 600])
@pytest.mark.parametrize("name", ["from_user_id"])
def test_an_odd_id_beside_the_number_does_not_cost_the_message(name: str, odd: JsonValue) -> None:
    (item,) = items_of(text_payload(**{name: odd}))
    assert isinstance(item, MessageItem)
    assert (item.wa_id, item.user_id) == ("385911234567", None)


@pytest.mark.parametrize("odd", [{}, [], True, "x" * 600])
def test_what_is_said_in_a_group_that_can_not_be_read_is_said_to_nobody_else(
    odd: JsonValue,
) -> None:
    (item,) = items_of(text_payload(group_id=odd))
    assert isinstance(item, SkippedItem)
    assert (item.reason, item.detail) == ("malformed_message", "group_id: not an id")


@pytest.mark.parametrize("odd", [None, 7, {}, "", "x" * 600])
def test_a_message_of_no_type_is_kept_as_unsupported(odd: JsonValue) -> None:
    (item,) = items_of(text_payload(type=odd))
    assert isinstance(item, MessageItem)
    assert (item.type, item.text) == ("unsupported", "[unsupported message]")


@pytest.mark.parametrize("odd", [0, {}, "", "0" * 600])
def test_an_odd_id_of_an_entry_costs_none_of_its_messages(odd: JsonValue) -> None:
    payload = _with_account(text_payload(), odd)
    (item,) = items_of(payload)
    assert isinstance(item, MessageItem)


def test_a_number_of_ours_may_be_a_number() -> None:
    payload = json.loads(json.dumps(text_payload()).replace('"106540352242922"', "106540352242922"))
    (item,) = items_of(payload)
    assert isinstance(item, MessageItem)
    assert item.phone_number_id == "106540352242922"


def test_an_error_that_is_none_is_recorded_and_blocks_no_other() -> None:
    payload = webhook("106540352242922", {"errors": ["odd", {"code": 130429}]})
    odd, error = items_of(payload)
    assert isinstance(odd, SkippedItem)
    assert odd.reason == "malformed_error"
    assert isinstance(error, AccountEventItem)
    assert error.content == {"code": 130429}


def test_a_number_that_jsonb_has_not_costs_its_own_message_alone() -> None:
    payload = json.loads(json.dumps(text_payload()))
    messages = payload["entry"][0]["changes"][0]["value"]["messages"]
    messages.append({**messages[0], "type": "location", "location": {"latitude": 1}})
    body = json.dumps(payload).replace('"latitude": 1', '"latitude": 1e400')
    first, second = items_of(parse(body))
    assert isinstance(first, MessageItem)
    assert isinstance(second, SkippedItem)


def test_a_number_that_jsonb_has_not_costs_its_own_event_alone() -> None:
    entry = {"id": "1", "changes": [{"field": "account_update", "value": {"limit": 1}}]}
    body = json.dumps({"entry": [entry]}).replace('"limit": 1', '"limit": 1e400')
    (item,) = items_of(parse(body))
    assert isinstance(item, SkippedItem)
    assert item.reason == "malformed_change"


@pytest.mark.parametrize("odd", [None, "junk", [], {}, {"message_id": ""}, {"emoji": "👍"}])
@pytest.mark.parametrize("type_", ["reaction", "edit", "revoke"])
def test_an_effect_on_nothing_is_kept_as_a_message(type_: str, odd: JsonValue) -> None:
    (item,) = items_of(text_payload(**{"type": type_, type_: odd}))
    assert isinstance(item, MessageItem)
    assert item.content is not None


@pytest.mark.parametrize("ref", ["junk", "", None, 7, "x" * 600])
def test_an_odd_reference_does_not_cost_the_status(ref: JsonValue) -> None:
    payload = json.loads(
        json.dumps(
            status_update(phone_number_id="1", recipient="1", provider_id="wamid.1", status="sent")
        )
    )
    value = payload["entry"][0]["changes"][0]["value"]
    value["statuses"][0]["biz_opaque_callback_data"] = ref
    (item,) = items_of(payload)
    assert isinstance(item, StatusItem)
    assert item.message_ref is None


@pytest.mark.parametrize("to", [None, "", "nobody", []])
def test_an_echo_to_nobody_is_recorded(to: JsonValue) -> None:
    payload = json.loads(json.dumps(text_payload(to=to)))
    change = payload["entry"][0]["changes"][0]
    change["field"] = "smb_message_echoes"
    change["value"]["message_echoes"] = change["value"].pop("messages")
    (item,) = items_of(payload)
    assert isinstance(item, SkippedItem)
    assert item.reason == "message_without_recipient"


def test_a_skipped_message_is_not_quoted() -> None:
    (item,) = items_of(text_payload(timestamp="tell nobody"))
    assert "nobody" not in json.dumps(json_of(item))


@pytest.mark.parametrize("context", ["junk", [], {"id": 7}, {"id": ""}, None])
def test_an_odd_context_does_not_cost_the_message(context: JsonValue) -> None:
    (item,) = items_of(text_payload(context=context))
    assert isinstance(item, MessageItem)
    assert item.reply_to is None


@pytest.mark.parametrize(
    "contacts",
    [
        None,
        "junk",
        {},
        [7],
        [{"wa_id": "385911234567", "profile": "junk"}],
        [{"wa_id": "385911234567", "profile": {"name": 7}}],
        [{"wa_id": "385911234567", "profile": {"name": " "}}],
    ],
)
def test_odd_contacts_do_not_cost_the_message(contacts: JsonValue) -> None:
    payload = json.loads(json.dumps(text_payload()))
    payload["entry"][0]["changes"][0]["value"]["contacts"] = contacts
    (item,) = items_of(payload)
    assert isinstance(item, MessageItem)
    assert (item.wa_id, item.profile_name) == ("385911234567", None)


def test_another_senders_profile_is_not_taken() -> None:
    (item,) = items_of(text_payload(**{"from": "38640123456"}))
    assert isinstance(item, MessageItem)
    assert item.profile_name is None


@pytest.mark.parametrize(
    ("username", "stored"),
    [
        ("@tina.k", "tina.k"),
        ("", None),
        ("@", None),
        ("tina k", None),
        ("tina@k", None),
        ("tina\u2028k", None),
        ("t" * 101, None),
        (7, None),
    ],
)
def test_username_that_can_not_be_stored_does_not_cost_the_message(
    username: JsonValue, stored: str | None
) -> None:
    payload = json.loads(json.dumps(text_payload()))
    contact = payload["entry"][0]["changes"][0]["value"]["contacts"][0]
    contact["profile"]["username"] = username
    (item,) = items_of(payload)
    assert isinstance(item, MessageItem)
    assert item.username == stored


def system(type_: str, **fields: JsonValue) -> SystemItem:
    (item,) = items_of(text_payload(type="system", system={"type": type_, **fields}))
    assert isinstance(item, SystemItem)
    return item


@pytest.mark.parametrize(
    "fields",
    [
        {"wa_id": "385997654321"},
        {"wa_id": 385997654321},
        {"wa_id": "+385 99 765-4321"},
        # before version 12
        {"new_wa_id": "385997654321", "customer": "385911234567"},
    ],
)
@pytest.mark.parametrize("type_", ["user_changed_number", "customer_changed_number"])
def test_new_number_is_understood_in_every_shape(type_: str, fields: dict[str, JsonValue]) -> None:
    item = system(type_, **fields)
    assert (item.wa_id, item.new_wa_id) == ("385911234567", "385997654321")
    assert item.text == "The number changed from 385911234567 to 385997654321."


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("user_changed_number", {}),
        ("user_changed_number", {"wa_id": "Ana"}),
        ("user_changed_number", {"wa_id": ["385997654321"]}),
        ("user_changed_number", {"user_id": "u" * 321}),
        ("user_changed_user_id", {"user_id": {}}),
        ("customer_identity_changed", {"wa_id": "385997654321", "user_id": "HR.1"}),
        ("news", {"new_wa_id": "385997654321"}),
    ],
)
def test_notice_that_is_not_understood_is_kept_and_changes_nothing(
    type_: str, fields: dict[str, JsonValue]
) -> None:
    item = system(type_, **fields)
    assert (item.wa_id, item.new_wa_id, item.new_user_id) == ("385911234567", None, None)


@pytest.mark.parametrize("odd", [None, "junk", [], 7])
def test_notice_without_contents_is_kept(odd: JsonValue) -> None:
    (item,) = items_of(text_payload(type="system", system=odd))
    assert isinstance(item, SystemItem)
    assert item.text == "[system message]"


def test_notice_that_says_only_who_it_is_now_is_of_them() -> None:
    (item,) = items_of(
        text_payload(
            **{"from": None},
            type="system",
            system={"type": "user_changed_number", "wa_id": "385997654321", "user_id": "HR.2"},
        )
    )
    assert isinstance(item, SystemItem)
    assert (item.wa_id, item.user_id) == ("385997654321", "HR.2")
    assert (item.new_wa_id, item.new_user_id) == (None, None)


def test_notice_about_nobody_is_recorded() -> None:
    (item,) = items_of(text_payload(**{"from": None}, type="system", system={"type": "news"}))
    assert isinstance(item, SkippedItem)
    assert item.reason == "message_without_sender"


def test_marks_of_direction_are_not_part_of_the_sentence() -> None:
    item = system("user_changed_number", body="\u200e385911234567 is 385997654321\u200e")
    assert item.text == "385911234567 is 385997654321"


def test_texts_and_names_are_cut_to_what_is_stored() -> None:
    payload = inbound_text(
        phone_number_id="1", sender="385911234567", name="A" * 1_000, text="x" * 100_000
    )
    (item,) = items_of(payload)
    assert isinstance(item, MessageItem)
    assert (len(item.text), len(item.profile_name or "")) == (TEXT_LIMIT, NAME_LIMIT)


def test_an_error_code_beyond_an_integer_does_not_cost_the_status() -> None:
    payload = status_update(
        phone_number_id="1",
        recipient="385911234567",
        provider_id="wamid.1",
        status="failed",
        error={"code": 2**31, "title": "odd"},
    )
    (item,) = items_of(payload)
    assert isinstance(item, StatusItem)
    assert item.error_code is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [
        "1795168800",
        "text",
        "image",
        "385911234567",
        "wamid.1",
        "read",
        "messages",
        "106540352242922",
    ]
)
KEYS = {
    "webhook": ["entry"],
    "entry": ["changes"],
    "change": ["field", "value"],
    "value": ["metadata", "contacts", "messages", "statuses", "errors", "phone_number_id"],
    "item": [
        *["id", "from", "from_user_id", "timestamp", "type", "text", "image", "status", "errors"],
        *["context", "system"],
    ],
    "inner": [
        "body",
        "phone_number_id",
        "wa_id",
        "user_id",
        "profile",
        "name",
        "code",
        "id",
        "title",
    ],
}


def _almost(level: str, inner: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    """Objects with a level's keys, whose values are often those of the next level."""
    values = inner | st.lists(inner, max_size=3) | WORDS | json_values
    keys = st.sampled_from(KEYS[level])
    return st.dictionaries(keys, values, max_size=len(KEYS[level]))


def _almost_webhooks() -> st.SearchStrategy[JsonValue]:
    strategy: st.SearchStrategy[JsonValue] = json_values
    for level in reversed(KEYS):
        strategy = _almost(level, strategy)
    return strategy


@settings(deadline=None)
@given(json_values | _almost_webhooks())
def test_any_json_gives_items_that_can_be_sent(payload: JsonValue) -> None:
    items = items_of(parse(json.dumps(payload).replace("Infinity", "1e999")))
    sent = json.dumps([json_of(item) for item in items], allow_nan=False)
    assert "\\u0000" not in sent.replace("\\\\", "")
