"""How new our knowledge of a row is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from rapport.client.events import Event
from rapport.client.rows import RowT

# a version, and whether the row is gone; a deletion has the version of the deleted row
Stamp = tuple[int, bool]


@dataclass
class KnownRow(Generic[RowT]):
    """A row as it was last heard of; None if it is gone."""

    row: RowT | None
    version: int
    # by the ledger's own count of moments
    heard_at: int
    # False while an insert waits for the ones before it
    is_told: bool = True
    # a re-read found the row missing, so its version is unknown
    is_doubtful: bool = False

    def is_older_than(self, stamp: Stamp) -> bool:
        """Whether an event with this stamp is newer."""
        return (self.version, self.row is None) < stamp


def stamp_of(event: Event) -> Stamp:
    """The stamp of a log entry. Its row may be newer than the entry itself."""
    version = event.version
    if event.record is not None:
        version = max(version, int(str(event.record.get("version", version))))
    return version, event.record is None
