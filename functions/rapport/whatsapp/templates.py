"""Message templates and the variables that a message has to fill.

A template has a header, a body, a footer and buttons. Its variables are named by their place:
`header.1`, `header.image`, `body.1` (or `body.first_name`), `buttons.0.1`, `buttons.1.code`.
Source: developers.facebook.com, WhatsApp Cloud API, "Template components".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from rapport.store.templates import Template

_VARIABLE = re.compile(r"\{\{\s*([a-z0-9_]{1,64})\s*\}\}", re.IGNORECASE)
_HEADER_OBJECTS = ("image", "video", "document", "location")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_Word = Annotated[str, BeforeValidator(_upper)]


class _Model(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class _Button(_Model):
    type: _Word
    text: str = ""
    url: str = ""


class _Component(_Model):
    type: _Word
    format: _Word = "TEXT"
    text: str = ""
    buttons: list[_Button] = []


class _Listed(_Model):
    name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    language: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    category: Annotated[str, StringConstraints(max_length=64)] = ""
    status: Annotated[str, StringConstraints(max_length=64)]
    components: list[dict[str, JsonValue]] = []


def read_templates(listed: Sequence[JsonValue]) -> tuple[list[Template], int]:
    """The templates of WhatsApp's list, and the number of entries that could not be understood."""
    templates = []
    for entry in listed:
        try:
            one = _Listed.model_validate(entry)
            variables = variables_of(one.components)
        except ValidationError:
            continue
        templates.append(Template(**one.model_dump(), variables=variables))
    return templates, len(listed) - len(templates)


def variables_of(components: Sequence[Mapping[str, JsonValue]]) -> dict[str, list[str]]:
    """The names of the variables: `{"header": […], "body": […], "buttons": […]}`, each in order.

    Raises:
        pydantic.ValidationError: A component has an unknown form.
    """
    found: dict[str, list[str]] = {"header": [], "body": [], "buttons": []}
    for part in map(_Component.model_validate, components):
        match part.type:
            case "HEADER" if part.format == "TEXT":
                found["header"] += [f"header.{name}" for name in _names(part.text)]
            case "HEADER" if part.format.lower() in _HEADER_OBJECTS:
                found["header"].append(f"header.{part.format.lower()}")
            case "BODY":
                found["body"] += [f"body.{name}" for name in _names(part.text)]
            case "BUTTONS":
                for index, button in enumerate(part.buttons):
                    found["buttons"] += [f"buttons.{index}.{name}" for name in _of_button(button)]
            case _:
                pass
    return found


def _names(text: str) -> list[str]:
    """Each name once, in the order of the text; numbers in numeric order."""
    names = list(dict.fromkeys(_VARIABLE.findall(text)))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _of_button(button: _Button) -> list[str]:
    match button.type:
        case "URL":
            return _names(button.url)
        case "COPY_CODE":
            return ["code"]
        case "OTP":
            return ["1"]
        case _:
            return []
