"""Parts of a payload. Each is validated alone, so that one bad part spoils only its own item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from rapport.store.webhooks import EffectItem, Item, SkippedItem
from rapport.whatsapp.placeholder import placeholder
from rapport.whatsapp.webhook import MessageEdit, SenderProfile, WebhookMessage

TEXT_LIMIT = 65_536  # characters; WhatsApp's own limit is 4,096
EMOJI_LIMIT = 64

# fields of a text message that hold nothing but the text
_PLAIN = {
    *("id", "from", "from_user_id", "to", "to_user_id", "timestamp", "type", "text", "context"),
    "history_context",
}
_PLAIN_CONTEXT = {"id", "from", "from_user_id"}


def words_of(message: WebhookMessage | MessageEdit.Edited) -> str | None:
    """The text that a person reads; None for a message without text."""
    if message.type != "text":
        return placeholder(message.type, message.whole)[:TEXT_LIMIT]
    return message.text.body[:TEXT_LIMIT] if message.text else None


def content_of(message: WebhookMessage) -> dict[str, JsonValue] | None:
    """The message as it came; None for a plain text. An ad or a group makes it more than that."""
    context = message.whole.get("context")
    is_plain = (
        message.type == "text"
        and message.whole.keys() <= _PLAIN
        and (not isinstance(context, dict) or context.keys() <= _PLAIN_CONTEXT)
    )
    return None if is_plain else message.whole


def effect_of(
    message: WebhookMessage, number: str, sender_type: Literal["client", "operator"]
) -> EffectItem | None:
    """The change of another message that this one asks for; None for an ordinary message."""
    type_: Literal["reaction", "edit", "revoke"]
    text = None
    content = None
    if message.type == "reaction" and message.reaction:
        type_ = "reaction"
        parent = message.reaction.message_id
        text = message.reaction.emoji and message.reaction.emoji[:EMOJI_LIMIT]
    elif message.type == "edit" and message.edit:
        type_ = "edit"
        parent = message.edit.original_message_id
        text = words_of(message.edit.message)
        content = message.edit.message.whole
        if text is None:
            return None
    elif message.type == "revoke" and message.revoke:
        type_ = "revoke"
        parent = message.revoke.original_message_id
    else:
        return None
    # in a group the sender is identified by number first, as elsewhere
    sender = message.from_ or message.from_user_id if message.group_id else None
    return EffectItem(
        phone_number_id=number,
        provider_id=message.id,
        type=type_,
        reply_to=parent,
        sender_type=sender_type,
        sender_id=sender if sender_type == "client" else None,
        sent_at=message.timestamp,
        text=text,
        content=content,
    )


M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

NAME_LIMIT = 200
DETAIL_LIMIT = 500
OBJECT = TypeAdapter[dict[str, JsonValue]](
    # as in the models: jsonb has no infinity
    dict[str, JsonValue],
    config=ConfigDict(allow_inf_nan=False, defer_build=True),
)
_CONTACT = TypeAdapter[SenderProfile](SenderProfile)


def each_of(
    model: type[M],
    parts: Sequence[object],
    reason: str,
    items_of_part: Callable[[M], Iterator[Item]],
) -> Iterator[Item]:
    """The items of all valid parts; an invalid part becomes a skipped item with `reason`."""
    for part in parts:
        try:
            valid = model.model_validate(part)
        except ValidationError as error:
            yield skipped(reason, faults_of(error))
        else:
            yield from items_of_part(valid)


def valid_of(adapter: TypeAdapter[T], parts: Sequence[object]) -> list[T]:
    """The valid parts; for data without which the item is still complete."""
    valid = []
    for part in parts:
        try:
            valid.append(adapter.validate_python(part))
        except ValidationError:
            continue
    return valid


def contacts_of(parts: Sequence[object]) -> dict[str | None, SenderProfile]:
    """The profiles by either id. Some messages come without a profile, others with several."""
    return {
        id_: contact
        for contact in valid_of(_CONTACT, parts)
        for id_ in (contact.wa_id, contact.user_id)
        if id_
    }


def profile_name(contact: SenderProfile) -> str | None:
    """The name that a person chose, in a form that can be stored."""
    name = contact.profile.name if contact.profile else None
    return name and name[:NAME_LIMIT]


def faults_of(error: ValidationError) -> str:
    """Where and how a part is wrong, without its values."""
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc']) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )


def skipped(reason: str, detail: str) -> SkippedItem:
    """An item that says that a part was skipped, and why."""
    return SkippedItem(reason=reason, detail=detail[:DETAIL_LIMIT])
