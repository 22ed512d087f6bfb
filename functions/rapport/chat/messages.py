"""Reads and writes messages as one user."""

from __future__ import annotations

from uuid import UUID

from pydantic import JsonValue

from rapport.chat.requests import MessagePage, NewMessage, Where
from rapport.errors import Unprocessable
from rapport.log import about
from rapport.store.chat import ChatStore
from rapport.store.postgrest import Row


def list_messages(store: ChatStore, page: MessagePage, *, as_staff: bool) -> dict[str, JsonValue]:
    """A page of a conversation: {messages, next_before}, latest first.

    With `after` it is {messages, next_after}, earliest first. The second value asks for the next
    page and is null after the last one.

    Raises:
        NotAllowed: `as_staff` is asked for by a user who is not staff.
    """
    conversation_id = _conversation(store, page)
    about(conversation_id=conversation_id)
    if as_staff:
        store.require_staff(conversation_id, page.customer_id)
    rows: list[Row] = []
    # in the portal there may be no message yet, and so no conversation
    if conversation_id is not None:
        rows = store.messages(conversation_id, page.before, page.after, page.limit + 1)
    shown: list[JsonValue] = list(rows[: page.limit])
    more = rows[page.limit - 1]["seq"] if len(rows) > page.limit else None
    return {"messages": shown, "next_before" if page.after is None else "next_after": more}


def write_message(store: ChatStore, new: NewMessage, where: Where, *, as_staff: bool) -> Row:
    """Writes a message, once for its `client_ref`, and returns it.

    Raises:
        Unprocessable: No chat or several chats are named, or the message can't be sent.
        NotAllowed: `as_staff` is asked for by a user who is not staff.
    """
    place = new.or_else(where)
    if not place.is_one_place():
        raise Unprocessable(
            "Give bookingId, conversationId or customerId.",
            field="conversation_id",
        )
    # the first message opens the portal's chat, so it may not exist yet
    conversation_id = None if place.customer_id else _conversation(store, place)
    about(conversation_id=conversation_id, customer_id=place.customer_id)
    if as_staff:
        store.require_staff(conversation_id, place.customer_id)
    return store.post_message(
        conversation_id,
        new.message,
        new.type,
        new.content,
        new.reply_to,
        new.client_ref,
        customer_id=place.customer_id,
        invoice_data=new.invoice_data,
    )


def _conversation(store: ChatStore, where: Where) -> UUID | None:
    if where.booking_id is not None:
        return store.booking_conversation(where.booking_id)
    if where.customer_id is not None:
        return store.portal_conversation(where.customer_id)
    return store.resolve_conversation(where.conversation_id or "")
