"""The payload of a WhatsApp webhook: messages and their statuses, under Meta's names.

What the other fields carry is named where it is read: calls, groups, preferences, the phone app.
Fields and values that are not named are ignored. Each model validates one level and leaves the next
one raw, so that one bad part spoils only its own item.

Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference and
.../business-scoped-user-ids.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import from_json

from rapport.errors import MalformedPayload

HEADER = "X-Hub-Signature-256"


def sign(body: bytes, secret: str) -> str:
    """The header's value for `body`: HMAC-SHA256 with the app's secret.

    Source: developers.facebook.com, "Create a webhook endpoint".
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_well_formed(signature: str) -> bool:
    """Whether the text has the form of Meta's signature; it may be of another body."""
    return re.fullmatch(r"sha256=[0-9a-f]{64}", signature) is not None


def is_signed(body: bytes, signature: str, *secrets: str) -> bool:
    """Whether `signature` belongs to exactly these bytes by one of the secrets.

    All are compared, each in constant time.
    """
    # as bytes: compare_digest accepts only ASCII text, and a header may hold any
    given = signature.encode()
    found = [hmac.compare_digest(sign(body, secret).encode(), given) for secret in secrets]
    return any(found)


# fields of webhooks about the business account itself
ACCOUNT_FIELDS = frozenset(
    {
        "account_alerts",
        "account_review_update",
        "account_settings_update",
        "account_update",
        "business_capability_update",
        "business_status_update",
        "message_template_components_update",
        "message_template_quality_update",
        "message_template_status_update",
        "payment_configuration_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "template_category_update",
        "template_correct_category_detection",
    }
)

# fields of webhooks about groups
GROUP_FIELDS = frozenset(
    {
        "group_lifecycle_update",
        "group_participants_update",
        "group_settings_update",
        "group_status_update",
    }
)

# the type of a message that names no type
UNSUPPORTED = "unsupported"

# the first second of the year 1 and the last of the year 9999
_FIRST = -62_135_596_800
_LAST = 253_402_300_799

# an escaped character in JSON text; a surrogate pair counts as one
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u(?P<unstorable>0000|[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def parse(body: str) -> JsonValue:
    """Parses JSON text.

    U+0000 and lone surrogates, which Postgres can't store, become U+FFFD.

    Raises:
        MalformedPayload: It is not JSON, or is nested more than 200 levels deep.
    """
    storable = _ESCAPE.sub(lambda match: "\\ufffd" if match["unstorable"] else match[0], body)
    try:
        value: JsonValue = from_json(storable, allow_inf_nan=False)
    except ValueError:
        # the parser's own message may quote the body
        raise MalformedPayload("The body is not JSON.") from None
    return value


def _listed(value: object) -> list[object]:
    """Wraps a value that should be a list in a list, so that it is refused like any bad item."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def or_none(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Drops an optional part of a wrong form, since the message is worth keeping."""
    try:
        valid: object = validate(value)
    except ValidationError:
        return None
    return valid


def _or_unsupported(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    valid = or_none(value, validate)
    return UNSUPPORTED if valid is None else valid


def _not_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def as_text(value: object) -> object:
    """An id that may come as a number."""
    return str(value) if type(value) is int else value


def _digits(value: object) -> object:
    """A WhatsApp id; some versions send it as a number or with a plus sign."""
    text = as_text(value)
    return re.sub(r"[+ ()-]", "", text) if isinstance(text, str) else text


def _from_epoch(value: object) -> object:
    """Reads Meta's times: seconds since 1970, as text.

    A time out of range becomes the farthest one; the database then takes the time of arrival.
    """
    text = as_text(value)
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII):
        raise ValueError("not a time in seconds since 1970")
    return datetime.fromtimestamp(min(max(int(text), _FIRST), _LAST), UTC)


def with_whole(value: object) -> object:
    """Adds a part as it came, for the field `whole`."""
    return {**value, "whole": value} if isinstance(value, dict) else value


# an index entry holds at most about 2,700 bytes
Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
OptionalId = Annotated[Id | None, BeforeValidator(_not_blank), WrapValidator(or_none)]
OptionalText = Annotated[str | None, BeforeValidator(_not_blank), WrapValidator(or_none)]
# as identities are stored
WaId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,32}$")]
OptionalWaId = Annotated[WaId | None, BeforeValidator(_digits), WrapValidator(or_none)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=320)]
OptionalUserId = Annotated[UserId | None, BeforeValidator(_not_blank), WrapValidator(or_none)]
Timestamp = Annotated[datetime, BeforeValidator(_from_epoch)]
OptionalTimestamp = Annotated[Timestamp | None, WrapValidator(or_none)]
# of parts that are not validated yet
Listed = Annotated[list[object], BeforeValidator(_listed)]


class Model(BaseModel):
    """A part of a payload; what it does not name is ignored."""

    # a number such as 1e400 would be infinite here, and jsonb has no infinity
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Webhook(Model):
    """The whole body of a webhook."""

    entry: Listed


class AccountEntry(Model):
    """The changes of one WhatsApp Business account."""

    id: Annotated[OptionalId, BeforeValidator(as_text)] = None
    time: Annotated[Timestamp | None, WrapValidator(or_none)] = None
    changes: Listed


class SubscribedChange(Model):
    """A change in one subscribed field."""

    field: Id
    value: object


class Metadata(Model):
    """The business's number that the change concerns."""

    phone_number_id: Annotated[Id, BeforeValidator(as_text)]
    display_phone_number: OptionalWaId = None


class MessageProblem(Model):
    """Why a message failed, or could not be shown."""

    class Data(Model):
        details: OptionalText = None

    code: Annotated[int, Field(ge=0, lt=2**31)]
    title: OptionalText = None
    message: OptionalText = None
    error_data: Annotated[Data | None, WrapValidator(or_none)] = None

    @property
    def sentence(self) -> str | None:
        """The most telling of its texts."""
        details = self.error_data.details if self.error_data else None
        return details or self.message or self.title


class SenderProfile(Model):
    """The profile of a message's sender."""

    class ProfileName(Model):
        name: OptionalText = None
        username: OptionalText = None

    wa_id: OptionalWaId = None
    user_id: OptionalUserId = None
    profile: Annotated[ProfileName | None, WrapValidator(or_none)] = None


class Value(Model):
    """A change of the field `messages` or `smb_message_echoes`."""

    metadata: Metadata
    contacts: Listed = []
    messages: Listed = []
    message_echoes: Listed = []
    statuses: Listed = []
    errors: Listed = []


class TextBody(Model):
    """The text of a message of type `text`."""

    body: str


class MessageContext(Model):
    """The message that this one replies to."""

    id: OptionalId = None


class MessageReaction(Model):
    """An emoji on a message; without an emoji the reaction is removed."""

    message_id: Id
    emoji: OptionalText = None


class MessageEdit(Model):
    """The new text of a message."""

    class Edited(Model):
        type: Id
        text: Annotated[TextBody | None, WrapValidator(or_none)] = None
        # the message as it came
        whole: dict[str, JsonValue]

        @model_validator(mode="before")
        @classmethod
        def _keep_whole(cls, value: object) -> object:
            return with_whole(value)

    original_message_id: Id
    message: Edited


class MessageRevoke(Model):
    """The message that its sender deleted for everybody."""

    original_message_id: Id


class System(Model):
    """A notice by WhatsApp about a customer.

    Before version 12 the new number is `new_wa_id`, and the old one may be `customer`.
    """

    type: OptionalText = None
    body: OptionalText = None
    wa_id: OptionalWaId = None
    new_wa_id: OptionalWaId = None
    customer: OptionalWaId = None
    user_id: OptionalUserId = None
    previous_user_id: OptionalUserId = None


class HistoryContext(Model):
    """The status that a message of the phone app's history had."""

    status: OptionalText = None
    from_me: Annotated[bool | None, WrapValidator(or_none)] = None


class WebhookMessage(Model):
    """One message from a customer, or one that the business sent from the phone app."""

    id: Id
    from_: Annotated[OptionalWaId, Field(alias="from")] = None
    from_user_id: OptionalUserId = None
    to: OptionalWaId = None
    to_user_id: OptionalUserId = None
    group_id: Annotated[OptionalId, BeforeValidator(as_text)] = None
    timestamp: Timestamp
    type: Annotated[Id, WrapValidator(_or_unsupported)] = UNSUPPORTED
    text: Annotated[TextBody | None, WrapValidator(or_none)] = None
    context: Annotated[MessageContext | None, WrapValidator(or_none)] = None
    system: Annotated[System | None, WrapValidator(or_none)] = None
    reaction: Annotated[MessageReaction | None, WrapValidator(or_none)] = None
    edit: Annotated[MessageEdit | None, WrapValidator(or_none)] = None
    revoke: Annotated[MessageRevoke | None, WrapValidator(or_none)] = None
    history_context: Annotated[HistoryContext | None, WrapValidator(or_none)] = None
    # the message as it came
    whole: dict[str, JsonValue]

    @property
    def is_in_unknown_group(self) -> bool:
        """Whether it was sent in a group whose id can't be read."""
        return self.group_id is None and self.whole.get("group_id") not in (None, "")

    @model_validator(mode="before")
    @classmethod
    def _keep_whole(cls, value: object) -> object:
        return with_whole(value)


class Status(Model):
    """The status of one message that we sent."""

    id: Id
    status: Id
    timestamp: Timestamp
    errors: Listed = []
    # the value that we sent with the message
    biz_opaque_callback_data: OptionalText = None
