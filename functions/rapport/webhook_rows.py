"""What webhooks of WhatsApp are to the database: their items, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # of the WhatsApp Business account that the webhook is about: who is told if it is rejected
    waba_id: str | None = None


class MessageItem(_Item):
    """A message from a customer; one of `wa_id` and `user_id` is known.

    An echo is a message of ours to that customer, sent from the phone app.
    """

    kind: Literal["message", "echo"] = "message"
    phone_number_id: str
    provider_id: str
    wa_id: str | None
    # business-scoped: another business knows the same person by another
    user_id: str | None
    username: str | None
    profile_name: str | None
    sent_at: datetime
    type: str
    text: str
    # the message as it came, unless it is a text and nothing else
    content: dict[str, JsonValue] | None
    reply_to: str | None


class SystemItem(_Item):
    """A message of WhatsApp's own about a customer, who is named as in `MessageItem`.

    `new_wa_id` and `new_user_id` take the place of `wa_id` and `user_id`; where they are
    null nothing changes.
    """

    kind: Literal["system"] = "system"
    phone_number_id: str
    provider_id: str
    wa_id: str | None
    user_id: str | None
    new_wa_id: str | None
    new_user_id: str | None
    sent_at: datetime
    type: Literal["system"] = "system"
    text: str
    # the message as it came
    content: dict[str, JsonValue]


class StatusItem(_Item):
    """What became of a message that we sent."""

    kind: Literal["status"] = "status"
    phone_number_id: str
    provider_id: str
    status: Literal["sent", "delivered", "read", "failed"]
    at: datetime
    error_code: int | None
    error_message: str | None
    # what we called the message when we sent it
    message_ref: UUID | None


class EffectItem(_Item):
    """What somebody does to the message `reply_to`: a reaction, an edit, a deletion."""

    kind: Literal["effect"] = "effect"
    phone_number_id: str
    provider_id: str
    type: Literal["reaction", "edit", "revoke"]
    reply_to: str
    sender_type: Literal["client", "operator"]
    # who of a group; None elsewhere
    sender_id: str | None
    sent_at: datetime
    # the emoji, None where it is taken back; the new text
    text: str | None
    # of an edit the new message as it came
    content: dict[str, JsonValue] | None


class AccountEventItem(_Item):
    """What WhatsApp says of an account, which is known by one of the two ids."""

    kind: Literal["account_event"] = "account_event"
    phone_number_id: str | None
    # the webhook's field
    type: str
    at: datetime | None
    content: dict[str, JsonValue]


class SkippedItem(_Item):
    """A part of a webhook that is none of these; it is recorded and blocks nothing."""

    kind: Literal["skipped"] = "skipped"
    reason: str
    detail: str


Item = MessageItem | SystemItem | StatusItem | EffectItem | AccountEventItem | SkippedItem


class Rejection(BaseModel):
    """An item that the database could not apply, by its place among the items."""

    index: int
    reason: str
    # whose it was, as far as the webhook says
    phone_number_id: str | None = None
    waba_id: str | None = None


class IngestResult(BaseModel):
    """What became of a webhook: its raw event's id, and how its items fared."""

    event_id: int
    applied: int
    duplicates: int
    rejected: list[Rejection]


class ReplayResult(IngestResult):
    """What became of a stored webhook that was parsed anew: also how many messages changed."""

    corrected: int


class RawEvent(BaseModel):
    """A webhook as it was stored."""

    id: int
    body: str


class EventSpan(BaseModel):
    """The raw events of a span of time; without any there are no ids."""

    events: int
    first_id: int | None
    last_id: int | None
