"""Postgres as one signed-in user sees it: their token goes along, row level security decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import httpx
from postgrest import SyncPostgrestClient
from postgrest.exceptions import APIError
from pydantic import BaseModel, ConfigDict, JsonValue

from rapport.errors import NotAllowed, NotFound, StoreUnavailable, from_users_postgrest
from rapport.retry import transient
from rapport.settings import UserStoreSettings
from rapport.store.base import raise_without_code, understood
from rapport.store.metakocka_rows import Direction

# As the store's own: an RPC ends within 8 seconds.
_TIMEOUT = httpx.Timeout(9, connect=2)

# the largest seq that there could be
_ALL = 2**63 - 1

Row = dict[str, JsonValue]


class _Rows(BaseModel):
    rows: list[Row]


class ReplyWindow(BaseModel):
    """Whether free words may be sent in a conversation, and until when (ISO 8601)."""

    open: bool
    closes_at: str | None


class LatestInbound(BaseModel):
    """The customer's latest message, by WhatsApp's ids."""

    model_config = ConfigDict(frozen=True)

    phone_number_id: str
    provider_id: str


class _Seq(BaseModel):
    seq: int


class _Latest(BaseModel):
    found: LatestInbound | None


class UserStores:
    """Makes the store of each request's user; connections are shared and kept open."""

    def __init__(
        self, settings: UserStoreSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = f"{str(settings.supabase_url).rstrip('/')}/rest/v1"
        self._key = settings.supabase_anon_key.get_secret_value()
        self._http = httpx.Client(
            timeout=_TIMEOUT, transport=transport, event_hooks={"response": [raise_without_code]}
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def of(self, token: str) -> UserStore:
        """The database as the user of this access token sees it."""
        return UserStore(self._client(token))

    def _client(self, token: str) -> SyncPostgrestClient:
        return SyncPostgrestClient(
            self._url,
            schema="public",
            headers={"apikey": self._key, "Authorization": f"Bearer {token}"},
            http_client=self._http,
        )


class UserStore:
    """The database as one user sees it.

    Every method raises what the database refuses: NotSignedIn, NotAllowed, NotFound (also for
    what is hidden), Conflict, Unprocessable; StoreUnavailable when it can't be reached.
    """

    def __init__(self, client: SyncPostgrestClient) -> None:
        self._client = client

    def resolve_conversation(self, reference: str) -> UUID:
        """The id of a conversation, from its id or an older composite key."""
        return UUID(str(self._call("resolve_conversation", {"reference": reference})))

    def booking_conversation(self, booking_id: UUID) -> UUID:
        """The id of a booking's conversation."""
        found = self._rows("conversations", "id", booking_id=booking_id)
        if not found:
            raise NotFound(
                "There is no such booking, or it is not yours to see.", field="bookingId"
            )
        return UUID(str(found[0]["id"]))

    def portal_conversation(self, customer_id: UUID) -> UUID | None:
        """The id of a customer's conversation in the portal; None before there is one."""
        found = self._rows(
            "conversations",
            "id,status,thread_key,created_at",
            customer_id=customer_id,
            channel="portal",
        )
        if not found and not self._rows("customers", "id", id=customer_id):
            raise NotFound(
                "There is no such customer, or it is not yours to see.", field="customerId"
            )
        # as the database chooses where it goes on: a merged customer has several
        found.sort(
            key=lambda row: (
                row["status"] == "closed",
                row["thread_key"] != str(customer_id),
                str(row["created_at"]),
            )
        )
        return UUID(str(found[0]["id"])) if found else None

    def require_staff(self, conversation_id: UUID | None, customer_id: UUID | None) -> None:
        """Refuses who does not work for the business of a conversation, or else of a customer."""
        if conversation_id is not None:
            found = self._rows("conversations", "account_id", id=conversation_id)
        else:
            found = self._rows("customers", "account_id", id=customer_id)
        if not found:
            raise NotFound
        if not self._rows("account_members", "role", account_id=found[0]["account_id"]):
            raise NotAllowed(
                "This is for those who work for the business.", hint="Use /api/messages."
            )

    def messages(
        self, conversation_id: UUID, before: int | None, after: int | None, limit: int
    ) -> list[Row]:
        """Messages of a conversation, the latest first: the last ones, or those before a seq.

        With `after` those after that seq, the earliest first.
        """
        query = (
            self._client.from_("messages").select("*").eq("conversation_id", str(conversation_id))
        )
        if before is not None:
            query = query.lt("seq", before)
        if after is not None:
            query = query.gt("seq", after)
        page = query.order("seq", desc=after is None).limit(limit)
        rows = self._again(lambda: page.execute().data)
        return understood(_Rows, {"rows": rows}).rows

    def post_message(
        self,
        conversation_id: UUID | None,
        message: str | None,
        type_: str,
        content: JsonValue,
        reply_to: UUID | None,
        client_ref: str | None,
        *,
        customer_id: UUID | None = None,
        invoice_data: JsonValue = None,
    ) -> Row:
        """Writes a message, once for a `client_ref`, and returns it.

        Without a conversation it goes to the customer's in the portal.
        """
        answer = self._call(
            "post_message",
            {
                "conversation_id": str(conversation_id) if conversation_id else None,
                "customer_id": str(customer_id) if customer_id else None,
                "invoice_data": invoice_data,
                "message": message,
                "type": type_,
                "content": content,
                "reply_to": str(reply_to) if reply_to else None,
                # a call whose answer was lost is repeated here, and must not write twice
                "client_ref": client_ref or str(uuid4()),
            },
        )
        return understood(_Rows, {"rows": [answer]}).rows[0]

    def mark_read(self, conversation_id: UUID, up_to_seq: int | None) -> int:
        """Says that the user has read up to a seq, or all; returns how far they have read."""
        arguments: dict[str, JsonValue] = {
            "conversation_id": str(conversation_id),
            # the database goes no further than the latest message
            "up_to_seq": _ALL if up_to_seq is None else up_to_seq,
        }
        return understood(_Seq, {"seq": self._call("mark_read", arguments)}).seq

    def reply_window(self, conversation_id: UUID) -> ReplyWindow:
        """Whether WhatsApp lets free words be sent."""
        answer = self._call("reply_window", {"conversation_id": str(conversation_id)})
        return understood(ReplyWindow, answer)

    def latest_inbound(self, conversation_id: UUID) -> LatestInbound | None:
        """The customer's latest message; None before there is one."""
        answer = self._call("latest_inbound", {"conversation_id": str(conversation_id)})
        return understood(_Latest, {"found": answer}).found

    def resend_message(self, message_id: UUID) -> None:
        """Queues a failed or unknown message again."""
        self._call_once("resend_message", {"message_id": str(message_id)})

    def drop_message(self, message_id: UUID) -> None:
        """Lets a message be of which nobody knows whether it was sent."""
        self._call_once("drop_message", {"message_id": str(message_id)})

    def _rows(self, table: str, columns: str, **equal: object) -> list[Row]:
        query = self._client.from_(table).select(columns).limit(100)
        for column, value in equal.items():
            query = query.eq(column, str(value))
        return understood(_Rows, {"rows": self._again(lambda: query.execute().data)}).rows

    def _call(self, function: str, arguments: dict[str, JsonValue]) -> object:
        return self._again(lambda: self._rpc(function, arguments))

    def _call_once(self, function: str, arguments: dict[str, JsonValue]) -> None:
        self._once(lambda: self._rpc(function, arguments))

    def _rpc(self, function: str, arguments: dict[str, JsonValue]) -> object:
        # the client's types know only texts; it sends any JSON
        return self._client.rpc(function, arguments).execute().data  # type: ignore[arg-type]

    def _again(self, call: Callable[[], object]) -> object:
        for attempt in transient():
            with attempt:
                return self._once(call)
        raise AssertionError("a call is answered or its last error raised")

    def _once(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except APIError as error:
            raise from_users_postgrest(
                error.code, error.message, error.details, error.hint
            ) from None
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from None


class Authorized(BaseModel):
    """An account that the user administers, and which of the contacts are its own."""

    account_id: UUID
    user_id: UUID
    contact_ids: list[UUID]
    not_found: list[UUID]


class Mappings(BaseModel):
    """A page of mappings; the last one has no cursor."""

    mappings: list[dict[str, JsonValue]]
    cursor: str | None


class MetakockaUser(UserStore):
    """The sync as one user sees it; every method raises as those of UserStore."""

    def authorize(self, account_id: UUID | None, contact_ids: Sequence[UUID] = ()) -> Authorized:
        """The account that is meant, the only one if none is named; for owners and admins."""
        answer = self._call(
            "authorize_sync",
            {
                "account_id": None if account_id is None else str(account_id),
                "contact_ids": _texts(contact_ids),
            },
        )
        return understood(Authorized, answer)

    def request_sync(
        self,
        account_id: UUID,
        direction: Direction,
        contact_ids: Sequence[UUID] = (),
        metakocka_ids: Sequence[str] = (),
    ) -> UUID:
        """Queues a run and answers its id; without any ids it is about everything."""
        answer = self._call(
            "request_sync",
            {
                "direction": direction,
                "account_id": str(account_id),
                "contact_ids": _texts(contact_ids),
                "metakocka_ids": list[JsonValue](metakocka_ids),
            },
        )
        return understood(UUID, answer)

    def mappings(
        self, account_id: UUID, contact_id: UUID | None, cursor: str | None, page_size: int
    ) -> Mappings:
        """Which contacts are which partners."""
        answer = self._call(
            "metakocka_mappings",
            {
                "account_id": str(account_id),
                "contact_id": None if contact_id is None else str(contact_id),
                "cursor": cursor,
                "page_size": page_size,
            },
        )
        return understood(Mappings, answer)


class MetakockaUsers(UserStores):
    """Makes the store of each request's user."""

    def of(self, token: str) -> MetakockaUser:
        """The sync as the user of this access token sees it."""
        return MetakockaUser(self._client(token))


def _texts(ids: Sequence[UUID]) -> list[JsonValue]:
    return [str(one) for one in ids]
