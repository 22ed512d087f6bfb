"""Templates: what is to be filled, and what filling gives."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from rapport.errors import Unprocessable
from rapport.media_store import Template
from rapport.whatsapp.templates import fill, read_templates

BODY: dict[str, JsonValue] = {
    "type": "BODY",
    "text": "Hello {{1}}, we come on {{2}}. See you, {{1}}!",
    "example": {"body_text": [["Ana", "Friday"]]},
}


def template(*components: dict[str, JsonValue]) -> Template:
    ((one,), unknown) = read_templates(
        [
            {
                "name": "reminder",
                "language": "en_US",
                "status": "APPROVED",
                "category": "UTILITY",
                "id": "594425479261596",
                "components": list(components),
            }
        ]
    )
    assert unknown == 0
    return one


def variables(*components: dict[str, JsonValue]) -> dict[str, list[str]]:
    return template(*components).variables


def buttons(*given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"type": "BUTTONS", "buttons": list(given)}


def test_variables_are_named_by_their_place() -> None:
    assert variables(
        {"type": "HEADER", "format": "TEXT", "text": "For {{1}}"},
        BODY,
        {"type": "FOOTER", "text": "Alpine"},
        buttons(
            {"type": "QUICK_REPLY", "text": "Yes"},
            {"type": "URL", "text": "Open", "url": "https://alpine.example/{{1}}"},
            {"type": "URL", "text": "Site", "url": "https://alpine.example"},
            {"type": "COPY_CODE", "example": "A1"},
            {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+38640111222"},
        ),
    ) == {
        "header": ["header.1"],
        "body": ["body.1", "body.2"],
        "buttons": ["buttons.1.1", "buttons.3.code"],
    }


def test_numbered_variables_come_by_number_and_named_ones_by_place() -> None:
    numbered: dict[str, JsonValue] = {"type": "BODY", "text": "{{10}} {{2}} {{1}}"}
    named: dict[str, JsonValue] = {"type": "body", "text": "{{time}} {{first_name}} {{time}}"}
    assert variables(numbered)["body"] == ["body.1", "body.2", "body.10"]
    assert variables(named)["body"] == ["body.time", "body.first_name"]


@pytest.mark.parametrize("format_", ["IMAGE", "VIDEO", "DOCUMENT", "LOCATION"])
def test_a_header_of_a_file_is_a_variable(format_: str) -> None:
    kind = format_.lower()
    one = template({"type": "HEADER", "format": format_}, BODY)
    assert one.variables["header"] == [f"header.{kind}"]
    filled = fill(one, {f"header.{kind}": {"id": "7"}, "body.1": "Ana", "body.2": "Friday"})
    components: Any = filled.content["components"]
    assert components[0] == {
        "type": "header",
        "parameters": [{"type": kind, kind: {"id": "7"}}],
    }


def test_filling_gives_what_whatsapp_takes_and_what_people_read() -> None:
    filled = fill(
        template(
            {"type": "HEADER", "format": "TEXT", "text": "For {{1}}"},
            BODY,
            {"type": "FOOTER", "text": "Alpine"},
            buttons(
                {"type": "URL", "text": "Open", "url": "https://alpine.example/{{1}}"},
                {"type": "COPY_CODE"},
            ),
        ),
        {
            "header.1": "you",
            "body.1": "Ana {{2}}",
            "body.2": r"Friday \1",
            "buttons.0.1": "x/7",
            "buttons.1.code": "SAVE",
        },
    )
    assert filled.text == (
        "For you\n\nHello Ana {{2}}, we come on Friday \\1. See you, Ana {{2}}!\n\nAlpine"
    )
    assert filled.content == {
        "name": "reminder",
        "language": {"code": "en_US"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "text": "you"}]},
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "text": "Ana {{2}}"},
                    {"type": "text", "text": r"Friday \1"},
                ],
            },
            {
                "type": "button",
                "sub_type": "url",
                "index": "0",
                "parameters": [{"type": "text", "text": "x/7"}],
            },
            {
                "type": "button",
                "sub_type": "copy_code",
                "index": "1",
                "parameters": [{"type": "coupon_code", "coupon_code": "SAVE"}],
            },
        ],
    }


def test_named_variables_are_sent_with_their_names() -> None:
    one = template({"type": "BODY", "text": "Hello {{first_name}}"})
    components: Any = fill(one, {"body.first_name": "Ana"}).content["components"]
    assert components[0]["parameters"] == [
        {"type": "text", "text": "Ana", "parameter_name": "first_name"}
    ]


def test_a_template_without_variables_is_sent_without_components() -> None:
    filled = fill(template({"type": "BODY", "text": "We are open."}), {})
    assert filled.content == {"name": "reminder", "language": {"code": "en_US"}}
    assert filled.text == "We are open."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"body.1": "Ana"}, "missing: body.2"),
        ({}, "missing: body.1, body.2"),
        ({"body.1": "a", "body.2": "b", "body.3": "c"}, "not in the template: body.3"),
        ({"body.1": "a", "header.1": "b"}, "missing: body.2; not in the template: header.1"),
        ({"body.1": "a", "body.2": ""}, "body.2: empty"),
        ({"body.1": "a", "body.2": "  "}, "body.2: empty"),
        ({"body.1": "a", "body.2": 7}, "body.2: empty or not a text"),
        ({"body.1": "a", "body.2": {"id": "7"}}, "body.2: empty or not a text"),
        ({"body.1": "a", "body.2": "x" * 1025}, "body.2: longer than"),
        ({"body.1": "a\nb", "body.2": "b"}, "body.1: has line breaks"),
        ({"body.1": "a     b", "body.2": "b"}, "body.1: has line breaks"),
    ],
)
def test_what_is_missing_too_much_or_wrong_is_named(
    values: dict[str, JsonValue], said: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        fill(template(BODY), values)
    assert said in str(refused.value)


@pytest.mark.parametrize("value", ["https://x.example/a.png", {}, None, []])
def test_a_file_is_given_as_an_object(value: JsonValue) -> None:
    with pytest.raises(Unprocessable, match=r"header\.image: not an object"):
        fill(template({"type": "HEADER", "format": "IMAGE"}), {"header.image": value})


def test_entries_that_are_none_are_counted_and_block_no_others() -> None:
    good = {"name": "a", "language": "sl", "status": "APPROVED"}
    templates, unknown = read_templates(
        [
            good,
            None,
            [],
            {"name": "b"},
            good | {"name": ""},
            good | {"name": "c", "components": "none"},
            good | {"name": "d", "components": [{"type": "BODY", "text": 7}]},
            good | {"name": "e", "components": [{"type": "CAROUSEL", "cards": []}]},
        ]
    )
    assert [one.name for one in templates] == ["a", "e"]
    assert unknown == 6
