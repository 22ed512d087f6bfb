"""What the chat's endpoints take: queries and bodies."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

# A conversation's id, or an older key of account, number and customer.
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Where(_Request):
    """Whose messages: a booking's, or a conversation's."""

    booking_id: Annotated[UUID | None, Field(alias="bookingId")] = None
    conversation_id: Annotated[Reference | None, Field(alias="conversationId")] = None


class Page(Where):
    """Which messages: `limit` of them, those before the seq `before`, or the last ones."""

    before: Annotated[int | None, Field(ge=1, le=2**63 - 1)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    @model_validator(mode="after")
    def _one_place(self) -> Page:
        if (self.booking_id is None) == (self.conversation_id is None):
            raise ValueError("Say which bookingId, or which conversationId")
        return self


class NewMessage(_Request):
    """A message to be written; `content` for every type but text, as WhatsApp takes it."""

    conversation_id: Reference | None = None
    booking_id: UUID | None = None
    type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "text"
    message: Annotated[str | None, StringConstraints(max_length=4096)] = None
    content: JsonValue = None
    reply_to: UUID | None = None
    # the client's own id of it: what is sent again with the same one is written once
    client_ref: Annotated[str | None, StringConstraints(min_length=1, max_length=128)] = None
