"""Keeps one face of every contact up to date from rows and events. It does no I/O.

Events arrive out of order, twice, or without the row. A row's version says which state is newer,
and the time of a conversation's last message only rises. So the feed ends in the same state in
any order of arrival.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import ValidationError

from rapport.client.events import Event, Operation, Shown
from rapport.client.faces import (
    ContactRow,
    ConversationActivity,
    ConversationRow,
    MessageRow,
    Thread,
)

_FOLLOWED = frozenset({"contacts", "conversations", "messages"})

logger = logging.getLogger(__name__)

FaceRow = TypeVar("FaceRow", bound=Shown)


@dataclass(frozen=True)
class FaceChange(Generic[FaceRow]):
    """A face that changed. INSERT has no `old`, DELETE has no `new`."""

    operation: Operation
    old: FaceRow | None
    new: FaceRow | None


@dataclass(frozen=True, order=True)
class _Stamp:
    """How new our knowledge of a row is. A deletion has the version of the deleted row."""

    version: int
    gone: bool


@dataclass
class _LatestMessages:
    latest: datetime | None = None
    inbound: datetime | None = None


class FaceFeed(Generic[FaceRow]):
    """One face of all contacts that were loaded or heard of.

    `face` is `contact_v2` or `contact_live_chat`. Load the rows first, then apply broadcasts and
    the entries of `changes_since`, in any order.
    """

    def __init__(self, face: Callable[[ContactRow, Thread | None], FaceRow]) -> None:
        self._face = face
        self._shown: dict[UUID, FaceRow] = {}
        self._contacts: dict[UUID, ContactRow] = {}
        self._conversations: dict[UUID, ConversationRow] = {}
        self._conversations_of: defaultdict[UUID, set[UUID]] = defaultdict(set)
        self._activity: defaultdict[UUID, _LatestMessages] = defaultdict(_LatestMessages)
        self._stamps: dict[tuple[str, UUID], _Stamp] = {}
        self._hinted: dict[tuple[str, UUID], int] = {}
        # rows that can't be read, by table and id; they stay as they were
        self.unreadable: set[tuple[str, str]] = set()

    @property
    def rows(self) -> Mapping[UUID, FaceRow]:
        """The current faces, by the contact's id."""
        return dict(self._shown)

    @property
    def to_read(self) -> frozenset[tuple[str, UUID]]:
        """The table and id of each row that changed and was not sent: read them and `load` them."""
        return frozenset(self._hinted)

    def forget(self, hints: Iterable[tuple[str, UUID]]) -> None:
        """Drops hints, by table and id, that turned out to be out of date."""
        for key in hints:
            self._hinted.pop(key, None)

    def load(self, table: str, rows: Iterable[Mapping[str, object]]) -> list[FaceChange[FaceRow]]:
        """Takes rows of a followed table or of `conversation_activity` that were read.

        A row that is older than the known one changes nothing, and neither does a record that is
        no row of the table: `unreadable` has its id.
        """
        touched: set[UUID] = set()
        for row in rows:
            touched |= self._take(table, row)
        return self._show(touched)

    def replace(
        self, table: str, rows: Iterable[Mapping[str, object]]
    ) -> list[FaceChange[FaceRow]]:
        """Takes all rows of a table, as after a resync: a row that is not among them is gone.

        Afterwards apply `changes_since` from a cursor that is older than the reading.
        """
        rows = list(rows)
        touched: set[UUID] = set()
        if table in {"contacts", "conversations"}:
            read = {UUID(str(row["id"])) for row in rows}
            known = self._contacts if table == "contacts" else self._conversations
            for row_id in known.keys() - read:
                # without a stamp, so that an event from after the reading can restore the row
                del self._stamps[table, row_id]
                touched |= self._drop(table, row_id)
        if table != "conversation_activity":
            self._hinted = {key: at for key, at in self._hinted.items() if key[0] != table}
        for row in rows:
            touched |= self._take(table, row)
        return self._show(touched)

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether all events came with their rows, or are no news."""
        return all(
            event.record is not None
            or event.operation == "DELETE"
            or _Stamp(event.version, gone=False)
            <= self._stamps.get((event.table, event.id), _Stamp(0, gone=False))
            for event in events
        )

    def apply(self, *events: Event) -> list[FaceChange[FaceRow]]:
        """Takes events. The events of one call are shown together: a face changes at most once.

        Events of other tables are ignored.
        """
        touched: set[UUID] = set()
        for event in events:
            if event.table not in _FOLLOWED:
                continue
            if event.operation == "DELETE":
                touched |= self._delete(event)
            elif event.record is None:
                self._hint(event)
            else:
                touched |= self._take(event.table, event.record)
        return self._show(touched)

    def _take(self, table: str, row: Mapping[str, object]) -> set[UUID]:
        """Takes a row and returns the ids of the contacts whose face may have changed."""
        key = table, str(row.get("id", row.get("conversation_id")))
        try:
            touched = self._read(table, row)
        except ValidationError as error:
            # one row that can't be read must not stop the others
            logger.warning("%s %s can't be read: %s field(s)", *key, error.error_count())
            self.unreadable.add(key)
            return set()
        self.unreadable.discard(key)
        return touched

    def _read(self, table: str, row: Mapping[str, object]) -> set[UUID]:
        match table:
            case "contacts":
                contact = ContactRow.model_validate(row)
                if contact.deleted_at is not None:
                    # the row of a deleted or merged contact
                    return self._end(table, contact.id, contact.version)
                if not self._is_news(table, contact.id, _Stamp(contact.version, gone=False)):
                    return set()
                self._contacts[contact.id] = contact
                return {contact.id}
            case "conversations":
                conversation = ConversationRow.model_validate(row)
                stamp = _Stamp(conversation.version, gone=False)
                if not self._is_news(table, conversation.id, stamp):
                    return set()
                touched = self._drop(table, conversation.id)
                if conversation.customer_id is None:
                    return touched
                self._conversations[conversation.id] = conversation
                self._conversations_of[conversation.customer_id].add(conversation.id)
                return touched | {conversation.customer_id}
            case "messages":
                message = MessageRow.model_validate(row)
                if self._hinted.get((table, message.id), message.version) <= message.version:
                    self._hinted.pop((table, message.id), None)
                inbound = message.sent_at if message.sender_type == "client" else None
                return self._advance(message.conversation_id, message.sent_at, inbound)
            case "conversation_activity":
                activity = ConversationActivity.model_validate(row)
                # before its first message a conversation has only its own time
                latest = activity.last_message_at if activity.last_seq else None
                return self._advance(activity.conversation_id, latest, activity.last_inbound_at)
        raise ValueError(f"No face is made from {table}.")

    def _advance(
        self, conversation_id: UUID, latest: datetime | None, inbound: datetime | None
    ) -> set[UUID]:
        activity = self._activity[conversation_id]
        activity.latest = _later(activity.latest, latest)
        activity.inbound = _later(activity.inbound, inbound)
        conversation = self._conversations.get(conversation_id)
        return self._contacts_of(conversation)

    def _delete(self, event: Event) -> set[UUID]:
        self.unreadable.discard((event.table, str(event.id)))
        if event.table == "messages":
            # the message was sent: the conversation's last times stay
            self._hinted.pop((event.table, event.id), None)
            return set()
        return self._end(event.table, event.id, event.version)

    def _end(self, table: str, row_id: UUID, version: int) -> set[UUID]:
        """Takes that a contact or conversation is gone since the given version."""
        if not self._is_news(table, row_id, _Stamp(version, gone=True)):
            return set()
        return self._drop(table, row_id)

    def _drop(self, table: str, row_id: UUID) -> set[UUID]:
        """Forgets a row and returns the ids of the contacts that it concerns."""
        if table == "contacts":
            return {row_id} if self._contacts.pop(row_id, None) else set()
        conversation = self._conversations.pop(row_id, None)
        touched = self._contacts_of(conversation)
        for contact_id in touched:
            self._conversations_of[contact_id].discard(row_id)
        return touched

    def _contacts_of(self, conversation: ConversationRow | None) -> set[UUID]:
        if conversation is None or conversation.customer_id is None:
            return set()
        return {conversation.customer_id}

    def _hint(self, event: Event) -> None:
        key = event.table, event.id
        known = self._stamps.get(key)
        if known is None or known < _Stamp(event.version, gone=False):
            self._hinted[key] = max(self._hinted.get(key, 0), event.version)

    def _is_news(self, table: str, row_id: UUID, stamp: _Stamp) -> bool:
        """Whether this state is newer than the known one; if so it becomes the known one."""
        key = table, row_id
        if self._hinted.get(key, stamp.version) <= stamp.version:
            self._hinted.pop(key, None)
        known = self._stamps.get(key)
        if known is not None and stamp <= known:
            return False
        self._stamps[key] = stamp
        return True

    def _show(self, touched: set[UUID]) -> list[FaceChange[FaceRow]]:
        changes: list[FaceChange[FaceRow]] = []
        for contact_id in sorted(touched):
            contact = self._contacts.get(contact_id)
            old = self._shown.get(contact_id)
            new = self._face(contact, self._current(contact_id)) if contact else None
            if new == old:
                continue
            if new is None:
                del self._shown[contact_id]
                changes.append(FaceChange("DELETE", old, None))
            else:
                self._shown[contact_id] = new
                changes.append(FaceChange("UPDATE" if old else "INSERT", old, new))
        return changes

    def _current(self, contact_id: UUID) -> Thread | None:
        """The conversation with the latest message; within one second, the one opened last."""
        threads = (
            self._thread(conversation_id)
            for conversation_id in self._conversations_of.get(contact_id, ())
        )
        return max(
            threads,
            key=lambda t: (t.last_message_at, t.conversation.created_at, t.conversation.id),
            default=None,
        )

    def _thread(self, conversation_id: UUID) -> Thread:
        conversation = self._conversations[conversation_id]
        activity = self._activity.get(conversation_id, _LatestMessages())
        return Thread(
            conversation=conversation,
            last_message_at=activity.latest or conversation.created_at,
            last_inbound_at=activity.inbound,
        )


def _later(known: datetime | None, heard: datetime | None) -> datetime | None:
    return max((at for at in (known, heard) if at is not None), default=None)
