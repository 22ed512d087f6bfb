"""The contacts in one face, made from three tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic
from uuid import UUID

from rapport.client.events import Change, Event, Heard, Record
from rapport.client.face_feed import FaceChange, FaceFeed, FaceRow
from rapport.client.faces import ContactRow, Thread
from rapport.client.server import Server

_KEYS = {"contacts": "id", "conversations": "id", "conversation_activity": "conversation_id"}


class FaceSource(Generic[FaceRow]):
    """All contacts that the user may see, as `face` shows them."""

    tables = frozenset({"contacts", "conversations", "messages"})

    def __init__(self, face: Callable[[ContactRow, Thread | None], FaceRow]) -> None:
        self._feed = FaceFeed(face)
        # events that arrive during a re-read, which could take their rows for deleted; applied
        # after it
        self._heard_meanwhile: list[Event] | None = None
        self._doubts: frozenset[tuple[str, UUID]] = frozenset()

    @property
    def rows(self) -> Mapping[UUID, FaceRow]:
        """The faces as the user was last told."""
        return self._feed.rows

    @property
    def is_unreadable(self) -> bool:
        """Whether there are rows that can't be read."""
        return bool(self._feed.unreadable)

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether a transaction's events came with their rows."""
        return self._feed.is_sure(events)

    def hear(self, events: Iterable[Event]) -> Heard[FaceRow]:
        """Takes events that were broadcast together; a face changes once."""
        if self._heard_meanwhile is not None:
            self._heard_meanwhile += events
            return Heard(())
        changes = self._feed.apply(*events)
        return _told(changes, in_doubt=bool(self._feed.to_read))

    def mark(self) -> int:
        """Marks the moment before a catch-up."""
        self._doubts = self._feed.to_read
        return 0

    def settle(self, events: Iterable[Event], mark: int) -> Heard[FaceRow]:  # noqa: ARG002 - as Ledger
        """Takes all events of one catch-up; only one runs at a time."""
        changes = self._feed.apply(*events)
        # a hint from before the catch-up that the log does not confirm was out of date
        self._feed.forget(self._doubts)
        return _told(changes, in_doubt=bool(self._feed.to_read))

    async def load(self, server: Server) -> None:
        """Reads the rows at the start; the user is not told of them."""
        for table, records in (await _read(server)).items():
            self._feed.load(table, records)

    async def reread(self, server: Server) -> Heard[FaceRow]:
        """Reads all rows again."""
        self._heard_meanwhile = []
        changes: list[FaceChange[FaceRow]] = []
        try:
            for table, records in (await _read(server)).items():
                changes += self._feed.replace(table, records)
        finally:
            heard, self._heard_meanwhile = self._heard_meanwhile, None
            changes += self._feed.apply(*heard)
        return _told(changes, in_doubt=False)


async def _read(server: Server) -> dict[str, list[Record]]:
    read: dict[str, list[Record]] = {table: [] for table in _KEYS}
    for owner in await server.owners():
        for table, key in _KEYS.items():
            # a customer can't read the table contacts
            if table != "contacts" or "account_id" in owner:
                async for page in server.pages(table, owner, key):
                    read[table] += page
    return read


def _told(changes: list[FaceChange[FaceRow]], *, in_doubt: bool) -> Heard[FaceRow]:
    return Heard(
        tuple(Change(change.operation, change.new, change.old) for change in changes),
        in_doubt=in_doubt,
    )
