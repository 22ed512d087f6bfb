"""Decides which changes of each row the user is told, and when. It does no I/O.

A change arrives by broadcast, by the change log, or by both: late, twice or not at all. The ledger
makes reliable callbacks of that. A row's versions only rise, and its last version is told once. A
message's insert is told once, in the order of its conversation. Where a change can't be told yet,
the ledger asks for a catch-up.

The message with seq n becomes visible only after all lower ones, since numbering a message locks
the conversation until the commit. So if a catch-up that began after message n arrived does not
bring message n - 1, that message does not exist.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic
from uuid import UUID

from pydantic import ValidationError

from rapport.client.events import Change, Event, Heard
from rapport.client.rows import RowT

Place = tuple[UUID, int]
# a version, and whether the row is gone; a deletion has the version of the deleted row
Stamp = tuple[int, bool]

logger = logging.getLogger(__name__)


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


class Ledger(Generic[RowT]):
    """The rows of one subscription.

    `in_scope` says which rows it follows. `place` gives a row's thread and its number there;
    inserts are told in that order. `is_whole` says that all rows were loaded, so an unknown row is
    new. Otherwise `reach` says how far each thread had come.
    """

    def __init__(
        self,
        model: type[RowT],
        in_scope: Callable[[RowT], bool],
        place: Callable[[RowT], Place] | None = None,
        *,
        is_whole: bool = True,
    ) -> None:
        self._model = model
        self._in_scope = in_scope
        self._place = place
        self._is_whole = is_whole
        self._known: dict[UUID, KnownRow[RowT]] = {}
        self._reached: defaultdict[UUID, int] = defaultdict(int)
        self._waiting: defaultdict[UUID, dict[int, UUID]] = defaultdict(dict)
        self._count = 0
        # the ids of rows that can't be read, and stay as they were told
        self.unreadable: set[str] = set()

    @property
    def rows(self) -> Mapping[UUID, RowT]:
        """The rows as the user was told of them, or as they were loaded."""
        return {
            row_id: known.row
            for row_id, known in self._known.items()
            if known.row is not None and known.is_told
        }

    @property
    def reached(self) -> Mapping[UUID, int]:
        """The number of the last insert that was told, by thread."""
        return dict(self._reached)

    def reach(self, thread: UUID, number: int) -> None:
        """Counts all inserts of a thread up to `number` as told."""
        self._reached[thread] = max(self._reached[thread], number)

    def load(self, records: Iterable[Mapping[str, object]]) -> None:
        """Takes rows that existed before the subscription; the user is not told of them."""
        for row in self._rows(records):
            known = self._known.get(row.id)
            if self._in_scope(row) and (known is None or known.is_older_than((row.version, False))):
                self._known[row.id] = KnownRow(row, row.version, self._count)
                if self._place:
                    self.reach(*self._place(row))

    def mark(self) -> int:
        """Marks a moment. Take it before the request whose answer `settle` or `reread` gets."""
        self._count += 1
        return self._count

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether the broadcasts of one transaction can be told now, and show that none before them
        was missed. The changes that came with a missed one would be told later.
        """
        # versions of rows and numbers of threads, as they become with these events
        become: dict[object, float] = {}
        return all(self._is_sure(event, become) for event in events)

    def _is_sure(self, event: Event, become: dict[object, float]) -> bool:
        known = self._known.get(event.id)
        gone = event.operation == "DELETE"
        if known is not None and not known.is_older_than((event.version, gone)):
            return True
        is_bare = event.record is None and event.old_record is None
        if is_bare or (known is not None and known.is_doubtful):
            return False
        unknown = 0 if self._is_whole else math.inf
        so_far = become.get(event.id, known.version if known else unknown)
        become[event.id] = event.version
        old = self._parsed(event.old_record) if event.old_record else None
        if (
            isinstance(old, self._model)
            and str(event.id) not in self.unreadable
            and self._in_scope(old)
            and old.version > so_far
        ):
            return False
        if self._place is None or (known is not None and known.row is not None):
            return True
        row = self._parsed(event.record) if event.record else None
        # one that can't be read leaves a gap for the next one to find
        if not isinstance(row, self._model) or not self._in_scope(row):
            return True
        thread, number = self._place(row)
        reached = become.get(thread, self._reached[thread])
        become[thread] = max(reached, number)
        return number <= reached + 1

    def hear(self, event: Event) -> Heard[RowT]:
        """Takes a broadcast. It may be late, a repetition, or show that an earlier change was
        missed.
        """
        known = self._known.get(event.id)
        gone = event.operation == "DELETE"
        if known is not None and not known.is_older_than((event.version, gone)):
            return Heard(())
        is_bare = event.record is None and event.old_record is None
        if is_bare or (known is not None and known.is_doubtful):
            return Heard((), in_doubt=True)
        changes = self._take(event)
        return Heard(tuple(changes), in_doubt=self._is_waiting)

    def settle(self, events: Iterable[Event], mark: int) -> Heard[RowT]:
        """Takes all events of the complete catch-up that began at `mark`.

        Several events of one row become one change, to the last state.
        """
        last: dict[UUID, Event] = {}
        for event in events:
            before = last.get(event.id)
            if before is None or stamp_of(before) <= stamp_of(event):
                last[event.id] = event
        changes: list[Change[RowT]] = []
        for event in last.values():
            known = self._known.get(event.id)
            if known is None or known.is_older_than(stamp_of(event)):
                changes += self._take(event)
        changes += self._release(mark, last.keys())
        return Heard(tuple(changes), in_doubt=self._is_waiting)

    def reread(
        self, records: Iterable[Mapping[str, object]], mark: int, *, of: Iterable[UUID] = ()
    ) -> Heard[RowT]:
        """Takes all current rows, read after `mark`: a row that is missing is gone.

        A row that can't be read is there, and stays as it was told. A ledger that is not whole
        reads again the rows that it has told, by their ids `of`, and the newer rows.
        """
        changes: list[Change[RowT]] = []
        read: dict[UUID, RowT] = {}
        unreadable: set[str] = set()
        for record in records:
            row = self._parse(record)
            if row is None:
                unreadable.add(str(record.get("id")))
            elif self._in_scope(row):
                read[row.id] = row
        waiting = [row_id for thread in self._waiting.values() for row_id in thread.values()]
        for row_id in list(self._known) if self._is_whole else [*of, *waiting]:
            before = self._known[row_id]
            # a row that was heard of meanwhile may be newer than the reading
            is_there = row_id in read or str(row_id) in unreadable
            if before.row is not None and not is_there and before.heard_at < mark:
                changes += self._tell_gone(row_id, before, before.version, is_doubtful=True)
        for row in read.values():
            known = self._known.get(row.id)
            if known is None or known.is_doubtful or known.is_older_than((row.version, False)):
                changes += self._tell(row, None)
        changes += self._release(mark, read.keys())
        return Heard(tuple(changes), in_doubt=self._is_waiting)

    @property
    def _is_waiting(self) -> bool:
        return any(self._waiting.values())

    def _rows(self, records: Iterable[Mapping[str, object]]) -> Iterable[RowT]:
        for record in records:
            row = self._parse(record)
            if row is not None:
                yield row

    def _parsed(self, record: Mapping[str, object]) -> RowT | ValidationError:
        try:
            return self._model.model_validate(record)
        except ValidationError as error:
            return error

    def _parse(self, record: Mapping[str, object]) -> RowT | None:
        row = self._parsed(record)
        if isinstance(row, ValidationError):
            # one row that can't be read must not stop the others
            self.unreadable.add(str(record.get("id")))
            logger.warning(
                "%s %s can't be read: %s field(s)",
                self._model.__name__,
                record.get("id"),
                row.error_count(),
            )
            return None
        self.unreadable.discard(str(row.id))
        return row

    def _take(self, event: Event) -> Iterable[Change[RowT]]:
        """Takes an event that is newer than the known row."""
        known = self._known.get(event.id)
        if event.record is None:
            return self._tell_gone(event.id, known, event.version)
        row = self._parse(event.record)
        if row is None:
            return ()
        if not self._in_scope(row):
            # the row belongs to another scope, now or always
            return self._tell_gone(event.id, known, event.version) if known else ()
        return self._tell(row, event)

    def _tell(self, row: RowT, event: Event | None) -> Iterable[Change[RowT]]:
        known = self._known.get(row.id)
        now = KnownRow(row, row.version, self.mark())
        self._known[row.id] = now
        if known is not None and known.row is not None:
            now.is_told = known.is_told
            return (Change("UPDATE", row, known.row),) if known.is_told else ()
        if self._place is None:
            return (Change("INSERT", row, None),)

        thread, number = self._place(row)
        if number <= self._reached[thread]:
            if self._is_whole:
                # the row was restored, or became visible
                return (Change("INSERT", row, None),)
            if event is None or event.operation == "INSERT":
                # it existed when the subscription began
                return ()
            old = self._parse(event.old_record) if event.old_record else None
            return (Change("UPDATE", row, old),)
        now.is_told = False
        self._waiting[thread][number] = row.id
        return self._advance(thread, self._reached[thread])

    def _tell_gone(
        self, row_id: UUID, known: KnownRow[RowT] | None, version: int, *, is_doubtful: bool = False
    ) -> Iterable[Change[RowT]]:
        self._known[row_id] = KnownRow(None, version, self.mark(), is_doubtful=is_doubtful)
        self.unreadable.discard(str(row_id))
        if known is None or known.row is None:
            return ()
        if self._place:
            thread, number = self._place(known.row)
            if not known.is_told:
                del self._waiting[thread][number]
            if self._is_whole:
                # if it comes back, the rows after it wait for it
                self._reached[thread] = min(self._reached[thread], number - 1)
        return (Change("DELETE", None, known.row),) if known.is_told else ()

    def _release(self, mark: int, proven: Iterable[UUID]) -> list[Change[RowT]]:
        """Tells the inserts that waited for messages which, as the catch-up at `mark` proved, do
        not exist.
        """
        proven = set(proven)
        changes: list[Change[RowT]] = []
        for thread, waiting in list(self._waiting.items()):
            certain = [
                number
                for number, row_id in waiting.items()
                if row_id in proven or self._known[row_id].heard_at < mark
            ]
            changes += self._advance(thread, max(certain, default=self._reached[thread]))
        return changes

    def _advance(self, thread: UUID, certain: int) -> list[Change[RowT]]:
        """Tells the waiting inserts up to `certain`, and those that follow without a gap."""
        waiting = self._waiting[thread]
        changes: list[Change[RowT]] = []
        for number in sorted(waiting):
            if number > max(certain, self._reached[thread] + 1):
                break
            known = self._known[waiting.pop(number)]
            known.is_told = True
            self._reached[thread] = max(self._reached[thread], number)
            if known.row is not None:
                changes.append(Change("INSERT", known.row, None))
        if not waiting:
            del self._waiting[thread]
        return changes
