"""The rows of a subscription, and how they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from rapport.client.events import Event, Heard, Record
from rapport.client.ledger import Ledger, Place
from rapport.client.rows import Message, RowT
from rapport.client.server import Server
from rapport.client.topics import Scope


class TableSource(Generic[RowT]):
    """All rows of one table in a scope.

    `key` is the unique column to page by; `owner` is the column that names the customer; `equals`
    narrows the rows by further columns.
    """

    def __init__(
        self,
        table: str,
        model: type[RowT],
        scope: Scope,
        *,
        owner: str = "customer_id",
        key: str = "id",
        place: Callable[[RowT], Place] | None = None,
        is_whole: bool = True,
        equals: Mapping[str, UUID] | None = None,
    ) -> None:
        self.tables = frozenset({table})
        self._table = table
        self._key = key
        self._equals = dict(equals or {})
        if scope.id is not None:
            self._equals[owner if scope.kind == "customer" else "conversation_id"] = scope.id
        self._ledger = Ledger(model, self._is_in_scope, place, is_whole=is_whole)

    @property
    def rows(self) -> Mapping[UUID, RowT]:
        """The rows as the user was last told."""
        return self._ledger.rows

    @property
    def is_unreadable(self) -> bool:
        """Whether there are rows that can't be read."""
        return bool(self._ledger.unreadable)

    def is_sure(self, events: Iterable[Event]) -> bool:
        """Whether a transaction's events can be told now, and none before them was missed."""
        return self._ledger.is_sure(events)

    def hear(self, events: Iterable[Event]) -> Heard[RowT]:
        """Takes events that were broadcast together."""
        heard = [self._ledger.hear(event) for event in events]
        changes = tuple(change for each in heard for change in each.changes)
        return Heard(changes, in_doubt=any(each.in_doubt for each in heard))

    def mark(self) -> int:
        """Marks the moment before a catch-up."""
        return self._ledger.mark()

    def settle(self, events: Iterable[Event], mark: int) -> Heard[RowT]:
        """Takes all events of one catch-up."""
        return self._ledger.settle(events, mark)

    async def load(self, server: Server) -> None:
        """Reads the rows at the start; the user is not told of them."""
        self._ledger.load(await self._read(server))

    async def reread(self, server: Server) -> Heard[RowT]:
        """Reads all rows again."""
        mark = self._ledger.mark()
        return self._ledger.reread(await self._read(server), mark)

    async def _read(self, server: Server) -> list[Record]:
        pages = server.pages(self._table, self._equals, self._key)
        return [record async for page in pages for record in page]

    def _is_in_scope(self, row: RowT) -> bool:
        return all(getattr(row, column) == value for column, value in self._equals.items())


class LatestSource(TableSource[RowT]):
    """The latest rows of a table that only grows, `most` of each account, and what comes."""

    def __init__(self, table: str, model: type[RowT], order: str, most: int) -> None:
        super().__init__(table, model, Scope(), is_whole=False)
        self._order = order
        self._most = most

    async def reread(self, server: Server) -> Heard[RowT]:
        """Reads the known rows again, and the latest."""
        mark = self._ledger.mark()
        known = list(self._ledger.rows)
        records = await server.rows(self._table, known) + await self._read(server)
        return self._ledger.reread(records, mark, of=known)

    async def _read(self, server: Server) -> list[Record]:
        return [
            record
            for owner in await server.owners()
            if "account_id" in owner
            for record in await server.latest(self._table, owner, self._order, self._most)
        ]


class _Marker(BaseModel):
    conversation_id: UUID
    last_read_seq: int


class _ActivityRow(BaseModel):
    conversation_id: UUID
    last_seq: int


_MARKERS = TypeAdapter(list[_Marker])
_ACTIVITIES = TypeAdapter(list[_ActivityRow])


class MessageSource(TableSource[Message]):
    """All messages of a customer, a booking or a conversation; of whole accounts, only new ones.

    A subscription to everything in an account does not read a million old messages first.
    """

    def __init__(self, scope: Scope, booking_id: UUID | None = None) -> None:
        is_one_chat = scope.kind == "conversation" or booking_id is not None
        self._is_whole = scope.kind != "all" or is_one_chat
        super().__init__(
            "messages",
            Message,
            scope,
            # unique within a chat, and in the index of its messages
            key="seq" if is_one_chat else "id",
            place=lambda message: (message.conversation_id, message.seq),
            is_whole=self._is_whole,
        )
        if booking_id is not None:
            self._equals["booking_id"] = booking_id
        self._accounts: frozenset[UUID] = frozenset()
        # accounts and customers whose conversations are followed
        self._owners: set[UUID] = set()
        self._markers: dict[UUID, int] = {}

    @property
    def rows(self) -> Mapping[UUID, Message]:
        """The messages as the user was last told: those of one conversation in the order of `seq`,
        conversations among each other by the time.
        """
        return _in_order(self._ledger.rows.values())

    @property
    def unread_count(self) -> int:
        """Messages of the other side after the user's read markers, without deleted ones."""
        return sum(
            message.seq > self._markers.get(message.conversation_id, 0)
            and message.revoked_at is None
            and not message.is_history
            and (message.sender_type == "client") == (message.account_id in self._accounts)
            for message in self._ledger.rows.values()
        )

    def move_marker(self, conversation_id: UUID, seq: int) -> None:
        """Notes up to which seq the user has read."""
        self._markers[conversation_id] = max(seq, self._markers.get(conversation_id, 0))

    def put_marker_back(self, conversation_id: UUID, seq: int) -> None:
        """Notes up to which seq the user has read, after a message was marked as unread."""
        self._markers[conversation_id] = seq

    async def load(self, server: Server) -> None:
        """Reads the read markers and the rows; for whole accounts only how far each conversation
        has come.
        """
        await self._read_markers(server)
        if self._is_whole:
            await super().load(server)
            return
        await self._newer(server)

    async def reread(self, server: Server) -> Heard[Message]:
        """Reads all rows again; for whole accounts, the known rows and the newer ones."""
        await self._read_markers(server)
        if self._is_whole:
            return await super().reread(server)
        mark = self._ledger.mark()
        known = list(self._ledger.rows)
        records = await server.rows("messages", known) + await self._newer(server)
        return self._ledger.reread(records, mark, of=known)

    async def _read_markers(self, server: Server) -> None:
        owners = await server.owners()
        self._accounts = frozenset(o["account_id"] for o in owners if "account_id" in o)
        async for page in server.pages("read_markers", {}, "conversation_id"):
            for marker in _MARKERS.validate_python(page):
                self.move_marker(marker.conversation_id, marker.last_read_seq)

    async def _newer(self, server: Server) -> list[Record]:
        """The messages that have come since. Where the user sees an account or a customer for the
        first time, it is noted how far each conversation has come: earlier messages are not new.
        """
        found: list[Record] = []
        reached = self._ledger.reached
        for owner in await server.owners():
            ids = set(owner.values())
            async for page in server.pages("conversation_activity", owner, "conversation_id"):
                for activity in _ACTIVITIES.validate_python(page):
                    conversation, last_seq = activity.conversation_id, activity.last_seq
                    so_far = reached.get(conversation, 0)
                    if not ids <= self._owners:
                        self._ledger.reach(conversation, last_seq)
                    elif last_seq > so_far:
                        of = {"conversation_id": conversation}
                        async for newer in server.pages("messages", of, "seq", so_far):
                            found += newer
            self._owners |= ids
        return found


def _in_order(messages: Iterable[Message]) -> dict[UUID, Message]:
    by_time = sorted(messages, key=lambda message: (message.created_at, message.id))
    # a transaction that began earlier may have got the higher seq
    of: defaultdict[UUID, list[Message]] = defaultdict(list)
    for message in sorted(by_time, key=lambda message: message.seq, reverse=True):
        of[message.conversation_id].append(message)
    ordered = (of[message.conversation_id].pop() for message in by_time)
    return {message.id: message for message in ordered}
