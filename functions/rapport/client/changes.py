"""What subscriptions tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from rapport.client.events import Operation, Shown

ShownT = TypeVar("ShownT", bound=Shown)


@dataclass(frozen=True)
class Change(Generic[ShownT]):
    """A row that changed: INSERT has no `old`, DELETE no `new`.

    `old` is what was told of the row before; None with UPDATE where the row was there before
    the subscription and has not been loaded.
    """

    operation: Operation
    new: ShownT | None
    old: ShownT | None

    @property
    def id(self) -> UUID:
        """The row's."""
        row = self.new or self.old
        if row is None:
            raise ValueError("A change is of a row.")
        return row.id


@dataclass(frozen=True)
class Heard(Generic[ShownT]):
    """What is to be told now, and whether only a catch-up can tell the rest."""

    changes: tuple[Change[ShownT], ...]
    in_doubt: bool = False
