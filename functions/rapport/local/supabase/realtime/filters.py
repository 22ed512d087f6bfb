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
# an array in Postgres' text format.
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
    "isdistinct": "{column} is distinct from {value}::{type}",
    "in": "{column} = any ({value}::{type}[])",
    "is.null": "{column} is null",
    "is.true": "{column}::boolean is true",
    "is.false": "{column}::boolean is false",
    "is.unknown": "{column}::boolean is unknown",
}

_NAMES = frozenset(name.partition(".")[0] for name in OPERATORS)


class FilterError(ValueError):
    """The filter is not valid."""


@dataclass(frozen=True)
class Condition:
    """One comparison; `operator` is a key of OPERATORS, or `is` with a word that is not known."""

    column: str
    operator: str
    negated: bool
    value: str


def parse(text: str) -> tuple[Condition, ...]:
    """Reads a filter; all its conditions must hold. A blank text has none.

    Raises FilterError, in Realtime's words.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has at most {MAX_LENGTH} characters")
    if not text.strip():
        return ()
    return tuple(_condition(part.strip()) for part in _split(text.strip()))


def _condition(text: str) -> Condition:
    if not text:
        raise FilterError("filter must not contain empty segments (check for extra commas)")
    column, separator, rest = text.partition("=")
    if not separator or not column:
        raise FilterError(_inspected(text))
    comparison = rest.removeprefix("not.")
    operator, separator, value = comparison.partition(".")
    if not separator:
        raise FilterError(_inspected(comparison))
    if operator not in _NAMES:
        raise FilterError(_inspected(operator, value))
    negated = comparison != rest
    if operator == "is":
        return Condition(column, f"is.{value}", negated, "")
    if operator == "in":
        return Condition(column, operator, negated, _list(value))
    return Condition(column, operator, negated, _unquoted(value))


def _list(text: str) -> str:
    if len(text) < 2 or not (text.startswith("(") and text.endswith(")")):
        raise FilterError("`in` filter value must be wrapped by parentheses")
    return "{" + text[1:-1] + "}"


def _inspected(*parts: str) -> str:
    return to_json(parts).decode().replace('","', '", "')


def _split(text: str) -> list[str]:
    """Splits at commas outside quotes and parentheses; a value or a list's item may be quoted."""
    parts = [""]
    is_quoted = is_escaped = False
    depth = 0
    before = ""
    for character in text:
        if is_quoted:
            parts[-1] += character
            if is_escaped:
                is_escaped = False
            elif character == "\\":
                is_escaped = True
            elif character == '"':
                is_quoted = False
        elif character == "," and depth == 0:
            parts.append("")
            before = ""
            continue
        else:
            parts[-1] += character
            is_quoted = character == '"' and before in {".", "(", ","}
            depth = max(0, depth + {"(": 1, ")": -1}.get(character, 0))
        before = character
    return parts


def _unquoted(text: str) -> str:
    if re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, flags=re.DOTALL):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text
