"""A customer's action on the phone, as ordered by POST /_fake/inbound."""

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

from rapport.local.fakes.faults import wrong_field
from rapport.local.fakes.whatsapp.media import SIZE_LIMIT
from rapport.local.fakes.whatsapp.sends import UserId

Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
# the kinds of message; an order names exactly one
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
    # in webhook fields other than messages
    "call",
    "marketing",
    "history",
    "phone_book",
    "group_change",
)
# a picture of one pixel, for tests that need any image
PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)


class _InboundPart(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InboundFile(_InboundPart):
    """A file in base64, of at most 16 MB."""

    data: Annotated[Base64Bytes, Field(max_length=SIZE_LIMIT)] = PIXEL
    mime_type: str | None = None
    caption: str | None = None
    filename: str | None = None
    animated: bool | None = None


class InboundLocation(_InboundPart):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    url: str | None = None


class InboundButton(_InboundPart):
    payload: str
    text: str


class InboundReply(_InboundPart):
    id: str
    title: str
    description: str | None = None


class FlowReply(_InboundPart):
    name: str = "flow"
    body: str = "Sent"
    response: dict[str, JsonValue]


class InboundReaction(_InboundPart):
    message_id: str
    # null removes the reaction
    emoji: str | None = None


class NumberChange(_InboundPart):
    new_wa_id: Digits


class InboundEdit(_InboundPart):
    message_id: str
    text: Words


class InboundRevoke(_InboundPart):
    message_id: str


class Other(_InboundPart):
    """A message of a type that the stand-in does not know."""

    type: str
    content: JsonValue = None


class InboundCall(_InboundPart):
    """One event of a call; with `ours` the business calls the customer."""

    event: Literal["connect", "terminate", "ringing", "accepted", "rejected"] = "connect"
    call_id: str | None = None
    ours: bool = False
    # the length of the call; a call that ends without it was missed
    seconds: Annotated[int, Field(ge=0)] | None = None


class Past(_InboundPart):
    """A text in the phone app's history."""

    text: Words
    ours: bool = False
    provider_id: str | None = None
    at: datetime | None = None
    status: Literal["DELIVERED", "ERROR", "PENDING", "PLAYED", "READ", "SENT"] = "READ"


class InboundPhoneBookEntry(_InboundPart):
    """A change of the customer's entry in the phone app's phone book."""

    action: Literal["add", "remove"] = "add"


class GroupChange(_InboundPart):
    """A change of the group `group_id`; the customer is the one who joins or leaves."""

    event: Literal["create", "delete", "suspend", "unsuspend", "rename", "join", "leave"]
    name: str | None = None


class Inbound(_InboundPart):
    """One action of a customer: the person, the number, and exactly one of the kinds.

    With `echo` the business wrote the message in the phone app to this customer. Calls, marketing
    choices, history, phone book entries and group changes are not messages and have webhook fields
    of their own.
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
    # the ad that brought the customer
    referral: dict[str, JsonValue] | None = None
    group_id: str | None = None
    echo: bool = False

    text: Words | None = None
    image: InboundFile | None = None
    video: InboundFile | None = None
    audio: InboundFile | None = None
    voice: InboundFile | None = None
    document: InboundFile | None = None
    sticker: InboundFile | None = None
    location: InboundLocation | None = None
    contacts: list[dict[str, JsonValue]] | None = None
    button: InboundButton | None = None
    button_reply: InboundReply | None = None
    list_reply: InboundReply | None = None
    flow_reply: FlowReply | None = None
    reaction: InboundReaction | None = None
    order: dict[str, JsonValue] | None = None
    number_change: NumberChange | None = None
    edit: InboundEdit | None = None
    revoke: InboundRevoke | None = None
    unsupported: Literal[True] | None = None
    other: Other | None = None
    call: InboundCall | None = None
    marketing: Literal["stop", "resume"] | None = None
    history: Annotated[list[Past], Field(min_length=1, max_length=1000)] | None = None
    phone_book: InboundPhoneBookEntry | None = None
    group_change: GroupChange | None = None

    @model_validator(mode="after")
    def _is_one_message_of_somebody(self) -> Self:
        if self.sender is None and self.user_id is None:
            raise wrong_field("from", "from or user_id is needed")
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if not given:
            raise wrong_field("text", f"exactly one of {', '.join(KINDS)} is needed")
        if len(given) > 1:
            raise wrong_field(given[1], f"{' and '.join(given)} are given: give one of them")
        if self.group_change is not None and self.group_id is None:
            raise wrong_field("group_id", "group_id is needed")
        if self.sender is None and (self.history or self.phone_book):
            raise wrong_field("from", "from is needed: the phone app knows people by number")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)
