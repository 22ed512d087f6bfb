"""Bindings: the changes of tables that a client asks for."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from rapport.local.supabase.realtime import filters
from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.filters import Condition, FilterError
from rapport.local.supabase.realtime.frames import encode
from rapport.local.supabase.realtime.wal import Operation

ANY = "*"
DEFAULT_SCHEMA = "public"


class SubscriptionError(Exception):
    """A binding is refused; the message says why."""


class Subscriber(Protocol):
    """A channel that asked for changes."""

    def deliver_change(self, payload: str) -> None:
        """Takes a change as JSON text, without waiting for anything."""

    def report(self, extension: str, status: str, message: str) -> None:
        """Takes the state of its subscription."""


@dataclass(frozen=True)
class Binding:
    """One entry of `postgres_changes`; None means any operation, schema, table or column."""

    id: int
    operation: Operation | None
    schema: str | None
    table: str | None
    conditions: tuple[Condition, ...]
    columns: frozenset[str] | None

    def wants(self, operation: Operation) -> bool:
        return self.operation is None or self.operation is operation


@dataclass(frozen=True, eq=False)
class TableBinding:
    """A subscriber's binding; the subscriber sees what its caller may see."""

    subscriber: Subscriber
    caller: TokenCaller
    binding: Binding


def binding_id(params: dict[str, JsonValue]) -> int:
    """The number of a binding; equal parameters give equal numbers."""
    ordered = encode(dict(sorted(params.items())))
    return zlib.crc32(ordered.encode()) or 1


def parse(params: dict[str, JsonValue]) -> Binding:
    """Reads a binding in the client's form. Raises SubscriptionError."""
    schema, table, condition = (params.get(name) for name in ("schema", "table", "filter"))
    # Source: Realtime takes a table or a schema alone only without a filter
    is_complete = isinstance(schema, str) and isinstance(table, str)
    is_one = isinstance(schema, str) != isinstance(table, str) and condition is None
    has_others = any(
        value is not None and not isinstance(value, str) for value in (schema, table, condition)
    )
    if has_others or not (is_complete or is_one):
        raise SubscriptionError(
            "No subscription params provided. Please provide at least a `schema` or `table` "
            f"to subscribe to: {encode(params)}"
        )
    schema_name = _name(schema, DEFAULT_SCHEMA)
    table_name = _name(table, ANY)
    return Binding(
        id=binding_id(params),
        operation=_operation(params.get("event")),
        schema=schema_name,
        table=table_name,
        conditions=_conditions(params.get("filter")),
        columns=_columns(params.get("select"), schema_name, table_name),
    )


class Registry:
    """All subscriptions, by the table that they follow."""

    def __init__(self) -> None:
        self._by_table: defaultdict[tuple[str | None, str | None], dict[TableBinding, None]] = (
            defaultdict(dict)
        )
        self._by_subscriber: dict[Subscriber, list[TableBinding]] = {}

    def add(self, subscriber: Subscriber, subscriptions: Iterable[TableBinding]) -> None:
        """Adds a subscriber's bindings in place of its earlier ones."""
        self.remove(subscriber)
        self._by_subscriber[subscriber] = list(subscriptions)
        for subscription in self._by_subscriber[subscriber]:
            self._by_table[_place(subscription)][subscription] = None

    def remove(self, subscriber: Subscriber) -> None:
        for subscription in self._by_subscriber.pop(subscriber, []):
            place = self._by_table[_place(subscription)]
            del place[subscription]
            if not place:
                del self._by_table[_place(subscription)]

    def subscribers(self) -> tuple[Subscriber, ...]:
        return tuple(self._by_subscriber)

    def still_hears(self, subscription: TableBinding) -> bool:
        """Whether the subscriber still has this binding as the same user, if by another token."""
        return any(
            current.binding.id == subscription.binding.id
            and current.caller.role == subscription.caller.role
            and current.caller.subject == subscription.caller.subject
            for current in self._by_subscriber.get(subscription.subscriber, ())
        )

    def of(self, schema: str, table: str) -> Iterator[TableBinding]:
        """The subscriptions to a table, oldest first for each way to name it."""
        for place in ((schema, table), (schema, None), (None, table), (None, None)):
            yield from self._by_table.get(place, ())

    def has_any(self, schema: str, table: str) -> bool:
        return next(self.of(schema, table), None) is not None


def _place(subscription: TableBinding) -> tuple[str | None, str | None]:
    return subscription.binding.schema, subscription.binding.table


def _name(value: JsonValue, default: str) -> str | None:
    name = value if isinstance(value, str) and value else default
    return None if name == ANY else name


def _operation(value: JsonValue) -> Operation | None:
    try:
        return Operation(str(value).upper())
    except ValueError:
        return None


def _conditions(value: JsonValue) -> tuple[Condition, ...]:
    if not isinstance(value, str):
        return ()
    try:
        return filters.parse(value)
    except FilterError as error:
        raise SubscriptionError(f"Error parsing `filter` params: {error}") from error


def _columns(value: JsonValue, schema: str | None, table: str | None) -> frozenset[str] | None:
    if value is None:
        return None
    names = [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(names) < len(value):
        raise SubscriptionError(
            "Error parsing `select` params: expected a list of column name strings, "
            'e.g. select: ["col1", "col2"]'
        )
    if not names:
        return None
    if schema is None or table is None:
        raise SubscriptionError(
            "Column selection is not supported for wildcard subscriptions. "
            "Provide an explicit schema and table name."
        )
    return frozenset(names)
