"""The rows of the schema for Python, as pydantic models with the same words and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from tests.schema_types.notation import (
    ByKey,
    Field,
    Fields,
    ListOf,
    Name,
    OneOf,
    Shape,
    Word,
    without_null,
)
from tests.schema_types.schema import Column, Function, Relation, Schema

HEADER = '''\
"""Rows, words and answers of the database; other columns are ignored.

Made from the schema by `uv run python -m tests.schema_types.generate`: edit sql/, and run it again.

A type checker knows the words of a status or a type. At run time any text is taken, so that a
client goes on reading when a newer database has a new word.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class AnyWord:
    """At run time any text is taken where a `Literal` lists the known words."""

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.str_schema()


class Record(BaseModel):
    """A row, or an object in a row or an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Row(Record):
    """A row that has versions. A newer state of a row has a higher version."""

    id: UUID
    account_id: UUID
    version: int
    updated_at: AwareDatetime
'''

SCALARS = {
    "text": "str",
    "uuid": "UUID",
    "date": "date",
    "time without time zone": "time",
    "time": "time",
    "timestamp with time zone": "AwareDatetime",
    "timestamptz": "AwareDatetime",
    "interval": "str",
    "integer": "int",
    "bigint": "int",
    "smallint": "int",
    "numeric": "float",
    "boolean": "bool",
    "jsonb": "JsonValue",
    "json": "JsonValue",
    "null": "None",
}
DEFAULTS = {
    "false": "False",
    "true": "True",
    "'{}'::jsonb": "{}",
    "'[]'::jsonb": "()",
    "'{}'::text[]": "()",
    "'{}'::uuid[]": "()",
}
ROW = ("id", "account_id", "version", "updated_at")
# where the plain name is no English
NAMES = {"contacts_v2": "ContactV2", "contacts_live_chat": "LiveChatContact"}


def write(schema: Schema, nulls: frozenset[str]) -> str:
    """The module, formatted; `nulls` are the columns that may be null."""
    return _formatted(_Python(schema, nulls).write())


def class_of(relation: str) -> str:
    """The class of the rows of a table or view."""
    return NAMES.get(relation, _pascal(_singular(relation)))


def answer_of(function: str) -> str:
    """The type of what a function answers."""
    return _pascal(function) + "Answer"


class _Python:
    def __init__(self, schema: Schema, nulls: frozenset[str]) -> None:
        self._schema = schema
        self._nulls = nulls
        self._written: list[str] = []
        self._types: dict[tuple[str, str], str] = {}
        self._classes = {one.name: class_of(one.name) for one in schema.relations}

    def write(self) -> str:
        for relation in self._schema.relations:
            self._relation(relation)
        for function in self._schema.functions:
            if function.answers_json:
                self._answer(function)
        return "\n\n".join([HEADER, *self._written])

    def _relation(self, relation: Relation) -> None:
        name = self._classes[relation.name]
        has_versions = {column.name for column in relation.columns}.issuperset(ROW)
        lines = [f"class {name}({'Row' if has_versions else 'Record'}):"]
        kind = "view" if relation.is_view else "table"
        lines.append(_quoted(f"A row of the {kind} `{relation.name}`. {relation.comment or ''}"))
        for column in relation.columns:
            if has_versions and column.name in ROW:
                continue
            type_ = self._column(column)
            is_null = f"{relation.name}.{column.name}" in self._nulls or not column.is_told
            default = "None" if is_null else self._default(column, type_)
            if is_null and not type_.endswith("None"):
                type_ += " | None"
            lines.append(f"    {column.name}: {type_}{f' = {default}' if default else ''}")
            if column.comment:
                lines.append(_quoted(column.comment))
        self._written.append("\n".join(lines))

    def _default(self, column: Column, type_: str) -> str | None:
        """The value that an older database need not have yet."""
        default = DEFAULTS.get(column.default or "")
        begins = {"{}": "dict", "()": "tuple"}.get(default or "", "bool")
        return default if type_.startswith(begins) else None

    def _column(self, column: Column) -> str:
        """The type of a column; a view has that of the column that it shows."""
        origin = column.shows if not column.is_declared_here else (column.relation, column.name)
        if origin not in self._types:
            self._types[origin] = self._new(column, origin)
        type_ = self._types[origin]
        return f"tuple[{type_}, ...]" if column.is_array else type_

    def _new(self, column: Column, origin: tuple[str, str]) -> str:
        table, field = origin
        name = self._classes.get(table, _pascal(table)) + _pascal(field)
        if column.declared:
            shape, _ = without_null(column.declared.shape)
            return self._of(shape, name, f"An object in `{field}` of `{table}`.")
        if column.words:
            return self._alias(name, column.words)
        return SCALARS[column.type]

    def _alias(self, name: str, words: tuple[str, ...]) -> str:
        listed = ", ".join(json.dumps(word) for word in words)
        self._written.append(f"{name}: TypeAlias = Annotated[Literal[{listed}], AnyWord()]")
        return name

    def _of(self, shape: Shape, name: str, about: str) -> str:
        """A shape in Python; its objects and words get names that begin so."""
        match shape:
            case Name(scalar) if scalar in SCALARS:
                return SCALARS[scalar]
            case Name(path) if "." in path:
                return self._column(self._schema.column(path))
            case Name(relation):
                return self._classes[relation]
            case Word(word):
                return self._alias(name, (word,))
            case ListOf(item):
                return f"tuple[{self._of(item, _singular(name), about)}, ...]"
            case ByKey(value):
                return f"dict[str, {self._of(value, name, about)}]"
            case Fields(fields):
                return self._object(fields, name, about)
            case OneOf(options):
                words = tuple(one.word for one in options if isinstance(one, Word))
                types = [self._alias(name, words)] if words else []
                types += [
                    self._of(one, name, about) for one in options if not isinstance(one, Word)
                ]
                return " | ".join(types)

    def _object(self, fields: tuple[Field, ...], name: str, about: str) -> str:
        lines = [f"class {name}(Record):", _quoted(about), ""]
        for field in fields:
            inner = f"An object in `{field.name}` of {name}."
            type_ = self._of(field.shape, name + _pascal(field.name), inner)
            default = " | None = None" if field.may_be_absent else ""
            lines.append(f"    {field.name}: {type_}{default}")
        self._written.append("\n".join(lines))
        return name

    def _answer(self, function: Function) -> None:
        assert function.declared, f"The comment of {function.name} declares no type."
        name = answer_of(function.name)
        about = f"What `{function.name}` answers. {function.comment or ''}"
        shape, is_null = without_null(function.declared.shape)
        own = name.removesuffix("Answer") if is_null else name
        type_ = self._of(shape, own, about)
        if type_ != name:
            type_ += " | None" if is_null else ""
            self._written.append(f"{name}: TypeAlias = {type_}\n{_quoted(about, indent='')}")


def _pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _singular(name: str) -> str:
    for plural, one in (("ies", "y"), ("sses", "ss"), ("ses", "sis"), ("s", "")):
        if name.endswith(plural) and not name.endswith("ss"):
            return name.removesuffix(plural) + one
    return name


def _quoted(text: str, indent: str = "    ") -> str:
    """A text as a docstring."""
    text = text.strip().replace("\\", "\\\\")
    lines = textwrap.wrap(text, 100 - len(indent) - len('""""""'))
    if len(lines) == 1:
        return f'{indent}"""{text}"""'
    first, rest = lines[0], textwrap.wrap(text[len(lines[0]) :].strip(), 100 - len(indent))
    return "\n".join([f'{indent}"""{first}', *(f"{indent}{line}" for line in rest), f'{indent}"""'])


def _formatted(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--line-length=100", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
