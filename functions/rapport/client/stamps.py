"""How new what is known of a row is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from rapport.client.events import Event
from rapport.client.rows import RowT

# a version, and whether the row is gone: a delete has the version of what it deletes
Stamp = tuple[int, bool]


@dataclass
class KnownRow(Generic[RowT]):
    """A row, or that it is gone."""

    row: RowT | None
    version: int
    # when it was last heard of, by the ledger's own count
    heard_at: int
    # an insert that waits for those before it has not been told
    is_told: bool = True
    # found missing by a re-read, after which version is unknown
    is_doubtful: bool = False

    def is_older_than(self, stamp: Stamp) -> bool:
        """Whether that is news."""
        return (self.version, self.row is None) < stamp


def stamp_of(event: Event) -> Stamp:
    """The stamp of an entry of the log, whose row may be newer than the entry."""
    version = event.version
    if event.record is not None:
        version = max(version, int(str(event.record.get("version", version))))
    return version, event.record is None
