"""Templates: what is to be filled."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from rapport.store.templates import Template
from rapport.whatsapp.templates import read_templates

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
