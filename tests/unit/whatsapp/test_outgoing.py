"""Rows as bodies of WhatsApp's API, and what can't be one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import JsonValue

from rapport.errors import Unprocessable
from rapport.store.outbound import OutboundMessage
from rapport.whatsapp.outgoing import check_content, request_body

ID = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def message(**changes: Any) -> OutboundMessage:
    fields: dict[str, Any] = {
        "message_id": ID,
        "account_id": uuid4(),
        "conversation_id": uuid4(),
        "phone_number_id": "1003427786179738",
        "wa_id": "5511987654321",
        "user_id": None,
        "type": "text",
        "text": "Tuesday at 9?",
        "content": None,
        "reply_to": None,
        "reaction_to": None,
    }
    return OutboundMessage.model_validate(fields | changes)


def test_a_text_has_our_id_with_it_and_goes_to_the_exact_number() -> None:
    assert request_body(message()) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511987654321",
        "type": "text",
        "text": {"body": "Tuesday at 9?"},
        "biz_opaque_callback_data": str(ID),
    }


def test_what_is_for_a_group_goes_to_the_group() -> None:
    body = request_body(message(group_id="HBgLMTY1MDM4", wa_id=None))
    assert (body["recipient_type"], body["to"]) == ("group", "HBgLMTY1MDM4")
    assert "recipient" not in body


def test_a_number_wins_over_a_user_id() -> None:
    body = request_body(message(user_id="BR.1"))
    assert body["to"] == "5511987654321"
    assert "recipient" not in body


def test_a_user_id_goes_where_the_settings_say() -> None:
    unnumbered = message(wa_id=None, user_id="BR.1")
    assert request_body(unnumbered)["recipient"] == "BR.1"
    assert request_body(unnumbered, "to")["to"] == "BR.1"


def test_somebody_without_either_is_not_written_to() -> None:
    with pytest.raises(Unprocessable, match="neither"):
        request_body(message(wa_id=None))


def test_a_reply_names_its_message() -> None:
    assert request_body(message(reply_to="wamid.1"))["context"] == {"message_id": "wamid.1"}


@pytest.mark.parametrize("emoji", ["👍", ""])
def test_a_reaction_names_its_message_as_whatsapp_does(emoji: str) -> None:
    body = request_body(
        message(
            type="reaction",
            content={"message_id": str(uuid4()), "emoji": emoji},
            reaction_to="wamid.1",
            reply_to="wamid.1",
        )
    )
    assert body["reaction"] == {"message_id": "wamid.1", "emoji": emoji}
    assert "context" not in body


def test_a_reaction_to_what_whatsapp_does_not_know_is_not_sent() -> None:
    content = {"message_id": str(uuid4()), "emoji": "👍"}
    with pytest.raises(Unprocessable) as caught:
        request_body(message(type="reaction", content=content))
    assert caught.value.field == "content.message_id"


SENDABLE: list[tuple[str, JsonValue]] = [
    ("image", {"id": "123"}),
    ("image", {"link": "https://files.example/a.jpg", "caption": "The hall"}),
    ("video", {"link": "https://files.example/a.mp4"}),
    ("audio", {"id": "123", "voice": True}),
    ("document", {"id": "123", "filename": "offer.pdf", "caption": "The offer"}),
    ("sticker", {"id": "123"}),
    ("location", {"latitude": 46.05, "longitude": 14.5, "name": "Office"}),
    ("contacts", [{"name": {"formatted_name": "Ana", "first_name": "A"}, "phones": [{}]}]),
    (
        "interactive",
        {
            "type": "button",
            "body": {"text": "Which day?"},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "Mon"}}]},
        },
    ),
    ("interactive", {"type": "flow", "body": {"text": "x"}, "action": {"name": "flow"}}),
    (
        "template",
        {
            "name": "booking_reminder",
            "language": {"code": "en_US"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},
            ],
        },
    ),
]


@pytest.mark.parametrize(("type_", "content"), SENDABLE)
def test_what_whatsapp_takes_goes_as_it_is(type_: str, content: JsonValue) -> None:
    assert request_body(message(type=type_, content=content))[type_] == content


def test_a_language_may_be_short() -> None:
    sent = check_content("template", "", {"name": "hello", "language": "sl"})
    assert sent == {"name": "hello", "language": {"code": "sl"}}


@pytest.mark.parametrize(
    ("type_", "text", "content", "field"),
    [
        ("text", "  ", None, "message"),
        ("text", "x" * 4097, None, "message"),
        ("poll", "", {}, "type"),
        ("image", "", None, "content"),
        ("image", "", {}, "content"),
        ("image", "", {"id": "1", "link": "https://a.example"}, "content"),
        ("image", "", {"link": "file:///etc/passwd"}, "content.link"),
        ("image", "", {"id": "1", "capton": "x"}, "content.capton"),
        ("sticker", "", {"id": "1", "caption": "x"}, "content.caption"),
        ("location", "", {"latitude": 91, "longitude": 0}, "content.latitude"),
        ("contacts", "", [], "content"),
        ("contacts", "", [{"name": {}}], "content.0.name.formatted_name"),
        ("interactive", "", {"type": "list"}, "content.action"),
        ("reaction", "", {"message_id": "wamid.1", "emoji": "x"}, "content.message_id"),
        ("template", "", {"name": "Hello!", "language": "en"}, "content.name"),
        ("template", "", {"name": "hello"}, "content.language"),
    ],
)
def test_a_mistake_is_named_and_not_quoted(
    type_: str, text: str, content: JsonValue, field: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_content(type_, text, content)
    assert caught.value.field == field
    assert "passwd" not in str(caught.value)
