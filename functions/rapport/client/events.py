"""The events that tell a client of changed rows, from a broadcast or from the change log."""

from __future__ import annotations

from typing import Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue, SkipValidation

Operation = Literal["INSERT", "UPDATE", "DELETE"]
# it was read from JSON, and looking at every value again is most of what an event costs
Record = dict[str, SkipValidation[JsonValue]]


class Event(BaseModel):
    """What a broadcast or an entry of `changes_since` tells of one row.

    No `record` is a hint to read the row, or with DELETE, that it is gone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: str
    id: UUID
    version: int
    operation: Operation
    record: Record | None = None
    # broadcasts alone tell it
    old_record: Record | None = None


class Shown(Protocol):
    """A row as it is told."""

    @property
    def id(self) -> UUID:
        """What stays when the row changes."""
