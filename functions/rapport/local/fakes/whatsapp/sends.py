"""The bodies of POST /{number}/messages, checked as the API checks them.

Source: developers.facebook.com, WhatsApp Cloud API, "Messages".
"""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rapport.local.fakes.whatsapp.errors import GraphError

Wamid = Annotated[str, StringConstraints(pattern=r"^wamid\.")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
UserId = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}$")]


def _digits(value: object) -> object:
    if isinstance(value, str):
        return value.translate(str.maketrans("", "", "+ -()"))
    return value


Number = Annotated[str, BeforeValidator(_digits), StringConstraints(pattern=r"^[0-9]{5,20}$")]
_NUMBER = TypeAdapter[str](Number)
# the types that groups accept, and the categories of their templates
GROUP_TYPES = ("text", "image", "video", "audio", "document", "sticker", "location", "contacts")


class _Part(BaseModel):
    # the API accepts more fields than are modelled here
    model_config = ConfigDict(extra="allow")


class SentContext(_Part):
    message_id: Wamid


class SentText(_Part):
    body: Words


class SentFile(_Part):
    """A file, named by the id of an upload or by a link."""

    id: str | None = None
    link: str | None = None
    caption: Annotated[str, StringConstraints(max_length=1024)] | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.id is None) == (self.link is None):
            raise ValueError("either id or link is needed")
        return self


class SentLocation(_Part):
    latitude: float
    longitude: float
    name: str | None = None


class SentReaction(_Part):
    message_id: Wamid
    # an empty one removes the reaction
    emoji: str


class Body(_Part):
    text: Words


class SentInteractive(_Part):
    type: str
    body: Body | None = None
    action: dict[str, JsonValue]


class Language(_Part):
    code: str


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) else value


class SentComponent(_Part):
    type: str
    # of a button
    index: Annotated[str | None, BeforeValidator(_as_text)] = None
    parameters: list[dict[str, JsonValue]] = Field(default_factory=list)


class SentTemplate(_Part):
    name: str
    language: Language
    components: list[SentComponent] = Field(default_factory=list)


class ContactName(_Part):
    formatted_name: str


class SentContactCard(_Part):
    name: ContactName


TYPES = (
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "interactive",
    "reaction",
    "template",
)
FILES = ("image", "video", "audio", "document", "sticker")


class Send(_Part):
    """A message to one person or to a group; `to` overrides `recipient`."""

    messaging_product: Literal["whatsapp"]
    recipient_type: Literal["individual", "group"] = "individual"
    # a number, or the id of a group
    to: str | None = None
    recipient: UserId | None = None
    type: str = "text"
    context: SentContext | None = None
    biz_opaque_callback_data: Annotated[str, StringConstraints(max_length=512)] | None = None
    text: SentText | None = None
    image: SentFile | None = None
    video: SentFile | None = None
    audio: SentFile | None = None
    document: SentFile | None = None
    sticker: SentFile | None = None
    location: SentLocation | None = None
    contacts: Annotated[list[SentContactCard], Field(min_length=1)] | None = None
    interactive: SentInteractive | None = None
    reaction: SentReaction | None = None
    template: SentTemplate | None = None

    @field_validator("to")
    @classmethod
    def _is_a_number_or_a_group(cls, to: str | None, info: ValidationInfo) -> str | None:
        is_group = info.data.get("recipient_type") == "group"
        return to if to is None or is_group else _NUMBER.validate_python(to)


class TypingIndicator(_Part):
    type: Literal["text"]


class ReadMark(_Part):
    """Marks a customer's message as read; may also show that the business is typing."""

    messaging_product: Literal["whatsapp"]
    status: Literal["read"]
    message_id: Wamid
    typing_indicator: TypingIndicator | None = None


def parse_send(body: dict[str, JsonValue]) -> Send:
    """Reads a message.

    Raises:
        GraphError: 131008 names a missing field, 131009 a wrong one, 131051 an unknown type.
    """
    try:
        send = Send.model_validate(body)
    except ValidationError as error:
        _refuse(error)
    if send.to is None and send.recipient is None:
        raise GraphError(131008, "The parameter to is required.")
    if send.type not in TYPES:
        raise GraphError(131051, f"The type {send.type[:64]!r} is not supported.")
    if send.recipient_type == "group" and send.type not in (*GROUP_TYPES, "reaction", "template"):
        raise GraphError(131051, f"The type {send.type!r} is not supported in groups.")
    if getattr(send, send.type) is None:
        raise GraphError(131008, f"The parameter {send.type} is required.")
    return send


def parse_read(body: dict[str, JsonValue]) -> ReadMark:
    """Reads a request that marks a message as read.

    Raises:
        GraphError: 131008 or 131009, as for a message.
    """
    try:
        return ReadMark.model_validate(body)
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(step) for step in fault["loc"]) or "body"
    if fault["type"] == "missing":
        raise GraphError(131008, f"The parameter {place} is required.") from None
    raise GraphError(131009, f"Parameter {place}: {fault['msg']}.") from None
