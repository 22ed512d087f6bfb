"""What a team follows at its desk: the inbox, notes, who has a conversation, labels, saved replies,
what is sent later, reminders, the sync and health.

Staff alone see these rows, and the account's topic alone tells them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Unpack
from uuid import UUID

from pydantic import TypeAdapter

from rapport.client.asked import AskedList, AskedSubscription
from rapport.client.catch_up import CatchUp
from rapport.client.database import (
    AccountHealth,
    ConversationLabel,
    ConversationNote,
    DeskState,
    Label,
    ReminderRule,
    SavedReply,
    ScheduledMessage,
    SyncConflict,
    SyncRun,
)
from rapport.client.inbox import InboxCallbacks, InboxFilter, InboxSubscription
from rapport.client.reminders import Reminder, ReminderSubscription
from rapport.client.server import Server
from rapport.client.sources import LatestSource, TableSource
from rapport.client.subscription import RowCallbacks, Subscription
from rapport.client.timing import Timing
from rapport.client.topics import Scope

# of the tables that only grow
_SCHEDULED = 500
_RUNS = 100
_QUESTIONS = 200
_CONFLICTS = TypeAdapter(list[SyncConflict])


class Desk:
    """The subscriptions of a team, as `LiveClient.desk`."""

    def __init__(self, catch_up: CatchUp, server: Server, timing: Timing) -> None:
        self._catch_up = catch_up
        self._server = server
        self._timing = timing

    def inbox(
        self,
        account_id: UUID | None = None,
        wanted: InboxFilter | None = None,
        *,
        page_size: int = 50,
        **callbacks: Unpack[InboxCallbacks],
    ) -> InboxSubscription:
        """Conversations, the latest first: a page, and further ones by `load_more`. A user who
        works for one account need not name it; one who works for none sees none.
        """
        return InboxSubscription(
            self._catch_up,
            self._server,
            self._timing,
            account_id,
            wanted or InboxFilter(),
            page_size,
            **callbacks,
        )

    def notes(
        self, conversation_id: UUID, **callbacks: Unpack[RowCallbacks[ConversationNote]]
    ) -> Subscription[ConversationNote]:
        """Notes of one conversation, and what happened to it at the desk."""
        source = TableSource(
            "conversation_notes",
            ConversationNote,
            Scope(),
            key="seq",
            equals={"conversation_id": conversation_id},
        )
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def states(self, **callbacks: Unpack[RowCallbacks[DeskState]]) -> Subscription[DeskState]:
        """Who answers which conversation, and which wait; a conversation without a row is free."""
        source = TableSource("desk_states", DeskState, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def labels(self, **callbacks: Unpack[RowCallbacks[Label]]) -> Subscription[Label]:
        """The labels of the user's accounts."""
        source = TableSource("labels", Label, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def conversation_labels(
        self, **callbacks: Unpack[RowCallbacks[ConversationLabel]]
    ) -> Subscription[ConversationLabel]:
        """Which conversations have which labels."""
        source = TableSource("conversation_labels", ConversationLabel, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def saved_replies(
        self, **callbacks: Unpack[RowCallbacks[SavedReply]]
    ) -> Subscription[SavedReply]:
        """The saved replies of the user's accounts."""
        source = TableSource("saved_replies", SavedReply, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def health(
        self, **callbacks: Unpack[RowCallbacks[AccountHealth]]
    ) -> Subscription[AccountHealth]:
        """What is wrong with the user's accounts at the moment."""
        source = TableSource("account_health", AccountHealth, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def scheduled_messages(
        self,
        conversation_id: UUID | None = None,
        **callbacks: Unpack[RowCallbacks[ScheduledMessage]],
    ) -> Subscription[ScheduledMessage]:
        """What is sent later in a conversation; without one, of each account the 500 with the
        latest times, sent ones among them.
        """
        table = "scheduled_messages"
        source = (
            LatestSource(table, ScheduledMessage, "send_at", _SCHEDULED)
            if conversation_id is None
            else TableSource(
                table, ScheduledMessage, Scope(), equals={"conversation_id": conversation_id}
            )
        )
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def reminder_rules(
        self, **callbacks: Unpack[RowCallbacks[ReminderRule]]
    ) -> Subscription[ReminderRule]:
        """The rules by which customers are reminded."""
        source = TableSource("reminder_rules", ReminderRule, Scope())
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def reminders(
        self,
        account_id: UUID,
        until: timedelta = timedelta(days=7),
        *,
        page_size: int = 50,
        **callbacks: Unpack[RowCallbacks[Reminder]],
    ) -> ReminderSubscription:
        """The reminders that an account's rules will send from now on, the earliest first: a page,
        and further ones by `load_more`. One that will not be sent says why not.
        """
        return ReminderSubscription(
            self._catch_up, self._server, self._timing, account_id, until, page_size, **callbacks
        )

    def sync_runs(self, **callbacks: Unpack[RowCallbacks[SyncRun]]) -> Subscription[SyncRun]:
        """The latest 100 runs of the sync of each account, with their progress."""
        source = LatestSource("sync_runs", SyncRun, "created_at", _RUNS)
        return Subscription(self._catch_up, source, Scope(), **callbacks)

    def sync_questions(
        self, **callbacks: Unpack[RowCallbacks[SyncConflict]]
    ) -> AskedSubscription[SyncConflict]:
        """The latest 200 open questions that the sync could not decide. They are asked for as the
        sync goes on and as contacts change; after an answer of your own call `refresh`.
        """

        async def read(server: Server) -> list[SyncConflict]:
            open_ones = await server.latest(
                "sync_conflicts", {"state": "open"}, "created_at", _QUESTIONS
            )
            return _CONFLICTS.validate_python(open_ones)

        source = AskedList(("sync_runs", "contacts"), read)
        return AskedSubscription(
            self._catch_up, self._server, self._timing, source, pause=1, **callbacks
        )
