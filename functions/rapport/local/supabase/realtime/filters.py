"""Filters of postgres_changes: `column=[not.]operator.value`, several joined by commas.

Source: "Postgres Changes" of Supabase's documents, "Available filters"; quoting as PostgREST.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic_core import to_json

MAX_LENGTH = 16_384
MAX_LIST = 100

# The SQL of an operator for a column and the filter's value; {type} is the column's type. A list is
# a JSON array of texts.
OPERATORS = {
    "eq": "{column} = {value}::{type}",
    "neq": "{column} <> {value}::{type}",
    "lt": "{column} < {value}::{type}",
    "lte": "{column} <= {value}::{type}",
    "gt": "{column} > {value}::{type}",
    "gte": "{column} >= {value}::{type}",
    "like": "{column}::text like {value}",
    "ilike": "{column}::text ilike {value}",
    "match": "{column}::text ~ {value}",
    "imatch": "{column}::text ~* {value}",
    "isdistinct": "{column} is distinct from nullif({value}, 'null')::{type}",
    "in": (
        "{column} = any "
        "(array(select item::{type} from jsonb_array_elements_text({value}::jsonb) as item))"
    ),
    "is.null": "{column} is null",
    "is.true": "{column}::boolean is true",
    "is.false": "{column}::boolean is false",
    "is.unknown": "{column}::boolean is unknown",
}

PATTERN_OPERATORS = frozenset({"like", "ilike", "match", "imatch"})

_CONDITION = re.compile(
    r"(?P<column>[^=]+)=(?P<negated>not\.)?(?P<operator>[a-z]+)\.(?P<value>.*)", re.DOTALL
)


class FilterError(ValueError):
    """The filter is not valid."""


@dataclass(frozen=True)
class Condition:
    """One comparison; `operator` is a key of OPERATORS."""

    column: str
    operator: str
    negated: bool
    value: str


def parse(text: str) -> tuple[Condition, ...]:
    """Reads a filter; all its conditions must hold. Raises FilterError."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has at most {MAX_LENGTH} characters")
    return tuple(_condition(part) for part in _split(text))


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise FilterError(f"not of the form column=operator.value: {text}")
    operator, value = match["operator"], match["value"]
    if operator == "is":
        operator, value = f"is.{value.lower()}", ""
    elif operator == "in":
        value = _list(value)
    else:
        value = _unquoted(value)
    if operator not in OPERATORS:
        raise FilterError(f"unknown operator: {match['operator']}.{match['value']}")
    return Condition(match["column"], operator, match["negated"] is not None, value)


def _list(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        raise FilterError("`in` filter value must be wrapped by parentheses")
    items = [_unquoted(item.strip()) for item in _split(text[1:-1])]
    if len(items) > MAX_LIST:
        raise FilterError(f"`in` takes at most {MAX_LIST} values")
    return to_json(items).decode()


def _split(text: str) -> list[str]:
    """Splits at commas outside quotes and parentheses."""
    parts = [""]
    is_quoted = is_escaped = False
    depth = 0
    for character in text:
        if character == "," and not is_quoted and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
        if is_escaped:
            is_escaped = False
        elif is_quoted and character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += {"(": 1, ")": -1}.get(character, 0)
    if not all(part.strip() for part in parts):
        raise FilterError("filter must not contain empty segments (check for extra commas)")
    return parts


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text
