"""Every call to Postgres: one SQL function of schema `backend` each, through PostgREST."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

import httpx
from postgrest import SyncPostgrestClient
from postgrest.exceptions import APIError
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from rapport.errors import StoreError, StoreUnavailable, from_postgrest
from rapport.retry import transient
from rapport.settings import StoreSettings

# The RPCs end within 8 seconds, the hosted statement time-out: past 9 nothing comes.
_TIMEOUT = httpx.Timeout(9, connect=2)


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MessageItem(_Item):
    """A message from a customer; one of `wa_id` and `user_id` is known.

    An echo is a message of ours to that customer, sent from the phone app.
    """

    kind: Literal["message", "echo"] = "message"
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


class SystemItem(_Item):
    """A message of WhatsApp's own about a customer, who is named as in `MessageItem`.

    `new_wa_id` and `new_user_id` take the place of `wa_id` and `user_id`; where they are
    null nothing changes.
    """

    kind: Literal["system"] = "system"
    phone_number_id: str
    provider_id: str
    wa_id: str | None
    user_id: str | None
    new_wa_id: str | None
    new_user_id: str | None
    sent_at: datetime
    type: Literal["system"] = "system"
    text: str
    # the message as it came
    content: dict[str, JsonValue]


class StatusItem(_Item):
    """What became of a message that we sent."""

    kind: Literal["status"] = "status"
    phone_number_id: str
    provider_id: str
    status: Literal["sent", "delivered", "read", "failed"]
    at: datetime
    error_code: int | None
    error_message: str | None
    # what we called the message when we sent it
    message_ref: UUID | None


class EffectItem(_Item):
    """What somebody does to the message `reply_to`: a reaction, an edit, a deletion."""

    kind: Literal["effect"] = "effect"
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


class AccountEventItem(_Item):
    """What WhatsApp says of an account, which is known by one of the two ids."""

    kind: Literal["account_event"] = "account_event"
    phone_number_id: str | None
    waba_id: str | None
    # the webhook's field
    type: str
    at: datetime | None
    content: dict[str, JsonValue]


class SkippedItem(_Item):
    """A part of a webhook that is none of these; it is recorded and blocks nothing."""

    kind: Literal["skipped"] = "skipped"
    reason: str
    detail: str


Item = MessageItem | SystemItem | StatusItem | EffectItem | AccountEventItem | SkippedItem


class Rejection(BaseModel):
    """An item that the database could not apply, by its place among the items."""

    index: int
    reason: str


class IngestResult(BaseModel):
    """What became of a webhook: its raw event's id, and how its items fared."""

    event_id: int
    applied: int
    duplicates: int
    rejected: list[Rejection]


class Contact(_Item):
    """A contact in the contacts page's words; in an import, what is None is not said."""

    id: UUID | None = None
    name: str | None = None
    phone: str | None = None
    email: str | None = None
    username: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    conversation_status: str | None = None


ImportOutcome = Literal["created", "updated", "unchanged", "refused", "ambiguous"]


class ImportedRow(BaseModel):
    """What became of an imported contact, by its place in the call from 1."""

    row: int
    outcome: ImportOutcome
    contact_id: UUID | None
    field: str | None
    reason: str | None


class Pruned(BaseModel):
    """How many rows were deleted of each kind whose time was over."""

    changes: int
    webhook_events: int
    sync: int

    def __add__(self, other: Pruned) -> Pruned:
        """Both together."""
        return Pruned(
            changes=self.changes + other.changes,
            webhook_events=self.webhook_events + other.webhook_events,
            sync=self.sync + other.sync,
        )

    def __bool__(self) -> bool:
        """Whether there was anything to delete."""
        return bool(self.changes or self.webhook_events or self.sync)


class _Count(BaseModel):
    count: int


class OutboundMessage(BaseModel):
    """A message that is to be sent by WhatsApp now."""

    message_id: UUID
    account_id: UUID
    phone_number_id: str
    # the exact spelling to which replies go; without it the person is known by `user_id` alone
    wa_id: str | None
    user_id: str | None
    type: str
    text: str
    # what WhatsApp takes under the name of the type; none for text
    content: JsonValue
    # WhatsApp's ids of what is answered, and of what a reaction is to
    reply_to: str | None
    reaction_to: str | None


class Claim(BaseModel):
    """Messages leased to one worker, and when there will be others, as far as is known."""

    claimed: list[OutboundMessage]
    next_at: datetime | None


class ReplayResult(IngestResult):
    """What became of a stored webhook that was parsed anew: also how many messages changed."""

    corrected: int


class RawEvent(BaseModel):
    """A webhook as it was stored."""

    id: int
    body: str


class EventSpan(BaseModel):
    """The raw events of a span of time; without any there are no ids."""

    events: int
    first_id: int | None
    last_id: int | None


T = TypeVar("T")


def understood(shape: type[T], answer: object) -> T:
    """A function's answer in the shape that it has to have.

    Raises:
        StoreError: It has another shape.
    """
    try:
        return TypeAdapter(shape).validate_python(answer)
    except ValidationError:
        # the error's text would quote the answer
        raise StoreError(f"The database's answer is not a {shape.__name__}.") from None


class Store:
    """The database as the functions see it; safe to share between threads.

    Connections are kept open from one call to the next.
    """

    def __init__(
        self, settings: StoreSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        key = settings.supabase_service_role_key.get_secret_value()
        self._http = httpx.Client(
            timeout=_TIMEOUT, transport=transport, event_hooks={"response": [_raise_without_code]}
        )
        self._backend = SyncPostgrestClient(
            f"{str(settings.supabase_url).rstrip('/')}/rest/v1",
            schema="backend",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            http_client=self._http,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def ingest_whatsapp(self, body: str, items: Sequence[Item]) -> IngestResult:
        """Stores a webhook's `body` as it came and applies its `items`, in one transaction.

        Repeating it changes nothing: each message and status is known by its provider's id.

        Raises:
            StoreUnavailable: The database can't be reached, or is too busy.
            StoreError: The database refused the call, or answered what we don't understand.
        """
        answer = self._call(
            "ingest_whatsapp",
            {"body": body, "items": [item.model_dump(mode="json") for item in items]},
        )
        return understood(IngestResult, answer)

    def claim_outbound(self, worker: str, batch: int) -> Claim:
        """Leases up to `batch` messages for a minute, one a conversation, to `worker`.

        The name is to be a new one each time: it is by it that they are begun and settled.

        Raises:
            StoreUnavailable: As ingest_whatsapp; what was leased then is free in a minute.
            StoreError: As ingest_whatsapp.
        """
        answer = self._call("claim_outbound", {"worker": worker, "batch": batch})
        return understood(Claim, answer)

    def begin_send(self, message_id: UUID, worker: str) -> bool:
        """Notes that a message is about to be sent; False where it must not be.

        Raises:
            StoreUnavailable: As ingest_whatsapp.
            StoreError: As ingest_whatsapp.
        """
        return self._call("begin_send", {"message_id": str(message_id), "worker": worker}) is True

    def settle_send(self, message_id: UUID, worker: str, outcome: dict[str, JsonValue]) -> str:
        """Notes what became of the call; answers what follows.

        `outcome` holds outcome (accepted, refused or unknown), and with accepted provider_id,
        with refused code, details and retry_after in seconds. Repeating it changes nothing.

        Raises:
            StoreUnavailable: As ingest_whatsapp.
            StoreError: As ingest_whatsapp.
        """
        return str(
            self._call("settle_send", {"message_id": str(message_id), "worker": worker, **outcome})
        )

    def import_contacts(
        self,
        account: str,
        contacts: Sequence[Contact],
        *,
        dry_run: bool = False,
        quiet: bool = False,
    ) -> list[ImportedRow]:
        """Writes up to 200 contacts of the account with this external id, or tries to.

        Answers a row for each, in their order. Repeating it changes nothing. Quietly, staff
        hear nothing of it before `announce_import`.

        Raises:
            NotFound: There is no such account.
            StoreUnavailable: The database can't be reached, or others write these contacts.
        """
        answer = self._call(
            "import_contacts",
            {
                "account": account,
                "contacts": [
                    contact.model_dump(mode="json", exclude_none=True) for contact in contacts
                ],
                "dry_run": dry_run,
                "quiet": quiet,
            },
        )
        imported = understood(list[ImportedRow], answer)
        if [one.row for one in imported] != list(range(1, len(contacts) + 1)):
            raise StoreError("The database's answer is of other rows.")
        return imported

    def announce_import(self, account: str) -> None:
        """Tells the account's staff once that contacts were imported.

        Raises:
            NotFound: There is no such account.
            StoreUnavailable: The database can't be reached, or is too busy.
        """
        self._call("announce_import", {"account": account})

    def export_contacts(self, account: str, *, after: UUID | None, page_size: int) -> list[Contact]:
        """A page of the account's contacts by id, beyond `after`; the last page is shorter.

        Raises:
            NotFound: There is no account with this external id.
            StoreUnavailable: The database can't be reached, or is too busy.
        """
        answer = self._call(
            "export_contacts",
            {"account": account, "after": after and str(after), "page_size": page_size},
        )
        return understood(list[Contact], answer)

    def prune(self, batch: int) -> Pruned:
        """Deletes up to `batch` rows of each kind whose time is over.

        Raises:
            StoreUnavailable: The database can't be reached, or is too busy.
        """
        return understood(Pruned, self._call("prune", {"batch": batch}))

    def mark_overdue_invoices(self, batch: int) -> int:
        """Makes up to `batch` invoices overdue that are past their time; returns how many.

        Raises:
            StoreUnavailable: The database can't be reached, or is too busy.
        """
        answer = self._call("mark_overdue_invoices", {"batch": batch})
        return understood(_Count, {"count": answer}).count

    def expire_points(self, batch: int) -> int:
        """Writes off expired points of up to `batch` customers; returns of how many.

        Raises:
            StoreUnavailable: The database can't be reached, or is too busy.
        """
        answer = self._call("expire_points", {"batch": batch})
        return understood(_Count, {"count": answer}).count

    def span_of_webhook_events(self, since: datetime, until: datetime | None) -> EventSpan:
        """How many raw events came from `since` to before `until`, and their first and last id.

        Raises:
            StoreUnavailable: As ingest_whatsapp.
            StoreError: As ingest_whatsapp.
        """
        answer = self._call("span_of_webhook_events", _span(since, until))
        return understood(EventSpan, answer)

    def read_webhook_events(
        self, after_id: int, since: datetime, until: datetime | None, page_size: int
    ) -> list[RawEvent]:
        """The next raw events of a span of time, by id; none at the end.

        A page has up to `page_size`, and fewer where they are large.

        Raises:
            StoreUnavailable: As ingest_whatsapp.
            StoreError: As ingest_whatsapp.
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

        What is missing is added, and customers' messages are shown as the items say. Repeating
        it changes nothing; with `dry_run` it is undone at once.

        Raises:
            NotFound: There is no such event.
            StoreUnavailable: As ingest_whatsapp.
            StoreError: As ingest_whatsapp.
        """
        answer = self._call(
            "replay_webhook",
            {
                "event_id": event_id,
                "items": [item.model_dump(mode="json") for item in items],
                "dry_run": dry_run,
            },
        )
        return understood(ReplayResult, answer)

    def _call(self, function: str, arguments: dict[str, object]) -> object:
        for attempt in transient():
            with attempt:
                return self._call_once(function, arguments)
        raise AssertionError("a call is answered or its last error raised")

    def _call_once(self, function: str, arguments: dict[str, object]) -> object:
        try:
            # the client's types know only texts; it sends any JSON
            return self._backend.rpc(function, arguments).execute().data  # type: ignore[arg-type]
        except APIError as error:
            # not chained: PostgREST's details may quote rows
            raise from_postgrest(error.code) from None
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from error


def _raise_without_code(response: httpx.Response) -> None:
    """Raises for the errors of a gateway, which are JSON without a code, by their status."""
    if response.is_success:
        return
    response.read()
    try:
        answer = response.json()
    except ValueError:
        return  # the client takes the status for the code
    if isinstance(answer, dict) and answer.get("code") is None:
        raise from_postgrest(str(response.status_code))


def _span(since: datetime, until: datetime | None) -> dict[str, object]:
    return {"since": since.isoformat(), "until": until and until.isoformat()}
