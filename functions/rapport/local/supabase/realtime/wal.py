"""Decodes pgoutput: the bytes of logical replication, as typed messages.

Source: PostgreSQL 17, "Logical Replication Message Formats", protocol version 1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class MalformedWalError(ValueError):
    """The bytes are not a message of this protocol."""


class Unchanged(Enum):
    """Stands for a large value that an update did not change; the log leaves it out."""

    TOAST = "unchanged"


# Each value in Postgres' text format, None for null.
Value = str | None | Unchanged


class Operation(StrEnum):
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True)
class RelationColumn:
    """A column of a relation; `type_oid` and `type_modifier` are those of pg_attribute."""

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


@dataclass(frozen=True)
class Begin:
    """The start of a committed transaction, `xid` without its epoch."""

    committed_at: datetime
    xid: int


@dataclass(frozen=True)
class Relation:
    """A table as it was when the following changes were written."""

    oid: int
    schema: str
    table: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True)
class RowChange:
    """One changed row; values are in the order of the relation's columns.

    `old` is None unless the log has the old row, or its key with nulls for the other columns
    (`old_is_key`).
    """

    operation: Operation
    relation_oid: int
    new: tuple[Value, ...] | None
    old: tuple[Value, ...] | None
    old_is_key: bool


Message = Begin | Relation | RowChange

_CHANGES = {b"I": Operation.INSERT, b"U": Operation.UPDATE, b"D": Operation.DELETE}


def relation_oid(data: bytes) -> int | None:
    """The relation of a change, without decoding its row; None for other messages."""
    if data[:1] not in _CHANGES:
        return None
    return int.from_bytes(data[1:5])


def decode(data: bytes) -> Message | None:
    """Decodes one message; None for kinds that are not needed (commits, types, truncates).

    Raises MalformedWalError.
    """
    try:
        return _decode(data)
    except UnicodeDecodeError as error:
        raise MalformedWalError("a text is not UTF-8") from error


def _decode(data: bytes) -> Message | None:
    reader = _Reader(data)
    kind = reader.take(1)
    if kind in _CHANGES:
        return _change(reader, _CHANGES[kind])
    if kind == b"R":
        return _relation(reader)
    if kind == b"B":
        reader.take(8)
        microseconds = reader.integer("q")
        return Begin(EPOCH + timedelta(microseconds=microseconds), reader.integer("I"))
    return None


def text_rows(
    relation: Relation, change: RowChange
) -> tuple[dict[str, str | None] | None, dict[str, str | None] | None]:
    """The new and the old row of a change by column, as far as the log has them.

    A large value that an update did not change comes from the old row, or is missing. Where the log
    left the old row out because its key did not change, that key is filled in.
    """
    keys = {column.name for column in relation.columns if column.is_key}
    old = None if change.old is None else _named(relation, change.old)
    if old is not None and change.old_is_key:
        old = {name: old[name] for name in old if name in keys}
    new = None if change.new is None else (old or {}) | _named(relation, change.new)
    if old is None and new is not None and change.operation is Operation.UPDATE:
        old = {name: new[name] for name in new if name in keys}
    return new, old


def _named(relation: Relation, row: tuple[Value, ...]) -> dict[str, str | None]:
    names = (column.name for column in relation.columns)
    return {
        name: value
        for name, value in zip(names, row, strict=True)
        if not isinstance(value, Unchanged)
    }


def _relation(reader: _Reader) -> Relation:
    oid = reader.integer("I")
    schema = reader.name()
    table = reader.name()
    # the kind of replica identity, which the columns show too
    reader.take(1)
    columns = tuple(_column(reader) for _ in range(reader.integer("H")))
    # an empty schema stands for pg_catalog
    return Relation(oid, schema or "pg_catalog", table, columns)


def _column(reader: _Reader) -> RelationColumn:
    is_key = bool(reader.integer("B") & 1)
    name = reader.name()
    return RelationColumn(name, reader.integer("I"), reader.integer("i"), is_key)


def _change(reader: _Reader, operation: Operation) -> RowChange:
    oid = reader.integer("I")
    new: tuple[Value, ...] | None = None
    old: tuple[Value, ...] | None = None
    old_is_key = False
    while reader.has_more:
        kind = reader.take(1)
        row = _row(reader)
        if kind == b"N":
            new = row
        elif kind in {b"K", b"O"}:
            old, old_is_key = row, kind == b"K"
        else:
            raise MalformedWalError(f"unknown kind of row {kind!r}")
    return RowChange(operation, oid, new, old, old_is_key)


def _row(reader: _Reader) -> tuple[Value, ...]:
    return tuple(_value(reader) for _ in range(reader.integer("H")))


def _value(reader: _Reader) -> Value:
    kind = reader.take(1)
    if kind == b"t":
        return reader.take(reader.integer("I")).decode()
    if kind == b"n":
        return None
    if kind == b"u":
        return Unchanged.TOAST
    raise MalformedWalError(f"unknown kind of value {kind!r}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def has_more(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise MalformedWalError("the message is cut short")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def integer(self, code: str) -> int:
        layout = struct.Struct(f"!{code}")
        (value,) = layout.unpack(self.take(layout.size))
        return int(value)

    def name(self) -> str:
        end = self._data.find(b"\0", self._position)
        if end < 0:
            raise MalformedWalError("a name does not end")
        name = self._data[self._position : end].decode()
        self._position = end + 1
        return name
