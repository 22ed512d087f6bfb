"""Names in the HTTP API's JSON: camelCase outward, that or snake_case inward.

The database and Python say `booking_id`, and the API says `bookingId`. The inside of `content` is
WhatsApp's own JSON and keeps WhatsApp's names.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic.alias_generators import to_camel, to_snake

AS_THEY_ARE = frozenset({"content"})

# a UUID in an answer
Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]

_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_CAMEL = re.compile(r"[a-z][a-z0-9]*(?:[A-Z][a-z0-9]*)+")


class ApiRequest(BaseModel):
    """A body or a query. Its fields are also read in snake_case; no other field is taken."""

    model_config = ConfigDict(
        defer_build=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        # errors name a field as Python does until `camel_field` tells it
        loc_by_alias=False,
    )

    @field_validator("*")
    @classmethod
    def _can_be_stored(cls, value: object) -> object:
        check_storable(value)
        return value


def check_storable(value: object) -> None:
    """Refuses what JSON can hold and Postgres can't.

    Raises:
        ValueError: There is the character NUL in it, or a number beyond all bounds.
    """
    match value:
        case str() if "\x00" in value:
            raise ValueError("The character NUL can't be kept")
        case float() if not math.isfinite(value):
            raise ValueError("A number is too large")
        case list():
            for element in value:
                check_storable(element)
        case dict():
            for key, element in value.items():
                check_storable(key)
                check_storable(element)
        case _:
            pass


def camel(value: object) -> object:
    """A value with the API's names, such as `senderType`, at every depth."""
    match value:
        case list():
            return [camel(element) for element in value]
        case dict():
            return {
                _camel_name(name): inner if name in AS_THEY_ARE else camel(inner)
                for name, inner in value.items()
            }
        case _:
            return value


def snake(value: JsonValue) -> JsonValue:
    """A value with the database's names, such as `invoice_id`, at every depth."""
    match value:
        case list():
            return [snake(element) for element in value]
        case dict():
            return {
                to_snake(name) if _CAMEL.fullmatch(name) else name: snake(inner)
                for name, inner in value.items()
            }
        case _:
            return value


def camel_field(field: str) -> str:
    """A field's path, such as `invoice_data.invoice_id`, with the API's names."""
    first, dot, rest = field.partition(".")
    told = _camel_name(first)
    if not dot:
        return told
    return f"{told}.{rest if first in AS_THEY_ARE else camel_field(rest)}"


def _camel_name(name: str) -> str:
    return to_camel(name) if _SNAKE.fullmatch(name) else name
