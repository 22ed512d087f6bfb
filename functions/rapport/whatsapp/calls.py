"""Calls: their events become messages in the conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, WrapValidator

from rapport.store.webhooks import CallItem, CallNews, Item
from rapport.whatsapp.parts import contacts_of, each_of, profile_name, skipped
from rapport.whatsapp.webhook import (
    Id,
    Listed,
    Metadata,
    Model,
    OptionalText,
    OptionalTimestamp,
    OptionalUserId,
    OptionalWaId,
    SenderProfile,
    Timestamp,
    or_none,
)


class CallsValue(Model):
    """A change of the field `calls`; its statuses are of calls that the business makes."""

    metadata: Metadata
    contacts: Listed = Field(default_factory=list)
    calls: Listed = Field(default_factory=list)
    statuses: Listed = Field(default_factory=list)


class CallEvent(Model):
    """One event of a call: it begins (`connect`) or ends (`terminate`)."""

    id: Id
    from_: Annotated[OptionalWaId, Field(alias="from")] = None
    from_user_id: OptionalUserId = None
    to: OptionalWaId = None
    to_user_id: OptionalUserId = None
    event: Id
    timestamp: Timestamp
    direction: OptionalText = None
    status: OptionalText = None
    start_time: OptionalTimestamp = None
    end_time: OptionalTimestamp = None
    # seconds
    duration: Annotated[Annotated[int, Field(ge=0, lt=2**31)] | None, WrapValidator(or_none)] = None


class CallStatus(Model):
    """The progress of a call that the business makes."""

    id: Id
    status: Id
    timestamp: Timestamp
    recipient_id: OptionalWaId = None
    recipient_user_id: OptionalUserId = None


_EVENTS: dict[str, Literal["connect", "terminate"]] = {
    "connect": "connect",
    "terminate": "terminate",
}
_STATUSES: dict[str, Literal["ringing", "accepted", "rejected"]] = {
    "ringing": "ringing",
    "accepted": "accepted",
    "rejected": "rejected",
}


def of_calls(value: object) -> Iterator[Item]:
    """The items of every event of a call."""
    return each_of(CallsValue, [value], "malformed_change", _of_value)


def _of_value(value: CallsValue) -> Iterator[Item]:
    # where a webhook has one contact, that is the caller
    contacts = {
        contact.wa_id or contact.user_id: contact
        for contact in contacts_of(value.contacts).values()
    }
    person = next(iter(contacts.values())) if len(contacts) == 1 else SenderProfile()
    yield from each_of(
        CallEvent,
        value.calls,
        "malformed_call",
        lambda call: _of_call(call, value.metadata, person),
    )
    yield from each_of(
        CallStatus,
        value.statuses,
        "malformed_call",
        lambda status: _of_status(status, value.metadata, person),
    )


def _of_call(call: CallEvent, metadata: Metadata, person: SenderProfile) -> Iterator[Item]:
    event = _EVENTS.get(call.event)
    if event is None:
        yield skipped("unknown_call_event", call.event)
        return
    ours = metadata.display_phone_number
    is_outbound = (
        call.direction.upper() == "BUSINESS_INITIATED"
        if call.direction
        else ours is not None and call.from_ == ours
    )
    wa_id, user_id = (call.to, call.to_user_id) if is_outbound else (call.from_, call.from_user_id)
    yield from _item(
        call.id,
        call,
        metadata,
        is_outbound=is_outbound,
        wa_id=person.wa_id or (wa_id if wa_id != ours else None),
        user_id=person.user_id or user_id,
        name=None if is_outbound else profile_name(person),
        news=CallNews(
            event=event,
            started_at=call.start_time,
            ended_at=call.end_time,
            duration_s=call.duration,
            has_failed=(call.status or "").upper() == "FAILED",
        ),
    )


def _of_status(status: CallStatus, metadata: Metadata, person: SenderProfile) -> Iterator[Item]:
    event = _STATUSES.get(status.status.lower())
    if event is None:
        yield skipped("unknown_call_event", status.status)
        return
    # WhatsApp sends statuses only for calls that the business makes
    yield from _item(
        status.id,
        status,
        metadata,
        is_outbound=True,
        wa_id=person.wa_id or status.recipient_id,
        user_id=person.user_id or status.recipient_user_id,
        name=None,
        news=CallNews(
            event=event, started_at=None, ended_at=None, duration_s=None, has_failed=False
        ),
    )


def _item(
    call_id: str,
    told: CallEvent | CallStatus,
    metadata: Metadata,
    *,
    is_outbound: bool,
    wa_id: str | None,
    user_id: str | None,
    name: str | None,
    news: CallNews,
) -> Iterator[Item]:
    if wa_id is None and user_id is None:
        yield skipped("call_without_person", news.event)
        return
    yield CallItem(
        phone_number_id=metadata.phone_number_id,
        provider_id=call_id,
        sender_type="operator" if is_outbound else "client",
        sender_id=None if is_outbound else wa_id or user_id,
        wa_id=wa_id,
        user_id=user_id,
        profile_name=name,
        sent_at=told.timestamp,
        content=news,
    )
