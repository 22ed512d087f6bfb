"""What has been told of each row, without I/O: the heart of the live client.

A change is heard by broadcast, read from the change log, or both; late, twice or not at all.
The ledger turns that into callbacks that can be believed: a row's versions rise, its last one
is told once, a message's insert is told once and in the order of its conversation, and what
can't be told yet is a reason to catch up.

A message of seq n can't be seen before those with lower ones: who numbers messages holds the
conversation until the commit. So a catch-up that was asked for after a message was heard, and
does not bring one before it, proves that there is none.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic
from uuid import UUID

from pydantic import ValidationError

from rapport.client.changes import Change, Heard
from rapport.client.face_feed import Event
from rapport.client.rows import RowT
from rapport.client.stamps import Known, stamp_of

Place = tuple[UUID, int]

logger = logging.getLogger(__name__)


class Ledger(Generic[RowT]):
    """The rows of one subscription.

    `in_scope` says which rows it follows. `place` gives a row's thread and number there, where
    inserts are told in order. `is_whole` says that all rows were loaded, so that a row which is
    not known is new; without, `reach` says how far each thread had come.
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
        self._known: dict[UUID, Known[RowT]] = {}
        self._reached: defaultdict[UUID, int] = defaultdict(int)
        self._waiting: defaultdict[UUID, dict[int, UUID]] = defaultdict(dict)
        self._count = 0

    @property
    def rows(self) -> Mapping[UUID, RowT]:
        """The rows as they have been told or loaded."""
        return {
            row_id: known.row
            for row_id, known in self._known.items()
            if known.row is not None and known.is_told
        }

    @property
    def reached(self) -> Mapping[UUID, int]:
        """How far the inserts of each thread have been told."""
        return dict(self._reached)

    def reach(self, thread: UUID, number: int) -> None:
        """Counts what a thread had before the subscription as told."""
        self._reached[thread] = max(self._reached[thread], number)

    def load(self, records: Iterable[Mapping[str, object]]) -> None:
        """Takes rows that were there before the subscription; nothing is told of them."""
        for row in self._rows(records):
            known = self._known.get(row.id)
            if self._in_scope(row) and (known is None or known.is_older_than((row.version, False))):
                self._known[row.id] = Known(row, row.version, self._count)
                if self._place:
                    self.reach(*self._place(row))

    def mark(self) -> int:
        """A moment; take it before the request whose answer `settle` or `reread` gets."""
        self._count += 1
        return self._count

    def hear(self, event: Event) -> Heard[RowT]:
        """Takes a broadcast, which may be late, doubled, or of something that was missed."""
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
        """Takes all that a complete catch-up brought which was asked for at `mark`.

        Entries of one row are told as one change, the last.
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
        """Takes all rows as they stand, read at `mark` or later: what is missing is gone.

        What can't be read is there, and stays as it was told. A ledger that is not whole reads
        again what it has told, the ids `of`, and what has come since.
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
            # what was heard meanwhile may not have been read yet
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

    def _parse(self, record: Mapping[str, object]) -> RowT | None:
        try:
            return self._model.model_validate(record)
        except ValidationError as error:
            # one row that can't be read must not keep the others from being told
            logger.warning(
                "%s %s can't be read: %s field(s)",
                self._model.__name__,
                record.get("id"),
                error.error_count(),
            )
            return None

    def _take(self, event: Event) -> Iterable[Change[RowT]]:
        """Takes an event that is news, and whose row is known if there is one."""
        known = self._known.get(event.id)
        if event.record is None:
            return self._tell_gone(event.id, known, event.version)
        row = self._parse(event.record)
        if row is None:
            return ()
        if not self._in_scope(row):
            # another's, from now on or always
            return self._tell_gone(event.id, known, event.version) if known else ()
        return self._tell(row, event)

    def _tell(self, row: RowT, event: Event | None) -> Iterable[Change[RowT]]:
        known = self._known.get(row.id)
        now = Known(row, row.version, self.mark())
        self._known[row.id] = now
        if known is not None and known.row is not None:
            now.is_told = known.is_told
            return (Change("UPDATE", row, known.row),) if known.is_told else ()
        if self._place is None:
            return (Change("INSERT", row, None),)

        thread, number = self._place(row)
        if number <= self._reached[thread]:
            if self._is_whole:
                # it has come back, or into sight
                return (Change("INSERT", row, None),)
            if event is None or event.operation == "INSERT":
                # it was there when the subscription began
                return ()
            old = self._parse(event.old_record) if event.old_record else None
            return (Change("UPDATE", row, old),)
        now.is_told = False
        self._waiting[thread][number] = row.id
        return self._advance(thread, self._reached[thread])

    def _tell_gone(
        self, row_id: UUID, known: Known[RowT] | None, version: int, *, is_doubtful: bool = False
    ) -> Iterable[Change[RowT]]:
        self._known[row_id] = Known(None, version, self.mark(), is_doubtful=is_doubtful)
        if known is None or known.row is None:
            return ()
        if self._place:
            thread, number = self._place(known.row)
            if not known.is_told:
                del self._waiting[thread][number]
            if self._is_whole:
                # should it come back, those after it wait for it
                self._reached[thread] = min(self._reached[thread], number - 1)
        return (Change("DELETE", None, known.row),) if known.is_told else ()

    def _release(self, mark: int, proven: Iterable[UUID]) -> list[Change[RowT]]:
        """Tells what waited for messages of which a catch-up at `mark` has shown there are none."""
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
        """Tells what waits up to `certain`, and what follows it without a gap."""
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
