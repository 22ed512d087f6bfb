"""Messages and conversations as one signed-in user sees them."""

from __future__ import annotations

from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, JsonValue

from rapport.deferred import Deferred
from rapport.errors import NotAllowed, NotFound, Unprocessable
from rapport.store.postgrest import Row, UserStore, understood

# the largest seq that there could be
_ALL = 2**63 - 1


class ReplyWindow(Deferred):
    """Whether free text may be sent in a conversation, and until when (ISO 8601)."""

    open: bool
    closes_at: str | None


class LatestInbound(BaseModel):
    """The customer's latest message, by WhatsApp's ids."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    phone_number_id: str
    provider_id: str


class ChatStore(UserStore):
    """A user's calls about messages and conversations; each raises as `UserStore` says."""

    def resolve_conversation(self, reference: str, field: str = "conversation_id") -> UUID:
        """The id of a conversation, from its id or an older composite key.

        Raises:
            Unprocessable: It is neither; the error names `field`, which the user wrote it in.
        """
        try:
            return understood(UUID, self._call("resolve_conversation", {"reference": reference}))
        except Unprocessable as error:
            error.field = field
            raise

    def country(self, account_id: UUID | None) -> str | None:
        """The country of an account that the user works for; without an account, that of the
        business whose customer the user is.

        None is unknown, and so is the country where the user is a customer of several.

        Raises:
            NotFound: There is no such account, or it is not the user's to see.
        """
        if account_id is None:
            found = self._rows("my_profile", "account_country")
            countries = {row["account_country"] for row in found}
        else:
            found = self._rows("accounts", "country", id=account_id)
            if not found:
                raise NotFound(
                    "There is no such account, or it is not yours to see.", field="account_id"
                )
            countries = {row["country"] for row in found}
        country = countries.pop() if len(countries) == 1 else None
        return country if isinstance(country, str) else None

    def booking_conversation(self, booking_id: UUID) -> UUID:
        """The id of a booking's conversation."""
        found = self._rows("conversations", "id", booking_id=booking_id)
        if not found:
            raise NotFound(
                "There is no such booking, or it is not yours to see.", field="booking_id"
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
                "There is no such customer, or it is not yours to see.", field="customer_id"
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
        """Refuses a user who is no member of the account of a conversation, or else of a customer.

        Raises:
            NotAllowed: The user is no member.
        """
        if conversation_id is not None:
            found = self._rows("conversations", "account_id", id=conversation_id)
        else:
            found = self._rows("customers", "account_id", id=customer_id)
        if not found:
            raise NotFound
        if not self._rows("account_members", "role", account_id=found[0]["account_id"]):
            raise NotAllowed(
                "Only the staff of the business may use this address.", hint="Use /api/messages."
            )

    def messages(
        self, conversation_id: UUID, before: int | None, after: int | None, limit: int
    ) -> list[Row]:
        """Messages of a conversation, the latest first: the last ones, or those before a seq.

        With `after` those after that seq, the earliest first.
        """
        query = [
            ("select", "*"),
            ("conversation_id", f"eq.{conversation_id}"),
            ("order", "seq.desc" if after is None else "seq.asc"),
            ("limit", str(limit)),
        ]
        if before is not None:
            query.append(("seq", f"lt.{before}"))
        if after is not None:
            query.append(("seq", f"gt.{after}"))
        return self._caller.rows("messages", query)

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
        return understood(Row, answer)

    def mark_read(self, conversation_id: UUID, up_to_seq: int | None) -> int:
        """Says that the user has read up to a seq, or all; returns how far they have read."""
        arguments = {
            "conversation_id": str(conversation_id),
            # the database goes no further than the latest message
            "up_to_seq": _ALL if up_to_seq is None else up_to_seq,
        }
        return understood(int, self._call("mark_read", arguments))

    def reply_window(self, conversation_id: UUID) -> ReplyWindow:
        """Whether WhatsApp lets free text be sent."""
        answer = self._call("reply_window", {"conversation_id": str(conversation_id)})
        return understood(ReplyWindow, answer)

    def latest_inbound(self, conversation_id: UUID) -> LatestInbound | None:
        """The customer's latest message; None before there is one."""
        answer = self._call("latest_inbound", {"conversation_id": str(conversation_id)})
        return None if answer is None else understood(LatestInbound, answer)

    def resend_message(self, message_id: UUID) -> None:
        """Queues a failed or unknown message again."""
        # the first try may have queued it without telling us: a second would be refused, or send
        # anew what has failed in between
        self._caller.call("resend_message", {"message_id": str(message_id)}, repeat=False)

    def drop_message(self, message_id: UUID) -> None:
        """Withdraws a message that is queued, failed or unknown."""
        self._call("drop_message", {"message_id": str(message_id)})
