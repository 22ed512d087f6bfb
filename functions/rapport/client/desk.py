"""What a team follows at its desk: notes, who has a conversation, labels, saved replies.

Staff alone see these rows, and the account's topic alone tells them.
"""

from __future__ import annotations

from typing import Unpack
from uuid import UUID

from pydantic import AwareDatetime, JsonValue

from rapport.client.catch_up import CatchUp
from rapport.client.rows import Row
from rapport.client.sources import TableSource
from rapport.client.subscription import RowCallbacks, Subscription
from rapport.client.topics import Scope


class Note(Row):
    """A row of `conversation_notes`; `seq` counts 1, 2, 3 … in its conversation, without messages.

    `kind` is note, which a person wrote, or event, whose facts are in `event`.
    """

    conversation_id: UUID
    seq: int
    kind: str
    author_id: UUID | None = None
    author_name: str | None = None
    note: str
    mentions: list[UUID]
    event: JsonValue = None
    deleted_at: AwareDatetime | None = None
    created_at: AwareDatetime


class DeskState(Row):
    """A row of `desk_states`, with the conversation's id: who answers, and until when it waits."""

    assignee_id: UUID | None = None
    snoozed_until: AwareDatetime | None = None
    created_at: AwareDatetime


class Label(Row):
    """A row of `labels`."""

    name: str
    colour: str
    created_at: AwareDatetime


class ConversationLabel(Row):
    """A row of `conversation_labels`: a label that a conversation has."""

    conversation_id: UUID
    label_id: UUID
    created_at: AwareDatetime


class SavedReply(Row):
    """A row of `saved_replies`; its text may have variables such as `{{contact.name}}`."""

    short_code: str
    title: str | None = None
    text: str
    created_at: AwareDatetime


class Desk:
    """The subscriptions of a team, as `LiveClient.desk`."""

    def __init__(self, catch_up: CatchUp) -> None:
        self._catch_up = catch_up

    def notes(
        self, conversation_id: UUID, **callbacks: Unpack[RowCallbacks[Note]]
    ) -> Subscription[Note]:
        """Notes of one conversation, and what happened to it at the desk."""
        source = TableSource(
            "conversation_notes",
            Note,
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
