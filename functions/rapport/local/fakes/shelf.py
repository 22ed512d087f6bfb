"""Dictionaries that survive a restart, for the data of the stand-ins."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

V = TypeVar("V")

_SCHEMA = """
    create table if not exists items (
        number integer primary key,
        kind text not null,
        key text not null,
        value blob not null,
        unique (kind, key)
    ) strict;
"""


class Shelf:
    """A file of items by kind and key, in the order of their creation; safe to share between
    threads.

    Items survive the process, however it ends. A crash of the machine may lose the newest.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # autocommit: each statement is a transaction
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = normal")
        self._database.executescript(_SCHEMA)

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Writes an item; an existing one keeps its place."""
        with self._lock:
            self._database.execute(
                "insert into items (kind, key, value) values (?, ?, ?)"
                " on conflict (kind, key) do update set value = excluded.value",
                [kind, key, value],
            )

    def drop(self, kind: str, key: str | None = None) -> None:
        """Deletes an item, or all items of the kind."""
        with self._lock:
            self._database.execute(
                "delete from items where kind = ? and key = coalesce(?, key)", [kind, key]
            )

    def clear(self) -> None:
        """Deletes everything."""
        with self._lock:
            self._database.execute("delete from items")

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        """The items of a kind, in order."""
        with self._lock:
            return self._database.execute(
                "select key, value from items where kind = ? order by number", [kind]
            ).fetchall()


class Kept(OrderedDict[str, V], Generic[V]):
    """A dictionary that is also on a shelf. Set a value again after changing it."""

    def __init__(
        self,
        shelf: Shelf,
        kind: str,
        encode: Callable[[V], bytes],
        decode: Callable[[bytes], V],
    ) -> None:
        super().__init__()
        self._shelf = shelf
        self._kind = kind
        self._encode = encode
        for key, value in shelf.items(kind):
            super().__setitem__(key, decode(value))

    @classmethod
    def of(cls, shelf: Shelf, kind: str, adapter: TypeAdapter[V]) -> Kept[V]:
        """A dictionary whose values are on the shelf as JSON."""
        return cls(shelf, kind, adapter.dump_json, adapter.validate_json)

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        self._shelf.put(self._kind, key, self._encode(value))

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._shelf.drop(self._kind, key)

    def pop(self, key: str, *default: V | None) -> V | None:  # type: ignore[override]  # as it is called here
        self._shelf.drop(self._kind, key)
        return super().pop(key, *default)

    def popitem(self, last: bool = True) -> tuple[str, V]:
        key, value = super().popitem(last)
        self._shelf.drop(self._kind, key)
        return key, value

    def clear(self) -> None:
        super().clear()
        self._shelf.drop(self._kind)
