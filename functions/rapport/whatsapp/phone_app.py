"""The phone app that uses the same number: its chat history and its phone book."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeGuard

from pydantic import Field, JsonValue, WrapValidator

from rapport.errors import NotAPhoneNumber
from rapport.store.webhooks import AccountEventItem, HistoryItem, Item, PhoneBookItem
from rapport.whatsapp.parts import (
    NAME_LIMIT,
    OBJECT,
    content_of,
    each_of,
    effect_of,
    skipped,
    valid_of,
    words_of,
)
from rapport.whatsapp.webhook import (
    Id,
    Listed,
    Metadata,
    Model,
    OptionalText,
    OptionalUserId,
    OptionalWaId,
    Timestamp,
    WebhookMessage,
    or_none,
)


class HistoryValue(Model):
    """A change of the field `history`: chunks of chats, or files of messages in them."""

    metadata: Metadata
    history: Listed = Field(default_factory=list)
    messages: Listed = Field(default_factory=list)


class StateSyncValue(Model):
    """A change of the field `smb_app_state_sync`."""

    metadata: Metadata
    state_sync: Listed = Field(default_factory=list)


class HistoryChunk(Model):
    """A part of the history: chats, or why there are none; `metadata` says how far the transfer has
    come.
    """

    metadata: Annotated[dict[str, JsonValue] | None, WrapValidator(or_none)] = None
    threads: Listed = Field(default_factory=list)
    errors: Listed = Field(default_factory=list)


class HistoryThread(Model):
    """The messages with one person."""

    id: OptionalWaId = None
    user_id: OptionalUserId = None
    messages: Listed = Field(default_factory=list)


class PhoneBookEntry(Model):
    """An entry of the phone app's phone book."""

    class PhoneBookPerson(Model):
        full_name: OptionalText = None
        first_name: OptionalText = None
        phone_number: OptionalWaId = None

    class Moment(Model):
        timestamp: Timestamp

    type: Id
    action: Id
    contact: PhoneBookPerson
    metadata: Moment


_STATUSES: dict[str, Literal["delivered", "read", "failed"]] = {
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "error": "failed",
}


def of_history(value: object) -> Iterator[Item]:
    """Every message of the history, and how far the transfer has come."""
    return each_of(HistoryValue, [value], "malformed_change", _of_history)


def _of_history(value: HistoryValue) -> Iterator[Item]:
    metadata = value.metadata
    yield from each_of(
        HistoryChunk, value.history, "malformed_history", lambda chunk: _of_chunk(chunk, metadata)
    )
    # files arrive apart from their messages and name the chat themselves
    yield from each_of(
        WebhookMessage,
        value.messages,
        "malformed_message",
        lambda message: _of_message(message, metadata, HistoryThread()),
    )


def _of_chunk(chunk: HistoryChunk, metadata: Metadata) -> Iterator[Item]:
    progress = [chunk.metadata] if chunk.metadata else []
    for content in (*progress, *valid_of(OBJECT, chunk.errors)):
        yield AccountEventItem(
            phone_number_id=metadata.phone_number_id,
            type="history",
            at=None,
            content=content,
        )
    yield from each_of(
        HistoryThread,
        chunk.threads,
        "malformed_history",
        lambda thread: each_of(
            WebhookMessage,
            thread.messages,
            "malformed_message",
            lambda message: _of_message(message, metadata, thread),
        ),
    )


def _of_message(
    message: WebhookMessage, metadata: Metadata, thread: HistoryThread
) -> Iterator[Item]:
    number = metadata.phone_number_id
    context = message.history_context
    person = (thread.id, thread.user_id) if thread.id or thread.user_id else None
    is_ours = (
        (context is not None and context.from_me is True)
        or message.to is not None
        or message.to_user_id is not None
        or (message.from_ is not None and message.from_ == metadata.display_phone_number)
        or (thread.id is not None and message.from_ not in (None, thread.id))
    )
    if message.group_id is not None:
        # WhatsApp leaves group chats out
        yield skipped("history_of_a_group", message.type)
        return
    if effect := effect_of(message, number, "operator" if is_ours else "client"):
        yield effect
        return
    if is_ours:
        wa_id, user_id = person or (message.to, message.to_user_id)
    else:
        wa_id, user_id = person or (message.from_, message.from_user_id)
    words = words_of(message)
    if words is None:
        yield skipped("malformed_message", "text: no body")
    elif wa_id is None and user_id is None:
        yield skipped("message_without_sender", message.type)
    else:
        status = context.status if context else None
        yield HistoryItem(
            phone_number_id=number,
            provider_id=message.id,
            sender_type="operator" if is_ours else "client",
            sender_id=None if is_ours else wa_id or user_id,
            wa_id=wa_id,
            user_id=user_id,
            sent_at=message.timestamp,
            type=message.type,
            text=words,
            content=content_of(message),
            reply_to=message.context.id if message.context else None,
            status=_STATUSES.get((status or "").lower()) if is_ours else None,
        )


def of_phone_book(value: object) -> Iterator[Item]:
    """Every entry that was added, changed or removed."""
    return each_of(StateSyncValue, [value], "malformed_change", _of_phone_book)


def _of_phone_book(value: StateSyncValue) -> Iterator[Item]:
    number = value.metadata.phone_number_id
    return each_of(
        PhoneBookEntry,
        value.state_sync,
        "malformed_phone_book",
        lambda entry: _of_entry(entry, number),
    )


def _of_entry(entry: PhoneBookEntry, number: str) -> Iterator[Item]:
    name = entry.contact.full_name or entry.contact.first_name
    if entry.type != "contact":
        yield skipped("unknown_state", entry.type)
    elif not _is_number(entry.contact.phone_number):
        # WhatsApp promises a country code; the phone's own book has the digits that somebody typed
        yield skipped("malformed_phone_book", "contact.phone_number: not a number")
    elif entry.action == "remove":
        yield PhoneBookItem(
            phone_number_id=number,
            wa_id=entry.contact.phone_number,
            type="remove",
            text=None,
            sent_at=entry.metadata.timestamp,
        )
    elif entry.action in ("add", "edit"):
        yield PhoneBookItem(
            phone_number_id=number,
            wa_id=entry.contact.phone_number,
            type="add",
            text=name and name.strip()[:NAME_LIMIT],
            sent_at=entry.metadata.timestamp,
        )
    else:
        yield skipped("unknown_state", entry.action)


def _is_number(digits: str | None) -> TypeGuard[str]:
    """Whether these are the digits of a number that somebody can have, country code first."""
    if digits is None:
        return False
    # imported when needed: the numbering plans of all countries take their time, and this is rare
    from rapport.phone import to_e164

    try:
        to_e164(f"+{digits}")
    except NotAPhoneNumber:
        return False
    return True
