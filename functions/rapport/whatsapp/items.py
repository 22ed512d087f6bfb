"""A webhook's payload, taken apart into items for the database, in the order met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from rapport.webhook_rows import (
    AccountEventItem,
    Item,
    MessageItem,
    SkippedItem,
    StatusItem,
    SystemItem,
)
from rapport.whatsapp.contents import TEXT_LIMIT, content_of, effect_of, words_of
from rapport.whatsapp.placeholder import notice
from rapport.whatsapp.webhook import (
    ACCOUNT_FIELDS,
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
T = TypeVar("T")

NAME_LIMIT = 200
USERNAME_LIMIT = 100
DETAIL_LIMIT = 500

_STATUS = TypeAdapter[Literal["sent", "delivered", "read", "failed"]](
    Literal["sent", "delivered", "read", "failed"]
)
_CONTACT = TypeAdapter[Contact](Contact)
_PROBLEM = TypeAdapter[Problem](Problem)
_REF = TypeAdapter[UUID](UUID)
_OBJECT = TypeAdapter[dict[str, JsonValue]](
    # as in the models: jsonb has no infinity
    dict[str, JsonValue],
    config=ConfigDict(allow_inf_nan=False),
)


def items_of(payload: JsonValue) -> list[Item]:
    """Every part of a payload: what is understood, and what is not with the reason."""
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
    items = _items(
        Change, entry.changes, "malformed_change", lambda change: _of_change(change, entry)
    )
    return (item.model_copy(update={"waba_id": entry.id}) for item in items)


def _of_change(change: Change, entry: Entry) -> Iterator[Item]:
    if change.field in ("messages", "smb_message_echoes"):
        yield from _items(Value, [change.value], "malformed_change", _of_value)
    elif change.field in ACCOUNT_FIELDS and entry.id:
        yield from _of_account(change, entry)
    else:
        yield _skipped("unhandled_field", change.field)


def _of_account(change: Change, entry: Entry) -> Iterator[Item]:
    try:
        content = _OBJECT.validate_python(change.value)
    except ValidationError as error:
        yield _skipped("malformed_change", _faults(error))
        return
    yield AccountEventItem(
        phone_number_id=None,
        type=change.field,
        at=entry.time,
        content=content,
    )


def _of_value(value: Value) -> Iterator[Item]:
    # by either id: system messages come without contacts, others with several senders'
    contacts: dict[str | None, Contact] = {
        id_: contact
        for contact in _valid(_CONTACT, value.contacts)
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
        Message, value.message_echoes, "malformed_message", lambda echo: _of_echo(echo, number)
    )
    yield from _items(
        Status, value.statuses, "malformed_status", lambda status: _of_status(status, number)
    )
    for problem in value.errors:
        yield _of_problem(problem, number)


def _of_problem(problem: object, number: str) -> Item:
    try:
        content = _OBJECT.validate_python(problem)
    except ValidationError as error:
        return _skipped("malformed_error", _faults(error))
    return AccountEventItem(phone_number_id=number, type="errors", at=None, content=content)


def _of_message(
    message: Message, number: str, contacts: Mapping[str | None, Contact]
) -> Iterator[Item]:
    if message.type == "system":
        yield from _of_system(message, message.system or System(), number)
        return
    if effect := effect_of(message, number, "client"):
        yield effect
        return
    contact = contacts.get(message.from_user_id) or contacts.get(message.from_) or Contact()
    wa_id = message.from_ or contact.wa_id
    user_id = message.from_user_id or contact.user_id
    if wa_id is None and user_id is None:
        yield _skipped("message_without_sender", message.type)
        return
    words = words_of(message)
    if words is None:
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
        text=words,
        content=content_of(message),
        reply_to=message.context.id if message.context else None,
    )


def _of_echo(message: Message, number: str) -> Iterator[Item]:
    """A message of ours, sent from the phone app: known by whom it went to."""
    if effect := effect_of(message, number, "operator"):
        yield effect
        return
    words = words_of(message)
    if words is None:
        yield _skipped("malformed_message", "text: no body")
    elif message.to is None and message.to_user_id is None:
        yield _skipped("message_without_recipient", message.type)
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
        # a voice message that was played was read
        word = _STATUS.validate_python({"played": "read"}.get(status.status, status.status))
    except ValidationError:
        yield _skipped("unknown_status", status.status)
        return
    problem = next(iter(_valid(_PROBLEM, status.errors)), None)
    sentence = problem.sentence if problem else None
    yield StatusItem(
        phone_number_id=number,
        provider_id=status.id,
        status=word,
        at=status.timestamp,
        error_code=problem.code if problem else None,
        error_message=sentence and sentence[:DETAIL_LIMIT],
        message_ref=next(iter(_valid(_REF, [status.biz_opaque_callback_data])), None),
    )


def _valid(adapter: TypeAdapter[T], parts: Sequence[object]) -> list[T]:
    """The parts that are valid; for what only adorns an item."""
    valid = []
    for part in parts:
        try:
            valid.append(adapter.validate_python(part))
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
