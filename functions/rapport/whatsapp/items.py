"""A webhook's payload, taken apart into items for the database, in the order met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from rapport.store import Item, MessageItem, SkippedItem, StatusItem, SystemItem
from rapport.whatsapp.placeholder import notice, placeholder
from rapport.whatsapp.webhook import (
    Change,
    Contact,
    Entry,
    Message,
    Problem,
    Status,
    System,
    Value,
    Webhook,
)

M = TypeVar("M", bound=BaseModel)

TEXT_LIMIT = 65_536  # characters; WhatsApp's own limit is 4,096
NAME_LIMIT = 200
USERNAME_LIMIT = 100
DETAIL_LIMIT = 500

_STATUS = TypeAdapter[Literal["sent", "delivered", "read", "failed"]](
    Literal["sent", "delivered", "read", "failed"]
)


def items_of(payload: JsonValue) -> list[Item]:
    """Every message and status of a payload, and an item for each part that is neither."""
    return list(_items(Webhook, [payload], "malformed_payload", _of_webhook))


def _items(
    model: type[M],
    parts: Sequence[object],
    reason: str,
    items_of_part: Callable[[M], Iterator[Item]],
) -> Iterator[Item]:
    for part in parts:
        try:
            valid = model.model_validate(part)
        except ValidationError as error:
            yield _skipped(reason, _faults(error))
        else:
            yield from items_of_part(valid)


def _of_webhook(webhook: Webhook) -> Iterator[Item]:
    return _items(Entry, webhook.entry, "malformed_entry", _of_entry)


def _of_entry(entry: Entry) -> Iterator[Item]:
    return _items(Change, entry.changes, "malformed_change", _of_change)


def _of_change(change: Change) -> Iterator[Item]:
    if change.field == "messages":
        yield from _items(Value, [change.value], "malformed_change", _of_value)
    else:
        yield _skipped("unhandled_field", change.field)


def _of_value(value: Value) -> Iterator[Item]:
    # by either id: system messages come without contacts, others with several senders'
    contacts: dict[str | None, Contact] = {
        id_: contact
        for contact in _valid(Contact, value.contacts)
        for id_ in (contact.wa_id, contact.user_id)
        if id_
    }
    number = value.metadata.phone_number_id
    yield from _items(
        Message,
        value.messages,
        "malformed_message",
        lambda message: _of_message(message, number, contacts),
    )
    yield from _items(
        Status, value.statuses, "malformed_status", lambda status: _of_status(status, number)
    )
    for problem in _valid(Problem, value.errors):
        yield _skipped("provider_error", f"{problem.code} {problem.sentence or ''}".rstrip())


def _of_message(
    message: Message, number: str, contacts: Mapping[str | None, Contact]
) -> Iterator[Item]:
    if message.type == "system":
        yield from _of_system(message, message.system or System(), number)
        return
    contact = contacts.get(message.from_user_id) or contacts.get(message.from_) or Contact()
    wa_id = message.from_ or contact.wa_id
    user_id = message.from_user_id or contact.user_id
    if wa_id is None and user_id is None:
        yield _skipped("message_without_sender", message.type)
        return
    is_text = message.type == "text"
    if not is_text:
        words = placeholder(message.type, message.whole)
    elif message.text:
        words = message.text.body
    else:
        yield _skipped("malformed_message", "text: no body")
        return
    name = contact.profile.name if contact.profile else None
    username = contact.profile.username if contact.profile else None
    yield MessageItem(
        phone_number_id=number,
        provider_id=message.id,
        wa_id=wa_id,
        user_id=user_id,
        username=_username(username),
        profile_name=name and name[:NAME_LIMIT],
        sent_at=message.timestamp,
        type=message.type,
        text=words[:TEXT_LIMIT],
        content=None if is_text else message.whole,
        reply_to=message.context.id if message.context else None,
    )


def _of_system(message: Message, system: System, number: str) -> Iterator[Item]:
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
        # who it was before is not said: it is a notice of who it is
        wa_id, new_wa_id = new_wa_id, None
        user_id, new_user_id = new_user_id or message.from_user_id or system.user_id, None
    if wa_id is None and user_id is None:
        yield _skipped("message_without_sender", message.type)
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
    """One that can be stored; the message is kept without any other."""
    name = (username or "").strip().removeprefix("@")
    storable = name.isprintable() and not {" ", "@"} & set(name)
    return name if 0 < len(name) <= USERNAME_LIMIT and storable else None


def _of_status(status: Status, number: str) -> Iterator[Item]:
    try:
        word = _STATUS.validate_python(status.status)
    except ValidationError:
        yield _skipped("unknown_status", status.status)
        return
    problem = next(iter(_valid(Problem, status.errors)), None)
    sentence = problem.sentence if problem else None
    yield StatusItem(
        phone_number_id=number,
        provider_id=status.id,
        status=word,
        at=status.timestamp,
        error_code=problem.code if problem else None,
        error_message=sentence and sentence[:DETAIL_LIMIT],
    )


def _valid(model: type[M], parts: Sequence[object]) -> list[M]:
    """The parts that are valid; for what only adorns an item."""
    valid = []
    for part in parts:
        try:
            valid.append(model.model_validate(part))
        except ValidationError:
            continue
    return valid


def _faults(error: ValidationError) -> str:
    """Where a part is wrong and how, without its values."""
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc']) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )


def _skipped(reason: str, detail: str) -> SkippedItem:
    return SkippedItem(reason=reason, detail=detail[:DETAIL_LIMIT])
