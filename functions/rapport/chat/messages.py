"""Reading and writing messages as one user."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pydantic import JsonValue

from rapport.chat.requests import NewMessage, Page, Where
from rapport.errors import Unprocessable
from rapport.user_store import Row, UserStore
from rapport.whatsapp.outgoing import check_content
from rapport.whatsapp.placeholder import placeholder


def list_messages(store: UserStore, page: Page) -> dict[str, JsonValue]:
    """A page of a conversation: {messages, next_before}, the latest first.

    `next_before` asks for the page before this one; null where there is none.
    """
    conversation_id = _conversation(store, page.booking_id, page.conversation_id)
    rows = store.messages(conversation_id, page.before, page.limit + 1)
    shown: list[JsonValue] = list(rows[: page.limit])
    more = len(rows) > page.limit
    return {"messages": shown, "next_before": rows[page.limit - 1]["seq"] if more else None}


def write_message(store: UserStore, new: NewMessage, where: Where) -> Row:
    """Writes a message, once for its client_ref, and returns it.

    Raises:
        Unprocessable: It says nowhere or twice where to, or it can't be sent so.
    """
    booking_id = new.booking_id or where.booking_id
    reference = new.conversation_id or where.conversation_id
    if (booking_id is None) == (reference is None):
        raise Unprocessable(
            "Say which booking_id, or which conversation_id.", field="conversation_id"
        )
    if new.type == "text":
        text, content = new.message or "", None
        if new.content is not None:
            raise Unprocessable("A text has no content.", field="content")
        check_content("text", text, None)
    else:
        check_content(new.type, "", new.content)
        content = new.content
        text = new.message or _words(new.type, content)
    return store.post_message(
        _conversation(store, booking_id, reference),
        text,
        new.type,
        content,
        new.reply_to,
        new.client_ref,
    )


def _conversation(store: UserStore, booking_id: UUID | None, reference: str | None) -> UUID:
    if booking_id is not None:
        return store.booking_conversation(booking_id)
    return store.resolve_conversation(reference or "")


def _words(type_: str, content: JsonValue) -> str:
    """The line that people read in place of what is no text."""
    if type_ == "template" and isinstance(content, Mapping):
        return f"[template] {content.get('name')}"
    if type_ == "interactive" and isinstance(content, Mapping):
        body = content.get("body")
        return str(body.get("text")) if isinstance(body, Mapping) else "[interactive]"
    return placeholder(type_, {type_: content})
