"""What a message says, and what it does to another one."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from rapport.webhook_rows import EffectItem
from rapport.whatsapp.placeholder import placeholder
from rapport.whatsapp.webhook import Edit, Message

TEXT_LIMIT = 65_536  # characters; WhatsApp's own limit is 4,096
EMOJI_LIMIT = 64

# what a text has that is nothing but a text
_PLAIN = {
    *("id", "from", "from_user_id", "to", "to_user_id", "timestamp", "type", "text", "context"),
    "history_context",
}
_PLAIN_CONTEXT = {"id", "from", "from_user_id"}


def words_of(message: Message | Edit.Edited) -> str | None:
    """What a person reads of it; None for a text without any."""
    if message.type != "text":
        return placeholder(message.type, message.whole)[:TEXT_LIMIT]
    return message.text.body[:TEXT_LIMIT] if message.text else None


def content_of(message: Message) -> dict[str, JsonValue] | None:
    """The message as it came, unless a text is all there is: an ad or a group may come with it."""
    context = message.whole.get("context")
    is_plain = (
        message.type == "text"
        and message.whole.keys() <= _PLAIN
        and (not isinstance(context, dict) or context.keys() <= _PLAIN_CONTEXT)
    )
    return None if is_plain else message.whole


def effect_of(
    message: Message, number: str, sender_type: Literal["client", "operator"]
) -> EffectItem | None:
    """What is done to another message; None where this is a message, or not understood."""
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
    # as a message's sender in a group: the number first
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
