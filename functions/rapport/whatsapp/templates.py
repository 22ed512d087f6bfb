"""Message templates: which names are to be filled, and what is sent when they are.

A template has a header, a body, a footer and buttons. Its variables are named by their place:
`header.1`, `header.image`, `body.1` (or `body.first_name`), `buttons.0.1`, `buttons.1.code`.
Source: developers.facebook.com, WhatsApp Cloud API, "Template components".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from rapport.errors import Unprocessable
from rapport.media_store import Template

_VARIABLE = re.compile(r"\{\{\s*([a-z0-9_]{1,64})\s*\}\}", re.IGNORECASE)
_HEADER_OBJECTS = ("image", "video", "document", "location")
_OBJECTS = {f"header.{kind}" for kind in _HEADER_OBJECTS}
_VALUE_LIMIT = 1024  # characters; the body's own limit


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_Word = Annotated[str, BeforeValidator(_upper)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


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


@dataclass(frozen=True)
class Filled:
    """What a message is made of: `content` for the Graph API, `text` for people."""

    content: dict[str, JsonValue]
    text: str


def read_templates(listed: Sequence[JsonValue]) -> tuple[list[Template], int]:
    """Templates as WhatsApp lists them, and how many entries could not be understood."""
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
    """The names to fill: `{"header": […], "body": […], "buttons": […]}`, each in order.

    Raises:
        pydantic.ValidationError: A component has a shape that we don't know.
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
    """Each once, in the order of the text; numbers by their value."""
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


def fill(template: Template, values: Mapping[str, JsonValue]) -> Filled:
    """Fills a template's variables; a header's media or location is an object, the rest text.

    Raises:
        Unprocessable: A variable is missing, is not the template's, or can't be sent; named.
    """
    wanted = [name for names in variables_of(template.components).values() for name in names]
    _check(wanted, values)
    texts = {name: value for name, value in values.items() if isinstance(value, str)}

    components: list[JsonValue] = []
    lines: list[str] = []
    for part in map(_Component.model_validate, template.components):
        section = part.type.lower()
        match part.type:
            case "HEADER" if part.format != "TEXT":
                kind = part.format.lower()
                if (file := values.get(f"header.{kind}")) is not None:
                    components.append(_section("header", [{"type": kind, kind: file}]))
            case "HEADER" | "BODY":
                parameters = [
                    _parameter(name, texts[f"{section}.{name}"]) for name in _names(part.text)
                ]
                if parameters:
                    components.append(_section(section, parameters))
                lines.append(_filled(part.text, section, texts))
            case "FOOTER":
                lines.append(part.text)
            case "BUTTONS":
                components += _buttons(part.buttons, texts)
            case _:
                pass
    content: dict[str, JsonValue] = {
        "name": template.name,
        "language": {"code": template.language},
    }
    if components:
        content["components"] = components
    return Filled(content, "\n\n".join(filter(None, lines)) or f"[template] {template.name}")


def _check(wanted: Sequence[str], values: Mapping[str, JsonValue]) -> None:
    missing = [name for name in wanted if name not in values]
    extra = sorted(name[:64] for name in values if name not in wanted)
    faults = []
    if missing:
        faults.append(f"missing: {', '.join(missing)}")
    if extra:
        faults.append(f"not in the template: {', '.join(extra)}")
    faults += [
        f"{name}: {fault}"
        for name in wanted
        if name in values and (fault := _fault(name, values[name]))
    ]
    if faults:
        raise Unprocessable(f"The template's variables are not right: {'; '.join(faults)}.")


def _fault(name: str, value: JsonValue) -> str | None:
    if name in _OBJECTS:
        return None if isinstance(value, dict) and value else "not an object"
    if not isinstance(value, str) or not value.strip():
        return "empty or not a text"
    if len(value) > _VALUE_LIMIT:
        return f"longer than {_VALUE_LIMIT} characters"
    # WhatsApp refuses these (132012)
    if re.search(r"[\r\n\t]| {5}", value):
        return "has line breaks, tabs or more than 4 spaces in a row"
    return None


def _section(type_: str, parameters: list[JsonValue]) -> JsonValue:
    return {"type": type_, "parameters": parameters}


def _parameter(name: str, value: str) -> JsonValue:
    parameter: dict[str, JsonValue] = {"type": "text", "text": value}
    return parameter if name.isdecimal() else parameter | {"parameter_name": name}


def _buttons(buttons: Sequence[_Button], texts: Mapping[str, str]) -> list[JsonValue]:
    components: list[JsonValue] = []
    for index, button in enumerate(buttons):
        for name in _of_button(button):
            value = texts[f"buttons.{index}.{name}"]
            is_code = button.type == "COPY_CODE"
            components.append(
                {
                    "type": "button",
                    "sub_type": "copy_code" if is_code else "url",
                    "index": str(index),
                    "parameters": [
                        {"type": "coupon_code", "coupon_code": value}
                        if is_code
                        else {"type": "text", "text": value}
                    ],
                }
            )
    return components


def _filled(text: str, section: str, texts: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: texts[f"{section}.{found[1]}"], text)
