"""A team's conversations, the latest first, as far as they have been loaded.

What the rows show stands in eight tables. When one of those changes, its conversation is asked for
by id and by the filter, so that the server alone decides what the list has: one answer says what
the row is, and whether it belongs here. What can't come into sight is not asked for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Unpack
from uuid import UUID

from pydantic import BaseModel, JsonValue, TypeAdapter

from rapport.client.asked import AskedSource, AskedSubscription
from rapport.client.callbacks import Called, bound, run
from rapport.client.catch_up import CatchUp
from rapport.client.database import Inbox, InboxCountsAnswer, LabelCountsAnswer
from rapport.client.events import Event
from rapport.client.server import Server
from rapport.client.subscription import RowCallbacks
from rapport.client.timing import Timing
from rapport.errors import NotAllowed, NotFound, RapportError, Unprocessable

_TABLES = (
    "conversations",
    "messages",
    "contacts",
    "desk_states",
    "conversation_labels",
    "labels",
    "read_markers",
    "scheduled_messages",
)
_COUNTED = {"conversations", "desk_states", "conversation_labels", "labels"}
# rows in one answer
_MOST = 200
# so many that have changed are not asked for one by one
_MANY = 1_000
# seconds between two countings
_COUNT_PAUSE = 2.0
# the latest ones; who reads more at once on another device has the rest told by the next message
_MARKERS = 100
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class _Marker(BaseModel):
    conversation_id: UUID
    last_read_seq: int


_ROWS = TypeAdapter(list[Inbox])
_MARKER_ROWS = TypeAdapter(list[_Marker])
_COUNTS = TypeAdapter(InboxCountsAnswer)
_LABEL_COUNTS = TypeAdapter(LabelCountsAnswer)


@dataclass(frozen=True)
class InboxFilter:
    """Conversations that meet all that is given."""

    status: Literal["open", "pending", "closed"] | None = None
    # who answers; or whether nobody does
    assignee_id: UUID | None = None
    is_free: bool = False
    label_id: UUID | None = None
    # whether they wait until a time
    is_snoozed: bool | None = None
    # a name, phone, email or tag, as `search_contacts` finds them
    query: str | None = None

    @property
    def arguments(self) -> dict[str, JsonValue]:
        """The arguments of `inbox_page`."""
        return {
            "status": self.status,
            "assignee_id": str(self.assignee_id) if self.assignee_id else None,
            "is_free": self.is_free,
            "label_id": str(self.label_id) if self.label_id else None,
            "is_snoozed": self.is_snoozed,
            "query": self.query,
        }


class InboxCounts(InboxCountsAnswer, LabelCountsAnswer):
    """How many conversations there are, up to 100, which stands for more. By assignee and by label
    those that are not closed are counted; `free` are those that are open and do not wait.
    """


class InboxCallbacks(RowCallbacks[Inbox], total=False):
    """`on_counts` gets the counts when they differ."""

    on_counts: Callable[[InboxCounts], Called] | None


@dataclass
class _Noted:
    """What has to be asked for."""

    # conversations that have changed, and whether the change may bring them here
    changed: dict[UUID, bool] = field(default_factory=dict)
    contacts: set[UUID] = field(default_factory=set)
    is_stale: bool = False

    def change(self, conversation_id: UUID, *, is_brought: bool) -> None:
        self.changed[conversation_id] = is_brought or self.changed.get(conversation_id, False)
        if len(self.changed) > _MANY:
            self.is_stale = True

    def add(self, other: _Noted) -> None:
        for conversation_id, is_brought in other.changed.items():
            self.change(conversation_id, is_brought=is_brought)
        self.contacts |= other.contacts
        self.is_stale = self.is_stale or other.is_stale


@dataclass
class _Found:
    rows: dict[UUID, Inbox]
    # the last row that was loaded, where there are more
    end: Inbox | None
    # those that came with a further page
    loaded: frozenset[UUID] = frozenset()


class InboxSource(AskedSource[Inbox]):
    """The rows of the inbox, and how they are asked for."""

    def __init__(
        self, account_id: UUID | None, wanted: InboxFilter, page_size: int, look_pause: float
    ) -> None:
        super().__init__(_TABLES)
        self.filter = wanted
        self.counts: InboxCounts | None = None
        self.pinned: Inbox | None = None
        self.wants_more = False
        self._account_id = account_id
        self._account: UUID | None = None
        self._page_size = page_size
        # how many rows were wanted so far
        self._size = page_size
        self._end: Inbox | None = None
        self._noted = _Noted(is_stale=True)
        # what a filter brings is not told
        self._is_new = True
        self._pinned_id: UUID | None = None
        self._is_miscounted = True
        self._counted_at = -math.inf
        # what was read on other devices is looked at now and then
        self._look_pause = look_pause
        self._looked_at = -math.inf

    @property
    def has_more(self) -> bool:
        """Whether there are further conversations to load."""
        return self._end is not None

    @property
    def is_loading(self) -> bool:
        """Whether a filter or a page that was asked for is still to come."""
        return self.wants_more or self._is_new

    @property
    def due_in(self) -> float | None:
        """When to count again."""
        if not self._is_miscounted:
            return None
        return max(0.0, self._counted_at + _COUNT_PAUSE - time.monotonic())

    def doubt(self) -> None:
        """Has everything be asked for."""
        self._noted.is_stale = True
        self._is_miscounted = True

    def renew(self, wanted: InboxFilter) -> None:
        """Has other conversations be asked for."""
        self.filter = wanted
        self._noted.is_stale = True
        self._is_new = True
        self.wants_more = False
        self._size = self._page_size

    def pin(self, conversation_id: UUID | None) -> None:
        """Has one conversation be asked for, whether the list has it or not."""
        self._pinned_id = conversation_id
        self.pinned = self.known.get(conversation_id) if conversation_id else None
        if conversation_id is not None:
            self._noted.change(conversation_id, is_brought=False)

    def note(self, events: Iterable[Event]) -> None:
        """Notes what has to be asked for."""
        for event in events:
            if event.table in _COUNTED:
                self._is_miscounted = True
            self._note(event)

    def _note(self, event: Event) -> None:
        wanted, noted = self.filter, self._noted
        row = event.record or event.old_record
        match event.table:
            case "labels":
                pass
            case "contacts":
                noted.contacts.add(event.id)
                # those of a contact that is out of sight are not known
                noted.is_stale = noted.is_stale or bool(wanted.query)
            case "conversations" | "read_markers":
                noted.change(event.id, is_brought=event.table == "conversations")
            case "desk_states":
                is_brought = bool(wanted.assignee_id or wanted.is_free)
                noted.change(event.id, is_brought=is_brought or wanted.is_snoozed is not None)
            case _ if not row:
                # gone without a word of where it was
                noted.is_stale = True
            case _:
                is_wanted = event.table == "messages" or row.get("label_id") == str(wanted.label_id)
                noted.change(
                    UUID(str(row["conversation_id"])),
                    is_brought=event.operation == "INSERT" and is_wanted,
                )

    async def ask(self, server: Server) -> None:
        """Asks for what has been noted."""
        try:
            await self._ask(server)
        except (NotAllowed, NotFound):
            # the account is not the user's any more: nothing of it is shown
            self._end = self.counts = self.pinned = None
            self.doubt()
            self.replace({})
            raise

    async def _ask(self, server: Server) -> None:
        await self._look(server)
        wanted, is_new, pinned_id = self.filter, self._is_new, self._pinned_id
        noted, self._noted = self._noted, _Noted()
        wants_more = self.wants_more and not noted.is_stale
        is_miscounted = self.due_in == 0
        if is_miscounted:
            self._is_miscounted, self._counted_at = False, time.monotonic()
        try:
            if noted.is_stale:
                self._account = self._account_id or await _only_account(server)
            reading = self._reload if noted.is_stale else self._renewed
            found, counts = await asyncio.gather(
                reading(server, noted, wants_more),
                self._count(server) if is_miscounted else _given(self.counts),
            )
            if pinned_id is not None:
                pinned = await self._read_pinned(server, pinned_id, noted, found)
                if pinned_id == self._pinned_id:
                    self.pinned = pinned
        except BaseException:
            self._is_miscounted = self._is_miscounted or is_miscounted
            self._noted.add(noted)
            raise
        self.counts = counts
        if wanted is not self.filter:
            # an answer to an older question
            return
        if wants_more:
            self.wants_more = False
            self._size += self._page_size
        self._fit(found)
        self._end = found.end
        self.replace(found.rows, lambda row: row.id not in found.loaded)
        if noted.is_stale and is_new:
            self._is_new = False
            self.take()

    async def _reload(self, server: Server, _noted: _Noted, _wants_more: bool) -> _Found:
        """As many rows as there were, at least a page."""
        rows, end = await self._read(server, None, self._size)
        return _Found({row.id: row for row in rows}, end)

    async def _renewed(self, server: Server, noted: _Noted, wants_more: bool) -> _Found:
        """The rows with those that have changed, and with a further page if it is wanted."""
        rows = dict(self.known)
        end = self._end
        ids = {one for one, is_brought in noted.changed.items() if is_brought or one in rows}
        ids |= {row.id for row in rows.values() if row.customer_id in noted.contacts}
        asked = sorted(ids)
        for start in range(0, len(asked), _MOST):
            some = asked[start : start + _MOST]
            for one in some:
                rows.pop(one, None)
            for row in await self._page(server, ids=[str(one) for one in some], page_size=_MOST):
                if end is None or _place(row) <= _place(end):
                    rows[row.id] = row
        loaded: set[UUID] = set()
        # a list that has become short is filled up
        missing = self._size - len(rows) if len(rows) < self._size / 2 else 0
        if end is not None and (wants_more or missing):
            size = self._page_size if wants_more else missing
            further, end = await self._read(server, end, size)
            for row in further:
                if row.id not in rows:
                    loaded.add(row.id)
                rows[row.id] = row
        return _Found(rows, end, frozenset(loaded))

    def _fit(self, found: _Found) -> None:
        """Puts rows in order, and lets those at the end go where too many have come."""
        rows = sorted(found.rows.values(), key=_place)
        if len(rows) > self._size + self._page_size:
            del rows[self._size :]
            found.end = rows[-1]
        found.rows = {row.id: row for row in rows}

    async def _read(
        self, server: Server, last: Inbox | None, size: int
    ) -> tuple[list[Inbox], Inbox | None]:
        """So many rows after a place, and the last of them where there are more."""
        rows: list[Inbox] = []
        while True:
            # one more shows whether there are more
            asked = min(_MOST, size + 1 - len(rows))
            after: dict[str, JsonValue] = {}
            if last is not None:
                after = {"before": last.last_message_at.isoformat(), "before_id": str(last.id)}
            page = await self._page(server, page_size=asked, **after)
            rows += page
            if len(page) < asked:
                return rows, None
            if len(rows) > size:
                return rows[:size], rows[size - 1]
            last = page[-1]

    async def _page(self, server: Server, **which: JsonValue) -> list[Inbox]:
        return await self._rows(server, **self.filter.arguments, **which)

    async def _rows(self, server: Server, **given: JsonValue) -> list[Inbox]:
        if self._account is None:
            return []
        return await server.call("inbox_page", _ROWS, account_id=str(self._account), **given)

    async def _read_pinned(
        self, server: Server, pinned_id: UUID, noted: _Noted, found: _Found
    ) -> Inbox | None:
        if pinned_id in found.rows:
            return found.rows[pinned_id]
        customer_id = self.pinned.customer_id if self.pinned else None
        if noted.is_stale or pinned_id in noted.changed or customer_id in noted.contacts:
            rows = await self._rows(server, ids=[str(pinned_id)])
            return rows[0] if rows else None
        return self.pinned

    async def _count(self, server: Server) -> InboxCounts | None:
        if self._account is None:
            return None
        account: Mapping[str, JsonValue] = {"account_id": str(self._account)}
        counts, labels = await asyncio.gather(
            server.call("inbox_counts", _COUNTS, **account),
            server.call("label_counts", _LABEL_COUNTS, **account),
        )
        return InboxCounts(
            assignees=counts.assignees,
            snoozed=counts.snoozed,
            free=counts.free,
            labels=labels.labels,
        )

    async def _look(self, server: Server) -> None:
        """Looks at what the user has read elsewhere, which nobody is told of."""
        now = time.monotonic()
        if now - self._looked_at < self._look_pause:
            return
        self._looked_at = now
        latest = await server.latest("read_markers", {}, "read_at", _MARKERS)
        for marker in _MARKER_ROWS.validate_python(latest):
            row = self.known.get(marker.conversation_id)
            if row is not None and row.last_read_seq != marker.last_read_seq:
                self._noted.change(row.id, is_brought=False)


class InboxSubscription(AskedSubscription[Inbox]):
    """Conversations, the latest first. Callbacks are told what changes, and not what a filter or a
    further page brings. `on_delete` is told what leaves the list, to a place beyond it as well.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        server: Server,
        timing: Timing,
        account_id: UUID | None,
        wanted: InboxFilter,
        page_size: int,
        **callbacks: Unpack[InboxCallbacks],
    ) -> None:
        self._inbox = InboxSource(account_id, wanted, page_size, timing.slow_poll / 2)
        self._on_counts = callbacks.pop("on_counts", None)
        super().__init__(
            catch_up,
            server,
            timing,
            self._inbox,
            on_insert=callbacks.get("on_insert"),
            on_update=callbacks.get("on_update"),
            on_delete=callbacks.get("on_delete"),
        )

    @property
    def filter(self) -> InboxFilter:
        """Which conversations are shown."""
        return self._inbox.filter

    @property
    def counts(self) -> InboxCounts | None:
        """How many conversations there are; None until they are counted."""
        return self._inbox.counts

    @property
    def unread_count(self) -> int:
        """How many of the `rows` have unread messages."""
        return sum(row.unread_count > 0 for row in self.rows.values())

    @property
    def has_more(self) -> bool:
        """Whether there are further conversations to load."""
        return self._inbox.has_more

    @property
    def is_loading(self) -> bool:
        """Whether a filter or a page that was asked for is still to come."""
        return self._inbox.is_loading and not self._is_closed

    @property
    def pinned(self) -> Inbox | None:
        """The conversation of `pin`, whether it is among the rows or not."""
        return self._inbox.pinned

    async def load_more(self) -> None:
        """Loads a further page, if there is one. Raises what the server refuses."""
        if self._inbox.has_more:
            self._inbox.wants_more = True
            await self._answered()

    async def set_filter(self, wanted: InboxFilter) -> None:
        """Shows other conversations from their first page on; until they have come, those of
        before. Raises what the server refuses.
        """
        self._inbox.renew(wanted)
        await self._answered()

    async def pin(self, conversation_id: UUID | None) -> None:
        """Keeps one conversation in `pinned`, such as the one that is open; None ends that."""
        self._inbox.pin(conversation_id)
        await self._answered()

    async def _try(self) -> RapportError | None:
        before = self.counts
        error = await super()._try()
        if self.counts is not None and self.counts != before:
            await run(bound(self._on_counts, self.counts))
        return error


async def _given(counts: InboxCounts | None) -> InboxCounts | None:
    return counts


async def _only_account(server: Server) -> UUID | None:
    """The account of a user who works for one; None of a user who works for none."""
    accounts = [owner["account_id"] for owner in await server.owners() if "account_id" in owner]
    if len(accounts) > 1:
        raise Unprocessable(
            "You work for several accounts. Say whose inbox it is.", field="account_id"
        )
    return accounts[0] if accounts else None


def _place(row: Inbox) -> tuple[timedelta, UUID]:
    return _END_OF_TIME - row.last_message_at, row.id
