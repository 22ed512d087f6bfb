"""What a customer does on their phone, as POST /_fake/inbound is told of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from rapport.local.graph.media import SIZE_LIMIT
from rapport.local.graph.sends import UserId

Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
# what a message can be; an order says exactly one of them
KINDS = (
    "text",
    "image",
    "video",
    "audio",
    "voice",
    "document",
    "sticker",
    "location",
    "contacts",
    "button",
    "button_reply",
    "list_reply",
    "flow_reply",
    "reaction",
    "order",
    "number_change",
    "edit",
    "revoke",
    "unsupported",
    "other",
)
# a picture of one pixel, for those who only want "an image"
PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class File(_Part):
    """A file in base64, of at most 16 MB."""

    data: Annotated[Base64Bytes, Field(max_length=SIZE_LIMIT)] = PIXEL
    mime_type: str | None = None
    caption: str | None = None
    filename: str | None = None
    animated: bool | None = None


class Location(_Part):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    url: str | None = None


class Button(_Part):
    payload: str
    text: str


class Reply(_Part):
    id: str
    title: str
    description: str | None = None


class FlowReply(_Part):
    name: str = "flow"
    body: str = "Sent"
    response: dict[str, JsonValue]


class Reaction(_Part):
    message_id: str
    # null: taken back
    emoji: str | None = None


class NumberChange(_Part):
    new_wa_id: Digits


class Edit(_Part):
    message_id: str
    text: Words


class Revoke(_Part):
    message_id: str


class Other(_Part):
    """A type that came after this was written."""

    type: str
    content: JsonValue = None


class Inbound(_Part):
    """One message of a customer's: who, to which number, and exactly one of the kinds.

    With `echo` the business wrote it, in the phone app, to that customer.
    """

    phone_number_id: Digits
    sender: Annotated[Digits | None, Field(alias="from")] = None
    user_id: UserId | None = None
    username: str | None = None
    name: str = "Customer"
    provider_id: str | None = None
    at: datetime | None = None
    reply_to: str | None = None
    forwarded: bool = False
    # where an ad brought the customer from
    referral: dict[str, JsonValue] | None = None
    group_id: str | None = None
    echo: bool = False

    text: Words | None = None
    image: File | None = None
    video: File | None = None
    audio: File | None = None
    voice: File | None = None
    document: File | None = None
    sticker: File | None = None
    location: Location | None = None
    contacts: list[dict[str, JsonValue]] | None = None
    button: Button | None = None
    button_reply: Reply | None = None
    list_reply: Reply | None = None
    flow_reply: FlowReply | None = None
    reaction: Reaction | None = None
    order: dict[str, JsonValue] | None = None
    number_change: NumberChange | None = None
    edit: Edit | None = None
    revoke: Revoke | None = None
    unsupported: Literal[True] | None = None
    other: Other | None = None

    @model_validator(mode="after")
    def _is_one_message_of_somebody(self) -> Self:
        if self.sender is None and self.user_id is None:
            raise ValueError("from or user_id says who it is")
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"exactly one of {', '.join(KINDS)} is needed")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)
