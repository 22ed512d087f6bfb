"""The events that tell a client of changed rows, from a broadcast or from the change log."""

from __future__ import annotations

from typing import Literal, Protocol
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


class Shown(Protocol):
    """A row that is shown to a user."""

    @property
    def id(self) -> UUID:
        """The row's id, which never changes."""
