"""What the chat's endpoints take: queries and bodies."""

from __future__ import annotations

import math
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

Seq = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _check_storable(value: object) -> None:
    """Refuses what JSON can hold and Postgres can't."""
    match value:
        case str() if "\x00" in value:
            raise ValueError("The character NUL can't be kept")
        case float() if not math.isfinite(value):
            raise ValueError("A number is too large")
        case list():
            for element in value:
                _check_storable(element)
        case dict():
            for key, element in value.items():
                _check_storable(key)
                _check_storable(element)
        case _:
            pass


def _storable(value: str) -> str:
    _check_storable(value)
    return value


# A conversation's id, or an older key of account, number and customer.
Reference = Annotated[
    str, StringConstraints(min_length=1, max_length=128), AfterValidator(_storable)
]


class _ChatRequest(BaseModel):
    # names as the tables have them, or as JavaScript writes them; errors name the former
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        loc_by_alias=False,
    )

    @field_validator("*")
    @classmethod
    def _can_be_stored(cls, value: object) -> object:
        _check_storable(value)
        return value


class Where(_ChatRequest):
    """Whose messages: a booking's, a conversation's, or a customer's in the portal."""

    booking_id: UUID | None = None
    conversation_id: Reference | None = None
    customer_id: UUID | None = None

    def or_else(self, other: Where) -> Where:
        """What this one names, and what the other one names besides."""
        return Where(
            booking_id=self.booking_id or other.booking_id,
            conversation_id=self.conversation_id or other.conversation_id,
            customer_id=self.customer_id or other.customer_id,
        )

    def is_one_place(self) -> bool:
        """Whether one place is named, and not two."""
        named = (self.booking_id, self.conversation_id, self.customer_id)
        return sum(place is not None for place in named) == 1


class MessagePage(Where):
    """Which messages: `limit` of them, by seq.

    Those before `before`, the last ones first, or those after `after`, the first ones first;
    with neither the last ones.
    """

    before: Seq | None = None
    after: Annotated[int | None, Field(ge=0, le=2**63 - 1)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    @model_validator(mode="after")
    def _one_place(self) -> MessagePage:
        if not self.is_one_place():
            raise ValueError("Say which bookingId, which conversationId or which customerId")
        if self.before is not None and self.after is not None:
            raise ValueError("Say before or after")
        return self


class ReadUpTo(_ChatRequest):
    """How far somebody has read; without a seq all that there is."""

    up_to_seq: Seq | None = None


class NewMessage(Where):
    """A message to be written; `content` for every type but text, as WhatsApp takes it."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "text"
    message: Annotated[str | None, StringConstraints(max_length=4096)] = None
    content: JsonValue = None
    reply_to: UUID | None = None
    # the client's own id of it: what is sent again with the same one is written once
    client_ref: Annotated[str | None, StringConstraints(min_length=1, max_length=128)] = None
    # the invoice that staff show with it: {invoice_id} is enough
    has_invoice: bool = False
    invoice_data: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _invoice_that_it_has(self) -> NewMessage:
        if self.has_invoice and self.invoice_data is None:
            raise ValueError("Say in invoiceData which invoice_id")
        return self
