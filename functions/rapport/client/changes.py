"""What a subscription tells its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from rapport.client.events import Operation, Shown

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
