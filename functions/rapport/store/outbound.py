"""The queue of messages to WhatsApp, as its workers see it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class OutboundMessage(Deferred):
    """A message that is to be sent by WhatsApp now."""

    message_id: UUID
    account_id: UUID
    conversation_id: UUID
    phone_number_id: str
    # of a group, instead of the next two
    group_id: str | None = None
    # the exact spelling to which replies go; without it the person is known by `user_id` alone
    wa_id: str | None
    user_id: str | None
    type: str
    text: str
    # what WhatsApp takes under the name of the type; none for text
    content: JsonValue
    # WhatsApp's ids: of the answered message, and of the message that gets the reaction
    reply_to: str | None
    reaction_to: str | None


class Claim(Deferred):
    """Messages leased to one worker, and when there will be others, as far as is known."""

    claimed: list[OutboundMessage]
    next_at: datetime | None


class OutboundStore(Store):
    """Messages are claimed, begun and settled, each by one worker; calls raise as `Store` says."""

    def claim_outbound(self, worker: str, batch: int) -> Claim:
        """Leases up to `batch` messages for a minute, one a conversation, to `worker`.

        The name is to be a new one each time: it is by it that they are begun and settled. What
        was leased by a call that raises is free in a minute.
        """
        answer = self._call("claim_outbound", {"worker": worker, "batch": batch})
        return understood(Claim, answer)

    def begin_send(self, message_id: UUID, worker: str) -> bool:
        """Notes that a message is about to be sent; False where it must not be."""
        return self._call("begin_send", {"message_id": str(message_id), "worker": worker}) is True

    def settle_send(self, message_id: UUID, worker: str, outcome: dict[str, JsonValue]) -> str:
        """Notes what became of the call; answers what follows.

        `outcome` holds outcome (accepted, refused or unknown), and with accepted provider_id,
        with refused code, details and retry_after in seconds. Repeating it changes nothing.
        """
        return str(
            self._call("settle_send", {"message_id": str(message_id), "worker": worker, **outcome})
        )
