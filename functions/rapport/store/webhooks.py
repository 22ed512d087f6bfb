"""The raw webhook inbox: webhooks are taken in, read and applied anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic_core import to_jsonable_python

from rapport.deferred import Deferred
from rapport.store.postgrest import Store, understood


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")


# Items are made of what is valid already. Each has `waba_id`: the WhatsApp Business account of the
# webhook, whose owners see a rejection.


class MessageItem(NamedTuple):
    """A message from a customer; one of `wa_id` and `user_id` is known.

    An echo is a message of ours to that customer, sent from the phone app.
    """

    phone_number_id: str
    provider_id: str
    wa_id: str | None
    # business-scoped: another business knows the same person by another
    user_id: str | None
    username: str | None
    profile_name: str | None
    sent_at: datetime
    type: str
    text: str
    # the message as it came, unless it is a text and nothing else
    content: dict[str, JsonValue] | None
    reply_to: str | None
    kind: Literal["message", "echo"] = "message"
    waba_id: str | None = None


class GroupMessageItem(NamedTuple):
    """A message in a group, of a participant or (from another device) of ours."""

    phone_number_id: str
    provider_id: str
    group_id: str
    sender_type: Literal["client", "operator"]
    # of a participant: one of the two ids, the number first
    sender_id: str | None
    wa_id: str | None
    user_id: str | None
    profile_name: str | None
    sent_at: datetime
    type: str
    text: str
    content: dict[str, JsonValue] | None
    reply_to: str | None
    kind: Literal["group"] = "group"
    waba_id: str | None = None


class Participant(_Part):
    """Somebody in a group; one of the two is known."""

    wa_id: str | None
    user_id: str | None


class GroupNews(_Part):
    """News of a group; a field that is None says nothing."""

    name: str | None = None
    state: Literal["active", "suspended", "deleted"] | None = None
    joined: tuple[Participant, ...] = ()
    departed: tuple[Participant, ...] = ()


class GroupEventItem(NamedTuple):
    """An event of a group."""

    phone_number_id: str
    group_id: str
    sent_at: datetime
    content: GroupNews
    kind: Literal["group_event"] = "group_event"
    waba_id: str | None = None


class CallNews(_Part):
    """News of a call; only its end says when people spoke."""

    event: Literal["connect", "ringing", "accepted", "rejected", "terminate"]
    started_at: datetime | None
    ended_at: datetime | None
    # seconds
    duration_s: int | None
    has_failed: bool


class CallItem(NamedTuple):
    """One event of a call with the person who is named as in `MessageItem`."""

    phone_number_id: str
    # of the call
    provider_id: str
    # who calls: the person or we
    sender_type: Literal["client", "operator"]
    sender_id: str | None
    wa_id: str | None
    user_id: str | None
    profile_name: str | None
    sent_at: datetime
    content: CallNews
    kind: Literal["call"] = "call"
    waba_id: str | None = None


class MarketingChoiceItem(NamedTuple):
    """Whether a person takes marketing messages from now on."""

    phone_number_id: str
    wa_id: str | None
    user_id: str | None
    type: Literal["stop", "resume"]
    sent_at: datetime
    kind: Literal["marketing_choice"] = "marketing_choice"
    waba_id: str | None = None


class HistoryItem(NamedTuple):
    """A message of the phone app's history, of a person's or of ours to them."""

    phone_number_id: str
    provider_id: str
    sender_type: Literal["client", "operator"]
    sender_id: str | None
    wa_id: str | None
    user_id: str | None
    sent_at: datetime
    type: str
    text: str
    content: dict[str, JsonValue] | None
    reply_to: str | None
    # the status of a message of ours
    status: Literal["delivered", "read", "failed"] | None
    kind: Literal["history"] = "history"
    waba_id: str | None = None


class PhoneBookItem(NamedTuple):
    """An entry of the phone app's phone book that was added, changed or removed."""

    phone_number_id: str
    wa_id: str
    type: Literal["add", "remove"]
    # the name
    text: str | None
    sent_at: datetime
    kind: Literal["phone_book"] = "phone_book"
    waba_id: str | None = None


class SystemItem(NamedTuple):
    """A message of WhatsApp's own about a customer, who is named as in `MessageItem`.

    `new_wa_id` and `new_user_id` take the place of `wa_id` and `user_id`; where they are
    null nothing changes.
    """

    phone_number_id: str
    provider_id: str
    wa_id: str | None
    user_id: str | None
    new_wa_id: str | None
    new_user_id: str | None
    sent_at: datetime
    text: str
    # the message as it came
    content: dict[str, JsonValue]
    kind: Literal["system"] = "system"
    type: Literal["system"] = "system"
    waba_id: str | None = None


class StatusItem(NamedTuple):
    """The status of a message that we sent."""

    phone_number_id: str
    provider_id: str
    status: Literal["sent", "delivered", "read", "failed"]
    at: datetime
    error_code: int | None
    error_message: str | None
    # our id of the message, which we gave when we sent it
    message_ref: UUID | None
    kind: Literal["status"] = "status"
    waba_id: str | None = None


class EffectItem(NamedTuple):
    """An effect on the message `reply_to`: a reaction, an edit, a deletion."""

    phone_number_id: str
    provider_id: str
    type: Literal["reaction", "edit", "revoke"]
    reply_to: str
    sender_type: Literal["client", "operator"]
    # who of a group; None elsewhere
    sender_id: str | None
    sent_at: datetime
    # the emoji, None where it is taken back; the new text
    text: str | None
    # of an edit the new message as it came
    content: dict[str, JsonValue] | None
    kind: Literal["effect"] = "effect"
    waba_id: str | None = None


class AccountEventItem(NamedTuple):
    """An event of an account, which is known by one of the two ids."""

    phone_number_id: str | None
    # the webhook's field
    type: str
    at: datetime | None
    content: dict[str, JsonValue]
    kind: Literal["account_event"] = "account_event"
    waba_id: str | None = None


class SkippedItem(NamedTuple):
    """A part of a webhook that is none of these; it is recorded and blocks nothing."""

    reason: str
    detail: str
    kind: Literal["skipped"] = "skipped"
    waba_id: str | None = None


Item = (
    MessageItem
    | GroupMessageItem
    | GroupEventItem
    | CallItem
    | MarketingChoiceItem
    | HistoryItem
    | PhoneBookItem
    | SystemItem
    | StatusItem
    | EffectItem
    | AccountEventItem
    | SkippedItem
)


def json_of(item: Item) -> dict[str, JsonValue]:
    """An item as the database takes it: times and ids are text."""
    value: dict[str, JsonValue] = to_jsonable_python(item._asdict())
    return value


class Rejection(Deferred):
    """An item that the database could not apply, by its place among the items."""

    index: int
    reason: str
    # whose it was, as far as the webhook says
    phone_number_id: str | None = None
    waba_id: str | None = None


class IngestResult(Deferred):
    """What became of a webhook: its raw event's id, and how its items fared."""

    event_id: int
    applied: int
    duplicates: int
    rejected: list[Rejection]


class ReplayResult(IngestResult):
    """What became of a stored webhook that was parsed anew: also how many messages changed."""

    corrected: int


class RawEvent(Deferred):
    """A webhook as it was stored."""

    id: int
    body: str


class EventSpan(Deferred):
    """The raw events of a span of time; without any there are no ids."""

    events: int
    first_id: int | None
    last_id: int | None


class WebhookStore(Store):
    """Webhooks in the database; every call may be repeated, and raises as `Store` says."""

    def ingest_whatsapp(self, body: str, items: Sequence[Item]) -> IngestResult:
        """Stores a webhook's `body` as it came and applies its `items`, in one transaction.

        Repeating it changes nothing: each message and status is known by its provider's id.
        """
        answer = self._call(
            "ingest_whatsapp",
            {"body": body, "items": [json_of(item) for item in items]},
        )
        return understood(IngestResult, answer)

    def span_of_webhook_events(self, since: datetime, until: datetime | None) -> EventSpan:
        """How many raw events came from `since` to before `until`, and their first and last id."""
        answer = self._call("span_of_webhook_events", _span(since, until))
        return understood(EventSpan, answer)

    def read_webhook_events(
        self, after_id: int, since: datetime, until: datetime | None, page_size: int
    ) -> list[RawEvent]:
        """The next raw events of a span of time, by id; none at the end.

        A page has up to `page_size`, and fewer where they are large.
        """
        answer = self._call(
            "read_webhook_events",
            {"after_id": after_id, "page_size": page_size, **_span(since, until)},
        )
        return understood(list[RawEvent], answer)

    def replay_webhook(
        self, event_id: int, items: Sequence[Item], *, dry_run: bool = False
    ) -> ReplayResult:
        """Applies a stored webhook's `items` as they are parsed now, in one transaction.

        Missing rows are added, and customers' messages are shown as the items say. Repeating
        it changes nothing; with `dry_run` it is undone at once.

        Raises:
            NotFound: There is no such event.
        """
        answer = self._call(
            "replay_webhook",
            {
                "event_id": event_id,
                "items": [json_of(item) for item in items],
                "dry_run": dry_run,
            },
        )
        return understood(ReplayResult, answer)


def _span(since: datetime, until: datetime | None) -> dict[str, object]:
    return {"since": since.isoformat(), "until": until and until.isoformat()}
