"""What a team follows at its desk: notes, who has a conversation, labels, saved replies, health.

Staff alone see these rows, and the account's topic alone tells them.
"""

from __future__ import annotations

from typing import Unpack
from uuid import UUID

from rapport.client.catch_up import CatchUp
from rapport.client.database import (
    AccountHealth,
    ConversationLabel,
    ConversationNote,
    DeskState,
    Label,
    SavedReply,
)
from rapport.client.sources import TableSource
from rapport.client.subscription import RowCallbacks, Subscription
from rapport.client.topics import Scope


class Desk:
    """The subscriptions of a team, as `LiveClient.desk`."""

    def __init__(self, catch_up: CatchUp) -> None:
        self._catch_up = catch_up

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
