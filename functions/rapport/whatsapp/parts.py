"""Parts of a payload: each is validated alone, so that one bad part is one bad item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from rapport.webhook_rows import Item, SkippedItem
from rapport.whatsapp.webhook import Contact

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

NAME_LIMIT = 200
DETAIL_LIMIT = 500
OBJECT = TypeAdapter[dict[str, JsonValue]](
    # as in the models: jsonb has no infinity
    dict[str, JsonValue],
    config=ConfigDict(allow_inf_nan=False),
)
_CONTACT = TypeAdapter[Contact](Contact)


def each_of(
    model: type[M],
    parts: Sequence[object],
    reason: str,
    items_of_part: Callable[[M], Iterator[Item]],
) -> Iterator[Item]:
    """The items of every valid part; of each other one that it was left out, for `reason`."""
    for part in parts:
        try:
            valid = model.model_validate(part)
        except ValidationError as error:
            yield skipped(reason, faults_of(error))
        else:
            yield from items_of_part(valid)


def valid_of(adapter: TypeAdapter[T], parts: Sequence[object]) -> list[T]:
    """The parts that are valid; for what only adorns an item."""
    valid = []
    for part in parts:
        try:
            valid.append(adapter.validate_python(part))
        except ValidationError:
            continue
    return valid


def contacts_of(parts: Sequence[object]) -> dict[str | None, Contact]:
    """Profiles by either id: some messages come without, others with several senders'."""
    return {
        id_: contact
        for contact in valid_of(_CONTACT, parts)
        for id_ in (contact.wa_id, contact.user_id)
        if id_
    }


def profile_name(contact: Contact) -> str | None:
    """What somebody calls themselves, as it can be stored."""
    name = contact.profile.name if contact.profile else None
    return name and name[:NAME_LIMIT]


def faults_of(error: ValidationError) -> str:
    """Where a part is wrong and how, without its values."""
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc']) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )


def skipped(reason: str, detail: str) -> SkippedItem:
    """That a part was left out, and why."""
    return SkippedItem(reason=reason, detail=detail[:DETAIL_LIMIT])
