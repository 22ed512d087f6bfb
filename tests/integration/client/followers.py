"""Live clients that follow all that their user may see, and what is held against them.

A follower is told of changes. What it was told, change by change, leads from what it showed to what
it shows; and where nothing moves any more, it shows what its user selects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from pydantic import TypeAdapter
from tests.web import node

from rapport.client import database as types
from rapport.client.everything import Everything
from rapport.client.faces import contact_live_chat, contact_v2
from rapport.client.live import LiveClient
from rapport.client.rows import Profile
from rapport.client.subscription import Subscription

Row = dict[str, Any]
Rows = dict[str, Row]

CONTACTS = {"v2": "contacts_v2", "live_chat": "contacts_live_chat"}
MODELS: Mapping[str, Any] = {
    "jobs": types.Job,
    "invoices": types.Invoice,
    "messages": types.Message,
    "loyalty_transactions": types.LoyaltyTransaction,
    "customers": Profile,
    "contacts_v2": types.ContactV2,
    "contacts_live_chat": types.LiveChatContact,
    "inbox": types.Inbox,
    "conversation_notes": types.ConversationNote,
    "labels": types.Label,
    "conversation_labels": types.ConversationLabel,
    "scheduled_messages": types.ScheduledMessage,
}
# made of several rows, whose versions say nothing
MADE = {*CONTACTS.values(), "inbox"}
# more than there are
PAGE = 199


@dataclass(frozen=True)
class Part:
    """What is followed, and how its user selects the same."""

    name: str
    table: str
    # as a condition of PostgREST
    where: Mapping[str, str]
    # only what comes after its beginning
    is_from_now_on: bool = False
    # where it is selected, if not from its table
    called: str = ""

    @property
    def path(self) -> str:
        return self.called or self.table


@dataclass(frozen=True)
class Wanted:
    """What one user follows: a customer's portal, a conversation, a booking's chat, the desk of an
    account, and all.
    """

    account: UUID
    customer: UUID
    conversation: UUID
    booking: UUID

    @property
    def parts(self) -> dict[str, Part]:
        own = {"customer_id": f"eq.{self.customer}"}
        page = {
            "account_id": str(self.account),
            "page_size": str(PAGE),
            "order": "last_message_at.desc,id",
        }
        parts = [
            Part("jobs", "jobs", {}),
            Part("invoices", "invoices", {}),
            Part("messages", "messages", {}, is_from_now_on=True),
            Part("contacts v2", "contacts_v2", {}),
            Part("contacts live_chat", "contacts_live_chat", {}),
            Part("everything jobs", "jobs", own),
            Part("everything invoices", "invoices", own),
            Part("everything messages", "messages", own),
            Part("everything loyalty", "loyalty_transactions", own),
            Part("everything profile", "customers", {"id": f"eq.{self.customer}"}),
            Part("conversation", "messages", {"conversation_id": f"eq.{self.conversation}"}),
            Part("booking", "messages", own | {"booking_id": f"eq.{self.booking}"}),
            # what a team has at its desk, and nobody else
            Part("inbox", "inbox", page, called="rpc/inbox_page"),
            Part("notes", "conversation_notes", {"conversation_id": f"eq.{self.conversation}"}),
            Part("labels", "labels", {}),
            Part("labelled", "conversation_labels", {}),
            Part("scheduled", "scheduled_messages", {}),
        ]
        return {part.name: part for part in parts}


@dataclass
class Told:
    """What was told of one part, and what it leads to."""

    part: Part
    faults: list[str] = field(default_factory=list)
    # None until it has come to rest for the first time
    _rows: Rows | None = None
    _versions: dict[str, int] = field(default_factory=dict)
    _last_seq: dict[str, int] = field(default_factory=dict)
    # since the last rest
    news: list[Row] = field(default_factory=list)
    # the ids of those that were told as new for the first time
    inserted: set[str] = field(default_factory=set)

    def take(self, operation: str, new: Row | None, old: Row | None) -> None:
        """Takes a change that was told."""
        row = new or old
        assert row is not None
        row_id = row["id"]
        if new is not None:
            self.news.append(new)
        if operation == "INSERT" and row_id not in self._versions:
            self.inserted.add(row_id)
        self._check_order(operation, row)
        if self._rows is None:
            return
        before = self._rows.get(row_id)
        if operation == "INSERT":
            self._refuse(before is not None, f"{row_id} was inserted twice")
        elif operation == "UPDATE" and before is None:
            self._refuse(not self.part.is_from_now_on, f"{row_id} was not there to be updated")
        else:
            self._refuse(before != old, f"{row_id}: {operation} of {old} and not {before}")
        if new is None:
            self._rows.pop(row_id, None)
        else:
            self._rows[row_id] = new

    def rest(self, shown: Rows, must: set[str]) -> None:
        """Notes what is shown where nothing moves; what must have been told is among it."""
        if self._rows is not None:
            if self.part.is_from_now_on:
                # of one who has joined since the last rest, what was said before comes into sight
                # without a word where a later change brings it; of nobody else
                silent = shown.keys() - self._rows.keys() - must
                self._rows |= {row_id: shown[row_id] for row_id in silent}
            self._refuse(
                self._rows != shown, f"what was told leads elsewhere: {differ(self._rows, shown)}"
            )
        self._rows = dict(shown)
        self.news = []
        self.inserted = set()

    def _check_order(self, operation: str, row: Row) -> None:
        row_id = row["id"]
        if self.part.table not in MADE:
            # of a face the contact's version; its conversation's changes as well
            version = self._versions.get(row_id, 0)
            if operation == "DELETE":
                # it may come back as it was
                self._versions[row_id] = 0
            else:
                self._refuse(row["version"] <= version, f"{row_id} again: {row['version']}")
                self._versions[row_id] = row["version"]
        if self.part.table == "messages" and operation == "INSERT":
            conversation = row["conversation_id"]
            last = self._last_seq.get(conversation, 0)
            if row_id not in self._versions or last == 0:
                self._refuse(row["seq"] <= last, f"{row['seq']} was told after {last}")
            self._last_seq[conversation] = max(last, row["seq"])
        elif self.part.table == "messages" and operation == "DELETE":
            # those after it may come back
            self._last_seq[row["conversation_id"]] = min(
                self._last_seq.get(row["conversation_id"], 0), row["seq"] - 1
            )

    def _refuse(self, is_wrong: bool, fault: str) -> None:
        if is_wrong:
            self.faults.append(f"{self.part.name}: {fault[:2000]}")


class Follower(Protocol):
    """A live client of one user."""

    user: str
    told: dict[str, Told]

    async def shown(self) -> dict[str, list[Row]]:
        """What it shows of each part, in its order."""

    async def trouble(self) -> str | None:
        """What it says is wrong; None where all changes arrive."""

    def read(self, part: Part, rows: list[Row]) -> list[Row]:
        """Selected rows as this client has them."""

    async def close(self) -> None:
        """Throws it away."""


class PythonFollower:
    """The client in Python."""

    kind = "python"

    def __init__(
        self, user: str, live: LiveClient, wanted: Wanted, shown: Mapping[str, frozenset[str]]
    ) -> None:
        self.user = user
        self._live = live
        # the columns that are told of each table
        self._columns = shown
        self.told = {name: Told(part) for name, part in wanted.parts.items()}
        everything: Everything = live.everything(wanted.customer)
        self._everything = everything
        self._of: dict[str, Subscription[Any]] = {
            "jobs": live.jobs(),
            "invoices": live.invoices(),
            "messages": live.messages(),
            "contacts v2": live.contacts(contact_v2),
            "contacts live_chat": live.contacts(contact_live_chat),
            "everything jobs": everything.jobs,
            "everything invoices": everything.invoices,
            "everything messages": everything.messages,
            "everything loyalty": everything.loyalty,
            "everything profile": everything.profile,
            "conversation": live.conversation(wanted.conversation),
            "booking": live.messages(wanted.customer, wanted.booking),
            "inbox": live.desk.inbox(page_size=PAGE),
            "notes": live.desk.notes(wanted.conversation),
            "labels": live.desk.labels(),
            "labelled": live.desk.conversation_labels(),
            "scheduled": live.desk.scheduled_messages(),
        }
        self._readers = [
            asyncio.create_task(self._follow(name, of)) for name, of in self._of.items()
        ]

    async def _follow(self, name: str, of: Subscription[Any]) -> None:
        async for change in of:
            told = self.told[name]
            new, old = (self._dumped(told.part, row) for row in (change.new, change.old))
            told.take(change.operation, new, old)

    async def ready(self) -> None:
        for one in self._of.values():
            await one.ready()

    async def shown(self) -> dict[str, list[Row]]:
        # what has been taken is told by now
        await asyncio.sleep(0)
        return {
            name: [self._dumped(self.told[name].part, one) or {} for one in of.rows.values()]
            for name, of in self._of.items()
        }

    async def trouble(self) -> str | None:
        errors = {name: of.error for name, of in self._of.items() if not of.is_connected}
        return f"{self._live.error} {errors}" if not self._live.is_connected else None

    def read(self, part: Part, rows: list[Row]) -> list[Row]:
        model = TypeAdapter(list[MODELS[part.table]])
        return [self._dumped(part, one) or {} for one in model.validate_python(rows)]

    def _dumped(self, part: Part, row: Any) -> Row | None:
        return None if row is None else told_of(self._columns, part, row.model_dump(mode="json"))

    async def close(self) -> None:
        await self._live.__aexit__(None, None, None)
        for reader in self._readers:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader


class JavaScriptFollower:
    """The client in JavaScript, in a Node of its own."""

    kind = "javascript"

    def __init__(self, user: str, wanted: Wanted, shown: Mapping[str, frozenset[str]]) -> None:
        self.user = user
        self.told = {name: Told(part) for name, part in wanted.parts.items()}
        self._wanted = wanted
        # the columns that are told of each table
        self._columns = shown
        self._client: node.Client
        self._ending = contextlib.AsyncExitStack()

    async def open(self, **settings: object) -> None:
        wanted = self._wanted
        follow: dict[str, list[Any]] = {
            "jobs": ["jobs", None],
            "invoices": ["invoices", None],
            "messages": ["messages", None],
            "contacts v2": ["contacts", "v2"],
            "contacts live_chat": ["contacts", "live_chat"],
            "everything": ["everything", str(wanted.customer)],
            **{
                f"everything {kind}": [kind, str(wanted.customer)]
                for kind in ("jobs", "invoices", "messages", "loyalty", "profile")
            },
            "conversation": ["conversation", str(wanted.conversation)],
            "booking": ["messages", str(wanted.customer), {"bookingId": str(wanted.booking)}],
            "inbox": ["inbox", None, {"pageSize": PAGE}],
            "notes": ["desk", "conversation_notes", {"conversation": str(wanted.conversation)}],
            "labels": ["desk", "labels"],
            "labelled": ["desk", "conversation_labels"],
            "scheduled": ["desk", "scheduled_messages"],
        }
        self._client = await self._ending.enter_async_context(
            node.client(self._take, follow=follow, **settings)
        )

    async def ready(self) -> None:
        await self._client.ask("ready")

    def _take(self, said: dict[str, Any]) -> None:
        # what `everything` tells is told by its parts as well
        if "eventType" not in said or said["of"] == "everything":
            return
        told = self.told[said["of"]]
        row, old = (self._told(told.part, said[key]) for key in ("row", "old"))
        if said["eventType"] == "DELETE":
            told.take("DELETE", None, row)
        else:
            told.take(said["eventType"], row, old)

    def _told(self, part: Part, row: Row | None) -> Row | None:
        return None if row is None else told_of(self._columns, part, row)

    async def shown(self) -> dict[str, list[Row]]:
        shown = {}
        together = await self._client.ask("snapshot", of="everything")
        for name, told in self.told.items():
            rows = (await self._client.ask("snapshot", of=name))["rows"]
            of, _, part = name.partition(" ")
            if of == "everything" and rows != together[part]["rows"]:
                # it may have changed between the questions
                rows = []
            shown[name] = [self._told(told.part, row) or {} for row in rows]
        return shown

    async def trouble(self) -> str | None:
        answer = await self._client.ask("state")
        return str(answer) if answer["state"] != "connected" else None

    def read(self, part: Part, rows: list[Row]) -> list[Row]:
        return [self._told(part, row) or {} for row in rows]

    async def close(self) -> None:
        await self._ending.aclose()


def told_of(columns: Mapping[str, frozenset[str]], part: Part, row: Row) -> Row:
    """The told columns of a row; all columns of a row that is made of several tables."""
    told = columns.get(part.table)
    return row if told is None else {name: row[name] for name in row if name in told}


def by_id(rows: list[Row]) -> Rows:
    return {row["id"]: row for row in rows}


def differ(some: Rows, others: Rows) -> str:
    """Where rows differ."""
    lines = [f"only first: {some[key]}" for key in some.keys() - others.keys()]
    lines += [f"only second: {others[key]}" for key in others.keys() - some.keys()]
    for key in some.keys() & others.keys():
        for column in some[key].keys() | others[key].keys():
            one, other = some[key].get(column, "-"), others[key].get(column, "-")
            if one != other:
                lines.append(f"{key}.{column}: {str(one)[:80]!r} and {str(other)[:80]!r}")
    return "\n    ".join(lines[:8])
