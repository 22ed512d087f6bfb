"""Takes a webhook's payload apart into items for the database, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from rapport.store.webhooks import (
    AccountEventItem,
    GroupMessageItem,
    Item,
    MessageItem,
    StatusItem,
    SystemItem,
)
from rapport.whatsapp.parts import (
    DETAIL_LIMIT,
    OBJECT,
    TEXT_LIMIT,
    contacts_of,
    content_of,
    each_of,
    effect_of,
    faults_of,
    profile_name,
    skipped,
    valid_of,
    words_of,
)
from rapport.whatsapp.placeholder import notice
from rapport.whatsapp.webhook import (
    ACCOUNT_FIELDS,
    GROUP_FIELDS,
    AccountEntry,
    MessageProblem,
    SenderProfile,
    Status,
    SubscribedChange,
    System,
    Value,
    Webhook,
    WebhookMessage,
)

USERNAME_LIMIT = 100

_DEFERRED = ConfigDict(defer_build=True)
_STATUS = TypeAdapter[Literal["sent", "delivered", "read", "failed"]](
    Literal["sent", "delivered", "read", "failed"], config=_DEFERRED
)
_PROBLEM = TypeAdapter[MessageProblem](MessageProblem)
_REF = TypeAdapter[UUID](UUID, config=_DEFERRED)


def items_of(payload: JsonValue) -> list[Item]:
    """All items of a payload. A part that is not understood is a skipped item with the reason."""
    return list(each_of(Webhook, [payload], "malformed_payload", _of_webhook))


def _of_webhook(webhook: Webhook) -> Iterator[Item]:
    return each_of(AccountEntry, webhook.entry, "malformed_entry", _of_entry)


def _of_entry(entry: AccountEntry) -> Iterator[Item]:
    items = each_of(
        SubscribedChange,
        entry.changes,
        "malformed_change",
        lambda change: _of_change(change, entry),
    )
    return (item._replace(waba_id=entry.id) for item in items)


def _of_change(change: SubscribedChange, entry: AccountEntry) -> Iterator[Item]:
    # most webhooks are messages and their statuses: the other fields are imported when they come
    if change.field in ("messages", "smb_message_echoes"):
        yield from each_of(Value, [change.value], "malformed_change", _of_value)
    elif change.field in GROUP_FIELDS:
        from rapport.whatsapp.groups import of_groups

        yield from of_groups(change.value, change.field)
    elif change.field == "calls":
        from rapport.whatsapp.calls import of_calls

        yield from of_calls(change.value)
    elif change.field == "user_preferences":
        from rapport.whatsapp.preferences import of_preferences

        yield from of_preferences(change.value)
    elif change.field == "history":
        from rapport.whatsapp.phone_app import of_history

        yield from of_history(change.value)
    elif change.field == "smb_app_state_sync":
        from rapport.whatsapp.phone_app import of_phone_book

        yield from of_phone_book(change.value)
    elif change.field in ACCOUNT_FIELDS and entry.id:
        yield from _of_account(change, entry)
    else:
        yield skipped("unhandled_field", change.field)


def _of_account(change: SubscribedChange, entry: AccountEntry) -> Iterator[Item]:
    try:
        content = OBJECT.validate_python(change.value)
    except ValidationError as error:
        yield skipped("malformed_change", faults_of(error))
        return
    yield AccountEventItem(
        phone_number_id=None,
        type=change.field,
        at=entry.time,
        content=content,
    )


def _of_value(value: Value) -> Iterator[Item]:
    contacts = contacts_of(value.contacts)
    number = value.metadata.phone_number_id
    yield from each_of(
        WebhookMessage,
        value.messages,
        "malformed_message",
        lambda message: _of_message(message, number, contacts),
    )
    yield from each_of(
        WebhookMessage,
        value.message_echoes,
        "malformed_message",
        lambda echo: _of_echo(echo, number),
    )
    yield from each_of(
        Status, value.statuses, "malformed_status", lambda status: _of_status(status, number)
    )
    for problem in value.errors:
        yield _of_problem(problem, number)


def _of_problem(problem: object, number: str) -> Item:
    try:
        content = OBJECT.validate_python(problem)
    except ValidationError as error:
        return skipped("malformed_error", faults_of(error))
    return AccountEventItem(phone_number_id=number, type="errors", at=None, content=content)


def _of_message(
    message: WebhookMessage, number: str, contacts: Mapping[str | None, SenderProfile]
) -> Iterator[Item]:
    if message.is_in_unknown_group:
        # it must not become a private message
        yield skipped("malformed_message", "group_id: not an id")
        return
    if message.type == "system":
        yield from _of_system(message, message.system or System(), number)
        return
    if effect := effect_of(message, number, "client"):
        yield effect
        return
    contact = contacts.get(message.from_user_id) or contacts.get(message.from_) or SenderProfile()
    wa_id = message.from_ or contact.wa_id
    user_id = message.from_user_id or contact.user_id
    if wa_id is None and user_id is None:
        yield skipped("message_without_sender", message.type)
        return
    words = words_of(message)
    if words is None:
        yield skipped("malformed_message", "text: no body")
        return
    if message.group_id is not None:
        yield _in_group(
            message,
            message.group_id,
            number,
            words,
            sender=(wa_id, user_id),
            name=profile_name(contact),
        )
        return
    username = contact.profile.username if contact.profile else None
    yield MessageItem(
        phone_number_id=number,
        provider_id=message.id,
        wa_id=wa_id,
        user_id=user_id,
        username=_username(username),
        profile_name=profile_name(contact),
        sent_at=message.timestamp,
        type=message.type,
        text=words,
        content=content_of(message),
        reply_to=message.context.id if message.context else None,
    )


def _of_echo(message: WebhookMessage, number: str) -> Iterator[Item]:
    """A message that the business sent from its phone app; the receiver names the conversation."""
    if effect := effect_of(message, number, "operator"):
        yield effect
        return
    words = words_of(message)
    if words is None:
        yield skipped("malformed_message", "text: no body")
    elif message.group_id is not None:
        yield _in_group(message, message.group_id, number, words, sender=None, name=None)
    elif message.to is None and message.to_user_id is None:
        yield skipped("message_without_recipient", message.type)
    else:
        yield MessageItem(
            kind="echo",
            phone_number_id=number,
            provider_id=message.id,
            wa_id=message.to,
            user_id=message.to_user_id,
            username=None,
            profile_name=None,
            sent_at=message.timestamp,
            type=message.type,
            text=words,
            content=content_of(message),
            reply_to=message.context.id if message.context else None,
        )


def _in_group(
    message: WebhookMessage,
    group_id: str,
    number: str,
    words: str,
    *,
    sender: tuple[str | None, str | None] | None,
    name: str | None,
) -> Item:
    """A group's message. `sender` is a participant's number and user id; None is the business."""
    wa_id, user_id = sender or (None, None)
    return GroupMessageItem(
        phone_number_id=number,
        provider_id=message.id,
        group_id=group_id,
        sender_type="client" if sender else "operator",
        sender_id=wa_id or user_id,
        wa_id=wa_id,
        user_id=user_id,
        profile_name=name,
        sent_at=message.timestamp,
        type=message.type,
        text=words,
        content=content_of(message),
        reply_to=message.context.id if message.context else None,
    )


def _of_system(message: WebhookMessage, system: System, number: str) -> Iterator[Item]:
    wa_id = message.from_ or system.customer
    user_id = system.previous_user_id
    new_wa_id = None
    new_user_id = None
    if system.type in ("user_changed_number", "customer_changed_number"):
        new_wa_id = system.new_wa_id or system.wa_id
        new_user_id = system.user_id
    elif system.type == "user_changed_user_id":
        new_user_id = system.user_id
        if new_user_id is None and message.from_user_id != user_id:
            new_user_id = message.from_user_id
    if wa_id is None and user_id is None:
        # the old number is not given: only a notice with the new number remains
        wa_id, new_wa_id = new_wa_id, None
        user_id, new_user_id = new_user_id or message.from_user_id or system.user_id, None
    if wa_id is None and user_id is None:
        yield skipped("message_without_sender", message.type)
        return
    yield SystemItem(
        phone_number_id=number,
        provider_id=message.id,
        wa_id=wa_id,
        user_id=user_id,
        new_wa_id=new_wa_id,
        new_user_id=new_user_id,
        sent_at=message.timestamp,
        text=notice(system.body, wa_id, new_wa_id, new_user_id)[:TEXT_LIMIT],
        content=message.whole,
    )


def _username(username: str | None) -> str | None:
    """The username, if it can be stored; otherwise the message is kept without it."""
    name = (username or "").strip().removeprefix("@")
    storable = name.isprintable() and not {" ", "@"} & set(name)
    return name if 0 < len(name) <= USERNAME_LIMIT and storable else None


def _of_status(status: Status, number: str) -> Iterator[Item]:
    try:
        # a voice message that was played counts as read
        word = _STATUS.validate_python({"played": "read"}.get(status.status, status.status))
    except ValidationError:
        yield skipped("unknown_status", status.status)
        return
    problem = next(iter(valid_of(_PROBLEM, status.errors)), None)
    sentence = problem.sentence if problem else None
    yield StatusItem(
        phone_number_id=number,
        provider_id=status.id,
        status=word,
        at=status.timestamp,
        error_code=problem.code if problem else None,
        error_message=sentence and sentence[:DETAIL_LIMIT],
        message_ref=next(iter(valid_of(_REF, [status.biz_opaque_callback_data])), None),
    )
