"""Queries and bodies of the chat's endpoints."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import (
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)

from rapport.api_json import ApiRequest, snake

Seq = Annotated[int, Field(ge=1, le=2**63 - 1)]


# A conversation's id, or an older key made of account, number and customer.
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Where(ApiRequest):
    """The chat: of a booking, of a conversation, or of a customer in the portal."""

    booking_id: UUID | None = None
    conversation_id: Reference | None = None
    customer_id: UUID | None = None

    def or_else(self, other: Where) -> Where:
        """This place, completed from the other one."""
        return Where(
            booking_id=self.booking_id or other.booking_id,
            conversation_id=self.conversation_id or other.conversation_id,
            customer_id=self.customer_id or other.customer_id,
        )

    def is_one_place(self) -> bool:
        """Whether exactly one chat is named."""
        named = (self.booking_id, self.conversation_id, self.customer_id)
        return sum(place is not None for place in named) == 1


class ConversationPath(ApiRequest):
    """A conversation in an address."""

    id: Reference


class MessagePath(ApiRequest):
    """A message in an address."""

    id: UUID


class MessagePage(Where):
    """A page of messages: up to `limit`, by seq.

    With `before`, those before it, latest first; with `after`, those after it, earliest first; with
    neither, the latest.
    """

    before: Seq | None = None
    after: Annotated[int | None, Field(ge=0, le=2**63 - 1)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    @model_validator(mode="after")
    def _one_place(self) -> MessagePage:
        if not self.is_one_place():
            raise ValueError("Give exactly one of bookingId, conversationId and customerId")
        if self.before is not None and self.after is not None:
            raise ValueError("Give before or after, not both")
        return self


class ReadUpTo(ApiRequest):
    """Up to which seq a user has read; without a seq, all messages."""

    up_to_seq: Seq | None = None


class WrittenPhone(ApiRequest):
    """A phone number as a person has written it; in which account, if the user is its staff."""

    phone: Annotated[str, StringConstraints(max_length=300)]
    account_id: UUID | None = None


class NewMessage(Where):
    """A new message; `content` is WhatsApp's, for every type except text."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "text"
    message: Annotated[str | None, StringConstraints(max_length=4096)] = None
    content: JsonValue = None
    reply_to: UUID | None = None
    # the client's own id of the message: a repetition with the same id is not written again
    client_ref: Annotated[str | None, StringConstraints(min_length=1, max_length=128)] = None
    # the invoice that staff show with the message, as {invoiceId}
    has_invoice: bool = False
    invoice_data: dict[str, JsonValue] | None = None

    @field_validator("content")
    @classmethod
    def _file_that_is_announced(cls, content: JsonValue) -> JsonValue:
        """`uploadId` is ours and not WhatsApp's; within `content` the database says upload_id."""
        if isinstance(content, dict) and "uploadId" in content:
            return {"upload_id" if name == "uploadId" else name: content[name] for name in content}
        return content

    @field_validator("invoice_data")
    @classmethod
    def _in_the_databases_names(cls, data: JsonValue) -> JsonValue:
        return snake(data)

    @model_validator(mode="after")
    def _invoice_that_it_has(self) -> NewMessage:
        if self.has_invoice and self.invoice_data is None:
            raise ValueError("Give the invoiceId in invoiceData")
        return self
