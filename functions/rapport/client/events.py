"""News of changed rows: events from the server, and changes for the client's user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue, SkipValidation

Operation = Literal["INSERT", "UPDATE", "DELETE"]
# not validated value by value: it comes from JSON, and validation would be most of an event's cost
Record = dict[str, SkipValidation[JsonValue]]


class Event(BaseModel):
    """One changed row, as a broadcast or an entry of `changes_since` tells it.

    Without `record` the row has to be read; with DELETE it is gone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: str
    id: UUID
    version: int
    operation: Operation
    record: Record | None = None
    # only broadcasts have it
    old_record: Record | None = None


class Broadcast(Event):
    """One of the `count` messages that a transaction has sent to a topic."""

    transaction: str | None = None
    count: int = 1


class Shown(Protocol):
    """A row that is shown to a user."""

    @property
    def id(self) -> UUID:
        """The row's id, which never changes."""


ShownT = TypeVar("ShownT", bound=Shown)


@dataclass(frozen=True)
class Change(Generic[ShownT]):
    """A row that changed. INSERT has no `old`, DELETE has no `new`.

    `old` is the row as the user was last told. With UPDATE it is None where the row existed before
    the subscription and was not loaded.
    """

    operation: Operation
    new: ShownT | None
    old: ShownT | None

    @property
    def id(self) -> UUID:
        """The row's id."""
        row = self.new or self.old
        if row is None:
            raise ValueError("A change is of a row.")
        return row.id


@dataclass(frozen=True)
class Heard(Generic[ShownT]):
    """The changes to tell now; `in_doubt` says that only a catch-up can tell the rest."""

    changes: tuple[Change[ShownT], ...]
    in_doubt: bool = False
