"""Messages that we send: the allowed type and content of a row, and WhatsApp's body for them.

Source: developers.facebook.com, WhatsApp Cloud API, "Messages" and the page of each type. The outer
fields of each type are checked here, so that a mistake is named before anything is sent. Parts that
WhatsApp changes often (actions, template components) are passed on unchecked.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from rapport.errors import Unprocessable
from rapport.store.outbound import OutboundMessage

Object = dict[str, JsonValue]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4096)]
Caption = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]


class _Content(BaseModel):
    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


class MediaContent(_Content):
    """A file: its id after an upload, or a link from which WhatsApp can fetch it."""

    id: Name | None = None
    link: Link | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MediaContent:
        if (self.id is None) == (self.link is None):
            raise ValueError("Give either the id of an uploaded file or a link")
        return self


class Captioned(MediaContent):
    """An image or a video with a caption."""

    caption: Caption | None = None


class DocumentContent(Captioned):
    """A document; WhatsApp shows its `filename`."""

    filename: Name | None = None


class Audio(MediaContent):
    """A sound file; with `voice` a voice message (Ogg, Opus)."""

    voice: bool | None = None


class LocationContent(_Content):
    """A place, in degrees."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    name: Name | None = None
    address: Name | None = None


class _ContactName(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="allow", hide_input_in_errors=True)

    formatted_name: Name


class ContactCard(BaseModel):
    """A contact: its name, and any other fields that WhatsApp knows."""

    model_config = ConfigDict(defer_build=True, extra="allow", hide_input_in_errors=True)

    name: _ContactName


class _Body(_Content):
    text: Text


class InteractiveContent(_Content):
    """A message with buttons, a list, a link, a flow …; `action` has WhatsApp's own form."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]
    header: Object | None = None
    body: _Body | None = None
    footer: Object | None = None
    action: Object


class ReactionContent(_Content):
    """An emoji for a message, named by our id; an empty emoji removes the reaction."""

    message_id: UUID
    emoji: Annotated[str, StringConstraints(max_length=32)]


class _Language(_Content):
    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(_[A-Za-z0-9]{2,8})*$")]
    policy: Literal["deterministic"] | None = None


def _spelled_out(language: object) -> object:
    """Expands `en_US`, the short form of `{"code": "en_US"}`."""
    return {"code": language} if isinstance(language, str) else language


class TemplateContent(_Content):
    """A template that WhatsApp has approved; `components` hold its variables.

    The database makes them from `variables`, which WhatsApp does not know.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,512}$")]
    language: Annotated[_Language, BeforeValidator(_spelled_out)]
    components: list[Object] | None = None
    variables: Annotated[Object | None, Field(exclude=True)] = None


class ContactsContent(RootModel[Annotated[list[ContactCard], Field(min_length=1, max_length=257)]]):
    """Contacts, up to the number that WhatsApp accepts in one message."""


_CONTENTS: dict[str, type[BaseModel]] = {
    "image": Captioned,
    "video": Captioned,
    "audio": Audio,
    "document": DocumentContent,
    "sticker": MediaContent,
    "location": LocationContent,
    "contacts": ContactsContent,
    "interactive": InteractiveContent,
    "reaction": ReactionContent,
    "template": TemplateContent,
}
_TEXT = TypeAdapter(Text, config=ConfigDict(defer_build=True))


def check_content(type_: str, text: str, content: JsonValue) -> JsonValue:
    """Checks a content and returns it in WhatsApp's form for this type.

    Raises:
        Unprocessable: WhatsApp would refuse it; the error names the field.
    """
    try:
        if type_ == "text":
            return {"body": _TEXT.validate_python(text)}
        if type_ not in _CONTENTS:
            raise Unprocessable(
                "Messages of this type can't be sent.",
                field="type",
                hint=f"Known: text, {', '.join(_CONTENTS)}.",
            )
        valid = _CONTENTS[type_].model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, ("message" if type_ == "text" else "content", *fault["loc"])))
        message = fault["msg"].removeprefix("Value error, ")
        raise Unprocessable(f"{field}: {message}.", field=field) from None
    sent: JsonValue = valid.model_dump(mode="json", exclude_none=True)
    return sent


def request_body(
    message: OutboundMessage, user_id_field: Literal["recipient", "to"] = "recipient"
) -> Object:
    """The body of the request that sends a message.

    Raises:
        Unprocessable: It can't be sent; the error says why, for the operator.
    """
    sent = check_content(message.type, message.text, message.content)
    if message.type == "reaction" and isinstance(sent, dict):
        if message.reaction_to is None:
            raise Unprocessable(
                "The message that gets the reaction is not in this conversation, or was not sent.",
                field="content.message_id",
            )
        sent = {**sent, "message_id": message.reaction_to}
    body: Object = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual" if message.group_id is None else "group",
        **_recipient(message, user_id_field),
        "type": message.type,
        message.type: sent,
        # comes back with every status, which then finds its message even if the answer was lost
        "biz_opaque_callback_data": str(message.message_id),
    }
    # a reaction names its message itself
    if message.reply_to is not None and message.type != "reaction":
        body["context"] = {"message_id": message.reply_to}
    return body


def _recipient(message: OutboundMessage, user_id_field: Literal["recipient", "to"]) -> Object:
    if message.group_id is not None:
        return {"to": message.group_id}
    if message.wa_id is not None:
        return {"to": message.wa_id}
    if message.user_id is not None:
        return {user_id_field: message.user_id}
    raise Unprocessable("The person has neither a number nor a user id on WhatsApp.")
