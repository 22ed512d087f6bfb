"""The notation of types in comments of the schema: what JSON has in it, after `Type:`.

    {cursor: text, changes: {id: uuid, record: json | null}[], more: boolean}
    (face: status_words.face) => text

Names of Postgres' types, of tables and views (their rows), of columns (`jobs.status`), words in
quotes; `[]` for lists, `{[text]: …}` for objects by key, `?` for what may be left out, and before
an arrow the arguments that need to be told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = re.compile(r'\s*("[^"]*"|=>|\[\]|[\w.]+|[{}()|:,?\[\]])')


@dataclass(frozen=True)
class Name:
    """A scalar, a table or view, or a column."""

    name: str


@dataclass(frozen=True)
class Word:
    """A text that is one word exactly."""

    word: str


@dataclass(frozen=True)
class ListOf:
    """A list."""

    item: Shape


@dataclass(frozen=True)
class ByKey:
    """An object with any keys."""

    value: Shape


@dataclass(frozen=True)
class Field:
    """A field of an object."""

    name: str
    shape: Shape
    may_be_absent: bool


@dataclass(frozen=True)
class Fields:
    """An object with known keys."""

    fields: tuple[Field, ...]


@dataclass(frozen=True)
class OneOf:
    """Any of several; `null` is a name."""

    options: tuple[Shape, ...]


Shape = Name | Word | ListOf | ByKey | Fields | OneOf
NULL = Name("null")


def without_null(shape: Shape) -> tuple[Shape, bool]:
    """The shape as it is unless it is null, and whether it may be."""
    if not isinstance(shape, OneOf):
        return shape, False
    options = tuple(option for option in shape.options if option != NULL)
    rest = options[0] if len(options) == 1 else OneOf(options)
    return rest, NULL in shape.options


@dataclass(frozen=True)
class Declared:
    """What a comment declares: the type, and for a function some of its arguments."""

    shape: Shape
    arguments: tuple[Field, ...] = ()


def split(comment: str | None) -> tuple[str | None, Declared | None]:
    """The words of a comment, and the type that stands behind them."""
    words, mark, declared = (comment or "").partition(" Type: ")
    return words or None, Declaration(declared).read() if mark else None


class Declaration:
    """Reads a declaration."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise ValueError(f"This can't be read as a type: {text}")
        self._place = 0

    def read(self) -> Declared:
        """The whole declaration."""
        arguments: tuple[Field, ...] = ()
        if self._take("("):
            arguments = self._fields(")")
            self._need("=>")
        shape = self._shape()
        if self._place != len(self._tokens):
            raise ValueError(f"{self._next} is too much in the type: {self._text}")
        return Declared(shape, arguments)

    def _shape(self) -> Shape:
        options = [self._one()]
        while self._take("|"):
            options.append(self._one())
        return options[0] if len(options) == 1 else OneOf(tuple(options))

    def _one(self) -> Shape:
        shape: Shape
        if self._take("{"):
            if self._take("["):
                for token in ("text", "]", ":"):
                    self._need(token)
                shape = ByKey(self._shape())
                self._need("}")
            else:
                shape = Fields(self._fields("}"))
        elif self._next.startswith('"'):
            shape = Word(self._step().strip('"'))
        else:
            shape = Name(self._step())
        while self._take("[]"):
            shape = ListOf(shape)
        return shape

    def _fields(self, end: str) -> tuple[Field, ...]:
        fields = []
        while not self._take(end):
            name = self._step()
            may_be_absent = self._take("?")
            self._need(":")
            fields.append(Field(name, self._shape(), may_be_absent))
            if self._next != end:
                self._need(",")
        return tuple(fields)

    @property
    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _step(self) -> str:
        token = self._next
        self._place += 1
        return token

    def _take(self, token: str) -> bool:
        if self._next != token:
            return False
        self._place += 1
        return True

    def _need(self, token: str) -> None:
        if not self._take(token):
            raise ValueError(f"{token} is missing before {self._next!r} in the type: {self._text}")
