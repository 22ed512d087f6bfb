"""The live client: a user's customers, jobs, invoices, messages and points as they change.

    async with LiveClient(url, publishable_key, access_token) as live:
        async with live.messages(customer_id, on_new_message=print) as messages:
            ...

Subscriptions share one socket, one cursor and one poll. Whatever happens to the connection,
each row's last version is told once, versions rising, and each message's insert once and in
order: see `ledger`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack
from uuid import UUID

from rapport.client.callbacks import Called
from rapport.client.catch_up import CatchUp
from rapport.client.checkpoints import Checkpoints, OnCheckpoint
from rapport.client.contacts import FaceSource
from rapport.client.desk import Desk
from rapport.client.everything import Everything, EverythingCallbacks
from rapport.client.face_feed import FaceRow
from rapport.client.faces import ContactRow, Thread
from rapport.client.outbox import Outbox, PendingMessage
from rapport.client.portal_subscriptions import (
    LoyaltyCallbacks,
    LoyaltySubscription,
    MessageCallbacks,
    MessageSubscription,
    ProfileCallbacks,
    ProfileSubscription,
)
from rapport.client.presence import Presence, StayingPresence, Typing, person_id
from rapport.client.rows import Invoice, Job
from rapport.client.sender import Sender
from rapport.client.server import Server
from rapport.client.sources import TableSource
from rapport.client.subscription import RowCallbacks, Subscription
from rapport.client.timing import Timing
from rapport.client.tokens import AccessToken, Tokens
from rapport.client.topics import Scope


class LiveClient:
    """All live data of one signed-in user.

    `access_token` returns an access token, and a new one when the last is about to expire;
    `tokens.of_session` makes it from the official client. `outbox` is a file for messages that are
    written while the server is away; without it there is no `outbox`. Entering raises what
    `access_token` raises, since the file's messages belong to one user.
    """

    def __init__(
        self,
        url: str,
        key: str,
        access_token: AccessToken,
        *,
        outbox: Path | None = None,
        on_pending: Callable[[list[PendingMessage]], Called] | None = None,
        on_refused: Callable[[PendingMessage], Called] | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._tokens = Tokens(access_token, self._timing.refresh_margin)
        self._server = Server(url, key, self._tokens, self._timing.request_timeout)
        self._catch_up = CatchUp(self._server, key, self._tokens, self._timing)
        self._path = outbox
        self._on_pending = on_pending
        self._on_refused = on_refused
        self._sender: Sender | None = None

    async def __aenter__(self) -> Self:
        if self._path is not None:
            self._sender = Sender(
                Outbox(self._path, await self._tokens.user()),
                self._server,
                self._timing,
                self._catch_up.take,
                self._on_pending,
                self._on_refused,
            )
        await self.resume()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.pause()
        await self._catch_up.close()
        if self._sender is not None:
            self._sender.close()
        await self._server.close()

    @property
    def outbox(self) -> Sender:
        """The messages that wait to be sent. Raises RuntimeError if `outbox` was not given."""
        if self._sender is None:
            raise RuntimeError("There is no outbox: LiveClient got no file for it, or is not open.")
        return self._sender

    @property
    def is_connected(self) -> bool:
        """Whether all changes that are subscribed to arrive as they happen."""
        return self._catch_up.is_running and self._catch_up.topics.is_live

    @property
    def error(self) -> Exception | None:
        """The current error; None if there is none."""
        return self._catch_up.error or self._catch_up.topics.error

    async def pause(self) -> None:
        """Ends the connection and the polls, for example in the background. Subscriptions stay."""
        await self._catch_up.stop()
        if self._sender is not None:
            await self._sender.stop()

    async def resume(self) -> None:
        """Connects again and tells what was missed."""
        self._catch_up.start()
        if self._sender is not None:
            self._sender.start()

    def on_checkpoint(self, callback: OnCheckpoint) -> Checkpoints:
        """Calls a function with all changes that were taken together, as a tuple of `Change`, until
        the answer's `close`. What one transaction has changed is in the same call.
        """
        return self._catch_up.on_checkpoint(callback)

    def jobs(
        self, customer_id: UUID | None = None, **callbacks: Unpack[RowCallbacks[Job]]
    ) -> Subscription[Job]:
        """Appointments of a customer; without a customer, all that the user may see."""
        scope = _of(customer_id)
        return Subscription(self._catch_up, TableSource("jobs", Job, scope), scope, **callbacks)

    def invoices(
        self, customer_id: UUID | None = None, **callbacks: Unpack[RowCallbacks[Invoice]]
    ) -> Subscription[Invoice]:
        """Invoices of a customer; without a customer, all that the user may see."""
        scope = _of(customer_id)
        return Subscription(
            self._catch_up, TableSource("invoices", Invoice, scope), scope, **callbacks
        )

    def messages(
        self,
        customer_id: UUID | None = None,
        booking_id: UUID | None = None,
        **callbacks: Unpack[MessageCallbacks],
    ) -> MessageSubscription:
        """Messages with a customer; with `booking_id`, a job's id, only those of that booking's
        chat.

        Without either, all new messages in all conversations.
        """
        scope = _of(customer_id)
        return MessageSubscription(self._catch_up, self._server, scope, booking_id, **callbacks)

    def conversation(
        self, conversation_id: UUID, **callbacks: Unpack[MessageCallbacks]
    ) -> MessageSubscription:
        """Messages of one conversation, over its own topic."""
        scope = Scope("conversation", conversation_id)
        return MessageSubscription(self._catch_up, self._server, scope, **callbacks)

    def loyalty(
        self, customer_id: UUID, **callbacks: Unpack[LoyaltyCallbacks]
    ) -> LoyaltySubscription:
        """Points of a customer."""
        return LoyaltySubscription(self._catch_up, _of(customer_id), **callbacks)

    def profile(
        self, customer_id: UUID, **callbacks: Unpack[ProfileCallbacks]
    ) -> ProfileSubscription:
        """The customer's own data, which the customer may edit."""
        return ProfileSubscription(self._catch_up, self._server, customer_id, **callbacks)

    def contacts(
        self,
        face: Callable[[ContactRow, Thread | None], FaceRow],
        **callbacks: Unpack[RowCallbacks[FaceRow]],
    ) -> Subscription[FaceRow]:
        """All contacts that the user may see, as `contact_v2` or `contact_live_chat` shows them."""
        return Subscription(self._catch_up, FaceSource(face), Scope(), **callbacks)

    @property
    def desk(self) -> Desk:
        """What staff alone follow: the inbox, notes, labels, what is sent later, reminders, the
        sync and health.
        """
        return Desk(self._catch_up, self._server, self._timing)

    async def presence(
        self,
        where: Literal["desk", "staff", "customer"],
        id_: UUID,
        on_change: Callable[[frozenset[str]], None] | None = None,
    ) -> Presence:
        """Who is online at an account's desk, or which staff or customers are in a conversation."""
        kinds: dict[str, Literal["presence_desk", "presence_staff", "presence_customer"]] = {
            "desk": "presence_desk",
            "staff": "presence_staff",
            "customer": "presence_customer",
        }
        key = str(person_id(await self._tokens.user()))
        stay = self._server.stay_at_desk if where == "desk" else self._server.stay_at_conversation
        scope = Scope(kinds[where], id_)
        return StayingPresence(self._catch_up, scope, partial(stay, id_), key, on_change)

    async def typing(
        self,
        side: Literal["staff", "customer"],
        conversation_id: UUID,
        on_typing: Callable[[], None] | None = None,
    ) -> Typing:
        """Whether the given side of a conversation is typing. The user reports typing only on the
        own side.
        """
        kind: Literal["typing_staff", "typing_customer"] = (
            "typing_staff" if side == "staff" else "typing_customer"
        )
        key = str(person_id(await self._tokens.user()))
        return Typing(self._catch_up, Scope(kind, conversation_id), key, on_typing)

    def everything(self, customer_id: UUID, **callbacks: Unpack[EverythingCallbacks]) -> Everything:
        """Everything that a customer's portal shows."""
        parts = (
            self.jobs(
                customer_id,
                on_insert=callbacks.get("on_job_insert"),
                on_update=callbacks.get("on_job_update"),
                on_delete=callbacks.get("on_job_delete"),
            ),
            self.invoices(
                customer_id,
                on_insert=callbacks.get("on_invoice_insert"),
                on_update=callbacks.get("on_invoice_update"),
                on_delete=callbacks.get("on_invoice_delete"),
            ),
            self.messages(
                customer_id,
                on_new_message=callbacks.get("on_new_message"),
                on_message_read=callbacks.get("on_message_read"),
                on_message_deleted=callbacks.get("on_message_deleted"),
            ),
            self.loyalty(
                customer_id,
                on_points_earned=callbacks.get("on_points_earned"),
                on_points_redeemed=callbacks.get("on_points_redeemed"),
            ),
            self.profile(customer_id, on_update=callbacks.get("on_profile_update")),
        )
        return Everything(*parts)


def _of(customer_id: UUID | None) -> Scope:
    return Scope() if customer_id is None else Scope("customer", customer_id)
